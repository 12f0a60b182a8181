"""The shape of the tip from an image alone: blind tip reconstruction.

Wherever the apex stood over x the tip touched the surface at some offset d of its own, and nowhere
else did it cut into the surface there. So whatever the surface was, a tip t that took an image i

    t(u) <= max_d [ i(x + d - u) - i(x) + t(d) ],   over the d with  t(d) >= i(x) - i(x + d),

for every x and u: J. S. Villarrubia, J. Res. Natl. Inst. Stand. Technol. 102 (1997) 425, section 6.
The sharper a feature of the image, the fewer d there are and the tighter the bound. From a flat
start every bound lowers the tip until none does; what is left is the bluntest tip that can have
taken the image, an outer bound of the true one. It doesn't depend on the order of bounds.

Noise makes images sharper than any tip, and the bounds false. A threshold added to each of them
makes up for it: too small a one and the tip is far too sharp, too large and it is blunt (E. E.
Flater et al., Ultramicroscopy 146 (2014) 130). The tip's volume against the threshold has a knee
where it stops being torn to pieces by noise. Smoothed a little, most images have none any more, and
a few standard deviations are as good as any other choice. See :func:`estimate_tip`.

Heights are up, the tip's are 0 at its apex and negative elsewhere, on the image's own axes without
reflection: image(x) = max_u [ s(x + u) + t(u) ].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numba
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nanophantom.simcore.fields import read_only
from nanophantom.simcore.pixel_size import PixelSize, pixel_pair
from nanophantom.simcore.probes.dilation import checked_heights
from nanophantom.simcore.probes.tip_map import TipMap

Floats = npt.NDArray[np.float64]

ROUNDING = 1e-12
"""Of the highest absolute height: what sums of heights are uncertain by, with a margin."""
THRESHOLDS = (0.5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16, 18, 20, 24, 28)
"""Thresholds that are tried, in standard deviations of the smoothed image's noise."""
LEAST = THRESHOLDS.index(8)
"""Which of them is taken unless there is a knee beyond it."""
KNEE = 0.2
"""How far above the chord a knee lies at least, as a fraction of the chord's rise."""
SMOOTHING_PX = 1.5
"""Standard deviation of the Gaussian that a noisy image is smoothed with."""


@dataclass(frozen=True, eq=False)
class BlindTip:
    """A tip reconstructed from an image.

    Attributes
    ----------
    tip_heights
        t(u) in nm, shape (rows, columns): at most 0, 0 at the apex; write-protected.
    apex
        Row and column of the apex.
    pixel_size_nm
        Distance between samples along y and x.
    noise_nm
        Standard deviation of the image's noise, measured or as given.
    threshold_nm
        What was added to each bound.
    radius_nm
        Radius of the sphere fitted to the top, see :func:`tip_radius`.
    radius_range_nm
        Least and greatest radius at the thresholds from half to twice the chosen one: how much
        the choice decides. The surface's own bluntness isn't in it.
    thresholds_nm, volumes_nm3, radii_nm
        The scan, each (thresholds,): the tip's volume within its window, down to the lowest sample
        of the bluntest tip, and its radius, nan where the top is too sharp to have one.
    """

    tip_heights: Floats
    apex: tuple[int, int]
    pixel_size_nm: tuple[float, float]
    noise_nm: float
    threshold_nm: float
    radius_nm: float
    radius_range_nm: tuple[float, float]
    thresholds_nm: Floats
    volumes_nm3: Floats
    radii_nm: Floats


def reconstruct_tip(
    image: npt.ArrayLike,
    tip_px: int | tuple[int, int],
    threshold: float = 0.0,
    apex: tuple[int, int] | None = None,
    points: Literal["all", "peaks"] = "all",
    start: npt.ArrayLike | None = None,
) -> tuple[Floats, int]:
    """Return the bluntest tip that can have taken an image, and the sweeps it took to find it.

    Parameters
    ----------
    image : (ny, nx)
        Heights, finite, any unit of length. Nothing is assumed of what lies beyond the edges.
    tip_px
        Rows and columns of the tip, or one number for both. The true tip must fit: where it
        touched the surface further out, the bounds are false and the result too sharp.
    threshold
        Added to each bound, in the unit of heights; without noise 0, and the result is nowhere
        below the true tip.
    apex : (row, column), optional
        Where in the window the apex shall be, by default the middle (of an even number of
        samples the later one). It must leave room for the true tip on either side.
    points
        Bounds from all points of the image, or only from its local maxima, which is faster, almost
        as tight, and better where there is noise.
    start : (rows, columns), optional
        A tip known to be blunter than the result, 0 at the apex: by default a flat.

    Returns
    -------
    tip_heights : (rows, columns)
        At most 0, and 0 at the apex; other samples may be 0 too.
    sweeps : int
        Through the points, including the last, which changes nothing.

    Raises
    ------
    ValueError
        The image isn't a finite map, the tip is smaller than 3 samples or larger than the image,
        the apex lies outside of it, the threshold is negative, or the start is no such tip.
    """
    heights = checked_heights(image, "an image")
    shape = _checked_shape(tip_px, heights.shape)
    row, column = (shape[0] // 2, shape[1] // 2) if apex is None else apex
    if not (0 <= row < shape[0] and 0 <= column < shape[1]):
        raise ValueError(f"the apex {(row, column)} lies outside of the tip of shape {shape}")
    if not 0 <= threshold < np.inf:
        raise ValueError(f"threshold must be finite and not negative, not {threshold}")
    if points not in ("all", "peaks"):
        raise ValueError(f"points must be 'all' or 'peaks', not {points!r}")
    tip = np.zeros(shape) if start is None else np.array(start, np.float64)
    if tip.shape != shape or not np.all(tip <= 0) or tip[row, column] != 0:
        raise ValueError(f"start must be at most 0, 0 at the apex {(row, column)}, shape {shape}")
    rounding = ROUNDING * float(np.abs(heights).max())
    margin = (shape[0] - 1, shape[1] - 1)
    # +inf says that nothing is known: a contact may be there, and no bound follows from it.
    padded = np.pad(heights, [(margin[0],) * 2, (margin[1],) * 2], constant_values=np.inf)
    # Peaks lower the tip soonest; the result is the same in any order.
    stages = [_peaks(heights)] + [np.ones(heights.shape, np.bool_)] * (points == "all")
    sweeps = 0
    for used in stages:
        where = np.argwhere(used)[np.argsort(-heights[used], kind="stable")] + margin
        active = where
        while len(where):
            lowered = _sweep(padded, active, tip, row, column, float(threshold), rounding)
            sweeps += active is where
            if lowered.any():
                active = active[lowered]  # those that lowered it are the likeliest to do so again
            elif active is where:
                break
            else:
                active = where
    return tip, sweeps


def estimate_tip(
    image: npt.ArrayLike,
    pixel_size_nm: PixelSize,
    tip_px: int | tuple[int, int],
    noise_nm: float | Literal["auto"] | None = "auto",
    fit_depth_nm: float = 3.0,
    smoothing_px: float = SMOOTHING_PX,
) -> BlindTip:
    """Reconstruct the tip from an image with noise.

    The image is smoothed, which lowers the noise by a factor of five but hardly changes a tip whose
    radius is several pixels; then the tip is reconstructed from its peaks for a scan of
    thresholds. Taken is eight standard deviations of the noise that is left or, if it lies beyond,
    the knee of the logarithm of the tip's volume: the point furthest above the chord, if that is
    far. Average registered frames before, if there are several.

    Isolated sharp features give the radius within 10 to 15 %, a surface whose own peaks aren't much
    sharper than the tip one that is too large: the result bounds the tip, it can't do better.

    Parameters
    ----------
    image : (ny, nx)
        Heights in nm, levelled, of sharp features all over.
    pixel_size_nm : float or (y, x)
        Distance between pixels.
    tip_px
        Rows and columns of the tip, or one number for both; see :func:`reconstruct_tip`.
    noise_nm
        Standard deviation of the noise. "auto" or None: measured, see :func:`height_noise`. At 0
        the image isn't smoothed, all its points are used, and the threshold is 0.
    fit_depth_nm
        Depth of the top that the sphere is fitted to.
    smoothing_px
        Standard deviation of the smoothing in pixels; 0: none. A tip whose radius is less than
        three times this comes out blunter by it.

    Raises
    ------
    ValueError
        As :func:`reconstruct_tip` and :func:`tip_radius`, or a size or the noise isn't positive.
    """
    heights = checked_heights(image, "an image")
    step = pixel_pair(pixel_size_nm)
    shape = _checked_shape(tip_px, heights.shape)
    if not 0 <= smoothing_px < np.inf:
        raise ValueError(f"smoothing_px must be finite and not negative, not {smoothing_px}")
    noise = height_noise(heights) if noise_nm is None or noise_nm == "auto" else float(noise_nm)
    if not 0 <= noise < np.inf:
        raise ValueError(f"noise_nm must be 'auto', or finite and not negative, not {noise_nm}")
    if noise == 0:
        thresholds = np.zeros(1)
        tips = [reconstruct_tip(heights, shape)[0]]
    else:
        smooth = ndimage.gaussian_filter(heights, smoothing_px) if smoothing_px else heights
        # White noise after a Gaussian of standard deviation s: 1 / (2 sqrt(pi) s) of it is left.
        left = noise / max(1.0, 2 * math.sqrt(math.pi) * smoothing_px)
        thresholds = left * np.asarray(THRESHOLDS)
        tips = _tips(smooth, shape, thresholds)
    bottom = -float(tips[-1].min())
    volumes = np.array([np.maximum(tip + bottom, 0).sum() for tip in tips]) * step[0] * step[1]
    radii = np.array([_radius_or_nan(tip, step, fit_depth_nm) for tip in tips])
    at = _chosen(volumes) if noise else 0
    near = (thresholds >= thresholds[at] / 2) & (thresholds <= thresholds[at] * 2)
    radius = tip_radius(tips[at], step, fit_depth_nm)
    return BlindTip(
        read_only(tips[at]),
        (shape[0] // 2, shape[1] // 2),
        step,
        noise,
        float(thresholds[at]),
        radius,
        (float(np.nanmin(radii[near])), float(np.nanmax(radii[near]))),
        read_only(thresholds),
        read_only(volumes),
        read_only(radii),
    )


def tip_radius(
    tip_heights: npt.ArrayLike,
    pixel_size_nm: PixelSize,
    depth_nm: float = 3.0,
) -> float:
    """Return the radius in nm of the sphere fitted to the top of a tip.

    Its centre is free, so a tip anywhere in its window has the same radius; for the fit see
    :meth:`nanophantom.simcore.probes.tip_map.TipMap.apex_radius_nm`.

    Parameters
    ----------
    tip_heights : (rows, columns)
        In nm, the apex up, from any level.
    pixel_size_nm : float or (y, x)
        Distance between samples.
    depth_nm
        The samples within this height over the highest, and connected with it, are fitted.

    Raises
    ------
    ValueError
        There is no finite highest sample, or those within the depth show no curvature.
    """
    if not 0 < depth_nm < np.inf:
        raise ValueError(f"depth_nm must be positive, not {depth_nm}")
    return TipMap.of(tip_heights, pixel_pair(pixel_size_nm)).apex_radius_nm(depth_nm)


def height_noise(image: npt.ArrayLike) -> float:
    """Return the standard deviation of an image's noise, in its unit.

    From the median absolute mixed second difference (J. Immerkær, Comput. Vis. Image Underst. 64
    (1996) 300): the slopes of a surface leave it alone, and so do offsets of whole rows. Noise
    that is correlated between pixels is underestimated.

    Raises
    ------
    ValueError
        The image isn't a finite map of at least 3 x 3 pixels.
    """
    heights = checked_heights(image, "an image")
    if min(heights.shape) < 3:
        raise ValueError(f"noise needs an image of at least 3 x 3 pixels, not {heights.shape}")
    difference = np.diff(np.diff(heights, 2, axis=0), 2, axis=1)
    return float(np.median(np.abs(difference)) / (0.674490 * 6))  # of 1 -2 1 twice: sqrt(36)


def _tips(image: Floats, shape: tuple[int, int], thresholds: Floats) -> list[Floats]:
    """Return the tip for each of some rising thresholds.

    A tip is nowhere above that of a larger threshold, so each starts from the one before.
    """
    tips: list[Floats] = []
    start = None
    for threshold in thresholds[::-1]:
        start, _ = reconstruct_tip(image, shape, float(threshold), points="peaks", start=start)
        tips.append(start)
    return tips[::-1]


def _chosen(volumes: Floats) -> int:
    """Return which of the thresholds to take, by the volumes of their tips."""
    along = np.asarray(THRESHOLDS, np.float64)
    along = (along - along[0]) / (along[-1] - along[0])
    # A tip torn to pieces has hardly any volume; how little it is doesn't matter.
    rise = np.log(np.maximum(volumes, 1e-3 * volumes[-1]) / volumes[-1])
    rise -= rise[0]
    above = rise - along * rise[-1]
    knee = int(np.argmax(above))
    return max(knee, LEAST) if above[knee] > KNEE * rise[-1] else LEAST


def _radius_or_nan(tip: Floats, step: tuple[float, float], depth_nm: float) -> float:
    """Return the radius of a tip, or nan if its top has none."""
    try:
        return tip_radius(tip, step, depth_nm)
    except ValueError:
        return math.nan


def _peaks(heights: Floats) -> npt.NDArray[np.bool_]:
    """Return where an image is as high as any neighbour, and not level with all of them."""
    highest, lowest = ndimage.maximum_filter(heights, 3), ndimage.minimum_filter(heights, 3)
    return np.asarray((heights == highest) & (heights > lowest))


def _checked_shape(tip_px: int | Sequence[int], image: tuple[int, ...]) -> tuple[int, int]:
    """Return rows and columns of a tip that fits an image."""
    sizes = np.broadcast_to(np.asarray(tip_px), 2)
    if not np.issubdtype(sizes.dtype, np.integer):
        raise ValueError(f"tip_px must be one or two whole numbers, not {tip_px}")
    rows, columns = int(sizes[0]), int(sizes[1])
    if not (3 <= rows <= image[0] and 3 <= columns <= image[1]):
        raise ValueError(f"tip_px must be from 3 to the image's {image}, not {(rows, columns)}")
    return rows, columns


@numba.njit(cache=True, nogil=True)
def _sweep(
    padded: Any, points: Any, tip: Any, row: int, column: int, threshold: float, rounding: float
) -> Any:
    """Lower the tip by the bounds of some points, in place; return which of them did.

    Contacts are tried one by one, that at the apex first. Each raises the bound, and once it is
    nowhere below the tip the point is done with: so are almost all of them after one or two.
    """
    rows, columns = tip.shape
    bound = np.empty((rows, columns))  # of -u: its columns then run as the image's do
    lowered = np.zeros(len(points), np.bool_)
    for k in range(len(points)):
        y, x = points[k]
        here = padded[y, x]
        bound[:] = -np.inf
        open_from = 0  # samples before this one are known not to be lowered
        for contact in range(-1, rows * columns):
            dy, dx = (row, column) if contact < 0 else divmod(contact, columns)
            drop = here - padded[y + dy - row, x + dx - column]
            if tip[dy, dx] == -np.inf or tip[dy, dx] + rounding < drop:
                continue
            offset = tip[dy, dx] - here
            for uy in range(open_from // columns, rows):
                beside = padded[y + dy - uy, x + dx - columns + 1 : x + dx + 1]
                line = bound[uy]
                for j in range(columns):
                    value = beside[j] + offset
                    line[j] = value if value > line[j] else line[j]
            while open_from < rows * columns:
                uy, ux = divmod(open_from, columns)
                if bound[uy, columns - 1 - ux] + threshold + rounding < tip[uy, ux]:
                    break
                open_from += 1
            if open_from == rows * columns:
                break
        else:
            for uy in range(open_from // columns, rows):
                for ux in range(columns):
                    value = bound[uy, columns - 1 - ux] + threshold
                    if value + rounding < tip[uy, ux]:
                        tip[uy, ux] = value
                        lowered[k] = True
    return lowered

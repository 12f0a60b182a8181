"""The shape of the tip from a force microscope's trace and retrace of sharp features.

What the loop's lag adds going up a flank it takes away coming down, so that trace and retrace are
averaged, and a plane is taken off. Then the tip is reconstructed blindly from the smoothed image.
Smoothing lowers the flanks, which bend more than the apex, and so makes the tip too sharp; what it
does to the result it has done, nearly, to the tip, and is put back (P. H. van Cittert, Z. Phys. 69
(1931) 298, one step).

Spikes between the pixels and a loop that is late make images that no tip can have taken, by up to
the rise of a flank over a fraction of a pixel. Take pixels of an eighth of the radius or less.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nanophantom.analysis.blind_tip import SMOOTHING_PX, BlindTip, estimate_tip, tip_radius
from nanophantom.analysis.surface_estimate import levelled_mean
from nanophantom.simcore.pixel_size import nominal_pixel

Floats = npt.NDArray[np.float64]

REACH_NM = 24.0
"""Half the window that a tip is first looked for in."""
WIDER = 1.5
"""By how much the window grows until the tip comes down to its edges all around."""
DEPTH_NM = 20.0
"""So far it must have come down there, or by half of the heights that were imaged."""
MOST_OF_IMAGE = 0.4
"""The window's side is at most this share of the image's."""


def find(
    height: npt.ArrayLike, height_retrace: npt.ArrayLike, settings: Mapping[str, Any]
) -> dict[str, Floats]:
    """Answer the task tip-shape.

    Parameters
    ----------
    height, height_retrace : (frames, ny, nx)
        Recorded heights in nm, both ways stored from left to right; the first frame is used.
    settings
        Nominal: pixel_size_nm, pixel_size_y_nm, knots_a_line and slow_axis are read.

    Returns
    -------
    dict of (n,) arrays
        x_nm, y_nm from the apex and height_nm, at most 0: samples of a full grid.
    """
    found = tip_of(levelled_mean(height, height_retrace, settings), nominal_pixel(settings))
    step_y, step_x = found.blind.pixel_size_nm
    row, column = np.indices(found.heights_nm.shape)
    return {
        "x_nm": np.asarray((column - found.blind.apex[1]).ravel() * step_x, np.float64),
        "y_nm": np.asarray((row - found.blind.apex[0]).ravel() * step_y, np.float64),
        "height_nm": found.heights_nm.ravel(),
    }


@dataclass(frozen=True, eq=False)
class FoundTip:
    """A tip found in an image.

    Attributes
    ----------
    heights_nm
        t(u) at most 0, (rows, columns), smoothing undone.
    radius_nm
        Of the sphere fitted to its top 3 nm.
    blind
        The reconstruction that it comes from, with the scan of thresholds.
    """

    heights_nm: Floats
    radius_nm: float
    blind: BlindTip


def tip_of(image: npt.ArrayLike, step_nm: tuple[float, float]) -> FoundTip:
    """Return the tip that took an image, its window chosen by what comes out.

    Parameters
    ----------
    image : (ny, nx)
        Heights in nm, levelled, of sharp features all over.
    step_nm
        Distance between pixels (y, x).

    Raises
    ------
    ValueError
        As :func:`nanophantom.analysis.blind_tip.estimate_tip`.
    """
    heights = np.asarray(image, np.float64)
    deep = min(DEPTH_NM, 0.5 * float(np.ptp(heights)))
    reach = REACH_NM
    while True:
        shape = _window(reach, step_nm, heights.shape)
        blind = estimate_tip(heights, step_nm, shape)
        wider = _window(WIDER * reach, step_nm, heights.shape)
        if _edge(blind.tip_heights) < -deep or wider == shape:
            break
        reach *= WIDER
    tip = unsmoothed(blind.tip_heights, blind.apex, SMOOTHING_PX)
    return FoundTip(tip, tip_radius(tip, step_nm), blind)


def unsmoothed(tip: Floats, apex: tuple[int, int], smoothing_px: float) -> Floats:
    """Return a tip that smoothing changes into one, to first order; its highest sample is 0.

    Parameters
    ----------
    tip : (rows, columns)
        At most 0.
    apex
        Its row and column: the top is looked for near it.
    smoothing_px
        Standard deviation of the Gaussian.
    """
    beyond = min(math.ceil(4 * smoothing_px), min(tip.shape) - 1)
    # Flanks go on straight beyond the window.
    wide = np.pad(tip, beyond, mode="reflect", reflect_type="odd")
    smooth = ndimage.gaussian_filter(wide, smoothing_px)[beyond:-beyond, beyond:-beyond]
    near = tuple(slice(max(0, i - beyond), i + beyond + 1) for i in apex)
    restored = 2 * tip - (smooth - smooth[near].max())
    return np.asarray(np.minimum(restored - restored[near].max(), 0.0))


def _window(
    reach_nm: float, step_nm: tuple[float, float], image: tuple[int, ...]
) -> tuple[int, int]:
    """Return odd numbers of rows and columns that reach so far both ways, but fit an image."""
    rows, columns = (
        2 * max(1, min(math.ceil(reach_nm / step), int(MOST_OF_IMAGE * n / 2))) + 1
        for step, n in zip(step_nm, image, strict=True)
    )
    return rows, columns


def _edge(tip: Floats) -> float:
    """Return the highest sample at the edges of a window."""
    return max(float(side.max()) for side in (tip[0], tip[-1], tip[:, 0], tip[:, -1]))

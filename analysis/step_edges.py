"""Edges: where a profile steps from one level to another, and which way an image's edges run.

An edge is where the means before and behind it differ the most. Noise in a single line hides it,
so the lines of an image are averaged along its edges; the offset and the tilt that each line has
of its own are fitted to the mean profile on the way. Lines run along x, and edges cross them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage, optimize

from nanophantom.analysis.levelling import align_rows
from nanophantom.analysis.robust import robust_sigma
from nanophantom.analysis.step_fit import solver
from nanophantom.simcore.pixel_size import PixelSize, pixel_pair

Floats = npt.NDArray[np.float64]

THRESHOLD = 5.0
"""An edge stands out of the noise of a profile by so many standard deviations."""
FAINTEST = 0.15
"""Of the strongest edge: fainter ones aren't looked for."""
STEEPEST_DEG = 60.0
"""Edges are looked for whose normal is this near to x."""
LINES_LOOKED_AT = 128
TURNS = 20
"""Rounds in which the profile and the offsets of lines are fitted to each other."""


class Edge(NamedTuple):
    """An edge in a profile: its middle, its rise (down negative), and the width of 5 % to 95 %."""

    position_nm: float
    rise_nm: float
    width_nm: float


def find_edges(
    profile_nm: npt.ArrayLike, pixel_size_nm: float, scale_nm: float | None = None
) -> list[Edge]:
    """Return the edges of a profile, from its start to its end.

    The means before and behind every place are compared; a tilt adds the same everywhere.

    Parameters
    ----------
    profile_nm : (n,)
        Heights, tilted or not.
    pixel_size_nm : float
    scale_nm : float, optional
        Length of the means, below the distance of the nearest edges; 1/40 of the profile, or
        three pixels, by default.

    Raises
    ------
    ValueError
        The profile isn't finite and one-dimensional, or too short for the scale.
    """
    z = np.asarray(profile_nm, np.float64)
    if z.ndim != 1 or not np.all(np.isfinite(z)):
        raise ValueError("a profile has one axis and finite heights")
    if not pixel_size_nm > 0:
        raise ValueError(f"pixel_size_nm must be positive, got {pixel_size_nm}")
    m = max(3, round(len(z) / 40 if scale_nm is None else scale_nm / pixel_size_nm))
    if len(z) < 4 * m:
        raise ValueError(f"a profile of {len(z)} pixels is too short for means over {m}")
    contrast = _contrast(z, m)
    size = np.abs(contrast)
    noise = robust_sigma(size)
    highest = float(np.max(size))
    floor = 1e-9 * float(np.ptp(z))
    peaks = (size == ndimage.maximum_filter1d(size, 2 * m + 1)) & (
        size > max(THRESHOLD * noise, FAINTEST * highest, floor)
    )
    # A plateau of equal values counts once, and peaks that are near with it.
    places: list[int] = []
    for at in np.flatnonzero(peaks):
        if not places or at - places[-1] > m:
            places.append(int(at))
    return [_edge(z, at + m, _neighbours(places, at), m, pixel_size_nm) for at in places]


def find_direction(image: npt.ArrayLike, pixel_size_nm: PixelSize) -> float:
    """Return the direction in degrees across straight parallel edges, from x to y, -60 to 60.

    It is the one in which the profile of the image has the strongest edges.

    Raises
    ------
    ValueError
        The image isn't finite and two-dimensional.
    """
    z, (dy, dx) = checked_image(image, pixel_size_nm)
    aligned = align_rows(z, "median_of_differences")[:: max(1, len(z) // LINES_LOOKED_AT)]
    dy = dy * max(1, len(z) // LINES_LOOKED_AT)

    def blur(angle: float) -> float:
        profile, _ = _profile(aligned, (dy, dx), angle)
        return -float(np.sum(_contrast(profile, max(3, len(profile) // 40)) ** 4))

    coarse = np.arange(-STEEPEST_DEG, STEEPEST_DEG + 1, 2.0)
    best = float(coarse[np.argmin([blur(angle) for angle in coarse])])
    fine = best + np.arange(-2.0, 2.01, 0.25)
    best = float(fine[np.argmin([blur(angle) for angle in fine])])
    return float(
        optimize.minimize_scalar(
            blur, bounds=(best - 0.25, best + 0.25), method="bounded", options={"xatol": 0.01}
        ).x
    )


def edges_across(
    z: Floats, pixel: tuple[float, float], direction: float, scale_nm: float | None
) -> tuple[list[Edge], Floats]:
    """Return the edges of an image, from left to right, and the coordinate across them.

    Parameters
    ----------
    z : (ny, nx)
        Heights in nm; lines need no alignment.
    pixel
        Along (y, x), nm.
    direction
        Across the edges, degrees from x to y.
    scale_nm
        See :func:`find_edges`.

    Returns
    -------
    edges, across
        Positions of edges, and (ny, nx) of pixels, from the first pixel on, nm.

    Raises
    ------
    ValueError
        The direction is beyond -60 to 60, or no edge stands out of the noise.
    """
    if not abs(direction) <= STEEPEST_DEG:
        raise ValueError(
            f"direction_deg must lie within -60 to 60 so that lines cross the edges, "
            f"got {direction:g}; transpose an image that was scanned along y"
        )
    # Lines differ by an offset and a slope from the profile at their place, in turns.
    lines = align_rows(z, "median_of_differences")
    across = _across(z.shape, pixel, direction)
    for _ in range(TURNS):
        profile, start = _profile(lines, pixel, direction)
        places = (across - start) / pixel[1]
        lines = lines - _line_fits(lines - np.interp(places, np.arange(len(profile)), profile))
    profile, start = _profile(lines, pixel, direction)
    edges = [
        edge._replace(position_nm=edge.position_nm + start)
        for edge in find_edges(profile, pixel[1], scale_nm)
    ]
    if not edges:
        raise ValueError("no edge stands out of the noise: nothing to measure")
    return edges, across


def checked_image(
    image: npt.ArrayLike, pixel_size_nm: PixelSize
) -> tuple[Floats, tuple[float, float]]:
    """Return an image of lines that are long enough for edges, and its pixel along (y, x).

    Raises
    ------
    ValueError
        It isn't finite and two-dimensional, is too small, or a pixel size isn't positive.
    """
    z = np.asarray(image, np.float64)
    if z.ndim != 2 or z.shape[0] < 3 or z.shape[1] < 16:
        raise ValueError(f"an image needs 3 lines of 16 pixels or more, got the shape {z.shape}")
    if not np.all(np.isfinite(z)):
        raise ValueError("heights must be finite: the image holds NaN or infinite values")
    return z, pixel_pair(pixel_size_nm)


def _contrast(z: Floats, m: int) -> Floats:
    """Return the mean of the next m heights less that of the m before, tilt taken off."""
    total = np.concatenate([[0.0], np.cumsum(z - z[0])])
    means = (total[m:] - total[:-m]) / m
    contrast = means[m:] - means[:-m]
    return np.asarray(contrast - np.median(contrast))


def _neighbours(places: list[int], at: int) -> tuple[int | None, int | None]:
    """Return the neighbours of a place in a rising list."""
    i = places.index(at)
    return (places[i - 1] if i else None), (places[i + 1] if i + 1 < len(places) else None)


def _edge(
    z: Floats, at: int, near: tuple[int | None, int | None], m: int, pixel_size_nm: float
) -> Edge:
    """Return the edge near a pixel: levels on both sides, and where it passes between them."""
    before, after = near
    # levels are taken where neither this edge nor the next one is in the way
    start = max(0, at - 4 * m, 0 if before is None else (at + before + m) // 2)
    end = min(len(z), at + 4 * m, len(z) if after is None else (at + after + m) // 2 + 1)
    part = z[start:end]
    x = np.arange(len(part))
    middle = at - start
    far = np.abs(x - middle + 0.5) > min(m, 0.5 * min(middle, len(part) - middle))
    if np.count_nonzero(far & (x < middle)) < 2 or np.count_nonzero(far & (x >= middle)) < 2:
        far = np.ones(len(part), bool)
    _, gain = solver(far, (x >= middle).astype(np.float64), 1)
    parameters = gain @ part[far]
    scale = np.linspace(-1, 1, len(part))
    rise = float(parameters[-1])
    share = (part - parameters[0] - parameters[1] * scale) / rise
    crossings = [_crossing(share, middle, level) for level in (0.05, 0.5, 0.95)]
    width = max(crossings[2] - crossings[0], 1.0)
    return Edge((start + crossings[1]) * pixel_size_nm, rise, width * pixel_size_nm)


def _crossing(share: Floats, middle: int, level: float) -> float:
    """Return where a profile from 0 to 1 passes a level, going out from its middle."""
    up = share >= level
    if level > 0.5:
        later = np.flatnonzero(up[max(middle - 1, 0) :])
        j = max(middle - 1, 0) + (int(later[0]) if len(later) else 0)
    else:
        earlier = np.flatnonzero(~up[: middle + 1])
        j = (int(earlier[-1]) if len(earlier) else middle) + 1
    j = min(max(j, 1), len(share) - 1)
    low, high = share[j - 1], share[j]
    return float(j - 1 + np.clip((level - low) / (high - low), 0, 1)) if high != low else float(j)


def _across(shape: tuple[int, ...], pixel: tuple[float, float], direction_deg: float) -> Floats:
    """Return the coordinate across the edges, 0 at the first pixel."""
    angle = np.deg2rad(direction_deg)
    y, x = np.ogrid[: shape[0], : shape[1]]
    return np.asarray(x * (pixel[1] * np.cos(angle)) + y * (pixel[0] * np.sin(angle)))


def _profile(z: Floats, pixel: tuple[float, float], direction_deg: float) -> tuple[Floats, float]:
    """Return the mean profile across the edges, by bins a pixel wide, and where it starts."""
    across = _across(z.shape, pixel, direction_deg)
    step = pixel[1]
    start = float(across.min())
    bins = np.rint((across - start) / step).astype(np.int64).ravel()
    count = np.bincount(bins)
    well = np.flatnonzero(count >= 0.2 * np.max(count))  # corners hold few pixels
    mean = np.bincount(bins, z.ravel())[well[0] : well[-1] + 1]
    return mean / count[well[0] : well[-1] + 1], start + float(well[0]) * step


def _line_fits(z: Floats) -> Floats:
    """Return the straight line fitted to every row."""
    x = np.linspace(-1, 1, z.shape[1])
    return np.asarray(np.mean(z, axis=1)[:, None] + np.outer(z @ x / (x @ x), x))

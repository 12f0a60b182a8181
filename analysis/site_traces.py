"""The signal of each atomic site in each frame of a drifting movie.

Frames are never moved: the spot is evaluated where the drift has carried it, so the counts keep
their independent Poisson noise. A site's matched filter is its spot, less the spot's mean over
a window five widths to each side: whatever background is constant there doesn't pass. What the
filter picks up from the neighbours' spots is known, so the filters' outputs of a frame are a
linear system for all its signals, solved together: a neighbour that vanishes leaves no trace.

The filter's output isn't Gaussian at few counts. Up to its third cumulant it is a Poisson
number of electrons times a gain, and that is how its noise is returned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

WINDOW_WIDTHS = 5.0
"""Half the side of a site's window, in standard deviations of the spot."""
SPOT_WIDTHS = 3.0
"""How far a spot reaches, in its standard deviations."""
REFINEMENTS = 6
"""Each leaves a third or less of what the solution among the nearest left over."""


@dataclass(frozen=True, eq=False)
class SiteTraces:
    """What each site shows in each frame.

    Attributes
    ----------
    signal : (sites, n) float64
        Height of the spot over its surroundings, counts per pixel; negative where the spot is
        dark. Zero where it isn't seen.
    standard_error : (sites, n) float64
        From Poisson noise, for the site as it is on average over the movie; infinite where
        it isn't seen.
    gain : (sites,) float64
        How much one electron adds to the signal: third cumulant over variance. The variance
        of the signal rises by gain times what the signal rises by.
    seen : (sites, n) bool
        Whether the frame shows the spot to three standard deviations, and anything at all.
    relative_dose : (n,) float64
        Mean of the frame over the mean of the movie; 1 for a frame without counts.
    """

    signal: FloatArray
    standard_error: FloatArray
    gain: FloatArray
    seen: npt.NDArray[np.bool_]
    relative_dose: FloatArray


def site_traces(
    images: npt.ArrayLike, shifts_px: npt.ArrayLike, sites_px: npt.ArrayLike, spot_sigma_px: float
) -> SiteTraces:
    """Measure the signal of every site in every frame.

    Parameters
    ----------
    images : (n, ny, nx) array
        Counted electrons.
    shifts_px : (n, 2) array
        (dy, dx): what lies at p in the coordinates of the sites lies at p + shift in frame i.
    sites_px : (sites, 2) array
        (y, x) of each site. List all atoms that are there: one left out is background.
    spot_sigma_px : float
        Standard deviation of the Gaussian that a spot looks like. One that is wrong by 15 %
        wastes 2 % of the dose, by 50 % 15 %: (2 a b / (a² + b²))² of the counts count.

    Raises
    ------
    ValueError
        If shapes don't fit, images aren't finite and nowhere negative, two sites are
        closer than one standard deviation of a spot, or the spot is narrower than 0.7 px
        (its height would depend on where it lies between the pixels).
    """
    stack, shifts, sites = checked_movie(images, shifts_px, sites_px, spot_sigma_px)
    window = int(np.ceil(WINDOW_WIDTHS * spot_sigma_px))
    reach = window + SPOT_WIDTHS * spot_sigma_px
    start, near = _neighbours(sites, reach)
    mean, dose = mean_image(stack, shifts)
    # Where nothing was counted less than one electron in the window is expected, not none.
    mean = np.maximum(mean, 1 / (len(stack) * (2 * window + 1) ** 2))
    weights, variance, third = _noise_of_sites(mean, sites, start, near, window, spot_sigma_px)

    signal = np.zeros((len(sites), len(stack)))
    seen = np.zeros(signal.shape, bool)
    for i, frame in enumerate(stack):
        _one_frame(
            np.ascontiguousarray(frame, np.float32),
            sites + shifts[i],
            start,
            near,
            weights,
            window,
            spot_sigma_px,
            signal[:, i],
            seen[:, i],
        )
    seen &= dose > 0
    signal[~seen] = 0.0
    dose = np.where(dose > 0, dose, 1.0)
    # At very many counts, or none, the skewness says nothing: a gain of a thousandth of the noise.
    gain = np.maximum(third / variance, 1e-3 * np.sqrt(variance))
    error = np.where(seen, np.sqrt(variance[:, None] * dose[None, :]), np.inf)
    return SiteTraces(signal, error, gain, seen, dose)


def mean_image(stack: npt.NDArray[Any], shifts: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the mean of the frames moved back by whole pixels, and their relative dose.

    The mean image has the frames' shape and the sites' coordinates; where no frame looked it
    holds the mean of all.
    """
    ny, nx = stack.shape[1:]
    total, count = np.zeros((ny, nx)), np.zeros((ny, nx), np.int32)
    dose = np.array([frame.mean(dtype=np.float64) for frame in stack])
    if not dose.mean() > 0:
        raise ValueError("images must hold counts: all of them are empty")
    for frame, shift in zip(stack, np.rint(shifts).astype(int), strict=True):
        here, there = common_part((ny, nx), shift)
        total[here] += frame[there]
        count[here] += 1
    mean = np.where(count > 0, total / np.maximum(count, 1), dose.mean())
    return mean, dose / dose.mean()


def common_part(
    shape: tuple[int, int], shift: npt.NDArray[np.int_]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return what a frame moved by whole pixels shares with the sites' coordinates, as slices.

    The first are in the coordinates of the sites, the second in the frame.
    """
    here, there = [], []
    for n, d in zip(shape, shift.tolist(), strict=True):
        size = max(0, n - abs(d))
        here.append(slice(max(0, -d), max(0, -d) + size))
        there.append(slice(max(0, d), max(0, d) + size))
    return (here[0], here[1]), (there[0], there[1])


def _neighbours(sites: FloatArray, reach: float) -> tuple[IntArray, IntArray]:
    """Return the sites near each site, itself first: those of i are near[start[i]:start[i + 1]]."""
    lists = KDTree(sites).query_ball_point(sites, reach, p=np.inf)
    rows = [[i, *(j for j in row if j != i)] for i, row in enumerate(lists)]
    start = np.cumsum([0, *(len(row) for row in rows)]).astype(np.int64)
    return start, np.concatenate([np.array(row, np.int64) for row in rows])


@numba.njit(cache=True)
def _profiles(at: FloatArray, half: int, sigma: float) -> tuple[IntArray, FloatArray]:
    """Return each spot's nearest pixel, and its profile along y and x for `half` px around it."""
    centre = np.empty(at.shape, np.int64)
    profile = np.empty((len(at), 2, 2 * half + 1))
    for i in range(len(at)):
        for axis in range(2):
            centre[i, axis] = int(np.rint(at[i, axis]))
            for k in range(2 * half + 1):
                u = (centre[i, axis] - half + k - at[i, axis]) / sigma
                profile[i, axis, k] = np.exp(-0.5 * u * u)
    return centre, profile


@numba.njit(cache=True)
def _crosstalk(
    i: int,
    j: int,
    centre: IntArray,
    profile: FloatArray,
    window: IntArray,
    pixels: float,
) -> tuple[float, float]:
    """Return what the filter of site i picks up from a spot of height one at j, and j's mean there.

    All sums over the window (y from, y to, x from, x to) of i are products of sums along y and x.
    """
    half = profile.shape[2] // 2
    product, plain, own = 1.0, 1.0, 1.0
    for axis in range(2):
        both, other, mine = 0.0, 0.0, 0.0
        for p in range(window[2 * axis], window[2 * axis + 1]):
            a = profile[i, axis, p - centre[i, axis] + half]
            k = p - centre[j, axis] + half
            mine += a
            if 0 <= k <= 2 * half:
                other += profile[j, axis, k]
                both += a * profile[j, axis, k]
        product, plain, own = product * both, plain * other, own * mine
    return product - own * plain / pixels, plain / pixels


@numba.njit(cache=True)
def _noise_of_sites(
    mean: FloatArray,
    sites: FloatArray,
    start: IntArray,
    near: IntArray,
    half_window: int,
    sigma: float,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Solve each site among its neighbours; return weights of the filters, variance, 3rd cumulant.

    The weights (like `near`) are a row of the inverse of the matrix of crosstalk. The weight
    of each pixel in the site's signal follows from them, and the pixel's Poisson noise has the
    mean image for its variance and third cumulant alike.
    """
    ny, nx = mean.shape
    half = 2 * half_window + int(4 * sigma) + 2
    centre, profile = _profiles(sites, half, sigma)
    pixels = float((2 * half_window + 1) ** 2)
    weights = np.zeros(len(near))
    variance, third = np.zeros(len(sites)), np.zeros(len(sites))
    window = np.empty(4, np.int64)
    for i in range(len(sites)):
        group = near[start[i] : start[i + 1]]
        m = len(group)
        matrix = np.empty((m, m))
        for a in range(m):
            for axis in range(2):
                window[2 * axis] = centre[group[a], axis] - half_window
                window[2 * axis + 1] = centre[group[a], axis] + half_window + 1
            for b in range(m):
                matrix[b, a] = _crosstalk(group[a], group[b], centre, profile, window, pixels)[0]
        unit = np.zeros(m)
        unit[0] = 1.0
        c = np.linalg.solve(matrix, unit)
        weights[start[i] : start[i + 1]] = c

        side = 4 * half_window + int(6 * sigma) + 3  # the windows of all neighbours
        pixel = np.zeros((2 * side + 1, 2 * side + 1))
        for a in range(m):
            j = group[a]
            y0 = centre[j, 0] - centre[i, 0] + side
            x0 = centre[j, 1] - centre[i, 1] + side
            own_y, own_x = profile[j, 0], profile[j, 1]
            level = 0.0
            for k in range(-half_window, half_window + 1):
                for q in range(-half_window, half_window + 1):
                    level += own_y[half + k] * own_x[half + q] / pixels
            for k in range(-half_window, half_window + 1):
                for q in range(-half_window, half_window + 1):
                    pixel[y0 + k, x0 + q] += c[a] * (own_y[half + k] * own_x[half + q] - level)
        for k in range(2 * side + 1):
            y = min(max(centre[i, 0] - side + k, 0), ny - 1)
            for q in range(2 * side + 1):
                w = pixel[k, q]
                if w != 0:
                    x = min(max(centre[i, 1] - side + q, 0), nx - 1)
                    variance[i] += w * w * mean[y, x]
                    third[i] += w * w * w * mean[y, x]
    return weights, variance, third


@numba.njit(cache=True)
def _one_frame(
    frame: npt.NDArray[np.float32],
    at: FloatArray,
    start: IntArray,
    near: IntArray,
    weights: FloatArray,
    half_window: int,
    sigma: float,
    signal: FloatArray,
    seen: npt.NDArray[np.bool_],
) -> None:
    """Solve one frame for the signals of the sites; windows end where the frame ends."""
    ny, nx = frame.shape
    half = 2 * half_window + int(4 * sigma) + 2
    centre, profile = _profiles(at, half, sigma)
    output = np.zeros(len(at))
    inside = np.zeros(len(at), np.bool_)
    matrix = np.zeros(len(near))
    window = np.empty(4, np.int64)
    for i in range(len(at)):
        edge = min(at[i, 0], ny - 1 - at[i, 0], at[i, 1], nx - 1 - at[i, 1])
        inside[i] = edge >= 0
        seen[i] = edge >= SPOT_WIDTHS * sigma
    for i in range(len(at)):
        if not inside[i]:
            continue
        cy, cx = centre[i]
        y0, y1 = max(cy - half_window, 0), min(cy + half_window + 1, ny)
        x0, x1 = max(cx - half_window, 0), min(cx + half_window + 1, nx)
        total, spot, both = 0.0, 0.0, 0.0
        for y in range(y0, y1):
            row, row_both, row_spot = 0.0, 0.0, 0.0
            for x in range(x0, x1):
                t = profile[i, 1, x - cx + half]
                row += frame[y, x]
                row_both += frame[y, x] * t
                row_spot += t
            g = profile[i, 0, y - cy + half]
            total += row
            both += g * row_both
            spot += g * row_spot
        pixels = float((y1 - y0) * (x1 - x0))
        output[i] = both - spot * total / pixels
        window[0], window[1], window[2], window[3] = y0, y1, x0, x1
        for k in range(start[i], start[i + 1]):
            if inside[near[k]]:
                matrix[k] = _crosstalk(i, near[k], centre, profile, window, pixels)[0]
    full = np.pi * sigma * sigma  # of a whole window; one that's cut is brought to its scale
    for _ in range(REFINEMENTS + 1):
        residual = output.copy()
        for i in range(len(at)):
            if inside[i]:
                for k in range(start[i], start[i + 1]):
                    residual[i] -= matrix[k] * signal[near[k]]
                whole = full * (1 - 4 * full / (2 * half_window + 1) ** 2)
                residual[i] *= whole / max(matrix[start[i]], 0.05 * whole)
        for i in range(len(at)):
            if inside[i]:
                for k in range(start[i], start[i + 1]):
                    signal[i] += weights[k] * residual[near[k]]


def checked_movie(
    images: npt.ArrayLike, shifts_px: npt.ArrayLike, sites_px: npt.ArrayLike, spot_sigma_px: float
) -> tuple[npt.NDArray[Any], FloatArray, FloatArray]:
    """Return movie, shifts and sites as arrays, or say what is wrong with them."""
    stack = np.asarray(images)
    if stack.ndim != 3 or stack.shape[0] < 1 or min(stack.shape[1:]) < 8:
        raise ValueError(
            f"a movie has the shape (frames, ny, nx) with sides of 8 or more, got {stack.shape}"
        )
    if stack.dtype.kind not in "uif":
        raise ValueError(f"images must hold counts, got {stack.dtype}")
    if not all(np.isfinite(frame).all() and frame.min() >= 0 for frame in stack):
        raise ValueError("images must hold counts: finite and nowhere negative")
    shifts = np.array(shifts_px, np.float64)
    if shifts.shape != (len(stack), 2) or not np.isfinite(shifts).all():
        raise ValueError(
            f"shifts_px must be finite and (frames, 2) = ({len(stack)}, 2), got {shifts.shape}"
        )
    if not (np.isfinite(spot_sigma_px) and spot_sigma_px >= 0.7):
        raise ValueError(f"spot_sigma_px must be 0.7 or more, got {spot_sigma_px}")
    sites = np.array(sites_px, np.float64)
    if sites.ndim != 2 or sites.shape[1] != 2 or len(sites) < 1 or not np.isfinite(sites).all():
        raise ValueError(f"sites_px must be finite and (sites, 2), got {sites.shape}")
    close = KDTree(sites).query_pairs(spot_sigma_px)
    if close:
        i, j = min(close)
        raise ValueError(f"sites {i} and {j} are closer than spot_sigma_px: merge them")
    return stack, shifts, sites

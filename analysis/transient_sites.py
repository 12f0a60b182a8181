"""Places where an atom is seen during a part of a movie only, found without a list of sites.

They show in differences between a part of the movie and the rest of it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.optimize import brentq

from nanophantom.analysis.filters import filtered_by, matched_response, smooth
from nanophantom.analysis.noise import as_gaussian, expected_false_maxima
from nanophantom.analysis.site_traces import checked_movie, common_part

FloatArray = npt.NDArray[np.float64]
Table = dict[str, npt.NDArray[Any]]
Contrast = Literal["bright", "dark"]

BLOCKS = 16
"""Into how many parts a movie is cut to look for unlisted sites."""
SIDELOBE = 0.25
"""A weaker maximum than this share of a change within six spot widths may be its side lobe."""


def find_transient_sites(
    images: npt.ArrayLike,
    shifts_px: npt.ArrayLike,
    spot_sigma_px: float,
    contrast: Contrast = "bright",
    known_sites_px: npt.ArrayLike | None = None,
    false_sites: float = 0.1,
) -> Table:
    """Find places where an atom is seen during a part of the movie only.

    The movie is cut into up to 16 blocks. The mean of each run of 1, 2, 4 or 8 blocks, less that
    of all others, goes through a matched filter; what doesn't change drops out.

    Parameters
    ----------
    images, shifts_px, spot_sigma_px, contrast
        As for :func:`nanophantom.analysis.movie_events.detect_events`.
    known_sites_px : (sites, 2) array, optional
        (y, x) of sites that are listed already; places within 1.5 spot_sigma_px are left out.
    false_sites : float
        How many places noise alone may be expected to give (Rice's formula for maxima, for each
        run of blocks).

    Returns
    -------
    dict of (found,) arrays, the most significant first
        y_px, x_px: in the coordinates of the sites; first_frame, last_frame: the run in which
        the place differs most from the rest; significance: in standard deviations of the noise.

    Raises
    ------
    ValueError
        If the movie has fewer than two frames or isn't as described, or a number is out of range.

    Notes
    -----
    Frames are moved by whole pixels, the sums of blocks by the mean of what is left. The blur of
    at most 0.3 px rms may differ between blocks; it feigns a change of up to 0.08 / sigma² of a
    column's height, which matters where that stands above the noise.
    """
    known = np.full((1, 2), -1e9) if known_sites_px is None else known_sites_px
    stack, shifts, known = checked_movie(images, shifts_px, known, spot_sigma_px)
    if len(stack) < 2:
        raise ValueError("a part of the movie needs a rest to differ from: 2 frames or more")
    if contrast not in ("bright", "dark"):
        raise ValueError(f'contrast must be "bright" or "dark", got {contrast!r}')
    if not (np.isfinite(false_sites) and false_sites > 0):
        raise ValueError(f"false_sites must be a positive number, got {false_sites}")
    edges = np.unique(np.linspace(0, len(stack), min(BLOCKS, len(stack)) + 1).astype(int))
    count, filtered, mean = _filtered_blocks(stack, shifts, edges, spot_sigma_px)
    # Weighted with their frames, blocks add up: what a run holds is a difference of two sums.
    frames = np.diff(edges)
    sums = np.concatenate([np.zeros((1, *mean.shape), np.float32), np.cumsum(filtered, axis=0)])
    noise = np.array([m**2 / np.maximum(c, 1) for m, c in zip(frames, count, strict=True)])
    noises = np.concatenate([np.zeros((1, *mean.shape)), np.cumsum(noise, axis=0)])
    spectrum_sum = _power_of_filter(spot_sigma_px)
    variance = np.maximum(smooth(mean, spot_sigma_px / np.sqrt(2)), 1e-3 * mean.mean() + 1e-12)
    valid = np.all(count >= 0.5 * frames[:, None, None], axis=0)
    # Beyond an edge the filter sees a mirror, whose noise is the edge's own once more.
    margin = 2 * int(np.ceil(3 * spot_sigma_px)) + 1
    valid = ndimage.minimum_filter(valid, margin, mode="constant", cval=0)

    runs = _runs(len(frames))
    area = float(valid.sum()) * len(runs)
    low, high = 1.5, 30.0
    if expected_false_maxima(np.array(low), spot_sigma_px, area) <= false_sites:
        threshold = low
    else:
        threshold = brentq(
            lambda u: float(expected_false_maxima(np.array(u), spot_sigma_px, area)) - false_sites,
            low,
            high,
        )
    sign = 1.0 if contrast == "bright" else -1.0
    size = 2 * int(np.ceil(spot_sigma_px)) + 1
    largest = np.zeros(mean.shape)
    found = []
    for first, stop in runs:
        inside, rest = edges[stop] - edges[first], len(stack) - (edges[stop] - edges[first])
        part, part_noise = sums[stop] - sums[first], (noises[stop] - noises[first]) / inside**2
        other, other_noise = sums[-1] - part, (noises[-1] - noises[stop] + noises[first]) / rest**2
        both = part_noise + other_noise
        z = (part / inside - other / rest) / np.sqrt(variance * spectrum_sum * both)
        skew = np.maximum(np.abs(part_noise**2 - other_noise**2), 1e-9 * both**2)
        electrons = 2.25 * np.pi * spot_sigma_px**2 * variance * both**3 / skew**2
        height = np.where(valid, sign * as_gaussian(z, electrons), 0.0)
        np.maximum(largest, np.abs(height), out=largest)
        top = (height > threshold) & (height == ndimage.maximum_filter(height, size))
        for y, x in np.argwhere(top):
            found.append((height[y, x], *_top(height, y, x), edges[first], edges[stop] - 1))
    around = ndimage.maximum_filter(largest, 2 * int(6 * spot_sigma_px) + 1)
    return _strongest_apart(found, around, known, spot_sigma_px)


def _filtered_blocks(
    stack: npt.NDArray[Any],
    shifts: FloatArray,
    edges: npt.NDArray[np.int_],
    sigma: float,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32], FloatArray]:
    """Return for each block how often each pixel was seen, and its filtered sum; and the mean."""
    shape = (stack.shape[1], stack.shape[2])
    count = np.zeros((len(edges) - 1, *shape), np.int32)
    filtered = np.zeros(count.shape, np.float32)
    whole = np.rint(shifts).astype(int)
    usual = float(np.mean([frame.mean(dtype=np.float64) for frame in stack]))
    mean = np.zeros(shape)
    for b, (first, stop) in enumerate(pairwise(edges.tolist())):
        total = np.zeros(shape)
        for i in range(first, stop):
            here, there = common_part(shape, whole[i])
            total[here] += stack[i][there]
            count[b][here] += 1
        total = np.where(count[b] > 0, total / np.maximum(count[b], 1), usual) * (stop - first)
        mean += total / len(stack)
        rest = np.mean(shifts[first:stop] - whole[first:stop], axis=0)
        flat = filtered_by(total, lambda k: matched_response(k, sigma), sigma)
        spectrum = ndimage.fourier_shift(np.fft.rfft2(flat), -rest, n=shape[1])
        filtered[b] = np.fft.irfft2(spectrum, s=shape)
    return count, filtered, mean


def _power_of_filter(sigma: float) -> float:
    """Return the variance that the matched filter leaves of white noise of unit variance."""
    k = np.linspace(0, np.pi, 2000)
    return float(np.trapezoid(matched_response(k, sigma) ** 2 * k, k) / (2 * np.pi))


def _runs(blocks: int) -> list[tuple[int, int]]:
    """Return runs of 1, 2, 4 ... blocks, up to half of all, each half a run after the last."""
    runs, length = [], 1
    while length <= max(1, blocks // 2):
        step = max(1, length // 2)
        starts = {*range(0, blocks - length + 1, step), blocks - length}
        runs += [(start, start + length) for start in sorted(starts)]
        length *= 2
    return runs


def _top(height: FloatArray, y: int, x: int) -> tuple[float, float]:
    """Return where the parabolas through a maximum and its neighbours have their tops."""
    at = []
    for axis, (k, n) in enumerate(zip((y, x), height.shape, strict=True)):
        if not 0 < k < n - 1:
            at.append(float(k))
            continue
        low, here, high = height[k - 1 : k + 2, x] if axis == 0 else height[y, k - 1 : k + 2]
        curvature = low - 2 * here + high
        at.append(k + (0.5 * (low - high) / curvature if curvature < 0 else 0.0))
    return at[0], at[1]


def _strongest_apart(
    found: list[tuple[float, float, float, int, int]],
    around: FloatArray,
    known: FloatArray,
    sigma: float,
) -> Table:
    """Keep the strongest of maxima within two spot widths, and none that may be a side lobe."""
    kept: list[tuple[float, float, float, int, int]] = []
    for row in sorted(found, reverse=True):
        height, y, x = row[:3]
        if height < SIDELOBE * around[int(np.rint(y)), int(np.rint(x))]:
            continue
        others = np.array([other[1:3] for other in kept]).reshape(-1, 2)
        if np.any(np.hypot(*(others - (y, x)).T) < 2 * sigma):
            continue
        if np.any(np.hypot(*(known - (y, x)).T) < 1.5 * sigma):
            continue
        kept.append(row)
    table = np.array(kept, np.float64).reshape(-1, 5)
    return {
        "y_px": table[:, 1],
        "x_px": table[:, 2],
        "first_frame": table[:, 3].astype(np.int64),
        "last_frame": table[:, 4].astype(np.int64),
        "significance": table[:, 0],
    }

"""From a movie to the drift of its specimen: localize, place segments, then single frames.

Segments long enough to hold the structure miss what the stage does meanwhile. So their drift, by
adaptive intersection maximization, is only the start: the places that it gives the localizations of
all *other* times make a map, and those of short blocks, then of every frame, are compared with that
map, each with what is near it. What a frame tells is little, and noisy; that the stage wanders as a
random walk, whose strength the frames tell themselves, ties each to those before and after.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from nanophantom.analysis.drift_cross_correlation import cross_correlation_drift
from nanophantom.analysis.drift_intersection import intersection_drift
from nanophantom.analysis.localize import Movie, localize
from nanophantom.analysis.random_walk import likely_step_variance, smoothed_walk

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Columns = dict[str, npt.NDArray[Any]]

WORST_UNCERTAINTY = 2.0
"""Times the median; what is less certain than that is left away."""
PER_SEGMENT = 800
"""Localizations in a segment of the start."""
PER_IMAGE = 1800
"""Localizations in an image of the cross-correlation."""
SEARCHES = 3
"""Rounds in which short blocks look for the place where most of them fits the map."""
PER_BLOCK = 300
"""Localizations in a block: of some sixty molecules, enough for no neighbour to be mistaken."""
SEARCH = 12.0
"""Standard deviations of a localization that a block may be off."""
BINS_PER_SIGMA = 1.0
WIDTHS = (3.0, 2.5, 2.0, 2.0, 1.5, 1.5, 1.5, 1.5)
"""Of the map's kernel, in standard deviations of a localization, round by round."""
REACH = 2.5
"""Of the kernel, in its widths."""
APART_FRAMES = 20
"""Localizations nearer in time tell nothing of each other: they share their drift's error."""
BOUNDS = 3.0
"""Robust standard deviations beyond which a frame's offset is taken for a false match."""


def find(movie: Movie, settings: Mapping[str, Any]) -> Columns:
    """Find the drift of a movie, by three ways.

    Parameters
    ----------
    movie : (n, ny, nx)
    settings
        What `localize` needs.

    Returns
    -------
    dict of columns, one row a frame
        frame, dx_nm, dy_nm: where the specimen lies, frame by frame; sigma_nm, its standard
        uncertainty; aim_dx_nm, aim_dy_nm, rcc_dx_nm, rcc_dy_nm: by adaptive intersection
        maximization alone, and by redundant cross-correlation alone. All have the mean zero.
    """
    table = localize(movie, settings)
    certain = table["uncertainty_nm"] < WORST_UNCERTAINTY * np.median(table["uncertainty_nm"])
    frame, x, y = (table[name][certain] for name in ("frame", "x_nm", "y_nm"))
    n = int(movie.shape[0])
    each = n / max(len(frame), 1)
    error_nm = float(np.median(table["uncertainty_nm"][certain]))
    segment = max(1, round(PER_SEGMENT * each))
    aim = intersection_drift(frame, x, y, frames=n, frames_per_segment=segment)
    rcc = cross_correlation_drift(
        frame, x, y, frames=n, frames_per_segment=max(1, round(PER_IMAGE * each))
    )
    # Beyond the middles of the first and last segments, the curve through them only goes on.
    inside = np.clip(np.arange(n), min(segment // 2, n - 1), max(0, n - 1 - segment // 2))
    drift, sigma_nm = drift_of_frames(frame, x, y, aim[inside], error_nm)
    return {
        "frame": np.arange(n),
        "dx_nm": drift[:, 0],
        "dy_nm": drift[:, 1],
        "sigma_nm": sigma_nm,
        "aim_dx_nm": aim[:, 0],
        "aim_dy_nm": aim[:, 1],
        "rcc_dx_nm": rcc[:, 0],
        "rcc_dy_nm": rcc[:, 1],
    }


def drift_of_frames(
    frame: npt.ArrayLike,
    x_nm: npt.ArrayLike,
    y_nm: npt.ArrayLike,
    start_nm: Floats,
    error_nm: float,
) -> tuple[Floats, Floats]:
    """Refine a drift frame by frame.

    Parameters
    ----------
    frame, x_nm, y_nm : (n,) arrays
        The localizations, drift and all.
    start_nm : (frames, 2) array
        The drift so far, right to some standard deviations of a localization.
    error_nm : float
        Standard deviation of a localization.

    Returns
    -------
    drift : (frames, 2) array
        Its mean zero.
    sigma_nm : (frames,) array
        Standard uncertainty of each of the two.
    """
    f = np.asarray(frame, np.int64)
    order = np.argsort(f, kind="stable")
    f = f[order]
    places = np.column_stack([x_nm, y_nm]).astype(np.float64)[order]
    drift = np.array(start_nm, np.float64)
    n = len(drift)
    for _ in range(SEARCHES):
        drift += _block_offsets(f, places - drift[f], error_nm, n)
    variance = np.ones(n)
    for width in WIDTHS:
        offset, near = _offsets(f, places - drift[f], width * error_nm)
        # The kernel pulls differences of variance 2 e^2 in to its own middle.
        offset *= 1 + 2 / width**2
        used = near > 0
        used &= (np.abs(offset) < BOUNDS * _scatter(offset[used])).all(axis=1)
        each = float(offset[used].var(axis=0).mean())
        count = np.bincount(f[used], minlength=n).astype(float)
        seen = drift + np.column_stack(
            [np.bincount(f[used], o, n) / np.maximum(count, 1) for o in offset[used].T]
        )
        weight = count / each
        step = likely_step_variance(seen, weight)
        ways = [smoothed_walk(column, weight, step) for column in seen.T]
        drift = np.column_stack([way.path for way in ways])
        drift -= drift.mean(axis=0)
        variance = ways[0].variance
    return drift, np.sqrt(variance)


def _block_offsets(frame: Ints, places: Floats, error_nm: float, n_frames: int) -> Floats:
    """Return how far short blocks of frames lie off the map of other times, (frames, 2).

    Molecules of one structure have neighbours a few standard deviations away, on which a frame's
    localizations may settle; those of many structures don't all have them on the same side. So the
    distances of a block to all that is near are counted, and the most frequent one is taken.
    """
    blocks = max(1, round(len(frame) / PER_BLOCK))
    block_of = np.arange(n_frames) * blocks // n_frames
    half = round(SEARCH * BINS_PER_SIGMA)
    bin_nm = error_nm / BINS_PER_SIGMA
    index, order = _Cells.of(places, (half + 0.5) * bin_nm, frame)
    counts = np.zeros((blocks, 2 * half + 1, 2 * half + 1))
    _count_differences(index, block_of[frame][order], counts, bin_nm)
    # Two localizations of one molecule differ by sqrt 2 standard deviations.
    smooth = gaussian_filter(counts, (0, np.sqrt(2) * BINS_PER_SIGMA, np.sqrt(2) * BINS_PER_SIGMA))
    row, column = np.divmod(smooth.reshape(blocks, -1).argmax(axis=1), 2 * half + 1)
    best = np.column_stack([column, row]) - half
    best[counts.sum(axis=(1, 2)) == 0] = 0
    return np.asarray(best[block_of] * bin_nm)


def _scatter(offset: Floats) -> float:
    return float(np.median(np.abs(offset))) / 0.6745


class _Cells(NamedTuple):
    """Localizations sorted by square cells; what is nearer than an edge lies in adjoining ones."""

    frame: Ints
    places: Floats
    key: Ints
    starts: Ints
    """Where the localizations of each cell begin."""
    across: int
    """Cells in a row, an empty one at either end."""

    @classmethod
    def of(cls, places: Floats, cell_nm: float, frame: Ints) -> tuple[_Cells, npt.NDArray[np.intp]]:
        """Sort localizations; return them, and the order."""
        cells = ((places - places.min(axis=0)) / cell_nm).astype(np.int64) + 1
        across = int(cells[:, 0].max()) + 2
        key = cells[:, 1] * across + cells[:, 0]
        order = np.argsort(key, kind="stable")
        last = across * (int(cells[:, 1].max()) + 2) + 1
        starts = np.searchsorted(key[order], np.arange(last)).astype(np.int64)
        return cls(frame[order], places[order], key[order], starts, across), order


def _offsets(frame: Ints, places: Floats, width_nm: float) -> tuple[Floats, Floats]:
    """Return each localization's offset from the map of other times, and how much there was."""
    cells, order = _Cells.of(places, REACH * width_nm, frame)
    offset, near = np.empty((len(frame), 2)), np.empty(len(frame))
    offset[order], near[order] = _kernel_offsets(cells, width_nm)
    return offset, near


@numba.njit(cache=True, nogil=True)
def _kernel_offsets(cells: _Cells, width_nm: float) -> tuple[Floats, Floats]:
    """Weigh the differences to all localizations near by in space, not in time, by a Gaussian."""
    frame, places, key, starts, across = cells
    n = len(frame)
    offset, near = np.zeros((n, 2)), np.zeros(n)
    farthest = (REACH * width_nm) ** 2
    for i in range(n):
        total, sx, sy = 0.0, 0.0, 0.0
        for row in range(-1, 2):
            first = key[i] + row * across - 1
            for j in range(starts[first], starts[first + 3]):
                if abs(frame[j] - frame[i]) < APART_FRAMES:
                    continue
                dx, dy = places[i, 0] - places[j, 0], places[i, 1] - places[j, 1]
                square = dx * dx + dy * dy
                if square < farthest:
                    w = np.exp(-0.5 * square / (width_nm * width_nm))
                    total += w
                    sx += w * dx
                    sy += w * dy
        if total > 0.0:
            offset[i, 0], offset[i, 1], near[i] = sx / total, sy / total, total
    return offset, near


@numba.njit(cache=True, nogil=True)
def _count_differences(cells: _Cells, block: Ints, counts: Floats, bin_nm: float) -> None:
    """Count, block by block, the differences to all localizations near by in space, not in time."""
    frame, places, key, starts, across = cells
    wide = counts.shape[1]
    for i in range(len(frame)):
        for row in range(-1, 2):
            first = key[i] + row * across - 1
            for j in range(starts[first], starts[first + 3]):
                if abs(frame[j] - frame[i]) < APART_FRAMES:
                    continue
                u = int(np.floor((places[i, 0] - places[j, 0]) / bin_nm + 0.5 * wide))
                v = int(np.floor((places[i, 1] - places[j, 1]) / bin_nm + 0.5 * wide))
                if 0 <= u < wide and 0 <= v < wide:
                    counts[block[i], v, u] += 1.0

"""Drift of localizations by adaptive intersection maximization: where the most of them coincide.

The movie is cut into short segments. The sum of all segments that are already in place is the
reference; the next segment is shifted to where the most of its localizations coincide with those
of the reference, within a distance of a few standard deviations (H. Ma et al., Sci. Adv. 10 (2024)
eadm7765). The search is adaptive: it starts from the shift of the segment before, so that the
drift may go on far beyond the reach of one search. Two things differ from the publication: the
reference grows while the first pass goes on, so that molecules that bleach early don't matter, and
the shift of greatest coincidence is found between the cells of a grid, by the steps of a mean
shift (Y. Cheng, IEEE Trans. Pattern Anal. 17 (1995) 790) under a kernel that ends where
coincidence ends. Later passes take each segment out of the reference, place it again and put it
back.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from nanophantom.analysis.drift_cross_correlation import drift_at_frames, segments_of

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

NEVER = np.int64(np.iinfo(np.int64).min)
"""The key of an empty place of the hash table."""
HALF_SPAN = 1 << 20
"""Cells along an axis, to either side of the first localization, that a key can number."""


def intersection_drift(
    frame: npt.ArrayLike,
    x_nm: npt.ArrayLike,
    y_nm: npt.ArrayLike,
    z_nm: npt.ArrayLike | None = None,
    *,
    frames: int | None = None,
    frames_per_segment: int = 100,
    intersection_nm: float = 40.0,
    intersection_z_nm: float = 100.0,
    reach: int = 2,
    passes: int = 2,
) -> Floats:
    """Return the drift in every frame, its mean over the frames zero.

    Parameters
    ----------
    frame : (n,) array of int
        From 0, in any order.
    x_nm, y_nm, z_nm : (n,) array
        With z the drift is found along three axes.
    frames : int, optional
        Of the movie; by default up to the last localization.
    frames_per_segment : int
        The drift of a segment is found once; between the segments' mean frames a cubic spline
        goes through. Shorter segments follow faster drift, but hold fewer localizations: a
        segment's error is about sigma / sqrt(m) for m of them.
    intersection_nm, intersection_z_nm : float
        Distance within which localizations coincide: 3 to 4 standard deviations of one.
    reach : int
        Intersection distances that the drift may change by from segment to segment.
    passes : int
        The first builds the reference; each further one places every segment against all others.

    Returns
    -------
    (frames, 2) or (frames, 3) array
        Where the specimen lies, in the order x, y, z: subtract it from positions (see
        :func:`~nanophantom.analysis.drift_cross_correlation.without_drift`).

    Raises
    ------
    ValueError
        For columns of unlike lengths or not finite, fewer than two segments with localizations,
        or a parameter out of range.
    """
    segments = segments_of(frame, frames, frames_per_segment)
    if not (intersection_nm > 0 and intersection_z_nm > 0):
        raise ValueError(
            f"intersection distances must be above 0, got {intersection_nm}, {intersection_z_nm}"
        )
    if reach < 1 or passes < 1:
        raise ValueError(f"reach and passes must be 1 or more, got {reach}, {passes}")
    scales = [intersection_nm, intersection_nm, intersection_z_nm]
    names = ["x_nm", "y_nm", "z_nm"]
    columns = [x_nm, y_nm] if z_nm is None else [x_nm, y_nm, z_nm]
    positions = np.zeros((len(segments.order), 3))  # in units of the intersection distance
    for axis, column in enumerate(columns):
        values = segments.sorted_column(column, names[axis])
        positions[:, axis] = (values - values[0]) / scales[axis]
    if np.abs(positions).max() > HALF_SPAN / 2:
        raise ValueError(
            f"the field is more than {HALF_SPAN // 2} intersection distances wide: enlarge them"
        )
    if len(columns) == 2:
        positions[:, 2] = 0.0
    shifts = _place_segments(positions, segments.starts, len(columns), reach, passes)
    shifts = shifts[:, : len(columns)] * np.array(scales[: len(columns)])
    return drift_at_frames(segments.mean_frames, shifts, segments.frames)


@numba.njit(cache=True, nogil=True)
def _place_segments(positions: Floats, starts: Ints, axes: int, reach: int, passes: int) -> Floats:
    """Return the shift (segments, 3) of each segment against the sum of the others.

    Lengths are in units of the intersection distance, which is also the width of the cells in
    which the reference is kept: how many localizations a cell holds, and the sum of their
    positions within it.
    """
    size = 64
    while size < 4 * len(positions):
        size *= 2
    keys = np.empty(size, np.int64)
    cells = np.empty((size, 4), np.float32)
    segments = len(starts) - 1
    shifts = np.zeros((segments, 3))
    for turn in range(passes):
        keys.fill(NEVER)
        cells.fill(0.0)
        if turn > 0:
            for s in range(segments):
                _add(keys, cells, positions, starts[s], starts[s + 1], shifts[s], 1.0)
        for s in range(segments):
            start, stop, shift = starts[s], starts[s + 1], shifts[s]
            if turn > 0:
                _add(keys, cells, positions, start, stop, shift, -1.0)
            elif s > 0:
                for axis in range(3):
                    shift[axis] = shifts[s - 1, axis]
                _search(keys, cells, positions, start, stop, shift, axes, reach)
            _refine(keys, cells, positions, start, stop, shift, axes)
            _add(keys, cells, positions, start, stop, shift, 1.0)
    return shifts


@numba.njit(cache=True, nogil=True)
def _slot(keys: Ints, key: int) -> int:
    """Return where a key is kept in the table, or the empty place where it belongs."""
    mask = len(keys) - 1
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    place = np.int64(mixed >> np.uint64(32)) & mask
    while keys[place] != key and keys[place] != NEVER:
        place = (place + 1) & mask
    return int(place)


@numba.njit(cache=True, nogil=True)
def _key(cx: int, cy: int, cz: int) -> int:
    """Return one number for a cell, 21 bits for each axis."""
    span = 2 * HALF_SPAN
    return ((cz + HALF_SPAN) * span + (cy + HALF_SPAN)) * span + (cx + HALF_SPAN)


@numba.njit(cache=True, nogil=True)
def _add(
    keys: Ints, cells: Any, positions: Floats, start: int, stop: int, shift: Floats, sign: float
) -> None:
    """Add localizations start ... stop, their shift undone, to the reference; or remove them."""
    for i in range(start, stop):
        x, y, z = (
            positions[i, 0] - shift[0],
            positions[i, 1] - shift[1],
            positions[i, 2] - shift[2],
        )
        cx, cy, cz = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
        key = _key(cx, cy, cz)
        place = _slot(keys, key)
        keys[place] = key
        cells[place, 0] += sign
        cells[place, 1] += sign * (x - cx)
        cells[place, 2] += sign * (y - cy)
        cells[place, 3] += sign * (z - cz)


@numba.njit(cache=True, nogil=True)
def _search(
    keys: Ints,
    cells: Any,
    positions: Floats,
    start: int,
    stop: int,
    shift: Floats,
    axes: int,
    reach: int,
) -> None:
    """Move the shift by the whole cells that give the most coincidences."""
    wide = 2 * reach + 1
    deep = wide if axes == 3 else 1
    hits = np.zeros((deep, wide, wide))
    for i in range(start, stop):
        cx = int(np.floor(positions[i, 0] - shift[0]))
        cy = int(np.floor(positions[i, 1] - shift[1]))
        cz = int(np.floor(positions[i, 2] - shift[2]))
        for k in range(deep):
            for j in range(wide):
                for h in range(wide):
                    key = _key(cx - h + reach, cy - j + reach, cz - k + deep // 2)
                    hits[k, j, h] += cells[_slot(keys, key), 0]
    best_k, best_j, best_h = deep // 2, reach, reach  # stays if nothing is better
    for k in range(deep):
        for j in range(wide):
            for h in range(wide):
                if hits[k, j, h] > hits[best_k, best_j, best_h]:
                    best_k, best_j, best_h = k, j, h
    shift[0] += best_h - reach
    shift[1] += best_j - reach
    shift[2] += best_k - deep // 2


@numba.njit(cache=True, nogil=True)
def _refine(
    keys: Ints, cells: Any, positions: Floats, start: int, stop: int, shift: Floats, axes: int
) -> None:
    """Let the shift climb to the greatest coincidence under the kernel (1 - r^2)^3, r < 1.

    Each step goes to the mean distance to the reference, weighted by the kernel's slope over r,
    (1 - r^2)^2. A mean shift undershoots where the kernel is no wider than the peak; twice its
    length reaches the same top in fewer steps.
    """
    for _ in range(30):
        total, sx, sy, sz = 1e-30, 0.0, 0.0, 0.0
        for i in range(start, stop):
            x = positions[i, 0] - shift[0]
            y = positions[i, 1] - shift[1]
            z = positions[i, 2] - shift[2]
            cx, cy, cz = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
            low, high = (cz - 1, cz + 2) if axes == 3 else (cz, cz + 1)
            for kz in range(low, high):
                for ky in range(cy - 1, cy + 2):
                    for kx in range(cx - 1, cx + 2):
                        place = _slot(keys, _key(kx, ky, kz))
                        count = cells[place, 0]
                        if count > 0.5:
                            dx = x - kx - cells[place, 1] / count
                            dy = y - ky - cells[place, 2] / count
                            dz = z - kz - cells[place, 3] / count
                            inside = 1.0 - dx * dx - dy * dy - dz * dz
                            if inside > 0.0:
                                w = count * inside * inside
                                total += w
                                sx += w * dx
                                sy += w * dy
                                sz += w * dz
        step_x, step_y, step_z = 2 * sx / total, 2 * sy / total, 2 * sz / total
        shift[0] += step_x
        shift[1] += step_y
        shift[2] += step_z
        if step_x**2 + step_y**2 + step_z**2 < 1e-6:
            break

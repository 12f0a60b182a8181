"""What a sharp-edged contact does to heights: grey dilation by the tip, and erosion, its reverse.

A tip t(u) <= 0 is minus the height of its own surface over its apex, at the offset u from the apex.
Lowered onto a surface s with its apex over x it is stopped at

    image(x) = max_u [ s(x + u) + t(u) ],

the dilation; from an image, no surface that can have made it lies above

    r(x) = min_u [ image(x - u) - t(u) ],

the erosion (J. S. Villarrubia, J. Res. Natl. Inst. Stand. Technol. 102 (1997) 425). Both are
exact for the samples given, whatever the tip: even or odd, larger than the map, with gaps (-inf).
Offsets where the tip lies deeper than the map is high can't decide, and are left out.

Beyond its edges a surface goes on as its outermost samples do. Beyond the edges of an image nothing
is known, so nothing there bounds the erosion; for tips that fall along rows and columns from the
apex outwards that is the same as an image that goes on as its outermost samples do.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]


def dilate(heights: npt.ArrayLike, tip_heights: npt.ArrayLike, apex: tuple[int, int]) -> Floats:
    """Return the image of a surface, the height of the apex where the tip first touches.

    Parameters
    ----------
    heights : (ny, nx)
        Of the surface, finite, any unit of length.
    tip_heights : (rows, columns)
        t(u) <= 0 in the same unit and on the same grid; -inf where there is no tip.
    apex : (row, column)
        The sample of the tip that is its apex; t is 0 there.

    Returns
    -------
    (ny, nx)
        Float64. One thread, without Python's global lock.

    Raises
    ------
    ValueError
        Arrays aren't two-dimensional or are empty, heights aren't finite, the tip rises above its
        apex or holds NaN, or the apex lies outside of it or isn't 0.
    """
    surface = checked_heights(heights)
    return dilate_rows(surface, tip_heights, apex, 0, len(surface))


def dilate_rows(
    heights: npt.ArrayLike,
    tip_heights: npt.ArrayLike,
    apex: tuple[int, int],
    row0: int,
    row1: int,
) -> Floats:
    """Return rows row0 to row1 - 1 of the image, as :func:`dilate`; only what they need is read.

    Raises
    ------
    ValueError
        As :func:`dilate`, or the rows aren't there.
    """
    surface, top, tip = _reached(heights, tip_heights, apex, row0, row1)
    padded = _continued(surface, tip, "edge")[row0 - top : row1 - top + len(tip.heights) - 1]
    return np.asarray(_maxima(padded, tip.heights, tip.first, tip.end))


def dilate_tracked(
    heights: npt.ArrayLike, tip_heights: npt.ArrayLike, apex: tuple[int, int]
) -> tuple[Floats, Ints, Ints]:
    """Return the image as :func:`dilate`, and the row and column of the sample that is touched.

    Where several are touched at once it is the one under the apex, else the first by rows. Where
    the surface is touched beyond an edge it is the outermost sample whose height it has there.

    Returns
    -------
    image, contact_row, contact_col : (ny, nx)
        Float64 and twice int32.

    Raises
    ------
    ValueError
        As :func:`dilate`.
    """
    surface = checked_heights(heights)
    return dilate_rows_tracked(surface, tip_heights, apex, 0, len(surface))


def dilate_rows_tracked(
    heights: npt.ArrayLike,
    tip_heights: npt.ArrayLike,
    apex: tuple[int, int],
    row0: int,
    row1: int,
) -> tuple[Floats, Ints, Ints]:
    """Return rows row0 to row1 - 1 of what :func:`dilate_tracked` gives.

    Raises
    ------
    ValueError
        As :func:`dilate_rows`.
    """
    surface, top, tip = _reached(heights, tip_heights, apex, row0, row1)
    padded = _continued(surface, tip, "edge")[row0 - top : row1 - top + len(tip.heights) - 1]
    image, touched = _tracked_maxima(padded, tip.heights, tip.first, tip.end, *tip.apex)
    down, right = np.divmod(touched, tip.heights.shape[1])
    (ny, nx) = np.shape(heights)
    row = np.arange(row0, row1, dtype=np.int32)[:, None] + down - np.int32(tip.apex[0])
    column = np.arange(nx, dtype=np.int32) + right - np.int32(tip.apex[1])
    return np.asarray(image), np.clip(row, 0, ny - 1), np.clip(column, 0, nx - 1)


def erode(image: npt.ArrayLike, tip_heights: npt.ArrayLike, apex: tuple[int, int]) -> Floats:
    """Return the highest surface that can lie under an image taken with this tip.

    It is the surface where the tip touched, and above it elsewhere. Parameters, result and
    errors as :func:`dilate`'s.
    """
    heights = checked_heights(image)
    tip = cropped_tip(tip_heights, apex, _relief(heights))
    (row, column), (ny, nx) = tip.apex, heights.shape
    return erode_beyond(heights, tip)[row : row + ny, column : column + nx].copy()


class CroppedTip(NamedTuple):
    """A tip without what lies too deep to touch.

    Attributes
    ----------
    heights : (rows, columns)
        t(u) <= 0.
    apex : (row, column)
        Where t is 0.
    first, end : (rows,)
        In each row, the first column that may touch, and one after the last.
    """

    heights: Floats
    apex: tuple[int, int]
    first: npt.NDArray[np.intp]
    end: npt.NDArray[np.intp]

    def reflected(self) -> CroppedTip:
        """Return t(-u)."""
        rows, columns = self.heights.shape
        apex = (rows - 1 - self.apex[0], columns - 1 - self.apex[1])
        heights = np.ascontiguousarray(self.heights[::-1, ::-1])
        return CroppedTip(heights, apex, columns - self.end[::-1], columns - self.first[::-1])


def cropped_tip(
    tip_heights: npt.ArrayLike, apex: tuple[int, int], depth: float = np.inf
) -> CroppedTip:
    """Return a tip, checked, without rows and columns that lie wholly deeper than `depth`.

    Raises
    ------
    ValueError
        The tip is no tip, see :func:`dilate`.
    """
    tip = _as_map(tip_heights, "a tip")
    row, column = apex
    if not (0 <= row < tip.shape[0] and 0 <= column < tip.shape[1]):
        raise ValueError(f"the apex {(row, column)} lies outside of the tip of shape {tip.shape}")
    if not np.all(tip <= 0):
        raise ValueError("no sample of a tip may be NaN or higher than its apex, which is 0")
    if tip[row, column] != 0:
        raise ValueError(f"a tip is 0 at its apex; at {(row, column)} it is {tip[row, column]:g}")
    near = (tip >= -np.nextafter(depth, np.inf)) & (tip > -np.inf)
    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    near = near[box]
    used = near.any(axis=1)
    first = np.where(used, near.argmax(axis=1), 0)
    end = np.where(used, near.shape[1] - near[:, ::-1].argmax(axis=1), 0)
    at = (int(row - rows[0]), int(column - columns[0]))
    return CroppedTip(np.ascontiguousarray(tip[box]), at, first, end)


def checked_heights(heights: npt.ArrayLike, name: str = "heights") -> Floats:
    """Return heights as float64.

    Raises
    ------
    ValueError
        They aren't a finite map of two dimensions with at least one sample.
    """
    checked = _as_map(heights, name)
    if not np.isfinite(checked).all():
        raise ValueError(f"{name} must be finite; fill or cut away what isn't before")
    return checked


def erode_beyond(image: Floats, tip: CroppedTip) -> Floats:
    """Return the erosion wherever the tip reached, (ny + rows - 1, nx + columns - 1).

    Sample [i, j] lies over row i - apex row, column j - apex column of the image. It is +inf
    where no sample of the tip has been.
    """
    rows, columns = tip.heights.shape
    upside_down = np.pad(-image, ((rows - 1,) * 2, (columns - 1,) * 2), constant_values=-np.inf)
    mirrored = tip.reflected()
    return -np.asarray(_maxima(upside_down, mirrored.heights, mirrored.first, mirrored.end))


def _as_map(values: npt.ArrayLike, name: str) -> Floats:
    """Return a map as float64, if it is one."""
    array = np.asarray(values, np.float64)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"{name} must be a map of two dimensions, not of shape {array.shape}")
    return array


def _relief(heights: Floats) -> float:
    """Return the height of the highest sample over the lowest."""
    return float(heights.max() - heights.min())


def _reached(
    heights: npt.ArrayLike, tip_heights: npt.ArrayLike, apex: tuple[int, int], row0: int, row1: int
) -> tuple[Floats, int, CroppedTip]:
    """Return the part of the surface that decides some rows, its first row, and the tip."""
    surface = _as_map(heights, "heights")
    if not 0 <= row0 < row1 <= len(surface):
        raise ValueError(f"rows {row0} to {row1} aren't within the map's {len(surface)}")
    whole = cropped_tip(tip_heights, apex)
    above, below = whole.apex[0], len(whole.heights) - 1 - whole.apex[0]
    top = max(row0 - above, 0)
    part = checked_heights(surface[top : row1 + below])
    return part, top, cropped_tip(whole.heights, whole.apex, _relief(part))


def _continued(surface: Floats, tip: CroppedTip, mode: Any) -> Floats:
    """Return a surface continued as far as the tip reaches from its outermost samples."""
    (rows, columns), (row, column) = tip.heights.shape, tip.apex
    return np.pad(surface, ((row, rows - 1 - row), (column, columns - 1 - column)), mode)


@numba.njit(cache=True, nogil=True)
def _maxima(padded: Any, tip: Any, first: Any, end: Any) -> Any:
    """Return max_u [padded(x + u) + t(u)]; u counts from the first sample of the tip.

    Four offsets a pass: each result is read and written a quarter as often, and the innermost
    loop runs along memory, as vector instructions do.
    """
    ny, nx = padded.shape[0] - tip.shape[0] + 1, padded.shape[1] - tip.shape[1] + 1
    out = np.full((ny, nx), -np.inf)
    for i in range(ny):
        best = out[i]
        for dy in range(tip.shape[0]):
            t, dx = tip[dy], first[dy]
            while dx + 4 <= end[dy]:
                t0, t1, t2, t3 = t[dx], t[dx + 1], t[dx + 2], t[dx + 3]
                s = padded[i + dy, dx : dx + nx + 3]
                for j in range(nx):
                    a, b = s[j] + t0, s[j + 1] + t1
                    c, d = s[j + 2] + t2, s[j + 3] + t3
                    a = b if b > a else a
                    c = d if d > c else c
                    a = c if c > a else a
                    best[j] = a if a > best[j] else best[j]
                dx += 4
            for k in range(dx, end[dy]):
                s = padded[i + dy, k : k + nx]
                for j in range(nx):
                    a = s[j] + t[k]
                    best[j] = a if a > best[j] else best[j]
    return out


@numba.njit(cache=True, nogil=True)
def _tracked_maxima(
    padded: Any, tip: Any, first: Any, end: Any, row: int, column: int
) -> tuple[Any, Any]:
    """Return the same, and the sample of the tip that touches, counted by rows."""
    ny, nx = padded.shape[0] - tip.shape[0] + 1, padded.shape[1] - tip.shape[1] + 1
    out = padded[row : row + ny, column : column + nx].copy()
    touching = np.full((ny, nx), row * tip.shape[1] + column, np.int32)
    where = np.empty(nx, np.int64)
    for i in range(ny):
        best = out[i]
        where[:] = row * tip.shape[1] + column
        for dy in range(tip.shape[0]):
            for dx in range(first[dy], end[dy]):
                t, u = tip[dy, dx], np.int64(dy * tip.shape[1] + dx)
                s = padded[i + dy, dx : dx + nx]
                for j in range(nx):
                    a = s[j] + t
                    higher = a > best[j]
                    best[j] = a if higher else best[j]
                    where[j] = u if higher else where[j]
        touching[i] = where
    return out, touching

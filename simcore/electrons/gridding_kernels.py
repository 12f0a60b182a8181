"""Compiled inner loops of the non-uniform Fourier transform in `gridding`.

All of them live in this one file because numba's cache does not notice an edited callee in another.
They release Python's lock.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

WIDTH = 10  # of the bump that stands for an atom, pixels


@numba.njit(cache=True, nogil=True, fastmath=True)
def bumps(offset: Array, polynomials: Array, values: Array) -> None:
    """Evaluate the bumps of n atoms along one axis, at the WIDTH samples that each one reaches.

    Parameters
    ----------
    offset : (n,) real
        Where the first of these samples lies in its pixel, -1 ... 1.
    polynomials : (degree + 1, WIDTH) real
        Coefficients of the bump at each sample as a polynomial of `offset`, highest power first.
    values : (n, WIDTH) real
        Result.
    """
    for atom in range(len(offset)):
        t = offset[atom]
        value = values[atom]
        for i in range(WIDTH):
            value[i] = polynomials[0, i]
        for power in range(1, len(polynomials)):
            for i in range(WIDTH):
                value[i] = value[i] * t + polynomials[power, i]


@numba.njit(cache=True, nogil=True, fastmath=True)
def spread(
    rows: Array,
    start: int,
    count: int,
    ny: int,
    first_y: Array,
    first_x: Array,
    along_y: Array,
    along_x: Array,
    weight: Array,
) -> bool:
    """Fill some rows of the periodic grid with the weighted bumps of atoms.

    Parameters
    ----------
    rows : (b, nx) real
        Rows start ... start + count of the grid of `ny` rows; overwritten.
    first_y : (n,) int
        Row in which each bump begins, 0 ... ny - 1, ascending.
    first_x : (n,) int
        Column in which it begins, 0 ... nx - 1.
    along_y, along_x : (n, WIDTH) real
        The bump along both axes.
    weight : (n,) real

    Returns
    -------
    bool
        Whether any atom reaches these rows; if not, `rows` is left as it was.
    """
    nx = rows.shape[1]
    empty = True
    for lap in range(2):  # bumps that begin in the last rows go on in the first ones
        top = start + lap * ny
        for atom in range(
            np.searchsorted(first_y, top - WIDTH + 1), np.searchsorted(first_y, top + count)
        ):
            if weight[atom] == 0:
                continue
            if empty:
                rows[:count] = 0
                empty = False
            y0 = first_y[atom] - top
            x0 = first_x[atom]
            for i in range(max(0, -y0), min(WIDTH, count - y0)):
                height = weight[atom] * along_y[atom, i]
                if x0 + WIDTH <= nx:
                    target = rows[y0 + i, x0 : x0 + WIDTH]
                    for j in range(WIDTH):
                        target[j] += height * along_x[atom, j]
                else:
                    for j in range(WIDTH):
                        rows[y0 + i, (x0 + j) % nx] += height * along_x[atom, j]
    return not empty


@numba.njit(cache=True, nogil=True)
def store_rows(rows: Array, start: int, count: int, half: Array, m: int) -> None:
    """Copy the first m columns of `rows` (b, >= m) to rows start ... of `half` (blocks, ny, c).

    `half` is a half transformed array (ny, m), cut into blocks of c columns, so that a block of
    columns is read from memory in one go.
    """
    width = half.shape[2]
    for block in range(half.shape[0]):
        first = block * width
        for r in range(count):
            for c in range(min(width, m - first)):
                half[block, start + r, c] = rows[r, first + c]


@numba.njit(cache=True, nogil=True)
def load_rows(half: Array, start: int, count: int, rows: Array, m: int) -> None:
    """Undo `store_rows`; the columns of `rows` from m on are set to zero."""
    width = half.shape[2]
    for r in range(count):
        rows[r, m:] = 0
        for block in range(half.shape[0]):
            first = block * width
            for c in range(min(width, m - first)):
                rows[r, first + c] = half[block, start + r, c]


@numba.njit(cache=True, nogil=True)
def gather_columns(block: Array, count: int, columns: Array) -> None:
    """Copy the first columns of `block` (ny, c) to the rows of `columns` (b, >= ny)."""
    for y in range(block.shape[0]):
        for c in range(count):
            columns[c, y] = block[y, c]


@numba.njit(cache=True, nogil=True)
def scatter_columns(columns: Array, count: int, block: Array) -> None:
    """Undo `gather_columns`."""
    for y in range(block.shape[0]):
        for c in range(count):
            block[y, c] = columns[c, y]


@numba.njit(cache=True, nogil=True)
def add_filtered(total: Array, columns: Array, count: int, scale: Array, start: int) -> None:
    """Add ``columns * scale`` to `total`, both (b, >= n) complex; `scale` (m, n) is real."""
    for c in range(count):
        for y in range(scale.shape[1]):
            total[c, y] += columns[c, y] * scale[start + c, y]


@numba.njit(cache=True, nogil=True)
def slab_weights(
    front: Array, back: Array, element: Array, reach: Array, table: Array, weights: Array
) -> None:
    """Weights of n atoms in a slab, of the finite projection.

    Parameters
    ----------
    front, back : (n,) float64
        Depths of the slab's two faces, seen from each atom.
    element : (n,) int
        Row of `reach` and `table` for each atom.
    reach : (e,) float64
        Beyond this distance from its nucleus an atom's potential is left out.
    table : (e, points + 1, terms) float64
        Weights of that part of an atom that lies behind a plane, for planes at distances
        reach (j / points)^2 behind the nucleus. Term 0 is the atom itself: 1 is all of it.
    weights : (elements + terms - 1, n) real
        Result: term 0 in the row of the atom's element, the others in the last rows.
    """
    elements, terms = len(reach), table.shape[2]
    weights[:] = 0
    for atom in range(len(front)):
        e = element[atom]
        whole0, part0, j0, t0 = _behind(front[atom], reach[e], table.shape[1] - 1)
        whole1, part1, j1, t1 = _behind(back[atom], reach[e], table.shape[1] - 1)
        for r in range(terms):
            share0 = part0 * ((1 - t0) * table[e, j0, r] + t0 * table[e, j0 + 1, r])
            share1 = part1 * ((1 - t1) * table[e, j1, r] + t1 * table[e, j1 + 1, r])
            if r == 0:
                weights[e, atom] = (whole0 + share0) - (whole1 + share1)
            else:
                weights[elements + r - 1, atom] = share0 - share1


@numba.njit(cache=True, nogil=True)
def _behind(z: float, reach: float, points: int) -> tuple[float, float, int, float]:
    """Say what of an atom lies behind a plane: so much of it all, plus or minus a table's entry.

    The entry lies between points j and j + 1 of the table, at fraction t.
    """
    if abs(z) >= reach:
        return (1.0 if z < 0 else 0.0), 0.0, 0, 0.0
    at = points * np.sqrt(abs(z) / reach)
    j = min(int(at), points - 1)
    if z < 0:  # all but what lies before the plane
        return 1.0, -1.0, j, at - j
    return 0.0, 1.0, j, at - j

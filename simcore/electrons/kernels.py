"""Compiled inner loops of the projected potential and of the multislice.

A two-dimensional transform is done here as batches of one-dimensional ones on buffers that stay in
the processor's cache: a few *rows* (lines of constant y, x running) or a few *columns* at a time.
Between the two, the field is *half transformed*: an array (ny, mx) over real-space y and the kept
frequencies kx, in FFT order. These loops move data between that array and the buffers and do, on
the way, all that multislice does to a wave, so that no pass over memory is spent on arithmetic.

All compiled functions live in this one file because numba's cache does not notice an edited
callee in another.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# Everything IEEE rounding allows except reassociation, which would undo the exact
# argument reduction in `_transmit_float32`.
_FAST = {"nnan", "ninf", "nsz", "arcp", "contract"}

# Sine and cosine on [-pi/4, pi/4]: S. Moshier, Cephes Math Library, sinf.c (1992).
_S1, _S2, _S3 = (
    np.float32(-1.6666654611e-1),
    np.float32(8.3321608736e-3),
    np.float32(-1.9515295891e-4),
)
_C1, _C2, _C3 = (
    np.float32(4.166664568298827e-2),
    np.float32(-1.388731625493765e-3),
    np.float32(2.443315711809948e-5),
)
# pi/2 in three parts, the first two with so few bits that their multiples are exact.
_P1, _P2, _P3 = (
    np.float32(1.5703125),
    np.float32(4.837512969970703e-4),
    np.float32(7.549789954891882e-8),
)
_TWO_OVER_PI = np.float32(0.6366197723675814)
_ROUND = np.float32(12582912.0)  # 1.5 * 2^23: adding and subtracting it rounds to an integer
_HALF, _ONE, _ZERO = np.float32(0.5), np.float32(1.0), np.float32(0.0)


# ---- spreading atoms onto the grid -------------------------------------------------------------


@numba.njit(cache=True)
def spread(density: Array, touched: Array, y: Array, x: Array, width: int, beta: float) -> None:
    """Add one exponential-of-semicircle bump per atom to a periodic grid.

    Parameters
    ----------
    density : (ny, nx) real
        Added to in place.
    touched : (ny,) bool
        Set where a row receives something.
    y, x : (n,) float64
        Positions in pixels, any real number (the grid is periodic).
    width : int
        Width of the bump in pixels.
    beta : float
        Its shape: exp(beta (sqrt(1 - z^2) - 1)) with z = offset / (width / 2).
    """
    ny, nx = density.shape
    wy, wx = np.empty(width), np.empty(width)
    columns = np.empty(width, np.int64)
    for atom in range(len(y)):
        first_y = int(np.ceil(y[atom] - 0.5 * width))
        first_x = int(np.ceil(x[atom] - 0.5 * width))
        for i in range(width):
            zy = (first_y + i - y[atom]) * 2.0 / width
            zx = (first_x + i - x[atom]) * 2.0 / width
            wy[i] = np.exp(beta * (np.sqrt(max(0.0, 1.0 - zy * zy)) - 1.0))
            wx[i] = np.exp(beta * (np.sqrt(max(0.0, 1.0 - zx * zx)) - 1.0))
            columns[i] = (first_x + i) % nx
        for i in range(width):
            row = (first_y + i) % ny
            touched[row] = True
            for j in range(width):
                density[row, columns[j]] += wy[i] * wx[j]


# ---- between the half transformed array and the buffers ----------------------------------------


@numba.njit(cache=True)
def gather_columns(half: Array, start: int, count: int, columns: Array) -> None:
    """Copy columns start ... start + count of `half` (n, m) to the rows of `columns` (b, >= n)."""
    for y in range(half.shape[0]):
        for c in range(count):
            columns[c, y] = half[y, start + c]


@numba.njit(cache=True)
def scatter_columns(columns: Array, start: int, count: int, half: Array) -> None:
    """Undo `gather_columns`."""
    for y in range(half.shape[0]):
        for c in range(count):
            half[y, start + c] = columns[c, y]


@numba.njit(cache=True)
def widen_columns(wave: Array, order: int, start: int, count: int, columns: Array, n: int) -> None:
    """As `gather_columns` from fewer rows: harmonics 0 ... order and -order ... -1 of n points."""
    m = wave.shape[0]
    columns[:] = 0
    for y in range(order + 1):
        for c in range(count):
            columns[c, y] = wave[y, start + c]
    for y in range(1, order + 1):
        for c in range(count):
            columns[c, n - y] = wave[m - y, start + c]


@numba.njit(cache=True)
def narrow_columns(columns: Array, n: int, order: int, start: int, count: int, wave: Array) -> None:
    """Undo `widen_columns`."""
    m = wave.shape[0]
    for y in range(order + 1):
        for c in range(count):
            wave[y, start + c] = columns[c, y]
    for y in range(1, order + 1):
        for c in range(count):
            wave[m - y, start + c] = columns[c, n - y]


@numba.njit(cache=True)
def widen_rows(half: Array, order: int, start: int, count: int, rows: Array) -> None:
    """Copy rows of `half`, (n, m) with harmonics |j| <= order, to `rows` (b, nx), zero between."""
    m, nx = half.shape[1], rows.shape[1]
    for r in range(count):
        rows[r, : order + 1] = half[start + r, : order + 1]
        rows[r, order + 1 : nx - order] = 0
        rows[r, nx - order :] = half[start + r, m - order :]


@numba.njit(cache=True, fastmath=True)
def narrow_rows(rows: Array, order: int, start: int, count: int, half: Array) -> float:
    """Copy back the harmonics |j| <= order; return the summed |psi|^2 of those left behind."""
    m, nx = half.shape[1], rows.shape[1]
    lost: float = 0.0
    for r in range(count):
        half[start + r, : order + 1] = rows[r, : order + 1]
        half[start + r, m - order :] = rows[r, nx - order :]
        row_lost: Any = _ZERO
        for j in range(order + 1, nx - order):
            value = rows[r, j]
            row_lost += value.real * value.real + value.imag * value.imag
        lost += row_lost
    return lost


# ---- what a slice does to the wave -------------------------------------------------------------


def transmit(rows: Array, start: int, count: int, transmission: Array, sigma: float) -> None:
    """Multiply rows of psi(y, x) with the transmission function of a slice.

    Parameters
    ----------
    rows : (b, nx) complex
        Rows start ... start + count of the wave; changed in place.
    transmission : (ny, nx)
        Complex: the transmission function itself. Real: the projected potential V in V Å, and the
        transmission function is exp(i sigma V).
    sigma : float
        Interaction constant, rad/(V Å).
    """
    if np.iscomplexobj(transmission):
        _transmit_complex(rows, start, count, transmission)
    elif rows.dtype == np.complex64:
        _transmit_float32(rows.view(np.float32), start, count, transmission, np.float32(sigma))
    else:
        _transmit_float64(rows, start, count, transmission, sigma)


@numba.njit(cache=True)
def _transmit_complex(rows: Array, start: int, count: int, transmission: Array) -> None:
    for r in range(count):
        for x in range(rows.shape[1]):
            rows[r, x] *= transmission[start + r, x]


@numba.njit(cache=True)
def _transmit_float64(rows: Array, start: int, count: int, potential: Array, sigma: float) -> None:
    for r in range(count):
        for x in range(rows.shape[1]):
            phase = sigma * potential[start + r, x]
            rows[r, x] *= complex(np.cos(phase), np.sin(phase))


@numba.njit(cache=True, fastmath=_FAST)
def _transmit_float32(
    rows: Array, start: int, count: int, potential: Array, sigma: np.float32
) -> None:
    """Multiply `rows`, viewed as (re, im) pairs, with exp(i sigma V): no branches, so vectorised.

    The error of exp(i phase) is below 2e-7 and |t|^2 is 1 on average to 1e-9.
    """
    for r in range(count):
        for x in range(potential.shape[1]):
            phase = sigma * potential[start + r, x]
            turns = phase * _TWO_OVER_PI + _ROUND
            turns = turns - _ROUND
            quadrant = np.int32(turns)
            a = ((phase - turns * _P1) - turns * _P2) - turns * _P3
            z = a * a
            sin = a + a * z * (_S1 + z * (_S2 + z * _S3))
            cos = _ONE - _HALF * z + z * z * (_C1 + z * (_C2 + z * _C3))
            swap = (quadrant & np.int32(1)) != 0
            s = cos if swap else sin
            c = sin if swap else cos
            s = -s if (quadrant & np.int32(2)) != 0 else s
            c = -c if ((quadrant + np.int32(1)) & np.int32(2)) != 0 else c
            re, im = rows[r, 2 * x], rows[r, 2 * x + 1]
            rows[r, 2 * x] = re * c - im * s
            rows[r, 2 * x + 1] = re * s + im * c


@numba.njit(cache=True, fastmath=True)
def fresnel_columns(
    columns: Array,
    start: int,
    count: int,
    heights: Array,
    propagator_y: Array,
    propagator_x: Array,
) -> float:
    """Cut fully transformed columns to the disk and multiply them with the Fresnel propagator.

    Parameters
    ----------
    columns : (b, >= n) complex
        psi(kx, ky) for kx of index start ... start + count; changed in place.
    heights : (m,) int
        For each kx the largest |harmonic| along y inside the disk; -1 where there is none.
    propagator_y : (n,) complex128
        Propagator along y, times the scale of the transforms.
    propagator_x : (m,) complex128
        Propagator along x. (The phase of a Fresnel propagator is a sum over the two axes.)

    Returns
    -------
    lost : float
        Summed |psi|^2 of what lay outside the disk, before scaling.

    Notes
    -----
    The product is formed in double precision: a scale rounded to single precision would change the
    intensity of every wave by the same 1e-7 in every slice.
    """
    n = len(propagator_y)
    lost: float = 0.0
    for c in range(count):
        height = heights[start + c]
        px = propagator_x[start + c]
        for y in range(height + 1):
            columns[c, y] = columns[c, y] * (propagator_y[y] * px)
        outside: Any = _ZERO
        for y in range(height + 1, min(n - height, n)):
            value = columns[c, y]
            outside += value.real * value.real + value.imag * value.imag
            columns[c, y] = 0
        for y in range(max(height + 1, n - height), n):
            columns[c, y] = columns[c, y] * (propagator_y[y] * px)
        lost += outside
    return lost


@numba.njit(cache=True)
def add_filtered(total: Array, columns: Array, count: int, scale: Array, start: int) -> None:
    """Add ``columns * scale`` to `total`, both (b, >= n) complex; `scale` (m, n) is real."""
    for c in range(count):
        for y in range(scale.shape[1]):
            total[c, y] += columns[c, y] * scale[start + c, y]

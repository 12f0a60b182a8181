"""Compiled inner loops of the multislice: what a slice and free space do to a wave.

A two-dimensional transform is done here as batches of one-dimensional ones on buffers that stay in
the processor's cache: a few *rows* (lines of constant y, x running) or a few *columns* at a time.
Between the two, the field is *half transformed*: an array (ny, mx) over real-space y and the kept
frequencies kx, in FFT order. These loops move data between that array and the buffers and do, on
the way, all that multislice does to a wave, so that no pass over memory is spent on arithmetic.
They release Python's lock: several waves may be under way in as many threads.

All of these compiled functions live in one file because numba's cache does not notice an edited
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


@numba.njit(cache=True, nogil=True, fastmath=True)
def _square_sum(line: Array) -> Any:
    """Return the sum of squares; one contiguous line, so that the compiler vectorises it."""
    total: Any = _ZERO
    for i in range(len(line)):
        total += line[i] * line[i]
    return total


@numba.njit(cache=True, nogil=True, fastmath=True)
def _erase(line: Array) -> Any:
    """Set a line to zero and return its sum of squares."""
    total = _square_sum(line)
    line[:] = 0
    return total


# ---- between the half transformed array and the buffers ----------------------------------------


@numba.njit(cache=True, nogil=True)
def gather_columns(half: Array, start: int, count: int, columns: Array) -> None:
    """Copy columns start ... start + count of `half` (n, m) to the rows of `columns` (b, >= n)."""
    for y in range(half.shape[0]):
        for c in range(count):
            columns[c, y] = half[y, start + c]


@numba.njit(cache=True, nogil=True)
def scatter_columns(columns: Array, start: int, count: int, half: Array) -> None:
    """Undo `gather_columns`."""
    for y in range(half.shape[0]):
        for c in range(count):
            half[y, start + c] = columns[c, y]


@numba.njit(cache=True, nogil=True)
def widen_columns(wave: Array, start: int, count: int, columns: Array, n: int) -> None:
    """As `gather_columns` from the 2 h + 1 harmonics of a wave, -h ... h, to n points."""
    m = wave.shape[0]
    order = m // 2
    columns[:] = 0
    for y in range(order + 1):
        for c in range(count):
            columns[c, y] = wave[y, start + c]
    for y in range(1, order + 1):
        for c in range(count):
            columns[c, n - y] = wave[m - y, start + c]


@numba.njit(cache=True, nogil=True)
def narrow_columns(columns: Array, n: int, start: int, count: int, wave: Array) -> None:
    """Undo `widen_columns`."""
    m = wave.shape[0]
    order = m // 2
    for y in range(order + 1):
        for c in range(count):
            wave[y, start + c] = columns[c, y]
    for y in range(1, order + 1):
        for c in range(count):
            wave[m - y, start + c] = columns[c, n - y]


@numba.njit(cache=True, nogil=True)
def widen_rows(half: Array, start: int, count: int, rows: Array) -> None:
    """Copy rows of `half`, (n, 2 h + 1) with harmonics -h ... h, to `rows` (b, nx), 0 between."""
    m, nx = half.shape[1], rows.shape[1]
    order = m // 2
    for r in range(count):
        rows[r, : order + 1] = half[start + r, : order + 1]
        rows[r, order + 1 : nx - order] = 0
        rows[r, nx - order :] = half[start + r, order + 1 :]


def narrow_rows(rows: Array, start: int, count: int, half: Array) -> float:
    """Copy back the harmonics -h ... h; return the summed |psi|^2 of those left behind."""
    real = rows.real.dtype
    lost: float = _narrow_rows(rows.view(real), start, count, half.view(real))
    return lost


@numba.njit(cache=True, nogil=True, fastmath=True)
def _narrow_rows(rows: Array, start: int, count: int, half: Array) -> float:
    m, nx = half.shape[1], rows.shape[1]
    positive = m // 2 + 1  # twice the number of harmonics 0 ... h
    negative = m - positive
    lost: float = 0.0
    for r in range(count):
        half[start + r, :positive] = rows[r, :positive]
        half[start + r, positive:] = rows[r, nx - negative :]
        lost += _square_sum(rows[r, positive : nx - negative])
    return lost


# ---- what a slice sees of the wave -------------------------------------------------------------


def weigh_rows(rows: Array, start: int, count: int, maps: Array, sums: Array) -> None:
    """Add up |psi(y, x)|^2 of some rows under several maps.

    Parameters
    ----------
    rows : (b, nx) complex
        Rows start ... start + count of the wave.
    maps : (c, ny, nx)
        Weights, of the rows' real type.
    sums : (c,) float64
        What is found is added.
    """
    _weigh_rows(rows.view(rows.real.dtype), start, count, maps, sums)


@numba.njit(cache=True, nogil=True, fastmath=True)
def _weighted_sum(line: Array, weights: Array) -> Any:
    """Return the weighted sum of one contiguous line, so that the compiler vectorises it."""
    total: Any = _ZERO
    for i in range(len(line)):
        total += line[i] * weights[i]
    return total


@numba.njit(cache=True, nogil=True, fastmath=True)
def _weigh_rows(pairs: Array, start: int, count: int, maps: Array, sums: Array) -> None:
    nx = maps.shape[2]
    intensity = np.empty(nx, pairs.dtype)
    for r in range(count):
        line = pairs[r]
        for x in range(nx):
            intensity[x] = line[2 * x] * line[2 * x] + line[2 * x + 1] * line[2 * x + 1]
        for c in range(len(maps)):
            sums[c] += _weighted_sum(intensity, maps[c, start + r])


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


def phase_factors(potential: Array, sigma: float, factors: Array) -> None:
    """Write exp(i sigma V) of a real potential (ny, nx) to a complex array of the same shape."""
    factors[...] = 1
    transmit(factors, 0, len(factors), potential.astype(factors.real.dtype, copy=False), sigma)


@numba.njit(cache=True, nogil=True)
def _transmit_complex(rows: Array, start: int, count: int, transmission: Array) -> None:
    for r in range(count):
        for x in range(rows.shape[1]):
            rows[r, x] *= transmission[start + r, x]


@numba.njit(cache=True, nogil=True)
def _transmit_float64(rows: Array, start: int, count: int, potential: Array, sigma: float) -> None:
    for r in range(count):
        for x in range(rows.shape[1]):
            phase = sigma * potential[start + r, x]
            rows[r, x] *= complex(np.cos(phase), np.sin(phase))


@numba.njit(cache=True, nogil=True, fastmath=_FAST)
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


# ---- what free space does to the wave ----------------------------------------------------------


def fresnel_columns(
    columns: Array,
    start: int,
    count: int,
    lowest: Array,
    highest: Array,
    along_y: Array,
    along_x: Array,
    twist: Array,
) -> float:
    """Cut fully transformed columns to the disk and multiply them with the Fresnel propagator.

    Parameters
    ----------
    columns : (b, >= n) complex
        psi(kx, ky) for kx of index start ... start + count; changed in place.
    lowest, highest : (m,) int
        For each kx the range of harmonics along y inside the disk; empty if highest < lowest.
    along_y : (n,) complex
        Propagator along y.
    along_x : (m,) complex
        Propagator along x, times the scale of the transforms. (The phase of a Fresnel propagator
        is a sum over the two axes.)
    twist : (m,) complex128, or empty
        In a sheared cell: factor by which the propagator along y turns from one harmonic to the
        next, for each kx.

    Returns
    -------
    lost : float
        Summed |psi|^2 of what lay outside the disk, before scaling.

    Notes
    -----
    The scale stands beside the changing phases of `along_x`, whose rounding errors average out:
    rounded alone it would change the intensity of every wave by the same 1e-7 in every slice.
    """
    real = columns.real.dtype
    # Complex numbers as (re, im) pairs of real ones: the compiler vectorises those better.
    lost: float = _cut_columns(columns.view(real), start, count, lowest, highest, len(along_y))
    if len(twist):
        _twist_columns(columns, start, count, lowest, highest, along_y, along_x, twist)
    else:
        _turn_columns(
            columns.view(real),
            start,
            count,
            lowest,
            highest,
            along_y.view(real),
            along_x.view(real),
        )
    return lost


@numba.njit(cache=True, nogil=True, fastmath=True)
def _cut_columns(
    pairs: Array, start: int, count: int, lowest: Array, highest: Array, n: int
) -> float:
    """Set to zero what lies outside the disk and return its summed |psi|^2."""
    lost: float = 0.0
    for c in range(count):
        low, high = lowest[start + c], highest[start + c]
        if high < low:
            low, high = 0, -1
        lost += _erase(pairs[c, 2 * max(high + 1, 0) : 2 * min(n + low, n)])
        if low > 0:
            lost += _erase(pairs[c, : 2 * low])
        if high < -1:
            lost += _erase(pairs[c, 2 * (n + high + 1) : 2 * n])
    return lost


@numba.njit(cache=True, nogil=True, fastmath=True)
def _turn(line: Array, along_y: Array, re_x: Any, im_x: Any, first: int, last: int) -> None:
    for y in range(first, last):
        re_y, im_y = along_y[2 * y], along_y[2 * y + 1]
        re_p = re_y * re_x - im_y * im_x
        im_p = re_y * im_x + im_y * re_x
        re, im = line[2 * y], line[2 * y + 1]
        line[2 * y] = re * re_p - im * im_p
        line[2 * y + 1] = re * im_p + im * re_p


@numba.njit(cache=True, nogil=True, fastmath=True)
def _turn_columns(
    pairs: Array,
    start: int,
    count: int,
    lowest: Array,
    highest: Array,
    along_y: Array,
    along_x: Array,
) -> None:
    """Multiply what lies inside the disk with the propagator of a rectangular cell."""
    n = len(along_y) // 2
    for c in range(count):
        low, high = lowest[start + c], highest[start + c]
        re_x, im_x = along_x[2 * (start + c)], along_x[2 * (start + c) + 1]
        _turn(pairs[c], along_y, re_x, im_x, max(low, 0), high + 1)
        _turn(pairs[c], along_y, re_x, im_x, n + low, n + min(high + 1, 0))


@numba.njit(cache=True, nogil=True)
def _twist_columns(
    columns: Array,
    start: int,
    count: int,
    lowest: Array,
    highest: Array,
    along_y: Array,
    along_x: Array,
    twist: Array,
) -> None:
    """Multiply what lies inside the disk with the propagator of a sheared cell."""
    n = len(along_y)
    for c in range(count):
        low, high = lowest[start + c], highest[start + c]
        factor = along_x[start + c] * twist[start + c] ** low
        for harmonic in range(low, high + 1):
            y = harmonic if harmonic >= 0 else n + harmonic
            columns[c, y] *= along_y[y] * factor
            factor *= twist[start + c]


# ---- what a detector sees ----------------------------------------------------------------------


@numba.njit(cache=True, nogil=True)
def weighted_intensities(wave: Array, weights: Array, place: Array, sums: Array) -> None:
    """Add up |psi|^2 under the weights of several detectors.

    Parameters
    ----------
    wave : (p,) complex
        Coefficients of the wave, flattened.
    weights : (d, q) float32
        Weight of each detector at the places it can see.
    place : (q,) int
        Where those lie in `wave`.
    sums : (d,) float64
        Set.
    """
    sums[:] = 0.0
    intensity = np.empty(len(place), np.float64)
    for i in range(len(place)):
        value = wave[place[i]]
        intensity[i] = float(value.real) ** 2 + float(value.imag) ** 2
    for d in range(len(sums)):
        total = 0.0
        for i in range(len(place)):
            total += weights[d, i] * intensity[i]
        sums[d] = total

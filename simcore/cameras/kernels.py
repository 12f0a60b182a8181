"""Compiled inner loops of the cameras: random numbers, exact samplers, and the chains of events.

Everything random comes from a xoshiro256++ generator (D. Blackman & S. Vigna, ACM Trans. Math.
Softw. 47 (2021) 36) whose 256 bits of state come from a numpy Generator: `draw_key`. All kernels
live in this one file because numba's cache does not notice an edited callee in another. They
release Python's lock. Whole frames come as flat arrays, with a `key` for their random numbers.

The samplers are exact at every parameter, to double precision. A Poisson number is the sum of two
or three whose means add up: those with the mean's fours and eighths come from alias tables (A. J.
Walker, ACM Trans. Math. Softw. 3 (1977) 253), the small rest from inversion; above a mean of 128
from transformed rejection (PTRS, W. Hörmann, Insur. Math. Econ. 12 (1993) 39). Binomial numbers
come from inversion below a mean of 10 and from BTRS above (W. Hörmann, J. Stat. Comput. Simul. 46
(1993) 101); normal ones from a ziggurat of 256 layers (G. Marsaglia & W. W. Tsang, J. Stat. Softw.
5 (2000) 8; layer and place from different bits of a word: J. A. Doornik, "An improved ziggurat
method", Oxford 2005); gamma numbers from G. Marsaglia & W. W. Tsang, ACM Trans. Math. Softw. 26
(2000) 363.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from nanophantom.simcore.cameras.sampling_tables import ZIGGURAT_EDGE, poisson_tables, ziggurat

Array = npt.NDArray[Any]
Key = npt.NDArray[np.uint64]
State = tuple[np.uint64, np.uint64, np.uint64, np.uint64]

INVERSION_BELOW = 10.0  # mean of a binomial number; also the least for which BTRS holds
MOST_STEPS = 128  # of an inversion; beyond lies less than rounding leaves
ONE_OVER = np.concatenate([[0.0], 1.0 / np.arange(1.0, MOST_STEPS + 1.0)])
LOG_FACTORIAL = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1.0, 1024.0)))])
EXP_MINUS = np.exp(-(np.arange(512.0) + 0.5) / 32.0)
HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
C2, C3, C4, C5, C6, C7, C8, C9 = (1.0 / math.factorial(k) for k in range(2, 10))
THIRD, FIFTH, SEVENTH, NINTH, ELEVENTH = (1.0 / k for k in range(3, 12, 2))
FEW_COINCIDE = 0.2  # below, short power series are exact to 1e-12

TABLES_BELOW = 128.0  # mean of a Poisson number; above PTRS, which holds from 10 on
FOUR_BITS, EIGHTH_BITS = 8, 5  # columns of the tables of means 0, 4, 8 ... and 0, 1/8, 2/8 ...
POISSON_FOURS = poisson_tables(4, 1, TABLES_BELOW, FOUR_BITS)
POISSON_EIGHTHS = poisson_tables(1, 8, 4.0, EIGHTH_BITS)
WIDTH, HEIGHT = ziggurat()

compiled = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
inlined = numba.njit(nogil=True, error_model="numpy", fastmath={"contract"}, forceinline=True)


def draw_key(rng: np.random.Generator) -> Key:
    """Draw the state of a kernel's generator: 256 bits."""
    return rng.integers(0, 2**64, 4, dtype=np.uint64)


# ---- random numbers ------------------------------------------------------------------------------


@inlined
def _word(s: State) -> tuple[np.uint64, State]:
    """Return 64 random bits."""
    s0, s1, s2, s3 = s
    word = _rotated(s0 + s3, 23) + s0
    shifted = s1 << np.uint64(17)
    s2 ^= s0
    s3 ^= s1
    s1 ^= s2
    s0 ^= s3
    return word, (s0, s1, s2 ^ shifted, _rotated(s3, 45))


@inlined
def _rotated(word: np.uint64, bits: int) -> np.uint64:
    return (word << np.uint64(bits)) | (word >> np.uint64(64 - bits))


@inlined
def _uniform(s: State) -> tuple[float, State]:
    """Return the middle of one of 2^52 equal parts of 0 ... 1: never 0 or 1."""
    word, s = _word(s)
    return (np.float64(word >> np.uint64(12)) + 0.5) * 2.0**-52, s


@inlined
def _normal(s: State) -> tuple[float, State]:
    while True:
        word, s = _word(s)
        layer = np.int64(word & np.uint64(255))
        signed = np.float64(np.int64(word) >> np.int64(11)) + 0.5  # from the other bits
        x = signed * 2.0**-52 * WIDTH[layer]
        if abs(x) < WIDTH[layer + 1]:
            return x, s
        kept, x, s = _beside_the_core(layer, x, s)
        if kept:
            return x, s


@compiled
def _beside_the_core(layer: Any, x: float, s: State) -> tuple[bool, float, State]:
    """Return whether x, where a layer isn't all under the curve, is kept; in the tail, another."""
    if layer > 0:
        u, s = _uniform(s)
        y = HEIGHT[layer] + u * (HEIGHT[layer + 1] - HEIGHT[layer])
        return y < math.exp(-0.5 * x * x), x, s
    while True:
        u, s = _uniform(s)
        v, s = _uniform(s)
        beyond = -math.log(u) / ZIGGURAT_EDGE
        if -2.0 * math.log(v) > beyond * beyond:
            return True, math.copysign(ZIGGURAT_EDGE + beyond, x), s


@inlined
def _gamma(shape: float, s: State) -> tuple[float, State]:
    """Draw a gamma number of mean and variance `shape`."""
    lowered = 1.0
    if shape < 1.0:  # the product with a power of a uniform number lowers the shape by one
        u, s = _uniform(s)
        lowered = u ** (1.0 / shape)
        shape += 1.0
    d = shape - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    while True:
        x, s = _normal(s)
        v = 1.0 + c * x
        if v <= 0.0:
            continue
        v = v * v * v
        u, s = _uniform(s)
        x2 = x * x
        if u < 1.0 - 0.0331 * x2 * x2 or math.log(u) < 0.5 * x2 + d * (1.0 - v + math.log(v)):
            return lowered * d * v, s


@compiled
def _log_factorial(k: float) -> float:
    if k < len(LOG_FACTORIAL):
        return float(LOG_FACTORIAL[int(k)])
    i = 1.0 / k
    series = i * (1.0 / 12.0 - i * i * (1.0 / 360.0 - i * i / 1260.0))
    return (k + 0.5) * math.log(k) - k + HALF_LOG_TWO_PI + series


@inlined
def _exp_minus(x: float) -> float:
    """Return exp(-x), 0 <= x < 16, in a third of the library's time and with its precision."""
    i = int(32.0 * x)
    r = (i + 0.5) / 32.0 - x
    series = r + r * r * (C2 + r * (C3 + r * (C4 + r * (C5 + r * C6))))
    return float(EXP_MINUS[i]) * (1.0 + series)


@inlined
def _inverted(mean: float, none: float, n: float, ratio: float, s: State) -> tuple[float, State]:
    """Draw by inversion from P(0) = none, P(k) = P(k - 1) ratio (1 + (1 - k) / n) / k.

    A branch on a random number stalls the processor longer than a dozen products take; therefore
    the first steps, nearly always enough, are all made without asking.
    """
    slope = 1.0 / n
    while True:
        u, s = _uniform(s)
        k, term, below = 0, none, none
        if mean < 0.25:  # loops of fixed length are unrolled
            for j in range(1, 5):
                k += u > below
                term *= (ratio - ratio * slope * (j - 1)) * ONE_OVER[j]
                below += term
        elif mean < 1.5:
            for j in range(1, 9):
                k += u > below
                term *= (ratio - ratio * slope * (j - 1)) * ONE_OVER[j]
                below += term
        else:
            for j in range(1, 17 if mean < 4.5 else 29):
                k += u > below
                term *= (ratio - ratio * slope * (j - 1)) * ONE_OVER[j]
                below += term
        while u > below and k < MOST_STEPS:
            k += 1
            term *= (ratio - ratio * slope * (k - 1)) * ONE_OVER[k]
            below += term
        if k < MOST_STEPS:  # else rounding left something over, one time in 1e16
            return float(k), s


@inlined
def _poisson(mean: float, s: State) -> tuple[float, State]:
    if mean >= TABLES_BELOW:
        return _poisson_many(mean, s)
    fours = int(0.25 * mean)
    eighths = int(8.0 * (mean - 4.0 * fours))
    rest = mean - 4.0 * fours - 0.125 * eighths
    k = 0
    if fours > 0:
        k, s = _from_table(POISSON_FOURS, fours, FOUR_BITS, s)
    if eighths > 0:
        more, s = _from_table(POISSON_EIGHTHS, eighths, EIGHTH_BITS, s)
        k += more
    u, s = _uniform(s)
    if u > 1.0 - rest:  # which is below exp(-rest): nearly always, nothing more comes
        k += _few(rest, u)
    return float(k), s


@inlined
def _from_table(table: Array, row: int, bits: int, s: State) -> tuple[Any, State]:
    """Draw from a row of an alias table: the word's first bits choose the column."""
    word, s = _word(s)
    column = np.int64(word >> np.uint64(64 - bits))
    entry = table[(row << bits) + column]
    own = (word << np.uint64(bits)) >> np.uint64(bits) < entry >> np.uint64(bits)
    return (column if own else np.int64(entry & np.uint64((1 << bits) - 1))), s


@compiled
def _few(mean: float, u: float) -> int:
    """Invert the Poisson distribution of a mean below 1/8 at `u`."""
    k = 0
    term = below = _exp_minus(mean)
    while u > below and k < 12:  # beyond lies less than rounding leaves
        k += 1
        term *= mean * ONE_OVER[k]
        below += term
    return k


@compiled
def _poisson_many(mean: float, s: State) -> tuple[float, State]:
    b = 0.931 + 2.53 * math.sqrt(mean)
    a = -0.059 + 0.02483 * b
    surely = 0.9277 - 3.6224 / (b - 2.0)
    while True:
        u, s = _uniform(s)
        v, s = _uniform(s)
        u -= 0.5
        edge = 0.5 - abs(u)
        k = math.floor((2.0 * a / edge + b) * u + mean + 0.43)
        if edge >= 0.07 and v <= surely:
            return float(k), s
        if k < 0 or (edge < 0.013 and v > edge):
            continue
        hat = v * (1.1239 + 1.1328 / (b - 3.4)) / (a / (edge * edge) + b)
        if math.log(hat) <= k * math.log(mean) - mean - _log_factorial(k):
            return float(k), s


@inlined
def _binomial(n: float, p: float, log_q: float, s: State) -> tuple[float, State]:
    """Draw how many of `n` happen, each with probability `p`; `log_q` is log(1 - p)."""
    turned = p > 0.5
    if turned:  # draw those that don't happen
        p, log_q = math.exp(log_q), math.log(p)
    if n * p < INVERSION_BELOW:
        k, s = _inverted(n * p, _exp_minus(-n * log_q), n, n * p / (1.0 - p), s)
    else:
        k, s = _binomial_many(n, p, log_q, s)
    return (n - k if turned else k), s


@compiled
def _binomial_many(n: float, p: float, log_q: float, s: State) -> tuple[float, State]:
    mean = n * p
    width = math.sqrt(mean * (1.0 - p))
    b = 1.15 + 2.53 * width
    a = -0.0873 + 0.0248 * b + 0.01 * p
    surely = 0.92 - 4.2 / b
    while True:
        u, s = _uniform(s)
        v, s = _uniform(s)
        u -= 0.5
        edge = 0.5 - abs(u)
        k = math.floor((2.0 * a / edge + b) * u + mean + 0.5)
        if k < 0 or k > n:
            continue
        if edge >= 0.07 and v <= surely:
            return float(k), s
        mode = math.floor((n + 1.0) * p)
        hat = v * (2.83 + 5.1 / b) * width / (a / (edge * edge) + b)
        at_mode = _log_factorial(mode) + _log_factorial(n - mode)
        here = at_mode - _log_factorial(k) - _log_factorial(n - k)
        if math.log(hat) <= here + (k - mode) * (math.log(p) - log_q):
            return float(k), s


# ---- one number of events in a pixel -------------------------------------------------------------


@inlined
def _seen_in_a_frame(mean: float, area: float) -> tuple[float, float]:
    """Return p = (1 - exp(-x)) / area with x = mean * area, and log(1 - p)."""
    x = mean * area
    if x > FEW_COINCIDE:
        p = -math.expm1(-x) / area
        return p, math.log1p(-p)
    p = C5 - x * (C6 - x * (C7 - x * (C8 - x * C9)))
    p = mean * (1.0 - x * (C2 - x * (C3 - x * (C4 - x * p))))
    z = p / (2.0 - p)  # log(1 - p) = -2 artanh z
    z2 = z * z
    odd = THIRD + z2 * (FIFTH + z2 * (SEVENTH + z2 * (NINTH + z2 * ELEVENTH)))
    return p, -2.0 * (z + z * z2 * odd)


@inlined
def _counted(mean: float, frames: float, area: float, s: State) -> tuple[float, State]:
    """Count the events of one exposure; `frames` = 0 counts them all."""
    if frames == 0.0:
        return _poisson(mean, s)
    p, log_q = _seen_in_a_frame(mean / frames, area)
    if p == 1.0:
        return frames, s
    return _binomial(frames, p, log_q, s)


# ---- whole frames --------------------------------------------------------------------------------


@compiled
def count_all(electrons: Array, efficiency: float, key: Key, counts: Array) -> float:
    """Count like a perfect counter and return the largest count.

    Parameters
    ----------
    electrons : (n,) float32
        Mean number of electrons that arrive.
    efficiency
        Fraction of them that is counted.
    counts : (n,) uint16
        Result; wraps where the count is larger than 65535, which the value returned tells.
    """
    s = (key[0], key[1], key[2], key[3])
    largest = 0.0
    for i in range(len(electrons)):
        count, s = _poisson(efficiency * electrons[i], s)
        largest = max(largest, count)
        counts[i] = np.int64(count)
    return largest


@compiled
def count(
    electrons: Array,
    efficiency: float,
    response: Array,
    dark: Array,
    frames: float,
    area: float,
    full: float,
    key: Key,
    counts: Array,
) -> None:
    """Count in internal frames, in each of which electrons that meet are one.

    Parameters
    ----------
    electrons, response, dark : (n,) float32
        Mean number of electrons that arrive, relative efficiency of a pixel, and mean number of
        events without an electron.
    efficiency
        Fraction of the electrons that is detected.
    frames
        Internal frames; 0: nothing coincides.
    area
        Pixels in which two electrons of one internal frame are one count.
    full
        Largest count that a pixel holds.
    counts : (n,) unsigned integer or float32
        Result.
    """
    s = (key[0], key[1], key[2], key[3])
    for i in range(len(electrons)):
        mean = efficiency * electrons[i] * response[i] + dark[i]
        events, s = _counted(mean, frames, area, s)
        counts[i] = np.int64(min(events, full))


@compiled
def deposit(electrons: Array, efficiency: float, variance: float, key: Key, signal: Array) -> None:
    """Let every detected electron deposit a gamma-distributed amount of mean 1.

    The sum of n gamma numbers of shape 1 / `variance` is one gamma number of n times that shape.

    Parameters
    ----------
    electrons : (n,) float32
        Mean number of electrons that arrive.
    efficiency
        Fraction of them that is detected.
    variance
        Of one deposit; 0: all deposits are equal.
    signal : (n,) float32
        Result.
    """
    s = (key[0], key[1], key[2], key[3])
    for i in range(len(electrons)):
        amount, s = _poisson(efficiency * electrons[i], s)
        if variance > 0.0 and amount > 0.0:
            amount, s = _gamma(amount / variance, s)
            amount *= variance
        signal[i] = amount


@compiled
def multiply(electrons: Array, gain: float, full: float, key: Key) -> None:
    """Multiply electrons in a register, in place: of one come exponentially many, `gain` in mean.

    Of n electrons comes a gamma number of shape n; of none comes none.

    Parameters
    ----------
    electrons : (n,) float32
        Whole numbers; on return what leaves the register.
    gain
        Mean number of electrons that come of one.
    full
        Most electrons that the register holds.
    """
    s = (key[0], key[1], key[2], key[3])
    for i in range(len(electrons)):
        if electrons[i] > 0.0:
            amount, s = _gamma(np.float64(electrons[i]), s)
            electrons[i] = min(gain * amount, full)


@compiled
def read_out(
    electrons: Array,
    noise: Array,
    gain: Array,
    offset: Array,
    key: Key,
    half: float,
    top: float,
    read: Array,
) -> None:
    """Add each pixel's own noise, convert by its own gain and offset, and make whole numbers.

    Parameters
    ----------
    electrons, noise, gain, offset : (n,) float32
        Signal, standard deviation of the noise (electrons), readout units an electron and of none.
    half
        0.5 rounds to the nearest whole number, 0 down.
    top
        Largest number of the converter.
    read : (n,) unsigned integer
        Result.
    """
    s = (key[0], key[1], key[2], key[3])
    for i in range(len(electrons)):
        z, s = _normal(s)
        value = gain[i] * (electrons[i] + noise[i] * z) + offset[i]
        read[i] = np.int64(min(max(math.floor(value + half), 0.0), top))


@compiled
def add_readout(
    signal: Array, gain: Array, dark: Array, noise: float, rows: Array, columns: Array, key: Key
) -> None:
    """Multiply by the gain; add dark signal and the noises of pixel, row and column, in place.

    Parameters
    ----------
    signal, gain, dark : (ny, nx) float32
    noise
        Standard deviation of the pixels' own.
    rows, columns : (ny,), (nx,) float32
        What this frame has on all pixels of a row, and of a column.
    """
    s = (key[0], key[1], key[2], key[3])
    ny, nx = signal.shape
    for y in range(ny):
        for x in range(nx):
            read = signal[y, x] * gain[y, x] + dark[y, x] + rows[y] + columns[x]
            if noise > 0.0:
                z, s = _normal(s)
                read += noise * z
            signal[y, x] = read


@compiled
def digitise(
    signal: Array, full: float, scale: float, offset: float, top: float, read: Array
) -> None:
    """Saturate, convert and round to the integers 0 ... `top`; `top` = 0 keeps real numbers.

    Parameters
    ----------
    signal : (n,) float32
    full
        Largest signal that a pixel holds.
    scale, offset
        ``scale * signal + offset`` is read out.
    top
        Largest number of the converter.
    read : (n,) unsigned integer or float32
        Result.
    """
    for i in range(len(signal)):
        value = scale * min(np.float64(signal[i]), full) + offset
        if top > 0.0:
            value = min(max(math.floor(value + 0.5), 0.0), top)
        read[i] = value

"""Rice's distribution and its kin: how likely powers are if they hold a signal and noise.

The power of a complex number, a constant plus Gaussian noise, summed over M independent modes,
follows half a noncentral chi^2 of 2 M degrees of freedom; for one mode its root follows Rice's
distribution. The likelihood of an amplitude needs a Bessel function of order M - 1 and ratios of
two neighbouring orders, also for hundreds of modes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

FloatArray = npt.NDArray[np.float64]

UNIFORM = 20.0
"""Order of the Bessel function from which on its uniform expansion serves (to 1e-5)."""


def log_likelihood(
    P: FloatArray, signal: FloatArray, floor: FloatArray, modes: float
) -> FloatArray:
    """Return the log-likelihood of powers under amplitudes (..., n), less what has neither.

    P / floor follows half a noncentral chi^2 of 2 * modes degrees of freedom with noncentrality
    signal^2 / floor (Rice's distribution for one mode).
    """
    z = 2 * signal * np.sqrt(P) / floor
    terms = -(P + signal**2) / floor + log_bessel(z, modes) - modes * np.log(floor)
    return np.asarray(np.sum(terms, axis=-1))


def best_amplitude(P: FloatArray, shape: FloatArray, floor: FloatArray, modes: float) -> FloatArray:
    """Return the most likely amplitude A >= 0 of signals A * shape, for each row of shapes.

    The likelihood's slope is concave in A and starts from zero: Newton's method from the right,
    where all phases were known, descends to its one root, or to zero.
    """
    x = np.sqrt(P) * shape / floor
    strength = np.sum(shape**2 / floor, axis=1)
    A = np.sum(x, axis=1) / strength
    for _ in range(25):
        z = np.maximum(2 * A[:, None] * x, 1e-12)
        R = bessel_ratio(z, modes)
        slope = np.sum(x * R, axis=1) - A * strength
        bend = np.sum(2 * x**2 * (1 - R**2 - (2 * modes - 1) * R / z), axis=1) - strength
        step = slope / np.minimum(bend, -1e-9 * strength)
        A = np.maximum(A - step, 0)
        if np.all(np.abs(step) <= 1e-6 * A + 1e-12 / np.sqrt(strength)):
            break
    rising = np.sum(x**2, axis=1) > 0.5 * modes * strength
    return np.where(rising, A, 0.0)


def log_bessel(z: FloatArray, modes: float) -> FloatArray:
    """Return log(I_v(z) (z / 2)^-v), v = modes - 1, up to a constant for high orders."""
    order = modes - 1
    if modes == 1:
        return np.asarray(np.log(special.i0e(z)) + z)
    if order < UNIFORM:
        small = np.maximum(z, 1e-3)
        exact = np.log(special.ive(order, small)) + small - order * np.log(0.5 * small)
        series = z**2 / (4 * modes) - special.gammaln(modes)
        return np.asarray(np.where(z < 1e-3, series, exact))
    # Debye's uniform expansion (DLMF 10.41.3), without the constants of the order
    ratio = z / order
    root = np.sqrt(1 + ratio**2)
    t = 1 / root
    first = (3 * t - 5 * t**3) / (24 * order)
    return np.asarray(order * (root - np.log1p(root)) - 0.5 * np.log(root) + np.log1p(first))


def bessel_ratio(z: FloatArray, modes: float) -> FloatArray:
    """Return I_(v+1)(z) / I_v(z) with v = modes - 1."""
    order = modes - 1
    if modes == 1:
        return np.asarray(special.i1e(z) / special.i0e(z))
    if order < UNIFORM:
        small = np.maximum(z, 1e-3)
        exact = special.ive(order + 1, small) / special.ive(order, small)
        return np.asarray(np.where(z < 1e-3, z / (2 * modes), exact))
    # Amos, Math. Comp. 28 (1974) 239: a bound, close for high orders
    return np.asarray(z / (order + 0.5 + np.sqrt(z**2 + (order + 1.5) ** 2)))

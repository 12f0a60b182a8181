"""A path that wanders, seen in noise: the estimate that minimizes its mean square error.

A random walk whose steps have the variance q, observed at every step with a variance r of its own,
is a Gaussian process whose precision matrix is tridiagonal: diag(1/r) + (differences)/q. Its mean
and its variances follow from one sweep forwards and one backwards (H. E. Rauch, F. Tung and
C. T. Striebel, AIAA J. 3 (1965) 1445). Steadily observed, the variance is sqrt(q r) / 2 for q << r:
it falls only as the root of the number of observations, for old ones lose their worth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

Floats = npt.NDArray[np.float64]

LEAST, MOST = 1e-6, 1e4
"""Bounds of the variance of a step, in units of the median variance of an observation."""


@dataclass(frozen=True, eq=False)
class Smoothed:
    """A path and how well it is known.

    Attributes
    ----------
    path : (n,) array
    variance : (n,) array
        Of each place by itself.
    """

    path: Floats
    variance: Floats


def smoothed_walk(observed: npt.ArrayLike, weight: npt.ArrayLike, step_variance: float) -> Smoothed:
    """Return mean and variance of a random walk, given noisy observations.

    Nothing is assumed of where it begins.

    Parameters
    ----------
    observed : (n,) array
        What was seen at each step; of no matter where the weight is 0.
    weight : (n,) array
        1 / variance of each observation; 0 if there is none.
    step_variance : float
        Of the walk, from one step to the next.

    Raises
    ------
    ValueError
        For columns of unlike lengths, no observation, or a variance or weight out of range.
    """
    y, w = np.asarray(observed, np.float64), np.asarray(weight, np.float64)
    if y.ndim != 1 or y.shape != w.shape:
        raise ValueError(f"observed and weight must be columns alike, got {y.shape}, {w.shape}")
    if not (np.isfinite(w).all() and (w >= 0).all() and w.any()):
        raise ValueError("weights must be finite, 0 or more, and not all 0")
    if not (math.isfinite(step_variance) and step_variance > 0):
        raise ValueError(f"step_variance must be above 0, got {step_variance}")
    forward, ahead = _sweep(y, w, 1 / step_variance)
    backward, behind = (column[::-1] for column in _sweep(y[::-1], w[::-1], 1 / step_variance))
    # What either side tells of a place, the place itself counted once.
    information = forward + backward - w
    variance = 1 / information
    return Smoothed((ahead + behind - w * y) * variance, variance)


def likely_step_variance(observed: npt.ArrayLike, weight: npt.ArrayLike) -> float:
    """Return the variance of the steps that makes noisy observations most likely.

    Parameters
    ----------
    observed, weight : (n,) or (n, axes) array and (n,) array
        As for :func:`smoothed_walk`; axes share the walk's strength.
    """
    y, w = np.asarray(observed, np.float64), np.asarray(weight, np.float64)
    columns = y[:, None] if y.ndim == 1 else y
    noise = 1 / float(np.median(w[w > 0]))

    def improbable(exponent: float) -> float:
        return sum(_minus_log_likelihood(c, w, noise * math.exp(exponent)) for c in columns.T)

    found = minimize_scalar(
        improbable, bounds=(math.log(LEAST), math.log(MOST)), method="bounded",
        options={"xatol": 0.01},
    )  # fmt: skip
    return noise * math.exp(float(found.x))


@numba.njit(cache=True, nogil=True)
def _sweep(y: Floats, w: Floats, stiffness: float) -> tuple[Floats, Floats]:
    """Return information on each place from those up to it, and information times place."""
    information, moment = np.empty(len(y)), np.empty(len(y))
    known, summed = 0.0, 0.0
    for i in range(len(y)):
        if i > 0:
            kept = stiffness / (known + stiffness)
            known, summed = known * kept, summed * kept
        known += w[i]
        summed += w[i] * y[i]
        information[i], moment[i] = known, summed
    return information, moment


@numba.njit(cache=True, nogil=True)
def _minus_log_likelihood(y: Floats, w: Floats, step_variance: float) -> float:
    """Return it from the differences between each observation and its forecast."""
    place, variance, total, started = 0.0, 0.0, 0.0, False
    for i in range(len(y)):
        variance += step_variance
        if w[i] <= 0.0:
            continue
        if not started:
            place, variance, started = y[i], 1 / w[i], True
            continue
        whole = variance + 1 / w[i]
        off = y[i] - place
        total += 0.5 * (math.log(whole) + off * off / whole)
        gain = variance / whole
        place += gain * off
        variance *= 1 - gain
    return total

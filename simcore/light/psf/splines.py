"""Cubic splines on even grids as matrices, and the integral over pixels that they make exact.

The cubic B-spline of M. Unser, A. Aldroubi & M. Eden, IEEE Trans. Signal Process. 41 (1993) 821:
a function is ``sum_k c_k B3(x - k)`` with coefficients c that make it pass through the samples.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.linalg

Floats = npt.NDArray[np.float64]

MARGIN = 10
"""Samples on either side that coefficients need to be right to 2e-6: 0.268^10."""


def lost(phases: int) -> int:
    """Return how many samples :func:`pixel_operator` needs beyond either end."""
    return MARGIN + phases // 2 + 3


def pixel_operator(n: int, phases: int) -> Floats:
    """Return the matrix from samples of an intensity to spline coefficients of its pixel sums.

    Both lie on a grid of `phases` samples a pixel. The samples' spline is integrated over a pixel
    about every grid point, and these integrals, in units of a pixel, are fitted by a spline again.

    Parameters
    ----------
    n
        Number of samples.
    phases
        Samples a pixel.

    Returns
    -------
    (n - 2 * lost(phases), n)
        Coefficients at the inner samples, where the ends have no effect.
    """
    bands = np.array([[1 / 6], [4 / 6]]) * np.ones(n)
    fit = scipy.linalg.solveh_banded(bands, np.eye(n))
    half = phases // 2 + 3
    shifts = np.arange(-half, half + 1, dtype=np.float64)
    box = (_step(shifts + 0.5 * phases) - _step(shifts - 0.5 * phases)) / phases
    inner = slice(lost(phases), n - lost(phases))
    summed = sum(w * np.roll(fit, -int(s), axis=1) for s, w in zip(shifts, box, strict=True))
    return np.asarray(scipy.linalg.solveh_banded(bands, np.asarray(summed).T).T[inner])


def _step(x: Floats) -> Floats:
    """Return the integral of B3 from minus infinity to x: a sum of fourth powers."""
    knots = np.arange(-2.0, 3.0)
    signs = np.array([1.0, -4.0, 6.0, -4.0, 1.0]) / 24.0
    total = (signs * np.maximum(x[:, None] - knots, 0.0) ** 4).sum(axis=1)
    return np.asarray(np.where(x > 2.0, 1.0, total))


def axial_operator(n: int) -> Floats:
    """Return the matrix from n samples to the n + 2 coefficients of their spline.

    The ends are not-a-knot: the third derivative has no step at the second and the last but one
    sample, so that any cubic is reproduced.

    Raises
    ------
    ValueError
        Fewer than four samples.
    """
    if n < 4:
        raise ValueError(f"a cubic spline needs four samples or more, got {n}")
    system = np.zeros((n + 2, n + 2))
    for i in range(n):
        system[i, i : i + 3] = 1 / 6, 4 / 6, 1 / 6
    jump = (1.0, -4.0, 6.0, -4.0, 1.0)
    system[n, :5] = jump
    system[n + 1, -5:] = jump
    return np.asarray(scipy.linalg.inv(system)[:, :n])

"""The fit of a step to a line, Z = a X + b + h delta, and the mean over lines; ISO 5436-1.

How far off h is follows from the residuals of a single line, or better from the scatter of many
lines. In both, neighbours may err together, and the variance is a sum over the autocorrelation. It
ends at five times the correlation length it gives (A. Sokal's rule), and is enlarged by what the
fitted parameters took from it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

CUT_OFF = 5.0
"""The sum over an autocorrelation ends at so many times the correlation length it gives."""


def fit_profile(
    profile_nm: npt.ArrayLike,
    pixel_size_nm: float,
    delta: npt.ArrayLike,
    used: npt.ArrayLike | None = None,
    degree: int = 1,
) -> tuple[float, float, float]:
    """Fit Z = a X + b + h delta to a single profile.

    Its uncertainty takes errors that go together along the profile into account, as far as the
    residuals show them: those longer than a terrace don't show. Prefer many lines.

    Parameters
    ----------
    profile_nm : (n,)
    pixel_size_nm : float
    delta : (n,)
        1 (or true) on the far level, 0 on the near one.
    used : (n,) bool, optional
        Pixels that count; all by default.
    degree : int
        Of the background.

    Returns
    -------
    height_nm, uncertainty_nm, tilt_nm_per_nm : float

    Raises
    ------
    ValueError
        Shapes differ, or pixels are too few to fix the height.
    """
    z, step = np.asarray(profile_nm, np.float64), np.asarray(delta, np.float64)
    which = np.ones(z.shape, bool) if used is None else np.asarray(used, bool)
    if z.ndim != 1 or z.shape != step.shape or z.shape != which.shape:
        raise ValueError("profile, delta and used must have the same single axis")
    terms, gain = solver(which, step, degree)
    parameters = gain @ z[which]
    residual = np.zeros(len(z))
    residual[which] = z[which] - terms @ parameters
    influence = np.zeros(len(z))
    influence[which] = gain[-1]
    n = int(np.count_nonzero(which))
    # h errs by sum_i g_i e_i: its variance is the sum over lags of (g * g)(lag) R(lag)
    acf, pairs = (np.correlate(v, v, "full")[len(z) - 1 :] for v in (residual, which * 1.0))
    acf = acf / np.maximum(pairs, 1) * n / (n - len(parameters))
    weight = np.correlate(influence, influence, "full")[len(z) - 1 :]
    last = _window(acf / acf[0] if acf[0] > 0 else acf)
    variance = weight[0] * acf[0] + 2 * float(weight[1 : last + 1] @ acf[1 : last + 1])
    variance = max(variance / _kept(len(parameters), last, n), weight[0] * acf[0])
    return (
        float(parameters[-1]),
        float(np.sqrt(variance)),
        float(mean_slope(terms, parameters, which) / pixel_size_nm),
    )


def mean_of_lines(per_line_nm: npt.ArrayLike) -> tuple[float, float, float]:
    """Return the mean of a sequence, its standard uncertainty and the degrees of freedom.

    Neighbours may err together: the variance of the mean is s²/n times the integrated
    autocorrelation 1 + 2 sum rho, summed up to five times itself (A. Sokal's rule).

    Raises
    ------
    ValueError
        There are fewer than three lines.
    """
    h = np.asarray(per_line_nm, np.float64)
    n = len(h)
    if n < 3:
        raise ValueError(f"scatter takes three lines or more, got {n}")
    d = h - np.mean(h)
    acf = np.correlate(d, d, "full")[n - 1 :] / np.arange(n, 0, -1)
    if acf[0] <= (1e-14 * np.max(np.abs(h))) ** 2:
        return float(np.mean(h)), 0.0, float(n - 1)
    rho = acf / acf[0]
    last = _window(rho)
    together = (1 + 2 * float(np.sum(rho[1 : last + 1]))) / _kept(1, last, n)
    together = min(max(0.5, together), n / 2)
    free = max(1.0, n / max(together, 1.0) - 1)
    variance = acf[0] / (n - together) * together
    return float(np.mean(h)), float(np.sqrt(variance)), float(free)


def solver(used: Bools, delta: Floats, degree: int) -> tuple[Floats, Floats]:
    """Return the terms of the fit at the used pixels, and the matrix that gives its parameters.

    Parameters
    ----------
    used : (n,) bool
        Pixels of the line that count.
    delta : (n,)
        1 on the far level, 0 on the near one.
    degree : int
        Of the background.

    Returns
    -------
    terms, gain : (used, degree + 2), (degree + 2, used)
        Legendre polynomials over the line, then delta: h is the last parameter.

    Raises
    ------
    ValueError
        The degree is negative, or the pixels don't fix all parameters.
    """
    if degree < 0:
        raise ValueError(f"degree must be 0 or more, got {degree}")
    x = np.linspace(-1, 1, len(used))
    terms = np.column_stack([np.polynomial.legendre.legvander(x, degree), delta])[used]
    if len(terms) <= terms.shape[1] or np.linalg.matrix_rank(terms, 1e-8) < terms.shape[1]:
        raise ValueError("too few pixels of both levels to fix a height and the tilt")
    return terms, np.linalg.pinv(terms)


def mean_slope(terms: Floats, parameters: Floats, used: Bools) -> float:
    """Return the mean slope per pixel of a background that :func:`solver` fitted."""
    if len(parameters) == 2:
        return 0.0
    x = np.linspace(-1, 1, len(used))
    coefficients = np.polynomial.legendre.legder(parameters[:-1])
    return float(
        np.mean(np.polynomial.legendre.legval(x[used], coefficients)) * 2 / (len(used) - 1)
    )


def _window(rho: Floats) -> int:
    """Return the last lag to sum up to: five times the correlation length of the sum so far."""
    together = 1 + 2 * np.cumsum(rho[1:])
    enough = np.flatnonzero(np.arange(1, len(rho)) >= CUT_OFF * together / 2)
    return int(enough[0]) + 1 if len(enough) else len(rho) - 1


def _kept(parameters: int, last: int, n: int) -> float:
    """Return the share that a fit leaves of the sum over lags of its residuals' autocorrelation.

    Every parameter takes about 1/n of the sum from the autocorrelation at each lag.
    """
    return max(0.25, 1 - parameters * (2 * last + 1) / n)

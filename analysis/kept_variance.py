"""How much of a rough surface's variance is left after levelling (arXiv:2001.00433).

A polynomial takes what it can of the roughness too, the more the longer heights go together.
D. Nečas, P. Klapetek and M. Valtr give it for lines to first order; here it is exact.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import signal

from nanophantom.analysis.polynomial_fit import basis, terms

Floats = npt.NDArray[np.float64]
Shape = Literal["gaussian", "exponential"]
"""Of the autocorrelation: exp(-r²/T²) or exp(-r/T)."""


def kept_variance(
    shape: tuple[int, int],
    correlation_length_px: float,
    degree_x: int,
    degree_y: int | None = None,
    total_degree: int | None = None,
    acf: Shape = "gaussian",
) -> float:
    """Return E[variance after levelling] / variance of an isotropic rough surface.

    Divide a measured Sq**2 by it. With q an orthonormal polynomial and R the autocorrelation
    matrix the fit takes q R q / N of the variance; the sum over all polynomials is exact for the
    sampled surface. For a line it is, to first order in T/L, `n c T/L` with n = degree + 1 fitted
    terms, c = sqrt(pi) for a Gaussian autocorrelation exp(-r²/T²) and 2 for exp(-r/T)
    (arXiv:2001.00433).

    Parameters
    ----------
    shape : (ny, nx)
        Of the image.
    correlation_length_px : float
        T.
    degree_x : int
        Largest power of x.
    degree_y : int, optional
        Largest power of y. Left out if every row was fitted by itself.
    total_degree : int, optional
        Largest sum of both powers.
    acf : {"gaussian", "exponential"}

    Raises
    ------
    ValueError
        A parameter isn't positive, or the degree too high for the shape.
    """
    ny, nx = (1, shape[1]) if degree_y is None else shape
    if not (np.isfinite(correlation_length_px) and correlation_length_px > 0):
        raise ValueError(f"correlation_length_px must be positive, got {correlation_length_px}")
    check_shape(acf)
    degree_y = degree_y or 0
    if not (0 <= degree_x < nx and 0 <= degree_y < ny):
        raise ValueError(f"degrees must be 0 or more and below the {ny} x {nx} pixels")
    r = np.hypot(*np.meshgrid(np.arange(1 - ny, ny), np.arange(1 - nx, nx), indexing="ij"))
    rho = correlation(r, correlation_length_px, acf)
    y, x = (_lag_products(n, degree) for n, degree in ((ny, degree_y), (nx, degree_x)))
    taken = (y @ rho @ x.T)[terms(degree_x, degree_y, total_degree)]
    return float(1 - np.sum(taken) / (ny * nx))


def correlation(r: Floats, length: float, acf: Shape) -> Floats:
    """Return the autocorrelation at the lags r, 1 at lag 0 and 1/e at the correlation length."""
    return np.asarray(np.exp(-((r / length) ** 2)) if acf == "gaussian" else np.exp(-r / length))


def check_shape(acf: str) -> None:
    """Raise a ValueError unless the shape of an autocorrelation is a known one."""
    if acf not in ("gaussian", "exponential"):
        raise ValueError(f"acf must be 'gaussian' or 'exponential', got {acf!r}")


def _lag_products(n: int, degree: int) -> Floats:
    """Return sum_i q(i) q(i + lag) of orthonormal polynomials, (degree + 1, 2 n - 1)."""
    q, _ = np.linalg.qr(basis(n, degree))
    return np.asarray(np.stack([signal.correlate(column, column) for column in q.T]))

"""A circle through localizations, its background apart.

A localization is a point of the circle plus a Gaussian error, so its distance to the centre is on
average more than the radius (by s**2/2R). The fit is maximum likelihood of the positions
themselves, by expectation and maximization: where on the circle a localization is from is unknown
(von Mises distributed); given the expected origins, centre and radius are a linear regression of
the positions on them. Outliers belong to a uniform background.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex128]

STEPS = 300
STILL_NM = 1e-3
"""A fit is done when centre, radius and width move by less in one step."""
DIAMETER_KNOWN = 0.15
"""S.d. of the nominal diameter over itself: keeps pores of few corners from going astray."""


@dataclass(frozen=True)
class Circle:
    """A circle through localizations.

    Attributes
    ----------
    x_nm, y_nm, radius_nm : float
    radius_error_nm : float
        Standard error, if the errors of localizations are independent.
    width_nm : float
        S.d. along x and y beyond the stated uncertainties (all of it if none are given).
    background : float
        Share of localizations that don't belong to it.
    """

    x_nm: float
    y_nm: float
    radius_nm: float
    radius_error_nm: float
    width_nm: float
    background: float


def fit_circle(
    x_nm: npt.ArrayLike, y_nm: npt.ArrayLike, uncertainty_nm: npt.ArrayLike = 0.0
) -> Circle:
    """Fit a circle, whatever part of it is occupied.

    Parameters
    ----------
    x_nm, y_nm : (n,)
        4 or more.
    uncertainty_nm : number or (n,)
        S.d. of the positions along x and y.
    """
    z, variance = checked_localizations(x_nm, y_nm, uncertainty_nm, 4)
    return circle_from(z, variance, *_start(z))


def circle_from(
    z: Complex, variance: Floats, centre: complex, radius: float, nominal: float | None = None
) -> Circle:
    """Fit a circle from a start; see :func:`fit_circle`."""
    width2, background = (0.1 * radius) ** 2, 0.02
    area = area_around(z, centre)
    for _ in range(STEPS):
        s2 = variance + width2
        distance = np.abs(z - centre)
        kappa = distance * radius / s2
        # ln of the integral of the Gaussian over the circle.
        ring = -((distance - radius) ** 2) / (2 * s2) + np.log(special.i0e(kappa) / s2)
        belongs = _belongs(ring - math.log(2 * math.pi), background, area)
        origin = special.i1e(kappa) / special.i0e(kappa) * direction(z - centre)
        new_centre, a = regression(z, origin, belongs / s2, nominal, real=True)
        new_width2 = extra_variance(z - new_centre, origin, a, belongs, variance, width2)
        step = abs(new_centre - centre) + abs(a.real - radius)
        step += abs(math.sqrt(new_width2) - math.sqrt(width2))
        centre, radius, width2 = new_centre, a.real, new_width2
        background = min(max(1 - float(belongs.mean()), 1e-6), 0.9)
        if step < STILL_NM:
            break
    # Only the error towards the centre tells: a regression on cos, sin, 1.
    e = direction(z - centre)
    design = np.stack([e.real, e.imag, np.ones(len(z))])
    information = (design * belongs / (variance + width2)) @ design.T
    error = math.sqrt(np.linalg.pinv(information)[2, 2])
    return Circle(centre.real, centre.imag, radius, error, math.sqrt(width2), background)


def area_around(z: Complex, centre: complex) -> float:
    """Return the area over which background is spread."""
    return math.pi * float(np.abs(z - centre).max()) ** 2


def direction(z: Complex) -> Complex:
    """Return unit vectors."""
    return np.asarray(z / np.maximum(np.abs(z), 1e-12))


def _belongs(log_density: Floats, background: float, area: float) -> Floats:
    """Return the chance that a localization isn't background."""
    odds = math.log((1 - background) / background) + log_density + math.log(area)
    return np.asarray(special.expit(odds))


def regression(
    z: Complex, origin: Complex, weight: Floats, nominal: float | None, real: bool = False
) -> tuple[complex, complex]:
    """Return c and a of z = c + a origin; origins are expectations of points on the unit circle.

    A nominal |a| counts as one more measurement of it.
    """
    total = weight.sum()
    mean_z, mean_u = (weight * z).sum() / total, (weight * origin).sum() / total
    product = (weight * z * origin.conj()).sum() / total - mean_z * mean_u.conjugate()
    spread = max(1 - abs(mean_u) ** 2, 1e-9)
    a = complex(product.real if real else product) / spread
    if nominal is not None:
        known = 1 / (DIAMETER_KNOWN * nominal) ** 2 / (total * spread)
        a *= (1 + known * nominal / max(abs(a), 1e-9)) / (1 + known)
    return complex(mean_z - a * mean_u), a


def extra_variance(
    z: Complex, origin: Complex, a: complex, belongs: Floats, variance: Floats, width2: float
) -> float:
    """Return the variance beyond the stated one, a step of Fisher scoring on."""
    square = np.abs(z) ** 2 - 2 * (z * (a * origin).conj()).real + abs(a) ** 2
    s2 = variance + width2
    score, information = belongs * (square / 2 - s2) / s2**2, belongs / s2**2
    return max(width2 + float(score.sum() / information.sum()), 1e-6)


def _start(z: Complex) -> tuple[complex, float]:
    """Return centre and radius of the algebraic circle, far points weighing less and less."""
    weight = np.ones(len(z))
    middle = z.mean()
    shifted = z - middle
    design = np.stack([shifted.real, shifted.imag, np.ones(len(z))], axis=1)
    centre, radius = 0j, float(np.abs(shifted).mean())
    for _ in range(10):
        side = np.sqrt(weight)
        b = np.linalg.lstsq(design * side[:, None], np.abs(shifted) ** 2 * side, rcond=None)[0]
        centre = complex(b[0], b[1]) / 2
        radius = math.sqrt(max(b[2] + abs(centre) ** 2, 1e-12))
        off = np.abs(shifted - centre) - radius
        usual = 1.5 * np.median(np.abs(off)) + 1e-9
        weight = 1 / (1 + (off / (2 * usual)) ** 2) ** 2
    return complex(middle + centre), radius


def checked_localizations(
    x_nm: npt.ArrayLike, y_nm: npt.ArrayLike, uncertainty_nm: npt.ArrayLike, fewest: int
) -> tuple[Complex, Floats]:
    """Return positions x + iy and their variances."""
    x, y = np.asarray(x_nm, np.float64), np.asarray(y_nm, np.float64)
    sigma = np.asarray(uncertainty_nm, np.float64)
    if x.ndim != 1 or x.shape != y.shape or sigma.shape not in ((), x.shape):
        raise ValueError(f"columns of one length needed: {x.shape}, {y.shape}, {sigma.shape}")
    if len(x) < fewest:
        raise ValueError(f"{fewest} localizations or more are needed, got {len(x)}")
    if not (np.isfinite(x).all() and np.isfinite(y).all() and np.all(sigma >= 0)):
        raise ValueError("positions must be finite and uncertainties 0 or more")
    return x + 1j * y, np.broadcast_to(sigma**2, x.shape)

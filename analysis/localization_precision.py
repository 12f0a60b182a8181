"""How precisely a single molecule can be localized: closed forms, and Fisher's information.

Lengths in nm. `background` is the mean number of background photons in a pixel (Thompson's b is
its root). In all closed forms the pixel adds its own width: sigma_a^2 = sigma^2 + a^2 / 12, and
tau = 2 pi sigma_a^2 b / (N a^2) weighs the background.

An amplifying camera (EMCCD) multiplies all variances by its excess noise, 2: `excess_noise`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.integrate import quad
from scipy.special import erf

Floats = npt.NDArray[np.float64]


class Widths(Protocol):
    """A calibration that tells the widths of a spot along x and y at a height."""

    def widths_nm(self, z_nm: npt.ArrayLike, /) -> tuple[Floats, Floats]:
        """Return both."""
        ...


@dataclass(frozen=True)
class Precision:
    """Least standard deviations of unbiased estimates, all parameters unknown at once.

    Attributes
    ----------
    x_nm, y_nm, photons, background
        Of the place, of the spot's photons, and of those of the background in a pixel.
    sigma_nm
        Of the width; None if it is known.
    z_nm
        Of the height; None but for an astigmatic lens.
    """

    x_nm: float
    y_nm: float
    photons: float
    background: float
    sigma_nm: float | None = None
    z_nm: float | None = None


def thompson(sigma_nm: float, pixel_size_nm: float, photons: float, background: float) -> float:
    """Return sigma_a^2 / N + 8 pi sigma^4 b / (a N)^2, rooted; far too small with few photons.

    R. E. Thompson et al., Biophys. J. 82 (2002) 2775.
    """
    a2 = _checked(sigma_nm, pixel_size_nm, photons, background)
    spread = sigma_nm**2 + a2 / 12.0
    ground = 8.0 * math.pi * sigma_nm**4 * background / (a2 * photons**2)
    return math.sqrt(spread / photons + ground)


def mortensen_least_squares(
    sigma_nm: float,
    pixel_size_nm: float,
    photons: float,
    background: float,
    excess_noise: float = 1.0,
) -> float:
    """Return sigma_a sqrt((16 / 9 + 4 tau) / N): unweighted least squares.

    K. I. Mortensen et al., Nat. Methods 7 (2010) 377.
    """
    spread, tau = _spread(sigma_nm, pixel_size_nm, photons, background)
    return math.sqrt(excess_noise * spread / photons * (16.0 / 9.0 + 4.0 * tau))


def mortensen_likelihood(
    sigma_nm: float,
    pixel_size_nm: float,
    photons: float,
    background: float,
    excess_noise: float = 1.0,
) -> float:
    """Return sigma_a / sqrt(N (1 + int_0^1 ln t / (1 + t / tau) dt)): greatest likelihood.

    K. I. Mortensen et al., Nat. Methods 7 (2010) 377.
    """
    spread, tau = _spread(sigma_nm, pixel_size_nm, photons, background)
    integral = 0.0
    if tau > 0.0:
        integral, _ = quad(lambda t: math.log(t) / (1.0 + t / tau), 0.0, 1.0, epsabs=1e-12)
    return math.sqrt(excess_noise * spread / photons / (1.0 + integral))


def rieger_stallinga(
    sigma_nm: float,
    pixel_size_nm: float,
    photons: float,
    background: float,
    excess_noise: float = 1.0,
) -> float:
    """Return an approximation of `mortensen_likelihood` without its integral.

    sigma_a^2 / N (1 + 4 tau + sqrt(2 tau / (1 + 4 tau))), rooted. B. Rieger & S. Stallinga,
    ChemPhysChem 15 (2014) 664.
    """
    spread, tau = _spread(sigma_nm, pixel_size_nm, photons, background)
    factor = 1.0 + 4.0 * tau + math.sqrt(2.0 * tau / (1.0 + 4.0 * tau))
    return math.sqrt(excess_noise * spread / photons * factor)


def cramer_rao(
    sigma_nm: float,
    pixel_size_nm: float,
    photons: float,
    background: float,
    *,
    box_px: int = 15,
    x_px: float = 0.0,
    y_px: float = 0.0,
    read_variance: npt.ArrayLike = 0.0,
    excess_noise: float = 1.0,
    free_width: bool = False,
) -> Precision:
    """Return the Cramer-Rao bound of a Gaussian spot integrated over pixels.

    The information is sum dmu dmu^T / (mu + v) over the pixels, v the variance of the readout
    noise (F. Huang et al., Nat. Methods 10 (2013) 653).

    Parameters
    ----------
    sigma_nm, pixel_size_nm, photons, background
        The spot, its pixels, its light and the background in a pixel, in photoelectrons.
    box_px
        Edge of the square of pixels that is looked at.
    x_px, y_px
        Place of the spot from the centre of the middle pixel.
    read_variance : scalar or (box_px, box_px)
        In photoelectrons squared.
    excess_noise
        2 for an EMCCD.
    free_width
        Whether the width is unknown, too.
    """
    _checked(sigma_nm, pixel_size_nm, photons, background)
    sigma = sigma_nm / pixel_size_nm
    ex, dx, sx = _profile(box_px, x_px, sigma)
    ey, dy, sy = _profile(box_px, y_px, sigma)
    slopes = [
        photons * np.outer(ey, dx),
        photons * np.outer(dy, ex),
        np.outer(ey, ex),
        np.ones((box_px, box_px)),
    ]
    if free_width:
        slopes.append(photons * (np.outer(sy, ex) + np.outer(ey, sx)))
    mean = photons * np.outer(ey, ex) + background + np.asarray(read_variance, float)
    x, y, n, b, *width = _bound(slopes, mean, excess_noise)
    a = pixel_size_nm
    return Precision(x * a, y * a, n, b, width[0] * a if free_width else None)


def cramer_rao_astigmatic(
    calibration: Widths,
    z_nm: float,
    pixel_size_nm: float,
    photons: float,
    background: float,
    *,
    box_px: int = 13,
    x_px: float = 0.0,
    y_px: float = 0.0,
    read_variance: npt.ArrayLike = 0.0,
    excess_noise: float = 1.0,
) -> Precision:
    """Return the Cramer-Rao bound where the widths along x and y tell the height."""
    wide = [np.asarray(w) for w in calibration.widths_nm(np.array([z_nm - 1, z_nm, z_nm + 1]))]
    (below_x, here_x, above_x), (below_y, here_y, above_y) = (w / pixel_size_nm for w in wide)
    _checked(here_x * pixel_size_nm, pixel_size_nm, photons, background)
    ex, dx, sx = _profile(box_px, x_px, here_x)
    ey, dy, sy = _profile(box_px, y_px, here_y)
    tilt_x, tilt_y = 0.5 * (above_x - below_x), 0.5 * (above_y - below_y)
    slopes = [
        photons * np.outer(ey, dx),
        photons * np.outer(dy, ex),
        np.outer(ey, ex),
        np.ones((box_px, box_px)),
        photons * (tilt_x * np.outer(ey, sx) + tilt_y * np.outer(sy, ex)),
    ]
    mean = photons * np.outer(ey, ex) + background + np.asarray(read_variance, float)
    x, y, n, b, z = _bound(slopes, mean, excess_noise)
    return Precision(x * pixel_size_nm, y * pixel_size_nm, n, b, z_nm=z)


def _profile(box_px: int, centre_px: float, sigma_px: float) -> tuple[Floats, Floats, Floats]:
    """Return the share of light in each row of pixels, and its slopes in place and width."""
    if box_px < 3:
        raise ValueError(f"box_px is {box_px}; it must be 3 or more")
    u = (np.arange(box_px + 1) - 0.5 * box_px - centre_px) / sigma_px
    gauss = np.exp(-0.5 * u**2) / (math.sqrt(2.0 * math.pi) * sigma_px)
    return (
        0.5 * np.diff(erf(u / math.sqrt(2.0))),
        -np.diff(gauss),
        -np.diff(u * gauss),
    )


def _bound(slopes: list[Floats], mean: Floats, excess_noise: float) -> list[float]:
    d = np.stack([s.ravel() for s in slopes])
    information = (d / mean.ravel()) @ d.T
    return [float(s) for s in np.sqrt(excess_noise * np.diag(np.linalg.inv(information)))]


def _spread(sigma: float, pixel: float, photons: float, background: float) -> tuple[float, float]:
    a2 = _checked(sigma, pixel, photons, background)
    spread = sigma**2 + a2 / 12.0
    return spread, 2.0 * math.pi * spread * background / (photons * a2)


def _checked(sigma: float, pixel: float, photons: float, background: float) -> float:
    if not (sigma > 0 and pixel > 0 and photons > 0 and background >= 0):
        raise ValueError(
            f"sigma {sigma} nm, pixel {pixel} nm and {photons} photons must be positive, "
            f"background {background} not negative"
        )
    return pixel**2

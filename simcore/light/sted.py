"""Stimulated emission depletion: a doughnut switches off all dyes but those in its dark centre.

The saturation zeta = I / I_s is the intensity on the doughnut's crest over that which switches off
half of the dyes (S. W. Hell & J. Wichmann, Opt. Lett. 19 (1994) 780; V. Westphal & S. W. Hell,
Phys. Rev. Lett. 94 (2005) 143903).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.optimize
import scipy.special

from nanophantom.simcore.light.psf.harmonics import radial_nodes

Floats = npt.NDArray[np.float64]

LN2 = math.log(2.0)


def left_by_pulses(saturation: npt.ArrayLike) -> Floats:
    """Return what a pulse that follows the exciting one leaves, ``2^-(I / I_s)``: half at I_s."""
    return np.asarray(np.exp(-LN2 * np.asarray(saturation, np.float64)))


def left_by_steady_light(saturation: npt.ArrayLike) -> Floats:
    """Return what a continuous beam leaves, ``1 / (1 + I / I_s)``: half at I_s."""
    return np.asarray(1.0 / (1.0 + np.asarray(saturation, np.float64)))


def resolution_nm(wavelength_nm: float, na: float, saturation: float) -> float:
    """Return the inverse square-root law, ``wavelength / (2 NA sqrt(1 + zeta))``.

    An estimate: it takes Abbe's limit for the width without depletion, and a parabola for the
    doughnut about its zero, just so steep that the same limit comes out. `depleted_fwhm_nm` takes
    the steepness that a doughnut has; widths are then some 10 to 20 % larger.
    """
    return wavelength_nm / (2.0 * na * math.sqrt(1.0 + saturation))


def depleted_sigma_nm(sigma_nm: float, saturation: float, per_nm: float) -> float:
    """Return the standard deviation of a Gaussian spot under a parabolic doughnut: exact.

    A spot ``exp(-r^2 / (2 s0^2))`` times ``2^-(zeta a^2 r^2)`` is a Gaussian with ``1 / s^2 = 1 /
    s0^2 + 2 ln2 zeta a^2``.

    Parameters
    ----------
    sigma_nm
        s0.
    saturation
        zeta.
    per_nm
        a: the doughnut's intensity is a^2 r^2 of that on its crest.
    """
    return 1.0 / math.sqrt(1.0 / sigma_nm**2 + 2.0 * LN2 * saturation * per_nm**2)


def depleted_fwhm_nm(
    fwhm_nm: float, saturation: float, per_nm: float, *, pulsed: bool = True
) -> float:
    """Return the width at half maximum of a Gaussian spot under a parabolic doughnut.

    Under pulses that of `depleted_sigma_nm`; under steady light the spot times
    ``1 / (1 + zeta a^2 r^2)``, solved for the half width.
    """
    sigma = fwhm_nm / (2.0 * math.sqrt(2.0 * LN2))
    if pulsed:
        return fwhm_nm * depleted_sigma_nm(sigma, saturation, per_nm) / sigma

    def above_half(r: float) -> float:
        spot = math.exp(-0.5 * (r / sigma) ** 2) / (1.0 + saturation * (per_nm * r) ** 2)
        return spot - 0.5

    return float(2.0 * scipy.optimize.brentq(above_half, 0.0, 0.5 * fwhm_nm + 1e-9))


@dataclass(frozen=True)
class Doughnut:
    """The focus of a beam that passed a vortex phase plate, scalar and paraxial.

    Its field is ``integral J1(v rho) exp(i u rho^2 / 2) rho drho`` over the pupil, v = 2 pi NA r /
    wavelength, u = 2 pi NA^2 z / (n wavelength): dark on the axis at any height, hence depletion
    sharpens spots across the axis only. A real zero isn't perfect: a part of the light makes an
    Airy spot instead.

    Attributes
    ----------
    wavelength_nm, na, index
        Of the beam, of the objective, and refractive index of the sample.
    residual
        Intensity in the middle over that on the crest.
    """

    wavelength_nm: float
    na: float
    index: float
    residual: float = 0.0

    @property
    def per_nm(self) -> float:
        """How steep it is: intensity about the zero is (per_nm r)^2 of the crest's."""
        crest, _ = _crest()
        return math.pi * self.na / (3.0 * self.wavelength_nm) / math.sqrt(crest)

    @property
    def crest_nm(self) -> float:
        """Radius of the crest in focus."""
        _, v = _crest()
        return v * self.wavelength_nm / (2.0 * math.pi * self.na)

    def intensity(self, r_nm: Floats, above_nm: Floats) -> Floats:
        """Return the intensity relative to the crest of the perfect doughnut in focus.

        Parameters
        ----------
        r_nm : (n,)
            Distance from the axis.
        above_nm : (planes, 1)
            Height above focus.
        """
        v = 2.0 * math.pi * self.na / self.wavelength_nm * r_nm
        u = 2.0 * math.pi * self.na**2 / (self.index * self.wavelength_nm) * above_nm
        crest, _ = _crest()
        ring = _focused(1, v, u) / crest
        if self.residual == 0.0:
            return ring
        return np.asarray(ring + self.residual * _focused(0, v, u) / 0.25)


def _focused(order: int, v: Floats, u: Floats) -> Floats:
    """Return the squared field of a pupil with a vortex of an order, (planes, n)."""
    turns = (float(np.max(v, initial=0.0)) + 0.5 * float(np.abs(u).max(initial=0.0))) / np.pi
    rho, weight = radial_nodes((), 24 + math.ceil(2.0 * turns))
    phase = 0.5 * u * rho**2
    bessel = scipy.special.jv(order, rho[:, None] * v)
    real, imaginary = (weight * np.cos(phase)) @ bessel, (weight * np.sin(phase)) @ bessel
    return np.asarray(real**2 + imaginary**2)


@functools.cache
def _crest() -> tuple[float, float]:
    """Return the squared field on the crest, and v there."""
    still = np.zeros((1, 1))
    found = scipy.optimize.minimize_scalar(
        lambda v: -float(_focused(1, np.array([v]), still)[0, 0]),
        bounds=(1.0, 4.0),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return -float(found.fun), float(found.x)

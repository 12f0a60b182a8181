"""What a fast electron is: wavelength, interaction constant, Lorentz factor, velocity."""

from __future__ import annotations

from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import constants as codata

Energy = TypeVar("Energy", float, npt.NDArray[np.float64])
"""One energy, or an array of them: the answer has the same shape."""

REST_ENERGY_KEV: Final[float] = (
    codata.electron_mass * codata.speed_of_light**2 / codata.elementary_charge / 1e3
)
BOHR_RADIUS_A: Final[float] = codata.physical_constants["Bohr radius"][0] * 1e10

_HC_KEV_A: Final[float] = (
    codata.Planck * codata.speed_of_light / codata.elementary_charge * 1e10 / 1e3
)

POTENTIAL_CONSTANT_V_A2: Final[float] = (
    codata.Planck**2 / (2 * np.pi * codata.electron_mass * codata.elementary_charge) * 1e20
)
"""h^2 / (2 pi m e) = 47.878 V Å^2: the potential's transform is V(k) = 47.878 f_e(k)."""


def _checked(energy_kev: Energy) -> Energy:
    if not np.all((np.asarray(energy_kev) > 0) & np.isfinite(energy_kev)):
        raise ValueError(f"energy_kev must be positive and finite, got {energy_kev}")
    return energy_kev


def lorentz_factor(energy_kev: Energy) -> Energy:
    """Return gamma = 1 + E / (m c^2) of electrons with kinetic energy E.

    Parameters
    ----------
    energy_kev : float or array
        Kinetic energy in keV (the accelerating voltage in kV).

    Raises
    ------
    ValueError
        If an energy is not positive and finite.
    """
    return 1 + _checked(energy_kev) / REST_ENERGY_KEV


def velocity_ratio(energy_kev: Energy) -> Energy:
    """Return beta = v / c.

    Parameters
    ----------
    energy_kev : float or array
        Kinetic energy in keV.

    Raises
    ------
    ValueError
        If an energy is not positive and finite.
    """
    # beta^2 = (gamma^2 - 1) / gamma^2, without the cancellation at low energy
    kinetic = _checked(energy_kev) / REST_ENERGY_KEV
    momentum: Energy = np.sqrt(kinetic * (2 + kinetic))
    return momentum / (1 + kinetic)


def wavelength(energy_kev: Energy) -> Energy:
    """Return the relativistic de Broglie wavelength, h c / sqrt(E (E + 2 m c^2)), in Å.

    Parameters
    ----------
    energy_kev : float or array
        Kinetic energy in keV.

    Raises
    ------
    ValueError
        If an energy is not positive and finite.
    """
    energy_kev = _checked(energy_kev)
    momentum: Energy = np.sqrt(energy_kev * (energy_kev + 2 * REST_ENERGY_KEV))
    return _HC_KEV_A / momentum


def interaction_constant(energy_kev: Energy) -> Energy:
    """Return sigma = 2 pi m e lambda / h^2 in rad / (V Å), m the relativistic mass.

    A projected potential v(x, y) in V Å shifts the electron's phase by sigma v (Kirkland,
    Advanced Computing in Electron Microscopy, 2nd ed. 2010, chapter 5).

    Parameters
    ----------
    energy_kev : float or array
        Kinetic energy in keV.

    Raises
    ------
    ValueError
        If an energy is not positive and finite.
    """
    # 2 pi m e / h^2 is gamma over the constant of the potential (that one for the mass at rest)
    return lorentz_factor(energy_kev) * wavelength(energy_kev) / POTENTIAL_CONSTANT_V_A2

"""Gas around the specimen: electrons that it scatters no longer make the image."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from pydantic import Field
from scipy import constants as codata

from nanophantom.simcore.electrons.constants import REST_ENERGY_KEV, velocity_ratio, wavelength
from nanophantom.simcore.fields import Table
from nanophantom.simcore.models import Model

MOLECULES: dict[str, tuple[int, ...]] = {
    "H2": (1, 1),
    "He": (2,),
    "N2": (7, 7),
    "O2": (8, 8),
    "CO": (6, 8),
    "CO2": (6, 8, 8),
    "H2O": (1, 1, 8),
    "CH4": (6, 1, 1, 1, 1),
    "Ar": (18,),
}
"""Atomic numbers of the atoms of a molecule."""

MEAN_LOSS_KEV = 0.020
"""Mean energy loss of an inelastic event in the formula of Langmore and Smith."""
BOHR_RADIUS_A = 1e10 * codata.physical_constants["Bohr radius"][0]


class Gas(Model):
    """A gas that fills the space between the pole pieces evenly.

    A fraction exp(-n sigma L) of the electrons passes it unscattered and makes the image. Those
    that lost energy, and those scattered elastically into the aperture, form an even background;
    the rest is stopped. Cross sections: J. P. Langmore & M. F. Smith, Ultramicroscopy 46 (1992)
    349; they are good to some 30 %.
    """

    species: Literal["H2", "He", "N2", "O2", "CO", "CO2", "H2O", "CH4", "Ar"]
    """Molecule."""
    pressure_mbar: float = Field(gt=0, le=100)
    """Pressure; 1 mbar is 100 Pa. Environmental microscopes reach some 20 mbar."""
    path_mm: float = Field(default=5.4, gt=0, le=100)
    """Way of the beam through the gas: the gap of an environmental microscope's pole pieces."""
    temperature_k: float = Field(default=298.0, gt=0, le=3000)
    """Of the gas."""

    def molecules_per_nm2(self) -> float:
        """Return how many molecules the beam meets, p L / k_B T."""
        per_m3 = 100.0 * self.pressure_mbar / (float(codata.Boltzmann) * self.temperature_k)
        return per_m3 * 1e-3 * self.path_mm * 1e-18

    def cross_sections_nm2(self, energy_kev: float) -> tuple[float, float]:
        """Return the elastic and the inelastic cross section of a molecule."""
        parts = [langmore_smith_nm2(z, energy_kev) for z in MOLECULES[self.species]]
        return sum(p[0] for p in parts), sum(p[1] for p in parts)

    def unscattered(self, energy_kev: float) -> float:
        """Return the fraction of the electrons that makes the image."""
        return math.exp(-self.molecules_per_nm2() * sum(self.cross_sections_nm2(energy_kev)))

    def background(self, energy_kev: float, aperture_mrad: float | None) -> float:
        """Return the fraction that passes the aperture after it was scattered.

        Elastic scattering at a screened atom spreads over theta_0 = lambda Z^(1/3) / 2 pi a_0, of
        which an aperture alpha passes alpha^2 / (alpha^2 + theta_0^2) (F. Lenz, Z. Naturforsch.
        9a (1954) 185).
        """
        elastic, inelastic = self.cross_sections_nm2(energy_kev)
        passed = 1.0
        if aperture_mrad is not None:
            z = float(np.mean(MOLECULES[self.species]))
            width = 1e3 * float(wavelength(energy_kev)) * z ** (1 / 3) / (
                2 * math.pi * BOHR_RADIUS_A
            )  # fmt: skip
            passed = aperture_mrad**2 / (aperture_mrad**2 + width**2)
        share = (inelastic + passed * elastic) / (inelastic + elastic)
        return (1.0 - self.unscattered(energy_kev)) * share

    def table(self, energy_kev: float, aperture_mrad: float | None) -> Table:
        """Return what becomes of the electrons."""
        unscattered = self.unscattered(energy_kev)
        background = self.background(energy_kev, aperture_mrad)
        return {
            "unscattered": np.array([unscattered]),
            "background": np.array([background]),
            "stopped": np.array([1.0 - unscattered - background]),
        }


def langmore_smith_nm2(Z: int, energy_kev: float) -> tuple[float, float]:
    """Return the total elastic and inelastic cross section of an atom, nm^2.

    sigma_el = 1.4e-6 Z^1.5 / beta^2 (1 - 0.26 Z / 137 beta), sigma_inel = 1.5e-6 Z^0.5 / beta^2
    ln(2 / theta_E), theta_E = 20 eV / (beta^2 (E + m c^2)): J. P. Langmore & M. F. Smith,
    Ultramicroscopy 46 (1992) 349.
    """
    beta = float(velocity_ratio(energy_kev))
    theta = MEAN_LOSS_KEV / (beta**2 * (energy_kev + REST_ENERGY_KEV))
    elastic = 1.4e-6 * Z**1.5 / beta**2 * (1.0 - 0.26 * Z / (137.0 * beta))
    inelastic = 1.5e-6 * math.sqrt(Z) / beta**2 * math.log(2.0 / theta)
    return elastic, inelastic

"""Processes that take or move single atoms under the beam."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from ase.data import atomic_masses, atomic_numbers, chemical_symbols
from pydantic import Field, field_validator

from nanophantom.simcore.damage import knock_on
from nanophantom.simcore.damage.kinetics import Beam, Kinetics, Sites
from nanophantom.simcore.electrons.debye_waller import debye_temperature
from nanophantom.simcore.models import Model
from nanophantom.simcore.streams import numbers_of_places

Floats = npt.NDArray[np.float64]
Energy = Annotated[float, Field(gt=0, le=1000)]
Neighbours = Annotated[int, Field(ge=0, le=63)]

BARN_A2 = 1e-8
RESIDUE_KEY = np.uint64(0x5EED)
"""Which atoms are residue is a rule of their place alone, the same in every run."""


class SiteEnergies(Model):
    """Displacement energies of one element."""

    energy_ev: Energy
    """Where nothing else is said."""
    by_coordination_ev: dict[Neighbours, Energy] = Field(default_factory=dict)
    """Of atoms with this many neighbours: {2: 14.0} for the edge of a sheet of carbon."""


class KnockOn(Kinetics):
    """Electrons knock atoms off their sites: McKinley-Feshbach, or Rutherford above nickel.

    An atom is displaced when an electron hands it more than its displacement energy; thermal motion
    along the beam helps (Meyer et al., Phys. Rev. Lett. 108 (2012) 196102; Susi et al., Nature
    Commun. 7 (2016) 13040). Displaced atoms leave the specimen, as they do at a face or from a
    sheet, or are moved to a place nearby.
    """

    process: Literal["knock-on"] = "knock-on"
    displacement: dict[str, SiteEnergies] = Field(min_length=1)
    """By element; elements that aren't named stay."""
    velocity_variance_m2_s2: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict, json_schema_extra={"dimensionless": True}
    )
    """Mean square velocity of an element's atoms along the beam; elements that aren't named have
    it from the Debye model."""
    temperature_k: float = Field(default=300.0, ge=0, le=3000)
    """Of the specimen."""
    debye_temperature_k: float = Field(default=600.0, gt=0, le=3000)
    """Of elements that the Debye model's table doesn't have, as oxygen; 600 K suits oxides."""
    isotopes_u: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict, json_schema_extra={"dimensionless": True}
    )
    """Mass in atomic mass units where it isn't the standard atomic weight: {C: 13.00335}."""
    fate_of_atom: Literal["lost", "moved"] = "lost"
    """Whether it leaves the specimen or comes to rest nearby."""
    range_nm: float = Field(default=0.3, gt=0, le=100)
    """How far it comes if it is moved."""

    @field_validator("displacement", mode="before")
    @classmethod
    def _plain_energies(cls, value: Any) -> Any:
        """Read {C: 21.14} as well as {C: {energy_ev: 21.14}}."""
        if isinstance(value, dict):
            return {k: v if isinstance(v, dict | Model) else {"energy_ev": v}
                    for k, v in value.items()}  # fmt: skip
        return value

    @field_validator("displacement", "velocity_variance_m2_s2", "isotopes_u")
    @classmethod
    def _elements(cls, value: dict[str, Any]) -> dict[str, Any]:
        for symbol in value:
            if atomic_numbers.get(symbol, 0) < 1:
                raise ValueError(f"{symbol!r} is no chemical symbol")
        return value

    def cross_section_barn(self, element: str, coordination: int, energy_kev: float) -> float:
        """Return the cross section of one kind of site."""
        energies = self.displacement[element]
        return _cross_section(
            energy_kev,
            atomic_numbers[element],
            self.isotopes_u.get(element, float(atomic_masses[atomic_numbers[element]])),
            energies.by_coordination_ev.get(coordination, energies.energy_ev),
            self.velocity_variance(element),
        )

    def velocity_variance(self, element: str) -> float:
        """Return the mean square velocity along the beam, m^2/s^2."""
        known = self.velocity_variance_m2_s2.get(element)
        if known is not None:
            return known
        number = atomic_numbers[element]
        try:
            debye_k = debye_temperature(number)
        except ValueError:
            debye_k = self.debye_temperature_k
        mass_u = self.isotopes_u.get(element, float(atomic_masses[number]))
        return knock_on.velocity_variance_m2_s2(mass_u, self.temperature_k, debye_k)

    def rates_per_s(self, sites: Sites, beam: Beam) -> Floats:
        """Return cross section times flux."""
        sigma = np.zeros(len(sites.numbers))
        kinds = sites.numbers * 64 + np.minimum(sites.coordination, 63)
        for kind in np.unique(kinds):
            symbol = chemical_symbols[kind // 64]
            if symbol in self.displacement:
                barn = self.cross_section_barn(symbol, int(kind % 64), beam.energy_kev)
                sigma[kinds == kind] = barn
        return np.asarray(sigma * BARN_A2 * beam.flux_e_per_A2_s)

    def fate(self, sites: Sites, atom: int, uniform: Floats) -> Floats:
        """Return NaN, or a place nearby in a random direction."""
        if self.fate_of_atom == "lost":
            return np.full(3, np.nan)
        return np.asarray(sites.positions_nm[atom] + self.range_nm * direction(uniform))


@lru_cache(maxsize=4096)
def _cross_section(
    energy_kev: float, number: int, mass_u: float, displacement_ev: float, variance: float
) -> float:
    return float(
        knock_on.displacement_cross_section_barn(
            energy_kev, number, mass_u, displacement_ev, velocity_variance_m2_s2=variance
        )
    )


class PerDose(Kinetics):
    """A process whose rate is the flux over a critical fluence."""

    critical_fluence_e_per_A2: float = Field(gt=0)
    """Fluence after which a part 1/e of the sites is left untouched."""
    elements: tuple[str, ...] = ()
    """Whom it concerns; all elements if none is named."""
    threshold_rate_e_per_A2_s: float = Field(default=0.0, ge=0)
    """Dose rate that repair can just undo; only what exceeds it damages."""

    @field_validator("elements")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for symbol in value:
            if atomic_numbers.get(symbol, 0) < 1:
                raise ValueError(f"{symbol!r} is no chemical symbol")
        return value

    def concerned(self, sites: Sites) -> npt.NDArray[np.bool_]:
        """Say whom it concerns, shape (n,)."""
        if not self.elements:
            return np.ones(len(sites.numbers), bool)
        return np.isin(sites.numbers, [atomic_numbers[e] for e in self.elements])

    def rates_per_s(self, sites: Sites, beam: Beam) -> Floats:
        """Return (flux - threshold) / critical fluence where that is positive."""
        excess = np.maximum(beam.flux_e_per_A2_s - self.threshold_rate_e_per_A2_s, 0.0)
        return np.where(self.concerned(sites), excess / self.critical_fluence_e_per_A2, 0.0)


class Amorphization(PerDose):
    """Radiolysis breaks bonds: a site jumps once to a random place nearby and is disordered.

    Sites that scatter in step fall as f = exp(-N / N_c), so Bragg intensities fall as f^2. That
    holds where 2 pi^2 u^2 / d^2 is well above 1 (u the displacement, d the spacing): sites that
    moved by less than a spacing still scatter partly in step.
    """

    process: Literal["amorphization"] = "amorphization"
    displacement_rms_nm: float = Field(default=0.08, gt=0, le=1)
    """Rms displacement along each axis of a site that is disordered."""

    def concerned(self, sites: Sites) -> npt.NDArray[np.bool_]:
        """Say which sites are still where they began; the others are disordered already."""
        intact = (sites.positions_nm == sites.homes_nm).all(axis=1)
        return np.asarray(super().concerned(sites) & intact)

    def fate(self, sites: Sites, atom: int, uniform: Floats) -> Floats:
        """Return a place nearby, normally distributed about the old one."""
        radius = np.sqrt(-2.0 * np.log(uniform[:2]))
        angle = 2.0 * np.pi * uniform[2:4]
        step = np.array([
            radius[0] * np.cos(angle[0]), radius[0] * np.sin(angle[0]), radius[1] * np.cos(angle[1])
        ])  # fmt: skip
        return np.asarray(sites.positions_nm[atom] + self.displacement_rms_nm * step)


class MassLoss(PerDose):
    """Radiolysis frees volatile matter: atoms leave, down to a residue that stays."""

    process: Literal["mass-loss"] = "mass-loss"
    residue: float = Field(default=0.0, ge=0, lt=1, json_schema_extra={"dimensionless": True})
    """Fraction of the atoms that never leaves."""

    def rates_per_s(self, sites: Sites, beam: Beam) -> Floats:
        """Return the rate for those that aren't residue."""
        share = numbers_of_places(10.0 * sites.homes_nm, RESIDUE_KEY, 1)[:, 0]
        return np.where(share >= self.residue, super().rates_per_s(sites, beam), 0.0)

    def fate(self, sites: Sites, atom: int, uniform: Floats) -> Floats:
        """Return NaN: it leaves."""
        return np.full(3, np.nan)


def direction(uniform: Floats) -> Floats:
    """Return a unit vector, evenly distributed, from two uniform numbers."""
    z = 2.0 * uniform[0] - 1.0
    radius = np.sqrt(max(0.0, 1.0 - z * z))
    angle = 2.0 * np.pi * uniform[1]
    return np.array([radius * np.cos(angle), radius * np.sin(angle), z])

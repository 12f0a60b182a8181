"""Radiolysis of images and diffraction patterns: contrast that fades with dose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from nanophantom.simcore.damage.kinetics import segments
from nanophantom.simcore.damage.radiolysis import (
    FadingLaw,
    accumulated_damage,
    arrhenius_factor,
)
from nanophantom.simcore.damage.sensitivity import sensitivity
from nanophantom.simcore.damage.stopping import VoltageLaw, voltage_scale
from nanophantom.simcore.dose import Ledger
from nanophantom.simcore.models import Model

Floats = npt.NDArray[np.float64]
Positive = Annotated[float, Field(gt=0)]

VITRIFIED = "vitrified protein"
FREQUENCIES_PER_A = np.concatenate([[0.0], np.geomspace(0.005, 4.0, 400)])


class ContrastFading(Model):
    """Intensities at a spatial frequency k fall as exp(-N / N_c(k)), whatever the atoms do.

    One of: a material of the table of published doses; one critical dose for all frequencies; one
    for each of some spacings; the power law floor + amplitude k^-exponent (k in 1/Å).
    """

    process: Literal["fading"] = "fading"
    material: str | None = None
    """A published material by name, "vitrified protein", say."""
    critical_dose_e_per_A2: Positive | None = None
    """One critical dose for all spatial frequencies; the floor of the power law if there is one."""
    amplitude_e_per_A2: float = Field(default=0.0, ge=0)
    """Power law: what is added at k = 1 per ångström."""
    exponent: float = Field(default=1.665, ge=0, json_schema_extra={"dimensionless": True})
    """Power law: how it grows towards coarse spacings."""
    spacings_nm: tuple[Positive, ...] = ()
    """Spacings for which critical doses are given; straight lines in log-log between them."""
    critical_doses_e_per_A2: tuple[Positive, ...] = ()
    """Critical dose of each spacing."""
    holds_at_kev: Positive | None = None
    """Beam energy that the doses hold for; none: the one that is used."""
    voltage_law: Literal["measured", "stopping-power", "dose-weighting"] | None = None
    """How critical doses change with the beam energy; none takes dose-weighting (0.8 at 200 kV)
    for vitrified protein and measured for all else."""
    cryo_factor: float = Field(default=1.0, gt=0, json_schema_extra={"dimensionless": True})
    """By how much cooling multiplies all critical doses."""
    activation_ev: float = 0.0
    """Arrhenius: energy that makes damage faster when warm; below zero slower."""
    temperature_k: Positive = 300.0
    """Of the specimen, for the Arrhenius factor."""
    holds_at_k: Positive = 300.0
    """Temperature that the doses hold for."""
    repair_hz: float = Field(default=0.0, ge=0)
    """Rate at which damage heals, in the beam and between exposures."""
    threshold_rate_e_per_A2_s: float = Field(default=0.0, ge=0)
    """Dose rate below which nothing fades; only what exceeds it counts."""

    @model_validator(mode="after")
    def _one_law(self) -> Self:
        ways = (self.material, self.critical_dose_e_per_A2, self.spacings_nm or None)
        if sum(way is not None for way in ways) != 1:
            raise ValueError(
                "a fading needs one of material, critical_dose_e_per_A2 and spacings_nm with "
                "critical_doses_e_per_A2"
            )
        if len(self.spacings_nm) != len(self.critical_doses_e_per_A2):
            raise ValueError(
                f"spacings_nm has {len(self.spacings_nm)} values and critical_doses_e_per_A2 "
                f"{len(self.critical_doses_e_per_A2)}; give one dose for each spacing"
            )
        if self.repair_hz and self.threshold_rate_e_per_A2_s:
            raise ValueError("repair_hz and threshold_rate_e_per_A2_s are two forms; give one")
        if self.material is not None:
            sensitivity(self.material)  # refuses names that it doesn't know
            if self.holds_at_kev is not None:
                raise ValueError("holds_at_kev: a published material brings its own beam energy")
        return self

    def law(self, energy_kev: float) -> FadingLaw:
        """Return the critical doses at a beam energy."""
        holds_at = self.holds_at_kev
        if self.material is not None:
            known = sensitivity(self.material)
            law, holds_at = known.law, known.energy_kev
        elif self.critical_dose_e_per_A2 is not None:
            law = FadingLaw.power(
                self.critical_dose_e_per_A2, self.amplitude_e_per_A2, self.exponent
            )
        else:
            law = FadingLaw.table(
                [10.0 * d for d in self.spacings_nm], self.critical_doses_e_per_A2
            )
        factor = self.cryo_factor
        if holds_at is not None:
            usual: VoltageLaw = "dose-weighting" if self.material == VITRIFIED else "measured"
            factor *= float(voltage_scale(energy_kev, holds_at, self.voltage_law or usual))
        if self.activation_ev:
            factor *= float(
                arrhenius_factor(self.temperature_k, self.activation_ev, self.holds_at_k)
            )
        return law.scaled(factor)

    def over(self, ledger: Ledger) -> Faded:
        """Return what is left of each frequency in every exposure."""
        law = self.law(ledger.energy_kev)
        k = FREQUENCIES_PER_A[1:]
        stretches = list(segments(ledger))
        edges = np.array([s[0] for s in stretches] + [stretches[-1][1]])
        flux = np.array([s[2] for s in stretches])
        sensitivities = 1.0 / law.critical_dose(k)
        kind: Literal["competing", "threshold"] = "competing"
        repair = np.full(len(k), self.repair_hz)
        if self.threshold_rate_e_per_A2_s:
            kind, repair = "threshold", self.threshold_rate_e_per_A2_s * sensitivities
        damage = accumulated_damage(edges, flux, sensitivities, repair, kind)
        left = np.sqrt(1.0 - damage)
        begins = np.searchsorted(edges, ledger.start_s - 1e-9)
        ends = np.searchsorted(edges, ledger.end_s - 1e-9)
        return Faded(law, logarithmic_mean(left[begins], left[ends]))


@dataclass(frozen=True, eq=False)
class Faded:
    """What a specimen has lost in every exposure.

    Attributes
    ----------
    law
        Its critical doses.
    amplitudes
        What is left of the amplitudes in each exposure, at `FREQUENCIES_PER_A` but the first.
    """

    law: FadingLaw
    amplitudes: Floats

    def critical_dose(self, k_per_A: Floats) -> Floats:
        """Return the critical dose, e/Å^2."""
        return self.law.critical_dose(k_per_A)

    def amplitude(self, k_per_A: Floats, frame: int) -> Floats:
        """Return what is left of the amplitudes in a frame; the mean brightness stays."""
        table = np.concatenate([[1.0], self.amplitudes[frame]])
        left = np.interp(k_per_A, FREQUENCIES_PER_A, table)
        left[(k_per_A > 0) & (k_per_A < FREQUENCIES_PER_A[1])] = table[1]
        return np.asarray(left)


def logarithmic_mean(begin: Floats, end: Floats) -> Floats:
    """Return the mean over an interval of what decays exponentially from one value to another."""
    ratio = np.log(np.maximum(begin, 1e-300) / np.maximum(end, 1e-300))
    steep = np.abs(ratio) > 1e-6
    mean = np.where(steep, (begin - end) / np.where(steep, ratio, 1.0), (begin + end) / 2)
    return np.asarray(mean)

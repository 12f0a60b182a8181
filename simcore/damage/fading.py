"""Radiolysis of images and diffraction patterns: contrast that fades with dose."""

from __future__ import annotations

from collections.abc import Sequence
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
    effective_fluence,
)
from nanophantom.simcore.damage.sensitivity import sensitivity
from nanophantom.simcore.damage.stopping import VoltageLaw, voltage_scale
from nanophantom.simcore.dose import Ledger
from nanophantom.simcore.models import Model

Floats = npt.NDArray[np.float64]
Positive = Annotated[float, Field(gt=0)]

VITRIFIED = "vitrified protein"
FREQUENCIES_PER_A = np.concatenate([[0.0], np.geomspace(0.005, 4.0, 400)])
PARTS = 8
"""Of an exposure; in each of them the logarithm of what is left is a straight line, which is exact
unless damage heals."""


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
        if self.amplitude_e_per_A2 and self.critical_dose_e_per_A2 is None:
            raise ValueError(
                "amplitude_e_per_A2 belongs to the power law; give its floor "
                "critical_dose_e_per_A2 too, or leave it away"
            )
        if len(set(self.spacings_nm)) < len(self.spacings_nm):
            raise ValueError("spacings_nm names a spacing twice; give each one dose")
        if self.repair_hz and self.threshold_rate_e_per_A2_s:
            raise ValueError("repair_hz and threshold_rate_e_per_A2_s are two forms; give one")
        if self.material is not None:
            sensitivity(self.material)  # refuses names that it doesn't know
            if self.holds_at_kev is not None:
                raise ValueError("holds_at_kev: a published material brings its own beam energy")
        return self

    @property
    def notes(self) -> tuple[str, ...]:
        """What a published dose stands for, and what is assumed if it isn't one."""
        if self.material is None:
            return ()
        known = sensitivity(self.material)
        at = "" if known.energy_kev is None else f" at {known.energy_kev:g} keV"
        cold = "" if known.temperature_k is None else f", {known.temperature_k:g} K"
        return (
            f"Fading of {self.material}: published{at}{cold} for the dose at which {known.endpoint}"
            f" ({known.source}); it is taken as the 1/e dose and scaled to the beam's energy.",
        )

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

    def exponents(self, energy_kev: float, edges_s: Floats, flux_e_per_A2_s: Floats) -> Floats:
        """Return -ln of what is left of the intensities, at the edges of times of constant flux.

        Parameters
        ----------
        energy_kev
            Beam energy.
        edges_s : (n + 1,)
            Times.
        flux_e_per_A2_s : (n,)
            Flux between them.

        Returns
        -------
        (n + 1, frequencies)
            At `FREQUENCIES_PER_A` but the first.
        """
        sensitivities = 1.0 / self.law(energy_kev).critical_dose(FREQUENCIES_PER_A[1:])
        if self.repair_hz:
            damage = accumulated_damage(edges_s, flux_e_per_A2_s, sensitivities, self.repair_hz)
            return np.asarray(-np.log(np.maximum(1.0 - damage, 1e-15)))
        counted = effective_fluence(edges_s, flux_e_per_A2_s, self.threshold_rate_e_per_A2_s)
        return np.asarray(counted[:, None] * sensitivities)


@dataclass(frozen=True, eq=False)
class Faded:
    """What a specimen has lost in every exposure.

    Attributes
    ----------
    laws
        Critical doses of all that fades it.
    amplitudes, intensities
        What is left of both, averaged over each exposure, at `FREQUENCIES_PER_A` but the first.
    """

    laws: tuple[FadingLaw, ...]
    amplitudes: Floats
    intensities: Floats

    @classmethod
    def of(cls, causes: Sequence[ContrastFading], ledger: Ledger) -> Self:
        """Let everything that fades a specimen act at once; what is left multiplies."""
        edges, flux, opened = _parted(ledger)
        exponents = np.zeros((len(edges), len(FREQUENCIES_PER_A) - 1))
        for cause in causes:
            exponents += cause.exponents(ledger.energy_kev, edges, flux)
        amplitudes, intensities = (
            np.stack([mean_left(power * exponents[i : i + PARTS + 1]) for i in opened])
            for power in (0.5, 1.0)
        )
        laws = tuple(cause.law(ledger.energy_kev) for cause in causes)
        return cls(laws, amplitudes, intensities)

    def critical_dose(self, k_per_A: Floats) -> Floats:
        """Return the critical dose, e/Å^2."""
        return np.asarray(1.0 / np.sum([1.0 / law.critical_dose(k_per_A) for law in self.laws], 0))

    def amplitude(self, k_per_A: Floats, frame: int) -> Floats:
        """Return what is left of the amplitudes in a frame; the mean brightness stays."""
        return _at(k_per_A, self.amplitudes[frame])

    def intensity(self, k_per_A: Floats, frame: int) -> Floats:
        """Return what is left of the intensities in a frame."""
        return _at(k_per_A, self.intensities[frame])


def _parted(ledger: Ledger) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """Divide exposures into equal parts: edges (s), flux between, where exposures begin."""
    edges, fluxes = [], []
    for begin, end, flux in segments(ledger):
        n = PARTS if flux > 0 else 1
        edges.append(np.linspace(begin, end, n, endpoint=False))
        fluxes += [flux] * n
    every = np.concatenate([*edges, ledger.end_s[-1:]])
    return every, np.array(fluxes), np.searchsorted(every, ledger.start_s - 1e-9)


def mean_left(exponents: Floats) -> Floats:
    """Return the mean of exp(-exponent) over time.

    Parameters
    ----------
    exponents : (parts + 1, n)
        At the edges of equal parts of the time, straight between them.
    """
    rise = np.diff(exponents, axis=0)
    flat = np.abs(rise) < 1e-6
    part = np.where(flat, 1.0 - rise / 2, -np.expm1(-rise) / np.where(flat, 1.0, rise))
    return np.asarray((np.exp(-exponents[:-1]) * part).mean(axis=0))


def _at(k_per_A: Floats, left: Floats) -> Floats:
    """Interpolate between `FREQUENCIES_PER_A`; at k = 0 nothing is lost."""
    found = np.interp(k_per_A, FREQUENCIES_PER_A, np.concatenate([[1.0], left]))
    found[(k_per_A > 0) & (k_per_A < FREQUENCIES_PER_A[1])] = left[0]
    return np.asarray(found)

"""Light on the specimen: how strong it is, where, how deep it reaches, when it changes."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from nanophantom.simcore.models import Model

Floats = npt.NDArray[np.float64]

PURE: dict[str, Any] = {"dimensionless": True}
RAMP_STEPS = 16
"""A ramp of the activating light is played in so many equal steps."""


class Illumination(Model):
    """Exciting and activating light of a widefield microscope, epi or total reflection."""

    excitation_kw_per_cm2: float = Field(default=0.8, gt=0, le=1000)
    """Intensity of the exciting light in the middle of the field, at the coverslip."""
    activation_kw_per_cm2: float = Field(default=0.0, ge=0, le=100)
    """Intensity of the activating light (405 nm, say), likewise."""
    activation_end_kw_per_cm2: float | None = Field(default=None, ge=0, le=100)
    """Intensity to which the activating light is raised during the movie, in 16 equal steps; none:
    it stays."""
    before_s: float = Field(default=0.0, ge=0, le=1e5)
    """How long the light has been on when the first frame opens: dyes that start ON switch off."""
    profile: Literal["flat", "gaussian"] = "flat"
    """Even light, or a Gaussian beam about the middle of the view."""
    fwhm_um: float = Field(default=20.0, gt=0, le=1e4)
    """Full width at half maximum of the Gaussian beam."""
    mode: Literal["epi", "tirf"] = "epi"
    """Through the whole depth, or by total internal reflection at the coverslip."""
    tirf_angle_deg: float = Field(default=66.0, gt=0, lt=90)
    """Angle of incidence on the coverslip's upper face under total reflection."""

    @model_validator(mode="after")
    def _activates(self) -> Self:
        if self.activation_end_kw_per_cm2 == 0 and self.activation_kw_per_cm2 == 0:
            raise ValueError("activation_end_kw_per_cm2: the activating light is 0 all the time")
        return self

    def penetration_nm(self, wavelength_nm: float, glass: float, sample: float) -> float:
        """Return the depth at which the intensity has fallen to 1/e; infinite in epi.

        ``wavelength / (4 pi sqrt(n_glass^2 sin^2 angle - n_sample^2))`` (D. Axelrod, Traffic 2
        (2001) 764).

        Raises
        ------
        ValueError
            The angle lies below the critical one.
        """
        if self.mode == "epi":
            return math.inf
        beyond = (glass * math.sin(math.radians(self.tirf_angle_deg))) ** 2 - sample**2
        if beyond <= 0:
            critical = math.degrees(math.asin(min(1.0, sample / glass)))
            raise ValueError(
                f"illumination.tirf_angle_deg: {self.tirf_angle_deg:g} is below the critical angle "
                f"of {critical:.2f} deg; nothing is totally reflected"
            )
        return wavelength_nm / (4 * math.pi * math.sqrt(beyond))

    def relative(self, x_nm: Floats, y_nm: Floats) -> Floats:
        """Return the intensity at places of the specimen, relative to the middle of the view."""
        if self.profile == "flat":
            return np.ones(np.broadcast(x_nm, y_nm).shape)
        squared = (np.square(x_nm) + np.square(y_nm)) / (self.fwhm_um * 1e3) ** 2
        return np.asarray(np.exp(-4 * math.log(2) * squared))

    def activation_steps(self, end_s: float) -> tuple[tuple[float, float], ...]:
        """Return when the activating light takes which intensity: (time in s, kW/cm2)."""
        last = self.activation_end_kw_per_cm2
        if last is None:
            return ((0.0, self.activation_kw_per_cm2),)
        levels = np.linspace(self.activation_kw_per_cm2, last, RAMP_STEPS)
        times = np.arange(RAMP_STEPS) * (end_s / RAMP_STEPS)
        return tuple((float(t), float(level)) for t, level in zip(times, levels, strict=True))

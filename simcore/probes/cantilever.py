"""The cantilever that carries the tip: stiffness, resonance and damping of its first mode."""

from __future__ import annotations

import math

from pydantic import Field

from nanophantom.simcore.models import Model

BOLTZMANN_NN_NM_PER_K = 1.380649e-5
"""Boltzmann's constant in nN nm / K (1e-18 J)."""


class Cantilever(Model):
    """A cantilever's first flexural mode, its environment included."""

    stiffness_n_per_m: float = Field(default=40.0, gt=0, le=1e4)
    """Spring constant at the tip."""
    resonance_khz: float = Field(default=300.0, gt=0, le=1e5)
    """Resonance of the first mode."""
    quality_factor: float = Field(
        default=400.0, ge=0.6, le=1e6, json_schema_extra={"dimensionless": True}
    )
    """Quality factor of the first mode: some hundreds in air, a few in liquid."""
    temperature_k: float = Field(default=298.15, ge=0, le=1000)
    """Temperature, which makes it tremble; 0 for a quiet one."""

    @property
    def omega_per_s(self) -> float:
        """Angular frequency of the resonance, rad/s."""
        return 2e3 * math.pi * self.resonance_khz

    @property
    def ring_down_s(self) -> float:
        """Time in which a free amplitude falls to 1/e, 2 Q / omega."""
        return 2.0 * self.quality_factor / self.omega_per_s

    @property
    def thermal_rms_nm(self) -> float:
        """Thermal deflection of the tip by equipartition, sqrt(kT / k)."""
        return math.sqrt(BOLTZMANN_NN_NM_PER_K * self.temperature_k / self.stiffness_n_per_m)

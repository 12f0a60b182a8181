"""The optical lever: how a deflection is read, and what noise and baseline it gets on the way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nanophantom.simcore.models import Model

Floats = npt.NDArray[np.float64]
Streams = Callable[[str], np.random.Generator]

ROWS_AT_ONCE = 256


class DeflectionSensor(Model):
    """The optical lever that reads the deflection, and what it adds to it."""

    sensitivity_nm_per_V: float = Field(default=50.0, gt=0, le=1e5)
    """Inverse optical lever sensitivity: deflection by volt."""
    nominal_sensitivity_nm_per_V: float | None = Field(default=None, gt=0, le=1e5)
    """What the operator takes it for; none means that it is known."""
    noise_nm: float = Field(default=0.05, ge=0, le=1e3)
    """White noise of a sample, rms; the lever's thermal tremble comes on top of it."""
    offset_nm: float = Field(default=0.0, ge=-1e6, le=1e6)
    """Reading at the beginning of the approach, far from the surface."""
    tilt_percent: float = Field(default=0.0, ge=-100, le=100)
    """Slope of the baseline: change of the reading by the way of the base upwards."""
    interference_nm: float = Field(default=0.0, ge=0, le=1e3)
    """Amplitude of the fringes between light from the lever and from the surface."""
    interference_period_nm: float = Field(default=330.0, gt=0, le=1e4)
    """Their period in the height of the base, about half a wavelength."""

    def read(
        self, bases_nm: tuple[Floats, Floats], deflections_nm: tuple[Floats, Floats], rng: Streams
    ) -> None:
        """Turn true deflections of approach and retract into read ones, in place.

        Parameters
        ----------
        bases_nm
            Heights of the base, each (1 or curves, n).
        deflections_nm
            Each (curves, n), contiguous.
        rng
            Streams "deflection" of the noise and "interference" of the fringes' phases, of which
            each curve draws one.
        """
        curves = len(deflections_nm[0])
        noise = rng("deflection") if self.noise_nm else None
        phase = np.zeros((curves, 1))
        if self.interference_nm:
            phase = rng("interference").uniform(0.0, 2.0 * np.pi, (curves, 1))
        nominal = self.nominal_sensitivity_nm_per_V or self.sensitivity_nm_per_V
        start = np.broadcast_to(bases_nm[0][:, :1], (curves, 1))
        for base, deflection in zip(bases_nm, deflections_nm, strict=True):
            z = np.broadcast_to(base, deflection.shape)
            for first in range(0, curves, ROWS_AT_ONCE):
                rows = slice(first, first + ROWS_AT_ONCE)
                part = deflection[rows]
                if noise is not None:
                    part += self.noise_nm * noise.standard_normal(part.shape)
                if self.tilt_percent:
                    part += 1e-2 * self.tilt_percent * (z[rows] - start[rows])
                if self.interference_nm:
                    turns = z[rows] / self.interference_period_nm
                    part += self.interference_nm * np.sin(2.0 * np.pi * turns + phase[rows])
                part += self.offset_nm
                part *= nominal / self.sensitivity_nm_per_V

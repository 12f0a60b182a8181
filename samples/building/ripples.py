"""Random ripples of a sheet: a sum of plane waves, known everywhere by a few numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nanophantom.simcore.atoms import Floats
from nanophantom.simcore.fields import Table, read_only

WAVES = 24
"""So many waves make heights that are nearly Gaussian, and are still listed on half a page."""


@dataclass(frozen=True, eq=False)
class Ripples:
    """Heights z(x, y) = sum of A cos(2 pi (kx x + ky y) + phase).

    Attributes
    ----------
    kx_per_nm, ky_per_nm, amplitude_nm, phase_rad
        Of each wave, shape (n,).
    """

    kx_per_nm: Floats
    ky_per_nm: Floats
    amplitude_nm: Floats
    phase_rad: Floats

    def __post_init__(self) -> None:
        for name in ("kx_per_nm", "ky_per_nm", "amplitude_nm", "phase_rad"):
            object.__setattr__(self, name, read_only(getattr(self, name)))

    @classmethod
    def draw(cls, rms_nm: float, wavelength_nm: float, rng: np.random.Generator) -> Ripples:
        """Draw waves in all directions, their wave numbers between 2/3 and 4/3 of the mean.

        Their amplitudes and phases are those of a Gaussian field, scaled so that the root mean
        square height over the whole sheet, sqrt(sum A^2 / 2), is exactly `rms_nm`.
        """
        if rms_nm == 0:
            return cls(*(np.empty(0) for _ in range(4)))
        direction = rng.uniform(0, 2 * np.pi, WAVES)
        k = rng.uniform(2 / 3, 4 / 3, WAVES) / wavelength_nm
        cosine, sine = rng.standard_normal((2, WAVES))
        amplitude = np.hypot(cosine, sine)
        amplitude *= rms_nm / np.sqrt((amplitude**2).sum() / 2)
        phase = np.arctan2(-sine, cosine)
        return cls(k * np.cos(direction), k * np.sin(direction), amplitude, phase)

    @property
    def highest_nm(self) -> float:
        """No height is larger, nor lower than minus this."""
        return float(self.amplitude_nm.sum())

    def heights(self, x_nm: Floats, y_nm: Floats) -> Floats:
        """Return z in nm at points, of their shape; 0 on average."""
        z = np.zeros(np.shape(x_nm))
        for kx, ky, amplitude, phase in zip(
            self.kx_per_nm, self.ky_per_nm, self.amplitude_nm, self.phase_rad, strict=True
        ):
            z += amplitude * np.cos(2 * np.pi * (kx * x_nm + ky * y_nm) + phase)
        return z

    def table(self) -> Table:
        """Return one row a wave."""
        return {
            "kx_per_nm": self.kx_per_nm,
            "ky_per_nm": self.ky_per_nm,
            "amplitude_nm": self.amplitude_nm,
            "phase_rad": self.phase_rad,
        }

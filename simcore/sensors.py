"""Detectors: from an expectation to what is read out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nanophantom.simcore.models import Model


class CountingCamera(Model):
    """A pixelated detector that counts single electrons."""

    width_px: int = Field(default=1024, ge=16, le=16384)
    """Pixels along x."""
    height_px: int = Field(default=1024, ge=16, le=16384)
    """Pixels along y."""
    pixel_size_nm: float = Field(default=0.009, gt=0)
    """Edge of a pixel, referred to the specimen."""
    efficiency: float = Field(default=1.0, gt=0, le=1, json_schema_extra={"dimensionless": True})
    """Fraction of the arriving electrons that is counted."""
    shot_noise: bool = True
    """Count single electrons; off, the expectation itself is read out."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height_px, self.width_px

    @property
    def dtype(self) -> str:
        """Type of what is read out."""
        return "uint16" if self.shot_noise else "float32"

    def mean_counts(self, dose_e_per_A2: float) -> float:
        """Return the counts of a pixel in the bare beam."""
        return dose_e_per_A2 * (self.pixel_size_nm * 10.0) ** 2 * self.efficiency

    def expected(
        self, intensity: npt.NDArray[np.float32], dose_e_per_A2: float
    ) -> npt.NDArray[np.float32]:
        """Return the expected counts of a pixel-integrated intensity (1 = the bare beam)."""
        if intensity.min(initial=0.0) < -1e-4:
            raise ValueError(f"an intensity of {intensity.min():.3g} is below zero; sample finer")
        return np.maximum(intensity, 0.0) * np.float32(
            self.mean_counts(dose_e_per_A2)
        )  # rounding may dip below zero

    def read(self, expected: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[Any]:
        """Count electrons.

        Raises
        ------
        ValueError
            More electrons in a pixel than a 16-bit counter holds.
        """
        if not self.shot_noise:
            return expected
        counts = rng.poisson(expected)
        if counts.max(initial=0) > np.iinfo(np.uint16).max:
            raise ValueError(
                f"instrument.camera: {counts.max()} electrons in a pixel overflow a 16-bit "
                "counter; lower the dose or the pixel size"
            )
        return counts.astype(np.uint16)

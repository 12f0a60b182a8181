"""The camera of a microscope: pixels, and the sensor behind them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from nanophantom.simcore.cameras import presets
from nanophantom.simcore.cameras.detector import Detector
from nanophantom.simcore.cameras.sensors import Counter, Sensor
from nanophantom.simcore.models import Model
from nanophantom.simcore.streams import stream

Floats32 = npt.NDArray[np.float32]


class Camera(Model):
    """A pixelated detector, from the intensity that falls on it to what is read out.

    An instrument multiplies the spectrum of its finely sampled intensity by `transfer`, samples it
    at the pixels, asks for the `electrons` and lets the `detector` read them.
    """

    preset: presets.PresetName | None = None
    """A camera whose sensor stands under what the recipe says of it."""
    width_px: int = Field(default=1024, ge=16, le=16384)
    """Pixels along x."""
    height_px: int = Field(default=1024, ge=16, le=16384)
    """Pixels along y."""
    pixel_size_nm: float = Field(default=0.009, gt=0)
    """Edge of a pixel, referred to the specimen."""
    sensor: Sensor = Counter()
    """What detects the electrons, and its noise."""
    shot_noise: bool = True
    """Draw electrons and all noise; off, the expectation itself is read out."""

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, data: Any) -> Any:
        return presets.under(data) if isinstance(data, dict) else data

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height_px, self.width_px

    @property
    def dtype(self) -> str:
        """Type of what is read out."""
        return self.sensor.readout_dtype if self.shot_noise else "float32"

    @property
    def counts_per_electron(self) -> float:
        """Mean readout per arriving electron at a low rate."""
        return self.sensor.counts_per_electron

    def mean_electrons(self, dose_e_per_A2: float) -> float:
        """Return the electrons that arrive at a pixel in the bare beam."""
        return dose_e_per_A2 * (self.pixel_size_nm * 10.0) ** 2

    def transfer(self, ky_per_px: npt.ArrayLike, kx_per_px: npt.ArrayLike) -> Floats32:
        """Return the factor of an intensity's spectrum that the sensor sees as its expectation.

        The pixel's area and the scatter of electrons before they are detected, at any frequencies
        (cycles per pixel), also beyond Nyquist, which the pixels alias.
        """
        return self.sensor.transfer(ky_per_px, kx_per_px).astype(np.float32)

    def electrons(self, intensity: npt.NDArray[Any], dose_e_per_A2: float) -> Floats32:
        """Return the electrons expected at each pixel.

        Parameters
        ----------
        intensity
            At the pixels, after `transfer`; 1 is the bare beam.
        dose_e_per_A2
            Of this exposure, at the specimen.

        Raises
        ------
        ValueError
            An intensity below zero by more than rounding, or not a number.
        """
        least = intensity.min(initial=0.0)
        if not least >= -1e-4:
            raise ValueError(f"an intensity of {least:.3g} is below zero; sample finer")
        scale = np.float32(self.mean_electrons(dose_e_per_A2))
        seen: Floats32 = np.maximum(intensity, 0.0, dtype=np.float32) * scale  # rounding dips below
        return seen

    def notes(self, dose_e_per_A2: float, exposure_s: float) -> tuple[str, ...]:
        """Return warnings: a bare beam that saturates the sensor, or mostly coincides in it."""
        electrons = self.mean_electrons(dose_e_per_A2)
        corner = self.model_copy(update={"width_px": 16, "height_px": 16})
        sensor = corner.detector(stream(0, ("camera notes",)), exposure_s)
        read = float(np.median(sensor.ideal(np.full(corner.shape, electrons, np.float32))))
        offset = float(getattr(self.sensor, "offset_adu", 0.0))
        lost = 1.0 - (read - offset) / (electrons * self.counts_per_electron)
        told = []
        if lost > 0.1:
            told.append(
                f"warning: {electrons:.3g} electrons a pixel and frame are many for this camera; "
                f"{lost:.0%} of them coincide and aren't counted. Take shorter exposures."
            )
        bits = getattr(self.sensor, "bits", None)
        well = float(getattr(self.sensor, "full_well", None) or np.inf)
        well = well * float(getattr(self.sensor, "adu_per_electron", 1.0)) + offset
        full = read / min(well, np.inf if bits is None else 2.0**bits - 1.0)
        if full > 0.7:
            told.append(
                f"warning: the bare beam fills {full:.0%} of the camera's range, so bright pixels "
                "saturate. Lower the dose of a frame."
            )
        return tuple(told)

    def detector(self, rng: np.random.Generator, exposure_s: float) -> Detector:
        """Draw, once, what is fixed: gain errors, dark rates, defects.

        Parameters
        ----------
        rng
            Stream of the detector.
        exposure_s
            Length of the exposures that will be read: internal frames, dark signal.
        """
        if not exposure_s > 0.0:
            raise ValueError(f"exposure_s is {exposure_s}; an exposure takes time")
        return self.sensor.detector(self.shape, rng, exposure_s, self.shot_noise)

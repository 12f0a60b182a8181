"""The camera of a light microscope: pixels, the sensor behind them, and what its operator knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from nanophantom.simcore.cameras import presets
from nanophantom.simcore.cameras.light_detectors import LightDetector
from nanophantom.simcore.cameras.light_sensors import LightSensor, PhotonCounter, ReadSensor, Scmos
from nanophantom.simcore.models import Model

PURE: dict[str, Any] = {"dimensionless": True}


class LightCamera(Model):
    """A camera, from the photons that fall on its pixels to the numbers that are read out.

    An instrument asks for a `detector` once, and lets it `read` the mean numbers of photons of each
    frame; `settings` are what its operator tells the analysis.
    """

    preset: presets.LightPresetName | None = None
    """A camera whose numbers stand under what the recipe says of it."""
    width_px: int = Field(default=128, ge=8, le=16384)
    """Pixels along x."""
    height_px: int = Field(default=128, ge=8, le=16384)
    """Pixels along y."""
    pixel_size_um: float = Field(default=6.5, gt=0)
    """Edge of a pixel of the sensor; divided by the magnification, that at the specimen."""
    sensor: LightSensor = PhotonCounter()
    """What detects the photons, and its noise."""
    noise: bool = True
    """Draw photons and all noise; off, the expectation itself is read out. It has no ceiling: the
    full well, the converter's ends (at 0 too) and rounding are not in it."""
    calibrated: bool = True
    """The operator has measured the offset, gain and variance of each pixel on dark and flat frames
    of the movie's exposure, if pixels differ; off, only the mean of a dark frame and the recipe's
    read noise are known."""
    assumed_offset_adu: float | None = Field(default=None, ge=0, json_schema_extra=PURE)
    """Mean of a dark frame, its dark signal included, that the operator believes in; none: the true
    one."""
    assumed_adu_per_electron: float | None = Field(default=None, gt=0, json_schema_extra=PURE)
    """Readout units per electron that the operator believes in; none: the true ones."""

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, data: Any) -> Any:
        return presets.under(data, presets.LIGHT) if isinstance(data, dict) else data

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height_px, self.width_px

    @property
    def dtype(self) -> str:
        """Type of what is read out."""
        return "uint16" if self.noise else "float32"

    def detector(self, rng: np.random.Generator, exposure_s: float) -> LightDetector:
        """Draw, once, what is fixed: the maps of the pixels.

        Parameters
        ----------
        rng
            Stream of the detector.
        exposure_s
            Length of the exposures that will be read: dark signal.

        Raises
        ------
        ValueError
            The exposure takes no time.
        """
        if not exposure_s > 0.0:
            raise ValueError(f"exposure_s is {exposure_s}; an exposure takes time")
        drawn: LightDetector = self.sensor.detector(self.shape, rng, exposure_s, self.noise)
        return drawn

    def settings(self, detector: LightDetector | None = None) -> dict[str, Any]:
        """Return what the operator knows, or believes, of the camera.

        Parameters
        ----------
        detector
            As drawn by `detector`; without, maps and the dark signal are left out.

        Returns
        -------
        dict
            ``offset_adu`` mean over the pixels of a dark frame of the movie's exposure (dark
            signal, clock-induced charge and rounding included), ``adu_per_electron``,
            ``quantum_efficiency``, ``em_gain`` (1 if none), ``read_noise_e`` (rms of the readout
            alone, before it is divided by the gain), ``excess_noise`` (F^2, 1 or 2) and
            ``calibrated``: whether the maps ``offset_map`` (mean of dark frames, readout units),
            ``gain_map`` (relative) and ``variance_map`` (of dark frames, electrons squared: with
            the dark signal's shot noise) stand here too, float32 (ny, nx). Photons are
            (adu - offset) / (adu_per_electron em_gain quantum_efficiency).
        """
        known: dict[str, Any] = self.sensor.settings()
        maps: dict[str, Any] = {}
        if detector is not None:
            known["offset_adu"] = float(detector.dark_frame().mean(dtype=np.float64))
            maps = detector.calibration() if self.calibrated else {}
        if self.assumed_offset_adu is not None:
            wrong_by = self.assumed_offset_adu - known["offset_adu"]
            known["offset_adu"] = self.assumed_offset_adu
            if "offset_map" in maps:
                maps = maps | {"offset_map": maps["offset_map"] + np.float32(wrong_by)}
        if self.assumed_adu_per_electron is not None:
            known["adu_per_electron"] = self.assumed_adu_per_electron
        return {**known, "calibrated": bool(maps), **maps}

    def notes(self, photons: float | npt.NDArray[Any]) -> tuple[str, ...]:
        """Return warnings: bright pixels saturate, or the converter's lower end cuts the noise.

        Parameters
        ----------
        photons
            Mean number that falls on a pixel in a frame; of an array the largest counts.
        """
        most = float(np.max(photons)) * self.sensor.quantum_efficiency
        part, limit = min(self.sensor.limits_e().items(), key=lambda item: item[1])
        told = []
        if most > 0.7 * limit:
            told.append(
                f"warning: the brightest pixels fill {most / limit:.0%} of the camera's {part}, so "
                "their peaks are cut off. Take shorter exposures or less light."
            )
        sensor = self.sensor
        if isinstance(sensor, ReadSensor):
            spread = sensor.offset_spread_adu if isinstance(sensor, Scmos) else 0.0
            noise = np.hypot(sensor.read_noise_e * sensor.adu_per_electron, spread)
            if sensor.offset_adu < 3.0 * noise:
                told.append(
                    f"warning: an offset of {sensor.offset_adu:g} readout units is below three "
                    f"times the noise of {noise:.3g}, so the converter cuts off dark pixels. "
                    "Raise offset_adu."
                )
        return tuple(told)

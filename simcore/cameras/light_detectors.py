"""Detectors of light: what is fixed in a camera is drawn, frames of photons can be read.

What the base class calls electrons are here the photons that fall on a pixel, before the quantum
efficiency.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.cameras import kernels
from nanophantom.simcore.cameras.detector import Converter, Detector, Image, Maps, Readout

ROUNDING_BIAS_ADU = {"round": 0.0, "floor": -0.5}
"""What the rounding of a converter adds to a readout, in the mean."""


@dataclass(frozen=True, eq=False)
class LightDetector(Detector):
    """One camera, exposed to photons frame by frame."""

    def ideal(self, photons: npt.NDArray[Any]) -> Image:
        """Return the exact expectation of `read`, had its numbers no end.

        Dark signal, clock-induced charge, the maps and the offset are in it; noise is not, nor is
        clipping: it rises above the full well and the converter's last number, and the noise that
        the converter cuts off at 0 doesn't lift it. `LightCamera.notes` warns of both. Parameters
        and errors as in `read`.
        """
        return super().ideal(photons)

    def dark_frame(self) -> Image:
        """Return the mean of many frames without light, in readout units, (ny, nx)."""
        return self.ideal(np.zeros(self.shape))

    def calibration(self) -> dict[str, Image]:
        """Return the maps that an operator can measure: offset, gain and variance of each pixel."""
        return {}

    def _checked(self, photons: npt.NDArray[Any]) -> Image:
        if photons.shape != self.shape:
            raise ValueError(f"photons: shape {photons.shape}; this camera has {self.shape}")
        if not photons.min(initial=0.0) >= 0.0:
            raise ValueError("photons: a mean number below zero or not a number")
        return np.ascontiguousarray(photons, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class PhotonCountingDetector(LightDetector):
    """Counts a fraction of the photons, each in its pixel, and adds nothing."""

    def _draw(self, photons: Image, rng: np.random.Generator) -> Readout:
        counts = np.empty(self.shape, dtype=np.uint16)
        key = kernels.draw_key(rng)
        most = kernels.count_all(
            photons.reshape(-1), self.counts_per_electron, key, counts.reshape(-1)
        )
        if most > np.iinfo(np.uint16).max:
            raise ValueError(
                f"instrument.camera: {most:.0f} photons in a pixel overflow a 16-bit counter; "
                "take shorter exposures, less light or smaller pixels"
            )
        return counts

    def _expect(self, photons: Image) -> Image:
        return photons * np.float32(self.counts_per_electron)


@dataclass(frozen=True, eq=False)
class ReadoutMaps:
    """How each pixel is read, all of shape (ny, nx) and float32.

    Attributes
    ----------
    offset
        Readout of no electron, before rounding.
    gain
        Relative to the camera's readout units per electron.
    noise
        Standard deviation, in electrons.
    """

    offset: Image
    gain: Image
    noise: Image


@dataclass(frozen=True)
class Register:
    """A gain register: of one electron come exponentially many.

    Attributes
    ----------
    gain
        How many come of one, in mean.
    full
        Most electrons that leave it.
    """

    gain: float
    full: float


@dataclass(frozen=True, eq=False)
class ReadingDetector(LightDetector):
    """Collects electrons, may multiply them, and reads each pixel with noise of its own."""

    quantum_efficiency: float
    pixels: Maps
    """Of each pixel: efficiency relative to the mean, electrons without light, defects."""
    full_well: float
    """Largest signal of a pixel, in electrons."""
    gain_register: Register | None
    readout: ReadoutMaps
    converter: Converter
    rounding: str
    """"floor" or "round"."""
    has: tuple[str, ...]
    """Which maps differ from those of an even sensor."""

    def truth(self) -> dict[str, Readout]:
        """Return the maps that this sensor has.

        Each cause stands alone: ``offset_map`` mean readout without an electron, ``gain_map``
        relative, ``variance_map`` that of the read noise, electrons squared, ``efficiency_map``
        relative, ``dark_map`` mean electrons of an exposure without light, ``defects`` 2 where a
        pixel is hot. In `calibration`, as in a dark frame, they add up.
        """
        maps: dict[str, Readout] = {
            "efficiency_map": self.pixels.gain,
            "dark_map": self.pixels.dark,
            "defects": self.pixels.defects,
            "offset_map": self._empty,
            "gain_map": self.readout.gain,
            "variance_map": self.readout.noise**2,
        }
        return {name: maps[name] for name in self.has}

    def calibration(self) -> dict[str, Image]:
        """Return the maps that many dark frames and flat ones of this exposure show.

        That is how F. Huang et al., Nat. Methods 10 (2013) 653, characterise a sensor.

        Returns
        -------
        dict
            float32 (ny, nx), empty where the sensor has no map of its pixels: ``offset_map`` mean
            of the dark frames in readout units, thus with the dark signal; ``variance_map`` theirs
            in electrons squared: read noise and the dark signal's shot noise, but not the
            converter's rounding, 1/12 of a readout unit squared; ``gain_map`` relative.
        """
        if not {"offset_map", "gain_map", "variance_map", "dark_map"} & set(self.has):
            return {}
        return {
            "offset_map": self.dark_frame(),
            "gain_map": self.readout.gain,
            "variance_map": self.readout.noise**2 + self.pixels.dark,
        }

    def dark_frame(self) -> Image:
        """Return the mean of many frames without light, in readout units, (ny, nx).

        A hot pixel that fills up in the dark stands at its end.
        """
        signal = np.minimum(self.pixels.dark, np.float32(self.full_well))
        return np.minimum(self._converted(signal), np.float32(self.converter.top))

    @cached_property
    def _empty(self) -> Image:
        """Mean readout without an electron."""
        return self.readout.offset + np.float32(ROUNDING_BIAS_ADU[self.rounding])

    @cached_property
    def _adu_per_electron(self) -> Image:
        return self.readout.gain * np.float32(self.converter.scale)

    def _draw(self, photons: Image, rng: np.random.Generator) -> Readout:
        # A key for each cause: what is switched off leaves the others unchanged.
        arriving, multiplied, read = (kernels.draw_key(rng) for _ in range(3))
        electrons = np.empty(self.shape, dtype=np.float32)
        signal = electrons.reshape(-1)
        kernels.count(
            photons.reshape(-1),
            self.quantum_efficiency,
            self.pixels.response.reshape(-1),
            self.pixels.dark.reshape(-1),
            0.0,  # no internal frames: nothing coincides
            1.0,
            self.full_well,
            arriving,
            signal,
        )
        if self.gain_register is not None:
            kernels.multiply(signal, self.gain_register.gain, self.gain_register.full, multiplied)
        frame = np.empty(self.shape, dtype=self.converter.dtype)
        kernels.read_out(
            signal,
            self.readout.noise.reshape(-1),
            self._adu_per_electron.reshape(-1),
            self.readout.offset.reshape(-1),
            read,
            0.5 + ROUNDING_BIAS_ADU[self.rounding],
            self.converter.top,
            frame.reshape(-1),
        )
        return frame

    def _expect(self, photons: Image) -> Image:
        electrons = photons * np.float32(self.quantum_efficiency) * self.pixels.response
        return self._converted(electrons + self.pixels.dark)

    def _converted(self, electrons: Image) -> Image:
        """Return the mean readout of pixels that hold these mean numbers of electrons."""
        gain = 1.0 if self.gain_register is None else self.gain_register.gain
        return electrons * np.float32(gain) * self._adu_per_electron + self._empty

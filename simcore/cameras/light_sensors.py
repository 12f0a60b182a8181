"""Sensors of light cameras: the knobs of what turns photons into numbers.

Photons fall on a pixel; each is detected with the quantum efficiency and leaves one electron. To
these come electrons without light: the dark signal and the clock-induced charge. Their sum is a
Poisson number. A gain register multiplies it, if there is one, the readout adds noise, and the
converter makes whole numbers of it. Numbers of electrons are those of the pixel; the read noise is
that at the converter, behind the register.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nanophantom.simcore.cameras.detector import HOT, Converter, Maps
from nanophantom.simcore.cameras.light_detectors import (
    ROUNDING_BIAS_ADU,
    LightDetector,
    PhotonCountingDetector,
    ReadingDetector,
    ReadoutMaps,
    Register,
)
from nanophantom.simcore.models import Model, one_of

Shape = tuple[int, int]
Image = npt.NDArray[np.float32]
PURE: dict[str, Any] = {"dimensionless": True}


class PhotonCounter(Model):
    """A perfect counter: it misses some photons and adds nothing of its own."""

    type: Literal["ideal"] = "ideal"
    """Which sensor this is."""
    quantum_efficiency: float = Field(default=1.0, gt=0, le=1, json_schema_extra=PURE)
    """Fraction of the photons that is counted."""

    def settings(self) -> dict[str, float]:
        """Return what an operator knows but for dark signal: see `LightCamera.settings`."""
        return {
            "offset_adu": 0.0,
            "adu_per_electron": 1.0,
            "quantum_efficiency": self.quantum_efficiency,
            "em_gain": 1.0,
            "read_noise_e": 0.0,
            "excess_noise": 1.0,
        }

    def limits_e(self) -> dict[str, float]:
        """Return the electrons of a pixel at which each part of the sensor is full."""
        return {"16-bit counter": 65535.0}

    def detector(
        self, shape: Shape, rng: np.random.Generator, exposure_s: float, noisy: bool
    ) -> LightDetector:
        """Return the detector; nothing in it is fixed by chance."""
        return PhotonCountingDetector(shape, self.quantum_efficiency, noisy)


class ReadSensor(Model, ABC):
    """What sensors share that collect electrons and read them through a converter."""

    quantum_efficiency: float = Field(default=0.9, gt=0, le=1, json_schema_extra=PURE)
    """Fraction of the photons that leaves an electron."""
    dark_rate_per_s: float = Field(default=0.0, ge=0)
    """Mean dark signal of a pixel, electrons a second; it has shot noise like the light's."""
    read_noise_e: float = Field(default=1.0, ge=0, json_schema_extra=PURE)
    """Standard deviation of a pixel's readout without signal, in electrons at the converter: behind
    a register, thus not divided by its gain. Where pixels differ, the root of their mean square."""
    adu_per_electron: float = Field(default=1.0, gt=0, json_schema_extra=PURE)
    """Readout units per electron at the converter."""
    offset_adu: float = Field(default=100.0, ge=0, json_schema_extra=PURE)
    """Readout of no electron, before rounding. Keep it several times the noise: the converter ends
    at 0."""
    bits: int = Field(default=16, ge=1, le=16)
    """Of the converter, whose numbers end at 0 and at 2^bits - 1."""
    full_well_e: float | None = Field(default=None, gt=0, json_schema_extra=PURE)
    """Electrons at which a pixel is full; none: something else ends first."""
    rounding: Literal["floor", "round"] = "round"
    """How the converter makes whole numbers; "floor" rounds down, which costs half a unit."""

    def settings(self) -> dict[str, float]:
        """Return what an operator knows but for dark signal: see `LightCamera.settings`."""
        return {
            "offset_adu": self.offset_adu + ROUNDING_BIAS_ADU[self.rounding],
            "adu_per_electron": self.adu_per_electron,
            "quantum_efficiency": self.quantum_efficiency,
            "em_gain": self._em_gain,
            "read_noise_e": self.read_noise_e,
            "excess_noise": 1.0,
        }

    def limits_e(self) -> dict[str, float]:
        """Return the electrons of a pixel at which each part of the sensor is full."""
        per_electron = self._em_gain * self.adu_per_electron
        top = 2.0**self.bits - 1.0
        limits = {f"{self.bits}-bit converter": (top - self.offset_adu) / per_electron}
        if self.full_well_e is not None:
            limits["full well"] = self.full_well_e
        return limits

    @property
    def _em_gain(self) -> float:
        return 1.0

    def detector(
        self, shape: Shape, rng: np.random.Generator, exposure_s: float, noisy: bool
    ) -> LightDetector:
        """Draw what is fixed and return the detector."""
        return ReadingDetector(
            shape=shape,
            counts_per_electron=self.quantum_efficiency * self._em_gain * self.adu_per_electron,
            noisy=noisy,
            quantum_efficiency=self.quantum_efficiency,
            full_well=np.inf if self.full_well_e is None else self.full_well_e,
            converter=Converter(self.adu_per_electron, self.offset_adu, self.bits),
            rounding=self.rounding,
            **self._parts(shape, rng, exposure_s),
        )

    @abstractmethod
    def _parts(self, shape: Shape, rng: np.random.Generator, exposure_s: float) -> dict[str, Any]:
        """Return the detector's maps, its register, and which maps it has to tell of."""


class Emccd(ReadSensor):
    """An electron-multiplying CCD: its register lifts single electrons far above the read noise.

    Of n electrons come x with the density x^(n-1) exp(-x/g) / (g^n Gamma(n)), whose variance is
    that of the electrons once more: an excess noise factor F^2 = 2 (M. Hirsch et al., PLoS One 8
    (2013) e53671). A register of 536 stages with a mean gain of 300 has 1.976.
    """

    type: Literal["emccd"] = "emccd"
    """Which sensor this is."""
    em_gain: float = Field(default=300.0, ge=1, json_schema_extra=PURE)
    """Mean number of electrons that come of one; 1: it is read past the register, as a CCD."""
    clock_induced_e: float = Field(default=0.002, ge=0, json_schema_extra=PURE)
    """Mean number of electrons that shifting the charge leaves in a pixel of each frame. They are
    multiplied like the light's."""
    read_noise_e: float = Field(default=60.0, ge=0, json_schema_extra=PURE)
    """Standard deviation of the readout without signal, in electrons behind the register: its
    effect on the light is that of one em_gain-th of it."""
    adu_per_electron: float = Field(default=0.05, gt=0, json_schema_extra=PURE)
    """Readout units per electron behind the register."""
    register_well_e: float | None = Field(default=None, gt=0, json_schema_extra=PURE)
    """Electrons at which the register is full; none: something else ends first."""

    def settings(self) -> dict[str, float]:
        """Return what an operator knows but for dark signal: see `LightCamera.settings`."""
        return super().settings() | {"excess_noise": 2.0 if self.em_gain > 1.0 else 1.0}

    def limits_e(self) -> dict[str, float]:
        """Return the electrons of a pixel at which each part of the sensor is full."""
        limits = super().limits_e()
        if self.em_gain > 1.0 and self.register_well_e is not None:
            limits["gain register"] = self.register_well_e / self.em_gain
        return limits

    @property
    def _em_gain(self) -> float:
        return self.em_gain

    def _parts(self, shape: Shape, rng: np.random.Generator, exposure_s: float) -> dict[str, Any]:
        even = np.ones(shape, dtype=np.float32)
        dark = even * np.float32(self.dark_rate_per_s * exposure_s + self.clock_induced_e)
        well = np.inf if self.register_well_e is None else self.register_well_e
        return {
            "pixels": Maps(even, dark, np.zeros(shape, dtype=np.uint8)),
            "readout": ReadoutMaps(
                even * np.float32(self.offset_adu), even, even * np.float32(self.read_noise_e)
            ),
            "gain_register": Register(self.em_gain, well) if self.em_gain > 1.0 else None,
            "has": (),
        }


class Scmos(ReadSensor):
    """A scientific CMOS: every pixel has an amplifier, and so offset, gain and noise, of its own.

    The model of F. Huang et al., Nat. Methods 10 (2013) 653. What the recipe states are the means
    of the maps.
    """

    type: Literal["scmos"] = "scmos"
    """Which sensor this is."""
    efficiency_spread: float = Field(default=0.0, ge=0, le=0.2, json_schema_extra=PURE)
    """Standard deviation of the pixels' quantum efficiencies, relative to the mean."""
    dark_spread: float = Field(default=0.0, ge=0, le=10, json_schema_extra=PURE)
    """Standard deviation of the pixels' dark rates, relative to the mean."""
    hot_fraction: float = Field(default=0.0, ge=0, le=0.5, json_schema_extra=PURE)
    """Fraction of the pixels that glow."""
    hot_rate_per_s: float = Field(default=1000.0, ge=0)
    """What a hot pixel's dark signal has more, electrons a second."""
    offset_spread_adu: float = Field(default=0.0, ge=0, json_schema_extra=PURE)
    """Standard deviation of the pixels' offsets, normally distributed."""
    gain_spread: float = Field(default=0.0, ge=0, le=0.2, json_schema_extra=PURE)
    """Standard deviation of the pixels' readout units per electron, relative to the mean."""
    read_noise_spread: float = Field(default=0.0, ge=0, le=2, json_schema_extra=PURE)
    """Standard deviation of the logarithm of the pixels' read noises, which is normal."""
    noisy_fraction: float = Field(default=0.0, ge=0, le=0.5, json_schema_extra=PURE)
    """Fraction of the pixels that are noisier by a factor: the hot tail of the variance."""
    noisy_factor: float = Field(default=5.0, ge=1, json_schema_extra=PURE)
    """Read noise of a noisy pixel relative to what it would be otherwise."""

    def _parts(self, shape: Shape, rng: np.random.Generator, exposure_s: float) -> dict[str, Any]:
        # A stream for each map, so that one of them leaves the others unchanged.
        keys = rng.integers(0, 2**63, 7)
        streams = [np.random.Generator(np.random.PCG64(int(key))) for key in keys]
        efficiencies, darks, hot, offsets, gains, noises, noisy = streams
        dark = _around_one(self.dark_spread, shape, darks)
        dark *= np.float32(self.dark_rate_per_s * exposure_s)
        defects = np.zeros(shape, dtype=np.uint8)
        defects[hot.random(shape) < self.hot_fraction] = HOT
        dark[defects == HOT] += np.float32(self.hot_rate_per_s * exposure_s)
        offset = offsets.standard_normal(shape, dtype=np.float32)
        offset = np.float32(self.offset_adu) + np.float32(self.offset_spread_adu) * offset
        differ = {
            "offset_map": self.offset_spread_adu > 0.0,
            "gain_map": self.gain_spread > 0.0,
            "variance_map": self.read_noise_spread > 0.0 or self._tail > 0.0,
            "efficiency_map": self.efficiency_spread > 0.0,
            "dark_map": self.dark_rate_per_s > 0.0 or self.hot_fraction > 0.0,
            "defects": self.hot_fraction > 0.0,
        }
        return {
            "pixels": Maps(_around_one(self.efficiency_spread, shape, efficiencies), dark, defects),
            "readout": ReadoutMaps(
                offset,
                _around_one(self.gain_spread, shape, gains),
                self._noise(shape, noises, noisy),
            ),
            "gain_register": None,
            "has": tuple(name for name, it_does in differ.items() if it_does),
        }

    @property
    def _tail(self) -> float:
        """What the noisy pixels add to the mean variance, relative to that without them."""
        return self.noisy_fraction * (self.noisy_factor**2 - 1.0)

    def _noise(
        self, shape: Shape, noises: np.random.Generator, noisy: np.random.Generator
    ) -> Image:
        """Draw the pixels' read noises, whose mean square is that of the recipe."""
        s = self.read_noise_spread
        noise = np.exp(s * noises.standard_normal(shape) - s * s)  # its mean square is 1
        noise[noisy.random(shape) < self.noisy_fraction] *= self.noisy_factor
        scaled: Image = (self.read_noise_e / np.sqrt(1.0 + self._tail) * noise).astype(np.float32)
        return scaled


def _around_one(spread: float, shape: Shape, rng: np.random.Generator) -> Image:
    """Draw positive numbers of mean 1 and a standard deviation, gamma distributed."""
    if spread == 0.0:
        return np.ones(shape, dtype=np.float32)
    variance = spread**2
    drawn: Image = rng.standard_gamma(1.0 / variance, shape, dtype=np.float32) * np.float32(
        variance
    )
    return drawn


LightSensor = one_of("type", PhotonCounter, Emccd, Scmos)
"""Any sensor of light; its ``type`` says which."""

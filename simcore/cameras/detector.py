"""A detector as it stands in its microscope: everything fixed is drawn, frames can be read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

from nanophantom.simcore.cameras import kernels

Image = npt.NDArray[np.float32]
Readout = npt.NDArray[Any]

DEAD, HOT = 1, 2  # in a defect mask


@dataclass(frozen=True, eq=False)
class Maps:
    """What is fixed in every pixel, all of shape (ny, nx).

    Attributes
    ----------
    gain : float32
        Response relative to what a gain-corrected pixel should have.
    dark : float32
        Mean signal that an exposure gains without an electron, in electrons.
    defects : uint8
        0 a good, `DEAD` a dead and `HOT` a hot pixel. The gain of dead pixels isn't zero here.
    """

    gain: Image
    dark: Image
    defects: npt.NDArray[np.uint8]

    @cached_property
    def response(self) -> Image:
        """Gain, with dead pixels dead."""
        return np.where(self.defects == DEAD, np.float32(0.0), self.gain)


@dataclass(frozen=True)
class Converter:
    """From electrons to what is read out: ``scale`` units an electron over an ``offset``."""

    scale: float
    offset: float
    bits: int | None
    """Of the unsigned integers that come out; none: real numbers."""

    @property
    def dtype(self) -> str:
        """Type of what is read out."""
        if self.bits is None:
            return "float32"
        return "uint16" if self.bits <= 16 else "uint32"

    @property
    def top(self) -> float:
        """Largest number that is read out; 0 where there is none."""
        return 0.0 if self.bits is None else 2.0**self.bits - 1.0

    def expected(self, signal: Image) -> Image:
        """Convert without rounding and without an end."""
        return np.float32(self.scale) * signal + np.float32(self.offset)

    def read(self, signal: Image, full: float) -> Readout:
        """Saturate, convert and round."""
        out = np.empty(signal.shape, dtype=self.dtype)
        flat = signal.reshape(-1), full, self.scale, self.offset, self.top, out.reshape(-1)
        kernels.digitise(*flat)
        return out


@dataclass(frozen=True, eq=False)
class Detector(ABC):
    """One detector, exposed frame by frame.

    Attributes
    ----------
    shape
        Rows and columns.
    counts_per_electron
        Mean readout per arriving electron at a low rate.
    noisy
        Whether `read` draws; else it returns what `ideal` does.
    """

    shape: tuple[int, int]
    counts_per_electron: float
    noisy: bool

    def read(self, electrons: npt.NDArray[Any], rng: np.random.Generator) -> Readout:
        """Expose one frame.

        Parameters
        ----------
        electrons : (ny, nx)
            Expected number of electrons that arrive at each pixel, from `Camera.electrons`.
        rng
            Stream of this frame. Equal streams give equal bytes.

        Returns
        -------
        ndarray
            Readout units; of the camera's `dtype`.

        Raises
        ------
        ValueError
            Another shape, or an expectation below zero or not a number.
        """
        checked = self._checked(electrons)
        return self._draw(checked, rng) if self.noisy else self._expect(checked)

    def ideal(self, electrons: npt.NDArray[Any]) -> Image:
        """Return the exact expectation of `read`, had its numbers no end.

        Gain errors, dark signal, defects, coincidence and offset are in it; noise, rounding and
        saturation are not. Parameters and errors as in `read`.
        """
        return self._expect(self._checked(electrons))

    def truth(self) -> dict[str, Readout]:
        """Return what is fixed in the sensor, as far as it has it: gain, dark, defects."""
        return {}

    @abstractmethod
    def _draw(self, electrons: Image, rng: np.random.Generator) -> Readout: ...

    @abstractmethod
    def _expect(self, electrons: Image) -> Image: ...

    def _checked(self, electrons: npt.NDArray[Any]) -> Image:
        if electrons.shape != self.shape:
            raise ValueError(f"electrons: shape {electrons.shape}; this detector has {self.shape}")
        if not electrons.min(initial=0.0) >= 0.0:
            raise ValueError("electrons: a mean number below zero or not a number")
        return np.ascontiguousarray(electrons, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class PerfectCounter(Detector):
    """Counts a fraction of the electrons, each in its pixel, and adds nothing."""

    def _draw(self, electrons: Image, rng: np.random.Generator) -> Readout:
        counts = np.empty(self.shape, dtype=np.uint16)
        key = kernels.draw_key(rng)
        most = kernels.count_all(
            electrons.reshape(-1), self.counts_per_electron, key, counts.reshape(-1)
        )
        if most > np.iinfo(np.uint16).max:
            raise ValueError(
                f"instrument.camera: {most:.0f} electrons in a pixel overflow a 16-bit counter; "
                "lower the dose or the pixel size"
            )
        return counts

    def _expect(self, electrons: Image) -> Image:
        return electrons * np.float32(self.counts_per_electron)


@dataclass(frozen=True, eq=False)
class RealDetector(Detector):
    """What counting and integrating detectors share."""

    efficiency: float
    maps: Maps
    spread: Image | None
    """M_post at the frequencies of a real FFT of a frame."""
    converter: Converter
    has: tuple[str, ...]
    """Which maps differ from those of a perfect sensor."""

    def truth(self) -> dict[str, Readout]:
        """Return the maps that this sensor has: gain, dark, defects."""
        return {name: getattr(self.maps, name) for name in self.has}

    def _spread(self, signal: Image) -> Image:
        """Let the signal spread to other pixels; opposite edges of the frame are joined."""
        if self.spread is None:
            return signal
        spectrum = scipy.fft.rfft2(signal, workers=1)
        spectrum *= self.spread
        blurred: Image = scipy.fft.irfft2(spectrum, self.shape, workers=1)
        return blurred


@dataclass(frozen=True, eq=False)
class CountingDetector(RealDetector):
    """Counts events in internal frames; those that meet in one frame are one event."""

    frames: float
    """Internal frames of an exposure; 0: nothing coincides."""
    coincidence_area_px: float

    def _draw(self, electrons: Image, rng: np.random.Generator) -> Readout:
        whole = self.spread is None and (self.converter.scale, self.converter.offset) == (1.0, 0.0)
        full = self.converter.top if whole and self.converter.bits is not None else np.inf
        counts = np.empty(self.shape, dtype=self.converter.dtype if whole else "float32")
        # No FFT and no rounding where events are what is read out.
        kernels.count(*self._arriving(electrons), full, kernels.draw_key(rng), counts.reshape(-1))
        return counts if whole else self.converter.read(self._spread(counts), np.inf)

    def _expect(self, electrons: Image) -> Image:
        counts = electrons * np.float32(self.efficiency) * self.maps.response + self.maps.dark
        if self.frames > 0.0:
            most = np.float32(self.frames / self.coincidence_area_px)
            counts = -most * np.expm1(-counts / most)
        return self.converter.expected(self._spread(counts))

    def _arriving(self, electrons: Image) -> tuple[Image, float, Image, Image, float, float]:
        """Return what the kernels ask for first.

        A counter's gain error is one of its efficiency: it counts whole events.
        """
        response, dark = self.maps.response.reshape(-1), self.maps.dark.reshape(-1)
        flat = electrons.reshape(-1)
        return flat, self.efficiency, response, dark, self.frames, self.coincidence_area_px


@dataclass(frozen=True, eq=False)
class IntegratingDetector(RealDetector):
    """Adds up what every electron deposits."""

    deposit_variance: float
    """Relative variance of what one electron deposits."""
    read_noise: float
    row_noise: float
    column_noise: float
    """Standard deviations, in electrons, of a pixel, of a row and of a column, in each frame."""
    full_well: float
    """Largest signal of a pixel, in electrons."""

    def _draw(self, electrons: Image, rng: np.random.Generator) -> Readout:
        ny, nx = self.shape
        # All is drawn whatever the strengths, so a noise that is off leaves the others unchanged.
        events, noise = kernels.draw_key(rng), kernels.draw_key(rng)
        rows = rng.standard_normal(ny, dtype=np.float32) * np.float32(self.row_noise)
        columns = rng.standard_normal(nx, dtype=np.float32) * np.float32(self.column_noise)

        signal = np.empty(self.shape, dtype=np.float32)
        kernels.deposit(
            electrons.reshape(-1),
            self.efficiency,
            self.deposit_variance,
            events,
            signal.reshape(-1),
        )
        signal = self._spread(signal)
        kernels.add_readout(
            signal, self.maps.response, self.maps.dark, self.read_noise, rows, columns, noise
        )
        return self.converter.read(signal, self.full_well)

    def _expect(self, electrons: Image) -> Image:
        signal = self._spread(electrons * np.float32(self.efficiency))
        return self.converter.expected(signal * self.maps.response + self.maps.dark)

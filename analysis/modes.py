"""The Fourier modes of an image series that carry structure, seen through windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

FloatArray = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]
Spectrum = npt.NDArray[np.complex64]

MAX_MODES_PER_AXIS = 512
"""Finer structure than this many periods across two frames isn't needed to register."""


@dataclass(frozen=True, eq=False)
class Modes:
    """The Fourier modes that carry structure, as flat lists over the half plane of rfft2."""

    shape: tuple[int, int]
    iy: npt.NDArray[np.intp]
    ix: npt.NDArray[np.intp]
    multiplicity: FloatArray  # 2 where rfft2 leaves the conjugate mode away
    high_pass: FloatArray
    signal: FloatArray  # power of the structure, S
    noise: FloatArray  # power of the noise of one frame, N

    @classmethod
    def carrying_signal(cls, stack: npt.NDArray[np.generic]) -> Modes:
        """Choose the modes whose mean power over the frames stands above the noise."""
        n, ny, nx = stack.shape
        ky, kx = frequencies(ny, nx)
        window = window_on(slice(0, ny), slice(0, nx), (ny, nx))
        power = np.zeros((ny, nx // 2 + 1), np.float32)
        for frame in stack:
            spectrum = windowed_spectrum(frame, window, np.zeros(2, int))
            power += spectrum.real**2 + spectrum.imag**2
        power /= n
        # No lens passes structure near the sampling limit of a well sampled image.
        noise = float(np.mean(power[np.hypot(ky, kx) > 0.42])) + 1e-6 * float(np.mean(power))
        smooth = ndimage.uniform_filter(power, 3, mode="wrap")
        excess = smooth - noise
        keep = excess > 3 * noise / np.sqrt(9 * n)
        # The illumination stands still while the specimen drifts: leave its few periods away.
        periods = np.hypot(ky * ny, kx * nx)
        high_pass = 1 - np.exp(-0.5 * (periods / 3) ** 2)
        keep &= (np.abs(ky) * ny < MAX_MODES_PER_AXIS / 2) & (kx * nx < MAX_MODES_PER_AXIS / 2)
        keep &= (np.abs(ky) < 0.42) & (kx < 0.42) & (periods > 1)
        iy, ix = np.nonzero(keep)
        return cls(
            shape=(ny, nx),
            iy=iy,
            ix=ix,
            multiplicity=np.where(ix == 0, 1.0, 2.0),
            high_pass=high_pass[keep].astype(np.float64),
            signal=excess[keep].astype(np.float64),
            noise=np.full(len(iy), noise),
        )

    @property
    def ky(self) -> FloatArray:
        """Frequencies along y, cycles per pixel."""
        ny = self.shape[0]
        return np.where(self.iy < (ny + 1) // 2, self.iy, self.iy - ny) / ny

    @property
    def kx(self) -> FloatArray:
        """Frequencies along x, cycles per pixel."""
        return self.ix / self.shape[1]

    def of(
        self, frame: npt.NDArray[np.generic], window: Image, origin: npt.NDArray[np.int_]
    ) -> Spectrum:
        """Return these modes of a frame, seen from its own whole-pixel origin.

        The window rides with the specimen: one that stood still would pull towards no shift,
        by whole lattice vectors too.
        """
        spectrum = windowed_spectrum(frame, window, origin)
        return spectrum[self.iy, self.ix]

    def phase(self, shift: FloatArray) -> Spectrum:
        """Return the factor that moves a spectrum back by the shift."""
        turns = self.ky * shift[0] + self.kx * shift[1]
        return np.asarray(np.exp(2j * np.pi * turns), np.complex64)

    def with_measured_power(self, spectra: Spectrum, shifts: FloatArray) -> Modes:
        """Return the modes with S and N from the agreement between the aligned frames.

        The cross power of different frames has no noise in it, whatever its colour.
        """
        n = len(spectra)
        total = np.zeros(spectra.shape[1], np.complex128)
        for spectrum, shift in zip(spectra, shifts, strict=True):
            total += spectrum * self.phase(shift)
        own = np.sum(np.abs(spectra) ** 2, axis=0, dtype=np.float64)
        cross = (np.abs(total) ** 2 - own) / (n * (n - 1))
        noise = np.maximum(own / n - cross, 1e-3 * own / n)
        # One mode of few frames is a poor estimate of its own power: lean on the last guess,
        # scaled to the present window.
        last = float(np.sum(own) / n / max(np.sum(self.signal + self.noise), 1e-30)) / n
        signal = np.maximum(cross, 0) * (1 - 1 / n) + self.signal * last
        noise = noise * (1 - 1 / n) + self.noise * last
        return Modes(self.shape, self.iy, self.ix, self.multiplicity, self.high_pass, signal, noise)

    def correlation(self, frame: Spectrum, mean: Spectrum, m: int) -> npt.NDArray[np.complex128]:
        """Return the terms of the log-likelihood of the frame against a mean of m others."""
        S, N = self.signal, self.noise
        weight = self.multiplicity * self.high_pass * S / (N * S + (N**2 + N * S) / m)
        return np.asarray(weight * frame * np.conj(mean), np.complex128)


def windowed_spectrum(
    frame: npt.NDArray[np.generic], window: Image, origin: npt.NDArray[np.int_]
) -> Spectrum:
    """Return rfft2 of the frame moved back by whole pixels, seen through a window."""
    ny, nx = frame.shape
    values = frame.astype(np.float32)
    values -= np.float32(values.mean(dtype=np.float64))
    (to_y, from_y), (to_x, from_x) = overlap(ny, origin[0]), overlap(nx, origin[1])
    moved = np.zeros((ny, nx), np.float32)
    moved[to_y, to_x] = values[from_y, from_x]
    moved *= window
    return np.asarray(fft.rfft2(moved, workers=1), np.complex64)


def window_on(y: slice, x: slice, shape: tuple[int, int]) -> Image:
    """Return a window on part of the frame that fades to zero over an eighth of each side."""

    def fade(n: int, part: slice) -> Image:
        size = part.stop - part.start
        distance = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
        profile = np.zeros(n, np.float32)
        profile[part] = np.sin(0.5 * np.pi * np.minimum(distance / max(1, size // 8), 1)) ** 2
        return profile

    return fade(shape[0], y)[:, None] * fade(shape[1], x)[None, :]


def common_window(shifts: FloatArray, shape: tuple[int, int]) -> Image:
    """Return a window on what all frames saw, in the coordinates of frame 0."""
    parts = []
    for axis, n in enumerate(shape):
        start = int(np.ceil(max(0.0, -np.min(shifts[:, axis]))))
        stop = n - int(np.ceil(max(0.0, np.max(shifts[:, axis]))))
        if stop - start < n // 4:  # nothing in common: settle for a part that most saw
            start = int(np.clip((start + stop) // 2 - n // 8, 0, n - n // 4))
            stop = start + n // 4
        parts.append(slice(start, stop))
    return window_on(parts[0], parts[1], shape)


def overlap(n: int, shift: int) -> tuple[slice, slice]:
    """Return where frame 0 and a frame moved by `shift` see the same: (in frame 0, in frame)."""
    size = max(0, n - abs(int(shift)))
    to, start = max(0, -int(shift)), max(0, int(shift))
    return slice(to, to + size), slice(start, start + size)


def frequencies(ny: int, nx: int) -> tuple[Image, Image]:
    """Return ky (ny, 1) and kx (1, nx // 2 + 1) of rfft2 in cycles per pixel."""
    ky = fft.fftfreq(ny).astype(np.float32)[:, None]
    kx = fft.rfftfreq(nx).astype(np.float32)[None, :]
    return ky, kx

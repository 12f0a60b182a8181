"""The Fourier modes of an image series that carry structure, seen through windows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

FloatArray = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]
Spectrum = npt.NDArray[np.complex64]

MAX_MODES_PER_AXIS = 512
"""Finer structure than this many periods across two frames isn't needed to register."""

FINEST = 0.42
"""No lens passes structure finer than this, in cycles per pixel, into a well sampled image."""

SIGNIFICANT = 5.0
"""Standard deviations that set a Bragg peak apart from its ring; 10^5 modes reach 4 by chance."""


@dataclass(frozen=True, eq=False)
class Modes:
    """The Fourier modes in which structure may show, as flat lists over the half plane of rfft2.

    A mode of a few noisy frames says next to nothing about its own strength, and those that
    happen to be strong would be believed too much. Strength is therefore taken from the mean of
    a ring of modes, and from a mode's own surroundings only where a Bragg peak stands out.
    """

    shape: tuple[int, int]
    iy: npt.NDArray[np.intp]
    ix: npt.NDArray[np.intp]
    multiplicity: FloatArray  # 2 where rfft2 leaves the conjugate mode away
    high_pass: FloatArray
    peak: npt.NDArray[np.bool_]  # stands out from its ring
    signal: FloatArray  # power of the structure, S
    noise: FloatArray  # power of the noise of one frame, N

    @classmethod
    def carrying_signal(cls, stack: npt.NDArray[np.generic]) -> Modes:
        """Tell structure from noise by the mean power over the frames.

        The power doesn't feel a shift, so that nothing need be known of the drift.
        """
        n, ny, nx = stack.shape
        power = np.zeros((ny, nx // 2 + 1), np.float32)
        window = window_on(slice(0, ny), slice(0, nx), (ny, nx), 1 / 16)
        for frame in stack:
            spectrum = windowed_spectrum(frame, window)
            power += spectrum.real**2 + spectrum.imag**2
        power /= n * float(np.mean(window**2))
        ky, kx = frequencies(ny, nx)
        k = np.hypot(ky, kx)
        noise = float(np.mean(power[k > FINEST])) + 1e-6 * float(np.mean(power))
        excess = power - np.float32(noise)
        ring = _rings(k, (ny, nx))
        # Over 3 x 3 modes and n frames chance moves the power by noise / sqrt(9 n).
        local = ndimage.uniform_filter(excess, 3, mode="wrap")
        peak = np.zeros(k.shape, bool)
        for _ in range(2):  # the peaks leave the ring they stand out from
            mean = _ring_mean(excess, ring, ~peak)
            peak = local > np.maximum(mean, 0)[ring] + SIGNIFICANT * noise / np.sqrt(9 * n)
        signal = np.where(peak, local, np.maximum(mean, 0)[ring])
        # The illumination stands still while the specimen drifts: leave its few periods away.
        periods = np.hypot(ky * ny, kx * nx)
        high_pass = 1 - np.exp(-0.5 * (periods / 3) ** 2)
        keep = (k < FINEST) & (periods > 1)
        keep &= (np.abs(ky) * ny < MAX_MODES_PER_AXIS / 2) & (kx * nx < MAX_MODES_PER_AXIS / 2)
        iy, ix = np.nonzero(keep)
        return cls(
            shape=(ny, nx),
            iy=iy,
            ix=ix,
            multiplicity=np.where(ix == 0, 1.0, 2.0),
            high_pass=high_pass[keep].astype(np.float64),
            peak=peak[keep],
            signal=signal[keep].astype(np.float64),
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
        self,
        frame: npt.NDArray[np.generic],
        window: Image | None = None,
        origin: npt.NDArray[np.int_] | None = None,
    ) -> Spectrum:
        """Return these modes of a frame moved back by whole pixels, seen through a window."""
        return windowed_spectrum(frame, window, origin)[self.iy, self.ix]

    def phase(self, shift: FloatArray) -> Spectrum:
        """Return the factor that moves a spectrum back by the shift."""
        ny, nx = self.shape
        # One exponential per row and column, not one per mode.
        along_y = np.exp(2j * np.pi * fft.fftfreq(ny) * shift[0]).astype(np.complex64)
        along_x = np.exp(2j * np.pi * fft.rfftfreq(nx) * shift[1]).astype(np.complex64)
        return np.asarray(along_y[self.iy] * along_x[self.ix])

    def with_measured_power(self, spectra: Spectrum, shifts: FloatArray, window: Image) -> Modes:
        """Return the modes with S and N from the agreement between the aligned frames.

        The cross power of different frames has no noise in it, whatever its colour. The power
        seen through a window is scaled up to that of a whole frame.
        """
        n = len(spectra)
        total = np.zeros(spectra.shape[1], np.complex64)
        own = np.zeros(spectra.shape[1], np.float64)
        for spectrum, shift in zip(spectra, shifts, strict=True):
            total += spectrum * self.phase(shift)
            own += spectrum.real**2 + spectrum.imag**2
        cross = (np.abs(total).astype(np.float64) ** 2 - own) / (n * (n - 1))
        noise = np.maximum(own / n - cross, 1e-3 * np.mean(own) / n)
        whole = window.size / float(np.sum(window.astype(np.float64) ** 2))
        ring = _rings(np.hypot(self.ky, self.kx), self.shape)
        mean = _ring_mean(cross, ring, ~self.peak)
        signal = np.where(self.peak, cross, mean[ring])
        noise = _ring_mean(noise, ring, np.ones(len(ring), bool))
        return replace(self, signal=whole * np.maximum(signal, 0), noise=whole * noise[ring])

    def correlation(
        self, a: Spectrum, b: Spectrum, frames_a: float = 1, frames_b: float = 1
    ) -> npt.NDArray[np.complex64]:
        """Return the terms of the log-likelihood that a is b, moved.

        Parameters
        ----------
        a, b : (modes,) complex64
            Spectra of means of so many frames.

        Notes
        -----
        Two views of a structure of power S with noise powers A = N / frames_a and
        B = N / frames_b are Gaussian together, and the log-likelihood of a shift d is the sum
        over modes of Re(a b* exp(2 pi i k d)) S / (A B + S (A + B)).
        """
        S, A, B = self.signal, self.noise / frames_a, self.noise / frames_b
        weight = self.multiplicity * self.high_pass * S / (A * B + S * (A + B))
        return np.asarray(weight.astype(np.float32) * a * np.conj(b), np.complex64)


def windowed_spectrum(
    frame: npt.NDArray[np.generic],
    window: Image | None = None,
    origin: npt.NDArray[np.int_] | None = None,
) -> Spectrum:
    """Return rfft2 of the frame moved back by whole pixels, seen through a window."""
    ny, nx = frame.shape
    values = frame.astype(np.float32)
    values -= np.float32(values.mean(dtype=np.float64))
    if origin is not None:
        (to_y, from_y), (to_x, from_x) = overlap(ny, origin[0]), overlap(nx, origin[1])
        moved = np.zeros((ny, nx), np.float32)
        moved[to_y, to_x] = values[from_y, from_x]
        values = moved
    if window is not None:
        values *= window
    return np.asarray(fft.rfft2(values, workers=1), np.complex64)


def window_on(y: slice, x: slice, shape: tuple[int, int], fading: float = 1 / 8) -> Image:
    """Return a window on part of the frame that fades to zero over a share of each side."""

    def fade(n: int, part: slice) -> Image:
        size = part.stop - part.start
        distance = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
        profile = np.zeros(n, np.float32)
        width = max(1, int(size * fading))
        profile[part] = np.sin(0.5 * np.pi * np.minimum(distance / width, 1)) ** 2
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
    return window_on(parts[0], parts[1], shape, 1 / 16)


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


def _rings(k: npt.NDArray[np.floating], shape: tuple[int, int]) -> npt.NDArray[np.intp]:
    """Return the ring that each mode lies in; a ring is a sixth as wide as its radius."""
    return np.asarray(6 * np.log1p(k * min(shape)), np.intp)


def _ring_mean(
    values: npt.NDArray[np.floating],
    ring: npt.NDArray[np.intp],
    counted: npt.NDArray[np.bool_],
) -> FloatArray:
    """Return the mean over each ring, zero where nothing counts."""
    rings = int(ring.max(initial=0)) + 1
    size = np.bincount(ring[counted], minlength=rings).astype(np.float64)
    total = np.bincount(ring[counted], values[counted], minlength=rings)
    return np.asarray(total / np.maximum(size, 1))

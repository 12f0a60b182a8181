"""From an exit wave to a diffraction pattern on a camera, no electron counted twice or lost."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy.sparse import csr_array

from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.fft import fast_length

Floats = npt.NDArray[np.float64]
Complexes = npt.NDArray[Any]

SAMPLES_PER_PIXEL = 2
"""Samples of the pattern in a pixel of the camera, at least."""


@dataclass(frozen=True)
class Area:
    """A round aperture in the specimen's plane or in an image of it, referred to the cell.

    Attributes
    ----------
    x_A, y_A
        Its centre, from the grid's first sample.
    radius_A
        Its radius; the edge is softened over one sample of the wave.
    """

    x_A: float
    y_A: float
    radius_A: float

    def mask(self, shape: tuple[int, int], extent_A: tuple[float, float]) -> Floats:
        """Return what passes, between 0 and 1, on samples of a periodic cell."""
        (ny, nx), (ly, lx) = shape, extent_A
        y = np.arange(ny)[:, None] * ly / ny - self.y_A
        x = np.arange(nx)[None, :] * lx / nx - self.x_A
        r = np.hypot(y - ly * np.rint(y / ly), x - lx * np.rint(x / lx))
        edge = (self.radius_A - r) / max(ly / ny, lx / nx)
        return np.asarray(np.clip(edge + 0.5, 0.0, 1.0), np.float64)


@dataclass(frozen=True)
class Projector:
    """The way from the waves of a grid to a camera in the diffraction plane.

    The wave fills its cell once and is nothing beyond it, so the pattern may be sampled as finely
    as the camera asks: the cell is embedded in a larger, empty one. Each sample is then shared
    out to pixels by the area that they have in common.

    Attributes
    ----------
    grid : Grid
        Of the waves.
    energy_kev
        Beam energy.
    shape : (height, width)
        Pixels of the camera.
    pixel_mrad
        Edge of a pixel. Angles are small here: an angle is wavelength times frequency.
    centre_px : (x, y)
        Where the direct beam falls.
    """

    grid: Grid
    energy_kev: float
    shape: tuple[int, int]
    pixel_mrad: float
    centre_px: tuple[float, float]

    @property
    def _mrad_A(self) -> float:
        """Angle in mrad of a frequency of 1/Å."""
        return 1e3 * float(wavelength(self.energy_kev))

    @cached_property
    def sampling(self) -> tuple[tuple[int, int], tuple[Floats, Floats]]:
        """Number of samples of the embedded wave, and their angles along y and x, mrad."""
        numbers, angles = [], []
        for m, length in zip(self.grid.wave_shape, self.grid.extent_A, strict=True):
            times = SAMPLES_PER_PIXEL * self._mrad_A / (length * self.pixel_mrad)
            n = fast_length(int(np.ceil(m * max(1.0, times))))
            numbers.append(n)
            angles.append(np.asarray(self._mrad_A * np.fft.fftfreq(n, length / m), np.float64))
        return (numbers[0], numbers[1]), (angles[0], angles[1])

    @cached_property
    def _sharing(self) -> tuple[csr_array, csr_array]:
        """Matrices (pixels, samples) of the share of a sample in each row, in each column."""
        (ay, ax), (cx, cy) = self.sampling[1], self.centre_px
        height, width = self.shape
        return (
            _shares(ay / self.pixel_mrad + cy, height),
            _shares(ax / self.pixel_mrad + cx, width),
        )

    def real_space(self, wave_k: Complexes) -> Complexes:
        """Return the wave on samples of the cell."""
        return np.asarray(scipy.fft.ifft2(wave_k, norm="forward", workers=1))

    def intensities(self, wave: Complexes) -> Floats:
        """Return the intensity of every sample of the pattern; their sum is the mean |wave|^2."""
        n = self.sampling[0]
        spectrum = scipy.fft.fft2(wave, n, workers=1)
        scale = 1.0 / (float(n[0] * n[1]) * wave.size)
        return np.asarray(scale * np.abs(spectrum).astype(np.float64) ** 2)

    def within(self, centre_mrad: tuple[float, float], radius_mrad: float) -> npt.NDArray[np.bool_]:
        """Say which samples of the pattern lie in a disk."""
        ay, ax = self.sampling[1]
        inside = np.hypot(ay[:, None] - centre_mrad[1], ax[None, :] - centre_mrad[0])
        return np.asarray(inside <= radius_mrad)

    def blurred(self, intensities: Floats, sigma_mrad: float) -> Floats:
        """Return a pattern convolved with a Gaussian of illumination angles; the sum stays."""
        if not sigma_mrad:
            return intensities
        (ny, nx), (ay, ax) = self.sampling
        steps = (abs(ay[1] - ay[0]), abs(ax[1] - ax[0]))
        damping = [
            np.exp(-2 * (np.pi * sigma_mrad * np.fft.fftfreq(n, step)) ** 2)
            for n, step in zip((ny, nx), steps, strict=True)
        ]
        spectrum = scipy.fft.fft2(intensities, workers=1)
        spectrum *= damping[0][:, None] * damping[1][None, :]
        return np.asarray(np.maximum(scipy.fft.ifft2(spectrum, workers=1).real, 0.0))

    def on_camera(self, intensities: Floats) -> Floats:
        """Return what falls on each pixel; the rest of the sum falls beside the camera."""
        rows, columns = self._sharing
        return np.asarray((columns @ (rows @ intensities).T).T, np.float64)


def _shares(position_px: Floats, pixels: int) -> csr_array:
    """Return the share of each sample, as wide as samples are apart, that falls on each pixel.

    Pixel p reaches from p - 1/2 to p + 1/2.
    """
    wide = abs(position_px[1] - position_px[0])
    low = position_px - wide / 2
    matrix = csr_array((pixels, len(position_px)))
    first = np.floor(low + 0.5).astype(np.int64)
    for offset in range(int(np.ceil(wide)) + 1):
        pixel = first + offset
        common = np.minimum(low + wide, pixel + 0.5) - np.maximum(low, pixel - 0.5)
        hit = np.flatnonzero((common > 0) & (pixel >= 0) & (pixel < pixels))
        shape = (pixels, len(position_px))
        matrix = matrix + csr_array((common[hit] / wide, (pixel[hit], hit)), shape=shape)
    return csr_array(matrix)

"""The model of a focal series: what images a wave should give, and how to change it.

The images are those of :func:`nanophantom.simcore.electrons.imaging.expected_image`: an
incoherent average over defocus of |psi|^2, with the quasi-coherent envelope of the illumination's
convergence on the amplitude, and no electron lost to the envelopes. The wave lives on a periodic
grid that is larger than the images by a margin, so that what enters an image from beyond its edge
has a place to come from. The misfit's gradient comes from running the model backwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.polynomial.hermite_e import hermegauss

from nanophantom.simcore.electrons.aberrations import chi, chi_gradient
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.fft import Transform

Floats = npt.NDArray[np.float64]
Complexes = npt.NDArray[np.complex128]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Misfit:
    """Half the sum of squared residuals over their variance, and its derivatives."""

    cost: float
    beams: Complexes  # by real and imaginary part
    shifts_A: Floats
    defoci_A: Floats
    residual_rms: Floats  # of each image, 1 being the counts' own noise


class FocalSeriesModel:
    """Forward model of a series of images, one defocus each.

    Parameters
    ----------
    frame : (ny, nx)
        Pixels of an image.
    margin : (my, mx)
        Pixels that the wave's grid has in addition on each side.
    pixel_A, energy_kev, k_max
        Size of a pixel, energy, and greatest frequency of the wave in 1/Å.
    coefficients : mapping
        Aberrations but the defocus, in Å and rad.
    focal_spread_A, convergence_rad
        Coherence, standard deviations.

    Attributes
    ----------
    ky, kx : (beams,) float64
        Frequencies of the wave's beams, 1/Å.
    opposite : (beams,) intp
        Where the beam of -k is.
    """

    def __init__(
        self,
        frame: tuple[int, int],
        margin: tuple[int, int],
        pixel_A: float,
        energy_kev: float,
        k_max: float,
        coefficients: Mapping[str, float],
        focal_spread_A: float,
        convergence_rad: float,
    ) -> None:
        self.frame, self.margin, self.pixel_A = frame, margin, pixel_A
        self.shape = (frame[0] + 2 * margin[0], frame[1] + 2 * margin[1])
        # |psi|^2 reaches to 2 k_max: on pixels too coarse for that it is formed on finer ones
        self._finer = 1 if 2 * k_max <= 0.5 / pixel_A else 2
        self._grid = (self.shape[0] * self._finer, self.shape[1] * self._finer)
        my, mx = (np.rint(np.fft.fftfreq(n) * n).astype(np.intp) for n in self.shape)
        row, column = (grid.ravel() for grid in np.meshgrid(my, mx, indexing="ij"))
        ky, kx = row / (self.shape[0] * pixel_A), column / (self.shape[1] * pixel_A)
        inside = np.hypot(ky, kx) <= k_max
        self.row, self.column = row[inside], column[inside]
        self.ky, self.kx = ky[inside], kx[inside]
        place = np.full(self.shape, -1, np.intp)
        place[self.row, self.column] = np.arange(len(self.row))
        self.opposite: Indices = place[-self.row, -self.column]

        wavelength_A = float(wavelength(energy_kev))
        k2 = self.kx**2 + self.ky**2
        self._phase = chi(coefficients, self.kx, self.ky, energy_kev)
        self._slope = np.stack(chi_gradient(coefficients, self.kx, self.ky, energy_kev))
        self.phase_per_A = np.pi * wavelength_A * k2
        self._slope_per_A = 2 * np.pi * wavelength_A * np.stack([self.kx, self.ky])
        self._sigma_k = convergence_rad / wavelength_A
        self._nodes, self._weights, reach = _quadrature(
            focal_spread_A, float(self.phase_per_A.max())
        )
        self._coherent = self.phase_per_A * focal_spread_A <= reach
        self._nodes = self._nodes * focal_spread_A
        self._wave = Transform((len(self._nodes), *self._grid), "complex128", axes=(1, 2))
        self._image = Transform(self._grid, "complex128")

    def transfer(self, defocus_A: float) -> tuple[Complexes, Floats]:
        """Return the beams' transfer at each node of the focal spread, and the slope along k.

        Shapes (nodes, beams): exp(-i chi) with the envelope of the convergence, and
        grad chi . d(grad chi)/dC10.
        """
        defoci = defocus_A + self._nodes[:, None]
        slope = self._slope[:, None, :] + defoci * self._slope_per_A[:, None, :]
        damping = 0.5 * self._sigma_k**2 * np.sum(slope**2, axis=0)
        values = np.exp(-damping - 1j * (self._phase + defoci * self.phase_per_A))
        values[:, ~self._coherent] = 0
        return values, np.sum(slope * self._slope_per_A[:, None, :], axis=0)

    def linear_transfer(self, defocus_A: float) -> Complexes:
        """Return the transfer of a beam's interference with the direct one, (beams,)."""
        values, _ = self.transfer(defocus_A)
        return np.asarray(self._weights @ values)

    def shift_factor(self, shift_A: Floats) -> Complexes:
        """Return exp(-2 pi i k d) of a specimen displaced by d = (dy, dx)."""
        turns = self.ky * shift_A[0] + self.kx * shift_A[1]
        return np.asarray(np.exp(-2j * np.pi * turns))

    def misfit(
        self, beams: Complexes, shifts_A: Floats, defoci_A: Floats, images: Floats, counts: float
    ) -> Misfit:
        """Compare the model with the images, in units of the incident intensity.

        `counts` is the bare beam's number of counts a pixel: the residuals' inverse variance.
        """
        cost, gradient = 0.0, np.zeros(len(beams), np.complex128)
        by_shift, by_defocus = np.zeros((len(images), 2)), np.zeros(len(images))
        rms = np.zeros(len(images))
        weights = self._weights[:, None]
        loss = 2 * self._sigma_k**2
        for i, image in enumerate(images):
            transfer, steepness = self.transfer(float(defoci_A[i]))
            transfer *= self.shift_factor(shifts_A[i])
            psi, lost, expected = self._expose(beams, transfer)
            residual = expected - image
            cost += 0.5 * counts * float(np.sum(residual**2))
            rms[i] = np.sqrt(counts * np.mean(residual**2))

            residual *= counts
            psi *= self._from_pixels(residual)
            back = self._to_beams(psi)
            own = float(np.sum(residual))
            gradient += (
                2 * np.sum(weights * transfer.conj() * back, axis=0) + 2 * own * beams * lost
            )
            product = weights * beams * transfer * back.conj()
            by_shift[i] = [4 * np.pi * np.sum(k * product.imag) for k in (self.ky, self.kx)]
            damped = self._sigma_k**2 * steepness
            by_defocus[i] = 2 * np.sum(
                self.phase_per_A * product.imag - damped * product.real
            ) + own * loss * np.sum(weights * np.abs(beams * transfer) ** 2 * steepness)
        return Misfit(cost, gradient, by_shift, by_defocus, rms)

    def image(self, beams: Complexes, shift_A: Floats, defocus_A: float) -> Floats:
        """Return the image of a wave, (ny, nx) in units of the incident intensity."""
        transfer, _ = self.transfer(defocus_A)
        return self._expose(beams, transfer * self.shift_factor(shift_A))[2]

    def spectrum(self, image: Floats) -> Complexes:
        """Return the beams' Fourier coefficients of an image with zero around its frame."""
        whole = np.zeros(self.shape)
        whole[self._window()] = image
        values = np.fft.fft2(whole, norm="forward")
        return np.asarray(values[self.row, self.column])

    def wave(self, beams: Complexes) -> Complexes:
        """Return the wave at the pixels of the frame."""
        whole = np.zeros(self.shape, np.complex128)
        whole[self.row, self.column] = beams
        return np.asarray(np.fft.ifft2(whole, norm="forward")[self._window()])

    def _expose(self, beams: Complexes, transfer: Complexes) -> tuple[Complexes, Floats, Floats]:
        """Return the waves of all nodes, what each beam loses of its contrast, and the image."""
        # what the envelopes take from the fringes spreads evenly
        lost = 1 - self._weights @ np.abs(transfer) ** 2
        psi = self._to_waves(beams * transfer)
        intensity = np.einsum("j,jyx->yx", self._weights, psi.real**2 + psi.imag**2)
        evenly = float(np.sum(np.abs(beams) ** 2 * lost))
        return psi, lost, self._to_pixels(intensity) + evenly

    def _window(self) -> tuple[slice, slice]:
        (ny, nx), (my, mx) = self.frame, self.margin
        return slice(my, my + ny), slice(mx, mx + nx)

    def _to_waves(self, beams: Complexes) -> Complexes:
        self._wave.data[...] = 0
        self._wave.data[:, self.row, self.column] = beams
        return np.asarray(self._wave.inverse())

    def _to_beams(self, waves: Complexes) -> Complexes:
        self._wave.data[...] = waves
        return np.asarray(self._wave.forward()[:, self.row, self.column])

    def _to_pixels(self, intensity: Floats) -> Floats:
        """Return the frame's pixels, each frequency beyond theirs left away."""
        if self._finer > 1:
            intensity = self._low_pass(intensity)[:: self._finer, :: self._finer]
        return np.array(intensity[self._window()])

    def _from_pixels(self, values: Floats) -> Floats:
        """Return the adjoint of `_to_pixels`."""
        whole = np.zeros(self._grid)
        whole[:: self._finer, :: self._finer][self._window()] = values
        return self._low_pass(whole) if self._finer > 1 else whole

    def _low_pass(self, values: Floats) -> Floats:
        self._image.data[...] = values
        spectrum = self._image.forward()
        for axis, n in enumerate(self.shape):
            period = np.abs(np.fft.fftfreq(self._grid[axis]) * self._grid[axis])
            spectrum *= np.expand_dims(period <= n / 2, 1 - axis)
        return np.array(self._image.inverse().real / self._image.size)


def _quadrature(focal_spread_A: float, phase_per_A: float) -> tuple[Floats, Floats, float]:
    """Return nodes and weights for a normal distribution, and the phase they can average.

    As many points as the steepest beam needs, 9 at most: beyond its reach a quadrature's sum of
    a few cosines rises again, and beams there count as incoherent.
    """
    if not focal_spread_A:
        return np.zeros(1), np.ones(1), np.inf
    for points in (3, 5, 7, 9):
        nodes, weights = hermegauss(points)
        weights = weights / weights.sum()
        a = np.linspace(0, np.sqrt(4 * points + 2), 4001)
        error = np.abs(weights @ np.cos(np.outer(nodes, a)) - np.exp(-(a**2) / 2))
        reach = float(a[np.argmax(error > 0.01)])
        if phase_per_A * focal_spread_A <= reach:
            break
    return nodes, weights, reach

"""From the pupil to the image, through circular harmonics.

A field P(rho, phi) in the pupil, ``sum_m P_m(rho) exp(i m phi)``, makes in the image::

    E(r, theta) = integral P exp(i v rho cos(phi - theta)) rho drho dphi
                = 2 pi sum_m i^m exp(i m theta) integral P_m(rho) J_m(v rho) rho drho

with v = 2 pi NA r / wavelength. Pupils of microscopes hold few harmonics, and each radial integral
converges exponentially by Gauss-Legendre quadrature between the radii at which the pupil has a
kink or a step. The image's energy is known beforehand from that in the pupil (Parseval).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.special

from nanophantom.simcore.light.psf import kernels

Floats = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex128]

NEGLIGIBLE = 1e-9  # share of the energy below which a harmonic is left out


def radial_nodes(breaks: tuple[float, ...], count: int) -> tuple[Floats, Floats]:
    """Return nodes and weights of a quadrature of f(rho) rho drho over 0 ... 1.

    Parameters
    ----------
    breaks
        Radii inside at which f is not smooth.
    count
        Nodes over the whole pupil; each part has at least twelve.
    """
    edges = sorted({0.0, 1.0, *(b for b in breaks if 0.0 < b < 1.0)})
    nodes, weights = [], []
    for low, high in itertools.pairwise(edges):
        x, w = np.polynomial.legendre.leggauss(max(12, round(count * (high - low))))
        rho = low + 0.5 * (high - low) * (x + 1.0)
        nodes.append(rho)
        weights.append(0.5 * (high - low) * w * rho)
    return np.concatenate(nodes), np.concatenate(weights)


@dataclass(frozen=True, eq=False)
class Harmonics:
    """The fields of a pupil in circular harmonics, seen through defocus.

    Attributes
    ----------
    rho, weight : (k,)
        Radii and weights of the quadrature.
    order : (m,)
        Azimuthal orders.
    amplitude : (m, fields, k)
        Harmonics of fields that don't interfere with each other (dipoles, polarisations).
    depth : (planes, k)
        Factor of each plane: the phase, and the decay of evanescent waves.
    wave_number
        2 pi NA / wavelength, 1/nm.
    """

    rho: Floats
    weight: Floats
    order: npt.NDArray[np.int64]
    amplitude: Complex
    depth: Complex
    wave_number: float

    @classmethod
    def of(
        cls, fields: Complex, depth: Complex, rho: Floats, weight: Floats, wave_number: float
    ) -> Harmonics:
        """Split fields on a polar grid, shape (fields, k, angles).

        Raises
        ------
        ValueError
            The pupil varies too fast with the angle for the grid's angles.
        """
        n = fields.shape[-1]
        parts = np.moveaxis(scipy.fft.fft(fields, axis=-1) / n, -1, 0)
        order = np.rint(np.fft.fftfreq(n) * n).astype(np.int64)
        energy = np.einsum("mfk,k->m", np.abs(parts) ** 2, weight)
        share = energy / energy.sum()
        if share[np.abs(order) > 0.45 * n].sum() > 1e-5:
            raise ValueError("the pupil's aberrations are too strong: lower their rms_nm")
        keep = share > NEGLIGIBLE
        return cls(rho, weight, order[keep], parts[keep], depth, wave_number)

    @property
    def highest(self) -> int:
        """Highest azimuthal order."""
        return int(np.abs(self.order).max())

    def energy(self) -> Floats:
        """Return the integral of the squared fields over the pupil, (planes,)."""
        power = np.einsum("mfk->k", np.abs(self.amplitude) ** 2)
        return np.asarray(2 * np.pi * (np.abs(self.depth) ** 2 @ (power * self.weight)))

    def radial(self, r_nm: Floats) -> Complex:
        """Return the radial integrals, with 2 pi i^m, scaled so that the image's energy is 1.

        Returns
        -------
        (m, fields, planes, r)
        """
        scale = self.wave_number / np.sqrt(self.energy())
        waves = self.depth * self.weight * scale[:, None]
        argument = (self.wave_number * self.rho[:, None] * np.abs(r_nm)).ravel()
        j0, j1 = scipy.special.j0(argument), scipy.special.j1(argument)
        bessel = kernels.bessel(argument, j0, j1, max(1, self.highest))
        bessel = bessel.reshape(-1, self.rho.size, r_nm.size)
        bessel[1::2] *= np.where(r_nm < 0, -1.0, 1.0)  # odd orders are odd functions
        _, n_fields, k = self.amplitude.shape
        out = np.empty((len(self.order), n_fields, len(waves), r_nm.size), np.complex128)
        for i, m in enumerate(self.order):
            spectrum = (self.amplitude[i, :, None] * waves).reshape(-1, k)
            turn = 1j ** (int(m) % 4) * (-1.0 if m < 0 and m % 2 else 1.0)  # J_-m = (-1)^m J_m
            # a real matrix product for either part: half the work of a complex one
            parts = np.concatenate([spectrum.real, spectrum.imag]) @ bessel[abs(m)]
            half = len(spectrum)
            out[i] = (turn * (parts[:half] + 1j * parts[half:])).reshape(out.shape[1:])
        return out

    def density(self, r_nm: Floats, theta: Floats) -> Floats:
        """Return the intensity at points, (planes, points), 1/nm^2; its integral is 1."""
        waves = np.exp(1j * self.order[:, None] * theta)
        field = np.einsum("mfzr,mr->fzr", self.radial(r_nm), waves)
        return np.asarray((np.abs(field) ** 2).sum(axis=0))

    def mean_density(self, r_nm: Floats) -> Floats:
        """Return the intensity averaged over the angle, (planes, r), 1/nm^2."""
        return np.asarray((np.abs(self.radial(r_nm)) ** 2).sum(axis=(0, 1)))

    def polar(self, r_nm: Floats) -> npt.NDArray[np.float32]:
        """Return the intensity on a polar grid, (r, angles, planes), 1/nm^2.

        Angles are even over the circle, sixteen or more and eight or more for each period of the
        fastest variation.
        """
        # products of two harmonics reach twice the highest order
        coarse = scipy.fft.next_fast_len(4 * self.highest + 1)
        fine = max(16, scipy.fft.next_fast_len(16 * self.highest, real=True))
        radial = self.radial(r_nm).astype(np.complex64)
        _, n_fields, planes, n_r = radial.shape
        out = np.empty((n_r, fine, planes), np.float32)
        for z in range(planes):
            spectrum = np.zeros((n_fields, n_r, coarse), np.complex64)
            spectrum[:, :, self.order % coarse] = np.moveaxis(radial[:, :, z], 0, -1)
            field = scipy.fft.ifft(spectrum, axis=-1, norm="forward", overwrite_x=True)
            intensity = (field.real**2 + field.imag**2).sum(axis=0)
            parts = scipy.fft.rfft(intensity, axis=-1, norm="forward")
            out[:, :, z] = scipy.fft.irfft(parts, fine, axis=-1, norm="forward")
        return out

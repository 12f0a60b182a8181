"""What counting leaves of an exit wave: the noise of the best linear restoration of a series.

In units of the bare beam's intensity the image at focus i of a weak object is
I_i(k) = a [T_i(k) c(k) + conj(T_i(-k) c(-k))], a the amplitude of the direct beam, with
T = exp(-i chi) times the envelopes of both coherences. Counting adds white noise, whose Fourier
coefficients have the variance s^2 = (mean intensity) / (counts of the bare beam times pixels). The
unknowns (c(k), conj(c(-k))) of least squares have the covariance s^2 M^-1 with

    M = a^2 sum_i | |T_i(k)|^2                 conj(T_i(k) T_i(-k)) |
                  | T_i(k) T_i(-k)             |T_i(-k)|^2          |

No unbiased algorithm does better for a weak object whose focal series is known (Gauss and Markov).
A strong object's beams also interfere with each other, which adds a little knowledge; and a
restoration that holds back what is lost in noise may come out below the bound, with a bias.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.electrons.aberrations import chi, chi_gradient
from nanophantom.simcore.electrons.constants import wavelength

Floats = npt.NDArray[np.float64]
Complexes = npt.NDArray[np.complex128]


@dataclass(frozen=True, eq=False)
class WaveNoise:
    """Variances that counting leaves, one a Fourier coefficient; FFTs with norm="forward"."""

    wave: Floats
    """Of c(k)."""
    phase: Floats
    """Of the part of c that a weak phase makes, [c(k) - conj(c(-k))] / 2i."""
    amplitude: Floats
    """Of the part that weak absorption makes, [c(k) + conj(c(-k))] / 2."""


def linear_noise(
    kx_per_nm: Floats,
    ky_per_nm: Floats,
    coefficients: Sequence[Mapping[str, float]],
    energy_kev: float,
    focal_spread_nm: float,
    convergence_mrad: float,
    noise_power: float,
    direct: float = 1.0,
) -> WaveNoise:
    """Return the variance of the Fourier coefficients of a restored wave.

    Parameters
    ----------
    kx_per_nm, ky_per_nm : (n,) arrays
        Frequencies.
    coefficients
        Aberrations of each image, Å and rad.
    focal_spread_nm, convergence_mrad
        Coherence, standard deviations.
    noise_power
        Variance s^2 of a Fourier coefficient of an image, in units of the bare beam's intensity.
    direct
        Amplitude of the direct beam.
    """
    optics = (energy_kev, 10 * focal_spread_nm, 1e-3 * convergence_mrad)
    kx, ky = kx_per_nm / 10, ky_per_nm / 10
    first, second = np.zeros(kx.shape), np.zeros(kx.shape)
    cross = np.zeros(kx.shape, np.complex128)
    for lens in coefficients:
        here, there = (_transfer(lens, s * kx, s * ky, *optics) for s in (1, -1))
        first += np.abs(here) ** 2
        second += np.abs(there) ** 2
        cross += np.conj(here * there)
    determinant = np.maximum(first * second - np.abs(cross) ** 2, 1e-300)
    scale = noise_power / direct**2 / determinant
    even, odd = scale * (first + second) / 4, scale * cross.real / 2
    # the inverse of M is [[second, -cross], [-conj(cross), first]] / determinant
    return WaveNoise(scale * second, even + odd, even - odd)


def _transfer(
    lens: Mapping[str, float],
    kx: Floats,
    ky: Floats,
    energy_kev: float,
    spread_A: float,
    convergence_rad: float,
) -> Complexes:
    """Return exp(-i chi) with both envelopes."""
    lam = float(wavelength(energy_kev))
    slope_x, slope_y = chi_gradient(lens, kx, ky, energy_kev)
    temporal = 0.5 * (np.pi * lam * spread_A * (kx**2 + ky**2)) ** 2
    spatial = 0.5 * (convergence_rad / lam) ** 2 * (slope_x**2 + slope_y**2)
    return np.asarray(np.exp(-1j * chi(lens, kx, ky, energy_kev) - temporal - spatial))

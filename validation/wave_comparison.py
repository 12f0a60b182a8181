"""A restored wave beside the true one: what they have in common, and in what they differ.

Two waves are compared up to what an experiment can't know or an operator sets right afterwards: a
constant factor, a small common shift, and (apart) a common error of the focus and of the twofold
astigmatism, exp(-i pi lambda (C10 k^2 + C12a (kx^2 - ky^2) + 2 C12b kx ky)).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.ndimage import map_coordinates
from scipy.optimize import minimize

Floats = npt.NDArray[np.float64]
Complexes = npt.NDArray[np.complex128]
Bools = npt.NDArray[np.bool_]

LARGEST_SHIFT_NM = 0.1
LARGEST_DEFOCUS_NM = 12.0


@dataclass(frozen=True, eq=False)
class Sight:
    """The pixels of two waves, the part of the view and the band in which they are compared.

    Attributes
    ----------
    shape, pixel_nm, wavelength_nm
        Of both waves.
    border_nm
        Width of the margin along each edge over which the window rises from 0 to 1.
    band_per_nm
        (coarsest, finest) spatial frequency that counts.
    """

    shape: tuple[int, int]
    pixel_nm: float
    wavelength_nm: float
    border_nm: float
    band_per_nm: tuple[float, float]

    @cached_property
    def window(self) -> Floats:
        """Weights (ny, nx): 1 inside, falling to 0 towards the edges like a cosine."""
        sides = []
        for n in self.shape:
            inwards = (np.minimum(np.arange(n), np.arange(n)[::-1]) + 0.5) * self.pixel_nm
            part = np.clip(inwards / self.border_nm, 0, 1)
            sides.append(0.5 - 0.5 * np.cos(np.pi * part))
        return np.asarray(np.outer(*sides))

    @property
    def inside(self) -> Bools:
        """Pixels that count fully."""
        return np.asarray(self.window > 0.999)

    @cached_property
    def frequencies(self) -> tuple[Floats, Floats]:
        """(ky, kx) in 1/nm, shapes (ny, 1) and (1, nx)."""
        ky, kx = (fft.fftfreq(n, self.pixel_nm) for n in self.shape)
        return ky[:, None], kx[None, :]

    @cached_property
    def k_per_nm(self) -> Floats:
        """Magnitude of the frequency, (ny, nx)."""
        return np.asarray(np.hypot(*self.frequencies))

    @cached_property
    def band(self) -> Bools:
        """Frequencies that count, (ny, nx)."""
        low, high = self.band_per_nm
        return np.asarray((self.k_per_nm >= low) & (self.k_per_nm <= high))

    def mean(self, wave: Complexes) -> complex:
        """Return the direct beam: the mean over the window."""
        return complex(np.sum(wave * self.window) / np.sum(self.window))

    def spectrum(self, wave: Complexes) -> Complexes:
        """Return the Fourier coefficients of the scattered wave, as the window sees it."""
        scattered = (wave - self.mean(wave)) * self.window
        return np.asarray(fft.fft2(scattered, norm="forward", workers=1))

    def banded(self, wave: Complexes) -> Complexes:
        """Return the direct beam and the frequencies that count; right where `inside`."""
        kept = fft.ifft2(self.spectrum(wave) * self.band, norm="forward", workers=1)
        return np.asarray(self.mean(wave) + kept)


@dataclass(frozen=True)
class Adjustment:
    """What is to be undone of a wave: its displacement and a common error of the lens."""

    dx_nm: float = 0.0
    dy_nm: float = 0.0
    c10_nm: float = 0.0
    c12a_nm: float = 0.0
    c12b_nm: float = 0.0

    @property
    def c12_nm(self) -> float:
        """Strength of the twofold astigmatism."""
        return float(np.hypot(self.c12a_nm, self.c12b_nm))

    @property
    def values(self) -> Floats:
        """All five numbers."""
        return np.array([self.dx_nm, self.dy_nm, self.c10_nm, self.c12a_nm, self.c12b_nm])

    def applied(self, wave: Complexes, sight: Sight) -> Complexes:
        """Return the wave without displacement and lens error."""
        mean = sight.mean(wave)
        turn = np.tensordot(self.values, _phases(sight), 1)
        changed = fft.fft2(wave - mean, workers=1) * np.exp(1j * turn)
        return np.asarray(mean + fft.ifft2(changed, workers=1))


def scaled(found: Complexes, true: Complexes, sight: Sight) -> Complexes:
    """Return a wave times the constant complex factor that brings it nearest to the true one."""
    weight = sight.window**2
    power = float(np.sum(weight * np.abs(found) ** 2))
    if not power > 0:
        raise ValueError("the wave is zero everywhere")
    return np.asarray(found * (np.sum(weight * found.conj() * true) / power))


def best_adjustment(found: Complexes, true: Complexes, sight: Sight, refocus: bool) -> Adjustment:
    """Find the shift, and if wanted the lens error, that bring a scaled wave nearest to the truth.

    Parameters
    ----------
    found, true : (ny, nx)
        The found one as `scaled` returns it.
    refocus
        Undo a common error of focus and twofold astigmatism too; else the shift alone.
    """
    there, here = sight.spectrum(true), sight.spectrum(found)
    agreement = np.where(sight.band, there.conj() * here, 0)
    phases = _phases(sight)
    start = np.zeros(5)
    foci = np.arange(-LARGEST_DEFOCUS_NM, LARGEST_DEFOCUS_NM + 0.5) if refocus else np.zeros(1)
    best = -np.inf
    reach = int(np.ceil(LARGEST_SHIFT_NM / sight.pixel_nm))
    steps = np.arange(-reach, reach + 1)
    for focus in foci:
        peaks = fft.ifft2(agreement * np.exp(1j * focus * phases[2]), workers=1).real
        near = peaks[np.ix_(steps, steps)]
        if near.max() > best:
            best = float(near.max())
            y, x = np.unravel_index(int(np.argmax(near)), near.shape)
            start[:3] = sight.pixel_nm * steps[x], sight.pixel_nm * steps[y], focus

    inside = sight.band
    turns, terms = phases[:, inside], agreement[inside]
    scale = float(np.sum(np.abs(terms))) or 1.0
    free = slice(0, 5 if refocus else 2)
    # of the size that turns the finest frequency by about a rad
    unit = 1 / np.abs(turns).max(axis=1)

    def misfit(values: Floats) -> tuple[float, Floats]:
        moved = start.copy()
        moved[free] += unit[free] * values
        now = terms * np.exp(1j * (moved @ turns))
        slope = unit[free] * (turns[free] @ now.imag)
        return -float(np.sum(now.real)) / scale, slope / scale

    result = minimize(misfit, np.zeros(5)[free], jac=True, method="BFGS")
    values = start.copy()
    values[free] += unit[free] * result.x
    return Adjustment(*(float(v) for v in values))


def band_error(found: Complexes, true: Complexes, sight: Sight) -> float:
    """Return the relative L2 error of the scattered wave in the band."""
    there, here = sight.spectrum(true)[sight.band], sight.spectrum(found)[sight.band]
    return float(np.linalg.norm(here - there) / np.linalg.norm(there))


def ring_correlation(found: Complexes, true: Complexes, sight: Sight) -> tuple[Floats, Floats]:
    """Return k in 1/nm and the Fourier ring correlation of two waves, ring by ring.

    Re sum(E T*) / sqrt(sum |E|^2 sum |T|^2) up to the finest frequency of the band. As one of the
    two is free of noise, 1/2 stands for a signal a third of the noise: where the correlation of
    two restorations of independent halves of the data would be 1/7 (P. B. Rosenthal and
    R. Henderson, J. Mol. Biol. 333 (2003) 721-745).
    """
    there, here = sight.spectrum(true), sight.spectrum(found)
    step = 1 / (sight.pixel_nm * min(sight.shape))
    ring = np.rint(sight.k_per_nm / step).astype(np.intp)
    last = int(sight.band_per_nm[1] / step)

    def sums(values: Floats) -> Floats:
        return np.bincount(ring.ravel(), values.ravel())[1 : last + 1].astype(np.float64)

    powers = sums(np.abs(here) ** 2) * sums(np.abs(there) ** 2)
    together = sums((here * there.conj()).real)
    correlation = together / np.sqrt(np.maximum(powers, 1e-300))
    return step * np.arange(1, last + 1, dtype=np.float64), correlation


def resolved_period_nm(k_per_nm: Floats, correlation: Floats, sight: Sight) -> float:
    """Return the period at which the correlation falls below 1/2, or the band's finest."""
    low, high = sight.band_per_nm
    lost = np.flatnonzero((correlation < 0.5) & (k_per_nm >= low))
    if not len(lost):
        return 1 / high
    i = int(lost[0])
    if i == 0 or correlation[i - 1] < 0.5:
        return float(1 / k_per_nm[i])
    part = (correlation[i - 1] - 0.5) / (correlation[i - 1] - correlation[i])
    return float(1 / (k_per_nm[i - 1] + part * (k_per_nm[i] - k_per_nm[i - 1])))


def at_points(wave: Complexes, x_nm: Floats, y_nm: Floats, pixel_nm: float) -> Complexes:
    """Return a wave between its pixels, by cubic splines."""
    where = np.stack([y_nm, x_nm]) / pixel_nm
    real, imag = (map_coordinates(part, where, order=3) for part in (wave.real, wave.imag))
    return np.asarray(real + 1j * imag)


def _phases(sight: Sight) -> Floats:
    """Return the phases that undo one nm of each of the five numbers, (5, ny, nx)."""
    ky, kx = sight.frequencies
    lens = np.pi * sight.wavelength_nm
    zero = np.zeros(sight.shape)
    return np.stack(
        [
            zero + 2 * np.pi * kx,
            zero + 2 * np.pi * ky,
            lens * (kx**2 + ky**2),
            lens * (kx**2 - ky**2),
            lens * 2 * kx * ky,
        ]
    )

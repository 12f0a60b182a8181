"""Find the stripes of structured illumination in the raw images: wave vector, phases, modulation.

A raw image of frequency content D_i holds the structure S three times, each through the objective's
transfer function O::

    D_i(q) = g_i [ d_0(q) + exp(+i phase_i) d_1(q) + exp(-i phase_i) d_-1(q) ]
    d_0 = S(q) O(q),   d_1 = (m / 2) S(q - k) O(q)

Three images of one direction give d_0 and d_1 by linear algebra once their phases are known. Where
both hold the same frequencies of the structure, ``O(q + k) d_0(q)`` and ``O(q) d_1(q + k)`` agree
but for the factor (m / 2) exp(i phase). Their correlation is therefore largest at the true k and,
there, at the true phases: with wrong ones the orders leak into one another, and what leaks agrees
with nothing (after K. Wicker et al., Opt. Express 21 (2013) 2032; M. G. L. Gustafsson, J. Microsc.
198 (2000) 82). All is bilinear in the three images, so that 3 x 3 matrices of their correlations
serve every trial of the phases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.optimize

from nanophantom.analysis.fourier_shells import soft_edge
from nanophantom.analysis.sim_orders import Grid, unmixing

Floats = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex128]

EDGE = 0.04
"""Part of each side over which images fade to zero, so that borders don't look like structure."""
AROUND_ORIGIN = 0.12
"""Frequencies below this part of the cutoff are left out of correlations: background lies there."""
ROUNDS = 4
"""Turns of refining k and the phases."""
LEAST_NOISE = 1e-3
"""Part of the power that counts as noise even in images that have none: no model is exact, and the
likelihood of exact data has no smooth way to its peak."""
SUMS_TELL = 0.01
"""How far images' sums tell their levels: a structure that isn't even sums up to more under some
stripes than under others."""


@dataclass(frozen=True, eq=False)
class Stripes:
    """The stripes of one direction.

    Attributes
    ----------
    kx_per_nm, ky_per_nm
        Wave vector, cycles per nm.
    phases_deg : (3,)
        Phase of each raw image at pixel (ny / 2, nx / 2), 0 to 360. There it hardly depends on k;
        at a corner, half a field away, it would.
    modulation
        Contrast m.
    levels : (3,)
        Brightness g of each raw image, 1 on average.
    coherence
        How well the orders agree, 0 to 1 (beyond, by noise): little above 0, and nothing was found.
    """

    kx_per_nm: float
    ky_per_nm: float
    phases_deg: Floats
    modulation: float
    levels: Floats
    coherence: float

    @property
    def angle_deg(self) -> float:
        """Direction in which the light varies, from x towards y."""
        return math.degrees(math.atan2(self.ky_per_nm, self.kx_per_nm))


def find_stripes(
    images: npt.ArrayLike,
    pixel_size_nm: float,
    cutoff_per_nm: float,
    k_per_nm: tuple[float, float],
    phases_deg: npt.ArrayLike = (0.0, 120.0, 240.0),
    search_per_nm: float | None = None,
) -> Stripes:
    """Find the stripes of one direction in its three raw images.

    Parameters
    ----------
    images : (3, ny, nx)
        Photons or photoelectrons, the camera's offset taken away.
    pixel_size_nm
        Edge of a pixel at the specimen.
    cutoff_per_nm
        Of the objective, 2 NA / emission wavelength.
    k_per_nm
        Nominal wave vector, x and y.
    phases_deg
        Nominal phases; only their differences matter.
    search_per_nm
        How far from the nominal wave vector the true one may lie; none: a tenth of the cutoff, and
        at least two Fourier pixels.

    Raises
    ------
    ValueError
        Images are not three finite ones, 32 pixels or wider, or coarser than half the finest
        period that the objective passes; or the orders share no frequencies.
    """
    raw = np.asarray(images, np.float64)
    if raw.ndim != 3 or len(raw) != 3 or min(raw.shape) < 3 or min(raw.shape[1:]) < 32:
        raise ValueError(f"one direction has 3 images, 32 pixels or wider, got shape {raw.shape}")
    if not np.isfinite(raw).all():
        raise ValueError("raw images must be finite")
    if pixel_size_nm * cutoff_per_nm > 0.5:
        raise ValueError(
            f"pixels of {pixel_size_nm:g} nm are too coarse: the objective passes periods down to "
            f"{1 / cutoff_per_nm:.1f} nm, of which a pixel may be half at most"
        )
    kx, ky = map(float, k_per_nm)
    if not 0.2 * cutoff_per_nm < math.hypot(kx, ky) < 1.5 * cutoff_per_nm:
        raise ValueError(
            f"stripes of {math.hypot(kx, ky):.3g} cycles per nm: between 0.2 and 1.5 times the "
            f"cutoff of {cutoff_per_nm:.3g} the orders share frequencies and can be told apart"
        )
    grid = Grid((raw.shape[1], raw.shape[2]), pixel_size_nm, cutoff_per_nm)
    field_nm = pixel_size_nm * min(grid.shape)
    if search_per_nm is None:
        search_per_nm = max(0.1 * cutoff_per_nm, 2.0 / field_nm)
    search = _Search(grid, raw)
    levels = raw.mean(axis=(1, 2)) / raw.mean()
    mix = _Mix(np.radians(np.asarray(phases_deg, np.float64)), levels, 0.8)
    kx, ky = search.coarse(mix, kx, ky, search_per_nm)
    for turn in range(ROUNDS):
        kx, ky = search.fine(mix, kx, ky)
        pairs = search.pairs(kx, ky)
        if turn == 0:
            ahead = float(np.angle(pairs.agreement(mix)[0]))
            mix = _Mix(mix.phases + ahead, mix.levels, mix.modulation)
        mix = pairs.best(mix)
    phases = np.degrees(mix.phases) % 360.0
    return Stripes(kx, ky, phases, mix.modulation, mix.levels, pairs.agreement(mix)[1])


@dataclass(frozen=True, eq=False)
class _Mix:
    """Phases (rad) and levels of three images, and the contrast of the stripes."""

    phases: Floats
    levels: Floats
    modulation: float

    @property
    def orders(self) -> Complex:
        """The rows that make orders 0 and +1 of the images, (2, 3)."""
        return unmixing(self.phases, self.levels)[:2]


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Correlations of three images with each other over the frequencies that orders share.

    Attributes
    ----------
    power : (6, 6)
        Mean products conj(u_i) u_j, conj(u_i) v_j and conj(v_i) v_j of ``u_i = O(q + k) D_i(q)``,
        the first three rows, and ``v_i = O(q) D_i(q + k)``, the others; 1 on average.
    noise : (6,)
        What noise has added to the diagonal.
    samples
        About how many independent frequencies make the means.
    sums : (3,)
        Of the images: their levels, but for what the structure holds at k.
    """

    power: Complex
    noise: Floats
    samples: float
    sums: Floats

    def agreement(self, mix: _Mix) -> tuple[complex, float]:
        """Return what is left of (m / 2) exp(i phase), and the coherence of the orders."""
        zero, one = mix.orders
        signal = self.power - np.diag(self.noise)
        cross = complex(zero.conj() @ signal[:3, 3:] @ one)
        power_0 = float((zero.conj() @ signal[:3, :3] @ zero).real)
        power_1 = float((one.conj() @ signal[3:, 3:] @ one).real)
        if power_0 <= 0.0 or power_1 <= 0.0:
            return 0j, 0.0
        return cross / power_0, abs(cross) / math.sqrt(power_0 * power_1)

    def best(self, start: _Mix) -> _Mix:
        """Return the likeliest phases, levels and contrast for a structure without a plan.

        Its frequencies q - k, q, q + k and q + 2 k are taken as independent, of a power each that
        is fitted, too. With little noise the likelihood asks for orders that agree, and nothing
        else; with much it asks, too, that orders of different frequencies don't.
        """
        known = np.log(self.sums[1:] / self.sums[0])

        def unlikeliness(knobs: Floats) -> float:
            expected = self._expected(knobs)
            sign, log_det = np.linalg.slogdet(expected)
            if not sign.real > 0.0:
                return math.inf
            fit = float(log_det + np.trace(np.linalg.solve(expected, self.power)).real)
            surprise = float((((knobs[6:] - known) / SUMS_TELL) ** 2).sum())
            return fit + 0.5 * surprise / self.samples

        relative = np.log(start.levels[1:] / start.levels[0])
        share = max(1e-3, 1.0 - float(self.noise.mean()))
        half = 0.5 * min(max(start.modulation, 0.1), 1.5)
        first = np.array([*start.phases, math.log(half), *np.log([share, share]), *relative])
        found = scipy.optimize.minimize(unlikeliness, first, method="BFGS", options={"gtol": 1e-5})
        return _mix(np.asarray(found.x))

    def _expected(self, knobs: Floats) -> Complex:
        """Return the mean of `power` for phases, contrast, powers of the structure and levels."""
        mix = _mix(knobs)
        shared, alone = np.exp(knobs[4:6])
        wave = 0.5 * mix.modulation * np.exp(-1j * mix.phases)  # conj, as of the first factor
        dark, flat = np.zeros(3), np.ones(3)
        sources = np.stack(
            [
                math.sqrt(shared) * np.concatenate([flat, wave]),  # S(q)
                math.sqrt(shared) * np.concatenate([wave.conj(), flat]),  # S(q + k)
                math.sqrt(alone) * np.concatenate([wave, dark]),  # S(q - k)
                math.sqrt(alone) * np.concatenate([dark, wave.conj()]),  # S(q + 2 k)
            ]
        ) * np.tile(mix.levels, 2)
        return np.asarray(sources.T @ sources.conj() + np.diag(self.noise))


def _mix(knobs: Floats) -> _Mix:
    """Read three phases, log(m / 2), two powers, and two log levels against the first."""
    levels = np.exp(np.array([0.0, knobs[6], knobs[7]]))
    half = math.exp(min(float(knobs[3]), 2.0))
    return _Mix(np.array(knobs[:3]), levels * 3.0 / levels.sum(), 2.0 * half)


class _Search:
    """Three raw images and their spectra.

    Images are filtered first and windowed then: a window that is put on before bends the phase
    between the orders, as these aren't filtered alike, and so shifts k.
    """

    def __init__(self, grid: Grid, images: Floats) -> None:
        self.grid = grid
        self.images = images * soft_edge(grid.shape, EDGE)
        self.spectra = scipy.fft.fft2(self.images, workers=1)
        self.inner = _inside(grid.shape)
        self.transfer = grid.transfer(pixel_size_nm=grid.pixel_size_nm)
        self.sums = images.sum(axis=(1, 2))
        self.qx, self.qy = grid.frequencies()
        self.radius = np.hypot(self.qx, self.qy)
        beyond = self.radius > 1.02 * grid.cutoff_per_nm
        self.noise = np.array([np.mean(np.abs(s[beyond]) ** 2) for s in self.spectra])

    def coarse(self, mix: _Mix, kx: float, ky: float, within: float) -> tuple[float, float]:
        """Return k to half a Fourier pixel: the peak of the orders' correlation."""
        product = self.product(mix, kx, ky)
        padded = (2 * product.shape[0], 2 * product.shape[1])
        peaks = np.abs(scipy.fft.fft2(product, padded, workers=1))
        qx = np.fft.fftfreq(padded[1], self.grid.pixel_size_nm)[None]
        qy = np.fft.fftfreq(padded[0], self.grid.pixel_size_nm)[:, None]
        peaks[np.hypot(qx, qy) > within] = 0.0
        row, column = np.unravel_index(int(peaks.argmax()), peaks.shape)
        return kx + float(qx[0, column]), ky + float(qy[row, 0])

    def fine(self, mix: _Mix, kx: float, ky: float) -> tuple[float, float]:
        """Return the peak of the orders' correlation near k, between Fourier pixels."""
        product = self.product(mix, kx, ky)
        x, y = self.grid.places()
        step = 1.0 / (self.grid.pixel_size_nm * min(self.grid.shape))

        def minus_peak(shift: Floats) -> float:
            along_x = np.exp(-2j * np.pi * shift[0] * step * x[0])
            along_y = np.exp(-2j * np.pi * shift[1] * step * y[:, 0])
            return -abs(complex(along_y @ (product @ along_x)))

        corners = np.array([[0.0, 0.0], [0.3, 0.0], [0.0, 0.3]])
        found = scipy.optimize.minimize(
            minus_peak,
            corners[0],
            method="Nelder-Mead",
            options={"initial_simplex": corners, "xatol": 1e-3, "fatol": 0.0, "maxiter": 120},
        )
        return kx + float(found.x[0]) * step, ky + float(found.x[1]) * step

    def product(self, mix: _Mix, kx: float, ky: float) -> Complex:
        """Return conj(order 0) x order 1, shifted back by k, in the window; (ny, nx)."""
        zero, one = mix.orders
        spectrum, image = np.tensordot(zero, self.spectra, 1), np.tensordot(one, self.images, 1)
        u, v, _ = self._alike(spectrum, image, kx, ky)
        return np.asarray(self.inner * u.conj() * v)

    def pairs(self, kx: float, ky: float) -> _Pairs:
        """Correlate the images at one wave vector."""
        u, v, gains = self._alike(self.spectra, self.images, kx, ky)
        u, v = u.reshape(3, -1), v.reshape(3, -1)
        w = self.inner.ravel()
        both = np.concatenate([u, v])
        power = (both.conj() * w) @ both.T
        # white noise of power N through a filter: N mean|filter|^2 a pixel
        each = self.noise / self.images[0].size ** 2 * w.sum()
        unit = float(np.trace(power).real) / 6.0
        noise = np.concatenate([each * gain for gain in gains])
        noise = np.maximum(noise, LEAST_NOISE * unit)
        both_hold = np.hypot(self.qx + kx, self.qy + ky) < self.grid.cutoff_per_nm
        both_hold &= self.radius < self.grid.cutoff_per_nm
        # half of them: in a real image the other half repeats it
        samples = 0.5 * float(both_hold.sum() * self.inner.mean())
        return _Pairs(power / unit, noise / unit, max(samples, 1.0), self.sums)

    def _alike(
        self, spectrum: npt.NDArray[Any], image: npt.NDArray[Any], kx: float, ky: float
    ) -> tuple[Complex, Complex, tuple[float, float]]:
        """Filter what orders share: ``O(q + k) D(q)`` and ``O(q) D(q + k)``, in real space.

        Parameters
        ----------
        spectrum, image : (..., ny, nx)
            D(q) of the first, and the second in real space.

        Returns
        -------
        first, second
            Filtered, and scaled so that the noise of both together is even.
        gains
            Mean squares of the filters.
        """
        a, cutoff = self.grid.pixel_size_nm, self.grid.cutoff_per_nm
        shifted = scipy.fft.fft2(image * self.grid.wave(-kx, -ky), workers=1)
        own, other = self.transfer, self.grid.transfer(kx, ky, a)
        from_k = np.hypot(self.qx + kx, self.qy + ky)
        shared = (self.radius < cutoff) & (from_k < cutoff)
        away = np.ones(self.grid.shape)  # from frequency 0 of either, where background lies
        for radius in (self.radius, from_k):
            away *= -np.expm1(-((radius / (AROUND_ORIGIN * cutoff)) ** 2))
        away *= shared / np.maximum(np.hypot(own, other), 1e-3)
        to_u, to_v = other * away, own * away
        u = scipy.fft.ifft2(spectrum * to_u, workers=1)
        v = scipy.fft.ifft2(shifted * to_v, workers=1)
        return u, v, (float((to_u**2).mean()), float((to_v**2).mean()))


def _inside(shape: tuple[int, int]) -> Floats:
    """Return a window that leaves out the borders, to which filters carry what lies beyond."""
    border = [math.ceil(1.5 * EDGE * n) for n in shape]
    inner = soft_edge((shape[0] - 2 * border[0], shape[1] - 2 * border[1]), 0.1)
    return np.pad(inner, [(b, b) for b in border])

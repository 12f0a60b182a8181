"""Fourier ring and shell correlation: up to which frequency two measurements agree.

Two images (rings) or volumes (shells) of the same thing with independent noise agree in a shell as
far as their signal stands above the noise: the expected correlation is SNR / (1 + SNR), SNR being
the ratio of the powers of signal and noise in one of the two (Saxton & Baumeister, J. Microsc. 127
(1982) 127; Harauz & van Heel, Optik 73 (1986) 146).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy import fft

FloatArray = npt.NDArray[np.float64]

SIGNIFICANT = 5.0
"""Standard deviations by which the shells up to the crossing must exceed mere noise."""
VISIBLE = 8.0
"""Standard deviations by which a curve's slope at its crossing must differ from none."""
REACH = 3
"""Fourier pixels over which a window's correlation of the modes is followed, along each axis."""


@dataclass(frozen=True, eq=False)
class ShellCorrelation:
    """The correlation of two measurements, shell by shell.

    Attributes
    ----------
    frequency_per_nm : (shells,) float64
        Mean frequency of the modes in each shell.
    correlation : (shells,) float64
        Normalised cross-correlation of the modes, -1 to 1.
    modes : (shells,) float64
        Independent complex modes: half of the shell (the other half is their conjugate), less
        what the window makes neighbours share.
    pixel_size_nm : float
    """

    frequency_per_nm: FloatArray
    correlation: FloatArray
    modes: FloatArray
    pixel_size_nm: float

    @property
    def snr(self) -> FloatArray:
        """Signal-to-noise power ratio of the sum of both, 2 FRC / (1 - FRC); inf where they agree.

        A negative correlation gives a negative ratio: it estimates zero.
        """
        with np.errstate(divide="ignore"):
            return np.asarray(2 * self.correlation / np.maximum(1 - self.correlation, 0.0))

    @property
    def noise_deviation(self) -> FloatArray:
        """Standard deviation of the correlation of mere noise, 1 / sqrt(2 modes)."""
        return np.asarray(1 / np.sqrt(2 * self.modes))

    def threshold(self, criterion: str | float = "1/7") -> FloatArray:
        """Return the correlation that counts as resolved, shell by shell.

        Parameters
        ----------
        criterion : {"1/7", "half-bit", "3-sigma"} or float
            "1/7": 0.143, for halves of the data (Rosenthal & Henderson, J. Mol. Biol. 333 (2003)
            721). "half-bit": half a bit of information in a mode of the sum of the halves, that is
            an SNR of sqrt(2) - 1 there (van Heel & Schatz, J. Struct. Biol. 151 (2005) 250,
            eq. 17). "3-sigma": three standard deviations of the correlation of noise,
            3 / sqrt(2 modes); the version that counts a complex mode as a single number is
            sqrt(2) above it. A number stands for itself.

        Raises
        ------
        ValueError
            For another criterion.
        """
        ones = np.ones_like(self.correlation)
        if isinstance(criterion, int | float):
            if not -1 < criterion < 1:
                raise ValueError(f"a correlation lies between -1 and 1, got {criterion}")
            return criterion * ones
        if criterion == "1/7":
            return ones / 7
        if criterion == "half-bit":
            snr = (np.sqrt(2) - 1) / 2  # of each half
            beat = 2 * np.sqrt(snr)  # chance agreement of signal with noise
            root = np.sqrt(self.modes)
            return np.asarray((snr + (beat + 1) / root) / (1 + snr + beat / root))
        if criterion == "3-sigma":
            return 3 * self.noise_deviation
        raise ValueError(f"the criterion must be 1/7, half-bit, 3-sigma or a number, {criterion!r}")

    def resolution_nm(self, criterion: str | float = "1/7") -> float | None:
        """Return the period where the curve falls below the threshold for good.

        One shell may cross by chance, and a zero of the lens's transfer is no end. The crossing
        is therefore the one that parts the shells best: up to it the sum of (correlation -
        threshold), each shell weighted by its modes, is greatest. A dip is forgiven if what
        follows makes up for it, a chance peak behind isn't worth what lies between. The frequency
        is where a line through the shells on both sides meets the threshold: through as many as
        it takes to see the curve fall. A curve that never falls is resolved up to the sampling
        limit.

        Returns
        -------
        float or None
            None where the shells up to the crossing don't stand SIGNIFICANT standard deviations
            above the correlation of noise.
        """
        excess = self.correlation - self.threshold(criterion)
        gain = np.cumsum(self.modes * excess)
        last = int(np.argmax(gain))
        agreement = np.sum((self.modes * self.correlation)[: last + 1])
        noise = np.sqrt(np.sum(self.modes[: last + 1]) / 2)
        if gain[last] <= 0 or agreement < SIGNIFICANT * noise:
            return None
        if last == len(gain) - 1:
            return 2 * self.pixel_size_nm
        return 1 / self._crossing(excess, last)

    def _crossing(self, excess: FloatArray, last: int) -> float:
        """Return the frequency between shell `last` and the next where the excess vanishes."""
        widest = max(1, round(0.1 * last))
        for m in range(1, widest + 1):
            near = slice(max(0, last + 1 - m), last + 1 + m)
            k, c, weight = self.frequency_per_nm[near], excess[near], self.modes[near]
            k0, c0 = np.average(k, weights=weight), np.average(c, weights=weight)
            inertia = np.sum(weight * (k - k0) ** 2)
            slope = np.sum(weight * (k - k0) * (c - c0)) / inertia
            if slope * np.sqrt(2 * inertia) < -VISIBLE:
                break
        outermost = 0.5 * (k[-1] - k[0])
        return float(k0 + np.clip(-c0 / slope, -outermost, outermost) if slope < 0 else k0)


def fourier_ring_correlation(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    pixel_size_nm: float,
    window: npt.ArrayLike | None = None,
) -> ShellCorrelation:
    """Correlate two images ring by ring.

    Parameters
    ----------
    first, second : (ny, nx) array
        Registered images of one thing with independent noise.
    pixel_size_nm : float
    window : (ny, nx) array, optional
        Weight of each pixel; :func:`soft_edge` if not given. Ones for periodic images.

    Raises
    ------
    ValueError
        If the arrays aren't two finite images of one shape, at least 16 pixels wide, or one has
        no contrast.
    """
    return _correlate(first, second, pixel_size_nm, window, 2)


def fourier_shell_correlation(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    voxel_size_nm: float,
    window: npt.ArrayLike | None = None,
) -> ShellCorrelation:
    """Correlate two volumes (nz, ny, nx) shell by shell; else as fourier_ring_correlation."""
    return _correlate(first, second, voxel_size_nm, window, 3)


def soft_edge(shape: tuple[int, ...], edge: float = 0.125) -> FloatArray:
    """Return a window that fades to zero as sin^2 over a fraction `edge` of each side."""
    if not 0 <= edge <= 0.5:
        raise ValueError(f"the edge is a fraction of the side from 0 to 0.5, got {edge}")
    window = np.ones(shape)
    for axis, n in enumerate(shape):
        distance = np.minimum(np.arange(n), np.arange(n)[::-1]) + 0.5
        profile = np.sin(0.5 * np.pi * np.minimum(distance / max(1.0, edge * n), 1)) ** 2
        window *= profile.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return window


def even_odd_sums(frames: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return the sums of the even and of the odd frames of a registered series (n, ...).

    An odd last frame is left away, so that both halves hold as many.
    """
    stack = np.asarray(frames)
    if stack.ndim < 3 or len(stack) < 2:
        raise ValueError(f"two halves need a series (n, ny, nx) of 2 or more, got {stack.shape}")
    stop = len(stack) // 2 * 2
    return stack[0:stop:2].sum(axis=0, dtype=float), stack[1:stop:2].sum(axis=0, dtype=float)


def thin_counts(
    counts: npt.ArrayLike, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Toss a coin for each count: return two images that add up to the one given.

    The halves of a Poisson number are independent Poisson numbers of half the mean.

    Raises
    ------
    ValueError
        If the image doesn't hold whole numbers from zero.
    """
    values = np.asarray(counts)
    if not np.isfinite(values).all() or np.any(values < 0) or np.any(values != np.floor(values)):
        raise ValueError("thinning needs counts: whole numbers from zero")
    whole = values.astype(np.int64)
    half = rng.binomial(whole, 0.5)
    return half, whole - half


def _correlate(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    pixel_size_nm: float,
    window: npt.ArrayLike | None,
    dimensions: int,
) -> ShellCorrelation:
    """Correlate two arrays over shells one frequency step of the shortest side wide."""
    a, b = np.asarray(first, float), np.asarray(second, float)
    if a.shape != b.shape or a.ndim != dimensions or min(a.shape) < 16:
        raise ValueError(
            f"both must have one shape of {dimensions} sides of 16 or more, got {a.shape, b.shape}"
        )
    if not pixel_size_nm > 0:
        raise ValueError(f"the pixel size must be positive, got {pixel_size_nm}")
    weight = soft_edge(a.shape) if window is None else np.asarray(window, float)
    if weight.shape != a.shape or not np.sum(weight) > 0:
        raise ValueError(f"the window must be positive, of shape {a.shape}, got {weight.shape}")
    f, g = _windowed_spectrum(a, weight), _windowed_spectrum(b, weight)

    step = 1 / min(a.shape)
    k = _frequency(a.shape)
    last = int(np.floor(0.5 / step))
    shell = np.minimum(np.rint(k / step).astype(np.intp), last + 1)  # the corners are one more

    def per_shell(values: npt.NDArray[np.generic]) -> FloatArray:
        total = np.bincount(shell.ravel(), np.ravel(values).astype(float), last + 2)
        return np.asarray(total[1 : last + 1])  # the mean is no mode

    conjugates = _multiplicity(a.shape)
    cross = per_shell(conjugates * (f.real * g.real + f.imag * g.imag))
    power_f = per_shell(conjugates * np.abs(f) ** 2)
    power_g = per_shell(conjugates * np.abs(g) ** 2)
    if np.any(power_f <= 0) or np.any(power_g <= 0):
        raise ValueError("a shell without any power: both arrays must have contrast everywhere")
    count = per_shell(conjugates)
    return ShellCorrelation(
        per_shell(conjugates * k) / count / pixel_size_nm,
        cross / np.sqrt(power_f * power_g),
        0.5 * count / _leak(shell, weight)[1 : last + 1],
        pixel_size_nm,
    )


def _windowed_spectrum(values: FloatArray, window: FloatArray) -> npt.NDArray[np.complex128]:
    """Return rfftn of the array less its mean, seen through the window."""
    if not np.isfinite(values).all():
        raise ValueError("both arrays must hold finite real numbers")
    mean = np.sum(values * window) / np.sum(window)
    return np.asarray(fft.rfftn((values - mean) * window, workers=1))


def _frequency(shape: tuple[int, ...]) -> FloatArray:
    """Return |k| of rfftn in cycles per pixel."""
    axes = [fft.fftfreq(n) for n in shape[:-1]] + [fft.rfftfreq(shape[-1])]
    grids = np.meshgrid(*axes, indexing="ij", sparse=True)
    return np.asarray(np.sqrt(sum(grid**2 for grid in grids)))


def _multiplicity(shape: tuple[int, ...]) -> FloatArray:
    """Return how many modes each one of rfftn stands for: 2 where its conjugate is left away."""
    twice = np.full(shape[-1] // 2 + 1, 2.0)
    twice[0] = 1
    if shape[-1] % 2 == 0:
        twice[-1] = 1
    return np.broadcast_to(twice, (*shape[:-1], len(twice)))


def _leak(shell: npt.NDArray[np.intp], window: FloatArray) -> FloatArray:
    """Return how many modes of each shell share one independent value.

    The powers of two modes of windowed white noise are correlated by |W(dk) / W(0)|^2, W being
    the transform of the window squared. A shell's variance is the sum over its pairs.
    """
    W = np.abs(fft.rfftn(window**2, workers=1)) ** 2
    rho = W / W.flat[0]
    count = np.bincount(shell.ravel()).astype(float)
    shared = count.copy()
    for offset in _half_space(window.ndim):
        if rho[offset] < 1e-4:
            continue
        here, there = _pairs(shell, offset)
        both = np.bincount(here[here == there], minlength=len(count))
        shared += 2 * rho[offset] * both
    return np.asarray(shared / np.maximum(count, 1))


def _half_space(dimensions: int) -> Iterator[tuple[int, ...]]:
    """Yield the offsets up to REACH of which the opposite isn't yielded, the last axis first."""
    axes = [range(-REACH, REACH + 1)] * (dimensions - 1)
    for offset in product(*axes, range(REACH + 1)):
        if offset[::-1] > (0,) * dimensions:
            yield offset


def _pairs(
    shell: npt.NDArray[np.intp], offset: tuple[int, ...]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the shells of the modes and of those an offset further (periodic but for the last)."""
    leading = tuple(range(shell.ndim - 1))
    moved = np.roll(shell, [-step for step in offset[:-1]], leading)
    along = offset[-1]
    return shell[..., : shell.shape[-1] - along], moved[..., along:]

"""A resonance in the spectrum of a lever's thermal motion, fitted by maximum likelihood.

The fit maximizes Whittle's likelihood: the spectrum of a record scatters about its expectation
as a gamma variable. A record's expectation is not the density itself but what the taper leaves of
it, leaks and folded frequencies included, and it has a closed form by the correlation of the motion
(A. M. Sykulski et al., Biometrika 106 (2019) 251). So a resonance needn't be wider than a bin of
the spectrum; narrower, neighbouring segments say the same and the uncertainties would be too small.

Higher modes have to lie below half the sampling rate or be filtered out before: folded back next
to the resonance they tilt the floor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import fft, optimize, signal

from nanophantom.simcore.probes.thermal import resonance_correlation, resonance_density

Floats = npt.NDArray[np.float64]

BAND_WIDTHS = 20.0
"""Half the band of a fit, in widths f0 / Q of the resonance, ..."""
BAND_SHARE = 0.6
"""... but at most this share of the resonance: another mode and 1/f noise lie beyond."""
FEWEST_BINS = 12
"""Bins of the spectrum that a fit needs."""
LOWEST_BIN = 3
"""Bins below this one hold what the taper leaves of the mean."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """A one-sided spectral density.

    Attributes
    ----------
    frequency_hz : (n,)
        Evenly spaced.
    density : (n,)
        Square of the record's unit (V or nm) per Hz.
    looks
        Independent looks at the density that a bin is worth, correlations between overlapping
        segments and neighbouring bins counted in: the relative variance of the mean over many bins
        is 1 / (looks * bins).
    rate_hz, taper_correlation
        Sampling rate and autocorrelation of the taper, (segment,), 1 at lag 0; None for a spectrum
        that isn't of a record, whose bins are the density itself.
    """

    frequency_hz: Floats
    density: Floats
    looks: float = 1.0
    rate_hz: float | None = None
    taper_correlation: Floats | None = None


@dataclass(frozen=True, eq=False)
class Resonance:
    """A resonator over a white floor, fitted to a spectrum.

    Attributes
    ----------
    resonance_hz, quality_factor
        Of the undamped resonance: the peak of the motion lies lower, at sqrt(1 - 1 / 2 Q^2).
    variance
        Mean square of the motion, the area under the resonance without the floor (V^2 or nm^2).
    floor
        Density of the floor (V^2/Hz or nm^2/Hz).
    covariance : (4, 4)
        Of these four, in this order, by Fisher's information.
    band_hz
        Lowest and highest frequency of the fit.
    """

    resonance_hz: float
    quality_factor: float
    variance: float
    floor: float
    covariance: Floats
    band_hz: tuple[float, float]

    @property
    def sd(self) -> tuple[float, float, float, float]:
        """Standard uncertainties of resonance, quality factor, variance and floor."""
        a, b, c, d = (float(s) for s in np.sqrt(np.diag(self.covariance)))
        return a, b, c, d


def power_spectrum(record: npt.ArrayLike, rate_hz: float, segment: int | None = None) -> Spectrum:
    """Return the spectral density of a record: Hann tapers, segments that overlap by half.

    Parameters
    ----------
    record : (samples,)
        Deflection of the free lever, in V or nm.
    rate_hz
        Samples per second.
    segment
        Samples of a segment; an eighth of the record unless told otherwise.

    Raises
    ------
    ValueError
        The record is not a finite row of at least 256 samples, or a segment doesn't fit.
    """
    x = np.asarray(record, np.float64)
    if x.ndim != 1 or x.size < 256 or not np.isfinite(x).all():
        raise ValueError("a record must be a row of at least 256 finite samples")
    if not (rate_hz > 0 and math.isfinite(rate_hz)):
        raise ValueError(f"rate_hz must be finite and positive, not {rate_hz:g}")
    length = fft.prev_fast_len(x.size // 8, real=True) if segment is None else segment
    if not 32 <= length <= x.size:
        raise ValueError(f"segment must be 32 to {x.size} samples, not {length}")
    taper = signal.windows.hann(length, sym=False)
    hop = length - length // 2
    frequency, density = signal.welch(x, rate_hz, taper, noverlap=length // 2)

    # The segments weigh the samples: the record is worth as many as the weights are even.
    weights = np.zeros(x.size)
    for start in range(0, x.size - length + 1, hop):
        weights[start : start + length] += taper**2
    samples = float(weights.sum() ** 2 / np.sum(weights**2))
    correlation = fft.irfft(np.abs(fft.rfft(taper, 2 * length)) ** 2)[:length]
    return Spectrum(frequency, density, samples / length, rate_hz, correlation / correlation[0])


def fit_resonance(
    spectrum: Spectrum,
    near_hz: float | None = None,
    band_hz: tuple[float, float] | None = None,
) -> Resonance:
    """Fit a resonator and a white floor to a spectrum by maximum likelihood.

    Parameters
    ----------
    spectrum
        Of the lever's thermal motion.
    near_hz
        About where the resonance lies, to a third or so; the highest bin unless told otherwise,
        which 1/f noise or an electric line may feign.
    band_hz
        Frequencies to fit; 20 widths or 60 % to both sides of the resonance, whichever is less,
        unless told otherwise. Other modes far from it only add to the floor.

    Raises
    ------
    ValueError
        The spectrum is no positive density on even frequencies, too few of its bins lie in the
        band, or the resonance is narrower than a bin of a record's spectrum.
    """
    f, density = spectrum.frequency_hz, spectrum.density
    if f.ndim != 1 or f.shape != density.shape or f.size < 2 * FEWEST_BINS:
        raise ValueError(f"a spectrum needs frequencies and densities of {2 * FEWEST_BINS} bins")
    spacing = np.diff(f)
    if not (spacing[0] > 0 and np.allclose(spacing, spacing[0], rtol=1e-6)):
        raise ValueError("frequencies of a spectrum must grow evenly")
    usable = f >= (LOWEST_BIN if spectrum.taper_correlation is not None else 0.5) * spacing[0]
    if spectrum.rate_hz is not None:
        usable &= f < 0.5 * spectrum.rate_hz
    if not (np.isfinite(density[usable]).all() and (density[usable] > 0).all()):
        raise ValueError("densities of a spectrum must be finite and positive")

    wide = usable if near_hz is None else usable & (np.abs(f / near_hz - 1.0) < 0.4)
    if not wide.any():
        raise ValueError(f"no bin of the spectrum lies near {near_hz:g} Hz")
    peak = int(np.flatnonzero(wide)[np.argmax(density[wide])])
    around = usable & _within(f, _band(f[peak], 0.0))
    floor = float(np.quantile(density[around], 0.1))
    variance = max(float(np.sum(density[around] - floor)), float(density[peak])) * spacing[0]
    quality = max(math.pi * f[peak] * density[peak] / (2.0 * variance) * 0.5, 1.0)

    # First as if a bin were the density itself, which is quick, then as what it is.
    rough = replace(spectrum, taper_correlation=None)
    fit = _Fit(float(f[peak]), quality, variance, floor, 0.0)
    for attempt, model in enumerate((rough, spectrum, spectrum)):
        band = band_hz or _band(
            fit.resonance_hz, fit.quality_factor if attempt else 0.0, spacing[0]
        )
        used = usable & _within(f, band)
        if np.count_nonzero(used) < FEWEST_BINS:
            raise ValueError(
                f"only {np.count_nonzero(used)} bins of the spectrum lie within "
                f"{band[0]:g} to {band[1]:g} Hz; take longer segments or a wider band"
            )
        spread = (0.2, 1.0, 5.0) if attempt == 0 else (1.0,)
        fits = [_maximize(model, used, fit, factor) for factor in spread]
        fit = min(fits, key=lambda each: each.cost)
        if model is rough:  # it can't tell how much narrower than a bin a line is
            broadest = 2.0 * fit.resonance_hz / spacing[0]
            fit = fit._replace(quality_factor=min(fit.quality_factor, broadest))
    width = fit.resonance_hz / fit.quality_factor
    if spectrum.rate_hz is not None and width < spacing[0]:
        raise ValueError(
            f"the resonance is {width:.3g} Hz wide, a bin {spacing[0]:.3g} Hz; take segments of at "
            f"least {math.ceil(1.5 * spectrum.rate_hz / width)} samples"
        )
    covariance = _covariance(spectrum, used, fit)
    edges = (float(f[used][0]), float(f[used][-1]))
    return Resonance(*fit[:4], covariance, edges)


class _Fit(NamedTuple):
    resonance_hz: float
    quality_factor: float
    variance: float
    floor: float
    cost: float


def _band(
    resonance_hz: float, quality_factor: float, spacing_hz: float = 0.0
) -> tuple[float, float]:
    half = BAND_SHARE * resonance_hz
    if quality_factor > 0:
        half = min(half, BAND_WIDTHS * resonance_hz / quality_factor + FEWEST_BINS * spacing_hz)
    return resonance_hz - half, resonance_hz + half


def _within(frequency_hz: Floats, band_hz: tuple[float, float]) -> npt.NDArray[np.bool_]:
    return np.asarray((frequency_hz >= band_hz[0]) & (frequency_hz <= band_hz[1]))


def expected_density(
    spectrum: Spectrum, used: npt.NDArray[np.bool_], f0: float, q: float
) -> Floats:
    """Return what the used bins of a resonance of variance 1 hold on average."""
    taper = spectrum.taper_correlation
    if taper is None or spectrum.rate_hz is None:
        return resonance_density(spectrum.frequency_hz[used], f0, q)
    product = taper * resonance_correlation(np.arange(taper.size) / spectrum.rate_hz, f0, q)
    # Lags to both sides, wrapped onto one period of the transform.
    product[1:] += product[:0:-1].copy()
    density = 2.0 / spectrum.rate_hz * fft.rfft(product).real
    return np.asarray(density[used])


def _maximize(spectrum: Spectrum, used: npt.NDArray[np.bool_], start: _Fit, factor: float) -> _Fit:
    """Maximize the likelihood from a start whose quality factor is multiplied by `factor`.

    Half the deviance of a gamma variable y of mean m is y/m - ln(y/m) - 1, so its signed roots are
    residuals whose least squares are the maximum of the likelihood.
    """
    density = spectrum.density[used]
    shape = lru_cache(maxsize=1)(
        partial(expected_density, spectrum, used)
    )  # slopes by the others reuse it
    q0 = max(start.quality_factor * factor, 0.6)
    width = start.resonance_hz / q0
    lowest = 1e-9 * float(np.median(density))

    def unpacked(p: Floats) -> tuple[float, float, float, float]:
        return (
            start.resonance_hz + p[0] * width,
            q0 * math.exp(p[1]),
            start.variance * math.exp(p[2]),
            math.exp(p[3]),
        )

    def residuals(p: Floats) -> Floats:
        f0, q, variance, floor = unpacked(p)
        ratio = density / (variance * shape(f0, q) + floor)
        excess = ratio - 1.0
        return np.asarray(np.sign(excess) * np.sqrt(np.maximum(excess - np.log1p(excess), 0.0)))

    reach = 0.9 * BAND_SHARE * q0
    bounds = (
        [-reach, math.log(0.5 / q0), -15.0, math.log(lowest)],
        [reach, math.log(1e7 / q0), 15.0, math.log(float(density.max()))],
    )
    first = np.array([0.0, 0.0, 0.0, math.log(max(start.floor, 10 * lowest))])
    found = optimize.least_squares(
        residuals, first, bounds=bounds, x_scale=(0.1, 0.1, 0.1, 0.3), xtol=1e-10, ftol=1e-12
    )
    f0, q, variance, floor = (float(x) for x in unpacked(found.x))
    return _Fit(f0, q, variance, floor, float(found.cost))


def _covariance(spectrum: Spectrum, used: npt.NDArray[np.bool_], fit: _Fit) -> Floats:
    """Return the inverse of Fisher's information on resonance, Q, variance and floor."""
    f0, q, variance, floor, _ = fit
    shape = expected_density(spectrum, used, f0, q)
    mean = variance * shape + floor
    step_f, step_q = 1e-3 * f0 / q, 1e-3 * q
    by_f = expected_density(spectrum, used, f0 + step_f, q) - expected_density(
        spectrum, used, f0 - step_f, q
    )
    by_q = expected_density(spectrum, used, f0, q + step_q) - expected_density(
        spectrum, used, f0, q - step_q
    )
    slopes = np.stack(
        (
            variance * by_f / (2.0 * step_f),
            variance * by_q / (2.0 * step_q),
            shape,
            np.ones_like(shape),
        )
    )
    slopes /= mean
    # The four have scales far apart; only their correlation matters to the inverse.
    size = np.sqrt(np.sum(slopes**2, axis=1))
    slopes /= size[:, None]
    inverse = np.linalg.pinv(slopes @ slopes.T, rcond=1e-12, hermitian=True)
    return np.asarray(inverse / np.outer(size, size) / spectrum.looks)

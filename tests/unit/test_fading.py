"""Critical doses of synthetic reflections and movies that fade at a known rate."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import special, stats

from nanophantom.analysis import rice
from nanophantom.analysis.fading import (
    Fading,
    critical_doses,
    fit_amplitudes,
    fit_powers,
    pool,
    pooled_law,
)
from nanophantom.analysis.fourier_shells import soft_edge
from nanophantom.analysis.reflections import WINDOW_EDGE, band_powers, spot_powers

FloatArray = npt.NDArray[np.float64]
ComplexArray = npt.NDArray[np.complex128]
PIXEL_NM = 0.05
SPOTS = np.array([[0.11, 0.05], [-0.07, 0.13], [0.20, 0.21], [-0.31, 0.12], [0.02, 0.35]])
N_C = np.array([25.0, 25.0, 15.0, 10.0, 8.0])
CONTRAST = np.array([0.16, 0.16, 0.14, 0.12, 0.12])


def amplitudes_of(
    snr: float, N_c: float, frames: int, rng: np.random.Generator, modes: int = 1
) -> ComplexArray:
    """Return fading coefficients with noise of power 1; 1 e/Å^2 a frame, power `snr` at no dose."""
    fluence = np.arange(frames) + 0.5
    signal = np.sqrt(snr) * np.exp(-0.5 * fluence / N_c)[:, None]
    phases = np.exp(2j * np.pi * rng.random(modes))
    noise = rng.standard_normal((2, frames, modes))
    return np.asarray(signal * phases + (noise[0] + 1j * noise[1]) / np.sqrt(2))


def bound(snr: float, N_c: float, frames: int) -> float:
    """Return the Cramér-Rao bound of log N_c; amplitude and phase are unknown.

    Signal s q_i, q = exp(-N / 2 N_c), noise power 1: the Fisher matrix of (s, log N_c).
    """
    N = np.arange(frames) + 0.5
    q = np.exp(-0.5 * N / N_c)
    slope = np.sqrt(snr) * q * N / (2 * N_c)
    information = 2 * (np.sum(slope**2) - np.sum(q * slope) ** 2 / np.sum(q**2))
    return float(1 / np.sqrt(information))


def movie_of(counts: float, frames: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Return a drifting, fading crystal of 5 reflections, counted, and its shifts."""
    shifts = np.cumsum(rng.normal(0.2, 0.3, (frames, 2)), axis=0)
    shifts -= shifts[0]
    y, x = np.mgrid[:128, :128]
    waves = np.exp(
        2j * np.pi * (SPOTS[:, 0, None, None] * y + SPOTS[:, 1, None, None] * x)
        + 2j * np.pi * rng.random(5)[:, None, None]
    ).reshape(5, -1)
    begin = np.arange(frames)[:, None]
    left = np.exp(-0.5 * begin / N_C) * 2 * N_C * -np.expm1(-0.5 / N_C)
    factors = CONTRAST * left * np.exp(-2j * np.pi * shifts @ SPOTS.T)
    expected = 1 + (factors.real @ waves.real - factors.imag @ waves.imag)
    return rng.poisson(counts * expected).reshape(frames, 128, 128), shifts


@pytest.mark.parametrize("snr", [1.0, 3.0, 10.0, 100.0])
@pytest.mark.parametrize("kind", ["amplitudes", "powers"])
def test_intervals_hold_the_truth_and_estimates_reach_the_bound(kind: str, snr: float) -> None:
    """95 % intervals over 250 seeds; the median is unbiased, the spread near Cramér and Rao's.

    snr is that of one coefficient of the first frame, of 40; N_c = 15 e/Å^2.
    """
    N_c, seeds = 15.0, 250
    logs, held = [], []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        F = amplitudes_of(snr, N_c, 40, rng)
        if kind == "amplitudes":
            fit = fit_amplitudes(F, 1.0, 1.0)
        else:
            turned = F * np.exp(2j * np.pi * rng.random((40, 1)))
            fit = fit_powers(np.abs(turned[:, 0]) ** 2, 1.0, 1.0)
        logs.append(np.log(fit.critical_dose_e_per_A2 / N_c))
        held.append(fit.lower_e_per_A2 <= N_c <= fit.upper_e_per_A2)
    assert 0.90 <= np.mean(held) <= 0.99
    limit = bound(snr, N_c, 40)
    if snr >= 10:
        assert abs(np.mean(logs)) < 3 * np.std(logs) / np.sqrt(seeds) + 0.2 * limit**2
        assert np.std(logs) < (1.15 if kind == "amplitudes" or snr > 10 else 1.4) * limit
    else:  # the tail of weak signals is long: its quantiles tell
        assert abs(np.median(logs)) < 3 * 1.25 * limit / np.sqrt(seeds) * (2 if snr < 3 else 1.5)


@pytest.mark.parametrize(
    ("counts", "registered", "ratio"), [(0.05, True, 1.25), (0.3, True, 1.1), (2.0, False, 1.1)]
)
def test_critical_doses_of_a_drifting_crystal(
    counts: float, registered: bool, ratio: float
) -> None:
    """42 counted movies of five reflections: unbiased, intervals hold, errors near the bound.

    The window costs (sum w)^2 / (size * sum w^2) = .88 of the signal-to-noise power ratio, or 7 %
    of the standard deviation.
    """
    logs, held = [], []
    for seed in range(42):
        movie, shifts = movie_of(counts, 40, np.random.default_rng(seed))
        shifts_px = shifts if registered else None
        _, fits = critical_doses(
            movie, 1.0, PIXEL_NM, shifts_px=shifts_px, spots_per_nm=SPOTS / PIXEL_NM
        )
        logs.append([np.log(fit.critical_dose_e_per_A2) for fit in fits] - np.log(N_C))
        held += [f.lower_e_per_A2 <= N <= f.upper_e_per_A2 for f, N in zip(fits, N_C, strict=True)]
    assert 0.90 <= np.mean(held) <= 0.99
    window = soft_edge((128, 128), WINDOW_EDGE)
    efficiency = np.sum(window) ** 2 / window.size / np.sum(window**2)
    assert efficiency == pytest.approx(0.88, abs=0.01)
    snr = (0.5 * CONTRAST) ** 2 * counts * 128**2 * efficiency
    limits = np.array([bound(r, N, 40) for r, N in zip(snr, N_C, strict=True)])
    scaled = np.array(logs) / limits
    assert np.all(np.abs(np.median(scaled, axis=0)) < 3 * 1.25 * 1.2 / np.sqrt(42))
    spread = np.subtract(*np.quantile(scaled, [0.84, 0.16], axis=0)) / 2
    assert np.mean(spread) < ratio


def test_known_shifts_tell_more_at_low_dose() -> None:
    """At .05 e/px the intervals of 6 movies are narrower in phase than from powers."""
    narrower = []
    for seed in range(6):
        movie, shifts = movie_of(0.05, 40, np.random.default_rng(seed))
        k = SPOTS[3:] / PIXEL_NM  # the weak ones
        _, phased = critical_doses(movie, 1.0, PIXEL_NM, shifts_px=shifts, spots_per_nm=k)
        _, powers = critical_doses(movie, 1.0, PIXEL_NM, spots_per_nm=k)
        for a, b in zip(phased, powers, strict=True):
            narrower.append(
                a.upper_e_per_A2 / max(a.lower_e_per_A2, 1e-9)
                <= b.upper_e_per_A2 / max(b.lower_e_per_A2, 1e-9)
            )
    assert np.mean(narrower) > 0.8


def test_no_fading_is_called_a_lower_bound() -> None:
    """A reflection that stays: the interval is open above in all but some 2.5 % of 120 movies."""
    detected, lower = [], []
    for seed in range(120):
        F = amplitudes_of(30.0, 1e9, 30, np.random.default_rng(seed))
        fit = fit_amplitudes(F, 1.0, 1.0)
        detected.append(fit.is_detected)
        lower.append(fit.lower_e_per_A2)
        assert fit.lower_e_per_A2 < fit.critical_dose_e_per_A2
    assert np.mean(detected) < 0.07
    assert np.median(lower) > 60
    nothing = fit_powers(np.random.default_rng(0).exponential(1.0, 30), 1.0, 1.0)
    assert nothing.significance < 4
    assert not nothing.is_detected


def test_frames_of_unequal_dose_after_a_pre_exposure() -> None:
    """Noise-free coefficients, averaged over each exposure, give N_c and amplitude back."""
    dose = np.array([0.5, 0.5, 1.0, 2.0, 4.0, 4.0, 8.0])
    end = 10 + np.cumsum(dose)
    N_c = 12.0
    left = 2 * N_c * (np.exp(-(end - dose) / 2 / N_c) - np.exp(-end / 2 / N_c))
    F = 5 * left / np.mean(dose) * np.exp(0.4j)
    floor = 1e-6 * dose
    for fit in (
        fit_amplitudes(F, dose, floor, 10.0),
        fit_powers(np.abs(F) ** 2, dose, floor, 10.0),
    ):
        assert fit.critical_dose_e_per_A2 == pytest.approx(N_c, rel=1e-4)
        assert fit.amplitude == pytest.approx(5, rel=1e-3)


def test_an_unknown_floor_is_fitted() -> None:
    """Amplitude, floor and N_c from 60 frames: unbiased, 30 intervals hold all but a few."""
    logs, held = [], []
    for seed in range(30):
        F = amplitudes_of(100.0, 10.0, 60, np.random.default_rng(seed))
        fit = fit_powers(np.sum(np.abs(F) ** 2, axis=1), 1.0, None)
        logs.append(np.log(fit.critical_dose_e_per_A2 / 10))
        held.append(fit.lower_e_per_A2 <= 10 <= fit.upper_e_per_A2)
    assert abs(np.mean(logs)) < 3 * np.std(logs) / np.sqrt(30)
    assert np.mean(held) >= 0.83  # 3 deviations of 30 below .95


@pytest.mark.parametrize("modes", [2.0, 7.5, 40.0])
def test_the_likelihood_is_the_noncentral_chi_squared(modes: float) -> None:
    """Differences of scipy's log-density, 2 * modes degrees of freedom, noncentrality 2 s^2 / B."""
    P = np.array([3.0, 30.0, 90.0])
    B = 1.7
    for s in (0.5, 2.0, 6.0):
        ours = [
            rice.log_likelihood(P, np.full((1, 3), a), np.full(3, B), modes)[0]
            for a in (s, 1.1 * s)
        ]
        exact = [
            np.sum(stats.ncx2.logpdf(2 * P / B, 2 * modes, 2 * a**2 / B)) for a in (s, 1.1 * s)
        ]
        assert ours[1] - ours[0] == pytest.approx(exact[1] - exact[0], abs=2e-4)
    z = np.geomspace(0.1, 100, 20)
    ratio = special.ive(modes, z) / special.ive(modes - 1, z)
    np.testing.assert_allclose(rice.bessel_ratio(z, modes), ratio, rtol=2e-3)


@pytest.mark.parametrize("registered", [True, False])
def test_reflections_are_found_and_nothing_else(registered: bool) -> None:
    """All five at 2 e/px, to a tenth of a Fourier pixel; none in 8 movies of mere noise."""
    rng = np.random.default_rng(3)
    movie, shifts = movie_of(2.0, 40, rng)
    found = spot_powers(movie, PIXEL_NM, shifts if registered else None)
    assert len(found.ky_per_nm) == 5
    for k in SPOTS:
        near = np.hypot(found.ky_per_nm * PIXEL_NM - k[0], found.kx_per_nm * PIXEL_NM - k[1])
        assert np.min(near) * 128 < 0.15
    np.testing.assert_allclose(
        np.sort(found.d_spacing_nm), np.sort(PIXEL_NM / np.hypot(*SPOTS.T)), rtol=5e-3
    )
    for _ in range(8):
        empty = rng.poisson(0.5, (12, 96, 96))
        moved = rng.normal(0, 3, (12, 2)) if registered else None
        assert len(spot_powers(empty, PIXEL_NM, moved).ky_per_nm) == 0


def test_a_spots_power_is_its_fourier_coefficient_squared() -> None:
    """(contrast / 2)^2 counts^2 in the first frames; the floor is what Poisson's law says."""
    powers, floors = [], []
    for seed in range(20):
        movie, _ = movie_of(2.0, 3, np.random.default_rng(seed))
        series = spot_powers(movie, PIXEL_NM, spots_per_nm=SPOTS / PIXEL_NM)
        powers.append(series.power[:, 0])
        floors.append(series.background)
    N = 0.5
    expected = (0.5 * CONTRAST * 2.0) ** 2 * np.exp(-N / N_C)
    sigma = np.mean(series.power_sigma[:, 0])
    np.testing.assert_allclose(np.mean(powers, 0), expected, atol=3.5 * sigma / np.sqrt(20))
    assert np.std(np.array(powers) - expected) == pytest.approx(sigma, rel=0.25)
    window = soft_edge((128, 128), WINDOW_EDGE)
    floor = 2.0 * np.sum(window**2) / np.sum(window) ** 2
    assert np.mean(floors) == pytest.approx(floor, rel=0.02)


def test_rings_of_a_film_fade_as_they_do() -> None:
    """Two rings of an amorphous film with N_c of 20 and 8 e/Å^2, from powers alone."""
    n, frames, counts = 128, 30, 12.0
    rng = np.random.default_rng(6)
    ky, kx = np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)[None, :]
    k = np.hypot(ky, kx)
    film = np.fft.rfft2(rng.standard_normal((n, n)))
    N_c = np.where(k < 0.15, 20.0, 8.0)
    movie = []
    for i in range(frames):
        left = np.exp(-0.5 * (i + 0.5) / N_c) * ((k > 0.05) & (k < 0.25))
        movie.append(rng.poisson(counts * (1 + 0.4 * np.fft.irfft2(film * left, (n, n)))))
    edges = np.array([0.07, 0.13, 0.17, 0.23]) / PIXEL_NM
    power, floor, modes = band_powers(
        np.array(movie), PIXEL_NM, edges, (0.35 / PIXEL_NM, 0.5 / PIXEL_NM)
    )
    for band, true in ((0, 20.0), (2, 8.0)):
        fit = fit_powers(power[band], 1.0, floor[band], modes=modes[band])
        assert fit.lower_e_per_A2 < true < fit.upper_e_per_A2
        assert fit.upper_e_per_A2 / fit.lower_e_per_A2 < 1.5


def synthetic_fits(k: FloatArray, N_c: FloatArray, snr: float, seed: int) -> list[Fading]:
    rng = np.random.default_rng(seed)
    return [fit_amplitudes(amplitudes_of(snr, N, 40, rng), 1.0, 1.0) for N in N_c]


def test_a_law_is_recovered_from_all_reflections_together() -> None:
    """Grant & Grigorieff's .245 k^-1.665 + 2.81 from 30 reflections, within 8 % at each k.

    A constant is enough where there is one (likelihood ratio), and is badly worse where not.
    """
    k = np.linspace(0.05, 0.5, 30)
    true = 0.245 * k**-1.665 + 2.81
    fits = synthetic_fits(k, true, 300.0, 0)
    law = pooled_law(fits, k)
    np.testing.assert_allclose(law(k), true, rtol=0.08)
    constant = pooled_law(fits, k, "constant")
    assert law.log_likelihood - constant.log_likelihood > 100
    even = synthetic_fits(k, np.full(30, 12.0), 30.0, 1)
    assert pooled_law(even, k, "constant")(0.2) == pytest.approx(12, rel=0.08)
    gain = pooled_law(even, k).log_likelihood - pooled_law(even, k, "constant").log_likelihood
    assert -0.1 < gain < 4.6  # 99 % of a chi^2 of 2 degrees of freedom, halved


def test_pooling_narrows_the_interval_by_the_root_of_the_number() -> None:
    fits = synthetic_fits(np.ones(16), np.full(16, 12.0), 30.0, 2)
    together = pool(fits)
    assert together.lower_e_per_A2 < 12 < together.upper_e_per_A2
    width = np.log(together.upper_e_per_A2 / together.lower_e_per_A2)
    single = np.median([np.log(f.upper_e_per_A2 / f.lower_e_per_A2) for f in fits])
    assert width * 4 == pytest.approx(single, rel=0.15)


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(ValueError, match="3 or more"):
        fit_powers([1.0, 2.0], 1.0, 1.0)
    with pytest.raises(ValueError, match="background"):
        fit_powers([1.0, 2.0, 1.0], 1.0, 0.0)
    with pytest.raises(ValueError, match="dose"):
        fit_amplitudes(np.ones(4), 0.0, 1.0)
    with pytest.raises(ValueError, match="movie"):
        spot_powers(np.ones((64, 64)), PIXEL_NM)
    with pytest.raises(ValueError, match="shifts"):
        spot_powers(np.ones((4, 64, 64)), PIXEL_NM, np.zeros((3, 2)))
    with pytest.raises(ValueError, match="sampling limit"):
        spot_powers(np.ones((4, 64, 64)), PIXEL_NM, spots_per_nm=[[20.0, 0.0]])
    with pytest.raises(ValueError, match="3 different"):
        pooled_law(synthetic_fits(np.ones(3), np.full(3, 12.0), 30.0, 2), np.ones(3))

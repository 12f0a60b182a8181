"""The exposure filter against the optimum of its damage law, the noise it keeps, and plain sums."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import linalg, optimize

from nanophantom.analysis.dose_weighting import (
    OPTIMAL_EXPOSURE,
    dose_weighted_sum,
    exposure_weights,
    mid_exposures,
)
from nanophantom.analysis.fourier_shells import fourier_ring_correlation

FloatArray = npt.NDArray[np.float64]
PIXEL_NM = 0.1


def protein(k_per_A: FloatArray) -> FloatArray:
    """Return N_e of Grant & Grigorieff (2015) at 300 kV, e/Å^2."""
    return np.asarray(0.245 * k_per_A**-1.665 + 2.81)


def frequencies_per_A(n: int) -> FloatArray:
    ky, kx = np.fft.fftfreq(n, 10 * PIXEL_NM)[:, None], np.fft.rfftfreq(n, 10 * PIXEL_NM)[None, :]
    return np.asarray(np.hypot(ky, kx))


def fading_frames(image: FloatArray, fluences: FloatArray, doses: FloatArray) -> FloatArray:
    """Return the expected counts of frames of an image that fades by the law of a protein."""
    k = frequencies_per_A(len(image))
    N_e = np.full(k.shape, np.inf)
    N_e[k > 0] = protein(k[k > 0])
    spectrum = np.fft.rfft2(image)
    frames = [
        d * np.fft.irfft2(spectrum * np.exp(-0.5 * N / N_e), image.shape)
        for N, d in zip(fluences, doses, strict=True)
    ]
    return np.array(frames)


def white_image(n: int, seed: int, contrast: float = 0.1) -> FloatArray:
    return 1 + contrast * np.random.default_rng(seed).standard_normal((n, n))


def test_optimal_exposure_is_the_maximum_of_the_plain_sum() -> None:
    """2.51284 N_e, as unblur and summovie have it."""
    best = optimize.minimize_scalar(
        lambda x: -(1 - np.exp(-x / 2)) / np.sqrt(x), bounds=(1, 5), options={"xatol": 1e-9}
    )
    assert pytest.approx(best.x, abs=1e-5) == OPTIMAL_EXPOSURE
    assert pytest.approx(2.51284, abs=3e-5) == OPTIMAL_EXPOSURE
    assert OPTIMAL_EXPOSURE * protein(np.array(1 / 3.0)) == pytest.approx(10.90, abs=0.005)


def test_weights_are_the_best_of_all_linear_combinations() -> None:
    """The largest eigenvector of (signal signal^T) against the noise's covariance.

    Frame i of dose d has the signal d q and the variance d: maximising (w.s)^2 / (w.D.w) gives
    w = s / D = q, at every frequency, for frames of different doses too.
    """
    doses = np.array([0.5, 0.5, 1.0, 2.0, 3.0, 1.5])
    fluences, _ = mid_exposures(6, doses, 4.0)
    k = np.linspace(0.05, 0.5, 7)
    weights = exposure_weights(6, k, doses, protein, 4.0)
    for j, q in enumerate(np.exp(-0.5 * fluences[:, None] / protein(k)).T):
        s = doses * q
        _, vectors = linalg.eigh(np.outer(s, s), np.diag(doses))
        best = vectors[:, -1] * np.sign(vectors[0, -1])
        np.testing.assert_allclose(
            weights[:, j] / weights[0, j], best / best[0], rtol=1e-9, atol=1e-12
        )


def test_fluence_is_that_in_the_middle_of_a_frame() -> None:
    fluences, doses = mid_exposures(3, [1.0, 2.0, 4.0], 10.0)
    np.testing.assert_allclose(fluences, [10.5, 12.0, 15.0])
    np.testing.assert_allclose(doses, [1, 2, 4])


def test_signal_over_noise_is_at_least_the_plain_sums_in_every_ring() -> None:
    """Expected frames in: the output is the signal; the noise of both sums is the same.

    Cauchy and Schwarz: at 2 Å and 40 e/Å^2 the amplitude gains (measured here) a factor of 1.67.
    """
    n, frames = 128, 40
    doses = np.full(frames, 1.0)
    fluences, _ = mid_exposures(frames, doses)
    image = white_image(n, 0)
    signal = fading_frames(image, fluences, doses)
    plain = np.abs(np.fft.rfft2(signal.sum(0)))
    weighted = np.abs(np.fft.rfft2(dose_weighted_sum(signal, None, doses, PIXEL_NM, protein)))
    assert np.all(weighted >= plain * (1 - 1e-9))
    k = frequencies_per_A(n)
    q = np.exp(-0.5 * fluences / protein(np.array(0.5)))
    gain = np.sqrt(np.sum(q**2) * frames) / np.sum(q)
    near = np.abs(k - 0.5) < 0.002
    np.testing.assert_allclose((weighted / plain)[near], gain, rtol=5e-3)


def test_correlation_with_the_truth_is_at_least_the_plain_sums_in_every_ring() -> None:
    """Poisson counts of 20 movies of 40 e/Å^2: no ring is worse, by more than 3 deviations."""
    n, frames, counts = 96, 20, 2.0
    doses = np.full(frames, 2.0)
    fluences, _ = mid_exposures(frames, doses)
    gains = []
    for seed in range(20):
        image = white_image(n, seed, contrast=0.2)
        rng = np.random.default_rng(seed)
        movie = rng.poisson(counts * fading_frames(image, fluences, doses) / 2.0)
        ones = np.ones(image.shape)
        weighted = dose_weighted_sum(movie, None, doses, PIXEL_NM, protein)
        with_filter = fourier_ring_correlation(weighted, image, PIXEL_NM, ones)
        without = fourier_ring_correlation(movie.sum(0), image, PIXEL_NM, ones)
        gains.append((with_filter.correlation - without.correlation)[1:])
    mean, deviation = np.mean(gains, 0), np.std(gains, 0, ddof=1) / np.sqrt(20)
    assert np.all(mean > -3 * deviation)
    assert np.all(mean[20:] > 5 * deviation[20:])
    assert np.mean(mean[20:]) > 0.05


@pytest.mark.parametrize("cut", [False, True])
def test_noise_stays_white_and_keeps_its_power(cut: bool) -> None:
    """A flat field of unequal doses: ring by ring the variance of the plain sum, 120 counts."""
    doses = np.linspace(0.5, 3.5, 12)
    rng = np.random.default_rng(4)
    power = np.zeros((64, 33))
    for _ in range(60):
        flat = rng.poisson(5 * doses[:, None, None] * np.ones((12, 64, 64)))
        summed = dose_weighted_sum(flat, None, doses, PIXEL_NM, protein, cut=cut)
        assert summed.mean() == pytest.approx(flat.sum(0).mean(), rel=1e-12)
        power += np.abs(np.fft.rfft2(summed)) ** 2 / 60 / 64**2
    k = frequencies_per_A(64)
    ring = np.rint(k * 64).astype(int)
    for r in range(3, 33):
        inside = ring == r
        sigma = 5 * np.sum(doses) / np.sqrt(60 * np.count_nonzero(inside) / 1.2)
        assert abs(power[inside].mean() - 5 * np.sum(doses)) < 4 * sigma
    assert power[ring > 2].mean() == pytest.approx(5 * np.sum(doses), rel=0.01)


def test_shifts_are_undone() -> None:
    """A drifting band-limited image comes back where frame 0 was, to a fraction of a pixel."""
    y, x = np.mgrid[:64, :64]
    shifts = np.array([[0.0, 0.0], [1.3, -2.4], [3.0, 5.5]])
    movie = np.array(
        [10 + np.cos(2 * np.pi * (5 * (y - dy) + 3 * (x - dx)) / 64) for dy, dx in shifts]
    )
    summed = dose_weighted_sum(movie, shifts, 1.0, PIXEL_NM, 1e12)
    inner = (slice(12, -12), slice(12, -12))
    np.testing.assert_allclose(summed[inner], 3 * movie[0][inner], atol=0.05)


def test_a_critical_dose_may_be_an_array_and_no_damage_is_the_plain_sum() -> None:
    movie = np.random.default_rng(0).poisson(3.0, (5, 32, 32))
    k = frequencies_per_A(32)
    values = np.ones(k.shape)
    values[k > 0] = protein(k[k > 0])
    np.testing.assert_allclose(
        dose_weighted_sum(movie, None, 1.0, PIXEL_NM, values),
        dose_weighted_sum(movie, None, 1.0, PIXEL_NM, protein),
        atol=1e-9,
    )
    np.testing.assert_allclose(
        dose_weighted_sum(movie, None, 1.0, PIXEL_NM, 1e15), movie.sum(0), atol=1e-9
    )


def test_what_cannot_be_weighted_is_refused() -> None:
    movie = np.ones((5, 32, 32))
    with pytest.raises(ValueError, match="stack"):
        dose_weighted_sum(movie[0], None, 1.0, PIXEL_NM, protein)
    with pytest.raises(ValueError, match="shifts"):
        dose_weighted_sum(movie, np.zeros((4, 2)), 1.0, PIXEL_NM, protein)
    with pytest.raises(ValueError, match="dose"):
        dose_weighted_sum(movie, None, -1.0, PIXEL_NM, protein)
    with pytest.raises(ValueError, match="critical"):
        dose_weighted_sum(movie, None, 1.0, PIXEL_NM, -3.0)
    with pytest.raises(ValueError, match="don't cut"):
        dose_weighted_sum(movie, None, 1.0, PIXEL_NM, protein, 200.0, cut=True)

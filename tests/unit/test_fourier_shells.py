"""Fourier ring and shell correlation of simulated signals whose SNR is known at each frequency."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from nanophantom.analysis.fourier_shells import (
    even_odd_sums,
    fourier_ring_correlation,
    fourier_shell_correlation,
    soft_edge,
    thin_counts,
)

FloatArray = npt.NDArray[np.float64]
PIXEL_NM = 0.05
WIDTH = 0.22  # of the signal's spectrum, cycles per pixel
SNR0 = 20.0


def snr(k_per_pixel: FloatArray) -> FloatArray:
    """Return the ratio of the powers of the signal and of white noise of variance 1."""
    return np.asarray(SNR0 * np.exp(-((k_per_pixel / WIDTH) ** 2)))


def crossing_nm(correlation: float) -> float:
    """Return the period at which SNR / (1 + SNR) has the value given."""
    return PIXEL_NM / (WIDTH * np.sqrt(np.log(SNR0 * (1 - correlation) / correlation)))


def noisy_pair(shape: tuple[int, ...], seed: int) -> tuple[FloatArray, FloatArray]:
    """Return a Gaussian random signal of power snr(k) twice, with white noise of variance 1."""
    rng = np.random.default_rng(seed)
    grids = np.meshgrid(*[np.fft.fftfreq(n) for n in shape], indexing="ij", sparse=True)
    k = np.sqrt(sum(grid**2 for grid in grids))
    signal = np.fft.ifftn(np.fft.fftn(rng.standard_normal(shape)) * np.sqrt(snr(k))).real
    return signal + rng.standard_normal(shape), signal + rng.standard_normal(shape)


@pytest.mark.parametrize("periodic", [True, False])
def test_the_curve_is_snr_over_one_plus_snr(periodic: bool) -> None:
    """The rms deviation over the rings of a 512 x 512 image is below .02.

    And no more than the independent modes explain: (1 - c^2) / sqrt(2 modes) in each ring.
    """
    for seed in range(3):
        a, b = noisy_pair((512, 512), seed)
        curve = fourier_ring_correlation(a, b, PIXEL_NM, np.ones(a.shape) if periodic else None)
        expected = snr(curve.frequency_per_nm * PIXEL_NM)
        expected = expected / (1 + expected)
        deviation = (curve.correlation - expected)[3:]
        assert np.sqrt(np.mean(deviation**2)) < 0.02
        explained = ((1 - expected**2) * curve.noise_deviation)[3:]
        assert np.mean((deviation / explained) ** 2) == pytest.approx(1, abs=0.25)


def test_resolution_is_where_the_expected_curve_crosses() -> None:
    """Within 5 % for each criterion, over ten images, and without bias beyond 1 %."""
    for criterion, level in [("1/7", 1 / 7), (0.5, 0.5), (0.3, 0.3)]:
        ratios = []
        for seed in range(10):
            curve = fourier_ring_correlation(*noisy_pair((256, 256), seed), PIXEL_NM)
            found = curve.resolution_nm(criterion)
            assert found is not None
            ratios.append(found / crossing_nm(level))
        assert np.max(np.abs(np.array(ratios) - 1)) < 0.05
        assert abs(np.mean(ratios) - 1) < 0.01


def test_a_sharp_aperture_is_resolved_to_its_edge() -> None:
    """A spectrum that ends as a step: within 2 %, a line through many shells would smear it."""
    rng = np.random.default_rng(0)
    ky, kx = np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256)[None, :]
    passed = np.hypot(ky, kx) < 0.25
    for _ in range(5):
        signal = np.fft.ifft2(np.fft.fft2(rng.standard_normal((256, 256))) * 4 * passed).real
        a, b = signal + rng.standard_normal((2, 256, 256))
        curve = fourier_ring_correlation(a, b, PIXEL_NM, np.ones(a.shape))
        assert curve.resolution_nm() == pytest.approx(PIXEL_NM / 0.25, rel=0.02)


def test_half_bit_and_three_sigma_tend_to_their_limits() -> None:
    """Half-bit tends to (sqrt2-1)/2 / (1 + (sqrt2-1)/2) = .1716 with many modes.

    Van Heel & Schatz (2005) print (.2071 + 1.9102/sqrt n) / (1.2071 + .9102/sqrt n).
    """
    curve = fourier_ring_correlation(*noisy_pair((256, 256), 1), PIXEL_NM, np.ones((256, 256)))
    root = np.sqrt(curve.modes)
    printed = (0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root)
    np.testing.assert_allclose(curve.threshold("half-bit"), printed, rtol=2e-4)
    limit = (np.sqrt(2) - 1) / (np.sqrt(2) + 1)
    assert limit == pytest.approx(0.1716, abs=1e-4)
    assert np.all(curve.threshold("half-bit") > limit)
    # to first order in 1/sqrt(n): (1.9102 - .9102 * limit) / 1.2071
    np.testing.assert_allclose(
        ((curve.threshold("half-bit") - limit) * root)[-10:], 1.453, rtol=0.05
    )
    np.testing.assert_allclose(curve.threshold("3-sigma"), 3 / np.sqrt(2 * curve.modes))


@pytest.mark.parametrize("edge", [0.0, 0.125, 0.5])
def test_noise_correlates_by_what_its_modes_say_and_resolves_nothing(edge: float) -> None:
    """The rms of noise is 1/sqrt(2 modes) under any window; 40 of 40 pairs resolve nothing."""
    scaled = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        a, b = rng.standard_normal((2, 96, 96))
        curve = fourier_ring_correlation(a, b, PIXEL_NM, soft_edge(a.shape, edge))
        scaled.append((curve.correlation / curve.noise_deviation)[2:])
        for criterion in ("1/7", "half-bit", "3-sigma"):
            assert curve.resolution_nm(criterion) is None
    assert np.mean(np.square(scaled)) == pytest.approx(1, abs=0.08)


def test_a_chance_crossing_and_a_zero_of_the_transfer_do_not_end_the_curve() -> None:
    """A gap of noise in the spectrum is passed over: what lies beyond it is resolved."""
    a, b = noisy_pair((256, 256), 3)
    without = fourier_ring_correlation(a, b, PIXEL_NM, np.ones((256, 256)))
    noise = np.random.default_rng(5).standard_normal((2, 256, 256))
    ky, kx = np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256)[None, :]
    gap = np.abs(np.hypot(ky, kx) - 0.20) < 0.008
    a, b = (
        np.fft.ifft2(np.where(gap, np.fft.fft2(n), np.fft.fft2(x))).real
        for n, x in zip(noise, (a, b), strict=True)
    )
    curve = fourier_ring_correlation(a, b, PIXEL_NM, np.ones((256, 256)))
    inside = np.abs(curve.frequency_per_nm * PIXEL_NM - 0.20) < 0.005
    assert np.all(curve.correlation[inside] < 1 / 7)
    assert curve.resolution_nm() == pytest.approx(without.resolution_nm(), rel=0.02)


def test_shells_of_a_volume_follow_the_same_law() -> None:
    """Curve and crossing of a 64^3 volume; its modes are counted in three dimensions."""
    a, b = noisy_pair((64, 64, 64), 2)
    curve = fourier_shell_correlation(a, b, PIXEL_NM)
    expected = snr(curve.frequency_per_nm * PIXEL_NM)
    expected = expected / (1 + expected)
    inner = curve.modes > 20
    assert np.sqrt(np.mean((curve.correlation - expected)[inner] ** 2)) < 0.02
    assert curve.resolution_nm() == pytest.approx(crossing_nm(1 / 7), rel=0.05)
    bare = fourier_shell_correlation(a, b, PIXEL_NM, np.ones(a.shape))
    volume = 2 * np.pi * (bare.frequency_per_nm * PIXEL_NM * 64) ** 2  # half a sphere's surface
    assert np.sum(bare.modes) == pytest.approx(np.sum(volume), rel=0.01)
    np.testing.assert_allclose(bare.modes[15:], volume[15:], rtol=0.05)


def test_a_volume_of_equal_slices_repeats_the_ring_correlation() -> None:
    """Modes with kz = 0 are the rings: a stack of one image repeated has no others."""
    a, b = noisy_pair((32, 32), 7)
    rings = fourier_ring_correlation(a, b, PIXEL_NM, np.ones((32, 32)))
    tiny = 1e-9 * np.random.default_rng(0).standard_normal((2, 32, 32, 32))
    window = np.ones((32, 32, 32))
    shells = fourier_shell_correlation(
        np.tile(a, (32, 1, 1)) + tiny[0], np.tile(b, (32, 1, 1)) + tiny[1], PIXEL_NM, window
    )
    np.testing.assert_allclose(shells.correlation, rings.correlation, atol=1e-9)


def test_identical_images_agree_everywhere() -> None:
    image = np.random.default_rng(0).standard_normal((64, 80))
    curve = fourier_ring_correlation(image, 3 * image + 7, PIXEL_NM)
    np.testing.assert_allclose(curve.correlation, 1, atol=1e-12)
    assert curve.resolution_nm() == 2 * PIXEL_NM
    opposite = fourier_ring_correlation(image, -image, PIXEL_NM)
    np.testing.assert_allclose(opposite.correlation, -1, atol=1e-12)
    assert opposite.resolution_nm() is None


def test_thinned_counts_are_independent_and_resolve_what_two_exposures_do() -> None:
    """One thinned image gives the curve of two exposures of half the dose.

    Twelve images: no ring's mean differs by more than 4 of its deviations, all by 1 on average.
    """
    rng = np.random.default_rng(11)
    ky, kx = np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)[None, :]
    shape = np.exp(-0.5 * (np.hypot(ky, kx) / 0.1) ** 2)
    signal = np.fft.ifft2(np.fft.fft2(rng.standard_normal((128, 128))) * shape).real
    expected = 2.0 * (1 + 0.3 * signal / np.std(signal)).clip(0)
    thinned, exposed = [], []
    for _ in range(12):
        counts = rng.poisson(expected)
        halves = thin_counts(counts, rng)
        np.testing.assert_array_equal(halves[0] + halves[1], counts)
        thinned.append(fourier_ring_correlation(*halves, PIXEL_NM).correlation)
        curve = fourier_ring_correlation(*rng.poisson(0.5 * expected, (2, 128, 128)), PIXEL_NM)
        exposed.append(curve.correlation)
    c = np.mean(exposed, axis=0)
    sigma = (1 - c**2) * curve.noise_deviation * np.sqrt(2 / 12)
    z = ((np.mean(thinned, axis=0) - c) / sigma)[3:]
    assert np.max(np.abs(z)) < 4
    assert np.mean(z**2) == pytest.approx(1, abs=0.5)


def test_halves_of_a_series() -> None:
    frames = np.arange(5)[:, None, None] * np.ones((5, 2, 2))
    even, odd = even_odd_sums(frames)
    assert even[0, 0] == 0 + 2
    assert odd[0, 0] == 1 + 3


def test_what_cannot_be_correlated_is_refused() -> None:
    image = np.random.default_rng(0).standard_normal((32, 32))
    with pytest.raises(ValueError, match="one shape"):
        fourier_ring_correlation(image, image[:-1], 1.0)
    with pytest.raises(ValueError, match="one shape"):
        fourier_shell_correlation(image, image, 1.0)
    with pytest.raises(ValueError, match="without any power"):
        fourier_ring_correlation(image, np.ones((32, 32)), 1.0)
    with pytest.raises(ValueError, match="finite"):
        fourier_ring_correlation(image, np.full((32, 32), np.nan), 1.0)
    with pytest.raises(ValueError, match="criterion"):
        fourier_ring_correlation(image, image, 1.0).threshold("0.5")
    with pytest.raises(ValueError, match="counts"):
        thin_counts(image, np.random.default_rng(0))

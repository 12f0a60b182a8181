"""Gain, noise power, MTF and DQE of synthetic cameras whose blur is known in closed form.

A blur before the counting (a) leaves white noise: DQE = MTF^2. A blur of the counts (b) colours
signal and noise alike: the DQE is that of the pixel's aperture, sinc^2.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy import special

from nanophantom.analysis.detector_characterisation import (
    dqe,
    flat_field,
    mtf_from_edge,
    mtf_from_sinusoids,
    noise_power_spectrum,
)

FloatArray = npt.NDArray[np.float64]
SIGMA = 0.45  # px, of the Gaussian spread: .606 at half and .368 at full Nyquist squared
Q0 = 0.35  # cycles per pixel, of the Lorentzian MTF 1 / (1 + (q / Q0)^2)
SLOPE = 0.12  # of the edge's columns over rows, 6.8 degrees
ELECTRONS = 400.0


def gaussian(q: FloatArray) -> FloatArray:
    return np.asarray(np.exp(-2 * (np.pi * SIGMA * q) ** 2))


def lorentzian(q: FloatArray) -> FloatArray:
    return np.asarray(1 / (1 + (q / Q0) ** 2))


def gaussian_edge(x: FloatArray) -> FloatArray:
    return np.asarray(0.5 * special.erfc(-x / (np.sqrt(2) * SIGMA)))


def lorentzian_edge(x: FloatArray) -> FloatArray:
    """Integral of the line spread pi Q0 exp(-2 pi Q0 |x|)."""
    return np.where(x < 0, 0.5, -0.5) * np.exp(-2 * np.pi * Q0 * np.abs(x)) + (x >= 0)


BLURS = [
    pytest.param(gaussian, gaussian_edge, id="gaussian"),
    pytest.param(lorentzian, lorentzian_edge, id="lorentzian"),
]
Profile = Callable[[FloatArray], FloatArray]


def distance_to_edge(n: int) -> FloatArray:
    y, x = np.mgrid[:n, :n]
    return np.asarray((x - 0.5 * n - SLOPE * (y - 0.5 * n) - 0.3) / np.hypot(1, SLOPE))


def blurred(counts: FloatArray, mtf: Profile) -> FloatArray:
    """Return counts spread by an MTF that holds at the pixels' frequencies."""
    n = counts.shape[-1]
    q = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.fftfreq(n)[None, :])
    return np.asarray(np.fft.ifft2(np.fft.fft2(counts) * mtf(q)).real)


@pytest.mark.parametrize(("mtf", "edge"), BLURS)
def test_mtf_of_a_noise_free_edge(mtf: Profile, edge: Profile) -> None:
    """Within .001 of the closed form up to the sampling limit, for both ways the edge may run."""
    image = 10 + 90 * edge(distance_to_edge(256))
    for view in (image, image.T, image[:, ::-1], 100 - image):
        found = mtf_from_edge(view)
        np.testing.assert_allclose(found.mtf, mtf(found.frequency), atol=0.001)


@pytest.mark.parametrize(("mtf", "edge"), BLURS)
def test_detector_that_blurs_before_counting(mtf: Profile, edge: Profile) -> None:
    """(a) NPS is white at the mean, MTF and DQE = MTF^2 come back within 3 %."""
    rng = np.random.default_rng(1)
    flats = rng.poisson(ELECTRONS, (48, 256, 256))
    noise = noise_power_spectrum(flats, 32)
    np.testing.assert_allclose(noise.radial, ELECTRONS, rtol=0.03)

    expected = ELECTRONS * (0.05 + 0.95 * edge(distance_to_edge(256)))
    found = mtf_from_edge(rng.poisson(expected, (200, 256, 256)).mean(0))
    use = noise.frequency <= 0.5
    q = noise.frequency[use]
    measured = found.at(q)
    np.testing.assert_allclose(measured, mtf(q), rtol=0.03)
    efficiency = dqe(measured, noise.normalised[use], ELECTRONS)
    np.testing.assert_allclose(efficiency, mtf(q) ** 2, rtol=0.03)


@pytest.mark.parametrize(("mtf", "edge"), BLURS)
def test_detector_that_blurs_its_counts(mtf: Profile, edge: Profile) -> None:
    """(b) NPS = n MTF^2 and DQE = sinc^2 of the pixel within 3 %, with a gain of 7 and a dark."""
    rng = np.random.default_rng(2)
    gain, dark = 7.0, 30.0
    flats = np.array(
        [dark + gain * blurred(rng.poisson(ELECTRONS, (256, 256)), mtf) for _ in range(48)]
    )
    noise = noise_power_spectrum(flats, 32, dark)
    use = noise.frequency <= 0.5
    q = noise.frequency[use]
    true_nps = gain**2 * ELECTRONS * mtf(q) ** 2
    np.testing.assert_allclose(noise.radial[use], true_nps, rtol=0.03)

    # pixels average over their area: a sharp edge through them, then the blur of what they counted
    fine = np.mean(
        [
            np.clip(distance_to_edge(320) + (u + SLOPE * v) / np.hypot(1, SLOPE), -0.02, 0.02)
            for u in (np.arange(24) + 0.5) / 24 - 0.5
            for v in (np.arange(6) + 0.5) / 6 - 0.5
        ],
        axis=0,
    )
    expected = ELECTRONS * (0.05 + 0.95 * (fine + 0.02) / 0.04)
    image = dark + gain * blurred(rng.poisson(expected * 2000.0) / 2000.0, mtf)
    found = mtf_from_edge(image[32:-32, 32:-32])
    pixel = np.sinc(q)
    np.testing.assert_allclose(found.at(q), pixel * mtf(q), rtol=0.03)
    np.testing.assert_allclose(
        dqe(found.at(q), noise.normalised[use], ELECTRONS), pixel**2, rtol=0.03
    )


@pytest.mark.parametrize("mtf", [gaussian, lorentzian])
def test_mtf_of_sinusoids(mtf: Profile) -> None:
    """Any phase, direction and cut-out: within 3 % with shot noise, exact without."""
    rng = np.random.default_rng(3)
    k = np.array([[0.031, 0.04], [0.0, 0.151], [-0.2, 0.13], [0.33, 0.1], [0.45, 0.02]])
    q = np.hypot(*k.T)
    y, x = np.mgrid[:120, :97]
    waves = np.array(
        [
            1 + 0.8 * m * np.cos(2 * np.pi * (ky * y + kx * x) + 1.3)
            for (ky, kx), m in zip(k, mtf(q), strict=True)
        ]
    )
    exact = mtf_from_sinusoids(waves, k, 0.8)
    order = np.argsort(q)
    np.testing.assert_allclose(exact.frequency, q[order])
    np.testing.assert_allclose(exact.mtf, mtf(q[order]), rtol=1e-9)
    noisy = mtf_from_sinusoids(rng.poisson(2000 * waves), k, 0.8)
    np.testing.assert_allclose(noisy.mtf, mtf(q[order]), rtol=0.03)


def test_noise_power_averages_to_the_variance() -> None:
    """Parseval: the mean of the spectrum is the variance of a pixel, whatever the tile."""
    rng = np.random.default_rng(4)
    pattern = 1 + 0.2 * rng.standard_normal((128, 128))  # fixed: no noise
    flats = rng.poisson(100 * np.maximum(pattern, 0.1), (64, 128, 128)).astype(float)
    variance = np.mean(np.var(flats, axis=0, ddof=1))
    for tile in (64, 32):
        noise = noise_power_spectrum(flats, tile)
        assert np.mean(noise.spectrum) == pytest.approx(variance, rel=0.005)


def test_counting_with_an_efficiency_has_that_dqe() -> None:
    """Of all electrons 70 % are counted: DQE(0) = .7; a gain doesn't matter."""
    counts = np.random.default_rng(5).binomial(
        np.random.default_rng(6).poisson(ELECTRONS, (24, 128, 128)), 0.7
    )
    noise = noise_power_spectrum(3.0 * counts)
    low = noise.frequency < 0.25
    assert np.mean(dqe(1.0, noise.normalised[low], ELECTRONS)) == pytest.approx(0.7, rel=0.01)


def test_gain_map_keeps_a_variance_of_one_over_its_electrons() -> None:
    """N electrons per pixel in all leave 1 / N; darks are taken off; corrected flats are even."""
    rng = np.random.default_rng(7)
    gain = 1 + 0.05 * rng.standard_normal((128, 128))
    gain /= gain.mean()
    dark = rng.uniform(10, 20, gain.shape)
    flats = dark + gain * rng.poisson(50.0, (40, *gain.shape))
    found = flat_field(flats, np.tile(dark, (3, 1, 1)))
    assert found.mean == pytest.approx(50, rel=2e-3)
    assert np.var(found.gain_map / gain) == pytest.approx(1 / 2000, rel=0.05)
    assert np.mean(found.variance / gain**2) == pytest.approx(50, rel=0.01)
    np.testing.assert_allclose(found.dark, dark)
    truth = found.correct(dark + 50 * found.gain_map)
    np.testing.assert_allclose(truth, 50)


def test_what_cannot_be_measured_is_refused() -> None:
    rng = np.random.default_rng(8)
    flat = rng.poisson(50.0, (3, 64, 64))
    with pytest.raises(ValueError, match="2 or more"):
        noise_power_spectrum(flat[:1])
    with pytest.raises(ValueError, match="tile"):
        noise_power_spectrum(flat, 33)
    with pytest.raises(ValueError, match="brighter"):
        flat_field(flat, flat + 100)
    with pytest.raises(ValueError, match="dead"):
        flat_field(flat * (np.arange(64) > 0)).correct(flat[0])
    y, x = np.mgrid[:128, :128]
    with pytest.raises(ValueError, match="degrees"):
        mtf_from_edge(gaussian_edge(x - 64.0))
    with pytest.raises(ValueError, match="both sides"):
        mtf_from_edge(gaussian_edge(x - 12.0 - 0.1 * y))
    with pytest.raises(ValueError, match="positive"):
        dqe(1.0, 0.0, 5.0)
    with pytest.raises(ValueError, match="measured from"):
        mtf_from_sinusoids(flat[:1], [[0.1, 0.1]], 0.5).at(0.4)

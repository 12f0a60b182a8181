"""Roughness parameters, power spectra and correlation lengths against closed forms."""

import re

import numpy as np
import pytest

from nanophantom.analysis import height_spectra, roughness
from nanophantom.analysis.height_parameters import parameters
from nanophantom.analysis.levelling import align_rows, polynomial

# E[variance after levelling a line] / variance at T/L = 0.02, polynomials of degree 0..3:
# D. Necas, P. Klapetek, M. Valtr, arXiv:2001.00433 (Monte Carlo of 3000 lines).
KEPT = {
    "gaussian": (0.972, 0.938, 0.904, 0.870),
    "exponential": (0.961, 0.923, 0.888, 0.853),
}


def rough(n, length_px, seed):
    """Return a Gaussian random field of Sq 1 cut out of one four times as large."""
    k = 2 * np.pi * np.hypot(np.fft.fftfreq(2 * n)[:, None], np.fft.rfftfreq(2 * n))
    density = np.exp(-((k * length_px) ** 2) / 4)
    twice = np.full(density.shape[1], 2.0)
    twice[[0, -1]] = 1
    white = np.fft.rfft2(np.random.default_rng(seed).standard_normal((2 * n, 2 * n)))
    scaled = white * np.sqrt(density / np.sum(twice * density)) * 2 * n
    return np.fft.irfft2(scaled, s=(2 * n, 2 * n))[:n, :n]


def lines(count, n, length_px, acf, seed):
    """Return independent lines of variance 1, exact in distribution at their pixels."""
    m = 4 * n
    lag = np.minimum(np.arange(m), m - np.arange(m)) / length_px
    rho = np.exp(-(lag**2)) if acf == "gaussian" else np.exp(-lag)
    white = np.fft.rfft(np.random.default_rng(seed).standard_normal((count, m)))
    filtered = white * np.sqrt(np.maximum(np.fft.rfft(rho).real, 0))
    return np.fft.irfft(filtered, n=m)[:, :n]


def test_parameters_of_a_sine_are_the_closed_forms():
    """Sa 2A/pi, Sq A/sqrt(2), Ssk 0, Sku 3/2, Sp = Sv = A, Sdq sqrt(2) pi A / wavelength."""
    z = 3.0 * np.sin(2 * np.pi * (np.arange(134) + 0.5) / 64) * np.ones((40, 1)) + 7.0
    p = parameters(z[:, :128], 0.5)
    assert p.sa_nm == pytest.approx(6 / np.pi, rel=1e-3)
    assert p.sq_nm == pytest.approx(3 / np.sqrt(2), rel=1e-12)
    assert abs(p.ssk) < 1e-12
    assert p.sku == pytest.approx(1.5, rel=1e-12)
    assert p.sp_nm == pytest.approx(3, rel=2e-3)
    assert p.sz_nm == p.sp_nm + p.sv_nm
    # two whole periods of 32 nm have all their neighbours
    expected = np.sqrt(2) * np.pi * 3 / 32
    assert parameters(z, 0.5).sdq == pytest.approx(expected, rel=1e-6)


def test_a_plane_has_its_gradient_and_masked_pixels_do_not_count():
    y, x = np.mgrid[:40, :50]
    z = 0.3 * 2.0 * x - 0.4 * 1.0 * y  # pixels of 1 nm by 2 nm: slopes -0.4 and 0.3
    mask = np.zeros(z.shape, bool)
    mask[10:13, 20:22] = True
    z[mask] = np.nan
    assert parameters(z, (1.0, 2.0), mask).sdq == pytest.approx(0.5, rel=1e-12)
    with pytest.raises(ValueError, match="finite"):
        parameters(z, 1.0)
    with pytest.raises(ValueError, match="the same"):
        parameters(np.full((9, 9), 5.1), 1.0)


@pytest.mark.parametrize("shape", [(64, 80), (63, 81)])
def test_integrals_of_power_spectra_are_sq_squared(shape):
    """Parseval, to 1e-10; and the autocorrelation is the other transform of the same."""
    z = np.random.default_rng(1).normal(4.0, 1.3, shape)
    pixel = (0.7, 0.4)
    sq2 = np.var(z)
    fx, along_x = height_spectra.psd_1d(z, pixel)
    fy, along_y = height_spectra.psd_1d(z, pixel, "y")
    ky, kx, both = height_spectra.psd_2d(z, pixel)
    ring = height_spectra.radial_psd(z, pixel)
    assert abs(np.sum(along_x) * fx[1] / sq2 - 1) < 1e-10
    assert abs(np.sum(along_y) * fy[1] / sq2 - 1) < 1e-10
    assert abs(np.sum(both) * (ky[1] - ky[0]) * (kx[1] - kx[0]) / sq2 - 1) < 1e-10
    assert abs(np.sum(ring.psd_nm4 * ring.count) * ring.cell_per_nm2 / sq2 - 1) < 1e-10
    acf = roughness.autocorrelation(z, max_lag_px=(5, 6), biased=True)
    assert abs(acf[5, 6] / sq2 - 1) < 1e-12
    d = z - z.mean()
    assert acf[5 + 2, 6 + 3] == pytest.approx(np.sum(d[2:, 3:] * d[:-2, :-3]) / z.size, rel=1e-9)
    unbiased = roughness.autocorrelation(z, max_lag_px=(5, 6))
    assert unbiased[7, 3] == pytest.approx(np.mean(d[2:, :-3] * d[:-2, 3:]), rel=1e-9)


def test_windows_keep_the_level_of_white_noise():
    """The density of white noise is sigma² dx dy with and without a window."""
    z = np.random.default_rng(2).normal(0, 2.0, (256, 256))
    for window in (None, "hann"):
        _, _, psd = height_spectra.psd_2d(z, 0.5, window)
        assert np.mean(psd) == pytest.approx(4 * 0.25, rel=0.02)  # sd 2 / 256 sqrt(2) = 1.1 %


def test_a_sines_autocorrelation_is_a_cosine_also_with_a_mask():
    z = np.sqrt(2) * np.sin(2 * np.pi * np.arange(4096) / 32) * np.ones((16, 1))
    mask = np.random.default_rng(3).random(z.shape) < 0.3
    acf = roughness.autocorrelation(z, mask, (0, 32))
    assert np.max(np.abs(acf[0] - np.cos(2 * np.pi * np.arange(-32, 33) / 32))) < 0.02
    means = []
    for seed in range(10):
        lag, radial = roughness.radial_autocorrelation(rough(128, 8, seed), 0.5)
        means.append(radial)
    # scatter 0.1 / sqrt(10), and the mean's share -0.02
    assert np.interp(4.0, lag, np.mean(means, axis=0)) == pytest.approx(np.exp(-1) - 0.02, abs=0.07)


@pytest.mark.parametrize(("acf", "degree"), [("gaussian", 0), ("exponential", 3)])
def test_levelled_lines_lose_the_predicted_variance_and_the_fit_gives_it_back(acf, degree):
    """T/L = 0.02: kept share as published, 2 %; Sq² and T of the surface, 2 %."""
    z = align_rows(lines(2000, 250, 5, acf, 10 + degree), "polynomial", degree=degree)
    assert np.mean(z**2) == pytest.approx(KEPT[acf][degree], rel=0.02)
    fit = roughness.fit_autocorrelation(z, 2.0, acf, degree_x=degree, degree_y=None)
    assert fit.sq_nm**2 == pytest.approx(1, rel=0.02)
    assert fit.correlation_length_nm == pytest.approx(10, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("acf", ["gaussian", "exponential"])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_levelling_bias_and_its_correction(acf, degree):
    """All published shares and Sq² within 1 %, T within 2 %: 20 seeds of 1000 lines."""
    fits, left = [], []
    for seed in range(20):
        z = align_rows(lines(1000, 500, 10, acf, 100 + seed), "polynomial", degree=degree)
        left.append(np.mean(z**2))
        fits.append(roughness.fit_autocorrelation(z, 1.0, acf, degree_x=degree, degree_y=None))
    assert np.mean(left) == pytest.approx(KEPT[acf][degree], rel=0.01)
    assert np.mean([f.sq_nm**2 for f in fits]) == pytest.approx(1, rel=0.01)
    assert np.mean([f.correlation_length_nm for f in fits]) == pytest.approx(10, rel=0.02)


def test_uncertainties_are_the_scatter_and_noise_is_told_apart():
    """30 images of 128² with T = 8 and noise of 0.3: scatter over stated uncertainty is near 1."""
    fits = []
    for seed in range(30):
        z = rough(128, 8, seed) + np.random.default_rng(900 + seed).normal(0, 0.3, (128, 128))
        z = polynomial(z, 1, 1, total_degree=1)
        fits.append(roughness.fit_autocorrelation(z, 1.0, degree_x=1, degree_y=1, total_degree=1))
    # a chi over sqrt(30) lies within 0.75 and 1.25 with 95 %
    for name, stated, true in (
        ("sq_nm", "sq_uncertainty_nm", 1.0),
        ("correlation_length_nm", "correlation_length_uncertainty_nm", 8.0),
    ):
        deviations = np.array([getattr(fit, name) for fit in fits]) - true
        uncertainty = np.mean([getattr(fit, stated) for fit in fits])
        assert 0.75 < np.sqrt(np.mean(deviations**2)) / uncertainty < 1.25
        assert abs(np.mean(deviations)) < 3 * uncertainty / np.sqrt(30)
    assert np.mean([fit.noise_nm for fit in fits]) == pytest.approx(0.3, abs=0.02)


def test_what_has_no_correlation_length_is_refused():
    with pytest.raises(ValueError, match="correlat"):
        roughness.fit_autocorrelation(np.random.default_rng(4).normal(size=(64, 64)), 1.0)
    with pytest.raises(ValueError, match="pixel_size_nm"):
        height_spectra.psd_1d(np.zeros((8, 8)), 0.0)


@pytest.mark.parametrize("degree_y", [0, 1, None])
def test_white_noise_has_no_correlation_length(degree_y):
    """25 images of 64 x 64: most are refused, clearly; else it is noise, Sq within its error."""
    refused, fitted = 0, 0
    for seed in range(25):
        noise = np.random.default_rng(seed).normal(size=(64, 64))
        try:
            found = roughness.fit_autocorrelation(noise, 1.0, degree_y=degree_y)
        except ValueError as error:
            refused += bool(re.search("no correlation length|no length between", str(error)))
        else:
            fitted += 1
            assert found.noise_nm == pytest.approx(1, abs=0.03)
            assert found.sq_nm < 5 * found.sq_uncertainty_nm
    assert refused >= 18
    assert refused + fitted == 25

"""From exit wave to image: identities, conservation, closed-form transfer, orientation."""

import numpy as np
import pytest

from nanophantom.simcore.electrons.aberrations import chi, chi_gradient
from nanophantom.simcore.electrons.coherence import focal_spread
from nanophantom.simcore.electrons.constants import interaction_constant, wavelength
from nanophantom.simcore.electrons.imaging import (
    contrast_transfer,
    expected_image,
    stopped_by_aperture,
)
from nanophantom.simcore.electrons.resample import fourier_resample

ENERGY = 200.0
LAMBDA = wavelength(ENERGY)
EXTENT = (30.0, 40.0)
LENS = {"C10": -400.0, "C12": 60.0, "phi12": 0.5, "C21": 4e3, "phi21": 1.0, "C30": 1.2e7}


def random_wave(shape, seed, dtype=np.complex128):
    """Return a strong, asymmetric exit wave: about half of it scattered, one electron in all."""
    rng = np.random.default_rng(seed)
    wave = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    wave[0, 0] = np.sqrt(2 * wave.size) * np.exp(0.3j)
    return (wave / np.sqrt(np.sum(np.abs(wave) ** 2))).astype(dtype)


def frequencies(shape, extent=EXTENT):
    """Return ky (column) and kx (row) in 1/Å."""
    ky = np.fft.fftfreq(shape[0], extent[0] / shape[0])[:, None]
    kx = np.fft.fftfreq(shape[1], extent[1] / shape[1])[None, :]
    return ky, kx


def direct_sum(wave_k, shape):
    """Return |sum_k wave_k exp(2 pi i k r)|^2 at the pixels, beam by beam, without an FFT."""
    my, mx = wave_k.shape
    ny, nx = shape
    fy, fx = np.fft.fftfreq(my) * my, np.fft.fftfreq(mx) * mx
    ey = np.exp(2j * np.pi * np.outer(np.arange(ny) / ny, fy))
    ex = np.exp(2j * np.pi * np.outer(fx, np.arange(nx) / nx))
    return np.abs(ey @ wave_k @ ex) ** 2


def image(wave_k, shape, coefficients=None, extent=EXTENT, **optics):
    """Return expected_image with this file's energy and field of view."""
    return expected_image(
        wave_k,
        extent_A=extent,
        energy_kev=ENERGY,
        coefficients=coefficients or {},
        shape=shape,
        **optics,
    )


# --- the identity, sampling and conservation


@pytest.mark.parametrize("beams", [(12, 16), (13, 9), (1, 7), (1, 1)])
@pytest.mark.parametrize("shape", [(30, 36), (31, 65), (64, 40)])
def test_a_perfect_lens_gives_the_square_of_the_wave(beams, shape):
    """At every pixel of any grid fine enough: odd, even, not square."""
    wave = random_wave(beams, 1)
    np.testing.assert_allclose(image(wave, shape), direct_sum(wave, shape), rtol=2e-6, atol=1e-6)


def test_coarse_pixels_keep_the_low_frequencies_exactly():
    """A coarser image is the fine one with its high frequencies cut off, not aliased."""
    wave = random_wave((24, 20), 2)
    fine = image(wave, (60, 60), LENS)
    for shape in ((17, 15), (16, 14), (60, 11)):
        np.testing.assert_allclose(
            image(wave, shape, LENS), fourier_resample(fine, shape), atol=2e-6
        )


def test_a_transparent_object_gives_one_everywhere():
    """A plane wave is 1 through any lens, spread and aperture."""
    plane = np.zeros((8, 8), dtype=np.complex64)
    plane[0, 0] = 1
    optics = {"aperture_mrad": 5.0, "focal_spread_A": 40.0, "convergence_mrad": 0.3}
    seen = image(plane, (20, 24), LENS, **optics)
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen, 1, atol=1e-6)


@pytest.mark.parametrize(
    "coherence", [{}, {"focal_spread_A": 60.0}, {"focal_spread_A": 60.0, "convergence_mrad": 0.4}]
)
def test_no_electron_is_lost_without_an_aperture(coherence):
    """The mean of the image is the sum of |wave_k|^2, for any aberrations and coherence."""
    wave = random_wave((32, 40), 3) * 0.9
    seen = image(wave, (50, 48), LENS, **coherence)
    assert seen.mean(dtype=np.float64) == pytest.approx(0.81, rel=1e-6)


def test_the_aperture_stops_what_it_says():
    """Image mean and stopped part add up to the whole; beams beyond the edge do not interfere."""
    wave = random_wave((48, 48), 4)
    stopped = stopped_by_aperture(wave, extent_A=EXTENT, energy_kev=ENERGY, aperture_mrad=8.0)
    seen = image(wave, (60, 60), LENS, aperture_mrad=8.0)
    assert 0.1 < stopped < 0.5
    assert seen.mean(dtype=np.float64) + stopped == pytest.approx(1, rel=1e-6)

    ky, kx = frequencies(wave.shape)
    cut = np.where(np.hypot(ky, kx) * LAMBDA <= 8e-3, wave, 0)
    np.testing.assert_allclose(seen, image(cut, (60, 60), LENS), atol=1e-6)
    np.testing.assert_allclose(
        image(wave, (60, 60), aperture_mrad=8.0), direct_sum(cut, (60, 60)), atol=1e-6
    )


def test_single_precision_waves_give_the_same_image():
    """complex64 agrees with complex128 to 1e-5 with phases of hundreds of rad."""
    wave = random_wave((64, 64), 5)
    optics = {"focal_spread_A": 30.0, "convergence_mrad": 0.1}
    single = image(wave.astype(np.complex64), (80, 80), LENS, **optics)
    np.testing.assert_allclose(single, image(wave, (80, 80), LENS, **optics), atol=1e-5)


# --- contrast transfer of a weak phase object


def grating(index, phase_amplitude, shape=(1, 64)):
    """Return a weak sinusoidal phase object, exp(i 2 a cos) to first order, along x."""
    wave = np.zeros(shape, dtype=np.complex128)
    wave[0, 0] = 1
    wave[0, index] = wave[0, -index] = 1j * phase_amplitude
    return wave


def contrast_of(seen, index):
    """Return the Fourier coefficient of an image along x."""
    return np.fft.fft2(seen.astype(np.float64))[0, index] / seen.size


@pytest.mark.parametrize("index", [3, 7, 11, 14])
def test_weak_phase_contrast_is_two_sigma_v_sin_chi(index):
    """With temporal and spatial envelope in closed form; 40 Å field, up to 0.35 1/Å."""
    sigma_v = interaction_constant(ENERGY) * 2.0  # a projected potential of 2 V Å
    optics = {"focal_spread_A": 70.0, "convergence_mrad": 0.35}
    lens = {"C10": -658.0, "C30": 1.2e7}
    k = index / EXTENT[1]
    phase = np.pi * LAMBDA * -658.0 * k**2 + np.pi / 2 * 1.2e7 * LAMBDA**3 * k**4
    slope = 2 * np.pi * LAMBDA * -658.0 * k + 2 * np.pi * 1.2e7 * LAMBDA**3 * k**3
    temporal = np.exp(-((np.pi * LAMBDA * k**2 * 70.0) ** 2) / 2)
    spatial = np.exp(-((slope * 0.35e-3 / LAMBDA) ** 2) / 2)
    transfer = np.sin(phase) * temporal * spatial

    assert contrast_transfer(k, energy_kev=ENERGY, coefficients=lens, **optics) == pytest.approx(
        transfer, rel=1e-9
    )
    # the spatial envelope is taken at every defocus, so the two are not quite a product
    seen = contrast_of(image(grating(index, sigma_v), (8, 80), lens, **optics), index)
    assert seen.imag == pytest.approx(0, abs=1e-8)
    assert seen.real == pytest.approx(2 * sigma_v * transfer, rel=5e-3)


@pytest.mark.parametrize("spread", [20.0, 70.0])
def test_focal_average_is_the_temporal_envelope_for_a_weak_object(spread):
    """The quadrature gives exp(-(pi lambda k^2 D)^2 / 2) within 0.01 wherever it is used."""
    for index in range(1, 30):
        k = index / EXTENT[1]
        lens = {"C10": 0.25 / (LAMBDA * k**2) * 2}  # chi = pi / 2: full contrast
        seen = contrast_of(
            image(grating(index, 1e-3), (4, 80), lens, focal_spread_A=spread), index
        ).real
        envelope = np.exp(-((np.pi * LAMBDA * k**2 * spread) ** 2) / 2)
        assert seen / 2e-3 == pytest.approx(envelope, abs=0.03 if envelope < 0.03 else 0.01)


def test_contrast_does_not_come_back_where_it_is_damped():
    """Beams far beyond the information limit add evenly: no contrast, no loss of intensity."""
    extent, spread = (10.0, 10.0), 100.0
    for index in range(12, 60):  # 1.2 to 6 1/Å: the envelope is below exp(-64)
        k = index / 10.0
        wave = grating(index, 0.1, (1, 128))
        lens = {"C10": 0.5 / (LAMBDA * k**2)}
        seen = image(wave, (2, 256), lens, extent=extent, focal_spread_A=spread)
        assert abs(contrast_of(seen, index)) < 1e-6
        assert seen.mean(dtype=np.float64) == pytest.approx(1.02, rel=1e-6)


def test_more_focal_points_reach_further_and_agree_below():
    """7 and 21 points agree to 1 % of the contrast for a strong object within the reach."""
    wave = random_wave((28, 36), 6)  # up to 0.65 1/Å: pi lambda k^2 D < 2
    seven = image(wave, (40, 40), LENS, focal_spread_A=60.0)
    many = image(wave, (40, 40), LENS, focal_spread_A=60.0, focal_points=21)
    assert np.abs(seven - many).max() < 0.01 * many.std()


def tilted_average(lens, k, sigma_mrad):
    """Return the contrast of a grating averaged over 2-D illumination angles, one by one."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(21)
    tilt = nodes * sigma_mrad * 1e-3 / LAMBDA
    qy, qx = np.meshgrid(tilt, tilt, indexing="ij")
    direct = chi(lens, qx, qy, ENERGY)
    plus = 1j * np.exp(1j * (direct - chi(lens, qx + k, qy, ENERGY)))
    minus = 1j * np.exp(1j * (direct - chi(lens, qx - k, qy, ENERGY)))
    weights = np.outer(weights, weights) / weights.sum() ** 2
    return complex(np.sum(weights * (plus + minus.conj()) / 2))


def test_spatial_envelope_is_the_average_over_tilted_illumination():
    """With defocus and astigmatism chi is quadratic: envelope and explicit average are the same."""
    lens = {"C10": -900.0, "C12": 300.0, "phi12": 0.6}
    for index in (9, 14):
        k = index / EXTENT[1]
        expected = tilted_average(lens, k, 0.5)
        seen = contrast_of(image(grating(index, 1e-3), (4, 80), lens, convergence_mrad=0.5), index)
        assert abs(expected) < 0.9 * abs(np.sin(chi(lens, k, 0.0, ENERGY)))  # an envelope is seen
        assert seen / 2e-3 == pytest.approx(expected, abs=1e-5)


def test_spatial_envelope_is_close_with_spherical_aberration():
    """With Cs it neglects how the slope varies over the source: below 0.015 at 0.15 mrad."""
    lens = {"C10": -900.0, "C30": 1.2e7, "C12": 80.0, "phi12": 0.6}
    for index in range(4, 18):
        expected = tilted_average(lens, index / EXTENT[1], 0.15)
        seen = contrast_of(image(grating(index, 1e-3), (4, 80), lens, convergence_mrad=0.15), index)
        assert seen / 2e-3 == pytest.approx(expected, abs=0.015)


def test_focal_spread_and_convergence_act_together():
    """Each defocus has its own spatial envelope: the product of the two envelopes is 14 % off.

    Against the integral of sin(chi) exp(-sigma_k^2 |grad chi|^2 / 2) over 20 001 defoci.
    """
    index, spread, sigma_mrad = 12, 120.0, 2.0
    k, sigma_k = index / EXTENT[1], sigma_mrad * 1e-3 / LAMBDA
    optics = {"focal_spread_A": spread, "convergence_mrad": sigma_mrad}
    lens = {"C10": -150.0}
    foci = np.linspace(-6, 6, 20_001)
    weights = np.exp(-(foci**2) / 2)
    defocus = -150.0 + spread * foci
    slope = 2 * np.pi * LAMBDA * defocus * k
    transfer = np.sin(np.pi * LAMBDA * defocus * k**2) * np.exp(-((sigma_k * slope) ** 2) / 2)
    expected = np.sum(weights * transfer) / weights.sum()
    seen = contrast_of(image(grating(index, 1e-3), (4, 80), lens, **optics), index).real / 2e-3
    product = contrast_transfer(k, energy_kev=ENERGY, coefficients=lens, **optics)
    assert abs(product / expected - 1) > 0.1
    assert seen == pytest.approx(expected, rel=1e-4)


def test_transfer_stops_at_the_aperture_and_follows_the_azimuth():
    """Zero beyond the edge; astigmatism makes the transfer depend on direction."""
    k = np.linspace(0, 1, 101)
    lens = {"C10": -500.0, "C12": 100.0}
    cut = contrast_transfer(k, energy_kev=ENERGY, coefficients=lens, aperture_mrad=10.0)
    assert np.all(cut[k * LAMBDA > 10e-3] == 0)
    along_x = contrast_transfer(k, energy_kev=ENERGY, coefficients=lens)
    along_y = contrast_transfer(k, energy_kev=ENERGY, coefficients=lens, azimuth_rad=np.pi / 2)
    np.testing.assert_allclose(along_x, np.sin(np.pi * LAMBDA * -400.0 * k**2), atol=1e-12)
    np.testing.assert_allclose(along_y, np.sin(np.pi * LAMBDA * -600.0 * k**2), atol=1e-12)
    with pytest.raises(ValueError, match="C21 is odd"):
        contrast_transfer(k, energy_kev=ENERGY, coefficients={"C21": 1e4})


# --- strong objects, orientation and sign


def test_gratings_image_themselves_at_the_talbot_distance():
    """Defocused by 2 d^2 / lambda a grating is the same, by half of it shifted by half a period.

    A strong phase and amplitude grating with a sharp edge, d = 5 Å, eight periods.
    """
    period, n = 5.0, 128
    x = np.arange(n) / n
    slit = np.where((8 * x) % 1 < 0.3, 1.0, 0.2 * np.exp(0.9j))
    wave = np.fft.fft(slit)[None, :] / n
    talbot = 2 * period**2 / LAMBDA
    in_focus = image(wave, (2, 256))
    np.testing.assert_allclose(image(wave, (2, 256), {"C10": talbot}), in_focus, atol=2e-6)
    half = image(wave, (2, 256), {"C10": talbot / 2})
    np.testing.assert_allclose(half, np.roll(in_focus, 16, axis=1), atol=2e-6)
    quarter = image(wave, (2, 256), {"C10": talbot / 4})
    assert np.abs(quarter - in_focus).max() > 0.2


def test_defocus_is_propagation_along_the_beam():
    """C10 = dz is free propagation by dz, exp(-i pi lambda dz k^2): positive looks downstream."""
    wave = random_wave((20, 24), 7)
    ky, kx = frequencies(wave.shape)
    propagated = wave * np.exp(-1j * np.pi * LAMBDA * 300.0 * (kx**2 + ky**2))
    np.testing.assert_allclose(
        image(wave, (50, 50), {"C10": 300.0}), direct_sum(propagated, (50, 50)), atol=2e-6
    )


def test_atoms_are_dark_in_underfocus():
    """A weak phase hill (positive potential) is dark at negative and bright at positive C10."""
    ky, kx = frequencies((32, 32))
    hill = 1e-3j * np.exp(-((np.pi * 1.5) ** 2) * (kx**2 + ky**2))  # at the corner pixel (0, 0)
    hill[0, 0] = 1
    assert image(hill, (64, 64), {"C10": -400.0})[0, 0] < 0.999
    assert image(hill, (64, 64), {"C10": 400.0})[0, 0] > 1.001


def spot_moments(coefficients):
    """Image a small Gaussian spot in the middle; return its centroid and variances (y, x) in Å."""
    extent, shape = (60.0, 80.0), (90, 120)
    ky, kx = frequencies(shape, extent)
    centre = np.exp(-2j * np.pi * (ky * 30.0 + kx * 40.0))
    wave = np.exp(-(np.pi**2) * (kx**2 + ky**2) * 1.8) * centre
    wave /= np.sqrt(np.sum(np.abs(wave) ** 2))
    seen = image(wave, (128, 160), coefficients, extent).astype(np.float64)
    seen /= seen.sum()
    y = np.arange(128)[:, None] * 60.0 / 128 - 30.0
    x = np.arange(160)[None, :] * 80.0 / 160 - 40.0
    centroid = np.array([(seen * y).sum(), (seen * x).sum()])
    variances = np.array([(seen * y**2).sum(), (seen * x**2).sum()]) - centroid**2
    slope_x, slope_y = chi_gradient(coefficients, kx, ky, ENERGY)
    weight = np.abs(wave) ** 2
    predicted = np.array([(weight * slope_y).sum(), (weight * slope_x).sum()]) / (2 * np.pi)
    return centroid, variances, predicted


@pytest.mark.parametrize(
    ("azimuth", "direction"),
    [(0.0, (0, 1)), (np.pi / 2, (1, 0)), (0.6, (np.sin(0.6), np.cos(0.6)))],
)
def test_coma_moves_a_spot_along_its_azimuth(azimuth, direction):
    """The tail of positive C21 points to phi21, from +x (right) towards +y (down).

    The centroid is the mean of grad chi / 2 pi over the beams (Ehrenfest's theorem), to 1e-3 Å.
    """
    centroid, _, predicted = spot_moments({"C21": 6e4, "phi21": azimuth})
    np.testing.assert_allclose(centroid, predicted, atol=1e-3)
    assert np.hypot(*centroid) > 0.5
    np.testing.assert_allclose(centroid / np.hypot(*centroid), direction, atol=2e-3)


def test_astigmatism_spreads_a_spot_across_its_azimuth():
    """C10 = -C12 is in focus along phi12 = 0, x, and out of focus by -2 C12 along y."""
    _, (vy_focus, vx_focus), _ = spot_moments({})
    _, (vy, vx), _ = spot_moments({"C10": -300.0, "C12": 300.0})
    assert vx == pytest.approx(vx_focus, rel=1e-3)
    assert vy > 3 * vy_focus
    _, (vy, vx), _ = spot_moments({"C10": -300.0, "C12": 300.0, "phi12": np.pi / 2})
    assert vy == pytest.approx(vy_focus, rel=1e-3)
    assert vx > 3 * vx_focus


def test_a_linear_phase_shifts_the_image_and_nothing_else():
    """exp(-2 pi i k r0) on the exit wave moves the image by r0: here 3 pixels down, 5 right."""
    wave = random_wave((20, 24), 8)
    ky, kx = frequencies(wave.shape)
    pixel_y, pixel_x = EXTENT[0] / 60, EXTENT[1] / 50
    moved = wave * np.exp(-2j * np.pi * (ky * 3 * pixel_y + kx * 5 * pixel_x))
    optics = {"aperture_mrad": 9.0, "focal_spread_A": 40.0, "convergence_mrad": 0.2}
    np.testing.assert_allclose(
        image(moved, (60, 50), LENS, **optics),
        np.roll(image(wave, (60, 50), LENS, **optics), (3, 5), axis=(0, 1)),
        atol=2e-6,
    )


# --- helpers


@pytest.mark.parametrize("old", [(12, 15), (11, 16)])
@pytest.mark.parametrize("new", [(24, 30), (33, 20), (12, 31), (17, 16)])
def test_resampling_finer_and_back_returns_the_image(old, new):
    """Also with an even grid's edge frequency; the mean is kept."""
    original = np.random.default_rng(9).standard_normal(old)
    finer = fourier_resample(original, new)
    assert finer.shape == new
    assert finer.dtype == np.float64
    assert finer.mean() == pytest.approx(original.mean(), abs=1e-14)
    np.testing.assert_allclose(fourier_resample(finer, old), original, atol=1e-13)


def test_resampling_is_exact_for_waves_that_both_grids_hold():
    """A cosine in both directions is the same cosine on the new pixels, in float32 too."""

    def pattern(ny, nx):
        y, x = np.arange(ny)[:, None] / ny, np.arange(nx)[None, :] / nx
        return 2 + np.cos(2 * np.pi * (3 * x - 2 * y) + 0.4)

    for new in ((7, 9), (40, 31)):
        np.testing.assert_allclose(
            fourier_resample(pattern(16, 20), new), pattern(*new), atol=1e-13
        )
    assert fourier_resample(pattern(16, 20).astype(np.float32), (7, 9)).dtype == np.float32


def test_focal_spread_of_a_known_microscope():
    """Cc 2.7 mm, dE/E 2.66e-6 at 300 kV, dI/I 0.33e-6, dV/V 0.8e-6: 77.1 Å (parakeet's defaults).

    Its envelope is 0.869 at 3 Å and 0.492 at 2 Å.
    """
    spread = focal_spread(2.7e7, 300.0, 2.66e-6 * 300e3, 0.8e-6, 0.33e-6)
    assert spread == pytest.approx(77.1, abs=0.1)
    k = np.array([1 / 3, 1 / 2])
    quarter_wave = [{"C10": 0.5 / (wavelength(300.0) * q**2)} for q in k]
    envelope = [
        contrast_transfer(q, energy_kev=300.0, coefficients=lens, focal_spread_A=spread)
        for q, lens in zip(k, quarter_wave, strict=True)
    ]
    np.testing.assert_allclose(envelope, [0.869, 0.492], atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"aperture_mrad": 0.0}, "aperture_mrad must be positive"),
        ({"focal_spread_A": -1.0}, "focal_spread_A must be zero or positive"),
        ({"convergence_mrad": np.nan}, "convergence_mrad must be zero or positive"),
        ({"focal_points": 1}, "focal_points must lie between"),
        ({"extent": (0.0, 10.0)}, "extent_A must be positive"),
        ({"coefficients": {"Cs": 1.0}}, "unknown aberrations Cs"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    """One line says what is wrong."""
    with pytest.raises(ValueError, match=message):
        image(random_wave((4, 4), 10), (8, 8), **change)


def test_arrays_of_the_wrong_kind_are_refused():
    """Waves must be finite and two-dimensional, images real, shapes positive."""
    with pytest.raises(ValueError, match="two axes"):
        image(np.ones(4, dtype=complex), (8, 8))
    with pytest.raises(ValueError, match="must be finite"):
        image(np.full((4, 4), np.nan + 0j), (8, 8))
    with pytest.raises(ValueError, match="shape must be positive"):
        image(random_wave((4, 4), 10), (0, 8))
    with pytest.raises(ValueError, match="real two-dimensional"):
        fourier_resample(np.ones((4, 4), dtype=complex), (8, 8))
    with pytest.raises(ValueError, match="shape must be positive"):
        fourier_resample(np.ones((4, 4)), (8, 0))
    with pytest.raises(ValueError, match="zero or positive"):
        focal_spread(-1.0, 300.0, 0.8)
    with pytest.raises(ValueError, match="energy_kev"):
        focal_spread(1e7, 0.0, 0.8)

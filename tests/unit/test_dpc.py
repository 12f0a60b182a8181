"""Differential phase contrast against Gaussian potentials, shifted disks and spectra of noise."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from scipy import constants

from nanophantom.analysis import dpc
from nanophantom.simcore.electrons.constants import interaction_constant, wavelength

FloatArray = npt.NDArray[np.float64]
KEV = 200.0


def gaussian_field(n: int, step: float, width: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return V = exp(-r^2 / 2 w^2) V nm and its gradient, a bit off the centre."""
    axis = (np.arange(n) - n / 2) * step
    y, x = axis[:, None] + 0.3 * step, axis[None, :] - 0.2 * step
    v = np.exp(-0.5 * (x**2 + y**2) / width**2)
    return v, -x / width**2 * v, -y / width**2 * v


def mrad_per_v(kev: float) -> float:
    """Deflection in mrad of a gradient of 1 V nm / nm: lambda sigma / 2 pi."""
    return 1e3 * wavelength(kev) * interaction_constant(kev) / (2 * np.pi)


def test_centre_of_mass_of_a_weak_phase_object_is_the_gradient_blurred_by_the_probe() -> None:
    """<k> = sigma / 2 pi grad V convolved with |p|^2: for Gaussians in closed form, sign and all.

    Waves are made here: psi = p exp(i sigma V), its diffraction pattern by FFT.
    """
    n, step, w, s = 64, 0.01, 0.05, 0.04  # nm
    axis = (np.arange(n) - n // 2) * step
    x, y = axis[None, :], axis[:, None]
    sigma = 10 * interaction_constant(KEV)  # rad / V nm
    patterns, expected = [], []
    for px, py in ((0.03, 0.0), (0.0, -0.05), (0.04, 0.02)):
        probe = np.exp(-0.25 * ((x - px) ** 2 + (y - py) ** 2) / s**2)  # |p|^2 has the width s
        exit_wave = probe * np.exp(1j * sigma * np.exp(-0.5 * (x**2 + y**2) / w**2))
        patterns.append(np.abs(np.fft.fftshift(np.fft.fft2(exit_wave))) ** 2)
        wide2 = w**2 + s**2
        slope = -(w**2 / wide2) * np.exp(-0.5 * (px**2 + py**2) / wide2) / wide2
        expected.append((px * slope, py * slope))
    pixel = 1e3 * 0.1 * wavelength(KEV) / (n * step)
    cx, cy = dpc.centre_of_mass(np.array(patterns), pixel, centre_px=(n // 2, n // 2))
    truth = np.array(expected) * mrad_per_v(KEV)
    np.testing.assert_allclose(np.c_[cx, cy], truth, rtol=1e-9, atol=1e-9 * np.abs(truth).max())
    assert cx[0] < 0  # right of the nucleus the electron is drawn to the left


def test_centre_of_mass_of_counts_about_a_given_and_about_the_mean_centre() -> None:
    data = np.zeros((2, 3, 8, 10), np.uint16)
    data[..., 4, 5] = 3
    data[1, 2, 4, 5] = 0
    data[1, 2, 6, 4] = 7
    x, y = dpc.centre_of_mass(data, 0.5, centre_px=(4, 5))
    assert x[1, 2] == -0.5
    assert y[1, 2] == 1.0
    assert np.sum(np.abs(x)) == 0.5
    x, _ = dpc.centre_of_mass(data, 0.5)
    assert abs(np.sum(x * data.sum(axis=(2, 3)))) < 1e-12
    data[0, 0] = 0
    with pytest.raises(ValueError, match="1 patterns have no counts"):
        dpc.centre_of_mass(data, 0.5)
    x, _ = dpc.centre_of_mass(data, 0.5, centre_px=(4, 5), beam_counts=14.0)
    assert x[0, 0] == 0
    assert x[1, 2] == pytest.approx(-0.25)


def segment_signals(detector: dpc.SegmentedDetector, a: float, dx: float, dy: float) -> FloatArray:
    """Integrate a uniform disk, shifted, over the segments by fine polar quadrature."""
    edges = np.asarray(detector.ring_edges_mrad)
    n_azimuth = 7200
    azimuth = 2 * np.pi * (np.arange(n_azimuth) + 0.5) / n_azimuth
    # A ray from the axis leaves the shifted disk at this radius (the axis is inside).
    along = dx * np.cos(azimuth) + dy * np.sin(azimuth)
    across = dx * np.sin(azimuth) - dy * np.cos(azimuth)
    rim = along + np.sqrt(a**2 - across**2)
    sector = np.floor(
        (azimuth - np.deg2rad(detector.rotation_deg)) % (2 * np.pi) * detector.n_sectors / 2 / np.pi
    ).astype(int)
    signals = []
    for r1, r2 in pairwise(edges):
        lit = 0.5 * np.maximum(np.minimum(rim, r2) ** 2 - r1**2, 0)
        signals.append(np.bincount(sector, lit, detector.n_sectors))
    return np.concatenate(signals)


@pytest.mark.parametrize(
    "detector",
    [
        dpc.SegmentedDetector((0, 40), 4, 0),
        dpc.SegmentedDetector((5, 40), 4, -45),
        dpc.SegmentedDetector((0, 12, 40), 4, 20),
        dpc.SegmentedDetector((0, 40), 8, 10),
        dpc.SegmentedDetector((0, 10, 20, 30, 40), 4, 33),
    ],
)
def test_a_small_shift_of_a_uniform_disk_is_measured_to_first_order(
    detector: dpc.SegmentedDetector,
) -> None:
    """d is exact up to d^3: at 0.01 of the semiangle the error is below 1e-4 of the shift."""
    a, d = 25.0, 0.25
    for direction in (0.0, 1.0, 2.5, 4.0):
        dx, dy = d * np.cos(direction), d * np.sin(direction)
        x, y = detector.centre_of_mass(segment_signals(detector, a, dx, dy), a)
        assert np.hypot(x - dx, y - dy) < 2e-4 * d
    x, y = detector.centre_of_mass(segment_signals(detector, a, 0, 0), a)
    assert np.hypot(x, y) < 1e-9


def test_quadrants_have_the_known_factor_pi_over_four() -> None:
    """x = pi a / 4 (right half - left half) / sum."""
    signals = np.array([1.0, 2.0, 3.0, 5.0])  # right-down, left-down, left-up, right-up
    x, y = dpc.SegmentedDetector((0, 30), 4, 0).centre_of_mass(signals, 20.0)
    assert float(x) == pytest.approx(np.pi * 20 / 4 * (1 + 5 - 2 - 3) / 11)
    assert float(y) == pytest.approx(np.pi * 20 / 4 * (1 + 2 - 3 - 5) / 11)


def test_a_disk_within_the_inner_ring_or_beyond_the_detector_is_refused() -> None:
    with pytest.raises(ValueError, match="must lie on the detector"):
        dpc.SegmentedDetector((0, 15), 4).vectors_mrad(20)
    with pytest.raises(ValueError, match="must lie on the detector"):
        dpc.SegmentedDetector((25, 40), 4).vectors_mrad(20)


def band_limited(shape: tuple[int, int], step: float, seed: int) -> tuple[FloatArray, ...]:
    """Return a random periodic image of zero mean and its exact gradient, from a few waves."""
    rng = np.random.default_rng(seed)
    ny, nx = shape
    y, x = np.arange(ny)[:, None] * step, np.arange(nx)[None, :] * step
    f, gx, gy = (np.zeros(shape) for _ in range(3))
    for _ in range(12):
        ky = rng.integers(-ny // 2 + 1, ny // 2) / (ny * step)
        kx = rng.integers(1, nx // 2) / (nx * step)
        turn = 2 * np.pi * (kx * x + ky * y) + rng.uniform(0, 6)
        f += np.cos(turn)
        gx -= 2 * np.pi * kx * np.sin(turn)
        gy -= 2 * np.pi * ky * np.sin(turn)
    return f, gx, gy


@pytest.mark.parametrize("shape", [(48, 64), (45, 32), (33, 35)])
def test_integration_of_a_periodic_gradient_is_exact(shape: tuple[int, int]) -> None:
    f, gx, gy = band_limited(shape, 0.02, 3)
    assert np.max(np.abs(dpc.integrate(gx, gy, 0.02, periodic=True) - f)) < 1e-10


def test_constant_gradient_becomes_a_plane_where_the_field_is_not_periodic() -> None:
    plane = dpc.integrate(np.full((20, 30), 1.5), np.full((20, 30), -0.7), 0.1)
    y, x = np.arange(20)[:, None] * 0.1, np.arange(30)[None, :] * 0.1
    truth = 1.5 * x - 0.7 * y
    np.testing.assert_allclose(plane, truth - truth.mean(), atol=1e-12)


def test_gaussian_potential_comes_back_in_v_nm_and_its_charge_in_e_per_nm2() -> None:
    """rho = -eps0 laplace V = eps0 V (2 / w^2 - r^2 / w^4)."""
    n, step, w = 96, 0.01, 0.06
    v, gx, gy = gaussian_field(n, step, w)
    x, y = gx * mrad_per_v(KEV), gy * mrad_per_v(KEV)
    for periodic in (True, False):
        found = dpc.projected_potential_v_nm(x, y, step, KEV, periodic=periodic)
        assert np.max(np.abs(found - (v - v.mean()))) < 1e-6
    angle = dpc.phase(x, y, step, KEV)
    assert np.ptp(angle) == pytest.approx(np.ptp(v) * 10 * interaction_constant(KEV), rel=1e-6)
    r2 = -2 * w**2 * np.log(v)
    eps0 = constants.epsilon_0 / constants.e * 1e-9
    truth = eps0 * v * (2 / w**2 - r2 / w**4)
    rho = dpc.charge_density_e_per_nm2(x, y, step, KEV, periodic=True)
    assert np.max(np.abs(rho - truth)) < 1e-5 * truth.max()
    coarse = dpc.charge_density_e_per_nm2(x, y, step, KEV)
    assert np.max(np.abs(coarse - truth)) < 0.03 * truth.max()  # (step / w)^2 = 0.028


def test_potential_cut_by_the_image_needs_the_mirrored_extension() -> None:
    """A Gaussian on the edge: mirrored, right within 1 %; taken as periodic, wrong by 10 %."""
    v, gx, gy = (a[10:70, 48:] for a in gaussian_field(96, 0.01, 0.12))
    truth = v - v.mean()
    mirrored = dpc.integrate(gx, gy, 0.01, periodic=False)
    wrapped = dpc.integrate(gx, gy, 0.01, periodic=True)
    assert np.max(np.abs(mirrored - truth)) < 0.01
    assert np.max(np.abs(wrapped - truth)) > 0.1


def test_white_noise_is_amplified_as_one_over_k_and_the_high_pass_holds_it_down() -> None:
    """Power s^2 / (2 pi k)^2 per mode, times (1 - exp(-k^2 / 2 kc^2))^2."""
    n, step, s, kc = 64, 0.05, 0.3, 1.0
    rng = np.random.default_rng(4)
    k = np.hypot(np.fft.fftfreq(n, step)[:, None], np.fft.fftfreq(n, step)[None, :])
    power, held = np.zeros((n, n)), np.zeros((n, n))
    repeats = 60
    for _ in range(repeats):
        x, y = rng.normal(0, s, (2, n, n))
        power += np.abs(np.fft.fft2(dpc.integrate(x, y, step, True))) ** 2 / repeats
        held += np.abs(np.fft.fft2(dpc.integrate(x, y, step, True, kc))) ** 2 / repeats
    for low, high in ((0.2, 0.7), (0.7, 2.0), (2.0, 5.0), (5.0, 9.0)):
        ring = (k > low) & (k < high)
        expected = n**2 * s**2 / (2 * np.pi * k[ring]) ** 2
        tolerance = 4 / np.sqrt(0.5 * repeats * ring.sum())
        assert np.mean(power[ring] / expected) == pytest.approx(1, abs=tolerance)
        damped = expected * (1 - np.exp(-(k[ring] ** 2) / (2 * kc**2))) ** 2
        assert np.mean(held[ring] / damped) == pytest.approx(1, abs=tolerance)


@pytest.mark.parametrize("angle", [-170.0, -60.0, 12.5, 100.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_rotation_and_handedness_of_the_detector_come_from_the_curl(
    angle: float, mirrored: bool
) -> None:
    rng = np.random.default_rng(6)
    v = np.zeros((80, 80))
    gx, gy = np.zeros((80, 80)), np.zeros((80, 80))
    for cy in range(8, 80, 16):
        for cx in range(8, 80, 16):
            y, x = np.arange(80)[:, None] - cy - 0.2, np.arange(80)[None, :] - cx + 0.3
            v = np.exp(-0.5 * (x**2 + y**2) / 3.0**2)
            gx, gy = gx - x / 9 * v, gy - y / 9 * v
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    detector_x, detector_y = c * gx + s * gy, -s * gx + c * gy
    if mirrored:
        detector_y = -detector_y
    noise = 0.3 * np.std(gx)
    detector_x = detector_x + rng.normal(0, noise, gx.shape)
    detector_y = detector_y + rng.normal(0, noise, gx.shape)
    found = dpc.scan_rotation(detector_x, detector_y)
    assert found.mirrored == mirrored
    assert abs((found.rotation_deg - angle + 180) % 360 - 180) < 1.0
    x, y = found.apply(detector_x, detector_y)
    assert np.std(x - gx) < 1.2 * noise


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        dpc.integrate(np.zeros((8, 8)), np.zeros((8, 9)), 0.1)
    with pytest.raises(ValueError, match="step_nm must be a positive"):
        dpc.integrate(np.zeros((8, 8)), np.zeros((8, 8)), 0.0)
    with pytest.raises(ValueError, match="ring_edges_mrad must rise"):
        dpc.SegmentedDetector((10, 5))
    with pytest.raises(ValueError, match="the same everywhere"):
        dpc.scan_rotation(np.ones((8, 8)), np.ones((8, 8)))

"""Plasmons: free-electron numbers, sum rules, and plural scattering."""

import numpy as np
import pytest
from scipy.integrate import quad

from nanophantom.simcore.electrons.inelastic.mean_free_path import loss_fraction
from nanophantom.simcore.electrons.inelastic.plasmon import (
    angular_distribution,
    characteristic_angle,
    draw_angles,
    drude_loss_function,
    free_electron_plasmon_energy,
    plasmon_mean_free_path,
    plural_scattering,
    single_scattering,
)


@pytest.mark.parametrize(
    ("z", "density", "mass", "expected"),
    [
        # 28.816 sqrt(z rho / A) eV, worked out by hand: Na, Mg, Al, Si, Be, diamond
        (1, 0.97, 22.990, 5.92),
        (2, 1.738, 24.305, 10.90),
        (3, 2.70, 26.982, 15.79),
        (4, 2.33, 28.085, 16.60),
        (2, 1.848, 9.0122, 18.45),
        (4, 3.52, 12.011, 31.20),
    ],
)
def test_free_electron_plasmon_energies(z, density, mass, expected):
    """Six elements within 0.5 %."""
    assert free_electron_plasmon_energy(z, density, mass) == pytest.approx(expected, rel=5e-3)


def test_aluminium_mean_free_path_equals_egerton():
    """100 kV, E_p = 15.0 eV, cutoff 7.7 mrad: theta_E 0.0817 mrad, 119.2 nm (Egerton: 119 nm)."""
    assert characteristic_angle(15.0, 100) * 1e3 == pytest.approx(0.0817, abs=5e-5)
    assert plasmon_mean_free_path(15.0, 100, 7.7e-3) / 10 == pytest.approx(119.2, abs=0.05)


def test_angular_distribution_is_a_probability():
    """Its integral over the solid angle is 1, half of it inside sqrt(theta_E theta_c)."""
    theta_E, cutoff = 1e-4, 1e-2

    def ring(theta):
        return 2 * np.pi * theta * angular_distribution(theta, theta_E, cutoff)

    assert quad(ring, 0, cutoff, points=[theta_E], limit=200)[0] == pytest.approx(1, rel=1e-7)
    median = theta_E * np.sqrt(np.sqrt(1 + (cutoff / theta_E) ** 2) - 1)
    assert quad(ring, 0, median, points=[theta_E])[0] == pytest.approx(0.5, rel=1e-7)
    assert angular_distribution(1.01 * cutoff, theta_E, cutoff) == 0


def test_drawn_angles_follow_the_distribution():
    """Largest distance of the two cumulative curves (Kolmogorov): below 1.63 / sqrt(n), p = 1 %."""
    theta_E, cutoff, n = 1e-4, 1e-2, 20000
    angles = np.sort(draw_angles(n, theta_E, cutoff, np.random.default_rng(7)))
    cumulative = np.log1p((angles / theta_E) ** 2) / np.log1p((cutoff / theta_E) ** 2)
    assert np.abs(cumulative - (np.arange(n) + 0.5) / n).max() < 1.63 / np.sqrt(n)


def test_drude_sum_rule_and_width():
    """Integral of E Im(-1 / eps) is pi E_p^2 / 2, and the full width at half maximum is W."""
    E_p, W = 15.0, 0.5

    def weighted(E):
        return E * drude_loss_function(E, E_p, W)

    area = quad(weighted, 0, 30, points=[E_p], limit=500)[0] + quad(weighted, 30, np.inf)[0]
    assert area == pytest.approx(np.pi * E_p**2 / 2, rel=1e-6)
    assert drude_loss_function(E_p, E_p, W) == pytest.approx(E_p / W)
    for side in (-1, 1):
        half = drude_loss_function(E_p + side * W / 2, E_p, W) * W / E_p
        assert half == pytest.approx(0.5, abs=0.02)


def plural(thickness):
    """Return axis, sharp zero loss and spectrum of an aluminium-like foil."""
    E = np.arange(-20, 400, 0.1)
    zero = np.exp(-0.5 * (E / 0.4) ** 2)
    zero /= zero.sum()
    single = single_scattering(E, 15.0, 0.5, 200, 10e-3)
    return E, zero, plural_scattering(zero, single, thickness, E)


@pytest.mark.parametrize("thickness", [0.0, 0.3, 1.5])
def test_plural_scattering_orders_are_poisson(thickness):
    """Areas between the peaks are the Poisson fractions; nothing is lost on a long axis."""
    E, _, spectrum = plural(thickness)
    assert spectrum.sum() == pytest.approx(1, abs=2e-4 + 1e-3 * thickness)
    zero_loss = spectrum[E < 5].sum()
    expected = loss_fraction(0, thickness, 1.0)
    assert zero_loss == pytest.approx(expected, rel=4e-3)  # the tail of the plasmon below 5 eV
    mean = spectrum @ E / spectrum.sum()
    _, _, once = plural(1e-6)
    E_one = (once[E > 5] @ E[E > 5]) / once[E > 5].sum()
    assert mean == pytest.approx(thickness * E_one, rel=0.01, abs=1e-9)


def test_second_plasmon_is_the_first_convolved_with_itself():
    """To second order in t: half of s * s, by direct convolution."""
    E = np.arange(0, 60, 0.1)
    single = single_scattering(E, 15.0, 2.0, 200, 10e-3)
    sharp = np.zeros_like(E)
    sharp[0] = 1.0
    t = 1e-3
    spectrum = plural_scattering(sharp, single, t, E)
    first = t * single * 0.1
    second = np.convolve(first, first)[: E.size] / 2
    remainder = spectrum * np.exp(t) - sharp - first
    np.testing.assert_allclose(remainder, second, atol=1e-4 * second.max() + t**3)
    np.testing.assert_allclose(remainder[300], second[300], rtol=2e-3)


def test_losses_beyond_the_axis_do_not_come_back():
    """The spectrum on a short axis is the beginning of the one on a long axis (no wrap)."""
    long = np.arange(0, 300, 0.2)
    short = long[: long.size // 3]
    single = single_scattering(long, 20.0, 4.0, 200, 10e-3)
    sharp = (long == 0).astype(float)
    whole = plural_scattering(sharp, single, 3.0, long)
    part = plural_scattering(sharp[: short.size], single[: short.size], 3.0, short)
    np.testing.assert_allclose(part, whole[: short.size], atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: free_electron_plasmon_energy(0, 1, 1), "valence_electrons"),
        (lambda: plasmon_mean_free_path(15.0, 100, 1e-5), "cutoff_rad"),
        (lambda: angular_distribution(0.0, 0.0, 1.0), "characteristic_rad"),
        (lambda: drude_loss_function(1.0, 15.0, 0.0), "width_ev"),
        (lambda: single_scattering([0.0, 1.0, 3.0], 15, 1, 100, 0.01), "equidistant"),
        (lambda: plural_scattering([1.0, 0], [0, 1.0], 1, [0.5, 1.5]), "0 among"),
        (lambda: plural_scattering([1.0, 0], [0, 1.0], -1, [0.0, 1.0]), "thickness_over_mfp"),
    ],
)
def test_refusals_name_the_argument(call, message):
    """What can't be is refused with the argument's name."""
    with pytest.raises(ValueError, match=message):
        call()

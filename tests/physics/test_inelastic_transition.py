"""Transition potentials and ionization densities: they hold the cross sections, to the digit."""

import numpy as np
import pytest
from scipy.special import j0

from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.inelastic.hydrogenic import (
    double_differential_cross_section,
    energy_differential_cross_section,
    energy_nodes,
    partial_cross_section,
    total_cross_section,
)
from nanophantom.simcore.electrons.inelastic.ionization import bote_salvat
from nanophantom.simcore.electrons.inelastic.shells import atomic_shell
from nanophantom.simcore.electrons.inelastic.transition import (
    IonizationDensity,
    TransitionPotential,
    frequency,
    frequency_differential_cross_section,
    longitudinal_frequency,
)

CASES = [(6, "K", 100, 0.010, 50), (8, "K", 200, 0.010, 100), (26, "L", 300, 0.020, 100)]


def frequencies(pixels, step):
    f = np.fft.fftfreq(pixels, step)
    return np.meshgrid(f, f)


def test_frequency_is_angle_over_wavelength():
    """k = theta / lambda for small angles and losses, and k_z = E / (h v)."""
    k = frequency(1e-3, 5e-3, 200.0)
    assert k == pytest.approx(5e-3 / wavelength(200.0), rel=1e-5)
    # theta_E / lambda with theta_E = E / (gamma m v^2): 500 eV at 200 kV, v = 0.69531 c
    hc_ev_A = 12398.41984
    assert longitudinal_frequency(500.0, 200.0) == pytest.approx(500 / hc_ev_A / 0.69531, rel=2e-3)


def test_density_in_frequency_is_the_one_in_angle():
    """d(sigma) / d2k = lambda^2 d(sigma) / dOmega at small angles (dOmega = lambda^2 d2k)."""
    shell = atomic_shell(8, "K")
    angle, loss = 3e-3, 600.0
    in_angle = double_differential_cross_section(shell, loss, angle, 200)
    k = frequency(loss, angle, 200)
    in_frequency = frequency_differential_cross_section(shell, loss, k, 200)
    # lambda0 lambda1 / cos(theta / 2)^... : equal up to the wave number's change, E / (2 E0)
    assert in_frequency == pytest.approx(in_angle * wavelength(200.0) ** 2, rel=3e-3)


@pytest.mark.parametrize(("Z", "name", "kv", "beta", "window"), CASES)
def test_plane_wave_loses_the_partial_cross_section(Z, name, kv, beta, window):
    """A plane wave of 1 electron / Å^2: intensity of all channels inside beta = sigma(beta, Delta).

    On a grid of 150 Å, as a multislice would sum it: within 1 % (measured: 0.02 %).
    """
    potential = TransitionPotential(atomic_shell(Z, name), kv, window)
    length, pixels = 150.0, 512
    kx, ky = frequencies(pixels, length / pixels)
    channels = potential.coefficients(kx, ky)
    inside = np.hypot(kx, ky) <= frequency(potential.mean_loss_ev, beta, kv)
    found = np.sum(np.abs(channels[:, inside]) ** 2) / length**2
    expected = partial_cross_section(potential.shell, kv, beta, window)
    assert found == pytest.approx(expected, rel=0.01)
    # the same in real space: psi_n(r) = H_n(r) for psi = 1
    waves = np.fft.ifft2(channels) / (length / pixels) ** 2
    everything = np.sum(np.abs(channels) ** 2) / length**2
    area = (length / pixels) ** 2
    assert np.sum(np.abs(waves) ** 2) * area == pytest.approx(everything, rel=1e-12)


def test_channels_sum_to_the_differential_cross_section():
    """sum_n |H_n(k)|^2 = d(sigma) / d2k, wherever k points and wherever the atom is."""
    potential = TransitionPotential(atomic_shell(22, "L3"), 200, 60)
    kx, ky = frequencies(32, 0.3)
    channels = potential.coefficients(kx, ky, 1.234, -0.77)
    total = np.sum(np.abs(channels) ** 2, axis=0)
    np.testing.assert_allclose(total, potential.squared(np.hypot(kx, ky)), rtol=1e-12)
    loss, weights = energy_nodes(
        potential.shell, potential.shell.onset_ev, potential.shell.onset_ev + 60
    )
    exact = frequency_differential_cross_section(
        potential.shell, loss[:, None, None], np.hypot(kx, ky), 200
    )
    np.testing.assert_allclose(total, np.einsum("e,eyx->yx", weights, exact), rtol=1e-5)


def test_channels_have_the_symmetry_of_their_m():
    """m = 0 is round; m = +1 and -1 vanish on the axis and turn their phase once around it."""
    potential = TransitionPotential(atomic_shell(6, "K"), 100, 50)
    phi = np.linspace(0, 2 * np.pi, 9)[:-1]
    minus, zero, plus = potential.coefficients(0.3 * np.cos(phi), 0.3 * np.sin(phi))
    np.testing.assert_allclose(zero, zero[0].real, rtol=1e-12)
    np.testing.assert_allclose(plus / plus[0], np.exp(1j * phi), atol=1e-12)
    np.testing.assert_allclose(minus / minus[0], np.exp(-1j * phi), atol=1e-12)
    np.testing.assert_allclose(np.abs(plus), np.abs(minus), rtol=1e-12)
    on_axis = potential.coefficients(0.0, 0.0)
    assert on_axis[0] == on_axis[2] == 0
    assert abs(on_axis[1]) > 0


def test_position_is_a_phase():
    """An atom moved by whole pixels moves its potential by as many, to rounding."""
    potential = TransitionPotential(atomic_shell(8, "K"), 200, 50)
    kx, ky = frequencies(64, 0.25)
    still = np.fft.ifft2(potential.coefficients(kx, ky))
    moved = np.fft.ifft2(potential.coefficients(kx, ky, 5 * 0.25, -3 * 0.25))
    np.testing.assert_allclose(
        moved, np.roll(still, (-3, 5), axis=(1, 2)), atol=1e-12 * np.abs(still).max()
    )


def test_low_losses_reach_further_than_high_ones():
    """Delocalisation: half of the O K signal lies within a smaller radius than that of C K."""
    radii = []
    for Z in (6, 8):
        potential = TransitionPotential(atomic_shell(Z, "K"), 100, 50)
        length, pixels = 60.0, 512
        step = length / pixels
        kx, ky = frequencies(pixels, step)
        # 30 mrad, so that the rim of the grid does not matter
        aperture = np.hypot(kx, ky) < frequency(potential.mean_loss_ev, 30e-3, 100)
        density = (np.abs(np.fft.ifft2(potential.coefficients(kx, ky) * aperture)) ** 2).sum(0)
        r = np.hypot(*np.meshgrid(*[np.fft.fftfreq(pixels, 1 / length)] * 2)).ravel()
        order = np.argsort(r)
        cumulative = np.cumsum(density.ravel()[order])
        radii.append(r[order][np.searchsorted(cumulative, cumulative[-1] / 2)])
    assert 0.3 < radii[1] < radii[0] < 3


@pytest.mark.parametrize(("Z", "name", "kv"), [(8, "K", 200), (22, "L3", 200), (22, "K", 300)])
def test_ionization_density_integrates_to_the_cross_section(Z, name, kv):
    """M(k = 0) is the integral of M(r): the total by default, a published one where given."""
    shell = atomic_shell(Z, name)
    default = IonizationDensity(shell, kv)
    assert default.radial(0.0) == pytest.approx(total_cross_section(shell, kv), rel=1e-12)
    published = float(bote_salvat(Z, name, kv))
    given = IonizationDensity(shell, kv, published)
    assert given.coefficients(0.0, 0.0, 3.0, 4.0) == pytest.approx(published, rel=1e-12)
    # the autocorrelation, before it is scaled, is the integral over angles and losses
    loss, weights = energy_nodes(shell, shell.onset_ev, (kv * 1e3 + shell.onset_ev) / 2)
    longitudinal = energy_differential_cross_section(shell, loss, kv) @ weights
    assert default._table[1][0] == pytest.approx(float(longitudinal), rel=1e-3)


def test_ionization_density_is_the_sum_of_squared_potentials():
    """M(r) = sum over channels and losses of |H_n(r)|^2, on a grid, at several frequencies.

    Periodic in 6 Å (H falls with exp(-3.3 r / Å)), up to 43 1/Å, beyond the Bethe ridge of the
    largest loss at 32 1/Å: within 0.3 % of M(0).
    """
    shell, kv = atomic_shell(22, "K"), 300
    length, pixels = 6.0, 512
    kx, ky = frequencies(pixels, length / pixels)
    k2 = kx**2 + ky**2
    low = shell.onset_ev
    loss, weights = energy_nodes(shell, low, (kv * 1e3 + low) / 2, 10)
    density = np.zeros_like(k2)
    for E, weight in zip(loss, weights, strict=True):
        kz = float(longitudinal_frequency(E, kv))
        squared = frequency_differential_cross_section(shell, E, np.sqrt(k2), kv) * weight
        radial = np.sqrt(squared / (k2 + kz**2))
        for component in (kx, ky, kz):
            density += np.abs(np.fft.ifft2(radial * component)) ** 2
    reference = np.fft.fft2(density).real[0]
    found = IonizationDensity(shell, kv).radial(kx[0])
    few = slice(0, 60, 2)
    np.testing.assert_allclose(found[few] / found[0], reference[few] / reference[0], atol=0.003)


def test_ionization_density_is_narrow_and_positive():
    """M(r) of Ti K by the Hankel transform: positive, and most of it within 0.5 Å."""
    density = IonizationDensity(atomic_shell(22, "K"), 300)
    k = np.linspace(0, 60, 6001)
    M = density.radial(k)
    r = np.linspace(0, 0.5, 60)
    profile = np.array([np.trapezoid(2 * np.pi * k * M * j0(2 * np.pi * k * x), k) for x in r])
    assert np.all(profile[r < 0.1] > 0)
    inside = np.trapezoid(2 * np.pi * r * profile, r)
    assert 0.5 < inside / density.radial(0.0) < 1.01


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TransitionPotential(atomic_shell(6, "K"), 100, 0), "window_ev"),
        (lambda: TransitionPotential(atomic_shell(6, "K"), 1, 900), "window"),
        (lambda: IonizationDensity(atomic_shell(22, "K"), 4.0), "exceed the edge"),
        (lambda: IonizationDensity(atomic_shell(22, "K"), 100, -1.0), "cross_section_A2"),
    ],
)
def test_refusals_name_the_argument(call, message):
    """What can't be is refused with what would be right."""
    with pytest.raises(ValueError, match=message):
        call()

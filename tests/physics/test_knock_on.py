"""Knock-on damage: kinematics, displacement cross sections, thermal motion."""

import itertools

import numpy as np
import pytest
from ase.data import atomic_masses, atomic_numbers
from scipy import constants as codata
from scipy.integrate import quad

from nanophantom.simcore.damage.knock_on import (
    displacement_cross_section_barn,
    displacement_energy,
    maximum_transfer_eV,
    mckinley_feshbach_barn,
    removal_rate_per_s,
    rutherford_barn,
    threshold_kev,
    velocity_variance_m2_s2,
)

VOLTAGES = (60, 80, 100, 200, 300)
MASSES = {"12C": 12.0, "13C": 13.00335}
# 2 E (E + 2 m c^2) / M c^2 at the five voltages, worked out by hand from CODATA
TRANSFERS = {
    "12C": (11.616, 15.774, 20.075, 43.729, 70.961),
    "13C": (10.719, 14.557, 18.526, 40.355, 65.486),
    "Al": (5.166, 7.015, 8.928, 19.448, 31.559),
    "Si": (4.963, 6.740, 8.578, 18.684, 30.320),
    "Cu": (2.194, 2.979, 3.791, 8.258, 13.400),
    "Mo": (1.453, 1.973, 2.511, 5.469, 8.875),
    "Au": (0.708, 0.961, 1.223, 2.664, 4.323),
    "H": (138.3, 187.8, 239.0, 520.6, 844.8),
}
# material, site, E_d in eV, threshold in keV; bulk E_d of Hobbs (1987)
THRESHOLDS = (
    ("Al", "bulk", 17, 178.0),
    ("Cu", "bulk", 20, 412.6),
    ("graphite", "bulk", 30, 143.9),
    ("diamond", "bulk", 80, 330.8),
    ("Au", "bulk", 34, 1327.5),
    ("Mo", "bulk", 33, 806.5),
    ("Si", "bulk", 15, 165.3),
    ("Al", "surface", 3.42, 40.5),
    ("Cu", "surface", 3.49, 92.7),
    ("Ag", "surface", 2.95, 128.8),
    ("Au", "surface", 3.80, 269.8),
)
# element, E_d in eV, kV, McKinley-Feshbach, Rutherford in barn (Banhart 1999, equation 5)
CROSS_SECTIONS = (
    ("C", 22, 120, 3.816, 5.644),
    ("C", 22, 200, 13.235, 19.566),
    ("C", 22, 300, 15.315, 21.794),
    ("C", 30, 200, 5.521, 9.056),
    ("Al", 17, 200, 7.446, 13.417),
    ("Al", 17, 300, 23.385, 39.425),
    ("Si", 15, 200, 15.368, 26.540),
    ("Si", 15, 300, 33.730, 54.527),
    ("Al", 3.42, 80, 441.2, 520.1),
    ("Cu", 3.49, 200, 486.5, 633.4),
    ("Ag", 2.95, 200, 558.1, 790.4),
    ("Au", 3.80, 80, 0.0, 0.0),
    ("Au", 3.80, 200, 0.0, 0.0),
    ("Au", 3.80, 300, 112.0, 234.1),
)
# graphene: mass, E_d in eV, <v^2> in m^2/s^2 (Susi et al. 2016), barn at 80 ... 120 kV
GRAPHENE_VOLTAGES = (80, 90, 95, 100, 110, 120)
GRAPHENE = (
    (12.0, 21.14, 3.17e5, (4.10e-6, 5.41e-3, 6.01e-2, 0.345, 2.48, 5.50)),
    (13.00335, 21.14, 2.93e5, (1.06e-8, 6.68e-5, 1.64e-3, 2.02e-2, 0.532, 2.53)),
    (12.0, 22.0, 3.17e5, (1.33e-7, 5.34e-4, 9.80e-3, 8.83e-2, 1.265, 3.94)),
)


def mass_of(symbol):
    return MASSES.get(symbol) or atomic_masses[atomic_numbers[symbol]]


@pytest.mark.parametrize("symbol", TRANSFERS)
def test_largest_transfer(symbol):
    """E_max of eight nuclei at five voltages, to 0.1 %."""
    found = maximum_transfer_eV(VOLTAGES, mass_of(symbol))
    np.testing.assert_allclose(found, TRANSFERS[symbol], rtol=1e-3)


def test_a_moving_nucleus_takes_more_by_its_momentum():
    """(M v + 2 p)^2 / 2 M in SI units, forwards, at rest and backwards."""
    mass, energy = 12 * codata.atomic_mass, 100e3 * codata.e
    p = np.sqrt(energy * (energy + 2 * codata.m_e * codata.c**2)) / codata.c
    for velocity in (-2000.0, 0.0, 563.0):
        expected = (mass * velocity + 2 * p) ** 2 / (2 * mass) / codata.e
        assert maximum_transfer_eV(100, 12.0, velocity) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("material", "site", "energy_eV", "expected"), THRESHOLDS)
def test_threshold_of_tabulated_displacement_energies(material, site, energy_eV, expected):
    """The data file's E_d give the published thresholds, to their last digit."""
    entry = displacement_energy(material, site)
    assert entry.energy_eV == energy_eV
    assert len(entry.source) > 20
    found = threshold_kev(entry.energy_eV, atomic_masses[entry.Z])
    assert found == pytest.approx(expected, abs=0.05)


def test_threshold_of_a_still_graphene_sheet():
    """104.9 kV (12C, 21.14 eV) and 108.8 kV (natural carbon, 22 eV)."""
    entry = displacement_energy("graphene", "sheet")
    assert threshold_kev(entry.energy_eV, 12.0) == pytest.approx(104.9, rel=1e-3)
    assert threshold_kev(22.0, 12.011) == pytest.approx(108.8, rel=1e-3)
    assert threshold_kev(13.0, atomic_masses[14]) == pytest.approx(145.6, rel=1e-3)


def test_threshold_is_the_inverse_of_the_transfer():
    """E_max(E_threshold(E_d)) = E_d from a meV to a MeV; Egerton's sigdis.m agrees to 0.1 %."""
    needed = np.geomspace(1e-3, 1e6, 40)
    for mass in (1.008, 12.0, 196.97):
        found = maximum_transfer_eV(threshold_kev(needed, mass), mass)
        np.testing.assert_allclose(found, needed, rtol=1e-12)
        egerton = 511 * (np.sqrt(1 + mass * needed / 561) - 1)
        np.testing.assert_allclose(threshold_kev(needed, mass), egerton, rtol=1e-3)


@pytest.mark.parametrize(("symbol", "energy_eV", "kv", "mott", "rutherford"), CROSS_SECTIONS)
def test_displacement_cross_sections(symbol, energy_eV, kv, mott, rutherford):
    """Both formulas at the tabulated places, to 0.1 %; zero below the threshold."""
    Z = atomic_numbers[symbol]
    place = (kv, Z, atomic_masses[Z], energy_eV)
    assert mckinley_feshbach_barn(*place) == pytest.approx(mott, rel=1e-3)
    assert rutherford_barn(*place) == pytest.approx(rutherford, rel=1e-3)
    chosen = mott if Z <= 28 else rutherford
    assert displacement_cross_section_barn(*place) == pytest.approx(chosen, rel=1e-3)


def test_nickel_is_the_last_of_mckinley_and_feshbach():
    """Z = 28 uses the expansion, Z = 29 Rutherford, also within one array."""
    Z = np.array([28, 29])
    found = displacement_cross_section_barn(300.0, Z, atomic_masses[Z], 4.0)
    assert found[0] == mckinley_feshbach_barn(300.0, 28, atomic_masses[28], 4.0)
    assert found[1] == rutherford_barn(300.0, 29, atomic_masses[29], 4.0)


@pytest.mark.parametrize("variance", [None, 0.0, 3e5])
def test_cross_sections_are_never_negative(variance):
    """Every element, E_d from 1 to 100 eV, 10 kV to 1 MV; at rest none below the threshold."""
    Z = np.arange(1, 93)[:, None, None]
    needed = np.geomspace(1, 100, 9)[:, None]
    energy = np.geomspace(10, 1000, 25)
    sigma = displacement_cross_section_barn(energy, Z, atomic_masses[Z], needed, variance)
    assert sigma.shape == (92, 9, 25)
    assert np.all(sigma >= 0)
    open_ = energy > threshold_kev(needed, atomic_masses[Z])
    assert np.all(sigma[open_] > 0)
    if not variance:
        assert np.all(sigma[~open_] == 0)


@pytest.mark.parametrize(("mass", "needed", "variance", "expected"), GRAPHENE)
def test_graphene_in_thermal_motion(mass, needed, variance, expected):
    """Nine decades of cross section of 12C and 13C, to 0.5 %."""
    found = displacement_cross_section_barn(GRAPHENE_VOLTAGES, 6, mass, needed, variance)
    np.testing.assert_allclose(found, expected, rtol=5e-3)


def mean_over_velocities(energy, mass, needed, variance):
    """Return the mean cross section by adaptive quadrature that starts at the kink.

    The cross section depends on E_max(v) / E_d alone: a moving atom is one at rest with a lower
    or higher E_d.
    """
    rms = np.sqrt(variance)
    at_rest = float(maximum_transfer_eV(energy, mass))

    def integrand(v):
        stand_in = needed * at_rest / float(maximum_transfer_eV(energy, mass, v))
        sigma = float(mckinley_feshbach_barn(energy, 6, mass, stand_in))
        return sigma * np.exp(-(v**2) / (2 * variance)) / (rms * np.sqrt(2 * np.pi))

    p = float(np.sqrt(at_rest * mass / 2))  # maximum_transfer = 2 p^2 / M in these units
    unit = np.sqrt(codata.e / codata.atomic_mass)
    kink = float((np.sqrt(2 * mass * needed) - 2 * p) / mass * unit)
    first = max(kink, -12 * rms)
    edges = np.linspace(first, max(kink, 0) + 12 * rms, 25)
    return sum(
        quad(integrand, a, b, epsrel=1e-12, epsabs=0)[0] for a, b in itertools.pairwise(edges)
    )


@pytest.mark.parametrize("energy", [80, 100, 104.5, 104.9, 105.5, 107, 115, 150, 300])
def test_thermal_quadrature_holds_across_the_threshold(energy):
    """Against adaptive quadrature to 1e-9 from far below to far above 104.9 kV."""
    found = displacement_cross_section_barn(energy, 6, 12.0, 21.14, 3.17e5)
    expected = mean_over_velocities(energy, 12.0, 21.14, 3.17e5)
    assert found == pytest.approx(expected, rel=1e-9)


def test_gauss_hermite_would_not_do():
    """64 Hermite nodes across the kink err by more than 2 % at 90 kV: why they are not used."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    transfer = maximum_transfer_eV(90.0, 12.0, nodes * np.sqrt(3.17e5))
    stand_in = 21.14 * maximum_transfer_eV(90.0, 12.0) / transfer
    across = weights @ mckinley_feshbach_barn(90.0, 6, 12.0, stand_in) / np.sqrt(2 * np.pi)
    expected = mean_over_velocities(90.0, 12.0, 21.14, 3.17e5)
    assert abs(across / expected - 1) > 0.02
    ours = displacement_cross_section_barn(90.0, 6, 12.0, 21.14, 3.17e5)
    assert ours == pytest.approx(expected, rel=1e-9)


def test_no_motion_is_the_atom_at_rest():
    """<v^2> -> 0: the static value above the threshold, nothing below; 0 is exact."""
    energy = np.array([60.0, 100.0, 104.8, 105.2, 120.0, 300.0])
    static = mckinley_feshbach_barn(energy, 6, 12.0, 21.14)
    assert static[3] > 0 == static[2]
    for variance, tolerance in ((1e-2, 1e-5), (1e-8, 1e-8), (1e-20, 1e-13)):
        found = displacement_cross_section_barn(energy, 6, 12.0, 21.14, variance)
        np.testing.assert_allclose(found, static, rtol=tolerance)
    np.testing.assert_array_equal(
        displacement_cross_section_barn(energy, 6, 12.0, 21.14, 0.0), static
    )


def test_small_motion_adds_the_curvature():
    """Well above the threshold <sigma> = sigma + <v^2> sigma''(v) / 2 for a slow atom."""
    variance, step = 1e3, 100.0
    at_rest = maximum_transfer_eV(200.0, 12.0)
    sigma = [
        float(mckinley_feshbach_barn(200.0, 6, 12.0, 21.14 * at_rest / transfer))
        for transfer in maximum_transfer_eV(200.0, 12.0, [-step, 0.0, step])
    ]
    curvature = (sigma[0] - 2 * sigma[1] + sigma[2]) / step**2
    found = displacement_cross_section_barn(200.0, 6, 12.0, 21.14, variance)
    assert found - sigma[1] == pytest.approx(variance * curvature / 2, rel=1e-2)


def test_vibration_opens_the_door_below_the_threshold_and_isotopes_differ():
    """Static: nothing at 95 kV; vibrating: something, and 13C far less than 12C (Meyer 2012)."""
    light = displacement_cross_section_barn(95.0, 6, 12.0, 21.14, 3.17e5)
    heavy = displacement_cross_section_barn(95.0, 6, 13.00335, 21.14, 2.93e5)
    assert displacement_cross_section_barn(95.0, 6, 12.0, 21.14) == 0
    assert 0 < 10 * heavy < light
    # static sheets open only from about 105 kV
    assert displacement_cross_section_barn(104.0, 6, 12.0, 21.14) == 0
    assert displacement_cross_section_barn(106.0, 6, 12.0, 21.14) > 0


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("temperature", [1, 30, 300, 3000])
def test_velocity_variance_is_the_mean_energy_of_the_modes(temperature, dimensions):
    """<v^2> = sum over the Debye spectrum of (h f / 2) coth(h f / 2 k T) / M."""
    theta, mass = 1287.0, 12.0

    def energy(u):  # u = f / f_D, in k_B Theta
        return dimensions * u ** (dimensions - 1) * u / 2 / np.tanh(u * theta / (2 * temperature))

    knee = min(5 * temperature / theta, 0.9)
    mean, _ = quad(energy, 0, 1, points=[knee], epsrel=1e-11)
    expected = codata.k * theta * mean / (mass * codata.atomic_mass)
    found = velocity_variance_m2_s2(mass, temperature, theta, dimensions)
    assert found == pytest.approx(expected, rel=1e-9)


def test_velocity_variance_limits():
    """Hot: k_B T / M. At 0 K: 3 h f_D / 8 M in a crystal, h f_D / 3 M in a sheet."""
    mass = 26.98 * codata.atomic_mass
    hot = codata.k * 1e5 / mass
    assert velocity_variance_m2_s2(26.98, 1e5, 400.0) == pytest.approx(hot, rel=1e-5)
    assert velocity_variance_m2_s2(26.98, 1e5, 400.0, 2) == pytest.approx(hot, rel=1e-5)
    edge = codata.k * 400.0  # h f_D
    # as hbar omega_D = edge: 3 h omega_D / (16 pi M), a third of (9 / 8) k_B Theta / M
    for temperature in (0.0, 1e-3):
        crystal = velocity_variance_m2_s2(26.98, temperature, 400.0)
        assert crystal == pytest.approx(3 * edge / (8 * mass), rel=1e-9)
        sheet = velocity_variance_m2_s2(26.98, temperature, 400.0, 2)
        assert sheet == pytest.approx(edge / (3 * mass), rel=1e-9)


def test_velocity_variance_of_graphene():
    """Out-of-plane modes with Theta = 1287 K at 300 K: within 10 % of Susi's 3.17e5 m^2/s^2."""
    found = velocity_variance_m2_s2(12.0, 300.0, 1287.0, dimensions=2)
    assert found == pytest.approx(3.17e5, rel=0.1)


def test_debye_temperature_comes_from_the_element_and_isotope():
    """Zero-point <v^2> goes as M^-3/2 among isotopes, the classical one as 1 / M."""
    light, heavy = (velocity_variance_m2_s2(mass, 0.0, Z=6) for mass in (12.0, 13.00335))
    assert light / heavy == pytest.approx((13.00335 / 12.0) ** 1.5, rel=1e-12)
    light, heavy = (velocity_variance_m2_s2(mass, 1e6, Z=6) for mass in (12.0, 13.00335))
    assert light / heavy == pytest.approx(13.00335 / 12.0, rel=1e-6)
    with pytest.raises(ValueError, match="debye_temperature_k, or Z"):
        velocity_variance_m2_s2(12.0, 300.0)


def test_one_barn_at_ten_thousand_electrons():
    """1 barn at 1e4 e / Å^2 / s is 1e-4 / s: the definition of a barn."""
    assert removal_rate_per_s(1.0, 1e4) == pytest.approx(1e-4, rel=1e-15)


def test_refusals():
    """One line that says what is wrong."""
    with pytest.raises(ValueError, match="energy_kev must be positive"):
        maximum_transfer_eV([100.0, -1.0], 12.0)
    with pytest.raises(ValueError, match="displacement_energy_eV must be positive"):
        displacement_cross_section_barn(100.0, 6, 12.0, 0.0)
    with pytest.raises(ValueError, match="velocity_variance_m2_s2 must be zero or positive"):
        displacement_cross_section_barn(100.0, 6, 12.0, 20.0, -1.0)
    with pytest.raises(ValueError, match="did you mean 'graphite'"):
        displacement_energy("graphit")
    with pytest.raises(ValueError, match=r"\(surface\) is known for 'Xx'; known: Al, Cu, Ag"):
        displacement_energy("Xx", "surface")
    with pytest.raises(ValueError, match="dimensions must be 3"):
        velocity_variance_m2_s2(12.0, 300.0, 1287.0, dimensions=1)

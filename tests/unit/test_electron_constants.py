"""The fast electron's constants against published tables."""

import numpy as np
import pytest

from nanophantom.simcore.electrons.constants import (
    BOHR_RADIUS_A,
    POTENTIAL_CONSTANT_V_A2,
    REST_ENERGY_KEV,
    interaction_constant,
    lorentz_factor,
    velocity_ratio,
    wavelength,
)

# keV, wavelength in pm, sigma in rad / (V nm), beta, gamma: computed from CODATA 2018; the
# wavelengths are those of R. F. Egerton, EELS in the Electron Microscope, 3rd ed., table E.1
TABLE = [
    (60, 4.8661, 0.011357, 0.44622, 1.11742),
    (80, 4.1757, 0.010087, 0.50240, 1.15656),
    (100, 3.7014, 0.009244, 0.54822, 1.19570),
    (120, 3.3492, 0.008638, 0.58667, 1.23483),
    (200, 2.5079, 0.007288, 0.69531, 1.39139),
    (300, 1.9687, 0.006526, 0.77653, 1.58709),
]
SEM_WAVELENGTHS_PM = [(1, 38.764), (5, 17.302), (20, 8.5885), (30, 6.9791)]


@pytest.mark.parametrize(("energy", "lambda_pm", "sigma_per_nm", "beta", "gamma"), TABLE)
def test_constants_equal_the_published_ones(energy, lambda_pm, sigma_per_nm, beta, gamma):
    """All four constants agree with the table to 1e-4."""
    assert wavelength(energy) * 100 == pytest.approx(lambda_pm, rel=1e-4)
    assert interaction_constant(energy) * 10 == pytest.approx(sigma_per_nm, rel=1e-4)
    assert velocity_ratio(energy) == pytest.approx(beta, rel=1e-4)
    assert lorentz_factor(energy) == pytest.approx(gamma, rel=1e-4)


@pytest.mark.parametrize(("energy", "lambda_pm"), SEM_WAVELENGTHS_PM)
def test_wavelength_at_scanning_microscope_energies(energy, lambda_pm):
    """The wavelength also holds where electrons are slow."""
    assert wavelength(energy) * 100 == pytest.approx(lambda_pm, rel=1e-4)


def test_interaction_constant_equals_kirklands_table():
    """Sigma agrees with Kirkland's book, as py_multislice tests it (Test.py, square < 1e-12)."""
    energies = np.array([10.0, 60.0, 100.0, 200.0, 300.0, 800.0])
    kirkland = np.array([2.599, 1.1356, 0.9244, 0.7288, 0.6526, 0.5503]) * 1e-3
    assert np.all((interaction_constant(energies) - kirkland) ** 2 < 1e-12)


def test_potential_constant_is_two_pi_e_a0():
    """h^2 / (2 pi m e) is 2 pi e a0 in Gaussian units, with e = 14.39964 V Å."""
    assert pytest.approx(2 * np.pi * 14.399645 * BOHR_RADIUS_A, rel=1e-6) == POTENTIAL_CONSTANT_V_A2
    assert pytest.approx(47.878, rel=1e-5) == POTENTIAL_CONSTANT_V_A2


def test_constants_of_one_electron_belong_together():
    """gamma^2 (1 - beta^2) = 1, and lambda p = h with p = gamma m v."""
    energy = np.geomspace(0.1, 3000, 50)
    gamma, beta = lorentz_factor(energy), velocity_ratio(energy)
    np.testing.assert_allclose(gamma**2 * (1 - beta**2), 1, rtol=1e-12)
    compton_wavelength_A = 0.0242631023868
    np.testing.assert_allclose(wavelength(energy) * gamma * beta, compton_wavelength_A, rtol=1e-8)
    assert pytest.approx(510.99895, rel=1e-7) == REST_ENERGY_KEV


def test_arrays_and_single_energies_agree():
    """An array gives what its elements give, in its shape."""
    energies = np.array([[60.0, 80.0], [200.0, 300.0]])
    for constant in (wavelength, interaction_constant, lorentz_factor, velocity_ratio):
        together = constant(energies)
        assert together.shape == energies.shape
        assert together[1, 0] == constant(200.0)


@pytest.mark.parametrize("energy", [0.0, -1.0, np.nan, np.inf, np.array([200.0, 0.0])])
def test_energies_that_are_none_are_refused(energy):
    """Zero, negative and not finite energies raise, also within an array."""
    for constant in (wavelength, interaction_constant, lorentz_factor, velocity_ratio):
        with pytest.raises(ValueError, match="energy_kev must be positive"):
            constant(energy)

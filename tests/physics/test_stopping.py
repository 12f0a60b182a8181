"""Stopping power, absorbed dose, voltage laws of radiolysis, beam heating."""

import numpy as np
import pytest
from scipy import constants as codata

from nanophantom.simcore.damage.stopping import (
    absorbed_dose_MGy,
    beam_heating_k,
    collision_stopping_power,
    dose_rate_Gy_per_s,
    voltage_scale,
)
from nanophantom.simcore.electrons.constants import velocity_ratio

# Berger-Seltzer formula for water, I = 75 eV, MeV cm^2 / g; NIST ESTAR prints the same digits
WATER = {20: 13.174, 60: 5.797, 80: 4.757, 100: 4.115, 200: 2.793, 300: 2.355}
# MGy for each e/Å^2 in water
DOSE = {80: 7.62, 100: 6.59, 200: 4.475, 300: 3.773}
CARBON_FILM = {
    "current_na": 5.0,
    "thickness_nm": 100.0,
    "mean_free_path_nm": 188.0,
    "conductivity_W_per_m_K": 1.6,
    "beam_diameter_um": 1.0,
    "sink_radius_um": 20.0,
}


def test_stopping_power_of_water():
    """Six energies, to 0.1 %."""
    found = collision_stopping_power(list(WATER))
    np.testing.assert_allclose(found, list(WATER.values()), rtol=1e-3)


def test_absorbed_dose_of_one_electron_per_square_angstrom():
    """Four voltages in water, to 0.1 %; 1 MeV/g is 1.602e-10 Gy."""
    for energy, expected in DOSE.items():
        found = absorbed_dose_MGy(1.0, collision_stopping_power(energy))
        assert found == pytest.approx(expected, rel=1e-3)
    assert absorbed_dose_MGy(1.0, 1.0) == pytest.approx(1e16 * 1.602176634e-10 / 1e6, rel=1e-12)


def test_dose_rate_of_a_round_beam():
    """300 kV, 1 nA, 1 µm: 7.50e7 Gy/s; and rate times time is the absorbed dose of the fluence."""
    stopping = collision_stopping_power(300.0)
    rate = dose_rate_Gy_per_s(1.0, 1.0, stopping)
    assert rate == pytest.approx(7.50e7, rel=5e-3)
    fluence_per_s = 1e-9 / codata.e / (np.pi * 1e8)  # e/Å^2/s
    assert rate == pytest.approx(1e6 * absorbed_dose_MGy(fluence_per_s, stopping), rel=1e-9)


def test_voltage_laws_between_100_and_300_kv():
    """1.748 by stopping power, 1.57 as measured by Peet et al. (2019)."""
    assert 1 / voltage_scale(100.0, 300.0, "stopping-power") == pytest.approx(1.748, rel=1e-3)
    assert 1 / voltage_scale(100.0, 300.0, "measured") == pytest.approx(1.57, rel=1e-12)
    assert voltage_scale(200.0, 300.0, "dose-weighting") == pytest.approx(0.8, rel=1e-12)
    assert 1 / voltage_scale(100.0, 300.0, "dose-weighting") == pytest.approx(1.57, rel=1e-12)


def test_measured_law_is_a_power_of_velocity():
    """ln(scale) is straight in ln(beta) with slope ln 1.57 / ln(beta_300 / beta_100) = 1.296."""
    energy = np.array([40.0, 80.0, 120.0, 200.0, 400.0])
    beta = velocity_ratio(energy) / velocity_ratio(300.0)
    # beta of 100 and 300 kV: 0.54822, 0.77653
    exponent = np.log(1.57) / np.log(0.77653 / 0.54822)
    assert exponent == pytest.approx(1.296, abs=1e-3)
    np.testing.assert_allclose(voltage_scale(energy), beta**exponent, rtol=1e-4)


@pytest.mark.parametrize("law", ["measured", "stopping-power", "dose-weighting"])
def test_voltage_laws_are_consistent(law):
    """No change at the same voltage; two steps are one; faster electrons damage less."""
    energy = np.geomspace(30, 400, 60)
    assert voltage_scale(173.0, 173.0, law) == pytest.approx(1.0, rel=1e-12)
    steps = voltage_scale(energy, 120.0, law) * voltage_scale(120.0, 300.0, law)
    np.testing.assert_allclose(steps, voltage_scale(energy, 300.0, law), rtol=1e-12)
    assert np.all(np.diff(voltage_scale(energy, 300.0, law)) > 0)


def test_heating_of_a_carbon_film():
    """a-C 100 nm, k = 1.6 W/m/K, 5 nA in 1 µm, grid bar at 20 µm: 0.39 K."""
    assert beam_heating_k(**CARBON_FILM) == pytest.approx(0.39, abs=5e-3)
    twice = beam_heating_k(**{**CARBON_FILM, "current_na": 10.0})
    assert twice == pytest.approx(2 * beam_heating_k(**CARBON_FILM), rel=1e-12)
    assert beam_heating_k(**{**CARBON_FILM, "current_na": 0.0}) == 0


def test_radiation_closes_the_heat_balance():
    """With a black film heat in equals conducted plus radiated heat, and the film is cooler."""
    hot = {**CARBON_FILM, "current_na": 5e4, "beam_diameter_um": 20.0}
    rise = beam_heating_k(**hot, emissivity=1.0)
    heat_in = 5e4 * 1e-9 * 37 * 100 / 188
    conducted = 4 * np.pi * 1.6 * 100e-9 * rise / (0.58 + 2 * np.log(2 * 20 / 20))
    radiated = np.pi * (20e-6) ** 2 / 2 * codata.sigma * ((293 + rise) ** 4 - 293**4)
    assert conducted + radiated == pytest.approx(heat_in, rel=1e-9)
    assert radiated > 0.01 * heat_in
    assert rise < beam_heating_k(**hot)


def test_refusals():
    """Where the formula does not hold it does not answer."""
    with pytest.raises(ValueError, match="too low for a mean excitation energy of 75 eV"):
        collision_stopping_power(0.5)
    with pytest.raises(ValueError, match="law must be one of"):
        voltage_scale(100.0, 300.0, "linear")
    with pytest.raises(ValueError, match="fluence_e_per_A2 must be zero or positive"):
        absorbed_dose_MGy(-1.0, 2.0)
    with pytest.raises(ValueError, match="radius_um must be positive"):
        dose_rate_Gy_per_s(1.0, 0.0, 2.0)
    with pytest.raises(ValueError, match="wider than the film"):
        beam_heating_k(**{**CARBON_FILM, "beam_diameter_um": 50.0})

"""Radiolysis: critical doses, fading laws, temperature, repair, the table of materials."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from nanophantom.simcore.damage.radiolysis import (
    OPTIMAL_EXPOSURE,
    FadingLaw,
    accumulated_damage,
    arrhenius_factor,
    b_factor_growth_A2,
    critical_dose_vitrified,
    cryo_gain_factor,
    effective_fluence,
    optimal_exposure,
    remaining_mass,
)
from nanophantom.simcore.damage.sensitivity import sensitivity, sensitivity_names, temperature_gain

# Grant & Grigorieff (2015): 0.245 k^-1.665 + 2.81 e/Å^2 at 300 kV, by spacing in Å
VITRIFIED = {20: 38.73, 10: 14.14, 7: 9.065, 5: 6.382, 4: 5.274, 3: 4.336, 2: 3.587}


def test_critical_dose_of_vitrified_protein():
    """Seven spacings at 300 kV to 1e-3, 0.8 of them at 200 kV."""
    k = 1 / np.array(list(VITRIFIED), dtype=float)
    np.testing.assert_allclose(critical_dose_vitrified(k), list(VITRIFIED.values()), rtol=1e-3)
    at_200 = critical_dose_vitrified(k, energy_kev=200.0)
    np.testing.assert_allclose(at_200, 0.8 * critical_dose_vitrified(k), rtol=1e-12)


def test_critical_dose_at_100_kv_by_each_law():
    """Damage ratio 100 to 300 kV: 1.57 measured (Peet 2019), 1.748 by stopping power."""
    ratio = critical_dose_vitrified(0.2) / critical_dose_vitrified(0.2, 100.0, "measured")
    assert ratio == pytest.approx(1.57, rel=1e-12)
    ratio = critical_dose_vitrified(0.2) / critical_dose_vitrified(0.2, 100.0, "stopping-power")
    assert ratio == pytest.approx(1.748, rel=1e-3)
    # the default stays within what was measured at 100 kV
    ratio = critical_dose_vitrified(0.2) / critical_dose_vitrified(0.2, 100.0)
    assert ratio == pytest.approx(1.57, abs=0.1)


def test_optimal_exposure():
    """10.90 e/Å^2 at 3 Å; it solves e^(x/2) = 1 + x, where signal to noise is largest."""
    assert optimal_exposure(critical_dose_vitrified(1 / 3)) == pytest.approx(10.90, abs=5e-3)
    assert np.exp(OPTIMAL_EXPOSURE / 2) == pytest.approx(1 + OPTIMAL_EXPOSURE, rel=2e-5)
    exposures = np.linspace(0.5, 6, 5501)
    merit = (1 - np.exp(-exposures / 2)) ** 2 / exposures
    assert exposures[merit.argmax()] == pytest.approx(OPTIMAL_EXPOSURE, abs=1e-3)


def test_intensity_fades_to_1_over_e_at_the_critical_dose():
    """exp(-N / N_e) and its square root, broadcast over k and fluence; k = 0 never fades."""
    law = FadingLaw.vitrified()
    k = np.array([0.0, 0.1, 0.3])
    fluence = np.array([[0.0], [5.0], [20.0]])
    intensity = law.intensity(k, fluence)
    assert intensity.shape == (3, 3)
    expected = np.exp(-fluence / critical_dose_vitrified(k[1:]))
    np.testing.assert_allclose(intensity[:, 1:], expected, rtol=1e-12)
    np.testing.assert_allclose(law.amplitude(k, fluence) ** 2, intensity, rtol=1e-12)
    np.testing.assert_array_equal(intensity[:, 0], 1.0)
    left = law.intensity(0.25, law.critical_dose(0.25))
    assert left == pytest.approx(np.exp(-1), rel=1e-12)


def test_constant_power_and_scaled_laws():
    """Each kind gives its own formula; factors multiply."""
    k = np.array([0.0, 0.05, 1.0])
    np.testing.assert_array_equal(FadingLaw.constant(80.0).critical_dose(k), 80.0)
    power = FadingLaw.power(2.0, 0.5, 1.5)
    np.testing.assert_allclose(power.critical_dose(k[1:]), 2 + 0.5 * k[1:] ** -1.5, rtol=1e-13)
    twice = power.scaled(4.0).scaled(0.5).critical_dose(k[1:])
    np.testing.assert_allclose(twice, 2 * power.critical_dose(k[1:]), rtol=1e-13)


def test_table_hits_its_nodes_and_is_straight_between_in_logarithms():
    """Nodes in any order; geometric means between; constant outside."""
    spacing, doses = [3.0, 12.0, 7.0], [4.0, 25.0, 9.0]
    law = FadingLaw.table(spacing, doses)
    np.testing.assert_allclose(law.critical_dose(1 / np.array(spacing)), doses, rtol=1e-12)
    middle = law.critical_dose(1 / np.sqrt(12.0 * 7.0))
    assert middle == pytest.approx(np.sqrt(25.0 * 9.0), rel=1e-12)
    np.testing.assert_allclose(law.critical_dose([0.0, 1 / 50]), 25.0, rtol=1e-12)
    np.testing.assert_allclose(law.critical_dose([1 / 2, 3.0]), 4.0, rtol=1e-12)
    # nodes taken from a power law give it back
    nodes = np.array([20.0, 10.0, 5.0, 2.0])
    from_power = FadingLaw.table(nodes, 0.3 * nodes**1.2)
    k = np.linspace(0.06, 0.45, 20)
    np.testing.assert_allclose(from_power.critical_dose(k), 0.3 * k**-1.2, rtol=1e-12)


def test_arrhenius_factor_goes_both_ways():
    """One at the reference, e-fold per k_B of E_a in 1/T, inverse for a negative energy."""
    assert arrhenius_factor(293.0, 0.1) == 1
    boltzmann = 8.617333262e-5  # eV/K, CODATA 2018
    expected = np.exp(0.05 / boltzmann * (1 / 150 - 1 / 293))
    assert arrhenius_factor(150.0, 0.05) == pytest.approx(expected, rel=1e-9)
    assert arrhenius_factor(150.0, 0.05) * arrhenius_factor(150.0, -0.05) == pytest.approx(1.0)
    assert arrhenius_factor(100.0, 0.02) > 1 > arrhenius_factor(400.0, 0.02)


def test_cryo_gain_runs_between_two_measurements():
    """1 warm, the published gain cold, its square root half way; below one it is a loss."""
    gain = temperature_gain("anthracene")
    assert (gain.low, gain.high) == (3, 4)  # Salih & Cosslett (1975)
    ends = {"gain": 3.0, "cold_k": gain.cold_k, "warm_k": gain.warm_k}
    assert cryo_gain_factor(300.0, **ends) == 1
    assert cryo_gain_factor(4.0, **ends) == cryo_gain_factor(0.0, **ends) == 3
    assert cryo_gain_factor((4 + 293) / 2, **ends) == pytest.approx(np.sqrt(3.0))
    assert cryo_gain_factor(4.0, 0.05, 4.0, 293.0) == pytest.approx(0.05)  # some zeolites
    law = sensitivity("anthracene").law.scaled(cryo_gain_factor(4.0, **ends))
    assert law.critical_dose(0.1) == pytest.approx(1800.0)


# pulses of unequal length, with pauses
EDGES = np.array([0.0, 0.7, 1.5, 4.0, 4.1, 9.0])
FLUX = np.array([10.0, 0.0, 3.0, 200.0, 1.0])


def integrated(rate_of_change, initial):
    """Return D at the edges by Dormand-Prince steps within each interval."""
    history = [initial]
    for flux, start, end in zip(FLUX, EDGES[:-1], EDGES[1:], strict=True):
        run = solve_ivp(
            lambda t, d, flux=flux: rate_of_change(flux, d),
            (start, end),
            [history[-1]],
            method="DOP853",
            rtol=1e-11,
            atol=1e-13,
        )
        history.append(run.y[0, -1])
    return np.array(history)


@pytest.mark.parametrize("initial", [0.0, 0.4])
@pytest.mark.parametrize("repair", [0.0, 0.05, 2.0])
@pytest.mark.parametrize("kind", ["competing", "threshold"])
def test_repair_equals_numerical_integration(kind, repair, initial):
    """Exact relaxation through five pulses against an ODE solver, to 1e-9."""
    s = 0.04

    def competing(flux, d):
        return s * flux * (1 - d) - repair * d

    def threshold(flux, d):
        return max(0.0, s * flux - repair) * (1 - d)

    expected = integrated({"competing": competing, "threshold": threshold}[kind], initial)
    found = accumulated_damage(EDGES, FLUX, s, repair, kind, initial)
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("kind", ["competing", "threshold"])
def test_without_repair_damage_is_plain_fading(kind):
    """1 - D = exp(-N / N_e) at every edge and k; r -> 0 gets there smoothly."""
    law = FadingLaw.vitrified()
    k = np.array([0.05, 0.2, 0.5])
    s = 1 / law.critical_dose(k)
    fluence = np.concatenate([[0.0], np.cumsum(FLUX * np.diff(EDGES))])
    plain = 1 - law.intensity(k, fluence[:, None])
    found = accumulated_damage(EDGES, FLUX, s, 0.0, kind)
    assert found.shape == (6, 3)
    np.testing.assert_allclose(found, plain, atol=1e-14)
    almost = accumulated_damage(EDGES, FLUX, s, 1e-9, kind)
    np.testing.assert_allclose(almost, plain, atol=1e-7)


def test_competing_repair_makes_the_rate_count():
    """Same fluence, half the flux: less damage; the steady state is s f / (s f + r)."""
    fast = accumulated_damage([0.0, 10.0], [2.0], 0.05, 0.1)[-1]
    slow = accumulated_damage([0.0, 20.0], [1.0], 0.05, 0.1)[-1]
    assert slow < fast < 1 - np.exp(-0.05 * 20)
    steady = accumulated_damage([0.0, 1e4], [2.0], 0.05, 0.1)[-1]
    assert steady == pytest.approx(0.05 * 2 / (0.05 * 2 + 0.1), rel=1e-12)
    # in the dark it heals: e^(-r t)
    healed = accumulated_damage([0.0, 10.0], [0.0], 0.05, 0.1, initial=0.8)[-1]
    assert healed == pytest.approx(0.8 * np.exp(-1.0), rel=1e-12)


def test_threshold_counts_only_flux_above_it():
    """A flux below r / s does nothing; the exponent is s times the fluence above r / s."""
    s, repair = 0.04, 0.2  # threshold 5 e/Å^2/s
    above = effective_fluence(EDGES, FLUX, repair / s)
    np.testing.assert_allclose(above, [0, 3.5, 3.5, 3.5, 23.0, 23.0], rtol=1e-12)
    damage = accumulated_damage(EDGES, FLUX, s, repair, "threshold")
    np.testing.assert_allclose(-np.log1p(-damage), s * above, rtol=1e-12, atol=1e-15)
    still = accumulated_damage([0.0, 1e6], [4.999], s, repair, "threshold")
    np.testing.assert_array_equal(still, 0.0)


def test_mass_loss_and_b_factor():
    """1 to the plateau with 1/e at N_m; B = 8 pi^2 0.022 N = 1.737 N (parakeet's default)."""
    assert remaining_mass(0.0, 20.0, 0.3) == 1
    assert remaining_mass(20.0, 20.0, 0.3) == pytest.approx(0.3 + 0.7 / np.e, rel=1e-12)
    assert remaining_mass(1e4, 20.0, 0.3) == pytest.approx(0.3)
    np.testing.assert_allclose(b_factor_growth_A2([0.0, 1.0, 30.0]), [0, 1.7371, 52.113], rtol=1e-4)


# printed critical or end doses in e/Å^2; their sources stand in the data file
PRINTED = {
    "l-valine": 13,
    "anthracene": 600,
    "coronene": 600,
    "ZIF-8": 80,
    "MFM-300(Cr)": 1111,
    "MFM-300(Al)": 330,
    "MFM-300(Ga)": 189,
    "MFM-300(In)": 147,
    "analcime": 7.0e3,
    "natrolite": 1.8e4,
    "zeolite-Y": 3.4e4,
    "Li2CO3": 750,
}


def test_table_of_materials():
    """Every entry holds its printed dose, source and end point; nothing else is listed."""
    assert set(sensitivity_names()) == {*PRINTED, "vitrified protein"}
    for name, dose in PRINTED.items():
        entry = sensitivity(name)
        assert entry.law.critical_dose(0.2) == dose
        assert len(entry.source) > 20
        assert entry.endpoint
    protein = sensitivity("vitrified protein")
    assert protein.law.critical_dose(1 / 3) == pytest.approx(4.336, rel=1e-3)
    assert protein.law_at(100.0, "measured").critical_dose(1 / 3) == pytest.approx(
        4.336 / 1.57, rel=1e-3
    )


def test_gains_by_cooling():
    """Naydenova (2022) 1.2 to 1.8 below nitrogen; Salih & Cosslett (1975) 3 to 4 and 1.8."""
    crystals = temperature_gain("paraffin, purple membrane, aquaporin-4")
    assert (crystals.low, crystals.high) == (1.2, 1.8)
    assert temperature_gain("coronene").high == 4
    assert temperature_gain("l-valine").low == 1.8


def test_refusals():
    """One line that says what is wrong and what is known."""
    with pytest.raises(ValueError, match="'UiO-66'; known: vitrified protein, l-valine"):
        sensitivity("UiO-66")
    with pytest.raises(ValueError, match="did you mean 'natrolite'"):
        sensitivity("natrolit")
    with pytest.raises(ValueError, match="published without one energy"):
        sensitivity("ZIF-8").law_at(200.0, "measured")
    with pytest.raises(ValueError, match="no gain by cooling is known for 'ice'"):
        temperature_gain("ice")
    with pytest.raises(ValueError, match="k_per_A must be zero or positive"):
        critical_dose_vitrified(-0.1)
    with pytest.raises(ValueError, match="critical dose must be positive"):
        FadingLaw.constant(0.0)
    with pytest.raises(ValueError, match="one critical dose for each spacing, got 1 for 2"):
        FadingLaw.table([3.0, 4.0], [5.0])
    with pytest.raises(ValueError, match="positive and differ"):
        FadingLaw.table([3.0, 3.0], [5.0, 6.0])
    with pytest.raises(ValueError, match=r"n \+ 1 edges go with n fluxes"):
        accumulated_damage([0.0, 1.0], [1.0, 2.0], 0.1)
    with pytest.raises(ValueError, match="rise"):
        accumulated_damage([0.0, 1.0, 1.0], [1.0, 2.0], 0.1)

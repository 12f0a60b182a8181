"""Hydrogenic inner-shell ionization: closed forms, sum rules, and published cross sections."""

import numpy as np
import pytest
from scipy.integrate import quad

from nanophantom.simcore.electrons.constants import BOHR_RADIUS_A
from nanophantom.simcore.electrons.inelastic.hydrogenic import (
    BARN_PER_A2,
    RYDBERG_EV,
    double_differential_cross_section,
    energy_differential_cross_section,
    generalized_oscillator_strength,
    k_strength,
    l_strengths,
    momentum_transfer_squared,
    partial_cross_section,
    total_cross_section,
)
from nanophantom.simcore.electrons.inelastic.shells import Shell, atomic_shell

# The edges for which exspy 0.3.2 made the table below. Its "Ti_L3" is the GOS of the whole L shell
# (six 2p electrons from the L3 edge on, eight electrons from the L1 edge on).
EXSPY_SHELLS = {
    "B K": Shell(5, "K", (188.0,)),
    "C K": Shell(6, "K", (284.0,)),
    "N K": Shell(7, "K", (401.0,)),
    "O K": Shell(8, "K", (532.0,)),
    "Al K": Shell(13, "K", (1560.0,)),
    "Si K": Shell(14, "K", (1839.0,)),
    "Ti L": Shell(22, "L", (564.0, 456.0, 456.0)),
    "Fe L": Shell(26, "L", (846.0, 708.0, 708.0)),
    "Si L": Shell(14, "L", (149.7, 99.2, 99.2)),
}
# barn in windows of 50 and 100 eV; kV, collection semiangle in mrad. exspy 0.3.2 hydrogenic GOS
EXSPY_BARN = [
    ("B K", 100, 10, 9843, 14052),
    ("C K", 100, 10, 3980, 6143),
    ("N K", 100, 10, 1753, 2861),
    ("O K", 100, 10, 873, 1480),
    ("Al K", 100, 10, 35.2, 65.6),
    ("Si K", 100, 10, 20.0, 37.6),
    ("Ti L", 100, 10, 3472, 6212),
    ("Fe L", 100, 10, 820, 1603),
    ("Si L", 100, 10, 62983, 99035),
    ("C K", 200, 10, 3288, 5127),
    ("O K", 200, 10, 799, 1367),
    ("Fe L", 200, 10, 796, 1573),
    ("C K", 300, 20, 3488, 5563),
    ("O K", 300, 20, 941, 1637),
    ("Fe L", 300, 20, 955, 1919),
]


@pytest.mark.parametrize(("name", "kv", "mrad", "narrow", "wide"), EXSPY_BARN)
def test_partial_cross_sections_equal_exspy(name, kv, mrad, narrow, wide):
    """sigma(beta, Delta) within 3 % of exspy 0.3.2's hydrogenic GOS (measured: within 1.5 %)."""
    found = [
        partial_cross_section(EXSPY_SHELLS[name], kv, mrad * 1e-3, window) * BARN_PER_A2
        for window in (50, 100)
    ]
    np.testing.assert_allclose(found, [narrow, wide], rtol=0.03)


def continuum(strength, charge, n, q2):
    """Return the integral of df/dE over the true continuum of a hydrogenic level n."""
    energy = RYDBERG_EV * charge**2 * (1 / n**2 + np.geomspace(1e-7, 1e4, 100001))
    return np.trapezoid(strength(energy, np.full_like(energy, q2 * charge**2)), energy)


LEVELS = {
    "1s": (lambda E, q2: k_strength(26, E, q2), 25.5, 1, 2),
    "2s": (lambda E, q2: l_strengths(26, E, q2)[0], 26 - 4.15, 2, 2),
    "2p": (lambda E, q2: l_strengths(26, E, q2)[1], 26 - 4.15, 2, 6),
}


@pytest.mark.parametrize("name", LEVELS)
def test_bethe_sum_rule(name):
    """At large q every electron is set free: integral of df/dE = number of electrons.

    Bethe: the sum over all final states is 1 per electron at every q. Discrete final states fade
    with q (like q^-8 and faster for 1s); at (q a0 / Z_s)^2 = 30 they hold less than 1e-5.
    """
    strength, charge, n, electrons = LEVELS[name]
    assert continuum(strength, charge, n, 30.0) == pytest.approx(electrons, rel=1e-5)


def test_k_continuum_and_lines_sum_to_two():
    """At q = 0: continuum of 1s plus its discrete lines (f_12 = 0.4162, f_13 = 0.0791, ...) = 1.

    f_1n = 2^8 n^5 (n - 1)^(2n - 4) / (3 (n + 1)^(2n + 4)), Bethe & Salpeter (1957).
    """
    n = np.arange(2, 2000.0)
    logarithm = np.log(256 / 3) + 5 * np.log(n) + (2 * n - 4) * np.log(n - 1)
    lines = np.exp(logarithm - (2 * n + 4) * np.log(n + 1)).sum()
    strength, charge, level, electrons = LEVELS["1s"]
    assert lines == pytest.approx(0.5650, abs=1e-4)
    assert continuum(strength, charge, level, 0.0) / electrons + lines == pytest.approx(1, abs=1e-4)


def test_l_continuum_equals_bethe_and_salpeter():
    """Optical oscillator strengths of 2s and 2p to the continuum: 0.351 and 0.191 an electron.

    H. A. Bethe & E. E. Salpeter (1957), oscillator strengths of hydrogen.
    """
    for name, expected in (("2s", 0.351), ("2p", 0.191)):
        strength, charge, n, electrons = LEVELS[name]
        assert continuum(strength, charge, n, 0.0) / electrons == pytest.approx(expected, abs=6e-4)


def test_screened_shells_hold_what_their_edge_leaves():
    """With the real edge, below Z_s^2 R, part of the lines is counted as continuum.

    At q -> 0 the K shell of O then has 1.59, between the 0.87 of the bare continuum and the 2
    electrons of the full sum, of which transitions to occupied states would be taken away.
    """
    shell = atomic_shell(8, "K")
    energy = shell.onset_ev * np.geomspace(1, 1e4, 50001)
    total = np.trapezoid(generalized_oscillator_strength(shell, energy, 0.0), energy)
    assert 0.87 < total < 2


@pytest.mark.parametrize(
    ("name", "closed"),
    [
        # M. Stobbe, Ann. Phys. 7 (1930) 661, Bethe & Salpeter section 71: photoelectric
        # cross sections of 1s, 2s and 2p, as oscillator strengths an electron; w = E / (Z^2 R)
        ("1s", lambda w: 128 / 3 / w**4),
        ("2s", lambda w: 16 / 3 / w**4 * (1 + 3 / (4 * w))),
        ("2p", lambda w: 4 / 3 / w**5 * (1 + 2 / (3 * w))),
    ],
)
def test_dipole_limit_is_the_photoelectric_effect(name, closed):
    """q -> 0: the closed forms of photoionization, over three decades of energy."""
    strength, charge, n, electrons = LEVELS[name]
    w = 1 / n**2 + np.geomspace(1e-3, 30, 40)
    k = np.sqrt(w - 1 / n**2)
    coulomb = np.exp(-4 / k * np.arctan(n * k)) / -np.expm1(-2 * np.pi / k)
    found = strength(w * RYDBERG_EV * charge**2, np.zeros_like(w))
    expected = electrons * closed(w) * coulomb / (RYDBERG_EV * charge**2)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_bethe_ridge_is_at_the_free_electron():
    """Far above the edge df/dE peaks where a free electron recoils, (q a0)^2 = E / R."""
    energy = 20 * RYDBERG_EV * 25.5**2
    q2 = energy / RYDBERG_EV * np.geomspace(0.5, 2, 2001)
    peak = q2[np.argmax(k_strength(26, np.full_like(q2, energy), q2))]
    assert peak == pytest.approx(energy / RYDBERG_EV, rel=0.05)


@pytest.mark.parametrize("Z", [6, 26])
def test_strength_is_smooth_through_the_hydrogenic_edge(Z):
    """Below Z_s^2 R the wave number of the ejected electron is imaginary: no step in df/dE."""
    edge = RYDBERG_EV * (Z - 0.5) ** 2
    energy = edge * (1 + np.array([-1e-6, -1e-9, 1e-9, 1e-6]))
    for q2 in (0.0, 10.0, 300.0):
        values = k_strength(Z, energy, np.full(4, q2))
        np.testing.assert_allclose(values, values[0], rtol=2e-5)


def test_subshells_sum_to_the_shell():
    """L = L1 + L2 + L3; above all edges L3 is twice L2."""
    energy = np.linspace(460, 900, 45)
    parts = [
        generalized_oscillator_strength(atomic_shell(22, name), energy, 2.0)
        for name in ("L1", "L2", "L3")
    ]
    whole = generalized_oscillator_strength(atomic_shell(22, "L"), energy, 2.0)
    np.testing.assert_allclose(sum(parts), whole, rtol=1e-12)
    np.testing.assert_allclose(parts[2][energy > 600], 2 * parts[1][energy > 600], rtol=1e-12)


def test_angles_integrate_to_the_energy_differential():
    """2 pi sin(theta) d2(sigma) / (dE dOmega), integrated by other means, is d(sigma) / dE."""
    shell = atomic_shell(8, "K")

    def ring(log_angle):
        angle = np.exp(log_angle)
        value = double_differential_cross_section(shell, 600.0, angle, 200)
        return float(2 * np.pi * np.sin(angle) * angle * value)

    integral = quad(ring, np.log(1e-7), np.log(0.05), epsrel=1e-9, limit=200)[0]
    expected = energy_differential_cross_section(shell, 600.0, 200, 0.05)
    assert integral == pytest.approx(float(expected), rel=1e-7)


def test_slow_electrons_obey_the_nonrelativistic_formula():
    """At 1 keV: q^2 and d2(sigma) of Bethe's theory, (4 a0^2 R / (E (q a0)^2)) (k1/k0) df/dE."""
    shell, energy_kev, loss, angle = Shell(3, "K", (55.0,)), 1.0, 70.0, 0.02
    k0, k1 = np.sqrt(np.array([1000.0, 1000.0 - loss]) / RYDBERG_EV)
    q2 = k0**2 + k1**2 - 2 * k0 * k1 * np.cos(angle)
    assert momentum_transfer_squared(loss, angle, energy_kev) == pytest.approx(q2, rel=3e-3)
    strength = float(generalized_oscillator_strength(shell, loss, q2))
    expected = 4 * BOHR_RADIUS_A**2 * RYDBERG_EV / (loss * q2) * k1 / k0 * strength
    found = double_differential_cross_section(shell, loss, angle, energy_kev)
    assert found == pytest.approx(expected, rel=6e-3)


def test_smallest_momentum_transfer():
    """q_min a0 squared = E^2 / (4 R T) + E^3 / (8 gamma^3 R T^2) (Egerton, appendix A)."""
    T = 510998.95 * (1 - 1 / (1 + 100 / 510.99895) ** 2) / 2
    gamma = 1 + 100 / 510.99895
    for loss in (50.0, 500.0, 5000.0):
        first = loss**2 / (4 * RYDBERG_EV * T)
        expected = first + loss**3 / (8 * gamma**3 * RYDBERG_EV * T**2)
        found = momentum_transfer_squared(loss, 0.0, 100)
        assert found == pytest.approx(expected, rel=2e-3)


def test_partial_cross_sections_grow_to_the_total():
    """With all angles and all losses the partial cross section reaches the total.

    What is left is the transverse (magnetic) part that only the total holds: 0 to 3 % at 100 kV.
    """
    shell = atomic_shell(6, "K")
    steps = [
        partial_cross_section(shell, 100, beta, window)
        for beta, window in ((0.01, 50), (0.1, 50), (0.1, 1000), (np.pi, 49858))
    ]
    assert np.all(np.diff(steps) > 0)
    assert 0.97 < steps[-1] / total_cross_section(shell, 100) < 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Shell(22, "M", (1.0,)), "shell must be one of"),
        (lambda: Shell(22, "L", (1.0,)), "edges_ev"),
        (lambda: Shell(22, "L", (1.0, 2.0, 3.0)), "L1 >= L2 >= L3"),
        (lambda: atomic_shell(120, "K"), "Z must be"),
        (lambda: generalized_oscillator_strength(Shell(8, "L", (9.0, 8.0, 8.0)), 10.0, 1.0), "11"),
        (lambda: partial_cross_section(atomic_shell(6, "K"), 100, 0.0, 50), "collection_rad"),
        (lambda: partial_cross_section(atomic_shell(6, "K"), 100, 0.01, 0), "window_ev"),
        (lambda: energy_differential_cross_section(atomic_shell(6, "K"), 2e5, 100), "energy_loss"),
        (lambda: total_cross_section(atomic_shell(22, "K"), 4.0), "exceed the edge"),
    ],
)
def test_refusals_name_the_argument(call, message):
    """What can't be is refused with what would be right."""
    with pytest.raises(ValueError, match=message):
        call()

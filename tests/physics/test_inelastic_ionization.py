"""Ionization cross sections: the published fits, and the hydrogenic model against them."""

import numpy as np
import pytest

from nanophantom.simcore.electrons.inelastic.hydrogenic import total_cross_section
from nanophantom.simcore.electrons.inelastic.ionization import (
    bethe_powell,
    bote_salvat,
    bote_salvat_edge_ev,
)
from nanophantom.simcore.electrons.inelastic.shells import atomic_shell

SUBSHELLS = ("K", "L1", "L2", "L3")
# eV, and cm^2 of the authors' program xion.f, as in the tests of NIST's BoteSalvatICX.jl (public
# domain), with the tolerances given there: the printed coefficients have three digits.
XION = [
    (12, "L3", 7.71792e1, 3.85315e-18, 3e-20),
    (12, "L3", 1.29569e4, 1.24124e-18, 1e-20),
    (12, "L3", 5.78762e6, 1.30393e-19, 1e-21),
    (23, "L1", 2.90068e8, 5.64142e-21, 1e-23),
    (23, "L1", 1.53993e4, 2.63509e-20, 1e-22),
    (67, "K", 1.63117e5, 1.36404e-23, 1e-25),
    (1, "K", 6.87860e2, 1.57729e-17, 1e-19),
]


@pytest.mark.parametrize(("Z", "subshell", "energy_ev", "expected", "tolerance"), XION)
def test_bote_salvat_equals_the_authors_program(Z, subshell, energy_ev, expected, tolerance):
    """From threshold to 290 MeV, both branches: 7 values of Bote & Salvat's own program."""
    found = bote_salvat(Z, subshell, energy_ev / 1e3) * 1e-16
    assert found == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("subshell", SUBSHELLS)
def test_both_branches_of_the_fit_meet(subshell):
    """At 16 times the edge the two formulas agree within 1.1 %, for every element of the table."""
    for Z in range(1 if subshell == "K" else 12, 93):
        energy_kev = 16e-3 * bote_salvat_edge_ev(Z, subshell)
        below, above = bote_salvat(Z, subshell, energy_kev * np.array([1 - 1e-9, 1 + 1e-9]))
        assert above == pytest.approx(below, rel=0.011)


@pytest.mark.parametrize("subshell", SUBSHELLS)
def test_table_is_smooth_along_the_periodic_table(subshell):
    """sigma E_c^2 leaves the curve through its neighbours by less than 3 % (Z = 23 to 90).

    At 2, 8, 40 and 1000 times the edge: a wrong digit in a coefficient that matters is a spike.
    """
    Z = np.arange(21, 93)
    edges = np.array([bote_salvat_edge_ev(int(z), subshell) for z in Z])
    for overvoltage in (2.0, 8.0, 40.0, 1000.0):
        sigma = [
            float(bote_salvat(int(z), subshell, edge * overvoltage / 1e3))
            for z, edge in zip(Z, edges, strict=True)
        ]
        v = np.log(sigma * edges**2)
        spike = v[2:-2] - (-v[:-4] + 4 * v[1:-3] + 4 * v[3:-1] - v[4:]) / 6
        assert np.abs(spike).max() < 0.03


def test_calculated_edges_are_near_the_measured_ones():
    """Ionization energies of the free atom and absorption edges agree within 3 % (Z >= 22)."""
    for Z in range(22, 93):
        for subshell in SUBSHELLS:
            measured = atomic_shell(Z, subshell).onset_ev
            assert bote_salvat_edge_ev(Z, subshell) == pytest.approx(measured, rel=0.03)


def test_nothing_below_the_edge():
    """Below the ionization energy the cross section is exactly zero; just above it is positive."""
    assert bote_salvat(22, "K", 4.9) == 0
    assert bote_salvat(22, "K", 5.0) > 0
    assert bethe_powell(22, "K", 4.9) == 0


@pytest.mark.parametrize("energy_kev", [100, 200, 300])
@pytest.mark.parametrize(("Z", "subshells"), [(8, ("K",)), (22, ("L1", "L2", "L3")), (22, ("K",))])
def test_hydrogenic_totals_are_within_20_percent_of_bote_salvat(Z, subshells, energy_kev):
    """O K, Ti L and Ti K at 100, 200, 300 kV; measured: -1 %, 0 % and +4 to +6 %."""
    hydrogenic = sum(total_cross_section(atomic_shell(Z, s), energy_kev) for s in subshells)
    published = sum(float(bote_salvat(Z, s, energy_kev)) for s in subshells)
    assert hydrogenic == pytest.approx(published, rel=0.08)


@pytest.mark.parametrize("Z", [6, 7, 8, 13, 14, 22, 26, 29])
def test_hydrogenic_k_shells_are_within_10_percent_of_bote_salvat(Z):
    """K shells from C to Cu at 60 to 300 kV (measured: -1 % to +9 %)."""
    for energy_kev in (60, 100, 200, 300):
        ratio = total_cross_section(atomic_shell(Z, "K"), energy_kev) / bote_salvat(
            Z, "K", energy_kev
        )
        assert 0.9 < ratio < 1.1


def test_subshells_of_a_whole_shell():
    """The hydrogenic L shell is the sum of its subshells (integrals over different ranges)."""
    parts = sum(total_cross_section(atomic_shell(26, s), 200) for s in ("L1", "L2", "L3"))
    assert total_cross_section(atomic_shell(26, "L"), 200) == pytest.approx(parts, rel=2e-3)


def test_bethe_powell_number():
    """Slow limit: 6.51e-14 cm^2 eV^2 n b / (E E_c) ln(c E / E_c), Powell 1976.

    At 20 keV the relativistic corrections are 4 %, so that v^2 is compared, not E.
    """
    T = 510998.95 * (1 - 1 / (1 + 5 / 510.99895) ** 2) / 2
    expected = 6.51e-14 * 2 * 0.9 / (T * 500) * np.log(0.65 * T / 500) * 1e16
    assert bethe_powell(8, "K", 5.0, edge_ev=500.0) == pytest.approx(expected, rel=1e-3)


def test_relativistic_rise():
    """ln(gamma^2) - beta^2: between 300 kV and 1 GV the cross section rises again (Bethe)."""
    energies = np.array([300.0, 1e3, 1e4, 1e6])
    for model in (bethe_powell, bote_salvat):
        sigma = model(8, "K", energies)
        assert sigma[3] > sigma[2] > sigma[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bote_salvat(8, "L1", 100), "no subshell"),
        (lambda: bote_salvat(99, "K", 100), "no subshell"),
        (lambda: bote_salvat(8, "K", -1.0), "energy_kev"),
        (lambda: bethe_powell(8, "M5", 100), "subshell must be"),
    ],
)
def test_refusals_name_the_argument(call, message):
    """What can't be is refused with what would be right."""
    with pytest.raises(ValueError, match=message):
        call()

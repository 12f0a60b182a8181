"""Inelastic mean free paths against published formulas' numbers, and Poisson statistics."""

import numpy as np
import pytest

from nanophantom.simcore.electrons.inelastic.mean_free_path import (
    VITREOUS_ICE_300KV_NM,
    effective_atomic_number,
    iakoubovskii,
    loss_fraction,
    malis,
    relative_thickness,
    zero_loss_fraction,
)

# iMFP_Iakoubovskii of exspy 0.3.2: density in g/cm^3, nm at 100, 200, 300 kV
IAKOUBOVSKII = {
    "a-C": (1.9, (105.9, 156.6, 188.3)),
    "Al": (2.70, (97.1, 143.5, 172.4)),
    "Si": (2.33, (100.7, 148.8, 178.9)),
    "Cu": (8.96, (72.7, 106.7, 127.9)),
    "Ag": (10.5, (70.0, 102.7, 123.0)),
    "Au": (19.3, (60.5, 88.5, 105.9)),
    "water": (1.0, (123.9, 183.9, 221.3)),
    "Si3N4": (3.1, (93.9, 138.7, 166.6)),
    "SiO2": (2.2, (102.1, 151.0, 181.5)),
}
# Malis, Cheng & Egerton (1988), their formula worked out for beta = 10 mrad at 100, 200, 300 kV
MALIS = {
    6: (114.0, 160.8, 187.1),
    13: (91.5, 128.1, 148.5),
    14: (89.6, 125.3, 145.2),
    29: (73.1, 101.4, 117.1),
    79: (55.5, 76.1, 87.4),
}


@pytest.mark.parametrize("name", IAKOUBOVSKII)
def test_iakoubovskii_equals_exspy(name):
    """All inelastic collisions, three voltages: the numbers of exspy 0.3.2 to their last digit."""
    density, expected = IAKOUBOVSKII[name]
    found = [iakoubovskii(density, energy_kev) for energy_kev in (100, 200, 300)]
    np.testing.assert_allclose(found, expected, atol=0.06)


@pytest.mark.parametrize("Z", MALIS)
def test_malis_formula(Z):
    """lambda = 106 F (E0 / Em) / ln(2 beta E0 / Em) at three voltages."""
    found = [malis(Z, energy_kev, 10.0) for energy_kev in (100, 200, 300)]
    np.testing.assert_allclose(found, MALIS[Z], atol=0.06)


def test_smaller_collection_means_a_longer_path():
    """A smaller aperture counts fewer collisions; far beyond 20 mrad its size does not matter."""
    paths = [iakoubovskii(2.33, 200, mrad) for mrad in (2, 5, 10, 20, 50, 1000)]
    assert np.all(np.diff(paths) < 0)
    assert paths[-1] == pytest.approx(iakoubovskii(2.33, 200), rel=1e-3)
    # collection and convergence enter in the same way: only the larger counts
    assert iakoubovskii(2.33, 200, 5, 10) == pytest.approx(iakoubovskii(2.33, 200, 10, 5))


def test_ice_is_not_what_the_density_formula_gives():
    """At 300 kV the measured path in ice, 315 nm, is 40 % above Iakoubovskii's formula."""
    assert pytest.approx(315) == VITREOUS_ICE_300KV_NM
    assert iakoubovskii(0.93, 300) == pytest.approx(226, abs=1)


def test_poisson_fractions():
    """exp(-t / lambda) without loss; all orders sum to 1; their mean is t / lambda."""
    assert zero_loss_fraction(100.0, 100.0) == pytest.approx(np.exp(-1))
    orders = np.arange(60)
    fractions = loss_fraction(orders, 250.0, 100.0)
    assert fractions.sum() == pytest.approx(1, abs=1e-12)
    assert fractions @ orders == pytest.approx(2.5, abs=1e-12)
    np.testing.assert_array_equal(loss_fraction(orders, 0.0, 100.0), orders == 0)


def test_log_ratio_returns_the_thickness():
    """t / lambda = ln(I / I0): the total over the zero loss, not the other way round."""
    zero = 1e5 * zero_loss_fraction([10.0, 80.0], 120.0)
    np.testing.assert_allclose(relative_thickness(1e5, zero), [10 / 120, 80 / 120])


def test_effective_atomic_number():
    """An element is itself; a compound lies between its elements, nearer to the heavier one."""
    assert effective_atomic_number([14], [1.0]) == pytest.approx(14)
    expected = (31**1.3 + 33**1.3) / (31**0.3 + 33**0.3)
    assert effective_atomic_number([31, 33], [0.5, 0.5]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: iakoubovskii(-1, 200), "density_g_cm3"),
        (lambda: iakoubovskii(2, 200, 0), "collection_mrad"),
        (lambda: iakoubovskii(2, 200, 10, -1), "convergence_mrad"),
        (lambda: iakoubovskii(2, -200), "energy_kev"),
        (lambda: malis(6, 100, 0.01), "collection_mrad"),
        (lambda: loss_fraction(-1, 1.0, 1.0), "count"),
        (lambda: zero_loss_fraction(1.0, 0.0), "mean_free_path_nm"),
        (lambda: relative_thickness(1.0, 2.0), "zero_loss"),
        (lambda: effective_atomic_number([6], [0.0]), "fractions"),
    ],
)
def test_refusals_name_the_argument(call, message):
    """What can't be is refused with the argument's name."""
    with pytest.raises(ValueError, match=message):
        call()

"""Closed forms of localization precision against numbers worked out elsewhere, and each other."""

import dataclasses

import numpy as np
import pytest

from nanophantom.analysis.localization_precision import (
    cramer_rao,
    cramer_rao_astigmatic,
    mortensen_least_squares,
    mortensen_likelihood,
    rieger_stallinga,
    thompson,
)
from nanophantom.analysis.spot_fits import Astigmatism

SPOT = (100.0, 100.0, 1000.0, 10.0)  # sigma, pixel (nm), photons, background photons in a pixel


@pytest.mark.parametrize(
    ("form", "expected_nm"),
    [
        (mortensen_likelihood, 4.093),
        (rieger_stallinga, 4.163),
        (mortensen_least_squares, 4.713),
        (thompson, 3.653),
    ],
)
def test_closed_forms_give_their_numbers(form, expected_nm):
    """The formulas by hand; Mortensen's integral equals a numeric Fisher matrix to 1e-4."""
    assert form(*SPOT) == pytest.approx(expected_nm, rel=1e-3)


@pytest.mark.parametrize(
    ("sigma", "photons", "background", "expected_nm"),
    [
        (100, 1000, 10, 4.093),
        (100, 500, 10, 6.439),
        (100, 5000, 10, 1.595),
        (130, 1000, 10, 5.647),
        (130, 1000, 1, 4.584),
        (130, 200, 1, 11.49),
    ],
)
def test_fisher_information_in_a_small_box(sigma, photons, background, expected_nm):
    bound = cramer_rao(sigma, 100, photons, background, box_px=7)
    assert bound.x_nm == pytest.approx(expected_nm, rel=1e-3)
    assert bound.y_nm == pytest.approx(bound.x_nm, rel=1e-12)


def test_bounds_of_photons_and_background():
    bound = cramer_rao(*SPOT, box_px=7)
    assert bound.photons == pytest.approx(37.84, rel=1e-3)
    assert bound.background == pytest.approx(0.619, rel=1e-3)


@pytest.mark.parametrize("photons", [100, 1000, 30_000])
@pytest.mark.parametrize("background", [0.3, 10, 200])
@pytest.mark.parametrize("sigma", [110, 160])
def test_mortensens_integral_is_fishers_information(sigma, photons, background):
    """They share the physics, not the route: an integral over brightness, a sum over pixels.

    Mortensen takes a Gaussian of width sigma_a where a pixel integrates one of width sigma: 0.5 %
    when pixels are no larger than the spot's width.
    """
    offsets = np.arange(5) / 10
    squares = [
        cramer_rao(sigma, 100, photons, background, box_px=21, x_px=x).x_nm ** 2 for x in offsets
    ]
    exact = np.sqrt(np.mean(squares))
    assert mortensen_likelihood(sigma, 100, photons, background) == pytest.approx(exact, rel=5e-3)
    assert rieger_stallinga(sigma, 100, photons, background) == pytest.approx(exact, rel=0.03)


def test_no_background_leaves_the_width_over_the_root_of_photons():
    expected = np.sqrt((100**2 + 100**2 / 12) / 400)
    for form in (mortensen_likelihood, rieger_stallinga, thompson):
        assert form(100, 100, 400, 0) == pytest.approx(expected, rel=1e-12)
    assert mortensen_least_squares(100, 100, 400, 0) == pytest.approx(4 / 3 * expected, rel=1e-12)


def test_readout_noise_adds_to_the_expectation():
    """1.6 electrons rms on every pixel: 4.222 nm; the same as 2.56 more background photons."""
    noisy = cramer_rao(*SPOT, box_px=7, read_variance=2.56)
    assert noisy.x_nm == pytest.approx(4.222, rel=1e-3)
    brighter = cramer_rao(100, 100, 1000, 12.56, box_px=7)
    assert noisy.x_nm == pytest.approx(brighter.x_nm, rel=1e-12)


def test_an_emccd_loses_the_root_of_two():
    assert mortensen_likelihood(*SPOT, excess_noise=2) == pytest.approx(5.79, rel=1e-3)
    once, twice = (cramer_rao(*SPOT, free_width=True, excess_noise=f) for f in (1, 2))
    for a, b in zip(dataclasses.astuple(once)[:5], dataclasses.astuple(twice)[:5], strict=True):
        assert b == pytest.approx(np.sqrt(2) * a, rel=1e-12)


def test_an_unknown_width_costs_photons_not_place():
    known, free = (cramer_rao(*SPOT, box_px=7, free_width=f) for f in (False, True))
    assert free.x_nm == pytest.approx(known.x_nm, rel=1e-9)
    assert free.photons > 1.1 * known.photons


@pytest.mark.parametrize(
    ("z", "expected_nm"), [(0, 22.7), (200, 30.6), (-200, 30.6), (400, 32.8), (-400, 32.8)]
)
def test_height_from_astigmatism(z, expected_nm):
    """Widths 130 sqrt(1 + ((z -+ 200) / 350)^2) nm."""
    bound = cramer_rao_astigmatic(Astigmatism.from_focus(130, 200, 350), z, 100, 1000, 10)
    assert bound.z_nm == pytest.approx(expected_nm, rel=5e-3)
    if z == 0:
        assert bound.x_nm == pytest.approx(6.75, rel=1e-3)


def test_impossible_spots_are_refused():
    with pytest.raises(ValueError, match="must be positive"):
        thompson(100, 100, 0, 10)
    with pytest.raises(ValueError, match="not negative"):
        cramer_rao(100, 100, 100, -1)
    with pytest.raises(ValueError, match="box_px"):
        cramer_rao(*SPOT, box_px=1)

"""Stimulated emission depletion: saturation laws, the doughnut, and the widths that follow."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special

from nanophantom.simcore.light.confocal import scan_spots
from nanophantom.simcore.light.psf import AiryPsf, GaussianPsf, Optics
from nanophantom.simcore.light.psf.widths import fwhm
from nanophantom.simcore.light.sted import (
    Doughnut,
    depleted_fwhm_nm,
    depleted_sigma_nm,
    left_by_pulses,
    left_by_steady_light,
    resolution_nm,
)

OPTICS = Optics(sample_index=1.518)
DOUGHNUT = Doughnut(775.0, 1.4, 1.518)


def width(r, profile):
    """Full width at half maximum of a round profile."""
    return fwhm(np.r_[-r[:0:-1], r], np.r_[profile[:0:-1], profile])


def test_half_is_left_at_the_saturation_intensity():
    assert left_by_pulses(1.0) == pytest.approx(0.5, rel=1e-15)
    assert left_by_steady_light(1.0) == pytest.approx(0.5, rel=1e-15)
    assert left_by_pulses(0.0) == left_by_steady_light(0.0) == 1.0
    assert left_by_pulses(3.0) == pytest.approx(0.125)
    assert left_by_steady_light(3.0) == pytest.approx(0.25)


def test_the_inverse_square_root_law():
    """wavelength 640, NA 1.4, zeta 0, 1, 10, 30, 100: 228.6, 161.6, 68.9, 41.1, 22.7 nm."""
    law = [resolution_nm(640.0, 1.4, zeta) for zeta in (0, 1, 10, 30, 100)]
    np.testing.assert_allclose(law, [228.6, 161.6, 68.9, 41.1, 22.7], rtol=2e-3)
    assert law[1] == pytest.approx(228.5714 / math.sqrt(2), rel=1e-6)


@pytest.mark.parametrize("zeta", [1.0, 20.0, 100.0])
def test_a_gaussian_under_a_parabola_stays_gaussian(zeta):
    """exp(-r^2 / 2 s0^2) 2^-(zeta a^2 r^2): 1/s^2 = 1/s0^2 + 2 ln2 zeta a^2, to 1e-6 of the peak at
    every distance of the effective spot."""
    s0, a = 95.0, 1 / 250.0
    spots = scan_spots(
        GaussianPsf(sigma_nm=s0), OPTICS, 640.0, 670.0, (0.0, 0.0), 0.0, None,
        lambda r, z: (a * r) ** 2 + 0 * z, lambda x: left_by_pulses(zeta * x),
        resolution_nm(640.0, 1.4, zeta),
    )  # fmt: skip
    s = depleted_sigma_nm(s0, zeta, a)
    assert s == pytest.approx((1 / s0**2 + 2 * math.log(2) * zeta * a**2) ** -0.5, rel=1e-12)
    expected = np.exp(-0.5 * (spots.r_nm / s) ** 2)
    np.testing.assert_allclose(spots.detected[0], expected, rtol=0, atol=1e-6)
    assert width(spots.r_nm, spots.detected[0]) == pytest.approx(
        depleted_fwhm_nm(2.3548200450 * s0, zeta, a), rel=1e-6
    )


def test_the_doughnut_is_that_of_a_vortex_plate():
    """integral J1(v rho) rho drho = pi / (2 v) (J1 H0 - J0 H1), H of Struve; it is dark in the
    middle at any height, and about there (pi NA r / 3 wavelength)^2 of the squared field."""
    v = np.linspace(0.1, 20.0, 60)
    j0, j1 = scipy.special.j0(v), scipy.special.j1(v)
    field = np.pi / (2 * v) * (j1 * scipy.special.struve(0, v) - j0 * scipy.special.struve(1, v))
    r = v * 775.0 / (2 * np.pi * 1.4)
    ours = DOUGHNUT.intensity(r, np.zeros((1, 1)))[0]
    np.testing.assert_allclose(ours / ours[10], field**2 / field[10] ** 2, rtol=1e-8, atol=1e-9)
    middle = DOUGHNUT.intensity(np.array([0.0, 1.0, DOUGHNUT.crest_nm]), np.array([[0.0], [400.0]]))
    assert (middle[:, 0] == 0.0).all()
    assert middle[0, 1] == pytest.approx(DOUGHNUT.per_nm**2, rel=1e-3)
    assert middle[0, 2] == pytest.approx(1.0, rel=1e-9)
    assert middle[1, 2] < 0.9


def sted_width(zeta, law=left_by_pulses):
    spots = scan_spots(
        AiryPsf(), OPTICS, 640.0, 670.0, (0.0, 0.0), 0.0, 1.0, DOUGHNUT.intensity,
        lambda x: law(zeta * x), resolution_nm(640.0, 1.4, zeta),
    )  # fmt: skip
    return width(spots.r_nm, spots.detected[0])


def test_spots_narrow_as_the_steepness_of_the_doughnut_says():
    """An Airy spot behind a pinhole is no Gaussian and a doughnut no parabola, so the closed form
    is a limit of strong depletion: within 5 % from zeta 1 on, 1 % from 30 on. The inverse
    square-root law, with its fixed steepness, is 11 to 20 % too narrow."""
    without = sted_width(0.0)
    for zeta, tolerance in ((1.0, 0.05), (10.0, 0.025), (30.0, 0.01), (100.0, 0.005)):
        found = sted_width(zeta)
        expected = depleted_fwhm_nm(without, zeta, DOUGHNUT.per_nm)
        assert found == pytest.approx(expected, rel=tolerance)
        assert 1.10 < found / resolution_nm(640.0, 1.4, zeta) < 1.20
    steady = sted_width(100.0, left_by_steady_light)
    expected = depleted_fwhm_nm(without, 100.0, DOUGHNUT.per_nm, pulsed=False)
    assert steady == pytest.approx(expected, rel=0.03)


def test_an_imperfect_zero_takes_light_from_the_middle():
    """2^-(zeta residual) of it is left."""
    leaky = Doughnut(775.0, 1.4, 1.518, residual=0.05)
    middle = leaky.intensity(np.zeros(1), np.zeros((1, 1)))[0, 0]
    assert middle == pytest.approx(0.05, rel=1e-9)
    assert left_by_pulses(20.0 * middle) == pytest.approx(0.5, rel=1e-9)

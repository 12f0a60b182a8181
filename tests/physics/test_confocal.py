"""Confocal spots: pinholes, resolution and sectioning against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize

from nanophantom.simcore.light.confocal import (
    IDEAL_FWHM,
    airy_unit_nm,
    scan_spots,
    through_pinhole,
    throughput,
)
from nanophantom.simcore.light.psf import AiryPsf, GaussianPsf, Optics, VectorialPsf
from nanophantom.simcore.light.psf.optics import airy_axial_fwhm_nm, airy_fwhm_nm
from nanophantom.simcore.light.psf.widths import fwhm

OPTICS = Optics(sample_index=1.518)
NM = 560.0
UNIT = NM / OPTICS.na


def airy_spots(pinhole_au, z_range_nm=(0.0, 0.0)):
    return scan_spots(AiryPsf(), OPTICS, NM, NM, z_range_nm, 0.0, pinhole_au)


def width(r, profile):
    """Full width at half maximum of a round profile."""
    return fwhm(np.r_[-r[:0:-1], r], np.r_[profile[:0:-1], profile])


def test_the_airy_unit():
    assert airy_unit_nm(NM, 1.4) == pytest.approx(1.2197 * NM / 1.4, rel=1e-4)


def test_light_through_a_pinhole_in_focus():
    """1 - J0^2 - J1^2: 0.136, 0.588, 0.838, 0.912 at 0.2, 0.5, 1, 2 Airy units, and the table of a
    microscope agrees with it at any other."""
    known = [0.136, 0.588, 0.838, 0.912]
    np.testing.assert_allclose(throughput([0.2, 0.5, 1.0, 2.0]), known, atol=5e-4)
    for pinhole in (0.2, 0.5, 0.8, 1.0, 1.5, 2.0, 4.0):
        spots = airy_spots(pinhole)
        assert spots.passed[0, 0] == pytest.approx(float(throughput(pinhole)), abs=1e-5)


def test_a_point_for_a_pinhole_gives_the_airy_pattern_squared():
    """0.3693 wavelength / NA, 0.718 of the widefield width; a wide pinhole the widefield width."""
    spots = airy_spots(0.01)
    narrow = width(spots.r_nm, spots.detected[0])
    assert narrow == pytest.approx(0.3693 * UNIT, rel=3e-4)
    assert narrow == pytest.approx(IDEAL_FWHM * UNIT, rel=1e-4)
    assert narrow / airy_fwhm_nm(NM, OPTICS.na) == pytest.approx(0.718, rel=1e-3)
    spots = airy_spots(None)
    assert width(spots.r_nm, spots.detected[0]) == pytest.approx(0.5145 * UNIT, rel=1e-3)


def test_widths_grow_with_the_pinhole():
    widths = []
    for pinhole in (0.1, 0.4, 0.7, 1.0):
        spots = airy_spots(pinhole)
        widths.append(width(spots.r_nm, spots.detected[0]))
    assert (np.diff(widths) > 0).all()


def test_a_pinhole_takes_its_area_of_a_gaussian_and_the_closed_form_in_the_middle():
    """1 - exp(-a^2 / 2 s^2) in the middle; over all places of the spot the disc's area comes in."""
    s, a = 90.0, 150.0
    r = 5.0 * np.arange(300)
    density = np.exp(-0.5 * (r / s) ** 2)[None] / (2 * np.pi * s**2)
    taken = through_pinhole(r, density, a, 170.0)[0]
    assert taken[0] == pytest.approx(1 - math.exp(-0.5 * (a / s) ** 2), rel=1e-7)
    places = r[: len(taken)]
    whole = scipy.integrate.simpson(2 * np.pi * places * taken, x=places)
    assert whole == pytest.approx(np.pi * a**2, rel=1e-6)


def test_gaussian_spots_multiply():
    """1 / s^2 = 1 / s_exc^2 + 1 / s_det^2 for a point pinhole, each 0.21 wavelength / NA."""
    spots = scan_spots(GaussianPsf(), OPTICS, 488.0, 520.0, (0.0, 0.0), 0.0, 0.01)
    sigmas = 0.21 * np.array([488.0, 520.0]) / OPTICS.na
    expected = 2.35482 / math.sqrt((1 / sigmas**2).sum())
    assert width(spots.r_nm, spots.detected[0]) == pytest.approx(expected, rel=2e-4)


def test_the_pinhole_sections_along_the_axis():
    """On the axis: sinc^2(u/4), 1.7718 n wavelength / NA^2 wide, without a pinhole; its square with
    a point for one."""
    z = np.linspace(-700.0, 700.0, 281)
    wide = airy_axial_fwhm_nm(NM, OPTICS.na, OPTICS.sample_index)
    half = scipy.optimize.brentq(lambda x: np.sinc(x / np.pi) ** 4 - 0.5, 0.1, 2.0)
    whole = scipy.optimize.brentq(lambda x: np.sinc(x / np.pi) ** 2 - 0.5, 0.1, 2.0)
    for pinhole, expected in ((None, wide), (0.01, wide * half / whole)):
        spots = airy_spots(pinhole, (-700.0, 700.0))
        axis = np.array([spots.at(spots.detected[:, :1], height)[0] for height in z])
        assert fwhm(z, axis) == pytest.approx(expected, rel=1e-3)


def test_a_fluorescent_sheet_fades_out_of_focus_behind_a_pinhole_only():
    """A sheet's light is the spot's integral. Without a pinhole it stays; behind one it falls far
    from focus as 1 / z^2, as the overlap of two cones does."""
    light = {}
    for pinhole in (None, 1.0):
        spots = airy_spots(pinhole, (-3200.0, 0.0))
        sums = (spots.detected * spots.r_nm).sum(axis=1)
        light[pinhole] = np.interp([-3200.0, -1600.0, -500.0, 0.0], spots.z_nm, sums)
        light[pinhole] /= light[pinhole][-1]
    np.testing.assert_allclose(light[None], 1.0, atol=0.03)  # the table holds 97 % of the light
    assert light[1.0][2] < 0.6
    assert light[1.0][1] / light[1.0][0] == pytest.approx(4.0, rel=0.1)


def test_spots_that_are_not_round_are_refused():
    with pytest.raises(ValueError, match="round spots"):
        scan_spots(VectorialPsf(dipole_tilt_deg=60.0), OPTICS, NM, NM, (0.0, 0.0))

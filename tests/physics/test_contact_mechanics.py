"""Closed laws of contact and of menisci, against published numbers and first principles."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, optimize

from nanophantom.simcore.probes import contact
from nanophantom.simcore.probes.capillary import (
    Meniscus,
    capillary_force_nn,
    kelvin_length_nm,
    kelvin_radius_nm,
)
from nanophantom.simcore.probes.interaction import CONTACT_NM, force_nn, hamaker_zj

R, W = 10.0, 50.0
E_STAR = 1.0 / (1.0 - 0.3**2)  # E = 1 GPa, nu = 0.3


def test_hertz_sphere() -> None:
    """10 nN on a 10 nm sphere, E = 1 GPa, nu = 0.3: arithmetic of Johnson's formulas."""
    assert contact.hertz_indentation_nm(10.0, R, E_STAR) == pytest.approx(1.6701, rel=1e-4)
    assert contact.hertz_contact_radius_nm(10.0, R, E_STAR) == pytest.approx(4.0867, rel=1e-4)
    pressure = contact.hertz_peak_pressure_gpa(10.0, R, E_STAR)
    assert pressure == pytest.approx(0.2859, rel=1e-4)
    a = contact.hertz_contact_radius_nm(10.0, R, E_STAR)
    assert pressure == pytest.approx(1.5 * 10.0 / (np.pi * a**2), rel=1e-12)


def test_hertz_and_its_inverse_agree() -> None:
    forces = np.array([0.0, 1e-6, 0.3, 700.0])
    for radius in (2.0, 2500.0):
        depth = contact.hertz_indentation_nm(forces, radius, 0.01)
        again = contact.hertz_force_nn(depth, radius, 0.01)
        np.testing.assert_allclose(again, forces, rtol=1e-12)
    np.testing.assert_allclose(
        contact.cone_force_nn(contact.cone_indentation_nm(forces, 35.0, 0.2), 35.0, 0.2),
        forces,
        rtol=1e-12,
    )


def test_cone_and_colloid_on_cells() -> None:
    """Sneddon: 20 deg, 10 kPa, 500 nm. Colloid: R = 2.5 um, 1 kPa, 500 nm. nu = 0.5 in both."""
    cone = contact.cone_force_nn(500.0, 20.0, 1e-5 / 0.75)
    assert cone == pytest.approx(0.7724, rel=1e-4)
    assert contact.hertz_force_nn(500.0, 2500.0, 1e-6 / 0.75) == pytest.approx(0.9938, rel=1e-4)


def test_a_punch_is_the_limit_of_a_jkr_neck() -> None:
    """At constant contact radius force grows with 2 a E* delta: JKR's stiffness as w changes it."""
    a = 3.0
    one, other = (contact.jkr_state(a, R, E_STAR, w) for w in (20.0, 80.0))
    stretched = one.indentation_nm - other.indentation_nm
    assert one.force_nn - other.force_nn == pytest.approx(
        float(contact.punch_force_nn(stretched, a, E_STAR)), rel=1e-12
    )


def test_pull_off_forces() -> None:
    """R = 10 nm, w = 50 mJ/m2: JKR 1.5, at fixed grips 5/6, DMT 2 pi R w."""
    dead_load = contact.jkr_pull_off(R, E_STAR, W, 0.0)
    grips = contact.jkr_pull_off(R, E_STAR, W)
    assert -dead_load.force_nn == pytest.approx(2.3562, rel=1e-4)
    assert -grips.force_nn == pytest.approx(1.3090, rel=1e-4)
    assert contact.dmt_pull_off_nn(R, W) == pytest.approx(3.1416, rel=1e-4)


def test_jkr_contact() -> None:
    """Radii and neck of the same contact; and the radius without load, a0^3 = 9 pi w R^2 / 2 E*."""
    free, dead_load = (
        contact.jkr_under_load(0.0, R, E_STAR, W),
        contact.jkr_pull_off(R, E_STAR, W, 0.0),
    )
    assert free.contact_radius_nm == pytest.approx(4.0067, rel=1e-4)
    assert dead_load.contact_radius_nm == pytest.approx(2.5241, rel=1e-4)
    assert dead_load.contact_radius_nm / free.contact_radius_nm == pytest.approx(0.25 ** (1 / 3))
    assert dead_load.indentation_nm == pytest.approx(-0.2124, rel=1e-3)


def test_jkr_is_where_the_energy_is_least() -> None:
    """Energy E* (delta^2 a - 2 delta a^3 / 3R + a^5 / 5R^2) - pi w a^2, minimised over a."""
    w = 1e-3 * W

    def energy(a: float, depth: float) -> float:
        elastic = depth**2 * a - 2 * depth * a**3 / (3 * R) + a**5 / (5 * R**2)
        return E_STAR * elastic - np.pi * w * a**2

    for depth in (-0.3, -0.1, 0.0, 0.7, 4.0):
        bounds = (1.22, 12.0)  # the contact radius at which the neck breaks is 1.213 nm
        a = optimize.minimize_scalar(
            energy, bounds=bounds, args=(depth,), method="bounded", options={"xatol": 1e-9}
        ).x
        force = E_STAR * (2 * depth * a - 2 * a**3 / (3 * R))
        found = contact.jkr_force_nn(depth, R, E_STAR, W, "unloading")
        assert found == pytest.approx(force, rel=1e-5)


def test_jkr_branches() -> None:
    """Loading: nothing until it touches, then 4/3 pi R w. Unloading: a neck down to its break."""
    last = float(contact.jkr_pull_off(R, E_STAR, W).indentation_nm)
    depth = np.linspace(1.2 * last, 2.0, 4001)
    loading = contact.jkr_force_nn(depth, R, E_STAR, W, "loading")
    unloading = contact.jkr_force_nn(depth, R, E_STAR, W, "unloading")
    assert (loading[depth < 0] == 0).all()
    assert (unloading[depth < last] == 0).all()
    assert (unloading[(depth >= last) & (depth < 0)] < 0).all()
    np.testing.assert_array_equal(loading[depth >= 0], unloading[depth >= 0])
    at_touch = contact.jkr_force_nn(0.0, R, E_STAR, W)
    assert at_touch == pytest.approx(-4 / 3e3 * np.pi * R * W, rel=1e-12)
    assert unloading.min() == pytest.approx(-1.5e-3 * np.pi * R * W, rel=1e-5)
    under_load = contact.jkr_under_load(2.5, R, E_STAR, W)
    again = contact.jkr_force_nn(under_load.indentation_nm, R, E_STAR, W)
    assert again == pytest.approx(2.5, rel=1e-12)


@pytest.mark.parametrize("stiffness", [1e-3, 0.1, 3.0, 400.0])
def test_a_lever_loses_a_jkr_contact_where_its_stiffness_is_met(stiffness: float) -> None:
    """At the last contact dF/d delta = -k; between a dead load and fixed grips."""
    last = contact.jkr_pull_off(R, E_STAR, W, stiffness)
    a = float(last.contact_radius_nm)
    low, high = (contact.jkr_state(a + step, R, E_STAR, W) for step in (-1e-5, 1e-5))
    slope = (high.force_nn - low.force_nn) / (high.indentation_nm - low.indentation_nm)
    assert slope == pytest.approx(-stiffness, rel=1e-3)
    pull = -float(last.force_nn) / (1e-3 * np.pi * R * W)
    assert 5 / 6 <= pull <= 1.5


def test_jkr_without_adhesion_is_hertz() -> None:
    depth = np.array([0.0, 0.1, 3.0])
    np.testing.assert_allclose(
        contact.jkr_force_nn(depth, R, E_STAR, 0.0),
        contact.hertz_force_nn(depth, R, E_STAR),
        rtol=1e-12,
    )


def test_jkr_hysteresis_is_the_work_on_the_neck() -> None:
    last = float(contact.jkr_pull_off(R, E_STAR, W).indentation_nm)
    work = integrate.quad(
        # v^2 from the end of the neck takes the infinite slope away there
        lambda v: float(contact.jkr_force_nn(last + v * v, R, E_STAR, W, "unloading")) * 2 * v,
        0.0,
        np.sqrt(-last),
    )[0]
    found = contact.jkr_hysteresis_ev(R, E_STAR, W)
    assert found == pytest.approx(-work * contact.EV_PER_NN_NM, rel=1e-6)


def test_tabor_parameter() -> None:
    """Between DMT (below 0.1) and JKR (above 5) for z0 = 0.3 nm."""
    assert contact.tabor_parameter(R, E_STAR, W) == pytest.approx(0.9153, rel=1e-3)


def test_van_der_waals_force_and_snap_in() -> None:
    """H = 1e-19 J, R = 10 nm; in contact at 0.165 nm the pull is 2 pi R w with w = 97.4 mJ/m2."""
    force = contact.van_der_waals_force_nn([1.0, CONTACT_NM], R, 100.0)
    np.testing.assert_allclose(-force, [0.16667, 6.122], rtol=1e-4)
    assert -force[1] == pytest.approx(float(contact.dmt_pull_off_nn(R, 97.44)), rel=1e-3)
    assert contact.snap_in_distance_nm(R, 100.0, 0.1) == pytest.approx(1.494, rel=1e-3)


def test_dmt_is_the_law_of_tapping() -> None:
    """The same forces as the compiled law of the interaction, apart and in contact."""
    distances = np.array([0.05, 0.1, CONTACT_NM, 0.2, 1.0, 7.0])
    law = np.array([force_nn(d, R, E_STAR, W, np.inf) for d in distances])
    apart = contact.van_der_waals_force_nn(distances, R, hamaker_zj(W))
    touching = contact.dmt_force_nn(CONTACT_NM - distances, R, E_STAR, W)
    np.testing.assert_allclose(np.where(distances > CONTACT_NM, apart, touching), law, rtol=1e-12)


def test_capillary_force_and_kelvin_radius() -> None:
    """Water, R = 10 nm: 4 pi R gamma cos theta; 0.523 nm at 298 K (0.54 in Garcia's at 293 K)."""
    assert capillary_force_nn(R) == pytest.approx(9.048, rel=1e-3)
    assert capillary_force_nn(R, 72.0, 40.0) == pytest.approx(6.931, rel=1e-3)
    assert kelvin_length_nm() == pytest.approx(0.523, rel=1e-3)
    assert kelvin_radius_nm(50.0) == pytest.approx(0.755, rel=1e-3)


def test_a_stretched_meniscus_keeps_its_volume_and_laplace_pressure() -> None:
    """Wetted area times Laplace pressure, for the radius at which the volume is what it was."""
    water = Meniscus(humidity_percent=70.0, contact_angle_deg=30.0)
    cosine = np.cos(np.deg2rad(30.0))
    volume = water.volume_nm3(R)
    for d in (0.0, 0.5, 4.0):

        def excess(height: float, d: float = d) -> float:
            inside = integrate.quad(lambda gap: gap * 2 * np.pi * R, d, height)[0]
            return inside - float(volume)

        height = optimize.brentq(excess, d, 100.0)
        pressure_gpa = 1e-3 * 72.0 / (height / (2 * cosine))
        force = pressure_gpa * np.pi * 2 * R * (height - d)
        assert -water.force_nn(d, R) == pytest.approx(force, rel=1e-9)


def test_a_meniscus_loses_energy() -> None:
    """Its pull from where it forms to where it breaks; all humidities, more under blunter tips."""
    for humidity in (5.0, 50.0, 95.0):
        water = Meniscus(humidity_percent=humidity)
        assert water.rupture_nm(R) >= water.formation_nm
        work = integrate.quad(
            lambda d, water=water: float(water.force_nn(d, R)),
            water.formation_nm,
            float(water.rupture_nm(R)),
        )[0]
        lost = water.hysteresis_ev(R)
        assert lost == pytest.approx(-work * contact.EV_PER_NN_NM, rel=1e-8)
        assert water.hysteresis_ev(100.0) > lost >= 0
    told = Meniscus(forms_at_nm=2.0, breaks_at_nm=2.0)
    assert told.hysteresis_ev(R) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: contact.hertz_force_nn(1.0, 0.0, 1.0), "radius_nm must be finite and positive"),
        (lambda: contact.hertz_force_nn(np.nan, 1.0, 1.0), "indentation_nm must be finite"),
        (lambda: contact.hertz_indentation_nm(-1.0, 1.0, 1.0), "force_nn must be finite and not"),
        (lambda: contact.cone_force_nn(1.0, 90.0, 1.0), "half_angle_deg must be below 90"),
        (lambda: contact.jkr_under_load(-2.4, R, E_STAR, W), "no JKR contact holds that pull"),
        (lambda: contact.jkr_force_nn(0.0, R, E_STAR, W, "both"), "branch must be"),  # type: ignore[arg-type]
        (lambda: contact.jkr_pull_off(R, E_STAR, W, -1.0), "must not be negative"),
        (lambda: contact.jkr_state(1.0, R, -1.0, W), "e_star_gpa must be finite and positive"),
        (lambda: contact.dmt_pull_off_nn(R, -1.0), "adhesion_mj_per_m2 must be finite and not"),
        (lambda: capillary_force_nn(R, 72.0, 90.0), "contact_angle_deg must be 0 ... 90"),
        (lambda: kelvin_radius_nm(100.0), "humidity_percent must be between 0 and 100"),
        (lambda: Meniscus(forms_at_nm=3.0, breaks_at_nm=2.0), "must not be below the 3 nm"),
    ],
)
def test_the_impossible_is_refused_in_one_line(call: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()  # type: ignore[operator]

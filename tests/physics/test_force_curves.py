"""Force curves: equilibrium on the stable branch, jumps, energy, noise, and their truth."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from scipy import optimize

from nanophantom.simcore.probes import contact
from nanophantom.simcore.probes.cantilever import Cantilever
from nanophantom.simcore.probes.capillary import Meniscus
from nanophantom.simcore.probes.deflection_sensor import DeflectionSensor
from nanophantom.simcore.probes.force_curves import (
    ForceCurves,
    ramps_to_trigger,
    simulate,
    turning_heights_nm,
)
from nanophantom.simcore.probes.force_parameters import ForceLaw, ForceParameters
from nanophantom.simcore.probes.interaction import CONTACT_NM, force_nn, hamaker_zj
from nanophantom.simcore.surfaces import Material

Floats = npt.NDArray[np.float64]

SOFT = Cantilever(stiffness_n_per_m=0.1, temperature_k=0.0)
LAWS = ("hertz", "sneddon", "dmt", "jkr")


def streams(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


def mixed(curves: int = 40) -> ForceParameters:
    """Tips and materials with Tabor parameters of about 0.4 to 4."""
    rng = np.random.default_rng(3)
    return ForceParameters.of(
        e_star_gpa=10 ** rng.uniform(-1.0, 0.3, curves),
        work_of_adhesion_mj_per_m2=rng.uniform(20.0, 90.0, curves),
        radius_nm=rng.uniform(5.0, 30.0, curves),
        half_angle_deg=rng.uniform(15.0, 40.0, curves),
        contact_height_nm=rng.uniform(-20.0, 20.0, curves),
    )


def cases() -> Iterator[tuple[ForceLaw, float]]:
    for law in LAWS:
        for meniscus in (None, Meniscus()):
            for k in (0.05, 2.0, 60.0):
                yield ForceLaw(law=law, meniscus=meniscus, drag_nn=0.05), k


def pressed(
    parameters: ForceParameters, law: ForceLaw, k: float, samples: int = 600, turn_nn: float = 4.0
) -> ForceCurves:
    """Return curves long enough that every contact parts."""
    lever = Cantilever(stiffness_n_per_m=k, temperature_k=0.0)
    length = 60.0 + 20.0 * turn_nn / k
    ramps = ramps_to_trigger(parameters, lever, law, turn_nn, length, samples)
    return simulate(parameters, lever, law, *ramps)


def test_a_soft_lever_snaps_in() -> None:
    """H = 1e-19 J, R = 10 nm, k = 0.1 N/m: at (H R / 3 k)^(1/3) = 1.494 nm."""
    w = 100.0 / hamaker_zj(1.0)
    parameters = ForceParameters.of(1.0, w, 10.0, contact_height_nm=[0.0, 7.0])
    curves = pressed(parameters, ForceLaw(), 0.1, 4000)
    distance = curves.snap_in_separation_nm + CONTACT_NM
    np.testing.assert_allclose(distance, 1.4938, rtol=1e-4)
    # the base is then higher than the tip by the pull H R / 6 d^2 over k, half a distance d
    height = 1.5 * np.cbrt(1.0 / 0.3) - CONTACT_NM + np.array([0.0, 7.0])
    np.testing.assert_allclose(curves.snap_in_height_nm, height, rtol=1e-9)
    separation = curves.separations_nm()[0]
    for row, z, snap in zip(
        separation, curves.z_approach_nm, curves.snap_in_height_nm, strict=True
    ):
        before = z > snap
        assert row[before].min() > distance[0] - CONTACT_NM - 1e-9
        assert row[~before].max() < 0


@pytest.mark.parametrize(("law", "k"), cases())
def test_spring_and_surface_balance(law: ForceLaw, k: float) -> None:
    """k x = F(D) at every sample, F one of the closed laws; and the tip never turns back."""
    p = mixed()
    curves = pressed(p, law, k)
    assert curves.touched.all()
    assert curves.parted.all()
    radius, e_star, w = (
        a[:, None] for a in (p.radius_nm, p.e_star_gpa, p.work_of_adhesion_mj_per_m2)
    )
    for d, force, sign in zip(curves.separations_nm(), curves.forces_nn(), (-1, 1), strict=True):
        assert (sign * np.diff(d) > -1e-9).all()
        apart = np.zeros_like(d)
        if law.law in ("dmt", "jkr"):
            far = np.maximum(d, 0) + CONTACT_NM
            apart = contact.van_der_waals_force_nn(far, radius, hamaker_zj(1.0) * w)
        if law.law == "sneddon":
            touching = contact.cone_force_nn(-d, p.half_angle_deg[:, None], e_star)
        elif law.law == "jkr":
            touching = contact.jkr_force_nn(-d, radius, e_star, w, "unloading")
        else:
            touching = contact.dmt_force_nn(-d, radius, e_star, w * (law.law == "dmt"))
        possible = [np.where(d > 0, apart, np.inf), touching]
        if law.meniscus is not None:
            wet = law.meniscus.force_nn(d, radius)
            neck = np.where(d > 0, touching - law.meniscus.contact_force_nn(radius), np.inf)
            possible += [possible[0] + wet, touching + wet, neck]
        residual = np.min([np.abs(force - law) for law in possible], axis=0)
        assert residual.max() < 1e-10


@pytest.mark.parametrize("k", [0.05, 0.4, 3.0, 100.0])
def test_the_stable_branch_is_followed(k: float) -> None:
    """DMT: the farthest root of k x = F on the way in, the nearest on the way out, by search."""
    p = ForceParameters.of(0.8, 60.0, 12.0)
    curves = pressed(p, ForceLaw(), k, 60, 1.0)
    grid = np.concatenate([np.linspace(-8.0, 3.0, 4001), np.linspace(3.0, 2000.0, 2001)[1:]])

    def balance(d: float, z: float) -> float:
        return d - force_nn(d + CONTACT_NM, 12.0, 0.8, 60.0, np.inf) / k - z

    at_grid = np.array([balance(d, 0.0) for d in grid])

    def root(z: float, end: int) -> float:
        i = int(np.flatnonzero(np.diff(np.sign(at_grid - z)) > 0)[end])
        return float(optimize.brentq(balance, grid[i], grid[i + 1], args=(z,), xtol=1e-12))

    found = curves.separations_nm()
    for z, d in zip(curves.z_approach_nm[0], found[0][0], strict=True):
        assert d == pytest.approx(root(z, -1), abs=1e-8)
    for z, d in zip(curves.z_retract_nm[0], found[1][0], strict=True):
        assert d == pytest.approx(root(z, 0), abs=1e-8)


def test_a_stiff_lever_shows_the_law_itself() -> None:
    """1e4 N/m: force against -z is Hertz's; JKR's loading on approach, unloading on retract."""
    k, z = 1e4, np.linspace(3.0, -3.0, 2400)
    lever = Cantilever(stiffness_n_per_m=k, temperature_k=0.0)
    parameters = ForceParameters.of(1e-3, 0.05, 100.0)
    for law, adhesion in (("hertz", 0.0), ("jkr", 0.05)):
        curves = simulate(
            parameters, lever, ForceLaw(law=law, van_der_waals=False), z, z[::-1].copy()
        )
        loading, unloading = (
            contact.jkr_force_nn(-at, 100.0, 1e-3, adhesion, branch)  # type: ignore[arg-type]
            for at, branch in ((z, "loading"), (z[::-1], "unloading"))
        )
        approach, retract = curves.forces_nn()
        np.testing.assert_allclose(approach[0], loading, atol=1e-5 * loading.max())
        np.testing.assert_allclose(retract[0], unloading, atol=1e-5 * loading.max())
        if law == "jkr":
            expected = contact.jkr_hysteresis_ev(100.0, 1e-3, 0.05)
            assert curves.dissipated_ev()[0] == pytest.approx(float(expected), rel=0.01)
            last = float(contact.jkr_pull_off(100.0, 1e-3, 0.05).indentation_nm)
            assert curves.pull_off_height_nm[0] == pytest.approx(-last, rel=1e-4)


def test_pull_off_of_jkr_depends_on_the_lever_but_adhesion_does_not() -> None:
    """The largest pull is 1.5 pi R w; contact ends between that and 5/6 of pi R w."""
    p = ForceParameters.of(0.05, 50.0, 100.0)
    unit = 1e-3 * np.pi * 50.0 * 100.0
    ends = []
    for k in (0.02, 0.5, 2.0, 50.0):
        curves = pressed(p, ForceLaw(law="jkr", van_der_waals=False), k, 20000, 30.0)
        ends.append(curves.pull_off_nn[0] / unit)
        assert curves.adhesion_nn[0] == pytest.approx(1.5 * unit, rel=1e-12)
        assert -curves.forces_nn()[1].min() == pytest.approx(1.5 * unit, rel=2e-3)
    assert 5 / 6 < ends[-1] < 0.9
    assert 1.48 < ends[0] < 1.5
    assert (np.diff(ends) < 0).all()


@pytest.mark.parametrize(("law", "k"), cases())
def test_what_is_lost_is_never_negative_and_truth_is_where_the_jumps_are(
    law: ForceLaw, k: float
) -> None:
    curves = pressed(mixed(), law.model_copy(update={"drag_nn": 0.0}), k)
    assert (curves.dissipated_ev() > -1e-6).all()
    if law.law in ("hertz", "sneddon") and law.meniscus is None:
        np.testing.assert_allclose(curves.dissipated_ev(), 0.0, atol=1e-6)
    adhesion = curves.adhesion_nn
    lowest = -curves.forces_nn()[1].min(axis=1)
    step = curves.z_retract_nm[0, 1] - curves.z_retract_nm[0, 0]
    assert (lowest <= adhesion + 1e-9).all()
    assert (lowest > adhesion - k * step - 1e-9).all()
    # the deflection is smooth but for the jumps: the step over a jump holds the height told
    separation = curves.separations_nm()[0]
    p, highest = curves.parameters, np.zeros(len(curves.touched))
    if law.law == "jkr":  # a stiff lever may hold the tip on a neck
        neck = contact.jkr_pull_off(p.radius_nm, p.e_star_gpa, p.work_of_adhesion_mj_per_m2)
        highest = -neck.indentation_nm
    for j in np.flatnonzero(np.isfinite(curves.snap_in_height_nm)):
        i = int(np.argmax(curves.z_approach_nm[j] < curves.snap_in_height_nm[j]))
        assert separation[j, i] <= highest[j] + 1e-9
        assert separation[j, i - 1] >= curves.snap_in_separation_nm[j] - 1e-6


def test_jumps_lose_the_difference_of_energies() -> None:
    """DMT, soft lever: energy of spring and surface before and after both jumps, base at rest."""
    k, e_star, w, radius = 0.3, 0.5, 40.0, 15.0
    p = ForceParameters.of(e_star, w, radius)
    curves = pressed(p, ForceLaw(), k, 40000)
    pull = float(contact.dmt_pull_off_nn(radius, w))

    def energy(z: float, d: float) -> float:
        if d > 0:
            surface = -pull * CONTACT_NM**2 / (d + CONTACT_NM)
        else:
            elastic = 8 / 15 * e_star * np.sqrt(radius) * (-d) ** 2.5
            surface = elastic + pull * d - pull * CONTACT_NM
        return float(0.5 * k * (d - z) ** 2 + surface)

    def touching(z: float) -> float:
        return float(
            optimize.brentq(
                lambda d: k * (d - z) - contact.dmt_force_nn(-d, radius, e_star, w), -20.0, 0.0
            )
        )

    def apart(z: float) -> float:
        return float(
            optimize.brentq(
                lambda d: k * (d - z) - force_nn(d + CONTACT_NM, radius, e_star, w, np.inf),
                1.2,
                1e3,
            )
        )

    snap, off = float(curves.snap_in_height_nm[0]), float(curves.pull_off_height_nm[0])
    assert off == pytest.approx(pull / k)
    lost = energy(snap, float(curves.snap_in_separation_nm[0])) - energy(snap, touching(snap))
    lost += energy(off, 0.0) - energy(off, apart(off))
    found = curves.dissipated_ev()[0] / contact.EV_PER_NN_NM
    assert found == pytest.approx(lost, rel=1e-3)


def test_a_meniscus_loses_its_energy() -> None:
    """A lever too stiff to jump: the pull from where it forms to where it breaks."""
    water = Meniscus(humidity_percent=60.0)
    p = ForceParameters.of(1.0, 0.0, [5.0, 10.0, 40.0])
    curves = pressed(p, ForceLaw(law="hertz", meniscus=water), 1e4, 20000)
    np.testing.assert_allclose(curves.dissipated_ev(), water.hysteresis_ev(p.radius_nm), rtol=2e-3)
    np.testing.assert_allclose(curves.adhesion_nn, water.contact_force_nn(p.radius_nm), rtol=1e-12)


@pytest.mark.parametrize(("law", "k"), cases())
def test_the_approach_turns_at_the_trigger(law: ForceLaw, k: float) -> None:
    p = mixed()
    lever = Cantilever(stiffness_n_per_m=k, temperature_k=0.0)
    trigger = np.linspace(0.5, 20.0, len(p))
    down, up = ramps_to_trigger(p, lever, law, trigger, 30.0 + 80.0 / k, 50)
    curves = simulate(p, lever, law, down, up)
    np.testing.assert_allclose(k * curves.approach_nm[:, -1], trigger, rtol=1e-8)
    np.testing.assert_allclose(curves.turn_force_nn, trigger - law.drag_nn, rtol=1e-8)
    np.testing.assert_array_equal(down[:, -1], turning_heights_nm(p, lever, law, trigger))
    np.testing.assert_allclose(-curves.separations_nm()[0][:, -1], curves.indentation_nm, atol=1e-9)


def test_drag_parts_approach_and_retract() -> None:
    """Far from the surface by 2 drag / k; the force between tip and surface doesn't hold it."""
    p = ForceParameters.of(0.5, contact_height_nm=-3.0)
    curves = pressed(p, ForceLaw(law="hertz", drag_nn=0.2), 0.1)
    loop = curves.approach_nm - curves.retract_nm[:, ::-1]
    np.testing.assert_allclose(loop[:, :100], 2 * 0.2 / 0.1, rtol=1e-9)
    np.testing.assert_allclose(curves.forces_nn()[0][:, :100], 0.0, atol=1e-10)
    np.testing.assert_allclose(curves.dissipated_ev(), 0.0, atol=0.05)


def test_noise_of_sensor_and_lever_in_each_state() -> None:
    """Apart sqrt(kT/k + noise^2); in contact kT / (k + 2 E* a): on a hard sample almost nothing."""
    lever = Cantilever(stiffness_n_per_m=0.1, temperature_k=298.15)
    p, law = ForceParameters.of([1e3, 1e-5], radius_nm=1e4), ForceLaw(law="hertz")
    # the approach ends above the surface; the retract, so slow that nothing moves, starts in it
    hover = np.linspace(60.0, 50.0, 100_000)
    pressing = turning_heights_nm(p, lever, law, 2.0)[:, None] + 1e-7 * np.arange(100_000)
    curves = simulate(p, lever, law, hover, pressing, DeflectionSensor(noise_nm=0.08), streams)
    assert not curves.touched.any()
    apart = (curves.approach_nm - curves.ideal_approach_nm).std(axis=1)
    np.testing.assert_allclose(apart, np.hypot(0.2029, 0.08), rtol=0.01)  # 202.9 pm at 298.15 K
    depth = -curves.separations_nm()[1][:, :1]
    stiffness = 2 * p.e_star_gpa[:, None] * np.sqrt(p.radius_nm[:, None] * depth)
    expected = np.hypot(np.sqrt(1.380649e-5 * 298.15 / (0.1 + stiffness)), 0.08)[:, 0]
    pressed_on = (curves.retract_nm - curves.ideal_retract_nm).std(axis=1)
    np.testing.assert_allclose(pressed_on, expected, rtol=0.01)
    assert pressed_on[0] == pytest.approx(0.08, rel=0.01)


def test_each_cause_has_its_own_stream() -> None:
    """The sensor's noise leaves the tremble bit for bit what it is; without both, the ideal."""
    p, law = ForceParameters.of([1.0, 2.0], 50.0), ForceLaw()
    warm, cold = Cantilever(stiffness_n_per_m=0.1), SOFT
    ramps = ramps_to_trigger(p, warm, law, 3.0, 100.0, 500)
    quiet = DeflectionSensor(noise_nm=0.0)
    thermal = simulate(p, warm, law, *ramps, quiet, streams)
    noise = simulate(p, cold, law, *ramps, DeflectionSensor(), streams)
    both = simulate(p, warm, law, *ramps, DeflectionSensor(), streams)
    neither = simulate(p, cold, law, *ramps, quiet, streams)
    np.testing.assert_array_equal(neither.approach_nm, neither.ideal_approach_nm)
    np.testing.assert_array_equal(both.ideal_retract_nm, neither.ideal_retract_nm)
    np.testing.assert_allclose(
        both.approach_nm + neither.approach_nm,
        thermal.approach_nm + noise.approach_nm,
        rtol=0,
        atol=1e-12,
    )
    again = simulate(p, warm, law, *ramps, quiet, streams)
    np.testing.assert_array_equal(again.retract_nm, thermal.retract_nm)


def test_the_baseline_is_what_the_sensor_says() -> None:
    """Offset, slope, fringes of the period told, and a wrong sensitivity, without noise."""
    p, law = ForceParameters.of([1.0, 2.0]), ForceLaw(law="hertz")
    ramps = ramps_to_trigger(p, SOFT, law, 3.0, 2000.0, 800)
    sensor = DeflectionSensor(
        sensitivity_nm_per_V=40.0,
        nominal_sensitivity_nm_per_V=44.0,
        noise_nm=0.0,
        offset_nm=3.0,
        tilt_percent=0.5,
        interference_nm=1.5,
        interference_period_nm=250.0,
    )
    curves = simulate(p, SOFT, law, *ramps, sensor, streams)
    for z, read, ideal in (
        (ramps[0], curves.approach_nm, curves.ideal_approach_nm),
        (ramps[1], curves.retract_nm, curves.ideal_retract_nm),
    ):
        fringes = read / 1.1 - ideal - 3.0 - 0.005 * (z - ramps[0][:, :1])
        for row, at in zip(fringes, z, strict=True):
            waves = np.exp(-2j * np.pi * at / 250.0)[:-1]  # 8 periods of 100 samples, almost
            design = np.stack([waves.real, waves.imag], axis=1)
            amplitudes, rest = np.linalg.lstsq(design, row[:-1])[:2]
            assert np.hypot(*amplitudes) == pytest.approx(1.5, rel=1e-9)
            assert rest[0] < 1e-18


def test_a_force_volume_is_its_curves() -> None:
    """Curves over two materials in one call equal each curve alone, bit for bit."""
    soft = Material(name="soft", modulus_gpa=0.1, poisson_ratio=0.5, work_of_adhesion_mj_per_m2=80)
    hard = Material(name="hard", modulus_gpa=3.0, poisson_ratio=0.3, work_of_adhesion_mj_per_m2=40)
    index = np.array([0, 1, 1, 0])
    heights = np.array([0.0, 5.0, -2.0, 8.0])
    p = ForceParameters.of_materials((soft, hard), index, 20.0, contact_height_nm=heights)
    z = np.linspace(120.0, -30.0, 400)
    law = ForceLaw(law="jkr")
    together = simulate(p, SOFT, law, z, z[::-1])
    for j, i in enumerate(index):
        material = (soft, hard)[i]
        alone = simulate(
            ForceParameters.of(
                material.reduced_modulus_gpa,
                material.work_of_adhesion_mj_per_m2,
                20.0,
                contact_height_nm=heights[j],
            ),
            SOFT,
            law,
            z,
            z[::-1],
        )
        np.testing.assert_array_equal(together.approach_nm[j], alone.approach_nm[0])
        np.testing.assert_array_equal(together.retract_nm[j], alone.retract_nm[0])
        for name, column in alone.truth().items():
            np.testing.assert_array_equal(together.truth()[name][j], column[0])


def test_a_tip_that_stays_away_has_no_contact_to_tell_of() -> None:
    p, z = ForceParameters.of(1.0, 50.0), np.linspace(50.0, 20.0, 20)
    curves = simulate(p, SOFT, ForceLaw(), z, z[::-1])
    assert not curves.touched[0]
    assert not curves.parted[0]
    assert curves.indentation_nm[0] == 0
    assert np.isnan(curves.adhesion_nn[0])
    assert np.isnan(curves.snap_in_height_nm[0])


def test_a_ramp_that_starts_in_contact_has_no_snap_in() -> None:
    z = np.linspace(0.5, -5.0, 20)  # it would jump at 1.6 nm
    curves = simulate(ForceParameters.of(1.0, 50.0), SOFT, ForceLaw(), z, z[::-1] + 100.0)
    assert curves.touched[0]
    assert np.isnan(curves.snap_in_height_nm[0])
    assert (curves.separations_nm()[0] < 0).all()
    assert curves.parted[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"z_approach_nm": np.linspace(-1.0, 9.0, 5)}, "z_approach_nm must lead down"),
        ({"z_retract_nm": np.linspace(9.0, -1.0, 5)}, "z_retract_nm must lead up"),
        ({"z_retract_nm": np.zeros((3, 5))}, r"must be \(n,\) or \(2, n\)"),
        ({"z_approach_nm": np.array([9.0, np.nan])}, "z_approach_nm must be finite"),
        ({"z_approach_nm": np.array([9.0])}, "with n > 1"),
        ({"sensor": DeflectionSensor()}, "a sensor needs rng"),
        (
            {"law": ForceLaw(law="jkr"), "parameters": ForceParameters.of([1.0, 500.0], 50.0)},
            "curve 1 has a contact too stiff for JKR",
        ),
    ],
)
def test_impossible_curves_are_refused_in_one_line(change: dict[str, object], says: str) -> None:
    lever = Cantilever(stiffness_n_per_m=100.0)
    said: dict[str, object] = {
        "parameters": ForceParameters.of([1.0, 2.0]),
        "lever": lever,
        "law": ForceLaw(),
        "z_approach_nm": np.linspace(9.0, -1.0, 5),
        "z_retract_nm": np.linspace(-1.0, 9.0, 5),
    }
    with pytest.raises(ValueError, match=says):
        simulate(**{**said, **change})  # type: ignore[arg-type]


def test_impossible_parameters_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="e_star_gpa must be finite and positive, not 0"):
        ForceParameters.of([1.0, 0.0])
    with pytest.raises(ValueError, match="must broadcast"):
        ForceParameters.of([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"must be \(curves,\)"):
        ForceParameters.of(np.ones((2, 2)))
    with pytest.raises(ValueError, match="half_angle_deg must be below 90"):
        ForceParameters.of(1.0, half_angle_deg=90.0)
    p = ForceParameters.of(1.0)
    with pytest.raises(ValueError, match="trigger_nn must exceed the drag"):
        turning_heights_nm(p, SOFT, ForceLaw(drag_nn=2.0), 1.0)
    with pytest.raises(ValueError, match="length_nm must be"):
        ramps_to_trigger(p, SOFT, ForceLaw(), 1.0, 0.0, 10)
    with pytest.raises(ValueError, match="samples must be at least 2"):
        ramps_to_trigger(p, SOFT, ForceLaw(), 1.0, 10.0, 1)
    with pytest.raises(ValueError, match="law"):
        ForceLaw.model_validate({"law": "hertzian"})

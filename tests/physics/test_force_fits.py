"""Fits of force curves: bounds of estimation, coverage, adhesion, wrong laws, all simulated."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt
import pytest
from scipy import signal

from nanophantom.analysis.force_fit import ForceFits, compare_models, fit_many, modulus_at
from nanophantom.analysis.pull_off import pull_off
from nanophantom.simcore.probes import contact
from nanophantom.simcore.probes.cantilever import Cantilever
from nanophantom.simcore.probes.deflection_sensor import DeflectionSensor
from nanophantom.simcore.probes.force_curves import ForceCurves, ramps_to_trigger, simulate
from nanophantom.simcore.probes.force_parameters import ForceLaw, ForceParameters, Law

Floats = npt.NDArray[np.float64]

CONTACT_NM = 137.0


def streams(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


def curve(
    law: Law,
    e_star_gpa: float,
    w_mj_per_m2: float = 0.0,
    radius_nm: float = 20.0,
    k: float = 1.0,
    trigger_nn: float = 5.0,
    length_nm: float = 100.0,
    van_der_waals: bool = False,
) -> ForceCurves:
    """Return one ideal curve of 1000 samples each way, the half angle of cones 20 degrees."""
    p = ForceParameters.of(e_star_gpa, w_mj_per_m2, radius_nm, contact_height_nm=CONTACT_NM)
    lever = Cantilever(stiffness_n_per_m=k, temperature_k=0.0)
    force = ForceLaw(law=law, van_der_waals=van_der_waals)
    ramps = ramps_to_trigger(p, lever, force, trigger_nn, length_nm, 1000)
    return simulate(p, lever, force, *ramps)


def noisy(x: Floats, noise_nm: float, curves: int, seed: int = 11) -> Floats:
    noise = np.random.default_rng(seed).standard_normal((curves, x.shape[-1]))
    return np.asarray(x + noise_nm * noise)


def covered(found: Floats, sigma: Floats, true: float | Floats) -> float:
    """Return how often the interval of 95 % holds the truth."""
    return float(np.mean(np.abs(found - true) < 1.96 * sigma))


def colloid(k: float = 0.1) -> ForceCurves:
    """E = 1 kPa, nu = 0.5, R = 2.5 um, 1 um deep, 2 um of baseline."""
    e_star = 1e-6 / 0.75
    trigger = float(contact.hertz_force_nn(1000.0, 2500.0, e_star))
    return curve("hertz", e_star, 0.0, 2500.0, k, trigger, 3000.0 + trigger / k)


@pytest.mark.parametrize(
    ("noise_pn", "modulus_sd", "contact_sd_nm"),
    # sd of modulus and contact point of the least-squares bound for these curves
    [(10.0, 0.0012, 0.6), (50.0, 0.0057, 2.8), (200.0, 0.025, 12.3)],
)
@pytest.mark.parametrize("tilt", [False, True])
def test_a_free_contact_point_reaches_the_bound(
    noise_pn: float, modulus_sd: float, contact_sd_nm: float, tilt: bool
) -> None:
    """Hertz on something soft: no wider than 1.5 bounds, and less than 0.3 % of bias."""
    c = colloid()
    x = noisy(c.approach_nm, 1e-3 * noise_pn / 0.1, 1000)
    fit = fit_many(c.z_approach_nm, x, 0.1, radius_nm=2500.0, poisson_ratio=0.5, tilt=tilt)
    assert fit.ok.all()
    modulus = fit.modulus_gpa / 1e-6 - 1.0
    assert modulus.std() < 1.5 * modulus_sd
    assert abs(modulus.mean()) < 0.003
    assert fit.contact_point_nm.std() < 1.5 * contact_sd_nm
    assert abs(fit.contact_point_nm.mean() - CONTACT_NM) < 0.15 * contact_sd_nm
    # told errors are the true ones
    np.testing.assert_allclose(fit.modulus_sigma_gpa.mean() / 1e-6, modulus.std(), rtol=0.07)
    np.testing.assert_allclose(fit.contact_sigma_nm.mean(), fit.contact_point_nm.std(), rtol=0.07)
    np.testing.assert_allclose(fit.reduced_chi2.mean(), 1.0, atol=0.02)
    assert 0.91 < covered(fit.modulus_gpa, fit.modulus_sigma_gpa, 1e-6) < 0.98
    assert 0.91 < covered(fit.contact_point_nm, fit.contact_sigma_nm, CONTACT_NM) < 0.98


def test_told_errors_are_the_bound_of_cramer_and_rao() -> None:
    """From derivatives of the simulated curve by finite differences: modulus and contact point."""
    c = colloid()
    lever, law = Cantilever(stiffness_n_per_m=0.1, temperature_k=0.0), ForceLaw(law="hertz")

    def ideal(e_star: float, height: float) -> Floats:
        p = ForceParameters.of(e_star, 0.0, 2500.0, contact_height_nm=height)
        found = simulate(p, lever, law, c.z_approach_nm[0], c.z_retract_nm[0])
        return np.asarray(found.approach_nm[0])

    e_star, z = 1e-6 / 0.75, c.z_approach_nm[0]
    rows = [
        (ideal(1.001 * e_star, CONTACT_NM) - ideal(0.999 * e_star, CONTACT_NM)) / 0.002,
        (ideal(e_star, CONTACT_NM + 0.1) - ideal(e_star, CONTACT_NM - 0.1)) / 0.2,
        np.ones_like(z),
        (z - z.mean()) / 1000.0,
    ]
    jacobian = np.array(rows)
    bound = np.sqrt(np.diag(np.linalg.inv(jacobian @ jacobian.T))) * 0.5
    fit = fit_many(z, noisy(c.approach_nm, 0.5, 100), 0.1, radius_nm=2500.0)
    np.testing.assert_allclose(np.mean(fit.modulus_sigma_gpa / e_star), bound[0], rtol=0.02)
    np.testing.assert_allclose(np.mean(fit.contact_sigma_nm), bound[1], rtol=0.02)


def test_a_wrong_contact_point_costs_modulus() -> None:
    """Too deep by 10, 50, 100 nm at 1 um: +2.0, +10.7, +23.1 % (least squares, closed form)."""
    c = colloid()
    for deeper, bias in ((0.0, 0.0), (10.0, 0.020), (50.0, 0.107), (100.0, 0.231)):
        found = modulus_at(
            CONTACT_NM - deeper,
            c.z_approach_nm,
            c.approach_nm,
            0.1,
            radius_nm=2500.0,
            poisson_ratio=0.5,
        )
        assert found[0] / 1e-6 - 1.0 == pytest.approx(bias, abs=0.005)


def test_laws_without_adhesion_are_recovered_exactly() -> None:
    """No noise, any baseline: modulus, contact point, offset and tilt to 1e-8."""
    for law in ("hertz", "sneddon"):
        c = curve(law, 0.02)
        z = c.z_approach_nm
        x = c.approach_nm + 3.0 + 0.01 * (z - z[0, 0])
        fit = fit_many(z, x, 1.0, law, radius_nm=20.0, half_angle_deg=20.0)
        assert fit.ok.all()
        assert fit.modulus_gpa[0] == pytest.approx(0.02, rel=1e-8)
        assert fit.contact_point_nm[0] == pytest.approx(CONTACT_NM, rel=1e-8)
        assert fit.offset_nm[0] == pytest.approx(3.0, rel=1e-8)
        assert fit.tilt[0] == pytest.approx(0.01, rel=1e-8)
    # a punch: 2 a E* delta = k x at delta = z0 - z - x
    depth = np.maximum(CONTACT_NM - z, 0.0)
    x = depth * 0.8 / (0.8 + 1.0)
    fit = fit_many(z, x, 1.0, "punch", radius_nm=20.0, poisson_ratio=0.3)
    assert fit.modulus_gpa[0] == pytest.approx(0.02 * 0.91, rel=1e-8)
    assert fit.contact_point_nm[0] == pytest.approx(CONTACT_NM, rel=1e-8)


@pytest.mark.parametrize(
    ("law", "e_star", "w", "radius", "k"),
    [
        ("dmt", 2.0, 60.0, 20.0, 40.0),
        ("jkr", 0.05, 50.0, 100.0, 0.5),
        ("jkr", 0.05, 50.0, 100.0, 20.0),
    ],
)
def test_laws_with_adhesion_are_recovered_from_either_way(
    law: Law, e_star: float, w: float, radius: float, k: float
) -> None:
    """No noise, no forces at a distance: approach and retract tell the same."""
    c = curve(law, e_star, w, radius, k, 20.0, 60.0 + 60.0 / k + 8e-3 * w * radius / k)
    for z, x in ((c.z_approach_nm, c.approach_nm), (c.z_retract_nm, c.retract_nm)):
        fit = fit_many(z, x, k, law, radius_nm=radius)
        assert fit.ok.all()
        assert fit.modulus_gpa[0] == pytest.approx(e_star, rel=1e-6)
        assert fit.contact_point_nm[0] == pytest.approx(CONTACT_NM, abs=1e-5)
        assert fit.work_of_adhesion_mj_per_m2[0] == pytest.approx(w, rel=1e-6)
        assert fit.adhesion_nn[0] == pytest.approx(c.adhesion_nn[0], rel=1e-6)


def fitted_with_pull_off(
    c: ForceCurves, law: Law, noise_nm: float, way: str, curves: int
) -> tuple[ForceFits, Floats]:
    """Fit curves like that one, with contact points anywhere between samples; return these, too."""
    k, radius = c.stiffness_n_per_m, c.parameters.radius_nm[0]
    heights = CONTACT_NM + np.random.default_rng(2).uniform(-1.0, 1.0, curves)
    p = ForceParameters.of(
        c.parameters.e_star_gpa[0],
        c.parameters.work_of_adhesion_mj_per_m2[0],
        radius,
        contact_height_nm=heights,
    )
    lever = Cantilever(stiffness_n_per_m=k, temperature_k=0.0)
    many = simulate(p, lever, ForceLaw(law=law), c.z_approach_nm[0], c.z_retract_nm[0])
    noise = noisy(np.zeros(2000), noise_nm, curves)
    retract = many.retract_nm + noise[:, :1000]
    adhesion = pull_off(many.z_retract_nm, retract, k)
    z, x = many.z_retract_nm, retract
    if way == "approach":
        z, x = many.z_approach_nm, many.approach_nm + noise[:, 1000:]
    return fit_many(z, x, k, law, radius_nm=radius, adhesion=adhesion), heights


@pytest.mark.parametrize("way", ["approach", "retract"])
@pytest.mark.parametrize(
    ("law", "e_star", "w", "radius", "k", "noise"),
    [
        ("dmt", 2.0, 60.0, 20.0, 5.0, 0.02),
        ("dmt", 0.5, 60.0, 20.0, 0.3, 0.1),
        ("jkr", 0.05, 50.0, 100.0, 0.5, 0.2),
        ("jkr", 0.5, 50.0, 50.0, 2.0, 0.1),
    ],
)
def test_intervals_hold_the_truth_where_tips_snap_in(
    law: Law, e_star: float, w: float, radius: float, k: float, noise: float, way: str
) -> None:
    """Van der Waals pull before contact, levers that jump: 95 % in 91 to 98 % of 400 curves."""
    pull = 2e-3 * np.pi * w * radius
    c = curve(law, e_star, w, radius, k, 2 * pull, 60.0 + 10.0 * pull / k, van_der_waals=True)
    fit, heights = fitted_with_pull_off(c, law, noise, way, 400)
    assert fit.ok.all()
    assert 0.91 < covered(fit.modulus_gpa, fit.modulus_sigma_gpa, e_star) < 0.98
    assert 0.91 < covered(fit.contact_point_nm, fit.contact_sigma_nm, heights) < 0.98
    assert covered(fit.work_of_adhesion_mj_per_m2, fit.work_sigma_mj_per_m2, w) > 0.91
    assert np.mean(fit.modulus_gpa) == pytest.approx(e_star, rel=0.01)


def test_adhesion_needs_the_pull_off() -> None:
    """A soft lever on approach: without the retract, a quarter of the modulus isn't known."""
    c = curve("dmt", 0.5, 60.0, 20.0, 0.3, 4.0, 130.0, True)
    x = noisy(c.approach_nm, 0.1, 200)
    alone = fit_many(c.z_approach_nm, x, 0.3, "dmt", radius_nm=20.0)
    with_it, _ = fitted_with_pull_off(c, "dmt", 0.1, "approach", 200)
    assert with_it.ok.all()
    assert np.mean(with_it.modulus_sigma_gpa) < 0.08 * 0.5
    assert alone.ok.mean() < 0.5


@pytest.mark.parametrize(
    ("law", "k", "noise"), [("dmt", 5.0, 0.02), ("dmt", 0.3, 0.1), ("jkr", 0.5, 0.2)]
)
def test_the_pull_off_is_read_without_bias(law: Law, k: float, noise: float) -> None:
    """Bias below half the error told and 1 %, though the lowest sample has the lowest noise."""
    e_star, w, radius = {"dmt": (2.0, 60.0, 20.0), "jkr": (0.05, 50.0, 100.0)}[law]
    heights = CONTACT_NM + np.random.default_rng(2).uniform(-1.0, 1.0, 400)
    p = ForceParameters.of(e_star, w, radius, contact_height_nm=heights)
    lever = Cantilever(stiffness_n_per_m=k, temperature_k=0.0)
    z = CONTACT_NM - 20.0 / k - 15.0 + np.linspace(0.0, 60.0 + 100.0 / k, 1000)
    c = simulate(p, lever, ForceLaw(law=law), z[::-1], z)
    x = c.retract_nm + noisy(np.zeros(1000), noise, 400) + 5.0 + 0.01 * z
    found = pull_off(z, x, k)
    true = float(c.adhesion_nn[0])
    assert found.seen.all()
    error = found.adhesion_nn - true
    assert abs(error.mean()) < min(0.5 * np.mean(found.sigma_nn), 0.01 * true)
    assert 0.91 < covered(found.adhesion_nn, found.sigma_nn, true) < 0.99
    np.testing.assert_allclose(error.std(), np.mean(found.sigma_nn), rtol=0.15)
    off = found.height_nm - c.pull_off_height_nm
    assert np.abs(off).max() < 5 * (z[1] - z[0])


def test_where_nothing_pulls_nothing_is_read() -> None:
    c = curve("hertz", 0.5)
    found = pull_off(c.z_retract_nm, noisy(c.retract_nm, 0.05, 50), 1.0)
    assert not found.seen.any()
    np.testing.assert_array_equal(found.adhesion_nn, 0.0)
    np.testing.assert_allclose(found.sigma_nn, 2.5 * 0.05, rtol=0.2)


def test_hertz_leaves_attraction_out() -> None:
    """What the lever did while it was pulled doesn't matter to a law without attraction."""
    c = curve("dmt", 1.0, 20.0, 20.0, 2.0, 40.0, 100.0, True)
    x = noisy(c.approach_nm, 0.01, 20)
    deeper = np.where(x < -0.3, 1.5 * x, x)
    assert (deeper != x).any(axis=1).all()
    before, after = (fit_many(c.z_approach_nm, y, 2.0, radius_nm=20.0) for y in (x, deeper))
    assert before.ok.all()
    np.testing.assert_allclose(after.modulus_gpa, before.modulus_gpa, rtol=1e-6)
    np.testing.assert_allclose(after.contact_point_nm, before.contact_point_nm, rtol=1e-6)


def test_a_lever_that_trembles_less_in_contact_is_weighed() -> None:
    """Thermal tremble apart, hardly any in contact: both told, and intervals hold."""
    lever = Cantilever(stiffness_n_per_m=0.1)
    p = ForceParameters.of(np.full(400, 0.5), 0.0, 20.0, contact_height_nm=CONTACT_NM)
    law = ForceLaw(law="hertz", drag_nn=0.0)
    ramps = ramps_to_trigger(p, lever, law, 5.0, 150.0, 1000)
    sensor = DeflectionSensor(noise_nm=0.05, offset_nm=2.0, tilt_percent=0.5)
    c = simulate(p, lever, law, *ramps, sensor, streams)
    fit = fit_many(c.z_approach_nm, c.approach_nm, 0.1, radius_nm=20.0)
    assert fit.ok.all()
    apart = np.hypot(lever.thermal_rms_nm, 0.05)
    assert np.mean(fit.noise_apart_nm) == pytest.approx(apart, rel=0.01)
    assert 0.05 < np.mean(fit.noise_touching_nm) < 0.07
    assert 0.91 < covered(fit.modulus_gpa, fit.modulus_sigma_gpa, 0.5) < 0.98
    assert 0.91 < covered(fit.contact_point_nm, fit.contact_sigma_nm, CONTACT_NM) < 0.98
    assert np.mean(fit.tilt) == pytest.approx(0.005, rel=0.02)
    assert np.mean(fit.offset_nm) == pytest.approx(2.0, abs=0.01)


def test_correlated_noise_is_counted_as_fewer_samples() -> None:
    """First-order noise of correlation a: (1 + a) / (1 - a) samples are worth one."""
    c = colloid()
    white = np.random.default_rng(3).standard_normal((1000, 1200))
    for a in (0.0, 0.5, 0.7):
        noise = 0.5 * signal.lfilter([np.sqrt(1 - a * a)], [1.0, -a], white, axis=1)[:, 200:]
        fit = fit_many(c.z_approach_nm, c.approach_nm + noise, 0.1, radius_nm=2500.0)
        assert np.mean(fit.correlated_samples) == pytest.approx((1 + a) / (1 - a), rel=0.1)
        assert 0.91 < covered(fit.modulus_gpa, fit.modulus_sigma_gpa, 1e-6 / 0.75) < 0.98


# law of the specimen; its E*, w, R; lever, trigger and noise
SPECIMENS: dict[Law, tuple[float, float, float, float, float, float]] = {
    "hertz": (0.5, 0.0, 20.0, 0.5, 8.0, 0.05),
    "dmt": (2.0, 50.0, 20.0, 2.0, 40.0, 0.01),
    "jkr": (0.05, 50.0, 100.0, 0.5, 100.0, 0.1),
}


def test_the_criterion_chooses_the_right_law() -> None:
    """Of Hertz, DMT and JKR on the same samples; Hertz isn't beaten by parameters alone."""
    for i, (law, (e_star, w, radius, k, trigger, noise)) in enumerate(SPECIMENS.items()):
        length = 3 * trigger / k + 8e-3 * w * radius / k + 100.0
        c = curve(law, e_star, w, radius, k, trigger, length, True)
        x = noisy(c.retract_nm, noise, 50)
        adhesion = pull_off(c.z_retract_nm, x, k)
        choice = compare_models(c.z_retract_nm, x, k, radius_nm=radius, adhesion=adhesion)
        assert np.mean(choice.best == i) > 0.9
        np.testing.assert_allclose(choice.weight.sum(axis=1), 1.0)
        if law == "jkr":  # its shape alone tells
            choice = compare_models(c.z_retract_nm, x, k, radius_nm=radius)
            assert np.mean(choice.best == i) > 0.9
        np.testing.assert_allclose(np.mean(choice.fits[i].reduced_chi2), 1.0, atol=0.05)


def test_what_a_wrong_law_costs() -> None:
    """The pull-off is 2 pi R w of DMT, 1.5 of JKR: taken for the other, w is off by 4/3 or 3/4.

    To 5 %: half a step of the base before the jump is 3 % of the pull, and the shape has a say.
    """
    found: dict[tuple[Law, Law], ForceFits] = {}
    for law in ("dmt", "jkr"):
        e_star, w, radius, k, trigger, noise = SPECIMENS[law]
        c = curve(law, e_star, w, radius, k, trigger, 3 * trigger / k + 8e-3 * w * radius / k + 100)
        x = noisy(c.retract_nm, noise, 50)
        adhesion = pull_off(c.z_retract_nm, x, k)
        for taken in ("hertz", "dmt", "jkr"):
            found[law, taken] = fit_many(
                c.z_retract_nm,
                x,
                k,
                taken,
                radius_nm=radius,
                adhesion=adhesion,
            )
    work = {pair: np.mean(fit.work_of_adhesion_mj_per_m2) / 50.0 for pair, fit in found.items()}
    assert work["dmt", "dmt"] == pytest.approx(1.0, abs=0.03)
    assert work["jkr", "jkr"] == pytest.approx(1.0, abs=0.03)
    assert work["dmt", "jkr"] == pytest.approx(4 / 3, rel=0.05)
    assert work["jkr", "dmt"] == pytest.approx(3 / 4, rel=0.05)
    # Hertz behind the attraction takes the pull for stiffness
    for law in ("dmt", "jkr"):
        modulus = found[law, "hertz"].modulus_gpa / SPECIMENS[law][0]  # type: ignore[index]
        assert np.mean(modulus) > 1.1


def test_direction_company_and_units_do_not_matter() -> None:
    c = curve("dmt", 2.0, 60.0, 20.0, 5.0, 15.0, 90.0, True)
    z, x = c.z_retract_nm, noisy(c.retract_nm, 0.02, 3)
    fit = fit_many(z, x, 5.0, "dmt", radius_nm=20.0)
    turned = fit_many(z[:, ::-1], x[:, ::-1], 5.0, "dmt", radius_nm=20.0)
    np.testing.assert_array_equal(turned.modulus_gpa, fit.modulus_gpa)
    own = fit_many(
        z + np.array([[0.0], [5.0], [9.0]]),
        x,
        [5.0, 5.0, 5.0],
        "dmt",
        radius_nm=[20.0, 20.0, 20.0],
        poisson_ratio=[0.0, 0.3, 0.5],
    )
    moved = fit.contact_point_nm + np.array([0.0, 5.0, 9.0])
    np.testing.assert_allclose(own.contact_point_nm, moved, rtol=1e-6)
    np.testing.assert_allclose(own.modulus_gpa, fit.modulus_gpa * [1.0, 0.91, 0.75], rtol=1e-4)
    for i in range(3):
        alone = fit_many(z[0], x[i], 5.0, "dmt", radius_nm=20.0)
        assert alone.modulus_gpa[0] == fit.modulus_gpa[i]


def test_a_curve_without_contact_says_so() -> None:
    """A flat noisy line, or one that only bends away, has no modulus: not ok, NaN."""
    z = np.linspace(100.0, 0.0, 500)
    line = noisy(np.zeros(500), 0.1, 20)
    for law in ("hertz", "dmt", "jkr"):
        fit = fit_many(z, line, 1.0, law, radius_nm=20.0)
        assert not fit.ok.any()
        assert np.isnan(fit.modulus_gpa).all()
    pulled = fit_many(z, line - np.maximum(40.0 - z, 0.0), 1.0, radius_nm=20.0)
    assert not pulled.ok.any()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"law": "oliver"}, "law must be one of hertz, sneddon"),
        ({"radius_nm": None}, "hertz needs radius_nm"),
        ({"radius_nm": -1.0}, "radius_nm must be finite and positive"),
        ({"law": "sneddon"}, "sneddon needs half_angle_deg"),
        ({"law": "sneddon", "half_angle_deg": 90.0}, "half_angle_deg must be below 90"),
        ({"stiffness_n_per_m": 0.0}, "stiffness_n_per_m must be finite and positive"),
        ({"stiffness_n_per_m": [1.0, 1.0]}, r"must be a number or \(1,\)"),
        ({"poisson_ratio": 0.6}, "poisson_ratio must lie"),
        ({"baseline_fraction": 0.0}, "fraction of baseline"),
        ({"deflection_nm": np.zeros(7)}, r"must be \(n,\) or \(curves, n\)"),
        ({"deflection_nm": np.full(100, np.inf)}, "must be finite"),
    ],
)
def test_impossible_requests_are_refused_in_one_line(change: dict[str, object], says: str) -> None:
    said: dict[str, object] = {
        "z_nm": np.linspace(10.0, 0.0, 100),
        "deflection_nm": np.zeros(100),
        "stiffness_n_per_m": 1.0,
        "radius_nm": 20.0,
    }
    with pytest.raises(ValueError, match=says):
        fit_many(**{**said, **change})  # type: ignore[arg-type]


def test_impossible_pull_offs_and_contact_points_are_refused() -> None:
    z, x = np.linspace(10.0, 0.0, 100), np.zeros((2, 100))
    with pytest.raises(ValueError, match="window must be between 4 and 8"):
        pull_off(z, x, 1.0, window=11)
    one = pull_off(z, x[:1] + 0.1 * np.sin(z), 1.0, window=5)
    with pytest.raises(ValueError, match="adhesion must be of 2 curves"):
        fit_many(z, x, 1.0, "dmt", radius_nm=20.0, adhesion=one)
    with pytest.raises(ValueError, match="laws must name at least one"):
        compare_models(z, x, 1.0, (), radius_nm=20.0)
    with pytest.raises(ValueError, match="contact_point_nm must lie above"):
        modulus_at(-5.0, z, x, 1.0, radius_nm=20.0)

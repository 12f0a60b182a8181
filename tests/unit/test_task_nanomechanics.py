"""The task nanomechanics: errors of known size, limits of the noise, and what is refused."""

import functools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nanophantom.analysis import force_map
from nanophantom.analysis.joint_force_fit import coming_off
from nanophantom.instruments.force_volume import ForceVolume
from nanophantom.simcore.experiment import Experiment
from nanophantom.simcore.probes.cantilever import Cantilever
from nanophantom.simcore.probes.force_curves import ramps_to_trigger, simulate
from nanophantom.simcore.probes.force_parameters import ForceLaw, ForceParameters
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import Specimen
from nanophantom.simcore.surfaces import Material, Surface
from nanophantom.validation import figures
from nanophantom.validation.force_limit import force_limit
from nanophantom.validation.tasks import find_task

TASK = find_task("nanomechanics")
NU = 0.3
STIFF = Material(name="stiff", modulus_gpa=0.8, poisson_ratio=NU, work_of_adhesion_mj_per_m2=50.0)
SOFT = Material(name="soft", modulus_gpa=0.08, poisson_ratio=0.5, work_of_adhesion_mj_per_m2=40.0)
WIDTH, ROWS, STIFFNESS = 12, 6, 2.0
CURVES = WIDTH * ROWS


class Halves(Specimen):
    """Stiff to the left, soft to the right, a little uneven."""

    def surface_within(self, window, shape):
        ny, nx = shape
        x = window.x0_nm + np.arange(nx) * (window.width_nm / nx)
        y = window.y0_nm + np.arange(ny) * (window.height_nm / ny)
        x, y = np.meshgrid(x, y)
        heights = 0.7 * np.sin(0.05 * x + 1.0) * np.cos(0.04 * y)
        return Surface(window, heights, (x > 0).astype(np.uint8), (STIFF, SOFT))

    def truth(self):
        return {}


@functools.cache
def observed(law="dmt", noise=True, seed=1, rows=ROWS, width=WIDTH, **changes):
    """A small force volume, made in memory."""
    recipe = {
        "tip": {"shape": "sphere-cone", "radius_nm": 20.0, "half_angle_deg": 20.0},
        "cantilever": {"stiffness_n_per_m": STIFFNESS},
        "forces": {"law": law, "drag_nn": changes.pop("drag_nn", 0.0)},
        "sensor": {"noise_nm": 0.1, "offset_nm": -2.0, "tilt_percent": 0.3},
        "ramp": {"length_nm": 80.0, "samples": 300, "trigger_nn": 10.0},
        "points": {"width_px": width, "height_px": rows, "pixel_size_nm": 20.0},
        "noise": noise,
        **changes,
    }
    instrument = ForceVolume.model_validate(recipe)
    return Experiment.of(instrument.plan(Halves(), Run(seed)))


def answer(data, factor=1.0, contact_nm=0.0, adhesion_nn=0.0, **more):
    """The truth, with errors."""
    truth = data.truth("curves")
    return {
        "row": truth["row"],
        "column": truth["column"],
        "modulus_gpa": truth["e_star_gpa"] * (1 - NU**2) * factor,
        "contact_height_nm": truth["contact_height_nm"] + contact_nm,
        "adhesion_nn": truth["adhesion_nn"] + adhesion_nn,
        **more,
    }


def soft(data):
    return data.truth("curves")["material"] == 1


def test_perfect_answer_has_perfect_scores():
    """The truth of every curve: no error, the right material, no cross-talk."""
    data = observed()
    values = TASK.grade(answer(data), data).values()
    for name in ("modulus_error", "modulus_bias", "modulus_rmse", "contact_rmse", "adhesion_rmse"):
        assert values[name] < 1e-9
        assert name == "modulus_bias" or values[f"{name}.soft"] < 1e-9
    assert values["material"] == values["answered"] == values["material.stiff"] == 1
    assert values["height_crosstalk"] < 1e-9


def test_it_is_the_reduced_modulus_that_is_graded():
    """E = 0.08 GPa with nu = 0.5 is E* = 0.10667; with the nominal nu = 0.3 that reads 0.09707."""
    data = observed()
    given = answer(data)
    np.testing.assert_allclose(given["modulus_gpa"][soft(data)], 0.0970667, rtol=1e-5)
    wrong = {**given, "modulus_gpa": np.where(soft(data), 0.08, 0.8)}
    scores = TASK.grade(wrong, data)
    assert scores["modulus_error.stiff"].value < 1e-9
    np.testing.assert_allclose(scores["modulus_error.soft"].value, 100 * (1 - 0.75 / 0.91))
    assert "soft +21.3 %" in scores.notes[0]


def test_a_common_error_is_bias_and_its_way_is_told():
    """All moduli 10 % too high: error = bias = 10 %, rms of the logarithm 100 ln 1.1."""
    scores = TASK.grade(answer(observed(), 1.1), observed())
    np.testing.assert_allclose(scores["modulus_error"].value, 10.0)
    np.testing.assert_allclose(scores["modulus_bias"].value, 10.0)
    np.testing.assert_allclose(scores["modulus_rmse"].value, 100 * np.log(1.1))
    assert "stiffer" in scores["modulus_bias"].hint


def test_contact_and_adhesion_split_into_bias_and_spread():
    """Errors of 0.1 + 0.2 and 0.1 - 0.2: bias 0.1, spread 0.2, rms sqrt(0.05)."""
    data = observed()
    error = 0.1 + 0.2 * np.tile([1, -1], CURVES // 2)
    scores = TASK.grade(answer(data, contact_nm=error, adhesion_nn=error), data)
    for name in ("contact_rmse", "adhesion_rmse"):
        score = scores[name]
        np.testing.assert_allclose([score.bias, score.spread], [0.1, 0.2])
        np.testing.assert_allclose(score.value, np.sqrt(0.05))


def test_stiffness_in_the_heights_is_crosstalk():
    """Soft places 0.5 nm too low: that is the cross-talk; a common shift is none."""
    data = observed()
    low = np.where(soft(data), -0.5, 0.0)
    np.testing.assert_allclose(
        TASK.grade(answer(data, contact_nm=low), data)["height_crosstalk"].value, 0.5
    )
    assert TASK.grade(answer(data, contact_nm=0.3), data)["height_crosstalk"].value < 1e-9


def test_the_nearest_modulus_tells_the_material():
    """Soft taken for three times its modulus is soft still (sqrt(10) parts them); 4 times isn't."""
    data = observed()
    for factor, share in ((2.8, 1.0), (4.0, 0.0)):
        given = answer(data, np.where(soft(data), factor, 1.0))
        scores = TASK.grade(given, data)
        assert scores["material.soft"].value == share
        assert scores["material.stiff"].value == 1.0


def test_curves_without_an_answer_are_counted():
    """Half of the curves answered: the error is that of the others. None: no error is defined."""
    data = observed()
    half = {name: values[::2] for name, values in answer(data, 1.1).items()}
    scores = TASK.grade(half, data)
    assert scores["answered"].value == 0.5
    np.testing.assert_allclose(scores["modulus_error"].value, 10.0)
    nothing = {name: values[:0] for name, values in half.items()}
    assert TASK.grade(nothing, data)["modulus_error"].value is None


def test_coverage_tells_honest_from_boastful_uncertainties():
    """Errors of 0.1 nm: sigma 0.1 holds always, 0.04 (1.96 of them are 0.078) never."""
    data = observed()
    for sigma, held in ((0.1, 1.0), (0.04, 0.0)):
        given = answer(data, contact_nm=0.1, contact_sigma_nm=np.full(CURVES, sigma))
        scores = TASK.grade(given, data)
        assert scores["coverage_contact"].value == scores["contact_rmse"].coverage == held
        assert "coverage_modulus" not in scores.values()


def finite_differences(law, radius=20.0, k=2.0, noise=0.1):
    """Bounds by finite differences of whole simulated curves: another way to the same."""
    lever, acts = (
        Cantilever(stiffness_n_per_m=k, temperature_k=0.0),
        ForceLaw(law=law, van_der_waals=False),
    )
    true = np.array([np.log(0.5), np.log(40.0), 0.0])
    base = ForceParameters.of(0.5, 40.0, radius, 20.0, 0.0)
    down, up = ramps_to_trigger(base, lever, acts, 8.0, 60.0, 240)
    down, up = down - 0.02, up - 0.02  # no sample on a jump

    def made(p):
        parameters = ForceParameters.of(np.exp(p[0]), np.exp(p[1]), radius, 20.0, p[2])
        curve = simulate(parameters, lever, acts, down, up)
        reading = np.concatenate([curve.ideal_approach_nm[0], curve.ideal_retract_nm[0]])
        return reading, curve.pull_off_height_nm[0], curve

    curve = made(true)[2]
    h, columns, place = 1e-6, [], []
    for a in range(3):
        ends = [made(true + h * s * np.eye(3)[a]) for s in (1, -1)]
        columns.append((ends[0][0] - ends[1][0]) / (2 * h))
        place.append((ends[0][1] - ends[1][1]) / (2 * h))
    n = down.size
    columns += [np.repeat([1.0, 0.0], n), np.repeat([0.0, 1.0], n)]
    columns.append(np.concatenate([down[0], up[0]]))
    design = np.stack(columns, axis=1) / noise
    if law in ("dmt", "jkr"):
        step = up[0, 1] - up[0, 0]
        design = np.vstack([design, np.array([*place, 0, 0, 0]) * np.sqrt(12) / step])
    else:
        design = np.delete(design, 1, axis=1)
    sigma = np.sqrt(np.diag(np.linalg.inv(design.T @ design)))
    contact = 2 if law in ("dmt", "jkr") else 1
    separations = curve.separations_nm()
    touching = (down[0] < 0, up[0] < np.nan_to_num(curve.pull_off_height_nm[0]))
    bound = force_limit(
        law, 0.5, 40.0, radius, 20.0, k, (down[0], up[0]),
        (-separations[0][0], -separations[1][0]), touching, noise, 0.0,
    )  # fmt: skip
    return sigma[0], sigma[contact], bound


@pytest.mark.parametrize("law", ["hertz", "sneddon", "dmt", "jkr"])
def test_limits_are_those_of_finite_differences_of_whole_curves(law):
    """Springs in series against the simulation itself: modulus and contact within 0.5 %."""
    modulus, contact, bound = finite_differences(law)
    np.testing.assert_allclose(bound.modulus, modulus, rtol=5e-3)
    np.testing.assert_allclose(bound.contact_nm, contact, rtol=5e-3)


def test_limits_grow_with_the_noise_and_vanish_without():
    """Twice the noise, twice the bound (Hertz: no place of a jump in it); none without noise."""
    one, two = (finite_differences("hertz", noise=s)[2] for s in (0.1, 0.2))
    np.testing.assert_allclose(two.modulus, 2 * one.modulus, rtol=1e-9)
    np.testing.assert_allclose(two.contact_nm, 2 * one.contact_nm, rtol=1e-9)
    assert one.adhesion_nn == 0
    quiet = observed(noise=False)
    assert TASK.grade(answer(quiet), quiet)["modulus_rmse"].limit is None


@pytest.mark.parametrize("law", ["hertz", "sneddon", "dmt", "jkr"])
def test_the_analysis_reaches_the_limit(law):
    """192 curves: rms error of the modulus within 25 % of the bound, uncertainties honest.

    The rms of 96 curves a material is known to 7 %, a coverage of 0.95 to 1.6 %.
    """
    data = observed(law, rows=16)
    found = TASK.answer(data.measured())
    scores = TASK.grade(found, data)
    assert scores["answered"].value == 1
    for group in ("stiff", "soft"):
        score = scores[f"modulus_rmse.{group}"]
        assert 0.75 * score.limit < score.value < 1.25 * score.limit
        assert scores[f"modulus_bias.{group}"].value < 0.35 * score.limit
    assert 0.9 < scores["coverage_modulus"].value < 0.985
    assert 0.9 < scores["coverage_contact"].value < 0.985
    assert scores["height_crosstalk"].value < 0.2 * scores["contact_rmse"].limit + 0.02
    assert ("adhesion_sigma_nn" in found) == (law in ("dmt", "jkr"))


def test_without_noise_the_analysis_is_exact():
    """Moduli within 0.5 %, contact within a third of a sample (0.27 nm), for each law."""
    for law in ("hertz", "sneddon", "dmt", "jkr"):
        data = observed(law, noise=False)
        scores = TASK.grade(TASK.answer(data.measured()), data)
        assert scores["modulus_rmse"].value < 0.5
        assert scores["contact_rmse"].value < 0.09


def test_drag_is_corrected_for():
    """0.5 nN of drag on 2 N/m: 0.25 nm between the two ways, of which nothing is left."""
    data = observed(drag_nn=0.5)
    score = TASK.grade(TASK.answer(data.measured()), data)["contact_rmse"]
    assert abs(score.bias) < 0.03
    assert score.value < 1.4 * score.limit


def test_a_wrong_stiffness_scales_modulus_and_adhesion():
    """The operator's lever is 10 % too stiff: so are all moduli, and a note says so."""
    data = observed(rows=24, stiffness_error_percent=10.0)
    scores = TASK.grade(TASK.answer(data.measured()), data)
    np.testing.assert_allclose(scores["modulus_bias.soft"].value, 10.0, atol=0.4)
    assert any("+10 %" in note for note in scores.notes)


def test_a_sticky_law_without_a_visible_pull_is_fitted_all_the_same():
    """DMT told of curves that follow Hertz: no jump to hold on to, moduli within 15 %."""
    data = observed("hertz")
    measured = data.measured()
    signals = [measured.signals[name].data for name in TASK.inputs]
    found = force_map.measure(*signals, {**measured.settings, "law": "dmt"})
    assert len(found["row"]) > 0.7 * CURVES
    scores = TASK.grade(found, data)
    assert scores["modulus_error"].value < 15


def test_coming_off_is_between_two_samples():
    """A saw tooth that springs back between the samples 4 and 5, and a curve without a pull."""
    z = np.tile(np.arange(20.0), (2, 1))
    flat = np.array([np.where(z[0] < 4.5, 3.0 - 2.0 * z[0], 0.0), np.maximum(5.0 - z[0], 0.0)])
    off = coming_off(z, flat, np.array([0.01, 0.01]))
    assert (off.before_nm[0], off.after_nm[0], off.middle_nm[0]) == (4.0, 5.0, 4.5)
    assert off.seen.tolist() == [True, False]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"row": np.arange(CURVES) % 5 + 0.5}, "row to be whole"),
        ({"column": np.arange(CURVES)}, "column to be whole, from 0 to 11"),
        ({"row": np.zeros(CURVES)}, "at most once"),
        ({"modulus_gpa": np.zeros(CURVES)}, "modulus_gpa above zero"),
        ({"contact_sigma_nm": np.zeros(CURVES)}, "contact_sigma_nm above zero"),
        ({"adhesion_nn": np.full(CURVES, np.nan)}, "all finite"),
    ],
)
def test_what_breaks_the_contract_is_refused(changes, message):
    """Places that aren't whole, beyond the grid or doubled; no modulus; no uncertainty; NaN."""
    with pytest.raises(ValueError, match=message):
        TASK.grade({**answer(observed()), **changes}, observed())


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((4, 60), {}, "on a grid"),
        ((2, 2, 60), {"law": "maugis"}, "law must be one of"),
        ((2, 2, 60), {"tip_radius_nm": None}, "lack tip_radius_nm"),
        ((2, 2, 60), {"law": "sneddon"}, "half_angle_deg"),
    ],
)
def test_the_analysis_refuses_what_it_cannot_use(shape, settings, message):
    """Curves without a grid, an unknown law, no radius, a cone without an angle."""
    z = np.broadcast_to(np.linspace(50.0, 0.0, 60), shape)
    x = np.maximum(10.0 - z, 0.0)
    known = {"stiffness_n_per_m": 1.0, "tip_radius_nm": 10.0, "law": "hertz", **settings}
    told = {name: value for name, value in known.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        force_map.measure(z, z[..., ::-1], x, x[..., ::-1], told)


@pytest.mark.parametrize("law", ["hertz", "sneddon", "dmt", "jkr"])
def test_figures_show_maps_curves_and_profile(law):
    """Four plates of the task and two of the data can be drawn, with curves missing as well."""
    data = observed(law)
    given = {name: values[3:] for name, values in answer(data, 1.02, 0.1).items()}
    plates = [*TASK.figures(data, given, TASK.grade(given, data)), *figures.of_dataset(data)]
    assert [plate.title for plate in plates] == [
        "Maps", "How far off", "The law of contact", "Stiffness isn't height",
        "Force curves", "The truth behind it",
    ]  # fmt: skip
    if law == "dmt":  # drawing takes its time
        for figure in (*(plate.figure for plate in plates), figures.thumbnail(data)):
            FigureCanvasAgg(figure).draw()

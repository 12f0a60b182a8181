"""The task trenches: truth by geometry, errors of known size, bounds, and what is refused."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nanophantom.analysis import trench_estimate
from nanophantom.samples.grating import Grating
from nanophantom.simcore.probes.dilation import dilate
from nanophantom.simcore.probes.tips import SphereCone
from nanophantom.validation.tasks import find_task
from nanophantom.validation.trench_figures import outline_of, reach_nm
from nanophantom.validation.true_trenches import trenches_in_view

TASK = find_task("trenches")
PX, ROWS, COLUMNS, NOISE_NM = 0.5, 16, 840, 0.1
TIP = SphereCone(radius_nm=8.0, half_angle_deg=12.0)


def observed(tip=TIP, left_nm=-60.0, noise_nm=0.0, error_nm=0.0, mode="tapping", **grating):
    """Return what a grader may ask of a dataset: trenches of 16, 28, 52 and 82 nm, 60 deep.

    error_nm shifts trace and retrace up and leaves that in the error channel, as a loop does.
    """
    knobs = {"features": "trenches", "pitch_nm": 100.0, "depth_nm": 60.0, "shift_nm": 0.0,
             "widths_nm": (16.0, 28.0, 52.0, 82.0), "sidewall_angle_deg": 84.0}  # fmt: skip
    specimen = Grating(**{**knobs, **grating}).make(None)
    x, y = left_nm + PX * np.arange(COLUMNS), 2 * PX * np.arange(ROWS)
    surface = specimen.heights(x, y)
    sampled = tip.sampled((2 * PX, PX), 66.0)
    image = dilate(surface, sampled.heights_nm, sampled.apex)
    rng = np.random.default_rng(3)
    signals, frames = {}, {}
    for way in ("", "_retrace"):
        frames[f"ideal_height{way}"] = image[None]
        signals[f"height{way}"] = (image + rng.normal(0, noise_nm, image.shape) + error_nm)[None]
        sign = -1 if mode == "contact" else 1
        signals[f"error{way}"] = np.full((1, ROWS, COLUMNS), sign * error_nm)
    tables = {
        **{f"specimen_{name}": table for name, table in specimen.truth().items()},
        "surface": {"height_nm": surface, "image_nm": image},
        "view": {"x0_nm": np.array([left_nm]), "y0_nm": np.zeros(1), "angle_deg": np.zeros(1)},
        "tip": {"height_nm": sampled.heights_nm, "apex": sampled.apex, "step_nm": (2 * PX, PX)},
    }
    return SimpleNamespace(
        n_frames=1,
        settings={"pixel_size_nm": PX, "pixel_size_y_nm": 2 * PX, "mode": mode,
                  "tip": tip.model_dump(mode="json")},
        signals=tuple(signals),
        signal=lambda name, a=0, b=None: signals[name][a:b],
        frame_truth=lambda name, a=0, b=None: frames[name][a:b],
        truth_tables=tuple(tables),
        truth=lambda table: tables[table],
    )  # fmt: skip


@pytest.fixture(scope="module")
def data():
    return observed()


def answer(data, **more):
    """Return what one would answer who knows the truth, bounds where only bounds can be known."""
    true = trenches_in_view(data)
    known = true.measurable.all(axis=1)
    depth = np.where(true.reached, true.depth_nm, true.reachable_depth_nm)
    angle = np.where(known, true.angle_deg, 78.0)
    columns = {
        "x_nm": true.x_nm,
        "depth_nm": depth,
        "top_width_nm": true.top_width_nm,
        "bottom_width_nm": np.where(known, true.bottom_width_nm, 0.0),
        "angle_left_deg": angle,
        "angle_right_deg": angle,
        "reached": true.reached.astype(float),
        "left_bound": 1.0 - known,
        "right_bound": 1.0 - known,
        "bottom_most_nm": true.top_width_nm,
        "touched_share": true.touched_share,
    }
    return {**columns, **more}


def given_by(data, **changed):
    signals = [data.signal(name) for name in TASK.inputs]
    return {**trench_estimate.measure(*signals, data.settings), **changed}


def test_what_the_tip_can_reach_is_the_closed_form(data):
    """At depth d the cone is 2 (R cos a + (d - R (1 - sin a)) tan a) wide.

    16 and 28 nm: 7.159 and 35.387 nm deep. 60 nm over its apex it is 38.47 nm wide: of openings of
    52 and 82 nm the apex travels over 13.5 and 43.5 nm, and its sphere touches a little more.
    """
    true = trenches_in_view(data)
    a = np.deg2rad(12)
    deep = [8 * (1 - np.sin(a)) + (w / 2 - 8 * np.cos(a)) / np.tan(a) for w in (16, 28)]
    np.testing.assert_allclose(true.x_nm, [60, 160, 260, 360])
    np.testing.assert_allclose(true.reachable_depth_nm, [*deep, 60, 60], atol=1e-6)
    np.testing.assert_allclose(
        true.bottom_width_nm, true.top_width_nm - 120 / np.tan(np.deg2rad(84))
    )
    assert true.reached.tolist() == [False, False, True, True]
    assert not true.measurable.any()
    np.testing.assert_allclose(true.flank_deg, 78, atol=1e-6)
    assert (true.touched_share[:2] == 0).all()
    for share, width in zip(true.touched_share[2:], (52, 82), strict=True):
        assert 0 < share - (width - 38.47) / width < 0.05


def test_a_sphere_between_upright_walls():
    """R - sqrt(R² - W²/4) = 2.679 nm for R = W = 20 nm, in the truth and on the figure's curve."""
    tip = SphereCone(radius_nm=20.0, half_angle_deg=10.0)
    true = trenches_in_view(observed(tip=tip, widths_nm=(20.0,), sidewall_angle_deg=90.0))
    # A rim on a sample counts as floor there: half a sample to either side.
    np.testing.assert_allclose(true.reachable_depth_nm, 20 - np.sqrt(300), atol=0.15)
    outline = outline_of(tip.sampled((0.2, 0.2), 60.0), 60.0)
    depths = np.array([20 - np.sqrt(300), 10.0])
    widths = reach_nm(outline, depths, 90.0)
    np.testing.assert_allclose(widths, [20.0, 2 * np.sqrt(400 - 100)], atol=0.05)
    # Walls that lean inwards by 45 degrees touch the sphere where it is as steep.
    leaning = reach_nm(outline, np.array([10.0]), 45.0)
    np.testing.assert_allclose(leaning, 2 * (20 * np.sqrt(2) - 10), atol=0.05)


def test_who_knows_what_can_be_known_has_perfect_scores(data):
    scores = TASK.grade(answer(data), data)
    values = scores.values()
    for name in ("depth", "top_width", "least_depth", "touched"):
        assert values[name] == pytest.approx(0, abs=1e-9)
    for name in ("reached", "bounds", "recall", "precision"):
        assert values[name] == 1
    # no wall can be measured: nothing to be right or wrong about
    assert values["angle"] is values["bottom_width"] is values["told"] is None
    missing = 60 - (7.159 + 35.387) / 2
    assert f"{missing:.3g} nm below it" in scores["least_depth"].hint


def test_a_spike_makes_walls_known():
    """Half angle 3 degrees: flanks of 87 degrees. Bounds where values can be had are noticed."""
    data = observed(tip=SphereCone(radius_nm=8.0, half_angle_deg=3.0))
    values = TASK.grade(answer(data), data).values()
    assert values["angle"] == values["bottom_width"] == 0
    assert values["told"] == 1
    lazy = answer(data, left_bound=np.ones(4))
    assert TASK.grade(lazy, data)["told"].value == 0.5


def test_errors_have_their_size(data):
    """Depths 0.3 nm too large, widths 0.5 +- 0.2 nm: bias, spread and root mean square."""
    off = answer(data)
    off["depth_nm"] = off["depth_nm"] + 0.3
    off["top_width_nm"] = off["top_width_nm"] + 0.5 + 0.2 * np.array([1, -1, 1, -1])
    scores = TASK.grade(off, data)
    for name in ("depth", "least_depth"):
        np.testing.assert_allclose([scores[name].value, scores[name].bias], 0.3, atol=1e-6)
    np.testing.assert_allclose(scores["top_width"].value, np.hypot(0.5, 0.2))
    np.testing.assert_allclose([scores["top_width"].bias, scores["top_width"].spread], [0.5, 0.2])


def test_what_cannot_be_known_but_is_claimed_counts_as_error(data):
    """Flanks of 78 degrees given as walls of 84: 6 degrees of error; floors 20 nm too narrow."""
    bold = answer(data, left_bound=np.zeros(4), right_bound=np.zeros(4), reached=np.ones(4))
    bold["bottom_width_nm"] = trenches_in_view(data).bottom_width_nm - 20
    scores = TASK.grade(bold, data)
    np.testing.assert_allclose(scores["angle"].value, 6.0)
    np.testing.assert_allclose(scores["bottom_width"].value, 20.0)
    assert scores["reached"].value == 0.5


def test_bounds_that_do_not_hold_are_counted(data):
    """Walls given as at least 86 degrees: 8 of the 18 bounds are wrong; 84.9 holds within 1."""
    values = [
        TASK.grade(answer(data, angle_left_deg=a, angle_right_deg=a), data)["bounds"].value
        for a in (np.full(4, 86.0), np.full(4, 84.9))
    ]
    np.testing.assert_allclose(values, [1 - 8 / 18, 1])


def test_finds_are_counted(data):
    """One trench left out: recall 3/4. One more where there is none: precision 4/5."""
    fewer = {name: values[1:] for name, values in answer(data).items()}
    assert TASK.grade(fewer, data)["recall"].value == 0.75
    more = {name: np.append(values, values[0]) for name, values in answer(data).items()}
    more["x_nm"][-1] = 110.0
    scores = TASK.grade(more, data)
    assert (scores["precision"].value, scores["recall"].value) == (0.8, 1)
    nothing = {name: values[:0] for name, values in answer(data).items()}
    scores = TASK.grade(nothing, data)
    assert scores["depth"].value is scores["precision"].value is None
    assert scores["recall"].value == 0


def test_a_trench_that_the_edge_cuts_is_nobodys_business():
    """The first opening of 16 nm begins outside: found or not, scores are the same."""
    data = observed(left_nm=-4.0)
    scores = TASK.grade(answer(data), data)
    assert scores["recall"].n == 4  # 28, 52, 82, and the next one of 16 nm
    more = {name: np.append(values, values[0]) for name, values in answer(data).items()}
    more["x_nm"][-1] = 5.0
    assert TASK.grade(more, data)["precision"].value == 1
    own = TASK.grade(given_by(data), data).values()
    assert own["recall"] == own["precision"] == own["reached"] == 1
    assert own["depth"] < 1e-3


def test_coverage_tells_honest_from_boastful_uncertainties(data):
    """Widths off by 0.5 nm: 0.3 nm covers it with 1.96 sigma, 0.2 nm doesn't."""
    off = answer(data)
    off["top_width_nm"] = off["top_width_nm"] + 0.5
    coverages = [
        TASK.grade({**off, "top_width_sigma_nm": np.full(4, s)}, data)["top_width"].coverage
        for s in (0.3, 0.2)
    ]
    assert coverages == [1, 0]


def test_limits_are_noise_over_the_floor_and_the_mean_over_a_pixel():
    """0.1 nm a pixel and way, 28 and 88 columns of 16 rows of floor; (tan 78) px / 4 at a point."""
    data = observed(noise_nm=NOISE_NM)
    limits = TASK.compare(answer(data), data).depth_limit_nm
    floors = np.array([27, 87]) * ROWS
    np.testing.assert_allclose(limits[2:], NOISE_NM / np.sqrt(2 * floors), rtol=0.1)
    np.testing.assert_allclose(limits[1], np.tan(np.deg2rad(78)) * PX / 4, rtol=1e-3)


def test_width_at_half_height_is_wrong_by_the_tip(data):
    """52 nm: the flanks are 2 x 12.86 nm wide 30 nm over the apex, so that 26.3 nm are left."""
    raw = TASK.compare(answer(data), data).raw_width_nm
    a = np.deg2rad(12)
    half = 8 * np.cos(a) + (30 - 8 * (1 - np.sin(a))) * np.tan(a)
    np.testing.assert_allclose(raw[2:], np.array([52, 82]) - 2 * half, atol=1e-3)


@pytest.mark.parametrize("mode", ["tapping", "contact"])
def test_the_adapter_answers_as_well_as_can_be(mode):
    """Without noise: openings within 0.05 nm, depths to 1 pm, all bounds hold, flags right.

    A common error of 0.3 nm that stands in the error channel changes nothing.
    """
    data = observed(error_nm=0.3, mode=mode)
    values = TASK.grade(given_by(data), data).values()
    assert values["depth"] < 1e-3
    assert values["least_depth"] < 1e-3
    assert values["top_width"] < 0.05
    assert values["touched"] < 0.03
    assert values["reached"] == values["bounds"] == values["recall"] == values["precision"] == 1
    assert values["raw_width"] > 10


def test_the_adapter_measures_walls_with_a_spike():
    """Half angle 3 degrees and 0.1 nm of noise: angles within 0.5 degrees, floors 0.3 nm."""
    data = observed(tip=SphereCone(radius_nm=8.0, half_angle_deg=3.0), noise_nm=NOISE_NM)
    scores = TASK.grade(given_by(data), data)
    assert scores["angle"].value < 0.5
    assert scores["bottom_width"].value < 0.3
    assert scores["touched"].value < 0.03
    assert scores["told"].value == scores["bounds"].value == 1
    assert scores["angle"].coverage == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reached": np.full(4, 0.5)}, "reached to be 0 or 1"),
        ({"left_bound": np.full(4, 2.0)}, "left_bound to be 0 or 1"),
        ({"depth_sigma_nm": np.zeros(4)}, "depth_sigma_nm above 0"),
        ({"depth_nm": np.full(4, np.nan)}, "all finite"),
        ({"depth_nm": np.zeros(3)}, "depth_nm has the shape"),
    ],
)
def test_what_breaks_the_contract_is_refused(data, changes, message):
    with pytest.raises(ValueError, match=message):
        TASK.grade({**answer(data), **changes}, data)


def test_other_specimens_are_refused(data):
    """Lines that stand up, trenches along the lines of the scan, no trench in view."""
    lines = observed(features="lines", widths_nm=(30.0,))
    with pytest.raises(ValueError, match="no whole trench"):
        TASK.grade(answer(data), lines)
    with pytest.raises(ValueError, match="across the trenches"):
        TASK.grade(answer(data), observed(direction_deg=90.0))
    other = observed()
    other.truth_tables = ("surface", "tip", "view")
    with pytest.raises(ValueError, match="no truth specimen_grating"):
        TASK.grade(answer(data), other)


def test_figures_are_drawn():
    """Four plates, with bounds and values in one."""
    data = observed(tip=SphereCone(radius_nm=8.0, half_angle_deg=3.0), noise_nm=NOISE_NM)
    given = given_by(data)
    plates = TASK.figures(data, given, TASK.grade(given, data))
    assert len(plates) == 4
    for plate in plates:
        FigureCanvasAgg(plate.figure).draw()

"""The task tip-shape: tips of known errors graded, what is refused, the adapter on one image."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nanophantom.analysis import tip_estimate
from nanophantom.simcore.probes.dilation import dilate
from nanophantom.simcore.probes.sphere_cone import cone_height
from nanophantom.simcore.probes.tips import DoubleTip, SphereCone
from nanophantom.validation.tasks import find_task

TASK = find_task("tip-shape")
TIP = SphereCone(radius_nm=10.0, half_angle_deg=20.0)
STEP_NM = 1.25


def spiky(seed=1, n=112, pitch=37, sharp_nm=1.0):
    """Return spikes of 30 to 40 nm on a floor, wherever between the pixels."""
    rng = np.random.default_rng(seed)
    row, column = np.indices((n, n))
    surface = np.zeros((n, n))
    for y in range(pitch // 2, n - 9, pitch):
        for x in range(pitch // 2, n - 9, pitch):
            dy, dx = rng.uniform(-2, 2, 2)
            r = STEP_NM * np.hypot(row - y - dy, column - x - dx)
            height = rng.uniform(30, 40) - cone_height(r, sharp_nm, 10.0)
            np.maximum(surface, height, out=surface)
    return surface


def observed(tip=TIP):
    """Return what a grader may ask of a dataset, with an image that has no noise."""
    fine = tip.sampled((STEP_NM, STEP_NM), 40.0)
    surface = spiky()
    image = dilate(surface, fine.heights_nm, fine.apex)
    tables = {
        "tip": {
            "height_nm": fine.heights_nm,
            "apex": np.array(fine.apex),
            "step_nm": np.array(fine.step_nm),
        },
        "surface": {"height_nm": surface, "image_nm": image},
    }
    return SimpleNamespace(
        n_frames=1,
        settings={"pixel_size_nm": STEP_NM, "pixel_size_y_nm": STEP_NM},
        signals=("height", "height_retrace"),
        signal=lambda name, a=0, b=None: image[None],
        truth_tables=tuple(tables),
        truth=lambda name: tables[name],
    )


DATA = observed()


def answer(tip=TIP, half=14, step_nm=1.0, moved_nm=(0.0, 0.0)):
    """Return a tip on a grid of its own, moved by (y, x) in it."""
    row, column = np.indices((2 * half + 1,) * 2) - half
    y, x = (step_nm * i for i in (row, column))
    heights = tip.profile_nm(x - moved_nm[1], y - moved_nm[0])
    heights = heights - heights.max()
    return {"x_nm": x.ravel(), "y_nm": y.ravel(), "height_nm": heights.ravel()}


def test_a_perfect_answer_has_perfect_scores():
    """The true tip itself: no errors but those of lines drawn between samples of 0.25 nm."""
    values = TASK.grade(answer(half=64, step_nm=0.25), DATA).values()
    assert values["rmse"] < 0.01
    assert values["radius_error"] < 1e-6
    assert values["inside"] == 0
    assert values["violation"] < 0.05
    assert values["covered"] == 1


def test_where_the_apex_lies_in_the_answer_is_of_no_importance():
    """Moved by 3 nm and 2.5 nm, and the samples in any order: the same scores."""
    moved = answer(half=80, step_nm=0.25, moved_nm=(3.0, -2.5))
    order = np.random.default_rng(1).permutation(len(moved["x_nm"]))
    values = TASK.grade({name: column[order] for name, column in moved.items()}, DATA).values()
    assert values["rmse"] < 0.01
    assert values["covered"] == 1


@pytest.mark.parametrize(("radius", "sharper"), [(8.0, True), (13.0, False)])
def test_sharper_tips_violate_the_bound_and_blunter_ones_do_not(radius, sharper):
    """The radius' error comes out with its sign; only the sharper tip lies inside the true one."""
    wrong = SphereCone(radius_nm=radius, half_angle_deg=20.0)
    scores = TASK.grade(answer(wrong, half=80, step_nm=0.25), DATA)
    assert scores["radius_error"].bias == pytest.approx(radius - 10.0, abs=1e-6)
    assert (scores["violation"].value > 1) == sharper
    assert (scores["inside"].value > 0.3) == sharper
    assert (scores["rmse"].bias < 0) == sharper


def test_an_answer_that_is_not_all_there_is_told():
    """A window of 6 nm half width covers a part of the top; one beside it nothing."""
    small = TASK.grade(answer(half=6), DATA)
    assert 0.2 < small["covered"].value < 0.6
    assert small["rmse"].value < 0.2


def test_a_tip_without_a_radius_has_no_radius_error():
    needle = answer(half=3)
    needle["height_nm"] = np.where(needle["height_nm"] == 0, 0.0, -50.0)
    scores = TASK.grade(needle, DATA)
    assert scores["radius_error"].value is None
    assert "answer" in scores["radius_error"].hint


def test_the_algorithm_is_not_told_the_tip():
    assert "tip" in TASK.withheld


GOOD = answer(half=5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"height_nm": GOOD["height_nm"] - 1}, "0 at the apex"),
        ({"height_nm": -GOOD["height_nm"]}, "at most 0"),
        ({name: column[1:] for name, column in GOOD.items()}, "full grid"),
        ({name: column[:0] for name, column in GOOD.items()}, "full grid"),
        ({"x_nm": np.sign(GOOD["x_nm"]) * GOOD["x_nm"] ** 2}, "x_nm in even steps"),
        ({"height_nm": np.full(121, np.nan)}, "all finite"),
    ],
)
def test_what_breaks_the_contract_is_refused(wrong, message):
    """Another zero, the wrong sign, holes, nothing, uneven steps, NaN."""
    with pytest.raises(ValueError, match=message):
        TASK.grade({**GOOD, **wrong}, DATA)


@pytest.mark.parametrize(
    "tip",
    [
        SphereCone(radius_nm=10.0, half_angle_deg=20.0),
        DoubleTip(radius_nm=10.0, separation_nm=16.0, direction_deg=30.0),
    ],
)
def test_the_adapter_finds_single_and_double_tips(tip):
    """With noise of 0.1 nm: 0.6 nm rms in the top 10 nm, radius within 1 nm, nothing left out."""
    data = observed(tip)
    rng = np.random.default_rng(3)
    height, back = (data.signal("") + 0.1 * rng.standard_normal((1, 112, 112)) for _ in range(2))
    found = tip_estimate.find(height, back, data.settings)
    compared = TASK.compare(found, data)
    assert np.sqrt(np.mean(compared.error_nm**2)) < 0.6
    assert compared.radius_nm == pytest.approx(10.0, abs=1.0)
    assert len(compared.error_nm) == np.count_nonzero(compared.top)


def test_smoothing_is_undone_to_first_order():
    """A smoothed sphere-cone's radius errs by 10 %; put back, by less than 2 %."""
    from scipy import ndimage

    from nanophantom.analysis.blind_tip import tip_radius

    tip = answer(half=30, step_nm=1.0)["height_nm"].reshape(61, 61)
    smooth = ndimage.gaussian_filter(tip, 1.5)
    smooth = smooth - smooth.max()
    assert abs(tip_radius(smooth, 1.0) / 10 - 1) > 0.04
    assert abs(tip_radius(tip_estimate.unsmoothed(smooth, (30, 30), 1.5), 1.0) / 10 - 1) < 0.02


def test_figures_show_image_tips_cuts_and_thresholds():
    data = observed()
    given = answer()
    noisy = data.signal("") + 0.1 * np.random.default_rng(1).standard_normal((1, 112, 112))
    data.signal = lambda *_: noisy
    plates = TASK.figures(data, given, TASK.grade(given, data))
    assert len(plates) == 4
    for plate in plates:
        FigureCanvasAgg(plate.figure).draw()

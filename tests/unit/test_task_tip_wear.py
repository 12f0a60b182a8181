"""The task tip-wear: made-up lives of a tip graded, what is refused, and the adapter's parts."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nanophantom.analysis import tip_wear
from nanophantom.analysis.blind_tip import tip_radius
from nanophantom.analysis.tip_from_spikes import tip_from_spikes
from nanophantom.simcore.probes.dilation import dilate
from nanophantom.simcore.probes.sphere_cone import cone_height
from nanophantom.simcore.probes.tips import SphereCone, WornFlat
from nanophantom.validation.tasks import find_task

TASK = find_task("tip-wear")
RADII_NM = np.array([8.0, 9.0, 10.0, 14.0, 15.0, 16.0])
FRAMES, LINES = len(RADII_NM), 20
EVENTS = {"line": np.array([3 * LINES + 4, 5 * LINES]), "shortened_nm": np.array([2.0, 0.1])}
"""A fragment lost in frame 3; something that hardly matters in frame 5."""


def observed(events=EVENTS, radii=RADII_NM):
    """Return what a grader may ask of a dataset: tips with spheres of known radii."""
    tips = [SphereCone(radius_nm=r).sampled((1.0, 1.0), 12.0).cropped(9.0) for r in radii]
    half = max(t.apex[0] for t in tips)
    heights = np.full((len(tips), 2 * half + 1, 2 * half + 1), -np.inf, np.float32)
    for shown, tip in zip(heights, tips, strict=True):
        a, n = half - tip.apex[0], len(tip.heights_nm)
        shown[a : a + n, a : a + n] = tip.heights_nm
    line = np.arange(FRAMES * LINES)
    tables = {
        "tip_frames": {
            "frame": np.arange(len(tips)),
            "height_nm": heights,
            "apex": np.array([half, half]),
            "step_nm": np.array([1.0, 1.0]),
        },
        "tip_lines": {
            "line": line,
            "shortened_nm": 0.05 * line,
            "distance_nm": 100.0 * line,
            "apex_x_nm": np.zeros(len(line)),
            "apex_y_nm": np.zeros(len(line)),
        },
        "tip_events": events,
    }
    rng = np.random.default_rng(1)
    return SimpleNamespace(
        n_frames=FRAMES,
        settings={"pixel_size_nm": 1.0, "pixel_size_y_nm": 1.0},
        signals=("height", "height_retrace"),
        signal=lambda name, a=0, b=None: rng.standard_normal((FRAMES, LINES, LINES))[a:b],
        truth_tables=tuple(tables),
        truth=lambda name: tables[name],
    )


DATA = observed()


def answer(error_nm=0.0, event=(0, 0, 0, 1, 0, 0), **more):
    return {
        "frame": np.arange(FRAMES),
        "radius_nm": RADII_NM + error_nm,
        "event": np.array(event),
        **more,
    }


def test_a_perfect_answer_has_perfect_scores():
    """True radii, lengths and accidents; float32 heights keep radii to a few 1e-5."""
    shortened = 0.05 * (np.arange(FRAMES) * LINES + LINES // 2)
    values = TASK.grade(answer(shortened_nm=shortened), DATA).values()
    assert values["radius_rmse"] < 1e-4
    assert values["radius_final"] < 1e-4
    assert values["shortened_rmse"] < 1e-12
    assert values["events_found"] == values["events_right"] == values["answered"] == 1


def test_errors_come_out_as_bias_spread_and_final_error():
    """1 nm too blunt on average, scattering by 0.5 nm; the last frame 1.5 nm off."""
    scores = TASK.grade(answer(1.0 + 0.5 * np.tile([-1.0, 1.0], 3)), DATA)
    rmse = scores["radius_rmse"]
    np.testing.assert_allclose([rmse.bias, rmse.spread], [1.0, 0.5], atol=1e-4)
    np.testing.assert_allclose(rmse.value**2, rmse.bias**2 + rmse.spread**2, rtol=1e-9)
    np.testing.assert_allclose(scores["radius_final"].bias, 1.5, atol=1e-4)
    assert "blunter" in rmse.hint


def test_accidents_missed_made_up_and_too_small():
    """That of frame 3 is asked for; naming frame 5 isn't wrong, naming frame 1 is."""
    missed = TASK.grade(answer(event=(0, 1, 0, 0, 0, 1)), DATA).values()
    assert missed["events_found"] == 0
    assert missed["events_right"] == 0.5
    none = TASK.grade(answer(event=np.zeros(6)), DATA).values()
    assert none["events_found"] == 0
    assert none["events_right"] is None
    quiet = {name: values[:0] for name, values in EVENTS.items()}
    assert TASK.grade(answer(), observed(quiet)).values()["events_found"] is None


def test_coverage_tells_honest_from_boastful_uncertainties():
    """Errors of 1 nm: sigma 1 nm holds always, 0.4 nm (1.96 of them are 0.78) never."""
    for sigma, share in ((1.0, 1), (0.4, 0)):
        scores = TASK.grade(answer(1.0, sigma_nm=np.full(FRAMES, sigma)), DATA)
        assert scores["coverage"].value == scores["radius_rmse"].coverage == share


def test_frames_without_an_answer_are_counted():
    some = {name: values[1::2] for name, values in answer(0.5).items()}
    scores = TASK.grade(some, DATA)
    assert scores["answered"].value == 0.5
    np.testing.assert_allclose(scores["radius_rmse"].value, 0.5, atol=1e-4)
    nothing = {name: values[:0] for name, values in some.items()}
    assert TASK.grade(nothing, DATA)["radius_rmse"].value is None


def test_a_tip_that_never_changes_is_told_once():
    """One shape serves all frames."""
    scores = TASK.grade(answer(10.0 - RADII_NM), observed(radii=[10.0]))
    assert scores["radius_rmse"].value < 1e-4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"frame": np.arange(FRAMES) + 0.5}, "frame to be whole"),
        ({"frame": np.arange(FRAMES) + 1}, "from 0 to 5"),
        ({"frame": np.zeros(FRAMES)}, "at most once"),
        ({"event": np.full(FRAMES, 0.5)}, "event to be 0 or 1"),
        ({"radius_nm": -RADII_NM}, "radius_nm above zero"),
        ({"sigma_nm": np.zeros(FRAMES)}, "sigma_nm above zero"),
        ({"radius_nm": np.full(FRAMES, np.nan)}, "all finite"),
    ],
)
def test_what_breaks_the_contract_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        TASK.grade({**answer(), **wrong}, DATA)


def test_figures_show_life_images_and_cuts():
    for more in ({}, {"sigma_nm": np.ones(FRAMES), "shortened_nm": np.ones(FRAMES)}):
        given = answer(0.5, **more)
        plates = TASK.figures(DATA, given, TASK.grade(given, DATA))
        assert len(plates) == 3
        for plate in plates:
            FigureCanvasAgg(plate.figure).draw()


# --- the adapter ---------------------------------------------------------------------------------


def imaged(tip, seed=1, n=128, pitch=32):
    """Return an image of spikes of 0.5 nm, wherever between pixels of 1 nm, with 0.1 nm noise."""
    rng = np.random.default_rng(seed)
    row, column = np.indices((n, n))
    surface = np.zeros((n, n))
    for y in range(pitch // 2, n, pitch):
        for x in range(pitch // 2, n, pitch):
            dy, dx = rng.uniform(-1, 1, 2)
            height = rng.uniform(25, 30) - cone_height(
                np.hypot(row - y - dy, column - x - dx), 0.5, 8.0
            )
            np.maximum(surface, height, out=surface)
    sampled = tip.sampled((1.0, 1.0), 31.0)
    return dilate(surface, sampled.heights_nm, sampled.apex) + 0.1 * rng.standard_normal((n, n))


@pytest.mark.parametrize(
    "tip",
    [
        SphereCone(radius_nm=6.0, half_angle_deg=15.0),
        WornFlat(fresh_radius_nm=6.0, half_angle_deg=15.0, flat_radius_nm=5.0),
    ],
)
def test_spikes_show_round_and_flat_tips(tip):
    """Too blunt by a fraction of the spikes' radius and of a pixel: 0.3 to 1.5 nm."""
    true = tip_radius(tip.sampled((1.0, 1.0), 10.0).heights_nm, 1.0)
    found, spikes = tip_from_spikes(imaged(tip), (1.0, 1.0), reach_nm=12.0)
    assert spikes == 16
    assert -0.5 < tip_radius(found, 1.0) - true < 2.0


def test_a_lopsided_tip_is_not_reflected():
    """A second apex on the right, 3 nm shorter, lies on the right."""
    from nanophantom.simcore.probes.tips import DoubleTip

    tip = DoubleTip(radius_nm=4.0, half_angle_deg=10.0, separation_nm=9.0, height_difference_nm=3.0)
    found, _ = tip_from_spikes(imaged(tip), (1.0, 1.0), reach_nm=14.0)
    line = found[14]
    left, right = line[:14][::-1], line[15:]
    assert right[8:12].max() > left[8:12].max() + 5


def test_too_few_spikes_are_refused():
    lonely = np.zeros((60, 60))
    lonely[30, 30] = 20.0
    with pytest.raises(ValueError, match="at least 4"):
        tip_from_spikes(lonely, (1.0, 1.0))


def test_a_jump_of_the_ground_is_an_accident_and_slow_wear_is_not():
    """Noise of 0.05 nm and wear of 3 nm: only the jumps of 1 nm, also between frames."""
    rng = np.random.default_rng(2)
    line = np.arange(8 * 60)
    ground = -3.0 * np.sqrt(line / len(line)) + 0.05 * rng.standard_normal(len(line))
    ground[150:] -= 1.0  # amid frame 2
    ground[300:] += 1.0  # at the beginning of frame 5
    jumps = tip_wear.has_jump(ground.reshape(8, 60))
    assert np.flatnonzero(jumps).tolist() == [2, 5]
    assert not tip_wear.has_jump(0.05 * rng.standard_normal((8, 60))).any()


def test_the_adapter_follows_a_short_life():
    """A fresh tip, then a worn one 1.5 nm shorter, from its tenth line on: blunter, shorter."""
    fresh = SphereCone(radius_nm=6.0, half_angle_deg=15.0)
    worn = WornFlat(fresh_radius_nm=6.0, half_angle_deg=15.0, flat_radius_nm=5.0)
    first, second = imaged(fresh), imaged(worn) - 1.5
    third = second.copy()
    second[:10] = first[:10]
    frames = np.array([first, second, third])
    found = tip_wear.find(frames, frames, {"pixel_size_nm": 1.0})
    assert found["frame"].tolist() == [0, 1, 2]
    assert found["event"].tolist() == [0, 1, 0]
    assert found["radius_nm"][2] > found["radius_nm"][0] + 1
    np.testing.assert_allclose(found["shortened_nm"], [0.0, 1.5, 1.5], atol=0.1)
    assert (found["sigma_nm"] > 0).all()

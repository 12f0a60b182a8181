"""The task surface-reconstruction: errors of known size, claims, the limit, and its algorithm."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nanophantom.analysis import surface_estimate
from nanophantom.simcore.fields import Axis, Field, Measured
from nanophantom.simcore.probes.dilation import dilate
from nanophantom.simcore.probes.tips import SphereCone
from nanophantom.validation.tasks import find_task
from nanophantom.validation.true_heights import noise_of_mean_nm, on_pixels

TASK = find_task("surface-reconstruction")
STEP_NM, SIZE, TIP = 2.0, 64, SphereCone(radius_nm=12.0, half_angle_deg=18.0)


def hilly():
    """Return gentle waves, which this tip can follow everywhere, and one sphere on them."""
    y, x = np.indices((SIZE, SIZE)) * STEP_NM
    ground = 0.4 * np.sin(x / 12.0) * np.cos(y / 15.0)
    away = (x - 60.0) ** 2 + (y - 70.0) ** 2
    sphere = np.where(away < 100.0, 10.0 + np.sqrt(np.maximum(100.0 - away, 0.0)), 0.0)
    return np.maximum(ground, sphere)


def observed(noise_nm=0.0, apart_nm=0.0, tilt=0.0):
    """Return what a grader may ask of a dataset, with that noise a pixel in either way.

    apart_nm raises the trace and lowers the retrace; tilt is a slope along x.
    """
    surface, tip = hilly(), TIP.sampled((STEP_NM, STEP_NM), 25.0)
    image = dilate(surface, tip.heights_nm, tip.apex)
    rng = np.random.default_rng(3)
    slope = tilt * np.arange(SIZE) * STEP_NM
    ideal = {"height": image + apart_nm + slope, "height_retrace": image - apart_nm + slope}
    signals = {k: v + noise_nm * rng.standard_normal(image.shape) for k, v in ideal.items()}
    frames = {f"ideal_{k}": v for k, v in ideal.items()}
    frames |= {"disturbance_z": 0 * image, "disturbance_z_retrace": 0 * image}
    tables = {
        "surface": {"height_nm": surface, "image_nm": image},
        "tip": {
            "height_nm": np.asarray(tip.heights_nm),
            "apex": np.array(tip.apex),
            "step_nm": np.array(tip.step_nm),
        },
    }
    axes = (Axis("frame", 1.0, ""), Axis("y", STEP_NM, "nm"), Axis("x", STEP_NM, "nm"))
    settings = {
        "pixel_size_nm": STEP_NM,
        "pixel_size_y_nm": STEP_NM,
        "tip": TIP.model_dump(mode="json"),
    }
    return SimpleNamespace(
        n_frames=1,
        settings=settings,
        signals=tuple(signals),
        signal=lambda name, a=0, b=None: signals[name][None][a:b],
        frame_truth=lambda name, a=0, b=None: frames[name][None][a:b],
        truth_tables=tuple(tables),
        truth=lambda table: tables[table],
        measured=lambda: Measured(
            {k: Field(v[None], axes, "nm") for k, v in signals.items()}, settings
        ),
    )


def answer(heights, certain=None):
    row, column = np.indices(heights.shape)
    told = np.zeros(heights.shape, int) if certain is None else certain.astype(int)
    return {
        "row": row.ravel(),
        "column": column.ravel(),
        "height_nm": np.asarray(heights, float).ravel(),
        "certain": told.ravel(),
    }


def test_the_truth_has_perfect_scores_whatever_its_zero():
    """The surface itself, 5 nm too high: no error; all certain and right, all reachable claimed."""
    surface = hilly()
    values = TASK.grade(answer(surface + 5.0, np.ones(surface.shape)), observed()).values()
    assert values["rmse"] < 1e-12
    assert values["rmse.certain"] < 1e-12
    assert values["certain"] == values["precision"] == values["recall"] == 1


def test_the_limit_is_what_the_tip_cannot_reach_and_the_noise():
    """Erosion of the noise-free image has the limit's error; noise of 0.2 nm adds 0.2 / sqrt 2."""
    data = observed(noise_nm=0.2)
    best = TASK.compare(answer(hilly()), data).best
    scores = TASK.grade(answer(best), data)
    assert scores["rmse"].value > 1.0  # the sphere's underside
    np.testing.assert_allclose(
        scores["rmse"].limit, np.hypot(scores["rmse"].value, 0.2 / np.sqrt(2)), rtol=3e-3
    )
    one = np.zeros(best.shape)
    one[0, 0] = 1
    with_claim = TASK.grade(answer(best, one), data)
    np.testing.assert_allclose(with_claim["rmse.certain"].limit, 0.2 / np.sqrt(2), rtol=0.03)


def test_motion_that_the_loop_follows_is_noise_too():
    """The noise-free heights follow a wave of 0.3 nm rms that shook the specimen; it counts."""
    data = observed()
    wave = 0.3 * np.sqrt(2) * np.sin(2 * np.pi * np.arange(SIZE) / 16) * np.ones((SIZE, 1))
    told = data.frame_truth
    data.frame_truth = lambda name, a=0, b=None: (
        told(name, a, b) + (wave if name.startswith("disturbance") else 0)
    )
    np.testing.assert_allclose(noise_of_mean_nm(data), 0.3, rtol=1e-9)


def test_claims_are_counted():
    """Claims on 100 pixels of which 25 are 0.6 nm off: precision 0.75, rmse of those 0.3 nm."""
    surface = hilly()
    found, claims = surface.copy(), np.zeros(surface.shape)
    claims[:10, :10] = 1
    found[:5, :5] += 0.6
    scores = TASK.grade(answer(found, claims), observed())
    np.testing.assert_allclose(scores["precision"].value, 0.75)
    np.testing.assert_allclose(scores["rmse.certain"].value, 0.3, rtol=1e-9)
    np.testing.assert_allclose(scores["certain"].value, 100 / surface.size)
    c = TASK.compare(answer(found, claims), observed())
    assert c.reached[:10, :10].all()
    np.testing.assert_allclose(scores["recall"].value, 100 / c.reached.sum())


def test_no_claim_leaves_their_scores_undefined():
    scores = TASK.grade(answer(hilly()), observed())
    assert scores["rmse.certain"].value is None
    assert scores["precision"].value is None
    assert scores["certain"].value == scores["recall"].value == 0


def test_pixels_in_any_order():
    """A shuffled answer has the same scores."""
    found = hilly() + 0.1 * np.random.default_rng(0).standard_normal((SIZE, SIZE))
    told = answer(found, found > 0)
    order = np.random.default_rng(1).permutation(SIZE * SIZE)
    shuffled = {name: values[order] for name, values in told.items()}
    assert TASK.grade(told, observed()).values() == TASK.grade(shuffled, observed()).values()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda a: {k: v[1:] for k, v in a.items()}, "each of the 64 x 64 pixels once"),
        (lambda a: a | {"row": np.zeros_like(a["row"])}, "name 64 of them"),
        (lambda a: a | {"row": a["row"] + 1}, "each of the 64 x 64 pixels once"),
        (lambda a: a | {"row": a["row"] + 0.5}, "whole numbers"),
        (lambda a: a | {"certain": 0.5 + 0 * a["height_nm"]}, "certain to be 0 or 1"),
        (lambda a: a | {"height_nm": np.nan * a["height_nm"]}, "finite"),
    ],
)
def test_what_is_refused(change, match):
    with pytest.raises(ValueError, match=match):
        TASK.grade(change(answer(hilly())), observed())


def test_a_finer_tip_is_taken_at_the_pixels():
    """Every second sample of a tip sampled twice as finely; other steps are refused."""
    fine = TIP.sampled((1.0, 1.0), 25.0)
    coarse = on_pixels(fine, (STEP_NM, STEP_NM))
    y, x = coarse.offsets_nm
    np.testing.assert_allclose(coarse.heights_nm, TIP.profile_nm(x, y), atol=1e-12)
    with pytest.raises(ValueError, match="no multiple"):
        on_pixels(fine, (1.5, 1.5))


def test_default_algorithm_reaches_the_limit_where_it_is_sure():
    """Noise 0.05 nm, ways 1 nm apart, tilt 0.01: claims right, rmse at the limit.

    Measured: 0.91 of the pixels certain, all right, their rmse 0.036 nm; all pixels at the limit.
    """
    data = observed(noise_nm=0.05, apart_nm=0.5, tilt=0.01)
    scores = TASK.grade(TASK.answer(data.measured()), data)
    assert scores["precision"].value > 0.99
    assert scores["certain"].value > 0.85
    assert scores["rmse.certain"].value < 0.05
    assert scores["rmse"].value < 1.03 * scores["rmse"].limit
    assert scores["image_rmse"].value > 2 * scores["rmse"].value


def test_ways_are_put_on_the_rows_where_the_slow_axis_was():
    """A slope of 1 nm a row, taken where trace and retrace really were, comes back exactly.

    8 pixels and 2 knots beyond either end: 24 knots a line; pixel j is passed at knot j + 2 there
    and 21 - j back, each half a knot into it.
    """
    settings = {"knots_a_line": 24, "slow_axis": ["down"]}
    below = surface_estimate.rows_below(settings, 8)
    np.testing.assert_allclose(below, (np.arange(8) + 2.5) / 24 - 0.5)
    np.testing.assert_allclose(below, -((21.5 - np.arange(8)) / 24 - 0.5))
    y = np.broadcast_to(np.arange(20.0)[:, None], (20, 8))
    for sign in (1, -1):
        put = surface_estimate.on_rows(y + sign * below, sign * below)
        np.testing.assert_allclose(put[5:-5], y[5:-5], atol=1e-3)
    up = surface_estimate.rows_below(settings | {"slow_axis": ["up"]}, 8)
    np.testing.assert_array_equal(up, -below)


def test_lag_cancels_in_the_mean_of_both_ways():
    """What one way has too much the other has too little: the mean is the surface, levelled."""
    surface = hilly()
    lag = 0.8 * np.gradient(surface, axis=1)
    mean = surface_estimate.levelled_mean((surface + lag)[None], (surface - lag)[None], {})
    once = surface_estimate.levelled_mean(surface[None], surface[None], {})
    np.testing.assert_allclose(mean, once, atol=1e-12)
    np.testing.assert_allclose(np.ptp(mean - surface), 0.0, atol=0.1)


def test_nothing_steep_is_called_certain():
    """Half a pixel's doubt on a slope of 1 nm a pixel is 0.5 nm; some of the sphere is gentler."""
    data = observed(noise_nm=0.02)
    tip = TIP.sampled((STEP_NM, STEP_NM), 25.0)
    heights, certain = surface_estimate.surface_under(data.signal("height")[0], tip)
    assert surface_estimate.steepest_nm(heights)[certain].max() < 1.0
    assert heights[certain].max() > 19.0


def test_steepest_rise_counts_every_neighbour():
    """A single pixel 3 nm high: 3 nm a pixel beside it and itself, 3 / sqrt 2 at the corners."""
    heights = np.zeros((5, 5))
    heights[2, 2] = 3.0
    steepest = surface_estimate.steepest_nm(heights)
    assert steepest[2, 2] == steepest[2, 3] == steepest[1, 2] == 3.0
    np.testing.assert_allclose(steepest[1, 1], 3.0 / np.sqrt(2))
    assert steepest[0, 0] == 0.0


def test_algorithm_says_what_it_misses():
    data = observed()
    height = data.signal("height")
    with pytest.raises(ValueError, match="no tip"):
        surface_estimate.find(height, height, {"pixel_size_nm": 2.0})
    with pytest.raises(ValueError, match="angle_deg 0"):
        surface_estimate.find(height, height, data.settings | {"angle_deg": 30.0})
    with pytest.raises(ValueError, match="equally large"):
        surface_estimate.find(height, height[0], data.settings)


def test_figures_can_be_drawn():
    data = observed(noise_nm=0.05)
    told = TASK.answer(data.measured())
    plates = TASK.figures(data, told, TASK.grade(told, data))
    assert len(plates) == 3
    for plate in plates:
        FigureCanvasAgg(plate.figure).draw()

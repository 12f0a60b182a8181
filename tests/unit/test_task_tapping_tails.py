"""The task tapping-tails on pits and a loop followed on paper: grades, closed form, the adapter."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nanophantom.analysis import tapping_tails
from nanophantom.validation.tasks import find_task
from nanophantom.validation.tasks.tapping_tails import expected_length_nm

TASK = find_task("tapping-tails")
FREE_NM, SETPOINTS_NM = 20.0, (16.0, 19.0)
DEPTH_NM, PIXEL_NM, KI, KNOT_S = 60.0, 2.0, 2000.0, 1e-3
SHAPE = (2, 16, 340)
NOISE_NM = 0.05


def felt():
    """Return two trenches whose floors are 120 nm wide and whose walls rise over 10 nm."""
    x = np.arange(SHAPE[2])
    from_floor = np.min([np.maximum(np.abs(x - middle) - 30, 0) for middle in (90, 240)], axis=0)
    return np.tile(DEPTH_NM * np.minimum(from_floor / 5, 1), (SHAPE[1], 1))


def followed(surface, room_nm):
    """Return stage and error of an integral loop whose error can't exceed the room."""
    z, error = surface.copy(), np.zeros_like(surface)
    now, steps = surface[:, 0].copy(), 100
    for j in range(surface.shape[1]):
        sums = np.zeros((2, len(surface)))
        for _ in range(steps):
            short = np.clip(now - surface[:, j], -FREE_NM + room_nm, room_nm)
            sums += now, short
            now = now - KI * KNOT_S / steps * short
        z[:, j], error[:, j] = sums / steps
    return z, error


@functools.cache
def observed():
    """Return what a grader may ask of a dataset."""
    rng, surface = np.random.default_rng(1), felt()
    signals, frames = {}, {"felt": np.array([surface] * 2)}
    for way, flip in (("", slice(None)), ("_retrace", slice(None, None, -1))):
        pairs = [followed(surface[:, flip], FREE_NM - s) for s in SETPOINTS_NM]
        stage, error = (np.array(v)[..., flip] for v in zip(*pairs, strict=True))
        room = FREE_NM - np.array(SETPOINTS_NM)[:, None, None]
        phase = np.degrees(np.arcsin(np.clip(1 - (room - error) / FREE_NM, 0, 1)))
        frames |= {f"ideal_height{way}": stage, f"ideal_error{way}": error}
        if not way:
            frames["path_z"] = stage
        signals |= {f"height{way}": stage + NOISE_NM * rng.standard_normal(SHAPE),
                    f"error{way}": error, f"phase{way}": phase}  # fmt: skip
    speed = PIXEL_NM / KNOT_S
    tables = {
        "loop": {"setpoint_nm": np.array(SETPOINTS_NM), "integral_per_s": np.full(2, KI),
                 "speed_nm_per_s": np.full(2, speed)},
        "surface": {"image_nm": surface},
    }  # fmt: skip
    settings = {"mode": "tapping", "free_amplitude_nm": FREE_NM, "setpoint_nm": SETPOINTS_NM,
                "pixel_size_nm": PIXEL_NM, "pixel_size_y_nm": 10.0, "slow_axis": ["down"] * 2,
                "quality_factor": 400.0, "resonance_khz": 3e5, "knots_a_line": 720,
                "line_rate_hz": [1 / (720 * KNOT_S)] * 2}  # fmt: skip
    return SimpleNamespace(
        n_frames=2,
        settings=settings,
        signals=tuple(signals),
        signal=lambda name, a, b: signals[name][a:b],
        truth_tables=tuple(tables),
        truth=lambda table: tables[table],
        frame_truth=lambda name, a, b: frames[name][a:b],
    )


def answer(**changes):
    """Return the true answer, some columns changed."""
    data = observed()
    frame, row, column = (index.ravel() for index in np.indices(SHAPE))
    off = data.frame_truth("path_z", 0, 2) - data.frame_truth("felt", 0, 2)
    lengths = TASK.compare(
        {**dict.fromkeys(("tail", "height_nm", "tail_length_nm"), np.zeros(frame.size)),
         "frame": frame, "row": row, "column": column}, data
    ).true_length_nm  # fmt: skip
    return {
        "frame": frame, "row": row, "column": column,
        "tail": (np.abs(off) > 1.0).ravel().astype(float),
        "height_nm": data.frame_truth("felt", 0, 2).ravel(),
        "tail_length_nm": lengths[frame], **changes,
    }  # fmt: skip


def test_perfect_answer_has_perfect_scores():
    """True tails, heights and lengths."""
    values = TASK.grade(answer(), observed()).values()
    assert values["f1"] == values["precision"] == values["recall"] == 1
    assert values["f1.80 %"] == values["f1.95 %"] == 1
    for name in ("rmse", "tail_rmse", "step_error", "step_error.95 %", "length_error"):
        assert values[name] < 1e-9


def test_nothing_called_a_tail():
    """Recall and F1 are 0, precision isn't defined."""
    scores = TASK.grade(answer(tail=np.zeros(np.prod(SHAPE))), observed())
    assert scores["recall"].value == scores["f1"].value == 0
    assert scores["precision"].value is None


def test_recorded_heights_as_an_answer():
    """Tails of 59 nm do nothing to a depth after ISO 5436-1: it takes the middle third only.

    With 95 % the tip flies 59 nm; half down, the groove seems to begin 30 nm late, and its middle
    third with the landing.
    """
    data = observed()
    scores = TASK.grade(answer(height_nm=data.signal("height", 0, 2).ravel()), data)
    assert scores["step_error.95 %"].value < 0.1
    assert scores["step_error.80 %"].value < 0.05
    assert scores["tail_rmse"].value > 15.0
    np.testing.assert_allclose(scores["rmse"].limit, NOISE_NM / np.sqrt(2), rtol=0.05)


def test_lengths_of_tails_are_those_of_the_closed_form():
    """v (h - (A0 - Asp)) / (Ki (A0 - Asp)): 14 nm and 59 nm, counted to a pixel of 2 nm."""
    data = observed()
    comparison = TASK.compare(answer(), data)
    form = 2000.0 * np.array([56.0, 59.0]) / (2000.0 * np.array([4.0, 1.0]))
    np.testing.assert_allclose(comparison.expected_length_nm, form)
    np.testing.assert_allclose(comparison.true_length_nm, form, atol=2.0)
    none = expected_length_nm(3.0, np.array([4.0]), np.array([KI]), np.array([2000.0]))
    assert none[0] == 0.0


def test_length_error_is_relative():
    """Lengths a tenth too long."""
    given = answer()
    given["tail_length_nm"] = 1.1 * given["tail_length_nm"]
    np.testing.assert_allclose(TASK.grade(given, observed())["length_error"].value, 0.1, rtol=1e-9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tail": 0.5}, "tail to be 0 or 1"),
        ({"row": 16}, "row to be whole, from 0 to 15"),
        ({"column": 1}, "every pixel of every frame once"),
        ({"tail_length_nm": 3e4}, "one tail_length_nm a frame"),
        ({"height_nm": np.inf}, "all finite"),
    ],
)
def test_what_breaks_the_contract_is_refused(changes, message):
    """One row of the answer wrong."""
    given = {name: np.array(values, float) for name, values in answer().items()}
    for name, value in changes.items():
        given[name][0] = value
    with pytest.raises(ValueError, match=message):
        TASK.grade(given, observed())


def test_contact_mode_is_refused():
    """Without a free amplitude there is nothing to fly with."""
    data = observed()
    settings = {k: v for k, v in data.settings.items() if k != "free_amplitude_nm"}
    with pytest.raises(ValueError, match="not about contact mode"):
        TASK.grade(answer(), SimpleNamespace(**{**vars(data), "settings": settings}))


def test_the_adapter_finds_and_mends_tails():
    """F1 of .9 and more; both ways put together leave less than a fiftieth of the error."""
    data = observed()
    found = tapping_tails.correct(*(data.signal(n, 0, 2) for n in TASK.inputs), data.settings)
    scores = TASK.grade(found, data)
    assert scores["f1"].value > 0.9
    recorded = data.signal("height", 0, 2) - data.frame_truth("felt", 0, 2)
    assert scores["rmse"].value < 0.02 * np.sqrt(np.mean(recorded**2))
    assert scores["length_error"].value < 0.15
    assert scores["step_error"].value < 0.02


def test_under_a_tail_of_both_ways_the_floor_is_bridged():
    """A pit of 30 pixels, flown over for 22 from either side: straight between what was tapped."""
    surface = np.full((6, 100), 22.0)
    surface[:, 35:65] = 0.0
    ways = []
    for flip in (slice(None), slice(None, None, -1)):
        z, error = followed(surface[:, flip], 0.5)  # comes down by 1 nm a pixel
        ways.append((z[:, flip], error[:, flip]))
    heights, errors = zip(*ways, strict=True)
    flights = [error > 0.4 for error in errors]
    found = tapping_tails.combined(heights, errors, flights, 0.5, 220)
    assert (flights[0] & flights[1])[:, 45:55].all()
    assert not (flights[0] & flights[1])[:, [36, 63]].any()
    np.testing.assert_allclose(found[:, 36:64], 0.0, atol=0.6)


def test_figures_are_drawn():
    """Four plates; the one of lengths is rendered."""
    plates = TASK.figures(observed(), answer(), TASK.grade(answer(), observed()))
    assert len(plates) == 4
    FigureCanvasAgg(plates[-1].figure).draw()

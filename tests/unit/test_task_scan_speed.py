"""The task scan-speed: errors of known size, the limit, the fastest rate, and what is refused."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nanophantom.validation.scan_speed_figures import expected_nm
from nanophantom.validation.tasks import find_task
from nanophantom.validation.tasks.scan_speed import fastest_hz

TASK = find_task("scan-speed")
RATES = np.array([1.0, 2.0, 4.0])
OFF_NM = np.array([0.25, 0.5, 2.0])
SHAPE = (3, 8, 16)
NOISE_NM = 0.1


def observed():
    """Return what a grader may ask of a dataset: traces that are off by known amounts."""
    rng = np.random.default_rng(1)
    felt = rng.standard_normal(SHAPE)
    sign = np.where(np.indices(SHAPE)[2] % 2, 1.0, -1.0)
    height = felt + OFF_NM[:, None, None] * sign
    error = felt - height
    noise = NOISE_NM * rng.standard_normal((2, *SHAPE))
    frames = {"felt": felt, "ideal_height": height - noise[0], "ideal_error": error - noise[1]}
    loop = {"line_rate_hz": RATES, "integral_per_s": np.full(3, 2000.0)}
    signals = {"height": height, "error": error, "height_retrace": height, "error_retrace": error}
    return SimpleNamespace(
        n_frames=3,
        settings={"mode": "contact", "knots_a_line": 36, "pixel_size_nm": 2.0,
                  "pixel_size_y_nm": 2.0},
        signals=tuple(signals),
        signal=lambda name, a, b: signals[name][a:b],
        truth_tables=("loop",),
        truth=lambda table: loop,
        frame_truth=lambda name, a, b: frames[name][a:b],
    )  # fmt: skip


def answer(data, error_nm=0.0, lag=1.0, stated=1.0):
    frame, row, column = (index.ravel() for index in np.indices(SHAPE))
    return {
        "frame": frame, "row": row, "column": column,
        "height_nm": data.frame_truth("felt", 0, 3).ravel() + error_nm,
        "lag_s": np.full(frame.size, lag / 2000.0),
        "height_error_nm": stated * OFF_NM[frame],
    }  # fmt: skip


def test_perfect_answer_has_perfect_scores():
    """True heights, lags and errors: nothing is off; reach is the fastest of the series."""
    data = observed()
    values = TASK.grade(answer(data), data).values()
    assert values["rmse"] == values["rmse.slowest"] == values["lag_error"] == 0
    assert values["stated_error"] < 1e-12
    assert values["rate_error"] < 1e-12
    assert values["reach"] == 4.0


def test_order_of_rows_does_not_matter():
    """The same answer, shuffled."""
    data = observed()
    given = answer(data)
    order = np.random.default_rng(2).permutation(len(given["frame"]))
    shuffled = {name: values[order] for name, values in given.items()}
    assert TASK.grade(shuffled, data).values() == TASK.grade(given, data).values()


def test_errors_of_known_size():
    """0.3 nm too high is bias; lags 10 % too long; errors stated e^0.2 too large."""
    data = observed()
    scores = TASK.grade(answer(data, 0.3, 1.1, np.exp(0.2)), data)
    np.testing.assert_allclose([scores["rmse"].value, scores["rmse"].bias], 0.3, rtol=1e-9)
    np.testing.assert_allclose(scores["lag_error"].value, 0.1, rtol=1e-9)
    np.testing.assert_allclose(scores["stated_error"].value, 0.2, rtol=1e-9)


def test_fastest_rate_is_read_on_logarithmic_scales():
    """0.5 nm at 2 Hz and 2 nm at 4 Hz: 1 nm at sqrt(8) Hz. Stated twice as large: at 2 Hz."""
    np.testing.assert_allclose(fastest_hz(RATES, OFF_NM)[0], np.sqrt(8.0))
    assert fastest_hz(RATES, OFF_NM / 4) == (4.0, False)
    assert fastest_hz(RATES, OFF_NM * 8) == (None, False)
    data = observed()
    error = TASK.grade(answer(data, stated=2.0), data)["rate_error"].value
    np.testing.assert_allclose(error, 1 - 2 / np.sqrt(8.0), rtol=1e-9)


def test_limit_is_the_noise_of_height_plus_error():
    """Both carry 0.1 nm: sqrt(2) times that in the sum, over sqrt(2) for two ways: 0.1 nm."""
    data = observed()
    limit = TASK.grade(answer(data), data)["rmse"].limit
    np.testing.assert_allclose(limit, NOISE_NM, rtol=0.1)  # the median of 128 pixels


def test_expected_error_of_a_sine_is_the_closed_form():
    """sin of 8 nm, 10 whole periods, f = fc: 1/sqrt(2) of its rms, 8/2 nm (row ends: 3 %)."""
    knot_s, n = 1e-4, 1000
    f = 10 / (n * knot_s)
    rows = 8.0 * np.cos(2 * np.pi * 10 * (np.arange(n) + 0.5) / n)[None]
    np.testing.assert_allclose(expected_nm(rows, knot_s, 2 * np.pi * f), 4.0, rtol=1e-6)
    np.testing.assert_allclose(
        expected_nm(rows, knot_s, 6 * np.pi * f), 8 / np.sqrt(2) / np.sqrt(10), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frame": 3}, "frame to be whole, from 0 to 2"),
        ({"row": 0.5}, "row to be whole"),
        ({"column": 1}, "every pixel of every frame once; 1 are missing and 1"),
        ({"lag_s": 1.0}, "one lag_s a frame"),
        ({"height_nm": np.nan}, "all finite"),
    ],
)
def test_what_breaks_the_contract_is_refused(changes, message):
    """One row of the answer outside, between pixels, doubled, of two minds, NaN."""
    data = observed()
    given = {name: np.array(values, float) for name, values in answer(data).items()}
    for name, value in changes.items():
        given[name][0] = value
    with pytest.raises(ValueError, match=message):
        TASK.grade(given, data)


def test_negative_error_and_missing_pixels_are_refused():
    """A stated error below zero; half of the rows; no rows at all."""
    data = observed()
    with pytest.raises(ValueError, match="height_error_nm of 0 or more"):
        TASK.grade(answer(data, stated=-1.0), data)
    for n in (0, 200):
        with pytest.raises(ValueError, match="are missing"):
            TASK.grade({name: values[:n] for name, values in answer(data).items()}, data)


def test_figures_are_drawn():
    """Four plates for a made-up series."""
    data = observed()
    given = answer(data, 0.05)
    plates = TASK.figures(data, given, TASK.grade(given, data))
    assert len(plates) == 4
    for plate in plates:
        FigureCanvasAgg(plate.figure).draw()

"""The task movie-events and its analysis: what counts, what is refused, what is found."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nanophantom.analysis.surface_events import find, times_of_hops
from nanophantom.validation.tasks import find_task
from nanophantom.validation.tasks.movie_events import spot_clarity
from nanophantom.validation.true_events import true_events

FloatArray = npt.NDArray[np.float64]
TASK: Any = find_task("movie-events")
PIXEL_NM = 0.02
SIZE = 150
FRAMES = 30
EXPOSURE_S = 0.5
DRIFT_NM = np.array([0.012, -0.008])
WIDTH_NM = 0.04
GROUND, HEIGHT = 0.6, 1.2  # counts per pixel and frame

FIXED = np.array([(x, y) for x in np.arange(0.6, 2.5, 0.3) for y in np.arange(1.2, 2.5, 0.3)])
START, NEXT, LAST = np.array([[0.9, 0.9], [1.2, 0.9], [1.5, 0.9]])
ATOMS = 4
"""Of a column that hops; they are the first of the table."""


def atoms_table() -> dict[str, FloatArray]:
    places = np.concatenate([np.repeat(START[None], ATOMS, 0), np.repeat(FIXED, 10, 0)])
    return {"x_nm": places[:, 0], "y_nm": places[:, 1], "z_nm": np.zeros(len(places)),
            "number": np.full(len(places), 79)}  # fmt: skip


def events_table(moves: list[tuple[float, FloatArray, FloatArray]]) -> dict[str, Any]:
    """Return the log in which the column goes from place to place at some times."""
    rows = [(t, atom, *a, *b) for t, a, b in moves for atom in range(ATOMS)]
    table = np.array(rows, np.float64).reshape(-1, 6)
    return {
        "t_s": table[:, 0],
        "atom": table[:, 1].astype(int),
        "lost": np.isnan(table[:, 4]),
        **dict(zip(("from_x_nm", "from_y_nm", "to_x_nm", "to_y_nm"), table[:, 2:].T, strict=True)),
    }


MOVES = [(4.3, START, NEXT), (10.1, NEXT, LAST)]
GONE = np.array([np.nan, np.nan])


def picture(column: FloatArray) -> FloatArray:
    """Return the expected counts of a frame in which the column is at a place, without drift."""
    grid = np.arange(SIZE) * PIXEL_NM
    image = np.full((SIZE, SIZE), GROUND)
    column = np.where(np.isfinite(column), column, -9.0)  # gone: far out of view
    for (x, y), height in [*((p, HEIGHT) for p in FIXED), (column, HEIGHT)]:
        bell_x = np.exp(-(((grid - x) / WIDTH_NM) ** 2) / 2)
        bell_y = np.exp(-(((grid - y) / WIDTH_NM) ** 2) / 2)
        image += height * np.outer(bell_y, bell_x)
    return image


def seen(column: FloatArray) -> FloatArray:
    """Return the expected counts of a frame: all is moved by the drift."""
    grid = np.fft.rfftfreq(SIZE, PIXEL_NM), np.fft.fftfreq(SIZE, PIXEL_NM)
    wave = np.exp(-2j * np.pi * (grid[0] * DRIFT_NM[0] + grid[1][:, None] * DRIFT_NM[1]))
    moved = np.fft.irfft2(np.fft.rfft2(picture(column)) * wave, s=(SIZE, SIZE))
    return np.maximum(moved, 0.0)


def movie(moves: list[tuple[float, FloatArray, FloatArray]], seed: int) -> npt.NDArray[np.uint16]:
    """Return counted frames; the column stands where it is for each part of an exposure."""
    rng = np.random.default_rng(seed)
    frames = []
    for i in range(FRAMES):
        begin, end = i * EXPOSURE_S, (i + 1) * EXPOSURE_S
        edges = [begin, *(t for t, _, _ in moves if begin < t < end), end]
        places = [START, *(b for _, _, b in moves)]
        expected = sum(
            (b - a) / EXPOSURE_S * seen(places[sum(t <= a for t, _, _ in moves)])
            for a, b in pairwise(edges)
        )
        frames.append(rng.poisson(expected))
    return np.array(frames, np.uint16)


def observed(moves: list[tuple[float, FloatArray, FloatArray]], seed: int = 1) -> Any:
    """Return what a grader may ask of a dataset."""
    # most graders ask for the shape alone
    images = cache(lambda: movie(moves, seed))
    columns = np.concatenate([START[None], FIXED])
    tables = {
        "atoms": atoms_table(),
        "events": events_table(moves),
        "drift": {"dx_nm": np.full(FRAMES, DRIFT_NM[0]), "dy_nm": np.full(FRAMES, DRIFT_NM[1])},
        "dose": {},
        "columns": {"x_nm": columns[:, 0], "y_nm": columns[:, 1]},
        "noise_free": {"image": picture(START)},
    }
    return SimpleNamespace(
        n_frames=FRAMES,
        settings={"pixel_size_nm": PIXEL_NM, "exposure_s": EXPOSURE_S, "contrast": "bright",
                  "frame_period_s": EXPOSURE_S},
        signals=("image",),
        signal=lambda name, a=0, b=None: (
            np.zeros((1, SIZE, SIZE), np.uint16) if b == 1 else images()[a:b]
        ),
        truth_tables=tuple(tables),
        truth=lambda table: tables[table],
    )  # fmt: skip


def perfect(moves: list[tuple[float, FloatArray, FloatArray]]) -> dict[str, FloatArray]:
    rows = [(*p, t, k) for t, a, b in moves for p, k in ((a, -1), (b, 1)) if np.isfinite(p[0])]
    x, y, t, kind = np.array(rows, np.float64).reshape(-1, 4).T
    return {"x_nm": x + DRIFT_NM[0], "y_nm": y + DRIFT_NM[1], "t_s": t, "kind": kind,
            "sigma_t_s": np.full(len(t), 0.1)}  # fmt: skip


def test_perfect_answers_have_perfect_scores() -> None:
    """Two hops are four events; found at their places in frame 0 and times all is right."""
    scores = TASK.grade(perfect(MOVES), observed(MOVES))
    values = scores.values()
    assert (values["recall"], values["precision"], values["f1"], values["false"]) == (1, 1, 1, 0)
    assert values["time_error"] == pytest.approx(0, abs=1e-12)
    assert scores["recall"].n == 4


def test_an_atom_that_leaves_for_good_is_one_event() -> None:
    moves = [(4.3, START, GONE)]
    assert TASK.grade(perfect(moves), observed(moves))["recall"].n == 1


@pytest.mark.parametrize(
    ("change", "name"), [("t_s", "late"), ("x_nm", "aside"), ("kind", "turned round")]
)
def test_a_wrong_time_place_or_kind_is_missed_and_false(change: str, name: str) -> None:
    """Off by a frame and a bit, by 0.11 nm, or of the other kind: no hit, all false."""
    answer = perfect(MOVES)
    shift = {"t_s": answer["t_s"] + 1.05 * EXPOSURE_S, "x_nm": answer["x_nm"] + 0.11,
             "kind": -answer["kind"]}  # fmt: skip
    scores = TASK.grade(answer | {change: shift[change]}, observed(MOVES))
    assert scores["recall"].value == 0, name
    assert scores["false"].value == 4
    assert scores["time_error"].value is None


def test_times_are_graded_with_bias_spread_and_coverage() -> None:
    """All late by 0.1 s with sigma 0.06 s: within 1.96 sigma; with 0.05 s: not."""
    answer = perfect(MOVES)
    answer["t_s"] = answer["t_s"] + 0.1
    for sigma, coverage in ((0.06, 1.0), (0.05, 0.0)):
        answer["sigma_t_s"] = np.full(4, sigma)
        error = TASK.grade(answer, observed(MOVES))["time_error"]
        assert error.value == pytest.approx(0.1)
        assert error.bias == pytest.approx(0.1)
        assert error.coverage == coverage


def test_a_stay_shorter_than_a_frame_counts_neither_for_nor_against() -> None:
    """Three hops, the site between visited for 0.3 s: only the first and last ends are asked."""
    moves = [(4.3, START, NEXT), (4.6, NEXT, LAST), (10.1, LAST, START)]
    everything = perfect(moves)
    few = {k: v[[0, 3, 4, 5]] for k, v in everything.items()}
    for answer in (everything, few):
        scores = TASK.grade(answer, observed(moves))
        assert scores["recall"].n == 4
        assert (scores["recall"].value, scores["precision"].value) == (1, 1)


def test_an_arrival_on_top_of_a_longer_column_is_not_asked_for() -> None:
    """Four atoms join ten: less than half of the site, so that it only looks a little heavier."""
    moves = [(4.3, START, FIXED[8])]
    true = true_events(atoms_table(), events_table(moves), FRAMES * EXPOSURE_S)
    assert true.kind.tolist() == [-1, 1]
    assert true.changes.tolist() == [True, False]
    assert TASK.grade(perfect(moves), observed(moves))["recall"].n == 1


def test_the_log_is_gathered_into_events_of_sites() -> None:
    """Times, places, numbers of atoms, stays and beginnings of two hops."""
    true = true_events(atoms_table(), events_table(MOVES), FRAMES * EXPOSURE_S)
    np.testing.assert_allclose(true.t_s, [4.3, 4.3, 10.1, 10.1])
    np.testing.assert_allclose(true.at_nm, [START, NEXT, NEXT, LAST])
    np.testing.assert_allclose(true.began_nm, [START] * 4)
    np.testing.assert_allclose(true.stay_s, [4.3, 4.3, 4.9, 4.9])
    assert true.kind.tolist() == [-1, 1, -1, 1]
    assert true.n_atoms.tolist() == [ATOMS] * 4
    assert true.unit.tolist() == [0, 0, 1, 1]


def test_no_answer_and_no_event_are_graded() -> None:
    nothing = {name: np.zeros(0) for name in ("x_nm", "y_nm", "t_s", "kind")}
    scores = TASK.grade(nothing, observed(MOVES))
    assert scores["recall"].value == 0
    assert scores["precision"].value is None
    assert TASK.grade(nothing, observed([]))["recall"].value is None
    assert TASK.figures(observed([]), nothing, scores) == []


def test_answers_that_break_the_contract_are_refused_in_one_line() -> None:
    good = perfect(MOVES)
    for bad, told in (
        ({"kind": np.array([1.0, -1.0, 0.0, 1.0])}, "kind"),
        ({"t_s": np.array([1.0, np.nan, 2.0, 3.0])}, "finite"),
        ({"sigma_t_s": np.zeros(4)}, "sigma_t_s above zero"),
        ({"x_nm": np.zeros(3)}, "shape"),
    ):
        with pytest.raises(ValueError, match=told) as problem:
            TASK.grade(good | bad, observed(MOVES))
        assert "\n" not in str(problem.value)


def test_clarity_is_that_of_the_matched_filter() -> None:
    """A faint Gaussian of height h on a ground b: d'^2 = pi h^2 sigma^2 / (b pixel^2)."""
    grid = np.arange(SIZE) * PIXEL_NM
    bell = np.exp(-(((grid - 1.5) / WIDTH_NM) ** 2) / 2)
    ground, height = 5.0, 0.05
    image = ground + height * np.outer(bell, bell)
    expected = np.sqrt(np.pi * height**2 * WIDTH_NM**2 / (ground * PIXEL_NM**2))
    clarity = spot_clarity(image, np.array([1.5, 1.5]) / PIXEL_NM, PIXEL_NM)
    assert clarity == pytest.approx(expected, rel=0.01)
    assert spot_clarity(image, np.array([2.0, 75.0]), PIXEL_NM) == 0  # the radius leaves the view


def test_the_limit_of_a_time_is_the_exposure_over_the_clarity() -> None:
    image = picture(START)
    clarity = spot_clarity(image, START / PIXEL_NM, PIXEL_NM)
    limit = TASK.grade(perfect(MOVES), observed(MOVES))["time_error"].limit
    assert limit == pytest.approx(EXPOSURE_S * min(1 / clarity, 1 / np.sqrt(12)), rel=1e-6)


def test_the_analysis_finds_two_hops_and_their_times() -> None:
    """Three movies: 11 of 12 events at least, one false at most, times within twice the limit."""
    hits, false, errors, limit = 0, 0, [], 0.0
    for seed in range(3):
        data = observed(MOVES, seed)
        comparison = TASK.compare(find(data.signal("image"), data.settings), data)
        hits += len(comparison.hit_found)
        false += len(comparison.false)
        errors += comparison.error_s.tolist()
        limit = float(comparison.limit_s[0])
    assert hits >= 11
    assert false <= 1
    assert np.sqrt(np.mean(np.square(errors))) < 2 * limit


def test_a_still_movie_has_no_events() -> None:
    """The column never moves; 0.1 false events a movie are accepted."""
    assert not len(find(movie([], 5), observed([]).settings)["t_s"])


def test_the_two_events_of_a_hop_share_a_time() -> None:
    """The mean weighted with inverse variances, and its smaller uncertainty."""
    events = {
        "site": np.array([0, 1]),
        "kind": np.array(["vanishes", "appears"]),
        "time_s": np.array([1.0, 1.3]),
        "sigma_time_s": np.array([0.1, 0.2]),
    }
    sites = np.array([[0.0, 0.0], [0.0, 10.0], [50.0, 50.0]])
    time, sigma = times_of_hops(events, sites, 20.0, 1.0)
    np.testing.assert_allclose(time, 1.06)
    np.testing.assert_allclose(sigma, 1 / np.sqrt(125))
    time, _ = times_of_hops(events, sites, 5.0, 1.0)  # too far apart for a hop
    np.testing.assert_allclose(time, [1.0, 1.3])


def test_the_analysis_refuses_what_it_cannot_use() -> None:
    images, settings = movie(MOVES, 1), observed(MOVES).settings
    for bad, told in (
        ({"pixel_size_nm": None}, "pixel_size_nm"),
        ({"exposure_s": -1.0}, "exposure_s must be a positive"),
    ):
        with pytest.raises(ValueError, match=told):
            find(images, settings | bad)
    with pytest.raises(ValueError, match="two frames"):
        find(images[0], settings)


def test_figures_are_drawn() -> None:
    """With hits, misses and false answers; every figure renders and says what it shows."""
    data, answer = observed(MOVES), perfect(MOVES)
    answer["t_s"][3] += 3.0
    plates = TASK.figures(data, answer, TASK.grade(answer, data))
    assert [plate.title for plate in plates] == [
        "Where atoms hopped", "Signals of the sites that change", "Events, true and found",
    ]  # fmt: skip
    for plate in plates:
        FigureCanvasAgg(plate.figure).draw()
        assert plate.caption.endswith(".")

"""The task atomic-columns: what counts, what doesn't, and what is refused."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nanophantom.validation import column_figures
from nanophantom.validation.folder import check_tasks
from nanophantom.validation.task import Scores
from nanophantom.validation.tasks import find_task, task_names

PIXEL_NM = 0.02
SIZE = 200  # 4 nm
DRIFT_NM = np.array([0.013, -0.021])
TASK = find_task("atomic-columns")


def lattice(strain=0.0, spacing_nm=0.25):
    """Columns of a square lattice that fills the view, strained along x about its middle."""
    axis = np.arange(-1, 18) * spacing_nm
    x, y = (g.ravel() for g in np.meshgrid(axis, axis))
    return np.column_stack([2 + (x - 2) * (1 + strain), y])


def observed(columns_nm, n_frames=4, **changes):
    """Return what a grader may ask of a dataset: gold columns on a flat background."""
    n = len(columns_nm)
    grid = np.arange(SIZE) * PIXEL_NM
    bells = [np.exp(-(((grid - c[:, np.newaxis]) / 0.05) ** 2) / 2) for c in columns_nm.T]
    image = (20 + 15 * np.einsum("ny,nx->yx", bells[1], bells[0])).astype(np.float32)
    columns = {
        "x_nm": columns_nm[:, 0],
        "y_nm": columns_nm[:, 1],
        "n_atoms": np.full(n, 10),
        "number": np.full(n, 79),
        "weight": np.full(n, 790),
        "extent_nm": np.zeros(n),
        "group": np.zeros(n, int),
    }
    tables = {
        "columns": columns | changes,
        "drift": {"dx_nm": DRIFT_NM[:1], "dy_nm": DRIFT_NM[1:]},
        "noise_free": {"image": image},
        "groups": {"name": np.array(["particle", "support"])},
    }
    return SimpleNamespace(
        n_frames=n_frames,
        settings={"pixel_size_nm": PIXEL_NM},
        signals=("image",),
        signal=lambda name, a=0, b=None: np.zeros((n_frames, SIZE, SIZE), np.uint16)[a:b],
        truth_tables=tuple(tables),
        truth=lambda table: tables[table],
    )


def answer(points_nm, **more):
    return {"x_nm": points_nm[:, 0], "y_nm": points_nm[:, 1], **more}


def at(row, column):
    """Index of a lattice column; rows and columns 2 to 16 are asked for (0.2 nm inside)."""
    return 19 * row + column


N_TARGETS = 15 * 15


def test_perfect_answer_has_perfect_scores():
    """Every column at its place in frame 0 (drift added): recall = precision = 1, error 0."""
    columns = lattice()
    scores = TASK.grade(answer(columns + DRIFT_NM), observed(columns))
    values = scores.values()
    assert (values["recall"], values["precision"], values["f1"]) == (1, 1, 1)
    assert values["rmse"] < 1e-9
    assert scores["recall"].n == N_TARGETS


def test_positions_are_those_of_frame_0():
    """An answer that leaves the drift of frame 0 out is off by just that drift."""
    columns = lattice()
    scores = TASK.grade(answer(columns), observed(columns))
    np.testing.assert_allclose(scores["bias"].value, 1000 * np.hypot(*DRIFT_NM), rtol=1e-9)


def test_reference_lattice_fails_on_a_strained_crystal():
    """An algorithm that knows the unstrained lattice by heart doesn't find a strained one."""
    reference, strained = lattice(), lattice(strain=0.08)
    by_heart = answer(reference + DRIFT_NM)
    assert TASK.grade(by_heart, observed(reference))["recall"].value == 1
    scores = TASK.grade(by_heart, observed(strained))
    # 8 % moves a column by more than 0.05 nm beyond 0.6 nm from the middle of 4 nm; farther out
    # the neighbour's place comes near again.
    assert scores["recall"].value < 0.5
    assert scores["precision"].value < 0.5


def test_common_shift_is_bias_not_spread():
    """All finds moved by 0.02 nm: bias 20 pm, spread 0, rmse 20 pm."""
    columns = lattice()
    shifted = columns + DRIFT_NM + [0.012, -0.016]
    scores = TASK.grade(answer(shifted), observed(columns))
    np.testing.assert_allclose(scores["bias"].value, 20, rtol=1e-9)
    np.testing.assert_allclose(scores["rmse"].value, 20, rtol=1e-9)
    assert scores["spread"].value < 1e-9
    assert "+12.00 pm (right) and −16.00 pm (down)" in scores["bias"].hint


def test_error_splits_into_bias_and_spread():
    """rmse^2 = bias^2 + spread^2, and scatter of 5 pm an axis gives a spread of 5 sqrt(2) pm."""
    columns = lattice()
    rng = np.random.default_rng(2)
    noisy = columns + DRIFT_NM + [0.003, 0.0] + rng.normal(0, 0.005, columns.shape)
    rmse = TASK.grade(answer(noisy), observed(columns))["rmse"]
    np.testing.assert_allclose(rmse.value**2, rmse.bias**2 + rmse.spread**2, rtol=1e-9)
    # 225 columns: the scatter of 450 numbers is known to 3.3 %
    np.testing.assert_allclose(rmse.spread, 5 * np.sqrt(2), rtol=0.12)


def test_limit_stands_beside_the_error_and_falls_with_the_root_of_the_frames():
    """The Cramér-Rao bound counts the electrons of all frames."""
    columns = lattice()
    one, nine = (
        TASK.grade(answer(columns + DRIFT_NM), observed(columns, n))["rmse"].limit for n in (1, 9)
    )
    assert one > 0
    np.testing.assert_allclose(one / nine, 3, rtol=1e-9)


def test_coverage_tells_honest_from_boastful_uncertainties():
    """Scatter as quoted: 95 % of the coordinates lie within 1.96 sigma; a third of it: half."""
    columns = lattice()
    rng = np.random.default_rng(5)
    noisy = columns + DRIFT_NM + rng.normal(0, 0.006, columns.shape)
    data = observed(columns)
    honest, boast = (
        TASK.grade(answer(noisy, sigma_nm=np.full(len(noisy), s)), data)["coverage"]
        for s in (0.006, 0.002)
    )
    assert honest.n == 2 * N_TARGETS
    assert abs(honest.value - 0.95) < 0.03  # three times sqrt(0.95 * 0.05 / 450)
    assert abs(boast.value - 0.486) < 0.075  # erf(1.96 / 3 / sqrt(2)) = 0.486
    assert "coverage" not in TASK.grade(answer(noisy), data).values()


@pytest.mark.parametrize(
    ("column", "value"), [("number", 22), ("n_atoms", 1), ("extent_nm", 0.051)]
)
def test_columns_that_nobody_asked_for_count_neither_way(column, value):
    """Light, single or smeared-out columns: found or not, the scores are the same."""
    columns = lattice()
    inside = np.flatnonzero((np.abs(columns - 2) < 1).all(axis=1))
    values = {"number": 79, "n_atoms": 10, "extent_nm": 0.0}
    changed = np.full(len(columns), values[column], float)
    changed[inside[::3]] = value
    data = observed(columns, **{column: changed})
    with_them = TASK.grade(answer(columns + DRIFT_NM), data)
    without = TASK.grade(answer(np.delete(columns, inside[::3], axis=0) + DRIFT_NM), data)
    assert with_them.values() == without.values()
    assert with_them["recall"].value == with_them["precision"].value == 1
    assert with_them["recall"].n == N_TARGETS - len(inside[::3])


def test_half_of_the_heaviest_atomic_number_is_heavy_enough():
    """Z = 40 beside Z = 79 is asked for, Z = 39 is not; what is out of view doesn't decide."""
    columns = lattice()
    number = np.full(len(columns), 79)
    number[[at(5, 5), at(5, 6)]] = 40, 39
    number[0] = 92  # at (-0.25, -0.25) nm, outside
    assert (
        TASK.grade(answer(columns), observed(columns, number=number))["recall"].n == N_TARGETS - 1
    )


def test_second_find_of_a_column_is_false():
    """Two finds at each of three places: one is a hit (or excused), the other false."""
    columns = lattice()
    number = np.full(len(columns), 79)
    number[at(4, 4)] = 8
    twice = columns[[at(4, 4), at(6, 6), at(6, 7)]] + [0.01, 0.0]
    scores = TASK.grade(
        answer(np.concatenate([columns, twice]) + DRIFT_NM), observed(columns, number=number)
    )
    assert scores["precision"].n == N_TARGETS - 1 + 3
    assert scores["precision"].value == (N_TARGETS - 1) / (N_TARGETS + 2)


def test_border_is_nobodys_ground():
    """Finds outside the inner rectangle are ignored; one that hits a target just inside counts."""
    columns = lattice()
    edge_nm = (SIZE - 0.5) * PIXEL_NM
    rubbish = np.array([[0.05, 1.111], [edge_nm - 0.1, 2.4], [-3.0, 9.0], [1.0, 0.07]])
    perfect = TASK.grade(answer(columns + DRIFT_NM), observed(columns))
    littered = answer(np.concatenate([columns + DRIFT_NM, rubbish]))
    assert TASK.grade(littered, observed(columns)).values() == perfect.values()
    # A target at x = 0.195 nm (the rectangle starts at 0.19), found at 0.175.
    at = np.array([[0.195, 2.0]])
    there = np.concatenate([columns[columns[:, 0] > 0.3], at - DRIFT_NM])
    found = np.concatenate([columns[columns[:, 0] > 0.3] + DRIFT_NM, at - [0.02, 0.0]])
    scores = TASK.grade(answer(found), observed(there))
    assert scores["recall"].value == 1
    assert scores["precision"].n == scores["recall"].n


def test_false_finds_lower_precision_only():
    """Ten finds between the columns: precision 225 / 235."""
    columns = lattice()
    between = columns[at(8, 3) : at(8, 13)] + 0.125
    scores = TASK.grade(
        answer(np.concatenate([columns, between]) + DRIFT_NM), observed(columns)
    ).values()
    assert (scores["recall"], scores["precision"]) == (1, 225 / 235)


def test_parts_of_the_specimen_are_scored_apart():
    """All of the particle is found, 5 of the support's columns are missed, one find is false."""
    columns = lattice()
    group = (columns[:, 1] > 2).astype(int)
    missed = np.flatnonzero((group == 1) & (np.abs(columns - 2.5) < 1).all(axis=1))[:5]
    found = np.concatenate([np.delete(columns, missed, axis=0), columns[missed[:1]] + 0.125])
    scores = TASK.grade(answer(found + DRIFT_NM), observed(columns, group=group))
    parts = [scores[f"recall.{part}"] for part in ("particle", "support")]
    assert parts[0].value == 1
    assert parts[1].value == 1 - 5 / parts[1].n
    assert sum(part.n for part in parts) == scores["recall"].n == N_TARGETS
    assert scores["precision.particle"].value == 1
    assert scores["precision.support"].value < 1
    assert scores["rmse.particle"].limit > 0


def test_nothing_found_is_recall_zero_not_a_crash():
    """Empty columns: recall 0, f1 0, precision and error undefined, and said so."""
    empty = np.zeros((0, 2))
    scores = TASK.grade(answer(empty, sigma_nm=np.zeros(0)), observed(lattice()))
    values = scores.values()
    assert (values["recall"], values["f1"]) == (0, 0)
    assert values["precision"] is None
    assert values["rmse"] is None
    assert any("No target was hit" in note for note in scores.notes)


@pytest.mark.parametrize("columns", [lattice(), np.zeros((0, 2))])
def test_view_without_target_columns_says_so(columns):
    """Off a zone axis nothing lines up: no score is defined, and a note tells why."""
    data = observed(columns, extent_nm=np.full(len(columns), 0.2))
    scores = TASK.grade(answer(lattice()), data)
    assert set(scores.values().values()) == {None}
    assert "no target columns" in scores.notes[0]


def averaged_over(n_configurations, **changes):
    """A dataset whose images average thermal configurations, and its columns."""
    columns = lattice()
    data = observed(columns, 1, **changes)
    budget = {"configuration": np.arange(n_configurations)}
    tables = {name: data.truth(name) for name in data.truth_tables} | {"intensity": budget}
    data.truth, data.truth_tables = tables.__getitem__, tuple(tables)
    return data, columns


def test_what_few_thermal_configurations_add_to_the_error_is_said():
    """B = 0.8 pi^2 A^2 is <u^2> = 0.1 A^2 an axis: 10 atoms, 8 configurations leave 5 pm."""
    b_factor = np.full(len(lattice()), 0.8 * np.pi**2)
    data, columns = averaged_over(8, b_factor_A2=b_factor)
    estimates = answer(columns + DRIFT_NM)
    compared = TASK.compare(estimates, data)
    np.testing.assert_allclose(compared.off_rest_nm, np.sqrt(2 * 0.1 / 80) / 10, rtol=1e-12)
    scores = TASK.grade(estimates, data)
    (note,) = (note for note in scores.notes if "thermal" in note)
    assert "average 8 thermal configurations, which leaves the columns 5 pm (rms)" in note
    histogram = next(
        p for p in TASK.figures(data, estimates, scores) if p.title == "Errors of position"
    )
    assert note in histogram.caption


def test_configurations_that_differ_scatter_the_columns_by_what_is_said():
    """Means of displacements drawn for 10 atoms in 8 configurations: the note's rms."""
    b_factor = np.full(len(lattice()), 0.6)
    data, columns = averaged_over(8, b_factor_A2=b_factor)
    sigma_nm = np.sqrt(0.6 / (8 * np.pi**2)) / 10
    moved = np.random.default_rng(1).normal(0, sigma_nm, (8, 10, *columns.shape)).mean((0, 1))
    compared = TASK.compare(answer(columns + moved + DRIFT_NM), data)
    rms_nm = np.sqrt(np.mean(np.sum(compared.error_nm**2, axis=1)))
    np.testing.assert_allclose(rms_nm, compared.off_rest_nm, rtol=0.1)  # 3 sigma of 450 numbers


@pytest.mark.parametrize(("n", "changes"), [(1, {"b_factor_A2": np.ones(361)}), (8, {})])
def test_without_known_thermal_motion_nothing_is_said_of_it(n, changes):
    """A single configuration (perhaps at rest), or columns without B factors."""
    data, columns = averaged_over(n, **changes)
    assert "thermal" not in " ".join(TASK.grade(answer(columns + DRIFT_NM), data).notes)


@pytest.mark.parametrize("shape", [(80, 300), (60, 600), (200, 200), (300, 80)])
def test_the_scale_of_the_map_of_errors_is_inside_the_figure(shape):
    """Few columns make a long arrow; its label stays inside, and off the legend."""
    ny, nx = shape
    size_nm = np.array([nx, ny]) * PIXEL_NM
    for spacing_nm in (0.25, 0.6):
        x, y = (
            g.ravel() for g in np.meshgrid(*(np.arange(0.3, s - 0.2, spacing_nm) for s in size_nm))
        )
        there_nm = np.column_stack([x, y])
        error_nm = np.random.default_rng(0).normal(0, 0.0123, there_nm.shape)
        hits = SimpleNamespace(error_nm=error_nm, there_nm=there_nm,
                               hit_column=np.arange(len(x)), missed=[0])  # fmt: skip
        data = SimpleNamespace(settings={"pixel_size_nm": PIXEL_NM}, signals=("image",),
                               signal=lambda *_: np.zeros((1, *shape)))  # fmt: skip
        figure = column_figures._error_map(data, hits).figure
        FigureCanvasAgg(figure).draw()
        (label,) = figure.axes[0].texts
        box, page = label.get_window_extent(), figure.bbox
        assert page.x0 <= box.x0 < box.x1 <= page.x1
        assert page.y0 <= box.y0 < box.y1 <= page.y1
        legend = figure.axes[0].get_legend().get_texts()[0].get_window_extent()
        assert not box.overlaps(legend)


def test_without_shot_noise_there_is_no_limit():
    """Expectations instead of counts are limited by nothing."""
    columns = lattice()
    data = observed(columns)
    data.signal = lambda name, a=0, b=None: np.zeros((1, SIZE, SIZE), np.float32)
    assert TASK.grade(answer(columns + DRIFT_NM), data)["rmse"].limit is None


@pytest.mark.parametrize(
    ("estimates", "reason"),
    [
        ([1.0, 2.0], "got a list"),
        ({}, "x_nm, y_nm is missing, got nothing"),
        ({"x_nm": [1.0], "z_nm": [1.0]}, "y_nm is missing, got x_nm, z_nm"),
        ({"x_nm": [1.0, 2.0], "y_nm": [1.0]}, r"y_nm has the shape \(1,\), not \(2,\)"),
        ({"x_nm": [[1.0]], "y_nm": [[1.0]]}, r"x_nm has the shape \(1, 1\)"),
        ({"x_nm": 1.0, "y_nm": 1.0}, r"x_nm has the shape \(\)"),
        ({"x_nm": [1.0, np.nan], "y_nm": [1.0, 1.0]}, r"x_nm\[1\] is nan"),
        ({"x_nm": [1.0], "y_nm": [-np.inf]}, r"y_nm\[0\] is -inf"),
        ({"x_nm": ["a"], "y_nm": ["b"]}, "x_nm doesn't hold real numbers"),
        ({"x_nm": [1j], "y_nm": [1.0]}, "x_nm doesn't hold real numbers"),
        ({"x_nm": [1.0], "y_nm": [1.0], "sigma_nm": [0.0]}, "sigma_nm above zero, got 0"),
        ({"x_nm": [1.0], "y_nm": [1.0], "sigma_nm": [0.1, 0.2]}, "sigma_nm has the shape"),
    ],
)
def test_answers_that_break_the_contract_are_refused_in_one_line(estimates, reason):
    """The line names the task, what it wants and what is wrong."""
    with pytest.raises(ValueError, match=f"task atomic-columns wants .*{reason}") as refusal:
        TASK.grade(estimates, observed(lattice()))
    assert "\n" not in str(refusal.value)


def test_missing_truth_is_named():
    """A dataset of another kind can't be graded, and the missing table is named."""
    data = observed(lattice())
    data.truth_tables = ("drift",)
    with pytest.raises(ValueError, match="can't grade this dataset: no truth columns, noise_free"):
        TASK.grade(answer(lattice()), data)


def test_tasks_are_found_by_name():
    """The list holds the task, and a slip of the pen is answered with the right name."""
    assert "atomic-columns" in task_names()
    with pytest.raises(ValueError, match="did you mean 'atomic-columns'"):
        find_task("atomic-colums")


def test_scores_survive_json():
    """as_json gives plain types that from_json reads back to the same scores."""
    import json

    columns = lattice()
    scores = TASK.grade(answer(columns), observed(columns, group=(columns[:, 0] > 2).astype(int)))
    assert Scores.from_json(json.loads(json.dumps(scores.as_json()))) == scores


def log_of_hops(start, goal, n_atoms=10, t_s=0.5):
    """Return the truth table of events: a column's atoms hop (a goal of NaN: they leave)."""
    return {
        "t_s": np.full(n_atoms, t_s),
        "atom": np.arange(n_atoms),
        "lost": np.full(n_atoms, np.isnan(goal[0])),
        "from_x_nm": np.full(n_atoms, start[0]),
        "from_y_nm": np.full(n_atoms, start[1]),
        "to_x_nm": np.full(n_atoms, goal[0]),
        "to_y_nm": np.full(n_atoms, goal[1]),
    }


def with_events(dataset, events):
    """Add a log of events to the truth that `observed` made."""
    before = dataset.truth
    dataset.truth = lambda table: events if table == "events" else before(table)
    dataset.truth_tables = (*dataset.truth_tables, "events")
    return dataset


def test_columns_that_are_there_a_part_of_the_time_are_neither_targets_nor_mistakes():
    """A column hops to a free site: found at either, at both or at none, all stays perfect."""
    columns = lattice()
    goal = columns[at(8, 8)] + [0.125, 0.125]
    events = log_of_hops(columns[at(8, 8)], goal)
    steady = np.delete(columns, at(8, 8), axis=0)
    for found in (columns, steady, np.vstack([steady, goal]), np.vstack([columns, goal])):
        scores = TASK.grade(answer(found + DRIFT_NM), with_events(observed(columns), events))
        assert scores["recall"].n == N_TARGETS - 1
        assert (scores["recall"].value, scores["precision"].value) == (1, 1)
    # without the log the same answers are a miss and a false find
    moved = np.vstack([steady, goal])
    scores = TASK.grade(answer(moved + DRIFT_NM), observed(columns))
    assert scores["recall"].value == (N_TARGETS - 1) / N_TARGETS
    assert scores["precision"].value == (N_TARGETS - 1) / N_TARGETS


@pytest.mark.parametrize(("left", "asked"), [(4, True), (5, False), (10, False)])
def test_a_column_that_keeps_more_than_half_of_its_atoms_is_asked_for(left, asked):
    """Of ten atoms four are lost: still a target; five: no more."""
    columns = lattice()
    events = log_of_hops(columns[at(8, 8)], (np.nan, np.nan), n_atoms=left)
    scores = TASK.grade(answer(columns + DRIFT_NM), with_events(observed(columns), events))
    assert scores["recall"].n == N_TARGETS - (not asked)
    assert (scores["recall"].value, scores["precision"].value) == (1, 1)


def test_a_log_without_events_changes_nothing():
    columns = lattice()
    empty = log_of_hops((0.0, 0.0), (0.0, 0.0), n_atoms=0)
    scores = TASK.grade(answer(columns + DRIFT_NM), with_events(observed(columns), empty))
    assert scores["recall"].n == N_TARGETS


def test_a_task_without_its_truth_is_refused_before_anything_is_made():
    """Events need a specimen that changes; the line says where they would come from."""
    tables = ("atoms", "drift", "dose")
    with pytest.raises(ValueError, match=r"no truth events .*kind evolving"):
        check_tasks(["movie-events"], ["image"], tables)
    check_tasks(["movie-events"], ["image"], (*tables, "events"))

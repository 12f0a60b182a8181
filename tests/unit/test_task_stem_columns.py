"""The task stem-columns: what counts as a hit, as the right kind, and where columns appear."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nanophantom.simcore.fields import Axis, Field, Measured
from nanophantom.validation import own_image, stem_figures
from nanophantom.validation.blind import run_blind
from nanophantom.validation.task import Scores
from nanophantom.validation.tasks import find_task
from nanophantom.validation.tasks.stem_columns import appears_at, disjoint

TASK = find_task("stem-columns")
STEP_NM, SIZE = 0.02, 80
DETECTORS = {
    "abf": {"shape": "annular", "inner_mrad": 10.0, "outer_mrad": 20.0},
    "haadf": {"shape": "annular", "inner_mrad": 60.0, "outer_mrad": 180.0},
    "dpc": {"shape": "segmented", "inner_mrad": 0.0, "outer_mrad": 25.0, "segments": 4,
            "rotation_deg": 0.0},
    "com": {"shape": "moments", "outer_mrad": 40.0},
}  # fmt: skip
SETTINGS = {"pixel_size_nm": STEP_NM, "energy_kev": 200.0, "semiangle_mrad": 20.0,
            "detectors": DETECTORS}  # fmt: skip


def crystal():
    """Return positions and atomic numbers of Sr, Ti/O and O columns."""
    a, rows = 0.39, []
    for i in range(-1, 5):
        for j in range(-1, 5):
            for u, v, z in ((0, 0, 38), (0.5, 0.5, 22), (0.5, 0, 8), (0, 0.5, 8)):
                rows.append(((i + u) * a + 0.05, (j + v) * a + 0.05, z))
    x, y, z = np.array(rows).T
    return np.column_stack([x, y]), z.astype(int)


def observed(drift_x=None, drift_y=None, n_frames=2, **changes):
    """Return what a grader may ask of a dataset of counts."""
    points, z = crystal()
    n = len(z)
    grid = np.arange(SIZE) * STEP_NM
    bells = np.exp(-(((grid - points[:, :, None]) / 0.05) ** 2) / 2)
    image = 20 + np.einsum("n,ny,nx->yx", z, bells[:, 1], bells[:, 0])
    names = ["abf", "haadf", *(f"dpc-{i}" for i in range(4)), "com-sum", "com-x", "com-y"]
    signals = dict.fromkeys(names, image)
    still = np.zeros((n_frames, SIZE, SIZE))
    dx = still + (0 if drift_x is None else drift_x)
    dy = still + (0 if drift_y is None else drift_y)
    columns = {"x_nm": points[:, 0], "y_nm": points[:, 1], "number": z, "n_atoms": np.full(n, 26),
               "extent_nm": np.zeros(n), "b_factor_A2": np.full(n, 0.5)}  # fmt: skip
    frames = np.random.default_rng(0).poisson(image, (n_frames, SIZE, SIZE)).astype(np.uint32)
    tables = {
        "columns": columns | changes,
        "drift": {"dx_nm": dx.mean(axis=(1, 2)), "dy_nm": dy.mean(axis=(1, 2))},
        "probe_positions": {
            "dx_nm": dx,
            "dy_nm": dy,
            "scan_x_nm": np.zeros_like(dx),
            "scan_y_nm": np.zeros_like(dy),
        },
        "noise_free": signals,
        "intensity": {"part": np.array([f"configuration-{c:04d}" for c in range(4)], "S")},
    }
    return SimpleNamespace(
        n_frames=n_frames,
        settings=SETTINGS,
        signals=tuple(names),
        signal=lambda name, a=0, b=None: frames[a:b],
        truth_tables=tuple(tables),
        truth=lambda name: tables[name],
    )


def perfect(shift_nm=(0.0, 0.0)):
    points, z = crystal()
    kind = np.searchsorted(-np.array([38, 22, 8]), -z)
    return {"x_nm": points[:, 0] + shift_nm[0], "y_nm": points[:, 1] + shift_nm[1], "kind": kind}


def chosen(answer, keep):
    return {name: values[keep] for name, values in answer.items()}


def test_perfect_answer_has_perfect_scores():
    """Each column at its place and of its kind, the oxygen ones too."""
    scores = TASK.grade(perfect(), observed())
    values = scores.values()
    for group in ("", ".Sr", ".Ti", ".O"):
        assert all(values[name + group] == 1 for name in ("recall", "precision", "f1", "kind"))
        assert values["rmse" + group] < 1e-9
    assert scores["recall"].n == sum(scores[f"recall.{e}"].n for e in ("Sr", "Ti", "O"))
    assert 0 < scores["rmse.Sr"].limit < scores["rmse.O"].limit  # oxygen is fainter
    assert Scores.from_json(scores.as_json()) == scores


def test_who_sees_heavy_columns_only_misses_the_oxygen():
    """Half of the columns are oxygen: recall falls to a half, that of strontium stays."""
    z = crystal()[1]
    values = TASK.grade(chosen(perfect(), z > 8), observed()).values()
    assert values["recall.O"] == 0
    assert values["recall.Sr"] == values["recall.Ti"] == values["precision"] == 1
    assert values["kind.O"] is values["rmse.O"] is None


def test_confused_kinds_are_seen():
    """Strontium and titanium exchanged: found all the same, none of them of the right kind."""
    answer = perfect()
    answer["kind"] = np.choose(answer["kind"], (1, 0, 2))
    values = TASK.grade(answer, observed()).values()
    assert values["recall"] == 1
    assert values["kind.Sr"] == values["kind.Ti"] == 0
    assert values["kind.O"] == 1


def test_false_finds_cost_precision():
    """A find in the void beside each strontium column."""
    answer, z = perfect(), crystal()[1]
    extra = {k: np.concatenate([v, v[z == 38] + (0.0 if k == "kind" else 0.0975)])
             for k, v in answer.items()}  # fmt: skip
    scores = TASK.grade(extra, observed())
    assert scores["recall"].value == 1
    hits, false = scores["recall"].n, scores["precision"].n - scores["recall"].n
    assert false > 5
    assert scores["precision"].value == pytest.approx(hits / (hits + false))


def test_common_shift_of_known_size_is_measured():
    """All finds off by (6, -8) pm: error and bias 10 pm."""
    scores = TASK.grade(perfect((0.006, -0.008)), observed())
    np.testing.assert_allclose(scores["rmse"].value, 10.0, rtol=1e-9)
    np.testing.assert_allclose(scores["bias"].value, 10.0, rtol=1e-9)


def test_columns_appear_where_the_probe_stood_on_them():
    """A drift that grows linearly down the scan: x = x0 + a y, y = y0 / (1 - b), in closed form."""
    y = np.arange(SIZE)[:, None] * STEP_NM * np.ones(SIZE)
    a, b = 0.03, 0.02
    points = crystal()[0]
    inside = ((points > 0.1) & (points < 1.4)).all(axis=1)
    still = np.zeros_like(y)[None]
    path = {
        "dx_nm": (a * y)[None],
        "dy_nm": (b * y)[None],
        "scan_x_nm": still,
        "scan_y_nm": still,
    }
    there = appears_at(points[inside], path, STEP_NM)
    y_there = points[inside, 1] / (1 - b)
    np.testing.assert_allclose(there[:, 1], y_there, atol=1e-7)
    np.testing.assert_allclose(there[:, 0], points[inside, 0] + a * y_there, atol=1e-7)
    # An answer that ignores the drift is off by just what it moved.
    scores = TASK.grade(perfect(), observed(a * y, b * y))
    assert 10 < scores["rmse"].value < 50
    assert any("drift moved the columns" in note for note in scores.notes)


def test_limit_adds_detectors_that_share_no_electron():
    """Overlapping rings and first moments are left out; twice the frames, 1 / sqrt(2) the limit."""
    assert disjoint(DETECTORS) == ("dpc-0", "dpc-1", "dpc-2", "dpc-3", "haadf")
    two, four = (TASK.grade(perfect(), observed(n_frames=n))["rmse"].limit for n in (2, 4))
    np.testing.assert_allclose(two / four, np.sqrt(2), rtol=1e-9)


def test_algorithms_get_all_signals_by_name(tmp_path, monkeypatch):
    """The default one and an outsider's in its own process: one dict, then the settings."""
    axes = (Axis("frame", 1, ""), Axis("y", STEP_NM, "nm"), Axis("x", STEP_NM, "nm"))
    data = {name: Field(np.ones((1, 4, 4)), axes, "electrons") for name in ("haadf", "com-x")}
    measured = Measured(data, SETTINGS | {"crystal": {"cell_nm": [1.0]}})
    signals, settings = TASK.arguments(measured)
    assert set(signals) == {"haadf", "com-x"}
    assert settings == SETTINGS  # what crystal it is isn't told
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs.py").write_text(
        "def find(signals, settings):\n"
        "    assert sorted(signals) == ['com-x', 'haadf']\n"
        "    return {k: signals['haadf'][0, 0] for k in ('x_nm', 'y_nm', 'kind')}\n"
    )
    np.testing.assert_array_equal(
        run_blind("theirs:find", measured, TASK.inputs)["kind"], np.ones(4)
    )


def test_a_single_image_file_is_not_enough(tmp_path):
    """nanophantom analyse says so instead of guessing."""
    with pytest.raises(ValueError, match="needs several signals of one scan"):
        own_image.analyse(tmp_path / "image.tif", "stem-columns")


def test_wrong_answers_are_refused():
    """A missing column, and one of another length."""
    with pytest.raises(ValueError, match="kind is missing"):
        TASK.grade({"x_nm": [1.0], "y_nm": [1.0]}, observed())
    with pytest.raises(ValueError, match=r"kind has the shape \(2,\)"):
        TASK.grade({"x_nm": [1.0], "y_nm": [1.0], "kind": [0, 1]}, observed())


def test_a_view_without_columns_is_no_error():
    """Off a zone axis no atoms line up: scores without values, and pictures all the same."""
    data = observed(n_atoms=np.ones(len(crystal()[1]), int))
    scores = TASK.grade(perfect(), data)
    assert scores["recall"].value is None
    for plate in TASK.figures(data, perfect(), scores):
        FigureCanvasAgg(plate.figure).draw()


@pytest.mark.parametrize("answer", ["perfect", "nothing"])
def test_figures_are_drawn_for_good_and_bad_answers(answer):
    """All plates with title and caption; nothing found leaves the plot of errors out."""
    data = observed()
    estimates = perfect() if answer == "perfect" else chosen(perfect(), slice(0))
    plates = TASK.figures(data, estimates, TASK.grade(estimates, data))
    assert len(plates) == (6 if answer == "perfect" else 5)
    for plate in plates:
        assert plate.title
        assert plate.caption.endswith(".")
        FigureCanvasAgg(plate.figure).draw()
    assert stem_figures.views(data.truth("noise_free"), SETTINGS).keys() == {
        "annular bright field (10–20 mrad)", "high-angle dark field (60–180 mrad)",
        "iDPC phase (dpc)", "iCoM phase (com)",
    }  # fmt: skip

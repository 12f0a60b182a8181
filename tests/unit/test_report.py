"""Gradings kept beside a dataset, and the page that tells of them."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml

from nanophantom.simcore.fields import Axis
from nanophantom.simcore.runs import Acquisition, Cost, Frame, SignalSpec
from nanophantom.simcore.store import Corpus, Dataset, DatasetWriter
from nanophantom.validation import grade, report
from nanophantom.validation.tasks import find_task

PIXEL_NM = 0.02
SIZE = 96
TASK = find_task("atomic-columns")
NOTE = "Half of the oxygen sites were drawn: 12 of 24 are taken."


class Lattice(Acquisition):
    """Gold over oxygen columns, drifting, counted: stands in for an instrument."""

    def __init__(self, n_frames, drifts=True):
        self.n_frames = n_frames
        y, x = (g.ravel() for g in np.mgrid[0.1:1.9:0.25, 0.1:1.9:0.25])
        self.x, self.y = x + 0.02, y
        self.z = np.where(np.arange(len(x)) // 8 < 5, 79, 8)
        t = np.arange(4 * n_frames) / 4 + 0.125
        self.path = np.column_stack([t, 0.05 * t, -0.02 * t**2]) * [1, drifts, drifts]

    @property
    def mean(self):
        return self.path.reshape(self.n_frames, 4, 3).mean(axis=1)

    def image(self, dx, dy):
        grid = np.arange(SIZE) * PIXEL_NM
        bell_x = np.exp(-(((grid - (self.x + dx)[:, np.newaxis]) / 0.05) ** 2) / 2)
        bell_y = np.exp(-(((grid - (self.y + dy)[:, np.newaxis]) / 0.05) ** 2) / 2)
        return (20 + np.einsum("n,ny,nx->yx", self.z / 4, bell_y, bell_x)).astype(np.float32)

    def signals(self):
        axes = (Axis("y", PIXEL_NM, "nm"), Axis("x", PIXEL_NM, "nm"))
        return {"image": SignalSpec((SIZE, SIZE), "uint16", axes, "electrons", ideal="ideal")}

    def settings(self):
        return {"pixel_size_nm": PIXEL_NM, "defocus_nm": -6.0, "contrast": "bright"}

    def expose(self, i, parts=None):
        ideal = self.image(*self.mean[i, 1:])
        counts = np.random.default_rng(i).poisson(ideal).astype(np.uint16)
        return Frame(i, {"image": counts}, {"ideal": ideal})

    def truth(self, parts=None):
        where = {"x_nm": self.x, "y_nm": self.y, "number": self.z}
        group = (self.z < 20).astype(int)
        zero, ten = np.zeros(len(self.x)), np.full(len(self.x), 10)
        drift = [dict(zip(("t_s", "dx_nm", "dy_nm"), p.T, strict=True))
                 for p in (self.mean, self.path)]  # fmt: skip
        frame = np.arange(self.n_frames)
        return {
            "atoms": {**where, "z_nm": zero, "b_factor_A2": zero, "group": group},
            "columns": {**where, "n_atoms": ten, "weight": ten, "extent_nm": zero, "group": group},
            "groups": {"name": np.array(["<gold>", "oxygen"])},
            "drift": drift[0],
            "drift_path": drift[1],
            "dose": {"frame": frame, "dose_e_per_A2": frame * 0 + 50.0,
                     "cumulative_e_per_A2": 50.0 * (frame + 1)},
            "noise_free": {"image": self.image(0, 0)},
        }  # fmt: skip

    def truth_outline(self):
        return {}

    def cost(self):
        return Cost(1, 1, 1.0)


RECIPE = {
    "name": "gold-lattice",
    "title": "Gold & oxygen: <find> the columns",
    "description": "A lattice of spots under test.",
    "seed": 4711,
    "tasks": ["atomic-columns"],
}


def make(folder, n_frames=3, drifts=True):
    """Write a complete dataset through the store."""
    acquisition = Lattice(n_frames, drifts)
    with DatasetWriter.create(folder, acquisition, yaml.safe_dump(RECIPE)) as writer:
        writer.write_truth(acquisition.truth())
        for shard in writer.missing:
            frames = [acquisition.expose(i) for i in writer.layout.frames(shard)]
            writer.record(writer.write_shard(shard, frames))
        writer.finish({"wall_s": 12.5, "notes": [NOTE]})
    return Dataset(folder)


def found(dataset, shift_nm=0.002):
    """Return an answer: most columns, slightly wrong, and a false one."""
    columns, drift = dataset.truth("columns"), dataset.truth("drift")
    x = columns["x_nm"] + drift["dx_nm"][0] + shift_nm * np.cos(np.arange(64))
    y = columns["y_nm"] + drift["dy_nm"][0] + shift_nm * np.sin(np.arange(64))
    keep = np.arange(64) != 19
    return {"x_nm": np.append(x[keep], 1.0), "y_nm": np.append(y[keep], 0.73)}


def graded(dataset, algorithm=TASK.default_algorithm, **how):
    estimates = found(dataset, **how)
    scores = replace(TASK.grade(estimates, dataset), algorithm=algorithm)
    grade.save(dataset, estimates, scores)
    return scores


# --- gradings ----------------------------------------------------------------------------------


def test_scores_and_estimates_read_back_to_the_last_bit(tmp_path):
    """What is kept beside the data is what was graded."""
    dataset = make(tmp_path / "d")
    scores = graded(dataset)
    assert grade.read_scores(dataset) == {"atomic-columns": scores}
    for name, column in grade.read_estimates(dataset, "atomic-columns").items():
        np.testing.assert_array_equal(column, found(dataset)[name])


def test_outsiders_stand_beside_the_default_answer(tmp_path):
    """Another algorithm gets a file of its own; grading it again replaces only that."""
    dataset = make(tmp_path / "d")
    ours = graded(dataset)
    for shift_nm in (0.01, 0.02):
        theirs = graded(dataset, "mine:find", shift_nm=shift_nm)
    kept = grade.read_scores(dataset)
    assert kept == {"atomic-columns": ours, "atomic-columns.mine.find": theirs}
    files = sorted(path.name for path in (dataset.path / "estimates").iterdir())
    assert files == ["atomic-columns.csv", "atomic-columns.mine.find.csv"]


def test_predictions_are_graded_like_any_answer(tmp_path):
    """A CSV file gives the same scores as the arrays, kept under the file's name."""
    dataset = make(tmp_path / "d")
    answer = found(dataset)
    lines = [f" {x!r}, {y!r}" for x, y in zip(*(c.tolist() for c in answer.values()), strict=True)]
    csv = tmp_path / "theirs.csv"
    csv.write_text("\ufeffx_nm, y_nm\n" + "\n".join(lines) + "\n\n", encoding="utf-8")
    estimates, scores = grade.grade_dataset(dataset, "atomic-columns", predictions=csv)
    assert scores.values() == TASK.grade(answer, dataset).values()
    grade.save(dataset, estimates, scores)
    assert list(grade.read_scores(dataset)) == ["atomic-columns.theirs"]


def test_outsider_is_run_blind_and_graded(tmp_path, monkeypatch):
    """module:function from the current directory; its scores are those of what it returned."""
    dataset = make(tmp_path / "d")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "def find(images, settings):\n    return {'x_nm': [1.0] * len(images), 'y_nm': [1.0] * 3}"
    )
    estimates, scores = grade.grade_dataset(dataset, "atomic-columns", algorithm="mine:find")
    np.testing.assert_array_equal(estimates["x_nm"], [1.0, 1.0, 1.0])
    assert scores.algorithm == "mine:find"
    assert scores["recall"].value == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty; the first line must name the columns"),
        ("x_nm,y_nm\n1,2\n3\n", "row 3: 1 cells, not 2"),
        ("x_nm,y_nm\n1,two\n", "row 2: y_nm is 'two', not a number"),
        ("x_nm,x_nm\n1,2\n", "name a column twice"),
    ],
)
def test_unreadable_predictions_are_refused(tmp_path, text, reason):
    """One line that names the row."""
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(ValueError, match=reason):
        grade.read_predictions(tmp_path / "p.csv")


def test_requests_that_make_no_sense_are_refused(tmp_path):
    """Two answers at once, an unknown task, a page of unfinished data."""
    dataset = make(tmp_path / "d")
    with pytest.raises(ValueError, match="not both"):
        grade.grade_dataset(dataset, "atomic-columns", "a:b", "c.csv")
    with pytest.raises(ValueError, match="did you mean 'atomic-columns'"):
        grade.grade_dataset(dataset, "atomic-column")
    DatasetWriter.create(tmp_path / "half", Lattice(2), "name: half").close()
    with pytest.raises(ValueError, match="isn't complete"):
        report.write(tmp_path / "half")


def test_files_beside_the_data_that_are_damaged_are_named(tmp_path):
    """Scores and provenance: one line that names the file and says what to do."""
    dataset = make(tmp_path / "d")
    for damaged in ("{", "[]", '{"format": "nanophantom-scores", "version": 1}'):
        (dataset.path / "scores.json").write_text(damaged)
        with pytest.raises(ValueError, match=r"scores\.json is damaged; remove it and grade again"):
            grade.read_scores(dataset)
    (dataset.path / "scores.json").unlink()
    (dataset.path / "provenance.json").write_text("{")
    with pytest.raises(ValueError, match=r"provenance\.json is damaged; remove it"):
        report.write(dataset.path)


def test_nothing_is_written_where_there_is_no_folder(tmp_path):
    """A page in a folder that doesn't exist."""
    dataset = make(tmp_path / "d")
    with pytest.raises(ValueError, match=r"there is no folder .*nowhere"):
        report.write(dataset.path, tmp_path / "nowhere" / "page.html")


# --- the page ----------------------------------------------------------------------------------


class Page(HTMLParser):
    """Reads a page strictly: every element is closed in order, every id is used once."""

    VOID = frozenset({"meta", "img", "br", "link", "hr", "input"})

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.words, self.tags = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []
        assert len(self.ids) == len(set(self.ids))

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "srcset", "action", "data"):
                self.links.append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def read(path):
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    without_pictures = re.sub(r"base64,[A-Za-z0-9+/=\s]+", "", text)
    assert not re.search(r"https?:|//|@import", without_pictures)
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in page.links)
    assert "script" not in page.tags
    assert not re.search(r"url\((?!#)", text)
    assert len(text) < 5_000_000
    return page, " ".join(" ".join(page.words).split())


def test_page_is_valid_self_contained_and_has_all_sections(tmp_path):
    """Words, scores with limits, figures, notes, versions, seed, recipe; nothing from outside."""
    dataset = make(tmp_path / "d")
    scores = graded(dataset)
    graded(dataset, "mine:find", shift_nm=0.01)
    path = report.write(tmp_path / "d")
    assert path == tmp_path / "d" / "report.html"
    page, words = read(path)
    for part in (
        "Gold & oxygen: <find> the columns", "A lattice of spots under test.",
        "3 frames of 96 × 96 pixels, 1.92 nm × 1.92 nm", "mine:find", "Recall", "Error (RMSE)",
        "Physical limit", f"{scores['rmse'].limit:#.3g} pm", "Cramér-Rao", "Measured frame",
        "Aligned average", "Noise-free image", "Atoms (truth)", "Drift (truth)", "Dose",
        "Found and true columns", "Errors of position", "Map of errors", "-6 nm", NOTE,
        "4711", "12.5", "versions numpy", "name: gold-lattice", "find(images, settings)",
    ):  # fmt: skip
        assert part in words, part
    assert page.tags.count("figure") == 6 + 2 * 3
    assert page.tags.count("img") == 3 + 2
    assert page.tags.count("svg") == 3 + 2 * 2


def test_page_says_what_the_scores_file_says(tmp_path):
    """Numbers come from scores.json, not from a second grading."""
    dataset = make(tmp_path / "d")
    graded(dataset)
    path = dataset.path / "scores.json"
    content = json.loads(path.read_text())
    content["gradings"]["atomic-columns"]["scores"][0]["value"] = 0.123456
    path.write_text(json.dumps(content))
    assert "0.123" in read(report.write(dataset.path))[1]


def test_scores_of_parts_alone_stand_on_the_page(tmp_path):
    """A score without a value for the whole still has a line, with those of its parts."""
    dataset = make(tmp_path / "d")
    scores = graded(dataset)
    parts = replace(scores["recall"], name="found_again", group="light", value=0.4321, hint="")
    grade.save(dataset, found(dataset), replace(scores, scores=(*scores.scores, parts)))
    page = read(report.write(dataset.path))[1]
    assert "Found again" in page
    assert "0.432" in page


def test_limits_and_numbers_stay_with_many_parts(tmp_path):
    """With four parts the table has no columns of limit and n: both stand below the value."""
    dataset = make(tmp_path / "d")
    scores = graded(dataset)
    parts = [replace(scores["recall"], group=name) for name in "abcd"]
    rmse = scores["rmse"]
    grade.save(dataset, found(dataset), replace(scores, scores=(rmse, *parts)))
    words = read(report.write(dataset.path))[1]
    assert "Physical limit" not in words
    assert f"limit {rmse.limit:#.3g} pm n = {rmse.n}" in words


@pytest.mark.parametrize("many", [False, True])
def test_coverage_has_a_target_instead_of_a_limit(tmp_path, many):
    """0.95 is what it should be: more is no better, so there is no ratio."""
    dataset = make(tmp_path / "d")
    scores = graded(dataset)
    held = replace(scores["recall"], name="coverage", value=0.5, limit=0.95, hint="held")
    parts = [replace(held, group=name) for name in "abcd"] if many else []
    grade.save(dataset, found(dataset), replace(scores, scores=(held, *parts)))
    words = read(report.write(dataset.path))[1]
    assert "held 0.500 target 0.950" in words
    assert "limit 0.950" not in words
    assert "× limit" not in words


def test_one_mistake_in_many_does_not_read_as_perfect(tmp_path):
    """A recall of 2904 / 2905 is shown as > 0.999, not as 1.00."""
    dataset = make(tmp_path / "d")
    scores = graded(dataset)
    recall, *others = scores.scores
    changed = replace(scores, scores=(replace(recall, value=2904 / 2905), *others))
    grade.save(dataset, found(dataset), changed)
    words = read(report.write(dataset.path))[1]
    assert re.search(r"were found ([>\s\d.]+?) –", words).group(1) == "> 0.999"


def test_same_dataset_gives_the_same_page(tmp_path):
    """No clock, no random ids."""
    dataset = make(tmp_path / "d")
    graded(dataset)
    pages = [report.write(dataset.path, tmp_path / name).read_bytes() for name in ("a", "b")]
    assert pages[0] == pages[1]


def test_page_of_one_frame_without_scores(tmp_path):
    """No average, no dose curve, no drift to show; it says that nothing has been graded."""
    make(tmp_path / "d", n_frames=1, drifts=False)
    page, words = read(report.write(tmp_path / "d", tmp_path / "page.html"))
    assert "one frame of 96 × 96 pixels" in words
    assert "Nothing has been graded" in words
    assert page.tags.count("figure") == 3
    assert "Drift (truth)" not in words


@pytest.mark.parametrize("count", [0, 1])
def test_page_of_a_poor_answer(tmp_path, count):
    """Nothing found, or nothing right: scores that aren't defined show as a dash."""
    dataset = make(tmp_path / "d")
    nothing = {"x_nm": np.full(count, 1.0), "y_nm": np.full(count, 0.73)}
    grade.save(dataset, nothing, TASK.grade(nothing, dataset))
    _, words = read(report.write(dataset.path))
    assert "not defined: no target was hit" in words
    assert "Found and true columns" in words
    assert "Map of errors" not in words


def test_page_of_a_perfect_answer(tmp_path):
    """Errors of zero have no scale of their own; the page comes out all the same."""
    dataset = make(tmp_path / "d")
    exact = found(dataset, shift_nm=0.0)
    grade.save(dataset, exact, TASK.grade(exact, dataset))
    assert "Map of errors" in read(report.write(dataset.path))[1]


def test_average_is_aligned_to_frame_0():
    """Noise-free frames that drift by whole pixels average to the first one, where all see it."""
    from nanophantom.validation.figures import average

    class Still:
        n_frames = 3
        settings = {"pixel_size_nm": PIXEL_NM}  # noqa: RUF012
        steps = np.array([[1, 2], [4, -1], [-2, 5]])
        scene = np.random.default_rng(0).uniform(1, 2, (60, 60))

        def truth(self, table):
            return {"dx_nm": self.steps[:, 0] * PIXEL_NM, "dy_nm": self.steps[:, 1] * PIXEL_NM}

        def signal(self, name, start, stop):
            dx, dy = self.steps[start]
            return self.scene[np.newaxis, 10 - dy : 50 - dy, 10 - dx : 50 - dx]

    data = Still()
    mean, used = average(data, "image")
    assert used == 3
    first = data.signal("image", 0, 1)[0]
    np.testing.assert_allclose(mean[6:-6, 6:-6], first[6:-6, 6:-6], rtol=1e-6)
    assert np.isfinite(mean).all()


def test_corpus_page_has_a_line_and_a_picture_for_every_item(tmp_path):
    """Scores of each item, their mean, links to the pages that exist."""
    corpus = Corpus.create(tmp_path / "c", yaml.safe_dump(RECIPE), 2)
    datasets = [make(corpus.item(k), n_frames=k + 1) for k in range(2)]
    values = [graded(dataset)["recall"].value for dataset in datasets]
    report.write(corpus.item(1))
    path = report.write(tmp_path / "c")
    page = Page(path.read_text(encoding="utf-8"))
    words = " ".join(" ".join(page.words).split())
    assert page.tags.count("img") == 2
    assert [link for link in page.links if not link.startswith("data:")] == [
        "items/000001/report.html"
    ]
    for part in ("000000", "000001", *(f"{v:#.3g}" for v in values), "± standard deviation"):
        assert part in words

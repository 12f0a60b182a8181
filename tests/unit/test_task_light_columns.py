"""The task light-columns: grading of kinds and places, thinning, and the default algorithm."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nanophantom.analysis import light_columns
from nanophantom.simcore.fields import Axis, Field, Measured
from nanophantom.validation import light_figures
from nanophantom.validation.limits import position_limit
from nanophantom.validation.task import Scores
from nanophantom.validation.tasks import find_task
from nanophantom.validation.tasks.light_columns import f1_against_dose, thinned

TASK = find_task("light-columns")
STEP_NM, SIZE, FRAMES = 0.0125, 160, 4
DRIFT_NM = np.column_stack([0.004 + 0.01 * np.arange(FRAMES), -0.006 * np.arange(FRAMES)])
"""(x, y) of every frame; that of frame 0 isn't zero."""
SETTINGS = {"pixel_size_nm": STEP_NM, "energy_kev": 300.0, "contrast": "bright"}


def crystal():
    """Return positions and atomic numbers of Sr, Ti-O and O columns of SrTiO3 [001]."""
    a, rows = 0.3905, []
    for i in range(-1, 6):
        for j in range(-1, 6):
            for u, v, z in ((0, 0, 38), (0.5, 0.5, 22), (0.5, 0, 8), (0, 0.5, 8)):
                rows.append(((i + u) * a + 0.05, (j + v) * a + 0.05, z))
    x, y, z = np.array(rows).T
    return np.column_stack([x, y]), z.astype(int)


def picture(shift_nm=(0.0, 0.0), counts=3.0):
    """Return expected counts: sharp bright peaks of heavy columns, wide low ones of light."""
    points, z = crystal()
    grid = np.arange(SIZE) * STEP_NM
    image = np.full((SIZE, SIZE), 0.4 * counts)
    for (x, y), number in zip(points + shift_nm, z, strict=True):
        height, width = (1.3, 0.04) if number == 8 else (4.5, 0.023)
        bell = [np.exp(-0.5 * ((grid - at) / width) ** 2) for at in (y, x)]
        image += counts * height * np.outer(*bell)
    return image


def observed(counts=3.0, seed=0):
    """Return what a grader may ask of a dataset of counts."""
    points, z = crystal()
    n = len(z)
    rng = np.random.default_rng(seed)
    frames = np.stack([rng.poisson(picture(d, counts)) for d in DRIFT_NM]).astype(np.uint16)
    tables = {
        "columns": {"x_nm": points[:, 0], "y_nm": points[:, 1], "number": z,
                    "n_atoms": np.full(n, 10), "extent_nm": np.zeros(n)},
        "drift": {"dx_nm": DRIFT_NM[:, 0], "dy_nm": DRIFT_NM[:, 1]},
        "noise_free": {"image": picture(counts=counts)},
        "dose": {"dose_e_per_A2": np.full(FRAMES, 20.0)},
    }  # fmt: skip
    axes = (Axis("frame", 1.0, ""), Axis("y", STEP_NM, "nm"), Axis("x", STEP_NM, "nm"))
    measured = Measured({"image": Field(frames, axes, "counts")}, SETTINGS | {"crystal": "secret"})
    return SimpleNamespace(
        n_frames=FRAMES,
        settings=SETTINGS,
        signals=("image",),
        signal=lambda name, a=0, b=None: frames[a:b],
        measured=lambda: measured,
        truth_tables=tuple(tables),
        truth=lambda name: tables[name],
    )


def perfect(shift_nm=(0.0, 0.0)):
    """Return all columns where they appear in frame 0, each of its kind."""
    points, z = crystal()
    x, y = (points + DRIFT_NM[0] + shift_nm).T
    return {"x_nm": x, "y_nm": y, "light": (z == 8).astype(float)}


def chosen(answer, keep):
    return {name: values[keep] for name, values in answer.items()}


def test_perfect_answer_has_perfect_scores():
    """All columns at their places in frame 0, its drift included; light ones called light."""
    scores = TASK.grade(perfect(), observed())
    for kind in ("light", "heavy"):
        assert all(scores[f"{name}.{kind}"].value == 1 for name in ("f1", "recall", "precision"))
        assert scores[f"rmse.{kind}"].value < 1e-9
    assert scores["confused"].value == 0
    assert scores["rmse.light"].limit > scores["rmse.heavy"].limit > 0
    assert Scores.from_json(scores.as_json()) == scores


def test_the_limit_is_that_of_all_frames():
    """The Cramér-Rao bound of the noise-free counts of all frames, rms over light targets."""
    data = observed()
    found = TASK.compare(perfect(), data)
    points = crystal()[0]
    bound = position_limit(FRAMES * picture(), *points.T, STEP_NM).radial_nm
    mine = found.target & found.light
    expected = 1e3 * np.sqrt(np.mean(bound[mine] ** 2))
    assert TASK.grade(perfect(), data)["rmse.light"].limit == pytest.approx(expected)


def test_who_sees_heavy_columns_only_has_no_light_ones():
    """Recall and F1 of the light fall to zero, those of the heavy stay."""
    scores = TASK.grade(chosen(perfect(), crystal()[1] > 8), observed())
    assert scores["recall.light"].value == scores["f1.light"].value == 0
    assert scores["precision.light"].value is None
    assert scores["rmse.light"].value is None
    assert scores["f1.heavy"].value == 1


def test_confused_kinds_cost_both():
    """All called light: the light are found, but as many heavy ones spoil the precision."""
    answer = perfect()
    answer["light"] = np.ones(len(answer["light"]))
    scores = TASK.grade(answer, observed())
    light, heavy = scores["recall.light"].n, scores["recall.heavy"].n
    assert scores["recall.light"].value == 1
    assert scores["precision.light"].value == pytest.approx(light / (light + heavy))
    assert scores["recall.heavy"].value == 0
    assert scores["confused"].value == pytest.approx(heavy / (light + heavy))
    assert scores["rmse.heavy"].value < 1e-9  # found all the same


def test_false_light_columns_cost_precision():
    """A find in the void beside each strontium column, called light."""
    answer, z = perfect(), crystal()[1]
    extra = chosen(answer, z == 38)
    extra = {"x_nm": extra["x_nm"] + 0.0976, "y_nm": extra["y_nm"] + 0.0976,
             "light": np.ones((z == 38).sum())}  # fmt: skip
    scores = TASK.grade({k: np.concatenate([answer[k], extra[k]]) for k in answer}, observed())
    hits, claims = scores["recall.light"].n, scores["precision.light"].n
    assert claims > hits
    assert scores["precision.light"].value == pytest.approx(hits / claims)
    assert scores["precision.heavy"].value == 1


def test_common_shift_and_uncertainties_are_measured():
    """All off by (6, -8) pm: rmse and bias 10 pm; 6 pm lie within 1.96 x 4 pm, 8 pm don't."""
    answer = perfect((0.006, -0.008))
    answer["sigma_nm"] = np.full(len(answer["light"]), 0.004)
    scores = TASK.grade(answer, observed())
    assert scores["rmse.light"].value == pytest.approx(10)
    assert scores["rmse.light"].bias == pytest.approx(10)
    assert scores["coverage.heavy"].value == pytest.approx(0.5)


def test_pixels_instead_of_nm_hit_nothing():
    """A wrong unit is graded: no hit, no error defined."""
    answer = perfect()
    answer["x_nm"] = answer["x_nm"] / STEP_NM
    scores = TASK.grade(answer, observed())
    assert scores["f1.light"].value < 0.1


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [("light", 0.5, "0 or 1"), ("x_nm", np.nan, "finite"), ("sigma_nm", 0.0, "above zero")],
)
def test_impossible_answers_are_refused(column, value, words):
    """Half a kind, a place that isn't a number, an uncertainty of nothing."""
    answer = perfect()
    answer["sigma_nm"] = np.ones(len(answer["light"]))
    answer[column] = np.r_[value, answer[column][1:]]
    with pytest.raises(ValueError, match=words) as refusal:
        TASK.grade(answer, observed())
    assert "\n" not in str(refusal.value)


def test_an_empty_answer_is_graded_and_drawn():
    """Nothing found: recall zero, precision undefined, and a report all the same."""
    nothing = {name: np.empty(0) for name in ("x_nm", "y_nm", "light")}
    data = observed()
    scores = TASK.grade(nothing, data)
    assert scores["recall.light"].value == 0
    assert scores["precision.heavy"].value is None
    assert scores["confused"].value is None
    light_figures._finds(data, TASK.compare(nothing, data))
    light_figures._confusion(TASK.compare(nothing, data))


def test_own_algorithm_finds_light_columns_and_is_not_told_the_crystal():
    """F1 of 0.95 or more for both kinds at 12 counts a pixel in all; honest uncertainties."""
    data = observed()
    assert "crystal" not in TASK.arguments(data.measured())[-1]
    scores = TASK.grade(TASK.answer(data.measured()), data)
    assert scores["f1.light"].value >= 0.95
    assert scores["f1.heavy"].value >= 0.95
    assert scores["rmse.light"].value < 1.6 * scores["rmse.light"].limit
    assert scores["coverage.light"].value > 0.85


def test_thinned_counts_are_those_of_a_lower_dose():
    """Mean and variance of thinned Poisson counts are a quarter of the mean (4 sigma)."""
    axes = (Axis("frame", 1.0, ""), Axis("y", 1.0, "nm"), Axis("x", 1.0, "nm"))
    counts = np.random.default_rng(1).poisson(8.0, (1, 300, 300)).astype(np.uint16)
    few = thinned(Measured({"image": Field(counts, axes, "counts")}), 0.25,
                  np.random.default_rng(2)).signals["image"].data  # fmt: skip
    assert few.mean() == pytest.approx(2.0, abs=4 * np.sqrt(2.0) / 300)
    assert few.var() == pytest.approx(2.0, abs=4 * np.sqrt(2 * 2.0**2 + 2) / 300)


def test_f1_falls_with_the_dose():
    """A fiftieth of the counts shows fewer light columns than all of them."""
    f1 = f1_against_dose(TASK, observed(), (1.0, 0.02), 1)["light"][:, 0]
    assert f1[0] > 0.9
    assert f1[1] < 0.6


def test_figures_are_drawn(monkeypatch):
    """Finds, profile, confusion and the curve against dose."""
    data = observed()
    monkeypatch.setattr(light_figures, "PARTS", (0.5,))
    monkeypatch.setattr(light_figures, "ENOUGH", 1)
    plates = light_figures.of_light_columns(TASK, data, TASK.compare(perfect(), data))
    assert len(plates) == 4
    for plate in plates:
        FigureCanvasAgg(plate.figure).draw()


def test_two_groups_are_told_apart_and_one_is_not():
    """Poisson counts about 20 and 100 are split without a mistake, about 100 alone not at all."""
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.poisson(20, 60), rng.poisson(100, 90)]).astype(float)
    lower = light_columns.is_lower(values)
    assert lower[:60].all()
    assert not lower[60:].any()
    assert not light_columns.is_lower(rng.poisson(100, 90).astype(float)).any()
    assert not light_columns.is_lower(np.array([3.0])).any()


def test_dark_field_tells_light_columns_from_two_heavy_kinds():
    """Brightness as Z^1.7 of Sr, Ti and O with Poisson noise; without oxygen nothing is light."""
    rng = np.random.default_rng(4)
    number = np.repeat([38, 22, 8], 40)
    counts = rng.poisson(200 * (number / 38) ** 1.7).astype(float)
    assert (light_columns.is_dark(counts) == (number == 8)).all()
    assert not light_columns.is_dark(counts[number > 8]).any()
    assert not light_columns.is_dark(np.zeros(5)).any()


def test_stem_signals_give_light_columns_by_their_dark_field():
    """Dips in annular bright field, brightness as Z^1.7 in dark field: all right at 600 counts."""
    points, z = crystal()
    step, size = 0.02, 90
    grid = np.arange(size) * step
    bells = np.exp(-0.5 * ((grid - points[:, :, None]) / 0.035) ** 2)
    dip = np.where(z == 8, 0.15, 0.3)
    bright = 600 * (1 - np.einsum("n,ny,nx->yx", dip, bells[:, 1], bells[:, 0]))
    dark = 0.5 + np.einsum("n,ny,nx->yx", z**1.7 / 8, bells[:, 1], bells[:, 0])
    rng = np.random.default_rng(0)
    signals = {"abf": rng.poisson(bright, (2, size, size)),
               "haadf": rng.poisson(dark, (2, size, size))}  # fmt: skip
    settings = {"pixel_size_nm": step, "semiangle_mrad": 20.0, "detectors": {
        "abf": {"shape": "annular", "inner_mrad": 10.0, "outer_mrad": 20.0},
        "haadf": {"shape": "annular", "inner_mrad": 60.0, "outer_mrad": 100.0}}}  # fmt: skip
    found = light_columns.find(signals, settings)
    inside = ((points > 0.15) & (points < size * step - 0.15)).all(axis=1)
    at = np.column_stack([found["x_nm"], found["y_nm"]])
    distance = np.hypot(*(at[:, None] - points[None, inside]).transpose(2, 0, 1))
    assert (distance.min(axis=0) < 0.02).all()
    assert (found["light"][distance.argmin(axis=0)] == (z[inside] == 8)).all()


def test_what_cannot_be_answered_is_refused():
    """No pixel size; a single dark field; settings of a STEM without its detectors."""
    with pytest.raises(ValueError, match="pixel_size_nm"):
        light_columns.find({"image": np.ones((2, 32, 32))}, {})
    detectors = {"haadf": {"shape": "annular", "inner_mrad": 60.0, "outer_mrad": 100.0}}
    with pytest.raises(ValueError, match="annular bright field"):
        light_columns.find({"haadf": np.ones((2, 32, 32))},
                           {"pixel_size_nm": 0.02, "semiangle_mrad": 20.0,
                            "detectors": detectors})  # fmt: skip
    with pytest.raises(ValueError, match="detectors"):
        light_columns.find({"haadf": np.ones((2, 32, 32))}, {"pixel_size_nm": 0.02})

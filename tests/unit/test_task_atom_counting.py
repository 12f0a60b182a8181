"""The task atom-counting: what counts as right, the limit of counting, and what is refused."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy.special import ndtr

from nanophantom.validation.limits import share_countable
from nanophantom.validation.tasks import find_task

PIXEL_NM = 0.03
SIZE = 84  # 2.52 nm
BEAM = 400.0
TASK = find_task("atom-counting")
SPACING_NM = 0.28


def columns_of(numbers=79):
    """Return 7 x 7 columns of 3 to 8 atoms, all inside; one atom scatters 0.016 Å^2."""
    axis = 0.4 + SPACING_NM * np.arange(7)
    x, y = (g.ravel() for g in np.meshgrid(axis, axis))
    n = 3 + (np.arange(49) * 5) % 6
    return {
        "x_nm": x,
        "y_nm": y,
        "n_atoms": n,
        "number": np.full(49, numbers),
        "weight": numbers * n,
        "extent_nm": np.zeros(49),
        "group": np.zeros(49, int),
    }


def observed(columns, drift_nm=(0.0, 0.0), n_frames=1, dtype=np.uint32, section_A2=0.016):
    """Return what a grader may ask of a dataset: Gaussian columns of known cross-sections."""
    grid = np.arange(SIZE) * PIXEL_NM
    width = 0.045
    bells = [
        np.exp(-(((grid - c[:, None]) / width) ** 2) / 2) / (width * np.sqrt(2 * np.pi))
        for c in (columns["x_nm"], columns["y_nm"])
    ]
    area_nm2 = 0.01 * section_A2 * np.asarray(columns["n_atoms"])
    image = BEAM * np.einsum("n,ny,nx->yx", area_nm2, bells[1], bells[0])
    tables = {
        "columns": columns,
        "drift": {"dx_nm": np.array([drift_nm[0]]), "dy_nm": np.array([drift_nm[1]])},
        "noise_free": {"haadf": image.astype(np.float32)},
    }
    return SimpleNamespace(
        n_frames=n_frames,
        settings={"pixel_size_nm": PIXEL_NM, "beam_electrons": BEAM},
        signals=("haadf",),
        signal=lambda name, a=0, b=None: np.repeat(image[None], n_frames, 0).astype(dtype)[a:b],
        truth_tables=tuple(tables),
        truth=lambda table: tables[table],
    )


def answer(columns, n_atoms=None, **more):
    n = columns["n_atoms"] if n_atoms is None else n_atoms
    return {"x_nm": columns["x_nm"], "y_nm": columns["y_nm"], "n_atoms": n, **more}


def test_perfect_answer_has_perfect_scores():
    """Every column with its number: right = recall = precision = 1, no error, no bias."""
    columns = columns_of()
    values = TASK.grade(answer(columns), observed(columns)).values()
    assert values["right"] == values["within_one"] == values["recall"] == values["precision"] == 1
    assert values["error"] == values["bias"] == 0


def test_one_atom_too_many_is_within_one_and_all_bias():
    """All numbers one too high: none right, all within one, error = bias = 1 atom."""
    columns = columns_of()
    scores = TASK.grade(answer(columns, columns["n_atoms"] + 1), observed(columns))
    assert scores["right"].value == 0
    assert scores["within_one"].value == 1
    assert scores["error"].value == scores["bias"].value == 1
    assert scores["error"].spread == 0
    assert "too many" in scores["bias"].hint


def test_errors_that_cancel_are_no_bias():
    """Half of 48 columns one too high, half too low: error 1, bias 0; the last one is right."""
    columns = columns_of()
    off = np.r_[np.tile([1, -1], 24), 0]
    scores = TASK.grade(answer(columns, columns["n_atoms"] + off), observed(columns))
    np.testing.assert_allclose(scores["error"].value, 48 / 49)
    assert scores["bias"].value == 0
    np.testing.assert_allclose(scores["right"].value, 1 / 49)


def test_a_column_that_is_not_found_is_not_right():
    """Ten columns left out: no error among the rest, but right and recall fall to 39 / 49."""
    columns = columns_of()
    some = {name: values[10:] for name, values in columns.items()}
    scores = TASK.grade(answer(some), observed(columns))
    np.testing.assert_allclose([scores["right"].value, scores["recall"].value], 39 / 49)
    assert scores["error"].value == 0


def test_finds_beside_columns_are_false():
    """Seven positions half way between columns: precision 49 / 56."""
    columns = columns_of()
    more = {
        "x_nm": np.r_[columns["x_nm"], columns["x_nm"][7:14]],
        "y_nm": np.r_[columns["y_nm"], columns["y_nm"][7:14] + SPACING_NM / 2],
        "n_atoms": np.r_[columns["n_atoms"], np.full(7, 3)],
    }
    scores = TASK.grade(more, observed(columns))
    np.testing.assert_allclose(scores["precision"].value, 49 / 56)
    assert scores["right"].value == 1


def test_positions_are_those_of_frame_0():
    """With a drift of 0.1 nm an answer at the resting places misses every column."""
    columns = columns_of()
    data = observed(columns, drift_nm=(0.1, 0.0))
    assert TASK.grade(answer(columns), data)["recall"].value == 0
    moved = {**columns, "x_nm": columns["x_nm"] + 0.1}
    assert TASK.grade(answer(moved), data)["right"].value == 1


def test_lighter_and_mixed_columns_are_not_asked_for():
    """Columns of a lighter element, or with light atoms among the heavy, count neither way."""
    columns = columns_of()
    columns["number"][:7] = 58
    columns["weight"][:7] = 58 * columns["n_atoms"][:7]
    columns["weight"][7:14] += 8
    scores = TASK.grade(answer(columns), observed(columns))
    assert scores["right"].n == 35
    assert scores["precision"].value == 1


def test_overconfidence_is_confidence_less_the_share_that_is_right():
    """Quoted 0.9, right in 40 of 49: too sure by 0.9 - 40 / 49."""
    columns = columns_of()
    wrong = columns["n_atoms"] + (np.arange(49) < 9)
    sure = np.full(49, 0.9)
    score = TASK.grade(answer(columns, wrong, confidence=sure), observed(columns))["overconfidence"]
    np.testing.assert_allclose(score.value, 0.9 - 40 / 49)
    assert score.hint.endswith("too sure")


def test_limit_is_the_overlap_of_neighbouring_distributions():
    """Two classes, as frequent, at 400 and 440 electrons: Gaussians overlap by Phi(-d/2).

    The likelihoods of Poisson counts are equal at (440 - 400) / ln(440 / 400) = 419.7; with
    widths 20 and 20.98 the share right is [Phi(19.7/20) + Phi(20.3/20.98)] / 2 = 0.835.
    """
    share = share_countable(np.repeat([400.0, 440.0], 10), np.repeat([5, 6], 10))
    expected = 0.5 * (ndtr(19.7 / 20) + ndtr(20.3 / 20.98))
    np.testing.assert_allclose(share, expected, atol=0.006)
    assert share_countable([1e5, 2e5], [1, 2]) == pytest.approx(1, abs=1e-9)
    assert share_countable([50.0, 50.0, 50.0], [1, 1, 2]) == pytest.approx(2 / 3)


def test_the_limit_is_that_of_the_noise_free_image_and_rises_with_the_frames():
    """The scorer's limit equals the overlap of Poisson distributions of known means.

    A column of n atoms sends n * 0.016 Å^2 * 400 electrons / (0.3 Å)^2 = 71.1 n electrons; the
    patches catch them all but for a per cent of shared tails.
    """
    columns = columns_of()
    n = columns["n_atoms"]
    one, nine = (
        TASK.grade(answer(columns), observed(columns, n_frames=k))["right"].limit for k in (1, 9)
    )
    np.testing.assert_allclose(one, share_countable(71.1 * n, n), atol=0.01)
    assert one < 0.97 < nine
    flat = observed(columns, dtype=np.float32)
    assert TASK.grade(answer(columns), flat)["right"].limit is None


def test_what_breaks_the_contract_is_refused():
    """Fractions of atoms, a confidence above one, a missing column."""
    columns = columns_of()
    data = observed(columns)
    with pytest.raises(ValueError, match=r"whole numbers n_atoms, got 3\.5"):
        TASK.grade(answer(columns, columns["n_atoms"] + 0.5), data)
    with pytest.raises(ValueError, match="confidence from 0 to 1"):
        TASK.grade(answer(columns, confidence=np.full(49, 1.2)), data)
    with pytest.raises(ValueError, match="n_atoms is missing"):
        TASK.grade({"x_nm": np.zeros(1), "y_nm": np.zeros(1)}, data)


def test_a_view_without_such_columns_has_no_score():
    """Columns that lean by more than 0.05 nm are not asked for: right is not defined."""
    columns = columns_of()
    columns["extent_nm"][:] = 0.2
    scores = TASK.grade(answer(columns), observed(columns))
    assert scores["right"].value is None


@pytest.mark.parametrize("whole", [True, False])
def test_figures_are_drawn(whole):
    """Maps, histogram, curve, confusion and reliability; maps alone where nothing was found."""
    columns = columns_of()
    data = observed(columns)
    n = columns["n_atoms"] + (np.arange(49) % 9 == 0)
    sections = 0.016 * columns["n_atoms"] * (1 + 0.02 * np.sin(np.arange(49)))
    more = {"confidence": np.linspace(0.5, 1, 49), "cross_section_A2": sections}
    given = answer(columns, n, expected_A2=0.016 * n, **more)
    if not whole:
        given = {name: values[:0] for name, values in given.items()}
    scores = TASK.grade(given, data)
    plates = TASK.figures(data, given, scores)
    assert len(plates) == (5 if whole else 1)
    for plate in plates:
        FigureCanvasAgg(plate.figure).draw()

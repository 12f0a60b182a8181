"""The task dose-series and its analysis: what counts at each dose, and what is refused."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nanophantom.analysis.dose_series import (
    LEAST_SIGNIFICANCE,
    LOCAL_FALSE_SHARE,
    balanced_threshold,
    find,
)
from nanophantom.analysis.noise import expected_false_maxima
from nanophantom.validation.dose_series_figures import psnr_db
from nanophantom.validation.tasks import find_task

TASK = find_task("dose-series")
PIXEL_NM, SIZE, WIDTH_NM = 0.02, 128, 0.04
DOSES = np.array([20.0, 200.0, 2000.0])
DRIFT_NM = np.array([[0.0, 0.0], [0.06, -0.04], [-0.03, 0.07]])


def lattice():
    """Columns of a square lattice of 0.28 nm inside the view of 2.56 nm."""
    axis = 0.3 + 0.28 * np.arange(8)
    x, y = (g.ravel() for g in np.meshgrid(axis, axis))
    return np.column_stack([x, y])


def expected(dose, shift_nm=(0.0, 0.0)):
    """Return counts of bright columns, half of the beam between them."""
    grid = np.arange(SIZE) * PIXEL_NM
    place = lattice() + shift_nm
    bells = [np.exp(-(((grid - c[:, None]) / WIDTH_NM) ** 2) / 2) for c in place.T]
    image = 0.5 + np.einsum("ny,nx->yx", bells[1], bells[0])
    return dose * (10 * PIXEL_NM) ** 2 * image


def observed(seed=1):
    """Return a dataset of three doses, each frame moved by its drift."""
    rng = np.random.default_rng(seed)
    ideal = [expected(d, s) for d, s in zip(DOSES, DRIFT_NM, strict=True)]
    images = rng.poisson(ideal).astype(np.uint16)
    place = lattice()
    n = len(place)
    tables = {
        "columns": {
            "x_nm": place[:, 0], "y_nm": place[:, 1], "n_atoms": np.full(n, 10),
            "number": np.full(n, 79), "extent_nm": np.zeros(n), "group": np.zeros(n, int),
        },
        "drift": {"dx_nm": DRIFT_NM[:, 0], "dy_nm": DRIFT_NM[:, 1]},
        "noise_free": {"image": ideal[0].astype(np.float32)},
        "dose": {"dose_e_per_A2": DOSES},
    }  # fmt: skip
    return SimpleNamespace(
        n_frames=3,
        settings={"pixel_size_nm": PIXEL_NM, "contrast": "bright", "counts_per_electron": 1.0},
        signals=("image",),
        signal=lambda name, a=0, b=None: images[a:b],
        ideal=lambda name, i: ideal[i],
        truth_tables=tuple(tables),
        truth=lambda name: tables[name],
    )


def answer(frames=(0, 1, 2), offset_nm=(0.0, 0.0), **more):
    """Return the true positions of some frames, all shifted by an offset."""
    place = np.concatenate([lattice() + DRIFT_NM[i] + offset_nm for i in frames])
    frame = np.repeat(frames, len(lattice()))
    return {"frame": frame, "x_nm": place[:, 0], "y_nm": place[:, 1], **more}


def test_perfect_answers_score_perfectly_at_every_dose_though_frames_drift():
    scores = TASK.grade(answer(), observed())
    assert scores["dose_for_f1"].value == 20
    assert scores["low_dose_f1"].value == 1
    for dose in ("20", "200", "2000"):
        assert scores[f"f1.dose {dose}"].value == 1
        assert scores[f"rmse.dose {dose}"].value == pytest.approx(0, abs=1e-9)


def test_answers_that_are_off_are_graded_as_such():
    """By 20 pm: an error of 20 pm; by 60 pm, beyond the radius of 50 pm: nothing is hit."""
    scores = TASK.grade(answer(offset_nm=(0.02, 0.0)), observed())
    assert scores["rmse"].value == pytest.approx(20)
    far = TASK.grade(answer(offset_nm=(0.06, 0.0)), observed())
    assert far["f1"].value == 0
    assert far["dose_for_f1"].value is None
    angstrom = answer()
    angstrom = {**angstrom, "x_nm": 10 * angstrom["x_nm"], "y_nm": 10 * angstrom["y_nm"]}
    assert TASK.grade(angstrom, observed())["f1"].value < 0.1


def test_a_gap_at_a_middle_dose_moves_the_dose_beyond_it():
    """Good at 20 and 2000, nothing at 200 e/Å²: only from 2000 on is all good."""
    scores = TASK.grade(answer(frames=(0, 2)), observed())
    assert scores["dose_for_f1"].value == 2000
    assert scores["f1.dose 200"].value == 0
    assert scores["recall"].value == pytest.approx(2 / 3)
    assert scores["precision"].value == 1


def test_limit_falls_as_one_over_the_root_of_the_dose():
    scores = TASK.grade(answer(), observed())
    limits = [scores[f"rmse.dose {dose}"].limit for dose in ("20", "200", "2000")]
    np.testing.assert_allclose(limits[0] / np.array(limits), np.sqrt(DOSES / 20), rtol=1e-6)


def test_coverage_is_that_of_the_quoted_uncertainties():
    """Gaussian errors of 5 pm quoted as 5 pm hold in 95 % (384 coordinates: ±4.4 %)."""
    rng = np.random.default_rng(3)
    said = answer(sigma_nm=np.full(192, 0.005))
    for name in ("x_nm", "y_nm"):
        said[name] = said[name] + rng.normal(0, 0.005, 192)
    assert TASK.grade(said, observed())["coverage"].value == pytest.approx(0.95, abs=0.044)


def test_no_answer_is_an_answer_and_nonsense_is_refused():
    """Nothing found: an F1 of 0. No whole frame number, NaN, no column: one line."""
    nothing = {"frame": [], "x_nm": [], "y_nm": []}
    nothing = {name: np.array(v, float) for name, v in nothing.items()}
    scores = TASK.grade(nothing, observed())
    assert scores["f1"].value == 0
    assert scores["precision"].value is None
    one = {"frame": np.array([3]), "x_nm": np.array([1.0]), "y_nm": np.array([1.0])}
    with pytest.raises(ValueError, match="whole numbers from 0 to 2"):
        TASK.grade(one, observed())
    with pytest.raises(ValueError, match=r"x_nm\[0\] is nan"):
        TASK.grade({**one, "frame": np.array([0]), "x_nm": np.array([np.nan])}, observed())
    with pytest.raises(ValueError, match="frame is missing"):
        TASK.grade({"x_nm": one["x_nm"], "y_nm": one["y_nm"]}, observed())


def test_threshold_leaves_the_stated_share_of_noise_at_it():
    """Noise maxima as Rice's formula has them, and 400 columns evenly spread from 2.6 to 10.

    At the threshold, noise is a quarter of all: dF / share = dF + 400 / 7.4 per unit of u.
    """
    area, width = 4e5, 3.0
    u = np.linspace(LEAST_SIGNIFICANCE, 9.0, 20001)
    above = expected_false_maxima(u, width, area)
    noise = np.interp(np.arange(above[0]) + 0.5, above[::-1], u[::-1])
    real = LEAST_SIGNIFICANCE + (np.arange(400) + 0.5) * 7.4 / 400
    rate = -np.gradient(above, u)
    right = u[np.argmax(rate * (1 / LOCAL_FALSE_SHARE - 1) < 400 / 7.4)]
    found = balanced_threshold(np.concatenate([noise, real]), width, area)
    assert found == pytest.approx(right, abs=0.1)


def test_noise_alone_gives_no_column():
    """Eight frames of 2 counts a pixel without any structure: all of them stay empty."""
    images = np.random.default_rng(5).poisson(2.0, (8, 160, 160)).astype(np.uint16)
    found = find(images, {"pixel_size_nm": PIXEL_NM, "contrast": "bright"})
    assert len(found["x_nm"]) == 0


def test_the_analysis_finds_more_the_more_electrons_there_are():
    """All 64 at 200 e/Å², at their place to 1.5 of the limit; at 20 only some, few of them false.

    A column of 20 e/Å² stands out by some 4 times the noise.
    """
    data = observed()
    scores = TASK.grade(find(data.signal("image"), data.settings), data)
    assert scores["f1.dose 2000"].value == 1
    assert scores["f1.dose 200"].value > 0.98
    rmse = scores["rmse.dose 200"]
    assert 0.7 < rmse.value / rmse.limit < 1.5
    assert 0.2 < scores["f1.dose 20"].value < 1
    assert scores["precision.dose 20"].value > 0.75


def test_the_analysis_refuses_what_it_cannot_use():
    with pytest.raises(ValueError, match="pixel_size_nm"):
        find(np.ones((2, 32, 32)), {})
    with pytest.raises(ValueError, match="shape"):
        find(np.ones((32, 32)), {"pixel_size_nm": 0.02})


def test_psnr_of_a_hundredth_of_the_range_is_40_db():
    truth = np.linspace(0, 1, 100).reshape(10, 10)
    assert psnr_db(truth + 0.01, truth) == pytest.approx(40)


def test_figures_are_drawn():
    """Marked frames, detection, precision, denoising."""
    data = observed()
    said = answer(frames=(1, 2))
    plates = TASK.figures(data, said, TASK.grade(said, data))
    assert len(plates) == 4
    for plate in plates:
        FigureCanvasAgg(plate.figure).draw()

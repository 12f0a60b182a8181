"""The task fading: grading of critical doses, their limit, and the default algorithm."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nanophantom.analysis import fading_movie
from nanophantom.analysis.fading import fit_amplitudes
from nanophantom.validation import fading_figures
from nanophantom.validation.fading_limit import critical_dose_limit, median_of_bells
from nanophantom.validation.task import Scores
from nanophantom.validation.tasks import find_task

TASK = find_task("fading")
STEP_NM, SIZE, FRAMES, DOSE = 0.05, 128, 30, 1.0
WAVES = np.array([[0.11, 0.05], [-0.07, 0.13], [0.20, 0.21], [-0.31, 0.12]])
"""Cycles per pixel (ky, kx)."""
CONTRAST = 0.3


def law_of(k_per_A):
    """The law that the synthetic crystal obeys, e/Å^2."""
    return 5.0 + 1.5 / np.asarray(k_per_A)


def movie(seed=0, counts=2.0, drift=0.2):
    """Return a counted, drifting, fading crystal, its noise-free first image and its shifts."""
    rng = np.random.default_rng(seed)
    shifts = np.cumsum(rng.normal(drift, 0.2, (FRAMES, 2)), axis=0)
    shifts -= shifts[0]
    y, x = np.mgrid[:SIZE, :SIZE]
    N_c = law_of(np.hypot(*WAVES.T) / (10 * STEP_NM))
    phases = rng.uniform(0, 2 * np.pi, len(WAVES))

    def image(shift, left):
        argument = (
            2
            * np.pi
            * (WAVES[:, 0, None, None] * (y - shift[0]) + WAVES[:, 1, None, None] * (x - shift[1]))
        )
        waves = np.cos(argument + phases[:, None, None])
        return counts * (1 + 0.5 * CONTRAST * np.einsum("s,syx->yx", left, waves))

    fluence = DOSE * (np.arange(FRAMES) + 0.5)
    left = np.exp(-0.5 * fluence[:, None] / N_c)
    frames = rng.poisson([image(s, f) for s, f in zip(shifts, left, strict=True)])
    return frames.astype(np.uint16), image((0, 0), np.ones(len(WAVES))), shifts


def observed(seed=0):
    """Return what a grader may ask of a dataset, and the settings an algorithm is told."""
    frames, ideal, shifts = movie(seed)
    k = np.geomspace(0.02, 2.0, 101)
    tables = {
        "fading": {"k_per_A": k, "critical_dose_e_per_A2": law_of(k)},
        "noise_free": {"image": ideal},
        "drift": {"dy_nm": shifts[:, 0] * STEP_NM, "dx_nm": shifts[:, 1] * STEP_NM},
    }
    settings = {
        "pixel_size_nm": STEP_NM,
        "doses_e_per_A2": [DOSE] * FRAMES,
        "before_e_per_A2": 0.0,
    }
    return SimpleNamespace(
        n_frames=FRAMES,
        settings=settings,
        signals=("image",),
        signal=lambda name, a=0, b=None: frames[a:b],
        truth_tables=tuple(tables),
        truth=lambda name: tables[name],
    )


def perfect(spread=0.1):
    """Return the true critical doses with intervals around them."""
    k = np.hypot(*WAVES.T) / STEP_NM
    true = law_of(k / 10)
    return {
        "spacing_nm": 1 / k,
        "critical_dose_e_per_A2": true,
        "low_e_per_A2": (1 - spread) * true,
        "high_e_per_A2": (1 + spread) * true,
        "law_e_per_A2": true,
        "ky_per_nm": WAVES[:, 0] / STEP_NM,
        "kx_per_nm": WAVES[:, 1] / STEP_NM,
    }


def test_perfect_answer_has_perfect_scores():
    """No error but that of the truth's table between its rows (under 0.1 %); all intervals hold."""
    scores = TASK.grade(perfect(), observed())
    assert scores["median_error"].value < 0.1  # %
    assert scores["law_error"].value < 0.1
    assert scores["coverage"].value == 1
    assert scores["reflections"].value == len(WAVES)
    assert scores["median_error"].limit > 0
    assert Scores.from_json(scores.as_json()) == scores


def test_a_known_error_is_measured():
    """Doses 20 % too great: error 20 %, bias ln 1.2; intervals of 10 % miss, of 30 % hold."""
    answer = perfect()
    answer = {k: v * 1.2 if k.endswith("A2") else v for k, v in answer.items()}
    scores = TASK.grade(answer, observed())
    assert scores["median_error"].value == pytest.approx(20, abs=0.2)
    assert scores["median_error"].bias == pytest.approx(100 * np.log(1.2), abs=0.2)
    assert scores["law_error"].value == pytest.approx(20, abs=0.2)
    assert scores["coverage"].value == 0
    wide = {k: v * 1.2 if k.endswith("A2") else v for k, v in perfect(0.3).items()}
    assert TASK.grade(wide, observed())["coverage"].value == 1


def test_spacings_in_another_unit_are_refused():
    """Å instead of nm lie beyond the law's table, and are told so in one line."""
    answer = perfect()
    answer["spacing_nm"] = 1e3 * answer["spacing_nm"]
    with pytest.raises(ValueError, match="spacing_nm between"):
        TASK.grade(answer, observed())


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [("low_e_per_A2", 1e6, "low_e_per_A2 <="), ("high_e_per_A2", 0.1, "<= high_e_per_A2"),
     ("critical_dose_e_per_A2", -3.0, "above zero"), ("spacing_nm", np.nan, "finite")],
)  # fmt: skip
def test_impossible_answers_are_refused(column, value, words):
    """An interval beside its estimate, a negative dose, a spacing that isn't a number."""
    answer = perfect()
    answer[column] = np.r_[value, answer[column][1:]]
    if column == "critical_dose_e_per_A2":
        answer["low_e_per_A2"][0] = -5.0
    with pytest.raises(ValueError, match=words) as refusal:
        TASK.grade(answer, observed())
    assert "\n" not in str(refusal.value)


def test_no_reflection_is_a_score_and_a_figure_without_marks():
    """An empty answer scores zero reflections and undefined errors."""
    nothing = {name: np.empty(0) for name in perfect()}
    data = observed()
    scores = TASK.grade(nothing, data)
    assert scores["median_error"].value is None
    assert scores["reflections"].value == 0
    assert len(fading_figures.of_fading(data, TASK.compare(nothing, data))) == 1


def test_the_limit_is_what_the_best_fit_scatters_by():
    """150 strong reflections: the spread of ln N_c by maximum likelihood, within 15 %.

    Doses are unequal and there was exposure before, so the closed form is tested in full.
    """
    dose = np.array([0.5] * 10 + [1.5] * 20)
    N_c, before, snr = 12.0, 3.0, 60.0
    fluence = before + np.cumsum(dose) - dose / 2
    relative = dose / dose.mean()
    logs = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        signal = np.sqrt(snr) * relative * np.exp(-0.5 * fluence / N_c)
        noise = rng.standard_normal((2, len(dose))) * np.sqrt(relative / 2)
        fit = fit_amplitudes(signal + noise[0] + 1j * noise[1], dose, relative, before)
        logs.append(np.log(fit.critical_dose_e_per_A2 / N_c))
    limit = critical_dose_limit([snr], [N_c], dose, before)[0]
    assert np.std(logs) == pytest.approx(limit, rel=0.15)


def test_the_median_of_normal_errors():
    """0.6745 sigma for one sigma (the quartile); for unequal ones that of 4e5 drawn numbers."""
    assert median_of_bells([2.0]) == pytest.approx(2 * 0.674490, rel=1e-5)
    sigma = np.array([0.5, 1.0, 4.0])
    drawn = np.abs(np.random.default_rng(0).normal(0, np.tile(sigma, 133_000)))
    assert median_of_bells(sigma) == pytest.approx(np.median(drawn), rel=0.01)


def test_own_algorithm_measures_a_drifting_crystal():
    """Four of four reflections, the law to 10 %, intervals that hold three or more."""
    data = observed(1)
    answer = fading_movie.find(data.signal("image"), data.settings)
    scores = TASK.grade(answer, data)
    assert scores["reflections"].value == len(WAVES)
    assert scores["median_error"].value < 15  # %
    assert scores["law_error"].value < 10
    assert scores["coverage"].value >= 0.75
    plates = fading_figures.of_fading(data, TASK.compare(answer, data))
    assert len(plates) == 4
    for plate in plates:
        FigureCanvasAgg(plate.figure).draw()


def test_own_algorithm_refuses_what_it_cannot_use():
    """A single image, and settings without doses."""
    with pytest.raises(ValueError, match="3 or more"):
        fading_movie.find(np.ones((64, 64)), {"pixel_size_nm": 0.1, "dose_e_per_A2": 1.0})
    with pytest.raises(ValueError, match="dose_e_per_A2"):
        fading_movie.find(np.ones((4, 64, 64)), {"pixel_size_nm": 0.1})


def test_a_movie_of_noise_has_no_reflection():
    """The columns come back, empty."""
    noise = np.random.default_rng(2).poisson(0.5, (8, 96, 96))
    answer = fading_movie.find(noise, {"pixel_size_nm": STEP_NM, "dose_e_per_A2": 1.0})
    assert {len(values) for values in answer.values()} == {0}

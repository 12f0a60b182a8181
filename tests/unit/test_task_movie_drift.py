"""The task movie-drift: its grader on made answers, its limit, the refinement on made points."""

import numpy as np
import pytest

from nanophantom.analysis import movie_drift
from nanophantom.analysis.random_walk import likely_step_variance, smoothed_walk
from nanophantom.instruments.smlm import SMLM
from nanophantom.simcore.emitters import Dyes
from nanophantom.simcore.experiment import Experiment
from nanophantom.simcore.light.fluorophores import Fluorophore
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import Specimen
from nanophantom.validation.movie_drift_limit import drift_limit_nm, walk_variance
from nanophantom.validation.tasks import find_task
from nanophantom.validation.tasks import movie_drift as movie_drift_task

TASK = find_task("movie-drift")
FRAMES = 60


class Beads(Specimen):
    """Five steady emitters."""

    fluorophore = Fluorophore(photons_per_s_per_kw_per_cm2=1e6)

    def dyes_within(self, window):
        places = np.array([[-600.0, -500, 0], [600, -400, 0], [0, 50, 0], [-500, 600, 0],
                           [650, 550, 0]])  # fmt: skip
        k = np.arange(len(places), dtype=np.int32)
        everything = Dyes(places, k, k, k, np.ones(len(places)))
        return everything.select(window.holds(places[:, 0], places[:, 1]))

    def truth(self):
        return {}


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Correlate on coarse pixels, which is quick."""
    monkeypatch.setattr(movie_drift_task, "FRC_PIXEL_NM", 8.0)


@pytest.fixture(scope="module")
def data():
    """Return a small movie, drifting by some nm."""
    recipe = SMLM(
        n_frames=FRAMES, exposure_s=0.05, camera={"width_px": 24, "height_px": 24},
        background={"photons": 5}, illumination={"excitation_kw_per_cm2": 1.0},
        drift={"speed_nm_per_s": 5, "walk_nm_per_sqrt_s": 10},
    )  # fmt: skip
    specimen = Beads()
    return Experiment.of(recipe.plan(specimen, Run(3)), specimen)


def answer(data, off=0.0, **more):
    true = data.truth("drift")
    return {
        "frame": np.arange(FRAMES),
        "dx_nm": np.asarray(true["dx_nm"]) + off,
        "dy_nm": np.asarray(true["dy_nm"]),
        **more,
    }


def test_perfect_answer_has_no_error_wherever_its_zero_is(data):
    told = answer(data, off=123.0, sigma_nm=np.full(FRAMES, 0.1))
    scores = TASK.grade(told, data)
    assert scores["rms"].value < 1e-3
    assert scores["worst"].value < 1e-3
    assert scores["coverage"].value == 1
    assert scores["resolution"].value == pytest.approx(scores["resolution"].limit, rel=1e-3)


def test_known_error_is_told_as_it_is(data):
    """A ripple of 3 nm amplitude along x is 3/sqrt 2 rms; order of rows doesn't matter."""
    ripple = 3 * np.sin(2 * np.pi * np.arange(FRAMES) / 20)
    told = answer(data, aim_dx_nm=np.zeros(FRAMES), aim_dy_nm=np.zeros(FRAMES))
    told["dx_nm"] = told["dx_nm"] + ripple
    back = {name: values[::-1] for name, values in told.items()}
    for given in (told, back):
        scores = TASK.grade(given, data)
        assert scores["rms"].value == pytest.approx(3 / np.sqrt(2), rel=1e-3)
        assert scores["worst"].value == pytest.approx(3, rel=1e-3)
        # an answer of nothing is off by the drift itself
        assert scores["rms.aim"].value == pytest.approx(scores["rms.uncorrected"].value)


def test_wrong_unit_and_wrong_sign_show(data):
    told = answer(data)
    whole = TASK.grade(told, data)["rms.uncorrected"].value
    for factor, error in ((1e-3, 0.999), (-1, 2.0)):
        wrong = {**told, "dx_nm": factor * told["dx_nm"], "dy_nm": factor * told["dy_nm"]}
        assert TASK.grade(wrong, data)["rms"].value == pytest.approx(error * whole, rel=1e-3)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda told: told | {"frame": told["frame"] + 1}, "every frame from 0"),
        (lambda told: {name: v[:-1] for name, v in told.items()}, "every frame from 0"),
        (lambda told: told | {"dx_nm": np.full(FRAMES, np.nan)}, "finite"),
        (lambda told: told | {"sigma_nm": np.zeros(FRAMES)}, "above zero"),
        (lambda told: {name: v for name, v in told.items() if name != "dy_nm"}, "missing"),
        (lambda told: {name: v[:0] for name, v in told.items()}, "every frame from 0"),
    ],
)
def test_answers_that_break_the_contract_are_refused(data, spoil, said):
    with pytest.raises(ValueError, match=said):
        TASK.grade(spoil(answer(data)), data)


def test_figures_show_every_way(data):
    nothing = np.zeros(FRAMES)
    told = answer(data, sigma_nm=np.ones(FRAMES), aim_dx_nm=nothing, aim_dy_nm=nothing,
                  rcc_dx_nm=nothing, rcc_dy_nm=nothing)  # fmt: skip
    plates = TASK.figures(data, told, TASK.grade(told, data))
    assert [plate.title for plate in plates][:2] == [
        "Drift, found and true", "Drift, some seconds of it",
    ]  # fmt: skip
    assert "Resolution, before and after" in [plate.title for plate in plates]


def test_smoothing_is_the_inverse_of_the_precision_matrix():
    """Against the dense matrix diag(w) + D'D/q, frames without observation among them."""
    rng = np.random.default_rng(1)
    n, q = 40, 0.7
    w = rng.random(n) * (rng.random(n) < 0.7)
    y = rng.standard_normal(n)
    D = np.diff(np.eye(n), axis=0)
    covariance = np.linalg.inv(np.diag(w) + D.T @ D / q)
    smooth = smoothed_walk(y, w, q)
    assert smooth.path == pytest.approx(covariance @ (w * y), rel=1e-9)
    assert smooth.variance == pytest.approx(np.diag(covariance), rel=1e-9)
    centring = np.eye(n) - 1 / n
    expected = np.sqrt(np.trace(centring @ covariance @ centring) / n)
    assert drift_limit_nm(w, q) == pytest.approx(expected, rel=1e-9)


def test_steady_observation_leaves_the_closed_form():
    """Variance sqrt(q r)/2 for q << r, r the variance of an observation: 1 % at q/r = 1e-3."""
    r, q = 9.0, 9e-3
    variance = smoothed_walk(np.zeros(4000), np.full(4000, 1 / r), q).variance[2000]
    assert variance == pytest.approx(np.sqrt(q * r) / 2, rel=0.01)


def test_smoothing_a_walk_errs_as_its_limit_says_and_finds_its_strength():
    rng = np.random.default_rng(2)
    n, q, r = 20_000, 0.4, 3.0
    walk = np.cumsum(np.sqrt(q) * rng.standard_normal((n, 2)), axis=0)
    seen = walk + np.sqrt(r) * rng.standard_normal((n, 2))
    weight = np.full(n, 1 / r)
    assert likely_step_variance(seen, weight) == pytest.approx(q, rel=0.05)
    error = np.column_stack([smoothed_walk(s, weight, q).path for s in seen.T]) - walk
    assert (error - error.mean(axis=0)).std() == pytest.approx(drift_limit_nm(weight, q), rel=0.03)


def test_strength_of_a_walk_is_read_from_means_over_exposures():
    """16 steps an exposure; a steady drift doesn't count."""
    rng = np.random.default_rng(3)
    fine = np.cumsum(np.sqrt(2.0 / 16) * rng.standard_normal((20_000 * 16, 2)), axis=0)
    means = fine.reshape(20_000, 16, 2).mean(axis=1) + 0.5 * np.arange(20_000)[:, None]
    assert walk_variance(means) == pytest.approx(2.0, rel=0.05)


def test_refined_drift_comes_near_the_limit_and_knows_its_error():
    """Sites 20 nm apart at an error of 2.5 nm, visits of five frames, from a start 6 nm off."""
    rng = np.random.default_rng(4)
    n, q, error = 3000, 0.4, 2.5
    corner = rng.uniform(0, 3000, (60, 1, 2))
    sites = (corner + 20 * np.array([(i, j) for i in range(3) for j in range(4)])).reshape(-1, 2)
    walk = np.cumsum(np.sqrt(q) * rng.standard_normal((n, 2)), axis=0)
    walk -= walk.mean(axis=0)
    begin = rng.integers(-4, n, 2 * n)
    frame = (begin[:, None] + np.arange(5)).ravel()
    site = np.repeat(rng.integers(0, len(sites), len(begin)), 5)
    frame, site = (c[(frame >= 0) & (frame < n)] for c in (frame, site))
    places = sites[site] + walk[frame] + error * rng.standard_normal((len(frame), 2))
    start = walk + 6 * np.sin(np.arange(n) / 80)[:, None]
    found, sigma = movie_drift.drift_of_frames(frame, *places.T, start, error)
    off = found - walk
    limit = drift_limit_nm(np.bincount(frame, minlength=n) / error**2, q)
    assert off.std() < 1.35 * limit
    assert 0.90 < np.mean(np.abs(off) < 1.96 * sigma[:, None]) < 0.98

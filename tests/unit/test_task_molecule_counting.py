"""The task molecule-counting: its grading, its limit, and the parts of its algorithm."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from nanophantom.analysis.count_molecules import (
    Evidence,
    Watched,
    activation_rate,
    blink_probabilities,
    coincidences,
    count,
    find,
    least_photons,
    mean_blinks,
    thinned,
)
from nanophantom.validation.tasks import find_task

TASK = find_task("molecule-counting")
STEP_NM, SIZE, FRAMES, FRAME_S = 100.0, 40, 2000, 0.02
DYES = np.array([3, 12, 0, 20])
X_NM = np.array([-1000.0, 1000.0, -1000.0, 1000.0])
Y_NM = np.array([-1000.0, -1000.0, 1000.0, 1000.0])
CORNER_NM = -2000.0
PALM = {"on_time_s": 0.055, "off_time_s": 0.085, "photons_per_burst": 1760.0, "bursts_per_dye": 1.9}
CAMERA = {
    "offset_adu": 100.0,
    "adu_per_electron": 2.0,
    "quantum_efficiency": 0.8,
    "read_noise_e": 1.5,
}
IMAGING = {"pixel_size_nm": STEP_NM, "psf_sigma_nm": 100.0, "camera": CAMERA}


def observed(kinetics=PALM):
    """Return what a grader and its figures may ask of a dataset; one structure has no dye."""
    n = int(DYES.sum())
    tables = {
        "specimen_structures": {"x_nm": X_NM, "y_nm": Y_NM, "n_fluorescing_dyes": DYES},
        "specimen_dyes": {"dye": np.arange(n)},
        "dyes": {"dye": np.arange(n)},
        "blinks": {"dye": np.zeros(0, int)},
        "view": {k: np.array([CORNER_NM]) for k in ("x0_nm", "y0_nm")}
        | {"pixel_size_nm": np.array([STEP_NM])},
    }
    movie = np.full((FRAMES, SIZE, SIZE), 102, np.uint16)
    shone = {"dye": np.array([0, 0, 1]), "frame": np.array([4, 8, 4]), "photons": np.full(3, 500.0)}
    return SimpleNamespace(
        n_frames=FRAMES,
        settings={**IMAGING, "frame_period_s": FRAME_S, "dye_kinetics": kinetics},
        signals=("movie",),
        signal=lambda name, a=0, b=None: movie[a:b],
        frame_tables=("emissions",),
        frame_table=lambda name, a=0, b=None: shone,
        truth_tables=tuple(tables),
        truth=lambda table: tables[table],
    )


DATA = observed()


def answer(error=0.0, half_width=2.0, **more):
    real = DYES > 0
    counted = DYES[real] + error
    return {
        "x_nm": X_NM[real] - CORNER_NM + 30.0,
        "y_nm": Y_NM[real] - CORNER_NM,
        "molecules": counted,
        "low": counted - half_width,
        "high": counted + half_width,
        **more,
    }


def test_perfect_answer_has_perfect_scores():
    scores = TASK.grade(answer(), DATA)
    values = scores.values()
    assert values["bias"] == values["rmse"] == 0
    assert values["coverage"] == values["recall"] == values["precision"] == 1
    assert values["interval_width"] == 4
    assert scores["recall"].n == 3


def test_errors_and_intervals_are_graded():
    """3, -3, 3 molecules off, intervals of +-2: none holds the truth; bias 3 of 35."""
    scores = TASK.grade(answer(np.array([3.0, -3.0, 3.0])), DATA)
    np.testing.assert_allclose(scores["rmse"].value, 3)
    np.testing.assert_allclose(scores["bias"].value, 100 * 3 / 35)
    assert "too many" in scores["bias"].hint
    assert scores["coverage"].value == 0


def test_the_limit_is_the_chance_of_the_bursts():
    """Geometric bursts of N dyes: variance of the count N (1 - 1/mean); N = 3, 12, 20."""
    scores = TASK.grade(answer(), DATA)
    np.testing.assert_allclose(scores["rmse"].limit, np.sqrt(35 / 3 * (1 - 1 / 1.9)))
    np.testing.assert_allclose(scores["bias"].limit, 100 * np.sqrt(35 * (1 - 1 / 1.9)) / 35)


def test_the_limit_of_docking_sites_is_that_of_their_visits():
    sites = {"on_time_s": 0.5, "off_time_s": 100.0, "photons_per_burst": 3000.0}
    scores = TASK.grade(answer(), observed(sites))
    visits = DYES[DYES > 0] * FRAMES * FRAME_S / 100.0
    np.testing.assert_allclose(
        scores["rmse"].limit, np.sqrt(np.mean((DYES[DYES > 0] / np.sqrt(visits)) ** 2))
    )


def test_a_cluster_that_is_not_there_and_one_that_is_missed():
    elsewhere = answer()
    elsewhere["x_nm"] = elsewhere["x_nm"] + np.array([0.0, 0.0, 300.0])
    scores = TASK.grade(elsewhere, DATA).values()
    np.testing.assert_allclose([scores["recall"], scores["precision"]], 2 / 3)
    nothing = {name: np.zeros(0) for name in answer()}
    assert TASK.grade(nothing, DATA)["bias"].value is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"low": np.array([9.0, 9.0, 99.0])}, "low up to high"),
        ({"high": np.array([1.0, 2.0])}, "shape"),
        ({"molecules": np.array([1.0, np.nan, 2.0])}, "finite"),
    ],
)
def test_answers_that_are_none_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        TASK.grade(answer() | change, DATA)


def evidence_columns(blinks):
    same = np.ones(3)
    return {
        "blinks": blinks,
        "coincident": 0.1 * blinks,
        "dark_s": 0 * same,
        "least_photons": 66 * same,
        "activation_per_s": 0.06 * same,
    }


def test_wrong_kinetics_are_shown_beside_what_they_must_do():
    """20 % fewer bursts a dye: as many more molecules as the means of both models say."""
    model = (FRAME_S, FRAMES * FRAME_S, 0.06, 66.0)
    told = answer(**evidence_columns(np.array([3.0, 13.0, 22.0])))
    scores = TASK.grade(told, DATA)
    fewer = mean_blinks(blink_probabilities(PALM | {"bursts_per_dye": 0.8 * 1.9}, *model))
    np.testing.assert_allclose(scores["bias.bursts −20 %"].value, 100 * (1.1 * 38 / fewer / 35 - 1))
    mean = mean_blinks(blink_probabilities(PALM, *model))
    assert 1.1 < mean / fewer < 1.25


def test_figures_are_there():
    told = answer(**evidence_columns(np.array([4.0, 16.0, 27.0])))
    plates = TASK.figures(DATA, told, TASK.grade(told, DATA))
    assert [plate.title for plate in plates] == [
        "Clusters: truth and count",
        "Counted and true",
        "From bursts to blinks",
        "Coverage of the intervals",
        "What wrong kinetics do",
    ]


def watched(times_s, clusters, length=5):
    n = len(times_s)
    blinks = np.bincount(np.arange(n) % clusters, minlength=clusters)
    empty = np.zeros(0, np.int64)
    frames = (np.asarray(times_s) / FRAME_S).astype(np.int64)
    middles = np.zeros(clusters)
    return Watched(
        middles, middles, blinks, empty, empty, frames, np.full(n, length, np.int64), 66.0
    )


def test_the_activation_rate_is_measured_on_a_movie_that_ends():
    """Exponential times cut off after 2.4 mean times: the rate within 3 standard errors."""
    rng = np.random.default_rng(1)
    times = rng.exponential(1 / 0.06, 20_000)
    times = times[times < 40.0]
    one_each = watched(times, len(times))
    error = 0.06 / np.sqrt(len(times) * 0.368)
    assert abs(activation_rate(one_each, FRAME_S, 40.0) - 0.06) < 3 * error
    with pytest.raises(ValueError, match="hardly get fewer"):
        activation_rate(watched(rng.uniform(0, 40, 500), 500), FRAME_S, 40.0)


def test_coincident_blinks_are_as_many_as_played():
    """30 blinks of 5 frames at exponential times, gap of 1: merged ones counted by hand."""
    rng = np.random.default_rng(2)
    duration_s, rate, lost, seen = 40.0, 0.06, 0, []
    repeats, blinks = 1000, 30
    for _ in range(repeats):
        t = rng.exponential(1 / rate, 4 * blinks)
        first = np.sort((t[t < duration_s][:blinks] / FRAME_S).astype(int))
        merged = int((np.diff(first) <= 6).sum())
        lost += merged
        seen.append(len(first) - merged)
    told = watched(np.ones(1), 1)
    told = Watched(
        told.x_nm, told.y_nm, np.array(seen), told.cluster, told.frame, told.first_frame,
        told.length, 66.0,
    )  # fmt: skip
    predicted = coincidences(told, FRAME_S, duration_s, rate).mean()
    assert predicted == pytest.approx(lost / repeats, rel=0.05)


def test_the_least_light_is_at_the_threshold():
    """Spots of least_photons in noise are found in half to three quarters of all frames (here
    0.64); a third less light in less than a fifth, a third more nearly always."""
    from nanophantom.analysis.localize import localize
    from nanophantom.analysis.spot_detection import pixel_gaussian

    least = least_photons(IMAGING, (SIZE, SIZE), 3.0, 1e-6)
    rng = np.random.default_rng(3)
    n = 600
    spot = [pixel_gaussian(12, 1.0, d) for d in (0.1, -0.3)]

    def share(photons):
        light = np.full((n, 25, 25), 3.0) + photons * np.outer(*spot)
        electrons = rng.poisson(0.8 * light) + 1.5 * rng.standard_normal(light.shape)
        movie = np.rint(100 + 2.0 * electrons).astype(np.uint16)
        found = localize(movie, IMAGING, model="fixed", false_positives=1e-6)
        near = np.hypot(found["x_nm"] - 1200, found["y_nm"] - 1200) < 200
        return len(np.unique(found["frame"][near])) / n

    assert 0.5 < share(least) < 0.75
    assert share(0.67 * least) < 0.2
    assert share(1.33 * least) > 0.9


def test_thinned_blinks_are_binomial():
    """Of a Poisson number, each kept with chance 0.7, Poisson with 0.7 of the mean is left."""
    n = np.arange(60)
    kept = thinned(stats.poisson.pmf(n, 5.0)[None], 0.7)[0]
    np.testing.assert_allclose(kept, stats.poisson.pmf(n, 3.5), atol=1e-12)


def test_sites_are_counted_by_dark_times():
    """200 visits in 500 s of dark at 0.1 /s a site: 4 sites, 14 % either way at 95 %."""
    kinetics = {"on_time_s": 0.5, "off_time_s": 10.0, "photons_per_burst": 5000.0}
    evidence = Evidence(np.array([200.0]), np.zeros(1), np.array([500.0]), 1e-9, 0.0, 0.1, 6000)
    counted = count(evidence, kinetics)
    np.testing.assert_allclose(counted["molecules"], 4.0, rtol=1e-6)
    np.testing.assert_allclose((counted["high"] - counted["low"]) / 4, 4 / np.sqrt(200), rtol=0.05)


def test_settings_without_kinetics_are_refused():
    movie = np.full((4, 32, 32), 102, np.uint16)
    with pytest.raises(ValueError, match="calibrated dye_kinetics"):
        find(movie, {**IMAGING, "frame_period_s": FRAME_S})

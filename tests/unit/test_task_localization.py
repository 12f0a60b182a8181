"""The task localization and the report of a movie, on small movies of known dyes."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nanophantom.instruments.smlm import SMLM
from nanophantom.instruments.widefield import Widefield
from nanophantom.simcore.emitters import Dyes
from nanophantom.simcore.experiment import Experiment
from nanophantom.simcore.light.fluorophores import Fluorophore
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import Specimen
from nanophantom.validation import figures
from nanophantom.validation.localization_figures import _where
from nanophantom.validation.movie_figures import burst_times, of_movie, projections, survival
from nanophantom.validation.tasks import find_task

TASK = find_task("localization")
BEAD = {"photons_per_s_per_kw_per_cm2": 1e5}
BLINKER = {
    "photons_per_s_per_kw_per_cm2": 1e5,
    "states": [{"name": "on", "brightness": 1.0}, {"name": "off"}],
    "transitions": [
        {"source": "on", "to": "off", "rate_per_s": 30.0},
        {"source": "off", "to": "on", "rate_per_s": 15.0},
    ],
    "start": "stationary",
}


class Beads(Specimen):
    """Dyes at chosen places, in nm from the middle of the view, and of chosen brightness."""

    def __init__(self, places_nm, brightness=1.0, dye=BEAD):
        self.places = np.atleast_2d(np.asarray(places_nm, float))
        self.brightness = np.broadcast_to(np.asarray(brightness, float), len(self.places))
        self.fluorophore = Fluorophore.model_validate(dye)

    def dyes_within(self, window):
        numbers = np.arange(len(self.places), dtype=np.int32)
        everything = Dyes(self.places, numbers, numbers, numbers, np.array(self.brightness))
        return everything.select(window.holds(self.places[:, 0], self.places[:, 1]))

    def truth(self):
        return {}


def movie(specimen, seed=1, **knobs):
    camera = {"width_px": 48, "height_px": 40, **knobs.pop("camera", {})}
    usual = {"n_frames": 4, "exposure_s": 0.02, "background": {"photons": 10.0}, "camera": camera}
    return Experiment.of(SMLM.model_validate({**usual, **knobs}).plan(specimen, Run(seed)))


GRID = [[1000.0 * i + 17.0 * j, 1000.0 * j + 23.0 * i, 0.0] for i in (-1, 0, 1) for j in (-1, 0, 1)]
PLAIN = movie(Beads(GRID))
"""Nine emitters of 1600 photons in each of four frames, a micrometre apart."""


def answer(data=PLAIN, **more):
    """Return the truth as an answer."""
    true = data.frame_table("emissions")
    told = {name: np.asarray(true[name], float) for name in ("frame", "x_nm", "y_nm")}
    return {**told, **more}


def without(told, rows):
    return {name: np.delete(values, rows) for name, values in told.items()}


def test_perfect_answer_has_perfect_scores():
    true = PLAIN.frame_table("emissions")
    told = answer(z_nm=true["z_nm"], photons=true["photons"], background=true["background"])
    values = TASK.grade(told, PLAIN).values()
    for name in ("jaccard", "recall", "precision", "f1", "jaccard.all", "jaccard.optimal",
                 "recall.isolated"):  # fmt: skip
        assert values[name] == 1, name
    assert values["efficiency"] == values["efficiency.all"] == values["efficiency.axial"] == 100
    for name in ("rmse_xy", "rmse_z", "bias_x", "bias_y", "bias_z", "crlb_ratio", "photons_bias",
                 "photons_rmse", "background_rmse"):  # fmt: skip
        assert values[name] == pytest.approx(0, abs=1e-6), name


def test_missed_and_false_ones_are_counted():
    """Six of 36 missed, three of 33 false: J 30/39, recall 30/36, precision 30/33."""
    told = without(answer(), np.arange(6))
    told = {name: np.r_[values, [2.0, 500.0, 2000.0] if name == "x_nm" else
                        [2.0, 2500.0, 2600.0] if name == "y_nm" else [0.0, 1.0, 2.0]]
            for name, values in told.items()}  # fmt: skip
    told["x_nm"][-3] = 1500.0
    told["y_nm"][-3] = 1400.0
    scores = TASK.grade(told, PLAIN)
    np.testing.assert_allclose(
        [scores[name].value for name in ("jaccard", "recall", "precision", "f1", "jaccard.all")],
        [30 / 39, 30 / 36, 30 / 33, 60 / 69, 30 / 39],
    )
    assert scores["efficiency"].value == pytest.approx(100 - 100 * 9 / 39)


def test_errors_are_split_and_told_apart():
    """3 nm right, 4 nm up: rmse 5 nm, all of it bias; one frame late finds nothing."""
    told = answer()
    shifted = {**told, "x_nm": told["x_nm"] + 3, "y_nm": told["y_nm"] - 4}
    scores = TASK.grade(shifted, PLAIN)
    assert scores["rmse_xy"].value == pytest.approx(5, rel=1e-6)
    assert scores["rmse_xy"].spread == pytest.approx(0, abs=1e-4)
    assert scores["bias_x"].value == pytest.approx(3)
    assert "right" in scores["bias_x"].hint
    assert scores["bias_y"].value == pytest.approx(4)
    assert "up" in scores["bias_y"].hint
    assert scores["efficiency"].value == pytest.approx(95)
    scores = TASK.grade({**told, "frame": (told["frame"] + 1) % 4, "x_nm": told["x_nm"] + 300},
                        PLAIN)  # fmt: skip
    assert scores["jaccard"].value == 0
    assert scores["rmse_xy"].value is None


def test_light_is_compared():
    """A tenth too much light and one photon of background too little."""
    true = PLAIN.frame_table("emissions")
    told = answer(photons=1.1 * true["photons"], background=true["background"] - 1.0)
    scores = TASK.grade(told, PLAIN)
    assert scores["photons_bias"].value == pytest.approx(10)
    assert "more" in scores["photons_bias"].hint
    assert scores["photons_rmse"].value == pytest.approx(160, rel=1e-4)
    assert scores["background_rmse"].value == pytest.approx(1, rel=1e-4)


def test_dim_and_cut_emitters_may_be_found():
    """One of 48 photons (signal-to-noise below 5 on 10 a pixel) and one at the border: told or not,
    neither right nor wrong, except for the scores that count all."""
    places = [[0.0, 0.0, 0.0], [-800.0, 0.0, 0.0], [-2380.0, 500.0, 0.0]]
    data = movie(Beads(places, [1.0, 0.03, 1.0]), n_frames=2)
    told = answer(data)
    scores = TASK.grade(told, data)
    assert (scores["jaccard"].value, scores["jaccard"].n, scores["jaccard.all"].n) == (1.0, 2, 6)
    few = without(told, np.flatnonzero(told["x_nm"] < 2000.0))
    scores = TASK.grade(few, data)
    assert (scores["jaccard"].value, scores["jaccard.all"].value) == (1.0, 1 / 3)
    assert scores.notes[0].startswith("4 of 6 emitters")
    # a find at the border that belongs to nothing isn't false either
    few = {k: np.r_[v, {"frame": 0, "x_nm": 4690.0, "y_nm": 10.0}[k]] for k, v in few.items()}
    assert TASK.grade(few, data)["precision"].value == 1
    assert TASK.grade(few, data)["jaccard.all"].value == 2 / 7


def test_a_find_of_a_dim_neighbour_does_not_cost_the_bright_one():
    """A dim emitter 100 nm beside a bright one: a find nearer to the dim one is still the hit."""
    data = movie(Beads([[0.0, 0.0, 0.0], [100.0, 0.0, 0.0]], [1.0, 0.03]), n_frames=1)
    told = answer(data)
    between = {"frame": [0.0], "x_nm": [told["x_nm"].min() + 70], "y_nm": told["y_nm"][:1]}
    scores = TASK.grade(between, data)
    assert scores["recall"].value == 1
    assert scores["rmse_xy"].value == pytest.approx(70, rel=1e-5)
    assert scores["rmse_xy.all"].value == pytest.approx(30, rel=1e-5)


def test_coverage_counts_quoted_uncertainties():
    """Errors of 2 nm in x and none in y: quoted as 1 nm half of the coordinates hold, as 1.1 all;
    separate ones are taken where they are given."""
    told = answer()
    told["x_nm"] = told["x_nm"] + 2.0
    one = np.ones(len(told["x_nm"]))
    cover = lambda **more: TASK.grade({**told, **more}, PLAIN)["coverage"].value  # noqa: E731
    assert cover(uncertainty_nm=one) == 0.5
    assert cover(uncertainty_nm=1.1 * one) == 1
    assert cover(uncertainty_nm=one, uncertainty_x_nm=1.1 * one) == 1
    assert cover(uncertainty_x_nm=one, uncertainty_y_nm=one) == 0.5


def test_heights_are_above_the_focal_plane():
    """Focus 150 nm above the coverslip, dyes 200 nm: 50 nm is right; 500 nm more matches nothing.

    The bound of astigmatic heights stands beside them."""
    psf = {"type": "gaussian", "sigma_nm": 130.0, "focal_depth_nm": 350.0, "astigmatism_nm": 200.0}
    places = np.array(GRID) + np.array([0.0, 0.0, 200.0])
    data = movie(Beads(places), n_frames=1, focus_nm=150.0, psf=psf)
    told = answer(data, z_nm=np.full(9, 60.0), uncertainty_z_nm=np.full(9, 6.0))
    scores = TASK.grade(told, data)
    assert scores["bias_z"].value == pytest.approx(10, rel=1e-5)
    assert "high" in scores["bias_z"].hint
    assert scores["efficiency.axial"].value == pytest.approx(95, rel=1e-5)
    assert scores["coverage_z"].value == 1
    assert 10 < scores["rmse_z"].limit < 25
    assert scores["crlb_ratio_z"].value == pytest.approx(10 / scores["rmse_z"].limit, rel=0.02)
    assert TASK.grade({**told, "z_nm": told["z_nm"] + 500.0}, data)["recall"].value == 0


def test_the_own_algorithm_reaches_the_bound_of_noise():
    """Isolated spots of a well known width: errors within 3 % of the Cramér-Rao bound (1 % standard
    error), 95 % of the quoted intervals hold (0.3 % standard error), no bias by the pixels."""
    rng = np.random.default_rng(7)
    places = np.array([[950.0 * i, 950.0 * j, 0.0] for i in range(-2, 3) for j in range(-2, 3)])
    places[:, :2] += rng.uniform(-60, 60, (25, 2))
    data = movie(Beads(places), seed=2, n_frames=100, camera={"width_px": 56, "height_px": 56})
    scores = TASK.grade(TASK.answer(data.measured()), data)
    assert scores["jaccard"].value == 1
    assert scores["crlb_ratio"].n == 2500
    assert scores["crlb_ratio"].value == pytest.approx(1, abs=0.03)
    assert scores["coverage"].value == pytest.approx(0.95, abs=0.01)
    assert scores["rmse_xy"].value == pytest.approx(scores["rmse_xy"].limit, rel=0.03)
    assert "p = " in scores["pixel_bias"].hint
    assert scores["pixel_bias"].value < 0.5


@pytest.mark.parametrize(
    ("change", "words"),
    [({"frame": np.full(36, 4.0)}, r"whole frames from 0 to 3; frame\[0\] is 4"),
     ({"frame": np.full(36, 0.5)}, r"frame\[0\] is 0.5"),
     ({"uncertainty_nm": np.zeros(36)}, "uncertainty_nm above zero"),
     ({"x_nm": np.full(36, np.nan)}, "all finite")],
)  # fmt: skip
def test_answers_that_can_not_be_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        TASK.grade({**answer(), **change}, PLAIN)


def test_two_cameras_and_empty_answers():
    """Photons shared by two cameras aren't judged; nothing found is graded, too."""
    data = movie(Beads(GRID), n_frames=1, biplane={})
    scores = TASK.grade(answer(data, photons=np.full(9, 800.0)), data)
    assert "photons_rmse" not in scores.values()
    assert scores["rmse_xy"].limit is None
    assert any("Two cameras" in note for note in scores.notes)
    nothing = {name: np.zeros(0) for name in TASK.columns}
    scores = TASK.grade(nothing, PLAIN)
    assert scores["recall"].value == 0
    assert scores["precision"].value is None


def test_without_emitters_asked_for_nothing_is_scored():
    """One dim emitter and a false find: no number reads as 0, and the hint says why."""
    data = movie(Beads([[0.0, 0.0, 0.0]], 0.03), n_frames=1)
    false = {"frame": [0.0], "x_nm": [1000.0], "y_nm": [1000.0]}
    scores = TASK.grade(false, data)
    for name in ("jaccard", "recall", "precision", "f1", "rmse_xy", "jaccard.optimal"):
        assert scores[name].value is None, name
        assert "no emitter shone brightly enough" in scores[name].hint
    assert scores["jaccard.all"].value == 0


def test_bursts_and_dark_times_are_those_of_the_dyes():
    """Two rates of one burst make one; the last gap of a living dye is cut by the movie's end, that
    of a bleached one is none."""
    blinks = {
        "dye": np.array([7, 7, 7, 3, 5]),
        "blink": np.array([0, 0, 1, 0, 0]),
        "start_s": np.array([1.0, 2.0, 6.0, 4.0, 9.0]),
        "duration_s": np.array([1.0, 0.5, 1.0, 2.0, 1.0]),
        "photons_per_s": np.array([10.0, 20.0, 10.0, 10.0, 10.0]),
    }
    dyes = {"dye": np.array([7, 3, 5]), "bleached_s": np.array([np.inf, 6.0, np.inf])}
    times = burst_times(blinks, dyes, 10.0)
    assert times.on_s.tolist() == [2.0, 1.0, 1.5, 1.0]  # of dyes 3, 5, 7
    assert times.on_cut.tolist() == [False, True, False, False]
    assert times.photons.tolist() == [20.0, 10.0, 20.0, 10.0]
    assert times.off_s.tolist() == [3.5, 3.0]
    assert times.off_cut.tolist() == [False, True]


def test_survival_makes_up_for_times_cut_short():
    """Kaplan and Meier by hand: 1, 2 (cut), 3: 2/3 live beyond 1, none beyond 3; and exponential
    times of mean 1 cut at 0.7 still lie on exp(-t)."""
    t, longer = survival(np.array([3.0, 1.0, 2.0]), np.array([False, False, True]))
    np.testing.assert_allclose(t, [0, 1, 3])
    np.testing.assert_allclose(longer, [1, 2 / 3, 0], atol=1e-12)
    drawn = np.random.default_rng(8).exponential(1.0, 20_000)
    t, longer = survival(np.minimum(drawn, 0.7), drawn > 0.7)
    np.testing.assert_allclose(longer, np.exp(-t), atol=4 * 0.5 / np.sqrt(20_000))


def test_projections_read_frame_by_frame():
    frames = PLAIN.signal("movie").astype(float)
    mean, highest, used = projections(PLAIN)
    np.testing.assert_allclose(mean, frames.mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(highest, frames.max(axis=0))
    assert used == 4


def drawn(plates):
    for plate in plates:
        FigureCanvasAgg(plate.figure).draw()
    return [plate.title for plate in plates]


def test_figures_can_be_drawn():
    told = TASK.answer(PLAIN.measured())
    titles = drawn(TASK.figures(PLAIN, told, TASK.grade(told, PLAIN)))
    assert len(titles) == 5
    nothing = {name: np.zeros(0) for name in TASK.columns}
    assert len(drawn(TASK.figures(PLAIN, nothing, TASK.grade(nothing, PLAIN)))) == 2


def test_the_report_of_a_movie_can_be_drawn():
    drift = {"speed_nm_per_s": 100.0}
    data = movie(Beads(GRID, dye=BLINKER), n_frames=30, drift=drift)
    titles = drawn(figures.of_dataset(data))
    assert titles[:3] == ["Frames of the movie", "All frames together, and the dyes",
                          "Emitters against time (truth)"]  # fmt: skip
    assert "Drift (truth)" in titles
    FigureCanvasAgg(figures.thumbnail(data)).draw()


def only(plates, title):
    return next(plate for plate in plates if plate.title == title)


def test_the_busiest_frames_are_shown():
    """The first of 30, and the two with most emitters; its expectation on its own grey scale."""
    data = movie(Beads(GRID, dye=BLINKER), n_frames=30)
    emissions = data.frame_table("emissions")
    n = np.bincount(emissions["frame"][emissions["photons"] > 0], minlength=30)
    first, expected, *best = only(of_movie(data), "Frames of the movie").figure.axes
    assert (first.get_title(), expected.get_title()) == ("frame 0", "frame 0: expectation")
    assert first.images[0].get_clim() == expected.images[0].get_clim()
    shown = [int(axes.get_title().split()[1]) for axes in best]
    assert shown == sorted(shown)
    assert sorted(n[shown]) == sorted(n[1:])[-2:]
    assert n[shown].min() > np.median(n)


def test_frames_without_light_are_called_so():
    dark = only(of_movie(movie(Beads([[0.0, 0.0, 0.0]], 0.0))), "Frames of the movie")
    assert "No dye shines in any frame shown" in dark.caption
    assert "Each spot" in only(of_movie(PLAIN), "Frames of the movie").caption


def test_maps_that_are_the_same_everywhere_are_left_out():
    tables = {"camera_1": {"offset_map": np.full((8, 8), 100.0), "defects": np.zeros((8, 8)),
                           "gain_map": 1 + 0.01 * np.arange(64.0).reshape(8, 8)}}  # fmt: skip
    data = SimpleNamespace(
        n_frames=PLAIN.n_frames, settings=PLAIN.settings, signals=PLAIN.signals,
        truth_tables=(*PLAIN.truth_tables, "camera_1"), signal=PLAIN.signal,
        truth=lambda name: tables[name] if name in tables else PLAIN.truth(name),
        frame_table=PLAIN.frame_table,
    )  # fmt: skip
    (axes,) = only(of_movie(data), "The camera (truth)").figure.axes
    assert axes.get_title() == "gain, relative"
    del tables["camera_1"]["gain_map"]
    assert "The camera (truth)" not in [plate.title for plate in of_movie(data)]


def test_the_words_about_a_correlation_are_true_of_its_curve():
    """A line from 1 at 0 to 0 at 0.1 / nm is 1/2 at 20 nm; a dip before 10 nm is told, too."""
    k = np.arange(1, 101) / 1000
    line = 1 - 10 * k
    assert _where(k, line, 0.5, "1/2", 20.0) == "1/2 at 20.0 nm"
    dip = np.where((k > 0.0195) & (k < 0.0255), -0.2, np.where(k < 0.08, 0.9, 0.0))
    words = _where(k, dip, 1 / 7, "1/7", 12.4)
    crossing_nm = 1 / (0.019 + 0.001 * (0.9 - 1 / 7) / 1.1)
    assert words.startswith(f"first below 1/7 at {crossing_nm:.1f} nm; ")
    assert words.endswith("above up to 12.4 nm")
    assert _where(k, line, 0.5, "1/2", None) == "nothing is resolved"


def test_several_microscopes_are_drawn_one_after_the_other():
    """Each figure's title opens with its microscope's name."""

    def renamed(name, data):
        return {f"{name}_{signal}": data.signal(signal) for signal in data.signals}

    signals = renamed("left", PLAIN) | renamed("right", PLAIN)
    tables = {f"{n}_{t}": PLAIN.truth(t) for n in ("left", "right") for t in PLAIN.truth_tables}
    n = PLAIN.n_frames
    starts = {"left": 0, "right": n}

    def emissions(name, start=0, stop=None):
        first = starts[name.split("_")[0]]
        table = PLAIN.frame_table("emissions", start - first, stop - first)
        return {**table, "frame": table["frame"] + first}

    data = SimpleNamespace(
        n_frames=2 * n,
        settings={"left": dict(PLAIN.settings), "right": dict(PLAIN.settings)},
        signals=tuple(signals),
        frames_of=lambda s: range(starts[s.split("_")[0]], starts[s.split("_")[0]] + n),
        truth_tables=tuple(tables),
        frame_tables=("left_emissions", "right_emissions"),
        truth=lambda table: tables[table],
        signal=lambda name, a=0, b=None: signals[name][a:b],
        frame_table=emissions,
    )
    own, titles = ([p.title for p in figures.of_dataset(d)] for d in (PLAIN, data))
    assert titles == [f"{name} — {title}" for name in ("left", "right") for title in own]
    FigureCanvasAgg(figures.thumbnail(data)).draw()


def test_widefield_images_show_their_dyes():
    """Photons, not electrons; and where the dyes are."""
    recipe = Widefield.model_validate({"camera": {"width_px": 24, "height_px": 20}, "n_frames": 1})
    data = Experiment.of(recipe.plan(Beads([[0.0, 0.0, 0.0], [9e3, 0.0, 0.0]]), Run(1)))
    plates = figures.of_dataset(data)
    assert "Dyes (truth)" in drawn(plates)
    assert "photons arrive by chance" in plates[0].caption
    assert next(p for p in plates if p.title == "Dyes (truth)").caption.count(": 1 in view") == 1

"""The task density on made-up truth: curves, categories, finds off the structure, row by row."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nanophantom.analysis import density_series
from nanophantom.validation.density_scores import curve, falls_below
from nanophantom.validation.tasks import find_task

TASK = find_task("density")
SIDE, PIXEL, SIGMA, FRAMES = 64, 100.0, 100.0, 40
SETTINGS = {
    "pixel_size_nm": PIXEL,
    "psf_sigma_nm": SIGMA,
    "camera": {"offset_adu": 100.0, "adu_per_electron": 1.0, "quantum_efficiency": 1.0},
}


def made_up(places_nm, frame, dye, emitted, *, photons=1000.0, frames=FRAMES, side=SIDE):
    """Return what a dataset tells of dyes at places, those of `dye` shining in `frame`."""
    where = np.asarray(places_nm, float)
    n = len(frame)
    light = np.broadcast_to(photons, n).astype(float)
    emissions = {
        "frame": np.asarray(frame), "dye": np.asarray(dye), "x_nm": emitted[:, 0],
        "y_nm": emitted[:, 1], "z_nm": np.zeros(n), "photons": light,
        "background": np.full(n, 5.0),
    }  # fmt: skip
    tables = {
        "dyes": {"dye": np.arange(len(where)), "x_nm": where[:, 0], "y_nm": where[:, 1]},
        "drift": {"dx_nm": np.zeros(frames), "dy_nm": np.zeros(frames)},
    }
    movie = np.full((frames, side, side), 105.0)
    return SimpleNamespace(
        settings=SETTINGS, n_frames=frames, truth_tables=tuple(tables),
        frame_tables=("emissions",), signals=("movie",), truth=tables.__getitem__,
        frame_table=lambda name: emissions, signal=lambda name, a, b: movie[a:b],
    )  # fmt: skip


def even(per_frame, seed=3, n_dyes=4000, **more):
    """Return dyes spread evenly, so many shining in each frame, or in frame i per_frame[i]."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(-0.5 * PIXEL, (SIDE - 0.5) * PIXEL, (n_dyes, 2))
    numbers = np.broadcast_to(per_frame, FRAMES)
    frame = np.repeat(np.arange(FRAMES), numbers)
    dye = np.concatenate([rng.choice(n_dyes, n, replace=False) for n in numbers])
    return made_up(places, frame, dye, places[dye], **more)


RAMP = even(np.geomspace(4, 160, FRAMES).astype(int))
"""From 0.1 to 4 emitters per square micrometre."""


def answer(data, **more):
    true = data.frame_table("emissions")
    return {name: np.asarray(true[name], float) for name in ("frame", "x_nm", "y_nm")} | more


def test_perfect_answer_has_perfect_scores():
    values = TASK.grade(answer(RAMP), RAMP).values()
    for regime in ("sparse", "medium", "dense"):
        assert values[f"jaccard_{regime}"] == 1
        assert values[f"efficiency_{regime}"] == 100
        assert values[f"rmse_xy_{regime}"] == values[f"off_structure_{regime}"] == 0
    assert values["recall_alone"] == values["recall_overlapping"] == 1
    assert values["density_limit"] is None
    assert "above 0.7 up to" in TASK.grade(answer(RAMP), RAMP)["density_limit"].hint


def test_share_of_emitters_alone_is_that_of_chance():
    """20 emitters on 128 x 128 pixels, none within 5 pixels: exp(-pi rho r^2) = 0.909."""
    rng = np.random.default_rng(5)
    frames, side = 200, 128
    places = rng.uniform(-50.0, side * PIXEL - 50.0, (20_000, 2))
    frame, dye = np.repeat(np.arange(frames), 20), rng.permutation(20_000)[: 20 * frames]
    settings = {**SETTINGS, "psf_sigma_nm": 500.0 / 3.0}
    data = made_up(places, frame, dye, places[dye], photons=1e5, frames=frames, side=side)
    data.settings = settings
    part = curve(TASK.compare(answer(data), data)[""], np.array([0.0, np.inf]))
    expected = np.exp(-np.pi * 20 / 128**2 * 25)
    assert expected == pytest.approx(0.909, abs=5e-4)
    assert part.alone_if_even[0] == pytest.approx(expected, rel=1e-6)
    assert part.alone_expected[0] == pytest.approx(expected, abs=5e-3)
    assert part.alone[0] == pytest.approx(expected, abs=3 * 0.291 / np.sqrt(0.85 * 4000))


def test_chance_of_being_alone_knows_the_structure():
    """On a line of 40 dyes a micrometre, exp(-2 r lambda), not that of an even density."""
    rng = np.random.default_rng(6)
    x = np.arange(-50.0, 6351.0, 25.0)
    places = np.column_stack([x, np.full(len(x), 3150.0)])
    frame = np.repeat(np.arange(FRAMES), 10)
    dye = np.concatenate([rng.choice(len(x), 10, replace=False) for _ in range(FRAMES)])
    data = made_up(places, frame, dye, places[dye])
    part = curve(TASK.compare(answer(data), data)[""], np.array([0.0, np.inf]))
    # 24 dyes within 300 nm; 9 of the 256 others shine with an emitter
    assert part.alone_expected[0] == pytest.approx(np.exp(-24 * 9 / 256), rel=1e-9)
    assert part.alone[0] == pytest.approx(part.alone_expected[0], abs=0.08)
    assert part.alone_if_even[0] > part.alone[0] + 0.2


def test_one_find_for_each_heap_falls_below_where_heaps_begin():
    """Those with another within 250 nm are left out: sparse frames stay good, dense ones don't."""
    one = TASK.compare(answer(RAMP), RAMP)[""]
    told = {name: values[~one.near] for name, values in answer(RAMP).items()}
    scores = TASK.grade(told, RAMP)
    values = scores.values()
    assert values["recall_overlapping"] == 0
    assert values["jaccard_sparse"] > 0.9 > values["jaccard_medium"] > values["jaccard_dense"]
    line = curve(TASK.compare(told, RAMP)[""])
    at = scores["density_limit"].value
    # recall is the chance to be alone, exp(-pi rho 0.3^2) = 0.7 at rho = 1.26 per um^2
    assert at == pytest.approx(-np.log(0.7) / (np.pi * 0.3**2), rel=0.15)
    assert line.density.min() < at < line.density.max()


def test_crossing_is_interpolated_over_the_logarithm():
    density, jaccard = np.array([0.1, 1.0, 4.0]), np.array([0.9, 0.8, 0.6])
    assert falls_below(density, jaccard) == pytest.approx(2.0)
    assert falls_below(density, jaccard + 0.2) is None
    assert falls_below(density, jaccard - 0.3) is None


def test_finds_between_structures_are_counted():
    """Two lines 300 nm apart; of 400 finds 40 lie between them, all still near an emitter."""
    x = np.arange(300.0, 6000.0, 20.0)
    places = np.concatenate([np.column_stack([x, np.full(len(x), y)]) for y in (3000.0, 3300.0)])
    rng = np.random.default_rng(8)
    dye = np.concatenate([rng.choice(len(places), 10, replace=False) for _ in range(FRAMES)])
    data = made_up(places, np.repeat(np.arange(FRAMES), 10), dye, places[dye])
    told = answer(data)
    told["y_nm"][::10] = 3150.0
    values = TASK.grade(told, data).values()
    assert values["off_structure_sparse"] == pytest.approx(0.1)
    assert values["jaccard_sparse"] == 1


def test_analyses_are_told_apart():
    """The first misses every other emitter, the second is 30 nm off."""
    told = answer(RAMP)
    n = len(told["frame"])
    some = {name: values[::2] for name, values in told.items()}
    both = {name: np.concatenate([some[name], values]) for name, values in told.items()}
    both["analysis"] = np.repeat([0, 1], [len(some["frame"]), n])
    both["x_nm"][len(some["frame"]) :] += 30.0
    values = TASK.grade(both, RAMP).values()
    assert values["jaccard_sparse.single"] == pytest.approx(0.5, abs=0.06)
    assert values["rmse_xy_sparse.single"] == 0
    assert values["jaccard_sparse.multiple"] == pytest.approx(1.0, abs=0.01)
    assert values["rmse_xy_sparse.multiple"] == pytest.approx(30.0, rel=0.03)
    assert values["density_limit.single"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frame": 40.0}, "whole frames from 0 to 39"),
        ({"analysis": 2.0}, "analysis 0 .single. or 1 .multiple."),
        ({"uncertainty_nm": 0.0}, "uncertainty_nm above zero"),
        ({"x_nm": np.nan}, "all finite"),
    ],
)
def test_wrong_answers_are_refused_in_one_line(change, message):
    told = answer(RAMP)
    n = len(told["frame"])
    told |= {name: np.full(n, value) for name, value in change.items()}
    with pytest.raises(ValueError, match=message):
        TASK.grade(told, RAMP)


def test_nothing_found_is_graded():
    values = TASK.grade({name: np.zeros(0) for name in TASK.columns}, RAMP).values()
    assert values["jaccard_dense"] == values["recall_alone"] == values["off_structure_dense"] == 0
    assert "rmse_xy_dense" not in values


def test_figures_can_be_drawn():
    """Frames, curves, neighbours and two images; curves name the density where J falls to 0.7."""
    one = TASK.compare(answer(RAMP), RAMP)[""]
    told = {name: values[~one.near] for name, values in answer(RAMP).items()}
    plates = TASK.figures(RAMP, told, TASK.grade(told, RAMP))
    assert len(plates) == 5
    curves = plates[1].figure
    FigureCanvasAgg(curves).draw()
    limit = TASK.grade(told, RAMP)["density_limit"].value
    assert [text.get_text() for text in curves.axes[0].texts] == [f"{limit:.2g}"]


def test_adapter_gives_both_tables_as_one():
    """Six spots far apart: both analyses find the same, in the order single, multiple."""
    rng = np.random.default_rng(9)
    y, x = np.mgrid[:24, :36]
    places = [(6.2, 6.1), (18.4, 5.7), (29.8, 6.3), (6.0, 17.6), (17.7, 18.2), (30.1, 17.9)]
    light = 5.0 + sum(
        1000.0 / (2 * np.pi) * np.exp(-((x - a) ** 2 + (y - b) ** 2) / 2) for a, b in places
    )
    movie = 100.0 + rng.poisson(light, (2, 24, 36)).astype(float)
    told = density_series.both(movie, SETTINGS)
    for number in (density_series.SINGLE, density_series.MULTIPLE):
        mine = told["analysis"] == number
        assert (np.bincount(told["frame"][mine]) == 6).all()
        found = np.column_stack([told["x_nm"][mine], told["y_nm"][mine]]) / PIXEL
        distance = np.hypot(*(found[:, None] - np.array(places)).transpose(2, 0, 1)).min(axis=1)
        assert distance.max() < 0.2  # 5 standard errors
    assert {len(column) for column in told.values()} == {24}

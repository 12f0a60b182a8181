"""Surfaces for probe microscopes: features lie where the truth says, the same in every window."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from nanophantom.samples.building.surfaces import (
    SurfaceSpecimen,
    draw_sizes,
    places_without_overlap,
)
from nanophantom.samples.grating import Grating
from nanophantom.samples.height_map import HeightMap
from nanophantom.samples.rough_surface import RoughSurface
from nanophantom.samples.spheres import Spheres
from nanophantom.samples.spikes import Spikes
from nanophantom.samples.step import Step
from nanophantom.simcore.atoms import Window
from nanophantom.simcore.height_files import read_height_map
from nanophantom.simcore.runs import Run
from nanophantom.simcore.surfaces import HasSurface

RECIPES = {
    "step": lambda: Step(direction_deg=27, edge_width_nm=3),
    "upright step": lambda: Step(direction_deg=27),
    "grating": lambda: Grating(pitch_nm=60, widths_nm=(30, 20), direction_deg=-40),
    "pits": lambda: Grating(
        features="pits", pitch_nm=60, widths_nm=(40,), sidewall_angle_deg=70, direction_deg=12
    ),
    "spheres": lambda: Spheres(number=30, spread=1.2, period_nm=250),
    "spikes": lambda: Spikes(number=8, period_nm=250),
    "rough": lambda: RoughSurface(period_nm=250),
    "self-affine": lambda: RoughSurface(period_nm=250, autocorrelation="self-affine"),
    "map": lambda: HeightMap(file="spheres.gsf"),
}


def heights_at(specimen: SurfaceSpecimen, x: Any, y: Any) -> np.ndarray:
    """Return heights at single points, by the public way: a window of one sample each."""
    points = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
    found = [
        specimen.surface_within(Window(px, px + 1, py, py + 1), (1, 1)).heights_nm[0, 0]
        for px, py in zip(*(p.ravel() for p in points), strict=True)
    ]
    return np.reshape(found, points[0].shape)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_the_same_places_have_the_same_heights_whatever_the_window(recipe: Callable) -> None:
    specimen = recipe().make(Run(3))
    assert isinstance(specimen, HasSurface)
    wide = specimen.surface_within(Window(-151.3, 148.7, -120.7, 179.3), (150, 200))
    # the same samples of a small window, and one sampled three times as finely
    part = specimen.surface_within(Window(-31.3, 28.7, -40.7, 19.3), (30, 40))
    np.testing.assert_allclose(part.heights_nm, wide.heights_nm[40:70, 80:120], atol=1e-9)
    fine = specimen.surface_within(Window(-31.3, 28.7, -40.7, 19.3), (90, 120))
    np.testing.assert_allclose(fine.heights_nm[::3, ::3], part.heights_nm, atol=1e-9)
    assert wide.heights_nm.std() > 0
    again = pickle.loads(pickle.dumps(recipe().make(Run(3))))
    np.testing.assert_array_equal(
        again.surface_within(part.window, (30, 40)).heights_nm, part.heights_nm
    )


@pytest.mark.parametrize("kind", ["spheres", "spikes", "rough", "self-affine"])
def test_a_tile_repeats_itself_without_a_seam(kind: str) -> None:
    specimen = RECIPES[kind]().make(Run(3))
    at = [
        specimen.surface_within(Window(x, x + 200, y, y + 160), (32, 40)).heights_nm
        for x, y in ((-30.3, 51.1), (-280.3, 51.1), (219.7, -448.9))
    ]
    np.testing.assert_allclose(at[1], at[0], atol=1e-9)
    np.testing.assert_allclose(at[2], at[0], atol=1e-9)


# --- steps


def test_the_default_steps_are_those_of_gold_111() -> None:
    # a = 0.40782 nm, a / sqrt(3)
    assert Step().step_height_nm == pytest.approx(0.40782 / np.sqrt(3), rel=1e-4)


@pytest.mark.parametrize("direction", [0.0, 90.0, -35.0])
@pytest.mark.parametrize("edge", [0.0, 6.0])
def test_steps_rise_where_and_by_what_the_truth_says(direction: float, edge: float) -> None:
    recipe = Step(
        n_steps=4,
        step_height_nm=2.5,
        terrace_width_nm=30,
        direction_deg=direction,
        edge_width_nm=edge,
    )
    specimen = recipe.make(Run(0))
    steps = specimen.truth()["steps"]
    up = np.array([np.cos(np.deg2rad(direction)), np.sin(np.deg2rad(direction))])
    across = np.array([-up[1], up[0]])
    for k in range(4):
        middle = np.array([steps["x_nm"][k], steps["y_nm"][k]]) + 11.0 * across
        below, above = (middle + s * (edge / 2 + 1e-6) * up for s in (-1, 1))
        assert heights_at(specimen, *below) == pytest.approx(steps["z_below_nm"][k])
        assert heights_at(specimen, *above) == pytest.approx(
            steps["z_below_nm"][k] + steps["height_nm"][k]
        )
        if edge:
            quarter = heights_at(specimen, *(middle - edge / 4 * up))
            assert quarter == pytest.approx(steps["z_below_nm"][k] + 2.5 / 4)
    np.testing.assert_allclose(np.diff(steps["position_nm"]), 30)
    assert steps["position_nm"].sum() == pytest.approx(0)
    assert heights_at(specimen, *(-1e4 * up)) == 0
    assert heights_at(specimen, *(1e4 * up)) == pytest.approx(10)


# --- gratings


@pytest.mark.parametrize("features", ["lines", "trenches"])
@pytest.mark.parametrize("angle", [90.0, 80.0])
def test_walls_of_a_grating_stand_where_the_truth_says(features: str, angle: float) -> None:
    recipe = Grating(
        features=features,
        pitch_nm=100,
        depth_nm=40,
        widths_nm=(60, 40, 20),
        sidewall_angle_deg=angle,
        direction_deg=30,
        shift_nm=7,
    )
    specimen = recipe.make(Run(0))
    truth = specimen.truth()
    edges, grating = truth["edges"], truth["grating"]
    run = 40 / np.tan(np.deg2rad(angle)) if angle < 90 else 0.0
    wider = 2 * run * (1 if features == "lines" else -1)
    np.testing.assert_allclose(grating["bottom_width_nm"], np.array([60, 40, 20]) + wider)
    feature = np.abs(edges["feature"]) <= 4
    up = np.array([np.cos(np.pi / 6), np.sin(np.pi / 6)])
    outward = edges["side"] * (1 if features == "lines" else -1)  # from the top to the floor
    for shift, level in ((-1e-6, 40.0), (1e-6, 0.0)):
        rim = edges["top_nm"] if level else edges["bottom_nm"]
        at = (rim + shift * outward)[feature]
        x, y = at * up[0] - 3 * up[1], at * up[1] + 3 * up[0]
        np.testing.assert_allclose(heights_at(specimen, x, y), level, atol=1e-5)
    if angle < 90:
        middle = ((edges["top_nm"] + edges["bottom_nm"]) / 2)[feature]
        half = heights_at(specimen, middle * up[0], middle * up[1])
        np.testing.assert_allclose(half, 20, atol=1e-9)
    # widths take turns, the first of them at the shifted origin
    first = edges["feature"] == 0
    assert edges["top_nm"][first].mean() == pytest.approx(7)
    assert np.ptp(edges["top_nm"][first]) == pytest.approx(60)
    assert np.ptp(edges["top_nm"][edges["feature"] == -1]) == pytest.approx(20)
    assert specimen.known == {"pitch_nm": 100}


@pytest.mark.parametrize(("features", "sign"), [("lines", 1), ("trenches", -1)])
def test_the_mean_height_of_a_grating_is_that_of_its_trapezoids(features: str, sign: int) -> None:
    recipe = Grating(
        features=features, pitch_nm=50, depth_nm=10, widths_nm=(20,), sidewall_angle_deg=70
    )
    surface = recipe.make(Run(0)).surface_within(Window(-25, 25, 0, 1), (1, 20000))
    area = 10 * (20 + sign * 10 / np.tan(np.deg2rad(70)))  # trapezoid: depth times mean width
    expected = area / 50 if sign > 0 else 10 - area / 50
    assert surface.heights_nm.mean() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("features", "sign"), [("pillars", 1), ("pits", -1)])
def test_pillars_and_pits_are_frustums(features: str, sign: int) -> None:
    """Their volume is h/3 (A1 + A2 + sqrt(A1 A2)), the mean height over a cell follows."""
    recipe = Grating(
        features=features, pitch_nm=50, depth_nm=10, widths_nm=(24,), sidewall_angle_deg=65
    )
    bottom = recipe.bottom_widths_nm[0]
    surface = recipe.make(Run(0)).surface_within(Window.centred(50, 50), (1000, 1000))
    volume = 10 / 3 * (24**2 + bottom**2 + 24 * bottom)
    expected = volume / 2500 if sign > 0 else 10 - volume / 2500
    assert surface.heights_nm.mean() == pytest.approx(expected, rel=1e-5)
    assert surface.heights_nm[500, 500] == (10 if sign > 0 else 0)


# --- spheres and spikes


def test_spheres_have_the_profile_of_a_sphere_above_its_equator_and_its_shadow_below() -> None:
    specimen = Spheres(number=12, spread=1.3, period_nm=400, gap_nm=2).make(Run(1))
    told = specimen.truth()["particles"]
    radius = told["diameter_nm"] / 2
    np.testing.assert_allclose(
        heights_at(specimen, told["x_nm"], told["y_nm"]), told["height_nm"], atol=1e-9
    )
    for share in (0.3, 0.8, 0.999):
        x = told["x_nm"] + share * radius * np.cos(1.0)
        y = told["y_nm"] + share * radius * np.sin(1.0)
        expected = radius * (1 + np.sqrt(1 - share**2))
        np.testing.assert_allclose(heights_at(specimen, x, y), expected, rtol=1e-9)
    x = told["x_nm"] + 1.001 * radius * np.cos(1.0)
    y = told["y_nm"] + 1.001 * radius * np.sin(1.0)
    assert (heights_at(specimen, x, y) == 0).all()
    # no two nearer than the gap, over the seams too
    d = np.stack([told["x_nm"], told["y_nm"]], axis=1)
    d = d[:, None] - d
    d -= 400 * np.round(d / 400)
    apart = np.hypot(d[..., 0], d[..., 1]) - radius[:, None] - radius
    assert apart[~np.eye(12, dtype=bool)].min() >= 2
    # one period shows the area of all discs, as material too
    surface = specimen.surface_within(Window.centred(400, 400), (1600, 1600))
    assert surface.material.mean() == pytest.approx(np.pi * (radius**2).sum() / 400**2, rel=2e-3)
    assert ((surface.material == 1) == (surface.heights_nm > 0)).all()
    assert [m.name for m in surface.materials] == ["silicon", "polystyrene"]
    volume = (np.pi * radius**3 + 2 / 3 * np.pi * radius**3).sum()  # cylinder and half a sphere
    assert surface.heights_nm.mean() == pytest.approx(volume / 400**2, rel=2e-3)


def test_sizes_follow_their_distribution() -> None:
    """Within four standard errors of 20 000 draws; no normal one is below a tenth of the median."""
    n, rng = 20_000, np.random.default_rng(2)
    logs = np.log(draw_sizes(n, 30.0, "lognormal", 1.25, rng))
    assert logs.mean() == pytest.approx(np.log(30), abs=4 * np.log(1.25) / n**0.5)
    assert logs.std() == pytest.approx(np.log(1.25), rel=4 / (2 * n) ** 0.5)
    sizes = draw_sizes(n, 30.0, "normal", 0.1, rng)
    assert sizes.mean() == pytest.approx(30, abs=4 * 3 / n**0.5)
    assert sizes.std() == pytest.approx(3, rel=4 / (2 * n) ** 0.5)
    assert draw_sizes(n, 30.0, "normal", 0.5, rng).min() >= 3
    assert (draw_sizes(5, 30.0, "lognormal", 1.0, rng) == 30).all()


def test_spikes_are_round_at_the_point_and_straight_below_it() -> None:
    specimen = Spikes(number=10, period_nm=500).make(Run(2))
    told = specimen.truth()["spikes"]
    x, y, r = told["x_nm"], told["y_nm"], told["radius_nm"]
    slope = 1 / np.tan(np.deg2rad(told["half_angle_deg"]))
    top = heights_at(specimen, x, y)
    np.testing.assert_allclose(top, told["height_nm"], atol=1e-12)
    # the point: depth d^2 / 2r, to order (d / r)^2 / 4
    np.testing.assert_allclose(
        2 * r * (top - heights_at(specimen, x + 0.05 * r, y)) / (0.05 * r) ** 2, 1, rtol=1e-3
    )
    join = r * np.cos(np.deg2rad(told["half_angle_deg"]))
    by_hand = r - np.sqrt(r**2 - join**2)
    np.testing.assert_allclose(top - heights_at(specimen, x, y + join), by_hand, rtol=1e-9)
    # the same slope on both sides of the join, and down to the foot
    for inner, outer, tolerance in ((0.999, 1.0, 3e-2), (1.0, 1.001, 1e-6), (1.5, 2.0, 1e-6)):
        fall = heights_at(specimen, x + inner * join, y) - heights_at(specimen, x + outer * join, y)
        np.testing.assert_allclose(fall / ((outer - inner) * join), slope, rtol=tolerance)
    foot = told["foot_radius_nm"]
    np.testing.assert_allclose(
        heights_at(specimen, x - foot + 1e-6, y), 1e-6 * slope, rtol=1e-3, atol=1e-9
    )
    assert (heights_at(specimen, x - foot - 1e-6, y) == 0).all()


def test_a_spike_lower_than_its_cap_ends_on_the_cap() -> None:
    recipe = Spikes(
        number=1, heights_nm=(1, 1), radii_nm=(10, 10), half_angles_deg=(20, 20), period_nm=100
    )
    told = recipe.make(Run(0)).truth()["spikes"]
    assert told["foot_radius_nm"][0] == pytest.approx(np.sqrt(2 * 10 * 1 - 1))


# --- height maps


def test_a_map_goes_through_its_points_and_on_at_its_rim(tmp_path: Any) -> None:
    values = np.random.default_rng(0).normal(size=(7, 10))
    np.save(tmp_path / "map.npy", values)
    for interpolation in ("linear", "cubic"):
        recipe = HeightMap(
            file=str(tmp_path / "map.npy"), pixel_size_nm=(3.0, 2.0), interpolation=interpolation
        )
        specimen = recipe.make(Run(0))
        window = Window(-9, 11, -9, 12)  # the middle of the map lies at the origin
        np.testing.assert_allclose(
            specimen.surface_within(window, (7, 10)).heights_nm, values, atol=1e-12
        )
        beyond = heights_at(specimen, [-50, 9 + 1e-3, -9, 70], [-40, 0, 20, 9])
        np.testing.assert_allclose(
            beyond, [values[0, 0], values[3, 9], values[6, 0], values[6, 9]], atol=1e-12
        )
        between = heights_at(specimen, -8.0, -9.0)
        if interpolation == "linear":
            assert between == pytest.approx((values[0, 0] + values[0, 1]) / 2)
    told = specimen.truth()["height_map"]
    assert (told["columns"][0], told["rows"][0]) == (10, 7)
    assert (told["pixel_width_nm"][0], told["pixel_height_nm"][0]) == (2.0, 3.0)
    assert told["sq_nm"][0] == pytest.approx(values.std())


def test_a_cubic_map_follows_a_smooth_surface(tmp_path: Any) -> None:
    """A wave of ten points is met within 1e-3 of its height away from the rim, a line isn't."""
    at = np.arange(60) - 29.5
    wave = np.sin(2 * np.pi * at / 10)[None, :] * np.cos(2 * np.pi * at / 10)[:, None]
    np.save(tmp_path / "wave.npy", wave)
    x = np.linspace(-20, 20, 333)
    wanted = np.sin(2 * np.pi * x / 10)[None, :] * np.cos(2 * np.pi * x / 10)[:, None]
    worst = {}
    for interpolation in ("linear", "cubic"):
        recipe = HeightMap(
            file=str(tmp_path / "wave.npy"), pixel_size_nm=1.0, interpolation=interpolation
        )
        worst[interpolation] = np.abs(recipe.make(Run(0)).heights(x, x) - wanted).max()
    assert worst["cubic"] < 1e-3
    assert worst["linear"] > 2e-2


def test_the_bundled_map_shows_eight_spheres() -> None:
    recipe = HeightMap(file="spheres.gsf")
    assert recipe.input_files()["file"].name == "spheres.gsf"
    read = read_height_map(recipe.input_files()["file"])
    assert read.pixel_size_nm == pytest.approx((2.0, 2.0))
    assert read.name == "Spheres on a floor"
    specimen = recipe.make(Run(0))
    assert "'Spheres on a floor' of spheres.gsf, 96 x 96 points" in specimen.notes[0]


def test_a_map_without_pixel_size_or_file_is_refused(tmp_path: Any) -> None:
    np.save(tmp_path / "map.npy", np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"pixel_size_nm: .*map\.npy doesn't tell it; give one"):
        HeightMap(file=str(tmp_path / "map.npy")).make(Run(0))
    with pytest.raises(ValueError, match=r"there is no 'no\.gwy'; give a path, or one of spheres"):
        HeightMap(file="no.gwy").make(Run(0))


# --- what can't be


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (lambda: Step(edge_width_nm=200), "wider than a terrace"),
        (lambda: Grating(widths_nm=(250,)), "don't fit in 200 nm"),
        (lambda: Grating(widths_nm=()), "at least one width"),
        (lambda: Grating(features="pits", widths_nm=(50, 40)), "pits have one width"),
        (
            lambda: Grating(features="trenches", widths_nm=(50,), sidewall_angle_deg=30),
            r"walls of 30 degrees meet before they are 20 nm deep; at least 69\.28 nm wide",
        ),
        (lambda: Grating(sidewall_angle_deg=10), "don't fit"),
        (lambda: Spheres(spread=0.5), "no geometric standard deviation"),
        (lambda: Spheres(distribution="normal", spread=1.2), "negative diameters"),
        (lambda: Spikes(radii_nm=(3, 1)), "radii_nm: 3 must not be more than 1"),
        (lambda: RoughSurface(period_nm=100), "at least 200 nm"),
        (lambda: RoughSurface(hurst=0.5), "a gaussian surface has none"),
    ],
)
def test_knobs_that_contradict_each_other_are_refused(recipe: Callable, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        recipe()


def test_what_has_no_room_is_refused() -> None:
    with pytest.raises(ValueError, match=r"there is room for \d+ of 2000 without overlap"):
        Spheres(number=2000).make(Run(0))
    with pytest.raises(ValueError, match="no room for something 300 nm wide"):
        Spheres(number=1, diameter_nm=300, period_nm=200).make(Run(0))
    with pytest.raises(ValueError, match=r"needs \d+ x \d+ samples, at most 6000"):
        RoughSurface(period_nm=1e5).make(Run(0))
    with pytest.raises(ValueError, match="can't have a correlation length of 20 nm"):
        RoughSurface(shortest_nm=200.0).make(Run(0))


def test_discs_may_be_packed_with_a_negative_gap() -> None:
    rng = np.random.default_rng(1)
    places = places_without_overlap(np.full(60, 10.0), 150.0, -6.0, rng)
    d = places[:, None] - places
    d -= 150 * np.round(d / 150)
    apart = np.hypot(d[..., 0], d[..., 1])[~np.eye(60, dtype=bool)]
    assert 14 <= apart.min() < 20
    assert np.abs(places).max() <= 75

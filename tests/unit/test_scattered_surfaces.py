"""Particles, filaments and blends as surfaces: shapes, statistics and truth; refusals."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.spatial import cKDTree
from skimage.measure import find_contours

from nanophantom.samples._family import Sample
from nanophantom.samples.atomic_surface import AtomicSurface
from nanophantom.samples.building.rough_support import Roughness
from nanophantom.samples.filaments import Filaments, crossings, worm_like_chains
from nanophantom.samples.polymer_blend import PolymerBlend
from nanophantom.samples.rough_nanoparticles import RoughNanoparticles
from nanophantom.simcore.atoms import Window
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import sample_points
from nanophantom.simcore.surfaces import HasSurface

FLAT = Roughness(sq_nm=0)
RECIPES = {
    "rough-nanoparticles": RoughNanoparticles(number=40, period_nm=200, height_ratio=0.7),
    "filaments": Filaments(number=15, contour_length_nm=150, period_nm=200),
    "domains": PolymerBlend(domain_size_nm=20, edge_width_nm=4, period_nm=200),
    "droplets": PolymerBlend(
        morphology="droplets", domain_size_nm=20, edge_width_nm=4, period_nm=200, step_nm=-6
    ),
    "facet": AtomicSurface(element="Si", rotate_z_deg=17),
}


def surface_at(specimen, x_nm: float, y_nm: float):
    """Return height and material at one place, by a window whose first sample lies there."""
    surface = specimen.surface_within(Window(x_nm, x_nm + 1, y_nm, y_nm + 1), (1, 1))
    return surface.heights_nm[0, 0], surface.material[0, 0]


# ---- all of them


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_same_places_same_surface_whatever_the_window(recipe):
    specimen = recipe.make(Run(3))
    assert isinstance(specimen, HasSurface)
    wide = specimen.surface_within(Window(-130.0, 130.0, -90.0, 90.0), (180, 260))
    part = specimen.surface_within(Window(-80.0, 40.0, -20.0, 70.0), (45, 40))  # every 2nd, 3rd
    again = wide.heights_nm[70:160:2, 50:170:3]
    np.testing.assert_allclose(part.heights_nm, again, rtol=0, atol=1e-9)
    assert (part.material == wide.material[70:160:2, 50:170:3]).mean() > 0.999  # ties on edges


@pytest.mark.parametrize("kind", ["rough-nanoparticles", "filaments", "polymer-blend"])
def test_the_square_repeats_itself(kind):
    recipe = Sample.of_kind(kind).small()
    specimen = recipe.make(Run(1))
    here = specimen.surface_within(Window(0.0, 100.0, 0.0, 80.0), (80, 100))
    p = recipe.period_nm
    there = specimen.surface_within(Window(-2 * p, 100 - 2 * p, p, 80.0 + p), (80, 100))
    np.testing.assert_allclose(here.heights_nm, there.heights_nm, rtol=0, atol=1e-9)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_the_same_run_gives_the_same_truth(recipe):
    """Also after a journey to another process."""
    specimen = recipe.make(Run(3))
    one, two = specimen.truth(), pickle.loads(pickle.dumps(recipe.make(Run(3)))).truth()
    assert one.keys() == two.keys()
    for name, table in one.items():
        lengths = {len(column) for column in table.values()}
        assert len(lengths) == 1, f"columns of {name} differ in length"
        for column, values in table.items():
            np.testing.assert_array_equal(values, two[name][column])


# ---- particles


def test_particles_stand_on_the_local_height_where_the_truth_says():
    recipe = RECIPES["rough-nanoparticles"]
    specimen = recipe.make(Run(3))
    particles = specimen.truth()["particles"]
    for x, y, d, h, top in zip(*(particles[c] for c in particles), strict=True):
        assert surface_at(specimen, x, y)[0] == pytest.approx(top, abs=1e-9)
        floor = specimen.support.heights(np.array([x]), np.array([y]))[0, 0]
        assert top - h == pytest.approx(floor, abs=1e-9)
        assert h == pytest.approx(0.7 * d)
        # the profile of a spheroid: z = z0 + h/2 (1 + sqrt(1 - 4 rho^2 / d^2))
        for rho in (0.2 * d, 0.45 * d):
            z = floor + h / 2 * (1 + np.sqrt(1 - 4 * rho**2 / d**2))
            assert surface_at(specimen, x, y + rho) == (pytest.approx(z, abs=1e-9), 1)


def test_between_particles_there_is_the_support():
    specimen = RECIPES["rough-nanoparticles"].make(Run(3))
    window = Window.centred(200, 200)
    surface = specimen.surface_within(window, (400, 400))
    bare = surface.material == 0
    support = specimen.support.heights(*sample_points(window, (400, 400)))
    np.testing.assert_array_equal(surface.heights_nm[bare], support[bare])
    assert surface.materials[1].name == "gold"
    covered = specimen.truth()["size_distribution"]["coverage_percent"][0]
    assert 100 * (~bare).mean() == pytest.approx(covered, abs=0.3)


def test_particles_keep_their_distance_also_across_the_edge_of_the_square():
    recipe = RoughNanoparticles(
        number=150, period_nm=300, median_diameter_nm=10, gap_nm=3, roughness=FLAT
    )
    particles = recipe.make(Run(5)).truth()["particles"]
    places = np.stack([particles["x_nm"], particles["y_nm"]], axis=1)
    tree = cKDTree(np.mod(places, 300), boxsize=300)
    i, j = tree.query_pairs(40, output_type="ndarray").T
    apart = places[i] - places[j]
    apart -= 300 * np.round(apart / 300)
    rims = np.hypot(*apart.T) - (particles["diameter_nm"][i] + particles["diameter_nm"][j]) / 2
    assert 3.0 <= rims.min() < 3.2  # the densest pairs come near the least distance


def test_diameters_are_log_normal():
    recipe = RoughNanoparticles(
        number=4000, period_nm=2000, median_diameter_nm=9, geometric_sigma=1.3, roughness=FLAT
    )
    drawn = recipe.make(Run(2)).truth()["size_distribution"]
    sigma = np.log(1.3)
    error = sigma / np.sqrt(4000)
    median = np.log(drawn["median_diameter_drawn_nm"][0] / 9)
    assert abs(median) < 4 * 1.2533 * error  # standard error of a median, sqrt(pi / 2) that of mean
    assert abs(np.log(drawn["geometric_sigma_drawn"][0]) - sigma) < 4 * error / np.sqrt(2)


def test_roughness_moves_particles_up_and_down_only():
    rough = RoughNanoparticles.small()
    smooth = rough.model_copy(update={"roughness": FLAT})
    one, two = (r.make(Run(7)).truth()["particles"] for r in (rough, smooth))
    for column in ("x_nm", "y_nm", "diameter_nm", "height_nm"):
        np.testing.assert_array_equal(one[column], two[column])
    assert np.ptp(one["z_top_nm"] - two["z_top_nm"]) > 0.5


# ---- filaments


@pytest.mark.parametrize(
    ("contour_nm", "persistence_nm"), [(100.0, 53.0), (340.0, 53.0), (600, 30)]
)
def test_mean_square_distance_of_ends(contour_nm, persistence_nm):
    # <R^2> = 4 P L (1 - 2 P / L (1 - exp(-L / 2 P))) in two dimensions: Rivetti et al. 1996
    L, P, n = contour_nm, persistence_nm, 4000
    ends = worm_like_chains(n, int(L), L, P, np.random.default_rng(8))[:, -1]
    squares = (ends**2).sum(axis=1)
    expected = 4 * P * L * (1 - 2 * P / L * (1 - np.exp(-L / (2 * P))))
    assert abs(squares.mean() - expected) < 4 * squares.std() / np.sqrt(n)
    assert squares.std() / np.sqrt(n) < 0.02 * expected  # so that the line above can fail
    # no direction is preferred
    assert np.abs(ends.mean(axis=0)).max() < 4 * np.sqrt(expected / 2 / n)


def test_directions_are_forgotten_over_twice_the_persistence_length():
    chains = worm_like_chains(4000, 200, 200.0, 53.0, np.random.default_rng(1))
    steps = np.diff(chains, axis=1)
    np.testing.assert_allclose(np.hypot(*steps.T), 1.0, rtol=1e-9)  # the contour is kept
    for s in (20, 60, 120):
        cosines = (steps[:, 0] * steps[:, s]).sum(axis=1)
        error = cosines.std() / np.sqrt(len(cosines))
        assert abs(cosines.mean() - np.exp(-s / 106.0)) < 4 * error


def test_filaments_lie_where_the_truth_says():
    recipe = Filaments(number=3, contour_length_nm=80, period_nm=300, height_nm=1.2)
    specimen = recipe.make(Run(4))
    truth = specimen.truth()
    assert len(truth["crossings"]["x_nm"]) == 0
    points, one = truth["filament_points"], truth["filaments"]
    thickness = [layer.thickness_nm for layer in specimen.layers]
    on_top = 1 + int(np.argmin(np.abs(np.array(thickness) - 1.2)))
    for x, y, top in zip(points["x_nm"], points["y_nm"], points["z_top_nm"], strict=True):
        assert surface_at(specimen, x, y) == (pytest.approx(top, abs=0.03), on_top)
        floor = specimen.support.heights(np.array([x]), np.array([y]))[0, 0]
        assert top - floor == pytest.approx(1.2, abs=1e-9)
    first = points["filament"] == 0
    assert points["s_nm"][first][-1] == pytest.approx(80)
    ends = np.array([points[c][first][[0, -1]] for c in ("x_nm", "y_nm")])
    assert np.hypot(*np.diff(ends).ravel()) == pytest.approx(one["end_to_end_nm"][0])


def test_cross_section_is_an_ellipse():
    recipe = Filaments(
        number=1, contour_length_nm=40, persistence_length_nm=1e6, height_nm=1.0, roughness=FLAT
    )
    specimen = recipe.make(Run(4))
    points = specimen.truth()["filament_points"]
    x, y = points["x_nm"], points["y_nm"]
    normal = np.array([-(y[-1] - y[0]), x[-1] - x[0]]) / 40
    for rho in (0.0, 0.5, 0.9):
        z = 0.5 * (1 + np.sqrt(1 - rho**2))
        place = (x[20] + rho * normal[0], y[20] + rho * normal[1])
        assert surface_at(specimen, *place)[0] == pytest.approx(z, abs=1e-3)
    assert surface_at(specimen, x[20] + 1.01 * normal[0], y[20] + 1.01 * normal[1]) == (0.0, 0)


def test_all_crossings_are_found_once():
    """Compared with every pair of pieces, in every copy of the square."""
    recipe = Filaments(number=8, contour_length_nm=120, period_nm=90, step_nm=2, climb_nm=3,
                       roughness=FLAT)  # fmt: skip
    specimen = recipe.make(Run(6))
    x, y, points = specimen.x_nm, specimen.y_nm, recipe.steps + 1
    begin = np.flatnonzero(np.arange(len(x)) % points < points - 1)
    place = np.stack([x, y], axis=1)
    a, along = place[begin], place[begin + 1] - place[begin]
    expected = set()
    for shift in np.ndindex(9, 9):
        moved = a + 90.0 * (np.array(shift) - 4)
        turn = along[:, None, 0] * along[None, :, 1] - along[:, None, 1] * along[None, :, 0]
        d = moved[None, :] - a[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (d[..., 0] * along[None, :, 1] - d[..., 1] * along[None, :, 0]) / turn
            u = (d[..., 0] * along[:, None, 1] - d[..., 1] * along[:, None, 0]) / turn
        hit = (t >= 0) & (t < 1) & (u >= 0) & (u < 1)
        for i, j in zip(*np.nonzero(hit), strict=True):
            if begin[i] > begin[j] and begin[i] != begin[j] + 1:
                expected.add((int(begin[i]), int(begin[j])))
    upper, lower, *_ = crossings(x, y, points, 90.0)
    assert len(expected) > 20
    assert len(upper) == len(expected)
    assert set(zip(upper.tolist(), lower.tolist(), strict=True)) == expected


def test_the_upper_strand_is_raised_by_the_height_of_the_lower_one():
    recipe = Filaments(number=30, contour_length_nm=200, roughness=FLAT)
    specimen = recipe.make(Run(9))
    found = specimen.truth()["crossings"]
    assert len(found["x_nm"]) >= 8
    assert (found["upper_filament"] >= found["lower_filament"]).all()
    heights = [surface_at(specimen, *p)[0] for p in zip(found["x_nm"], found["y_nm"], strict=True)]
    # the rise, cos^2 over 8 nm, is joined by straight lines of 1 nm: cos^2(pi / 32) = 0.990
    np.testing.assert_allclose(heights, 4.0, rtol=0, atol=2 * (1 - 0.990) + 1e-3)
    tops = specimen.truth()["filament_points"]["z_top_nm"]
    assert tops.min() == 2.0
    assert tops.max() <= 4.0


# ---- blends


@pytest.mark.parametrize("name", ["domains", "droplets"])
def test_inclusions_cover_the_fraction_and_rise_by_the_step(name):
    recipe = RECIPES[name].model_copy(update={"roughness": FLAT})
    specimen = recipe.make(Run(3))
    surface = specimen.surface_within(Window.centred(200, 200), (800, 800))
    assert 100 * surface.material.mean() == pytest.approx(35.0, abs=0.2)
    assert specimen.truth()["morphology"]["fraction_of_square_percent"][0] == pytest.approx(
        35.0, abs=0.01
    )
    step = recipe.step_nm
    share = surface.heights_nm / step
    assert share.min() == 0.0
    assert share.max() == 1.0
    np.testing.assert_array_equal(surface.material, share >= 0.5)
    names = specimen.truth()["materials"]["name"]
    assert [m.name for m in surface.materials] == names.tolist()


def test_domains_have_the_wavelength_that_is_asked_for():
    recipe = PolymerBlend(domain_size_nm=20, edge_width_nm=0, period_nm=400, roughness=FLAT)
    surface = recipe.make(Run(1)).surface_within(Window.centred(400, 400), (400, 400))
    cover = surface.material - surface.material.mean()
    power = np.abs(np.fft.fft2(cover)) ** 2
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(400), np.fft.fftfreq(400)))
    main = (k > 0.012) & (k < 0.04)  # without the harmonics that the sharp edges make
    # waves of 2 * 20 nm; the share of k below and above it isn't even, by less than the bandwidth
    assert np.average(k[main], weights=power[main]) == pytest.approx(1 / 40, rel=0.05)


def test_edges_of_domains_are_as_wide_as_asked_for_on_average():
    recipe = PolymerBlend(
        domain_size_nm=40, edge_width_nm=2, period_nm=400, step_nm=1, roughness=FLAT
    )
    surface = recipe.make(Run(1)).surface_within(Window.centred(400, 400), (800, 800))
    heights = surface.heights_nm
    length = sum(
        np.hypot(*np.diff(line, axis=0).T).sum() for line in find_contours(heights, 0.5)
    )  # in samples of 0.5 nm
    sloping = ((heights > 0) & (heights < 1)).sum()
    assert 0.5 * sloping / length == pytest.approx(2.0, rel=0.02)


def test_droplets_are_round_and_where_the_truth_says():
    recipe = RECIPES["droplets"].model_copy(update={"roughness": FLAT})
    specimen = recipe.make(Run(3))
    drops = specimen.truth()["droplets"]
    x, y, r = drops["x_nm"], drops["y_nm"], drops["diameter_nm"] / 2
    assert np.pi * (r**2).sum() / 200**2 == pytest.approx(0.35)
    tree = cKDTree(np.mod(np.stack([x, y], axis=1), 200), boxsize=200)
    for n in range(len(x)):
        assert surface_at(specimen, x[n], y[n]) == (-6.0, 1)
        for angle in (0.3, 2.5, 4.4):
            c, s = np.cos(angle), np.sin(angle)
            inside = surface_at(specimen, x[n] + 0.999 * r[n] * c, y[n] + 0.999 * r[n] * s)
            assert inside[1] == 1
            rim = surface_at(specimen, x[n] + r[n] * c, y[n] + r[n] * s)[0]
            near = tree.query_ball_point(np.mod([x[n] + r[n] * c, y[n] + r[n] * s], 200), 18.0)
            if near == [n]:  # no other drop's edge is here
                assert rim == pytest.approx(-3.0, abs=1e-9)


# ---- refusals


@pytest.mark.parametrize(
    ("kind", "knobs", "message"),
    [
        ("filaments", {"step_nm": 20}, "step_nm: 20 nm is too coarse"),
        ("filaments", {"number": 100_000}, "number: 100000 filaments of 341 points"),
        ("filaments", {"period_nm": 5}, "period_nm: 5 nm is too small"),
        ("polymer-blend", {"period_nm": 500}, "give 1000 at least"),
        ("polymer-blend", {"edge_width_nm": 80}, "edge_width_nm: 80 nm leaves nothing flat"),
        (
            "polymer-blend",
            {"morphology": "droplets", "fraction_percent": 48},
            "fraction_percent: droplets have no room",
        ),
        ("polymer-blend", {"geometric_sigma": 1.3}, "geometric_sigma: domains have none"),
        ("atomic-surface", {"element": "Au", "file": "gold.cif"}, "element: the atoms are those"),
        ("atomic-surface", {"layers": 3, "file": "gold.cif"}, "layers: without a facet"),
        ("atomic-surface", {"supercell": (2, 2, 2)}, "supercell: there is no file"),
        ("atomic-surface", {"facet": (0, 0, 0)}, "facet: .* is no face"),
    ],
)
def test_impossible_knobs_are_refused_in_one_line(kind, knobs, message):
    with pytest.raises(ValidationError, match=message) as refusal:
        Sample.of_kind(kind).model_validate(knobs)
    assert len(refusal.value.errors()) == 1


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (RoughNanoparticles(number=3000, period_nm=300), "number: there is room for"),
        (
            RoughNanoparticles(roughness=Roughness(correlation_length_nm=200)),
            "roughness.correlation_length_nm: 200 nm is too long",
        ),
        (AtomicSurface(element="Xx"), "element: 'Xx' is no element"),
        (AtomicSurface(element="At"), "element: no crystal of At"),
        (AtomicSurface(rotate_x_deg=5), "rotate_x_deg, rotate_y_deg: a surface without end"),
        (AtomicSurface(radii_nm={"Cu": 0.2}), "radii_nm: there is no 'Cu' here"),
        (AtomicSurface(file="no.xyz"), "file: there is no 'no.xyz'"),
        (AtomicSurface(listed_nm=1000), "listed_nm: a square of 1000 nm"),
    ],
)
def test_what_can_not_be_made_is_refused_in_one_line(recipe, message):
    with pytest.raises(ValueError, match=message) as refusal:
        recipe.make(Run(0))
    assert "\n" not in str(refusal.value)

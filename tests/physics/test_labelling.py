"""Labelled structures and point processes against their geometry and their closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.stats import binom, kstest

from nanophantom.samples.clusters import Clusters
from nanophantom.samples.filament_network import FilamentNetwork
from nanophantom.samples.microtubules import Microtubules
from nanophantom.samples.nuclear_pores import NuclearPores
from nanophantom.samples.origami import Origami
from nanophantom.samples.random_field import RandomField
from nanophantom.samples.siemens_star import SiemensStar
from nanophantom.simcore.emitters import Sites
from nanophantom.simcore.light.fluorophores import Fluorophore
from nanophantom.simcore.light.labelling import (
    FixedLinker,
    GaussianLinker,
    Labelling,
    Labels,
    NoLinker,
    label,
)
from nanophantom.simcore.runs import Run

BARE = Labelling(efficiency=1.0, linker=NoLinker())


def mean_is(values: np.ndarray, expected: float) -> None:
    """Compare a mean with its expectation to three standard errors."""
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert abs(values.mean() - expected) < 3 * error, (values.mean(), expected, error)


def share_is(hits: int, n: int, p: float) -> None:
    """Compare a share with a probability to three standard errors."""
    assert abs(hits / n - p) < 3 * np.sqrt(p * (1 - p) / n), (hits / n, p)


def sites_of(sample: object, seed: int = 1) -> np.ndarray:
    return sample.make(Run(seed)).structures.sites.positions_nm  # type: ignore[attr-defined]


def labels_on(n: int, labelling: Labelling, seed: int = 3, **kwargs: np.ndarray) -> Labels:
    nothing = np.zeros(n, np.int32)
    return label(Sites(np.zeros((n, 3)), nothing, nothing), labelling, Run(seed), **kwargs)


# ---- nuclear pores


@pytest.mark.parametrize(
    ("diameter", "pair", "rings"),
    # Nup96: henriqueslab.org/pages/npc_references; rings: Thevathasan et al., Nat. Methods 2019
    [(107.0, 12.0, 50.0), (90.0, 8.0, 35.0)],
)
def test_a_pore_has_the_geometry_of_nup96(diameter, pair, rings):
    pores = NuclearPores(
        number=5, field_um=2.0, diameter_nm=diameter, pair_nm=pair, ring_distance_nm=rings,
        labelling=BARE,
    )  # fmt: skip
    truth = pores.make(Run(1)).truth()
    sites, structures = truth["sites"], truth["structures"]
    assert (structures["n_sites"] == 32).all()
    assert (structures["n_parts"] == 8).all()
    for k in range(5):
        own = sites["structure"] == k
        x, y, z = (sites[c][own] - structures[c][k] for c in ("x_nm", "y_nm", "z_nm"))
        ring, corner = sites["ring"][own], sites["part"][own]
        np.testing.assert_allclose(np.hypot(x, y), diameter / 2, atol=1e-9)
        assert np.bincount(ring).tolist() == [16, 16]
        np.testing.assert_allclose(z[ring == 1].mean() - z[ring == 0].mean(), rings, atol=1e-9)
        for c in range(8):
            two = (corner == c) & (ring == 0)
            np.testing.assert_allclose(np.hypot(np.ptp(x[two]), np.ptp(y[two])), pair, atol=1e-9)
            middle = np.rad2deg(np.arctan2(y[two].mean(), x[two].mean()))
            turned = (middle - structures["angle_deg"][k] - 45 * c + 180) % 360 - 180
            assert abs(turned) < 1e-9


@pytest.mark.parametrize("p", [0.3, 0.5, 0.6, 0.8])
def test_visible_corners_are_binomial(p):
    """Binom(8, 1 - (1 - p)^4): means 6.08, 7.50, 7.80, 7.99, all eight .111, .597, .813, .987."""
    pores = NuclearPores(
        number=3000, field_um=32.0, labelling=Labelling(efficiency=p, linker=NoLinker())
    )
    structures = pores.make(Run(4)).truth()["structures"]
    corner = 1 - (1 - p) ** 4
    table = {0.3: (6.08, 0.111), 0.5: (7.50, 0.597), 0.6: (7.80, 0.813), 0.8: (7.99, 0.987)}
    assert 8 * corner == pytest.approx(table[p][0], abs=0.006)
    assert corner**8 == pytest.approx(table[p][1], abs=6e-4)
    mean_is(structures["n_fluorescing_parts"], 8 * corner)
    for n in (6, 7, 8):
        hits = int((structures["n_fluorescing_parts"] == n).sum())
        share_is(hits, 3000, float(binom.pmf(n, 8, corner)))
    mean_is(structures["n_labels"], 32 * p)
    # variance of a binomial: its relative standard error is sqrt(2 / n) or so
    assert structures["n_labels"].var() == pytest.approx(
        32 * p * (1 - p), rel=3 * np.sqrt(2 / 3000)
    )
    if p == 0.6:
        assert structures["n_labels"].std() == pytest.approx(2.77, rel=0.04)


def test_pores_tilt_flatten_and_differ_as_asked():
    pores = NuclearPores(
        number=2000, field_um=30.0, tilt_spread_deg=8.0, ellipticity=0.2, diameter_spread=0.05,
        labelling=BARE,
    )  # fmt: skip
    specimen = pores.make(Run(2))
    table = specimen.truth()["structures"]
    mean_is(table["tilt_deg"] ** 2, 2 * 8.0**2)  # two axes
    mean_is(table["size_nm"], 107.0)
    assert table["size_nm"].std() == pytest.approx(5.35, rel=3 / np.sqrt(4000))
    centres = np.stack([table[c] for c in ("x_nm", "y_nm", "z_nm")], axis=1)
    pore = specimen.structures.sites.positions_nm.reshape(-1, 32, 3) - centres[:, None]
    np.testing.assert_allclose(pore.mean(axis=1), 0, atol=1e-9)
    axis = pore[:, 16:].mean(axis=1) - pore[:, :16].mean(axis=1)
    np.testing.assert_allclose(np.linalg.norm(axis, axis=1), 50.0, atol=1e-9)
    lean = np.rad2deg(np.arctan2(np.hypot(axis[:, 0], axis[:, 1]), axis[:, 2]))
    np.testing.assert_allclose(lean, table["tilt_deg"], atol=1e-9)
    # half-axes of an ellipse of the circle's area, b / a = 1 - ellipticity
    r2 = (pore[:, :16] - pore[:, :16].mean(axis=1, keepdims=True)) ** 2
    mean_square = (table["size_nm"] / 2) ** 2 * (1 / 0.8 + 0.8) / 2
    np.testing.assert_allclose(r2.sum(axis=2).mean(axis=1), mean_square, rtol=1e-9)
    nearest = cKDTree(centres[:, :2]).query(centres[:, :2], 2)[0][:, 1]
    least = table["size_nm"].max() / np.sqrt(0.8) + 12.0 + 20.0  # pairs and gap
    assert least <= nearest.min() < least + 1


# ---- microtubules and filaments


def flat(**knobs: object) -> dict[str, object]:
    return {"persistence_length_um": None, "height_spread_nm": 0.0, "field_um": 40.0, **knobs}


@pytest.mark.parametrize(
    ("protofilaments", "dimer", "stagger", "diameter"),
    [(13, 8.0, 0.923, 25.0), (14, 8.2, 0.857, 27.0)],
)
def test_the_lattice_of_a_microtubule(protofilaments, dimer, stagger, diameter):
    """13 protofilaments, a dimer every 8 nm, neighbours 0.923 nm further along, 25 nm wide."""
    sample = Microtubules(
        number=1, length_um=2.0, protofilaments=protofilaments, dimer_nm=dimer,
        stagger_nm=stagger, diameter_nm=diameter, labelling=BARE, **flat(),
    )  # fmt: skip
    truth = sample.make(Run(5)).truth()
    sites, paths = truth["sites"], truth["paths"]
    start = np.array([paths[c][0] for c in ("x_nm", "y_nm", "z_nm")])
    end = np.array([paths[c][-1] for c in ("x_nm", "y_nm", "z_nm")])
    assert np.linalg.norm(end - start) == pytest.approx(2000.0, abs=1e-9)
    axis = (end - start) / np.linalg.norm(end - start)
    away = np.stack([sites[c] for c in ("x_nm", "y_nm", "z_nm")], axis=1) - start
    s = away @ axis
    across = away - s[:, None] * axis
    np.testing.assert_allclose(np.linalg.norm(across, axis=1), diameter / 2, atol=1e-9)
    np.testing.assert_allclose(s, sites["s_nm"], atol=1e-9)
    side = np.cross([0, 0, 1], axis)
    angle = np.arctan2(across[:, 2], across @ side)
    for k in range(protofilaments):
        one, two = sites["part"] == k, sites["part"] == (k + 1) % protofilaments
        np.testing.assert_allclose(np.diff(np.sort(s[one])), dimer, atol=1e-9)
        if k + 1 < protofilaments:
            on = (s[two].min() - s[one].min() - stagger) / dimer
            assert abs(on - round(on)) < 1e-9
        turn = np.angle(np.exp(1j * (angle[two][0] - angle[one][0])))
        assert turn == pytest.approx(2 * np.pi / protofilaments, abs=1e-9)
    assert len(s) == pytest.approx(2000 / dimer * protofilaments, rel=0.005)


@pytest.mark.parametrize("outward", [False, True])
@pytest.mark.parametrize(("radius", "linker"), [(12.5, 17.5), (12.5, 5.0)])
def test_antibodies_make_a_microtubule_60_nm_wide(outward, radius, linker):
    """25 nm + 2 x 17.5 nm = 60 nm; <rho^2> = R^2 + 2 L^2 / 3, and R L more on the outside only."""
    sample = Microtubules(
        number=1, length_um=30.0, diameter_nm=2 * radius,
        labelling=Labelling(
            efficiency=1.0, linker=FixedLinker(length_nm=linker, outward=outward)
        ),
        **flat(),
    )  # fmt: skip
    truth = sample.make(Run(6)).truth()
    labels, row = truth["labels"], truth["structures"]
    angle = np.deg2rad(row["angle_deg"][0])
    x, y = labels["x_nm"] - row["x_nm"][0], labels["y_nm"] - row["y_nm"][0]
    rho2 = (np.cos(angle) * y - np.sin(angle) * x) ** 2 + (labels["z_nm"] - row["z_nm"][0]) ** 2
    assert len(rho2) > 30_000
    widest = 2 * np.sqrt(rho2.max())
    assert 2 * (radius + linker) - 0.1 < widest <= 2 * (radius + linker) + 1e-9
    mean_is(rho2, radius**2 + 2 * linker**2 / 3 + outward * radius * linker)
    assert (rho2.min() > radius**2 - 1e-6) == outward


@pytest.mark.parametrize("stiff_um", [2.0, 17.7])
def test_paths_forget_their_direction_and_height_as_they_should(stiff_um):
    """<cos theta(s)> = exp(-s / 2P) in the plane; height: sd^2 (1 + s / l) exp(-s / l)."""
    sample = FilamentNetwork(
        number=1500, length_um=4.0, persistence_length_um=stiff_um, height_nm=500.0,
        height_spread_nm=60.0, height_length_um=1.0,
    )  # fmt: skip
    paths = sample.paths(Run(7))
    steps = np.diff(paths.points_nm, axis=1)
    np.testing.assert_allclose(np.linalg.norm(steps, axis=2), paths.step_nm, rtol=1e-9)
    heading = np.unwrap(np.arctan2(steps[..., 1], steps[..., 0]), axis=1)
    for k in (50, 200):  # 0.5 and 2 um
        turned = np.cos(heading[:, 100 + k] - heading[:, 100])
        mean_is(turned, np.exp(-k * paths.step_nm / (2000 * stiff_um)))
        z = paths.points_nm[:, :, 2] - 500.0
        s = k * paths.step_nm / 1000
        mean_is(z[:, 100 + k] * z[:, 100], 60.0**2 * (1 + s) * np.exp(-s))
        mean_is(z[:, k] ** 2, 60.0**2)


def test_actin_sites_wind_around_its_axis():
    """A protomer every 2.75 nm, turned by -166.7 degrees, so two strands: part is even or odd."""
    sample = FilamentNetwork(number=1, length_um=1.0, labelling=BARE, **flat())
    truth = sample.make(Run(8)).truth()
    sites, paths = truth["sites"], truth["paths"]
    np.testing.assert_allclose(np.diff(sites["s_nm"]), 2.75, atol=1e-9)
    assert sites["part"].tolist() == [k % 2 for k in range(len(sites["s_nm"]))]
    start, end = (np.array([paths[c][i] for c in ("x_nm", "y_nm", "z_nm")]) for i in (0, -1))
    axis = (end - start) / np.linalg.norm(end - start)
    away = np.stack([sites[c] for c in ("x_nm", "y_nm", "z_nm")], axis=1) - start
    across = away - (away @ axis)[:, None] * axis
    np.testing.assert_allclose(np.linalg.norm(across, axis=1), 3.5, atol=1e-9)
    angle = np.arctan2(across[:, 2], across @ np.cross([0, 0, 1], axis))
    np.testing.assert_allclose(np.cos(np.diff(angle) + np.deg2rad(166.7)), 1, atol=1e-12)


# ---- point processes


def pairs_over_random(points: np.ndarray, edges: np.ndarray, field: float) -> np.ndarray:
    """Estimate g(r) in rings, from centres far enough inside that no ring is cut."""
    inside = np.abs(points[:, :2]).max(axis=1) < field / 2 - edges[-1]
    counts = cKDTree(points[inside, :2]).count_neighbors(cKDTree(points[:, :2]), edges)
    area = np.pi * np.diff(edges**2)
    return np.diff(counts) / (inside.sum() * area * len(points) / field**2)


@pytest.mark.parametrize(
    ("per_um2", "members", "sd", "singles"),
    [(20.0, 8.0, 20.0, 0.0), (8.0, 12.0, 35.0, 0.0), (15.0, 10.0, 25.0, 100.0)],
)
def test_pair_correlation_of_clusters_is_that_of_a_thomas_process(per_um2, members, sd, singles):
    """g = 1 + exp(-r^2 / 4 s^2) / (4 pi rho s^2) to 5 %; singles dilute g - 1 by their share^2."""
    edges = sd * np.arange(0.0, 4.1, 0.5)
    found, k_at_2s = [], []
    share = per_um2 * members / (per_um2 * members + singles)
    for seed in (1, 2, 3):
        sample = Clusters(
            field_um=18.0, clusters_per_um2=per_um2, sites_per_cluster=members, sd_nm=sd,
            singles_per_um2=singles, labelling=BARE,
        )  # fmt: skip
        points = sites_of(sample, seed)
        expected = (per_um2 * members + singles) * 18.0**2
        assert len(points) == pytest.approx(expected, rel=4 / np.sqrt(per_um2 * 18.0**2))
        g = pairs_over_random(points, edges, 18_000.0)
        found.append(g)
        k_at_2s.append((g[:4] * np.pi * np.diff(edges[:5] ** 2)).sum())
    rho = 1e-6 * per_um2
    # mean over a ring of exp(-r^2 / 4 s^2), exactly
    fall = -np.diff(np.exp(-(edges**2) / (4 * sd**2))) * 4 * sd**2 / np.diff(edges**2)
    expected_g = 1 + share**2 * fall / (4 * np.pi * rho * sd**2)
    np.testing.assert_allclose(np.mean(found, axis=0), expected_g, rtol=0.05)
    r = 2 * sd
    k = np.pi * r**2 + share**2 * (1 - np.exp(-(r**2) / (4 * sd**2))) / rho
    assert np.mean(k_at_2s) == pytest.approx(k, rel=0.05)


def test_clusters_are_as_dense_at_the_rim_as_inside():
    rim, all_of_it = [], []
    for seed in range(60):
        sample = Clusters(
            field_um=2.0, clusters_per_um2=20.0, sd_nm=150.0, singles_per_um2=0.0, labelling=BARE
        )
        reach = np.abs(sites_of(sample, seed)[:, :2]).max(axis=1)
        rim.append((reach > 900).sum())
        all_of_it.append(len(reach))
    mean_is(np.array(all_of_it), 20 * 15 * 4.0)
    mean_is(np.array(rim), 20 * 15 * (4.0 - 1.8**2))


# 20 per 128^2 pixels of 100 nm, within 5 pixels: 0.909
@pytest.mark.parametrize(("per_um2", "r_nm"), [(20 / 12.8**2, 500.0), (5.0, 150.0)])
def test_single_molecules_are_completely_random(per_um2, r_nm):
    """P(no neighbour within r) = exp(-pi rho r^2), mean nearest distance 1 / (2 sqrt(rho))."""
    rho = 1e-6 * per_um2
    field = float(np.sqrt(3000 / per_um2))
    alone, nearest, counts = [], [], []
    for seed in range(12):
        sample = Clusters(
            field_um=field, clusters_per_um2=0.0, singles_per_um2=per_um2, labelling=BARE
        )
        points = sites_of(sample, seed)[:, :2]
        inside = np.abs(points).max(axis=1) < 500 * field - 2.5 / np.sqrt(rho)
        distance = cKDTree(points).query(points[inside], 2)[0][:, 1]
        alone.append((distance > r_nm).mean())
        nearest.append(distance.mean())
        counts.append(len(points))
    mean_is(np.array(alone), np.exp(-np.pi * rho * r_nm**2))
    mean_is(np.array(nearest), 1 / (2 * np.sqrt(rho)))
    mean_is(np.array(counts), 3000.0)
    if r_nm == 500.0:
        assert np.exp(-np.pi * rho * r_nm**2) == pytest.approx(0.909, abs=5e-4)


@pytest.mark.parametrize(("contrast", "correlation"), [(0.8, 300.0), (0.4, 500.0)])
def test_pair_correlation_of_a_random_field(contrast, correlation):
    """g = exp(c^2 exp(-r^2 / 2 l^2)) about the nominal density."""
    edges = correlation * np.array([0.0, 0.3, 0.6, 1.2, 1.8])
    found = []
    for seed in range(10):
        sample = RandomField(
            field_um=12.0, sites_per_um2=60.0, correlation_nm=correlation, contrast=contrast,
            labelling=BARE,
        )  # fmt: skip
        points = sites_of(sample, seed)
        mean = len(points) / (60.0 * 12.0**2)
        found.append(pairs_over_random(points, edges, 12_000.0) * mean)  # times its own density
    r = np.linspace(edges[:-1], edges[1:], 201)
    g = np.exp(contrast**2 * np.exp(-(r**2) / (2 * correlation**2)))
    for ring, expected in enumerate((g * r).sum(axis=0) / r.sum(axis=0)):
        # pairs are counted from centres that number mean x expected too
        mean_is(np.array(found)[:, ring], expected)


def test_a_siemens_star_is_bright_in_its_spokes_only():
    sample = SiemensStar(field_um=4.0, spokes=24, sites_per_um2=5000.0, angle_deg=10.0)
    specimen = sample.make(Run(1))
    sites = specimen.structures.sites
    x, y, _ = sites.positions_nm.T
    n = len(sites)
    expected = 5000 * np.pi * 2.0**2 / 2
    assert abs(n - expected) < 3 * np.sqrt(expected)
    share_is(int((np.hypot(x, y) < 1000).sum()), n, 0.25)
    turned = (np.rad2deg(np.arctan2(y, x)) - 10) / 15  # in spokes
    assert (np.abs(turned - np.round(turned)) <= 0.25 + 1e-9).all()
    assert (np.round(turned).astype(int) % 24 == sites.part).all()
    assert kstest(turned - np.round(turned), "uniform", args=(-0.25, 0.5)).pvalue > 0.01
    assert kstest(np.hypot(x, y) ** 2, "uniform", args=(0, 2000.0**2)).pvalue > 0.01


@pytest.mark.parametrize(("rows", "columns", "spacing"), [(3, 4, 20.0), (1, 3, 80.0)])
def test_origami_have_marks_at_their_spacing_but_for_missing_staples(rows, columns, spacing):
    knobs = {"rows": rows, "columns": columns, "spacing_nm": spacing, "field_um": 20.0}
    whole = Origami(number=1000, incorporation=1.0, labelling=BARE, **knobs).make(Run(1))
    some = Origami(number=1000, incorporation=0.7, labelling=BARE, **knobs).make(Run(1))
    marks = whole.structures.sites.positions_nm.reshape(1000, rows, columns, 3)
    along = np.linalg.norm(np.diff(marks, axis=2), axis=3)
    np.testing.assert_allclose(along, spacing, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(np.diff(marks, axis=1), axis=3), spacing, atol=1e-9)
    angle = whole.truth()["structures"]["angle_deg"]
    step = marks[:, 0, 1] - marks[:, 0, 0]
    turned = np.deg2rad(angle) - np.arctan2(step[:, 1], step[:, 0])
    np.testing.assert_allclose(np.cos(turned), 1, atol=1e-12)
    assert kstest(angle, "uniform", args=(0, 360)).pvalue > 0.01
    sites = some.structures.sites
    share_is(len(sites), 1000 * rows * columns, 0.7)
    np.testing.assert_array_equal(
        sites.positions_nm, marks.reshape(1000, -1, 3)[sites.structure, sites.part]
    )


# ---- labels and dyes


@pytest.mark.parametrize("length", [3.5, 17.5])
def test_a_fixed_linker_points_anywhere_on_the_sphere(length):
    away = labels_on(20_000, Labelling(efficiency=1.0, linker=FixedLinker(length_nm=length)))
    np.testing.assert_allclose(np.linalg.norm(away.positions_nm, axis=1), length, rtol=1e-12)
    for axis in range(3):  # Archimedes: each coordinate is uniform
        test = kstest(away.positions_nm[:, axis], "uniform", args=(-length, 2 * length))
        assert test.pvalue > 0.01


@pytest.mark.parametrize("sd", [2.0, 9.0])
def test_a_gaussian_linker_has_its_standard_deviation(sd):
    away = labels_on(20_000, Labelling(efficiency=1.0, linker=GaussianLinker(sd_nm=sd)))
    for axis in range(3):
        assert kstest(away.positions_nm[:, axis], "norm", args=(0, sd)).pvalue > 0.01
    mean_is(np.linalg.norm(away.positions_nm, axis=1), sd * np.sqrt(8 / np.pi))


def test_an_outward_linker_stays_outside():
    normals = np.random.default_rng(1).standard_normal((5000, 3))
    normals /= np.linalg.norm(normals, axis=1)[:, None]
    linker = FixedLinker(length_nm=10.0, outward=True)
    labels = labels_on(5000, Labelling(efficiency=1.0, linker=linker), outward=normals)
    along = (labels.positions_nm * normals).sum(axis=1)
    assert kstest(along, "uniform", args=(0, 10)).pvalue > 0.01


@pytest.mark.parametrize("degree", [1.5, 4.0])
def test_antibodies_carry_poisson_numbers_of_dyes(degree):
    knobs = {"dyes_per_label": degree, "dyes_distribution": "poisson", "dye_spread_nm": 3.0}
    labels = labels_on(20_000, Labelling(efficiency=1.0, linker=NoLinker(), **knobs))
    number = np.bincount(labels.dyes.label, minlength=20_000)
    mean_is(number, degree)
    mean_is((number - degree) ** 2, degree)
    share_is(int((number == 0).sum()), 20_000, np.exp(-degree))
    mean_is((labels.dyes.positions_nm**2).ravel(), 9.0)


@pytest.mark.parametrize(("share", "cv"), [(0.5, 0.3), (0.9, 1.0)])
def test_a_part_of_the_dyes_fluoresces_with_log_normal_brightness(share, cv):
    dye = Fluorophore(preset="dstorm", brightness_cv=cv)
    labels = labels_on(40_000, Labelling(efficiency=1.0, fluorescent_fraction=share, dye=dye))
    share_is(int(labels.fluoresces.sum()), 40_000, share)
    seen = labels.fluorescing()
    assert labels.fluoresces[seen.dye].all()
    mean_is(labels.dyes.brightness, 1.0)
    mean_is((labels.dyes.brightness - 1) ** 2, cv**2)
    logs = np.log(labels.dyes.brightness)
    s2 = np.log1p(cv**2)
    assert kstest(logs, "norm", args=(-s2 / 2, np.sqrt(s2))).pvalue > 0.01


def test_every_site_keeps_its_label_at_a_higher_efficiency():
    """Also the linker, the number of dyes, which of them fluoresce and how bright they are."""
    knobs = {
        "dyes_per_label": 2.0, "dyes_distribution": "poisson", "fluorescent_fraction": 0.8,
        "dye_spread_nm": 2.0, "dye": Fluorophore(preset="dstorm", brightness_cv=0.5),
    }  # fmt: skip
    few, many = (
        Clusters(labelling=Labelling(efficiency=p, **knobs)).make(Run(9)) for p in (0.3, 0.6)
    )
    one, two = few.structures.sites.positions_nm, many.structures.sites.positions_nm
    np.testing.assert_array_equal(one, two)
    assert np.isin(few.labels.site, many.labels.site).all()
    again = np.isin(many.labels.site, few.labels.site)
    np.testing.assert_array_equal(many.labels.positions_nm[again], few.labels.positions_nm)
    dyes = many.labels.dyes.select(again[many.labels.dyes.label])
    np.testing.assert_array_equal(dyes.positions_nm, few.labels.dyes.positions_nm)
    np.testing.assert_array_equal(dyes.brightness, few.labels.dyes.brightness)
    np.testing.assert_array_equal(dyes.site, few.labels.dyes.site)
    np.testing.assert_array_equal(
        many.labels.fluoresces[again[many.labels.dyes.label]], few.labels.fluoresces
    )


@pytest.mark.parametrize(
    ("knobs", "same"),
    [
        ({"linker": GaussianLinker(sd_nm=8.0)}, ("site", "brightness", "fluoresces")),
        ({"fluorescent_fraction": 0.4}, ("site", "brightness", "positions_nm")),
        ({"dye_spread_nm": 4.0}, ("site", "brightness", "fluoresces")),
        (
            {"dye": Fluorophore(preset="dstorm", brightness_cv=0.1)},
            ("site", "fluoresces", "positions_nm"),
        ),
    ],
)
def test_each_cause_has_random_numbers_of_its_own(knobs, same):
    usual = {"fluorescent_fraction": 0.7, "dye": Fluorophore(preset="dstorm", brightness_cv=0.5)}
    one = labels_on(2000, Labelling(efficiency=0.5, **usual))
    two = labels_on(2000, Labelling(efficiency=0.5, **{**usual, **knobs}))
    changed = 0
    for name in ("site", "brightness", "positions_nm", "fluoresces"):
        a, b = (getattr(x if name == "fluoresces" else x.dyes, name) for x in (one, two))
        if name in same:
            np.testing.assert_array_equal(a, b)
        else:
            changed += not np.array_equal(a, b)
    assert changed

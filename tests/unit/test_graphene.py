"""Graphene: sites, rims, defects and ripples, and the exact strain around a hole."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.spatial import cKDTree

from nanophantom.samples.building.adatoms import Adatoms
from nanophantom.samples.graphene import Graphene
from nanophantom.simcore.atoms import Window
from nanophantom.simcore.runs import Run
from nanophantom.simcore.strain_fields import HoleInSheet, UniformStrain, field_of, reference_of

VIEW = Window.centred(8, 8)
BOND = 0.142
AROUND = np.linspace(0, 2 * np.pi, 73)


def neighbours(positions_nm: np.ndarray, within_nm: float = 0.17) -> np.ndarray:
    near = cKDTree(positions_nm).query_ball_point(positions_nm, within_nm)
    return np.array([len(found) - 1 for found in near])


def inside(positions_nm: np.ndarray, edge_nm: float) -> np.ndarray:
    return np.abs(positions_nm[:, :2]).max(axis=1) < edge_nm


# --- the elastic sheet with a hole ---


def stress(field: HoleInSheet, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Plane stress for a modulus of 1, shape (n, 2, 2)."""
    nu, e = field.poisson_ratio, field.strain(x, y)
    normal = (e.exx + nu * e.eyy, e.eyy + nu * e.exx)
    shear = (1 - nu) * e.exy
    tensor = np.array([[normal[0], shear], [shear, normal[1]]]) / (1 - nu**2)
    return np.moveaxis(tensor, -1, 0)


def test_kirsch_three_times_the_tension_beside_the_hole_and_its_pressure_at_the_ends():
    """Hoop stress S (1 - 2 cos 2 theta) under a tension S along x: G. Kirsch (1898)."""
    nu = 0.165
    field = HoleInSheet(2.4, 0.5, -0.3, exx=0.01, eyy=-nu * 0.01, poisson_ratio=nu)
    x, y = 0.5 + 1.2 * np.cos(AROUND), -0.3 + 1.2 * np.sin(AROUND)
    along = np.column_stack([-np.sin(AROUND), np.cos(AROUND)])
    hoop = np.einsum("ni,nij,nj->n", along, stress(field, x, y), along)
    np.testing.assert_allclose(hoop, 0.01 * (1 - 2 * np.cos(2 * AROUND)), atol=1e-14)


def test_the_edge_of_the_hole_is_free_of_forces_under_any_strain():
    field = HoleInSheet(3.0, exx=0.012, eyy=-0.004, exy=0.007, poisson_ratio=0.3)
    normal = np.column_stack([np.cos(AROUND), np.sin(AROUND)])
    force = np.einsum("nij,nj->ni", stress(field, *(1.5 * normal.T)), normal)
    np.testing.assert_allclose(force, 0, atol=1e-14)


def test_displacements_are_those_of_the_textbook():
    """Tension S along x, polar: S. P. Timoshenko & J. N. Goodier, Theory of Elasticity, and
    C. T. Sun & Z.-H. Jin, Fracture Mechanics (2012), section 3: for 2G = 1,
    u_r = S/2 {r [(k - 1)/2 + cos 2t] + a^2/r [1 + (1 + k) cos 2t] - a^4/r^3 cos 2t},
    u_t = S/2 {(1 - k) a^2/r - r - a^4/r^3} sin 2t."""
    nu, a = 0.19, 0.8
    k = (3 - nu) / (1 + nu)
    tension = 0.02 * (1 + nu)  # S / 2G = exx E / 2G
    field = HoleInSheet(2 * a, exx=0.02, eyy=-nu * 0.02, poisson_ratio=nu)
    r, t = (v.ravel() for v in np.meshgrid([0.8, 1.0, 2.5, 9.0], AROUND))
    ux, uy = field.displacement(r * np.cos(t), r * np.sin(t))
    c, s = np.cos(2 * t), np.sin(2 * t)
    radial = r * ((k - 1) / 2 + c) + a**2 / r * (1 + (1 + k) * c) - a**4 / r**3 * c
    around = ((1 - k) * a**2 / r - r - a**4 / r**3) * s
    np.testing.assert_allclose(ux * np.cos(t) + uy * np.sin(t), tension / 2 * radial, atol=1e-14)
    np.testing.assert_allclose(uy * np.cos(t) - ux * np.sin(t), tension / 2 * around, atol=1e-14)


def test_under_equal_tension_the_hole_is_that_of_lame():
    """u_r = (S/E) [(1 - nu) r + (1 + nu) a^2 / r]."""
    nu = 0.165
    field = HoleInSheet(2.0, exx=0.01, eyy=0.01, poisson_ratio=nu)
    r = np.array([1.0, 1.7, 4.0])
    ux, uy = field.displacement(r, 0 * r)
    expected = 0.01 / (1 - nu) * ((1 - nu) * r + (1 + nu) / r)
    np.testing.assert_allclose(ux, expected, rtol=1e-13)
    np.testing.assert_allclose(uy, 0, atol=1e-16)


def test_strain_is_the_gradient_of_displacement_and_fades_to_that_afar():
    field = HoleInSheet(2.0, 0.3, 0.1, exx=0.012, eyy=-0.004, exy=0.007)
    rng = np.random.default_rng(5)
    r, t = rng.uniform(1.05, 6, 200), rng.uniform(0, 2 * np.pi, 200)
    x, y, h = 0.3 + r * np.cos(t), 0.1 + r * np.sin(t), 1e-5
    right, left = field.displacement(x + h, y), field.displacement(x - h, y)
    down, up = field.displacement(x, y + h), field.displacement(x, y - h)
    (xx, yx), (xy, yy) = (
        ((one[0] - two[0]) / (2 * h), (one[1] - two[1]) / (2 * h))
        for one, two in ((right, left), (down, up))
    )
    for mine, numeric in zip(
        field.strain(x, y), (xx, yy, (xy + yx) / 2, (yx - xy) / 2), strict=True
    ):
        np.testing.assert_allclose(mine, numeric, atol=1e-10)
    far = field.strain(3e4, -2e4)
    np.testing.assert_allclose(far, [0.012, -0.004, 0.007, 0], atol=1e-10)


def test_the_hole_displaces_by_no_more_than_its_reach():
    for exx, eyy, exy in ((0.01, 0.01, 0), (0.01, -0.01, 0), (0.01, 0.004, -0.008)):
        field = HoleInSheet(2.0, exx=exx, eyy=eyy, exy=exy)
        x, y = np.cos(AROUND), np.sin(AROUND)
        mine, without = field.displacement(x, y), field.far_field.displacement(x, y)
        most = np.hypot(mine[0] - without[0], mine[1] - without[1]).max()
        assert 0.5 * field.reach_nm < most <= field.reach_nm * (1 + 1e-12)


def test_points_in_view_are_followed_back_and_the_hole_is_not_a_number():
    field = HoleInSheet(2.0, 1.0, 0.0, exx=-0.03, eyy=0.04, exy=0.01)
    rng = np.random.default_rng(8)
    x, y = rng.uniform(-4, 6, 500), rng.uniform(-5, 5, 500)
    out = np.hypot(x - 1, y) > 1
    ux, uy = field.displacement(x[out], y[out])
    back = reference_of(field, x[out] + ux, y[out] + uy)
    np.testing.assert_allclose(back, (x[out], y[out]), atol=1e-10)
    # well inside of the deformed hole, which is 7 % narrower at most
    deep = reference_of(field, 1 + 0.7 * np.cos(AROUND), 0.7 * np.sin(AROUND))
    assert np.isnan(deep).all()
    assert np.isnan(field.strain(1.2, 0.3)).all()


def test_a_truth_table_alone_gives_the_field_back():
    for field in (UniformStrain(0.01, -0.02, 0.003), HoleInSheet(2.0, 0.5, 1.0, 0.01, 0, 0.002)):
        table = {name: np.array(column) for name, column in field.table().items()}
        assert field_of(table) == field
    with pytest.raises(ValueError, match="not of 'uniform'"):
        UniformStrain.from_table(HoleInSheet(2.0).table())
    with pytest.raises(ValueError, match="no strain field 'knot'"):
        field_of({"field": np.array(["knot"])})


# --- sites ---


def test_a_perfect_sheet_has_graphenes_density_and_bonds():
    """Two atoms in 3 sqrt 3 / 2 bond^2; three neighbours at 0.142 nm, six at 0.246 nm."""
    atoms = Graphene(rotation_deg=11).make(Run(0)).atoms_within(Window.centred(40, 40))
    assert len(atoms) == pytest.approx(4 * 1600 / (np.sqrt(27) * BOND**2), rel=1e-3)
    p = atoms.positions_nm
    distance, _ = cKDTree(p).query(p[inside(p, 19)], k=11)
    np.testing.assert_allclose(distance[:, 1:4], BOND, atol=3e-9)
    np.testing.assert_allclose(distance[:, 4:10], np.sqrt(3) * BOND, atol=3e-9)
    assert distance[:, 10].min() > 1.9 * BOND
    assert atoms.group_names == ("sheet",)


def test_layers_are_stacked_as_in_graphite_or_one_on_the_other_or_twisted():
    def above(sample: Graphene) -> np.ndarray:
        p = sample.make(Run(0)).atoms_within(VIEW).positions_nm
        first, second = p[p[:, 2] < 0.1], p[np.abs(p[:, 2] - 0.335) < 1e-9]
        return cKDTree(second[:, :2]).query(first[inside(first, 3)][:, :2])[0]

    ab = above(Graphene(layers=2))
    assert set(np.round(ab, 6)) == {0.0, BOND}
    assert (ab < 1e-6).mean() == pytest.approx(0.5, abs=0.02)
    assert above(Graphene(layers=2, stacking="AA")).max() < 1e-8
    # A twist by 60 degrees turns hexagons into themselves; by 21.8 into a moire of 28 atoms.
    assert above(Graphene(layers=2, stacking="AA", twist_deg=60)).max() < 1e-8
    twisted = above(Graphene(layers=2, stacking="AA", twist_deg=np.rad2deg(np.arccos(13 / 14))))
    assert (twisted > 0.02).mean() > 0.5


@pytest.mark.parametrize("diameter", [0.5, 1.1, 1.57, 2.3, 4.0])
def test_each_atom_at_the_rim_of_a_hole_keeps_two_neighbours(diameter):
    trimmed = 0
    for centre, turn in (((0.0, 0.0), 0), ((0.07, 0.31), 13), ((-0.2, 0.11), 40)):
        sample = Graphene(
            hole_diameter_nm=diameter,
            hole_centre_nm=centre,
            rotation_deg=turn,
            vacancies_percent=5,
            layers=2,
        )
        specimen = sample.make(Run(7))
        p = specimen.atoms_within(VIEW).positions_nm
        counts = neighbours(p)[inside(p, 3.7)]
        assert counts.min() == 2
        assert counts.max() == 3
        r = np.hypot(p[:, 0] - centre[0], p[:, 1] - centre[1])
        assert diameter / 2 <= r.min() < diameter / 2 + 2 * BOND
        trimmed += len(specimen.truth()["trimmed"]["x_nm"])
    assert trimmed > 0 or diameter < 2


def test_atoms_stand_exactly_where_the_field_takes_them():
    plain = Graphene(hole_diameter_nm=2.0, hole_centre_nm=(0.4, -0.2))
    strained = plain.model_copy(update={"strain_yy_percent": 3.0, "strain_xy_percent": -1.0})
    specimen = strained.make(Run(0))
    p = specimen.atoms_within(VIEW).positions_nm
    field = field_of(specimen.truth()["strain_field"])
    back = np.column_stack(reference_of(field, p[:, 0], p[:, 1]))
    unstrained = plain.make(Run(0)).atoms_within(Window.centred(9, 9)).positions_nm[:, :2]
    apart, which = cKDTree(unstrained).query(back)
    assert apart.max() < 5e-9
    assert len(set(which)) == len(p)
    # and none that belongs into the view is missing
    x, y = unstrained.T
    ux, uy = field.displacement(x, y)
    assert VIEW.holds(np.round(x + ux, 9), np.round(y + uy, 9)).sum() == len(p)


def test_the_lattice_itself_is_strained_as_the_specimen_says():
    """Deformation of the hexagon of second neighbours, fitted, around a hole of 6 nm.

    The hexagon is symmetric, so the fit differs from du/dX at its middle by third derivatives,
    3 d^2 (3 nm)^2 / r^4 of the strain afar, 0.0001 at most here.
    """
    sample = Graphene(hole_diameter_nm=6.0, strain_xx_percent=1.0, strain_yy_percent=-0.4)
    specimen = sample.make(Run(0))
    p = specimen.atoms_within(Window.centred(11, 11)).positions_nm[:, :2]
    r = np.hypot(*p.T)
    middle = p[inside(p, 5) & (r > 3.6)]
    reference = np.column_stack(reference_of(sample.strain_field, *p.T))
    own = np.column_stack(reference_of(sample.strain_field, *middle.T))
    _, near = cKDTree(reference).query(own, k=10)
    before = reference[near[:, 4:]] - own[:, None]
    after = p[near[:, 4:]] - middle[:, None]
    deformation = np.array([np.linalg.lstsq(b, a)[0].T for b, a in zip(before, after, strict=True)])
    told = specimen.strain_at(*middle.T)
    fitted = deformation - np.eye(2)
    np.testing.assert_allclose(fitted[:, 0, 0], told.exx, atol=1e-4)
    np.testing.assert_allclose(fitted[:, 1, 1], told.eyy, atol=1e-4)
    np.testing.assert_allclose((fitted[:, 0, 1] + fitted[:, 1, 0]) / 2, told.exy, atol=1e-4)
    rotation = (fitted[:, 1, 0] - fitted[:, 0, 1]) / 2
    np.testing.assert_allclose(rotation, told.rotation_rad, atol=1e-4)
    assert np.ptp(told.exx) > 0.01  # there is something to see


def test_an_atom_is_the_same_whatever_view_is_asked_for():
    sample = Graphene(
        layers=2,
        twist_deg=5,
        hole_diameter_nm=1.5,
        strain_xx_percent=2,
        vacancies_percent=2,
        substitutions_percent={"N": 5, "Si": 1},
        ripple_rms_nm=0.05,
        ripple_wavelength_nm=4,
        adatoms=(Adatoms(number=4, within_nm=5),),
    )
    specimen = pickle.loads(pickle.dumps(sample.make(Run(4))))
    whole = specimen.atoms_within(Window(-3, 3, -2, 2))
    parts = (
        specimen.atoms_within(Window(-3, 0.1, -2, 2))
        + specimen.atoms_within(Window(0.1, 3, -2, -0.7))
        + specimen.atoms_within(Window(0.1, 3, -0.7, 2))
    )
    order = [np.lexsort(a.positions_nm.T) for a in (parts, whole)]
    np.testing.assert_array_equal(parts.positions_nm[order[0]], whole.positions_nm[order[1]])
    np.testing.assert_array_equal(parts.numbers[order[0]], whole.numbers[order[1]])
    np.testing.assert_array_equal(parts.groups[order[0]], whole.groups[order[1]])
    other = sample.make(Run(5)).atoms_within(Window(-3, 3, -2, 2))
    assert len(other) != len(whole) or (other.numbers != whole.numbers).any()


# --- defects ---


@pytest.mark.parametrize("percent", [0.5, 4.0])
def test_vacancies_have_their_share_and_never_share_a_neighbour(percent):
    specimen = Graphene(vacancies_percent=percent, listed_nm=60).make(Run(11))
    lost = specimen.truth()["vacancies"]
    sites = 4 * 3600 / (np.sqrt(27) * BOND**2)
    spread = np.sqrt(percent / 100 * sites)  # of independent ones, which vary more
    assert len(lost["x_nm"]) == pytest.approx(percent / 100 * sites, abs=4 * spread)
    places = np.column_stack([lost["x_nm"], lost["y_nm"]])
    assert cKDTree(places).query(places, k=2)[0][:, 1].min() > 1.9 * BOND
    # Atoms and vacancies together are the whole sheet, each site once.
    view = Window.centred(20, 20)
    atoms = specimen.atoms_within(view).positions_nm[:, :2]
    both = np.concatenate([atoms, places[view.holds(*places.T)]])
    whole = Graphene().make(Run(0)).atoms_within(view).positions_nm[:, :2]
    assert len(both) == len(whole)
    assert cKDTree(whole).query(both)[0].max() < 1e-8


def test_substituted_atoms_have_their_shares_and_are_those_of_the_truth():
    specimen = Graphene(substitutions_percent={"N": 3, "B": 1}, listed_nm=40).make(Run(2))
    view = Window.centred(40, 40)
    atoms = specimen.atoms_within(view)
    for number, share in ((7, 0.03), (5, 0.01)):
        expected = share * len(atoms)
        assert (atoms.numbers == number).sum() == pytest.approx(expected, abs=4 * expected**0.5)
    listed = specimen.truth()["substitutions"]
    foreign = atoms.numbers != 6
    order = np.lexsort(atoms.positions_nm[foreign].T)
    rows = np.column_stack([listed[f"{axis}_nm"] for axis in "xyz"])
    mine = np.lexsort(rows.T)
    np.testing.assert_array_equal(rows[mine], atoms.positions_nm[foreign][order])
    np.testing.assert_array_equal(listed["number"][mine], atoms.numbers[foreign][order])


def test_ripples_have_their_height_and_are_known_by_their_table():
    sample = Graphene(ripple_rms_nm=0.08, ripple_wavelength_nm=3.0, z_nm=0.2, layers=2)
    specimen = sample.make(Run(3))
    atoms = specimen.atoms_within(Window.centred(60, 60))
    waves = specimen.truth()["ripples"]
    x, y, z = atoms.positions_nm.T
    height = np.zeros(len(x))
    for kx, ky, amplitude, phase in zip(*waves.values(), strict=True):
        height += amplitude * np.cos(2 * np.pi * (kx * x + ky * y) + phase)
    layer = z - height
    planes = specimen.truth()["layers"]["z_nm"]
    assert np.abs(layer[:, None] - planes).min(axis=1).max() < 2e-9
    # sqrt(sum A^2 / 2) over an endless sheet; 60 nm hold 400 waves or so
    assert np.sqrt((waves["amplitude_nm"] ** 2).sum() / 2) == pytest.approx(0.08, rel=1e-12)
    assert height.std() == pytest.approx(0.08, rel=0.1)
    assert z.min() >= 0.2
    assert z.max() <= specimen.exit_nm


@pytest.mark.parametrize(
    ("site", "bearers"), [("top", 1), ("bridge", 2), ("hollow", 6)], ids=lambda v: str(v)
)
@pytest.mark.parametrize("side", ["entrance", "exit"])
def test_adatoms_stand_on_their_sites_a_covalent_bond_away(site, bearers, side):
    """Au 0.136 nm and C 0.076 nm: B. Cordero et al., Dalton Trans. (2008) 2832."""
    sample = Graphene(
        layers=2, hole_diameter_nm=2, adatoms=(Adatoms(site=site, side=side, number=20),)
    )
    specimen = sample.make(Run(6))
    atoms = specimen.atoms_within(Window.centred(14, 14))
    of = {name: atoms.groups == k for k, name in enumerate(atoms.group_names)}
    gold, sheet = atoms.positions_nm[of["adatoms"]], atoms.positions_nm[of["sheet"]]
    assert set(atoms.numbers[of["adatoms"]]) == {79}
    assert len(gold) == 20
    distance, _ = cKDTree(sheet).query(gold, k=bearers + 1)
    np.testing.assert_allclose(np.atleast_2d(distance)[:, :bearers], 0.212, atol=1e-8)
    assert distance[:, bearers].min() > 0.23
    assert cKDTree(gold).query(gold, k=2)[0][:, 1].min() >= 0.25
    outside = gold[:, 2] < sheet[:, 2].min() if side == "entrance" else gold[:, 2] > 0.335
    assert outside.all()
    assert atoms.positions_nm[:, 2].min() == 0
    assert atoms.positions_nm[:, 2].max() == pytest.approx(specimen.exit_nm, abs=1e-9)
    landed = specimen.truth()["adatoms"]
    np.testing.assert_array_equal(landed["x_nm"], gold[:, 0])
    assert set(landed["side"]) == {side}


# --- what else a specimen tells ---


def test_zero_point_motion_is_that_of_graphenes_debye_temperatures():
    """<u^2> = 3 hbar^2 / (4 M k Theta): 13.1 pm^2 for 2312 K, 23.5 pm^2 for 1287 K."""
    flat, upright = Graphene(temperature_k=0).displacements_A2()
    hbar, mass, k = 1.054571817e-34, 12.011 * 1.66053907e-27, 1.380649e-23
    for mine, theta in ((flat, 2312), (upright, 1287)):
        assert mine == pytest.approx(1e20 * 3 * hbar**2 / (4 * mass * k * theta), rel=1e-4)
    atoms = Graphene(u_in_plane_A2=0.002, u_out_of_plane_A2=0.01).make(Run(0)).atoms_within(VIEW)
    np.testing.assert_allclose(atoms.tensors_A2[0], np.diag([0.002, 0.002, 0.01]))
    assert atoms.b_factors_A2[0] == pytest.approx(8 * np.pi**2 * 0.002)


def test_the_operator_knows_the_unstrained_lattice_and_a_perfect_sheet_is_periodic():
    sample = Graphene(layers=2, strain_xx_percent=2, rotation_deg=0)
    crystal = sample.make(Run(0)).known["crystal"]
    cell = np.array(crystal["cell_nm"])
    np.testing.assert_allclose(np.linalg.norm(cell, axis=1), [0.24595, 0.24595, 0.67], atol=1e-5)
    assert crystal["numbers"] == [6] * 4
    found = sample.make(Run(0)).periodic_column()
    assert found is not None
    vectors, atoms = found
    np.testing.assert_allclose(vectors[0], [1.02 * np.sqrt(3) * BOND, 0], atol=1e-9)
    assert len(atoms) == 4
    view = Window.centred(30, 30)
    many = len(sample.make(Run(0)).atoms_within(view))
    assert 4 * 900 / abs(np.linalg.det(vectors)) == pytest.approx(many, rel=2e-3)
    assert Graphene(layers=2, twist_deg=3).make(Run(0)).periodic_column() is None
    assert Graphene.small().make(Run(0)).periodic_column() is None


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"vacancies_percent": 6}, "vacancies_percent"),
        ({"substitutions_percent": {"Qq": 1}}, "'Qq' is no chemical symbol"),
        ({"substitutions_percent": {"C": 1}}, "substitutions_percent: the sheet is of C already"),
        ({"substitutions_percent": {"N": 60, "B": 50}}, "substitutions_percent: shares add up"),
        ({"strain_xx_percent": 4, "strain_xy_percent": 4}, "strain_xy_percent: together"),
        ({"ripple_rms_nm": 2.0, "ripple_wavelength_nm": 5}, "ripple_rms_nm: 2 nm is too steep"),
        ({"adatoms": [{"element": "Xy"}]}, "'Xy' is no chemical symbol"),
    ],
)
def test_bad_knobs_are_refused_by_name(knobs, words):
    with pytest.raises(ValidationError, match=words):
        Graphene.model_validate(knobs)


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"hole_diameter_nm": 0.2}, "^hole_diameter_nm: 0.2 nm about 0, 0 holds no atom"),
        ({"adatoms": [{"number": 99, "within_nm": 1.0}]}, "^adatoms: of 99 Au only"),
        ({"adatoms": [{"element": "H", "site": "hollow"}]}, "^adatoms: H at a hollow site"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(knobs, words):
    with pytest.raises(ValueError, match=words):
        Graphene.model_validate(knobs).make(Run(0))
    with pytest.raises(ValueError, match="lower the field of view"):
        Graphene().make(Run(0)).atoms_within(Window.everywhere())

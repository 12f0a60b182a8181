"""Core-shell particles: the elastic ball with a misfitting core, and the atoms that follow it."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.integrate import quad
from scipy.spatial import ConvexHull, HalfspaceIntersection, cKDTree

from nanophantom.samples.building.metals import METALS
from nanophantom.samples.core_shell import CoreShell
from nanophantom.simcore.atoms import Window
from nanophantom.simcore.runs import Run
from nanophantom.simcore.strain_fields import MisfittingSphere, field_of

BALL = MisfittingSphere(
    core_diameter_nm=3.0,
    diameter_nm=7.0,
    misfit=0.04,
    core_bulk_gpa=280,
    shell_bulk_gpa=105,
    shell_shear_gpa=30,
    x_nm=0.4,
    y_nm=-0.7,
    z_nm=3.6,
)
MIDDLE = np.array([0.4, -0.7, 3.6])


def directions(n: int) -> np.ndarray:
    vectors = np.random.default_rng(4).standard_normal((n, 3))
    return vectors / np.linalg.norm(vectors, axis=1)[:, None]


def tensors(field: MisfittingSphere, points: np.ndarray) -> np.ndarray:
    e = field.strain(*points.T)
    rows = [[e.exx, e.exy, e.exz], [e.exy, e.eyy, e.eyz], [e.exz, e.eyz, e.ezz]]
    return np.moveaxis(np.array(rows), -1, 0)


def stress(elastic: np.ndarray, bulk: float, shear: float) -> np.ndarray:
    """Hooke's law: K tr(e) + 2 G (e - tr(e) / 3)."""
    trace = np.trace(elastic, axis1=1, axis2=2)[:, None, None] * np.eye(3)
    return np.asarray(bulk * trace + 2 * shear * (elastic - trace / 3))


# --- the elastic ball ---


def test_displacement_and_traction_are_continuous_and_the_surface_is_free():
    """On the core the elastic strain is the strain less the misfit; any shear modulus does."""
    n = directions(50)
    r = 1.5
    inner, outer = MIDDLE + n * (r - 1e-10), MIDDLE + n * (r + 1e-7)
    step = np.array(BALL.displacement(*outer.T)) - np.array(BALL.displacement(*inner.T))
    np.testing.assert_allclose(step, 0, atol=2e-8)
    core = stress(tensors(BALL, inner) - 0.04 * np.eye(3), 280, 77.0)
    shell = stress(tensors(BALL, MIDDLE + n * r * (1 + 1e-9)), 105, 30)
    push, answer = (np.einsum("nij,nj->ni", s, n) for s in (core, shell))
    np.testing.assert_allclose(push, answer, atol=1e-7)
    pressure = -np.einsum("ni,ni->n", push, n)
    assert pressure.min() > 1  # GPa: a core too large is squeezed
    free = stress(tensors(BALL, MIDDLE + 3.5 * n), 105, 30)
    np.testing.assert_allclose(np.einsum("nij,nj->ni", free, n), 0, atol=1e-13)


def test_strain_is_the_gradient_of_displacement_and_stress_is_in_equilibrium():
    n = directions(60)
    points = MIDDLE + n * np.linspace(0.2, 3.4, 60)[:, None]
    points = points[np.abs(np.linalg.norm(points - MIDDLE, axis=1) - 1.5) > 0.05]
    h = 1e-5

    def slope(of, axis):
        move = h * np.eye(3)[axis]
        return (of(points + move) - of(points - move)) / (2 * h)

    gradient = np.stack(
        [slope(lambda p: np.array(BALL.displacement(*p.T)).T, axis) for axis in range(3)], axis=2
    )
    np.testing.assert_allclose(gradient, tensors(BALL, points), atol=1e-10)
    # div(stress) = 0: in the core strain is even, in the shell this holds for any moduli
    pull = [
        slope(lambda p, axis=axis: stress(tensors(BALL, p), 105, 30)[:, axis], axis)
        for axis in range(3)
    ]
    force = np.sum(pull, axis=0)
    np.testing.assert_allclose(force, 0, atol=1e-7)


def test_limits_no_misfit_no_shell_and_no_end_of_the_shell():
    """Without end: A = f 3 K_c / (3 K_c + 4 G), J. D. Eshelby (1954)."""
    assert replace(BALL, misfit=0.0).constants == (0.0, 0.0, 0.0)
    thin = replace(BALL, core_diameter_nm=7.0 * (1 - 1e-9))
    assert thin.constants[0] == pytest.approx(0.04, rel=1e-7)
    endless = replace(BALL, diameter_nm=3e4)
    a, b, c = endless.constants
    assert a == pytest.approx(0.04 * 840 / (840 + 120), rel=1e-9)
    assert b == pytest.approx(0, abs=1e-12)
    assert c == pytest.approx(a * 1.5**3, rel=1e-9)


def test_alike_materials_grow_by_the_volume_that_the_core_brings():
    """The mean of stress in a free body is zero, so its volume grows by that of the misfit alone:
    dV / V = 3 f (a/R)^3 for equal moduli (G. Albenga (1918); T. Mura, Micromechanics (1987))."""
    alike = replace(BALL, core_bulk_gpa=105)
    ux, _, _ = alike.displacement(MIDDLE[0] + 3.5, *MIDDLE[1:])
    assert 3 * ux / 3.5 == pytest.approx(3 * 0.04 * (3 / 7) ** 3, rel=1e-12)


@pytest.mark.parametrize("s", [0.0, 0.3, 1.2, 1.499, 1.501, 2.2, 3.3])
def test_means_along_the_beam_are_those_of_a_quadrature(s):
    x, y = 0.4 + s * np.cos(0.7), -0.7 + s * np.sin(0.7)
    half = np.sqrt(3.5**2 - s**2)
    core = np.sqrt(max(1.5**2 - s**2, 0))
    for low, high in ((-half, half), (-0.3, half), (0.4, 0.9 * half)):
        edges = [e for e in (-core, core) if low < e < high]

        def mean(part, low=low, high=high, edges=edges):
            found = quad(part, low, high, points=edges or None, epsabs=1e-14, epsrel=1e-12)[0]
            return found / (high - low)

        strain = BALL.mean_strain(x, y, 3.6 + low, 3.6 + high)
        for name in ("exx", "eyy", "exy"):
            numeric = mean(lambda z, name=name: float(getattr(BALL.strain(x, y, 3.6 + z), name)))
            assert getattr(strain, name) == pytest.approx(numeric, abs=1e-12)
        ux, uy = BALL.mean_displacement(x, y, 3.6 + low, 3.6 + high)
        for mine, axis in ((ux, 0), (uy, 1)):
            numeric = mean(lambda z, axis=axis: float(BALL.displacement(x, y, 3.6 + z)[axis]))
            assert mine == pytest.approx(numeric, abs=1e-12)
    np.testing.assert_allclose(
        BALL.projected_strain(x, y)[:3],
        BALL.mean_strain(x, y, 3.6 - half, 3.6 + half)[:3],
        atol=1e-16,
    )
    assert np.isnan(BALL.projected_strain(0.4 + 3.6, -0.7)[0])


def test_the_strain_of_columns_is_the_gradient_of_their_mean_places():
    rng = np.random.default_rng(2)
    s, t = rng.uniform(0.05, 3.4, 100), rng.uniform(0, 2 * np.pi, 100)
    s = s[np.abs(s - 1.5) > 0.02]
    t = t[: len(s)]
    x, y, h = 0.4 + s * np.cos(t), -0.7 + s * np.sin(t), 1e-5
    along_x, along_y = (
        (
            np.array(BALL.projected_displacement(x + h * dx, y + h * dy))
            - np.array(BALL.projected_displacement(x - h * dx, y - h * dy))
        )
        / (2 * h)
        for dx, dy in ((1, 0), (0, 1))
    )
    mine = BALL.column_strain(x, y)
    np.testing.assert_allclose(mine.exx, along_x[0], atol=1e-8)
    np.testing.assert_allclose(mine.eyy, along_y[1], atol=1e-8)
    np.testing.assert_allclose(mine.exy, along_y[0], atol=1e-8)
    np.testing.assert_allclose(mine.exy, along_x[1], atol=1e-8)
    # and it is not the mean strain
    assert np.abs(mine.exx - BALL.projected_strain(x, y).exx).max() > 0.002


def test_a_truth_table_alone_gives_the_ball_back():
    assert field_of(BALL.table()) == BALL
    with pytest.raises(ValueError, match="core_diameter_nm: 8 nm must lie between"):
        replace(BALL, core_diameter_nm=8.0)
    with pytest.raises(ValueError, match="shell_bulk_gpa must be positive"):
        replace(BALL, shell_bulk_gpa=0.0)


# --- metals ---


@pytest.mark.parametrize(
    ("element", "young", "poisson", "bulk"),
    [
        ("Ag", 83, 0.37, 100.7),
        ("Au", 78, 0.44, 173.2),
        ("Cu", 130, 0.34, 137),
        ("Ni", 200, 0.31, 186),
        ("Pd", 121, 0.39, 180.8),
        ("Pt", 168, 0.38, 278.3),
    ],
)
def test_moduli_of_single_crystals_average_to_those_of_polycrystals(element, young, poisson, bulk):
    """E and nu of polycrystals (WebElements), which scatter by 10 % with their texture; bulk
    moduli of C. Kittel, Introduction to Solid State Physics, table 3."""
    k, g = METALS[element].bulk_gpa, METALS[element].shear_gpa
    assert 9 * k * g / (3 * k + g) == pytest.approx(young, rel=0.12)
    assert (3 * k - 2 * g) / (6 * k + 2 * g) == pytest.approx(poisson, abs=0.02)
    assert k == pytest.approx(bulk, rel=0.07)


# --- the particle ---


@pytest.fixture(scope="module")
def particle():
    return CoreShell(centre_nm=(1.0, -0.5), rotation_deg=20).make(Run(0))


def test_the_core_is_an_evenly_strained_crystal_and_atoms_follow_the_field(particle):
    """Neighbours in the core are (1 + A) a / sqrt 2 apart, a of palladium."""
    core = particle.atoms.select(particle.atoms.groups == 0)
    assert set(core.numbers) == {79}
    a, _, _ = particle.field.constants
    distance, _ = cKDTree(core.positions_nm).query(core.positions_nm, k=2)
    np.testing.assert_allclose(distance[:, 1], (1 + a) * 0.38903 / np.sqrt(2), atol=4e-9)
    assert 0 < a < particle.recipe.misfit  # squeezed, but larger than palladium's lattice
    # Undone, every atom stands on palladium's lattice about the middle.
    middle = np.array([particle.field.x_nm, particle.field.y_nm, particle.field.z_nm])
    p = particle.atoms.positions_nm
    back = p.copy()
    for _ in range(60):
        back = p - np.column_stack(particle.field.displacement(*back.T))
    index = 2 * (back - middle) @ particle.rotation / 0.38903
    np.testing.assert_allclose(index, np.rint(index), atol=3e-8)
    assert (np.rint(index).astype(int).sum(axis=1) % 2 == 0).all()
    radius = np.linalg.norm(back - middle, axis=1)
    assert radius.max() <= 3.0 + 1e-8
    np.testing.assert_array_equal(radius <= 1.75 + 1e-8, particle.atoms.groups == 0)


def test_the_numbers_of_atoms_are_those_of_the_volumes(particle):
    counts = particle.truth()["particle"]
    per_nm3 = 4 / 0.38903**3
    assert counts["n_core"][0] == pytest.approx(np.pi / 6 * 3.5**3 * per_nm3, rel=0.05)
    total = counts["n_core"][0] + counts["n_shell"][0]
    assert total == len(particle.atoms) == pytest.approx(np.pi / 6 * 6**3 * per_nm3, rel=0.02)
    assert particle.atoms.group_names == ("core", "shell")
    z = particle.atoms.positions_nm[:, 2]
    assert z.min() == 0
    assert z.max() == pytest.approx(particle.exit_nm)
    assert counts["z_nm"][0] == pytest.approx(particle.exit_nm / 2, abs=1e-8)


def test_columns_lie_where_their_mean_displacement_takes_them():
    """Atoms of columns of ten and more along [110], against the mean over the ball's chord."""
    specimen = CoreShell(diameter_nm=10, core_diameter_nm=6).make(Run(0))
    field = specimen.field
    back = specimen.atoms.positions_nm.copy()
    for _ in range(60):
        moved = np.column_stack(field.displacement(*back.T))
        back = specimen.atoms.positions_nm - moved
    # the shift keeps multiples of half a lattice constant away from where rounding is undecided
    column, which, count = np.unique(
        np.round(back[:, :2] + 1.7e-5, 4), axis=0, return_inverse=True, return_counts=True
    )
    mean = np.column_stack(
        [np.bincount(which.ravel(), weights=moved[:, axis]) / count for axis in (0, 1)]
    )
    long = count >= 10
    assert long.sum() > 300
    expected = np.column_stack(field.projected_displacement(*column[long].T))
    size = np.hypot(*expected.T).max()
    assert size > 0.05
    assert np.hypot(*(mean[long] - expected).T).max() < 0.02 * size


def test_the_projected_strain_at_a_point_in_view_is_that_of_its_column(particle):
    x, y = 1.0 + np.array([0, 0.9, -2.2, 1.6]), -0.5 + np.array([0, 1.1, 0.3, -2.0])
    ux, uy = particle.field.projected_displacement(x, y)
    seen = particle.projected_strain(x + ux, y + uy)
    np.testing.assert_allclose(seen, particle.field.projected_strain(x, y), atol=1e-9)
    assert np.isnan(particle.projected_strain(9.0, 9.0).exx)


def test_a_faceted_particle_has_the_volume_and_the_facets_that_it_says():
    sample = CoreShell(shape="truncated-octahedron", zone_axis=(1, 1, 2), tilt_mrad=(8.0, -5.0))
    specimen = pickle.loads(pickle.dumps(sample.make(Run(0))))
    ideal = np.pi / 6 * 6**3 * 4 / 0.38903**3
    assert len(specimen.atoms) == pytest.approx(ideal, rel=0.06)
    facets = specimen.truth()["facets"]
    normals = np.column_stack([facets[f"normal_{axis}"] for axis in "xyz"])
    assert len(normals) == 14
    # Undone, no atom lies beyond a facet, and one layer's depth below each there are many.
    middle = np.array([specimen.field.x_nm, specimen.field.y_nm, specimen.field.z_nm])
    back = specimen.atoms.positions_nm.copy()
    for _ in range(60):
        back = specimen.atoms.positions_nm - np.column_stack(specimen.field.displacement(*back.T))
    height = (back - middle) @ normals.T
    assert (height <= facets["distance_nm"] + 1e-8).all()
    assert ((height > facets["distance_nm"] - 0.225).sum(axis=0) > 30).all()
    half_spaces = np.column_stack([normals, -facets["distance_nm"]])
    corners = HalfspaceIntersection(half_spaces, np.zeros(3)).intersections
    assert ConvexHull(corners).volume == pytest.approx(np.pi / 6 * 6**3, rel=1e-9)
    # So does the thickness under a point, added up.
    x, y = np.meshgrid(np.linspace(-4, 4, 801), np.linspace(-4, 4, 801))
    low, high = specimen.faces_nm(x, y)
    assert np.nansum(high - low) * 0.01**2 == pytest.approx(np.pi / 6 * 6**3, rel=1e-3)
    strain = specimen.projected_strain(0.3, 0.2)
    assert np.isfinite(strain.exx)
    assert strain.exx > 0


def test_the_operator_knows_the_shells_own_crystal():
    sample = CoreShell(zone_axis=(0, 0, 1), tilt_mrad=(10.0, 0.0), rotation_deg=90)
    crystal = sample.make(Run(0)).known["crystal"]
    assert crystal["numbers"] == [46]
    cell = np.array(crystal["cell_nm"])
    np.testing.assert_allclose(np.linalg.norm(cell, axis=1), 0.38903 / np.sqrt(2), atol=1e-12)
    assert abs(np.linalg.det(cell)) == pytest.approx(0.38903**3 / 4)
    assert set(np.round(cell[:, 2] / 0.38903, 9)) <= {0.0, 0.5}


def test_knobs_replace_the_metals_constants_and_b_factors():
    sample = CoreShell(
        core_element="Fe",
        core_lattice_nm=0.365,
        core_bulk_gpa=170,
        shell_element="Cu",
        b_factors_A2={"Fe": 0.5},
        diameter_nm=3,
        core_diameter_nm=1.5,
    )
    specimen = sample.make(Run(0))
    assert specimen.field.misfit == pytest.approx((0.365 - 0.36146) / 0.36146)
    assert specimen.field.core_bulk_gpa == 170
    atoms = specimen.atoms_within(Window.centred(6, 6))
    assert len(atoms) == len(specimen.atoms)
    assert set(atoms.b_factors_A2[atoms.numbers == 26]) == {0.5}
    assert 0.4 < atoms.b_factors_A2[atoms.numbers == 29][0] < 0.7
    none = CoreShell(core_element="Ag", shell_element="Ag", diameter_nm=2, core_diameter_nm=1)
    p = none.make(Run(0)).atoms.positions_nm
    distance, _ = cKDTree(p).query(p, k=2)
    np.testing.assert_allclose(distance[:, 1], 0.40857 / np.sqrt(2), atol=3e-9)


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"core_diameter_nm": 7.0}, "core_diameter_nm: a core of 7 nm leaves no shell in 6 nm"),
        ({"core_element": "Fe"}, "core_lattice_nm: not known for Fe; give it"),
        ({"shell_element": "W", "shell_lattice_nm": 0.39}, "shell_bulk_gpa: not known for W"),
        ({"core_lattice_nm": 0.5}, "core_lattice_nm: a misfit of 28.5 % doesn't stay coherent"),
        ({"b_factors_A2": {"Cu": 0.5}}, "b_factors_A2: there is no 'Cu' here"),
        ({"core_element": "Xx"}, "'Xx' is no chemical symbol"),
    ],
)
def test_bad_knobs_are_refused_by_name(knobs, words):
    with pytest.raises(ValidationError, match=words):
        CoreShell.model_validate(knobs)


def test_a_shell_thinner_than_a_layer_is_refused():
    with pytest.raises(ValueError, match=r"^core_diameter_nm: .* leaves no shell of a whole layer"):
        CoreShell(diameter_nm=2.0, core_diameter_nm=1.999).make(Run(0))

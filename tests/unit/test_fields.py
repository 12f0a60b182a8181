"""Specimens that are fields, periodic columns, and stacks: closed forms and conservation laws."""

from __future__ import annotations

import pickle

import ase.build
import ase.io
import numpy as np
import pytest
from pydantic import ValidationError
from scipy.integrate import quad

from nanophantom.samples._family import Sample
from nanophantom.samples.amorphous_film import AmorphousFilm
from nanophantom.samples.crystal import Crystal
from nanophantom.samples.magnetic_particles import (
    E_OVER_HBAR_PER_T_NM2,
    MagneticParticles,
    MagneticSphere,
    magnetic_phase_rad,
    neutral_atoms_V,
)
from nanophantom.samples.stack import GAP_NM, Stack
from nanophantom.simcore.atoms import Atoms, Window
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import (
    FieldLayer,
    FiniteAtoms,
    HasAtoms,
    HasFields,
    HasLattice,
    HasThickness,
    sample_points,
)

VIEW = Window.centred(100, 80)


def one_sphere(**changes: object) -> MagneticParticles:
    sphere = MagneticSphere(x_nm=3.0, y_nm=-5.0, radius_nm=12.0, direction=(2.0, 1.0, 0.5))
    return MagneticParticles(spheres=(sphere,), **changes)


# --- magnetised spheres ---


def vector_potential_z(x, y, z, radius, induction):
    """A_z in T nm: the dipole's (mu0 / 4 pi) m x r / r^3 outside, (mu0 / 3) M x r inside."""
    r = max(np.sqrt(x * x + y * y + z * z), radius)
    return (induction[0] * y - induction[1] * x) / 3 * radius**3 / r**3


@pytest.mark.parametrize("place", [(0.1, 0.0), (3.0, -4.0), (-7.0, 6.9), (8.0, 6.0), (20.0, -35.0)])
def test_magnetic_phase_is_the_line_integral_of_the_vector_potential(place):
    """-(e / hbar) int A_z dz, by quadrature inside and outside the sphere's shadow."""
    radius, induction = 10.0, np.array([0.5, -0.3, 0.2])
    x, y = place
    edge = np.sqrt(max(radius**2 - x * x - y * y, 0.0))
    inside, _ = quad(lambda z: vector_potential_z(x, y, z, radius, induction), 0, edge)
    outside, _ = quad(
        lambda z: vector_potential_z(x, y, z, radius, induction), edge, np.inf, epsrel=1e-11
    )
    expected = -2 * E_OVER_HBAR_PER_T_NM2 * (inside + outside)
    phase = magnetic_phase_rad(np.array(x), np.array(y), radius, induction)
    assert phase == pytest.approx(expected, rel=1e-9)


def test_phase_gradient_is_the_projected_induction():
    """d phi / dx = (e / hbar) int B_y dz, d phi / dy = -(e / hbar) int B_x dz.

    Through the centre the integral of B is R B0: 4/3 R B0 inside (B = 2/3 B0), less 1/3 R B0 of
    the return field before and behind.
    """
    radius, induction, h = 10.0, np.array([0.6, 0.2, 0.0]), 1e-4
    along_x = np.diff(magnetic_phase_rad(np.array([-h, h]), np.zeros(2), radius, induction))
    along_y = np.diff(magnetic_phase_rad(np.zeros(2), np.array([-h, h]), radius, induction))
    scale = E_OVER_HBAR_PER_T_NM2 * radius
    assert along_x[0] / (2 * h) == pytest.approx(scale * induction[1], rel=1e-8)
    assert along_y[0] / (2 * h) == pytest.approx(-scale * induction[0], rel=1e-8)


def test_projected_induction_has_no_sources_and_the_phase_no_jumps():
    """The projected B is a curl, so its divergence vanishes; the phase is smooth across the rim."""
    layer = one_sphere().make(Run(0)).fields_within(VIEW, (800, 1000))[0]
    phase = layer.phase_rad
    by, bx = np.gradient(phase, 0.1, axis=1), -np.gradient(phase, 0.1, axis=0)
    divergence = np.gradient(bx, 0.1, axis=1) + np.gradient(by, 0.1, axis=0)
    assert np.abs(divergence[2:-2, 2:-2]).max() < 1e-12
    assert np.abs(np.diff(phase, 2, axis=0)).max() < 0.02 * np.abs(phase).max()


def test_the_phase_peaks_just_inside_the_rim():
    """Across m it goes as [1 - (1 - s)^(3/2)] / sqrt(s), s = (y / R)^2: maximal at sqrt(3) / 2.

    With u^2 = 1 - s its derivative vanishes where (u - 1) (2 u^2 + 2 u - 1) = 0.
    """
    y = np.linspace(0.01, 20, 200_000)
    phase = magnetic_phase_rad(np.zeros_like(y), y, 10.0, np.array([1.0, 0.0, 0.0]))
    assert y[np.abs(phase).argmax()] == pytest.approx(10 * np.sqrt(np.sqrt(3) / 2), abs=2e-4)


def test_a_spheres_potential_integrates_to_its_volume_and_is_centred():
    """The integral of V over the view is V0 4/3 pi R^3."""
    specimen = one_sphere(mean_inner_potential_V=17.0).make(Run(0))
    (layer,) = specimen.fields_within(VIEW, (800, 1000))
    assert layer.z_nm == pytest.approx(12.0)
    assert specimen.exit_nm == pytest.approx(24.0)
    total = layer.potential_V_nm.sum() * 0.01
    assert total == pytest.approx(17.0 * 4 / 3 * np.pi * 12**3, rel=1e-4)
    x, y = sample_points(VIEW, (800, 1000))
    assert (layer.potential_V_nm.sum(axis=0) @ x) * 0.01 / total == pytest.approx(3.0, abs=1e-3)
    assert (layer.potential_V_nm.sum(axis=1) @ y) * 0.01 / total == pytest.approx(-5.0, abs=1e-3)


def test_truth_tells_the_moments():
    """m = B0 V / mu0: magnetite of 12 nm radius, 0.603 T: 3.47e-18 A m^2."""
    table = one_sphere().make(Run(0)).truth()["particles"]
    moment = np.array([table[f"moment_{c}_A_m2"][0] for c in "xyz"])
    expected = 0.603 / (4e-7 * np.pi) * 4 / 3 * np.pi * (12e-9) ** 3
    assert np.linalg.norm(moment) == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(moment / moment[2], [4, 2, 1], rtol=1e-12)


def test_fields_of_many_spheres_add_up_and_those_of_one_depth_share_a_layer():
    near = MagneticSphere(x_nm=-20, radius_nm=10.0)
    level = MagneticSphere(x_nm=20, radius_nm=10.0, direction=(0, 1, 0))
    behind = MagneticSphere(y_nm=20, z_nm=50, radius_nm=10.0)
    layers = (
        MagneticParticles(spheres=(near, level, behind)).make(Run(0)).fields_within(VIEW, (8, 10))
    )
    assert [layer.z_nm for layer in layers] == [10.0, 60.0]
    alone = [
        MagneticParticles(spheres=(sphere,)).make(Run(0)).fields_within(VIEW, (8, 10))[0].phase_rad
        for sphere in (near, level)
    ]
    np.testing.assert_allclose(layers[0].phase_rad, sum(alone), rtol=1e-12)


def test_bad_spheres_are_refused():
    overlapping = (MagneticSphere(radius_nm=10), MagneticSphere(x_nm=15, radius_nm=10))
    with pytest.raises(ValidationError, match=r"0 and 1 overlap, .* 15 nm apart"):
        MagneticParticles(spheres=overlapping)
    with pytest.raises(ValidationError, match=r"\(0, 0, 0\) is no direction"):
        MagneticSphere(direction=(0, 0, 0))


def test_neutral_atoms_potential_of_iron():
    """About 22 V are measured; neutral atoms give more, bonds lower it by a fifth or so."""
    assert 22 < neutral_atoms_V("iron") < 35


# --- layers of fields ---


def test_field_layers_are_checked():
    with pytest.raises(ValueError, match="needs a potential or a phase"):
        FieldLayer(0.0)
    with pytest.raises(ValueError, match="both of one shape"):
        FieldLayer(0.0, np.zeros((2, 3)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="must be finite"):
        FieldLayer(0.0, np.full((2, 2), np.nan))


# --- periodic columns ---


def columns_repeated(cell, atoms, window):
    """Every lattice translation of the column's atoms that falls into a window."""
    n = np.array([(i, j) for i in range(-40, 41) for j in range(-40, 41)])
    places = atoms.positions_nm[None] + np.pad(n @ cell, ((0, 0), (0, 1)))[:, None]
    places = places.reshape(-1, 3)
    return places[window.holds(places[:, 0], places[:, 1])]


@pytest.mark.parametrize(
    ("changes", "area_nm2"),
    [
        ({"file": "srtio3.cif"}, 0.3905**2),
        ({"file": "srtio3.cif", "zone_axis": (1, 1, 0)}, 0.3905**2 * np.sqrt(2)),
        ({"file": "srtio3.cif", "zone_axis": (1, 1, 1)}, 0.3905**2 * np.sqrt(3)),
        ({"file": "srtio3.cif", "x_axis": (3, 1, 0)}, 0.3905**2),
        ({"file": "gold.cif", "supercell": (2, 1, 1), "thickness_nm": 2.3}, 0.40782**2 / 2),
        ({"file": "gold.cif", "zone_axis": (1, 1, 0)}, 0.40782**2 / np.sqrt(2)),
        ({"file": "gold.cif", "zone_axis": (1, 1, 1)}, 0.40782**2 * np.sqrt(3) / 4),
        (
            {"file": "srtio3.cif", "strain_xx_percent": 2.0, "strain_xy_percent": 1.0},
            0.3905**2 * (1.02 - 0.01**2),
        ),
    ],
)
def test_a_periodic_column_repeated_is_the_foil(changes, area_nm2):
    """All atoms of a window, each once, from one cell; its area is the closed form's."""
    foil = Crystal.model_validate({"thickness_nm": 1.5, **changes}).make(Run(0))
    assert isinstance(foil, HasLattice)
    cell, atoms = foil.periodic_column()
    assert np.linalg.det(cell) == pytest.approx(area_nm2, rel=1e-6)  # right-handed
    if "strain_xy_percent" not in changes:
        assert cell[0, 1] == 0  # along +x
        assert cell[0, 0] > 0
    window = Window(-1.234, 1.377, -0.951, 1.512)
    expected = foil.atoms_within(window).positions_nm
    made = columns_repeated(cell, atoms, window)
    assert len(made) == len(expected)
    order = [np.lexsort(np.round(p, 6).T) for p in (made, expected)]
    np.testing.assert_allclose(made[order[0]], expected[order[1]], atol=1e-8)
    share = atoms.positions_nm[:, :2] @ np.linalg.inv(cell)
    assert share.min() > -1e-6
    assert share.max() < 1


@pytest.fixture
def cobalt(tmp_path):
    path = tmp_path / "cobalt.cif"
    ase.io.write(path, ase.build.bulk("Co", "hcp", a=2.507, c=4.069))
    return str(path)


def test_hexagonal_cells_have_vectors_at_60_or_120_degrees(cobalt):
    """Cobalt along [0001]: both vectors are a long, a1 along +x."""
    cell, _ = Crystal(file=cobalt).make(Run(0)).periodic_column()
    np.testing.assert_allclose(np.linalg.norm(cell, axis=1), 0.2507, rtol=1e-6)
    np.testing.assert_allclose(cell[0], [0.2507, 0], atol=1e-7)
    assert abs(cell[0] @ cell[1]) / 0.2507**2 == pytest.approx(0.5, abs=1e-6)


def test_a_foil_without_two_periods_across_the_beam_has_no_periodic_column(cobalt):
    """Tilted; and [111] of the hexagonal lattice, whose c / a isn't rational: one period only."""
    tilted = Crystal(file="srtio3.cif", thickness_nm=1.0, tilt_mrad=(3.0, 0.0))
    assert tilted.make(Run(0)).periodic_column() is None
    assert Crystal(file=cobalt, zone_axis=(1, 1, 1)).make(Run(0)).periodic_column() is None


# --- stacks ---


def crystal_on_carbon(**changes: object) -> Stack:
    layers = (AmorphousFilm(thickness_nm=1.0), Crystal.small(), AmorphousFilm(thickness_nm=2.0))
    return Stack(layers=layers, **changes)


def test_a_stack_holds_its_layers_atoms_one_behind_the_other():
    """Every layer's atoms as they are alone, shifted by the thickness and gaps before it."""
    stack = crystal_on_carbon(gaps_nm=(0.3, 0.0)).make(Run(5))
    window = Window.centred(2, 2)
    atoms = stack.atoms_within(window)
    assert atoms.group_names == ("film 1", "crystal", "film 3")
    alone = Crystal.small().make(Run(0)).atoms_within(window).positions_nm
    crystal = atoms.positions_nm[atoms.groups == 1]
    np.testing.assert_allclose(crystal, alone + np.array([0, 0, 1.3]), atol=1e-12)
    behind = atoms.positions_nm[atoms.groups == 2, 2]
    assert behind.min() >= 2.3
    assert behind.max() < stack.exit_nm == pytest.approx(4.3)
    np.testing.assert_allclose(stack.truth()["layers"]["entrance_nm"], [0, 1.3, 2.3])
    assert "layer_2_cell" in stack.truth()


def test_two_films_of_a_stack_are_different_draws():
    stack = Stack(layers=(AmorphousFilm.small(), AmorphousFilm.small())).make(Run(1))
    atoms = stack.atoms_within(Window.centred(2, 2))
    first, second = (atoms.positions_nm[atoms.groups == g] for g in (0, 1))
    assert not np.array_equal(first[:50, :2], second[:50, :2])


def test_gaps_default_to_a_bonds_length_and_must_fit():
    assert Stack.small().make(Run(0)).exit_nm == pytest.approx(2.0 + GAP_NM)
    with pytest.raises(ValidationError, match="3 layers have 2 gaps between them, not 1"):
        crystal_on_carbon(gaps_nm=(0.3,))


def test_fields_of_a_stack_are_shifted_too_and_stacks_hold_stacks():
    inner = Stack(layers=(MagneticParticles.small(), AmorphousFilm(made_of="field")))
    outer = Stack(layers=(Crystal.small(), inner), gaps_nm=(1.0,))
    again = Sample.read(outer.model_dump(mode="json"))
    assert again == outer
    specimen = pickle.loads(pickle.dumps(again.make(Run(2))))
    assert isinstance(specimen, HasAtoms)
    assert isinstance(specimen, HasFields)
    assert isinstance(specimen, HasThickness)
    layers = specimen.fields_within(Window.centred(4, 4), (40, 40))
    # crystal 1 nm, gap 1 nm, sphere of radius 1 nm; its film 1 nm; gap; the field in 1 nm slabs
    depths = [3.0, *(5 + GAP_NM + 0.5 + np.arange(5))]
    np.testing.assert_allclose([layer.z_nm for layer in layers], depths)
    assert specimen.atoms_within(Window.centred(2, 2)).group_names[:1] == ("crystal",)


def test_files_of_all_layers_are_known_by_the_path_of_their_knob(cobalt):
    film = AmorphousFilm()
    particles = MagneticParticles(support=Crystal(file=cobalt))
    stack = Stack(layers=(Crystal.small(), Stack(layers=(film, particles))))
    files = {knob: file.name for knob, file in stack.input_files().items()}
    assert files == {
        "layers.0.file": "srtio3.cif",
        "layers.1.layers.1.support.file": "cobalt.cif",
    }


def test_a_sample_without_thickness_cannot_be_stacked():
    from nanophantom.samples.stack import stacked
    from nanophantom.simcore.specimens import Specimen

    class Bare(Specimen):
        def truth(self):
            return {}

    finite = FiniteAtoms(Atoms.of([79], [[0, 0, 0.5]], 0.0))
    assert finite.exit_nm == 0.5
    with pytest.raises(ValueError, match=r"layers\.1: a sample of kind 'bare' doesn't know"):
        stacked([finite, Bare()], ["structure", "bare"], [0.1])

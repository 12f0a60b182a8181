"""Crystals: orientation along the beam, boxes filled with a lattice, the foil made of them."""

from __future__ import annotations

import ase
import ase.io
import numpy as np
import pytest
from scipy.spatial import cKDTree

from nanophantom.samples.building.orient import default_x_axis, fill, orientation, tilt
from nanophantom.samples.crystal import Crystal
from nanophantom.samples.nanoparticle_on_support import NanoparticleOnSupport
from nanophantom.samples.structure import BUNDLED, StructureSample
from nanophantom.simcore.atoms import Window
from nanophantom.simcore.runs import Run

VIEW = Window.centred(8, 8)
CUBIC = 0.4 * np.eye(3)
# A triclinic cell with no right angle, rows a, b, c in nm.
TRICLINIC = np.array([[0.55, 0.0, 0.0], [0.127, 0.61, 0.0], [-0.213, 0.17, 0.73]])
HEXAGONAL = np.array([[0.3, 0, 0], [-0.15, 0.15 * np.sqrt(3), 0], [0, 0, 0.5]])
MIXED = """data_mixed
_cell_length_a 3.947
_cell_length_b 3.947
_cell_length_c 3.947
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P m -3 m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
_atom_site_U_iso_or_equiv
Ba1 Ba 0 0 0 0.5 ?
Sr1 Sr 0 0 0 0.5 ?
Ti1 Ti 0.5 0.5 0.5 1 ?
O1 O 0.5 0.5 0 1 ?
"""


@pytest.mark.parametrize("cell", [CUBIC, TRICLINIC, HEXAGONAL], ids=["cubic", "tri", "hex"])
@pytest.mark.parametrize("axis", [(0, 0, 1), (1, -1, 0), (1, 1, 1), (2, -1, 3), (0, 0, -1)])
def test_the_zone_axis_points_along_the_beam(cell, axis):
    """R (u a + v b + w c) = (0, 0, +length); R is a proper rotation, det +1."""
    rotation = orientation(cell, axis)
    direction = np.array(axis) @ cell
    np.testing.assert_allclose(rotation @ direction, [0, 0, np.linalg.norm(direction)], atol=1e-12)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0, abs=1e-12)


def test_the_x_axis_lies_to_the_right_or_its_part_across_the_beam_does():
    np.testing.assert_allclose(orientation(CUBIC, (0, 0, 1), (0, 1, 0)) @ [0, 1, 0], [1, 0, 0])
    rotated = orientation(TRICLINIC, (1, 0, 2), (0, 1, 0)) @ TRICLINIC[1]
    assert rotated[0] > 0
    assert rotated[1] == pytest.approx(0.0, abs=1e-12)


def test_the_axes_form_a_right_handed_image():
    """Along [001] with [100] to the right, [010] points down: (x, y down, z with the beam)."""
    np.testing.assert_allclose(orientation(CUBIC, (0, 0, 1)), np.eye(3), atol=1e-12)


@pytest.mark.parametrize(
    ("cell", "zone", "expected"),
    [
        (CUBIC, (0, 0, 1), (1, 0, 0)),
        (CUBIC, (1, 1, 0), (0, 0, 1)),  # shorter than [1 -1 0]
        (CUBIC, (1, 1, 1), (1, 0, -1)),
        (HEXAGONAL, (0, 0, 1), (1, 1, 0)),  # as long as [100], larger indices first
        (TRICLINIC, (1, 2, 3), (1, 0, 0)),  # no short vector at right angles
        (TRICLINIC, (1, 0, 0), (0, 1, 0)),
    ],
)
def test_the_default_x_axis_is_the_shortest_one_across_the_beam(cell, zone, expected):
    assert default_x_axis(cell, zone) == expected


def test_impossible_axes_are_refused():
    with pytest.raises(ValueError, match=r"^x_axis: \[2, 2, 0\] is parallel to zone_axis"):
        orientation(CUBIC, (1, 1, 0), (2, 2, 0))
    with pytest.raises(ValueError, match=r"^zone_axis: \[0, 0, 0\] is no direction"):
        orientation(CUBIC, (0, 0, 0))
    with pytest.raises(ValueError, match=r"^x_axis: \[0, 0, 0\] is no direction"):
        orientation(CUBIC, (0, 0, 1), (0, 0, 0))


def test_tilts_are_exact_right_handed_rotations():
    """By a about x, z goes to (0, -sin a, cos a); about y, to (sin a, 0, cos a)."""
    a = 0.15
    np.testing.assert_allclose(tilt((150, 0)) @ [0, 0, 1], [0, -np.sin(a), np.cos(a)], atol=1e-15)
    np.testing.assert_allclose(tilt((0, 150)) @ [0, 0, 1], [np.sin(a), 0, np.cos(a)], atol=1e-15)
    tilted = orientation(TRICLINIC, (1, 2, 1), tilt_mrad=(30, -50))
    upright = orientation(TRICLINIC, (1, 2, 1))
    np.testing.assert_allclose(tilted, tilt((30, -50)) @ upright, atol=1e-15)
    assert np.linalg.det(tilted) == pytest.approx(1.0, abs=1e-12)


def test_a_box_is_filled_with_the_lattices_density():
    """Atoms per volume: within the share of atoms in a surface layer half an atom thick."""
    basis = np.array([[0, 0, 0], [0.2, 0.3, 0.1], [0.3, 0.1, 0.5]])
    rotation = orientation(TRICLINIC, (1, 2, 3), tilt_mrad=(20, 10))
    positions, site = fill(TRICLINIC, basis, rotation, (-9, -7, 0), (9, 8, 6))
    expected = 3 * 18 * 15 * 6 / abs(np.linalg.det(TRICLINIC))
    assert len(positions) == pytest.approx(expected, rel=0.005)
    np.testing.assert_allclose(np.bincount(site) / len(site), 1 / 3, atol=0.003)


def test_a_box_holds_the_same_atoms_as_brute_force():
    """Every lattice point with |indices| <= 12 is made and kept if it is inside."""
    rotation = orientation(TRICLINIC, (1, -1, 2))
    basis = np.array([[0, 0, 0], [0.21, 0.13, 0.34]])
    low, high = np.array([-1.0, -0.7, 0.2]), np.array([0.9, 1.1, 1.7])
    positions, site = fill(TRICLINIC, basis, rotation, low, high, origin_nm=(0.1, 0.2, -0.3))
    n = np.stack(np.meshgrid(*[np.arange(-12, 13)] * 3, indexing="ij"), -1).reshape(-1, 3)
    for index in (0, 1):
        every = (n @ TRICLINIC + basis[index]) @ rotation.T + [0.1, 0.2, -0.3]
        every = every[((every >= low) & (every < high)).all(axis=1)]
        mine = positions[site == index]
        assert len(mine) == len(every) > 10
        order = [np.lexsort(np.round(table, 6).T) for table in (mine, every)]
        np.testing.assert_allclose(mine[order[0]], every[order[1]], atol=1e-9)


def test_a_plane_on_the_entrance_face_is_inside_and_one_on_the_exit_face_is_not():
    """Ten lattice constants of a rotated cubic crystal hold ten planes, not nine or eleven."""
    rotation = orientation(CUBIC, (1, 1, 0))
    depth = 0.4 * np.sqrt(2) / 2
    positions, _ = fill(CUBIC, np.zeros((1, 3)), rotation, (-2, -2, 0), (2, 2, 10 * depth))
    assert len(np.unique(np.round(positions[:, 2], 6))) == 10
    assert positions[:, 2].min() == 0.0


def test_a_box_of_more_than_thirty_million_atoms_is_refused_before_it_is_filled():
    """2000 x 2000 x 1000 nm of 5 atoms a 0.4^3 nm^3 are 3.1e11: terabytes, if they were made."""
    message = r"^depth_nm: 1000 nm under a view of 2000 x 2000 nm .* 312,500,000,000 atoms.*lower"
    with pytest.raises(ValueError, match=message):
        fill(CUBIC, np.zeros((5, 3)), np.eye(3), [0] * 3, (2000, 2000, 1000), depth="depth_nm")


def test_nothing_is_nothing():
    assert len(fill(CUBIC, np.zeros((0, 3)), np.eye(3), (0, 0, 0), (1, 1, 1))[0]) == 0
    assert len(fill(CUBIC, np.zeros((1, 3)), np.eye(3), (0, 0, 1), (1, 1, 1))[0]) == 0
    between = fill(CUBIC, np.zeros((1, 3)), np.eye(3), (0.1, 0.1, 0.1), (0.2, 0.2, 0.2))
    assert len(between[0]) == 0


# --- crystals ---


def test_a_file_is_looked_for_here_first_and_then_among_the_bundled_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Crystal(file="gold.cif").structure_path() == BUNDLED / "gold.cif"
    (tmp_path / "gold.cif").write_bytes((BUNDLED / "ceo2.cif").read_bytes())
    assert 58 in Crystal(file="gold.cif").make(Run(0)).atoms_within(VIEW).numbers
    with pytest.raises(ValueError, match=r"no 'golb\.cif'; give a path, or one of ceo2\.cif"):
        Crystal(file="golb.cif").structure_path()


@pytest.mark.parametrize(
    ("file", "atoms_a_cell", "cell_nm"),
    [("srtio3.cif", 5, 0.3905), ("ceo2.cif", 12, 0.5411), ("gold.cif", 4, 0.40782)],
)
def test_a_crystal_fills_the_view_with_its_density(file, atoms_a_cell, cell_nm):
    """Along [001], whole numbers of cells in all directions: the count is exact."""
    crystal = Crystal(file=file, thickness_nm=4 * cell_nm).make(Run(0))
    atoms = crystal.atoms_within(Window(-3 * cell_nm, 5 * cell_nm, 2 * cell_nm, 7 * cell_nm))
    assert len(atoms) == atoms_a_cell * 8 * 5 * 4


def test_strain_moves_every_atom_as_the_tensor_says():
    """(x, y) -> (1 + xx) x + xy y, xy x + (1 + yy) y about the origin; z stays."""
    plain = Crystal(file="srtio3.cif", thickness_nm=1.0, zone_axis=(1, 1, 0))
    strained = plain.model_copy(
        update={"strain_xx_percent": 2.0, "strain_yy_percent": -1.0, "strain_xy_percent": 0.5}
    )
    before = plain.make(Run(0)).atoms_within(Window.centred(2, 2)).positions_nm
    after = strained.make(Run(0)).atoms_within(Window.centred(3, 3)).positions_nm
    x, y, z = before.T
    expected = np.column_stack([1.02 * x + 0.005 * y, 0.005 * x + 0.99 * y, z])
    apart, _ = cKDTree(after).query(expected)
    assert apart.max() < 3e-9  # positions are rounded to 1e-9 nm
    table = strained.make(Run(0)).truth()["strain"]
    assert {name: float(v[0]) for name, v in table.items()} == pytest.approx(
        {"strain_xx_percent": 2.0, "strain_yy_percent": -1.0, "strain_xy_percent": 0.5}
    )


def test_truth_holds_the_cell_as_it_lies():
    """Atoms of one element are whole numbers of the truth's cell vectors apart."""
    specimen = Crystal(
        file="srtio3.cif", zone_axis=(1, 1, 1), tilt_mrad=(5, -3), strain_xy_percent=1.0
    ).make(Run(0))
    cell = specimen.truth()["cell"]
    vectors = np.column_stack([cell["x_nm"], cell["y_nm"], cell["z_nm"]])
    atoms = specimen.atoms_within(Window.centred(3, 3))
    strontium = atoms.positions_nm[atoms.numbers == 38]
    steps = strontium @ np.linalg.inv(vectors)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-7)


def test_uio66_is_drawn_once_and_repeats(tmp_path):
    sample = Crystal(file="uio66.cif", block="UiO66_ideal", occupancy="draw", thickness_nm=2.0)
    specimen = sample.make(Run(1))
    a = 2.07465
    here = specimen.atoms_within(Window(-0.5, 0.5, -0.5, 0.5)).positions_nm
    there = specimen.atoms_within(Window(a - 0.5, a + 0.5, -0.5, 0.5)).positions_nm
    np.testing.assert_allclose(there - [a, 0, 0], here, atol=3e-9)
    other = sample.make(Run(2)).truth()["occupancy_draws"]["present"]
    assert not np.array_equal(specimen.truth()["occupancy_draws"]["present"], other)
    assert "O1A" in specimen.notes[0]
    assert specimen.notes[1] == "Every cell repeats this draw; supercell makes a larger block."


def test_a_larger_block_is_said_to_repeat_and_a_crystal_without_a_draw_has_no_such_note(tmp_path):
    path = tmp_path / "mixed.cif"
    path.write_text(MIXED)
    notes = Crystal(file=str(path), occupancy="draw", supercell=(4, 4, 4)).make(Run(0)).notes
    assert "Every such block repeats this draw; supercell makes a larger block." in notes
    assert not any("repeats" in note for note in Crystal.small().make(Run(0)).notes)
    finite = StructureSample(file=str(path), occupancy="draw").make(Run(0))
    assert not any("repeats" in note for note in finite.notes)  # as it stands, once


def test_ions_of_an_unknown_compound_get_no_metals_b_factor(tmp_path):
    """Ba0.5Sr0.5TiO3: strontium metal's Debye model would give 3.8 Å^2."""
    path = tmp_path / "mixed.cif"
    path.write_text(MIXED)
    sample = Crystal(file=str(path), occupancy="draw", supercell=(4, 4, 4))
    specimen = sample.make(Run(0))
    assert {38, 56} < set(specimen.sites.numbers)
    assert set(specimen.sites.b_factors_A2) == {0.7}
    assert "Sr 0.70 Å² (assumed; b_factors_A2 replaces it)" in specimen.notes[-1]


def test_b_factors_of_the_recipe_mend_a_file_with_impossible_ones(tmp_path):
    path = tmp_path / "odd.cif"
    path.write_text(MIXED.replace("0.5 ?", "1 -0.1", 1).replace("0.5 ?", "0 ?"))
    with pytest.raises(ValueError, match=r"^file: site Ba1 of odd\.cif has B = -7\.896 "):
        Crystal(file=str(path)).make(Run(0))
    mended = Crystal(file=str(path), b_factors_A2={"Ba": 0.4}).make(Run(0))
    assert mended.sites.b_factors_A2[mended.sites.numbers == 56].tolist() == [0.4]


def test_a_u_of_exactly_zero_counts_as_not_stated_and_is_said(tmp_path):
    path = tmp_path / "zeros.cif"
    path.write_text(MIXED.replace("Ti 0.5 0.5 0.5 1 ?", "Ti 0.5 0.5 0.5 1 0.00"))
    specimen = Crystal(file=str(path), occupancies={"Ba1": 0, "Sr1": 1}).make(Run(0))
    said = "zeros.cif states B or U = 0 for sites of Ti, which was taken as not stated."
    assert specimen.notes[0] == said  # the others' question marks need no word
    assert "Ti 0.44 Å² (literature on SrTiO3, 293 K)" in specimen.notes[1]
    path.write_text(MIXED.replace("1 ?", "1 0.01"))
    specimen = Crystal(file=str(path), occupancies={"Ba1": 0, "Sr1": 1}).make(Run(0))
    assert len(specimen.notes) == 1
    assert "Ti 0.79 Å² (file)" in specimen.notes[0]


def test_a_view_with_too_many_atoms_names_the_length_to_lower():
    crystal = Crystal(file="gold.cif", thickness_nm=1000).make(Run(0))
    with pytest.raises(ValueError, match=r"^thickness_nm: 1000 nm under a view of 200 x 200 nm"):
        crystal.atoms_within(Window.centred(200, 200))
    support = NanoparticleOnSupport(n_atoms=100, support_thickness_nm=200).make(Run(0))
    with pytest.raises(ValueError, match=r"^support_thickness_nm: 200 nm .*lower support_thick"):
        support.atoms_within(Window.centred(200, 200))


def test_a_molecule_is_no_crystal(tmp_path):
    path = tmp_path / "dimer.xyz"
    ase.io.write(path, ase.Atoms("Au2", [[0, 0, 0], [0, 0, 2.9]]))
    with pytest.raises(ValueError, match=r"^file: .* has no cell; use the kind 'structure'"):
        Crystal(file=str(path)).make(Run(0))

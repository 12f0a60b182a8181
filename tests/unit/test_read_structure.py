"""Structure files: what is read is what the file says, and what can't be is refused by name."""

from __future__ import annotations

import re
from pathlib import Path

import ase
import ase.io
import gemmi
import numpy as np
import pytest

from nanophantom.samples.building.read import read_structure
from nanophantom.samples.structure import BUNDLED

UIO66 = BUNDLED / "uio66.cif"
IDEAL, REFINED = "UiO66_ideal", "UiO66_COD4512072"

CELL = """
_cell_length_a 6
_cell_length_b 7
_cell_length_c 8
_cell_angle_alpha 80
_cell_angle_beta 95
_cell_angle_gamma 110
"""
LOOP = """
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
"""


LAMMPS = """LAMMPS data

1 atoms
1 atom types
0 5 xlo xhi
0 5 ylo yhi
0 5 zlo zhi

Atoms

1 1 0 0 0
"""


def cif(folder: Path, rows: str, head: str = "_symmetry_space_group_name_H-M 'P 1'") -> Path:
    path = folder / "made.cif"
    path.write_text(f"data_made{CELL}{head}\n{LOOP}{rows}\n")
    return path


def read(path: Path, **settings: object):
    return read_structure(path, **settings)  # type: ignore[arg-type]


def count(structure) -> dict[int, int]:
    z, n = np.unique(structure.numbers, return_counts=True)
    return dict(zip(z.tolist(), n.tolist(), strict=True))


def drawn(seed: int, **settings: object):
    rng = np.random.default_rng(seed)
    return read(UIO66, block=IDEAL, occupancy="draw", rng=rng, **settings)


def sorted_atoms(structure) -> np.ndarray:
    table = np.column_stack([structure.numbers, np.round(structure.positions_nm, 7) + 0.0])
    return table[np.lexsort(table.T)]


# --- what is refused, and with which words ---


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"^file: there is no structure file '.*nothing\.cif'"):
        read(tmp_path / "nothing.cif")


def test_a_file_that_reads_as_empty_says_so_and_names_formats_that_work(tmp_path):
    """ASE takes LAMMPS data called lmp.data for another format and finds no frames in it."""
    path = tmp_path / "lmp.data"
    path.write_text(LAMMPS)
    with pytest.raises(ValueError, match=r"^file: .*lmp\.data wasn't recognised.*extxyz, POSCAR"):
        read(path)


@pytest.mark.parametrize("name", ["notes.xyz", "notes.cif", "notes.dat"])
def test_an_unreadable_file_is_named(tmp_path, name):
    path = tmp_path / name
    path.write_text("these are not atoms\n")
    with pytest.raises(ValueError, match=rf"^file: .*{name}.*; give a CIF, xyz"):
        read(path)


def test_a_cif_with_several_structures_asks_for_one():
    with pytest.raises(ValueError, match=rf"^block: .* set block to one of {IDEAL}, {REFINED}"):
        read(UIO66)


def test_a_block_that_is_not_there_lists_those_that_are():
    with pytest.raises(
        ValueError, match=rf"^block: .* no block 'ideal'; it holds {IDEAL}, {REFINED}"
    ):
        read(UIO66, block="ideal")


def test_several_frames_ask_for_one(tmp_path):
    path = tmp_path / "movie.extxyz"
    ase.io.write(path, [ase.Atoms("Au2", [[0, 0, 0], [0, 0, 2.0 + k]]) for k in range(3)])
    with pytest.raises(ValueError, match=r"^frame: .* 3 frames; set frame"):
        read(path)
    with pytest.raises(ValueError, match=r"^frame: .* no frame 3; it holds frames 0 to 2"):
        read(path, frame=3)
    assert read(path, frame=2).positions_nm[1, 2] == pytest.approx(0.4)


def test_block_and_frame_belong_to_their_formats(tmp_path):
    path = tmp_path / "pair.xyz"
    ase.io.write(path, ase.Atoms("Au2", [[0, 0, 0], [0, 0, 2.5]]))
    with pytest.raises(ValueError, match=r"^block: .*leave block out"):
        read(path, block="one")
    with pytest.raises(ValueError, match=r"^frame: .*with block, not frame"):
        read(UIO66, frame=0)


def test_partial_occupancies_are_refused_with_their_sites_and_the_rule():
    with pytest.raises(ValueError, match=r"^occupancy: .*O1A 0\.5, O1B 0\.5, H1B 0\.5.*'draw'"):
        read(UIO66, block=IDEAL)


def test_an_occupancy_above_one_is_refused_with_its_site_and_the_mend():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"^occupancies: site O5 .* 1\.818.*\{O5: 1\.0\}"):
        read(UIO66, block=REFINED, occupancy="draw", rng=rng)
    mended = read(UIO66, block=REFINED, occupancy="draw", occupancies={"O5": 1.0}, rng=rng)
    assert (mended.labels == "O5").sum() == 24  # 24e of F m -3 m


def test_an_occupancy_for_an_unknown_site_is_refused():
    with pytest.raises(ValueError, match=r"^occupancies: .* no site 'O1C'; did you mean"):
        read(UIO66, block=IDEAL, occupancies={"O1C": 1.0})


def test_alternatives_that_add_up_to_more_than_one_are_refused(tmp_path):
    path = cif(tmp_path, "La1 La 0 0 0 0.8\nSr1 Sr 0 0 0 0.6")
    with pytest.raises(
        ValueError, match=r"^occupancies: sites La1 and Sr1 .* share one place .* 1\.4"
    ):
        read(path, occupancy="draw", rng=np.random.default_rng(0))


def test_atoms_on_top_of_each_other_are_refused_by_name(tmp_path):
    # The second lies across the cell's edge from the first: 0.02 * 6 Å away.
    path = cif(tmp_path, "Fe1 Fe 0.99 0 0 1\nO7 O 0.01 0 0 1")
    with pytest.raises(ValueError, match=r"^file: atoms Fe1 and O7 .* are 0\.12 Å apart"):
        read(path)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("Xx1 Xx 0 0 0 1", "^file: site Xx1 of made.cif is of no known element"),
        ("Q1 Q 0 0 0 1", "^file: site Q1 of made.cif is of no known element"),
        ("Fe1 Fe ? 0 0 1", "^file: site Fe1 of made.cif has no coordinates"),
    ],
)
def test_sites_that_are_no_atoms_are_refused(tmp_path, row, words):
    with pytest.raises(ValueError, match=words):
        read(cif(tmp_path, row))


def test_dummies_are_refused_in_other_formats_too(tmp_path):
    path = tmp_path / "dummy.xyz"
    path.write_text("2\n\nAu 0 0 0\nX 0 0 3\n")
    with pytest.raises(ValueError, match=r"^file: site X2 of dummy.xyz is of no known element"):
        read(path)


def test_occupancies_that_came_along_from_a_cif_are_not_ignored(tmp_path):
    """ASE keeps them beside the atoms; read as whole atoms they would be another crystal."""
    atoms = ase.io.read(cif(tmp_path, "La1 La 0 0 0 0.6\nSr1 Sr 0 0 0 0.4"))
    ase.io.write(tmp_path / "mixed.extxyz", atoms)
    with pytest.raises(ValueError, match=r"^file: .* partly occupied sites; give the CIF"):
        read(tmp_path / "mixed.extxyz")


def test_a_file_whose_sites_are_all_empty_holds_no_atoms(tmp_path):
    with pytest.raises(ValueError, match=r"^occupancies: .*every site has occupancy 0"):
        read(cif(tmp_path, "Fe1 Fe 0 0 0 0"))


def test_an_unknown_space_group_is_refused_and_none_is_noted(tmp_path):
    rows = "Fe1 Fe 0.1 0.2 0.3 1"
    with pytest.raises(ValueError, match=r"^file: space group 'P n o n' .* isn't known"):
        read(cif(tmp_path, rows, "_symmetry_space_group_name_H-M 'P n o n'"))
    alone = read(cif(tmp_path, rows, ""))
    assert len(alone.numbers) == 1
    assert "states no symmetry" in alone.notes[0]


def test_an_unreadable_symmetry_operation_is_refused_by_its_text(tmp_path):
    head = "loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'\n'x,y,q'"
    with pytest.raises(ValueError, match=r"^file: made\.cif has a symmetry operation 'x,y,q'"):
        read(cif(tmp_path, "Fe1 Fe 0.1 0.2 0.3 1", head))


@pytest.mark.parametrize(("old", "new"), [("angle_gamma 110", "angle_gamma 180"), ("a 6", "b2 6")])
def test_a_cell_that_cannot_be_is_refused(tmp_path, old, new):
    path = cif(tmp_path, "Fe1 Fe 0.1 0.2 0.3 1")
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=r"^file: made\.cif, block made, has no cell"):
        read(path)


def test_a_supercell_of_more_than_two_million_sites_is_refused_before_it_is_built():
    with pytest.raises(
        ValueError, match=r"^supercell: \[100, 100, 100\] .* 5,000,000 .* 2,000,000"
    ):
        read(BUNDLED / "srtio3.cif", supercell=(100, 100, 100))


def test_a_draw_needs_a_generator():
    with pytest.raises(ValueError, match=r"^occupancy: .*give rng"):
        read(UIO66, block=IDEAL, occupancy="draw")


# --- what is read ---


def test_strontium_titanate_is_the_same_from_every_format(tmp_path):
    from_cif = read(BUNDLED / "srtio3.cif")
    atoms = ase.Atoms(from_cif.numbers, from_cif.positions_nm * 10, pbc=True)
    atoms.set_cell(from_cif.cell_nm * 10)
    ase.io.write(tmp_path / "sto.extxyz", atoms)
    ase.io.write(tmp_path / "POSCAR", atoms, format="vasp", direct=True)
    ase.io.write(tmp_path / "p1.cif", atoms)
    assert count(from_cif) == {8: 3, 22: 1, 38: 1}
    np.testing.assert_allclose(from_cif.cell_nm, 0.3905 * np.eye(3), atol=1e-12)
    for name in ("sto.extxyz", "POSCAR", "p1.cif"):
        other = read(tmp_path / name)
        np.testing.assert_allclose(sorted_atoms(other), sorted_atoms(from_cif), atol=1e-7)
        np.testing.assert_allclose(other.cell_nm, from_cif.cell_nm, atol=1e-12)


def test_a_file_without_a_cell_is_finite(tmp_path):
    path = tmp_path / "water.xyz"
    path.write_text("3\n\nO 0 0 0\nH 0.76 0 0.59\nH -0.76 0 0.59\n")
    water = read(path)
    assert water.cell_nm is None
    with pytest.raises(ValueError, match=r"^supercell: .* no cell"):
        read(path, supercell=(2, 1, 1))


def test_a_pdb_file_brings_its_b_factors_and_its_dummy_cell_is_none(tmp_path):
    path = tmp_path / "one.pdb"
    path.write_text(
        "CRYST1    1.000    1.000    1.000  90.00  90.00  90.00 P 1           1\n"
        "ATOM      1  C   MOL A   1       1.000   2.000   3.000  1.00 12.50           C\n"
        "END\n"
    )
    one = read(path)
    assert one.cell_nm is None
    assert one.b_factors_A2.tolist() == [12.5]


def test_symmetry_gives_every_atom_of_the_cell_once():
    """UiO-66: sites 24e 32f 32f 96j 48h 48h 96j 96j 32f of F m -3 m, 504 in all."""
    full = dict.fromkeys(("O1A", "O1B", "H1B"), 1.0)
    labels, n = np.unique(read(UIO66, block=IDEAL, occupancies=full).labels, return_counts=True)
    assert dict(zip(labels.tolist(), n.tolist(), strict=True)) == {
        **{"Zr1": 24, "O1A": 32, "O1B": 32, "O2A": 96},
        **{"C1": 48, "C2": 48, "C3": 96, "H3": 96, "H1B": 32},
    }


def test_positions_agree_with_gemmis_own_expansion():
    """Own symmetry expansion against gemmi's, for a triclinic and a cubic group."""
    block = gemmi.cif.read(str(UIO66))[0]
    theirs = gemmi.make_small_structure_from_block(block).get_all_unit_cell_sites()
    zr = np.array([s.fract.tolist() for s in theirs if s.label == "Zr1"]) % 1
    mine = drawn(1)
    own = (mine.positions_nm[mine.labels == "Zr1"] @ np.linalg.inv(mine.cell_nm)) % 1
    order = [np.lexsort(np.round(table, 6).T) for table in (zr, own)]
    np.testing.assert_allclose(own[order[1]], zr[order[0]], atol=1e-9)


def test_triclinic_cells_keep_distances_and_angles(tmp_path):
    """|a|, |b|, |c| and the angle between a and b as the file states them; P -1 doubles."""
    two = read(cif(tmp_path, "Fe1 Fe 0.1 0.2 0.3 1", "_symmetry_space_group_name_H-M 'P -1'"))
    assert len(two.numbers) == 2
    lengths = np.linalg.norm(two.cell_nm, axis=1)
    np.testing.assert_allclose(lengths, [0.6, 0.7, 0.8], atol=1e-12)
    cosine = two.cell_nm[0] @ two.cell_nm[1] / (lengths[0] * lengths[1])
    assert cosine == pytest.approx(np.cos(np.deg2rad(110)), abs=1e-12)


def test_b_factors_are_8_pi2_u_and_u_eq_of_the_tensor(tmp_path):
    """Zr1: U_eq 0.00837 Å^2 in the file; a tensor alone gives a third of its trace (cubic)."""
    ideal = drawn(2)
    zr = ideal.b_factors_A2[ideal.numbers == 40]
    np.testing.assert_allclose(zr, 8 * np.pi**2 * 0.00837, rtol=1e-6)
    text = UIO66.read_text().split("data_UiO66_COD")[0].replace("0.00837 Uani", "? Uani")
    path = tmp_path / "tensor.cif"
    path.write_text(text)
    again = read(path, occupancy="draw", rng=np.random.default_rng(2))
    zr = again.b_factors_A2[again.numbers == 40]
    expected = (0.01006 + 0.01006 + 0.00498) / 3  # U11, U22, U33 of Zr1
    np.testing.assert_allclose(zr, 8 * np.pi**2 * expected, rtol=1e-6)


def test_u_eq_in_an_oblique_cell_is_that_of_the_same_sphere(tmp_path):
    """An isotropic atom has U_ij = U a*_i·a*_j / (|a*_i| |a*_j|), and its U_eq is U again."""
    path = cif(tmp_path, "Fe1 Fe 0.1 0.2 0.3 1")
    reciprocal = np.linalg.inv(read(path).cell_nm).T
    unit = reciprocal / np.linalg.norm(reciprocal, axis=1)[:, None]
    u = 0.013 * unit @ unit.T
    tags = "\n".join(f"_atom_site_aniso_U_{ij}" for ij in ("11", "22", "33", "23", "13", "12"))
    values = [u[0, 0], u[1, 1], u[2, 2], u[1, 2], u[0, 2], u[0, 1]]
    row = "Fe1 " + " ".join(f"{value:.12f}" for value in values)
    path.write_text(path.read_text() + f"loop_\n_atom_site_aniso_label\n{tags}\n{row}\n")
    assert read(path).b_factors_A2[0] == pytest.approx(8 * np.pi**2 * 0.013, rel=1e-9)


@pytest.mark.parametrize(
    ("column", "value", "b"),
    [
        ("U_iso_or_equiv", "-0.02", -0.02 * 8 * np.pi**2),
        ("U_iso_or_equiv", "2.5(1)", 2.5 * 8 * np.pi**2),
        ("B_iso_or_equiv", "161", 161),
    ],
)
def test_impossible_b_factors_are_refused_unless_replaced(tmp_path, column, value, b):
    path = cif(tmp_path, f"O1 O 0.5 0.5 0.5 1 0.5\nFe1 Fe 0 0 0 1 {value}")
    path.write_text(path.read_text().replace("_occupancy\n", f"_occupancy\n_atom_site_{column}\n"))
    message = rf"^file: site Fe1 of made\.cif has B = {re.escape(f'{b:.4g}')} .*give b_factors_A2"
    with pytest.raises(ValueError, match=message):
        read(path, b_factors_A2={"O": 0.5})
    assert len(read(path, b_factors_A2={"Fe": 0.5}).numbers) == 2


# --- draws ---


def test_uio66_has_its_formula_in_the_mean():
    """Zr6 C48 H28 O32 a formula unit, four a cell: Zr, C and O exact, H binomial about 112.

    Of each O1A/O1B pair exactly one is there (1/2 + 1/2); 32 hydroxyl hydrogens are there with
    probability 1/2 each, sigma = sqrt(8) a cell.
    """
    cells = [count(drawn(seed)) for seed in range(12)]
    for cell in cells:
        assert (cell[40], cell[6], cell[8]) == (24, 192, 128)
    hydrogens = np.array([cell[1] for cell in cells])
    assert abs(hydrogens.mean() - 112) < 4 * np.sqrt(8 / 12)
    assert hydrogens.std() > 0.5  # not all alike


def test_every_hydroxyl_hydrogen_sits_on_its_oxygen():
    """H1B belongs to O1B, 0.98 Å away (1.7 Å from the O1A that may stand there instead)."""
    one = drawn(3)
    oxygen, hydrogen = (one.positions_nm[one.labels == name] for name in ("O1B", "H1B"))
    assert len(oxygen) == len(hydrogen)
    apart = np.linalg.norm(oxygen[:, None] - hydrogen[None], axis=2).min(axis=0)
    np.testing.assert_allclose(apart, (0.094639 - 0.067367) * 2.07465 * np.sqrt(3), atol=1e-9)


def test_the_draw_follows_the_seed_and_is_told():
    one, same, other = drawn(5), drawn(5), drawn(6)
    np.testing.assert_array_equal(one.positions_nm, same.positions_nm)
    assert not np.array_equal(one.drawn["present"], other.drawn["present"])
    there = one.drawn["present"][one.drawn["label"] == "O1A"].sum()
    assert f"O1A {there} of 32 (occupancy 0.5)" in one.notes[-1]


def test_a_supercell_draws_each_of_its_cells_anew():
    large = drawn(7, supercell=(2, 1, 1))
    assert count(large)[40] == 48
    np.testing.assert_allclose(large.supercell_nm, np.diag([4.1493, 2.07465, 2.07465]), atol=1e-9)
    first = large.drawn["x_nm"] < 2.07465 - 1e-6
    present = large.drawn["present"]
    assert first.sum() == len(first) / 2
    assert not np.array_equal(present[first], present[~first])


def test_mixed_sites_hold_one_kind_or_none(tmp_path):
    """La 0.6, Sr 0.3 on one place, 1000 cells: binomial, within 4 sigma (16 and 14)."""
    path = cif(tmp_path, "La1 La 0 0 0 0.6\nSr1 Sr 0 0 0 0.3")
    many = read(path, occupancy="draw", supercell=(10, 10, 10), rng=np.random.default_rng(1))
    assert abs((many.numbers == 57).sum() - 600) < 4 * np.sqrt(1000 * 0.6 * 0.4)
    assert abs((many.numbers == 38).sum() - 300) < 4 * np.sqrt(1000 * 0.3 * 0.7)
    assert len(np.unique(np.round(many.positions_nm, 6), axis=0)) == len(many.numbers) < 1000

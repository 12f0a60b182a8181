"""Surfaces of atoms: the envelope of their spheres, cuts of crystals, molecules, truth."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from scipy.spatial import cKDTree

from nanophantom.samples.atomic_surface import AtomicSurface
from nanophantom.samples.building.atom_envelope import Envelope
from nanophantom.simcore.atoms import Window
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import sample_points


def surface_at(specimen, x_nm: float, y_nm: float):
    """Return height and material at one place, by a window whose first sample lies there."""
    surface = specimen.surface_within(Window(x_nm, x_nm + 1, y_nm, y_nm + 1), (1, 1))
    return surface.heights_nm[0, 0], surface.material[0, 0]


def brute_force(centres, radii, x, y, lattice=None):
    """Return the envelope by looking at every sphere and its copies, at every place."""
    shifts = [np.zeros(2)]
    if lattice is not None:
        shifts = [i * lattice[0] + j * lattice[1] for i in range(-16, 17) for j in range(-16, 17)]
    heights = np.zeros(np.broadcast_shapes(x.shape, y.shape))
    for shift in shifts:
        for (cx, cy, cz), r in zip(centres, radii, strict=True):
            left = r**2 - (x - cx - shift[0]) ** 2 - (y - cy - shift[1]) ** 2
            top = np.where(left >= 0, cz + np.sqrt(np.maximum(left, 0)), 0)
            heights = np.maximum(heights, top)
    return heights


@pytest.mark.parametrize("lattice", [None, [[0.9, 0.2], [-0.3, -0.7]], [[0.15, 0], [0.05, 0.2]]])
def test_envelope_equals_brute_force(lattice):
    """Also where a cell is smaller than a sphere."""
    rng = np.random.default_rng(5)
    lattice = None if lattice is None else np.array(lattice)
    centres = rng.uniform([-0.8, -0.8, 0.2], [0.8, 0.8, 1.8], (25, 3))
    if lattice is not None:
        centres = centres[:4]
    radii = rng.uniform(0.1, 0.25, len(centres))
    x, y = np.linspace(-1.1, 1.1, 67)[None, :], np.linspace(-1.1, 1.2, 59)[:, None]
    heights, sphere = Envelope.of(centres, radii, lattice).heights(x, y)
    np.testing.assert_allclose(
        heights, brute_force(centres, radii, x, y, lattice), rtol=0, atol=1e-12
    )
    assert ((sphere < 0) == (heights == 0)).all()


def test_close_packed_gold_has_the_corrugation_of_touching_spheres():
    # Over a hollow the three nearest atoms are a / sqrt 6 away: r - sqrt(r^2 - a^2 / 6), with
    # r = 0.232 nm (Alvarez) and a = 0.40782 nm; the next plane lies lower.
    specimen = AtomicSurface().make(Run(0))
    heights = specimen.surface_within(Window.centred(2, 2), (1000, 1000)).heights_nm
    assert np.ptp(heights) == pytest.approx(0.232 - np.sqrt(0.232**2 - 0.40782**2 / 6), abs=1e-4)
    atoms = specimen.truth()["atoms"]
    assert np.unique(np.round(atoms["z_nm"], 6)).size == 1  # the second plane is hidden
    per_nm2 = 4 / np.sqrt(3) / 0.40782**2  # 13.88, of {111}
    assert len(atoms["x_nm"]) == pytest.approx(per_nm2 * 400, rel=0.01)
    assert heights.max() == pytest.approx(atoms["z_top_nm"].max(), abs=1e-4)
    nearest = cKDTree(np.stack([atoms["x_nm"], atoms["y_nm"]], axis=1)).query([[0.0, 0.0]], k=1)[1][
        0
    ]
    top = surface_at(specimen, atoms["x_nm"][nearest], atoms["y_nm"][nearest])[0]
    assert top == pytest.approx(atoms["z_top_nm"][nearest], abs=1e-8)


def test_silicon_is_cut_where_one_bond_an_atom_breaks():
    # (111): planes a sqrt(3) / 12 and a sqrt(3) / 4 apart; the cut leaves the narrow pair together
    z = np.unique(np.round(AtomicSurface(element="Si").make(Run(0)).positions_nm[:, 2], 6))[::-1]
    a = 0.543
    np.testing.assert_allclose(z[0] - z[1], a * np.sqrt(3) / 12, atol=1e-5)
    np.testing.assert_allclose(z[1] - z[2], a * np.sqrt(3) / 4, atol=1e-5)


def test_a_molecule_lies_on_the_floor_and_is_not_mirrored(tmp_path):
    """Three atoms: x to the right, y up and z towards the viewer as in the file."""
    atoms = Atoms("CON", [[0, 0, 0], [4.0, 0, 1.0], [0, 6.0, 2.0]])
    atoms.write(tmp_path / "three.xyz")
    specimen = AtomicSurface(file=str(tmp_path / "three.xyz")).make(Run(0))
    table = specimen.truth()["atoms"]
    place = {int(z): n for n, z in enumerate(table["number"])}
    assert table["x_nm"][place[8]] - table["x_nm"][place[6]] == pytest.approx(0.4)
    assert table["y_nm"][place[7]] - table["y_nm"][place[6]] == pytest.approx(-0.6)  # y is down
    assert table["z_nm"][place[7]] - table["z_nm"][place[6]] == pytest.approx(0.2)
    assert table["z_nm"][place[6]] == pytest.approx(0.177)  # rests on the floor: Alvarez' radius
    assert surface_at(specimen, 5.0, 5.0) == (0.0, 0)
    top = surface_at(specimen, table["x_nm"][place[7]], table["y_nm"][place[7]])
    assert top == (pytest.approx(0.377 + 0.166), 1)  # nitrogen 0.166 nm
    depth = specimen.atoms_within(Window.everywhere())  # the same atoms, seen by a beam
    assert depth.positions_nm[depth.numbers == 7, 2] == 0.0
    assert depth.positions_nm[depth.numbers == 6, 2] == pytest.approx(0.2)


def test_rotations_are_those_of_the_viewer(tmp_path):
    Atoms("CO", [[0, 0, 0], [5.0, 0, 0]]).write(tmp_path / "two.xyz")
    file = str(tmp_path / "two.xyz")

    def bond(**angles):
        specimen = AtomicSurface(file=file, radii_nm={"C": 0.15, "O": 0.15}, **angles)
        table = specimen.make(Run(0)).truth()["atoms"]
        c, o = np.argsort(table["number"])
        return [table[k][o] - table[k][c] for k in ("x_nm", "y_nm", "z_nm")]

    np.testing.assert_allclose(bond(rotate_z_deg=90), [0, -0.5, 0], atol=1e-9)  # up in the view
    np.testing.assert_allclose(
        bond(rotate_y_deg=-60), [0.25, 0, np.sqrt(3) / 4], atol=1e-9
    )  # towards the viewer


def test_hidden_atoms_are_not_listed(tmp_path):
    molecule("C60").write(tmp_path / "c60.xyz")
    specimen = AtomicSurface(file=str(tmp_path / "c60.xyz")).make(Run(0))
    shown = specimen.truth()["atoms"]
    low, high = specimen.positions_nm[:, 2].min(), specimen.positions_nm[:, 2].max()
    assert 25 < len(shown["x_nm"]) < 50
    assert shown["z_nm"].min() > (low + high) / 2 - 0.15  # the lower half is hidden
    window = Window.centred(1.4, 1.4)
    x, y = sample_points(window, (50, 60))
    listed = np.stack([shown[c] for c in ("x_nm", "y_nm", "z_nm")], axis=1)
    np.testing.assert_allclose(  # those listed alone make the whole surface
        specimen.surface_within(window, (50, 60)).heights_nm,
        brute_force(listed, shown["radius_nm"], x[None, :], y[:, None]),
        atol=1e-3,
    )


def test_a_slab_of_a_file_is_repeated_as_it_stands(tmp_path):
    slab = Atoms("CO", [[0, 0, 5.0], [1.0, 2.0, 6.5]], cell=[6.0, 5.0, 20.0], pbc=True)
    slab.write(tmp_path / "slab.extxyz")
    specimen = AtomicSurface(file=str(tmp_path / "slab.extxyz"), listed_nm=3).make(Run(0))
    window = Window(-1.3031, 1.9033, -2.0017, 0.4023)
    x, y = sample_points(window, (48, 64))
    expected = brute_force(
        np.array([[0, 0, 0.177], [0.1, -0.2, 0.327]]),
        [0.177, 0.150],
        x[None, :],
        y[:, None],
        np.array([[0.6, 0], [0, -0.5]]),
    )
    surface = specimen.surface_within(window, (48, 64))
    np.testing.assert_allclose(surface.heights_nm, expected, rtol=0, atol=1e-9)
    assert set(np.unique(surface.material)) == {0, 1}  # the floor shows through
    assert len(specimen.truth()["atoms"]["x_nm"]) == 2 * 5 * 6


def test_structures_that_are_no_surface_are_refused(tmp_path):
    Atoms("CO", [[0, 0, 0], [1.2, 0, 0]]).write(tmp_path / "co.xyz")
    with pytest.raises(ValueError, match=r"facet: .* has no cell"):
        AtomicSurface(file=str(tmp_path / "co.xyz"), facet=(1, 0, 0)).make(Run(0))
    leaning = Atoms("C", cell=[[3, 0, 1], [0, 3, 0], [0, 0, 9]], pbc=True)
    leaning.write(tmp_path / "leaning.extxyz")
    with pytest.raises(ValueError, match="right angles to z"):
        AtomicSurface(file=str(tmp_path / "leaning.extxyz")).make(Run(0))

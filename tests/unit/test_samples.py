"""Kinds of specimen: their atoms, truth, knobs and B factors."""

from __future__ import annotations

import pickle

import ase
import ase.io
import numpy as np
import pytest
import yaml
from pydantic import ValidationError
from scipy.spatial import cKDTree

from nanophantom.samples._family import Sample
from nanophantom.samples.amorphous_film import AmorphousFilm
from nanophantom.samples.building.thermal import b_factors
from nanophantom.samples.crystal import Crystal
from nanophantom.samples.magnetic_particles import MagneticParticles
from nanophantom.samples.nanoparticle_on_support import NanoparticleOnSupport, carve
from nanophantom.samples.stack import Stack
from nanophantom.samples.structure import StructureSample
from nanophantom.simcore.atoms import Window
from nanophantom.simcore.electrons.debye_waller import b_factor_debye
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import HasAtoms

GOLD = 0.40782
NEIGHBOUR = GOLD / np.sqrt(2)
VIEW = Window.centred(8, 8)
SMALL = [
    Crystal.small(),
    StructureSample.small(),
    NanoparticleOnSupport.small(),
    AmorphousFilm.small(),
    Stack.small(),
    MagneticParticles.small(),
]


def neighbours(positions_nm: np.ndarray, distance_nm: float) -> np.ndarray:
    near = cKDTree(positions_nm).query_ball_point(positions_nm, 1.1 * distance_nm)
    return np.array([len(found) - 1 for found in near])


# --- every kind ---


@pytest.mark.parametrize("sample", SMALL, ids=lambda s: s.kind)
def test_a_sample_survives_yaml_and_pickle_and_makes_the_same_atoms(sample):
    data = yaml.safe_load(yaml.safe_dump(sample.model_dump(mode="json")))
    for again in (Sample.read(data), pickle.loads(pickle.dumps(sample))):
        assert again == sample
        one, two = sample.make(Run(4)), again.make(Run(4))
        assert isinstance(one, HasAtoms)
        for a, b in zip(
            one.atoms_within(VIEW).table().values(),
            two.atoms_within(VIEW).table().values(),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("sample", SMALL, ids=lambda s: s.kind)
def test_a_specimen_survives_pickle_and_its_truth_is_tables(sample):
    specimen = pickle.loads(pickle.dumps(sample.make(Run(4))))
    assert len(specimen.atoms_within(VIEW)) > 10
    for name, table in specimen.truth().items():
        assert len({len(column) for column in table.values()}) == 1, name
    assert all(note.endswith(".") for note in specimen.notes)


@pytest.mark.parametrize("sample", SMALL, ids=lambda s: s.kind)
def test_no_two_atoms_come_closer_than_120_pm_and_none_lies_before_the_entrance(sample):
    atoms = sample.make(Run(4)).atoms_within(Window.centred(5, 5))
    distance, _ = cKDTree(atoms.positions_nm).query(atoms.positions_nm, k=2)
    assert distance[:, 1].min() > 0.12
    assert atoms.positions_nm[:, 2].min() >= 0


@pytest.mark.parametrize("sample", SMALL, ids=lambda s: s.kind)
def test_two_half_windows_hold_what_the_whole_one_holds(sample):
    specimen = sample.make(Run(4))
    left, right = Window(-2, 0.1, -2, 2), Window(0.1, 2, -2, 2)
    parts = specimen.atoms_within(left) + specimen.atoms_within(right)
    whole = specimen.atoms_within(Window(-2, 2, -2, 2))
    assert len(parts) == len(whole) > 0
    order = [np.lexsort(a.positions_nm.T) for a in (parts, whole)]
    np.testing.assert_array_equal(parts.positions_nm[order[0]], whole.positions_nm[order[1]])
    np.testing.assert_array_equal(parts.numbers[order[0]], whole.numbers[order[1]])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"thickness_nm": 0}, "thickness_nm"),
        ({"b_factors_A2": {"Qq": 0.5}}, "'Qq' is no element"),
        ({"supercell": [0, 1, 1]}, "supercell"),
        ({"occupancy": "guess"}, "occupancy"),
        ({"thicknes_nm": 5}, "thicknes_nm"),
    ],
)
def test_bad_knobs_are_refused(change, words):
    with pytest.raises(ValidationError, match=words):
        Crystal.model_validate({"file": "srtio3.cif", **change})


def test_quantities_may_carry_units():
    crystal = Crystal.model_validate(
        {"file": "gold.cif", "thickness_nm": "50 Å", "b_factors_A2": {"Au": "0.007 nm^2"}}
    )
    assert crystal.thickness_nm == pytest.approx(5.0)
    assert crystal.b_factors_A2["Au"] == pytest.approx(0.7)


# --- finite structures ---


def test_a_molecule_is_centred_turned_over_and_rotated(tmp_path):
    """An L of three atoms: over (half a turn about x), then 90 degrees about z (x to y)."""
    path = tmp_path / "corner.xyz"
    ase.io.write(path, ase.Atoms("Au3", [[0, 0, 0], [4, 0, 0], [0, 0, 2]]))
    make = {"file": str(path), "b_factors_A2": {"Au": 0.62}}
    plain = StructureSample(**make).make(Run(0)).atoms_within(VIEW)
    expected = [[-0.2, 0, 0], [0.2, 0, 0], [-0.2, 0, 0.2]]
    np.testing.assert_allclose(plain.positions_nm, expected, atol=1e-12)
    turned = StructureSample(**make, flip=True, rotate_z_deg=90).make(Run(0)).atoms_within(VIEW)
    expected = [[0, -0.2, 0.2], [0, 0.2, 0.2], [0, -0.2, 0]]
    np.testing.assert_allclose(turned.positions_nm, expected, atol=1e-12)


def test_rotations_are_right_handed_and_proper():
    """About x: y to z. About y: z to x. About z: x to y."""
    for name, start, end in (("x", 1, 2), ("y", 2, 0), ("z", 0, 1)):
        sample = StructureSample(file="gold.cif", **{f"rotate_{name}_deg": 90})
        np.testing.assert_allclose(sample.rotation() @ np.eye(3)[start], np.eye(3)[end], atol=1e-15)
    mixed = StructureSample(file="gold.cif", flip=True, rotate_x_deg=20, rotate_y_deg=-70)
    assert np.linalg.det(mixed.rotation()) == pytest.approx(1.0, abs=1e-12)


def test_a_file_with_a_cell_is_repeated_only_when_told():
    one = StructureSample(file="gold.cif").make(Run(0)).atoms_within(VIEW)
    many = StructureSample(file="gold.cif", supercell=(3, 2, 1)).make(Run(0)).atoms_within(VIEW)
    assert (len(one), len(many)) == (4, 24)


def test_a_pdb_files_b_factors_are_checked_and_zero_is_not_stated(tmp_path):
    path = tmp_path / "one.pdb"
    line = "ATOM      1  C   MOL A   1       1.000   2.000   3.000  1.00{:6.2f}           C\n"
    path.write_text(line.format(-3))
    with pytest.raises(ValueError, match=r"^file: site .* of one\.pdb has B = -3 "):
        StructureSample(file=str(path)).make(Run(0))
    path.write_text(line.format(0))
    assert "U = 0 for sites of C" in StructureSample(file=str(path)).make(Run(0)).notes[0]


# --- a particle on a support ---


@pytest.fixture(scope="module")
def profile():
    return NanoparticleOnSupport().make(Run(1))


def test_the_particle_has_nearly_the_wanted_number_of_atoms_in_closed_facets(profile):
    """Nearest neighbours a / sqrt 2 apart; {111} faces have 9 neighbours, {100} 8, edges 6, 7."""
    positions = profile.particle.positions_nm
    assert len(positions) == pytest.approx(2000, rel=0.03)
    distance, _ = cKDTree(positions).query(positions, k=2)
    np.testing.assert_allclose(distance[:, 1], NEIGHBOUR, atol=1e-9)
    assert set(neighbours(positions, NEIGHBOUR)) == {6, 7, 8, 9, 12}
    assert f"{len(positions)} atoms (2000 asked for)" in profile.notes[0]


def test_facets_are_those_that_the_truth_says(profile):
    """Every facet's outermost layer has the stated number of atoms; none lies beyond."""
    facets = profile.truth()["facets"]
    families = np.sort(np.abs(np.column_stack([facets[i] for i in "hkl"])), axis=1)
    assert (families == [1, 1, 1]).all(axis=1).sum() == 8
    assert (families == [0, 0, 1]).all(axis=1).sum() == 6
    assert len(families) == 14  # a truncated octahedron
    normals = np.column_stack([facets[f"normal_{i}"] for i in "xyz"])
    height = profile.particle.positions_nm @ normals.T
    on_top = (height > height.max(axis=0) - 1e-6).sum(axis=0)
    np.testing.assert_array_equal(on_top, facets["n_atoms"])


def test_the_particle_sits_flat_on_the_surface_in_the_middle_of_the_support(profile):
    """A {111} layer faces the oxygen layer at y = 1.5 nm, the gap above it (y points down)."""
    y = profile.particle.positions_nm[:, 1]
    facets = profile.truth()["facets"]
    assert y.max() == pytest.approx(1.5 - 0.23, abs=1e-9)
    assert (y > y.max() - 1e-6).sum() == facets["n_atoms"][facets["contact"]][0] > 100
    np.testing.assert_allclose(np.diff(np.unique(np.round(y, 6))), GOLD / np.sqrt(3), atol=2e-6)
    support = profile.support_within(VIEW)
    oxygen = support.numbers == 8
    assert support.positions_nm[:, 1].min() == pytest.approx(1.5, abs=1e-9)
    assert set(support.numbers[support.positions_nm[:, 1] < 1.51]) == {8}
    # O-Ce-O: the first cerium layer lies a / (4 sqrt 3) below the surface.
    depth = support.positions_nm[~oxygen, 1].min() - 1.5
    assert depth == pytest.approx(0.5411 / (4 * np.sqrt(3)), abs=1e-9)
    middle = (support.positions_nm[:, 2].min() + support.positions_nm[:, 2].max()) / 2
    assert profile.particle.positions_nm[:, 2].mean() == pytest.approx(middle, abs=0.1)


def test_both_crystals_have_110_along_the_beam(profile):
    """Gold's columns repeat by a / sqrt 2 along z, cerium's likewise."""
    for positions, step in (
        (profile.particle.positions_nm, NEIGHBOUR),
        (
            profile.support_within(VIEW).positions_nm[profile.support_within(VIEW).numbers == 58],
            0.5411 / np.sqrt(2),
        ),
    ):
        first = positions[np.lexsort(np.round(positions[:, [2, 1, 0]], 6).T)][0]
        column = positions[np.linalg.norm(positions[:, :2] - first[:2], axis=1) < 1e-6, 2]
        np.testing.assert_allclose(np.diff(np.sort(column)), step, atol=1e-8)


def test_the_support_has_ceria_s_density_and_no_end():
    """12 atoms in 0.5411^3 nm^3, far away; 20 nm hold 104.5 layers, so 1 % either way."""
    support = NanoparticleOnSupport(n_atoms=200, support_thickness_nm=20).make(Run(0))
    atoms = support.atoms_within(Window(100, 110, 50, 58))
    assert len(atoms) == pytest.approx(12 / 0.5411**3 * 10 * 8 * 20, rel=0.01)
    cerium = (atoms.numbers == 58).sum()
    assert (len(atoms) - cerium) / cerium == pytest.approx(2, rel=0.02)


def test_the_shape_meets_the_wanted_number_about_as_closely_as_shells_allow():
    for n in (100, 300, 1000, 5000, 20_000):
        shape = carve(n, 1.268, 1.325, 0.2)
        assert len(shape.positions) == pytest.approx(n, abs=1.5 * n ** (2 / 3) / 2), n
        assert neighbours(shape.positions, 1 / np.sqrt(2)).min() >= 4


def test_adhesion_flattens_the_particle_and_surface_energies_choose_the_facets():
    tall, flat = (carve(3000, 1.268, 1.325, share) for share in (0.0, 0.8))
    up = np.ones(3) / np.sqrt(3)
    assert np.ptp(flat.positions @ up) < 0.8 * np.ptp(tall.positions @ up)
    # distances of the free facets: {100} 1.268 times {111}, to within a layer
    families = np.abs(tall.indices).sum(axis=1)
    ratio = tall.distances[families == 1].mean() / tall.distances[families == 3].mean()
    assert ratio == pytest.approx(1.268, abs=0.06)
    cubic = carve(3000, 0.55, 1.7, 0.0)
    corner = np.abs(cubic.indices).sum(axis=1) == 3
    assert cubic.on_facets()[corner].max() == 3  # below 1 / sqrt 3: a cube, but for its corners
    assert cubic.on_facets()[~corner].min() > 50
    dodecahedral = carve(3000, 1.6, 1.0, 0.0)
    assert 2 in np.abs(dodecahedral.indices).sum(axis=1)  # {110}


def test_the_particles_strain_is_about_the_middle_of_its_contact_facet():
    plain = NanoparticleOnSupport.small()
    strained = plain.model_copy(
        update={"strain_xx_percent": 1.0, "strain_yy_percent": -2.0, "strain_xy_percent": 0.3}
    )
    before = plain.make(Run(0)).particle.positions_nm
    after = strained.make(Run(0)).particle.positions_nm
    x, y, z = (before - [0, 0.6 - 0.23, 0]).T
    expected = np.column_stack([1.01 * x + 0.003 * y, 0.003 * x + 0.98 * y, z])
    np.testing.assert_allclose(after - [0, 0.6 - 0.23, 0], expected, atol=1e-12)


def test_relaxation_contracts_the_outermost_spacing_by_its_share():
    """Middle of the top {111} facet of a large particle: 3 % less, then 3 % / e, and so on."""
    sample = NanoparticleOnSupport(n_atoms=20_000, relaxation_percent=3.0)
    shape = carve(20_000, 1.268, 1.325, 0.2)
    moved = shape.positions + shape.relaxation(0.03)
    up = np.ones(3) / np.sqrt(3)
    height = shape.positions @ up
    axis = np.linalg.norm(shape.positions - height[:, None] * up, axis=1) < 1.0
    layers = np.unique(np.round(height, 6))[::-1][:4]
    mean = [(moved @ up)[axis & (np.abs(height - h) < 1e-5)].mean() for h in layers]
    contraction = 1 + np.diff(mean) * np.sqrt(3)
    np.testing.assert_allclose(contraction, 0.03 * np.exp([0, -1, -2]), atol=2e-4)
    assert len(sample.make(Run(0)).particle) == len(moved)


def test_half_a_turn_of_azimuth_gives_the_twin():
    """Layers stay layers, columns stay columns, the outline is mirrored in x."""
    plain = NanoparticleOnSupport.small().make(Run(0)).particle.positions_nm
    sample = NanoparticleOnSupport.small().model_copy(update={"azimuth_deg": 180.0})
    twin = sample.make(Run(0)).particle.positions_nm
    mirrored = plain * [-1, 1, 1]
    apart, _ = cKDTree(twin).query(mirrored)
    assert apart.max() < 1e-9


def test_a_tilt_turns_both_crystals_and_the_surface():
    """About x by 30 mrad: the surface's layers lean by tan 0.03 along z."""
    sample = NanoparticleOnSupport.small().model_copy(update={"tilt_mrad": (30.0, 0.0)})
    specimen = sample.make(Run(0))
    surface = specimen.support_within(Window.centred(4, 4))
    y, z = surface.positions_nm[:, 1], surface.positions_nm[:, 2]
    middle = specimen.pivot_nm[2]
    # z leans downwards: a rotation about x takes y to (cos, sin), so y falls where z rises
    upright = (y - 0.6) * np.cos(0.03) + (z - middle) * np.sin(0.03)
    assert upright.min() == pytest.approx(0.0, abs=2e-9)
    assert surface.positions_nm[:, 2].min() >= 0
    assert surface.positions_nm[:, 2].max() < 2.1
    back = (specimen.particle.positions_nm - specimen.pivot_nm) @ specimen.turn
    assert back[:, 1].max() == pytest.approx(-0.23, abs=1e-12)


def test_metals_other_than_gold_get_their_debye_factor_and_overrides_are_checked():
    platinum = NanoparticleOnSupport.small().model_copy(
        update={"element": "Pt", "lattice_nm": 0.3924, "b_factors_A2": {"O": 0.8}}
    )
    atoms = platinum.make(Run(0)).atoms_within(VIEW)
    of = {int(z): set(atoms.b_factors_A2[atoms.numbers == z]) for z in set(atoms.numbers)}
    assert of[8] == {0.8}
    assert of[58] == {0.3}
    assert 0.2 < min(of[78]) < 0.6
    assert atoms.group_names == ("particle", "support")
    wrong = platinum.model_copy(update={"b_factors_A2": {"Au": 0.6}})
    with pytest.raises(
        ValueError, match=r"^b_factors_A2: there is no 'Au' here; it is made of Pt, Ce, O"
    ):
        wrong.make(Run(0))
    with pytest.raises(ValidationError, match="'Xy' is no chemical symbol"):
        NanoparticleOnSupport(element="Xy")


def test_atoms_that_would_overlap_are_refused():
    """Sheared so far that an edge of the particle dives into the support."""
    sample = NanoparticleOnSupport(n_atoms=5000, gap_nm=0.15, strain_xy_percent=5.0)
    with pytest.raises(ValueError, match=r"^gap_nm: .*widen gap_nm"):
        sample.make(Run(0))


# --- where B factors come from ---


def test_b_factors_override_file_table_and_debye_in_this_order():
    numbers = np.array([38, 22, 8, 8, 8])
    stated = np.array([np.nan, 1.5, np.nan, np.nan, np.nan])
    values, told = b_factors(numbers, stated, {"O": 0.9}, 293.0)
    assert values.tolist() == [0.62, 1.5, 0.9, 0.9, 0.9]
    assert "Sr 0.62 Å² (literature on SrTiO3, 293 K)" in told
    assert "Ti 1.50 Å² (file)" in told
    assert "O 0.9 Å² (recipe)" in told
    copper, told = b_factors(np.array([29]), np.array([np.nan]), {}, 350.0)
    assert copper.tolist() == [b_factor_debye(29, 350.0)]
    assert "Debye model, 350 K" in told


def test_ions_in_an_unknown_compound_are_assumed_and_said_to_be():
    """Not the Debye model of the metal: soft strontium's 3.8 Å² isn't that of an ion (0.62)."""
    numbers = np.array([56, 38, 22, 8, 1])
    values, told = b_factors(numbers, np.full(5, np.nan), {"Ti": 0.4}, 293.0)
    assert values.tolist() == [0.7, 0.7, 0.4, 0.7, 1.5]  # Ba, Sr, Ti, O, H
    for words in ("Sr 0.70", "O 0.70", "H 1.50"):
        assert f"{words} Å² (assumed; b_factors_A2 replaces it)" in told
    assert "Debye" not in told


@pytest.mark.parametrize(
    ("numbers", "expected", "name"),
    [
        ([38, 38, 22, 8, 8, 8], [0.62, 0.62, 0.44, 0.73, 0.73, 0.73], "SrTiO3"),
        ([58, 58, 8, 8, 8], [0.3, 0.3, 0.5, 0.5, 0.5], "CeO2"),
    ],
)
def test_a_slab_off_its_formula_has_its_compounds_b_factors(numbers, expected, name):
    values, told = b_factors(np.array(numbers), np.full(len(numbers), np.nan), {}, 293.0)
    assert values.tolist() == expected
    assert told.count(f"(literature on {name}, 293 K)") == len(set(numbers))


def test_an_element_alone_without_a_debye_temperature_is_assumed():
    values, told = b_factors(np.array([85]), np.array([np.nan]), {}, 293.0)  # astatine
    assert values.tolist() == [0.7]
    assert "assumed" in told


def test_a_b_factor_for_an_element_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"^b_factors_A2: there is no 'Sr' in this structure"):
        b_factors(np.array([79]), np.array([np.nan]), {"Sr": 0.5}, 293.0)


# --- anisotropic displacements from a CIF ---

ANISOTROPIC_CIF = """data_test
_cell_length_a 3.0
_cell_length_b 4.0
_cell_length_c 7.0
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma {gamma}
loop_
_space_group_symop_operation_xyz
x,y,z
{symmetry}
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_U_iso_or_equiv
Au1 Au 0.1 0.2 0.3 0.013
C1 C 0.6 0.6 0.9 0.02
loop_
_atom_site_aniso_label
_atom_site_aniso_U_11
_atom_site_aniso_U_22
_atom_site_aniso_U_33
_atom_site_aniso_U_23
_atom_site_aniso_U_13
_atom_site_aniso_U_12
Au1 {tensor}
"""


def cif(path, gamma=90, symmetry="-y,x,z+1/2", tensor="0.01 0.02 0.009 0.001 0.002 0.003"):
    if symmetry == "-y,x,z+1/2":
        text = ANISOTROPIC_CIF.replace("_cell_length_b 4.0", "_cell_length_b 3.0")
    else:
        text = ANISOTROPIC_CIF
    path.write_text(text.format(gamma=gamma, symmetry=symmetry, tensor=tensor))
    return str(path)


def test_symmetry_rotates_a_sites_tensor_and_so_does_the_zone_axis(tmp_path):
    """A quarter turn about c: U_11 and U_22 change places. Then the crystal is turned."""
    foil = Crystal(file=cif(tmp_path / "four.cif"), zone_axis=(1, 0, 0)).make(Run(0))
    gold = foil.sites.numbers == 79
    first, second = foil.sites.u_aniso_A2[gold]
    stated = np.array([[0.01, 0.003, 0.002], [0.003, 0.02, 0.001], [0.002, 0.001, 0.009]])
    quarter = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    np.testing.assert_allclose(first, stated, atol=1e-12)
    np.testing.assert_allclose(second, quarter @ stated @ quarter.T, atol=1e-12)
    # carbon has no tensor: the isotropic one of its U
    np.testing.assert_allclose(foil.sites.u_aniso_A2[~gold][0], 0.02 * np.eye(3), atol=1e-12)
    atoms = foil.atoms_within(Window.centred(1, 1))
    along_beam = {round(float(u), 6) for u in atoms.u_aniso_A2[atoms.numbers == 79][:, 2, 2]}
    assert along_beam == {0.01, 0.02}
    assert "Anisotropic displacements of 2 of 4 atoms (Au) are those of the file." in foil.notes


def test_tensors_of_an_oblique_cell_are_those_of_cartesian_axes(tmp_path):
    """gamma = 60: N = A diag(a*, b*, c*), with a* = 1 / (a sin gamma), along a, b, c."""
    path = cif(tmp_path / "oblique.cif", 60, "-x,-y,-z", "0.012 0.012 0.012 0 0 0.006")
    foil = Crystal(file=path).make(Run(0))
    sine, cosine = np.sin(np.pi / 3), np.cos(np.pi / 3)
    to_cartesian = np.array([[1, cosine, 0], [0, sine, 0], [0, 0, 1]]) @ np.diag(
        [1 / sine, 1 / sine, 1]
    )
    stated = np.array([[0.012, 0.006, 0], [0.006, 0.012, 0], [0, 0, 0.012]])
    expected = to_cartesian @ stated @ to_cartesian.T
    for tensor in foil.sites.u_aniso_A2[foil.sites.numbers == 79]:  # inversion keeps a tensor
        np.testing.assert_allclose(tensor, expected, atol=1e-12)


def test_a_recipes_b_factor_and_failed_refinements_replace_tensors(tmp_path):
    path = cif(tmp_path / "four.cif")
    plain = Crystal(file=path, b_factors_A2={"Au": 0.6}).make(Run(0))
    assert plain.sites.u_aniso_A2 is None
    failed = cif(tmp_path / "failed.cif", tensor="0.01 -0.02 0.009 0.001 0.002 0.003")
    foil = Crystal(file=failed).make(Run(0))
    assert foil.sites.u_aniso_A2 is None
    assert any("negative eigenvalues" in note for note in foil.notes)


def test_uio66_moves_as_its_refinement_says():
    """The measured block states tensors; a finite piece turns them with it."""
    common = {"file": "uio66.cif", "block": "UiO66_COD4512072", "occupancy": "draw"}
    common["occupancies"] = {"O5": 0}
    plain = StructureSample(**common).make(Run(0)).atoms
    turned = StructureSample(**common, rotate_x_deg=90).make(Run(0)).atoms
    zirconium = plain.numbers == 40
    trace = np.trace(plain.u_aniso_A2[zirconium], axis1=1, axis2=2) / 3
    np.testing.assert_allclose(8 * np.pi**2 * trace, plain.b_factors_A2[zirconium], rtol=0.05)
    np.testing.assert_allclose(turned.u_aniso_A2[:, 2, 2], plain.u_aniso_A2[:, 1, 1], atol=1e-12)

"""Samples of labelled structures: their truth, their files, what they refuse."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.spatial import cKDTree

from nanophantom.samples._family import Sample
from nanophantom.samples.atom_sites import AtomSites
from nanophantom.samples.clusters import Clusters
from nanophantom.samples.microtubules import Microtubules
from nanophantom.samples.nuclear_pores import NuclearPores
from nanophantom.samples.origami import Origami
from nanophantom.samples.particle_pair import ParticlePair
from nanophantom.samples.random_field import RandomField
from nanophantom.samples.site_list import SiteList
from nanophantom.simcore.atoms import Window
from nanophantom.simcore.emitters import HasDyes
from nanophantom.simcore.light.fluorophores import Fluorophore
from nanophantom.simcore.light.labelling import FixedLinker, GaussianLinker, Labelling, NoLinker
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import HasAtoms, HasThickness
from nanophantom.simcore.surfaces import HasSurface

KINDS = [
    "nuclear-pores", "origami", "microtubules", "filament-network", "clusters", "siemens-star",
    "random-field", "site-list", "atom-sites",
]  # fmt: skip
RICH = {
    "efficiency": 0.7,
    "dyes_per_label": 2.0,
    "dyes_distribution": "poisson",
    "fluorescent_fraction": 0.8,
}


@pytest.mark.parametrize("kind", KINDS)
def test_truth_leads_from_every_dye_to_its_structure(kind):
    small = Sample.of_kind(kind).small()
    sample = type(small).model_validate(small.model_dump() | {"labelling": RICH})
    specimen = sample.make(Run(3))
    assert isinstance(specimen, HasDyes)
    truth = specimen.truth()
    for name, table in truth.items():
        assert len({len(column) for column in table.values()}) == 1, name
    structures, sites = truth["structures"], truth["sites"]
    labels, dyes = truth["labels"], truth["dyes"]
    assert len(dyes["dye"]) > 20
    for table, number in (
        (structures, "structure"), (sites, "site"), (labels, "label"), (dyes, "dye"),
    ):  # fmt: skip
        np.testing.assert_array_equal(table[number], np.arange(len(table[number])))
    assert len(np.unique(labels["site"])) == len(labels["site"])
    np.testing.assert_array_equal(labels["site"][dyes["label"]], dyes["site"])
    assert (sites["structure"] < len(structures["structure"])).all()
    for count, of in (
        ("n_sites", np.arange(len(sites["site"]))),
        ("n_labels", labels["site"]),
        ("n_fluorescing_dyes", dyes["site"][dyes["fluoresces"]]),
    ):
        owner = sites["structure"][of]
        expected = [(owner == k).sum() for k in structures["structure"]]
        np.testing.assert_array_equal(structures[count], expected)

    seen = specimen.dyes_within(Window.everywhere())
    np.testing.assert_array_equal(seen.dye, np.flatnonzero(dyes["fluoresces"]))
    np.testing.assert_array_equal(seen.positions_nm[:, 0], dyes["x_nm"][seen.dye])
    half = specimen.dyes_within(Window(-np.inf, 0.0, -np.inf, np.inf))
    np.testing.assert_array_equal(half.dye, seen.dye[seen.positions_nm[:, 0] < 0])
    again = pickle.loads(pickle.dumps(specimen)).dyes_within(Window.everywhere())
    np.testing.assert_array_equal(again.positions_nm, seen.positions_nm)
    other = sample.make(Run(4)).dyes_within(Window.everywhere())
    assert len(other) != len(seen) or not np.array_equal(other.positions_nm, seen.positions_nm)


@pytest.mark.parametrize("kind", KINDS)
def test_sites_fill_the_field_around_the_origin(kind):
    small = Sample.of_kind(kind).small()
    places = small.make(Run(1)).structures.sites.positions_nm
    assert np.isfinite(places).all()
    if kind in ("site-list", "atom-sites"):
        return
    reach = {"nuclear-pores": 60.0, "origami": 40.0}.get(kind, 0.0)  # centres lie inside
    assert np.abs(places[:, :2]).max() <= small.field_um * 500 + reach
    assert np.ptp(places[:, 0]) > small.field_um * 500


def test_a_recipe_changes_what_is_usual_for_the_kind_only_where_it_says_so():
    tubes = Microtubules.model_validate({"labelling": {"efficiency": 0.2}})
    assert tubes.labelling.efficiency == 0.2
    assert tubes.labelling.linker == FixedLinker(length_nm=17.5, outward=True)
    assert tubes.labelling.dyes_distribution == "poisson"
    grids = Origami.model_validate({"labelling": {"dye": {"brightness_cv": 0.1}}})
    assert grids.labelling.dye == Fluorophore(preset="dna-paint", brightness_cv=0.1)
    assert grids.labelling.efficiency == 1.0
    other = Origami.model_validate({"labelling": {"dye": {"preset": "palm"}}})
    assert other.labelling.dye == Fluorophore(preset="palm")
    assert other.labelling.linker == GaussianLinker(sd_nm=1.0)
    assert Origami.model_validate(grids.model_dump(mode="json")) == grids


# ---- arrangements


def test_a_grid_of_aligned_pores():
    sample = NuclearPores(
        number=9, field_um=2.0, arrangement="grid", spacing_nm=300.0, rotation_deg=22.5
    )
    table = sample.make(Run(1)).truth()["structures"]
    assert table["x_nm"].tolist() == [-300, 0, 300] * 3
    assert table["y_nm"].tolist() == [-300] * 3 + [0] * 3 + [300] * 3
    assert (table["angle_deg"] == 22.5).all()


def test_a_line_of_origami():
    sample = Origami(number=5, field_um=1.0, arrangement="line")
    table = sample.make(Run(1)).truth()["structures"]
    np.testing.assert_allclose(table["x_nm"], [-400, -200, 0, 200, 400])
    assert (table["y_nm"] == 0).all()


def test_structures_beyond_the_efficiency_stay_where_they_are():
    one, two = (
        NuclearPores(number=20, field_um=3.0, labelling={"efficiency": p}).make(Run(5)).truth()
        for p in (0.1, 0.9)
    )
    for column in ("x_nm", "y_nm", "z_nm", "structure", "part"):
        np.testing.assert_array_equal(one["sites"][column], two["sites"][column])
    tilted = NuclearPores(number=20, field_um=3.0, tilt_spread_deg=5.0).make(Run(5)).truth()
    for column in ("x_nm", "y_nm", "angle_deg"):
        np.testing.assert_array_equal(one["structures"][column], tilted["structures"][column])


def test_only_part_of_single_molecules_belongs_to_clusters():
    specimen = Clusters(singles_per_um2=50.0).make(Run(2))
    sites, process = specimen.truth()["sites"], specimen.truth()["process"]
    assert (sites["structure"] == -1).sum() == process["n_singles"][0] > 0
    assert sites["structure"].min() == -1


def test_specimens_say_how_much_there_is_and_what_lies_below_the_coverslip():
    above = NuclearPores(number=2, field_um=1.0, labelling={"efficiency": 1.0}).make(Run(1))
    assert above.notes == ("64 sites bound 64 labels with 64 dyes, of which 64 can fluoresce.",)
    below = NuclearPores(number=2, field_um=1.0, height_nm=0.0).make(Run(1))
    assert below.notes[1] == "32 sites lie below the coverslip's surface (z < 0)."


# ---- lists of sites


def listed(tmp_path: Path, text: str, name: str = "sites.csv", **knobs: object) -> SiteList:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return SiteList(file=str(tmp_path / name), labelling={"efficiency": 1.0}, **knobs)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("x_nm,y_nm,z_nm,structure,part\n1,2,3,7,0\n5,6,4,9,2\n1,0,5,7,1\n", "a.csv"),
        ("# mine\n1; 2; 3; 7; 0\n\n5; 6; 4; 9; 2\n1; 0; 5; 7; 1\n", "a.csv"),
        ("1\t2\t3\t7\t0\n5\t6\t4\t9\t2\n1\t0\t5\t7\t1\n", "a.tsv"),
        ('"part" "z_nm" "X_nm" "y_nm" "structure"\n0 3 1 2 7\n2 4  5 6 9\n1 5 1 0 7', "a.txt"),
    ],
)
def test_lists_of_sites_are_read_with_and_without_names(tmp_path, text, name):
    truth = listed(tmp_path, text, name, centred=False).make(Run(1)).truth()
    sites, structures = truth["sites"], truth["structures"]
    places = np.stack([sites[c] for c in ("x_nm", "y_nm", "z_nm")], axis=1)
    assert places.tolist() == [[1, 2, 3], [5, 6, 4], [1, 0, 5]]
    assert sites["structure"].tolist() == [0, 1, 0]
    assert sites["part"].tolist() == [0, 2, 1]
    assert structures["number_in_file"].tolist() == [7, 9]
    assert structures["y_nm"].tolist() == [1, 6]
    np.testing.assert_allclose(structures["size_nm"], [2 * np.sqrt(2), 0])


def test_a_list_is_centred_and_raised(tmp_path):
    sites = listed(tmp_path, "0,10\n100,30\n", height_nm=20.0).make(Run(1)).truth()["sites"]
    assert sites["x_nm"].tolist() == [-50, 50]
    assert sites["y_nm"].tolist() == [-10, 10]
    assert sites["z_nm"].tolist() == [20, 20]


def test_xyz_files_are_in_angstrom(tmp_path):
    text = "2\na molecule\nC 0.0 10.0 -20.0 0.3\nAu 5 5 5 0.1\n"
    sample = listed(tmp_path, text, "m.xyz", centred=False)
    places = sample.make(Run(1)).structures.sites.positions_nm
    np.testing.assert_allclose(places, [[0, 1, -2], [0.5, 0.5, 0.5]])
    assert sample.input_files() == {"file": tmp_path / "m.xyz"}


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("x_nm,y_nm\n1,2\n3,apple\n", "a.csv", r"line 3 of a.csv: y_nm must be a number, not 'ap"),
        ("1,2\n\n# no\n3,4,5\n", "a.csv", r"line 4 of a.csv has 3 columns, not 2 \(x_nm, y_nm\)"),
        ("1,2\n3,nan\n", "a.csv", r"line 2 of a.csv: y_nm must be a number, not 'nan'"),
        ("1,2,\n", "a.csv", r"line 1 of a.csv: z_nm must be a number, not ''"),
        ("1,two,3\n4,5,6\n", "a.csv", r"line 1 of a.csv: y_nm must be a number, not 'two'"),
        ("x,y\n1,2\n", "a.csv", r"a.csv has a column 'x'; (known|did you mean)"),
        ("x_nm,z_nm\n1,2\n", "a.csv", r"must have x_nm, y_nm and no column twice; it has x_nm, z"),
        ("x_nm,y_nm,y_nm\n1,2,3\n", "a.csv", r"no column twice"),
        ("1\n2\n", "a.csv", r"line 1 of a.csv has 1 columns; give x_nm, y_nm"),
        ("1,2,3,1.5\n", "a.csv", r"line 1 .* structure must be a whole number from -1 up, not '1"),
        ("1,2,3,0,-1\n", "a.csv", r"line 1 .* part must be a whole number from 0 up, not '-1'"),
        ("# nothing\n", "a.csv", r"a.csv lists no sites"),
        ("x_nm,y_nm\n", "a.csv", r"a.csv lists no sites"),
        ("C 0 0 0\n", "a.xyz", r"line 1 of a.xyz must be the number of atoms"),
        ("2\n\nC 0 0 0\n", "a.xyz", r"a.xyz announces 2 atoms and lists 1"),
        ("2\n\nC 0 0 0\nC 0 0\n", "a.xyz", r"line 4 of a.xyz has 3 columns, not 4"),
        ("1\n\nC 0 0 z\n", "a.xyz", r"line 3 of a.xyz: z_nm must be a number, not 'z'"),
    ],
)
def test_a_wrong_list_is_refused_in_one_line_that_names_the_row(tmp_path, text, name, message):
    with pytest.raises(ValueError, match=message) as error:
        listed(tmp_path, text, name).make(Run(1))
    assert str(error.value).startswith("file: ")
    assert "\n" not in str(error.value)


def test_a_missing_list_is_refused_with_the_names_of_those_there_are():
    with pytest.raises(ValueError, match=r"there is no 'nowhere.csv'; .* trefoil.csv"):
        SiteList(file="nowhere.csv").make(Run(1))


# ---- labelled atoms


def test_labelled_atoms_are_seen_by_electrons_as_ever():
    bare = ParticlePair.small()
    specimen = AtomSites(sample=bare, share=0.5, height_nm=30.0).make(Run(3))
    assert isinstance(specimen, HasAtoms)
    assert isinstance(specimen, HasThickness)
    assert isinstance(specimen, HasDyes)
    assert not isinstance(specimen, HasSurface)
    within = bare.make(Run(3))
    atoms = within.atoms_within(Window.everywhere())
    seen = specimen.atoms_within(Window.everywhere())
    np.testing.assert_array_equal(seen.positions_nm, atoms.positions_nm)
    assert specimen.exit_nm == within.exit_nm
    assert set(within.truth()) < set(specimen.truth())
    # every site sits on an atom, as far above the coverslip as the entrance face
    away, _ = cKDTree(atoms.positions_nm + np.array([0, 0, 30.0])).query(
        specimen.structures.sites.positions_nm
    )
    np.testing.assert_allclose(away, 0, atol=1e-12)
    structures = specimen.truth()["structures"]
    assert structures["name"].tolist() == ["particle 1", "particle 2"]
    low = {"sites": structures["n_sites"].sum(), "atoms": structures["n_surface_atoms"].sum()}
    assert abs(low["sites"] / low["atoms"] - 0.5) < 3 * np.sqrt(0.25 / low["atoms"])


def test_atoms_of_the_surface_are_those_with_missing_neighbours():
    """In a close-packed crystal: fewer than 12 nearest neighbours; outward is away from them."""
    sample = AtomSites(
        sample=ParticlePair(n_atoms=(900, 900), gap_nm=3.0), share=1.0, parts=("particle 1",)
    )
    specimen = sample.make(Run(1))
    atoms = specimen.atoms_within(Window.everywhere())
    one = atoms.positions_nm[atoms.groups == 0]
    tree = cKDTree(one)
    neighbours = [
        np.array(sorted(set(k) - {i})) for i, k in enumerate(tree.query_ball_point(one, 0.33))
    ]
    surface = np.array([len(k) < 12 for k in neighbours])
    sites = specimen.structures.sites.positions_nm
    assert (specimen.structures.sites.structure == 0).all()
    np.testing.assert_allclose(sites, one[surface])
    missing = np.array(
        [(one[i] - one[k]).sum(axis=0) for i, k in enumerate(neighbours) if surface[i]]
    )
    missing /= np.linalg.norm(missing, axis=1)[:, None]
    cosine = (missing * specimen.structures.outward).sum(axis=1)
    assert cosine.min() > 0.9
    area = specimen.truth()["structures"]["surface_nm2"][0]
    radius = np.linalg.norm(one - one.mean(axis=0), axis=1).max()
    assert 0.75 < area / (4 * np.pi * (radius + 0.3) ** 2) < 1.0  # within the sphere around it


def test_a_density_of_sites_is_one_on_the_surface():
    sample = AtomSites(sample=ParticlePair.small(), sites_per_nm2=2.0)
    tables = [sample.make(Run(seed)).truth()["structures"] for seed in range(60)]
    numbers = np.array([table["n_sites"].sum() for table in tables])
    expected = 2.0 * tables[0]["surface_nm2"].sum()
    assert abs(numbers.mean() - expected) < 3 * numbers.std(ddof=1) / np.sqrt(60)


# ---- what is refused


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NuclearPores(number=300, field_um=1.0), r"number: there is room for \d+ of 300"),
        (lambda: NuclearPores(number=9, field_um=0.4, arrangement="grid"), r"number: 3 side by si"),
        (
            lambda: Origami(number=2, field_um=1.0, arrangement="line", pitch_nm=2000.0),
            r"number: 2 side by side, 2000 nm apart",
        ),
        (lambda: NuclearPores(pair_nm=50.0), r"pair_nm: 50 nm is wider than .* give 40.9 at most"),
        (
            lambda: Clusters(labelling={"linker": {"type": "fixed", "outward": True}}),
            r"labelling.linker.outward: these sites have no inside",
        ),
        (lambda: Clusters(field_um=900.0), r"clusters_per_um2, .*: there would be [\d,]+ sites"),
        (lambda: Microtubules(number=10_000), r"number: 10000 paths of 15 um together are longer"),
        (lambda: Microtubules(number=300, field_um=99.0), r"number: there would be 7,312,500 site"),
        (lambda: RandomField(correlation_nm=10.0), r"correlation_nm: 10 nm is too short .* 25 at"),
        (lambda: RandomField(correlation_nm=6e3), r"correlation_nm: 6000 nm is too long"),
        (
            lambda: AtomSites(sample={"kind": "spheres"}),
            r"sample: a sample of kind 'spheres' has no atoms to label",
        ),
        (
            lambda: AtomSites(sample=ParticlePair.small(), parts=("support",)),
            r"parts: there is no 'support', only particle 1, particle 2",
        ),
        (
            lambda: AtomSites(sample=ParticlePair.small(), sites_per_nm2=50.0),
            r"sites_per_nm2: 50 is more than one site an atom",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make().make(Run(1))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"efficiency": 1.2}, "efficiency"),
        ({"dyes_per_label": 1.5}, "1.5 is no whole number; give one, or set dyes_distribution"),
        ({"linker": {"type": "rigid"}}, "type must be none, fixed or gaussian"),
        ({"linker": {"type": "gaussian", "sd_nm": -1}}, "sd_nm"),
        ({"dye": {"preset": "dye"}}, "preset"),
    ],
)
def test_wrong_labelling_is_refused(knobs, message):
    with pytest.raises(ValidationError, match=message):
        Labelling.model_validate(knobs)


def test_paths_that_would_stand_up_are_refused():
    with pytest.raises(ValidationError, match="height_spread_nm: 500 nm makes paths too steep"):
        Microtubules(height_spread_nm=500.0)


def test_nothing_is_labelled_at_efficiency_0():
    sample = NuclearPores(
        number=3, field_um=1.0, labelling=Labelling(efficiency=0, linker=NoLinker())
    )
    specimen = sample.make(Run(1))
    assert len(specimen.dyes_within(Window.everywhere())) == 0
    assert specimen.truth()["structures"]["n_fluorescing_parts"].tolist() == [0, 0, 0]

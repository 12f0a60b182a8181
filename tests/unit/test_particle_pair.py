"""Two particles that touch: their shapes, lattices and contact."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.spatial import cKDTree

from nanophantom.samples.amorphous_film import AmorphousFilm
from nanophantom.samples.nanoparticle_on_support import carve
from nanophantom.samples.particle_pair import ParticlePair, touching_nm
from nanophantom.samples.stack import Stack
from nanophantom.simcore.atoms import Window
from nanophantom.simcore.dynamics.hopping import neighbour_steps
from nanophantom.simcore.runs import Run

GOLD_NM, PLATINUM_NM = 0.40782, 0.39236
SMALL = {"n_atoms": (300, 300)}


def parts(**knobs) -> tuple[np.ndarray, np.ndarray]:
    atoms = ParticlePair(**{**SMALL, **knobs}).make(Run(0)).atoms
    assert atoms.group_names == ("particle 1", "particle 2")
    return atoms.positions_nm[atoms.groups == 0], atoms.positions_nm[atoms.groups == 1]


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"axis_deg": 35.0},
        {"misorientation_deg": 17.0},
        {"zone_axes": ((0, 0, 1), (1, -1, 0)), "facing": ((1, 0, 0), (1, 1, 1))},
        {"elements": ("Au", "Pt"), "n_atoms": (400, 150)},
    ],
)
@pytest.mark.parametrize("gap_nm", [0.0, 0.1])
def test_they_touch_at_one_bond_and_not_before(knobs, gap_nm):
    """Closest atoms are one bond apart; a gap moves the second one on along the line by as much."""
    one, two = parts(**knobs)
    elements = knobs.get("elements", ("Au", "Au"))
    lattice = np.mean([{"Au": GOLD_NM, "Pt": PLATINUM_NM}[e] for e in elements])
    assert cKDTree(one).query(two)[0].min() == pytest.approx(lattice / np.sqrt(2), rel=1e-9)
    first, second = parts(**knobs, gap_nm=gap_nm)
    angle = np.deg2rad(knobs.get("axis_deg", 0.0))
    line = np.array([np.cos(angle), np.sin(angle), 0])
    moved = (second.mean(axis=0) - first.mean(axis=0)) - (two.mean(axis=0) - one.mean(axis=0))
    np.testing.assert_allclose(moved, gap_nm * line, atol=1e-9)


def test_the_line_between_the_centres_points_where_it_should_and_the_middle_is_the_origin():
    one, two = parts(axis_deg=35.0)
    line = two.mean(axis=0) - one.mean(axis=0)
    assert np.rad2deg(np.arctan2(line[1], line[0])) == pytest.approx(35.0)
    assert line[2] == pytest.approx(0.0, abs=1e-9)
    both = np.concatenate([one, two])
    np.testing.assert_allclose((both.min(axis=0) + both.max(axis=0))[:2], 0.0, atol=1e-9)
    assert both[:, 2].min() == pytest.approx(0.0, abs=1e-12)


def test_each_is_the_carved_crystal_of_its_metal():
    specimen = ParticlePair(elements=("Au", "Pt"), n_atoms=(500, 200)).make(Run(0))
    told = specimen.truth()["particles"]
    for number, wanted in enumerate((500, 200)):
        mine = specimen.atoms.groups == number
        shape = carve(wanted, 1.268, 1.325, 0.0).positions
        assert mine.sum() == told["n_atoms"][number] == len(shape)
        lattice = (GOLD_NM, PLATINUM_NM)[number]
        assert told["lattice_nm"][number] == lattice
        steps = neighbour_steps(specimen.atoms.positions_nm[mine])
        assert len(steps) == 12
        np.testing.assert_allclose(np.linalg.norm(steps, axis=1), lattice / np.sqrt(2), rtol=1e-9)
    assert set(specimen.atoms.numbers) == {79, 78}


def test_zone_axes_lie_along_the_beam():
    """[1-10] shows columns one bond apart along the beam, [001] columns one lattice constant."""
    one, two = parts(zone_axes=((1, -1, 0), (0, 0, 1)), facing=((1, 1, 1), (1, 0, 0)))
    for crystal, step in ((one, GOLD_NM / np.sqrt(2)), (two, GOLD_NM)):
        middle = crystal[np.linalg.norm(crystal - crystal.mean(axis=0), axis=1).argmin()]
        column = np.linalg.norm((crystal - middle)[:, :2], axis=1) < 1e-6
        np.testing.assert_allclose(np.diff(np.sort(crystal[column, 2])), step, rtol=1e-9)


def test_facing_directions_lie_along_the_line():
    """{111} planes of the first, at right angles to the line, are a / sqrt 3 apart."""
    one, two = parts(facing=((1, 1, 1), (0, 0, 1)))
    for crystal, spacing in ((one, GOLD_NM / np.sqrt(3)), (two, GOLD_NM / 2)):
        np.testing.assert_allclose(np.diff(np.unique(crystal[:, 0].round(6))), spacing, atol=2e-6)


@pytest.mark.parametrize("degrees", [12.0, -30.0])
def test_misorientation_turns_the_second_about_the_beam_from_x_to_y(degrees):
    _, straight = parts()
    one, turned = parts(misorientation_deg=degrees)
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    expected = (straight - straight.mean(axis=0)) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]).T
    np.testing.assert_allclose(turned - turned.mean(axis=0), expected, atol=1e-9)
    np.testing.assert_allclose(
        one - one.mean(axis=0), parts()[0] - parts()[0].mean(axis=0), atol=1e-9
    )


def test_a_stack_puts_a_film_behind_them():
    stack = Stack(layers=(ParticlePair.small(), AmorphousFilm.small())).make(Run(0))
    atoms = stack.atoms_within(Window.centred(4, 4))
    assert {"particle 1", "particle 2"} < set(atoms.group_names)
    metal = atoms.numbers == 79
    assert atoms.positions_nm[metal, 2].max() < atoms.positions_nm[~metal, 2].min()


def test_truth_tells_where_they_are_and_how_near():
    specimen = ParticlePair(**SMALL, misorientation_deg=5.0, gap_nm=0.05).make(Run(0))
    truth = specimen.truth()
    one, two = parts(misorientation_deg=5.0, gap_nm=0.05)
    centres = np.stack([truth["particles"][f"{a}_nm"] for a in "xyz"], axis=1)
    np.testing.assert_allclose(centres, [one.mean(axis=0), two.mean(axis=0)], atol=1e-12)
    np.testing.assert_allclose(truth["particles"]["rotation_deg"], [0.0, 5.0])
    assert truth["contact"]["nearest_nm"][0] == cKDTree(one).query(two)[0].min()


def test_the_shift_to_touch_is_that_of_spheres():
    """Two atoms that pass at 0.3 with d = 0.5 touch 0.4 apart along the line; beside it never."""
    shift = touching_nm(np.zeros((1, 3)), np.array([[0, 0.3, 0]]), np.array([1.0, 0, 0]), 0.5)
    assert shift == pytest.approx(0.4)
    with pytest.raises(ValueError, match="would pass each other"):
        touching_nm(np.zeros((1, 3)), np.array([[0, 0.6, 0]]), np.array([1.0, 0, 0]), 0.5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"elements": ("Au", "Fe")}, "'Fe' is none of Ag, Au"),
        ({"n_atoms": (5, 300)}, "n_atoms"),
        ({"b_factors_A2": {"Zz": 0.5}}, "'Zz' is no element"),
    ],
)
def test_bad_knobs_are_refused(change, words):
    with pytest.raises(ValidationError, match=words):
        ParticlePair(**change)


def test_what_only_the_crystals_know_is_refused_when_made():
    with pytest.raises(ValueError, match="there is no 'Pt' here; it is made of Au"):
        ParticlePair(**SMALL, b_factors_A2={"Pt": 0.5}).make(Run(0))
    with pytest.raises(ValueError, match="parallel"):
        ParticlePair(**SMALL, facing=((1, -1, 0), (1, 1, 1))).make(Run(0))

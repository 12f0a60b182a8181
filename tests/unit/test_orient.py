"""Orientation of crystals along the beam, and filling boxes with a lattice."""

from __future__ import annotations

import numpy as np
import pytest

from nanophantom.samples.building.orient import default_x_axis, fill, orientation, tilt

CUBIC = 0.4 * np.eye(3)
# A triclinic cell with no right angle, rows a, b, c in nm.
TRICLINIC = np.array([[0.55, 0.0, 0.0], [0.127, 0.61, 0.0], [-0.213, 0.17, 0.73]])
HEXAGONAL = np.array([[0.3, 0, 0], [-0.15, 0.15 * np.sqrt(3), 0], [0, 0, 0.5]])


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
    with pytest.raises(ValueError, match=r"x_axis .* is parallel to zone_axis"):
        orientation(CUBIC, (1, 1, 0), (2, 2, 0))
    with pytest.raises(ValueError, match=r"zone_axis \[0, 0, 0\] is no direction"):
        orientation(CUBIC, (0, 0, 0))


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


def test_nothing_is_nothing():
    assert len(fill(CUBIC, np.zeros((0, 3)), np.eye(3), (0, 0, 0), (1, 1, 1))[0]) == 0
    assert len(fill(CUBIC, np.zeros((1, 3)), np.eye(3), (0, 0, 1), (1, 1, 1))[0]) == 0
    between = fill(CUBIC, np.zeros((1, 3)), np.eye(3), (0.1, 0.1, 0.1), (0.2, 0.2, 0.2))
    assert len(between[0]) == 0

"""Invariants of an endless lattice, for any cell, orientation and box."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanophantom.samples.building.orient import fill, orientation
from nanophantom.samples.building.sites import Sites

number = st.floats(-0.15, 0.15, allow_nan=False)
length = st.floats(0.3, 0.8)
index = st.integers(-3, 3)
axes = st.tuples(index, index, index).filter(any)
corner = st.floats(-1.5, 1.0)
size = st.floats(0.1, 1.5)


@st.composite
def cells(draw) -> np.ndarray:
    """Cells with edges of 0.3 to 0.8 nm and angles far enough from flat."""
    edges = np.diag([draw(length), draw(length), draw(length)])
    return edges + np.array([[0, 0, 0], [draw(number), 0, 0], [draw(number), draw(number), 0]])


@st.composite
def boxes(draw) -> tuple[np.ndarray, np.ndarray]:
    low = np.array([draw(corner), draw(corner), draw(corner)])
    high = low + np.array([draw(size), draw(size), draw(size)])
    return np.round(low, 9), np.round(high, 9)


BASIS = np.array([[0.0, 0.0, 0.0], [0.11, 0.07, 0.13]])


def rows(positions: np.ndarray, site: np.ndarray) -> set[tuple[float, ...]]:
    return {(*map(float, p), int(s)) for p, s in zip(positions, site, strict=True)}


@settings(max_examples=60, deadline=None)
@given(cells(), axes, boxes(), st.integers(0, 2), st.floats(0.05, 0.95))
def test_a_box_cut_in_two_holds_the_same_atoms_each_once(cell, zone, box, axis, share):
    rotation = orientation(cell, zone)
    low, high = box
    cut = low[axis] + share * (high[axis] - low[axis])
    below, above = high.copy(), low.copy()
    below[axis] = above[axis] = cut
    whole = rows(*fill(cell, BASIS, rotation, low, high))
    first = rows(*fill(cell, BASIS, rotation, low, below))
    second = rows(*fill(cell, BASIS, rotation, above, high))
    assert not first & second
    assert first | second == whole


@settings(max_examples=60, deadline=None)
@given(cells(), axes, boxes())
def test_every_atom_is_in_the_box_on_the_lattice_and_there_once(cell, zone, box):
    rotation = orientation(cell, zone)
    low, high = box
    positions, site = fill(cell, BASIS, rotation, low, high)
    assert ((positions >= low) & (positions < high)).all()
    steps = (positions @ rotation - BASIS[site]) @ np.linalg.inv(cell)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-6)
    assert len(rows(positions, site)) == len(site)


@settings(max_examples=60, deadline=None)
@given(cells(), axes, boxes(), st.tuples(index, index, index))
def test_a_box_moved_by_a_lattice_vector_holds_as_many_atoms(cell, zone, box, n):
    """Up to atoms within rounding of the box's faces, which may fall to either side."""
    rotation = orientation(cell, zone)
    low, high = box
    shift = np.array(n) @ cell @ rotation.T
    here, _ = fill(cell, BASIS, rotation, low, high)
    there, _ = fill(cell, BASIS, rotation, low + shift, high + shift)

    def clear(positions: np.ndarray) -> int:
        margin = np.minimum(positions - low, high - positions).min(axis=1)
        return int((margin > 1e-6).sum())

    assert clear(here) == clear(there - shift)


@settings(max_examples=40, deadline=None)
@given(cells(), axes)
def test_any_zone_axis_gives_a_proper_rotation_onto_the_beam(cell, zone):
    rotation = orientation(cell, zone)
    direction = np.array(zone) @ cell
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert abs(np.linalg.det(rotation) - 1) < 1e-12
    np.testing.assert_allclose(
        rotation @ direction / np.linalg.norm(direction), [0, 0, 1], atol=1e-12
    )


@pytest.mark.parametrize("cutoff", [0.5, 1.2, 9.0])
def test_close_pairs_are_those_of_every_image_made_by_hand(cutoff):
    """Random sites in an oblique cell of 6 to 8 Å: all images within two cells, distance by
    distance; 9 Å is farther than the cell is wide, so that sites meet their own images."""
    cell = np.array([[6.0, 0, 0], [-2.4, 6.6, 0], [-0.7, 1.1, 7.8]])
    position = np.random.default_rng(0).uniform(-5, 15, (60 if cutoff < 2 else 4, 3))
    n = len(position)
    sites = Sites(
        source="made",
        labels=np.array(["X"] * n),
        numbers=np.full(n, 6),
        positions=position,
        occupancies=np.ones(n),
        b_factors=np.full(n, np.nan),
        cell=cell,
    )
    inside = position @ np.linalg.inv(cell) % 1 @ cell
    expected = set()
    for shift in np.ndindex(7, 7, 7):
        apart = inside[:, None] - inside - (np.array(shift) - 3) @ cell
        distance = np.linalg.norm(apart, axis=2)
        for i, j in np.argwhere((distance < cutoff) & (distance > 0)):
            expected.add((min(i, j), max(i, j), round(float(distance[i, j]), 8)))
    mine = set(zip(*(v.tolist() for v in sites.close_pairs(cutoff)), strict=True))
    assert {(i, j, round(d, 8)) for i, j, d in mine} == expected
    assert len(expected) > 0

"""Matching finds with truths: the most pairs first, then the least distance."""

from itertools import permutations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nanophantom.validation.matching import match

RADIUS = 0.3


def best_by_trying_all(distance):
    """Return (pairs, total distance) of the best matching by trying every one."""
    n, m = distance.shape
    if n > m:
        return best_by_trying_all(distance.T)
    best = (0, 0.0)
    # Every injective assignment; pairs beyond the radius simply don't count.
    for choice in permutations(range(m), n):
        each = [distance[i, j] for i, j in enumerate(choice) if distance[i, j] <= RADIUS]
        best = min(best, (-len(each), sum(each)))
    return -best[0], best[1]


def points(most):
    return st.integers(0, most).flatmap(
        lambda n: arrays(np.float64, (n, 2), elements=st.floats(0, 1, width=16))
    )


@settings(max_examples=150, deadline=None)
@given(found=points(5), true=points(6))
def test_agrees_with_trying_every_matching(found, true):
    """Number of pairs and total distance are those of the best of all matchings."""
    matches = match(found, true, RADIUS)
    distance = np.hypot(*(found[:, np.newaxis] - true[np.newaxis]).transpose(2, 0, 1))
    pairs, total = best_by_trying_all(distance) if distance.size else (0, 0.0)
    assert len(matches) == pairs
    np.testing.assert_allclose(matches.distance.sum(), total, atol=1e-12)
    np.testing.assert_allclose(distance[matches.found, matches.true], matches.distance)
    assert len(set(matches.found)) == len(set(matches.true)) == pairs
    assert (matches.distance <= RADIUS).all()


def test_number_of_pairs_goes_before_distance():
    """A chain a-B-c-D: taking the nearest pair (c, B) first would leave two points alone."""
    found = np.array([[0.0, 0.0], [0.25, 0.0]])
    true = np.array([[0.24, 0.0], [0.50, 0.0]])
    matches = match(found, true, 0.26)
    assert dict(zip(matches.found, matches.true, strict=True)) == {0: 0, 1: 1}


def test_points_in_one_place_are_matched():
    """A distance of zero is a pair like any other, and one find takes one of two equal truths."""
    matches = match(np.zeros((1, 2)), np.zeros((2, 2)), 0.1)
    assert (len(matches), matches.distance[0]) == (1, 0.0)


def test_a_pair_at_the_radius_counts_and_one_beyond_does_not():
    """The radius belongs to the disc."""
    assert len(match(np.array([[0.5, 0.0]]), np.zeros((1, 2)), 0.5)) == 1
    assert len(match(np.array([[0.5 + 1e-9, 0.0]]), np.zeros((1, 2)), 0.5)) == 0


def test_nothing_matches_nothing():
    """Empty sets on either side give no pairs."""
    some, none = np.ones((3, 2)), np.zeros((0, 2))
    assert [len(match(a, b, 1.0)) for a, b in ((some, none), (none, some), (none, none))] == [0] * 3


def test_a_whole_image_of_columns_is_matched():
    """10 000 columns displaced by less than half their distance go back to where they came from."""
    true = np.stack(np.meshgrid(np.arange(100.0), np.arange(100.0)), -1).reshape(-1, 2)
    rng = np.random.default_rng(1)
    order = rng.permutation(len(true))
    matches = match((true + rng.uniform(-0.2, 0.2, true.shape))[order], true, 0.5)
    np.testing.assert_array_equal(matches.true, order)

"""DBSCAN: equal to its definition, fast, and silent on points without structure."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import pytest
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from nanophantom.analysis.clustering import (
    NOISE,
    adjusted_rand_index,
    cluster_table,
    core_points_by_chance,
    dbscan,
    min_points_for,
    radius_for,
)

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def by_definition(points: FloatArray, radius: float, min_points: int) -> IntArray:
    """Return clusters from all distances: core, connected, border to the nearest core."""
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    near = distance <= radius
    core = near.sum(axis=1) >= min_points
    part = connected_components(csr_matrix(near & core[:, None] & core[None]))[1]
    to_core = np.where(near & core[None], distance, np.inf)
    found = np.where(np.isfinite(to_core).any(axis=1), part[np.argmin(to_core, axis=1)], NOISE)
    _, first = np.unique(found, return_index=True)
    named = [found[i] for i in np.sort(first) if found[i] != NOISE]
    return np.array([named.index(p) if p != NOISE else NOISE for p in found])


def test_it_is_what_the_definition_says() -> None:
    rng = np.random.default_rng(1)
    clusters = 0
    for k in range(24):
        points = rng.random((200, 2 + k % 2)) * 1000 - 300
        points[:100] = rng.normal(500, 40, (100, points.shape[1]))
        radius, least = rng.uniform(15, 90), int(rng.integers(1, 12))
        labels = dbscan(points, radius, least)
        np.testing.assert_array_equal(labels, by_definition(points, radius, least))
        clusters += labels.max() + 1
    assert clusters > 200


def test_the_order_of_points_changes_only_the_numbers() -> None:
    rng = np.random.default_rng(2)
    points = rng.random((2000, 2)) * 1000
    order = rng.permutation(2000)
    labels, shuffled = dbscan(points, 20, 5), dbscan(points[order], 20, 5)
    assert adjusted_rand_index(labels[order], shuffled) == 1
    np.testing.assert_array_equal(labels[order] == NOISE, shuffled == NOISE)


def test_clouds_are_found_and_measured() -> None:
    """Adjusted Rand index against the truth > 0.98, sizes sqrt(2) s within 3 %."""
    rng = np.random.default_rng(3)
    truth = np.repeat(np.arange(100), 60)
    centres = np.stack(np.divmod(np.arange(100), 10), axis=1) * 300.0
    points = centres[truth] + rng.normal(0, 15, (6000, 2))
    noise = rng.random((600, 2)) * 3000 - 150
    everything = np.concatenate([points, noise])
    labels = dbscan(everything, 20, 8)
    assert labels.max() + 1 == 100
    assert adjusted_rand_index(labels[:6000], truth) > 0.98
    table = cluster_table(everything, labels)
    assert table["count"].mean() == pytest.approx(60, rel=0.02)
    assert table["radius_nm"].mean() == pytest.approx(15 * np.sqrt(2), rel=0.03)
    middle = np.stack([table["x_nm"], table["y_nm"]], axis=1)
    assert np.abs(middle - centres[truth[[np.argmax(labels == k) for k in range(100)]]]).max() < 10


@pytest.mark.parametrize("per_um2", [100.0, 900.0])
def test_randomness_makes_no_clusters(per_um2: float) -> None:
    """At most 5 % of random fields show one with the given setting; well more if loosened."""
    rng = np.random.default_rng(4)
    n, density = 1000, per_um2 * 1e-6
    side = np.sqrt(n / density)
    least = min_points_for(n, density, 30)
    radius = radius_for(n, density, 10)
    assert core_points_by_chance(n, density, radius, 10) == pytest.approx(0.05, rel=1e-6)
    fields = [rng.random((n, 2)) * side for _ in range(200)]
    # 0.05 + 2 standard errors; the same settings loosened are far beyond.
    allowed = 200 * (0.05 + 2 * np.sqrt(0.05 * 0.95 / 200))
    assert sum(dbscan(f, 30, least).max() >= 0 for f in fields) <= allowed
    assert sum(dbscan(f, radius, 10).max() >= 0 for f in fields) <= allowed
    assert sum(dbscan(f, 30, least - 3).max() >= 0 for f in fields) > 3 * allowed


def test_a_hundred_thousand_points_take_less_than_a_second() -> None:
    """Spread or in dense clusters (measured: 0.04 s, 0.01 s)."""
    rng = np.random.default_rng(5)
    spread = rng.random((100_000, 2)) * 30_000
    dense = np.repeat(spread[:200], 500, axis=0) + rng.normal(0, 8, (100_000, 2))
    dbscan(spread[:10], 1.0, 2)
    for points in (spread, dense):
        best = min(_seconds(points) for _ in range(3))
        assert best < 1


def _seconds(points: FloatArray) -> float:
    begin = time.perf_counter()
    dbscan(points, 50, 10)
    return time.perf_counter() - begin


def test_the_rand_index_is_the_published_one() -> None:
    """L. Hubert and P. Arabie, J. Classif. 2 (1985) 193: 0 expected at random, 1 if equal."""
    assert adjusted_rand_index([0, 0, 1, 1], [5, 5, 2, 2]) == 1
    # By hand, pairs together: 1 in both, 2 in a, 1 in b, of 6.
    assert adjusted_rand_index([0, 0, 1, 1], [0, 1, 2, 2]) == pytest.approx(
        (1 - 1 / 3) / (1.5 - 1 / 3)
    )
    rng = np.random.default_rng(6)
    index = [adjusted_rand_index(*rng.integers(0, 4, (2, 200))) for _ in range(200)]
    assert abs(np.mean(index)) < 3 * np.std(index) / np.sqrt(200)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        dbscan(np.zeros(5), 1.0, 2)
    with pytest.raises(ValueError, match="radius_nm"):
        dbscan(np.zeros((5, 2)), 0.0, 2)
    with pytest.raises(ValueError, match="2e6 radii"):
        dbscan(np.array([[0.0, 0], [1e9, 0]]), 1.0, 2)
    with pytest.raises(ValueError, match="min_points 2"):
        radius_for(100, 1e-4, 1)
    assert len(dbscan(np.zeros((0, 2)), 1.0, 2)) == 0

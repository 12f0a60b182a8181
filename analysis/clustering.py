"""Which localizations belong together: DBSCAN, and how to set it so that chance makes no clusters.

A point with `min_points` points (itself included) within a radius is a core point; core points
within a radius of each other are of one cluster; a point near a core point is on that cluster's
border; all others are noise (M. Ester et al., Proc. KDD-96 (1996) 226). Points are kept in cells
whose diagonal is the radius: all points of a cell are neighbours, so a dense cell is settled by
counting it, and two cells are joined by the first pair of core points found (A. Gunawan, thesis,
TU Eindhoven 2013). The cost is n log n in practice, in dense clusters too.

Blinks of one molecule are a cluster too: link them first where clusters of molecules are meant.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Columns = dict[str, npt.NDArray[Any]]

NOISE = -1


def dbscan(positions_nm: npt.ArrayLike, radius_nm: float, min_points: int) -> Ints:
    """Cluster points by their density.

    Parameters
    ----------
    positions_nm : (n, 2) or (n, 3)
        Any order.
    radius_nm : float
        Points no farther apart than this are neighbours ("eps").
    min_points : int
        A core point has so many neighbours, itself included.

    Returns
    -------
    (n,) int
        Number of the cluster of each point, -1 for noise. Clusters are numbered from 0 in the
        order of their first points; a border point belongs to its nearest core point, so the
        result doesn't depend on the order of the points.

    Raises
    ------
    ValueError
        Bad shapes or numbers, or a field wider than two million radii.
    """
    points = _checked_points(positions_nm)
    if not (math.isfinite(radius_nm) and radius_nm > 0) or min_points < 1:
        raise ValueError("radius_nm must be positive and min_points 1 or more")
    n, dimensions = points.shape
    if n == 0:
        return np.zeros(0, np.int64)
    cell = (points - points.min(axis=0)) // (radius_nm / math.sqrt(dimensions))
    if cell.max() > 2e6:
        raise ValueError(
            f"the points spread over more than 2e6 radii of {radius_nm:g} nm: "
            "a larger radius or the right unit (nm) is needed"
        )
    # Cells in the order of their keys; the margin keeps neighbours from wrapping round.
    deep = np.zeros((n, 3), np.int64)
    deep[:, :dimensions] = cell.astype(np.int64)
    side = np.int64(deep.max() + 5)
    if dimensions == 3 and float(side) ** 3 > 2.0**62:
        raise ValueError(f"too many cells of {radius_nm:g} nm in 3-D: a larger radius is needed")
    span = np.array([side**2, side, 1]) if dimensions == 3 else np.array([0, side, 1])
    key = (deep[:, [2, 1, 0]] + 2) @ span
    order = np.argsort(key, kind="stable")
    keys, first = np.unique(key[order], return_index=True)
    starts = np.append(first, n).astype(np.int64)
    spatial = np.zeros((n, 3))
    spatial[:, :dimensions] = points[order]
    jumps = _row_jumps(dimensions, int(side))
    owner = _clusters(spatial, keys, starts, jumps, float(radius_nm) ** 2, min_points)

    labels = np.empty(n, np.int64)
    labels[order] = owner
    inside = labels != NOISE
    roots, first_point, number = np.unique(labels[inside], return_index=True, return_inverse=True)
    rank = np.empty(len(roots), np.int64)
    rank[np.argsort(first_point)] = np.arange(len(roots))
    labels[inside] = rank[number]
    return labels


def cluster_table(positions_nm: npt.ArrayLike, labels: npt.ArrayLike) -> Columns:
    """Return one row a cluster: its number of points, centre and size.

    Parameters
    ----------
    positions_nm : (n, 2) or (n, 3)
    labels : (n,) int
        As :func:`dbscan` gives them.

    Returns
    -------
    dict of columns
        count; x_nm, y_nm[, z_nm], the mean; radius_nm, the root of the mean square distance
        from it.
    """
    points = _checked_points(positions_nm)
    label = np.asarray(labels, np.int64)
    if label.shape != (len(points),):
        raise ValueError(f"labels: one number a point ({len(points)}), got shape {label.shape}")
    inside = label >= 0
    points, label = points[inside], label[inside]
    clusters = int(label.max()) + 1 if len(label) else 0
    count = np.bincount(label, minlength=clusters)
    if np.any(count == 0):
        raise ValueError("labels must be numbered from 0 without gaps")
    centre = [np.bincount(label, axis, clusters) / count for axis in points.T]
    square = ((points - np.stack(centre, axis=1)[label]) ** 2).sum(axis=1)
    columns = dict(zip(("x_nm", "y_nm", "z_nm"), centre, strict=False))
    radius = np.sqrt(np.bincount(label, square, clusters) / count)
    return {"count": count, **columns, "radius_nm": radius}


def core_points_by_chance(
    points: float, density: float, radius_nm: float, min_points: int, dimensions: int = 2
) -> float:
    """Return how many core points complete spatial randomness has on average.

    A point has Poisson many others within the radius: n P(Poisson(density V) >= min_points - 1),
    V = pi r**2 or 4/3 pi r**3. It bounds the chance that there is any cluster at all (Markov);
    the edge of a field only lowers it.

    Parameters
    ----------
    points : float
        Points in the field, n.
    density : float
        Points per nm**2 (per nm**3 in 3-D).
    radius_nm, min_points
        Of :func:`dbscan`.
    dimensions : 2 or 3
    """
    if dimensions not in (2, 3):
        raise ValueError(f"dimensions must be 2 or 3, got {dimensions}")
    if not (points >= 0 and density >= 0 and radius_nm > 0 and min_points >= 1):
        raise ValueError("points, density, radius_nm and min_points must be positive numbers")
    volume = math.pi * radius_nm**2 if dimensions == 2 else 4 / 3 * math.pi * radius_nm**3
    return float(points * stats.poisson.sf(min_points - 2, density * volume))


def min_points_for(
    points: float,
    density: float,
    radius_nm: float,
    false_cluster_rate: float = 0.05,
    dimensions: int = 2,
) -> int:
    """Return the least `min_points` with which chance hardly ever makes a cluster.

    Points without any structure then show one or more clusters in at most a share
    `false_cluster_rate` of fields. See :func:`core_points_by_chance`.
    """
    if not 0 < false_cluster_rate < 1:
        raise ValueError(f"false_cluster_rate must be between 0 and 1, got {false_cluster_rate}")
    needed = 1
    while (
        core_points_by_chance(points, density, radius_nm, needed, dimensions) > false_cluster_rate
    ):
        needed += 1
    return needed


def radius_for(
    points: float,
    density: float,
    min_points: int,
    false_cluster_rate: float = 0.05,
    dimensions: int = 2,
) -> float:
    """Return the largest radius (nm) with which chance hardly ever makes a cluster.

    The other way round of :func:`min_points_for`; `min_points` must be 2 or more.
    """
    if not (points > 0 and density > 0) or min_points < 2 or not 0 < false_cluster_rate < 1:
        raise ValueError("points and density must be positive, min_points 2 or more, rate in (0,1)")

    def excess(log_radius: float) -> float:
        radius = math.exp(log_radius)
        by_chance = core_points_by_chance(points, density, radius, min_points, dimensions)
        return math.log(max(by_chance, 1e-300) / false_cluster_rate)

    spacing = math.log(density) / -dimensions
    if points <= false_cluster_rate:
        raise ValueError("fewer points than the false cluster rate: no radius makes a cluster")
    # From a millionth of the mean spacing to where every point has enough neighbours.
    return math.exp(optimize.brentq(excess, spacing - 14, spacing + math.log(min_points) + 3))


def adjusted_rand_index(labels_a: npt.ArrayLike, labels_b: npt.ArrayLike) -> float:
    """Return how well two clusterings agree: 1 if equal, 0 on average if random.

    L. Hubert and P. Arabie, J. Classif. 2 (1985) 193. Noise (-1) counts as one more group.

    Parameters
    ----------
    labels_a, labels_b : (n,) int
    """
    a, b = np.asarray(labels_a), np.asarray(labels_b)
    if a.ndim != 1 or a.shape != b.shape or len(a) < 2:
        raise ValueError(f"two label arrays of one length (2 or more): {a.shape}, {b.shape}")

    def pairs(counts: Ints) -> float:
        return float((counts.astype(np.float64) * (counts - 1) / 2).sum())

    both = pairs(np.unique(np.stack([a, b]), axis=1, return_counts=True)[1])
    in_a = pairs(np.unique(a, return_counts=True)[1])
    in_b = pairs(np.unique(b, return_counts=True)[1])
    expected = in_a * in_b / pairs(np.array([len(a)]))
    most = (in_a + in_b) / 2
    return 1.0 if most == expected else (both - expected) / (most - expected)


def _checked_points(positions_nm: npt.ArrayLike) -> Floats:
    points = np.ascontiguousarray(positions_nm, np.float64)
    if points.ndim != 2 or points.shape[1] not in (2, 3) or not np.isfinite(points).all():
        raise ValueError(f"positions_nm must be finite, shape (n, 2) or (n, 3): {points.shape}")
    return points


def _row_jumps(dimensions: int, side: int) -> Ints:
    """Return the first and last key offset of each row of cells that can hold a neighbour."""
    # Two cells off along an axis, points can still touch; along the last axis keys are adjacent.
    steps = range(-2, 3)
    rows = [j * side for j in steps]
    if dimensions == 3:
        rows = [k * side**2 + row for k in steps for row in rows]
    return np.array([(row - 2, row + 2) for row in rows], np.int64)


@numba.njit(cache=True, nogil=True)
def _clusters(
    points: Floats, keys: Ints, starts: Ints, jumps: Ints, square: float, min_points: int
) -> Ints:
    """Return a core point's index (the cluster's root) for every point, -1 for noise."""
    n = len(points)
    cells = len(keys)
    # Ranges of cells that hold possible neighbours, one a row: found once by bisection.
    low = np.empty((cells, len(jumps)), np.int64)
    high = np.empty((cells, len(jumps)), np.int64)
    for row in range(len(jumps)):
        a = b = 0
        for c in range(cells):
            while a < cells and keys[a] < keys[c] + jumps[row, 0]:
                a += 1
            while b < cells and keys[b] <= keys[c] + jumps[row, 1]:
                b += 1
            low[c, row], high[c, row] = a, b

    core = np.zeros(n, np.bool_)
    for c in range(cells):
        if starts[c + 1] - starts[c] >= min_points:
            core[starts[c] : starts[c + 1]] = True
            continue
        for i in range(starts[c], starts[c + 1]):
            found = 0
            for row in range(len(jumps)):
                for j in range(starts[low[c, row]], starts[high[c, row]]):
                    if _square(points, i, j) <= square:
                        found += 1
                if found >= min_points:
                    core[i] = True
                    break

    # Core points of one cell are one cluster: cells are joined, not points.
    parent = np.arange(cells)
    for c in range(cells):
        for row in range(len(jumps)):
            for other in range(low[c, row], min(high[c, row], c)):
                a, b = _root(parent, c), _root(parent, other)
                if a != b and _touch(points, core, starts, c, other, square):
                    parent[max(a, b)] = min(a, b)

    owner = np.full(n, -1, np.int64)
    for c in range(cells):
        for i in range(starts[c], starts[c + 1]):
            if core[i]:
                owner[i] = _root(parent, c)
                continue
            nearest = square
            for row in range(len(jumps)):
                for other in range(low[c, row], high[c, row]):
                    for j in range(starts[other], starts[other + 1]):
                        if core[j] and _square(points, i, j) <= nearest:
                            nearest = _square(points, i, j)
                            owner[i] = _root(parent, other)
    return owner


@numba.njit(cache=True, nogil=True, inline="always")
def _square(points: Floats, i: int, j: int) -> float:
    x = points[i, 0] - points[j, 0]
    y = points[i, 1] - points[j, 1]
    z = points[i, 2] - points[j, 2]
    return float(x * x + y * y + z * z)


@numba.njit(cache=True, nogil=True)
def _root(parent: Ints, c: int) -> int:
    while parent[c] != c:
        parent[c] = parent[parent[c]]
        c = parent[c]
    return c


@numba.njit(cache=True, nogil=True)
def _touch(points: Floats, core: Bools, starts: Ints, c: int, other: int, square: float) -> bool:
    for i in range(starts[c], starts[c + 1]):
        if core[i]:
            for j in range(starts[other], starts[other + 1]):
                if core[j] and _square(points, i, j) <= square:
                    return True
    return False

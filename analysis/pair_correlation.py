"""How points are spread: pair correlation g(r), Ripley's K, nearest neighbours, the Thomas process.

A point within r of the edge lacks neighbours outside the field. The number of ordered pairs a
distance r apart that a field of points without structure shows is known, though: density**2 times
the overlap of the window with itself shifted by r, averaged over directions. For a rectangle
a x b with r up to its shorter side that is a b - 2 r (a + b)/pi + r**2/pi. Counted pairs over
expected pairs is g without a bias from edges (the rigid-motion correction: J. Illian et al.,
Statistical Analysis and Modelling of Spatial Point Patterns (2008), section 4.3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize
from scipy.spatial import cKDTree

from nanophantom.simcore.atoms import Window

Floats = npt.NDArray[np.float64]

NM2_PER_UM2 = 1e6
TILES = 6
"""The field is cut in so many tiles along x and y to estimate errors."""


@dataclass(frozen=True, eq=False)
class PairCorrelation:
    """Pair correlation of points in a window.

    Attributes
    ----------
    edges_nm : (k + 1,)
        Distances between which pairs were counted.
    g : (k,)
        Pair correlation, the mean over each ring between two edges: 1 without structure.
    g_error : (k,)
        Its standard error, from the tiles of the field: for clustered points too, at distances
        well below the side of a tile; too large beyond.
    ripley_k_nm2 : (k + 1,)
        Ripley's K at the edges: mean number of others within r of a point, over the density.
    besag_l_nm : (k + 1,)
        L = sqrt(K/pi), which is r without structure.
    points : int
    density_per_um2 : float
    tile_g : (TILES**2, k)
        g with one tile left out each.
    """

    edges_nm: Floats
    g: Floats
    g_error: Floats
    ripley_k_nm2: Floats
    besag_l_nm: Floats
    points: int
    density_per_um2: float
    tile_g: Floats

    @property
    def r_nm(self) -> Floats:
        """Middles of the rings, (k,)."""
        return (self.edges_nm[1:] + self.edges_nm[:-1]) / 2


@dataclass(frozen=True)
class ThomasFit:
    """A Thomas process: parents at random, members in a Gaussian cloud around each.

    The same for molecules at random that blink: parents are the molecules, members their
    localizations, the s.d. is the precision. `*_error` are standard errors.
    """

    parents_per_um2: float
    parents_error_per_um2: float
    sd_nm: float
    sd_error_nm: float
    members_per_parent: float


def pair_correlation(
    x_nm: npt.ArrayLike, y_nm: npt.ArrayLike, window: Window, edges_nm: npt.ArrayLike
) -> PairCorrelation:
    """Measure g(r) and K(r) of points in a rectangle, corrected for its edges.

    Parameters
    ----------
    x_nm, y_nm : (n,)
        All in the window.
    window : Window
        The rectangle that was searched for points, which is more than their bounding box.
    edges_nm : (k + 1,)
        Rising, from 0, up to the shorter side of the window at most.

    Raises
    ------
    ValueError
        Points outside the window, fewer than 2 of them, or edges that don't rise from 0.
    """
    points = _checked_points(x_nm, y_nm, window)
    edges = np.asarray(edges_nm, np.float64)
    shorter = min(window.width_nm, window.height_nm)
    if edges.ndim != 1 or len(edges) < 2 or edges[0] != 0 or np.any(np.diff(edges) <= 0):
        raise ValueError("edges_nm must rise from 0")
    if edges[-1] > shorter:
        raise ValueError(f"edges_nm go to {edges[-1]:g}, beyond the window's side {shorter:g} nm")
    n = len(points)
    if n < 2:
        raise ValueError(f"2 points or more are needed, got {n}")

    everyone = cKDTree(points)
    tile = _tile_of(points, window)
    counted = np.zeros((TILES**2, len(edges)))
    members = np.bincount(tile, minlength=TILES**2)
    for t in np.nonzero(members)[0]:
        mine = points[tile == t]
        # Less each point with itself.
        counted[t] = cKDTree(mine).count_neighbors(everyone, edges) - len(mine)
    found = np.diff(counted, axis=1)
    found[:, 0] += counted[:, 0]
    expected = n * (n - 1) * np.diff(_random_pairs(edges, window))
    g = found.sum(axis=0) / expected
    # Jackknife (J. M. Loh, Astrophys. J. 681 (2008) 726): centres and density without one tile.
    used = members > 0
    left = 1 - members[used, None] / n
    tile_g = (found.sum(axis=0) - found[used]) / (expected * left**2 / (1 - 1 / TILES**2))
    return _result(edges, g, tile_g, n, window)


def thomas_pair_correlation(
    edges_nm: npt.ArrayLike, parents_per_um2: float, sd_nm: float, clumping: float = 1.0
) -> Floats:
    """Return the mean of g(r) of a Thomas process over each ring.

    g = 1 + clumping exp(-r**2/(4 s**2)) / (4 pi s**2 parents).

    Parameters
    ----------
    edges_nm : (k + 1,)
    parents_per_um2, sd_nm : float
        Density of the parents, s.d. of their clouds along x and along y.
    clumping : float
        <m (m - 1)> / <m>**2 of the number m of members a parent has: 1 if it is Poisson,
        2 (1 - p) if it is geometric from 1 on with mean 1/p (blinks of a molecule).
    """
    edges = np.asarray(edges_nm, np.float64)
    if not (parents_per_um2 > 0 and sd_nm > 0):
        raise ValueError("parents_per_um2 and sd_nm must be positive")
    inside = -np.expm1(-(edges**2) / (4 * sd_nm**2))
    within = clumping * np.diff(inside) / (parents_per_um2 / NM2_PER_UM2)
    return np.asarray(1 + within / (math.pi * np.diff(edges**2)))


def thomas_k(r_nm: npt.ArrayLike, parents_per_um2: float, sd_nm: float) -> Floats:
    """Return Ripley's K (nm**2) of a Thomas process: pi r**2 + (1 - exp(-r**2/4s**2))/parents."""
    r = np.asarray(r_nm, np.float64)
    if not (parents_per_um2 > 0 and sd_nm > 0):
        raise ValueError("parents_per_um2 and sd_nm must be positive")
    within = -np.expm1(-(r**2) / (4 * sd_nm**2)) / (parents_per_um2 / NM2_PER_UM2)
    return np.asarray(math.pi * r**2 + within)


def fit_thomas(pairs: PairCorrelation, clumping: float = 1.0) -> ThomasFit:
    """Fit a Thomas process to a pair correlation.

    Parameters
    ----------
    pairs : PairCorrelation
        Rings should be narrower than the clouds, and reach out to four s.d. or more.
    clumping : float
        See :func:`thomas_pair_correlation`.

    Raises
    ------
    ValueError
        The points aren't clustered: g nowhere exceeds 1.
    """
    edges = pairs.edges_nm
    expected = pairs.points * (pairs.density_per_um2 / NM2_PER_UM2) * math.pi * np.diff(edges**2)
    excess = float(((pairs.g - 1) * np.diff(edges**2)).sum())
    if excess <= 0 or clumping <= 0:
        raise ValueError("no cluster is seen: the pair correlation doesn't exceed 1")
    # Half of the excess pairs lie within r = 2 s sqrt(ln 2).
    grown = np.cumsum((pairs.g - 1) * np.diff(edges**2))
    half = pairs.edges_nm[1:][np.argmax(grown >= 0.5 * grown.max())]
    start = np.log([clumping * NM2_PER_UM2 / (math.pi * excess), half / 1.6651])

    def model(v: Floats) -> Floats:
        return thomas_pair_correlation(edges, float(np.exp(v[0])), float(np.exp(v[1])), clumping)

    def closest(g: Floats, v: Floats, expected_g: Floats) -> Floats:
        """Return ln(parents), ln(s); the variance of a ring is that of a Poisson count of pairs."""
        weight = np.sqrt(expected / np.maximum(expected_g, 1))
        return np.asarray(optimize.least_squares(lambda v: weight * (model(v) - g), v).x)

    def fit(g: Floats, v: Floats) -> Floats:
        v = closest(g, v, g)
        return closest(g, v, model(v))

    best = fit(pairs.g, start)
    left_out = np.array([fit(g, best) for g in pairs.tile_g])
    error = _jackknife_error(left_out)
    parents, sd = (float(v) for v in np.exp(best))
    return ThomasFit(
        parents,
        parents * float(error[0]),
        sd,
        sd * float(error[1]),
        pairs.density_per_um2 / parents,
    )


def mean_nearest_neighbour_nm(
    x_nm: npt.ArrayLike, y_nm: npt.ArrayLike, window: Window
) -> tuple[float, float]:
    """Return the mean distance to the nearest other point, and what randomness would give.

    A point counts if its nearest neighbour is nearer than the edge of the window, with one over
    the area in which such a distance can be told as its weight: no bias from edges (K.-H.
    Hanisch, Statistics 15 (1984) 409). Without structure the mean is 1/(2 sqrt(density)).
    """
    points = _checked_points(x_nm, y_nm, window)
    if len(points) < 2:
        raise ValueError(f"2 points or more are needed, got {len(points)}")
    distance = cKDTree(points).query(points, k=2)[0][:, 1]
    x, y = points.T
    to_edge = np.minimum.reduce(
        [x - window.x0_nm, window.x1_nm - x, y - window.y0_nm, window.y1_nm - y]
    )
    told = distance[distance < to_edge]
    if len(told) == 0:
        raise ValueError("every point is nearer to the edge than to another: too few points")
    weight = 1 / ((window.width_nm - 2 * told) * (window.height_nm - 2 * told))
    density = len(points) / (window.width_nm * window.height_nm)
    return float((weight * told).sum() / weight.sum()), 0.5 / math.sqrt(density)


def _checked_points(x_nm: npt.ArrayLike, y_nm: npt.ArrayLike, window: Window) -> Floats:
    x, y = np.asarray(x_nm, np.float64), np.asarray(y_nm, np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"x_nm and y_nm must be columns of one length: {x.shape}, {y.shape}")
    if not (math.isfinite(window.width_nm) and math.isfinite(window.height_nm)):
        raise ValueError("the window must have borders")
    inside = (x >= window.x0_nm) & (x <= window.x1_nm) & (y >= window.y0_nm) & (y <= window.y1_nm)
    if not inside.all():
        raise ValueError(f"{int((~inside).sum())} points lie outside the window: cut them off")
    return np.stack([x, y], axis=1)


def _random_pairs(r: Floats, window: Window) -> Floats:
    """Return the chance that two random points of the window are within r of each other."""
    a, b = window.width_nm, window.height_nm
    # The integral of 2 pi r (a b - 2 r (a + b)/pi + r**2/pi) over (a b)**2.
    pairs = math.pi * a * b * r**2 - 4 / 3 * (a + b) * r**3 + r**4 / 2
    return np.asarray(pairs / (a * b) ** 2)


def _tile_of(points: Floats, window: Window) -> npt.NDArray[np.int64]:
    size = np.array([window.width_nm, window.height_nm]) / TILES
    at = ((points - [window.x0_nm, window.y0_nm]) / size).astype(np.int64)
    column, row = np.minimum(at, TILES - 1).T
    return np.asarray(TILES * row + column)


def _result(
    edges: Floats, g: Floats, tile_g: Floats, points: int, window: Window
) -> PairCorrelation:
    k = np.append(0.0, np.cumsum(g * math.pi * np.diff(edges**2)))
    density = points / (window.width_nm * window.height_nm) * NM2_PER_UM2
    error = _jackknife_error(tile_g)
    return PairCorrelation(edges, g, error, k, np.sqrt(k / math.pi), points, density, tile_g)


def _jackknife_error(left_out: Floats) -> Floats:
    """Return the standard error from estimates with one tile left out each, (tiles, k)."""
    n = len(left_out)
    return np.asarray(np.sqrt((n - 1) * left_out.var(axis=0)))

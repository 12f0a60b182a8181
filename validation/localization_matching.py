"""Matching of localizations with true emitters, frame by frame, for a million of either.

A find may belong to an emitter of its own frame that is no farther away than a radius, laterally,
and another one along z if heights were told: 250 nm and 500 nm in the challenge of D. Sage et al.
(Nat. Methods 16 (2019) 387). Of these near pairs two kinds of one-to-one matchings are made: the
greedy one (the nearest pair first, then the nearest of those left), as the challenge does, and the
optimal one (as many pairs as can be, at the least sum of distances).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from nanophantom.validation.matching import Matches

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

RADIUS_NM = 250.0
"""Largest lateral distance of a find from its emitter."""
AXIAL_RADIUS_NM = 500.0
"""Largest difference of their heights."""

Method = Literal["greedy", "optimal"]


@dataclass(frozen=True, eq=False)
class Places:
    """Where something is, in which frame; columns (n,), lengths in nm."""

    frame: Ints
    x_nm: Floats
    y_nm: Floats
    z_nm: Floats | None = None

    def __len__(self) -> int:
        return len(self.frame)

    def of(self, which: Bools | Ints) -> Places:
        """Return some of them."""
        z = None if self.z_nm is None else self.z_nm[which]
        return Places(self.frame[which], self.x_nm[which], self.y_nm[which], z)


def match_frames(
    found: Places,
    true: Places,
    radius_nm: float = RADIUS_NM,
    axial_radius_nm: float = AXIAL_RADIUS_NM,
    method: Method = "greedy",
) -> Matches:
    """Match finds with emitters, one to one and frame by frame.

    Parameters
    ----------
    found, true
        Heights count if both have them.
    radius_nm, axial_radius_nm
        Pairs at exactly these distances count.
    method
        "greedy" or "optimal", see above.

    Returns
    -------
    Matches
        Indices into both and the lateral distances in nm, ordered by ``found``.
    """
    pairs = near_pairs(found, true, radius_nm, axial_radius_nm)
    if method == "greedy":
        return greedy(pairs, len(found), len(true))
    return optimal(pairs, len(found), len(true))


def near_pairs(
    found: Places,
    true: Places,
    radius_nm: float = RADIUS_NM,
    axial_radius_nm: float = AXIAL_RADIUS_NM,
) -> Matches:
    """Return all pairs of one frame that are near each other; one find may be in several.

    Both are sorted by frame and x, as one number, so that the emitters which may be near a find
    stand in one stretch of the table.
    """
    if not (len(found) and len(true)):
        return Matches(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    left = float(true.x_nm.min()) - radius_nm
    width = float(true.x_nm.max()) + radius_nm - left
    here = np.flatnonzero((found.x_nm >= left) & (found.x_nm <= left + width))
    step = 2 * width + 4 * radius_nm + 1.0  # from a frame to the next one
    order = np.argsort(true.frame * step + (true.x_nm - left), kind="stable")
    key = true.frame[order] * step + (true.x_nm[order] - left)
    at = found.frame[here] * step + (found.x_nm[here] - left)
    reach = radius_nm * (1 + 1e-6) + 0.01  # rounded a little by the large numbers
    first = np.searchsorted(key, at - reach, side="left")
    many = np.searchsorted(key, at + reach, side="right") - first
    i = np.repeat(here, many)
    j = order[np.arange(len(i)) - np.repeat(np.cumsum(many) - many - first, many)]
    distance = np.hypot(found.x_nm[i] - true.x_nm[j], found.y_nm[i] - true.y_nm[j])
    near = (distance <= radius_nm) & (found.frame[i] == true.frame[j])
    if found.z_nm is not None and true.z_nm is not None:
        near &= np.abs(found.z_nm[i] - true.z_nm[j]) <= axial_radius_nm
    return Matches(i[near], j[near], distance[near])


def greedy(pairs: Matches, n_found: int, n_true: int) -> Matches:
    """Take the nearest pair, leave out all others of its partners, and so on.

    All pairs that are the nearest one of both partners are taken at once: none of them can be in
    the way of another.
    """
    order = np.argsort(pairs.distance, kind="stable")
    i, j = pairs.found[order], pairs.true[order]
    taken: list[Ints] = []
    best_i, best_j = np.empty(n_found, np.int64), np.empty(n_true, np.int64)
    free_i, free_j = np.ones(n_found, bool), np.ones(n_true, bool)
    while len(i):
        ranks = np.arange(len(i))
        best_i[i[::-1]], best_j[j[::-1]] = ranks[::-1], ranks[::-1]  # the last one written stays
        both = (best_i[i] == ranks) & (best_j[j] == ranks)
        taken.append(order[both])
        free_i[i[both]] = free_j[j[both]] = False
        left = free_i[i] & free_j[j]
        i, j, order = i[left], j[left], order[left]
    return _ordered(pairs, np.concatenate(taken) if taken else np.zeros(0, np.int64))


def optimal(pairs: Matches, n_found: int, n_true: int) -> Matches:
    """Return the matching with the most pairs, and of these that with the least sum of distances.

    Groups of finds and emitters that are connected by near pairs are independent: most of them are
    one find and one emitter, or several around one; only the others are assignment problems.
    """
    if not len(pairs):
        return pairs
    edges = csr_array(
        (np.ones(len(pairs), np.int8), (pairs.found, pairs.true + n_found)),
        shape=(n_found + n_true,) * 2,
    )
    group = connected_components(edges, directed=False)[1][pairs.found]
    order = np.lexsort((pairs.distance, group))
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    i, j = pairs.found[order], pairs.true[order]
    star = _constant(i, starts) | _constant(j, starts)
    taken = [order[starts[star]]]  # of those around one, the nearest
    ends = np.append(starts[1:], len(order))
    for start, end in zip(starts[~star], ends[~star], strict=True):
        rows = order[start:end]
        mine_i, a = np.unique(pairs.found[rows], return_inverse=True)
        mine_j, b = np.unique(pairs.true[rows], return_inverse=True)
        cost = np.zeros((len(mine_i), len(mine_j)))
        which = np.full(cost.shape, -1, np.int64)
        distance = pairs.distance[rows]
        # a pair more is worth any distance
        cost[a, b] = distance - (min(cost.shape) + 1) * (distance.max() + 1.0)
        which[a, b] = rows
        chosen = which[linear_sum_assignment(cost)]
        taken.append(chosen[chosen >= 0])
    return _ordered(pairs, np.concatenate(taken))


def nearest_neighbour_nm(places: Places, up_to_nm: float) -> Floats:
    """Return the lateral distance of each to the nearest other of its frame, infinite if far."""
    pairs = near_pairs(_flat(places), _flat(places), up_to_nm)
    other = pairs.found != pairs.true
    nearest = np.full(len(places), np.inf)
    np.minimum.at(nearest, pairs.found[other], pairs.distance[other])
    return nearest


def density_per_um2(at: Places, of: Places, radius_nm: float, themselves: bool) -> Floats:
    """Return how many there are per square micrometre around places, up to a radius.

    `themselves` says that the places are among those counted, and not to be counted.
    """
    pairs = near_pairs(_flat(at), _flat(of), radius_nm)
    n = np.bincount(pairs.found, minlength=len(at)) - int(themselves)
    return np.asarray(n / (np.pi * (radius_nm / 1000.0) ** 2), np.float64)


def _flat(places: Places) -> Places:
    return Places(places.frame, places.x_nm, places.y_nm)


def _constant(values: Ints, starts: Ints) -> Bools:
    """Say which stretches of an array hold one value only."""
    low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    return np.asarray(low == high)


def _ordered(pairs: Matches, rows: Ints) -> Matches:
    rows = rows[np.argsort(pairs.found[rows], kind="stable")]
    return Matches(pairs.found[rows], pairs.true[rows], pairs.distance[rows])

"""One-to-one matching of what was found with what is there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, diags_array, hstack
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial import cKDTree

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Matches:
    """Pairs of a matching: ``found[k]`` belongs to ``true[k]``, at ``distance[k]``."""

    found: Ints
    true: Ints
    distance: Floats

    def __len__(self) -> int:
        return len(self.found)


def match(found: Floats, true: Floats, radius: float) -> Matches:
    """Match two sets of points one to one, no pair farther apart than a radius.

    Of all such matchings this is one with the most pairs, and among those one with the least
    sum of distances: an assignment problem on the graph of near pairs, where every found point
    may also stay alone at a price that no saving in distance can outweigh.

    Parameters
    ----------
    found, true
        Positions, shape (n, 2) and (m, 2), in one unit of length.
    radius
        The largest distance of a pair, in that unit; pairs at exactly the radius count.

    Returns
    -------
    Matches
        Indices into both sets and the distances, ordered by ``found``.
    """
    if not (len(found) and len(true)):
        return Matches(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    near = cKDTree(found).sparse_distance_matrix(cKDTree(true), radius, output_type="ndarray")
    # The solver reads a weight of zero as "no edge": every weight is raised by one radius,
    # which changes no choice, since each found point takes exactly one edge.
    pairs = csr_array((near["v"] + radius, (near["i"], near["j"])), shape=(len(found), len(true)))
    alone = (min(len(found), len(true)) + 2.0) * radius
    graph = hstack([pairs, diags_array(np.full(len(found), alone + radius))], format="csr")
    i, j = min_weight_full_bipartite_matching(graph)
    paired = j < len(true)
    i, j = i[paired].astype(np.int64), j[paired].astype(np.int64)
    offset = np.asarray(found, np.float64)[i] - np.asarray(true, np.float64)[j]
    return Matches(i, j, np.hypot(offset[:, 0], offset[:, 1]))

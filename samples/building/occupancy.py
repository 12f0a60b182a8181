"""Partly occupied sites: refused, or drawn once so that alternatives exclude each other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from nanophantom.samples.building.sites import Sites

ALTERNATIVES_A = 0.8  # closer sites can't hold an atom each: they are alternatives
RIDING_A = 1.2  # a hydrogen this close to a site of its own occupancy is drawn with it


def draw_occupancies(
    sites: Sites, rule: str, supercell: tuple[int, int, int], rng: np.random.Generator | None
) -> tuple[npt.NDArray[np.bool_], tuple[str, ...]]:
    """Say which sites hold an atom, and tell what was drawn in a sentence."""
    occupancy = sites.occupancies
    partial = occupancy < 1
    if not partial.any():
        return ~partial, ()
    shares = dict(zip(sites.labels[partial].tolist(), occupancy[partial].tolist(), strict=True))
    if rule != "draw":
        told = ", ".join(f"{label} {share:g}" for label, share in shares.items())
        raise ValueError(
            f"occupancy: {sites.source} has partly occupied sites ({told}); write 'draw' to draw "
            "them by seed, or set them to 0 or 1 in occupancies"
        )
    if rng is None:
        raise ValueError("occupancy: 'draw' needs a random generator; give rng")

    i, j, distance = sites.close_pairs(RIDING_A)
    light = sites.numbers == 1
    # A hydrogen beside a heavier site is bound to it; it is no alternative to it.
    bound = light[i] ^ light[j]
    same = np.abs(occupancy[i] - occupancy[j]) < 0.01
    rides = bound & same & partial[i] & partial[j]
    rider, host = np.where(light[i], i, j)[rides], np.where(light[i], j, i)[rides]
    nearest_last = np.argsort(-distance[rides], kind="stable")
    host_of = np.arange(len(occupancy))
    host_of[rider[nearest_last]] = host[nearest_last]

    free = host_of == np.arange(len(occupancy))
    rivals = (distance < ALTERNATIVES_A) & ~bound & (i != j) & free[i] & free[j]
    n = len(occupancy)
    graph = coo_matrix((np.ones(rivals.sum(), np.int8), (i[rivals], j[rivals])), shape=(n, n))
    _, place = connected_components(graph, directed=False)
    by_place = np.flatnonzero(free)[np.argsort(place[free], kind="stable")]
    present = ~partial
    for members in np.split(by_place, np.flatnonzero(np.diff(place[by_place])) + 1):
        if not partial[members].any():
            continue
        total = occupancy[members].sum()
        if total > 1.01:
            told = " and ".join(dict.fromkeys(sites.labels[members].tolist()))
            raise ValueError(
                f"occupancies: sites {told} of {sites.source} share one place but their "
                f"occupancies add up to {total:.3g}; set them here to add up to 1 at most"
            )
        edges = np.cumsum(occupancy[members])
        if total > 0.99 and len(members) > 1:
            edges /= total  # 0.33 + 0.33 + 0.33 means that one of them is always there
            edges[-1] = 1.0
        taken = np.searchsorted(edges, rng.random(), side="right")
        present[members] = np.arange(len(members)) == taken
    present = present[host_of]

    told = ", ".join(
        f"{label} {(present & (sites.labels == label)).sum()} of "
        f"{(sites.labels == label).sum()} (occupancy {share:g})"
        for label, share in shares.items()
    )
    size = "×".join(map(str, supercell))
    where = f"Partly occupied sites of {sites.source} were drawn in a block of {size} cells"
    return present, (f"{where}: {told}.",)

"""Which atoms scatter together: slices of a specimen along the beam."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

SLICE_THICKNESS_A = 2.0


class Slice(NamedTuple):
    """Atoms that scatter together, and the plane where they do."""

    z_A: float
    atoms: npt.NDArray[np.int64]


def slice_atoms(
    z_A: npt.ArrayLike,
    thickness_A: float = SLICE_THICKNESS_A,
    weights: npt.ArrayLike | None = None,
) -> list[Slice]:
    """Sort atoms into slices along the beam.

    Atoms are first parted wherever a gap of a quarter of `thickness_A` or more separates them:
    atomic planes stay whole. A group that extends over more than `thickness_A` (amorphous or
    tilted matter) is divided into equal slabs of at most that thickness; neighbouring groups are
    joined while, counted from mid-gap to mid-gap, they don't exceed it. Each slice acts at the
    mean depth of its atoms, so that first-order errors of slicing cancel.

    At the default of 2 Å the part of a wave that makes images (k < 1.2 1/Å, 300 kV) differs from
    the limit of thin slices by 1.1 % (80 Å of gold [001] with thermal displacements), 0.8 % (gold
    [110]), 0.3 % (SrTiO3 [001]) and 1.4 % (amorphous carbon); at 4 Å by 4.7, 6.2, 3.1 and 2.9 %.

    Parameters
    ----------
    z_A : (n,) float
        Depths, Å.
    thickness_A : float
        Largest thickness of a slice, Å.
    weights : (n,) float, optional
        Weights of the atoms in the mean depth, for instance atomic numbers.

    Returns
    -------
    list of Slice
        In the order the beam meets them, no empty ones.

    Raises
    ------
    ValueError
        If `thickness_A` is not positive or a depth is not finite.
    """
    if not thickness_A > 0:
        raise ValueError(f"thickness_A is {thickness_A}; it is positive")
    z = np.asarray(z_A, np.float64)
    if not np.isfinite(z).all():
        raise ValueError("a depth is not finite")
    if z.size == 0:
        return []
    weight = np.ones(z.size) if weights is None else np.asarray(weights, np.float64)
    order = np.argsort(z, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(z[order]) >= 0.25 * thickness_A) + 1)
    joined = _join(
        [part for group in groups for part in _divide(z, group, thickness_A)], z, thickness_A
    )
    return [Slice(float(np.average(z[atoms], weights=weight[atoms])), atoms) for atoms in joined]


def _divide(
    z: npt.NDArray[np.float64], group: npt.NDArray[np.int64], thickness_A: float
) -> list[npt.NDArray[np.int64]]:
    """Divide a group, sorted by depth, into equal slabs of at most the given thickness."""
    depth = z[group] - z[group[0]]
    n_slabs = max(1, int(np.ceil(depth[-1] / thickness_A)))
    slab = np.minimum(depth * n_slabs // max(depth[-1], 1e-9), n_slabs - 1)
    return np.split(group, np.flatnonzero(np.diff(slab)) + 1)


def _join(
    groups: list[npt.NDArray[np.int64]], z: npt.NDArray[np.float64], thickness_A: float
) -> list[npt.NDArray[np.int64]]:
    """Join neighbours while the slab from mid-gap to mid-gap stays within the thickness."""
    first = np.array([z[g[0]] for g in groups])
    last = np.array([z[g[-1]] for g in groups])
    middle = 0.5 * (last[:-1] + first[1:])
    top = np.concatenate([first[:1], middle])
    bottom = np.concatenate([middle, last[-1:]])
    slices, start = [], 0
    for i in range(1, len(groups) + 1):
        if i == len(groups) or bottom[i] - top[start] > thickness_A * (1 + 1e-9):
            slices.append(np.concatenate(groups[start:i]))
            start = i
    return slices

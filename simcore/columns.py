"""Atomic columns: the atoms of a specimen grouped as they stack up along the beam."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from nanophantom.simcore.atoms import Atoms, Floats, Ints
from nanophantom.simcore.fields import Table, read_only

LINK_NM = 0.04
"""Atoms of one element this close in projection belong to one column."""
MERGE_NM = 0.03
"""A column of a lighter element this close to a heavier one's axis is part of it."""
RASTER_NM = 0.001
"""Atoms in one square of this size are linked without further ado."""


def find_truth_columns(atoms: Atoms, link_nm: float = LINK_NM, merge_nm: float = MERGE_NM) -> Table:
    """Group atoms into columns along z, heaviest elements first.

    Atoms of one element are joined by single linkage in projection. Then, from the heaviest
    element to the lightest, a group whose axis lies within ``merge_nm`` of a column that is
    already there becomes part of the nearest such column; otherwise it is a column of its own.
    Light atoms between heavy columns can thus never chain them together.

    Parameters
    ----------
    atoms
        Atoms at rest, positions in nm.
    link_nm
        Linkage distance within one element; it is kept to within 3 pm, since atoms are first
        gathered on a 1 pm raster.
    merge_nm
        Distance between axes at which a lighter group joins a heavier column.

    Returns
    -------
    Table
        One row a column, heaviest elements first: ``x_nm, y_nm`` (the column's axis: the mean of
        its heaviest element's atoms), ``n_atoms``, ``number`` (atomic number of the heaviest
        element), ``weight`` (sum of the atomic numbers), ``extent_nm`` (rms distance of all its
        atoms from its axis), ``b_factor_A2`` (mean B = 8 pi^2 <u^2> of its heaviest element's
        atoms, which says how far finite thermal averaging moves it) and ``group`` (that of most
        of its atoms; of a tie, the first).
    """
    xy = np.ascontiguousarray(atoms.positions_nm[:, :2])
    column = np.zeros(len(atoms), dtype=np.int64)
    axes = np.empty((0, 2))
    heaviest = np.empty(0, dtype=np.int64)
    for number in np.unique(atoms.numbers)[::-1]:
        mine = np.flatnonzero(atoms.numbers == number)
        cluster = _linked(xy[mine], link_nm)
        size = np.bincount(cluster)
        centre = np.stack([np.bincount(cluster, xy[mine, k]) / size for k in (0, 1)], axis=1)
        host = _nearest(axes, centre, merge_nm)
        own = host < 0
        host[own] = len(axes) + np.arange(own.sum())
        column[mine] = host[cluster]
        axes = np.concatenate([axes, centre[own]])
        heaviest = np.concatenate([heaviest, np.full(own.sum(), number)])

    n = len(axes)
    n_atoms = np.bincount(column, minlength=n)
    spread = np.bincount(column, ((xy - axes[column]) ** 2).sum(axis=1), minlength=n)
    heavy = atoms.numbers == heaviest[column]
    b_sum = np.bincount(column[heavy], atoms.b_factors_A2[heavy], minlength=n)
    votes = np.zeros((n, len(atoms.group_names)), dtype=np.int64)
    np.add.at(votes, (column, atoms.groups), 1)
    table = {
        "x_nm": axes[:, 0],
        "y_nm": axes[:, 1],
        "n_atoms": n_atoms,
        "number": heaviest,
        "weight": np.bincount(column, atoms.numbers, minlength=n).astype(np.int64),
        "extent_nm": np.sqrt(spread / np.maximum(n_atoms, 1)),
        "b_factor_A2": b_sum / np.bincount(column[heavy], minlength=n),
        "group": votes.argmax(axis=1),
    }
    return {name: read_only(values) for name, values in table.items()}


def _linked(xy: Floats, link_nm: float) -> Ints:
    """Return the number of the single-linkage cluster of each point, shape (n,)."""
    # In a crystal along a zone axis whole columns fall on one point; linking one
    # representative of each raster square keeps the pairs few.
    i, j = np.floor((xy - xy.min(axis=0)) / RASTER_NM).astype(np.int64).T
    _, first, square = np.unique(i * (j.max() + 1) + j, return_index=True, return_inverse=True)
    pairs = cKDTree(xy[first]).query_pairs(link_nm, output_type="ndarray")
    n = len(first)
    edges = coo_matrix((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, label = connected_components(edges, directed=False)
    return np.asarray(label[square], dtype=np.int64)


def _nearest(axes: Floats, centre: Floats, within_nm: float) -> npt.NDArray[np.int64]:
    """Return the index of the axis nearest to each centre, or -1 where none is within reach."""
    if len(axes) == 0:
        return np.full(len(centre), -1, dtype=np.int64)
    _, index = cKDTree(axes).query(centre, distance_upper_bound=within_nm)
    return np.where(index == len(axes), -1, index).astype(np.int64)

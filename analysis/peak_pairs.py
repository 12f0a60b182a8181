"""Strain from the positions of atomic columns, at every column.

Columns that a lattice vector joins are of one sublattice, so the pairs of neighbours make a graph
whose connected parts are the sublattices. Around each column an affine lattice is fitted to the
columns of its neighbourhood: two lattice vectors in common and an origin for each sublattice, so
that a shift of one sublattice against another (a polar displacement, say) isn't taken for strain.
All is done with differences to near neighbours: no column has an index of its own, and missing
columns, grain edges and dislocations are nothing special. After P. L. Galindo et al.,
Ultramicroscopy 107 (2007) 1186, with a weighted fit in place of single pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from nanophantom.analysis.lattice import (
    Strain,
    checked_positions,
    checked_vectors,
    find_lattice,
    strain_of,
)

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
BoolArray = npt.NDArray[np.bool_]

OFF_LATTICE = 0.25
"""A neighbour farther than this part of the smallest spacing from a node isn't on it."""
OUTLIER = 5.0
"""A column that lies off its neighbours' lattice by so many of the usual deviations is wrong."""
LEAST_MEMBERS = 4
"""A column with fewer columns of its own sublattice in its neighbourhood is on none."""
FITS = 7


@dataclass(frozen=True, eq=False)
class ColumnStrain:
    """Strain at columns, (n,) each in the order given; x to the right, y down.

    A column at x of the reference crystal lies at x' = x + u. A positive rotation turns +x
    towards +y. Where `valid` is false, too few neighbours are left to tell (the strain is not a
    number) or the column itself is off its neighbours' lattice (the strain is theirs).

    Attributes
    ----------
    exx, eyy, exy, rotation_rad
        Components of du/dx, see :func:`nanophantom.analysis.lattice.strain_of`.
    sigma_exx, sigma_eyy, sigma_exy
        Their standard uncertainties; that of the rotation is sigma_exy. Neighbouring columns
        share neighbours: their errors are correlated.
    valid : bool
        Whether the strain at a column is that of the lattice it is on.
    sublattice : int
        Which connected part of the lattice graph a column belongs to, the largest being 0.
    misfit
        Mean square of what the local fit leaves, over what sigma leads to expect (1 if all is
        well; more where strain varies within the neighbourhood).
    lattice : (n, 2, 2)
        Rows a, b: the lattice vectors at each column.
    reference : (2, 2)
        Rows a, b: those that count as unstrained.
    """

    exx: FloatArray
    eyy: FloatArray
    exy: FloatArray
    rotation_rad: FloatArray
    sigma_exx: FloatArray
    sigma_eyy: FloatArray
    sigma_exy: FloatArray
    valid: BoolArray
    sublattice: IntArray
    misfit: FloatArray
    lattice: FloatArray
    reference: FloatArray


def peak_pairs(
    positions: npt.ArrayLike,
    sigma: npt.ArrayLike | None = None,
    lattice: npt.ArrayLike | None = None,
    reference: npt.ArrayLike | None = None,
    kind: npt.ArrayLike | None = None,
    reach: int = 1,
) -> ColumnStrain:
    """Measure the strain at every column from the columns around it.

    Parameters
    ----------
    positions : (n, 2)
        (x, y) of the columns in any unit of length.
    sigma : number or (n,), optional
        Standard deviation of a position along x and along y. Measured from what the fits
        leave if not given.
    lattice : (2, 2), optional
        Rows a, b (x, y), right to a tenth: which vectors count as the lattice's. By default
        `reference` if it is one, else what :func:`nanophantom.analysis.lattice.find_lattice`
        finds.
    reference : (2, 2) of float or (n,) of bool, optional
        The unstrained lattice vectors, or the columns whose mean lattice is unstrained. The
        median over all columns if not given.
    kind : (n,) of int, optional
        What a column is: sublattices hold columns of one kind.
    reach : int
        The neighbourhood is so many cells to either side along a and b.

    Raises
    ------
    ValueError
        Positions, vectors or uncertainties are of the wrong shape or not finite, the columns
        don't lie on a lattice, or none of the reference columns has a lattice around it.
    """
    points = checked_positions(positions)
    kinds = np.zeros(len(points), int) if kind is None else np.asarray(kind)
    if kinds.shape != (len(points),) or reach < 1:
        raise ValueError("kind must hold one number a column, and reach be 1 or more")
    given = None if reference is None else np.asarray(reference)
    if given is not None and given.shape != (2, 2) and given.shape != (len(points),):
        raise ValueError(f"reference must be two rows (x, y) or a mask of columns: {given.shape}")
    if lattice is not None:
        start = checked_vectors(lattice, "lattice")
    elif given is not None and given.shape == (2, 2):
        start = checked_vectors(given, "reference")
    else:
        start = find_lattice(points, kinds if kind is not None else None)
    weight = _weights(sigma, len(points))
    usual = 0.0 if sigma is None else 2 * np.log(2)

    local = np.broadcast_to(start, (len(points), 2, 2))
    sublattice = np.zeros(len(points), np.intp)
    for _ in range(2):
        # First with the mean lattice in the nearest cells, then with the local one.
        sublattice = _sublattices(points, local, kinds)
        fit = _fit(points, weight, _neighbours(points, local, sublattice, 1), usual)
        known = np.isfinite(fit.lattice[:, 0, 0])
        if not np.any(known):
            raise ValueError("no column has a lattice around it: give better lattice vectors")
        local = _filled(points, fit.lattice, known)
    fit = _fit(points, weight, _neighbours(points, local, sublattice, reach), usual)
    known = np.isfinite(fit.lattice[:, 0, 0])
    scale = 1.0 if sigma is not None else fit.typical_misfit

    base = _reference(given, fit, known & ~fit.outlier)
    # Rows of the lattice: L = A F^T, so F = (A**-1 L)^T with the covariance of A**-1 n.
    inverse = np.linalg.inv(base)
    deformation = np.swapaxes(inverse @ fit.lattice, -1, -2)
    covariance = scale * inverse @ fit.covariance @ inverse.T
    xx, yy = covariance[:, 0, 0], covariance[:, 1, 1]
    strain: Strain = strain_of(deformation)
    return ColumnStrain(
        *strain,
        np.sqrt(xx),
        np.sqrt(yy),
        0.5 * np.sqrt(xx + yy),
        known & ~fit.outlier,
        sublattice,
        fit.misfit / scale,
        fit.lattice,
        base,
    )


class _Pairs(NamedTuple):
    """Columns j in the neighbourhood of columns i, on node `node` from the origin of `group`."""

    i: IntArray
    j: IntArray
    node: FloatArray
    group: IntArray


class _Fit(NamedTuple):
    lattice: FloatArray
    covariance: FloatArray
    misfit: FloatArray
    typical_misfit: float
    outlier: BoolArray


def _weights(sigma: npt.ArrayLike | None, n: int) -> FloatArray:
    """Return 1/sigma**2 of the columns, equal ones if nothing is known."""
    if sigma is None:
        return np.ones(n)
    deviation = np.broadcast_to(np.asarray(sigma, np.float64), (n,))
    if not np.all(np.isfinite(deviation) & (deviation > 0)):
        raise ValueError("sigma must be finite and positive for every column")
    return np.asarray(deviation**-2.0)


def _near(points: FloatArray, reach_length: float) -> tuple[IntArray, IntArray]:
    """Return all pairs i, j (both ways, and i, i) that are no farther apart than a length."""
    pairs = KDTree(points).query_pairs(reach_length, output_type="ndarray")
    own = np.arange(len(points))
    return (
        np.concatenate([pairs[:, 0], pairs[:, 1], own]),
        np.concatenate([pairs[:, 1], pairs[:, 0], own]),
    )


def _tolerance(points: FloatArray) -> float:
    """Return how far from its node a column may lie."""
    return OFF_LATTICE * float(np.median(KDTree(points).query(points, k=2)[0][:, 1]))


def _in_cells(step: FloatArray, lattice: FloatArray) -> FloatArray:
    """Return vectors (m, 2) in units of the lattice (m, 2, 2) at each."""
    return np.asarray(np.einsum("mi,mij->mj", step, np.linalg.inv(lattice)))


def _sublattices(points: FloatArray, local: FloatArray, kinds: npt.NDArray[np.int_]) -> IntArray:
    """Return the part of the graph each column is in; a, b, a + b and a - b join columns."""
    i, j = _near(points, 2.2 * float(np.max(np.hypot(local[..., 0], local[..., 1]))))
    step = points[j] - points[i]
    node = np.rint(_in_cells(step, local[i]))
    off = step - np.einsum("mi,mij->mj", node, local[i])
    joined = (np.max(np.abs(node), axis=1) <= 1) & (np.hypot(*off.T) < _tolerance(points))
    joined &= kinds[i] == kinds[j]
    i, j = i[joined], j[joined]
    graph = coo_matrix((np.ones(len(i)), (i, j)), shape=(len(points), len(points)))
    label = connected_components(graph, directed=False)[1]
    size = np.bincount(label)
    rank = np.empty(len(size), np.intp)
    rank[np.argsort(-size, kind="stable")] = np.arange(len(size))
    return np.asarray(rank[label])


def _neighbours(points: FloatArray, local: FloatArray, sublattice: IntArray, reach: int) -> _Pairs:
    """Return the columns in each neighbourhood, by sublattice, with their nodes."""
    corner = np.abs(local[:, 0]) + np.abs(local[:, 1])
    i, j = _near(points, (reach + 0.25) * float(np.max(np.hypot(*corner.T))))
    step = points[j] - points[i]
    inside = np.max(np.abs(_in_cells(step, local[i])), axis=1) <= reach + 0.25
    i, j, step = i[inside], j[inside], step[inside]

    # The column of each sublattice that is nearest to i is its origin in this neighbourhood.
    order = np.lexsort((np.hypot(*step.T), sublattice[j], i))
    i, j = i[order], j[order]
    first = np.r_[True, (np.diff(i) != 0) | (np.diff(sublattice[j]) != 0)]
    group = np.cumsum(first) - 1
    origin = j[np.flatnonzero(first)][group]
    from_origin = points[j] - points[origin]
    node = np.rint(_in_cells(from_origin, local[i]))
    off = from_origin - np.einsum("mi,mij->mj", node, local[i])
    on = np.hypot(*off.T) < _tolerance(points) * np.maximum(1, np.max(np.abs(node), axis=1))
    return _Pairs(i[on], j[on], node[on], group[on])


def _fit(points: FloatArray, weight: FloatArray, pairs: _Pairs, least_usual: float) -> _Fit:
    """Fit the lattice around every column by weighted least squares, outliers left out.

    With the means of each sublattice's nodes and positions taken away (its free origin), the
    lattice is L = (sum w n n^T)**-1 sum w n x^T, the covariance of each of its columns the
    inverse alone.
    """
    i, j, group, n = pairs.i, pairs.j, pairs.group, len(points)
    groups = int(group[-1]) + 1 if len(group) else 0
    first = np.unique(group, return_index=True)[1]
    owner, members = i[first], np.bincount(group, minlength=groups)
    lonely = np.bincount(i, (i == j) * (members[group] < LEAST_MEMBERS), n) > 0
    rounding = (1e-6 * _tolerance(points)) ** 2
    trust: FloatArray = np.ones(n)
    for step_number in range(FITS):
        w = weight[j] * trust[j]
        in_group = np.maximum(np.bincount(group, w, groups), 1e-300)

        def centred(v: FloatArray, w: FloatArray, in_group: FloatArray) -> FloatArray:
            sums = np.stack([np.bincount(group, w * c, groups) for c in v.T], axis=1)
            return np.asarray(v - (sums / in_group[:, None])[group])

        node = centred(pairs.node, w, in_group)
        step = centred(points[j] - points[i], w, in_group)
        nn, nx = (
            np.stack([[np.bincount(i, w * a * b, n) for b in v.T] for a in node.T]).transpose(
                2, 0, 1
            )
            for v in (node, step)
        )
        used = np.bincount(i, w > 0, n)
        origins = np.bincount(owner, np.bincount(group, w, groups) > 0, n)
        free = 2 * (used - origins - 2)
        # Two independent directions, and two columns more than a fit without any freedom.
        scatter = np.linalg.det(nn) / np.maximum(np.trace(nn, axis1=1, axis2=2), 1e-150) ** 2
        known = (scatter > 0.02) & (free >= 2)
        lattice = np.full((n, 2, 2), np.nan)
        covariance = np.full((n, 2, 2), np.nan)
        covariance[known] = np.linalg.inv(nn[known])
        lattice[known] = covariance[known] @ nx[known]

        rest = step - np.einsum("mi,mij->mj", node, lattice[i])
        square = np.sum(rest**2, axis=1)
        chi = np.bincount(i, np.nan_to_num(w * square), n)
        misfit = np.where(known, chi / np.maximum(free, 1), np.nan)
        # A column's own part of a fit makes it lie nearer; one that had none lies farther off.
        own = 1 / in_group[group] + np.einsum("mi,mij,mj->m", node, covariance[i], node)
        spread = np.maximum(1 + (1 - 2 * trust[j]) * weight[j] * own, 0.05) / weight[j]
        deviation = _deviations((square + rounding) / spread, i, j, known, n, least_usual)
        # Trust fades until a wrong column no longer bends its neighbours' fits; then it's all
        # or nothing.
        if step_number < FITS - 2:
            trust = np.asarray(1 / (1 + (deviation / 3) ** 2) ** 2)
        else:
            trust = np.asarray(deviation <= OUTLIER, np.float64)
    kept = known & (misfit < 4 * np.nanmedian(misfit)) if np.any(known) else known
    typical = float(np.sum(chi[kept]) / max(np.sum(free[kept]), 1))
    return _Fit(lattice, covariance, misfit, typical, (trust == 0) | lonely)


def _deviations(
    square: FloatArray, i: IntArray, j: IntArray, known: BoolArray, n: int, least_usual: float
) -> FloatArray:
    """Return how far columns lie off the lattice of most of their neighbours.

    In units of the usual deviation in a neighbourhood, or in the whole image, or of one that is
    known, whichever is most.
    """
    square = np.where(known[i], square, np.nan)
    usual = _median_by(square, i, n)
    floor = max(float(np.nanmedian(usual)), least_usual) if np.any(known) else np.nan
    ratio = _median_by(square / np.maximum(usual, floor)[i], j, n)
    # The median of the sum of two squared components is 2 ln 2 of their variance.
    return np.asarray(np.sqrt(2 * np.log(2) * np.nan_to_num(ratio)))


def _median_by(values: FloatArray, label: IntArray, n: int) -> FloatArray:
    """Return the median of the finite values of each label; not a number where there is none."""
    finite = np.isfinite(values)
    values, label = values[finite], label[finite]
    order = np.lexsort((values, label))
    values, label = values[order], label[order]
    start = np.searchsorted(label, np.arange(n))
    count = np.searchsorted(label, np.arange(n), side="right") - start
    result = np.full(n, np.nan)
    some = count > 0
    low, high = start[some] + (count[some] - 1) // 2, start[some] + count[some] // 2
    result[some] = 0.5 * (values[low] + values[high])
    return result


def _filled(points: FloatArray, lattice: FloatArray, known: BoolArray) -> FloatArray:
    """Give columns without a lattice that of the nearest column with one."""
    nearest = KDTree(points[known]).query(points)[1]
    return np.asarray(lattice[known][nearest])


def _reference(given: npt.NDArray[np.generic] | None, fit: _Fit, good: BoolArray) -> FloatArray:
    """Return the vectors that count as unstrained."""
    if given is not None and given.shape == (2, 2):
        return checked_vectors(given, "reference")
    if given is None:
        return np.asarray(np.median(fit.lattice[good], axis=0))
    chosen = good & given.astype(bool)
    if not np.any(chosen):
        raise ValueError("none of the reference columns has a lattice around it")
    share = 1 / np.trace(fit.covariance[chosen], axis1=1, axis2=2)
    return np.asarray(np.einsum("n,nij->ij", share / np.sum(share), fit.lattice[chosen]))

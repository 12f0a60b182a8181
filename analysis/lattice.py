"""Two-dimensional lattices: their vectors found among positions, and the strain between two.

Coordinates are (x, y) with x to the right and y down, lattice vectors are rows (x, y). A point x
of the reference crystal lies at x' = x + u(x) in the strained one. With F = 1 + du/dx the strain
is the symmetric part of F - 1 and the rotation half of the antisymmetric: a positive rotation
turns +x towards +y, clockwise as an image is looked at. Both are exact for distortions of any size
as long as the rotation is small; a rotation by w adds -w**2/2 to exx and eyy.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

FloatArray = npt.NDArray[np.float64]

LATTICE_SHARE = 0.8
"""A lattice vector leads from so many of the columns to another, relative to the best vector."""
NEIGHBOURS = 40
"""Vectors to so many neighbours are tried as lattice vectors: ten sites a cell may have."""


class Strain(NamedTuple):
    """Strain and rotation (rad), each of the shape of the field it belongs to."""

    exx: FloatArray
    eyy: FloatArray
    exy: FloatArray
    rotation_rad: FloatArray


def strain_of(deformation: FloatArray) -> Strain:
    """Return strain and rotation from F = 1 + du/dx, (..., 2, 2) with F[i, j] = dx'_i/dx_j."""
    xx, xy = deformation[..., 0, 0] - 1, deformation[..., 0, 1]
    yx, yy = deformation[..., 1, 0], deformation[..., 1, 1] - 1
    return Strain(xx, yy, 0.5 * (xy + yx), 0.5 * (yx - xy))


def find_lattice(positions: npt.ArrayLike, kind: npt.ArrayLike | None = None) -> FloatArray:
    """Find the lattice that columns lie on, several to a cell if need be.

    The vectors between neighbours are counted. One that leads from nearly every column to
    another is a lattice vector; one between two sites of the cell leads from one of the sites
    only. The two shortest span the lattice.

    Parameters
    ----------
    positions : (n, 2)
        (x, y) of the columns in any unit of length. Some may be missing or wrong.
    kind : (n,) of int, optional
        What a column is; a lattice vector joins columns of a kind. Without it columns that look
        different but lie on the nodes of a finer lattice are taken for equal.

    Returns
    -------
    (2, 2)
        Rows a, b: a as near to +x as can be, b from there towards +y.

    Raises
    ------
    ValueError
        There are fewer than nine columns, or they don't repeat in two directions.
    """
    points = checked_positions(positions)
    kinds = np.zeros(len(points), int) if kind is None else np.asarray(kind)
    if kinds.shape != (len(points),):
        raise ValueError(f"kind must hold one number a column: ({len(points)},), not {kinds.shape}")
    count = min(NEIGHBOURS + 1, len(points))
    distance, near = KDTree(points).query(points, k=count)
    tolerance = 0.25 * float(np.median(distance[:, 1]))
    step = (points[near[:, 1:]] - points[:, None, :])[kinds[near[:, 1:]] == kinds[:, None]]
    if not len(step):
        raise ValueError("no two columns are of a kind: there is no lattice to find")

    extent = np.maximum(np.ptp(points, axis=0), tolerance)
    candidates, counts = _clusters(step, tolerance)
    # Columns at the edge have no partner outside of the image.
    possible = len(points) * np.prod(np.maximum(1 - np.abs(candidates) / extent, 0.05), axis=1)
    share = counts / possible
    vectors = candidates[share >= LATTICE_SHARE * np.max(share)]
    vectors = vectors[np.argsort(np.hypot(*vectors.T))]
    across = np.abs(cross(vectors[0], vectors)) > 0.25 * np.hypot(*vectors[0]) * np.hypot(
        *vectors.T
    )
    if not np.any(across):
        raise ValueError("the columns don't repeat in two directions: give the lattice vectors")
    return _oriented(vectors[0], vectors[np.argmax(across)])


def cross(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return a_x b_y - a_y b_x for vectors (..., 2)."""
    return np.asarray(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0])


def checked_positions(positions: npt.ArrayLike) -> FloatArray:
    """Return positions (n, 2), or say what is wrong with them."""
    points = np.asarray(positions, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 9:
        raise ValueError(f"positions are (n, 2) with nine columns or more, got {points.shape}")
    if not np.all(np.isfinite(points)):
        raise ValueError("positions must be finite: they hold NaN or infinite values")
    return points


def checked_vectors(vectors: npt.ArrayLike, what: str) -> FloatArray:
    """Return two vectors that span the plane as rows, or say what is wrong with them."""
    rows = np.asarray(vectors, np.float64)
    if rows.shape != (2, 2) or not np.all(np.isfinite(rows)):
        raise ValueError(f"{what} must be two finite rows (x, y), got {rows.tolist()}")
    if abs(cross(rows[0], rows[1])) < 0.05 * np.hypot(*rows[0]) * np.hypot(*rows[1]):
        raise ValueError(f"{what} must not be collinear, got {rows.tolist()}")
    return rows


def _clusters(step: FloatArray, tolerance: float) -> tuple[FloatArray, FloatArray]:
    """Return the centres (m, 2) of dense places among vectors, and how many vectors each holds."""
    tree = KDTree(step)
    crowd = tree.query_ball_point(step, tolerance, return_length=True)
    free = np.ones(len(step), bool)
    centres, counts = [], []
    for i in np.argsort(-crowd, kind="stable"):
        if not free[i] or crowd[i] < 0.1 * np.max(crowd):
            continue
        members = tree.query_ball_point(step[i], tolerance)
        centre = np.median(step[members], axis=0)
        members = tree.query_ball_point(centre, tolerance)
        free[tree.query_ball_point(centre, 2 * tolerance)] = False
        centres.append(np.mean(step[members], axis=0))
        counts.append(len(members))
    return np.array(centres), np.array(counts, np.float64)


def _oriented(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return the same two vectors, the first along +x, the second clockwise of it."""
    if abs(a[0]) * np.hypot(*b) < abs(b[0]) * np.hypot(*a):
        a, b = b, a
    a = a if a[0] > 0 else -a
    return np.stack([a, b if cross(a, b) > 0 else -b])

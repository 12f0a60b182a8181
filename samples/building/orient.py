"""Crystals turned to a zone axis, and the atoms of an endless lattice inside a box.

Vectors are in the specimen's frame (x to the right, y down, z along the beam; right-handed)
or in the crystal's own Cartesian frame (that of the rows of its cell); a rotation takes the
latter to the former: ``position = rotation @ crystal_position``.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from nanophantom.simcore.atoms import Floats, Ints

DECIMALS = 9
"""Lattice positions and the edges of boxes are rounded to this many digits of a nm, so that a
plane of atoms on an edge is inside or outside as a whole, whatever the last bits say."""
MOST_ATOMS = 30_000_000
"""A box that holds more is refused; their positions alone would fill gigabytes."""
_CHUNK = 2_000_000  # atoms made at a time while a box is filled


def orientation(
    cell_nm: Floats,
    zone_axis: tuple[int, int, int],
    x_axis: tuple[int, int, int] | None = None,
    tilt_mrad: tuple[float, float] = (0.0, 0.0),
) -> Floats:
    """Return the rotation that lays a crystal along the beam.

    Parameters
    ----------
    cell_nm
        Cell vectors a, b, c as rows, shape (3, 3); any cell.
    zone_axis
        Indices [uvw] of the direction u a + v b + w c that will point along +z, with the beam
        (an observer at the source looks along [uvw]).
    x_axis
        Indices [uvw] of the direction whose part across the beam will point along +x. By
        default the shortest lattice vector at right angles to the zone axis; where there is
        none, the first of a, b, c that isn't along it.
    tilt_mrad
        Small tilts away from the axis: right-handed rotations about x, then about y, exact.

    Returns
    -------
    ndarray
        Rotation matrix, shape (3, 3), determinant +1.

    Raises
    ------
    ValueError
        An axis is [000], or both axes are parallel.
    """
    z = _direction(cell_nm, zone_axis, "zone_axis")
    along_x = x_axis if x_axis is not None else default_x_axis(cell_nm, zone_axis)
    x = _direction(cell_nm, along_x, "x_axis")
    x = x - (x @ z) * z
    if np.linalg.norm(x) < 1e-6:
        raise ValueError(
            f"x_axis: {list(along_x)} is parallel to zone_axis {list(zone_axis)}; "
            "give a direction with a part across the beam"
        )
    x = x / np.linalg.norm(x)
    return np.asarray(tilt(tilt_mrad) @ np.stack([x, np.cross(z, x), z]))


def tilt(tilt_mrad: tuple[float, float]) -> Floats:
    """Return the rotation by small angles about x, then about y, in mrad."""
    ax, ay = np.asarray(tilt_mrad) * 1e-3
    about_x = np.array([[1, 0, 0], [0, np.cos(ax), -np.sin(ax)], [0, np.sin(ax), np.cos(ax)]])
    about_y = np.array([[np.cos(ay), 0, np.sin(ay)], [0, 1, 0], [-np.sin(ay), 0, np.cos(ay)]])
    return np.asarray(about_y @ about_x)


def default_x_axis(cell_nm: Floats, zone_axis: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the lattice direction that lies along +x when nobody says otherwise.

    The shortest lattice vector (indices up to 4) at right angles to the zone axis, of equally
    short ones that with the largest indices, first index first; where none is at right angles,
    as in a triclinic cell, the first of a, b, c that isn't along the zone axis.
    """
    z = _direction(cell_nm, zone_axis, "zone_axis")
    uvw = np.array([n for n in product(range(4, -5, -1), repeat=3) if any(n)])
    vectors = uvw @ cell_nm
    length = np.linalg.norm(vectors, axis=1)
    across = np.flatnonzero(np.abs(vectors @ z) < 1e-6 * length)
    if len(across):
        # rounded, so that equal lengths are equal; argmin takes the first
        chosen = across[np.round(length[across], DECIMALS).argmin()]
        return (int(uvw[chosen, 0]), int(uvw[chosen, 1]), int(uvw[chosen, 2]))
    units: list[tuple[int, int, int]] = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    return next(n for n in units if abs(_direction(cell_nm, n, "x_axis") @ z) < 1 - 1e-9)


def _direction(cell_nm: Floats, uvw: tuple[int, int, int], name: str) -> Floats:
    if not any(uvw):
        raise ValueError(f"{name}: [0, 0, 0] is no direction; give three integers, not all zero")
    vector = np.asarray(uvw, dtype=np.float64) @ cell_nm
    return np.asarray(vector / np.linalg.norm(vector))


def fill(
    cell_nm: Floats,
    basis_nm: Floats,
    transform: Floats,
    lower_nm: npt.ArrayLike,
    upper_nm: npt.ArrayLike,
    origin_nm: npt.ArrayLike = (0.0, 0.0, 0.0),
    depth: str = "thickness_nm",
) -> tuple[Floats, Ints]:
    """Return every atom of an endless lattice inside a box, each once.

    Only lattice translations whose cells touch the box are looked at. An atom's position
    doesn't depend on the box it is asked for, so neighbouring boxes share nothing and miss
    nothing.

    Parameters
    ----------
    cell_nm
        Cell vectors as rows, shape (3, 3).
    basis_nm
        Cartesian positions of the cell's atoms in the crystal's frame, shape (n, 3).
    transform
        Matrix from the crystal's to the specimen's frame, shape (3, 3): a rotation, or a
        rotation followed by a homogeneous strain.
    lower_nm, upper_nm
        Corners of the box, rounded to 1e-9 nm; the lower faces belong to it, the upper don't.
    origin_nm
        Where the lattice's origin lies in the specimen.
    depth
        Name of the setting that makes the box deep, for the error's message.

    Returns
    -------
    positions_nm : ndarray
        Shape (m, 3), rounded to 1e-9 nm.
    site : ndarray
        Index into the basis of each atom, shape (m,).

    Raises
    ------
    ValueError
        The box would hold more than 30 million atoms, by its volume.
    """
    lower, upper = (np.round(np.asarray(c, np.float64), DECIMALS) for c in (lower_nm, upper_nm))
    if len(basis_nm) == 0 or (upper <= lower).any():
        return np.empty((0, 3)), np.empty(0, np.int64)
    lattice = cell_nm @ transform.T
    size = upper - lower
    expected = len(basis_nm) * float(np.prod(size) / abs(np.linalg.det(lattice)))
    if expected > MOST_ATOMS:
        raise ValueError(
            f"{depth}: {size[2]:g} nm under a view of {size[0]:g} x {size[1]:g} nm would hold "
            f"{expected:,.0f} atoms, more than {MOST_ATOMS:,}; lower {depth}, or the field of "
            "view (number of pixels or pixel size)"
        )
    basis = basis_nm @ transform.T + np.asarray(origin_nm, np.float64)
    # A cell touches the box if its translation lies in the box grown by the basis.
    low, high = lower - basis.max(axis=0) - 1e-6, upper - basis.min(axis=0) + 1e-6
    n = _translations(lattice, low, high)

    positions, sites = [], []
    step = max(1, _CHUNK // len(basis))
    for start in range(0, len(n), step):
        part = n[start : start + step].astype(np.float64)
        # Written out, for the same bits whatever the number of rows.
        shift = part[:, :1] * lattice[0] + part[:, 1:2] * lattice[1] + part[:, 2:] * lattice[2]
        # + 0.0 turns -0.0 into 0.0
        atoms = np.round(shift[:, None, :] + basis[None, :, :], DECIMALS) + 0.0
        inside = ((atoms >= lower) & (atoms < upper)).all(axis=2)
        positions.append(atoms[inside])
        sites.append(np.nonzero(inside)[1])
    if not positions:
        return np.empty((0, 3)), np.empty(0, np.int64)
    return np.concatenate(positions), np.concatenate(sites).astype(np.int64)


def centrings(cell_nm: Floats, basis_nm: Floats, kinds: npt.NDArray[Any]) -> Floats:
    """Return the translations inside a cell that leave a crystal as it is.

    Parameters
    ----------
    cell_nm
        Cell vectors as rows, shape (3, 3).
    basis_nm
        Cartesian positions of the cell's atoms, shape (n, 3).
    kinds
        What must be equal in atoms that are alike, one row each, shape (n, m).

    Returns
    -------
    ndarray
        Translations, shape (k, 3), the first one zero; four of them in a face-centred cell.
    """
    share = np.mod(basis_nm @ np.linalg.inv(cell_nm), 1.0)
    share[share > 1 - 1e-12] = 0.0
    _, kind, count = np.unique(np.round(kinds, 9), axis=0, return_inverse=True, return_counts=True)
    kind = kind.ravel()
    rarest = np.flatnonzero(kind == count.argmin())
    tree = cKDTree(share, boxsize=1.0)
    found = []
    for shift in share[rarest] - share[rarest[0]]:
        moved = np.mod(share + shift, 1.0)
        moved[moved > 1 - 1e-12] = 0.0
        distance, partner = tree.query(moved)
        if (distance < 1e-5).all() and (kind[partner] == kind).all():
            found.append(shift)
    return np.asarray(np.array(found) @ cell_nm)


def across_the_beam(lattice_nm: Floats, centrings_nm: Floats, most: int = 8) -> Floats | None:
    """Return the shortest two-dimensional cell of a lattice at right angles to the beam.

    Parameters
    ----------
    lattice_nm
        Lattice vectors as rows in the specimen's frame, shape (3, 3).
    centrings_nm
        Translations inside a cell, in the same frame, zero among them, shape (k, 3).
    most
        Largest index of a lattice vector that is tried.

    Returns
    -------
    ndarray or None
        Vectors a1, a2 as rows (x, y), shape (2, 2), of the smallest area: a1 the shortest along
        +x if there is one, else the shortest of all; a2 as near to a right angle to it as the
        lattice allows, with a positive determinant. None if there are no two such vectors.
    """
    n = np.array(list(product(range(-most, most + 1), repeat=3)))
    vectors = (centrings_nm[:, None] + n @ lattice_nm).reshape(-1, 3)
    length = np.linalg.norm(vectors, axis=1)
    flat = (np.abs(vectors[:, 2]) < 1e-7) & (length > 1e-6)
    # shortest first; of equally long ones those along +x, then those nearest to it
    plane = vectors[flat, :2]
    angle = np.round(np.abs(np.arctan2(plane[:, 1], plane[:, 0])), 6)
    plane = plane[np.lexsort([angle, np.round(length[flat], 6)])]
    if len(plane) == 0:
        return None
    size = np.hypot(*plane.T)
    area = np.abs(plane[0, 0] * plane[:, 1] - plane[0, 1] * plane[:, 0])
    aside = np.flatnonzero(area > 1e-6 * size[0] * size)
    if len(aside) == 0:
        return None
    smallest = size[0] * size[aside[0]]
    along_x = (plane[:, 0] > 0) & (np.abs(plane[:, 1]) < 1e-7)
    first = plane[along_x.argmax() if along_x.any() else 0]
    turned = first[0] * plane[:, 1] - first[1] * plane[:, 0]
    least = turned[turned > 1e-6 * smallest].min()
    # of all second vectors of the smallest area the shortest is nearest to a right angle
    second = plane[(np.abs(turned - least) < 1e-6 * smallest).argmax()]
    return np.round(np.stack([first, second]), 12) + 0.0


def _translations(lattice: Floats, low: Floats, high: Floats) -> Ints:
    """Return the integers n, shape (m, 3), of the lattice points n @ lattice in a closed box.

    A few points just outside may be among them. For each pair of the first two integers the
    box allows an interval of the third, so nothing larger than the answer is ever built.
    """
    corners = np.array(list(product(*zip(low, high, strict=True))))
    reach = corners @ np.linalg.inv(lattice)
    first, last = np.floor(reach.min(axis=0)).astype(int), np.ceil(reach.max(axis=0)).astype(int)
    order = np.argsort(last - first, kind="stable")  # the longest range becomes the interval
    i, j, k = (int(axis) for axis in order)
    ni, nj = (
        grid.ravel()
        for grid in np.meshgrid(
            np.arange(first[i], last[i] + 1), np.arange(first[j], last[j] + 1), indexing="ij"
        )
    )
    base = ni[:, None] * lattice[i] + nj[:, None] * lattice[j]
    lower, upper = np.full(len(ni), float(first[k])), np.full(len(ni), float(last[k]))
    for c in range(3):
        slope = lattice[k, c]
        if abs(slope) < 1e-12:
            upper[(base[:, c] < low[c]) | (base[:, c] > high[c])] = -np.inf
            continue
        ends = np.sort([(low[c] - base[:, c]) / slope, (high[c] - base[:, c]) / slope], axis=0)
        lower, upper = np.maximum(lower, ends[0]), np.minimum(upper, ends[1])
    hit = upper >= lower
    start, stop = np.ceil(lower[hit] - 1e-9), np.floor(upper[hit] + 1e-9)
    count = np.maximum(stop - start + 1, 0).astype(np.int64)
    n = np.empty((int(count.sum()), 3), dtype=np.int64)
    n[:, i], n[:, j] = np.repeat(ni[hit], count), np.repeat(nj[hit], count)
    n[:, k] = np.repeat(start.astype(np.int64) - (np.cumsum(count) - count), count) + np.arange(
        len(n)
    )
    return n

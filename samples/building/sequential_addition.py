"""Random sequential addition in endless space: units fall at random and stay where there is room.

Units (atoms, or rigid molecules turned at random) arrive one after another at random places; one
that comes too close to an earlier one is discarded (B. Widom, J. Chem. Phys. 44 (1966) 3888). Here
every arrival, its place, orientation and time, is a function of a key and of the cell of space that
it falls into. Whether it stays depends on earlier arrivals close by, whether those stayed on still
earlier ones, and so on; the chain is short. So the matter in a place is the same whatever part of
space is looked at, and all of space is alike: no borders, no seams, no period.

A region is computed with a margin. Near the margin's outer faces it is unknown whether a unit
stays, since what arrived beyond isn't looked at; this is carried along in a third state beside
"stayed" and "discarded". If it reaches the region asked for, the margin grows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from nanophantom.samples.building.places import CELL_NM, arrivals
from nanophantom.simcore.atoms import Floats, Ints

_FIRST_MARGIN = 4.0  # times the reach of a unit
_BLOCK_NM = 20.0  # a larger box is made in parts, to bound the memory
_INSTANTS = (
    256  # that arrivals are told apart by; of those at one instant the first cell's is first
)
_DISCARDED, _STAYS, _UNKNOWN = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Packing:
    """What is added: units, the distances that they keep, and how many have to arrive.

    Attributes
    ----------
    species
        Species of the atoms of each kind of unit, shape (kinds, atoms), -1 where there is none.
    offsets_nm
        Their places about the unit's centre, shape (kinds, atoms, 3).
    closest_nm
        Smallest distance between atoms of different units by species, shape (species, species).
    progress
        Densities in units of the usual one, rising from 0, shape (knots,).
    arrivals_per_nm3
        How many units of each kind have arrived when this density is reached, shape
        (kinds, knots); arrivals are spread evenly between the knots.
    """

    species: Ints
    offsets_nm: Floats
    closest_nm: Floats
    progress: Floats
    arrivals_per_nm3: Floats

    @property
    def radius_nm(self) -> float:
        """Distance of a unit's outermost atom from its centre."""
        return float(np.linalg.norm(self.offsets_nm, axis=2).max())

    @property
    def reach_nm(self) -> float:
        """Distance between two centres beyond which units can't be in each other's way."""
        return float(self.closest_nm.max()) + 2 * self.radius_nm


def add_sequentially(
    packing: Packing,
    density: float,
    lower_nm: npt.ArrayLike,
    upper_nm: npt.ArrayLike,
    key: int,
) -> tuple[Floats, Ints, Ints]:
    """Return the atoms of all units whose centres lie in a box, the lower faces included.

    Parameters
    ----------
    packing
        What is added.
    density
        Where the addition ends, in units of the usual density.
    lower_nm, upper_nm
        Corners of the box (x, y, z).
    key
        Chooses one of 2^64 realizations of the whole of space.

    Returns
    -------
    positions_nm : ndarray
        Shape (n, 3); the atoms of one unit follow one another.
    species : ndarray
        Shape (n,).
    unit : ndarray
        Number of the unit that each atom belongs to, shape (n,).

    Raises
    ------
    ValueError
        The density is beyond what the packing tells of.
    """
    if not 0 < density <= packing.progress[-1]:
        raise ValueError(
            f"density must lie between 0 and {packing.progress[-1]:g} of the usual one, "
            f"got {density:g}"
        )
    lower, upper = np.asarray(lower_nm, np.float64), np.asarray(upper_nm, np.float64)
    cuts = [
        np.linspace(low, high, 1 + max(1, int(np.ceil((high - low) / _BLOCK_NM))))
        for low, high in zip(lower, upper, strict=True)
    ]
    positions, species, units = [np.empty((0, 3))], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    count = 0
    for index in np.ndindex(*(len(cut) - 1 for cut in cuts)):
        corner = [
            np.array([cut[i + k] for cut, i in zip(cuts, index, strict=True)]) for k in (0, 1)
        ]
        if (corner[1] <= corner[0]).any():
            continue
        where, what, unit = _block(packing, density, corner[0], corner[1], np.uint64(key))
        positions.append(where)
        species.append(what)
        units.append(unit + count)
        count += int(unit.max(initial=-1)) + 1
    return np.concatenate(positions), np.concatenate(species), np.concatenate(units)


def _block(
    packing: Packing, density: float, lower: Floats, upper: Floats, key: np.uint64
) -> tuple[Floats, Ints, Ints]:
    """Do the work of `add_sequentially` for a box of moderate size."""
    margin = _FIRST_MARGIN * packing.reach_nm
    while True:
        first = np.floor((lower - margin) / CELL_NM).astype(np.int64)
        last = np.ceil((upper + margin) / CELL_NM).astype(np.int64)
        time, kind, centre, turn = arrivals(
            first, last, packing.progress, packing.arrivals_per_nm3, density, key
        )
        instant = np.minimum(time * (_INSTANTS / density), _INSTANTS - 1).astype(np.uint8)
        earliest_first = np.argsort(instant, kind="stable")  # then in the order of the cells
        kind, centre, turn = (column[earliest_first] for column in (kind, centre, turn))
        state, atoms = _settle(
            kind,
            centre,
            turn,
            packing.species,
            packing.offsets_nm,
            packing.closest_nm,
            packing.reach_nm,
            np.asarray(first * CELL_NM, np.float64),
            np.asarray(last * CELL_NM, np.float64),
        )
        inside = ((centre >= lower) & (centre < upper)).all(axis=1)
        if not (state[inside] == _UNKNOWN).any():
            break
        margin *= 1.5
    kept = np.flatnonzero(inside & (state == _STAYS))
    species = packing.species[kind[kept]]
    there = species >= 0
    unit = np.broadcast_to(np.arange(len(kept))[:, None], species.shape)
    return atoms[kept][there], species[there], unit[there]


@numba.njit(cache=True)
def _settle(
    what: Ints,
    centre: Floats,
    turn: Floats,
    species: Ints,
    offsets: Floats,
    closest: Floats,
    reach: float,
    lower: Floats,
    upper: Floats,
) -> Any:
    """Say of every arrival, earliest first, whether it stays; return also its atoms' places.

    Atoms of those that weren't discarded are kept in linked lists, one for each box of an edge
    of the largest distance.
    """
    n, m = len(what), offsets.shape[1]
    stays = np.zeros(n, np.int64)
    atoms = np.zeros((n, m, 3))
    edge = closest.max()
    box = np.empty(3, np.int64)
    for axis in range(3):  # with room for atoms that stand out beyond the faces
        box[axis] = int((upper[axis] - lower[axis] + 2 * reach) / edge) + 1
    head = np.full((box[0], box[1], box[2]), -1, np.int64)
    following = np.full(n * m, -1, np.int64)
    corner = lower - reach
    rotation = np.eye(3)
    for i in range(n):
        kind = what[i]
        if m > 1:
            _rotation(turn[i], rotation)
        for k in range(m):
            for axis in range(3):
                atoms[i, k, axis] = centre[i, axis]
                for b in range(3):
                    atoms[i, k, axis] += rotation[axis, b] * offsets[kind, k, b]
        state = _STAYS
        for axis in range(3):
            if min(centre[i, axis] - lower[axis], upper[axis] - centre[i, axis]) < reach:
                state = _UNKNOWN
        for k in range(m):
            if species[kind, k] >= 0 and state != _DISCARDED:
                found = _meets(
                    atoms[i, k], closest[species[kind, k]], corner, edge,
                    head, following, atoms, species, what, stays,
                )  # fmt: skip
                if found != _STAYS:
                    state = found
        stays[i] = state
        if state == _DISCARDED:
            continue
        for k in range(m):
            if species[kind, k] >= 0:
                c0, c1, c2 = _box_of(atoms[i, k], corner, edge)
                following[i * m + k] = head[c0, c1, c2]
                head[c0, c1, c2] = i * m + k
    return stays, atoms


@numba.njit(cache=True)
def _box_of(place: Floats, corner: Floats, edge: float) -> Any:
    return (
        int((place[0] - corner[0]) / edge),
        int((place[1] - corner[1]) / edge),
        int((place[2] - corner[2]) / edge),
    )


@numba.njit(cache=True)
def _meets(
    place: Floats,
    least: Floats,
    corner: Floats,
    edge: float,
    head: Ints,
    following: Ints,
    atoms: Floats,
    species: Ints,
    what: Ints,
    stays: Ints,
) -> int:
    """Say whether an atom here would be in the way of one that stayed, or perhaps stayed."""
    m = atoms.shape[1]
    c0, c1, c2 = _box_of(place, corner, edge)
    found = _STAYS
    for b0 in range(max(c0 - 1, 0), min(c0 + 2, head.shape[0])):
        for b1 in range(max(c1 - 1, 0), min(c1 + 2, head.shape[1])):
            for b2 in range(max(c2 - 1, 0), min(c2 + 2, head.shape[2])):
                other = head[b0, b1, b2]
                while other >= 0:
                    j, q = other // m, other % m
                    d0 = atoms[j, q, 0] - place[0]
                    d1 = atoms[j, q, 1] - place[1]
                    d2 = atoms[j, q, 2] - place[2]
                    distance = least[species[what[j], q]]
                    if d0 * d0 + d1 * d1 + d2 * d2 < distance * distance:
                        if stays[j] == _STAYS:
                            return _DISCARDED
                        found = _UNKNOWN
                    other = following[other]
    return found


@numba.njit(cache=True)
def _rotation(turn: Floats, matrix: Floats) -> None:
    """Write a random rotation made of three uniform numbers.

    K. Shoemake, Graphics Gems III (1992) 124: a uniformly distributed unit quaternion.
    """
    a, b = np.sqrt(1 - turn[0]), np.sqrt(turn[0])
    x, y = a * np.sin(2 * np.pi * turn[1]), a * np.cos(2 * np.pi * turn[1])
    z, w = b * np.sin(2 * np.pi * turn[2]), b * np.cos(2 * np.pi * turn[2])
    matrix[0, 0], matrix[0, 1] = 1 - 2 * (y * y + z * z), 2 * (x * y - w * z)
    matrix[0, 2], matrix[1, 0] = 2 * (x * z + w * y), 2 * (x * y + w * z)
    matrix[1, 1], matrix[1, 2] = 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)
    matrix[2, 0], matrix[2, 1] = 2 * (x * z - w * y), 2 * (y * z + w * x)
    matrix[2, 2] = 1 - 2 * (x * x + y * y)

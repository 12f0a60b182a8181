"""Adatoms and surface columns that hop from one lattice site to the next, at known times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from nanophantom.simcore.atoms import Atoms
from nanophantom.simcore.dose import Ledger
from nanophantom.simcore.fields import Table
from nanophantom.simcore.history import Moves
from nanophantom.simcore.models import Model
from nanophantom.simcore.streams import numbers_of_places

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

COLUMN_NM = 0.04
"""Atoms of one column stand this close to each other across the beam."""
BOND_FACTOR = 1.2
"""Neighbours are closer than this times the distance of nearest neighbours."""
SAME_SITE = 0.5
"""A site is taken if an atom is closer than this times the distance of nearest neighbours."""
MOST_HOPS = 20_000


class Hopping(Model):
    """Single adatoms, or whole columns at the rim of a particle, hop to neighbouring free sites.

    Each hop is by a vector between nearest neighbours of the lattice that they stand on, to a
    place that is free and has neighbours enough to hold. Hops of one unit are a Poisson process.
    """

    process: Literal["hopping"] = "hopping"
    group: str
    """Name of the part whose atoms hop ("adatoms")."""
    on: str = ""
    """Name of the part on whose lattice they hop ("particle"); their own part if empty."""
    unit: Literal["column", "atom"] = "column"
    """What hops: atoms one by one, or all atoms of a column along the beam together."""
    n_mobile: int = Field(default=4, ge=1, le=1000)
    """How many of them hop: those with the fewest neighbours, drawn among equals."""
    rate_hz: float = Field(default=0.0, ge=0)
    """Hops of each in a second, with or without beam."""
    fluence_per_hop_e_per_A2: float | None = Field(default=None, gt=0)
    """Hops that the beam drives: one for so many electrons per area; none: the beam drives none."""
    least_neighbours: int = Field(default=2, ge=1, le=12)
    """Neighbours that a site needs to hold."""

    @model_validator(mode="after")
    def _hops_at_all(self) -> Hopping:
        if self.rate_hz == 0 and self.fluence_per_hop_e_per_A2 is None:
            raise ValueError("nothing hops; give rate_hz or fluence_per_hop_e_per_A2")
        return self

    def play(self, atoms: Atoms, ledger: Ledger, rng: np.random.Generator) -> Moves:
        """Choose who hops, and play.

        Raises
        ------
        ValueError
            The specimen has no such part, or nothing in it can hop.
        """
        key = rng.integers(0, 2**64, dtype=np.uint64)
        lattice = Surroundings.of(
            atoms, self.group, self.on or self.group, self.unit, self.least_neighbours
        )
        mobile = lattice.mobile(self.n_mobile, key)
        times = _hop_times(self, ledger, len(mobile), rng)
        moves: list[tuple[float, int, Floats]] = []
        for t, who in times:
            unit = mobile[who]
            targets = lattice.free_sites(unit)
            if not len(targets):
                continue  # hemmed in at the moment
            step = targets[int(rng.integers(len(targets)))]
            for atom, place in lattice.move(unit, step):
                moves.append((t, atom, place))
        return Moves(moves, {"hopping_units": lattice.table(mobile)})


def _hop_times(
    hopping: Hopping, ledger: Ledger, n_units: int, rng: np.random.Generator
) -> list[tuple[float, int]]:
    """Draw when each unit tries to hop, in the order of time."""
    begin, end = ledger.first_electron_s, float(ledger.end_s[-1])
    t = np.unique(np.concatenate([[begin], ledger.start_s, ledger.end_s]))
    expected = hopping.rate_hz * (t - begin)
    if hopping.fluence_per_hop_e_per_A2 is not None:
        expected = expected + ledger.fluence_by(t) / hopping.fluence_per_hop_e_per_A2
    if expected[-1] * n_units > MOST_HOPS:
        raise ValueError(
            f"sample.processes: {expected[-1] * n_units:,.0f} hops until {end:.3g} s are more than "
            f"{MOST_HOPS:,}; lower rate_hz or n_mobile"
        )
    hops: list[tuple[float, int]] = []
    for unit in range(n_units):
        number = rng.poisson(expected[-1])
        when = np.interp(rng.uniform(0.0, expected[-1], number), expected, t)
        hops += [(float(moment), unit) for moment in when]
    return sorted(hops)


@dataclass(eq=False)
class Surroundings:
    """Where everything stands now, in units that hop together.

    Attributes
    ----------
    positions_nm : (n, 3)
        All atoms.
    members
        Atoms of each unit of the part.
    places : (units, d)
        Where the units stand: (x, y) of columns, (x, y, z) of atoms.
    steps_nm : (m, 3)
        Vectors between nearest neighbours.
    others : (k, d)
        Places of what never hops.
    """

    positions_nm: Floats
    members: list[Ints]
    places: Floats
    steps_nm: Floats
    others: Floats
    bond_nm: float
    least_neighbours: int

    @classmethod
    def of(
        cls, atoms: Atoms, group: str, on: str, unit: str, least_neighbours: int
    ) -> Surroundings:
        """Find units and steps of a part."""
        for name in (group, on):
            if name not in atoms.group_names:
                raise ValueError(
                    f"sample.processes: the specimen in view has no part {name!r}; it has "
                    f"{', '.join(atoms.group_names)}"
                )
        mine = atoms.groups == atoms.group_names.index(group)
        positions = atoms.positions_nm.copy()
        lattice = positions[atoms.groups == atoms.group_names.index(on)]
        if len(lattice) < 2:
            raise ValueError(f"sample.processes: the part {group!r} stands on no lattice to hop on")
        steps = neighbour_steps(lattice)
        dimensions = 2 if unit == "column" else 3
        if unit == "column":
            across = np.linalg.norm(steps[:, :2], axis=1)
            steps = steps[across > COLUMN_NM]
            _, first = np.unique(np.round(steps[:, :2], 2), axis=0, return_index=True)
            steps = steps[first]
        members = (
            _columns(positions, np.flatnonzero(mine))
            if unit == "column"
            else [np.array([i]) for i in np.flatnonzero(mine)]
        )
        places = np.array([positions[m, :dimensions].mean(axis=0) for m in members])
        others = positions[~mine, :dimensions]
        if unit == "column":
            others = np.unique(np.round(others, 2), axis=0)
        bond = float(np.median(np.linalg.norm(steps[:, :dimensions], axis=1)))
        return cls(positions, members, places, steps, others, bond, least_neighbours)

    def neighbours(self, place: Floats, but: int | None = None) -> tuple[int, float]:
        """Return how many units and other atoms surround a place, and the nearest distance.

        One unit, that which wants to know, may be left out.
        """
        apart = np.linalg.norm(self.places - place, axis=1)
        if but is not None:
            apart[but] = np.inf
        beside = np.linalg.norm(self.others - place, axis=1) if len(self.others) else np.empty(0)
        near = BOND_FACTOR * self.bond_nm
        count = int(np.count_nonzero(apart < near) + np.count_nonzero(beside < near))
        return count, float(min(apart.min(initial=np.inf), beside.min(initial=np.inf)))

    def free_sites(self, unit: int) -> Floats:
        """Return the steps by which a unit may go now, shape (m, 3)."""
        d = self.places.shape[1]
        allowed = []
        for step in self.steps_nm:
            count, nearest = self.neighbours(self.places[unit] + step[:d], unit)
            if count >= self.least_neighbours and nearest > SAME_SITE * self.bond_nm:
                allowed.append(step)
        return np.array(allowed).reshape(-1, 3)

    def mobile(self, n: int, key: np.uint64) -> list[int]:
        """Choose the units that hop: few neighbours, somewhere to go, apart from each other."""
        counts = np.array([self.neighbours(p, u)[0] for u, p in enumerate(self.places)])
        homes = np.array([self.positions_nm[m].mean(axis=0) for m in self.members])
        lot = numbers_of_places(10.0 * homes, key, 1)[:, 0]
        chosen: list[int] = []
        for unit in np.lexsort((lot, counts)):
            near = [np.linalg.norm(self.places[unit] - self.places[c]) for c in chosen]
            if min(near, default=np.inf) < 2.5 * self.bond_nm or not len(self.free_sites(unit)):
                continue
            chosen.append(int(unit))
            if len(chosen) == n:
                return chosen
        if not chosen:
            raise ValueError(
                "sample.processes: nothing of the part can hop; lower least_neighbours"
            )
        return chosen

    def move(self, unit: int, step: Floats) -> list[tuple[int, Floats]]:
        """Move a unit; return its atoms and where they stand then."""
        self.places[unit] += step[: self.places.shape[1]]
        self.positions_nm[self.members[unit]] += step
        return [(int(atom), self.positions_nm[atom].copy()) for atom in self.members[unit]]

    def table(self, mobile: list[int]) -> Table:
        """Return which atoms hop together."""
        return {
            "unit": np.repeat(np.arange(len(mobile)), [len(self.members[u]) for u in mobile]),
            "atom": np.concatenate([self.members[u] for u in mobile]),
        }


def neighbour_steps(positions_nm: Floats) -> Floats:
    """Return the vectors between nearest neighbours of a lattice, each direction once.

    Strain and relaxation spread them a little; those within a quarter of a bond are one, and only
    vectors that occur at least a tenth as often as the commonest count.
    """
    tree = cKDTree(positions_nm)
    bond = float(np.median(tree.query(positions_nm, k=2)[0][:, 1]))
    pairs = tree.query_pairs(BOND_FACTOR * bond, output_type="ndarray")
    vectors = positions_nm[pairs[:, 1]] - positions_nm[pairs[:, 0]]
    vectors = np.concatenate([vectors, -vectors])
    found: list[Floats] = []
    left = vectors
    most = 0
    while len(left):
        mine = np.linalg.norm(left - left[0], axis=1) < 0.25 * bond
        most = max(most, int(np.count_nonzero(mine)))
        if np.count_nonzero(mine) >= 0.1 * most:
            found.append(left[mine].mean(axis=0))
        left = left[~mine]
    return np.array(found)


def _columns(positions_nm: Floats, which: Ints) -> list[Ints]:
    """Group atoms into columns along the beam."""
    xy = positions_nm[which, :2]
    pairs = cKDTree(xy).query_pairs(COLUMN_NM, output_type="ndarray")
    n = len(which)
    edges = coo_matrix((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    count, label = connected_components(edges, directed=False)
    return [which[label == c] for c in range(count)]

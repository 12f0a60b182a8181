"""Adatoms and surface columns that hop from one lattice site to the next, at known times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

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
SAME_SITE = 0.7
"""A site is taken if an atom is closer than this times the distance of nearest neighbours."""
APART = 2.0
"""Units that hop start at least so many bonds from each other."""
MOST_HOPS = 20_000


class Hopping(Model):
    """Single adatoms, or whole columns at the rim of a particle, hop to neighbouring free sites.

    Each hop is by a vector between nearest neighbours of the lattice that they stand on, to a
    place that is free and has neighbours enough to hold; all such places are equally likely. The
    hops of one unit are a Poisson process, less those for which there is no place.
    """

    process: Literal["hopping"] = "hopping"
    group: str
    """Name of the part whose atoms hop ("adatoms")."""
    lattice_of: str = ""
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
    """Neighbours that a site needs to hold: atoms, or columns that touch at least half of one.
    Only the lattice counts, not a support. From a closed shell no column comes away by 2."""

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
        lattice = Surroundings.of(atoms, self.group, self.lattice_of or self.group, self.unit)
        mobile = lattice.mobile(self.n_mobile, self.least_neighbours, key)
        times = _hop_times(self, ledger, len(mobile), rng)
        moves: list[tuple[float, int, Floats]] = []
        for t, who in times:
            unit = mobile[who]
            sites = lattice.free_sites(unit, self.least_neighbours)
            if not sites:
                continue  # hemmed in at the moment
            ways = sites[int(rng.integers(len(sites)))]
            step = ways[int(rng.integers(len(ways)))]
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
    for unit, own in enumerate(rng.spawn(n_units)):
        # waits of mean one, so that a longer movie begins like a shorter one
        passed = own.exponential()
        while passed < expected[-1]:
            hops.append((float(np.interp(passed, expected, t)), unit))
            passed += own.exponential()
    return sorted(hops)


class Contacts(NamedTuple):
    """What surrounds some places where a unit could stand, arrays of shape (m,)."""

    holders: Ints
    """Columns (or atoms) of the lattice that touch at least half of the unit's atoms."""
    bonds: Ints
    """Bonds between the unit's atoms and those of the lattice."""
    nearest_nm: Floats
    """Distance of the nearest atom of any kind; infinity if none is within a bond."""


@dataclass(eq=False)
class Surroundings:
    """Where everything stands now, in units that hop together.

    Attributes
    ----------
    positions_nm : (n, 3)
        All atoms.
    owner : (n,)
        Number of the column (or atom) of the lattice that an atom belongs to; -1 for atoms of
        other parts, a support say: they take up room and hold nothing.
    members
        Atoms of each unit of the part that hops; unit u owns its atoms by the number u.
    steps_nm : (m, 3)
        Vectors between nearest neighbours; of columns, those that lead across the beam.
    bond_nm
        Distance of nearest neighbours.
    columns
        Whether units are columns.
    """

    positions_nm: Floats
    owner: Ints
    members: list[Ints]
    steps_nm: Floats
    bond_nm: float
    columns: bool

    def __post_init__(self) -> None:
        self.at_home = np.ones(len(self.positions_nm), bool)
        self.homes = cKDTree(self.positions_nm.copy())

    @classmethod
    def of(cls, atoms: Atoms, group: str, on: str, unit: str) -> Surroundings:
        """Find units and steps of a part.

        Raises
        ------
        ValueError
            There is no such part, or no lattice to hop on.
        """
        for name in (group, on):
            if name not in atoms.group_names:
                raise ValueError(
                    f"sample.processes: the specimen in view has no part {name!r}; it has "
                    f"{', '.join(atoms.group_names)}"
                )
        positions = atoms.positions_nm.copy()
        mine, lattice = (
            np.flatnonzero(atoms.groups == atoms.group_names.index(name)) for name in (group, on)
        )
        steps = neighbour_steps(positions[lattice]) if len(lattice) > 1 else np.empty((0, 3))
        bond = float(np.median(np.linalg.norm(steps, axis=1))) if len(steps) else 0.0
        columns = unit == "column"
        if columns:
            steps = steps[np.linalg.norm(steps[:, :2], axis=1) > COLUMN_NM]
        if not len(steps):
            raise ValueError(
                f"sample.processes: the part {on!r} is no lattice to hop on; name a crystalline "
                "part in `on`"
            )
        members = split_columns(positions, mine) if columns else [np.array([i]) for i in mine]
        others = np.setdiff1d(lattice, mine)
        rest = split_columns(positions, others) if columns else [np.array([i]) for i in others]
        owner = np.full(len(positions), -1)
        for number, atoms_of_it in enumerate([*members, *rest]):
            owner[atoms_of_it] = number
        return cls(positions, owner, members, steps, bond, columns)

    def contacts(self, places_nm: Floats, but: int | None = None) -> Contacts:
        """Return what surrounds the atoms of a unit at some places.

        Parameters
        ----------
        places_nm
            Where its k atoms would stand, shape (m, k, 3).
        but
            A unit that is left out: that which asks.
        """
        m, k, _ = places_nm.shape
        flat = places_nm.reshape(-1, 3)
        reach = BOND_FACTOR * self.bond_nm
        found = self.homes.query_ball_point(flat, reach, return_sorted=True)
        row = np.repeat(np.arange(m * k), [len(f) for f in found])
        atom = np.concatenate([np.asarray(f, np.int64) for f in found])
        row, atom = row[self.at_home[atom]], atom[self.at_home[atom]]
        away = np.flatnonzero(~self.at_home)
        apart = np.linalg.norm(flat[:, None] - self.positions_nm[away], axis=2)
        near_row, near_away = np.nonzero(apart < reach)
        row, atom = np.append(row, near_row), np.append(atom, away[near_away])
        if but is not None:
            other = self.owner[atom] != but
            row, atom = row[other], atom[other]

        nearest = np.full(m, np.inf)
        distance = np.linalg.norm(self.positions_nm[atom] - flat[row], axis=1)
        np.minimum.at(nearest, row // k, distance)
        bound = self.owner[atom] >= 0
        row, owner = row[bound], self.owner[atom[bound]]
        touched = np.unique(np.column_stack([row, owner]), axis=0)  # atom of the unit, column
        touched[:, 0] //= k
        pairs, length = np.unique(touched, axis=0, return_counts=True)
        holders = np.bincount(pairs[2 * length >= k, 0], minlength=m)
        return Contacts(holders, np.bincount(row // k, minlength=m), nearest)

    def free_sites(self, unit: int, least_neighbours: int) -> list[Floats]:
        """Return where a unit may go now: for each site the steps (s, 3) that lead there.

        A site is free if no atom is nearer than `SAME_SITE` bonds, and holds a unit that at least
        so many neighbours touch. Steps to one site of a column differ in height along the beam;
        those that make most bonds are given.
        """
        places = self.positions_nm[self.members[unit]] + self.steps_nm[:, None]
        around = self.contacts(places, unit)
        free = around.nearest_nm > SAME_SITE * self.bond_nm
        free &= around.holders >= least_neighbours
        if not self.columns:
            return [self.steps_nm[i : i + 1] for i in np.flatnonzero(free)]
        sites: list[Floats] = []
        left = np.flatnonzero(free)
        while len(left):
            across = np.linalg.norm((self.steps_nm[left] - self.steps_nm[left[0]])[:, :2], axis=1)
            same = left[across < COLUMN_NM]
            sites.append(self.steps_nm[same[around.bonds[same] == around.bonds[same].max()]])
            left = left[across >= COLUMN_NM]
        return sites

    def mobile(self, n: int, least_neighbours: int, key: np.uint64) -> list[int]:
        """Choose the units that hop: few neighbours, somewhere to go, apart from each other."""
        counts = np.array(
            [
                self.contacts(self.positions_nm[m][None], u).holders[0]
                for u, m in enumerate(self.members)
            ]
        )
        homes = np.array([self.positions_nm[m].mean(axis=0) for m in self.members])
        places = homes[:, :2] if self.columns else homes
        lot = numbers_of_places(10.0 * homes, key, 1)[:, 0]
        chosen: list[int] = []
        for unit in np.lexsort((lot, counts)):
            near = np.linalg.norm(places[chosen] - places[unit], axis=1)
            if near.min(initial=np.inf) < APART * self.bond_nm:
                continue
            if not self.free_sites(int(unit), least_neighbours):
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
        members = self.members[unit]
        self.positions_nm[members] += step
        self.at_home[members] = False
        return [(int(atom), self.positions_nm[atom].copy()) for atom in members]

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
    often: list[int] = []
    while len(vectors):
        mine = np.linalg.norm(vectors - vectors[0], axis=1) < 0.25 * bond
        found.append(vectors[mine].mean(axis=0))
        often.append(int(np.count_nonzero(mine)))
        vectors = vectors[~mine]
    common = np.array(often) >= 0.1 * max(often, default=0)
    return np.array(found).reshape(-1, 3)[common]


def split_columns(positions_nm: Floats, which: Ints) -> list[Ints]:
    """Group atoms into columns along the beam."""
    xy = positions_nm[which, :2]
    pairs = cKDTree(xy).query_pairs(COLUMN_NM, output_type="ndarray")
    n = len(which)
    edges = coo_matrix((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    count, label = connected_components(edges, directed=False)
    return [which[label == c] for c in range(count)]

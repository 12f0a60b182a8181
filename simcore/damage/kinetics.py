"""Damage as kinetics: rates for every atom, and the game of chance that they play.

Each atom draws once how much of a process it endures, a number E of the exponential distribution
of mean one that hangs on its resting place; the event happens when the integral of its rate
reaches E. That is the exact law of a Poisson process whose rate may change with flux and
surroundings, and an atom's fate doesn't depend on what else is in view, as far as its rate
doesn't.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from nanophantom.simcore.atoms import Atoms
from nanophantom.simcore.dose import Ledger
from nanophantom.simcore.history import EventLog
from nanophantom.simcore.models import Model
from nanophantom.simcore.runs import Run
from nanophantom.simcore.streams import numbers_of_places

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOST_EVENTS = 100_000
BOND_FACTOR = 1.3
"""Neighbours are closer than this times the median distance of nearest neighbours."""


class Beam(NamedTuple):
    """What falls on every atom."""

    energy_kev: float
    flux_e_per_A2_s: Floats
    """Shape (n,)."""


@dataclass(eq=False)
class Sites:
    """The atoms as they are now: the state on which rates depend.

    Attributes
    ----------
    numbers, groups : (n,)
        Atomic numbers and parts of the specimen.
    group_names
        Names of the parts.
    homes_nm : (n, 3)
        Where they stood at the beginning.
    positions_nm : (n, 3)
        Where they stand.
    coordination : (n,)
        Neighbours that are still there.
    there : (n,)
        Whether the atom is still in the specimen.
    """

    numbers: Ints
    groups: Ints
    group_names: tuple[str, ...]
    homes_nm: Floats
    positions_nm: Floats
    coordination: Ints
    there: npt.NDArray[np.bool_]


class Kinetics(Model, ABC):
    """A process that happens to single atoms at a rate."""

    process: str

    @abstractmethod
    def rates_per_s(self, sites: Sites, beam: Beam) -> Floats:
        """Return the rate for every atom from its state, flux and energy, shape (n,)."""

    @abstractmethod
    def fate(self, sites: Sites, atom: int, uniform: Floats) -> Floats:
        """Return where an atom goes, (x, y, z) in nm; NaN if it leaves the specimen.

        Parameters
        ----------
        sites
            The state.
        atom
            Whose turn it is.
        uniform
            Eight random numbers between 0 and 1.
        """


def play(
    atoms: Atoms,
    processes: Sequence[Kinetics],
    ledger: Ledger,
    run: Run,
    bond_nm: float | None = None,
    beyond_nm: Floats | None = None,
) -> EventLog:
    """Play all processes over all exposures and the times between them.

    Parameters
    ----------
    atoms
        At the beginning, in specimen coordinates.
    processes
        What may happen; each has random numbers of its own.
    ledger
        The exposures; what the specimen got before the first one comes at its rate.
    run
        Address of the random streams.
    bond_nm
        Atoms closer than this are neighbours; none takes 1.3 times the median distance of
        nearest neighbours.
    beyond_nm
        Positions (n, 3) of atoms beyond the cell: they stay, and are neighbours of those at its
        border, which would else count as an edge of the specimen.

    Raises
    ------
    ValueError
        More events happen than can be kept.
    """
    names = tuple(dict.fromkeys(p.process for p in processes))
    if not processes or not len(atoms):
        return EventLog.of([], names)
    world = _World(atoms, processes, ledger.energy_kev, run, bond_nm, beyond_nm)
    beamed = _in_area(atoms.positions_nm, ledger)
    rows: list[tuple[float, int, npt.ArrayLike, int]] = []
    for begin, end, flux in segments(ledger):
        for t, p, atom, place in world.live(begin, end, flux, beamed):
            rows.append((t, atom, place, names.index(processes[p].process)))
            if len(rows) > MOST_EVENTS:
                raise ValueError(
                    f"sample.processes: more than {MOST_EVENTS:,} events by {t:.3g} s; lower the "
                    "dose, or the rate of the process "
                    f"{processes[p].process!r}"
                )
    return EventLog.of(rows, names)


def segments(ledger: Ledger) -> Iterator[tuple[float, float, float]]:
    """Give the stretches of constant flux, in order: begin, end (s), flux (e/Å^2/s)."""
    if not len(ledger):
        return
    rates = ledger.rate_e_per_A2_s
    now = float(ledger.start_s[0])
    if ledger.before_e_per_A2 > 0:
        yield ledger.first_electron_s, now, float(rates[0])
    for start, end, rate in zip(ledger.start_s, ledger.end_s, rates, strict=True):
        if start > now:
            yield now, float(start), 0.0
        yield float(start), float(end), float(rate)
        now = float(end)


def _in_area(positions_nm: Floats, ledger: Ledger) -> npt.NDArray[np.bool_]:
    return ledger.area.holds(positions_nm[:, 0], positions_nm[:, 1])


class _World:
    """The state of the game: atoms, rates, and what each still endures."""

    def __init__(
        self,
        atoms: Atoms,
        processes: Sequence[Kinetics],
        energy_kev: float,
        run: Run,
        bond_nm: float | None,
        beyond_nm: Floats | None,
    ) -> None:
        positions = atoms.positions_nm.copy()
        tree = cKDTree(positions)
        if bond_nm is None:
            nearest = tree.query(positions, k=2)[0][:, 1] if len(positions) > 1 else [0.1]
            bond_nm = BOND_FACTOR * float(np.median(nearest))
        self.bond_nm, self.processes, self.energy_kev = bond_nm, processes, energy_kev
        self.beyond = cKDTree(np.empty((0, 3)) if beyond_nm is None else beyond_nm)
        pairs = tree.query_pairs(bond_nm, output_type="ndarray")
        bonds = np.bincount(pairs.ravel(), minlength=len(positions))
        self.sites = Sites(
            numbers=atoms.numbers,
            groups=atoms.groups,
            group_names=atoms.group_names,
            homes_nm=atoms.positions_nm,
            positions_nm=positions,
            coordination=(bonds + self._beyond(positions)).astype(np.int64),
            there=np.ones(len(positions), bool),
        )
        self.keys = [
            run.rng(f"damage {p} {process.process}").integers(0, 2**64, dtype=np.uint64)
            for p, process in enumerate(processes)
        ]
        # the home of an atom, not where it stands now, names its random numbers
        self.homes_A = 10.0 * atoms.positions_nm
        self.turns = np.zeros((len(processes), len(positions)), np.int64)
        self.endured = np.stack([-np.log(self._numbers(p, slice(None), 1)[:, 0])
                                 for p in range(len(processes))])  # fmt: skip

    def _numbers(self, p: int, which: slice, count: int, turn: int = 0) -> Floats:
        key = np.uint64((int(self.keys[p]) + turn * 0xD1342543DE82EF95) % 2**64)
        return numbers_of_places(self.homes_A[which], key, count)

    def live(
        self, begin: float, end: float, flux: float, beamed: npt.NDArray[np.bool_]
    ) -> Iterator[tuple[float, int, int, Floats]]:
        """Give the events of a stretch of constant flux: time, process, atom, new place."""
        beam = Beam(self.energy_kev, np.where(beamed, flux, 0.0))
        now = begin
        while True:
            rates = np.stack([p.rates_per_s(self.sites, beam) for p in self.processes])
            rates *= self.sites.there
            with np.errstate(divide="ignore", invalid="ignore"):
                wait = np.where(rates > 0, self.endured / rates, np.inf)
            first = int(np.argmin(wait))
            p, atom = divmod(first, wait.shape[1])
            step = float(wait[p, atom])
            if now + step >= end:
                self.endured -= rates * (end - now)
                return
            self.endured -= rates * step
            now += step
            yield now, p, atom, self._happen(p, atom)

    def _happen(self, p: int, atom: int) -> Floats:
        """Let a process have its way with an atom; return where it goes."""
        self.turns[p, atom] += 1
        uniform = self._numbers(p, slice(atom, atom + 1), 9, int(self.turns[p, atom]))[0]
        place = self.processes[p].fate(self.sites, atom, uniform[:8])
        self.endured[p, atom] = -np.log(uniform[8])
        self._loosen(atom)
        if np.isfinite(place[0]):
            self.sites.positions_nm[atom] = place
            self._bind(atom)
        else:
            self.sites.there[atom] = False
            place = np.full(3, np.nan)
        return place

    def _neighbours(self, atom: int) -> npt.NDArray[np.int64]:
        distance = self.sites.positions_nm - self.sites.positions_nm[atom]
        near = (np.einsum("ij,ij->i", distance, distance) < self.bond_nm**2) & self.sites.there
        near[atom] = False
        return np.flatnonzero(near)

    def _beyond(self, positions_nm: Floats) -> Ints:
        """Return how many neighbours beyond the cell some places have."""
        found = self.beyond.query_ball_point(positions_nm, self.bond_nm, return_length=True)
        return np.asarray(found, np.int64)

    def _loosen(self, atom: int) -> None:
        self.sites.coordination[self._neighbours(atom)] -= 1
        self.sites.coordination[atom] = 0

    def _bind(self, atom: int) -> None:
        near = self._neighbours(atom)
        self.sites.coordination[near] += 1
        self.sites.coordination[atom] = len(near) + self._beyond(self.sites.positions_nm[atom])

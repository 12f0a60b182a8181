"""What becomes of a specimen in time: an event log, changes without steps, and their states.

The log is played once, when an acquisition is planned. Afterwards the atoms at any time are a
lookup, so every frame can be made alone and its truth is exact.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.atoms import Atoms
from nanophantom.simcore.beam_motion import MotionField
from nanophantom.simcore.dose import Ledger
from nanophantom.simcore.fields import Table, read_only
from nanophantom.simcore.runs import Run

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class EventLog:
    """Every atom that was lost or moved, and when; in the order of time.

    Attributes
    ----------
    t_s : (n,)
        Time, from the opening of the first frame's shutter; negative before it.
    atom : (n,)
        Row of the atom among those at the beginning.
    position_nm : (n, 3)
        Where the atom stands afterwards (x, y, z); NaN if it left the specimen.
    process : (n,)
        Index into `processes` of what did it.
    processes
        Names of what may happen.
    """

    t_s: Floats
    atom: Ints
    position_nm: Floats
    process: Ints
    processes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("t_s", "atom", "position_nm", "process"):
            object.__setattr__(self, name, read_only(getattr(self, name)))

    @classmethod
    def of(
        cls,
        rows: Sequence[tuple[float, int, npt.ArrayLike, int]],
        processes: tuple[str, ...],
    ) -> EventLog:
        """Sort events (time, atom, position, process) into a log."""
        order = sorted(range(len(rows)), key=lambda i: (rows[i][0], rows[i][1]))
        return cls(
            t_s=np.array([rows[i][0] for i in order], np.float64),
            atom=np.array([rows[i][1] for i in order], np.int64),
            position_nm=np.array([rows[i][2] for i in order], np.float64).reshape(-1, 3),
            process=np.array([rows[i][3] for i in order], np.int64),
            processes=processes,
        )

    def __len__(self) -> int:
        return len(self.t_s)

    def __add__(self, other: EventLog) -> EventLog:
        """Return the events of both in the order of time."""
        names = tuple(dict.fromkeys((*self.processes, *other.processes)))
        rows = [
            (float(log.t_s[i]), int(log.atom[i]), log.position_nm[i],
             names.index(log.processes[log.process[i]]))
            for log in (self, other)
            for i in range(len(log))
        ]  # fmt: skip
        return EventLog.of(rows, names)


class Drive(Protocol):
    """A change without steps: a rotation, a rising B factor."""

    def at(self, atoms: Atoms, t_s: float, fluence_e_per_A2: float) -> Atoms:
        """Return the atoms as they are at a time and fluence."""
        ...

    def table(self, t_s: Floats, fluence_e_per_A2: Floats) -> Table:
        """Return the true parameters at some times, as columns."""
        ...


class Fading(Protocol):
    """A loss of contrast with dose that depends on the spatial frequency."""

    def critical_dose(self, k_per_A: Floats) -> Floats:
        """Return the fluence (e/Å^2) after which an intensity has fallen to 1/e."""
        ...

    def amplitude(self, k_per_A: Floats, frame: int) -> Floats:
        """Return what is left of amplitudes, averaged over an exposure; 1 at k = 0."""
        ...

    def intensity(self, k_per_A: Floats, frame: int) -> Floats:
        """Return what is left of intensities, averaged over an exposure; 1 at k = 0."""
        ...


class Moment(NamedTuple):
    """A state of the specimen; the beginning is ``Moment(0, None)``."""

    events: int
    """How many events have happened."""
    t_s: float | None
    """When, where something changes without steps; None where only events count."""


START = Moment(0, None)


class Stretch(NamedTuple):
    """A state and the time during which it holds."""

    moment: Moment
    begin_s: float
    end_s: float


OUTLINE = {
    "events": "every atom lost or moved: when, at which dose, from where to where, and why",
    "evolution": "angles, added B factors and the like in the middle of every frame",
    "fading": "critical dose against spatial frequency",
    "hopping_units": "which atoms hop together",
    "neck": "radius of the neck between sintering particles, frame by frame",
}


@dataclass(frozen=True, eq=False)
class History:
    """All that becomes of some atoms.

    Attributes
    ----------
    atoms
        At the beginning.
    ledger
        Dose and time.
    log
        What happens to single atoms.
    drives
        What changes without steps, applied after the events.
    fading
        A loss of contrast that acts on images and diffraction patterns.
    """

    atoms: Atoms
    ledger: Ledger
    log: EventLog
    drives: tuple[Drive, ...] = ()
    fading: Fading | None = None
    truths: Mapping[str, Table] = field(default_factory=dict)
    """Further tables of truth by name: sites between which atoms hop, the law of a neck."""

    def moment(self, t_s: float) -> Moment:
        """Return the state at a time."""
        events = int(np.searchsorted(self.log.t_s, t_s, side="right"))
        return Moment(events, t_s if self.drives else None)

    def at(self, moment: Moment) -> Atoms:
        """Return the atoms of a state; those lost are left out."""
        if moment == START:
            return self.atoms
        done = slice(0, moment.events)
        positions = self.atoms.positions_nm.copy()
        there = np.ones(len(self.atoms), bool)
        for atom, place in zip(self.log.atom[done], self.log.position_nm[done], strict=True):
            positions[atom] = place
            there[atom] &= bool(np.isfinite(place[0]))  # what has left doesn't come back
        atoms = self.atoms.moved(np.where(there[:, None], positions, 0.0)).select(there)
        if moment.t_s is not None:
            fluence = float(self.ledger.fluence_by(moment.t_s))
            for drive in self.drives:
                atoms = drive.at(atoms, moment.t_s, fluence)
        return atoms

    def stretches(self, begin_s: float, end_s: float, most: int) -> list[Stretch]:
        """Return the states between two times.

        A time with few events is divided exactly where they happen. One with more than `most`
        states, or with changes without steps, is divided into `most` equal parts, each
        represented by its middle.
        """
        inside = (self.log.t_s > begin_s) & (self.log.t_s < end_s)
        times = np.unique(self.log.t_s[inside])
        if not self.drives and len(times) < most:
            borders = np.concatenate([[begin_s], times, [end_s]])
        else:
            borders = np.linspace(begin_s, end_s, most + 1)
        found: list[Stretch] = []
        for begin, end in itertools.pairwise(borders.tolist()):
            moment = self.moment((begin + end) / 2)
            if found and found[-1].moment == moment:
                begin = found.pop().begin_s
            found.append(Stretch(moment, begin, end))
        return found

    def during(self, edges_s: Floats, most: int) -> list[tuple[Moment, Floats]]:
        """Return the states of an exposure and when they hold.

        Parameters
        ----------
        edges_s
            Edges of equal parts of the exposure, shape (n + 1,).
        most
            Largest number of states, see `stretches`.

        Returns
        -------
        list of (Moment, weights)
            Weights have shape (n,): the part of the exposure that a state holds within each of
            the parts; all together they sum to 1.
        """
        scenes = []
        for moment, begin, end in self.stretches(float(edges_s[0]), float(edges_s[-1]), most):
            overlap = np.minimum(edges_s[1:], end) - np.maximum(edges_s[:-1], begin)
            weights = np.maximum(overlap, 0.0) / (edges_s[-1] - edges_s[0])
            scenes.append((moment, np.asarray(weights)))
        return scenes

    def outline(self) -> dict[str, str]:
        """Return one line on every table of `tables`."""
        return {name: OUTLINE.get(name, "") for name in self.tables(np.zeros(3))}

    def tables(self, origin_nm: Floats) -> dict[str, Table]:
        """Return the truth: events with their times and doses, states of the drives by frame.

        Parameters
        ----------
        origin_nm
            Place (x, y, z) from which positions count.
        """
        log, ledger = self.log, self.ledger
        before = np.empty((len(log), 3))
        position = self.atoms.positions_nm.copy()
        for row, (atom, place) in enumerate(zip(log.atom, log.position_nm, strict=True)):
            before[row] = position[atom]
            position[atom] = place
        frame = np.searchsorted(ledger.start_s, log.t_s, side="right") - 1
        within = (frame >= 0) & (log.t_s < ledger.end_s[np.maximum(frame, 0)])
        after = log.position_nm - origin_nm
        before = before - origin_nm
        names = np.array(log.processes or ("nothing",), dtype="S")
        tables: dict[str, Table] = {
            "events": {
                "t_s": log.t_s,
                "fluence_e_per_A2": ledger.fluence_by(log.t_s),
                "frame": frame,
                "during_exposure": within,
                "atom": log.atom,
                "number": self.atoms.numbers[log.atom],
                "process": names[log.process] if len(log) else np.empty(0, names.dtype),
                "lost": ~np.isfinite(log.position_nm[:, 0]),
                **{f"from_{axis}_nm": before[:, j] for j, axis in enumerate("xyz")},
                **{f"to_{axis}_nm": after[:, j] for j, axis in enumerate("xyz")},
            }
        }
        middle = ledger.start_s + ledger.length_s / 2
        fluence = ledger.fluence_by(middle)
        driven: dict[str, npt.NDArray[np.generic]] = {}
        for drive in self.drives:
            driven |= dict(drive.table(middle, fluence))
        if driven:
            tables["evolution"] = {"frame": np.arange(len(ledger)), "t_s": middle, **driven}
        if self.fading is not None:
            k = np.geomspace(0.02, 2.0, 101)
            tables["fading"] = {
                "k_per_A": k,
                "critical_dose_e_per_A2": self.fading.critical_dose(k),
            }
        return {**tables, **self.truths}


class Moves(NamedTuple):
    """What a process that isn't a matter of single atoms does to them."""

    moves: list[tuple[float, int, Floats]]
    """Time, atom, and where it stands afterwards."""
    truths: Mapping[str, Table]
    """Tables of truth by name."""


@runtime_checkable
class Evolves(Protocol):
    """A specimen that changes while it is looked at, by itself or by the beam."""

    def history(self, atoms: Atoms, beyond_nm: Floats | None, ledger: Ledger, run: Run) -> History:
        """Return what becomes of those of its atoms that an instrument has in its cell.

        Parameters
        ----------
        atoms
            As they stand in the cell.
        beyond_nm
            Places (n, 3) of atoms just outside, which stay and are neighbours of those inside.
        ledger
            Dose and time.
        run
            Address of the random streams.
        """
        ...

    def film_motion(
        self, half_width_nm: float, half_height_nm: float, run: Run
    ) -> MotionField | None:
        """Return how a broad beam moves and distorts the film in a view, or None."""
        ...


def replayed(atoms: Table, events: Table, t_s: float) -> tuple[Table, npt.NDArray[np.bool_]]:
    """Return a dataset's atoms at a time, from its truth alone.

    Parameters
    ----------
    atoms, events
        Truth tables of these names.
    t_s
        When.

    Returns
    -------
    atoms
        The table with the positions of that time.
    there
        Which of them are still in the specimen, shape (n,).
    """
    place = {axis: np.array(atoms[f"{axis}_nm"], np.float64) for axis in "xyz"}
    there = np.ones(len(place["x"]), bool)
    for row in range(int(np.searchsorted(events["t_s"], t_s, side="right"))):
        atom = int(events["atom"][row])
        for axis in "xyz":
            place[axis][atom] = events[f"to_{axis}_nm"][row]
        there[atom] &= not events["lost"][row]
    return {**atoms, **{f"{axis}_nm": place[axis] for axis in "xyz"}}, there

"""A sample that changes while it is looked at: damaged by the beam, or alive by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from ase.data import chemical_symbols
from pydantic import Field, field_validator

from nanophantom.samples._family import Sample
from nanophantom.samples.crystal import Crystal
from nanophantom.simcore.atoms import Atoms, Window
from nanophantom.simcore.beam_motion import BeamInducedMotion, MotionField
from nanophantom.simcore.damage.fading import ContrastFading, Faded
from nanophantom.simcore.damage.kinetics import Kinetics, play
from nanophantom.simcore.damage.processes import Amorphization, KnockOn, MassLoss
from nanophantom.simcore.dose import Ledger
from nanophantom.simcore.dynamics.drives import RisingBFactor, Rotation
from nanophantom.simcore.dynamics.hopping import Hopping
from nanophantom.simcore.dynamics.sintering import Sintering
from nanophantom.simcore.fields import Table
from nanophantom.simcore.history import EventLog, History
from nanophantom.simcore.models import member, one_of
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import FieldLayer, HasAtoms, HasFields, HasThickness, Specimen

Floats = npt.NDArray[np.float64]
Process = one_of(
    "process",
    KnockOn,
    Amorphization,
    MassLoss,
    ContrastFading,
    RisingBFactor,
    Rotation,
    Hopping,
    Sintering,
)

REACH_NM = 1.0
"""The longest bond that can be asked for."""


class Evolving(Sample):
    """Another sample, and the processes that change it with dose and time."""

    kind: Literal["evolving"] = "evolving"
    of: member(Sample)  # type: ignore[valid-type]
    """What it is at the beginning."""
    processes: tuple[Process, ...] = ()  # type: ignore[valid-type]
    """What happens to it; all of them at once, each with random numbers of its own."""
    film: BeamInducedMotion = BeamInducedMotion()
    """How the broad beam of a TEM moves and distorts the film that carries it."""
    bond_nm: float | None = Field(default=None, gt=0, le=1)
    """Atoms closer than this count as neighbours; none takes 1.3 times the median distance of
    nearest neighbours."""

    @field_validator("of")
    @classmethod
    def _what_stays(cls, value: Sample) -> Sample:
        if isinstance(value, Evolving):
            raise ValueError("it evolves already; give all processes to one evolving sample")
        return value

    @classmethod
    def small(cls) -> Self:
        """Return a thin crystal whose oxygen leaves."""
        return cls(of=Crystal.small(), processes=(MassLoss(critical_fluence_e_per_A2=500.0),))

    def input_files(self) -> dict[str, Path]:
        """Return the files of the sample within."""
        return {f"of.{knob}": file for knob, file in self.of.input_files().items()}

    def make(self, run: Run) -> EvolvingSpecimen:
        """Make the sample; what becomes of it is drawn when it is looked at."""
        base: Specimen = self.of.make(run.at("evolving", 0))
        if isinstance(base, HasAtoms):
            return EvolvingSpecimen(self, base)
        raise ValueError(f"of: a sample of kind {self.of.kind!r} has no atoms that could change")


@dataclass(frozen=True, eq=False)
class EvolvingSpecimen(Specimen):
    """A specimen, and what will become of it."""

    recipe: Evolving
    base: Specimen

    def atoms_within(self, window: Window) -> Atoms:
        """Return the atoms at the beginning whose (x, y) lie in the window."""
        assert isinstance(self.base, HasAtoms)
        return self.base.atoms_within(window)

    def fields_within(self, window: Window, shape: tuple[int, int]) -> Sequence[FieldLayer]:
        """Return the fields of the specimen within; they don't change."""
        return self.base.fields_within(window, shape) if isinstance(self.base, HasFields) else ()

    @property
    def exit_nm(self) -> float:
        """The exit face of the specimen within."""
        if not isinstance(self.base, HasThickness):
            raise AttributeError("exit_nm")
        return self.base.exit_nm

    def history(self, atoms: Atoms, beyond_nm: Floats | None, ledger: Ledger, run: Run) -> History:
        """Play all processes for the atoms that an instrument has in its cell.

        Raises
        ------
        ValueError
            A process concerns an element that isn't there.
        """
        processes: Sequence[Any] = self.recipe.processes
        there = {chemical_symbols[z] for z in np.unique(atoms.numbers)}
        for number, process in enumerate(processes):
            named: set[str] = set(getattr(process, "displacement", ()))
            named |= set(getattr(process, "elements", ()))
            for missing in sorted(named - there):
                raise ValueError(
                    f"sample.processes.{number}: there is no {missing} in view, only "
                    f"{', '.join(sorted(there))}; leave it out"
                )
        kinetics = [p for p in processes if isinstance(p, Kinetics)]
        log = play(atoms, kinetics, ledger, run, self.recipe.bond_nm, beyond_nm)
        truths: dict[str, Table] = {}
        for number, process in enumerate(processes):
            if isinstance(process, Hopping | Sintering):
                moved = process.play(atoms, ledger, run.rng(f"{process.process} {number}"))
                rows = [(t, atom, place, 0) for t, atom, place in moved.moves]
                log = log + EventLog.of(rows, (process.process,))
                for name, table in moved.truths.items():
                    truths[f"{name}_{number}" if name in truths else name] = table
        drives = tuple(
            process.drive(atoms, ledger, run.rng(f"{process.process} {number}"))
            for number, process in enumerate(processes)
            if isinstance(process, Rotation | RisingBFactor)
        )
        causes = [p for p in processes if isinstance(p, ContrastFading)]
        fading = Faded.of(causes, ledger) if causes else None
        return History(
            atoms=atoms, ledger=ledger, log=log, drives=drives, fading=fading, truths=truths
        )

    def film_motion(
        self, half_width_nm: float, half_height_nm: float, run: Run
    ) -> MotionField | None:
        """Draw how the beam moves the film."""
        if self.recipe.film.absent:
            return None
        return self.recipe.film.draw(run.rng("film"), half_width_nm, half_height_nm)

    def truth(self) -> Mapping[str, Table]:
        """Return the truth of the specimen within, and the names of the processes."""
        processes: Sequence[Any] = self.recipe.processes
        names = [process.process for process in processes]
        return {**self.base.truth(), "processes": {"name": np.array(names or [""], dtype="S")}}

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences of the specimen within, and about published doses."""
        processes: Sequence[Any] = self.recipe.processes
        told = [note for p in processes if isinstance(p, ContrastFading) for note in p.notes]
        return (*self.base.notes, *told)

    @property
    def known(self) -> Mapping[str, Any]:
        """What an operator knows of the specimen within."""
        return self.base.known

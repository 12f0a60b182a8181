"""Several microscopes, one after another, on one specimen: correlative work.

Every microscope makes its own frames with its own signals, settings and truth, under its own
name; the specimen is the same to the last molecule.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator

from nanophantom.instruments._family import Instrument
from nanophantom.simcore.fields import Array, Table
from nanophantom.simcore.models import member
from nanophantom.simcore.runs import Acquisition, Cost, Frame, Parts, Run, SignalSpec
from nanophantom.simcore.specimens import Specimen


class Several(Instrument):
    """Several microscopes in turn on one and the same specimen.

    Signals, settings and truth of each carry its name in front: ``sted_image``. None leaves a mark
    on the specimen that another would see (bleached dyes, say).
    """

    kind: Literal["several"] = "several"
    microscopes: Mapping[str, member(Instrument)] = Field(min_length=1, max_length=12)  # type: ignore[valid-type]
    """The microscopes by name, in the order of their use."""

    @field_validator("microscopes")
    @classmethod
    def _named(cls, value: Mapping[str, Instrument]) -> Mapping[str, Instrument]:
        for name, microscope in value.items():
            if not name.isidentifier() or not name.isascii() or name.startswith("_"):
                raise ValueError(f"{name!r} is no name: letters, digits and _, a letter first")
            if isinstance(microscope, Several):
                raise ValueError(f"{name}: list its microscopes here instead of nesting them")
        return value

    @classmethod
    def small(cls) -> Self:
        """Return two small microscopes."""
        return cls(microscopes={"first": {"kind": "widefield", "camera": _SMALL_CAMERA},
                                "second": {"kind": "smlm", "camera": _SMALL_CAMERA,
                                           "n_frames": 3}})  # fmt: skip

    def input_files(self) -> dict[str, Path]:
        """Return the files that the microscopes name."""
        return {
            f"microscopes.{name}.{knob}": file
            for name, microscope in self.microscopes.items()
            for knob, file in microscope.input_files().items()
        }

    def plan(self, specimen: Specimen, run: Run) -> SeveralAcquisition:
        """Plan every microscope, each at an address of its own.

        Raises
        ------
        ValueError
            A microscope can't look at this specimen; its name stands before the reason.
        """
        plans: dict[str, Acquisition] = {}
        for name, microscope in self.microscopes.items():
            try:
                plans[name] = microscope.plan(specimen, run.at(name, 0))
            except ValueError as problem:
                raise ValueError(f"microscopes.{name}: {problem}") from problem
        return SeveralAcquisition(plans)


_SMALL_CAMERA: dict[str, Any] = {"width_px": 20, "height_px": 16}


class SeveralAcquisition(Acquisition):
    """The frames of several acquisitions, one after another."""

    def __init__(self, plans: Mapping[str, Acquisition]) -> None:
        self.plans = dict(plans)
        self.names = tuple(plans)
        lengths = [plan.n_frames for plan in plans.values()]
        self.starts = [0, *itertools.accumulate(lengths)]
        self.n_frames = self.starts[-1]
        self.in_threads = all(plan.in_threads for plan in plans.values())

    def signals(self) -> Mapping[str, SignalSpec]:
        """Return every microscope's signals, each in the frames of its own."""
        return {
            f"{name}_{signal}": replace(
                spec,
                ideal=None if spec.ideal is None else f"{name}_{spec.ideal}",
                frames=(self.starts[k], self.starts[k + 1]),
            )
            for k, (name, plan) in enumerate(self.plans.items())
            for signal, spec in plan.signals().items()
        }

    def settings(self) -> Mapping[str, Any]:
        """Return every microscope's settings under its name."""
        return {name: dict(plan.settings()) for name, plan in self.plans.items()}

    def expose(self, i: int, parts: Parts | None = None) -> Frame:
        """Let the microscope whose turn it is make its frame."""
        turn = bisect.bisect_right(self.starts, i) - 1
        name = self.names[turn]
        frame = self.plans[name].expose(i - self.starts[turn], self._own(name, parts))
        return Frame(
            i,
            _under(name, frame.signals),
            _under(name, frame.truth),
            {f"{name}_{table}": columns for table, columns in frame.tables.items()},
        )

    def truth(self, parts: Parts | None = None) -> Mapping[str, Table]:
        """Return every microscope's truth, and which frames are whose."""
        tables: dict[str, Table] = {}
        for name, plan in self.plans.items():
            own = plan.truth(self._own(name, parts))
            tables |= {f"{name}_{table}": columns for table, columns in own.items()}
        return tables

    def truth_outline(self) -> Mapping[str, str]:
        """Return what the truth will hold."""
        return {
            f"{name}_{table}": line
            for name, plan in self.plans.items()
            for table, line in plan.truth_outline().items()
        }

    def cost(self) -> Cost:
        """Add up time and disk; memory is that of the microscope that needs most."""
        costs = [plan.cost() for plan in self.plans.values()]
        return Cost(
            max(c.memory_bytes for c in costs),
            sum(c.disk_bytes for c in costs),
            sum(c.cpu_s for c in costs),
        )

    def parts(self) -> Mapping[str, Callable[[], Mapping[str, Array]]]:
        """Return every microscope's parts under its name."""
        return {
            f"{name}.{part}": make
            for name, plan in self.plans.items()
            for part, make in plan.parts().items()
        }

    @property
    def notes(self) -> tuple[str, ...]:
        """Every microscope's notes."""
        return tuple(f"{name}: {note}" for name, plan in self.plans.items() for note in plan.notes)

    def warm_up(self) -> None:
        """Let every microscope prepare."""
        for plan in self.plans.values():
            plan.warm_up()

    def _own(self, name: str, parts: Parts | None) -> Parts | None:
        if parts is None:
            return None
        return {p: parts[f"{name}.{p}"] for p in self.plans[name].parts()}


def _under(name: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {f"{name}_{key}": values for key, values in arrays.items()}

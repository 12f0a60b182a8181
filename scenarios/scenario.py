"""A scenario: a sample under an instrument, and the tasks that are set on the data."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from nanophantom.instruments._family import Instrument
from nanophantom.samples._family import Sample
from nanophantom.simcore.models import Model, member
from nanophantom.simcore.runs import Run

Barrier = Annotated[int, Field(ge=1, le=100)]


class Scenario(Model):
    """A recipe, resolved: everything that decides a dataset."""

    name: str = Field(default="unnamed", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Short name; the dataset's folder is called so unless told otherwise."""
    title: str = ""
    """One line for the catalogue."""
    description: str = ""
    """What is simulated and why, for the report."""
    barriers: tuple[Barrier, ...] = ()
    """Ids of the barriers of nanocharacterization that this scenario expresses."""
    seed: int = Field(default=1, ge=0)
    """Root of every random stream."""
    item: int = Field(default=0, ge=0)
    """Which member of a corpus this is; each has streams of its own."""
    sample: member(Sample)  # type: ignore[valid-type]
    """What is looked at."""
    instrument: member(Instrument)  # type: ignore[valid-type]
    """What looks at it."""
    tasks: tuple[str, ...] = ()
    """Analysis tasks set on the data, by name."""

    def run(self) -> Run:
        """Return the address under which this item draws everything random."""
        return Run(self.seed, (f"item:{self.item}",))

"""The family of instruments."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from nanophantom.simcore.models import Family
from nanophantom.simcore.runs import Acquisition, Run
from nanophantom.simcore.specimens import Specimen


class Instrument(Family):
    """A virtual instrument; ``plan(specimen, run)`` draws all that is drawn once."""

    folder: ClassVar[str] = "nanophantom.instruments"
    entry_point_group: ClassVar[str] = "nanophantom.instruments"

    def input_files(self) -> dict[str, Path]:
        """Return the files that the recipe names: path of the knob ("tip.file") -> file."""
        return {}

    @abstractmethod
    def plan(self, specimen: Specimen, run: Run) -> Acquisition:
        """Plan an acquisition of this specimen; frames are made by ``expose(i)``."""

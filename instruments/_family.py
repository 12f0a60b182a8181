"""The family of instruments."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from nanophantom.simcore.models import Family
from nanophantom.simcore.runs import Acquisition, Run
from nanophantom.simcore.specimens import Specimen


class Instrument(Family):
    """A virtual instrument; ``plan(specimen, run)`` draws all that is drawn once."""

    folder: ClassVar[str] = "nanophantom.instruments"
    entry_point_group: ClassVar[str] = "nanophantom.instruments"

    @abstractmethod
    def plan(self, specimen: Specimen, run: Run) -> Acquisition:
        """Plan an acquisition of this specimen; frames are made by ``expose(i)``."""

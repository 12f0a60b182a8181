"""The family of samples: recipes of specimens."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from nanophantom.simcore.models import Family
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import Specimen


class Sample(Family):
    """A recipe of a specimen; ``make(run)`` draws one."""

    folder: ClassVar[str] = "nanophantom.samples"
    entry_point_group: ClassVar[str] = "nanophantom.samples"

    def input_files(self) -> dict[str, Path]:
        """Return the files that the recipe names: path of the knob ("layers.0.file") -> file.

        A dataset that keeps copies of them, and a recipe with the copies' names there, can be made
        again anywhere.
        """
        return {}

    @abstractmethod
    def make(self, run: Run) -> Specimen:
        """Build the specimen; the same run gives the same specimen."""

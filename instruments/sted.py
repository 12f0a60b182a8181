"""A STED microscope: a confocal one whose beam is trimmed by a doughnut that switches dyes off."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field

from nanophantom.instruments._scanned_fluorescence import (
    Depletion,
    ScanAcquisition,
    ScanningMicroscope,
)
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import Specimen


class Sted(ScanningMicroscope):
    """Stimulated emission depletion microscope.

    The doughnut leaves dyes in its dark centre shining; it bleaches, too. It is dark on the axis at
    any height, so spots become narrower across the axis, not along it.
    """

    kind: Literal["sted"] = "sted"
    pixel_size_nm: float = Field(default=20.0, gt=0, le=1e4)
    """Distance of pixels and of lines."""
    depletion: Depletion = Depletion()
    """The beam that switches dyes off."""

    @classmethod
    def small(cls) -> Self:
        """Return two frames of twenty by sixteen pixels."""
        return cls(width_px=20, height_px=16, n_frames=2)

    @property
    def depleting(self) -> Depletion | None:
        """The depleting beam."""
        return self.depletion

    def plan(self, specimen: Specimen, run: Run) -> ScanAcquisition:
        """Tabulate the spots and find where in the scans each dye bleaches.

        Raises
        ------
        ValueError
            The specimen doesn't fluoresce, or the optics can't be.
        """
        return ScanAcquisition(self, specimen, run)

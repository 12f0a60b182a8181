"""A confocal microscope: a focused beam scans the specimen, a pinhole keeps out what is blurred."""

from __future__ import annotations

from typing import Literal, Self

from nanophantom.instruments._scanned_fluorescence import ScanAcquisition, ScanningMicroscope
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import Specimen


class Confocal(ScanningMicroscope):
    """Confocal laser scanning microscope, or without pinhole a plain laser scanning microscope.

    Dyes shine in proportion to the light on them and bleach under the beam, in the order of the
    scan, each after a number of photons that is drawn once.
    """

    kind: Literal["confocal"] = "confocal"

    @classmethod
    def small(cls) -> Self:
        """Return two frames of twenty by sixteen pixels."""
        return cls(width_px=20, height_px=16, n_frames=2)

    def plan(self, specimen: Specimen, run: Run) -> ScanAcquisition:
        """Tabulate the spots and find where in the scans each dye bleaches.

        Raises
        ------
        ValueError
            The specimen doesn't fluoresce, or the optics can't be.
        """
        return ScanAcquisition(self, specimen, run)

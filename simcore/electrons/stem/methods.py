"""The ways to compute a scan, behind one interface: a Fourier series of the image, or a scan."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.electrons.stem.engine import ScanEngine
from nanophantom.simcore.electrons.stem.gram import GramMatrices
from nanophantom.simcore.electrons.stem.probe import Probe
from nanophantom.simcore.electrons.stem.scan import Signals
from nanophantom.simcore.electrons.stem.unit_cell import UnitCell, unit_cell_gram


@dataclass(frozen=True, eq=False)
class Method(ABC):
    """A way to compute the images of a scan.

    Attributes
    ----------
    cpu_s, memory_bytes : float
        What it is expected to cost in all, and at a time.
    """

    cpu_s: float
    memory_bytes: float

    gives_series = False
    """Whether `gram` gives the image at every position, or `scan` those that are asked for."""
    in_cell = True
    """Whether positions count from the first sample of the engine's grid; else from the
    specimen's origin."""

    def gram(self, engine: ScanEngine, configuration: int) -> GramMatrices:
        """Return the Gram matrices of one configuration."""
        raise TypeError(f"{type(self).__name__} gives no Gram matrices")

    def scan(
        self, engine: ScanEngine, configuration: int, probe: Probe, positions_A: npt.ArrayLike
    ) -> Signals:
        """Return what one configuration gives at some positions."""
        raise TypeError(f"{type(self).__name__} gives Gram matrices")

    def warm_up(self, engine: ScanEngine) -> None:
        """Plan the FFTs."""
        engine.warm_up()


@dataclass(frozen=True, eq=False)
class ByMultislice(Method):
    """Every position on its own."""

    def scan(
        self, engine: ScanEngine, configuration: int, probe: Probe, positions_A: npt.ArrayLike
    ) -> Signals:
        """Propagate the probe from every position."""
        return engine.scan(configuration, probe, positions_A)


@dataclass(frozen=True, eq=False)
class ByScatteringMatrix(Method):
    """Every beam of the aperture, once."""

    gives_series = True

    def gram(self, engine: ScanEngine, configuration: int) -> GramMatrices:
        """Propagate the beams."""
        return engine.gram(configuration)


@dataclass(frozen=True, eq=False)
class ByUnitCell(Method):
    """The scattering matrix of a static, perfect crystal, from one unit cell.

    Attributes
    ----------
    cell
        Of the crystal; positions count from the specimen's origin.
    repeats
        Unit cells of the supercell that holds the probe.
    """

    cell: UnitCell
    repeats: tuple[int, int]

    gives_series = True
    in_cell = False

    def gram(self, engine: ScanEngine, configuration: int) -> GramMatrices:
        """Propagate the beams on the unit cell."""
        settings = engine.configurations.settings
        return unit_cell_gram(
            engine.probe,
            self.cell,
            self.repeats,
            engine.grid.k_max,
            engine.detectors,
            engine.configurations.slice_thickness_A,
            engine.fineness,
            settings.scattering_factors,
            tilt_mrad=engine.tilt_mrad,
        )

    def warm_up(self, engine: ScanEngine) -> None:
        """Plan the FFTs of the unit cell."""
        depth = self.cell.positions_A[:, 2]
        top = depth < depth.min() + 0.5
        layer = UnitCell(self.cell.vectors_A, self.cell.numbers[top], self.cell.positions_A[top])
        replace(self, cell=layer).gram(engine, 0)

"""The ways to compute a scan, behind one interface: a Fourier series of the image, or a scan.

See `planner` for how one is chosen.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy.typing as npt

from nanophantom.simcore.electrons.multislice import Multislice
from nanophantom.simcore.electrons.stem import interpolated, parents, windows
from nanophantom.simcore.electrons.stem.engine import ScanEngine
from nanophantom.simcore.electrons.stem.gram import GramMatrices
from nanophantom.simcore.electrons.stem.probe import Probe
from nanophantom.simcore.electrons.stem.scan import Signals
from nanophantom.simcore.electrons.stem.unit_cell import UnitCell, unit_cell_gram

Scanner = Callable[[Probe, npt.ArrayLike], Signals]
"""Gives what the detectors see of a probe at positions (n, 2), Å."""


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
    """Whether `gram` gives the image at every position, or a `scanner` those that are asked for."""
    in_cell = True
    """Whether positions count from the first sample of the engine's grid; else from the
    specimen's origin."""
    positions_a_part = 256
    """Positions that are worth the preparation of a scanner."""

    def gram(self, engine: ScanEngine, configuration: int) -> GramMatrices:
        """Return the Gram matrices of one configuration."""
        raise TypeError(f"{type(self).__name__} gives no Gram matrices")

    def scanner(self, engine: ScanEngine, configuration: int) -> Scanner:
        """Prepare one configuration for scans."""
        raise TypeError(f"{type(self).__name__} gives Gram matrices")

    def warm_up(self, engine: ScanEngine) -> None:
        """Plan the FFTs."""
        engine.warm_up()


@dataclass(frozen=True, eq=False)
class ByMultislice(Method):
    """Every position on its own."""

    def scanner(self, engine: ScanEngine, configuration: int) -> Scanner:
        """Make the slices."""
        slices = engine.slices(configuration)
        return lambda probe, positions: engine.scan(slices, probe, positions)


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
        return unit_cell_gram(
            engine.probe,
            self.cell,
            self.repeats,
            engine.grid.k_max,
            engine.detectors,
            engine.configurations.slice_thickness_A,
            engine.fineness,
            engine.configurations.settings.scattering_factors,
            tilt_mrad=engine.tilt_mrad,
        )

    def warm_up(self, engine: ScanEngine) -> None:
        """Plan the FFTs of the unit cell, with its first layer."""
        depth = self.cell.positions_A[:, 2]
        top = depth < depth.min() + 0.5
        layer = UnitCell(self.cell.vectors_A, self.cell.numbers[top], self.cell.positions_A[top])
        replace(self, cell=layer).gram(engine, 0)


@dataclass(frozen=True, eq=False)
class ByParents(Method):
    """The scattering matrix from a few parent beams; `rings` of them."""

    rings: int

    gives_series = True

    def gram(self, engine: ScanEngine, configuration: int) -> GramMatrices:
        """Propagate the parents and interpolate the other beams."""
        return parents.gram_matrices(
            engine.probe,
            engine.slices(configuration),
            engine.grid,
            engine.weights,
            engine.configurations.exit_A,
            self.rings,
            engine.tilt_mrad,
        )


@dataclass(frozen=True, eq=False)
class ByInterpolation(Method):
    """PRISM: every `factor`-th beam, and windows of that part of the cell."""

    factor: int

    positions_a_part = 1 << 30

    def scanner(self, engine: ScanEngine, configuration: int) -> Scanner:
        """Propagate the beams."""
        matrix = interpolated.interpolated_matrix(
            engine.probe,
            engine.slices(configuration),
            engine.grid,
            (self.factor, self.factor),
            engine.tilt_mrad,
        )
        return lambda probe, positions: matrix.scan(positions, engine.detectors, probe)

    def warm_up(self, engine: ScanEngine) -> None:
        """Plan the FFTs of the waves and of the windows."""
        super().warm_up(engine)
        matrix = interpolated.interpolated_matrix(
            engine.probe, engine.no_slices(), engine.grid, (self.factor, self.factor)
        )
        matrix.scan([(0.0, 0.0)], engine.detectors)


@dataclass(frozen=True, eq=False)
class ByWindow(Method):
    """Every position on its own, in a window of the cell around it; `size_A` its edge."""

    size_A: float

    def scanner(self, engine: ScanEngine, configuration: int) -> Scanner:
        """Make the slices."""
        slices = engine.slices(configuration)
        return lambda probe, positions: windows.scan(
            probe,
            positions,
            slices,
            engine.grid,
            engine.detectors,
            self.size_A,
            engine.tilt_mrad,
        )

    def warm_up(self, engine: ScanEngine) -> None:
        """Plan the FFTs of the window."""
        super().warm_up(engine)
        Multislice(windows.window_grid(engine.grid, self.size_A), engine.probe.energy_kev)

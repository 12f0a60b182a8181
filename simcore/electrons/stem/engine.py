"""A specimen under a scanned probe: from its configurations to what detectors see.

Three exact ways lead there. Plain multislice sends a probe through the slices for every position.
The scattering matrix sends every beam of the aperture through them, once for all positions; its
Gram matrices are the image. In a static, perfect crystal the beams that differ by a reciprocal
lattice vector live together on one unit cell, which makes the same matrices at a fraction of the
cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.electrons.configurations import Configurations
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.stem.detectors import Detector, Weights
from nanophantom.simcore.electrons.stem.gram import GramMatrices
from nanophantom.simcore.electrons.stem.probe import Probe, lattice
from nanophantom.simcore.electrons.stem.s_matrix import gram_matrices
from nanophantom.simcore.electrons.stem.scan import Device, Signals, Slices, scan
from nanophantom.simcore.electrons.transmission import Transmission

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ScanEngine:
    """One microscope looking at the configurations of one specimen.

    Attributes
    ----------
    probe
        Nominal probe: aperture and energy; its aberrations may be replaced afterwards.
    detectors
        What is recorded.
    grid
        Of the waves.
    configurations
        The specimen, its potentials sampled `fineness` times finer than the waves.
    fineness : int
    budget_bytes : int
        Memory for slices and waves.
    tilt_mrad : (x, y)
        Direction of the beam.
    device : {"cpu", "gpu"}
        Where waves are propagated.
    """

    probe: Probe
    detectors: Sequence[Detector]
    grid: Grid
    configurations: Configurations
    fineness: int
    budget_bytes: int
    tilt_mrad: tuple[float, float] = (0.0, 0.0)
    device: Device = "cpu"

    @cached_property
    def weights(self) -> Weights:
        """What the detectors weigh on the waves of the grid."""
        ky, kx = self.grid.wave_frequencies
        return Weights.of(
            self.detectors, kx, ky, self.probe.energy_kev, self.grid.wave_mask, lattice(self.grid)
        )

    def slices(self, configuration: int) -> Slices:
        """Return the transmission functions of one configuration, kept or made as needed."""
        transmission = Transmission(self.grid, self.probe.energy_kev, self.fineness)
        _, distinct = self.configurations.slice_count(configuration)
        return Slices.within(
            lambda: self.configurations.steps(configuration, transmission),
            distinct * 8 * int(np.prod(self.grid.shape)),
            self.budget_bytes,
            self.grid,
        )

    def no_slices(self) -> Slices:
        """Return empty space."""
        return Slices(lambda: iter(()), [], 1)

    def scan(self, slices: Slices, probe: Probe, positions_A: npt.ArrayLike) -> Signals:
        """Scan a probe over the slices of a configuration by plain multislice."""
        return scan(
            probe,
            positions_A,
            slices,
            self.grid,
            self.weights,
            self.tilt_mrad,
            device=self.device,
        )

    def gram(self, configuration: int) -> GramMatrices:
        """Return the Gram matrices of one configuration by its scattering matrix."""
        return gram_matrices(
            self.probe,
            self.slices(configuration),
            self.grid,
            self.weights,
            self.tilt_mrad,
            device=self.device,
        )

    def warm_up(self) -> None:
        """Plan every transform that the scattering needs."""
        from nanophantom.simcore.electrons.multislice import Multislice

        Multislice(self.grid, self.probe.energy_kev)
        Transmission(self.grid, self.probe.energy_kev, self.fineness)
        next(self.configurations.steps(0), None)

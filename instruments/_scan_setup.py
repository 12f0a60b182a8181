"""What a scan needs before it starts: foci, the specimen around the view, grid, slices."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.electrons.cell import Cell, depth_nm
from nanophantom.simcore.electrons.coherence import focal_quadrature
from nanophantom.simcore.electrons.configurations import Configurations
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.delocalisation import delocalisation
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.optics import ProbeOptics
from nanophantom.simcore.electrons.stem.engine import ScanEngine
from nanophantom.simcore.electrons.stem.probe import Probe
from nanophantom.simcore.electrons.transmission import SCAN_OVERSAMPLING, fineness_for, finer
from nanophantom.simcore.history import History
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import HasAtoms, Specimen

if TYPE_CHECKING:
    from nanophantom.instruments.stem import STEM

Floats = npt.NDArray[np.float64]


def focal_spread(optics: ProbeOptics, energy_kev: float) -> tuple[Floats, Floats]:
    """Return the defoci (Å) and weights that stand for the focal spread."""
    spread = optics.focal_spread_A(energy_kev)
    if not spread:
        return np.zeros(1), np.ones(1)
    nodes, weights, _ = focal_quadrature(7)
    return spread * nodes, weights


def margin_nm(stem: STEM, specimen: Specimen, probes: tuple[Probe, ...]) -> float:
    """Return how much specimen around the scan the probe feels.

    Its aberrations spread it, and its rays spread on their way through the specimen.
    """
    if stem.multislice.margin_nm is not None:
        return stem.multislice.margin_nm
    aberrated = max(
        delocalisation(p.coefficients, stem.energy_kev, stem.probe.semiangle_mrad) for p in probes
    )
    thickness = 0.0
    if isinstance(specimen, HasAtoms):
        view = Cell(stem.scan.pixel_size_nm, stem.scan.shape, (0, 0), stem.scan.shape).window
        thickness = depth_nm(specimen.atoms_within(view.grown(0.5)))
    return 0.4 + aberrated / 10.0 + 1e-3 * stem.probe.semiangle_mrad * thickness


def scan_engine(stem: STEM, specimen: Specimen, cell: Cell, probe: Probe, run: Run) -> ScanEngine:
    """Return the engine for a cell: grid, slices, detectors."""
    k_max = math.sin(1e-3 * stem.band_limit_mrad) / float(wavelength(stem.energy_kev))
    oversampling = stem.multislice.oversampling or SCAN_OVERSAMPLING
    grid = Grid.for_wave(cell.extent_A, k_max, oversampling)
    numbers: npt.NDArray[np.int64] | list[int] = (
        np.unique(specimen.atoms_within(cell.window).numbers)
        if isinstance(specimen, HasAtoms)
        else []
    )
    fineness = fineness_for(numbers)
    configurations = Configurations.of(
        specimen,
        cell,
        finer(grid, fineness),
        stem.multislice,
        stem.energy_kev,
        run,
        stem.stage_tilt_mrad,
    )
    return ScanEngine(
        probe=replace(probe, coefficients={}),
        detectors=stem.detectors,
        grid=grid,
        configurations=configurations,
        fineness=fineness,
        budget_bytes=int(1e9 * stem.calculation.memory_gb),
        device=stem.calculation.device,
    )


def check_history(stem: STEM, history: History) -> None:
    """Refuse what a scan of a changing specimen can't show.

    Raises
    ------
    ValueError
        The specimen's spots fade, or frames average different numbers of configurations.
    """
    if history.fading is not None:
        raise ValueError(
            "sample.processes: fading acts on images and patterns of a broad beam; for scans take "
            "amorphization, mass-loss or rising-b-factor, which act on atoms"
        )
    if stem.configurations_of_frame is not None:
        raise ValueError(
            "instrument.configurations_of_frame: a study of convergence needs a specimen that "
            "doesn't change"
        )

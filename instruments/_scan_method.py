"""Which way to compute a scan: by cost, by what the specimen allows, by what was asked for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nanophantom.instruments._scanning import ScanPath
from nanophantom.simcore.electrons.stem.engine import ScanEngine
from nanophantom.simcore.electrons.stem.methods import (
    ByMultislice,
    ByScatteringMatrix,
    ByUnitCell,
    Method,
)
from nanophantom.simcore.electrons.stem.probe import Beams, Probe
from nanophantom.simcore.electrons.stem.unit_cell import UnitCell, repeats_for
from nanophantom.simcore.specimens import HasLattice, Specimen

if TYPE_CHECKING:
    from nanophantom.instruments.stem import STEM

SECONDS_A_POINT = 6e-9
"""Time of one wave in one slice, per sample of its grid, on a present-day core."""


def choose_method(
    stem: STEM,
    specimen: Specimen,
    engine: ScanEngine,
    probes: tuple[Probe, ...],
    path: ScanPath,
    n_foci: int,
) -> tuple[Method, tuple[str, ...]]:
    """Choose the cheapest exact method, or take the one that was asked for."""
    wanted = stem.calculation.method
    points = math.prod(engine.grid.shape)
    slices, _ = engine.configurations.slice_count()
    wave_s = SECONDS_A_POINT * points * max(1, slices)
    configurations = engine.configurations.count
    positions = path.t_s.size * n_foci
    beams = len(Beams.inside(engine.grid, engine.probe))
    channels = len(engine.weights.names)
    places = len(engine.weights.place)

    column = _column(stem, specimen)
    if wanted == "unit-cell" and column is None:
        raise ValueError(
            "instrument.calculation.method: unit-cell needs a static crystal that is periodic "
            "across the beam (sample kind crystal, multislice.thermal_motion: false, no tilt)"
        )
    if wanted in ("unit-cell", "auto") and column is not None:
        width = min(engine.grid.extent_A)
        repeats = repeats_for(column.vectors_A, width)
        note = (
            f"scattering: unit cell, {repeats[0]} x {repeats[1]} cells hold the probe, {beams} "
            "beams; exact, the image repeats with the crystal"
        )
        return ByUnitCell(beams * wave_s / 4, 2e8, column, repeats), (note,)

    matrix = 8.0 * beams * places
    gram_s = 4e-11 * beams**2 * places * channels / 3
    by_matrix = configurations * (beams * wave_s + gram_s)
    by_multislice = configurations * positions * wave_s
    fits = matrix + 16.0 * channels * beams**2 < 1e9 * stem.calculation.memory_gb
    if wanted == "scattering-matrix" or (wanted == "auto" and fits and by_matrix < by_multislice):
        note = (
            f"scattering: matrix of {beams} beams instead of {positions} probes, "
            f"{matrix / 1e9:.2g} GB; exact"
        )
        memory = matrix + 32.0 * channels * beams**2 + engine.budget_bytes
        return ByScatteringMatrix(by_matrix, memory), (note,)
    note = f"scattering: multislice of {positions} probes; exact"
    return ByMultislice(by_multislice, float(engine.budget_bytes)), (note,)


def _column(stem: STEM, specimen: Specimen) -> UnitCell | None:
    """Return the crystal's cell across the beam if it may stand for the whole specimen."""
    if stem.multislice.thermal_motion or stem.stage_tilt_mrad != (0.0, 0.0):
        return None
    if not isinstance(specimen, HasLattice):
        return None
    column = specimen.periodic_column()
    try:
        return None if column is None else UnitCell.of_column(column)
    except ValueError:  # a lattice that doesn't lie along x: the general way does it
        return None

"""Which way to compute a scan: by cost, by what the specimen allows, by what was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nanophantom.instruments._scanning import Calculation, ScanPath
from nanophantom.simcore import parallel
from nanophantom.simcore.arrays import available
from nanophantom.simcore.electrons.stem.costs import Choice, Scan
from nanophantom.simcore.electrons.stem.engine import ScanEngine
from nanophantom.simcore.electrons.stem.methods import (
    ByInterpolation,
    ByMultislice,
    ByParents,
    ByScatteringMatrix,
    ByUnitCell,
    ByWindow,
    Method,
)
from nanophantom.simcore.electrons.stem.planner import Plan, measured_by, plan
from nanophantom.simcore.electrons.stem.probe import Beams, Probe
from nanophantom.simcore.electrons.stem.stated_error import Controls
from nanophantom.simcore.electrons.stem.unit_cell import UnitCell, repeats_for
from nanophantom.simcore.electrons.stem.windows import probe_reach_A
from nanophantom.simcore.specimens import HasLattice, Specimen

if TYPE_CHECKING:
    from nanophantom.instruments.stem import STEM

THREADS = 2
"""Processors that the estimates of time assume; a choice must not depend on the machine."""


def choose_method(
    stem: STEM,
    specimen: Specimen,
    engine: ScanEngine,
    probes: tuple[Probe, ...],
    path: ScanPath,
    corner_nm: tuple[float, float],
    n_foci: int,
) -> tuple[Method, tuple[str, ...]]:
    """Choose the cheapest method that is good enough, or take the one that was asked for.

    Raises
    ------
    ValueError
        What was asked for can't be done with this specimen, or not in the memory allowed.
    """
    asked = stem.calculation
    if asked.device == "gpu":
        there = available()
        if not there:
            raise ValueError(
                f"instrument.calculation.device: gpu can't be used: {there.reason}; write cpu"
            )
    column = _column(stem, specimen)
    if asked.method == "unit-cell" and column is None:
        raise ValueError(
            "instrument.calculation.method: unit-cell needs a static crystal that is periodic "
            "across the beam (sample kind crystal, multislice.thermal_motion: false, no tilt)"
        )
    repeats = None
    if column is not None:
        repeats = repeats_for(column.vectors_A, min(engine.grid.extent_A))
    slices, distinct = engine.configurations.slice_count()
    scan = Scan(
        grid=engine.grid,
        positions=path.t_s.size,
        beams=len(Beams.inside(engine.grid, engine.probe)),
        slices=max(1, slices),
        distinct_slices=max(1, distinct),
        channels=len(engine.weights.names),
        places=int(np.count_nonzero(engine.weights.values)),
        budget_bytes=engine.budget_bytes,
        configurations=engine.configurations.count,
        probes=n_foci,
        fineness=engine.fineness,
        unit_cells=repeats,
        threads=THREADS,
    )
    thickness_A = engine.configurations.exit_A
    chosen = plan(
        scan,
        asked.largest_error,
        _Trials(engine, probes[0], path.positions_A(0, corner_nm), thickness_A),
        probe_reach_A(probes[0], thickness_A),
        _forced(asked),
    )
    notes: tuple[str, ...] = (f"scattering: {chosen}",)
    if chosen.warning is not None:
        notes += (f"warning: {chosen.warning}",)
    return _method(chosen, column, repeats), notes


class _Trials:
    """Measures the stated error of approximations, from control positions made when needed."""

    def __init__(
        self,
        engine: ScanEngine,
        probe: Probe,
        positions_A: npt.NDArray[np.float64],
        thickness_A: float,
    ) -> None:
        self._what = engine, probe, positions_A, thickness_A
        self._controls: Controls | None = None

    def __call__(self, method: Choice) -> float:
        engine, probe, positions, thickness = self._what
        if self._controls is None:
            self._controls = Controls(
                probe,
                positions,
                engine.slices(0),
                engine.grid,
                engine.detectors,
                tilt_mrad=engine.tilt_mrad,
                threads=parallel.threads_here(),
            )
        return measured_by(self._controls, thickness)(method).overall


def _forced(asked: Calculation) -> Choice | None:
    """Return the method that a recipe insists on."""
    if asked.method == "auto":
        return None
    if asked.method == "prism":
        return Choice("prism", asked.interpolation)
    if asked.method == "parents":
        return Choice("parents", asked.parent_rings)
    if asked.method == "windows":
        return Choice("window", 10.0 * asked.window_nm)
    if asked.method == "scattering-matrix":
        return Choice("matrix")
    return Choice(asked.method)


def _method(chosen: Plan, column: UnitCell | None, repeats: tuple[int, int] | None) -> Method:
    cost = THREADS * chosen.seconds, float(chosen.bytes)
    name, value = chosen.method.name, chosen.method.value
    if name == "unit-cell":
        assert column is not None
        assert repeats is not None
        return ByUnitCell(*cost, column, repeats)
    if name == "matrix":
        return ByScatteringMatrix(*cost)
    if name == "parents":
        return ByParents(*cost, int(value))
    if name == "prism":
        return ByInterpolation(*cost, int(value))
    if name == "window":
        return ByWindow(*cost, value)
    return ByMultislice(*cost)


def _column(stem: STEM, specimen: Specimen) -> UnitCell | None:
    """Return the crystal's cell across the beam if it may stand for the whole specimen."""
    settings = stem.multislice
    if settings.thermal_motion or settings.projection == "finite" or settings.ionic_charges:
        return None
    if stem.stage_tilt_mrad != (0.0, 0.0) or not isinstance(specimen, HasLattice):
        return None
    column = specimen.periodic_column()
    try:
        return None if column is None else UnitCell.of_column(column)
    except ValueError:  # a lattice that doesn't lie along x: the general way does it
        return None

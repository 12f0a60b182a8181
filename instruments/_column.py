"""What instruments with an electron-optical column share: an energy and a preset."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
from pydantic import Field, model_validator

from nanophantom.instruments import _presets
from nanophantom.instruments._family import Instrument
from nanophantom.simcore.electrons.cell import Cell
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.grid import Grid, oversampling_for
from nanophantom.simcore.electrons.settings import Multislice
from nanophantom.simcore.electrons.tuning import AberrationDrift, Tuning
from nanophantom.simcore.electrons.tuning import Tuned as Tuned
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import HasAtoms, Specimen


def _show_sources(schema: dict[str, Any]) -> None:
    schema["presets"] = {part: _presets.sources(part) for part in ("imaging", "probe")}


LARGEST_BAND_MRAD = 1000.0
MOST_SAMPLES = 100_000_000
"""Samples of a grid; the arrays of a wave then fill some gigabytes."""


class Column(Instrument):
    """An electron-optical column; one with a field ``probe`` takes that half of a preset."""

    preset: _presets.PresetName | None = Field(default=None, json_schema_extra=_show_sources)
    """A column by name; its numbers stand under whatever the recipe says itself."""
    energy_kev: float = Field(default=300.0, ge=10, le=3000)
    """Beam energy."""
    tuning: Tuning = Tuning()
    """How far the lens is from its nominal state, drawn once; the operator isn't told."""
    aberration_drift: AberrationDrift = AberrationDrift()
    """How the lens changes in time; every frame then has a lens of its own."""

    @model_validator(mode="before")
    @classmethod
    def _take_preset(cls, data: Any) -> Any:
        part = "probe" if "probe" in cls.model_fields else "imaging"
        return _presets.under(data, part) if isinstance(data, Mapping) else data

    def tuned(
        self,
        nominal: Mapping[str, float],
        t_s: npt.ArrayLike,
        run: Run,
        defoci_nm: npt.ArrayLike | None = None,
    ) -> Tuned:
        """Draw the lens as it really is in every frame; see `Tuned.draw`."""
        return Tuned.draw(
            self.tuning,
            self.aberration_drift,
            nominal,
            t_s,
            run.rng("tuning"),
            run.rng("aberration drift"),
            defoci_nm,
        )

    def grid_for(
        self, specimen: Specimen, cell: Cell, settings: Multislice, band_limit_mrad: float
    ) -> Grid:
        """Choose the grid on which waves meet the slices of a specimen."""
        oversampling = settings.oversampling
        if oversampling is None:
            oversampling = oversampling_for(())
            if isinstance(specimen, HasAtoms):
                oversampling = oversampling_for(specimen.atoms_within(cell.window).numbers)
        if band_limit_mrad > LARGEST_BAND_MRAD:
            raise ValueError(
                f"instrument: waves to {band_limit_mrad:.4g} mrad are asked for, beyond "
                f"{LARGEST_BAND_MRAD:g} they can't be computed; lower the camera's angles or "
                "multislice.band_limit_mrad"
            )
        k_max = math.sin(1e-3 * band_limit_mrad) / float(wavelength(self.energy_kev))
        grid = Grid.for_wave(cell.extent_A, k_max, oversampling)
        if math.prod(grid.shape) > MOST_SAMPLES:
            raise ValueError(
                f"instrument: the simulated grid would have {grid.shape[0]} x {grid.shape[1]} "
                f"samples ({cell.extent_A[1] / 10:.3g} nm wide, waves to {band_limit_mrad:.4g} "
                "mrad); lower the field of view, or multislice.band_limit_mrad"
            )
        return grid

"""A specimen in its cell, sliced: what is given, in which order, at which distances."""

from __future__ import annotations

import numpy as np
import pytest

from nanophantom.samples.amorphous_film import AmorphousFilm
from nanophantom.samples.crystal import Crystal
from nanophantom.samples.stack import Stack
from nanophantom.simcore.electrons.cell import Cell
from nanophantom.simcore.electrons.configurations import Configurations
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.multislice import Multislice as Engine
from nanophantom.simcore.electrons.multislice import plane_wave
from nanophantom.simcore.electrons.settings import Multislice
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import Specimen

CELL = Cell(0.0781, (20, 20), (0, 0), (20, 20))  # four cells of SrTiO3 wide
GRID = Grid.for_wave(CELL.extent_A, 3.0)


def _of(specimen: Specimen, **settings: object) -> Configurations:
    chosen = Multislice.model_validate({"thermal_configurations": 3, **settings})
    return Configurations.of(specimen, CELL, GRID, chosen, 200.0, Run(1))


def _strontium_titanate(thickness_nm: float = 1.5) -> Specimen:
    return Crystal(file="srtio3.cif", thickness_nm=thickness_nm).make(Run(1))


def test_a_perfect_crystal_makes_each_different_slice_once() -> None:
    """Eight planes, two kinds; the distances add up to the depth of the last one."""
    still = _of(_strontium_titanate(), thermal_motion=False)
    calls = []
    steps = list(still.steps(0, lambda potential: calls.append(1) or potential))  # type: ignore[func-returns-value]
    assert still.slice_count() == (8, 2)
    assert (len(steps), len(calls)) == (8, 2)
    assert sum(distance for _, distance in steps) == pytest.approx(still.exit_A)
    assert still.exit_A == pytest.approx(7 * 1.9525, abs=1e-3)
    assert still.count == 1
    moving = _of(_strontium_titanate())
    assert (moving.count, moving.slice_count()[1]) == (3, 8)


def test_configurations_differ_and_are_the_same_each_time() -> None:
    """The stream belongs to the number of the configuration."""
    moving = _of(_strontium_titanate())
    assert np.array_equal(moving.positions_A(1), moving.positions_A(1))
    assert not np.array_equal(moving.positions_A(1), moving.positions_A(2))


def test_finite_projection_gives_the_same_wave_as_thin_slices_of_whole_atoms_nearly() -> None:
    """The same projected matter between the same faces: waves differ by percents, not by more."""
    engine = Engine(GRID, 200.0)
    waves, totals = [], []
    for projection in ("infinite", "finite"):
        still = _of(
            _strontium_titanate(),
            thermal_motion=False,
            projection=projection,
            slice_thickness_nm=0.1,
        )
        waves.append(engine.propagate(plane_wave(GRID), still.steps(0)).wave_k)
        totals.append(sum(float(v.mean()) for v, _ in still.steps(0) if v is not None))
    assert totals[0] == pytest.approx(totals[1], rel=1e-4)
    scattered = np.linalg.norm(waves[0][1:])
    assert 1e-4 * scattered < np.linalg.norm(waves[1] - waves[0]) < 0.05 * scattered


def test_fields_and_atoms_meet_in_the_order_of_depth() -> None:
    """A random field behind a crystal: its layers come last, at their depths."""
    stack = Stack(
        layers=(
            Crystal(file="srtio3.cif", thickness_nm=0.8),
            AmorphousFilm(material="carbon", thickness_nm=2.0, made_of="field"),
        )
    ).make(Run(1))
    found = _of(stack, thermal_motion=False)
    assert len(found.layers) > 0
    steps = list(found.steps(0))
    assert len(steps) == found.slice_count()[0]
    assert all(distance >= 0 for _, distance in steps)
    assert sum(distance for _, distance in steps) == pytest.approx(found.exit_A)
    assert found.exit_A == pytest.approx(10 * max(layer.z_nm for layer in found.layers))


def test_ions_change_the_forward_scattering() -> None:
    """O2- scatters less at low angles than O; the field of a charge needs infinite projection."""
    neutral = _of(_strontium_titanate(), thermal_motion=False)
    ions = _of(
        _strontium_titanate(),
        thermal_motion=False,
        ionic_charges={"Sr": 2, "Ti": 4, "O": -2},
    )
    one, two = next(neutral.steps(0))[0], next(ions.steps(0))[0]
    assert one is not None
    assert two is not None
    assert 0.01 < np.linalg.norm(two - two.mean() - one + one.mean()) / np.linalg.norm(one) < 0.5
    with pytest.raises(ValueError, match="projection: infinite"):
        Multislice(ionic_charges={"O": -2}, projection="finite")


def test_an_empty_view_is_refused() -> None:
    """One line says so."""
    far = Cell(0.0781, (20, 20), (0, 0), (20, 20), centre_nm=(500.0, 0.0))
    from nanophantom.samples.structure import StructureSample

    particle = StructureSample.small().make(Run(1))
    with pytest.raises(ValueError, match="nothing lies in view"):
        Configurations.of(particle, far, GRID, Multislice(), 200.0, Run(1))

"""Electron waves against the floor: the two plain FFTs that any multislice needs in a slice.

Every round times the floor and the work one after the other on one thread; the ratio of a row is
the median over the rounds, so it holds on a busy machine too. Two specimens: a gold particle in
vacuum (1415 atoms, 60 Å, 1024 x 1024, abTEM's sampling and slices; one element) and a slab of
SrTiO3 (100 Å wide, three elements, grid chosen for k_max = 4.8 1/Å). Where abTEM can be imported it
does the same work, on one thread, in the same rounds; it also propagates through the empty slices,
and its time too is divided by the number of slices with atoms.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.cluster import Icosahedron
from ase.spacegroup import crystal

from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.multislice import Multislice, plane_wave
from nanophantom.simcore.electrons.potential import PotentialBuilder
from nanophantom.simcore.electrons.slicing import slice_atoms
from nanophantom.simcore.fft import Transform

ENERGY_KEV = 300.0
ROUNDS = 5


def main() -> None:
    """Print the table."""
    print(f"{'':34}{'ms a slice':>12}{'x floor':>10}   (median of {ROUNDS} rounds)")
    gold = _gold_particle()
    _compare("gold particle", gold, Grid((1024, 1024), (60.0, 60.0), 2 / 3 * 1024 / 120), 1.0)
    slab, edge_A = _strontium_titanate()
    _compare("SrTiO3 slab", slab, Grid.for_wave((edge_A, edge_A), k_max=4.8), 2.0)


def _compare(name: str, atoms: Atoms, grid: Grid, slice_thickness_A: float) -> None:
    numbers, xyz = atoms.numbers, atoms.positions
    slices = slice_atoms(xyz[:, 2], slice_thickness_A, numbers)
    engine = Multislice(grid, ENERGY_KEV, numbers)
    builder = PotentialBuilder(grid, numbers)
    plain = Transform(grid.shape)

    def floor() -> None:
        for _ in slices:
            plain.forward()  # of zeros, which never overflow and take as long
            plain.inverse()

    def potentials() -> npt.NDArray[Any]:
        for _, own in slices:
            last = builder.project(numbers[own], xyz[own, 0], xyz[own, 1])
        return last

    one = potentials()
    work: dict[str, Callable[[], Any]] = {
        "floor: 2 FFTs": floor,
        "potentials": potentials,
        "propagation, potentials given": lambda: engine.propagate(
            plane_wave(grid), ((one, slice_thickness_A) for _ in slices)
        ),
        "exit wave, all of it": lambda: engine.exit_wave(numbers, xyz, slice_thickness_A),
    }
    if name == "gold particle":
        work.update(_abtem(atoms, grid, slice_thickness_A))

    times: dict[str, list[float]] = {label: [] for label in work}
    for round_ in range(ROUNDS + 1):
        for label, function in work.items():
            begin = time.perf_counter()
            function()
            if round_ > 0:  # the first round compiles and plans
                times[label].append(time.perf_counter() - begin)
    base = np.array(times["floor: 2 FFTs"])
    print(f"{name}, {grid.shape[0]} x {grid.shape[1]}, {len(slices)} slices, {len(atoms)} atoms")
    for label, seconds in times.items():
        ms = 1e3 * np.median(seconds) / len(slices)
        print(f"  {label:32}{ms:12.2f}{np.median(np.array(seconds) / base):10.2f}")


def _abtem(atoms: Atoms, grid: Grid, slice_thickness_A: float) -> dict[str, Callable[[], Any]]:
    """Return abTEM's rows of the table (eager, one thread), none where it is not installed."""
    try:
        import abtem
    except ImportError:
        return {}
    abtem.config.set({"local_diagnostics.progress_bar": False, "fftw.threads": 1})

    def potential() -> Any:
        return abtem.Potential(
            atoms,
            gpts=grid.shape[::-1],
            slice_thickness=slice_thickness_A,
            parametrization="lobato",
            projection="infinite",
        ).build(lazy=False)

    built = potential()
    wave = abtem.PlaneWave(energy=1e3 * ENERGY_KEV)
    return {
        "abTEM potentials": potential,
        "abTEM propagation": lambda: wave.multislice(built, lazy=False),
        "abTEM exit wave, all of it": lambda: wave.multislice(potential(), lazy=False),
    }


def _gold_particle() -> Atoms:
    particle = Icosahedron("Au", 8, latticeconstant=4.08)
    for degrees, axis in ((17, "x"), (31, "y"), (7, "z")):
        particle.rotate(degrees, axis)
    particle.set_cell([60.0] * 3)
    particle.center()
    return particle


def _strontium_titanate() -> tuple[Atoms, float]:
    cell = crystal(
        ["Sr", "Ti", "O"],
        [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0)],
        spacegroup=221,
        cellpar=[3.905, 3.905, 3.905, 90, 90, 90],
    )
    slab = cell.repeat((26, 26, 5))
    slab.rattle(0.08, seed=1)
    return slab, 26 * 3.905

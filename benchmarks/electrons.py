"""Electron engine against abTEM and the bare FFT, on two processors, all in one run.

Every row does one piece of work with this package and, where abTEM can be imported, with abTEM in
its fastest configuration, and the floor: the plain FFT pairs that the textbook algorithm needs. The
rows of one case are measured in turns, medians of three rounds; scans once, which take long enough.
abTEM's scans are timed on 16 x 16 positions and scaled in proportion, as its time is.

Structures: a gold icosahedron of 1415 atoms in a 60 Å cube; SrTiO3 [001], 6 x 6 x 51 cells; 100 000
carbon atoms at random in a 100 Å cube.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.cluster import Icosahedron

from nanophantom.simcore import parallel
from nanophantom.simcore.electrons.finite_projection import FiniteProjection
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.multislice import Multislice, Step, plane_wave
from nanophantom.simcore.electrons.potential import PotentialBuilder
from nanophantom.simcore.electrons.slicing import Slice, slice_atoms
from nanophantom.simcore.electrons.stem.detectors import AnnularDetector, Weights
from nanophantom.simcore.electrons.stem.probe import Beams, Probe
from nanophantom.simcore.electrons.stem.s_matrix import gram_matrices
from nanophantom.simcore.electrons.stem.scan import Slices, exit_waves, scan
from nanophantom.simcore.electrons.stem.unit_cell import UnitCell, unit_cell_gram
from nanophantom.simcore.electrons.transmission import Transmission
from nanophantom.simcore.fft import Transform

try:
    import abtem
    import dask
except ImportError:
    abtem = None

Array = npt.NDArray[Any]
ROUNDS = 3
WORKERS = 2
STO_A = 3.905
CELLS = (6, 6, 51)
POSITIONS = 16
DETECTORS = (
    AnnularDetector(name="haadf", inner_mrad=60, outer_mrad=180),
    AnnularDetector(name="abf", inner_mrad=10, outer_mrad=20),
    AnnularDetector(name="bf", outer_mrad=10),
)


@dataclass(frozen=True)
class Row:
    """One line of the table: seconds of this package, of abTEM and of the floor, and the goal."""

    name: str
    ours: float
    peer: float | None
    floor: float | None
    goal: str

    def __str__(self) -> str:
        peer = "" if self.peer is None else f"{self.peer:8.2f} {self.peer / self.ours:7.2f} x"
        floor = "" if self.floor is None else f"{self.ours / self.floor:6.2f}"
        return f"{self.name:44}{self.ours:9.3f} {peer:>18} {floor:>7}   {self.goal}"


def main() -> None:
    """Print the table."""
    if abtem is not None:
        abtem.config.set({"local_diagnostics.progress_bar": False, "fftw.threads": 1})
        abtem.config.set({"diagnostics.progress_bar": False, "diagnostics.task_progress": False})
        dask.config.set(scheduler="threads", num_workers=WORKERS)
    print(f"{'case':44}{'ours s':>9} {'abTEM s':>9} {'faster':>8} {'/floor':>7}   goal")
    for case in (exit_waves_of_gold, potentials_of_carbon, scans_of_strontium_titanate):
        for row in case():
            print(row, flush=True)


def timed(*work: Callable[[], Any] | None, long: bool = False) -> list[float | None]:
    """Return the median seconds of several pieces of work, measured in turns after a warm-up.

    `long` work is measured once, without a warm-up of abTEM (the second piece).
    """
    for i, one in enumerate(work):
        if one is not None and not (long and i == 1):
            one()
    seconds: list[list[float]] = [[] for _ in work]
    for _ in range(1 if long else ROUNDS):
        for one, own in zip(work, seconds, strict=True):
            if one is not None:
                start = time.perf_counter()
                one()
                own.append(time.perf_counter() - start)
    return [float(np.median(own)) if own else None for own in seconds]


def floor(shape: tuple[int, int], pairs: int, workers: int = WORKERS) -> Callable[[], None]:
    """Return `pairs` plain FFT pairs, divided among threads with one plan each."""
    plans = [Transform(shape) for _ in range(workers)]

    def run(plan: Transform) -> None:
        for _ in range(pairs // workers):
            plan.forward()
            plan.inverse()

    def all_of_them() -> None:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(run, plans))

    return all_of_them


# ---- plane waves through gold --------------------------------------------------------------------


def gold() -> Atoms:
    """Return the icosahedron, turned out of all zone axes."""
    particle = Icosahedron("Au", 8, latticeconstant=4.08)
    for degrees, axis in ((17, "x"), (31, "y"), (7, "z")):
        particle.rotate(degrees, axis)
    particle.set_cell([60.0] * 3)
    particle.center()
    return particle


def exit_waves_of_gold() -> Iterator[Row]:
    """One exit wave with potentials given; the same on a finer grid; eight frozen phonons."""
    atoms = gold()
    grid = Grid((1024, 1024), (60.0, 60.0), 341 / 60.0)
    numbers, xyz = atoms.numbers, atoms.positions
    slices = slice_atoms(xyz[:, 2], 1.0, numbers)
    engine = Multislice(grid, 300.0)
    steps = list(_projected(PotentialBuilder(grid, [79]), slices, numbers, xyz, 60.0))
    wave = plane_wave(grid)
    peer = None
    if abtem is not None:
        abtem.config.set({"fftw.threads": WORKERS})
        built = _abtem_potential(atoms, (1024, 1024), 1.0)
        peer = functools.partial(abtem.PlaneWave(energy=300e3).multislice, built, lazy=False)
    ours, theirs, least = timed(
        lambda: engine.propagate(wave, steps), peer, floor(grid.shape, len(slices))
    )
    assert ours is not None
    goal = "2.5 x abTEM, 2.2 x floor"
    yield Row(f"exit wave 1024^2, {len(slices)} slices, V given", ours, theirs, least, goal)

    fine = [_formed(grid, factor, slices, numbers, xyz) for factor in (1, 3, 5)]
    seconds = timed(fine[0], fine[1])
    best = fine[2]()
    errors = [_relative(run(), best) for run in fine[:2]]
    for factor, own, error in zip((1, 3), seconds, errors, strict=True):
        assert own is not None
        name = f"  V and t formed {factor} x finer, wave off by {100 * error:.1f} %"
        yield Row(name, own, None, least, "time and error")
    if abtem is not None:
        abtem.config.set({"fftw.threads": 1})

    rng = np.random.default_rng(1)
    frozen = [xyz + 0.08 * rng.normal(size=xyz.shape) for _ in range(8)]

    def phonons() -> None:
        parallel.map_threads(
            lambda own, place: own.exit_wave(numbers, place, 1.0, 60.0),
            frozen,
            lambda: Multislice(grid, 300.0, [79]),
            WORKERS,
        )

    def their_phonons() -> None:
        moving = abtem.FrozenPhonons(atoms, num_configs=8, sigmas=0.08, seed=1)
        potential = _abtem_potential(moving, (1024, 1024), 1.0, build=False)
        abtem.PlaneWave(energy=300e3).multislice(potential, lazy=True).compute()

    ours, theirs, least = timed(
        phonons, None if abtem is None else their_phonons, floor(grid.shape, 8 * len(slices))
    )
    assert ours is not None
    yield Row("8 frozen phonons of it, V included", ours, theirs, least, "3 x abTEM")


def _projected(
    builder: PotentialBuilder, slices: list[Slice], numbers: Array, xyz: Array, depth_A: float
) -> Iterator[Step]:
    ends = [plane.z_A for plane in slices[1:]] + [depth_A]
    for (z, own), end in zip(slices, ends, strict=True):
        yield builder.project(numbers[own], xyz[own, 0], xyz[own, 1]), end - z


def _formed(
    grid: Grid, factor: int, slices: list[Slice], numbers: Array, xyz: Array
) -> Callable[[], Array]:
    """Return an exit wave with V and t formed on a finer grid, both included."""
    transmission = Transmission(grid, 300.0, factor)
    builder = PotentialBuilder(transmission.potential_grid, numbers)
    engine = Multislice(grid, 300.0)

    def run() -> Array:
        fine = _projected(builder, slices, numbers, xyz, 60.0)
        steps = ((transmission(v), distance) for v, distance in fine if v is not None)
        return engine.propagate(plane_wave(grid), steps).wave_k

    return run


def _relative(wave: Array, best: Array) -> float:
    """Return the error of a wave relative to what was scattered."""
    scattered = best.copy()
    scattered[0, 0] = 0
    return float(np.linalg.norm(wave - best) / np.linalg.norm(scattered))


# ---- potentials ----------------------------------------------------------------------------------


def potentials_of_carbon() -> Iterator[Row]:
    """100 slices of 100 000 atoms, whole atoms and finite slabs."""
    rng = np.random.default_rng(1)
    xyz = rng.uniform(0, 100, (100_000, 3))
    numbers = np.full(len(xyz), 6)
    grid = Grid((1024, 1024), (100.0, 100.0), 341 / 100.0)
    order = np.argsort(xyz[:, 2])
    groups = np.array_split(order, 100)

    sorted_xyz = xyz[order]
    # Scattering factors and plans are made once, for any number of specimens.
    whole = [PotentialBuilder(grid, [6]) for _ in range(WORKERS)]
    slabs = [FiniteProjection(grid, [6]) for _ in range(WORKERS)]

    def infinite() -> None:
        def run(worker: int) -> None:
            for g in groups[worker::WORKERS]:
                whole[worker].project(numbers[g], xyz[g, 0], xyz[g, 1])

        _in_threads(run)

    def finite() -> None:
        def run(worker: int) -> None:
            for i in range(-2 + worker, 103, WORKERS):
                slabs[worker].project_slab(numbers, sorted_xyz, float(i), float(i + 1))

        _in_threads(run)

    peers: dict[str, Callable[[], Any] | None] = {"infinite": None, "finite": None}
    if abtem is not None:
        carbon = Atoms(numbers=numbers, positions=xyz, cell=[100.0] * 3)
        for kind in peers:
            peers[kind] = functools.partial(_abtem_potential, carbon, (1024, 1024), 1.0, kind)
    least = floor(grid.shape, 100)
    for name, ours, goal in (("infinite", infinite, "8 x abTEM"), ("finite", finite, "10 x abTEM")):
        mine, theirs, bare = timed(ours, peers[name], least)
        assert mine is not None
        yield Row(f"potential, 100 000 atoms, 100 slices, {name}", mine, theirs, bare, goal)


def _in_threads(run: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(run, range(WORKERS)))


def _abtem_potential(
    atoms: Any,
    gpts: tuple[int, int],
    thickness_A: float,
    projection: str = "infinite",
    build: bool = True,
) -> Any:
    potential = abtem.Potential(
        atoms,
        gpts=gpts,
        slice_thickness=thickness_A,
        parametrization="lobato",
        projection=projection,
    )
    return potential.build(lazy=False) if build else potential


# ---- scans ---------------------------------------------------------------------------------------


def strontium_titanate() -> Atoms:
    """Return 6 x 6 x 51 cells, planes in the middle of abTEM's slices."""
    cell = Atoms(
        "SrTiO3",
        scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)],
        cell=[STO_A] * 3,
    )
    crystal = cell.repeat(CELLS)
    crystal.positions[:, 2] += 0.488
    return crystal


def scans_of_strontium_titanate() -> Iterator[Row]:
    """Plain multislice, Gram matrices, the unit cell, streamed patterns, two processors."""
    atoms = strontium_titanate()
    edge, depth = CELLS[0] * STO_A, CELLS[2] * STO_A
    grid = Grid((512, 512), (edge, edge), 170 / edge)
    probe = Probe(200.0, 20.0, {})
    ky, kx = grid.wave_frequencies
    weights = Weights.of(DETECTORS, kx, ky, 200.0, grid.wave_mask)
    numbers, xyz = atoms.numbers, atoms.positions
    planes = slice_atoms(xyz[:, 2], 2.0, numbers)
    transmission = Transmission(grid, 200.0, 3)
    builder = PotentialBuilder(transmission.potential_grid, numbers)

    def steps() -> list[Step]:
        made: dict[tuple[int, ...], Array] = {}
        found: list[Step] = []
        ends = [plane.z_A for plane in planes[1:]] + [depth]
        for (z, own), end in zip(planes, ends, strict=True):
            key = tuple(sorted(set(numbers[own].tolist())))
            if key not in made:
                made[key] = transmission(builder.project(numbers[own], xyz[own, 0], xyz[own, 1]))
            found.append((made[key], end - z))
        return found

    given = steps()
    slices = Slices(lambda: iter(given), given, 1)
    raster = np.stack(np.meshgrid(*[np.arange(POSITIONS) * edge / POSITIONS] * 2), axis=-1)
    n = POSITIONS**2
    everything = (64 * 64) / n
    theirs_256: float | None = None
    potential = None if abtem is None else _abtem_potential(atoms, (512, 512), STO_A / 2)
    ours, theirs_256, bare = timed(
        lambda: scan(probe, raster, slices, grid, weights, threads=WORKERS),
        None if potential is None else functools.partial(_abtem_scan, potential, edge),
        floor(grid.shape, n * len(planes)),
        long=True,
    )
    assert ours is not None
    assert bare is not None
    goal = "2.4 x abTEM, 1.05 x floor"
    yield Row(f"STEM {POSITIONS}^2, multislice, 102 slices", ours, theirs_256, bare, goal)
    per_slice = 1e3 * ours / n / len(planes)
    yield Row(f"  {per_slice:.3f} ms a probe and slice", ours, None, bare, "Prismatic 0.97")

    few = raster.reshape(-1, 2)[::4]
    one, _, one_bare = timed(
        lambda: scan(probe, few, slices, grid, weights, threads=1),
        None,
        floor(grid.shape, len(few) * len(planes), 1),
    )
    assert one is not None
    assert one_bare is not None
    scaling = (4 * one / ours) / (4 * one_bare / bare)
    yield Row(f"  two workers: {scaling:.2f} of the FFT's own scaling", ours, None, None, "0.96")

    matrices: list[Any] = []

    def exact(size: int) -> Callable[[], None]:
        def run() -> None:
            made = steps()
            again = Slices(lambda: iter(made), made, 1)
            matrices[:] = [gram_matrices(probe, again, grid, weights, threads=WORKERS)]
            x = np.arange(size) * edge / size
            matrices[0].image().on_raster(x, x)

        return run

    full = None if theirs_256 is None else theirs_256 * everything
    start = time.perf_counter()
    exact(64)()
    gram_64 = time.perf_counter() - start
    yield Row("STEM 64^2, exact, any specimen (Gram)", gram_64, full, None, "7 x abTEM")
    start = time.perf_counter()
    exact(256)()
    gram_256 = time.perf_counter() - start
    yield Row(f"  256^2: {gram_256 / gram_64:.2f} x 64^2", gram_256, None, None, "1.2 x 64^2")

    basis = atoms[:5]
    column = [basis.positions + np.array([0, 0, i * STO_A]) for i in range(CELLS[2])]
    cell = UnitCell(STO_A * np.eye(2), np.tile(basis.numbers, CELLS[2]), np.concatenate(column))

    def crystal() -> None:
        x = np.arange(64) * edge / 64
        found = unit_cell_gram(probe, cell, (6, 6), grid.k_max, DETECTORS, threads=WORKERS)
        found.image().on_raster(x, x)

    (mine,) = timed(crystal)
    assert mine is not None
    yield Row("STEM 64^2, static periodic crystal", mine, full, None, "100 x abTEM")

    with tempfile.TemporaryDirectory() as folder:
        yield _patterns(probe, slices, grid, raster, potential, edge, len(planes), Path(folder))


def _abtem_scan(potential: Any, edge: float, detectors: Any = None) -> Any:
    probe = abtem.Probe(energy=200e3, semiangle_cutoff=20)
    probe.grid.match(potential)
    raster = abtem.GridScan(start=(0, 0), end=(edge, edge), gpts=POSITIONS, endpoint=False)
    rings = ((60, 180), (10, 20), (0, 10))
    if detectors is None:
        detectors = [abtem.AnnularDetector(inner=a, outer=b) for a, b in rings]
    return probe.scan(potential, raster, detectors, lazy=True, max_batch=16).compute()


def _patterns(
    probe: Probe,
    slices: Slices,
    grid: Grid,
    raster: Array,
    potential: Any,
    edge: float,
    n_slices: int,
    folder: Path,
) -> Row:
    """Return the row of a 32 x 32 scan of whole patterns, written as they are made."""
    beams = Beams.inside(grid, probe)
    amplitudes = beams.amplitudes(probe)
    flat = raster.reshape(-1, 2)
    (my, mx) = grid.wave_shape
    seen = np.ix_(np.arange(-128, 128) % my, np.arange(-128, 128) % mx)

    def ours() -> None:
        stored = np.lib.format.open_memmap(
            folder / "ours.npy", "w+", np.float32, (len(flat), 256, 256)
        )

        def read(i: int, out: Any) -> None:
            stored[i] = np.abs(out.wave_k[seen]) ** 2

        def make(i: int) -> Array:
            return beams.wave(beams.at(amplitudes, *flat[i]), grid)

        exit_waves(make, len(flat), slices, grid, 200.0, read, threads=WORKERS)
        stored.flush()

    def theirs() -> None:
        pixels = abtem.PixelatedDetector(max_angle=137)
        np.save(folder / "theirs.npy", _abtem_scan(potential, edge, [pixels]).array)

    mine, peer, bare = timed(
        ours,
        None if potential is None else theirs,
        floor(grid.shape, len(flat) * n_slices),
        long=True,
    )
    assert mine is not None
    scale = 32**2 / len(flat)
    name = "4D-STEM 32^2 (from 16^2), streamed to disk"
    return Row(
        name,
        mine * scale,
        None if peer is None else peer * scale,
        None if bare is None else bare * scale,
        "2 x abTEM",
    )


if __name__ == "__main__":
    main()

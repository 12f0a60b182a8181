"""Scanned probes by multislice: exact positions, published points, reversal, memory budgets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.multislice import Multislice, Step
from nanophantom.simcore.electrons.potential import PotentialBuilder
from nanophantom.simcore.electrons.slicing import slice_atoms
from nanophantom.simcore.electrons.stem.detectors import (
    AnnularDetector,
    MomentDetector,
    SegmentedDetector,
    Weights,
)
from nanophantom.simcore.electrons.stem.probe import Beams, Probe
from nanophantom.simcore.electrons.stem.scan import Slices, scan
from nanophantom.simcore.electrons.transmission import Transmission

Array = npt.NDArray[Any]

EDGE_A = 3.905
SITES = [(38, 0.0, 0.0, 0.0), (22, 0.5, 0.5, 0.5), (8, 0.5, 0.5, 0.0), (8, 0.5, 0.0, 0.5),
         (8, 0.0, 0.5, 0.5)]  # fmt: skip
DETECTORS = (
    AnnularDetector(name="haadf", inner_mrad=60, outer_mrad=180),
    AnnularDetector(name="abf", inner_mrad=10, outer_mrad=20),
    AnnularDetector(name="bf", outer_mrad=10),
)


def _strontium_titanate(cells: tuple[int, int, int]) -> tuple[Array, Array]:
    corners = np.array(list(np.ndindex(*cells)), float)
    numbers = np.tile([site[0] for site in SITES], len(corners))
    basis = np.array([site[1:] for site in SITES])
    return numbers, ((corners[:, None, :] + basis) * EDGE_A).reshape(-1, 3)


def _crystal_slices(grid: Grid, cells: tuple[int, int, int], fineness: int) -> Slices:
    """Static SrTiO3 [001]: its two atomic planes, each made once."""
    numbers, xyz = _strontium_titanate(cells)
    transmission = Transmission(grid, 200.0, fineness)
    builder = PotentialBuilder(transmission.potential_grid, numbers)
    made: dict[tuple[int, ...], Array] = {}
    planes = slice_atoms(xyz[:, 2], 2.0, numbers)
    ends = [plane.z_A for plane in planes[1:]] + [cells[2] * EDGE_A]
    steps: list[Step] = []
    for plane, end in zip(planes, ends, strict=True):
        key = tuple(sorted(set(numbers[plane.atoms].tolist())))
        if key not in made:
            x, y, _ = xyz[plane.atoms].T
            made[key] = transmission(builder.project(numbers[plane.atoms], x, y))
        steps.append((made[key], end - plane.z_A))
    return Slices(lambda: iter(steps), steps, 1)


def _weights(grid: Grid, detectors: Any = DETECTORS, energy_kev: float = 200.0) -> Weights:
    ky, kx = grid.wave_frequencies
    return Weights.of(detectors, kx, ky, energy_kev, grid.wave_mask)


def test_signals_of_thick_strontium_titanate_equal_independent_reference_values() -> None:
    """SrTiO3 [001], 199 Å, 200 kV, 20 mrad: HAADF, ABF and BF on four points to 0.5 %.

    Reference: exact projected potentials (Lobato), 1024 samples over 6 cells, transmission
    functions formed on a twice finer grid, an independent prototype; its sampling is used here.
    abTEM 1.0.11 on 512 samples misses the Ti/O column's HAADF by up to 40 %.
    """
    reference = {
        (0.0, 0.0): (0.37190, 0.17163, 0.048618),
        (0.5, 0.5): (0.15726, 0.28182, 0.12513),
        (0.5, 0.0): (0.014706, 0.37029, 0.51950),
        (0.25, 0.25): (0.010155, 0.74245, 0.15499),
    }
    grid = Grid((1024, 1024), (6 * EDGE_A, 6 * EDGE_A), 341 / (6 * EDGE_A))
    slices = _crystal_slices(grid, (6, 6, 51), fineness=3)
    positions = (2 + np.array(list(reference))) * EDGE_A
    found = scan(Probe(200.0, 20.0, {}), positions, slices, grid, _weights(grid))
    assert found.values == pytest.approx(np.array(list(reference.values())), rel=5e-3)


def test_equivalent_columns_are_equal_on_a_grid_that_does_not_fit_the_lattice() -> None:
    """512 samples over 6 cells (0.046 Å, 85.33 a cell), 199 Å thick: 1e-4 (abTEM 12 to 38 %)."""
    grid = Grid((512, 512), (6 * EDGE_A, 6 * EDGE_A), 170 / (6 * EDGE_A))
    slices = _crystal_slices(grid, (6, 6, 51), fineness=3)
    for site in ((0.0, 0.0), (0.5, 0.5), (0.5, 0.0)):
        positions = (np.array([(1, 1), (2, 3), (4, 2)]) + site) * EDGE_A
        found = scan(Probe(200.0, 20.0, {}), positions, slices, grid, _weights(grid)).values
        assert (np.ptp(found, axis=0) < 1e-4 * found.mean(axis=0)).all()


def test_high_angle_signal_of_a_gold_atom_does_not_depend_on_the_subpixel_position() -> None:
    """60 to 180 mrad at 200 kV, samples of 0.047 Å: 0.5 % (14.5 % with t on the wave's grid)."""
    edge = 12.0
    grid = Grid((256, 256), (edge, edge), 85 / edge)
    transmission = Transmission(grid, 200.0, 4)
    builder = PotentialBuilder(transmission.potential_grid, [79])
    probe, weights = Probe(200.0, 20.0, {}), _weights(grid, DETECTORS[:1])
    signal = []
    for shift in np.random.default_rng(1).uniform(0, edge / 256, (6, 2)):
        x, y = 5.0 + shift
        t = transmission(builder.project([79], [x], [y]))
        steps: list[Step] = [(t, 0.0)]
        found = scan(probe, [(x, y)], Slices(lambda s=steps: iter(s), steps, 1), grid, weights)
        signal.append(float(found.values[0, 0]))
    assert np.ptp(signal) / np.mean(signal) < 5e-3


def test_the_probe_in_vacuum_has_the_size_and_place_that_diffraction_gives_it() -> None:
    """An Airy disk: first zero at 0.61 lambda / alpha; a moved probe is where it was put."""
    edge = 40.0
    grid = Grid((512, 512), (edge, edge), 170 / edge)
    probe = Probe(200.0, 20.0, {})
    beams = Beams.inside(grid, probe)
    amplitudes = beams.amplitudes(probe)
    centre = np.array([17.3, 22.8])
    wave = beams.wave(beams.at(amplitudes, *centre), grid)
    lam = float(wavelength(200.0))
    radius = 0.6098 * lam / 0.02
    ky, kx = grid.wave_frequencies

    def intensity(x: float, y: float) -> float:
        return float(abs(np.sum(wave * np.exp(2j * np.pi * (kx * x + ky * y)))) ** 2)

    peak = intensity(*centre)
    assert intensity(centre[0] + radius, centre[1]) < 1e-3 * peak
    assert intensity(centre[0], centre[1] - radius) < 1e-3 * peak
    assert np.sum(np.abs(wave) ** 2) == pytest.approx(1)
    # The aperture's edge is soft over 1/40 Å, 3 % of its radius.
    assert peak == pytest.approx(np.pi * (0.02 / lam) ** 2 * edge**2, rel=1.5e-2)


def test_a_weak_gradient_moves_the_centre_of_mass_as_newton_says() -> None:
    """<k> = sigma grad V / (2 pi): a potential that rises along x and y drags the pattern there."""
    edge, energy = 20.0, 200.0
    grid = Grid((256, 256), (edge, edge), 85 / edge)
    k1 = 1 / edge
    x = np.arange(256) * edge / 256
    # In the zero of a slow sine the potential is linear over the probe.
    potential = 2.0 * np.sin(2 * np.pi * k1 * x)[None, :] + np.sin(2 * np.pi * k1 * x)[:, None]
    transmission = Transmission(grid, energy)
    steps: list[Step] = [(transmission(potential), 0.0)]
    weights = _weights(grid, [MomentDetector(name="com", outer_mrad=100)])
    slices = Slices(lambda: iter(steps), steps, 1)
    found = scan(Probe(energy, 25.0, {}), [(0.0, 0.0)], slices, grid, weights).values[0]
    lam = float(wavelength(energy))
    from nanophantom.simcore.electrons.constants import interaction_constant

    slope = float(interaction_constant(energy)) * 2 * np.pi * k1 * np.array([2.0, 1.0])
    assert found[1:3] / found[0] == pytest.approx(1e3 * lam * slope / (2 * np.pi), rel=2e-2)


@pytest.mark.parametrize(("dtype", "tolerance"), [("complex64", 1e-5), ("complex128", 1e-9)])
def test_reverse_multislice_gives_the_probe_back(dtype: str, tolerance: float) -> None:
    """Through twelve slices and back: inverse phases and distances in reverse order."""
    edge = 15.0
    grid = Grid.for_wave((edge, edge), k_max=4.0)
    rng = np.random.default_rng(3)
    (ny, nx), (dy, dx) = grid.shape, grid.sampling_A
    y, x = np.arange(ny)[:, None] * dy, np.arange(nx)[None, :] * dx
    # Potentials so smooth that nothing is scattered beyond the band limit
    potentials = [
        40 * np.cos(2 * np.pi * (a * x + b * y) / edge + c)
        for a, b, c in zip(*rng.integers(-3, 4, (2, 12)), rng.uniform(0, 6, 12), strict=True)
    ]
    distances = rng.uniform(2, 6, 12)
    engine = Multislice(grid, 200.0, dtype=dtype)
    probe = Probe(200.0, 20.0, {"C10": -80.0, "C30": 2e5})
    beams = Beams.inside(grid, probe)
    start = beams.wave(beams.at(beams.amplitudes(probe), 6.1, 8.2), grid)
    there = engine.propagate(start, zip(potentials, distances, strict=True))
    assert np.linalg.norm(there.wave_k - start) > 0.5
    back: list[Step] = [(None, -distances[-1])]
    back += [(-v, -d) for v, d in zip(potentials[::-1], [*distances[-2::-1], 0.0], strict=True)]
    again = engine.propagate(there.wave_k, back).wave_k
    assert np.linalg.norm(again - start) < tolerance


def test_signals_do_not_depend_on_threads_or_on_the_memory_budget() -> None:
    """Bit for bit: slices kept or made anew, one wave or several in a pass, one thread or three."""
    grid = Grid.for_wave((2 * EDGE_A, 2 * EDGE_A), 4.0, 1.5)
    kept = _crystal_slices(grid, (2, 2, 2), 2)
    calls = []

    def anew() -> Iterator[Step]:
        calls.append(1)
        yield from kept.steps()

    positions = np.random.default_rng(1).uniform(0, 7, (7, 2))
    probe, weights = Probe(200.0, 20.0, {}), _weights(grid, DETECTORS[1:])
    first = scan(probe, positions, kept, grid, weights, threads=1)
    for slices, threads in ((kept, 3), (Slices(anew, None, 3), 1), (Slices(anew, None, 5), 2)):
        again = scan(probe, positions, slices, grid, weights, threads=threads)
        assert np.array_equal(first.values, again.values)
        assert np.array_equal(first.kept, again.kept)
    assert len(calls) == 3 + 4  # seven waves: three at a time; two at a time on two threads
    enough = Slices.within(kept.steps, 1000, 10**6, grid)
    scarce = Slices.within(kept.steps, 10**7, 10**6, grid)
    assert enough.kept is not None
    assert scarce.kept is None


def test_tilting_the_beam_is_shearing_the_specimen() -> None:
    """A beam at an angle to a stack of planes meets each displaced by angle times depth."""
    grid = Grid.for_wave((3 * EDGE_A, 3 * EDGE_A), 4.0, 1.5)
    kept = _crystal_slices(grid, (3, 3, 3), 2).kept
    assert kept is not None
    probe, weights = Probe(200.0, 15.0, {}), _weights(grid, DETECTORS[1:])
    tilt = np.array([8.0, -5.0])
    slices = Slices(lambda: iter(kept), kept, 1)
    tilted = scan(probe, [(4.0, 5.0)], slices, grid, weights, tilt_mrad=(8.0, -5.0)).values
    ky, kx = grid.frequencies(grid.shape)
    depth, sheared = 0.0, []
    for t, distance in kept:
        shift = -1e-3 * tilt * depth
        assert t is not None
        phase = np.exp(-2j * np.pi * (kx * shift[0] + ky * shift[1]))
        sheared.append((np.fft.ifft2(np.fft.fft2(t) * phase).astype(np.complex64), distance))
        depth += distance
    straight = scan(probe, [(4.0, 5.0)], Slices(lambda: iter(sheared), sheared, 1), grid, weights)
    assert tilted == pytest.approx(straight.values, rel=1e-4)


def test_detectors_have_the_areas_that_geometry_gives_them() -> None:
    """Soft edges: rings of the right area on a coarse lattice, sectors that add up to the ring."""
    edge, energy = 21.6, 200.0
    grid = Grid((512, 512), (edge, edge), 170 / edge)
    ky, kx = grid.wave_frequencies
    spacing = np.eye(2) / edge
    unit = (1e3 * float(wavelength(energy)) / edge) ** 2  # mrad^2 of one coefficient
    ring = AnnularDetector(name="a", inner_mrad=10, outer_mrad=30)
    soft = ring.weights(kx, ky, energy, spacing).sum() * unit
    assert soft == pytest.approx(np.pi * (30**2 - 10**2), rel=3e-3)
    sectors = SegmentedDetector(name="s", inner_mrad=10, outer_mrad=30, rotation_deg=17)
    parts = sectors.weights(kx, ky, energy, spacing)
    assert parts.sum(axis=0) == pytest.approx(ring.weights(kx, ky, energy, spacing)[0])
    assert parts.sum(axis=(1, 2)) * unit == pytest.approx(soft / 4, rel=1e-2)


def test_counted_moments_have_the_mean_and_covariance_of_single_electrons() -> None:
    """Against counting on a camera: Poisson electrons in every pixel, then sums."""
    detector = MomentDetector(name="com", outer_mrad=10)
    rng = np.random.default_rng(5)
    angle = np.array([[-6.0, 1.0], [2.0, -3.0], [5.0, 5.0]])
    rate = np.array([3.0, 8.0, 1.5])
    x, y = angle.T
    sums = [rate.sum(), rate @ x, rate @ y, rate @ x**2, rate @ (x * y), rate @ y**2]
    names = (*detector.channels, *detector.moments)
    n = 200_000
    drawn = detector.count({k: np.full(n, s) for k, s in zip(names, sums, strict=True)}, rng)
    counts = rng.poisson(rate, (n, 3))
    direct = np.stack([counts.sum(axis=1), counts @ x, counts @ y])
    found = np.stack([drawn[name] for name in detector.channels])
    assert found.mean(axis=1) == pytest.approx(direct.mean(axis=1), abs=0.15)
    assert np.cov(found) == pytest.approx(np.cov(direct), rel=0.03, abs=1.0)

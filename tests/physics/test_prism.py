"""PRISM with interpolation and with parent beams: exact where it must be, known where it is not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.potential import PotentialBuilder
from nanophantom.simcore.electrons.slicing import slice_atoms
from nanophantom.simcore.electrons.stem import parents, s_matrix
from nanophantom.simcore.electrons.stem.detectors import AnnularDetector, Weights
from nanophantom.simcore.electrons.stem.interpolated import interpolated_matrix
from nanophantom.simcore.electrons.stem.probe import Beams, Probe, lattice
from nanophantom.simcore.electrons.stem.scan import Signals, Slices, scan
from nanophantom.simcore.electrons.stem.stated_error import Controls
from nanophantom.simcore.electrons.transmission import Transmission

Floats = npt.NDArray[np.float64]
DETECTORS = [
    AnnularDetector(name="adf", inner_mrad=45, outer_mrad=70),
    AnnularDetector(name="abf", inner_mrad=10, outer_mrad=20),
    AnnularDetector(name="bf", outer_mrad=10),
]
SRTIO3_A = 3.905


def slices_of(numbers: npt.ArrayLike, xyz: Floats, depth_A: float, grid: Grid) -> Slices:
    z = np.asarray(numbers)
    builder = PotentialBuilder(grid, z.tolist())
    make = Transmission(grid, 200.0)
    parts = slice_atoms(xyz[:, 2])
    ends = [part.z_A for part in parts[1:]] + [depth_A]
    steps = [
        (make(builder.project(z[p.atoms], xyz[p.atoms, 0], xyz[p.atoms, 1])), end - p.z_A)
        for p, end in zip(parts, ends, strict=True)
    ]
    return Slices(lambda: iter(steps), list(steps), 1)


def glass(grid: Grid, thickness_A: float, seed: int = 1) -> Slices:
    """Atoms of copper at random: no symmetry that could hide a mistake."""
    rng = np.random.default_rng(seed)
    n = int(0.02 * grid.area_A2 * thickness_A)
    v, u = rng.random((2, n))
    x, y = u * grid.extent_A[1] + v * grid.shear_A, v * grid.extent_A[0]
    z = np.sort(rng.random(n)) * thickness_A
    return slices_of([29] * n, np.column_stack([x, y, z]), thickness_A, grid)


def strontium_titanate(cells: int, layers: int, grid: Grid) -> tuple[Slices, float]:
    """[001], static: two kinds of slices, SrO and TiO2."""
    i, j = (n.ravel() for n in np.indices((cells, cells)))
    places = [
        (38, 0.0, 0.0, 0),
        (8, 0.5, 0.5, 0),
        (22, 0.5, 0.5, 1),
        (8, 0.5, 0, 1),
        (8, 0, 0.5, 1),
    ]
    numbers = np.repeat([p[0] for p in places], len(i))
    x = np.concatenate([(i + p[1]) * SRTIO3_A for p in places])
    y = np.concatenate([(j + p[2]) * SRTIO3_A for p in places])
    plane = np.repeat([p[3] for p in places], len(i))
    builder, make = PotentialBuilder(grid, [38, 22, 8]), Transmission(grid, 200.0)
    t = [make(builder.project(*(a[plane == p] for a in (numbers, x, y)))) for p in (0, 1)]
    steps = [(t[n % 2], SRTIO3_A / 2) for n in range(2 * layers)]
    return Slices(lambda: iter(steps), list(steps), 1), layers * SRTIO3_A


def weights_of(detectors: Sequence[AnnularDetector], grid: Grid) -> Weights:
    ky, kx = grid.wave_frequencies
    return Weights.of(detectors, kx, ky, 200.0, grid.wave_mask, lattice(grid))


def exact(probe: Probe, positions: npt.ArrayLike, slices: Slices, grid: Grid) -> Signals:
    return scan(probe, positions, slices, grid, weights_of(DETECTORS, grid), threads=1)


@pytest.mark.parametrize("shear_A", [0.0, 3.0])
def test_without_interpolation_prism_is_multislice(shear_A: float) -> None:
    """f = 1: the window is the cell. Also off the samples, beyond the cell, in an oblique one."""
    grid = Grid.for_wave((9.0, 11.0), 3.0, 1.5, shear_A)
    slices = glass(grid, 8.0)
    probe = Probe(200.0, 20.0, {"C10": -40.0, "C12": 20.0, "phi12": 0.4})
    positions = [[1.234, 5.678], [-3.21, 20.0], [10.9, 0.01]]
    found = interpolated_matrix(probe, slices, grid, (1, 1), threads=1).scan(
        positions, DETECTORS, threads=1
    )
    truth = exact(probe, positions, slices, grid)
    np.testing.assert_allclose(found.values, truth.values, rtol=1e-5)
    np.testing.assert_allclose(found.kept, truth.kept, rtol=1e-5)


@pytest.mark.parametrize("factors", [(2, 2), (3, 2), (4, 4)])
def test_vacuum_is_exact_for_every_factor(factors: tuple[int, int]) -> None:
    """Coarser frequencies keep apertures and detectors as they are: no signal is off."""
    grid = Grid.for_wave((24.0, 24.0), 3.0, 1.5)
    empty = Slices(lambda: iter([(None, 10.0)]), [(None, 10.0)], 1)
    probe = Probe(200.0, 20.0, {})
    found = interpolated_matrix(probe, empty, grid, factors, threads=1).scan(
        [[1.0, 2.0]], DETECTORS[1:], threads=1
    )
    ky, kx = grid.wave_frequencies
    weights = Weights.of(DETECTORS[1:], kx, ky, 200.0, grid.wave_mask, lattice(grid))
    truth = scan(probe, [[1.0, 2.0]], empty, grid, weights, threads=1)
    assert truth.values.sum() > 0.9
    np.testing.assert_allclose(found.values, truth.values, rtol=1e-5)


def test_another_focus_and_a_smaller_aperture_need_no_new_matrix() -> None:
    grid = Grid.for_wave((9.0, 11.0), 3.0, 1.5)
    slices = glass(grid, 4.0)
    matrix = interpolated_matrix(Probe(200.0, 20.0, {}), slices, grid, (1, 1), threads=1)
    other = Probe(200.0, 15.0, {"C10": 60.0})
    found = matrix.scan([[3.0, 4.0]], DETECTORS, other, threads=1)
    truth = exact(other, [[3.0, 4.0]], slices, grid)
    np.testing.assert_allclose(found.values, truth.values, rtol=1e-5)
    with pytest.raises(ValueError, match="apertures within 20 mrad"):
        matrix.scan([[0.0, 0.0]], DETECTORS, Probe(200.0, 25.0, {}))
    with pytest.raises(ValueError, match="200 keV"):
        matrix.scan([[0.0, 0.0]], DETECTORS, Probe(80.0, 15.0, {}))


def test_coarse_interpolation_of_strontium_titanate_is_wrong_and_says_so() -> None:
    """20 nm of SrTiO3 [001], 200 kV, 20 mrad, in a window of 5.86 Å: the dark field is off.

    A cell of 6 x 6 unit cells with f = 4 was found wrong by 64 % of the largest signal, with a
    correlation of 0.57 (abTEM 1.0.11 against its own multislice). The same window is f = 2 in
    3 x 3 cells: the same waves, as the crystal is periodic.
    """
    grid = Grid.for_wave((3 * SRTIO3_A, 3 * SRTIO3_A), 3.2, 1.5)
    slices, _ = strontium_titanate(3, 51, grid)
    probe = Probe(200.0, 20.0, {})
    detectors = [AnnularDetector(name="haadf", inner_mrad=60, outer_mrad=80)]
    step = SRTIO3_A / 8
    raster = np.stack(np.meshgrid(np.arange(8), np.arange(8)), -1).reshape(-1, 2) * step
    controls = Controls(probe, raster, slices, grid, detectors, count=6, threads=1)
    stated = controls.interpolated((2, 2))
    assert stated.measured.max() > 0.3
    assert stated.overall > 0.3


def test_the_error_falls_with_the_factor() -> None:
    """6 Å of copper at random in a cell of 16 Å: halves of the cell against quarters."""
    grid = Grid.for_wave((16.0, 16.0), 3.0, 1.5)
    slices = glass(grid, 6.0)
    probe = Probe(200.0, 20.0, {})
    positions = np.random.default_rng(2).random((8, 2)) * 16
    truth = exact(probe, positions, slices, grid).values
    errors = []
    for f in (2, 4):
        matrix = interpolated_matrix(probe, slices, grid, (f, f), threads=1)
        found = matrix.scan(positions, DETECTORS, threads=1).values
        errors.append(np.sqrt(np.mean((found - truth) ** 2, axis=0)) / truth.mean(axis=0))
    assert errors[0].min() > 0
    assert (errors[0] < errors[1]).all()


def test_factors_below_one_are_refused() -> None:
    grid = Grid.for_wave((9.0, 9.0), 2.0, 1.5)
    with pytest.raises(ValueError, match="at least 1"):
        interpolated_matrix(Probe(200.0, 20.0, {}), glass(grid, 2.0), grid, (0, 1))


def test_all_beams_as_parents_are_the_exact_matrix() -> None:
    grid = Grid.for_wave((9.0, 11.0), 3.0, 1.5, shear_A=2.0)
    slices = glass(grid, 10.0)
    probe = Probe(200.0, 20.0, {})
    weights = weights_of(DETECTORS, grid)
    beams = Beams.inside(grid, probe)
    assert len(parents.choose_parents(beams, 30)) == len(beams)
    truth = s_matrix.gram_matrices(probe, slices, grid, weights, threads=1)
    found = parents.gram_matrices(probe, slices, grid, weights, 10.0, 30, threads=1)
    scale = np.abs(truth.blocks[0].matrices).max()
    np.testing.assert_allclose(
        found.blocks[0].matrices, truth.blocks[0].matrices, atol=1e-5 * float(scale)
    )


@pytest.mark.parametrize("tilt_mrad", [(0.0, 0.0), (12.0, -7.0)])
def test_one_slice_in_the_middle_needs_few_parents(tilt_mrad: tuple[float, float]) -> None:
    """A thin object scatters all beams alike: S_b(k + k_b) is known from any one of them.

    It lies 30 Å below the entrance face and above the exit: both propagations must be undone.
    """
    grid = Grid.for_wave((14.0, 16.0), 3.0, 1.5)
    steps = [(None, 30.0), (glass(grid, 1.5).kept[0][0], 30.0)]  # type: ignore[index]
    slices = Slices(lambda: iter(steps), list(steps), 1)
    probe = Probe(200.0, 20.0, {})
    inner = [d for d in DETECTORS if d.outer_mrad <= 20]  # nothing from beyond the band limit
    weights = weights_of(inner, grid)
    truth = s_matrix.gram_matrices(probe, slices, grid, weights, tilt_mrad, threads=1).image()
    found = parents.gram_matrices(
        probe, slices, grid, weights, 60.0, 1, tilt_mrad, threads=1
    ).image()
    assert len(parents.choose_parents(Beams.inside(grid, probe), 1)) == 7
    positions = np.random.default_rng(3).random((20, 2)) * 15
    np.testing.assert_allclose(found.at(positions), truth.at(positions), rtol=2e-5)


def test_more_parents_follow_a_crystal_to_higher_angles() -> None:
    """4 nm of SrTiO3: 19 of 293 beams give bright fields to 2 %, 61 the dark field."""
    grid = Grid.for_wave((3 * SRTIO3_A, 3 * SRTIO3_A), 3.0, 1.5)
    slices, depth = strontium_titanate(3, 10, grid)
    probe = Probe(200.0, 20.0, {})
    weights = weights_of(DETECTORS, grid)
    positions = np.random.default_rng(4).random((60, 2)) * 3 * SRTIO3_A
    truth = s_matrix.gram_matrices(probe, slices, grid, weights, threads=1).image().at(positions)
    errors = []
    for rings in (2, 4):
        image = parents.gram_matrices(probe, slices, grid, weights, depth, rings, threads=1)
        off = image.image().at(positions) - truth
        errors.append(np.sqrt(np.mean(off**2, axis=1)) / truth.mean(axis=1))
    assert (errors[0] > errors[1]).all()
    assert errors[0][1:].max() < 0.02
    assert errors[1].max() < 0.02


def test_weights_interpolate_what_has_little_parallax() -> None:
    """exp(2 pi i k s) with |s| below the reach, and constants exactly; parents are themselves."""
    grid = Grid.for_wave((20.0, 20.0), 2.0, 1.5)
    beams = Beams.inside(grid, Probe(200.0, 20.0, {}))
    chosen = parents.choose_parents(beams, 4)
    weights = parents.interpolation_weights(beams, chosen, 1.5)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-9)
    np.testing.assert_allclose(weights[chosen], np.eye(len(chosen)), atol=1e-12)
    wave = np.exp(2j * np.pi * (0.9 * beams.kx - 0.8 * beams.ky))
    assert np.abs(weights @ wave[chosen] - wave).max() < 0.02
    nearest = np.argmin(
        np.hypot(beams.kx[:, None] - beams.kx[chosen], beams.ky[:, None] - beams.ky[chosen]), axis=1
    )
    assert np.abs(wave[chosen][nearest] - wave).max() > 0.2  # what the weights are for


def test_parents_need_a_ring_and_a_thickness() -> None:
    grid = Grid.for_wave((9.0, 9.0), 2.0, 1.5)
    probe = Probe(200.0, 20.0, {})
    weights = weights_of(DETECTORS[1:], grid)
    with pytest.raises(ValueError, match="at least one ring"):
        parents.gram_matrices(probe, glass(grid, 2.0), grid, weights, 2.0, 0)
    with pytest.raises(ValueError, match="thickness_A"):
        parents.gram_matrices(probe, glass(grid, 2.0), grid, weights, -1.0, 2)

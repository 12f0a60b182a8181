"""Probes in local windows of a large cell: exact where they must be, closer the larger they are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.potential import PotentialBuilder
from nanophantom.simcore.electrons.stem import windows
from nanophantom.simcore.electrons.stem.detectors import AnnularDetector, MomentDetector, Weights
from nanophantom.simcore.electrons.stem.probe import Probe, lattice
from nanophantom.simcore.electrons.stem.scan import Signals, Slices, scan
from nanophantom.simcore.electrons.stem.stated_error import Controls
from nanophantom.simcore.electrons.transmission import Transmission

DETECTORS = [
    AnnularDetector(name="adf", inner_mrad=40, outer_mrad=60),
    AnnularDetector(name="abf", inner_mrad=10, outer_mrad=20),
    AnnularDetector(name="bf", outer_mrad=10),
]
PROBE = Probe(200.0, 20.0, {"C10": -20.0})


def glass(grid: Grid, n_slices: int = 4, seed: int = 1) -> Slices:
    """Copper atoms at random, a slice every 2 Å."""
    rng = np.random.default_rng(seed)
    builder, make = PotentialBuilder(grid, [29]), Transmission(grid, 200.0)
    steps = []
    for _ in range(n_slices):
        v, u = rng.random((2, max(1, int(0.04 * grid.area_A2))))
        x, y = u * grid.extent_A[1] + v * grid.shear_A, v * grid.extent_A[0]
        steps.append((make(builder.project([29] * len(x), x, y)), 2.0))
    return Slices(lambda: iter(steps), list(steps), 1)


def exact(
    positions: npt.ArrayLike,
    slices: Slices,
    grid: Grid,
    tilt_mrad: tuple[float, float] = (0.0, 0.0),
) -> Signals:
    ky, kx = grid.wave_frequencies
    weights = Weights.of(DETECTORS, kx, ky, 200.0, grid.wave_mask, lattice(grid))
    return scan(PROBE, positions, slices, grid, weights, tilt_mrad, threads=1)


@pytest.mark.parametrize("shear_A", [0.0, 3.0])
def test_a_window_as_large_as_the_cell_is_exact(shear_A: float) -> None:
    """Shifted by whole samples, wrapped around, the phases of the probe between them: no error."""
    grid = Grid.for_wave((11.0, 12.0), 2.6, 1.5, shear_A)
    slices = glass(grid)
    positions = [[1.234, 5.678], [-3.21, 20.0], [11.9, 0.01]]
    tilt = (6.0, -9.0)
    found = windows.scan(PROBE, positions, slices, grid, DETECTORS, 12.0, tilt, threads=1)
    truth = exact(positions, slices, grid, tilt)
    np.testing.assert_allclose(found.values, truth.values, rtol=1e-5)
    np.testing.assert_allclose(found.kept, truth.kept, rtol=1e-6)
    np.testing.assert_allclose(found.lost, truth.lost, rtol=1e-3)


@pytest.mark.parametrize("size_A", [7.0, 9.3, 15.0])
def test_vacuum_is_exact_in_every_window(size_A: float) -> None:
    """Apertures and detectors keep their edges on coarser, incommensurate frequencies."""
    grid = Grid.for_wave((23.0, 24.0), 2.6, 1.5)
    empty = Slices(lambda: iter([(None, 5.0)]), [(None, 5.0)], 1)
    found = windows.scan(PROBE, [[3.3, 4.4]], empty, grid, DETECTORS, size_A, threads=1)
    truth = exact([[3.3, 4.4]], empty, grid)
    assert truth.values.sum() > 0.9
    np.testing.assert_allclose(found.values, truth.values, rtol=1e-5, atol=1e-9)


def test_slices_may_be_kept_or_made_anew() -> None:
    grid = Grid.for_wave((20.0, 20.0), 2.6, 1.5)
    kept = glass(grid)
    anew = Slices(kept.steps, None, 4)
    positions = np.random.default_rng(5).random((5, 2)) * 20
    a, b = (
        windows.scan(PROBE, positions, s, grid, DETECTORS, 8.0, threads=1) for s in (kept, anew)
    )
    np.testing.assert_allclose(a.values, b.values, rtol=1e-5)
    np.testing.assert_allclose(a.kept, b.kept, rtol=1e-6)
    np.testing.assert_allclose(a.lost, b.lost, rtol=1e-3)


def test_a_window_knows_nothing_of_where_the_cell_begins() -> None:
    """Specimen and probe moved together by whole samples: windows that wrap see the same."""
    grid = Grid.for_wave((20.0, 20.0), 2.6, 1.5)
    slices = glass(grid)
    dy, dx = 37, 61
    moved = [(np.roll(t, (dy, dx), (0, 1)), d) for t, d in slices.kept or []]
    shift = np.array([dx * grid.sampling_A[1], dy * grid.sampling_A[0]])
    position = np.array([[14.1, 13.3]])
    a = windows.scan(PROBE, position, slices, grid, DETECTORS, 8.0, threads=1)
    there = Slices(lambda: iter(moved), moved, 1)
    b = windows.scan(PROBE, position + shift, there, grid, DETECTORS, 8.0, threads=1)
    np.testing.assert_allclose(a.values, b.values, rtol=1e-5)


def test_errors_shrink_with_the_window_and_one_is_found_that_is_small_enough() -> None:
    grid = Grid.for_wave((24.0, 24.0), 2.6, 1.5)
    slices = glass(grid)
    raster = np.stack(np.meshgrid(np.arange(9), np.arange(9)), -1).reshape(-1, 2) * 2.6
    controls = Controls(PROBE, raster, slices, grid, DETECTORS, count=10, threads=1)
    small, large = controls.window(5.0), controls.window(14.0)
    assert large.overall < 0.6 * small.overall
    size, stated = controls.fit_window(0.2, 8.0)
    assert stated.overall <= 0.2
    assert size < 24.0
    assert controls.fit_window(1e-6, 8.0, growth=3.0)[0] == 24.0
    assert controls.window(24.0).overall < 1e-4


def test_a_window_has_the_samples_of_its_cell() -> None:
    grid = Grid.for_wave((30.0, 40.0), 2.6, 1.5, shear_A=6.0)
    window = windows.window_grid(grid, 10.0)
    np.testing.assert_allclose(window.sampling_A, grid.sampling_A)
    assert window.shear_A / window.extent_A[0] == pytest.approx(6.0 / 30.0)
    assert min(window.edges_A) >= 10.0
    assert max(window.edges_A) < 12.0
    assert windows.window_grid(grid, 100.0) == grid
    with pytest.raises(ValueError, match="window"):
        windows.window_grid(grid, 0.5)


def test_windows_are_centred_on_their_positions() -> None:
    grid = Grid.for_wave((30.0, 40.0), 2.6, 1.5, shear_A=6.0)
    window = windows.window_grid(grid, 10.0)
    positions = np.random.default_rng(6).random((50, 2)) * 100 - 50
    corners, local = windows.place(positions, grid, window)
    v, u = local[:, 1] / window.extent_A[0], 0.0
    u = (local[:, 0] - v * window.shear_A) / window.extent_A[1]
    assert np.abs(v * window.shape[0] - window.shape[0] // 2).max() <= 0.5 + 1e-9
    assert np.abs(u * window.shape[1] - window.shape[1] // 2).max() <= 0.5 + 1e-9
    # Corner and local position make up the position, but for whole cells.
    y = corners[:, 0] * grid.sampling_A[0] + local[:, 1] - positions[:, 1]
    cells = y / grid.extent_A[0]
    np.testing.assert_allclose(cells, np.round(cells), atol=1e-9)


def test_moments_are_weighed_in_windows_too() -> None:
    """Centre of mass in vacuum is zero, the sum is the beam: signed weights average alike."""
    grid = Grid.for_wave((23.0, 24.0), 2.6, 1.5)
    empty = Slices(lambda: iter([(None, 5.0)]), [(None, 5.0)], 1)
    weights = windows.coarse_weights(
        [MomentDetector(name="com", outer_mrad=50)], PROBE, windows.window_grid(grid, 9.0), grid
    )
    found = windows.scan(
        PROBE,
        [[3.0, 4.0]],
        empty,
        grid,
        [MomentDetector(name="com", outer_mrad=50)],
        9.0,
        threads=1,
    )
    values = dict(zip(weights.names, found.values[0], strict=True))
    assert values["com-sum"] == pytest.approx(1.0, abs=1e-5)
    assert values["com-x"] == pytest.approx(0.0, abs=1e-4)
    assert values["com-y"] == pytest.approx(0.0, abs=1e-4)


def test_the_cone_of_a_probe() -> None:
    """200 kV, 20 mrad: 40 Å per 1000 Å from the focus, and a diffraction limit of 1.25 Å."""
    focused_in = Probe(200.0, 20.0, {"C10": 0.0})
    assert windows.probe_reach_A(focused_in, 200.0) == pytest.approx(8.0 + 1.254, abs=0.01)
    in_the_middle = Probe(200.0, 20.0, {"C10": -100.0})
    assert windows.probe_reach_A(in_the_middle, 200.0) == pytest.approx(4.0 + 1.254, abs=0.01)

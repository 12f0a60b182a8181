"""Multislice in batches equals multislice one wave at a time; on a GPU where there is one."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nanophantom.simcore import arrays
from nanophantom.simcore.electrons.batch import BatchMultislice, Disk, exit_waves
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.multislice import ExitWave, Multislice, Step, plane_wave
from nanophantom.simcore.electrons.potential import PotentialBuilder
from nanophantom.simcore.electrons.stem import s_matrix, scan
from nanophantom.simcore.electrons.stem.detectors import AnnularDetector, Weights
from nanophantom.simcore.electrons.stem.probe import Beams, Probe
from nanophantom.simcore.electrons.transmission import Transmission

GRIDS = (Grid((90, 72), (14.3, 11.0), 2.0), Grid((72, 84), (10.0, 12.0), 2.0, shear_A=-4.0))
ENERGY_KEV = 200.0
TILT_MRAD = (9.0, -5.0)


def slices(grid: Grid, n_slices: int = 4) -> list[Step]:
    """Return transmission functions of copper and carbon atoms, and an empty slice."""
    rng = np.random.default_rng(4)
    transmit = Transmission(grid, ENERGY_KEV, 2, "complex128")
    builder = PotentialBuilder(transmit.potential_grid, [6, 29], dtype="float64")
    steps: list[Step] = []
    for _ in range(n_slices):
        x, y = rng.uniform(0, 15, (2, 12))
        steps.append((transmit(builder.project([6, 29] * 6, x, y)), float(rng.uniform(1, 3))))
    steps.insert(2, (None, 1.7))
    return steps


def incident(grid: Grid) -> list[npt.NDArray[np.complex128]]:
    """Return a plane wave, probes at five places and a wave of random coefficients."""
    rng = np.random.default_rng(8)
    probe = Probe(ENERGY_KEV, 20.0, {"C10": -80.0, "C30": 1e7})
    beams = Beams.inside(grid, probe)
    amplitudes = beams.amplitudes(probe)
    probes = [beams.wave(beams.at(amplitudes, x, y), grid) for x, y in rng.uniform(0, 9, (5, 2))]
    noise = rng.standard_normal((2, *grid.wave_shape)) @ np.ones(grid.wave_shape[1])
    random = rng.standard_normal(grid.wave_shape) + 1j * noise[0][:, None]
    return [plane_wave(grid), *probes, random / np.linalg.norm(random)]


def both(grid: Grid, dtype: str, device: arrays.Backend | None = None) -> float:
    """Return the largest difference of batches from `Multislice`, waves and losses."""
    steps, waves = slices(grid), incident(grid)
    alone = Multislice(grid, ENERGY_KEV, (), TILT_MRAD, dtype=dtype)
    found = exit_waves(waves, len(waves), steps, grid, ENERGY_KEV, _both, TILT_MRAD, device, dtype)
    worst = 0.0
    for i, (wave, (index, out)) in enumerate(zip(waves, found, strict=True)):
        expected = alone.propagate(wave, steps)
        assert index == i
        assert (out.n_slices, out.extent_A) == (expected.n_slices, expected.extent_A)
        worst = max(worst, float(np.abs(out.wave_k - expected.wave_k).max()))
        worst = max(worst, abs(out.kept - expected.kept), abs(out.lost - expected.lost))
    return worst


def _both(index: int, out: ExitWave) -> tuple[int, ExitWave]:
    return index, out


@pytest.mark.parametrize("grid", GRIDS, ids=["rectangle", "oblique"])
def test_batch_equals_one_wave_at_a_time(grid: Grid) -> None:
    """Plane wave, probes, random wave; tilted beam; kept and lost: to 1e-6, in double to 1e-13."""
    assert both(grid, "complex64") < 1e-6
    assert both(grid, "complex128") < 1e-13


@pytest.mark.parametrize("grid", GRIDS, ids=["rectangle", "oblique"])
def test_padded_transforms_change_nothing(grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    """The transforms that serve a GPU, here by scipy: to 1e-6."""
    import scipy.fft

    def padded(
        self: arrays.Backend, count: int, shape: tuple[int, int], width: int, dtype: Any
    ) -> arrays.PaddedTransform:
        return arrays.PaddedTransform(count, shape, width, dtype, np, scipy.fft)

    monkeypatch.setattr(arrays.Backend, "transform", padded)
    assert both(grid, "complex64") < 1e-6


def test_gpu_equals_the_processor() -> None:
    """The same on a GPU: to 1e-6. Skipped, with the reason, where there is none."""
    usable = arrays.available("cupy")
    if not usable:
        pytest.skip(usable.reason)
    for grid in GRIDS:
        assert both(grid, "complex64", arrays.backend("cupy")) < 1e-6


@pytest.mark.parametrize("grid", GRIDS, ids=["rectangle", "oblique"])
def test_offset_waves_equal_waves_of_a_larger_cell(grid: Grid) -> None:
    """A wave of q0 = half a reciprocal vector lives on twice the cell, where nothing is special."""
    steps = slices(grid)
    (ny, nx), (ly, lx) = grid.shape, grid.extent_A
    big = Grid((2 * ny, nx), (2 * ly, lx), grid.k_max, 2 * grid.shear_A)
    tiled = [(None if t is None else np.tile(t, (2, 1)), dz) for t, dz in steps]
    wave = np.zeros(big.wave_shape, complex)
    wave[-3, 2], wave[5, -1] = 0.8, 0.6j  # odd harmonics along y alone
    expected = Multislice(big, ENERGY_KEV, dtype="complex128").propagate(wave, tiled).wave_k
    disk = Disk.around(grid, (0.0, 0.5 / ly))
    start = np.zeros((1, disk.inside.size), complex)
    # (l + 1/2) / Ly = (2 l + 1) / 2 Ly: odd harmonics -3 and 5 are l = -2 and 2
    start[0, disk.place(np.array([[-2, 2], [2, -1]]))] = 0.8, 0.6j
    engine = BatchMultislice(grid, ENERGY_KEV, 1, dtype="complex128")
    out = engine.propagate(start.reshape(1, *disk.inside.shape), steps, disk)[0]
    odd = np.fft.fftshift(expected)
    ky, kx = (np.fft.fftshift(np.broadcast_to(k, expected.shape)) for k in big.wave_frequencies)
    own = np.argwhere(disk.inside)
    for row, column in own[:: len(own) // 50]:
        apart = np.hypot(ky - disk.ky[row, column], kx - disk.kx[row, column])
        assert apart.min() < 1e-12
        assert out[row, column] == pytest.approx(odd.flat[apart.argmin()], abs=1e-13)
    assert np.sum(np.abs(out) ** 2) == pytest.approx(np.sum(np.abs(expected) ** 2), abs=1e-13)


@pytest.mark.parametrize("kept", [True, False])
def test_scans_and_scattering_matrices_in_batches(
    kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """device="gpu" gives the same results, slices kept or made again."""
    grid = GRIDS[0]
    steps = slices(grid)
    given = scan.Slices(lambda: iter(steps), steps if kept else None, 3)
    probe = Probe(ENERGY_KEV, 20.0, {"C10": -80.0})
    beams = Beams.inside(grid, probe)
    positions = np.random.default_rng(1).uniform(0, 10, (4, 2))
    ky, kx = grid.wave_frequencies
    detectors = [AnnularDetector(name="adf", inner_mrad=25, outer_mrad=48)]
    weights = Weights.of(detectors, kx, ky, ENERGY_KEV, grid.wave_mask)

    def results(
        device: scan.Device,
    ) -> tuple[scan.Signals, tuple[npt.NDArray[Any], npt.NDArray[np.float64]]]:
        return (
            scan.scan(probe, positions, given, grid, weights, TILT_MRAD, 1, device=device),
            s_matrix.scattering_matrix(
                beams, given, grid, ENERGY_KEV, weights.place, TILT_MRAD, 1, device
            ),
        )

    expected, (matrix, intensity) = results("cpu")
    assert expected.values.min() > 5e-4
    # The way to a GPU, with numpy standing in for CuPy.
    monkeypatch.setattr(scan, "backend", lambda name: arrays.backend("numpy"))
    found, (matrix_found, intensity_found) = results("gpu")
    assert np.allclose(found.values, expected.values, rtol=0, atol=1e-7)
    assert np.allclose(found.kept, expected.kept, rtol=0, atol=1e-6)
    assert np.allclose(found.lost, expected.lost, rtol=0, atol=1e-6)
    assert np.allclose(matrix_found, matrix, rtol=0, atol=1e-6)
    # Single precision: both are within 1e-6 of the result in double precision.
    assert np.allclose(intensity_found, intensity, rtol=0, atol=2e-6)


def test_real_slices_are_potentials() -> None:
    """A real slice is a projected potential in V Å, as for `Multislice`."""
    grid = GRIDS[0]
    potential = PotentialBuilder(grid, [29]).project([29, 29], [3.0, 5.5], [4.0, 8.1])
    steps: list[Step] = [(potential, 2.0), (potential, 1.0)]
    [out] = exit_waves([plane_wave(grid)], 1, steps, grid, ENERGY_KEV, lambda _, out: out)
    expected = Multislice(grid, ENERGY_KEV).propagate(plane_wave(grid), steps)
    assert np.abs(out.wave_k - expected.wave_k).max() < 1e-6
    assert out.lost == pytest.approx(expected.lost, abs=1e-6)
    assert out.lost > 1e-5


def test_refusals_say_what_would_be_right() -> None:
    """Shapes that don't fit are refused."""
    grid = GRIDS[0]
    engine, disk = BatchMultislice(grid, ENERGY_KEV, 2), Disk.around(grid)
    with pytest.raises(ValueError, match="at most"):
        engine.propagate(np.zeros((3, *disk.inside.shape)), [], disk)
    with pytest.raises(ValueError, match="a slice has shape"):
        engine.propagate(np.zeros((1, *disk.inside.shape)), [(np.ones((3, 3)), 1.0)], disk)
    with pytest.raises(ValueError, match="count is 0"):
        BatchMultislice(grid, ENERGY_KEV, 0)
    with pytest.raises(ValueError, match="outside the band limit"):
        disk.place(np.array([[0, 500]]))
    with pytest.raises(ValueError, match="wave_shape"):
        exit_waves([np.zeros((2, 2))], 1, [], grid, ENERGY_KEV, lambda _, out: out)
    bad = np.full(grid.wave_shape, np.nan)
    with pytest.raises(ValueError, match="not finite"):
        exit_waves([bad], 1, [], grid, ENERGY_KEV, lambda _, out: out)

"""The scattering matrix: the exit wave of every beam of a probe, kept where detectors look.

C. Ophus, Advanced Structural and Chemical Imaging 3, 13 (2017), without interpolation: every beam
of the cell is propagated, so that sums of them are exact.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.multislice import ExitWave
from nanophantom.simcore.electrons.stem.detectors import Weights
from nanophantom.simcore.electrons.stem.gram import Block, GramMatrices, gram
from nanophantom.simcore.electrons.stem.probe import Beams, Probe
from nanophantom.simcore.electrons.stem.scan import Device, Slices, exit_waves

Complexes = npt.NDArray[np.complex64]


def matrix_bytes(n_beams: int, n_places: int) -> int:
    """Return the memory that a scattering matrix takes."""
    return 8 * n_beams * n_places


def scattering_matrix(
    beams: Beams,
    slices: Slices,
    grid: Grid,
    energy_kev: float,
    place: npt.NDArray[np.int64],
    tilt_mrad: tuple[float, float] = (0.0, 0.0),
    threads: int | None = None,
    device: Device = "cpu",
) -> tuple[Complexes, npt.NDArray[np.float64]]:
    """Propagate every beam.

    Parameters
    ----------
    beams : Beams
    slices, grid, energy_kev, tilt_mrad, threads, device
        As for `exit_waves`.
    place : (q,) int
        Which coefficients of the flattened exit waves to keep.

    Returns
    -------
    matrix : (n, q) complex64
        Row b is the exit wave of the beam b of amplitude 1.
    kept : (n,)
        Part of its intensity that stayed below the band limit.
    """
    matrix = np.empty((len(beams), len(place)), np.complex64)
    one = np.zeros(len(beams), complex)

    def make(b: int) -> npt.NDArray[np.complex128]:
        alone = one.copy()
        alone[b] = 1
        return beams.wave(alone, grid)

    def read(b: int, out: ExitWave) -> float:
        matrix[b] = out.wave_k.reshape(-1)[place]
        return out.kept

    kept = exit_waves(
        make, len(beams), slices, grid, energy_kev, read, tilt_mrad, threads, device=device
    )
    return matrix, np.array(kept)


def gram_matrices(
    probe: Probe,
    slices: Slices,
    grid: Grid,
    weights: Weights,
    tilt_mrad: tuple[float, float] = (0.0, 0.0),
    threads: int | None = None,
    device: Device = "cpu",
) -> GramMatrices:
    """Make the Gram matrices of a specimen for every probe within an aperture: exact.

    Parameters
    ----------
    probe : Probe
        Its aperture decides the beams.
    slices, grid, tilt_mrad, threads, device
        As for `exit_waves`.
    weights : Weights
        Of the detectors, on the grid's `wave_frequencies`.
    """
    beams = Beams.inside(grid, probe)
    matrix, kept = scattering_matrix(
        beams, slices, grid, probe.energy_kev, weights.place, tilt_mrad, threads, device
    )
    block = Block(np.arange(len(beams)), gram(matrix, weights, threads))
    return GramMatrices(probe, beams, grid, weights.names, [block], kept)

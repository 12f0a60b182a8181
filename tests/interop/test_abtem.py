"""Our propagation against abTEM's, on the same gold particle and the same potential."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from ase import Atoms
from ase.cluster import Icosahedron

from nanophantom.simcore.electrons.constants import interaction_constant
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.multislice import exit_wave, plane_wave, propagate

pytestmark = pytest.mark.peer

BOX_A, N, SLICE_A, ENERGY_KEV = 60.0, 1024, 1.0, 300.0


def _gold_particle() -> Atoms:
    """Build a Mackay icosahedron of 8 shells, 1415 atoms, in a general orientation."""
    particle = Icosahedron("Au", 8, latticeconstant=4.08)
    for degrees, axis in ((17, "x"), (31, "y"), (7, "z")):
        particle.rotate(degrees, axis)
    particle.set_cell([BOX_A] * 3)
    particle.center()
    return particle


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def test_exit_wave_of_a_gold_particle_equals_abtems(capsys: pytest.CaptureFixture[str]) -> None:
    """Same potential, slices, sampling and aperture: 1e-5 in relative L2.

    abTEM 1.0.11 (J. Madsen and T. Susi, Open Research Europe 1, 24 (2021)) cuts the wave and the
    transmission function to a disk at 2/3 of the Nyquist frequency. Its default tapers the edge
    of that disk, anew in every slice; here the edge is hard, as ours is. How much our position-
    exact potentials change is printed.
    """
    abtem = pytest.importorskip("abtem")
    atoms = _gold_particle()
    assert len(atoms) == 1415
    quiet_and_hard = {"local_diagnostics.progress_bar": False, "antialias.taper": 0.0}
    with abtem.config.set(quiet_and_hard):
        potential = abtem.Potential(
            atoms, gpts=N, slice_thickness=SLICE_A, parametrization="lobato", projection="infinite"
        ).build(lazy=False)
        theirs = abtem.PlaneWave(energy=1e3 * ENERGY_KEV).multislice(potential, lazy=False).array

    k_max = 2 / 3 * N / (2 * BOX_A)
    grid = Grid((N, N), (BOX_A, BOX_A), k_max)
    k = np.fft.fftfreq(N, BOX_A / N)
    aperture = np.hypot(k[:, None], k[None, :]) < k_max

    def steps() -> Iterator[tuple[np.ndarray | None, float]]:
        for projected in potential.array:
            if projected.any():  # abTEM's arrays are (x, y), ours (y, x)
                t = np.exp(1j * interaction_constant(ENERGY_KEV) * projected.T.astype(float))
                yield np.fft.ifft2(np.fft.fft2(t) * aperture), SLICE_A
            else:
                yield None, SLICE_A

    (oy, ox), (my, mx) = grid.order, grid.wave_shape
    rows, columns = np.arange(-oy, oy + 1), np.arange(-ox, ox + 1)
    reference = np.zeros((my, mx), complex)
    reference[np.ix_(rows, columns)] = np.fft.fft2(theirs.T, norm="forward")[np.ix_(rows, columns)]

    ours = propagate(plane_wave(grid), steps(), grid, ENERGY_KEV)
    exact = exit_wave(
        atoms.numbers, atoms.positions, grid, ENERGY_KEV, slice_thickness_A=SLICE_A, depth_A=BOX_A
    )
    same, other = _relative(ours.wave_k, reference), _relative(exact.wave_k, reference)
    with capsys.disabled():
        print(  # noqa: T201
            f"\ngold particle, exit wave, relative L2 against abTEM: {same:.1e} with abTEM's "
            f"potential, {other:.1e} with exact potentials and planes of our own"
        )
    assert same < 1e-5
    assert 1e-3 < other < 0.1

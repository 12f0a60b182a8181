"""Our propagation against abTEM's, on the same gold particle and the same potential.

abTEM 1.0.11 (J. Madsen and T. Susi, Open Research Europe 1, 24 (2021)) cuts transmission functions
and waves to a disk at 2/3 of the Nyquist frequency of its samples. By default the rim of that disk
is tapered over the outermost hundredth of the sampling frequency, and each slice, empty or not,
weights both the transmission function and the propagated wave with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.cluster import Icosahedron

from nanophantom.simcore.electrons.constants import interaction_constant
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.multislice import Multislice, exit_wave, plane_wave, propagate

pytestmark = pytest.mark.peer

BOX_A, N, SLICE_A, ENERGY_KEV = 60.0, 1024, 1.0, 300.0
GRID = Grid((N, N), (BOX_A, BOX_A), k_max=2 / 3 * N / (2 * BOX_A))


def _gold_particle() -> Atoms:
    """Build a Mackay icosahedron of 8 shells, 1415 atoms, in a general orientation."""
    particle = Icosahedron("Au", 8, latticeconstant=4.08)
    for degrees, axis in ((17, "x"), (31, "y"), (7, "z")):
        particle.rotate(degrees, axis)
    particle.set_cell([BOX_A] * 3)
    particle.center()
    return particle


def _abtems(atoms: Atoms, **config: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return abTEM's potentials (slice, y, x), its aperture (N, N) and its exit wave (my, mx)."""
    abtem: Any = pytest.importorskip("abtem")
    with abtem.config.set({"local_diagnostics.progress_bar": False, **config}):
        potential = abtem.Potential(
            atoms, gpts=N, slice_thickness=SLICE_A, parametrization="lobato", projection="infinite"
        ).build(lazy=False)
        wave = abtem.PlaneWave(energy=1e3 * ENERGY_KEV).multislice(potential, lazy=False)
        aperture = abtem.antialias.antialias_aperture((N, N), (BOX_A / N, BOX_A / N), np)
    # abTEM's arrays are (x, y), ours (y, x)
    wave_k = _disk(np.fft.fft2(wave.array.T, norm="forward"))
    return potential.array.transpose(0, 2, 1), aperture.T.astype(float), wave_k


def _disk(full: np.ndarray) -> np.ndarray:
    """Return the coefficients (my, mx) of the grid's wave out of all (N, N)."""
    (oy, ox), (my, mx) = GRID.order, GRID.wave_shape
    rows, columns = np.arange(-oy, oy + 1), np.arange(-ox, ox + 1)
    part = np.zeros((my, mx), full.dtype)
    part[np.ix_(rows, columns)] = full[np.ix_(rows, columns)]
    return part


def _transmission(projected: np.ndarray, aperture: np.ndarray) -> np.ndarray | None:
    """Band-limit exp(i sigma V) of a slice as abTEM does; None for an empty slice."""
    if not projected.any():
        return None
    t = np.exp(1j * interaction_constant(ENERGY_KEV) * projected.astype(float))
    return np.fft.ifft2(np.fft.fft2(t) * aperture)


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def test_exit_wave_of_a_gold_particle_equals_abtems(capsys: pytest.CaptureFixture[str]) -> None:
    """Same potential, slices, sampling and hard aperture: 1e-5 in relative L2.

    With abTEM's taper set to nothing its aperture is the disk that our wave lives on. How much our
    position-exact potentials change is printed.
    """
    atoms = _gold_particle()
    assert len(atoms) == 1415
    potentials, aperture, theirs = _abtems(atoms, **{"antialias.taper": 0.0})
    assert set(np.unique(aperture)) == {0.0, 1.0}

    def steps() -> Iterator[tuple[np.ndarray | None, float]]:
        for projected in potentials:
            yield _transmission(projected, aperture), SLICE_A

    ours = propagate(plane_wave(GRID), steps(), GRID, ENERGY_KEV)
    exact = exit_wave(
        atoms.numbers, atoms.positions, GRID, ENERGY_KEV, slice_thickness_A=SLICE_A, depth_A=BOX_A
    )
    same, other = _relative(ours.wave_k, theirs), _relative(exact.wave_k, theirs)
    with capsys.disabled():
        print(  # noqa: T201
            f"\ngold particle, exit wave, relative L2 against abTEM: {same:.1e} with abTEM's "
            f"potential (hard aperture), {other:.1e} with exact potentials and planes of our own"
        )
    assert same < 1e-5
    assert 1e-3 < other < 0.1


def test_exit_wave_equals_abtems_with_its_default_tapered_aperture(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Same potential, slices, sampling and abTEM's own aperture weights: 1e-5 in relative L2.

    The wave goes through our engine one slice at a time and is weighted in between, after empty
    slices too. Without the weights it differs by more than 1e-3, so they matter here.
    """
    potentials, aperture, theirs = _abtems(_gold_particle())
    assert np.any((aperture > 0) & (aperture < 1))
    weights = _disk(aperture)
    assert np.sum(weights) == pytest.approx(np.sum(aperture))  # our disk holds all of the taper

    engine = Multislice(GRID, ENERGY_KEV)
    weighted = plain = plane_wave(GRID)
    for projected in potentials:
        step = (_transmission(projected, aperture), SLICE_A)
        weighted = weights * engine.propagate(weighted, [step]).wave_k
        plain = engine.propagate(plain, [step]).wave_k
    same, unweighted = _relative(weighted, theirs), _relative(plain, theirs)
    with capsys.disabled():
        print(  # noqa: T201
            f"\ngold particle, exit wave, relative L2 against abTEM with its tapered aperture: "
            f"{same:.1e} (wave not weighted: {unweighted:.1e})"
        )
    assert same < 1e-5
    assert unweighted > 1e-3

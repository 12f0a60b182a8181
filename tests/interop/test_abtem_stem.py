"""Scanned probes against abTEM's on its own potentials: crystals, voltages and apertures.

abTEM 1.0.11; its band limit of 2/3 of the Nyquist frequency is made a hard one (taper 0), and its
aperture is softened over a pixel as ours is. Then both calculate the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from ase import Atoms
from ase.build import bulk, surface

from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.stem.detectors import AnnularDetector, Weights
from nanophantom.simcore.electrons.stem.gram import GramMatrices
from nanophantom.simcore.electrons.stem.probe import Probe
from nanophantom.simcore.electrons.stem.s_matrix import gram_matrices
from nanophantom.simcore.electrons.stem.scan import Slices, scan
from nanophantom.simcore.electrons.transmission import Transmission

pytestmark = pytest.mark.peer
RINGS = {"bf": (0.0, 8.0), "abf": (11.0, 22.0), "adf": (40.0, 90.0)}


def _strontium_titanate() -> Atoms:
    cell = Atoms(
        "SrTiO3",
        scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)],
        cell=[3.905] * 3,
    )
    return cell.repeat((4, 4, 5))


def _silicon_110() -> Atoms:
    slab = surface(bulk("Si", cubic=True), (1, 1, 0), 4, periodic=True).repeat((3, 4, 1))
    slab.wrap()
    return slab


def _gold() -> Atoms:
    return bulk("Au", cubic=True).repeat((4, 4, 4))


@pytest.mark.parametrize(
    ("make", "energy_kev", "semiangle_mrad", "defocus_A"),
    [
        (_strontium_titanate, 200.0, 20.0, 0.0),
        (_silicon_110, 100.0, 15.0, -60.0),
        (_gold, 300.0, 24.0, 40.0),
    ],
    ids=["SrTiO3-200kV", "Si110-100kV", "Au-300kV"],
)
def test_scans_on_abtems_potential_equal_abtems(
    make: Any,
    energy_kev: float,
    semiangle_mrad: float,
    defocus_A: float,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """BF, ABF and ADF at 25 positions to 1e-3, by multislice and by Gram matrices."""
    abtem: Any = pytest.importorskip("abtem")
    atoms = make()
    lx, ly, _ = atoms.cell.lengths()
    n = 288
    with abtem.config.set({"local_diagnostics.progress_bar": False, "antialias.taper": 0.0}):
        potential = abtem.Potential(
            atoms, gpts=n, slice_thickness=2.0, parametrization="lobato", projection="infinite"
        ).build(lazy=False)
        probe = abtem.Probe(energy=1e3 * energy_kev, semiangle_cutoff=semiangle_mrad)
        probe.aberrations.set_aberrations({"C10": defocus_A})
        probe.grid.match(potential)
        raster = abtem.GridScan(start=(0, 0), end=(lx, ly), gpts=5, endpoint=False)
        detectors = [abtem.AnnularDetector(inner=a, outer=b) for a, b in RINGS.values()]
        found = probe.scan(potential, raster, detectors, lazy=False)
        theirs = np.stack([np.asarray(image.array).T.ravel() for image in found], axis=1)

    k_max = 2 / 3 * n / 2 / max(lx, ly)
    grid = Grid((n, n), (ly, lx), k_max)
    transmission = Transmission(grid, energy_kev)
    distances = [float(d) for d in potential.slice_thickness]
    steps = [
        (transmission(v.T), distance)
        for v, distance in zip(potential.array, distances, strict=True)
    ]
    slices = Slices(lambda: iter(steps), steps, 1)
    rings = [
        AnnularDetector(name=name, inner_mrad=a, outer_mrad=b) for name, (a, b) in RINGS.items()
    ]
    ky, kx = grid.wave_frequencies
    weights = Weights.of(rings, kx, ky, energy_kev, grid.wave_mask)
    x, y = (np.arange(5) * edge / 5 for edge in (lx, ly))
    positions = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    ours = Probe(energy_kev, semiangle_mrad, {"C10": defocus_A})
    one = scan(ours, positions, slices, grid, weights).values
    two = _images(gram_matrices(ours, slices, grid, weights), positions)
    errors = [np.abs(v - theirs).max(axis=0) / theirs.max(axis=0) for v in (one, two)]
    with capsys.disabled():
        print(f"\n{make.__name__} {energy_kev:g} kV against abTEM: {errors[0]}")  # noqa: T201
    assert np.max(errors) < 1e-3


def _images(matrices: GramMatrices, positions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return matrices.image().at(positions).T

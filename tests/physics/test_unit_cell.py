"""Gram matrices of a crystal from its unit cell: equal to those of the supercell."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from nanophantom.simcore.atoms import Atoms
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.potential import PotentialBuilder
from nanophantom.simcore.electrons.scattering import ScatteringTable
from nanophantom.simcore.electrons.slicing import slice_atoms
from nanophantom.simcore.electrons.stem.detectors import (
    AnnularDetector,
    MomentDetector,
    SegmentedDetector,
    Weights,
)
from nanophantom.simcore.electrons.stem.gram import GramMatrices
from nanophantom.simcore.electrons.stem.probe import Probe, lattice
from nanophantom.simcore.electrons.stem.s_matrix import gram_matrices
from nanophantom.simcore.electrons.stem.scan import Slices
from nanophantom.simcore.electrons.stem.unit_cell import (
    UnitCell,
    repeats_for,
    supercell_grid,
    unit_cell_gram,
)
from nanophantom.simcore.electrons.transmission import Transmission, highest_frequency

Floats = npt.NDArray[np.float64]

DETECTORS = (
    AnnularDetector(name="haadf", inner_mrad=45, outer_mrad=78),
    AnnularDetector(name="abf", inner_mrad=10, outer_mrad=20, shift_mrad=(1.0, -0.5)),
    AnnularDetector(name="bf", outer_mrad=10),
    SegmentedDetector(name="dpc", inner_mrad=5, outer_mrad=30, segments=3, rotation_deg=20),
    MomentDetector(name="com", outer_mrad=75),
)
# 1/Å, 81.5 mrad. Grids of 40 and 32 samples: were they multiples of 3, a harmonic would lie on the
# edge of the potential's disk (2/3 of Nyquist), where rounding decides whether it belongs to it.
K_MAX = 3.25
# Asymmetric on purpose: an error of orientation can't hide.
PROBE = Probe(200.0, 18.0, {"C10": -60.0, "C30": 1.0e7, "C21": 3e3, "phi21": 0.7})
A_STO = 3.905  # Å, SrTiO3 at room temperature


def strontium_titanate(cells: int, off_centre_A: float = 0.0) -> UnitCell:
    """Return SrTiO3 [001]; titanium may be moved aside along x, half as far along y."""
    base = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0.5], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    base *= A_STO
    base[2, :2] += off_centre_A, off_centre_A / 2
    z = np.array([0.0, 0.0, A_STO])
    positions = np.concatenate([base + i * z for i in range(cells)])
    return UnitCell(A_STO * np.eye(2), np.tile([38, 8, 22, 8, 8], cells), positions)


def zinc_oxide(cells: int) -> UnitCell:
    """Return wurtzite ZnO [0001] on its hexagonal cell: a = 3.25, c = 5.207 Å, u = 0.382."""
    a1, a2 = 3.25 * np.array([[1, 0], [-0.5, np.sqrt(0.75)]])
    one, two = (a1 + 2 * a2) / 3, (2 * a1 + a2) / 3
    base = np.array([[*one, 0], [*one, 0.382], [*two, 0.5], [*two, 0.882]]) * [1, 1, 5.207]
    positions = np.concatenate([base + np.array([0, 0, 5.207 * i]) for i in range(cells)])
    return UnitCell(np.stack([a1, a2]), np.tile([30, 8, 30, 8], cells), positions)


def by_supercell(
    cell: UnitCell,
    repeats: npt.ArrayLike,
    grid: Grid,
    fineness: int,
    table: ScatteringTable = "lobato",
    tilt_mrad: tuple[float, float] = (0.0, 0.0),
) -> GramMatrices:
    """Repeat the cell and do plain multislice of every beam."""
    matrix = np.asarray(repeats)
    matrix = np.diag(matrix) if matrix.ndim == 1 else matrix
    every = np.argwhere(np.ones((21, 21))) - 10  # cells, those whose corner is in the supercell
    share = np.linalg.solve((matrix * 1.0).T, every.T).T
    own = every[((share > -1e-9) & (share < 1 - 1e-9)).all(axis=1)]
    assert len(own) == round(np.linalg.det(matrix))
    offsets = np.column_stack([own @ cell.vectors_A, np.zeros(len(own))])
    numbers = np.tile(cell.numbers, len(own))
    x, y, z = np.concatenate([cell.positions_A + offset for offset in offsets]).T
    transmit = Transmission(grid, PROBE.energy_kev, fineness)
    elements = np.unique(numbers).tolist()
    builder = PotentialBuilder(transmit.potential_grid, elements, table)
    slices = slice_atoms(z, 2.0, numbers)
    ends = [s.z_A for s in slices[1:]] + [slices[-1].z_A]
    steps = [
        (transmit(builder.project(numbers[some], x[some], y[some])), end - plane)
        for (plane, some), end in zip(slices, ends, strict=True)
    ]
    ky, kx = grid.wave_frequencies
    weights = Weights.of(DETECTORS, kx, ky, PROBE.energy_kev, grid.wave_mask, lattice(grid))
    kept = Slices(lambda: steps, steps, 1)
    return gram_matrices(PROBE, kept, grid, weights, tilt_mrad, threads=1)


def difference(one: GramMatrices, two: GramMatrices) -> float:
    """Return the largest difference of two image series over the largest value of each signal.

    First and second moments, small differences of large sums, are told in semiangles instead.
    """
    first, second = one.image(), two.image()
    assert first.names == second.names
    worst = 0.0
    for name, a, b in zip(first.names, first.coefficients, second.coefficients, strict=True):
        order = len(name.removeprefix("com-")) if name.startswith("com-") else 0
        moment = 0 < order <= 2
        scale = PROBE.semiangle_mrad**order if moment else np.abs(b).max()
        worst = max(worst, float(np.abs(a - b).max() / scale))
    return worst


def multiple(cell: UnitCell, repeats: tuple[int, int], k_cut: float) -> Grid:
    """Return the supercell's grid with the very samples that the unit cell's grid has."""
    big, small = supercell_grid(cell.vectors_A, repeats, K_MAX), cell.grid(K_MAX, k_cut)
    (m, n), (ny, nx) = repeats, small.shape
    return Grid((n * ny, m * nx), big.extent_A, K_MAX, big.shear_A)


@pytest.mark.parametrize("table", ["lobato", "kirkland"])
def test_square_cell_equals_the_supercell(table: ScatteringTable) -> None:
    """SrTiO3 [001], 3 x 2 cells, 10 slices, titanium off centre: all signals to 1e-5."""
    cell, repeats = strontium_titanate(5, off_centre_A=0.15), (3, 2)
    grid = multiple(cell, repeats, K_MAX)
    k_cut = highest_frequency(grid)
    found = unit_cell_gram(
        PROBE, cell, repeats, K_MAX, DETECTORS, table=table, fineness=2, k_cut=k_cut, threads=1
    )
    assert len(found.blocks) == 6
    assert difference(found, by_supercell(cell, repeats, grid, 2, table)) < 1e-5


def test_tilted_beam_equals_the_supercell() -> None:
    """The same with the beam 12 and -7 mrad off the axis."""
    cell, repeats, tilt = strontium_titanate(4), (2, 3), (12.0, -7.0)
    grid = multiple(cell, repeats, K_MAX)
    k_cut = highest_frequency(grid)
    found = unit_cell_gram(
        PROBE, cell, repeats, K_MAX, DETECTORS, fineness=2, k_cut=k_cut, tilt_mrad=tilt, threads=1
    )
    assert difference(found, by_supercell(cell, repeats, grid, 2, tilt_mrad=tilt)) < 1e-5


def test_hexagonal_cell_equals_its_oblique_supercell() -> None:
    """ZnO [0001] on 3 x 2 hexagonal cells, two cells thick: all signals to 1e-5."""
    cell, repeats = zinc_oxide(2), (3, 2)
    grid = multiple(cell, repeats, K_MAX)
    k_cut = highest_frequency(grid)
    found = unit_cell_gram(
        PROBE, cell, repeats, K_MAX, DETECTORS, fineness=2, k_cut=k_cut, threads=1
    )
    assert difference(found, by_supercell(cell, repeats, grid, 2)) < 1e-5


def test_hexagonal_cell_equals_its_rectangular_supercell() -> None:
    """ZnO [0001], the 3.25 x 5.63 Å rectangle taken 2 x 1: other samples, same images to 1e-5.

    The two grids sample the potential at different points: it must be fine enough for both.
    """
    cell, repeats = zinc_oxide(2), ((2, 0), (1, 2))
    small, big = cell.grid(K_MAX, K_MAX), supercell_grid(cell.vectors_A, repeats, K_MAX)
    nx = 2 * small.shape[1]  # the same Nyquist frequency along x, so the same cuts
    ny = 2 * int(np.ceil(0.5 * nx * big.extent_A[0] / big.extent_A[1]))
    grid = Grid((ny, nx), big.extent_A, K_MAX)
    assert min(grid.nyquist) == pytest.approx(min(small.nyquist), rel=1e-12)
    k_cut = highest_frequency(grid)
    found = unit_cell_gram(
        PROBE, cell, repeats, K_MAX, DETECTORS, fineness=4, k_cut=k_cut, threads=1
    )
    assert found.grid.shear_A == 0
    assert difference(found, by_supercell(cell, repeats, grid, 4)) < 1e-5


def test_column_of_a_specimen() -> None:
    """What a specimen gives in nm is the same cell in Å."""
    cell = strontium_titanate(2)
    atoms = Atoms.of(cell.numbers, cell.positions_A / 10, 0.5)
    taken = UnitCell.of_column((cell.vectors_A / 10, atoms))
    assert np.allclose(taken.vectors_A, cell.vectors_A, rtol=1e-14)
    assert np.allclose(taken.positions_A, cell.positions_A, rtol=1e-14)
    assert np.array_equal(taken.numbers, cell.numbers)


def test_images_have_the_period_of_the_unit_cell() -> None:
    """Equivalent columns are equal, by construction: no other frequency has a coefficient."""
    cell = strontium_titanate(3, off_centre_A=0.15)
    found = unit_cell_gram(PROBE, cell, (3, 2), K_MAX, DETECTORS, fineness=2, threads=1)
    images = found.image()
    _, ny, nx = images.coefficients.shape
    y, x = np.arange(ny) - ny // 2, np.arange(nx) - nx // 2
    between = (y[:, None] % 2 != 0) | (x[None, :] % 3 != 0)
    assert between.any()
    assert np.all(images.coefficients[:, between] == 0)
    at = np.array([[0.3, 1.1]])
    here, there = images.at(at), images.at(at + A_STO * np.array([2, 1]))
    assert np.allclose(here, there, rtol=1e-12)
    haadf = images.at([[0, 0], [A_STO / 2, A_STO / 2], [A_STO / 2, 0]])[0]
    assert np.ptp(haadf) > 0.3 * haadf.mean()


def test_intensity_reaches_the_detectors() -> None:
    """A disk as large as the band limit sees what is kept: 1 in vacuum, less in matter."""
    everything = [AnnularDetector(name="all", outer_mrad=81.0)]
    vacuum = UnitCell(A_STO * np.eye(2), np.zeros(0, np.int64), np.zeros((0, 3)))
    seen = unit_cell_gram(PROBE, vacuum, (4, 4), K_MAX, everything, threads=1)
    assert np.allclose(seen.image().at([[0, 0], [1, 2]]), 1, atol=1e-6)
    foil = strontium_titanate(3)
    seen = unit_cell_gram(PROBE, foil, (4, 4), K_MAX, everything, fineness=2, threads=1)
    value = seen.image().at([[0, 0]]).item()
    assert 0.9 < value < 0.999


def test_threads_do_not_change_the_result() -> None:
    """One thread or three: the same bits."""
    cell = strontium_titanate(1)
    made = [
        unit_cell_gram(PROBE, cell, (3, 2), K_MAX, DETECTORS, fineness=2, threads=n) for n in (1, 3)
    ]
    for one, three in zip(made[0].blocks, made[1].blocks, strict=True):
        assert np.array_equal(one.beams, three.beams)
        assert np.array_equal(one.matrices, three.matrices)


def test_repeating_slices_are_made_once() -> None:
    """Six cells along the beam hold two different slices; whole cells across it don't matter."""
    cell = strontium_titanate(6)
    moved = cell.positions_A.copy()
    moved[7, :2] += 2 * A_STO, -A_STO
    moved[0, :2] -= 1e-9  # the other side of the cell's corner
    grid = cell.grid(K_MAX, K_MAX)
    for positions in (cell.positions_A, moved):
        steps = UnitCell(cell.vectors_A, cell.numbers, positions).steps(grid, 200.0, K_MAX)
        assert len(steps) == 12
        assert len({id(t) for t, _ in steps}) == 2


def test_repeats_hold_a_circle() -> None:
    """The sides of the supercell are at least as far apart as asked, and hardly more."""
    assert repeats_for(A_STO * np.eye(2), 6 * A_STO) == (6, 6)
    vectors = np.array([[3.0, 0.0], [1.5, 4.0]])
    repeats = repeats_for(vectors, 20.0)
    m, n = (count * row for count, row in zip(repeats, vectors, strict=True))
    area = m[0] * n[1] - m[1] * n[0]
    heights = area / np.hypot(*n), area / np.hypot(*m)
    assert all(20.0 <= h < 20.0 + 4.0 for h in heights)


def test_refusals_say_what_would_be_right() -> None:
    """Cells that lie askew and bad repeats are refused."""
    with pytest.raises(ValueError, match=r"first must point along \+x"):
        UnitCell(np.array([[3.0, 1.0], [0.0, 3.0]]), np.zeros(0, np.int64), np.zeros((0, 3)))
    with pytest.raises(ValueError, match="positions_A has shape"):
        UnitCell(np.eye(2), np.array([6]), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="2 x 2 whole-number matrix"):
        supercell_grid(np.eye(2), (1.5, 2), 4.0)
    with pytest.raises(ValueError, match=r"repeats .*first must point"):
        supercell_grid(np.eye(2), ((1, 1), (0, 2)), 4.0)
    with pytest.raises(ValueError, match="k_cut is 0"):
        unit_cell_gram(PROBE, strontium_titanate(1), (2, 2), K_MAX, DETECTORS, k_cut=0)
    with pytest.raises(ValueError, match="width_A is -1"):
        repeats_for(np.eye(2), -1)

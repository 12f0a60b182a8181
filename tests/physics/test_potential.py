"""Projected potentials are exact wherever the atoms are."""

from __future__ import annotations

import numpy as np
import pytest

from nanophantom.simcore.electrons.constants import POTENTIAL_CONSTANT_V_A2
from nanophantom.simcore.electrons.grid import Grid, oversampling_for
from nanophantom.simcore.electrons.potential import PotentialBuilder
from nanophantom.simcore.electrons.scattering import projected_potential, scattering_factor


def _random_atoms(seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return elements and positions of 300 atoms, also outside the cell of 21 Å by 17 Å."""
    rng = np.random.default_rng(seed)
    return rng.choice([8, 22, 38], 300), rng.uniform(-30, 40, 300), rng.uniform(-20, 30, 300)


GRID = Grid.for_wave((17.0, 21.0), k_max=4.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("table", ["lobato", "kirkland"])
def test_gridding_equals_the_sum_over_atoms(dtype: str, table: str) -> None:
    """All Fourier coefficients agree with the direct sum to 5e-6 of the largest, and in L2."""
    numbers, x, y = _random_atoms()
    builder = PotentialBuilder(GRID, numbers, table, dtype)
    exact = PotentialBuilder(GRID, numbers, table, "float64").exact(numbers, x, y)
    gridded = builder.project(numbers, x, y)
    assert gridded.dtype == dtype
    error = np.abs(np.fft.fft2(gridded - exact))
    assert error.max() < 5e-6 * np.abs(np.fft.fft2(exact)).max()
    assert np.linalg.norm(gridded - exact) < 2e-6 * np.linalg.norm(exact)


@pytest.mark.parametrize("method", ["project", "exact"])
def test_oblique_cell_equals_the_orthogonal_supercell(method: str) -> None:
    """A hexagonal cell has the coefficients of its orthogonal supercell: to 1e-6 of the norm.

    Edges (L, 0) and (L/2, 3^(1/2)/2 L) against L and 3^(1/2) L, which holds two such cells. Its
    coefficient [l, h] is [2 l - h, h] there; all others vanish.
    """
    rng = np.random.default_rng(4)
    length, n = 14.0, 60
    numbers = rng.choice([16, 42], n)
    x, y = rng.uniform(-20, 30, n), rng.uniform(-20, 30, n)
    height = 0.5 * np.sqrt(3) * length
    hexagonal = Grid.for_wave((height, length), k_max=4.0, shear_A=0.5 * length)
    orthogonal = Grid.for_wave((2 * height, length), k_max=4.0)
    assert not np.isclose(hexagonal.sampling_A[0], orthogonal.sampling_A[0])
    one = PotentialBuilder(hexagonal, numbers, dtype="float64")
    two = PotentialBuilder(orthogonal, numbers, dtype="float64")
    cell = np.fft.fft2(getattr(one, method)(numbers, x, y), norm="forward")
    supercell = np.fft.fft2(
        getattr(two, method)(
            np.tile(numbers, 2),
            np.concatenate([x, x + 0.5 * length]),
            np.concatenate([y, y + height]),
        ),
        norm="forward",
    )
    ky, kx = orthogonal.frequencies(orthogonal.shape)
    m, h = np.meshgrid(np.rint(ky * 2 * height), np.rint(kx * length), indexing="ij")
    common = np.hypot(kx, ky) <= min(one.k_cut, two.k_cut)
    even = (m + h) % 2 == 0
    row, column = ((m + h) // 2).astype(int), h.astype(int)
    expected = np.where(even, cell[row % cell.shape[0], column % cell.shape[1]], 0)
    difference = np.linalg.norm((supercell - expected)[common])
    assert common.sum() > 5000
    assert difference < (1e-12 if method == "exact" else 1e-6) * np.linalg.norm(expected[common])


def test_samples_of_an_oblique_cell_lie_where_the_grid_says() -> None:
    """An atom on sample [9, 5] of a sheared grid has its peak there, and `exact` agrees."""
    grid = Grid.for_wave((12.0, 14.0), k_max=4.0, shear_A=-5.0)
    (dy, dx), ny = grid.sampling_A, grid.shape[0]
    builder = PotentialBuilder(grid, [79])
    x, y = 5 * dx + 9 * grid.shear_A / ny, 9 * dy
    potential, exact = (f([79], [x], [y]) for f in (builder.project, builder.exact))
    assert np.unravel_index(np.argmax(potential), potential.shape) == (9, 5)
    assert np.linalg.norm(potential - exact) < 2e-6 * np.linalg.norm(exact)


def test_structure_factor_is_exact_at_every_frequency_up_to_the_cut() -> None:
    """S(k) = V(k) / V_atom(k) has an error below 5e-6 of sqrt(n) everywhere inside the disk."""
    rng = np.random.default_rng(8)
    n = 200
    x, y = rng.uniform(0, 21, n), rng.uniform(0, 17, n)
    builder = PotentialBuilder(GRID, [14], dtype="float64")
    potential = builder.project(np.full(n, 14), x, y)
    ky = np.fft.fftfreq(GRID.shape[0], GRID.sampling_A[0])[:, None]
    kx = np.fft.rfftfreq(GRID.shape[1], GRID.sampling_A[1])[None, :]
    k = np.hypot(kx, ky)
    inside = k <= builder.k_cut
    coefficients = np.fft.rfft2(potential, norm="forward")
    atom = POTENTIAL_CONSTANT_V_A2 * scattering_factor(14, k) / (17.0 * 21.0)
    structure_factor = np.einsum(
        "ya,xa->yx",
        np.exp(-2j * np.pi * np.outer(ky[:, 0], y)),
        np.exp(-2j * np.pi * np.outer(kx[0], x)),
    )
    error = np.abs(coefficients / atom - structure_factor)
    assert error[inside].max() < 5e-6 * np.sqrt(n)
    assert np.abs(coefficients[~inside]).max() < 1e-12 * np.abs(coefficients).max()


@pytest.mark.parametrize("number", [6, 79])
@pytest.mark.parametrize("shift", [(0.5, 0.5), (0.21, 0.83), (-3.37, 1000.25)])
def test_potential_of_an_atom_does_not_depend_on_the_subpixel_position(
    number: int, shift: tuple[float, float]
) -> None:
    """Coefficients after undoing the shift agree to 1e-5 of the largest one and of the norm."""
    dy, dx = GRID.sampling_A
    builder = PotentialBuilder(GRID, [number])
    ky = np.fft.fftfreq(GRID.shape[0])[:, None]
    kx = np.fft.fftfreq(GRID.shape[1])[None, :]
    on_pixel = np.fft.fft2(builder.project([number], [10 * dx], [12 * dy]).astype(float))
    between = np.fft.fft2(
        builder.project([number], [(10 + shift[0]) * dx], [(12 + shift[1]) * dy]).astype(float)
    )
    undone = between * np.exp(2j * np.pi * (kx * shift[0] + ky * shift[1]))
    assert np.abs(undone - on_pixel).max() < 1e-5 * np.abs(on_pixel).max()
    assert np.linalg.norm(undone - on_pixel) < 1e-5 * np.linalg.norm(on_pixel)


@pytest.mark.parametrize("number", [6, 38, 79])
def test_potential_equals_the_closed_form_away_from_the_core(number: int) -> None:
    """V(r) of one atom is the sum of the closed form over the images, from 0.3 Å outwards.

    The cut at k_cut = 33 1/Å rings with a period of 0.03 Å around the nucleus, where V diverges:
    below 1 % of V at single points, and nothing on the average over a ring.
    """
    length, n = 9.0, 900
    grid = Grid((n, n), (length, length), k_max=20.0)
    builder = PotentialBuilder(grid, [number], dtype="float64")
    potential = builder.project([number], [3.003], [5.001])
    y, x = np.meshgrid(np.arange(n) * length / n, np.arange(n) * length / n, indexing="ij")
    near = np.hypot(y - 5.001, x - 3.003) < 2
    potential, y, x = potential[near], y[near] - 5.001, x[near] - 3.003
    distance = np.hypot(y, x)
    images = [(i * length, j * length) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    closed = sum(projected_potential(number, np.hypot(y - i, x - j)) for i, j in images)
    for inner, outer in ((0.3, 0.5), (0.5, 1.0), (1.0, 2.0)):
        ring = (distance > inner) & (distance < outer)
        assert potential[ring].mean() == pytest.approx(closed[ring].mean(), rel=1e-3)
    points = (distance > 0.3) & (distance < 0.5)
    rms = np.sqrt(np.mean((potential - closed)[points] ** 2) / np.mean(closed[points] ** 2))
    assert rms < 0.01


def test_mean_potential_is_the_forward_scattering() -> None:
    """The integral over the cell is 47.878 V Å^2 f_e(0) per atom."""
    numbers, x, y = _random_atoms()
    potential = PotentialBuilder(GRID, numbers).project(numbers, x, y)
    expected = sum(POTENTIAL_CONSTANT_V_A2 * float(scattering_factor(int(z), 0.0)) for z in numbers)
    assert potential.mean(dtype=float) * 17.0 * 21.0 == pytest.approx(expected, rel=1e-6)


def test_axes_are_y_then_x_with_pixel_centred_coordinates() -> None:
    """An atom at x = 5 dx, y = 9 dy has its peak at [9, 5]."""
    dy, dx = GRID.sampling_A
    potential = PotentialBuilder(GRID, [79]).project([79], [5 * dx], [9 * dy])
    assert np.unravel_index(np.argmax(potential), potential.shape) == (9, 5)


def test_successive_slices_do_not_mix() -> None:
    """A builder gives the same bytes for a slice whatever it made before, and zero for no atoms."""
    numbers, x, y = _random_atoms()
    builder = PotentialBuilder(GRID, numbers)
    first = builder.project(numbers[:5], x[:5], y[:5])
    builder.project(numbers, x, y)
    assert builder.project(numbers[:5], x[:5], y[:5]).tobytes() == first.tobytes()
    assert not builder.project([], [], []).any()


def test_wrong_atoms_are_refused() -> None:
    builder = PotentialBuilder(GRID, [6])
    with pytest.raises(ValueError, match="not announced"):
        builder.project([7], [0.0], [0.0])
    with pytest.raises(ValueError, match="not finite"):
        builder.project([6], [np.nan], [0.0])
    with pytest.raises(ValueError, match="shapes"):
        builder.project([6, 6], [0.0], [0.0])


def test_grid_holds_the_disk_and_products_without_aliasing() -> None:
    """The wave array covers the disk, and the Nyquist frequency is oversampling times k_max."""
    grid = Grid.for_wave((31.3, 47.0), k_max=3.7, oversampling=3)
    assert min(grid.nyquist) >= 3 * 3.7 * (1 - 1 / min(grid.order))
    assert all(n >= 6 * h for n, h in zip(grid.shape, grid.order, strict=True))
    ky, kx = grid.wave_frequencies
    assert grid.wave_mask.sum() == pytest.approx(np.pi * 3.7**2 * 31.3 * 47.0, rel=2e-3)
    assert max(np.abs(ky[grid.wave_mask.any(axis=1), 0])) <= 3.7
    assert max(np.abs(kx[0, grid.wave_mask.any(axis=0)])) <= 3.7
    assert (oversampling_for([6, 30]), oversampling_for([6, 31])) == (2, 3)
    with pytest.raises(ValueError, match="must lie inside"):
        Grid((64, 64), (10.0, 10.0), 3.2)
    with pytest.raises(ValueError, match="at least 1/k_max"):
        Grid.for_wave((0.2, 10.0), 3.2)

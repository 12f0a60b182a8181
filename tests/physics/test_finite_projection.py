"""Atoms divided among slabs: exact against closed forms, and complete."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad

from nanophantom.simcore.electrons.constants import POTENTIAL_CONSTANT_V_A2
from nanophantom.simcore.electrons.finite_projection import TOLERANCE, FiniteProjection
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.multislice import plane_wave, propagate
from nanophantom.simcore.electrons.potential import PotentialBuilder
from nanophantom.simcore.electrons.scattering import (
    ScatteringTable,
    _table,
    scattering_factor,
    scattering_factor_behind,
)

GRID = Grid.for_wave((14.0, 16.0), k_max=4.0)
OBLIQUE = Grid.for_wave((12.0, 14.0), k_max=4.0, shear_A=7.0)


def _random_atoms(elements: list[int], n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    return rng.choice(elements, n), rng.uniform(0, 15, (n, 3))


def _potential(Z: int, r: np.ndarray, table: ScatteringTable) -> np.ndarray:
    """V(r) of an atom in three dimensions, in V: the transform of the table's terms."""
    if table == "lobato":
        a, b = _table(table)[Z].reshape(2, 5)
        decay = np.exp(-2 * np.pi * r / np.sqrt(b))
        terms = a * decay * (np.pi / (b * r) + np.pi**2 / b**1.5)
    else:
        a, b, c, d = _table(table)[Z].reshape(4, 3)
        terms = a * np.pi / r * np.exp(-2 * np.pi * r * np.sqrt(b))
        terms = terms + c * (np.pi / d) ** 1.5 * np.exp(-((np.pi * r) ** 2) / d)
    return POTENTIAL_CONSTANT_V_A2 * terms.sum()


@pytest.mark.parametrize("table", ["lobato", "kirkland"])
@pytest.mark.parametrize("Z", [1, 14, 79])
def test_share_behind_a_plane_is_the_transform_of_the_scattering_factor(
    Z: int, table: ScatteringTable
) -> None:
    """f/2 less the numerical integral of f(k, q) sin(2 pi q z) / (pi q) over q, to 1e-8 of f."""
    for k in (0.0, 0.7, 3.0):
        whole = scattering_factor(Z, k, table)
        assert scattering_factor_behind(Z, k, 0.0, table) == pytest.approx(whole / 2, rel=1e-12)
        for z in (0.05, 0.6, 2.0):

            def over_q(q: float, k: float = k) -> float:
                return float(scattering_factor(Z, np.hypot(k, q), table)) / (np.pi * q)

            turn = 2 * np.pi * z
            near, _ = quad(over_q, 1e-9, 10, weight="sin", wvar=turn, limit=500, epsabs=1e-11)
            far, _ = quad(over_q, 10, np.inf, weight="sin", wvar=turn, epsabs=1e-11, limlst=500)
            behind = scattering_factor_behind(Z, k, z, table)
            assert behind == pytest.approx(whole / 2 - near - far, abs=1e-8 * whole)


@pytest.mark.parametrize("table", ["lobato", "kirkland"])
@pytest.mark.parametrize(("z0", "z1"), [(-0.4, 0.7), (0.3, 1.3), (-3.0, -1.0)])
def test_slab_of_one_atom_is_the_integral_of_its_potential(
    z0: float, z1: float, table: ScatteringTable
) -> None:
    """Rings around a silicon atom agree with V(r) integrated numerically from z0 to z1.

    The mean over a ring averages over the ringing of the cut at k_cut = 22 1/Å.
    """
    length, n = 9.0, 600
    grid = Grid((n, n), (length, length), k_max=10.0)
    finite = FiniteProjection(grid, [14], table, "float64")
    slab = finite.project_slab([14], [[4.003, 5.001, 7.0]], 7.0 + z0, 7.0 + z1)
    y, x = np.meshgrid(np.arange(n) * length / n, np.arange(n) * length / n, indexing="ij")
    distance = np.hypot(y - 5.001, x - 4.003)
    radii = np.geomspace(0.25, 2.1, 150)
    closed = np.array(
        [quad(lambda z, r=r: _potential(14, np.hypot(r, z), table), z0, z1)[0] for r in radii]
    )
    for inner, outer in ((0.3, 0.5), (0.5, 1.0), (1.0, 2.0)):
        ring = (distance > inner) & (distance < outer)
        expected = np.interp(distance[ring], radii, closed).mean()
        assert slab[ring].mean() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("table", ["lobato", "kirkland"])
@pytest.mark.parametrize("elements", [[6], [8, 22, 38]])
def test_slab_equals_the_unfactored_formula(elements: list[int], table: ScatteringTable) -> None:
    """A slab of 1 Å cut out of random atoms agrees with the sum over atoms to 1e-4 (L2)."""
    numbers, xyz = _random_atoms(elements)
    finite = FiniteProjection(GRID, elements, table)
    assert finite.error <= TOLERANCE
    slab = finite.project_slab(numbers, xyz, 5.3, 6.3)
    exact = finite.exact_slab(numbers, xyz, 5.3, 6.3)
    assert slab.dtype == np.float32
    assert np.linalg.norm(slab - exact) < 1e-4 * np.linalg.norm(exact)


@pytest.mark.parametrize("grid", [GRID, OBLIQUE], ids=["rectangle", "oblique"])
@pytest.mark.parametrize("thickness", [0.5, 1.7])
def test_all_slabs_add_up_to_the_infinite_projection(grid: Grid, thickness: float) -> None:
    """Nothing is lost between slabs: relative difference below 1e-6, mean potential to 1e-6."""
    elements = [8, 22, 38]
    numbers, xyz = _random_atoms(elements)
    steps = FiniteProjection(grid, elements).slabs(numbers, xyz, thickness)
    total = np.sum([v for v, _ in steps if v is not None], axis=0, dtype=np.float64)
    infinite = PotentialBuilder(grid, elements).project(numbers, xyz[:, 0], xyz[:, 1])
    assert np.linalg.norm(total - infinite) < 1e-6 * np.linalg.norm(infinite)
    forward = sum(float(scattering_factor(int(z), 0.0)) for z in numbers)
    assert total.mean() * grid.area_A2 == pytest.approx(POTENTIAL_CONSTANT_V_A2 * forward, rel=1e-6)


def test_neighbouring_slabs_add_up_wherever_the_face_lies() -> None:
    """Two slabs are their union to 1e-6, also with a face through a nucleus, or at infinity."""
    numbers, xyz = _random_atoms([6, 79], 40)
    finite = FiniteProjection(GRID, [6, 79])
    face = float(xyz[7, 2])
    infinite = PotentialBuilder(GRID, [6, 79]).project(numbers, xyz[:, 0], xyz[:, 1])
    halves = finite.project_slab(numbers, xyz, -np.inf, face) + finite.project_slab(
        numbers, xyz, face, np.inf
    )
    assert np.linalg.norm(halves - infinite) < 1e-6 * np.linalg.norm(infinite)
    assert not finite.project_slab(numbers, xyz, face, face).any()
    assert not finite.project_slab(numbers, xyz, 50.0, 60.0).any()


def test_moving_atoms_across_the_beam_moves_the_slab() -> None:
    """A shift by a fraction of a pixel is a phase of the Fourier coefficients, to 1e-5."""
    finite = FiniteProjection(GRID, [38])
    dy, dx = GRID.sampling_A
    atom = np.array([[10 * dx, 12 * dy, 0.4]])
    before = np.fft.fft2(finite.project_slab([38], atom, 0.0, 1.0).astype(float))
    atom += (0.37 * dx, 0.61 * dy, 0.0)
    after = np.fft.fft2(finite.project_slab([38], atom, 0.0, 1.0).astype(float))
    ky, kx = np.fft.fftfreq(GRID.shape[0])[:, None], np.fft.fftfreq(GRID.shape[1])[None, :]
    undone = after * np.exp(2j * np.pi * (kx * 0.37 + ky * 0.61))
    assert np.linalg.norm(undone - before) < 1e-5 * np.linalg.norm(before)


def test_slabs_lead_from_the_entrance_to_the_exit() -> None:
    """Distances add up to the depth; slabs lie at multiples of the thickness; gaps are empty."""
    finite = FiniteProjection(GRID, [6])
    xyz = np.array([[1.0, 2.0, 3.1], [4.0, 5.0, 23.2]])
    steps = list(finite.slabs([6, 6], xyz, 1.5, depth_A=30.0))
    assert sum(distance for _, distance in steps) == pytest.approx(30.0, abs=1e-12)
    first, *rest = steps
    assert first[0] is None
    z = first[1]
    for potential, distance in rest:
        z0 = z - 0.75
        assert z0 / 1.5 == pytest.approx(round(z0 / 1.5), abs=1e-9)
        near = np.abs(xyz[:, 2] - z).min() < finite.reach_A + 0.75
        assert (potential is not None) == near
        if potential is not None:
            np.testing.assert_array_equal(
                potential, finite.project_slab([6, 6], xyz, round(z0, 9), round(z0, 9) + 1.5)
            )
        z += distance
    assert list(finite.slabs([], np.zeros((0, 3)), 1.5, depth_A=30.0)) == [(None, 30.0)]


def test_thin_slabs_scatter_a_wave_as_slices_of_whole_atoms_do_for_a_thin_object() -> None:
    """A single layer of carbon: exit waves agree to 0.5 % of what is scattered (found 0.34 %)."""
    rng = np.random.default_rng(2)
    xyz = np.column_stack([rng.uniform(0, 14, (40, 2)), np.full(40, 3.0)])
    numbers = np.full(40, 6)
    finite = FiniteProjection(GRID, [6]).slabs(numbers, xyz, 0.5)
    whole = PotentialBuilder(GRID, [6]).project(numbers, xyz[:, 0], xyz[:, 1])
    start = plane_wave(GRID)
    divided = propagate(start, finite, GRID, 200.0)
    once = propagate(start, [(None, 3.0), (whole, 0.0)], GRID, 200.0)
    scattered = np.linalg.norm(once.wave_k - start)
    assert np.linalg.norm(divided.wave_k - once.wave_k) < 0.005 * scattered
    assert divided.kept + divided.lost == pytest.approx(1, abs=1e-5)


def test_wrong_slabs_are_refused() -> None:
    """Errors say what is wrong."""
    finite = FiniteProjection(GRID, [6])
    with pytest.raises(ValueError, match="not announced"):
        finite.project_slab([7], [[0, 0, 0]], 0, 1)
    with pytest.raises(ValueError, match="not finite"):
        finite.project_slab([6], [[0, np.inf, 0]], 0, 1)
    with pytest.raises(ValueError, match="xyz_A has shape"):
        finite.project_slab([6, 6], [[0, 0, 0]], 0, 1)
    with pytest.raises(ValueError, match="begins at 2"):
        finite.project_slab([6], [[0, 0, 0]], 2, 1)
    with pytest.raises(ValueError, match="thickness_A is 0"):
        finite.slabs([6], [[0, 0, 0]], 0.0)
    with pytest.raises(ValueError, match="numbers_present is empty"):
        FiniteProjection(GRID, [])
    with pytest.raises(ValueError, match="must not be negative"):
        scattering_factor_behind(6, 0.0, -1.0)

"""Stated errors of approximations against true ones, in specimens that did not set the bound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import qmc

from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.potential import PotentialBuilder
from nanophantom.simcore.electrons.slicing import slice_atoms
from nanophantom.simcore.electrons.stem import parents, s_matrix, windows
from nanophantom.simcore.electrons.stem.detectors import AnnularDetector, Weights
from nanophantom.simcore.electrons.stem.interpolated import interpolated_matrix
from nanophantom.simcore.electrons.stem.probe import Probe, lattice
from nanophantom.simcore.electrons.stem.scan import Slices
from nanophantom.simcore.electrons.stem.stated_error import (
    CONTROLS,
    Controls,
    StatedError,
    control_indices,
    safety_factor,
    true_error,
)
from nanophantom.simcore.electrons.transmission import Transmission

Floats = npt.NDArray[np.float64]
Atoms = tuple[npt.NDArray[np.int64], Floats, tuple[float, float, float]]  # Z, xyz, (x, y, z) edges


def crystal(
    motif: list[tuple[int, float, float, float]],
    edges_A: tuple[float, float, float],
    repeats: tuple[int, int, int],
    shake_A: float = 0.0,
    seed: int = 0,
) -> Atoms:
    """Repeat a motif of (Z, x, y, z); displace all atoms at random."""
    at = np.indices(repeats).reshape(3, -1).T
    edges = np.array(edges_A)
    xyz = np.concatenate([(at + place) * edges for _, *place in motif])
    z = np.repeat([m[0] for m in motif], len(at))
    xyz = xyz + np.random.default_rng(seed).normal(0.0, shake_A, xyz.shape)
    size = edges * repeats
    return z, xyz, (float(size[0]), float(size[1]), float(size[2]))


def perovskite(n: tuple[int, int, int], shake_A: float = 0.0, seed: int = 0) -> Atoms:
    motif = [
        (38, 0, 0, 0),
        (22, 0.5, 0.5, 0.5),
        (8, 0.5, 0.5, 0),
        (8, 0.5, 0, 0.5),
        (8, 0, 0.5, 0.5),
    ]
    return crystal(motif, (3.905, 3.905, 3.905), n, shake_A, seed)


def dumbbells(
    a: float, pair: tuple[int, int], n: tuple[int, int, int], shake_A: float = 0.0
) -> Atoms:
    """Diamond or zinc blende along [110]."""
    one, two = pair
    motif = [(one, 0, 0, 0), (one, 0.5, 0.5, 0.5), (two, 0.5, 0.25, 0), (two, 0, 0.75, 0.5)]
    return crystal(motif, (a / np.sqrt(2), a, a / np.sqrt(2)), n, shake_A, 11)


def gold(n: tuple[int, int, int], shake_A: float = 0.0) -> Atoms:
    motif = [(79, 0, 0, 0), (79, 0.5, 0.5, 0), (79, 0.5, 0, 0.5), (79, 0, 0.5, 0.5)]
    return crystal(motif, (4.078, 4.078, 4.078), n, shake_A, 12)


def graphene(n: tuple[int, int], shake_A: float) -> Atoms:
    motif = [(6, 0, 0, 0.5), (6, 0.5, 0.5, 0.5), (6, 0, 1 / 3, 0.5), (6, 0.5, 5 / 6, 0.5)]
    return crystal(motif, (2.46, 2.46 * np.sqrt(3), 3.35), (*n, 1), shake_A, 13)


def disordered(z: int, edges_A: tuple[float, float, float], density_A3: float, seed: int) -> Atoms:
    """Points of a scrambled low-discrepancy sequence: at random, yet not on top of each other."""
    n = int(np.prod(edges_A) * density_A3)
    points = qmc.Halton(3, rng=np.random.default_rng(seed)).random(n)
    return np.full(n, z), points * edges_A, edges_A


@dataclass(frozen=True)
class Case:
    name: str
    atoms: Callable[[], Atoms]
    energy_kev: float
    semiangle_mrad: float
    k_max: float
    defocus_A: float
    method: str
    value: float


def errors(case: Case, side: int) -> tuple[StatedError, float]:
    """Return what is stated and what is true, the latter on a raster over the whole cell."""
    z, xyz, (lx, ly, depth) = case.atoms()
    grid = Grid.for_wave((ly, lx), case.k_max, 1.5)
    builder, make = PotentialBuilder(grid, z.tolist()), Transmission(grid, case.energy_kev)
    xyz[:, 2] -= xyz[:, 2].min()
    parts = slice_atoms(xyz[:, 2])
    steps = []
    for i, part in enumerate(parts):
        end = parts[i + 1].z_A if i + 1 < len(parts) else max(depth, float(xyz[:, 2].max()))
        t = make(builder.project(z[part.atoms], xyz[part.atoms, 0], xyz[part.atoms, 1]))
        steps.append((t, end - part.z_A))
    slices = Slices(lambda: iter(steps), list(steps), 1)
    thickness = sum(distance for _, distance in steps)
    probe = Probe(case.energy_kev, case.semiangle_mrad, {"C10": case.defocus_A})
    alpha, reach = case.semiangle_mrad, 1e3 * case.k_max * float(wavelength(case.energy_kev))
    detectors = [
        AnnularDetector(
            name="adf", inner_mrad=min(2 * alpha, 0.6 * reach), outer_mrad=0.95 * reach
        ),
        AnnularDetector(name="abf", inner_mrad=alpha / 2, outer_mrad=alpha),
        AnnularDetector(name="bf", outer_mrad=alpha / 2),
    ]
    u, v = np.meshgrid((np.arange(side) + 0.5) / side, (np.arange(side + 2) + 0.5) / (side + 2))
    raster = np.column_stack([u.ravel() * lx, v.ravel() * ly])
    controls = Controls(probe, raster, slices, grid, detectors, threads=1)

    ky, kx = grid.wave_frequencies
    weights = Weights.of(detectors, kx, ky, case.energy_kev, grid.wave_mask, lattice(grid))
    exact = s_matrix.gram_matrices(probe, slices, grid, weights, threads=1).image().at(raster).T
    if case.method == "prism":
        f = int(case.value)
        stated = controls.interpolated((f, f))
        matrix = interpolated_matrix(probe, slices, grid, (f, f), threads=1)
        found = matrix.scan(raster, detectors, threads=1).values
    elif case.method == "parents":
        rings = int(case.value)
        stated = controls.parents(thickness, rings)
        series = parents.gram_matrices(probe, slices, grid, weights, thickness, rings, threads=1)
        found = series.image().at(raster).T
    else:
        stated = controls.window(case.value)
        found = windows.scan(probe, raster, slices, grid, detectors, case.value, threads=1).values
    return stated, float(true_error(exact, found).max())


# Other thicknesses, voltages, apertures, foci, seeds and rasters than those behind KURTOSIS.
# fmt: off
HELD_OUT = [
    Case("SrTiO3 4 nm", lambda: perovskite((3, 3, 10)), 120, 18, 3.0, 0, "prism", 2),
    Case("SrTiO3 4 nm", lambda: perovskite((3, 3, 10)), 120, 18, 3.0, 0, "parents", 3),
    Case("SrTiO3 1 nm", lambda: perovskite((4, 4, 3)), 200, 24, 2.6, -30, "prism", 4),
    Case("SrTiO3 1 nm", lambda: perovskite((4, 4, 3)), 200, 24, 2.6, -30, "window", 8.0),
    Case("SrTiO3 shaken", lambda: perovskite((4, 4, 4), 0.1, 7), 300, 20, 3.0, 0, "prism", 3),
    Case("SrTiO3 shaken", lambda: perovskite((4, 4, 4), 0.1, 8), 80, 22, 2.6, 10, "window", 6.0),
    Case("SrTiO3 shaken", lambda: perovskite((4, 4, 4), 0.1, 9), 300, 20, 3.0, 0, "parents", 2),
    Case("GaAs [110]", lambda: dumbbells(5.653, (31, 33), (4, 3, 6)), 300, 20, 2.6, 0, "prism", 2),
    Case("GaAs [110]", lambda: dumbbells(5.653, (31, 33), (4, 3, 6)), 100, 20, 2.6, 0, "prism", 3),
    Case("GaAs [110]", lambda: dumbbells(5.653, (31, 33), (4, 3, 8)), 200, 22, 3.0, 20,
         "parents", 2),
    Case("GaAs shaken", lambda: dumbbells(5.653, (31, 33), (3, 2, 9), 0.08), 200, 18, 3.0, 0,
         "window", 7.0),
    Case("Si [110]", lambda: dumbbells(5.431, (14, 14), (4, 3, 10)), 200, 14, 2.6, 0, "prism", 2),
    Case("Si [110]", lambda: dumbbells(5.431, (14, 14), (4, 3, 10)), 100, 25, 2.6, 0, "prism", 4),
    Case("Si [110]", lambda: dumbbells(5.431, (14, 14), (4, 3, 20)), 300, 21, 2.6, -60,
         "window", 8.0),
    Case("Si shaken", lambda: dumbbells(5.431, (14, 14), (4, 3, 6), 0.08), 60, 30, 2.2, 0,
         "parents", 3),
    Case("Au 2 nm", lambda: gold((3, 3, 5)), 200, 20, 3.0, 0, "prism", 2),
    Case("Au 2 nm", lambda: gold((3, 3, 5)), 200, 20, 3.0, 0, "window", 9.0),
    Case("Au 4 nm", lambda: gold((3, 3, 10)), 300, 15, 3.0, 0, "parents", 3),
    Case("Au shaken", lambda: gold((4, 4, 3), 0.1), 120, 25, 2.6, -10, "prism", 4),
    Case("Au shaken", lambda: gold((4, 4, 3), 0.1), 80, 28, 2.6, 0, "parents", 4),
    Case("graphene", lambda: graphene((7, 4), 0.06), 60, 30, 2.2, 0, "prism", 2),
    Case("graphene", lambda: graphene((7, 4), 0.06), 80, 25, 2.2, 15, "prism", 3),
    Case("graphene", lambda: graphene((7, 4), 0.06), 100, 28, 2.2, 0, "window", 8.0),
    Case("C 3 nm", lambda: disordered(6, (15, 13, 30), 0.1, 21), 60, 25, 2.2, 0, "prism", 3),
    Case("C 3 nm", lambda: disordered(6, (15, 13, 30), 0.1, 22), 100, 15, 2.2, -50, "window", 7.0),
    Case("C 6 nm", lambda: disordered(6, (14, 16, 60), 0.1, 23), 300, 10, 2.2, 0, "parents", 2),
    Case("Ge 4 nm", lambda: disordered(32, (14, 14, 40), 0.044, 24), 200, 20, 2.6, 0, "prism", 2),
    Case("Ge 4 nm", lambda: disordered(32, (14, 14, 40), 0.044, 25), 120, 15, 2.6, 0, "prism", 4),
    Case("Pt/C-like", lambda: disordered(78, (15, 15, 20), 0.01, 26), 200, 24, 2.6, 0,
         "window", 6.0),
    Case("Pt/C-like", lambda: disordered(78, (15, 15, 20), 0.01, 27), 80, 20, 2.6, 0, "parents", 3),
]
# fmt: on


def report(rows: list[tuple[Case, StatedError, float]]) -> str:
    lines = [f"{'specimen':14} kV  mrad method      worst  stated     true  ratio"]
    for case, stated, true in rows:
        lines.append(
            f"{case.name:14} {case.energy_kev:3.0f} {case.semiangle_mrad:3.0f}  "
            f"{case.method + ' ' + format(case.value, 'g'):11} {stated.worst:4} "
            f"{100 * stated.overall:8.3f} {100 * true:8.3f} %  {stated.overall / true:4.2f}"
        )
    return "\n".join(lines)


@pytest.mark.slow
def test_stated_errors_hold_for_specimens_not_seen_before(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Above the truth in 19 of 20 cases, and never more than five times as large."""
    rows = [(case, *errors(case, 15)) for case in HELD_OUT]
    with capsys.disabled():
        print("\n" + report(rows))  # noqa: T201
    ratios = np.array([stated.overall / true for _, stated, true in rows])
    assert np.mean(ratios >= 1) >= 0.95
    assert ratios.max() <= 5
    assert ratios.min() > 0.8


@pytest.mark.parametrize("number", [3, 21, 25, 29])
def test_stated_error_holds(number: int) -> None:
    """Four of them, on a coarser raster."""
    stated, true = errors(HELD_OUT[number], 9)
    assert true <= stated.overall <= 5 * true


def test_the_error_is_the_rms_in_units_of_the_mean() -> None:
    exact = np.array([[1.0, -1.0, 0.0], [3.0, 1.0, 0.0]])
    values = exact + np.array([[0.3, 0.1, 0.0], [-0.1, 0.1, 0.0]])
    found = true_error(exact, values)
    np.testing.assert_allclose(found, [np.sqrt(0.05) / 2, 0.1, 0.0])
    assert true_error(np.zeros((2, 1)), np.ones((2, 1)))[0] == np.inf


def test_the_bound_holds_for_normal_errors_and_is_cautious() -> None:
    """Chi-square: for normal errors rms times the factor is below the truth in under 2.5 %."""
    rng = np.random.default_rng(31)
    rms = np.sqrt(np.mean(rng.normal(size=(4000, CONTROLS)) ** 2, axis=1))
    assert np.mean(rms * safety_factor(CONTROLS) < 1) < 0.025
    # One position of fifty ten times as far off as the others (kurtosis about 70): the bound fails
    # often. That controls see what is wrong is an assumption, and this is where it ends.
    spread = np.where(rng.random((4000, CONTROLS)) < 0.02, 10.0, 1.0)
    heavy = np.sqrt(np.mean((rng.normal(size=spread.shape) * spread) ** 2, axis=1))
    assert np.mean(heavy * safety_factor(CONTROLS) < np.sqrt(0.98 + 2.0)) > 0.025


def test_more_controls_need_less_caution_and_all_of_them_none() -> None:
    factors = [safety_factor(n) for n in (8, 16, 32, 128)]
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] > 1
    assert safety_factor(12, positions=12) == 1.0


def test_controls_lie_evenly_over_the_scan() -> None:
    """Distinct, the same each time, and every quarter of the scan has about a quarter of them."""
    positions = np.stack(np.meshgrid(np.arange(20), np.arange(20)), -1).reshape(-1, 2) * 0.3 + 5.0
    chosen = control_indices(positions, 16)
    assert len(set(chosen.tolist())) == 16
    np.testing.assert_array_equal(chosen, control_indices(positions, 16))
    middle = positions.mean(axis=0)
    for sx in (-1, 1):
        for sy in (-1, 1):
            quarter = np.all((positions[chosen] - middle) * [sx, sy] > 0, axis=1)
            assert 3 <= quarter.sum() <= 5
    line = np.column_stack([np.arange(50) * 0.2, np.zeros(50)])
    assert np.ptp(line[control_indices(line, 8), 0]) > 7
    np.testing.assert_array_equal(control_indices(positions[:5], 16), np.arange(5))
    with pytest.raises(ValueError, match="control positions"):
        control_indices(positions, 1)


def test_a_stated_error_reads_as_a_sentence() -> None:
    stated = StatedError(("adf", "bf"), np.array([0.016, 0.001]), np.array([0.034, 0.002]), 16)
    assert str(stated) == "error at most 3.4 % (adf; 1.6 % rms at 16 control positions)"

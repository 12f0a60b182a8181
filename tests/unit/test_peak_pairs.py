"""Strain from column positions against strains that are known in closed form."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from nanophantom.analysis.lattice import Strain, find_lattice, strain_of
from nanophantom.analysis.peak_pairs import ColumnStrain, peak_pairs

FloatArray = npt.NDArray[np.float64]
A = np.array([[0.39, 0.02], [-0.015, 0.41]])
"""Lattice vectors a, b as rows (x, y), nm."""
BIAS = 5e-4


def crystal(cells: int, sites: npt.ArrayLike = ((0.0, 0.0),), a: FloatArray = A) -> FloatArray:
    """Return columns (n, 2) of the perfect crystal, site by site, centred on the origin."""
    index = np.arange(cells) - cells // 2
    i, j = np.meshgrid(index, index, indexing="ij")
    nodes = np.stack([i.ravel(), j.ravel()], axis=1)
    return np.concatenate([(nodes + np.asarray(s)) @ a for s in np.atleast_2d(sites)])


def maps(found: ColumnStrain) -> FloatArray:
    return np.stack([found.exx, found.eyy, found.exy, found.rotation_rad])


def chi_squared(found: ColumnStrain, true: Strain | None = None) -> FloatArray:
    sigma = np.stack([found.sigma_exx, found.sigma_eyy, found.sigma_exy, found.sigma_exy])
    error = maps(found) - (0 if true is None else np.stack(true))
    return np.asarray(np.mean((error / sigma)[:, found.valid] ** 2, axis=1))


def test_the_lattice_is_found_among_several_columns_a_cell() -> None:
    """A dumbbell, and a cell of three; a vector between sites is no lattice vector."""
    for sites in ([(0, 0)], [(0, 0), (0.3, 0.1)], [(0, 0), (0.25, 0.3), (0.7, 0.45)]):
        found = find_lattice(crystal(12, sites))
        assert found == pytest.approx(A, abs=1e-9)


def test_a_centred_cell_is_told_from_a_finer_lattice_by_kind() -> None:
    """Two kinds on the nodes of one lattice: by position alone its vectors are shorter."""
    points = crystal(12, [(0, 0), (0.5, 0.5)])
    kind = np.repeat([0, 1], 144)
    assert find_lattice(points, kind) == pytest.approx(A, abs=1e-9)
    assert abs(np.linalg.det(find_lattice(points))) == pytest.approx(0.5 * np.linalg.det(A))


def test_the_lattice_is_found_with_a_tenth_missing_and_strain() -> None:
    rng = np.random.default_rng(1)
    points = crystal(20, [(0, 0), (0.3, 0.1)])
    points = points[rng.uniform(size=len(points)) > 0.1]
    points = points + 0.004 * points**2 + rng.normal(0, 0.005, points.shape)
    assert find_lattice(points) == pytest.approx(A, abs=0.015)


@pytest.mark.parametrize("sites", [[(0, 0)], [(0, 0), (0.3, 0.1)], [(0, 0), (0.5, 0.5)]])
@pytest.mark.parametrize(
    "deformation",
    [[[1.02, 0], [0, 1]], [[1, 0.03], [0, 0.96]], [[0.9998, -0.02], [0.02, 0.9998]]],
)
def test_a_uniform_strain_is_exact(
    deformation: list[list[float]], sites: list[tuple[float, float]]
) -> None:
    """x' = F x gives F at every column, corners of the crystal too, to rounding."""
    points = crystal(12, sites)
    kind = np.repeat(np.arange(len(sites)), 144)
    F = np.array(deformation)
    found = peak_pairs(points @ F.T, reference=A, kind=kind)
    assert np.all(found.valid)
    assert maps(found) == pytest.approx(
        np.tile(np.array(strain_of(F))[:, None], len(points)), abs=1e-10
    )


def test_a_shift_of_a_sublattice_is_no_strain() -> None:
    """A polar displacement that turns round within the image leaves the strain at zero."""
    corner, centre = np.split(crystal(16, [(0, 0), (0.5, 0.5)]), 2)
    centre = centre + 0.01 * np.sign(corner[:, :1]) * np.array([[1.0, 0.3]])
    kind = np.repeat([0, 1], 256)
    found = peak_pairs(np.concatenate([corner, centre]), 0.003, reference=A, kind=kind)
    away = found.valid & (np.abs(np.r_[corner[:, 0], corner[:, 0]]) > 0.8)
    assert np.sum(away) > 300
    assert np.max(np.abs(maps(found)[:, away])) < 1e-10


def test_a_linear_gradient_of_strain_has_no_bias() -> None:
    """exx from -4 to 4 %: at columns with neighbours on all sides."""
    points = crystal(41)
    x, y = points.T
    u = np.stack([0.0025 * x**2 + 0.001 * x * y, 0.002 * x * y - 0.001 * y**2], axis=1)
    gradient = np.array([[0.005 * x + 0.001 * y, 0.001 * x], [0.002 * y, 0.002 * x - 0.002 * y]])
    F = np.eye(2) + np.moveaxis(gradient, (0, 1), (-2, -1))
    found = peak_pairs(points + u, 1e-3, reference=A)
    inner = np.max(np.abs(points), axis=1) < 7
    assert np.ptp(found.exx[inner]) > 0.06
    error = maps(found) - np.stack(strain_of(F))
    assert np.max(np.abs(error[:, inner])) < BIAS


def test_a_misfit_inclusion_has_no_bias_off_its_interface() -> None:
    """2 % misfit, e r inside and e R**2/r outside, R = 3 nm; 1.5 cells from the jump."""
    points = crystal(41)
    r = np.maximum(np.hypot(*points.T), 1e-9)
    scale = np.where(r < 3, 0.02, 0.02 * 9 / r**2)
    x, y = points.T
    outside = r >= 3
    common = np.where(outside, -2 * 0.02 * 9 / r**4, 0.0)
    gradient = np.array(
        [[scale + common * x * x, common * x * y], [common * x * y, scale + common * y * y]]
    )
    F = np.eye(2) + np.moveaxis(gradient, (0, 1), (-2, -1))
    found = peak_pairs(points * (1 + scale[:, None]), 1e-3, reference=A)
    error = maps(found) - np.stack(strain_of(F))
    edge = np.max(np.abs(points), axis=1) > 7
    off = (np.abs(r - 3) > 0.9) & ~edge
    far = off & (r > 4.5)
    assert np.max(np.abs(error[:, off & (r < 3)])) < 1e-9
    assert np.max(np.abs(error[:, far])) < BIAS


def test_a_dislocation_is_measured_away_from_its_core() -> None:
    """Hirth and Lothe's edge dislocation (eq. 3-45), ten cells and more from the core."""
    a = np.diag([0.39, 0.39])
    points = crystal(60, [(0.5, 0.5)], a)
    b, nu = 0.39, 0.3

    def u(x: FloatArray, y: FloatArray) -> FloatArray:
        r2 = x**2 + y**2
        ux = np.arctan2(y, x) + x * y / (2 * (1 - nu) * r2)
        uy = -(1 - 2 * nu) / (4 * (1 - nu)) * np.log(r2) - (x**2 - y**2) / (4 * (1 - nu) * r2)
        return np.asarray(b / (2 * np.pi) * np.stack([ux, uy], axis=1))

    # Drawn at the points where the columns are, x' - u(x') = x: the jump of u by b along x < 0
    # is then a lattice vector, and no column shows where the crystal was cut.
    moved = points.copy()
    for _ in range(40):
        moved = points + u(*moved.T)
    x, y = moved.T
    h = 1e-5
    gradient = np.stack(
        [(u(x + h, y) - u(x - h, y)) / (2 * h), (u(x, y + h) - u(x, y - h)) / (2 * h)], axis=-1
    )
    found = peak_pairs(moved, 2e-3, reference=a)
    error = maps(found) - np.stack(strain_of(np.linalg.inv(np.eye(2) - gradient)))
    inner = (np.max(np.abs(points), axis=1) < 11) & (np.hypot(x, y) > 3.9)
    assert np.all(found.valid[inner])
    assert np.max(np.abs(error[:, inner])) < BIAS


@pytest.mark.parametrize("sites", [[(0, 0)], [(0, 0), (0.3, 0.1)]])
@pytest.mark.parametrize("sigma_given", [True, False])
def test_the_quoted_uncertainty_is_right(
    sites: list[tuple[float, float]], sigma_given: bool
) -> None:
    """Mean square error over sigma**2 is 1: within 5 % in all, 10 % for each component.

    Over 20 crystals, edges and corners included; the statistics themselves have 1.5 and 3 %.
    """
    rng = np.random.default_rng(2)
    points = crystal(14 if len(sites) == 1 else 10, sites)
    sigma = rng.uniform(0.5, 2.0, len(points)) * 0.002 if sigma_given else np.full(1, 0.002)
    chi = []
    for _ in range(20):
        moved = points + rng.normal(size=points.shape) * sigma[:, None]
        found = peak_pairs(moved, sigma if sigma_given else None, A, A)
        assert np.mean(found.valid) > 0.99
        chi.append(chi_squared(found))
    assert np.mean(chi) == pytest.approx(1, rel=0.05)
    assert np.mean(chi, axis=0) == pytest.approx(np.ones(4), rel=0.1)


def test_missing_columns_and_outliers_leave_the_strain_right() -> None:
    """15 % missing, 3 % off by 15 sigma, 3 % invented: chi**2 of what is valid stays near 1."""
    rng = np.random.default_rng(3)
    chi, wrong_valid, right_valid = [], [], []
    for _ in range(5):
        points = crystal(20, [(0, 0), (0.35, 0.3)])
        points = points[rng.uniform(size=len(points)) > 0.15]
        n = len(points)
        moved = points + rng.normal(0, 0.002, points.shape)
        wrong = rng.choice(n, n // 33, replace=False)
        angle = rng.uniform(0, 2 * np.pi, len(wrong))
        moved[wrong] += 0.03 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        invented = rng.uniform(-3.5, 3.5, (n // 33, 2))
        found = peak_pairs(np.concatenate([moved, invented]), 0.002, reference=A)
        bad = np.zeros(n + len(invented), bool)
        bad[wrong] = bad[n:] = True
        wrong_valid.append(np.mean(found.valid[bad]))
        right_valid.append(np.mean(found.valid[~bad]))
        chi.append(chi_squared(found))
    assert np.mean(wrong_valid) < 0.05
    assert np.mean(right_valid) > 0.95
    assert np.mean(chi, axis=0) == pytest.approx(np.ones(4), rel=0.15)


def test_the_reference_region_has_no_mean_strain() -> None:
    """Right of x = 0 the crystal is 1.5 % longer along x; the reference is the left part."""
    rng = np.random.default_rng(4)
    points = crystal(30)
    moved = points + np.stack([0.015 * np.maximum(points[:, 0], 0), 0 * points[:, 0]], axis=1)
    moved += rng.normal(0, 0.001, points.shape)
    left, right = points[:, 0] < -0.6, points[:, 0] > 0.6
    found = peak_pairs(moved, 0.001, reference=left)
    assert np.mean(found.exx[left]) == pytest.approx(0, abs=2e-4)
    assert np.mean(found.exx[right]) == pytest.approx(0.015, abs=3e-4)
    assert np.mean(found.eyy[right]) == pytest.approx(0, abs=3e-4)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="nine columns"):
        peak_pairs(crystal(2))
    with pytest.raises(ValueError, match="repeat"):
        find_lattice(np.stack([np.arange(20.0), 1e-3 * np.arange(20.0) ** 0], axis=1))
    with pytest.raises(ValueError, match="sigma"):
        peak_pairs(crystal(5), 0.0)
    with pytest.raises(ValueError, match="collinear"):
        peak_pairs(crystal(5), lattice=[[1, 0], [2, 0]])
    with pytest.raises(ValueError, match="reference must be"):
        peak_pairs(crystal(5), reference=np.ones(3, bool))

"""Truth columns: atoms grouped along the beam, light clutter never joining heavy columns."""

from __future__ import annotations

import numpy as np
import pytest

from nanophantom.samples.crystal import Crystal
from nanophantom.simcore.atoms import Atoms, Window
from nanophantom.simcore.columns import find_truth_columns
from nanophantom.simcore.runs import Run


def stack(number: int, x: float, y: float, n: int = 10, dz: float = 0.4) -> Atoms:
    return Atoms.of([number] * n, [[x, y, dz * k] for k in range(n)], 0.5)


def test_strontium_titanate_along_001_has_its_three_kinds_of_columns():
    """Per unit cell: Sr, Ti-O and two O columns; 2 nm hold 6 cells of 0.3905 nm (2.343 nm)."""
    crystal = Crystal(file="srtio3.cif", thickness_nm=2.3).make(Run(0))
    half = 2.5 * 0.3905
    atoms = crystal.atoms_within(Window(-half - 0.05, half + 0.05, -half - 0.05, half + 0.05))
    columns = find_truth_columns(atoms)
    kinds, n = np.unique(columns["number"], return_counts=True)
    # Sr on a 5 x 5 grid of corners; Ti at 6 x 6 centres; O between, twice 5 x 6.
    assert dict(zip(kinds.tolist(), n.tolist(), strict=True)) == {8: 60, 22: 36, 38: 25}
    titanium = columns["number"] == 22
    assert set(columns["n_atoms"][titanium]) == {12}  # six Ti and six O in 2.3 nm
    assert set(columns["weight"][titanium]) == {6 * (22 + 8)}
    np.testing.assert_allclose(columns["extent_nm"], 0, atol=1e-9)
    assert columns["n_atoms"].sum() == len(atoms)


def test_a_bridge_of_light_atoms_joins_no_heavy_columns():
    """Two gold columns 0.12 nm apart, a carbon atom every 0.03 nm from one to the other."""
    bridge = Atoms.of([6] * 5, [[0.03 * k, 0.0, 1.0] for k in range(5)], 1.0)
    columns = find_truth_columns(stack(79, 0, 0) + stack(79, 0.12, 0) + bridge)
    gold = columns["number"] == 79
    assert gold.sum() == 2
    np.testing.assert_allclose(np.sort(columns["x_nm"][gold]), [0, 0.12], atol=1e-12)
    assert columns["n_atoms"][gold].tolist() == [10, 10]


@pytest.mark.parametrize(("distance", "n"), [(0.039, 1), (0.041, 2)])
def test_one_element_is_linked_up_to_40_pm(distance, n):
    assert len(find_truth_columns(stack(79, 0, 0) + stack(79, distance, 0))["x_nm"]) == n


@pytest.mark.parametrize(("distance", "n"), [(0.029, 1), (0.031, 2)])
def test_a_lighter_column_merges_within_30_pm_of_a_heavier_axis(distance, n):
    columns = find_truth_columns(stack(8, distance, 0) + stack(22, 0, 0))
    assert len(columns["x_nm"]) == n
    assert columns["number"][0] == 22
    assert columns["x_nm"][0] == 0  # the axis is that of the heavier element alone


def test_extent_is_the_rms_distance_of_all_atoms_from_the_axis():
    """Ti at 0, as many O at 0.02 nm: rms = sqrt(0.02^2 / 2)."""
    columns = find_truth_columns(stack(8, 0.012, 0.016) + stack(22, 0, 0))
    assert columns["extent_nm"] == pytest.approx([0.02 / np.sqrt(2)])


def test_the_group_is_that_of_most_atoms():
    few, many = stack(79, 0, 0, n=3), stack(79, 0.01, 0, n=5)
    atoms = Atoms.of(few.numbers, few.positions_nm, 1, "support") + Atoms.of(
        many.numbers, many.positions_nm, 1, "particle"
    )
    columns = find_truth_columns(atoms)
    assert [atoms.group_names[k] for k in columns["group"]] == ["particle"]


def test_the_b_factor_is_the_mean_over_the_heaviest_elements_atoms():
    """Ti with 0.4 (10 atoms) and 1.0 (5 atoms): 0.6; oxygen's 3 in the same column isn't in it."""
    oxygen = Atoms.of([8] * 4, [[0, 0, 0.2 + k] for k in range(4)], 3.0)
    cold = Atoms.of([22] * 10, [[0, 0, 0.4 * k] for k in range(10)], 0.4)
    warm = Atoms.of([22] * 5, [[0.01, 0, 4 + 0.4 * k] for k in range(5)], 1.0)
    alone = Atoms.of([8] * 2, [[1, 0, 0], [1, 0, 0.4]], [0.5, 0.7])
    columns = find_truth_columns(oxygen + cold + warm + alone)
    assert columns["number"].tolist() == [22, 8]
    np.testing.assert_allclose(columns["b_factor_A2"], [0.6, 0.6], rtol=1e-12)
    assert columns["n_atoms"].tolist() == [19, 2]


def test_a_lean_column_stays_one_column():
    """Tilted by 20 mrad, 40 atoms lean 0.31 nm over: linked from one to the next."""
    z = 0.4 * np.arange(40)
    atoms = Atoms.of([79] * 40, np.column_stack([0.02 * z, 0 * z, z]), 0.6)
    columns = find_truth_columns(atoms)
    assert len(columns["x_nm"]) == 1
    assert columns["x_nm"][0] == pytest.approx(0.02 * z.mean())
    assert columns["extent_nm"][0] == pytest.approx((0.02 * z).std())


def test_no_atoms_give_an_empty_table():
    columns = find_truth_columns(Atoms.of([], np.empty((0, 3)), 1.0))
    expected = "x_nm y_nm n_atoms number weight extent_nm b_factor_A2 group"
    assert list(columns) == expected.split()
    assert all(len(values) == 0 for values in columns.values())

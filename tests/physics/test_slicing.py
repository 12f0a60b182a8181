"""How atoms are divided into slices."""

import numpy as np
import pytest

from nanophantom.simcore.electrons.slicing import slice_atoms


def test_slices_keep_planes_whole_and_divide_the_rest() -> None:
    """Planes stay whole, dense matter is cut into equal slabs, narrow planes are joined."""
    rng = np.random.default_rng(6)
    planes = np.repeat(np.arange(10) * 2.04, 50) + rng.normal(0, 0.08, 500)
    slices = slice_atoms(planes, 2.0)
    assert len(slices) == 10
    for i, s in enumerate(slices):
        assert np.all(np.abs(planes[s.atoms] - 2.04 * i) < 1)
        assert s.z_A == pytest.approx(planes[s.atoms].mean())
    amorphous = rng.uniform(0, 50, 5000)
    slices = slice_atoms(amorphous, 2.0)
    assert len(slices) == 25
    assert max(np.ptp(amorphous[s.atoms]) for s in slices) <= 2.0
    narrow = slice_atoms(np.arange(12) * 0.6, 2.0)  # three planes of 0.6 Å fit in 2 Å
    assert [len(s.atoms) for s in narrow] == [3, 3, 3, 3]
    for case in (planes, amorphous):
        sliced = np.concatenate([s.atoms for s in slice_atoms(case, 1.3)])
        assert np.array_equal(np.sort(sliced), np.arange(len(case)))
    assert slice_atoms([], 2.0) == []
    [weighted] = slice_atoms([0.0, 1.0], 4.0, weights=[3.0, 1.0])
    assert weighted.z_A == pytest.approx(0.25)

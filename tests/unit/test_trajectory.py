"""Trajectories: from a file of frames to resting places, B factors and thermal configurations."""

from __future__ import annotations

import ase
import ase.io
import numpy as np
import pytest

from nanophantom.samples._family import Sample
from nanophantom.samples.structure import StructureSample, Trajectory
from nanophantom.simcore.atoms import Atoms, Window
from nanophantom.simcore.electrons.debye_waller import thermal_positions
from nanophantom.simcore.runs import Run

VIEW = Window.centred(8, 8)
CELL_A = 6.0
AT_REST_A = np.array([[0.0, 0, 0], [3.1, 0, 0], [0, 3, 0], [3, 3, 2.5]])


@pytest.fixture
def moving(tmp_path):
    """Four atoms of a periodic cell, displaced by known waves, wrapped into the cell."""
    rng = np.random.default_rng(3)
    u = rng.normal(0, 0.1, (50, 4, 3)) + rng.normal(0, 0.15, (50, 1, 3))  # together, and alone
    u -= u.mean(axis=0)
    kinds = "Au2Cu2"
    frames = [ase.Atoms(kinds, AT_REST_A + d, cell=[CELL_A] * 3, pbc=True) for d in u]
    for frame in frames:
        frame.wrap()
    structure, trajectory = tmp_path / "rest.extxyz", tmp_path / "moving.extxyz"
    ase.io.write(structure, ase.Atoms(kinds, AT_REST_A, cell=[CELL_A] * 3, pbc=True))
    ase.io.write(trajectory, frames, format="extxyz")
    return structure, trajectory, u


def sample_of(structure, trajectory, **changes):
    return StructureSample.model_validate(
        {"file": str(structure), "trajectory": {"file": str(trajectory)}, **changes}
    )


def test_a_trajectory_comes_back_frame_by_frame(moving):
    """Every thermal configuration is one frame, whole across the cell's faces."""
    structure, trajectory, u = moving
    specimen = sample_of(structure, trajectory).make(Run(0))
    atoms = specimen.atoms_within(VIEW)
    np.testing.assert_allclose(atoms.snapshots_nm, u / 10, atol=1e-8)
    low, high = AT_REST_A.min(axis=0) / 10, AT_REST_A.max(axis=0) / 10
    origin = [*(low + high)[:2] / 2, low[2]]
    np.testing.assert_allclose(atoms.positions_nm, AT_REST_A / 10 - origin, atol=1e-8)
    for configuration in (0, 17, 49):
        positions = thermal_positions(atoms, configuration, np.random.default_rng(1))
        np.testing.assert_allclose(
            positions, (AT_REST_A + u[configuration]) / 10 - origin, atol=1e-8
        )
    assert "50 frames of moving.extxyz" in specimen.notes[-1]


def test_b_factors_are_those_of_the_frames(moving):
    """B = 8 pi^2 times the mean square displacement, averaged over the three axes."""
    structure, trajectory, u = moving
    atoms = sample_of(structure, trajectory).make(Run(0)).atoms_within(VIEW)
    expected = 8 * np.pi**2 * (u**2).mean(axis=(0, 2))
    np.testing.assert_allclose(atoms.b_factors_A2, expected, rtol=1e-5)


def test_there_is_no_configuration_beyond_the_last_snapshot(moving):
    structure, trajectory, _ = moving
    atoms = sample_of(structure, trajectory).make(Run(0)).atoms_within(VIEW)
    with pytest.raises(ValueError, match="has 50 snapshots; ask for 50 configurations at most"):
        thermal_positions(atoms, 50, np.random.default_rng(1))


def test_both_files_are_known_by_the_path_of_their_knob(moving):
    structure, trajectory, _ = moving
    files = sample_of(structure, trajectory).input_files()
    assert files == {"file": structure, "trajectory.file": trajectory}


def test_first_and_every_choose_frames(moving):
    structure, trajectory, u = moving
    chosen = Trajectory(file=str(trajectory), first=5, every=9)
    sample = StructureSample(file=str(structure), trajectory=chosen)
    atoms = sample.make(Run(0)).atoms_within(VIEW)
    some = u[5::9]
    np.testing.assert_allclose(atoms.snapshots_nm, (some - some.mean(axis=0)) / 10, atol=1e-8)
    assert len(atoms.snapshots_nm) == 5


def test_rotation_turns_displacements_with_the_structure(moving):
    """90 degrees about z: x to y."""
    structure, trajectory, u = moving
    turned = sample_of(structure, trajectory, rotate_z_deg=90).make(Run(0)).atoms_within(VIEW)
    expected = np.stack([-u[..., 1], u[..., 0], u[..., 2]], axis=-1) / 10
    np.testing.assert_allclose(turned.snapshots_nm, expected, atol=1e-8)


def test_copies_of_a_supercell_move_alike(moving):
    structure, trajectory, u = moving
    specimen = sample_of(structure, trajectory, supercell=(2, 1, 1)).make(Run(0))
    atoms = specimen.atoms_within(VIEW)
    assert len(atoms) == 8
    np.testing.assert_allclose(atoms.snapshots_nm[:, 4:], u / 10, atol=1e-8)
    np.testing.assert_allclose(
        atoms.positions_nm[4:] - atoms.positions_nm[:4], [[0.6, 0, 0]] * 4, atol=1e-8
    )
    assert "all 2 copies of the cell move alike" in specimen.notes[-1]


def test_a_cell_that_breathes_is_scaled_to_its_mean(tmp_path):
    """Atoms that only follow the cell stay at rest."""
    share = AT_REST_A / CELL_A
    frames = [
        ase.Atoms("Au4", share * CELL_A * s, cell=[CELL_A * s] * 3, pbc=True)
        for s in (0.98, 1.0, 1.02)
    ]
    structure, trajectory = tmp_path / "rest.extxyz", tmp_path / "breathing.extxyz"
    ase.io.write(structure, frames[1])
    ase.io.write(trajectory, frames, format="extxyz")
    atoms = sample_of(structure, trajectory).make(Run(0)).atoms_within(VIEW)
    assert np.abs(atoms.snapshots_nm).max() < 1e-8


def test_a_molecule_without_a_cell_has_a_trajectory_too(tmp_path):
    path = tmp_path / "molecule.extxyz"
    apart = [2.5, 2.7, 2.6]
    ase.io.write(path, [ase.Atoms("Au2", [[0, 0, 0], [d, 0, 0]]) for d in apart], format="extxyz")
    sample = sample_of(path, path, frame=0)
    atoms = sample.make(Run(0)).atoms_within(VIEW)
    np.testing.assert_allclose(atoms.positions_nm[:, 0], [-0.13, 0.13], atol=1e-9)
    np.testing.assert_allclose(atoms.snapshots_nm[:, 1, 0], [-0.01, 0.01, 0.0], atol=1e-9)
    assert Sample.read(sample.model_dump(mode="json")) == sample


def test_trajectories_that_do_not_fit_are_refused(moving, tmp_path):
    structure, trajectory, _ = moving
    with pytest.raises(ValueError, match=r"^trajectory.file: there is no file"):
        sample_of(structure, tmp_path / "none.traj").make(Run(0))
    with pytest.raises(ValueError, match=r"gives 1 frames .* needs two at least"):
        sample_of(structure, structure).make(Run(0))
    with pytest.raises(ValueError, match=r"^b_factors_A2: the trajectory moves the atoms"):
        sample_of(structure, trajectory, b_factors_A2={"Au": 0.6}).make(Run(0))
    others = tmp_path / "others.extxyz"
    ase.io.write(others, [ase.Atoms("Cu2Au2", AT_REST_A)] * 2, format="extxyz")
    with pytest.raises(ValueError, match=r"frame 0 of others.extxyz holds Cu2Au2"):
        sample_of(structure, others).make(Run(0))
    strays = tmp_path / "strays.extxyz"
    shifted = ase.Atoms("Au2Cu2", AT_REST_A + np.array([2.9, 0, 0]), cell=[CELL_A] * 3, pbc=True)
    ase.io.write(strays, [shifted, shifted], format="extxyz")
    with pytest.raises(ValueError, match=r"0\.48 of the cell away"):
        sample_of(structure, strays).make(Run(0))


# --- atoms that carry motion ---


def mixed() -> tuple[Atoms, Atoms]:
    rng = np.random.default_rng(0)
    snapshots = rng.normal(0, 0.01, (4, 3, 3))
    moving = Atoms(
        numbers=np.array([79, 79, 29]),
        positions_nm=rng.uniform(0, 1, (3, 3)),
        b_factors_A2=np.full(3, 0.5),
        groups=np.zeros(3, np.int64),
        group_names=("metal",),
        snapshots_nm=snapshots,
    )
    return moving, Atoms.of([6, 6], rng.uniform(1, 2, (2, 3)), 0.7, "film")


def test_atoms_without_a_trajectory_move_by_their_b_factors_beside_those_with_one():
    moving, film = mixed()
    both = moving + film
    assert np.isnan(both.snapshots_nm[:, 3:]).all()
    positions = thermal_positions(both, 2, np.random.default_rng(8))
    np.testing.assert_array_equal(positions[:3], moving.positions_nm + moving.snapshots_nm[2])
    np.testing.assert_array_equal(
        positions[3:], thermal_positions(film, 2, np.random.default_rng(8))
    )


def test_selecting_moving_and_adding_keep_the_motion():
    moving, film = mixed()
    back = (film + moving).select(np.array([4, 2]))
    np.testing.assert_array_equal(back.snapshots_nm, moving.snapshots_nm[:, [2, 0]])
    np.testing.assert_array_equal(back.moved(back.positions_nm + 1).snapshots_nm, back.snapshots_nm)
    shorter = Atoms.of([6], [[0, 0, 0]], 0.1)
    short = Atoms(
        shorter.numbers, shorter.positions_nm, shorter.b_factors_A2, shorter.groups, ("c",),
        snapshots_nm=np.zeros((2, 1, 3)),
    )  # fmt: skip
    assert (moving + short).snapshots_nm.shape == (2, 4, 3)


def test_impossible_motion_is_refused():
    moving, _ = mixed()
    broken = moving.snapshots_nm.copy()
    broken[1, 0, 2] = np.nan
    parts = (moving.numbers, moving.positions_nm, moving.b_factors_A2, moving.groups, ("a",))
    with pytest.raises(ValueError, match="NaN throughout for an atom"):
        Atoms(*parts, snapshots_nm=broken)
    with pytest.raises(ValueError, match=r"snapshots_nm must have shape \(snapshots, 3, 3\)"):
        Atoms(*parts, snapshots_nm=np.zeros((4, 2, 3)))
    with pytest.raises(ValueError, match="finite symmetric tensors"):
        Atoms(*parts, u_aniso_A2=np.arange(27.0).reshape(3, 3, 3))

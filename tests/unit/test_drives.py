"""Changes without steps: particles that turn, B factors that rise with dose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats
from scipy.spatial.distance import pdist

from nanophantom.simcore.atoms import Atoms, Window
from nanophantom.simcore.dose import Ledger
from nanophantom.simcore.dynamics.drives import RisingBFactor, Rotation, Turning
from nanophantom.simcore.electrons.debye_waller import thermal_positions
from nanophantom.simcore.history import EventLog, History
from nanophantom.simcore.runs import Run

LEDGER = Ledger(
    start_s=2.0 * np.arange(10),
    length_s=np.full(10, 1.5),
    fluence_e_per_A2=np.full(10, 30.0),
    energy_kev=300.0,
    area=Window.centred(20, 20),
    before_e_per_A2=10.0,
)


def two_parts() -> Atoms:
    """Return a lopsided part and another one that stays."""
    rng = np.random.default_rng(3)
    part = Atoms.of(np.full(30, 79), rng.uniform(-1, 1, (30, 3)), 0.6, "particle")
    rest = Atoms.of(np.full(10, 6), rng.uniform(-1, 1, (10, 3)) + 3, 0.6, "film")
    return part + rest


def history(atoms: Atoms, *drives) -> History:
    return History(atoms, LEDGER, EventLog.of([], ()), drives=drives)


def turned_by(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return the rotation that takes one set of points to another (Kabsch)."""
    a, b = before - before.mean(axis=0), after - after.mean(axis=0)
    u, _, vt = np.linalg.svd(b.T @ a)
    return u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt


@pytest.mark.parametrize("axis", [(0, 0, 1), (1, 0, 0), (1, -2, 0.5)])
def test_a_part_turns_by_the_angle_of_its_truth_about_its_middle_and_the_rest_stays(axis):
    """The angle and axis found from the atoms alone are those of the table, right-handed."""
    atoms = two_parts()
    turning = Rotation(group="particle", axis=axis, rate_deg_per_s=7.0).drive(
        atoms, LEDGER, Run(1).rng("r")
    )
    past = history(atoms, turning)
    told = past.tables(np.zeros(3))["evolution"]
    unit = np.array(axis) / np.linalg.norm(axis)
    for t, angle in zip(told["t_s"], told["angle_particle_deg"], strict=True):
        assert angle == pytest.approx(7.0 * t)
        now = past.at(past.moment(float(t))).positions_nm
        rotation = turned_by(atoms.positions_nm[:30], now[:30])
        twice_sine = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0],
                               rotation[1, 0] - rotation[0, 1]]) @ unit  # fmt: skip
        found = np.arctan2(twice_sine, np.trace(rotation) - 1)
        assert np.rad2deg(found) % 360 == pytest.approx(angle % 360, abs=1e-6)
        np.testing.assert_allclose(rotation @ unit, unit, atol=1e-9)
        np.testing.assert_allclose(now[:30].mean(axis=0), atoms.positions_nm[:30].mean(axis=0))
        np.testing.assert_allclose(pdist(now[:30]), pdist(atoms.positions_nm[:30]), atol=1e-12)
        np.testing.assert_array_equal(now[30:], atoms.positions_nm[30:])


def test_about_the_beam_x_turns_to_y():
    atoms = Atoms.of([79, 79], [[1, 0, 0], [-1, 0, 0]], 0.6, "particle")
    turning = Turning("particle", np.array([0.0, 0, 1]), np.zeros(3), np.array([0.0, 1.0]),
                      np.array([0.0, 90.0]))  # fmt: skip
    np.testing.assert_allclose(turning.at(atoms, 1.0, 0.0).positions_nm[0], [0, 1, 0], atol=1e-15)


def test_tensors_and_trajectories_turn_with_the_part():
    tensor = np.diag([0.03, 0.01, 0.02])
    jolt = np.array([0.01, 0.0, 0.0])
    atoms = replace(
        two_parts(),
        u_aniso_A2=np.tile(tensor, (40, 1, 1)),
        snapshots_nm=np.tile(jolt, (2, 40, 1)),
    )
    turning = Turning("particle", np.array([0.0, 0, 1]), np.zeros(3), np.array([0.0, 1.0]),
                      np.array([0.0, 90.0]))  # fmt: skip
    now = turning.at(atoms, 1.0, 0.0)
    np.testing.assert_allclose(now.tensors_A2[0], np.diag([0.01, 0.03, 0.02]), atol=1e-15)
    np.testing.assert_allclose(now.tensors_A2[-1], tensor)
    np.testing.assert_allclose(now.snapshots_nm[:, 0], [[0, 0.01, 0]] * 2, atol=1e-15)
    np.testing.assert_allclose(now.snapshots_nm[:, -1], [jolt] * 2)


def test_a_rotational_walk_has_the_variance_of_diffusion():
    """Over 1000 seeds: Var = w^2 t, increments over blanked times included, Gaussian."""
    atoms = two_parts()
    walk = Rotation(group="particle", walk_deg_per_sqrt_s=3.0)
    ends = LEDGER.end_s
    angles = np.array([
        np.interp(ends, turning.t_s, turning.angle_deg)
        for turning in (walk.drive(atoms, LEDGER, Run(s).rng("r")) for s in range(1000))
    ])  # fmt: skip
    error = np.sqrt(2 / 1000)
    np.testing.assert_allclose(angles.var(axis=0), 9.0 * ends, rtol=4 * error)
    steps = np.diff(angles, axis=1)
    np.testing.assert_allclose(steps.var(axis=0), 9.0 * 2.0, rtol=4 * error)
    between = np.corrcoef(steps.T)[np.triu_indices(9, 1)]
    assert np.abs(between).max() < 4.5 / np.sqrt(1000)
    assert stats.kstest(angles[:, -1] / (3 * np.sqrt(ends[-1])), "norm").pvalue > 1e-3


def test_a_walk_begins_at_zero_and_a_longer_movie_walks_on():
    walk = Rotation(group="particle", walk_deg_per_sqrt_s=3.0)
    short = Ledger(LEDGER.start_s[:4], LEDGER.length_s[:4], LEDGER.fluence_e_per_A2[:4], 300.0,
                   LEDGER.area)  # fmt: skip
    one, two = (walk.drive(two_parts(), movie, Run(1).rng("r")) for movie in (short, LEDGER))
    assert one.angle_deg[0] == 0.0
    np.testing.assert_array_equal(one.angle_deg, two.angle_deg[: len(one.angle_deg)])


def test_b_factors_rise_in_proportion_to_all_electrons_so_far():
    """Delta B = 8 pi^2 (delta u^2 / delta N) N, those before the first frame included."""
    atoms = two_parts()
    past = history(atoms, RisingBFactor(u2_A2_per_e_per_A2=0.002).drive(atoms, LEDGER, None))
    told = past.tables(np.zeros(3))["evolution"]
    # the middle of frame i has seen 10 + 30 i + 15 e/Å^2
    expected = 8 * np.pi**2 * 0.002 * (25.0 + 30.0 * np.arange(10))
    np.testing.assert_allclose(told["added_b_factor_A2"], expected, rtol=1e-12)
    for t, more in zip(told["t_s"], expected, strict=True):
        now = past.at(past.moment(float(t)))
        np.testing.assert_allclose(now.b_factors_A2, 0.6 + more, rtol=1e-12)
        np.testing.assert_array_equal(now.positions_nm, atoms.positions_nm)


def test_two_parts_may_shake_at_rates_of_their_own():
    atoms = two_parts()
    laws = [
        RisingBFactor(group=g, u2_A2_per_e_per_A2=u).drive(atoms, LEDGER, None)
        for g, u in (("particle", 0.001), ("film", 0.004))
    ]
    past = history(atoms, *laws)
    now = past.at(past.moment(1.5))  # 40 e/Å^2
    added = 8 * np.pi**2 * 40.0 * np.array([0.001] * 30 + [0.004] * 10)
    np.testing.assert_allclose(now.b_factors_A2 - 0.6, added, rtol=1e-12)
    told = past.tables(np.zeros(3))["evolution"]
    np.testing.assert_allclose(
        told["added_b_factor_film_A2"], 4 * told["added_b_factor_particle_A2"], rtol=1e-12
    )


@pytest.mark.parametrize("anisotropic", [False, True])
def test_bragg_intensities_fall_as_debye_and_waller_say(anisotropic):
    """Kinematic intensities of displaced atoms fall as exp(-4 pi^2 u^2 g^2), g = 1 / d."""
    n = 16
    edge_nm = 0.4
    i = np.stack(np.meshgrid(*3 * [np.arange(n)]), axis=-1).reshape(-1, 3)
    atoms = Atoms.of(np.full(n**3, 79), edge_nm * i, 0.5, "crystal")
    if anisotropic:
        atoms = replace(atoms, u_aniso_A2=atoms.tensors_A2)
    u2_per_e = 2e-4
    past = history(atoms, RisingBFactor(u2_A2_per_e_per_A2=u2_per_e).drive(atoms, LEDGER, None))
    orders = np.array([[1, 0, 0], [2, 0, 0], [2, 2, 0], [0, 1, 3]])
    g_per_A = orders / (10 * edge_nm)
    for t in (1.5, 9.5, 19.5):
        now = past.at(past.moment(t))
        total = 10.0 + 30.0 * (1 + t // 2)
        amplitude = np.mean([
            np.exp(-2j * np.pi * 10 * thermal_positions(now, 0, Run(c).rng("phonons")) @ g_per_A.T)
            .mean(axis=0)
            for c in range(8)
        ], axis=0)  # fmt: skip
        u2 = 0.5 / (8 * np.pi**2) + u2_per_e * total
        expected = np.exp(-4 * np.pi**2 * u2 * np.sum(g_per_A**2, axis=1))
        # amplitudes of 32768 atoms scatter by 1 / sqrt(2 N) = 0.004
        np.testing.assert_allclose(np.abs(amplitude), np.sqrt(expected), atol=0.012)


@pytest.mark.parametrize(
    "process", [Rotation(group="cube", rate_deg_per_s=1.0), RisingBFactor(group="cube")]
)
def test_a_part_that_isnt_there_is_named(process):
    with pytest.raises(ValueError, match="no part 'cube'; it has particle, film"):
        process.drive(two_parts(), LEDGER, Run(0).rng("r"))


def test_an_axis_without_direction_is_refused():
    with pytest.raises(ValidationError, match="no direction"):
        Rotation(group="particle", axis=(0, 0, 0))

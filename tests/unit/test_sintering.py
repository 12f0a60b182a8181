"""Sintering: the neck follows its law, and every atom that moves is known."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.spatial import cKDTree

from nanophantom.samples.evolving import Evolving
from nanophantom.samples.particle_pair import ParticlePair
from nanophantom.simcore.atoms import Atoms, Window
from nanophantom.simcore.dose import Ledger
from nanophantom.simcore.dynamics.hopping import neighbour_steps
from nanophantom.simcore.dynamics.sintering import (
    Contact,
    Growth,
    Sintering,
    lattice_within,
    primitive_cell,
)
from nanophantom.simcore.history import EventLog, History, replayed
from nanophantom.simcore.runs import Run

GOLD_NM = 0.40782
BOND_NM = GOLD_NM / np.sqrt(2)


def ledger(frames: int = 40) -> Ledger:
    return Ledger(
        start_s=np.arange(frames) * 1.0,
        length_s=np.full(frames, 0.5),
        fluence_e_per_A2=np.full(frames, 100.0),
        energy_kev=300.0,
        area=Window.centred(20, 20),
    )


PAIRS = {
    "{100} to {100}": {"facing": ((0, 0, 1), (0, 0, 1))},
    "{110} to {100}": {"facing": ((1, 1, 0), (0, 0, 1))},
    "20 degrees": {"misorientation_deg": 20.0},
    "unequal": {"n_atoms": (2500, 1000), "facing": ((0, 0, 1), (0, 0, 1)), "axis_deg": 30.0},
}
LAWS = {
    "surface diffusion": Sintering(time_s=300.0),
    "evaporation": Sintering(time_s=120.0, exponent=3.0, initial_neck=0.1),
    "volume diffusion": Sintering(time_s=300.0, exponent=5.0, initial_neck=0.3),
}


@pytest.fixture(scope="module", params=PAIRS)
def pair(request: pytest.FixtureRequest) -> Atoms:
    return ParticlePair(**PAIRS[request.param]).make(Run(0)).atoms


def played(pair: Atoms, law: Sintering, frames: int = 40, seed: int = 1) -> History:
    moved = law.play(pair, ledger(frames), Run(seed).rng("sintering 0"))
    log = EventLog.of([(t, atom, place, 0) for t, atom, place in moved.moves], ("sintering",))
    return History(pair, ledger(frames), log, truths=moved.truths)


def disc_radius_nm(positions_nm: np.ndarray, contact: Contact) -> float:
    """Measure the neck: going outwards in rings, where the contact is less than half full.

    Rings of half a bond in a slab two bonds thick, against the density of the bulk.
    """
    s = np.abs((positions_nm - contact.middle_nm) @ contact.axis)
    slab = positions_nm[s < BOND_NM]
    r = np.linalg.norm(np.cross(slab - contact.middle_nm, contact.axis), axis=1)
    edges = np.arange(0.0, 4.0, BOND_NM / 2)
    bulk = np.pi * (edges[1:] ** 2 - edges[:-1] ** 2) * 2 * BOND_NM * 4 / GOLD_NM**3
    share = np.histogram(r, edges)[0] / bulk
    empty = np.flatnonzero((share < 0.5) & (edges[1:] > 2 * BOND_NM))
    return float(edges[empty[0]])


@pytest.mark.parametrize("name", LAWS)
def test_the_neck_follows_the_law_within_a_lattice_spacing(pair, name):
    """Counted from atoms, once the law has outgrown the first contact: |x - law| < a bond."""
    past = played(pair, LAWS[name])
    contact = Contact.of(pair, LAWS[name].groups)
    table = past.truths["neck"]
    first = contact.neck_nm(pair.positions_nm)
    grown = table["law_radius_nm"] > first
    assert grown.sum() >= 10
    off = table["radius_nm"] - table["law_radius_nm"]
    assert np.abs(off[grown]).max() < BOND_NM
    assert table["radius_nm"][-1] > first + 0.3 * BOND_NM
    assert (np.diff(table["radius_nm"]) > -1e-9).all()
    for i in (10, 25, 39):  # and measured another way
        now = past.at(past.moment(float(table["t_s"][i]))).positions_nm
        assert contact.neck_nm(now) == pytest.approx(table["radius_nm"][i], abs=1e-12)
        if grown[i]:
            assert abs(disc_radius_nm(now, contact) - table["law_radius_nm"][i]) < BOND_NM


@pytest.mark.parametrize("name", LAWS)
def test_no_atom_is_lost_and_none_comes_too_close_at_any_time(pair, name):
    """After every single event there are as many atoms, none nearer than 0.6 bond."""
    past = played(pair, LAWS[name])
    assert np.isfinite(past.log.position_nm).all()
    now = pair.positions_nm.copy()
    closest = np.inf
    for atom, place in zip(past.log.atom, past.log.position_nm, strict=True):
        now[atom] = np.inf
        closest = min(closest, np.linalg.norm(now - place, axis=1).min())
        now[atom] = place
    assert closest > 0.79 * BOND_NM  # 0.8 by construction
    assert len(past.at(past.moment(1e9))) == len(pair)
    assert len(np.unique(past.log.atom)) == len(past.log)  # nobody moves twice
    assert past.log.t_s.min() >= 0


def test_atoms_come_from_corners_far_away_and_settle_bound_in_the_crevice(pair):
    """Each leaves with fewer neighbours than the bulk has and lands beside several."""
    law = LAWS["surface diffusion"]
    moves = law.play(pair, ledger(), Run(1).rng("sintering 0")).moves
    contact = Contact.of(pair, law.groups)
    now = pair.positions_nm.copy()
    for _, atom, place in moves:
        near = np.linalg.norm(now - now[atom], axis=1) < 1.2 * BOND_NM
        assert near.sum() - 1 <= 7  # 9 in a {111} facet, 8 in {100}, 7 and fewer at edges
        home = np.linalg.norm(now[atom] - contact.middle_nm)
        assert home > np.linalg.norm(place - contact.middle_nm) + BOND_NM
        now[atom] = place
    bonds = [len(n) - 1 for n in cKDTree(now).query_ball_point(now, 1.2 * BOND_NM)]
    assert min(bonds) >= 2
    assert np.mean([bonds[atom] for _, atom, _ in moves]) > 6


def test_atoms_settle_on_the_lattices_of_their_sides():
    """Coordinates in the primitive vectors of the nearer particle are whole numbers."""
    pair = ParticlePair(**PAIRS["{110} to {100}"]).make(Run(0)).atoms
    past = played(pair, LAWS["surface diffusion"])
    contact = Contact.of(pair, ("particle 1", "particle 2"))
    side = (contact.along(past.log.position_nm) > 0).astype(int)
    assert 0.2 < side.mean() < 0.8
    for number in (0, 1):
        crystal = pair.positions_nm[pair.groups == number]
        cell = primitive_cell(neighbour_steps(crystal))
        n = (past.log.position_nm[side == number] - crystal[0]) @ np.linalg.inv(cell)
        np.testing.assert_allclose(n, np.rint(n), atol=1e-6)


def test_the_same_stream_gives_the_same_atoms_and_another_gives_others():
    pair = ParticlePair(**PAIRS["{100} to {100}"]).make(Run(0)).atoms
    one, two, three = (played(pair, LAWS["surface diffusion"], seed=s).log for s in (1, 1, 2))
    np.testing.assert_array_equal(one.position_nm, two.position_nm)
    np.testing.assert_array_equal(one.atom, two.atom)
    assert not np.array_equal(one.t_s[:50], three.t_s[:50])


def test_a_longer_movie_begins_like_a_shorter_one():
    pair = ParticlePair(**PAIRS["20 degrees"]).make(Run(0)).atoms
    short, long = (played(pair, LAWS["volume diffusion"], frames=n).log for n in (10, 40))
    assert len(long) > len(short) > 0
    np.testing.assert_array_equal(long.position_nm[: len(short)], short.position_nm)
    np.testing.assert_array_equal(long.t_s[: len(short)], short.t_s)


def test_an_initial_neck_is_there_when_the_first_frame_begins():
    """What the law had filled before happens at t = 0, so the first frame sees it."""
    pair = ParticlePair(**PAIRS["{100} to {100}"]).make(Run(0)).atoms
    past = played(pair, Sintering(time_s=1e6, initial_neck=0.6))
    assert len(past.log) > 100
    assert (past.log.t_s == 0).all()
    table = past.truths["neck"]
    radius = Contact.of(pair, ("particle 1", "particle 2")).particle_nm
    np.testing.assert_allclose(table["law_radius_nm"], 0.6 * radius, rtol=1e-3)
    assert abs(table["radius_nm"][0] - 0.6 * radius) < GOLD_NM


def test_by_default_the_law_begins_with_the_contact_as_it_is():
    pair = ParticlePair().make(Run(0)).atoms  # {111} on {111}
    past = played(pair, LAWS["surface diffusion"])
    contact = Contact.of(pair, ("particle 1", "particle 2"))
    start = contact.neck_nm(pair.positions_nm)
    law = Growth(300.0, 7.0, contact.particle_nm, start / contact.particle_nm)
    table = past.truths["neck"]
    np.testing.assert_allclose(table["law_radius_nm"], law.radius_nm(table["t_s"]), rtol=1e-12)
    assert law.radius_nm(np.array(0.0)) == pytest.approx(start)


def test_the_law_is_kuczynskis():
    """A neck without beginning: x = R (t / tau)^(1/n); twice as wide takes 2^n as long."""
    law = Growth(tau_s=50.0, exponent=5.0, particle_nm=2.0, start=0.0)
    assert law.radius_nm(np.array(50.0)) == pytest.approx(2.0)
    assert law.time_s_of(np.array(1.0)) / law.time_s_of(np.array(0.5)) == pytest.approx(32.0)
    late = Growth(50.0, 5.0, 2.0, 0.4)
    t = np.array([0.0, 1.0, 20.0])
    np.testing.assert_allclose(late.time_s_of(late.radius_nm(t)), t, atol=1e-12)
    assert late.radius_nm(np.array(0.0)) == pytest.approx(0.8)
    assert late.time_s_of(np.array(0.5)) == 0.0


def test_the_radius_of_a_particle_is_that_of_a_sphere_of_as_many_atoms():
    """4/3 pi R^3 = N a^3 / 4; of unequal particles 1 / R is the mean."""
    pair = ParticlePair(**PAIRS["unequal"]).make(Run(0)).atoms
    counts = np.bincount(pair.groups)
    one, two = (3 * counts * GOLD_NM**3 / (16 * np.pi)) ** (1 / 3)
    contact = Contact.of(pair, ("particle 1", "particle 2"))
    assert contact.particle_nm == pytest.approx(2 / (1 / one + 1 / two), rel=1e-6)
    np.testing.assert_allclose(contact.axis, [np.cos(np.pi / 6), 0.5, 0], atol=1e-6)


def test_a_disc_of_atoms_is_counted_as_wide_as_it_is():
    """A rod cut from the lattice, 1.5 nm in radius, along three axes: to 2 %."""
    cell = GOLD_NM / 2 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    origin = np.array([0.1, 0.05, 0.02])
    sites = lattice_within(cell, origin, np.zeros(3), 2.5)
    assert len(sites) == pytest.approx(4 / 3 * np.pi * 2.5**3 * 4 / GOLD_NM**3, rel=0.01)
    for axis in ([1.0, 0, 0], [1, 1, 0], [1, 1, 1]):
        unit = np.array(axis) / np.linalg.norm(axis)
        contact = Contact(np.arange(2), np.array([False, True]), np.zeros(3), unit, (cell, cell),
                          (origin, origin), BOND_NM, 2.0)  # fmt: skip
        rod = sites[contact.radius_of(sites) < 1.5]
        assert contact.neck_nm(rod) == pytest.approx(1.5, rel=0.02)


def test_an_evolving_pair_can_be_replayed_from_its_truth():
    """The event log names every atom: the truth alone gives the atoms of any time."""
    sample = Evolving(
        of=ParticlePair(n_atoms=(400, 400), facing=((0, 0, 1), (0, 0, 1))),
        processes=(Sintering(time_s=100.0),),
    )
    specimen = sample.make(Run(2))
    atoms = specimen.atoms_within(Window.centred(20, 20))
    past = specimen.history(atoms, None, ledger(), Run(2))
    tables = past.tables(np.zeros(3))
    assert set(tables) == {"events", "neck"}
    assert set(tables["events"]["process"]) == {b"sintering"}
    assert len(tables["neck"]["frame"]) == 40
    for t in (0.0, 5.0, 40.0):
        now, there = replayed(atoms.table(), tables["events"], t)
        assert there.all()
        found = np.stack([now["x_nm"], now["y_nm"], now["z_nm"]], axis=1)
        np.testing.assert_array_equal(found, past.at(past.moment(t)).positions_nm)


@pytest.mark.parametrize(
    ("pair", "change", "words"),
    [
        ({}, {"groups": ("particle 1", "cube")}, "no particle 'cube'; it has particle 1, part"),
        ({"gap_nm": 0.3}, {}, "don't touch: their nearest atoms are 0.588 nm apart"),
        ({}, {"time_s": 5.0}, "after 39.5 s the neck would be wider than the particles"),
        ({"n_atoms": (13, 13)}, {"time_s": 40.0, "initial_neck": 0.0}, "too small for a neck"),
    ],
)
def test_what_cant_sinter_is_said_in_one_line(pair, change, words):
    atoms = ParticlePair(**{"n_atoms": (200, 200), **pair}).make(Run(0)).atoms
    with pytest.raises(ValueError, match=words) as error:
        Sintering(**{"time_s": 1e3, **change}).play(atoms, ledger(), Run(0).rng("s"))
    assert "\n" not in str(error.value)


def test_a_neck_that_hardly_grows_moves_nobody():
    pair = ParticlePair(n_atoms=(200, 200)).make(Run(0)).atoms
    past = played(pair, Sintering(time_s=1e12, initial_neck=0.0, exponent=2.0))
    assert len(past.log) == 0
    np.testing.assert_array_equal(np.diff(past.truths["neck"]["radius_nm"]), 0.0)


def test_parts_that_touch_over_their_whole_width_are_refused():
    block = np.stack(np.meshgrid(*3 * [np.arange(8)], indexing="ij"), axis=-1).reshape(-1, 3) * 0.3
    flat = block[block[:, 2] < 0.7]
    atoms = Atoms.of(np.full(len(flat), 79), flat, 0.6, "one") + Atoms.of(
        np.full(len(flat), 79), flat + np.array([0, 0, 0.9]), 0.6, "two"
    )
    with pytest.raises(ValueError, match="over their whole width"):
        Sintering(time_s=1e3, groups=("one", "two")).play(atoms, ledger(), Run(0).rng("s"))


def test_a_part_cant_sinter_with_itself():
    with pytest.raises(ValidationError, match="can't sinter with itself"):
        Sintering(time_s=1.0, groups=("particle", "particle"))

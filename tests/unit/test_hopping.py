"""Hopping adatoms and columns: their statistics in time, and the sites that they visit."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats
from scipy.spatial import cKDTree

from nanophantom.samples.building.adatom_columns import adatom_columns
from nanophantom.samples.evolving import Evolving
from nanophantom.samples.nanoparticle_on_support import NanoparticleOnSupport
from nanophantom.simcore.atoms import Atoms, Window
from nanophantom.simcore.dose import Ledger
from nanophantom.simcore.dynamics.hopping import COLUMN_NM, Hopping, neighbour_steps
from nanophantom.simcore.history import History, Moves
from nanophantom.simcore.runs import Run

GOLD_NM = 0.40782
BOND_NM = GOLD_NM / np.sqrt(2)
PRIMITIVE_NM = GOLD_NM / 2 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])


def ledger(frames: int = 20, open_s: float = 0.5, period_s: float = 1.0, before: float = 0.0):
    """Return frames of 100 e/Å^2 each, the beam blanked between them."""
    return Ledger(
        start_s=period_s * np.arange(frames),
        length_s=np.full(frames, open_s),
        fluence_e_per_A2=np.full(frames, 100.0),
        energy_kev=300.0,
        area=Window.centred(50, 50),
        before_e_per_A2=before,
    )


def terrace(n_adatoms: int = 1) -> Atoms:
    """Return a (001) terrace of gold, two layers thick, and adatoms in its hollows."""
    i, j = np.meshgrid(np.arange(-12, 13), np.arange(-12, 13))
    square = BOND_NM * np.stack([i.ravel(), j.ravel(), np.zeros(i.size)], axis=1)
    hollow = BOND_NM * np.array([0.5, 0.5, 0.0]) - np.array([0, 0, GOLD_NM / 2])
    slab = np.concatenate([square, square + BOND_NM * np.array([0.5, 0.5, 0]) + [0, 0, 0.20391]])
    apart = BOND_NM * 4 * np.array([[k % 5 - 2, k // 5 - 2, 0] for k in range(n_adatoms)])
    return Atoms.of(np.full(len(slab), 79), slab, 0.6, "terrace") + Atoms.of(
        np.full(n_adatoms, 79), hollow + apart, 0.6, "adatoms"
    )


ADATOMS = {"group": "adatoms", "lattice_of": "terrace", "unit": "atom", "least_neighbours": 4}


def particle() -> Atoms:
    sample = NanoparticleOnSupport(n_atoms=600, adatom_columns=3, support_thickness_nm=2.0)
    return sample.make(Run(3)).atoms_within(Window.centred(7, 5))


COLUMNS = {"group": "adatoms", "lattice_of": "particle", "n_mobile": 3}


def events_of(moved: Moves, unit: int) -> list[float]:
    """Return when a unit hopped."""
    mine = moved.truths["hopping_units"]["atom"][moved.truths["hopping_units"]["unit"] == unit]
    return sorted({t for t, atom, _ in moved.moves if atom in mine})


@pytest.fixture(scope="module")
def walks() -> list[Moves]:
    """Return 250 movies of ten seconds of one free adatom that hops once a second."""
    atoms, movie = terrace(), ledger(frames=10, open_s=1.0)
    hopping = Hopping(**ADATOMS, rate_hz=1.0, n_mobile=1)
    return [hopping.play(atoms, movie, Run(seed).rng("hopping 0")) for seed in range(250)]


def test_hops_are_a_poisson_process_of_the_stated_rate(walks):
    """Counts have mean and variance rate x time; the first waits are exponential."""
    times = [[t for t, _, _ in moved.moves] for moved in walks]
    counts, n, expected = np.array([len(t) for t in times]), len(walks), 10.0
    # four standard errors: of the mean sqrt(m / n), of a Poisson variance m sqrt(2 / n + 1 / m n)
    assert abs(counts.mean() - expected) < 4 * np.sqrt(expected / n)
    assert abs(counts.var() - expected) < 4 * expected * np.sqrt(2 / n + 1 / (n * expected))
    for wait in ([t[0] for t in times if t], [t[1] - t[0] for t in times if len(t) > 1]):
        assert stats.kstest(wait, "expon").pvalue > 1e-3


def test_a_free_adatom_walks_at_random(walks):
    """<r^2> = hops x bond^2, and all four directions are equally likely."""
    home = terrace().positions_nm[-1]
    steps, ratio = [], []
    for moved in walks:
        places = np.array([home, *(place for _, _, place in moved.moves)])
        steps.append(np.diff(places, axis=0))
        ratio.append(np.sum((places[-1] - home) ** 2) / (max(1, len(places) - 1) * BOND_NM**2))
    along = np.concatenate(steps)
    np.testing.assert_allclose(np.linalg.norm(along, axis=1), BOND_NM, rtol=1e-9)
    which = np.argmax(along @ np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]]).T, axis=1)
    assert stats.chisquare(np.bincount(which, minlength=4)).pvalue > 1e-3
    # r^2 of a walk in the plane is spread as widely as it is long
    assert np.mean(ratio) == pytest.approx(1.0, abs=4 / np.sqrt(len(ratio)))


def test_hops_driven_by_the_beam_rest_while_it_is_blanked():
    """One hop for 50 e/Å^2: two a frame, spread evenly over the exposure, none between."""
    movie = ledger(frames=40, open_s=0.25)
    hopping = Hopping(**ADATOMS, fluence_per_hop_e_per_A2=50.0, n_mobile=9)
    moved = hopping.play(terrace(9), movie, Run(2).rng("h"))
    phase = np.array([t for t, _, _ in moved.moves]) % 1.0
    assert phase.max() <= 0.25
    expected = 9 * 40 * 100 / 50
    assert abs(len(phase) - expected) < 4 * np.sqrt(expected)
    assert stats.kstest(phase / 0.25, "uniform").pvalue > 1e-3
    thermal = Hopping(**ADATOMS, rate_hz=2.0, n_mobile=9).play(terrace(9), movie, Run(2).rng("h"))
    blanked = np.mean([t % 1.0 > 0.25 for t, _, _ in thermal.moves])
    assert blanked == pytest.approx(0.75, abs=0.08)


def test_what_the_beam_did_before_the_first_frame_lies_before_it():
    movie = ledger(frames=4, before=1000.0)
    moved = Hopping(**ADATOMS, fluence_per_hop_e_per_A2=50.0).play(
        terrace(4), movie, Run(2).rng("h")
    )
    times = np.array([t for t, _, _ in moved.moves])
    assert movie.first_electron_s == pytest.approx(-5.0)
    assert times.min() > -5.0
    assert abs(np.sum(times < 0) - 4 * 20) < 4 * np.sqrt(80)


@pytest.fixture(scope="module")
def specimen() -> Atoms:
    return particle()


def test_a_column_hops_as_a_whole(specimen):
    moved = Hopping(**COLUMNS, rate_hz=1.0).play(specimen, ledger(), Run(1).rng("h"))
    units = moved.truths["hopping_units"]
    now = specimen.positions_nm.copy()
    assert len(np.unique(units["unit"])) == 3
    for unit in range(3):
        mine = units["atom"][units["unit"] == unit]
        for t in events_of(moved, unit):
            rows = [(atom, place) for s, atom, place in moved.moves if s == t]
            assert sorted(atom for atom, _ in rows) == sorted(mine)
            steps = np.array([place - now[atom] for atom, place in rows])
            np.testing.assert_allclose(steps, steps[:1].repeat(len(mine), axis=0), atol=1e-12)
            for atom, place in rows:
                now[atom] = place


def test_every_site_is_free_and_has_neighbours_enough(specimen):
    """Replayed hop by hop, and counted from scratch: metal alone holds, nothing overlaps."""
    moved = Hopping(**COLUMNS, rate_hz=3.0).play(specimen, ledger(), Run(5).rng("h"))
    now = specimen.positions_nm.copy()
    metal = specimen.groups != specimen.group_names.index("support")
    hops = sorted({t for t, _, _ in moved.moves})
    assert len(hops) > 100
    for t in hops:
        mine = [atom for s, atom, _ in moved.moves if s == t]
        for s, atom, place in moved.moves:
            if s == t:
                now[atom] = place
        others = np.setdiff1d(np.arange(len(now)), mine)
        distance = np.linalg.norm(now[mine][:, None] - now[others], axis=2)
        assert distance.min() > 0.7 * BOND_NM
        touches = (distance < 1.2 * BOND_NM) & metal[others]
        xy = now[others][:, :2]
        holders = 0
        while touches.any():  # column by column
            first = xy[np.flatnonzero(touches.any(axis=0))[0]]
            column = np.linalg.norm(xy - first, axis=1) < COLUMN_NM
            holders += 2 * int(touches[:, column].any(axis=1).sum()) >= len(mine)
            touches[:, column] = False
        assert holders >= 2


def test_columns_stay_on_the_particle_along_the_beam(specimen):
    """In 60 hops each the middle of a column never leaves the particle's extent."""
    moved = Hopping(**COLUMNS, rate_hz=3.0).play(specimen, ledger(), Run(5).rng("h"))
    z = specimen.positions_nm[specimen.groups == 0, 2]
    units = moved.truths["hopping_units"]
    for unit in range(3):
        mine = units["atom"][units["unit"] == unit]
        for t in events_of(moved, unit):
            middle = np.mean([p[2] for s, atom, p in moved.moves if s == t and atom in mine])
            assert z.min() < middle < z.max()


def test_the_same_stream_gives_the_same_hops_and_another_gives_others(specimen):
    hopping = Hopping(**COLUMNS, rate_hz=1.0)
    one, two, three = (
        hopping.play(specimen, ledger(), Run(seed).rng("h")).moves for seed in (1, 1, 2)
    )
    assert [(t, a, p.tolist()) for t, a, p in one] == [(t, a, p.tolist()) for t, a, p in two]
    assert [t for t, _, _ in one] != [t for t, _, _ in three]


def test_who_hops_hangs_on_places_and_not_on_the_order_of_atoms(specimen):
    """The order in which atoms are listed leaves the mobile columns and their times alike."""
    shuffled = specimen.select(np.random.default_rng(7).permutation(len(specimen)))
    hopping = Hopping(**{**COLUMNS, "n_mobile": 2}, rate_hz=1.0)
    seen = []
    for atoms in (specimen, shuffled):
        moved = hopping.play(atoms, ledger(), Run(4).rng("h"))
        units = moved.truths["hopping_units"]
        homes = [atoms.positions_nm[units["atom"][units["unit"] == u]] for u in (0, 1)]
        middle = np.round([home.mean(axis=0) for home in homes], 6).tolist()
        seen.append((middle, events_of(moved, 0)[:1], events_of(moved, 1)[:1]))
    assert seen[0] == seen[1]


def test_a_longer_movie_begins_like_a_shorter_one(specimen):
    hopping = Hopping(**COLUMNS, rate_hz=1.0)
    short = hopping.play(specimen, ledger(8), Run(1).rng("h")).moves
    long = hopping.play(specimen, ledger(20), Run(1).rng("h")).moves
    assert len(long) > len(short) > 0
    for one, two in zip(short, long, strict=False):
        assert one[:2] == two[:2]
        np.testing.assert_array_equal(one[2], two[2])


def test_an_evolving_sample_plays_alike_after_pickling():
    sample = Evolving(
        of=NanoparticleOnSupport(n_atoms=300, adatom_columns=2, support_thickness_nm=1.0),
        processes=(Hopping(**COLUMNS, rate_hz=1.0),),
    )
    base = sample.make(Run(1))
    histories = []
    for specimen in (base, pickle.loads(pickle.dumps(base))):
        atoms = specimen.atoms_within(Window.centred(5, 5))
        histories.append(specimen.history(atoms, None, ledger(5), Run(1)))
    one, two = histories
    assert isinstance(one, History)
    assert len(one.log) > 0
    np.testing.assert_array_equal(one.log.position_nm, two.log.position_nm)
    np.testing.assert_array_equal(one.log.t_s, two.log.t_s)
    assert "hopping_units" in one.tables(np.zeros(3))


def test_a_complete_particle_holds_its_columns():
    """From a corner a column of a closed shell finds no site with two neighbours, but with one."""
    atoms = NanoparticleOnSupport(n_atoms=300).make(Run(0)).atoms_within(Window.centred(5, 5))
    with pytest.raises(ValueError, match="nothing of the part can hop; lower least_neighbours"):
        Hopping(group="particle", rate_hz=1.0).play(atoms, ledger(), Run(0).rng("h"))
    loose = Hopping(group="particle", rate_hz=1.0, least_neighbours=1)
    assert loose.play(atoms, ledger(), Run(0).rng("h")).moves


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"group": "adatom"}, "no part 'adatom'; it has terrace, adatoms"),
        ({"lattice_of": "support"}, "no part 'support'"),
        ({"lattice_of": "adatoms"}, "'adatoms' is no lattice to hop on"),
        ({"rate_hz": 1e6}, "more than 20,000"),
    ],
)
def test_what_cant_hop_is_said_in_one_line(change, words):
    with pytest.raises(ValueError, match=words) as error:
        Hopping(**{**ADATOMS, "rate_hz": 1.0, **change}).play(terrace(), ledger(), Run(0).rng("h"))
    assert "\n" not in str(error.value)


def test_hopping_without_a_rate_is_refused():
    with pytest.raises(ValidationError, match="nothing hops"):
        Hopping(group="adatoms")


def test_steps_are_the_twelve_nearest_neighbours_of_gold_in_spite_of_strain_and_relaxation():
    sample = NanoparticleOnSupport(n_atoms=600, strain_xx_percent=1.0, relaxation_percent=2.0)
    atoms = sample.make(Run(0)).atoms_within(Window.centred(8, 8))
    steps = neighbour_steps(atoms.positions_nm[atoms.groups == 0])
    assert len(steps) == 12
    np.testing.assert_allclose(np.linalg.norm(steps, axis=1), BOND_NM, rtol=0.02)
    np.testing.assert_allclose(steps.sum(axis=0), 0.0, atol=1e-9)


# --- where adatom columns begin ---


def test_columns_of_adatoms_lie_on_the_particles_lattice(specimen):
    """Their coordinates in primitive vectors are whole numbers; each stands on a facet."""
    metal = specimen.positions_nm[specimen.groups == 0]
    extra = specimen.positions_nm[specimen.groups == 1]
    steps = neighbour_steps(metal)
    cell = next(
        np.array([a, b, c])
        for a in steps
        for b in steps
        for c in steps
        if np.linalg.det([a, b, c]) > 0.5 * np.linalg.det(PRIMITIVE_NM)
    )
    assert np.linalg.det(cell) == pytest.approx(GOLD_NM**3 / 4, rel=1e-6)
    n = (extra - metal[0]) @ np.linalg.inv(cell)
    np.testing.assert_allclose(n, np.rint(n), atol=1e-6)
    assert extra[:, 1].max() < metal[:, 1].max()  # above the support
    distance, _ = cKDTree(specimen.positions_nm).query(extra, k=2)
    assert distance[:, 1].min() > 0.99 * BOND_NM
    bonds = [len(b) for b in cKDTree(metal).query_ball_point(extra, 1.2 * BOND_NM)]
    assert np.mean(bonds) >= 3  # a hollow of {111} has three, of {100} four


def test_columns_of_adatoms_are_as_many_as_asked_for_or_refused(specimen):
    extra = specimen.positions_nm[specimen.groups == 1]
    assert len(np.unique(extra[:, :2].round(6), axis=0)) == 3
    metal = specimen.positions_nm[specimen.groups == 0]
    for n, highest, room in ((90, 10.0, "[1-9][0-9]?"), (1, -10.0, "0")):
        with pytest.raises(ValueError, match=f"there is room for {room} columns only"):
            adatom_columns(metal, n, np.uint64(1), highest)

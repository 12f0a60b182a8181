"""Event logs, the states of a history, and how long each of them holds."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanophantom.simcore.atoms import Atoms, Window
from nanophantom.simcore.dose import Ledger
from nanophantom.simcore.fields import Table
from nanophantom.simcore.history import START, EventLog, Evolves, History, replayed
from nanophantom.simcore.runs import Run
from nanophantom.simcore.schedule import Exposures

Floats = npt.NDArray[np.float64]

GONE = (np.nan, np.nan, np.nan)
LEDGER = Exposures(n_frames=4, dose_e_per_A2=10.0, exposure_s=1.0, dead_time_s=0.5).ledger(
    80.0, Window.centred(2.0, 2.0)
)


def atoms(n: int = 5) -> Atoms:
    places = np.column_stack([0.1 * np.arange(n), np.zeros(n), 0.2 * np.arange(n)])
    return Atoms.of(6 + np.arange(n), places, 0.5)


def log(*rows: tuple[float, int, tuple[float, float, float]], name: str = "loss") -> EventLog:
    return EventLog.of([(t, atom, place, 0) for t, atom, place in rows], (name,))


def history(*rows: tuple[float, int, tuple[float, float, float]], **knobs: object) -> History:
    return History(atoms(), LEDGER, log(*rows), **knobs)  # type: ignore[arg-type]


# --- event logs -----------------------------------------------------------------------------------


def test_a_log_is_in_the_order_of_time_and_write_protected() -> None:
    made = log((2.0, 1, GONE), (-1.0, 3, (0.0, 0.0, 0.0)), (2.0, 0, GONE))
    np.testing.assert_array_equal(made.t_s, [-1.0, 2.0, 2.0])
    np.testing.assert_array_equal(made.atom, [3, 0, 1])
    with pytest.raises(ValueError, match="read-only"):
        made.t_s[0] = 0.0


def test_logs_add_up_in_the_order_of_time_and_keep_the_names_of_their_processes() -> None:
    one = EventLog.of([(1.0, 0, GONE, 1), (3.0, 1, GONE, 0)], ("knock-on", "mass-loss"))
    two = EventLog.of([(2.0, 2, GONE, 0), (0.5, 3, GONE, 1)], ("hopping", "knock-on"))
    both = one + two
    assert len(both) == 4
    np.testing.assert_array_equal(both.t_s, [0.5, 1.0, 2.0, 3.0])
    np.testing.assert_array_equal(both.atom, [3, 0, 2, 1])
    assert [both.processes[p] for p in both.process] == [
        "knock-on", "mass-loss", "hopping", "knock-on",
    ]  # fmt: skip
    again = two + one
    np.testing.assert_array_equal(again.t_s, both.t_s)
    assert [again.processes[p] for p in again.process] == [both.processes[p] for p in both.process]


def test_an_empty_log_adds_nothing() -> None:
    one, none = log((1.0, 0, GONE)), EventLog.of([], ("hopping",))
    for both in (one + none, none + one):
        np.testing.assert_array_equal(both.t_s, one.t_s)
        assert both.processes[both.process[0]] == "loss"
    assert none.position_nm.shape == (0, 3)


# --- states ---------------------------------------------------------------------------------------


def test_atoms_are_lost_and_moved_when_the_log_says_so() -> None:
    played = history((0.5, 1, GONE), (0.7, 2, (9.0, 8.0, 7.0)))
    assert played.at(START) is played.atoms
    before = played.at(played.moment(0.49))
    np.testing.assert_array_equal(before.positions_nm, played.atoms.positions_nm)
    one = played.at(played.moment(0.5))  # at its very time it has happened
    np.testing.assert_array_equal(one.numbers, [6, 8, 9, 10])
    two = played.at(played.moment(0.7))
    np.testing.assert_array_equal(two.numbers, [6, 8, 9, 10])
    np.testing.assert_array_equal(two.positions_nm[1], [9.0, 8.0, 7.0])
    np.testing.assert_array_equal(two.positions_nm[[0, 2]], played.atoms.positions_nm[[0, 3]])


def test_what_has_left_does_not_come_back() -> None:
    """A move that another process planned for an atom that is gone by then has no effect."""
    played = history((0.5, 1, GONE), (0.7, 1, (9.0, 8.0, 7.0)), (0.8, 2, (1.0, 1.0, 1.0)))
    np.testing.assert_array_equal(played.at(played.moment(3.0)).numbers, [6, 8, 9, 10])


def test_all_atoms_may_leave() -> None:
    played = history(*((0.1 * i, i, GONE) for i in range(5)))
    assert len(played.at(played.moment(9.0))) == 0


def test_few_events_divide_an_exposure_exactly() -> None:
    played = history((-1.0, 0, GONE), (0.25, 1, GONE), (0.5, 2, GONE), (1.2, 3, GONE))
    stretches = played.stretches(0.0, 1.0, most=4)
    assert [(s.begin_s, s.end_s) for s in stretches] == [(0.0, 0.25), (0.25, 0.5), (0.5, 1.0)]
    assert [s.moment.events for s in stretches] == [1, 2, 3]


def test_events_at_the_edges_of_an_exposure_make_no_empty_states() -> None:
    played = history((0.0, 0, GONE), (1.0, 1, GONE))
    (only,) = played.stretches(0.0, 1.0, most=4)
    assert only == ((1, None), 0.0, 1.0)
    assert [s.moment.events for s in played.stretches(1.0, 2.0, most=4)] == [2]


def test_events_at_one_time_make_one_state() -> None:
    played = history((0.5, 0, GONE), (0.5, 1, GONE), (0.5, 2, GONE))
    assert [s.moment.events for s in played.stretches(0.0, 1.0, most=2)] == [0, 3]


def test_as_many_states_as_are_allowed_are_exact_and_one_more_is_not() -> None:
    three = [(0.1, 0, GONE), (0.2, 1, GONE), (0.9, 2, GONE)]
    exact = history(*three).stretches(0.0, 1.0, most=4)
    assert [s.end_s for s in exact] == [0.1, 0.2, 0.9, 1.0]
    coarse = history(*three).stretches(0.0, 1.0, most=3)  # thirds, seen in their middles
    assert len(coarse) == 2
    assert [s.moment.events for s in coarse] == [1, 2]
    np.testing.assert_allclose([s.end_s for s in coarse], [1 / 3, 1.0])


def test_many_events_make_equal_parts_and_equal_neighbours_are_merged() -> None:
    crowd = history(*((0.26 + 0.002 * i, 0, (float(i), 0.0, 0.0)) for i in range(100)))
    stretches = crowd.stretches(0.0, 1.0, most=4)  # quarters; the last event comes at 0.458
    assert [(s.begin_s, s.end_s) for s in stretches] == [(0.0, 0.25), (0.25, 0.5), (0.5, 1.0)]
    assert [s.moment.events for s in stretches] == [0, 58, 100]  # those by 1/8, 3/8 and 5/8


@settings(max_examples=60, deadline=None)
@given(
    times=st.lists(st.floats(-0.5, 2.5), max_size=12),
    parts=st.integers(1, 9),
    most=st.integers(1, 6),
    begin=st.floats(0.0, 1.0),
)
def test_weights_of_an_exposure_sum_to_one_and_say_when_each_state_holds(
    times: list[float], parts: int, most: int, begin: float
) -> None:
    """Where they are exact, a weight is the time between two events, part by part."""
    played = history(*((t, 0, (float(i), 0.0, 0.0)) for i, t in enumerate(times)))
    edges = begin + np.arange(parts + 1) / parts
    scenes = played.during(edges, most)
    total = sum(weights for _, weights in scenes)
    np.testing.assert_allclose(total, np.full(parts, 1 / parts), atol=1e-12)
    moments = [moment for moment, _ in scenes]
    assert len(set(moments)) == len(moments) <= most
    inside = sorted({t for t in times if edges[0] < t < edges[-1]})
    if len(inside) < most:
        borders = [edges[0], *inside, edges[-1]]
        lengths = np.diff(borders) / (edges[-1] - edges[0])
        np.testing.assert_allclose([w.sum() for _, w in scenes], lengths, atol=1e-12)
        middles = (edges[:-1] + edges[1:]) / 2
        for moment, weights in scenes:  # a part that one state fills counts whole
            held = np.isclose(weights, 1 / parts, atol=1e-12)
            assert all(played.moment(t) == moment for t in middles[held])


# --- changes without steps ------------------------------------------------------------------------


@dataclass
class Sliding:
    """All atoms slide along x by 1 nm/s, and along y by a nanometre for 10 e/A^2."""

    seen: list[tuple[int, float, float]] = field(default_factory=list)

    def at(self, atoms: Atoms, t_s: float, fluence_e_per_A2: float) -> Atoms:
        self.seen.append((len(atoms), t_s, fluence_e_per_A2))
        return atoms.moved(atoms.positions_nm + np.array([t_s, fluence_e_per_A2 / 10.0, 0.0]))

    def table(self, t_s: Floats, fluence_e_per_A2: Floats) -> Table:
        return {"slid_nm": t_s}


def test_drives_act_after_the_events_and_divide_an_exposure_equally() -> None:
    drive = Sliding()
    played = history((0.1, 0, GONE), drives=(drive,))
    scenes = played.during(np.array([1.5, 2.0, 2.5]), most=4)  # the second exposure
    assert [moment.t_s for moment, _ in scenes] == [1.625, 1.875, 2.125, 2.375]
    np.testing.assert_allclose([w for _, w in scenes], [[0.25, 0], [0.25, 0], [0, 0.25], [0, 0.25]])
    state = played.at(scenes[1][0])
    assert drive.seen == [(4, 1.875, 13.75)]
    moved = state.positions_nm - played.atoms.positions_nm[1:]
    np.testing.assert_allclose(moved, np.tile([1.875, 1.375, 0.0], (4, 1)))
    evolution = played.tables(np.zeros(3))["evolution"]
    np.testing.assert_allclose(evolution["slid_nm"], LEDGER.start_s + 0.5)


# --- truth ----------------------------------------------------------------------------------------


def test_the_events_of_truth_name_frame_fluence_and_places() -> None:
    ledger = Exposures(
        n_frames=4, dose_e_per_A2=10.0, exposure_s=1.0, dead_time_s=0.5, before_e_per_A2=20.0
    ).ledger(80.0, Window.centred(2.0, 2.0))
    events = log(
        (-1.0, 0, GONE), (0.5, 1, (1.0, 2.0, 3.0)), (1.2, 1, (2.0, 2.0, 3.0)), (1.5, 2, GONE),
        (5.9, 3, GONE),
    )  # fmt: skip
    table = History(atoms(), ledger, events).tables(np.array([0.5, 0.5, 0.0]))["events"]
    np.testing.assert_array_equal(table["frame"], [-1, 0, 0, 1, 3])
    np.testing.assert_array_equal(table["during_exposure"], [False, True, False, True, False])
    np.testing.assert_allclose(table["fluence_e_per_A2"], [10.0, 25.0, 30.0, 30.0, 60.0])
    np.testing.assert_array_equal(table["lost"], [True, False, False, True, True])
    np.testing.assert_array_equal(table["number"], [6, 7, 7, 8, 9])
    np.testing.assert_allclose(table["from_x_nm"], [-0.5, -0.4, 0.5, -0.3, -0.2])
    np.testing.assert_allclose(table["to_x_nm"], [np.nan, 0.5, 1.5, np.nan, np.nan])
    np.testing.assert_allclose(table["to_y_nm"][1:3], 1.5)
    assert set(table["process"]) == {b"loss"}


def test_no_events_make_an_empty_table_of_the_same_types() -> None:
    none, some = history().tables(np.zeros(3)), history((0.5, 0, GONE)).tables(np.zeros(3))
    assert set(none) == set(some) == {"events"}
    for name, column in none["events"].items():
        assert len(column) == 0
        assert column.dtype.kind == some["events"][name].dtype.kind


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), n_events=st.integers(0, 30), t_s=st.floats(-2.0, 8.0))
def test_truth_tables_alone_tell_the_atoms_at_any_time(
    seed: int, n_events: int, t_s: float
) -> None:
    """`replayed` against History.at, for random losses and moves in random order."""
    rng = np.random.default_rng(seed)
    rows = [
        (float(rng.uniform(-1.0, 6.0)), int(rng.integers(5)),
         GONE if rng.random() < 0.3 else tuple(rng.normal(size=3)))
        for _ in range(n_events)
    ]  # fmt: skip
    played = history(*rows)
    origin = np.array([0.3, -0.2, 0.0])
    start = atoms().moved(atoms().positions_nm - origin)
    table, there = replayed(start.table(), played.tables(origin)["events"], t_s)
    true = played.at(played.moment(t_s))
    np.testing.assert_array_equal(table["number"][there], true.numbers)
    places = np.column_stack([table[f"{axis}_nm"][there] for axis in "xyz"])
    np.testing.assert_allclose(places, true.positions_nm - origin, atol=1e-12)


class Still:
    """A specimen that says nothing of a history."""


class Alive(Still):
    """One that does."""

    def history(self, atoms: Atoms, beyond_nm: object, ledger: Ledger, run: Run) -> History:
        return History(atoms, ledger, EventLog.of([], ()))

    def film_motion(self, half_width_nm: float, half_height_nm: float, run: Run) -> None:
        return None


def test_instruments_tell_specimens_that_change_from_others() -> None:
    assert isinstance(Alive(), Evolves)
    assert not isinstance(Still(), Evolves)

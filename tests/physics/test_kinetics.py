"""Damage as kinetics: rates, survival, and who an atom's fate depends on."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from nanophantom.simcore.atoms import Atoms, Window
from nanophantom.simcore.damage import kinetics
from nanophantom.simcore.damage.kinetics import BOND_FACTOR, Beam, Kinetics, Sites, play, segments
from nanophantom.simcore.damage.processes import Amorphization, KnockOn, MassLoss
from nanophantom.simcore.dose import Ledger
from nanophantom.simcore.history import EventLog, History
from nanophantom.simcore.runs import Run
from nanophantom.simcore.schedule import Exposures

Floats = npt.NDArray[np.float64]

BARN_A2 = 1e-8
EVERYWHERE = Window.everywhere()


def grid(n: int, step_nm: float = 0.3, number: int = 6) -> Atoms:
    x, y = np.meshgrid(np.arange(n) * step_nm, np.arange(n) * step_nm)
    places = np.column_stack([x.ravel(), y.ravel(), np.zeros(n * n)])
    return Atoms.of(np.full(n * n, number), places, 0.5)


def exposed(energy_kev: float = 80.0, area: Window = EVERYWHERE, **knobs: object) -> Ledger:
    return Exposures.model_validate(knobs).ledger(energy_kev, area)


def losses(critical: float = 100.0, **knobs: object) -> MassLoss:
    return MassLoss.model_validate({"critical_fluence_e_per_A2": critical, **knobs})


def doses_of(log: EventLog, ledger: Ledger, count: int) -> Floats:
    """Return the dose at which each atom has its first event; inf if it has none."""
    dose = np.full(count, np.inf)
    np.minimum.at(dose, log.atom, ledger.fluence_by(log.t_s))
    return dose


# --- survival -------------------------------------------------------------------------------------


def test_survival_is_exponential_in_the_fluence() -> None:
    """Counts in ten bins of fluence and the survivors against exp(-N / N_c): chi-square."""
    atoms, ledger = grid(50), exposed(n_frames=25, dose_e_per_A2=10.0, dead_time_s=0.3)
    dose = doses_of(play(atoms, [losses()], ledger, Run(7)), ledger, len(atoms))
    edges = np.concatenate([np.linspace(0.0, 250.0, 11), [np.inf]])
    found = np.histogram(dose[np.isfinite(dose)], edges)[0]
    found[-1] = np.count_nonzero(np.isinf(dose))
    expected = len(atoms) * -np.diff(np.exp(-edges / 100.0))
    chi_square = float(np.sum((found - expected) ** 2 / expected))
    assert 0.001 < stats.chi2.sf(chi_square, len(found) - 1) < 0.999
    # and without bins: Kolmogorov and Smirnov's distance to a truncated exponential
    share = -np.expm1(-dose[np.isfinite(dose)] / 100.0) / -np.expm1(-2.5)
    assert stats.kstest(share, "uniform").pvalue > 0.001


def test_different_seeds_and_processes_draw_different_fates() -> None:
    atoms, ledger = grid(20), exposed(n_frames=1, dose_e_per_A2=1e4)
    one = doses_of(play(atoms, [losses()], ledger, Run(1)), ledger, 400)
    two = doses_of(play(atoms, [losses()], ledger, Run(2)), ledger, 400)
    second = doses_of(play(atoms, [losses(1e12), losses()], ledger, Run(1)), ledger, 400)
    for other in (two, second):
        assert abs(np.corrcoef(np.log(one), np.log(other))[0, 1]) < 0.15  # 3 / sqrt(400)


SCHEDULES = {
    "one": {"n_frames": 1, "dose_e_per_A2": 300.0, "exposure_s": 1.0},
    "thirty": {"n_frames": 30, "dose_e_per_A2": 10.0, "exposure_s": 0.3},
    "gaps": {"n_frames": 30, "dose_e_per_A2": 10.0, "exposure_s": 0.3, "dead_time_s": 7.7},
    "many": {"n_frames": 900, "dose_e_per_A2": 1 / 3, "exposure_s": 1e-3, "dead_time_s": 1e-4},
    "before": {"n_frames": 20, "dose_e_per_A2": 10.0, "before_e_per_A2": 100.0},
    "varied": {"doses_e_per_A2": [1.0, 199.0, 0.5, 99.5], "exposure_s": 0.2, "dead_time_s": 1.0},
}


@pytest.mark.parametrize("name", list(SCHEDULES)[1:])
def test_events_are_functions_of_dose_however_it_is_cut_into_frames(name: str) -> None:
    """The same atoms go at the same doses to 1e-9, whatever frames, rates and gaps."""
    atoms = grid(20)
    process = [losses(), Amorphization(critical_fluence_e_per_A2=150.0)]
    one, other = (exposed(**SCHEDULES[key]) for key in ("one", name))
    first, second = (play(atoms, process, ledger, Run(3)) for ledger in (one, other))
    assert len(first) > 400
    np.testing.assert_array_equal(first.atom, second.atom)
    np.testing.assert_array_equal(first.process, second.process)
    np.testing.assert_array_equal(first.position_nm, second.position_nm)
    np.testing.assert_allclose(
        one.fluence_by(first.t_s), other.fluence_by(second.t_s), rtol=0, atol=1e-9
    )


def test_nothing_happens_while_the_beam_is_blanked() -> None:
    ledger = exposed(**SCHEDULES["gaps"])
    log = play(grid(20), [losses()], ledger, Run(3))
    frame = np.searchsorted(ledger.start_s, log.t_s, side="right") - 1
    assert np.all(log.t_s <= ledger.end_s[frame])


def test_an_acquisition_that_ends_early_has_the_first_events_of_the_longer_one() -> None:
    longer = exposed(n_frames=8, dose_e_per_A2=20.0)
    shorter = exposed(n_frames=8, dose_e_per_A2=20.0, budget={"total_e_per_A2": 100.0})
    assert len(shorter) == 5
    whole, part = (play(grid(15), [losses()], ledger, Run(3)) for ledger in (longer, shorter))
    assert 0 < len(part) < len(whole)
    np.testing.assert_array_equal(part.t_s, whole.t_s[: len(part)])
    np.testing.assert_array_equal(part.atom, whole.atom[: len(part)])


def test_the_stretches_of_a_ledger_carry_its_fluence() -> None:
    for knobs in SCHEDULES.values():
        ledger = exposed(**knobs)
        stretches = list(segments(ledger))
        total = sum((end - begin) * flux for begin, end, flux in stretches)
        assert total == pytest.approx(ledger.cumulative_e_per_A2[-1], rel=1e-9)
        for before, after in itertools.pairwise(stretches):
            assert after[0] == pytest.approx(before[1], abs=1e-9)


# --- whose fate it is -----------------------------------------------------------------------------


def test_the_fate_of_an_atom_does_not_depend_on_what_else_is_in_view() -> None:
    """A window of the atoms, in another order, has the same events at the same doses."""
    atoms, ledger = grid(16), exposed(n_frames=3, dose_e_per_A2=60.0)
    rng = np.random.default_rng(5)
    some = rng.permutation(np.flatnonzero(Window(0.5, 3.0, 1.0, 4.0).holds(
        *atoms.positions_nm[:, :2].T)))  # fmt: skip
    process = [losses(), Amorphization(critical_fluence_e_per_A2=80.0, displacement_rms_nm=0.03)]
    every = play(atoms, process, ledger, Run(4))
    few = play(atoms.select(some), process, ledger, Run(4))
    mine = np.isin(every.atom, some)
    assert 20 < mine.sum() < len(every)
    np.testing.assert_array_equal(some[few.atom], every.atom[mine])
    np.testing.assert_allclose(few.t_s, every.t_s[mine], atol=1e-12)
    np.testing.assert_array_equal(few.position_nm, every.position_nm[mine])


def test_atoms_outside_of_the_beam_stay() -> None:
    area = Window(-0.1, 1.9, -0.1, 0.9)
    log = play(grid(16), [losses(1.0)], exposed(area=area, n_frames=1, dose_e_per_A2=1e4), Run(4))
    inside = area.holds(*grid(16).positions_nm[:, :2].T)
    np.testing.assert_array_equal(np.sort(log.atom), np.flatnonzero(inside))


def test_competing_processes_split_as_their_rates() -> None:
    """Each atom goes once; who takes it is binomial with the shares of the rates: 4 sigma."""
    atoms, n = grid(45), 45**2
    knock = KnockOn.model_validate(
        {"displacement": {"C": 21.14}, "velocity_variance_m2_s2": {"C": 3.17e5}}
    )
    sigma_A2 = knock.cross_section_barn("C", 4, 120.0) * BARN_A2
    loss = losses(0.5 / sigma_A2)  # twice as probable
    ledger = exposed(energy_kev=120.0, n_frames=1, dose_e_per_A2=30.0 / sigma_A2)
    log = play(atoms, [knock, loss], ledger, Run(8))
    assert len(log) == n == len(np.unique(log.atom))
    taken = np.count_nonzero(log.process == log.processes.index("mass-loss"))
    assert abs(taken - n * 2 / 3) < 4 * np.sqrt(n * 2 / 9)
    # together they are as fast as the sum of both
    mean = float(ledger.fluence_by(log.t_s).mean()) * 3 * sigma_A2
    assert abs(mean - 1.0) < 4 / np.sqrt(n)


# --- knock-on -------------------------------------------------------------------------------------


def sites_of(atoms: Atoms, coordination: npt.ArrayLike) -> Sites:
    n = len(atoms)
    return Sites(
        numbers=atoms.numbers, groups=atoms.groups, group_names=atoms.group_names,
        homes_nm=atoms.positions_nm, positions_nm=atoms.positions_nm.copy(),
        coordination=np.broadcast_to(np.asarray(coordination, np.int64), n).copy(),
        there=np.ones(n, bool),
    )  # fmt: skip


@pytest.mark.parametrize(("energy_kev", "barn"), [(80.0, 4.10e-6), (100.0, 0.345), (120.0, 5.50)])
def test_knock_on_of_graphene_is_cross_section_times_flux(energy_kev: float, barn: float) -> None:
    """12-C, T_d = 21.14 eV, <v_z^2> = 3.17e5 m^2/s^2.

    McKinley-Feshbach averaged over the thermal velocities, as J. C. Meyer et al., PRL 108 (2012)
    196102; figures to three digits.
    """
    knock = KnockOn.model_validate({
        "displacement": {"C": 21.14}, "velocity_variance_m2_s2": {"C": 3.17e5},
        "isotopes_u": {"C": 12.0},
    })  # fmt: skip
    flux = np.array([1e4, 2e6, 0.0])
    rates = knock.rates_per_s(sites_of(grid(1).select(np.zeros(3, int)), 3), Beam(energy_kev, flux))
    np.testing.assert_allclose(rates, barn * BARN_A2 * flux, rtol=0.01)


def test_elements_without_a_displacement_energy_stay() -> None:
    atoms = Atoms.of([6, 79], [[0, 0, 0], [0.2, 0, 0]], 0.5)
    knock = KnockOn.model_validate({"displacement": {"C": 5.0}})
    rates = knock.rates_per_s(sites_of(atoms, 1), Beam(200.0, np.full(2, 1e6)))
    assert rates[0] > 0
    assert rates[1] == 0


EDGE = KnockOn.model_validate({
    "displacement": {"C": {"energy_ev": 900.0, "by_coordination_ev": {1: 12.0, 2: 14.0, 0: 6.0}}},
    "velocity_variance_m2_s2": {"C": 3.17e5},
})  # fmt: skip


def test_the_partner_of_a_lost_atom_has_the_rate_of_its_new_coordination() -> None:
    """Pairs far from each other: the first goes at twice the rate of coordination 1, the other,
    counted from then on, at that of coordination 0. Means of 500 exponential times: 4 sigma."""
    n = 500
    left = np.column_stack([2.0 * np.arange(n), np.zeros(n), np.zeros(n)])
    atoms = Atoms.of(np.full(2 * n, 6), np.concatenate([left, left + np.array([0.14, 0, 0])]), 0.5)
    bound, alone = (EDGE.cross_section_barn("C", c, 80.0) * BARN_A2 for c in (1, 0))
    assert alone > 2 * bound  # else the test would prove little
    ledger = exposed(n_frames=1, dose_e_per_A2=40.0 / bound)
    log = play(atoms, [EDGE], ledger, Run(2), bond_nm=0.2)
    dose = doses_of(log, ledger, 2 * n).reshape(2, n)
    assert np.isfinite(dose).all()
    first, then = dose.min(axis=0), np.ptp(dose, axis=0)
    assert abs(first.mean() * 2 * bound - 1) < 4 / np.sqrt(n)
    assert abs(then.mean() * alone - 1) < 4 / np.sqrt(n)
    assert stats.kstest(-np.expm1(-then * alone), "uniform").pvalue > 0.001


def honeycomb(n: int, bond_nm: float = 0.142) -> Atoms:
    a = np.sqrt(3.0) * bond_nm
    i, j = (v.ravel() for v in np.meshgrid(np.arange(-n, n + 1), np.arange(-n, n + 1)))
    corner = np.column_stack([a * (i + j / 2), a * np.sqrt(3) / 2 * j, np.zeros(i.size)])
    places = np.concatenate([corner, corner + np.array([a / 2, a / np.sqrt(12), 0.0])])
    return Atoms.of(np.full(len(places), 6), places, 0.5)


def neighbours(positions: Floats, atom: int, bond_nm: float) -> npt.NDArray[np.int64]:
    near = np.linalg.norm(positions - positions[atom], axis=1) < bond_nm
    near[atom] = False
    return np.flatnonzero(near)


def test_a_hole_in_a_sheet_grows_from_its_edge() -> None:
    """Only atoms with two neighbours or fewer can go; the beam doesn't reach the sheet's rim.

    One vacancy grows into a hole, every atom of which had been at its edge; without the vacancy
    nothing happens."""
    sheet = honeycomb(9)
    area = Window.centred(1.6, 1.6)
    middle = int(np.argmin(np.linalg.norm(sheet.positions_nm, axis=1)))
    pierced = sheet.select(np.arange(len(sheet)) != middle)
    dose = 10.0 / (EDGE.cross_section_barn("C", 2, 80.0) * BARN_A2)
    ledger = exposed(area=area, n_frames=1, dose_e_per_A2=dose)
    assert len(play(sheet, [EDGE], ledger, Run(5))) == 0
    log = play(pierced, [EDGE], ledger, Run(5))
    assert len(log) > 50
    there = np.ones(len(pierced), bool)
    hole: set[int] = set()
    beside = np.linalg.norm(pierced.positions_nm - sheet.positions_nm[middle], axis=1) < 0.18
    for atom in log.atom.tolist():
        near = neighbours(pierced.positions_nm, atom, BOND_FACTOR * 0.142)
        assert there[near].sum() <= 2
        assert beside[atom] or hole & set(near.tolist())  # it joins the hole
        there[atom] = False
        hole.add(atom)
    assert area.holds(*pierced.positions_nm[log.atom, :2].T).all()


def test_the_border_of_a_cell_is_no_edge_of_the_specimen() -> None:
    """Atoms beyond it count as neighbours: a part of a sheet fares as it does in the whole one."""
    sheet = honeycomb(9)
    cell = Window.centred(1.5, 1.5)
    inside = cell.holds(*sheet.positions_nm[:, :2].T)
    part, beyond = sheet.select(inside), sheet.positions_nm[~inside]
    dose = 10.0 / (EDGE.cross_section_barn("C", 2, 80.0) * BARN_A2)
    ledger = exposed(area=cell, n_frames=1, dose_e_per_A2=dose)
    assert len(play(part, [EDGE], ledger, Run(5))) > 20  # as a flake
    assert len(play(part, [EDGE], ledger, Run(5), None, beyond)) == 0
    hops = KnockOn.model_validate(
        {"displacement": {"C": {"energy_ev": 15.0, "by_coordination_ev": {2: 12.0}}},
         "fate_of_atom": "moved", "range_nm": 0.1}
    )  # fmt: skip
    brief = exposed(area=cell, n_frames=1, dose_e_per_A2=dose / 25)
    whole = play(sheet, [hops], brief, Run(5))
    few = play(part, [hops], brief, Run(5), None, beyond)
    assert len(few) > 10
    np.testing.assert_array_equal(np.flatnonzero(inside)[few.atom], whole.atom)
    np.testing.assert_allclose(few.t_s, whole.t_s, rtol=1e-12)


def test_the_coordination_that_rates_see_is_the_one_that_can_be_counted() -> None:
    """While atoms leave, hop and come to rest elsewhere, a spy recounts all neighbours."""

    class Spy(Kinetics):
        process: str = "spy"

        def rates_per_s(self, sites: Sites, beam: Beam) -> Floats:
            here = sites.positions_nm
            apart = np.linalg.norm(here[:, None] - here[None], axis=2)
            near = (apart < 0.185) & sites.there & sites.there[:, None]
            np.fill_diagonal(near, False)
            counted = np.where(sites.there, near.sum(axis=1), sites.coordination)
            np.testing.assert_array_equal(counted, sites.coordination)
            return np.zeros(len(here))

        def fate(self, sites: Sites, atom: int, uniform: Floats) -> Floats:
            raise AssertionError("a rate of zero never comes to pass")

    hops = KnockOn.model_validate(
        {"displacement": {"C": 10.0}, "fate_of_atom": "moved", "range_nm": 0.2}
    )
    dose = 1.0 / (hops.cross_section_barn("C", 3, 120.0) * BARN_A2)
    ledger = exposed(energy_kev=120.0, n_frames=2, dose_e_per_A2=dose / 2)
    sheet = honeycomb(3)
    log = play(sheet, [hops, losses(2 * dose), Spy()], ledger, Run(6), bond_nm=0.185)
    assert len(log) > 60
    moved = np.isfinite(log.position_nm[:, 0])
    assert 20 < moved.sum() < len(log)
    place = sheet.positions_nm.copy()
    for atom, where in zip(log.atom, log.position_nm, strict=True):
        if np.isfinite(where[0]):
            assert np.linalg.norm(where - place[atom]) == pytest.approx(0.2, abs=1e-12)
        place[atom] = where


# --- before the first frame, thresholds, residues, disorder ---------------------------------------


def test_what_happens_before_the_first_frame_has_negative_times_and_frame_minus_one() -> None:
    atoms = grid(20)
    ledger = exposed(n_frames=4, dose_e_per_A2=25.0, exposure_s=0.5, before_e_per_A2=100.0)
    log = play(atoms, [losses()], ledger, Run(9))
    events = History(atoms, ledger, log).tables(np.zeros(3))["events"]
    early = events["t_s"] < 0
    expected = 400 * (1 - np.exp(-1.0))
    assert abs(early.sum() - expected) < 4 * np.sqrt(expected * np.exp(-1.0))
    np.testing.assert_array_equal(events["frame"][early], -1)
    assert not events["during_exposure"][early].any()
    assert events["t_s"].min() > -2.0  # 100 e/A^2 at the first frame's 50 e/A^2/s
    assert (events["frame"][~early] >= 0).all()
    assert events["during_exposure"][~early].all()
    np.testing.assert_allclose(events["fluence_e_per_A2"][early], 50 * (2 + events["t_s"][early]))


def test_only_the_dose_rate_above_a_threshold_damages() -> None:
    atoms = grid(30)
    slow = losses(100.0, threshold_rate_e_per_A2_s=20.0)
    gentle = exposed(n_frames=50, dose_e_per_A2=20.0, exposure_s=1.0)
    assert len(play(atoms, [slow], gentle, Run(1))) == 0  # 1000 e/A^2, but all at 20 e/A^2/s
    bright = exposed(n_frames=1, dose_e_per_A2=200.0, exposure_s=2.0)
    dull = exposed(n_frames=1, dose_e_per_A2=160.0, exposure_s=2.0)
    # at 100 e/A^2/s only 80 count: the same events as of a process without threshold at 80
    one, two = play(atoms, [slow], bright, Run(1)), play(atoms, [losses(100.0)], dull, Run(1))
    assert len(one) > 500
    np.testing.assert_array_equal(one.atom, two.atom)
    np.testing.assert_allclose(one.t_s, two.t_s, atol=1e-12)


def test_a_residue_stays_and_is_the_same_in_every_run() -> None:
    atoms = grid(40)
    ledger = exposed(n_frames=1, dose_e_per_A2=2e4)
    gone = [set(play(atoms, [losses(residue=0.3)], ledger, Run(seed)).atom) for seed in (1, 2)]
    assert gone[0] == gone[1]
    assert abs(len(gone[0]) - 0.7 * 1600) < 4 * np.sqrt(1600 * 0.21)


def test_only_the_named_elements_are_concerned() -> None:
    atoms = grid(10, number=8) + Atoms.of([38] * 50, grid(8).positions_nm[:50] + 9.0, 0.5)
    log = play(atoms, [losses(1.0, elements=["O"])], exposed(n_frames=1), Run(1))
    assert set(atoms.numbers[log.atom]) == {8}
    assert len(log) == 100


def test_amorphization_leaves_exp_of_the_dose_untouched_and_moves_every_other_site_once() -> None:
    """The jumps are normally distributed with the given rms along each axis."""
    atoms = grid(45)
    ledger = exposed(n_frames=2, dose_e_per_A2=60.0)
    process = Amorphization(critical_fluence_e_per_A2=80.0, displacement_rms_nm=0.05)
    log = play(atoms, [process], ledger, Run(3))
    untouched = len(atoms) - len(np.unique(log.atom))
    for dose in (60.0, 120.0):
        left = len(atoms) - np.searchsorted(ledger.fluence_by(log.t_s), dose)
        expected = len(atoms) * np.exp(-dose / 80.0)
        assert abs(left - expected) < 4 * np.sqrt(expected * (1 - np.exp(-dose / 80.0)))
    assert untouched == left  # so nobody went twice
    jumps = (log.position_nm - atoms.positions_nm[log.atom]) / 0.05
    for axis in range(3):
        assert stats.kstest(jumps[:, axis], "norm").pvalue > 0.001
    assert np.abs(np.corrcoef(jumps.T) - np.eye(3)).max() < 4 / np.sqrt(len(log))


def test_a_game_without_end_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Atoms that may hop again and again, at a dose without measure."""
    monkeypatch.setattr(kinetics, "MOST_EVENTS", 1000)
    hops = KnockOn.model_validate({"displacement": {"C": 5.0}, "fate_of_atom": "moved"})
    with pytest.raises(ValueError, match=r"more than 1,000 events .*'knock-on'") as refused:
        play(grid(1), [hops], exposed(300.0, n_frames=1, dose_e_per_A2=1e30), Run(1))
    assert "\n" not in str(refused.value)


def test_no_processes_and_no_atoms_make_no_events() -> None:
    assert len(play(grid(2), [], exposed(n_frames=1), Run(1))) == 0
    nothing = Atoms.of([], np.empty((0, 3)), 0.0)
    assert len(play(nothing, [losses(1e-3)], exposed(n_frames=1), Run(1))) == 0
    assert len(play(grid(1), [losses(1e-3)], exposed(n_frames=1), Run(1))) == 1

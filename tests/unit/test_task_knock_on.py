"""The task knock-on and its analysis: counting losses, the cross section, and what is refused."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy.spatial import cKDTree
from scipy.stats import poisson

from nanophantom.analysis.knock_on_losses import (
    Fluence,
    at_risk,
    completed,
    measure,
    neighbours_of,
    poisson_rate,
)
from nanophantom.simcore.damage.knock_on import displacement_cross_section_barn
from nanophantom.validation.tasks import find_task
from nanophantom.validation.tasks.knock_on import neighbours_at_loss

FloatArray = npt.NDArray[np.float64]
TASK: Any = find_task("knock-on")
PIXEL_NM, SIZE, FRAMES, PERIOD_S = 0.025, 160, 12, 2.0
DOSE_E_PER_A2 = 1e5
BOND_NM = 0.142
PROCESS = {
    "process": "knock-on",
    "displacement": {"C": {"energy_ev": 21.14, "by_coordination_ev": {2: 17.0}}},
    "velocity_variance_m2_s2": {"C": 3.17e5},
}


def honeycomb(side_nm: float, margin_nm: float = 0.3) -> FloatArray:
    """Return the atoms (x, y) of a sheet from -margin to side + margin."""
    a = np.sqrt(3) * BOND_NM
    n = np.arange(-80, 81)
    i, j = (v.ravel() for v in np.meshgrid(n, n))
    cells = np.column_stack([a * (i + 0.5 * j), 1.5 * BOND_NM * j])
    atoms = np.concatenate([cells, cells + np.array([0.0, BOND_NM])]) + np.array([0.011, 0.007])
    return atoms[((atoms > -margin_nm) & (atoms < side_nm + margin_nm)).all(axis=1)]


SHEET = honeycomb(SIZE * PIXEL_NM)


def nearest(x_nm: float, y_nm: float) -> int:
    return int(np.hypot(*(SHEET - (x_nm, y_nm)).T).argmin())


A = nearest(1.0, 1.0)
B = int(cKDTree(SHEET).query(SHEET[A], k=2)[1][1])  # its neighbour
C = nearest(2.6, 2.9)
LOSSES = [(5.3, A), (11.2, C), (16.4, B)]


def sheet_image(gone: set[int]) -> FloatArray:
    """Return expected counts of a frame without some atoms."""
    grid = np.arange(SIZE) * PIXEL_NM
    there = np.array([i for i in range(len(SHEET)) if i not in gone])
    bell_x, bell_y = (
        np.exp(-(((grid[:, None] - SHEET[there, k]) / 0.042) ** 2) / 2) for k in (0, 1)
    )
    return 200.0 + 120.0 * bell_y @ bell_x.T


@cache
def movie() -> npt.NDArray[np.uint16]:
    rng = np.random.default_rng(3)
    frames = []
    for i in range(FRAMES):
        begin, end = i * PERIOD_S, (i + 1) * PERIOD_S
        edges = np.array([begin, *(t for t, _ in LOSSES if begin < t < end), end])
        states = [sheet_image({atom for t, atom in LOSSES if t <= a}) for a in edges[:-1]]
        expected = np.tensordot(np.diff(edges) / PERIOD_S, states, axes=1)
        frames.append(rng.poisson(expected))
    return np.array(frames, np.uint16)


def events_table(losses: list[tuple[float, int]]) -> dict[str, Any]:
    atom = np.array([a for _, a in losses], int)
    n = len(atom)
    return {
        "t_s": np.array([t for t, _ in losses]),
        "atom": atom,
        "lost": np.ones(n, bool),
        "from_x_nm": SHEET[atom, 0],
        "from_y_nm": SHEET[atom, 1],
        "to_x_nm": np.full(n, np.nan),
        "to_y_nm": np.full(n, np.nan),
    }


def atoms_table() -> dict[str, Any]:
    return {"x_nm": SHEET[:, 0], "y_nm": SHEET[:, 1], "z_nm": np.zeros(len(SHEET)),
            "number": np.full(len(SHEET), 6)}  # fmt: skip


def observed(losses: list[tuple[float, int]] = LOSSES, **recipe: Any) -> Any:
    tables = {
        "atoms": atoms_table(),
        "events": events_table(losses),
        "drift": {"dx_nm": np.zeros(FRAMES), "dy_nm": np.zeros(FRAMES)},
        "dose": {
            "start_s": PERIOD_S * np.arange(FRAMES),
            "length_s": np.full(FRAMES, PERIOD_S),
            "dose_e_per_A2": np.full(FRAMES, DOSE_E_PER_A2),
        },
    }
    return SimpleNamespace(
        n_frames=FRAMES,
        settings={"pixel_size_nm": PIXEL_NM, "exposure_s": PERIOD_S, "frame_period_s": PERIOD_S,
                  "energy_kev": 100.0, "contrast": "bright",
                  "doses_e_per_A2": [DOSE_E_PER_A2] * FRAMES},
        recipe={"sample": {"kind": "evolving", "processes": [PROCESS], **recipe}},
        signals=("image",),
        signal=lambda name="image", a=0, b=None: movie()[a:b],
        truth_tables=tuple(tables),
        truth=lambda table: tables[table],
    )  # fmt: skip


def answer(barn: float = 0.3, losses: list[tuple[float, int]] = LOSSES) -> dict[str, FloatArray]:
    n = len(losses)
    atoms = [a for _, a in losses]
    return {
        "x_nm": SHEET[atoms, 0],
        "y_nm": SHEET[atoms, 1],
        "t_s": np.array([t for t, _ in losses]),
        "sigma_t_s": np.full(n, 0.1),
        "cross_section_barn": np.full(n, barn),
        "low_barn": np.full(n, 0.5 * barn),
        "high_barn": np.full(n, 2 * barn),
    }


TRUE_BARN = float(displacement_cross_section_barn(100.0, 6, 12.011, 21.14, 3.17e5))


def test_a_perfect_answer_has_perfect_scores() -> None:
    """The true cross section is that of the recipe's process; the static lattice has none."""
    data = observed()
    comparison = TASK.compare(answer(TRUE_BARN), data)
    assert comparison.true_barn == pytest.approx(TRUE_BARN, rel=1e-6)
    assert comparison.static_barn == 0  # 20.05 eV at most, 21.14 eV needed
    assert comparison.edge_barn > 10 * TRUE_BARN
    values = TASK.grade(answer(TRUE_BARN), data).values()
    assert values["cross_section_error"] == pytest.approx(0, abs=1e-6)
    assert (values["covered"], values["recall"], values["precision"], values["f1"]) == (1, 1, 1, 1)
    assert values["time_error"] == 0


def test_the_limit_is_that_of_counting_atoms_with_all_neighbours() -> None:
    """A and C had three neighbours, B only two: 1 / sqrt(2)."""
    score = TASK.grade(answer(2 * TRUE_BARN), observed())["cross_section_error"]
    assert score.value == pytest.approx(np.log(2))
    assert score.limit == pytest.approx(1 / np.sqrt(2))
    assert score.n == 2
    assert neighbours_at_loss(atoms_table(), events_table(LOSSES)).tolist() == [3, 3, 2]


def test_an_interval_that_misses_the_truth_is_not_covered() -> None:
    assert TASK.grade(answer(3 * TRUE_BARN), observed())["covered"].value == 0


@pytest.mark.parametrize("change", [{"t_s": 2.1}, {"x_nm": 0.08}])
def test_atoms_at_the_wrong_place_or_time_are_missed_and_false(change: dict[str, float]) -> None:
    """Off by more than a frame, or by more than half of a bond."""
    given = answer()
    for name, shift in change.items():
        given[name] = given[name] + shift
    scores = TASK.grade(given, observed())
    assert scores["recall"].value == 0
    assert scores["precision"].value == 0


def test_no_losses_are_graded_without_a_cross_section() -> None:
    scores = TASK.grade(answer(losses=[]), observed())
    assert scores["recall"].value == 0
    assert scores["cross_section_error"].value is None
    assert TASK.grade(answer(losses=[]), observed([]))["recall"].value is None


def test_answers_that_break_the_contract_are_refused() -> None:
    good = answer()
    for bad, told in (
        ({"cross_section_barn": np.array([0.1, 0.2, 0.3])}, "one number"),
        ({"low_barn": np.full(3, 0.9)}, "low_barn <= cross_section_barn"),
        ({"y_nm": np.array([1.0, np.inf, 1.0])}, "finite"),
        ({"sigma_t_s": np.zeros(3)}, "sigma_t_s above zero"),
    ):
        with pytest.raises(ValueError, match=told):
            TASK.grade(good | bad, observed())
    with pytest.raises(ValueError, match="no sample with a process knock-on"):
        TASK.grade(good, observed(processes=[]))


def test_the_interval_of_a_poisson_mean_holds_it_in_95_percent_at_least() -> None:
    """Garwood's interval never covers less: exact sums over the Poisson distribution."""
    for mean in (0.5, 3.0, 20.0):
        n = np.arange(120)
        low, high = np.array([poisson_rate(int(k), 2.0)[1:] for k in n]).T * 2.0
        covered = poisson.pmf(n, mean)[(low <= mean) & (mean <= high)].sum()
        assert 0.95 <= covered < 0.995
    # Table of E. S. Pearson and H. O. Hartley: 10 counted, 4.80 to 18.39
    np.testing.assert_allclose(poisson_rate(10, 1.0), (10.0, 4.795, 18.39), rtol=1e-3)
    with pytest.raises(ValueError, match="nothing was at risk"):
        poisson_rate(3, 0.0)


def test_the_fluence_stands_still_between_exposures() -> None:
    fluence = Fluence(2.0, 1.0, np.array([10.0, 30.0]))
    times = [0.0, 0.5, 1.0, 1.7, 2.0, 2.5, 3.0, 9.0]
    np.testing.assert_allclose(fluence.by(times), [0, 5, 10, 10, 10, 25, 40, 40])


def test_a_missing_atom_is_added_where_its_neighbours_point() -> None:
    """The site of an atom that was taken out comes back, to rounding."""
    inner = ((SHEET > 0.2) & (SHEET < 3.6)).all(axis=1)
    gap = SHEET[inner & (np.arange(len(SHEET)) != A)]
    back = completed(gap)[len(gap) :]
    apart = np.hypot(*(back - SHEET[A]).T)
    assert apart.min() < 1e-9
    # what else is added lies on the lattice too
    assert cKDTree(SHEET).query(back)[0].max() < 1e-9


def lives(
    sheet: FloatArray, pristine: float, edge: float, rng: np.random.Generator
) -> tuple[FloatArray, list[npt.NDArray[np.int64]]]:
    """Return at which fluence each atom leaves, with two rates: all neighbours there, or not."""
    near = neighbours_of(sheet)
    lost = np.full(len(sheet), np.inf)
    rate = np.full(len(sheet), pristine)
    now = 0.0
    while now < 1.0:
        now += rng.exponential(1 / rate.sum())
        atom = int(rng.choice(len(sheet), p=rate / rate.sum()))
        if now >= 1.0:
            break
        lost[atom], rate[atom] = now, 0.0
        for other in near[atom]:
            rate[other] = edge if rate[other] > 0 else 0.0
    return lost, near


def test_the_cross_section_is_that_of_the_pristine_sheet_whatever_vacancies_do() -> None:
    """Edges leave 30 times as fast; the estimate is unbiased, losses over atoms are not.

    40 sheets of about 650 atoms, of which 3 % leave from the pristine sheet: n is known to
    1 / sqrt(40 x 20) = 3.5 %.
    """
    rng = np.random.default_rng(1)
    sheet = honeycomb(4.0, 0.0)
    fluence = Fluence(1.0, 1.0, np.array([1.0]))
    lost, exposed, naive = 0, 0.0, []
    for _ in range(40):
        times, near = lives(sheet, 0.03, 0.9, rng)
        risk = at_risk(near, times, np.ones(len(sheet), bool), fluence, (0.0, 1.0))
        lost, exposed = lost + risk.lost, exposed + risk.exposure_e_per_A2
        naive.append(np.isfinite(times).mean())
    assert lost / exposed == pytest.approx(0.03, rel=3 / np.sqrt(lost))
    assert np.mean(naive) > 1.5 * 0.03


def test_the_analysis_finds_the_losses_and_counts_those_of_the_pristine_sheet() -> None:
    """Three atoms in a movie of 500: all found in time; sigma = 2 / exposure of atoms in view."""
    data = observed()
    found = measure(movie(), data.settings)
    scores = TASK.grade(found, data)
    assert (scores["recall"].value, scores["precision"].value) == (1, 1)
    assert scores["time_error"].value < 0.3
    np.testing.assert_array_equal(found["neighbours"], [3, 3, 2])
    inside = ((SHEET > 0.2) & (SHEET < 3.78)).all(axis=1).sum()
    whole = 2 / (inside * FRAMES * DOSE_E_PER_A2) * 1e8
    # exposure is less by half a frame at either end and by atoms whose neighbours aren't followed
    assert found["cross_section_barn"][0] == pytest.approx(1.15 * whole, rel=0.15)
    assert found["low_barn"][0] < found["cross_section_barn"][0] < found["high_barn"][0]


def test_the_analysis_refuses_what_it_cannot_use() -> None:
    settings = observed().settings
    with pytest.raises(ValueError, match="pixel_size_nm"):
        measure(movie(), {**settings, "pixel_size_nm": None})
    with pytest.raises(ValueError, match="two frames"):
        measure(movie()[0], settings)


def test_figures_are_drawn() -> None:
    data, given = observed(), answer(TRUE_BARN)
    plates = TASK.figures(data, given, TASK.grade(given, data))
    assert [plate.title for plate in plates] == [
        "Before and after", "Atoms that were lost", "Survivors", "Cross section",
    ]  # fmt: skip
    for plate in plates:
        FigureCanvasAgg(plate.figure).draw()
        assert plate.caption.endswith(".")

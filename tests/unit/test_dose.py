"""The ledger of dose and time: sums, gaps, budgets, and the fluence at any time."""

import pickle

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nanophantom.simcore.atoms import Window
from nanophantom.simcore.dose import DoseBudget, Ledger
from nanophantom.simcore.schedule import Exposures

AREA = Window(-1.0, 3.0, -2.0, 3.0)  # 4 nm by 5 nm

MOVIE = Exposures(
    n_frames=3, dose_e_per_A2=10.0, exposure_s=0.5, dead_time_s=0.25, before_e_per_A2=4.0
)


def ledger(**knobs: object) -> Ledger:
    return MOVIE.model_validate({**MOVIE.model_dump(), **knobs}).ledger(200.0, AREA)


def test_doses_add_up_and_the_beam_is_blanked_between_the_frames() -> None:
    planned = ledger()
    np.testing.assert_allclose(planned.start_s, [0.0, 0.75, 1.5])
    np.testing.assert_allclose(planned.end_s, [0.5, 1.25, 2.0])
    np.testing.assert_allclose(planned.rate_e_per_A2_s, 20.0)
    np.testing.assert_allclose(planned.cumulative_e_per_A2, [14.0, 24.0, 34.0])
    assert planned.first_electron_s == pytest.approx(-0.2)  # 4 e/A^2 at 20 e/A^2/s


@pytest.mark.parametrize(
    ("t_s", "fluence"),
    [
        (-9.0, 0.0), (-0.2, 0.0), (-0.1, 2.0), (0.0, 4.0),  # before the first frame
        (0.25, 9.0), (0.5, 14.0),  # during it
        (0.6, 14.0), (0.75, 14.0),  # in the gap
        (0.8, 15.0), (1.75, 29.0), (2.0, 34.0), (99.0, 34.0),
    ],
)  # fmt: skip
def test_the_fluence_at_any_time(t_s: float, fluence: float) -> None:
    assert ledger().fluence_by(t_s) == pytest.approx(fluence, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(
    doses=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=8),
    exposure_s=st.floats(1e-3, 10.0),
    dead_time_s=st.sampled_from([0.0, 1e-6, 0.3]),
    before=st.sampled_from([0.0, 1e-6, 50.0]),
    share=st.floats(-0.5, 1.5),
)
def test_the_fluence_is_the_integral_of_the_rate(
    doses: list[float], exposure_s: float, dead_time_s: float, before: float, share: float
) -> None:
    """Against a sum over the exposures written out, at times in, between and around them."""
    planned = Exposures(
        doses_e_per_A2=tuple(doses), exposure_s=exposure_s, dead_time_s=dead_time_s,
        before_e_per_A2=before,
    ).ledger(80.0, AREA)  # fmt: skip
    t = share * float(planned.end_s[-1])
    got = np.clip((t - planned.start_s) / exposure_s, 0.0, 1.0) @ np.array(doses)
    first_rate = doses[0] / exposure_s
    earlier = np.clip(before + first_rate * min(t, 0.0), 0.0, before)
    expected = pytest.approx(got + earlier, rel=1e-9, abs=1e-9 * (before + sum(doses)))
    assert planned.fluence_by(t) == expected
    assert not np.isnan(planned.fluence_by(np.concatenate([planned.start_s, planned.end_s]))).any()


@pytest.mark.parametrize(("total", "frames"), [(34.0, 3), (33.9, 2), (24.0, 2), (14.0, 1)])
def test_a_total_budget_ends_before_the_frame_that_breaks_it_and_may_be_reached(
    total: float, frames: int
) -> None:
    planned = ledger(budget={"total_e_per_A2": total})
    assert len(planned) == frames
    assert planned.cumulative_e_per_A2[-1] <= total
    assert planned.before_e_per_A2 == 4.0
    if frames < 3:
        told = f"ended the acquisition after {frames} exposures"
        assert told in planned.stopped
        assert f"exposure {frames} " in planned.stopped
        assert "budget.total_e_per_A2" in planned.stopped
    else:
        assert planned.stopped == ""


def test_many_equal_doses_reach_a_budget_exactly_in_spite_of_rounding() -> None:
    """0.1 summed a thousand times exceeds 100 by rounding alone."""
    exposures = Exposures(n_frames=1500, dose_e_per_A2=0.1, budget=DoseBudget(total_e_per_A2=100.0))
    assert len(exposures.ledger(80.0, AREA)) == 1000


def test_a_budget_of_rate_ends_before_the_first_exposure_that_is_too_bright() -> None:
    knobs = {"doses_e_per_A2": [5.0, 10.0, 20.0, 5.0], "exposure_s": 0.5}
    slow = Exposures.model_validate({**knobs, "budget": {"rate_e_per_A2_s": 20.0}})
    planned = slow.ledger(200.0, AREA)
    assert len(planned) == 2  # 20 e/A^2/s is allowed, 40 isn't, and nothing after it
    assert "budget.rate_e_per_A2_s (20)" in planned.stopped
    assert "40 e/Å²/s" in planned.stopped


def test_where_both_budgets_are_broken_the_earlier_one_counts() -> None:
    both = {"total_e_per_A2": 40.0, "rate_e_per_A2_s": 30.0}
    doses = Exposures.model_validate(
        {"doses_e_per_A2": [5.0, 20.0, 5.0, 50.0], "exposure_s": 0.5, "budget": both}
    )
    planned = doses.ledger(200.0, AREA)
    assert len(planned) == 1
    assert "rate_e_per_A2_s" in planned.stopped


@pytest.mark.parametrize(
    ("budget", "field"),
    [({"total_e_per_A2": 13.9}, "total_e_per_A2"), ({"rate_e_per_A2_s": 19.0}, "rate_e_per_A2_s")],
)
def test_a_budget_that_allows_no_frame_is_refused_in_one_line(
    budget: dict[str, float], field: str
) -> None:
    with pytest.raises(ValueError, match=rf"budget\.{field}") as refused:
        ledger(budget=budget)
    line = str(refused.value)
    assert "\n" not in line
    assert "nothing to record" in line
    assert "raise the budget" in line


@pytest.mark.parametrize("budget", [{"total_e_per_A2": 0.0}, {"rate_e_per_A2_s": -1.0}])
def test_budgets_are_positive(budget: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        DoseBudget.model_validate(budget)


def test_a_dose_for_every_frame_sets_number_and_mean() -> None:
    varied = Exposures(doses_e_per_A2=(1.0, 2.0, 6.0))
    assert varied.n_frames == 3
    assert varied.dose_e_per_A2 == 3.0
    assert varied.frame_doses_e_per_A2 == (1.0, 2.0, 6.0)
    np.testing.assert_allclose(varied.ledger(80.0, AREA).cumulative_e_per_A2, [1.0, 3.0, 9.0])


@pytest.mark.parametrize(
    ("knobs", "complaint"),
    [
        ({"doses_e_per_A2": [1.0, 2.0], "n_frames": 3}, "has 2 doses for n_frames = 3"),
        ({"doses_e_per_A2": [1.0, 2.0], "dose_e_per_A2": 1.0}, "not both"),
        ({"doses_e_per_A2": []}, "at least 1"),
        ({"doses_e_per_A2": [1.0, 0.0]}, "greater than 0"),
        ({"before_e_per_A2": -1.0}, "greater than or equal to 0"),
        ({"dead_time_s": -0.1}, "greater than or equal to 0"),
    ],
)
def test_exposures_that_make_no_sense_are_refused(knobs: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        Exposures.model_validate(knobs)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=7))
def test_exposures_survive_yaml_and_pickle(doses: list[float]) -> None:
    """The mean dose, which is derived, comes back exactly and isn't taken for a contradiction."""
    given_doses = Exposures(
        doses_e_per_A2=tuple(doses), budget=DoseBudget(total_e_per_A2=500.0), before_e_per_A2=3.0
    )
    for knobs in ({}, {"exclude_defaults": True}):
        text = yaml.safe_dump(given_doses.model_dump(mode="json", **knobs))
        again = Exposures.model_validate(yaml.safe_load(text))
        assert again == given_doses
        assert again.n_frames == len(doses)
    same = pickle.loads(pickle.dumps(given_doses))
    assert same == given_doses
    assert same.frame_doses_e_per_A2 == tuple(doses)


def test_quantities_are_read_with_units() -> None:
    read = Exposures.model_validate({"exposure_s": "250 ms", "dead_time_s": "1 min"})
    assert read.exposure_s == 0.25
    assert read.dead_time_s == 60.0


def test_the_table_has_a_row_for_every_exposure_and_counts_the_electrons() -> None:
    table = ledger().table()
    assert set(table) == {
        "frame", "start_s", "length_s", "dose_e_per_A2", "rate_e_per_A2_s", "cumulative_e_per_A2",
        "energy_kev", "area_nm2", "electrons", "x0_nm", "x1_nm", "y0_nm", "y1_nm",
    }  # fmt: skip
    assert all(len(column) == 3 for column in table.values())
    np.testing.assert_allclose(table["area_nm2"], 20.0)
    np.testing.assert_allclose(table["electrons"], 10.0 * 20.0 * 100.0)  # 100 A^2 in a nm^2
    np.testing.assert_array_equal(table["energy_kev"], 200.0)
    np.testing.assert_array_equal(table["x1_nm"], 3.0)


def test_a_ledger_is_write_protected() -> None:
    planned = ledger()
    with pytest.raises(ValueError, match="read-only"):
        planned.start_s[0] = 1.0

"""Fluorophores in recipes: presets, what a recipe changes, refusals; and what play refuses."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from nanophantom.simcore import units
from nanophantom.simcore.light import dye_presets
from nanophantom.simcore.light.burst_laws import BurstLaws, predicted_bursts, predicted_off_time
from nanophantom.simcore.light.bursts import Bursts, Exposures, Light, exposed, play
from nanophantom.simcore.light.fluorophores import (
    REFERENCE_COLLECTION,
    Fluorophore,
    State,
    Transition,
)
from nanophantom.simcore.light.markov import Chain


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def read(**said: Any) -> Fluorophore:
    return Fluorophore.model_validate(said)


# ---- presets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", dye_presets.NAMES)
def test_a_preset_survives_round_trips_and_names_its_sources(name: str) -> None:
    dye = read(preset=name)
    assert Fluorophore.model_validate(dye.model_dump()) == dye
    assert Fluorophore.model_validate_json(dye.model_dump_json()) == dye
    assert read(**yaml.safe_load(yaml.safe_dump(dye.model_dump(mode="json")))) == dye
    assert pickle.loads(pickle.dumps(dye)) == dye
    entry = dye_presets.read()[name]
    assert entry["title"]
    told = dye_presets.sources(name)
    assert told["photons_per_s_per_kw_per_cm2"].startswith(f"{dye.photons_per_s_per_kw_per_cm2}")
    for t in dye.transitions:
        for rate, value in t.model_dump(exclude_unset=True).items():
            if rate not in ("source", "to"):
                assert told[f"{t.source} -> {t.to}: {rate}"].startswith(f"{value} (")
    assert all(len(text) > 4 for text in told.values())


def test_names_and_file_of_presets_agree() -> None:
    assert set(dye_presets.NAMES) == set(dye_presets.read())


@pytest.mark.parametrize("name", dye_presets.NAMES)
def test_the_budget_of_photons_is_that_of_the_chain(name: str) -> None:
    """Where a preset's budget is derived, the chain gives it, at any light."""
    dye = read(preset=name)
    if name in ("palm", "palm-two-dark", "bleaching"):
        assert dye.photon_budget is not None
        start = "bright"
        for light in (0.1, 5.0):
            mean, _ = dye.chain(light, 0.01).starting(start).total_photons()
            assert mean == pytest.approx(dye.photon_budget, rel=0.01)
    if name == "constant":
        assert dye.photon_budget is None
        assert dye.chain(1.0).total_photons()[0] == np.inf
        assert dye.chain(2.0).total_photons(3.0) == pytest.approx((6e5, 6e5))


def test_without_a_preset_it_is_a_bead() -> None:
    assert Fluorophore().kinetics().names == ("bright",)
    assert read(preset="constant").chain(1.0).photons_per_s == pytest.approx([1e5])


@pytest.mark.parametrize("model", [Fluorophore, State, Transition])
def test_every_knob_says_what_it_is_and_names_its_unit(model: Any) -> None:
    for name, field in model.model_fields.items():
        assert field.description, name
        if "float" in str(field.annotation):
            extra = field.json_schema_extra or {}
            assert units.suffix_of(name) or extra.get("dimensionless"), name


def test_photons_hold_for_the_reference_objective() -> None:
    # optical reference table, row 10: NA 1.4 in n 1.518
    assert pytest.approx(0.3067, abs=5e-5) == REFERENCE_COLLECTION


# ---- what a recipe changes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"source": "dark", "to": "bright", "rate_per_s": 5.0},
        {"source": "dark", "to": "bright", "rate_per_s": "0.005 1/ms"},
        Transition(source="dark", to="bright", rate_per_s=5.0),
    ],
)
def test_one_rate_of_a_preset_can_be_changed(change: Any) -> None:
    dye, preset = read(preset="palm", transitions=[change]), read(preset="palm")
    assert len(dye.transitions) == len(preset.transitions)
    assert BurstLaws.of(dye.chain(1.0)).mean_off_s == pytest.approx(0.2)
    same = [t for t in dye.transitions if (t.source, t.to) != ("dark", "bright")]
    assert same == [t for t in preset.transitions if (t.source, t.to) != ("dark", "bright")]


def test_only_the_field_given_is_changed() -> None:
    change = {"source": "dark", "to": "bright", "activation_per_s_per_kw_per_cm2": 7.0}
    dye = read(preset="dstorm", transitions=[change])
    (back,) = [t for t in dye.transitions if t.source == "dark"]
    assert back.excitation_per_s_per_kw_per_cm2 == pytest.approx(0.022245)
    assert back.activation_per_s_per_kw_per_cm2 == 7.0


def test_states_can_be_added_and_made_to_shine() -> None:
    dye = read(
        preset="palm",
        states=[{"name": "inactive", "brightness": 0.1}, {"name": "triplet"}],
        transitions=[
            {"source": "bright", "to": "triplet", "excitation_per_s_per_kw_per_cm2": 50.0},
            {"source": "triplet", "to": "bright", "rate_per_s": 1000.0},
        ],
    )
    chain = dye.chain(2.0, 0.1)
    assert chain.names == ("inactive", "bright", "dark", "bleached", "triplet")
    assert chain.photons_per_s == pytest.approx([6400.0, 64000.0, 0.0, 0.0, 0.0])
    assert chain.Q[1, 4] == pytest.approx(100.0)
    assert chain.is_bright.tolist() == [True, True, False, False, False]


def test_concentration_and_light_set_the_rates() -> None:
    site = read(preset="dna-paint", concentration_nM="0.002 µM")
    assert site.chain(0.0).Q[0, 1] == pytest.approx(2e-3)
    assert site.chain(3.0).Q[1, 2] == pytest.approx(3 * 0.4667)
    assert site.free_imagers_per_um3 == pytest.approx(2 * 0.6022, rel=1e-4)
    assert site.photons_per_s(0.5) == pytest.approx(7e4)


# ---- refusals ------------------------------------------------------------------------------------

ON_OFF = [{"name": "on", "brightness": 1}, {"name": "off"}]
BOTH_WAYS = [
    {"source": "on", "to": "off", "rate_per_s": 1},
    {"source": "off", "to": "on", "rate_per_s": 1},
]


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"preset": "dstrom"}, "there is no 'dstrom'; did you mean 'dstorm'"),
        (
            {"preset": "palm", "transitions": [{"source": "bright", "to": "bleeched"}]},
            r"transitions\[4\].to: there is no state 'bleeched'; did you mean 'bleached'",
        ),
        (
            {"preset": "palm", "start": "drak"},
            "start: there is no state 'drak'; did you mean 'dark'",
        ),
        ({"preset": "palm", "transitions": [{"source": "dark", "to": "dark"}]}, "to itself"),
        (
            {
                "preset": "palm",
                "transitions": [{"source": "dark", "to": "bright", "rate_per_s": -1}],
            },
            "greater than or equal to 0",
        ),
        (
            {
                "preset": "palm",
                "transitions": [{"source": "dark", "to": "bright", "rate_per_s": 0}],
            },
            r"states\[2\]: no transition leads out of 'dark'; add one, or say final",
        ),
        (
            {"preset": "palm", "states": [{"name": "bright", "final": True}]},
            "leads out of 'bright'",
        ),
        ({"preset": "palm", "states": [{"name": "bright", "brightness": 0}]}, "none shines"),
        ({"states": [*ON_OFF, {"name": "on"}], "transitions": BOTH_WAYS}, "already a state 'on'"),
        ({"states": ON_OFF, "transitions": [*BOTH_WAYS, BOTH_WAYS[0]]}, "already there"),
        ({"states": [{"name": "stationary", "brightness": 1}]}, "a meaning of its own"),
        ({"states": ON_OFF}, r"states\[0\]: no transition leads out of 'on'"),
        ({"preset": "palm", "transitions": "fast"}, "transitions"),
        ({"preset": "palm", "transitions": [3]}, "transitions"),
        ({"preset": "palm", "half_life_s": 3}, "Extra inputs"),
        ({"preset": "palm", "loss_per_burst": 1.5}, "less than or equal to 1"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(said: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        read(**said)


def test_a_balance_that_is_not_single_is_refused() -> None:
    states = [*ON_OFF, {"name": "other", "brightness": 1}, {"name": "rest"}, {"name": "first"}]
    ways = [
        *BOTH_WAYS,
        {"source": "other", "to": "rest", "rate_per_s": 1},
        {"source": "rest", "to": "other", "rate_per_s": 1},
        {"source": "first", "to": "on", "rate_per_s": 1},
        {"source": "first", "to": "other", "rate_per_s": 1},
    ]
    with pytest.raises(ValidationError, match="start: no single stationary state"):
        read(states=states, transitions=ways, start="stationary")
    assert read(states=states, transitions=ways, start="first").chain(1.0).at(50.0) == (
        pytest.approx([0.25, 0.25, 0.25, 0.25, 0.0])
    )


@pytest.mark.parametrize(
    ("Q", "photons", "start", "says"),
    [
        ([[-1.0, 2.0], [0.0, 0.0]], [1.0, 0.0], [1.0, 0.0], "sums to zero"),
        ([[1.0, -1.0], [0.0, 0.0]], [1.0, 0.0], [1.0, 0.0], "negative rate from 'a' to 'b'"),
        ([[-1.0, 1.0], [0.0, 0.0]], [-1.0, 0.0], [1.0, 0.0], "photons_per_s"),
        ([[-1.0, 1.0], [0.0, 0.0]], [1.0, 0.0], [1.0, 1.0], "start"),
        ([[0.0]], [1.0], [1.0], "matrix"),
    ],
)
def test_a_chain_checks_its_numbers(Q: Any, photons: Any, start: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Chain(np.array(Q), np.array(photons), np.array(start), ("a", "b"))


def test_laws_of_bursts_refuse_what_has_none() -> None:
    with pytest.raises(ValueError, match="burst has no end"):
        BurstLaws.of(Fluorophore().chain(1.0))
    with pytest.raises(ValueError, match="no burst ever begins"):
        BurstLaws.of(read(preset="dna-paint", concentration_nM=0.0).chain(1.0))
    with pytest.raises(ValueError, match="no dark interval"):
        predicted_off_time(read(preset="bleaching").chain(1.0), 1.0)
    one = predicted_bursts(Fluorophore().chain(1.0), 2, 5.0)
    assert one == pytest.approx([0.0, 1.0, 0.0], abs=1e-9)
    with pytest.raises(ValueError, match="there is no state 'off'; there are bright"):
        Fluorophore().chain(1.0).starting("off")
    with pytest.raises(ValueError, match=">= 0"):
        Fluorophore().chain(-1.0)


# ---- play and frames -----------------------------------------------------------------------------


def test_beads_shine_as_long_as_there_is_light() -> None:
    """One row for each step of excitation; the dark step has none; one burst in all."""
    light = Light(np.array([0.0, 1.0, 2.0, 3.0, 4.0]), np.array([1.0, 0.0, 2.0, 2.0]), np.zeros(4))
    bursts = play(Fluorophore().kinetics(), light, 2, rng(), brightness=[1.0, 0.5])
    assert bursts.dye.tolist() == [0, 1, 0, 1]
    assert bursts.start_s.tolist() == [0.0, 0.0, 2.0, 2.0]
    assert bursts.duration_s.tolist() == [1.0, 1.0, 2.0, 2.0]
    assert bursts.photons_per_s.tolist() == [1e5, 5e4, 2e5, 1e5]
    assert (bursts.blink == 0).all()
    assert np.isinf(bursts.bleach_s).all()
    table = bursts.blinks()
    assert table["photons"] == pytest.approx([5e5, 2.5e5])
    assert table["cut"].all()
    assert set(bursts.table()) == {"dye", "blink", "start_s", "duration_s", "photons_per_s"}
    rows, photons = Exposures(bursts, [0.25, 2.25], 0.5).of(1)
    assert rows.tolist() == [2, 3]
    assert photons == pytest.approx([1e5, 5e4])


def test_no_dyes_and_no_bursts_are_fine() -> None:
    empty = play(Fluorophore().kinetics(), Light.steady(1.0), 0, rng())
    dark = play(Fluorophore().kinetics(), Light.steady(1.0, 0.0), 3, rng())
    for bursts in (empty, dark):
        assert len(bursts) == len(bursts.blinks()["dye"]) == 0
        assert len(Exposures(bursts, np.arange(3.0), 1.0).of(2)[0]) == 0
        assert exposed(bursts, np.arange(3.0), 1.0)[0].tolist() == [0, 0, 0, 0]


def some() -> Bursts:
    return play(Fluorophore().kinetics(), Light.steady(1.0), 1, rng())


@pytest.mark.parametrize(
    ("starts", "exposure_s", "says"),
    [
        ([0.0, 1.0, 3.0], 0.5, "evenly spaced"),
        ([0.0, 1.0, 2.0], 1.5, "doesn't fit"),
        ([2.0, 1.0], 0.5, "evenly spaced"),
        ([], 0.5, "one or more"),
        ([0.0], 0.0, "above 0"),
    ],
)
def test_frames_that_cannot_be_are_refused(
    starts: list[float], exposure_s: float, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        Exposures(some(), starts, exposure_s)


def test_wrong_light_and_wrong_dyes_are_refused() -> None:
    with pytest.raises(ValueError, match="times that rise"):
        Light(np.array([0.0, 0.0]), np.ones(1), np.ones(1))
    with pytest.raises(ValueError, match="one value for each of 1"):
        Light(np.array([0.0, 1.0]), np.ones(2), np.ones(1))
    with pytest.raises(ValueError, match=">= 0"):
        Light.steady(1.0, -1.0)
    with pytest.raises(ValueError, match="excitation: one finite factor"):
        play(Fluorophore().kinetics(), Light.steady(1.0), 3, rng(), excitation=[1.0])
    with pytest.raises(ValueError, match="dyes: how many"):
        play(Fluorophore().kinetics(), Light.steady(1.0), np.array([0.5]), rng())
    with pytest.raises(ValueError, match="no frame 1"):
        Exposures(some(), [0.0], 0.5).of(1)

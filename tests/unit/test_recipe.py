"""Recipes: changes from the shell, distributions by address, and refusals a person can use."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from nanophantom.scenarios import recipe, schemas
from nanophantom.scenarios.recipe import RecipeError
from nanophantom.simcore.runs import Run

SMALL: dict[str, Any] = {
    "name": "small",
    "seed": 5,
    "sample": {"kind": "crystal", "file": "srtio3.cif", "thickness_nm": 1.0},
    "instrument": {"kind": "tem", "exposures": {"n_frames": 2}},
}


def refused(data: dict[str, Any], *changes: str) -> str:
    with pytest.raises(RecipeError) as caught:
        recipe.resolve(recipe.change(data, changes))
    return str(caught.value)


def test_every_scenario_of_the_catalogue_resolves_and_names_real_barriers() -> None:
    assert "gold-on-ceria" in recipe.catalogue()
    for name in recipe.catalogue():
        scenario = recipe.resolve(recipe.load(name))
        assert scenario.name == name
        assert scenario.title
        assert scenario.barriers


def test_a_resolved_recipe_reads_back_as_itself() -> None:
    scenario = recipe.resolve(recipe.load("gold-on-ceria"))
    again = recipe.resolve(yaml.safe_load(recipe.to_yaml(scenario)))
    assert again == scenario


@pytest.mark.parametrize("text", ["-8", '"-80 Å"', "-80 A", "-0.008 um"])
def test_set_changes_one_field_in_any_unit(text: str) -> None:
    changed = recipe.change(SMALL, (f"instrument.optics.defocus_nm={text}",))
    scenario = recipe.resolve(changed)
    assert scenario.instrument.optics.defocus_nm == pytest.approx(-8.0)
    assert "optics" not in SMALL["instrument"]  # the recipe itself is left alone


WRONG = [
    (
        "instrument.optics.defocuss_nm=1",
        ["instrument.optics.defocuss_nm", "did you mean 'defocus_nm'"],
    ),
    ("instrument.kind=tme", ["instrument", "'tme'", "tem"]),
    ("sample.kind=cristal", ["sample", "did you mean 'crystal'"]),
    ("instrument.optics.defocus_nm=5 kg", ["defocus_nm", "wrong kind of unit", "nm"]),
    ("instrument.optics.defocus_nm=often", ["defocus_nm", "not a number"]),
    (
        "instrument.energy_kev=-300",
        ["instrument.energy_kev", "greater than or equal to 10", "-300"],
    ),
    ("instrument.exposures.n_frames=2.5", ["n_frames", "2.5"]),
    ("instrument.exposures.dose_e_per_A2=0", ["dose_e_per_A2", "greater than 0"]),
    ("instrument.camera.sensor.efficiency=1.2", ["efficiency", "less than or equal to 1"]),
    ("instrument.optics.aperture_mrad=nan", ["aperture_mrad", "finite"]),
    ("instrument.multislice.band_limit_mrad=10", ["band_limit_mrad", "aperture"]),
    ("seed=-1", ["seed", "≥ 0"]),
    ("sample.thickness_nm={uniform: [3, 1]}", ["sample.thickness_nm", "low ≤ high"]),
    ("sample.thickness_nm={uniform: [3]}", ["sample.thickness_nm", "two numbers"]),
    ("sample.thickness_nm={uniform: [-3, 1]}", ["sample.thickness_nm", "greater than 0"]),
    ("sample.thickness_nm={unifrom: [3, 4]}", ["thickness_nm", "did you mean 'uniform'"]),
    ("instrument=5", ["instrument", "mapping with a 'kind'"]),
    ("instrument={}", ["instrument", "no 'kind'"]),
    ("nonsense=1", ["nonsense", "unknown key"]),
    ("barriers=[0]", ["barriers.0", "greater than or equal to 1"]),
    ("name=../up", ["name", "letters"]),
    ("instrument.optics.defocus_nm=true", ["defocus_nm", "must not be true"]),
    ("instrument.exposures.n_frames=yes", ["n_frames", "must not be true"]),
    ("tasks=atomic-columns", ["tasks", "list"]),
    ("sample.zone_axis=[1, 1]", ["sample.zone_axis", "too few"]),
    ("sample.zone_axis='[110]'", ["sample.zone_axis", "list"]),
    ("instrument.optics=sharp", ["instrument.optics", "mapping of fields"]),
    ("instrument.energy_kev={choice: [200, 5, 300]}", ["energy_kev", "greater than or equal"]),
    ("instrument.exposures.dose_e_per_A2=1e9", ["dose_e_per_A2", "overflow"]),
]


@pytest.mark.parametrize(("change", "says"), WRONG, ids=[w[0] for w in WRONG])
def test_a_wrong_recipe_is_refused_with_field_and_reason(change: str, says: list[str]) -> None:
    message = refused(SMALL, change)
    assert len(message.splitlines()) == 1
    for part in says:
        assert part in message


def test_all_problems_are_told_at_once() -> None:
    message = refused(
        SMALL,
        "instrument.energy_kev=1",
        "instrument.optics.focal_spread_nm=-2",
        "sample.thickness_nm=oops",
        "titel=x",
    )
    assert len(message.splitlines()) == 4


@pytest.mark.parametrize("change", ["instrument", "=3", "seed.deep=3"])
def test_a_malformed_set_is_refused(change: str) -> None:
    with pytest.raises(RecipeError, match="--set"):
        recipe.change(SMALL, (change,))


def test_a_missing_or_broken_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean 'gold-on-ceria'"):
        recipe.load("gold-on-cerria")
    broken = tmp_path / "broken.yaml"
    broken.write_text("sample: [")
    with pytest.raises(RecipeError, match="not readable as YAML"):
        recipe.load(broken)
    broken.write_text("- 1")
    with pytest.raises(RecipeError, match="mapping"):
        recipe.load(broken)


def with_distribution(**distribution: Any) -> dict[str, Any]:
    data = copy.deepcopy(SMALL)
    data["sample"]["thickness_nm"] = distribution
    return data


def test_items_draw_different_values_inside_the_bounds_and_the_same_again() -> None:
    data = with_distribution(uniform=["20 Å", 4.0])
    values = [recipe.resolve(data, item=k).sample.thickness_nm for k in range(50)]
    assert 2.0 <= min(values) < 2.2
    assert 3.8 < max(values) <= 4.0
    assert values == [recipe.resolve(data, item=k).sample.thickness_nm for k in range(50)]


def test_another_distribution_does_not_change_what_this_one_draws() -> None:
    alone = with_distribution(uniform=[2.0, 4.0])
    both = copy.deepcopy(alone)
    both["instrument"]["energy_kev"] = {"choice": [80, 200, 300]}
    first, second = recipe.resolve(alone, item=3), recipe.resolve(both, item=3)
    assert first.sample.thickness_nm == second.sample.thickness_nm
    assert second.instrument.energy_kev in (80, 200, 300)


@pytest.mark.parametrize(
    ("distribution", "mean", "deviation"),
    [
        ({"uniform": [2.0, 4.0]}, 3.0, 2 / np.sqrt(12)),
        ({"normal": [3.0, 0.1]}, 3.0, 0.1),
        ({"loguniform": [1.0, np.e]}, np.e - 1, np.sqrt((np.e**2 - 1) / 2 - (np.e - 1) ** 2)),
    ],
)
def test_draws_have_the_moments_of_their_distribution(
    distribution: dict[str, Any], mean: float, deviation: float
) -> None:
    data = {"a_nm": distribution}
    draws = [recipe.draw(data, Run(1).at("item", k))["a_nm"] for k in range(4000)]
    assert np.mean(draws) == pytest.approx(mean, abs=4 * deviation / np.sqrt(4000))
    assert np.std(draws) == pytest.approx(deviation, rel=0.06)


def test_a_recipe_names_its_structure_file_relative_to_itself(tmp_path: Path) -> None:
    (tmp_path / "mine.cif").write_text("data_x\n")
    (tmp_path / "my.yaml").write_text("sample: {kind: crystal, file: mine.cif}\n")
    assert recipe.load(tmp_path / "my.yaml")["sample"]["file"] == str(tmp_path / "mine.cif")


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("seed: 1\nsample: {kind: crystal}\nsample: {kind: structure}\n")
    with pytest.raises(RecipeError, match="'sample' stands twice"):
        recipe.load(path)


def test_a_file_among_choices_is_relative_to_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "a.cif").write_text("data_a\n")
    (tmp_path / "my.yaml").write_text("sample: {kind: crystal, file: {choice: [a.cif]}}\n")
    choice = recipe.load(tmp_path / "my.yaml")["sample"]["file"]["choice"]
    assert choice == [str(tmp_path / "a.cif")]


def test_a_name_is_made_of_any_file_name(tmp_path: Path) -> None:
    (tmp_path / "my  recipe (2).yaml").write_text("seed: 1\n")
    assert recipe.load(tmp_path / "my  recipe (2).yaml")["name"] == "my-recipe-2"


def test_an_items_own_recipe_is_that_item_and_a_corpus_counts_from_0() -> None:
    data = {**with_distribution(uniform=[2.0, 4.0]), "item": 3}
    assert recipe.resolve(data).item == 3
    assert [recipe.resolve(data, item=k).item for k in range(3)] == [0, 1, 2]
    third = recipe.resolve(with_distribution(uniform=[2.0, 4.0]), item=3)
    assert recipe.resolve(data).sample.thickness_nm == third.sample.thickness_nm


def test_the_schema_knows_kinds_knobs_units_and_distributions() -> None:
    schema = schemas.scenario()
    tem = schema["$defs"]["instrument-tem"]["properties"]
    assert {"optics", "camera", "drift"} <= set(tem)
    options = tem["energy_kev"]["anyOf"]
    assert [o["type"] for o in options] == ["number", "string", "object"]
    assert schemas.of_kind("crystal")["properties"]["kind"]["const"] == "crystal"
    with pytest.raises(ValueError, match="did you mean 'crystal'"):
        schemas.of_kind("crystl")

"""Electron-optical columns by name: numbers that stand under what a recipe says."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

import yaml

from nanophantom.simcore.models import Model

PresetName = Literal["uncorrected-200kv", "corrected-300kv", "corrected-80kv", "cryo-300kv"]
NAMES: tuple[str, ...] = get_args(PresetName)

CHROMATIC = (
    "cc_mm",
    "energy_spread_fwhm_ev",
    "voltage_instability_ppm",
    "current_instability_ppm",
)
"""What a preset says of the focal spread; a recipe that states the spread itself drops them."""


@cache
def read() -> dict[str, Any]:
    """Return the file of presets: every number as {"value": ..., "source": ...}."""
    text = (files("nanophantom.instruments") / "data" / "presets.yaml").read_text("utf-8")
    presets: dict[str, Any] = yaml.safe_load(text)
    return presets


def knobs(name: str, part: str) -> dict[str, Any]:
    """Return the fields that a preset sets, nested as in a recipe.

    Parameters
    ----------
    name
        Of the preset.
    part : {"imaging", "probe"}
        Which kind of instrument asks.

    Raises
    ------
    ValueError
        There is no such preset, or it doesn't know this kind of instrument.
    """
    if name not in read():
        raise ValueError(f"preset: there is no {name!r}; there are {', '.join(read())}")
    if part not in read()[name]:
        raise ValueError(f"preset: {name!r} has no {part}; use another one")
    values: dict[str, Any] = _leaves(read()[name][part], "value")
    return values


def sources(part: str) -> dict[str, Any]:
    """Return where the numbers of every preset come from, nested as in a recipe."""
    return {name: _leaves(preset[part], None) for name, preset in read().items() if part in preset}


def _leaves(tree: Mapping[str, Any], key: str | None) -> Any:
    """Replace every {"value", "source"} by one of them, or by both in words."""
    if "value" in tree:
        return f"{tree['value']:g} ({tree['source']})" if key is None else tree[key]
    return {name: _leaves(branch, key) for name, branch in tree.items()}


def under(data: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Return what a recipe says of an instrument with its preset's numbers under it.

    What the recipe states wins, at any depth; of a model only what was set counts as stated.
    """
    said = dict(data)
    if said.get("preset") is None:
        return said
    preset = knobs(str(said["preset"]), part)
    lens = "probe" if part == "probe" else "optics"
    optics = _stated(said.get(lens, {}))
    if isinstance(optics, Mapping) and optics.get("focal_spread_nm") is not None:
        preset[lens] = {k: v for k, v in preset[lens].items() if k not in CHROMATIC}
    merged: dict[str, Any] = _merged(preset, said)
    return merged


def _merged(low: Any, high: Any) -> Any:
    high = _stated(high)
    if not (isinstance(low, Mapping) and isinstance(high, Mapping)):
        return high
    return {**low, **{k: _merged(low[k], v) if k in low else v for k, v in high.items()}}


def _stated(value: Any) -> Any:
    return value.model_dump(exclude_unset=True) if isinstance(value, Model) else value

"""Cameras by name: sensors whose numbers stand under what a recipe says."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

import yaml

from nanophantom.simcore.models import Model

PresetName = Literal[
    "ccd-80kv",
    "ccd-200kv",
    "ccd-300kv",
    "falcon-2-200kv",
    "falcon-3-linear-200kv",
    "falcon-3-linear-300kv",
    "team-maps-80kv",
    "team-maps-300kv",
    "falcon-3-counting-300kv",
    "k2-like-300kv",
    "timepix4-100kv",
    "timepix4-200kv",
    "empad-like-200kv",
]
NAMES: tuple[str, ...] = get_args(PresetName)


@cache
def read() -> dict[str, Any]:
    """Return the file of presets: every number as {"value": ..., "source": ...}."""
    text = (files("nanophantom.simcore.cameras") / "data" / "presets.yaml").read_text("utf-8")
    presets: dict[str, Any] = yaml.safe_load(text)
    return presets


def knobs(name: str) -> dict[str, Any]:
    """Return the sensor's fields that a preset sets.

    Raises
    ------
    ValueError
        There is no such preset.
    """
    if name not in read():
        raise ValueError(f"preset: there is no {name!r}; there are {', '.join(read())}")
    return {field: entry["value"] for field, entry in read()[name]["sensor"].items()}


def sources(name: str) -> dict[str, str]:
    """Return where the numbers of a preset come from."""
    knobs(name)
    return {
        field: f"{entry['value']} ({entry['source']})"
        for field, entry in read()[name]["sensor"].items()
    }


def under(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a recipe says of a camera with its preset's numbers under it.

    What the recipe states of the sensor wins; of a model only what was set counts as stated.

    Raises
    ------
    ValueError
        There is no such preset, or the recipe asks for a sensor of another type.
    """
    said = dict(data)
    if said.get("preset") is None:
        return said
    preset, sensor = knobs(str(said["preset"])), said.get("sensor", {})
    if isinstance(sensor, Model):
        sensor = {"type": sensor.type, **sensor.model_dump(exclude_unset=True)}  # type: ignore[attr-defined]
    if not isinstance(sensor, Mapping):
        return said  # which the field refuses
    if sensor.get("type", preset["type"]) != preset["type"]:
        raise ValueError(
            f"sensor.type: {sensor['type']!r} is not the {preset['type']!r} of preset "
            f"{said['preset']!r}; leave one of them away"
        )
    return {**said, "sensor": {**preset, **sensor}}

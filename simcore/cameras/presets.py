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

LightPresetName = Literal[
    "ideal",
    "smlm-challenge-evolve",
    "ixon-897-17mhz",
    "ixon-897-10mhz",
    "ixon-897-5mhz",
    "ixon-897-1mhz",
    "kinetix22",
    "orca-flash4",
]
LIGHT_NAMES: tuple[str, ...] = get_args(LightPresetName)

ELECTRONS, LIGHT = "presets.yaml", "light_presets.yaml"  # the files, one for each kind of camera


@cache
def read(file: str = ELECTRONS) -> dict[str, Any]:
    """Return a file of presets: every number as {"value": ..., "source": ...}."""
    text = (files("nanophantom.simcore.cameras") / "data" / file).read_text("utf-8")
    presets: dict[str, Any] = yaml.safe_load(text)
    return presets


def knobs(name: str, file: str = ELECTRONS, part: str = "sensor") -> dict[str, Any]:
    """Return the fields that a preset sets, of the sensor or of the "camera" around it.

    Raises
    ------
    ValueError
        There is no such preset.
    """
    return {field: entry["value"] for field, entry in _entries(name, file, part).items()}


def sources(name: str, file: str = ELECTRONS) -> dict[str, str]:
    """Return where the numbers of a preset come from."""
    entries = _entries(name, file, "camera") | _entries(name, file, "sensor")
    return {field: f"{entry['value']} ({entry['source']})" for field, entry in entries.items()}


def _entries(name: str, file: str, part: str) -> dict[str, Any]:
    presets = read(file)
    if name not in presets:
        raise ValueError(f"preset: there is no {name!r}; there are {', '.join(presets)}")
    entries: dict[str, Any] = presets[name].get(part, {})
    return entries


def under(data: Mapping[str, Any], file: str = ELECTRONS) -> dict[str, Any]:
    """Return what a recipe says of a camera with its preset's numbers under it.

    What the recipe states wins; of a model only what was set counts as stated.

    Raises
    ------
    ValueError
        There is no such preset, or the recipe asks for a sensor of another type.
    """
    said = dict(data)
    if said.get("preset") is None:
        return said
    name = str(said["preset"])
    preset, sensor = knobs(name, file), said.get("sensor", {})
    if isinstance(sensor, Model):
        sensor = {"type": sensor.type, **sensor.model_dump(exclude_unset=True)}  # type: ignore[attr-defined]
    if not isinstance(sensor, Mapping):
        return said  # which the field refuses
    if sensor.get("type", preset["type"]) != preset["type"]:
        raise ValueError(
            f"sensor.type: {sensor['type']!r} is not the {preset['type']!r} of preset "
            f"{name!r}; leave one of them away"
        )
    return {**knobs(name, file, "camera"), **said, "sensor": {**preset, **sensor}}

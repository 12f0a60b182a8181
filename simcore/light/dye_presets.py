"""Fluorophores by name: states and rates that stand under what a recipe says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

import yaml

from nanophantom.simcore.models import Model, did_you_mean

PresetName = Literal[
    "constant",
    "bleaching",
    "palm",
    "palm-two-dark",
    "dstorm",
    "cy5",
    "atto655",
    "dna-paint",
]
NAMES: tuple[str, ...] = get_args(PresetName)

Key = Callable[[Mapping[str, Any]], Any]


@cache
def read() -> dict[str, Any]:
    """Return the file of presets: every number as {"value": ..., "source": ...}."""
    text = (files("nanophantom.simcore.light") / "data" / "dyes.yaml").read_text("utf-8")
    presets: dict[str, Any] = yaml.safe_load(text)
    return presets


def knobs(name: str) -> dict[str, Any]:
    """Return the fields of a fluorophore that a preset sets.

    Raises
    ------
    ValueError
        There is no such preset.
    """
    if name not in read():
        raise ValueError(f"preset: there is no {name!r}{did_you_mean(name, list(read()))}")
    entry = read()[name]
    states = [{"name": n, **_values(state)} for n, state in entry["states"].items()]
    transitions = []
    for arrow, rates in entry.get("transitions", {}).items():
        source, to = arrow.split(" -> ")
        transitions.append({"source": source, "to": to, **_values(rates)})
    return {**_values(entry["fluorophore"]), "states": states, "transitions": transitions}


def sources(name: str) -> dict[str, str]:
    """Return where the numbers of a preset come from, by field, state and transition."""
    knobs(name)
    entry = read()[name]
    found = {field: _told(said) for field, said in entry["fluorophore"].items()}
    for part in ("states", "transitions"):
        for key, fields in entry.get(part, {}).items():
            found.update({f"{key}: {field}": _told(said) for field, said in fields.items()})
    return found


def under(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a recipe says of a fluorophore with its preset's numbers under it.

    What the recipe states wins, field by field: a state is found by its name, a transition by its
    source and to, and what the preset doesn't have is added.

    Raises
    ------
    ValueError
        There is no such preset.
    """
    said = dict(data)
    if said.get("preset") is None:
        return said
    preset = knobs(str(said["preset"]))
    by_name: Key = lambda state: state.get("name")  # noqa: E731
    by_ends: Key = lambda arrow: (arrow.get("source"), arrow.get("to"))  # noqa: E731
    for part, key in (("states", by_name), ("transitions", by_ends)):
        if isinstance(said.get(part), list | tuple):
            said[part] = _merged(preset[part], said[part], key)
    return {**preset, **said}


def _merged(preset: list[dict[str, Any]], said: Iterable[Any], key: Key) -> list[Any]:
    merged: list[Any] = [dict(entry) for entry in preset]
    place = {key(entry): i for i, entry in enumerate(merged)}
    for item in said:
        new = item.model_dump(exclude_unset=True) if isinstance(item, Model) else item
        if isinstance(new, Mapping) and key(new) in place:
            merged[place[key(new)]].update(new)
        else:
            merged.append(new)  # what isn't one at all, the field refuses
    return merged


def _values(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {field: said["value"] for field, said in fields.items()}


def _told(said: Mapping[str, Any]) -> str:
    return f"{said['value']} ({said['source']})"

"""JSON schemas of recipes, made from the knobs' own declarations, for editors."""

from __future__ import annotations

from typing import Any

from nanophantom.instruments._family import Instrument
from nanophantom.samples._family import Sample
from nanophantom.scenarios.recipe import DISTRIBUTIONS
from nanophantom.scenarios.scenario import Scenario
from nanophantom.simcore import units
from nanophantom.simcore.models import Family, did_you_mean

FAMILIES: dict[str, type[Family]] = {"sample": Sample, "instrument": Instrument}


def of_kind(kind: str) -> dict[str, Any]:
    """Return the schema of one kind of sample or instrument.

    Raises
    ------
    ValueError
        There is no such kind.
    """
    known: dict[str, type[Family]] = {}
    for family in FAMILIES.values():
        known.update(dict.fromkeys(family.kinds(), family))
    if kind not in known:
        raise ValueError(f"there is no kind {kind!r}{did_you_mean(kind, known)}")
    schema: dict[str, Any] = _as_written(known[kind].of_kind(kind).model_json_schema())
    return schema


def scenario() -> dict[str, Any]:
    """Return the schema of a whole recipe, every kind of every family inside it."""
    document = Scenario.model_json_schema()
    definitions: dict[str, Any] = document.setdefault("$defs", {})
    for field, family in FAMILIES.items():
        options = []
        for kind in family.kinds():
            schema = family.of_kind(kind).model_json_schema()
            definitions.update(schema.pop("$defs", {}))
            schema["required"] = sorted({*schema.get("required", []), "kind"})
            definitions[f"{field}-{kind}"] = schema
            options.append({"$ref": f"#/$defs/{field}-{kind}"})
        document["properties"][field] = {"oneOf": options}
    document["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    written: dict[str, Any] = _as_written(document)
    return written


def _as_written(node: Any, name: str = "") -> Any:
    """Allow what a recipe may hold for a number: text with a unit, or a distribution."""
    if isinstance(node, list):
        return [_as_written(item, name) for item in node]
    if not isinstance(node, dict):
        return node
    described = {
        key: (
            {field: _as_written(value, field) for field, value in inner.items()}
            if key in ("properties", "$defs")
            else _as_written(inner, name)
        )
        for key, inner in node.items()
    }
    if described.get("type") in ("number", "integer"):
        keep = {k: described.pop(k) for k in ("title", "description", "default") if k in described}
        options: list[dict[str, Any]] = [described]
        if units.suffix_of(name):
            options.append(
                {
                    "type": "string",
                    "description": f"a quantity, in {units.symbol(name)} or other units",
                }
            )
        options.append(
            {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "properties": {d: {"type": "array"} for d in DISTRIBUTIONS},
                "additionalProperties": False,
            }
        )
        return {**keep, "anyOf": options}
    return described

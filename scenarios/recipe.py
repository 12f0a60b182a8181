"""Recipes as people write them: YAML, distributions, changes from the shell, clear refusals.

A recipe is read as plain data, changed by ``--set``, its distributions are drawn for one
item by address, and only then it becomes a validated :class:`Scenario`.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import numpy as np
import yaml
from pydantic import Tag, ValidationError

from nanophantom.scenarios.scenario import Scenario
from nanophantom.simcore import units
from nanophantom.simcore.models import Family, Model, did_you_mean
from nanophantom.simcore.runs import Run

LIBRARY = Path(__file__).parent / "library"


class RecipeError(ValueError):
    """Everything wrong with a recipe, one line each: field, reason, mend."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


# --- reading -------------------------------------------------------------------------------


def catalogue() -> dict[str, Path]:
    """Return the scenarios that come with the package: name -> file."""
    return {path.stem: path for path in sorted(LIBRARY.glob("*.yaml"))}


def load(recipe: str | Path) -> dict[str, Any]:
    """Read a recipe, by catalogue name or as a file, into plain data.

    File references inside it that exist beside the recipe are made absolute, so that a
    recipe can name its structure file relative to itself.

    Raises
    ------
    RecipeError
        There is no such scenario or file, or it isn't YAML with a mapping at its top.
    """
    path = Path(recipe)
    known = catalogue()
    if str(recipe) in known:
        path = known[str(recipe)]
    elif not path.is_file():
        hint = did_you_mean(str(recipe), known) if path.suffix == "" else ""
        raise RecipeError([f"{recipe}: neither a file nor a name in the catalogue{hint}"])
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _OneKeyOnce)
    except OSError as problem:
        raise RecipeError([f"{path}: can't be read: {problem.strerror}"]) from None
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        first = " ".join(str(problem).split())
        raise RecipeError([f"{path}: not readable as YAML: {first}"]) from None
    if not isinstance(data, dict):
        raise RecipeError([f"{path}: a recipe is a mapping (name, sample, instrument, tasks)"])
    data.setdefault("name", re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._") or "unnamed")
    _anchor_files(data, path.parent.resolve())
    return data


class _OneKeyOnce(yaml.SafeLoader):
    """YAML in which a key stands once: of two, one would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def _anchor_files(node: Any, folder: Path) -> None:
    def anchored(file: Any) -> Any:
        here = isinstance(file, str) and not Path(file).is_absolute() and (folder / file).is_file()
        return str(folder / file) if here else file

    if isinstance(node, dict):
        file = node.get("file")
        if isinstance(file, dict) and isinstance(file.get("choice"), list):
            file["choice"] = [anchored(choice) for choice in file["choice"]]
        elif file is not None:
            node["file"] = anchored(file)
        for value in node.values():
            _anchor_files(value, folder)
    elif isinstance(node, list):
        for value in node:
            _anchor_files(value, folder)


def _entry(node: Any, key: str) -> Any:
    """Return the entry of a list that a key names by its number, None if there is none."""
    if isinstance(node, list) and key.isdigit() and int(key) < len(node):
        return node[int(key)]
    return None


def change(data: dict[str, Any], assignments: tuple[str, ...]) -> dict[str, Any]:
    """Apply ``a.b.c=value`` changes from the shell; values are read as YAML.

    Raises
    ------
    RecipeError
        An assignment has no ``=``, or its path runs through something that isn't a mapping.
    """
    changed = copy.deepcopy(data)
    problems = []
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            problems.append(f"--set {assignment}: write path.to.field=value")
            continue
        node: Any = changed
        for key in keys[:-1]:
            node = node.setdefault(key, {}) if isinstance(node, dict) else _entry(node, key)
            if node is None:
                problems.append(f"--set {assignment}: there is no entry {key} (they count from 0)")
                break
            if not isinstance(node, dict | list) or _distribution_of(node):
                problems.append(f"--set {assignment}: {key!r} holds a value, not further fields")
                break
        else:
            try:
                value = yaml.safe_load(text)
            except yaml.YAMLError:
                value = text
            if isinstance(node, dict):
                node[keys[-1]] = value
            elif _entry(node, keys[-1]) is not None:
                node[int(keys[-1])] = value
            else:
                problems.append(
                    f"--set {assignment}: {keys[-1]!r} is no entry of a list of {len(node)}; "
                    "they are counted from 0"
                )
    if problems:
        raise RecipeError(problems)
    return changed


# --- distributions -------------------------------------------------------------------------


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def _loguniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


def _normal(rng: np.random.Generator, mean: float, deviation: float) -> float:
    return float(rng.normal(mean, deviation))


def _integers(rng: np.random.Generator, low: float, high: float) -> int:
    return int(rng.integers(int(low), int(high), endpoint=True))


_PAIRS: dict[str, Callable[[np.random.Generator, float, float], float | int]] = {
    "uniform": _uniform,
    "loguniform": _loguniform,
    "normal": _normal,
    "integers": _integers,
}
DISTRIBUTIONS = (*_PAIRS, "choice")
_NAMES = list(DISTRIBUTIONS)


def _distribution_of(node: Any) -> str | None:
    if isinstance(node, dict) and len(node) == 1:
        name = next(iter(node))
        return name if name in DISTRIBUTIONS else None
    return None


def _walk(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if _distribution_of(node):
        yield path, node
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _walk(value, (*path, str(key)))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _walk(value, (*path, str(index)))


def _replace(data: Any, path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        data = data[int(key)] if isinstance(data, list) else data[key]
    data[int(path[-1]) if isinstance(data, list) else path[-1]] = value


def _parameters(path: tuple[str, ...], node: dict[str, Any]) -> list[Any]:
    """Return a distribution's numbers in the field's unit, or its choices."""
    (name, given) = next(iter(node.items()))
    where = ".".join(path)
    if name == "choice":
        if not isinstance(given, list) or not given:
            raise RecipeError([f"{where}: choice needs a list with at least one value"])
        return given
    if not isinstance(given, list) or len(given) != 2:
        raise RecipeError([f"{where}: {name} needs two numbers, [a, b]"])
    field = next((key for key in reversed(path) if not key.isdigit()), "")
    try:
        a, b = (units.parse(v, field) if isinstance(v, str) else float(v) for v in given)
    except (ValueError, TypeError) as problem:
        raise RecipeError([f"{where}: {name} needs two numbers: {problem}"]) from None
    wrong = {
        "uniform": a > b,
        "integers": a > b or a != int(a) or b != int(b),
        "loguniform": not 0 < a <= b,
        "normal": b < 0,
    }
    if wrong[name] or not (math.isfinite(a) and math.isfinite(b)):
        needs = {
            "uniform": "low ≤ high",
            "integers": "whole numbers, low ≤ high",
            "loguniform": "0 < low ≤ high",
            "normal": "a standard deviation ≥ 0",
        }
        raise RecipeError([f"{where}: {name} needs {needs[name]}, got [{a:g}, {b:g}]"])
    return [a, b]


def draw(data: dict[str, Any], run: Run) -> dict[str, Any]:
    """Replace every distribution by a value drawn from the stream of its own path."""
    drawn = copy.deepcopy(data)
    for path, node in _walk(data):
        numbers = _parameters(path, node)
        rng = run.rng("recipe/" + ".".join(path))
        name = next(iter(node))
        if name == "choice":
            value = numbers[int(rng.integers(len(numbers)))]
        else:
            value = _PAIRS[name](rng, *numbers)
        _replace(drawn, path, value)
    return drawn


def _extremes(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Return recipes in which every end of every distribution and every choice occurs once."""
    ends = []
    for path, node in _walk(data):
        numbers = _parameters(path, node)
        name = next(iter(node))
        kept = numbers if name == "choice" else numbers[:1] if name == "normal" else numbers
        ends.append((path, [_whole(node, number) for number in kept]))
    variants = []
    for i in range(max(len(values) for _, values in ends)):
        variant = copy.deepcopy(data)
        for path, values in ends:
            _replace(variant, path, values[min(i, len(values) - 1)])
        variants.append(variant)
    return variants


def _whole(node: dict[str, Any], value: Any) -> Any:
    return int(value) if "integers" in node else value


# --- validation ----------------------------------------------------------------------------


def resolve(data: dict[str, Any], item: int | None = None, seed: int | None = None) -> Scenario:
    """Draw the distributions of one item (the recipe's own if none is named) and validate all.

    Raises
    ------
    RecipeError
        Every problem at once, one line each.
    """
    data = dict(data)
    if seed is not None:
        data["seed"] = seed
    root = data.get("seed", Scenario.model_fields["seed"].default)
    if isinstance(root, bool) or not isinstance(root, int) or root < 0:
        raise RecipeError([f"seed: {root!r} is not a whole number ≥ 0"])
    if item is not None:
        data["item"] = item
    if any(True for _ in _walk(data)):
        problems = [line for end in _extremes(data) for line in _problems(end)]
        if problems:
            raise RecipeError(list(dict.fromkeys(problems)))
        data = draw(data, Run(root, (f"item:{data.get('item', 0)}",)))
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        raise RecipeError(explain(error, data)) from None


def _problems(data: dict[str, Any]) -> list[str]:
    try:
        Scenario.model_validate(data)
    except ValidationError as error:
        return explain(error, data)
    return []


def explain(error: ValidationError, data: Any, model: type[Model] = Scenario) -> list[str]:
    """Turn a validation error into lines of the form ``field: reason; mend``."""
    lines = []
    problems = [problem for problem in error.errors() if not _other_member(problem)]
    inside = {tuple(p["loc"][:n]) for p in problems for n in range(len(p["loc"]))}
    for problem in problems:
        loc = tuple(problem["loc"])
        if problem["type"] == "too_short" and loc in inside:
            continue  # its entries were wrong, and none was left to count
        where = _follow(model, data, loc)[1] or "recipe"
        kind, given = problem["type"], problem.get("input")
        context = problem.get("ctx", {})
        if kind == "extra_forbidden":
            owner, _ = _follow(model, data, loc[:-1])
            known = dict(owner.model_fields) if owner else {}
            lines.append(f"{where}: unknown key{did_you_mean(str(loc[-1]), known)}")
        elif kind == "missing":
            whole = where.rsplit(".", 1)[0]
            lines.append(
                f"{whole}: has too few values; number {int(loc[-1]) + 1} is missing"
                if isinstance(loc[-1], int)
                else f"{where}: is missing and has no default"
            )
        elif kind == "too_short":
            least = context.get("min_length", 1)
            lines.append(f"{where}: has too few entries; give at least {least}")
        elif kind == "value_error":
            lines.append(f"{where}: {context.get('error', problem['msg'])}")
        else:
            lines.append(f"{where}: {_reason(problem, loc)}, got {_shown(given)}")
    return lines


_KINDS_OF_VALUE = {
    "tuple_type": "must be a list, as [a, b]",
    "list_type": "must be a list, as [a, b]",
    "too_long": "has too many values",
    "dict_type": "must be a mapping, as {name: value}",
    "model_type": "must be a mapping of fields, as {name: value}",
    "model_attributes_type": "must be a mapping of fields, as {name: value}",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "string_pattern_mismatch": "may hold letters, digits and . _ - only",
}


def _reason(problem: Any, loc: tuple[Any, ...]) -> str:
    """Say what a field should have been, in the recipe's words."""
    names = [p for p in loc if not isinstance(p, int) and not _PLAIN.match(str(p))]
    unit = units.symbol(str(names[-1] if names else ""))
    in_unit = f" in {unit}" if unit else ""
    given = problem.get("input")
    if problem["type"] in ("float_type", "int_type"):
        if isinstance(given, dict) and len(given) == 1:
            word = str(next(iter(given)))
            return f"must be a number{in_unit}, or a distribution{did_you_mean(word, _NAMES)}"
        return f"must be a number{in_unit}"
    known = _KINDS_OF_VALUE.get(problem["type"])
    if known is not None:
        return known
    reason = str(problem["msg"]).replace("Input should be", "must be")
    return f"{reason} {unit}".rstrip()


def _shown(given: Any) -> str:
    text = repr(given)
    return text if len(text) <= 60 else f"{text[:57]}..."


_PLAIN = re.compile(r"^(constrained-)?(float|int|str|bool)$|^tuple\[")
"""What pydantic calls the members of a union of plain types: no part of a recipe's path."""


def _other_member(problem: Any) -> bool:
    """Say whether a problem is that of the member of "a number or several" that wasn't meant."""
    tags = [str(key) for key in problem["loc"] if _PLAIN.match(str(key))]
    if not tags:
        return False
    several = isinstance(problem.get("input"), list | tuple)
    return problem["type"] == "tuple_type" if tags[0].startswith("tuple") else several


def _follow(model: type[Model], data: Any, loc: tuple[Any, ...]) -> tuple[type[Model] | None, str]:
    """Follow a path through the models, choosing kinds and members of unions as the data does.

    Returns
    -------
    tuple
        The model there (None if it isn't known), and the path as a recipe would write it: pydantic
        puts the name of a union's member into it, which no recipe has.
    """
    annotation: Any = model
    written = []
    for key in loc:
        if isinstance(key, int):
            written.append(str(key))
            data = data[key] if isinstance(data, list | tuple) and key < len(data) else None
            inside = get_args(annotation)
            annotation = inside[0] if get_origin(annotation) is tuple else None
        elif isinstance(annotation, type) and issubclass(annotation, Model):
            written.append(str(key))
            field = annotation.model_fields.get(str(key))
            data = data.get(key) if isinstance(data, Mapping) else None
            annotation = None if field is None else field.annotation
        elif _PLAIN.match(str(key)):
            tuples = [m for m in get_args(annotation) if get_origin(_bare(m)) is tuple]
            annotation = tuples[0] if str(key).startswith("tuple") and tuples else None
        else:
            member = _member_called(annotation, str(key))
            if member is None:
                written.append(str(key))
            annotation = member
        annotation = _bare(annotation)
        if isinstance(annotation, type) and issubclass(annotation, Family):
            kind = data.get("kind") if isinstance(data, Mapping) else None
            try:
                annotation = annotation.of_kind(str(kind))
            except ValueError:
                annotation = None
    known = isinstance(annotation, type) and issubclass(annotation, Model)
    return annotation if known else None, ".".join(written)


def _bare(annotation: Any) -> Any:
    """Return what an annotation is about, without its metadata."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def _member_called(union: Any, tag: str) -> Any:
    """Return the member of a union that a tag names; None if there is none."""
    for member in get_args(union):
        if any(isinstance(m, Tag) and m.tag == tag for m in get_args(member)[1:]):
            return _bare(member)
    return None


# --- writing -------------------------------------------------------------------------------


def to_yaml(scenario: Scenario) -> str:
    """Write a resolved recipe: every knob with its value, units in the names."""
    data = scenario.model_dump(mode="json")
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)

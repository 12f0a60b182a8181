"""Nominal settings in words and units, for the report's table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nanophantom.simcore import units

MOST_IN_A_LINE = 16
"""Longer lists of numbers are cut."""


def settings_in_words(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return nominal settings in words and units: ``defocus_nm: -8`` is "defocus", "-8 nm"."""
    rows: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):  # of parts, detectors say, by name
            rows += [
                (f"{name.replace('_', ' ')}: {_without_unit(part)}", _in_a_line(part, numbers))
                for part, numbers in value.items()
            ]
            continue
        suffix = units.suffix_of(name) or ""
        label = name.removesuffix(suffix).replace("_", " ")
        text = f"{value:.6g}" if isinstance(value, float) else _in_words(value)
        rows.append((label, f"{text} {units.symbol(name)}".strip()))
    return rows


def _in_words(value: Any) -> str:
    """Return a setting as text, mappings and lists of numbers without their brackets."""
    if isinstance(value, Mapping):
        return "; ".join(f"{name.replace('_', ' ')}: {_in_words(v)}" for name, v in value.items())
    if isinstance(value, list | tuple) and value and isinstance(value[0], list):
        return f"a table of {len(value)} x {len(value[0])} numbers"
    if isinstance(value, list | tuple) and len(value) > MOST_IN_A_LINE:
        return f"{_in_words(value[:3])}, ... {_in_words(value[-1])} ({len(value)} values)"
    if isinstance(value, list | tuple):
        return ", ".join(_in_words(v) for v in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _without_unit(name: str) -> str:
    """Return a name in words, without its unit."""
    return name.removesuffix(units.suffix_of(name) or "").replace("_", " ")


def _in_a_line(part: str, numbers: Any) -> str:
    """Return a part: ``{"shape": "ring", "inner_mrad": 60}`` is "ring, inner 60 mrad"."""
    if not isinstance(numbers, Mapping):
        return f"{_in_words(numbers)} {units.symbol(part)}".strip()
    words = []
    for name, value in numbers.items():
        if name == "name":
            continue
        label = "" if isinstance(value, str) else _without_unit(name)
        words.append(f"{label} {_in_words(value)} {units.symbol(name)}".strip())
    return ", ".join(words)

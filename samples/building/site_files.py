"""Lists of sites: tables of nanometres with or without a row of names, and XYZ files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nanophantom.simcore.atoms import Floats
from nanophantom.simcore.models import did_you_mean

COLUMNS = ("x_nm", "y_nm", "z_nm", "structure", "part")
LEAST = {"structure": -1, "part": 0}
"""Columns of whole numbers, and the lowest that may stand there."""
Line = tuple[int, str]
"""Number of a line in its file, from 1, and what it says."""


def read_sites(path: Path) -> dict[str, Floats]:
    """Read a list of sites.

    Returns
    -------
    dict
        x_nm, y_nm, and z_nm, structure and part, which are 0 if the file has none.

    Raises
    ------
    ValueError
        The file can't be read as a list of sites; the message names the line.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"file: {path.name} is no text; give a .csv, .txt or .xyz file") from None
    read = _xyz if path.suffix.lower() == ".xyz" else _table
    columns = read(path.name, lines)
    if not len(columns["x_nm"]):
        raise ValueError(f"file: {path.name} lists no sites")
    n = len(columns["x_nm"])
    return {name: columns.get(name, np.zeros(n)) for name in COLUMNS}


def _table(file: str, text: Sequence[str]) -> dict[str, Floats]:
    lines = _lines(text)
    if not lines:
        return {"x_nm": np.empty(0)}
    separator = next((mark for mark in ",;\t" if mark in lines[0][1]), None)
    words = _words(lines[0][1], separator)
    if all(_number(word) is None for word in words):
        del lines[0]
        names = tuple(word.strip("\"'").lower() for word in words)
        for name in names:
            if name not in COLUMNS:
                raise ValueError(
                    f"file: {file} has a column {name!r}{did_you_mean(name, list(COLUMNS))}"
                )
        if len(set(names)) < len(names) or not {"x_nm", "y_nm"} <= set(names):
            raise ValueError(
                f"file: {file} must have x_nm, y_nm and no column twice; it has {', '.join(names)}"
            )
    elif 2 <= len(words) <= len(COLUMNS):
        names = COLUMNS[: len(words)]
    else:
        raise ValueError(
            f"file: line {lines[0][0]} of {file} has {len(words)} columns; give x_nm, y_nm and if "
            "need be z_nm, structure, part"
        )
    return _numbers(file, lines, separator, names) if lines else {"x_nm": np.empty(0)}


def _xyz(file: str, text: Sequence[str]) -> dict[str, Floats]:
    """Read the XYZ format, which is in Å: number of atoms, a comment, then symbol x y z."""
    first = text[0].split() if text else []
    if len(first) != 1 or not first[0].isdigit():
        raise ValueError(f"file: line 1 of {file} must be the number of atoms, as in XYZ files")
    wanted, lines = int(first[0]), _lines(text[2:], 3)[: int(first[0])]
    if len(lines) < wanted:
        raise ValueError(f"file: {file} announces {wanted} atoms and lists {len(lines)}")
    if not wanted:
        return {"x_nm": np.empty(0)}
    columns = _numbers(file, lines, None, ("symbol", *COLUMNS[:3]))
    return {name: values / 10 for name, values in columns.items()}


def _lines(text: Sequence[str], first: int = 1) -> list[Line]:
    """Return numbered lines without empty ones and those that begin with #."""
    told = ((i, line.strip()) for i, line in enumerate(text, first))
    return [(i, line) for i, line in told if line and not line.startswith("#")]


def _numbers(
    file: str, lines: Sequence[Line], separator: str | None, names: Sequence[str]
) -> dict[str, Floats]:
    """Read columns of numbers, but for "symbol", or say which line is wrong."""
    wanted = [k for k, name in enumerate(names) if name != "symbol"]
    given = [line for _, line in lines]
    only = None if len(wanted) == len(names) else wanted
    try:
        values = np.loadtxt(given, delimiter=separator, comments=None, usecols=only, ndmin=2)
    except ValueError:
        values = np.empty((0, 0))
    if values.shape == (len(lines), len(wanted)):
        columns = {names[k]: values[:, i].copy() for i, k in enumerate(wanted)}
        if not any(_odd(name, column).any() for name, column in columns.items()):
            return columns
    for number, line in lines:
        words = _words(line, separator)
        if len(words) != len(names) and (only is None or len(words) < len(names)):
            raise ValueError(
                f"file: line {number} of {file} has {len(words)} columns, not {len(names)} "
                f"({', '.join(names)})"
            )
        for k in wanted:
            value = _number(words[k])
            if value is None or _odd(names[k], np.array([value])).any():
                least = LEAST.get(names[k])
                right = "a number" if least is None else f"a whole number from {least} up"
                raise ValueError(
                    f"file: line {number} of {file}: {names[k]} must be {right}, not {words[k]!r}"
                )
    raise ValueError(f"file: {file} can't be read as a list of sites")


def _odd(name: str, values: Floats) -> Any:
    """Say which values can't stand in a column."""
    odd = ~np.isfinite(values)
    if name in LEAST:
        odd |= np.mod(values, 1, where=~odd, out=np.zeros(len(values))) != 0
        odd |= (values < LEAST[name]) | (values > 2**31 - 1)
    return odd


def _words(line: str, separator: str | None) -> list[str]:
    return [word.strip() for word in line.split(separator)]


def _number(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) else None

"""Tables of localizations: their columns, what is asked of them, and plain CSV files of numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from nanophantom.simcore.fields import Array, Table

Columns = dict[str, npt.NDArray[np.float64]]
Tables = Table | Iterable[Table]
"""One table, or one after another: a long table need not be in memory."""

CONVENTIONS = "frame from 0; x, y from the centre of pixel (0, 0), y down; photons on the camera"
_BLOCK = 100_000
"""Rows written at a time."""


def write_csv(path: Path | str, locs: Tables) -> None:
    """Write our own columns, one row a localization, under a line that tells the conventions.

    Raises
    ------
    ValueError
        A table lacks frame, x_nm or y_nm, or a value isn't finite.
    """
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        file.write(f"# {CONVENTIONS}\n")
        writer = csv.writer(file, lineterminator="\n")
        names = None
        for table in blocks(locs):
            known = checked(table)
            if names is None:
                writer.writerow(names := list(known))
            elif names != list(known):
                raise ValueError(f"{Path(path).name}: all tables need the same columns")
            values = [np.asarray(table[name]).tolist() for name in names]
            writer.writerows(zip(*values, strict=True))


def read_csv(path: Path | str) -> Columns:
    """Read a CSV file of numbers: a line of column names, then one line an item.

    Lines that open with # are comments.

    Raises
    ------
    ValueError
        The file can't be read or a cell isn't a number; names the row.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as problem:
        raise ValueError(f"{path} can't be read: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} can't be read: it isn't UTF-8 text") from None
    lines = (line for line in io.StringIO(text) if not line.lstrip().startswith("#"))
    rows = (row for row in csv.reader(lines) if any(cell.strip() for cell in row))
    names = [name.strip() for name in next(rows, [])]
    if not names:
        raise ValueError(f"{path} is empty; the first line must name the columns")
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: the first line must not name a column twice: {', '.join(names)}")
    columns: dict[str, list[float]] = {name: [] for name in names}
    for number, row in enumerate(rows, start=2):
        if len(row) != len(names):
            raise ValueError(f"{path}, row {number}: {len(row)} cells, not {len(names)}")
        for name, cell in zip(names, row, strict=True):
            try:
                columns[name].append(float(cell))
            except ValueError:
                reason = f"{name} is {cell.strip()!r}, not a number"
                raise ValueError(f"{path}, row {number}: {reason}") from None
    return {name: np.array(values, dtype=np.float64) for name, values in columns.items()}


def write_yaml(path: Path | str, content: Mapping[str, Any]) -> None:
    """Write what belongs to a file beside it, in the order given."""
    text = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True)
    Path(path).write_text(text, encoding="utf-8")


def blocks(locs: Tables) -> Iterator[Table]:
    """Return tables of a bearable length."""
    for table in (locs,) if isinstance(locs, Mapping) else locs:
        length = max(map(len, table.values()), default=0)
        for start in range(0, max(1, length), _BLOCK):
            yield {name: values[start : start + _BLOCK] for name, values in table.items()}


def checked(table: Table) -> dict[str, Array]:
    """Return the columns as numbers, after a look at them."""
    missing = [name for name in ("frame", "x_nm", "y_nm") if name not in table]
    if missing:
        raise ValueError(f"a table of localizations needs {', '.join(missing)}")
    columns = {name: np.asarray(values, np.float64) for name, values in table.items()}
    for name, values in columns.items():
        if values.shape != columns["frame"].shape or values.ndim != 1:
            raise ValueError(f"{name}: one number a localization, not shape {values.shape}")
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: {int((~np.isfinite(values)).sum())} values aren't finite")
    if (columns["frame"] < 0).any() or (columns["frame"] % 1 != 0).any():
        raise ValueError("frame: whole numbers from 0")
    return columns


def pair_of(columns: Table, kind: str) -> tuple[Array, Array] | None:
    """Return a width or an uncertainty along x and y, None if it isn't known."""
    if f"{kind}_x_nm" in columns and f"{kind}_y_nm" in columns:
        return columns[f"{kind}_x_nm"], columns[f"{kind}_y_nm"]
    both = columns.get(f"{kind}_nm")
    return None if both is None else (both, both)


def with_means(columns: Columns) -> Columns:
    """Add the rms over x and y of widths and uncertainties; drop those that are the same twice."""
    for kind in ("sigma", "uncertainty"):
        x, y = columns.get(f"{kind}_x_nm"), columns.get(f"{kind}_y_nm")
        if x is None or y is None:
            continue
        if np.array_equal(x, y):
            columns[f"{kind}_nm"] = x
            del columns[f"{kind}_x_nm"], columns[f"{kind}_y_nm"]
        else:
            columns[f"{kind}_nm"] = np.sqrt((x**2 + y**2) / 2)
    return columns

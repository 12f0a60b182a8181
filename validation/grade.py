"""Grade algorithms on datasets and keep estimates and scores beside the data."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.fields import Array
from nanophantom.simcore.store import Dataset
from nanophantom.simcore.store.files import write_whole
from nanophantom.validation.blind import TIMEOUT_S, run_blind
from nanophantom.validation.task import Scores
from nanophantom.validation.tasks import find_task

SCORES_FILE = "scores.json"
FORMAT, VERSION = "nanophantom-scores", 1


def grade_dataset(
    dataset: Dataset,
    task_name: str,
    algorithm: str | None = None,
    predictions: Path | str | None = None,
    timeout_s: float = TIMEOUT_S,
) -> tuple[dict[str, Array], Scores]:
    """Answer a task on one dataset and grade the answer.

    Parameters
    ----------
    dataset
        A complete dataset.
    task_name
        One of :func:`~nanophantom.validation.tasks.task_names`.
    algorithm
        ``"module:function"`` of an outsider, run blind in its own process. Without it and
        without predictions the task's own algorithm answers.
    predictions
        A CSV file of answers instead.
    timeout_s
        How long an outsider's function may take.

    Returns
    -------
    estimates : dict of arrays
        The answer's columns.
    scores : Scores
        How it did.

    Raises
    ------
    ValueError
        Task or algorithm don't exist, or the answer doesn't follow the task's contract.
    """
    task = find_task(task_name)
    if algorithm is not None and predictions is not None:
        raise ValueError("give an algorithm or predictions, not both")
    estimates: Mapping[str, npt.ArrayLike]
    if predictions is not None:
        estimates = read_predictions(predictions)
        name = Path(predictions).name
    elif algorithm is not None:
        measured = dataset.measured()
        task.arguments(measured)
        estimates = run_blind(algorithm, task.handed(measured), task.inputs, timeout_s)
        name = algorithm
    else:
        estimates = task.answer(dataset.measured())
        name = task.default_algorithm
    columns = {column: np.asarray(values) for column, values in estimates.items()}
    return columns, replace(task.grade(columns, dataset), algorithm=name)


def save(dataset: Dataset, estimates: Mapping[str, Array], scores: Scores) -> Path:
    """Write estimates/TASK.csv and put the scores into scores.json; return the CSV's path.

    The gradings of an outsider's algorithm stand beside those of the default one, under
    TASK.NAME, and never replace them. Each file is written whole or not at all.
    """
    root = Path(dataset.path)
    label = _label(scores)
    path = root / "estimates" / f"{label}.csv"
    path.parent.mkdir(exist_ok=True)
    write_whole(path, as_csv(estimates).encode())
    gradings = {name: graded.as_json() for name, graded in read_scores(dataset).items()}
    gradings[label] = scores.as_json()
    content = {"format": FORMAT, "version": VERSION, "gradings": gradings}
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(root / SCORES_FILE, text.encode())
    return path


def read_scores(dataset: Dataset) -> dict[str, Scores]:
    """Return all gradings kept with a dataset, by TASK or TASK.NAME; the default ones first.

    Raises
    ------
    ValueError
        The file is damaged or of another version.
    """
    path = Path(dataset.path) / SCORES_FILE
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if (content["format"], content["version"]) != (FORMAT, VERSION):
            raise ValueError(f"{path} isn't a {FORMAT} file of version {VERSION}")
        gradings = {name: Scores.from_json(data) for name, data in content["gradings"].items()}
    except (
        OSError, UnicodeDecodeError, json.JSONDecodeError, LookupError, TypeError, AttributeError
    ) as problem:  # fmt: skip
        raise ValueError(
            f"{path} is damaged; remove it and grade again (nanophantom score)"
        ) from problem
    return dict(sorted(gradings.items(), key=lambda item: (item[0] != item[1].task, item[0])))


def read_estimates(dataset: Dataset, label: str) -> dict[str, npt.NDArray[np.float64]]:
    """Return the estimates that belong to a grading of :func:`read_scores`."""
    return read_predictions(Path(dataset.path) / "estimates" / f"{label}.csv")


def read_predictions(path: Path | str) -> dict[str, npt.NDArray[np.float64]]:
    """Read a CSV file with a line of column names and one line of numbers an item.

    Raises
    ------
    ValueError
        The file can't be read or a cell isn't a number; names the line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as problem:
        raise ValueError(f"predictions {path} can't be read: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"predictions {path} can't be read: it isn't UTF-8 text") from None
    rows = [row for row in csv.reader(io.StringIO(text)) if any(cell.strip() for cell in row)]
    if not rows:
        raise ValueError(f"predictions {path} are empty; the first line must name the columns")
    names = [name.strip() for name in rows[0]]
    if len(set(names)) < len(names):
        raise ValueError(f"predictions {path} name a column twice: {', '.join(names)}")
    columns: dict[str, list[float]] = {name: [] for name in names}
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(names):
            raise ValueError(
                f"predictions {path}, row {number}: {len(row)} cells, not {len(names)}"
            )
        for name, cell in zip(names, row, strict=True):
            try:
                columns[name].append(float(cell))
            except ValueError:
                reason = f"{name} is {cell.strip()!r}, not a number"
                raise ValueError(f"predictions {path}, row {number}: {reason}") from None
    return {name: np.array(values, dtype=np.float64) for name, values in columns.items()}


def _label(scores: Scores) -> str:
    """Return TASK for the default algorithm's grading, TASK.NAME for any other."""
    if scores.algorithm in ("", find_task(scores.task).default_algorithm):
        return scores.task
    name = scores.algorithm.removesuffix(".csv")
    return f"{scores.task}.{re.sub(r'[^A-Za-z0-9_-]+', '.', name).strip('.')}"


def as_csv(estimates: Mapping[str, Array]) -> str:
    """Write columns so that every number reads back to the last bit."""
    rows = zip(*(np.asarray(column).tolist() for column in estimates.values()), strict=True)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(estimates)
    writer.writerows(rows)
    return out.getvalue()

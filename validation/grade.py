"""Grade algorithms on datasets and keep estimates and scores beside the data."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nanophantom.simcore import localization_files
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
        A file of answers instead (see :func:`read_predictions`).
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
        estimates = read_predictions(predictions, dataset.settings)
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


def read_predictions(
    path: Path | str, settings: Mapping[str, Any] | None = None
) -> dict[str, npt.NDArray[np.float64]]:
    """Read a table of answers: a CSV file, or localizations of Picasso or ThunderSTORM.

    Parameters
    ----------
    path
        A CSV file with a line of column names and one line of numbers an item; or a
        ``_locs.hdf5`` of Picasso or a CSV file with ThunderSTORM's headers, which are put into
        our columns: frame from 0, x_nm and y_nm from the centre of pixel (0, 0), photons on the
        camera.
    settings
        The dataset's nominal settings, which tell the size of a pixel and the camera.

    Raises
    ------
    ValueError
        The file can't be read or a cell isn't a number; names the row.
    """
    try:
        if localization_files.is_localizations(path):
            return localization_files.read_localizations(path, settings)
        return localization_files.read_csv(path)
    except ValueError as problem:
        raise ValueError(f"predictions {problem}") from None


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

"""Grade a whole folder, a dataset or a corpus, and put the scores into lines."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from nanophantom.simcore.store import Corpus, Dataset, is_corpus
from nanophantom.validation.grade import grade_dataset, save
from nanophantom.validation.task import Score, Scores
from nanophantom.validation.tasks import find_task

Graded = dict[Path, list[Scores]]
"""Dataset folder -> its scores, a task each."""


def check_tasks(
    names: Sequence[str], signals: Collection[str], truth: Collection[str] | None = None
) -> None:
    """Refuse unknown tasks, and those that miss a signal or a truth, before anything is made.

    Parameters
    ----------
    names
        Of the tasks.
    signals
        What the instrument gives.
    truth
        Tables that the dataset will hold; none: not known yet.

    Raises
    ------
    ValueError
        A task isn't known or can't be set on such data.
    """
    for name in names:
        try:
            task = find_task(name)
        except ValueError as problem:
            raise ValueError(f"tasks: {problem}") from None
        missing = [wanted for wanted in task.inputs if wanted not in signals]
        if missing:
            raise ValueError(
                f"tasks: {name} needs the signal {', '.join(missing)}; the instrument gives "
                f"{', '.join(signals)}"
            )
        untold = [table for table in task.needs if truth is not None and table not in truth]
        if untold:
            raise ValueError(
                f"tasks: {name} can't be graded here: there will be no truth {', '.join(untold)} "
                f"({task.needs_because})"
            )


def datasets(folder: Path) -> list[Dataset]:
    """Return the complete datasets of a folder, the items of a corpus in order.

    Raises
    ------
    ValueError
        The folder holds no dataset, or one that isn't finished.
    """
    if not is_corpus(folder):
        found = [Dataset(folder)]
    else:
        found = [Dataset(item) for item in Corpus(folder).items if item.exists()]
    unfinished = [d.path for d in found if not d.complete]
    if unfinished or not found:
        what = f"{unfinished[0]} isn't finished" if unfinished else f"{folder} has no items"
        raise ValueError(f"{what}; finish it with run ... --resume")
    return found


def grade_folder(
    folder: Path,
    algorithm: str | None = None,
    predictions: Path | None = None,
    only_task: str | None = None,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
    unanswered: list[str] | None = None,
) -> Graded:
    """Grade every dataset of a folder at its tasks and keep estimates and scores beside the data.

    Parameters
    ----------
    folder
        A dataset or a corpus.
    algorithm
        ``"module:function"`` to be graded blind, in its own process.
    predictions
        A CSV of estimates to be graded; for a single dataset.
    only_task
        This task instead of those that the recipe names.
    unanswered
        Takes a line for every task that got no answer, and the other tasks are graded; without it
        the first ends everything.

    Raises
    ------
    ValueError
        Nothing to grade, an unknown task, or an answer that breaks the task's contract.
    """
    found = datasets(folder)
    if predictions is not None and len(found) > 1:
        raise ValueError("--predictions grades one dataset; name an item of the corpus")
    graded: Graded = {}
    for done, dataset in enumerate(found):
        progress("grading", done, len(found))
        tasks = [only_task] if only_task else list(dataset.recipe.get("tasks", []))
        if not tasks and (algorithm or predictions):
            raise ValueError(f"{dataset.path}: its recipe names no task; choose one with --task")
        graded[dataset.path] = []
        for task in tasks:
            try:
                estimates, scores = grade_dataset(dataset, task, algorithm, predictions)
            except ValueError as problem:
                if unanswered is None:
                    raise
                unanswered.append(f"{dataset.path}: task {task} has no answer: {problem}")
                continue
            save(dataset, estimates, scores)
            graded[dataset.path].append(scores)
    progress("grading", len(found), len(found))
    return graded


def plain(graded: Graded) -> dict[str, Any]:
    """Return ``{task: {metric: value}}``; for a corpus the same under each item's name."""
    by_item = {
        path.name: {scores.task: scores.values() for scores in each}
        for path, each in graded.items()
    }
    return by_item if len(by_item) > 1 else next(iter(by_item.values()))


def tables(graded: Graded) -> list[tuple[str, list[tuple[str, str, str, str]]]]:
    """Return ``(title, rows of (score, value, limit, n))``, one for each dataset and task."""
    found = []
    for path, each in graded.items():
        for scores in each:
            title = f"{path.name}: {scores.task} by {scores.algorithm}"
            rows = [(s.key, _number(s, s.value), _number(s, s.limit), str(s.n)) for s in scores]
            rows += [(f"note: {note}", "", "", "") for note in scores.notes]
            found.append((title, rows))
    return found


def _number(score: Score, value: float | None) -> str:
    if value is None:
        return "–"
    digits = f"{value:.2f}" if score.unit else f"{value:.3f}"
    return f"{digits} {score.unit}".rstrip()

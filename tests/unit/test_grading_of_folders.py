"""A task without an answer takes nothing from the others."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))
from toy import Toy, make

from nanophantom.validation import folder
from nanophantom.validation.task import Scores


@pytest.fixture
def two_tasks(tmp_path, monkeypatch):
    """A dataset with two tasks, the first of which nobody can answer."""
    make(tmp_path / "toy", Toy(n_frames=2), workers=1)
    tasks = {"recipe": {"tasks": ["hard", "easy"]}}
    monkeypatch.setattr(folder.Dataset, "recipe", tasks["recipe"], raising=False)

    def grade(dataset, task, algorithm, predictions):
        if task == "hard":
            raise ValueError("too few photons")
        return {}, Scores(task, ())

    monkeypatch.setattr(folder, "grade_dataset", grade)
    monkeypatch.setattr(folder, "save", lambda *_: None)
    return tmp_path / "toy"


def test_the_others_are_graded_and_a_line_says_why_one_is_not(two_tasks):
    unanswered: list[str] = []
    graded = folder.grade_folder(two_tasks, unanswered=unanswered)
    assert [scores.task for scores in graded[two_tasks]] == ["easy"]
    assert unanswered == [f"{two_tasks}: task hard has no answer: too few photons"]


def test_who_asks_for_a_task_is_refused(two_tasks):
    with pytest.raises(ValueError, match="too few photons"):
        folder.grade_folder(two_tasks)

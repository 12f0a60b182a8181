"""The Python face, in the words of the recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nanophantom.simcore.experiment import Experiment
from nanophantom.simcore.fields import Array, Measured
from nanophantom.simcore.models import Family
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import Specimen

Member = TypeVar("Member", bound=Family)

if TYPE_CHECKING:
    from nanophantom.instruments._family import Instrument
    from nanophantom.samples._family import Sample
    from nanophantom.simcore.store import Dataset
    from nanophantom.validation.task import Score


def sample(kind: str, **knobs: Any) -> Sample:
    """Return the recipe of a specimen; ``.make(Run(seed))`` builds it."""
    from nanophantom.samples._family import Sample

    return _checked(Sample.of_kind(kind), {"kind": kind, **knobs})


def instrument(kind: str, **knobs: Any) -> Instrument:
    """Return an instrument; knobs are named as in a recipe."""
    from nanophantom.instruments._family import Instrument

    return _checked(Instrument.of_kind(kind), {"kind": kind, **knobs})


def _checked(cls: type[Member], data: dict[str, Any]) -> Member:
    """Validate the knobs of one kind; problems come in the words of a recipe's."""
    from pydantic import ValidationError

    from nanophantom.scenarios.recipe import RecipeError, explain

    try:
        return cls.model_validate(data)
    except ValidationError as error:
        raise RecipeError(explain(error, data, cls)) from None


def acquire(instrument: Instrument, specimen: Specimen, run: Run) -> Experiment:
    """Look at a specimen: every frame, measured and true, in memory."""
    return Experiment.of(instrument.plan(specimen, run), specimen)


def analyse(task: str, measured: Measured) -> Mapping[str, Array]:
    """Run a task's default algorithm on measured data."""
    from nanophantom.validation.tasks import find_task

    return find_task(task).answer(measured)


def score(
    task: str, estimates: Mapping[str, Array], truth: Experiment | Dataset
) -> tuple[Score, ...]:
    """Grade estimates against the truth of an experiment or a dataset."""
    from nanophantom.validation.tasks import find_task

    return tuple(find_task(task).grade(estimates, truth))


def run(recipe: str | Path | Mapping[str, Any], out: Path | str | None = None) -> Dataset:
    """Run a recipe (catalogue name, file or mapping), grade it, write its report.

    Raises
    ------
    ValueError
        The recipe is wrong or the output folder exists.
    """
    from nanophantom.scenarios import recipe as recipes
    from nanophantom.scenarios import run as runner
    from nanophantom.simcore.store import Dataset
    from nanophantom.validation import folder as grade
    from nanophantom.validation import report

    data = dict(recipe) if isinstance(recipe, Mapping) else recipes.load(recipe)
    plan = runner.plan(data, out=None if out is None else Path(out))
    grade.check_tasks(plan.tasks, plan.acquisition.signals(), plan.truth_names)
    runner.make(plan)
    grade.grade_folder(plan.out)
    report.write(plan.out)
    return Dataset(plan.out)

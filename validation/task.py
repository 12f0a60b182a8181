"""What a task is: a contract with an algorithm, and the scores that grade it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.fields import Array, Measured, Table

if TYPE_CHECKING:
    from nanophantom.simcore.experiment import Experiment
    from nanophantom.simcore.store import Dataset
    from nanophantom.validation.drawing import Plate

    Observed = Dataset | Experiment

Estimates = Mapping[str, Array]
"""What an algorithm returned: columns of equal length by name."""

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Score:
    """One number that grades an algorithm, with all that is needed to judge it.

    Attributes
    ----------
    name
        Name of the metric ("recall"), the same in every dataset.
    value
        The number, or None where it isn't defined (the hint then says why).
    n
        How many things the number was taken over.
    better
        Which way lies improvement.
    unit
        Unit of value, limit, bias and spread; empty for a fraction.
    group
        Part of the specimen that the number is about; None for all of it.
    limit
        The best that physics allows on these data, in the same unit; None if not known.
    bias, spread
        Systematic and random part of an error.
    coverage
        Fraction of quoted uncertainties that held at 95 %; None if none were quoted.
    hint
        One sentence for a reader who doesn't know the word.
    """

    name: str
    value: float | None
    n: int
    better: Better
    unit: str = ""
    group: str | None = None
    limit: float | None = None
    bias: float | None = None
    spread: float | None = None
    coverage: float | None = None
    hint: str = ""

    def __post_init__(self) -> None:
        for name in ("value", "limit", "bias", "spread", "coverage"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise ValueError(f"score {self.key}: {name} is {number}; give None if undefined")

    @property
    def key(self) -> str:
        """Name of the number within its task: ``"recall"``, ``"recall.support"``."""
        return self.name if self.group is None else f"{self.name}.{self.group}"

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.key}: not defined (n = {self.n})"
        number = f"{self.value:.2f} {self.unit}" if self.unit else f"{self.value:.3f}"
        limit = "" if self.limit is None else f"limit {self.limit:.2f} {self.unit}, "
        return f"{self.key}: {number} ({limit}n = {self.n})"


@dataclass(frozen=True)
class Scores:
    """The scores of one algorithm at one task, in the order of their importance."""

    task: str
    scores: tuple[Score, ...]
    notes: tuple[str, ...] = ()
    """Sentences that a reader of the numbers must know."""
    algorithm: str = ""

    def __getitem__(self, key: str) -> Score:
        for score in self.scores:
            if score.key == key:
                return score
        raise KeyError(f"task {self.task} has no score {key!r}: {', '.join(self.values())}")

    def __iter__(self) -> Iterator[Score]:
        return iter(self.scores)

    def values(self) -> dict[str, float | None]:
        """Return ``{key: value}``, for a line of a table."""
        return {score.key: score.value for score in self.scores}

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain types that :meth:`from_json` reads back."""
        return {
            "task": self.task,
            "algorithm": self.algorithm,
            "notes": list(self.notes),
            "scores": [asdict(score) for score in self.scores],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Scores:
        """Read what :meth:`as_json` gave."""
        scores = tuple(Score(**score) for score in data["scores"])
        return cls(data["task"], scores, tuple(data["notes"]), data["algorithm"])


class Task(ABC):
    """A question that an algorithm answers from measured data alone, and how answers are graded."""

    name: ClassVar[str]
    """The name recipes use; the module in validation/tasks/ has the same, with underscores."""
    title: ClassVar[str]
    contract: ClassVar[str]
    """What an algorithm receives, what it returns (columns and units), how it is scored."""
    default_algorithm: ClassVar[str]
    """``module:function`` of the analysis layer's own answer."""
    inputs: ClassVar[tuple[str, ...]]
    """Signals whose arrays the algorithm is called with, in this order, before the settings.

    Empty for a task about whatever was recorded: then one mapping of all signals by name.
    """
    withheld: ClassVar[tuple[str, ...]] = ()
    """Settings that algorithms aren't told, since they would give the answer away."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Truth tables that not every instrument and specimen gives, and that grading needs."""
    needs_because: ClassVar[str] = ""
    """Where they come from, for the refusal of a recipe that hasn't them."""
    columns: ClassVar[tuple[str, ...]]
    """Columns that an algorithm must return."""
    optional_columns: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade estimates against a dataset's truth.

        Raises
        ------
        ValueError
            The estimates don't follow the contract.
        """

    @abstractmethod
    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw what the scores mean, for the report."""

    def read(self, estimates: Any) -> dict[str, npt.NDArray[np.float64]]:
        """Check estimates against the contract and return its columns, each (n,) and finite.

        Raises
        ------
        ValueError
            A column is missing, has another shape than the first or isn't finite.
        """
        want = f"task {self.name} wants equally long 1-D columns {_listed(self.columns)}"
        if self.optional_columns:
            want += f" (and may have {_listed(self.optional_columns)})"
        if not isinstance(estimates, Mapping):
            raise ValueError(f"{want}, got a {type(estimates).__name__}")
        missing = [name for name in self.columns if name not in estimates]
        if missing:
            got = _listed(list(map(str, estimates))) or "nothing"
            raise ValueError(f"{want}; {_listed(missing)} is missing, got {got}")
        read = {}
        n = np.size(estimates[self.columns[0]])
        for name, values in estimates.items():
            column = np.asarray(values)
            if column.shape != (n,):
                raise ValueError(f"{want}; {name} has the shape {column.shape}, not ({n},)")
            if name not in (*self.columns, *self.optional_columns):
                continue
            if column.dtype.kind not in "iuf":
                raise ValueError(f"{want}; {name} doesn't hold real numbers")
            if not np.isfinite(column).all():
                bad = int(np.flatnonzero(~np.isfinite(column))[0])
                raise ValueError(f"{want}, all finite; {name}[{bad}] is {column[bad]}")
            read[name] = column.astype(np.float64)
        return read

    def answer(self, measured: Measured) -> Estimates:
        """Let the task's own algorithm answer from measured data."""
        module, _, function = self.default_algorithm.partition(":")
        find = getattr(import_module(module), function)
        estimates: Estimates = find(*self.arguments(measured))
        return estimates

    def arguments(self, measured: Measured) -> tuple[Any, ...]:
        """Return what an algorithm is called with: signals and the nominal settings."""
        missing = [name for name in self.inputs if name not in measured.signals]
        if missing:
            raise ValueError(
                f"task {self.name} needs the signal {_listed(missing)}; "
                f"this dataset has {_listed(list(measured.signals))}"
            )
        arrays = {name: field.data for name, field in measured.signals.items()}
        data = [arrays[name] for name in self.inputs] if self.inputs else [arrays]
        return (*data, dict(self.handed(measured).settings))

    def handed(self, measured: Measured) -> Measured:
        """Return measured data with the settings that algorithms are told."""
        told = {k: v for k, v in measured.settings.items() if k not in self.withheld}
        return Measured(measured.signals, told)


def require_tables(task: Task, dataset: Observed, names: Sequence[str]) -> dict[str, Table]:
    """Return tables of the truth, or say which of them the task misses."""
    missing = [name for name in names if name not in dataset.truth_tables]
    if missing:
        raise ValueError(f"task {task.name} can't grade this dataset: no truth {_listed(missing)}")
    return {name: dataset.truth(name) for name in names}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)

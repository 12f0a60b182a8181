"""The address of a random choice, and the contract between instruments and the store.

``instrument.plan(specimen, run)`` draws everything that is drawn once and returns an
:class:`Acquisition`; ``acquisition.expose(i)`` is a pure function of ``i``, so any frame can
be made alone, in any order, on any worker.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nanophantom.simcore.fields import Array, Axis, Table
from nanophantom.simcore.streams import stream


@dataclass(frozen=True)
class Run:
    """An address and nothing more: a root seed and the path of names that leads here."""

    seed: int
    path: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed: {self.seed!r} is not a whole number ≥ 0")

    def at(self, name: str, index: int) -> Run:
        """Go deeper: ``run.at("frame", 7)``."""
        return Run(self.seed, (*self.path, f"{name}:{index}"))

    def rng(self, cause: str, index: int | None = None) -> np.random.Generator:
        """Return the stream of one physical cause (of one frame, say) at this address."""
        name = cause if index is None else f"{cause}:{index}"
        return stream(self.seed, (*self.path, name))


@dataclass(frozen=True, eq=False)
class Frame:
    """What one exposure gave: measured signals and this frame's truth, by name.

    Attributes
    ----------
    index
        Number of the frame.
    signals
        What was measured.
    truth
        Arrays of the same shape in every frame.
    tables
        Tables whose length changes from frame to frame (the emitters that shone, say).
    """

    index: int
    signals: Mapping[str, Array]
    truth: Mapping[str, Array]
    tables: Mapping[str, Table] = field(default_factory=dict)


def joined(tables: Sequence[tuple[int, Table]]) -> dict[str, Array]:
    """Join tables of several frames into one that opens with the column ``frame``.

    Raises
    ------
    ValueError
        Columns differ from frame to frame, or in length within one frame.
    """
    columns = list(tables[0][1]) if tables else []
    for frame, table in tables:
        lengths = {len(values) for values in table.values()}
        if list(table) != columns or len(lengths) > 1 or "frame" in table:
            raise ValueError(
                f"frame {frame}: a frame table needs the same columns in every frame, equally "
                "long and none called frame"
            )
    rows = [len(next(iter(table.values()), ())) for _, table in tables]
    frames = np.repeat(np.array([frame for frame, _ in tables], np.int32), rows)
    values = {c: np.concatenate([np.asarray(table[c]) for _, table in tables]) for c in columns}
    return {"frame": frames, **values}


@dataclass(frozen=True)
class SignalSpec:
    """Shape and meaning of one signal of a frame, known before anything is computed."""

    shape: tuple[int, ...]
    dtype: str
    axes: tuple[Axis, ...]
    unit: str
    ideal: str | None = None
    """Name of the frame truth that holds this signal's noise-free expectation."""
    frames: tuple[int, int] | None = None
    """The first frame that holds it and the one after the last; None: all frames do."""


@dataclass(frozen=True)
class Cost:
    """What making a dataset will take, estimated before the start."""

    memory_bytes: int
    """Peak of one worker process."""
    disk_bytes: int
    """Size of the dataset, an upper estimate."""
    cpu_s: float
    """Processor seconds on a present-day core, a rough estimate."""


Parts = Mapping[str, Mapping[str, Array]]
"""Frame-independent intermediate results: part name -> named arrays, read-only."""


class Acquisition(ABC):
    """Everything drawn once for one item: schedule, paths, states. Picklable.

    The work that frames share (exit waves of the thermal configurations, say) is declared in
    :meth:`parts`: independent pure functions that a driver may run on any worker, keep, and
    hand to every :meth:`expose`. Made alone, a frame computes the parts that it needs.
    """

    n_frames: int

    in_threads: bool = False
    """Whether :meth:`expose` may run in several threads, and spends its time where Python's lock is
    released. Frames that take a millisecond are then made without the start of processes."""

    @abstractmethod
    def signals(self) -> Mapping[str, SignalSpec]:
        """Return the signals that every frame will hold."""

    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """Return the nominal settings an operator would know, named with their units."""

    @abstractmethod
    def expose(self, i: int, parts: Parts | None = None) -> Frame:
        """Make frame ``i``; the same bytes whoever asks, in whatever order."""

    @abstractmethod
    def truth(self, parts: Parts | None = None) -> Mapping[str, Table]:
        """Return the truth of the whole item, as tables by name; needs no frame."""

    @abstractmethod
    def truth_outline(self) -> Mapping[str, str]:
        """Return what :meth:`truth` will hold: table name -> one line."""

    @abstractmethod
    def cost(self) -> Cost:
        """Estimate memory, disk and time without doing the work."""

    def parts(self) -> Mapping[str, Callable[[], Mapping[str, Array]]]:
        """Return the shared intermediate results: name -> pure, picklable function."""
        return {}

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about how it will be computed: the method, its cost, its error."""
        return ()

    def warm_up(self) -> None:  # noqa: B027 - most acquisitions have nothing to prepare
        """Do once in the parent what workers then inherit: plan the FFTs of the parts."""

    def make_parts(self) -> dict[str, Mapping[str, Array]]:
        """Compute every part here, one after another."""
        return {name: make() for name, make in self.parts().items()}

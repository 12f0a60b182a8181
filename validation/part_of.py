"""One microscope's part of a dataset that several made: it reads like a dataset of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from nanophantom.simcore.fields import Array, Measured, Table

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed


def microscopes(dataset: Observed) -> tuple[str, ...]:
    """Return the names of the microscopes that made a dataset; empty if it was one without name.

    Settings of several microscopes are told under their names, which stand before their signals.
    """
    first = dataset.signals[0]
    names = tuple(
        name
        for name, told in dataset.settings.items()
        if isinstance(told, dict) and any(s.startswith(f"{name}_") for s in dataset.signals)
    )
    return names if any(first.startswith(f"{name}_") for name in names) else ()


def part_of(dataset: Observed, microscope: str) -> Observed:
    """Return what one microscope made, with its signals, settings and truth under their own names.

    Raises
    ------
    ValueError
        There is no such microscope.
    """
    names = microscopes(dataset)
    if microscope not in names:
        known = ", ".join(names) or "none by name"
        raise ValueError(f"there is no microscope {microscope!r} in these data; there are {known}")
    return cast("Observed", _Part(dataset, microscope))


class _Part:
    """A view of some signals and tables of a dataset."""

    def __init__(self, dataset: Observed, microscope: str) -> None:
        self._whole, self._prefix = dataset, f"{microscope}_"
        self.settings: dict[str, Any] = dict(dataset.settings[microscope])
        self._frames = dataset.frames_of(self._prefix + self.signals[0])
        self.n_frames = len(self._frames)

    def _own(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(n.removeprefix(self._prefix) for n in names if n.startswith(self._prefix))

    @property
    def signals(self) -> tuple[str, ...]:
        """Names of its signals."""
        return self._own(self._whole.signals)

    @property
    def truth_tables(self) -> tuple[str, ...]:
        """Names of its truth tables, and of the specimen's."""
        whole = self._whole.truth_tables
        return self._own(whole) + tuple(n for n in whole if n.startswith("specimen_"))

    @property
    def frame_tables(self) -> tuple[str, ...]:
        """Names of its frame tables."""
        return self._own(self._whole.frame_tables)

    def frames_of(self, signal: str) -> range:
        """Return the frames that hold a signal, counted from its first."""
        return range(len(self._whole.frames_of(self._prefix + signal)))

    def truth(self, table: str) -> Table:
        """Return one truth table."""
        if table.startswith("specimen_"):
            return self._whole.truth(table)
        return self._whole.truth(self._prefix + table)

    def signal(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Return frames of a signal."""
        return self._whole.signal(self._prefix + name, start, stop)

    def frame_truth(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Return frames of a frame truth."""
        return self._whole.frame_truth(self._prefix + name, start, stop)

    def frame_table(self, name: str, start: int = 0, stop: int | None = None) -> Table:
        """Return a table of some frames, numbered as this microscope made them."""
        first = self._frames.start
        stop = self.n_frames if stop is None else stop
        table = dict(self._whole.frame_table(self._prefix + name, first + start, first + stop))
        return {**table, "frame": table["frame"] - first}

    def ideal(self, signal: str, i: int) -> Array:
        """Return the noise-free expectation of a signal in a frame."""
        return self._whole.ideal(self._prefix + signal, i)

    def measured(self) -> Measured:
        """Return what an analysis may see."""
        whole = self._whole.measured().signals
        return Measured({name: whole[self._prefix + name] for name in self.signals}, self.settings)

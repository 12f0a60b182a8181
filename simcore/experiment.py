"""An acquisition made in memory: the same questions as a dataset on disk, no files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nanophantom.simcore.fields import Array, Axis, Field, Measured, Table
from nanophantom.simcore.runs import Acquisition, Frame, Parts, joined
from nanophantom.simcore.specimens import Specimen, truth_tables


class Experiment:
    """Every frame of an acquisition, measured and true, held in memory.

    Attributes
    ----------
    n_frames
        Number of frames.
    settings
        Nominal settings: what an operator would know.
    """

    def __init__(
        self,
        acquisition: Acquisition,
        parts: Parts,
        frames: list[Frame],
        specimen: Specimen | None = None,
    ) -> None:
        self.n_frames = len(frames)
        self.settings: Mapping[str, Any] = acquisition.settings()
        self._specs = acquisition.signals()
        self._truth = dict(acquisition.truth(parts))
        if specimen is not None:
            self._truth |= truth_tables(specimen)
        self._frames = frames

    @classmethod
    def of(cls, acquisition: Acquisition, specimen: Specimen | None = None) -> Experiment:
        """Expose every frame here and now; the specimen's own truth goes with it if it is given."""
        parts = acquisition.make_parts()
        frames = [acquisition.expose(i, parts) for i in range(acquisition.n_frames)]
        return cls(acquisition, parts, frames, specimen)

    @property
    def signals(self) -> tuple[str, ...]:
        """Names of the measured signals."""
        return tuple(self._specs)

    def frames_of(self, signal: str) -> range:
        """Return the frames that hold a signal."""
        own = self._specs[signal].frames
        return range(self.n_frames) if own is None else range(*own)

    @property
    def truth_tables(self) -> tuple[str, ...]:
        """Names of the truth tables."""
        return tuple(self._truth)

    def truth(self, table: str) -> Table:
        """Return one truth table.

        Raises
        ------
        ValueError
            There is no such table.
        """
        if table not in self._truth:
            raise ValueError(f"no truth table {table!r}; there are: {', '.join(self._truth)}")
        return self._truth[table]

    def signal(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Return frames of one signal, shape (frames, ...); those that hold it, counted from 0."""
        held = [frame.signals[name] for frame in self._frames if name in frame.signals]
        return np.stack(held[start:stop])

    def frame_truth(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Return one frame truth, shape (frames, ...); of frames that hold it, counted from 0."""
        held = [frame.truth[name] for frame in self._frames if name in frame.truth]
        return np.stack(held[start:stop])

    @property
    def frame_tables(self) -> tuple[str, ...]:
        """Names of the tables that frames have, of a length of their own."""
        return tuple(dict.fromkeys(name for frame in self._frames for name in frame.tables))

    def frame_table(self, name: str, start: int = 0, stop: int | None = None) -> Table:
        """Return a table of frames ``start`` to ``stop - 1``, whose column ``frame`` tells which.

        Raises
        ------
        ValueError
            There is no such table.
        """
        if name not in self.frame_tables:
            raise ValueError(f"no frame table {name!r}; there are: {', '.join(self.frame_tables)}")
        held = [(f.index, f.tables[name]) for f in self._frames[start:stop] if name in f.tables]
        return joined(held)

    def ideal(self, signal: str, i: int) -> Array:
        """Return the noise-free expectation of a signal in frame ``i``."""
        name = self._specs[signal].ideal
        if name is None:
            raise ValueError(f"signal {signal!r} has no noise-free counterpart")
        ideal: Array = self.frame_truth(name, i, i + 1)[0]
        return ideal

    def measured(self) -> Measured:
        """Return what an analysis may see."""
        return Measured(
            signals={
                name: Field(self.signal(name), (Axis("frame", 1.0, ""), *spec.axes), spec.unit)
                for name, spec in self._specs.items()
            },
            settings=self.settings,
        )

"""Reading a dataset; what isn't there raises, it never reads as zeros."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
import yaml

from nanophantom.simcore.fields import Array, Axis, Field, Measured
from nanophantom.simcore.runs import Acquisition
from nanophantom.simcore.store import arrays, layout, manifest
from nanophantom.simcore.store.layout import Layout

READ_AT_ONCE_BYTES = 256_000_000
"""Larger signals are handed to analyses as `StoredFrames`."""


class Dataset:
    """A dataset folder, complete or still being filled.

    Parameters
    ----------
    path
        The folder that holds ``dataset.json``.

    Raises
    ------
    ValueError
        It is not a dataset, or of a newer format.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        header = layout.read_header(self.path)
        self.complete: bool = header["complete"]
        self.layout = Layout.from_json(header)
        self._manifest = manifest.read_manifest(self.path)

    @property
    def n_frames(self) -> int:
        """Number of frames, whether made yet or not."""
        return self.layout.n_frames

    @property
    def signals(self) -> tuple[str, ...]:
        """Names of the measured signals."""
        return tuple(self.layout.signals)

    @property
    def settings(self) -> dict[str, Any]:
        """Nominal settings: what an operator would know."""
        return dict(self.layout.settings)

    def frames_of(self, signal: str) -> range:
        """Return the frames that hold a signal (ValueError: there is no such signal)."""
        self._require_signal(signal)
        return self.layout.frames_of(signal)

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """The recipe this dataset was made from (ValueError: missing or damaged)."""
        try:
            recipe = yaml.safe_load(layout.read_recipe(self.path))
        except yaml.YAMLError:
            recipe = None
        if not isinstance(recipe, dict):
            raise ValueError(
                f"{self.path / layout.RECIPE} is damaged: it holds no recipe; nanophantom verify "
                "tells more"
            )
        return recipe

    def signal(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Return frames ``start`` to ``stop - 1`` of a measured signal, shape (frames, ...).

        A signal that not all frames hold counts its own, from 0.

        Raises
        ------
        ValueError
            There is no such signal, or some of these frames don't exist, aren't made yet, or are
            damaged.
        """
        self._require_signal(name)
        own = self.layout.frames_of(name)
        return self._frames(name, start, stop, Layout.measured_file, own)

    def measured(self, start: int = 0, stop: int | None = None) -> Measured:
        """Return what an analysis may see: signals and nominal settings, no truth.

        A signal of more than 256 MB is not read here: its data are read from disk as they are
        sliced along the frames (`StoredFrames`).
        """
        signals = {}
        for name, spec in self.layout.signals.items():
            frames = range(len(self.layout.frames_of(name)))[start:stop]
            size = len(frames) * math.prod(spec.shape) * np.dtype(spec.dtype).itemsize
            stored = StoredFrames(self, name, frames)
            large = size > READ_AT_ONCE_BYTES
            data = stored if large else self.signal(name, frames.start, frames.stop)
            axes = (Axis("frame", 1.0, "", float(start)), *spec.axes)
            signals[name] = Field(cast(Array, data), axes, spec.unit)
        return Measured(signals=signals, settings=self.settings)

    @cached_property
    def truth_tables(self) -> tuple[str, ...]:
        """Names of the truth tables of the whole run (ValueError: not written yet)."""
        if layout.RUN_TRUTH not in self._manifest:
            raise ValueError(f"{self.path} has no {layout.RUN_TRUTH}; {self._what_to_do}")
        with arrays.open_file(self.path / layout.RUN_TRUTH) as file:
            return tuple(file)

    def truth(self, table: str) -> dict[str, Array]:
        """Return one truth table: arrays by name, with units in the names.

        Raises
        ------
        ValueError
            There is no such table.
        """
        if table not in self.truth_tables:
            raise ValueError(
                f"{self.path} has no truth table {table!r}; it has {', '.join(self.truth_tables)}"
            )
        with arrays.open_file(self.path / layout.RUN_TRUTH) as file:
            return arrays.read_table(file[table])

    @cached_property
    def frame_truth_names(self) -> tuple[str, ...]:
        """Names of the truth that each frame has of its own."""
        self._require_shard(0)
        with arrays.open_file(self.path / Layout.truth_file(0)) as file:
            own = tuple(name for name in file if isinstance(file[name], h5py.Dataset))
        elsewhere = self.layout.ideals if self.layout.stores_ideal else ()
        return tuple(dict.fromkeys((*own, *elsewhere)))

    @cached_property
    def frame_tables(self) -> tuple[str, ...]:
        """Names of the tables that frames have, of a length of their own."""
        names: dict[str, None] = {}
        for shard in {0, self.layout.n_shards - 1}:
            self._require_shard(shard)
            with arrays.open_file(self.path / Layout.truth_file(shard)) as file:
                names |= {name: None for name in file if isinstance(file[name], h5py.Group)}
        return tuple(names)

    def frame_table(self, name: str, start: int = 0, stop: int | None = None) -> dict[str, Array]:
        """Return a table of frames ``start`` to ``stop - 1``, whose column ``frame`` tells which.

        Raises
        ------
        ValueError
            There is no such table, or some of these frames can't be had.
        """
        if name not in self.frame_tables:
            known = ", ".join(self.frame_tables) or "none"
            raise ValueError(f"{self.path} has no frame table {name!r}; it has {known}")
        stop = self.n_frames if stop is None else stop
        pieces = []
        for shard in self._shards(start, stop):
            with arrays.open_file(self.path / Layout.truth_file(shard)) as file:
                if name in file:
                    table = arrays.read_table(file[name])
                    here = slice(*np.searchsorted(table["frame"], (start, stop)))
                    pieces.append({column: values[here] for column, values in table.items()})
        if not pieces:  # none of these frames has it
            return {"frame": np.zeros(0, np.int32)}
        return {column: np.concatenate([p[column] for p in pieces]) for column in pieces[0]}

    def frame_truth(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Return frames ``start`` to ``stop - 1`` of a frame truth, shape (frames, ...).

        Raises
        ------
        ValueError
            There is no such frame truth, or some of these frames can't be had.
        """
        if name not in self.frame_truth_names:
            known = ", ".join(self.frame_truth_names) or "none"
            raise ValueError(f"{self.path} has no frame truth {name!r}; it has {known}")
        own = self.layout.range_of(name)
        return self._frames(name, start, stop, Layout.truth_file, own)

    def ideal(self, signal: str, i: int, acquisition: Acquisition | None = None) -> Array:
        """Return the noise-free expectation of one frame of a signal.

        Parameters
        ----------
        acquisition
            Makes the frame again where the dataset doesn't store its noise-free images.

        Raises
        ------
        ValueError
            The signal has no noise-free counterpart, or it isn't stored and no acquisition is
            given.
        """
        self._require_signal(signal)
        name = self.layout.signals[signal].ideal
        if name is None:
            raise ValueError(f"signal {signal!r} has no noise-free counterpart")
        if self.layout.stores_ideal:
            ideal: Array = self.frame_truth(name, i, i + 1)[0]
            return ideal
        if acquisition is None:
            raise ValueError(
                f"{self.path} does not store noise-free frames; hand over the acquisition of its "
                "recipe to have them made again"
            )
        frame = self.layout.frames_of(signal)[i]
        return np.asarray(acquisition.expose(frame).truth[name])

    @property
    def _what_to_do(self) -> str:
        """The remedy for a file that the manifest doesn't list."""
        return "nanophantom verify tells more" if self.complete else "resume the run"

    def _require_signal(self, name: str) -> None:
        if name not in self.layout.signals:
            raise ValueError(
                f"{self.path} has no signal {name!r}; it has {', '.join(self.signals)}"
            )

    def _require_shard(self, shard: int) -> None:
        for file in (Layout.measured_file(shard), Layout.truth_file(shard)):
            if file not in self._manifest:
                frames = self.layout.frames(shard)
                raise ValueError(
                    f"{self.path} lacks frames {frames.start} to {frames.stop - 1}: {file} isn't "
                    f"in {layout.MANIFEST}; {self._what_to_do}"
                )

    def _shards(self, start: int, stop: int) -> range:
        """Return the shards that hold some frames, all of them finished."""
        if not 0 <= start <= stop <= self.n_frames:
            raise ValueError(
                f"frames {start} to {stop} asked for; {self.path} has frames 0 to {self.n_frames}"
            )
        length = self.layout.shard_frames
        first = min(start, self.n_frames - 1) // length
        shards = range(first, max(first + 1, -(-stop // length)))
        for shard in shards:
            self._require_shard(shard)
        return shards

    def _frames(
        self, name: str, start: int, stop: int | None, file_of: Callable[[int], str], own: range
    ) -> Array:
        """Read frames of what the frames ``own`` hold, counted from the first of those."""
        stop = len(own) if stop is None else stop
        if not 0 <= start <= stop <= len(own):
            raise ValueError(
                f"frames {start} to {stop} asked for; {self.path} has frames 0 to {len(own)}"
            )
        start, stop = start + own.start, stop + own.start
        pieces = []
        for shard in self._shards(start, stop):
            begin = max(self.layout.frames(shard).start, own.start)
            path = self.path / file_of(shard)
            with arrays.open_file(path) as file:
                try:
                    pieces.append(arrays.read(file[name], max(0, start - begin), stop - begin))
                except (OSError, KeyError) as problem:
                    raise ValueError(f"{path} is damaged: {problem}") from problem
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


class StoredFrames:
    """A signal of a dataset that is read from disk where it is sliced along its frames.

    It stands where a large array would: ``len``, ``shape``, ``dtype``, ``frames[100:200]``,
    iteration, and `numpy.asarray`, which reads it all.
    """

    def __init__(self, dataset: Dataset, signal: str, frames: range) -> None:
        spec = dataset.layout.signals[signal]
        self._dataset, self._signal, self._frames = dataset, signal, frames
        self.shape = (len(frames), *spec.shape)
        self.dtype = np.dtype(spec.dtype)
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, key: Any) -> Array:
        first, rest = (key[0], key[1:]) if isinstance(key, tuple) else (key, ())
        if isinstance(first, int | np.integer):
            at = self._frames[int(first)]
            image = self._dataset.signal(self._signal, at, at + 1)[0]
            return np.asarray(image[rest]) if rest else image
        if not isinstance(first, slice):
            raise TypeError("frames on disk are read by number or slice; numpy.asarray reads all")
        wanted = self._frames[first]
        if not len(wanted):
            return np.zeros((0, *self.shape[1:]), self.dtype)
        low, high = min(wanted[0], wanted[-1]), max(wanted[0], wanted[-1]) + 1
        frames = self._dataset.signal(self._signal, low, high)[:: abs(wanted.step)]
        frames = frames if wanted.step > 0 else frames[::-1]
        return np.asarray(frames[(slice(None), *rest)]) if rest else frames

    def __iter__(self) -> Iterator[Array]:
        block = max(1, 16_000_000 // max(1, math.prod(self.shape[1:]) * self.dtype.itemsize))
        for start in range(0, len(self), block):
            yield from self[start : start + block]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("frames on disk can't be had as an array without a copy")
        return np.asarray(self[:], dtype)

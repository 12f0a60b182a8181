"""Reading a dataset; what isn't there raises, it never reads as zeros."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from nanophantom.simcore.fields import Array, Axis, Field, Measured
from nanophantom.simcore.runs import Acquisition
from nanophantom.simcore.store import arrays, layout, manifest
from nanophantom.simcore.store.layout import Layout


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

        Raises
        ------
        ValueError
            There is no such signal, or some of these frames don't exist, aren't made yet, or are
            damaged.
        """
        self._require_signal(name)
        return self._frames(name, start, stop, Layout.measured_file)

    def measured(self, start: int = 0, stop: int | None = None) -> Measured:
        """Return what an analysis may see: signals and nominal settings, no truth."""
        return Measured(
            signals={
                name: Field(
                    self.signal(name, start, stop),
                    (Axis("frame", 1.0, "", float(start)), *spec.axes),
                    spec.unit,
                )
                for name, spec in self.layout.signals.items()
            },
            settings=self.settings,
        )

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
            return tuple(file)

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
        return self._frames(name, start, stop, Layout.truth_file)

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
        return np.asarray(acquisition.expose(i).truth[name])

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

    def _frames(
        self, name: str, start: int, stop: int | None, file_of: Callable[[int], str]
    ) -> Array:
        stop = self.n_frames if stop is None else stop
        if not 0 <= start <= stop <= self.n_frames:
            raise ValueError(
                f"frames {start} to {stop} asked for; {self.path} has frames 0 to {self.n_frames}"
            )
        length = self.layout.shard_frames
        first = min(start, self.n_frames - 1) // length
        pieces = []
        for shard in range(first, max(first + 1, -(-stop // length))):
            self._require_shard(shard)
            begin = self.layout.frames(shard).start
            path = self.path / file_of(shard)
            with arrays.open_file(path) as file:
                try:
                    pieces.append(arrays.read(file[name], max(0, start - begin), stop - begin))
                except (OSError, KeyError) as problem:
                    raise ValueError(f"{path} is damaged: {problem}") from problem
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

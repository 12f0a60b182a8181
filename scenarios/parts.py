"""An acquisition's shared parts: made on any worker, kept in files until the dataset is done."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np

from nanophantom.simcore import parallel
from nanophantom.simcore.fields import Array
from nanophantom.simcore.runs import Acquisition, Parts
from nanophantom.simcore.store.files import write_whole

Progress = Callable[[str, int, int], None]
"""Called with what is being made, how many are done and how many there are."""


def make_parts(folder: Path, acquisition: Acquisition, workers: int, progress: Progress) -> Parts:
    """Make the shared parts that aren't kept yet, each in a file of its own; return them all."""
    wanted = acquisition.parts()
    if not wanted:
        return {}
    folder.mkdir(exist_ok=True)
    todo = [name for name in wanted if not _part_file(folder, name).exists()]
    done = len(wanted) - len(todo)
    progress("shared work", done, len(wanted))
    tasks = (functools.partial(_make_part, wanted[name], folder, name) for name in todo)
    with closing(parallel.run_tasks(tasks, workers, total=len(todo))) as finished:
        for _ in finished:
            done += 1
            progress("shared work", done, len(wanted))
    return KeptParts(folder, tuple(wanted))


def _part_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.npz"


def _make_part(make_it: Callable[[], Mapping[str, Array]], folder: Path, name: str) -> None:
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **dict(make_it()))
    write_whole(_part_file(folder, name), content.getvalue())


class KeptParts(Mapping[str, Mapping[str, Array]]):
    """Parts in files, read when they are asked for."""

    def __init__(self, folder: Path, names: tuple[str, ...]) -> None:
        self._folder, self._names = folder, names

    def __getitem__(self, name: str) -> Mapping[str, Array]:
        if name not in self._names:
            raise KeyError(name)
        with np.load(_part_file(self._folder, name), allow_pickle=False) as kept:
            return dict(kept)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

"""Writing a dataset: shards on the workers, the manifest in the parent."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nanophantom.simcore.fields import Array, Table
from nanophantom.simcore.runs import Acquisition, Frame, joined
from nanophantom.simcore.store import arrays, files, layout, manifest
from nanophantom.simcore.store.layout import Layout
from nanophantom.simcore.store.manifest import Entry
from nanophantom.simcore.store.master import master_image

_VERSIONS_OF = ("nanophantom", "numpy", "scipy", "numba", "pyfftw", "h5py")


@dataclass(frozen=True)
class Receipt:
    """What a worker hands back for a shard: the manifest's lines for its two files."""

    shard: int
    entries: tuple[Entry, Entry]


@dataclass(frozen=True)
class ShardWriter:
    """The part of a writer that travels to the workers: a folder and its layout."""

    path: Path
    layout: Layout

    def kept(self, frame: Frame) -> Frame:
        """Return a frame without the noise-free images that aren't stored, to save memory."""
        if self.layout.stores_ideal:
            return frame
        left_out = set(self.layout.ideals)
        truth = {name: values for name, values in frame.truth.items() if name not in left_out}
        return replace(frame, truth=truth)

    def write(self, shard: int, frames: Sequence[Frame]) -> Receipt:
        """Write a shard's measured signals and its truth, each as a whole file or not at all.

        Raises
        ------
        ValueError
            The frames are not those of this shard, or not what the acquisition declared.
        OSError
            The disk is full, say; what is in the manifest stays good.
        """
        wanted = self.layout.frames(shard)
        if [frame.index for frame in frames] != list(wanted):
            raise ValueError(f"shard {shard} holds frames {wanted.start} to {wanted.stop - 1}")
        measured = self._measured(frames)
        truth, tables = self._truth(frames), self._tables(frames)
        return Receipt(
            shard,
            (
                self._write(Layout.measured_file(shard), measured, wanted),
                self._write(Layout.truth_file(shard), truth, wanted, tables),
            ),
        )

    def _measured(self, frames: Sequence[Frame]) -> dict[str, Array]:
        for frame in frames:
            wanted = {n for n in self.layout.signals if frame.index in self.layout.frames_of(n)}
            if set(frame.signals) != wanted:
                raise ValueError(
                    f"frame {frame.index} has signals {sorted(frame.signals)}; the acquisition "
                    f"declared {sorted(wanted)}"
                )
            for name, values in frame.signals.items():
                spec, array = self.layout.signals[name], np.asarray(values)
                if array.shape != spec.shape or array.dtype != np.dtype(spec.dtype):
                    raise ValueError(
                        f"frame {frame.index}: signal {name!r} is {array.dtype} {array.shape}; the "
                        f"acquisition declared {spec.dtype} {spec.shape}"
                    )
        return {
            name: np.stack(held)
            for name in self.layout.signals
            if (held := [f.signals[name] for f in frames if name in f.signals])
        }

    def _truth(self, frames: Sequence[Frame]) -> dict[str, Array]:
        left_out = () if self.layout.stores_ideal else self.layout.ideals
        names = set(frames[0].truth) - set(self.layout.ideals)
        stacks = {}
        for frame in frames:
            due = {n for n in self.layout.ideals if frame.index in self.layout.range_of(n)}
            missing = due - set(left_out) - set(frame.truth)  # what is left out may be gone
            if missing:
                raise ValueError(f"frame {frame.index} has no noise-free {sorted(missing)}")
            if set(frame.truth) - set(self.layout.ideals) != names:
                raise ValueError(
                    f"frame {frame.index} has other truth than frame {frames[0].index}"
                )
        for name in sorted((names | set(self.layout.ideals)) - set(left_out)):
            layout.check_name(name, "frame truth")
            each = [np.asarray(frame.truth[name]) for frame in frames if name in frame.truth]
            if len({array.shape for array in each}) > 1:
                raise ValueError(
                    f"frame truth {name!r} changes its shape from frame to frame; what has a "
                    "length of its own in every frame belongs into a frame table"
                )
            if each:
                stacks[name] = np.stack(each)
        return stacks

    def _tables(self, frames: Sequence[Frame]) -> dict[str, dict[str, Array]]:
        """Join the frames' tables, each row with the number of its frame."""
        names = sorted({name for frame in frames for name in frame.tables})
        return {
            name: joined([(f.index, f.tables[name]) for f in frames if name in f.tables])
            for name in names
        }

    def _write(
        self,
        file: str,
        stacks: Mapping[str, Array],
        frames: range,
        tables: Mapping[str, Table] | None = None,
    ) -> Entry:
        def fill(hdf5: h5py.File) -> None:
            for name, stack in stacks.items():
                arrays.write_stack(hdf5, name, stack)
            if tables:
                arrays.write_tables(hdf5, tables)

        image = arrays.file_image(fill)
        files.write_whole(self.path / file, image)
        sums = {name: arrays.total(stack) for name, stack in stacks.items()}
        return manifest.describe(file, image, (frames.start, frames.stop), sums)


class DatasetWriter:
    """A dataset folder that is being filled.

    The parent holds it, sends :attr:`shards` to the workers, and calls :meth:`record` with each
    receipt, and :meth:`finish` at the end. One process at a time may hold a folder.
    """

    def __init__(self, path: Path, plan: Layout, entries: manifest.Manifest) -> None:
        self.path = path
        self.layout = plan
        self.shards = ShardWriter(path, plan)
        self._manifest = entries
        self._lock = _lock(path)

    @classmethod
    def create(
        cls,
        path: Path | str,
        acquisition: Acquisition,
        recipe_yaml: str,
        inputs: Iterable[Path] = (),
        *,
        shard_frames: int | None = None,
        store_ideal: bool | None = None,
        wisdom: bytes = b"",
    ) -> DatasetWriter:
        """Start a dataset with what is known before anything is computed.

        Parameters
        ----------
        path
            A folder that doesn't exist yet.
        inputs
            Files that the recipe refers to; copied into the dataset.
        shard_frames, store_ideal
            See :func:`~nanophantom.simcore.store.layout.plan_layout`.
        wisdom
            The FFT plans this dataset is made with; a resumed run uses the same.

        Raises
        ------
        ValueError
            The path exists, or the acquisition declares what can't be stored.
        """
        path = Path(path)
        plan = layout.plan_layout(acquisition, shard_frames, store_ideal)
        contents = {layout.RECIPE: recipe_yaml.encode(), **_input_files(inputs)}
        entries = {file: manifest.describe(file, data) for file, data in contents.items()}
        with files.new_folder(path) as folder:
            for name in ("shards", "truth", layout.INPUTS):
                (folder / name).mkdir()
            for file, data in contents.items():
                files.write_whole(folder / file, data)
            files.write_whole(folder / layout.WISDOM, wisdom)
            manifest.write_manifest(folder, entries)
            files.write_whole(folder / layout.DATASET, _header(plan).encode())
        return cls(path, plan, entries)

    @classmethod
    def resume(
        cls, path: Path | str, recipe_yaml: str, inputs: Iterable[Path] = ()
    ) -> DatasetWriter:
        """Reopen a dataset whose making was interrupted; what was finished and is whole is kept.

        Parameters
        ----------
        inputs
            Files that the recipe refers to, which must be those that the dataset was started with.

        Raises
        ------
        ValueError
            There is nothing to resume, the recipe or an input is another one, the format is
            unknown, another process is writing, or the dataset's copy of an input was altered.
        """
        path = Path(path)
        _require_started(path)
        plan = Layout.from_json(layout.read_header(path))
        if layout.read_recipe(path) != recipe_yaml:
            raise ValueError(
                f"{path} was started with another recipe; resume with {path / layout.RECIPE}, or "
                "name another folder (-o)"
            )
        writer = cls(path, plan, manifest.read_manifest(path))
        try:
            writer._keep_what_is_whole()
            writer._require_unchanged(inputs)
        except BaseException:
            writer.close()
            raise
        return writer

    def _keep_what_is_whole(self) -> None:
        for leftover in files.leftovers(self.path):
            leftover.unlink(missing_ok=True)
        for entry in list(self._manifest.values()):
            problem = entry.problem(self.path)
            if problem and entry.file.startswith((layout.RECIPE, layout.INPUTS)):
                raise ValueError(f"{self.path}: {problem}; start again in another folder (-o)")
            if problem:
                del self._manifest[entry.file]
        manifest.write_manifest(self.path, self._manifest)

    def _require_unchanged(self, inputs: Iterable[Path]) -> None:
        for source in map(Path, inputs):
            kept = self._manifest.get(_input_name(source))
            if kept is None or kept.sha256 != files.sha256(_contents(source)):
                raise ValueError(
                    f"{source} has changed since this dataset was started; put the old file back, "
                    "or name another folder (-o)"
                )

    @property
    def missing(self) -> tuple[int, ...]:
        """Shards still to be made: a shard counts when both its files are in the manifest."""
        return tuple(
            shard
            for shard in range(self.layout.n_shards)
            if Layout.measured_file(shard) not in self._manifest
            or Layout.truth_file(shard) not in self._manifest
        )

    @property
    def has_truth(self) -> bool:
        """Whether the truth of the whole run is written."""
        return layout.RUN_TRUTH in self._manifest

    @property
    def wisdom(self) -> bytes:
        """The FFT plans that this dataset is made with."""
        return (self.path / layout.WISDOM).read_bytes()

    def write_truth(self, tables: Mapping[str, Table]) -> None:
        """Write the truth of the whole run: the acquisition's tables, and the specimen's.

        Raises
        ------
        ValueError
            A name is unfit, or a column holds neither numbers nor text.
        """
        image = arrays.file_image(lambda file: arrays.write_tables(file, tables))
        files.write_whole(self.path / layout.RUN_TRUTH, image)
        self._append([manifest.describe(layout.RUN_TRUTH, image)])

    def write_shard(self, shard: int, frames: Sequence[Frame]) -> Receipt:
        """Write a shard here; on a worker, call ``shards.write``."""
        return self.shards.write(shard, frames)

    def record(self, receipt: Receipt) -> None:
        """Note a finished shard; from here on it survives whatever happens."""
        self._append(receipt.entries)

    def _append(self, entries: Sequence[Entry]) -> None:
        manifest.append(self.path, entries)
        self._manifest.update({entry.file: entry for entry in entries})

    def finish(self, provenance: Mapping[str, Any] | None = None) -> None:
        """Write the index over the shards, the manifest in order, and mark the dataset complete.

        Parameters
        ----------
        provenance
            Added to the versions of the packages: wisdom hash, seconds, and the like.

        Raises
        ------
        ValueError
            Shards or the truth of the run are missing.
        """
        if not self.has_truth:
            raise ValueError(f"{self.path} still lacks {layout.RUN_TRUTH}; resume the run")
        if self.missing:
            raise ValueError(f"{self.path} still lacks shards {list(self.missing)}; resume the run")
        image = master_image(self.layout)
        files.write_whole(self.path / layout.MASTER, image)
        self._manifest[layout.MASTER] = manifest.describe(layout.MASTER, image)
        story = layout.dump_json({"versions": versions(), **(provenance or {})})
        files.write_whole(self.path / layout.PROVENANCE, story.encode())
        checksum = manifest.write_manifest(self.path, self._manifest)
        header = _header(self.layout, manifest_sha256=checksum)
        files.write_whole(self.path / layout.DATASET, header.encode())
        self.close()

    def close(self) -> None:
        """Let another process write to the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def versions() -> dict[str, str]:
    """Return the versions of what decides about the bytes of a dataset."""
    found = {"python": sys.version.split()[0], "hdf5": h5py.version.hdf5_version}
    for package in _VERSIONS_OF:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _header(plan: Layout, manifest_sha256: str | None = None) -> str:
    """``dataset.json``: when complete it seals the manifest, which seals all other files."""
    state = {"complete": manifest_sha256 is not None, "manifest_sha256": manifest_sha256}
    head = {"format": layout.FORMAT, "version": layout.VERSION}
    return layout.dump_json(head | state | plan.to_json())


def _input_files(inputs: Iterable[Path]) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    for source in map(Path, inputs):
        file, data = _input_name(source), _contents(source)
        if contents.setdefault(file, data) != data:
            raise ValueError(f"two different input files are called {source.name}; rename one")
    return contents


def _input_name(source: Path) -> str:
    return f"{layout.INPUTS}/{source.name}"


def _contents(source: Path) -> bytes:
    try:
        return source.read_bytes()
    except OSError as problem:
        raise ValueError(f"input file {source} can't be read; is it there?") from problem


def _require_started(path: Path) -> None:
    """Tell what can be resumed from what can't."""
    if not path.exists():
        raise ValueError(f"{path} doesn't exist, so there is nothing to resume")
    if (path / layout.CORPUS).is_file():
        raise ValueError(f"{path} is a corpus; resume it with its --count")
    if not (path / layout.DATASET).is_file():
        raise ValueError(f"{path} holds no dataset that was started; name another folder (-o)")


def _lock(path: Path) -> int | None:
    """Lock a folder for this process, where the system can; the lock dies with the process."""
    try:
        import fcntl
    except ImportError:  # pragma: no cover - Windows
        return None
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as problem:
        os.close(descriptor)
        raise ValueError(f"another process is writing to {path}; wait until it ends") from problem
    except OSError:  # a file system without locks
        pass
    return descriptor

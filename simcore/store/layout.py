"""What a dataset folder holds, known before the first frame is made: ``dataset.json``."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nanophantom.simcore.fields import Axis
from nanophantom.simcore.runs import Acquisition, SignalSpec

FORMAT = "nanophantom-dataset"
CORPUS_FORMAT = "nanophantom-corpus"
VERSION = 1

DATASET, CORPUS, RECIPE = "dataset.json", "corpus.json", "recipe.yaml"
MANIFEST, MASTER, RUN_TRUTH = "manifest.jsonl", "master.emd", "truth/run.h5"
PROVENANCE, WISDOM, INPUTS = "provenance.json", "wisdom", "inputs"

SHARD_BYTES = 16_000_000
"""A shard's frames with their ideals, uncompressed, stay below this."""
SHARDS_WANTED = 32
"""As many shards as keep a good number of workers busy."""
IDEAL_BYTES = 1_000_000_000
"""Noise-free images that take more than this are recomputed on demand, not stored."""
QUICK_SHARDS_WANTED, QUICK_IDEAL_BYTES = 6, 16_000_000
"""The same where frames are made as fast as they are read (`Acquisition.in_threads`)."""


@dataclass(frozen=True)
class Layout:
    """Frames, shards and signals of one dataset."""

    n_frames: int
    shard_frames: int
    signals: Mapping[str, SignalSpec]
    settings: Mapping[str, Any]
    stores_ideal: bool

    @property
    def n_shards(self) -> int:
        """Number of shards; the last one may be shorter."""
        return math.ceil(self.n_frames / self.shard_frames)

    def frames(self, shard: int) -> range:
        """Return the frames of one shard."""
        start = shard * self.shard_frames
        return range(start, min(start + self.shard_frames, self.n_frames))

    @staticmethod
    def measured_file(shard: int) -> str:
        """Return the file of a shard's signals, relative to the dataset."""
        return f"shards/{shard:06d}.h5"

    @staticmethod
    def truth_file(shard: int) -> str:
        """Return the file of a shard's frame truth, relative to the dataset."""
        return f"truth/{shard:06d}.h5"

    def frames_of(self, signal: str) -> range:
        """Return the frames that hold a signal."""
        own = self.signals[signal].frames
        return range(self.n_frames) if own is None else range(*own)

    def range_of(self, name: str) -> range:
        """Return the frames that hold a signal or a frame truth, an ideal being its signal's."""
        for signal, spec in self.signals.items():
            if name in (signal, spec.ideal):
                return self.frames_of(signal)
        return range(self.n_frames)

    @property
    def ideals(self) -> tuple[str, ...]:
        """Names of the frame truth that is a signal's noise-free expectation."""
        return tuple(spec.ideal for spec in self.signals.values() if spec.ideal is not None)

    def to_json(self) -> dict[str, Any]:
        """Return what ``dataset.json`` says about the layout."""
        return {
            "n_frames": self.n_frames,
            "shard_frames": self.shard_frames,
            "stores_ideal": self.stores_ideal,
            "signals": {name: asdict(spec) for name, spec in self.signals.items()},
            "settings": dict(self.settings),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Layout:
        """Read the layout back from ``dataset.json``."""
        return cls(
            n_frames=data["n_frames"],
            shard_frames=data["shard_frames"],
            signals={
                name: SignalSpec(
                    shape=tuple(spec["shape"]),
                    dtype=spec["dtype"],
                    axes=tuple(Axis(**axis) for axis in spec["axes"]),
                    unit=spec["unit"],
                    ideal=spec["ideal"],
                    frames=tuple(spec["frames"]) if spec.get("frames") else None,
                )
                for name, spec in data["signals"].items()
            },
            settings=data["settings"],
            stores_ideal=data["stores_ideal"],
        )


def plan_layout(
    acquisition: Acquisition, shard_frames: int | None = None, store_ideal: bool | None = None
) -> Layout:
    """Lay out a dataset for an acquisition; the result never depends on the workers.

    Parameters
    ----------
    shard_frames
        Frames a shard; by default shards stay below 16 MB and there are 32 or more of them (6 of
        frames that are made in a moment).
    store_ideal
        Store the noise-free frames; by default if they take less than 1 GB (16 MB where a frame
        is made in a moment).

    Raises
    ------
    ValueError
        There are no frames or signals, a name is unfit, or axes and shape disagree.
    """
    signals = dict(acquisition.signals())
    if acquisition.n_frames < 1 or not signals:
        raise ValueError("a dataset needs at least one frame and one signal")
    frame_bytes = ideal_bytes = 0.0
    for name, spec in signals.items():
        check_name(name, "signal")
        if len(spec.axes) != len(spec.shape):
            raise ValueError(
                f"signal {name!r}: {len(spec.shape)} dimensions, {len(spec.axes)} axes"
            )
        first, stop = spec.frames or (0, acquisition.n_frames)
        if not 0 <= first < stop <= acquisition.n_frames:
            raise ValueError(f"signal {name!r}: no frames {first} to {stop - 1}")
        part = (stop - first) / acquisition.n_frames
        frame_bytes += part * math.prod(spec.shape) * np.dtype(spec.dtype).itemsize
        ideal_bytes += 0 if spec.ideal is None else part * math.prod(spec.shape) * 4
    quick = acquisition.in_threads  # such frames are made as fast as they are read
    if store_ideal is None:
        most = QUICK_IDEAL_BYTES if quick else IDEAL_BYTES
        store_ideal = ideal_bytes * acquisition.n_frames <= most
    if shard_frames is None:
        by_size = int(SHARD_BYTES // max(1, frame_bytes + (ideal_bytes if store_ideal else 0)))
        wanted = QUICK_SHARDS_WANTED if quick else SHARDS_WANTED
        shard_frames = max(1, min(by_size, math.ceil(acquisition.n_frames / wanted)))
    elif shard_frames < 1:
        raise ValueError(f"shard_frames is {shard_frames}; a shard needs at least one frame")
    settings = json.loads(dump_json(dict(acquisition.settings())))
    return Layout(acquisition.n_frames, shard_frames, signals, settings, store_ideal)


def read_header(path: Path) -> dict[str, Any]:
    """Read ``dataset.json`` and make sure that this version can go on.

    Raises
    ------
    ValueError
        The folder is no dataset, is a corpus, or was written in a newer format.
    """
    if (path / CORPUS).is_file():
        raise ValueError(f"{path} is a corpus of several datasets; open one of those in its items/")
    header = read_versioned(path, DATASET, FORMAT, "dataset")
    missing = {"complete", "manifest_sha256", *Layout.__dataclass_fields__} - set(header)
    if missing:
        raise ValueError(f"{path / DATASET} is damaged: it lacks {', '.join(sorted(missing))}")
    return header


def read_versioned(path: Path, file: str, expected: str, what: str) -> dict[str, Any]:
    """Read a JSON file that opens with its format's name and version."""
    try:
        header = json.loads((path / file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise ValueError(
            f"{path} is not a nanophantom {what}: it has no readable {file}"
        ) from problem
    if not isinstance(header, dict) or header.get("format") != expected:
        raise ValueError(f"{path} is not a nanophantom {what}: {file} has another format")
    if header.get("version") != VERSION:
        raise ValueError(
            f"{path} has format version {header.get('version')}, this nanophantom reads version "
            f"{VERSION}; open it with the release that wrote it, or a newer one"
        )
    return header


def read_recipe(path: Path) -> str:
    """Return the recipe that a dataset or a corpus keeps.

    Raises
    ------
    ValueError
        It is missing or unreadable.
    """
    try:
        return (path / RECIPE).read_bytes().decode("utf-8")
    except (OSError, ValueError) as problem:
        raise ValueError(
            f"{path / RECIPE} is missing or damaged; restore it (nanophantom verify tells what "
            "else is wrong)"
        ) from problem


def dump_json(data: Any) -> str:
    """Return readable JSON with numpy's numbers as plain ones; NaN and infinity are refused."""
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise ValueError(f"settings hold numbers, text and lists of them, not {type(value).__name__}")


def check_name(name: str, what: str) -> None:
    """Refuse names that can't be a name in HDF5, a file and a CSV header alike."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        raise ValueError(
            f"{what} name {name!r} must be letters, digits, _ and -, starting with a letter"
        )

"""Integrity: every file is there and unaltered, and the index leads to all of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nanophantom.simcore.store import arrays, files, layout, manifest
from nanophantom.simcore.store.corpus import Corpus
from nanophantom.simcore.store.layout import Layout
from nanophantom.simcore.store.master import signal_path


def verify(path: Path | str) -> list[str]:
    """Check a dataset, or every dataset of a corpus.

    Returns
    -------
    list of str
        The problems, one line each, with file names relative to ``path``; empty when all is well.
    """
    path = Path(path)
    if not (path / layout.CORPUS).is_file():
        return list(_problems(path))
    try:
        corpus = Corpus(path)
    except ValueError as problem:
        return [str(problem)]
    problems = []
    for item in corpus.items:
        name = item.relative_to(path).as_posix()
        if item.is_dir():
            problems += [f"{name}/{problem}" for problem in _problems(item)]
        else:
            problems.append(f"{name}: missing")
    return problems


def _problems(path: Path) -> Iterator[str]:
    try:
        header = layout.read_header(path)
        plan = Layout.from_json(header)
    except ValueError as problem:
        yield f"{layout.DATASET}: {problem}"
        return
    try:
        entries = manifest.read_manifest(path)
    except ValueError as problem:
        yield f"{layout.MANIFEST}: {problem}"
        return
    sealed = header["manifest_sha256"]
    if header["complete"] and files.sha256_of_file(path / layout.MANIFEST) != sealed:
        yield f"{layout.MANIFEST}: altered, its SHA-256 is not the one in {layout.DATASET}"

    broken = set()
    for entry in entries.values():
        problem_found = entry.problem(path)
        if problem_found:
            broken.add(entry.file)
            yield problem_found
    yield from _unlisted(path, entries)
    yield from _frames_missing(plan, entries)
    if not (path / layout.WISDOM).is_file():  # its bytes may differ from machine to machine
        yield f"{layout.WISDOM}: missing"
    if not header["complete"]:
        yield f"{layout.DATASET}: unfinished; resume the run"
    for file in (layout.RECIPE, layout.RUN_TRUTH, layout.MASTER):
        if header["complete"] and file not in entries:
            yield f"{layout.MANIFEST}: does not list {file}"
    if not broken:
        yield from _wrong_contents(path, plan, entries, header["complete"])


def _unlisted(path: Path, entries: manifest.Manifest) -> Iterator[str]:
    for folder in ("shards", "truth", layout.INPUTS):
        for file in sorted((path / folder).rglob("*")):
            name = file.relative_to(path).as_posix()
            if file.is_file() and name not in entries:
                left = " (left by an interrupted run)" if file.suffix == files.LEFTOVER else ""
                yield f"{name}: not in {layout.MANIFEST}{left}"


def _frames_missing(plan: Layout, entries: manifest.Manifest) -> Iterator[str]:
    for shard in range(plan.n_shards):
        frames = plan.frames(shard)
        for file in (Layout.measured_file(shard), Layout.truth_file(shard)):
            if file not in entries:
                yield f"{file}: frames {frames.start} to {frames.stop - 1} are missing"
            elif entries[file].frames != (frames.start, frames.stop):
                yield f"{file}: should hold frames {frames.start} to {frames.stop - 1}"


def _held(own: range, frames: tuple[int, int]) -> int:
    """Count the frames of a shard that hold something."""
    return len(range(max(own.start, frames[0]), min(own.stop, frames[1])))


def _wrong_contents(
    path: Path, plan: Layout, entries: manifest.Manifest, complete: bool
) -> Iterator[str]:
    """Compare sums; a complete dataset is read through its index, which is so checked too."""
    if complete and layout.MASTER in entries:
        with arrays.open_file(path / layout.MASTER) as index:
            for entry in entries.values():
                if entry.frames and entry.file.startswith("shards/"):
                    for name in entry.sums:
                        own = plan.frames_of(name)
                        first, stop = (max(0, f - own.start) for f in entry.frames)
                        stack = arrays.read(index[signal_path(name)], first, stop)
                        if arrays.total(stack) != entry.sums.get(name):
                            yield f"{entry.file}: sum of {name!r} differs read through the index"
    for entry in entries.values():
        if entry.frames is None:
            continue
        with arrays.open_file(path / entry.file) as file:
            for name, expected in entry.sums.items():
                if name not in file:
                    yield f"{entry.file}: {name!r} is missing"
                elif len(file[name]) != _held(plan.range_of(name), entry.frames):
                    yield f"{entry.file}: {name!r} has {len(file[name])} frames"
                elif arrays.total(arrays.read(file[name])) != expected:
                    yield f"{entry.file}: sum of {name!r} differs"

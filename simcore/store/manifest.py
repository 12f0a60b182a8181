"""The manifest: one line for each finished file, so a crash costs what was being written."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nanophantom.simcore.store.files import sha256, sha256_of_file, write_whole
from nanophantom.simcore.store.layout import MANIFEST, RECIPE


@dataclass(frozen=True)
class Entry:
    """One finished file: relative name, checksum, size; for shards frames [a, b) and sums."""

    file: str
    sha256: str
    bytes: int
    frames: tuple[int, int] | None = None
    sums: dict[str, Any] = field(default_factory=dict)

    def problem(self, folder: Path) -> str | None:
        """Say what is wrong with the file on disk, if anything."""
        path = folder / self.file
        if not path.is_file():
            return f"{self.file}: missing"
        if path.stat().st_size != self.bytes:
            return f"{self.file}: altered, {path.stat().st_size} bytes instead of {self.bytes}"
        if sha256_of_file(path) != self.sha256:
            return f"{self.file}: altered, its SHA-256 is not the one in {MANIFEST}"
        return None


def describe(
    file: str,
    contents: bytes,
    frames: tuple[int, int] | None = None,
    sums: dict[str, Any] | None = None,
) -> Entry:
    """Return the entry of a file with these contents."""
    return Entry(file, sha256(contents), len(contents), frames, sums or {})


_REMEDY = f"restore it from a copy, or make the dataset again from its {RECIPE}"

Manifest = dict[str, Entry]
"""Entries by file; of two lines about the same file the later one counts."""


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest; a last line that was cut short by a crash doesn't count.

    Raises
    ------
    ValueError
        There is no manifest, or a line before the last is damaged.
    """
    try:
        *lines, tail = (folder / MANIFEST).read_bytes().split(b"\n")
    except OSError as problem:
        raise ValueError(f"{folder / MANIFEST} is missing or unreadable; {_REMEDY}") from problem
    del tail  # what follows the last newline: nothing, or a torn line
    manifest = {}
    for number, line in enumerate(lines, start=1):
        try:
            data = json.loads(line)
            frames = None if data["frames"] is None else tuple(data["frames"])
            manifest[data["file"]] = Entry(**{**data, "frames": frames})
        except (ValueError, TypeError, KeyError) as problem:
            if number == len(lines):
                break
            raise ValueError(
                f"{folder / MANIFEST}: line {number} is damaged; {_REMEDY}"
            ) from problem
    return manifest


def append(folder: Path, entries: Iterable[Entry]) -> None:
    """Add lines that survive a crash right after; one that fails half-way is taken back."""
    lines = b"".join(_line(entry) for entry in entries)
    with (folder / MANIFEST).open("ab", buffering=0) as file:
        end = file.tell()
        try:
            if file.write(lines) != len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / MANIFEST))
            os.fsync(file.fileno())
        except OSError:
            os.truncate(file.fileno(), end)
            raise


def write_manifest(folder: Path, manifest: Manifest) -> str:
    """Write all lines at once, sorted by file, and return the manifest's SHA-256."""
    contents = b"".join(_line(manifest[file]) for file in sorted(manifest))
    write_whole(folder / MANIFEST, contents)
    return sha256(contents)


def _line(entry: Entry) -> bytes:
    return json.dumps(asdict(entry), allow_nan=False).encode() + b"\n"

"""Whole files or none: atomic writing, checksums, leftovers, free space."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

LEFTOVER = ".tmp"
"""Suffix of a file that is being written; nobody reads one, anybody may remove one."""


def sha256(data: bytes) -> str:
    """Return the SHA-256 of bytes in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's contents in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that a crash leaves either absent (or as it was) or complete.

    The temporary name holds the process id: a worker that outlived its killed parent and the
    worker that redoes its task each finish a file of their own.

    Raises
    ------
    OSError
        The disk is full, say; nothing is left behind.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}{LEFTOVER}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a folder's new names survive a power cut (where the system can)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a folder that appears under its name only when the block has ended well.

    Raises
    ------
    ValueError
        The path exists, or the folder it would stand in doesn't.
    """
    if path.exists() or path.is_symlink():
        raise ValueError(
            f"{path} exists; name another folder (-o), or go on with an unfinished run (--resume)"
        )
    require_folder(path)
    growing = path.with_name(f".{path.name}.starting{LEFTOVER}")
    shutil.rmtree(growing, ignore_errors=True)
    try:
        growing.mkdir()
        yield growing
        growing.rename(path)
    except BaseException:
        shutil.rmtree(growing, ignore_errors=True)
        raise
    sync_folder(path.parent)


def require_folder(path: Path) -> None:
    """Refuse to write to ``path`` if the folder that it would be in isn't there.

    Raises
    ------
    ValueError
        The parent doesn't exist, or is a file.
    """
    if not path.parent.is_dir():
        raise ValueError(f"can't write {path}: there is no folder {path.parent}")


def leftovers(folder: Path) -> Iterator[Path]:
    """Yield what a killed writer left in a dataset folder."""
    yield from sorted(folder.rglob(f"*{LEFTOVER}"))


def free_bytes(path: Path) -> int:
    """Return the free space where ``path`` is, or will be."""
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free


def require_space(path: Path, needed_bytes: int) -> None:
    """Refuse to start what will not fit.

    Raises
    ------
    ValueError
        Less is free at ``path`` than is needed; both numbers are named.
    """
    free = free_bytes(Path(path))
    if needed_bytes > free:
        raise ValueError(
            f"the dataset may take {_readable(needed_bytes)} and {_readable(free)} are free at "
            f"{path}; make fewer or smaller frames, or choose another folder"
        )


def _readable(n_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"

"""Arrays in HDF5: the same bytes for the same contents, text as fixed-length UTF-8."""

from __future__ import annotations

import math
import threading
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nanophantom.simcore.fields import Array, Table
from nanophantom.simcore.store.layout import check_name

_CHUNK_BYTES = 64_000
"""Frames smaller than this share a chunk."""


def file_image(fill: Callable[[h5py.File], None]) -> bytes:
    """Let ``fill`` write an HDF5 file in memory and return its bytes.

    HDF5 that meets a full disk can fail as late as on closing; in memory it can't, and the bytes
    then reach the disk in one write that succeeds or raises. Object times are off in h5py, so
    equal contents give equal bytes.
    """
    name = f"memory {threading.get_ident()}"  # HDF5 opens no name twice
    with h5py.File(name, "w", driver="core", backing_store=False, block_size=1 << 20) as file:
        fill(file)
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def write_stack(group: h5py.Group, name: str, stack: Array) -> None:
    """Write a stack of frames, one frame a chunk, each chunk with its own checksum.

    Counts shrink well under gzip-1 with shuffle, which every HDF5 reader knows and whose stream
    ends in a checksum. The noise in the last bits of floating-point images leaves little to gain,
    so those are stored plain, with HDF5's own checksum.
    """
    stack = storable(stack, name)
    frame_bytes = max(1, stack.dtype.itemsize * math.prod(stack.shape[1:]))
    if stack.size == 0:
        group.create_dataset(name, data=stack)
        return
    frames = min(len(stack), max(1, _CHUNK_BYTES // frame_bytes))
    chunks = (frames, *stack.shape[1:])
    if stack.dtype.kind not in "biu":
        group.create_dataset(name, data=stack, chunks=chunks, fletcher32=True)
        return
    filters: dict[str, Any] = {"shuffle": True, "compression": "gzip", "compression_opts": 1}
    dataset = group.create_dataset(name, stack.shape, stack.dtype, chunks=chunks, **filters)
    for start in range(0, len(stack), frames):
        chunk = _compressed(stack[start : start + frames], frames)
        dataset.id.write_direct_chunk((start,) + (0,) * (stack.ndim - 1), chunk)


def _compressed(frames: Array, of_chunk: int) -> bytes:
    """Shuffle and deflate a chunk as HDF5 does it.

    HDF5 would do it under a lock that stops all other threads; zlib lets them work. Of noisy
    counts nothing repeats itself but the empty high bytes: looking for runs alone takes half the
    time of looking for strings, and leaves less.
    """
    whole = frames
    if len(frames) < of_chunk:  # the last chunk is a whole one too
        whole = np.zeros((of_chunk, *frames.shape[1:]), frames.dtype)
        whole[: len(frames)] = frames
    single_bytes = np.ascontiguousarray(whole).view(np.uint8).reshape(-1, whole.dtype.itemsize)
    deflate = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    return deflate.compress(single_bytes.T.tobytes()) + deflate.flush()


def write_tables(group: h5py.Group, tables: Mapping[str, Table]) -> None:
    """Write truth tables: a group a table, an array of any shape a column."""
    for table, columns in sorted(tables.items()):
        check_name(table, "truth table")
        inside = group.create_group(table, track_order=True)
        for column, values in columns.items():
            check_name(column, f"{table}:")
            inside.create_dataset(column, data=storable(np.asarray(values), f"{table}.{column}"))


def storable(array: Array, name: str) -> Array:
    """Return the array in a type that HDF5 knows.

    Raises
    ------
    ValueError
        It holds something else than numbers, truth values, bytes and text.
    """
    if array.dtype.kind == "O" and all(isinstance(item, str) for item in array.flat):
        array = array.astype(np.str_)
    if array.dtype.kind == "U":
        encoded = np.char.encode(array, "utf-8") if array.size else np.empty(array.shape, "S1")
        return encoded.astype(h5py.string_dtype("utf-8", max(1, encoded.dtype.itemsize)))
    if array.dtype.kind not in "biufcS":
        raise ValueError(f"{name} holds {array.dtype}; numbers, booleans, bytes or text are stored")
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def read(dataset: h5py.Dataset, start: int = 0, stop: int | None = None) -> Array:
    """Read (a range of the first axis of) an array; text comes back as text."""
    array = np.asarray(dataset[()] if dataset.ndim == 0 else dataset[start:stop])
    text = h5py.check_string_dtype(dataset.dtype)
    if text is None or text.encoding != "utf-8":
        return array
    return np.char.decode(array, "utf-8") if array.size else np.empty(array.shape, "U1")


def read_table(group: h5py.Group) -> dict[str, Array]:
    """Read one truth table."""
    return {column: read(group[column]) for column in group}


def open_file(path: Path) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises
    ------
    ValueError
        The file is missing or damaged.
    """
    try:
        return h5py.File(path, "r")
    except OSError as problem:
        raise ValueError(
            f"{path} is missing or damaged; nanophantom verify tells more"
        ) from problem


def total(stack: Array) -> int | float | list[float] | None:
    """Return the sum over a stack, to be compared when it is read again.

    Integers are summed exactly (modulo 2^64), floating-point numbers in double precision. Text,
    and sums that are not finite, give None.
    """
    if stack.dtype.kind in "bu":
        return int(stack.sum(dtype=np.uint64))
    if stack.dtype.kind == "i":
        return int(stack.sum(dtype=np.int64))
    if stack.dtype.kind not in "fc":
        return None
    value = complex(stack.sum(dtype=np.complex128 if stack.dtype.kind == "c" else np.float64))
    if not np.isfinite(value):
        return None
    return [value.real, value.imag] if stack.dtype.kind == "c" else value.real

"""Stacks of images on their way to TIFF and MRC files, some frames at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mrcfile
import numpy as np
import tifffile

from nanophantom.simcore import units
from nanophantom.simcore.fields import Array, Axis
from nanophantom.simcore.store import Dataset

_TIFF_TYPES = ("uint8", "uint16", "float32")
"""What ImageJ reads."""
_MRC_TYPES = ("int8", "int16", "uint16", "float32")
_BLOCK_BYTES = 16_000_000
"""Of frames, read at a time."""


@dataclass(frozen=True)
class Stack:
    """Images one after another: (pages, ny, nx), read some at a time."""

    name: str
    shape: tuple[int, int, int]
    dtype: np.dtype[np.generic]
    axes: tuple[Axis, Axis]
    blocks: Callable[[], Iterable[Array]]

    def pages(self, supported: tuple[str, ...]) -> tuple[np.dtype[np.generic], Iterator[Array]]:
        """Return a type the format has, and the images in it.

        Raises
        ------
        ValueError
            No such type holds the values.
        """
        fits = [np.dtype(s) for s in supported if np.can_cast(self.dtype, s, "safe")]
        if self.dtype == np.float64:
            fits = [np.dtype(np.float32)]  # an image's double precision is not worth a refusal
        if not fits:
            raise ValueError(
                f"{self.name} holds {self.dtype}, which the format can't; it holds "
                f"{', '.join(supported)}"
            )
        images = (page for block in self.blocks() for page in block.reshape(-1, *self.shape[1:]))
        return fits[0], (np.ascontiguousarray(page, dtype=fits[0]) for page in images)


_PIXELS = (Axis("y", 1.0, ""), Axis("x", 1.0, ""))


def stacks(dataset: Dataset) -> list[Stack]:
    """Signals, their noise-free counterparts, and truth columns that are images."""
    stacks = []
    for name, spec in dataset.layout.signals.items():
        if len(spec.shape) < 2:
            continue
        axes = (spec.axes[-2], spec.axes[-1])
        stacks.append(_frame_stack(dataset, name, name, dataset.signal, axes))
        if spec.ideal in dataset.frame_truth_names:
            stacks.append(
                _frame_stack(
                    dataset, f"truth_{spec.ideal}", str(spec.ideal), dataset.frame_truth, axes
                )
            )
    shapes = {spec.shape: spec.axes for spec in dataset.layout.signals.values()}
    for table in dataset.truth_tables:
        for column, values in dataset.truth(table).items():
            if values.ndim >= 2 and values.size and values.dtype.kind in "biuf":
                like = shapes.get(values.shape, _PIXELS)[-2:]
                stacks.append(
                    Stack(
                        f"truth_{table}_{column}",
                        (math.prod(values.shape[:-2]), *values.shape[-2:]),
                        values.dtype,
                        (like[0], like[1]),
                        partial(_one_block, values),
                    )
                )
    return stacks


def _one_block(values: Array) -> Iterable[Array]:
    return (values,)


def _frame_stack(
    dataset: Dataset,
    name: str,
    source: str,
    read: Callable[[str, int, int | None], Array],
    axes: tuple[Axis, Axis],
) -> Stack:
    first = read(source, 0, 1)
    held = len(dataset.layout.range_of(source))
    step = max(1, min(dataset.layout.shard_frames, _BLOCK_BYTES // max(1, first.nbytes)))
    pages = held * math.prod(first.shape[1:-2])

    def blocks() -> Iterator[Array]:
        for start in range(0, held, step):
            yield read(source, start, min(start + step, held))

    return Stack(name, (pages, *first.shape[-2:]), first.dtype, axes, blocks)


def write_tiff(stack: Stack, path: Path) -> None:
    """Write an ImageJ stack with the size of a pixel."""
    dtype, pages = stack.pages(_TIFF_TYPES)
    y, x = stack.axes
    tifffile.imwrite(
        path,
        pages,
        shape=stack.shape,
        dtype=dtype,
        imagej=True,
        resolution=(1 / abs(x.step), 1 / abs(y.step)),
        metadata={"axes": "TYX", "unit": x.unit or "pixel"},
    )


def write_mrc(stack: Stack, path: Path) -> None:
    """Write an MRC stack with the size of a voxel in Å and the statistics of its header."""
    dtype, pages = stack.pages(_MRC_TYPES)
    lowest, highest, total, squares = math.inf, -math.inf, 0.0, 0.0
    with mrcfile.new_mmap(path, stack.shape, mrcfile.utils.mode_from_dtype(dtype)) as mrc:
        mrc.set_image_stack()
        for target, page in zip(mrc.data, pages, strict=True):
            target[...] = page
            lowest, highest = min(lowest, float(page.min())), max(highest, float(page.max()))
            total += float(page.sum(dtype=np.float64))
            squares += float(np.square(page, dtype=np.float64).sum())
        mean = total / math.prod(stack.shape)
        mrc.header.dmin, mrc.header.dmax, mrc.header.dmean = lowest, highest, mean
        mrc.header.rms = math.sqrt(max(0.0, squares / math.prod(stack.shape) - mean**2))
        y, x = (_angstrom(axis) for axis in stack.axes)
        if x is not None and y is not None:
            mrc.voxel_size = (x, y, x)


def _angstrom(axis: Axis) -> float | None:
    """Return the step in Å, None if the axis is no length."""
    step = step_nm(axis)
    return None if step is None else 10 * step


def step_nm(axis: Axis) -> float | None:
    """Return the step in nm, None if the axis is no length."""
    try:
        return abs(units.parse(f"{axis.step!r} {axis.unit}", "step_nm")) if axis.unit else None
    except ValueError:
        return None

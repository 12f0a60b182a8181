"""What the tasks on the loop of a force microscope share: whole maps, and the noise in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PLACES = ("frame", "row", "column")
"""Columns that say which pixel a row of an answer is about."""


def images_of(dataset: Observed, name: str) -> Floats:
    """Return a signal's images, (frames, ny, nx)."""
    return np.asarray(dataset.signal(name, 0, dataset.n_frames), np.float64)


def truth_of(dataset: Observed, name: str) -> Floats:
    """Return a truth of every frame, (frames, ny, nx)."""
    return np.asarray(dataset.frame_truth(name, 0, dataset.n_frames), np.float64)


def rms(values: Floats) -> Floats:
    """Return the root mean square of every frame, (frames,)."""
    return np.asarray(np.sqrt(np.mean(values**2, axis=(1, 2))))


def whole_maps(task: str, found: Mapping[str, Floats], shape: tuple[int, ...]) -> Ints:
    """Return which row of an answer is about which pixel, (frames, ny, nx).

    Raises
    ------
    ValueError
        A pixel is missing, doubled or outside.
    """
    places = [found[name] for name in PLACES]
    for name, place, size in zip(PLACES, places, shape, strict=True):
        if np.any(place != np.rint(place)) or np.any((place < 0) | (place >= size)):
            raise ValueError(f"task {task} wants {name} to be whole, from 0 to {size - 1}")
    index = np.ravel_multi_index(tuple(p.astype(np.int64) for p in places), shape)
    count = np.bincount(index, minlength=int(np.prod(shape)))
    if np.any(count != 1):
        missing, doubled = int(np.sum(count == 0)), int(np.sum(count > 1))
        raise ValueError(
            f"task {task} wants every pixel of every frame once; {missing} are missing and "
            f"{doubled} are there several times"
        )
    return np.argsort(index).reshape(shape)


def of_each_frame(task: str, name: str, values: Floats) -> Floats:
    """Return what an answer says of each frame, (frames,), from maps (frames, ny, nx).

    Raises
    ------
    ValueError
        It says several things of a frame, or something negative.
    """
    first = values[:, 0, 0]
    if np.any(values != first[:, None, None]):
        raise ValueError(f"task {task} wants one {name} a frame, the same in all its rows")
    if np.any(first < 0):
        raise ValueError(f"task {task} wants {name} of 0 or more, got {first.min():g}")
    return np.asarray(first)


def noise_limit_nm(dataset: Observed) -> Floats:
    """Return the noise of a pixel's felt height, both ways averaged, (frames,).

    Felt heights are height + error in contact mode and height - error in tapping; what they differ
    by from the same of the noise-free signals is noise. Its median counts, since noise that makes
    a tip land a pixel later isn't meant.
    """
    sign = 1.0 if dataset.settings["mode"] == "contact" else -1.0
    height, error = (
        images_of(dataset, name) - truth_of(dataset, f"ideal_{name}")
        for name in ("height", "error")
    )
    noise = np.median(np.abs(height + sign * error), axis=(1, 2)) / 0.6745
    return np.asarray(noise / np.sqrt(2))

"""Movies of light microscopes on their way to OME-TIFF, Picasso, ThunderSTORM; and their truth."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from nanophantom.simcore import (
    localization_tables,
    movie_formats,
    picasso_files,
    thunderstorm_files,
)
from nanophantom.simcore.export_images import Stack, stacks, step_nm, write_tiff
from nanophantom.simcore.fields import Table
from nanophantom.simcore.store import Dataset

_EMITTERS = "emissions"
"""The frame table of all that shone."""


def movie_writers(dataset: Dataset, to: str) -> dict[str, Callable[[Path], None]]:
    """Return what writes each file: movies, their settings, the true localizations.

    Raises
    ------
    ValueError
        The dataset holds no images over lengths, or a format can't hold them.
    """
    images = {s.name: s for s in stacks(dataset) if None not in map(step_nm, s.axes)}
    measured = {
        name: images[name]
        for name, spec in dataset.layout.signals.items()
        if len(spec.shape) == 2 and name in images
    }
    if not measured:
        raise ValueError(
            f"{to} holds movies, frames that are images over nm; this dataset has none; export it "
            "to tiff, mrc or csv"
        )
    if to == "ome-tiff":
        ideals = {f"truth_{dataset.layout.signals[name].ideal}" for name in measured}
        movies = [s for name, s in images.items() if name in measured or name in ideals]
        return {f"{s.name}.ome.tif": partial(_write_ome, s, _known_of(s, dataset)) for s in movies}
    writers: dict[str, Callable[[Path], None]] = {}
    for name, stack in measured.items():
        known = _known_of(stack, dataset)
        info = _picasso_info(stack, known)
        if to == "picasso" and movie_formats.has_pixel_maps(known):
            maps = partial(movie_formats.write_picasso_maps, settings=known)
            writers[f"{name}_scmos_calib.hdf5"] = maps
        if to == "picasso":
            writers[f"{name}.raw"] = partial(_write_raw, stack)
            writers[f"{name}.yaml"] = partial(localization_tables.write_yaml, content=info)
        else:
            writers[f"{name}.tif"] = partial(write_tiff, stack)
    first = next(iter(measured.values()))
    pixel_nm = float(_picasso_info(first, dataset.settings)["Pixelsize"])
    if to == "thunderstorm":
        setup = thunderstorm_files.camera_setup(pixel_nm, dataset.settings.get("camera") or {})
        writers["camera.yaml"] = partial(localization_tables.write_yaml, content=setup)
    if _EMITTERS in dataset.frame_tables:
        writers |= _truth_writers(dataset, to, first.shape, pixel_nm)
    return writers


def _truth_writers(
    dataset: Dataset, to: str, shape: tuple[int, int, int], pixel_nm: float
) -> dict[str, Callable[[Path], None]]:
    """Return what writes the true localizations: every emitter that shone in a frame."""
    efficiency = (dataset.settings.get("camera") or {}).get("quantum_efficiency", 1.0)
    origin = {"z": "nm above the focal plane"}
    info = picasso_files.picasso_info(shape[0], shape[1:], pixel_nm, efficiency) | origin
    notes = {**thunderstorm_files.CONVENTIONS, **origin, "pixel_size_nm": pixel_nm}
    focus_nm = float(dataset.settings.get("focus_nm", 0.0))

    def emitters() -> Iterator[Table]:
        for block in in_blocks(dataset, _EMITTERS):
            yield {**block, "z_nm": block["z_nm"] - focus_nm} if "z_nm" in block else block

    def hdf5(path: Path) -> None:
        picasso_files.write_picasso_table(path, emitters(), info)

    def text(path: Path) -> None:
        thunderstorm_files.write_thunderstorm(path, emitters(), pixel_nm)

    picasso = to == "picasso"
    return {
        "truth_locs.hdf5" if picasso else "truth_locs.csv": hdf5 if picasso else text,
        "truth_locs.yaml" if picasso else "truth_locs.csv.yaml": partial(
            localization_tables.write_yaml, content=info if picasso else notes
        ),
    }


def in_blocks(dataset: Dataset, table: str) -> Iterator[Table]:
    """Yield the rows of a frame table, the frames of a shard at a time."""
    step = dataset.layout.shard_frames
    for start in range(0, dataset.n_frames, step):
        block = dataset.frame_table(table, start, min(start + step, dataset.n_frames))
        if len(block) > 1:  # some of these frames have the table
            yield block


def _known_of(stack: Stack, dataset: Dataset) -> dict[str, Any]:
    """Return the settings with the movie's own camera: "camera_2" is that of "movie_2"."""
    number = re.search(r"(_\d+)?$", stack.name)
    own = dataset.settings.get(f"camera{number[0] if number else ''}")
    return {**dataset.settings, "camera": own} if own else dataset.settings


def _pixel_nm(stack: Stack) -> tuple[float, float]:
    y, x = (step_nm(axis) for axis in stack.axes)
    if y is None or x is None:
        raise ValueError(f"{stack.name}: its pixels have no size in nm")
    return y, x


def _write_ome(stack: Stack, settings: Mapping[str, Any], path: Path) -> None:
    dtype, pages = stack.pages(tuple(movie_formats.OME_TYPES))
    movie_formats.write_ome_tiff(
        path, pages, stack.shape, dtype, _pixel_nm(stack), settings, stack.name
    )


def _write_raw(stack: Stack, path: Path) -> None:
    movie_formats.write_raw(path, stack.pages(movie_formats.RAW_TYPES)[1])


def _picasso_info(stack: Stack, settings: Mapping[str, Any]) -> dict[str, Any]:
    dtype, _ = stack.pages(movie_formats.RAW_TYPES)
    return movie_formats.picasso_movie_info(stack.shape, dtype, _pixel_nm(stack), settings)

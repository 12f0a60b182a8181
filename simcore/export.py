"""Single files that other programs open: TIFF and MRC stacks, CSV tables, Gwyddion's maps, movies.

Measured signals keep their names; everything true is called ``truth_...``. Images go to TIFF
or MRC, one file a signal: frames that are images themselves, and truth columns of two or more
dimensions. All else is text: a CSV file a truth table, one row an entry, and ``frames.csv`` and
``truth_frames.csv`` with one row a frame. Height maps and their companions go to .gwy, one file a
frame with all channels, or .gsf, one file a map of heights. Movies of light microscopes go to
OME-TIFF, or with the true emitters of every frame to what Picasso and ThunderSTORM open.
"""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from nanophantom.simcore import height_formats, movie_formats
from nanophantom.simcore.export_images import stacks, write_mrc, write_tiff
from nanophantom.simcore.export_movies import in_blocks, movie_writers
from nanophantom.simcore.fields import Array, Table
from nanophantom.simcore.store import Dataset

FORMATS = ("tiff", "mrc", "csv", "gwy", "gsf", "ome-tiff", "picasso", "thunderstorm")


def export(dataset: Dataset, to: str, out_dir: Path | str) -> list[Path]:
    """Write a dataset's signals and truth as files for other programs.

    Parameters
    ----------
    dataset
        A complete dataset.
    to : {"tiff", "mrc", "csv", "gwy", "gsf", "ome-tiff", "picasso", "thunderstorm"}
        TIFF stacks carry pixel size and unit as ImageJ reads them. MRC stacks carry the voxel
        size in Å; their first row is the first row in memory (y points down), which programs
        that put an MRC's origin at the lower left show upside down. .gwy and .gsf files have
        their values in SI units, as Gwyddion reads them. "picasso" writes .raw movies and
        ``truth_locs.hdf5``, "thunderstorm" TIFF stacks and ``truth_locs.csv``, each with its .yaml.
    out_dir
        Made if it doesn't exist.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    ValueError
        The format is unknown, a target exists, frames are missing, or a type has no counterpart
        in the format.
    """
    out_dir = Path(out_dir)
    writers: dict[str, Callable[[Path], None]]
    if to == "tiff":
        writers = {f"{s.name}.tif": partial(write_tiff, s) for s in stacks(dataset)}
    elif to == "mrc":
        writers = {f"{s.name}.mrc": partial(write_mrc, s) for s in stacks(dataset)}
    elif to == "csv":
        writers = {f"{n}.csv": partial(_write_csv, n, t) for n, t in _tables(dataset).items()}
        for name in dataset.frame_tables:
            writers[f"truth_{name}.csv"] = partial(_write_blocks, partial(in_blocks, dataset, name))
    elif to in ("gwy", "gsf"):
        writers = _map_writers(dataset, to)
    elif to in ("ome-tiff", "picasso", "thunderstorm"):
        writers = movie_writers(dataset, to)
    else:
        raise ValueError(f"there is no export to {to!r}; formats: {', '.join(FORMATS)}")
    taken = [name for name in writers if (out_dir / name).exists()]
    if taken:
        raise ValueError(f"{out_dir} already has {', '.join(taken)}; name another folder (-o)")
    out_dir.mkdir(parents=True, exist_ok=True)
    for name, write in writers.items():
        with _whole_file(out_dir / name) as path:
            write(path)
    return [out_dir / name for name in writers]


# --- Gwyddion's maps ----------------------------------------------------------------------


def _map_writers(dataset: Dataset, to: str) -> dict[str, Callable[[Path], None]]:
    """Return what writes each file: all maps of a frame to .gwy, one map of heights to .gsf.

    Raises
    ------
    ValueError
        The dataset holds no maps over lengths in units that Gwyddion knows.
    """
    specs = {
        name: spec
        for name, spec in dataset.layout.signals.items()
        if len(spec.shape) == 2
        and all(axis.unit == "nm" for axis in spec.axes)
        and spec.unit in height_formats.BASE_UNITS
    }
    if not specs:
        raise ValueError(
            f"{to} holds images of heights, phases and the like over nm; the frames of this "
            "dataset are none; export it to tiff, mrc or csv"
        )
    shape = next(iter(specs.values())).shape
    y, x = next(iter(specs.values())).axes
    size = (abs(y.step), abs(x.step))
    true = {
        f"truth {table} {column.removesuffix('_nm')}": values
        for table in dataset.truth_tables
        for column, values in dataset.truth(table).items()
        if values.shape == shape and column.endswith("_nm")
    }
    digits = len(str(dataset.n_frames - 1))
    told = {name: str(value) for name, value in movie_formats.scalars(dataset.settings)}

    def channels(frame: int) -> dict[str, tuple[Array, tuple[float, float], str]]:
        maps = {}
        for name, spec in specs.items():
            maps[name] = (dataset.signal(name, frame, frame + 1)[0], size, spec.unit)
            if spec.ideal in dataset.frame_truth_names:
                truth = dataset.frame_truth(str(spec.ideal), frame, frame + 1)[0]
                maps[f"truth {spec.ideal}"] = (truth, size, spec.unit)
        return maps | {name: (values, size, "nm") for name, values in true.items()}

    def gwy(frame: int, path: Path) -> None:
        height_formats.write_gwy(path, channels(frame), metadata=told)

    def gsf(frame: int, name: str, path: Path) -> None:
        values, pixel, _ = channels(frame)[name]
        height_formats.write_gsf(path, values, pixel, name)

    frames = range(dataset.n_frames)
    if to == "gwy":
        return {f"frame_{i:0{digits}d}.gwy": partial(gwy, i) for i in frames}
    heights = [name for name, spec in specs.items() if spec.unit == "nm"]
    writers: dict[str, Callable[[Path], None]] = {
        f"{name}_{i:0{digits}d}.gsf": partial(gsf, i, name) for name in heights for i in frames
    }
    return writers | {f"{n.replace(' ', '_')}.gsf": partial(gsf, 0, n) for n in true}


# --- tables --------------------------------------------------------------------------------


def _tables(dataset: Dataset) -> dict[str, dict[str, Array]]:
    """Truth tables, and whatever else has one row a frame."""
    tables = {
        "frames": _rows(dataset, dataset.signals, dataset.signal),
        "truth_frames": _rows(dataset, dataset.frame_truth_names, dataset.frame_truth),
    }
    for table in dataset.truth_tables:
        tables[f"truth_{table}"] = {
            column: np.atleast_1d(values)
            for column, values in dataset.truth(table).items()
            if values.ndim < 2
        }
    return {name: columns for name, columns in tables.items() if columns}


def _rows(
    dataset: Dataset, names: Iterable[str], read: Callable[[str, int, int | None], Array]
) -> dict[str, Array]:
    """Columns of one row a frame: single numbers as they are, curves a column an element."""
    columns: dict[str, Array] = {}
    for name in names:
        dimensions = read(name, 0, 1).ndim - 1
        if dimensions == 0:
            columns[name] = read(name, 0, None)
        elif dimensions == 1:
            curves = read(name, 0, None)
            columns |= {f"{name}_{i}": curves[:, i] for i in range(curves.shape[1])}
    return {"frame": np.arange(dataset.n_frames), **columns} if columns else {}


def _write_csv(name: str, columns: dict[str, Array], path: Path) -> None:
    lengths = {column: len(values) for column, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{name} has columns of unequal lengths, so it has no rows: {lengths}")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        # The shortest text that reads back as the same number; bytes as the text they are.
        writer.writerows(zip(*(_as_text(values) for values in columns.values()), strict=True))


def _write_blocks(blocks: Callable[[], Iterable[Table]], path: Path) -> None:
    """Write a table that comes in blocks of rows."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        for number, block in enumerate(blocks()):
            if number == 0:
                writer.writerow(block)
            writer.writerows(zip(*(_as_text(values) for values in block.values()), strict=True))


def _as_text(values: Array) -> Array:
    return np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values.astype(np.str_)


@contextlib.contextmanager
def _whole_file(path: Path) -> Iterator[Path]:
    """Write under another name; the file appears when it is whole."""
    growing = path.with_name(f".tmp-{path.name}")  # writers may look at the suffix
    try:
        yield growing
        growing.replace(path)
    finally:
        growing.unlink(missing_ok=True)

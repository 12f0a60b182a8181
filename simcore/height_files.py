"""Read heights from files: .gwy and .gsf of Gwyddion, .tif and .npy."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gsffile
import gwyfile
import numpy as np
import numpy.typing as npt
import tifffile
from gwyfile.objects import GwyDataField

from nanophantom.simcore.fields import read_only
from nanophantom.simcore.height_formats import NM_PER

Floats = npt.NDArray[np.float64]
_UNREADABLE = (
    ValueError, KeyError, IndexError, AssertionError, NotImplementedError, EOFError, OSError,
    TypeError, AttributeError, RecursionError, struct.error,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class HeightFile:
    """Heights that were read from a file.

    Attributes
    ----------
    heights_nm
        Shape (ny, nx), finite; write-protected.
    pixel_size_nm
        Extents (y, x) of a pixel, or None where the file doesn't tell.
    name
        Title of the channel; without one the file's name.
    """

    heights_nm: Floats
    pixel_size_nm: tuple[float, float] | None
    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "heights_nm", read_only(self.heights_nm))


def read_height_map(
    path: str | Path, channel: str | int | None = None, height_unit: str | None = None
) -> HeightFile:
    """Read the heights of a surface from a file.

    Parameters
    ----------
    path
        A .gwy, .gsf, .tif, .tiff or .npy file. Pixel sizes come from .gwy, .gsf, and from .tif
        with a scale in centimetres or written by ImageJ; a scale in inches is taken for one of
        print and left alone.
    channel
        Title or number of a channel of a .gwy file; by default the first in units of length.
    height_unit
        Unit of the heights where the file has none; by default nm for .tif and .npy. One of
        `NM_PER`.

    Raises
    ------
    ValueError
        There is no such file or channel, it can't be read, is no map of finite heights, or the
        unit of the heights is missing or no length.
    """
    path = Path(path).expanduser()
    readers = {".gwy": _read_gwy, ".gsf": _read_gsf, ".tif": _read_tif, ".tiff": _read_tif}
    reader = {**readers, ".npy": _read_npy}.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"file: {path.name} is none of .gwy, .gsf, .tif, .tiff, .npy")
    if not path.is_file():
        raise ValueError(f"file: there is no {path}")
    if channel is not None and reader is not _read_gwy:
        raise ValueError(f"channel: {path.name} has no channels to choose from; leave it out")
    if height_unit is not None and height_unit not in NM_PER:
        raise ValueError(f"height_unit: {height_unit!r} is none of {', '.join(NM_PER)}")
    try:
        raw = reader(path, channel)
    except _RefusalError:
        raise
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"file: {path.name} can't be read: {reason}") from None
    where = f"file: {path.name}" if raw.title is None else f"file: {raw.title!r} of {path.name}"
    if raw.values.ndim != 2 or raw.values.size == 0:
        raise ValueError(f"{where} has shape {raw.values.shape}; a map of heights has (ny, nx)")
    if raw.values.dtype.kind not in "fiu":
        raise ValueError(f"{where} holds {raw.values.dtype}, no real numbers")
    heights = raw.values.astype(np.float64)
    lost = int((~np.isfinite(heights)).sum())
    if lost:
        raise ValueError(f"{where} has {lost} heights that aren't finite; fill them in first")
    if raw.unit and height_unit is not None and height_unit != raw.unit:
        raise ValueError(f"height_unit: the heights of {path.name} are in {raw.unit}; leave it out")
    unit = raw.unit or height_unit or ("nm" if reader in (_read_tif, _read_npy) else "")
    if unit not in NM_PER:
        told = f"is in {unit!r}, no unit of length" if unit else "names no unit; give height_unit"
        raise ValueError(f"{where} {told}")
    size = raw.pixel_size_nm
    if size is not None and not (np.isfinite(size).all() and min(size) > 0):
        raise ValueError(f"{where} has pixels of {size[0]:g} x {size[1]:g} nm")
    return HeightFile(NM_PER[unit] * heights, size, raw.title or path.stem)


@dataclass(frozen=True)
class _Raw:
    """What a reader found: values as they stand in the file."""

    values: npt.NDArray[Any]
    pixel_size_nm: tuple[float, float] | None
    unit: str
    title: str | None


class _RefusalError(ValueError):
    """A refusal that already says what is wrong."""


def _read_gwy(path: Path, channel: str | int | None) -> _Raw:
    container = gwyfile.load(str(path))
    found = {
        int(match[1]): (container.get(f"{key}/title"), field)
        for key, field in container.items()
        if (match := re.fullmatch(r"/(\d+)/data", key)) and isinstance(field, GwyDataField)
    }
    if not found:
        raise _RefusalError(f"file: {path.name} holds no image")
    units = {number: _unit(field, "si_unit_z") for number, (_, field) in found.items()}
    listed = ", ".join(
        f"{number} {title or 'untitled'!r} ({units[number] or 'no unit'})"
        for number, (title, _) in sorted(found.items())
    )
    if channel is None:
        lengths = [number for number in sorted(found) if units[number] in NM_PER]
        lengths = lengths or [number for number in sorted(found) if not units[number]]
        if not lengths:
            raise _RefusalError(f"channel: {path.name} has no heights; it has {listed}")
        chosen = lengths[0]
    else:
        wanted = [n for n, (title, _) in found.items() if channel == title]
        wanted = wanted or [n for n in found if str(channel) == str(n)]
        if not wanted:
            raise _RefusalError(f"channel: {path.name} has no {channel!r}; it has {listed}")
        if len(wanted) > 1:
            raise _RefusalError(
                f"channel: {path.name} has several {channel!r}; give a number: {listed}"
            )
        chosen = wanted[0]
    title, field = found[chosen]
    values, across = field.data, _unit(field, "si_unit_xy")
    size = None
    if across in NM_PER and field.xreal is not None and field.yreal is not None:
        ny, nx = values.shape
        size = (NM_PER[across] * field.yreal / ny, NM_PER[across] * field.xreal / nx)
    return _Raw(values, size, units[chosen], title or f"channel {chosen}")


def _unit(field: GwyDataField, which: str) -> str:
    unit = field.get(which)
    return "" if unit is None else str(unit.get("unitstr", "")).strip()


def _read_gsf(path: Path, channel: str | int | None) -> _Raw:
    values, header = gsffile.read_gsf(path)
    across, size = header.get("XYUnits", ""), None
    if across in NM_PER and "XReal" in header and "YReal" in header:
        ny, nx = values.shape
        size = (NM_PER[across] * header["YReal"] / ny, NM_PER[across] * header["XReal"] / nx)
    return _Raw(values, size, header.get("ZUnits", ""), header.get("Title") or None)


def _read_tif(path: Path, channel: str | int | None) -> _Raw:
    with tifffile.TiffFile(path) as file:
        if len(file.pages) != 1:
            raise _RefusalError(f"file: {path.name} holds {len(file.pages)} images, not one")
        page: Any = file.pages[0]
        values, tags = page.asarray(), page.tags
        scale = [tags[name].value for name in ("YResolution", "XResolution") if name in tags]
        unit = ""
        if file.imagej_metadata:
            unit = str(file.imagej_metadata.get("unit", "")).replace("\\u00B5", "µ")
            unit = {"micron": "um", "microns": "um"}.get(unit, unit)
        nm = NM_PER.get(unit)
        if "ResolutionUnit" in tags and int(tags["ResolutionUnit"].value) == 3:
            nm = 1e7  # a centimetre
    size = None
    if nm is not None and len(scale) == 2 and all(pixels and units for pixels, units in scale):
        size = (nm * scale[0][1] / scale[0][0], nm * scale[1][1] / scale[1][0])
    return _Raw(values, size, "", None)


def _read_npy(path: Path, channel: str | int | None) -> _Raw:
    return _Raw(np.load(path, allow_pickle=False), None, "", None)

"""Read a person's own image, with its pixel size where the file tells it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

NM_PER_UNIT = {
    "nm": 1.0,
    "nanometer": 1.0,
    "nanometre": 1.0,
    "pm": 1e-3,
    "picometer": 1e-3,
    "å": 0.1,  # two code points look like this: lower() makes one of the Ångström sign
    "a": 0.1,
    "angstrom": 0.1,
    "ångström": 0.1,
    "µm": 1e3,  # micro sign
    "μm": 1e3,  # Greek mu
    "um": 1e3,
    "micron": 1e3,
    "microns": 1e3,
    "micrometer": 1e3,
    "mm": 1e6,
    "cm": 1e7,
    "m": 1e9,
}
LARGEST_PIXEL_NM = 1e4
"""A resolution tag that makes pixels larger than 10 µm speaks of paper or a screen."""


def read_image(path: str | os.PathLike[str]) -> tuple[Array, float | None]:
    """Read an image, or a stack of images, of one channel.

    Parameters
    ----------
    path : path
        A file ending in .npy, .tif, .tiff, .mrc, .mrcs, .png, .jpg or .jpeg. Colours become
        luminance (ITU-R BT.601); a channel of opacity is left away.

    Returns
    -------
    array : (ny, nx) or (frames, ny, nx)
        The values as stored, in the order stored: row 0 first.
    pixel_size_nm : float or None
        From ImageJ's or OME's calibration, TIFF's resolution in pixels per centimetre, or
        the voxel size of MRC; None where the file doesn't tell.

    Raises
    ------
    ValueError
        If the file is missing, of another kind, damaged, or isn't an image of real numbers
        with square pixels.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(
            f"{path.name}: can't read files of the kind {path.suffix or 'without a suffix'!r}, "
            f"only {', '.join(sorted(READERS))}"
        )
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    try:
        array, size_yx_nm = reader(path)
    except Exception as error:  # each library has its own errors for a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path.name}: can't be read as {path.suffix}: {reason}") from error
    if array.dtype.kind == "b":
        array = array.astype(np.uint8)
    if array.dtype.kind not in "uif":
        raise ValueError(f"{path.name}: an image must hold real numbers, got {array.dtype}")
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ValueError(
            f"{path.name}: an image is (ny, nx), a series (frames, ny, nx), got {array.shape}"
        )
    return array, _square(path, size_yx_nm)


Sizes = tuple[float, float] | None


def _square(path: Path, size_yx_nm: Sizes) -> float | None:
    """Return the width of a square pixel, or refuse another one."""
    if size_yx_nm is None:
        return None
    y, x = size_yx_nm
    if not (np.isfinite(y) and np.isfinite(x) and y > 0 and x > 0):
        return None
    if abs(y - x) > 0.01 * x:
        raise ValueError(
            f"{path.name}: pixels must be square, they are {x:.6g} nm wide and {y:.6g} nm high: "
            "resample the image first"
        )
    return float(np.sqrt(x * y))


def _read_npy(path: Path) -> tuple[Array, Sizes]:
    return np.asarray(np.load(path, allow_pickle=False)), None


def _read_picture(path: Path) -> tuple[Array, Sizes]:
    from PIL import Image

    with Image.open(path) as picture:
        coded = picture.mode in ("P", "PA", "CMYK", "YCbCr")
        array = np.asarray(picture.convert("RGB") if coded else picture)
    if array.ndim == 3:
        return _luminance(array), None
    return array, None


def _read_mrc(path: Path) -> tuple[Array, Sizes]:
    import mrcfile

    with mrcfile.open(path, mode="r") as mrc:
        voxel = mrc.voxel_size
        return np.array(mrc.data), (float(voxel.y) / 10, float(voxel.x) / 10)


def _read_tiff(path: Path) -> tuple[Array, Sizes]:
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        array = np.asarray(series.asarray())
        axes = series.axes
        page = tiff.pages.first
        sizes = _ome_sizes(tiff.ome_metadata) if tiff.is_ome else _tag_sizes(tiff, page)
    if "S" in axes:
        array = _luminance(np.moveaxis(array, axes.index("S"), -1))
    return array, sizes


def _ome_sizes(metadata: str | None) -> Sizes:
    """Return PhysicalSizeY and PhysicalSizeX of the first image of OME-XML (default unit µm)."""
    for element in ElementTree.fromstring(metadata or "<none/>").iter():
        if element.tag.split("}")[-1] == "Pixels" and "PhysicalSizeX" in element.attrib:
            units = [element.get(f"PhysicalSize{axis}Unit", "µm") for axis in "YX"]
            scales = [NM_PER_UNIT.get(unit.strip().lower()) for unit in units]
            if None in scales:
                return None
            x = float(element.attrib["PhysicalSizeX"])
            y = float(element.get("PhysicalSizeY", x))
            return y * float(scales[0] or 0), x * float(scales[1] or 0)
    return None


def _tag_sizes(tiff: Any, page: Any) -> Sizes:
    """Return the pixel size from XResolution and YResolution, in ImageJ's unit or per cm."""
    tags = page.tags
    if "XResolution" not in tags or "YResolution" not in tags:
        return None
    unit = str((tiff.imagej_metadata or {}).get("unit", "")).strip()
    unit = unit.encode().decode("unicode_escape") if "\\u" in unit else unit
    scale = NM_PER_UNIT.get(unit.lower())
    if scale is None:
        per_cm = "ResolutionUnit" in tags and int(tags["ResolutionUnit"].value) == 3
        if not per_cm:
            return None
        scale = NM_PER_UNIT["cm"]
    sizes = []
    for name in ("YResolution", "XResolution"):
        pixels, units = tags[name].value
        if pixels <= 0 or units <= 0:
            return None
        sizes.append(scale * units / pixels)
    return (sizes[0], sizes[1]) if max(sizes) <= LARGEST_PIXEL_NM else None


def _luminance(array: Array) -> Array:
    """Return the luminance of (..., channels): grey and opacity, RGB, or RGB and opacity."""
    if array.shape[-1] in (1, 2):
        return array[..., 0]
    return np.asarray(array[..., :3] @ np.array([0.299, 0.587, 0.114]))


READERS: dict[str, Callable[[Path], tuple[Array, Sizes]]] = {
    ".npy": _read_npy,
    ".tif": _read_tiff,
    ".tiff": _read_tiff,
    ".mrc": _read_mrc,
    ".mrcs": _read_mrc,
    ".png": _read_picture,
    ".jpg": _read_picture,
    ".jpeg": _read_picture,
}

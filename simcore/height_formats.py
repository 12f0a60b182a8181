"""Write images of probe microscopes to Gwyddion's files: .gwy, all channels, and .gsf, one.

All values are in base units of the SI (metres, volts; degrees stay degrees), as Gwyddion wants
them. Both formats are described in its user guide, "Format of Gwyddion Files" and "Simple Field
Files", https://gwyddion.net/documentation/user-guide-en/.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import gsffile
import numpy as np
import numpy.typing as npt
from gwyfile.objects import GwyContainer, GwyDataField

from nanophantom.simcore.pixel_size import PixelSize, pixel_pair

Floats = npt.NDArray[np.float64]

NM_PER = {
    "m": 1e9, "mm": 1e6, "um": 1e3, "µm": 1e3, "μm": 1e3, "nm": 1.0, "pm": 1e-3,
    "\u00c5": 0.1, "\u212b": 0.1, "angstrom": 0.1,  # both signs for the ångström
}  # fmt: skip
"""Units of length that are read, in nm."""
BASE_UNITS = {
    **{unit: ("m", nm * 1e-9) for unit, nm in NM_PER.items()},
    "V": ("V", 1.0), "mV": ("V", 1e-3), "uV": ("V", 1e-6), "µV": ("V", 1e-6),
    "A": ("A", 1.0), "nA": ("A", 1e-9), "pA": ("A", 1e-12),
    "N": ("N", 1.0), "nN": ("N", 1e-9), "pN": ("N", 1e-12),
    "N/m": ("N/m", 1.0), "Pa": ("Pa", 1.0), "GPa": ("Pa", 1e9), "MPa": ("Pa", 1e6),
    "Hz": ("Hz", 1.0), "kHz": ("Hz", 1e3), "s": ("s", 1.0), "J": ("J", 1.0),
    "eV": ("J", 1.602176634e-19), "W": ("W", 1.0), "pW": ("W", 1e-12),
    "deg": ("deg", 1.0), "°": ("deg", 1.0), "rad": ("rad", 1.0), "": ("", 1.0),
}  # fmt: skip
"""Units in which channels may be given, and what they are in the file: unit, factor."""


def write_gsf(
    path: str | Path,
    heights_nm: npt.ArrayLike,
    pixel_size_nm: PixelSize,
    name: str = "Height",
    offset_nm: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Write heights to a .gsf file, in single precision.

    Parameters
    ----------
    path
        Its name ends in .gsf.
    heights_nm
        Shape (ny, nx), finite.
    pixel_size_nm
        Edge of a pixel, or its extents (y, x).
    name
        Title of the channel.
    offset_nm
        Where the top left corner of the first pixel lies, (y, x).

    Raises
    ------
    ValueError
        Heights aren't finite or no image, or the name holds "=" or a line break.
    """
    path = Path(path)
    if path.suffix != ".gsf":
        raise ValueError(f"path: {path.name} must end in .gsf")
    if re.search(r"[=\n\r\0]", name):
        raise ValueError(f'name: {name!r} must hold neither "=" nor line breaks in a .gsf file')
    heights = _image(heights_nm, name)
    size_y, size_x = pixel_pair(pixel_size_nm)
    ny, nx = heights.shape
    gsffile.write_gsf(
        path,
        (1e-9 * heights).astype(np.float32),
        {
            "XReal": 1e-9 * nx * size_x,
            "YReal": 1e-9 * ny * size_y,
            "XOffset": 1e-9 * offset_nm[1],
            "YOffset": 1e-9 * offset_nm[0],
            "Title": name,
            "XYUnits": "m",
            "ZUnits": "m",
        },
    )


def write_gwy(
    path: str | Path,
    channels: Mapping[str, tuple[npt.ArrayLike, PixelSize, str]],
    offset_nm: tuple[float, float] = (0.0, 0.0),
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write channels to one .gwy file, in double precision.

    Parameters
    ----------
    path
        Its name ends in .gwy.
    channels
        Title -> values, shape (ny, nx), finite; pixel size in nm; unit of the values, one of
        `BASE_UNITS` ("nm", "V", "deg", ...).
    offset_nm
        Where the top left corner of the first pixel lies, (y, x).
    metadata
        Lines for the metadata browser, the same for all channels.

    Raises
    ------
    ValueError
        No channel, values that aren't finite or no image, or a unit that isn't known.
    """
    path = Path(path)
    if path.suffix != ".gwy":
        raise ValueError(f"path: {path.name} must end in .gwy")
    if not channels:
        raise ValueError("channels: there is nothing to write")
    container = GwyContainer()
    for number, (title, (values, pixel_size_nm, unit)) in enumerate(channels.items()):
        if unit not in BASE_UNITS:
            raise ValueError(f"channels: unit {unit!r} of {title!r} isn't known")
        base, factor = BASE_UNITS[unit]
        image = factor * _image(values, title)
        size_y, size_x = pixel_pair(pixel_size_nm)
        key = f"/{number}/data"
        container[key] = GwyDataField(
            image,
            xreal=1e-9 * size_x * image.shape[1],
            yreal=1e-9 * size_y * image.shape[0],
            xoff=1e-9 * offset_nm[1],
            yoff=1e-9 * offset_nm[0],
            si_unit_xy="m",
            si_unit_z=base,
        )
        _put(container, f"{key}/title", title, "s")
        _put(container, f"{key}/visible", True, "b")
        if metadata:
            lines = GwyContainer()
            for name, text in metadata.items():
                _put(lines, name, str(text), "s")
            container[f"/{number}/meta"] = lines
    container.tofile(str(path))


def _put(container: GwyContainer, key: str, value: str | bool, typecode: str) -> None:
    """Store a component with its type; a string of one letter would become a character."""
    if isinstance(value, str) and "\0" in value:
        raise ValueError(f"{key}: text in a .gwy file can't hold a NUL")
    container[key] = value
    container.typecodes[key] = typecode


def _image(values: npt.ArrayLike, name: str) -> Floats:
    image = np.asarray(values, dtype=np.float64)
    if image.ndim != 2 or image.size == 0:
        raise ValueError(f"{name}: an image has shape (ny, nx), not {image.shape}")
    if not np.isfinite(image).all():
        raise ValueError(f"{name}: {int((~np.isfinite(image)).sum())} values aren't finite")
    return image

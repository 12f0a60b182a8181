"""Tables of localizations as other programs keep them: Picasso, ThunderSTORM, plain CSV.

Here a table has the columns ``frame`` (from 0), ``x_nm``, ``y_nm`` (from the centre of pixel
(0, 0), y down) and, where they are known, ``z_nm``, ``photons`` (on the camera, before its quantum
efficiency), ``background`` (photons a pixel), ``sigma_nm`` (or ``sigma_x_nm``, ``sigma_y_nm``),
``uncertainty_nm`` (or ``uncertainty_x_nm``, ``uncertainty_y_nm``), ``uncertainty_z_nm`` and
``log_likelihood``. The other programs differ:

===============  =======================  =====================================================
..               Picasso                  ThunderSTORM
===============  =======================  =====================================================
frames           from 0                   from 1
lengths          camera pixels; z in nm   nm
x, y             from a pixel's centre    from the corner of pixel (0, 0), half a pixel before it
light            photoelectrons           photons
===============  =======================  =====================================================

Sources: Picasso's documentation, "Files", https://picassosr.readthedocs.io; ThunderSTORM's headers
and camera setup, Ovesný et al., Bioinformatics 30 (2014) 2389.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nanophantom.simcore.localization_tables import Columns, read_csv, write_csv
from nanophantom.simcore.picasso_files import picasso_info, read_picasso, write_picasso
from nanophantom.simcore.thunderstorm_files import (
    is_thunderstorm,
    read_thunderstorm,
    write_thunderstorm,
)

__all__ = [
    "is_localizations",
    "picasso_info",
    "read_csv",
    "read_localizations",
    "read_picasso",
    "read_thunderstorm",
    "write_csv",
    "write_picasso",
    "write_thunderstorm",
]


def is_localizations(path: Path | str) -> bool:
    """Return whether a file is a table of Picasso or ThunderSTORM, by its suffix and header."""
    path = Path(path)
    if path.suffix.lower() in (".hdf5", ".h5"):
        return True
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return is_thunderstorm(next(csv.reader(file), []))
    except (OSError, UnicodeDecodeError):
        return False


def read_localizations(path: Path | str, settings: Mapping[str, Any] | None = None) -> Columns:
    """Read a table of Picasso (.hdf5) or ThunderSTORM (.csv).

    Parameters
    ----------
    path
        The file.
    settings
        Nominal settings of the movie: ``pixel_size_nm`` and ``camera.quantum_efficiency`` are used.

    Raises
    ------
    ValueError
        The file is no such table, or the size of its pixels isn't known.
    """
    settings = settings or {}
    size = settings.get("pixel_size_nm")
    if Path(path).suffix.lower() in (".hdf5", ".h5"):
        return read_picasso(path, size, (settings.get("camera") or {}).get("quantum_efficiency"))
    if size is None:
        raise ValueError(
            f"{path} counts x and y from the corner of pixel (0, 0): pixel_size_nm must be known"
        )
    return read_thunderstorm(path, size)

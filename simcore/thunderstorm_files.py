"""Tables of localizations as ThunderSTORM keeps them: CSV files whose headers carry units.

Frames count from 1, and x and y from the corner of pixel (0, 0), half a pixel before its centre.
Light is told in photons. Source: Ovesný et al., Bioinformatics 30 (2014) 2389, and the program.
"""

from __future__ import annotations

import csv
import itertools
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nanophantom.simcore.localization_tables import (
    Columns,
    Tables,
    blocks,
    checked,
    pair_of,
    read_csv,
    with_means,
)

CONVENTIONS = {
    "origin": "x, y in nm from the corner of pixel (0, 0), y down",
    "frame_base": 1,
    "light": "photons on the camera, before its quantum efficiency",
}
_THUNDERSTORM = {
    "frame": "frame",
    "x_nm": "x [nm]",
    "y_nm": "y [nm]",
    "z_nm": "z [nm]",
    "sigma_nm": "sigma [nm]",
    "sigma_x_nm": "sigma1 [nm]",
    "sigma_y_nm": "sigma2 [nm]",
    "photons": "intensity [photon]",
    "background": "offset [photon]",
    "uncertainty_nm": "uncertainty_xy [nm]",
    "uncertainty_z_nm": "uncertainty_z [nm]",
}
_OURS = {
    **{theirs.split(" ")[0]: ours for ours, theirs in _THUNDERSTORM.items()},
    "uncertainty": "uncertainty_nm",  # until version 1.2
    "uncertainty_x": "uncertainty_x_nm",
    "uncertainty_y": "uncertainty_y_nm",
}
_NM_PER = {"nm": 1.0, "um": 1000.0, "µm": 1000.0, "μm": 1000.0}


def write_thunderstorm(path: Path | str, locs: Tables, pixel_size_nm: float) -> None:
    """Write ThunderSTORM's CSV, where frames count from 1 and x from the corner of pixel (0, 0).

    Parameters
    ----------
    path
        The file.
    locs
        One table or several, one after another, with the same columns.
    pixel_size_nm
        Edge of a camera pixel.

    Raises
    ------
    ValueError
        A table lacks frame, x_nm or y_nm, or a value isn't finite.
    """
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        numbers, names = itertools.count(1), None
        for table in blocks(locs):
            known = checked(table)
            for kind in ("sigma", "uncertainty"):
                if f"{kind}_nm" not in known and (pair := pair_of(known, kind)):
                    known[f"{kind}_nm"] = np.sqrt((pair[0] ** 2 + pair[1] ** 2) / 2)
            if "sigma_x_nm" in known:
                known.pop("sigma_nm", None)
            known["frame"] = known["frame"] + 1
            known["x_nm"] = known["x_nm"] + pixel_size_nm / 2
            known["y_nm"] = known["y_nm"] + pixel_size_nm / 2
            columns = [ours for ours in _THUNDERSTORM if ours in known]
            if names is None:
                names = columns
                writer.writerow(["id", *(_THUNDERSTORM[name] for name in names)])
            elif names != columns:
                raise ValueError(f"{Path(path).name}: all tables need the same columns")
            values = [known[name].tolist() for name in names]
            values[0] = [int(frame) for frame in values[0]]
            writer.writerows((next(numbers), *row) for row in zip(*values, strict=True))


def read_thunderstorm(path: Path | str, pixel_size_nm: float) -> Columns:
    """Read ThunderSTORM's CSV; names of columns in any case, older names too.

    Parameters
    ----------
    path
        The file.
    pixel_size_nm
        Edge of a camera pixel, of which x and y lose a half.

    Raises
    ------
    ValueError
        Columns are missing or in other units, or frame 0 occurs, which ThunderSTORM doesn't have.
    """
    columns: Columns = {}
    for header, values in read_csv(path).items():
        name, unit = _header(header)
        ours = _OURS.get(name)
        if ours is None:  # id, chi2, detections ... that are not asked for here
            continue
        factor = 1.0
        if ours in ("photons", "background"):
            if unit not in ("photon", "photons"):
                raise ValueError(f"{path}: {header} must be in photons; set up the camera there")
        elif ours != "frame":
            factor = {**_NM_PER, "px": pixel_size_nm}.get(unit, math.nan)
            if math.isnan(factor):
                raise ValueError(f"{path}: {header} must be in nm, um or px")
        columns[ours] = factor * values
    missing = [name for name in ("frame", "x_nm", "y_nm") if name not in columns]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(_THUNDERSTORM[name] for name in missing)}")
    if len(columns["frame"]) and columns["frame"].min() < 1:
        raise ValueError(
            f"{path} has a frame {columns['frame'].min():g}; ThunderSTORM counts frames from 1. If "
            "Picasso wrote it (frames from 0, x from a pixel's centre), give its _locs.hdf5 instead"
        )
    columns["frame"] = columns["frame"] - 1
    columns["x_nm"] = columns["x_nm"] - pixel_size_nm / 2
    columns["y_nm"] = columns["y_nm"] - pixel_size_nm / 2
    return with_means(columns)


def camera_setup(pixel_size_nm: float, camera: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ThunderSTORM's window "Camera setup" asks for, in its words."""
    words = {
        "Base level [A/D counts]": float(camera.get("offset_adu", 0.0)),
        "Photoelectrons per A/D count": 1 / float(camera.get("adu_per_electron", 1.0)),
        "EM gain": float(camera.get("em_gain", 1.0)),
        "Quantum efficiency": float(camera.get("quantum_efficiency", 1.0)),
    }
    return {"Pixel size [nm]": pixel_size_nm, **(words if camera else {})}


def _header(text: str) -> tuple[str, str]:
    """Split ``"Uncertainty_xy [nm]"`` into name and unit, in small letters."""
    match = re.fullmatch(r"([^\[]*?)\s*(?:\[(.*)\])?", text.strip().lower())
    return (match[1], (match[2] or "").strip()) if match else (text, "")


def is_thunderstorm(header: list[str]) -> bool:
    """Return whether a line of column names is ThunderSTORM's."""
    found = dict(map(_header, header))
    return "frame" in found and found.get("x") in {*_NM_PER, "px"}

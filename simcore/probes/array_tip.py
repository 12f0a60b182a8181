"""A tip from a file of heights: measured, or reconstructed from an image."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nanophantom.simcore.probes.tip_map import TipMap
from nanophantom.simcore.probes.tip_shape import TipShape

Floats = npt.NDArray[np.float64]


class ArrayTip(TipShape):
    """A tip from a file of heights: measured, or reconstructed from an image.

    Its highest sample is the apex. Between samples it is bilinear; outside the map there is no
    tip. Rows and columns run along the specimen's y and x, without reflection.
    """

    shape: Literal["file"] = "file"
    """Which shape this is."""
    file: str
    """Height map with the apex up: .npy (nm), .tif, .gsf or .gwy."""
    pixel_size_nm: float | None = Field(default=None, gt=0, le=1e5)
    """Distance between samples; none: what the file says."""
    channel: str | int | None = None
    """Title or number of a channel of a .gwy file; none: the first of heights."""
    fit_depth_nm: float = Field(default=3.0, gt=0, le=1e5)
    """Depth of the apex that a sphere is fitted to, for the effective radius."""

    @property
    def tip_map(self) -> TipMap:
        """The tip as it stands in the file."""
        path = Path(self.file).expanduser()
        changed = path.stat().st_mtime_ns if path.is_file() else 0
        return _tip_of_file(path, changed, self.pixel_size_nm, self.channel)

    @property
    def radius_nm(self) -> float:
        """Effective radius of the apex: of the sphere fitted to its top."""
        try:
            return self.tip_map.apex_radius_nm(self.fit_depth_nm)
        except ValueError as error:
            raise ValueError(
                f"tip.file: {Path(self.file).name}: {error}; heights of a tip count upwards, its "
                "apex is the highest sample"
            ) from None

    def profile_nm(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> Floats:
        """Return t(u), bilinear between the samples of the file; -inf outside."""
        tip = self.tip_map
        row = tip.apex[0] + np.asarray(y_nm, np.float64) / tip.step_nm[0]
        col = tip.apex[1] + np.asarray(x_nm, np.float64) / tip.step_nm[1]
        return _bilinear(tip.heights_nm, *np.broadcast_arrays(row, col))

    def reach_nm(self, depth_nm: float) -> float:
        """Return how far the samples within a depth of the apex are from it, plus one sample."""
        tip = self.tip_map
        r = np.hypot(*tip.offsets_nm)
        return float(r[tip.heights_nm >= -depth_nm].max() + math.hypot(*tip.step_nm))

    def input_files(self) -> dict[str, Path]:
        """Return the file."""
        return {"file": Path(self.file).expanduser()}


@functools.lru_cache(maxsize=4)
def _tip_of_file(
    path: Path, changed_ns: int, pixel_size_nm: float | None, channel: str | int | None
) -> TipMap:
    """Read the tip of a file; the time of its last change is there to know it again."""
    from nanophantom.simcore.height_files import read_height_map

    found = read_height_map(path, channel)
    step = found.pixel_size_nm if pixel_size_nm is None else (pixel_size_nm, pixel_size_nm)
    if step is None:
        raise ValueError(f"tip.pixel_size_nm: {path.name} does not say it; give it for this tip")
    try:
        return TipMap.of(found.heights_nm, step)
    except ValueError as error:
        raise ValueError(f"tip.file: {path.name} holds no tip: {error}") from None


def _bilinear(values: Floats, row: Floats, col: Floats) -> Floats:
    """Interpolate at rows and columns; -inf outside, and wherever a sample that counts is."""
    ny, nx = values.shape
    inside = (row >= 0) & (row <= ny - 1) & (col >= 0) & (col <= nx - 1)
    i = np.clip(np.floor(row), 0, max(ny - 2, 0)).astype(np.intp)
    j = np.clip(np.floor(col), 0, max(nx - 2, 0)).astype(np.intp)
    down, right = row - i, col - j
    result = np.zeros(row.shape)
    for di, dj, weight in (
        (0, 0, (1 - down) * (1 - right)),
        (0, 1, (1 - down) * right),
        (1, 0, down * (1 - right)),
        (1, 1, down * right),
    ):
        sample = values[np.minimum(i + di, ny - 1), np.minimum(j + dj, nx - 1)]
        result += np.where(weight > 0, weight, 1.0) * np.where(weight > 0, sample, 0.0)
    return np.where(inside, result, -np.inf)

"""The size of an image's pixels: one number, or those along (y, x)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

PixelSize = float | tuple[float, float]


def pixel_pair(pixel_size_nm: PixelSize) -> tuple[float, float]:
    """Return the size of a pixel along y and x.

    Raises
    ------
    ValueError
        It isn't finite and positive.
    """
    dy, dx = np.broadcast_to(np.asarray(pixel_size_nm, np.float64), 2).tolist()
    if not (0 < dy < np.inf and 0 < dx < np.inf):
        raise ValueError(f"pixel_size_nm must be positive, got {pixel_size_nm}")
    return dy, dx


def nominal_pixel(settings: Mapping[str, Any]) -> tuple[float, float]:
    """Return the nominal pixel (y, x) that a scan's settings tell, nm.

    Parameters
    ----------
    settings
        pixel_size_nm, along x, and pixel_size_y_nm unless pixels are square.
    """
    along_x = float(settings["pixel_size_nm"])
    return float(settings.get("pixel_size_y_nm", along_x)), along_x

"""The default way from a drifting series to atomic columns: register, add up, find."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.columns import Contrast, find_columns
from nanophantom.analysis.registration import register


def find(images: npt.ArrayLike, settings: Mapping[str, Any]) -> dict[str, npt.NDArray[np.float64]]:
    """Find the atomic columns of a series of images, or of one.

    Parameters
    ----------
    images : (frames, ny, nx) or (ny, nx) array
        Counts, or a signal linear in them.
    settings : mapping
        "pixel_size_nm"; if known "contrast": "bright" or "dark", as atoms look.

    Returns
    -------
    dict of (n,) arrays
        x_nm, y_nm in the coordinates of frame 0, the centre of pixel (0, 0) being the origin;
        sigma_nm: standard deviation of either; and the further columns of
        :func:`nanophantom.analysis.columns.find_columns`.

    Raises
    ------
    ValueError
        If the pixel size is missing or wrong, or the images are of another shape or not finite.
    """
    if settings.get("pixel_size_nm") is None:
        raise ValueError('settings lack "pixel_size_nm": the width of a pixel in nm')
    pixel_size_nm = float(settings["pixel_size_nm"])
    contrast: Contrast = settings.get("contrast") or "auto"
    stack = np.asarray(images)
    if stack.ndim == 2:
        return find_columns(stack, pixel_size_nm, contrast)
    if stack.ndim != 3 or not len(stack):
        raise ValueError(
            f"images have the shape (frames, ny, nx) or (ny, nx) with a frame, got {stack.shape}"
        )
    if len(stack) == 1:
        return find_columns(stack[0], pixel_size_nm, contrast)
    series = register(stack)
    return find_columns(series.aligned_sum, pixel_size_nm, contrast, coverage=series.coverage)

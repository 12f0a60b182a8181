"""Atomic columns in every frame of a dose series, each frame by itself.

At low dose no threshold on a column's significance finds all columns and nothing else. Here a
maximum counts if at most a quarter of those as significant as it are noise: the local false
discovery rate (B. Efron, J. Am. Stat. Assoc. 99 (2004) 96), with the number of maxima of mere
noise known in closed form. It trades a few false columns for many true ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.columns import Contrast, find_columns
from nanophantom.analysis.noise import expected_false_maxima

Floats = npt.NDArray[np.float64]

LEAST_SIGNIFICANCE = 2.6
"""Maxima below it are never columns: noise alone has too many."""
LOCAL_FALSE_SHARE = 0.25
"""Accepted share of noise among the maxima that are just significant enough."""
FEWEST = 4
"""Less maxima in excess of noise may be chance: an image without structure has its highest too."""


def find(images: npt.ArrayLike, settings: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """Find the atomic columns of every image, without help from the others.

    Parameters
    ----------
    images : (frames, ny, nx) array
        Counts, or a signal linear in them.
    settings : mapping
        "pixel_size_nm"; if known "contrast": "bright" or "dark", as atoms look.

    Returns
    -------
    dict of (n,) arrays
        frame; x_nm, y_nm in this frame, the centre of pixel (0, 0) being the origin; sigma_nm:
        standard deviation of either; significance.

    Raises
    ------
    ValueError
        The pixel size is missing or wrong, or the images are no finite stack.
    """
    if settings.get("pixel_size_nm") is None:
        raise ValueError('settings lack "pixel_size_nm": the width of a pixel in nm')
    stack = np.asarray(images)
    if stack.ndim != 3 or not len(stack):
        raise ValueError(f"images have the shape (frames, ny, nx) with a frame, got {stack.shape}")
    contrast: Contrast = settings.get("contrast") or "auto"
    each = [find_in_one(image, float(settings["pixel_size_nm"]), contrast) for image in stack]
    found: dict[str, npt.NDArray[Any]] = {
        "frame": np.repeat(np.arange(len(stack)), [len(one["x_nm"]) for one in each])
    }
    for name in ("x_nm", "y_nm", "sigma_nm", "significance"):
        found[name] = np.concatenate([one[name] for one in each])
    return found


def find_in_one(
    image: npt.ArrayLike, pixel_size_nm: float, contrast: Contrast = "auto"
) -> dict[str, Floats]:
    """Find the columns of one image; columns as those of `find_columns`."""
    found = find_columns(image, pixel_size_nm, contrast, threshold_sigma=LEAST_SIGNIFICANCE)
    if not len(found["x_nm"]):
        return found
    significance = found["significance"]
    width_px = max(0.7, float(np.median(found["width_nm"])) / pixel_size_nm)
    threshold = balanced_threshold(significance, width_px, np.asarray(image).size)
    return {name: column[significance >= threshold] for name, column in found.items()}


def balanced_threshold(significance: Floats, width_px: float, area_px: float) -> float:
    """Return the significance from which on at most `LOCAL_FALSE_SHARE` is noise, locally.

    There the number n(u) of maxima above u falls as fast as that of noise over the share,
    F(u) / share: n - F / share is greatest. Infinite where that is below `FEWEST`: noise explains
    all.

    Parameters
    ----------
    significance : (n,) array
        Of the maxima, from `LEAST_SIGNIFICANCE` on.
    width_px : float
        Standard deviation of the Gaussian that the image was filtered with.
    area_px : float
        Pixels of the image.
    """
    u = np.linspace(LEAST_SIGNIFICANCE, 8.0, 541)
    above = len(significance) - np.searchsorted(np.sort(significance), u)
    gain = above - expected_false_maxima(u, width_px, area_px) / LOCAL_FALSE_SHARE
    best = int(np.argmax(gain))
    return float(u[best]) if gain[best] >= FEWEST else np.inf

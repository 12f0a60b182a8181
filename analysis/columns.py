"""Find atomic columns in an image and measure where they are.

The image is flattened and filtered with a Gaussian of the columns' own width, less a broad one.
Its local maxima are candidates. How many maxima noise alone would give above a height is known
in closed form (Rice's formula for the maxima of a random field), so the threshold
follows from how many false columns are acceptable. Each candidate is then fitted with a
Gaussian in its own Voronoi cell, its neighbours' Gaussians and the slowly varying background
taken away. The weights are the inverse variances that the model predicts, which for counts makes
the fit one of maximum likelihood; the uncertainties are those of its Fisher information.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import KDTree

from nanophantom.analysis.filters import (
    SURROUND,
    filtered_by,
    local_mean,
    matched_response,
)
from nanophantom.analysis.noise import Noise, as_gaussian, expected_false_maxima
from nanophantom.analysis.spot_fit import fit_spots

FloatArray = npt.NDArray[np.float64]
Contrast = Literal["auto", "bright", "dark"]

COLUMN_WIDTHS_NM = (0.025, 0.032, 0.04, 0.05, 0.063, 0.08, 0.1)
"""Standard deviations tried for the matched filter: all that atomic columns look like."""
FALSE_SHARE = 0.01
"""Accepted share of false columns among those found (or among ten, if fewer are found)."""


def find_columns(
    image: npt.ArrayLike,
    pixel_size_nm: float,
    contrast: Contrast = "auto",
    coverage: npt.ArrayLike | None = None,
    min_distance_nm: float = 0.1,
    threshold_sigma: float | None = None,
    min_relative_height: float = 0.2,
) -> dict[str, FloatArray]:
    """Find atomic columns.

    Parameters
    ----------
    image : (ny, nx) array
        Counts, or any signal linear in them.
    pixel_size_nm : float
        Width of a pixel.
    contrast : {"auto", "bright", "dark"}
        How atoms look. "auto" takes the sign in which the image has the sharper peaks.
    coverage : (ny, nx) array, optional
        How many frames (or what exposure) each pixel is the mean of. Relative values matter
        only; a pixel that none covers is left out.
    min_distance_nm : float
        Columns aren't closer than this.
    threshold_sigma : float, optional
        Least height of a maximum over the noise of the filtered image. If not given, the
        least height above which noise alone would give 1 % of the maxima that are found, or
        a tenth of a maximum in the whole image if this is more.
    min_relative_height : float
        Least height in the filtered image, in units of its noise, relative to the strong
        columns (the 90th percentile of all).
        Delocalisation fringes and amorphous contrast are real, not noise, but weak.

    Returns
    -------
    dict of (n,) arrays
        x_nm, y_nm: centre, from the centre of pixel (0, 0); sigma_nm: its standard
        deviation along x and along y (the same); height, background: of the fitted Gaussian,
        in units of the image (height < 0 for dark atoms); width_nm: its standard deviation;
        significance: height of the filtered image over its noise.

    Raises
    ------
    ValueError
        If the image isn't a finite (ny, nx) array of 16 pixels or more, or a number is
        out of range.
    """
    data, exposure = _checked(image, pixel_size_nm, coverage)
    if contrast not in ("auto", "bright", "dark"):
        raise ValueError(f'contrast must be "auto", "bright" or "dark", got {contrast!r}')
    if not (min_distance_nm > 0 and 0 <= min_relative_height < 1):
        raise ValueError("min_distance_nm must be positive, min_relative_height from 0 to below 1")
    if threshold_sigma is not None and not threshold_sigma > 0:
        raise ValueError(f"threshold_sigma must be positive, got {threshold_sigma}")

    noise = Noise.of(data, exposure)
    mean = local_mean(data, exposure > 0, 0.2 / pixel_size_nm)
    variance = noise.variance(mean, exposure)
    signs = {"bright": (1.0,), "dark": (-1.0,), "auto": (1.0, -1.0)}[contrast]
    sign, width_px, z = _matched_filter(data - mean, variance, pixel_size_nm, signs)
    counts = mean**2 / variance * 2.25 * np.pi * width_px**2
    filtered = sign * (as_gaussian(z, counts) if noise.is_counts else z)

    distance_px = max(1.0, min_distance_nm / pixel_size_nm)
    found = _maxima(filtered, width_px, distance_px, threshold_sigma, exposure)
    at = found[:, 0], found[:, 1]
    significance = filtered[at]
    fit = fit_spots(data, exposure, noise, found, width_px)

    y, x, height, width = fit.y, fit.x, sign * fit.height, fit.width
    near = np.hypot(y - found[:, 0], x - found[:, 1]) < 0.75 * max(distance_px, width_px)
    good = near & (height > 0) & np.isfinite(fit.sigma) & (width > 0.45 * width_px)
    good &= _strong(sign * z[at], min_relative_height) & _apart(y, x, significance, distance_px)
    return {
        "x_nm": x[good] * pixel_size_nm,
        "y_nm": y[good] * pixel_size_nm,
        "sigma_nm": fit.sigma[good] * pixel_size_nm,
        "height": fit.height[good],
        "background": fit.background[good],
        "width_nm": width[good] * pixel_size_nm,
        "significance": significance[good],
    }


def _matched_filter(
    flat: FloatArray, variance: FloatArray, pixel_size_nm: float, signs: tuple[float, ...]
) -> tuple[float, float, FloatArray]:
    """Filter with the width, and see the sign, that lift the strongest maxima highest.

    Returns the sign, the width in pixels and the filtered image in standard deviations of its
    noise.
    """
    # Zero where nothing is known: mirrored noise would look stronger at an edge than it is.
    values = np.where(np.isfinite(variance), flat, 0.0)
    noise = np.sqrt(variance)
    limits = 0.7, max(0.7, min(flat.shape) / 8)
    widths = np.unique(np.clip(np.array(COLUMN_WIDTHS_NM) / pixel_size_nm, *limits))
    # As many maxima as columns at 0.3 nm would have on a tenth of the image.
    strongest = max(4, int(0.1 * flat.size * (pixel_size_nm / 0.3) ** 2))
    best = (-np.inf, 1.0, 1.0, values)
    for width in widths.tolist():
        kernel = partial(matched_response, width_px=width)
        response = filtered_by(values, kernel, SURROUND * width, mirror=False)
        filtered = response / (noise * np.sqrt(_noise_gain(width)))
        for sign in signs:
            peak = filtered == ndimage.maximum_filter(sign * filtered, 5) * sign
            heights = np.sort(sign * filtered[peak])[-strongest:]
            lift = float(np.sum(heights)) / strongest
            if lift > best[0]:
                best = (lift, sign, width, filtered)
    return best[1], best[2], best[3]


def _noise_gain(width_px: float) -> float:
    """Return the variance of filtered white noise of variance one."""
    k = 2 * np.pi * np.fft.fftfreq(256)
    return float(np.mean(matched_response(np.hypot(k[:, None], k[None, :]), width_px) ** 2))


def _maxima(
    filtered: FloatArray,
    width_px: float,
    distance_px: float,
    threshold_sigma: float | None,
    exposure: FloatArray,
) -> npt.NDArray[np.intp]:
    """Return the pixels (n, 2) of the significant local maxima."""
    radius = int(np.ceil(0.8 * distance_px))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = y**2 + x**2 <= max(1.0, (0.8 * distance_px) ** 2)
    peak = (filtered == ndimage.maximum_filter(filtered, footprint=disc)) & (exposure > 0)
    peak &= filtered > 2.5
    found = np.argwhere(peak)
    height = filtered[peak]
    if threshold_sigma is None:
        threshold_sigma = _threshold(height, width_px, float(np.sum(exposure > 0)))
    return np.asarray(found[height >= threshold_sigma], np.intp)


def _threshold(height: FloatArray, width_px: float, area_px: float) -> float:
    """Return the least height above which false maxima are few enough."""
    u = np.linspace(2.5, 8, 551)
    false = expected_false_maxima(u, width_px, area_px)
    count = len(height) - np.searchsorted(np.sort(height), u)
    return float(u[np.argmax(false <= FALSE_SHARE * np.maximum(10, count))])


def _strong(strength: FloatArray, min_relative_height: float) -> npt.NDArray[np.bool_]:
    """Tell the columns from the weak maxima of fringes."""
    if not len(strength):
        return np.zeros(0, bool)
    return np.asarray(strength >= min_relative_height * np.quantile(strength, 0.9))


def _apart(
    y: FloatArray, x: FloatArray, significance: FloatArray, distance_px: float
) -> npt.NDArray[np.bool_]:
    """Of columns that the fit moved too close together keep the most significant."""
    keep = np.ones(len(y), bool)
    if len(y) < 2:
        return keep
    for i, j in KDTree(np.c_[y, x]).query_pairs(0.9 * distance_px):
        keep[i if significance[i] < significance[j] else j] = False
    return keep


def _checked(
    image: npt.ArrayLike, pixel_size_nm: float, coverage: npt.ArrayLike | None
) -> tuple[FloatArray, FloatArray]:
    """Return the image and its relative exposure, or say what is wrong."""
    raw = np.asarray(image)
    if raw.ndim != 2 or raw.size < 16 or min(raw.shape) < 4:
        raise ValueError(
            f"an image has the shape (ny, nx) with 4 x 4 pixels or more, got {raw.shape}"
        )
    if raw.dtype.kind not in "uifb":
        raise ValueError(f"an image must hold real numbers, got {raw.dtype}")
    data = raw.astype(np.float64)
    if not np.all(np.isfinite(data)):
        raise ValueError("an image must be finite: it holds NaN or infinite values")
    if not (np.isfinite(pixel_size_nm) and pixel_size_nm > 0):
        raise ValueError(f"pixel_size_nm must be a positive number, got {pixel_size_nm}")
    if coverage is None:
        return data, np.ones(data.shape)
    exposure = np.asarray(coverage, np.float64)
    if exposure.shape != data.shape:
        raise ValueError(f"coverage has the shape {exposure.shape}, the image {data.shape}")
    if not (np.all(exposure >= 0) and np.max(exposure) > 0 and np.all(np.isfinite(exposure))):
        raise ValueError("coverage must be finite, nowhere negative and not zero everywhere")
    return data, exposure / np.max(exposure)

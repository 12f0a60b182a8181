"""Localizations drawn as images: histogram, Gaussians as wide as they are uncertain, shifted means.

Every image counts localizations per pixel, so that its sum is their number (those within the
frame), or the sum of the weights given.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from scipy import ndimage

Floats = npt.NDArray[np.float64]

MOST_PIXELS = 1 << 28
TAIL_SIGMAS = 4.0
"""Where a Gaussian ends; what is cut off, 6e-5 of an axis, is made up for within."""


class Frame(NamedTuple):
    """Where the pixels of an image lie.

    Attributes
    ----------
    x_nm, y_nm : float
        Of the centre of pixel (0, 0).
    width_px, height_px : int
    """

    x_nm: float
    y_nm: float
    width_px: int
    height_px: int


class Rendered(NamedTuple):
    """An image of localizations.

    Attributes
    ----------
    image : (ny, nx) float64
        Localizations (or weights) per pixel; y points down.
    extent_nm : (left, right, bottom, top)
        Outer edges of the outermost pixels, as matplotlib's ``imshow`` takes them: half a pixel
        beyond their centres. Bottom is the greater y.
    """

    image: Floats
    extent_nm: tuple[float, float, float, float]


def enclosing_frame(
    x_nm: npt.ArrayLike, y_nm: npt.ArrayLike, pixel_size_nm: float, margin_nm: float = 0.0
) -> Frame:
    """Return the least frame around localizations, pixel centres at multiples of the pixel size."""
    x, y = _positions(x_nm, y_nm)
    _checked_pixel(pixel_size_nm)
    if not len(x):
        raise ValueError("no localization to draw a frame around")
    low = [int(np.floor((v.min() - margin_nm) / pixel_size_nm + 0.5)) for v in (x, y)]
    high = [int(np.floor((v.max() + margin_nm) / pixel_size_nm + 0.5)) for v in (x, y)]
    width, height = (h - lo + 1 for h, lo in zip(high, low, strict=True))
    return Frame(low[0] * pixel_size_nm, low[1] * pixel_size_nm, width, height)


def histogram_image(
    x_nm: npt.ArrayLike,
    y_nm: npt.ArrayLike,
    pixel_size_nm: float,
    frame: Frame | None = None,
    weights: npt.ArrayLike | None = None,
) -> Rendered:
    """Count localizations pixel by pixel.

    Parameters
    ----------
    x_nm, y_nm : (n,) array
    pixel_size_nm : float
        Pixel i holds what lies from (i - 1/2) to (i + 1/2) pixels from the frame's first centre.
    frame : Frame, optional
        What lies outside is left away. By default the frame encloses all.
    weights : (n,) array, optional
        Photons, say; ones if not given.

    Raises
    ------
    ValueError
        For columns of unlike lengths or not finite, or an image of more than 2^28 pixels.
    """
    x, y = _positions(x_nm, y_nm)
    frame = enclosing_frame(x, y, pixel_size_nm) if frame is None else frame
    image, extent = _blank(frame, pixel_size_nm)
    u, v = _in_pixels(x, y, frame, pixel_size_nm)
    _count(image, u, v, _weights(weights, len(x)))
    return Rendered(image, extent)


def gaussian_image(
    x_nm: npt.ArrayLike,
    y_nm: npt.ArrayLike,
    uncertainty_nm: npt.ArrayLike,
    pixel_size_nm: float,
    frame: Frame | None = None,
    weights: npt.ArrayLike | None = None,
) -> Rendered:
    """Draw each localization as a Gaussian of its own standard deviation, integrated over pixels.

    Parameters
    ----------
    x_nm, y_nm, pixel_size_nm, frame, weights
        As for :func:`histogram_image`; by default the frame encloses every Gaussian. What of a
        Gaussian lies outside the frame is left away.
    uncertainty_nm : (n,) array or float
        Standard deviation along x and along y, above 0.

    Raises
    ------
    ValueError
        As :func:`histogram_image`, or for uncertainties that aren't above 0.
    """
    x, y = _positions(x_nm, y_nm)
    sigma = np.broadcast_to(np.asarray(uncertainty_nm, dtype=float), x.shape)
    if not np.all(np.isfinite(sigma) & (sigma > 0)):
        raise ValueError("uncertainty_nm must be finite and above 0")
    if frame is None:
        _checked_pixel(pixel_size_nm)
        widest = TAIL_SIGMAS * float(sigma.max(initial=0)) + pixel_size_nm
        frame = enclosing_frame(x, y, pixel_size_nm, widest)
    image, extent = _blank(frame, pixel_size_nm)
    u, v = _in_pixels(x, y, frame, pixel_size_nm)
    rows = np.argsort(
        np.clip(v, -1, len(image)).astype(np.int32), kind="stable"
    )  # neighbours in memory follow each other
    _draw(image, u[rows], v[rows], sigma[rows] / pixel_size_nm, _weights(weights, len(x))[rows])
    return Rendered(image, extent)


def average_shifted_image(
    x_nm: npt.ArrayLike,
    y_nm: npt.ArrayLike,
    pixel_size_nm: float,
    shifts: int = 4,
    frame: Frame | None = None,
    weights: npt.ArrayLike | None = None,
) -> Rendered:
    """Return the mean of histograms with bins of `shifts` pixels, shifted pixel by pixel.

    It is smooth, with no more noise than the coarse bins have, and without their edges (D. W.
    Scott, Ann. Stat. 13 (1985) 1024). The mean of the shifted histograms is the fine one smoothed
    by a triangle of half width `shifts` pixels along each axis.

    Parameters
    ----------
    x_nm, y_nm, pixel_size_nm, frame, weights
        As for :func:`histogram_image`; by default the frame encloses every bin.
    shifts : int
        Along each axis, 1 or more; 1 is the histogram.

    Raises
    ------
    ValueError
        As :func:`histogram_image`, or for fewer than one shift.
    """
    if shifts < 1:
        raise ValueError(f"shifts must be 1 or more, got {shifts}")
    if frame is None:
        frame = enclosing_frame(x_nm, y_nm, pixel_size_nm, shifts * pixel_size_nm)
    image, extent = histogram_image(x_nm, y_nm, pixel_size_nm, frame, weights)
    triangle = 1 - np.abs(np.arange(1 - shifts, shifts)) / shifts
    for axis in (0, 1):
        image = ndimage.convolve1d(image, triangle / shifts, axis, mode="constant")
    return Rendered(image, extent)


def _positions(x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> tuple[Floats, Floats]:
    x, y = np.asarray(x_nm, dtype=float), np.asarray(y_nm, dtype=float)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"x_nm and y_nm must be columns of one length, got {x.shape}, {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("x_nm and y_nm must be finite")
    return x, y


def _weights(weights: npt.ArrayLike | None, n: int) -> Floats:
    w = np.ones(n) if weights is None else np.asarray(weights, dtype=float)
    if w.shape != (n,) or not np.isfinite(w).all():
        raise ValueError(f"weights must be {n} finite numbers, got shape {w.shape}")
    return np.ascontiguousarray(w)


def _checked_pixel(pixel_size_nm: float) -> None:
    if not (np.isfinite(pixel_size_nm) and pixel_size_nm > 0):
        raise ValueError(f"pixel_size_nm must be above 0, got {pixel_size_nm}")


def _blank(frame: Frame, pixel_size_nm: float) -> tuple[Floats, tuple[float, float, float, float]]:
    """Return an empty image and the extent of its pixels."""
    _checked_pixel(pixel_size_nm)
    if frame.width_px < 1 or frame.height_px < 1:
        raise ValueError(f"an image has 1 x 1 pixels or more, got {frame}")
    if frame.width_px * frame.height_px > MOST_PIXELS:
        raise ValueError(
            f"{frame.width_px} x {frame.height_px} pixels are more than 2^28: take larger pixels"
        )
    left, top = frame.x_nm - 0.5 * pixel_size_nm, frame.y_nm - 0.5 * pixel_size_nm
    right = left + frame.width_px * pixel_size_nm
    bottom = top + frame.height_px * pixel_size_nm
    return np.zeros((frame.height_px, frame.width_px)), (left, right, bottom, top)


def _in_pixels(x: Floats, y: Floats, frame: Frame, pixel_size_nm: float) -> tuple[Floats, Floats]:
    """Return positions in pixels from the left and upper edge of the first pixel."""
    return (x - frame.x_nm) / pixel_size_nm + 0.5, (y - frame.y_nm) / pixel_size_nm + 0.5


@numba.njit(cache=True, nogil=True)
def _count(image: Floats, u: Floats, v: Floats, weights: Floats) -> None:
    ny, nx = image.shape
    for k in range(len(u)):
        i, j = np.floor(u[k]), np.floor(v[k])
        if 0 <= i < nx and 0 <= j < ny:
            image[int(j), int(i)] += weights[k]


@numba.njit(cache=True, nogil=True)
def _draw(image: Floats, u: Floats, v: Floats, sigma: Floats, weights: Floats) -> None:
    ny, nx = image.shape
    across = np.empty(int(2 * TAIL_SIGMAS * sigma.max()) + 4 if len(sigma) else 1)
    down = np.empty_like(across)
    for k in range(len(u)):
        left = _profile(across, u[k], sigma[k])
        top = _profile(down, v[k], sigma[k])
        wide = int(np.ceil(2 * TAIL_SIGMAS * sigma[k])) + 1
        low, high = max(0, -left), min(wide, nx - left)
        if high <= low:
            continue
        part = across[low:high]
        for b in range(max(0, -top), min(wide, ny - top)):
            row = image[top + b, left + low : left + high]
            w = weights[k] * down[b]
            for a in range(len(part)):
                row[a] += w * part[a]


@numba.njit(cache=True, nogil=True)
def _profile(profile: Floats, centre: float, sigma: float) -> int:
    """Fill in a Gaussian's share of each pixel, their sum 1, and return the first pixel."""
    scale = 1 / (np.sqrt(2) * sigma)
    reach = TAIL_SIGMAS * sigma
    first = int(np.floor(centre - reach))
    wide = int(np.ceil(2 * reach)) + 1
    whole = math.erf(TAIL_SIGMAS / np.sqrt(2))
    before = -whole
    for k in range(wide):
        edge = first + k + 1 - centre
        now = whole if edge > reach else math.erf(edge * scale)
        profile[k] = (now - before) / (2 * whole)
        before = now
    return first

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

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage
from scipy.spatial import KDTree

FloatArray = npt.NDArray[np.float64]
Contrast = Literal["auto", "bright", "dark"]

COLUMN_WIDTHS_NM = (0.025, 0.032, 0.04, 0.05, 0.063, 0.08, 0.1)
"""Standard deviations tried for the matched filter: all that atomic columns look like."""
SURROUND = 3.0
"""Width of the surround, and of the fit's window, in widths of a column."""
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
    mean = _local_mean(data, exposure > 0, 0.2 / pixel_size_nm)
    variance = noise.variance(mean, exposure)
    signs = {"bright": (1.0,), "dark": (-1.0,), "auto": (1.0, -1.0)}[contrast]
    sign, width_px, z = _matched_filter(data - mean, variance, pixel_size_nm, signs)
    counts = mean**2 / variance * 2.25 * np.pi * width_px**2
    filtered = sign * (as_gaussian(z, counts) if noise.is_counts else z)

    distance_px = max(1.0, min_distance_nm / pixel_size_nm)
    found = _maxima(filtered, width_px, distance_px, threshold_sigma, exposure)
    at = found[:, 0], found[:, 1]
    significance = filtered[at]
    fit = _fit(data, exposure, noise, found, width_px)

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


@dataclass(frozen=True)
class Noise:
    """Variance of a pixel: `level`, or proportional to the local mean (counts of any gain).

    The noise is taken from the mixed second difference of the image (Immerkær, Comput. Vis.
    Image Underst. 64 (1996) 300), which a sampled column hardly has.
    """

    level: float
    is_counts: bool

    @classmethod
    def of(cls, data: FloatArray, exposure: FloatArray) -> Noise:
        """Measure the noise in tiles, and see whether it goes with the mean."""
        kernel = np.array([1.0, -2.0, 1.0])
        residual = ndimage.correlate1d(ndimage.correlate1d(data, kernel, 0), kernel, 1)
        power = residual**2 / np.sum(kernel**2) ** 2 * exposure * _noise_colour(data)
        side = int(np.clip(min(data.shape) // 8, 2, 32))
        mean, square = _tiles(data, side), _tiles(power, side)
        used = _tiles((exposure > 0).astype(np.float64), side) == 1
        mean, square = mean[used], square[used]
        if not len(mean):
            raise ValueError("coverage leaves no part of the image to measure the noise in")
        constant = float(np.median(square))
        if np.all(mean > 0):
            gain = float(np.median(square / mean))
            as_counts = np.median(np.abs(square / mean / max(gain, 1e-300) - 1))
            as_constant = np.median(np.abs(square / max(constant, 1e-300) - 1))
            if as_counts <= 1.1 * as_constant:
                return cls(gain, True)
        return cls(constant, False)

    def variance(self, mean: FloatArray, exposure: FloatArray) -> FloatArray:
        """Return the variance where the expectation is `mean`; infinite if not exposed."""
        # No image is without noise: rounding is there at least.
        floor = 1e-12 * float(np.mean(np.abs(mean))) ** 2 + 1e-300
        if self.is_counts:
            typical = float(np.mean(np.abs(mean)))
            level = self.level * np.maximum(mean, 0.02 * typical)
        else:
            level = np.full(mean.shape, self.level)
        with np.errstate(divide="ignore"):
            return np.asarray(np.maximum(level, floor) / exposure)


def expected_false_maxima(u: FloatArray, width_px: float, area_px: float) -> FloatArray:
    """Return how many maxima above `u` sigma the filtered noise of an image is expected to have.

    For a smooth Gaussian field of unit variance with variance m of its gradient's components
    there are area * m * u * exp(-u**2 / 2) / (2 pi)**1.5 (Adler, The Geometry of Random Fields,
    1981; the Euler characteristic of the excursion set, equal to the number of maxima for high
    u). For white noise filtered by :func:`matched_response` m is a ratio of two moments.
    """
    k = np.linspace(0, min(np.pi, 6 / width_px), 600)
    power = matched_response(k, width_px) ** 2 * k
    m = 0.5 * np.sum(power * k**2) / np.sum(power)
    return np.asarray(area_px * m * u * np.exp(-0.5 * u**2) / (2 * np.pi) ** 1.5)


def matched_response(k: FloatArray, width_px: float) -> FloatArray:
    """Return the filter's transfer at k rad per pixel: a Gaussian, less its broad surround."""
    k2 = (k * width_px) ** 2
    return np.asarray(np.exp(-0.5 * k2) - np.exp(-0.5 * SURROUND**2 * k2))


def as_gaussian(z: FloatArray, counts: FloatArray) -> FloatArray:
    """Return the standard deviations of a Gaussian that are as rare as `z` of a Poisson number.

    The signed root of the deviance: few counts have a longer tail upwards than downwards. The
    number of counts under a Gaussian filter of width s that gives its output this skewness is
    (sum h**2)**3 / (sum h**3)**2 = 9 pi s**2 / 4 times the counts per pixel.
    """
    t = np.maximum(z / np.sqrt(np.maximum(counts, 1e-6)), -1 + 1e-9)
    deviance = 2 * counts * ((1 + t) * np.log1p(t) - t)
    return np.asarray(np.sign(z) * np.sqrt(np.maximum(deviance, 0)))


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
        response = _filter(values, kernel, SURROUND * width, mirror=False)
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


def _noise_colour(data: FloatArray) -> float:
    """Return the noise power at low frequencies over that which the second difference sees.

    A camera's point spread weakens noise towards the sampling limit. Between two rings beyond
    what a microscope resolves in a well sampled image its power is taken as exp(-a k**2), and
    the lower quartile of a ring as noise, a lattice's spots being few. White noise gives one.
    """
    ny, nx = data.shape
    window = np.hanning(ny)[:, None] * np.hanning(nx)[None, :]
    power = np.abs(fft.rfft2((data - np.mean(data)) * window, workers=1)) ** 2
    k = np.hypot(fft.fftfreq(ny)[:, None], fft.rfftfreq(nx)[None, :])
    inner, outer = power[(k > 0.25) & (k < 0.35)], power[(k > 0.4) & (k < 0.5)]
    if min(inner.size, outer.size) < 64 or np.quantile(outer, 0.25) <= 0:
        return 1.0
    ratio = float(np.quantile(inner, 0.25) / np.quantile(outer, 0.25))
    if ratio < 1 + 12 / np.sqrt(inner.size):  # not told from white
        return 1.0
    a = np.log(ratio) / (0.45**2 - 0.30**2)
    axis = fft.fftfreq(64)
    seen = (2 - 2 * np.cos(2 * np.pi * axis)) ** 2 * np.exp(-a * axis**2)
    white = (2 - 2 * np.cos(2 * np.pi * axis)) ** 2
    return float((np.sum(white) / np.sum(seen)) ** 2)


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


@dataclass(frozen=True, eq=False)
class _Gaussians:
    """One Gaussian a column, in pixels: height * exp(-r**2 / (2 width**2)) + background."""

    y: FloatArray
    x: FloatArray
    height: FloatArray
    width: FloatArray
    background: FloatArray
    sigma: FloatArray


def _fit(
    data: FloatArray,
    exposure: FloatArray,
    noise: Noise,
    found: npt.NDArray[np.intp],
    width_px: float,
    rounds: int = 4,
) -> _Gaussians:
    """Fit all columns, each in its cell with the others' Gaussians taken away."""
    n = len(found)
    y, x = found[:, 0].astype(np.float64), found[:, 1].astype(np.float64)
    known = exposure > 0
    level = _local_mean(data, known, 4 * width_px)
    iy, ix = found[:, 0], found[:, 1]
    parameters = np.stack(
        [y, x, _smooth(data, 1.0)[iy, ix] - level[iy, ix], np.full(n, width_px), np.zeros(n)],
        axis=1,
    )
    sigma = np.full(n, np.nan)
    windows = _Windows(data.shape, found, width_px)
    for _ in range(rounds):
        # Alternate between the slow background of all and the Gaussians of each.
        spots = windows.paint(parameters)
        level = _local_mean(data - spots, known, 4 * width_px)
        for chunk in np.array_split(np.arange(n), max(1, n // 400)):
            if len(chunk):
                parameters[chunk], sigma[chunk] = _fit_chunk(
                    data, exposure, noise, level, spots, windows, parameters, chunk, width_px
                )
    y, x, height, width, offset = parameters.T
    return _Gaussians(y, x, height, width, offset + level[iy, ix], sigma)


class _Windows:
    """The square of pixels around each candidate, and which of them are its own."""

    def __init__(self, shape: tuple[int, ...], found: npt.NDArray[np.intp], width_px: float):
        ny, nx = shape
        radius = int(np.ceil(SURROUND * width_px))
        offset = np.arange(-radius, radius + 1)
        dy, dx = (o.ravel() for o in np.meshgrid(offset, offset, indexing="ij"))
        self.shape = (ny, nx)
        self.y = found[:, :1] + dy[None, :]
        self.x = found[:, 1:] + dx[None, :]
        self.inside = (self.y >= 0) & (self.y < ny) & (self.x >= 0) & (self.x < nx)
        self.own = self.inside & (dy**2 + dx**2 <= (SURROUND * width_px + 0.5) ** 2)[None, :]
        # Wider than this, columns wouldn't be seen apart (and a Gaussian is like a background).
        self.widest = np.full(len(found), 2 * width_px)
        self.index = np.clip(self.y, 0, ny - 1) * nx + np.clip(self.x, 0, nx - 1)
        if len(found) > 1:  # a pixel belongs to the nearest candidate
            distance, near = KDTree(found).query(found, k=min(9, len(found)))
            self.widest = np.clip(0.35 * distance[:, 1], width_px, self.widest)
            for j in near[:, 1:].T:
                step = found[j] - found
                beyond = step[:, :1] * dy + step[:, 1:] * dx > 0.5 * np.sum(
                    step**2, axis=1, keepdims=True
                )
                self.own &= ~beyond

    def paint(self, parameters: FloatArray) -> FloatArray:
        """Return the image (ny, nx) of all Gaussians, without backgrounds."""
        canvas = np.zeros(self.shape[0] * self.shape[1])
        y0, x0, height, width, _ = (p[:, None] for p in parameters.T)
        spots = height * np.exp(-0.5 * ((self.y - y0) ** 2 + (self.x - x0) ** 2) / width**2)
        np.add.at(canvas, self.index[self.inside], spots[self.inside])
        return canvas.reshape(self.shape)


def _fit_chunk(
    data: FloatArray,
    exposure: FloatArray,
    noise: Noise,
    level: FloatArray,
    spots: FloatArray,
    windows: _Windows,
    parameters: FloatArray,
    chunk: npt.NDArray[np.intp],
    width_px: float,
    steps: int = 6,
) -> tuple[FloatArray, FloatArray]:
    """Improve some columns by Fisher scoring; return parameters (n, 5) and sigma (n,)."""
    index, own = windows.index[chunk], windows.own[chunk]
    rows, columns = windows.y[chunk], windows.x[chunk]
    p = parameters[chunk].copy()

    def gaussians(p: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        dy, dx = rows - p[:, 0:1], columns - p[:, 1:2]
        r2 = (dy**2 + dx**2) / p[:, 3:4] ** 2
        return dy, dx, r2, np.exp(-0.5 * r2)

    others = (level + spots).ravel()[index] - p[:, 2:3] * gaussians(p)[3]
    measured = data.ravel()[index]
    exposed = exposure.ravel()[index]
    start = p[:, :2].copy()
    sigma = np.full(len(chunk), np.nan)
    for step in range(steps + 1):
        dy, dx, r2, g = gaussians(p)
        height, width = p[:, 2:3], p[:, 3:4]
        model = others + p[:, 4:5] + height * g
        weight = np.where(own, 1 / noise.variance(model, exposed), 0.0)
        slope = height * g / width
        jacobian = np.stack(
            [slope * dy / width, slope * dx / width, g, slope * r2, np.ones_like(g)], axis=1
        )
        weighted = jacobian * weight[:, None, :]
        fisher = weighted @ jacobian.transpose(0, 2, 1)
        scale = np.sqrt(np.maximum(np.diagonal(fisher, axis1=1, axis2=2), 1e-300))
        fisher /= scale[:, :, None] * scale[:, None, :]
        fisher += 1e-9 * np.eye(5)
        if step == steps:
            covariance = np.linalg.inv(fisher)
            variance = 0.5 * (covariance[:, 0, 0] / scale[:, 0] ** 2)
            variance += 0.5 * (covariance[:, 1, 1] / scale[:, 1] ** 2)
            sigma = np.sqrt(variance)
            break
        gradient = (weighted @ (measured - model)[:, :, None])[:, :, 0] / scale
        move = np.linalg.solve(fisher, gradient[:, :, None])[:, :, 0] / scale
        move[:, [0, 1, 3]] = np.clip(move[:, [0, 1, 3]], -0.5 * width_px, 0.5 * width_px)
        p += move
        p[:, :2] = np.clip(p[:, :2], start - width_px, start + width_px)
        p[:, 3] = np.clip(p[:, 3], 0.4 * width_px, windows.widest[chunk])
    return p, sigma


def _smooth(image: FloatArray, width_px: float) -> FloatArray:
    """Convolve with a Gaussian."""
    return _filter(image, lambda k: np.exp(-0.5 * (k * width_px) ** 2), width_px)


def _local_mean(image: FloatArray, known: npt.NDArray[np.bool_], width_px: float) -> FloatArray:
    """Return the mean under a Gaussian of the pixels that are known."""
    weight = known.astype(np.float64)
    if np.all(known):
        return _smooth(image, width_px)
    share = _smooth(weight, width_px)
    return np.where(share > 1e-6, _smooth(image * weight, width_px) / np.maximum(share, 1e-6), 0.0)


def _filter(
    image: FloatArray,
    response: Callable[[FloatArray], FloatArray],
    width_px: float,
    mirror: bool = True,
) -> FloatArray:
    """Multiply the spectrum by a response to k (rad per pixel).

    Beyond its edges the image goes on as in a mirror, or as zero.
    """
    ny, nx = image.shape
    pad = int(np.ceil(4 * width_px))
    size = [fft.next_fast_len(n + 2 * pad, real=True) for n in (ny, nx)]
    around = [(pad, size[0] - ny - pad), (pad, size[1] - nx - pad)]
    padded = np.pad(image, around, "symmetric" if mirror else "constant")
    k = 2 * np.pi * np.hypot(fft.fftfreq(size[0])[:, None], fft.rfftfreq(size[1])[None, :])
    spectrum = fft.rfft2(padded, workers=1) * response(k)
    result = fft.irfft2(spectrum, s=size, workers=1)[pad : pad + ny, pad : pad + nx]
    return np.asarray(result, np.float64)


def _tiles(image: FloatArray, side: int) -> FloatArray:
    """Return the means of square tiles, the remainder at the far edges left away."""
    ny, nx = (n // side for n in image.shape)
    cut = image[: ny * side, : nx * side].reshape(ny, side, nx, side)
    return np.asarray(np.mean(cut, axis=(1, 3)).ravel())


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

"""The noise of an image, measured from the image itself, and how often it feigns a maximum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from nanophantom.analysis.filters import matched_response, tiles

FloatArray = npt.NDArray[np.float64]

STEEPEST_NOISE = 15.0
"""Ratio of the noise power between two rings (see below) for a transfer of 5 % at Nyquist.

No camera blurs more; a spectrum that falls off faster is an image's own, hardly noisy.
"""


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
        mean, square = tiles(data, side), tiles(power, side)
        used = tiles((exposure > 0).astype(np.float64), side) == 1
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


def as_gaussian(z: FloatArray, counts: FloatArray) -> FloatArray:
    """Return the standard deviations of a Gaussian that are as rare as `z` of a Poisson number.

    The signed root of the deviance: few counts have a longer tail upwards than downwards. The
    number of counts under a Gaussian filter of width s that gives its output this skewness is
    (sum h**2)**3 / (sum h**3)**2 = 9 pi s**2 / 4 times the counts per pixel.
    """
    t = np.maximum(z / np.sqrt(np.maximum(counts, 1e-6)), -1 + 1e-9)
    deviance = 2 * counts * ((1 + t) * np.log1p(t) - t)
    return np.asarray(np.sign(z) * np.sqrt(np.maximum(deviance, 0)))


def _noise_colour(data: FloatArray) -> float:
    """Return the noise power at low frequencies over that which the second difference sees.

    A camera's point spread weakens noise towards the sampling limit. Between two rings beyond
    what a microscope resolves in a well sampled image its power is taken as exp(-a k**2), and
    the lower quartile of a ring as noise, a lattice's spots being few. White noise gives one, and
    so does a spectrum that falls off faster than any camera's: that is structure without noise.
    """
    ny, nx = data.shape
    window = np.hanning(ny)[:, None] * np.hanning(nx)[None, :]
    power = np.abs(fft.rfft2((data - np.mean(data)) * window, workers=1)) ** 2
    k = np.hypot(fft.fftfreq(ny)[:, None], fft.rfftfreq(nx)[None, :])
    inner, outer = power[(k > 0.25) & (k < 0.35)], power[(k > 0.4) & (k < 0.5)]
    if min(inner.size, outer.size) < 64 or np.quantile(outer, 0.25) <= 0:
        return 1.0
    ratio = float(np.quantile(inner, 0.25) / np.quantile(outer, 0.25))
    white_enough = 1 + 12 / np.sqrt(inner.size)
    if not white_enough <= ratio <= STEEPEST_NOISE:
        return 1.0
    a = np.log(ratio) / (0.45**2 - 0.30**2)
    axis = fft.fftfreq(64)
    seen = (2 - 2 * np.cos(2 * np.pi * axis)) ** 2 * np.exp(-a * axis**2)
    white = (2 - 2 * np.cos(2 * np.pi * axis)) ** 2
    return float((np.sum(white) / np.sum(seen)) ** 2)

"""Spots in noisy frames: the least-squares brightness of a spot on every pixel, against its noise.

With g the spot (a Gaussian integrated over each pixel) and I the counts of a box around a pixel,

    N = C / G,   C = sum (g - <g>) I,   G = sum (g - <g>)^2

is the light of a spot centred on that pixel that fits the box best on a flat background. Without a
spot, C varies with the variance V = G F^2 I_mean + read noise (F^2 is the excess noise of an
amplifying camera), which the box itself tells: so the threshold is a significance, and the same
number of false positives comes from dim and bright, flat and uneven backgrounds. Spots are the
tops of C less some of its curvature: that narrows the filter for the pairs, not for the noise.

Poisson noise has a heavy upper tail, the more so in the dark. C is taken for a Poisson number of
packets of size c = kappa_3 / kappa_2 (which has its variance and its skewness); the signed root of
that number's deviance is nearly normal, far into the tail (R. Lugannani & S. Rice, Adv. Appl.
Prob. 12 (1980) 475).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import erf

from nanophantom.analysis.noise import as_gaussian

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

FALSE_POSITIVES = 1e-6
"""Default: of a pixel in a frame without spots."""
FILTER = 0.8
"""Width of the filter over that of a spot: 3 % less sensitive, and shows pairs apart sooner."""
BOX = 4.5
"""Half the box's edge over a spot's width; a wide box tells the background better."""
SHARPENING = 0.5
"""Of the map whose tops are the spots, in squared widths; for pairs, once more."""

_maths: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "nsz", "arcp"},
}
compiled = numba.njit(cache=True, **_maths)
# only called by kernels: without wrappers for Python, they compile faster
_without: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
inner = numba.njit(**_maths, **_without)


def pixel_gaussian(reach: int, sigma_px: float, centre_px: float = 0.0) -> Floats:
    """Return a Gaussian of unit area integrated over the pixels -reach ... reach."""
    edges = (np.arange(-reach, reach + 2) - 0.5 - centre_px) / (math.sqrt(2.0) * sigma_px)
    return np.asarray(0.5 * np.diff(erf(edges)))


def threshold_of(false_positives: float, contrast: Floats) -> float:
    """Return the significance that noise exceeds in so many maxima a pixel.

    The maxima of a smooth Gaussian field of unit variance, of gradient variance m, exceed a high u
    in m u exp(-u^2 / 2) / (2 pi)^1.5 places of a unit of area (Adler, The Geometry of Random
    Fields, 1981). Here m is that of white noise filtered by `contrast`.
    """
    if not 0.0 < false_positives <= 1e-2:
        raise ValueError(f"false_positives is {false_positives}; it must lie above 0, up to 0.01")
    m = float((np.diff(contrast, axis=1) ** 2).sum() / (contrast**2).sum())
    rate = m / (2.0 * math.pi) ** 1.5
    return float(brentq(lambda u: rate * u * math.exp(-0.5 * u * u) - false_positives, 1.0, 40.0))


def temporal_median(frames: npt.ArrayLike) -> Singles:
    """Return the median of each pixel over frames (n, ny, nx): the background behind blinks."""
    return np.asarray(np.median(np.asarray(frames, np.float32), axis=0), np.float32)


class Work(NamedTuple):
    """Arrays that the search writes over."""

    row: Singles
    filtered: Singles
    summed: Singles
    contrast: Singles
    level: Singles


@inner
def _contrast(frame: Singles, known: Singles, taps: Singles, mean: np.float32, work: Work) -> None:
    """Write C and the sum over the box of each pixel; the frame goes on beyond its edges."""
    # Slices, each indexed by the loop's variable alone, let the compiler use vector instructions.
    ny, nx = frame.shape
    reach = len(taps) // 2
    row, contrast, level = work.row, work.contrast, work.level
    middle = row[reach : reach + nx]
    for y in range(ny + 2 * reach):
        from_y = min(max(y - reach, 0), ny - 1)
        counted, expected = frame[from_y], known[from_y]
        for x in range(nx):
            middle[x] = counted[x] - expected[x]
        row[:reach] = middle[0]
        row[reach + nx :] = middle[nx - 1]
        filtered, summed = work.filtered[y], work.summed[y]
        for x in range(nx):
            filtered[x] = taps[reach] * middle[x]
            summed[x] = middle[x]
        for k in range(1, reach + 1):
            tap = taps[reach + k]
            left, right = row[reach - k : reach - k + nx], row[reach + k : reach + k + nx]
            for x in range(nx):
                pair = left[x] + right[x]
                filtered[x] += tap * pair
                summed[x] += pair
    for y in range(ny):
        c, total = contrast[y], level[y]
        filtered, summed = work.filtered[y + reach], work.summed[y + reach]
        for x in range(nx):
            c[x] = taps[reach] * filtered[x]
            total[x] = summed[x]
        for k in range(1, reach + 1):
            tap = taps[reach + k]
            above, below = work.filtered[y + reach - k], work.filtered[y + reach + k]
            sum_above, sum_below = work.summed[y + reach - k], work.summed[y + reach + k]
            for x in range(nx):
                c[x] += tap * (above[x] + below[x])
                total[x] += sum_above[x] + sum_below[x]
        for x in range(nx):
            c[x] -= mean * total[x]


@inner
def _sharp(contrast: Singles, y: int, x: int, sharpening: float) -> float:
    """Return C less its curvature: as of a filter narrower by 2 sharpening pixels squared."""
    ny, nx = contrast.shape
    here = contrast[y, x]
    around = (
        contrast[max(y - 1, 0), x]
        + contrast[min(y + 1, ny - 1), x]
        + contrast[y, max(x - 1, 0)]
        + contrast[y, min(x + 1, nx - 1)]
    )
    return float((1.0 + 4.0 * sharpening) * here - sharpening * around)


@inner
def _is_top(contrast: Singles, y: int, x: int, sharpening: float) -> bool:
    ny, nx = contrast.shape
    here = _sharp(contrast, y, x, sharpening)
    for j in range(max(y - 1, 0), min(y + 2, ny)):
        for i in range(max(x - 1, 0), min(x + 2, nx)):
            other = _sharp(contrast, j, i, sharpening)
            if other > here or (other == here and (j < y or (j == y and i < x))):
                return False
    return True


@inner
def _offset(before: float, here: float, after: float) -> float:
    """Return where a parabola through three samples has its top."""
    bend = 2.0 * here - before - after
    return min(max(0.5 * (after - before) / bend, -0.5), 0.5) if bend > 0.0 else 0.0


@compiled
def _find(
    frames: Singles, known: Singles, noise: Singles, edge: Singles, taps: Singles, gain: float,
    mean: float,
    excess: float, threshold: float, sharpening: float, work: Work, found: Floats,
) -> int:  # fmt: skip
    """Write frame, y, x, starts (x, y, light, level), C and V of spots; return their number."""
    count, ny, nx = frames.shape
    n = len(taps) * len(taps)
    contrast, level = work.contrast, work.level
    of_noise, of_light = np.float32(threshold**2), np.float32(threshold**2 * gain * excess / n)
    above = work.row[:nx]
    spots = 0
    for f in range(count):
        _contrast(frames[f], known, taps, np.float32(mean), work)
        for y in range(ny):
            c_row, level_row, noise_row, edge_row = contrast[y], level[y], noise[y], edge[y]
            for x in range(nx):
                light = max(level_row[x], np.float32(0.0)) * edge_row[x]
                above[x] = c_row[x] * abs(c_row[x]) - of_light * light - of_noise * noise_row[x]
            for x in range(nx):
                if above[x] <= 0.0 or not _is_top(contrast, y, x, sharpening):
                    continue
                c = contrast[y, x]
                if spots < len(found):
                    up, down = contrast[max(y - 1, 0), x], contrast[min(y + 1, ny - 1), x]
                    left, right = contrast[y, max(x - 1, 0)], contrast[y, min(x + 1, nx - 1)]
                    out = found[spots]
                    out[0], out[1], out[2] = f, y, x
                    out[3], out[4] = x + _offset(left, c, right), y + _offset(up, c, down)
                    out[5] = c / gain
                    out[6] = (level[y, x] - out[5] * mean * n) / n
                    out[7] = c
                    shot = gain * edge[y, x] * max(level[y, x], 0.0) / n
                    out[8] = excess * shot + noise[y, x]
                spots += 1
    return spots


@dataclass(frozen=True, eq=False)
class Spots:
    """Spots found in frames, a row each, sorted by frame, then y.

    Attributes
    ----------
    frame, y, x : (n,) int32
        The pixel whose spot is brightest.
    starts : (n, 4)
        x and y (pixels from the centre of pixel (0, 0), between pixels), photoelectrons of the
        spot, and of the background in a pixel: where a fit can start.
    significance : (n,)
        Standard deviations of the noise, as of a normal distribution.
    """

    frame: Ints
    y: Ints
    x: Ints
    starts: Floats
    significance: Floats

    def __len__(self) -> int:
        return len(self.frame)


def _beyond_edges(taps: Floats, length: int) -> tuple[Floats, Floats]:
    """Return the filter, and the box, as matrices (length, length) on pixels that go on beyond."""
    reach = len(taps) // 2
    filtered, boxed = np.zeros((length, length)), np.zeros((length, length))
    at = np.arange(length)
    for k in range(-reach, reach + 1):
        pixel = np.clip(at + k, 0, length - 1)
        np.add.at(filtered, (at, pixel), taps[reach + k])
        np.add.at(boxed, (at, pixel), 1.0)
    return filtered, boxed


class SpotFinder:
    """Finds spots of one width in frames of one size; makes its working arrays once.

    Parameters
    ----------
    shape
        (ny, nx) of a frame.
    sigma_px
        Standard deviation of a spot, in pixels.
    read_variance : scalar or (ny, nx)
        Variance of the noise besides the photons', in photoelectrons squared.
    excess_noise
        F^2: variance of photoelectrons over their mean; 2 for an EMCCD.
    false_positives
        How many, of a pixel in a frame without spots.

    Raises
    ------
    ValueError
        A parameter is out of its range, or frames are smaller than a spot's box.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        sigma_px: float,
        read_variance: npt.ArrayLike = 0.0,
        excess_noise: float = 1.0,
        false_positives: float = FALSE_POSITIVES,
    ):
        if not 0.3 <= sigma_px <= 10.0:
            raise ValueError(
                f"a spot's sigma is {sigma_px:.3g} pixels (psf_sigma_nm over pixel_size_nm); spots "
                "of 0.3 to 10 pixels can be found: take other pixels"
            )
        self.reach = math.ceil(BOX * sigma_px)
        if min(shape) < 2 * self.reach + 1:
            raise ValueError(f"frames of {shape} pixels are smaller than a spot's box")
        self.shape, self.sharpening = shape, SHARPENING * sigma_px**2
        taps = pixel_gaussian(self.reach, FILTER * sigma_px)
        self.taps = taps.astype(np.float32)
        square = np.outer(taps, taps)
        contrast = square - square.mean()
        self.gain = float((contrast**2).sum())
        self.mean, self.n = float(square.mean()), square.size
        self.packet = float((contrast**3).sum()) / self.gain * (2.0 * excess_noise - 1.0)
        self.excess_noise = excess_noise
        self.threshold = threshold_of(false_positives, contrast)
        variance = np.broadcast_to(np.asarray(read_variance, float), shape)
        self._rows, self._columns = (_beyond_edges(taps, length) for length in shape)
        self._read = self._passed(variance)
        self._edge = self._passed(np.ones(shape)) / np.float32(self.gain)
        tall = (shape[0] + 2 * self.reach, shape[1])
        shapes = ((shape[1] + 2 * self.reach,), tall, tall, shape, shape)
        self._work = Work(*(np.empty(some, np.float32) for some in shapes))
        self._found = np.empty((256, 9))

    def _passed(self, variance: npt.ArrayLike) -> Singles:
        """Return the variance of C where each pixel has one of its own.

        The sum of the squares of C's weights, A (x) A - mean B (x) B, times the variances. What
        goes on beyond an edge is the edge's own pixel, whose weights add up before they are
        squared.
        """
        v = np.asarray(variance, np.float64)
        (a, b), (c, d) = self._rows, self._columns
        products = ((1.0, a * a, c * c), (-2 * self.mean, a * b, c * d))
        both = sum(factor * (left @ v @ right.T) for factor, left, right in products)
        return np.asarray(both + self.mean**2 * ((b * b) @ v @ (d * d).T), np.float32)

    def find(self, frames: Singles, background: Singles | None = None) -> Spots:
        """Return the spots of frames.

        Parameters
        ----------
        frames : (n, ny, nx) float32
            Photoelectrons.
        background : (ny, nx) float32, optional
            A known uneven background (see `temporal_median`), which is taken away first.
        """
        if frames.ndim != 3 or frames.shape[1:] != self.shape:
            raise ValueError(f"frames have the shape {frames.shape}; expected (n, *{self.shape})")
        read, known = self._read, np.zeros(self.shape, np.float32)
        if background is not None:
            known = np.ascontiguousarray(background, dtype=np.float32)
            read = read + np.float32(self.excess_noise) * self._passed(np.maximum(known, 0))
        frames = np.ascontiguousarray(frames, dtype=np.float32)
        while True:
            count = _find(
                frames, known, read, self._edge, self.taps, self.gain, self.mean,
                self.excess_noise, self.threshold, self.sharpening, self._work, self._found,
            )  # fmt: skip
            if count <= len(self._found):
                break
            self._found = np.empty((2 * count, 9))
        found = self._found[:count]
        contrast, variance = found[:, 7], found[:, 8]
        significance = as_gaussian(contrast / np.sqrt(variance), variance / self.packet**2)
        found, significance = (a[significance > self.threshold] for a in (found, significance))
        frame, y, x = found[:, :3].T.astype(np.int32)
        return Spots(frame, y, x, found[:, 3:7].copy(), significance)


def find_spots(frames: npt.ArrayLike, sigma_px: float, **options: Any) -> Spots:
    """Return the spots of frames (n, ny, nx) or of one frame; options as of `SpotFinder`."""
    array = np.asarray(frames, np.float32)
    array = array[None] if array.ndim == 2 else array
    return SpotFinder(array.shape[1:], sigma_px, **options).find(array)

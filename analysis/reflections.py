"""Reflections and rings of a movie: their Fourier coefficients and powers in each frame.

What a crystal adds to a frame is a sum of waves, one for each reflection. The frame is seen through
a window that fades out at its edges; the coefficient of a reflection is then the sum over the
windowed frame times the wave, taken at the reflection's own frequency, which needn't be one of the
Fourier transform's. The noise in it has the mean power of the modes around. Frequencies are in
1/nm, coefficients in counts per pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage, special

from nanophantom.analysis.fourier_shells import soft_edge

FloatArray = npt.NDArray[np.float64]

WINDOW_EDGE = 1 / 12
"""Fraction of each side over which the frames fade out where coefficients are measured."""
SEPARATION = 4.0
"""Fourier pixels between reflections that Hann's window tells apart."""
ANNULUS = (5.0, 14.0)
"""Fourier pixels from a reflection between which its background is measured."""
FALSE_ALARMS = 0.01
"""Expected number of reflections found in a movie of mere noise."""


@dataclass(frozen=True, eq=False)
class SpotSeries:
    """The reflections of a movie and their Fourier coefficients in each frame.

    Coefficients are in counts per pixel: cos(2 pi k r) has 1/2.

    Attributes
    ----------
    ky_per_nm, kx_per_nm : (spots,) float64
        One of each pair of opposite reflections.
    amplitude : (spots, n) complex128
        Of the structure in frame 0's place if shifts were given, in each frame's own if not.
    background : (spots, n) float64
        Mean power of the noise and whatever else surrounds the reflection.
    """

    ky_per_nm: FloatArray
    kx_per_nm: FloatArray
    amplitude: npt.NDArray[np.complex128]
    background: FloatArray

    @property
    def d_spacing_nm(self) -> FloatArray:
        """Period of each reflection."""
        return np.asarray(1 / np.hypot(self.ky_per_nm, self.kx_per_nm))

    @property
    def power(self) -> FloatArray:
        """Power of each reflection in each frame, (spots, n): unbiased, the background is off."""
        return np.asarray(np.abs(self.amplitude) ** 2 - self.background)

    @property
    def power_sigma(self) -> FloatArray:
        """Standard deviation of the power, sqrt(B^2 + 2 B I) with what was found for I >= 0."""
        B = self.background
        return np.sqrt(B**2 + 2 * B * np.maximum(self.power, 0))


def spot_powers(
    images: npt.ArrayLike,
    pixel_size_nm: float,
    shifts_px: npt.ArrayLike | None = None,
    spots_per_nm: npt.ArrayLike | None = None,
    coarsest_nm: float | None = None,
) -> SpotSeries:
    """Measure the reflections of a movie frame by frame, finding them first if not given.

    A reflection is a maximum of the power summed over the frames (of the power of the sum in
    phase, if shifts are given) that noise of the level around would have in one movie of a
    hundred (FALSE_ALARMS), and that isn't a foot of a stronger one.

    Parameters
    ----------
    images : (n, ny, nx) array
    pixel_size_nm : float
    shifts_px : (n, 2) array, optional
        (dy, dx): what lies at p in frame 0 lies at p + shift in frame i.
    spots_per_nm : (spots, 2) array, optional
        (ky, kx) of the reflections.
    coarsest_nm : float, optional
        Longest period that is looked for; an eighth of the shorter side if not given.

    Raises
    ------
    ValueError
        If the images aren't a finite (n, ny, nx) stack of 32 pixels or more, shifts or spots
        don't fit, or reflections leave no room for a background.
    """
    stack = np.asarray(images)
    if stack.ndim != 3 or min(stack.shape[1:]) < 32 or stack.dtype.kind not in "uif":
        raise ValueError(f"a movie is (n, ny, nx) with sides of 32 or more, got {stack.shape}")
    if not np.isfinite(stack).all():
        raise ValueError("the movie must hold finite numbers")
    if not pixel_size_nm > 0:
        raise ValueError(f"pixel_size_nm must be positive, got {pixel_size_nm}")
    n, ny, nx = stack.shape
    shifts = None if shifts_px is None else np.asarray(shifts_px, float)
    if shifts is not None and (shifts.shape != (n, 2) or not np.isfinite(shifts).all()):
        raise ValueError(f"shifts must be ({n}, 2) pixels, got {shifts.shape}")
    if spots_per_nm is None:
        periods = 8.0 if coarsest_nm is None else min(ny, nx) * pixel_size_nm / coarsest_nm
        spots = _find_spots(stack, shifts, max(periods, SEPARATION + 1))
    else:
        spots = np.reshape(np.asarray(spots_per_nm, float), (-1, 2)) * pixel_size_nm
        if not np.all(np.abs(spots) < 0.5):
            raise ValueError("a reflection lies beyond the sampling limit")

    window = soft_edge((ny, nx), WINDOW_EDGE)
    waves_y = np.exp(-2j * np.pi * spots[:, :1] * np.arange(ny))
    waves_x = np.exp(-2j * np.pi * spots[:, 1:] * np.arange(nx))
    around = _annuli(spots, (ny, nx))
    amplitude = np.empty((len(spots), n), complex)
    background = np.empty((len(spots), n))
    for i, frame in enumerate(stack):
        seen = window * (frame - np.sum(window * frame) / np.sum(window))
        amplitude[:, i] = np.sum(np.einsum("sy,yx->sx", waves_y, seen) * waves_x, axis=1)
        if shifts is not None:
            amplitude[:, i] *= np.exp(2j * np.pi * (spots @ shifts[i]))
        power = np.abs(fft.rfft2(seen, workers=1)) ** 2
        # noise is exponentially distributed; the median doesn't mind a foot of a reflection
        background[:, i] = [np.median(power[ring]) / np.log(2) for ring in around]
    scale = np.sum(window)
    return SpotSeries(
        spots[:, 0] / pixel_size_nm,
        spots[:, 1] / pixel_size_nm,
        np.asarray(amplitude / scale, complex),
        background / scale**2,
    )


def _find_spots(
    stack: npt.NDArray[np.generic], shifts: FloatArray | None, periods: float
) -> FloatArray:
    """Return (ky, kx) in cycles per pixel of the reflections, strongest first."""
    n, ny, nx = stack.shape
    window = np.hanning(ny)[:, None] * np.hanning(nx)  # its feet fall off fastest
    ky, kx = fft.fftfreq(ny)[:, None], fft.rfftfreq(nx)[None, :]
    total = np.zeros((ny, nx // 2 + 1), complex)
    for i, frame in enumerate(stack):
        mean = np.sum(window * frame) / np.sum(window)
        spectrum = fft.rfft2(window * (frame - mean), workers=1)
        if shifts is None:
            total += np.abs(spectrum) ** 2
        else:
            total += spectrum * np.exp(2j * np.pi * (ky * shifts[i, 0] + kx * shifts[i, 1]))
    power = np.asarray(total.real if shifts is None else np.abs(total) ** 2)
    terms = n if shifts is None else 1  # of exponentially distributed noise in each power

    ring = np.rint(np.hypot(ky, kx) * min(ny, nx) / 4).astype(int)
    median = np.asarray(ndimage.median(power, ring, np.arange(ring.max() + 1)))
    level = (median / special.gammaincinv(terms, 0.5))[ring]
    threshold = special.gammainccinv(terms, FALSE_ALARMS / power.size)
    candidate = (power > threshold * level) & (power == ndimage.maximum_filter(power, 3))
    candidate &= (np.hypot(ky * ny, kx * nx) > periods) & (np.maximum(np.abs(ky), kx) < 0.48)
    candidate &= (kx > 0) | (ky > 0)

    iy, ix = np.nonzero(candidate)
    order = np.argsort(-power[iy, ix])
    found: list[tuple[int, int]] = []
    for y, x in zip(iy[order], ix[order], strict=True):
        if all(_is_apart(y - v, x - u, power[y, x] / power[v, u], ny) for v, u in found):
            found.append((y, x))
    spots = [
        ((y + _top(power[[y - 1, y, (y + 1) % ny], x])) / ny, (x + _top(_across(power, y, x))) / nx)
        for y, x in found
    ]
    k = np.array(spots, float).reshape(-1, 2)
    k[:, 0] -= np.rint(k[:, 0])
    return k


def _is_apart(dy: int, dx: int, ratio: float, ny: int) -> bool:
    """Return whether a maximum isn't part of a stronger one, or of the feet of Hann's window."""
    dy = abs(dy) % ny
    distance = np.hypot(min(dy, ny - dy), dx)
    if distance < SEPARATION:
        return False
    foot = 1 / (np.pi * distance * (distance**2 - 1))
    return bool(ratio > 4 * foot**2)


def _across(power: FloatArray, y: int, x: int) -> FloatArray:
    """Return three powers along x; left of kx = 0 lie the conjugates."""
    left = power[y, x - 1] if x > 0 else power[-y, 1]
    return np.array([left, power[y, x], power[y, x + 1]])


def _top(three: FloatArray) -> float:
    """Return where the parabola through three logarithms has its maximum, in pixels."""
    a, b, c = np.log(three + 1e-300)
    return float(np.clip(0.5 * (a - c) / min(a - 2 * b + c, -1e-12), -0.5, 0.5))


def _annuli(
    spots: FloatArray, shape: tuple[int, int]
) -> list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Return the modes around each reflection that belong to no other and not to the mean."""
    ny, nx = shape
    ky, kx = fft.fftfreq(ny)[:, None], fft.rfftfreq(nx)[None, :]

    def distance(k: FloatArray) -> FloatArray:
        off = ky - k[0]
        return np.asarray(np.hypot((off - np.rint(off)) * ny, (kx - k[1]) * nx))

    free = np.ones((ny, nx // 2 + 1), bool)
    for k in [np.zeros(2), *spots, *(-spots)]:
        free &= distance(k) > ANNULUS[0]
    rings = []
    for k in spots:
        ring = np.nonzero(free & (distance(k) <= ANNULUS[1]))
        if len(ring[0]) < 40:
            raise ValueError(
                f"no background around the reflection at {k} cycles per pixel: others are too near"
            )
        rings.append((ring[0], ring[1]))
    return rings


def band_powers(
    images: npt.ArrayLike,
    pixel_size_nm: float,
    edges_per_nm: npt.ArrayLike,
    floor_per_nm: tuple[float, float],
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the power of each ring in each frame, for :func:`fit_powers`.

    Parameters
    ----------
    images : (n, ny, nx) array
        Of noise that is white, and of a specimen that stays in view.
    pixel_size_nm : float
    edges_per_nm : (bands + 1,) array
        Spatial frequencies between the rings, rising.
    floor_per_nm : tuple of float
        Frequencies (from, to) that carry nothing but noise.

    Returns
    -------
    power, background : (bands, n) float64
        Sum over the independent modes, counts^2, noise included; mean noise of one mode.
    modes : (bands,) float64

    Raises
    ------
    ValueError
        If a ring is empty.
    """
    stack = np.asarray(images)
    if stack.ndim != 3 or not np.isfinite(stack).all():
        raise ValueError(f"a movie is a finite (n, ny, nx) stack, got {stack.shape}")
    n, ny, nx = stack.shape
    edges = np.asarray(edges_per_nm, float)
    ky, kx = fft.fftfreq(ny, pixel_size_nm)[:, None], fft.rfftfreq(nx, pixel_size_nm)[None, :]
    k = np.where((kx > 0) | (ky > 0), np.hypot(ky, kx), -1.0)  # each pair of conjugates once
    masks = [(k >= low) & (k < high) for low, high in pairwise(edges)]
    noise = (k >= floor_per_nm[0]) & (k < floor_per_nm[1])
    if not all(np.any(mask) for mask in [*masks, noise]):
        raise ValueError(f"a ring of {edges} or the floor's {floor_per_nm} 1/nm holds no mode")
    window = soft_edge((ny, nx), WINDOW_EDGE)
    leak = ny * nx * np.sum(window**4) / np.sum(window**2) ** 2
    power, floor = np.empty((len(masks), n)), np.empty(n)
    for i, frame in enumerate(stack):
        seen = window * (frame - np.sum(window * frame) / np.sum(window))
        spectrum = np.abs(fft.rfft2(seen, workers=1)) ** 2 / np.sum(window**2)
        power[:, i] = [np.sum(spectrum[mask]) / leak for mask in masks]
        floor[i] = np.mean(spectrum[noise])
    modes = np.array([np.count_nonzero(mask) / leak for mask in masks])
    return power, np.broadcast_to(floor, power.shape), modes

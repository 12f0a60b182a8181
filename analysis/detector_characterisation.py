"""What a camera does to an image: gain, noise power spectrum, MTF and DQE, from its own images.

Flat fields give gain, variance and the noise power spectrum (NPS), a slanted edge or sinusoids the
modulation transfer function (MTF), and all of them the detective quantum efficiency, the ratio of
the squared signal-to-noise ratios at output and input (Rose, J. Opt. Soc. Am. 38 (1948) 196;
McMullan et al., Ultramicroscopy 109 (2009) 1126):

    DQE(q) = MTF(q)^2 / (NNPS(q) n),   NNPS = NPS / mean^2,   n = incident electrons per pixel.

Frequencies are in cycles per pixel: the sampling limit is 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

FloatArray = npt.NDArray[np.float64]

OVERSAMPLING = 4
"""Bins per pixel of the edge profile (ISO 12233)."""


@dataclass(frozen=True, eq=False)
class FlatField:
    """What repeated images of an even beam tell.

    Attributes
    ----------
    mean : float
        Mean reading less the dark reading.
    dark : (ny, nx) float64
        Mean reading without beam; zeros if no dark images were given.
    gain_map : (ny, nx) float64
        Sensitivity of each pixel relative to the mean, 1 on average.
    variance : (ny, nx) float64
        Variance of each pixel from image to image.
    """

    mean: float
    dark: FloatArray
    gain_map: FloatArray
    variance: FloatArray

    def correct(self, image: npt.ArrayLike) -> FloatArray:
        """Return (image - dark) / gain.

        Raises
        ------
        ValueError
            If a pixel is dead (its gain isn't positive).
        """
        if np.any(self.gain_map <= 0):
            raise ValueError(f"{np.count_nonzero(self.gain_map <= 0)} dead pixels have no gain")
        return np.asarray((np.asarray(image, float) - self.dark) / self.gain_map)


def flat_field(flats: npt.ArrayLike, darks: npt.ArrayLike | None = None) -> FlatField:
    """Return gain, dark reading and variance from flat fields (n, ny, nx).

    A gain map from N electrons per pixel in all has itself a variance of 1 / N.

    Raises
    ------
    ValueError
        If there are fewer than 2 finite flats, darks have another shape, or flats aren't brighter.
    """
    stack = _stack(flats)
    average = np.mean(stack, axis=0)
    dark = np.zeros(average.shape) if darks is None else np.mean(_stack(darks, 1), axis=0)
    if dark.shape != average.shape:
        raise ValueError(f"darks must have the shape {average.shape}, got {dark.shape}")
    signal = average - dark
    mean = float(np.mean(signal))
    if mean <= 0:
        raise ValueError("the flat fields must be brighter than the dark images")
    return FlatField(mean, dark, signal / mean, np.var(stack, axis=0, ddof=1))


@dataclass(frozen=True, eq=False)
class NoisePower:
    """The noise power spectrum of flat fields.

    Its mean over all frequencies is the variance of a pixel (one pixel is the unit of area);
    independent Poisson counts have their mean at every frequency.

    Attributes
    ----------
    spectrum : (tile_px, tile_px) float64
        NPS(ky, kx) in the order of fftfreq.
    frequency : (rings,) float64
        Mean frequency of each ring, cycles per pixel, up to the sampling limit.
    radial : (rings,) float64
        Mean of the spectrum in each ring.
    mean : float
        Mean reading: `radial / mean**2` is the NNPS.
    """

    spectrum: FloatArray
    frequency: FloatArray
    radial: FloatArray
    mean: float

    @property
    def normalised(self) -> FloatArray:
        """NNPS of each ring, in pixels."""
        return self.radial / self.mean**2


def noise_power_spectrum(
    flats: npt.ArrayLike, tile_px: int = 64, dark: npt.ArrayLike = 0.0
) -> NoisePower:
    """Return the NPS of flat fields (n, ny, nx), n >= 2.

    The mean of the images is taken off each, which removes the fixed pattern and 1/n of the
    noise, restored by n / (n - 1); then each image's own mean, which goes with the beam's current.
    The spectra of half overlapping tiles under Hann's window are averaged (Welch, IEEE Trans.
    Audio Electroacoust. 15 (1967) 70).

    Parameters
    ----------
    flats : (n, ny, nx) array
    tile_px : int
        Side of a tile: its inverse is the resolution in frequency.
    dark : array or float
        Reading without beam.

    Raises
    ------
    ValueError
        If there are fewer than 2 finite flats, or a tile is larger than half of them.
    """
    stack = _stack(flats)
    n, ny, nx = stack.shape
    if not 8 <= tile_px <= min(ny, nx) // 2:
        raise ValueError(f"a tile has from 8 pixels to half of the image's {ny, nx}, got {tile_px}")
    fixed = np.mean(stack, axis=0, dtype=np.float64)
    profile = np.sin(np.pi * (np.arange(tile_px) + 0.5) / tile_px) ** 2
    window = profile[:, None] * profile
    step = tile_px // 2
    spectrum = np.zeros((tile_px, tile_px))
    tiles = 0
    for image in stack:
        noise = image - fixed
        noise -= np.mean(noise)
        parts = np.lib.stride_tricks.sliding_window_view(noise, (tile_px, tile_px))[::step, ::step]
        spectrum += np.sum(np.abs(fft.fft2(parts * window, workers=1)) ** 2, axis=(0, 1))
        tiles += parts.shape[0] * parts.shape[1]
    spectrum *= n / (n - 1) / (tiles * np.sum(window**2))

    q = np.hypot(fft.fftfreq(tile_px)[:, None], fft.fftfreq(tile_px)[None, :])
    ring = np.rint(q * tile_px).astype(int)
    inside = (ring > 0) & (ring <= tile_px // 2)
    count = np.bincount(ring[inside])[1:]
    return NoisePower(
        spectrum,
        np.bincount(ring[inside], q[inside])[1:] / count,
        np.bincount(ring[inside], spectrum[inside])[1:] / count,
        float(np.mean(fixed - np.asarray(dark, float))),
    )


@dataclass(frozen=True, eq=False)
class Transfer:
    """A modulation transfer function.

    Attributes
    ----------
    frequency : (m,) float64
        Cycles per pixel.
    mtf : (m,) float64
        1 at zero frequency.
    """

    frequency: FloatArray
    mtf: FloatArray

    def at(self, frequency: npt.ArrayLike) -> FloatArray:
        """Return the MTF at other frequencies, interpolated.

        Raises
        ------
        ValueError
            Outside the frequencies measured.
        """
        q = np.asarray(frequency, float)
        if np.any(q < self.frequency[0]) or np.any(q > self.frequency[-1]):
            raise ValueError(
                f"the MTF was measured from {self.frequency[0]:.3g} to {self.frequency[-1]:.3g}"
            )
        return np.asarray(np.interp(q, self.frequency, self.mtf))


def mtf_from_edge(image: npt.ArrayLike, half_width_px: float = 32.0) -> Transfer:
    """Return the MTF from the image of a straight edge, slightly inclined to the pixels.

    The rows (or columns) cross the edge at all fractions of a pixel. Sorted by their distance from
    it, binned finer than a pixel, they are its profile; its derivative is the line spread function,
    whose transform is the MTF along the normal of the edge (ISO 12233). The averaging over a bin
    and the difference of neighbours are divided out.

    Parameters
    ----------
    image : (ny, nx) array
        An edge 1 to 45 degrees from an axis, the average of many exposures if noisy.
    half_width_px : float
        Distance from the edge up to which the profile is used. The spread must have ended there.

    Raises
    ------
    ValueError
        If the image isn't finite, there is no edge through all rows, it isn't inclined enough, or
        the profile doesn't fit into the image.
    """
    edge = np.asarray(image, float)
    if edge.ndim != 2 or min(edge.shape) < 32 or not np.isfinite(edge).all():
        raise ValueError(f"an edge's image is finite, 32 pixels or more wide, got {edge.shape}")
    if abs(np.sum(np.diff(edge, axis=0))) * edge.shape[0] > (
        abs(np.sum(np.diff(edge, axis=1))) * edge.shape[1]
    ):
        edge = edge.T  # the edge now runs from top to bottom
    ny, nx = edge.shape
    slope, offset = _edge_line(edge)
    if not 1 / 60 < abs(slope) < 1:
        angle = np.degrees(np.arctan(slope))
        raise ValueError(f"the edge must be 1 to 45 degrees from an axis, it is {angle:.2f}")
    cosine = 1 / np.hypot(1, slope)
    distance = (np.arange(nx) - (offset + slope * np.arange(ny)[:, None])) * cosine

    if np.min(np.abs(distance[[0, -1]][:, [0, -1]])) < half_width_px:
        raise ValueError(f"the image doesn't show {half_width_px} pixels on both sides of the edge")
    bins = 2 * round(half_width_px * OVERSAMPLING)
    place = np.floor(distance * OVERSAMPLING).astype(int) + bins // 2
    inside = (place >= 0) & (place < bins)
    count = np.bincount(place[inside], minlength=bins)
    if np.any(count == 0):
        raise ValueError("the edge crosses too few rows at different fractions of a pixel")
    profile = np.bincount(place[inside], edge[inside], bins) / count
    # where the pixels of a bin really lie: few rows fill it unevenly
    centre = np.bincount(place[inside], distance[inside], bins) / count
    grid = (np.arange(bins) - bins // 2 + 0.5) / OVERSAMPLING
    profile += np.gradient(profile, centre) * (grid - centre)

    spread = np.diff(profile)
    taper = np.hanning(len(spread) // 4 * 2)  # over the outer quarters, which hold noise only
    window = np.ones(len(spread))
    rise = len(taper) // 2
    window[:rise], window[-rise:] = taper[:rise], taper[-rise:]
    transfer = np.abs(fft.rfft(spread * window, 8 * len(spread)))
    q = fft.rfftfreq(8 * len(spread), 1 / OVERSAMPLING)
    # a bin averages: sinc(q / 4); the difference of neighbours is the derivative times it again
    mtf = transfer / transfer[0] / np.sinc(q / OVERSAMPLING) ** 2
    keep = q <= 0.5 + 1e-9
    return Transfer(q[keep], mtf[keep])


def _edge_line(edge: FloatArray) -> tuple[float, float]:
    """Return slope and offset of x = offset + slope * y, where the rows cross half the step."""
    rows = np.arange(len(edge))
    derivative = np.diff(ndimage.gaussian_filter1d(edge, 1.0, axis=1), axis=1)
    derivative *= np.sign(np.sum(derivative))
    along = np.arange(edge.shape[1] - 1) + 0.5
    steepest = np.argmax(ndimage.gaussian_filter(derivative, [1.0, 2.0]), axis=1)
    # a line that outliers don't pull, then the centroids near it
    slope, offset = _line(rows, along[steepest], np.ones(len(rows), bool))
    for _ in range(5):
        miss = along[steepest] - (offset + slope * rows)
        spread = 1.4826 * np.median(np.abs(miss - np.median(miss))) + 1.0
        slope, offset = _line(rows, along[steepest], np.abs(miss - np.median(miss)) < 3 * spread)
    for width in (12.0, 8.0, 6.0, 6.0, 6.0):
        off = along[None, :] - (offset + slope * rows[:, None])
        weight = derivative * np.where(np.abs(off) < width, np.cos(0.5 * np.pi * off / width), 0)
        strength = np.sum(weight, axis=1)
        if np.any(strength <= 0):
            raise ValueError("no edge crosses all rows of the image")
        centroid = np.sum(weight * along, axis=1) / strength
        slope, offset = _line(rows, centroid, np.ones(len(rows), bool))
    return slope, offset


def _line(
    y: npt.NDArray[np.int_], x: FloatArray, use: npt.NDArray[np.bool_]
) -> tuple[float, float]:
    """Return slope and offset of the line of least squares."""
    slope, offset = np.polyfit(y[use], x[use], 1)
    return float(slope), float(offset)


def mtf_from_sinusoids(
    images: npt.ArrayLike, frequencies_yx: npt.ArrayLike, modulation: npt.ArrayLike
) -> Transfer:
    """Return the MTF from images of sinusoids of known frequency and modulation.

    Each image is fitted by offset + a cos + b sin, by least squares: any phase, any cut-out.

    Parameters
    ----------
    images : (n, ny, nx) array
    frequencies_yx : (n, 2) array
        (ky, kx) of each, cycles per pixel.
    modulation : float or (n,) array
        Amplitude over mean of the incident wave.

    Raises
    ------
    ValueError
        If frequencies or modulations don't fit the images, or an image has no mean.
    """
    stack = _stack(images, 1)
    k = np.asarray(frequencies_yx, float)
    incident = np.broadcast_to(np.asarray(modulation, float), (len(stack),))
    if k.shape != (len(stack), 2) or np.any(incident <= 0):
        raise ValueError(f"each image needs (ky, kx) and a modulation above zero, got {k.shape}")
    y, x = np.arange(stack.shape[1])[:, None], np.arange(stack.shape[2])[None, :]
    measured = []
    for image, (ky, kx) in zip(stack, k, strict=True):
        turns = (2 * np.pi * (ky * y + kx * x)).ravel()
        basis = np.stack([np.ones_like(turns), np.cos(turns), np.sin(turns)])
        offset, a, b = np.linalg.solve(basis @ basis.T, basis @ image.ravel().astype(float))
        if offset <= 0:
            raise ValueError("a sinusoid's image must have a positive mean: take the dark off")
        measured.append(np.hypot(a, b) / offset)
    q = np.hypot(k[:, 0], k[:, 1])
    order = np.argsort(q)
    return Transfer(q[order], (np.array(measured) / incident)[order])


def dqe(
    mtf: npt.ArrayLike,
    nnps: npt.ArrayLike,
    electrons_per_px: float,
    relative_slope: float = 1.0,
) -> FloatArray:
    """Return DQE = (MTF s)^2 / (NNPS n), s the slope of the response relative to its mean.

    Parameters
    ----------
    mtf, nnps : arrays of one shape
        At the same frequencies; NNPS in pixels.
    electrons_per_px : float
        Electrons that fell on a pixel, counted by something else.
    relative_slope : float
        (n / mean) d mean / d n, from flat fields of two doses: 1 where the response is linear, less
        in a counter whose electrons coincide. An NNPS refers to the mean; what an image shows of
        a change refers to the slope.

    Raises
    ------
    ValueError
        If the NNPS or the number of electrons isn't positive.
    """
    noise = np.asarray(nnps, float)
    if not electrons_per_px > 0 or np.any(noise <= 0):
        raise ValueError("the noise power and the number of electrons must be positive")
    signal = relative_slope * np.asarray(mtf, float)
    return np.asarray(signal**2 / (noise * electrons_per_px))


def _stack(images: npt.ArrayLike, least: int = 2) -> npt.NDArray[Any]:
    """Return a finite stack (n, ny, nx) of at least so many images."""
    stack = np.asarray(images)
    if stack.ndim != 3 or len(stack) < least or stack.dtype.kind not in "uif":
        raise ValueError(f"{least} or more images (n, ny, nx) are needed, got {stack.shape}")
    if not np.isfinite(stack).all():
        raise ValueError("the images must hold finite numbers")
    return stack

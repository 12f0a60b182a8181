"""From raw counts of an annular detector to fractions of the beam.

The focused beam (without specimen) is scanned over the detector. Where it falls on active area
the signal is that of the whole beam; beside it and in the hole it is the dark level. Then
    fraction = (raw - vacuum) / (sensitivity * beam_ratio),   sensitivity = bright - dark,
with the vacuum level of the image itself, and the ratio of beam current times dwell time between
image and map. The same map tells the detector's inner and outer angle.

Source: LeBeau and Stemmer, Ultramicroscopy 108 (2008) 1653.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

FloatArray = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

EDGE_PX = 3
"""Pixels left away on both sides of an edge when levels are measured (the beam has a size)."""


@dataclass(frozen=True, eq=False)
class DetectorMap:
    """What a map tells about an annular detector. Levels are raw counts."""

    centre_px: tuple[float, float]
    """Row and column of the centre of the outer edge."""
    hole_px: tuple[float, float]
    """Row and column of the centre of the hole."""
    inner_mrad: float
    outer_mrad: float
    sigma_inner_mrad: float
    sigma_outer_mrad: float
    dark: float
    sigma_dark: float
    """Standard deviation of `dark`, a mean over many pixels."""
    sensitivity: float
    """Signal of the whole beam above dark, mean over the active area."""
    sigma_sensitivity: float
    """Its standard deviation by the map's noise alone."""
    inhomogeneity: float
    """Standard deviation of the sensitivity over the active area, relative, less noise."""
    ring_mrad: FloatArray
    """Mid angles of rings of about a pixel's width."""
    ring_sensitivity: FloatArray
    """Mean sensitivity in these rings."""
    active: Mask
    """Which pixels of the map are active."""


@dataclass(frozen=True, eq=False)
class Normalised:
    """An image in fractions of the beam, and what its scale and zero leave uncertain.

    Both uncertainties are common to all pixels. Noise isn't in them.
    """

    fraction: FloatArray
    relative_sigma_scale: float
    """Relative standard deviation of the factor: the map's noise and the beam ratio."""
    sigma_zero: float
    """Standard deviation of the zero, in fractions of the beam."""
    relative_sigma_inhomogeneity: float
    """Spread of the sensitivity: the bound on a systematic error where all electrons that reach
    the detector hit one place. Spread over the whole detector they average it out."""

    def sigma_systematic(self) -> FloatArray:
        """Return the standard deviation of each pixel by scale and zero."""
        return np.hypot(self.fraction * self.relative_sigma_scale, self.sigma_zero)


def map_detector(
    detector_map: npt.ArrayLike,
    pixel_mrad: float,
    outer_mrad: float | None = None,
    flux_exponent: float = 0.0,
) -> DetectorMap:
    """Find the detector in its map, its angles and its sensitivity.

    The threshold lies halfway between the dark and the bright level (found first after Otsu). The
    angles are those of circles of the hole's, and of the hole's and the active, area.

    Parameters
    ----------
    detector_map : (ny, nx) array
        Raw counts as the beam is scanned over the detector.
    pixel_mrad : float
        Angle between scan positions.
    outer_mrad : float, optional
        Outer angle, if an aperture or the map cuts it off. Measured if not given.
    flux_exponent : float
        Electrons per solid angle fall off as angle^-exponent: the mean sensitivity is weighted
        so. 0, the plain mean, is LeBeau and Stemmer's; HAADF has about 3 to 4.

    Raises
    ------
    ValueError
        If the map isn't a finite image with two levels and a hole, or the active area reaches the
        map's border and no `outer_mrad` is given.
    """
    data = _image(detector_map)
    _positive(pixel_mrad=pixel_mrad)
    active = _largest_region(data > _threshold(data))
    filled = np.asarray(ndimage.binary_fill_holes(active), bool)
    hole = _largest_region(filled & ~active)
    if np.sum(hole) < 9:
        raise ValueError("the map shows no hole: it must show the whole inside of the detector")
    border = np.ones_like(active)
    border[1:-1, 1:-1] = False
    if outer_mrad is None and np.any(active & border):
        raise ValueError("the active area reaches the border of the map: give outer_mrad")

    cross = ndimage.generate_binary_structure(2, 1)
    safe = ndimage.binary_erosion(active, cross, EDGE_PX, border_value=1)
    beside = ~ndimage.binary_dilation(active, cross, EDGE_PX)
    if np.sum(safe) < 16 or np.sum(beside) < 16:
        raise ValueError("detector, or dark surrounds, are too narrow in pixels: map it finer")
    dark, dark_variance = float(np.mean(data[beside])), float(np.var(data[beside]))
    sigma_dark = float(np.sqrt(dark_variance / np.sum(beside)))

    hole_px = _centroid(hole)
    area = np.sum(hole)
    centre_px = _centroid(filled) if outer_mrad is None else hole_px
    inner, sigma_inner = _radius(float(area), pixel_mrad)
    outer, sigma_outer = _radius(float(np.sum(filled)), pixel_mrad)
    if outer_mrad is not None:
        outer, sigma_outer = float(outer_mrad), 0.0
    if not outer > inner:
        raise ValueError(f"outer_mrad must exceed the inner angle, {inner:.4g}, got {outer}")

    rows, columns = np.indices(data.shape)
    angle = pixel_mrad * np.hypot(rows - hole_px[0], columns - hole_px[1])
    used = safe & (angle <= outer)
    signal, weight = data[used] - dark, angle[used] ** -flux_exponent
    weight /= np.sum(weight)
    sensitivity = float(weight @ signal)
    noise = _noise_variance(data, used)
    spread = float(weight @ (signal - sensitivity) ** 2) - noise
    ring = (angle[used] / pixel_mrad).astype(int)
    count = np.bincount(ring)
    rings = np.flatnonzero(count)
    return DetectorMap(
        centre_px=centre_px,
        hole_px=hole_px,
        inner_mrad=inner,
        outer_mrad=outer,
        sigma_inner_mrad=sigma_inner,
        sigma_outer_mrad=sigma_outer,
        dark=dark,
        sigma_dark=sigma_dark,
        sensitivity=sensitivity,
        sigma_sensitivity=float(np.sqrt(noise * np.sum(weight**2) + sigma_dark**2)),
        inhomogeneity=float(np.sqrt(max(0.0, spread)) / sensitivity),
        ring_mrad=np.asarray((rings + 0.5) * pixel_mrad, np.float64),
        ring_sensitivity=np.asarray(np.bincount(ring, signal)[rings] / count[rings], np.float64),
        active=active,
    )


def normalise(
    image: npt.ArrayLike,
    detector: DetectorMap,
    vacuum: npt.ArrayLike | None = None,
    beam_ratio: float = 1.0,
    sigma_beam_ratio: float = 0.0,
) -> Normalised:
    """Return an image in fractions of the beam.

    Parameters
    ----------
    image : (ny, nx) array
        Raw counts, at the gain and offset of the map.
    detector : DetectorMap
        From :func:`map_detector`.
    vacuum : array, optional
        Raw counts of an image, or of a region of it, without specimen. The map's dark level if not
        given.
    beam_ratio, sigma_beam_ratio : float
        Beam current times dwell time of the image over that of the map, and its uncertainty.

    Raises
    ------
    ValueError
        If the image isn't a finite array (ny, nx), or a number is out of range.
    """
    data = _image(image)
    _positive(beam_ratio=beam_ratio)
    if not sigma_beam_ratio >= 0:
        raise ValueError(f"sigma_beam_ratio must not be negative, got {sigma_beam_ratio}")
    zero, sigma_zero = detector.dark, detector.sigma_dark
    if vacuum is not None:
        empty = np.asarray(vacuum, np.float64)
        if empty.size < 2 or not np.all(np.isfinite(empty)):
            raise ValueError("vacuum needs two or more finite pixels")
        zero = float(np.mean(empty))
        sigma_zero = float(np.std(empty, ddof=1) / np.sqrt(empty.size))
    beam = detector.sensitivity * beam_ratio
    relative = np.hypot(
        detector.sigma_sensitivity / detector.sensitivity, sigma_beam_ratio / beam_ratio
    )
    return Normalised(
        fraction=(data - zero) / beam,
        relative_sigma_scale=float(relative),
        sigma_zero=sigma_zero / beam,
        relative_sigma_inhomogeneity=detector.inhomogeneity,
    )


def _threshold(data: FloatArray) -> float:
    """Return the middle between the dark and the bright level."""
    smooth = ndimage.median_filter(data, 3)
    counts, edges = np.histogram(smooth, 256)
    middle = 0.5 * (edges[1:] + edges[:-1])
    below = np.cumsum(counts)[:-1]
    above = data.size - below
    sum_below = np.cumsum(counts * middle)[:-1]
    mean_above = (np.sum(counts * middle) - sum_below) / np.maximum(above, 1)
    between = below * above * (sum_below / np.maximum(below, 1) - mean_above) ** 2
    if not np.max(between) > 0:
        raise ValueError("the map is the same everywhere: it must show the detector and its dark")
    # Otsu's threshold is midway in variance, not in level, if the areas differ much.
    first = edges[1 + int(np.argmax(between))]
    dark, bright = np.median(smooth[smooth <= first]), np.median(smooth[smooth > first])
    return float(0.5 * (dark + bright))


def _largest_region(mask: Mask) -> Mask:
    label, n = ndimage.label(mask)
    if n == 0:
        return mask
    return np.asarray(label == 1 + np.argmax(np.bincount(label.ravel())[1:]), bool)


def _centroid(mask: Mask) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(np.mean(rows)), float(np.mean(columns))


def _radius(area_px: float, pixel_mrad: float) -> tuple[float, float]:
    """Return the radius of a circle of this area, and its uncertainty by pixels cut in two.

    Each pixel on the circumference is in or out: an error of 1 / sqrt(12) px of area, were they
    independent.
    """
    radius = np.sqrt(area_px / np.pi)
    return float(radius * pixel_mrad), float(pixel_mrad / np.sqrt(24 * np.pi * radius))


def _noise_variance(data: FloatArray, used: Mask) -> float:
    """Return the variance of white noise from the mixed second difference (Immerkær 1996)."""
    kernel = np.array([1.0, -2.0, 1.0])
    residual = ndimage.correlate1d(ndimage.correlate1d(data, kernel, 0), kernel, 1)
    return float(np.mean(residual[used] ** 2) / np.sum(kernel**2) ** 2)


def _image(image: npt.ArrayLike) -> FloatArray:
    data = np.asarray(image)
    if data.ndim != 2 or data.dtype.kind not in "uif" or not np.all(np.isfinite(data)):
        raise ValueError(f"an image is a finite real array (ny, nx), got {data.shape}")
    return data.astype(np.float64)


def _positive(**numbers: float) -> None:
    for name, number in numbers.items():
        if not (np.isfinite(number) and number > 0):
            raise ValueError(f"{name} must be a positive number, got {number}")

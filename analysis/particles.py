"""Find particles on a rough support and measure them without the width of the tip.

An image widens particles by the tip, and a rough support hides where they stand. A sphere's height
is not widened, but is counted from a support that can only be seen around the particle: here it is
predicted from there by the support's own autocorrelation (kriging), which says how wrong it may
be. The width comes from the image eroded by the known tip: near the equator the tip doesn't reach,
so the section at a few depths below the top is taken, where a sphere of diameter d is as wide as
pi t (d - t), whatever it stands on. Both are averaged with their uncertainties.

With a sphere of radius R for a tip, the image of a sphere of radius r on a plane is as wide as
2 sqrt(r (r + 2 R)) at half its height and 4 sqrt(R r) at its base: :func:`radius_from_fwhm_nm` and
:func:`radius_from_base_nm` take that back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage, spatial

from nanophantom.analysis.levelling import level
from nanophantom.analysis.roughness import fit_autocorrelation
from nanophantom.analysis.tip_deconvolution import reconstruct

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
PixelSize = float | tuple[float, float]

STANDS_OUT = 5.0
"""Robust threshold in standard deviations of the support."""
DEPTHS = (0.24, 0.28, 0.32, 0.36)
"""Sections are taken so deep below the top, in heights: slopes of 59 to 74 degrees of a sphere."""
TOP = 0.4
"""Share of the half-height radius within which a paraboloid is fitted to the top."""
CLEFT_DEG = 60.0
"""What lies so near to the direction of a touching particle isn't measured: no tip gets there."""
LEAST_OPEN = 0.2
"""Share of the circle that must be left; with less all of it is measured after all."""
NEIGHBOURS = 60
"""Places on the support from which its height under a particle is predicted."""
PARABOLOID = 1e-3
"""Standard uncertainty of a top's height that comes from its shape, in heights."""
SECTION_PX = 0.03
"""Standard uncertainty of a section's diameter, in pixels, from its outline."""


@dataclass(frozen=True, eq=False)
class Particles:
    """Particles of an image, shape (n,) each, from the top of the image down.

    Attributes
    ----------
    x_nm, y_nm
        Of the top; pixel (0, 0) lies at 0.
    top_nm, base_nm
        Height of the top, and of the support under it as predicted, over the support's mean.
    height_nm, height_uncertainty_nm
        Their difference and its standard uncertainty.
    apparent_diameter_nm
        Of the circle that has the area which the image shows at half height: widened by the tip.
    lateral_diameter_nm, lateral_uncertainty_nm
        Of the reconstructed particle; None if no tip was given.
    diameter_nm, diameter_uncertainty_nm
        The diameter to use and its standard uncertainty.
    touches_edge
        True where a particle is cut by the image's border.
    labels : (ny, nx)
        0 for the support, k + 1 for particle k.
    support_sq_nm, noise_nm : float
        Roughness of the support, and noise of the image, as far as it was seen.
    """

    x_nm: Floats
    y_nm: Floats
    top_nm: Floats
    base_nm: Floats
    height_nm: Floats
    height_uncertainty_nm: Floats
    apparent_diameter_nm: Floats
    lateral_diameter_nm: Floats | None
    lateral_uncertainty_nm: Floats | None
    diameter_nm: Floats
    diameter_uncertainty_nm: Floats
    touches_edge: Bools
    labels: Ints
    support_sq_nm: float
    noise_nm: float


def find(
    image: npt.ArrayLike,
    pixel_size_nm: PixelSize,
    *,
    tip_nm: npt.ArrayLike | None = None,
    apex: tuple[int, int] | None = None,
    threshold: float | Literal["robust", "otsu"] = "robust",
    prominence_nm: float | None = None,
    shape: Literal["sphere", "spheroid"] = "sphere",
) -> Particles:
    """Find and measure particles.

    What rises over the threshold is a particle; each reaches down to half the threshold, and what
    touches is cut apart by watershed.

    Parameters
    ----------
    image : (ny, nx)
        Heights in nm, rows aligned; a tilt is taken off here.
    pixel_size_nm : float or (y, x)
    tip_nm, apex
        The tip, as for :func:`~nanophantom.analysis.tip_deconvolution.reconstruct`.
    threshold : float or {"robust", "otsu"}
        Height over the support in nm; five standard deviations of the support; or Otsu's between
        support and particles, which wants them both to cover much of the image.
    prominence_nm : float, optional
        A top rises so much over the saddle to a higher one, or it belongs to that; by default
        six standard deviations of the noise, and at least 2 % of the highest particle.
    shape : {"sphere", "spheroid"}
        Spheres: the diameter is the mean of height and lateral diameter, weighted with their
        uncertainties. Spheroids, flattened towards the support: the lateral diameter alone.

    Raises
    ------
    ValueError
        The image or the tip isn't what is wanted, or spheroids are to be measured without a tip.
    """
    if shape not in ("sphere", "spheroid"):
        raise ValueError(f"shape must be 'sphere' or 'spheroid', got {shape!r}")
    if shape == "spheroid" and tip_nm is None:
        raise ValueError("the width of a spheroid can't be told from its height: give the tip")
    dy, dx = np.broadcast_to(np.asarray(pixel_size_nm, np.float64), 2)
    if not (0 < dy < np.inf and 0 < dx < np.inf):
        raise ValueError(f"pixel_size_nm must be positive, got {pixel_size_nm}")
    pixel = (float(dy), float(dx))
    levelled = level(image, 1, rows="none")
    ground = ~levelled.features
    z = levelled.image - np.mean(levelled.image[ground])
    surface = z if tip_nm is None else reconstruct(z, tip_nm, apex).heights_nm
    noise = _noise(z, ground)
    high = _threshold(z, float(np.std(z[ground])), threshold)
    labels = _segmented(z, surface, high, noise, prominence_nm)
    count = int(labels.max())

    clear = ~ndimage.binary_dilation(labels > 0, iterations=3)
    if np.count_nonzero(clear) < 100:
        raise ValueError("particles leave too little of the support to be seen")
    support = _Support(surface, clear, pixel)
    boxes = ndimage.find_objects(labels)
    tops = np.reshape(ndimage.maximum_position(z, labels, np.arange(1, count + 1)), (count, 2))
    rows = [
        _measured(
            z,
            surface,
            labels,
            k + 1,
            boxes[k],
            tops * pixel,
            pixel,
            support,
            noise,
            None if tip_nm is None else shape,
        )
        for k in range(count)
    ]
    table = np.array(rows, np.float64).reshape(count, 8).T
    x, y, top, base, u_height, apparent, lateral, u_lateral = table
    height = top - base
    diameter, uncertainty = height, u_height
    if tip_nm is not None:
        diameter, uncertainty = lateral, u_lateral
        if shape == "sphere":
            weight = u_lateral**2 / (u_lateral**2 + u_height**2)
            diameter = weight * height + (1 - weight) * lateral
            uncertainty = np.sqrt(weight) * u_height
    border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    return Particles(
        x,
        y,
        top,
        base,
        height,
        u_height,
        apparent,
        None if tip_nm is None else lateral,
        None if tip_nm is None else u_lateral,
        diameter,
        uncertainty,
        np.isin(np.arange(1, count + 1), border),
        labels,
        support.sq_nm,
        noise,
    )


def fwhm_nm(radius_nm: npt.ArrayLike, tip_radius_nm: float) -> Floats:
    """Return the image's width at half height, 2 sqrt(r (r + 2 R)), of a sphere on a plane."""
    r = np.asarray(radius_nm, np.float64)
    return np.asarray(2 * np.sqrt(r * (r + 2 * tip_radius_nm)))


def base_nm(radius_nm: npt.ArrayLike, tip_radius_nm: float) -> Floats:
    """Return the image's width at its base, 4 sqrt(R r), of a sphere on a plane."""
    return np.asarray(4 * np.sqrt(tip_radius_nm * np.asarray(radius_nm, np.float64)))


def radius_from_fwhm_nm(width_nm: npt.ArrayLike, tip_radius_nm: float) -> Floats:
    """Return the radius of a sphere from the image's width at half height: no height is needed.

    Holds while the tip touches with its sphere, of a cone too up to r about R.
    """
    half = np.asarray(width_nm, np.float64) / 2
    # -R + sqrt(R² + w²/4) without cancellation
    return np.asarray(half**2 / (tip_radius_nm + np.hypot(tip_radius_nm, half)))


def radius_from_base_nm(width_nm: npt.ArrayLike, tip_radius_nm: float) -> Floats:
    """Return the radius of a sphere from the image's width at its base, w² / (16 R)."""
    return np.asarray(np.asarray(width_nm, np.float64) ** 2 / (16 * tip_radius_nm))


class _Support:
    """The support around particles, and what it is likely to be under them."""

    def __init__(self, z: Floats, clear: Bools, pixel: tuple[float, float]) -> None:
        self.variance, self.length, self.nugget = 0.0, 0.0, float(np.var(z[clear]))
        try:
            fit = fit_autocorrelation(z, pixel, mask=~clear)
            self.variance, self.length = fit.sq_nm**2, fit.correlation_length_nm
            self.nugget = fit.noise_nm**2
        except ValueError:
            pass  # flat, or rough below a pixel: the mean is all that neighbours tell
        self.sq_nm = float(np.sqrt(self.variance if self.variance > 0 else self.nugget))
        step = max(1, int(self.length / max(pixel) / 4))
        y, x = np.nonzero(clear)
        chosen = (y % step == 0) & (x % step == 0)
        y, x = y[chosen], x[chosen]
        self.places = np.stack([y * pixel[0], x * pixel[1]], axis=1)
        self.mean = float(np.mean(z[clear]))
        self.heights = z[y, x] - self.mean
        self.tree = spatial.cKDTree(self.places) if len(y) else None
        self.pixels = int(np.count_nonzero(clear))

    def under(self, y_nm: float, x_nm: float) -> tuple[float, float]:
        """Return the predicted height at a place, and its standard uncertainty."""
        if self.variance <= 0 or self.tree is None or len(self.places) < 8:
            return self.mean, float(np.sqrt(self.nugget / self.pixels))
        distance, near = self.tree.query((y_nm, x_nm), min(NEIGHBOURS, len(self.places)))
        places = self.places[near]
        between = spatial.distance.squareform(spatial.distance.pdist(places))
        k = self.variance * np.exp(-((between / self.length) ** 2))
        # A Gaussian autocorrelation alone is nearly singular, and no surface is that smooth.
        k[np.diag_indices(len(k))] += self.nugget + 1e-3 * self.variance
        c = self.variance * np.exp(-((distance / self.length) ** 2))
        weights = np.linalg.solve(k, c)
        left = max(self.variance - float(weights @ c), 1e-3 * self.variance)
        return self.mean + float(weights @ self.heights[near]), float(np.sqrt(left))


def _noise(z: Floats, ground: Bools) -> float:
    """Return the noise of pixels, from third differences along x: surfaces bend little."""
    third = z[:, 3:] - 3 * z[:, 2:-1] + 3 * z[:, 1:-2] - z[:, :-3]
    usable = ground[:, 3:] & ground[:, :-3]
    if not np.any(usable):
        raise ValueError("particles leave too little of the support to be seen")
    return float(1.4826 * np.median(np.abs(third[usable])) / np.sqrt(20))


def _threshold(z: Floats, sigma: float, how: float | str) -> float:
    if how == "robust":
        return max(STANDS_OUT * sigma, 1e-9 * float(np.max(np.abs(z))))
    if how == "otsu":
        from skimage.filters import threshold_otsu

        otsu: Any = threshold_otsu
        return float(otsu(z))
    if isinstance(how, str) or not how > 0:
        raise ValueError(f"threshold must be positive, 'robust' or 'otsu', got {how!r}")
    return float(how)


def _segmented(
    z: Floats, surface: Floats, high: float, noise: float, prominence_nm: float | None
) -> Ints:
    """Return labels 1, 2, ... of particles."""
    from skimage.morphology import local_maxima, reconstruction
    from skimage.segmentation import watershed

    fill: Any = reconstruction
    maxima: Any = local_maxima
    flood: Any = watershed
    above = z > high / 2
    if not np.any(z > high):
        return np.zeros(z.shape, np.int64)
    p = max(6 * noise, 0.02 * float(np.max(z))) if prominence_nm is None else prominence_nm
    if not p > 0:
        raise ValueError(f"prominence_nm must be positive, got {prominence_nm}")
    highest_of = maxima(fill(surface - p, surface)) & above
    tops, _ = ndimage.label(highest_of, np.ones((3, 3)))
    labels = np.asarray(flood(-z, tops, mask=above), np.int64)
    highest = ndimage.maximum(z, labels, np.arange(1, labels.max() + 1))
    new = np.concatenate([[0], np.cumsum(highest > high) * (highest > high)])
    return np.asarray(new[labels], np.int64)


def _measured(
    z: Floats,
    surface: Floats,
    labels: Ints,
    which: int,
    box: tuple[slice, slice],
    tops_nm: Floats,
    pixel: tuple[float, float],
    support: _Support,
    noise: float,
    shape: str | None,
) -> tuple[float, ...]:
    """Return the columns of a particle."""
    rows, columns = (slice(max(s.start - 1, 0), s.stop + 1) for s in box)
    own = labels[rows, columns] == which
    image, below = z[rows, columns], surface[rows, columns]
    touching = np.unique(labels[rows, columns][ndimage.binary_dilation(own, np.ones((3, 3)))])
    corner = (rows.start * pixel[0], columns.start * pixel[1])
    around = [tops_nm[i - 1] - corner for i in touching if i not in (0, which)]
    cell = pixel[0] * pixel[1]

    def top_of(heights: Floats, floor: float) -> tuple[float, float, float]:
        half = own & (heights > (floor + np.max(heights[own])) / 2)
        radius = TOP * np.sqrt(np.count_nonzero(half) * cell / np.pi)
        return _top(heights, own, pixel, radius)

    # Noise lowers what is eroded, so top and support are both taken there.
    y, x, top = top_of(below, 0.0)
    y_nm, x_nm = y + rows.start * pixel[0], x + columns.start * pixel[1]
    base, u_base = support.under(y_nm, x_nm)
    height = top - base
    fitted = TOP**2 * np.count_nonzero(own & (image > base + height / 2))
    u_top = noise * 2 / np.sqrt(max(fitted, 4.0))  # a paraboloid's vertex has 4 sigma²/n
    apparent = 2 * np.sqrt(_area(image, own, float(np.max(image[own])) - height / 2, pixel) / np.pi)
    u_height = _root_sum((u_base, u_top, PARABOLOID * height))
    if shape is None:
        return x_nm, y_nm, top, base, u_height, apparent, 0.0, 0.0
    depths = np.array(DEPTHS) * height
    free, share = _facing_no_neighbour(own, around, (y, x), pixel)
    areas = np.array([_area(below, free, top - t, pixel) for t in depths]) / share
    spheres = depths + areas / (np.pi * depths)
    spheroids = 2 * np.sqrt(areas / (np.pi * 4 * np.array(DEPTHS) * (1 - np.array(DEPTHS))))
    # d = t + A/(pi t) and D = sqrt(A/(pi f (1 - f))), f = t/h: how errors of the outline, the
    # top and the height go in
    outline, f = SECTION_PX * np.sqrt(cell), float(np.mean(DEPTHS))
    d, width = float(np.mean(spheres)), float(np.mean(spheroids))
    over = d / (f * height) - 1
    u_sphere = (2 * np.sqrt(max(over, 1.0)) * outline, (over - 1) * u_top, float(np.std(spheres)))
    u_spheroid = (
        outline / np.sqrt(f * (1 - f)),
        width * (1 - 2 * f) / (2 * f * (1 - f)) * u_top / height,
        width * (1 - 2 * f) / (2 * (1 - f)) * u_height / height,
        float(np.std(spheroids)),
    )
    lateral = (d, _root_sum(u_sphere)) if shape == "sphere" else (width, _root_sum(u_spheroid))
    return x_nm, y_nm, top, base, u_height, apparent, *lateral


def _root_sum(parts: tuple[float, ...]) -> float:
    return float(np.sqrt(np.sum(np.square(parts))))


def _top(
    heights: Floats, own: Bools, pixel: tuple[float, float], radius_nm: float
) -> tuple[float, float, float]:
    """Return place (y, x) in nm and height of the vertex of a paraboloid fitted to the top."""
    row, column = np.unravel_index(np.argmax(np.where(own, heights, -np.inf)), heights.shape)
    y, x = np.ogrid[: heights.shape[0], : heights.shape[1]]
    y_nm, x_nm = (y - row) * pixel[0], (x - column) * pixel[1]
    near = own & (np.hypot(y_nm, x_nm) <= max(radius_nm, 1.5 * max(pixel)))
    highest = (float(row * pixel[0]), float(column * pixel[1]), float(heights[row, column]))
    if np.count_nonzero(near) < 8:
        return highest
    v, u = (np.broadcast_to(c, own.shape)[near] for c in (y_nm, x_nm))
    terms = np.stack([np.ones(len(u)), u, v, u * u, u * v, v * v], axis=1)
    c = np.linalg.lstsq(terms, heights[near], rcond=None)[0]
    bend = np.array([[2 * c[3], c[4]], [c[4], 2 * c[5]]])
    if not np.all(np.linalg.eigvalsh(bend) < 0):
        return highest
    at = np.linalg.solve(bend, -c[1:3])
    if np.hypot(*at) > max(radius_nm, 1.5 * max(pixel)):
        return highest
    return highest[0] + float(at[1]), highest[1] + float(at[0]), float(c[0] + c[1:3] @ at / 2)


def _facing_no_neighbour(
    own: Bools, around: list[Floats], top: tuple[float, float], pixel: tuple[float, float]
) -> tuple[Bools, float]:
    """Return a particle's pixels in directions free of clefts, and the share of the circle."""
    y, x = np.ogrid[: own.shape[0], : own.shape[1]]
    angle = np.arctan2(y * pixel[0] - top[0], x * pixel[1] - top[1])
    circle = np.linspace(-np.pi, np.pi, 720, endpoint=False)
    free, open_circle = np.ones(own.shape, bool), np.ones(len(circle), bool)
    for place in around:
        towards = np.arctan2(place[0] - top[0], place[1] - top[1])
        for directions, kept in ((angle, free), (circle, open_circle)):
            off = np.abs((directions - towards + np.pi) % (2 * np.pi) - np.pi)
            kept &= off > np.deg2rad(CLEFT_DEG)
    share = float(np.mean(open_circle))
    return (own & free, share) if share >= LEAST_OPEN else (own, 1.0)


def _area(heights: Floats, own: Bools, height_nm: float, pixel: tuple[float, float]) -> float:
    """Return the area above a height; the outline's pixels count in part, after their slope."""
    slope_y, slope_x = np.gradient(heights)
    across = np.maximum(np.hypot(slope_y, slope_x), 1e-12)
    share = np.clip(0.5 + (heights - height_nm) / across, 0.0, 1.0)
    return float(np.sum(share[own])) * pixel[0] * pixel[1]

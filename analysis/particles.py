"""Find particles on a rough support and measure them without the width of the tip.

An image widens particles by the tip, and a rough support hides where they stand. A sphere's height
is not widened, but is counted from a support that can only be seen around the particle: here it is
predicted from there by the support's own autocorrelation (kriging), which says how wrong it may
be. The width comes from the image eroded by the known tip: near the equator the tip doesn't reach,
so the section at a few depths below the top is taken, where a sphere of diameter d is as wide as
pi t (d - t), whatever it stands on. Both are averaged with their uncertainties; but between
neighbours the tip reaches no flank, and a width much above the height isn't believed.

With a sphere of radius R for a tip, the image of a sphere of radius r on a plane is as wide as
2 sqrt(r (r + 2 R)) at half its height and 4 sqrt(R r) at its base: :func:`radius_from_fwhm_nm` and
:func:`radius_from_base_nm` take that back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nanophantom.analysis.levelling import level
from nanophantom.analysis.particle_sections import (
    Shape,
    area_above,
    lateral_diameter,
    root_sum,
    top_vertex,
)
from nanophantom.analysis.particle_support import Support, pixel_noise_nm
from nanophantom.analysis.tip_deconvolution import reconstruct
from nanophantom.simcore.pixel_size import PixelSize, pixel_pair

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

STANDS_OUT = 5.0
"""Robust threshold in standard deviations of the support."""
TOP = 0.4
"""Share of the half-height radius within which a paraboloid is fitted to the top."""
PARABOLOID = 1e-3
"""Standard uncertainty of a top's height that comes from its shape, in heights."""
TOO_WIDE = 2.5
"""So many standard uncertainties over a sphere's height a width is that of a cleft."""


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
        Of the reconstructed particle; None if no tip was given. In a cleft the uncertainty holds
        the excess over the height.
    diameter_nm, diameter_uncertainty_nm
        The diameter to use and its standard uncertainty.
    in_cleft
        True where the width is that of clefts to neighbours: it is no use then.
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
    in_cleft: Bools
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
    shape: Shape = "sphere",
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
        uncertainties, or the height alone where the other is by far larger. Spheroids, flattened
        towards the support: the lateral diameter alone.

    Raises
    ------
    ValueError
        The image or the tip isn't what is wanted, or spheroids are to be measured without a tip.
    """
    if shape not in ("sphere", "spheroid"):
        raise ValueError(f"shape must be 'sphere' or 'spheroid', got {shape!r}")
    if shape == "spheroid" and tip_nm is None:
        raise ValueError("the width of a spheroid can't be told from its height: give the tip")
    pixel = pixel_pair(pixel_size_nm)
    levelled = level(image, 1, rows="none")
    ground = ~levelled.features
    z = levelled.image - np.mean(levelled.image[ground])
    surface = z if tip_nm is None else reconstruct(z, tip_nm, apex).heights_nm
    noise = pixel_noise_nm(z, ground)
    high = _threshold(z, float(np.std(z[ground])), threshold)
    labels = _segmented(z, surface, high, noise, prominence_nm)
    count = int(labels.max())

    clear = ~ndimage.binary_dilation(labels > 0, iterations=3)
    if np.count_nonzero(clear) < 100:
        raise ValueError("particles leave too little of the support to be seen")
    support = Support(surface, clear, pixel)
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
    table = np.array(rows, np.float64).reshape(count, 9).T
    x, y, top, base, u_height, apparent, lateral, u_lateral, flanks = table
    height = top - base
    diameter, uncertainty, cleft = height, u_height, np.zeros(count, bool)
    if tip_nm is not None and shape == "sphere":
        diameter, uncertainty, u_lateral, cleft = of_spheres(
            height, u_height, lateral, u_lateral, flanks == 1
        )
    elif tip_nm is not None:
        cleft = flanks == 0
        # It is as wide as it is high at least, and no wider than what is seen.
        u_lateral = np.where(cleft, np.hypot(u_lateral, lateral - height), u_lateral)
        diameter, uncertainty = lateral, u_lateral
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
        cleft,
        np.isin(np.arange(1, count + 1), border),
        labels,
        support.sq_nm,
        noise,
    )


def of_spheres(
    height_nm: Floats,
    height_uncertainty_nm: Floats,
    width_nm: Floats,
    width_uncertainty_nm: Floats,
    flanks_seen: Bools,
) -> tuple[Floats, Floats, Floats, Bools]:
    """Return diameters from heights and widths, which of spheres are the same.

    Returns
    -------
    diameter_nm, uncertainty_nm : (n,)
        The mean, weighted with the uncertainties; of a cleft the height alone.
    width_uncertainty_nm : (n,)
        With the excess over the height in a cleft.
    in_cleft : (n,) bool
        No flank was seen, or the width is too large by more than chance.
    """
    excess = width_nm - height_nm
    chance = np.hypot(width_uncertainty_nm, height_uncertainty_nm)
    cleft = ~flanks_seen | (excess > TOO_WIDE * chance)
    u_width = np.where(cleft, np.hypot(width_uncertainty_nm, excess), width_uncertainty_nm)
    weight = np.where(cleft, 1.0, u_width**2 / (u_width**2 + height_uncertainty_nm**2))
    diameter = weight * height_nm + (1 - weight) * width_nm
    u = np.hypot(weight * height_uncertainty_nm, (1 - weight) * u_width)
    return diameter, u, u_width, cleft


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
    support: Support,
    noise: float,
    shape: Shape | None,
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
        return top_vertex(heights, own, pixel, radius)

    # Noise lowers what is eroded, so top and support are both taken there.
    y, x, top = top_of(below, 0.0)
    y_nm, x_nm = y + rows.start * pixel[0], x + columns.start * pixel[1]
    base, u_base = support.under(y_nm, x_nm)
    height = top - base
    fitted = TOP**2 * np.count_nonzero(own & (image > base + height / 2))
    u_top = noise * 2 / np.sqrt(max(fitted, 4.0))  # a paraboloid's vertex has 4 sigma²/n
    apparent = 2 * np.sqrt(
        area_above(image, own, float(np.max(image[own])) - height / 2, pixel) / np.pi
    )
    u_height = root_sum((u_base, u_top, PARABOLOID * height))
    if shape is None:
        return x_nm, y_nm, top, base, u_height, apparent, 0.0, 0.0, 0.0
    lateral = lateral_diameter(
        below, own, around, (y, x, top), (height, u_height), u_top, pixel, shape
    )
    return x_nm, y_nm, top, base, u_height, apparent, *lateral

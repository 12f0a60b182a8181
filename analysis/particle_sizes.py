"""Sizes of particles from a force microscope's trace and retrace and the tip that took them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nanophantom.analysis import particles
from nanophantom.analysis.surface_estimate import levelled_mean, tip_on_pixels

Floats = npt.NDArray[np.float64]

PLACE_PX = 0.15
"""Standard uncertainty of a width, in pixels, since a pixel is a mean over the way through it."""
TOO_WIDE = 2.5
"""So many standard uncertainties over the height a width is that of a cleft."""


def find(
    height: npt.ArrayLike, height_retrace: npt.ArrayLike, settings: Mapping[str, Any]
) -> dict[str, Floats]:
    """Answer the task particle-sizing: particles that the border doesn't cut, taken for spheres.

    Parameters
    ----------
    height, height_retrace : (frames, ny, nx)
        Recorded heights in nm, both ways stored from left to right; the first frame is used.
    settings
        Nominal: pixel_size_nm, pixel_size_y_nm, angle_deg, tip, and of the scan knots_a_line and
        slow_axis are read.

    Returns
    -------
    dict of (n,) arrays
        x_nm, y_nm, diameter_nm, sigma_nm, height_nm, and apparent_nm, the width that the image
        shows.
    """
    image = levelled_mean(height, height_retrace, settings)
    tip = tip_on_pixels(settings, float(np.ptp(image)))
    found = particles.find(image, tip.step_nm, tip_nm=tip.heights_nm, apex=tip.apex)
    diameter, sigma = _of_spheres(found, max(tip.step_nm))
    whole = ~found.touches_edge
    return {
        "x_nm": found.x_nm[whole],
        "y_nm": found.y_nm[whole],
        "diameter_nm": diameter[whole],
        "sigma_nm": sigma[whole],
        "height_nm": found.height_nm[whole],
        "apparent_nm": found.apparent_diameter_nm[whole],
    }


def _of_spheres(found: particles.Particles, pixel_nm: float) -> tuple[Floats, Floats]:
    """Return diameters and standard uncertainties: widths and heights weighed together.

    Between neighbours the tip reaches no flank, and the width comes out too large. That of a
    sphere is its height: a much larger one isn't believed, and the height stands alone.
    """
    width, of_width = found.lateral_diameter_nm, found.lateral_uncertainty_nm
    if width is None or of_width is None:
        raise ValueError("widths can only be measured with a tip")
    variance, of_height = of_width**2 + (PLACE_PX * pixel_nm) ** 2, found.height_uncertainty_nm**2
    weight = variance / (variance + of_height)
    cleft = width - found.height_nm > TOO_WIDE * np.sqrt(variance + of_height)
    weight = np.where(cleft, 1.0, weight)
    diameter = weight * found.height_nm + (1 - weight) * width
    return diameter, np.sqrt(weight**2 * of_height + (1 - weight) ** 2 * variance)

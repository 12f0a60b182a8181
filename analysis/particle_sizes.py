"""Sizes of particles from a force microscope's trace and retrace and the tip that took them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nanophantom.analysis import particles
from nanophantom.analysis.surface_estimate import levelled_mean, tip_on_pixels

Floats = npt.NDArray[np.float64]


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
    whole = ~found.touches_edge
    return {
        "x_nm": found.x_nm[whole],
        "y_nm": found.y_nm[whole],
        "diameter_nm": found.diameter_nm[whole],
        "sigma_nm": found.diameter_uncertainty_nm[whole],
        "height_nm": found.height_nm[whole],
        "apparent_nm": found.apparent_diameter_nm[whole],
    }

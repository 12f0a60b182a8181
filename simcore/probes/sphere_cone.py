"""Closed forms of a cone that ends in a sphere: its height, its sections, its volume.

The sphere of radius R touches the cone of half angle a tangentially, at the distance R cos a from
the axis and R (1 - sin a) over the apex.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def cone_height(r_nm: npt.ArrayLike, radius_nm: float, half_angle_deg: float) -> Floats:
    """Return the height of a sphere-cone over its apex at a distance from its axis."""
    r, angle = np.asarray(r_nm, np.float64), math.radians(half_angle_deg)
    joint = radius_nm * math.cos(angle)
    inside = np.minimum(r, joint)
    cap = inside**2 / (radius_nm + np.sqrt(radius_nm**2 - inside**2))  # no cancellation at small r
    return np.asarray(cap + (r - inside) / math.tan(angle))


def cone_section(height_nm: float, radius_nm: float, half_angle_deg: float) -> float:
    """Return the radius of the section of a sphere-cone at a height over its apex."""
    angle = math.radians(half_angle_deg)
    joint = radius_nm * (1.0 - math.sin(angle))
    if height_nm <= joint:
        return math.sqrt(height_nm * (2.0 * radius_nm - height_nm))
    return radius_nm * math.cos(angle) + (height_nm - joint) * math.tan(angle)


def cone_volume(height_nm: float, radius_nm: float, half_angle_deg: float) -> float:
    """Return the volume of a sphere-cone between its apex and a height over it."""
    angle = math.radians(half_angle_deg)
    joint = min(height_nm, radius_nm * (1.0 - math.sin(angle)))
    cap = math.pi * joint**2 * (radius_nm - joint / 3.0)
    if height_nm <= joint:
        return cap
    narrow, wide = radius_nm * math.cos(angle), cone_section(height_nm, radius_nm, half_angle_deg)
    return cap + math.pi * (wide**3 - narrow**3) / (3.0 * math.tan(angle))

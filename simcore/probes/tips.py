"""Shapes of tips: cones and pyramids with round ends, double and worn tips.

Every shape tells how high its surface lies over its apex, exactly and anywhere; t(u) is minus
that, in the specimen's own x and y. Half angles are those between the axis and the flank.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from nanophantom.simcore.environment import vector
from nanophantom.simcore.models import one_of
from nanophantom.simcore.probes.array_tip import ArrayTip
from nanophantom.simcore.probes.sphere_cone import cone_height, cone_section, cone_volume
from nanophantom.simcore.probes.tip_shape import TipShape

Floats = npt.NDArray[np.float64]

CONTACT_NM = 1.0
"""Depth of the apex that counts for the effective radius of a worn one: about as much as touches
a specimen. A tenth of the fresh radius where that is less."""

HalfAngle = Annotated[float, Field(ge=1, le=89)]
Radius = Annotated[float, Field(gt=0, le=1e5)]
Direction = Annotated[float, Field(ge=-360, le=360)]


class SphereCone(TipShape):
    """A cone that ends in a sphere which it touches tangentially."""

    shape: Literal["sphere-cone"] = "sphere-cone"
    """Which shape this is."""
    radius_nm: Radius = 10.0
    """Radius of the sphere; about 10 nm for a new silicon tip."""
    half_angle_deg: HalfAngle = 20.0
    """Half angle of the cone."""

    def profile_nm(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> Floats:
        """Return t(u): R - sqrt(R^2 - r^2) up to r = R cos a, then a line of slope cot a."""
        return -cone_height(np.hypot(x_nm, y_nm), self.radius_nm, self.half_angle_deg)

    def reach_nm(self, depth_nm: float) -> float:
        """Return the radius of the section at a height over the apex."""
        return cone_section(depth_nm, self.radius_nm, self.half_angle_deg)


class Paraboloid(TipShape):
    """A paraboloid of revolution, r^2 / 2R: the shape of Hertz' contact."""

    shape: Literal["paraboloid"] = "paraboloid"
    """Which shape this is."""
    radius_nm: Radius = 10.0
    """Radius of curvature at the apex."""

    def profile_nm(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> Floats:
        """Return t(u) = -r^2 / 2R."""
        x, y = np.asarray(x_nm, np.float64), np.asarray(y_nm, np.float64)
        return np.asarray(-(x * x + y * y) / (2.0 * self.radius_nm))

    def reach_nm(self, depth_nm: float) -> float:
        """Return the radius of the section at a height over the apex, sqrt(2 R d)."""
        return math.sqrt(2.0 * self.radius_nm * depth_nm)


class Pyramid(TipShape):
    """A pyramid with a ball rolled along its inside: the apex is a sphere, edges are round too.

    Its height is the convex function ``max_s [s u - R sqrt(1 + s^2)] + R`` over the polygon of
    slopes s whose corners are the slopes of the faces: a corner gives a flat face, a side of the
    polygon a round edge, its inside the spherical apex.
    """

    shape: Literal["pyramid"] = "pyramid"
    """Which shape this is."""
    n_sides: Literal[3, 4] = Field(default=4, json_schema_extra={"dimensionless": True})
    """Number of faces: 4 for etched silicon and for silicon nitride, 3 for a Berkovich tip."""
    half_angle_deg: HalfAngle = 35.0
    """Angle between the axis and each face; 35.3 for (111) faces in pits etched into (100)."""
    apex_radius_nm: float = Field(default=10.0, gt=0, le=1e5)
    """Radius of the sphere at the apex, which also rounds the edges."""
    rotation_deg: Direction = 0.0
    """Direction that the first face looks in (0 = to the right, 90 = down)."""

    @property
    def radius_nm(self) -> float:
        """Effective radius of the apex: that of the sphere."""
        return self.apex_radius_nm

    def profile_nm(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> Floats:
        """Return t(u), exactly flat faces, cylindrical edges and a spherical apex."""
        x, y = np.asarray(x_nm, np.float64), np.asarray(y_nm, np.float64)
        R, cot = self.apex_radius_nm, 1.0 / math.tan(math.radians(self.half_angle_deg))
        # A side of the polygon of slopes: its distance from 0, and half its length.
        away, half = (cot * f(math.pi / self.n_sides) for f in (math.cos, math.sin))
        r2 = x * x + y * y
        support = np.full(np.broadcast(x, y).shape, -np.inf)
        on_sphere = np.ones(support.shape, bool)
        for k in range(self.n_sides):
            angle = math.radians(self.rotation_deg) + (2 * k + 1) * math.pi / self.n_sides
            along = -x * math.sin(angle) + y * math.cos(angle)
            across = x * math.cos(angle) + y * math.sin(angle)
            # The slope along the side where a cylinder of radius R has it, within the side.
            root = np.sqrt(np.maximum(R * R - along * along, 0.0))
            free = np.abs(along) * math.hypot(1.0, away)
            slope = np.full(support.shape, half)
            np.divide(free, root, out=slope, where=free < half * root)
            height = away * across + slope * np.abs(along)
            height -= R * np.sqrt(1.0 + away**2 + slope**2)
            support = np.maximum(support, height)
            # The sphere's own slope u / sqrt(R^2 - r^2) lies on this side's inner side.
            on_sphere &= across < away * np.sqrt(np.maximum(R * R - r2, 0.0))
        on_sphere |= r2 == 0.0
        cap = r2 / (R + np.sqrt(np.maximum(R * R - r2, 0.0)))
        return np.asarray(-np.where(on_sphere, cap, support + R))

    def reach_nm(self, depth_nm: float) -> float:
        """Return how far the edges are from the axis at a height over the apex.

        Along an edge the pyramid is a sphere-cone of its own, with cot a' = cot a cos(pi / n).
        """
        cot = math.cos(math.pi / self.n_sides) / math.tan(math.radians(self.half_angle_deg))
        return cone_section(depth_nm, self.apex_radius_nm, math.degrees(math.atan2(1.0, cot)))


class DoubleTip(TipShape):
    """Two sphere-cones side by side: every sharp feature is imaged twice.

    With the second apex at +d from the first, a spike at x is imaged at x and once more, lower by
    the height difference, at x - d.
    """

    shape: Literal["double"] = "double"
    """Which shape this is."""
    radius_nm: Radius = 10.0
    """Radius of the first apex, the longer one."""
    half_angle_deg: HalfAngle = 20.0
    """Half angle of both cones."""
    separation_nm: float = Field(default=30.0, gt=0, le=1e5)
    """Distance between the two apices, in the plane."""
    direction_deg: Direction = 0.0
    """Direction from the first apex to the second (0 = to the right, 90 = down)."""
    height_difference_nm: float = Field(default=2.0, ge=0, le=1e5)
    """How much shorter the second apex is."""
    second_radius_nm: Radius | None = None
    """Radius of the second apex; none: that of the first."""

    @model_validator(mode="after")
    def _two_apices(self) -> Self:
        hidden = cone_height(np.float64(self.separation_nm), self.radius_nm, self.half_angle_deg)
        if self.height_difference_nm >= hidden:
            raise ValueError(
                f"height_difference_nm {self.height_difference_nm:g} hides the second apex in the "
                f"first cone; it must be less than {hidden:.4g} at this separation_nm"
            )
        return self

    def profile_nm(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> Floats:
        """Return t(u): whichever of the two is lower; 0 at the first apex."""
        x, y = np.asarray(x_nm, np.float64), np.asarray(y_nm, np.float64)
        dx, dy = vector(self.separation_nm, self.direction_deg)
        first = cone_height(np.hypot(x, y), self.radius_nm, self.half_angle_deg)
        second = cone_height(np.hypot(x - dx, y - dy), self._second_nm, self.half_angle_deg)
        return -np.minimum(first, second + self.height_difference_nm)

    def reach_nm(self, depth_nm: float) -> float:
        """Return the greatest distance from the first apex of what lies within a depth of it."""
        reach = cone_section(depth_nm, self.radius_nm, self.half_angle_deg)
        if depth_nm < self.height_difference_nm:
            return reach
        left = depth_nm - self.height_difference_nm
        second = cone_section(left, self._second_nm, self.half_angle_deg)
        return max(reach, self.separation_nm + second)

    @property
    def _second_nm(self) -> float:
        return self.radius_nm if self.second_radius_nm is None else self.second_radius_nm


class WornFlat(TipShape):
    """A sphere-cone that has been worn down to a flat."""

    shape: Literal["worn"] = "worn"
    """Which shape this is."""
    fresh_radius_nm: Radius = 10.0
    """Radius of the sphere before it was worn."""
    half_angle_deg: HalfAngle = 20.0
    """Half angle of the cone."""
    flat_radius_nm: Radius = 5.0
    """Radius of the flat."""

    @property
    def worn_nm(self) -> float:
        """How much shorter than fresh the tip is."""
        fresh, angle = self.fresh_radius_nm, self.half_angle_deg
        return float(cone_height(np.float64(self.flat_radius_nm), fresh, angle))

    @property
    def radius_nm(self) -> float:
        """Effective radius: as the fresh one's, times the volume near the apex over the fresh.

        The volume is that within 1 nm of the apex (a tenth of the radius if that is less); it is
        proportional to the radius of a paraboloid.
        """
        depth = contact_depth_nm(self.fresh_radius_nm)
        fresh, below, above = (
            cone_volume(height, self.fresh_radius_nm, self.half_angle_deg)
            for height in (depth, self.worn_nm, self.worn_nm + depth)
        )
        return self.fresh_radius_nm * (above - below) / fresh

    def profile_nm(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> Floats:
        """Return t(u), 0 on the flat."""
        height = cone_height(np.hypot(x_nm, y_nm), self.fresh_radius_nm, self.half_angle_deg)
        return -np.maximum(height - self.worn_nm, 0.0)

    def reach_nm(self, depth_nm: float) -> float:
        """Return the radius of the section at a height over the flat."""
        height = depth_nm + self.worn_nm
        return cone_section(height, self.fresh_radius_nm, self.half_angle_deg)


Tip = one_of("shape", SphereCone, Paraboloid, Pyramid, DoubleTip, WornFlat, ArrayTip)
"""Any tip; its ``shape`` says which."""


def contact_depth_nm(radius_nm: float) -> float:
    """Return the depth of an apex that counts for its effective radius."""
    return min(CONTACT_NM, 0.1 * radius_nm)

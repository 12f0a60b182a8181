"""Gratings for calibration: lines, trenches, pillars or pits of known pitch and depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from nanophantom.samples._family import Sample
from nanophantom.samples.building.surfaces import SurfaceSpecimen
from nanophantom.simcore.fields import Table
from nanophantom.simcore.runs import Run
from nanophantom.simcore.surfaces import Floats, Material

Width = Annotated[float, Field(gt=0, le=1e6)]
LISTED_NM, LISTED = 5000.0, 200
"""The truth lists edges this near to the origin, of so many features on either side at most."""


class Grating(Sample):
    """A pattern with flat tops, flat floors and even side walls, without end.

    Lines stand up from the floor, trenches go down from the top; pillars and pits are their
    counterparts in two dimensions, square in plan. Feature k has its middle at k pitches from the
    origin; the widths asked for follow one another, the first one at the origin. The floor lies at
    height 0 and the top at the depth, corners are sharp.
    """

    kind: Literal["grating"] = "grating"
    features: Literal["lines", "trenches", "pillars", "pits"] = "lines"
    """What is repeated."""
    pitch_nm: float = Field(default=200.0, gt=0, le=1e6)
    """Distance from the middle of one feature to that of the next."""
    depth_nm: float = Field(default=20.0, gt=0, le=1e5)
    """Height of the top over the floor."""
    widths_nm: tuple[Width, ...] = (100.0,)
    """Widths of features at the level of the top; several of lines or trenches take turns."""
    sidewall_angle_deg: float = Field(default=90.0, ge=5, le=90)
    """Angle of the walls against the floor: 90 upright; lower ones widen lines towards the floor
    and narrow trenches."""
    direction_deg: float = Field(default=0.0, ge=-180, le=180)
    """Direction across the lines from x to y; pillars and pits stand in rows along it too."""
    shift_nm: float = Field(default=0.0, ge=-1e6, le=1e6)
    """Distance of the pattern's middle from the origin along this direction."""
    material: Material = Material(
        name="silicon", modulus_gpa=169.0, poisson_ratio=0.22, work_of_adhesion_mj_per_m2=50.0
    )
    """What it is made of."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.widths_nm:
            raise ValueError("widths_nm: at least one width is needed")
        if self.in_two_dimensions and len(self.widths_nm) > 1:
            raise ValueError(f"widths_nm: {self.features} have one width; lines may have several")
        if min(self.bottom_widths_nm) < 0:
            raise ValueError(
                f"widths_nm: walls of {self.sidewall_angle_deg:g} degrees meet before they are "
                f"{self.depth_nm:g} nm deep; at least {2 * self.run_nm:.4g} nm wide"
            )
        widest = max(*self.widths_nm, *self.bottom_widths_nm)
        if widest > self.pitch_nm:
            raise ValueError(
                f"pitch_nm: features {widest:.4g} nm wide don't fit in {self.pitch_nm:g} nm"
            )
        return self

    @property
    def in_two_dimensions(self) -> bool:
        """Whether the pattern is repeated along both axes."""
        return self.features in ("pillars", "pits")

    @property
    def stand_up(self) -> bool:
        """Whether features are higher than what lies between them."""
        return self.features in ("lines", "pillars")

    @property
    def run_nm(self) -> float:
        """Distance across a wall from its upper to its lower rim."""
        if self.sidewall_angle_deg == 90:
            return 0.0
        return float(self.depth_nm / np.tan(np.deg2rad(self.sidewall_angle_deg)))

    @property
    def bottom_widths_nm(self) -> tuple[float, ...]:
        """Widths of features at the level of the floor."""
        wider = 2 * self.run_nm * (1 if self.stand_up else -1)
        return tuple(width + wider for width in self.widths_nm)

    def make(self, run: Run) -> GratingSpecimen:
        """Return the grating; nothing is drawn."""
        return GratingSpecimen(self)


class GratingSpecimen(SurfaceSpecimen):
    """A grating."""

    def __init__(self, recipe: Grating) -> None:
        super().__init__(recipe.material)
        self.recipe = recipe

    @property
    def known(self) -> Mapping[str, Any]:
        """What an operator reads on the box: the pitch."""
        return {"pitch_nm": self.recipe.pitch_nm}

    def heights(self, x_nm: Floats, y_nm: Floats) -> Floats:
        """Return heights in nm where columns x, shape (nx,), meet rows y, shape (ny,)."""
        recipe = self.recipe
        angle = np.deg2rad(recipe.direction_deg)
        x, y = x_nm[None, :], y_nm[:, None]
        inside = self._share_inside(x * np.cos(angle) + y * np.sin(angle) - recipe.shift_nm)
        if recipe.in_two_dimensions:
            along = self._share_inside(y * np.cos(angle) - x * np.sin(angle))
            inside = np.minimum(inside, along)
        return np.asarray(recipe.depth_nm * (inside if recipe.stand_up else 1.0 - inside))

    def _share_inside(self, along_nm: Floats) -> Floats:
        """Return 0 between features, 1 where a feature's far level is reached, wall between."""
        recipe = self.recipe
        feature = np.rint(along_nm / recipe.pitch_nm)
        distance = np.abs(along_nm - feature * recipe.pitch_nm)
        turn = feature.astype(np.int64) % len(recipe.widths_nm)
        widest = np.maximum(recipe.widths_nm, recipe.bottom_widths_nm)
        beyond = widest[turn] / 2 - distance  # how far within the widest rim
        if recipe.run_nm == 0:
            return (beyond > 0).astype(np.float64)
        return np.clip(beyond / recipe.run_nm, 0.0, 1.0)

    def truth(self) -> Mapping[str, Table]:
        """Return the kinds of feature, and the edges near the origin.

        `grating` has one row a width. `edges` has one row a wall (side -1 or 1) of features near
        the origin: its upper and lower rim along the direction of the pattern; pillars and pits
        have the same ones, but for the shift, along the other axis.
        """
        recipe = self.recipe
        widths = np.array(recipe.widths_nm)
        bottoms = np.array(recipe.bottom_widths_nm)
        every = np.ones(len(widths))
        first, last = (
            round((sign * LISTED_NM - recipe.shift_nm) / recipe.pitch_nm) for sign in (-1, 1)
        )
        middle = round(-recipe.shift_nm / recipe.pitch_nm)
        feature = np.arange(max(first, middle - LISTED), min(last, middle + LISTED) + 1)
        turn = feature % len(widths)
        feature, turn = np.repeat(feature, 2), np.repeat(turn, 2)
        side = np.tile([-1, 1], len(feature) // 2)
        centre = recipe.shift_nm + feature * recipe.pitch_nm
        return {
            "grating": {
                "pitch_nm": recipe.pitch_nm * every,
                "depth_nm": recipe.depth_nm * every,
                "top_width_nm": widths,
                "bottom_width_nm": bottoms,
                "sidewall_angle_deg": recipe.sidewall_angle_deg * every,
                "direction_deg": recipe.direction_deg * every,
            },
            "edges": {
                "feature": feature,
                "side": side,
                "width": turn,
                "top_nm": centre + side * widths[turn] / 2,
                "bottom_nm": centre + side * bottoms[turn] / 2,
            },
        }

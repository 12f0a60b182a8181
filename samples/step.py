"""Terraces with straight steps between them: a vicinal crystal face, or a step-height standard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from nanophantom.samples._family import Sample
from nanophantom.samples.building.surfaces import SurfaceSpecimen
from nanophantom.simcore.fields import Table
from nanophantom.simcore.runs import Run
from nanophantom.simcore.surfaces import Floats, Material


class Step(Sample):
    """A staircase: straight parallel steps, evenly spaced about the origin.

    The lowest terrace lies at height 0 and, as the highest one, goes on without end. The default
    are single steps of gold (111), a / sqrt(3) with a = 0.40782 nm. Other heights: silicon (111)
    0.31356 nm, (100) 0.13578 nm (a / sqrt(3), a / 4 with a = 0.54310 nm), graphite 0.335 nm,
    standards for calibration typically 20 nm and 100 nm.
    """

    kind: Literal["step"] = "step"
    step_height_nm: float = Field(default=0.23545, gt=0, le=1e4)
    """Height of each step."""
    n_steps: int = Field(default=5, ge=1, le=10_000)
    """How many steps there are."""
    terrace_width_nm: float = Field(default=100.0, gt=0, le=1e6)
    """Distance from the middle of one step to that of the next."""
    edge_width_nm: float = Field(default=0.0, ge=0, le=1e5)
    """Width over which a step rises evenly; 0 for a vertical one."""
    direction_deg: float = Field(default=0.0, ge=-180, le=180)
    """Where it goes up: 0 towards +x, 90 towards +y (down the image)."""
    material: Material = Material(
        name="gold", modulus_gpa=78.0, poisson_ratio=0.42, work_of_adhesion_mj_per_m2=100.0
    )
    """What it is made of."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.edge_width_nm > self.terrace_width_nm:
            raise ValueError(
                f"edge_width_nm: {self.edge_width_nm:g} nm is wider than a terrace, "
                f"{self.terrace_width_nm:g} nm"
            )
        return self

    def make(self, run: Run) -> StepSpecimen:
        """Return the staircase; nothing is drawn."""
        return StepSpecimen(self)


class StepSpecimen(SurfaceSpecimen):
    """A staircase."""

    def __init__(self, recipe: Step) -> None:
        super().__init__(recipe.material)
        self.recipe = recipe

    @property
    def positions_nm(self) -> Floats:
        """Where the middles of the steps lie along the direction of the rise, shape (n_steps,)."""
        n = self.recipe.n_steps
        return np.asarray((np.arange(n) - (n - 1) / 2) * self.recipe.terrace_width_nm)

    def heights(self, x_nm: Floats, y_nm: Floats) -> Floats:
        """Return heights in nm where columns x, shape (nx,), meet rows y, shape (ny,)."""
        recipe = self.recipe
        angle = np.deg2rad(recipe.direction_deg)
        first = self.positions_nm[0]
        along = x_nm * np.cos(angle) + y_nm[:, None] * np.sin(angle)
        nearest = np.rint((along - first) / recipe.terrace_width_nm)
        nearest = np.clip(nearest, 0, recipe.n_steps - 1)
        past = along - (first + nearest * recipe.terrace_width_nm)
        if recipe.edge_width_nm > 0:
            risen = np.clip(past / recipe.edge_width_nm + 0.5, 0.0, 1.0)
        else:
            risen = (past >= 0).astype(np.float64)
        return np.asarray(recipe.step_height_nm * (nearest + risen))

    def truth(self) -> Mapping[str, Table]:
        """Return one row a step, from the lowest up.

        `position_nm` is the distance of the step from the origin along the rise; (x, y) is the
        point of it that is nearest to the origin.
        """
        recipe, position = self.recipe, self.positions_nm
        angle = np.deg2rad(recipe.direction_deg)
        number = np.arange(recipe.n_steps)
        every = np.ones(recipe.n_steps)
        return {
            "steps": {
                "step": number,
                "position_nm": position,
                "x_nm": position * np.cos(angle),
                "y_nm": position * np.sin(angle),
                "direction_deg": recipe.direction_deg * every,
                "height_nm": recipe.step_height_nm * every,
                "edge_width_nm": recipe.edge_width_nm * every,
                "z_below_nm": recipe.step_height_nm * number,
            }
        }

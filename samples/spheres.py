"""Spheres on a plane: size standards, latex beads, colloidal gold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from nanophantom.samples._family import Sample
from nanophantom.samples.building.surfaces import (
    Owners,
    SurfaceSpecimen,
    copies_within,
    draw_sizes,
    places_without_overlap,
    raise_bumps,
)
from nanophantom.simcore.atoms import Window
from nanophantom.simcore.fields import Table, read_only
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import sample_points
from nanophantom.simcore.surfaces import Floats, Material, Surface


class Spheres(Sample):
    """Spheres that lie on a flat floor at height 0 without touching one another.

    A surface has one height at a place: below its equator a sphere is seen from above, as a
    cylinder. The spheres are drawn once in a tile around the origin that repeats itself.
    """

    kind: Literal["spheres"] = "spheres"
    number: int = Field(default=40, ge=1, le=20_000)
    """How many lie in the tile."""
    diameter_nm: float = Field(default=30.0, gt=0, le=1e5)
    """Median diameter."""
    distribution: Literal["lognormal", "normal"] = "lognormal"
    """Distribution of the diameters."""
    spread: float = Field(default=1.0, ge=0, le=3, json_schema_extra={"dimensionless": True})
    """How they spread: geometric standard deviation (lognormal, 1 for all alike), or standard
    deviation over the median (normal, 0 for all alike)."""
    gap_nm: float = Field(default=0.0, ge=0, le=1e5)
    """Least distance between two spheres, seen from above."""
    period_nm: float = Field(default=1000.0, gt=0, le=1e6)
    """Edge of the tile."""
    material: Material = Material(
        name="polystyrene", modulus_gpa=3.0, poisson_ratio=0.34, work_of_adhesion_mj_per_m2=60.0
    )
    """What the spheres are made of."""
    floor: Material = Material(
        name="silicon", modulus_gpa=169.0, poisson_ratio=0.22, work_of_adhesion_mj_per_m2=50.0
    )
    """What they lie on."""

    @model_validator(mode="after")
    def _spreads(self) -> Self:
        if self.distribution == "lognormal" and self.spread < 1:
            raise ValueError(
                f"spread: {self.spread:g} is no geometric standard deviation, which is 1 or more"
            )
        if self.distribution == "normal" and self.spread > 0.5:
            raise ValueError(
                f"spread: {self.spread:g} of the median would make negative diameters; at most 0.5"
            )
        return self

    @classmethod
    def small(cls) -> Self:
        """Return six spheres."""
        return cls(number=6, period_nm=200.0)

    def make(self, run: Run) -> SpheresSpecimen:
        """Draw diameters from the stream "diameters" and places from the stream "places"."""
        diameters = draw_sizes(
            self.number, self.diameter_nm, self.distribution, self.spread, run.rng("diameters")
        )
        places = places_without_overlap(
            diameters / 2, self.period_nm, self.gap_nm, run.rng("places")
        )
        return SpheresSpecimen(self, places, diameters)


class SpheresSpecimen(SurfaceSpecimen):
    """Spheres on a floor."""

    def __init__(self, recipe: Spheres, places_nm: Floats, diameters_nm: Floats) -> None:
        cover = np.pi / 4 * (diameters_nm**2).sum() / recipe.period_nm**2
        super().__init__(
            recipe.material,
            (
                f"The spheres cover {100 * cover:.1f} % of the floor; their pattern repeats itself "
                f"every {recipe.period_nm:g} nm.",
            ),
        )
        self.recipe = recipe
        self.places_nm, self.diameters_nm = read_only(places_nm), read_only(diameters_nm)

    def heights(self, x_nm: Floats, y_nm: Floats) -> Floats:
        """Return heights in nm where columns x, shape (nx,), meet rows y, shape (ny,)."""
        return self._raised(x_nm, y_nm)[0]

    def surface_within(self, window: Window, shape: tuple[int, int]) -> Surface:
        """Return the surface sampled over a window, shape (ny, nx)."""
        heights, owner = self._raised(*sample_points(window, shape))
        materials = (self.recipe.floor, self.recipe.material)
        return Surface(window, heights, (owner >= 0).astype(np.uint8), materials)

    def _raised(self, x_nm: Floats, y_nm: Floats) -> tuple[Floats, Owners]:
        which, where = copies_within(
            self.places_nm, self.diameters_nm / 2, self.recipe.period_nm, x_nm, y_nm
        )
        radius = self.diameters_nm[which] / 2
        heights = np.zeros((len(y_nm), len(x_nm)))
        owner = raise_bumps(
            heights,
            x_nm,
            y_nm,
            where,
            radius,
            lambda n, squared: radius[n] + np.sqrt(radius[n] ** 2 - squared),
        )
        return heights, owner

    def truth(self) -> Mapping[str, Table]:
        """Return the spheres of the tile around the origin, and how their sizes are spread."""
        recipe, logs = self.recipe, np.log(self.diameters_nm)
        return {
            "particles": {
                "x_nm": self.places_nm[:, 0],
                "y_nm": self.places_nm[:, 1],
                "diameter_nm": self.diameters_nm,
                "height_nm": self.diameters_nm,
            },
            "size_distribution": {
                "distribution": np.array([recipe.distribution]),
                "median_nm": np.array([recipe.diameter_nm]),
                "spread": np.array([recipe.spread]),
                "geometric_mean_of_drawn_nm": np.array([np.exp(logs.mean())]),
                "geometric_deviation_of_drawn": np.array([np.exp(logs.std())]),
                "period_nm": np.array([recipe.period_nm]),
            },
        }

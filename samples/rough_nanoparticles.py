"""Nanoparticles on a rough support: spheres, or flattened ones, of many sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nanophantom.samples._family import Sample
from nanophantom.samples.building.rough_support import Roughness, RoughSupport
from nanophantom.samples.building.surfaces import (
    copies_within,
    draw_sizes,
    places_without_overlap,
    raise_bumps,
)
from nanophantom.simcore.atoms import Floats, Window
from nanophantom.simcore.fields import Table
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import Specimen, sample_points
from nanophantom.simcore.surfaces import Material, Surface


class RoughNanoparticles(Sample):
    """Nanoparticles at random places on a rough support, each with its foot on the local height.

    They are spheres, or spheroids flattened towards the support, seen from above: the upper half,
    and below the widest place a vertical wall. Seen from above none overlap. What was drawn fills a
    square around the origin, which repeats itself without a seam.
    """

    kind: Literal["rough-nanoparticles"] = "rough-nanoparticles"
    number: int = Field(default=150, ge=1, le=20_000)
    """How many there are in the square that repeats itself."""
    median_diameter_nm: float = Field(default=15.0, gt=0, le=1e4)
    """Median of the diameters, which are distributed log-normally."""
    geometric_sigma: float = Field(
        default=1.2, ge=1, le=3, json_schema_extra={"dimensionless": True}
    )
    """Geometric standard deviation of the diameters; 1 for all alike."""
    height_ratio: float = Field(default=1.0, gt=0, le=1, json_schema_extra={"dimensionless": True})
    """Height over diameter: 1 for spheres, less for flattened ones."""
    gap_nm: float = Field(default=0.0, ge=0, le=1e4)
    """Least distance between the rims of two particles, seen from above; with 0 they may touch."""
    period_nm: float = Field(default=1000.0, gt=0, le=1e5)
    """Edge of the square that repeats itself; a view should be smaller."""
    material: Material = Material(name="gold", modulus_gpa=78.0, poisson_ratio=0.44)
    """What the particles are made of."""
    support: Material = Material()
    """What they lie on."""
    roughness: Roughness = Roughness(sq_nm=1.0)
    """Heights of the support."""

    @classmethod
    def small(cls) -> Self:
        """Return twenty small ones."""
        return cls(number=20, median_diameter_nm=8.0, period_nm=200.0)

    def make(self, run: Run) -> NanoparticleSurface:
        """Draw the support, the diameters and the places, each from its own stream."""
        support = RoughSupport.draw(self.roughness, self.period_nm, run.rng("support"))
        diameters = draw_sizes(
            self.number,
            self.median_diameter_nm,
            "lognormal",
            self.geometric_sigma,
            run.rng("diameters"),
        )
        try:
            places = places_without_overlap(
                diameters / 2, self.period_nm, self.gap_nm, run.rng("places")
            )
        except ValueError as problem:
            raise ValueError(f"number: {problem}") from None
        return NanoparticleSurface(
            recipe=self,
            support=support,
            places_nm=places,
            diameters_nm=diameters,
            bottoms_nm=support.heights_at(places[:, 0], places[:, 1]),
        )


@dataclass(frozen=True, eq=False)
class NanoparticleSurface(Specimen):
    """Particles on a support.

    Attributes
    ----------
    places_nm
        Middles (x, y), shape (n, 2).
    diameters_nm, bottoms_nm
        Widths, and heights of the feet, shape (n,).
    """

    recipe: RoughNanoparticles
    support: RoughSupport
    places_nm: Floats
    diameters_nm: Floats
    bottoms_nm: Floats

    @property
    def heights_nm(self) -> Floats:
        """Heights of the particles from foot to top, shape (n,)."""
        return self.recipe.height_ratio * self.diameters_nm

    def surface_within(self, window: Window, shape: tuple[int, int]) -> Surface:
        """Return the surface sampled over a window, shape (ny, nx)."""
        x, y = sample_points(window, shape)
        heights = self.support.heights(x, y)
        radii = self.diameters_nm / 2
        which, where = copies_within(self.places_nm, radii, self.recipe.period_nm, x, y)
        bottoms, semi_axes = self.bottoms_nm[which], self.heights_nm[which] / 2

        def top(n: int, squared_nm2: Floats) -> Floats:
            share = squared_nm2 / radii[which[n]] ** 2
            return np.asarray(bottoms[n] + semi_axes[n] * (1 + np.sqrt(1 - share)))

        on_top = raise_bumps(heights, x, y, where, radii[which], top)
        material: npt.NDArray[np.uint8] = (on_top >= 0).astype(np.uint8)
        return Surface(window, heights, material, (self.recipe.support, self.recipe.material))

    def truth(self) -> Mapping[str, Table]:
        """Return the particles of one square, the distribution of their sizes, and the support."""
        recipe, logs = self.recipe, np.log(self.diameters_nm)
        return {
            "particles": {
                "x_nm": self.places_nm[:, 0],
                "y_nm": self.places_nm[:, 1],
                "diameter_nm": self.diameters_nm,
                "height_nm": self.heights_nm,
                "z_top_nm": self.bottoms_nm + self.heights_nm,
            },
            "size_distribution": {
                "median_diameter_nm": np.array([recipe.median_diameter_nm]),
                "geometric_sigma": np.array([recipe.geometric_sigma]),
                "median_diameter_drawn_nm": np.array([np.median(self.diameters_nm)]),
                "geometric_sigma_drawn": np.array([np.exp(logs.std())]),
                "number_per_nm2": np.array([recipe.number / recipe.period_nm**2]),
                "period_nm": np.array([recipe.period_nm]),
                "coverage_percent": np.array(
                    [25 * np.pi * (self.diameters_nm**2).sum() / recipe.period_nm**2]
                ),
            },
            "support": self.support.table(),
        }

    @property
    def notes(self) -> tuple[str, ...]:
        """Say that the surface repeats itself."""
        return (f"Particles and support repeat themselves every {self.recipe.period_nm:g} nm.",)

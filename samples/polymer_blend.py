"""A blend of two polymers, stiff and soft, that have parted: winding domains, or droplets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from nanophantom.samples._family import Sample
from nanophantom.samples.building.rough_support import Roughness, RoughSupport
from nanophantom.samples.building.surfaces import (
    Tile,
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

BANDWIDTH = 0.15
"""Standard deviation of the wave numbers over their mean, in the field that makes domains."""
MOST_COVERED_PERCENT = 45.0
"""Droplets that fall at random and don't overlap hardly cover more."""


class PolymerBlend(Sample):
    """A film of two polymers that have parted, with a step of height where they meet.

    Domains: a Gaussian random field whose waves have about one length in all directions, as after
    spinodal decomposition (J. W. Cahn, J. Chem. Phys. 42 (1965) 93), is cut at the level that
    leaves the wanted fraction above. Droplets: discs of log-normal diameters, at random places
    without overlap. Either fills a square around the origin, which repeats itself without a seam.

    The material changes where the step is half way up.
    """

    kind: Literal["polymer-blend"] = "polymer-blend"
    morphology: Literal["domains", "droplets"] = "domains"
    """Winding domains, or round droplets."""
    fraction_percent: float = Field(default=35.0, gt=0, le=50)
    """Share of the area that is inclusions, the minority."""
    domain_size_nm: float = Field(default=100.0, gt=0, le=1e5)
    """Half the mean wavelength of the domains; of droplets the median diameter."""
    geometric_sigma: float | None = Field(
        default=None, ge=1, le=3, json_schema_extra={"dimensionless": True}
    )
    """Geometric standard deviation of the droplets' diameters, 1.2 unless told; 1 for all alike."""
    step_nm: float = Field(default=5.0, ge=-1000, le=1000)
    """How far inclusions stand out of the matrix; negative if they lie lower."""
    edge_width_nm: float = Field(default=10.0, ge=0, le=1e4)
    """Width of the step between flat and flat; that of domains varies about this mean."""
    period_nm: float = Field(default=2000.0, gt=0, le=1e5)
    """Edge of the square that repeats itself, at least ten times domain_size_nm."""
    matrix: Material = Material(
        name="polystyrene",
        modulus_gpa=3.0,
        poisson_ratio=0.33,
        work_of_adhesion_mj_per_m2=60.0,
        viscosity_pa_s=30.0,
    )
    """The majority; stiffnesses: J. E. Mark (ed.), Polymer Data Handbook (1999). Viscosities are
    this package's own choice, for loss tangents w eta / E at 300 kHz of 0.02 in a glass and 0.25 in
    a polymer above its glass transition."""
    inclusions: Material = Material(
        name="low-density polyethylene",
        modulus_gpa=0.15,
        poisson_ratio=0.45,
        work_of_adhesion_mj_per_m2=50.0,
        viscosity_pa_s=20.0,
    )
    """The minority."""
    roughness: Roughness = Roughness(sq_nm=0.3)
    """Heights of both without the step."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.period_nm < 10 * self.domain_size_nm:
            raise ValueError(
                f"period_nm: a square of {self.period_nm:g} nm is too small for a domain_size_nm "
                f"of {self.domain_size_nm:g}; give {10 * self.domain_size_nm:g} at least"
            )
        if self.edge_width_nm > self.domain_size_nm / 2:
            raise ValueError(
                f"edge_width_nm: {self.edge_width_nm:g} nm leaves nothing flat; give half of "
                f"domain_size_nm at most, {self.domain_size_nm / 2:g}"
            )
        if self.morphology == "domains" and self.geometric_sigma is not None:
            raise ValueError("geometric_sigma: domains have none; leave it out")
        if self.morphology == "droplets" and self.fraction_percent > MOST_COVERED_PERCENT:
            raise ValueError(
                f"fraction_percent: droplets have no room to cover {self.fraction_percent:g} %; "
                f"give {MOST_COVERED_PERCENT:g} at most, or morphology: domains"
            )
        return self

    @classmethod
    def small(cls) -> Self:
        """Return small domains."""
        return cls(domain_size_nm=20.0, edge_width_nm=4.0, period_nm=200.0)

    def make(self, run: Run) -> BlendSurface:
        """Draw roughness and morphology, each from its own streams."""
        support = RoughSupport.draw(self.roughness, self.period_nm, run.rng("roughness"))
        parts: Domains | Droplets
        if self.morphology == "domains":
            parts = Domains.draw(self, run.rng("domains"))
        else:
            parts = Droplets.draw(self, run.rng("diameters"), run.rng("places"))
        return BlendSurface(self, support, parts)


@dataclass(frozen=True, eq=False)
class Domains:
    """Where a random field lies above a level.

    Attributes
    ----------
    field
        The field, of variance 1.
    level
        Where it is cut.
    rise
        By how much the field rises, on average, over the width of an edge.
    fraction
        Share of the square where the field lies above the level.
    """

    field: Tile
    level: float
    rise: float
    fraction: float

    @classmethod
    def draw(cls, recipe: PolymerBlend, rng: np.random.Generator) -> Self:
        """Draw a field and cut it."""
        k0 = 0.5 / recipe.domain_size_nm
        field = Tile.gaussian(
            power=lambda k: np.asarray(np.exp(-((k / k0 - 1) ** 2) / (2 * BANDWIDTH**2))),
            rms_nm=1.0,
            period_nm=recipe.period_nm,
            shortest_nm=1 / (k0 * (1 + 5 * BANDWIDTH)),
            rng=rng,
        )
        # cut where the fraction is right, by a million samples or more
        n = len(field.heights_nm)
        fine = n * max(1, 1024 // n)
        places = np.asarray(recipe.period_nm / fine * np.arange(fine), np.float64)
        values = field.heights(places, places)
        level = float(np.quantile(values, 1 - recipe.fraction_percent / 100))
        # Near the level, areas are in proportion to 1 / slope; so the mean of the slope over them
        # is 1 over the mean of 1 / slope along the interface, which makes the mean width.
        h = field.step_nm / 1000
        dx = field.heights(places + h, places) - field.heights(places - h, places)
        dy = field.heights(places, places + h) - field.heights(places, places - h)
        slope = float(np.hypot(dx, dy)[np.abs(values - level) < 0.05].mean()) / (2 * h)
        return cls(field, level, slope * recipe.edge_width_nm, float((values > level).mean()))

    def share(self, x_nm: Floats, y_nm: Floats) -> Floats:
        """Return how much of the step is there, 0 to 1, where columns x meet rows y."""
        return joined(self.field.heights(x_nm, y_nm) - self.level, self.rise)

    def table(self) -> Mapping[str, Table]:
        """Return nothing; domains have no places."""
        return {}


@dataclass(frozen=True, eq=False)
class Droplets:
    """Discs in a square that repeats itself: middles, shape (n, 2), and diameters, shape (n,)."""

    places_nm: Floats
    diameters_nm: Floats
    edge_width_nm: float
    period_nm: float

    @classmethod
    def draw(
        cls, recipe: PolymerBlend, sizes: np.random.Generator, places: np.random.Generator
    ) -> Self:
        """Draw as many as make up the fraction, on average, and place them."""
        sigma = 1.2 if recipe.geometric_sigma is None else recipe.geometric_sigma
        mean_square = recipe.domain_size_nm**2 * np.exp(2 * np.log(sigma) ** 2)  # log-normal
        covered = recipe.fraction_percent / 100 * recipe.period_nm**2
        number = max(1, round(covered / (np.pi / 4 * mean_square)))
        diameters = draw_sizes(number, recipe.domain_size_nm, "lognormal", sigma, sizes)
        # the fraction is kept: all become larger or smaller by a little
        diameters *= np.sqrt(covered / (np.pi / 4 * (diameters**2).sum()))
        try:
            where = places_without_overlap(diameters / 2, recipe.period_nm, 0.0, places)
        except ValueError as problem:
            raise ValueError(f"fraction_percent: {problem}") from None
        return cls(where, diameters, recipe.edge_width_nm, recipe.period_nm)

    @property
    def fraction(self) -> float:
        """Share of the square that they cover."""
        return float(np.pi / 4 * (self.diameters_nm**2).sum() / self.period_nm**2)

    def share(self, x_nm: Floats, y_nm: Floats) -> Floats:
        """Return how much of the step is there, 0 to 1, where columns x meet rows y."""
        radii = self.diameters_nm / 2
        reach = radii + self.edge_width_nm / 2
        which, where = copies_within(self.places_nm, reach, self.period_nm, x_nm, y_nm)
        share = np.zeros((len(y_nm), len(x_nm)))
        raise_bumps(
            share,
            x_nm,
            y_nm,
            where,
            reach[which],
            lambda n, squared: joined(radii[which[n]] - np.sqrt(squared), self.edge_width_nm),
        )
        return share

    def table(self) -> Mapping[str, Table]:
        """Return where they lie and their diameters, at half the step."""
        x, y = self.places_nm.T
        return {"droplets": {"x_nm": x, "y_nm": y, "diameter_nm": self.diameters_nm}}


@dataclass(frozen=True, eq=False)
class BlendSurface(Specimen):
    """A blend, and where its inclusions are."""

    recipe: PolymerBlend
    support: RoughSupport
    inclusions: Domains | Droplets

    def surface_within(self, window: Window, shape: tuple[int, int]) -> Surface:
        """Return the surface sampled over a window, shape (ny, nx)."""
        x, y = sample_points(window, shape)
        share = self.inclusions.share(x, y)
        heights = self.support.heights(x, y) + self.recipe.step_nm * share
        materials = (self.recipe.matrix, self.recipe.inclusions)
        return Surface(window, heights, (share >= 0.5).astype(np.uint8), materials)

    def truth(self) -> Mapping[str, Table]:
        """Return the materials, the morphology, the droplets if there are any, the roughness."""
        recipe = self.recipe
        both = (recipe.matrix, recipe.inclusions)
        return {
            "materials": {
                "material": np.arange(2),
                "name": np.array([m.name for m in both]),
                "modulus_gpa": np.array([m.modulus_gpa for m in both]),
                "poisson_ratio": np.array([m.poisson_ratio for m in both]),
                "work_of_adhesion_mj_per_m2": np.array(
                    [m.work_of_adhesion_mj_per_m2 for m in both]
                ),
                "viscosity_pa_s": np.array([m.viscosity_pa_s for m in both]),
                "thickness_nm": np.array([m.depth_nm for m in both]),
            },
            "morphology": {
                "morphology": np.array([recipe.morphology]),
                "fraction_percent": np.array([recipe.fraction_percent]),
                "fraction_of_square_percent": np.array([100 * self.inclusions.fraction]),
                "domain_size_nm": np.array([recipe.domain_size_nm]),
                "step_nm": np.array([recipe.step_nm]),
                "edge_width_nm": np.array([recipe.edge_width_nm]),
            },
            **self.inclusions.table(),
            "roughness": self.support.table(),
        }

    @property
    def notes(self) -> tuple[str, ...]:
        """Say that the surface repeats itself."""
        return (f"The blend repeats itself every {self.recipe.period_nm:g} nm.",)


def joined(beyond: Floats, width: float) -> Floats:
    """Return a smooth step from 0 to 1 in the middle of a width: 3 u^2 - 2 u^3."""
    if width == 0:
        return np.asarray(beyond >= 0, np.float64)
    u = np.clip(beyond / width + 0.5, 0.0, 1.0)
    return np.asarray(u * u * (3 - 2 * u))

"""Sharp spikes on a smooth floor: what a tip is imaged with, to see its shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from nanophantom.samples._family import Sample
from nanophantom.samples.building.surfaces import (
    SurfaceSpecimen,
    copies_within,
    places_without_overlap,
    raise_bumps,
)
from nanophantom.simcore.fields import Table, read_only
from nanophantom.simcore.probes.sphere_cone import cone_height, cone_section
from nanophantom.simcore.runs import Run
from nanophantom.simcore.surfaces import Floats, Material

Length = Annotated[float, Field(gt=0, le=1e4)]
Angle = Annotated[float, Field(ge=1, le=80)]


class Spikes(Sample):
    """Cones with rounded points on a flat floor at height 0, at random places.

    Each has a height, a radius at the point and a half angle of its own, drawn evenly between two
    limits: a spherical cap that goes over into the cone without a kink. Spikes much sharper than
    the tip image the tip itself. They are drawn once in a tile around the origin that repeats
    itself; their feet don't overlap.
    """

    kind: Literal["spikes"] = "spikes"
    number: int = Field(default=40, ge=1, le=20_000)
    """How many stand in the tile."""
    heights_nm: tuple[Length, Length] = (40.0, 80.0)
    """Lowest and highest they are."""
    radii_nm: tuple[Length, Length] = (1.0, 3.0)
    """Smallest and largest radius of the point."""
    half_angles_deg: tuple[Angle, Angle] = (10.0, 20.0)
    """Smallest and largest half angle of the cone."""
    period_nm: float = Field(default=1000.0, gt=0, le=1e6)
    """Edge of the tile."""
    material: Material = Material(
        name="silicon", modulus_gpa=169.0, poisson_ratio=0.22, work_of_adhesion_mj_per_m2=50.0
    )
    """What they are made of, and the floor."""

    @model_validator(mode="after")
    def _limits_rise(self) -> Self:
        for name in ("heights_nm", "radii_nm", "half_angles_deg"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: {low:g} must not be more than {high:g}")
        return self

    @classmethod
    def small(cls) -> Self:
        """Return five spikes."""
        return cls(number=5, heights_nm=(10.0, 20.0), period_nm=200.0)

    def make(self, run: Run) -> SpikesSpecimen:
        """Draw shapes from the stream "shapes" and places from the stream "places"."""
        rng = run.rng("shapes")
        height = rng.uniform(*self.heights_nm, self.number)
        radius = rng.uniform(*self.radii_nm, self.number)
        angle = rng.uniform(*self.half_angles_deg, self.number)
        foot = feet(height, radius, angle)
        places = places_without_overlap(foot, self.period_nm, 0.0, run.rng("places"))
        return SpikesSpecimen(self, places, height, radius, angle)


class SpikesSpecimen(SurfaceSpecimen):
    """Spikes on a floor."""

    def __init__(
        self, recipe: Spikes, places_nm: Floats, height: Floats, radius: Floats, angle: Floats
    ) -> None:
        note = f"The spikes' pattern repeats itself every {recipe.period_nm:g} nm."
        super().__init__(recipe.material, (note,))
        self.recipe, self.places_nm = recipe, read_only(places_nm)
        self.height_nm, self.radius_nm = read_only(height), read_only(radius)
        self.half_angle_deg = read_only(angle)
        self.foot_nm = read_only(feet(height, radius, angle))

    def heights(self, x_nm: Floats, y_nm: Floats) -> Floats:
        """Return heights in nm where columns x, shape (nx,), meet rows y, shape (ny,)."""
        which, where = copies_within(
            self.places_nm, self.foot_nm, self.recipe.period_nm, x_nm, y_nm
        )
        height, radius = self.height_nm[which], self.radius_nm[which]
        angle, foot = self.half_angle_deg[which], self.foot_nm[which]
        surface = np.zeros((len(y_nm), len(x_nm)))
        raise_bumps(
            surface,
            x_nm,
            y_nm,
            where,
            foot,
            lambda n, squared: height[n] - cone_height(np.sqrt(squared), radius[n], angle[n]),
        )
        return surface

    def truth(self) -> Mapping[str, Table]:
        """Return the spikes of the tile around the origin."""
        return {
            "spikes": {
                "x_nm": self.places_nm[:, 0],
                "y_nm": self.places_nm[:, 1],
                "height_nm": self.height_nm,
                "radius_nm": self.radius_nm,
                "half_angle_deg": self.half_angle_deg,
                "foot_radius_nm": self.foot_nm,
            }
        }


def feet(height_nm: Floats, radius_nm: Floats, half_angle_deg: Floats) -> Floats:
    """Return the distances from the axis at which spikes come down to the floor."""
    shapes = zip(height_nm, radius_nm, half_angle_deg, strict=True)
    return np.array([cone_section(*shape) for shape in shapes])

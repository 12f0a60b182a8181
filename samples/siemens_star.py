"""A Siemens star of labelled sites: every period between its rim and its middle at once."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from pydantic import Field

from nanophantom.samples.building.labelled import FieldSample, Structures, refuse_too_many
from nanophantom.simcore.emitters import Sites
from nanophantom.simcore.light.labelling import Labelling, NoLinker
from nanophantom.simcore.runs import Run


class SiemensStar(FieldSample):
    """Spokes with sites at random places, and gaps as wide without any.

    At a distance r from the middle the period is 2 pi r / spokes: where the spokes merge tells the
    resolution. The field is the star's diameter; the part of a site is its spoke.
    """

    kind: Literal["siemens-star"] = "siemens-star"
    field_um: float = Field(default=5.0, gt=0, le=1000)
    """Diameter of the star."""
    spokes: int = Field(default=36, ge=2, le=10_000)
    """Number of spokes."""
    sites_per_um2: float = Field(default=3000.0, gt=0, le=1e8)
    """Density of sites in the spokes; their number is a Poisson one."""
    angle_deg: float = Field(default=0.0, ge=-360, le=360)
    """Direction of the middle of the first spoke, from x to y."""
    height_nm: float = Field(default=50.0, ge=-1e6, le=1e6)
    """How high above the coverslip the star lies."""
    labelling: Labelling = Labelling(efficiency=1.0, linker=NoLinker())
    """How its sites are labelled, and with what."""

    @classmethod
    def small(cls) -> Self:
        """Return a small star."""
        return cls(field_um=1.0, spokes=8)

    def build(self, run: Run) -> Structures:
        """Draw the sites from "places"."""
        radius = self.field_nm / 2
        mean = np.pi * (self.field_um / 2) ** 2 / 2 * self.sites_per_um2
        refuse_too_many(mean, "sites_per_um2")
        places = run.rng("places")
        n = int(places.poisson(mean))
        spoke = places.integers(self.spokes, size=n, dtype=np.int32)
        # a spoke fills half of its period, evenly over its area
        angle = 2 * np.pi / self.spokes * (spoke + places.random(n) / 2 - 0.25)
        angle += np.deg2rad(self.angle_deg)
        r = radius * np.sqrt(places.random(n))
        z = np.full(n, self.height_nm)
        return Structures(
            sites=Sites(
                np.column_stack([r * np.cos(angle), r * np.sin(angle), z]),
                np.zeros(n, np.int32),
                spoke,
            ),
            table={
                "x_nm": np.zeros(1),
                "y_nm": np.zeros(1),
                "z_nm": np.array([self.height_nm]),
                "angle_deg": np.array([self.angle_deg % 360]),
                "size_nm": np.array([2 * radius]),
                "spokes": np.array([self.spokes]),
            },
        )

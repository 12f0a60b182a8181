"""Sites whose density wanders from place to place: a log-Gaussian Cox process."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from pydantic import Field

from nanophantom.samples.building.labelled import FieldSample, Structures, refuse_too_many
from nanophantom.samples.building.surfaces import Tile
from nanophantom.simcore.emitters import Floats, Sites
from nanophantom.simcore.light.labelling import Labelling
from nanophantom.simcore.runs import Run

_SHORTEST = 1.2
"""Waves shorter than so many correlation lengths hold 1e-6 of the density of the longest."""
_FINER = 3
"""Cells of even density to a sample of the random field, along an edge."""
_MOST_CELLS = 3000
"""Along an edge."""


class RandomField(FieldSample):
    """Sites at random, at a density that is the exponential of a smooth Gaussian random field.

    density = mean exp(c G - c^2 / 2), with G of variance 1 and covariance exp(-r^2 / 2 l^2), so
    that the sites' pair correlation is g(r) = exp(c^2 exp(-r^2 / 2 l^2)): J. Møller, A. R.
    Syversveen & R. P. Waagepetersen, Scand. J. Statist. 25 (1998) 451. G repeats itself with the
    field and has no mean there.
    """

    kind: Literal["random-field"] = "random-field"
    sites_per_um2: float = Field(default=300.0, gt=0, le=1e8)
    """Mean density of the sites."""
    correlation_nm: float = Field(default=500.0, gt=0, le=1e6)
    """Length l on which the density is forgotten."""
    contrast: float = Field(default=0.8, ge=0, le=3, json_schema_extra={"dimensionless": True})
    """Standard deviation c of the density's logarithm; 0 for complete spatial randomness."""
    height_nm: float = Field(default=50.0, ge=-1e6, le=1e6)
    """Mean height of the sites above the coverslip."""
    height_spread_nm: float = Field(default=0.0, ge=0, le=1e5)
    """Standard deviation of the heights of the sites."""
    labelling: Labelling = Labelling()
    """How its sites are labelled, and with what."""

    @classmethod
    def small(cls) -> Self:
        """Return a small field."""
        return cls(field_um=2.0)

    def build(self, run: Run) -> Structures:
        """Draw the density from "density", and where sites are from "places"."""
        edge, contrast = self.field_nm, self.contrast
        refuse_too_many(self.sites_per_um2 * self.field_um**2, "sites_per_um2")
        if _FINER * 3 * edge / (_SHORTEST * self.correlation_nm) > _MOST_CELLS:
            raise ValueError(
                f"correlation_nm: {self.correlation_nm:g} nm is too short for a field of "
                f"{self.field_um:g} um; give {edge * 9 / _SHORTEST / _MOST_CELLS:.3g} at least"
            )
        if edge < 4 * self.correlation_nm:
            raise ValueError(
                f"correlation_nm: {self.correlation_nm:g} nm is too long for a field of "
                f"{self.field_um:g} um; give a quarter of it at most"
            )
        tile = Tile.gaussian(
            lambda k: np.exp(-2 * (np.pi * self.correlation_nm * k) ** 2),
            1.0,
            edge,
            _SHORTEST * self.correlation_nm,
            run.rng("density"),
        )
        n = _FINER * len(tile.heights_nm)
        cell = edge / n
        middle: Floats = cell * np.arange(0.5, n) - edge / 2
        density = self.sites_per_um2 * np.exp(
            contrast * tile.heights(middle, middle) - contrast**2 / 2
        )
        places = run.rng("places")
        sites_in_cell = places.poisson(1e-6 * cell**2 * density)
        row, column = np.divmod(np.repeat(np.arange(n * n), sites_in_cell.ravel()), n)
        x = middle[column] + cell * (places.random(len(column)) - 0.5)
        y = middle[row] + cell * (places.random(len(row)) - 0.5)
        z = self.height_nm + self.height_spread_nm * run.rng("heights").standard_normal(len(x))
        nothing = np.zeros(len(x), np.int32)
        every = slice(_FINER // 2, None, _FINER)
        grid = np.meshgrid(middle[every], middle[every])
        return Structures(
            sites=Sites(np.column_stack([x, y, z]), nothing, nothing),
            table={
                "x_nm": np.zeros(1),
                "y_nm": np.zeros(1),
                "z_nm": np.array([self.height_nm]),
                "angle_deg": np.zeros(1),
                "size_nm": np.array([edge]),
            },
            further={
                "density": {
                    "x_nm": grid[0].ravel(),
                    "y_nm": grid[1].ravel(),
                    "sites_per_um2": density[every, every].ravel(),
                }
            },
        )

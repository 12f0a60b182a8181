"""A slightly rough floor, for things that lie on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from pydantic import Field
from scipy import ndimage

from nanophantom.samples.building.surfaces import Tile
from nanophantom.samples.rough_surface import rough_tile
from nanophantom.simcore.atoms import Floats
from nanophantom.simcore.fields import Table
from nanophantom.simcore.models import Model


class Roughness(Model):
    """A Gaussian random surface of autocorrelation exp(-r^2 / T^2)."""

    sq_nm: float = Field(default=0.2, ge=0, le=1000)
    """Root mean square height Sq that is expected; 0 for a flat one."""
    correlation_length_nm: float = Field(default=20.0, gt=0, le=1e5)
    """Distance T at which the autocorrelation of heights has fallen to 1/e."""


@dataclass(frozen=True, eq=False)
class RoughSupport:
    """One realization of a rough floor; flat where it has no tile."""

    roughness: Roughness
    tile: Tile | None

    @classmethod
    def draw(cls, roughness: Roughness, period_nm: float, rng: np.random.Generator) -> Self:
        """Draw a tile of this period.

        Raises
        ------
        ValueError
            The correlation length is too small for the period, or too large.
        """
        if roughness.sq_nm == 0:
            return cls(roughness, None)
        length = roughness.correlation_length_nm
        if period_nm < 10 * length:
            raise ValueError(
                f"roughness.correlation_length_nm: {length:g} nm is too long for a period_nm of "
                f"{period_nm:g}; give {period_nm / 10:g} nm at most, or a larger period"
            )
        return cls(roughness, rough_tile(roughness.sq_nm, length, period_nm, rng))

    def heights(self, x_nm: Floats, y_nm: Floats) -> Floats:
        """Return heights where columns x, shape (nx,), meet rows y, shape (ny,)."""
        if self.tile is None:
            return np.zeros((len(y_nm), len(x_nm)))
        return self.tile.heights(x_nm, y_nm)

    def heights_at(self, x_nm: Floats, y_nm: Floats) -> Floats:
        """Return heights at places (x, y), both of shape (n,)."""
        if self.tile is None:
            return np.zeros(len(x_nm))
        places = np.stack([y_nm, x_nm]) / self.tile.step_nm
        return np.asarray(
            ndimage.map_coordinates(self.tile.heights_nm, places, order=3, mode="grid-wrap")
        )

    def table(self) -> Table:
        """Return its statistics: nominal, and those of the tile that was drawn."""
        drawn = 0.0 if self.tile is None else float(self.tile.heights_nm.std())
        return {
            "sq_nm": np.array([self.roughness.sq_nm]),
            "sq_of_tile_nm": np.array([drawn]),
            "correlation_length_nm": np.array([self.roughness.correlation_length_nm]),
        }

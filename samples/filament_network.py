"""A network of thin filaments, such as actin under a cell's membrane."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from pydantic import Field

from nanophantom.samples.building.labelled import Structures
from nanophantom.samples.building.paths import PathSample
from nanophantom.simcore.light.labelling import GaussianLinker, Labelling
from nanophantom.simcore.runs import Run


class FilamentNetwork(PathSample):
    """Filaments that cross one another, with sites on a helix around each.

    By default actin: a protomer every 2.75 nm, turned by -166.7 degrees against the one before
    (K. C. Holmes et al., Nature 347 (1990) 44), which looks like two strands that wind around each
    other; the part of a site is its strand. Persistence length: F. Gittes et al., J. Cell Biol.
    120 (1993) 923.
    """

    kind: Literal["filament-network"] = "filament-network"
    number: int = Field(default=40, ge=1, le=10_000)
    """How many; their middles lie at random places in the field, and what is beyond it is left
    out."""
    length_um: float = Field(default=6.0, gt=0, le=1000)
    """Length along each of them."""
    persistence_length_um: float | None = Field(default=17.7, gt=0.1, le=1e6)
    """How stiff they are in the plane; none for straight ones."""
    height_nm: float = Field(default=100.0, ge=-1e6, le=1e6)
    """Mean height of their axes above the coverslip."""
    height_spread_nm: float = Field(default=20.0, ge=0, le=1e5)
    """Standard deviation of the heights; 0 for filaments in one plane."""
    rise_nm: float = Field(default=2.75, gt=0.1, le=1000)
    """Distance of neighbouring sites along a filament."""
    turn_deg: float = Field(default=-166.7, ge=-360, le=360)
    """By how much each site is turned about the axis against the one before."""
    radius_nm: float = Field(default=3.5, ge=0, le=1000)
    """How far from the axis the sites lie; 0 puts them on it."""
    labelling: Labelling = Labelling(efficiency=0.3, linker=GaussianLinker(sd_nm=1.0))
    """How its sites are labelled, and with what: phalloidin is small."""

    @classmethod
    def small(cls) -> Self:
        """Return three short ones."""
        return cls(number=3, length_um=0.5, field_um=1.0)

    def build(self, run: Run) -> Structures:
        """Draw the paths, and from "lattices" how each filament is turned about its axis."""
        paths = self.paths(run)
        protomer = np.arange(int(paths.length_nm / self.rise_nm) + 1)
        turn = 2 * np.pi * run.rng("lattices").random((self.number, 1))
        angle = turn + np.deg2rad(self.turn_deg) * protomer
        sites, outward, columns = paths.wound(
            np.asarray(self.rise_nm * protomer), angle, protomer % 2, self.radius_nm, self
        )
        return Structures(
            sites=sites,
            table=paths.rows(),
            site_columns=columns,
            outward=outward,
            further={"paths": paths.table()},
        )

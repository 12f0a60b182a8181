"""Microtubules: hollow tubes of tubulin, the classical test of resolution in a cell."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from pydantic import Field

from nanophantom.samples.building.labelled import Structures
from nanophantom.samples.building.paths import PathSample
from nanophantom.simcore.atoms import Floats, Ints
from nanophantom.simcore.light.fluorophores import Fluorophore
from nanophantom.simcore.light.labelling import FixedLinker, Labelling
from nanophantom.simcore.runs import Run


class Microtubules(PathSample):
    """Microtubules of 13 straight protofilaments of tubulin dimers, a site on each dimer.

    Dimers follow each other every 8 nm along a protofilament. Each protofilament begins 0.923 nm
    further along than its neighbour, so that three monomers of 4 nm make up the way around (the
    three-start helix; H. Sosa & R. A. Milligan, J. Mol. Biol. 260 (1996) 743), which leaves a
    seam. Protofilaments are numbered along the way that leads up from the right-hand side.
    """

    kind: Literal["microtubules"] = "microtubules"
    diameter_nm: float = Field(default=25.0, gt=0, le=1000)
    """Outer diameter, where the sites are."""
    protofilaments: int = Field(default=13, ge=1, le=40)
    """How many protofilaments make the tube."""
    dimer_nm: float = Field(default=8.0, gt=0.1, le=100)
    """Length of a tubulin dimer."""
    stagger_nm: float = Field(default=0.923, ge=-100, le=100)
    """How much further along each protofilament begins than its neighbour."""
    labelling: Labelling = Labelling(
        efficiency=0.1,
        linker=FixedLinker(length_nm=17.5, outward=True),
        dyes_per_label=2.0,
        dyes_distribution="poisson",
        dye_spread_nm=3.0,
        dye=Fluorophore(preset="dstorm"),
    )
    """How its sites are labelled, and with what: two layers of antibodies, which can't get in, and
    of which there is room for few."""

    @classmethod
    def small(cls) -> Self:
        """Return two short ones."""
        return cls(number=2, length_um=1.0, field_um=1.0)

    def build(self, run: Run) -> Structures:
        """Draw the paths, and from "lattices" how each tube is turned about its axis."""
        paths = self.paths(run)
        s, protofilament = self.lattice(paths.length_nm)
        turn = 2 * np.pi * run.rng("lattices").random((self.number, 1))
        angle = turn + 2 * np.pi / self.protofilaments * protofilament
        sites, outward, columns = paths.wound(s, angle, protofilament, self.diameter_nm / 2, self)
        return Structures(
            sites=sites,
            table={
                **paths.rows(),
                "diameter_nm": np.full(self.number, self.diameter_nm),
                "first_protofilament_deg": np.rad2deg(turn[:, 0]),
            },
            site_columns=columns,
            outward=outward,
            further={
                "paths": paths.table(),
                "tubes": {
                    "diameter_nm": np.array([self.diameter_nm]),
                    "protofilaments": np.array([self.protofilaments]),
                    "dimer_nm": np.array([self.dimer_nm]),
                },
            },
        )

    def lattice(self, length_nm: float) -> tuple[Floats, Ints]:
        """Return the lattice of a tube: where along it each dimer lies, and its protofilament."""
        protofilament = np.arange(self.protofilaments)
        start = (self.stagger_nm * protofilament) % self.dimer_nm
        dimers = np.arange(int(np.ceil(length_nm / self.dimer_nm)))
        s = start + self.dimer_nm * dimers[:, None]
        within = s <= length_nm
        return s[within], np.broadcast_to(protofilament, s.shape)[within]

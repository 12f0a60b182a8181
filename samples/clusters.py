"""Clusters of proteins in a membrane: a Thomas process over a background of single ones."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from pydantic import Field

from nanophantom.samples.building.labelled import FieldSample, Structures, refuse_too_many
from nanophantom.simcore.atoms import Floats
from nanophantom.simcore.emitters import Ints, Sites
from nanophantom.simcore.light.fluorophores import Fluorophore
from nanophantom.simcore.light.labelling import Labelling, NoLinker
from nanophantom.simcore.runs import Run

_REACH = 6.0  # clusters whose centres lie this many deviations outside reach in with 1e-8 or so


class Clusters(FieldSample):
    """Clusters at random places, Poisson numbers of sites in each, normally distributed about it.

    The pair correlation of the clusters' sites is
    g(r) = 1 + exp(-r^2 / 4 s^2) / (4 pi rho s^2), rho the density of clusters: M. Thomas,
    Biometrika 36 (1949) 18. Single sites at random places (complete spatial randomness) dilute it:
    g - 1 shrinks by the square of the clusters' share of all sites. Clusters around the square
    reach into it, so the process is the same everywhere in it. Single sites belong to structure
    -1.
    """

    kind: Literal["clusters"] = "clusters"
    field_um: float = Field(default=5.0, gt=0, le=1000)
    """Edge of the square around the origin that is filled; beyond it there is nothing."""
    clusters_per_um2: float = Field(default=5.0, ge=0, le=1e6)
    """Density of clusters; 0 for complete spatial randomness."""
    sites_per_cluster: float = Field(
        default=15.0, ge=0, le=1e6, json_schema_extra={"dimensionless": True}
    )
    """Mean number of sites in a cluster; a cluster without any leaves no trace."""
    sd_nm: float = Field(default=20.0, gt=0, le=1e5)
    """Standard deviation of the sites about the middle of their cluster, along x and y."""
    singles_per_um2: float = Field(default=20.0, ge=0, le=1e6)
    """Density of single sites."""
    height_nm: float = Field(default=50.0, ge=-1e6, le=1e6)
    """How high above the coverslip the membrane lies."""
    height_spread_nm: float = Field(default=0.0, ge=0, le=1e5)
    """Standard deviation of the heights of the sites."""
    labelling: Labelling = Labelling(linker=NoLinker(), dye=Fluorophore(preset="palm"))
    """How its sites are labelled, and with what: fused to a fluorescent protein."""

    @classmethod
    def small(cls) -> Self:
        """Return a few clusters."""
        return cls(field_um=1.0, clusters_per_um2=8.0)

    def build(self, run: Run) -> Structures:
        """Draw "places" of clusters, "members", and "singles"."""
        area = self.field_um**2
        expected = area * (self.clusters_per_um2 * self.sites_per_cluster + self.singles_per_um2)
        refuse_too_many(expected, "clusters_per_um2, sites_per_cluster or singles_per_um2")
        centres, members, owner = self._members(run)
        chance = run.rng("singles")
        singles = int(chance.poisson(area * self.singles_per_um2))
        alone = self.field_nm * (chance.random((singles, 2)) - 0.5)

        flat = np.concatenate([members, alone])
        up = self.height_nm + self.height_spread_nm * run.rng("heights").standard_normal(len(flat))
        structure = np.concatenate([owner, np.full(len(alone), -1, np.int32)])
        n = len(centres)
        return Structures(
            sites=Sites(np.column_stack([flat, up]), structure, np.zeros(len(flat), np.int32)),
            table={
                "x_nm": centres[:, 0],
                "y_nm": centres[:, 1],
                "z_nm": np.full(n, self.height_nm),
                "angle_deg": np.zeros(n),
                "size_nm": np.full(n, 2 * np.sqrt(2 * np.log(2)) * self.sd_nm),
                "sd_nm": np.full(n, self.sd_nm),
            },
            further={
                "process": {
                    "clusters_per_um2": np.array([self.clusters_per_um2]),
                    "sites_per_cluster": np.array([self.sites_per_cluster]),
                    "sd_nm": np.array([self.sd_nm]),
                    "singles_per_um2": np.array([self.singles_per_um2]),
                    "n_singles": np.array([len(alone)]),
                }
            },
        )

    def _members(self, run: Run) -> tuple[Floats, Floats, Ints]:
        """Return centres of the clusters that are seen, and their sites with their numbers."""
        edge = self.field_nm + 2 * _REACH * self.sd_nm
        mean = 1e-6 * edge**2 * self.clusters_per_um2
        refuse_too_many(mean * max(1, self.sites_per_cluster), "clusters_per_um2 or sd_nm")
        places = run.rng("places")
        parents = int(places.poisson(mean))
        centres = edge * (places.random((parents, 2)) - 0.5)
        chance = run.rng("members")
        owner = np.repeat(np.arange(parents), chance.poisson(self.sites_per_cluster, parents))
        members = centres[owner] + self.sd_nm * chance.standard_normal((len(owner), 2))
        kept = self.inside(members)
        seen, number = np.unique(owner[kept], return_inverse=True)
        return centres[seen], members[kept], number.astype(np.int32)

"""What labelled samples share: structures with sites, labels on the sites, dyes on the labels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from nanophantom.samples._family import Sample
from nanophantom.simcore.atoms import Window
from nanophantom.simcore.emitters import Dyes, Floats, Sites
from nanophantom.simcore.fields import Table
from nanophantom.simcore.light.fluorophores import Fluorophore
from nanophantom.simcore.light.labelling import Labelling, Labels, label
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import Specimen

MOST_SITES = 5_000_000
"""More sites than this are refused; they would take gigabytes."""


@dataclass(frozen=True, eq=False)
class Structures:
    """Structures before they are labelled.

    Attributes
    ----------
    sites : Sites
        All places that can bind a label; structure -1 for those that belong to none.
    table : Table
        One row a structure: x_nm, y_nm, z_nm of its centre, angle_deg, size_nm, and what else was
        chosen for it.
    site_columns : Table
        What else is known of each site.
    outward : (n, 3), or None
        Unit vectors that point out of the structure at each site, if it has an inside.
    further : mapping
        Other truth tables: paths, densities.
    """

    sites: Sites
    table: Table
    site_columns: Table = field(default_factory=dict)
    outward: Floats | None = None
    further: Mapping[str, Table] = field(default_factory=dict)


class LabelledSpecimen(Specimen):
    """Labelled structures: they fluoresce, and every dye knows its site."""

    def __init__(self, structures: Structures, labels: Labels, fluorophore: Fluorophore) -> None:
        self.structures, self.labels = structures, labels
        self._fluorophore, self._fluorescing = fluorophore, labels.fluorescing()

    @property
    def fluorophore(self) -> Fluorophore:
        """What all its dyes are."""
        return self._fluorophore

    def dyes_within(self, window: Window) -> Dyes:
        """Return the dyes that can fluoresce and whose (x, y) lie in the window.

        The number of a dye is its row in the truth table "dyes".
        """
        x, y, _ = self._fluorescing.positions_nm.T
        return self._fluorescing.select(window.holds(x, y))

    def truth(self) -> Mapping[str, Table]:
        """Return structures, sites, labels and dyes, each with the numbers of what it is on."""
        sites = {**self.structures.sites.table(), **self.structures.site_columns}
        tables = {"structures": self._structures(), "sites": sites, **self.labels.tables()}
        return {**tables, **self.structures.further}

    def _structures(self) -> Table:
        """Return the structures with what became of each when it was labelled."""
        sites = self.structures.sites
        n = len(self.structures.table["x_nm"])
        owned = sites.structure >= 0

        def count(site: Any) -> Any:
            """Return how many of some sites each structure has."""
            return np.bincount(sites.structure[site[owned[site]]], minlength=n)

        def first_of_each_part(site: Any) -> Any:
            """Return one of some sites for each part of a structure that they lie on."""
            parts = int(sites.part.max(initial=0)) + 1
            code = sites.structure[site].astype(np.int64) * parts + sites.part[site]
            return site[np.unique(code, return_index=True)[1]]

        seen = self._fluorescing.site
        return {
            "structure": np.arange(n),
            **self.structures.table,
            "n_sites": count(np.arange(len(sites))),
            "n_labels": count(self.labels.site),
            "n_fluorescing_dyes": count(seen),
            "n_parts": count(first_of_each_part(np.arange(len(sites)))),
            "n_fluorescing_parts": count(first_of_each_part(seen)),
        }

    @property
    def notes(self) -> tuple[str, ...]:
        """Say how much there is, and whether some of it lies where nothing can."""
        sites, labels = self.structures.sites, self.labels
        told = (
            f"{len(sites):,} sites bound {len(labels.site):,} labels with {len(labels.dyes):,} "
            f"dyes, of which {len(self._fluorescing):,} can fluoresce."
        )
        below = int((sites.positions_nm[:, 2] < 0).sum())
        if not below:
            return (told,)
        return (told, f"{below:,} sites lie below the coverslip's surface (z < 0).")


class LabelledSample(Sample):
    """A sample whose sites are labelled."""

    labelling: Labelling = Labelling()
    """How its sites are labelled, and with what."""

    @field_validator("labelling", mode="before")
    @classmethod
    def _beside_the_usual(cls, value: Any) -> Any:
        """Keep what is usual for this kind where a recipe says nothing, also of the dye."""
        if not isinstance(value, Mapping):
            return value
        usual = cls.model_fields["labelling"].default
        told = {**dict(usual), **value}
        dye = told["dye"]
        if isinstance(dye, Mapping) and not {"preset", "states"} & dye.keys():
            told["dye"] = {"preset": usual.dye.preset, **dye}
        return told

    @abstractmethod
    def build(self, run: Run) -> Structures:
        """Draw the structures, with streams named for what they decide."""

    def make(self, run: Run) -> LabelledSpecimen:
        """Draw the structures, then their labels and dyes, each cause from its own stream."""
        return LabelledSpecimen(*self._labelled(self.build(run), run))

    def _labelled(self, structures: Structures, run: Run) -> tuple[Structures, Labels, Fluorophore]:
        labels = label(structures.sites, self.labelling, run, structures.outward)
        return structures, labels, self.labelling.dye


class FieldSample(LabelledSample):
    """A labelled sample that fills a square around the origin."""

    field_um: float = Field(default=10.0, gt=0, le=1000)
    """Edge of the square around the origin that is filled; beyond it there is nothing."""

    @property
    def field_nm(self) -> float:
        """Edge of the square."""
        return 1000.0 * self.field_um

    def inside(self, positions_nm: Floats) -> Any:
        """Say which places, shape (n, 2 or 3), lie in the square."""
        square = Window.centred(self.field_nm, self.field_nm)
        return square.holds(positions_nm[:, 0], positions_nm[:, 1])


def refuse_too_many(sites: float, knob: str) -> None:
    """Raise ValueError for more sites than fit in memory, naming the knob to lower."""
    if sites > MOST_SITES:
        raise ValueError(
            f"{knob}: there would be {sites:,.0f} sites, at most {MOST_SITES:,}; lower it, or "
            "field_um"
        )

"""Labelled atoms: dyes on the surface of what an electron microscope sees as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, field_validator

from nanophantom.samples._family import Sample
from nanophantom.samples.building.exposed_atoms import exposed
from nanophantom.samples.building.labelled import (
    FieldSample,
    LabelledSpecimen,
    Structures,
    refuse_too_many,
)
from nanophantom.samples.particle_pair import ParticlePair
from nanophantom.simcore.atoms import Atoms, Floats, Window
from nanophantom.simcore.emitters import HasDyes, Sites
from nanophantom.simcore.fields import Table
from nanophantom.simcore.history import Evolves
from nanophantom.simcore.light.fluorophores import Fluorophore
from nanophantom.simcore.light.labelling import Labels
from nanophantom.simcore.models import member
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import (
    FieldLayer,
    HasAtoms,
    HasFields,
    HasLattice,
    HasThickness,
    Specimen,
)

_BEYOND_NM = 1.0  # atoms that far outside the field still cover those inside


class AtomSites(FieldSample):
    """Another sample, made of atoms, with sites on atoms of its surface.

    One specimen for both kinds of microscope: electrons see its atoms, light its dyes. Both look
    the same way, so x, y and the sense of z agree; the entrance face lies at `height_nm` above the
    coverslip. An atom belongs to the surface if a molecule of water can touch it; sites go to the
    atoms that are drawn. The structures are the parts of the specimen (particle, support).
    """

    kind: Literal["atom-sites"] = "atom-sites"
    sample: member(Sample)  # type: ignore[valid-type]
    """What is labelled."""
    share: float = Field(default=0.1, ge=0, le=1, json_schema_extra={"dimensionless": True})
    """Probability that an atom of the surface holds a site."""
    sites_per_nm2: float | None = Field(default=None, ge=0, le=100)
    """Density of sites on the surface on which the middle of a water molecule moves; it replaces
    `share`."""
    parts: tuple[str, ...] = ()
    """Names of the parts whose atoms hold sites (particle, support); all if none is named."""
    field_um: float = Field(default=0.05, gt=0, le=10)
    """Edge of the square around the origin whose atoms are labelled."""
    height_nm: float = Field(default=0.0, ge=-1e6, le=1e6)
    """How high above the coverslip the entrance face lies."""

    @field_validator("sample")
    @classmethod
    def _not_labelled_yet(cls, value: Sample) -> Sample:
        if isinstance(value, AtomSites):
            raise ValueError("it is labelled already; label the sample within")
        return value

    @classmethod
    def small(cls) -> Self:
        """Return two small particles."""
        return cls(sample=ParticlePair.small(), share=0.5)

    def input_files(self) -> dict[str, Path]:
        """Return the files of the sample within."""
        return {f"sample.{knob}": file for knob, file in self.sample.input_files().items()}

    def make(self, run: Run) -> AtomSitesSpecimen:
        """Make the sample and label it."""
        within: Specimen = self.sample.make(run.at("sample", 0))
        if isinstance(within, HasDyes | Evolves):
            raise ValueError(f"sample: a sample of kind {self.sample.kind!r} can't be labelled")
        if not isinstance(within, HasAtoms):
            raise ValueError(f"sample: a sample of kind {self.sample.kind!r} has no atoms to label")
        square = Window.centred(self.field_nm, self.field_nm)
        structures = self._on(within.atoms_within(square.grown(_BEYOND_NM)), run)
        return AtomSitesSpecimen(within, *self._labelled(structures, run))

    def build(self, run: Run) -> Structures:
        """Draw from "sites" which atoms of the surface hold one."""
        return self.make(run).structures

    def _on(self, atoms: Atoms, run: Run) -> Structures:
        for name in self.parts:
            if name not in atoms.group_names:
                raise ValueError(
                    f"parts: there is no {name!r}, only {', '.join(atoms.group_names)}; name those"
                )
        named = [k for k, n in enumerate(atoms.group_names) if not self.parts or n in self.parts]
        wanted = self.inside(atoms.positions_nm) & np.isin(atoms.groups, named)
        area, outward = exposed(atoms, wanted)
        eligible = area > 0
        chance = np.full(len(atoms), self.share)
        if self.sites_per_nm2 is not None:
            chance = self.sites_per_nm2 * area
            if eligible.any() and chance[eligible].max() > 1:
                raise ValueError(
                    f"sites_per_nm2: {self.sites_per_nm2:g} is more than one site an atom; give "
                    f"{1 / area[eligible].max():.3g} at most"
                )
        holds = eligible & (run.rng("sites").random(len(atoms)) < chance)
        refuse_too_many(float(holds.sum()), "share")

        places = atoms.positions_nm + np.array([0.0, 0.0, self.height_nm])
        return Structures(
            sites=Sites(
                places[holds],
                atoms.groups[holds].astype(np.int32),
                np.zeros(int(holds.sum()), np.int32),
            ),
            table=_parts(atoms, places, eligible, area),
            site_columns={"number": atoms.numbers[holds]},
            outward=outward[holds],
        )


def _parts(atoms: Atoms, places_nm: Floats, eligible: Any, area_nm2: Floats) -> Table:
    """Return the parts of a specimen: where their atoms lie, and how many are at the surface."""
    n = len(atoms.group_names)
    count = np.maximum(np.bincount(atoms.groups, minlength=n), 1)
    x, y, z = (
        np.bincount(atoms.groups, weights=places_nm[:, axis], minlength=n) / count
        for axis in range(3)
    )
    centres = np.stack([x, y, z], axis=1)
    away = np.sqrt(((places_nm - centres[atoms.groups]) ** 2).sum(axis=1))
    reach = np.zeros(n)
    np.maximum.at(reach, atoms.groups, away)
    return {
        "name": np.array(atoms.group_names),
        "x_nm": x,
        "y_nm": y,
        "z_nm": z,
        "angle_deg": np.zeros(n),
        "size_nm": 2 * reach,
        "n_surface_atoms": np.bincount(atoms.groups[eligible], minlength=n),
        "surface_nm2": np.bincount(atoms.groups[eligible], weights=area_nm2[eligible], minlength=n),
    }


class AtomSitesSpecimen(LabelledSpecimen):
    """A specimen of atoms with dyes on it."""

    def __init__(
        self,
        within: Specimen,
        structures: Structures,
        labels: Labels,
        fluorophore: Fluorophore,
    ) -> None:
        super().__init__(structures, labels, fluorophore)
        self.within = within

    def atoms_within(self, window: Window) -> Atoms:
        """Return the atoms whose (x, y) lie in the window."""
        assert isinstance(self.within, HasAtoms)
        return self.within.atoms_within(window)

    def fields_within(self, window: Window, shape: tuple[int, int]) -> Sequence[FieldLayer]:
        """Return the fields of the specimen within, if it has any."""
        within = self.within
        return within.fields_within(window, shape) if isinstance(within, HasFields) else ()

    def periodic_column(self) -> tuple[Floats, Atoms] | None:
        """Return the cell of the specimen within, if it is periodic."""
        return self.within.periodic_column() if isinstance(self.within, HasLattice) else None

    @property
    def exit_nm(self) -> float:
        """The exit face of the specimen within."""
        if not isinstance(self.within, HasThickness):
            raise AttributeError("exit_nm")
        return self.within.exit_nm

    def truth(self) -> Mapping[str, Table]:
        """Return the truth of the specimen within, and of its labels."""
        return {**self.within.truth(), **super().truth()}

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about the specimen within and about its labels."""
        return (*self.within.notes, *super().notes)

    @property
    def known(self) -> Mapping[str, Any]:
        """What an operator knows of the specimen within."""
        return self.within.known

"""Samples one behind the other along the beam: a crystal on carbon, particles between ice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from nanophantom.samples._family import Sample
from nanophantom.samples.amorphous_film import AmorphousFilm
from nanophantom.samples.crystal import Crystal
from nanophantom.simcore.atoms import Atoms, Window
from nanophantom.simcore.fields import Table
from nanophantom.simcore.history import Evolves
from nanophantom.simcore.models import member
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import (
    FieldLayer,
    HasAtoms,
    HasFields,
    HasThickness,
    Specimen,
)

GAP_NM = 0.15
"""About a bond's length: no atom before an interface lies on top of one behind it."""

Gap = Annotated[float, Field(ge=0, le=10_000)]


class Stack(Sample):
    """Samples of any kind, one behind the other along the beam, each where it would be alone.

    The first one meets the beam first. Each begins at the exit face of the one before, after a
    gap. Parts of the specimen that are called alike in several layers are numbered.
    """

    kind: Literal["stack"] = "stack"
    layers: tuple[member(Sample), ...] = Field(min_length=1)  # type: ignore[valid-type]
    """Samples in the order in which the beam meets them."""
    gaps_nm: tuple[Gap, ...] = ()
    """Empty space between each layer and the next; 0.15 nm everywhere if nothing is given."""

    @model_validator(mode="after")
    def _a_gap_between_each_two(self) -> Self:
        if self.gaps_nm and len(self.gaps_nm) != len(self.layers) - 1:
            raise ValueError(
                f"gaps_nm: {len(self.layers)} layers have {len(self.layers) - 1} gaps between "
                f"them, not {len(self.gaps_nm)}"
            )
        return self

    @classmethod
    def small(cls) -> Self:
        """Return a thin crystal on a thin film of carbon."""
        return cls(layers=(Crystal.small(), AmorphousFilm.small()))

    def input_files(self) -> dict[str, Path]:
        """Return the files of all layers."""
        return {
            f"layers.{i}.{knob}": file
            for i, layer in enumerate(self.layers)
            for knob, file in layer.input_files().items()
        }

    def make(self, run: Run) -> StackSpecimen:
        """Make every layer, each with random streams of its own."""
        specimens = [layer.make(run.at("layer", i)) for i, layer in enumerate(self.layers)]
        gaps = self.gaps_nm or (GAP_NM,) * (len(specimens) - 1)
        return stacked(specimens, [layer.kind for layer in self.layers], gaps)


def stacked(
    specimens: Sequence[Specimen], kinds: Sequence[str], gaps_nm: Sequence[float]
) -> StackSpecimen:
    """Lay specimens one behind the other.

    Raises
    ------
    ValueError
        One of them doesn't know its thickness.
    """
    entrance = 0.0
    layers = []
    for index, (specimen, kind) in enumerate(zip(specimens, kinds, strict=True)):
        if isinstance(specimen, Evolves):
            raise ValueError(
                f"layers.{index}: an evolving sample can't be a layer; make the stack what "
                "evolves: kind evolving, of: {kind: stack, ...}"
            )
        if not isinstance(specimen, HasThickness):
            raise ValueError(
                f"layers.{index}: a sample of kind {kind!r} doesn't know its thickness (exit_nm) "
                "and can't be stacked"
            )
        layers.append(Layer(specimen, kind, entrance, specimen.exit_nm))
        entrance += specimen.exit_nm + (gaps_nm[index] if index < len(gaps_nm) else 0.0)
    return StackSpecimen(tuple(layers))


@dataclass(frozen=True, eq=False)
class Layer:
    """A specimen at its place along the beam."""

    specimen: Specimen
    kind: str
    entrance_nm: float
    thickness_nm: float


@dataclass(frozen=True, eq=False)
class StackSpecimen(Specimen):
    """Specimens one behind the other."""

    layers: tuple[Layer, ...]

    @property
    def exit_nm(self) -> float:
        """The exit face of the last layer."""
        return self.layers[-1].entrance_nm + self.layers[-1].thickness_nm

    def atoms_within(self, window: Window) -> Atoms:
        """Return the atoms of all layers whose (x, y) lie in the window."""
        parts = [
            layer.specimen.atoms_within(window)
            if isinstance(layer.specimen, HasAtoms)
            else Atoms.of([], np.empty((0, 3)), [], layer.kind)
            for layer in self.layers
        ]
        names = [name for part in parts for name in part.group_names]
        placed = [
            replace(
                part,
                positions_nm=part.positions_nm + np.array([0.0, 0.0, layer.entrance_nm]),
                group_names=tuple(
                    f"{name} {number}" if names.count(name) > 1 else name
                    for name in part.group_names
                ),
            )
            for number, (layer, part) in enumerate(zip(self.layers, parts, strict=True), start=1)
        ]
        return reduce(Atoms.__add__, placed)

    def fields_within(self, window: Window, shape: tuple[int, int]) -> Sequence[FieldLayer]:
        """Return the fields of all layers."""
        return tuple(
            replace(field, z_nm=field.z_nm + layer.entrance_nm)
            for layer in self.layers
            if isinstance(layer.specimen, HasFields)
            for field in layer.specimen.fields_within(window, shape)
        )

    def truth(self) -> Mapping[str, Table]:
        """Return where the layers lie, and the truth of each, its tables named by its number."""
        tables: dict[str, Table] = {
            "layers": {
                "layer": np.arange(1, len(self.layers) + 1),
                "kind": np.array([layer.kind for layer in self.layers]),
                "entrance_nm": np.array([layer.entrance_nm for layer in self.layers]),
                "thickness_nm": np.array([layer.thickness_nm for layer in self.layers]),
            }
        }
        for number, layer in enumerate(self.layers, start=1):
            for name, table in layer.specimen.truth().items():
                tables[f"layer_{number}_{name}"] = table
        return tables

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences of all layers."""
        return tuple(
            f"Layer {number} ({layer.kind}): {note}"
            for number, layer in enumerate(self.layers, start=1)
            for note in layer.specimen.notes
        )

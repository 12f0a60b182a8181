"""DNA origami: rulers and grids of docking sites at known distances."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from pydantic import Field

from nanophantom.samples.building.labelled import FieldSample, Structures, refuse_too_many
from nanophantom.samples.building.scattered import Arrangement, arranged, turned
from nanophantom.simcore.emitters import Sites
from nanophantom.simcore.light.fluorophores import Fluorophore
from nanophantom.simcore.light.labelling import GaussianLinker, Labelling
from nanophantom.simcore.runs import Run


class Origami(FieldSample):
    """DNA origami that lie flat on the coverslip, with marks in rows and columns.

    One row of marks makes a ruler. Not every staple that carries a mark is built in. The part of a
    site is the number of its mark in the design, row by row.
    """

    kind: Literal["origami"] = "origami"
    number: int = Field(default=300, ge=1, le=1_000_000)
    """How many there are in the field."""
    rows: int = Field(default=3, ge=1, le=200)
    """Rows of marks; 1 for a ruler."""
    columns: int = Field(default=4, ge=1, le=200)
    """Marks in a row."""
    spacing_nm: float = Field(default=20.0, gt=0, le=10_000)
    """Distance of neighbouring marks."""
    incorporation: float = Field(
        default=0.85, ge=0, le=1, json_schema_extra={"dimensionless": True}
    )
    """Probability that the staple of a mark is there."""
    arrangement: Arrangement = "random"
    """At random places without overlap, on a square grid, or on a line along x."""
    pitch_nm: float | None = Field(default=None, gt=0, le=1e6)
    """Distance of neighbouring origami on grid and line; by default they fill the field."""
    gap_nm: float = Field(default=40.0, ge=0, le=1e5)
    """Least distance between two, beyond the circle around their marks."""
    rotation_deg: float | None = Field(default=None, ge=-360, le=360)
    """In-plane rotation of all; by default each has a random one."""
    height_nm: float = Field(default=5.0, ge=-1e6, le=1e6)
    """How high above the coverslip the marks lie."""
    labelling: Labelling = Labelling(
        efficiency=1.0, linker=GaussianLinker(sd_nm=1.0), dye=Fluorophore(preset="dna-paint")
    )
    """How its sites are labelled, and with what: imagers that come and go."""

    @classmethod
    def small(cls) -> Self:
        """Return a dozen grids."""
        return cls(number=12, field_um=1.0)

    def build(self, run: Run) -> Structures:
        """Draw "places", "rotations", and from "staples" which marks are there."""
        n, marks = self.number, self.rows * self.columns
        refuse_too_many(float(n * marks), "number")
        k = np.arange(marks)
        mark = np.zeros((marks, 3))
        mark[:, 0] = (k % self.columns - (self.columns - 1) / 2) * self.spacing_nm
        mark[:, 1] = (k // self.columns - (self.rows - 1) / 2) * self.spacing_nm
        size = 2 * float(np.hypot(mark[:, 0], mark[:, 1]).max())
        least = size + self.gap_nm
        centres = arranged(
            self.arrangement, n, self.field_nm, self.pitch_nm, least, run.rng("places")
        )
        if self.rotation_deg is None:
            angle = 360 * run.rng("rotations").random(n)
        else:
            angle = np.full(n, self.rotation_deg)
        middles = np.column_stack([centres, np.full(n, self.height_nm)])
        flat = np.zeros(n)
        places = mark @ turned(angle, flat, flat).transpose(0, 2, 1) + middles[:, None]
        there = run.rng("staples").random((n, marks)) < self.incorporation
        which, part = np.nonzero(there)
        return Structures(
            sites=Sites(places[there], which.astype(np.int32), part.astype(np.int32)),
            table={
                "x_nm": middles[:, 0],
                "y_nm": middles[:, 1],
                "z_nm": middles[:, 2],
                "angle_deg": angle % 360,
                "size_nm": np.full(n, size),
                "n_marks": np.full(n, marks),
                "spacing_nm": np.full(n, self.spacing_nm),
            },
        )

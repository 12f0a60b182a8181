"""A finite structure from a file: a cluster, a molecule or a slab, as it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, field_validator

from nanophantom.samples._family import Sample
from nanophantom.samples.building.read import Structure, read_structure
from nanophantom.samples.building.thermal import (
    Factors,
    b_factors,
    displacement_tensors,
    read_factors,
)
from nanophantom.samples.building.trajectory import read_trajectory
from nanophantom.simcore.atoms import Atoms, Floats
from nanophantom.simcore.fields import Table, read_only
from nanophantom.simcore.models import Model
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import FiniteAtoms

BUNDLED = Path(__file__).parent / "data"
"""Folder of the structure files that come with the package."""

Count = Annotated[int, Field(ge=1, le=100)]
Supercell = tuple[Count, Count, Count]
Occupancies = Annotated[Mapping[str, float], Field(json_schema_extra={"dimensionless": True})]


class FromFile(Sample):
    """What every sample that starts from a structure file asks for."""

    file: str
    """Structure file: a path, or the name of a bundled one (srtio3.cif, uio66.cif, ...)."""
    block: str | None = None
    """Which structure of a CIF that holds several."""
    frame: int | None = Field(default=None, ge=0)
    """Which frame of a file that holds several, from 0."""
    occupancy: Literal["refuse", "draw"] = "refuse"
    """Partly occupied sites: refused, or drawn by seed (close ones exclude each other)."""
    occupancies: Occupancies = Field(default_factory=dict)
    """Occupancies by site label that replace those of the file."""
    supercell: Supercell = (1, 1, 1)
    """How often the cell is repeated along a, b, c before occupancies are drawn."""
    b_factors_A2: Factors = Field(default_factory=dict)
    """Debye-Waller factors B = 8 pi^2 <u^2> by element; they replace all other sources."""
    temperature_k: float = Field(default=293.0, ge=0, le=3000)
    """Temperature of the Debye model, which gives B factors for structures of one element."""

    @field_validator("b_factors_A2", mode="before")
    @classmethod
    def _read_factors(cls, value: Any) -> Any:
        return read_factors(value)

    def structure_path(self) -> Path:
        """Return the file: as named from the current directory, else the bundled one.

        Raises
        ------
        ValueError
            There is neither.
        """
        for path in (Path(self.file).expanduser(), BUNDLED / self.file):
            if path.is_file():
                return path
        bundled = ", ".join(sorted(path.name for path in BUNDLED.glob("*.cif")))
        raise ValueError(f"file: there is no {self.file!r}; give a path, or one of {bundled}")

    def input_files(self) -> dict[str, Path]:
        """Return the structure file."""
        return {"file": self.structure_path()}

    def read_file(self, run: Run) -> Structure:
        """Read the file; occupancies are drawn from the run's stream "occupancy"."""
        return read_structure(
            self.structure_path(),
            block=self.block,
            frame=self.frame,
            occupancy=self.occupancy,
            occupancies=self.occupancies,
            supercell=self.supercell,
            rng=run.rng("occupancy"),
            b_factors_A2=self.b_factors_A2,
        )


class Trajectory(Model):
    """Snapshots of moving atoms, as molecular dynamics writes them."""

    file: str
    """File of several frames that ASE reads (extxyz, traj, XDATCAR), the structure's atoms each."""
    first: int = Field(default=0, ge=0)
    """First frame that is taken, from 0; those before it are left to equilibration."""
    every: int = Field(default=1, ge=1)
    """Step from one frame taken to the next."""


class StructureSample(FromFile):
    """A finite structure file as it stands (cluster, molecule, slab), centred in the view.

    A file with a cell isn't repeated unless ``supercell`` says so. The atoms are turned over
    first, then rotated about x, y and z in this order, and moved so that the middle of their
    bounding box lies at the origin of the view and their first layer at z = 0.

    With a trajectory the atoms rest at their mean places in it, each has the B factor of its own
    mean square displacement, and every thermal configuration is one of its frames.
    """

    kind: Literal["structure"] = "structure"
    trajectory: Trajectory | None = None
    """Correlated motion of the atoms; without it each moves on its own, by its B factor."""
    flip: bool = False
    """Turn the structure over: half a turn about x."""
    rotate_x_deg: float = Field(default=0.0, ge=-360, le=360)
    """Right-handed rotation about x (to the right)."""
    rotate_y_deg: float = Field(default=0.0, ge=-360, le=360)
    """Right-handed rotation about y (down)."""
    rotate_z_deg: float = Field(default=0.0, ge=-360, le=360)
    """Right-handed rotation about z (the beam), after the other two."""

    @classmethod
    def small(cls) -> Self:
        """Return a block of gold two cells wide."""
        return cls(file="gold.cif", supercell=(2, 2, 2))

    def make(self, run: Run) -> StructureSpecimen:
        """Read the file and place it in the view."""
        structure = self.read_file(run)
        if self.trajectory is None:
            factors, told = b_factors(
                structure.numbers, structure.b_factors_A2, self.b_factors_A2, self.temperature_k
            )
            tensors, motion = displacement_tensors(
                structure.numbers, structure.u_aniso_A2, factors, self.b_factors_A2
            )
            at_rest = replace(
                Atoms.of(structure.numbers, structure.positions_nm, factors), u_aniso_A2=tensors
            )
            remarks = (*structure.notes, told, *motion)
        else:
            at_rest, told = self._moving(structure, self.trajectory)
            remarks = (*structure.notes, told)
        rotation = self.rotation()
        atoms = at_rest.rotated(rotation)
        low, high = atoms.positions_nm.min(axis=0), atoms.positions_nm.max(axis=0)
        origin = np.array([*(low + high)[:2] / 2, low[2]])
        return StructureSpecimen(
            atoms=atoms.moved(atoms.positions_nm - origin),
            rotation=read_only(rotation),
            drawn=structure.drawn,
            remarks=remarks,
        )

    def input_files(self) -> dict[str, Path]:
        """Return the structure file, and that of the trajectory."""
        files = super().input_files()
        if self.trajectory is not None:
            files["trajectory.file"] = Path(self.trajectory.file).expanduser()
        return files

    def _moving(self, structure: Structure, trajectory: Trajectory) -> tuple[Atoms, str]:
        """Return the atoms with their snapshots, and a sentence about these."""
        if self.b_factors_A2:
            raise ValueError("b_factors_A2: the trajectory moves the atoms; leave b_factors_A2 out")
        path = Path(trajectory.file).expanduser()
        positions, snapshots, copies = read_trajectory(
            path, structure, trajectory.first, trajectory.every
        )
        mean_square_A2 = 100.0 * (snapshots**2).mean(axis=(0, 2))
        atoms = replace(
            Atoms.of(structure.numbers, positions, 8 * np.pi**2 * mean_square_A2),
            snapshots_nm=snapshots,
        )
        alike = f"; all {copies} copies of the cell move alike" if copies > 1 else ""
        return atoms, (
            f"Atoms rest at their means over {len(snapshots)} frames of {path.name}, which also "
            f"give their B factors, {atoms.b_factors_A2.mean():.2f} Å² on average{alike}."
        )

    def rotation(self) -> Floats:
        """Return the rotation matrix from the file's frame to the specimen's, shape (3, 3)."""
        turn = np.diag([1.0, -1.0, -1.0]) if self.flip else np.eye(3)
        angles = (self.rotate_x_deg, self.rotate_y_deg, self.rotate_z_deg)
        for axis, angle in enumerate(np.deg2rad(angles)):
            i, j = (axis + 1) % 3, (axis + 2) % 3  # the plane that turns, right-handed
            step = np.eye(3)
            step[i, i] = step[j, j] = np.cos(angle)
            step[i, j], step[j, i] = -np.sin(angle), np.sin(angle)
            turn = step @ turn
        return turn


class StructureSpecimen(FiniteAtoms):
    """Atoms of a finite structure, and how they were read and turned."""

    def __init__(
        self, atoms: Atoms, rotation: Floats, drawn: Table, remarks: tuple[str, ...]
    ) -> None:
        super().__init__(atoms, remarks)
        self.rotation = rotation
        self.drawn = drawn

    def truth(self) -> Mapping[str, Table]:
        """Return the rotation (rows x, y, z of the matrix) and the occupancies drawn."""
        return {"orientation": rotation_table(self.rotation), "occupancy_draws": self.drawn}


def rotation_table(rotation: Floats) -> Table:
    """Return a rotation matrix as a table: one row for each axis of the specimen."""
    columns = {f"crystal_{name}": rotation[:, k] for k, name in enumerate("xyz")}
    return {"axis": np.array(["x", "y", "z"]), **columns}

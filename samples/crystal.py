"""A crystal along a zone axis: a foil that extends without end across the beam."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nanophantom.samples.building.orient import across_the_beam, centrings, fill, orientation
from nanophantom.samples.building.thermal import b_factors, displacement_tensors
from nanophantom.samples.structure import FromFile, rotation_table
from nanophantom.simcore.atoms import Atoms, Floats, Window
from nanophantom.simcore.fields import Table, read_only
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import Specimen, known_crystal

Tilt = Annotated[float, Field(ge=-200, le=200)]
Direction = tuple[int, int, int]


class Crystal(FromFile):
    """A crystalline foil of even thickness, its zone axis along the beam.

    The crystal's origin lies at the origin of the view, on the entrance face. The faces of the
    foil are at right angles to the beam, also when the lattice is tilted. Strain is homogeneous,
    across the beam and about the origin: (x, y) -> (1 + strain) (x, y).
    """

    kind: Literal["crystal"] = "crystal"
    zone_axis: Direction = (0, 0, 1)
    """Indices [uvw] of the lattice direction that points along the beam."""
    x_axis: Direction | None = None
    """Indices [uvw] of the direction along +x; by default the shortest one across the beam."""
    thickness_nm: float = Field(default=5.0, gt=0, le=1000)
    """Thickness along the beam."""
    tilt_mrad: tuple[Tilt, Tilt] = (0.0, 0.0)
    """Tilt of the lattice away from the zone axis: right-handed, about x, then about y."""
    strain_xx_percent: float = Field(default=0.0, ge=-10, le=10)
    """Strain along x."""
    strain_yy_percent: float = Field(default=0.0, ge=-10, le=10)
    """Strain along y."""
    strain_xy_percent: float = Field(default=0.0, ge=-10, le=10)
    """Shear strain (tensor component, half the engineering shear)."""

    @classmethod
    def small(cls) -> Self:
        """Return strontium titanate one nanometre thick."""
        return cls(file="srtio3.cif", thickness_nm=1.0)

    def make(self, run: Run) -> CrystalSpecimen:
        """Read the file, draw its occupancies, turn and strain the lattice."""
        structure = self.read_file(run)
        if structure.cell_nm is None:
            raise ValueError(f"file: {self.file} has no cell; use the kind 'structure' for it")
        notes = structure.notes
        if structure.drawn["label"].size:
            block = "cell" if structure.supercell == (1, 1, 1) else "such block"
            notes += (f"Every {block} repeats this draw; supercell makes a larger block.",)
        factors, told = b_factors(
            structure.numbers, structure.b_factors_A2, self.b_factors_A2, self.temperature_k
        )
        tensors, motion = displacement_tensors(
            structure.numbers, structure.u_aniso_A2, factors, self.b_factors_A2
        )
        rotation = orientation(structure.cell_nm, self.zone_axis, self.x_axis, self.tilt_mrad)
        strain = strain_tensor(
            self.strain_xx_percent, self.strain_yy_percent, self.strain_xy_percent
        )
        return CrystalSpecimen(
            sites=replace(
                Atoms.of(structure.numbers, structure.positions_nm, factors, "crystal"),
                u_aniso_A2=tensors,
            ),
            cell_nm=read_only(structure.cell_nm),
            supercell_nm=read_only(structure.supercell_nm),
            rotation=read_only(rotation),
            alignment=read_only(orientation(structure.cell_nm, self.zone_axis, self.x_axis)),
            strain=read_only(strain),
            thickness_nm=self.thickness_nm,
            drawn=structure.drawn,
            remarks=(*notes, told, *motion),
        )


def strain_tensor(xx_percent: float, yy_percent: float, xy_percent: float) -> Floats:
    """Return the strain tensor across the beam, shape (3, 3), from its components in percent."""
    tensor = np.zeros((3, 3))
    tensor[:2, :2] = [[xx_percent, xy_percent], [xy_percent, yy_percent]]
    return tensor / 100


@dataclass(frozen=True, eq=False)
class CrystalSpecimen(Specimen):
    """A foil of a crystal.

    Attributes
    ----------
    sites
        Atoms of the supercell, in the file's Cartesian frame.
    cell_nm, supercell_nm
        Vectors of the file's cell and of the supercell as rows, in the same frame.
    rotation, strain
        From the file's frame to the specimen's, and the strain that follows it, shape (3, 3).
    alignment
        The rotation without tilt: how the operator means the crystal to lie.
    """

    sites: Atoms
    cell_nm: Floats
    supercell_nm: Floats
    rotation: Floats
    alignment: Floats
    strain: Floats
    thickness_nm: float
    drawn: Table
    remarks: tuple[str, ...]

    @property
    def deformation(self) -> Floats:
        """Matrix from the file's frame to the strained crystal in the specimen, shape (3, 3)."""
        return np.asarray((np.eye(3) + self.strain) @ self.rotation)

    def atoms_within(self, window: Window) -> Atoms:
        """Return the atoms whose (x, y) lie in the window, z from 0 at the entrance face."""
        position, site = fill(
            self.supercell_nm,
            self.sites.positions_nm,
            self.deformation,
            (window.x0_nm, window.y0_nm, 0.0),
            (window.x1_nm, window.y1_nm, self.thickness_nm),
        )
        return self.sites.rotated(self.rotation).select(site).moved(position)

    @property
    def exit_nm(self) -> float:
        """The exit face."""
        return self.thickness_nm

    def periodic_column(self) -> tuple[Floats, Atoms] | None:
        """Return the shortest periods across the beam and the atoms of one such cell.

        Centrings of the lattice count among its vectors. None if no two short lattice vectors
        (indices up to 8) lie across the beam, as in a tilted lattice or along a direction of high
        indices.
        """
        sites = self.sites
        alike = np.column_stack(
            [sites.numbers, sites.b_factors_A2, sites.tensors_A2.reshape(-1, 9)]
        )
        within = centrings(self.supercell_nm, sites.positions_nm, alike)
        cell = across_the_beam(self.supercell_nm @ self.deformation.T, within @ self.deformation.T)
        if cell is None:
            return None
        corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) @ cell
        (x0, y0), (x1, y1) = corners.min(axis=0) - 0.01, corners.max(axis=0) + 0.01
        atoms = self.atoms_within(Window(x0, x1, y0, y1))
        share = atoms.positions_nm[:, :2] @ np.linalg.inv(cell)
        edge = 1e-8 / np.sqrt(abs(np.linalg.det(cell)))  # positions are rounded to 1e-9 nm
        return cell, atoms.select(((share >= -edge) & (share < 1 - edge)).all(axis=1))

    def truth(self) -> Mapping[str, Table]:
        """Return cell and rotation as they lie in the specimen, strain and occupancies drawn."""
        x, y, z = (self.cell_nm @ self.deformation.T).T
        axis: npt.NDArray[np.str_] = np.array(["a", "b", "c"])
        return {
            "cell": {"axis": axis, "x_nm": x, "y_nm": y, "z_nm": z},
            "orientation": rotation_table(self.rotation),
            "strain": strain_table(self.strain),
            "occupancy_draws": self.drawn,
        }

    @property
    def known(self) -> Mapping[str, Any]:
        """The crystal, unless its occupancies were drawn: thickness, tilt and strain are truth."""
        if self.drawn["label"].size:
            return {}
        lying = self.sites.moved(self.sites.positions_nm @ self.alignment.T)
        return known_crystal(self.supercell_nm @ self.alignment.T, lying)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about occupancies and B factors."""
        return self.remarks


def strain_table(strain: Floats) -> Table:
    """Return the components of a strain tensor across the beam as a table of one row."""
    return {
        "strain_xx_percent": 100 * strain[:1, 0],
        "strain_yy_percent": 100 * strain[1:2, 1],
        "strain_xy_percent": 100 * strain[:1, 1],
    }

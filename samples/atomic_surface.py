"""Surfaces of atoms as a probe feels them: the envelope of their van der Waals spheres."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import ase
import ase.build
import numpy as np
import numpy.typing as npt
from ase.data import chemical_symbols
from ase.data.vdw_alvarez import vdw_radii
from pydantic import Field, model_validator

from nanophantom.samples.building.atom_envelope import Envelope
from nanophantom.samples.building.metals import METALS
from nanophantom.samples.building.orient import fill
from nanophantom.samples.building.thermal import b_factors
from nanophantom.samples.structure import FromFile
from nanophantom.simcore.atoms import Atoms, Floats, Ints, Window
from nanophantom.simcore.fields import Table
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import Specimen, sample_points
from nanophantom.simcore.surfaces import Material, Surface

Index = Annotated[int, Field(ge=-9, le=9)]
Facet = tuple[Index, Index, Index]
Radius = Annotated[float, Field(gt=0, le=1)]
MOST_LISTED = 1_000_000
"""A truth that lists more atoms is refused."""
_PLANE_A = 1e-3  # atoms of one plane are this close along its normal
_SHOWS_NM = 0.01  # distance of the samples by which atoms that show are found
_MOST_SAMPLES = 4000  # of these, along an edge


class AtomicSurface(FromFile):
    """The envelope of the van der Waals spheres of atoms at rest, on a floor.

    The surface is z = max_i (z_i + sqrt(r_i^2 - rho_i^2)) over the atoms that are no further than
    their radius from a place, seen from above; elsewhere it is the floor, z = 0, on which the
    lowest sphere rests. Radii: S. Alvarez, Dalton Trans. 42 (2013) 8617.

    The structure is a file's, whose x points to the right, y up and z towards the viewer, or it is
    a face of a chemical element. With a cell it is repeated without end along the cell's first two
    vectors, which have to lie across z; faces (hkl) may be cut out of crystals, their atoms stay
    where they are in the bulk. Without a cell it is a molecule or a cluster in the middle of the
    view, which is turned about x, y and z in this order.
    """

    kind: Literal["atomic-surface"] = "atomic-surface"
    file: str = ""
    """Structure file: a path, or the name of a bundled one; without one, a face of `element`."""
    element: str | None = None
    """Chemical symbol of the element whose crystal is cut if there is no file, Au unless told."""
    facet: Facet | None = None
    """Miller indices (hkl) of the face to be cut, of an element (111) unless told. The cut goes
    through the widest gap between planes of atoms."""
    layers: int | None = Field(default=None, ge=1, le=50)
    """How many repeats of the crystal lie below a face that is cut, at least; 2 unless told."""
    rotate_x_deg: float = Field(default=0.0, ge=-360, le=360)
    """Right-handed rotation of a molecule about the file's x."""
    rotate_y_deg: float = Field(default=0.0, ge=-360, le=360)
    """Right-handed rotation of a molecule about the file's y."""
    rotate_z_deg: float = Field(default=0.0, ge=-360, le=360)
    """Right-handed rotation about z, after the other two: anticlockwise for the viewer."""
    radii_nm: Mapping[str, Radius] = Field(default_factory=dict)
    """Van der Waals radii by element that replace those of the table."""
    listed_nm: float = Field(default=20.0, gt=0, le=1000)
    """Edge of the square about the origin in which the truth lists atoms of an endless surface."""
    material: Material = Material(name="gold", modulus_gpa=78.0, poisson_ratio=0.44)
    """What the atoms feel like; gold fits the default element."""
    floor: Material = Material()
    """What a molecule lies on, and what shows through holes."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if not self.file:
            idle = ("block", "frame", "occupancy", "occupancies", "supercell")
            for name in idle:
                if getattr(self, name) != type(self).model_fields[name].get_default(
                    call_default_factory=True
                ):
                    raise ValueError(f"{name}: there is no file; name one, or leave {name} out")
        elif self.element is not None:
            raise ValueError("element: the atoms are those of file; leave one of both out")
        elif self.layers is not None and self.facet is None:
            raise ValueError("layers: without a facet the structure stays as it is; leave it out")
        if self.facet is not None and not any(self.facet):
            raise ValueError("facet: (0, 0, 0) is no face; give Miller indices (hkl)")
        return self

    @classmethod
    def small(cls) -> Self:
        """Return gold (111), of which few atoms are listed."""
        return cls(layers=1, listed_nm=2.0)

    def input_files(self) -> dict[str, Path]:
        """Return the structure file, if there is one."""
        return super().input_files() if self.file else {}

    def make(self, run: Run) -> AtomicSurfaceSpecimen:
        """Read the file or build the crystal, cut and turn it."""
        atoms, stated_A2, notes = self._structure(run)
        endless = atoms.cell.rank > 0
        if endless and (self.rotate_x_deg or self.rotate_y_deg):
            raise ValueError(
                "rotate_x_deg, rotate_y_deg: a surface without end can't be turned out of its "
                "plane; cut another facet"
            )
        for axis, angle in zip("xyz", self._angles_deg, strict=True):
            atoms.rotate(angle, axis, rotate_cell=True)
        factors, told = b_factors(
            atoms.numbers.astype(np.int64), stated_A2, self.b_factors_A2, self.temperature_k
        )
        return AtomicSurfaceSpecimen.of(
            self, atoms, self._radii(atoms.numbers.astype(np.int64)), factors, (*notes, told)
        )

    @property
    def _angles_deg(self) -> tuple[float, float, float]:
        return self.rotate_x_deg, self.rotate_y_deg, self.rotate_z_deg

    def _structure(self, run: Run) -> tuple[Any, Floats, tuple[str, ...]]:
        """Return the atoms (ASE's, Å), the B factors that the file states, and sentences."""
        if not self.file:
            element = "Au" if self.element is None else self.element
            facet = (1, 1, 1) if self.facet is None else self.facet
            slab = cut(crystal_of(element), facet, self.layers or 2)
            return slab, np.full(len(slab), np.nan), ()
        read = self.read_file(run)
        cell = None if read.cell_nm is None else 10 * read.supercell_nm
        atoms: Any = ase.Atoms(
            read.numbers, 10 * read.positions_nm, cell=cell, pbc=cell is not None
        )
        stated = read.b_factors_A2
        if self.facet is not None:
            if cell is None:
                raise ValueError(f"facet: {self.file} has no cell, and no faces; leave facet out")
            atoms.set_array("site", np.arange(len(atoms)))
            atoms = cut(atoms, self.facet, self.layers or 2)
            stated = stated[atoms.get_array("site")]
        elif cell is not None and np.abs(cell[:2, 2]).max() > 1e-6 * np.abs(cell).max():
            raise ValueError(
                f"file: the first two vectors of the cell of {self.file} aren't at right angles "
                "to z, so it is no surface; name a facet to be cut"
            )
        return atoms, stated, read.notes

    def _radii(self, numbers: Ints) -> Floats:
        """Return the van der Waals radius of every atom in nm."""
        radii = vdw_radii / 10
        present = [chemical_symbols[z] for z in np.unique(numbers)]
        for symbol, radius in self.radii_nm.items():
            if symbol not in present:
                raise ValueError(
                    f"radii_nm: there is no {symbol!r} here; it is made of {', '.join(present)}"
                )
            radii[chemical_symbols.index(symbol)] = radius
        for symbol in present:
            if not np.isfinite(radii[chemical_symbols.index(symbol)]):
                raise ValueError(f"radii_nm: no radius of {symbol} is known; give one")
        return np.asarray(radii[numbers], np.float64)


@dataclass(frozen=True, eq=False)
class AtomicSurfaceSpecimen(Specimen):
    """Atoms at rest, and the envelope of their spheres.

    Attributes
    ----------
    numbers, positions_nm, radii_nm, b_factors_A2
        Atoms of the cell, or all; positions (x, y, height), shape (n, 3), x to the right, y down.
    lattice_nm
        Vectors (x, y) along which they are repeated, as rows, shape (2, 2); None if they aren't.
    """

    recipe: AtomicSurface
    numbers: Ints
    positions_nm: Floats
    radii_nm: Floats
    b_factors_A2: Floats
    lattice_nm: Floats | None
    envelope: Envelope
    remarks: tuple[str, ...]

    @classmethod
    def of(
        cls,
        recipe: AtomicSurface,
        atoms: Any,
        radii_nm: Floats,
        factors_A2: Floats,
        remarks: tuple[str, ...],
    ) -> AtomicSurfaceSpecimen:
        """Place atoms (ASE's, y up and z towards the viewer) on the floor."""
        x, y, z = atoms.positions.T / 10
        lattice = None
        if atoms.cell.rank > 0:
            lattice = np.array(atoms.cell)[:2, :2] / 10 * [1, -1] + 0.0  # no -0.0
            area = abs(np.linalg.det(lattice))
            if len(atoms) * recipe.listed_nm**2 / area > MOST_LISTED:
                raise ValueError(
                    f"listed_nm: a square of {recipe.listed_nm:g} nm holds more than "
                    f"{MOST_LISTED:,} atoms; list fewer"
                )
        else:
            x, y = (v - (v.min() + v.max()) / 2 for v in (x, y))
        positions = np.stack([x, -y, z - (z - radii_nm).min()], axis=1)
        return cls(
            recipe,
            atoms.numbers.astype(np.int64),
            positions,
            radii_nm,
            factors_A2,
            lattice,
            Envelope.of(positions, radii_nm, lattice),
            remarks,
        )

    def surface_within(self, window: Window, shape: tuple[int, int]) -> Surface:
        """Return the surface sampled over a window, shape (ny, nx)."""
        x, y = sample_points(window, shape)
        heights, atom = self.envelope.heights(x[None, :], y[:, None])
        materials = (self.recipe.floor, self.recipe.material)
        return Surface(window, heights, (atom >= 0).astype(np.uint8), materials)

    def atoms_within(self, window: Window) -> Atoms:
        """Return the atoms whose (x, y) lie in the window; z is the depth below the highest."""
        places, site = self._listed(window)
        places = places * [1, 1, -1] + [0, 0, self.positions_nm[:, 2].max()]
        return Atoms.of(self.numbers[site], places, self.b_factors_A2[site], "surface")

    @property
    def exit_nm(self) -> float:
        """Depth of the lowest atom below the highest."""
        return float(np.ptp(self.positions_nm[:, 2]))

    def _listed(self, window: Window) -> tuple[Floats, Ints]:
        """Return the places (x, y, height) of the atoms in a window, and which those are."""
        if self.lattice_nm is None:
            inside = np.flatnonzero(window.holds(*self.positions_nm.T[:2]))
            return self.positions_nm[inside], inside
        top = float(self.positions_nm[:, 2].max()) + 1.0
        cell = np.zeros((3, 3))
        cell[:2, :2], cell[2, 2] = self.lattice_nm, top  # once along the normal
        return fill(
            cell,
            self.positions_nm,
            np.eye(3),
            (window.x0_nm, window.y0_nm, 0.0),
            (window.x1_nm, window.y1_nm, top),
            depth="layers",
        )

    def truth(self) -> Mapping[str, Table]:
        """Return the atoms that show, in the listed square if the surface has no end."""
        window = Window.everywhere()
        if self.lattice_nm is not None:
            window = Window.centred(self.recipe.listed_nm, self.recipe.listed_nm)
        places, site = self._listed(window)
        shows = self.envelope.showing(_SHOWS_NM, _MOST_SAMPLES)[site]
        (x, y, z), site = places[shows].T, site[shows]
        lattice = np.zeros((0, 2)) if self.lattice_nm is None else self.lattice_nm
        return {
            "atoms": {
                "number": self.numbers[site],
                "x_nm": x,
                "y_nm": y,
                "z_nm": z,
                "radius_nm": self.radii_nm[site],
                "z_top_nm": z + self.radii_nm[site],
            },
            "surface_cell": {"x_nm": lattice[:, 0], "y_nm": lattice[:, 1]},
        }

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about occupancies and B factors."""
        return self.remarks


def crystal_of(element: str) -> Any:
    """Return the cell of an element's crystal (ASE's, Å), cubic where there is a cubic one.

    Lattice constants of the metals that other samples are made of, ASE's of all others.

    Raises
    ------
    ValueError
        It is no element, or its crystal isn't known to ASE.
    """
    if element not in chemical_symbols[1:]:
        raise ValueError(f"element: {element!r} is no element; give a symbol, as Au or Si")
    lattice_A = 10 * METALS[element].lattice_nm if element in METALS else None
    for cubic in (True, False):
        try:
            return ase.build.bulk(element, a=lattice_A, cubic=cubic)
        except (ValueError, RuntimeError):  # not cubic, or not known
            continue
    raise ValueError(f"element: no crystal of {element} is known; give a file")


def cut(crystal: Any, facet: Facet, layers: int) -> Any:
    """Cut a face (hkl) of a crystal so that its normal points along z (ASE's Atoms, Å).

    The face lies in the widest of the gaps between planes of atoms, where the bonds are fewest:
    that of silicon (111) goes through one bond an atom, not through three.

    Parameters
    ----------
    crystal
        With a cell.
    facet
        Miller indices.
    layers
        Least number of repeats of the crystal below the face.
    """
    slab: Any = ase.build.surface(  # type: ignore[no-untyped-call]
        crystal, facet, layers + 1
    )
    area = float(np.linalg.norm(np.cross(slab.cell[0], slab.cell[1])))
    repeat = crystal.get_volume() / len(crystal) * len(slab) / (layers + 1) / area
    planes = np.sort(slab.positions[:, 2])
    planes = planes[np.append(True, np.diff(planes) > _PLANE_A)]
    # the planes of one repeat that might come off, each with all above it
    candidates = np.flatnonzero(planes > planes[-1] - repeat + _PLANE_A)
    gaps = np.round(planes[candidates] - planes[candidates - 1], 3)
    lowest_removed = planes[candidates[np.argmax(gaps)]]  # of equal gaps the lowest
    kept: npt.NDArray[np.bool_] = slab.positions[:, 2] < lowest_removed - _PLANE_A / 2
    return slab[kept]

"""A specimen in its cell, sliced: one stack of slices for each thermal configuration."""

from __future__ import annotations

import functools
import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from ase.data import atomic_numbers

from nanophantom.simcore.atoms import Atoms, Window
from nanophantom.simcore.electrons.cell import Cell, depth_nm
from nanophantom.simcore.electrons.constants import interaction_constant
from nanophantom.simcore.electrons.debye_waller import thermal_positions
from nanophantom.simcore.electrons.finite_projection import FiniteProjection
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.ions import ionic_charges
from nanophantom.simcore.electrons.multislice import Step
from nanophantom.simcore.electrons.potential import PotentialBuilder
from nanophantom.simcore.electrons.settings import Multislice
from nanophantom.simcore.electrons.slicing import SLICE_THICKNESS_A, Slice, slice_atoms
from nanophantom.simcore.history import Evolves
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import FieldLayer, HasAtoms, HasFields, Specimen

Floats = npt.NDArray[np.float64]
Images = npt.NDArray[Any]
Transmit = Callable[[Images], Images]


@dataclass(frozen=True, eq=False)
class Configurations:
    """The frozen configurations of a specimen, as multislice wants them.

    Attributes
    ----------
    atoms
        At rest, after the rotation of the stage, in specimen coordinates.
    layers
        What is a field instead of atoms, sampled on `grid`.
    corner_nm
        Specimen coordinates (y, x) of the grid's first sample.
    grid
        Where potentials are sampled.
    settings
        How finely, and whether atoms move.
    energy_kev
        Beam energy; a magnetic phase is handed on as the potential that would make it.
    run
        Where the phonons' streams begin.
    beginning
        The atoms at the beginning, of a specimen that has changed since; its slices stay.
    beyond_nm
        Places just outside the cell where atoms stand, shape (n, 3), of a specimen that changes.
    """

    atoms: Atoms
    layers: tuple[FieldLayer, ...]
    corner_nm: tuple[float, float]
    grid: Grid
    settings: Multislice
    energy_kev: float
    run: Run
    beginning: Atoms | None = None
    beyond_nm: Floats | None = None

    @classmethod
    def of(
        cls,
        specimen: Specimen,
        cell: Cell,
        grid: Grid,
        settings: Multislice,
        energy_kev: float,
        run: Run,
        stage_tilt_mrad: tuple[float, float] = (0.0, 0.0),
    ) -> Configurations:
        """Ask a specimen for what lies in a cell.

        Raises
        ------
        ValueError
            The specimen has neither atoms nor fields there, or can't be turned.
        """
        atoms, beyond = Atoms.of([], [], [], "nothing"), None
        if isinstance(specimen, HasAtoms):
            atoms = cell.atoms_of(specimen, stage_tilt_mrad)
            if isinstance(specimen, Evolves):
                beyond = cell.places_beyond(specimen, stage_tilt_mrad)
        layers: tuple[FieldLayer, ...] = ()
        if isinstance(specimen, HasFields):
            y0, x0 = cell.corner_nm
            (ly, lx) = (edge / 10 for edge in cell.extent_A)
            window = Window(x0, x0 + lx, y0, y0 + ly)
            layers = tuple(specimen.fields_within(window, grid.shape))
        if layers and stage_tilt_mrad != (0.0, 0.0):
            raise ValueError(
                "instrument.stage_tilt_mrad: a specimen made of fields can't be tilted; "
                "set it to [0, 0] or make the film of atoms"
            )
        if len(atoms) == 0 and not layers:
            raise ValueError(
                "sample: nothing lies in view; enlarge the view or move the sample"
                if isinstance(specimen, HasAtoms | HasFields)
                else "sample: an electron microscope needs a specimen made of atoms or fields"
            )
        _check_ions(atoms, settings.ionic_charges)
        return cls(atoms, layers, cell.corner_nm, grid, settings, energy_kev, run, beyond_nm=beyond)

    def changed(self, atoms: Atoms) -> Configurations:
        """Return the configurations of the same specimen with its atoms changed.

        Atoms that stay where they were have the same thermal displacements and slices, so the
        waves of two states differ by what has changed alone.
        """
        return replace(self, atoms=atoms, beginning=self._first)

    @property
    def _first(self) -> Atoms:
        return self.atoms if self.beginning is None else self.beginning

    @property
    def count(self) -> int:
        """Configurations that differ: one where nothing moves."""
        moving = self.settings.thermal_motion and len(self._first) > 0
        return self.settings.thermal_configurations if moving else 1

    @property
    def numbers_present(self) -> list[int]:
        """Atomic numbers, each once."""
        return [int(z) for z in np.unique(self.atoms.numbers)]

    @property
    def slice_thickness_A(self) -> float:
        """Largest thickness of a slice."""
        chosen = self.settings.slice_thickness_nm
        return SLICE_THICKNESS_A if chosen is None else chosen * 10.0

    @property
    def depth_nm(self) -> float:
        """Extent along the beam."""
        z = [layer.z_nm for layer in self.layers]
        return max(depth_nm(self.atoms), max(z, default=0.0) - min(z, default=0.0))

    def slice_count(self, configuration: int = 0) -> tuple[int, int]:
        """Return the number of slices, and how many of them differ."""
        if self.settings.projection == "finite" and len(self.atoms):
            n = int(np.ceil(10.0 * self.depth_nm / self.slice_thickness_A)) + 8
            return n + len(self.layers), n + len(self.layers)
        positions = self.positions_A(configuration)
        slices = slice_atoms(positions[:, 2], self.slice_thickness_A, self.atoms.numbers)
        different = {self._identity(positions, atoms) for _, atoms in slices}
        return len(slices) + len(self.layers), len(different) + len(self.layers)

    def positions_A(self, configuration: int) -> Floats:
        """Return the positions of the atoms of one configuration, from the grid's first sample."""
        return self._placed_A(self.atoms, configuration)

    def _placed_A(self, atoms: Atoms, configuration: int) -> Floats:
        positions = atoms.positions_nm
        if self.settings.thermal_motion and len(atoms):
            rng = self.run.rng("phonons", configuration)
            positions = thermal_positions(atoms, configuration, rng)
        y0, x0 = self.corner_nm
        return np.asarray(10.0 * (positions - np.array([x0, y0, 0.0])))

    @property
    def exit_A(self) -> float:
        """Plane of the exit wave: that of the deepest atom at rest, or layer."""
        deepest = self._first.positions_nm[:, 2].max(initial=0.0)
        return 10.0 * float(max([deepest, *(layer.z_nm for layer in self.layers)]))

    def steps(self, configuration: int, transmit: Transmit | None = None) -> Iterator[Step]:
        """Give the slices from the entrance face, z = 0, to the exit face.

        Slices that hold the same atoms at the same places, as in a perfect crystal, are made
        once and given again.

        Parameters
        ----------
        configuration
            Which one.
        transmit
            Turns a projected potential (V Å, on the grid) into what is given; by default the
            potential itself is given.
        """
        finite = self.settings.projection == "finite" and len(self.atoms) > 0
        atoms = self._slabs(configuration) if finite else self._slices(configuration)
        made: dict[bytes, Images] = {}
        here, given = 0.0, None
        for plane in heapq.merge(atoms, self._fields(), key=lambda plane: plane.z_A):
            if given is not None or plane.z_A != here:
                yield given, plane.z_A - here
            here, given = plane.z_A, made.get(plane.key)
            if given is None:
                potential = plane.make()
                given = potential if transmit is None else transmit(potential)
            if plane.key:
                made[plane.key] = given
        yield given, self.exit_A - here

    def _slices(self, configuration: int) -> Iterator[_Plane]:
        """Give slices of whole atoms."""
        positions, numbers = self.positions_A(configuration), self.atoms.numbers
        if not len(numbers):
            return
        builder = PotentialBuilder(
            self.grid,
            self.numbers_present,
            self.settings.scattering_factors,
            ions={atomic_numbers[e]: q for e, q in self.settings.ionic_charges.items()},
        )
        slices = self._sliced(configuration, positions)
        keys = [self._identity(positions, atoms) for _, atoms in slices]
        repeated = {key for key, n in Counter(keys).items() if n > 1}
        for (z, atoms), key in zip(slices, keys, strict=True):
            x, y, _ = positions[atoms].T
            make = functools.partial(builder.project, numbers[atoms], x, y)
            yield _Plane(z, key if key in repeated else b"", make)

    def _sliced(self, configuration: int, positions_A: Floats) -> list[Slice]:
        """Return the atoms of every slice; those of a changed specimen keep the first slices."""
        thickness = self.slice_thickness_A
        if self.beginning is None:
            return slice_atoms(positions_A[:, 2], thickness, self.atoms.numbers)
        first = self._placed_A(self.beginning, configuration)[:, 2]
        planes = slice_atoms(first, thickness, self.beginning.numbers)
        borders = [
            (first[before.atoms].max() + first[after.atoms].min()) / 2
            for before, after in itertools.pairwise(planes)
        ]
        where = np.searchsorted(borders, positions_A[:, 2])
        slices = [Slice(plane.z_A, np.flatnonzero(where == i)) for i, plane in enumerate(planes)]
        return [plane for plane in slices if len(plane.atoms)]

    def _slabs(self, configuration: int) -> Iterator[_Plane]:
        """Give slabs of equal thickness of the three-dimensional potentials."""
        projection = FiniteProjection(
            self.grid, self.numbers_present, self.settings.scattering_factors
        )
        positions, z = self.positions_A(configuration), 0.0
        for potential, distance in projection.slabs(
            self.atoms.numbers, positions, self.slice_thickness_A
        ):
            if potential is not None:
                yield _Plane(z, b"", functools.partial(_itself, potential))
            z += distance

    def _fields(self) -> Iterator[_Plane]:
        """Give the layers that are fields."""
        for layer in sorted(self.layers, key=lambda layer: layer.z_nm):
            yield _Plane(10.0 * layer.z_nm, b"", functools.partial(self._field, layer))

    def _field(self, layer: FieldLayer) -> Images:
        """Return a layer as a projected potential, V Å."""
        potential = np.zeros(self.grid.shape)
        if layer.potential_V_nm is not None:
            potential += 10.0 * layer.potential_V_nm
        if layer.phase_rad is not None:
            potential += layer.phase_rad / interaction_constant(self.energy_kev)
        return potential.astype(np.float32)

    def _identity(self, positions_A: Floats, atoms: npt.NDArray[np.int64]) -> bytes:
        """Return what tells a slice from others: elements and places, to 1e-6 Å."""
        places = np.rint(positions_A[atoms, :2] * 1e6).astype(np.int64)
        rows = np.column_stack([self.atoms.numbers[atoms], places])
        return rows[np.lexsort(rows.T)].tobytes()


def _check_ions(atoms: Atoms, charges: Mapping[str, int]) -> None:
    """Refuse charges of elements that aren't there, without a table, or that don't cancel."""
    where = "instrument.multislice.ionic_charges"
    total, size = 0, 0
    for element, charge in charges.items():
        number = atomic_numbers.get(element, 0)
        count = int(np.count_nonzero(atoms.numbers == number))
        if number == 0 or count == 0:
            raise ValueError(f"{where}: there is no {element} in view; leave it out")
        known = ionic_charges(element)
        if charge not in known:
            raise ValueError(
                f"{where}: {element} {charge:+d} is not tabulated; choose from {known}"
            )
        total, size = total + charge * count, size + abs(charge) * count
    # A cell cuts a crystal somewhere, which leaves a little over.
    if abs(total) > 0.1 * size:
        raise ValueError(
            f"{where}: the specimen would carry {total:+d} elementary charges ({size} in all); "
            "give charges to the other elements too, so that they cancel"
        )


class _Plane(NamedTuple):
    """Matter that acts in one plane.

    Attributes
    ----------
    z_A
        Where.
    key
        Planes of the same key are the same; empty where there is no other.
    make
        Gives the projected potential.
    """

    z_A: float
    key: bytes
    make: Callable[[], Images]


def _itself(potential: Images) -> Images:
    return potential

"""A specimen in its cell, sliced: one stack of slices for each thermal configuration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.atoms import Atoms, Window
from nanophantom.simcore.electrons.cell import Cell, depth_nm
from nanophantom.simcore.electrons.constants import interaction_constant
from nanophantom.simcore.electrons.debye_waller import thermal_positions
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.multislice import Step
from nanophantom.simcore.electrons.potential import PotentialBuilder
from nanophantom.simcore.electrons.settings import Multislice
from nanophantom.simcore.electrons.slicing import SLICE_THICKNESS_A, slice_atoms
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
    """

    atoms: Atoms
    layers: tuple[FieldLayer, ...]
    corner_nm: tuple[float, float]
    grid: Grid
    settings: Multislice
    energy_kev: float
    run: Run

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
        atoms = Atoms.of([], [], [], "nothing")
        if isinstance(specimen, HasAtoms):
            atoms = cell.atoms_of(specimen, stage_tilt_mrad)
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
        return cls(atoms, layers, cell.corner_nm, grid, settings, energy_kev, run)

    @property
    def count(self) -> int:
        """Configurations that differ: one where nothing moves."""
        moving = self.settings.thermal_motion and len(self.atoms) > 0
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
        keys = [key for _, _, key in self._planes(configuration)]
        return len(keys), len(set(keys))

    def positions_A(self, configuration: int) -> Floats:
        """Return the positions of the atoms of one configuration, from the grid's first sample."""
        positions = self.atoms.positions_nm
        if self.settings.thermal_motion and len(self.atoms):
            rng = self.run.rng("phonons", configuration)
            positions = thermal_positions(self.atoms, configuration, rng)
        y0, x0 = self.corner_nm
        return np.asarray(10.0 * (positions - np.array([x0, y0, 0.0])))

    def steps(self, configuration: int, transmit: Transmit | None = None) -> Iterator[Step]:
        """Give the slices from the entrance to the exit face.

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
        planes = self._planes(configuration)
        repeated = {key for key, n in Counter(key for _, _, key in planes).items() if n > 1}
        kept: dict[bytes, Images] = {}
        make = self._maker(configuration)
        depths = [z for z, _, _ in planes]
        ends = [*depths[1:], max(depths, default=0.0)]
        for (z, content, key), end in zip(planes, ends, strict=True):
            given = kept.get(key)
            if given is None:
                given = make(content) if transmit is None else transmit(make(content))
            if key in repeated:
                kept[key] = given
            yield given, end - z

    def _planes(
        self, configuration: int
    ) -> list[tuple[float, npt.NDArray[np.int64] | FieldLayer, bytes]]:
        """Return depth (Å), content and identity of every slice, in the beam's order."""
        positions, numbers = self.positions_A(configuration), self.atoms.numbers
        planes: list[tuple[float, npt.NDArray[np.int64] | FieldLayer, bytes]] = []
        for z, atoms in slice_atoms(positions[:, 2], self.slice_thickness_A, numbers):
            places = np.rint(positions[atoms, :2] * 1e6).astype(np.int64)
            rows = np.column_stack([numbers[atoms], places])
            order = np.lexsort(rows.T)
            planes.append((z, atoms, rows[order].tobytes()))
        for i, layer in enumerate(self.layers):
            planes.append((10.0 * layer.z_nm, layer, b"layer %d" % i))
        return sorted(planes, key=lambda plane: plane[0])

    def _maker(self, configuration: int) -> Callable[[npt.NDArray[np.int64] | FieldLayer], Images]:
        """Return the function that makes the projected potential of a slice."""
        positions, numbers = self.positions_A(configuration), self.atoms.numbers
        builder = (
            PotentialBuilder(self.grid, self.numbers_present, self.settings.scattering_factors)
            if len(self.atoms)
            else None
        )

        def make(content: npt.NDArray[np.int64] | FieldLayer) -> Images:
            if isinstance(content, FieldLayer):
                potential = np.zeros(self.grid.shape)
                if content.potential_V_nm is not None:
                    potential += 10.0 * content.potential_V_nm
                if content.phase_rad is not None:
                    potential += content.phase_rad / interaction_constant(self.energy_kev)
                return potential.astype(np.float32)
            assert builder is not None
            x, y, _ = positions[content].T
            return builder.project(numbers[content], x, y)

        return make

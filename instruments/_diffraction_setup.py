"""The cell of a diffraction experiment: where it lies, what is in it, where the probe stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
from numpy.polynomial.hermite_e import hermegauss

from nanophantom.simcore.atoms import Window
from nanophantom.simcore.electrons.cell import Cell
from nanophantom.simcore.electrons.configurations import Configurations
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import HasLattice, HasThickness, Specimen

if TYPE_CHECKING:
    from nanophantom.instruments.diffraction import Diffraction

Floats = npt.NDArray[np.float64]

CELL_SAMPLES = 512
"""Into so many steps the cell's edge is divided to say where its first sample lies."""


@dataclass(frozen=True)
class PlacedCell(Cell):
    """A cell that is centred on a place of the specimen."""

    centre_nm: tuple[float, float] = (0.0, 0.0)

    @property
    def corner_nm(self) -> tuple[float, float]:
        """Specimen coordinates (y, x) of the centre of the cell's first pixel."""
        y, x = super().corner_nm
        return y + self.centre_nm[1], x + self.centre_nm[0]


@dataclass(frozen=True, eq=False)
class Setup:
    """Where a diffraction experiment takes place.

    Attributes
    ----------
    configurations
        The specimen in its cell.
    places_A : (n, 2)
        Where the probe stands (x, y), from the grid's first sample.
    weights : (n,)
        Of the places in the average; their sum is 1.
    lattice_nm : (2, 2) or None
        Periods across the beam as rows (x, y), if the specimen has any.
    thickness_nm
        Of the whole specimen.
    """

    configurations: Configurations
    places_A: Floats
    weights: Floats
    lattice_nm: Floats | None
    thickness_nm: float

    @classmethod
    def of(cls, diffraction: Diffraction, specimen: Specimen, run: Run) -> Self:
        """Choose cell and grid, and ask the specimen for its atoms."""
        lam = float(wavelength(diffraction.energy_kev))
        lattice = _lattice(diffraction, specimen)
        half = diffraction.half_width_nm(specimen, lam / 10)
        places, weights = _places(diffraction, lattice)
        half += float(np.abs(places - diffraction.position_nm).max())
        n = CELL_SAMPLES
        cell = PlacedCell(2 * half / n, (n, n), (0, 0), (n, n), diffraction.position_nm)
        settings = diffraction.multislice
        configurations = Configurations.of(
            specimen,
            cell,
            diffraction.grid_for(specimen, cell, settings, diffraction.band_limit_mrad),
            settings,
            diffraction.energy_kev,
            run,
            diffraction.stage_tilt_mrad,
        )
        thickness = configurations.exit_A / 10
        if isinstance(specimen, HasThickness):
            thickness = specimen.exit_nm
        wanted = max(diffraction.thicknesses_nm or (0.0,))
        if wanted > thickness + 1e-6:
            raise ValueError(
                f"thicknesses_nm: {wanted:g} nm was asked for, but the sample ends at "
                f"{thickness:.4g} nm; make it thicker"
            )
        y0, x0 = cell.corner_nm
        return cls(configurations, 10 * (places - np.array([x0, y0])), weights, lattice, thickness)

    @property
    def centre_A(self) -> tuple[float, float]:
        """Middle of the probe's places, from the grid's first sample."""
        x, y = self.weights @ self.places_A
        return float(x), float(y)

    @property
    def window(self) -> Window:
        """What is simulated, in specimen coordinates."""
        y0, x0 = self.configurations.corner_nm
        height, width = (edge / 10 for edge in self.configurations.grid.extent_A)
        return Window(x0, x0 + width, y0, y0 + height)


def _lattice(diffraction: Diffraction, specimen: Specimen) -> Floats | None:
    """Return the periods of a crystal across the beam; the small tilt of a stage is ignored."""
    found = specimen.periodic_column() if isinstance(specimen, HasLattice) else None
    if found is None and diffraction.positions == "averaged":
        raise ValueError("positions: averaged needs a crystal that is periodic across the beam")
    return None if found is None else np.asarray(found[0], np.float64)


def _places(diffraction: Diffraction, lattice_nm: Floats | None) -> tuple[Floats, Floats]:
    """Return where the probe stands (specimen coordinates, nm) and the weights of the places."""
    centre = np.array(diffraction.position_nm)
    if diffraction.positions == "averaged":
        assert lattice_nm is not None
        n = diffraction.positions_per_axis
        share = (np.arange(n) + 0.5) / n - 0.5
        u, v = (axis.ravel() for axis in np.meshgrid(share, share))
        return centre + np.column_stack([u, v]) @ lattice_nm, np.full(n * n, 1.0 / n**2)
    sigma_nm = diffraction.probe.source_sigma_A / 10 if diffraction.has_probe else 0.0
    if not sigma_nm:
        return centre[None, :], np.ones(1)
    nodes, weights = hermegauss(3)
    weights = weights / weights.sum()
    x, y = (axis.ravel() for axis in np.meshgrid(nodes, nodes))
    return centre + sigma_nm * np.column_stack([x, y]), np.outer(weights, weights).ravel()

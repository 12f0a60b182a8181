"""Specimens, and the narrow protocols by which instruments ask them for what they need."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from nanophantom.simcore.atoms import Atoms, Floats, Window
from nanophantom.simcore.fields import Table, read_only


class Specimen(ABC):
    """What is really there: immutable, with its own truth."""

    @abstractmethod
    def truth(self) -> Mapping[str, Table]:
        """Return what was drawn or chosen to build the specimen, as tables."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about choices made on the way (occupancies drawn, say), for the report."""
        return ()

    @property
    def known(self) -> Mapping[str, Any]:
        """What an operator knows of the specimen beforehand, for the nominal settings.

        "crystal": what it is made of and along which axis it is looked at (cell_nm, numbers,
        positions_nm, b_factors_A2, in the frame of the microscope), without tilt and strain.
        """
        return {}


def truth_tables(specimen: Specimen) -> dict[str, Table]:
    """Return a specimen's truth as datasets hold it: its tables, named ``specimen_...``."""
    return {f"specimen_{name}": table for name, table in specimen.truth().items()}


def known_crystal(cell_nm: Floats, sites: Atoms) -> Mapping[str, Any]:
    """Return what `Specimen.known` tells of a crystal: its cell and sites, turned to the beam."""
    return {
        "crystal": {
            "cell_nm": cell_nm.tolist(),
            "numbers": sites.numbers.tolist(),
            "positions_nm": sites.positions_nm.tolist(),
            "b_factors_A2": sites.b_factors_A2.tolist(),
        }
    }


@runtime_checkable
class HasAtoms(Protocol):
    """A specimen made of atoms; it may extend without end across the beam."""

    def atoms_within(self, window: Window) -> Atoms:
        """Return the atoms whose (x, y) lie in the window, z measured from the entrance face."""
        ...


@dataclass(frozen=True, eq=False)
class FieldLayer:
    """Matter that is a field instead of atoms, gathered in one plane across the beam.

    Attributes
    ----------
    z_nm
        Where the plane lies along the beam.
    potential_V_nm
        Electrostatic potential projected along the beam, V nm, shape (ny, nx), or None; it shifts
        the phase by the interaction constant times this.
    phase_rad
        Phase shift that doesn't depend on the beam's energy (a magnetic one), shape (ny, nx), or
        None; positive where the wave is advanced, as behind a positive potential.
    """

    z_nm: float
    potential_V_nm: Floats | None = None
    phase_rad: Floats | None = None

    def __post_init__(self) -> None:
        shapes = set()
        for name in ("potential_V_nm", "phase_rad"):
            values = getattr(self, name)
            if values is None:
                continue
            if values.ndim != 2 or not np.isfinite(values).all():
                raise ValueError(f"{name} of a field layer must be finite, shape (ny, nx)")
            object.__setattr__(self, name, read_only(values))
            shapes.add(values.shape)
        if len(shapes) != 1:
            raise ValueError("a field layer needs a potential or a phase, or both of one shape")


@runtime_checkable
class HasFields(Protocol):
    """A specimen that is a field, wholly or in part; its other part may be atoms."""

    def fields_within(self, window: Window, shape: tuple[int, int]) -> Sequence[FieldLayer]:
        """Return the specimen's layers, sampled over a window; an empty sequence if it has none.

        Parameters
        ----------
        window
            Sample [i, j] lies at x = x0 + j width / nx, y = y0 + i height / ny.
        shape
            Number of samples (ny, nx).
        """
        ...


@runtime_checkable
class HasLattice(Protocol):
    """A static, perfect foil that may be periodic across the beam."""

    def periodic_column(self) -> tuple[Floats, Atoms] | None:
        """Return the cell across the beam and its atoms over the whole thickness.

        Returns
        -------
        tuple or None
            Lattice vectors a1, a2 as rows (x, y) in nm, shape (2, 2), of positive determinant, a1
            along +x if the lattice has a vector there, and the atoms of one such cell, those in
            the parallelogram that the vectors span from the origin. None if the foil isn't
            periodic across the beam, as a tilted one.
        """
        ...


@runtime_checkable
class HasThickness(Protocol):
    """A specimen that knows how far it reaches along the beam."""

    @property
    def exit_nm(self) -> float:
        """The plane z behind which there is nothing; the entrance face lies at z = 0."""
        ...


def sample_points(window: Window, shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """Return where the samples of `HasFields.fields_within` lie: x, shape (nx,), y, shape (ny,)."""
    (ny, nx) = shape
    x = window.x0_nm + np.arange(nx) * (window.width_nm / nx)
    y = window.y0_nm + np.arange(ny) * (window.height_nm / ny)
    return np.asarray(x, np.float64), np.asarray(y, np.float64)


class FiniteAtoms(Specimen):
    """Some atoms and nothing else; what most small samples are made of."""

    def __init__(self, atoms: Atoms, notes: tuple[str, ...] = ()) -> None:
        self.atoms = atoms
        self._notes = notes

    def atoms_within(self, window: Window) -> Atoms:
        """Return the atoms whose (x, y) lie in the window."""
        x, y, _ = self.atoms.positions_nm.T
        return self.atoms.select(window.holds(x, y))

    @property
    def exit_nm(self) -> float:
        """The plane of the last atom."""
        return float(self.atoms.positions_nm[:, 2].max(initial=0.0))

    def truth(self) -> Mapping[str, Table]:
        """Return nothing beyond what the instrument tells of the atoms in view."""
        return {}

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about choices made on the way."""
        return self._notes

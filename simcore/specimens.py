"""Specimens, and the narrow protocols by which instruments ask them for what they need."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from nanophantom.simcore.atoms import Atoms, Window
from nanophantom.simcore.fields import Table


class Specimen(ABC):
    """What is really there: immutable, with its own truth."""

    @abstractmethod
    def truth(self) -> Mapping[str, Table]:
        """Return what was drawn or chosen to build the specimen, as tables."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about choices made on the way (occupancies drawn, say), for the report."""
        return ()


@runtime_checkable
class HasAtoms(Protocol):
    """A specimen made of atoms; it may extend without end across the beam."""

    def atoms_within(self, window: Window) -> Atoms:
        """Return the atoms whose (x, y) lie in the window, z measured from the entrance face."""
        ...


class FiniteAtoms(Specimen):
    """Some atoms and nothing else; what most small samples are made of."""

    def __init__(self, atoms: Atoms, notes: tuple[str, ...] = ()) -> None:
        self.atoms = atoms
        self._notes = notes

    def atoms_within(self, window: Window) -> Atoms:
        """Return the atoms whose (x, y) lie in the window."""
        x, y, _ = self.atoms.positions_nm.T
        return self.atoms.select(window.holds(x, y))

    def truth(self) -> Mapping[str, Table]:
        """Return nothing beyond what the instrument tells of the atoms in view."""
        return {}

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about choices made on the way."""
        return self._notes

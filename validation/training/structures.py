"""Crystals to learn from, and crystals that are kept back for the test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ase.io
from ase.spacegroup import crystal

Sites = tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Compound:
    """One crystal of a family.

    Attributes
    ----------
    symbols
        Elements, in the order of the family's sites.
    a_A, c_A
        Lattice constants; the second one None for a cubic cell.
    """

    symbols: tuple[str, ...]
    a_A: float
    c_A: float | None = None


@dataclass(frozen=True)
class Family:
    """A structure type: a space group, its occupied sites, and compounds that crystallize so.

    Lattice constants are rounded room-temperature values; training stretches them anyway.
    """

    space_group: int
    sites: Sites
    compounds: tuple[Compound, ...]
    hexagonal: bool = False

    def write(self, compound: Compound, stretch: float, file: Path) -> None:
        """Write a compound as a CIF, its lattice constants times a factor."""
        a = compound.a_A * stretch
        c = a if compound.c_A is None else compound.c_A * stretch
        atoms = crystal(
            compound.symbols,
            basis=list(self.sites),
            spacegroup=self.space_group,
            cellpar=[a, a, c, 90, 90, 120 if self.hexagonal else 90],
        )
        atoms.info.clear()  # the space group's occupancies are none of the reader's business
        ase.io.write(file, atoms, format="cif")


def _elements(**lattice_A: float) -> tuple[Compound, ...]:
    return tuple(Compound((symbol,), a) for symbol, a in lattice_A.items())


ORIGIN = (0.0, 0.0, 0.0)
CENTRE = (0.5, 0.5, 0.5)

SEEN: Mapping[str, Family] = {
    "fcc metal": Family(
        225, (ORIGIN,), _elements(Al=4.05, Cu=3.61, Ni=3.52, Ag=4.09, Pd=3.89, Pt=3.92, Au=4.08)
    ),
    "bcc metal": Family(
        229, (ORIGIN,), _elements(Cr=2.88, Fe=2.87, Nb=3.30, Mo=3.15, Ta=3.30, W=3.16)
    ),
    "rock salt": Family(
        225,
        (ORIGIN, CENTRE),
        (
            Compound(("Mg", "O"), 4.21),
            Compound(("Ni", "O"), 4.18),
            Compound(("Ti", "N"), 4.24),
            Compound(("K", "Br"), 6.60),
            Compound(("Pb", "S"), 5.94),
        ),
    ),
    "caesium chloride": Family(
        221, (ORIGIN, CENTRE), (Compound(("Ni", "Al"), 2.89), Compound(("Cs", "Cl"), 4.12))
    ),
    "perovskite": Family(
        221,
        (ORIGIN, CENTRE, (0.5, 0.5, 0.0)),
        (
            Compound(("Sr", "Ti", "O"), 3.905),
            Compound(("Ba", "Ti", "O"), 4.00),
            Compound(("La", "Al", "O"), 3.79),
            Compound(("K", "Nb", "O"), 4.01),
            Compound(("Pb", "Ti", "O"), 3.96),
        ),
    ),
    "rutile": Family(
        136,
        (ORIGIN, (0.305, 0.305, 0.0)),
        (Compound(("Ti", "O"), 4.594, 2.959), Compound(("Sn", "O"), 4.737, 3.186)),
    ),
    "A15": Family(
        223,
        (ORIGIN, (0.25, 0.0, 0.5)),
        (Compound(("Sn", "Nb"), 5.29), Compound(("Si", "V"), 4.72), Compound(("Ge", "Nb"), 5.14)),
    ),
}
"""Structure types that training draws from."""

UNSEEN: Mapping[str, Family] = {
    "hcp metal": Family(
        194,
        ((1 / 3, 2 / 3, 0.25),),
        (
            Compound(("Mg",), 3.21, 5.21),
            Compound(("Ti",), 2.95, 4.68),
            Compound(("Zr",), 3.23, 5.15),
            Compound(("Re",), 2.76, 4.46),
        ),
        hexagonal=True,
    ),
    "fluorite": Family(
        225,
        (ORIGIN, (0.25, 0.25, 0.25)),
        (
            Compound(("Ce", "O"), 5.411),
            Compound(("Zr", "O"), 5.09),
            Compound(("U", "O"), 5.47),
            Compound(("Ca", "F"), 5.46),
        ),
    ),
    "zinc blende": Family(
        216,
        (ORIGIN, (0.25, 0.25, 0.25)),
        (
            Compound(("Ga", "As"), 5.653),
            Compound(("Zn", "Te"), 6.10),
            Compound(("Si", "Si"), 5.431),
        ),
    ),
    "wurtzite": Family(
        186,
        ((1 / 3, 2 / 3, 0.0), (1 / 3, 2 / 3, 0.375)),
        (Compound(("Ga", "N"), 3.19, 5.19), Compound(("Cd", "Se"), 4.30, 7.01)),
        hexagonal=True,
    ),
    "spinel": Family(
        227,
        (ORIGIN, (0.625, 0.625, 0.625), (0.387, 0.387, 0.387)),
        (Compound(("Mg", "Al", "O"), 8.08), Compound(("Fe", "Fe", "O"), 8.394)),
    ),
}
"""Structure types that training never sees."""

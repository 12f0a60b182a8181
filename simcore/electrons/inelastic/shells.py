"""Which electrons of which atom: a shell, and the energies at which its ionization begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import xraydb
from ase.data import chemical_symbols

ShellName = Literal["K", "L", "L1", "L2", "L3"]

SUBSHELLS: Final[dict[str, tuple[str, ...]]] = {
    "K": ("K",),
    "L": ("L1", "L2", "L3"),
    "L1": ("L1", "L2", "L3"),
    "L2": ("L1", "L2", "L3"),
    "L3": ("L1", "L2", "L3"),
}
"""The subshells whose edges a shell of this name has to know."""


@dataclass(frozen=True)
class Shell:
    """An inner shell of a free atom.

    Parameters
    ----------
    Z : int
        Atomic number.
    name : {"K", "L", "L1", "L2", "L3"}
        "L" is the whole shell, L1 + L2 + L3.
    edges_ev : tuple of float
        Where ionization begins, in eV: (K,) for K; (L1, L2, L3) for L and for each of its
        subshells.

    Raises
    ------
    ValueError
        If the name is unknown, or the edges are not as many as the name asks for, or not positive,
        or not in the order L1 >= L2 >= L3.
    """

    Z: int
    name: ShellName
    edges_ev: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.name not in SUBSHELLS:
            raise ValueError(f"shell must be one of {', '.join(SUBSHELLS)}, got {self.name!r}")
        names = SUBSHELLS[self.name]
        if len(self.edges_ev) != len(names):
            raise ValueError(
                f"edges_ev of shell {self.name} must be the {len(names)} energies of "
                f"{', '.join(names)}, got {len(self.edges_ev)}"
            )
        if min(self.edges_ev) <= 0 or list(self.edges_ev) != sorted(self.edges_ev, reverse=True):
            raise ValueError(f"edges_ev must be positive and L1 >= L2 >= L3, got {self.edges_ev}")

    @property
    def onset_ev(self) -> float:
        """The lowest energy loss that ionizes this shell, in eV."""
        if self.name == "L":
            return self.edges_ev[-1]
        return self.edges_ev[SUBSHELLS[self.name].index(self.name)]


def atomic_shell(Z: int, name: ShellName) -> Shell:
    """Return a shell with the absorption edges of Elam, Ravel & Sieber (2002), as in xraydb.

    Parameters
    ----------
    Z : int
        Atomic number.
    name : {"K", "L", "L1", "L2", "L3"}
        The shell.

    Raises
    ------
    ValueError
        If the element or the shell is unknown, or the element has no such shell.
    """
    if name not in SUBSHELLS:
        raise ValueError(f"shell must be one of {', '.join(SUBSHELLS)}, got {name!r}")
    return Shell(Z, name, tuple(edge_energy_ev(Z, subshell) for subshell in SUBSHELLS[name]))


def edge_energy_ev(Z: int, subshell: str) -> float:
    """Return the absorption edge of a subshell ("K", "L1", ... "M5") in eV (Elam, in xraydb).

    Raises
    ------
    ValueError
        If the element is not among Z = 1 to 98, or has no such edge in the table.
    """
    if not 1 <= Z <= 98:
        raise ValueError(f"Z must be 1 to 98, got {Z}")
    edge = xraydb.xray_edges(Z).get(subshell)
    if edge is None:
        raise ValueError(f"{chemical_symbols[Z]} has no {subshell} edge in the table")
    return float(edge.energy)

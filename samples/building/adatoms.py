"""Adatoms: foreign atoms on the faces of a sheet, at sites drawn by seed."""

from __future__ import annotations

from typing import Literal

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from pydantic import Field, field_validator

from nanophantom.samples.building.honeycomb import NEAREST, close_sites
from nanophantom.samples.building.sheet import CARBON, Sheet
from nanophantom.simcore.atoms import Floats, Window
from nanophantom.simcore.models import Model

APART_NM = 0.25
"""Adatoms on one side keep this distance from one another."""
# The six atoms around the hexagon (0, 0, 0).
RING = np.concatenate([NEAREST, [[0, 0, 2], [1, 0, 2], [0, 1, 2]] - np.array([1, 1, 0])])


class Adatoms(Model):
    """Foreign atoms of one element on a face of the sheet, at sites drawn by seed."""

    element: str = "Au"
    """Chemical symbol."""
    number: int = Field(default=5, ge=1, le=10_000)
    """How many."""
    site: Literal["top", "bridge", "hollow"] = "top"
    """On an atom, on the middle of a bond, or on the middle of a hexagon."""
    side: Literal["entrance", "exit"] = "entrance"
    """The face that meets the beam first, or the other one."""
    height_nm: float | None = Field(default=None, gt=0, le=1)
    """Above the atoms' plane; by default the bond to the nearest atoms is the sum of covalent
    radii (B. Cordero et al., Dalton Trans. (2008) 2832)."""
    within_nm: float = Field(default=10.0, gt=0, le=1000)
    """Edge of the square about the origin in which they lie."""
    b_factor_A2: float = Field(default=0.7, ge=0, le=50)
    """Debye-Waller factor; 0.7 Å² is assumed."""

    @field_validator("element")
    @classmethod
    def _known_element(cls, value: str) -> str:
        return known_element(value)

    def height(self, bond_nm: float) -> float:
        """Return the height above the plane in nm.

        Raises
        ------
        ValueError
            No height is given, and the covalent bond is too short to bridge the site.
        """
        if self.height_nm is not None:
            return self.height_nm
        length = (covalent_radii[atomic_numbers[self.element]] + covalent_radii[CARBON]) / 10
        aside = {"top": 0.0, "bridge": bond_nm / 2, "hollow": bond_nm}[self.site]
        if length <= aside:
            raise ValueError(
                f"adatoms: {self.element} at a {self.site} site would sink into the sheet with a "
                f"bond of {length:.3f} nm; give height_nm"
            )
        return float(np.sqrt(length**2 - aside**2))

    def sites_on(self, sheet: Sheet) -> Floats:
        """Return the places (i, j, s) where all atoms that bear an adatom are there, (n, 3)."""
        square = Window.centred(self.within_nm, self.within_nm)
        if self.site == "top":
            sites = sheet.lattice.sites_within(square)
            bearers = sites[:, None]
        elif self.site == "hollow":
            sites = sheet.lattice.sites_within(square, kinds=(0,))
            bearers = sites[:, None] + RING
        else:
            firsts = sheet.lattice.sites_within(square, kinds=(1,))
            seconds, _ = close_sites(firsts)
            pairs = np.stack([np.broadcast_to(firsts[:, None], seconds.shape), seconds], axis=2)
            bearers = pairs.reshape(-1, 2, 3)
        there = sheet.present(bearers.reshape(-1, 3)).reshape(bearers.shape[:2]).all(axis=1)
        return np.asarray(bearers[there].mean(axis=1))

    def choose(self, places_nm: Floats, taken_nm: Floats) -> list[int]:
        """Return which places are settled: in their order, with room around each.

        Parameters
        ----------
        places_nm
            Where adatoms would lie, (x, y), shape (n, 2), in random order.
        taken_nm
            Where others lie already on this side, shape (m, 2).

        Raises
        ------
        ValueError
            There is no room for all of them.
        """
        chosen: list[int] = []
        for k, place in enumerate(places_nm):
            if len(chosen) == self.number:
                break
            if (np.hypot(*(taken_nm - place).T) >= APART_NM).all():
                chosen.append(k)
                taken_nm = np.vstack([taken_nm, place])
        if len(chosen) < self.number:
            raise ValueError(
                f"adatoms: of {self.number} {self.element} only {len(chosen)} find a {self.site} "
                f"site {APART_NM} nm from others; lower number, or widen within_nm "
                f"({self.within_nm:g} nm)"
            )
        return chosen


def known_element(symbol: str) -> str:
    """Return a chemical symbol, or raise ValueError if it is none."""
    if atomic_numbers.get(symbol, 0) < 1:
        raise ValueError(f"{symbol!r} is no chemical symbol; write, for example, N or Au")
    return symbol

"""One layer of a honeycomb: which sites hold an atom, and of which element."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase.data import atomic_numbers

from nanophantom.samples.building.honeycomb import RIM_NM, Bools, Honeycomb, among
from nanophantom.simcore.atoms import Floats, Ints, Window

CARBON = 6


@dataclass(frozen=True, eq=False)
class Sheet:
    """Carbon without end, flat and unstrained, with a round hole and point defects.

    Attributes
    ----------
    lattice
        Its sites.
    hole_nm
        The hole's middle and diameter (x, y, diameter); a diameter of 0 is none.
    vacant_share, vacancy_key
        Share of sites that are vacancies, and the key that chooses them.
    element_shares, element_key
        Shares of atoms that are another element by symbol, and the key that chooses them.
    """

    lattice: Honeycomb
    hole_nm: tuple[float, float, float]
    vacant_share: float
    vacancy_key: np.uint64
    element_shares: Mapping[str, float]
    element_key: np.uint64

    @cached_property
    def trimmed(self) -> Ints:
        """Sites without an atom since it would dangle at the rim of the hole, shape (n, 3)."""
        x, y, diameter = self.hole_nm
        if diameter == 0:
            return np.empty((0, 3), np.int64)
        return self.lattice.dangling(x, y, diameter / 2)

    def check(self) -> None:
        """Raise ValueError if there is a hole that holds no atom."""
        x, y, diameter = self.hole_nm
        half = diameter / 2
        around = Window(x - half, x + half, y - half, y + half)
        if diameter > 0 and not self.in_hole(self.lattice.sites_within(around)).any():
            raise ValueError(
                f"hole_diameter_nm: {diameter:g} nm about {x:g}, {y:g} holds no atom of layer "
                f"{self.lattice.number}; widen it, or move hole_centre_nm"
            )

    def from_hole(self, sites: Ints) -> Floats:
        """Return the distances of sites from the middle of the hole in nm, shape (n,)."""
        x, y = self.lattice.places(sites).T
        return np.asarray(np.hypot(x - self.hole_nm[0], y - self.hole_nm[1]))

    def in_hole(self, sites: Ints) -> Bools:
        """Say which sites were cut away, those trimmed at the rim not included."""
        return np.asarray(self.from_hole(sites) < self.hole_nm[2] / 2)

    def vacant(self, sites: Ints) -> Bools:
        """Say which sites are single vacancies; none lies near the edge of the hole."""
        vacant = self.lattice.vacant(sites, self.vacant_share, self.vacancy_key)
        if self.hole_nm[2] > 0:
            vacant &= self.from_hole(sites) >= self.hole_nm[2] / 2 + RIM_NM
        return vacant

    def present(self, sites: Ints) -> Bools:
        """Say which sites hold an atom."""
        return ~self.vacant(sites) & ~self.in_hole(sites) & ~among(sites, self.trimmed)

    def elements(self, sites: Ints) -> Ints:
        """Return the atomic numbers of sites that hold an atom, shape (n,)."""
        if not self.element_shares:
            return np.full(len(sites), CARBON, np.int64)
        edges = np.cumsum(list(self.element_shares.values()))
        chosen = np.searchsorted(edges, self.lattice.numbers(sites, self.element_key), side="right")
        of = np.array([*(atomic_numbers[symbol] for symbol in self.element_shares), CARBON])
        return np.asarray(of[chosen], np.int64)

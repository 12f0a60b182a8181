"""A crystal that the operator knows: cell, sites and Debye-Waller factors, as it lies to the beam.

What a specimen is made of, and along which axis it is looked at, is known before a measurement;
how thick it is, or how many atoms a column holds, is not. Forward models start from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MOST_INDEX = 6
"""Lattice vectors with indices up to this are tried when the periods across the beam are sought."""
FLAT_NM = 1e-6
"""A vector that climbs by less lies across the beam."""
PARTS = "cell_nm", "numbers", "positions_nm", "b_factors_A2"


class Slab(NamedTuple):
    """The atoms over one cell across the beam, sorted by depth."""

    numbers: IntArray
    positions_nm: FloatArray
    b_factors_A2: FloatArray


@dataclass(frozen=True, eq=False)
class KnownCrystal:
    """A crystal in the frame of the microscope: x right, y down, z along the beam.

    Attributes
    ----------
    cell_nm : (3, 3)
        Lattice vectors as rows.
    numbers : (n,)
        Atomic numbers of the atoms of a cell.
    positions_nm : (n, 3)
        Where they are; z = 0 is the entrance face.
    b_factors_A2 : (n,)
        B = 8 pi^2 <u^2>.
    """

    cell_nm: FloatArray
    numbers: IntArray
    positions_nm: FloatArray
    b_factors_A2: FloatArray

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Read the mapping that settings hold under "crystal".

        Raises
        ------
        ValueError
            A part is missing or has a wrong shape, or the cell has no volume.
        """
        missing = [name for name in PARTS if name not in given]
        if missing:
            raise ValueError(f"a crystal has {', '.join(PARTS)}; {', '.join(missing)} is missing")
        cell = np.asarray(given["cell_nm"], np.float64)
        numbers = np.asarray(given["numbers"], np.int64)
        positions = np.asarray(given["positions_nm"], np.float64)
        b = np.asarray(given["b_factors_A2"], np.float64)
        n = len(numbers)
        if cell.shape != (3, 3) or positions.shape != (n, 3) or b.shape != (n,) or not n:
            raise ValueError(
                "a crystal's cell_nm is (3, 3), positions_nm (n, 3), numbers and b_factors_A2 "
                f"(n,); got {cell.shape}, {positions.shape}, {numbers.shape} and {b.shape}"
            )
        if not abs(np.linalg.det(cell)) > 1e-9:
            raise ValueError("a crystal's cell must have a volume")
        return cls(cell, numbers, positions, b)

    @property
    def periods_nm(self) -> FloatArray:
        """Shortest periods across the beam, rows (x, y): the first along +x, the second down.

        Raises
        ------
        ValueError
            No short lattice vector lies along x, or none beside it: the zone axis isn't along z.
        """
        vectors = self._lattice_vectors()
        flat = vectors[np.abs(vectors[:, 2]) < FLAT_NM]
        along_x = flat[(flat[:, 0] > FLAT_NM) & (np.abs(flat[:, 1]) < FLAT_NM)]
        beside = flat[flat[:, 1] > FLAT_NM]
        if not len(along_x) or not len(beside):
            raise ValueError(
                "the crystal isn't periodic across the beam with a period along x: give its cell "
                "with a zone axis along z and a short lattice vector along x"
            )
        first = along_x[np.argmin(along_x[:, 0]), :2]
        lowest = beside[beside[:, 1] < beside[:, 1].min() + FLAT_NM, :2]
        return np.stack([first, lowest[np.argmin(np.abs(lowest[:, 0]))]])

    def slab(self, thickness_nm: float) -> Slab:
        """Return the atoms from the entrance face to a depth, over one cell across the beam.

        An atom at the depth itself is left out: n lattice planes are n spacings thick.
        """
        periods = self.periods_nm
        climbs = self._lattice_vectors()
        climbs = climbs[climbs[:, 2] > FLAT_NM]
        up = climbs[np.argmin(np.round(climbs[:, 2], 7) + 1e-9 * np.hypot(*climbs[:, :2].T))]
        height = self.positions_nm[:, 2]
        steps = np.arange(
            int(np.floor(-height.max() / up[2])) - 1,
            int(np.ceil((thickness_nm - height.min()) / up[2])) + 1,
        )
        # The lattice vectors of least height repeat what one cell across the beam holds.
        volume = abs(np.linalg.det(self.cell_nm))
        copies = round(abs(np.linalg.det(periods)) * up[2] / volume)
        if copies != 1:
            raise ValueError("the crystal's lattice vectors up to index 6 don't span its lattice")
        at = (self.positions_nm[:, None, :] + steps[None, :, None] * up).reshape(-1, 3)
        of = np.repeat(np.arange(len(self.numbers)), len(steps))
        share = np.mod(at[:, :2] @ np.linalg.inv(periods) + 1e-7, 1.0) - 1e-7
        at[:, :2] = share @ periods
        inside = np.flatnonzero((at[:, 2] > -FLAT_NM) & (at[:, 2] < thickness_nm - FLAT_NM))
        order = inside[np.argsort(at[inside, 2], kind="stable")]
        return Slab(self.numbers[of[order]], at[order], self.b_factors_A2[of[order]])

    def period_along_beam_nm(self) -> float:
        """Return the shortest period along the beam.

        Raises
        ------
        ValueError
            No short lattice vector lies along the beam.
        """
        vectors = self._lattice_vectors()
        upright = vectors[(vectors[:, 2] > FLAT_NM) & (np.hypot(*vectors[:, :2].T) < FLAT_NM)]
        if not len(upright):
            raise ValueError("no short lattice vector lies along the beam: it isn't a zone axis")
        return float(upright[:, 2].min())

    def column_spacing_nm(self) -> tuple[float, int]:
        """Return the distance of atoms along a column, and how many columns a cell holds.

        Raises
        ------
        ValueError
            Columns differ: in their element, or in the spacing of their atoms.
        """
        if len(np.unique(self.numbers)) > 1:
            raise ValueError("columns of a crystal of several elements differ: no one spacing")
        period_nm = self.period_along_beam_nm()
        slab = self.slab(period_nm)
        share = np.mod(slab.positions_nm[:, :2] @ np.linalg.inv(self.periods_nm) + 1e-4, 1.0)
        alike = cKDTree(share, boxsize=1.0).query_ball_point(share, 2e-3, return_length=True)
        if len(np.unique(alike)) > 1:
            raise ValueError("the crystal's columns hold different numbers of atoms")
        return period_nm / int(alike[0]), len(share) // int(alike[0])

    def _lattice_vectors(self) -> FloatArray:
        n = np.array(list(product(range(-MOST_INDEX, MOST_INDEX + 1), repeat=3)))
        return np.asarray(n @ self.cell_nm, np.float64)

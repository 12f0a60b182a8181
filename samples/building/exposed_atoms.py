"""Atoms at the surface: those that a small molecule can touch."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from ase.data import covalent_radii

from nanophantom.simcore.atoms import Atoms, Floats, Ints

PROBE_NM = 0.14
"""Radius of the molecule that feels the atoms: water's."""
_SWOLLEN = 1.2  # an atom's own radius over its covalent one
_DIRECTIONS = 92
_MOST_CELLS = 200  # along an edge


def exposed(atoms: Atoms, wanted: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return how much of each atom a probe can touch, and which way out is.

    Points are spread over a sphere around each atom, as large as atom and probe together; free are
    those in no other atom's sphere: A. Shrake & J. A. Rupley, J. Mol. Biol. 79 (1973) 351.

    Parameters
    ----------
    atoms
        All that may cover one another.
    wanted
        Which of them are asked for, shape (n,).

    Returns
    -------
    area_nm2 : (n,)
        Area of the free part of the sphere on which the probe's centre moves; 0 inside, and where
        not asked for.
    outward : (n, 3)
        Unit vectors to the middle of the free part; 0 for atoms without one.
    """
    if not len(atoms):
        return np.empty(0), np.empty((0, 3))
    radii = _SWOLLEN * covalent_radii[atoms.numbers] / 10 + PROBE_NM
    from_corner = atoms.positions_nm - atoms.positions_nm.min(axis=0)
    edge = max(2 * radii.max(), from_corner.max() / _MOST_CELLS)
    cell = (from_corner / edge).astype(np.int64)
    cells = cell.max(axis=0) + 1
    number = (cell[:, 0] * cells[1] + cell[:, 1]) * cells[2] + cell[:, 2]
    order = np.argsort(number, kind="stable")
    start = np.searchsorted(number[order], np.arange(cells.prod() + 1))
    free, outward = _free(
        np.ascontiguousarray(atoms.positions_nm[order]),
        radii[order],
        wanted[order],
        cell[order],
        cells,
        start,
        _spread_directions(_DIRECTIONS),
    )
    back = np.argsort(order)
    return 4 * np.pi * radii**2 * free[back], outward[back]


def _spread_directions(n: int) -> Floats:
    """Return n unit vectors spread evenly, by the golden angle, shape (n, 3)."""
    k = np.arange(n) + 0.5
    z, angle = 1 - 2 * k / n, np.pi * (3 - np.sqrt(5)) * k
    across = np.sqrt(1 - z**2)
    return np.stack([across * np.cos(angle), across * np.sin(angle), z], axis=1)


@numba.njit(cache=True, nogil=True)
def _free(
    places: Floats,
    radii: Floats,
    wanted: Any,
    cell: Ints,
    cells: Ints,
    start: Ints,
    directions: Floats,
) -> Any:
    """Return the free share of each sphere, and the unit vector to its middle.

    Atoms stand in the order of their cells; those of cell c are start[c] to start[c + 1] - 1.
    """
    n, m = len(places), len(directions)
    share, outward = np.zeros(n), np.zeros((n, 3))
    near = np.empty(n, np.int64)
    for i in range(n):
        if not wanted[i]:
            continue
        count = 0
        for cx in range(max(cell[i, 0] - 1, 0), min(cell[i, 0] + 2, cells[0])):
            for cy in range(max(cell[i, 1] - 1, 0), min(cell[i, 1] + 2, cells[1])):
                column = (cx * cells[1] + cy) * cells[2]
                first = start[column + max(cell[i, 2] - 1, 0)]
                for j in range(first, start[column + min(cell[i, 2] + 2, cells[2])]):
                    dx, dy = places[j, 0] - places[i, 0], places[j, 1] - places[i, 1]
                    dz, reach = places[j, 2] - places[i, 2], radii[i] + radii[j]
                    if j != i and dx * dx + dy * dy + dz * dz < reach * reach:
                        near[count] = j
                        count += 1
        for k in range(m):
            x = places[i, 0] + radii[i] * directions[k, 0]
            y = places[i, 1] + radii[i] * directions[k, 1]
            z = places[i, 2] + radii[i] * directions[k, 2]
            free = True
            for at in range(count):
                j = near[at]
                dx, dy, dz = places[j, 0] - x, places[j, 1] - y, places[j, 2] - z
                if dx * dx + dy * dy + dz * dz < radii[j] * radii[j]:
                    free = False
                    near[at], near[0] = near[0], j  # it is likely to be in the way again
                    break
            if free:
                share[i] += 1.0 / m
                for axis in range(3):
                    outward[i, axis] += directions[k, axis]
        norm = np.sqrt((outward[i] ** 2).sum())
        if norm > 0:
            outward[i] /= norm
    return share, outward

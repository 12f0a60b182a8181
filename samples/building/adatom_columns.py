"""Columns of adatoms on the facets of a crystal: where hopping begins."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.atoms import Atoms
from nanophantom.simcore.dynamics.hopping import SAME_SITE, Surroundings
from nanophantom.simcore.streams import numbers_of_places

Floats = npt.NDArray[np.float64]

LENGTH = 0.7
"""Part of the column beneath that a column of adatoms covers."""
LEAST_ATOMS = 3
LEAST_HOLDERS = 2
"""Columns of the crystal that touch one of adatoms."""
APART = 2.5
"""Columns stand at least so many bonds from each other."""


def adatom_columns(positions_nm: Floats, n: int, key: np.uint64, lowest_y_nm: float) -> Floats:
    """Return the atoms of some columns on free sites of a crystal's facets.

    Parameters
    ----------
    positions_nm
        The crystal's atoms, its columns along z, shape (n, 3).
    n
        Number of columns.
    key
        Draws which sites.
    lowest_y_nm
        Sites lie above this height (y points down).

    Returns
    -------
    ndarray, shape (m, 3)
        Their atoms, column by column.

    Raises
    ------
    ValueError
        There aren't so many free sites.
    """
    crystal = Atoms.of(np.ones(len(positions_nm)), positions_nm, 0.0, "crystal")
    around = Surroundings.of(crystal, "crystal", "crystal", "column")
    free: dict[tuple[float, float], tuple[int, Floats]] = {}
    for members in around.members:
        middle = _middle(positions_nm[members])
        if len(middle) < LEAST_ATOMS:
            continue
        shifted = middle + around.steps_nm[:, None]
        seen = around.contacts(shifted)
        holds = (seen.nearest_nm > SAME_SITE * around.bond_nm) & (seen.holders >= LEAST_HOLDERS)
        for i in np.flatnonzero(holds & (shifted[:, :, 1].max(axis=1) < lowest_y_nm)):
            x, y = np.round(shifted[i, :, :2].mean(axis=0), 2).tolist()
            best = free.get((x, y))
            if best is None or seen.bonds[i] > best[0]:
                free[x, y] = (int(seen.bonds[i]), shifted[i])
    sites = np.array([[x, y, 0.0] for x, y in free]).reshape(-1, 3)
    lot = numbers_of_places(10 * sites, key, 1)[:, 0]
    columns: list[Floats] = []
    taken: list[Floats] = []
    places = [column for _, column in free.values()]
    for i in lot.argsort():
        site = sites[i]
        if any(np.linalg.norm(site - other) < APART * around.bond_nm for other in taken):
            continue
        columns.append(places[i])
        taken.append(site)
        if len(columns) == n:
            return np.concatenate(columns)
    raise ValueError(
        f"adatom_columns: there is room for {len(columns)} columns only; ask for fewer, or make "
        "the particle larger"
    )


def _middle(column_nm: Floats) -> Floats:
    """Return the middle part of a column, in the order of the beam."""
    along = column_nm[np.argsort(column_nm[:, 2])]
    keep = max(LEAST_ATOMS, round(LENGTH * len(along)))
    first = max(0, (len(along) - keep) // 2)
    return np.asarray(along[first : first + keep])

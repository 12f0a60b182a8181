"""What a map of elements should show: columns by composition, atoms for each area."""

from __future__ import annotations

import numpy as np
from ase.data import chemical_symbols
from scipy.spatial import cKDTree

from nanophantom.instruments._scanning import Scan
from nanophantom.simcore.atoms import Atoms
from nanophantom.simcore.columns import find_truth_columns
from nanophantom.simcore.fields import Table


def columns_with_composition(atoms: Atoms) -> Table:
    """Return the columns, with the number of atoms of each element (``n_Ti``).

    An atom is counted with the column whose axis is nearest to it.
    """
    table = dict(find_truth_columns(atoms))
    axes = np.column_stack([table["x_nm"], table["y_nm"]])
    _, nearest = cKDTree(axes).query(atoms.positions_nm[:, :2])
    for number in np.unique(atoms.numbers):
        own = nearest[atoms.numbers == number]
        table[f"n_{chemical_symbols[number]}"] = np.bincount(own, minlength=len(axes))
    return table


def areal_density(atoms: Atoms, scan: Scan) -> Table:
    """Return a map for each element: atoms at rest in each pixel of the scan, over its area."""
    step, (height, width) = scan.pixel_size_nm, scan.shape
    pixel = np.rint(atoms.positions_nm[:, :2] / step).astype(np.int64)
    seen = np.all((pixel >= 0) & (pixel < (width, height)), axis=1)
    maps = {}
    for number in np.unique(atoms.numbers):
        x, y = pixel[seen & (atoms.numbers == number)].T
        count = np.bincount(y * width + x, minlength=height * width).reshape(height, width)
        maps[f"{chemical_symbols[number]}_per_nm2"] = count / step**2
    return maps

"""Sites of a structure file on their way to whole atoms: checked, repeated, never overlaid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from ase.neighborlist import primitive_neighbor_list

from nanophantom.simcore.atoms import Floats, Ints
from nanophantom.simcore.models import did_you_mean

OVERLAP_A = 0.5  # closer atoms lie on top of each other: the structure is wrong


@dataclass(frozen=True, eq=False)
class Sites:
    """Sites of a file with their occupancies; lengths in Å."""

    source: str
    labels: npt.NDArray[np.str_]
    numbers: Ints
    positions: Floats
    occupancies: Floats
    b_factors: Floats
    cell: Floats | None
    notes: tuple[str, ...] = ()

    def select(self, keep: npt.NDArray[np.bool_] | Ints) -> Sites:
        """Return the sites that a mask or an index array names."""
        return replace(
            self,
            labels=self.labels[keep],
            numbers=self.numbers[keep],
            positions=self.positions[keep],
            occupancies=self.occupancies[keep],
            b_factors=self.b_factors[keep],
        )

    def close_pairs(self, cutoff: float) -> tuple[Ints, Ints, Floats]:
        """Return pairs i <= j closer than the cutoff, images of the cell included."""
        cell = np.eye(3) if self.cell is None else self.cell
        i, j, d = primitive_neighbor_list(  # type: ignore[no-untyped-call]
            "ijd", [self.cell is not None] * 3, cell, self.positions, cutoff
        )
        half = i <= j
        return i[half], j[half], d[half]


def with_occupancies(sites: Sites, wanted: Mapping[str, float]) -> Sites:
    """Replace occupancies by site label."""
    values = sites.occupancies.copy()
    known = list(dict.fromkeys(sites.labels.tolist()))
    for label, value in wanted.items():
        if label not in known:
            raise ValueError(
                f"occupancies: {sites.source} has no site {label!r}{did_you_mean(label, known)}"
            )
        values[sites.labels == label] = value
    return replace(sites, occupancies=np.where(np.abs(values - 1) < 1e-6, 1.0, values))


def refuse_impossible(sites: Sites) -> None:
    """Raise for what can't be an atom."""
    unknown = sites.labels[sites.numbers < 1]
    if len(unknown):
        raise ValueError(
            f"{sites.source}: site {unknown[0]} is of no known element; name one or remove the site"
        )
    if not np.isfinite(sites.positions).all():
        bad = sites.labels[~np.isfinite(sites.positions).all(axis=1)][0]
        raise ValueError(f"{sites.source}: site {bad} has no coordinates")
    odd = ~((sites.occupancies >= 0) & (sites.occupancies <= 1))
    if odd.any():
        label, value = sites.labels[odd][0], sites.occupancies[odd][0]
        raise ValueError(
            f"{sites.source}: site {label} has occupancy {value:g}; it must lie between 0 and 1: "
            f"set it in occupancies, for example {{{label}: 1.0}}"
        )


def repeated(sites: Sites, supercell: tuple[int, int, int]) -> Sites:
    """Repeat the cell; the atoms of one cell stay together."""
    if supercell == (1, 1, 1):
        return sites
    if sites.cell is None:
        raise ValueError(f"{sites.source} has no cell and can't be repeated; leave supercell out")
    shifts = np.array(list(np.ndindex(supercell))) @ sites.cell
    many = sites.select(np.tile(np.arange(len(sites.numbers)), len(shifts)))
    return replace(
        many,
        positions=many.positions + np.repeat(shifts, len(sites.numbers), axis=0),
        cell=sites.cell * np.array(supercell)[:, None],
    )


def refuse_overlaps(atoms: Sites) -> None:
    """Raise ValueError for two atoms on top of each other."""
    i, j, distance = atoms.close_pairs(OVERLAP_A)
    if len(i):
        worst = distance.argmin()
        a, b = atoms.labels[i[worst]], atoms.labels[j[worst]]
        raise ValueError(
            f"{atoms.source}: atoms {a} and {b} are {distance[worst]:.2f} Å apart and can't both "
            "be there: remove one, or give both their occupancies"
        )

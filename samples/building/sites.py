"""Sites of a structure file on their way to whole atoms: checked, repeated, never overlaid."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from ase.data import atomic_numbers, chemical_symbols
from scipy.spatial import cKDTree

from nanophantom.simcore.atoms import Floats, Ints
from nanophantom.simcore.models import did_you_mean

OVERLAP_A = 0.5  # closer atoms lie on top of each other: the structure is wrong
B_PER_U = 8 * np.pi**2
LARGEST_B_A2 = 160.0  # U = 2 Å^2: beyond any atom that stays in its place
MOST_SITES = 2_000_000
"""A larger supercell is refused before it is built; this one takes seconds and a gigabyte or so."""


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
    tensors: Floats | None = None
    """Mean square displacements <u_i u_j> in Cartesian axes, Å^2, (n, 3, 3); NaN if not stated."""

    def select(self, keep: npt.NDArray[np.bool_] | Ints) -> Sites:
        """Return the sites that a mask or an index array names."""
        return replace(
            self,
            labels=self.labels[keep],
            numbers=self.numbers[keep],
            positions=self.positions[keep],
            occupancies=self.occupancies[keep],
            b_factors=self.b_factors[keep],
            tensors=None if self.tensors is None else self.tensors[keep],
        )

    def close_pairs(self, cutoff: float) -> tuple[Ints, Ints, Floats]:
        """Return pairs i <= j closer than the cutoff, images of the cell included.

        A pair across the cell's boundary may be there twice.
        """
        n = len(self.numbers)
        points, site = self.positions, np.arange(n)
        if self.cell is not None:
            points, site = _with_images(points, self.cell, cutoff)
        pairs = cKDTree(points).query_pairs(cutoff, output_type="ndarray")
        pairs = pairs[pairs[:, 0] < n]  # the cell's own sites come first
        distance = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
        i, j = np.sort(site[pairs], axis=1).T
        return i, j, distance


def _with_images(points: Floats, cell: Floats, margin: float) -> tuple[Floats, Ints]:
    """Return the points inside the cell, then their images within a margin around it."""
    inverse = np.linalg.inv(cell)
    fraction = points @ inverse
    fraction -= np.floor(fraction)
    site = np.arange(len(points))
    for axis in range(3):
        beyond = margin * float(np.linalg.norm(inverse[:, axis]))  # over the cell's height
        reach = int(np.ceil(beyond))
        images, sites = [fraction], [site]
        for shift in (s for s in range(-reach, reach + 1) if s):
            moved = fraction[:, axis] + shift
            near = (moved >= -beyond) & (moved <= 1 + beyond)
            images.append(fraction[near] + shift * np.eye(3)[axis])
            sites.append(site[near])
        fraction, site = np.concatenate(images), np.concatenate(sites)
    return fraction @ cell, site


def with_occupancies(sites: Sites, wanted: Mapping[str, float]) -> Sites:
    """Replace occupancies by site label."""
    values = sites.occupancies.copy()
    known = list(dict.fromkeys(sites.labels.tolist()))
    for label, value in wanted.items():
        if label not in known:
            raise ValueError(
                f"occupancies: {sites.source} has no site {label!r}{did_you_mean(label, known)}; "
                "give labels of its sites"
            )
        values[sites.labels == label] = value
    return replace(sites, occupancies=np.where(np.abs(values - 1) < 1e-6, 1.0, values))


def refuse_impossible(sites: Sites) -> None:
    """Raise for what can't be an atom."""
    unknown = sites.labels[sites.numbers < 1]
    if len(unknown):
        raise ValueError(
            f"file: site {unknown[0]} of {sites.source} is of no known element; "
            "name one in the file, or remove the site"
        )
    if not np.isfinite(sites.positions).all():
        bad = sites.labels[~np.isfinite(sites.positions).all(axis=1)][0]
        raise ValueError(
            f"file: site {bad} of {sites.source} has no coordinates; give them, or remove the site"
        )
    odd = ~((sites.occupancies >= 0) & (sites.occupancies <= 1))
    if odd.any():
        label, value = sites.labels[odd][0], sites.occupancies[odd][0]
        raise ValueError(
            f"occupancies: site {label} of {sites.source} has occupancy {value:g}, not one between "
            f"0 and 1; set it here, for example {{{label}: 1.0}}"
        )


def checked_b_factors(sites: Sites, replaced: Iterable[str]) -> Sites:
    """Refuse impossible B factors, and take those of exactly 0 for not stated.

    Those of the elements that the recipe replaces aren't looked at.
    """
    ours = np.isin(sites.numbers, [atomic_numbers[symbol] for symbol in replaced])
    odd = ~ours & ((sites.b_factors < 0) | (sites.b_factors > LARGEST_B_A2))
    if odd.any():
        label, b = sites.labels[odd][0], sites.b_factors[odd][0]
        raise ValueError(
            f"file: site {label} of {sites.source} has B = {b:.4g} Å² (U = {b / B_PER_U:.4g} Å²), "
            f"not one between 0 and {LARGEST_B_A2:g} Å²; correct the file, or give b_factors_A2"
        )
    zero = ~ours & (sites.b_factors == 0)
    if not zero.any():
        return sites
    told = ", ".join(chemical_symbols[z] for z in np.unique(sites.numbers[zero]))
    note = f"{sites.source} states B or U = 0 for sites of {told}, which was taken as not stated."
    return replace(
        sites,
        b_factors=np.where(zero, np.nan, sites.b_factors),
        notes=(*sites.notes, note),
    )


def repeated(sites: Sites, supercell: tuple[int, int, int]) -> Sites:
    """Repeat the cell; the atoms of one cell stay together."""
    if supercell == (1, 1, 1):
        return sites
    if sites.cell is None:
        raise ValueError(
            f"supercell: {sites.source} has no cell and can't be repeated; leave supercell out"
        )
    total = len(sites.numbers) * math.prod(supercell)
    if total > MOST_SITES:
        raise ValueError(
            f"supercell: {list(supercell)} of {sites.source} would hold {total:,} sites, more than "
            f"{MOST_SITES:,}; lower supercell"
        )
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
            f"file: atoms {a} and {b} of {atoms.source} are {distance[worst]:.2f} Å apart and "
            "can't both be there; remove one, or give both their occupancies"
        )

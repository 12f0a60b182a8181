"""The truth of sheets of carbon: the recipe's sheet, and every atom that differs from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from ase.data import atomic_numbers

from nanophantom.samples.building.sheet import CARBON, Sheet
from nanophantom.simcore.atoms import Floats, Ints, Window
from nanophantom.simcore.fields import Table

if TYPE_CHECKING:
    from nanophantom.samples.graphene import GrapheneSpecimen


def tables(specimen: GrapheneSpecimen) -> Mapping[str, Table]:
    """Return sheet, layers, strain field, ripples and adatoms."""
    recipe = specimen.recipe
    x, y = recipe.hole_centre_nm
    lattices = [sheet.lattice for sheet in specimen.sheets]
    number = np.arange(len(lattices))
    return {
        "sheet": {
            "bond_nm": np.array([recipe.bond_nm]),
            "spacing_nm": np.array([recipe.spacing_nm]),
            "hole_diameter_nm": np.array([recipe.hole_diameter_nm]),
            "hole_x_nm": np.array([x]),
            "hole_y_nm": np.array([y]),
            "vacancies_percent": np.array([recipe.vacancies_percent]),
            "listed_nm": np.array([recipe.listed_nm]),
        },
        "layers": {
            "layer": number,
            "z_nm": specimen.first_nm + number * recipe.spacing_nm,
            "rotation_deg": np.array([lattice.rotation_deg for lattice in lattices]),
            "moved_bonds": np.array([lattice.shift for lattice in lattices]),
        },
        "strain_field": recipe.strain_field.table(),
        "ripples": specimen.ripples.table(),
        "adatoms": adatoms(specimen),
    }


def adatoms(specimen: GrapheneSpecimen) -> Table:
    """Return element, place, kind of site and side of every adatom."""
    position = np.concatenate([np.empty((0, 3)), *(a.positions_nm for a in specimen.adatoms)])
    kinds = [kind for kind in specimen.recipe.adatoms for _ in range(kind.number)]
    return {
        "number": np.array([atomic_numbers[kind.element] for kind in kinds], np.int64),
        **dict(zip(("x_nm", "y_nm", "z_nm"), position.T, strict=True)),
        "site": np.array([kind.site for kind in kinds], "<U8"),
        "side": np.array([kind.side for kind in kinds], "<U8"),
    }


def defects(specimen: GrapheneSpecimen) -> Mapping[str, Table]:
    """Return the vacancies and substituted atoms near the origin, and all trimmed atoms."""
    square = Window.centred(specimen.recipe.listed_nm, specimen.recipe.listed_nm)
    vacancies: list[Floats] = []
    foreign: list[Floats] = []
    trimmed: list[Floats] = []
    for sheet in specimen.sheets:
        sites = sheet.lattice.sites_within(specimen.unstrained(square))
        missing = sites[sheet.vacant(sites)]
        there = sites[sheet.present(sites)]
        other = there[sheet.elements(there) != CARBON]
        vacancies.append(_listed(specimen, sheet, missing, square))
        foreign.append(_listed(specimen, sheet, other, square))
        trimmed.append(_listed(specimen, sheet, sheet.trimmed, Window.everywhere()))
    numbers = np.concatenate([rows[:, 1] for rows in foreign]).astype(np.int64)
    return {
        "vacancies": _places(vacancies),
        "substitutions": {"number": numbers, **_places(foreign)},
        "trimmed": _places(trimmed),
    }


def _listed(specimen: GrapheneSpecimen, sheet: Sheet, sites: Ints, window: Window) -> Floats:
    """Return layer, atomic number, x, y, z of sites seen in a window, shape (n, 5)."""
    layer = np.full(len(sites), sheet.lattice.number)
    rows = np.column_stack([layer, sheet.elements(sites), specimen.positions(sheet, sites)])
    return np.asarray(rows[window.holds(rows[:, 2], rows[:, 3])])


def _places(rows: list[Floats]) -> dict[str, npt.NDArray[Any]]:
    """Return rows of layer, atomic number, x, y, z as a table of places."""
    layer, _, x, y, z = np.concatenate(rows).T
    return {"layer": layer.astype(np.int64), "x_nm": x, "y_nm": y, "z_nm": z}

"""Where copies of a structure lie, and how they are turned."""

from __future__ import annotations

import math
from typing import Any, Literal

import numba
import numpy as np

from nanophantom.simcore.atoms import Floats

Arrangement = Literal["random", "grid", "line"]
_TRIES = 2000  # random places that a structure is offered before the square counts as full
_MOST_CELLS = 2000  # along an edge


def arranged(
    arrangement: Arrangement,
    number: int,
    edge_nm: float,
    spacing_nm: float | None,
    least_nm: float,
    rng: np.random.Generator,
) -> Floats:
    """Return where the centres of structures lie, shape (number, 2), x and y.

    Parameters
    ----------
    arrangement
        "random" in a square around the origin, no two nearer than `least_nm`; on a square "grid"
        row by row; or on a "line" along x.
    number
        How many.
    edge_nm
        Edge of the square.
    spacing_nm
        Of grid and line; None spreads them over the square.
    least_nm
        Least distance between two centres.
    rng
        Where random places come from.

    Raises
    ------
    ValueError
        There is no room for so many.
    """
    if arrangement == "random":
        return scattered(number, edge_nm, least_nm, rng)
    columns = number if arrangement == "line" else math.ceil(math.sqrt(number))
    step = edge_nm / columns if spacing_nm is None else spacing_nm
    if columns > 1 and (step < least_nm or (columns - 1) * step > edge_nm):
        raise ValueError(
            f"number: {columns} side by side, {step:.4g} nm apart, don't fit into {edge_nm:g} nm "
            f"with {least_nm:.4g} nm at least between centres; ask for fewer, or raise field_um"
        )
    k = np.arange(number)
    rows = math.ceil(number / columns)
    x = (k % columns - (columns - 1) / 2) * step
    y = (k // columns - (rows - 1) / 2) * step
    return np.stack([x, y], axis=1)


def scattered(number: int, edge_nm: float, least_nm: float, rng: np.random.Generator) -> Floats:
    """Return random places in a square around the origin, no two too near, shape (number, 2).

    Random sequential addition: each is tried at random places until it is far enough from all
    earlier ones.

    Raises
    ------
    ValueError
        There is no room.
    """
    most = min(_MOST_CELLS, 2 * math.isqrt(number) + 1)
    cells = int(np.clip(edge_nm // max(least_nm, 1e-9), 1, most))
    places, placed = _scatter(number, edge_nm, least_nm, cells, rng)
    if placed < number:
        raise ValueError(
            f"number: there is room for {placed} of {number} at random places {least_nm:.4g} nm "
            f"apart in a square of {edge_nm:g} nm; ask for fewer, or raise field_um"
        )
    return np.asarray(places)


@numba.njit(cache=True)
def _scatter(number: int, edge: float, least: float, cells: int, rng: Any) -> Any:
    """Place points one by one; each cell, as wide as the distance or wider, holds a chain."""
    places = np.empty((number, 2))
    first = np.full((cells, cells), -1, np.int64)
    behind = np.empty(number, np.int64)
    for k in range(number):
        for trial in range(_TRIES + 1):
            if trial == _TRIES:
                return places, k
            x, y = rng.random(), rng.random()
            column, row = int(x * cells), int(y * cells)
            x, y = (x - 0.5) * edge, (y - 0.5) * edge
            free = True
            for r in range(max(row - 1, 0), min(row + 2, cells)):
                for c in range(max(column - 1, 0), min(column + 2, cells)):
                    j = first[r, c]
                    while free and j >= 0:
                        dx, dy = places[j, 0] - x, places[j, 1] - y
                        free = dx * dx + dy * dy >= least * least
                        j = behind[j]
            if free:
                places[k, 0], places[k, 1] = x, y
                behind[k] = first[row, column]
                first[row, column] = k
                break
    return places, number


def turned(angle_deg: Floats, tilt_deg: Floats, tilt_direction_deg: Floats) -> Floats:
    """Return rotations, shape (n, 3, 3): in the plane first, then tilted.

    Parameters
    ----------
    angle_deg
        In-plane rotation, from x to y.
    tilt_deg, tilt_direction_deg
        By how much the normal leans, and to which side, from x to y.
    """
    spin, lean, side = (np.deg2rad(a) for a in (angle_deg, tilt_deg, tilt_direction_deg))
    return _about_z(side) @ _about_y(lean) @ _about_z(spin - side)


def _about_z(angle: Floats) -> Floats:
    c, s, zero, one = np.cos(angle), np.sin(angle), np.zeros_like(angle), np.ones_like(angle)
    return np.stack([c, -s, zero, s, c, zero, zero, zero, one], axis=-1).reshape(-1, 3, 3)


def _about_y(angle: Floats) -> Floats:
    c, s, zero, one = np.cos(angle), np.sin(angle), np.zeros_like(angle), np.ones_like(angle)
    return np.stack([c, zero, s, zero, one, zero, -s, zero, c], axis=-1).reshape(-1, 3, 3)

"""Random numbers that belong to places: what chance put somewhere doesn't depend on the view.

A place (the integers of a cell or of a lattice point) and a key are hashed; the hash counts on
through a SplitMix64 generator (G. L. Steele, D. Lea & C. H. Flood, OOPSLA 2014).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from nanophantom.simcore.atoms import Floats, Ints

CELL_NM = 0.25
"""Edge of the cells of space to which arrivals belong."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@numba.njit(cache=True)
def white_noise(first_x: int, first_y: int, nx: int, ny: int, layer: int, key: Any) -> Floats:
    """Return independent standard normal numbers of the points of a lattice, shape (ny, nx).

    Parameters
    ----------
    first_x, first_y
        Indices of the first point along both axes of the endless lattice.
    nx, ny
        Number of points.
    layer
        Which of many independent lattices.
    key
        A numpy.uint64 that chooses the realization.
    """
    noise = np.empty((ny, nx))
    for i in range(ny):
        for j in range(nx):
            state = _state_of(first_x + j, first_y + i, layer, 0, key)
            u = _uniform(state)
            v = _uniform(state + _GOLDEN)
            noise[i, j] = np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v)  # Box and Muller
    return noise


@numba.njit(cache=True)
def _mixed(state: Any) -> Any:
    """SplitMix64's output function: every bit of the state reaches every bit."""
    z = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@numba.njit(cache=True)
def _uniform(state: Any) -> Any:
    return (np.float64(_mixed(state) >> np.uint64(11)) + 0.5) / 9007199254740992.0


@numba.njit(cache=True)
def _state_of(ix: int, iy: int, iz: int, kind: int, key: Any) -> Any:
    state = _mixed(key + np.uint64(ix))
    state = _mixed(state + np.uint64(iy))
    state = _mixed(state + np.uint64(iz))
    return _mixed(state + np.uint64(kind))


@numba.njit(cache=True)
def _poisson(mean: float, uniform: float) -> int:
    """Invert the cumulative distribution; for means of a few."""
    term = np.exp(-mean)
    total, n = term, 0
    while uniform > total and n < 1000:
        n += 1
        term *= mean / n
        total += term
    return n


@numba.njit(cache=True)
def arrivals(
    first: Ints, last: Ints, progress: Floats, per_nm3: Floats, density: float, key: Any
) -> Any:
    """Return the units that arrive in a block of cells, in the order of the cells.

    Parameters
    ----------
    first, last
        Indices of the block's cells along the three axes, the last ones not included.
    progress, per_nm3
        When units of each kind arrive: see `Packing`.
    density
        Where the addition ends.
    key
        A numpy.uint64 that chooses the realization.

    Returns
    -------
    time, kind, centre_nm, turn
        Shapes (n,), (n,), (n, 3), (n, 3); three uniform numbers that make a rotation.
    """
    kinds = per_nm3.shape[0]
    volume = CELL_NM**3
    wanted = np.empty(kinds)
    for kind in range(kinds):
        wanted[kind] = np.interp(density, progress, per_nm3[kind])
    n = 0
    for pass_ in range(2):
        if pass_ == 1:
            time = np.empty(n)
            what = np.empty(n, np.int64)
            centre = np.empty((n, 3))
            turn = np.empty((n, 3))
            n = 0
        for ix in range(first[0], last[0]):
            for iy in range(first[1], last[1]):
                for iz in range(first[2], last[2]):
                    for kind in range(kinds):
                        state = _state_of(ix, iy, iz, kind, key)
                        count = _poisson(wanted[kind] * volume, _uniform(state))
                        if pass_ == 0:
                            n += count
                            continue
                        for _ in range(count):
                            state += _GOLDEN
                            arrived = _uniform(state) * wanted[kind]
                            time[n] = np.interp(arrived, per_nm3[kind], progress)
                            what[n] = kind
                            state += _GOLDEN
                            centre[n, 0] = (ix + _uniform(state)) * CELL_NM
                            state += _GOLDEN
                            centre[n, 1] = (iy + _uniform(state)) * CELL_NM
                            state += _GOLDEN
                            centre[n, 2] = (iz + _uniform(state)) * CELL_NM
                            for axis in range(3):
                                state += _GOLDEN
                                turn[n, axis] = _uniform(state)
                            n += 1
    return time, what, centre, turn

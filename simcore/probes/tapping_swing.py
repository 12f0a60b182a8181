"""Tapping in time: what `loop_kernels.advance_tapping` looks up to follow the swing of a lever.

The swing is x = u sin(w0 t) - v cos(w0 t), u = A sin(phase) and v = -A cos(phase), (A0, 0) when
free. In the mean over a cycle (Krylov, Bogoliubov and Mitropolsky; tau = 2 Q / w0) the drive pulls
it towards the free swing, the surface's force in phase with the motion turns its phase, and what
the sample dissipates brakes it:

    dA/dt     = (A0 sin(phase) - A - Q E_dis / (pi k A)) / tau
    dphase/dt = (A0 cos(phase) + 2 Q <F cos(w0 t - phase)> / k) / (A tau)

An amplitude that simply relaxes to its steady value in tau, as often assumed, is nanometres off:
a tip that leaves the surface first has to find its phase, one that hits it rings.

Below `AVERAGED_FROM_Q`, where averaging fails and tau is a few cycles, the swing relaxes to the
steady one in tau.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.parallel import map_threads
from nanophantom.simcore.probes.cantilever import Cantilever
from nanophantom.simcore.probes.tapping import AVERAGED_FROM_Q, followed
from nanophantom.simcore.probes.tapping_kernels import REACH_NM, inwards, surface_rows, tap_of
from nanophantom.simcore.surfaces import Material

Floats = npt.NDArray[np.float64]


class TappingTable(NamedTuple):
    """What `advance_tapping` looks up, for each material."""

    values: Floats
    """(materials, roots, gaps, 2). Averaged: turn of the phase and loss of amplitude in a ring-down
    time, each times sqrt(A)^3, which makes them nearly independent of A; at sqrt(A) = root_step
    (1 + i) and d - A = start_nm + step_nm j. Followed (one root): the two quadratures of the steady
    swing at d = start_nm + step_nm j."""
    averaged: bool
    free_nm: float
    roots_per_step: float
    """1 / root_step, the square root of nm."""
    start_nm: float
    steps_per_nm: float
    """1 / step_nm."""


def tapping_table(
    lever: Cantilever,
    free_amplitude_nm: float,
    radius_nm: float,
    materials: Sequence[Material],
    *,
    step_nm: float = 0.02,
    roots: int = 24,
) -> TappingTable:
    """Return what `advance_tapping` needs to know of lever, tip and materials.

    Parameters
    ----------
    lever, free_amplitude_nm, radius_nm
        The lever, the amplitude with which its drive makes it swing freely, the tip's radius.
    materials
        What the tip may tap on; `advance_tapping` names them by their place here.
    step_nm, roots
        Step of the table in the gap and its size in the amplitude.

    Raises
    ------
    ValueError
        For no materials, or a radius, an amplitude or a step that isn't positive.
    """
    if not (free_amplitude_nm > 0 and radius_nm > 0 and step_nm > 0 and materials):
        raise ValueError(
            "tapping needs materials and positive free_amplitude_nm, radius_nm and step_nm"
        )
    averaged = lever.quality_factor >= AVERAGED_FROM_Q
    # The lever's rest position may lie deep below the surface, its swing as deep again.
    start = -2.0 * free_amplitude_nm if averaged else -free_amplitude_nm
    stop = REACH_NM if averaged else REACH_NM + free_amplitude_nm
    grid = start + step_nm * np.arange(math.ceil((stop - start) / step_nm) + 1)
    root_step = math.sqrt(1.1 * free_amplitude_nm) / roots
    values = np.empty((len(materials), roots if averaged else 1, grid.size, 2))
    for material, of_material in zip(materials, values, strict=True):
        if averaged:
            tap = tap_of(lever, free_amplitude_nm, radius_nm, material)
            amplitudes = (root_step * (1 + np.arange(roots))) ** 2
            of_roots = _at_amplitudes(tap, amplitudes.tolist(), start, step_nm)
            for of_root, rows in zip(of_material, of_roots, strict=True):
                for j in range(2):
                    of_root[:, j] = np.interp(grid, rows[:, 0], rows[:, 1 + j])
        else:
            rows = followed(lever, free_amplitude_nm, radius_nm, material)
            lag = np.radians(rows[:, 2])
            swing = rows[:, 1] * np.sin(lag), -rows[:, 1] * np.cos(lag)
            for j, column in enumerate(swing):
                of_material[0, :, j] = np.interp(grid, rows[:, 0], column)
    return TappingTable(
        values, averaged, float(free_amplitude_nm), 1.0 / root_step, start, 1.0 / step_nm
    )


def _at_amplitudes(tap: Any, amplitudes: list[float], start: float, step: float) -> list[Floats]:
    """Return the rows of `surface_rows` by growing distance, at each amplitude."""
    return map_threads(
        lambda _, amplitude: inwards(surface_rows(tap, amplitude, start, step)),
        amplitudes,
        lambda: None,
    )


def thermal_kick_nm(lever: Cantilever, dt_s: float) -> float:
    """Return the rms of what heat adds to each quadrature of the amplitude in a time step.

    Both are Ornstein-Uhlenbeck processes of variance kT / k that relax in a ring-down time: after
    `advance_tapping` add this times a normal number to each.
    """
    return lever.thermal_rms_nm * math.sqrt(-math.expm1(-2.0 * dt_s / lever.ring_down_s))

"""Tapping in time: how the swing of a lever answers a surface that comes and goes.

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

import cmath
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from nanophantom.simcore.probes.cantilever import Cantilever
from nanophantom.simcore.probes.tapping import AVERAGED_FROM_Q, followed
from nanophantom.simcore.probes.tapping_kernels import REACH_NM, inwards, surface_rows, tap_of
from nanophantom.simcore.surfaces import Material

Floats = npt.NDArray[np.float64]

SUBSTEP = 0.05
"""Longest step of `advance_tapping`, in ring-down times."""


class TappingTable(NamedTuple):
    """What `advance_tapping` looks up, for each material."""

    values: Floats
    """(materials, roots, gaps, 4). Averaged: turn of the phase and loss of amplitude in a ring-down
    time, mean force, each times sqrt(A), which makes them nearly independent of it, and peak force;
    at sqrt(A) = root_step (1 + i) and d - A = start_nm + step_nm j. Followed (one root): the two
    quadratures of the steady swing, mean and peak force at d = start_nm + step_nm j."""
    averaged: bool
    free_nm: float
    stiffness_n_per_m: float
    root_step: float
    start_nm: float
    step_nm: float


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
    stiffness = lever.stiffness_n_per_m
    # The lever's rest position may lie deep below the surface, its swing as deep again.
    start = -2.0 * free_amplitude_nm if averaged else -free_amplitude_nm
    stop = REACH_NM if averaged else REACH_NM + free_amplitude_nm
    grid = start + step_nm * np.arange(math.ceil((stop - start) / step_nm) + 1)
    root_step = math.sqrt(1.1 * free_amplitude_nm) / roots
    values = np.empty((len(materials), roots if averaged else 1, grid.size, 4))
    for material, of_material in zip(materials, values, strict=True):
        if averaged:
            tap = tap_of(lever, free_amplitude_nm, radius_nm, material)
            for i, of_root in enumerate(of_material):
                rows = inwards(surface_rows(tap, (root_step * (1 + i)) ** 2, start, step_nm))
                for j in range(4):
                    of_root[:, j] = np.interp(grid, rows[:, 0], rows[:, 1 + j])
        else:
            rows = followed(lever, free_amplitude_nm, radius_nm, material)
            lag = np.radians(rows[:, 2])
            swing = rows[:, 1] * np.sin(lag), -rows[:, 1] * np.cos(lag), rows[:, 3], rows[:, 4]
            for j, column in enumerate(swing):
                of_material[0, :, j] = np.interp(grid, rows[:, 0], column)
    return TappingTable(
        values, averaged, float(free_amplitude_nm), stiffness, root_step, start, step_nm
    )


@numba.njit(cache=True, nogil=True)
def advance_tapping(
    u_nm: float, v_nm: float, distance_nm: float, ring_downs: float, material: int, table: Any
) -> Any:
    """Return the swing after a time at a distance, and the forces of the surface there.

    Exponential midpoint rule: the linear relaxation at the rates of turn and loss that hold at
    the amplitude half a step on, exactly; steps are as short as the contact asks for.

    Largest errors against `tapping_ode`, k = 40 N/m, A0 = 20 nm, from 0.8 A0, Q 150 to 400: free
    growth 0.03 nm; a step up of 1, 2, 3, 5 nm onto 1 to 5 GPa 0.1, 0.2, 0.3, 0.7 nm, onto 70 GPa
    0.8, 1.8, 2.4, 3.3 nm, for some tenths of a ring-down time; peak forces then come out by 3 to
    25 % too low. Beyond that the tip hits several times a cycle, no averaging holds, and the
    amplitude may be several nm off until it has settled. Below `AVERAGED_FROM_Q` the steady state
    is exact and the way there, a few cycles, good to a fifth of the change (Q up to 5).

    Parameters
    ----------
    u_nm, v_nm
        Quadratures of the swing, A sin(phase) and -A cos(phase): (A0, 0) when free. The amplitude
        is hypot(u, v), the phase lag 90 degrees + atan2(v, u).
    distance_nm
        Distance of the lever's rest position from the surface.
    ring_downs
        The time, in units of the lever's `ring_down_s`.
    material
        Which of the table's materials.
    table
        From `tapping_table`.

    Returns
    -------
    u_nm, v_nm, mean_force_nn, peak_force_nn
        The swing, and mean and greatest force over a cycle towards the end of the time.
    """
    if not table.averaged:
        aim_u, aim_v, mean, peak, _ = _look_up(table, material, 0.0, 0, distance_nm)
        kept, deeper = math.exp(-ring_downs), _below(table, distance_nm)
        u_nm, v_nm = aim_u + kept * (u_nm - aim_u), aim_v + kept * (v_nm - aim_v)
        return u_nm, v_nm, mean + deeper, peak + deeper
    swing, left = complex(u_nm, v_nm), ring_downs
    mean = peak = 0.0
    while left > 1e-9:
        turn, loss, mean, peak, slope = _surface(table, material, abs(swing), distance_nm)
        # Amplitude and phase swing about the steady state at the rate sqrt(A0 slope).
        h = min(left, SUBSTEP, max(0.5 / math.sqrt(table.free_nm * slope + 1e-9), 1e-3))
        middle = _relaxed(swing, table.free_nm, turn, loss, 0.5 * h)
        turn, loss, mean, peak, slope = _surface(table, material, abs(middle), distance_nm)
        swing = _relaxed(swing, table.free_nm, turn, loss, h)
        left -= h
    return swing.real, swing.imag, mean, peak


@numba.njit(cache=True, nogil=True, inline="always")
def _relaxed(swing: complex, free: float, turn: float, loss: float, h: float) -> Any:
    """Return the swing after h ring-downs at constant rates: a' = A0 - (1 + loss - i turn) a."""
    rate = complex(1.0 + loss, -turn)
    aim = free / rate
    return aim + (swing - aim) * cmath.exp(-rate * h)


@numba.njit(cache=True, nogil=True, inline="always")
def _surface(table: Any, material: int, amplitude: float, distance: float) -> Any:
    """Return the rates of turn and loss, mean and peak force, and |d turn / d gap|."""
    gap = distance - amplitude
    if gap >= REACH_NM:
        return 0.0, 0.0, 0.0, 0.0, 0.0
    # Below the table's least amplitude turn and loss no longer depend on it.
    root = max(math.sqrt(amplitude), table.root_step)
    place = root / table.root_step - 1.0
    row = min(int(place), table.values.shape[1] - 2)
    share = min(place - row, 1.0)
    turn, loss, mean, peak, rise = _look_up(table, material, share, row, gap)
    cube, deeper = root * root * root, _below(table, gap)
    slope = abs(rise) / (cube * table.step_nm)
    return turn / cube, loss / cube, mean / root + deeper, peak + deeper, slope


@numba.njit(cache=True, nogil=True, inline="always")
def _below(table: Any, at_nm: float) -> Any:
    """Return the force of the lever's own spring, bent deeper than the table reaches."""
    return max(table.start_nm - at_nm, 0.0) * table.stiffness_n_per_m


@numba.njit(cache=True, nogil=True, inline="always")
def _look_up(table: Any, material: int, share: float, row: int, at_nm: float) -> Any:
    """Return the four values and by how much the first rises to the next gap; ends go on."""
    values = table.values
    last = values.shape[2] - 1
    place = (at_nm - table.start_nm) / table.step_nm
    place = min(max(place, 0.0), last - 1e-9)
    j = int(place)
    p = place - j
    other = min(row + 1, values.shape[1] - 1)
    a, b = values[material, row, j], values[material, row, j + 1]
    c, d = values[material, other, j], values[material, other, j + 1]
    w, x, y, z = (1 - share) * (1 - p), (1 - share) * p, share * (1 - p), share * p
    return (
        w * a[0] + x * b[0] + y * c[0] + z * d[0],
        w * a[1] + x * b[1] + y * c[1] + z * d[1],
        w * a[2] + x * b[2] + y * c[2] + z * d[2],
        w * a[3] + x * b[3] + y * c[3] + z * d[3],
        (1 - share) * (b[0] - a[0]) + share * (d[0] - c[0]),
    )


def thermal_kick_nm(lever: Cantilever, dt_s: float) -> float:
    """Return the rms of what heat adds to each quadrature of the amplitude in a time step.

    Both are Ornstein-Uhlenbeck processes of variance kT / k that relax in a ring-down time: after
    `advance_tapping` add this times a normal number to each.
    """
    return lever.thermal_rms_nm * math.sqrt(-math.expm1(-2.0 * dt_s / lever.ring_down_s))

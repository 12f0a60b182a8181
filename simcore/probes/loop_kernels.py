"""The compiled inner loop of a force microscope: lever, detector, controller, stage, in steps.

Kernels that call each other live in one file, since numba's cache doesn't see a callee elsewhere
that was edited.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from nanophantom.simcore.probes.tapping_kernels import REACH_NM

Floats = npt.NDArray[np.float64]

SUBSTEP = 0.05
"""Longest step of `advance_tapping`, in ring-down times."""
CLOSE = 0.02
"""Rates whose integral over a step differs by less than this are the same."""
JUMP_NM = 0.05
"""A surface that comes nearer or farther by more than this, from one step to the next, jumps."""


@numba.njit(cache=True, nogil=True)
def advance_tapping(
    u_nm: float,
    v_nm: float,
    turn: float,
    loss: float,
    before_nm: float,
    distance_nm: float,
    ring_downs: float,
    material: int,
    table: Any,
) -> Any:
    """Return the swing of a tapping lever after a time at a distance.

    In units of the ring-down time the complex swing a = u + i v obeys a' = A0 - (1 + loss - i turn)
    a, where the surface sets the rates of turn and loss by the amplitude (`tapping_swing`). They
    are taken at the amplitude half a step on, which those of the step before predict; the step is
    Cayley's (the trapezoidal rule), which keeps a turning swing its length. Steps are as short as
    the contact asks for.

    Largest errors of the amplitude against `tapping_ode`, k = 40 N/m, A0 = 20 nm, 0.8 A0, Q 150
    to 400, 5 to 70 GPa, in steps of 0.05 ring-downs: a surface that rises by 6 nm at 2 um/s 0.1 nm,
    at 10 um/s 0.3 nm, one that falls 0.07 nm; one that waves by 1 nm at 500 Hz 0.1 nm, at 2 kHz
    0.5 nm; free growth 0.03 nm. A jump up within one step: of 1 nm 0.6 nm, of 3 nm and more onto
    5 GPa and stiffer several nm for some tenths of a ring-down: there the tip hits several times a
    cycle and no averaging holds. Below `AVERAGED_FROM_Q` the steady state is exact and the way
    there, a few cycles, good to a fifth of the change (Q up to 5).

    Parameters
    ----------
    u_nm, v_nm
        Quadratures of the swing, A sin(phase) and -A cos(phase): (A0, 0) when free. The amplitude
        is hypot(u, v), the phase lag 90 degrees + atan2(v, u).
    turn, loss
        Rates that this function returned last; 0 to begin with.
    before_nm
        Distance at which they were; inf to begin with.
    distance_nm
        Distance of the lever's rest position from the surface.
    ring_downs
        The time, in units of the lever's `ring_down_s`.
    material
        Which of the table's materials.
    table
        From `tapping_swing.tapping_table`.

    Returns
    -------
    u_nm, v_nm, turn, loss, distance_nm
        The swing, the surface's rates, and where: the first five arguments of the next call.
    """
    free = table.free_nm
    if not table.averaged:
        values = table.values[material, 0]
        place = (distance_nm - table.start_nm) * table.steps_per_nm
        place = min(max(place, 0.0), values.shape[0] - 1.000001)
        j = int(place)
        a, b, p = values[j], values[j + 1], place - j
        aim_u, aim_v = a[0] + p * (b[0] - a[0]), a[1] + p * (b[1] - a[1])
        kept = math.exp(-ring_downs)
        u_nm, v_nm = aim_u + kept * (u_nm - aim_u), aim_v + kept * (v_nm - aim_v)
        return u_nm, v_nm, 0.0, 0.0, distance_nm
    left, longest = ring_downs, SUBSTEP
    known = abs(distance_nm - before_nm) < JUMP_NM
    while left > 1e-9:
        turned, lost, h = turn, loss, min(left, longest)
        if known:
            amplitude = _midway(u_nm, v_nm, free, turn, loss, h)
            turn, loss, longest = _rates(table, material, amplitude, distance_nm)
            known = h < 1.5 * longest and h * (abs(turn - turned) + abs(loss - lost)) < CLOSE
        if not known:  # the rates change too quickly to be foretold from the step before
            amplitude = math.sqrt(u_nm * u_nm + v_nm * v_nm)
            turn, loss, longest = _rates(table, material, amplitude, distance_nm)
            h = min(left, longest)
            amplitude = _midway(u_nm, v_nm, free, turn, loss, h)
            turn, loss, longest = _rates(table, material, amplitude, distance_nm)
            known = True
        # (1 + h r / 2) a_new = (1 - h r / 2) a + h A0, r = 1 + loss - i turn
        c, e = 0.5 * h * (1.0 + loss), 0.5 * h * turn
        right_u = (1.0 - c) * u_nm - e * v_nm + h * free
        right_v = (1.0 - c) * v_nm + e * u_nm
        norm = 1.0 / ((1.0 + c) * (1.0 + c) + e * e)
        u_nm = norm * ((1.0 + c) * right_u - e * right_v)
        v_nm = norm * ((1.0 + c) * right_v + e * right_u)
        left -= h
    return u_nm, v_nm, turn, loss, distance_nm


@numba.njit(cache=True, nogil=True, inline="always")
def _midway(u: float, v: float, free: float, turn: float, loss: float, h: float) -> float:
    """Return the amplitude half a step on, at given rates."""
    mid_u = u + 0.5 * h * (free - (1.0 + loss) * u - turn * v)
    mid_v = v + 0.5 * h * (turn * u - (1.0 + loss) * v)
    return math.sqrt(mid_u * mid_u + mid_v * mid_v)


@numba.njit(cache=True, nogil=True, inline="always")
def _rates(table: Any, material: int, amplitude: float, distance: float) -> Any:
    """Return the rates of turn and loss, and the longest step that they allow."""
    gap = distance - amplitude
    if gap >= REACH_NM:
        return 0.0, 0.0, SUBSTEP
    values = table.values[material]
    # Below the table's least amplitude turn and loss no longer depend on it.
    root = max(math.sqrt(amplitude), 1.0 / table.roots_per_step)
    place = root * table.roots_per_step - 1.0
    i = min(int(place), values.shape[0] - 2)
    q = min(place - i, 1.0)
    place = (gap - table.start_nm) * table.steps_per_nm
    place = min(max(place, 0.0), values.shape[1] - 1.000001)
    j = int(place)
    p = place - j
    low, high = values[i], values[i + 1]
    scale = 1.0 / (root * root * root)
    near = low[j, 0] + q * (high[j, 0] - low[j, 0])
    far = low[j + 1, 0] + q * (high[j + 1, 0] - low[j + 1, 0])
    near_loss = low[j, 1] + q * (high[j, 1] - low[j, 1])
    far_loss = low[j + 1, 1] + q * (high[j + 1, 1] - low[j + 1, 1])
    turn = scale * (near + p * (far - near))
    # Amplitude and phase swing about the steady state at the rate sqrt(A0 |d turn / d gap|).
    square = max(table.free_nm * scale * abs(far - near) * table.steps_per_nm, turn * turn)
    longest = SUBSTEP if square < 100.0 else max(0.5 / math.sqrt(square), 1e-3)
    return turn, scale * (near_loss + p * (far_loss - near_loss)), longest


@numba.njit(cache=True, nogil=True)
def follow_line(
    loop: Any,
    tapping: Any,
    contact: Any,
    land: Any,
    x_nm: Floats,
    y_nm: Floats,
    raised_nm: Floats,
    steps: int,
    state: Floats,
    drives: Floats,
    thermal: npt.NDArray[np.float32],
    noise: npt.NDArray[np.float32],
    out: Floats,
) -> None:
    """Follow the surface along one line, trace and retrace.

    Parameters
    ----------
    loop, tapping, contact, land
        `Loop`, `TappingTable`, `ContactTable` and `Landscape`; of the tables, that of the mode is
        used.
    x_nm, y_nm : (m,)
        Where the tip is at the middle of each dwell; between them it moves evenly.
    raised_nm : (m,)
        How much the surface is raised then (drift, disturbances).
    steps
        Steps of the loop in a dwell.
    state, drives
        Those of `LoopState`; moved on.
    thermal : (ceil(m steps / loop.shaken_every), 2) or (0, 2)
        Normal numbers of the lever's thermal motion; empty for a quiet one.
    noise : (m steps,) or (0,)
        Those of the detector's noise.
    out : (4, m)
        Means over each dwell: stage, detected value, phase of the mean swing, surface as felt.
    """
    z, speed, integral, u, v, turn, loss, before_nm, detected, shaken, touching = state
    a, b, c, d, e, f = loop.stage
    ring_downs = loop.dt_s / loop.ring_down_s
    kept = math.exp(-ring_downs * loop.shaken_every)
    # Between kicks the scatter decays; the mean over the steps is that of equipartition.
    shake = loop.thermal_nm * math.sqrt(-math.expm1(-2.0 * ring_downs) * loop.shaken_every)
    m, drawn = x_nm.shape[0], 0
    a_column, a_row = 1.0 / land.step_x_nm, 1.0 / land.step_y_nm
    for j in range(m):
        before, after = max(j - 1, 0), min(j + 1, m - 1)
        column, row = (x_nm[j] - land.x0_nm) * a_column, (y_nm[j] - land.y0_nm) * a_row
        sum_z = sum_value = sum_u = sum_v = sum_height = 0.0
        for i in range(steps):
            part = (i + 0.5) / steps - 0.5
            other = after if part > 0 else before
            w = abs(part)
            height, material = _felt(
                land,
                column + w * a_column * (x_nm[other] - x_nm[j]),
                row + w * a_row * (y_nm[other] - y_nm[j]),
            )
            height += raised_nm[j] + w * (raised_nm[other] - raised_nm[j])
            s = z - height
            kick = drawn // loop.shaken_every
            shaking = thermal.shape[0] > 0 and kick * loop.shaken_every == drawn
            if loop.tapping:
                u, v, turn, loss, before_nm = advance_tapping(
                    u, v, turn, loss, before_nm, s, ring_downs, material, tapping
                )
                if shaking:
                    u += shake * thermal[kick, 0]
                    v += shake * thermal[kick, 1]
                seen = math.sqrt(u * u + v * v)
            else:
                if touching > 0.0:
                    if s > contact.lets_go_nm[material]:
                        touching = 0.0
                elif s < contact.snaps_nm[material]:
                    touching = 1.0
                if touching > 0.0:
                    seen = _look_up(contact.touching_nm, material, s, contact)
                    shaken = 0.0  # the contact is much stiffer than the lever
                else:
                    seen = _look_up(contact.free_nm, material, s, contact)
                    if shaking:
                        shaken = kept * shaken + shake * thermal[kick, 0]
                    seen += shaken
            if noise.shape[0]:
                seen += loop.detector_nm * noise[drawn]
            detected += loop.detected_share * (seen - detected)
            push = loop.setpoint_nm - detected if loop.tapping else detected - loop.setpoint_nm
            integral += loop.integral_per_s * loop.dt_s * push
            integral = min(max(integral, loop.low_nm), loop.high_nm)  # no wind-up
            drive = integral + loop.proportional * push
            drive = min(max(drive, loop.low_nm), loop.high_nm)
            for k in range(drives.shape[0] - 1):
                drives[k] = drives[k + 1]
            drives[-1] = drive
            drawn += 1
            sum_z += z
            sum_value += detected
            sum_u += u
            sum_v += v
            sum_height += height
            z, speed = a * z + b * speed + c * drives[0], d * z + e * speed + f * drives[0]
        out[0, j] = sum_z / steps
        out[1, j] = sum_value / steps
        out[2, j] = 90.0 + math.degrees(math.atan2(sum_v, sum_u))
        out[3, j] = sum_height / steps
    state[:] = z, speed, integral, u, v, turn, loss, before_nm, detected, shaken, touching


@numba.njit(cache=True, nogil=True)
def felt_at(land: Any, x: float, y: float) -> Any:
    """Return height and material at a point."""
    return _felt(land, (x - land.x0_nm) / land.step_x_nm, (y - land.y0_nm) / land.step_y_nm)


@numba.njit(cache=True, nogil=True, inline="always")
def _felt(land: Any, column: float, row: float) -> Any:
    """Return height (bilinear) and material (nearest) at a place among samples; edges go on."""
    h = land.heights_nm
    ny, nx = h.shape
    u, v = min(max(column, 0.0), nx - 1.0), min(max(row, 0.0), ny - 1.0)
    j, i = min(int(u), nx - 2), min(int(v), ny - 2)
    p, q = u - j, v - i
    top = h[i, j] + p * (h[i, j + 1] - h[i, j])
    low = h[i + 1, j] + p * (h[i + 1, j + 1] - h[i + 1, j])
    material = land.material[int(v + 0.5), int(u + 0.5)]
    return top + q * (low - top) - land.over_nm[material], material


@numba.njit(cache=True, nogil=True, inline="always")
def _look_up(table: Floats, material: int, s: float, contact: Any) -> Any:
    """Interpolate a table; before its start and beyond its end it goes on straight."""
    u = (s - contact.start_nm) / contact.step_nm
    i = min(max(int(u), 0), table.shape[1] - 2)
    return table[material, i] + (u - i) * (table[material, i + 1] - table[material, i])

"""Averages of the tip's forces over a cycle of tapping, and the steady swings they allow.

The lever moves harmonically, x = A cos(w0 t - phase), about its mean position, which lies above
its rest position by <F> / k. With the force of `interaction` and the drag
eta sqrt(R indentation) dx/dt of Kelvin and Voigt, a steady state balances energy and virial
(J. P. Cleveland et al., Appl. Phys. Lett. 72 (1998) 2613; A. San Paulo & R. Garcia, Phys. Rev. B
64 (2001) 193411):

    sin(phase) =  A / A0 + Q E_dis / (pi k A0 A)
    cos(phase) = -2 Q <F cos(w0 t - phase)> / (k A0)

Thin layers on a hard support push back as `interaction` says.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from nanophantom.simcore.probes.cantilever import Cantilever
from nanophantom.simcore.probes.interaction import CONTACT_NM, force_nn
from nanophantom.simcore.surfaces import Material

Floats = npt.NDArray[np.float64]

REACH_NM = 5.0
"""Gap beyond which the surface isn't felt."""


class Tap(NamedTuple):
    """Constants of lever, tip and sample."""

    k: float
    q: float
    free: float
    radius: float
    e_star: float
    adhesion: float
    thickness: float
    """Of the layer; infinite for a half-space."""
    drag: float
    """Drag over sqrt(R indentation) and dx/dtheta, nN / nm^2."""
    nodes: Floats
    """Of Gauss and Legendre, on 0 .. 1."""
    weights: Floats


def tap_of(
    lever: Cantilever, free_amplitude_nm: float, radius_nm: float, material: Material
) -> Tap:
    """Return the constants of a lever that taps on a material."""
    nodes, weights = np.polynomial.legendre.leggauss(20)
    return Tap(
        lever.stiffness_n_per_m,
        lever.quality_factor,
        float(free_amplitude_nm),
        float(radius_nm),
        material.reduced_modulus_gpa,
        material.work_of_adhesion_mj_per_m2,
        material.depth_nm,
        1e-9 * material.viscosity_pa_s * lever.omega_per_s,
        0.5 * (nodes + 1.0),
        0.5 * weights,
    )


@numba.njit(cache=True, nogil=True)
def _cycle(tap: Any, gap: float, amplitude: float) -> Any:
    """Return <F>, <F cos> and the work of the drag over a cycle whose lowest point is at `gap`.

    Quadrature over the angle from the lowest point, z = gap + A (1 - cos angle), in two parts:
    in contact, where F goes as the 3/2 power of the way to its edge, and above, where 1 / z^2 asks
    for nodes close to the surface.
    """
    mean = first = work = edge = 0.0
    if gap < CONTACT_NM:
        edge = math.acos(max(1.0 - (CONTACT_NM - gap) / amplitude, -1.0))
        for i in range(tap.nodes.size):
            beta = 0.5 * math.pi * tap.nodes[i]
            angle = edge * math.sin(beta)
            share = 0.5 * edge * math.cos(beta) * tap.weights[i]  # of the half cycle
            z = gap + 2.0 * amplitude * math.sin(0.5 * angle) ** 2
            force = share * force_nn(z, tap.radius, tap.e_star, tap.adhesion, tap.thickness)
            mean += force
            first -= force * math.cos(angle)
            if tap.drag > 0.0:
                drag = tap.drag * math.sqrt(tap.radius * max(CONTACT_NM - z, 0.0))
                work += 2.0 * math.pi * share * drag * (amplitude * math.sin(angle)) ** 2
    if tap.adhesion > 0.0 and edge < math.pi:
        nearest = max(gap, CONTACT_NM)
        scale = math.sqrt(2.0 * nearest / amplitude)
        if edge > 0.0:
            scale = min(scale, nearest / (amplitude * math.sin(edge)))
        reach = math.asinh((math.pi - edge) / scale)
        for i in range(tap.nodes.size):
            angle = edge + scale * math.sinh(reach * tap.nodes[i])
            share = reach * tap.weights[i] * scale * math.cosh(reach * tap.nodes[i]) / math.pi
            z = gap + 2.0 * amplitude * math.sin(0.5 * angle) ** 2
            force = share * force_nn(z, tap.radius, tap.e_star, tap.adhesion, tap.thickness)
            mean += force
            first -= force * math.cos(angle)
    return mean, first, work


@numba.njit(cache=True, nogil=True)
def _peak(tap: Any, gap: float, amplitude: float) -> Any:
    """Return the greatest force over a cycle: at an end, or on the way in where drag helps."""
    peak = max(
        force_nn(gap, tap.radius, tap.e_star, tap.adhesion, tap.thickness),
        force_nn(gap + 2.0 * amplitude, tap.radius, tap.e_star, tap.adhesion, tap.thickness),
    )
    if tap.drag > 0.0 and gap < CONTACT_NM:
        edge = math.acos(max(1.0 - (CONTACT_NM - gap) / amplitude, -1.0))
        for i in range(1, 64):
            angle = edge * i / 64.0
            z = gap + 2.0 * amplitude * math.sin(0.5 * angle) ** 2
            drag = tap.drag * math.sqrt(tap.radius * max(CONTACT_NM - z, 0.0))
            push = drag * amplitude * math.sin(angle)
            force = force_nn(z, tap.radius, tap.e_star, tap.adhesion, tap.thickness)
            peak = max(peak, force + push)
    return peak


@numba.njit(cache=True, nogil=True)
def surface_rows(tap: Any, amplitude: float, bottom: float, step: float) -> Any:
    """Return (d - A, turn, loss, mean, peak) at one amplitude, from afar down to `bottom`.

    Turn of the phase and loss of amplitude in a ring-down time, and the mean force, are given
    times sqrt(A): so a contact much shorter than the cycle makes them independent of A.
    """
    root = math.sqrt(amplitude)
    rows: Any = []
    gap, move, lowest = REACH_NM + 1.0, step, math.inf
    while lowest > bottom:
        mean, first, work = _cycle(tap, gap, amplitude)
        rest = gap - mean / tap.k
        if len(rows) > 0 and lowest - rest > 2.0 * step and move > 1e-9:
            gap, move = gap + 0.5 * move, 0.5 * move
            continue  # in contact the lever's bending, not the gap, takes up the way down
        turn = 2.0 * tap.q * first / tap.k
        loss = tap.q * work / (math.pi * tap.k * amplitude)
        rows.append((rest, root * turn, root * loss, root * mean, _peak(tap, gap, amplitude)))
        if lowest - rest < step:
            move = min(1.5 * move, step)
        lowest = min(lowest, rest)
        gap -= move
    return np.array(rows)


@numba.njit(cache=True, nogil=True)
def _balance(tap: Any, center: float, amplitude: float) -> Any:
    """Return sin(phase) and cos(phase) by the two balances."""
    _, first, work = _cycle(tap, center - amplitude, amplitude)
    brake = tap.q * work / (math.pi * tap.k * tap.free * amplitude)
    return amplitude / tap.free + brake, -2.0 * tap.q * first / (tap.k * tap.free)


@numba.njit(cache=True, nogil=True)
def _excess(tap: Any, center: float, amplitude: float) -> Any:
    """Return sin^2 + cos^2 - 1 of the balances: 0 in a steady state."""
    sine, cosine = _balance(tap, center, amplitude)
    return sine * sine + cosine * cosine - 1.0


@numba.njit(cache=True, nogil=True)
def _steady_amplitude(tap: Any, center: float) -> Any:
    """Return the greatest amplitude that the balances allow about a mean position."""
    least, exact = 1e-5 * tap.free, 1e-7 * tap.free
    # The amplitude at which attraction and repulsion cancel; with more, the surface repels.
    neutral = tap.free
    if _balance(tap, center, tap.free)[1] > 0.0:
        low, neutral = min(max(center - 1.0, least), tap.free), tap.free
        if _balance(tap, center, low)[1] > 0.0:
            neutral = low
        while neutral - low > exact:
            middle = 0.5 * (low + neutral)
            if _balance(tap, center, middle)[1] > 0.0:
                neutral = middle
            else:
                low = middle
    if _excess(tap, center, neutral) < 0.0:  # there is a repulsive state, and only one
        low, high = neutral, tap.free
    else:
        low = high = neutral
        while low > least:
            low = max(low - 0.05, least)
            if _excess(tap, center, low) < 0.0:
                break
            high = low
    while high - low > exact:
        middle = 0.5 * (low + high)
        if _excess(tap, center, middle) < 0.0:
            low = middle
        else:
            high = middle
    return low


@numba.njit(cache=True, nogil=True)
def approach_rows(tap: Any, top: float, step: float) -> Any:
    """Return (distance, amplitude, phase, mean, peak, work) from the mean position `top` down."""
    rows: Any = []
    center, move, lowest = top, step, math.inf
    while lowest > -tap.free:
        amplitude = _steady_amplitude(tap, center)
        mean, _, work = _cycle(tap, center - amplitude, amplitude)
        rest = center - mean / tap.k
        if len(rows) > 0 and lowest - rest > 2.0 * step and move > 1e-9:
            center, move = center + 0.5 * move, 0.5 * move
            continue  # as in `surface_rows`
        sine, cosine = _balance(tap, center, amplitude)
        phase = math.degrees(math.atan2(sine, cosine))
        peak = _peak(tap, center - amplitude, amplitude)
        rows.append((rest, amplitude, phase, mean, peak, work))
        if amplitude < 0.005 * tap.free and rest < 0.0:
            break
        if lowest - rest < step:
            move = min(1.5 * move, step)
        lowest = min(lowest, rest)
        center -= move
    return np.array(rows)


def inwards(rows: Any) -> Floats:
    """Return rows, from afar down, by growing distance: those that are met on the way in.

    A lever softer than the surface's pull snaps in; distances of its rest position that it meets
    a second time in contact belong to the free side, from which it comes.
    """
    rest = rows[:, 0]
    ahead = np.concatenate([[True], rest[1:] < np.minimum.accumulate(rest)[:-1]])
    return np.ascontiguousarray(rows[ahead][::-1])

"""Compiled inner loops of force curves: a lever that follows its base, one curve after another.

The base of the lever stands at u above the height at which the undeflected tip would touch; the
apex is at the separation D (negative: indentation delta = -D). Spring and surface balance where

    D - F(D) / k = u.

Apart (D > 0) the left side is convex in D, in contact it grows steadily up to the last stable
contact; so Newton's steps taken from the far side come down to the stable solution monotonically.
A tip jumps into contact where the branch apart ends, and off where the branch in contact ends.

All forces come divided by k, as lengths. The spring of the contact makes the whole more or less
stiff: dD/du = k / (k - dF/dD) is also the mean square of the thermal tremble, in kT / k. Kernels
that call each other live in this one file, because numba's cache doesn't notice an edited callee
in another.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SPHERE, CONE, JKR = 0, 1, 2
"""Laws: a sphere with a constant pull (Hertz, DMT), a cone, a sphere after JKR."""

MOST_STEPS = 200
TOLERANCE_NM = 1e-11

compiled = numba.njit(cache=True, nogil=True, error_model="numpy")
inlined = numba.njit(nogil=True, error_model="numpy", forceinline=True)

(
    CONTACT_HEIGHT,  # of the base, where the undeflected tip would touch (nm)
    DISTANCE,  # a0, the distance of bodies where D = 0 (nm)
    VDW,  # 2 pi R w / k; 0 without van der Waals forces
    PULL,  # constant pull in contact / k, that of a meniscus not included
    STIFF,  # sphere: 4 E* sqrt(R) / 3 k; cone: 2 E* tan(alpha) / pi k; JKR: 4 E* / 3 R k
    RADIUS,  # nm
    NECK,  # JKR: sqrt(2 pi w / E*)
    NECK_PULL,  # JKR: sqrt(8 pi w E*) / k
    LAST_ROOT,  # JKR: square root of the contact radius when it parts from this lever
    LAST,  # JKR: delta + F / k then, without a meniscus; the base is as far below u = 0
    WATER,  # 4 pi R gamma cos(theta) / k; 0 without a meniscus
    WATER_HEIGHT,  # up to which a meniscus fills the gap (nm)
    FORMS,  # separation below which it condenses (nm)
    BREAKS,  # separation above which it breaks (nm)
    DRAG,  # drag on the lever / k: upwards on approach, downwards on retract
    TREMBLE,  # thermal rms of the free lever (nm)
    COLUMNS,
) = range(17)
"""Columns of the table of curves that the kernels take."""


@inlined
def _apart(u: float, c: Floats, bridged: bool) -> tuple[float, float]:
    """Return the stable separation D > 0 and dD/du; a negative D if there is none."""
    vdw, a0 = c[VDW], c[DISTANCE]
    water = c[WATER] if bridged else 0.0
    height = c[WATER_HEIGHT]
    d = u
    for _ in range(MOST_STEPS):
        if not d > 0.0:
            break
        ratio = a0 / (d + a0)
        pull = vdw * ratio * ratio
        value = d + pull
        slope = 1.0 - 2.0 * pull / (d + a0)
        if water > 0.0:
            s = math.sqrt(d * d + height * height)
            value += water * (1.0 - d / s)
            slope -= water * height * height / (s * s * s)
        if slope <= 0.0:
            break
        step = (value - u) / slope
        d -= step
        if abs(step) < TOLERANCE_NM and d > 0.0:
            return d, 1.0 / slope
    return -1.0, 0.0


@inlined
def _touching(law: int, u: float, c: Floats, bridged: bool, s: float) -> tuple[float, float, float]:
    """Return the indentation, its root variable s (to start from again) and d delta/d(-u).

    There is a solution; see `_parts`.
    """
    water = c[WATER] if bridged else 0.0
    q = max(c[PULL] + water - u, c[LAST])
    stiff = c[STIFF]
    if law == CONE:
        depth = 2.0 * q / (1.0 + math.sqrt(1.0 + 4.0 * stiff * q))
        return depth, s, 1.0 / (1.0 + 2.0 * stiff * depth)
    if law == SPHERE:
        if s <= 0.0:
            s = math.sqrt(q)
        for _ in range(MOST_STEPS):
            slope = s * (2.0 + 3.0 * stiff * s)
            if slope <= 0.0:
                break
            step = (s * s * (1.0 + stiff * s) - q) / slope
            s -= step
            if abs(step) < TOLERANCE_NM * (TOLERANCE_NM + s):
                break
        return s * s, s, 1.0 / (1.0 + 1.5 * stiff * s)
    radius, neck, neck_pull = c[RADIUS], c[NECK], c[NECK_PULL]
    if s <= c[LAST_ROOT]:  # from above
        s = max((2.0 * neck * radius) ** (1.0 / 3.0), math.sqrt(math.sqrt(2.0 * radius * abs(q))))
    share = 1.0
    for _ in range(MOST_STEPS):
        s2 = s * s
        s3 = s2 * s
        grip = 4.0 * s3 / radius - neck
        slope = grip + 3.0 * s2 * (2.0 * stiff * s3 - neck_pull)
        if slope <= 0.0:
            break
        share = grip / slope
        step = (s * (s3 / radius - neck) + s3 * (stiff * s3 - neck_pull) - q) / slope
        s -= step
        if abs(step) < TOLERANCE_NM * s:
            break
    s = max(s, c[LAST_ROOT])
    return s * (s * s * s / radius - neck), s, share


@inlined
def _parts(u: float, c: Floats, bridged: bool) -> bool:
    """Return whether a contact can't hold the tip with the base at u."""
    water = c[WATER] if bridged else 0.0
    return bool(c[PULL] + water - u < c[LAST])


@inlined
def _ramp(
    law: int,
    z: Floats,
    drag: float,
    c: Floats,
    contact: bool,
    bridged: bool,
    deflection: Floats,
    tremble: Floats,
) -> tuple[bool, bool]:
    """Follow the base along z; deflection is written, unit noise in tremble is scaled."""
    s = 0.0
    for i in range(z.size):
        u = z[i] - c[CONTACT_HEIGHT] + drag
        if contact and _parts(u, c, bridged):
            contact = False
        d, give = -1.0, 0.0
        if not contact:
            d, give = _apart(u, c, bridged)
            if bridged and d > c[BREAKS]:
                bridged = False
                d, give = _apart(u, c, bridged)
            elif (
                not bridged and c[WATER] > 0.0 and d <= c[FORMS]
            ):  # also where it jumps into contact
                bridged = True
                d, give = _apart(u, c, bridged)
            if d < 0.0:
                contact, s = True, 0.0
        if contact:
            depth, s, give = _touching(law, u, c, bridged, s)
            d = -depth
        deflection[i] = d - u + drag
        if tremble.size:
            tremble[i] *= c[TREMBLE] * math.sqrt(min(max(give, 0.0), 1.0))
    return contact, bridged


@compiled
def follow(
    law: int,
    z_approach: Floats,
    z_retract: Floats,
    curves: Floats,
    approach: Floats,
    retract: Floats,
    tremble_approach: Floats,
    tremble_retract: Floats,
    ends: npt.NDArray[np.bool_],
) -> None:
    """Follow the base of the lever down and up again, for every curve.

    Parameters
    ----------
    law
        SPHERE, CONE or JKR.
    z_approach, z_retract
        Heights of the base (nm), (1 or curves, n).
    curves
        Numbers of each curve (curves, COLUMNS).
    approach, retract
        Deflections of the lever (nm), (curves, n), written.
    tremble_approach, tremble_retract
        Standard normal numbers, which become thermal deflections (nm), (curves, n); (curves, 0)
        for none.
    ends
        Whether tip and surface touch at the end of approach and of retract, (curves, 2), written.
    """
    for j in range(len(curves)):
        c = curves[j]
        down = z_approach[j if len(z_approach) > 1 else 0]
        up = z_retract[j if len(z_retract) > 1 else 0]
        contact, bridged = _ramp(
            law, down, c[DRAG], c, False, False, approach[j], tremble_approach[j]
        )
        ends[j, 0] = contact
        contact, bridged = _ramp(
            law, up, -c[DRAG], c, contact, bridged, retract[j], tremble_retract[j]
        )
        ends[j, 1] = contact


@compiled
def snap_ins(law: int, curves: Floats, found: Floats) -> None:
    """Find where the branch apart ends on approach: base u, separation D, and the fall in D.

    A root apart exists for all u above that of the snap-in and for none below, which bisection
    uses. `found` is (curves, 3).
    """
    for j in range(len(curves)):
        c = curves[j]
        bridged = False
        high = c[VDW] + c[WATER] + c[FORMS] + 1.0
        if c[WATER] > 0.0:
            ratio = c[DISTANCE] / (c[FORMS] + c[DISTANCE])
            slope = 1.0 - 2.0 * c[VDW] * ratio * ratio / (c[FORMS] + c[DISTANCE])
            forms = c[FORMS] + c[VDW] * ratio * ratio  # base where the meniscus condenses
            if slope > 0.0:
                bridged = True
                d, _ = _apart(forms, c, True)
                high = forms
                if d < 0.0:  # pulled in at once
                    depth, _, _ = _touching(law, forms, c, True, 0.0)
                    found[j, 0], found[j, 1], found[j, 2] = forms, c[FORMS], c[FORMS] + depth
                    continue
        low = 0.0
        while high - low > TOLERANCE_NM * (1.0 + high):
            middle = 0.5 * (low + high)
            d, _ = _apart(middle, c, bridged)
            if d < 0.0:
                low = middle
            else:
                high = middle
        d, _ = _apart(high, c, bridged)
        depth, _, _ = _touching(law, low, c, c[WATER] > 0.0, 0.0)
        found[j, 0], found[j, 1], found[j, 2] = high, max(d, 0.0), max(d, 0.0) + depth

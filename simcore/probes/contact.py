"""Contact of a tip with an elastic half-space: the closed laws of Hertz, Sneddon, DMT and JKR.

Everything is vectorised: numbers and arrays broadcast. Forces are positive where they push the
tip away; an indentation is positive where the tip is below the undisturbed surface, negative where
a neck holds it above. E* = E / (1 - nu^2) against a rigid tip, w the work of adhesion (2 gamma
between like bodies), angles of cones are half angles.

References: K. L. Johnson, Contact Mechanics (Cambridge 1985); I. N. Sneddon, Int. J. Eng. Sci. 3
(1965) 47; B. V. Derjaguin, V. M. Muller & Y. P. Toporov, J. Colloid Interface Sci. 53 (1975) 314;
K. L. Johnson, K. Kendall & A. D. Roberts, Proc. R. Soc. A 324 (1971) 301; D. Tabor, J. Colloid
Interface Sci. 58 (1977) 2; J. N. Israelachvili, Intermolecular and Surface Forces (Academic Press).
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

EV_PER_NN_NM = 6.241509074
"""Electronvolts in 1 nN nm = 1e-18 J."""
PULL_OFF = {"dmt": 2e-3, "jkr": 1.5e-3}
"""Pull that parts a sphere under a held load by pi R w: nN by nm mJ/m2."""
BISECTIONS = 80


def checked(name: str, values: npt.ArrayLike, zero_allowed: bool = False) -> Floats:
    """Return values as an array if they are finite and positive, or say which one is not."""
    array = np.asarray(values, np.float64)
    fine = np.isfinite(array) & ((array >= 0) if zero_allowed else (array > 0))
    if not fine.all():
        bound = "not negative" if zero_allowed else "positive"
        raise ValueError(f"{name} must be finite and {bound}, not {float(array[~fine].flat[0]):g}")
    return array


def finite(name: str, values: npt.ArrayLike) -> Floats:
    """Return values as an array if they are finite, or say which are not."""
    array = np.asarray(values, np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, not {float(array[~np.isfinite(array)].flat[0])}")
    return array


def _tangent(half_angle_deg: npt.ArrayLike) -> Floats:
    angle = checked("half_angle_deg", half_angle_deg)
    if (angle >= 90).any():
        raise ValueError(f"half_angle_deg must be below 90, not {float(angle.max()):g}")
    return np.tan(np.deg2rad(angle))


# ---- without adhesion ----------------------------------------------------------------------------


def hertz_force_nn(
    indentation_nm: npt.ArrayLike, radius_nm: npt.ArrayLike, e_star_gpa: npt.ArrayLike
) -> Floats:
    """Return the force on a sphere (paraboloid), 4/3 E* sqrt(R) delta^1.5; 0 where it is apart."""
    radius, e_star = checked("radius_nm", radius_nm), checked("e_star_gpa", e_star_gpa)
    depth = np.maximum(finite("indentation_nm", indentation_nm), 0.0)
    return np.asarray(4.0 / 3.0 * e_star * np.sqrt(radius) * depth**1.5)


def hertz_indentation_nm(
    force_nn: npt.ArrayLike, radius_nm: npt.ArrayLike, e_star_gpa: npt.ArrayLike
) -> Floats:
    """Return how far a force (not negative) pushes a sphere in."""
    radius, e_star = checked("radius_nm", radius_nm), checked("e_star_gpa", e_star_gpa)
    force = checked("force_nn", force_nn, zero_allowed=True)
    return np.asarray((0.75 * force / (e_star * np.sqrt(radius))) ** (2.0 / 3.0))


def hertz_contact_radius_nm(
    force_nn: npt.ArrayLike, radius_nm: npt.ArrayLike, e_star_gpa: npt.ArrayLike
) -> Floats:
    """Return the radius a of the area of contact, a^3 = 3 F R / 4 E*."""
    indentation = hertz_indentation_nm(force_nn, radius_nm, e_star_gpa)
    return np.asarray(np.sqrt(np.asarray(radius_nm) * indentation))


def hertz_peak_pressure_gpa(
    force_nn: npt.ArrayLike, radius_nm: npt.ArrayLike, e_star_gpa: npt.ArrayLike
) -> Floats:
    """Return the pressure in the middle of the contact, 2 E* a / (pi R) = 3 F / (2 pi a^2)."""
    a = hertz_contact_radius_nm(force_nn, radius_nm, e_star_gpa)
    return np.asarray(2.0 * np.asarray(e_star_gpa) * a / (np.pi * np.asarray(radius_nm)))


def cone_force_nn(
    indentation_nm: npt.ArrayLike, half_angle_deg: npt.ArrayLike, e_star_gpa: npt.ArrayLike
) -> Floats:
    """Return Sneddon's force on a cone, (2 / pi) E* tan(alpha) delta^2; 0 where it is apart."""
    tangent, e_star = _tangent(half_angle_deg), checked("e_star_gpa", e_star_gpa)
    depth = np.maximum(finite("indentation_nm", indentation_nm), 0.0)
    return np.asarray(2.0 / np.pi * e_star * tangent * depth**2)


def cone_indentation_nm(
    force_nn: npt.ArrayLike, half_angle_deg: npt.ArrayLike, e_star_gpa: npt.ArrayLike
) -> Floats:
    """Return how far a force (not negative) pushes a cone in."""
    tangent, e_star = _tangent(half_angle_deg), checked("e_star_gpa", e_star_gpa)
    force = checked("force_nn", force_nn, zero_allowed=True)
    return np.asarray(np.sqrt(0.5 * np.pi * force / (e_star * tangent)))


def punch_force_nn(
    indentation_nm: npt.ArrayLike, radius_nm: npt.ArrayLike, e_star_gpa: npt.ArrayLike
) -> Floats:
    """Return the force on a flat-ended cylinder of that radius, 2 a E* delta; 0 where apart."""
    radius, e_star = checked("radius_nm", radius_nm), checked("e_star_gpa", e_star_gpa)
    depth = np.maximum(finite("indentation_nm", indentation_nm), 0.0)
    return np.asarray(2.0 * radius * e_star * depth)


# ---- forces at a distance ------------------------------------------------------------------------


def van_der_waals_force_nn(
    distance_nm: npt.ArrayLike, radius_nm: npt.ArrayLike, hamaker_zj: npt.ArrayLike
) -> Floats:
    """Return the van der Waals force between sphere and flat, -H R / 6 d^2 (1 zJ = 1e-21 J).

    The distance d is 0.165 nm in contact (`nanophantom.simcore.probes.interaction.CONTACT_NM`).
    """
    distance, radius = checked("distance_nm", distance_nm), checked("radius_nm", radius_nm)
    hamaker = checked("hamaker_zj", hamaker_zj, zero_allowed=True)
    return np.asarray(-1e-3 * hamaker * radius / (6.0 * distance**2))


def snap_in_distance_nm(
    radius_nm: npt.ArrayLike, hamaker_zj: npt.ArrayLike, stiffness_n_per_m: npt.ArrayLike
) -> Floats:
    """Return the distance d at which van der Waals pull overcomes a lever, (H R / 3 k)^(1/3)."""
    radius, hamaker = checked("radius_nm", radius_nm), checked("hamaker_zj", hamaker_zj, True)
    stiffness = checked("stiffness_n_per_m", stiffness_n_per_m)
    return np.asarray(np.cbrt(1e-3 * hamaker * radius / (3.0 * stiffness)))


# ---- DMT -----------------------------------------------------------------------------------------


def dmt_pull_off_nn(radius_nm: npt.ArrayLike, adhesion_mj_per_m2: npt.ArrayLike) -> Floats:
    """Return the pull that parts a DMT contact, 2 pi R w (positive)."""
    radius = checked("radius_nm", radius_nm)
    return np.asarray(
        PULL_OFF["dmt"] * np.pi * radius * checked("adhesion_mj_per_m2", adhesion_mj_per_m2, True)
    )


def dmt_force_nn(
    indentation_nm: npt.ArrayLike,
    radius_nm: npt.ArrayLike,
    e_star_gpa: npt.ArrayLike,
    adhesion_mj_per_m2: npt.ArrayLike,
) -> Floats:
    """Return Hertz's force less the constant pull 2 pi R w; 0 where the bodies are apart."""
    pull = dmt_pull_off_nn(radius_nm, adhesion_mj_per_m2)
    touching = np.asarray(indentation_nm, np.float64) >= 0
    return np.asarray(
        hertz_force_nn(indentation_nm, radius_nm, e_star_gpa) - np.where(touching, pull, 0.0)
    )


def tabor_parameter(
    radius_nm: npt.ArrayLike,
    e_star_gpa: npt.ArrayLike,
    adhesion_mj_per_m2: npt.ArrayLike,
    range_nm: float = 0.3,
) -> Floats:
    """Return mu = (R w^2 / (E*^2 z0^3))^(1/3): DMT holds below about 0.1, JKR above about 5.

    `range_nm` is the range z0 of the attraction.
    """
    radius, e_star = checked("radius_nm", radius_nm), checked("e_star_gpa", e_star_gpa)
    w = 1e-3 * checked("adhesion_mj_per_m2", adhesion_mj_per_m2, True)
    return np.asarray(np.cbrt(radius * (w / e_star) ** 2) / float(checked("range_nm", range_nm)))


# ---- JKR -----------------------------------------------------------------------------------------


class JkrState(NamedTuple):
    """A JKR contact: radius of the area of contact, indentation, force; arrays of one shape."""

    contact_radius_nm: Floats
    indentation_nm: Floats
    force_nn: Floats


def jkr_state(
    contact_radius_nm: npt.ArrayLike,
    radius_nm: npt.ArrayLike,
    e_star_gpa: npt.ArrayLike,
    adhesion_mj_per_m2: npt.ArrayLike,
) -> JkrState:
    """Return indentation and force of a JKR contact of radius a.

    delta = a^2 / R - sqrt(2 pi w a / E*), F = 4 E* a^3 / 3 R - sqrt(8 pi w E* a^3).
    """
    a = checked("contact_radius_nm", contact_radius_nm, zero_allowed=True)
    radius, e_star = checked("radius_nm", radius_nm), checked("e_star_gpa", e_star_gpa)
    w = 1e-3 * checked("adhesion_mj_per_m2", adhesion_mj_per_m2, True)
    indentation = a**2 / radius - np.sqrt(2.0 * np.pi * w * a / e_star)
    force = 4.0 / 3.0 * e_star * a**3 / radius - np.sqrt(8.0 * np.pi * w * e_star * a**3)
    return JkrState(np.broadcast_to(a, force.shape), np.asarray(indentation), np.asarray(force))


def jkr_under_load(
    force_nn: npt.ArrayLike,
    radius_nm: npt.ArrayLike,
    e_star_gpa: npt.ArrayLike,
    adhesion_mj_per_m2: npt.ArrayLike,
) -> JkrState:
    """Return the JKR contact that carries a load, at least -1.5 pi R w.

    a^3 = (3 R / 4 E*) (F + 3 pi R w + sqrt(6 pi R w F + (3 pi R w)^2)).

    Raises
    ------
    ValueError
        A load pulls harder than the contact holds.
    """
    radius, e_star = checked("radius_nm", radius_nm), checked("e_star_gpa", e_star_gpa)
    pull = 3e-3 * np.pi * radius * checked("adhesion_mj_per_m2", adhesion_mj_per_m2, True)
    force = np.asarray(force_nn, np.float64)
    if (force < -0.5 * pull * (1 + 1e-12)).any():
        raise ValueError("force_nn is below -1.5 pi R w: no JKR contact holds that pull")
    under_root = np.maximum(pull * (2.0 * force + pull), 0.0)
    a = np.cbrt(0.75 * radius / e_star * (force + pull + np.sqrt(under_root)))
    return jkr_state(a, radius, e_star, adhesion_mj_per_m2)


def jkr_pull_off(
    radius_nm: npt.ArrayLike,
    e_star_gpa: npt.ArrayLike,
    adhesion_mj_per_m2: npt.ArrayLike,
    stiffness_n_per_m: npt.ArrayLike = math.inf,
) -> JkrState:
    """Return the last stable JKR contact when it is pulled through a spring.

    A lever of stiffness k loses hold where dF/d delta = -k. Infinite k means fixed grips, with
    F = -5/6 pi R w; zero means a dead load, with F = -1.5 pi R w.
    """
    radius, e_star, w, k = np.broadcast_arrays(
        checked("radius_nm", radius_nm),
        checked("e_star_gpa", e_star_gpa),
        1e-3 * checked("adhesion_mj_per_m2", adhesion_mj_per_m2, True),
        np.asarray(stiffness_n_per_m, np.float64),
    )
    if not (k >= 0).all():
        raise ValueError("stiffness_n_per_m must not be negative")
    # With s = sqrt(a): delta = s^4 / R - alpha s and F = p s^6 - beta s^3. The contact is stable
    # while d delta/ds + dF/ds / k > 0; that sum changes its sign once, between grips and load.
    alpha, beta = np.sqrt(2.0 * np.pi * w / e_star), np.sqrt(8.0 * np.pi * w * e_star)
    p = 4.0 * e_star / (3.0 * radius)
    low, high = np.cbrt(0.25 * alpha * radius), np.cbrt(0.5 * beta / p)
    yielding = 1.0 / (1.0 + k)
    grip = 1.0 - yielding
    for _ in range(BISECTIONS):
        s = 0.5 * (low + high)
        slope = grip * (4.0 * s**3 / radius - alpha) + yielding * (6.0 * p * s**5 - 3 * beta * s**2)
        low, high = np.where(slope < 0, s, low), np.where(slope < 0, high, s)
    return jkr_state((0.5 * (low + high)) ** 2, radius, e_star, 1e3 * w)


def jkr_force_nn(
    indentation_nm: npt.ArrayLike,
    radius_nm: npt.ArrayLike,
    e_star_gpa: npt.ArrayLike,
    adhesion_mj_per_m2: npt.ArrayLike,
    branch: Literal["loading", "unloading"] = "loading",
) -> Floats:
    """Return the JKR force at an indentation that is held (fixed grips), 0 where apart.

    While it approaches ("loading") a tip feels nothing until it touches at 0, where the contact
    opens at once and pulls with 4/3 pi R w. While it leaves ("unloading") a neck holds it down to
    the indentation of :func:`jkr_pull_off`.
    """
    if branch not in ("loading", "unloading"):
        raise ValueError(f"branch must be 'loading' or 'unloading', not {branch!r}")
    last = jkr_pull_off(radius_nm, e_star_gpa, adhesion_mj_per_m2)
    depth, radius, e_star, w, least = np.broadcast_arrays(
        finite("indentation_nm", indentation_nm),
        np.asarray(radius_nm, np.float64),
        np.asarray(e_star_gpa, np.float64),
        1e-3 * np.asarray(adhesion_mj_per_m2, np.float64),
        last.indentation_nm,
    )
    touching = depth >= (0.0 if branch == "loading" else least)
    held = np.where(touching, depth, 0.0)
    # s^4 / R - alpha s is convex: Newton's steps from above come down to the outer root.
    alpha = np.sqrt(2.0 * np.pi * w / e_star)
    s = np.maximum(np.cbrt(2.0 * alpha * radius), (2.0 * radius * np.maximum(held, 0.0)) ** 0.25)
    for _ in range(BISECTIONS):
        slope = 4.0 * s**3 / radius - alpha
        s = s - np.where(slope > 0, s**4 / radius - alpha * s - held, 0.0) / np.where(
            slope > 0, slope, 1.0
        )
    force = jkr_state(s**2, radius, e_star, 1e3 * w).force_nn
    return np.asarray(np.where(touching, force, 0.0))


def jkr_hysteresis_ev(
    radius_nm: npt.ArrayLike, e_star_gpa: npt.ArrayLike, adhesion_mj_per_m2: npt.ArrayLike
) -> Floats:
    """Return the energy that a JKR contact loses when it is closed and opened at fixed grips.

    It is the work of the pull on the neck, from indentation 0 to where the neck breaks: on the way
    in nothing pulled there.
    """
    radius, e_star = checked("radius_nm", radius_nm), checked("e_star_gpa", e_star_gpa)
    w = 1e-3 * checked("adhesion_mj_per_m2", adhesion_mj_per_m2, True)
    stiff, pull = 4.0 * e_star / (3.0 * radius), np.sqrt(8.0 * np.pi * w * e_star)
    bend = np.sqrt(2.0 * np.pi * w / e_star)

    def work(a: Floats) -> Floats:
        """Return the integral of F d delta from 0 to a."""
        return np.asarray(
            0.4 * stiff / radius * a**5
            - (0.5 * stiff * bend + 2.0 * pull / radius) * a**3.5 / 3.5
            + 0.25 * pull * bend * a**2
        )

    opened = np.cbrt((bend * radius) ** 2)  # where the indentation is 0
    last = jkr_pull_off(radius_nm, e_star_gpa, adhesion_mj_per_m2).contact_radius_nm
    return np.asarray(EV_PER_NN_NM * (work(last) - work(opened)))

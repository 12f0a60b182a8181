"""Force curves by the thousand: a lever pressed onto a surface and pulled off it again.

Quasi-static: at each height of the lever's base the spring balances the force on the tip, and the
tip follows its stable branch until that ends, where it jumps. Contact obeys Hertz, Sneddon, DMT or
JKR; at a distance van der Waals forces pull, and a meniscus may form and break. Each curve has
parameters of its own, so a force volume over different materials is one call. Heights count
upwards; deflections are positive where the tip is pushed up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.fields import Table
from nanophantom.simcore.probes import contact
from nanophantom.simcore.probes import force_curve_kernels as kernels
from nanophantom.simcore.probes.cantilever import Cantilever
from nanophantom.simcore.probes.deflection_sensor import DeflectionSensor, Streams
from nanophantom.simcore.probes.force_parameters import ForceLaw, ForceParameters
from nanophantom.simcore.probes.interaction import CONTACT_NM

__all__ = [
    "DeflectionSensor",
    "ForceCurves",
    "ForceLaw",
    "ForceParameters",
    "ramps_to_trigger",
    "simulate",
    "turning_heights_nm",
]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SMALLEST_JUMP_NM = 1e-6
"""A fall of the tip by less than this is no snap-in."""


@dataclass(frozen=True, eq=False)
class ForceCurves:
    """Curves as recorded, and their truth.

    Attributes
    ----------
    z_approach_nm, z_retract_nm
        Heights of the lever's base, (curves, n) or (1, n) if all are alike.
    approach_nm, retract_nm
        Deflections as read with the nominal sensitivity, (curves, n).
    ideal_approach_nm, ideal_retract_nm
        Deflections in equilibrium: no noise, no baseline; drag is in them.
    parameters
        Contact height, modulus, adhesion and tip of each curve.
    stiffness_n_per_m
        Of the lever.
    drag_nn
        Drag on the lever.
    touched, parted
        Whether the tip was in contact at the end of the approach, and free at the end of the
        retract, (curves,).
    indentation_nm, turn_force_nn
        Indentation, and force between tip and surface, at the end of the approach, (curves,);
        0 and whatever pulls where it didn't touch.
    snap_in_height_nm, snap_in_separation_nm
        Height of the base, and separation of the tip (0 at contact), at which it jumps into
        contact, (curves,); exact, not of a sample; NaN where it doesn't jump on this ramp.
    pull_off_height_nm, pull_off_nn
        Height of the base at which contact ends, and the pull then, (curves,); NaN where it didn't
        touch and part.
    adhesion_nn
        The largest pull on the way out: beyond `pull_off_nn` for JKR, (curves,); NaN likewise.
    """

    z_approach_nm: Floats
    z_retract_nm: Floats
    approach_nm: Floats
    retract_nm: Floats
    ideal_approach_nm: Floats
    ideal_retract_nm: Floats
    parameters: ForceParameters
    stiffness_n_per_m: float
    drag_nn: float
    touched: Bools
    parted: Bools
    indentation_nm: Floats
    turn_force_nn: Floats
    snap_in_height_nm: Floats
    snap_in_separation_nm: Floats
    pull_off_height_nm: Floats
    pull_off_nn: Floats
    adhesion_nn: Floats

    def separations_nm(self) -> tuple[Floats, Floats]:
        """Return the true separation on approach and retract; negative: indentation."""
        contact_height = self.parameters.contact_height_nm[:, None]
        return (
            self.z_approach_nm + self.ideal_approach_nm - contact_height,
            self.z_retract_nm + self.ideal_retract_nm - contact_height,
        )

    def forces_nn(self) -> tuple[Floats, Floats]:
        """Return the true force between tip and surface on approach and retract."""
        k = self.stiffness_n_per_m
        return k * self.ideal_approach_nm - self.drag_nn, k * self.ideal_retract_nm + self.drag_nn

    def dissipated_ev(self) -> Floats:
        """Return the energy lost between tip and surface in each loop, (curves,).

        The closed integral of the force over the separation by the trapezoidal rule, drag left
        out: a jump between two samples is uncertain by half the change of the force times the step
        of the base.
        """
        forces, separations = self.forces_nn(), self.separations_nm()
        force, separation = (
            np.concatenate([*pair, pair[0][:, :1]], axis=1) for pair in (forces, separations)
        )
        return np.asarray(-contact.EV_PER_NN_NM * np.trapezoid(force, separation))

    def truth(self) -> Table:
        """Return all that was true of each curve."""
        p = self.parameters
        return {
            "contact_height_nm": p.contact_height_nm,
            "e_star_gpa": p.e_star_gpa,
            "work_of_adhesion_mj_per_m2": p.work_of_adhesion_mj_per_m2,
            "radius_nm": p.radius_nm,
            "half_angle_deg": p.half_angle_deg,
            "touched": self.touched,
            "parted": self.parted,
            "indentation_nm": self.indentation_nm,
            "turn_force_nn": self.turn_force_nn,
            "snap_in_height_nm": self.snap_in_height_nm,
            "snap_in_separation_nm": self.snap_in_separation_nm,
            "pull_off_height_nm": self.pull_off_height_nm,
            "pull_off_nn": self.pull_off_nn,
            "adhesion_nn": self.adhesion_nn,
        }


def turning_heights_nm(
    parameters: ForceParameters, lever: Cantilever, law: ForceLaw, trigger_nn: npt.ArrayLike
) -> Floats:
    """Return the heights of the base at which the lever's force reaches the trigger, (curves,).

    Raises
    ------
    ValueError
        The trigger doesn't exceed the drag: it would go off before the tip touches.
    """
    trigger = contact.checked("trigger_nn", trigger_nn)
    if (trigger <= law.drag_nn).any():
        raise ValueError(f"trigger_nn must exceed the drag of {law.drag_nn:g} nN")
    p = parameters
    try:
        trigger = np.broadcast_to(trigger, len(p))
    except ValueError:
        raise ValueError(f"trigger_nn must be a number or ({len(p)},)") from None
    load = trigger - law.drag_nn
    if law.meniscus is not None:
        load = load + law.meniscus.contact_force_nn(p.radius_nm)
    if law.law == "sneddon":
        indentation = contact.cone_indentation_nm(load, p.half_angle_deg, p.e_star_gpa)
    elif law.law == "jkr":
        state = contact.jkr_under_load(
            load, p.radius_nm, p.e_star_gpa, p.work_of_adhesion_mj_per_m2
        )
        indentation = state.indentation_nm
    else:
        if law.law == "dmt":
            load = load + contact.dmt_pull_off_nn(p.radius_nm, p.work_of_adhesion_mj_per_m2)
        indentation = contact.hertz_indentation_nm(load, p.radius_nm, p.e_star_gpa)
    return np.asarray(p.contact_height_nm - indentation - trigger / lever.stiffness_n_per_m)


def ramps_to_trigger(
    parameters: ForceParameters,
    lever: Cantilever,
    law: ForceLaw,
    trigger_nn: npt.ArrayLike,
    length_nm: float,
    samples: int,
) -> tuple[Floats, Floats]:
    """Return heights of the base that go down to the trigger force and back, (curves, samples).

    Parameters
    ----------
    parameters, lever, law
        As for :func:`simulate`.
    trigger_nn
        Force of the lever at which each approach turns, a number or (curves,); drag counts.
    length_nm
        Length of the ramp.
    samples
        Evenly spaced, in each direction.
    """
    if not (length_nm > 0 and math.isfinite(length_nm)):
        raise ValueError(f"length_nm must be finite and positive, not {length_nm:g}")
    if samples < 2:
        raise ValueError(f"samples must be at least 2, not {samples}")
    turn = turning_heights_nm(parameters, lever, law, trigger_nn)[:, None]
    rise = np.linspace(0.0, length_nm, samples)
    return turn + rise[::-1], turn + rise


def simulate(
    parameters: ForceParameters,
    lever: Cantilever,
    law: ForceLaw,
    z_approach_nm: npt.ArrayLike,
    z_retract_nm: npt.ArrayLike,
    sensor: DeflectionSensor | None = None,
    rng: Streams | None = None,
) -> ForceCurves:
    """Return a force curve for each set of parameters.

    Parameters
    ----------
    parameters
        Of the curves.
    lever
        Its stiffness matters, and its temperature if `rng` is given.
    law
        What acts on the tip.
    z_approach_nm, z_retract_nm
        Heights of the lever's base, (n,) or (curves, n), going down and up; they count on the
        scale of the contact heights. See :func:`ramps_to_trigger`.
    sensor
        How the deflection is read; none reads it as it is.
    rng
        Gives the stream of each cause by its name: "thermal", "deflection", "interference". None:
        nothing trembles, and there must be no sensor. Thermal tremble is white, of variance
        kT / (k + stiffness of the contact); where attraction softens the spring it stays kT / k.

    Raises
    ------
    ValueError
        A ramp is no ramp, or the contact is too stiff for JKR with van der Waals forces.
    """
    if sensor is not None and rng is None:
        raise ValueError("a sensor needs rng, the streams of its random numbers")
    down = _ramp("z_approach_nm", z_approach_nm, len(parameters), -1)
    up = _ramp("z_retract_nm", z_retract_nm, len(parameters), 1)
    code = {"sneddon": kernels.CONE, "jkr": kernels.JKR}.get(law.law, kernels.SPHERE)
    table = _table(parameters, lever, law)
    snap = np.empty((len(parameters), 3))
    kernels.snap_ins(code, table, snap)
    release = table[:, kernels.PULL] + table[:, kernels.WATER] - table[:, kernels.LAST]
    _refuse_strong_attraction(parameters, snap[:, 0] > release + SMALLEST_JUMP_NM)

    shapes = [(len(parameters), z.shape[1]) for z in (down, up)]
    approach, retract = (np.empty(shape) for shape in shapes)
    thermal = rng("thermal") if rng is not None and lever.temperature_k > 0 else None
    if thermal is not None:
        read = [thermal.standard_normal(shape) for shape in shapes]
    else:
        read = [np.empty((len(parameters), 0)) for _ in shapes]
    ends = np.empty((len(parameters), 2), np.bool_)
    kernels.follow(code, down, up, table, approach, retract, read[0], read[1], ends)

    if thermal is not None:
        read[0] += approach
        read[1] += retract
    else:
        read = [approach.copy(), retract.copy()]
    if sensor is not None and rng is not None:
        sensor.read((down, up), (read[0], read[1]), rng)
    touched, parted = ends[:, 0], ends[:, 0] & ~ends[:, 1]
    k, contact_height = lever.stiffness_n_per_m, parameters.contact_height_nm
    drag_nm = law.drag_nn / k
    snap_in_height = contact_height + snap[:, 0] - drag_nm
    jumps = touched & (snap[:, 2] > SMALLEST_JUMP_NM) & (down[:, 0] > snap_in_height)
    adhesion, pull_off = _pulls(parameters, lever, law)
    return ForceCurves(
        z_approach_nm=down,
        z_retract_nm=up,
        approach_nm=read[0],
        retract_nm=read[1],
        ideal_approach_nm=approach,
        ideal_retract_nm=retract,
        parameters=parameters,
        stiffness_n_per_m=k,
        drag_nn=law.drag_nn,
        touched=touched,
        parted=parted,
        indentation_nm=np.where(touched, contact_height - down[:, -1] - approach[:, -1], 0.0),
        turn_force_nn=k * approach[:, -1] - law.drag_nn,
        snap_in_height_nm=np.where(jumps, snap_in_height, np.nan),
        snap_in_separation_nm=np.where(jumps, snap[:, 1], np.nan),
        pull_off_height_nm=np.where(parted, contact_height + release + drag_nm, np.nan),
        pull_off_nn=np.where(parted, pull_off, np.nan),
        adhesion_nn=np.where(parted, adhesion, np.nan),
    )


def _ramp(name: str, z_nm: npt.ArrayLike, curves: int, direction: int) -> Floats:
    """Return heights of the base as (1 or curves, n), contiguous, or refuse them."""
    z = np.ascontiguousarray(np.atleast_2d(np.asarray(z_nm, np.float64)))
    if z.ndim != 2 or z.shape[0] not in (1, curves) or z.shape[1] < 2:
        raise ValueError(f"{name} must be (n,) or ({curves}, n) with n > 1, not {np.shape(z_nm)}")
    if not np.isfinite(z).all():
        raise ValueError(f"{name} must be finite")
    if (direction * (z[:, -1] - z[:, 0]) <= 0).any():
        raise ValueError(f"{name} must lead {'up' if direction > 0 else 'down'}")
    return z


def _table(p: ForceParameters, lever: Cantilever, law: ForceLaw) -> Floats:
    """Return what the kernels take, (curves, COLUMNS)."""
    k = lever.stiffness_n_per_m
    w, e_star, radius = 1e-3 * p.work_of_adhesion_mj_per_m2, p.e_star_gpa, p.radius_nm
    table = np.zeros((len(p), kernels.COLUMNS))
    table[:, kernels.CONTACT_HEIGHT] = p.contact_height_nm
    table[:, kernels.DISTANCE] = CONTACT_NM
    table[:, kernels.RADIUS] = radius
    table[:, kernels.DRAG] = law.drag_nn / k
    table[:, kernels.TREMBLE] = lever.thermal_rms_nm
    pull = contact.dmt_pull_off_nn(radius, p.work_of_adhesion_mj_per_m2) / k
    if law.law in ("dmt", "jkr") and law.van_der_waals:
        table[:, kernels.VDW] = pull
    if law.law == "sneddon":
        tangent = np.tan(np.deg2rad(p.half_angle_deg))
        table[:, kernels.STIFF] = 2.0 * e_star * tangent / (np.pi * k)
    elif law.law == "jkr":
        last = contact.jkr_pull_off(radius, e_star, p.work_of_adhesion_mj_per_m2, k)
        table[:, kernels.STIFF] = 4.0 * e_star / (3.0 * radius * k)
        table[:, kernels.NECK] = np.sqrt(2.0 * np.pi * w / e_star)
        table[:, kernels.NECK_PULL] = np.sqrt(8.0 * np.pi * w * e_star) / k
        table[:, kernels.LAST_ROOT] = np.sqrt(last.contact_radius_nm)
        table[:, kernels.LAST] = last.indentation_nm + last.force_nn / k
    else:
        table[:, kernels.STIFF] = 4.0 * e_star * np.sqrt(radius) / (3.0 * k)
        if law.law == "dmt":
            table[:, kernels.PULL] = pull
    if law.meniscus is not None:
        table[:, kernels.WATER] = law.meniscus.contact_force_nn(radius) / k
        table[:, kernels.WATER_HEIGHT] = law.meniscus.height_nm
        table[:, kernels.FORMS] = law.meniscus.formation_nm
        table[:, kernels.BREAKS] = law.meniscus.rupture_nm(radius)
    return table


def _refuse_strong_attraction(p: ForceParameters, wrong: Bools) -> None:
    """Refuse JKR where van der Waals forces pull harder than the contact that they lead to."""
    if wrong.any():
        i = int(np.flatnonzero(wrong)[0])
        mu = contact.tabor_parameter(
            p.radius_nm[i], p.e_star_gpa[i], p.work_of_adhesion_mj_per_m2[i]
        )
        raise ValueError(
            f"curve {i} has a contact too stiff for JKR with van der Waals forces (Tabor parameter "
            f"{float(mu):.2g}): use dmt, or van_der_waals: false"
        )


def _pulls(p: ForceParameters, lever: Cantilever, law: ForceLaw) -> tuple[Floats, Floats]:
    """Return the largest pull on the way out, and the pull at which contact ends."""
    water = np.zeros(len(p))
    if law.meniscus is not None:
        water = law.meniscus.contact_force_nn(p.radius_nm)
    w = p.work_of_adhesion_mj_per_m2
    if law.law == "dmt":
        pull = contact.dmt_pull_off_nn(p.radius_nm, w) + water
        return pull, pull
    if law.law == "jkr":
        last = contact.jkr_pull_off(p.radius_nm, p.e_star_gpa, w, lever.stiffness_n_per_m)
        return contact.PULL_OFF["jkr"] * np.pi * p.radius_nm * w + water, water - last.force_nn
    return water, water

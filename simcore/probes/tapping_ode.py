"""A tapping lever followed through every cycle: what the averaged model is tested against.

The first mode, driven at its resonance w0, in the time theta = w0 t:

    x'' + x' / Q + x = (A0 / Q) cos(theta) + F(d + x, x') / k,

d the distance of the lever's rest position from the surface (half-space or thin layer), with the
force of `interaction` and, while the tip indents, Kelvin and Voigt's drag -eta sqrt(R indentation)
dx/dt (R. Garcia et al., Phys. Rev. Lett. 97 (2006) 016103). The free lever advances by its exact
solution; forces come in as kicks at both ends of a step (Strang), so that the surface alone limits
the step. Some 1e-5 s a cycle: for tests, for single transients, and for levers in liquid, which
settle in a few cycles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from nanophantom.simcore.probes.cantilever import BOLTZMANN_NN_NM_PER_K, Cantilever
from nanophantom.simcore.probes.interaction import CONTACT_NM, force_nn
from nanophantom.simcore.surfaces import Material

Floats = npt.NDArray[np.float64]

EV_PER_NN_NM = 1e-18 / 1.602176634e-19
"""1 nN nm in electronvolts."""


@dataclass(frozen=True, eq=False)
class Cycles:
    """What a tapping lever did, cycle by cycle; each array has one value a cycle.

    Attributes
    ----------
    amplitude_nm, phase_deg
        Of the deflection's component at the drive, A cos(w0 t - phase): 90 degrees when free,
        less where the surface repels, more where it attracts.
    mean_force_nn, peak_force_nn
        Mean and greatest force of the surface on the tip over the cycle.
    dissipated_ev
        Energy that the cycle left in the sample.
    """

    amplitude_nm: Floats
    phase_deg: Floats
    mean_force_nn: Floats
    peak_force_nn: Floats
    dissipated_ev: Floats


def follow(
    lever: Cantilever,
    free_amplitude_nm: float,
    radius_nm: float,
    material: Material,
    distance_nm: Floats,
    *,
    amplitude_nm: float | None = None,
    phase_deg: float = 90.0,
    steps: int = 1500,
    rng: np.random.Generator | None = None,
) -> Cycles:
    """Return what the lever does over a surface whose distance changes from cycle to cycle.

    Parameters
    ----------
    lever, free_amplitude_nm
        The lever and the amplitude with which its drive, at its resonance, makes it swing freely.
    radius_nm, material
        Radius of the tip and what it taps on.
    distance_nm
        Distance of the lever's rest position from the surface in each cycle, shape (cycles,).
    amplitude_nm, phase_deg
        How it swings at the start; freely by default.
    steps
        Steps a cycle.
    rng
        If given, the lever's damping comes with its thermal force, one-sided density
        4 k kT / (w0 Q).

    Raises
    ------
    ValueError
        For no cycles, distances that aren't finite, too few steps (also: for so stiff a contact),
        or a tip or an amplitude that isn't positive.
    """
    distance = np.ascontiguousarray(distance_nm, np.float64)
    if distance.ndim != 1 or not distance.size or not np.isfinite(distance).all():
        raise ValueError("distance_nm must be finite, one value a cycle, shape (cycles,)")
    if steps < 100:
        raise ValueError(f"steps is {steps}; a cycle needs 100 or more")
    if not (free_amplitude_nm > 0 and radius_nm > 0):
        raise ValueError("free_amplitude_nm and radius_nm must be positive")
    stiffness, quality = lever.stiffness_n_per_m, lever.quality_factor
    start = free_amplitude_nm if amplitude_nm is None else amplitude_nm
    phase = math.radians(phase_deg)
    step = 2.0 * math.pi / steps
    # White force of one-sided density S: an impulse of variance S dt / 2; here in units of k.
    kick = 0.0
    if rng is not None:
        energy = BOLTZMANN_NN_NM_PER_K * lever.temperature_k
        kick = math.sqrt(2.0 * energy / (stiffness * quality) * step)
    out = _follow(
        distance,
        stiffness,
        quality,
        free_amplitude_nm,
        radius_nm,
        material.reduced_modulus_gpa,
        material.work_of_adhesion_mj_per_m2,
        material.depth_nm,
        1e-9 * material.viscosity_pa_s * lever.omega_per_s,
        start * math.cos(phase),
        start * math.sin(phase),
        steps,
        kick,
        np.random.default_rng(0) if rng is None else rng,  # asked for nothing where kick is 0
    )
    if not all(np.isfinite(values).all() for values in out):
        raise ValueError(
            f"{steps} steps a cycle don't resolve so stiff a contact: take more of them, "
            "or a stiffer lever"
        )
    return Cycles(*out)


def steady_state(
    lever: Cantilever,
    free_amplitude_nm: float,
    radius_nm: float,
    material: Material,
    distance_nm: float,
    *,
    amplitude_nm: float | None = None,
    phase_deg: float = 90.0,
    settle: float = 12.0,
    steps: int = 1500,
) -> Cycles:
    """Return the last cycle at one distance after `settle` ring-down times; arguments as `follow`.

    Where the lever has two steady states, its start decides which of them it settles in.
    """
    cycles = math.ceil(settle * lever.quality_factor / math.pi) + 1
    distance = np.full(cycles, float(distance_nm))
    done = follow(
        lever,
        free_amplitude_nm,
        radius_nm,
        material,
        distance,
        amplitude_nm=amplitude_nm,
        phase_deg=phase_deg,
        steps=steps,
    )
    return Cycles(*(values[-1:] for values in vars(done).values()))


@numba.njit(cache=True, nogil=True)
def _follow(  # type: ignore[no-untyped-def]
    distance,
    stiffness,
    quality,
    free_amplitude,
    radius,
    e_star,
    adhesion,
    thickness,
    viscosity,
    x,
    v,
    steps,
    thermal,
    rng,
):
    """Run the cycles; x and v = dx/dtheta at the start, viscosity in nN/nm^2 per dx/dtheta."""
    h = 2.0 * math.pi / steps
    # The exact step of the free, undriven, damped lever.
    damping = 0.5 / quality
    ringing = math.sqrt(1.0 - damping**2)
    fade = math.exp(-damping * h)
    c, s = fade * math.cos(ringing * h), fade * math.sin(ringing * h) / ringing
    xx, xv, vx, vv = c + damping * s, s, -s, c - damping * s
    angle = h * np.arange(steps + 1)
    cosine, sine = np.cos(angle), np.sin(angle)

    cycles = distance.size
    amplitude, phase = np.empty(cycles), np.empty(cycles)
    mean_force, peak_force, dissipated = np.empty(cycles), np.empty(cycles), np.empty(cycles)
    for cycle in range(cycles):
        d = distance[cycle]
        in_phase = quadrature = total = lost = 0.0
        peak = -np.inf
        force = force_nn(d + x, radius, e_star, adhesion, thickness)
        for i in range(steps):
            v += 0.5 * h * force / stiffness
            if thermal > 0.0:
                v += thermal * rng.standard_normal()
            # The drive's own motion, A0 sin(theta), apart from which the lever is free.
            y, w = x - free_amplitude * sine[i], v - free_amplitude * cosine[i]
            x = xx * y + xv * w + free_amplitude * sine[i + 1]
            v = vx * y + vv * w + free_amplitude * cosine[i + 1]
            force = force_nn(d + x, radius, e_star, adhesion, thickness)
            drag = 0.0
            indentation = CONTACT_NM - d - x
            if viscosity > 0.0 and indentation > 0.0:
                drag = viscosity * math.sqrt(radius * indentation)
                after = v * math.exp(-drag / stiffness * h)
                lost += 0.5 * stiffness * (v**2 - after**2)
                drag *= -0.5 * (v + after)
                v = after
            v += 0.5 * h * force / stiffness
            in_phase += x * cosine[i + 1]
            quadrature += x * sine[i + 1]
            total += force + drag
            peak = max(peak, force + drag)
        amplitude[cycle] = 2.0 * math.hypot(in_phase, quadrature) / steps
        phase[cycle] = math.degrees(math.atan2(quadrature, in_phase)) % 360.0
        mean_force[cycle], peak_force[cycle] = total / steps, peak
        dissipated[cycle] = lost * EV_PER_NN_NM
    return amplitude, phase, mean_force, peak_force, dissipated

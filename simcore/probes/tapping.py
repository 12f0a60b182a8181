"""Steady tapping: how a lever driven at its resonance swings at each distance from a surface.

`tapping_kernels` averages the forces over the cycle and takes the motion for harmonic, which that
of a lever in liquid isn't: below a quality factor of 20 the curve comes from `tapping_ode`, cycle
by cycle. Averaged amplitudes are too large: by up to 0.75 / Q + 0.05 % of the free one (0.3 to
0.9 of it, k = 2 to 40 N/m, 0.1 to 100 GPa), by 1 % of it more for k = 0.1 N/m, and by some 5 %
where adhesion rivals k A0; peak forces are 1 to 4 % too small at 40 N/m and Q of 150 and more.
The drive is at the resonance, always: off it none of this holds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.probes.cantilever import Cantilever
from nanophantom.simcore.probes.interaction import indentation_nm
from nanophantom.simcore.probes.tapping_kernels import REACH_NM, approach_rows, inwards, tap_of
from nanophantom.simcore.probes.tapping_ode import EV_PER_NN_NM, follow
from nanophantom.simcore.surfaces import Material

Floats = npt.NDArray[np.float64]

AVERAGED_FROM_Q = 20.0
"""Quality factor from which on cycles are averaged; below, they are followed one by one."""


def free_power_pw(lever: Cantilever, free_amplitude_nm: float) -> float:
    """Return the power that a free lever loses to its surroundings, k A0^2 w0 / 2 Q."""
    energy = lever.stiffness_n_per_m * free_amplitude_nm**2
    return 1e-6 * energy * lever.omega_per_s / (2.0 * lever.quality_factor)


def conservative_phase_deg(ratio: float, *, repulsive: bool = True) -> float:
    """Return the phase lag at A / A0 = `ratio` where nothing is dissipated (Cleveland 1998)."""
    angle = math.degrees(math.asin(ratio))
    return angle if repulsive else 180.0 - angle


def dissipated_ev(
    lever: Cantilever, free_amplitude_nm: float, amplitude_nm: Floats, phase_deg: Floats
) -> Floats:
    """Return the energy a cycle leaves in the sample, from amplitude and phase (Cleveland 1998).

    ``E = (pi k A A0 / Q) (sin(phase) - A / A0)``; arrays of one shape.
    """
    amplitude = np.asarray(amplitude_nm, np.float64)
    excess = np.sin(np.radians(phase_deg)) - amplitude / free_amplitude_nm
    scale = math.pi * lever.stiffness_n_per_m * free_amplitude_nm / lever.quality_factor
    return np.asarray(scale * amplitude * excess * EV_PER_NN_NM)


def virial_mean_force_nn(lever: Cantilever, free_amplitude_nm: float, ratio: float) -> float:
    """Return the mean force of a conservative, short-ranged, repelling surface at A / A0 = `ratio`.

    ``k A0 / (2 Q) sqrt(1 - ratio^2)``: all the force comes at the lowest point, where x = -A.
    """
    scale = lever.stiffness_n_per_m * free_amplitude_nm / (2.0 * lever.quality_factor)
    return scale * math.sqrt(1.0 - ratio**2)


def hertz_peak_force_nn(
    lever: Cantilever,
    free_amplitude_nm: float,
    ratio: float,
    radius_nm: float,
    reduced_modulus_gpa: float,
) -> float:
    """Return the peak force on an elastic flat that doesn't adhere; indentation << amplitude.

    Mean force of a Hertz contact that lasts for the indentation's share of a parabolic turn,
    ``F_mean = (3/8) F_peak sqrt(indentation / 2 A)``, equal to `virial_mean_force_nn`. Good to
    2 % at quality factors of some hundreds; adhesion raises it, by far near the free amplitude.
    """
    mean = virial_mean_force_nn(lever, free_amplitude_nm, ratio)
    turn = 16.0 / 3.0 * mean * math.sqrt(0.5 * ratio * free_amplitude_nm)
    return math.pow(turn, 0.75) * math.pow(
        4.0 / 3.0 * reduced_modulus_gpa * math.sqrt(radius_nm), 0.25
    )


@dataclass(frozen=True, eq=False)
class ApproachCurve:
    """Steady tapping as a function of the distance, all arrays of shape (n,).

    Attributes
    ----------
    distance_nm
        Distance of the lever's rest position from the surface, on a uniform, increasing grid:
        from where the surface has stilled the lever to where it hardly feels it.
    amplitude_nm, phase_deg
        Amplitude and phase lag: 90 degrees free, less where the surface repels on the whole.
    mean_force_nn, peak_force_nn
        Mean and greatest force on the tip over a cycle, positive pushing it away.
    dissipated_ev
        Energy left in the sample each cycle.
    repulsive
        Where the tip taps in the repulsive regime, phase below 90 degrees; bool.
    """

    distance_nm: Floats
    amplitude_nm: Floats
    phase_deg: Floats
    mean_force_nn: Floats
    peak_force_nn: Floats
    dissipated_ev: Floats
    repulsive: npt.NDArray[np.bool_]


def approach_curve(
    lever: Cantilever,
    free_amplitude_nm: float,
    radius_nm: float,
    material: Material,
    *,
    step_nm: float = 0.02,
) -> ApproachCurve:
    """Return how a tapping lever swings at each distance from a flat.

    Where a distance allows several steady amplitudes the greatest is given: the repulsive branch
    where it exists. (A real lever that comes from afar may hang on in the attractive one.) With a
    quality factor below `AVERAGED_FROM_Q` the lever is followed as it comes from afar.

    Parameters
    ----------
    lever, free_amplitude_nm
        The lever and the amplitude with which its drive makes it swing freely.
    radius_nm, material
        Radius of the tip and what it taps on.
    step_nm
        Step of the grid. It ends `REACH_NM` above the free amplitude and begins below the surface
        where the amplitude is a hundredth of the free one, at the latest a free amplitude deep.

    Raises
    ------
    ValueError
        For a radius, an amplitude or a step that isn't positive.
    """
    if not (free_amplitude_nm > 0 and radius_nm > 0 and step_nm > 0):
        raise ValueError("free_amplitude_nm, radius_nm and step_nm must be positive")
    if lever.quality_factor < AVERAGED_FROM_Q:
        path = followed(lever, free_amplitude_nm, radius_nm, material)
    else:
        tap = tap_of(lever, free_amplitude_nm, radius_nm, material)
        path = inwards(approach_rows(tap, free_amplitude_nm + REACH_NM, step_nm))
        path[:, 5] *= EV_PER_NN_NM
    stilled = np.flatnonzero((path[:, 1] > 0.01 * free_amplitude_nm) | (path[:, 0] > 0.0))
    path = path[max(int(stilled[0]) - 1, 0) :]
    points = math.floor((path[-1, 0] - path[0, 0]) / step_nm)
    distance = path[-1, 0] - step_nm * np.arange(points, -1, -1)
    amplitude, phase, mean, peak, lost = (
        np.interp(distance, path[:, 0], path[:, column]) for column in range(1, 6)
    )
    return ApproachCurve(distance, amplitude, phase, mean, peak, lost, phase < 90.0)


def followed(
    lever: Cantilever, free_amplitude_nm: float, radius_nm: float, material: Material
) -> Floats:
    """Return rows as `approach_rows` does but by growing distance and with eV, cycle by cycle.

    The lever is followed from afar down to the surface and into it, by `tapping_ode`.
    """
    start, step = free_amplitude_nm + REACH_NM, 0.05
    points = math.ceil((start + free_amplitude_nm) / step) + 1
    distance = start - step * np.arange(points)
    hold = math.ceil(4.0 * lever.quality_factor / math.pi) + 4
    # Forty steps to a radian of the lever on the spring of its contact. That of a layer stiffens as
    # it is squeezed: twenty steps where that is as hard as a swing far into it can squeeze.
    contact, most = 2.0 * material.reduced_modulus_gpa * math.sqrt(0.2 * radius_nm), 3000.0
    if material.thickness_nm is not None:
        load = 20.0 * lever.stiffness_n_per_m * free_amplitude_nm
        deep, deeper = (indentation_nm(f * load, radius_nm, material) for f in (1.0, 1.01))
        contact, most = max(contact, 0.01 * load / (deeper - deep) / 4.0), 20000.0
    steps = math.ceil(min(max(40.0 * math.sqrt(contact / lever.stiffness_n_per_m), 400.0), most))
    cycles = follow(
        lever, free_amplitude_nm, radius_nm, material, np.repeat(distance, hold), steps=steps
    )
    # The last four cycles at each distance: a lever in liquid may hit at every second one only.
    last = {name: values.reshape(points, hold)[:, -4:] for name, values in vars(cycles).items()}
    swing = np.mean(last["amplitude_nm"] * np.exp(1j * np.radians(last["phase_deg"])), axis=1)
    columns = (
        distance,
        np.abs(swing),
        np.degrees(np.angle(swing)) % 360.0,
        last["mean_force_nn"].mean(axis=1),
        last["peak_force_nn"].max(axis=1),
        last["dissipated_ev"].mean(axis=1),
    )
    return np.stack(columns, axis=1)[::-1]

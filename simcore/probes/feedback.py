"""The loop that keeps the tip on the surface: detector, PI controller, z stage.

Nothing here knows of images. A line is followed in time steps of the controller: where the stage
holds the lever, the sample answers with an amplitude (tapping) or a deflection (contact); the
detector sees it late and noisily; the controller moves the stage, which has a resonance of its
own and a limited range. Parachuting, overshoot and ringing are what comes out of that:

* far over the surface the amplitude can't exceed the free one, so the error saturates and the
  stage comes down at no more than ``Ki (A0 - Asp)``;
* an integral loop on a response of slope one lags behind a ramp of slope s by ``v s / Ki`` and
  leaves the share ``f / sqrt(f^2 + fc^2)``, fc = Ki / 2 pi, of a sine as error
  (R. Garcia, Amplitude Modulation AFM, Wiley 2010; K. J. Astrom & R. M. Murray, Feedback Systems).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.linalg import expm

from nanophantom.simcore.models import Model

Floats = npt.NDArray[np.float64]


class Controller(Model):
    """A proportional-integral controller; its input is in nm of amplitude or deflection."""

    proportional: float = Field(
        default=0.1, ge=0, le=100, json_schema_extra={"dimensionless": True}
    )
    """Proportional gain: nm of the stage for a nm of error."""
    integral_per_s: float | tuple[float, ...] = 2000.0
    """Integral gain: nm of the stage per second for a nm of error; one number a frame if several
    are given. Too little leaves tails behind steps, too much rings."""
    rate_khz: float = Field(default=50.0, ge=1, le=1e4)
    """Steps of the digital loop."""
    delay_us: float = Field(default=0.0, ge=0, le=1e4)
    """Time from a detector's reading to the stage's drive."""
    ideal: bool = False
    """A perfect loop: the stage is always where the set point wants it. For comparison: with it
    tails, overshoot and the difference of trace and retrace vanish."""


class Stage(Model):
    """The stage that moves tip or sample in z."""

    resonance_khz: float = Field(default=10.0, gt=0, le=1e4)
    """Its first resonance."""
    quality_factor: float = Field(
        default=10.0, ge=0.5, le=1000, json_schema_extra={"dimensionless": True}
    )
    """Quality factor of that resonance."""
    range_um: float = Field(default=10.0, gt=0, le=1000)
    """Travel; the loop starts in its middle, and beyond its ends the drive saturates."""


class Detector(Model):
    """What turns the lever's motion into the loop's input."""

    bandwidth_khz: float = Field(default=20.0, gt=0, le=1e5)
    """Corner of its first-order low pass (of the lock-in, in tapping)."""
    noise_fm_per_sqrt_hz: float = Field(default=100.0, ge=0, le=1e6)
    """White noise of the optical lever, as a motion of the tip; 50 to 500 fm/sqrt(Hz) is usual."""


class Loop(NamedTuple):
    """Constants of a loop, for its kernel."""

    tapping: bool
    dt_s: float
    proportional: float
    integral_per_s: float
    setpoint_nm: float
    free_nm: float
    """Amplitude far from the surface; 0 in contact mode."""
    stage: tuple[float, float, float, float, float, float]
    """Exact step of the stage: position and velocity from position, velocity and drive."""
    low_nm: float
    high_nm: float
    """Ends of the stage's travel, at which the drive saturates."""
    detected_share: float
    """Part of the way to a new value that the detector goes in a step."""
    ring_down_s: float
    """Time in which a free amplitude relaxes."""
    thermal_nm: float
    detector_nm: float
    """Noise of the detector at each step."""


class Response(NamedTuple):
    """What the sample makes of the lever's distance from it, tabulated for each material.

    Distances s from the lever's rest position to the surface run in even steps. In tapping `near`
    is the amplitude and `far` the phase; in contact they are the deflections of the two branches
    (touching, free), of which the lever stays on one until it ends.
    """

    start_nm: float
    step_nm: float
    near: Floats
    """(materials, distances), nm."""
    far: Floats
    """(materials, distances), nm or deg."""
    lets_go_nm: Floats
    """Distance beyond which each material lets the tip go, (materials,)."""
    snaps_nm: Floats
    """Distance below which each material pulls the free tip in, (materials,)."""


class Landscape(NamedTuple):
    """The surface as the tip feels it, sampled evenly; between samples it is bilinear."""

    x0_nm: float
    y0_nm: float
    step_x_nm: float
    step_y_nm: float
    heights_nm: Floats
    """(ny, nx)."""
    material: npt.NDArray[np.uint8]
    """(ny, nx): of the point that the tip touches."""


@dataclass
class LoopState:
    """Where a loop stands between lines.

    Attributes
    ----------
    values : (8,)
        Stage position and velocity, integral, amplitude or deflection, detected value, phase,
        thermal amplitude, whether the tip touches.
    drives : (delay in steps + 1,)
        Drives on their way to the stage, oldest first from `values`' own counter.
    """

    values: Floats
    drives: Floats


def stage_step(stage: Stage, dt_s: float) -> tuple[float, float, float, float, float, float]:
    """Return the exact step of a driven, damped oscillator whose drive is held for dt.

    ``z'' = w^2 (u - z) - (w / Q) z'``: rows z, z' and columns z, z', u.
    """
    w = 2e3 * math.pi * stage.resonance_khz
    rates = np.array([[0, 1, 0], [-(w**2), -w / stage.quality_factor, w**2], [0, 0, 0]])
    step = expm(rates * dt_s)[:2]
    a, b, c, d, e, f = (float(v) for v in step.ravel())
    return a, b, c, d, e, f


def settled(loop: Loop, response: Response, height_nm: float, material: int,
            delay_s: float) -> LoopState:  # fmt: skip
    """Return the loop at rest on a point of the surface."""
    rest = height_nm + setpoint_distance(loop, response, material)
    phase = 0.0
    if loop.tapping:
        at = np.arange(response.far.shape[1]) * response.step_nm + response.start_nm
        phase = float(np.interp(rest - height_nm, at, response.far[material]))
    values = np.array(
        [rest, 0.0, rest, loop.setpoint_nm, loop.setpoint_nm, phase, 0.0, 1.0], np.float64
    )
    return LoopState(values, np.full(round(delay_s / loop.dt_s) + 1, rest))


def setpoint_distance(loop: Loop, response: Response, material: int) -> float:
    """Return the lever's distance from a material at which the set point is kept.

    Raises
    ------
    ValueError
        No distance gives the set point.
    """
    at = np.arange(response.near.shape[1]) * response.step_nm + response.start_nm
    value = response.near[material]
    if not loop.tapping:
        value, at = value[::-1], at[::-1]  # the deflection falls with distance
    reached = np.flatnonzero(value >= loop.setpoint_nm)
    if not len(reached) or value[0] > loop.setpoint_nm:
        raise ValueError(
            f"the set point, {loop.setpoint_nm:g} nm, is never reached: the lever's answer lies "
            f"between {value.min():.3g} and {value.max():.3g} nm"
        )
    i = max(int(reached[0]), 1)
    rise = value[i] - value[i - 1]
    share = (loop.setpoint_nm - value[i - 1]) / rise if rise else 0.0
    return float(at[i - 1] + share * (at[i] - at[i - 1]))


@numba.njit(cache=True, nogil=True)
def follow_line(
    loop: Any,
    response: Any,
    land: Any,
    x_nm: Floats,
    y_nm: Floats,
    raised_nm: Floats,
    steps: int,
    state: Floats,
    drives: Floats,
    thermal: Any,
    noise: Any,
    out: Floats,
) -> None:
    """Follow the surface along one line, trace and retrace.

    Parameters
    ----------
    loop, response, land
        Constants of the loop, the sample's answer, the surface.
    x_nm, y_nm : (m,)
        Where the tip is at the middle of each dwell; between them it moves evenly.
    raised_nm : (m,)
        How much the surface is raised then (drift, disturbances).
    steps
        Steps of the loop in a dwell.
    state, drives
        Those of `LoopState`; moved on.
    thermal, noise
        Generators of the lever's thermal motion and the detector's noise.
    out : (4, m)
        Means over each dwell: stage, detected value, phase, height of the surface as felt.
    """
    z, v, integral, value, detected, phase, shaken, touching = state
    a, b, c, d, e, f = loop.stage
    share_free = 1.0 - math.exp(-loop.dt_s / loop.ring_down_s)
    kept = 1.0 - share_free
    shake = loop.thermal_nm * math.sqrt(1.0 - kept * kept)
    m = x_nm.shape[0]
    for j in range(m):
        before, after = max(j - 1, 0), min(j + 1, m - 1)
        sum_z = sum_value = sum_phase = sum_height = 0.0
        for i in range(steps):
            part = (i + 0.5) / steps - 0.5
            other = after if part > 0 else before
            w = abs(part)
            x = x_nm[j] + w * (x_nm[other] - x_nm[j])
            y = y_nm[j] + w * (y_nm[other] - y_nm[j])
            height, material = _felt(land, x, y)
            height += raised_nm[j] + w * (raised_nm[other] - raised_nm[j])
            s = z - height
            if loop.tapping:
                value, phase = _tap(response, material, s, value, phase, share_free)
                if loop.thermal_nm > 0.0:
                    shaken = kept * shaken + shake * thermal.standard_normal()
            else:
                if touching > 0.0:
                    if s > response.lets_go_nm[material]:
                        touching = 0.0
                elif s < response.snaps_nm[material]:
                    touching = 1.0
                if touching > 0.0:
                    value = _look_up(response.near, material, s, response)
                    shaken = 0.0  # the contact is much stiffer than the lever
                else:
                    value = _look_up(response.far, material, s, response)
                    if loop.thermal_nm > 0.0:
                        shaken = kept * shaken + shake * thermal.standard_normal()
            seen = value + shaken
            if loop.detector_nm > 0.0:
                seen += loop.detector_nm * noise.standard_normal()
            detected += loop.detected_share * (seen - detected)
            push = loop.setpoint_nm - detected if loop.tapping else detected - loop.setpoint_nm
            integral += loop.integral_per_s * loop.dt_s * push
            integral = min(max(integral, loop.low_nm), loop.high_nm)  # no wind-up
            drive = integral + loop.proportional * push
            drive = min(max(drive, loop.low_nm), loop.high_nm)
            for k in range(drives.shape[0] - 1):
                drives[k] = drives[k + 1]
            drives[-1] = drive
            sum_z += z
            sum_value += detected
            sum_phase += phase
            sum_height += height
            z, v = a * z + b * v + c * drives[0], d * z + e * v + f * drives[0]
        out[0, j] = sum_z / steps
        out[1, j] = sum_value / steps
        out[2, j] = sum_phase / steps
        out[3, j] = sum_height / steps
    state[:] = z, v, integral, value, detected, phase, shaken, touching


def felt_at(land: Landscape, x_nm: float, y_nm: float) -> tuple[float, int]:
    """Return the height that the tip feels at a point, nm, and the material that it touches."""
    height, material = _felt_alone(land, x_nm, y_nm)
    return float(height), int(material)


@numba.njit(cache=True, nogil=True)
def _felt_alone(land: Any, x: float, y: float) -> Any:
    return _felt(land, x, y)


@numba.njit(cache=True, nogil=True, inline="always")
def _felt(land: Any, x: float, y: float) -> Any:
    """Return height (bilinear) and material (nearest) at a point; edges go on."""
    ny, nx = land.heights_nm.shape
    u = min(max((x - land.x0_nm) / land.step_x_nm, 0.0), nx - 1.0)
    v = min(max((y - land.y0_nm) / land.step_y_nm, 0.0), ny - 1.0)
    j, i = min(int(u), nx - 2), min(int(v), ny - 2)
    p, q = u - j, v - i
    h = land.heights_nm
    top = h[i, j] + p * (h[i, j + 1] - h[i, j])
    low = h[i + 1, j] + p * (h[i + 1, j + 1] - h[i + 1, j])
    return top + q * (low - top), land.material[int(v + 0.5), int(u + 0.5)]


@numba.njit(cache=True, nogil=True, inline="always")
def _look_up(table: Floats, material: int, s: float, response: Any) -> Any:
    """Interpolate a table; before its start and beyond its end it goes on straight."""
    u = (s - response.start_nm) / response.step_nm
    i = min(max(int(u), 0), table.shape[1] - 2)
    return table[material, i] + (u - i) * (table[material, i + 1] - table[material, i])


@numba.njit(cache=True, nogil=True, inline="always")
def _tap(
    response: Any, material: int, s: float, amplitude: float, phase: float, share: float
) -> Any:
    """Move amplitude and phase on by a step."""
    last = response.start_nm + (response.near.shape[1] - 1) * response.step_nm
    at = min(max(s, response.start_nm), last)
    target = _look_up(response.near, material, at, response)
    aim = _look_up(response.far, material, at, response)
    return amplitude + share * (target - amplitude), phase + share * (aim - phase)

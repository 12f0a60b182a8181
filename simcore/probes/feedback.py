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
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.linalg import expm

from nanophantom.simcore.models import Model

Floats = npt.NDArray[np.float64]


class Controller(Model):
    """A proportional-integral controller; its input is in nm of amplitude or deflection."""

    proportional: float = Field(
        default=0.0, ge=0, le=100, json_schema_extra={"dimensionless": True}
    )
    """Proportional gain: nm of the stage for a nm of error. A little quickens the loop; more shakes
    the stage's resonance and the lever's swing, by less than a pixel shows but not without harm."""
    integral_per_s: float | tuple[float, ...] = 2000.0
    """Integral gain: nm of the stage per second for a nm of error; one number a frame if several
    are given. Too little leaves tails behind steps, too much rings."""
    rate_khz: float = Field(default=50.0, ge=1, le=1e4)
    """Steps of the digital loop."""
    delay_us: float = Field(default=0.0, ge=0, le=1e4)
    """Time from a detector's reading to the stage's drive."""
    ideal: bool = False
    """A perfect loop: the height is the surface as the tip feels it, whatever the material, and
    there is no error. For comparison: tails, overshoot and the difference of trace and retrace
    vanish."""


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
    shaken_every: int
    """Steps from one thermal kick of the lever to the next, a small part of its ring-down."""
    detector_nm: float
    """Noise of the detector at each step."""


class ContactTable(NamedTuple):
    """The lever's deflection against its distance, tabulated for each material of the sample.

    Distances s from the lever's rest position to the surface run in even steps. The lever stays on
    one of two branches, touching or free, until that ends.
    """

    start_nm: float
    step_nm: float
    touching_nm: Floats
    """(materials, distances)."""
    free_nm: Floats
    """(materials, distances)."""
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
    """(ny, nx): where the lever would rest, counted from its rest over the first material."""
    material: npt.NDArray[np.uint8]
    """(ny, nx): of the point that holds the tip."""
    over_nm: Floats
    """(materials,): how much farther than over the first material the lever rests over each. What
    the tip feels is `heights_nm` less this, so that rests go on evenly where materials change."""


@dataclass
class LoopState:
    """Where a loop stands between lines.

    Attributes
    ----------
    values : (11,)
        Stage position and velocity, integral, the swing's two quadratures, the surface's rates and
        their distance (`loop_kernels.advance_tapping`), detected value, thermal deflection, whether
        the tip touches.
    drives : (delay in steps + 1,)
        Drives on their way to the stage, the next one first.
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


def settled(loop: Loop, height_nm: float, phase_deg: float, delay_s: float) -> LoopState:
    """Return the loop at rest.

    Parameters
    ----------
    height_nm
        Of the stage.
    phase_deg
        Lag of a tapping lever at the set point.
    delay_s
        From the detector's reading to the stage's drive.
    """
    lag = math.radians(phase_deg)
    swing = loop.setpoint_nm * math.sin(lag), -loop.setpoint_nm * math.cos(lag)
    values = np.array(
        [height_nm, 0.0, height_nm, *swing, 0.0, 0.0, math.inf, loop.setpoint_nm, 0.0, 1.0],
        np.float64,
    )
    return LoopState(values, np.full(round(delay_s / loop.dt_s) + 1, height_nm))


def distance_at(distance_nm: Floats, value_nm: Floats, setpoint_nm: float) -> float:
    """Return the distance at which a rising curve of amplitudes or -deflections passes a value.

    Raises
    ------
    ValueError
        It never does.
    """
    reached = np.flatnonzero(value_nm >= setpoint_nm)
    if not len(reached) or value_nm[0] > setpoint_nm:
        low, high = sorted((abs(float(value_nm.min())), abs(float(value_nm.max()))))
        raise ValueError(
            f"the set point, {abs(setpoint_nm):.4g} nm, is never reached: the lever's answer lies "
            f"between {low:.4g} and {high:.4g} nm"
        )
    i = max(int(reached[0]), 1)
    rise = value_nm[i] - value_nm[i - 1]
    share = (setpoint_nm - value_nm[i - 1]) / rise if rise else 0.0
    return float(distance_nm[i - 1] + share * (distance_nm[i] - distance_nm[i - 1]))


def drawn_noise(
    loop: Loop, count: int, thermal: np.random.Generator, noise: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Draw the normal numbers of so many steps, (kicks, 2) of the lever, (count,) of the detector.

    They are empty where a cause is absent.
    """
    kicks = -(-count // loop.shaken_every)
    return (
        thermal.standard_normal((kicks if loop.thermal_nm else 0, 2), np.float32),
        noise.standard_normal(count if loop.detector_nm else 0, np.float32),
    )

"""What is told of images of a force microscope: nominal settings, and the truth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nanophantom.instruments._afm_modes import of_frame
from nanophantom.instruments._afm_surface import at_pixels, nearest
from nanophantom.simcore.fields import Array, Table
from nanophantom.simcore.probes.height_disturbances import Disturbance
from nanophantom.simcore.probes.piezo_scanner import ProbePath
from nanophantom.simcore.runs import Parts
from nanophantom.simcore.surfaces import material_table

if TYPE_CHECKING:
    from nanophantom.instruments._afm_acquisition import AFMAcquisition, Followed

Floats = npt.NDArray[np.float64]

RINGS_FROM = 2.0
"""Gain times ring-down from which tapping loops were seen to ring, about."""

KEPT_NM = 30.0
"""Depth of the tip that is told of every frame."""


def settings(acquisition: AFMAcquisition) -> Mapping[str, Any]:
    """Return what an operator knows: the dials, and the tip as it was characterised when new."""
    afm, frames = acquisition.afm, range(acquisition.n_frames)
    scan, lever = afm.scan, afm.cantilever
    step_y, step_x = scan.step_nm
    told: dict[str, Any] = {
        "instrument": "afm",
        "mode": afm.imaging.mode,
        "pixel_size_nm": step_x,
        "pixel_size_y_nm": step_y,
        "line_rate_hz": [scan.rate_hz(f) for f in frames],
        "knots_a_line": scan.knots,
        "slow_axis": ["down" if scan.direction(f) > 0 else "up" for f in frames],
        "frame_starts_s": scan.starts_s[:-1].tolist(),
        "overscan_percent": scan.overscan_percent,
        "angle_deg": scan.angle_deg,
        "setpoint_nm": [afm.imaging.setpoint_nm(f, lever) for f in frames],
        "integral_per_s": [of_frame(afm.controller.integral_per_s, f) for f in frames],
        "proportional": afm.controller.proportional,
        "stiffness_n_per_m": lever.stiffness_n_per_m,
        "resonance_khz": lever.resonance_khz,
        "quality_factor": lever.quality_factor,
        "tip": afm.tip.model_dump(mode="json"),
        "n_frames": acquisition.n_frames,
        **acquisition.known,
    }
    if acquisition.tapping:
        told["free_amplitude_nm"] = acquisition.answer.free_nm
    return told


def of_one_frame(
    acquisition: AFMAcquisition,
    frame: int,
    path: ProbePath,
    disturbance: Disturbance,
    quiet: Followed,
) -> dict[str, Array]:
    """Return what was where when each pixel was taken, there and back.

    Where the apex stood on the specimen, how high the stage was without noise, the surface as the
    tip felt it there (with all that raised it), what scanner and disturbances raised it by.
    """
    told: dict[str, Array] = {}
    for name, values in {
        "path_x": path.x_nm,
        "path_y": path.y_nm,
        "path_z": quiet.stage_nm,
        "felt": quiet.felt_nm,
        "scanner_z": path.z_nm,
        "disturbance_z": disturbance.z_nm,
    }.items():
        trace, retrace = acquisition.afm.scan.as_images(values, frame)
        told[name], told[f"{name}_retrace"] = trace.astype(np.float32), retrace.astype(np.float32)
    told["scars"] = disturbance.scar_trace.astype(np.uint8)
    told["scars_retrace"] = disturbance.scar_retrace.astype(np.uint8)
    return told


def tables(acquisition: AFMAcquisition, parts: Parts) -> dict[str, Table]:
    """Return the truth of the whole item."""
    scan, history = acquisition.afm.scan, acquisition.tips
    x, y = scan.raster_nm()
    first = [float(v) for v in scan.placed(x[0], y[0])]
    fresh = history.state_at(0).tip
    told: dict[str, Table] = {
        "view": {
            "x0_nm": np.array([first[0]]),
            "y0_nm": np.array([first[1]]),
            "angle_deg": np.array([scan.angle_deg]),
        },
        "surface": {
            "height_nm": at_pixels(acquisition.surface, acquisition.surface.heights_nm, scan),
            "image_nm": at_pixels(acquisition.surface, acquisition.fresh_image(parts), scan),
            "material": nearest(acquisition.surface, acquisition.surface.material, scan),
        },
        "materials": material_table(acquisition.surface.materials),
        "tip": {
            "height_nm": np.asarray(fresh.heights_nm),
            "apex": np.array(fresh.apex),
            "step_nm": np.array(fresh.step_nm),
        },
        "motion": acquisition.motion.table(),
        "loop": _loop(acquisition),
        "tip_lines": history.tables()["tip"],
        "tip_events": history.tables()["tip_events"],
        "tip_frames": _tip_frames(acquisition),
        **_disturbances(acquisition),
    }
    return told


def outline() -> Mapping[str, str]:
    """Return one line on every table."""
    return {
        "view": "where pixel (0, 0) lies on the specimen, and which way lines run",
        "surface": "height and material under every pixel, and its image by the fresh tip",
        "materials": "modulus, adhesion and viscosity of what there is",
        "tip": "the fresh tip, sampled: minus the height of its surface over its apex",
        "tip_lines": "wear, length and radius of the tip at the beginning of every line",
        "tip_events": "particles picked up and fragments broken off",
        "tip_frames": "the tip amid every frame, down to 30 nm over its apex, on one grid",
        "motion": "drift, creep and jitter amid every line",
        "loop": "set point, gains, speed, forces and time constants of every frame",
        "scars": "debris under the tip for a part of a line",
        "steps": "jumps of the height that last",
        "mains": "pickup of the mains",
        "line_offsets": "offset of every line",
    }


def notes(acquisition: AFMAcquisition) -> tuple[str, ...]:
    """Say how finely the surface is sampled, and what forces act."""
    step_y, step_x = acquisition.surface.step_nm
    ny, nx = acquisition.surface.heights_nm.shape
    told = [
        f"The surface is sampled every {step_x:.3g} nm ({ny} x {nx} samples; along y "
        f"{step_y:.3g} nm) and dilated exactly by the sampled tip.",
    ]
    table = _loop(acquisition)
    mean, peak = table["mean_force_nn"], table["peak_force_nn"]
    name = acquisition.surface.materials[0].name
    forces = (
        f"{mean.min():.3g} nN" if np.ptp(mean) == 0 else f"{mean.min():.3g} to {mean.max():.3g} nN"
    )
    if acquisition.tapping:
        forces += f" on average, {peak.max():.3g} nN at most in a cycle"
    told.append(f"At the set point the tip presses on {name} with {forces}.")
    hastiest = int(np.argmax(table["integral_per_s"]))
    gain, stage = float(table["integral_per_s"][hastiest]), acquisition.afm.stage
    lever = gain * acquisition.afm.cantilever.ring_down_s if acquisition.tapping else 0.0
    # An integrator before a resonance is unstable where Ki Q / w passes 1.
    staged = gain * stage.quality_factor / (2e3 * math.pi * stage.resonance_khz)
    if lever > RINGS_FROM or staged > 1.0:
        told.append(
            f"A gain of {gain:g}/s is more than this loop can bear: it is {lever:.2g} times the "
            f"rate at which the lever rings down and {staged:.2g} of what the stage's resonance "
            "allows. It will ring, and heights may float."
        )
    return tuple(told)


def _loop(acquisition: AFMAcquisition) -> Table:
    """Return what the loop of each frame is and does."""
    afm, frames = acquisition.afm, range(acquisition.n_frames)
    setpoints = [afm.imaging.setpoint_nm(f, afm.cantilever) for f in frames]
    forces = np.array([acquisition.answer.forces_at(acquisition.rest_nm(f), 0) for f in frames])
    gains = np.array([of_frame(afm.controller.integral_per_s, f) for f in frames])
    return {
        "frame": np.arange(acquisition.n_frames),
        "setpoint_nm": np.array(setpoints),
        "integral_per_s": gains,
        "corner_hz": gains / (2 * math.pi),
        "line_rate_hz": np.array([afm.scan.rate_hz(f) for f in frames]),
        "speed_nm_per_s": np.array([1e3 * afm.scan.speed_um_per_s(f) for f in frames]),
        "ring_down_s": np.full(len(gains), afm.cantilever.ring_down_s),
        "loop_steps_a_pixel": np.array([acquisition.steps(f) for f in frames]),
        "mean_force_nn": forces[:, 0],
        "peak_force_nn": forces[:, 1],
        "rest_nm": np.array([acquisition.rest_nm(f) for f in frames]),
    }


def _tip_frames(acquisition: AFMAcquisition) -> Table:
    """Return the tip at the middle line of every frame; of one that never changes only the first.

    Heights are -inf where the tip lies deeper than is kept.
    """
    lines = acquisition.afm.scan.height_px
    frames = range(acquisition.n_frames if acquisition.tip_changes else 1)
    tips = [acquisition.tips.tip_at(f * lines + lines // 2).cropped(KEPT_NM) for f in frames]
    before = np.max([t.apex for t in tips], axis=0)
    shapes = np.array([t.heights_nm.shape for t in tips])
    after = np.max(shapes - [t.apex for t in tips], axis=0)
    heights = np.full((len(tips), *(before + after)), -np.inf, np.float32)
    for shown, tip in zip(heights, tips, strict=True):
        (row, column), (ny, nx) = before - tip.apex, tip.heights_nm.shape
        shown[row : row + ny, column : column + nx] = tip.heights_nm
    return {
        "frame": np.arange(len(tips)),
        "height_nm": heights,
        "apex": np.tile(before, (len(tips), 1)),
        "step_nm": np.tile(tips[0].step_nm, (len(tips), 1)),
    }


def _disturbances(acquisition: AFMAcquisition) -> dict[str, Table]:
    """Return what disturbed all frames, frame by frame."""
    drawn = [acquisition.disturbance(f) for f in range(acquisition.n_frames)]
    return {
        "scars": _stacked([d.scars for d in drawn]),
        "steps": drawn[-1].steps,  # those of all frames up to the last
        "mains": drawn[0].mains,
        "line_offsets": _stacked([{"offset_nm": d.line_offsets_nm} for d in drawn]),
    }


def _stacked(tables: list[Table]) -> Table:
    """Put tables of frames below one another, with the frame's number."""
    lengths = [len(next(iter(table.values()))) for table in tables]
    return {
        "frame": np.repeat(np.arange(len(tables)), lengths),
        **{name: np.concatenate([table[name] for table in tables]) for name in tables[0]},
    }

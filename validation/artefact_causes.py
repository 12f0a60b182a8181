"""Take apart what was added to a true surface, cause by cause, and find each in what is left.

Nothing is simulated again. The truth holds the path of the tip, what scanner and disturbances
raised the surface by, what the tip felt, what the loop made of it without noise, and what was
recorded; their differences, and the tables of what was drawn, give an image of each cause. What a
cleaned map still has of it is the part of its error that looks like the cause. Pixels out of place
err by the surface's slopes: first, row by row, a displacement is fitted. The rest is least squares
of the error on the images of all other causes, laid where they lie on the map.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nanophantom.analysis.both_ways import Passes
from nanophantom.validation.surface_comparison import (
    MOST_FRAMES,
    SurfaceComparison,
    displacements_px,
    frame_truth,
    of_lines,
    rms,
    without_plane,
)

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]
Images = Mapping[str, Floats]

WAYS = ("", "_retrace")
NEGLIGIBLE_NM = 1e-4
DISPLACED = "drift, creep, jitter"
"""Causes that move pixels: heights change by them where the surface is steep."""


@dataclass(frozen=True, eq=False)
class Cause:
    """One cause of errors: its image in the trace of frame 0, and its rms there and in the map.

    Attributes
    ----------
    image : (ny, nx)
        nm, less its best plane if it isn't zero nearly everywhere.
    raw_nm, left_nm
        Rms in the trace, and of what is left of it in the map.
    """

    name: str
    image: Floats
    raw_nm: float
    left_nm: float


def causes(dataset: Observed, c: SurfaceComparison) -> list[Cause]:
    """Return the causes that are at work, the strongest first."""
    frames = min(dataset.n_frames, MOST_FRAMES)
    pictures = [[_causes_of(dataset, c, f, w) for w in WAYS] for f in range(frames)]
    raw = pictures[0][0]
    strength = {name: rms(without_plane(image, c.used)[c.used]) for name, image in raw.items()}
    names = [name for name in raw if strength[name] > NEGLIGIBLE_NM]
    on_map = {name: np.zeros(c.used.shape) for name in names}
    for f in range(frames):
        for way, images in zip(WAYS, pictures[f], strict=True):
            place = _places_in_frame(displacements_px(dataset, frames, (way,))[f], c.place_px)
            for name in names:
                there = ndimage.map_coordinates(images[name], place, order=1, mode="nearest")
                on_map[name] += there / (frames * len(WAYS))
    misplaced = _misplaced(c)
    others = [name for name in names if name != DISPLACED]
    flat = {name: without_plane(on_map[name], c.used) for name in others}
    rest = (c.clean_error - misplaced)[c.used]
    left = {DISPLACED: rms(misplaced[c.used])}
    if others:
        design = np.stack([image[c.used] for image in flat.values()], axis=1)
        shares = np.linalg.lstsq(design, rest, rcond=1e-6)[0]
        for name, share in zip(others, shares, strict=True):
            left[name] = abs(float(share)) * rms(flat[name][c.used])
    found = []
    for name in names:
        image = without_plane(raw[name], c.used)
        sparse = np.median(np.abs(raw[name])) == 0
        found.append(Cause(name, raw[name] if sparse else image, strength[name], left[name]))
    return sorted(found, key=lambda cause: -cause.raw_nm)


def _misplaced(c: SurfaceComparison) -> Floats:
    """Return the part of the map's error that a displacement of each row explains."""
    slopes = np.stack([np.gradient(c.reference, axis=i) for i in (0, 1)], axis=-1)
    explained = np.zeros(c.used.shape)
    for row in np.flatnonzero(c.used.any(axis=1)):
        seen = c.used[row]
        design = slopes[row][seen] - np.mean(slopes[row][seen], axis=0)
        error = c.clean_error[row][seen]
        explained[row, seen] = design @ np.linalg.lstsq(design, error - error.mean(), rcond=1e-6)[0]
    return explained


def _causes_of(dataset: Observed, c: SurfaceComparison, frame: int, way: str) -> dict[str, Floats]:
    """Return an image of each cause in one image of a frame, nm."""

    def told(name: str) -> Floats:
        return frame_truth(dataset, name + way, frame)

    felt, ideal = told("felt"), frame_truth(dataset, f"ideal_height{way}", frame)
    recorded = np.asarray(dataset.signal(f"height{way}", frame, frame + 1)[0], np.float64)
    spikes = told("spikes") > 0
    noise = recorded - ideal
    z_drift = of_lines(dataset, "motion", "drift_z_nm", frame)[:, None] + np.zeros(felt.shape)
    disturbed = _disturbances(dataset, frame, way, felt.shape)
    known = np.sum(list(disturbed.values()), axis=0)
    return {
        DISPLACED: felt - told("scanner_z") - told("disturbance_z") - c.raw_reference,
        "bow and tilt": told("scanner_z") - z_drift,
        "drift in z": z_drift,
        **disturbed,
        "1/f noise": told("disturbance_z") - known,
        "loop": ideal - felt,
        "spikes": np.where(spikes, noise, 0.0),
        "noise of sensor and lever": np.where(spikes, 0.0, noise),
    }


def _disturbances(
    dataset: Observed, frame: int, way: str, shape: tuple[int, ...]
) -> dict[str, Floats]:
    """Return what the tables of disturbances tell, each as an image."""
    passes = Passes.of(dataset.settings, frame, (shape[0], shape[1]))
    t = passes.retrace_s if way else passes.trace_s
    mains = dataset.truth("mains")
    hum = np.zeros(shape)
    for f, a, phase in zip(
        mains["frequency_hz"], mains["amplitude_nm"], mains["phase_rad"], strict=True
    ):
        hum += a * np.sin(2 * np.pi * f * t + phase)
    told = {
        "offsets of lines": of_lines(dataset, "line_offsets", "offset_nm", frame)[:, None]
        + np.zeros(shape),
        "mains": hum,
        "scars": _scars(dataset, frame, bool(way), shape),
    }
    steps = dataset.truth("steps")
    if len(steps["t_s"]):
        done = np.searchsorted(steps["t_s"], t, side="right")
        told["jumps"] = np.concatenate([[0.0], np.cumsum(steps["height_nm"])])[done]
    return told


def _scars(dataset: Observed, frame: int, back: bool, shape: tuple[int, ...]) -> Floats:
    """Return the height of the debris under the tip."""
    scars, under_tip = dataset.truth("scars"), np.zeros(shape)
    here = (np.asarray(scars["frame"]) == frame) & ((np.asarray(scars["retrace"]) == 1) == back)
    for i in np.flatnonzero(here):
        row, start = int(scars["row"][i]), int(scars["start_column"][i])
        length, height = int(scars["length_px"][i]), float(scars["height_nm"][i])
        columns = (
            slice(max(start - length + 1, 0), start + 1) if back else slice(start, start + length)
        )
        under_tip[row, columns] += height
    return under_tip


def _places_in_frame(displacement: Floats, place: Floats) -> Floats:
    """Return where in a frame (row, column) a place on the true raster was recorded.

    Lines are displaced as a whole, and follow one another in the image but for jitter, which is
    smoothed away.
    """
    dy, dx = (ndimage.uniform_filter1d(d.mean(axis=1), 5) for d in displacement)
    rows = np.arange(len(dy))
    row = np.interp(place[0], rows + dy, rows)
    return np.stack([row, place[1] - np.interp(row, rows, dx)])

"""Clean a pair of height images: scars, spikes, mains, background, offsets of rows, drift.

First what only one way of the lines shows is taken off (:mod:`nanophantom.analysis.both_ways`);
then tilt, bow and the offsets of rows (:mod:`nanophantom.analysis.levelling`); at last two frames
tell drift and settling by the times of their lines, and how much the slow axis creeps after its
ramps (:mod:`nanophantom.analysis.height_drift`); their mean is the map.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nanophantom.analysis import height_drift, levelling
from nanophantom.analysis.both_ways import Passes, Ways, combined, without_mains
from nanophantom.analysis.slow_axis_creep import ramp_creep_px
from nanophantom.simcore.pixel_size import nominal_pixel

Floats = npt.NDArray[np.float64]

BOW_DEGREE = 2
"""Of the background: the bow of a scanner that swings is a paraboloid."""
MODEL: height_drift.DriftModel = "exponential"
"""A specimen settles after it was mounted; one that doesn't has a relaxation of about zero."""


def find(
    height: npt.ArrayLike, height_retrace: npt.ArrayLike, settings: Mapping[str, Any]
) -> dict[str, npt.NDArray[Any]]:
    """Answer the task clean-surface: a clean map, scars, displacements, drift.

    Parameters
    ----------
    height, height_retrace : (frames, ny, nx)
        Heights of one area in nm, both stored from left to right. Of more than two frames the
        first two are taken; of one only, drift isn't corrected.
    settings
        pixel_size_nm, pixel_size_y_nm, line_rate_hz, slow_axis, frame_starts_s, knots_a_line.

    Raises
    ------
    ValueError
        The frames show nothing in common by which to align them.
    """
    traces, retraces = (np.asarray(a, np.float64)[:2] for a in (height, height_retrace))
    shape = traces.shape[1], traces.shape[2]
    passes = [Passes.of(settings, f, shape) for f in range(len(traces))]
    pixels = np.array(nominal_pixel(settings))
    pairs = without_mains([Ways.of(*w) for w in zip(traces, retraces, passes, strict=True)])
    frames = [combined(ways) for ways in pairs]
    flat = np.stack([levelling.level(f.image, BOW_DEGREE, mask=f.hidden).image for f in frames])
    clean, displaced, velocity = flat[0], np.zeros((shape[0], 2)), np.zeros(2)
    if len(frames) == 2:
        times = np.stack([p.row_s for p in passes])
        hidden = np.stack([f.hidden for f in frames])
        starts_s = np.asarray(settings["frame_starts_s"], np.float64)[:2]
        ends_s = starts_s + shape[0] / np.asarray(settings["line_rate_hz"], np.float64)[:2]
        drift = height_drift.correct(
            flat,
            times,
            (pixels[0], pixels[1]),
            MODEL,
            mask=hidden,
            course_px=ramp_creep_px(times, starts_s, ends_s, shape[0]),
        )
        clean = levelling.level(drift.image, BOW_DEGREE, rows="none").image
        displaced = drift.displacement_px[0] * pixels
        velocity = -_slope(drift.displacement_px * pixels, times)
    row, column = np.indices(shape)
    return {
        "row": row.ravel(),
        "column": column.ravel(),
        "height_nm": clean.ravel(),
        "scar": frames[0].scar.ravel().astype(np.int64),
        "dx_nm": np.repeat(displaced[:, 1], shape[1]),
        "dy_nm": np.repeat(displaced[:, 0], shape[1]),
        "drift_x_nm_per_s": np.full(clean.size, velocity[1]),
        "drift_y_nm_per_s": np.full(clean.size, velocity[0]),
    }


def _slope(displacement_nm: Floats, times_s: Floats) -> Floats:
    """Return the slope (y, x) of displacements (frames, ny, 2) against their times."""
    t = times_s.ravel() - np.mean(times_s)
    return np.asarray(t @ displacement_nm.reshape(-1, 2) / (t @ t))

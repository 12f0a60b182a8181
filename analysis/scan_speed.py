"""How fast may one scan? The lag of the loop, the error it makes, and the surface behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nanophantom.analysis import loop_correction

Floats = npt.NDArray[np.float64]

IN_PROPORTION = 0.5
"""A tapping lever counts as answering in proportion up to this share of the largest error."""


def measure(
    height: npt.ArrayLike,
    height_retrace: npt.ArrayLike,
    error: npt.ArrayLike,
    error_retrace: npt.ArrayLike,
    settings: Mapping[str, Any],
) -> dict[str, Floats]:
    """Measure lag and error of the loop in every frame, and correct the heights.

    Parameters
    ----------
    height, height_retrace, error, error_retrace : (frames, ny, nx)
        What was recorded, nm; both ways from left to right.
    settings
        mode ("contact" or "tapping"), line_rate_hz and slow_axis of the frames, knots_a_line; in
        tapping free_amplitude_nm and setpoint_nm too.

    Returns
    -------
    columns
        One row a pixel: frame, row, column, height_nm (corrected), and lag_s and height_error_nm
        of its frame.
    """
    heights = np.asarray(height, np.float64), np.asarray(height_retrace, np.float64)
    errors = np.asarray(error, np.float64), np.asarray(error_retrace, np.float64)
    knots = int(settings["knots_a_line"])
    knots_s = 1 / (np.asarray(settings["line_rate_hz"], np.float64) * knots)
    downs = [axis == "down" for axis in settings["slow_axis"]]
    if settings["mode"] == "contact":
        a = loop_correction.sensitivity(heights, errors, knots, downs, 1.0)
    else:
        room = settings["free_amplitude_nm"] - float(np.max(settings["setpoint_nm"]))
        a = loop_correction.sensitivity(heights, errors, knots, downs, -1.0, IN_PROPORTION * room)
    corrected = np.empty(heights[0].shape)
    lags, wrong = np.empty(len(corrected)), np.empty(len(corrected))
    for i, (knot_s, down) in enumerate(zip(knots_s, downs, strict=True)):
        trace, retrace = heights[0][i], heights[1][i]
        lags[i] = loop_correction.lag_s(trace, retrace, knot_s, knots, down)
        left = a * errors[0][i]
        corrected[i], noise = loop_correction.mean_of_ways(
            trace + left, retrace + a * errors[1][i], knots, down
        )
        # What the loop left is in the error channel; of the noise, a part is there too, and the
        # rest is in the heights themselves.
        in_error = abs(a) * loop_correction.noise_of(errors[0][i])
        loop = max(float(np.mean(left**2)) - in_error**2, 0.0)
        wrong[i] = np.sqrt(loop + max(noise**2 - in_error**2, 0.0))
    frame, row, column = (index.ravel() for index in np.indices(corrected.shape))
    return {
        "frame": frame.astype(np.float64),
        "row": row.astype(np.float64),
        "column": column.astype(np.float64),
        "height_nm": corrected.ravel(),
        "lag_s": lags[frame],
        "height_error_nm": wrong[frame],
    }

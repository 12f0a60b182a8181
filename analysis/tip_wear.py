"""The life of a tip from frames of sharp features: its radius, its length, its accidents.

The radius of each frame is that of the tip as its isolated spikes show it, see `tip_from_spikes`:
too large by about the spikes' own radius. A tip that gets shorter lets the scanner come down: the
ground of the image sinks, slowly with wear, and at once where a fragment breaks off; a particle
that is picked up lifts it. Drift in z looks like wear, but not like an accident.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.blind_tip import tip_radius
from nanophantom.analysis.surface_estimate import levelled_mean
from nanophantom.analysis.tip_from_spikes import tip_from_spikes
from nanophantom.simcore.pixel_size import nominal_pixel

Floats = npt.NDArray[np.float64]

JUMP_SIGMAS = 8.0
"""A jump of the ground between two lines is an accident beyond so many standard deviations."""
LEAST_JUMP_NM = 0.3
"""And at least this high."""
JUMP_LINES = 4
"""Lines on either side over which the ground is averaged, by their median."""
GROUND_QUANTILE = 0.15
"""A row is bare on more than this share of it, or it isn't asked for the ground."""
GROUND_SHARE = 0.25
"""Ground lies within this share of the relief over the lowest row: a tip that got shorter amid the
image left it on two levels."""
SIGMA_SHARE, SIGMA_NM = 0.08, 0.8
"""Standard uncertainty of a radius: a share of it, found on simulated frames, and the radius of a
sharp spike."""


def find(
    height: npt.ArrayLike, height_retrace: npt.ArrayLike, settings: Mapping[str, Any]
) -> dict[str, npt.NDArray[Any]]:
    """Answer the task tip-wear.

    Parameters
    ----------
    height, height_retrace : (frames, ny, nx)
        Recorded heights in nm, both ways stored from left to right.
    settings
        Nominal: pixel_size_nm, pixel_size_y_nm, knots_a_line and slow_axis are read.

    Returns
    -------
    dict of (n,) arrays
        frame, radius_nm, sigma_nm, shortened_nm and event (0 or 1) of the frames that show enough
        spikes.
    """
    trace, back = (np.asarray(h, np.float64) for h in (height, height_retrace))
    directions = settings.get("slow_axis", ["down"] * len(trace))
    radius, grounds = np.full(len(trace), np.nan), []
    for k, (one, other, direction) in enumerate(zip(trace, back, directions, strict=True)):
        image = levelled_mean(one[None], other[None], {**settings, "slow_axis": [direction]})
        with contextlib.suppress(ValueError):
            tip, _ = tip_from_spikes(image, nominal_pixel(settings))
            radius[k] = tip_radius(tip, nominal_pixel(settings))
        lines = ground_of_rows(one)
        grounds.append(lines if direction == "down" else lines[::-1])
    ground = np.array(grounds)  # in the order of time
    amid = ground.shape[1] // 2
    shortened = np.median(ground[0, :3]) - np.median(ground[:, amid - 2 : amid + 3], axis=1)
    seen = np.flatnonzero(np.isfinite(radius))
    return {
        "frame": seen,
        "radius_nm": radius[seen],
        "sigma_nm": np.hypot(SIGMA_SHARE * radius[seen], SIGMA_NM),
        "shortened_nm": shortened[seen],
        "event": has_jump(ground)[seen].astype(np.int64),
    }


def ground_of_rows(image: npt.ArrayLike) -> Floats:
    """Return the height of the ground in each row, (ny,), but for a constant.

    It is a low quantile; a row of hardly anything but spikes takes what its neighbours have.
    """
    heights = np.asarray(image, np.float64)
    low = np.quantile(heights, GROUND_QUANTILE, axis=1)
    row = np.arange(len(low))
    bare = low < low.min() + GROUND_SHARE * np.ptp(heights)
    return np.asarray(np.interp(row, row[bare], low[bare]))


def has_jump(ground: Floats) -> npt.NDArray[np.bool_]:
    """Return in which frames the ground jumps, (frames,).

    Parameters
    ----------
    ground : (frames, lines)
        Height of the ground, in the order of time. Between two frames it counts as going on, and a
        jump there belongs to the later one.
    """
    line = ground.ravel()
    at = np.arange(1, len(line))
    before = np.array([np.median(line[max(0, k - JUMP_LINES) : k]) for k in at])
    after = np.array([np.median(line[k : k + JUMP_LINES]) for k in at])
    step = after - before
    sigma = 1.4826 * float(np.median(np.abs(step - np.median(step))))
    jumps = np.abs(step - np.median(step)) > max(JUMP_SIGMAS * sigma, LEAST_JUMP_NM)
    found = np.zeros(ground.shape, np.bool_)
    # A jump is seen from some lines off; it is where the two sides differ most.
    steepest = np.abs(np.diff(line))
    k = 0
    while k < len(jumps):
        if jumps[k]:
            end = k
            while end + 1 < len(jumps) and jumps[end + 1]:
                end += 1
            found.flat[k + int(np.argmax(steepest[k : end + 1])) + 1] = True
            k = end
        k += 1
    return np.asarray(found.any(axis=1))

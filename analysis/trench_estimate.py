"""Trenches of an image taken with a known tip: what a force microscope tells of each, or bounds.

The loop stops late at the bottom of a narrow trench and climbs late on steep flanks; what it left
is in the error channel and is put back first, from both ways. Then :mod:`trenches` measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nanophantom.analysis import trenches
from nanophantom.analysis.surface_estimate import tip_on_pixels
from nanophantom.simcore.probes.dilation import dilate, erode
from nanophantom.simcore.probes.tip_map import TipMap

Floats = npt.NDArray[np.float64]

TOUCHING_NM = 0.1
"""The tip counts as touching the surface where it gets as near as this."""
SURELY = 2.0
"""Standard uncertainties by which a wall must be less steep than the flank, to count as touched."""


def measure(
    height: npt.ArrayLike,
    height_retrace: npt.ArrayLike,
    error: npt.ArrayLike,
    error_retrace: npt.ArrayLike,
    settings: Mapping[str, Any],
) -> dict[str, Floats]:
    """Answer the task trenches.

    Parameters
    ----------
    height, height_retrace, error, error_retrace : (frames, ny, nx)
        What was recorded, nm; both ways from left to right. The first frame is used.
    settings
        Nominal: mode, tip, pixel_size_nm, pixel_size_y_nm and angle_deg are read.

    Returns
    -------
    columns
        One row a trench: x_nm, depth_nm, top_width_nm, bottom_width_nm, angle_left_deg,
        angle_right_deg, reached, left_bound, right_bound, bottom_most_nm, touched_share, and
        standard uncertainties (..._sigma_...).
    """
    heights = np.asarray(height, np.float64), np.asarray(height_retrace, np.float64)
    errors = np.asarray(error, np.float64), np.asarray(error_retrace, np.float64)
    image = felt_image(heights, errors, settings)
    tip = tip_on_pixels(settings, float(np.ptp(image)))
    found = trenches.measure(image, tip.step_nm, tip.heights_nm, tip.apex)
    recorded = (heights[0][0] + heights[1][0]) / 2
    doubts = [_bottom_doubt_nm(image, recorded, t, tip.step_nm[1]) for t in found]
    columns = {
        "x_nm": [(t.left.top_nm + t.right.top_nm) / 2 for t in found],
        "depth_nm": [t.depth_nm for t in found],
        "top_width_nm": [t.top_width_nm for t in found],
        "bottom_width_nm": [t.bottom_width_bounds_nm[0] for t in found],
        "angle_left_deg": [t.left.angle_deg for t in found],
        "angle_right_deg": [t.right.angle_deg for t in found],
        "reached": [t.bottom_reached for t in found],
        "left_bound": [t.left.lower_bound for t in found],
        "right_bound": [t.right.lower_bound for t in found],
        "bottom_most_nm": [t.bottom_width_bounds_nm[1] for t in found],
        "touched_share": [touched_share(t, tip) for t in found],
        "depth_sigma_nm": [
            float(np.hypot(t.depth_uncertainty_nm, doubt))
            for t, doubt in zip(found, doubts, strict=True)
        ],
        "top_width_sigma_nm": [t.top_width_uncertainty_nm for t in found],
        "angle_left_sigma_deg": [t.left.angle_uncertainty_deg for t in found],
        "angle_right_sigma_deg": [t.right.angle_uncertainty_deg for t in found],
    }
    return {name: np.array(values, np.float64) for name, values in columns.items()}


def felt_image(
    heights: tuple[Floats, Floats], errors: tuple[Floats, Floats], settings: Mapping[str, Any]
) -> Floats:
    """Return what the tip felt in the first frame, (ny, nx): both ways, the loop's error put back.

    What the loop didn't follow has bent the lever by as much (contact) or taken as much of its
    amplitude (tapping, on hard material). Trenches run along y, so it doesn't matter that a
    retrace lies a little behind its trace.

    Parameters
    ----------
    heights, errors : two of (frames, ny, nx)
        Trace and retrace.
    settings
        mode is read.
    """
    sign = 1.0 if settings["mode"] == "contact" else -1.0
    ways = [h[0] + sign * e[0] for h, e in zip(heights, errors, strict=True)]
    return np.asarray((ways[0] + ways[1]) / 2)


def touched_share(trench: trenches.Trench, tip: TipMap) -> float:
    """Return which share of a trench's opening, seen from above, a tip touches.

    By geometry: where the erosion of the dilation is the trench itself. Walls that may be steeper
    than the tip's flank are taken as upright; the tip doesn't touch them below their rims either
    way. A trench whose floor wasn't reached goes on to where its walls meet.
    """
    outline, middle = trenches.tip_silhouette(tip.heights_nm, tip.apex)
    step = tip.step_nm[1]
    beside = len(outline) * step
    x = np.arange(-beside, trench.top_width_nm + beside, step)
    floor = (
        trench.depth_nm if trench.bottom_reached else -float(outline[np.isfinite(outline)].min())
    )
    depth = np.full(len(x), floor)
    for side, within in enumerate((x, trench.top_width_nm - x)):
        slope = np.tan(np.deg2rad(_known_angle_deg(trench, tip, side)))
        depth = np.minimum(depth, np.clip(within, 0, None) * slope)
    inside = (x > 0) & (x < trench.top_width_nm)
    image = dilate(-depth[None], outline[None], (0, middle))
    closed = erode(image, outline[None], (0, middle))[0]
    return float(np.mean(np.abs(closed + depth)[inside] < TOUCHING_NM))


def _known_angle_deg(trench: trenches.Trench, tip: TipMap, side: int) -> float:
    """Return a wall's angle, or 90 if it looks like what the flank makes of an upper rim."""
    wall = (trench.left, trench.right)[side]
    high, low = (
        trenches.edge_broadening_nm(
            tip.heights_nm, tip.step_nm, (1 - share) * trench.depth_nm, tip.apex
        )[side]
        for share in trenches.WALL
    )
    rise = (trenches.WALL[1] - trenches.WALL[0]) * trench.depth_nm
    flank = np.rad2deg(np.arctan2(rise, high - low))
    known = wall.angle_deg < flank - SURELY * wall.angle_uncertainty_deg
    return wall.angle_deg if known else 90.0


def _bottom_doubt_nm(felt: Floats, recorded: Floats, trench: trenches.Trench, step: float) -> float:
    """Return how far off the level of a trench's bottom may be, beyond its scatter.

    By as much as putting the error back has changed it; and a pixel is a mean over its dwell,
    which lifts a sharp bottom by an eighth of its second difference.
    """
    left, right = (round(wall.top_nm / step) for wall in (trench.left, trench.right))
    inside = slice(max(left, 0), right + 1)
    profile, changed = (np.median(m, axis=0)[inside] for m in (felt, felt - recorded))
    low = profile <= profile.min() + trenches.FLOOR * trench.depth_nm
    at = int(np.clip(np.argmin(profile), 1, len(profile) - 2))
    sharp = (profile[at - 1] - 2 * profile[at] + profile[at + 1]) / 8
    return float(np.hypot(np.mean(changed[low]), sharp))

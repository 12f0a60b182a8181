"""The trenches of a grating in view, and what of them a tip can reach: by geometry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.probes.dilation import erode
from nanophantom.simcore.probes.tip_map import TipMap
from nanophantom.validation.height_figures import first_of, pixel_of
from nanophantom.validation.true_heights import on_pixels, tip_of

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MARGIN_PX = 5
"""A trench counts if both its rims lie this far inside the image."""
TOUCHING_NM = 0.1
"""The tip touches where the erosion of its image is the surface within this."""


@dataclass(frozen=True, eq=False)
class TrueTrenches:
    """Trenches with both rims in view, from left to right, (n,) each; pixel (0, 0) is the origin.

    Attributes
    ----------
    x_nm
        Middles.
    top_width_nm, bottom_width_nm, depth_nm, angle_deg
        Widths at the level of the top and of the floor, depth, and the walls' angle against the
        horizontal.
    reachable_depth_nm
        How deep the true tip gets.
    touched_share
        Share of the opening, seen from above, that it touches.
    flank_deg
        Steepest slope of the tip on its left and right flank, up to the trenches' depth, (2,).
    cut_nm
        Middles and widths of trenches that are in view in part, (m, 2).
    """

    x_nm: Floats
    top_width_nm: Floats
    bottom_width_nm: Floats
    depth_nm: Floats
    angle_deg: Floats
    reachable_depth_nm: Floats
    touched_share: Floats
    flank_deg: Floats
    cut_nm: Floats

    @property
    def reached(self) -> Bools:
        """Whether the tip gets to the floor, (n,)."""
        return np.asarray(self.reachable_depth_nm > self.depth_nm - TOUCHING_NM)

    @property
    def measurable(self) -> Bools:
        """Whether the left and the right wall are less steep than the tip's flank, (n, 2)."""
        return np.asarray(
            self.reached[:, None] & (self.angle_deg[:, None] < self.flank_deg[None] - 0.1)
        )


def trenches_in_view(dataset: Observed) -> TrueTrenches:
    """Return the trenches in view.

    Raises
    ------
    ValueError
        The specimen isn't a grating of trenches across the lines.
    """
    grating, edges = dataset.truth("specimen_grating"), dataset.truth("specimen_edges")
    view, surface = dataset.truth("view"), dataset.truth("surface")
    heights = np.asarray(surface["height_nm"], np.float64)
    image = np.asarray(surface["image_nm"], np.float64)
    direction = float(grating["direction_deg"][0])
    if abs((direction - float(view["angle_deg"][0]) + 180) % 360 - 180) > 1e-9:
        raise ValueError("task trenches wants lines across the trenches: direction_deg = angle_deg")
    turned = np.deg2rad(direction)
    origin = float(view["x0_nm"][0]) * np.cos(turned) + float(view["y0_nm"][0]) * np.sin(turned)
    left, right = (
        np.asarray(edges["top_nm"], np.float64)[edges["side"] == side] - origin for side in (-1, 1)
    )
    kind = np.asarray(edges["width"], np.int64)[edges["side"] == -1]
    pixel, n = pixel_of(dataset), heights.shape[1]
    x = np.arange(n) * pixel[1]
    low, high = MARGIN_PX * pixel[1], (n - 1 - MARGIN_PX) * pixel[1]
    whole = (left >= low) & (right <= high)
    cut = ~whole & (right > 0) & (left < x[-1])
    depth = np.asarray(grating["depth_nm"], np.float64)[kind]
    openings = [(x > a) & (x < b) for a, b in zip(left[whole], right[whole], strict=True)]
    top = float(heights.max())
    if not openings or any(heights[:, o].min() > top - 0.5 * depth[0] for o in openings):
        raise ValueError("task trenches finds no whole trench in view: features is trenches?")
    tip = tip_of(dataset)
    touched = np.abs(_closed(image, on_pixels(tip, pixel)) - heights) < TOUCHING_NM
    return TrueTrenches(
        x_nm=(left + right)[whole] / 2,
        top_width_nm=np.asarray(grating["top_width_nm"], np.float64)[kind][whole],
        bottom_width_nm=np.asarray(grating["bottom_width_nm"], np.float64)[kind][whole],
        depth_nm=depth[whole],
        angle_deg=np.asarray(grating["sidewall_angle_deg"], np.float64)[kind][whole],
        reachable_depth_nm=np.array([top - float(image[:, o].min()) for o in openings]),
        touched_share=np.array([float(np.mean(touched[:, o])) for o in openings]),
        flank_deg=_flanks_deg(tip, float(depth.max())),
        cut_nm=np.column_stack([(left + right)[cut] / 2, (right - left)[cut]]),
    )


def raw_profile(dataset: Observed, true: TrueTrenches) -> Floats:
    """Return the recorded trace as one profile, (nx,): lines levelled on the tops and averaged."""
    trace = first_of(dataset, "height")
    x = np.arange(trace.shape[1]) * pixel_of(dataset)[1]
    tops = np.ones(len(x), bool)
    widths = [*zip(true.x_nm, true.top_width_nm, strict=True), *true.cut_nm.tolist()]
    for middle, width in widths:
        tops &= np.abs(x - middle) > width / 2
    mean = np.mean(trace - np.median(trace[:, tops], axis=1)[:, None], axis=0)
    return np.asarray(mean - np.polyval(np.polyfit(x[tops], mean[tops], 1), x))


def half_height_widths(profile: Floats, pixel_nm: float, true: TrueTrenches) -> Floats:
    """Return the widths of dips at half their apparent depth, (n,): what one reads off an image."""
    x = np.arange(len(profile)) * pixel_nm
    widths = []
    for middle, width in zip(true.x_nm, true.top_width_nm, strict=True):
        inside = np.flatnonzero(np.abs(x - middle) <= width)
        lowest = inside[np.argmin(profile[inside])]
        half = profile[lowest] / 2
        ends = []
        for step in (-1, 1):
            j = lowest
            while 0 < j < len(profile) - 1 and profile[j] < half:
                j += step
            rise = profile[j] - profile[j - step]
            ends.append(x[j] - step * pixel_nm * (profile[j] - half) / rise)
        widths.append(ends[1] - ends[0])
    return np.array(widths)


def _closed(image: Floats, tip: TipMap) -> Floats:
    return np.asarray(erode(image, tip.heights_nm, tip.apex))


def _flanks_deg(tip: TipMap, depth_nm: float) -> Floats:
    """Return the steepest slopes of a tip's outline along y, left and right of its apex."""
    outline = tip.heights_nm.max(axis=0)
    middle, steepest = tip.apex[1], []
    for flank in (outline[middle::-1], outline[middle:]):
        within = -flank[np.isfinite(flank) & (-flank <= 1.1 * depth_nm)]
        slope = np.diff(within).max(initial=0.0) / tip.step_nm[1]
        steepest.append(float(np.rad2deg(np.arctan(slope))))
    return np.array(steepest)

"""Figures of the task trenches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from nanophantom.simcore.probes.dilation import erode
from nanophantom.simcore.probes.tip_map import TipMap
from nanophantom.validation.drawing import BLUE, GREEN, INK, ORANGE, RED, Plate, plot, plots
from nanophantom.validation.height_drawing import Map, height_maps, span_of
from nanophantom.validation.height_figures import first_of, pixel_of
from nanophantom.validation.true_heights import on_pixels, tip_of

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed
    from nanophantom.validation.tasks.trenches import Comparison

Floats = npt.NDArray[np.float64]

GREY, SILICON = "#8d99ae", "#d9d4cc"
MOST_PANELS = 6
"""Trenches that are drawn one by one, spread evenly over the widths."""
ABOVE_NM = 5.0
"""What is shown of the tip over the top."""


def of_trenches(dataset: Observed, c: Comparison) -> list[Plate]:
    """Draw maps, every trench with the tip in it, depths against widths, widths and walls."""
    return [_maps(dataset, c), _sections(dataset, c), _depths(dataset, c), _widths(c)]


def reach_nm(outline: tuple[Floats, Floats, Floats], depths_nm: Floats, angle_deg: float) -> Floats:
    """Return how wide a trench must be for a tip to get so deep, (depths,).

    Of all heights over the apex one is in the way first: the flank there against the wall, which
    comes inwards below the rim. Upright walls and a sphere: W = 2 sqrt(2 R d - d^2).

    Parameters
    ----------
    outline
        Heights over the apex, and how far out the left and the right flank are there.
    angle_deg
        Of the walls.
    """
    heights, left, right = outline
    inwards = 0.0 if angle_deg >= 90 else float(1 / np.tan(np.deg2rad(angle_deg)))
    over = depths_nm[:, None] - heights[None]
    width = np.zeros(len(depths_nm))
    for flank in (left, right):
        higher = np.where(over >= 0, flank[None] + over * inwards, -np.inf).max(axis=1)
        width += np.maximum(higher, np.interp(depths_nm, heights, flank))  # at the rim itself
    return np.asarray(width)


def outline_of(tip: TipMap, depth_nm: float) -> tuple[Floats, Floats, Floats]:
    """Return heights over a tip's apex, and how far out its flanks are there, looked at along y."""
    profile, middle = tip.heights_nm.max(axis=0), tip.apex[1]
    heights = np.linspace(0, depth_nm, 600)
    flanks = []
    for flank in (profile[middle::-1], profile[middle:]):
        height = np.maximum.accumulate(-flank)
        finite = np.isfinite(height)
        out = np.arange(len(height)) * tip.step_nm[1]
        flanks.append(np.interp(heights, height[finite], out[finite]))
    return heights, flanks[0], flanks[1]


def _maps(dataset: Observed, c: Comparison) -> Plate:
    pixel = pixel_of(dataset)
    surface = np.asarray(dataset.truth("surface")["height_nm"], np.float64)
    top = float(surface.max())
    trace = first_of(dataset, "height")
    # Lines and tilt are taken off as they are from the profile.
    flat = trace - np.median(trace - c.raw_profile, axis=1)[:, None]
    flat = flat - (np.mean(flat, axis=0) - c.raw_profile)
    tip = on_pixels(tip_of(dataset), pixel)
    found = erode(flat, tip.heights_nm, tip.apex)
    span = span_of(surface - top, flat)
    maps = [
        Map("recorded, levelled", flat, span=span),
        Map("true surface", surface - top, span=span),
        Map("the tip taken off", found, span=span),
        Map("that − true surface", found - (surface - top), signed=True),
    ]
    figure, _ = height_maps(maps, pixel, across=2)
    caption = (
        "The recorded trace, the true surface, and what remains of the trace when the tip's shape "
        "is taken off (erosion). The residual is white where the tip touched. Red is what it "
        "couldn't reach: narrow trenches, and the foot of walls that are steeper than its flank."
    )
    return Plate("Trenches as recorded, as they are, and without the tip", caption, figure,
                 raster=True, wide=True)  # fmt: skip


def _sections(dataset: Observed, c: Comparison) -> Plate:
    """Draw one panel a trench: its section, the profile, and the tip where it got deepest."""
    true, pixel = c.true, pixel_of(dataset)
    order = np.argsort(true.top_width_nm, kind="stable")
    picked = np.unique(np.rint(np.linspace(0, len(order) - 1, MOST_PANELS)).astype(int))
    chosen = order[picked]
    tip = on_pixels(tip_of(dataset), pixel)
    outline, middle = tip.heights_nm.max(axis=0), tip.apex[1]
    u = (np.arange(len(outline)) - middle) * pixel[1]
    x = np.arange(len(c.raw_profile)) * pixel[1]
    without = erode(c.raw_profile[None], outline[None], (0, middle))[0]
    across = min(3, len(chosen))
    rows = -(-len(chosen) // across)
    figure = Figure(figsize=(10.6, 2.6 * rows), layout="constrained")
    figure.patch.set_alpha(0)
    wide = float(max(true.top_width_nm.max() / 2 + 15, 0.75 * true.depth_nm.max()))
    for k, j in enumerate(chosen):
        axes = figure.add_subplot(rows, across, k + 1)
        axes.patch.set_alpha(0)
        depth, half = float(true.depth_nm[j]), float(true.top_width_nm[j]) / 2
        foot = float(true.bottom_width_nm[j]) / 2
        corners_x = [-wide, -half, -foot, foot, half, wide, wide, -wide]
        corners_z = [0, 0, -depth, -depth, 0, 0, -depth - 8, -depth - 8]
        axes.fill(corners_x, corners_z, color=SILICON, linewidth=0)
        axes.plot(corners_x[:6], corners_z[:6], color=INK, linewidth=1.6, label="true surface")
        near = np.flatnonzero(np.abs(x - true.x_nm[j]) <= wide)
        inside = near[np.abs(x[near] - true.x_nm[j]) < half]
        lowest = inside[c.raw_profile[inside] <= c.raw_profile[inside].min() + 0.02 * depth]
        at = int(np.rint(np.mean(lowest)))
        # The tip's own surface lies at minus t(u) over its apex.
        tip_x, tip_z = u + x[at] - true.x_nm[j], c.raw_profile[at] - outline
        shown = tip_z <= ABOVE_NM
        axes.fill_between(tip_x[shown], tip_z[shown], ABOVE_NM, color=GREY, alpha=0.35, linewidth=0)
        axes.plot(x[near] - true.x_nm[j], c.raw_profile[near], color=BLUE, linewidth=1.2,
                  label="recorded")  # fmt: skip
        axes.plot(x[near] - true.x_nm[j], without[near], color=GREEN, linewidth=1.2,
                  linestyle="--", label="the tip taken off")  # fmt: skip
        axes.set_aspect("equal")
        axes.set_xlim(-wide, wide)
        axes.set_ylim(-depth - 8, ABOVE_NM)
        reached = "reached" if true.reached[j] else "not reached"
        axes.set_title(f"{2 * half:.3g} nm wide: floor {reached}", fontsize=10)
        axes.tick_params(labelsize=8)
        if k % across == 0:
            axes.set_ylabel("height (nm)")
        if k >= len(chosen) - across:
            axes.set_xlabel("from the middle (nm)")
        if k == 0:
            axes.legend(fontsize=7.5, frameon=False, loc="lower right")
    caption = (
        "Trenches in section, drawn to scale with the tip (grey) where it got deepest. The blue "
        "line is where the apex went, not where the surface is: one rim holds the flank back while "
        "the apex is still far from the wall. Taking the tip off (green) gives back what it "
        "touched; where that were the rims alone, there is nothing below them but its own flank."
    )
    return Plate("The tip in the trenches", caption, figure, wide=True)


def _depths(dataset: Observed, c: Comparison) -> Plate:
    true, i, j = c.true, c.matches.found, c.matches.true
    figure, axes = plot(8.6, 4.4)
    depth, angle = float(true.depth_nm.max()), float(true.angle_deg[0])
    depths = np.linspace(0, depth, 300)
    widths = reach_nm(outline_of(tip_of(dataset), depth), depths, angle)
    end = 1.1 * float(true.top_width_nm.max())
    axes.plot(np.append(widths, end), np.append(depths, depth), color=INK, linewidth=1.3,
              label="this tip between these walls, by geometry")  # fmt: skip
    radius = dataset.settings["tip"].get("radius_nm")
    if radius is not None:
        narrow = np.linspace(0, 2 * radius, 200)
        axes.plot(narrow, radius - np.sqrt(radius**2 - narrow**2 / 4), color=RED, linewidth=1.1,
                  linestyle="--", label="its sphere alone: R − √(R² − W²/4)")  # fmt: skip
    axes.axhline(depth, color=GREY, linewidth=1, linestyle=":")
    axes.text(0, depth, "true depth", ha="left", va="bottom", color=INK, fontsize=9)
    sigma = c.found["depth_sigma_nm"][i] if "depth_sigma_nm" in c.found else np.zeros(len(i))
    reached = c.found["reached"][i] == 1
    for which, fill, label in ((reached, BLUE, "depth, as found"),
                               (~reached, "none", "least depth, as found")):  # fmt: skip
        if which.any():
            axes.errorbar(true.top_width_nm[j][which], c.found["depth_nm"][i][which],
                          1.96 * sigma[which], fmt="o", color=BLUE, markerfacecolor=fill,
                          markersize=7, capsize=3, label=label)  # fmt: skip
    axes.set_xlabel("true width of the opening (nm)")
    axes.set_ylabel("depth (nm)")
    axes.invert_yaxis()
    axes.legend(fontsize=8.5, frameon=False, loc="upper right", bbox_to_anchor=(1.0, 0.85))
    caption = (
        "How deep trenches seem against their width. The tip sinks in until it is as wide as the "
        "opening; first its sphere alone counts (red), then the cone. Only where the curve meets "
        "the dotted line is the depth that of the trench. Open circles are what the analysis gives "
        "as least depths; bars are 95 % intervals."
    )
    return Plate("Depth against width", caption, figure, wide=True)


def _widths(c: Comparison) -> Plate:
    true, i, j = c.true, c.matches.found, c.matches.true
    figure, (left, right) = plots(11.0, 4.2, 2)
    at = true.top_width_nm[j]
    order = np.argsort(true.top_width_nm)
    left.plot(true.top_width_nm[order], true.top_width_nm[order], color=INK, linewidth=1.2,
              label="true: opening")  # fmt: skip
    left.plot(true.top_width_nm[order], true.bottom_width_nm[order], color=GREY, linewidth=1.2,
              label="true: floor")  # fmt: skip
    left.plot(at, c.found["top_width_nm"][i], "o", color=BLUE, label="found: opening")
    known = c.floor_known[i]
    least = c.found["bottom_width_nm"][i]
    if known.any():
        left.plot(at[known], least[known], "s", color=GREEN, label="found: floor")
    if "bottom_most_nm" in c.found and (~known).any():
        most = c.found["bottom_most_nm"][i]
        left.vlines(at[~known], least[~known], most[~known], color=GREEN, linewidth=5, alpha=0.35,
                    label="found: floor, bounds")  # fmt: skip
    left.plot(true.top_width_nm, c.raw_width_nm, "x", color=ORANGE,
              label="read off at half height")  # fmt: skip
    left.set_xlabel("true width of the opening (nm)")
    left.set_ylabel("width (nm)")
    left.legend(fontsize=8.5, frameon=False)
    for side, (name, shift) in enumerate((("left", -0.6), ("right", 0.6))):
        colour, angle = (BLUE, ORANGE)[side], c.angle_deg[i, side]
        bound = c.bound[i, side]
        sigma = c.found.get(f"angle_{name}_sigma_deg", np.zeros(len(c.found["x_nm"])))[i]
        if not bound.all():
            right.errorbar(at[~bound] + shift, angle[~bound], 1.96 * sigma[~bound], fmt="o",
                           color=colour, capsize=3, label=f"{name} wall")  # fmt: skip
        if bound.any():
            right.errorbar(at[bound] + shift, angle[bound], 2.0, lolims=True, fmt="o",
                           color=colour, markerfacecolor="none",
                           label=f"{name} wall, at least")  # fmt: skip
    right.axhline(float(true.angle_deg[0]), color=INK, linewidth=1.2)
    right.text(0.99, float(true.angle_deg[0]), "true walls", ha="right", va="bottom", fontsize=9,
               transform=right.get_yaxis_transform())  # fmt: skip
    right.axhline(float(true.flank_deg.min()), color=RED, linewidth=1, linestyle="--")
    right.text(0.99, float(true.flank_deg.min()), "the tip's flank", ha="right", va="top",
               fontsize=9, color=RED, transform=right.get_yaxis_transform())  # fmt: skip
    right.set_xlabel("true width of the opening (nm)")
    right.set_ylabel("angle of the wall (degrees)")
    right.legend(fontsize=8.5, frameon=False, loc="lower right")
    caption = (
        "Left: widths found against true ones. What one reads off at half height is wrong by the "
        "tip's width; openings come out right once the tip is taken off; of floors only bounds are "
        "known where walls are steeper than the tip. Right: angles of the walls, with an arrow "
        "where they are lower bounds."
    )
    return Plate("Widths and walls", caption, figure, wide=True)

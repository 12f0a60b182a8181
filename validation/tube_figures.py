"""Figures of the task labelling: tubes, a piece of one closely, cross-section, profile, dyes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.patches import Circle

from nanophantom.analysis.pore_map import bursts
from nanophantom.analysis.rendering import Frame
from nanophantom.analysis.tube_map import HALF_NM, Line
from nanophantom.validation.drawing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    RED,
    SKY,
    Plate,
    gallery,
    plots,
)
from nanophantom.validation.pore_figures import DYE_NM, drawn

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed
    from nanophantom.validation.tube_truth import Tubes

Floats = npt.NDArray[np.float64]

PIXELS = 600
ZOOM_NM = 600.0
DOTS = 1500


def of_tubes(dataset: Observed, c: Tubes) -> list[Plate]:
    """Draw the tubes and what labelling made of them."""
    seen = bursts(dataset.measured().signals["movie"].data, dataset.settings)
    plates = [_map(dataset, c, seen)]
    if len(c.hit_true):
        plates += [_closely(c, seen), _widths(c, seen), _numbers(c)]
    return plates


def _map(dataset: Observed, c: Tubes, seen: Any) -> Plate:
    """Draw the whole field with the axes found, beside the true dyes."""
    a = float(dataset.settings["pixel_size_nm"])
    ny, nx = dataset.signal("movie", 0, 1).shape[1:]
    size = ((nx - 1) * a, (ny - 1) * a)
    pixel = max(nx, ny) * a / PIXELS
    frame = Frame((pixel - a) / 2, (pixel - a) / 2, round(nx * a / pixel), round(ny * a / pixel))
    images = {
        "found: bursts, and axes": drawn(
            seen["x_nm"], seen["y_nm"], seen["uncertainty_nm"], pixel, frame
        ),
        "truth: every dye that shone": drawn(
            c.true.dye_x_nm, c.true.dye_y_nm, np.full(len(c.true.dye_x_nm), DYE_NM), pixel, frame
        ),
    }
    figure, (left, right) = gallery(images, pixel, across=2)
    limits = left.get_xlim(), left.get_ylim()
    for k, (x, y, angle) in enumerate(
        zip(c.found["x_nm"], c.found["y_nm"], np.deg2rad(c.found["angle_deg"]), strict=True)
    ):
        s = np.array(Line(x, y, angle).chord_nm(*size))
        colour = GREEN if k in c.hit_found else RED if c.false[k] else SKY
        left.plot(x + s * np.cos(angle) - frame.x_nm, y + s * np.sin(angle) - frame.y_nm,
                  color=colour, linewidth=1, linestyle="--")  # fmt: skip
    for j in np.flatnonzero(c.asked):
        if j not in c.hit_true:
            right.plot(c.true.ends_x_nm[j] - frame.x_nm, c.true.ends_y_nm[j] - frame.y_nm,
                       color=ORANGE, linewidth=1)  # fmt: skip
    left.set_xlim(*limits[0])
    left.set_ylim(*limits[1])
    caption = (
        "Left: every burst as a Gaussian as wide as it is uncertain, drift taken off, with the "
        "axes that the algorithm told (green right, red false). Right: the dyes that shone, in "
        "their places; tubes that were missed are marked in orange. Grey is the root of the "
        "density. Bursts are those of the package's own analysis."
    )
    return Plate("Map of the tubes", caption, figure, raster=True, wide=True)


def _closely(c: Tubes, seen: Any) -> Plate:
    """Draw a piece of a tube: bursts, dyes, and how wide the structure itself is."""
    j = int(c.hit_true[np.argmax(c.true.length_um[c.hit_true])])
    ends = np.column_stack([c.true.ends_x_nm[j], c.true.ends_y_nm[j]])
    along = ends[1] - ends[0]
    along /= np.hypot(*along)
    across = np.array([-along[1], along[0]])
    middle = ends.mean(axis=0)
    figure, axes = plots(10.8, 3.6, 1)
    for x, y, look in (
        (seen["x_nm"], seen["y_nm"], {"marker": "+", "color": BLUE, "markersize": 4,
                                      "markeredgewidth": 0.7, "label": "bursts found"}),
        (c.true.dye_x_nm, c.true.dye_y_nm, {"marker": "o", "color": ORANGE, "markersize": 4,
                                            "fillstyle": "none", "label": "dyes that shone"}),
    ):  # fmt: skip
        off = np.column_stack([x, y]) - middle
        s, u = off @ along, off @ across
        here = (np.abs(s) < ZOOM_NM / 2) & (np.abs(u) < 80)
        axes[0].plot(s[here], u[here], linestyle="none", **look)
    half = float(c.true.diameter_nm[j]) / 2
    axes[0].axhspan(-half, half, color=INK, alpha=0.15, linewidth=0,
                    label=f"the structure, {2 * half:.3g} nm")  # fmt: skip
    axes[0].set_xlim(-ZOOM_NM / 2, ZOOM_NM / 2)
    axes[0].set_ylim(80, -80)
    axes[0].set_aspect("equal")
    axes[0].set_xlabel("along the tube (nm)")
    axes[0].set_ylabel("across (nm)")
    axes[0].legend(frameon=False, fontsize=8.5, ncols=3, loc="lower center",
                   bbox_to_anchor=(0.5, 1.0))  # fmt: skip
    caption = (
        "A piece of the longest tube from above. Grey: where the structure is. Orange: the dyes, "
        "at the ends of their antibodies, above, below and beside it, with gaps where no antibody "
        "bound. Blue: what the movie shows of them."
    )
    return Plate("A tube closely", caption, figure, wide=True)


def _widths(c: Tubes, seen: Any) -> Plate:
    """Draw the cross-section of the dyes, and the profile across, found and true."""
    figure, (left, right) = plots(10.0, 4.4, 2)
    hit = np.isin(c.true.dye_tube, c.hit_true)
    u, up = c.true.dye_across_nm[hit], c.true.dye_up_nm[hit]
    some = slice(None, None, max(1, len(u) // DOTS))
    left.plot(u[some], up[some], ".", color=ORANGE, markersize=2.5, label="dyes", rasterized=True)
    own = float(c.true.diameter_nm[c.hit_true].mean())
    left.add_patch(Circle((0, 0), own / 2, facecolor="none", edgecolor=INK, linewidth=2,
                          label=f"structure, {own:.3g} nm"))  # fmt: skip
    dyes = float(c.true.dyes_diameter_nm[c.hit_true].mean())
    told = float(c.of_hits("diameter_nm").mean())
    left.add_patch(Circle((0, 0), told / 2, facecolor="none", edgecolor=BLUE, linewidth=1.5,
                          linestyle="--", label=f"told, {told:.1f} nm"))  # fmt: skip
    left.add_patch(Circle((0, 0), c.true.widest_nm / 2, facecolor="none", edgecolor=GREEN,
                          linewidth=1, linestyle=":",
                          label=f"99 % of dyes, {c.true.widest_nm:.0f} nm"))  # fmt: skip
    left.set_xlim(-60, 60)
    left.set_ylim(-50, 70)
    left.set_aspect("equal")
    left.set_xlabel("across the tube (nm)")
    left.set_ylabel("height above its axis (nm)")
    left.legend(frameon=False, fontsize=8, loc="upper center", ncols=2)
    bins = np.arange(-100, 101, 4.0)
    found = []
    for i in c.hit_found:
        x, y, angle = (float(c.found[k][i]) for k in ("x_nm", "y_nm", "angle_deg"))
        found.append(Line(x, y, np.deg2rad(angle)).across(seen["x_nm"], seen["y_nm"]))
    profile = np.concatenate(found)
    share = np.histogram(profile, bins)[0] / max(int((np.abs(profile) < HALF_NM).sum()), 1)
    right.stairs(share, bins, fill=True, color=SKY, label="bursts found")
    weight = np.histogram(u, bins)[0] / max(len(u), 1)
    right.stairs(weight, bins, color=ORANGE, linewidth=1.6, label="dyes that shone (truth)")
    edge = np.clip(bins, -own / 2, own / 2)
    shell = np.diff(np.arcsin(2 * edge / own)) / np.pi
    right.stairs(shell, bins, color=INK, linewidth=1.2, label=f"the structure, {own:.3g} nm")
    right.set_xlabel("across the tube (nm)")
    right.set_ylabel("share, a bin of 4 nm")
    right.set_ylim(0, 1.25 * max(share.max(), weight.max(), shell.max()))
    right.legend(frameon=False, fontsize=8.5)
    caption = (
        "Left: the tubes cut across, all dyes of all of them; antibodies reach out of the "
        f"structure, so dyes lie on average (rms) on a circle of {dyes:.1f} nm, and the outermost "
        f"on one of {c.true.widest_nm:.0f} nm. Right: what a microscope sees of it from above. "
        "Whatever is between the structure and the dyes is an error of labelling, between dyes "
        "and bursts of measuring; bursts beyond the dyes are blurred by their errors, or belong "
        "to crossing tubes."
    )
    return Plate("From structure to dyes: the linkage error", caption, figure, wide=True)


def _numbers(c: Tubes) -> Plate:
    """Draw diameters and dyes of each tube, found and true."""
    figure, (left, right) = plots(10.0, 3.7, 2)
    n = np.arange(len(c.hit_true))
    error = c.found.get("diameter_error_nm")
    left.errorbar(n, c.of_hits("diameter_nm"),
                  None if error is None else 1.96 * error[c.hit_found], fmt="o", color=BLUE,
                  capsize=3, label="found, with 95 % interval")  # fmt: skip
    left.plot(n, c.true.dyes_diameter_nm[c.hit_true], "_", color=ORANGE, markersize=22,
              markeredgewidth=2, label="tube of dyes (truth)")  # fmt: skip
    left.plot(n, c.true.diameter_nm[c.hit_true], "_", color=INK, markersize=22, markeredgewidth=2,
              label="the structure (truth)")  # fmt: skip
    left.set_ylim(0, 1.5 * float(c.of_hits("diameter_nm").max()))
    left.set_ylabel("diameter (nm)")
    density = c.true.dyes_per_um[c.hit_true]
    right.plot(n, density, "_", color=ORANGE, markersize=22, markeredgewidth=2,
               label="dyes (truth)")  # fmt: skip
    top = density
    if "dyes_per_um" in c.found:
        top = np.append(density, c.of_hits("dyes_per_um"))
        right.plot(n, c.of_hits("dyes_per_um"), "o", color=BLUE, label="dyes, counted by bursts")
    if "bursts_per_um" in c.found:
        top = np.append(top, c.of_hits("bursts_per_um"))
        right.plot(n, c.of_hits("bursts_per_um"), "x", color=SKY, label="bursts, as they are")
    right.set_ylim(0, 1.5 * float(top.max()))
    right.set_ylabel("on a micrometre")
    for axes in (left, right):
        axes.set_xticks(n, [str(k + 1) for k in n])
        axes.set_xlim(-0.7, len(n) - 0.3)
        axes.set_xlabel("tube")
        axes.legend(frameon=False, fontsize=8.5, loc="upper right")
    caption = (
        "Left: how wide each tube was told to be; the gap between blue and orange is an error of "
        "measuring, that between orange and black of labelling. Right: dyes on a micrometre; a dye "
        "blinks several times, so bursts overcount it, and dividing by the mean number "
        "of bursts puts that right, as far as bursts weren't lost in the crowd."
    )
    return Plate("Tube by tube", caption, figure, wide=True)

"""Figures of the task particle-sizing: finds over the image, sizes against the true ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Circle

from nanophantom.validation.drawing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    RED,
    Floats,
    Plate,
    plot,
    plots,
    scale_bar,
)
from nanophantom.validation.height_drawing import HEIGHT_COLOURS, span_of
from nanophantom.validation.height_figures import first_of, pixel_of

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed
    from nanophantom.validation.tasks.particle_sizing import Sized

GREY = "#8d99ae"


def of_sizes(dataset: Observed, c: Sized) -> list[Plate]:
    """Draw finds, sizes and their distributions."""
    plates = [_finds(dataset, c)]
    if len(c.hit_found):
        plates += [_found_against_true(c), _distributions(c)]
    return plates


def _finds(dataset: Observed, c: Sized) -> Plate:
    """Draw the image with outlines of what was found, of the truth, and of what the image shows."""
    step_y, step_x = pixel_of(dataset)
    image = first_of(dataset, "height")
    ny, nx = image.shape
    extent = (-step_x / 2, (nx - 0.5) * step_x, (ny - 0.5) * step_y, -step_y / 2)
    low, high = span_of(image)
    aspect = ny * step_y / (nx * step_x)
    figure, axes = plot(10.4, min(8.4 * aspect, 11.0) + 0.7)
    figure.set_facecolor("white")
    figure.patch.set_alpha(1)
    shown = axes.imshow(image, cmap=HEIGHT_COLOURS, vmin=low, vmax=high, extent=extent)
    bar = figure.colorbar(shown, ax=axes, shrink=0.7, pad=0.02)
    bar.set_label("height, trace (nm)", fontsize=9)

    def ring(x: float, y: float, diameter: float, **style: Any) -> None:
        axes.add_patch(Circle((x, y), diameter / 2, fill=False, **style))

    matched = set(c.hit_true.tolist())
    for k in range(len(c.true.x_nm)):
        at = float(c.true.x_nm[k]), float(c.true.y_nm[k]), float(c.true.diameter_nm[k])
        if not c.target[k]:
            ring(*at, color=GREY, linewidth=1.0, linestyle=":")
        elif k not in matched:
            ring(*at, color=RED, linewidth=2.0)
        else:
            ring(*at, color="white", linewidth=2.6)
    found = c.found
    for k in c.hit_found:
        ring(found["x_nm"][k], found["y_nm"][k], found["diameter_nm"][k], color=BLUE, linewidth=1.2)
        if "apparent_nm" in found:
            ring(found["x_nm"][k], found["y_nm"][k], found["apparent_nm"][k], color=ORANGE,
                 linewidth=0.8, linestyle="--")  # fmt: skip
    axes.plot(found["x_nm"][c.false], found["y_nm"][c.false], "x", color=RED, markersize=8)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlim(extent[0], extent[1])
    axes.set_ylim(extent[2], extent[3])
    scale_bar(axes, extent, font_size=10)
    axes.legend(
        handles=[
            Line2D([], [], color="#c9cdd4", linewidth=2.6, label="true outline (white)"),
            Line2D([], [], color=BLUE, linewidth=1.2, label="found"),
            Line2D([], [], color=ORANGE, linewidth=0.8, linestyle="--", label="in the image"),
            Line2D([], [], color=RED, linewidth=2.0, label="missed; × false"),
            Line2D([], [], color=GREY, linewidth=1.0, linestyle=":", label="not asked for"),
        ],
        fontsize=9, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.07), ncol=5,
    )  # fmt: skip
    caption = (
        "The image as it was recorded. What looks like a particle is mostly tip: its width at half "
        "height is the orange circle, the particle itself the white one. Blue is what was found "
        "once the tip was taken off; where it covers the white ring it is right. Particles whose "
        "image the border cuts (dotted) are not asked for."
    )
    return Plate("Particles found", caption, figure, raster=True, wide=True)


def _found_against_true(c: Sized) -> Plate:
    figure, (left, right) = plots(10.4, 4.3, 2)
    true, sigma = c.true_nm, c.of_hits("sigma_nm")
    found = true + c.error_nm
    bars = None if sigma is None else 1.96 * sigma
    apparent = c.of_hits("apparent_nm")
    highest = float(max(found.max(), true.max(), 0 if apparent is None else apparent.max()))
    line: Floats = np.linspace(0.9 * float(true.min()), 1.05 * float(true.max()), 100)
    left.plot(line, line, color=INK, linewidth=0.9, alpha=0.6, label="found = true")
    if apparent is not None:
        left.plot(true, apparent, "s", markersize=4, color=ORANGE, label="width in the image")
        r = line / 2
        left.plot(line, 2 * np.sqrt(r * (r + 2 * c.tip_radius_nm)), color=ORANGE, linewidth=1,
                  linestyle="--", label=f"2√(r(r + 2R)), R = {c.tip_radius_nm:.3g} nm")  # fmt: skip
    left.errorbar(true, found, bars, fmt="o", markersize=4, color=BLUE, capsize=2, linewidth=1,
                  label="found")  # fmt: skip
    left.set_xlabel("true diameter (nm)")
    left.set_ylabel("diameter (nm)")
    left.set_ylim(0, 1.05 * highest)
    left.legend(frameon=False, fontsize=9)

    right.axhline(0, color=INK, linewidth=0.9, alpha=0.6)
    order = np.argsort(true, kind="stable")
    limit = 1.96 * c.limit_nm[c.hit_true][order]
    right.fill_between(true[order], -limit, limit, color=GREEN, alpha=0.4, linewidth=0,
                       label="physical limit (95 %)")  # fmt: skip
    right.errorbar(true, c.error_nm, bars, fmt="o", markersize=4, color=BLUE, capsize=2,
                   linewidth=1, label="found minus true"
                   + ("" if bars is None else ", bars: 95 % as quoted"))  # fmt: skip
    right.set_xlabel("true diameter (nm)")
    right.set_ylabel("error (nm)")
    right.legend(frameon=False, fontsize=9)
    caption = (
        "Left: diameters found (blue) and the widths at half height that the image shows (orange), "
        "with what two spheres on each other would give (dashed). Right: the errors with the "
        "uncertainties quoted; bars that mostly touch zero are honest. The green band is what "
        "noise alone would leave."
    )
    return Plate("Sizes found and true", caption, figure, wide=True)


def _distributions(c: Sized) -> Plate:
    """Draw cumulative distributions, with their medians."""
    figure, axes = plot(10.4, 3.8)
    true = c.true_nm
    curves = [("true", true, INK, "-", 2.0), ("found", true + c.error_nm, BLUE, "-", 1.3)]
    apparent = c.of_hits("apparent_nm")
    if apparent is not None:
        curves.append(("width in the image", apparent, ORANGE, "--", 1.3))
    share = (np.arange(len(true)) + 0.5) / len(true)
    for label, sizes, colour, dashes, width in curves:
        median = float(np.median(sizes))
        axes.step(np.sort(sizes), share, where="mid", color=colour, linestyle=dashes,
                  linewidth=width, label=f"{label}: median {median:.2f} nm")  # fmt: skip
        axes.plot([median], [0.5], "o", color=colour, markersize=5)
    axes.axhline(0.5, color=INK, linewidth=0.6, alpha=0.4)
    axes.set_xlabel("diameter (nm)")
    axes.set_ylabel("share of the particles below")
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    caption = (
        f"How the sizes of the {len(true)} particles found are distributed. Blue should lie on "
        "black. Without the correction for the tip the distribution would be the orange one."
    )
    return Plate("Distribution of sizes", caption, figure, wide=True)

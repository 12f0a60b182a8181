"""Figures of the task atomic-columns: columns found beside columns that are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.transforms import ScaledTranslation
from scipy.spatial import cKDTree

from nanophantom.validation.drawing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    RED,
    SKY,
    Floats,
    Plate,
    contrast,
    extent_of,
    map_axes,
    plot,
    round_length,
    scale_bar,
    spacing_of,
)
from nanophantom.validation.figures import average, frame_shape, pixel_size_of

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed
    from nanophantom.validation.tasks.atomic_columns import Comparison

PM_PER_NM = 1000.0


def of_columns(dataset: Observed, comparison: Comparison) -> list[Plate]:
    """Draw columns found beside columns that are there, and the errors of the hits."""
    plates = [_overlay(dataset, comparison)]
    if len(comparison.hit_found) > 1:
        plates += [_histogram(comparison), _error_map(dataset, comparison)]
    return plates


def _overlay(dataset: Observed, c: Comparison) -> Plate:
    """Draw hits, misses and false finds over the average, the whole view and a part of it."""
    pixel_size_nm = pixel_size_of(dataset)
    image = average(dataset, "image")[0]
    extent_nm = extent_of(image.shape, pixel_size_nm)
    width_nm, height_nm = image.shape[1] * pixel_size_nm, image.shape[0] * pixel_size_nm
    spacing_nm = spacing_of(c.there_nm[c.target])
    side_nm = min(width_nm, height_nm, max(10 * spacing_nm, 0.25 * min(width_nm, height_nm)))
    x0, y0 = _corner_of_interest(c, extent_nm, side_nm)

    figure = Figure(figsize=(11, 5.5 * min(1.4, height_nm / width_nm)), facecolor="black")
    whole = figure.add_axes((0, 0, 0.495, 1))
    part = figure.add_axes((0.505, 0, 0.495, 1))
    low, high = contrast(image)
    for axes, shown_nm in ((whole, width_nm), (part, side_nm)):
        # Darker than elsewhere, so that marks stand out from bright columns.
        axes.imshow(image, cmap="gray", vmin=low, vmax=high + 0.5 * (high - low), extent=extent_nm)
        axes.set_axis_off()
        points_per_nm = figure.get_size_inches()[0] * 0.495 * 72 / shown_nm
        size = float(np.clip(0.55 * spacing_nm * points_per_nm, 2.5, 15))
        _marks(axes, c, size)
    box_height = side_nm * (height_nm / width_nm)
    part.set_xlim(x0, x0 + side_nm)
    part.set_ylim(
        min(y0 + box_height, extent_nm[2]), min(y0 + box_height, extent_nm[2]) - box_height
    )
    whole.add_patch(
        Rectangle(
            (x0, part.get_ylim()[1]), side_nm, box_height, fill=False, color="w", linewidth=1.2
        )
    )
    scale_bar(whole, extent_nm)
    scale_bar(part, (*part.get_xlim(), *part.get_ylim()))
    legend: Any = part.legend(loc="upper right", fontsize=9, framealpha=0.9, edgecolor="none")
    for handle in legend.legend_handles[1:]:
        handle.set_markersize(7)
    caption = (
        f"Answers over the average of all frames; right, the framed part enlarged. Circles: "
        f"{len(c.hit_found)} hits. Squares: {len(c.missed)} columns that are there and weren't "
        f"found. Crosses: {len(c.false)} finds where no column is. Dots: true positions of the "
        "columns asked for."
    )
    return Plate("Found and true columns", caption, figure, raster=True, wide=True)


def _marks(axes: Any, c: Comparison, size: float) -> None:
    """Mark true columns, hits, misses and false finds; size in points."""

    def draw(points: Floats, marker: str, colour: str, label: str, **style: Any) -> None:
        usual = {"markersize": size, "markeredgecolor": colour, "markerfacecolor": "none"}
        axes.plot(*points.T, marker, label=label, **usual | style)

    dot = {"markersize": max(1.5, 0.2 * size), "markerfacecolor": ORANGE, "markeredgewidth": 0}
    axes.plot(*c.there_nm[c.target].T, "o", label="true", **dot)
    thin = 0.5 if size < 6 else 1.0
    draw(c.found_nm[c.hit_found], "o", SKY, "hit", markersize=1.25 * size, markeredgewidth=thin)
    # Mistakes are few and matter most: they stay legible however dense the columns are.
    draw(
        c.there_nm[c.missed], "s", ORANGE, "missed", markersize=max(6.5, size), markeredgewidth=1.6
    )
    draw(c.found_nm[c.false], "X", RED, "false", markersize=max(7.5, size), markerfacecolor=RED,
         markeredgecolor="w", markeredgewidth=0.6)  # fmt: skip


def _corner_of_interest(
    c: Comparison, extent_nm: tuple[float, float, float, float], side_nm: float
) -> tuple[float, float]:
    """Return the corner of the part to enlarge: around most mistakes, or near the middle."""
    left, right, bottom, top = extent_nm
    mistakes = np.concatenate([c.there_nm[c.missed], c.found_nm[c.false]])
    centre = np.array([(left + right) / 2, (bottom + top) / 2])
    if len(mistakes):
        neighbours = cKDTree(mistakes).query_ball_point(mistakes, side_nm / 2, return_length=True)
        centre = mistakes[int(np.argmax(neighbours))]
    elif c.target.any():  # in the middle there may be a hole
        targets = c.there_nm[c.target]
        centre = targets[int(cKDTree(targets).query(centre)[1])]
    x0 = float(np.clip(centre[0] - side_nm / 2, left, max(left, right - side_nm)))
    y0 = float(np.clip(centre[1] - side_nm / 2, top, max(top, bottom - side_nm)))
    return x0, y0


def _histogram(c: Comparison) -> Plate:
    """Draw how the errors are distributed, beside the distribution that counting alone leaves."""
    error_pm = c.error_nm * PM_PER_NM
    figure, axes = plot(5.4, 4.0)
    reach = float(np.quantile(np.abs(error_pm), 0.995)) * 1.15 or 1.0
    n_bins = int(np.clip(np.sqrt(len(error_pm)), 9, 41)) | 1
    edges = np.linspace(-reach, reach, n_bins + 1)
    for column, (colour, symbol) in enumerate(((BLUE, "x"), (RED, "y"))):
        axes.hist(error_pm[:, column], edges, histtype="stepfilled", color=colour, alpha=0.18)
        axes.hist(error_pm[:, column], edges, histtype="step", color=colour, linewidth=1.3,
                  linestyle="-" if column == 0 else "--", label=f"error in {symbol}")  # fmt: skip
    limit = c.limit_nm[c.hit_column]
    limit = limit[np.isfinite(limit)] * PM_PER_NM / np.sqrt(2)
    if len(limit):
        x = np.linspace(-reach, reach, 401)
        bells = np.exp(-((x[:, np.newaxis] / limit) ** 2) / 2) / (limit * np.sqrt(2 * np.pi))
        ideal = len(error_pm) * (edges[1] - edges[0]) * bells.mean(axis=1)
        tallest = axes.get_ylim()[1]
        axes.plot(x, ideal, color=GREEN, linewidth=2, label="physical limit")
        axes.set_ylim(0, min(1.08 * max(tallest, float(ideal.max())), 3 * tallest))
    axes.axvline(0, color=INK, linewidth=0.8, alpha=0.6)
    axes.set_xlabel("found minus true position (pm)")
    axes.set_ylabel("columns")
    axes.legend(frameon=False, fontsize=9)
    outside = int((np.abs(error_pm) > reach).sum())
    caption = (
        "Errors of the hits. A heap away from zero is an error common to all columns (drift of "
        "the reference frame, tilt of the beam); its width is the scatter. The green curve is the "
        "scatter that counting electrons alone would leave (Cramér-Rao bound): no unbiased "
        "algorithm can be narrower."
        + (f" {c.thermal_note}" if c.thermal_note else "")
        + (f" Outside the range shown: {outside}." if outside else "")
    )
    return Plate("Errors of position", caption, figure)


def _error_map(dataset: Observed, c: Comparison) -> Plate:
    """Draw the error of every hit as an arrow where it stands."""
    ny, nx = frame_shape(dataset)
    pixel_size_nm = pixel_size_of(dataset)
    error_nm, at_nm = c.error_nm, c.there_nm[c.hit_column]
    wide = len(at_nm) > 1000
    side = 10.4 if wide else 5.4
    figure, axes = plot(side, side * max(0.4, min(1.4, ny / nx)))
    map_axes(axes, nx * pixel_size_nm, ny * pixel_size_nm)
    rms_nm = max(float(np.sqrt(np.mean(np.sum(error_nm**2, axis=1)))), 1e-6)
    enlarged = round_length(0.8 * spacing_of(at_nm) / rms_nm)
    key_pm = round_length(2 * rms_nm * PM_PER_NM)
    width_nm = nx * pixel_size_nm
    # An arrow of known length tells the scale: above the map, its tip at the right edge.
    tail_nm = width_nm - enlarged * key_pm / PM_PER_NM
    key_nm = np.array([[tail_nm, 0.0, key_pm / PM_PER_NM, 0.0]])
    above = axes.transData + ScaledTranslation(0, 9 / 72, figure.dpi_scale_trans)
    for (x, y, dx, dy), place in (
        (np.hstack([at_nm, error_nm]).T, axes.transData),
        (key_nm.T, above),
    ):
        arrows = axes.quiver(
            x, y, dx, dy, angles="xy", scale_units="xy", scale=1 / enlarged, color=BLUE,
            width=float(np.clip(0.07 * spacing_of(at_nm) / width_nm, 0.0008, 0.004)),
            headwidth=3.5, headlength=4, headaxislength=3.6, clip_on=False,
            rasterized=len(x) > 2000, transform=place,
        )  # fmt: skip
        arrows.set_in_layout(False)
    label = axes.annotate(
        f"{key_pm:g} pm", (tail_nm, 0.0), xytext=(-5, 0), xycoords=above,
        textcoords="offset points", ha="right", va="center", annotation_clip=False,
    )  # fmt: skip
    label.set_in_layout(False)
    axes.plot(*c.there_nm[c.missed].T, "s", markersize=4.5, markerfacecolor="none",
              markeredgecolor=ORANGE, label="missed")  # fmt: skip
    # Beside the scale, or above it where the map is too narrow for both.
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=9,
                borderaxespad=2.0 if ny > 1.5 * nx else 0.5)  # fmt: skip
    caption = (
        f"Where the errors are: each arrow starts at a true column and points to where it was "
        f"found, enlarged {enlarged:g} times. Arrows that point alike in a region betray a "
        "systematic error (tilt, strain, a neighbour's tail); arrows in all directions are noise."
    )
    return Plate("Map of errors", caption, figure, wide=wide)

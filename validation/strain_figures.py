"""Figures of the task strain: maps of truth, answer and error, a profile, a second algorithm."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from scipy.spatial import cKDTree

from nanophantom.validation.drawing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    RED,
    Floats,
    Plate,
    contrast,
    extent_of,
    plot,
    plots,
    scale_bar,
    spacing_of,
)
from nanophantom.validation.figures import average, frame_shape, pixel_size_of

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed
    from nanophantom.validation.tasks.strain import Comparison, StrainTask

SYMBOLS = r"$\varepsilon_{xx}$", r"$\varepsilon_{yy}$", r"$\varepsilon_{xy}$"
MAP_PX = 300
"""Pixels of a map along its longer side."""
BAND_NM = 0.16
"""A profile holds the places nearer than this to its line."""


def of_strain(dataset: Observed, task: StrainTask, c: Comparison) -> list[Plate]:
    """Draw truth, answer and error as maps and as a profile; then the second algorithm's maps."""
    if not c.matter.any():
        return []
    plates = [_image(dataset, c), _errors(c), _maps(dataset, c, "", (0, 1, 2))]
    other = _second(dataset, task)
    plates.append(_profile(dataset, c, other))
    if other is not None and other.matter.any():
        plates.append(_maps(dataset, other, " by geometric phase", (0, 1)))
    return plates


def _second(dataset: Observed, task: StrainTask) -> Comparison | None:
    """Return how the second algorithm does on the same data; None if it finds no fringes."""
    module, _, function = task.beside.partition(":")
    find = getattr(import_module(module), function)
    try:
        estimates = find(*task.arguments(dataset.measured()))
    except ValueError:
        return None
    return task.compare(estimates, dataset)


def _image(dataset: Observed, c: Comparison) -> Plate:
    """Draw the average image with the places answered."""
    image = average(dataset, "image")[0]
    extent = extent_of(image.shape, pixel_size_of(dataset))
    figure = Figure(figsize=(5.4, 5.4 * image.shape[0] / image.shape[1]))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    low, high = contrast(image)
    axes.imshow(image, cmap="gray", vmin=low, vmax=high + 0.4 * (high - low), extent=extent)
    size = float(np.clip(60 * spacing_of(c.at_nm) / (extent[1] - extent[0]), 1.2, 4.0))
    for mine, colour, label in (
        (c.matter & ~c.near, GREEN, "interior"),
        (c.matter & c.near, ORANGE, "near an edge"),
        (~c.matter, RED, "no matter there"),
    ):
        if mine.any():
            axes.plot(*c.at_nm[mine].T, "o", color=colour, markersize=size, markeredgewidth=0,
                      label=label)  # fmt: skip
    axes.legend(loc="upper right", fontsize=9, framealpha=0.85, markerscale=6 / size)
    scale_bar(axes, extent)
    axes.set_xlim(extent[:2])
    axes.set_ylim(extent[2:])
    caption = (
        f"Average of all frames, and the {len(c.at_nm)} places where strain was measured. Places "
        "near a surface, an interface or the edge of a hole are graded apart."
    )
    return Plate("Where strain was measured", caption, figure, raster=True)


def _errors(c: Comparison) -> Plate:
    """Draw found against true strain."""
    figure, axes = plot(5.4, 5.2)
    low, high = (100 * f(c.true[c.matter]) for f in (np.min, np.max))
    room = 0.25 * (high - low) + 0.1
    edges = low - room, high + room
    axes.plot(edges, edges, color=INK, linewidth=0.9)
    for part, colour, marker in ((0, BLUE, "o"), (1, RED, "s"), (2, GREEN, "^")):
        axes.plot(100 * c.true[c.matter, part], 100 * c.found[c.matter, part], marker,
                  color=colour, markersize=3.2, markeredgewidth=0, alpha=0.55,
                  label=SYMBOLS[part], rasterized=True)  # fmt: skip
    axes.set_xlim(edges)
    axes.set_ylim(edges)
    axes.set_aspect("equal")
    axes.set_xlabel("true strain (%)")
    axes.set_ylabel("strain found (%)")
    axes.legend(frameon=False, markerscale=2)
    cut = np.abs(100 * c.found[c.matter] - sum(edges) / 2) > (edges[1] - edges[0]) / 2
    outside = int(cut.any(axis=1).sum())
    caption = (
        "Strain found against true strain at every place; on the line they agree. A cloud flatter "
        "than the line is strain smoothed away, one beside it a wrong reference."
        + (f" {outside} places lie outside of the range shown." if outside else "")
    )
    return Plate("Found against true strain", caption, figure)


def _maps(dataset: Observed, c: Comparison, by: str, parts: tuple[int, ...]) -> Plate:
    """Draw the truth everywhere, and answer and error at the places answered."""
    x, y = _raster(dataset)
    truth = np.stack(c.field.at(*np.meshgrid(x, y))[:3])
    reach = 120 * float(np.abs(c.true[c.matter]).max())
    colours = colormaps["RdBu_r"].with_extremes(bad="0.82")
    ny, nx = frame_shape(dataset)
    pixel_nm = pixel_size_of(dataset)
    extent = extent_of((ny, nx), pixel_nm)
    each = 3.3 * ny / nx
    figure = Figure(figsize=(10.8, (each + 0.15) * len(parts) + 0.35))
    figure.set_layout_engine(ConstrainedLayoutEngine(wspace=0.02, hspace=0.02))
    figure.patch.set_facecolor("white")
    box = _box(dataset, c)
    shown: Any = None
    for row, part in enumerate(parts):
        found, error = (
            _filled(x, y, c.at_nm[c.matter], 100 * v[c.matter, part]) for v in (c.found, c.error)
        )
        rms = float(np.sqrt(np.mean((100 * c.error[c.matter, part]) ** 2)))
        for column, (values, title) in enumerate((
            (100 * truth[part], f"true {SYMBOLS[part]}"),
            (found, f"found{by}"),
            (error, f"error, {rms:.2f} % (rms)"),
        )):  # fmt: skip
            axes = figure.add_subplot(len(parts), 3, 3 * row + column + 1)
            axes.set_axis_off()
            shown = axes.imshow(np.ma.masked_invalid(values), cmap=colours, vmin=-reach,
                                vmax=reach, extent=extent, interpolation="nearest")  # fmt: skip
            axes.set_title(title, fontsize=11, color=INK, pad=3)
            axes.set_xlim(box[0], box[1])
            axes.set_ylim(box[2], box[3])
            scale_bar(axes, box, font_size=9)
    bar = figure.colorbar(shown, ax=figure.axes, shrink=0.7, pad=0.015, aspect=30)
    bar.set_label("strain relative to the unstrained crystal (%)", color=INK)
    caption = (
        "Left to right: the true strain, the one found, and their difference, all on one colour "
        "scale; red is stretched, blue compressed, white of the known crystal's own length, grey "
        "where nothing is. x points right, y down. Each place answered colours what lies nearest "
        "to it."
    )
    if by:
        caption += (
            " Geometric phase analysis follows the phases of two sets of lattice fringes in the "
            "same image. Its resolution is that of the mask around a reflection; it blurs "
            "interfaces, and where the fringes change with thickness it sees that as strain."
        )
    return Plate(f"Strain maps{by}", caption, figure, raster=True, wide=True)


def _profile(dataset: Observed, c: Comparison, other: Comparison | None) -> Plate:
    """Draw strain along a horizontal line through the middle."""
    x, _ = _raster(dataset)
    middle = c.field.centre_nm[1]
    true = np.stack(c.field.at(x, np.full(len(x), middle))[:3])
    figure, all_axes = plots(10.6, 3.9, 2)
    box = _box(dataset, c)
    for part, axes in enumerate(all_axes):
        axes.plot(x, 100 * true[part], color=INK, linewidth=1.6, label="truth")
        if other is not None:
            near = other.matter & (np.abs(other.at_nm[:, 1] - middle) < BAND_NM / 2)
            axes.plot(other.at_nm[near, 0], 100 * other.found[near, part], ".", color=ORANGE,
                      markersize=4, label="geometric phase", zorder=1)  # fmt: skip
        near = c.matter & (np.abs(c.at_nm[:, 1] - middle) < BAND_NM)
        sigma = None if c.sigma is None else 196 * c.sigma[near, part]
        axes.errorbar(c.at_nm[near, 0], 100 * c.found[near, part], sigma, fmt="o", color=BLUE,
                      markersize=4, linewidth=1, label="answer")  # fmt: skip
        low, high = (100 * f(c.true[c.matter, part]) for f in (np.min, np.max))
        room = 0.5 * (high - low) + 0.2
        axes.set_ylim(low - room, high + room)
        axes.set_xlim(box[0], box[1])
        axes.set_xlabel("x (nm)")
        axes.set_ylabel(f"{SYMBOLS[part]} (%)")
    all_axes[0].legend(frameon=False, fontsize=9)
    caption = (
        f"Along the horizontal line y = {middle:.2f} nm through the middle: the true strain, the "
        f"answers no farther than {BAND_NM:g} nm from the line with their 95 % intervals, and "
        "those of geometric phase analysis. Where the truth jumps or bends within the distance of "
        "neighbouring columns, no algorithm can follow."
    )
    return Plate("Profile through the middle", caption, figure, wide=True)


def _box(dataset: Observed, c: Comparison) -> tuple[float, float, float, float]:
    """Return left, right, bottom, top of the part of the view with answers in it."""
    left, right, bottom, top = extent_of(frame_shape(dataset), pixel_size_of(dataset))
    x, y = c.at_nm[c.matter].T
    return (
        max(left, float(x.min()) - 0.35), min(right, float(x.max()) + 0.35),
        min(bottom, float(y.max()) + 0.35), max(top, float(y.min()) - 0.35),
    )  # fmt: skip


def _raster(dataset: Observed) -> tuple[Floats, Floats]:
    """Return x and y of the pixels of a map over the whole view."""
    ny, nx = frame_shape(dataset)
    left, right, bottom, top = extent_of((ny, nx), pixel_size_of(dataset))
    step = max(right - left, bottom - top) / MAP_PX
    return np.arange(left + step / 2, right, step), np.arange(top + step / 2, bottom, step)


def _filled(
    x: Floats, y: Floats, at_nm: Floats, values: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return a map with each pixel's value that of the nearest place; not a number far from all."""
    points = np.stack(np.meshgrid(x, y), axis=-1)
    reach = max(0.75 * spacing_of(at_nm), 1.5 * (x[1] - x[0]))
    _, nearest = cKDTree(at_nm).query(points, distance_upper_bound=reach)
    return np.asarray(np.append(values, np.nan)[nearest], np.float64)

"""Figures of the task phonon-convergence: error against number, and the images behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from nanophantom.validation.drawing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PINK,
    RED,
    Plate,
    extent_of,
    plot,
    scale_bar,
)
from nanophantom.validation.figures import pixel_size_of

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed
    from nanophantom.validation.tasks.phonon_convergence import Convergence

COLOURS = (ORANGE, GREEN, PINK, BLUE)


def of_convergence(dataset: Observed, c: Convergence) -> list[Plate]:
    """Draw the error against N, and images of few and many configurations."""
    return [_images(dataset, c), _error_curve(c), _by_column(c)]


def _images(dataset: Observed, c: Convergence) -> Plate:
    """Draw the first and the last frame, and what each lacks to the reference."""
    signal = dataset.signals[0]
    frames = np.asarray(dataset.signal(signal), np.float64)
    reference = np.asarray(dataset.truth("converged")[signal], np.float64)
    mean = reference.mean()
    first, last = int(c.numbers[0]), int(c.numbers[-1])
    pixel_size_nm = pixel_size_of(dataset)
    extent_nm = extent_of(reference.shape, pixel_size_nm)
    low, high = float(reference.min() / mean), float(reference.max() / mean)
    off = [100 * (frame - reference) / mean for frame in (frames[0], frames[-1])]
    reach = float(np.abs(off[0]).max())
    figure = Figure(figsize=(10.8, 3.25), layout=ConstrainedLayoutEngine(wspace=0.04))
    figure.patch.set_facecolor("white")
    plural = "" if first == 1 else "s"
    for i, (image, title) in enumerate((
        (frames[0] / mean, f"{first} configuration{plural}"),
        (frames[-1] / mean, f"{last} configurations"),
        (off[0], f"{first}, less the reference"),
        (off[1], f"{last}, less the reference"),
    )):  # fmt: skip
        axes = figure.add_subplot(1, 4, i + 1)
        axes.set_axis_off()
        axes.set_title(title, fontsize=10.5, color=INK)
        limits = (low, high) if i < 2 else (-reach, reach)
        shown = axes.imshow(image, cmap="gray" if i < 2 else "RdBu_r", vmin=limits[0],
                            vmax=limits[1], extent=extent_nm)  # fmt: skip
        scale_bar(axes, extent_nm, font_size=9)
        if i in (1, 3):
            label = "intensity / mean" if i == 1 else "difference (% of the mean)"
            bar = figure.colorbar(shown, ax=figure.axes[-2:], shrink=0.85, pad=0.02)
            bar.set_label(label, color=INK)
    caption = (
        f"The same place averaged over {first} and over {last} frozen configurations, on one grey "
        f"scale, and what each lacks to the independent reference of {c.held_back} other "
        "configurations, on one colour scale: red is too bright, blue too dark. In a single "
        "configuration every column has its own random displacements and so its own brightness."
    )
    title = "Images of few and of many configurations"
    return Plate(title, caption, figure, raster=True, wide=True)


def _error_curve(c: Convergence) -> Plate:
    figure, axes = plot(5.4, 4.3)
    n = np.geomspace(c.numbers[0] * 0.8, max(c.numbers[-1], c.true_needed) * 1.4, 50)
    axes.plot(n, 100 * c.single[""] / np.sqrt(n), color=GREEN, linewidth=1.6,
              label="law: scatter of one configuration / √N")  # fmt: skip
    axes.plot(c.numbers, 100 * c.true[""], "o", color=BLUE, markersize=7,
              label="true error of these images")  # fmt: skip
    axes.plot(c.numbers, 100 * c.said, "D", markerfacecolor="none", markeredgecolor=RED,
              markersize=7, label="estimated from the images alone")  # fmt: skip
    axes.axhline(1.0, color=INK, linewidth=0.8, linestyle=":")
    axes.axvline(c.true_needed, color=GREEN, linewidth=0.8, linestyle=":")
    axes.text(n[0], 1.04, "1 %", color=INK, fontsize=9, va="bottom")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = sorted({*c.numbers.tolist(), 2.0 ** np.round(np.log2(c.true_needed))})
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    low, high = axes.get_ylim()
    levels = [v for v in (0.2, 0.5, 1, 2, 5, 10, 20, 50) if low <= v <= high]
    axes.set_yticks(levels, [f"{v:g}" for v in levels])
    axes.minorticks_off()
    axes.set_xlabel("configurations averaged, N")
    axes.set_ylabel("rms error (% of the mean)")
    axes.legend(frameon=False, fontsize=9)
    caption = (
        f"Four times as many configurations halve the error. One percent takes about "
        f"{c.true_needed:.0f} (truth) or {c.said_needed:.0f} (estimate). The true errors scatter "
        "about the line because each image is one draw, and each holds those before it; the "
        "estimate pools all frames and lies on a line by construction."
    )
    return Plate("Error against the number of configurations", caption, figure)


def _by_column(c: Convergence) -> Plate:
    figure, axes = plot(5.4, 4.3)
    names = [name for name in c.true if name]
    n = np.geomspace(c.numbers[0] * 0.8, c.numbers[-1] * 1.4, 50)
    for name, colour, marker in zip(names, COLOURS, "osD^", strict=False):
        axes.plot(n, 100 * c.single[name] / np.sqrt(n), color=colour, linewidth=1.2)
        axes.plot(c.numbers, 100 * c.true[name], marker, color=colour, markersize=6,
                  label=f"around {name} columns")  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(c.numbers, [f"{t:g}" for t in c.numbers])
    low, high = axes.get_ylim()
    levels = [v for v in (0.2, 0.5, 1, 2, 5, 10, 20, 50) if low <= v <= high]
    axes.set_yticks(levels, [f"{v:g}" for v in levels])
    axes.minorticks_off()
    axes.set_xlabel("configurations averaged, N")
    axes.set_ylabel("rms error (% of the columns' own mean)")
    axes.legend(frameon=False, fontsize=9)
    caption = (
        "True errors around the columns of each kind, named by their heaviest element, relative to "
        "the mean brightness there. Lines: scatter of the single configurations of the reference "
        "over the root of N. An error of the whole image hides which columns it comes from."
    )
    return Plate("Error by kind of column", caption, figure)

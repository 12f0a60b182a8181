"""Figures of the task tapping-tails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from nanophantom.validation.drawing import BLUE, GREEN, INK, ORANGE, RED, SKY, Plate, plot
from nanophantom.validation.height_drawing import Map, height_maps, span_of
from nanophantom.validation.loop_grading import images_of

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed
    from nanophantom.validation.tasks.tapping_tails import Comparison

Floats = npt.NDArray[np.float64]

GREY = "#d5dae3"


def of_tails(dataset: Observed, c: Comparison) -> list[Plate]:
    """Draw images, what was found to be tails, profiles with the error, and lengths."""
    return [_images(c), _tails(c), _profiles(dataset, c), _lengths(c)]


def _shown(c: Comparison) -> list[int]:
    """Return three frames: the lowest set point, a middling one, the highest."""
    order = np.argsort(c.setpoint_percent, kind="stable")
    picked = np.unique(np.rint(np.linspace(0, len(order) - 1, 3)).astype(int))
    return [int(order[i]) for i in picked]


def _images(c: Comparison) -> Plate:
    frames = _shown(c)
    heights = span_of(*(c.felt_nm[i] for i in frames))
    wrong = span_of(*(c.recorded_nm[i] - c.felt_nm[i] for i in frames))
    maps = [
        *(Map(f"recorded, set point {c.setpoint_percent[i]:g} %", c.recorded_nm[i], span=heights)
          for i in frames),
        *(Map("its error", c.recorded_nm[i] - c.felt_nm[i], signed=True, span=wrong)
          for i in frames),
        *(Map("corrected", c.found_nm[i], span=heights) for i in frames),
        *(Map("error left", c.found_nm[i] - c.felt_nm[i], signed=True, span=wrong)
          for i in frames),
    ]  # fmt: skip
    figure, _ = height_maps(maps, c.pixel_nm, across=len(frames))
    caption = (
        "The same pits with three set points, in percent of the free amplitude. From top to "
        "bottom: the trace as recorded; how far it is from what the tip felt; both ways put "
        "together; and how far that is. The nearer the set point to the free amplitude, the "
        "longer the tails (red) behind the left edges of pits: the tip runs to the right. Blue at "
        "right edges: the loop hasn't risen yet. What is left at the corners of pits are rows "
        "whose trace flew, while the retrace, less than a row on, ran on the edge."
    )
    return Plate("Pits and their tails", caption, figure, raster=True, wide=True)


def _tails(c: Comparison) -> Plate:
    frames = _shown(c)
    kinds = ListedColormap([GREY, GREEN, ORANGE, RED])
    codes = [
        np.select([c.true_tail[i] & c.tail[i], c.tail[i], c.true_tail[i]], [1.0, 2.0, 3.0], 0.0)
        for i in frames
    ]
    maps = [
        Map(f"set point {c.setpoint_percent[i]:g} %", code, "", span=(-0.5, 3.5))
        for i, code in zip(frames, codes, strict=True)
    ]
    figure, all_axes = height_maps(maps, c.pixel_nm, across=len(frames))
    for axes in all_axes:
        axes.images[0].set_cmap(kinds)
        bar = axes.images[0].colorbar
        bar.set_ticks([0, 1, 2, 3], labels=["trusted", "tail", "no tail", "missed"])
    caption = (
        "Which heights of the trace aren't to be trusted. Green: rightly called so; orange: called "
        "so, but right within the tolerance; red: wrong, and not noticed."
    )
    return Plate("Tails found", caption, figure, raster=True, wide=True)


def _profiles(dataset: Observed, c: Comparison) -> Plate:
    frames = _shown(c)
    rows = np.flatnonzero(c.rows)
    # amid a pit: the rows next to its edge are what the retrace, half a row on, tells worst
    row = int(rows[len(rows) // 8]) if len(rows) else c.felt_nm.shape[1] // 2
    x = np.asarray(np.arange(c.felt_nm.shape[2]) * c.pixel_nm[1])
    back, error = images_of(dataset, "height_retrace"), images_of(dataset, "error")
    figure = Figure(figsize=(11.0, 5.4), layout="constrained")
    figure.patch.set_alpha(0)
    every = figure.subplots(
        2, len(frames), sharex=True, sharey="row", squeeze=False, height_ratios=(2.4, 1)
    )
    for axes in every.ravel():
        axes.patch.set_alpha(0)
        axes.spines[["top", "right"]].set_visible(False)
    for place, (axes, below, i) in enumerate(zip(*every, frames, strict=True)):
        axes.plot(x, c.felt_nm[i, row], color=INK, linewidth=2.2, label="felt by the tip")
        axes.plot(x, c.recorded_nm[i, row], color=BLUE, linewidth=1.1, label="trace →")
        axes.plot(x, back[i, row], color=ORANGE, linewidth=1.1, linestyle="--", label="retrace ←")
        axes.plot(x, c.found_nm[i, row], color=GREEN, linewidth=1.1, label="corrected")
        axes.set_title(f"set point {c.setpoint_percent[i]:g} %", fontsize=10)
        below.plot(x, error[i, row], color=BLUE, linewidth=0.9)
        below.axhline(c.room_nm[i], color=RED, linewidth=0.9, linestyle=":")
        below.set_xlabel("x (nm)")
        if place == 0:
            axes.set_ylabel("height (nm)")
            below.set_ylabel("error (nm)")
    figure.legend(
        *every[0, 0].get_legend_handles_labels(), fontsize=9, frameon=False, ncols=4,
        loc="outside upper center",
    )  # fmt: skip
    caption = (
        "The same row with three set points, and its error channel, amplitude less set point. "
        "Behind an edge the lever swings freely and the error can't grow beyond A0 − Asp (dotted "
        "red), so the loop doesn't know how deep it is and comes down evenly: the slope that the "
        "trace shows is the loop's, not the sample's. The retrace does the same from the right. "
        "Where one of them taps, the corrected profile (green) follows that one."
    )
    return Plate("Profiles and error", caption, figure, wide=True)


def _lengths(c: Comparison) -> Plate:
    figure, axes = plot(7.6, 3.8)
    order = np.argsort(c.setpoint_percent, kind="stable")
    percent = c.setpoint_percent[order]
    form, many = c.expected_length_nm[order], percent
    scale = form * c.room_nm[order] / (c.relief_nm - c.room_nm[order])  # v / Ki
    if np.ptp(scale) < 1e-6 * abs(scale[0]):
        many = np.linspace(percent[0], percent[-1], 100)
        room = c.room_nm[order[0]] * (100 - many) / (100 - percent[0])
        form = scale[0] * (c.relief_nm - room) / room
    axes.plot(many, form, color=INK, linewidth=1.2,
              label="closed form v (h − (A0 − Asp)) / (Ki (A0 − Asp))")  # fmt: skip
    axes.plot(percent, c.true_length_nm[order], "o", color=BLUE, label="true")
    axes.plot(percent, c.length_nm[order], "o", color=ORANGE, markerfacecolor="none",
              markersize=10, label="found")  # fmt: skip
    share = 100 * np.mean(c.true_tail, axis=(1, 2))
    other = axes.twinx()
    other.bar(percent, share[order], width=1.2, color=SKY, alpha=0.35)
    other.set_ylabel("pixels not to be trusted (%)")
    other.set_ylim(0, max(2.5 * float(share.max()), 1e-3))
    other.spines["top"].set_visible(False)
    axes.set_zorder(other.get_zorder() + 1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("set point (% of the free amplitude)")
    axes.set_ylabel("way flown behind an edge (nm)")
    axes.legend(fontsize=8.5, frameon=False, loc="upper left")
    caption = (
        "How far the tip flies behind an edge, against the set point: the loop comes down the more "
        "slowly the less room the amplitude has to grow. Bars: share of the pixels of the trace "
        "that are wrong, rising edges included."
    )
    return Plate("Length of the tails", caption, figure, wide=True)

"""Figures of any dataset of a force microscope: what was recorded, and the truth behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.pixel_size import nominal_pixel
from nanophantom.validation.drawing import BLUE, GREEN, INK, ORANGE, RED, Plate, plot, plots
from nanophantom.validation.height_drawing import (
    Map,
    height_maps,
    profiles,
    span_of,
    steepest_row,
)

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]

MOST_FRAMES = 6
"""Frames that are drawn, spread evenly."""


def is_heights(dataset: Observed) -> bool:
    """Say whether a dataset holds images of a force microscope."""
    return "height" in dataset.signals and "surface" in dataset.truth_tables


def of_heights(dataset: Observed) -> list[Plate]:
    """Draw channels, truth and residual, a profile, the frames, the tip's life."""
    plates = [_channels(dataset), _truth(dataset), _profile(dataset)]
    if dataset.n_frames > 1:
        plates.append(_frames(dataset))
    lines = dataset.truth("tip_lines")
    if np.ptp(lines["shortened_nm"]) > 0:
        plates.append(_tip_life(dataset))
    return plates


def pixel_of(dataset: Observed) -> tuple[float, float]:
    """Return the nominal pixel along y and x, nm."""
    return nominal_pixel(dataset.settings)


def first_of(dataset: Observed, name: str, frame: int = 0) -> Floats:
    """Return one image of a signal."""
    return np.asarray(dataset.signal(name, frame, frame + 1)[0], np.float64)


def _channels(dataset: Observed) -> Plate:
    tapping = "phase" in dataset.signals
    trace, back = first_of(dataset, "height"), first_of(dataset, "height_retrace")
    error = first_of(dataset, "error")
    lever = "amplitude" if tapping else "deflection"
    maps = [
        Map("height, trace", trace),
        Map("trace − retrace", trace - back, signed=True),
        Map(f"error: {lever} − set point", error, signed=True),
    ]
    caption = (
        "Frame 0 as the instrument recorded it. An ideal loop would leave the second and third "
        "picture empty: what is in them are the loop's lag (edges), what the scanner does "
        "differently on the way back, and noise."
    )
    if tapping:
        phase = first_of(dataset, "phase")
        maps.append(Map("phase", phase, "deg"))
        caption += " The phase tells soft and sticky places from hard ones, and edges."
    figure, _ = height_maps(maps, pixel_of(dataset), across=len(maps) if len(maps) < 4 else 2)
    return Plate("What was recorded", caption, figure, raster=True, wide=True)


def _truth(dataset: Observed) -> Plate:
    truth, tip = dataset.truth("surface"), dataset.truth("tip")
    surface = np.asarray(truth["height_nm"], np.float64)
    image = np.asarray(truth["image_nm"], np.float64)
    measured = first_of(dataset, "height")
    residual = measured - image
    residual = residual - np.median(residual)
    span = span_of(surface, image)
    step = tuple(float(s) for s in tip["step_nm"])
    depth = max(float(np.ptp(surface)), 1.0)
    maps = [
        Map("true surface", surface, span=span),
        Map("what this tip makes of it", image, span=span),
        Map("measured − that", residual, signed=True),
    ]
    figure, _ = height_maps([*maps, maps[0]], pixel_of(dataset), across=2)
    for axes in figure.axes[-2:]:  # the last picture and its colour bar make room
        axes.remove()
    _draw_tip(figure, np.asarray(tip["height_nm"], np.float64), (step[0], step[1]), depth)
    caption = (
        "The truth. A tip with a radius dilates what it touches: hills become wider, pits "
        "narrower (second picture: what a perfect scanner and loop would record with the fresh "
        "tip). What the instrument adds to that is the third picture, its median taken off. The "
        "last one is a cut through the fresh tip along x, drawn to scale."
    )
    return Plate("The truth behind it", caption, figure, raster=True, wide=True)


def _draw_tip(figure: object, heights: Floats, step: tuple[float, float], depth_nm: float) -> None:
    """Draw a cut through a tip into the last place of a figure of two by two."""
    axes = figure.add_subplot(2, 2, 4)  # type: ignore[attr-defined]
    row = int(np.argmax(heights.max(axis=1)))
    cut = -heights[row]
    x = (np.arange(len(cut)) - int(np.argmin(cut))) * step[1]
    inside = np.isfinite(cut) & (cut <= depth_nm)
    axes.fill_between(x[inside], cut[inside], depth_nm, color="#8d99ae", linewidth=0)
    axes.plot(x[inside], cut[inside], color=INK, linewidth=1.5)
    axes.set_aspect("equal")
    axes.set_ylim(-0.08 * depth_nm, depth_nm)
    axes.set_title("the tip", fontsize=10)
    axes.set_xlabel("x (nm)", fontsize=9)
    axes.set_ylabel("over its apex (nm)", fontsize=9)
    axes.tick_params(labelsize=8)


def _profile(dataset: Observed) -> Plate:
    truth = dataset.truth("surface")
    surface, image = (np.asarray(truth[k], np.float64) for k in ("height_nm", "image_nm"))
    row = steepest_row(surface)
    trace, back = first_of(dataset, "height"), first_of(dataset, "height_retrace")
    shift = float(np.median(trace - image))
    step_y, step_x = pixel_of(dataset)
    x = np.asarray(np.arange(surface.shape[1]) * step_x, np.float64)
    figure, axes = plot(10.4, 3.6)
    profiles(
        axes,
        x,
        {
            "true surface": (surface[row], {"color": INK, "linewidth": 1.6}),
            "dilated by the tip": (image[row], {"color": GREEN, "linewidth": 1.2}),
            "trace →": (trace[row] - shift, {"color": BLUE, "linewidth": 1.2}),
            "retrace ←": (
                back[row] - shift,
                {"color": ORANGE, "linewidth": 1.2, "linestyle": "--"},
            ),
        },
    )
    caption = (
        f"The row at y = {row * step_y:.4g} nm of frame 0. Between the black and the green line "
        "lies the tip's shape; between green and blue or orange the loop's lag, the scanner's "
        "errors and noise."
    )
    return Plate("A profile", caption, figure, wide=True)


def _frames(dataset: Observed) -> Plate:
    shown = np.unique(np.rint(np.linspace(0, dataset.n_frames - 1, MOST_FRAMES)).astype(int))
    images = [first_of(dataset, "height", int(i)) for i in shown]
    span = span_of(*(image - np.median(image) for image in images))
    rates = dataset.settings["line_rate_hz"]
    maps = [
        Map(f"frame {i}: {rates[i]:g} lines/s, {dataset.settings['slow_axis'][i]}",
            image - np.median(image), span=span)
        for i, image in zip(shown, images, strict=True)
    ]  # fmt: skip
    figure, _ = height_maps(maps, pixel_of(dataset), across=3)
    caption = (
        f"{len(shown)} of the {dataset.n_frames} frames, each with its median taken off, all with "
        "the same colours."
    )
    return Plate("Frame by frame", caption, figure, raster=True, wide=True)


def _tip_life(dataset: Observed) -> Plate:
    lines, events = dataset.truth("tip_lines"), dataset.truth("tip_events")
    figure, (left, right) = plots(10.4, 3.4, 2)
    t = np.asarray(lines["t_s"]) / 60.0
    left.plot(t, lines["radius_nm"], color=BLUE, label="effective radius")
    left.plot(t, lines["flat_radius_nm"], color=ORANGE, linestyle="--", label="radius of the flat")
    right.plot(t, lines["shortened_nm"], color=BLUE, label="shortened by")
    for axes in (left, right):
        for when in np.asarray(events["t_s"]) / 60.0:
            axes.axvline(when, color=RED, linewidth=0.8, alpha=0.7)
        axes.set_xlabel("time (min)")
        axes.set_ylabel("nm")
        axes.legend(fontsize=8.5, frameon=False)
    caption = "What became of the tip while it scanned: wear"
    if len(events["t_s"]):
        caption += f", and {len(events['t_s'])} events (red): particles picked up, fragments lost"
    return Plate("The tip's life", caption + ".", figure, wide=True)

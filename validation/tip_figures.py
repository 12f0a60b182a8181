"""Figures of what was found about a tip: its shape from an image, its life from many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nanophantom.analysis import tip_estimate
from nanophantom.analysis.blind_tip import BlindTip
from nanophantom.analysis.surface_estimate import levelled_mean
from nanophantom.simcore.probes.tip_map import TipMap
from nanophantom.validation.drawing import BLUE, INK, RED, SKY, Plate, plots
from nanophantom.validation.height_drawing import Map, height_maps, span_of, tip_map
from nanophantom.validation.height_figures import first_of, pixel_of
from nanophantom.validation.true_tips import true_tip

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed
    from nanophantom.validation.tasks import tip_shape, tip_wear

Floats = npt.NDArray[np.float64]

SHOWN_NM = 15.0
"""Depth of the tip that is drawn."""


def of_shape(dataset: Observed, c: tip_shape.Comparison) -> list[Plate]:
    """Draw the image, the tip that was found in it beside the true one, cuts, and thresholds."""
    return [_image(dataset), _shapes(c), _cuts(c), *_thresholds(dataset, c)]


def of_wear(dataset: Observed, c: tip_wear.Comparison) -> list[Plate]:
    """Draw radius and length against the way, first and last image, and what became of the tip."""
    return [_life(c), _first_and_last(dataset), _worn_cuts(dataset)]


# --- the shape -----------------------------------------------------------------------------------


def _image(dataset: Observed) -> Plate:
    surface = np.asarray(dataset.truth("surface")["height_nm"], np.float64)
    measured = first_of(dataset, "height")
    measured = measured - (np.median(measured) - np.median(dataset.truth("surface")["image_nm"]))
    span = span_of(surface, measured)
    maps = [
        Map("true surface, unknown to the algorithm", surface, span=span),
        Map("image that it was given", measured, span=span),
    ]
    figure, _ = height_maps(maps, pixel_of(dataset), across=2)
    caption = (
        "Left: what is there. Right: frame 0. Where a spike is sharper than the tip, the image "
        "shows the tip, upside down and reversed, instead of the spike. Every hill of the image is "
        "at least as blunt as the tip: that is all that blind reconstruction uses."
    )
    return Plate("Who images whom?", caption, figure, raster=True, wide=True)


def _shapes(c: tip_shape.Comparison) -> Plate:
    true = c.true.heights_nm
    rows, columns = _shown(c.true)
    found = c.laid.found_nm[rows, columns]
    true = true[rows, columns]
    difference = np.where(true >= -SHOWN_NM, found - true, np.nan)
    maps = [
        tip_map("true tip", true, SHOWN_NM),
        tip_map("found", found, SHOWN_NM),
        Map("found − true", difference, signed=True),
    ]
    figure, axes = height_maps(maps, c.true.step_nm)
    ny, nx = true.shape
    x = np.arange(nx) * c.true.step_nm[1]
    y = np.arange(ny) * c.true.step_nm[0]
    for one in axes:
        one.contour(x, y, np.where(np.isfinite(true), true, -1e3), levels=[-10.0], colors=INK,
                    linewidths=0.8, linestyles="--")  # fmt: skip
    caption = (
        f"The tip seen along its axis, down to {SHOWN_NM:g} nm below the apex. Red in the "
        "difference: the tip is found too blunt, as a bound from outside may be; blue: too sharp, "
        "which no bound should be. Within the dashed line (10 nm below the apex) it is graded."
    )
    return Plate("The tip, true and found", caption, figure, raster=True, wide=True)


def _cuts(c: tip_shape.Comparison) -> Plate:
    figure, both = plots(10.4, 3.6, 2)
    row, column = c.true.apex
    y, x = (np.ravel(offset) for offset in c.true.offsets_nm)
    for axes, at, name, cut in (
        (both[0], x, "x", (row, slice(None))),
        (both[1], y, "y", (slice(None), column)),
    ):
        true, found = c.true.heights_nm[cut], c.laid.found_nm[cut]
        inside = true >= -SHOWN_NM
        axes.fill_between(at[inside], -true[inside], SHOWN_NM, color="#8d99ae", alpha=0.35,
                          linewidth=0)  # fmt: skip
        axes.plot(at[inside], -true[inside], color=INK, linewidth=1.6, label="true tip")
        axes.plot(at, -found, color=BLUE, linewidth=1.2, marker=".", markersize=3, label="found")
        axes.set_xlim(1.25 * at[inside].min(), 1.25 * at[inside].max())
        axes.set_ylim(-0.05 * SHOWN_NM, SHOWN_NM)
        axes.set_aspect("equal")
        axes.set_xlabel(f"{name} (nm)")
        axes.set_ylabel("over the apex (nm)")
    both[0].legend(fontsize=8.5, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0),
                   ncols=2)  # fmt: skip
    told = ""
    if c.radius_nm is not None and c.true_radius_nm is not None:
        told = f" Radius of the top 3 nm: {c.radius_nm:.1f} nm found, {c.true_radius_nm:.1f} true."
    caption = (
        "Cuts through the apex along x and along y, to scale. Blue within the grey tip: found too "
        f"sharp.{told}"
    )
    return Plate("Cuts through the tip", caption, figure, wide=True)


def _thresholds(dataset: Observed, c: tip_shape.Comparison) -> list[Plate]:
    """Draw the scan of thresholds of the analysis layer's own reconstruction."""
    trace, back = (dataset.signal(name, 0, 1) for name in ("height", "height_retrace"))
    try:
        image = levelled_mean(trace, back, dataset.settings)
        blind = tip_estimate.tip_of(image, pixel_of(dataset)).blind
    except ValueError:
        return []
    if len(blind.thresholds_nm) < 2:
        return []
    figure, (left, right) = plots(10.4, 3.4, 2)
    left.plot(blind.thresholds_nm, blind.volumes_nm3, color=BLUE, marker="o", markersize=3)
    left.set_ylabel("volume of the tip (nm³)")
    right.plot(blind.thresholds_nm, blind.radii_nm, color=BLUE, marker="o", markersize=3)
    right.set_ylabel("radius of its top (nm)")
    if c.true_radius_nm is not None:
        right.axhline(c.true_radius_nm, color=INK, linewidth=1, linestyle="--")
        right.annotate("true", (blind.thresholds_nm[-1], c.true_radius_nm), fontsize=8.5,
                       xytext=(0, 3), textcoords="offset points", ha="right")  # fmt: skip
    for axes in (left, right):
        axes.axvline(blind.threshold_nm, color=RED, linewidth=1)
        axes.set_xlabel("threshold (nm)")
    return [Plate("Which threshold?", _of_thresholds(blind), figure, wide=True)]


def _of_thresholds(blind: BlindTip) -> str:
    """Say what the scan of thresholds shows."""
    return (
        "Noise makes hills sharper than any tip, and a reconstruction that believes it tears the "
        "tip to pieces (low volume, left). A threshold is added to every bound; too much of it "
        f"makes the tip blunt. The image's noise, {blind.noise_nm:.2g} nm, was smoothed away first "
        "for the most part; the red line is the threshold that the built-in analysis took: eight "
        "standard deviations of what is left, or the knee of the volume if that lies further out. "
        "Radii here are those before the smoothing is undone, so they lie lower than the result."
    )


def _shown(tip: TipMap) -> tuple[slice, slice]:
    """Return rows and columns of a tip that hold what is drawn, and a little more."""
    near = tip.heights_nm >= -SHOWN_NM
    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    return (
        slice(max(0, int(rows[0]) - 2), int(rows[-1]) + 3),
        slice(max(0, int(columns[0]) - 2), int(columns[-1]) + 3),
    )


# --- the life ------------------------------------------------------------------------------------


def _life(c: tip_wear.Comparison) -> Plate:
    figure, (left, right) = plots(10.4, 3.8, 2)
    left.plot(c.distance_um, c.true_radius_nm, color=INK, marker="o", markersize=4, label="true")
    way = c.distance_um[c.frame]
    if c.sigma_nm is None:
        left.plot(way, c.radius_nm, color=BLUE, linestyle="", marker="s", markersize=5,
                  label="found")  # fmt: skip
    else:
        left.errorbar(way, c.radius_nm, 1.96 * c.sigma_nm, color=BLUE, linestyle="", marker="s",
                      markersize=5, linewidth=1, label="found, 95 %")  # fmt: skip
    left.set_ylabel("radius of the top 3 nm (nm)")
    left.set_ylim(bottom=0)
    right.plot(c.distance_um, c.true_shortened_nm, color=INK, marker="o", markersize=4,
               label="true")  # fmt: skip
    if c.shortened_nm is not None:
        right.plot(way, c.shortened_nm, color=BLUE, linestyle="", marker="s", markersize=5,
                   label="found")  # fmt: skip
    right.set_ylabel("shortened by (nm)")
    named = set(c.frame[c.event].tolist())
    for axes in (left, right):
        _mark(axes, c.distance_um[c.true_event], SKY, "accident, true")
        _mark(axes, c.distance_um[sorted(named)], RED, "accident, found", ":")
        axes.set_xlabel("way that the tip has slid (µm)")
        axes.legend(fontsize=8.5, frameon=False, loc="best")
    caption = (
        "Every point is a frame. The tip slides over the specimen and wears: it gets blunter (left)"
        " and shorter (right), fast at first, while little of it touches, slower on its growing "
        "flat. Upright lines mark the frames in which something broke off or got stuck: broad ones "
        "those that had it, dotted ones those that the algorithm named."
    )
    return Plate("The life of the tip", caption, figure, wide=True)


def _mark(axes: Any, places: Floats, colour: str, label: str, style: str = "-") -> None:
    """Draw upright lines, the first of which has a label."""
    for k, x in enumerate(places):
        axes.axvline(x, color=colour, linestyle=style, linewidth=6 if style == "-" else 1.5,
                     alpha=0.5 if style == "-" else 1, label=label if k == 0 else None,
                     zorder=0)  # fmt: skip


def _first_and_last(dataset: Observed) -> Plate:
    ends = (0, dataset.n_frames - 1)
    first, last = (first_of(dataset, "height", k) for k in ends)
    first, last = first - np.median(first), last - np.median(last)
    span = span_of(first, last)
    maps = [
        Map(f"frame {k}", image, span=span) for k, image in zip(ends, (first, last), strict=True)
    ]
    figure, _ = height_maps(maps, pixel_of(dataset), across=2)
    caption = (
        "The same place by the fresh tip and by the worn one, in the same colours. The specimen "
        "hasn't changed: hills have become as wide, and as flat, as the tip."
    )
    return Plate("First and last frame", caption, figure, raster=True, wide=True)


def _worn_cuts(dataset: Observed) -> Plate:
    table = dataset.truth("tip_frames")
    frames = np.unique(np.rint(np.linspace(0, len(table["frame"]) - 1, 6)).astype(int))
    lines, a_frame = (
        dataset.truth("tip_lines"),
        len(dataset.truth("tip_lines")["line"]) // dataset.n_frames,
    )
    figure, both = plots(10.4, 3.8, 2)
    for k, frame in enumerate(frames):
        tip = true_tip(table, int(frame))
        line = frame * a_frame + a_frame // 2
        lost = float(lines["shortened_nm"][line])
        shade = str(0.8 * (1 - k / max(1, len(frames) - 1)))
        row, column = tip.apex
        y, x = (np.ravel(offset) for offset in tip.offsets_nm)
        places = float(lines["apex_x_nm"][line]), float(lines["apex_y_nm"][line])
        for axes, at, place, cut in (
            (both[0], x, places[0], (row, slice(None))),
            (both[1], y, places[1], (slice(None), column)),
        ):
            axes.plot(at + place, lost - tip.heights_nm[cut], color=shade, linewidth=1.4,
                      label=f"frame {frame}")  # fmt: skip
    for axes, name in zip(both, "xy", strict=True):
        axes.set_ylim(-1, SHOWN_NM + 5)
        axes.set_aspect("equal")
        axes.set_xlabel(f"{name} (nm)")
        axes.set_ylabel("over the fresh apex (nm)")
        axes.margins(x=0)
    both[0].legend(fontsize=8, frameon=False, loc="upper right")
    caption = (
        "The truth: cuts through the present apex along x and along y, amid some of the frames, "
        "from pale to black, to scale. Wear ends in a level flat; a fracture is tilted."
    )
    return Plate("What became of the tip", caption, figure, wide=True)

"""Figures of the task clean-surface: before, after, truth, and what each artefact did."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nanophantom.validation.artefact_causes import Cause, causes
from nanophantom.validation.drawing import BLUE, GREEN, INK, ORANGE, RED, Plate, plot, plots
from nanophantom.validation.height_drawing import Map, height_maps, profiles, span_of
from nanophantom.validation.surface_comparison import pixel_yx

if TYPE_CHECKING:
    from nanophantom.validation.surface_comparison import SurfaceComparison
    from nanophantom.validation.task import Observed

MOST_CAUSES = 9


def of_surface(dataset: Observed, c: SurfaceComparison) -> list[Plate]:
    """Draw the maps, a profile, the gallery of causes and what is left of each, the geometry."""
    found = causes(dataset, c)
    return [
        _maps(dataset, c),
        _profile(dataset, c),
        _gallery(dataset, found),
        _left(found, c),
        _geometry(dataset, c),
        _scars(dataset, c),
    ]


def _maps(dataset: Observed, c: SurfaceComparison) -> Plate:
    pixel = pixel_yx(dataset)
    span = span_of(c.reference)
    shown = np.where(c.used, 1.0, np.nan)
    errors = span_of(c.raw_error[c.used])
    reach = (-max(np.abs(errors)), max(np.abs(errors)))
    maps = [
        Map("as recorded (trace of frame 0)", c.raw, span=span),
        Map("cleaned", c.clean, span=span),
        Map("truth, as the fresh tip sees it", c.reference, span=span),
        Map("recorded − truth", c.raw_error * shown, signed=True, span=reach),
        Map("cleaned − truth", c.clean_error * shown, signed=True, span=reach),
        Map("the same, colours five times finer", c.clean_error * shown, signed=True,
            span=(reach[0] / 5, reach[1] / 5)),
    ]  # fmt: skip
    figure, _ = height_maps(maps, (float(pixel[0]), float(pixel[1])))
    caption = (
        f"Above the recorded, the cleaned and the true heights in the same colours, the best plane "
        f"of the errors taken off; below the errors: {c.raw_rmse_nm:.2f} nm rms as recorded, "
        f"{c.rmse_nm:.2f} nm after. White margins: there the true raster doesn't reach. Rims of "
        "features in the errors are pixels out of place, stripes are offsets of lines."
    )
    return Plate("Before, after, and the truth", caption, figure, raster=True, wide=True)


def _profile(dataset: Observed, c: SurfaceComparison) -> Plate:
    rows = np.flatnonzero(c.used.any(axis=1))
    worst = int(rows[np.argmax(np.max(np.abs(c.raw_error[rows] * c.used[rows]), axis=1))])
    step_y, step_x = pixel_yx(dataset)
    x = np.asarray(np.arange(c.used.shape[1]) * step_x, np.float64)
    used = c.used[worst]
    figure, (left, right) = plots(10.4, 3.6, 2)
    styles = {
        "truth": (c.reference[worst], {"color": INK, "linewidth": 1.8}),
        "recorded": (c.raw[worst], {"color": ORANGE, "linewidth": 1.0}),
        "cleaned": (c.clean[worst], {"color": BLUE, "linewidth": 1.3}),
    }
    profiles(left, x, styles)
    errors = {
        "recorded": (c.raw_error[worst], {"color": ORANGE, "linewidth": 1.0}),
        "cleaned": (c.clean_error[worst], {"color": BLUE, "linewidth": 1.3}),
    }
    profiles(right, x[used], {k: (v[used], s) for k, (v, s) in errors.items()}, "error (nm)")
    right.axhline(0, color=INK, linewidth=0.8)
    caption = (
        f"The row at y = {worst * step_y:.4g} nm, where the recorded heights err most: heights "
        "(left), and what they are off by (right). The truth is drawn where the cleaned map's "
        "pixels are; recorded ones lie elsewhere, by up to some pixels."
    )
    return Plate("A profile", caption, figure, wide=True)


def _gallery(dataset: Observed, found: list[Cause]) -> Plate:
    pixel = pixel_yx(dataset)
    maps = [
        Map(f"{cause.name}: {cause.raw_nm:.2g} nm rms", cause.image, signed=True,
            span=_reach(cause.image))
        for cause in found[:MOST_CAUSES]
    ]  # fmt: skip
    figure, _ = height_maps(maps, (float(pixel[0]), float(pixel[1])))
    caption = (
        "What each cause alone adds to the trace of frame 0, taken from the truth (the best plane "
        "taken off each, the strongest first; each has its own colours). Their sum, the tilted "
        "plane aside, is what the recorded image errs by. Drift, creep and jitter don't change "
        "heights, they move pixels: what that does to heights shows at the rims of features."
    )
    return Plate("Gallery of artefacts", caption, figure, raster=True, wide=True)


def _reach(image: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return a span that shows most of an image, or what there is in one nearly empty."""
    seen = np.abs(image[image != 0])
    high = float(np.percentile(seen, 99)) if len(seen) else 1.0
    return -high, high


def _left(found: list[Cause], c: SurfaceComparison) -> Plate:
    figure, axes = plot(10.4, 0.42 * len(found) + 1.2)
    y = np.arange(len(found))
    floor = 1e-3
    raw = np.array([cause.raw_nm for cause in found])
    left = np.maximum([cause.left_nm for cause in found], floor)
    axes.barh(y - 0.2, raw, 0.38, color=ORANGE, label="in the recorded image")
    axes.barh(y + 0.2, left, 0.38, color=BLUE, label="left in the cleaned map")
    for i, cause in enumerate(found):
        axes.text(max(cause.raw_nm, floor) * 1.06, i - 0.2, f"{cause.raw_nm:.2g}", va="center",
                  fontsize=8.5, color=INK)  # fmt: skip
        axes.text(left[i] * 1.06, i + 0.2, f"{cause.left_nm:.2g}", va="center", fontsize=8.5,
                  color=INK)  # fmt: skip
    if c.limit_nm is not None:
        axes.axvline(c.limit_nm, color=GREEN, linestyle="--", linewidth=1.2,
                     label="noise limit of the map")  # fmt: skip
    axes.set_yticks(y, [cause.name for cause in found])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(floor, 2 * raw.max())
    axes.set_xlabel("nm rms")
    axes.legend(fontsize=8.5, frameon=False, loc="lower right")
    caption = (
        "How strong each cause is before and after. What is left is the part of the cleaned map's "
        "error that looks like the cause: for what moves pixels a shift of each row, for all "
        "else least squares of the error on the images of the causes, averaged over frames, there "
        "and back, as the map averages them. A cause that is only averaged keeps about half, one "
        "that is recognized keeps nothing. What looks like none of them, above all the surface's "
        "own roughness that levelling takes off, isn't in it."
    )
    return Plate("Each cause before and after", caption, figure, wide=True)


def _geometry(dataset: Observed, c: SurfaceComparison) -> Plate:
    step_y, _ = pixel_yx(dataset)
    y = np.arange(c.used.shape[0]) * step_y
    figure, all_axes = plots(10.4, 3.6, 2)
    for axes, i, name in zip(all_axes, (1, 0), ("x", "y"), strict=True):
        true, off = (d[i].mean(axis=1) for d in (c.displacement_px, c.displacement_error_px))
        said = true + off
        axes.plot(y, true, color=INK, linewidth=1.0, label="true")
        axes.plot(y, said, color=BLUE, linewidth=1.6, label="found")
        axes.plot(y, off, color=RED, linewidth=0.9, label="found − true")
        axes.axhline(0, color=INK, linewidth=0.6, linestyle=":")
        axes.set_xlabel("y of the row (nm)")
        axes.set_ylabel(f"displacement along {name} (px)")
        axes.legend(fontsize=8.5, frameon=False)
    caption = (
        "Where the rows of frame 0 really lay, less where the raster says (the mean taken off, and "
        "the shear by the scanner's coupled axes). The smooth part is drift, settling and "
        "creep; the jagged one is the jitter of the lines, which the pair isn't asked for. Of the "
        f"drift of {c.drift_speed_nm_per_s:.3f} nm/s the velocity found is off by "
        f"{c.drift_error_nm_per_s:.3f} nm/s."
    )
    return Plate("Where the rows lay", caption, figure, wide=True)


def _scars(dataset: Observed, c: SurfaceComparison) -> Plate:
    step_y, step_x = pixel_yx(dataset)
    figure, axes = plot(6.4, 5.2)
    for mask, colour, name in (
        (c.scar_said & c.scar_true, GREEN, "found"),
        (c.scar_true & ~c.scar_said, RED, "missed"),
        (c.scar_said & ~c.scar_true, ORANGE, "false"),
    ):
        row, column = np.nonzero(mask)
        axes.plot(column * step_x, row * step_y, "s", color=colour, markersize=2.4,
                  label=f"{name}: {len(row)} px")  # fmt: skip
    ny, nx = c.used.shape
    axes.set_xlim(0, nx * step_x)
    axes.set_ylim(ny * step_y, 0)
    axes.set_aspect("equal")
    axes.set_xlabel("x (nm)")
    axes.set_ylabel("y (nm), down")
    axes.legend(fontsize=8.5, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    caption = (
        "Pixels of frame 0's trace with debris under the tip. A scar is a run that one way of the "
        "line shows and the other doesn't."
    )
    return Plate("Scars", caption, figure)

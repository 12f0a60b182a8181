"""Figures of the task microscope-comparison: one structure as several microscopes resolve it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.ndimage
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke

from nanophantom.validation.drawing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PINK,
    RED,
    SKY,
    Floats,
    Plate,
    extent_of,
    plot,
    plots,
    scale_bar,
)
from nanophantom.validation.microscope_images import SEEN, outer_level, title_of, true_dyes

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed
    from nanophantom.validation.tasks.microscope_comparison import Light, Seen

COLOURS = (BLUE, SKY, ORANGE, GREEN, RED, PINK, INK)
MARKS = ("o", "s", "D", "^", "v", "P", "X")
ACROSS = 4
TRUTH_NM = 5.0
"""Pixel of the map of true dyes."""
PERIODS_NM = (350.0, 200.0, 100.0, 50.0)
"""Of the spokes along which profiles are drawn."""
MIDDLE = 0.4
"""Part of a star's radius that is magnified."""


def of_microscopes(
    dataset: Observed, seen: Sequence[Seen], light: Mapping[str, Light]
) -> list[Plate]:
    """Draw images, their middles, profiles, correlations, contrast, resolution, and its price."""
    if not seen:
        return []
    plates = [_images(dataset, seen)]
    if any(s.star is not None for s in seen):
        plates += [_middles(dataset, seen), _profiles(seen)]
    plates.append(_correlations(seen))
    if any(s.star is not None for s in seen):
        plates.append(_contrast(seen))
    return [*plates, _resolutions(seen), _prices(seen, light)]


# ---- images ----------------------------------------------------------------------------------


def _images(dataset: Observed, seen: Sequence[Seen]) -> Plate:
    half = _half_field(seen)
    figure = _panels(dataset, seen, half, rings=True)
    caption = (
        "The same molecules under every microscope, at one scale; the last picture is the truth: "
        "every dye where it is. Each picture is as bright as its own brightest places. "
    )
    if any(s.star is not None for s in seen):
        caption += (
            "Within the dashed circle the spokes have less than a tenth of their contrast, or no "
            "more than chance gives: what lies there isn't resolved."
        )
    return Plate("One structure, all microscopes", caption, figure, raster=True, wide=True)


def _middles(dataset: Observed, seen: Sequence[Seen]) -> Plate:
    star = next(s.star for s in seen if s.star is not None)
    half = MIDDLE * star.radius_nm
    figure = _panels(dataset, seen, half, rings=True)
    period = 2 * np.pi * half / star.spokes
    caption = (
        f"The middle of the star, magnified. At the pictures' edges spokes follow each other every "
        f"{period:.0f} nm, further in ever closer. Dashed: where their contrast falls below a "
        "tenth."
    )
    return Plate("The middle of the star", caption, figure, raster=True, wide=True)


def _half_field(seen: Sequence[Seen]) -> float:
    stars = [s.star for s in seen if s.star is not None]
    if stars:
        return 1.08 * stars[0].radius_nm
    return float(min(0.5 * min(s.picture.image.shape) * s.picture.pixel_nm for s in seen))


def _middle_of(s: Seen) -> tuple[float, float]:
    """Return the place in an image that all pictures have in their middle."""
    if s.star is not None:
        return s.star.x_nm, s.star.y_nm
    p = s.picture
    ny, nx = p.image.shape
    return p.x0_nm + 0.5 * (nx - 1) * p.pixel_nm, p.y0_nm + 0.5 * (ny - 1) * p.pixel_nm


def _panels(dataset: Observed, seen: Sequence[Seen], half_nm: float, *, rings: bool) -> Figure:
    """Draw every image and the truth about the middle, out to some distance."""
    n, width, gap, head = len(seen) + 1, 10.8, 0.08, 0.3
    across = min(ACROSS, n)
    rows = -(-n // across)
    side = (width - gap * (across - 1)) / across
    figure = Figure(figsize=(width, rows * (side + head) + (rows - 1) * gap))
    figure.set_facecolor("black")
    total = figure.get_size_inches()[1]
    for i in range(n):
        row, column = divmod(i, across)
        axes = figure.add_axes((
            column * (side + gap) / width,
            (total - (row + 1) * (side + head) - row * gap) / total,
            side / width, side / total,
        ))  # fmt: skip
        axes.set_axis_off()
        if i < len(seen):
            _image(axes, seen[i], half_nm)
            title = title_of(seen[i].picture)
            if rings:
                _unresolved(axes, seen[i], half_nm)
        else:
            _true(axes, dataset, seen[-1], half_nm)
            title = "truth: dyes"
        axes.set_title(title, fontsize=10.5, pad=4, color="white")
        axes.set_xlim(-half_nm, half_nm)
        axes.set_ylim(half_nm, -half_nm)
        scale_bar(axes, (-half_nm, half_nm, half_nm, -half_nm), font_size=8.5)
    return figure


def _image(axes: Any, s: Seen, half_nm: float) -> None:
    p, (x, y) = s.picture, _middle_of(s)
    left, right, bottom, top = extent_of(p.image.shape, p.pixel_nm)
    extent = (left + p.x0_nm - x, right + p.x0_nm - x, bottom + p.y0_nm - y, top + p.y0_nm - y)
    ny, nx = p.image.shape
    j = np.abs(p.x0_nm - x + np.arange(nx) * p.pixel_nm) <= half_nm
    i = np.abs(p.y0_nm - y + np.arange(ny) * p.pixel_nm) <= half_nm
    shown = p.image[np.ix_(i, j)]
    low = max(outer_level(p.image), float(shown.min()))
    high = float(np.percentile(shown, 99.7 if s.theory.kind != "smlm" else 99.0))
    axes.imshow(p.image, cmap="inferno", vmin=low, vmax=max(high, low + 1e-9), extent=extent,
                interpolation="nearest", aspect="auto")  # fmt: skip


def _true(axes: Any, dataset: Observed, s: Seen, half_nm: float) -> None:
    x, y = true_dyes(dataset, s.picture.microscope)
    middle = _middle_of(s)
    edges = np.arange(-half_nm, half_nm + TRUTH_NM, TRUTH_NM)
    dyes = np.histogram2d(y - middle[1], x - middle[0], bins=(edges, edges))[0]
    dyes = scipy.ndimage.gaussian_filter(dyes, 1.0)
    extent = (edges[0], edges[-1], edges[-1], edges[0])
    axes.imshow(dyes, cmap="inferno", vmin=0, vmax=float(np.percentile(dyes, 99.5)),
                extent=extent, aspect="auto")  # fmt: skip


def _unresolved(axes: Any, s: Seen, half_nm: float) -> None:
    if s.star is None or s.fineness.resolved_nm is None:
        return
    radius = s.fineness.resolved_nm * s.star.spokes / (2.0 * np.pi)
    axes.add_patch(Circle((0, 0), radius, fill=False, edgecolor="white", ls="--", lw=1.2))
    axes.text(0.97, 0.03, f"{s.fineness.resolved_nm:.0f} nm", transform=axes.transAxes,
              ha="right", va="bottom", fontsize=10, color="white", fontweight="bold",
              path_effects=[withStroke(linewidth=2.5, foreground="black")])  # fmt: skip


# ---- profiles and curves ---------------------------------------------------------------------


def along_circle(s: Seen, period_nm: float, turns: Floats) -> Floats:
    """Return an image along the circle on which spokes have a period, background taken away.

    Parameters
    ----------
    turns
        Places, in periods from the middle of the first spoke.
    """
    star, p = s.star, s.picture
    assert star is not None
    r = period_nm * star.spokes / (2.0 * np.pi)
    radii = r * np.linspace(0.97, 1.03, 7)[:, None]
    angle = np.radians(star.angle_deg) + 2.0 * np.pi * turns / star.spokes
    at = [
        (star.y_nm + radii * np.sin(angle) - p.y0_nm) / p.pixel_nm,
        (star.x_nm + radii * np.cos(angle) - p.x0_nm) / p.pixel_nm,
    ]
    values = scipy.ndimage.map_coordinates(p.image, at, order=1, mode="nearest")
    return np.asarray(values.mean(axis=0) - outer_level(p.image))


def _profiles(seen: Sequence[Seen]) -> Plate:
    shown = [s for s in seen if s.star is not None]
    star = shown[0].star
    assert star is not None
    longest = 2.0 * np.pi * star.radius_nm / star.spokes
    periods = [p for p in PERIODS_NM if p < longest] or [0.5 * longest]
    turns = np.linspace(-0.5, 3.5, 241)
    figure = Figure(figsize=(10.8, 1.05 * len(shown) + 0.6), layout="constrained")
    figure.patch.set_alpha(0)
    panels = figure.subplots(len(shown), len(periods), sharex=True, squeeze=False)
    for row, s in enumerate(shown):
        for column, period in enumerate(periods):
            axes = panels[row, column]
            axes.patch.set_alpha(0)
            for k in range(4):
                axes.axvspan(k - 0.25, k + 0.25, color="0.5", alpha=0.22, lw=0)
            profile = along_circle(s, period, turns)
            mean = float(np.abs(profile).mean()) or 1.0
            axes.plot(turns, profile / mean, color=COLOURS[row % len(COLOURS)], lw=1.6)
            axes.set_ylim(-0.3, max(2.6, 1.1 * float((profile / mean).max())))
            axes.set_xlim(-0.5, 3.5)
            axes.set_yticks([])
            for edge in ("top", "right", "left"):
                axes.spines[edge].set_visible(False)
            if row == 0:
                axes.set_title(f"period {period:.0f} nm", fontsize=10.5)
            if column == 0:
                axes.set_ylabel(title_of(s.picture).replace(", ", ",\n"), rotation=0, ha="right",
                                va="center", fontsize=10)  # fmt: skip
            if row == len(shown) - 1:
                axes.set_xlabel("periods along the circle", fontsize=9.5)
    caption = (
        "Brightness along circles on the star, across four spokes (grey: where they truly are), "
        "each over its mean. Where a curve follows the grey bands, a microscope resolves them; "
        "where it is flat, they have merged. What is uneven in the finest is chance: how many dyes "
        "lie on a spoke, and how often each shone."
    )
    return Plate("Across the spokes", caption, figure, wide=True)


def _correlations(seen: Sequence[Seen]) -> Plate:
    figure, axes = plot(8.0, 4.4)
    for k, s in enumerate(seen):
        fine, colour = s.fineness, COLOURS[k % len(COLOURS)]
        if not len(fine.correlation):
            continue
        smooth = scipy.ndimage.uniform_filter1d(fine.correlation, 3, mode="nearest")
        axes.semilogx(1e3 * fine.frequencies_per_nm, smooth, color=colour, lw=1.7,
                      label=title_of(s.picture))  # fmt: skip
        if fine.resolution_nm is not None:
            axes.plot(1e3 / fine.resolution_nm, 0.5, marker=MARKS[k % len(MARKS)], color=colour,
                      ms=7, mec=INK, mew=0.8)  # fmt: skip
    axes.axhline(0.5, color=INK, lw=0.8, ls=":")
    axes.set_ylim(-0.25, 1.05)
    axes.set_xlabel("spatial frequency (1/µm)")
    axes.set_ylabel("correlation with the true dyes")
    axes.legend(frameon=False, fontsize=9.5)
    _periods_above(axes)
    caption = (
        "How far each image agrees with the map of true dyes, by fineness of detail (coarse left, "
        "fine right; three rings averaged). 1: detail of this size is right, however faint; 0: it "
        "has nothing to do with the structure. Marks: where a curve falls to 1/2, its resolution."
    )
    return Plate("Agreement with the truth, by fineness", caption, figure)


def _periods_above(axes: Any) -> None:
    """Give a logarithmic axis of frequencies (1/µm) round ticks, and a second one of periods."""
    low, high = axes.get_xlim()
    ticks = [t for t in (0.5, 1, 2, 5, 10, 20, 50, 100) if low < t < high]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()

    def turned(values: Any) -> Any:
        return 1e3 / np.maximum(np.asarray(values, float), 1e-9)

    above = axes.secondary_xaxis("top", functions=(turned, turned))
    above.set_xlabel("period (nm)")
    ticks = [t for t in (1000, 500, 200, 100, 50, 20, 10) if low < 1e3 / t < high]
    above.set_xticks(ticks, [str(t) for t in ticks])
    above.minorticks_off()


def _contrast(seen: Sequence[Seen]) -> Plate:
    figure, axes = plot(8.0, 4.4)
    for k, s in enumerate(seen):
        fine, colour = s.fineness, COLOURS[k % len(COLOURS)]
        if s.star is None:
            continue
        mean = scipy.ndimage.uniform_filter1d(fine.contrast, 3, mode="nearest")
        error = scipy.ndimage.uniform_filter1d(fine.noise, 3, mode="nearest")
        axes.semilogx(1e3 / fine.periods_nm, mean, color=colour, lw=1.7, label=title_of(s.picture))
        axes.fill_between(1e3 / fine.periods_nm, mean - error, mean + error, color=colour,
                          alpha=0.2, lw=0)  # fmt: skip
        if fine.resolved_nm is not None:
            height = np.interp(-fine.resolved_nm, -fine.periods_nm, mean)
            axes.plot(1e3 / fine.resolved_nm, height, marker=MARKS[k % len(MARKS)], color=colour,
                      ms=7, mec=INK, mew=0.8)  # fmt: skip
    axes.axhline(SEEN, color=INK, lw=0.8, ls=":")
    axes.axhline(1.0, color=INK, lw=0.8, ls="-", alpha=0.4)
    axes.set_ylim(-0.1, 1.3)
    axes.set_xlabel("spokes per µm along the circle")
    axes.set_ylabel("contrast over the structure's own")
    axes.legend(frameon=False, fontsize=9.5)
    _periods_above(axes)
    caption = (
        f"How strong the spokes are in each image, by their period. Dotted: {100 * SEEN:.0f} %, "
        "below which they count as merged; so they do where contrast is less than twice its "
        "standard error (bands), which few dyes make large. Marks: the finest that isn't merged. "
        "Deconvolution gives back contrast that the objective has weakened, and can overdo it; it "
        "finds nothing that the objective didn't pass."
    )
    return Plate("Contrast of the spokes", caption, figure)


# ---- resolution and its price ----------------------------------------------------------------


def _resolutions(seen: Sequence[Seen]) -> Plate:
    stars = [s for s in seen if s.star is not None]
    figure, panels = plots(10.4, 0.5 * len(seen) + 1.1, 2 if stars else 1)
    kinds = [("agrees with the truth (correlation 1/2)", [
        (s.fineness.resolution_nm, s.theory.resolution_nm) for s in seen])]  # fmt: skip
    if stars:
        kinds.append((f"spokes keep {100 * SEEN:.0f} % contrast", [
            (s.fineness.resolved_nm, s.theory.resolved_nm) for s in seen]))  # fmt: skip
    for axes, (title, pairs) in zip(panels, kinds, strict=True):
        values = [v for pair in pairs for v in pair if v is not None] or [1.0]
        floor = 0.6 * min(values)
        for k, (value, limit) in enumerate(pairs):
            if value is not None:
                axes.barh(k, value - floor, left=floor, height=0.6, color=COLOURS[k % len(COLOURS)])
                axes.text(1.05 * value, k, f"{value:.0f}", va="center", fontsize=9.5)
            if limit is not None:
                axes.plot([limit, limit], [k - 0.38, k + 0.38], color=INK, lw=2.4)
        axes.set_xscale("log")
        axes.set_xlim(floor, 1.6 * max(values))
        axes.set_ylim(len(seen) - 0.4, -0.6)
        axes.set_yticks(range(len(seen)), [title_of(s.picture) for s in seen])
        axes.set_xlabel("shortest period (nm)")
        ticks = [t for t in (5, 10, 20, 50, 100, 200, 500) if floor < t < 1.6 * max(values)]
        axes.set_xticks(ticks, [str(t) for t in ticks])
        axes.minorticks_off()
        axes.set_title(title, fontsize=11)
    caption = (
        "Bars: the shortest period that each image has, by two measures; shorter is better. Black "
        "lines: what theory says of a perfect microscope of its kind (STED has no cutoff, hence "
        "none on the left). Widefield is bound by diffraction; stripes, a depleting beam, or "
        "molecules one by one get beyond."
    )
    return Plate("Resolution against theory", caption, figure, wide=True)


def _prices(seen: Sequence[Seen], light: Mapping[str, Light]) -> Plate:
    figure, panels = plots(10.4, 3.9, 2)
    for k, s in enumerate(seen):
        fine = s.fineness
        value = fine.resolved_nm if s.star is not None else fine.resolution_nm
        if value is None or s.picture.deconvolved:
            continue
        price = light[s.picture.microscope]
        for axes, cost in zip(panels, (100.0 * price.bleached, price.photons_per_dye), strict=True):
            axes.plot(value, cost, marker=MARKS[k % len(MARKS)], color=COLOURS[k % len(COLOURS)],
                      ms=10, mec=INK, mew=0.8, ls="")  # fmt: skip
            axes.annotate(title_of(s.picture), (value, cost), xytext=(0, 9 if k else -19),
                          textcoords="offset points", ha="center", fontsize=9.5)  # fmt: skip
    for axes in panels:
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        axes.set_xlim(0.7 * low, 1.5 * high)
        axes.set_xlabel("resolved period (nm)")
        ticks = [t for t in (5, 10, 20, 50, 100, 200, 500) if 0.7 * low < t < 1.5 * high]
        axes.set_xticks(ticks, [str(t) for t in ticks])
        axes.minorticks_off()
    panels[0].set_ylim(-12, 104)
    panels[0].set_ylabel("dyes bleached (%)")
    panels[1].set_yscale("log")
    low, high = panels[1].get_ylim()
    panels[1].set_ylim(0.6 * low, 2.5 * high)
    panels[1].set_ylabel("photons collected per dye")
    caption = (
        "What fineness costs: part of the dyes that were bleached, and photons that were collected "
        "of a dye, on average, against the period that was resolved. Where a structure is to be "
        "watched again, bleached dyes are missing; a fine image of few photons is noisy."
    )
    return Plate("What resolution costs", caption, figure, wide=True)

"""Figures of the task nuclear-pores: the map, single pores, diameters and corners by theory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke
from scipy import stats
from scipy.spatial import cKDTree

from nanophantom.analysis.pore_fit import corner_distribution
from nanophantom.analysis.pore_map import (
    DIAMETER_NM,
    FEWEST_CORNERS,
    bursts,
    mapped,
    visibility,
)
from nanophantom.analysis.rendering import Frame, gaussian_image
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
    scale_bar,
)
from nanophantom.validation.pore_truth import CORNERS, Sighted, Told

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]

PIXELS = 600
ZOOM_NM = 1400.0
DYE_NM = 4.0
"""Width with which true dyes are drawn: about the error of a burst."""
CLOSE = 8
"""Pores that are drawn closely."""
HALF_NM = 90.0
THINNED = (0.15, 0.3, 0.5, 0.75, 1.0)
"""Shares of the labels that are kept, to show what fewer would do."""
OWN_NM = 20.0
"""A burst belongs to the nearest dye that shone, if that is no farther away."""
AT_ONCE = 200
"""Frames in memory at a time."""


def of_pores(dataset: Observed, c: Sighted) -> list[Plate]:
    """Draw the map, some pores, and what was measured of them against the truth."""
    seen = bursts(dataset.measured().signals["movie"].data, dataset.settings)
    plates = [_map(dataset, c, seen)]
    if len(c.hit_true):
        plates += [_zoom(dataset, c, seen), _closely(c, seen), _diameters(c)]
        plates += [_corners(c)]
        if "labels" in c.found:
            plates.append(_labels(c))
        plates += _thinned(dataset, c, seen)
    return plates


def _images(seen: Any, c: Sighted, frame: Frame, pixel: float) -> tuple[Floats, Floats]:
    """Return bursts and true dyes as images, the root of their density."""
    found = drawn(seen["x_nm"], seen["y_nm"], seen["uncertainty_nm"], pixel, frame)
    width = np.full(len(c.true.dyes_x_nm), DYE_NM)
    return found, drawn(c.true.dyes_x_nm, c.true.dyes_y_nm, width, pixel, frame)


def drawn(x: Floats, y: Floats, width: Floats, pixel: float, frame: Frame) -> Floats:
    """Return points as Gaussians in a frame, the root of their density."""
    inside = (x > frame.x_nm) & (x < frame.x_nm + pixel * frame.width_px)
    inside &= (y > frame.y_nm) & (y < frame.y_nm + pixel * frame.height_px)
    width = np.maximum(width[inside], 0.5 * pixel)
    return np.asarray(np.sqrt(gaussian_image(x[inside], y[inside], width, pixel, frame).image))


def _map(dataset: Observed, c: Sighted, seen: Any) -> Plate:
    """Draw the whole field with the verdict on every pore, beside the true dyes."""
    a = float(dataset.settings["pixel_size_nm"])
    ny, nx = dataset.signal("movie", 0, 1).shape[1:]
    pixel = max(nx, ny) * a / PIXELS
    frame = Frame((pixel - a) / 2, (pixel - a) / 2, round(nx * a / pixel), round(ny * a / pixel))
    found, true = _images(seen, c, frame, pixel)
    figure, (left, right) = gallery(
        {"found: bursts, and the pores told": found, "truth: every dye that shone": true},
        pixel, across=2,
    )  # fmt: skip
    x0, y0, ok = frame.x_nm, frame.y_nm, np.zeros(len(c.found["x_nm"]), bool)
    ok[c.hit_found] = True
    missed = c.asked.copy()
    missed[c.hit_true] = False
    of = c.found
    for which, colour in ((ok, GREEN), (c.false, RED), (~ok & ~c.false, SKY)):
        for k in np.flatnonzero(which):
            _ring(left, of["x_nm"][k] - x0, of["y_nm"][k] - y0, of["diameter_nm"][k] + 60, colour)
    for k in np.flatnonzero(missed):
        _ring(right, c.true.x_nm[k] - x0, c.true.y_nm[k] - y0, c.true.diameter_nm[k] + 60, ORANGE)
    caption = (
        "Left: every burst drawn as a Gaussian as wide as it is uncertain, drift taken off. "
        f"Circles are pores told by the algorithm: {len(c.hit_true)} right (green), "
        f"{int(c.false.sum())} false (red), {int((~ok & ~c.false).sum())} that nobody asked for "
        f"(light blue). Right: the truth, {int(missed.sum())} missed pores circled in orange. Grey "
        "is the root of the density. Bursts are those of the package's own analysis."
    )
    return Plate("Map of the nuclear pores", caption, figure, raster=True, wide=True)


def _zoom(dataset: Observed, c: Sighted, seen: Any) -> Plate:
    """Draw one part of the field as a light microscope sees it, as found, and as it is."""
    a = float(dataset.settings["pixel_size_nm"])
    ny, nx = dataset.signal("movie", 0, 1).shape[1:]
    side = min(ZOOM_NM, nx * a, ny * a)
    px = round(side / a)
    left, top = (nx - px) // 2, (ny - px) // 2
    total = np.zeros((ny, nx))
    for start in range(0, dataset.n_frames, AT_ONCE):
        stop = min(start + AT_ONCE, dataset.n_frames)
        total += np.asarray(dataset.signal("movie", start, stop)).sum(axis=0, dtype=np.float64)
    part = total[top : top + px, left : left + px] / dataset.n_frames
    fine = max(1, PIXELS // px)
    step = a / fine
    frame = Frame((left - 0.5) * a + step / 2, (top - 0.5) * a + step / 2, px * fine, px * fine)
    found, true = _images(seen, c, frame, step)
    images = {
        f"mean of all {dataset.n_frames:,} frames": np.kron(part, np.ones((fine, fine))),
        "found: bursts": found,
        "truth: dyes that shone": true,
    }
    figure, _ = gallery(images, step, across=3)
    caption = (
        "The same part of the field three ways. Left: all light together, as any light microscope "
        "has it; a pore is smaller than its blur. Middle: each burst by itself, at its place. "
        f"Right: the dyes, drawn {DYE_NM:g} nm wide. Each pore is a ring of up to eight corners."
    )
    return Plate("What blinking separates", caption, figure, raster=True, wide=True)


def _ring(axes: Any, x: float, y: float, diameter: float, colour: str, **look: Any) -> None:
    axes.add_patch(Circle((x, y), diameter / 2, fill=False, edgecolor=colour, linewidth=1.1,
                          zorder=10, **look))  # fmt: skip


def _closely(c: Sighted, seen: Any) -> Plate:
    """Draw some pores, from the fewest corners to the most, with what was fitted."""
    order = np.lexsort((c.hit_found, c.true.corners_seen[c.hit_true]))
    chosen = order[np.unique(np.linspace(0, len(order) - 1, CLOSE).astype(int))]
    across = 4
    rows = -(-len(chosen) // across)
    figure = Figure(figsize=(10.8, 2.95 * rows), layout="constrained")
    figure.set_facecolor("black")
    stroke = [withStroke(linewidth=2.5, foreground="black")]
    for n, k in enumerate(chosen):
        i, j = c.hit_found[k], c.hit_true[k]
        axes = figure.add_subplot(rows, across, n + 1)
        axes.set_facecolor("black")
        x, y = c.true.x_nm[j], c.true.y_nm[j]
        near = np.hypot(seen["x_nm"] - x, seen["y_nm"] - y) < 1.5 * HALF_NM
        axes.plot(seen["x_nm"][near] - x, seen["y_nm"][near] - y, "+", color="white",
                  markersize=3.5, markeredgewidth=0.7, alpha=0.75)  # fmt: skip
        dyes = np.hypot(c.true.dyes_x_nm - x, c.true.dyes_y_nm - y) < 1.5 * HALF_NM
        axes.plot(c.true.dyes_x_nm[dyes] - x, c.true.dyes_y_nm[dyes] - y, "o", color=ORANGE,
                  markersize=4.5, fillstyle="none", markeredgewidth=1.0)  # fmt: skip
        found = c.found
        _ring(axes, found["x_nm"][i] - x, found["y_nm"][i] - y, found["diameter_nm"][i], SKY)
        axes.set_title(
            f"{found['diameter_nm'][i]:.1f} nm, {found['corners'][i]:.0f} corners "
            f"(truth {c.true.corners_seen[j]})", fontsize=10, color="white",
        )  # fmt: skip
        axes.set_xlim(-HALF_NM, HALF_NM)
        axes.set_ylim(HALF_NM, -HALF_NM)
        axes.set_aspect("equal")
        axes.set_xticks([])
        axes.set_yticks([])
        if n == 0:
            scale_bar(axes, (-HALF_NM, HALF_NM, HALF_NM, -HALF_NM), 9)
            axes.text(0, 0, "bursts +\ndyes o", color="white", ha="center", va="center",
                      fontsize=9, path_effects=stroke)  # fmt: skip
    caption = (
        "Single pores, from the one with fewest corners to one with most. White crosses: bursts; "
        "orange rings: where the dyes really are (those that shone); light blue: the fitted "
        "circle. A corner without a ring has no label that ever shone."
    )
    return Plate("Pores closely", caption, figure, raster=True, wide=True)


def _diameters(c: Sighted) -> Plate:
    """Draw diameters, and their errors over what they are quoted to be."""
    figure, (left, right) = plots(10.0, 3.7, 2)
    found, true = c.of_hits("diameter_nm"), c.true.diameter_nm[c.hit_true]
    error = found - true
    reach = max(3.5 * float(error.std()), 1.0)
    bins = np.linspace(-reach, reach, 25)
    left.hist(error, bins, color=SKY, label=f"found ({len(error)} pores)")
    x = np.linspace(-reach, reach, 300)
    limit = c.true.diameter_limit_nm[c.hit_true]
    best = stats.norm.pdf(x[:, None], 0, limit).mean(axis=1) * len(error) * (bins[1] - bins[0])
    left.plot(x, best, color=INK, label="limit of labels and light")
    left.axvline(error.mean(), color=RED, label=f"mean {error.mean():+.2f} nm")
    left.set_xlabel("diameter, found - true (nm)")
    left.set_ylabel("pores")
    left.legend(frameon=False, fontsize=8.5)
    corners = c.of_hits("corners")
    for k in np.unique(corners):
        mine = error[corners == k]
        right.errorbar(k, mine.mean(), mine.std(), fmt="o", color=BLUE, capsize=3)
    scatter = 0.25 * (np.linspace(0, 1, len(error)) - 0.5)
    right.plot(corners + scatter, error, ".", color=SKY, markersize=3, zorder=0)
    right.axhline(0, color=INK, linewidth=1)
    right.set_xticks(np.unique(corners))
    right.set_xlabel("corners found")
    right.set_ylabel("diameter, found - true (nm)")
    caption = (
        f"Left: errors of the diameters of single pores (truth {true.mean():.1f} nm, nominal "
        f"{DIAMETER_NM:g} nm), with what is possible at best: each label sits "
        f"{c.true.linker_nm:.2g} nm off its site along either axis. Right: the errors by number "
        "of corners; dots with bars are mean and standard deviation. Few corners tell less of a "
        "circle."
    )
    return Plate("Diameters", caption, figure, wide=True)


def _corners(c: Sighted) -> Plate:
    """Draw corner counts beside the truth and the binomial law, and the efficiencies."""
    figure, (left, right) = plots(10.0, 3.9, 2)
    n = np.arange(CORNERS + 1)
    view = c.true.in_view
    found = c.of_hits("corners").astype(int)
    pores = int(view.sum())
    for at, counted, colour, label in (
        (-0.25, found, SKY, "found"),
        (0.0, c.true.corners_seen[view], GREEN, "truth: shone in the movie"),
        (0.25, c.true.corners_labelled[view], ORANGE, "truth: labelled"),
    ):
        left.bar(n + at, np.bincount(counted, minlength=len(n)), 0.25, color=colour, label=label)
    p, copies = c.true.efficiency, round(c.true.copies)
    left.plot(n, pores * corner_distribution(p, copies), "o--", color=INK, markersize=4,
              label=f"Binom(8, 1 - (1 - {p:.2f})^{copies})")  # fmt: skip
    left.set_xlabel("corners of a pore")
    left.set_ylabel("pores")
    left.set_xticks(n)
    left.legend(frameon=False, fontsize=8.5, loc="upper left")
    shone = float(c.true.labels_seen[view].sum() / max(c.true.sites[view].sum(), 1))
    told = c.efficiency
    rows: list[tuple[str, float, Told | None]] = [
        ("labelled", p, None), ("labelled and shone", shone, None),
    ]  # fmt: skip
    if told is not None:
        rows.append(("told by the algorithm", told.value, told))
    for y, (_, value, interval) in enumerate(rows):
        colour = BLUE if interval else GREEN
        right.plot(value, y, "o", color=colour)
        if interval and interval.low is not None and interval.high is not None:
            right.plot([interval.low, interval.high], [y, y], color=colour, linewidth=2)
        right.annotate(f"{value:.3f}", (value, y), (0, 8), textcoords="offset points", ha="center",
                       fontsize=9)  # fmt: skip
    right.axvline(p, color=INK, linestyle=":", linewidth=1)
    right.set_yticks(range(len(rows)), [row[0] for row in rows])
    right.set_ylim(len(rows) - 0.5, -0.7)
    right.set_xlabel("share of the copies")
    values = [value for _, value, _ in rows]
    if told is not None:
        values += [v for v in (told.low, told.high) if v is not None]
    right.set_xlim(min(values) - 0.05, max(values) + 0.05)
    caption = (
        "Left: how many corners pores show, beside what chance makes of the true labelling "
        "efficiency: a corner is dark only if all its copies are. Right: the efficiency told from "
        "the corners with its 95 % interval, beside the truth. Dyes that bleached before "
        "the movie or never switched on lie between the two true values."
    )
    return Plate("Corners and labelling efficiency", caption, figure, wide=True)


def _labels(c: Sighted) -> Plate:
    """Draw labels counted by their bursts against the truth."""
    figure, (axes,) = plots(6.0, 4.2, 1)
    true, found = c.true.labels[c.hit_true], c.of_hits("labels")
    top = 1.08 * max(float(true.max()), float(found.max()))
    axes.plot([0, top], [0, top], color=INK, linewidth=1, label="as it is")
    spread = c.true.labels_limit[c.hit_true]
    order = np.argsort(true)
    low, high = true - 1.96 * spread, true + 1.96 * spread
    axes.fill_between(true[order], low[order], high[order], color=SKY, alpha=0.3, linewidth=0,
                      label="95 % by chance of blinking")  # fmt: skip
    axes.plot(true, found, "o", color=BLUE, markersize=3.5, alpha=0.7, label="pores")
    axes.set_xlim(0, top)
    axes.set_ylim(0, top)
    axes.set_xlabel("labels on a pore, truth")
    axes.set_ylabel("labels, counted by bursts")
    axes.legend(frameon=False, fontsize=9)
    caption = (
        "How many of its 32 copies are labelled, counted by bursts over the bursts that a dye "
        "shows on average, against the truth. How often a dye blinks before it bleaches is chance: "
        "the band can't be made narrower by seeing better."
    )
    return Plate("Labels counted by their bursts", caption, figure)


def _thinned(dataset: Observed, c: Sighted, seen: Any) -> list[Plate]:
    """Take labels away at random, with all their bursts, and map the pores again."""
    dyes = np.column_stack([c.true.dyes_x_nm, c.true.dyes_y_nm])
    visible = visibility(seen["photons"], dataset.n_frames, dataset.settings)
    if visible is None or not len(dyes) or not len(seen["x_nm"]):
        return []
    off, dye = cKDTree(dyes).query(np.column_stack([seen["x_nm"], seen["y_nm"]]))
    lot = np.random.default_rng(0).random(len(dyes))[dye]
    true = c.true.efficiency * np.array(THINNED)
    told, found, corners = np.full((3, len(true)), np.nan), [], []
    fields: dict[str, Floats] = {}
    centre, half = _fullest(c), ZOOM_NM / 2
    pixel = ZOOM_NM / PIXELS
    frame = Frame(float(centre[0]) - half, float(centre[1]) - half, PIXELS, PIXELS)
    for k, share in enumerate(THINNED):
        kept = (lot < share) | (off > OWN_NM)
        part = {name: column[kept] for name, column in seen.items()}
        pores = mapped(part)
        found.append(len(pores["x_nm"]))
        corners.append(float(pores["corners"].mean()) if found[-1] else 0.0)
        if "efficiency" in pores:
            ends = ("efficiency", "efficiency_low", "efficiency_high")
            told[:, k] = [min(float(pores[name][0]) / visible.seen, 1.0) for name in ends]
        if share in THINNED[:3] or share == 1:
            fields[f"{100 * true[k]:.0f} % labelled"] = drawn(
                part["x_nm"], part["y_nm"], part["uncertainty_nm"], pixel, frame
            )
    pictures, _ = gallery(fields, pixel)
    figure, (left, right) = plots(10.0, 3.9, 2)
    left.plot([0, 1], [0, 1], color=INK, linewidth=1, label="as it is")
    left.errorbar(true, told[0], [told[0] - told[1], told[2] - told[0]], fmt="o", color=BLUE,
                  capsize=3, label="told, with 95 % interval")  # fmt: skip
    left.set_xlim(0, 1.25 * float(true.max()))
    left.set_ylim(0, 1.25 * max(float(true.max()), float(np.nanmax(told, initial=0.0))))
    left.set_xlabel("share of the copies with a label, truth")
    left.set_ylabel("labelling efficiency told")
    left.legend(frameon=False, fontsize=8.5)
    p = np.linspace(0.005, min(1.25 * float(true.max()), 1.0), 100)
    law = CORNERS * (1 - (1 - p * visible.seen) ** c.true.copies)
    right.plot(p, law, color=INK, label="corners: 8 (1 - (1 - p)$^4$) of those that shine")
    right.plot(true, corners, "o", color=BLUE, label="corners of a pore found, on average")
    share_found = CORNERS * np.array(found) / len(c.true.x_nm)
    right.plot(true, share_found, "s", color=ORANGE, label="8 times the share of pores found")
    right.set_ylim(0, 13)
    right.set_yticks(range(0, 9, 2))
    right.set_xlabel("share of the copies with a label, truth")
    right.set_ylabel("corners")
    right.legend(frameon=False, fontsize=8.5, loc="upper left")
    where = (
        "Labels were taken away at random together with all their bursts, as if fewer had bound "
        "in the first place, and the package's own analysis mapped what is left. "
    )
    return [
        Plate("The same pores with fewer labels", where + "Below a third of the copies, rings fall "
              "apart, and a pore is hard to tell from a few stray dyes.", pictures, raster=True,
              wide=True),
        Plate("Labelling efficiency, if it were less", where + "Left: the efficiency told. Right: "
              "corners of the pores found and how many pores these are. Where labels are few, "
              "pores with few corners are overlooked, and those found show more than the law says; "
              f"so the efficiency is read from pores of {FEWEST_CORNERS} corners or more alone, by "
              "the law for these. With few of them the interval is wide.", figure, wide=True),
    ]  # fmt: skip


def _fullest(c: Sighted) -> Floats:
    """Return the place of a pore with most others around it."""
    places = np.column_stack([c.true.x_nm, c.true.y_nm])[c.asked]
    around = cKDTree(places).query_ball_point(places, ZOOM_NM / 2, return_length=True)
    return np.asarray(places[int(np.argmax(around))])

"""Figures of the task movie-events: where atoms hopped, and the sites' signals in time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from scipy.spatial import cKDTree

from nanophantom.analysis.site_traces import site_traces
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
    scale_bar,
)
from nanophantom.validation.figures import average, drift_of, pixel_size_of
from nanophantom.validation.tasks.movie_events import table_of
from nanophantom.validation.true_events import SITE_NM, groups_of

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed
    from nanophantom.validation.tasks.movie_events import EventComparison

MOST_TRACES = 16
MOST_ROWS = 40
SPOT_NM = 0.037
"""Standard deviation of a column's spot, for the traces that are drawn."""


def of_events(dataset: Observed, c: EventComparison) -> list[Plate]:
    """Draw a map of the events, the signal of each site that changes, and a table."""
    if not len(c.true.t_s) and not len(c.found_s):
        return []
    plates = [_map(dataset, c)]
    if c.target.any():
        plates.append(_traces(dataset, c))
    if c.target.any() or len(c.false):
        plates.append(_table(c))
    return plates


def _map(dataset: Observed, c: EventComparison) -> Plate:
    """Draw true hops as arrows, and the answers, over the average of all frames."""
    pixel_nm = pixel_size_of(dataset)
    image = average(dataset, "image")[0]
    extent_nm = extent_of(image.shape, pixel_nm)
    low, high = contrast(image)
    shown = np.concatenate([c.there_nm[c.target], c.found_nm])
    centre = (shown.min(axis=0) + shown.max(axis=0)) / 2
    half = max(0.8, float((shown.max(axis=0) - shown.min(axis=0)).max()) / 2 + 0.5)
    figure = Figure(figsize=(8.4, 8.4), facecolor="black")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(image, cmap="gray", vmin=low, vmax=high + 0.6 * (high - low), extent=extent_nm)
    x0, x1 = (np.clip(centre[0] + s * half, *extent_nm[:2]) for s in (-1, 1))
    y0, y1 = (np.clip(centre[1] + s * half, extent_nm[3], extent_nm[2]) for s in (-1, 1))
    axes.set_xlim(x0, x1)
    axes.set_ylim(y1, y0)
    edge = [withStroke(linewidth=2.5, foreground="black")]
    told = [_Once() for _ in range(2)]
    times: dict[tuple[float, float], list[tuple[float, str]]] = {}
    for unit in np.unique(c.true.unit):
        mine = np.flatnonzero(c.true.unit == unit)
        leave, come = (mine[c.true.kind[mine] == kind] for kind in (-1, 1))
        asked = bool(c.target[mine].any())
        colour = ORANGE if asked else "#9a9a9a"
        told_as = "true hop" if asked else "true hop, not asked for (too brief)"
        for k in come:
            x, y = (c.there_nm[leave[0]] + c.there_nm[k]) / 2
            axes.annotate(
                "", xy=c.there_nm[k], xytext=c.there_nm[leave[0]], zorder=6,
                arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2,
                            "shrinkA": 0, "shrinkB": 0, "mutation_scale": 13},
            )  # fmt: skip
            axes.plot([], [], color=colour, linewidth=2, label=told[0 if asked else 1](told_as))
            flat = abs(np.subtract(*c.there_nm[[k, leave[0]]])[1]) < SITE_NM
            there = (x - 0.1, y - 0.1) if flat else (x + 0.08, y)
            key = (round(float(there[0]), 1), round(float(there[1]), 1))
            times.setdefault(key, []).append((float(c.true.t_s[k]), colour))
    for (x, y), moments in times.items():
        axes.text(x, y, ", ".join(f"{t:.1f}" for t, _ in moments) + " s", color=moments[0][1],
                  fontsize=8.5, path_effects=edge, va="center", zorder=8)  # fmt: skip
    hit = np.zeros(len(c.found_s), bool)
    hit[c.hit_found] = True
    for kind, marker, word in ((-1, "v", "found: vanishes"), (1, "^", "found: appears")):
        mine = c.found_nm[hit & (c.found_kind == kind)]
        axes.plot(*mine.T, marker, markersize=10, markerfacecolor="none", markeredgecolor=SKY,
                  markeredgewidth=1.6, label=word, zorder=7)  # fmt: skip
    axes.plot(*c.there_nm[c.missed].T, "s", markersize=14, markerfacecolor="none",
              markeredgecolor=RED, markeredgewidth=1.6, label="missed", zorder=7)  # fmt: skip
    axes.plot(*c.found_nm[c.false].T, "X", markersize=10, markerfacecolor=RED,
              markeredgecolor="w", markeredgewidth=0.7, label="false", zorder=7)  # fmt: skip
    scale_bar(axes, (x0, x1, y1, y0))
    axes.legend(loc="upper right", fontsize=9, framealpha=0.9, edgecolor="none")
    caption = (
        f"True hops as arrows with their times over the average of all frames: of {c.target.sum()} "
        f"appearances and disappearances {len(c.hit_found)} were found (triangles), "
        f"{len(c.missed)} missed (squares), and {len(c.false)} answers are no event (crosses)."
    )
    return Plate("Where atoms hopped", caption, figure, raster=True, wide=True)


class _Once:
    """A label for the legend, the first time only."""

    def __init__(self) -> None:
        self.given = False

    def __call__(self, label: str) -> str:
        first, self.given = not self.given, True
        return label if first else "_"


def _traces(dataset: Observed, c: EventComparison) -> Plate:
    """Draw the signal of each site that changes, with true and found times."""
    sites = [c.there_nm[c.target][group[0]] for group in groups_of(c.there_nm[c.target])]
    sites.sort(key=lambda place: _first_time(c, place))
    sites = sites[:MOST_TRACES]
    signal, sigma = _signals(dataset, np.array(sites))
    time_s = (np.arange(dataset.n_frames) + 0.5) * c.period_s
    end_s = dataset.n_frames * c.period_s
    rows = -(-len(sites) // 2)
    figure = Figure(figsize=(10.4, 0.55 + 1.05 * rows), layout="constrained")
    figure.patch.set_alpha(0)
    panels = figure.subplots(rows, 2, sharex=True, squeeze=False)
    for panel in panels.T.flat[len(sites) :]:
        panel.set_visible(False)
    usual = float(np.quantile(signal, 0.8))
    for axes, place, trace, error in zip(panels.T.flat, sites, signal, sigma, strict=False):
        axes.patch.set_alpha(0)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        here = np.flatnonzero(np.hypot(*(c.there_nm - place).T) <= SITE_NM)
        here = here[np.argsort(c.true.t_s[here])]
        edges = np.concatenate([[0.0], c.true.t_s[here], [end_s]])
        for k, begin in enumerate(edges[:-1]):
            occupied = c.true.kind[here[k]] == -1 if k < len(here) else c.true.kind[here[-1]] == 1
            if occupied:
                axes.axvspan(begin, edges[k + 1], color=ORANGE, alpha=0.22, linewidth=0)
        axes.axhline(0, color=INK, linewidth=0.6, alpha=0.5)
        axes.errorbar(time_s, trace / usual, error / usual, fmt="o", color=INK, markersize=2.2,
                      linewidth=0.6, alpha=0.8)  # fmt: skip
        own = np.flatnonzero(np.hypot(*(c.found_nm - place).T) <= 0.1)
        for f in own:
            colour = BLUE if f in c.hit_found else RED
            axes.axvline(c.found_s[f], color=colour, linewidth=1.6,
                         linestyle="-" if f in c.hit_found else "--")  # fmt: skip
            if c.sigma_s is not None:
                axes.axvspan(c.found_s[f] - c.sigma_s[f], c.found_s[f] + c.sigma_s[f],
                             color=colour, alpha=0.3, linewidth=0)  # fmt: skip
        axes.set_title(f"({place[0]:.2f}, {place[1]:.2f}) nm", loc="right", fontsize=8, pad=1)
        axes.set_xlim(0, end_s)
        axes.set_yticks([0, 1])
        axes.tick_params(labelsize=8)
    for axes in panels[-1]:
        axes.set_xlabel("time (s)")
    if rows > 1 and len(sites) % 2:
        panels[-2, 1].tick_params(labelbottom=True)
    figure.supylabel("signal of the site (a column = 1)", fontsize=10)
    caption = (
        "How bright each site is in each frame, its neighbours' and background's parts taken away. "
        "Shaded: when a column truly stood there. Blue lines: times found (the band is one "
        "standard deviation); dashed red: false. A frame during which a column came or left shows "
        "a part of its signal, and that part tells the time more finely than the frames follow."
    )
    return Plate("Signals of the sites that change", caption, figure, wide=True)


def _first_time(c: EventComparison, place: Floats) -> float:
    return float(c.true.t_s[np.hypot(*(c.there_nm - place).T) <= SITE_NM].min())


def _signals(dataset: Observed, sites_nm: Floats) -> tuple[Floats, Floats]:
    """Return signal and standard error (sites, frames) where the truth says that sites lie."""
    pixel_nm = pixel_size_of(dataset)
    drift_nm = drift_of(dataset)
    columns = dataset.truth("columns")
    known = np.column_stack([columns["x_nm"], columns["y_nm"]]) + drift_nm[0]
    nx_ny = np.array(dataset.signal("image", 0, 1).shape[:0:-1]) * pixel_nm
    near = cKDTree(sites_nm).query(known)[0]
    known = known[(near < 1.0) & (near > 0.12) & ((known > 0) & (known < nx_ny)).all(axis=1)]
    apart = cKDTree(known).query_pairs(0.1)
    known = np.delete(known, list({max(pair) for pair in apart}), axis=0)
    sites = np.concatenate([sites_nm, known])[:, ::-1] / pixel_nm
    shifts = (drift_nm - drift_nm[0])[:, ::-1] / pixel_nm
    traces = site_traces(dataset.signal("image"), shifts, sites, SPOT_NM / pixel_nm)
    n = len(sites_nm)
    sign = np.sign(np.sum(traces.signal[n:])) or 1.0
    return sign * traces.signal[:n], np.where(traces.seen, traces.standard_error, 0.0)[:n]


def _table(c: EventComparison) -> Plate:
    """Write true and found times side by side."""
    table = table_of(c)
    n = min(len(table["t_s"]), MOST_ROWS)
    head = ("", "atoms", "x (nm)", "y (nm)", "true time (s)", "found (s)", "error (s)", "in sigma")
    at = (0.0, 0.2, 0.3, 0.4, 0.55, 0.68, 0.81, 0.94)
    figure = Figure(figsize=(10.4, 0.24 * (n + 2)))
    figure.patch.set_alpha(0)
    axes: Any = figure.add_axes((0.02, 0, 0.96, 1))
    axes.patch.set_alpha(0)
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(n + 1.2, -0.6)
    for x, word in zip(at, head, strict=True):
        axes.text(x, 0, word, fontweight="bold", fontsize=9, ha="left" if x == 0 else "right")
    axes.axhline(0.35, color=INK, linewidth=0.8)
    for row in range(n):
        t, found, error, sigma, x_nm, y_nm, kind, atoms = (column[row] for column in table.values())
        state = "false" if np.isnan(t) else "missed" if np.isnan(found) else ""
        words = (
            ("appears" if kind > 0 else "vanishes") + (f" ({state})" if state else ""),
            f"{atoms:.0f}" if atoms else "–",
            f"{x_nm:.2f}",
            f"{y_nm:.2f}",
            _number(t, "{:.2f}"),
            _number(found, "{:.2f}"),
            _number(error, "{:+.2f}"),
            _number(error / sigma if sigma > 0 else np.nan, "{:+.1f}"),
        )
        colour = RED if state else GREEN if kind > 0 else INK
        for x, word in zip(at, words, strict=True):
            axes.text(x, row + 1, word, fontsize=9, ha="left" if x == 0 else "right",
                      color=colour if x == 0 else INK)  # fmt: skip
    left_out = len(table["t_s"]) - n
    caption = (
        "Every event that was asked for and every false answer, in the order of time; the last "
        "column is the error over the uncertainty that the algorithm quotes."
        + (f" {left_out} more are left out." if left_out else "")
    )
    return Plate("Events, true and found", caption, figure, wide=True)


def _number(value: float, style: str) -> str:
    return "–" if np.isnan(value) else style.format(value).replace("-", "−")

"""Figures of the task light-columns: what was found of each kind, and at which dose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from scipy.ndimage import map_coordinates

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
    contrast,
    extent_of,
    plot,
    scale_bar,
)
from nanophantom.validation.figures import average, pixel_size_of
from nanophantom.validation.tasks.light_columns import KINDS, counted, f1_against_dose

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed
    from nanophantom.validation.tasks.light_columns import Found, LightColumns

COLOURS = {"light": SKY, "heavy": GREEN}
PARTS = (1.0, 0.5, 0.25, 0.12, 0.06)
"""Of the dose, at which the task's own algorithm is tried."""
ENOUGH = 100
"""Light columns with which one draw of thinned counts tells enough."""
LARGEST_VIEW_NM = 2.6
PROFILE_NM = 0.45


def of_light_columns(task: LightColumns, dataset: Observed, found: Found) -> list[Plate]:
    """Draw finds beside truth, a profile, the confusion of kinds, and F1 against dose."""
    plates = [_finds(dataset, found)]
    if (found.target & found.light).any() and (found.target & ~found.light).any():
        plates.append(_profile(dataset, found))
    plates.append(_confusion(found))
    whole = all(dataset.signal(name, 0, 1).dtype.kind in "iu" for name in dataset.signals)
    if whole and found.target.any() and hasattr(dataset, "measured"):
        plates.append(_dose_curve(task, dataset, found))
    return plates


def _finds(dataset: Observed, found: Found) -> Plate:
    """Draw what was found over the data, and what is there over the noise-free image."""
    step = pixel_size_of(dataset)
    name = counted(dataset)[0]
    measured = average(dataset, name)[0]
    ideal = np.asarray(dataset.truth("noise_free")[name], np.float64)
    extent = extent_of(measured.shape, step)
    side = min(LARGEST_VIEW_NM, *(n * step for n in measured.shape))
    middle = np.array(measured.shape[::-1]) * step / 2
    figure = Figure(figsize=(10.8, 5.8), facecolor="black")
    titles = f"found, over the mean of all frames ({name})", "there: noise-free"
    for i, (image, title) in enumerate(
        zip((measured.astype(np.float64), ideal), titles, strict=True)
    ):
        axes = figure.add_axes((0.503 * i, 0, 0.497, 0.93))
        axes.set_axis_off()
        axes.set_title(title, color="white", fontsize=10.5, pad=4)
        low, high = contrast(image)
        if i == 1 and _columns_are_bright(ideal, found, step):  # light ones, too, shall show
            high -= 0.5 * (high - low)
        elif i == 1:
            low += 0.6 * (high - low)
        axes.imshow(image, cmap="gray", vmin=low, vmax=high, extent=extent)
        if i == 0:
            _mark_finds(axes, found)
        else:
            for kind in KINDS:
                mine = found.light == (kind == "light")
                axes.plot(*found.at_rest_nm[mine].T, "o", markersize=3.5, color=COLOURS[kind],
                          label=f"{kind} column")  # fmt: skip
        axes.set_xlim(middle[0] - side / 2, middle[0] + side / 2)
        axes.set_ylim(middle[1] + side / 2, middle[1] - side / 2)
        scale_bar(axes, (*axes.get_xlim(), *axes.get_ylim()))
        legend: Any = axes.legend(loc="upper right", fontsize=8.5, framealpha=0.9, ncols=2,
                                  edgecolor="none")  # fmt: skip
        for handle in legend.legend_handles:
            handle.set_markersize(7)
    hits = {kind: found.counts(kind)[:2] for kind in KINDS}
    caption = (
        f"The middle of the view. In all of it {hits['light'][0]} of {hits['light'][1]} light and "
        f"{hits['heavy'][0]} of {hits['heavy'][1]} heavy columns were found and called what they "
        f"are; {int((~found.right).sum())} were taken for the other kind, {len(found.missed)} "
        f"missed, and {len(found.false)} finds are false."
    )
    return Plate("Columns found, and columns that are there", caption, figure, raster=True,
                 wide=True)  # fmt: skip


def _columns_are_bright(ideal: Floats, found: Found, step: float) -> bool:
    """Say whether heavy columns are brighter than the mean."""
    heavy = found.at_rest_nm[found.target & ~found.light]
    if not len(heavy):
        return True
    at_columns = map_coordinates(ideal, heavy.T[::-1] / step, order=1)
    return float(at_columns.mean()) > float(ideal.mean())


def _mark_finds(axes: Any, found: Found) -> None:
    """Mark hits of both kinds, kinds confused, misses and false finds."""

    def draw(points: Floats, marker: str, colour: str, label: str, size: float = 9) -> None:
        axes.plot(*points.T, marker, markersize=size, markerfacecolor="none", markeredgewidth=1.5,
                  markeredgecolor=colour, label=label)  # fmt: skip

    called = found.called_light[found.hit_found]
    for kind in KINDS:
        mine = found.right & (called == (kind == "light"))
        draw(found.found_nm[found.hit_found[mine]], "o", COLOURS[kind], f"{kind}, right")
    draw(found.found_nm[found.hit_found[~found.right]], "D", PINK, "wrong kind", 8)
    draw(found.there_nm[found.missed], "s", ORANGE, "missed", 8)
    draw(found.found_nm[found.false], "x", RED, "false", 8)


def _profile(dataset: Observed, found: Found) -> Plate:
    """Draw every signal along a line over a light column and the heavy one nearest to it."""
    step = pixel_size_of(dataset)
    light = np.flatnonzero(found.target & found.light)
    heavy = np.flatnonzero(found.target & ~found.light)
    centre = found.there_nm[found.target].mean(axis=0)
    a = light[np.argmin(np.hypot(*(found.there_nm[light] - centre).T))]
    b = heavy[np.argmin(np.hypot(*(found.there_nm[heavy] - found.there_nm[a]).T))]
    along = found.at_rest_nm[b] - found.at_rest_nm[a]
    distance = float(np.hypot(*along))
    s = np.linspace(-PROFILE_NM, PROFILE_NM, 181)
    line = s[:, None] * along / distance
    moved = found.there_nm[a] - found.at_rest_nm[a]
    names = counted(dataset)
    figure = Figure(figsize=(5.4 * len(names), 4.0), layout="constrained")
    figure.patch.set_alpha(0)
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        axes.patch.set_alpha(0)
        for edge in ("top", "right"):
            axes.spines[edge].set_visible(False)
        ideal = np.asarray(dataset.truth("noise_free")[name], np.float64) * dataset.n_frames
        measured = average(dataset, name)[0].astype(np.float64) * dataset.n_frames

        def read(image: Floats, start: Floats) -> Floats:
            y, x = ((start[k] + line[:, k]) / step for k in (1, 0))
            return np.asarray(map_coordinates(image, [y, x], order=1, mode="nearest"))

        axes.plot(s, read(measured, found.at_rest_nm[a] + moved), color=INK, linewidth=0.9,
                  alpha=0.65, label="measured")  # fmt: skip
        expected = read(ideal, found.at_rest_nm[a])
        noise = np.sqrt(np.maximum(expected, 0))
        axes.fill_between(s, expected - noise, expected + noise, color=BLUE, alpha=0.16,
                          linewidth=0, label="± shot noise of a pixel")  # fmt: skip
        axes.plot(s, expected, color=BLUE, linewidth=2, label="noise-free")
        axes.axvline(0, color=COLOURS["light"], linestyle="--", linewidth=1.4)
        for at in (-distance, distance):
            if _is_heavy(found, found.at_rest_nm[a] + at * along / distance):
                axes.axvline(at, color=COLOURS["heavy"], linestyle="--", linewidth=1.4)
        axes.set_xlabel("distance from a light column (nm)")
        axes.set_ylabel(f"counts a pixel, all frames ({name})")
        axes.legend(frameon=False, fontsize=8.5, ncols=3, loc="lower center",
                    bbox_to_anchor=(0.5, 1.0))  # fmt: skip
    caption = (
        "Counts along a line over a light column (blue dashes) and its nearest heavy neighbours "
        "(green dashes): without noise, and as measured, all frames together. The band is the shot "
        "noise of a single pixel; a column covers many pixels, which makes up for it."
    )
    return Plate("Profile over a light column at the dose used", caption, figure,
                 wide=len(names) > 1)  # fmt: skip


def _is_heavy(found: Found, point: Floats) -> bool:
    """Say whether a heavy column stands at a point at rest."""
    heavy = found.at_rest_nm[~found.light]
    return bool(len(heavy) and np.hypot(*(heavy - point).T).min() < 0.02)


def _confusion(found: Found) -> Plate:
    """Draw how many columns of each kind were called what."""
    called = found.called_light[found.hit_found]
    truly = found.light[found.hit_column]
    false = found.called_light[found.false]
    table = np.array(
        [
            [(truly & called).sum(), (truly & ~called).sum(), found.light[found.missed].sum()],
            [(~truly & called).sum(), (~truly & ~called).sum(), (~found.light[found.missed]).sum()],
            [false.sum(), (~false).sum(), 0],
        ],
        dtype=np.float64,
    )
    figure, axes = plot(5.4, 4.0)
    there = table[:2].sum(axis=1, keepdims=True)
    share = table / np.maximum(np.concatenate([there, [[there.sum()]]]), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1.3, aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        if (row, column) != (2, 2):
            axes.text(column, row, f"{int(value)}", ha="center", va="center", fontsize=13,
                      color="white" if share[row, column] > 0.75 else "black")  # fmt: skip
    axes.set_xticks(range(3), ["called light", "called heavy", "not found"])
    axes.set_yticks(range(3), ["light", "heavy", "no column"])
    axes.tick_params(length=0)
    caption = (
        "Columns that are there (rows) and what was said of them (columns), as numbers; shade: "
        "part of the columns that are there. Right answers stand in the first two places of the "
        "diagonal; the last row holds finds where no column is."
    )
    return Plate("Light or heavy: what was said of what", caption, figure)


def _dose_curve(task: LightColumns, dataset: Any, found: Found) -> Plate:
    """Draw F1 of both kinds against dose, from thinned counts of the same data."""
    n_light = int((found.target & found.light).sum())
    repeats = 1 if n_light >= ENOUGH else 4
    f1 = f1_against_dose(task, dataset, PARTS, repeats)
    dose = np.array(PARTS) * total_dose(dataset)
    figure, axes = plot(5.4, 4.2)
    for kind, marker in (("heavy", "s"), ("light", "o")):
        mean = f1[kind].mean(axis=1)
        axes.plot(dose, mean, marker=marker, linestyle="-" if kind == "light" else "--",
                  color=BLUE if kind == "light" else GREEN, label=f"{kind} columns")  # fmt: skip
        if repeats > 1:
            axes.fill_between(dose, f1[kind].min(axis=1), f1[kind].max(axis=1), alpha=0.15,
                              linewidth=0, color=BLUE if kind == "light" else GREEN)  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks(dose, [f"{d:.3g}" if d < 1000 else f"{d / 1000:.3g}k" for d in dose])
    axes.minorticks_off()
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("dose, all frames (e/Å²; k: thousand)" if dose.max() >= 1000
                    else "dose, all frames (e/Å²)")  # fmt: skip
    axes.set_ylabel("F1 of detection")
    axes.legend(frameon=False, loc="lower right")
    times = "" if repeats == 1 else f" Means of {repeats} draws; the shade spans all of them."
    caption = (
        "How many columns of each kind are found and told right at lower doses. The counts of this "
        "very dataset were thinned for it while this page was made: each was kept with a "
        "probability, which is what a lower dose would have given (but for noise of the camera's "
        "own). The answers are those of the algorithm that comes with the task." + times
    )
    return Plate("Detection F1 against dose", caption, figure)


def total_dose(dataset: Observed) -> float:
    """Return the electrons that fell on each Å^2 in all frames, as the ledger has them."""
    ledger = dataset.truth("dose")
    return float(np.asarray(ledger["dose_e_per_A2"], np.float64)[: dataset.n_frames].sum())

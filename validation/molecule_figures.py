"""Figures of the task molecule-counting: counts beside the truth, what they rest on, coverage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.patheffects import withStroke
from scipy import stats

from nanophantom.analysis.blink_counting import expected_coverage
from nanophantom.analysis.count_molecules import GAP_FRAMES, blink_probabilities, mean_blinks
from nanophantom.validation.drawing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    RED,
    SKY,
    Floats,
    Plate,
    micrograph,
    plot,
    plots,
)

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed
    from nanophantom.validation.tasks.molecule_counting import Counted

Ints = npt.NDArray[np.int64]

MOST_FRAMES = 200
ASKED = (0.91, 0.98)
BINS = 4
"""Groups of clusters, by their numbers, whose coverage is drawn."""


def of_counts(dataset: Observed, c: Counted) -> list[Plate]:
    """Draw clusters, counts against the truth, their ground, coverage, wrong kinetics."""
    plates = [_clusters(dataset, c)]
    if not len(c.pairs):
        return plates
    plates.append(_found_against_true(c))
    if c.evidence is not None and c.bleaches:
        plates.append(_from_bursts_to_blinks(dataset, c))
    plates.append(_coverage(c))
    if c.evidence is not None:
        plates.append(_wrong_kinetics(c))
    return plates


def _clusters(dataset: Observed, c: Counted) -> Plate:
    """Draw the mean of some frames, every cluster with its true and its estimated number."""
    frames = np.unique(np.linspace(0, dataset.n_frames - 1, MOST_FRAMES).astype(int))
    brightest: Any = None
    for k in frames:
        frame = np.asarray(dataset.signal("movie", int(k), int(k) + 1)[0], np.float32)
        brightest = frame if brightest is None else np.maximum(brightest, frame)
    pixel = float(dataset.settings["pixel_size_nm"])
    figure, _, _ = micrograph(np.sqrt(np.maximum(brightest - brightest.min(), 0)), pixel,
                              width_inch=8.4, bar=False)  # fmt: skip
    axes = figure.axes[0]
    limits = axes.get_xlim(), axes.get_ylim()
    estimate = dict(zip(c.pairs.true.tolist(), c.pairs.found.tolist(), strict=True))
    edge = [withStroke(linewidth=2.5, foreground="black")]

    def write(x: float, y: float, words: str, colour: str, size: float, weight: str) -> None:
        axes.text(x, y, words, color=colour, ha="center", va="center", fontsize=size,
                  fontweight=weight, path_effects=edge)  # fmt: skip

    for k in range(len(c.dyes)):
        x, y = float(c.x_nm[k]), float(c.y_nm[k])
        write(x, y - 320, f"{c.dyes[k]}", "white", 12, "bold")
        if k not in estimate:
            write(x, y + 290, "missed", ORANGE, 9.5, "normal")
            continue
        row = estimate[k]
        low, high = c.found["low"][row], c.found["high"][row]
        colour = SKY if low <= c.dyes[k] <= high else ORANGE
        digits = 0 if c.bleaches else 1  # bounds of blink counts are whole numbers
        told = f"{c.found['molecules'][row]:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"
        write(x, y + 290, told, colour, 10, "normal")
    false = np.setdiff1d(np.arange(len(c.found["x_nm"])), c.pairs.found)
    axes.plot(c.found["x_nm"][false], c.found["y_nm"][false], "x", color=ORANGE, markersize=9)
    axes.set_xlim(*limits[0])
    axes.set_ylim(*limits[1])
    caption = (
        f"The greatest brightness of each pixel in {len(frames)} of the {dataset.n_frames} frames: "
        "a molecule is dark nearly all the time, so many clusters seem empty here. White, above "
        "each cluster: molecules that are there and can fluoresce. Blue, below: the count with its "
        "95 % interval; orange where the interval misses the truth. × marks a cluster that isn't "
        f"there. A pixel is {pixel:g} nm."
    )
    return Plate("Clusters: truth and count", caption, figure, raster=True, wide=True)


def _found_against_true(c: Counted) -> Plate:
    figure, (left, right) = plots(10.4, 4.4, 2)
    true, found = c.true, c.of_pairs("molecules")
    # Clusters of one number stand side by side.
    order = np.argsort(true, kind="stable")
    beside = np.zeros(len(true))
    for n in np.unique(true):
        same = order[true[order] == n]
        beside[same] = 0.16 * (np.arange(len(same)) - (len(same) - 1) / 2)
    bars = np.abs(np.stack([found - c.of_pairs("low"), c.of_pairs("high") - found]))
    top = 1.05 * float(max(c.of_pairs("high").max(), true.max()))
    left.plot([0, top], [0, top], color=INK, linewidth=0.9, alpha=0.6, label="count = truth")
    for which, colour, words in (
        (c.covered, BLUE, "interval holds the truth"),
        (~c.covered, RED, "interval misses it"),
    ):
        if which.any():
            left.errorbar((true + beside)[which], found[which], bars[:, which], fmt="o",
                          markersize=4, color=colour, capsize=2, linewidth=0.9,
                          label=f"{words} ({which.sum()})")  # fmt: skip
    left.set_xlabel("true molecules in a cluster")
    left.set_ylabel("counted, bars: 95 %")
    left.set_xlim(0, 1.08 * float(true.max()))
    left.set_ylim(0, top)
    left.legend(frameon=False, fontsize=9, loc="upper left")
    limit = c.limit()
    if limit is not None:
        by = np.argsort(true)
        right.fill_between(true[by], -1.96 * limit[by], 1.96 * limit[by], color=GREEN, alpha=0.3,
                           linewidth=0, label="limit: every burst seen (95 %)")  # fmt: skip
    right.axhline(0, color=INK, linewidth=0.9, alpha=0.6)
    right.plot(true + beside, found - true, "o", markersize=4, color=BLUE, label="counted − true")
    right.set_xlabel("true molecules in a cluster")
    right.set_ylabel("error (molecules)")
    right.legend(frameon=False, fontsize=9, loc="upper left")
    why = (
        "one dye blinks once, another five times; that chance alone makes up the band"
        if c.bleaches
        else "imagers come at random times; that chance alone makes up the band"
    )
    caption = (
        "Left: the count of every cluster against the truth, with its interval; about one in "
        "twenty may miss the line. Right: the errors. The green band is what remains if every "
        f"single burst were seen: {why}, and on average no analysis gets below it."
    )
    return Plate("Counted and true", caption, figure, wide=True)


def _from_bursts_to_blinks(dataset: Observed, c: Counted) -> Plate:
    """Draw how many linked blinks true dyes show, beside the model that the count takes."""
    figure, (left, right) = plots(10.4, 4.0, 2)
    e = c.evidence
    assert e is not None
    shown = linked_blinks(dataset, e.least_photons)
    pmf = blink_probabilities(
        c.kinetics, c.frame_s, c.duration_s, e.activation_per_s, e.least_photons
    )
    p = 1 / c.kinetics["bursts_per_dye"]
    most = int(max(shown.max(), 6))
    k = np.arange(most + 1)
    share = np.bincount(shown, minlength=most + 1) / len(shown)
    error = np.sqrt(share * (1 - share) / len(shown))
    left.bar(k, share, yerr=error, width=0.8, color=BLUE, alpha=0.5,
             label=f"dyes of this movie ({len(shown)}), mean {shown.mean():.2f}")  # fmt: skip
    left.plot(k, np.pad(pmf, (0, most + 1))[: most + 1], "o", color=INK, markersize=5,
              label=f"model of the count, mean {mean_blinks(pmf):.2f}")  # fmt: skip
    geometric = np.where(k > 0, p * (1 - p) ** (k - 1.0), 0.0)
    left.plot(k, geometric, "x--", color=ORANGE, linewidth=0.8,
              label=f"every burst of every dye: geometric, mean {1 / p:.2f}")  # fmt: skip
    left.set_xlabel("blinks of a dye that are seen and told apart")
    left.set_ylabel("share of dyes")
    left.legend(frameon=False, fontsize=9)
    steps = c.lost()
    names, values = list(steps), list(steps.values())
    names.append("shown by the true dyes")
    values.append(float(shown.mean()))
    colours = [ORANGE, *[GREEN] * (len(names) - 3), INK, BLUE]
    right.barh(np.arange(len(names)), values, color=colours, alpha=0.6)
    for row, (name, value) in enumerate(zip(names, values, strict=True)):
        right.text(0.03, row, f"{name}: {value:.3f}", va="center", fontsize=9.5)
    right.invert_yaxis()
    right.set_yticks([])
    right.set_xlabel("blinks per dye")
    caption = (
        "Left: blinks that each true dye shows, after frames are exposed, dim ones lost and close "
        "ones linked (blue), beside the distribution that the count takes for granted (black), and "
        "the plain geometric law of the dye's bursts (orange), which would be wrong here. Dyes at "
        f"0 are never seen. Right: where the difference comes from: of {values[0]:.2f} bursts a "
        f"dye has, {values[-2]:.2f} blinks are to be expected. A frame shows a dye from "
        f"{e.least_photons:.0f} photons on; bursts with at most {GAP_FRAMES} empty frame between "
        "are linked."
    )
    return Plate("From bursts to blinks", caption, figure, wide=True)


def linked_blinks(dataset: Observed, least_photons: float) -> Ints:
    """Return the blinks of each true dye that are bright enough, and linked, (dyes,)."""
    table = dataset.frame_table("emissions", 0, dataset.n_frames)
    seen = np.asarray(table["photons"]) >= least_photons
    dye, frame = (np.asarray(table[name], np.int64)[seen] for name in ("dye", "frame"))
    order = np.lexsort((frame, dye))
    dye, frame = dye[order], frame[order]
    new = np.append(True, (np.diff(dye) != 0) | (np.diff(frame) > GAP_FRAMES + 1))[: len(dye)]
    numbers = np.asarray(dataset.truth("dyes")["dye"], np.int64)
    count = np.bincount(dye[new], minlength=int(numbers.max(initial=0)) + 1)
    return np.asarray(count[numbers], np.int64)


def _coverage(c: Counted) -> Plate:
    """Draw the share of intervals that hold the truth, against the number of molecules."""
    figure, axes = plot(10.4, 3.8)
    true = c.true
    axes.axhspan(*ASKED, color=GREEN, alpha=0.15, linewidth=0, label="91 to 98 %")
    axes.axhline(0.95, color=INK, linewidth=0.8, linestyle="--", alpha=0.7)
    e = c.evidence
    if e is not None and c.bleaches:
        pmf = blink_probabilities(
            c.kinetics, c.frame_s, c.duration_s, e.activation_per_s, e.least_photons
        )
        n = np.arange(1, int(true.max()) + 1)
        exact = [expected_coverage(int(k), pmf) for k in n]
        axes.plot(n, exact, "-", color=INK, linewidth=1.1, label="exact, of the model")
    # groups of about as many clusters each
    order = np.argsort(true, kind="stable")
    for k, group in enumerate(np.array_split(order, BINS)):
        if not len(group):
            continue
        hits = int(c.covered[group].sum())
        low, high = _share_interval(hits, len(group))
        middle, share = float(true[group].mean()), hits / len(group)
        axes.errorbar([middle], [share], [[share - low], [high - share]], fmt="o", color=BLUE,
                      capsize=3, label="this movie, a quarter of the clusters each (95 %)"
                      if k == 0 else None)  # fmt: skip
    axes.set_xlabel("true molecules in a cluster")
    axes.set_ylabel("share of intervals\nthat hold the truth")
    axes.set_ylim(0.5, 1.02)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    caption = (
        f"Are the intervals honest? {int(c.covered.sum())} of {len(true)} hold the truth. One "
        "movie has too few clusters to tell 95 % from 90 %, which the bars show; repeat with other "
        "seeds to know." + (
            " The black line is computed without any chance: molecules and blinks are whole "
            "numbers, so it can't be 95 % everywhere." if c.bleaches else ""
        )
    )  # fmt: skip
    return Plate("Coverage of the intervals", caption, figure, wide=True)


def _share_interval(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Jeffreys)."""
    low = 0.0 if hits == 0 else float(stats.beta.ppf(0.025, hits + 0.5, n - hits + 0.5))
    high = 1.0 if hits == n else float(stats.beta.ppf(0.975, hits + 0.5, n - hits + 0.5))
    return low, high


def _wrong_kinetics(c: Counted) -> Plate:
    """Draw bias and coverage with each number of the calibration wrong."""
    figure, (left, right) = plots(10.4, 3.9, 2)
    again = c.recounts
    found = c.of_pairs("molecules")
    own = float(found.sum() / c.true.sum()) - 1
    names = ["right kinetics", *[one.name for one in again]]
    rows = np.arange(len(names))
    bias: Floats = 100 * np.array([own, *[one.bias for one in again]])
    expected: Floats = 100 * np.array([0.0, *[one.expected - 1 for one in again]])
    left.barh(rows, bias, color=[BLUE, *[ORANGE] * len(again)], alpha=0.6, label="this movie")
    left.plot(expected, rows, "d", color=INK, markersize=6, label="predicted")
    left.axvline(0, color=INK, linewidth=0.9)
    left.set_yticks(rows, names)
    left.invert_yaxis()
    left.set_xlabel("bias of the count (%)")
    left.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.4, 1.14), ncol=2)
    coverage = [float(c.covered.mean()), *[one.coverage for one in again]]
    right.axvspan(*ASKED, color=GREEN, alpha=0.2, linewidth=0, label="91 to 98 %")
    right.barh(rows, coverage, color=[BLUE, *[ORANGE] * len(again)], alpha=0.6)
    predicted = _predicted_coverage(c)
    if predicted:
        right.plot(predicted, rows, "d", color=INK, markersize=6, label="predicted")
    right.set_yticks(rows, ["" for _ in names])
    right.invert_yaxis()
    right.set_xlim(0, 1)
    right.set_xlabel("share of intervals that hold the truth")
    right.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.4, 1.14), ncol=2)
    caption = (
        "The same blinks, counted again with one number of the dye's calibration 20 % too small or "
        "too large. Left: what that does to the count (bars), beside what the model predicts "
        "without chance (diamonds); bars and diamonds differ by this movie's own error, the top "
        "bar. Right: the intervals, which take the calibration for true. "
        + (
            "Too few bursts a dye make them narrow as well as wrong. Too many make them wide, "
            "which hides the error while a cluster has few molecules, and no longer where it has a "
            "hundred."
            if c.bleaches
            else "For sites the dark time of a single one is what counts: counts are proportional "
            "to it. A wrong ON time hardly matters."
        )
    )
    return Plate("What wrong kinetics do", caption, figure, wide=True)


def _predicted_coverage(c: Counted) -> list[float]:
    """Return the chance that an interval holds the truth, right and wrong kinetics in turn."""
    e = c.evidence
    if e is None or not c.bleaches:
        return []

    def pmf(kinetics: Mapping[str, float]) -> Floats:
        return blink_probabilities(
            kinetics, c.frame_s, c.duration_s, e.activation_per_s, e.least_photons
        )

    true, times = np.unique(c.true.astype(int), return_counts=True)
    right = pmf(c.kinetics)
    chances = []
    for kinetics in (c.kinetics, *[one.kinetics for one in c.recounts]):
        wrong = pmf(kinetics)
        each = [expected_coverage(int(n), right, wrong) for n in true]
        chances.append(float(np.average(each, weights=times)))
    return chances

"""Figures of the task knock-on: the sheet before and after, atoms lost, survivors, the result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from nanophantom.analysis.registration import add_up
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
    gallery,
    plot,
    scale_bar,
)
from nanophantom.validation.figures import drift_of, pixel_size_of
from nanophantom.validation.tasks.knock_on import NEIGHBOURS

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed
    from nanophantom.validation.tasks.knock_on import KnockOnComparison

PART = 8
"""Before and after are the sums of this part of the frames."""


def of_losses(dataset: Observed, c: KnockOnComparison) -> list[Plate]:
    """Draw the sheet in the first and the last frames, the losses, the survivors, the result."""
    plates = [_before_and_after(dataset), _map(dataset, c), _survivors(c)]
    if np.isfinite(c.found_barn[0]):
        plates.append(_result(c))
    return plates


def _summed(dataset: Observed, frames: slice) -> Floats:
    """Return the mean of some frames, moved back by the true drift."""
    drift_nm = drift_of(dataset)
    shifts = (drift_nm - drift_nm[0])[:, ::-1] / pixel_size_of(dataset)
    stack = dataset.signal("image")[frames]
    total, coverage = add_up(stack, shifts[frames])
    mean = total.astype(np.float64) / len(stack)
    return np.where(coverage > 0, mean, mean[coverage > 0].mean())


def _before_and_after(dataset: Observed) -> Plate:
    n = max(1, dataset.n_frames // PART)
    images = {
        f"first {n} frames": _summed(dataset, slice(0, n)),
        f"last {n} frames": _summed(dataset, slice(dataset.n_frames - n, None)),
    }
    figure, _ = gallery(images, pixel_size_of(dataset), across=2)
    caption = (
        "The sheet at the beginning and at the end of the movie, drift taken away by its true "
        "course. Where an atom is missing a dark gap joins three hexagons."
    )
    return Plate("Before and after", caption, figure, raster=True, wide=True)


def _map(dataset: Observed, c: KnockOnComparison) -> Plate:
    """Mark atoms lost, found and missed, over the last frames."""
    image = _summed(dataset, slice(dataset.n_frames - max(1, dataset.n_frames // PART), None))
    extent_nm = extent_of(image.shape, pixel_size_of(dataset))
    low, high = contrast(image)
    figure = Figure(figsize=(8.4, 8.4 * image.shape[0] / image.shape[1]), facecolor="black")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(image, cmap="gray", vmin=low, vmax=high + 0.7 * (high - low), extent=extent_nm)
    pristine = c.true_neighbours == NEIGHBOURS
    for mine, colour, word in (
        (c.target & pristine, ORANGE, "lost from the pristine sheet (truth)"),
        (c.target & ~pristine, GREEN, "lost from a vacancy's edge (truth)"),
    ):
        axes.plot(*c.true_nm[mine].T, "o", markersize=4.5, color=colour, label=word)
    axes.plot(*c.found_nm[c.hit_found].T, "o", markersize=12, markerfacecolor="none",
              markeredgecolor=SKY, markeredgewidth=1.4, label="found")  # fmt: skip
    axes.plot(*c.true_nm[c.missed].T, "s", markersize=13, markerfacecolor="none",
              markeredgecolor=RED, markeredgewidth=1.6, label="missed")  # fmt: skip
    axes.plot(*c.found_nm[c.false].T, "X", markersize=10, markerfacecolor=RED,
              markeredgecolor="w", markeredgewidth=0.7, label="false")  # fmt: skip
    edge = [withStroke(linewidth=2.2, foreground="black")]
    for (x, y), t in zip(c.true_nm[c.target], c.true_s[c.target], strict=True):
        axes.text(x + 0.13, y, f"{t:.0f} s", color="w", fontsize=7, va="center",
                  path_effects=edge)  # fmt: skip
    axes.set_xlim(*extent_nm[:2])
    axes.set_ylim(*extent_nm[2:])
    scale_bar(axes, extent_nm)
    axes.legend(loc="upper right", fontsize=9, framealpha=0.9, edgecolor="none")
    caption = (
        f"Atoms that the beam knocked out, over the last frames, with the times of their loss: "
        f"{len(c.hit_found)} of {int(c.target.sum())} were found, {len(c.missed)} missed, "
        f"{len(c.false)} claimed that are still there."
    )
    return Plate("Atoms that were lost", caption, figure, raster=True, wide=True)


def _survivors(c: KnockOnComparison) -> Plate:
    """Draw what is left of the sheet against fluence, beside the laws."""
    dose = c.dose
    start = np.asarray(dose["start_s"], np.float64)
    each = np.asarray(dose["dose_e_per_A2"], np.float64)
    total = np.cumsum(each)
    begin = start - start[0]
    times = np.column_stack([begin, begin + np.asarray(dose["length_s"])]).ravel()
    sums = np.column_stack([total - each, total]).ravel()
    end = float(total[-1])
    figure, axes = plot(5.4, 4.3)

    def stairs(t_s: Floats, colour: str, label: str, style: str = "-") -> None:
        at = np.concatenate([[0.0], np.sort(np.interp(t_s, times, sums)), [end]])
        left = 100 * (1 - np.append(np.arange(len(at) - 1), len(at) - 2) / c.n_atoms)
        axes.step(at / 1e6, left, where="post", color=colour, linestyle=style, label=label,
                  linewidth=1.6)  # fmt: skip

    pristine = c.target & (c.true_neighbours == NEIGHBOURS)
    stairs(c.true_s[c.target], INK, "all atoms (truth)")
    stairs(c.found_s[c.in_view], SKY, "all atoms (found)", "--")
    stairs(c.true_s[pristine], ORANGE, "without losses at vacancies (truth)")
    fluence = np.linspace(0, end, 200)
    axes.plot(fluence / 1e6, 100 * np.exp(-c.true_barn * 1e-8 * fluence), color=BLUE,
              label=f"law, {c.true_barn:.3g} barn")  # fmt: skip
    if np.isfinite(c.found_barn[0]):
        low, high = (100 * np.exp(-b * 1e-8 * fluence) for b in c.found_barn[:0:-1])
        axes.fill_between(fluence / 1e6, low, high, color=BLUE, alpha=0.15, linewidth=0,
                          label="95 % interval found")  # fmt: skip
    axes.plot(fluence / 1e6, 100 * np.exp(-c.static_barn * 1e-8 * fluence), color=RED,
              linestyle=":", label=f"atoms at rest, {c.static_barn:.3g} barn")  # fmt: skip
    axes.set_xlabel("fluence (10⁶ e/Å²)")
    axes.set_ylabel("atoms left (%)")
    axes.legend(frameon=False, fontsize=8.5, loc="lower left")
    caption = (
        "Atoms that are left in view as the fluence adds up. The law is an exponential, the steps "
        "are chance; atoms next to a gap go sooner, so the whole sheet falls faster than the law."
    )
    return Plate("Survivors", caption, figure)


def _result(c: KnockOnComparison) -> Plate:
    """Draw the cross section with its interval beside the true one and that of atoms at rest."""
    figure, axes = plot(5.4, 4.3)
    estimate, low, high = c.found_barn
    axes.errorbar([0], [estimate], [[estimate - low], [high - estimate]], fmt="o", color=BLUE,
                  capsize=6, markersize=8, label="found, 95 % interval")  # fmt: skip
    axes.axhline(c.true_barn, color=ORANGE, linewidth=2, label=f"true: {c.true_barn:.3g} barn")
    axes.axhline(c.static_barn, color=RED, linestyle=":", linewidth=2,
                 label=f"atoms at rest: {c.static_barn:.3g} barn")  # fmt: skip
    axes.set_xlim(-1, 1)
    axes.set_xticks([])
    axes.set_ylim(-0.03 * high, 1.15 * max(high, c.true_barn, c.static_barn))
    axes.set_ylabel(f"cross section at {c.energy_kev:g} kV (barn)")
    axes.legend(frameon=False, fontsize=9, loc="upper right")
    caption = (
        f"The displacement cross section of the pristine sheet from the atoms counted: "
        f"{estimate:.3g} barn, 95 % interval {low:.3g} to {high:.3g}. The interval is that of "
        "counting alone. Without the atoms' vibration the dotted value would be seen."
    )
    return Plate("Cross section", caption, figure)

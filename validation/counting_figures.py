"""Figures of the task atom-counting: counts beside the atoms that are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.cm import ScalarMappable
from matplotlib.collections import EllipseCollection
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from nanophantom.validation.drawing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    RED,
    Floats,
    Plate,
    contrast,
    extent_of,
    map_axes,
    plot,
    plots,
    scale_bar,
    spacing_of,
)
from nanophantom.validation.figures import average, pixel_size_of

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed
    from nanophantom.validation.tasks.atom_counting import Comparison


def of_counts(dataset: Observed, c: Comparison) -> list[Plate]:
    """Draw numbers found and true, their errors, cross-sections and confusion."""
    plates = [_maps(dataset, c)]
    if len(c.hit_found) < 2:
        return plates
    if c.measured_A2 is not None:
        plates += [_histogram(c), _against_count(c)]
    plates.append(_confusion(c))
    if c.confidence is not None:
        plates.append(_reliability(c))
    return plates


def _maps(dataset: Observed, c: Comparison) -> Plate:
    """Draw the image, the numbers found, the true numbers and their difference."""
    pixel_nm = pixel_size_of(dataset)
    image = average(dataset, "haadf")[0]
    extent_nm = extent_of(image.shape, pixel_nm)
    width_nm, height_nm = image.shape[1] * pixel_nm, image.shape[0] * pixel_nm
    figure = Figure(figsize=(10.4, 9.6 * height_nm / width_nm + 0.8), layout="constrained")
    figure.patch.set_alpha(0)
    panels = figure.subplots(2, 2)
    for axes in panels.flat:
        axes.patch.set_alpha(0)
    low, high = contrast(image)
    first = panels[0, 0]
    shown = first.imshow(image, cmap="gray", vmin=low, vmax=high, extent=extent_nm)
    first.set_axis_off()
    scale_bar(first, extent_nm)
    first.set_title("What was measured", fontsize=11)
    figure.colorbar(shown, ax=first, label="electrons a pixel", shrink=0.78)

    radius_nm = 0.42 * spacing_of(c.there_nm[c.target])
    numbers = np.concatenate([c.n_found[c.hit_found], c.n_true[c.target]])
    lowest, highest = int(numbers.min()), int(numbers.max())
    steps = np.arange(lowest - 0.5, highest + 1)
    colours = _colours("viridis", len(steps) - 1)
    norm = BoundaryNorm(steps, len(steps) - 1)
    for axes, title, at, n in (
        (panels[0, 1], "Atoms counted", c.found_nm[c.hit_found], c.n_found[c.hit_found]),
        (panels[1, 0], "Atoms that are there (truth)", c.there_nm[c.target], c.n_true[c.target]),
    ):
        _discs(axes, at, n, radius_nm, colours, norm)
        _view(axes, (width_nm, height_nm), title)
        bar = figure.colorbar(
            ScalarMappable(norm, colours), ax=axes, label="atoms in the column", shrink=0.78
        )
        bar.set_ticks(list(range(lowest, highest + 1)))

    most = max(2, int(np.abs(c.error).max(initial=0)))
    norm = BoundaryNorm(np.arange(-most - 0.5, most + 1), 2 * most + 1)
    colours = _colours("RdBu_r", 2 * most + 1)
    last = panels[1, 1]
    _discs(last, c.found_nm[c.hit_found], c.error, radius_nm, colours, norm, signed=True)
    last.plot(*c.there_nm[c.missed].T, "s", markersize=9, markerfacecolor="none",
              markeredgecolor=ORANGE, markeredgewidth=1.8)  # fmt: skip
    last.plot(*c.found_nm[c.false].T, "X", markersize=9, color=RED)
    _view(last, (width_nm, height_nm), "Counted minus true")
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=last, label="atoms", shrink=0.78)
    bar.set_ticks(list(range(-most, most + 1)))
    wrong = int(np.sum(c.error != 0))
    caption = (
        f"The image, and for every column the number of atoms: {wrong} of the {len(c.error)} "
        f"columns found are wrong. Squares: {len(c.missed)} columns that are there and weren't "
        f"found. Crosses: {len(c.false)} finds where no column is. Errors scattered like salt and "
        "pepper are noise; a whole region of one sign would be a systematic error."
    )
    return Plate("Atoms counted, column by column", caption, figure, wide=True)


def _discs(
    axes: Any,
    at_nm: Floats,
    values: npt.NDArray[np.int64],
    radius_nm: float,
    colours: ListedColormap,
    norm: BoundaryNorm,
    signed: bool = False,
) -> None:
    """Draw a disc with its number at every column; no number where a difference is zero."""
    size = np.full(len(at_nm), 2 * radius_nm)
    discs = EllipseCollection(
        size, size, np.zeros(len(at_nm)), units="xy", offsets=at_nm,
        transOffset=axes.transData, cmap=colours, norm=norm, edgecolors=INK, linewidths=0.4,
    )  # fmt: skip
    discs.set_array(values)
    axes.add_collection(discs)
    for (x, y), value in zip(at_nm, values.tolist(), strict=True):
        red, green, blue, _ = colours(norm(value))
        shade = "#ffffff" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else "#000000"
        label = f"{value:+d}".replace("-", "−") if signed else f"{value}"
        if value or not signed:
            axes.text(x, y, label, color=shade, ha="center", va="center", fontsize=7.5)


def _view(axes: Any, size_nm: tuple[float, float], title: str) -> None:
    map_axes(axes, *size_nm)
    axes.set_title(title, fontsize=11)


def _colours(name: str, n: int) -> ListedColormap:
    import matplotlib as mpl

    return ListedColormap(mpl.colormaps[name](np.linspace(0.06, 0.97, n)))


def _histogram(c: Comparison) -> Plate:
    """Draw the measured cross-sections, the fitted groups, and the true classes."""
    assert c.measured_A2 is not None
    measured = c.measured_A2[c.hit_found]
    n_found, n_true = c.n_found[c.hit_found], c.true_of_hits
    figure, (own, true) = plots(10.4, 3.9, 2)
    edges = np.linspace(0.9 * measured.min(), 1.05 * measured.max(), 33)
    width = edges[1] - edges[0]
    classes = np.unique(np.concatenate([n_found, n_true]))
    palette = _colours("viridis", len(classes))
    colours = {n: palette(i) for i, n in enumerate(classes.tolist())}
    x = np.linspace(edges[0], edges[-1], 600)
    for axes, n in ((own, n_found), (true, n_true)):
        present = np.unique(n).tolist()
        axes.hist(
            [measured[n == k] for k in present], edges, stacked=True,
            color=[colours[k] for k in present], edgecolor="none", alpha=0.85,
        )  # fmt: skip
        axes.set_xlabel("cross-section measured (Å²)")
        axes.set_ylabel("columns")
    total = np.zeros(len(x))
    # Each group as it was fitted: its own mean, one width for all.
    residual = np.concatenate([measured[n_found == k] - measured[n_found == k].mean()
                               for k in np.unique(n_found)])  # fmt: skip
    freedom = max(1, len(residual) - len(np.unique(n_found)))
    sigma = float(np.sqrt(np.sum(residual**2) / freedom))
    for k in np.unique(n_found).tolist():
        group = measured[n_found == k]
        bell = np.exp(-(((x - group.mean()) / sigma) ** 2) / 2) / (sigma * np.sqrt(2 * np.pi))
        own.plot(x, len(group) * width * bell, color=colours[k], linewidth=1)
        total += len(group) * width * bell
    own.plot(x, total, color=INK, linewidth=1.4)
    own.set_title("Coloured by the number counted", fontsize=11)
    true.set_title("Coloured by the true number", fontsize=11)
    for axes, n in ((own, n_found), (true, n_true)):
        top = axes.get_ylim()[1]
        axes.set_ylim(0, 1.12 * top)
        for k in np.unique(n).tolist():
            axes.text(float(measured[n == k].mean()), 1.08 * top, str(k), ha="center",
                      va="center", fontsize=9, color=INK)  # fmt: skip
    caption = (
        "How much each column scatters to the detector, as an area (a cross-section). Left: as the "
        "algorithm sorted it, with a bell for every number of atoms. Right: the same histogram "
        "coloured by the truth; the digits above stand at the mean of their group. Where colours "
        "overlap on the right no algorithm can tell the numbers apart from the cross-section."
    )
    return Plate("Cross-sections and how they were sorted", caption, figure, wide=True)


def _against_count(c: Comparison) -> Plate:
    """Draw cross-sections against true counts, noise-free ones, and the curve counted with."""
    assert c.measured_A2 is not None
    figure, axes = plot(5.4, 4.3)
    n_true, measured = c.true_of_hits, c.measured_A2[c.hit_found]
    # Spread sideways in order, so that points of a class don't hide each other.
    aside = np.zeros(len(n_true))
    for n in np.unique(n_true):
        own = np.flatnonzero(n_true == n)
        aside[own] = np.linspace(-0.25, 0.25, len(own)) if len(own) > 1 else 0.0
    right = c.error == 0
    axes.plot((n_true + aside)[right], measured[right], "o", markersize=4.5, color=BLUE,
              label="measured, counted right")  # fmt: skip
    axes.plot((n_true + aside)[~right], measured[~right], "X", markersize=6.5, color=RED,
              markeredgewidth=0, label="measured, counted wrong")  # fmt: skip
    if c.expected is not None:
        axes.plot(n_true + aside, c.expected.cross_section_A2[c.hit_column], "_", markersize=8,
                  color=INK, alpha=0.8, label="without noise (truth)")  # fmt: skip
    if c.library_A2 is not None:
        n, first = np.unique(c.n_found, return_index=True)
        axes.plot(n, c.library_A2[first], "-", color=GREEN, linewidth=1.8,
                  label="library of the algorithm")  # fmt: skip
    axes.set_xlabel("atoms in the column (truth)")
    axes.set_ylabel("cross-section (Å²)")
    axes.set_ylim(0, None)
    axes.legend(frameon=False, fontsize=9)
    caption = (
        "Every further atom adds to the cross-section, the deeper ones less or more as the beam "
        "is channelled along the column. Dashes: what each column would show without counting "
        "noise. Where the dashes of neighbouring numbers mix, more dose doesn't help."
    )
    return Plate("Cross-section against the number of atoms", caption, figure)


def _confusion(c: Comparison) -> Plate:
    """Draw how often a true number was counted as which."""
    n_found, n_true = c.n_found[c.hit_found], c.true_of_hits
    low, high = int(min(n_found.min(), n_true.min())), int(max(n_found.max(), n_true.max()))
    size = high - low + 1
    table = np.zeros((size, size), int)
    np.add.at(table, (n_found - low, n_true - low), 1)
    figure, axes = plot(5.4, 4.6)
    edges = (low - 0.5, high + 0.5, low - 0.5, high + 0.5)
    share = table / np.maximum(table.sum(axis=0, keepdims=True), 1)
    shown = axes.imshow(np.ma.masked_equal(share, 0), cmap="viridis", vmin=0, vmax=1,
                        origin="lower", extent=edges)  # fmt: skip
    for i, j in zip(*np.nonzero(table), strict=True):
        axes.text(j + low, i + low, str(table[i, j]), ha="center", va="center", fontsize=8.5,
                  color="#ffffff" if share[i, j] < 0.6 else "#000000")  # fmt: skip
    axes.plot(edges[:2], edges[:2], color=INK, linewidth=0.8, alpha=0.5)
    axes.set_xticks(np.arange(low, high + 1))
    axes.set_yticks(np.arange(low, high + 1))
    axes.set_xlabel("atoms in the column (truth)")
    axes.set_ylabel("atoms counted")
    figure.colorbar(shown, ax=axes, label="share of the columns of that true number", shrink=0.9)
    caption = (
        "Columns of each true number (left to right) and what they were counted as (upwards); "
        "digits say how many. On the diagonal the count is right."
    )
    return Plate("Which numbers are mixed up", caption, figure)


def _reliability(c: Comparison) -> Plate:
    """Draw the share that is right against the confidence that was quoted."""
    assert c.confidence is not None
    sure, right = c.confidence[c.hit_found], c.error == 0
    order = np.argsort(sure, kind="stable")
    groups = np.array_split(order, int(np.clip(len(order) // 12, 2, 6)))
    figure, axes = plot(5.4, 4.3)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.9, alpha=0.6, label="honest")
    for i, own in enumerate(groups):
        share, n = float(right[own].mean()), len(own)
        # Wilson's interval of a proportion, one standard deviation.
        centre = (share + 0.5 / n) / (1 + 1 / n)
        half = np.sqrt(share * (1 - share) / n + 0.25 / n**2) / (1 + 1 / n)
        axes.plot([sure[own].mean()] * 2, [centre - half, centre + half], color=BLUE, linewidth=1.4)
        axes.plot(float(sure[own].mean()), share, "o", color=BLUE,
                  label=f"groups of about {n} columns" if i == 0 else None)  # fmt: skip
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.04)
    axes.set_xlabel("confidence that the algorithm quotes")
    axes.set_ylabel("share that is right")
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    caption = (
        "Does the algorithm know how sure it may be? Columns sorted by the confidence quoted for "
        "them, in groups; below the line it was too sure, above too cautious. Bars: one standard "
        "deviation of so few columns."
    )
    return Plate("Is the confidence honest?", caption, figure)

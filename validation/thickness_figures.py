"""Figures of the task thickness: patterns beside their best matches, found against true."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from scipy.interpolate import CubicSpline

from nanophantom.validation.drawing import BLUE, GREEN, INK, ORANGE, RED, Floats, Plate, plots
from nanophantom.validation.pattern_figures import logarithmic

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed
    from nanophantom.validation.tasks.thickness import Comparison

SHOWN = 4
"""Patterns that are drawn, spread evenly over the thicknesses."""


def of_thickness(dataset: Observed, c: Comparison) -> list[Plate]:
    """Draw measured patterns, what fits them best, and how thickness was told."""
    plates = []
    library = _library(dataset)
    if library is not None and len(c.pattern):
        plates.append(_patterns(dataset, c, *library))
    if len(c.pattern):
        plates.append(_found_against_true(c))
    if library is not None and len(c.pattern):
        plates.append(_likelihood(dataset, c, *library))
    return plates


def _library(dataset: Observed) -> tuple[Floats, Floats] | None:
    """Return the library of the default algorithm, if the settings allow one."""
    from nanophantom.analysis.cbed_thickness import library_for

    shape = dataset.signal("image", 0, 1).shape[-2:]
    try:
        thickness_nm, patterns = library_for(dataset.settings, (int(shape[0]), int(shape[1])))
    except ValueError:
        return None
    return thickness_nm, patterns.astype(np.float64)


def _chosen(c: Comparison, n: int) -> npt.NDArray[np.int64]:
    """Return which answers to draw: from the thinnest crystal to the thickest."""
    order = np.argsort(c.true_nm[c.pattern], kind="stable")
    picks = np.unique(np.rint(np.linspace(0, len(order) - 1, min(n, len(order)))).astype(int))
    return np.asarray(order[picks], np.int64)


def _patterns(dataset: Observed, c: Comparison, library_nm: Floats, library: Floats) -> Plate:
    """Draw measured pattern, best match and residual, a column for each thickness."""
    answers = _chosen(c, SHOWN)
    step = float(dataset.settings["pixel_size_mrad"])
    figure = Figure(figsize=(10.4, 7.3), layout="constrained")
    figure.patch.set_alpha(0)
    panels = figure.subplots(3, len(answers), sharex=True, sharey=True, squeeze=False)
    spline = CubicSpline(library_nm, library, axis=0)
    counts = [np.asarray(dataset.signal("image", int(c.pattern[a]), int(c.pattern[a]) + 1)[0],
                         np.float64) for a in answers]  # fmt: skip
    ny, nx = counts[0].shape
    extent = (-nx / 2 * step, nx / 2 * step, ny / 2 * step, -ny / 2 * step)
    norm = logarithmic(counts)
    shown: Any = None
    residual: Any = None
    for column, (answer, image) in enumerate(zip(answers, counts, strict=True)):
        clipped = np.clip(c.found_nm[answer], library_nm[0], library_nm[-1])
        model = np.maximum(spline(clipped), 1e-12)
        model *= image.sum() / model.sum()
        deviation = (image - model) / np.sqrt(np.maximum(model, 0.5))
        top, middle, bottom = panels[:, column]
        shown = top.imshow(
            np.maximum(image, norm.vmin or 0.0), cmap="magma", norm=norm, extent=extent
        )
        middle.imshow(np.maximum(model, norm.vmin or 0.0), cmap="magma", norm=norm, extent=extent)
        residual = bottom.imshow(deviation, cmap="RdBu_r", vmin=-5, vmax=5, extent=extent)
        top.set_title(f"{c.true_nm[c.pattern[answer]]:.2f} nm (truth)", fontsize=11)
        middle.set_title(f"best match: {c.found_nm[answer]:.2f} nm", fontsize=11)
        bottom.set_xlabel("angle x (mrad)")
    for axes, label in zip(panels[:, 0], ("measured", "best match", "difference"), strict=True):
        axes.set_ylabel(f"{label}\nangle y, down (mrad)")
    figure.colorbar(shown, ax=panels[:2].ravel().tolist(),
                    label="electrons a pixel, logarithmic", shrink=0.8)  # fmt: skip
    figure.colorbar(residual, ax=panels[2].tolist(), label="difference over noise", shrink=0.9)
    caption = (
        "Diffraction patterns of the crystal at a few thicknesses. Each disk is a reflection, as "
        "wide as the cone of the beam; where disks overlap nothing interferes, since the probe was "
        "averaged over the unit cell. Dark and bright bands inside the disks move as the crystal "
        "gets thicker: they tell the thickness. Middle: the simulated pattern that fits best. "
        "Below: their difference in units of the counting noise; noise alone looks like sand."
    )
    return Plate("Patterns and their best matches", caption, figure, wide=True)


def _found_against_true(c: Comparison) -> Plate:
    """Draw thicknesses found against true ones, and the errors with their bars."""
    figure, (left, right) = plots(10.4, 4.2, 2)
    true = c.true_nm[c.pattern]
    bars = None if c.sigma_nm is None else 1.96 * c.sigma_nm
    ends = np.array([0.0, 1.05 * max(float(true.max()), float(c.found_nm.max()))])
    left.plot(ends, ends, color=INK, linewidth=0.9, alpha=0.6, label="found = true")
    left.errorbar(true, c.found_nm, bars, fmt="o", markersize=4.5, color=BLUE, capsize=2,
                  linewidth=1, label="found")  # fmt: skip
    left.set_xlabel("true thickness (nm)")
    left.set_ylabel("thickness found (nm)")
    left.set_xlim(*ends)
    left.set_ylim(*ends)
    left.legend(frameon=False, fontsize=9)

    right.axhline(0, color=INK, linewidth=0.9, alpha=0.6)
    finite = np.isfinite(c.limit_nm)
    if finite.any():
        at, limit = c.true_nm[finite], 1.96 * c.limit_nm[finite]
        order = np.argsort(at, kind="stable")
        right.fill_between(at[order], -limit[order], limit[order], color=GREEN, alpha=0.25,
                           linewidth=0, label="physical limit (95 %)")  # fmt: skip
    right.errorbar(true, c.error_nm, bars, fmt="o", markersize=4.5, color=BLUE, capsize=2,
                   linewidth=1, label="found minus true"
                   + (", bars: 95 % as quoted" if bars is not None else ""))  # fmt: skip
    right.set_xlabel("true thickness (nm)")
    right.set_ylabel("error (nm)")
    right.legend(frameon=False, fontsize=9)
    caption = (
        "Every pattern's thickness as it was found, against the true one (left), and the error "
        "with the uncertainty that the algorithm quotes (right). Bars that mostly touch zero are "
        "honest. The green band is what counting noise alone would leave to the best of all "
        "algorithms. Points that leave zero together betray a systematic error of the model."
    )
    return Plate("Thickness found and true", caption, figure, wide=True)


def _likelihood(dataset: Observed, c: Comparison, library_nm: Floats, library: Floats) -> Plate:
    """Draw how well every thickness of the library explains a few patterns."""
    answers = _chosen(c, 3)
    figure, (whole, close) = plots(10.4, 4.0, 2)
    fine_nm = np.linspace(library_nm[0], library_nm[-1], 1200)
    patterns = np.maximum(CubicSpline(library_nm, library, axis=0)(fine_nm), 1e-12)
    share = patterns / patterns.sum(axis=(1, 2), keepdims=True)
    for answer, colour, dashes in zip(
        answers, (BLUE, RED, ORANGE), ("-", "--", "-."), strict=False
    ):
        i = int(c.pattern[answer])
        counts = np.asarray(dataset.signal("image", i, i + 1)[0], np.float64)
        log_likelihood = np.tensordot(np.log(share), counts, axes=2)
        below = log_likelihood.max() - log_likelihood
        true = float(c.true_nm[i])
        whole.plot(fine_nm, below + 1, dashes, color=colour, label=f"true thickness {true:.2f} nm")
        near = np.abs(fine_nm - true) < 1.0
        close.plot(fine_nm[near] - true, -below[near], dashes, color=colour)
        whole.axvline(true, color=colour, linewidth=0.8, alpha=0.6)
    whole.set_yscale("log")
    whole.invert_yaxis()
    whole.set_xlabel("thickness assumed (nm)")
    whole.set_ylabel("log-likelihood below the best, plus 1")
    whole.legend(frameon=False, fontsize=9, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=1)
    close.axvline(0, color=INK, linewidth=0.8, alpha=0.6)
    close.axhline(-0.5, color=GREEN, linewidth=1.2, label="−½: one standard deviation")
    close.set_ylim(-8, 0.6)
    close.set_xlabel("thickness assumed minus true thickness (nm)")
    close.set_ylabel("log-likelihood below the best")
    close.legend(frameon=False, fontsize=9)
    caption = (
        "How well each thickness explains a measured pattern, for three of them; vertical lines "
        "are the true thicknesses. The whole range (left): peaks elsewhere are thicknesses that "
        "could be mistaken for the right one. Around the truth (right): the curve falls by one "
        "half within one standard deviation, so the sharper it is the surer the answer."
    )
    return Plate("How the thickness is told", caption, figure, wide=True)

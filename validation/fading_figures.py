"""Figures of the task fading: a crystal that dies, and how its reflections go one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from nanophantom.analysis.dose_weighting import mid_exposures
from nanophantom.analysis.fourier_shells import soft_edge
from nanophantom.analysis.reflections import WINDOW_EDGE, spot_powers
from nanophantom.analysis.registration import add_up
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
    plot,
    scale_bar,
)
from nanophantom.validation.figures import drift_of, pixel_size_of
from nanophantom.validation.tasks.fading import PER_NM_IN_PER_A, true_critical_dose

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed
    from nanophantom.validation.tasks.fading import Compared

PART = 4
"""The first and the last of so many parts of the movie are shown."""
CURVES = 6
POINTS = 12


def of_fading(dataset: Observed, c: Compared) -> list[Plate]:
    """Draw the movie's ends with their diffractograms, decays, and critical dose over spacing."""
    plates = [_ends(dataset, c)]
    if c.spots_per_nm is not None and len(c.found):
        plates.append(_decays(dataset, c))
    if len(c.found):
        plates += [_law(c), _errors(c)]
    return plates


def _shifts_px(dataset: Observed) -> Floats:
    """Return the true shift (dy, dx) of every frame against the first."""
    drift = drift_of(dataset)[:, ::-1]
    return np.asarray((drift - drift[0]) / pixel_size_of(dataset))


def _fluence(dataset: Observed) -> Floats:
    settings = dataset.settings
    before = float(settings.get("before_e_per_A2") or 0.0)
    doses = np.asarray(settings["doses_e_per_A2"], np.float64)
    return mid_exposures(dataset.n_frames, doses, before)[0]


def _ends(dataset: Observed, c: Compared) -> Plate:
    """Draw the sums of the first and of the last frames, and what reflections they have."""
    step = pixel_size_of(dataset)
    frames = np.asarray(dataset.signal("image"))
    n = max(1, len(frames) // PART)
    shifts = _shifts_px(dataset)
    sums = [add_up(frames[part], shifts[part])[0] for part in (slice(None, n), slice(-n, None))]
    fluence = _fluence(dataset)
    spans = [f"at {fluence[part].mean():.3g} e/Å²" for part in (slice(None, n), slice(-n, None))]
    powers = [_diffractogram(image) for image in sums]
    coarsest = 1.0 / max(float(c.spacing_nm.min()) if len(c.found) else 0.3, 2.5 * step)
    reach = min(0.5 / step, 1.15 * coarsest)

    figure = Figure(figsize=(10.8, 10.9), facecolor="black")
    side = min(5.0, min(sums[0].shape) * step / 2)
    for j, (image, power, span) in enumerate(zip(sums, powers, spans, strict=True)):
        axes = figure.add_axes((0.503 * j, 0.505, 0.497, 0.468))
        axes.set_axis_off()
        low, high = contrast(image)
        axes.imshow(image, cmap="gray", vmin=low, vmax=high, extent=extent_of(image.shape, step))
        middle = np.array(image.shape[::-1]) * step / 2
        axes.set_xlim(middle[0] - side, middle[0] + side)
        axes.set_ylim(middle[1] + side, middle[1] - side)
        scale_bar(axes, (*axes.get_xlim(), *axes.get_ylim()))
        axes.set_title(f"sum of {n} frames, {span} on average", color="white", fontsize=10.5, pad=4)

        axes = figure.add_axes((0.503 * j, 0, 0.497, 0.497))
        axes.set_axis_off()
        noise = float(np.median(powers[j]))
        (bottom, top), (left, right) = (_edges(size, step) for size in power.shape)
        axes.imshow(np.log10(power / noise + 0.1), cmap="gray", vmin=-0.3, vmax=2.5,
                    extent=(left, right, top, bottom), interpolation="nearest")  # fmt: skip
        _mark_spots(axes, c, with_words=j == 0)
        axes.set_xlim(-reach, reach)
        axes.set_ylim(reach, -reach)
    caption = (
        "Sums of the first and of the last quarter of the frames, moved back by the true drift, "
        "and below them their power spectra (logarithmic, black half and white 300 times the "
        "noise). Circles: the reflections whose critical dose was returned, one of each opposite "
        "pair; numbers: spacings, at the opposite ones. Fine spacings go first: at the end the "
        "coarse lattice still stands, but little of the detail."
    )
    title = "A crystal that fades: first and last frames"
    return Plate(title, caption, figure, raster=True, wide=True)


def _diffractogram(image: Any) -> Floats:
    """Return the power spectrum seen through a soft window, zero frequency in the middle."""
    values = np.asarray(image, np.float64)
    window = soft_edge(values.shape, WINDOW_EDGE)
    seen = window * (values - np.sum(window * values) / np.sum(window))
    return np.asarray(np.fft.fftshift(np.abs(np.fft.fft2(seen)) ** 2))


def _edges(size: int, step_nm: float) -> tuple[float, float]:
    """Return the outer edges of pixels with frequencies in their middle, 1/nm."""
    k = np.fft.fftshift(np.fft.fftfreq(size, step_nm))
    half = 0.5 / (size * step_nm)
    return float(k[0]) - half, float(k[-1]) + half


def _mark_spots(axes: Any, c: Compared, with_words: bool) -> None:
    """Circle the reflections returned; name some spacings."""
    if c.spots_per_nm is None:
        return
    ky, kx = c.spots_per_nm.T
    axes.plot(kx, ky, "o", markersize=11, markerfacecolor="none", markeredgecolor=ORANGE,
              markeredgewidth=1.1)  # fmt: skip
    if not with_words:
        return
    named: list[int] = []
    for i in np.argsort(-c.spacing_nm):
        # of equal spacings the one farthest from all names so far
        if any(abs(c.spacing_nm[i] / c.spacing_nm[j] - 1) < 0.08 for j in named):
            continue
        alike = np.flatnonzero(np.abs(c.spacing_nm / c.spacing_nm[i] - 1) < 0.01)
        away = [
            min([np.hypot(*(c.spots_per_nm[a] - c.spots_per_nm[j])) for j in named] or [0.0])
            for a in alike
        ]
        named.append(int(alike[int(np.argmax(away))]))
    for i in named:
        axes.annotate(f"{c.spacing_nm[i]:.2f} nm", (-kx[i], -ky[i]), xytext=(0, 7),
                      textcoords="offset points", ha="center", color="white", fontsize=9,
                      path_effects=[withStroke(linewidth=2.5, foreground="black")])  # fmt: skip


def _decays(dataset: Observed, c: Compared) -> Plate:
    """Draw the amplitudes of some reflections against the fluence, fitted and true."""
    assert c.spots_per_nm is not None
    chosen = _spread_out(c)
    step = pixel_size_of(dataset)
    series = spot_powers(
        np.asarray(dataset.signal("image")),
        step,
        _shifts_px(dataset),
        spots_per_nm=c.spots_per_nm,
    )
    fluence = _fluence(dataset)
    doses = np.asarray(dataset.settings["doses_e_per_A2"], np.float64)
    groups = np.array_split(np.arange(len(fluence)), min(POINTS, len(fluence)))
    figure = Figure(figsize=(10.8, 5.6), layout="constrained")
    figure.patch.set_alpha(0)
    N = np.linspace(0, float(fluence[-1]), 200)
    for axes, i in zip(figure.subplots(2, 3, sharex=True).ravel(), chosen, strict=False):
        axes.patch.set_alpha(0)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        F = series.amplitude[i] / doses
        noise = np.sqrt(0.5 * series.background[i]) / doses
        decay = np.exp(-0.5 * fluence / c.true[i])
        # the amplitude at no fluence by least squares with the true law: the unit of the axis
        unit = np.sum(F * decay / noise**2) / np.sum(decay**2 / noise**2)
        left = (F / unit).real
        error = noise / abs(unit)
        weights = [1 / error[g] ** 2 for g in groups]
        mean = [np.sum(w * left[g]) / w.sum() for w, g in zip(weights, groups, strict=True)]
        bar = [1 / np.sqrt(w.sum()) for w in weights]
        at = [fluence[g].mean() for g in groups]
        axes.axhline(0, color=INK, linewidth=0.7, alpha=0.5)
        axes.errorbar(at, mean, bar, fmt="o", color=INK, markersize=4, linewidth=1,
                      label="measured")  # fmt: skip
        axes.plot(N, np.exp(-0.5 * N / c.true[i]), color=GREEN, linewidth=2.4, label="true")
        axes.plot(N, np.exp(-0.5 * N / c.found[i]), "--", color=RED, linewidth=1.6, label="found")
        words = (
            f"{c.spacing_nm[i]:.3f} nm\nfound {c.found[i]:.3g} ({c.low[i]:.3g}–{c.high[i]:.3g})\n"
            f"true {c.true[i]:.3g} e/Å²"
        )
        axes.text(0.98, 0.97, words, transform=axes.transAxes, ha="right", va="top", fontsize=9)
    figure.axes[0].legend(frameon=False, fontsize=9, loc="lower left")
    figure.supxlabel("fluence (e/Å²)", fontsize=10)
    figure.supylabel("amplitude left", fontsize=10)
    caption = (
        "Fourier amplitudes of some reflections, turned back by the true drift, against the dose "
        f"that the crystal has got; points are means of {len(groups[0])} frames or so with the "
        "noise of the counts. An amplitude falls as exp(−N / 2N_c) where the intensity falls as "
        "exp(−N / N_c). The unit is the amplitude at no dose, with which the true curve fits best."
    )
    return Plate("How reflections fade", caption, figure, wide=True)


def _spread_out(c: Compared) -> list[int]:
    """Return reflections of different spacings, coarse to fine, the surest of each."""
    order = np.argsort(-c.spacing_nm)
    spacing = c.spacing_nm[order]
    bands = np.split(order, np.flatnonzero(spacing[1:] < 0.97 * spacing[:-1]) + 1)
    width = np.log(c.high / np.maximum(c.low, 1e-3))
    surest = [int(band[np.argmin(width[band])]) for band in bands]
    keep = np.unique(np.rint(np.linspace(0, len(surest) - 1, CURVES)).astype(int))
    return [surest[i] for i in keep]


def _law(c: Compared) -> Plate:
    """Draw critical doses over spacing with their intervals, the true law and the pooled one."""
    figure, axes = plot(10.4, 4.8)
    span = np.geomspace(0.9 * c.spacing_nm.min(), 1.1 * c.spacing_nm.max(), 200)
    k = PER_NM_IN_PER_A / span
    axes.plot(span, true_critical_dose(c.true_law, k), color=GREEN, linewidth=2.6, label="true law")
    order = np.argsort(c.spacing_nm)
    if c.law is not None:
        axes.plot(c.spacing_nm[order], c.law[order], "--", color=RED, linewidth=1.6,
                  label="law fitted to all together")  # fmt: skip
    top = 2.2 * float(max(c.true.max(), np.median(c.found)))
    spread = 1 + 0.012 * _ranks(c.spacing_nm)  # equal spacings side by side
    for held, colour, marker, word in (
        (True, BLUE, "o", "interval holds the truth"),
        (False, ORANGE, "s", "interval misses it"),
    ):
        mine = c.held == held
        if not mine.any():
            continue
        below = (c.found - c.low)[mine]
        above = np.minimum(c.high, 10 * top)[mine] - c.found[mine]
        axes.errorbar((c.spacing_nm * spread)[mine], c.found[mine],
                      [below, np.maximum(above, 0)], fmt=marker, color=colour, markersize=4.5,
                      linewidth=1.1, label=word)  # fmt: skip
    axes.set_xscale("log")
    ticks = [d for d in (0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0) if span[0] <= d <= span[-1]]
    axes.set_xticks(ticks, [f"{d:g}" for d in ticks])
    axes.minorticks_off()
    axes.set_ylim(0, top)
    axes.set_xlabel("spacing (nm)")
    axes.set_ylabel("critical dose (e/Å²)")
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    caption = (
        "Critical dose of each reflection with its 95 % interval, over its spacing (reflections of "
        "one spacing are drawn side by side). One interval in twenty should miss the green line. "
        "The dashed law was fitted to all likelihoods at once. The green law is an assumption of "
        "the recipe: it grows with the spacing, as fine detail dies first."
    )
    return Plate("Critical dose against spacing", caption, figure, wide=True)


def _ranks(spacing: Floats) -> Floats:
    """Return small whole numbers about 0 that tell members of a group of like spacings apart."""
    order = np.argsort(spacing)
    rank = np.zeros(len(spacing))
    sorted_ = spacing[order]
    for group in np.split(order, np.flatnonzero(sorted_[1:] > 1.012 * sorted_[:-1]) + 1):
        rank[group] = np.arange(len(group)) - (len(group) - 1) / 2
    return rank


def _errors(c: Compared) -> Plate:
    """Draw the error of each critical dose beside the least that counting allows."""
    figure, axes = plot(5.4, 4.2)
    off = 100 * np.log(c.found / c.true)
    wanted = c.limit if c.limit is not None else None
    if wanted is None or not np.isfinite(wanted).all():
        axes.hist(off, 15, color=BLUE, alpha=0.6)
        axes.set_xlabel("error of the critical dose (%, logarithmic)")
        axes.set_ylabel("reflections")
    else:
        limit = 100 * wanted
        x = np.array([0.8 * limit.min(), 1.2 * limit.max()])
        axes.fill_between(x, -1.96 * x, 1.96 * x, color=GREEN, alpha=0.18, linewidth=0,
                          label="95 % of errors at the limit")  # fmt: skip
        axes.axhline(0, color=INK, linewidth=0.8, alpha=0.6)
        axes.plot(limit, off, "o", color=BLUE, markersize=5, label="reflections")
        axes.set_xscale("log")
        ticks = [t for t in (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100) if x[0] <= t <= x[1]]
        axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
        axes.minorticks_off()
        axes.set_xlabel("least scatter that the counts allow (%)")
        axes.set_ylabel("ln(found / true) (%)")
        axes.legend(frameon=False, fontsize=9, loc="upper left")
    caption = (
        "Error of each critical dose against its Cramér-Rao bound: strong reflections stand left, "
        "weak ones right. An estimate that wastes nothing keeps 19 of 20 points inside the green "
        "wedge."
    )
    return Plate("Errors and their limit", caption, figure)

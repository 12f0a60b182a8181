"""Figures of the task dose-series: scores against dose, marked frames, and denoising."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.columns import Contrast, find_columns
from nanophantom.analysis.denoising import denoise
from nanophantom.analysis.fourier_shells import fourier_ring_correlation, thin_counts
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
    gallery,
    plots,
    spacing_of,
)
from nanophantom.validation.figures import pixel_size_of
from nanophantom.validation.tasks.dose_series import GOOD_F1, SEEN, DoseSeries, Series

if TYPE_CHECKING:
    from nanophantom.validation.task import Estimates, Observed
    from nanophantom.validation.tasks.atomic_columns import Comparison

Image = npt.NDArray[Any]
Finder = Callable[[Image], Mapping[str, Floats]]

PM_PER_NM = 1000.0
PART_NM = 3.2
"""Side of the part of the view that is shown enlarged."""
DENOISED_UP_TO_E_PER_A2 = 200.0
"""Above, noise is no trouble, and denoising is left away."""


def of_series(dataset: Observed, series: Series) -> list[Plate]:
    """Draw F1, error and resolution against dose, three frames with marks, and one denoised."""
    images = np.asarray(dataset.signal("image"))
    others, remark = _other_finders(dataset, images, series)
    plates = [
        _marked_frames(dataset, images, series),
        _detection(dataset, series, others, remark),
        _precision(dataset, images, series),
    ]
    if images.dtype.kind in "iu":
        plates.append(_denoising(dataset, images, series))
    return plates


def _other_finders(
    dataset: Observed, images: Image, series: Series
) -> tuple[dict[str, Series], str]:
    """Return how other ways of finding columns do, by name, and a remark on those left out."""
    ways: dict[str, Finder] = {}
    remark = ""
    step_nm = pixel_size_of(dataset)
    look: Contrast = dataset.settings.get("contrast") or "auto"
    if images.dtype.kind in "iu" and dataset.settings.get("counts_per_electron", 1.0) <= 1.0:
        ways["the usual finder on denoised frames"] = lambda image: find_columns(
            denoise(image), step_nm, look
        )
    try:
        from nanophantom.analysis import learned_columns

        network = learned_columns.load()
        settings = {"pixel_size_nm": step_nm, "contrast": dataset.settings.get("contrast")}
        ways["a trained network"] = lambda image: learned_columns.find_with(
            network, image, settings
        )
    except (ImportError, ValueError):
        remark = " No trained network is installed; its curve is left out."
    answers = {name: _answer(find, dataset, images, series) for name, find in ways.items()}
    return {name: DoseSeries().compare(each, dataset) for name, each in answers.items()}, remark


def _answer(find: Finder, dataset: Observed, images: Image, series: Series) -> Estimates:
    """Let a finder of single images answer for the whole series."""
    chosen = np.flatnonzero(series.doses_e_per_A2 <= DENOISED_UP_TO_E_PER_A2)
    found = [find(images[i]) for i in chosen]
    return {
        "frame": np.repeat(chosen, [len(f["x_nm"]) for f in found]),
        "x_nm": np.concatenate([f["x_nm"] for f in found] or [np.empty(0)]),
        "y_nm": np.concatenate([f["y_nm"] for f in found] or [np.empty(0)]),
    }


def _marked_frames(dataset: Observed, images: Image, series: Series) -> Plate:
    """Draw frames of a low, a middle and a high dose with what was found in them."""
    f1 = np.array([series.tally_at(dose).f1 for dose in series.levels])
    wanted = (0.3, 0.8)  # where it begins to work, and where it nearly does
    doses = dict.fromkeys(
        float(series.levels[int(np.argmin(np.abs(f1 - level)))]) for level in wanted
    )
    doses[float(series.levels[-1])] = None
    chosen = [int(np.flatnonzero(series.doses_e_per_A2 == dose)[0]) for dose in doses]
    total = np.cumsum(series.doses_e_per_A2)
    step_nm = pixel_size_of(dataset)
    corner = _corner(series.frames[chosen[0]], images.shape[1:], step_nm)
    side = min(*images.shape[1:], round(PART_NM / step_nm))
    part = np.s_[corner[0] : corner[0] + side, corner[1] : corner[1] + side]
    names = [f"{series.doses_e_per_A2[i]:g} e/Å²" for i in chosen]
    shown = {name: images[i][part] for name, i in zip(names, chosen, strict=True)}
    # The frames twice: at low dose the marks would hide the little that is seen.
    shown |= {f"{name}, answer": image for name, image in shown.items()}
    figure, all_axes = gallery(shown, step_nm, across=len(chosen))
    points = 72 * figure.get_size_inches()[0] / len(chosen) / (side * step_nm)
    told = []
    for axes, i in zip(all_axes[len(chosen) :], chosen, strict=True):
        c = series.frames[i]
        size = float(np.clip(0.5 * spacing_of(c.there_nm[c.target]) * points, 3, 14))
        shift = np.array([corner[1], corner[0]]) * step_nm
        for places, marker, colour, fill in (
            (c.found_nm[c.hit_found], "o", SKY, "none"),
            (c.there_nm[c.missed], "s", ORANGE, "none"),
            (c.found_nm[c.false], "X", RED, RED),
        ):
            # Marks outside of the part shown are cut off by its axes.
            axes.plot(*(places - shift).T, marker, markersize=size, markeredgecolor=colour,
                      markerfacecolor=fill, markeredgewidth=1.0)  # fmt: skip
        extent = (side - 0.5) * step_nm
        axes.set_xlim(-0.5 * step_nm, extent)
        axes.set_ylim(extent, -0.5 * step_nm)
        told.append(
            f"{series.doses_e_per_A2[i]:g} e/Å² (exposure {i + 1}, {total[i]:,.0f} in all by "
            f"then): {len(c.hit_found)} found, {len(c.missed)} missed, {len(c.false)} false"
        )
    caption = (
        "The same part of the specimen at three doses. Below, the answer: circles around columns "
        "that were found, squares where one was missed, crosses where none is. In the whole view: "
        + "; ".join(told)
        + "."
    )
    return Plate("Found, missed and false columns", caption, figure, raster=True, wide=True)


def _corner(c: Comparison, shape: tuple[int, ...], step_nm: float) -> tuple[int, int]:
    """Return row and column of the corner of the part shown, about the first group's middle."""
    mine = c.target & (c.group == c.group[c.target].min()) if c.target.any() else c.target
    ny, nx = shape
    side = min(ny, nx, round(PART_NM / step_nm))
    x, y = c.there_nm[mine].mean(axis=0) / step_nm if mine.any() else (nx / 2, ny / 2)
    return (
        int(np.clip(round(y + 0.2 * side) - side // 2, 0, ny - side)),
        int(np.clip(round(x) - side // 2, 0, nx - side)),
    )


def _detection(
    dataset: Observed, series: Series, others: Mapping[str, Series], remark: str
) -> Plate:
    """Draw F1, recall and precision against dose, and F1 of other ways to find columns."""
    figure, (own, compared) = plots(10.8, 4.3, 2)
    doses = series.levels
    tallies = [series.tally_at(float(dose)) for dose in doses]
    recall = [t.recall for t in tallies]
    precision = [np.nan if t.precision is None else t.precision for t in tallies]
    f1 = [t.f1 for t in tallies]
    own.plot(doses, precision, "s--", color=ORANGE, markersize=5, label="precision")
    own.plot(doses, recall, "^--", color=BLUE, markersize=5, label="recall")
    own.plot(doses, f1, "o-", color=INK, markersize=6, label="F1")
    own.plot(doses, series.seen_share, ":", color=GREEN, linewidth=2,
             label=f"columns {SEEN:g} times above the noise")  # fmt: skip
    compared.plot(doses, f1, "o-", color=INK, markersize=6, label="graded answer")
    for (name, other), (colour, marker) in zip(
        others.items(), ((PINK, "v"), (RED, "D")), strict=False
    ):
        low = other.levels[other.levels <= DENOISED_UP_TO_E_PER_A2]
        compared.plot(low, [other.tally_at(float(d)).f1 for d in low], f"{marker}-", color=colour,
                      markersize=5, label=name)  # fmt: skip
    first = series.dose_for_f1
    for axes, label in ((own, "share of columns"), (compared, "F1")):
        axes.axhline(GOOD_F1, color=INK, linewidth=0.7, linestyle=":")
        if first is not None:
            axes.axvline(first, color=INK, linewidth=0.7, linestyle=":")
        _dose_axis(axes, doses)
        axes.set_ylim(-0.03, 1.05)
        axes.set_ylabel(label)
        axes.legend(frameon=False, fontsize=9, loc="lower right")
    reached = (
        f"F1 reaches {GOOD_F1:g} at {first:g} e/Å² (dotted)."
        if first is not None
        else f"F1 doesn't reach {GOOD_F1:g}."
    )
    caption = (
        f"Left: which share of the columns was found (recall), and which share of the finds is "
        f"real (precision). {reached} Green: the share of columns that a matched filter sees "
        f"{SEEN:g} times above the noise, the usual criterion of blind detection. Right: F1 of "
        "other ways, each frame by itself. A denoiser averages what looks alike: it finds columns "
        "at lower dose, and invents some. So does a network, which has learned how columns stand "
        "together." + remark
    )
    return Plate("Finding columns against dose", caption, figure, wide=True)


def _precision(dataset: Observed, images: Image, series: Series) -> Plate:
    """Draw errors of position beside their limit, and the resolution of single frames."""
    figure, (errors, resolved) = plots(10.8, 4.1, 2)
    doses = series.levels
    tallies = [series.tally_at(float(dose)) for dose in doses]
    hit = np.array([t.hits > 0 for t in tallies])
    errors.plot(doses[hit], [t.rmse_pm for t in tallies if t.hits], "o-", color=BLUE,
                label="error of the columns found")  # fmt: skip
    limits = np.array([np.nan if t.limit_pm is None else t.limit_pm for t in tallies])
    errors.plot(doses, limits, "--", color=GREEN, linewidth=1.8, label="limit for these columns")
    every = np.array([_rms_limit_pm(series.at(float(dose))) for dose in doses])
    errors.plot(doses, every, ":", color=GREEN, linewidth=1.8, label="limit for all columns")
    errors.set_yscale("log")
    values = np.concatenate([every, limits, [t.rmse_pm or np.nan for t in tallies]])
    values = values[np.isfinite(values)]
    if len(values):
        ticks = [v for v in (0.5, 1, 2, 5, 10, 20, 50, 100) if 0.7 * values.min() < v]
        ticks = [v for v in ticks if v < 1.5 * values.max()]
        errors.set_yticks(ticks, [f"{v:g}" for v in ticks])
        errors.minorticks_off()
    errors.set_ylabel("rms error of position (pm)")
    errors.legend(frameon=False, fontsize=9)
    finest = _resolutions(dataset, images, series)
    shown = np.isfinite(finest)
    resolved.plot(series.doses_e_per_A2[shown], finest[shown], "o-", color=BLUE)
    for dose in series.doses_e_per_A2[~shown]:
        resolved.axvspan(dose / 1.12, dose * 1.12, color=RED, alpha=0.15, linewidth=0)
    resolved.set_ylim(0, None)
    resolved.set_ylabel("finest period resolved (nm)")
    for axes in (errors, resolved):
        _dose_axis(axes, doses)
    caption = (
        "Left: errors of the columns found, beside the Cramér-Rao bound of the same columns and of "
        "all of them: four times the dose halves it. Errors may lie below the dotted line at low "
        "dose, where only clear columns are found and far finds count as false; above it at high "
        "dose, where other things than noise limit. Right: the period at which two halves of one "
        "frame, each electron dealt to one of them by a coin, correlate by 1/7 (Fourier ring "
        "correlation); red: nothing is resolved."
    )
    return Plate("Precision and resolution against dose", caption, figure, wide=True)


def _rms_limit_pm(frames: list[Comparison]) -> float:
    limits = np.concatenate([c.limit_nm[c.target] for c in frames])
    limits = limits[np.isfinite(limits)]
    return PM_PER_NM * float(np.sqrt(np.mean(limits**2))) if len(limits) else float("nan")


def _resolutions(dataset: Observed, images: Image, series: Series) -> Floats:
    """Return the finest period of each frame, nm; NaN where nothing is resolved."""
    finest = np.full(len(images), np.nan)
    if images.dtype.kind not in "iu":
        return finest
    rng = np.random.default_rng(0)  # the same coin for every report
    for i, image in enumerate(images):
        one, other = thin_counts(image, rng)
        if np.ptp(one) and np.ptp(other):
            found = fourier_ring_correlation(one, other, pixel_size_of(dataset)).resolution_nm()
            finest[i] = np.nan if found is None else found
    return finest


def _denoising(dataset: Observed, images: Image, series: Series) -> Plate:
    """Draw a frame of low dose, denoised, and the truth behind it."""
    f1 = np.array([series.tally_at(dose).f1 for dose in series.doses_e_per_A2])
    low = int(np.argmin(np.abs(f1 - 0.8)))
    ideal = np.asarray(dataset.ideal("image", low), np.float64)
    estimate = denoise(images[low])
    step_nm = pixel_size_of(dataset)
    corner = _corner(series.frames[low], images.shape[1:], step_nm)
    side = min(*images.shape[1:], round(PART_NM / step_nm))
    part = np.s_[corner[0] : corner[0] + side, corner[1] : corner[1] + side]
    dose = series.doses_e_per_A2[low]
    shown = {
        f"{dose:g} e/Å², PSNR {psnr_db(images[low], ideal):.1f} dB": images[low][part],
        f"denoised, PSNR {psnr_db(estimate, ideal):.1f} dB": estimate[part],
        "true expectation": ideal[part],
    }
    figure, all_axes = gallery(shown, step_nm, across=3)
    black, white = contrast(ideal)
    for axes in all_axes[1:]:
        axes.images[0].set_clim(black, white)
    caption = (
        f"A frame of {dose:g} e/Å², the same denoised by non-local means, and what it would be "
        "without noise; the last two on one grey scale. PSNR is the range of the true image over "
        "the rms difference from it. A denoised image looks finished where it is partly guessed: "
        "trust it for a survey, and measure on the counts."
    )
    return Plate("What denoising makes of a low dose", caption, figure, raster=True, wide=True)


def psnr_db(image: Image, truth: Floats) -> float:
    """Return the peak signal-to-noise ratio, 20 lg(range of the truth / rms difference)."""
    off = float(np.sqrt(np.mean((np.asarray(image, np.float64) - truth) ** 2)))
    return float("inf") if off == 0 else float(20 * np.log10(np.ptp(truth) / off))


def _dose_axis(axes: Any, doses: Floats) -> None:
    axes.set_xscale("log")
    ticks = [d for d in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
             if doses.min() <= d <= doses.max()]  # fmt: skip
    axes.set_xticks(ticks, [f"{d:g}" for d in ticks])
    axes.minorticks_off()
    axes.set_xlabel("dose (e/Å²)")

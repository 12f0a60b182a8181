"""Figures of the task scan-speed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.signal import detrend
from scipy.signal.windows import hann

from nanophantom.validation.drawing import BLUE, GREEN, INK, ORANGE, RED, SKY, Plate, plot, plots
from nanophantom.validation.height_drawing import (
    Map,
    height_maps,
    profiles,
    span_of,
    steepest_row,
)
from nanophantom.validation.height_figures import pixel_of

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed
    from nanophantom.validation.tasks.scan_speed import Comparison

Floats = npt.NDArray[np.float64]

GREY = "#8d99ae"


def of_scan_speed(dataset: Observed, c: Comparison) -> list[Plate]:
    """Draw errors against line rate, images, profiles and the loop's share of every frequency."""
    return [_against_rate(dataset, c), _images(dataset, c), _profiles(dataset, c),
            _shares(dataset, c)]  # fmt: skip


def expected_nm(felt_nm: Floats, knot_s: float, integral_per_s: float) -> float:
    """Return the error that an integral loop makes on rows of heights, root mean square.

    Of every frequency f the share f / sqrt(f^2 + fc^2) is left behind, fc = Ki / 2 pi. Rows are
    continued by their mirror image, so that they don't jump where they begin again.
    """
    rows = np.concatenate([felt_nm, felt_nm[:, ::-1]], axis=1)
    n = rows.shape[1]
    f = np.fft.fftfreq(n, knot_s)
    power = np.mean(np.abs(np.fft.fft(rows, axis=1)) ** 2, axis=0) / n**2
    corner = integral_per_s / (2 * np.pi)
    return float(np.sqrt(np.sum(power * f**2 / (f**2 + corner**2))))


def _power(rows_nm: Floats, knot_s: float) -> tuple[Floats, Floats]:
    """Return the mean power spectrum of rows and its frequencies."""
    n = rows_nm.shape[1]
    window = hann(n, sym=False)
    spectrum = np.fft.rfft(detrend(rows_nm, axis=1, type="constant") * window, axis=1)
    power = np.mean(np.abs(spectrum) ** 2, axis=0) / np.sum(window**2)
    return np.asarray(power, np.float64), np.asarray(np.fft.rfftfreq(n, knot_s))


def _knots_s(dataset: Observed, c: Comparison) -> Floats:
    return np.asarray(1 / (c.line_rate_hz * dataset.settings["knots_a_line"]))


def _against_rate(dataset: Observed, c: Comparison) -> Plate:
    from nanophantom.validation.tasks.scan_speed import TOLERABLE_NM, fastest_hz

    figure, axes = plot(8.6, 4.4)
    order = np.argsort(c.line_rate_hz)
    rate = c.line_rate_hz[order]
    many = np.geomspace(rate[0], rate[-1], 60)
    felt, gain = c.felt_nm[order[0]], 1 / c.true_lag_s[order[0]]
    closed = [expected_nm(felt, 1 / (r * dataset.settings["knots_a_line"]), gain) for r in many]
    axes.plot(many, closed, color=INK, linewidth=1.2,
              label="closed form for an integral loop, without noise")  # fmt: skip
    axes.plot(rate, c.recorded_error_nm[order], "o", color=BLUE, label="recorded trace, true error")
    axes.plot(rate, c.stated_nm[order], "o", color=ORANGE, markerfacecolor="none", markersize=10,
              label="recorded trace, as the algorithm states it")  # fmt: skip
    axes.plot(rate, c.found_error_nm[order], "s", color=GREEN, label="corrected heights")
    axes.plot(rate, c.limit_nm[order], color=GREY, linestyle="--",
              label="noise of a pixel, both ways averaged")  # fmt: skip
    axes.axhline(TOLERABLE_NM, color=RED, linewidth=0.8)
    true, inside = fastest_hz(c.line_rate_hz, c.recorded_error_nm)
    if true is not None and inside:
        axes.axvline(true, color=RED, linewidth=0.8, linestyle=":")
        axes.annotate(f"{true:.2g} lines/s", (true, 0.02), xycoords=("data", "axes fraction"),
                      xytext=(4, 0), textcoords="offset points", color=RED, fontsize=9)  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(rate, [f"{r:g}" for r in rate])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("line rate (lines/s)")
    axes.set_ylabel("error of heights, rms (nm)")
    axes.legend(fontsize=8.5, frameon=False)
    caption = (
        "How far heights are from what the tip felt, against the speed of the scan. Twice as fast "
        "is about twice as wrong, until features pass in less than the loop's time constant and "
        f"it no longer follows at all. The red lines mark {TOLERABLE_NM:g} nm and the speed up to "
        "which the recorded trace keeps it. What the loop couldn't follow is in the error channel: "
        "put back from there (green) heights are nearly as good as their noise lets them be."
    )
    return Plate("Error against line rate", caption, figure, wide=True)


def _three(c: Comparison) -> list[int]:
    """Return a slow, a middling and the fastest frame."""
    order = np.argsort(c.line_rate_hz)
    picked = np.unique(np.rint(np.linspace(0, len(order) - 1, 3)).astype(int))
    return [int(order[i]) for i in picked]


def _images(dataset: Observed, c: Comparison) -> Plate:
    frames = _three(c)
    errors = {i: c.recorded_nm[i] - c.felt_nm[i] for i in frames}
    left = {i: c.found_nm[i] - c.felt_nm[i] for i in frames}
    heights = span_of(*(c.felt_nm[i] for i in frames))
    wrong = span_of(*errors.values())
    maps = [
        *(Map(f"recorded at {c.line_rate_hz[i]:g} lines/s", c.recorded_nm[i], span=heights)
          for i in frames),
        *(Map("its error", errors[i], signed=True, span=wrong) for i in frames),
        *(Map("corrected", c.found_nm[i], span=heights) for i in frames),
        *(Map("error left (finer scale)", left[i], signed=True, span=span_of(*left.values()))
          for i in frames),
    ]  # fmt: skip
    figure, _ = height_maps(maps, pixel_of(dataset), across=len(frames))
    caption = (
        "The same area at three speeds, from top to bottom: the trace as recorded; how far it is "
        "from what the tip felt; the corrected heights; and how far those are. Heights share one "
        "scale, so do the errors of the second row, and those of the last. The tip runs from left "
        "to right: left sides of hills are met too late and look too low (blue), right sides too "
        "high (red)."
    )
    return Plate("Images at three speeds", caption, figure, raster=True, wide=True)


def _profiles(dataset: Observed, c: Comparison) -> Plate:
    frames = _three(c)[-2:]
    figure, both = plots(11.0, 3.8, len(frames))
    row = steepest_row(c.felt_nm[frames[-1]])
    x = np.arange(c.felt_nm.shape[2]) * pixel_of(dataset)[1]
    for axes, i in zip(both, frames, strict=True):
        back = np.asarray(dataset.signal("height_retrace", i, i + 1)[0], np.float64)
        profiles(
            axes,
            np.asarray(x, np.float64),
            {
                "felt by the tip": (c.felt_nm[i, row], {"color": INK, "linewidth": 2.2}),
                "trace →": (c.recorded_nm[i, row], {"color": BLUE, "linewidth": 1.1}),
                "retrace ←": (back[row], {"color": ORANGE, "linewidth": 1.1, "linestyle": "--"}),
                "corrected": (c.found_nm[i, row], {"color": GREEN, "linewidth": 1.1}),
            },
        )
        axes.set_title(f"{c.line_rate_hz[i]:g} lines/s", fontsize=10)
    lag = 1e3 * float(c.true_lag_s[frames[-1]])
    caption = (
        "The same row at two speeds. Trace and retrace lie apart by twice the loop's lag, "
        f"{lag:.3g} ms, which is the longer a way the faster the tip runs; the fast one also "
        "rounds off what it has no time to climb. The corrected heights (green) lie on what the "
        "tip felt (black)."
    )
    return Plate("Profiles", caption, figure, wide=True)


def _shares(dataset: Observed, c: Comparison) -> Plate:
    figure, axes = plot(8.6, 4.0)
    knots = _knots_s(dataset, c)
    colours = (BLUE, SKY, GREEN, ORANGE, RED, INK)
    order = np.argsort(c.line_rate_hz)
    for place, i in enumerate(order):
        power, f = _power(c.found_nm[i], float(knots[i]))
        left, _ = _power(c.found_nm[i] - c.recorded_nm[i], float(knots[i]))
        # Where a row has nothing but noise, the ratio tells nothing.
        told = power > 100 * c.limit_nm[i] ** 2
        told[:3] = False  # leaked over from the mean
        axes.plot(f[told], np.sqrt(left[told] / power[told]), "o", markersize=3.5,
                  color=colours[place % len(colours)],
                  label=f"{c.line_rate_hz[i]:g} lines/s")  # fmt: skip
    corner = 1 / (2 * np.pi * float(np.median(c.true_lag_s)))
    low = min(float(1 / (k * c.felt_nm.shape[2])) for k in knots)
    f = np.geomspace(low, max(0.5 / knots.min(), 2 * corner), 200)
    axes.plot(f, f / np.hypot(f, corner), color=INK, linewidth=1.2, label="f / √(f² + f$_c$²)")
    axes.axvline(corner, color=RED, linestyle=":", linewidth=0.9)
    axes.annotate(f"f$_c$ = {corner:.3g} Hz", (corner, 0.03), xycoords=("data", "axes fraction"),
                  xytext=(4, 0), textcoords="offset points", color=RED, fontsize=9)  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("frequency at which the surface moves the tip: speed / wavelength (Hz)")
    axes.set_ylabel("share that the trace lacks")
    axes.legend(fontsize=8.5, frameon=False, ncols=2)
    caption = (
        "What the recorded trace lacks of the corrected surface, wave by wave. A wave of the "
        "surface moves the tip the more often the faster it is scanned; drawn against that "
        "frequency all speeds fall on the one curve of an integral loop (black): only its "
        "corner Ki / 2π counts."
    )
    return Plate("One curve for all speeds", caption, figure, wide=True)

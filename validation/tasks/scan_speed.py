"""The task scan-speed: what a loop loses as the scan gets faster, and what can be put back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nanophantom.validation.loop_grading import (
    images_of,
    noise_limit_nm,
    of_each_frame,
    rms,
    truth_of,
    whole_maps,
)
from nanophantom.validation.task import Estimates, Score, Scores, Task, require_tables

if TYPE_CHECKING:
    from nanophantom.validation.drawing import Plate
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]

TOLERABLE_NM = 1.0
"""The fastest line rate is that at which heights are off by so much, root mean square."""


class ScanSpeed(Task):
    """Measure what the loop lost at each line rate, and put it back."""

    name = "scan-speed"
    title = "Speed of the scan"
    default_algorithm = "nanophantom.analysis.scan_speed:measure"
    inputs = ("height", "height_retrace", "error", "error_retrace")
    withheld = ("integral_per_s", "proportional")
    needs = ("loop",)
    needs_because = "they come from the instrument afm, whose loop follows the surface"
    columns = ("frame", "row", "column", "height_nm", "lag_s", "height_error_nm")
    contract = f"""\
measure(height, height_retrace, error, error_retrace, settings)
    -> {{"frame": (n,), "row": (n,), "column": (n,), "height_nm": (n,), "lag_s": (n,),
        "height_error_nm": (n,)}}

Receives
  height, height_retrace  nm, shape (frames, ny, nx): the same area at different line rates, there
                  and back, both stored from left to right
  error, error_retrace    deflection (contact mode) or amplitude (tapping) less its set point, nm
  settings        a dict of nominal values: mode, line_rate_hz, slow_axis and setpoint_nm of each
                  frame, knots_a_line (pixels from one line to the next, turns included),
                  pixel_size_nm, pixel_size_y_nm ...; the gains of the loop aren't told
Returns one row for every pixel of every frame
  frame, row, column  which pixel
  height_nm       of the surface as the tip felt it on the way there, corrected for the loop
  lag_s           time constant of the loop in that frame, by which it trails a slope
  height_error_nm root mean square error of the recorded trace (not of height_nm) in that frame, as
                  the algorithm estimates it
Scored
  rmse = root mean square difference of height_nm from what the tip felt, in all frames, in the
  slowest and in the fastest; the limit beside it is the noise of a pixel, averaged over both ways.
  lag_error = relative error of lag_s against 1 / Ki, root mean square over frames; stated_error =
  the same of ln(height_error_nm / true error of the trace). rate_error = relative error of the
  fastest line rate at which the recorded trace is off by less than {TOLERABLE_NM:g} nm, read
  between the frames of height_error_nm against line rate (both on logarithmic scales); reach = that
  line rate for the corrected heights, at most the fastest there is.
"""

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade heights, lags and stated errors."""
        return _scores(self.name, self.compare(estimates, dataset))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw errors against line rate, images, profiles and what a loop lets pass."""
        from nanophantom.validation import scan_speed_figures

        return scan_speed_figures.of_scan_speed(dataset, self.compare(estimates, dataset))

    def compare(self, estimates: Estimates, dataset: Observed) -> Comparison:
        """Put answers beside the truth: the ground of scores and figures."""
        found = self.read(estimates)
        loop = require_tables(self, dataset, ("loop",))["loop"]
        recorded = images_of(dataset, "height")
        row = whole_maps(self.name, found, recorded.shape)
        lag_s, stated = (
            of_each_frame(self.name, name, found[name][row])
            for name in ("lag_s", "height_error_nm")
        )
        return Comparison(
            line_rate_hz=np.asarray(loop["line_rate_hz"], np.float64),
            recorded_nm=recorded,
            found_nm=found["height_nm"][row],
            felt_nm=truth_of(dataset, "felt"),
            lag_s=lag_s,
            true_lag_s=1 / np.asarray(loop["integral_per_s"], np.float64),
            stated_nm=stated,
            limit_nm=noise_limit_nm(dataset),
        )


@dataclass(frozen=True, eq=False)
class Comparison:
    """Answers beside truth; the frames in their order in time."""

    line_rate_hz: Floats
    """(frames,)"""
    recorded_nm: Floats
    """(frames, ny, nx)"""
    found_nm: Floats
    felt_nm: Floats
    lag_s: Floats
    true_lag_s: Floats
    stated_nm: Floats
    """What the algorithm takes the error of the recorded trace for, (frames,)."""
    limit_nm: Floats
    """Noise of a pixel, both ways averaged, (frames,)."""

    @property
    def recorded_error_nm(self) -> Floats:
        """Root mean square error of the recorded trace, (frames,)."""
        return rms(self.recorded_nm - self.felt_nm)

    @property
    def found_error_nm(self) -> Floats:
        """Root mean square error of the corrected heights, (frames,)."""
        return rms(self.found_nm - self.felt_nm)


def fastest_hz(line_rate_hz: Floats, error_nm: Floats) -> tuple[float | None, bool]:
    """Return the line rate up to which errors stay tolerable, and whether it lies in the series.

    None where even the slowest frame is off by more; the fastest of all where none is. Between two
    frames the logarithm of the error goes evenly with that of the rate.
    """
    order = np.argsort(line_rate_hz)
    rate, error = line_rate_hz[order], np.maximum(error_nm[order], 1e-12)
    over = np.flatnonzero(error >= TOLERABLE_NM)
    if not len(over):
        return float(rate[-1]), False
    i = int(over[0])
    if i == 0:
        return None, False
    logs = np.log(error[i - 1 : i + 1])
    share = (np.log(TOLERABLE_NM) - logs[0]) / (logs[1] - logs[0])
    return float(rate[i - 1] * (rate[i] / rate[i - 1]) ** share), True


def _scores(task: str, c: Comparison) -> Scores:
    error = c.found_nm - c.felt_nm
    pixels, frames = error[0].size, len(error)
    total, before = (float(np.sqrt(np.mean(e**2))) for e in (error, c.recorded_nm - c.felt_nm))
    lag = c.lag_s / c.true_lag_s - 1
    stated = np.log(np.maximum(c.stated_nm, 1e-12) / c.recorded_error_nm)
    far = ", ".join(f"{100 * e:+.2g} %" for e in lag)
    scores = [
        Score("rmse", total, error.size, "lower", "nm", bias=float(error.mean()),
              limit=float(np.sqrt(np.mean(c.limit_nm**2))), spread=float(error.std()),
              hint=f"typical error of the corrected heights; as recorded they are {before:.3g} nm "
                   "off"),
        *(
            Score("rmse", float(c.found_error_nm[i]), pixels, "lower", "nm", group=name,
                  limit=float(c.limit_nm[i]), hint=f"the frame at {c.line_rate_hz[i]:g} Hz, "
                  f"{c.recorded_error_nm[i]:.3g} nm off as recorded")
            for name, i in (("slowest", int(np.argmin(c.line_rate_hz))),
                            ("fastest", int(np.argmax(c.line_rate_hz))))
        ),
        Score("lag_error", float(np.sqrt(np.mean(lag**2))), frames, "lower",
              hint=f"time constant of the loop against 1 / Ki, frame by frame: {far}"),
        Score("stated_error", float(np.sqrt(np.mean(stated**2))), frames, "lower",
              hint="how far the algorithm's own error of the recorded trace is from the true one, "
                   "as a natural logarithm"),
        *_rates(c),
    ]  # fmt: skip
    every = "; ".join(
        f"{rate:g} Hz {raw:.3g} → {now:.3g} nm"
        for rate, raw, now in zip(
            c.line_rate_hz, c.recorded_error_nm, c.found_error_nm, strict=True
        )
    )
    notes = (
        f"Error of the trace as recorded, and of the corrected heights: {every}.",
        "The limit is the noise of one pixel, averaged over trace and retrace, for an algorithm "
        "that assumes nothing on how smooth the surface is.",
        "Heights are graded against what the tip felt: the surface widened by the tip's own shape "
        "isn't an error of the loop.",
    )
    return Scores(task, tuple(scores), notes)


def _rates(c: Comparison) -> tuple[Score, Score]:
    true, inside = fastest_hz(c.line_rate_hz, c.recorded_error_nm)
    said, said_inside = fastest_hz(c.line_rate_hz, c.stated_nm)
    error, hint = None, f"recorded heights pass {TOLERABLE_NM:g} nm at no line rate of the series"
    if true is not None and inside:
        hint = f"recorded heights are off by less than {TOLERABLE_NM:g} nm up to {true:.3g} Hz; "
        if said is not None and said_inside:
            error, hint = abs(said / true - 1), hint + f"the algorithm says {said:.3g} Hz"
        else:
            hint += "the algorithm names no rate within the series"
    reach, ends = fastest_hz(c.line_rate_hz, c.found_error_nm)
    least = "" if ends or reach is None else ", the fastest of the series"
    return (
        Score("rate_error", error, 1 if error is not None else 0, "lower", hint=hint),
        Score("reach", reach, 1 if reach is not None else 0, "higher", "Hz",
              hint=f"corrected heights are off by less than {TOLERABLE_NM:g} nm up to this line "
                   f"rate{least}" if reach is not None else "not even the slowest frame is good "
                   f"to {TOLERABLE_NM:g} nm"),
    )  # fmt: skip

"""The task tapping-tails: where a tapping tip flew behind a step, and what lies there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.step_height import grooves
from nanophantom.analysis.tapping_tails import DEEP, mean_flight
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
Bools = npt.NDArray[np.bool_]

TOLERANCE_NM = 1.0
"""A recorded height isn't to be trusted if the loop has it wrong by more."""
BOTTOM_NM = 0.5
"""A row goes through a pit if it reaches the lowest level of the surface to this."""


class TappingTails(Task):
    """Find the tails behind steps that a tapping tip flew over, and what lies under them."""

    name = "tapping-tails"
    title = "Tails behind steps"
    default_algorithm = "nanophantom.analysis.tapping_tails:correct"
    inputs = ("height", "height_retrace", "error", "error_retrace", "phase", "phase_retrace")
    needs = ("loop", "surface")
    needs_because = "they come from the instrument afm in tapping mode"
    columns = ("frame", "row", "column", "tail", "height_nm", "tail_length_nm")
    contract = f"""\
correct(height, height_retrace, error, error_retrace, phase, phase_retrace, settings)
    -> {{"frame": (n,), "row": (n,), "column": (n,), "tail": (n,), "height_nm": (n,),
        "tail_length_nm": (n,)}}

Receives
  height, height_retrace  nm, shape (frames, ny, nx): the same area with different set points, there
                  and back, both stored from left to right
  error, error_retrace    amplitude less its set point, nm
  phase, phase_retrace    lag of the lever, degrees; 90 for a free one
  settings        a dict of nominal values: free_amplitude_nm, setpoint_nm, integral_per_s,
                  line_rate_hz and slow_axis of each frame, knots_a_line, pixel_size_nm ...
Returns one row for every pixel of every frame
  frame, row, column  which pixel
  tail            1 where the recorded trace isn't to be trusted, 0 elsewhere
  height_nm       of the surface as the tip felt it on the way there
  tail_length_nm  the mean way, on the trace of that frame, that the tip flies behind the deepest
                  steps down ({100 * DEEP:g} % of the deepest one, or more) before it lands; 0 if
                  it doesn't
Scored
  f1, precision, recall of tail against the pixels where the stage was more than {TOLERANCE_NM:g} nm
  away from where it should have been over what the tip felt. rmse = root mean square difference of
  height_nm from what the tip felt, in all pixels; tail_rmse = the same in true tails. step_error =
  difference of the depth of pits, measured in height_nm after ISO 5436-1, from that measured in
  what the tip felt, root mean square over frames. length_error = relative error of tail_length_nm
  against the mean length of the runs in which the tip was farther from the surface than its
  amplitude can tell, root mean square over the frames that have such.
"""

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade tails, heights and lengths."""
        return _scores(self.name, self.compare(estimates, dataset))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw images, tails, profiles and lengths."""
        from nanophantom.validation import tapping_tails_figures

        return tapping_tails_figures.of_tails(dataset, self.compare(estimates, dataset))

    def compare(self, estimates: Estimates, dataset: Observed) -> Comparison:
        """Put answers beside the truth: the ground of scores and figures."""
        found = self.read(estimates)
        tables = require_tables(self, dataset, ("loop", "surface"))
        if "free_amplitude_nm" not in dataset.settings:
            raise ValueError(f"task {self.name} is about tapping, not about contact mode")
        recorded = images_of(dataset, "height")
        row = whole_maps(self.name, found, recorded.shape)
        tail = found["tail"][row]
        if np.any((tail != 0) & (tail != 1)):
            raise ValueError(f"task {self.name} wants tail to be 0 or 1")
        loop, image = tables["loop"], np.asarray(tables["surface"]["image_nm"], np.float64)
        setpoint = np.asarray(loop["setpoint_nm"], np.float64)
        free = float(dataset.settings["free_amplitude_nm"])
        felt, stage = truth_of(dataset, "felt"), truth_of(dataset, "path_z")
        pixel = float(dataset.settings["pixel_size_nm"])
        room = free - setpoint
        flights = [
            pixel * mean_flight(z - f > r, z, r) for z, f, r in zip(stage, felt, room, strict=True)
        ]
        lowest = image.min(axis=1) < image.min() + BOTTOM_NM
        inner = lowest & np.roll(lowest, 1) & np.roll(lowest, -1)
        return Comparison(
            setpoint_percent=100 * setpoint / free,
            room_nm=room,
            recorded_nm=recorded,
            found_nm=found["height_nm"][row],
            felt_nm=felt,
            off_nm=stage - felt,
            tail=tail == 1,
            length_nm=of_each_frame(self.name, "tail_length_nm", found["tail_length_nm"][row]),
            true_length_nm=np.array(flights),
            relief_nm=float(np.ptp(image)),
            expected_length_nm=expected_length_nm(
                float(np.ptp(image)),
                room,
                np.asarray(loop["integral_per_s"], np.float64),
                np.asarray(loop["speed_nm_per_s"], np.float64),
            ),
            limit_nm=noise_limit_nm(dataset),
            rows=inner if np.sum(inner) >= 3 else lowest,
            pixel_nm=(float(dataset.settings["pixel_size_y_nm"]), pixel),
        )


@dataclass(frozen=True, eq=False)
class Comparison:
    """Answers beside truth."""

    setpoint_percent: Floats
    """Of the free amplitude, (frames,)."""
    room_nm: Floats
    """By how much the amplitude can grow over the set point, A0 - Asp, (frames,)."""
    recorded_nm: Floats
    """(frames, ny, nx)"""
    found_nm: Floats
    felt_nm: Floats
    off_nm: Floats
    """Stage without noise over what the tip felt, (frames, ny, nx)."""
    tail: Bools
    """What the algorithm doesn't trust, (frames, ny, nx)."""
    length_nm: Floats
    """Of tails: found, true and expected, (frames,)."""
    true_length_nm: Floats
    expected_length_nm: Floats
    relief_nm: float
    """Of the surface, from its lowest to its highest."""
    limit_nm: Floats
    """Noise of a pixel, both ways averaged, (frames,)."""
    rows: Bools
    """Rows that go through pits, (ny,)."""
    pixel_nm: tuple[float, float]
    """Along y and x."""

    @property
    def true_tail(self) -> Bools:
        """Where the recorded trace is wrong."""
        return np.asarray(np.abs(self.off_nm) > TOLERANCE_NM)

    def depth_nm(self, heights_nm: Floats) -> float | None:
        """Return the mean depth of pits in one image after ISO 5436-1; None if there are none."""
        try:
            found = grooves(heights_nm[self.rows], self.pixel_nm, direction_deg=0.0)
        except ValueError:
            return None
        depths = [-groove.height_nm for groove in found if groove.height_nm < 0]
        return float(np.mean(depths)) if depths else None


def expected_length_nm(
    depth_nm: float, room_nm: Floats, integral_per_s: Floats, speed_nm_per_s: Floats
) -> Floats:
    """Return how far a tip flies behind an upright step down.

    The error can't exceed A0 - Asp, so an integral loop comes down at Ki (A0 - Asp); that much
    over the floor the tip touches: ``v (h - (A0 - Asp)) / (Ki (A0 - Asp))``
    (R. Garcia, Amplitude Modulation AFM, Wiley 2010).
    """
    fall = np.maximum(depth_nm - room_nm, 0.0)
    return np.asarray(speed_nm_per_s * fall / (integral_per_s * room_nm))


def _scores(task: str, c: Comparison) -> Scores:
    true, error = c.true_tail, c.found_nm - c.felt_nm
    names = [f"{percent:g} %" for percent in c.setpoint_percent]
    apart = 1 < len(names) == len(set(names))
    f1, precision, recall = _agreement(c.tail, true)
    raw = float(np.sqrt(np.mean((c.recorded_nm - c.felt_nm) ** 2)))
    scores = [
        Score("f1", f1, int(true.sum()), "higher",
              hint="harmonic mean of precision and recall of the tails"),
        *(
            Score("f1", _agreement(c.tail[i], true[i])[0], int(true[i].sum()), "higher",
                  group=name, hint=f"{100 * true[i].mean():.2g} % of the pixels are in tails")
            for i, name in enumerate(names) if apart
        ),
        Score("precision", precision, int(c.tail.sum()), "higher",
              hint="share of the pixels called tails that are"),
        Score("recall", recall, int(true.sum()), "higher",
              hint="share of the pixels in tails that are found"),
        Score("rmse", float(np.sqrt(np.mean(error**2))), error.size, "lower", "nm",
              limit=float(np.sqrt(np.mean(c.limit_nm**2))), bias=float(error.mean()),
              spread=float(error.std()),
              hint=f"typical error of the corrected heights; as recorded {raw:.3g} nm"),
        *(
            Score("rmse", float(rms(error)[i]), error[i].size, "lower", "nm", group=name,
                  limit=float(c.limit_nm[i]),
                  hint=f"{float(rms(c.recorded_nm - c.felt_nm)[i]):.3g} nm as recorded")
            for i, name in enumerate(names) if apart
        ),
        *_in_tails(c),
        *_steps(c, names if apart else []),
        *_lengths(c, names if apart else []),
    ]  # fmt: skip
    lengths = "; ".join(
        f"{name} {found:.3g} nm (true {real:.3g}, closed form {form:.3g})"
        for name, found, real, form in zip(
            names, c.length_nm, c.true_length_nm, c.expected_length_nm, strict=True
        )
    )
    notes = (
        f"Length of tails by set point: {lengths}. The closed form, v (h − (A0 − Asp)) / "
        "(Ki (A0 − Asp)), is of an upright step and an amplitude that is free at once.",
        "The limit is the noise of one pixel, averaged over trace and retrace. Nothing was "
        "measured under a tail of both ways, nor where a wall stills the lever (error of −Asp), "
        "nor between the rows on which trace and retrace pass the edge of a pit.",
        "Heights are graded against what the tip felt: the surface widened by the tip's own shape "
        "isn't an error of the loop.",
    )
    return Scores(task, tuple(scores), notes)


def _agreement(found: Bools, true: Bools) -> tuple[float | None, float | None, float | None]:
    """Return F1, precision and recall; None where they aren't defined."""
    both, called, real = int((found & true).sum()), int(found.sum()), int(true.sum())
    f1 = 2 * both / (called + real) if called + real else None
    return f1, both / called if called else None, both / real if real else None


def _in_tails(c: Comparison) -> list[Score]:
    true = c.true_tail
    if not true.any():
        return [Score("tail_rmse", None, 0, "lower", "nm", hint="there are no tails")]
    now, before = (
        float(np.sqrt(np.mean((heights - c.felt_nm)[true] ** 2)))
        for heights in (c.found_nm, c.recorded_nm)
    )
    hint = f"typical error of the corrected heights under tails; {before:.3g} nm as recorded"
    return [Score("tail_rmse", now, int(true.sum()), "lower", "nm", hint=hint)]


def _steps(c: Comparison, names: list[str]) -> list[Score]:
    errors, told = [], []
    for found, recorded, felt in zip(c.found_nm, c.recorded_nm, c.felt_nm, strict=True):
        now, before, true = (c.depth_nm(image) for image in (found, recorded, felt))
        errors.append(None if now is None or true is None else now - true)
        told.append(f"depth {_nm(now)}, {_nm(before)} as recorded, {_nm(true)} as the tip felt it")
    known = np.array([e for e in errors if e is not None])
    whole = float(np.sqrt(np.mean(known**2))) if len(known) == len(errors) else None
    hint = "error of the depth of pits after ISO 5436-1, over all frames"
    if whole is None:
        hint = f"not defined: pits weren't found in {len(errors) - len(known)} frames"
    return [
        Score("step_error", whole, len(known), "lower", "nm", hint=hint),
        *(
            Score("step_error", None if error is None else abs(error), int(error is not None),
                  "lower", "nm", group=name, hint=hint)
            for name, error, hint in zip(names, errors, told, strict=False)
        ),
    ]  # fmt: skip


def _lengths(c: Comparison, names: list[str]) -> list[Score]:
    flies = c.true_length_nm > 0
    relative = np.abs(c.length_nm / np.where(flies, c.true_length_nm, 1.0) - 1)
    whole = float(np.sqrt(np.mean(relative[flies] ** 2))) if flies.any() else None
    hint = "relative error of the length of tails" if flies.any() else "the tip never flies"
    return [
        Score("length_error", whole, int(flies.sum()), "lower", hint=hint),
        *(
            Score("length_error", float(relative[i]) if flies[i] else None, int(flies[i]), "lower",
                  group=name, hint=f"found {_nm(c.length_nm[i])}, true {_nm(c.true_length_nm[i])}")
            for i, name in enumerate(names)
        ),
    ]  # fmt: skip


def _nm(value: float | None) -> str:
    return "not found" if value is None else f"{value:.3g} nm"

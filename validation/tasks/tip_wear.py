"""The task tip-wear: the life of a tip, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nanophantom.validation.task import Estimates, Score, Scores, Task, require_tables
from nanophantom.validation.true_tips import FIT_DEPTH_NM, radius_of, true_tip

if TYPE_CHECKING:
    from nanophantom.validation.drawing import Plate
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

SUDDEN_NM = 0.5
"""An accident that changes the tip's length by less isn't asked for."""


class TipWear(Task):
    """Follow a tip through frames that wear it: its radius, its length, its accidents."""

    name = "tip-wear"
    title = "The life of the tip"
    default_algorithm = "nanophantom.analysis.tip_wear:find"
    inputs = ("height", "height_retrace")
    needs = ("tip_frames", "tip_lines", "tip_events")
    needs_because = "they are those of images by a force microscope"
    columns = ("frame", "radius_nm", "event")
    optional_columns = ("sigma_nm", "shortened_nm")
    contract = f"""\
find(height, height_retrace, settings) -> equally long 1-D columns "frame", "radius_nm", "event";
optional "sigma_nm", "shortened_nm"

Receives
  height, height_retrace  recorded heights in nm, shape (frames, ny, nx), both ways stored from
                          left to right
  settings                a dict of nominal values: pixel_size_nm, pixel_size_y_nm, slow_axis,
                          line_rate_hz, frame_starts_s, setpoint_nm ... and tip, as it was
                          characterised when new
Returns
  frame                   which frame, counted from 0; each at most once
  radius_nm               of the sphere fitted to the top {FIT_DEPTH_NM:g} nm of the tip, amid the
                          frame
  event                   1 if the tip changed suddenly during the frame (or just before), else 0
  sigma_nm                standard uncertainty of the radius (optional)
  shortened_nm            how much shorter the tip is, amid the frame, than at the beginning
                          (optional)
Scored
  radius_rmse = root mean square error of the radii; radius_final = error of the last frame that
  was answered; events_found = share of the frames with an accident that were named, of accidents
  that change the tip's length by {SUDDEN_NM:g} nm or more; events_right = share of the named frames
  that had an accident of any size; shortened_rmse; answered = share of the frames; coverage =
  share of the true radii within 1.96 sigma_nm.
"""

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade the trajectory and the accidents."""
        return _scores(self.name, self.compare(estimates, dataset))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw radius and length against the way, first and last images and tips."""
        from nanophantom.validation import tip_figures

        return tip_figures.of_wear(dataset, self.compare(estimates, dataset))

    def compare(self, estimates: Estimates, dataset: Observed) -> Comparison:
        """Put answers beside the truth: the ground of scores and figures."""
        found = self.read(estimates)
        frame, n = found["frame"], dataset.n_frames
        if np.any(frame != np.rint(frame)) or np.any((frame < 0) | (frame >= n)):
            raise ValueError(f"task {self.name} wants frame to be whole, from 0 to {n - 1}")
        if len(np.unique(frame)) < len(frame):
            raise ValueError(f"task {self.name} wants each frame at most once")
        if not np.isin(found["event"], (0, 1)).all():
            raise ValueError(f"task {self.name} wants event to be 0 or 1")
        for name in ("radius_nm", "sigma_nm"):
            if name in found and (found[name] <= 0).any():
                raise ValueError(
                    f"task {self.name} wants {name} above zero, got {found[name].min():g}"
                )
        tables = require_tables(self, dataset, self.needs)
        shapes, lines, events = (tables[name] for name in self.needs)
        # A tip that doesn't change is told once.
        radii = [radius_of(true_tip(shapes, k)) for k in range(len(shapes["height_nm"]))]
        radius = np.array([np.nan if r is None else r for r in radii])
        a_frame = len(lines["line"]) // n
        amid = np.arange(n) * a_frame + a_frame // 2
        any_size, sudden = np.zeros((2, n), np.bool_)
        hit = np.minimum(np.asarray(events["line"], np.int64) // a_frame, n - 1)
        any_size[hit] = True
        sudden[hit[np.abs(np.asarray(events["shortened_nm"], np.float64)) >= SUDDEN_NM]] = True
        order = np.argsort(frame)
        return Comparison(
            frame=frame[order].astype(np.int64),
            radius_nm=found["radius_nm"][order],
            event=found["event"][order] == 1,
            sigma_nm=found["sigma_nm"][order] if "sigma_nm" in found else None,
            shortened_nm=found["shortened_nm"][order] if "shortened_nm" in found else None,
            true_radius_nm=np.broadcast_to(radius, n) if len(radius) == 1 else radius,
            true_shortened_nm=np.asarray(lines["shortened_nm"], np.float64)[amid],
            distance_um=1e-3 * np.asarray(lines["distance_nm"], np.float64)[amid],
            true_event=any_size,
            true_sudden=sudden,
        )


@dataclass(frozen=True, eq=False)
class Comparison:
    """Answers, in the order of frames, beside the truth of every frame, (frames,)."""

    frame: Ints
    """Which frame each answer is about, (answers,)."""
    radius_nm: Floats
    event: Bools
    sigma_nm: Floats | None
    shortened_nm: Floats | None
    true_radius_nm: Floats
    """NaN where the top is too sharp to have one."""
    true_shortened_nm: Floats
    distance_um: Floats
    """Way that the tip has slid, amid each frame."""
    true_event: Bools
    """Whether there was an accident."""
    true_sudden: Bools
    """Whether there was one that changed the tip's length."""

    @property
    def error_nm(self) -> Floats:
        """Found minus true radius of the answers; NaN where there is no true one."""
        return self.radius_nm - self.true_radius_nm[self.frame]


def _scores(task: str, c: Comparison) -> Scores:
    frames, answers = len(c.true_radius_nm), len(c.frame)
    told = f"{answers} of the {frames} frames were answered"
    answered = Score("answered", answers / frames, frames, "higher", hint=told)
    known = np.isfinite(c.error_nm)
    error = c.error_nm[known]
    if not len(error):
        hint = "not defined: there are no answers"
        return Scores(task, (Score("radius_rmse", None, 0, "lower", "nm", hint=hint), answered))
    bias, spread = float(error.mean()), float(error.std())
    coverage = None
    if c.sigma_nm is not None:
        coverage = float(np.mean(np.abs(error) <= 1.96 * c.sigma_nm[known]))
    way = "blunter" if bias > 0 else "sharper"
    true = c.true_radius_nm[c.frame][known]
    scores = [
        Score("radius_rmse", float(np.sqrt(np.mean(error**2))), len(error), "lower", "nm",
              bias=bias, spread=spread, coverage=coverage,
              hint="typical error of the radius, which is truly "
              f"{true.min():.3g} to {true.max():.3g} nm; on average the tip is found "
              f"{abs(bias):.2g} nm {way} than it is"),
        Score("radius_final", float(abs(error[-1])), 1, "lower", "nm", bias=float(error[-1]),
              hint=f"the last frame's: found {c.radius_nm[known][-1]:.3g} nm, "
              f"true {true[-1]:.3g} nm"),
        *_events(c),
    ]  # fmt: skip
    if c.shortened_nm is not None:
        off = c.shortened_nm - c.true_shortened_nm[c.frame]
        scores.append(
            Score("shortened_rmse", float(np.sqrt(np.mean(off**2))), answers, "lower", "nm",
                  bias=float(off.mean()), spread=float(off.std()),
                  hint="typical error of how much shorter the tip has become")
        )  # fmt: skip
    scores.append(answered)
    if coverage is not None:
        hint = "0.95 if the quoted uncertainties are honest; less: too sure, more: too cautious"
        scores.append(Score("coverage", coverage, len(error), "higher", hint=hint))
    notes = (
        f"A radius is that of the sphere fitted to the tip's top {FIT_DEPTH_NM:g} nm, found and "
        "true alike. A worn tip ends in a flat: it has no radius in a stricter sense. Its truth is "
        "the tip at the middle line of a frame.",
        "There is no limit beside the radius: how near one can come depends on how sharp the "
        "specimen's own features are, and nobody is told.",
    )
    return Scores(task, tuple(scores), notes)


def _events(c: Comparison) -> list[Score]:
    """Grade which frames were said to have had an accident."""
    named = np.zeros(len(c.true_radius_nm), np.bool_)
    named[c.frame[c.event]] = True
    sudden, claims = int(c.true_sudden.sum()), int(named.sum())
    found, right = int((named & c.true_sudden).sum()), int((named & c.true_event).sum())
    return [
        Score("events_found", found / sudden if sudden else None, sudden, "higher",
              hint=f"{found} of the {sudden} frames with a sudden change of the tip's length were "
              "named" if sudden else "not defined: nothing sudden happened to the tip"),
        Score("events_right", right / claims if claims else None, claims, "higher",
              hint=f"{right} of the {claims} frames that were named had an accident"
              if claims else "not defined: no frame was named"),
    ]  # fmt: skip

"""The task labelling: how wide labelled tubes look, and how many dyes are on them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from nanophantom.analysis.tube_map import Line
from nanophantom.validation.task import Estimates, Score, Scores, Task, require_tables
from nanophantom.validation.tube_truth import TrueTubes, Tubes

if TYPE_CHECKING:
    from nanophantom.validation.drawing import Plate
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]

MATCH_NM = 50.0
"""An axis no farther away than this, at both ends of the tube in view, is the tube's."""
LEAST_UM = 1.0
"""Tubes of which less is in view aren't asked for."""


class Labelling(Task):
    """Measure labelled tubes: axis, width of the tube of dyes, dyes on a micrometre."""

    name = "labelling"
    title = "What labelling makes of a structure"
    default_algorithm = "nanophantom.analysis.tube_map:find"
    inputs = ("movie",)
    needs = ("dyes", "blinks", "drift", "view", "specimen_tubes")
    needs_because = "they come from the instrument smlm and the sample microtubules, straight ones"
    columns = ("x_nm", "y_nm", "angle_deg", "diameter_nm")
    optional_columns = ("diameter_error_nm", "dyes_per_um", "bursts_per_um")
    contract = f"""\
find(movie, settings)
  -> {{"x_nm": (n,), "y_nm": (n,), "angle_deg": (n,), "diameter_nm": (n,), optional
      "diameter_error_nm", "dyes_per_um", "bursts_per_um": (n,)}}

Receives
  movie           ADU, shape (frames, ny, nx); sliced along the frames it is read from disk
  settings        a dict of nominal values: pixel_size_nm, psf_sigma_nm, exposure_s,
                  frame_period_s, camera, dye_kinetics (on_time_s, off_time_s, photons_per_burst,
                  bursts_per_dye, as calibrated); see the task localization
Returns, one row a straight tube
  x_nm, y_nm      any point of its axis, as it lies on average over the movie; from the centre of
                  pixel (0, 0), y points down
  angle_deg       direction of the axis, from +x towards +y; 180 more is the same
  diameter_nm     of the tube of dyes: twice the root mean square distance of dyes from the axis,
                  the errors of localization taken off
  diameter_error_nm
                  its standard uncertainty
  dyes_per_um     dyes on a micrometre of the tube, those that stayed dark too
  bursts_per_um   it is only told beside the truth
Scored
  An axis matches a tube if it passes within {MATCH_NM:g} nm of the true axis at both ends of what
  is in view; tubes with less than {LEAST_UM:g} um in view count neither way. recall, precision, f1;
  axis_rmse, diameter_rmse with bias and coverage against the tube of dyes, dyes_error in percent:
  errors of measuring. linkage = by how much the diameter exceeds the structure's own, dark =
  share of the sites without any dye: errors of labelling, which no algorithm can mend.
"""

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade axes, diameters and dyes against the true ones."""
        return _scores(self.name, self.compare(estimates, dataset))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw the tubes, a piece closely, their cross-section and profile, and their dyes."""
        from nanophantom.validation import tube_figures

        return tube_figures.of_tubes(dataset, self.compare(estimates, dataset))

    def compare(self, estimates: Estimates, dataset: Observed) -> Tubes:
        """Match axes and tubes: the ground of scores and figures."""
        found = self.read(estimates)
        for name in ("diameter_nm", "diameter_error_nm"):
            if name in found and len(found[name]) and not (found[name] > 0).all():
                raise ValueError(f"task {self.name} wants {name} above zero, all of them")
        require_tables(self, dataset, self.needs)
        true = TrueTubes.of(dataset)
        asked = true.length_um >= LEAST_UM
        off = np.full((len(found["x_nm"]), len(true.length_um)), np.inf)
        for i, (x, y, angle) in enumerate(
            zip(found["x_nm"], found["y_nm"], found["angle_deg"], strict=True)
        ):
            line = Line(x, y, math.radians(angle))
            off[i] = np.abs(line.across(true.ends_x_nm, true.ends_y_nm)).max(axis=1)
        cost = np.where(off <= MATCH_NM, off, 1e6)
        i, j = linear_sum_assignment(cost)
        near = cost[i, j] <= MATCH_NM
        i, j = i[near], j[near]
        false = np.ones(len(found["x_nm"]), bool)
        false[i] = False
        return Tubes(found, true, asked, i[asked[j]], j[asked[j]], off[i, j][asked[j]], false)


def _scores(task: str, c: Tubes) -> Scores:
    targets, hits, claims = (
        int(c.asked.sum()),
        len(c.hit_true),
        len(c.hit_true) + int(c.false.sum()),
    )
    scores = [
        Score("f1", 2 * hits / (targets + claims) if targets + claims else None, targets, "higher",
              hint="recall and precision in one (harmonic mean)"),
        Score("recall", hits / targets if targets else None, targets, "higher",
              hint=f"{hits} of {targets} tubes were found"),
        Score("precision", hits / claims if claims else None, claims, "higher",
              hint=f"{hits} of {claims} axes are those of tubes"),
    ]  # fmt: skip
    notes: list[str] = []
    if hits:
        scores += _of_hits(c)
        notes += _notes(c)
    return Scores(task, tuple(scores), tuple(notes))


def _of_hits(c: Tubes) -> list[Score]:
    hits, j = len(c.hit_true), c.hit_true
    error = c.of_hits("diameter_nm") - c.true.dyes_diameter_nm[j]
    quoted = c.found.get("diameter_error_nm")
    coverage = None
    if quoted is not None:
        coverage = float(np.mean(np.abs(error) <= 1.96 * quoted[c.hit_found]))
    scores = [
        Score("axis_rmse", _rms(c.off_nm), hits, "lower", "nm",
              hint="how far off an axis is at the worse of its ends in view"),
        Score("diameter_rmse", _rms(error), hits, "lower", "nm",
              limit=_rms(c.true.diameter_limit_nm[j]), bias=float(error.mean()),
              spread=float(error.std()), coverage=coverage,
              hint="error of measuring: width found against that of the tube of dyes; the limit "
              "is the chance of where its dyes happen to sit"),
    ]  # fmt: skip
    if "dyes_per_um" in c.found:
        true = c.true.dyes_per_um[j]
        relative = 100 * (c.of_hits("dyes_per_um") / true - 1)
        scores.append(
            Score("dyes_error", _rms(relative), hits, "lower", "%",
                  limit=_rms(c.true.dyes_limit_percent[j]), bias=float(relative.mean()),
                  spread=float(relative.std()),
                  hint=f"error of measuring: {c.of_hits('dyes_per_um').mean():.0f} dyes on a "
                  f"micrometre were told, {true.mean():.0f} there are; the limit is the chance of "
                  "how often they blink")
        )  # fmt: skip
    own = float(c.true.diameter_nm[j].mean())
    apparent = float(c.of_hits("diameter_nm").mean())
    scores += [
        Score("linkage", apparent - own, hits, "lower", "nm",
              limit=float((c.true.dyes_diameter_nm - c.true.diameter_nm)[j].mean()),
              hint=f"error of labelling: a tube of {own:.3g} nm looks {apparent:.1f} nm wide; "
              "the limit is what the true dyes give"),
        Score("dark", c.true.dark_share, int(c.true.sites), "lower",
              hint="error of labelling: this share of the sites has no dye that shone"),
    ]  # fmt: skip
    return scores


def _notes(c: Tubes) -> list[str]:
    true = c.true
    return [
        f"Dyes sit {true.offset_nm:.3g} nm from their sites (rms). The outermost make "
        f"a tube of {true.widest_nm:.0f} nm (99 of 100 dyes lie within it), against "
        f"{float(true.diameter_nm.mean()):.3g} nm of the structure: no algorithm can see that from "
        "the movie.",
        f"{100 * true.labelled_share:.1f} % of the sites bear a label, and "
        f"{100 * (1 - true.dark_share):.1f} % a dye that shone. Between two dyes lie "
        f"{1000 / max(float(true.dyes_per_um.mean()), 1e-9):.1f} nm on average along a tube.",
        "The limit of the diameter is the chance of where dyes sit. Spots that overlap on a dense "
        "tube are localized between each other, and crossing tubes are no even background: quoted "
        "uncertainties that leave this out are too small.",
        "Dyes are counted by bursts over the bursts that a dye shows on average; bursts that "
        "overlap on a dense tube are lost to this count.",
    ]


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(values))))

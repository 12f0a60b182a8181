"""The task nuclear-pores: where pores are, how wide, and how many of their copies are labelled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nanophantom.validation.matching import match
from nanophantom.validation.pore_truth import CORNERS, Sighted, TruePores
from nanophantom.validation.task import Estimates, Score, Scores, Task, require_tables

if TYPE_CHECKING:
    from nanophantom.validation.drawing import Plate
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]

MATCH_NM = 50.0
"""A find nearer to a pore's middle than about its radius is that pore."""
FEWEST_CORNERS = 3
"""Pores that show fewer corners make no circle: nobody is asked for them."""
EFFICIENCY = ("efficiency", "efficiency_low", "efficiency_high")


class NuclearPores(Task):
    """Map nuclear pores: middles, diameters, corners, labels, and the labelling efficiency."""

    name = "nuclear-pores"
    title = "Nuclear pores: a ruler, and a measure of labelling"
    default_algorithm = "nanophantom.analysis.pore_map:find"
    inputs = ("movie",)
    needs = ("dyes", "blinks", "drift", "view", "specimen_pores")
    needs_because = "they come from the instrument smlm and the sample nuclear-pores"
    columns = ("x_nm", "y_nm", "diameter_nm", "corners")
    optional_columns = ("diameter_error_nm", "labels", *EFFICIENCY)
    contract = f"""\
find(movie, settings)
  -> {{"x_nm": (n,), "y_nm": (n,), "diameter_nm": (n,), "corners": (n,), optional
      "diameter_error_nm", "labels", "efficiency", "efficiency_low", "efficiency_high": (n,)}}

Receives
  movie           ADU, shape (frames, ny, nx); sliced along the frames it is read from disk
  settings        a dict of nominal values: pixel_size_nm, psf_sigma_nm, exposure_s,
                  frame_period_s, camera, dye_kinetics (on_time_s, off_time_s, photons_per_burst,
                  bursts_per_dye, as calibrated); see the task localization
Returns
  x_nm, y_nm      middle of each pore, as it lies on average over the movie; from the centre of
                  pixel (0, 0), y points down
  diameter_nm     of the circle of Nup96 (not of the dyes, which sit at the end of linkers)
  diameter_error_nm
                  its standard uncertainty
  corners         how many of the eight show a label, 0 to 8
  labels          how many of the pore's 32 copies are labelled
  efficiency      share of all copies in the field that are labelled; efficiency_low and _high are
                  the ends of its 95 % interval. One number, the same in every row
Scored
  A find matches a pore no farther away than {MATCH_NM:g} nm, one to one. Asked for are pores that
  lie wholly in view and show {FEWEST_CORNERS} corners or more; other true pores count neither way.
  recall, precision, f1; centre_rmse; diameter_rmse with bias, spread and coverage of 1.96
  diameter_error_nm; diameter_mean = error of the mean over pores of 5 corners or more;
  corners_exact = share of pores whose corners are counted right, corners_rmse: against the
  corners whose dyes did shine in the movie; labels_rmse; efficiency_error against the share of
  copies of the pores in view that bear a dye, shining or not.
"""

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade pores against the true ones."""
        return _scores(self.name, self.compare(estimates, dataset))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw the map of pores, some of them closely, and the histograms against theory."""
        from nanophantom.validation import pore_figures

        return pore_figures.of_pores(dataset, self.compare(estimates, dataset))

    def compare(self, estimates: Estimates, dataset: Observed) -> Sighted:
        """Match finds and pores: the ground of scores and figures."""
        found = self.read(estimates)
        corners = found["corners"]
        if ((corners != np.rint(corners)) | (corners < 0) | (corners > CORNERS)).any():
            raise ValueError(f"task {self.name} wants corners as whole numbers 0 to {CORNERS}")
        for name in ("diameter_nm", "diameter_error_nm"):
            if name in found and len(corners) and not (found[name] > 0).all():
                raise ValueError(f"task {self.name} wants {name} above zero, all of them")
        told = [name for name in EFFICIENCY if name in found]
        if len(told) not in (0, 1, 3) or told[:1] not in ([], ["efficiency"]):
            raise ValueError(
                f"task {self.name} wants efficiency alone, or with both ends of its interval"
            )
        for name in told:
            if len(corners) and not (np.ptp(found[name]) == 0 and 0 <= found[name][0] <= 1):
                raise ValueError(
                    f"task {self.name} wants {name} as one number from 0 to 1 in every row"
                )
        require_tables(self, dataset, self.needs)
        true = TruePores.of(dataset)
        asked = true.in_view & (true.corners_seen >= FEWEST_CORNERS)
        pairs = match(
            np.column_stack([found["x_nm"], found["y_nm"]]),
            np.column_stack([true.x_nm, true.y_nm]),
            MATCH_NM,
        )
        hit = asked[pairs.true]
        false = np.ones(len(corners), bool)
        false[pairs.found] = False
        return Sighted(found, true, asked, pairs.found[hit], pairs.true[hit], false)


def _scores(task: str, c: Sighted) -> Scores:
    targets, hits = int(c.asked.sum()), len(c.hit_true)
    claims = hits + int(c.false.sum())
    both = 2 * hits / (targets + claims) if targets + claims else None
    scores = [
        Score("f1", both, targets, "higher", hint="recall and precision in one (harmonic mean)"),
        Score("recall", hits / targets if targets else None, targets, "higher",
              hint=f"{hits} of the {targets} pores that can be asked for were found"),
        Score("precision", hits / claims if claims else None, claims, "higher",
              hint=f"{hits} of {claims} finds are pores"),
    ]  # fmt: skip
    left = int((~c.asked).sum())
    notes = [
        f"{left} of {len(c.asked)} pores aren't asked for: they lie across the edge of the view, "
        f"or show fewer than {FEWEST_CORNERS} corners."
    ] if left else []  # fmt: skip
    if hits:
        scores += [*_shapes(c), *_labels(c)]
        notes += _notes(c)
    return Scores(task, tuple(scores), tuple(notes))


def _shapes(c: Sighted) -> list[Score]:
    """Return scores of middles, diameters and corners."""
    hits, j = len(c.hit_true), c.hit_true
    off = np.hypot(c.of_hits("x_nm") - c.true.x_nm[j], c.of_hits("y_nm") - c.true.y_nm[j])
    error = c.of_hits("diameter_nm") - c.true.diameter_nm[j]
    quoted = c.found.get("diameter_error_nm")
    coverage = None
    if quoted is not None:
        coverage = float(np.mean(np.abs(error) <= 1.96 * quoted[c.hit_found]))
    limit = c.true.diameter_limit_nm[j]
    missed = c.of_hits("corners") - c.true.corners_seen[j]
    scores = [
        Score("diameter_rmse", _rms(error), hits, "lower", "nm", limit=_rms(limit),
              bias=float(error.mean()), spread=float(error.std()), coverage=coverage,
              hint="typical error of one pore's diameter; the limit is set by the few labels and "
              "their linkers"),
        Score("centre_rmse", _rms(off), hits, "lower", "nm", limit=_rms(limit) / np.sqrt(2),
              hint="typical distance of a pore's middle from the truth"),
    ]  # fmt: skip
    whole = c.of_hits("corners") >= 5
    if whole.sum() > 1:
        mean = float(error[whole].mean())
        error_of_mean = float(error[whole].std(ddof=1) / np.sqrt(whole.sum()))
        narrower = float((c.true.diameter_nm - c.true.tilted_nm)[j][whole].mean())
        scores.append(
            Score("diameter_mean", abs(mean), int(whole.sum()), "lower", "nm", limit=_rms(limit)
                  / float(np.sqrt(whole.sum())),
                  hint=f"pores are on average {abs(mean):.2f} ± {error_of_mean:.2f} nm too "
                  f"{'wide' if mean > 0 else 'narrow'}; seen from the top, their tilt makes them "
                  f"{narrower:.2f} nm narrower")
        )  # fmt: skip
    scores += [
        Score("corners_exact", float(np.mean(missed == 0)), hits, "higher",
              hint=f"of all corners that did shine, {_net(missed)} on balance"),
        Score("corners_rmse", _rms(missed), hits, "lower", "corners", bias=float(missed.mean()),
              spread=float(missed.std()), hint="typical error of a pore's number of corners"),
    ]  # fmt: skip
    return scores


def _net(missed: Floats) -> str:
    total = int(missed.sum())
    return f"{abs(total)} {'too many' if total > 0 else 'too few'} were counted"


def _labels(c: Sighted) -> list[Score]:
    """Return scores of labels and of their efficiency."""
    scores, true = [], c.true
    if "labels" in c.found:
        error = c.of_hits("labels") - true.labels[c.hit_true]
        scores.append(
            Score("labels_rmse", _rms(error), len(error), "lower", "labels",
                  limit=_rms(true.labels_limit[c.hit_true]), bias=float(error.mean()),
                  spread=float(error.std()),
                  hint="typical error of a pore's number of labels; how often each of them happens "
                  "to burst sets the limit")
        )  # fmt: skip
    told = c.efficiency
    if told is not None:
        p = true.efficiency
        held = None if told.low is None or told.high is None else told.low <= p <= told.high
        quoted = "" if held is None else f" ({told.low:.3f} to {told.high:.3f})"
        scores.append(
            Score("efficiency_error", abs(told.value - p), int(true.in_view.sum()), "lower",
                  limit=true.efficiency_limit, bias=told.value - p,
                  coverage=None if held is None else float(held),
                  hint=f"found {told.value:.3f}{quoted}, truth {p:.3f}; the limit is the standard "
                  "error of a count of corners without error")
        )  # fmt: skip
    return scores


def _notes(c: Sighted) -> list[str]:
    true = c.true
    dark = 1 - true.labels_seen[true.in_view].sum() / max(true.labels[true.in_view].sum(), 1)
    lost = int((true.corners_labelled - true.corners_seen)[true.in_view].sum())
    return [
        f"{100 * dark:.1f} % of the dyes did not shine in the movie (bleached before it, or never "
        f"switched on), which left {lost} labelled corners dark: an efficiency read from corners "
        "alone is too low by as much, unless the dye's kinetics are allowed for.",
        f"Labels sit off their sites by {true.linker_nm:.2g} nm along each axis (rms); that and "
        "the localization error of all of a dye's bursts together are in the limit of diameters, "
        "2 / sqrt(sum of 1 / variance) of a fit that knows every label's site. An unknown "
        "turn of the pore, background and drift are not in it.",
        "Where the efficiency's coverage is told, it is 1 if this one interval held the truth and "
        "0 if not; only many movies tell whether intervals are honest.",
    ]


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(values))))

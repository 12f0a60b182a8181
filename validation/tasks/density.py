"""The task density: what becomes of localizations when more and more molecules shine at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nanophantom.validation.density_scores import (
    ENOUGH,
    NAMES,
    NEAR_SIGMAS,
    OFF_NM,
    REGIMES,
    Curve,
    Series,
    curve,
    falls_below,
    series,
)
from nanophantom.validation.localization_scores import BORDER_SIGMAS, LEAST_SNR, compare
from nanophantom.validation.task import Estimates, Score, Scores, Task, require_tables

if TYPE_CHECKING:
    from nanophantom.validation.drawing import Plate
    from nanophantom.validation.task import Observed


class Density(Task):
    """Find molecules in frames of rising density; one analysis, or several side by side."""

    name = "density"
    title = "Localization against density"
    default_algorithm = "nanophantom.analysis.density_series:both"
    inputs = ("movie",)
    needs = ("dyes", "drift")
    needs_because = "they come from the instrument smlm"
    columns = ("frame", "x_nm", "y_nm")
    optional_columns = ("analysis", "photons", "background", "uncertainty_nm")
    contract = f"""\
both(movie, settings)
  -> {{"frame": (n,), "x_nm": (n,), "y_nm": (n,), optional "analysis", "photons", "background",
      "uncertainty_nm": (n,)}}

Receives
  movie           ADU, shape (frames, ny, nx); sliced along the frames it is read from disk
  settings        a dict of nominal values: pixel_size_nm, psf_sigma_nm, exposure_s, camera, ...
Returns
  frame           whole numbers from 0
  x_nm, y_nm      from the centre of pixel (0, 0), y points down, drift and all
  analysis        0 for one molecule a spot (single), 1 for several (multiple); each is scored for
                  itself. Without it there is one analysis, and names have no .single
  uncertainty_nm  standard uncertainty of x and of y; photons and background aren't scored
Scored
  As in the task localization: the nearest pairs of one frame, up to 250 nm; asked for are emitters
  with a signal-to-noise ratio of at least {LEAST_SNR:g}, at least {BORDER_SIGMAS:g} widths of a spot from the edge.
  The density of a frame is the number of these on a square micrometre.
  density_limit = density at which the Jaccard index falls below {ENOUGH:g}, in emitters per um^2 and
  frame; jaccard, rmse_xy (of the 2-D distance), efficiency = 100 - sqrt((100 - 100 J)^2 + RMSE^2)
  and off_structure = share of finds farther than {OFF_NM:g} nm from every dye, each over frames that
  are _sparse (below 0.4 / um^2), _medium, _dense (from 1.6 / um^2 on); recall of emitters that are
  _alone (no other within 6 widths), _overlapping (another within {NEAR_SIGMAS:g}), _dim (signal-to-noise
  ratio below 10).
"""  # noqa: E501

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade each analysis against what shone in each frame."""
        return _scores(self.name, self.compare(estimates, dataset))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw frames, curves against density, who is found, and the maps of artefacts."""
        from nanophantom.validation import density_figures

        return density_figures.of_density(dataset, self.compare(estimates, dataset))

    def compare(self, estimates: Estimates, dataset: Observed) -> dict[str, Series]:
        """Match each analysis with the emitters: the ground of scores and figures."""
        found = self.read(estimates)
        require_tables(self, dataset, self.needs)
        if "emissions" not in dataset.frame_tables:
            raise ValueError(f"task {self.name} can't grade this dataset: no frame table emissions")
        frame = found["frame"]
        wrong = (frame != np.rint(frame)) | (frame < 0) | (frame >= dataset.n_frames)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise ValueError(
                f"task {self.name} wants whole frames from 0 to {dataset.n_frames - 1}; "
                f"frame[{row}] is {frame[row]:g}"
            )
        quoted = found.get("uncertainty_nm")
        if quoted is not None and not (quoted > 0).all():
            raise ValueError(
                f"task {self.name} wants uncertainty_nm above zero, got {quoted.min():g}"
            )
        if "analysis" not in found:
            return {"": series(compare(found, dataset), dataset)}
        which = found.pop("analysis")
        if not np.isin(which, np.arange(len(NAMES))).all():
            row = int(np.flatnonzero(~np.isin(which, np.arange(len(NAMES))))[0])
            raise ValueError(
                f"task {self.name} wants analysis 0 (single) or 1 (multiple); "
                f"analysis[{row}] is {which[row]:g}"
            )
        return {
            name: series(
                compare({c: v[which == number] for c, v in found.items()}, dataset), dataset
            )
            for number, name in enumerate(NAMES)
        }


def _scores(task: str, by_name: dict[str, Series]) -> Scores:
    scores: list[Score] = []
    curves = {name: curve(one) for name, one in by_name.items()}
    for name, line in curves.items():
        scores.append(_limit(name, line))
    for regime, (low, high) in REGIMES.items():
        for name, one in by_name.items():
            part = curve(one, np.array([low, high]))
            if len(part.density):
                scores += _of_regime(name or None, regime, part)
    for name, one in by_name.items():
        c = one.compared
        dim = c.snr < 2 * LEAST_SNR
        for kind, which, told in (
            ("alone", c.isolated, "no other emitter within 6 widths of a spot"),
            ("overlapping", one.near, f"another within {NEAR_SIGMAS:g} widths of a spot"),
            ("dim", dim, "a signal-to-noise ratio from 5 to 10"),
        ):
            mine = c.asked & which
            if mine.any():
                scores.append(
                    Score(f"recall_{kind}", float(c.hit[mine].mean()), int(mine.sum()), "higher",
                          group=name or None, hint=f"of emitters with {told}")
                )  # fmt: skip
    return Scores(task, tuple(scores), tuple(_notes(by_name, curves)))


def _limit(name: str, line: Curve) -> Score:
    at = falls_below(line.density, line.jaccard)
    top = float(line.density.max(initial=0.0))
    if at is not None:
        hint = f"up to this density the Jaccard index is above {ENOUGH:g}"
    elif len(line.density) and line.jaccard[0] < ENOUGH:
        hint = f"not defined: the Jaccard index is below {ENOUGH:g} at every density"
    else:
        hint = f"not defined: the Jaccard index is above {ENOUGH:g} up to {top:.2g} per µm²"
    return Score("density_limit", at, int(line.n.sum()), "higher", "per µm²",
                 group=name or None, hint=hint)  # fmt: skip


def _of_regime(group: str | None, regime: str, part: Curve) -> list[Score]:
    """Return the scores of frames of similar density, a curve of one point."""
    n, hits, finds = int(part.n[0]), int(part.hits[0]), int(part.finds[0])
    at, bound = part.density[0], float(part.bound_nm[0])
    off, coverage = float(part.off_bound[0]), float(part.coverage[0])
    scores = [
        Score(f"jaccard_{regime}", float(part.jaccard[0]), n, "higher", group=group,
              hint=f"hits over hits, missed and false, at {at:.2g} per µm² on average"),
        Score(f"off_structure_{regime}", float(part.off[0]), finds, "lower", group=group,
              limit=off if np.isfinite(off) else None,
              hint=f"finds more than {OFF_NM:g} nm from every dye, where nothing is: artefacts"),
    ]  # fmt: skip
    if hits:
        scores[1:1] = [
            Score(f"rmse_xy_{regime}", float(part.rmse_nm[0]), hits, "lower", "nm", group=group,
                  limit=bound if np.isfinite(bound) else None,
                  coverage=None if np.isnan(coverage) else coverage,
                  hint="typical distance from the truth; the limit is that of spots alone"),
            Score(f"efficiency_{regime}", float(part.efficiency[0]), hits, "higher", "%",
                  group=group, hint="Jaccard index and error in one"),
        ]  # fmt: skip
    return scores


def _notes(by_name: dict[str, Series], curves: dict[str, Curve]) -> list[str]:
    one, line = next(iter(by_name.values())), next(iter(curves.values()))
    radius = NEAR_SIGMAS * one.compared.imaging.sigma_nm
    notes = [
        "At high density nearly every find has some emitter within 250 nm and counts as a hit: "
        "what merging does shows as missed emitters, in the error, and off the structure.",
        "Limits of the error are Cramér-Rao bounds of spots with nobody near by; what overlap "
        "leaves possible is more, and isn't known.",
    ]
    if len(line.density):
        counted, told, even = line.alone[-1], line.alone_expected[-1], line.alone_if_even[-1]
        notes.append(
            f"At {line.density[-1]:.2g} emitters per µm² {_percent(counted)} of them have no other "
            f"within {NEAR_SIGMAS:g} widths of a spot ({radius:.0f} nm). "
            f"{_percent(told)} are expected from where the dyes sit, {_percent(even)} if they "
            "were spread evenly: exp(-π density radius²)."
        )
    free = len(one.compared.true) - int(one.compared.asked.sum())
    notes.append(
        f"{free} of {len(one.compared.true)} emitters in view count neither way: too dim (most "
        "shine for a part of the frame only), or at the frame's edge."
    )
    return notes


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{100 * share:.0f} %"

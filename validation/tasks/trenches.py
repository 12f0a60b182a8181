"""The task trenches: widths, depths and walls of trenches imaged with a known tip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nanophantom.validation.height_figures import first_of, pixel_of
from nanophantom.validation.matching import Matches, match
from nanophantom.validation.task import Estimates, Score, Scores, Task, require_tables
from nanophantom.validation.true_heights import WAYS
from nanophantom.validation.true_trenches import (
    TrueTrenches,
    half_height_widths,
    raw_profile,
    trenches_in_view,
)

if TYPE_CHECKING:
    from nanophantom.validation.drawing import Plate
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

OF_GRATINGS = ("specimen_grating", "specimen_edges")
"""Tables of the sample grating."""
BOUND_NM, BOUND_DEG = 1.0, 1.0
"""A bound holds if the truth goes no further beyond it."""
HELD = 1.96
"""Standard uncertainties to either side that hold 95 % of normal errors."""


class Trenches(Task):
    """Measure trenches that a tip may be too blunt for, and say what it couldn't reach."""

    name = "trenches"
    title = "Trenches: what the tip reached, and bounds for the rest"
    default_algorithm = "nanophantom.analysis.trench_estimate:measure"
    inputs = ("height", "height_retrace", "error", "error_retrace")
    needs = ("surface", "tip", "view", *OF_GRATINGS)
    needs_because = "they come from the afm, and from the sample grating"
    columns = (
        "x_nm",
        "depth_nm",
        "top_width_nm",
        "bottom_width_nm",
        "angle_left_deg",
        "angle_right_deg",
        "reached",
    )
    optional_columns = (
        "left_bound",
        "right_bound",
        "bottom_most_nm",
        "touched_share",
        "depth_sigma_nm",
        "top_width_sigma_nm",
        "angle_left_sigma_deg",
        "angle_right_sigma_deg",
    )
    contract = f"""\
measure(height, height_retrace, error, error_retrace, settings) -> equally long 1-D columns

Receives
  height, height_retrace  recorded heights in nm, shape (frames, ny, nx), both from left to right;
                          trenches run along y
  error, error_retrace    amplitude or deflection minus its set point, nm
  settings                a dict of nominal values: mode, pixel_size_nm (along x), pixel_size_y_nm,
                          tip (as characterised when new: shape, radius_nm, half_angle_deg, ...),
                          slow_axis, setpoint_nm, free_amplitude_nm, integral_per_s, ...
Returns one row for each trench whose rims are both in the first frame
  x_nm                    its middle; pixel 0 lies at 0
  depth_nm                under the top; where reached is 0: of the deepest point reached
  top_width_nm            between the upper rims
  bottom_width_nm         of the floor; where a wall is a bound, or reached is 0: its least width
  angle_left_deg, angle_right_deg   of the walls against the horizontal, 90 is upright
  reached                 1 if the tip got to the floor, else 0
  left_bound, right_bound 1 where the wall is that steep or steeper (optional; 0 if not given)
  bottom_most_nm          largest width that the floor may have (optional)
  touched_share           share of the opening, seen from above, that the tip touched (optional)
  ..._sigma_...           standard uncertainties (optional), above 0
Scored
  recall, precision = share of the trenches found, and of the finds that are trenches; reached =
  share of right flags; depth = root mean square error where the tip can reach the floor;
  least_depth = the same where it can't, against how deep this tip gets; top_width, bottom_width
  and angle = root mean square errors, of floors and walls that aren't given as bounds; told =
  share of the walls that this tip can measure for which no bound, but an angle is given; bounds =
  share of the bounds (walls, floors, depths) that hold within {BOUND_NM:g} nm or {BOUND_DEG:g} deg;
  touched = root mean square error of touched_share; raw_width = error of the width that one reads
  off the recorded trace at half its apparent depth.
"""

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade what was measured and claimed against the grating and what its tip can reach."""
        return _scores(self.name, self.compare(estimates, dataset))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw maps, every trench with the tip in it, depths against widths, walls and widths."""
        from nanophantom.validation import trench_figures

        return trench_figures.of_trenches(dataset, self.compare(estimates, dataset))

    def compare(self, estimates: Estimates, dataset: Observed) -> Comparison:
        """Put trenches found beside the true ones: the ground of scores and figures."""
        found = self.read(estimates)
        for name in ("reached", "left_bound", "right_bound"):
            if name in found and not np.isin(found[name], (0.0, 1.0)).all():
                raise ValueError(f"task {self.name} wants {name} to be 0 or 1")
        for name in (c for c in found if "sigma" in c):
            if (found[name] <= 0).any():
                raise ValueError(
                    f"task {self.name} wants {name} above 0, got {found[name].min():g}"
                )
        require_tables(self, dataset, self.needs)
        true = trenches_in_view(dataset)
        radius = float(np.min(true.top_width_nm)) / 2
        on_line = [np.column_stack([x, 0 * x]) for x in (found["x_nm"], true.x_nm)]
        matches = match(on_line[0], on_line[1], radius)
        beside = np.abs(found["x_nm"][:, None] - true.cut_nm[None, :, 0])
        ignored = (beside <= true.cut_nm[None, :, 1] / 2).any(axis=1)
        n = len(found["x_nm"])
        profile = raw_profile(dataset, true)
        bounds = [found.get(f"{side}_bound", np.zeros(n)) == 1 for side in ("left", "right")]
        return Comparison(
            found=found,
            bound=np.column_stack(bounds),
            true=true,
            matches=matches,
            false=int(n - len(matches) - np.sum(ignored)),
            raw_profile=profile,
            raw_width_nm=half_height_widths(profile, pixel_of(dataset)[1], true),
            depth_limit_nm=_depth_limit_nm(dataset, true),
        )


@dataclass(frozen=True, eq=False)
class Comparison:
    """Trenches found beside the true ones."""

    found: dict[str, Floats]
    """Columns, (finds,) each."""
    bound: Bools
    """Whether the left and the right wall are bounds, (finds, 2)."""
    true: TrueTrenches
    matches: Matches
    false: int
    """Finds that are no trench."""
    raw_profile: Floats
    """The recorded trace's mean line, (nx,)."""
    raw_width_nm: Floats
    """Widths at half the apparent depth, read off it, (trenches,)."""
    depth_limit_nm: Floats
    """What noise leaves of a floor's depth; where the tip doesn't get there, by how much the mean
    over a pixel lifts the sharp bottom, (trenches,)."""

    @property
    def angle_deg(self) -> Floats:
        """Left and right wall as found, (finds, 2)."""
        return np.column_stack([self.found["angle_left_deg"], self.found["angle_right_deg"]])

    @property
    def floor_known(self) -> Bools:
        """Whether a floor's width is given as a value, (finds,)."""
        return np.asarray((self.found["reached"] == 1) & ~self.bound.any(axis=1))

    @property
    def true_half_width_nm(self) -> Floats:
        """Of the trenches at half their depth."""
        return (self.true.top_width_nm + self.true.bottom_width_nm) / 2


def _depth_limit_nm(dataset: Observed, true: TrueTrenches) -> Floats:
    """Return what noise, averaged over each floor and both ways, or sampling leaves of depths.

    A pixel's height is the mean over its dwell: a bottom as sharp as the tip makes it where it
    touches both rims is lifted by an eighth of its second difference.
    """
    noise = np.zeros(())
    for way in WAYS:
        ideal = np.asarray(dataset.frame_truth(f"ideal_height{way}", 0, 1)[0], np.float64)
        noise = noise + (first_of(dataset, f"height{way}") - ideal) / len(WAYS)
    image = np.asarray(dataset.truth("surface")["image_nm"], np.float64)
    x = np.arange(image.shape[1]) * pixel_of(dataset)[1]
    on_top = np.sum(image >= image.max() - 0.1)
    limits = []
    for middle, width, depth in zip(true.x_nm, true.top_width_nm, true.depth_nm, strict=True):
        columns = np.flatnonzero(np.abs(x - middle) < width / 2)
        on_floor = np.sum(image[:, columns] <= image.max() - depth + 0.1)
        if on_floor:
            limits.append(float(np.std(noise)) * float(np.sqrt(1 / on_floor + 1 / on_top)))
        else:
            profile = np.mean(image, axis=0)
            at = columns[np.argmin(profile[columns])]
            limits.append(float(profile[at - 1] - 2 * profile[at] + profile[at + 1]) / 8)
    return np.array(limits)


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _error(
    name: str,
    error: Floats,
    unit: str,
    hint: str,
    sigma: Floats | None = None,
    limit: float | None = None,
) -> Score:
    if not len(error):
        return Score(name, None, 0, "lower", unit, hint=hint)
    coverage = None if sigma is None else float(np.mean(np.abs(error) <= HELD * sigma))
    return Score(name, _rms(error), len(error), "lower", unit, limit=limit,
                 bias=float(error.mean()), spread=float(error.std()), coverage=coverage,
                 hint=hint)  # fmt: skip


def _share(name: str, right: Bools, hint: str) -> Score:
    value = float(np.mean(right)) if len(right) else None
    return Score(name, value, len(right), "higher", hint=hint)


def _scores(task: str, c: Comparison) -> Scores:
    i, j, true = c.matches.found, c.matches.true, c.true
    n, finds = len(true.x_nm), len(c.matches) + c.false
    found = {name: values[i] for name, values in c.found.items()}
    bound, known = c.bound[i], c.floor_known[i]
    reachable, measurable = true.reached[j], true.measurable[j]
    reached = found["reached"] == 1

    def sigma(name: str, which: Bools) -> Floats | None:
        return found[name][which] if name in found else None

    depth_error = found["depth_nm"] - true.depth_nm[j]
    short = found["depth_nm"] - true.reachable_depth_nm[j]
    missing = (true.depth_nm - true.reachable_depth_nm)[~true.reached]
    limits, sampled = c.depth_limit_nm[j][reachable], c.depth_limit_nm[j][~reachable]
    angle_error = (c.angle_deg[i] - true.angle_deg[j][:, None])[~bound]
    sides = [sigma(f"angle_{side}_sigma_deg", np.ones(len(i), bool)) for side in ("left", "right")]
    angle_sigma = None
    if sides[0] is not None and sides[1] is not None:
        angle_sigma = np.column_stack([sides[0], sides[1]])[~bound]
    scores = [
        _error("depth", depth_error[reachable], "nm",
               "where the tip gets to the floor: error of the depth, root mean square",
               sigma("depth_sigma_nm", reachable), _rms(limits) if len(limits) else None),
        _error("top_width", found["top_width_nm"] - true.top_width_nm[j], "nm",
               "error of the distance between the upper rims, root mean square",
               sigma("top_width_sigma_nm", np.ones(len(i), bool))),
        _error("raw_width", c.raw_width_nm - c.true_half_width_nm, "nm",
               "for comparison: the width at half height as one reads it off the recorded trace"),
        _error("bottom_width", (found["bottom_width_nm"] - true.bottom_width_nm[j])[known], "nm",
               "error of the floor's width where it is given as a value" if known.any() else
               "no floor's width is given as a value, but as bounds"),
        _error("angle", angle_error, "deg",
               "error of the walls' angles where they are given as values" if len(angle_error) else
               "no wall's angle is given as a value, but as a least one", angle_sigma),
        _share("reached", reached == reachable,
               f"the tip gets to the floor of {int(true.reached.sum())} of the {n} trenches; share "
               "of right claims"),
        _error("least_depth", short[~reachable], "nm",
               "where the tip stops on the walls: error against how deep it gets; on average "
               f"{missing.mean():.3g} nm below it nothing can be known" if len(missing) else
               "the tip gets to every floor", limit=_rms(sampled) if len(sampled) else None),
        _share("bounds", _bounds_hold(c), "bounds of walls, floors and depths that hold"),
        _share("told", ~bound[measurable],
               "walls that are less steep than the tip's flanks and are given as values"
               if measurable.any() else "every wall is steeper than the tip's flanks"),
    ]  # fmt: skip
    if "touched_share" in found:
        share = true.touched_share
        average = float(share @ true.top_width_nm / true.top_width_nm.sum())
        scores.append(
            _error("touched", found["touched_share"] - share[j], "",
                   f"error of the share of an opening that the tip touched; truly {average:.3g} of "
                   "all openings, seen from above")
        )  # fmt: skip
    scores += [
        Score("recall", len(i) / n, n, "higher", hint=f"{len(i)} of the {n} trenches were found"),
        Score("precision", len(i) / finds if finds else None, finds, "higher",
              hint=f"{c.false} of the {finds} finds are no trench"),
    ]  # fmt: skip
    return Scores(task, tuple(scores), _notes(c))


def _bounds_hold(c: Comparison) -> Bools:
    """Return for every bound that was given whether it holds."""
    i, j, true = c.matches.found, c.matches.true, c.true
    held = [(true.angle_deg[j][:, None] >= c.angle_deg[i] - BOUND_DEG)[c.bound[i]]]
    stopped = c.found["reached"][i] == 0
    held.append((true.depth_nm[j] >= c.found["depth_nm"][i] - BOUND_NM)[stopped])
    open_ = ~c.floor_known[i]
    held.append((true.bottom_width_nm[j] >= c.found["bottom_width_nm"][i] - BOUND_NM)[open_])
    if "bottom_most_nm" in c.found:
        held.append((true.bottom_width_nm[j] <= c.found["bottom_most_nm"][i] + BOUND_NM)[open_])
    return np.concatenate(held)


def _notes(c: Comparison) -> tuple[str, ...]:
    flank = ", ".join(f"{a:.1f}" for a in np.unique(np.round(c.true.flank_deg, 1)))
    return (
        f"The tip's flanks have {flank} degrees: steeper walls look like that, and nothing below "
        "their rims is in the data. No algorithm can do better than a bound there.",
        "The limit beside depth is the noise of sensor and lever averaged over the floor's and the "
        "top's pixels; slow motions of the height, which don't average out as fast, come on top. "
        "That beside least_depth is sampling: the mean over a pixel lifts the sharp bottom that "
        "the tip makes. Widths have no such limit: a straight flank is known between pixels too. "
        "What bounds them is how well the tip is known; here its shape is given.",
    )

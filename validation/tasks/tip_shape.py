"""The task tip-shape: the shape of the tip from images of a specimen that nobody knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.probes.tip_map import TipMap
from nanophantom.validation.task import Estimates, Score, Scores, Task, require_tables
from nanophantom.validation.true_tips import FIT_DEPTH_NM, LaidUpon, laid_upon, radius_of, true_tip

if TYPE_CHECKING:
    from nanophantom.validation.drawing import Plate
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]

TOP_NM = 10.0
"""So far down from the apex a tip is graded."""
SHARPER_NM = 0.25
"""A tip that is found lower than the true one by more than this is too sharp there."""


class TipShape(Task):
    """Find the shape of the tip, which isn't told, from an image of sharp features."""

    name = "tip-shape"
    title = "The shape of the tip"
    default_algorithm = "nanophantom.analysis.tip_estimate:find"
    inputs = ("height", "height_retrace")
    withheld = ("tip",)
    needs = ("tip",)
    needs_because = "it is that of an image by a force microscope"
    columns = ("x_nm", "y_nm", "height_nm")
    contract = f"""\
find(height, height_retrace, settings) -> {{"x_nm": (n,), "y_nm": (n,), "height_nm": (n,)}}

Receives
  height, height_retrace  recorded heights in nm, shape (frames, ny, nx), both ways stored from
                          left to right
  settings                a dict of nominal values: pixel_size_nm, pixel_size_y_nm, line_rate_hz,
                          knots_a_line, slow_axis, setpoint_nm, integral_per_s ... but not the tip
Returns
  x_nm, y_nm              offsets from the apex, samples of a full grid, in any order
  height_nm               minus the height of the tip's surface over its apex: at most 0, and 0
                          somewhere. Not reflected: a bulge on the tip's right side lies at x > 0
Scored, after the shift in x and y that fits best (an image doesn't tell where a tip's apex is)
  rmse = root mean square error down to {TOP_NM:g} nm below the true apex; radius_error = difference
  of the radii of spheres fitted to the top {FIT_DEPTH_NM:g} nm of both; inside = share of the true
  tip's top where the answer lies more than {SHARPER_NM:g} nm inside of it, violation = by how much
  at most: an outer bound never does; covered = share of the true tip's top within the answer's
  grid.
"""

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade a tip against the true one."""
        return _scores(self.name, self.compare(estimates, dataset))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw the image, both tips and their difference, cuts, and the scan of thresholds."""
        from nanophantom.validation import tip_figures

        return tip_figures.of_shape(dataset, self.compare(estimates, dataset))

    def compare(self, estimates: Estimates, dataset: Observed) -> Comparison:
        """Lay the answer upon the true tip: the ground of scores and figures."""
        found = self.read(estimates)
        x, y, heights = self._grid(found)
        true = true_tip(require_tables(self, dataset, ("tip",))["tip"])
        radius = radius_of(TipMap.of(heights, (float(np.diff(y)[0]), float(np.diff(x)[0]))))
        return Comparison(
            true=true,
            laid=laid_upon(y, x, heights, true, TOP_NM),
            radius_nm=radius,
            true_radius_nm=radius_of(true),
        )

    def _grid(self, found: dict[str, Floats]) -> tuple[Floats, Floats, Floats]:
        """Return the grid of an answer: x, y, and heights (rows, columns)."""
        x, column = np.unique(np.round(found["x_nm"], 9), return_inverse=True)
        y, row = np.unique(np.round(found["y_nm"], 9), return_inverse=True)
        n = len(found["x_nm"])
        heights = np.full((len(y), len(x)), np.nan)
        heights[row, column] = found["height_nm"]
        if min(len(x), len(y)) < 3 or n != heights.size or np.isnan(heights).any():
            raise ValueError(
                f"task {self.name} wants samples of a full grid of at least 3 x 3 places, each "
                f"once; got {n} samples of {len(y)} rows and {len(x)} columns"
            )
        for name, line in (("x_nm", x), ("y_nm", y)):
            if np.ptp(np.diff(line)) > 1e-3 * np.diff(line).mean():
                raise ValueError(f"task {self.name} wants {name} in even steps")
        if heights.max() != 0.0:
            raise ValueError(
                f"task {self.name} wants height_nm at most 0, and 0 at the apex; the highest is "
                f"{heights.max():g}"
            )
        return x, y, heights


@dataclass(frozen=True, eq=False)
class Comparison:
    """A tip beside the true one."""

    true: TipMap
    laid: LaidUpon
    radius_nm: float | None
    """None if its top is too sharp to have one."""
    true_radius_nm: float | None

    @property
    def top(self) -> npt.NDArray[np.bool_]:
        """Where the true tip is graded."""
        return self.true.heights_nm >= -TOP_NM

    @property
    def error_nm(self) -> Floats:
        """Found minus true where there is an answer within the top, (n,)."""
        error = (self.laid.found_nm - self.true.heights_nm)[self.top]
        return np.asarray(error[np.isfinite(error)])


def _scores(task: str, c: Comparison) -> Scores:
    error, samples = c.error_nm, int(np.count_nonzero(c.top))
    covered = Score("covered", len(error) / samples, samples, "higher",
                    hint="share of the true tip's top that the answer is about")  # fmt: skip
    if not len(error):
        hint = "not defined: the answer doesn't reach the tip's top"
        return Scores(task, (Score("rmse", None, 0, "lower", "nm", hint=hint), covered))
    bias, spread = float(error.mean()), float(error.std())
    deepest = max(0.0, -float(error.min()))
    way = "blunter" if bias > 0 else "sharper"
    scores = [
        Score("rmse", float(np.sqrt(np.mean(error**2))), len(error), "lower", "nm",
              bias=bias, spread=spread,
              hint=f"typical error of the tip's surface in its top {TOP_NM:g} nm; on average it is "
              f"{abs(bias):.2g} nm {way} than the true one"),
        _radius_score(c),
        Score("inside", float(np.mean(error < -SHARPER_NM)), len(error), "lower", limit=0.0,
              hint="share of the top where the answer lies inside the true tip: too sharp"),
        Score("violation", deepest, len(error), "lower", "nm", limit=0.0,
              hint="by how much it lies inside the true tip at most; an outer bound never does"),
        covered,
    ]  # fmt: skip
    notes = (
        "Blind reconstruction bounds the tip from outside: it gives the bluntest tip that can have "
        "taken the image. Features that are sharper than the tip everywhere make the bound tight, "
        "others can't. Noise, and a loop that is late, make images that no tip can have taken, and "
        "the bound false.",
        "There is no limit beside the error: with features sharper than the tip everywhere and "
        "without noise the bound would be the tip itself. Pixels are in the way of that: where the "
        "flank rises by some nm from one to the next, an apex between two of them is seen from the "
        "wrong place.",
    )
    return Scores(task, tuple(scores), notes)


def _radius_score(c: Comparison) -> Score:
    """Grade the radius of the top."""
    if c.radius_nm is None or c.true_radius_nm is None:
        whose = "answer" if c.radius_nm is None else "true tip"
        hint = f"not defined: the top of the {whose} is too sharp to have a radius"
        return Score("radius_error", None, 0, "lower", "nm", hint=hint)
    error = c.radius_nm - c.true_radius_nm
    return Score(
        "radius_error", abs(error), 1, "lower", "nm", bias=error,
        hint=f"found {c.radius_nm:.3g} nm, true {c.true_radius_nm:.3g} nm: of the spheres fitted "
        f"to the top {FIT_DEPTH_NM:g} nm",
    )  # fmt: skip

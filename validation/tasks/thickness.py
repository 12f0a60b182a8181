"""The task thickness: how thick a crystal is, from its diffraction patterns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nanophantom.validation.limits import thickness_limit
from nanophantom.validation.task import Estimates, Score, Scores, Task, require_tables

if TYPE_CHECKING:
    from nanophantom.validation.drawing import Plate
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FAR_NM = 2.0
"""Beyond this a thickness belongs to another maximum of the likelihood than the right one."""


class Thickness(Task):
    """Measure the thickness of a known crystal from convergent-beam patterns."""

    name = "thickness"
    title = "Thickness of the crystal"
    default_algorithm = "nanophantom.analysis.cbed_thickness:measure"
    inputs = ("image",)
    columns = ("pattern", "thickness_nm")
    optional_columns = ("sigma_nm",)
    contract = f"""\
measure(patterns, settings) -> {{"pattern": (n,), "thickness_nm": (n,), optional "sigma_nm": (n,)}}

Receives
  patterns      electrons counted in each diffraction pattern, shape (patterns, ny, nx)
  settings      a dict of nominal values: energy_kev, semiangle_mrad, pixel_size_mrad,
                electrons_per_pattern, positions ("averaged" over the unit cell), and crystal:
                cell_nm, numbers, positions_nm, b_factors_A2 of the crystal that the operator put
                in, its axes those of the camera (x right, y down) and of the beam
Returns
  pattern       which pattern, counted from 0; each at most once
  thickness_nm  of the crystal where it was taken
  sigma_nm      its standard uncertainty (optional)
Scored
  answered = patterns with an answer / all patterns; error = mean absolute error; bias = mean
  error; rmse = root mean square error, of all answers; outliers = share of the answers that are
  off by more than {FAR_NM:g} nm; coverage = share of the true thicknesses within 1.96 sigma_nm. The
  limit beside rmse is the Cramér-Rao bound of the counts, for an algorithm that knows all else.
"""

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade thicknesses against the true ones."""
        return _scores(self.name, self.compare(estimates, dataset))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw patterns beside their best matches, and thicknesses found against true ones."""
        from nanophantom.validation import thickness_figures

        return thickness_figures.of_thickness(dataset, self.compare(estimates, dataset))

    def compare(self, estimates: Estimates, dataset: Observed) -> Comparison:
        """Put answers beside the truth: the ground of scores and figures."""
        found = self.read(estimates)
        index = found["pattern"]
        n = dataset.n_frames
        if np.any(index != np.rint(index)) or np.any((index < 0) | (index >= n)):
            raise ValueError(f"task {self.name} wants pattern to be whole, from 0 to {n - 1}")
        if len(np.unique(index)) < len(index):
            raise ValueError(f"task {self.name} wants each pattern at most once")
        sigma_nm = found.get("sigma_nm")
        if sigma_nm is not None and (sigma_nm <= 0).any():
            raise ValueError(f"task {self.name} wants sigma_nm above zero, got {sigma_nm.min():g}")
        truth = require_tables(self, dataset, ("thickness",))["thickness"]
        true_nm = np.asarray(truth["thickness_nm"], np.float64)
        if true_nm.shape != (n,):
            raise ValueError(f"truth thickness has {len(true_nm)} rows for {n} patterns")
        limit = np.full(n, np.inf)
        counted = dataset.signal("image", 0, 1).dtype.kind in "iu"
        if counted and "patterns" in dataset.truth_tables:
            series = dataset.truth("patterns")
            at_nm = np.asarray(series["thickness_nm"], np.float64)
            bound = thickness_limit(np.asarray(series["expected"], np.float64), at_nm)
            limit = bound[np.searchsorted(at_nm, true_nm - 1e-9)]
        return Comparison(
            pattern=index.astype(np.int64),
            found_nm=found["thickness_nm"],
            sigma_nm=sigma_nm,
            true_nm=true_nm,
            limit_nm=limit,
        )


@dataclass(frozen=True, eq=False)
class Comparison:
    """Answers beside truth."""

    pattern: Ints
    """Which pattern each answer is about, shape (answers,)."""
    found_nm: Floats
    sigma_nm: Floats | None
    true_nm: Floats
    """Of every pattern, shape (patterns,)."""
    limit_nm: Floats
    """Cramér-Rao bound of every pattern; infinite where it isn't known."""

    @property
    def error_nm(self) -> Floats:
        """Found minus true thickness of the answers."""
        return self.found_nm - self.true_nm[self.pattern]


def _scores(task: str, c: Comparison) -> Scores:
    patterns, answers = len(c.true_nm), len(c.pattern)
    told = f"{answers} of the {patterns} patterns were given a thickness"
    answered = Score("answered", answers / patterns, patterns, "higher", hint=told)
    if not answers:
        hint = "not defined: there are no answers"
        return Scores(task, (Score("rmse", None, 0, "lower", "nm", hint=hint), answered))
    error = c.error_nm
    bias, spread = float(error.mean()), float(error.std())
    limits = c.limit_nm[c.pattern]
    known = limits[np.isfinite(limits)]
    limit = float(np.sqrt(np.mean(known**2))) if len(known) else None
    coverage = None
    if c.sigma_nm is not None:
        coverage = float(np.mean(np.abs(error) <= 1.96 * c.sigma_nm))
    way = "thicker" if bias > 0 else "thinner"
    far = int(np.sum(np.abs(error) > FAR_NM))
    scores = [
        Score("rmse", float(np.sqrt(np.mean(error**2))), answers, "lower", "nm", limit=limit,
              bias=bias, spread=spread, coverage=coverage,
              hint="typical error of a thickness (root mean square)"),
        Score("error", float(np.abs(error).mean()), answers, "lower", "nm",
              hint="mean difference from the true thickness, regardless of sign"),
        Score("bias", abs(bias), answers, "lower", "nm",
              hint=f"on average the crystal is found {abs(bias):.2g} nm {way} than it is"),
        Score("spread", spread, answers, "lower", "nm", limit=limit,
              hint="random scatter that is left when the mean error is taken away"),
        Score("outliers", far / answers, answers, "lower",
              hint=f"{far} of the {answers} answers are off by more than {FAR_NM:g} nm"),
        answered,
    ]  # fmt: skip
    if coverage is not None:
        hint = "0.95 if the quoted uncertainties are honest; less: too sure, more: too cautious"
        scores.append(Score("coverage", coverage, answers, "higher", hint=hint))
    notes = []
    if limit is not None:
        notes.append(
            "The limit is the Cramér-Rao bound: the least scatter that any unbiased algorithm can "
            "have with this many electrons, if it knows the crystal, the microscope and the centre "
            "of the pattern perfectly."
        )
    return Scores(task, tuple(scores), tuple(notes))

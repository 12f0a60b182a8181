"""The task fading: how much dose each reflection of a beam-sensitive crystal survives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.fourier_shells import soft_edge
from nanophantom.analysis.reflections import WINDOW_EDGE, spot_powers
from nanophantom.simcore.fields import Table
from nanophantom.validation.drawing import Plate
from nanophantom.validation.fading_limit import critical_dose_limit, median_of_bells
from nanophantom.validation.task import Estimates, Score, Scores, Task, require_tables

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]

PERCENT = 100.0
PER_NM_IN_PER_A = 0.1


class Fading(Task):
    """Measure the critical dose of every reflection from a movie of a crystal that is dying."""

    name = "fading"
    title = "Critical doses of the reflections"
    default_algorithm = "nanophantom.analysis.fading_movie:find"
    inputs = ("image",)
    withheld = ("crystal",)
    needs = ("fading",)
    needs_because = "it comes from a sample of kind evolving with the process fading"
    columns = ("spacing_nm", "critical_dose_e_per_A2", "low_e_per_A2", "high_e_per_A2")
    optional_columns = ("law_e_per_A2", "ky_per_nm", "kx_per_nm")
    contract = """\
find(images, settings) -> {"spacing_nm": (n,), "critical_dose_e_per_A2": (n,),
                           "low_e_per_A2": (n,), "high_e_per_A2": (n,),
                           optional "law_e_per_A2", "ky_per_nm", "kx_per_nm": (n,)}

Receives
  images      counts, shape (frames, ny, nx), of a drifting crystal that the beam destroys
  settings    a dict of nominal values: pixel_size_nm, doses_e_per_A2 (of every frame),
              before_e_per_A2 and more
Returns, one row a reflection or band of them
  spacing_nm              period of the reflection
  critical_dose_e_per_A2  fluence after which its intensity has fallen to 1/e
  low_, high_e_per_A2     95 % interval of the critical dose (open above: a large number)
  law_e_per_A2            optional: critical dose at that spacing by a law N_c(k) fitted to all
                          reflections at once
  ky_per_nm, kx_per_nm    optional: where the reflection lies, for the limit and the figures
Scored against the true law at the spacings returned
  median_error = median of |critical dose / true - 1|, bias the median of the logarithm of that
  ratio, in percent; coverage = part of the intervals that hold the truth; reflections = how many
  rows; law_error = median of |law / true - 1|. The limit beside median_error is the Cramér-Rao
  bound of a fading amplitude in the noise of the counts.
"""

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade critical doses against the true law."""
        return _scores(self.name, self.compare(estimates, dataset))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw what fades, how it fades, and the law behind it."""
        from nanophantom.validation import fading_figures

        return fading_figures.of_fading(dataset, self.compare(estimates, dataset))

    def compare(self, estimates: Estimates, dataset: Observed) -> Compared:
        """Set estimates beside the true law: the ground of scores and figures."""
        said = self.read(estimates)
        low, N_c, high = (
            said[name] for name in ("low_e_per_A2", "critical_dose_e_per_A2", "high_e_per_A2")
        )
        for name in ("spacing_nm", "critical_dose_e_per_A2"):
            if (said[name] <= 0).any():
                raise ValueError(
                    f"task {self.name} wants {name} above zero, got {said[name].min():g}"
                )
        if ((low > N_c) | (N_c > high) | (low < 0)).any():
            raise ValueError(
                f"task {self.name} wants 0 <= low_e_per_A2 <= critical_dose_e_per_A2 <= "
                "high_e_per_A2 in every row"
            )
        law = require_tables(self, dataset, ("fading",))["fading"]
        k = PER_NM_IN_PER_A / said["spacing_nm"]
        known = np.asarray(law["k_per_A"], np.float64)
        if ((k < known[0]) | (k > known[-1])).any():
            raise ValueError(
                f"task {self.name} wants spacing_nm between {PER_NM_IN_PER_A / known[-1]:g} and "
                f"{PER_NM_IN_PER_A / known[0]:g}, got "
                f"{said['spacing_nm'].min():g} to {said['spacing_nm'].max():g}"
            )
        true = true_critical_dose(law, k)
        spots = None
        if "ky_per_nm" in said and "kx_per_nm" in said:
            spots = np.column_stack([said["ky_per_nm"], said["kx_per_nm"]])
        limit = None
        if spots is not None and len(spots) and "noise_free" in dataset.truth_tables:
            limit = _limit(dataset, spots, true)
        return Compared(
            spacing_nm=said["spacing_nm"],
            found=N_c,
            low=low,
            high=high,
            law=said.get("law_e_per_A2"),
            true=true,
            true_law=law,
            spots_per_nm=spots,
            limit=limit,
        )


@dataclass(frozen=True, eq=False)
class Compared:
    """Critical doses found beside the true ones, e/Å^2; one row a reflection."""

    spacing_nm: Floats
    found: Floats
    low: Floats
    high: Floats
    law: Floats | None
    true: Floats
    true_law: Table
    spots_per_nm: Floats | None
    """(ky, kx) of each reflection."""
    limit: Floats | None
    """Least standard deviation of the logarithm of each critical dose."""

    @property
    def held(self) -> npt.NDArray[np.bool_]:
        """Which intervals hold the truth."""
        return np.asarray((self.low <= self.true) & (self.true <= self.high))


def true_critical_dose(law: Table, k_per_A: Floats) -> Floats:
    """Return the true critical dose at some frequencies, straight in log-log between those told."""
    k, dose = (np.log(np.asarray(law[n])) for n in ("k_per_A", "critical_dose_e_per_A2"))
    return np.asarray(np.exp(np.interp(np.log(k_per_A), k, dose)))


def _limit(dataset: Observed, spots_per_nm: Floats, true: Floats) -> Floats:
    """Return the Cramér-Rao bound of ln N_c from the true amplitudes and the noise of the counts.

    The noise is that around each reflection in the frames, seen through the window in which it is
    measured; without the window there is less of it.
    """
    frames = np.asarray(dataset.signal("image"))
    pixel_size_nm = float(dataset.settings["pixel_size_nm"])
    image = np.asarray(dataset.truth("noise_free")["image"], np.float64)
    ideal = spot_powers(image[np.newaxis], pixel_size_nm, spots_per_nm=spots_per_nm)
    noise = spot_powers(frames, pixel_size_nm, spots_per_nm=spots_per_nm).background.mean(axis=1)
    doses = np.asarray(dataset.settings["doses_e_per_A2"], np.float64)
    window = soft_edge(image.shape, WINDOW_EDGE)
    efficiency = np.sum(window) ** 2 / window.size / np.sum(window**2)
    amplitude = np.abs(ideal.amplitude[:, 0]) * doses.mean() / doses[0]
    before = float(dataset.settings.get("before_e_per_A2") or 0.0)
    return critical_dose_limit(amplitude**2 / (efficiency * noise), true, doses, before)


def _scores(task: str, c: Compared) -> Scores:
    n = len(c.found)
    if not n:
        reason = "not defined: no reflection was found"
        return Scores(
            task,
            (
                Score("median_error", None, 0, "lower", "%", hint=reason),
                Score("coverage", None, 0, "higher", hint=reason),
                Score("reflections", 0.0, 0, "higher", hint="no reflection was found"),
            ),
        )
    ratio = c.found / c.true
    off = float(np.median(np.abs(ratio - 1)))
    bias = float(np.median(np.log(ratio)))
    limit = None
    if c.limit is not None and np.isfinite(c.limit).all():
        limit = PERCENT * median_of_bells(c.limit)
    held = float(np.mean(c.held))
    scores = [
        Score("median_error", PERCENT * off, n, "lower", "%", limit=limit, bias=PERCENT * bias,
              spread=PERCENT * float(np.median(np.abs(np.log(ratio) - bias))), coverage=held,
              hint="half of the critical doses are closer to the truth than this"),
        Score("coverage", held, n, "higher",
              hint=f"{int(c.held.sum())} of the {n} intervals hold the true critical dose; 0.95 "
              "if they are honest"),
        Score("reflections", float(n), n, "higher", hint="critical doses that were returned"),
    ]  # fmt: skip
    if c.law is not None:
        wrong = float(np.median(np.abs(c.law / c.true - 1)))
        scores.append(
            Score("law_error", PERCENT * wrong, n, "lower", "%",
                  hint="the law fitted to all reflections together, at their spacings")
        )  # fmt: skip
    notes = [
        "The true law is what the recipe assumes. For many materials (UiO-66 is one) no printed "
        "critical dose of each reflection is known to us, so the numbers say nothing about the "
        "material: what counts is how well an assumed law is recovered, and how honestly."
    ]
    if limit is not None:
        notes.append(
            "The limit is the Cramér-Rao bound of a fading amplitude of unknown height and phase "
            "in the noise of the counts around it, if the drift is known; its median over "
            "reflections of unequal strength. An algorithm that pools reflections (by a law) can "
            "do better."
        )
    return Scores(task, tuple(scores), tuple(notes))

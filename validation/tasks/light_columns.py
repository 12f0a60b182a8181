"""The task light-columns: find all columns of a crystal and tell the light ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.fields import Measured
from nanophantom.validation.drawing import Plate
from nanophantom.validation.limits import position_limit
from nanophantom.validation.matching import match
from nanophantom.validation.task import Estimates, Score, Scores, Task, require_tables
from nanophantom.validation.tasks.atomic_columns import View, off_rest_nm
from nanophantom.validation.tasks.stem_columns import appears_at, disjoint

if TYPE_CHECKING:
    from nanophantom.simcore.store import Dataset
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

LEAST_ATOMS = 3
LARGEST_EXTENT_NM = 0.05
MATCH_RADIUS_NM = 0.05
BORDER_NM = 0.15
PM_PER_NM = 1000.0
KINDS = ("light", "heavy")


class LightColumns(Task):
    """Find every atomic column, and say which consist of light atoms."""

    name = "light-columns"
    title = "Light columns beside heavy ones"
    default_algorithm = "nanophantom.analysis.light_columns:find"
    inputs = ()
    withheld = ("crystal",)
    columns = ("x_nm", "y_nm", "light")
    optional_columns = ("sigma_nm",)
    contract = f"""\
find(signals, settings) -> {{"x_nm": (n,), "y_nm": (n,), "light": (n,), optional "sigma_nm": (n,)}}

Receives
  signals     a dict of all signals by name, each of shape (frames, ny, nx): "image" of a TEM, or
              those of the STEM's detectors (abf, haadf ...), in counts
  settings    a dict of nominal values: pixel_size_nm, energy_kev and more; of a TEM contrast
              ("bright" or "dark": how columns look), of a STEM semiangle_mrad and detectors; what
              crystal it is isn't told
Returns
  x_nm, y_nm  column positions in frame 0; the centre of pixel (0, 0) is the origin, x points
              right, y down
  light       1 for a column of light atoms, 0 for one that holds heavy ones
  sigma_nm    standard uncertainty of each of the two coordinates (optional)
Scored
  Targets are all columns of at least {LEAST_ATOMS} atoms that stand within {LARGEST_EXTENT_NM:g} nm
  (rms) of one axis and appear at least {BORDER_NM:g} nm inside frame 0. A column is light if the
  atomic number of its heaviest element is less than half of the greatest in view.
  Positions found are matched to targets one to one within {MATCH_RADIUS_NM:g} nm. What is left and
  lies on another column, or in the border, counts neither for nor against; all else is a false
  find. A light column is a hit if it is found and called light.
  recall.light = hits / light targets; precision.light = hits / all that is called light (hits,
  heavy columns called light, false finds called light); f1.light their harmonic mean; likewise
  for heavy. confused = part of the columns found whose kind is wrong. rmse = root mean square
  distance of the columns found from the truth in pm, whatever they were called; its limit is the
  Cramér-Rao bound of the counts. coverage = part of the coordinates within 1.96 sigma_nm.
"""

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade columns found against those that are there."""
        return _scores(self.name, self.compare(estimates, dataset))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw what was found and missed, a profile, the confusion, and F1 against dose."""
        from nanophantom.validation import light_figures

        return light_figures.of_light_columns(self, dataset, self.compare(estimates, dataset))

    def compare(self, estimates: Estimates, dataset: Observed) -> Found:
        """Match columns found with the truth: the ground of scores and figures."""
        found = self.read(estimates)
        if not np.isin(found["light"], (0.0, 1.0)).all():
            raise ValueError(f"task {self.name} wants light to be 0 or 1 in every row")
        sigma = found.get("sigma_nm")
        if sigma is not None and (sigma <= 0).any():
            raise ValueError(f"task {self.name} wants sigma_nm above zero, got {sigma.min():g}")
        truth = require_tables(self, dataset, ("columns", "drift", "noise_free"))
        step = float(dataset.settings["pixel_size_nm"])
        columns = truth["columns"]
        names = counted(dataset)
        images = np.stack([np.asarray(truth["noise_free"][name], np.float64) for name in names])
        at_rest = np.column_stack([columns["x_nm"], columns["y_nm"]]).astype(np.float64)
        if "probe_positions" in dataset.truth_tables:
            there = appears_at(at_rest, dataset.truth("probe_positions"), step)
        else:
            there = at_rest + [float(truth["drift"][f"d{axis}_nm"][0]) for axis in "xy"]
        view = View(step, images.shape[2], images.shape[1])
        number = np.asarray(columns["number"])
        seen = view.holds(there)
        light = 2 * number < (number[seen].max() if seen.any() else 0)
        target = (
            (np.asarray(columns["n_atoms"]) >= LEAST_ATOMS)
            & (np.asarray(columns["extent_nm"]) <= LARGEST_EXTENT_NM)
            & view.holds(there, BORDER_NM)
        )
        limit = np.full(len(there), np.inf)
        if all(dataset.signal(name, 0, 1).dtype.kind in "iu" for name in names):
            counts = images * float(dataset.n_frames)
            limit = position_limit(counts, at_rest[:, 0], at_rest[:, 1], step).radial_nm

        n_configurations = _configurations(dataset)
        positions = np.column_stack([found["x_nm"], found["y_nm"]])
        targets, others = np.flatnonzero(target), np.flatnonzero(~target)
        hits = match(positions, there[targets], MATCH_RADIUS_NM)
        rest = np.setdiff1d(np.arange(len(positions)), hits.found)
        excused = rest[match(positions[rest], there[others], MATCH_RADIUS_NM).found]
        rest = np.setdiff1d(rest, excused)
        return Found(
            found_nm=positions,
            called_light=found["light"] > 0,
            sigma_nm=sigma,
            at_rest_nm=at_rest,
            there_nm=there,
            light=np.asarray(light, np.bool_),
            target=np.asarray(target, np.bool_),
            limit_nm=limit,
            hit_found=hits.found,
            hit_column=targets[hits.true],
            missed=np.setdiff1d(targets, targets[hits.true]),
            false=rest[view.holds(positions[rest], BORDER_NM)],
            n_configurations=n_configurations,
            off_rest_nm=off_rest_nm(columns, target, n_configurations),
        )


@dataclass(frozen=True, eq=False)
class Found:
    """Estimates beside truth; positions are (x, y) in nm, the rest indices into them."""

    found_nm: Floats
    called_light: Bools
    """Of everything found."""
    sigma_nm: Floats | None
    at_rest_nm: Floats
    """All columns on the specimen at rest, as in the noise-free images."""
    there_nm: Floats
    """All columns as they appear in frame 0."""
    light: Bools
    """Of the columns that are there."""
    target: Bools
    limit_nm: Floats
    hit_found: Ints
    """Indices of columns found, right kind or not; `hit_column` holds those that are there."""
    hit_column: Ints
    missed: Ints
    false: Ints
    n_configurations: int
    """Thermal configurations that the data average."""
    off_rest_nm: float
    """How far that average leaves the targets off their resting places: radial, rms."""

    @property
    def right(self) -> Bools:
        """Which of the columns found were called what they are."""
        return np.asarray(self.called_light[self.hit_found] == self.light[self.hit_column])

    def counts(self, kind: str) -> tuple[int, int, int]:
        """Return hits, targets and claims of a kind."""
        want = kind == "light"
        hits = int((self.right & (self.light[self.hit_column] == want)).sum())
        targets = int((self.target & (self.light == want)).sum())
        called = np.concatenate([self.called_light[self.hit_found], self.called_light[self.false]])
        return hits, targets, int((called == want).sum())

    def f1(self, kind: str) -> float | None:
        """Return the harmonic mean of recall and precision of a kind."""
        hits, targets, claims = self.counts(kind)
        return 2 * hits / (targets + claims) if targets else None


def counted(dataset: Observed) -> tuple[str, ...]:
    """Return the signals whose counts tell of the columns, and which share no electron."""
    if "image" in dataset.signals:
        return ("image",)
    return disjoint(dataset.settings["detectors"])


def _configurations(dataset: Observed) -> int:
    """Return how many thermal configurations the data average."""
    budget = dataset.truth("intensity") if "intensity" in dataset.truth_tables else {}
    if "configuration" in budget:
        return len(np.unique(budget["configuration"]))
    # A part of a scan is one configuration, or some lines of it: configuration-0007-frame-...
    return max(1, len({bytes(name)[:18] for name in np.asarray(budget.get("part", ()), "S")}))


def _scores(task: str, found: Found) -> Scores:
    scores: list[Score] = []
    for kind in KINDS:
        scores += _scores_of(found, kind)
    n = len(found.hit_found)
    wrong = int((~found.right).sum())
    scores.append(
        Score("confused", wrong / n if n else None, n, "lower",
              hint=f"{wrong} of the {n} columns found were called light and aren't, or the reverse")
    )  # fmt: skip
    notes = ["A column is light if its heaviest element has less than half of the atomic number of "
             "the heaviest in view. Algorithms aren't told which crystal it is."]  # fmt: skip
    if np.isfinite(found.limit_nm[found.target]).any():
        notes.append(
            "The limit is the Cramér-Rao bound of the counts of all frames: the least scatter with "
            "so many electrons, if the columns' shapes and the drift are known. Noise that the "
            "camera adds to the counting of electrons isn't in it."
        )
        worst = PM_PER_NM * float(np.median(found.limit_nm[found.target & found.light]))
        if found.light[found.target].any() and worst > PM_PER_NM * MATCH_RADIUS_NM / 3:
            notes.append(
                f"Finds farther than {PM_PER_NM * MATCH_RADIUS_NM:g} pm count as false, which cuts "
                "the errors of columns short whose limit comes near that."
            )
    if found.off_rest_nm > 0:
        notes.append(
            f"The data average {found.n_configurations} thermal configurations, which leaves the "
            f"columns {PM_PER_NM * found.off_rest_nm:.2g} pm (rms) off their resting places if all "
            "atoms of a column count alike, and more where some count most. This is part of every "
            "algorithm's error and not of the limit, and quoted uncertainties can't know of it."
        )
    return Scores(task, tuple(scores), tuple(notes))


def _scores_of(found: Found, kind: str) -> list[Score]:
    """Return the scores of the light or of the heavy columns."""
    hits, targets, claims = found.counts(kind)

    def share(part: int, whole: int) -> float | None:
        return part / whole if whole else None

    mine = found.light[found.hit_column] == (kind == "light")
    scores = [
        Score("f1", found.f1(kind), targets, "higher", group=kind,
              hint="recall and precision in one number (harmonic mean)"),
        Score("recall", share(hits, targets), targets, "higher", group=kind,
              hint=f"{hits} of the {targets} {kind} columns were found and called {kind}"),
        Score("precision", share(hits, claims), claims, "higher", group=kind,
              hint=f"{hits} of the {claims} columns that were called {kind} are"),
    ]  # fmt: skip
    n = int(mine.sum())
    if not n:
        return [*scores, Score("rmse", None, 0, "lower", "pm", group=kind,
                               hint=f"not defined: no {kind} column was found")]  # fmt: skip
    error_pm = PM_PER_NM * (found.found_nm[found.hit_found] - found.there_nm[found.hit_column])
    error_pm = error_pm[mine]
    mean = error_pm.mean(axis=0)
    limit = PM_PER_NM * found.limit_nm[found.hit_column[mine]]
    limit = limit[np.isfinite(limit)]
    coverage = None
    if found.sigma_nm is not None:
        sigma_pm = PM_PER_NM * found.sigma_nm[found.hit_found[mine], np.newaxis]
        coverage = float(np.mean(np.abs(error_pm) <= 1.96 * sigma_pm))
    scores.append(
        Score("rmse", _rms(error_pm), n, "lower", "pm", group=kind,
              limit=float(np.sqrt(np.mean(limit**2))) if len(limit) else None,
              bias=float(np.hypot(*mean)), spread=_rms(error_pm - mean), coverage=coverage,
              hint=f"typical distance of a {kind} column found from the true one")
    )  # fmt: skip
    if coverage is not None:
        scores.append(
            Score("coverage", coverage, 2 * n, "higher", group=kind,
                  hint="0.95 if the quoted uncertainties are honest; less: too sure")
        )  # fmt: skip
    return scores


def _rms(error: Floats) -> float:
    """Return the root mean square length of vectors (n, 2)."""
    return float(np.sqrt(np.mean(np.sum(error**2, axis=1))))


def thinned(measured: Measured, part: float, rng: np.random.Generator) -> Measured:
    """Keep each count with a probability: what a part of the dose would have given.

    A Poisson number whose every count is kept with probability p is a Poisson number of p times
    the mean. Of a camera that counts with noise of its own the noise is thinned too.
    """
    fewer = {
        name: replace(field, data=rng.binomial(field.data.astype(np.int64), part))
        for name, field in measured.signals.items()
    }
    return Measured(fewer, measured.settings)


def f1_against_dose(
    task: LightColumns, dataset: Dataset, parts: Sequence[float], repeats: int, seed: int = 0
) -> dict[str, Floats]:
    """Let the task's own algorithm answer from thinned counts, some times for each part.

    Returns
    -------
    dict of (parts, repeats) arrays
        f1 by kind.
    """
    measured = task.handed(dataset.measured())
    f1 = {kind: np.zeros((len(parts), repeats)) for kind in KINDS}
    for i, part in enumerate(parts):
        for j in range(repeats):
            fewer = thinned(measured, part, np.random.default_rng([seed, i, j]))
            found = task.compare(task.answer(fewer), dataset)
            for kind in KINDS:
                f1[kind][i, j] = found.f1(kind) or 0.0
    return f1

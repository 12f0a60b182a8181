"""The task molecule-counting: how many molecules isolated clusters have, in a movie of blinks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.count_molecules import Evidence, blink_probabilities, count, mean_blinks
from nanophantom.validation.matching import Matches, match
from nanophantom.validation.task import Estimates, Score, Scores, Task, require_tables

if TYPE_CHECKING:
    from nanophantom.validation.drawing import Plate
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

RADIUS_NM = 150.0
"""A cluster that is found lies no farther from the structure's middle."""
WRONG = 0.2
"""By so much each number of the calibration is made wrong."""
OF_THE_KINETICS = {
    "bursts_per_dye": "bursts",
    "off_time_s": "dark time",
    "on_time_s": "ON time",
}
EVIDENCE = ("blinks", "coincident", "dark_s", "least_photons", "activation_per_s")


class MoleculeCounting(Task):
    """Count the molecules of isolated clusters, with intervals, given calibrated kinetics."""

    name = "molecule-counting"
    title = "Number of molecules in clusters"
    default_algorithm = "nanophantom.analysis.count_molecules:find"
    inputs = ("movie",)
    needs = ("specimen_structures", "specimen_dyes", "dyes", "blinks", "view")
    needs_because = "they come from the instrument smlm and from labelled structures (origami, ...)"
    columns = ("x_nm", "y_nm", "molecules", "low", "high")
    optional_columns = EVIDENCE
    contract = f"""\
find(movie, settings)
  -> {{"x_nm": (n,), "y_nm": (n,), "molecules": (n,), "low": (n,), "high": (n,),
      optional "blinks", "coincident", "dark_s", "least_photons", "activation_per_s": (n,)}}

Receives
  movie           ADU, shape (frames, ny, nx); sliced along the frames it is read from disk
  settings        a dict of nominal values: pixel_size_nm, psf_sigma_nm, exposure_s, frame_period_s,
                  camera, and dye_kinetics as it was calibrated: on_time_s and off_time_s (means),
                  photons_per_burst, and for dyes that bleach bursts_per_dye; without it, sites are
                  visited for ever (DNA-PAINT)
Returns
  x_nm, y_nm      middles of the clusters, from the centre of pixel (0, 0), y points down
  molecules       in each: dyes that can fluoresce, whether they were activated or not; for
                  DNA-PAINT docking sites
  low, high       95 % interval of that number
  blinks, coincident, dark_s, least_photons, activation_per_s
                  what the count rests on (Evidence in analysis/count_molecules.py), with which the
                  report counts again with wrong kinetics
Scored
  A cluster matches a structure no farther than {RADIUS_NM:g} nm away, one to one. recall = matched / structures
  with a dye in view that can fluoresce; precision = matched / found. Of matched: bias = all
  molecules counted over all there are, less 1; rmse; coverage = share of intervals that hold the
  truth (0.95 is honest); interval_width = mean of high - low. The limit beside rmse is the scatter
  that is left when every single burst is seen. Columns named like "bursts +20 %" tell what the
  same evidence gives if that number of the calibration (bursts a dye; the dark time of a docking
  site) is wrong by as much.
"""  # noqa: E501

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade counts against the dyes that are there."""
        return _scores(self.name, self.compare(estimates, dataset))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw counts beside the truth, what they rest on, coverage, and wrong kinetics."""
        from nanophantom.validation import molecule_figures

        return molecule_figures.of_counts(dataset, self.compare(estimates, dataset))

    def compare(self, estimates: Estimates, dataset: Observed) -> Counted:
        """Match clusters and structures: the ground of scores and figures."""
        found = self.read(estimates)
        require_tables(self, dataset, self.needs)
        for k, (low, high) in enumerate(zip(found["low"], found["high"], strict=True)):
            if not low <= high:
                raise ValueError(
                    f"task {self.name} wants low up to high; row {k} has {low:g} and {high:g}"
                )
        x, y, dyes = _structures(dataset)
        pairs = match(
            np.column_stack([found["x_nm"], found["y_nm"]]), np.column_stack([x, y]), RADIUS_NM
        )
        told = dataset.settings
        frame_s = float(told["frame_period_s"])
        evidence = None
        if len(pairs) and all(name in found for name in EVIDENCE):
            evidence = Evidence(
                found["blinks"][pairs.found],
                found["coincident"][pairs.found],
                found["dark_s"][pairs.found],
                float(found["least_photons"][0]),
                float(found["activation_per_s"][0]),
                frame_s,
                dataset.n_frames,
            )
        kinetics = told.get("dye_kinetics", {})
        return Counted(
            found, x, y, dyes, pairs, evidence, kinetics, frame_s, dataset.n_frames * frame_s
        )


@dataclass(frozen=True, eq=False)
class Recount:
    """The same evidence, counted with one number of the calibration wrong."""

    name: str
    kinetics: Mapping[str, float]
    expected: float
    """Factor between this count and the one with the right kinetics, by the model."""
    bias: float
    """Molecules counted over those there are, less 1."""
    coverage: float


@dataclass(frozen=True, eq=False)
class Counted:
    """Clusters found beside structures."""

    found: dict[str, Floats]
    x_nm: Floats
    y_nm: Floats
    dyes: Ints
    """Structures with a dye that can fluoresce, and how many of these."""
    pairs: Matches
    evidence: Evidence | None
    """Of the pairs, if it was told."""
    kinetics: Mapping[str, float]
    """As an operator knows it."""
    frame_s: float
    duration_s: float

    @property
    def true(self) -> Floats:
        """Molecules of the pairs."""
        return self.dyes[self.pairs.true].astype(float)

    def of_pairs(self, column: str) -> Floats:
        """Return a column of the pairs."""
        return self.found[column][self.pairs.found]

    @property
    def covered(self) -> npt.NDArray[np.bool_]:
        """Which intervals hold the truth."""
        return (self.of_pairs("low") <= self.true) & (self.true <= self.of_pairs("high"))

    @property
    def bleaches(self) -> bool:
        """Whether dyes bleach, else sites are visited again and again."""
        return "bursts_per_dye" in self.kinetics

    def limit(self) -> Floats | None:
        """Return the scatter of each count that is left when every burst is seen, (pairs,).

        N dyes with a geometric number of bursts, of chance p to be the last, scatter by
        sqrt(N (1 - p)); N sites visited at a rate of 1/off_time by 1/sqrt(visits).
        """
        if self.bleaches:
            return np.sqrt(self.true * (1 - 1 / self.kinetics["bursts_per_dye"]))
        if "off_time_s" in self.kinetics:
            return np.sqrt(self.true * self.kinetics["off_time_s"] / self.duration_s)
        return None

    @cached_property
    def recounts(self) -> list[Recount]:
        """Count again with each number of the calibration too small and too large."""
        evidence = self.evidence
        if evidence is None:
            return []
        right = count(evidence, self.kinetics)["molecules"].sum()
        again = []
        for name, words in OF_THE_KINETICS.items():
            for sign in (-1, 1):
                if name not in self.kinetics:
                    continue
                wrong = {**self.kinetics, name: self.kinetics[name] * (1 + sign * WRONG)}
                counted = count(evidence, wrong)
                low, high, true = counted["low"], counted["high"], self.true
                again.append(
                    Recount(
                        f"{words} {sign * 100 * WRONG:+.0f} %".replace("-", "−"),
                        wrong,
                        float(counted["molecules"].sum() / right),
                        float(counted["molecules"].sum() / true.sum()) - 1,
                        float(np.mean((low <= true) & (true <= high))),
                    )
                )
        return again

    def lost(self) -> dict[str, float]:
        """Return blinks per dye as one cause after another takes some away; empty if not known.

        All bursts there ever would be; those in the movie's time; those seen; those told apart.
        """
        if self.evidence is None or not self.bleaches:
            return {}
        e = self.evidence
        activated = -np.expm1(-e.activation_per_s * self.duration_s)
        all_bursts = self.kinetics["bursts_per_dye"]
        told = mean_blinks(
            blink_probabilities(
                self.kinetics, self.frame_s, self.duration_s, e.activation_per_s, e.least_photons
            )
        )
        bright = mean_blinks(
            blink_probabilities(
                self.kinetics, self.frame_s, self.duration_s, e.activation_per_s, 1e-9
            )
        )
        return {
            "bursts, were the movie endless": all_bursts,
            "of dyes activated in time": all_bursts * float(activated),
            "less those linked into one": bright,
            "less those too short to see": told,
        }


def _structures(dataset: Observed) -> tuple[Floats, Floats, Ints]:
    """Return middles, in the image, and numbers of fluorescing dyes of structures in view."""
    table, view = dataset.truth("specimen_structures"), dataset.truth("view")
    x = np.asarray(table["x_nm"], np.float64) - float(view["x0_nm"][0])
    y = np.asarray(table["y_nm"], np.float64) - float(view["y0_nm"][0])
    dyes = np.asarray(table["n_fluorescing_dyes"], np.int64)
    pixel = float(view["pixel_size_nm"][0])
    ny, nx = dataset.signal("movie", 0, 1).shape[-2:]
    inside = (x > -pixel / 2) & (x < (nx - 0.5) * pixel)
    inside &= (y > -pixel / 2) & (y < (ny - 0.5) * pixel) & (dyes > 0)
    return x[inside], y[inside], dyes[inside]


def _scores(task: str, c: Counted) -> Scores:
    n, found = len(c.pairs), len(c.found["x_nm"])
    notes = _notes(c)
    ends = [
        Score("recall", n / len(c.dyes) if len(c.dyes) else None, len(c.dyes), "higher",
              hint=f"{n} of {len(c.dyes)} clusters with a molecule that can fluoresce were found"),
        Score("precision", n / found if found else None, found, "higher",
              hint=f"{n} of {found} clusters found are there"),
    ]  # fmt: skip
    if not n:
        none = Score("bias", None, 0, "lower", "%", hint="not defined: no cluster was found")
        return Scores(task, (none, *ends), notes)
    error, true = c.of_pairs("molecules") - c.true, c.true
    bias = 100 * float(error.sum() / true.sum())
    limit = c.limit()
    coverage = float(c.covered.mean())
    scores = [
        Score("bias", abs(bias), n, "lower", "%",
              limit=None if limit is None else
              100 * float(np.sqrt((limit**2).sum()) / true.sum()),
              hint=f"{true.sum() + error.sum():.0f} molecules were counted where there are "
              f"{true.sum():.0f}: {abs(bias):.1f} % too {'many' if bias > 0 else 'few'}; the limit "
              "is the chance of one movie in which every burst is seen"),
        Score("rmse", float(np.sqrt(np.mean(error**2))), n, "lower", "molecules",
              limit=None if limit is None else float(np.sqrt(np.mean(limit**2))) or None,
              bias=float(error.mean()), spread=float(error.std()), coverage=coverage,
              hint="typical error of one cluster's count (root mean square)"),
        Score("coverage", coverage, n, "higher",
              hint="share of the 95 % intervals that hold the truth: 0.95 is honest, less is too "
              f"sure; of {n} clusters, chance alone makes it vary by "
              f"{1.96 * np.sqrt(0.95 * 0.05 / n):.2f}"),
        Score("interval_width",
              float((c.of_pairs("high") - c.of_pairs("low")).mean()), n, "lower", "molecules",
              hint="mean width of the 95 % intervals"),
    ]  # fmt: skip
    # of the number that counts most; the report's figure has all
    for again in c.recounts[:2]:
        scores += [
            Score("bias", 100 * abs(again.bias), n, "lower", "%", group=again.name,
                  hint=f"with the calibrated {again.name}: {100 * again.bias:+.1f} %, of which "
                  f"{100 * (again.expected - 1):+.1f} % was to be expected"),
            Score("coverage", again.coverage, n, "higher", group=again.name,
                  hint="intervals that hold the truth, if the calibration is so wrong"),
        ]  # fmt: skip
    return Scores(task, (*scores, *ends), notes)


def _notes(c: Counted) -> tuple[str, ...]:
    fluorescing = (
        "Counted are molecules that can fluoresce. Proteins that never matured, or labels without "
        "a working dye, leave no light: the number of proteins is the count over the fluorescing "
        "fraction, which no movie tells."
    )
    if not c.bleaches:
        return (
            "Counted are docking sites that are there. Places whose strand is missing or broken "
            "are never visited: no movie tells of them.",
            "A cluster of N free sites waits an exponential time for its next imager, at N times "
            "the rate of one site. Only the dark before a visit counts, so overlapping visits and "
            "the unfinished dark time at the end need no correction; visits too short to be seen "
            "lower the rate, which the calibration is corrected for. The rate is taken for known.",
            *([_what_wrong_kinetics_do(c)] if c.recounts else []),
        )
    lost = c.lost()
    words = "; ".join(f"{name}: {value:.3g}" for name, value in lost.items())
    notes = [
        fluorescing,
        "A dye's bursts are geometric in number. From these the expected number of blinks follows "
        "by four corrections: dyes not activated when the movie ends (their rate is measured "
        "on how blinks get fewer), bursts whose light doesn't reach the threshold of detection in "
        "any frame, bursts that follow in less than the linking gap, and blinks cut off by the "
        "end. Blinks of two dyes at once are added as their number in a cluster makes "
        "probable." + (f" Blinks a dye, step by step: {words}." if lost else ""),
    ]
    if c.recounts:
        notes.append(_what_wrong_kinetics_do(c))
    return tuple(notes)


def _what_wrong_kinetics_do(c: Counted) -> str:
    words = "; ".join(
        f"{one.name}: {100 * one.bias:+.1f} % ({100 * (one.expected - 1):+.1f} % expected)"
        for one in c.recounts
    ).replace("-", "−")
    return (
        "The interval takes the kinetics for known. A wrong calibration moves all counts alike, "
        f"and more molecules don't help. All molecules counted, with one number wrong: {words}."
    )

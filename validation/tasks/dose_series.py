"""Task dose-series: find the atomic columns of one specimen in frames of less and more dose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.fields import Array, Table
from nanophantom.validation.task import Better, Estimates, Score, Scores, Task, require_tables
from nanophantom.validation.tasks.atomic_columns import (
    BORDER_NM,
    MATCH_RADIUS_NM,
    PM_PER_NM,
    AtomicColumns,
    Comparison,
)

if TYPE_CHECKING:
    from nanophantom.validation.drawing import Plate
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]

GOOD_F1 = 0.9
LOWEST = 3
"""So many of the lowest doses make the score of low dose."""
SEEN = 5.0
"""Signal-to-noise ratio at which a column can be found blindly (A. Rose)."""


class DoseSeries(Task):
    """Find the heavy atomic columns of a crystal in every frame of a dose series."""

    name = "dose-series"
    title = "Columns found against dose"
    default_algorithm = "nanophantom.analysis.dose_series:find"
    inputs = ("image",)
    columns = ("frame", "x_nm", "y_nm")
    optional_columns = ("sigma_nm",)
    contract = f"""\
find(images, settings) -> {{"frame": (n,), "x_nm": (n,), "y_nm": (n,), optional "sigma_nm": (n,)}}

Receives
  images      counts, shape (frames, ny, nx); the frames show one specimen with different doses
  settings    a dict of nominal values: pixel_size_nm and doses_e_per_A2 (of every frame) always;
              maybe defocus_nm, energy_kev, exposure_s, contrast ("bright" or "dark": how atoms
              look)
Returns, one row for every column found in a frame; each frame is to be answered by itself
  frame       number of the frame, from 0
  x_nm, y_nm  position in that frame; the centre of pixel (0, 0) is the origin, x points right,
              y down
  sigma_nm    standard uncertainty of each of the two coordinates (optional)
Scored
  Every frame as the task atomic-columns scores one: the same targets, moved by the frame's drift;
  positions are matched one to one within {MATCH_RADIUS_NM:g} nm, {BORDER_NM:g} nm at the edge
  count neither for nor against.
  dose_for_f1 = the lowest dose from which on f1 is at least {GOOD_F1:g}; low_dose_f1 = mean f1 of
  the {LOWEST} lowest doses; then recall, precision, f1 and rmse (pm, beside the Cramér-Rao bound of
  that dose) over all frames and dose by dose.
"""

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade the columns found, dose by dose."""
        return _scores(self.name, self.compare(estimates, dataset))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw scores against dose, frames with marks, and what denoising does."""
        from nanophantom.validation import dose_series_figures

        return dose_series_figures.of_series(dataset, self.compare(estimates, dataset))

    def compare(self, estimates: Estimates, dataset: Observed) -> Series:
        """Match each frame's finds with the truth: the ground of scores and figures."""
        found = self.read(estimates)
        require_tables(self, dataset, ("columns", "drift", "noise_free", "dose"))
        n, frame = dataset.n_frames, found["frame"]
        wrong = (frame != np.floor(frame)) | (frame < 0) | (frame >= n)
        if wrong.any():
            raise ValueError(
                f"task {self.name} wants frame as whole numbers from 0 to {n - 1}, "
                f"got {frame[wrong][0]:g}"
            )
        doses = np.asarray(dataset.truth("dose")["dose_e_per_A2"], np.float64)
        single = AtomicColumns()
        frames = []
        for i in range(n):
            mine = {name: column[frame == i] for name, column in found.items() if name != "frame"}
            one: Any = OneFrame(dataset, i, doses[i] / doses[0])
            frames.append(single.compare(mine, one))
        return Series(doses, tuple(frames))


class OneFrame:
    """One frame of a dataset as if it were all of it: what a grader of single frames may ask.

    Parameters
    ----------
    dataset
        All frames.
    index
        Which one.
    brighter
        Its dose over that of frame 0, which the noise-free image in the truth is of.
    """

    n_frames = 1

    def __init__(self, dataset: Observed, index: int, brighter: float) -> None:
        self._dataset, self._index, self._brighter = dataset, index, brighter
        self.settings: Mapping[str, Any] = dataset.settings
        self.signals: Sequence[str] = dataset.signals
        self.truth_tables: Sequence[str] = dataset.truth_tables

    def signal(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Return the frame, shape (1, ...)."""
        return self._dataset.signal(name, self._index, self._index + 1)

    def truth(self, table: str) -> Table:
        """Return a table of the truth as far as it is about this frame."""
        whole = self._dataset.truth(table)
        if table == "drift":
            return {name: column[self._index :][:1] for name, column in whole.items()}
        if table == "noise_free":
            return {name: np.asarray(v) * self._brighter for name, v in whole.items()}
        return whole


@dataclass(frozen=True, eq=False)
class Series:
    """Finds beside truth, frame by frame."""

    doses_e_per_A2: Floats
    frames: tuple[Comparison, ...]

    @property
    def levels(self) -> Floats:
        """The doses, each once, rising."""
        return np.unique(self.doses_e_per_A2)

    def at(self, dose_e_per_A2: float) -> list[Comparison]:
        """Return the frames of one dose."""
        chosen = np.flatnonzero(self.doses_e_per_A2 == dose_e_per_A2)
        return [self.frames[i] for i in chosen]

    def tally_at(self, dose_e_per_A2: float) -> Tally:
        """Return what was found at one dose."""
        return Tally.of(self.at(dose_e_per_A2))

    @property
    def dose_for_f1(self) -> float | None:
        """The lowest dose from which on all have an F1 of at least `GOOD_F1`; None: there is none.

        Doses without any target count as bad.
        """
        good = np.array([self.tally_at(dose).f1 >= GOOD_F1 for dose in self.levels])
        bad = np.flatnonzero(~good)
        first = 0 if not len(bad) else int(bad[-1]) + 1
        return float(self.levels[first]) if first < len(good) else None

    @property
    def seen_share(self) -> Floats:
        """Share of the targets that stand out by `SEEN` times the noise, at each level."""
        shares = []
        for dose in self.levels:
            clear = np.concatenate([c.visibility[c.target] for c in self.at(dose)])
            shares.append(float(np.mean(clear >= SEEN)) if len(clear) else 0.0)
        return np.array(shares)


@dataclass(frozen=True)
class Tally:
    """Hits and mistakes in some frames; errors in pm."""

    targets: int
    hits: int
    false: int
    rmse_pm: float | None
    limit_pm: float | None
    coverage: float | None

    @classmethod
    def of(cls, frames: Sequence[Comparison]) -> Tally:
        """Count over frames."""
        hits = sum(len(c.hit_found) for c in frames)
        square = sum(float(np.sum(c.error_nm**2)) for c in frames)
        limits = np.concatenate([c.limit_nm[c.hit_column] for c in frames] or [np.empty(0)])
        known = np.isfinite(limits)
        quoted = [c for c in frames if c.sigma_nm is not None and len(c.hit_found)]
        held = [
            (np.abs(c.error_nm) <= 1.96 * c.sigma_nm[c.hit_found][:, None]).ravel()
            for c in quoted
            if c.sigma_nm is not None
        ]
        return cls(
            targets=sum(int(c.target.sum()) for c in frames),
            hits=hits,
            false=sum(len(c.false) for c in frames),
            rmse_pm=PM_PER_NM * float(np.sqrt(square / hits)) if hits else None,
            limit_pm=PM_PER_NM * float(np.sqrt(np.mean(limits[known] ** 2)))
            if known.any()
            else None,
            coverage=float(np.mean(np.concatenate(held))) if held else None,
        )

    @property
    def recall(self) -> float:
        """Hits over targets."""
        return self.hits / self.targets if self.targets else 0.0

    @property
    def precision(self) -> float | None:
        """Hits over claims."""
        claims = self.hits + self.false
        return self.hits / claims if claims else None

    @property
    def f1(self) -> float:
        """Harmonic mean of recall and precision."""
        everything = self.hits + self.false + self.targets
        return 2 * self.hits / everything if everything else 0.0


def _scores(task: str, series: Series) -> Scores:
    levels, whole = series.levels, Tally.of(series.frames)
    if not whole.targets:
        reason = "this view holds no column that the task asks for"
        empty = (Score("dose_for_f1", None, 0, "lower", "e/Å²", hint=reason),)
        return Scores(task, empty, ("There are no target columns, so there is nothing to grade.",))
    first = series.dose_for_f1
    lowest = levels[:LOWEST]
    scores = [
        Score("dose_for_f1", first, len(levels), "lower", "e/Å²",
              hint=f"lowest dose from which on F1 is at least {GOOD_F1:g}" if first is not None
              else f"no dose of this series gives an F1 of {GOOD_F1:g}"),
        Score("low_dose_f1", float(np.mean([series.tally_at(d).f1 for d in lowest])), len(lowest),
              "higher", hint="mean F1 at " + ", ".join(f"{d:g}" for d in lowest) + " e/Å²"),
        *_of_part(whole, None),
    ]  # fmt: skip
    for dose in levels:
        scores += _of_part(series.tally_at(float(dose)), f"dose {dose:g}")
    return Scores(task, tuple(scores), _notes(series))


def _of_part(tally: Tally, group: str | None) -> list[Score]:
    """Return the scores of one dose, or of all together."""

    def score(
        name: str, value: float | None, n: int, better: Better, hint: str, **more: Any
    ) -> Score:
        return Score(name, value, n, better, group=group, hint=hint, **more)

    claims = tally.hits + tally.false
    scores = [
        score("f1", tally.f1, tally.targets, "higher",
              "recall and precision in one number (harmonic mean)"),
        score("recall", tally.recall, tally.targets, "higher",
              f"{tally.hits} of the {tally.targets} columns that are there were found"),
        score("precision", tally.precision, claims, "higher",
              f"{tally.hits} of the {claims} columns that were claimed are real" if claims
              else "not defined: nothing was found"),
        score("rmse", tally.rmse_pm, tally.hits, "lower",
              "typical distance of a find from the true column" if tally.hits
              else "not defined: no target was hit",
              unit="pm", limit=tally.limit_pm, coverage=tally.coverage),
    ]  # fmt: skip
    if tally.coverage is not None:
        hint = "0.95 if the quoted uncertainties are honest; less: too sure, more: too cautious"
        scores.append(score("coverage", tally.coverage, 2 * tally.hits, "higher", hint))
    return scores


def _notes(series: Series) -> tuple[str, ...]:
    share = series.seen_share
    clear = series.levels[share >= 0.5]
    notes = [
        "The limit is the Cramér-Rao bound: the least scatter that any unbiased algorithm can "
        "have with that frame's electrons, if the columns' shapes are known to it. It is taken "
        "over the columns that were found, at low dose the clearest ones; a find farther than "
        f"{MATCH_RADIUS_NM * PM_PER_NM:.0f} pm from every column counts as false, which cuts large "
        "errors off.",
        f"Half of the columns stand out from a flat area by {SEEN:g} times the noise from "
        f"{clear[0]:g} e/Å² on, the usual criterion of blind detection (A. Rose). Finding them at "
        "less costs false finds, or takes knowledge: that a crystal repeats itself, or how "
        "columns look."
        if len(clear)
        else f"At no dose half of the columns stand out by {SEEN:g} times the noise.",
    ]
    best = series.at(float(series.levels[-1]))
    if best and best[0].thermal_note:
        notes.append(best[0].thermal_note)
    return tuple(notes)

"""The task atom-counting: how many atoms each column of a dark-field image holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.atom_counting import count_by_statistics
from nanophantom.analysis.scattering_cross_sections import voronoi_cross_sections
from nanophantom.validation.limits import share_countable
from nanophantom.validation.matching import match
from nanophantom.validation.task import Estimates, Score, Scores, Task, require_tables

if TYPE_CHECKING:
    from nanophantom.simcore.fields import Table
    from nanophantom.validation.drawing import Plate
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

SIGNAL = "haadf"
MATCH_RADIUS_NM = 0.08
BORDER_NM = 0.2
LARGEST_EXTENT_NM = 0.05


class AtomCounting(Task):
    """Count the atoms of every column in a quantitative high-angle dark-field image."""

    name = "atom-counting"
    title = "Atoms in every column"
    default_algorithm = "nanophantom.analysis.z_contrast:count_atoms"
    inputs = (SIGNAL,)
    columns = ("x_nm", "y_nm", "n_atoms")
    optional_columns = ("confidence",)
    contract = f"""\
count_atoms(images, settings) -> {{"x_nm": (n,), "y_nm": (n,), "n_atoms": (n,), optional
                                  "confidence": (n,)}}

Receives
  images      electrons counted by the annular detector, shape (frames, ny, nx)
  settings    a dict of nominal values: pixel_size_nm, beam_electrons (electrons of the beam at
              each position), energy_kev, semiangle_mrad, detectors (inner_mrad and outer_mrad of
              each), and maybe crystal: cell_nm, numbers, positions_nm, b_factors_A2 of the crystal
              that the operator put in, its axes those of the image and of the beam
Returns
  x_nm, y_nm  column positions in frame 0; the centre of pixel (0, 0) is the origin, x points
              right, y down
  n_atoms     whole numbers
  confidence  probability that the number is right (optional)
Scored
  Targets are the columns of the heaviest element in view and of nothing else, whose atoms stand
  within {LARGEST_EXTENT_NM:g} nm (rms) of one axis, at least {BORDER_NM:g} nm inside frame 0.
  Positions are matched to targets one to one within {MATCH_RADIUS_NM:g} nm. What is left and lies
  on another column, or in the border, counts neither for nor against; all else is a false find.
  right = targets with exactly the true number / all targets (a column that wasn't found isn't
  right); within_one the same for at most one atom more or less; recall = targets found,
  precision = hits / (hits + false finds); error = mean absolute error of the numbers of the hits,
  bias = their mean error, in atoms; overconfidence = mean confidence minus the share of the hits
  that are right, without its sign. The limit beside right is the share that counting statistics
  allow an algorithm that knows the mean signal of every number and how frequent it is.
"""

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade numbers against the atoms that are there."""
        return _scores(self.name, self.compare(estimates, dataset))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw counts over the image, errors, the histogram and the confusion."""
        from nanophantom.validation import counting_figures

        return counting_figures.of_counts(dataset, self.compare(estimates, dataset))

    def compare(self, estimates: Estimates, dataset: Observed) -> Comparison:
        """Match columns found with the truth: the ground of scores and figures."""
        found = self.read(estimates)
        n_found = found["n_atoms"]
        if np.any(n_found != np.rint(n_found)):
            odd = n_found[n_found != np.rint(n_found)][0]
            raise ValueError(f"task {self.name} wants whole numbers n_atoms, got {odd:g}")
        confidence = found.get("confidence")
        if confidence is not None and ((confidence < 0) | (confidence > 1)).any():
            raise ValueError(f"task {self.name} wants a confidence from 0 to 1")
        truth = require_tables(self, dataset, ("columns", "drift"))
        pixel_size_nm = float(dataset.settings["pixel_size_nm"])
        columns = truth["columns"]
        there = np.column_stack([columns["x_nm"], columns["y_nm"]]).astype(np.float64)
        drift = np.array([truth["drift"]["dx_nm"][0], truth["drift"]["dy_nm"][0]], np.float64)
        there = there + drift
        ny, nx = dataset.signal(SIGNAL, 0, 1).shape[-2:]
        target = _targets(columns, there, (nx, ny), pixel_size_nm)

        positions = np.column_stack([found["x_nm"], found["y_nm"]])
        targets, others = np.flatnonzero(target), np.flatnonzero(~target)
        hits = match(positions, there[targets], MATCH_RADIUS_NM)
        rest = np.setdiff1d(np.arange(len(positions)), hits.found)
        excused = rest[match(positions[rest], there[others], MATCH_RADIUS_NM).found]
        rest = np.setdiff1d(rest, excused)
        return Comparison(
            found_nm=positions,
            n_found=n_found.astype(np.int64),
            confidence=confidence,
            there_nm=there,
            n_true=np.asarray(columns["n_atoms"], np.int64),
            target=target,
            hit_found=hits.found,
            hit_column=targets[hits.true],
            missed=np.setdiff1d(targets, targets[hits.true]),
            false=rest[_inside(positions[rest], (nx, ny), pixel_size_nm)],
            library_A2=_extra(estimates, "expected_A2", len(positions)),
            measured_A2=_extra(estimates, "cross_section_A2", len(positions)),
            expected=_noise_free(dataset, there, drift, pixel_size_nm),
            counted=dataset.signal(SIGNAL, 0, 1).dtype.kind in "iu",
        )


@dataclass(frozen=True, eq=False)
class Comparison:
    """Counts beside truth: positions (x, y) in frame 0 and indices into them."""

    found_nm: Floats
    n_found: Ints
    confidence: Floats | None
    there_nm: Floats
    """All columns, targets or not."""
    n_true: Ints
    target: Bools
    hit_found: Ints
    """Indices of the hits in ``found_nm``; ``hit_column`` holds those in ``there_nm``."""
    hit_column: Ints
    missed: Ints
    false: Ints
    measured_A2: Floats | None
    """Cross-sections of what was found, if the algorithm told them."""
    library_A2: Floats | None
    """What the algorithm takes the cross-section of each number to be, if it told."""
    expected: NoiseFree | None
    counted: bool
    """Whether single electrons were counted; if not there is no noise."""

    @property
    def error(self) -> Ints:
        """Number found minus true number of the hits."""
        return self.n_found[self.hit_found] - self.n_true[self.hit_column]

    @property
    def true_of_hits(self) -> Ints:
        """True numbers of the hits."""
        return self.n_true[self.hit_column]

    def by_statistics(self) -> float | None:
        """Return the share of the targets that groups of cross-sections alone would get right.

        No library: the classes are those that the measured cross-sections form. None if they
        form one group only.
        """
        if self.measured_A2 is None or len(self.hit_found) < 5:
            return None
        try:
            counts = count_by_statistics(self.measured_A2[self.hit_found])
        except ValueError:  # the cross-sections form one group, which tells no spacing
            return None
        return float(np.sum(counts.n_atoms == self.true_of_hits) / np.sum(self.target))


@dataclass(frozen=True, eq=False)
class NoiseFree:
    """What the columns would show without counting noise, one a column.

    Attributes
    ----------
    electrons
        Expected in the column's cell, all frames together.
    cross_section_A2
        The same as a cross-section.
    """

    electrons: Floats
    cross_section_A2: Floats


def _noise_free(
    dataset: Observed, there_nm: Floats, drift_nm: Floats, pixel_size_nm: float
) -> NoiseFree | None:
    """Integrate the noise-free image over the cells of the true columns in view."""
    if "noise_free" not in dataset.truth_tables:
        return None
    image = np.asarray(dataset.truth("noise_free")[SIGNAL], np.float64)
    beam = float(dataset.settings["beam_electrons"])
    size_nm = np.array(image.shape[::-1]) * pixel_size_nm
    at = there_nm - drift_nm
    seen = ((at > -pixel_size_nm / 2) & (at < size_nm - pixel_size_nm / 2)).all(axis=1)
    electrons, sections = np.full((2, len(at)), np.nan)
    x, y = at[seen].T
    cells = voronoi_cross_sections(image / beam, pixel_size_nm, x, y, beam_electrons=beam)
    sections[seen] = cells["cross_section_A2"]
    electrons[seen] = sections[seen] * beam * dataset.n_frames / (10 * pixel_size_nm) ** 2
    return NoiseFree(electrons, sections)


def _targets(columns: Table, there_nm: Floats, size: tuple[int, int], pixel_nm: float) -> Bools:
    """Say which columns an algorithm is asked for (see the contract)."""
    number = np.asarray(columns["number"])
    inside = _inside(there_nm, size, pixel_nm)
    if not inside.any():
        return inside
    pure = np.asarray(columns["weight"]) == number * np.asarray(columns["n_atoms"])
    straight = np.asarray(columns["extent_nm"]) <= LARGEST_EXTENT_NM
    return np.asarray(inside & pure & straight & (number == number[inside].max()))


def _inside(points_nm: Floats, size: tuple[int, int], pixel_nm: float) -> Bools:
    """Say which points (x, y) lie far enough inside a view of (nx, ny) pixels."""
    low, high = BORDER_NM - pixel_nm / 2, (np.array(size) - 0.5) * pixel_nm - BORDER_NM
    return np.asarray(((points_nm >= low) & (points_nm <= high)).all(axis=1))


def _extra(estimates: Estimates, name: str, n: int) -> Floats | None:
    """Return a column that the contract doesn't ask for, if it is there and sound."""
    values = np.asarray(estimates.get(name, ()))
    sound = values.shape == (n,) and values.dtype.kind in "iuf" and np.isfinite(values).all()
    return values.astype(np.float64) if sound else None


def _scores(task: str, c: Comparison) -> Scores:
    targets, hits, false = int(c.target.sum()), len(c.hit_found), len(c.false)
    if not targets:
        reason = "this view holds no column that the task asks for"
        return Scores(task, (Score("right", None, 0, "higher", hint=reason),))
    right, near = int(np.sum(c.error == 0)), int(np.sum(np.abs(c.error) <= 1))
    limit = _limit(c)
    claims = hits + false
    scores = [
        Score("right", right / targets, targets, "higher", limit=limit,
              hint=f"{right} of the {targets} columns were given exactly their number of atoms"),
        Score("within_one", near / targets, targets, "higher",
              hint=f"{near} of the {targets} columns were given their number or one off"),
    ]  # fmt: skip
    if hits:
        bias, spread = float(c.error.mean()), float(c.error.std())
        scores += [
            Score("error", float(np.abs(c.error).mean()), hits, "lower", "atoms", bias=bias,
                  spread=spread, hint="mean difference from the true number, regardless of sign"),
            Score("bias", abs(bias), hits, "lower", "atoms", hint=_bias_in_words(c, bias)),
        ]  # fmt: skip
    scores += [
        Score("recall", hits / targets, targets, "higher",
              hint=f"{hits} of the {targets} columns were found at all"),
        Score("precision", hits / claims if claims else None, claims, "higher",
              hint=f"{hits} of the {claims} columns that were claimed are real" if claims
              else "not defined: nothing was found"),
    ]  # fmt: skip
    if c.confidence is not None and hits:
        sure, share = float(c.confidence[c.hit_found].mean()), right / hits
        word = "too sure" if sure > share else "too cautious"
        hint = f"the counts claim to be right in {sure:.0%} of the cases and are in {share:.0%}: "
        scores.append(Score("overconfidence", abs(sure - share), hits, "lower", hint=hint + word))
    return Scores(task, tuple(scores), tuple(_notes(c, limit)))


def _bias_in_words(c: Comparison, bias: float) -> str:
    total, true = int(c.n_found[c.hit_found].sum()), int(c.true_of_hits.sum())
    way = "too many" if bias > 0 else "too few" if bias < 0 else "off"
    return f"on average {abs(bias):.2f} {way}: {total:,} atoms counted where {true:,} are"


def _limit(c: Comparison) -> float | None:
    """Return what counting statistics allow, or None where they don't limit."""
    if c.expected is None or not c.counted:
        return None
    electrons, n_true = c.expected.electrons[c.target], c.n_true[c.target]
    return share_countable(electrons, n_true)


def _notes(c: Comparison, limit: float | None) -> list[str]:
    notes = []
    if limit is not None and c.expected is not None:
        electrons, n_true = c.expected.electrons[c.target], c.n_true[c.target]
        of_class = {n: electrons[n_true == n].mean() for n in np.unique(n_true)}
        mean = np.array([of_class[n] for n in n_true])
        own = float(np.sqrt(np.mean((electrons / mean - 1) ** 2)))
        counting = float(np.sqrt(np.mean(1 / mean)))
        notes += [
            "The limit is what electron counting allows: the share that the best of all algorithms "
            "gets right if it knows the mean signal of each number of atoms and how frequent "
            "each number is.",
            f"Columns of equal number differ by {own:.1%} (rms) even without counting noise: by "
            "their neighbours, by thermal motion, by standing higher or lower. Counting adds "
            f"{counting:.1%}.",
        ]
    if c.measured_A2 is not None and len(c.hit_found) > 4:
        alone = c.by_statistics()
        notes.append(
            "For comparison, statistics alone (the groups that the same cross-sections form, no "
            "library) "
            + ("can't count here: the groups overlap to one."
               if alone is None else f"gets {alone:.0%} of the columns exactly right.")
        )  # fmt: skip
    return notes

"""The task phonon-convergence: the error of averages over frozen thermal configurations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from ase.data import chemical_symbols

from nanophantom.validation.drawing import Plate
from nanophantom.validation.task import Estimates, Score, Scores, Task, require_tables

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]

SIGNAL = "haadf"
WANTED_ERROR = 0.01
HONEST_FACTOR = 1.5
COLUMN_RADIUS_NM = 0.06


class PhononConvergence(Task):
    """Estimate how far averages over N configurations are from the infinite one."""

    name = "phonon-convergence"
    title = "Convergence with the number of thermal configurations"
    default_algorithm = "nanophantom.analysis.phonon_convergence:estimate"
    inputs = (SIGNAL,)
    columns = ("n_configurations", "error", "n_for_one_percent")
    optional_columns = ("exponent", "block_size", "block_error")
    contract = f"""\
estimate(images, settings) -> {{"n_configurations": (frames,), "error": (frames,),
                               "n_for_one_percent": (frames,)}}

Receives
  images      the signal {SIGNAL}, shape (frames, ny, nx), without counting noise; frame j averages
              the first N_j frozen thermal configurations of one specimen: later frames hold the
              configurations of earlier ones
  settings    a dict of nominal values; configurations_of_frame: the N_j
Returns, one row a frame
  n_configurations   N_j
  error              estimated error of the frame: rms difference from the infinite average over
                     all pixels, over the mean of the image
  n_for_one_percent  how many configurations an error of {WANTED_ERROR:g} takes (one number,
                     repeated)
  exponent           of the error against N (optional, one number, repeated)
Scored against an average over configurations that no frame holds, and their scatter
  ratio = estimated over true error, the geometric mean over frames; honest = part of the frames
  where that ratio lies within a factor of {HONEST_FACTOR:g}. The true error of a frame is its rms
  difference from the reference, less (in square) what the reference itself is off by.
  needed = estimated over true number for {WANTED_ERROR:g}; the true one follows from the scatter
  of the single configurations in the reference. exponent: that of the true errors' fit, and the
  deviation of the estimated one from -1/2, which independent configurations obey.
"""

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade estimated errors against those seen from an independent average."""
        return _scores(self.name, self.compare(estimates, dataset))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw the error against N, the images, and what is left to average."""
        from nanophantom.validation import phonon_figures

        return phonon_figures.of_convergence(dataset, self.compare(estimates, dataset))

    def compare(self, estimates: Estimates, dataset: Observed) -> Convergence:
        """Set estimated beside true errors: the ground of scores and figures."""
        said = self.read(estimates)
        numbers = np.asarray(dataset.settings.get("configurations_of_frame") or (), np.float64)
        if not np.array_equal(said["n_configurations"], numbers):
            raise ValueError(
                f"task {self.name} wants one row a frame, n_configurations "
                f"{numbers.astype(int).tolist()}; got {said['n_configurations'].tolist()}"
            )
        for name in ("error", "n_for_one_percent"):
            if (said[name] <= 0).any():
                raise ValueError(f"task {self.name} wants {name} above zero")
        truth = require_tables(self, dataset, ("converged", "converged_over", "scatter"))
        reference = np.asarray(truth["converged"][SIGNAL], np.float64)
        scatter = np.asarray(truth["scatter"][SIGNAL], np.float64)
        held_back = int(np.asarray(truth["converged_over"]["n_configurations"])[0])
        images = np.asarray(dataset.signal(SIGNAL), np.float64)
        off = (images - reference) ** 2
        mean = float(reference.mean())

        areas: dict[str, npt.NDArray[np.bool_]] = {"": np.ones(reference.shape, np.bool_)}
        if "columns" in dataset.truth_tables:
            pixel_size_nm = float(dataset.settings["pixel_size_nm"])
            areas |= _columns_of(dataset.truth("columns"), reference.shape, pixel_size_nm)
        true_error = {
            name: _true_error(off[:, area], scatter[area], held_back)
            / (mean if name == "" else float(reference[area].mean()))
            for name, area in areas.items()
        }
        single = {
            name: float(np.sqrt(np.mean(scatter[area] ** 2)))
            / (mean if name == "" else float(reference[area].mean()))
            for name, area in areas.items()
        }
        return Convergence(
            numbers=numbers,
            said=said["error"],
            said_needed=float(said["n_for_one_percent"][0]),
            said_exponent=float(said["exponent"][0]) if "exponent" in said else None,
            true=true_error,
            single=single,
            held_back=held_back,
        )


@dataclass(frozen=True, eq=False)
class Convergence:
    """Errors relative to the mean, estimated and true, for each number of configurations."""

    numbers: Floats
    said: Floats
    said_needed: float
    said_exponent: float | None
    true: Mapping[str, Floats]
    """Of the whole image (""), and around the columns of each element (over their own mean)."""
    single: Mapping[str, float]
    """Scatter of a single configuration, likewise: the law is single / sqrt(N)."""
    held_back: int

    @property
    def true_needed(self) -> float:
        """Configurations for the wanted error."""
        return (self.single[""] / WANTED_ERROR) ** 2

    @property
    def true_exponent(self) -> float:
        """Slope of the true errors against N, both logarithmic."""
        return float(np.polyfit(np.log(self.numbers), np.log(self.true[""]), 1)[0])


def _true_error(off: Floats, scatter: Floats, held_back: int) -> Floats:
    """Return the rms distance of each frame from the infinite average, (frames,).

    The reference averages other configurations, so its own error adds in square; that is taken
    away, down to a hundredth of what is seen.
    """
    seen = off.mean(axis=1)
    own = float(np.mean(scatter**2)) / held_back
    return np.asarray(np.sqrt(np.maximum(seen - own, 1e-2 * seen)), np.float64)


def _columns_of(
    columns: Mapping[str, Any], shape: tuple[int, ...], pixel_size_nm: float
) -> dict[str, npt.NDArray[np.bool_]]:
    """Return the pixels around the columns of each heaviest element, heaviest first."""
    y, x = np.indices(shape) * pixel_size_nm
    number = np.asarray(columns["number"])
    areas = {}
    for element in np.unique(number)[::-1].tolist():
        near = np.zeros(shape, np.bool_)
        for cx, cy in zip(
            columns["x_nm"][number == element], columns["y_nm"][number == element], strict=True
        ):
            near |= (x - cx) ** 2 + (y - cy) ** 2 <= COLUMN_RADIUS_NM**2
        if near.any():
            areas[chemical_symbols[element]] = near
    return areas


def _scores(task: str, c: Convergence) -> Scores:
    ratio = c.said / c.true[""]
    honest = np.abs(np.log(ratio)) <= np.log(HONEST_FACTOR)
    each = ", ".join(f"{n:g}: {r:.2f}" for n, r in zip(c.numbers, ratio, strict=True))
    off_law = None if c.said_exponent is None else abs(c.said_exponent + 0.5)
    typical = float(np.exp(np.mean(np.log(ratio))))
    needed = c.said_needed / c.true_needed
    scores = [
        Score("honest", float(honest.mean()), len(ratio), "higher",
              hint=f"{honest.sum()} of {len(ratio)} estimates lie within a factor of "
              f"{HONEST_FACTOR:g} of the true error"),
        Score("ratio", typical, len(ratio), "lower",
              hint=f"estimated over true error, 1 is right; for N = {each}"),
        Score("worst", float(np.exp(np.abs(np.log(ratio)).max())), len(ratio), "lower",
              hint="factor by which the worst of the estimates is wrong, 1 is right"),
        Score("needed", needed, 1, "lower",
              hint=f"{c.said_needed:.0f} configurations for 1 % were estimated, "
              f"{c.true_needed:.0f} are right; 1 is right"),
        Score("exponent", off_law, len(ratio), "lower",
              hint="distance of the estimated exponent from the law's −1/2: " + (
                  "none was given" if c.said_exponent is None else f"{c.said_exponent:.2f}"
              ).replace("-", "−")),
    ]  # fmt: skip
    elements = [
        f"{100 * error:.2g} % around {name} columns (relative to their own mean)"
        for name, error in c.single.items()
        if name
    ]
    notes = [
        f"The truth comes from {c.held_back} configurations that no image holds. A single "
        f"configuration is off by {100 * c.single['']:.2g} % of the mean"
        + (f": {', '.join(elements)}." if elements else "."),
        f"The true errors of these images fall as N to the power {c.true_exponent:.2f}; that "
        "isn't exactly −0.5 because the images are single draws, and nested.".replace("-0", "−0"),
    ]
    return Scores(task, tuple(scores), tuple(notes))

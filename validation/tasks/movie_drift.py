"""Task movie-drift: find where the stage was in every frame, from the molecules themselves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.localize import localize
from nanophantom.analysis.ring_correlation import LocalizationResolution, localization_resolution
from nanophantom.validation.localization_limit import Imaging, bounds
from nanophantom.validation.movie_drift_limit import drift_limit_nm, walk_variance
from nanophantom.validation.task import Estimates, Score, Scores, Task, require_tables

if TYPE_CHECKING:
    from nanophantom.simcore.fields import Table
    from nanophantom.validation.drawing import Plate
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]

FRC_SIDE_NM = 2048.0
FRC_PIXEL_NM = 1.0
WORST_UNCERTAINTY = 2.0
"""Times the median: localizations less certain aren't drawn."""
FEWEST_FOR_FRC = 200
RIVALS = {"aim": "adaptive intersection alone", "rcc": "redundant cross-correlation alone"}


class MovieDrift(Task):
    """Find the drift of the stage in every frame of a localization movie."""

    name = "movie-drift"
    title = "Drift of a localization movie"
    default_algorithm = "nanophantom.analysis.movie_drift:find"
    inputs = ("movie",)
    needs = ("drift",)
    needs_because = "it comes from the instrument smlm"
    columns = ("frame", "dx_nm", "dy_nm")
    optional_columns = (
        "sigma_nm", *(f"{name}_{axis}_nm" for name in RIVALS for axis in ("dx", "dy")),
    )  # fmt: skip
    contract = """\
find(movie, settings) -> {"frame": (frames,), "dx_nm": (frames,), "dy_nm": (frames,),
                          optional "sigma_nm", "aim_dx_nm", "aim_dy_nm", "rcc_dx_nm", "rcc_dy_nm"}

Receives
  movie         ADU, shape (frames, ny, nx); sliced along the frames it is read from disk
  settings      a dict of nominal values: pixel_size_nm, psf_sigma_nm, exposure_s, camera
Returns, one row a frame
  frame         number of the frame, from 0, each once
  dx_nm, dy_nm  how far the specimen lies to the right and down
  sigma_nm      standard uncertainty of each of the two (optional)
  aim_..., rcc_...  what adaptive intersection maximization and redundant cross-correlation give by
                themselves, for comparison (optional)
Scored
  The mean over the frames is taken from answers and truth; nobody can know it.
  rms = root mean square distance from the truth; rms.aim, rms.rcc of the other two; worst = the
  largest distance; coverage = fraction of coordinates within 1.96 sigma_nm. The limit is what
  someone could know who knew the place of every molecule and the strength of the stage's walk.
  resolution = Fourier ring correlation (1/7, blocks of time) of the movie's localizations, by the
  grader's own table, with the answer taken off; its limit is with the true drift taken off.
"""

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade displacements found against the true ones."""
        return _scores(self.name, self.compare(estimates, dataset))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw the path and its errors, images before and after, ring correlations."""
        from nanophantom.validation import movie_drift_figures

        return movie_drift_figures.of_movie_drift(self.compare(estimates, dataset))

    def compare(self, estimates: Estimates, dataset: Observed) -> MoviePath:
        """Set the paths found beside the true one: the ground of scores and figures."""
        found, n = self.read(estimates), dataset.n_frames
        if n < 2:
            raise ValueError(f"task {self.name} needs a movie of 2 frames or more, this has {n}")
        if not np.array_equal(np.sort(found["frame"]), np.arange(n)):
            raise ValueError(f"task {self.name} wants every frame from 0 to {n - 1} once")
        order = np.argsort(found["frame"])
        sigma = found["sigma_nm"][order] if "sigma_nm" in found else None
        if sigma is not None and (sigma <= 0).any():
            raise ValueError(f"task {self.name} wants sigma_nm above zero, got {sigma.min():g}")
        drift = require_tables(self, dataset, self.needs)["drift"]
        rivals = {
            name: _centred(found[f"{name}_dx_nm"], found[f"{name}_dy_nm"])[order]
            for name in RIVALS
            if f"{name}_dx_nm" in found and f"{name}_dy_nm" in found
        }
        return MoviePath(
            np.asarray(drift["t_s"], np.float64),
            _centred(found["dx_nm"], found["dy_nm"])[order],
            sigma,
            _centred(drift["dx_nm"], drift["dy_nm"]),
            rivals,
            dataset,
        )


@dataclass(frozen=True, eq=False)
class MoviePath:
    """Displacements (x, y) of every frame, shape (frames, 2), each with the mean zero."""

    t_s: Floats
    found_nm: Floats
    sigma_nm: Floats | None
    true_nm: Floats
    rivals: dict[str, Floats]
    """By other ways."""
    dataset: Observed

    @property
    def error_nm(self) -> Floats:
        """Found minus true displacement."""
        return self.found_nm - self.true_nm

    @property
    def coverage(self) -> float | None:
        """Fraction of coordinates within 1.96 quoted sigma of the truth."""
        if self.sigma_nm is None:
            return None
        return float(np.mean(np.abs(self.error_nm) <= 1.96 * self.sigma_nm[:, None]))

    @cached_property
    def limit_nm(self) -> Floats | None:
        """Least rms error along x and along y; None if the emitters' bounds aren't known."""
        if "emissions" not in self.dataset.frame_tables:
            return None
        imaging = Imaging.of(self.dataset)
        emissions = self.dataset.frame_table("emissions")
        if not imaging.one_camera or not len(emissions["frame"]):
            return None
        walk = walk_variance(self.true_nm)
        information = information_of(imaging, emissions, len(self.true_nm))
        if not (walk > 0 and information.any()):
            return None
        return np.array([drift_limit_nm(each, walk) for each in information])

    @cached_property
    def table(self) -> dict[str, npt.NDArray[Any]]:
        """The grader's own localizations, to draw images with."""
        measured = self.dataset.measured()
        table = localize(measured.signals["movie"].data, measured.settings)
        if not len(table["frame"]):
            return table
        worst = WORST_UNCERTAINTY * float(np.median(table["uncertainty_nm"]))
        return {name: column[table["uncertainty_nm"] < worst] for name, column in table.items()}

    @property
    def ways(self) -> dict[str, Floats]:
        """Displacements to take off, by what a figure calls them."""
        none = {"as taken": np.zeros_like(self.true_nm)}
        rivals = {name.upper(): path for name, path in reversed(self.rivals.items())}
        return none | rivals | {"answer": self.found_nm, "true drift": self.true_nm}

    def still(self, path_nm: Floats) -> Floats:
        """Return the localizations' places (2, n) with a drift taken off."""
        at = np.array([self.table["x_nm"], self.table["y_nm"]])
        return np.asarray(at - path_nm[self.table["frame"]].T)

    @cached_property
    def correlations(self) -> dict[str, LocalizationResolution]:
        """Ring correlation of the middle of the field, with each drift taken off."""
        frame = self.table["frame"]
        if len(frame) < FEWEST_FOR_FRC:
            return {}
        middle = np.median(self.still(self.true_nm), axis=1)[:, None]
        found = {}
        for name, path in self.ways.items():
            at = self.still(path)
            here = (np.abs(at - middle) < FRC_SIDE_NM / 2).all(axis=0)
            if here.sum() >= FEWEST_FOR_FRC:
                found[name] = localization_resolution(
                    frame[here], *at[:, here], pixel_size_nm=FRC_PIXEL_NM
                )
        return found


def information_of(imaging: Imaging, emissions: Table, n_frames: int) -> Floats:
    """Return what the emitters of each frame tell of the drift, (2, frames), in 1/nm^2."""
    columns = ("x_nm", "y_nm", "z_nm", "photons", "background")
    x, y, z, photons, background = (np.asarray(emissions[c], np.float64) for c in columns)
    limit = bounds(imaging, x, y, z, photons, background)
    frame = np.asarray(emissions["frame"], np.int64)
    return np.array(
        [
            np.bincount(frame, np.where(np.isfinite(s) & (s > 0), 1 / s**2, 0.0), n_frames)
            for s in (limit.x_nm, limit.y_nm)
        ]
    )


def rms_nm(error_nm: Floats) -> float:
    """Return the root mean square length of vectors (n, 2)."""
    return float(np.sqrt(np.mean(np.sum(error_nm**2, axis=1))))


def _centred(x: Any, y: Any) -> Floats:
    path = np.column_stack([np.asarray(x, np.float64), np.asarray(y, np.float64)])
    return np.asarray(path - path.mean(axis=0))


def _scores(task: str, path: MoviePath) -> Scores:
    n, rms = len(path.found_nm), rms_nm(path.error_nm)
    limit = None if path.limit_nm is None else float(np.hypot(*path.limit_nm))
    coverage = path.coverage
    scores = [
        Score("rms", rms, n, "lower", "nm", limit=limit, coverage=coverage,
              hint="typical distance between the drift found and the true one"),
        *(
            Score("rms", rms_nm(other - path.true_nm), n, "lower", "nm", group=name, limit=limit,
                  hint=f"by {RIVALS[name]}")
            for name, other in path.rivals.items()
        ),
        Score("worst", float(np.hypot(*path.error_nm.T).max()), n, "lower", "nm",
              hint="largest distance in any frame"),
        Score("rms", rms_nm(path.true_nm), n, "lower", "nm", group="uncorrected",
              hint="what is left if nothing is done: the drift itself, about its mean"),
    ]  # fmt: skip
    if coverage is not None:
        scores.append(Score("coverage", coverage, 2 * n, "higher", limit=0.95,
                            hint="0.95 if the quoted uncertainties are honest"))  # fmt: skip
    scores += _resolutions(path)
    return Scores(task, tuple(scores), tuple(_notes(path)))


def _resolutions(path: MoviePath) -> list[Score]:
    told = {name: c.resolution_nm for name, c in path.correlations.items()}
    n = len(path.table["frame"])
    best = told.get("true drift")
    return [
        Score("resolution", told[name], n, "lower", "nm", group=group, limit=best,
              hint=f"period down to which two halves of the image agree, {words}"
              + ("" if told[name] is not None else ": none"))
        for name, group, words in (
            ("answer", None, "the drift found taken off"),
            ("AIM", "aim", "that by AIM taken off"),
            ("RCC", "rcc", "that by RCC taken off"),
            ("as taken", "uncorrected", "nothing taken off"),
        )
        if name in told
    ]  # fmt: skip


def _notes(path: MoviePath) -> list[str]:
    notes = []
    if path.limit_nm is not None:
        walk = walk_variance(path.true_nm)
        notes.append(
            f"The limit is that of a walk of {np.sqrt(walk):.2g} nm a frame, seen by molecules "
            "whose places are known, each as well as its photons allow (Cramér-Rao): the least "
            "mean square error on average over such walks. That the places must be found from the "
            "same movie isn't in it."
        )
    if path.rivals:
        notes.append(
            "The analysis of this package begins with AIM, and then refines frame by frame, with "
            "a walk whose strength it finds from the movie. AIM and RCC alone give one shift a "
            "segment and a curve through them: what the stage does within a segment is lost."
        )
    return notes

"""Task drift: find how far the specimen moved in every frame of a low-dose stack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nanophantom.validation.aligned_sums import FilmMotion, margin_px, resolution_nm
from nanophantom.validation.drift_limit import drift_limit
from nanophantom.validation.specimen_counts import specimen_counts
from nanophantom.validation.task import Estimates, Score, Scores, Task, require_tables

if TYPE_CHECKING:
    from nanophantom.validation.drawing import Plate
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]

JUMP_NM = 0.1
"""Half of a lattice spacing or so: an error that changes by more fell for the next unit cell."""
PM_PER_NM = 1000.0


class Drift(Task):
    """Find the displacement of a specimen in the frames of a noisy, drifting stack."""

    name = "drift"
    title = "Drift of a low-dose stack"
    default_algorithm = "nanophantom.analysis.drift_path:find"
    inputs = ("image",)
    columns = ("frame", "dx_nm", "dy_nm")
    optional_columns = ("sigma_nm",)
    contract = f"""\
find(images, settings) -> {{"frame": (frames,), "dx_nm": (frames,), "dy_nm": (frames,),
                           optional "sigma_nm": (frames,)}}

Receives
  images      counts, shape (frames, ny, nx)
  settings    a dict of nominal values: pixel_size_nm always; maybe exposure_s, frame_period_s,
              doses_e_per_A2, defocus_nm, energy_kev
Returns, one row a frame
  frame         number of the frame, from 0, each once
  dx_nm, dy_nm  how far the specimen lies to the right and down of where it lay in frame 0
  sigma_nm      standard uncertainty of each of the two, about the mean of all frames (optional)
Scored
  The mean over the frames is taken from answer and truth; nobody can know it.
  rms = root mean square distance of the answer from the truth, in pm, and rms_px in pixels of
  the camera; worst = the largest distance; jumps = how often the error changes by more than
  {JUMP_NM:g} nm from one frame to the next: the answer fell for another unit cell of the crystal;
  coverage = fraction of coordinates within 1.96 sigma_nm. The limit is the Cramér-Rao bound of a
  stack whose specimen is unknown too.
  Where the beam also distorts the film, a frame's displacement is the mean over the view with
  each place weighted by what its counts tell of a shift, (∇λ)(∇λ)ᵀ/λ: that of the structure, not
  of the emptiness around it. rms_view is against the plain mean over the view instead.
  resolution = period, in nm, at which the sums of the even and the odd frames, moved back by the
  answer, correlate by 1/7; its limit is what the true displacement field gives.
"""

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade displacements found against the true ones."""
        path = self.compare(estimates, dataset)
        stack = np.asarray(dataset.signal("image"))
        step_nm, margin = path.pixel_size_nm, path.margin_px
        aligned = resolution_nm(stack, path.found_nm, step_nm, margin)
        best = resolution_nm(stack, path.view_nm, step_nm, margin, path.film)
        return _scores(self.name, path, aligned, best)

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw the path and its errors, the sums before and after, and the local motion."""
        from nanophantom.validation import drift_figures

        return drift_figures.of_drift(dataset, self.compare(estimates, dataset))

    def compare(self, estimates: Estimates, dataset: Observed) -> DriftPath:
        """Set the path found beside the true one: the ground of scores and figures."""
        found = self.read(estimates)
        n = dataset.n_frames
        if n < 2:
            raise ValueError(f"task {self.name} needs a stack of 2 frames or more, this has {n}")
        if not np.array_equal(np.sort(found["frame"]), np.arange(n)):
            raise ValueError(f"task {self.name} wants every frame from 0 to {n - 1} once")
        order = np.argsort(found["frame"])
        sigma_nm = found["sigma_nm"][order] if "sigma_nm" in found else None
        if sigma_nm is not None and (sigma_nm <= 0).any():
            raise ValueError(f"task {self.name} wants sigma_nm above zero, got {sigma_nm.min():g}")
        truth = require_tables(self, dataset, ("drift", "noise_free"))
        pixel_size_nm = float(dataset.settings["pixel_size_nm"])
        counts = specimen_counts(dataset)
        limit_nm = np.full(2, np.inf)
        if dataset.signal("image", 0, 1).dtype.kind in "iu":  # else shot noise is off
            limit_nm = drift_limit(counts, n) * pixel_size_nm
        view_nm = np.column_stack([truth["drift"]["dx_nm"], truth["drift"]["dy_nm"]])
        film = None
        if "beam_induced_motion" in dataset.truth_tables:
            film = FilmMotion.of(dataset, counts.shape)
        local_nm = np.zeros((n, 2)) if film is None else film.of_structure_nm(counts)
        return DriftPath(
            t_s=np.asarray(truth["drift"].get("t_s", np.arange(n)), np.float64),
            found_nm=np.column_stack([found["dx_nm"], found["dy_nm"]])[order],
            sigma_nm=sigma_nm,
            true_nm=view_nm + local_nm,
            view_nm=view_nm,
            limit_nm=limit_nm[::-1],
            pixel_size_nm=pixel_size_nm,
            film=film,
        )


@dataclass(frozen=True, eq=False)
class DriftPath:
    """Displacements (x, y) of every frame, found and true, shape (frames, 2)."""

    t_s: Floats
    found_nm: Floats
    sigma_nm: Floats | None
    true_nm: Floats
    """Of the structure."""
    view_nm: Floats
    """Mean over the view; the same where the film isn't distorted."""
    limit_nm: Floats
    """Cramér-Rao bound (x, y) of a frame's displacement; infinite without shot noise."""
    pixel_size_nm: float
    film: FilmMotion | None

    @property
    def error_nm(self) -> Floats:
        """Found minus true displacement, less the mean over the frames."""
        return _centred(self.found_nm - self.true_nm)

    @property
    def view_error_nm(self) -> Floats:
        """The same against the mean over the view."""
        return _centred(self.found_nm - self.view_nm)

    @property
    def jumps(self) -> npt.NDArray[np.intp]:
        """Frames at which the error changes by more than `JUMP_NM`."""
        steps = np.linalg.norm(np.diff(self.error_nm, axis=0), axis=1)
        return np.flatnonzero(steps > JUMP_NM) + 1

    @property
    def coverage(self) -> float | None:
        """Fraction of coordinates within 1.96 quoted sigma of the truth."""
        if self.sigma_nm is None:
            return None
        return float(np.mean(np.abs(self.error_nm) <= 1.96 * self.sigma_nm[:, None]))

    @property
    def margin_px(self) -> tuple[int, int]:
        """How far from the edges (y, x) every frame saw the specimen."""
        return margin_px(self.view_nm, self.pixel_size_nm)

    @property
    def radial_limit_nm(self) -> float | None:
        """Root mean square distance that the bound allows; None if nothing bounds it."""
        limit = float(np.hypot(*self.limit_nm))
        return limit if np.isfinite(limit) else None


def _centred(path_nm: Floats) -> Floats:
    return np.asarray(path_nm - path_nm.mean(axis=0))


def _rms(distance_nm: Floats) -> float:
    """Return the root mean square length of vectors (n, 2)."""
    return float(np.sqrt(np.mean(np.sum(distance_nm**2, axis=1))))


def _scores(task: str, path: DriftPath, aligned: float | None, best: float | None) -> Scores:
    n, rms_nm, limit_nm = len(path.found_nm), _rms(path.error_nm), path.radial_limit_nm
    limit_pm = None if limit_nm is None else limit_nm * PM_PER_NM
    limit_px = None if limit_nm is None else limit_nm / path.pixel_size_nm
    worst_nm = float(np.linalg.norm(path.error_nm, axis=1).max())
    jumps = path.jumps
    where = " (frames " + ", ".join(map(str, jumps[:8])) + ")" if len(jumps) else ""
    scores = [
        Score("rms", rms_nm * PM_PER_NM, n, "lower", "pm", limit=limit_pm, coverage=path.coverage,
              hint="typical distance of a frame from where it truly lies, all frames' mean apart"),
        Score("rms_px", rms_nm / path.pixel_size_nm, n, "lower", "px", limit=limit_px,
              hint="the same in pixels of the camera"),
        Score("jumps", float(len(jumps)), n, "lower",
              hint=f"times the answer fell for another unit cell of the crystal{where}"),
        Score("worst", worst_nm * PM_PER_NM, n, "lower", "pm", hint="error of the worst frame"),
        Score("resolution", aligned, n, "lower", "nm", limit=best,
              hint="finest period in which the sums of even and of odd frames agree" if aligned
              else "not defined: the sums of even and of odd frames agree in nothing"),
    ]  # fmt: skip
    if path.film is not None:
        scores.append(
            Score("rms_view", _rms(path.view_error_nm) * PM_PER_NM, n, "lower", "pm",
                  hint="against the mean over the view, empty places too")
        )  # fmt: skip
    if path.coverage is not None:
        hint = "0.95 if the quoted uncertainties are honest; less: too sure, more: too cautious"
        scores.append(Score("coverage", path.coverage, 2 * n, "higher", hint=hint))
    return Scores(task, tuple(scores), _notes(path))


def _notes(path: DriftPath) -> tuple[str, ...]:
    notes = []
    if path.radial_limit_nm is not None:
        notes.append(
            "The limit is the joint Cramér-Rao bound: the least scatter of unbiased shifts if the "
            "specimen is unknown too and only the counts tell both. It assumes that every frame "
            "shows the same picture, moved; motion inside an exposure and local motion aren't in "
            "it. Knowing that a specimen drifts smoothly may beat it."
        )
    if path.film is not None:
        local_pm = path.film.rms_nm[-1] * PM_PER_NM
        notes.append(
            f"The beam distorts the film: at the end its points lie {local_pm:.0f} pm (rms of the "
            "view) off a rigid motion. No single shift describes that; the truth of rms is the "
            "mean weighted by what each place tells of a shift, and a registration that weighs "
            "places a little otherwise follows another mean by a part of that motion. Quoted "
            "uncertainties of noise alone then hold less often. The resolution's limit undoes the "
            "whole field."
        )
    return tuple(notes)

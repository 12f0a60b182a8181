"""The task surface-reconstruction: the surface under an image that a known tip took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.probes.dilation import erode
from nanophantom.simcore.probes.tip_map import TipMap
from nanophantom.validation.height_figures import first_of, pixel_of
from nanophantom.validation.task import Estimates, Score, Scores, Task, require_tables
from nanophantom.validation.true_heights import noise_of_mean_nm, on_pixels, tip_of

if TYPE_CHECKING:
    from nanophantom.validation.drawing import Plate
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

TOLERANCE_NM = 0.5
"""A height is right within this."""


class SurfaceReconstruction(Task):
    """Take a known tip's shape off an image, and say where what remains is the surface."""

    name = "surface-reconstruction"
    title = "The surface under the image, and where it is certain"
    default_algorithm = "nanophantom.analysis.surface_estimate:find"
    inputs = ("height", "height_retrace")
    needs = ("surface", "tip")
    needs_because = "the true surface and the tip that took it are told by the afm"
    columns = ("row", "column", "height_nm", "certain")
    contract = f"""\
find(height, height_retrace, settings)
  -> {{"row": (n,), "column": (n,), "height_nm": (n,), "certain": (n,)}}

Receives
  height          recorded heights in nm, shape (frames, ny, nx)
  height_retrace  the same on the way back, stored from left to right as well
  settings        a dict of nominal values: pixel_size_nm (along x), pixel_size_y_nm, line_rate_hz,
                  setpoint_nm, integral_per_s, ..., and tip, the tip as it was characterised when
                  new (shape, radius_nm, half_angle_deg, ...)
Returns
  row, column     every pixel of the first frame, once, in any order
  height_nm       of the surface there; its zero is free, a tilt is not
  certain         1 where the height is claimed to be right within {TOLERANCE_NM:g} nm, else 0
Scored
  Heights count from the median difference to the truth over the pixels that this tip can reach.
  rmse = root mean square error of all pixels, certain only: of those called certain; image_rmse =
  the same of the recorded trace, nothing done to it; certain = share of the pixels called certain;
  precision = share of those that are right within {TOLERANCE_NM:g} nm; recall = share of the pixels
  that the tip can reach that were called certain. A pixel can be reached if the erosion of the
  noise-free image by the true tip is right there. That erosion's error, and the noise, are the
  limit beside rmse.
"""

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade heights and claims against the true surface."""
        return _scores(self.name, self.compare(estimates, dataset))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw image, truth, reconstruction, claims, residual and tip, and a profile."""
        from nanophantom.validation import reconstruction_figures

        return reconstruction_figures.of_reconstruction(dataset, self.compare(estimates, dataset))

    def compare(self, estimates: Estimates, dataset: Observed) -> Reconstructed:
        """Put a reconstruction beside the surface: the ground of scores and figures."""
        found = self.read(estimates)
        truth = require_tables(self, dataset, ("surface", "tip"))
        surface = np.asarray(truth["surface"]["height_nm"], np.float64)
        image = np.asarray(truth["surface"]["image_nm"], np.float64)
        pixels = [found["row"], found["column"]]
        ny, nx = surface.shape
        if any(np.any(p != np.rint(p)) for p in pixels):
            raise ValueError(f"task {self.name} wants row and column to be whole numbers")
        row, column = (p.astype(np.int64) for p in pixels)
        inside = (row >= 0) & (row < ny) & (column >= 0) & (column < nx)
        seen = np.zeros(surface.shape, bool)
        seen[row[inside], column[inside]] = True
        if len(row) != surface.size or not inside.all() or not seen.all():
            raise ValueError(
                f"task {self.name} wants each of the {ny} x {nx} pixels once, from (0, 0) to "
                f"({ny - 1}, {nx - 1}); got {len(row)} rows that name {int(seen.sum())} of them"
            )
        if np.any((found["certain"] != 0) & (found["certain"] != 1)):
            raise ValueError(f"task {self.name} wants certain to be 0 or 1")
        heights, certain = np.zeros(surface.shape), np.zeros(surface.shape, bool)
        heights[row, column] = found["height_nm"]
        certain[row, column] = found["certain"] == 1

        tip = on_pixels(tip_of(dataset), pixel_of(dataset))
        best = erode(image, tip.heights_nm, tip.apex)
        reached = np.abs(best - surface) <= TOLERANCE_NM
        raw = first_of(dataset, "height")
        return Reconstructed(
            surface=surface,
            found=heights - _zero(heights - surface, reached),
            image=raw - _zero(raw - surface, reached),
            best=best,
            certain=certain,
            reached=reached,
            noise_nm=noise_of_mean_nm(dataset),
            tip=tip,
        )


@dataclass(frozen=True, eq=False)
class Reconstructed:
    """A reconstruction beside the surface; maps are (ny, nx), heights in nm."""

    surface: Floats
    found: Floats
    """What was answered, its zero put to the surface's."""
    image: Floats
    """The recorded trace, its zero put there too."""
    best: Floats
    """The erosion of the noise-free image by the true tip."""
    certain: Bools
    reached: Bools
    """Where `best` is right."""
    noise_nm: float
    """Of the mean of trace and retrace."""
    tip: TipMap
    """The true one, on the pixels of the image."""


def _zero(error: Floats, reached: Bools) -> float:
    """Return the offset of heights whose zero is free."""
    return float(np.median(error[reached] if reached.any() else error))


def _scores(task: str, c: Reconstructed) -> Scores:
    error = c.found - c.surface
    out_of_reach = c.best - c.surface
    unreached_nm = _rms(out_of_reach - _zero(out_of_reach, c.reached))
    limit = float(np.hypot(unreached_nm, c.noise_nm))
    pixels, claimed = error.size, int(c.certain.sum())
    bias, spread = float(error.mean()), float(error.std())
    image = c.image - c.surface
    right = int(np.sum(np.abs(error[c.certain]) <= TOLERANCE_NM))
    reachable = int(c.reached.sum())
    both = int(np.sum(c.reached & c.certain))
    some = error[c.certain]
    scores = (
        Score("rmse", _rms(error), pixels, "lower", "nm", limit=limit, bias=bias, spread=spread,
              hint="typical error of a height, over all pixels (root mean square)"),
        Score("rmse", _rms(some) if claimed else None, claimed, "lower", "nm", group="certain",
              limit=c.noise_nm if c.noise_nm > 0 else None,
              bias=float(some.mean()) if claimed else None,
              spread=float(some.std()) if claimed else None,
              hint="typical error of a height that was called certain" if claimed
              else "not defined: no pixel was called certain"),
        Score("image_rmse", _rms(image), pixels, "lower", "nm",
              hint="typical error of a height of the image as it was recorded"),
        Score("certain", claimed / pixels, pixels, "higher", limit=reachable / pixels,
              hint=f"{claimed:,} of the {pixels:,} pixels were called certain; the tip can reach "
              f"{reachable:,}"),
        Score("precision", right / claimed if claimed else None, claimed, "higher",
              hint=f"{right:,} of the {claimed:,} pixels called certain are right within "
              f"{TOLERANCE_NM:g} nm"),
        Score("recall", both / reachable if reachable else None, reachable, "higher",
              hint=f"{both:,} of the {reachable:,} pixels that the tip can reach were called "
              "certain"),
    )  # fmt: skip
    notes = (
        "The limit of the error over all pixels is what remains where this tip can't reach "
        f"({unreached_nm:.3g} nm rms: the erosion of the noise-free image by the true tip, the "
        "highest surface that makes that image) and the noise of a mean of trace and retrace "
        f"({c.noise_nm:.2g} nm), added as squares. No knowledge of the specimen is in it: who "
        "knows that particles are spheres can come below. Of pixels called certain the noise alone "
        "is the limit; the loop's lag isn't in either.",
        "The share of pixels that the tip can reach is a limit of the share called certain only "
        "if all the claims are to be right.",
    )
    return Scores(task, scores, notes)


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2)))

"""The task clean-surface: the true surface under all that scanner, loop and sensor add to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nanophantom.validation.surface_comparison import SurfaceComparison, compared
from nanophantom.validation.task import Better, Estimates, Score, Scores, Task, require_tables

if TYPE_CHECKING:
    from nanophantom.validation.drawing import Plate
    from nanophantom.validation.task import Observed

TABLES = ("view", "surface", "motion", "line_offsets", "mains", "scars", "steps")


class CleanSurface(Task):
    """Give back the surface that a frame, or a pair of them, shows with artefacts."""

    name = "clean-surface"
    title = "The surface without the scanner's artefacts"
    default_algorithm = "nanophantom.analysis.clean_height:find"
    inputs = ("height", "height_retrace")
    needs = ("surface", "motion")
    needs_because = "images of a force microscope have them"
    columns = (
        "row",
        "column",
        "height_nm",
        "scar",
        "dx_nm",
        "dy_nm",
        "drift_x_nm_per_s",
        "drift_y_nm_per_s",
    )
    contract = """\
find(height, height_retrace, settings) -> {"row", "column", "height_nm", "scar", "dx_nm", "dy_nm",
                                           "drift_x_nm_per_s", "drift_y_nm_per_s"}, each (ny * nx,)

Receives
  height, height_retrace  heights in nm, shape (frames, ny, nx): there and back, both stored from
              left to right and from top to bottom; frames show one area, one after another
  settings    a dict of nominal values: pixel_size_nm and pixel_size_y_nm, line_rate_hz and
              slow_axis ("down" or "up") of each frame, frame_starts_s, knots_a_line (pixels of a
              line there and back with what lies beyond its ends), tip, and more
Returns, one row for each pixel of the raster
  row, column the pixel
  height_nm   the surface as the fresh tip would see it there without artefacts, levelled
  scar        1 where debris lay under the tip during the trace of frame 0, else 0
  dx_nm, dy_nm  where the pixel of frame 0 really lay, less where the raster says: the mean of trace
              and retrace
  drift_x_nm_per_s, drift_y_nm_per_s  velocity (the same in every row of the table) with which the
              specimen drifts in the image's frame, creep of the scanner included
Scored
  rmse        of height_nm against the true surface dilated by the fresh tip; its limit is the noise
              of the recorded heights over the root of the number of images averaged (the first two
              frames, there and back), which no map without smoothing beats
  background  the same on bare ground only: the first material, away from the flanks of things
  distortion  rms of (dx, dy) against the truth, in pixels
  drift_error distance of the drift velocity from the true one: the slope of minus the displacement
              against time, through the rows of both frames
  scar_recall, scar_precision  of pixels; those with a spike count neither way
  rmse_raw, background_raw, distortion_raw: of frame 0's trace as recorded, with the same allowances
  Allowances, since nothing in the images tells: a common shift of the map and of (dx, dy); the best
  plane of the height errors; the shear by a scanner whose axes are coupled, which a calibration
  would take off. That is taken from the truth, and the score calibration says how much it is.
  Pixels near the borders are left out, since the true raster doesn't hold all places that drift
  leads to.
"""

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade a clean map, its geometry and the scars against the truth."""
        return _scores(self.name, self.compare(estimates, dataset))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw raw, clean and true surface, the errors, and each cause's part of them."""
        from nanophantom.validation import clean_surface_figures

        return clean_surface_figures.of_surface(dataset, self.compare(estimates, dataset))

    def compare(self, estimates: Estimates, dataset: Observed) -> SurfaceComparison:
        """Set the map beside the truth: the ground of scores and figures."""
        said = self.read(estimates)
        require_tables(self, dataset, TABLES)
        shape = np.shape(dataset.signal("height", 0, 1))[1:]
        row, column = said["row"], said["column"]
        ny, nx = shape
        order = np.lexsort((column, row))
        every = np.indices(shape).reshape(2, -1)
        if len(row) != ny * nx or not np.array_equal(np.stack([row, column])[:, order], every):
            raise ValueError(
                f"task {self.name} wants one row for each of the {ny} x {nx} pixels, row 0 to "
                f"{ny - 1} and column 0 to {nx - 1}; got {len(row)} rows"
            )
        if not np.isin(said["scar"], (0, 1)).all():
            raise ValueError(f"task {self.name} wants scar to be 0 or 1")
        for name in ("drift_x_nm_per_s", "drift_y_nm_per_s"):
            if np.ptp(said[name]) > 0:
                raise ValueError(f"task {self.name} wants one {name}, the same in every row")
        maps = {name: values[order].reshape(shape) for name, values in said.items()}
        return compared(dataset, maps)


def _scores(task: str, c: SurfaceComparison) -> Scores:
    n, ground = int(c.used.sum()), int(c.ground.sum())
    pixels = f"{c.images} images, noise {c.noise_nm:.3g} nm each"
    lower: Better = "lower"
    scores = (
        Score("rmse", c.rmse_nm, n, lower, "nm", limit=c.limit_nm,
              hint="typical height error of the clean map; as recorded it was "
                   f"{c.raw_rmse_nm:.2f} nm"),
        Score("background", c.background_nm, ground, lower, "nm", limit=c.limit_nm,
              hint="the same on bare ground, where no feature is misplaced"),
        Score("distortion", c.distortion_px, n, lower, "px",
              hint="typical distance of a pixel from where it is said to lie; the jitter of lines "
                   f"alone is {c.jitter_px:.2f} px"),
        Score("drift_error", c.drift_error_nm_per_s, 2, lower, "nm/s",
              hint="of the drift velocity; the specimen drifts, creep included, at "
                   f"{c.drift_speed_nm_per_s:.3f} nm/s"),
        _share("scar_recall", c.scar_hits, c.scars_true, "scarred pixels that were found"),
        _share("scar_precision", c.scar_hits, c.scars_said, "pixels called scarred that are"),
        Score("rmse_raw", c.raw_rmse_nm, n, lower, "nm",
              hint="typical height error of frame 0's trace as recorded"),
        Score("background_raw", c.raw_background_nm, ground, lower, "nm",
              hint="the same on bare ground"),
        Score("distortion_raw", c.raw_distortion_px, n, lower, "px",
              hint="typical distance of frame 0's pixels from where the raster says"),
        Score("calibration", c.calibration_px, n, lower, "px",
              hint="shear by the coupling of the scanner's axes, which isn't counted above: no "
                   "frame shows it"),
    )  # fmt: skip
    notes = (
        "Heights are compared after the best common shift and the best plane of the errors.",
        f"Limit of rmse and background: the noise of the recorded heights, averaged ({pixels}). "
        "Levelling by rows takes the mean of the true roughness along each row off as well, so "
        "even a perfect one stays above it.",
    )
    return Scores(task, scores, notes)


def _share(name: str, part: int, whole: int, what: str) -> Score:
    if not whole:
        return Score(name, None, 0, "higher", hint="not defined: there are none")
    return Score(name, part / whole, whole, "higher", hint=f"{part} of {whole} {what}")

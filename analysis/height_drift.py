"""Undo drift and creep in two height images of one area, by the times of their lines.

A line of a scan is fast, a frame slow: while it lasts the specimen drifts and the scanner still
creeps from its last move. So each row has a displacement d(t) of its own, a smooth function of
the time at which it was read: a drift v_d stretches the slow axis by v_d / v_slow. A frame read
downwards and the next read upwards see one row at different times, and with the drift's sign
turned; so do, by a constant time, two frames read the same way. What the rows differ by is
d(t1) - d(t2), from which d follows where its form is known:

* drift: linear in t;
* creep: a lg((t - t0) / 0.1 s) after the move that ended at t0 (an open-loop piezo goes on by 1 to
  2 % of its move in each decade of time, Physik Instrumente's piezo tutorial), none before 0.1 s;
* relaxation: a exp(-(t - t0) / tau), as of a stage that cools down.

What is the same before and behind the time of reversal the pair can't tell, nor a constant: there
a form is only extrapolated. Of creeps and relaxations that explain the rows alike the small one is
taken (a normal prior of 3 px).

Blocks of rows are registered first, whatever their contents. From there on all rows are
compared at once: least squares of the difference of both corrected images (Gauss-Newton), the
corrected images taken anew each round. An offset of a row doesn't matter.

The displacement (dy, dx) of a row is where on the specimen it really lies, less where the raster
says, as in :mod:`nanophantom.analysis.scan_distortion`. A specimen that drifts with v has
d = -v t.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nanophantom.analysis.row_displacements import (
    BLOCK_ROWS,
    NOTHING_IN_COMMON,
    SMOOTH_PX,
    Differences,
    DriftModel,
    FramePair,
    MotionModel,
    detrended,
    normal_equations,
)
from nanophantom.analysis.scars import inpaint
from nanophantom.simcore.pixel_size import PixelSize, pixel_pair

__all__ = ["DriftCorrection", "DriftModel", "correct"]

Floats = npt.NDArray[np.float64]
BLOCK_ROUNDS, ROUNDS = 4, 12
SETTLED_PX = 1e-3
CORRELATED = 6.0
"""Standard deviations of chance by which corrected frames must correlate."""
MISMATCH_PX = 1.0
"""Blocks that differ by more weren't aligned."""


@dataclass(frozen=True, eq=False)
class DriftCorrection:
    """Two frames without their drift.

    Attributes
    ----------
    image : (ny, nx)
        Mean of both corrected frames; a pixel that one of them saw is that one's, one that
        neither saw the nearest one's.
    coverage : (ny, nx) int64
        How many frames saw each pixel.
    corrected : (2, ny, nx)
        Each frame on the grid of the mean displacement, less its drift in z.
    velocity_nm_per_s : (2,)
        (vy, vx) with which the specimen drifts: the part linear in time.
    velocity_z_nm_per_s : float
        With which its height grows, from how the rows' medians of both frames come apart.
    creep_nm_per_decade, relaxation_nm : (2,)
        (y, x) of the displacement per decade of time, and of the relaxation; zero if not in the
        model.
    time_constant_s : float
        Of the relaxation; infinite if there is none.
    displacement_px : (2, ny, 2)
        (dy, dx) of every row of each frame, as stored; the mean over all is zero.
    model : str
        "linear", "creep" or "exponential".
    residual_px : float
        Root mean square over blocks of rows, y and x, of what is left between the corrected
        frames.
    residual_nm : float
        The same of heights, per frame: noise, if all went well.
    """

    image: Floats
    coverage: npt.NDArray[np.int64]
    corrected: Floats
    velocity_nm_per_s: Floats
    velocity_z_nm_per_s: float
    creep_nm_per_decade: Floats
    relaxation_nm: Floats
    time_constant_s: float
    displacement_px: Floats
    model: DriftModel
    residual_px: float
    residual_nm: float


def correct(
    frames: npt.ArrayLike,
    times_s: npt.ArrayLike,
    pixel_size_nm: PixelSize,
    model: DriftModel | Literal["auto"] = "auto",
    max_shift_px: float | None = None,
    start_s: float | None = None,
    mask: npt.ArrayLike | None = None,
    course_px: npt.ArrayLike | None = None,
) -> DriftCorrection:
    """Find drift and creep of a pair of frames and correct both.

    Parameters
    ----------
    frames : (2, ny, nx)
        Heights in nm, both stored as the specimen lies: row 0 on top however it was scanned.
    times_s : (2, ny)
        When each row was read. Downwards they rise along the rows, upwards they fall.
    pixel_size_nm : float or (y, x)
    model : {"auto", "linear", "creep", "exponential"}
        Drift alone, or with creep or a relaxation. "auto" takes these two only where they fit
        better by more than their freedom explains (BIC).
    max_shift_px : float, optional
        Largest shift of a row between the frames, along y and x; an eighth of the shorter side
        if not given. On a lattice at most half its period.
    start_s : float, optional
        When creep and relaxation began; one line before the first one read, if not given.
    mask : (2, ny, nx) bool, optional
        True where a height isn't to be used (scars, say): filled in.
    course_px : (2, ny), optional
        Displacement along y of each row per unit of one more cause, whose course is known but
        not how much of it there is: :func:`nanophantom.analysis.slow_axis_creep.ramp_creep_px`.

    Raises
    ------
    ValueError
        Frames, times and mask aren't finite or don't fit each other, sides have fewer than 32
        pixels, all rows of both frames have the same times, the frames show nothing to align by,
        or a parameter is none of those above.
    """
    z, times, pixel = _checked(frames, times_s, pixel_size_nm, mask)
    line_s = float(np.min(np.abs(np.diff(times, axis=1))))
    origin = float(np.min(times)) - line_s if start_s is None else float(start_s)
    if not origin <= np.min(times):
        raise ValueError(f"start_s must not be later than the first line, got {start_s}")
    names: dict[str, tuple[DriftModel, ...]] = {
        "auto": ("linear", "creep", "exponential"),
        "linear": ("linear",),
        "creep": ("creep",),
        "exponential": ("exponential",),
    }
    if model not in names:
        raise ValueError(f"model must be one of {', '.join(names)}, got {model!r}")
    reach = min(z.shape[1:]) / 8 if max_shift_px is None else float(max_shift_px)
    if not (np.isfinite(reach) and reach > 0):
        raise ValueError(f"max_shift_px must be positive, got {max_shift_px}")

    course = None
    if course_px is not None:
        values = np.asarray(course_px, np.float64)
        if values.shape != times.shape or not np.all(np.isfinite(values)):
            raise ValueError(f"course_px must be finite, of the shape {times.shape} of times_s")
        order = np.argsort(times, axis=None)
        course = times.ravel()[order], values.ravel()[order]

    pair = FramePair(np.stack([ndimage.spline_filter(frame, mode="mirror") for frame in z]), times)
    best = MotionModel("linear", origin, float(np.ptp(times)), np.inf, np.zeros((1, 2)))
    for i in range(BLOCK_ROUNDS):
        # Rows that were read soon after each other first: they lead to those that weren't.
        share = (i + 1) / BLOCK_ROUNDS
        # Blocks tell a form roughly: rows decide.
        candidates = ("linear", *names[model]) if share == 1 else ("linear",)
        blocks = pair.blocks_registered(best, reach, share)
        best = pair.fitted(best, candidates, blocks, robust=True)
    best = replace(best, course=course)
    for i in range(ROUNDS):
        # Two near-equal forms must not take turns for ever.
        candidates = names[model] if i < ROUNDS // 2 else (best.name,)
        before, best = best, pair.fitted(best, candidates, pair.rows_compared(best), robust=False)
        change = best.displacement(times) - before.displacement(times)
        if np.max(np.abs(change - np.mean(change, axis=(0, 1)))) < SETTLED_PX:
            break
    return _result(pair, pixel, best)


def _result(pair: FramePair, pixel_nm: Floats, model: MotionModel) -> DriftCorrection:
    images, seen, times = pair.corrected(model)
    both = seen[0] & seen[1]
    if not np.any(both):
        raise ValueError("the corrected frames have no part in common: lower max_shift_px")
    rows = np.flatnonzero(np.any(both, axis=1))
    apart = np.array([np.median((images[1] - images[0])[row][both[row]]) for row in rows])
    between = (times[1] - times[0])[rows]
    if np.ptp(between) > 1e-6 * np.max(np.abs(between)):
        velocity_z = float(np.polyfit(between, apart, 1)[0])
    else:
        velocity_z = float(np.mean(apart / between))
    images = images - velocity_z * (times - np.mean(pair.times_s))[..., None]

    coverage = np.count_nonzero(seen, axis=0)
    mean = np.sum(images, axis=0, where=seen | (coverage == 0)) / np.where(
        coverage == 0, 2, coverage
    )
    if _correlation(images, both) < CORRELATED:
        raise ValueError(NOTHING_IN_COMMON)
    information, moments = normal_equations(images, seen)
    blocks = np.arange(0, len(information), BLOCK_ROWS // 2)
    left = Differences(
        times, np.add.reduceat(information, blocks), np.add.reduceat(moments, blocks)
    ).difference()
    residual_px = float(np.sqrt(np.mean(left**2)))
    if residual_px > MISMATCH_PX:
        raise ValueError(
            f"the frames still differ by {residual_px:.1f} px (rms) after correction: they show "
            "different places, or drift more than max_shift_px allows"
        )
    unlike = images[1] - images[0]
    unlike = unlike[rows] - np.array([np.median(unlike[r][both[r]]) for r in rows])[:, None]
    parts = model.parts * pixel_nm
    zero = np.zeros(2)
    return DriftCorrection(
        image=mean,
        coverage=coverage,
        corrected=images,
        velocity_nm_per_s=-parts[0] / model.span_s,
        velocity_z_nm_per_s=velocity_z,
        creep_nm_per_decade=parts[1] if model.name == "creep" else zero,
        relaxation_nm=parts[1] if model.name == "exponential" else zero,
        time_constant_s=model.time_constant_s,
        displacement_px=pair.centred(model),
        model=model.name,
        residual_px=residual_px,
        residual_nm=float(np.sqrt(np.mean(unlike[both[rows]] ** 2) / 2)),
    )


def _correlation(images: Floats, both: npt.NDArray[np.bool_]) -> float:
    """Return the correlation of two images in standard deviations of what noise has by chance."""
    smooth = ndimage.gaussian_filter(detrended(images), (0, SMOOTH_PX, SMOOTH_PX))
    one, other = (image[both] - np.mean(image[both]) for image in smooth)
    power = np.sqrt((one @ one) * (other @ other))
    independent = len(one) / (4 * np.pi * SMOOTH_PX**2)
    return float(one @ other / power * np.sqrt(independent)) if power > 0 else 0.0


def _checked(
    frames: npt.ArrayLike,
    times_s: npt.ArrayLike,
    pixel_size_nm: PixelSize,
    mask: npt.ArrayLike | None,
) -> tuple[Floats, Floats, Floats]:
    """Return frames with what is masked filled in, times, and the pixel (y, x)."""
    z, times = np.asarray(frames, np.float64), np.asarray(times_s, np.float64)
    if z.ndim != 3 or len(z) != 2 or min(z.shape[1:]) < BLOCK_ROWS:
        raise ValueError(
            f"frames are a pair (2, ny, nx) with sides of {BLOCK_ROWS} or more, got {z.shape}"
        )
    if times.shape != z.shape[:2] or not np.all(np.isfinite(times)):
        raise ValueError(f"times_s must be finite, one per row {z.shape[:2]}, got {times.shape}")
    steps = np.diff(times, axis=1)
    if not np.all(np.all(steps > 0, axis=1) | np.all(steps < 0, axis=1)):
        raise ValueError("times_s must rise or fall along the rows of each frame")
    if np.all(np.abs(times[1] - times[0]) < 1e-9 * np.ptp(times)):
        raise ValueError("both frames have the same times_s: drift shows only between times")
    pixel = np.array(pixel_pair(pixel_size_nm))
    if mask is not None:
        masks = np.asarray(mask)
        if masks.shape != z.shape:
            raise ValueError(f"a mask has the frames' shape {z.shape}, got {masks.shape}")
        z = np.stack([inpaint(frame, hidden) for frame, hidden in zip(z, masks, strict=True)])
    if not np.all(np.isfinite(z)):
        raise ValueError("heights must be finite: the frames hold NaN or infinite values")
    return z, times, pixel

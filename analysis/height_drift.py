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
taken (a normal prior of :data:`PRIOR_PX`).

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
from scipy import ndimage, optimize

from nanophantom.analysis.registration import register
from nanophantom.analysis.scars import inpaint
from nanophantom.analysis.slow_axis_creep import decades

Floats = npt.NDArray[np.float64]
DriftModel = Literal["linear", "creep", "exponential"]

TIME_CONSTANTS = np.geomspace(0.03, 0.5, 12)
"""Relaxations tried, as shares of the time of both frames; slower ones look like a drift."""
FREEDOM: dict[DriftModel, int] = {"linear": 2, "creep": 4, "exponential": 5}
"""Numbers that a form has to fit with."""
BLOCK_ROWS = 32
BLOCK_ROUNDS, ROUNDS = 4, 12
SETTLED_PX = 1e-3
CORRELATED = 6.0
"""Standard deviations of chance by which corrected frames must correlate."""
NOTHING_IN_COMMON = "the frames have no structure in common by which to align them"
SMOOTH_PX = 1.0
"""Standard deviation of the Gaussian on images before rows are compared: noise drowns slopes."""
OUTLIER_PX = 1.0
PRIOR_PX = 3.0
"""Standard deviation, before anything is seen, of creep a decade, of relaxations, and of the amount
of a cause of known course."""
MISMATCH_PX = 1.0
"""Blocks that differ by more weren't aligned."""
STEEPEST = 0.5
"""Largest part of a row's width by which drift shortens the step to the next row."""
MODEL_ERROR_PX = 0.03
"""A form that fits rows better than this doesn't fit better: so well is no image interpolated."""


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


@dataclass(frozen=True, eq=False)
class _Model:
    """Functions of time, and how much of each displaces y and x: (functions, 2)."""

    name: DriftModel
    origin_s: float
    span_s: float
    time_constant_s: float
    parts: Floats
    course: tuple[Floats, Floats] | None = None
    """Times and displacements of a cause whose course is known."""

    def basis(self, times_s: Floats) -> Floats:
        """Return the functions at these times, on a last axis: the drift's is the first."""
        since = times_s - self.origin_s
        columns = [since / self.span_s]
        if self.name == "creep":
            columns.append(decades(since))
        elif self.name == "exponential":
            columns.append(np.exp(-np.maximum(since, 0) / self.time_constant_s))
        if self.course is not None:
            columns.append(np.interp(times_s, self.course[0], self.course[1]))
        return np.stack(columns, axis=-1)

    def displacement(self, times_s: Floats) -> Floats:
        """Return (dy, dx) in pixels at these times."""
        basis = self.basis(times_s)
        return np.asarray(basis[..., : len(self.parts)] @ self.parts)


def correct(
    frames: npt.ArrayLike,
    times_s: npt.ArrayLike,
    pixel_size_nm: float | tuple[float, float],
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

    pair = _Pair(np.stack([ndimage.spline_filter(frame, mode="mirror") for frame in z]), times)
    best = _Model("linear", origin, float(np.ptp(times)), np.inf, np.zeros((1, 2)))
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


@dataclass(frozen=True, eq=False)
class _Differences:
    """What displacements differ by between the frames, by rows or blocks of rows.

    For times (2, n) the difference (n, 2) solves information (n, 2, 2) @ difference = moments.
    """

    times_s: Floats
    information: Floats
    moments: Floats

    def difference(self) -> Floats:
        """Return the solutions, zero where there is no information."""
        inverse = np.linalg.pinv(self.information, rcond=1e-9, hermitian=True)
        return np.asarray((inverse @ self.moments[..., None])[..., 0])


@dataclass(frozen=True, eq=False)
class _Pair:
    """Both frames as cubic splines, and their rows' times."""

    splines: Floats
    times_s: Floats

    def centred(self, model: _Model) -> Floats:
        """Return (dy, dx) of every row, zero in the mean."""
        d = model.displacement(self.times_s)
        return np.asarray(d - np.mean(d, axis=(0, 1)))

    def corrected(self, model: _Model) -> tuple[Floats, npt.NDArray[np.bool_], Floats]:
        """Return both frames on the common grid, where they were seen, and its rows' times."""
        _, ny, nx = self.splines.shape
        d, grid = self.centred(model), np.arange(ny)
        images, times = np.empty_like(self.splines), np.empty((2, ny))
        seen = np.empty(self.splines.shape, bool)
        for f in range(2):
            places = grid + d[f, :, 0]
            # Beyond the first and last row as at these: only what is seen counts.
            row = np.interp(grid, places, grid)
            column = np.arange(nx) - np.interp(row, grid, d[f, :, 1])[:, None]
            times[f] = np.interp(row, grid, self.times_s[f])
            inside = (grid >= places[0]) & (grid <= places[-1])
            seen[f] = inside[:, None] & (column >= 0) & (column <= nx - 1)
            at = np.broadcast_to(row[:, None], column.shape), np.clip(column, 0, nx - 1)
            images[f] = ndimage.map_coordinates(
                self.splines[f], at, order=3, mode="mirror", prefilter=False
            )
        return images, seen, times

    def blocks_registered(self, model: _Model, reach_px: float, share: float) -> _Differences:
        """Register blocks of rows of the corrected frames, each free of the others.

        Only those that were read within a share of the longest time between both readings.
        """
        images, _, times = self.corrected(model)
        ny, longest = images.shape[1], np.max(np.abs(self.times_s[1] - self.times_s[0]))
        height = min(ny, max(BLOCK_ROWS, ny // 6))
        first = np.unique(np.linspace(0, ny - height, max(4, 3 * ny // height)).astype(int))
        middle = first + (height - 1) / 2
        at = np.stack([np.interp(middle, np.arange(ny), t) for t in times])
        between = np.abs(at[1] - at[0])
        soon = np.argsort(between)[: max(3, np.count_nonzero(between <= share * longest))]
        first, at = first[np.sort(soon)], at[:, np.sort(soon)]
        shifts, weights = np.zeros((len(first), 2)), np.zeros(len(first))
        for i, row in enumerate(first):
            blocks = _detrended(images[:, row : row + height])
            if np.all(np.ptp(blocks, axis=(1, 2)) > 0):
                found = register(blocks, max_shift_px=reach_px)
                shifts[i], weights[i] = found.shifts_px[1], found.significance[1] ** 2
        if np.count_nonzero(weights) < 3:
            raise ValueError(NOTHING_IN_COMMON)
        shifts += model.displacement(at[0]) - model.displacement(at[1])
        return _Differences(at, weights[:, None, None] * np.eye(2), weights[:, None] * shifts)

    def rows_compared(self, model: _Model) -> _Differences:
        """Compare row with row: the normal equations of what still displaces them."""
        images, seen, times = self.corrected(model)
        information, moments = _normal_equations(images, seen)
        now = model.displacement(times[0]) - model.displacement(times[1])
        moments = moments + np.einsum("nij,nj->ni", information, now)
        return _Differences(times, information, moments)

    def fitted(
        self, start: _Model, names: tuple[DriftModel, ...], seen: _Differences, robust: bool
    ) -> _Model:
        """Return the form, and its parts, that explain the differences with the least freedom."""
        found: dict[float, _Model] = {}
        # Neighbouring rows share their noise through smoothing.
        independent = 2 * len(seen.moments) / (1 if robust else 4)
        for name in names:
            model, cost = self.best_of_form(start, name, seen, robust)
            if np.isfinite(cost):
                freedom = FREEDOM[name] * np.log(independent)
                found[independent * float(np.log(cost)) + float(freedom)] = model
        if not found:
            raise ValueError(
                "the drift found is faster than the slow axis: the frames do not match, "
                "lower max_shift_px or give the rows their right times"
            )
        return found[min(found)]

    def best_of_form(
        self, start: _Model, name: DriftModel, seen: _Differences, robust: bool
    ) -> tuple[_Model, float]:
        """Return one form's fit and its misfit, infinite if it turned the order of rows."""

        def tried(log_tau: float) -> tuple[_Model, float]:
            model, cost = _fit(start, name, float(np.exp(log_tau)), seen, robust)
            steps = np.diff(model.displacement(self.times_s)[..., 0], axis=1)
            return model, cost if np.min(steps) > -STEEPEST else np.inf

        if name != "exponential":
            return tried(np.inf)
        grid = np.log(TIME_CONSTANTS * start.span_s)
        fits = [tried(t) for t in grid]
        i = int(np.argmin([cost for _, cost in fits]))
        bounds = grid[max(i - 1, 0)], grid[min(i + 1, len(grid) - 1)]
        finer = optimize.minimize_scalar(
            lambda t: min(tried(t)[1], 1e9), bounds=bounds, method="bounded"
        )
        return min(fits[i], tried(float(finer.x)), key=lambda fit: fit[1])


def _normal_equations(images: Floats, seen: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return, for every row, the information on the displacement between frames, and moments."""
    smooth = ndimage.gaussian_filter(images, (0, SMOOTH_PX, SMOOTH_PX))
    both = seen[0] & seen[1]
    slopes = np.stack([np.gradient(0.5 * (smooth[0] + smooth[1]), axis=i) for i in (0, 1)])
    count = np.maximum(np.count_nonzero(both, axis=1), 1)[:, None]

    def free_of_offset(values: Floats) -> Floats:
        mean = np.sum(values, axis=-1, where=both)[..., None] / count
        return np.where(both, values - mean, 0.0)

    slopes, e = free_of_offset(slopes), free_of_offset(smooth[0] - smooth[1])
    return np.einsum("iyx,jyx->yij", slopes, slopes), np.einsum("iyx,yx->yi", slopes, e)


def _fit(
    start: _Model, name: DriftModel, tau: float, seen: _Differences, robust: bool
) -> tuple[_Model, float]:
    """Return a form of model fitted by least squares, and its mean square misfit per row."""
    model = replace(start, name=name, time_constant_s=tau, parts=np.zeros((0, 2)))
    basis = model.basis(seen.times_s[0]) - model.basis(seen.times_s[1])
    measured = seen.difference()
    weights = np.ones(len(basis))
    n = 2 * basis.shape[1]
    beyond_drift = np.arange(n) >= 2
    free = np.ones(n, bool)
    free[-1] = model.course is None  # the course is that of the slow axis, y
    variance = 0.0  # of the height's difference along a row, that rows go on misfitting by
    for _ in range(20):
        matrix = np.einsum("r,rm,rkl,rn->mknl", weights, basis, seen.information, basis)
        moments = np.einsum("r,rm,rk->mk", weights, basis, seen.moments)
        ridge = np.where(beyond_drift, variance / PRIOR_PX**2, 0.0)
        normal = (matrix.reshape(n, n) + np.diag(ridge))[np.ix_(free, free)]
        flat = np.zeros(n)
        flat[free] = np.linalg.lstsq(normal, moments.ravel()[free], rcond=1e-13)[0]
        parts = flat.reshape(-1, 2)
        rest = measured - basis @ parts
        misfit = np.einsum("rk,rkl,rl->r", rest, seen.information, rest)
        if robust:  # a block off by a lattice vector counts for little
            weights = 1 / (1 + np.sum(rest**2, axis=1) / OUTLIER_PX**2)
        variance = float(np.sum(weights * misfit) / (2 * np.sum(weights)))
    informed = np.einsum("r,rkk->", weights, seen.information) / 2
    unlikely = float(ridge @ parts.ravel() ** 2)
    cost = (float(np.sum(weights * misfit)) + unlikely) / informed + 2 * MODEL_ERROR_PX**2
    return replace(model, parts=parts), cost


def _result(pair: _Pair, pixel_nm: Floats, model: _Model) -> DriftCorrection:
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
    information, moments = _normal_equations(images, seen)
    blocks = np.arange(0, len(information), BLOCK_ROWS // 2)
    left = _Differences(
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
    smooth = ndimage.gaussian_filter(_detrended(images), (0, SMOOTH_PX, SMOOTH_PX))
    one, other = (image[both] - np.mean(image[both]) for image in smooth)
    power = np.sqrt((one @ one) * (other @ other))
    independent = len(one) / (4 * np.pi * SMOOTH_PX**2)
    return float(one @ other / power * np.sqrt(independent)) if power > 0 else 0.0


def _detrended(blocks: Floats) -> Floats:
    """Return blocks less their rows' means and their tilt along x."""
    flat = blocks - np.mean(blocks, axis=2, keepdims=True)
    x = np.linspace(-1, 1, blocks.shape[2])
    slope = np.mean(flat @ x, axis=1) / np.sum(x**2)
    return np.asarray(flat - slope[:, None, None] * x)


def _checked(
    frames: npt.ArrayLike,
    times_s: npt.ArrayLike,
    pixel_size_nm: float | tuple[float, float],
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
    pixel = np.broadcast_to(np.asarray(pixel_size_nm, np.float64), (2,))
    if not (np.all(np.isfinite(pixel)) and np.all(pixel > 0)):
        raise ValueError(f"pixel_size_nm must be positive, got {pixel_size_nm}")
    if mask is not None:
        masks = np.asarray(mask)
        if masks.shape != z.shape:
            raise ValueError(f"a mask has the frames' shape {z.shape}, got {masks.shape}")
        z = np.stack([inpaint(frame, hidden) for frame, hidden in zip(z, masks, strict=True)])
    if not np.all(np.isfinite(z)):
        raise ValueError("heights must be finite: the frames hold NaN or infinite values")
    return z, times, pixel

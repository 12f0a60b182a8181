"""Displacements of rows between two height frames, and forms of drift fitted to them.

What rows differ by, measured by registration of blocks or by least squares of row on row, is
d(t1) - d(t2), and a form of d(t), linear in its parts, is fitted to it:
:mod:`nanophantom.analysis.height_drift` says which and why.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage, optimize

from nanophantom.analysis.registration import register
from nanophantom.analysis.slow_axis_creep import decades

Floats = npt.NDArray[np.float64]
DriftModel = Literal["linear", "creep", "exponential"]

TIME_CONSTANTS = np.geomspace(0.03, 0.5, 12)
"""Relaxations tried, as shares of the time of both frames; slower ones look like a drift."""
FREEDOM: dict[DriftModel, int] = {"linear": 2, "creep": 4, "exponential": 5}
"""Numbers that a form has to fit with."""
BLOCK_ROWS = 32
NOTHING_IN_COMMON = "the frames have no structure in common by which to align them"
SMOOTH_PX = 1.0
"""Standard deviation of the Gaussian on images before rows are compared: noise drowns slopes."""
OUTLIER_PX = 1.0
PRIOR_PX = 3.0
"""Standard deviation, before anything is seen, of creep a decade, of relaxations, and of the amount
of a cause of known course."""
STEEPEST = 0.5
"""Largest part of a row's width by which drift shortens the step to the next row."""
MODEL_ERROR_PX = 0.03
"""A form that fits rows better than this doesn't fit better: so well is no image interpolated."""


@dataclass(frozen=True, eq=False)
class MotionModel:
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


@dataclass(frozen=True, eq=False)
class Differences:
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
class FramePair:
    """Both frames as cubic splines, and their rows' times."""

    splines: Floats
    times_s: Floats

    def centred(self, model: MotionModel) -> Floats:
        """Return (dy, dx) of every row, zero in the mean."""
        d = model.displacement(self.times_s)
        return np.asarray(d - np.mean(d, axis=(0, 1)))

    def corrected(self, model: MotionModel) -> tuple[Floats, npt.NDArray[np.bool_], Floats]:
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

    def blocks_registered(self, model: MotionModel, reach_px: float, share: float) -> Differences:
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
            blocks = detrended(images[:, row : row + height])
            if np.all(np.ptp(blocks, axis=(1, 2)) > 0):
                found = register(blocks, max_shift_px=reach_px)
                shifts[i], weights[i] = found.shifts_px[1], found.significance[1] ** 2
        if np.count_nonzero(weights) < 3:
            raise ValueError(NOTHING_IN_COMMON)
        shifts += model.displacement(at[0]) - model.displacement(at[1])
        return Differences(at, weights[:, None, None] * np.eye(2), weights[:, None] * shifts)

    def rows_compared(self, model: MotionModel) -> Differences:
        """Compare row with row: the normal equations of what still displaces them."""
        images, seen, times = self.corrected(model)
        information, moments = normal_equations(images, seen)
        now = model.displacement(times[0]) - model.displacement(times[1])
        moments = moments + np.einsum("nij,nj->ni", information, now)
        return Differences(times, information, moments)

    def fitted(
        self, start: MotionModel, names: tuple[DriftModel, ...], seen: Differences, robust: bool
    ) -> MotionModel:
        """Return the form, and its parts, that explain the differences with the least freedom."""
        found: dict[float, MotionModel] = {}
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
        self, start: MotionModel, name: DriftModel, seen: Differences, robust: bool
    ) -> tuple[MotionModel, float]:
        """Return one form's fit and its misfit, infinite if it turned the order of rows."""

        def tried(log_tau: float) -> tuple[MotionModel, float]:
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


def normal_equations(images: Floats, seen: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
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
    start: MotionModel, name: DriftModel, tau: float, seen: Differences, robust: bool
) -> tuple[MotionModel, float]:
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


def detrended(blocks: Floats) -> Floats:
    """Return blocks less their rows' means and their tilt along x."""
    flat = blocks - np.mean(blocks, axis=2, keepdims=True)
    x = np.linspace(-1, 1, blocks.shape[2])
    slope = np.mean(flat @ x, axis=1) / np.sum(x**2)
    return np.asarray(flat - slope[:, None, None] * x)

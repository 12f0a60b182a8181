"""Figures of the task drift: the path and its errors, the sums, the motion of the film."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from scipy.ndimage import gaussian_filter

from nanophantom.analysis.fourier_shells import ShellCorrelation
from nanophantom.analysis.local_registration import LocalRegistration, register_locally
from nanophantom.analysis.registration import Registration
from nanophantom.validation.aligned_sums import (
    Displacement,
    correlate,
    half_sums,
    rigid,
    with_film,
)
from nanophantom.validation.drawing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PINK,
    RED,
    Floats,
    Plate,
    gallery,
    map_axes,
    plot,
    plots,
    round_length,
)
from nanophantom.validation.specimen_counts import specimen_counts

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed
    from nanophantom.validation.tasks.drift import DriftPath

PM_PER_NM = 1000.0
ARROWS = 9
"""Along each side of the view."""
TRUTH = "by the true motion"
TELLING = 0.05
"""Places with this part of the most telling place's information on a shift count as structure."""
LEAST_SIDE_PX, LEAST_FRAMES = 128, 16
"""Smaller stacks aren't tracked patch by patch."""


@dataclass(frozen=True, eq=False)
class Sum:
    """A stack moved back in one way and added up."""

    image: Floats
    correlation: ShellCorrelation | None

    @property
    def resolution_nm(self) -> float | None:
        """Period at which its halves correlate by 1/7."""
        return None if self.correlation is None else self.correlation.resolution_nm()


def of_drift(dataset: Observed, path: DriftPath) -> list[Plate]:
    """Draw path, errors, sums and local motion."""
    stack = np.asarray(dataset.signal("image"))
    local = _tracked(stack, path)
    sums = _sums(stack, path, local)
    plates = [_images(stack, path, sums), _path(dataset, path), _errors(path), _curves(sums)]
    if local is not None:
        plates.append(_arrows(dataset, path, local))
    return plates


def _tracked(stack: npt.NDArray[np.generic], path: DriftPath) -> LocalRegistration | None:
    """Follow the local motion from the path found on; None without one, or in too small a stack."""
    n, ny, nx = stack.shape
    if path.film is None or n < LEAST_FRAMES or min(ny, nx) < LEAST_SIDE_PX:
        return None
    shifts = (path.found_nm - path.found_nm[0])[:, ::-1] / path.pixel_size_nm
    # Only its shifts are asked for.
    empty = np.zeros((ny, nx), np.float32)
    start = Registration(shifts, empty, np.zeros((ny, nx), np.int32), np.zeros(n))
    return register_locally(stack, start)


def _by_patches(local: LocalRegistration) -> Displacement:
    """Return the displacement found patch by patch, about the mean over the frames."""
    middle = local.shifts_px.mean(axis=0)
    y, x = np.indices(local.shape)
    at_y, at_x = y - middle[0], x - middle[1]  # the same points in frame 0

    def move(frame: int) -> Floats:
        whole = (local.shifts_px[frame] - middle)[:, None, None]
        return np.asarray(whole + local.at(frame, at_y, at_x))

    return move


def _sums(
    stack: npt.NDArray[np.generic], path: DriftPath, local: LocalRegistration | None
) -> dict[str, Sum]:
    """Add the stack up as it is, by the path found, patch by patch, and by the truth."""
    step_nm = path.pixel_size_nm
    ways: dict[str, Displacement] = {
        "as taken": rigid(np.zeros_like(path.found_nm), step_nm),
        "moved back": rigid(path.found_nm, step_nm),
    }
    if local is not None:
        ways["patch by patch"] = _by_patches(local)
    ways[TRUTH] = (
        rigid(path.view_nm, step_nm)
        if path.film is None
        else with_film(path.view_nm, step_nm, path.film)
    )
    sums = {}
    for name, move in ways.items():
        halves = half_sums(stack, move, path.margin_px)
        seen = all(np.ptp(half) > 0 for half in halves)
        sums[name] = Sum(halves[0] + halves[1], correlate(halves, step_nm) if seen else None)
    return sums


def _images(stack: npt.NDArray[np.generic], path: DriftPath, sums: dict[str, Sum]) -> Plate:
    """Draw the first frame and the sums that an analysis can make."""
    ny, nx = next(iter(sums.values())).image.shape
    y, x = (stack.shape[1] - ny) // 2, (stack.shape[2] - nx) // 2
    images: dict[str, npt.NDArray[Any]] = {"frame 0": stack[0, y : y + ny, x : x + nx]}
    for name, total in sums.items():
        if name != TRUTH:
            images[f"sum, {name}"] = total.image
    figure, _ = gallery(images, path.pixel_size_nm)
    told = "; ".join(
        f"{name}: {'none' if s.resolution_nm is None else f'{s.resolution_nm:.3g} nm'}"
        for name, s in sums.items()
    )
    caption = (
        f"The part of the view that all frames saw: one frame of {stack.shape[0]}, and sums of "
        "all frames. The finest period in which the sums of the even and of the odd frames agree "
        f"(Fourier ring correlation of 1/7), {told}."
    )
    return Plate("One frame, and sums of all", caption, figure, raster=True, wide=True)


def _path(dataset: Observed, path: DriftPath) -> Plate:
    """Draw the path found over the true one, and the residual below on a finer scale."""
    figure = Figure(figsize=(10.4, 5.0), layout="constrained")
    figure.patch.set_alpha(0)
    grid = figure.add_gridspec(2, 2, height_ratios=(2, 1.3))
    moment = path.true_nm.mean(axis=0) - path.found_nm.mean(axis=0)
    for column, (colour, name) in enumerate(((BLUE, "x, right"), (RED, "y, down"))):
        top, below = figure.add_subplot(grid[0, column]), figure.add_subplot(grid[1, column])
        for axes in (top, below):
            axes.patch.set_alpha(0)
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
        if "drift_path" in dataset.truth_tables:
            fine = dataset.truth("drift_path")
            value = np.asarray(fine[("dx_nm", "dy_nm")[column]])
            top.plot(fine["t_s"], value, color=INK, linewidth=0.6, alpha=0.6,
                     label="true, mean over the view")  # fmt: skip
        top.plot(path.t_s, path.true_nm[:, column], color=INK, linewidth=1.6, alpha=0.35,
                 label="true, of the structure")  # fmt: skip
        top.plot(path.t_s, path.found_nm[:, column] + moment[column], "o", color=colour,
                 markersize=3.6, label="found")  # fmt: skip
        top.set_ylabel(f"{name} (nm)")
        top.legend(frameon=False, fontsize=9)
        limit_pm = float(path.limit_nm[column]) * PM_PER_NM
        if np.isfinite(limit_pm):
            below.axhspan(-limit_pm, limit_pm, color=GREEN, alpha=0.25, linewidth=0,
                          label="limit, ±1 standard deviation")  # fmt: skip
        below.axhline(0, color=INK, linewidth=0.7)
        below.plot(path.t_s, path.error_nm[:, column] * PM_PER_NM, "o-", color=colour,
                   markersize=3.6, linewidth=0.8)  # fmt: skip
        below.set_xlabel("time (s)")
        below.set_ylabel("error (pm)")
        if np.isfinite(limit_pm):
            below.legend(frameon=False, fontsize=9)
    caption = (
        "Above: where the specimen lay in each frame, found (markers) and true (lines). Below: "
        "found minus true, on a far finer scale; the green band is what counting "
        "electrons alone would leave. An error that grows or bends slowly comes from motion that "
        "no rigid shift describes; scatter is noise; a step of a lattice spacing would be a jump."
    )
    return Plate("Drift, found and true", caption, figure, wide=True)


def _errors(path: DriftPath) -> Plate:
    """Draw every frame's error in pixels, and circles for the limit."""
    figure, axes = plot(5.0, 4.7)
    error = path.error_nm / path.pixel_size_nm
    points = axes.scatter(*error.T, c=np.arange(len(error)), cmap="viridis", s=22, zorder=3)
    limit = float(np.sqrt(np.mean(path.limit_nm**2))) / path.pixel_size_nm
    reach = 1.15 * float(np.abs(error).max()) or 1.0
    if np.isfinite(limit):
        for times, style in ((1, "-"), (2.45, "--")):
            ring = Circle((0, 0), times * limit, fill=False, color=GREEN, linewidth=1.5,
                          linestyle=style)  # fmt: skip
            axes.add_patch(ring)
        reach = max(reach, 2.7 * limit)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(reach, -reach)
    axes.set_aspect("equal")
    axes.set_xlabel("error in x (px)")
    axes.set_ylabel("error in y (px), down")
    bar = figure.colorbar(points, ax=axes, shrink=0.8)
    bar.set_label("frame", color=INK)
    caption = (
        f"Errors of all frames in pixels of the camera ({path.pixel_size_nm * PM_PER_NM:.3g} pm). "
        "Green: the limit, one standard deviation (line) and where 95 % would lie (dashed)."
    )
    return Plate("Errors against their limit", caption, figure)


def _curves(sums: dict[str, Sum]) -> Plate:
    figure, axes = plot(5.4, 4.4)
    for (name, total), colour in zip(sums.items(), (ORANGE, BLUE, PINK, GREEN), strict=False):
        if total.correlation is None:
            continue
        c = total.correlation
        axes.plot(c.frequency_per_nm, _smoothed(c), color=colour, linewidth=1.5, label=name)
    axes.axhline(1 / 7, color=INK, linewidth=0.8, linestyle=":")
    axes.set_ylim(-0.1, 1.02)
    axes.set_xlim(0, 0.36 / _step_nm(sums))
    axes.text(0.2, 1 / 7 + 0.015, "1/7", color=INK, fontsize=9)
    axes.set_xlabel("spatial frequency (1/nm)")
    axes.set_ylabel("correlation of even and odd frames")
    axes.legend(frameon=False, fontsize=9)
    caption = (
        "Fourier ring correlation: how far the sums of the even and of the odd frames agree, "
        "frequency by frequency. Drift wipes the fine detail out of the sum as taken, above all "
        "along its own direction. The peaks are the reflections of the crystal."
    )
    return Plate("Resolution of the sums", caption, figure)


def _step_nm(sums: dict[str, Sum]) -> float:
    return next((s.correlation.pixel_size_nm for s in sums.values() if s.correlation), 1.0)


def _smoothed(c: ShellCorrelation) -> Floats:
    """Return the correlation averaged over three rings, for the eye."""
    kernel = np.ones(3)
    weight = np.convolve(c.modes, kernel, "same")
    return np.asarray(np.convolve(c.modes * c.correlation, kernel, "same") / weight)


def _arrows(dataset: Observed, path: DriftPath, local: LocalRegistration) -> Plate:
    """Draw the local motion from the first to the last frame, true and found."""
    film = path.film
    assert film is not None
    last, (ny, nx), step_nm = len(path.found_nm) - 1, film.shape, path.pixel_size_nm
    y = np.linspace(0.06, 0.94, ARROWS)[:, None] * (ny - 1) + np.zeros(ARROWS)
    x = np.linspace(0.06, 0.94, ARROWS)[None, :] * (nx - 1) + np.zeros((ARROWS, 1))
    true = film.local_nm(last, y, x) - film.local_nm(0, y, x)
    found = local.at(last, y, x) * step_nm
    telling = _information(dataset)
    told = telling[np.rint(y).astype(int), np.rint(x).astype(int)] > TELLING * telling.max()
    # A common shift counts as part of the rigid motion, by either way of telling them apart.
    true, found = (d - d[:, told].mean(axis=1)[:, None, None] for d in (true, found))
    size_pm = PM_PER_NM * _rms(true[:, told])
    off_pm, off_everywhere_pm = (
        PM_PER_NM * _rms((found - true)[:, told]),
        PM_PER_NM * _rms(found - true),
    )
    enlarged = round_length(0.6 * (nx * step_nm / ARROWS) * PM_PER_NM / max(size_pm, 1e-3))
    figure, panels = plots(10.4, 4.6 * max(0.5, min(1.3, ny / nx)), 2)
    for axes, (field, colour, title) in zip(
        panels,
        ((true, INK, "true"), (found, BLUE, "found, patch by patch")),
        strict=True,
    ):
        map_axes(axes, nx * step_nm, ny * step_nm)
        for part, alpha in ((told, 1.0), (~told, 0.3)):
            axes.quiver(x[part] * step_nm, y[part] * step_nm, field[1][part], field[0][part],
                        angles="xy", scale_units="xy", scale=1 / enlarged, color=colour,
                        width=0.005, alpha=alpha)  # fmt: skip
        axes.set_title(title, fontsize=11, color=INK)
    caption = (
        "Local motion of the film from the first to the last frame: where the beam carried each "
        f"part of the view, enlarged {enlarged:g} times, less its mean over the structure. There "
        f"(strong arrows) it is {size_pm:.3g} pm rms, and the field found differs from it by "
        f"{off_pm:.3g} pm; over the whole view, where bare film tells little (faint arrows), by "
        f"{off_everywhere_pm:.3g} pm. It was found by tracking overlapping patches of the view and "
        "fitting a smooth field to them."
    )
    return Plate("Local motion, true and found", caption, figure, wide=True)


def _information(dataset: Observed) -> Floats:
    """Return what the surroundings of each pixel tell of a shift, (ny, nx)."""
    counts = specimen_counts(dataset)
    slope_y, slope_x = np.gradient(counts)
    each = (slope_y**2 + slope_x**2) / np.maximum(counts, 1e-3 * counts.mean())
    return np.asarray(gaussian_filter(each, min(counts.shape) / 40))


def _rms(vectors: Floats) -> float:
    """Return the root mean square length of vectors (2, ...)."""
    return float(np.sqrt(np.mean(np.sum(vectors**2, axis=0))))

"""Figures of the task movie-drift: path and errors, images before and after, ring correlation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from nanophantom.analysis.rendering import Frame, gaussian_image
from nanophantom.validation.drawing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PINK,
    RED,
    Plate,
    gallery,
    plot,
    plots,
)

if TYPE_CHECKING:
    from nanophantom.validation.tasks.movie_drift import MoviePath

Floats = npt.NDArray[np.float64]

COLOURS = {"as taken": ORANGE, "RCC": RED, "AIM": PINK, "answer": BLUE, "true drift": GREEN}
CLOSE_S = 20.0
"""Length of the stretch that is drawn large."""
MOST_POINTS = 2000
VIEW_NM = 1000.0
ZOOM_NM = 250.0
IMAGE_PX = 400
SMOOTH_RINGS = 9


def of_movie_drift(path: MoviePath) -> list[Plate]:
    """Draw paths, errors, images and ring correlations."""
    plates = [_paths(path), _close(path), _errors(path)]
    if len(path.table["frame"]):
        plates += [_images(path, VIEW_NM), _images(path, ZOOM_NM)]
    if path.correlations:
        plates.append(_correlations(path))
    return plates


def _found(path: MoviePath) -> dict[str, Floats]:
    """Return the drifts that were found, by name."""
    return {n: p for n, p in path.ways.items() if n not in ("as taken", "true drift")}


def _paths(path: MoviePath) -> Plate:
    """Draw the true path and those found, and below what they are off by."""
    figure = Figure(figsize=(10.4, 5.4), layout="constrained")
    figure.patch.set_alpha(0)
    grid = figure.add_gridspec(2, 2, height_ratios=(1.5, 1.2))
    each = -(-len(path.t_s) // MOST_POINTS)
    t = path.t_s[::each]
    for axis, name in enumerate(("x, right", "y, down")):
        top, below = (_clean(figure.add_subplot(grid[row, axis])) for row in (0, 1))
        top.plot(t, path.true_nm[::each, axis], color=INK, linewidth=4, alpha=0.25, label="true")
        for way, found in _found(path).items():
            top.plot(t, found[::each, axis], color=COLOURS[way], linewidth=0.9, label=way)
            off = found[::each, axis] - path.true_nm[::each, axis]
            below.plot(t, off, color=COLOURS[way], linewidth=0.7, label=way)
        top.set_ylabel(f"{name} (nm)")
        below.set_ylabel("found − true (nm)")
        below.set_xlabel("time (s)")
        below.axhline(0, color=INK, linewidth=0.7)
        if path.limit_nm is not None:
            s = float(path.limit_nm[axis])
            below.axhspan(-s, s, color=GREEN, alpha=0.4, linewidth=0, zorder=5,
                          label="limit, ±1 s.d.")  # fmt: skip
        top.legend(frameon=False, fontsize=9)
        below.legend(frameon=False, fontsize=8, ncols=4, loc="lower center")
    caption = (
        "Above: where the specimen was in each frame, true and found; on this scale they can't be "
        "told apart. Below: what each is off by. The green band is what could be known by someone "
        "who knew the place of every molecule."
    )
    return Plate("Drift, found and true", caption, figure, wide=True)


def _close(path: MoviePath) -> Plate:
    """Draw some seconds of the path."""
    figure, all_axes = plots(10.4, 3.6, 2)
    middle = float(np.median(path.t_s))
    here = np.abs(path.t_s - middle) <= CLOSE_S / 2
    for axes, axis, name in zip(all_axes, (0, 1), ("x, right", "y, down"), strict=True):
        t = path.t_s[here]
        axes.plot(t, path.true_nm[here, axis], color=INK, linewidth=4, alpha=0.25, label="true")
        if path.sigma_nm is not None:
            low, high = (path.found_nm[here, axis] + k * 1.96 * path.sigma_nm[here]
                         for k in (-1, 1))  # fmt: skip
            axes.fill_between(t, low, high, color=BLUE, alpha=0.2, linewidth=0, label="95 %")
        for way, found in _found(path).items():
            axes.plot(t, found[here, axis], color=COLOURS[way], linewidth=1.2, label=way)
        axes.set_xlabel("time (s)")
        axes.set_ylabel(f"{name} (nm)")
        axes.legend(frameon=False, fontsize=9)
    caption = (
        f"{CLOSE_S:g} seconds from the middle of the movie, frame by frame. A curve through "
        "segments that are longer than this passes the wandering of the stage by; the shaded band "
        "is what the answer itself says it may be off by."
    )
    return Plate("Drift, some seconds of it", caption, figure, wide=True)


def _errors(path: MoviePath) -> Plate:
    """Draw how errors are distributed, and how they shrink in means over longer times."""
    figure, (shape, scale) = plots(10.4, 3.6, 2)
    widest = 0.0
    period = float(np.median(np.diff(path.t_s)))
    lengths = np.unique(np.geomspace(1, len(path.t_s) / 8, 16).astype(int))
    for way, found in _found(path).items():
        error = found - path.true_nm
        distance = np.sort(np.hypot(*error.T))
        widest = max(widest, float(np.quantile(distance, 0.98)))
        shape.plot(distance, np.linspace(0, 1, len(distance)), color=COLOURS[way], label=way)
        left = [_rms_of_means(error, k) for k in lengths]
        scale.plot(lengths * period, left, "o-", markersize=3, color=COLOURS[way], label=way)
    shape.set_xlim(0, 1.1 * widest)
    shape.set_xlabel("distance from the truth (nm)")
    shape.set_ylabel("share of frames within")
    if path.limit_nm is not None:
        limit = float(np.hypot(*path.limit_nm))
        shape.axvline(limit, color=GREEN, linestyle="--", label="limit (rms)")
        scale.axhline(limit, color=GREEN, linestyle="--", label="limit, single frames")
    scale.set_xscale("log")
    scale.set_yscale("log")
    scale.set_xlabel("averaged over (s)")
    scale.set_ylabel("rms error of the mean (nm)")
    for axes in (shape, scale):
        axes.legend(frameon=False, fontsize=9)
    caption = (
        "Left: which share of the frames is placed how well. Right: errors that are left when the "
        "drift is averaged over stretches of time. Where a curve is flat, errors last that long; "
        "where it falls, they are of shorter times, inside the segments."
    )
    return Plate("Errors of the drift", caption, figure, wide=True)


def _rms_of_means(error: Floats, k: int) -> float:
    whole = len(error) // k * k
    means = error[:whole].reshape(-1, k, 2).mean(axis=1)
    return float(np.sqrt((means**2).sum(axis=1).mean()))


def _images(path: MoviePath, side_nm: float) -> Plate:
    """Draw a part of the field with each drift taken off."""
    true = path.still(path.true_nm)
    corner = _busiest(true, side_nm)
    pixel = side_nm / IMAGE_PX
    frame = Frame(float(corner[0]), float(corner[1]), IMAGE_PX, IMAGE_PX)
    images: dict[str, npt.NDArray[Any]] = {}
    for way, taken in path.ways.items():
        at = path.still(taken)
        near = ((at > corner[:, None] - 50) & (at < corner[:, None] + side_nm + 50)).all(axis=0)
        wide = np.maximum(path.table["uncertainty_nm"][near], 0.5 * pixel)
        images[way] = np.sqrt(gaussian_image(at[0, near], at[1, near], wide, pixel, frame).image)
    figure, _ = gallery(images, pixel, across=len(images))
    caption = (
        f"{side_nm:g} nm of the field, with each drift taken off: nothing, what was found by each "
        "way, and the true one, which is the best that these localizations can give. Each "
        "localization is a Gaussian as wide as it is uncertain; the grey scale is the root of the "
        "density."
    )
    title = "The image, before and after" if side_nm == VIEW_NM else "The same, larger"
    return Plate(title, caption, figure, raster=True, wide=True)


def _busiest(at: Floats, side_nm: float) -> Floats:
    """Return the corner of the square that holds most."""
    squares = np.floor(at / side_nm).astype(np.int64)
    best, n = np.unique(squares, axis=1, return_counts=True)
    return np.asarray(best[:, np.argmax(n)] * side_nm)


def _correlations(path: MoviePath) -> Plate:
    figure, axes = plot(7.4, 4.0)
    finest = 0.02
    for way, told in path.correlations.items():
        k, frc = told.rings.frequency_per_nm, told.rings.correlation
        smooth = np.convolve(frc, np.ones(SMOOTH_RINGS) / SMOOTH_RINGS, "same")
        resolution = told.resolution_nm
        label = way if resolution is None else f"{way}: {resolution:.3g} nm"
        axes.plot(k, smooth, color=COLOURS[way], linewidth=1.5, label=label)
        finest = max(finest, 0.0 if resolution is None else 1 / resolution)
    axes.axhline(1 / 7, color=INK, linewidth=0.8, linestyle=":")
    axes.set_xlim(0, 1.6 * finest)
    axes.set_ylim(-0.1, 1.02)
    axes.set_xlabel("spatial frequency (1/nm)")
    axes.set_ylabel("correlation of two halves")
    axes.legend(frameon=False, fontsize=9, title="falls to 1/7 at")
    caption = (
        "Fourier ring correlation of the image's middle: blocks of time, every other one in either "
        "half. Where two halves agree, detail is real. What is left of the drift wipes out fine "
        "detail first. Molecules that come up in both halves agree with themselves, so the period "
        "tells how well places repeat, not how densely the structure is labelled."
    )
    return Plate("Resolution, before and after", caption, figure)


def _clean(axes: Any) -> Any:
    axes.patch.set_alpha(0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return axes

"""Means of drawing: what figures of the report are made of.

Figures are built on matplotlib's Figure objects, so nothing is shared with a caller's own plots.
Micrographs fill their figure and carry a scale bar; plots draw text and axes in :data:`INK`,
which the page replaces by its own text colour. Colours are those of M. Okabe and K. Ito
(Color Universal Design, 2008), told apart by shape as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from scipy.spatial import cKDTree

Floats = npt.NDArray[np.float64]

INK = "#1d2733"
BLUE, ORANGE, RED, GREEN, SKY, PINK = (
    "#0072B2", "#E69F00", "#D55E00", "#009E73", "#56B4E9", "#CC79A7",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Plate:
    """One figure of the report with its words."""

    title: str
    caption: str
    """What is seen and how to read it, for someone who sees such a picture for the first time."""
    figure: Figure
    raster: bool = False
    """A micrograph, stored as PNG; otherwise a plot, stored as SVG."""
    wide: bool = False
    """Takes the whole width of the page."""


def micrograph(
    image: npt.NDArray[Any], pixel_size_nm: float | None, width_inch: float = 5.4, bar: bool = True
) -> tuple[Figure, float, float]:
    """Return a figure that an image fills, and the values that are black and white in it."""
    ny, nx = image.shape
    figure = Figure(figsize=(width_inch, width_inch * ny / nx))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    low, high = contrast(image)
    extent_nm = extent_of(image.shape, pixel_size_nm or 1.0)
    axes.imshow(image, cmap="gray", vmin=low, vmax=high, extent=extent_nm, aspect="auto")
    if bar and pixel_size_nm is not None:
        scale_bar(axes, extent_nm)
    return figure, low, high


def gallery(
    images: Mapping[str, npt.NDArray[Any]],
    pixel_size_nm: float | None,
    width_inch: float = 10.8,
    across: int = 4,
    units: Mapping[str, str] | None = None,
) -> tuple[Figure, list[Any]]:
    """Return a figure of images side by side, each with its title, grey scale and scale bar.

    The axes come in the images' order; black and white are each image's own, and written into
    the corner of those whose unit is given.
    """
    gap, head = 0.08, 0.3
    across = min(across, len(images))
    rows = -(-len(images) // across)
    ny, nx = next(iter(images.values())).shape
    side = (width_inch - gap * (across - 1)) / across
    height = side * ny / nx
    figure = Figure(figsize=(width_inch, rows * (height + head) + (rows - 1) * gap))
    figure.set_facecolor("black")
    total = figure.get_size_inches()[1]
    all_axes = []
    for i, (title, image) in enumerate(images.items()):
        row, column = divmod(i, across)
        bottom = total - (row + 1) * (height + head) - row * gap
        axes = figure.add_axes(
            (
                column * (side + gap) / width_inch,
                bottom / total,
                side / width_inch,
                height / total,
            )
        )
        axes.set_axis_off()
        low, high = contrast(image)
        extent_nm = extent_of(image.shape, pixel_size_nm or 1.0)
        axes.imshow(image, cmap="gray", vmin=low, vmax=high, extent=extent_nm, aspect="auto")
        axes.set_title(title, fontsize=10.5, pad=4, color="white")
        if pixel_size_nm is not None:
            scale_bar(axes, extent_nm, font_size=min(12.0, 3.6 * side))
        if units is not None and title in units:
            told = f"black {low:.3g}, white {high:.3g} {units[title]}".replace("-", "−")
            axes.text(0.97, 0.035, told, transform=axes.transAxes, ha="right", va="bottom",
                      fontsize=8.5, color="white", zorder=20,
                      path_effects=[withStroke(linewidth=2.5, foreground="black")])  # fmt: skip
        all_axes.append(axes)
    return figure, all_axes


def scale_bar(
    axes: Any, extent_nm: tuple[float, float, float, float], font_size: float = 12.0
) -> None:
    """Draw a bar of a round length into the lower left corner."""
    left, right, bottom, top = extent_nm
    width, height = right - left, bottom - top
    length = round_length(0.2 * width)
    x, y = left + 0.04 * width, bottom - 0.05 * height
    edge = [withStroke(linewidth=5.5, foreground="black")]
    axes.plot([x, x + length], [y, y], color="white", linewidth=3, solid_capstyle="butt",
              path_effects=edge, zorder=20)  # fmt: skip
    axes.text(x + length / 2, y - 0.018 * height, f"{length:g} nm", color="white", ha="center",
              va="bottom", fontsize=font_size, fontweight="bold", zorder=20,
              path_effects=[withStroke(linewidth=2.5, foreground="black")])  # fmt: skip


def plot(width_inch: float, height_inch: float) -> tuple[Figure, Any]:
    """Return a see-through figure with plain axes, drawn in ink."""
    figure, axes = plots(width_inch, height_inch, 1)
    return figure, axes[0]


def plots(width_inch: float, height_inch: float, n: int) -> tuple[Figure, list[Any]]:
    """Return a see-through figure with plain axes side by side, drawn in ink."""
    figure = Figure(figsize=(width_inch, height_inch), layout="constrained")
    figure.patch.set_alpha(0)
    all_axes = [figure.add_subplot(1, n, i + 1) for i in range(n)]
    for axes in all_axes:
        axes.patch.set_alpha(0)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return figure, all_axes


def map_axes(axes: Any, width_nm: float, height_nm: float) -> None:
    """Give axes the camera's view: nm, y down, true proportions."""
    axes.set_xlim(0, width_nm)
    axes.set_ylim(height_nm, 0)
    axes.set_aspect("equal")
    axes.set_xlabel("x (nm)")
    axes.set_ylabel("y (nm), down")


def contrast(image: npt.NDArray[Any]) -> tuple[float, float]:
    """Return what to show black and white, leaving out the half percent at either end."""
    low, high = (float(v) for v in np.percentile(image[::2, ::2], [0.5, 99.5]))
    return (low, high) if high > low else (low, low + 1.0)


def grey_scale(low: float, high: float) -> str:
    """Say what black and white stand for."""
    return f"Black: {low:.3g}, white: {high:.3g} counts a pixel."


def extent_of(shape: tuple[int, ...], pixel_size_nm: float) -> tuple[float, float, float, float]:
    """Return left, right, bottom, top edges: pixel (0, 0) has its centre at the origin."""
    half = pixel_size_nm / 2
    return -half, shape[1] * pixel_size_nm - half, shape[0] * pixel_size_nm - half, -half


def spacing_of(points_nm: Floats) -> float:
    """Return the median distance to the nearest neighbour (0.3 nm for fewer than two)."""
    if len(points_nm) < 2:
        return 0.3
    return float(np.median(cKDTree(points_nm).query(points_nm, k=2)[0][:, 1]))


def round_length(length: float) -> float:
    """Return the nearest of 1, 2, 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(length))
    return float(power * min((1, 2, 5, 10), key=lambda m: abs(np.log(m * power / length))))

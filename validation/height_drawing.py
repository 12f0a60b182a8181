"""Means of drawing height maps: colours with a bar in nm, profiles, tips in perspective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from nanophantom.validation.drawing import scale_bar

Floats = npt.NDArray[np.float64]

HEIGHT_COLOURS = LinearSegmentedColormap.from_list(
    "heights", ["#140b05", "#5a2a0c", "#b5651d", "#e9b872", "#fffdf3"]
)
"""From low to high, as microscopists are used to."""
ERROR_COLOURS = "RdBu_r"


class Map(NamedTuple):
    """One picture among several.

    Attributes
    ----------
    title
        Above the picture.
    values
        (ny, nx).
    unit
        Written at the colour bar.
    signed
        Whether zero lies in the middle of the colours: errors, residuals.
    span
        Lowest and highest value that colours tell apart; None leaves out half a percent at
        either end.
    """

    title: str
    values: npt.NDArray[Any]
    unit: str = "nm"
    signed: bool = False
    span: tuple[float, float] | None = None


def span_of(*maps: npt.NDArray[Any]) -> tuple[float, float]:
    """Return one span for maps that are to be compared."""
    ends = [np.nanpercentile(values, [0.5, 99.5]) for values in maps]
    low, high = min(float(e[0]) for e in ends), max(float(e[1]) for e in ends)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def height_maps(
    maps: Sequence[Map],
    pixel_size_nm: tuple[float, float],
    across: int = 3,
    width_inch: float = 10.8,
) -> tuple[Figure, list[Any]]:
    """Return a figure of maps side by side, each with its colour bar; and their axes.

    Parameters
    ----------
    maps
        All of one shape.
    pixel_size_nm
        Along y and x.
    """
    across = min(across, len(maps))
    rows = -(-len(maps) // across)
    ny, nx = maps[0].values.shape
    aspect = ny * pixel_size_nm[0] / (nx * pixel_size_nm[1])
    side = width_inch / across
    figure = Figure(figsize=(width_inch, rows * (0.78 * side * aspect + 0.5)), layout="constrained")
    figure.set_facecolor("white")
    all_axes = []
    right, bottom = nx * pixel_size_nm[1], ny * pixel_size_nm[0]
    half_x, half_y = pixel_size_nm[1] / 2, pixel_size_nm[0] / 2
    extent = (-half_x, right - half_x, bottom - half_y, -half_y)
    for i, one in enumerate(maps):
        axes = figure.add_subplot(rows, across, i + 1)
        low, high = one.span if one.span is not None else span_of(one.values)
        if one.signed:
            high = max(abs(low), abs(high), 1e-12)
            low = -high
        shown = axes.imshow(
            one.values,
            cmap=ERROR_COLOURS if one.signed else HEIGHT_COLOURS,
            vmin=low,
            vmax=high,
            extent=extent,
            interpolation="nearest",
        )
        axes.set_title(one.title, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
        bar = figure.colorbar(shown, ax=axes, shrink=0.85, pad=0.02)
        bar.set_label(one.unit, fontsize=9)
        bar.ax.tick_params(labelsize=8)
        scale_bar(axes, extent, font_size=9)
        all_axes.append(axes)
    return figure, all_axes


def profiles(
    axes: Any,
    x_nm: Floats,
    curves: Mapping[str, tuple[Floats, dict[str, Any]]],
    ylabel: str = "height (nm)",
) -> None:
    """Draw heights along a line: name -> values and the style of its line."""
    for name, (values, style) in curves.items():
        axes.plot(x_nm, values, label=name, **style)
    axes.set_xlabel("x (nm)")
    axes.set_ylabel(ylabel)
    axes.legend(fontsize=8.5, frameon=False, loc="best")


def tip_map(title: str, heights_nm: npt.NDArray[Any], depth_nm: float) -> Map:
    """Return a picture of a tip looked at along its axis, cut off below a depth."""
    shown = np.where(heights_nm < -depth_nm, np.nan, heights_nm)
    return Map(title, shown, "nm below apex", span=(-depth_nm, 0.0))


def steepest_row(heights_nm: npt.NDArray[Any]) -> int:
    """Return the row with most to see: the greatest range of heights."""
    ends = np.percentile(heights_nm, [1, 99], axis=1)
    return int(np.argmax(ends[1] - ends[0]))

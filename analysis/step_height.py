"""Heights of steps, grooves and ridges after ISO 5436-1, with honest uncertainties.

On every line across an edge the levels on both sides and the tilt are fitted together,
Z = a X + b + h delta, leaving out the transition between them. A line has its own offset and
tilt, so what comes and goes between lines (row offsets, drift) isn't in h; what changes along a
line is. How much is told by the scatter of h from line to line, and how far neighbouring lines
err together by its autocorrelation (:mod:`nanophantom.analysis.step_fit`).

So lines are to run along the fast axis of the scan, which is x. Along the slow one drift and
heights aren't to be told apart, and no scatter shows it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.step_edges import checked_image, edges_across, find_direction
from nanophantom.analysis.step_fit import mean_of_lines, mean_slope, solver
from nanophantom.simcore.pixel_size import PixelSize

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class StepHeight:
    """Height of one step, groove or ridge.

    Attributes
    ----------
    height_nm
        Of the far level over the near one; negative for a step down and a groove.
    uncertainty_nm
        Standard uncertainty of the mean.
    degrees_of_freedom
        Of this uncertainty: an interval is Student's t for so many times it.
    position_nm, width_nm
        Of the edge, or of the groove or ridge, along the direction of the profile.
    direction_deg
        Direction of the profile across the edge, from x to y.
    per_line_nm, tilt_nm_per_nm : (n,)
        Heights of the lines, and their slopes along x.
    """

    height_nm: float
    uncertainty_nm: float
    degrees_of_freedom: float
    position_nm: float
    width_nm: float
    direction_deg: float
    per_line_nm: Floats
    tilt_nm_per_nm: Floats


def steps(
    image: npt.ArrayLike,
    pixel_size_nm: PixelSize,
    *,
    direction_deg: float | None = None,
    exclude_nm: float | None = None,
    scale_nm: float | None = None,
    degree: int = 1,
) -> list[StepHeight]:
    """Return the heights of all straight parallel steps that cross an image's lines.

    Each is fitted with the terraces on both sides of it, up to the next edges.

    Parameters
    ----------
    image : (ny, nx)
        Heights in nm as they were measured; levelling isn't needed.
    pixel_size_nm : float or (y, x)
    direction_deg : float, optional
        Direction across the steps from x to y, -60 to 60; by default it is looked for.
    exclude_nm : float, optional
        Left out on both sides of an edge, across it; by default one and a half times the
        edge's own width from 5 % to 95 %, and at least three pixels.
    scale_nm : float, optional
        See :func:`nanophantom.analysis.step_edges.find_edges`.
    degree : int
        Of the background along a line: 1 for its tilt, 2 for a bow too.

    Raises
    ------
    ValueError
        The image isn't finite and two-dimensional, shows no edge, or leaves too little of the
        terraces.
    """
    z, (dy, dx) = checked_image(image, pixel_size_nm)
    direction = find_direction(z, (dy, dx)) if direction_deg is None else float(direction_deg)
    edges, across = edges_across(z, (dy, dx), direction, scale_nm)
    gaps = [
        max(1.5 * e.width_nm, 3 * dx) if exclude_nm is None else float(exclude_nm) for e in edges
    ]
    found = []
    for i, edge in enumerate(edges):
        start = edges[i - 1].position_nm + gaps[i - 1] if i else -np.inf
        end = edges[i + 1].position_nm - gaps[i + 1] if i + 1 < len(edges) else np.inf
        beyond = across - edge.position_nm
        used = (across > start) & (across < end) & (np.abs(beyond) > gaps[i])
        found.append(
            _fit_lines(z, dx, used, beyond > 0, degree, edge.position_nm, edge.width_nm, direction)
        )
    return found


def grooves(
    image: npt.ArrayLike,
    pixel_size_nm: PixelSize,
    *,
    direction_deg: float | None = None,
    scale_nm: float | None = None,
    degree: int = 1,
) -> list[StepHeight]:
    """Return the heights of straight parallel grooves (negative) and ridges, after ISO 5436-1.

    Of a groove of the width W the middle third counts, and on both sides 2 W / 3 of the level
    surface, starting W / 3 from the edges. Two edges that follow one another, one down and one
    up, are a groove, up and down a ridge. What would reach over a neighbour's edge or over the
    border is cut off; at least W / 3 must remain on either side, or it isn't measured. Parameters
    as :func:`steps`'.

    Raises
    ------
    ValueError
        The image isn't finite and two-dimensional, or shows no groove or ridge with level
        surface on both sides.
    """
    z, (dy, dx) = checked_image(image, pixel_size_nm)
    direction = find_direction(z, (dy, dx)) if direction_deg is None else float(direction_deg)
    edges, across = edges_across(z, (dy, dx), direction, scale_nm)
    borders = [float(across.min()), *(e.position_nm for e in edges), float(across.max())]
    found: list[StepHeight] = []
    i = 0
    while i + 1 < len(edges):
        first, second = edges[i], edges[i + 1]
        width = second.position_nm - first.position_nm
        middle = first.position_nm + width / 2
        # A neighbour's edge is rounded too.
        start, end = (
            borders[i] + width / 3 * (i > 0),
            borders[i + 3] - width / 3 * (i + 2 < len(edges)),
        )
        room = min(first.position_nm - start, end - second.position_nm)
        if first.rise_nm * second.rise_nm > 0 or room < 2 * width / 3:
            i += 1
            continue
        off = np.abs(across - middle)
        inside = off < width / 6
        outside = (off > 5 * width / 6) & (off < 3 * width / 2) & (across > start) & (across < end)
        found.append(_fit_lines(z, dx, inside | outside, inside, degree, middle, width, direction))
        i += 2
    if not found:
        raise ValueError("no groove or ridge with level surface as wide as itself on both sides")
    return found


def _fit_lines(
    z: Floats,
    dx: float,
    used: Bools,
    far: Bools,
    degree: int,
    position_nm: float,
    width_nm: float,
    direction_deg: float,
) -> StepHeight:
    """Fit every line that has enough of both levels, and average."""
    near_count = np.count_nonzero(used & ~far, axis=1)
    far_count = np.count_nonzero(used & far, axis=1)
    least = 0.5 * np.array([near_count.max(), far_count.max()])
    rows = np.flatnonzero(
        (near_count >= max(least[0], degree + 2)) & (far_count >= max(least[1], 2))
    )
    if len(rows) < 3:
        raise ValueError(
            f"fewer than three lines have level surface on both sides of {position_nm:.4g} nm; "
            "lower exclude_nm or choose a direction"
        )
    heights, tilts = np.empty(len(rows)), np.empty(len(rows))
    solved: dict[bytes, tuple[Floats, Floats]] = {}
    for i, row in enumerate(rows):
        key = used[row].tobytes() + far[row].tobytes()
        if key not in solved:
            solved[key] = solver(used[row], far[row].astype(np.float64), degree)
        terms, gain = solved[key]
        parameters = gain @ z[row, used[row]]
        heights[i] = parameters[-1]
        tilts[i] = mean_slope(terms, parameters, used[row]) / dx
    height, uncertainty, free = mean_of_lines(heights)
    return StepHeight(
        height, uncertainty, free, position_nm, width_nm, direction_deg, heights, tilts
    )

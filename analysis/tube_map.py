"""Straight tubes in a localization movie: their axes, how wide they are, how densely labelled.

Dyes lie around the axis of a tube at distances r, evenly on all sides. Seen from the side only the
distance u across the axis shows, and <u^2> = <r^2> / 2, of which the errors of localization have
to be taken off. What lies to both sides of a tube tells the background under it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.localize import Movie
from nanophantom.analysis.pore_map import bursts, visibility

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Columns = dict[str, npt.NDArray[Any]]

ANGLES = 360
"""Directions that are tried, over half a turn."""
CELL_NM = 25.0
HALF_NM = 60.0
"""A tube lies within so much of its axis; dyes on long linkers too."""
SIDE_NM = 150.0
"""How far to both sides of it the background is taken."""
FEWEST_PER_UM = 20.0
STEPS = 30


class Line(NamedTuple):
    """A straight line: a point of it and its direction."""

    x_nm: float
    y_nm: float
    angle: float

    def across(self, x: Floats, y: Floats) -> Floats:
        """Return the distances of points from it, positive to its right in the image."""
        return np.asarray(
            -(x - self.x_nm) * math.sin(self.angle) + (y - self.y_nm) * math.cos(self.angle)
        )

    def chord_nm(self, width_nm: float, height_nm: float) -> tuple[float, float]:
        """Return where it enters and leaves a rectangle from (0, 0), counted from its point."""
        enter, leave = -math.inf, math.inf
        for at, step, end in (
            (self.x_nm, math.cos(self.angle), width_nm),
            (self.y_nm, math.sin(self.angle), height_nm),
        ):
            if abs(step) < 1e-12:
                if not 0 <= at <= end:
                    return 0.0, 0.0
                continue
            a, b = sorted((-at / step, (end - at) / step))
            enter, leave = max(enter, a), min(leave, b)
        return (enter, leave) if leave > enter else (0.0, 0.0)


def find(movie: Movie, settings: Mapping[str, Any]) -> Columns:
    """Map the straight tubes of a movie.

    Parameters
    ----------
    movie : (n, ny, nx)
    settings
        What `nanophantom.analysis.pore_map.find` needs.

    Returns
    -------
    dict of columns, one row a tube
        x_nm, y_nm (the middle of its axis in view), angle_deg (0 to 180, from +x towards +y);
        diameter_nm, twice the root mean square distance of dyes from the axis, and
        diameter_error_nm; bursts_per_um; and, if the kinetics are known, dyes_per_um.
    """
    seen = bursts(movie, settings)
    pixel = float(settings["pixel_size_nm"])
    size = ((movie.shape[2] - 1) * pixel, (movie.shape[1] - 1) * pixel)
    visible = visibility(seen["photons"], movie.shape[0], settings)
    dyes = None if visible is None else visible.bursts
    return measured(seen["x_nm"], seen["y_nm"], seen["uncertainty_nm"], size, dyes)


def measured(
    x: Floats, y: Floats, uncertainty: Floats, size_nm: tuple[float, float],
    bursts_per_dye: float | None = None,
) -> Columns:  # fmt: skip
    """Find the tubes in a table of bursts in a view of a size, and measure them."""
    names = ["x_nm", "y_nm", "angle_deg", "diameter_nm", "diameter_error_nm", "bursts_per_um"]
    rows = []
    for line in lines(x, y, size_nm):
        enter, leave = line.chord_nm(*size_nm)
        middle = (enter + leave) / 2
        u = line.across(x, y)
        inside, beside = np.abs(u) < HALF_NM, (np.abs(u) >= HALF_NM) & (np.abs(u) < SIDE_NM)
        # The background is even across the tube.
        background = float(beside.sum()) * HALF_NM / (SIDE_NM - HALF_NM)
        n = float(inside.sum()) - background
        if n < 20:
            continue
        square = (float((u[inside] ** 2).sum()) - background * HALF_NM**2 / 3) / n
        fourth = (float((u[inside] ** 4).sum()) - background * HALF_NM**4 / 5) / n
        spread = max(square - float((uncertainty[inside] ** 2).mean()), 1e-6)
        diameter = 2 * math.sqrt(2 * spread)
        # Bursts of one dye are at one place: only dyes count as independent.
        of_dyes = n / max(bursts_per_dye or 1.0, 1.0)
        error = diameter / 2 * math.sqrt(max(fourth - square**2, 0.0) / of_dyes) / spread
        rows.append((
            line.x_nm + middle * math.cos(line.angle), line.y_nm + middle * math.sin(line.angle),
            math.degrees(line.angle) % 180, diameter, error, 1000 * n / (leave - enter),
        ))  # fmt: skip
    columns: Columns = dict(
        zip(names, np.array(rows, np.float64).reshape(-1, len(names)).T, strict=True)
    )
    if bursts_per_dye is not None:
        columns["dyes_per_um"] = columns["bursts_per_um"] / bursts_per_dye
    return columns


def lines(x: Floats, y: Floats, size_nm: tuple[float, float]) -> list[Line]:
    """Return straight lines that points crowd on, the fullest first.

    Points vote for all lines through them (P. Hough); the fullest line is fitted, its points are
    taken away, and so on until a line holds no more than a few points on a micrometre beyond what
    lies beside it.
    """
    left = np.ones(len(x), bool)
    found: list[Line] = []
    angles = np.pi / ANGLES * np.arange(ANGLES)
    middle = np.array(size_nm) / 2
    reach = float(np.hypot(*size_nm)) / 2 + 2 * CELL_NM
    cells = 2 * math.ceil(reach / CELL_NM)
    while left.sum() > 10:
        dx, dy = x[left] - middle[0], y[left] - middle[1]
        votes = np.zeros((ANGLES, cells))
        for k, angle in enumerate(angles):
            u = -dx * math.sin(angle) + dy * math.cos(angle)
            at = np.clip((u / CELL_NM + cells / 2).astype(np.int64), 0, cells - 1)
            count = np.bincount(at, minlength=cells)
            votes[k] = count + np.roll(count, 1)
        k, cell = (int(i) for i in np.unravel_index(np.argmax(votes), votes.shape))
        u = (cell - cells / 2) * CELL_NM
        start = Line(
            middle[0] - u * math.sin(angles[k]), middle[1] + u * math.cos(angles[k]), angles[k]
        )
        line = _fitted(start, x[left], y[left])
        enter, leave = line.chord_nm(*size_nm)
        off = np.abs(line.across(x[left], y[left]))
        beyond = (off < HALF_NM).sum() - ((off >= HALF_NM) & (off < 2 * HALF_NM)).sum()
        if leave - enter < 10 * HALF_NM or beyond < FEWEST_PER_UM * (leave - enter) / 1000:
            break
        found.append(line)
        left &= np.abs(line.across(x, y)) > HALF_NM
    # Each again with all points: crossing tubes had taken each other's away.
    return [_fitted(line, x, y) for line in found]


def _fitted(line: Line, x: Floats, y: Floats) -> Line:
    """Return the least-squares line of the points near a line, near ones anew each time."""
    for _ in range(STEPS):
        along = (x - line.x_nm) * math.cos(line.angle) + (y - line.y_nm) * math.sin(line.angle)
        u = line.across(x, y)
        near = np.abs(u) < HALF_NM
        if near.sum() < 3:
            return line
        slope, offset = np.polyfit(along[near], u[near], 1)
        line = Line(
            line.x_nm - offset * math.sin(line.angle),
            line.y_nm + offset * math.cos(line.angle),
            line.angle + math.atan(slope),
        )
        if abs(offset) < 1e-3 and abs(slope) < 1e-6:
            break
    return line

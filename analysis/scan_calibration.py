"""What all lines of a scan have alike, measured on a crystal whose lattice is known.

Scales and shear distort the image as a whole. At the start of each line the beam still comes back
from the end of the last one, an exponential in the time since: the flyback.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from nanophantom.analysis.lattice import FloatArray, checked_vectors

DECAYS_PX = 0.5, 1000.0
"""Limits of the decay length of the flyback."""


class Flyback(NamedTuple):
    """Displacement of the beam along a line, height_px * exp(-position / decay_px)."""

    height_px: float
    decay_px: float

    def displacement_px(self, position_px: npt.ArrayLike) -> FloatArray:
        """Return where the beam lies, less where the raster says, at positions along a line."""
        return np.asarray(self.height_px * np.exp(-np.asarray(position_px) / self.decay_px))


STEADY = Flyback(0.0, 1.0)
"""No flyback."""


@dataclass(frozen=True, eq=False)
class ScanCalibration:
    """The linear distortion of a scan: x_measured = matrix @ x_true, for columns (x, y).

    The matrix is [[scale_x, scale_x * tan(shear)], [0, scale_y]]: the fast axis keeps its
    direction. How the crystal is turned to it is `rotation_rad`, no distortion of the scan.
    """

    scale_x: float
    scale_y: float
    shear_rad: float
    rotation_rad: float

    @property
    def matrix(self) -> FloatArray:
        """The distortion (2, 2)."""
        return np.array(
            [[self.scale_x, self.scale_x * np.tan(self.shear_rad)], [0.0, self.scale_y]]
        )

    def undistorted(self, positions: npt.ArrayLike) -> FloatArray:
        """Return true coordinates (..., 2) as (x, y) from measured ones."""
        return np.asarray(np.asarray(positions, np.float64) @ np.linalg.inv(self.matrix).T)


def calibrate_scan(measured: npt.ArrayLike, known: npt.ArrayLike) -> ScanCalibration:
    """Return the distortion under which a known crystal looks as it was measured.

    Parameters
    ----------
    measured, known : (2, 2)
        Rows a, b (x, y) in the same unit of length. The cells may be chosen differently and the
        crystal turned by any angle; mirror images aren't matched.

    Raises
    ------
    ValueError
        Vectors aren't finite or collinear, or the lattices differ by more than a quarter.
    """
    seen = checked_vectors(measured, "measured")
    true = checked_vectors(known, "known")
    best: tuple[float, float, FloatArray] | None = None
    for entries in product(range(-2, 3), repeat=4):
        n = np.array(entries, np.float64).reshape(2, 2)
        if abs(round(float(np.linalg.det(n)))) != 1:
            continue
        # Rows: seen = (n true) M^T
        m = np.asarray(np.linalg.solve(n @ true, seen).T, np.float64)
        if np.linalg.det(m) <= 0:
            continue
        strain = float(np.linalg.norm(m.T @ m - np.eye(2), 2))
        angle = abs(float(np.arctan2(m[1, 0] - m[0, 1], m[0, 0] + m[1, 1])))
        # Of symmetrical equivalents take the least turned one.
        if best is None or (round(strain, 9), angle) < best[:2]:
            best = round(strain, 9), angle, m
    if best is None or best[0] > 0.5:
        raise ValueError("the measured lattice isn't the known one within a quarter of its size")
    m = best[2]
    # M = (upper triangle) (rotation): the second row of M is scale_y (sin, cos) of the rotation.
    rotation = float(np.arctan2(m[1, 0], m[1, 1]))
    c, s = np.cos(rotation), np.sin(rotation)
    upper = m @ np.array([[c, s], [-s, c]])
    shear = float(np.arctan(upper[0, 1] / upper[0, 0]))
    return ScanCalibration(float(upper[0, 0]), float(upper[1, 1]), shear, rotation)


def fit_flyback(measured_x_px: npt.ArrayLike, true_x_px: npt.ArrayLike) -> Flyback:
    """Fit the displacement at the start of lines, from the columns of a known crystal.

    Parameters
    ----------
    measured_x_px, true_x_px : (n,)
        Along the fast axis, from the first pixel of a line: where columns are in the image, and
        where the lattice that fits them says. An error of the lattice's origin and spacing is
        fitted as well.

    Raises
    ------
    ValueError
        Fewer than eight columns are given, or they aren't finite.
    """
    seen, true = (np.asarray(v, np.float64) for v in (measured_x_px, true_x_px))
    if seen.shape != true.shape or seen.ndim != 1 or len(seen) < 8:
        raise ValueError(f"give eight columns or more, each with both: {seen.shape}, {true.shape}")
    if not (np.all(np.isfinite(seen)) and np.all(np.isfinite(true))):
        raise ValueError("positions of columns must be finite")

    def fitted(log_decay: float) -> tuple[FloatArray, float]:
        design = np.stack([np.exp(-seen / np.exp(log_decay)), np.ones(len(seen)), seen], axis=1)
        best = np.linalg.lstsq(design, true - seen, rcond=None)[0]
        return best, float(np.sum((true - seen - design @ best) ** 2))

    grid = np.linspace(np.log(DECAYS_PX[0]), np.log(min(DECAYS_PX[1], np.ptp(seen))), 40)
    start = int(np.argmin([fitted(t)[1] for t in grid]))
    around = grid[max(start - 1, 0)], grid[min(start + 1, len(grid) - 1)]
    found = minimize_scalar(lambda t: fitted(t)[1], bounds=around, method="bounded")
    return Flyback(float(fitted(found.x)[0][0]), float(np.exp(found.x)))

"""Where strands cross each other in a square that repeats itself."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from nanophantom.simcore.atoms import Floats, Ints


def crossings(
    x_nm: Floats, y_nm: Floats, points: int, period_nm: float
) -> tuple[Ints, Ints, Floats, Floats]:
    """Find where strands cross in a square that repeats itself.

    Parameters
    ----------
    x_nm, y_nm
        Points of filaments, one filament after the other, shape (n,).
    points
        How many make one filament.
    period_nm
        Edge of the square.

    Returns
    -------
    upper, lower : ndarray
        First points of the two pieces that cross; the upper one comes later.
    share_upper, share_lower : ndarray
        How far along them the crossing lies, 0 to 1.
    """
    longest = float(np.hypot(np.diff(x_nm), np.diff(y_nm)).reshape(-1)[: points - 1].max())
    # so many boxes along an edge that pieces which cross lie in neighbouring ones
    boxes = int(np.clip(period_nm / longest, 1, max(1.0, math.sqrt(len(x_nm)))))
    found = _crossings(x_nm, y_nm, points, period_nm, boxes)
    upper, lower = found[:, 0].astype(np.int64), found[:, 1].astype(np.int64)
    return upper, lower, found[:, 2], found[:, 3]


@numba.njit(cache=True)
def _crossings(x: Floats, y: Floats, points: int, period: float, boxes: int) -> Any:
    """Return rows (upper piece, lower piece, share along the upper, share along the lower)."""
    pieces = len(x)  # the last point of every filament begins none
    head = np.full((boxes, boxes), -1, np.int64)
    following = np.full(pieces, -1, np.int64)
    reach = 1 if boxes > 2 else 0  # of one or two boxes along an edge all are looked at
    found = []
    for i in range(pieces):
        if i % points == points - 1:
            continue
        mx, my = (x[i] + x[i + 1]) / 2, (y[i] + y[i + 1]) / 2
        column = int(np.floor((mx / period - np.floor(mx / period)) * boxes)) % boxes
        row = int(np.floor((my / period - np.floor(my / period)) * boxes)) % boxes
        ax, ay = x[i + 1] - x[i], y[i + 1] - y[i]
        for r in range(row - reach, row + reach + 1) if reach else range(boxes):
            for c in range(column - reach, column + reach + 1) if reach else range(boxes):
                j = head[r % boxes, c % boxes]
                while j >= 0:
                    if not (j == i - 1 and i % points > 0):  # neighbours share a point
                        bx, by = x[j + 1] - x[j], y[j + 1] - y[j]
                        dx, dy = x[j] + bx / 2 - mx, y[j] + by / 2 - my
                        dx -= period * np.round(dx / period)
                        dy -= period * np.round(dy / period)
                        dx += (ax - bx) / 2  # from the start of i to the start of j
                        dy += (ay - by) / 2
                        turn = ax * by - ay * bx
                        if turn != 0.0:
                            along_i = (dx * by - dy * bx) / turn
                            along_j = (dx * ay - dy * ax) / turn
                            if 0 <= along_i < 1 and 0 <= along_j < 1:
                                found.append((float(i), float(j), along_i, along_j))
                    j = following[j]
        following[i] = head[row, column]
        head[row, column] = i
    rows = np.empty((len(found), 4))
    for n in range(len(found)):
        rows[n, 0], rows[n, 1], rows[n, 2], rows[n, 3] = found[n]
    return rows

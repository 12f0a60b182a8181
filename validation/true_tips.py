"""Tips that were found laid upon true ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.interpolate import RegularGridInterpolator
from scipy.optimize import minimize

from nanophantom.simcore.fields import Table
from nanophantom.simcore.probes.tip_map import TipMap

Floats = npt.NDArray[np.float64]

FIT_DEPTH_NM = 3.0
"""A tip's radius is that of the sphere fitted to its top, down to this."""
COARSE = 9
"""Places along y and x that a shift is first looked for at."""


@dataclass(frozen=True, eq=False)
class LaidUpon:
    """A tip that was found, at the samples of the true one.

    Attributes
    ----------
    found_nm : (ny, nx)
        Its heights on the grid of the true tip; NaN beyond what was found.
    shift_nm
        By how much (y, x) it had to be moved: an image doesn't tell where in a tip its apex is.
    """

    found_nm: Floats
    shift_nm: tuple[float, float]


def true_tip(table: Table, frame: int | None = None) -> TipMap:
    """Return the tip of a truth table, "tip" or one frame of "tip_frames"."""
    heights = np.asarray(table["height_nm"], np.float64)
    row, column = (int(i) for i in np.reshape(table["apex"], (-1, 2))[0])
    step_y, step_x = (float(s) for s in np.reshape(table["step_nm"], (-1, 2))[0])
    shown = heights if frame is None else heights[frame]
    return TipMap(shown, (row, column), (step_y, step_x))


def radius_of(tip: TipMap) -> float | None:
    """Return the radius of a tip's top; None if that is too sharp to have one."""
    try:
        return tip.apex_radius_nm(FIT_DEPTH_NM)
    except ValueError:
        return None


def laid_upon(
    y_nm: Floats, x_nm: Floats, heights_nm: Floats, true: TipMap, depth_nm: float
) -> LaidUpon:
    """Move a tip that was found sideways to where it fits the true one best.

    Parameters
    ----------
    y_nm, x_nm : (rows,), (columns,)
        Rising.
    heights_nm : (rows, columns)
        At most 0.
    true
        The true tip.
    depth_nm
        The fit is of the true tip's top, down to this.
    """
    at = RegularGridInterpolator((y_nm, x_nm), heights_nm, bounds_error=False, fill_value=np.nan)
    y, x = np.broadcast_arrays(*true.offsets_nm)
    top = true.heights_nm >= -depth_nm
    places, heights = np.stack([y[top], x[top]], axis=-1), true.heights_nm[top]

    def misfit(shift: Floats) -> float:
        error = at(places + shift) - heights
        # What lies beyond counts as if it were as deep as the top goes.
        return float(np.mean(np.where(np.isfinite(error), error, depth_nm) ** 2))

    reach = 0.5 * float(np.ptp(places, axis=0).max())
    line = np.linspace(-reach, reach, COARSE)
    start = min(
        (np.array([dy, dx]) for dy in line for dx in line),
        key=lambda shift: (misfit(shift), float(np.hypot(*shift))),
    )
    best = minimize(misfit, start, method="Nelder-Mead", options={"xatol": 0.01, "fatol": 1e-6})
    shift = best.x if best.fun < misfit(np.zeros(2)) else np.zeros(2)
    found = at(np.stack([y, x], axis=-1) + shift)
    return LaidUpon(np.asarray(found, np.float64), (float(shift[0]), float(shift[1])))

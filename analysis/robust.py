"""Where most values lie, and their standard deviation: outliers hardly change either."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def robust_sigma(deviations: npt.ArrayLike) -> float:
    """Return 1.4826 times the median size of deviations: their standard deviation, if normal.

    1.4826 is one over the third quartile of the normal distribution, 0.6745. Up to half of all
    values may be outliers (P. J. Rousseeuw and C. Croux, J. Am. Stat. Assoc. 88 (1993) 1273).

    Parameters
    ----------
    deviations
        Any shape, from their middle: less their median, unless that is 0 anyway.
    """
    return 1.4826 * float(np.median(np.abs(deviations)))


def shortest_interval(values: Floats, share: float) -> tuple[float, float]:
    """Return the median of the shortest interval that holds a share of all values, and its width.

    Wherever a share of the values lies closest together, whatever the others are.

    Parameters
    ----------
    values : (n,)
        One or more.
    share : float
        0 to 1.
    """
    v = np.sort(values)
    span = max(1, int(share * len(v)))
    first = int(np.argmin(v[span:] - v[: len(v) - span])) if len(v) > span else 0
    inside = v[first : first + span + 1]
    return float(np.median(inside)), float(inside[-1] - inside[0])

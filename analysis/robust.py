"""A standard deviation that outliers hardly change."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


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

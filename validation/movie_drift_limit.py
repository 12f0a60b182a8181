"""How well the drift of a localization movie can be known at all.

Suppose that someone knew where every molecule is, and how strongly the stage wanders. Each molecule
that shines in a frame then tells where the stage is, no better than its Cramér-Rao bound s allows:
a frame carries the information J = sum of 1 / s^2 on each axis. Between frames, the stage goes on
as a random walk with steps of variance q. All that is known of the path is Gaussian, with the
precision matrix

    P = diag(J) + D^T D / q,    D taking differences,

and P^-1 is the least mean square error that any algorithm can have, on average over such walks
(the Bayesian bound of H. L. Van Trees, Detection, Estimation, and Modulation Theory I, 1968, which
Gaussian paths reach). With q J << 1 the variance is about sqrt(q / J) / 2: noise and what the stage
does in the meantime have equal parts in it. Nobody can tell the mean of the path from the place of
the specimen, so it is taken off.

That the molecules' places must be found from the same movie costs somewhat more; the bound leaves
it out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.linalg import solveh_banded

from nanophantom.analysis.random_walk import smoothed_walk

Floats = npt.NDArray[np.float64]

LAG = 10
"""Frames over which the strength of a walk is read: single steps are blurred by the exposure."""


def walk_variance(path_nm: npt.ArrayLike) -> float:
    """Return the variance of the steps of a walk, one frame to the next, from mean positions.

    Each position is the mean over an exposure that lasts until the next one: n frames apart they
    differ by the variance q (n - 1/3). A steady drift is taken off.

    Parameters
    ----------
    path_nm : (frames, axes) array
    """
    path = np.asarray(path_nm, np.float64)
    lag = min(LAG, len(path) - 1)
    if lag < 1:
        raise ValueError(f"a walk takes 2 frames or more, got {len(path)}")
    steps = path[lag:] - path[:-lag]
    return float(steps.var(axis=0).mean()) / (lag - 1 / 3)


def drift_limit_nm(information_per_nm2: npt.ArrayLike, step_variance_nm2: float) -> float:
    """Return the least rms error of a walk along one axis, about its mean over the frames.

    Parameters
    ----------
    information_per_nm2 : (frames,) array
        Of each frame: sum of 1 / variance over the molecules that shine in it.
    step_variance_nm2 : float
        Of the walk.

    Raises
    ------
    ValueError
        There is no information at all, or a number is out of range.
    """
    weight = np.asarray(information_per_nm2, np.float64)
    each = smoothed_walk(np.zeros_like(weight), weight, step_variance_nm2).variance
    n, stiffness = len(weight), 1 / step_variance_nm2
    links = np.full(n, 2 * stiffness)
    links[[0, -1]] = stiffness if n > 1 else 0.0
    bands = np.zeros((2, n))
    bands[0, 1:], bands[1] = -stiffness, weight + links
    mean_variance = float(solveh_banded(bands, np.ones(n)).sum()) / n**2
    return float(np.sqrt(max(float(each.mean()) - mean_variance, 0.0)))

"""Localization precision from the data: distances to the nearest neighbour in the next frame.

A molecule that shines on is localized again in the next frame, at a distance whose distribution is
r / (2 s^2) exp(-r^2 / 4 s^2), s being the precision along one axis (U. Endesfelder et al.,
Histochem. Cell Biol. 141 (2014) 629, "NeNA"). Whoever has gone out leaves another molecule as the
nearest. Endesfelder et al. add two empirical terms for those; here both compete as they do in the
sample: the nearest is farther than r if neither the molecule itself nor any other is within r, so
that the survival function is

    S(r) = (1 - a (1 - exp(-r^2 / 4 s^2))) exp(-n(r))
    n(r) = pi D r^2 + c (1 - exp(-r^2 / 4 w^2)),

a being the share that shines on and n(r) the mean number of other molecules of a frame within r:
some anywhere, at a density D, and c in the same cluster of width w >= 2 s. All five are fitted, by
maximum likelihood, to the distances below a limit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.spatial import KDTree

Floats = npt.NDArray[np.float64]

REACH = 7.0
"""The limit of the distances fitted, in standard deviations s: five of their distribution's."""
BINS = 200
ROUNDS = 20
"""At most, of fitting and setting the limit anew."""


class NearestNeighbourPrecision(NamedTuple):
    """What the distances tell.

    Attributes
    ----------
    precision_nm : float
        Standard deviation of a localization along one axis; of unequal ones about their median.
    shining_on : float
        Share of the localizations whose molecule is localized in the next frame, too. With
        unequal precisions the farthest count as others.
    others : float
        Mean number of other molecules of a frame within the limit, 7 precisions.
    distances : int
        Nearest neighbours within the limit.
    """

    precision_nm: float
    shining_on: float
    others: float
    distances: int


def next_frame_distances(
    frame: npt.ArrayLike, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike, farthest_nm: float
) -> Floats:
    """Return the distance from each localization to the nearest of the next frame.

    Parameters
    ----------
    frame : (n,) array of int
    x_nm, y_nm : (n,) array
    farthest_nm : float
        No neighbour is looked for beyond.

    Returns
    -------
    (m,) array
        Of those that have one, m <= n.
    """
    f = np.asarray(frame)
    xy = np.stack([np.asarray(x_nm, dtype=float), np.asarray(y_nm, dtype=float)], axis=-1)
    if f.ndim != 1 or xy.shape != (f.size, 2):
        raise ValueError(f"columns must be of one length, got {f.shape} and {xy.shape[:-1]}")
    if not np.isfinite(xy).all():
        raise ValueError("x_nm and y_nm must be finite")
    if not (np.isfinite(farthest_nm) and farthest_nm > 0):
        raise ValueError(f"farthest_nm must be above 0, got {farthest_nm}")
    # Frames are set apart along a third axis, by more than the search goes: one tree for all.
    apart = 4 * farthest_nm
    tree = KDTree(np.column_stack([xy, apart * f]))
    distance, _ = tree.query(
        np.column_stack([xy, apart * (f + 1.0)]), distance_upper_bound=farthest_nm
    )
    return np.asarray(distance[np.isfinite(distance)])


def nearest_neighbour_precision(
    frame: npt.ArrayLike,
    x_nm: npt.ArrayLike,
    y_nm: npt.ArrayLike,
    *,
    farthest_nm: float = 200.0,
) -> NearestNeighbourPrecision:
    """Find the precision of localizations from molecules that shine in two successive frames.

    Parameters
    ----------
    frame : (n,) array of int
    x_nm, y_nm : (n,) array
        Not linked; drift matters only from frame to frame.
    farthest_nm : float
        Above 7 times the precision expected.

    Raises
    ------
    ValueError
        For columns of unlike lengths or not finite, fewer than 100 neighbours, or distances that
        show no molecule shining on.
    """
    r = next_frame_distances(frame, x_nm, y_nm, farthest_nm)
    everyone = np.asarray(frame).size
    if len(r) < 100:
        raise ValueError(
            f"a precision takes 100 neighbours within {farthest_nm} nm, there are {len(r)}"
        )
    sigma = _densest_sigma(r, farthest_nm)
    for _ in range(ROUNDS):
        limit = min(REACH * sigma, farthest_nm)
        before = sigma
        sigma, share, others = _fit(r[r < limit], everyone, limit, sigma)
        if abs(sigma - before) < 1e-3 * sigma:
            break
    if share < 0.01 or REACH * sigma > farthest_nm:
        raise ValueError(
            f"no molecule seems to shine on: {share:.1%}, with a precision of {sigma:.3g} nm "
            f"within {farthest_nm} nm"
        )
    return NearestNeighbourPrecision(sigma, share, others, int((r < limit).sum()))


def _densest_sigma(r: Floats, farthest_nm: float) -> float:
    """Return a start: where distances per area have fallen to 1/e of the excess at the centre."""
    edges = farthest_nm * np.sqrt(np.arange(BINS + 1) / BINS)  # rings of one area
    count = np.histogram(r, edges)[0].astype(float)
    floor = np.median(count)
    excess = np.clip(count - floor, 0, None)
    mean_square = np.sum(excess * 0.5 * (edges[1:] ** 2 + edges[:-1] ** 2)) / max(excess.sum(), 1)
    return float(np.sqrt(np.clip(mean_square, 1e-4 * farthest_nm**2, None) / 4))


def _fit(r: Floats, everyone: int, limit: float, start: float) -> tuple[float, float, float]:
    """Return precision, share and number of others by maximum likelihood, from counts in bins.

    Whoever has no neighbour within the limit counts as one more bin.
    """
    edges = np.linspace(0, limit, BINS + 1)
    count = np.append(np.histogram(r, edges)[0], everyone - len(r)).astype(float)

    square = edges**2

    def model(p: Floats) -> tuple[float, float, Floats]:
        sigma, density, companions = np.exp(p[[0, 2, 3]])
        share = 1 / (1 + np.exp(-p[1]))
        width = sigma * np.sqrt(4 + np.exp(p[4]))
        others = np.pi * density * square - companions * np.expm1(-square / (4 * width**2))
        return float(sigma), float(share), others

    def minus_log_likelihood(p: Floats) -> float:
        sigma, share, others = model(p)
        survival = (1 + share * np.expm1(-square / (4 * sigma**2))) * np.exp(-others)
        expected = np.append(-np.diff(survival), survival[-1])
        return float(-np.sum(count * np.log(np.maximum(expected, 1e-300))) / everyone)

    seen = np.clip(len(r) / everyone, 0.01, 0.99)
    odds, few = np.log(seen / (1 - seen)), np.log(0.02)
    guess = np.array([np.log(start), odds, few - np.log(np.pi * limit**2), few, 1.0])
    found = minimize(
        minus_log_likelihood,
        guess,
        method="Nelder-Mead",
        options={
            "initial_simplex": guess + np.vstack([np.zeros(5), 0.5 * np.eye(5)]),
            "xatol": 1e-4,
            "fatol": 1e-11,
            "maxfev": 5000,
            "adaptive": True,
        },
    )
    sigma, share, others = model(found.x)
    return sigma, share, float(others[-1])

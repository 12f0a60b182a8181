"""Nuclear pores: find them, fit circle and eight corners, tell how many of the copies are labelled.

A pore is fitted as a circle is (:mod:`nanophantom.analysis.circle_fit`), but from 8 corners times
2 sites instead of any point of the circle. Corner counts give the labelling efficiency p of each
of the 4 copies of a corner: a corner is seen with 1 - (1 - p)**4 (J. V. Thevathasan et al., Nat.
Methods 16 (2019) 1045).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats
from scipy.spatial import cKDTree

from nanophantom.analysis.circle_fit import (
    DIAMETER_KNOWN,
    STILL_NM,
    area_around,
    checked_localizations,
    circle_from,
    direction,
    extra_variance,
    regression,
)
from nanophantom.analysis.clustering import dbscan
from nanophantom.analysis.pore_corners import (
    CORNERS,
    STEPS,
    corner_evidence,
    occupation,
    pore_sites,
    site_densities,
)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Complex = npt.NDArray[np.complex128]
Columns = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Pore:
    """Eight corners on a circle.

    Attributes
    ----------
    x_nm, y_nm, diameter_nm : float
        Of the circle on which the sites lie.
    diameter_error_nm : float
        Standard error, if the errors of localizations are independent.
    angle_deg : float
        Direction of a corner, 0 to 45, from +x towards +y.
    width_nm, background : float
        As in :class:`Circle`.
    localizations : (8,)
        Expected number from each corner, from `angle_deg` on.
    evidence : (8,)
        ln of the likelihood ratio that a corner shows a localization or more, against none. It is
        occupied if this exceeds the ln of the odds that one is empty.
    """

    x_nm: float
    y_nm: float
    diameter_nm: float
    diameter_error_nm: float
    angle_deg: float
    width_nm: float
    background: float
    localizations: Floats
    evidence: Floats

    def occupied(self, filled: float = 0.5) -> Bools:
        """Say which corners rather have a label than not, (8,), if a share `filled` of all has."""
        return np.asarray(occupation(self.evidence, filled) > 0.5)


@dataclass(frozen=True)
class LabellingEfficiency:
    """Share of the copies that are labelled and seen, with its confidence interval."""

    efficiency: float
    low: float
    high: float


def fit_pore(
    x_nm: npt.ArrayLike,
    y_nm: npt.ArrayLike,
    uncertainty_nm: npt.ArrayLike = 0.0,
    *,
    diameter_nm: float = 107.0,
    pair_nm: float = 12.0,
) -> Pore:
    """Fit the eight corners of one pore, seen from the top.

    Parameters
    ----------
    x_nm, y_nm : (n,)
        Of one pore, 8 or more.
    uncertainty_nm : number or (n,)
        S.d. of the positions along x and y.
    diameter_nm : float
        Nominal (107 for Nup96): where to start, and known to 15 %, which counts where corners
        are too few to tell.
    pair_nm : float
        Distance of the two sites of a corner across the circle (12 for Nup96).
    """
    z, variance = checked_localizations(x_nm, y_nm, uncertainty_nm, 8)
    if not diameter_nm > 2 * pair_nm >= 0:
        raise ValueError(f"diameter_nm must be more than twice pair_nm: {diameter_nm}, {pair_nm}")
    nominal = diameter_nm / 2
    start = _ring_centres(np.stack([z.real, z.imag], axis=1), nominal, 1)[0]
    circle = circle_from(z, variance, complex(*start), nominal, nominal)
    centre, width2 = complex(circle.x_nm, circle.y_nm), max(circle.width_nm, 1.0) ** 2
    phase = np.angle((direction(z - centre) ** CORNERS).sum()) / CORNERS
    a = circle.radius_nm * np.exp(1j * phase)
    area = area_around(z, centre)
    share = np.full(CORNERS + 1, (1 - circle.background) / CORNERS)
    share[-1] = max(circle.background, 1e-6)
    for _ in range(STEPS):
        sites = pore_sites(pair_nm, abs(a))
        s2 = variance + width2
        density = site_densities(z - centre, a * sites, s2)
        corner = density.mean(axis=2)
        chance = np.append(corner, np.full((len(z), 1), 1 / area), axis=1) * share
        chance /= chance.sum(axis=1, keepdims=True)
        belongs = 1 - chance[:, -1]
        of_site = chance[:, :-1, None] * density / (2 * np.maximum(corner, 1e-300)[:, :, None])
        origin = np.einsum("nkp,kp->n", of_site, sites) / np.maximum(belongs, 1e-300)
        new_centre, new_a = regression(z, origin, belongs / s2, nominal)
        new_width2 = extra_variance(z - new_centre, origin, new_a, belongs, variance, width2)
        step = abs(new_centre - centre) + abs(new_a - a)
        step += abs(math.sqrt(new_width2) - math.sqrt(width2))
        centre, a, width2 = new_centre, new_a, new_width2
        share = np.maximum(chance.mean(axis=0), 1e-9)
        if step < STILL_NM:
            break
    s2 = variance + width2
    density = site_densities(z - centre, a * pore_sites(pair_nm, abs(a)), s2)
    counts, evidence = corner_evidence(density, 1 / area)
    weight = belongs / s2
    spread = weight.sum() - abs((weight * origin).sum()) ** 2 / weight.sum()
    spread += 1 / (DIAMETER_KNOWN * nominal) ** 2
    # Corners are numbered from the one in the first 45 degrees.
    turn = float(np.rad2deg(np.angle(a)))
    first = -math.floor(turn / 45)
    return Pore(
        centre.real,
        centre.imag,
        2 * abs(a),
        2 / math.sqrt(spread),
        turn + 45 * first,
        math.sqrt(width2),
        float(share[-1]),
        np.roll(counts, -first),
        np.roll(evidence, -first),
    )


def segment_pores(
    x_nm: npt.ArrayLike,
    y_nm: npt.ArrayLike,
    *,
    diameter_nm: float = 107.0,
    link_nm: float | None = None,
    min_localizations: int = 20,
) -> Ints:
    """Find pores in a field, seen from the top.

    Clumps of localizations come from DBSCAN; in each, circles of the nominal diameter are taken
    off one by one, where a ring holds most and its inside least, and every localization goes to
    the nearest of them. What is left over, or isn't of a pore's size, is no pore.

    Parameters
    ----------
    x_nm, y_nm : (n,)
    diameter_nm : float
        Nominal, right to a fifth.
    link_nm : float, optional
        Corners no farther apart than this hang together: by default the diameter, so that two
        missing ones on end don't part a pore.
    min_localizations : int
        A pore has so many at least.

    Returns
    -------
    (n,) int
        Number of the pore, -1 for none.
    """
    z, _ = checked_localizations(x_nm, y_nm, 0.0, 0)
    link = diameter_nm if link_nm is None else link_nm
    if not (diameter_nm > 0 and link > 0) or min_localizations < 8:
        raise ValueError("diameter_nm and link_nm must be positive, min_localizations 8 or more")
    points = np.stack([z.real, z.imag], axis=1)
    pore = np.full(len(z), -1, np.int64)
    found = 0
    for members in _groups(dbscan(points, link, 3)):
        if len(members) < min_localizations:
            continue
        centres = _ring_centres(points[members], diameter_nm / 2)
        distance, which = cKDTree(centres).query(points[members])
        for c in range(len(centres)):
            mine = (which == c) & (distance < 0.8 * diameter_nm)
            if mine.sum() < min_localizations:
                continue
            size = 2 * math.sqrt(float((distance[mine] ** 2).mean()))
            spread = 2 * math.sqrt(2 * float(np.var(points[members[mine]], axis=0).mean()))
            # A blob lies on many a ring, but doesn't go round any.
            if abs(size / diameter_nm - 1) < 0.25 and spread > 0.5 * diameter_nm:
                pore[members[mine]] = found
                found += 1
    return pore


def fit_pores(
    x_nm: npt.ArrayLike,
    y_nm: npt.ArrayLike,
    uncertainty_nm: npt.ArrayLike,
    pore: npt.ArrayLike,
    *,
    diameter_nm: float = 107.0,
    pair_nm: float = 12.0,
    min_localizations: float = 1.0,
) -> Columns:
    """Fit every pore of a field: see :func:`fit_pore`.

    Parameters
    ----------
    pore : (n,) int
        As :func:`segment_pores` gives it.
    min_localizations : float
        A corner with fewer counts as empty.

    Returns
    -------
    dict of columns, one row a pore
        x_nm, y_nm, diameter_nm, diameter_error_nm, angle_deg, width_nm, background;
        localizations; corners, how many are rather occupied than not.
    """
    x, y, number = np.asarray(x_nm, np.float64), np.asarray(y_nm, np.float64), np.asarray(pore)
    if number.shape != x.shape:
        raise ValueError(f"pore: one number a localization, got {number.shape} for {x.shape}")
    uncertainty = np.broadcast_to(np.asarray(uncertainty_nm, np.float64), x.shape)
    groups = _groups(number)
    fits = [
        fit_pore(x[i], y[i], uncertainty[i], diameter_nm=diameter_nm, pair_nm=pair_nm)
        for i in groups
    ]
    names = ("x_nm", "y_nm", "diameter_nm", "diameter_error_nm", "angle_deg", "width_nm")
    columns: Columns = {k: np.array([getattr(f, k) for f in fits]) for k in names}
    columns["background"] = np.array([f.background for f in fits])
    columns["localizations"] = np.array([len(i) for i in groups], np.int64)
    evidence = np.array([f.evidence for f in fits]).reshape(-1, CORNERS)
    counts = np.array([f.localizations for f in fits]).reshape(-1, CORNERS)
    evidence = np.where(counts < min_localizations - 0.5, -np.inf, evidence)
    filled = 0.5
    for _ in range(STEPS):
        # How many corners are filled decides about those in doubt, and they about how many.
        filled = float(np.clip(occupation(evidence, filled).mean(), 0.01, 0.999)) if fits else 0.5
    columns["corners"] = (occupation(evidence, filled) > 0.5).sum(axis=1)
    return columns


def mean_diameter_nm(pores: Columns, fewest: int = 5) -> tuple[float, float]:
    """Return the mean diameter of pores and its standard error, from their scatter.

    Parameters
    ----------
    pores : dict of columns
        As :func:`fit_pores` gives them.
    fewest : int
        Pores with fewer corners are left out: three or four can be taken for others.
    """
    diameter = np.asarray(pores["diameter_nm"])[np.asarray(pores["corners"]) >= fewest]
    if len(diameter) < 2:
        raise ValueError(f"2 pores with {fewest} corners or more are needed, got {len(diameter)}")
    return float(diameter.mean()), float(diameter.std(ddof=1)) / math.sqrt(len(diameter))


def corner_distribution(efficiency: float, copies: int = 4) -> Floats:
    """Return the chances of 0 to 8 corners: Binom(8, 1 - (1 - p)**copies)."""
    if not 0 <= efficiency <= 1 or copies < 1:
        raise ValueError(f"efficiency must be 0 to 1 ({efficiency:g}), copies 1 or more ({copies})")
    seen = 1 - (1 - efficiency) ** copies
    return np.asarray(stats.binom.pmf(np.arange(CORNERS + 1), CORNERS, seen))


def labelling_efficiency(
    corners: npt.ArrayLike, *, copies: int = 4, fewest: int = 0, confidence: float = 0.95
) -> LabellingEfficiency:
    """Tell from corner counts what share of the copies is labelled.

    Parameters
    ----------
    corners : (n,) int
        Occupied corners of each pore, 0 to 8.
    copies : int
        Copies in a corner.
    fewest : int
        Pores with fewer corners aren't in the list (not recognized): pores below are left out,
        and the likelihood is that of the rest.
    confidence : float
        Of the interval, by the likelihood ratio.
    """
    counted = np.asarray(corners)
    if counted.ndim != 1 or not np.isin(counted, np.arange(CORNERS + 1)).all():
        raise ValueError("corners must be whole numbers 0 to 8, shape (n,)")
    if not 0 <= fewest < CORNERS or copies < 1 or not 0 < confidence < 1:
        raise ValueError("fewest must be 0 to 7, copies 1 or more, confidence between 0 and 1")
    counted = counted[counted >= fewest]
    if len(counted) == 0:
        raise ValueError("no pore has corners enough")
    mean = float(counted.mean())
    n = len(counted)

    def likelihood(seen: float) -> float:
        """Return ln(likelihood) of the share of corners that are seen, per pore."""
        fit = special.xlogy(mean, seen) + special.xlog1py(CORNERS - mean, -seen)
        return float(fit - np.log(special.bdtrc(fewest - 1, CORNERS, seen)))

    lowest, highest = 1e-9, 1 - 1e-12
    bounds = (lowest, highest)
    best = optimize.minimize_scalar(
        lambda q: -likelihood(q), bounds=bounds, method="bounded", options={"xatol": 1e-10}
    ).x
    # All corners seen, or as few as can be: the maximum is at the border.
    best = max((lowest, float(best), highest), key=likelihood)
    level = likelihood(best) - stats.chi2.ppf(confidence, 1) / 2 / n

    def border(end: float) -> float:
        if likelihood(end) >= level:
            return end
        return float(optimize.brentq(lambda q: likelihood(q) - level, end, best, xtol=1e-13))

    p, low, high = (1 - (1 - q) ** (1 / copies) for q in (best, border(lowest), border(highest)))
    return LabellingEfficiency(p, 0.0 if low < 1e-9 else low, 1.0 if best == highest else high)


def _groups(number: Ints) -> list[Ints]:
    """Return the members of each group 0, 1 ..., those without one (-1) left out."""
    order = np.argsort(number, kind="stable")
    limits = np.searchsorted(number[order], np.arange(number.max(initial=-1) + 2))
    return [order[a:b] for a, b in pairwise(limits) if b > a]


def _ring_centres(points: Floats, radius_nm: float, most: int | None = None) -> Floats:
    """Return the centres of circles of about this radius, the fullest first, at least one.

    Every point votes for centres a radius away and against those nearer than that.
    """
    step = radius_nm / 10
    reach = 15
    offset = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1]) / 10
    kernel = np.exp(-((offset - 1) ** 2) / (2 * 0.15**2)) - (offset < 0.6)
    # One vote a cell: a molecule that blinks often has no more than another.
    cells = np.unique(np.round((points - points.min(axis=0)) / step).astype(np.int64), axis=0)
    score = np.zeros(cells.max(axis=0) + 2 * reach + 1)
    centres: list[Floats] = []
    sign = 1.0
    voters = cells
    while True:
        for x, y in voters:
            score[x : x + 2 * reach + 1, y : y + 2 * reach + 1] += sign * kernel
        at = np.array(np.unravel_index(np.argmax(score), score.shape))
        if len(centres) and score[tuple(at)] < 3:
            break
        centres.append((at - reach) * step + points.min(axis=0))
        near = np.hypot(*(cells + reach - at).T) < reach
        if len(centres) == most or not near.any() or near.all():
            break
        voters, cells, sign = cells[near], cells[~near], -1.0
    return np.array(centres)

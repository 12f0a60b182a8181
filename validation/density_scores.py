"""Localizations against the density of emitters in a frame: curves, and what is off the structure.

The frames of one movie are sorted by how many emitters shine in each. All curves are over bins of
that density, an emitter or find counting in its frame's bin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from nanophantom.validation.localization_matching import nearest_neighbour_nm
from nanophantom.validation.localization_scores import BORDER_SIGMAS, Compared, efficiency

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NAMES = ("single", "multiple")
"""Of the analyses, by their numbers."""
ENOUGH = 0.7
"""A Jaccard index that is asked for."""
NEAR_SIGMAS = 3.0
"""Two emitters no farther apart than so many widths of a spot overlap."""
OFF_NM = 60.0
"""A find farther than this from every dye belongs to none: three times the standard error, along x
or y, of the dimmest emitters that are asked for (about sigma / 5), when they are alone."""
EDGES_PER_UM2 = np.r_[0.0, 0.1 * 4.0 ** (np.arange(10) / 3), np.inf]
"""Of the bins of density: 0.1, 0.16, 0.25, 0.4, 0.63, 1.0, 1.6, 2.5, 4.0, 6.4."""
REGIMES = {"sparse": (0.0, 0.4), "medium": (0.4, 1.6), "dense": (1.6, np.inf)}
"""Ranges of density, per um^2."""


@dataclass(frozen=True, eq=False)
class Series:
    """One analysis beside the truth, frame by frame.

    Attributes
    ----------
    density_per_um2 : (frames,)
        Emitters asked for.
    per_um2_all : (frames,)
        All emitters.
    near : (emitters,)
        Emitters that overlap with another.
    inside : (emitters,)
        So far from the edge that every emitter that could overlap is in view.
    alone_expected : (emitters,)
        Chance that no other is near, from the places of all dyes.
    off : (finds,)
        Finds that are off the structure.
    """

    compared: Compared
    density_per_um2: Floats
    per_um2_all: Floats
    near: Bools
    inside: Bools
    alone_expected: Floats
    off: Bools


@dataclass(frozen=True, eq=False)
class Curve:
    """Scores in bins of density that hold emitters, (k,) each; NaN where nothing defines them."""

    density: Floats
    """Mean over the frames, per um^2."""
    n: Ints
    """Hits, misses and false finds."""
    hits: Ints
    finds: Ints
    jaccard: Floats
    recall: Floats
    precision: Floats
    rmse_nm: Floats
    """Of the 2-D distance."""
    bound_nm: Floats
    """Cramér-Rao bound of the same."""
    efficiency: Floats
    coverage: Floats
    off: Floats
    """Share of finds off the structure."""
    off_bound: Floats
    """At most so many would be, if every find were as good as its bound."""
    alone: Floats
    """Share of emitters with no other near; of those not at the edge, asked for."""
    alone_expected: Floats
    """The chance of that, from the dyes' places."""
    alone_if_even: Floats
    """exp(-pi rho r^2): if they were spread evenly."""


def series(c: Compared, dataset: Observed) -> Series:
    """Return what curves are made of.

    The chance that an emitter has no other near is ``exp(-m q)``: m dyes lie within the radius,
    each of which shines in this frame with q = (k - 1) / (M - 1), k of the M dyes in view shining.
    For dyes that are spread evenly that is exp(-pi rho r^2).
    """
    imaging, true = c.imaging, c.true
    a, (ny, nx) = imaging.pixel_size_nm, imaging.shape
    margin, radius = BORDER_SIGMAS * imaging.sigma_nm, NEAR_SIGMAS * imaging.sigma_nm
    frames = dataset.n_frames
    area = (nx * a - 2 * margin) * (ny * a - 2 * margin) * 1e-6
    seen = np.bincount(true.frame[c.asked], minlength=frames)

    dyes = dataset.truth("dyes")
    dye_places = np.column_stack([dyes["x_nm"], dyes["y_nm"]]).astype(np.float64)
    drift = dataset.truth("drift")
    shift = np.column_stack([drift["dx_nm"], drift["dy_nm"]]).astype(np.float64)
    tree = cKDTree(dye_places)
    in_view = _to_edge(dye_places[:, 0], dye_places[:, 1], a, nx, ny) >= 0
    shining = _to_edge(true.x_nm, true.y_nm, a, nx, ny) >= 0
    k = np.bincount(true.frame[shining], minlength=frames)
    chance = np.maximum(k - 1, 0) / max(int(in_view.sum()) - 1, 1)
    around = np.array(tree.query_ball_point(dye_places, radius, return_length=True)) - 1.0
    row = _rows(np.asarray(c.emissions["dye"], np.int64), np.asarray(dyes["dye"], np.int64))

    found = np.column_stack([c.places.x_nm, c.places.y_nm]) - shift[c.places.frame]
    nearest = tree.query(found, distance_upper_bound=OFF_NM)[0] if len(dye_places) else np.inf
    return Series(
        compared=c,
        density_per_um2=seen / area,
        per_um2_all=k / (nx * ny * a * a * 1e-6),
        near=np.isfinite(nearest_neighbour_nm(true, radius)),
        inside=np.asarray(_to_edge(true.x_nm, true.y_nm, a, nx, ny) >= radius),
        alone_expected=np.exp(-around[row] * chance[true.frame]),
        off=np.broadcast_to(~np.isfinite(nearest), len(found)),
    )


def curve(one: Series, edges_per_um2: Floats = EDGES_PER_UM2) -> Curve:
    """Return scores in bins of the density of a frame, the lower edge of each being in it."""
    c, bins = one.compared, len(edges_per_um2) - 1
    of_frame = np.searchsorted(edges_per_um2, one.density_per_um2, side="right") - 1
    of_frame[(of_frame < 0) | (of_frame >= bins)] = bins  # left out
    true_bin, find_bin = of_frame[c.true.frame], of_frame[c.places.frame]
    pair_bin = true_bin[c.pairs.true]

    def sums(which: Ints, weights: npt.NDArray[np.generic] | None = None) -> Floats:
        return np.bincount(which, weights, minlength=bins + 1)[:bins].astype(np.float64)

    asked, hits = sums(true_bin[c.asked]), sums(pair_bin)
    false, finds = sums(find_bin[c.false]), sums(find_bin)
    error = c.errors_nm()
    rows, limit = c.bounded
    bound_bin, variance = pair_bin[rows], limit.x_nm**2 + limit.y_nm**2
    radius_um = NEAR_SIGMAS * c.imaging.sigma_nm * 1e-3
    judged = c.asked & one.inside
    judged_bin = true_bin[judged]
    quoted = c.of_pairs("uncertainty_nm")
    with np.errstate(invalid="ignore", divide="ignore"):
        jaccard = hits / (asked + false)
        rmse = np.sqrt(sums(pair_bin, (error**2).sum(axis=1)) / hits)
        bound = np.sqrt(sums(bound_bin, variance) / sums(bound_bin))
        covered = np.full(bins, np.nan)
        if quoted is not None:
            within = (np.abs(error) <= 1.96 * quoted[:, None]).mean(axis=1)
            covered = sums(pair_bin, within) / hits
        even = np.exp(-np.pi * radius_um**2 * one.per_um2_all[c.true.frame[judged]])
        n_judged = sums(judged_bin)
        every = {
            "density": sums(of_frame, one.density_per_um2) / sums(of_frame),
            "n": (asked + false).astype(np.int64),
            "hits": hits.astype(np.int64),
            "finds": finds.astype(np.int64),
            "jaccard": jaccard,
            "recall": hits / asked,
            "precision": hits / (hits + false),
            "rmse_nm": rmse,
            "bound_nm": bound,
            "efficiency": np.array([efficiency(*p) for p in zip(jaccard, rmse, strict=True)]),
            "coverage": covered,
            "off": np.where(finds > 0, sums(find_bin[one.off]) / np.maximum(finds, 1), 0.0),
            "off_bound": sums(bound_bin, np.exp(-(OFF_NM**2) / variance)) / sums(bound_bin),
            "alone": sums(judged_bin[~one.near[judged]]) / n_judged,
            "alone_expected": sums(judged_bin, one.alone_expected[judged]) / n_judged,
            "alone_if_even": sums(judged_bin, even) / n_judged,
        }
    some = asked > 0
    return Curve(**{name: values[some] for name, values in every.items()})


def falls_below(density: Floats, jaccard: Floats, enough: float = ENOUGH) -> float | None:
    """Return the density at which the Jaccard index first falls below a value.

    Between two points of the curve it is taken as a straight line over the logarithm of the
    density. None if it never falls below, or is below from the beginning.
    """
    below = np.flatnonzero(jaccard < enough)
    if not len(below) or below[0] == 0:
        return None
    j = int(below[0])
    part = (jaccard[j - 1] - enough) / (jaccard[j - 1] - jaccard[j])
    low, high = np.log(density[j - 1 : j + 1])
    return float(np.exp(low + part * (high - low)))


def _rows(dye: Ints, dyes: Ints) -> Ints:
    """Return where dyes, by their numbers, stand in the table of dyes."""
    order = np.argsort(dyes, kind="stable")
    return np.asarray(order[np.searchsorted(dyes[order], dye)], np.int64)


def _to_edge(x_nm: Floats, y_nm: Floats, a: float, nx: int, ny: int) -> Floats:
    left, top = x_nm + a / 2, y_nm + a / 2
    return np.minimum(np.minimum(left, nx * a - left), np.minimum(top, ny * a - top))

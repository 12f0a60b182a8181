"""Where the frames of a series lie, from the shifts between all pairs of them.

The shift of i against j must be that of i against k and of k against j together, whatever k is.
A pair that fell for a neighbouring unit cell breaks this with most of its partners and is
overruled by them (B. H. Savitzky et al., Ultramicroscopy 191 (2018) 56). What remains is
averaged by least squares.

One frame at a few electrons per hundred pixels says too little about another one. Frames are
therefore compared in pairs within short groups, over which the specimen hardly drifts; each group
is added up, and the sums, which have less noise, are compared in pairs again, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.modes import FloatArray, Modes, Spectrum, common_window
from nanophantom.analysis.shift_search import best_shift

GROUP = 4
"""Members of a group: few, so that the specimen hardly drifts while they are taken."""

AGREEMENT_PX = 1.5
"""A pair and a detour that differ by less say the same; unit cells are larger."""


def shifts_from_pairs(
    modes: Modes,
    stack: npt.NDArray[np.generic],
    reach_px: float,
    smoothness_px: float,
) -> FloatArray:
    """Return the (n, 2) shifts of the frames, good enough to start a refinement from.

    Parameters
    ----------
    modes
        Of the series.
    stack : (n, ny, nx) array
        The frames.
    reach_px : float
        By how much a frame or a group may lie off the place where its neighbours lead to expect
        it, along y and x.
    smoothness_px : float
        Standard deviation of the prior of that.
    """
    shifts = np.zeros((len(stack), 2))
    runs = [np.array([i]) for i in range(len(stack))]
    while len(runs) > 1:
        shifts = continued(shifts, runs)
        origin = np.rint(shifts).astype(int)
        # The windows ride with the specimen, as far as its path is known.
        window = common_window(shifts, modes.shape)
        means = np.zeros((len(runs), len(modes.iy)), np.complex64)
        for mean, run in zip(means, runs, strict=True):
            for i in run:
                spectrum = modes.of(stack[i], window, origin[i])
                mean += spectrum * modes.phase(shifts[i] - origin[i]) / np.float32(len(run))
        groups = np.array_split(np.arange(len(runs)), -(-len(runs) // GROUP))
        for group in groups:
            sizes = [len(runs[member]) for member in group]
            pairs = compare_pairs(modes, means[group], sizes, reach_px, smoothness_px)
            for member, left in zip(group, positions_from_pairs(pairs)[0], strict=True):
                shifts[runs[member]] += left
        runs = [np.concatenate([runs[member] for member in group]) for group in groups]
    return shifts


def continued(shifts: FloatArray, runs: Sequence[npt.NDArray[np.intp]]) -> FloatArray:
    """Move whole runs of frames so that each goes on where the one before it leads."""
    shifts = shifts.copy()
    for before, run in pairwise(runs):
        gap = run.mean() - before.mean()
        step = (velocity(shifts[before]) + velocity(shifts[run])) / 2 * gap
        shifts[run] += shifts[before].mean(axis=0) + step - shifts[run].mean(axis=0)
    return shifts


def velocity(path: FloatArray) -> FloatArray:
    """Return the drift a frame, from a straight line; a shorter path is believed less."""
    time = np.arange(len(path)) - (len(path) - 1) / 2
    return np.asarray(time @ path / (np.sum(time**2) + 1))


@dataclass(frozen=True, eq=False)
class Pairs:
    """What each of n spectra says about each other one.

    Attributes
    ----------
    shifts : (n, n, 2) float64
        Position of i less that of j; shifts[i, j] = -shifts[j, i].
    precision : (n, n) float64
        Weight of a shift in an average, 1/px²: how sharply the likelihood peaks.
    margin : (n, n) float64
        By how much its log-probability exceeds that of the runner-up, the next unit cell say.
    """

    shifts: FloatArray
    precision: FloatArray
    margin: FloatArray


def compare_pairs(
    modes: Modes,
    means: Spectrum,
    sizes: Sequence[int],
    reach_px: float,
    smoothness_px: float,
) -> Pairs:
    """Compare all pairs of spectra (n, modes), means of so many frames in consecutive runs.

    They are expected where they belong; the further apart in time, the less surely.
    """
    n = len(means)
    pairs = Pairs(np.zeros((n, n, 2)), np.zeros((n, n)), np.zeros((n, n)))
    for j in range(n):
        for i in range(j + 1, n):
            terms = modes.correlation(means[i], means[j], sizes[i], sizes[j])
            spread = smoothness_px * np.sqrt(i - j)
            peak = best_shift(modes, terms, np.zeros(2), spread, reach_px)
            pairs.shifts[i, j], pairs.shifts[j, i] = peak.shift, -peak.shift
            pairs.precision[i, j] = pairs.precision[j, i] = max(peak.precision, 1e-6)
            pairs.margin[i, j] = pairs.margin[j, i] = max(peak.margin, 1e-6)
    return pairs


def positions_from_pairs(
    pairs: Pairs, agreement_px: float = AGREEMENT_PX
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Return positions whose differences are the shifts of most pairs, and the pairs overruled.

    1. Transitivity: the shift of i against j by way of any k votes, with the margin of the
       weaker of its two legs. The way that most votes agree with is taken.
    2. The links with most votes that join all (the maximum spanning tree) place them.
    3. Pairs that disagree with these places are overruled. The others give the positions by
       least squares: sum over pairs of precision * |p_i - p_j - shift_ij|^2 is least.

    Returns
    -------
    positions : (n, 2) float64
        Their mean is zero.
    overruled : (n, n) bool
    """
    n = len(pairs.shifts)
    ways, votes = np.zeros((n, n, 2)), np.zeros((n, n))
    for i in range(n):
        for j in range(i):
            by_way = pairs.shifts[i] + pairs.shifts[:, j]
            weight = np.minimum(pairs.margin[i], pairs.margin[:, j])
            by_way[i], weight[i], weight[j] = pairs.shifts[i, j], pairs.margin[i, j], 0
            apart = np.linalg.norm(by_way[:, None] - by_way[None], axis=-1)
            agree = (apart < agreement_px) * weight
            winner = int(np.argmax(agree.sum(axis=1)))
            votes[i, j] = votes[j, i] = agree[winner].sum()
            ways[i, j] = agree[winner] @ by_way / votes[i, j]
            ways[j, i] = -ways[i, j]

    places, placed = np.zeros((n, 2)), np.arange(n) == 0
    while not placed.all():
        open_links = np.where(placed[None, :] & ~placed[:, None], votes, -1.0)
        new, old = np.unravel_index(int(np.argmax(open_links)), (n, n))
        places[new] = places[old] + ways[new, old]
        placed[new] = True

    implied = places[:, None] - places[None]
    overruled = np.linalg.norm(pairs.shifts - implied, axis=-1) > agreement_px
    # What is overruled still holds all together, at the place the others gave it.
    shifts = np.where(overruled[..., None], implied, pairs.shifts)
    weights = pairs.precision * np.where(overruled, 1e-3, 1.0)
    laplacian = np.diag(weights.sum(axis=1)) - weights
    pull = np.einsum("ij,ijc->ic", weights, shifts)
    positions = np.linalg.lstsq(laplacian, pull, rcond=None)[0]
    return np.asarray(positions - positions.mean(axis=0)), overruled

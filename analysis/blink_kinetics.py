"""How many blinks one molecule shows.

A molecule of the four-state kind (inactive, ON, dark, bleached) ends each burst for good with
p = k_b/(k_b + k_d): its number of bursts is geometric. Bursts too short to be seen and dark times
too short to be told keep it geometric, with another p, and leave some molecules unseen. A movie
that ends cuts off late blinks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

NEGLIGIBLE = 1e-12
ENSEMBLE = 40
"""So many equally probable values stand for a calibration's uncertain p."""


@dataclass(frozen=True)
class BlinkKinetics:
    """How many blinks of one molecule are seen: 0, or geometric from 1 on.

    Attributes
    ----------
    p : float
        Chance that a blink that is seen is the last one seen of its molecule.
    seen : float
        Chance that a molecule shows any blink.
    between_s : float
        Mean time from the start of a blink to that of the molecule's next, for :meth:`within`.
    """

    p: float
    seen: float = 1.0
    between_s: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.p <= 1 and 0 < self.seen <= 1):
            raise ValueError(f"p and seen must be above 0 and at most 1: {self.p:g}, {self.seen:g}")

    @property
    def mean(self) -> float:
        """Mean number of blinks per molecule, the unseen ones included."""
        return self.seen / self.p

    def pmf(self) -> Floats:
        """Return the probability of 0, 1, 2 ... blinks, up to a negligible rest."""
        most = 1 if self.p == 1 else math.ceil(math.log(NEGLIGIBLE) / math.log1p(-self.p)) + 1
        k = np.arange(most + 1)
        pmf = self.seen * self.p * (1 - self.p) ** np.maximum(k - 1.0, 0)
        pmf[0] = 1 - self.seen
        return np.asarray(pmf / pmf.sum())

    def within(self, duration_s: float, activation_per_s: float) -> Floats:
        """Return the probability of 0, 1, 2 ... blinks in a movie that ends.

        Molecules are activated at a rate from its start on; the times between blinks are
        exponential with mean `between_s`.

        Parameters
        ----------
        duration_s, activation_per_s : float
        """
        if not (duration_s > 0 and activation_per_s > 0):
            raise ValueError("duration_s and activation_per_s must be positive")
        pmf = self.pmf()
        n = np.arange(len(pmf))
        # P(n or more): activated early enough for n - 1 times between blinks to fit in.
        middle = (np.arange(400) + 0.5) / 400
        spent = self.between_s * stats.gamma.ppf(middle, np.maximum(n[1:, None] - 1, 1))
        spent[0] = 0
        left = np.maximum(duration_s - spent, 0)
        in_time = -np.expm1(-activation_per_s * left).mean(axis=1)
        or_more = self.seen * (1 - self.p) ** (n[1:] - 1.0) * in_time
        chance = -np.diff(np.concatenate([[1.0], or_more, [0.0]]))
        return np.asarray(chance / chance.sum())


@dataclass(frozen=True)
class GeometricFit:
    """p of a geometric number of blinks, from isolated molecules that were seen.

    Attributes
    ----------
    p, standard_error : float
        Maximum-likelihood estimate: molecules over blinks.
    low, high : float
        95 % interval (Jeffreys).
    molecules, blinks : int
        What it was measured on.
    """

    p: float
    standard_error: float
    low: float
    high: float
    molecules: int
    blinks: int

    def ensemble(self, seen: float = 1.0) -> Floats:
        """Return equally probable blink distributions, (m, k), that span the uncertainty of p.

        Parameters
        ----------
        seen : float
            Chance that a molecule shows any blink; isolated molecules can't tell it.
        """
        share = (np.arange(ENSEMBLE) + 0.5) / ENSEMBLE
        values = _posterior(self.molecules, self.blinks).ppf(share)
        rows = [BlinkKinetics(float(p), seen).pmf() for p in values]
        pmfs = np.zeros((ENSEMBLE, max(map(len, rows))))
        for pmf, row in zip(pmfs, rows, strict=True):
            pmf[: len(row)] = row
        return pmfs


def four_state_blinks(
    bleach_per_s: float,
    dark_per_s: float,
    recovery_per_s: float,
    *,
    frame_s: float = 0.0,
    gap_frames: int = 0,
    shortest_s: float = 0.0,
    activated: float = 1.0,
) -> BlinkKinetics:
    """Return how many linked blinks of a four-state molecule are seen.

    Parameters
    ----------
    bleach_per_s, dark_per_s : float
        Rates k_b, k_d out of the ON state: for good, or to the dark state.
    recovery_per_s : float
        Rate k_r back from the dark state.
    frame_s : float
        Exposure and period of the frames; 0 for a record without frames.
    gap_frames : int
        Bursts with so many empty frames between them, or fewer, are linked into one.
    shortest_s : float
        A frame shows the molecule if it is ON for this long in it: the photons needed over the
        photon rate. At most `frame_s`.
    activated : float
        Chance that a molecule is labelled and ever activated.

    Notes
    -----
    A burst is seen with chance d: one shorter than s, or shorter than 2 s and split by the end
    of a frame into two parts shorter than s, isn't. With k = k_b + k_d,

        d = exp(-k s) - (s exp(-k s) - (exp(-k s) - exp(-2 k s))/k)/T.

    After a burst the dye comes back at k_r; what ends the wait for something to be seen or for
    bleaching is a seen burst or a last unseen one, lambda = d + (1 - d) p of all, so the wait is
    exponential with k_r lambda. A blink is the last one seen with p1 = p/(p + d (1 - p)), and a
    molecule is seen with d/lambda. Waits that leave no more than g empty frames are merged; with
    the burst's end anywhere in its frame the chance that a wait is told is

        m = exp(-k_r lambda ((g + 1) T - 2 s)) (1 - exp(-k_r lambda T))/(k_r lambda T)

    and the last of a chain of merged bursts comes with p1/(p1 + (1 - p1) m). The time that an
    unseen burst itself lasts within a wait is left out, and so are noise and unequal brightness.
    """
    rates = (bleach_per_s, recovery_per_s)
    if not all(math.isfinite(k) and k > 0 for k in rates) or not 0 <= dark_per_s < math.inf:
        raise ValueError("bleach_per_s and recovery_per_s must be positive, dark_per_s 0 or more")
    if not 0 <= shortest_s <= frame_s or gap_frames < 0:
        raise ValueError("shortest_s must be within 0 and frame_s, gap_frames 0 or more")
    if gap_frames == 0 and 2 * shortest_s > frame_s:
        raise ValueError("with gap_frames 0, shortest_s must be at most half of frame_s")
    k = bleach_per_s + dark_per_s
    p = bleach_per_s / k
    detected = told = 1.0
    if frame_s > 0:
        s = shortest_s
        once, twice = math.exp(-k * s), math.exp(-2 * k * s)
        detected = once - (s * once - (once - twice) / k) / frame_s
    any_end = detected + (1 - detected) * p
    if frame_s > 0:
        wait = recovery_per_s * any_end
        dead = (gap_frames + 1) * frame_s - 2 * shortest_s
        told = math.exp(-wait * dead) * -math.expm1(-wait * frame_s) / (wait * frame_s)
    last = p / (p + detected * (1 - p))
    # From blink to blink: a wait that is told, and of k_b + k_d bursts and waits merged before it.
    wait_s = 1 / (recovery_per_s * any_end)
    merged = (1 - last) * (1 - told) / (last + (1 - last) * told)
    shortest = max((gap_frames + 1.5) * frame_s - 2 * shortest_s, 0.0)
    between = shortest + wait_s + 1 / k + merged * (1 / k + min(wait_s, shortest / 2))
    return BlinkKinetics(last / (last + (1 - last) * told), activated * detected / any_end, between)


def fit_geometric(blinks: npt.ArrayLike) -> GeometricFit:
    """Measure p on isolated molecules.

    Parameters
    ----------
    blinks : (m,) int
        Blinks of each molecule, 1 or more.
    """
    counted = checked_blinks(blinks)
    if len(counted) == 0 or counted.min() < 1:
        raise ValueError("blinks: 1 or more for each isolated molecule, at least one molecule")
    m, total = len(counted), int(counted.sum())
    p = m / total
    low, high = _posterior(m, total).ppf([0.025, 0.975])
    error = p * math.sqrt((1 - p) / m)
    return GeometricFit(p, error, float(low), float(high), m, total)


def checked_blinks(blinks: npt.ArrayLike) -> Ints:
    """Return numbers of blinks as integers, or raise ValueError."""
    given = np.asarray(blinks)
    counted = given.astype(np.int64)
    if given.ndim != 1 or np.any(counted != given) or np.any(counted < 0):
        raise ValueError(f"blinks must be whole numbers, 0 or more, shape (n,): {given.shape}")
    return counted


def _posterior(molecules: int, blinks: int) -> stats.rv_continuous:
    """Return what is known of p (Jeffreys prior of a geometric distribution)."""
    return stats.beta(molecules, blinks - molecules + 0.5)

"""How many binding sites a cluster has, from its dark times in DNA-PAINT (qPAINT).

While no imager is bound to a cluster of N sites, the next one comes at the rate N k_on c, however
long the last ones stayed. Visits over the time the cluster was dark is therefore N k_on c exactly:
overlapping visits, the time bound, the unfinished dark time at the end of the movie need no
correction, and 2 N k_on c (dark time) is gamma distributed (R. Jungmann et al., Nat. Methods 13
(2016) 439, put as survival analysis). The relative s.d. is 1/sqrt(visits).

The same holds frame by frame: a frame that follows an empty one is empty itself with chance
exp(-N k_on c T), so frames needn't be short against dark times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class OnRate:
    """How often an imager binds to one free site.

    Attributes
    ----------
    per_s : float
        k_on c.
    visits : float
        Visits it was measured with, infinite if it is known.
    """

    per_s: float
    visits: float = math.inf

    def __post_init__(self) -> None:
        if not (math.isfinite(self.per_s) and self.per_s > 0 and self.visits >= 1):
            raise ValueError(
                f"an on-rate must be positive and from 1 visit or more: {self.per_s:g} /s, "
                f"{self.visits:g} visits"
            )


@dataclass(frozen=True, eq=False)
class SiteCount:
    """Numbers of binding sites, one a cluster.

    Attributes
    ----------
    sites : (n,)
        Estimate.
    low, high : (n,)
        Confidence interval, with the uncertainty of the on-rate.
    relative_error : (n,)
        Standard error over the estimate, 1/sqrt(visits) and that of the on-rate; infinite
        without visits.
    """

    sites: Floats
    low: Floats
    high: Floats
    relative_error: Floats


def known_on_rate(k_on_per_s_per_nM: float, concentration_nM: float, seen: float = 1.0) -> OnRate:
    """Return k_on c of an imager; 1e6 /(M s) is 1e-3 /(s nM).

    Parameters
    ----------
    k_on_per_s_per_nM, concentration_nM : float
    seen : float
        Share of visits that are long enough to be seen, exp(-shortest/tau_b).
    """
    if not 0 < seen <= 1:
        raise ValueError(f"seen must be above 0 and at most 1, got {seen:g}")
    return OnRate(k_on_per_s_per_nM * concentration_nM * seen)


def calibrated_on_rate(visits: npt.ArrayLike, dark_s: npt.ArrayLike) -> OnRate:
    """Measure k_on c on single sites: all visits over all dark time.

    Parameters
    ----------
    visits, dark_s : (m,)
        Of each single site.
    """
    total, time = float(np.sum(visits)), float(np.sum(dark_s))
    if not (total >= 1 and time > 0):
        raise ValueError("single sites must have a visit and some dark time")
    return OnRate(total / time, total)


def dark_exposure(
    visit_start_s: npt.ArrayLike,
    visit_end_s: npt.ArrayLike,
    duration_s: float,
    shortest_s: float = 0.0,
) -> tuple[int, float]:
    """Return a cluster's number of visits out of the dark and the time it was dark before them.

    Parameters
    ----------
    visit_start_s, visit_end_s : (n,)
        Any order; overlapping visits are taken together.
    duration_s : float
        Of the record, from 0.
    shortest_s : float
        Dark times up to this long are not told and were merged into visits (the linking gap).
        So much is taken off every dark time: the rest is exponential all the same.
    """
    start, end = np.asarray(visit_start_s, np.float64), np.asarray(visit_end_s, np.float64)
    if start.ndim != 1 or start.shape != end.shape or np.any(end < start):
        raise ValueError("visits: one start and one end each, the end not before the start")
    if len(start) and not (start.min() >= 0 and start.max() <= duration_s):
        raise ValueError(f"visits must start within 0 and duration_s = {duration_s:g}")
    if not (duration_s > 0 and shortest_s >= 0):
        raise ValueError("duration_s must be positive, shortest_s 0 or more")
    order = np.argsort(start)
    busy_until = np.append(0.0, np.maximum.accumulate(end[order])) if len(start) else np.zeros(1)
    dark = np.append(start[order], duration_s) - busy_until - shortest_s
    # The last stretch was dark, but no visit ended it.
    return int((dark[:-1] > 0).sum()), float(np.maximum(dark, 0).sum())


def dark_exposure_in_frames(
    frames: npt.ArrayLike, n_frames: int, frame_s: float, gap_frames: int = 0
) -> tuple[int, float]:
    """Return a cluster's visits out of the dark and the dark time before them, from its frames.

    Parameters
    ----------
    frames : (n,) int
        Frames in which the cluster was seen, each once or more, any order, from 0.
    n_frames : int
        Length of the movie.
    frame_s : float
    gap_frames : int
        A visit may be unseen for so many frames on end (a dim frame, a gap that was linked):
        only a frame after more empty ones than that counts.

    Notes
    -----
    Of R frames after empty ones, v show a visit: N k_on c = -ln(1 - v/R)/T. The time returned is
    v over that.
    """
    seen = np.unique(np.asarray(frames))
    if seen.ndim != 1 or (len(seen) and not (seen[0] >= 0 and seen[-1] < n_frames)):
        raise ValueError(f"frames must be whole numbers from 0 to n_frames - 1 = {n_frames - 1}")
    if n_frames < 2 or not frame_s > 0 or gap_frames < 0:
        raise ValueError("n_frames must be 2 or more, frame_s positive, gap_frames 0 or more")
    empty = np.ones(n_frames, np.int64)
    empty[seen.astype(np.int64)] = 0
    needed = gap_frames + 1
    before = np.cumsum(np.append(0, empty))
    dark_before = before[needed:-1] - before[: -needed - 1] == needed
    at_risk = int(dark_before.sum())
    visits = int((dark_before & (empty[needed:] == 0)).sum())
    if visits == at_risk:
        raise ValueError("no frame after an empty one is empty: the cluster is never dark")
    if visits == 0:
        return 0, at_risk * frame_s
    return visits, visits * frame_s / -math.log1p(-visits / at_risk)


def count_sites(
    visits: npt.ArrayLike, dark_s: npt.ArrayLike, on_rate: OnRate, confidence: float = 0.95
) -> SiteCount:
    """Count the binding sites of clusters.

    Parameters
    ----------
    visits, dark_s : (n,)
        As :func:`dark_exposure` gives them. Visits that are too short to be seen lower the rate:
        calibrate it, or tell :func:`known_on_rate`.
    on_rate : OnRate
    confidence : float

    Notes
    -----
    A Poisson number v has the interval of a gamma distribution of shape v + 1/2 (Jeffreys); with
    a rate from v0 visits the ratio of two of them is F(2 v + 1, 2 v0 + 1) distributed.
    """
    v, time = np.asarray(visits, np.float64), np.asarray(dark_s, np.float64)
    if v.ndim != 1 or v.shape != time.shape or np.any(v < 0) or not np.all(time > 0):
        raise ValueError("visits (0 or more) and dark_s (positive): one number each a cluster")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence:g}")
    per_visit = 1 / (time * on_rate.per_s)
    tail = (1 - confidence) / 2
    if math.isinf(on_rate.visits):
        low, high = (stats.gamma.ppf(q, v + 0.5) for q in (tail, 1 - tail))
    else:
        # The rate is v0/time0: its own gamma has the mean (v0 + 1/2)/time0.
        v0 = on_rate.visits
        ratio = (v + 0.5) * v0 / (v0 + 0.5)
        low, high = (ratio * stats.f.ppf(q, 2 * v + 1, 2 * v0 + 1) for q in (tail, 1 - tail))
    low = np.where(v == 0, 0.0, low)
    error = np.sqrt(1 / np.maximum(v, 1e-300) + 1 / on_rate.visits)
    return SiteCount(
        v * per_visit,
        low * per_visit,
        high * per_visit,
        np.where(v == 0, np.inf, error),
    )


def expected_visits(sites: float, duration_s: float, on_rate_per_s: float, bound_s: float) -> float:
    """Return how many visits out of the dark a cluster shows, from a random moment on.

    A visit begins when the first imager binds and ends when none is bound any more. The cluster is
    dark for (1 + k_on c tau_b)**-N of the time.
    """
    _check_binding(duration_s, on_rate_per_s, bound_s)
    if sites < 0:
        raise ValueError(f"sites must be 0 or more, got {sites:g}")
    dark = math.exp(-sites * math.log1p(on_rate_per_s * bound_s))
    return sites * on_rate_per_s * duration_s * dark


def sites_from_visits(
    visits: npt.ArrayLike,
    duration_s: float,
    on_rate_per_s: float,
    bound_s: float,
    confidence: float = 0.95,
) -> SiteCount:
    """Count binding sites from the number of visits alone, when dark times are not known.

    Inverts :func:`expected_visits`, so the time bound and the overlap of visits are corrected for
    on average. Visits are taken as Poisson; in truth they are more regular where the cluster is
    often bound, and the interval is then wider than it need be. Its upper end is infinite where
    overlap could hide any number of sites.

    Parameters
    ----------
    visits : (n,)
    duration_s, on_rate_per_s, bound_s : float
        Length of the record, k_on c, mean time bound.
    confidence : float

    Raises
    ------
    ValueError
        More visits than any number of sites shows: dark times or a smaller concentration needed.
    """
    _check_binding(duration_s, on_rate_per_s, bound_s)
    v = np.asarray(visits, np.float64)
    if v.ndim != 1 or np.any(v < 0) or not 0 < confidence < 1:
        raise ValueError("visits: 0 or more, shape (n,); confidence between 0 and 1")
    # Beyond these sites more of them show fewer visits.
    most = 1 / math.log1p(on_rate_per_s * bound_s)
    ceiling = expected_visits(most, duration_s, on_rate_per_s, bound_s)
    tail = (1 - confidence) / 2

    if np.any(v >= ceiling):
        raise ValueError(
            f"{v.max():.4g} visits: visits overlap so much that at most {ceiling:.4g} are expected "
            "at any number of sites; use dark times"
        )

    def sites(expected: float) -> float:
        if expected >= ceiling:
            return math.inf
        return float(
            optimize.brentq(
                lambda n: expected_visits(n, duration_s, on_rate_per_s, bound_s) - expected, 0, most
            )
        )

    estimate = np.array([sites(n) for n in v])
    low = np.array([sites(float(stats.gamma.ppf(tail, n + 0.5))) if n else 0.0 for n in v])
    high = np.array([sites(float(stats.gamma.ppf(1 - tail, n + 0.5))) for n in v])
    with np.errstate(divide="ignore"):
        # d ln(visits)/d ln(sites) = 1 - sites/most.
        error = 1 / (np.sqrt(v) * (1 - estimate / most))
    return SiteCount(estimate, low, high, error)


def _check_binding(duration_s: float, on_rate_per_s: float, bound_s: float) -> None:
    if not (duration_s > 0 and on_rate_per_s > 0 and bound_s > 0):
        raise ValueError("duration_s, on_rate_per_s and bound_s must be positive")

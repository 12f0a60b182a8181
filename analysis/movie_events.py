"""When atoms vanish from their sites and appear there, from a movie of counted electrons.

Each site is either occupied or empty, at levels learned from the movie. A frame's signal is,
to its third cumulant, a Poisson number times a gain, so each frame has an exact log-likelihood
ratio of occupied to empty. The most likely history of a site, each change costing a penalty, is
found by Viterbi's algorithm.

The penalty follows from the number of false events that are acceptable. Under a history without
events the likelihood ratio is a martingale of mean one, and the probability that it ever exceeds
exp(h) is at most exp(-h) (Ville's inequality), at any dose and contrast. A false event is
either a run at the start or at the end of the movie, which costs one change, or a run that
starts anywhere and costs two: with n frames a site has at most 2 exp(-h) + 2 n exp(-2 h) of them.

Atoms at places that nobody listed are looked for by :mod:`nanophantom.analysis.transient_sites`.
"""

from __future__ import annotations

from typing import Any, Literal

import numba
import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree

from nanophantom.analysis.site_traces import SiteTraces, site_traces

FloatArray = npt.NDArray[np.float64]
Table = dict[str, npt.NDArray[Any]]
Contrast = Literal["bright", "dark"]

EMPTY_SPREAD = 0.1
"""How far from zero an empty site's signal lies, in units of an atom's: the prior's width."""
LEAST_SPREAD = 0.03
"""Atoms of one kind differ by this share of their signal at least."""
ROUNDS = 4
"""How often levels and histories are found from each other."""
STEPS_PER_FRAME = 20
"""How finely the time of a change is looked for."""


def detect_events(
    images: npt.ArrayLike,
    shifts_px: npt.ArrayLike,
    sites_px: npt.ArrayLike,
    exposure_s: float,
    frame_period_s: float,
    spot_sigma_px: float,
    contrast: Contrast = "bright",
    false_events: float = 0.1,
) -> Table:
    """Find the events at known sites.

    Parameters
    ----------
    images : (n, ny, nx) array
        Counted electrons.
    shifts_px : (n, 2) array
        (dy, dx): what lies at p in the coordinates of the sites lies at p + shift in frame i.
    sites_px : (sites, 2) array
        (y, x) of every site, empty ones that may be filled among them.
    exposure_s, frame_period_s : float
        Frame k is exposed from k * frame_period_s for exposure_s.
    spot_sigma_px : float
        Standard deviation of an atom's spot.
    contrast : {"bright", "dark"}
        How an atom looks against its surroundings.
    false_events : float
        How many false events this movie may be expected to give, at most.

    Returns
    -------
    dict of (events,) arrays
        As :func:`events_in_traces` returns it.

    Raises
    ------
    ValueError
        If the movie, its shifts or sites aren't as described, or a number is out of range.
    """
    traces = site_traces(images, shifts_px, sites_px, spot_sigma_px)
    return events_in_traces(traces, exposure_s, frame_period_s, contrast, false_events)


def events_in_traces(
    traces: SiteTraces,
    exposure_s: float,
    frame_period_s: float,
    contrast: Contrast = "bright",
    false_events: float = 0.1,
) -> Table:
    """Find the events in traces that are measured already.

    Returns
    -------
    dict of (events,) arrays, ordered in time
        site: index of the site. kind: "appears" or "vanishes". time_s: mean of the posterior of
        the time, which the signal of the frame during which it happened tells to a fraction of
        the exposure; sigma_time_s: its standard deviation. frame: the frame in whose period
        time_s lies. log_likelihood_ratio: by how much the weaker of the runs before and
        after the event speaks for it. false_events: how many events as strong this movie would
        be expected to show by chance, at most.

    Raises
    ------
    ValueError
        If contrast is unknown, false_events or a time isn't positive, or the exposure is longer
        than the period.
    """
    if contrast not in ("bright", "dark"):
        raise ValueError(f'contrast must be "bright" or "dark", got {contrast!r}')
    if not 0 < exposure_s <= frame_period_s:
        raise ValueError(
            f"exposure_s must be positive and within frame_period_s = {frame_period_s}, "
            f"got {exposure_s}"
        )
    sites, n = traces.signal.shape
    penalty = penalty_for(false_events, sites, n)
    sign = 1.0 if contrast == "bright" else -1.0
    occupied, empty = learn_levels(traces, sign, penalty)
    numbers, rate = _electrons(traces, occupied, empty)
    ratio = _log_ratio(numbers, rate, traces)
    states = _most_likely_histories(ratio, penalty)

    rows = []
    for site in np.flatnonzero(np.any(states[:, 1:] != states[:, :-1], axis=1)):
        edges = np.flatnonzero(np.diff(states[site])) + 1
        bounds = np.concatenate([[0], edges, [n]])
        side = np.where(states[site, bounds[:-1]] == 1, 1.0, -1.0)
        evidence = side * np.add.reduceat(ratio[site], bounds[:-1])
        for k, edge in enumerate(edges):
            before = states[site, edge - 1] == 1
            time, sigma = _time_of_change(
                numbers[site],
                rate[site, :, :] if before else rate[site, ::-1, :],
                traces.seen[site],
                (int(bounds[k]), int(bounds[k + 2])),
                exposure_s,
                frame_period_s,
            )
            weaker = k if evidence[k] <= evidence[k + 1] else k + 1
            at_the_end = weaker in (0, len(edges))
            false = sites * 2 * np.exp(-evidence[weaker]) * (1 if at_the_end else n)
            rows.append((time, sigma, site, before, evidence[weaker], false))
    rows.sort(key=lambda row: (row[0], row[2]))
    table = np.array(rows, np.float64).reshape(-1, 6)
    return {
        "site": table[:, 2].astype(np.int64),
        "frame": np.clip(np.floor(table[:, 0] / frame_period_s), 0, n - 1).astype(np.int64),
        "kind": np.where(table[:, 3] == 1, "vanishes", "appears"),
        "time_s": table[:, 0],
        "sigma_time_s": table[:, 1],
        "log_likelihood_ratio": table[:, 4],
        "false_events": table[:, 5],
    }


def penalty_for(false_events: float, sites: int, frames: int) -> float:
    """Return the penalty h of a change: sites * (2 exp(-h) + 2 frames exp(-2 h)) = false_events.

    A penalty is never negative: beyond 2 + 2 * frames false events per site nothing changes.
    """
    if not (np.isfinite(false_events) and false_events > 0):
        raise ValueError(f"false_events must be a positive number, got {false_events}")
    share = false_events / sites
    x = share / (1 + np.sqrt(1 + 2 * frames * share))  # of 2 frames x² + 2 x = share
    return float(max(0.0, -np.log(x)))


def learn_levels(traces: SiteTraces, sign: float, penalty: float) -> tuple[FloatArray, FloatArray]:
    """Return the signal of each site when occupied and when empty, each (sites,).

    One level serves all sites first. Then levels and histories are found from each other, a
    site's own frames pulling its levels away from the common ones as far as their number allows.
    """
    signal = traces.signal / traces.relative_dose
    error = traces.standard_error / traces.relative_dose
    with np.errstate(divide="ignore"):
        weight = error**-2.0  # zero where not seen
    common = _common_level(signal, weight, sign)
    occupied, empty = np.full(len(signal), common), np.zeros(len(signal))
    for _ in range(ROUNDS):
        numbers, rate = _electrons(traces, occupied, empty)
        states = _most_likely_histories(_log_ratio(numbers, rate, traces), penalty)
        full, void = weight * (states == 1), weight * (states == 0)
        known = full.sum(axis=1) > 0
        if np.any(known):
            own = np.sum(full * signal, axis=1)[known] / full.sum(axis=1)[known]
            variance = 1 / full.sum(axis=1)[known]
            common = float(np.sum(own / variance) / np.sum(1 / variance))
            spread = np.mean((own - common) ** 2 - variance)
        else:
            spread = 0.0
        prior = 1 / max(float(spread), (LEAST_SPREAD * common) ** 2, 1e-300)
        occupied = (np.sum(full * signal, axis=1) + prior * common) / (full.sum(axis=1) + prior)
        prior = 1 / max((EMPTY_SPREAD * common) ** 2, 1e-300)
        empty = np.sum(void * signal, axis=1) / (void.sum(axis=1) + prior)
        # An empty site never looks like half an atom or more, an atom never like less.
        occupied = sign * np.maximum(sign * occupied, 0.5 * abs(common))
        empty = sign * np.minimum(sign * empty, 0.4 * abs(common))
    return occupied, empty


def _common_level(signal: FloatArray, weight: FloatArray, sign: float) -> float:
    """Return the level that, beside zero, makes the means over eighths of the movie most likely.

    Every mean is taken from an occupied or an empty site, one as likely as the other, and the
    sites' levels differ by a fifth.
    """
    n = signal.shape[1]
    edges = np.unique(np.linspace(0, n, min(n, 8) + 1).astype(int)[:-1])
    total = np.add.reduceat(weight, edges, axis=1)
    mean = np.add.reduceat(weight * signal, edges, axis=1)[total > 0] / total[total > 0]
    variance = 1 / total[total > 0]
    if not len(mean):
        raise ValueError("no frame shows any of the sites: check sites_px and shifts_px")
    tried = np.quantile(sign * mean, np.linspace(0.4, 0.995, 60))
    tried = tried[tried > np.sqrt(np.median(variance))]
    if not len(tried):  # nothing stands out: the noise is all there is to go by
        return sign * float(np.sqrt(np.median(variance)))
    likelihood = []
    for level in tried:
        spread = variance + (0.2 * level) ** 2
        here = -0.5 * (sign * mean - level) ** 2 / spread - 0.5 * np.log(spread)
        void = -0.5 * mean**2 / variance - 0.5 * np.log(variance)
        likelihood.append(float(np.sum(np.logaddexp(here, void))))
    return sign * float(tried[int(np.argmax(likelihood))])


def _electrons(
    traces: SiteTraces, occupied: FloatArray, empty: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return each signal as a number of electrons, and the numbers expected (sites, 2, n).

    A signal of gain g and variance v is a Poisson number of mean v / g² in steps of g, but for
    a constant. Expected are [occupied, empty]; the numbers are for the frame's own dose.
    """
    gain = traces.gain[:, None]
    dose = traces.relative_dose[None, :]
    error = np.where(traces.seen, traces.standard_error, 0.0)
    mean_number = (error / gain) ** 2
    seen = np.maximum(traces.seen.sum(axis=1), 1)
    usual = np.sum(np.where(traces.seen, traces.signal / dose, 0), axis=1) / seen
    numbers = mean_number + (traces.signal - usual[:, None] * dose) / gain
    rate = np.stack(
        [mean_number + (level - usual)[:, None] * dose / gain for level in (occupied, empty)], 1
    )
    return numbers, np.maximum(rate, 0.05 * mean_number[:, None, :] + 1e-9)


def _log_ratio(numbers: FloatArray, rate: FloatArray, traces: SiteTraces) -> FloatArray:
    """Return the log-likelihood ratio of occupied to empty, (sites, n): zero where not seen."""
    occupied, empty = rate[:, 0], rate[:, 1]
    ratio = numbers * np.log(occupied / empty) - (occupied - empty)
    return np.where(traces.seen, ratio, 0.0)


@numba.njit(cache=True)
def _most_likely_histories(ratio: FloatArray, penalty: float) -> npt.NDArray[np.uint8]:
    """Return the states (1 occupied, 0 empty) of the largest likelihood less its penalties."""
    sites, n = ratio.shape
    states = np.zeros((sites, n), np.uint8)
    came_from = np.zeros((n, 2), np.uint8)
    for s in range(sites):
        score = np.array([0.0, ratio[s, 0]])
        for t in range(1, n):
            stay_empty, stay_occupied = score[0], score[1]
            came_from[t, 0] = 1 if stay_occupied - penalty > stay_empty else 0
            came_from[t, 1] = 0 if stay_empty - penalty > stay_occupied else 1
            score[0] = max(stay_empty, stay_occupied - penalty)
            score[1] = max(stay_occupied, stay_empty - penalty) + ratio[s, t]
        state = 1 if score[1] >= score[0] else 0
        for t in range(n - 1, -1, -1):
            states[s, t] = state
            if t > 0:
                state = came_from[t, state]
    return states


def _time_of_change(
    numbers: FloatArray,
    rate: FloatArray,
    seen: npt.NDArray[np.bool_],
    frames: tuple[int, int],
    exposure_s: float,
    frame_period_s: float,
) -> tuple[float, float]:
    """Return mean and standard deviation of the time at which rate[0] gave way to rate[1].

    Any time between the neighbouring events is as probable beforehand. A frame during which it
    happened expects the mean of the two rates, weighted with the times before and after.
    """
    first, last = frames
    steps = (np.arange((last - first) * STEPS_PER_FRAME) + 0.5) / STEPS_PER_FRAME
    times = (first + steps) * frame_period_s
    frame = first + np.arange(last - first)
    before = np.clip((times[:, None] - frame * frame_period_s) / exposure_s, 0, 1)
    expected = rate[1, first:last] + before * (rate[0, first:last] - rate[1, first:last])
    terms = numbers[first:last] * np.log(expected) - expected
    likelihood = np.sum(np.where(seen[first:last], terms, 0), axis=1)
    posterior = np.exp(likelihood - likelihood.max())
    posterior /= posterior.sum()
    mean = float(np.sum(posterior * times))
    # A grid of steps can't tell better than one step's own width.
    step = frame_period_s / STEPS_PER_FRAME
    variance = float(np.sum(posterior * (times - mean) ** 2)) + step**2 / 12
    return mean, float(np.sqrt(variance))


def link_hops(events: Table, sites_px: npt.ArrayLike, radius_px: float, max_dt_s: float) -> Table:
    """Pair an atom that vanishes with one that appears near by at the same time.

    Parameters
    ----------
    events : dict of arrays
        With site, kind, time_s, as :func:`detect_events` returns it.
    sites_px : (sites, 2) array
        (y, x) of each site.
    radius_px, max_dt_s : float
        Farthest and longest an atom hops.

    Returns
    -------
    dict of (hops,) arrays, ordered in time
        vanishes, appears: indices of the two events; distance_px; dt_s: appearance less
        disappearance; time_s: mean of both. Each event is used once, and as many pairs as
        possible with the least sum of (distance / radius)² + (dt / max_dt)² are made.
        chance: probability that a disappearance would meet such a partner within
        this distance and time by chance, appearances being spread evenly over sites and movie.

    Raises
    ------
    ValueError
        If a limit isn't positive or an event's site isn't listed.
    """
    if not (radius_px > 0 and max_dt_s > 0):
        raise ValueError("radius_px and max_dt_s must be positive")
    sites = np.asarray(sites_px, np.float64)
    site, time = events["site"], events["time_s"]
    if len(site) and (site.min() < 0 or site.max() >= len(sites)):
        raise ValueError(f"events name site {site.max()}, only {len(sites)} are listed")
    gone = np.flatnonzero(events["kind"] == "vanishes")
    come = np.flatnonzero(events["kind"] == "appears")
    apart = sites[site[gone], None] - sites[None, site[come]]
    distance = np.hypot(apart[..., 0], apart[..., 1])
    dt = time[None, come] - time[gone, None]
    cost = (distance / radius_px) ** 2 + (dt / max_dt_s) ** 2
    allowed = (distance <= radius_px) & (np.abs(dt) <= max_dt_s) & (distance > 0)
    a, b = linear_sum_assignment(np.where(allowed, cost, 1e6))
    a, b = a[allowed[a, b]], b[allowed[a, b]]
    duration = float(np.ptp(time)) + 2 * max_dt_s if len(time) else 1.0
    near = KDTree(sites).query_ball_point(sites[site[gone[a]]], distance[a, b], return_length=True)
    by_chance = len(come) * (near - 1) / len(sites) * 2 * np.abs(dt[a, b]) / duration
    middle = 0.5 * (time[gone[a]] + time[come[b]])
    order = np.argsort(middle)
    return {
        "vanishes": gone[a][order],
        "appears": come[b][order],
        "distance_px": distance[a, b][order],
        "dt_s": dt[a, b][order],
        "time_s": middle[order],
        "chance": -np.expm1(-by_chance)[order],
    }

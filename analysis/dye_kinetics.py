"""The rates at which dyes blink, from a movie of single ones.

A frame shows a dye if it was ON in it for some time s at least. What follows can be told from
frames all the same, for exponential times have no memory: of runs of frames that show the dye and
are n >= 2 long, a share exp(-k T) is longer, whatever s is (k the rate out of the ON state, T the
period of the frames); and of dark runs of g frames or more, a share exp(-w T) is longer than any
number beyond. Three things remain:

- Dark times too short to leave a frame empty join two bursts to one run.
- A dye whose last burst has passed stays dark, and so does one that the end of the movie finds in
  a dark time: with p1 the chance that what was seen is the last, a dye that isn't seen in the R
  frames after a run has the probability p1 + (1 - p1) exp(-w T (R - g)).
- Bursts too short to be seen lie within dark times.

How s, T and the rates make runs of bursts is told in :mod:`~nanophantom.analysis.blink_kinetics`;
here it is solved for the rates.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.spatial import KDTree
from scipy.special import xlogy

from nanophantom.analysis.clustering import dbscan
from nanophantom.analysis.count_molecules import least_photons, share_seen
from nanophantom.analysis.linking import link, merge
from nanophantom.analysis.localize import Movie, localize
from nanophantom.analysis.nearest_neighbour_precision import nearest_neighbour_precision
from nanophantom.analysis.ring_correlation import LocalizationResolution, localization_resolution

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Columns = dict[str, npt.NDArray[Any]]

QUANTITIES = ("on_time_s", "off_time_s", "photons_per_burst", "last_burst")
FALSE_FINDS = 3.0
"""Chance finds in a whole movie that are put up with."""
CLEARLY = 1.5
"""Times the light that is seen every other time: what is dimmer is left away, seen or not."""
REACH_NM = 45.0
"""Localizations of one molecule lie within it."""
BORDER_SIGMAS = 2.0
MOST_CHI_SQUARE = 1.6
"""Of a single molecule's spot; two that shine side by side fit one spot badly."""
BLIND_SIGMAS = 2.0
"""Widths of a spot around such a pair in which a molecule may be one of the two."""
LEAST_GAP = 1
"""Frames without light that part two runs."""
LIKELIHOOD_DROP = stats.chi2.ppf(0.95, 1) / 2
"""Of the logarithm, at the ends of a 95 % interval."""
FRC_PIXEL_NM = 2.0
FEWEST_BURSTS = 10
"""To correlate two halves of them."""
POINTS = 400


class Runs(NamedTuple):
    """Runs of frames that show a dye, one row each, sorted by dye and time."""

    dye: Ints
    first: Ints
    last: Ints
    photons: Floats
    """Of all its frames."""

    @property
    def length(self) -> Ints:
        """Frames."""
        return self.last - self.first + 1


class Interval(NamedTuple):
    """A number and the 95 % interval around it."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> Interval:
        """Return it in other units."""
        return Interval(self.value * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True)
class DarkFit:
    """What dark runs tell: 1/w in frames, and the chance that a run is a dye's last."""

    frames: Interval
    last: Interval


def find(movies: Mapping[str, Movie], settings: Mapping[str, Any]) -> Columns:
    """Find the kinetics of the dye in each of several movies, of several microscopes or one.

    Parameters
    ----------
    movies
        By name: "movie", or "<microscope>_movie".
    settings
        What `localize` needs and frame_period_s; of several microscopes, under each one's name.

    Returns
    -------
    dict of columns, one row a movie in their order
        movie: its number; on_time_s, off_time_s, photons_per_burst, last_burst (chance that a
        burst is the dye's last one), each with _low and _high, its 95 % interval; photons_per_s of
        the ON state; dyes and runs that were seen; precision_nm, the usual standard deviation of a
        localization that shines on (nearest neighbours), and resolution_nm (ring correlation); 0
        where the movie tells none.
    """
    names = [name for name in movies if name == "movie" or name.endswith("_movie")]
    rows = []
    for k, name in enumerate(names):
        own = settings if name == "movie" else settings[name.removesuffix("_movie")]
        rows.append({"movie": float(k), **of_movie(movies[name], own)})
    return {column: np.array([row[column] for row in rows]) for column in rows[0]}


def of_movie(movie: Movie, settings: Mapping[str, Any]) -> dict[str, float]:
    """Return the kinetics of the dye in one movie; see :func:`find`."""
    spots, blind, seen_photons = watched(movie, settings)
    runs = bridged(runs_of(spots), blind)
    frame_s = float(settings["frame_period_s"])
    found = kinetics(runs, full_frames(spots, runs), movie.shape[0], frame_s, seen_photons)
    frame, x, y = spots["frame"], spots["x_nm"], spots["y_nm"]
    told: dict[str, float] = {}
    for quantity in QUANTITIES:
        for part in Interval._fields:
            key = quantity if part == "value" else f"{quantity}_{part}"
            told[key] = getattr(found[quantity], part)
    precision, resolution = 0.0, None
    with contextlib.suppress(ValueError):  # too few in successive frames
        precision = nearest_neighbour_precision(frame, x, y).precision_nm
    if len(runs.dye) >= FEWEST_BURSTS:
        resolution = resolution_of_bursts(spots).resolution_nm
    return told | {
        "photons_per_s": found["photons_per_burst"].value / found["on_time_s"].value,
        "dyes": float(len(np.unique(runs.dye))),
        "runs": float(len(runs.dye)),
        "precision_nm": precision,
        "resolution_nm": resolution or 0.0,
    }


def watched(movie: Movie, settings: Mapping[str, Any]) -> tuple[Columns, Ints, float]:
    """Watch the molecules of a movie.

    Returns
    -------
    spots
        Localizations of single molecules, with the molecule that each belongs to: dye.
    blind : (n, 2) array
        Molecules and frames in which light that two of them gave hides whether this one shone.
    seen_photons
        The dimmest light that counts as seen, photons.
    """
    n, ny, nx = movie.shape
    sigma_nm = float(settings["psf_sigma_nm"])
    false_positives = min(1e-6, FALSE_FINDS / (n * ny * nx))
    spots = localize(movie, settings, model="fixed", false_positives=false_positives)
    border = BORDER_SIGMAS * sigma_nm
    x, y = spots["x_nm"], spots["y_nm"]
    wide, high = ((size - 1) * float(settings["pixel_size_nm"]) - border for size in (nx, ny))
    background = max(float(np.median(spots["background"])), 0.0) if len(x) else 0.0
    enough = CLEARLY * least_photons(settings, (ny, nx), background, false_positives)
    whole = (x > border) & (x < wide) & (y > border) & (y < high) & (spots["photons"] > enough)
    single = spots["chi_square"] < MOST_CHI_SQUARE
    merged = {name: column[whole & ~single] for name, column in spots.items()}
    spots = {name: column[whole & single] for name, column in spots.items()}
    run = link(spots["frame"], spots["x_nm"], spots["y_nm"], max_gap=0, radius_nm=REACH_NM)
    middle = merge(run, {name: spots[name] for name in ("frame", "x_nm", "y_nm")}, weight="equal")
    spots["dye"] = dbscan(np.column_stack([middle["x_nm"], middle["y_nm"]]), REACH_NM, 1)[run]
    reach_nm = BLIND_SIGMAS * sigma_nm
    ghost = _ghosts(spots, reach_nm)[spots["dye"]]
    for name, column in spots.items():
        if name in merged:
            merged[name] = np.append(merged[name], column[ghost])
    spots = {name: column[~ghost] for name, column in spots.items()}
    spots["dye"] = np.unique(spots["dye"], return_inverse=True)[1]
    near = KDTree(_centres(spots)).query_ball_point(
        np.column_stack([merged["x_nm"], merged["y_nm"]]), reach_nm
    )
    blind = [
        (dye, frame) for dyes, frame in zip(near, merged["frame"], strict=True) for dye in dyes
    ]
    return spots, np.array(blind, np.int64).reshape(-1, 2), enough


def _centres(spots: Mapping[str, npt.NDArray[Any]]) -> Floats:
    """Return the mean place of each molecule, (n, 2)."""
    count = np.bincount(spots["dye"])
    return np.column_stack(
        [np.bincount(spots["dye"], spots[name]) / count for name in ("x_nm", "y_nm")]
    )


def _ghosts(spots: Mapping[str, npt.NDArray[Any]], reach_nm: float) -> npt.NDArray[np.bool_]:
    """Say which molecules are two neighbours that shine at once, taken for one between them.

    They are seen once, and before, after or meanwhile another one near by is.
    """
    runs = runs_of(spots)
    number = np.bincount(runs.dye)
    ghost = np.zeros(len(number), bool)
    if not len(runs.dye):
        return ghost
    centres = _centres(spots)
    frame, dye = (np.asarray(spots[name], np.int64) for name in ("frame", "dye"))
    seen = set(zip(dye.tolist(), frame.tolist(), strict=True))
    once = np.flatnonzero(number == 1)
    row = np.searchsorted(runs.dye, once)
    neighbours = KDTree(centres).query_ball_point(centres[once], reach_nm)
    for molecule, k, others in zip(once, row, neighbours, strict=True):
        times = range(int(runs.first[k]) - 1, int(runs.last[k]) + 2)
        ghost[molecule] = any(
            (other, t) in seen for other in others if other != molecule for t in times
        )
    return ghost


def resolution_of_bursts(spots: Mapping[str, npt.NDArray[Any]]) -> LocalizationResolution:
    """Correlate two random halves of the bursts, each merged to one place."""
    columns = {name: spots[name] for name in ("frame", "x_nm", "y_nm", "uncertainty_nm")}
    run = link(columns["frame"], columns["x_nm"], columns["y_nm"], max_gap=0, radius_nm=REACH_NM)
    bursts = merge(run, columns)
    rng = np.random.default_rng(0)
    return localization_resolution(
        bursts["frame"], bursts["x_nm"], bursts["y_nm"],
        pixel_size_nm=FRC_PIXEL_NM, split="random", rng=rng,
    )  # fmt: skip


def runs_of(spots: Mapping[str, npt.NDArray[Any]], least_gap: int = LEAST_GAP) -> Runs:
    """Return the runs of frames in which each molecule is seen, parted by `least_gap` frames."""
    dye, frame = np.asarray(spots["dye"], np.int64), np.asarray(spots["frame"], np.int64)
    order = np.lexsort((frame, dye))
    dye, frame = dye[order], frame[order]
    photons = np.asarray(spots["photons"], np.float64)[order]
    new = np.ones(len(dye), bool)
    new[1:] = (np.diff(dye) != 0) | (np.diff(frame) > least_gap)
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(dye)) - 1
    total = np.add.reduceat(photons, first) if len(first) else np.zeros(0)
    return Runs(dye[first], frame[first], frame[last], total)


def bridged(runs: Runs, blind: Ints) -> Runs:
    """Join runs of a molecule between which it was hidden all the time."""
    if not len(blind) or not len(runs.dye):
        return runs
    span = int(max(runs.last.max(), blind[:, 1].max())) + 2
    hidden = np.unique(blind[:, 0] * span + blind[:, 1])
    same = runs.dye[1:] == runs.dye[:-1]
    begin = runs.dye[:-1] * span + runs.last[:-1]
    end = runs.dye[1:] * span + runs.first[1:]
    count = np.searchsorted(hidden, end, "left") - np.searchsorted(hidden, begin, "right")
    parted = ~(same & (count == runs.first[1:] - runs.last[:-1] - 1))
    first = np.flatnonzero(np.append(True, parted))
    last = np.append(first[1:], len(runs.dye)) - 1
    photons = np.add.reduceat(runs.photons, first)
    return Runs(runs.dye[first], runs.first[first], runs.last[last], photons)


def full_frames(spots: Mapping[str, npt.NDArray[Any]], runs: Runs) -> Interval:
    """Return the mean photons of the frames between the first and the last of a run.

    The dye was ON for the whole of such a frame, but for dark times too short to tell. Some dyes
    are brighter than others: the interval comes from the scatter between dyes.

    Raises
    ------
    ValueError
        There are no such frames of two dyes or more.
    """
    dye, frame = np.asarray(spots["dye"], np.int64), np.asarray(spots["frame"], np.int64)
    span = int(frame.max(initial=0)) + 2
    row = np.searchsorted(runs.dye * span + runs.first, dye * span + frame, "right") - 1
    within = (frame > runs.first[row]) & (frame < runs.last[row])
    dyes, whose = np.unique(dye[within], return_inverse=True)
    if len(dyes) < 2:
        raise ValueError("no bursts last for three frames: take shorter exposures")
    photons = np.asarray(spots["photons"], np.float64)[within]
    mean = float(photons.mean())
    off = np.bincount(whose, photons - mean)
    error = float(np.sqrt((off**2).sum())) / len(photons)
    return Interval(mean, mean - 1.96 * error, mean + 1.96 * error)


def kinetics(
    runs: Runs, full_frame_photons: Interval, n_frames: int, frame_s: float, seen_photons: float
) -> dict[str, Interval]:
    """Turn runs into rates.

    Parameters
    ----------
    runs
    full_frame_photons
        Of a frame in which a dye is ON throughout.
    n_frames, frame_s
        Of the movie.
    seen_photons
        That a frame must get to show a dye.

    Returns
    -------
    dict
        Of each of `QUANTITIES`, its value and 95 % interval.

    Notes
    -----
    A run is a chain of bursts: each brings its ON time, and ends the run if it is the last one of
    the dye, or if the dark time after it is told. So of the mean length that `on_frames` returns,

        L T = (on_time + (1 - p) E[dark; not told]) / (p + (1 - p) P(told)).
    """
    per_frame, _, bright = full_frame_photons
    shortest = min(seen_photons / per_frame, 0.5)
    on, dark = on_frames(runs, n_frames), fit_dark(runs, n_frames)
    told, hidden = _dark_times_told(1 / dark.frames.value, shortest)
    on_s, last, any_end = on.value * frame_s, dark.last.value, 1.0
    seen = 1.0
    for _ in range(100):  # each of the corrections needs the others' result
        before = on_s
        seen = share_seen(on_s, shortest * frame_s, frame_s)
        last = _every_burst(dark.last.value, seen, told)
        any_end = seen + (1 - seen) * last
        on_s = frame_s * (on.value * (last + (1 - last) * told) - (1 - last) * hidden)
        if abs(on_s - before) < 1e-9 * frame_s:
            break
    if not on_s > 0:
        raise ValueError("dark times are too short against the frames to tell bursts apart")
    on_time = on.times(on_s / on.value)
    # Dark times that aren't told take light from the frames that seem full.
    lit = on_s / (on_s + (1 - last) * hidden * frame_s)
    photons = on_time.times(per_frame / frame_s / lit)
    relative = photons.value * (bright / per_frame - 1)
    return {
        "on_time_s": on_time,
        "off_time_s": dark.frames.times(frame_s * any_end),
        "photons_per_burst": Interval(
            photons.value,
            photons.value - math.hypot(photons.value - photons.low, relative),
            photons.value + math.hypot(photons.high - photons.value, relative),
        ),
        "last_burst": Interval(*(_every_burst(p, seen, told) for p in dark.last)),
    }


def on_frames(runs: Runs, n_frames: int) -> Interval:
    """Return 1/(k T) from the lengths of runs, whatever the light that it takes to be seen.

    Of runs of n >= 2 frames, all longer frames are trials: sum(L - 1) of them, number of runs that
    ended. Runs that begin with the movie, or outlast it, count for their trials alone.
    """
    length, ended = runs.length, runs.last < n_frames - 1
    long = length >= 2
    stopped = int(ended[long].sum())
    trials = float((length[long] - 2).sum() + stopped)
    if stopped == 0:
        raise ValueError("no run of two frames or more ends: nothing tells how long bursts last")

    def frames(share: float) -> float:
        return -1 / math.log1p(-share) if 0 < share < 1 else (math.inf if share <= 0 else 0.0)

    # Jeffreys interval of the share of trials at which a run stops.
    low, high = stats.beta(stopped + 0.5, trials - stopped + 0.5).ppf([0.025, 0.975])
    return Interval(frames(stopped / trials), frames(float(high)), frames(float(low)))


def fit_dark(runs: Runs, n_frames: int, least_gap: int = LEAST_GAP) -> DarkFit:
    """Fit dark runs by waits without memory and a share of runs that no other follows.

    Greatest likelihood, and intervals of the profile likelihood (drop of 1.92).
    """
    same = runs.dye[1:] == runs.dye[:-1]
    gap = (runs.first[1:] - runs.last[:-1] - 1)[same]
    is_last = np.append(~same, True)
    left = n_frames - 1 - runs.last[is_last]
    left = left[left >= least_gap] - least_gap
    n, total = len(gap), float((gap - least_gap).sum())
    if n < 2:
        raise ValueError(f"{n} dark times: too few to tell how long they last")
    start = (total + 1) / n

    def log_likelihood(mean: Floats, p: Floats) -> Floats:
        rate = 1 / mean
        stay = np.exp(-np.multiply.outer(rate, values))
        still = p[:, None] + (1 - p[:, None]) * stay[:, None]
        ends = np.log(np.maximum(still, 1e-300)) @ number
        waits = n * np.log(-np.expm1(-rate)) - total * rate
        return np.asarray(waits[:, None] + xlogy(n, 1 - p) + ends)

    values, number = np.unique(left, return_counts=True)
    span, p = (0.2, 8.0), np.linspace(0, 1, 101)
    for _ in range(3):  # finer and finer, around where it matters
        mean = start * np.geomspace(*span, 81)
        surface = log_likelihood(mean, p)
        inside = surface > surface.max() - 2.5 * LIKELIHOOD_DROP
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        span = (mean[max(rows[0] - 1, 0)] / start, mean[min(rows[-1] + 1, 80)] / start)
        p = np.linspace(p[max(columns[0] - 1, 0)], p[min(columns[-1] + 1, 100)], 101)
    mean = start * np.geomspace(*span, 161)
    surface = log_likelihood(mean, p)
    return DarkFit(_profile(mean, surface.max(axis=1)), _profile(p, surface.max(axis=0)))


def _profile(at: Floats, log_likelihood: Floats) -> Interval:
    """Return the top of a profile and where it has dropped by as much as a 95 % interval allows."""
    top = int(np.argmax(log_likelihood))
    within = at[log_likelihood > log_likelihood[top] - LIKELIHOOD_DROP]
    return Interval(float(at[top]), float(within[0]), float(within[-1]))


def _dark_times_told(
    rate_per_frame: float, shortest: float, least_gap: int = LEAST_GAP
) -> tuple[float, float]:
    """Return the chance that a dark time leaves `least_gap` frames or more empty, and more.

    A burst ends anywhere in its frame, and a frame with less light than `shortest` of it is empty:
    a dark time of d frames is told with the chance d - h, from 0 at h = least_gap - 2 shortest to
    1 at h + 1.

    Returns
    -------
    told : float
    hidden : float
        Mean length of dark times, in frames, those that are told counted as 0.
    """
    w, h = rate_per_frame, least_gap - 2 * shortest
    told = math.exp(-w * h) * -math.expm1(-w) / w
    d = (np.arange(2000) + 0.5) / 2000 * (h + 1)
    not_told = 1 - np.clip(d - h, 0, 1)
    hidden = float(np.sum(d * w * np.exp(-w * d) * not_told)) * (h + 1) / 2000
    return told, hidden


def _every_burst(last_of_runs: float, seen: float, told: float) -> float:
    """Return the chance that a burst is the last one, from the chance that a run is."""
    of_seen = last_of_runs * told / (1 - last_of_runs + last_of_runs * told)
    return of_seen * seen / (1 - of_seen + of_seen * seen)

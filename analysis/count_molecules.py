"""From a movie of isolated clusters to the number of molecules in each, with its interval.

Spots are localized and linked to blinks, blinks are gathered to clusters. What a cluster shows is
turned into molecules by kinetics that were calibrated elsewhere, in one of two ways:

- dyes that bleach (PALM, dSTORM): by the number of blinks. A dye's bursts are geometric; some are
  too short to be seen, some follow so soon that they are linked into one, and some dyes are not
  activated before the movie ends (`blink_kinetics`, `blink_counting`).
- docking sites that imagers visit again and again (DNA-PAINT): by the dark time before a visit
  (`qpaint`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from nanophantom.analysis import blink_counting, qpaint
from nanophantom.analysis.blink_kinetics import four_state_blinks
from nanophantom.analysis.clustering import cluster_table, dbscan
from nanophantom.analysis.linking import link, merge
from nanophantom.analysis.localize import CameraSettings, Movie, localize
from nanophantom.analysis.spot_detection import SpotFinder, pixel_gaussian

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

GAP_FRAMES = 1
"""A blink may miss one frame."""
REACH_NM = 150.0
"""Blinks no farther apart are of one cluster, and localizations of one blink."""
FALSE_BLINKS = 0.1
"""How many the noise may make in the whole movie; each would be a cluster of its own."""
BACKGROUND_FRAMES = 400
"""Whose median is each pixel's background: hot pixels must not pass for clusters."""
BORDER_SIGMAS = 3.0
"""Widths of a spot from the frame's edge within which spots are cut, and left out."""
RATES = 9
"""So many equally probable values stand for an activation rate that is measured."""
LADDER = 1.03


@dataclass(frozen=True, eq=False)
class Watched:
    """What a movie shows of its clusters.

    Attributes
    ----------
    x_nm, y_nm : (n,)
        Middles of the clusters.
    blinks : (n,)
        Blinks in each.
    cluster, frame : (m,)
        Of every localization: its cluster and its frame.
    first_frame, length : (k,)
        Frame in which each blink begins, and how many it lasts.
    least_photons : float
        Light of a spot that is found in about half of all frames.
    """

    x_nm: Floats
    y_nm: Floats
    blinks: Ints
    cluster: Ints
    frame: Ints
    first_frame: Ints
    length: Ints
    least_photons: float


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the count of each cluster rests on.

    Attributes
    ----------
    blinks : (n,)
        Blinks; visits out of the dark of docking sites.
    coincident : (n,)
        How many more blinks there were, that another swallowed; 0 for docking sites.
    dark_s : (n,)
        Time that docking sites were dark before visits; not used for dyes that bleach.
    least_photons : float
        Light of a spot that is found in about half of all frames.
    activation_per_s : float
        Rate at which dyes are activated; not used for docking sites.
    frame_s, n_frames
        Of the movie.
    """

    blinks: Floats
    coincident: Floats
    dark_s: Floats
    least_photons: float
    activation_per_s: float
    frame_s: float
    n_frames: int


def find(movie: Movie, settings: Mapping[str, Any]) -> dict[str, Floats]:
    """Answer the task molecule-counting.

    Parameters
    ----------
    movie : (frames, ny, nx)
        ADU.
    settings
        pixel_size_nm, psf_sigma_nm, camera, exposure_s, frame_period_s, and dye_kinetics: on_time_s
        and off_time_s (mean times), photons_per_burst, and for dyes that bleach bursts_per_dye.

    Returns
    -------
    dict of (n,) arrays
        x_nm, y_nm, molecules, low, high (95 %), and what they rest on: blinks, coincident,
        dark_s, least_photons, activation_per_s (see :class:`Evidence`).

    Raises
    ------
    ValueError
        A setting is missing, or nothing was found.
    """
    kinetics = settings.get("dye_kinetics", {})
    missing = {"on_time_s", "off_time_s", "photons_per_burst"} - set(kinetics)
    if missing:
        raise ValueError(f"counting needs calibrated dye_kinetics; missing {sorted(missing)}")
    n_frames, frame_s = int(movie.shape[0]), float(settings["frame_period_s"])
    seen = watch(movie, settings)
    if not len(seen.blinks):
        raise ValueError("no blink was found in the movie")
    evidence = evidence_of(seen, "bursts_per_dye" in kinetics, frame_s, n_frames)
    same = np.ones(len(seen.blinks))
    return {
        "x_nm": seen.x_nm,
        "y_nm": seen.y_nm,
        **count(evidence, kinetics),
        "blinks": evidence.blinks,
        "coincident": evidence.coincident,
        "dark_s": evidence.dark_s,
        "least_photons": evidence.least_photons * same,
        "activation_per_s": evidence.activation_per_s * same,
    }


def watch(movie: Movie, settings: Mapping[str, Any]) -> Watched:
    """Localize, link and gather what shines in a movie; parameters as of :func:`find`."""
    n_frames, ny, nx = movie.shape
    false_positives = min(1e-6, FALSE_BLINKS / (n_frames * ny * nx))
    block = BACKGROUND_FRAMES if n_frames >= BACKGROUND_FRAMES else None
    spots = localize(
        movie,
        settings,
        model="fixed",
        false_positives=false_positives,
        background_frames=block,
    )
    border_nm = BORDER_SIGMAS * float(settings["psf_sigma_nm"])
    x, y = spots["x_nm"], spots["y_nm"]
    wide, high = ((n - 1) * float(settings["pixel_size_nm"]) - border_nm for n in (nx, ny))
    whole = (x > border_nm) & (x < wide) & (y > border_nm) & (y < high)
    spots = {name: column[whole] for name, column in spots.items()}
    frame, x, y = spots["frame"], spots["x_nm"], spots["y_nm"]
    blink = link(frame, x, y, max_gap=GAP_FRAMES, radius_nm=REACH_NM)
    places = {"frame": frame, "x_nm": x, "y_nm": y}
    blinks = merge(blink, places, weight="equal")
    label = dbscan(np.column_stack([blinks["x_nm"], blinks["y_nm"]]), REACH_NM, 1)
    clusters = cluster_table(np.column_stack([x, y]), label[blink])
    dim = float(np.median(spots["background"])) if len(frame) else 0.0
    return Watched(
        clusters["x_nm"],
        clusters["y_nm"],
        np.bincount(label, minlength=len(clusters["x_nm"])),
        label[blink],
        np.asarray(frame, np.int64),
        blinks["frame"],
        blinks["length"],
        least_photons(settings, (ny, nx), max(dim, 0.0), false_positives),
    )


def least_photons(
    settings: Mapping[str, Any],
    shape: tuple[int, int],
    background: float,
    false_positives: float,
) -> float:
    """Return the light of a spot whose expectation lies at the threshold of detection.

    Noise lifts and lowers it alike, and may shift its top to a better place: it is found in rather
    more than half of all frames.

    Parameters
    ----------
    settings
        As of :func:`find`.
    shape
        Of a frame.
    background
        Photons in a pixel.
    false_positives
        See `localize`.
    """
    camera = CameraSettings.read(settings["camera"])
    sigma_px = float(settings["psf_sigma_nm"]) / float(settings["pixel_size_nm"])
    variance = float(np.median(camera.read_variance))
    reach = math.ceil(8 * sigma_px)
    size = (2 * reach + 1, 2 * reach + 1)
    finder = SpotFinder(size, sigma_px, variance, camera.excess_noise, false_positives)
    levels = LADDER ** np.arange(math.ceil(math.log(1e5) / math.log(LADDER)))
    smallest = []
    for dx, dy in ((0.0, 0.0), (0.5, 0.0), (0.5, 0.5), (0.25, 0.25)):
        spot = np.outer(pixel_gaussian(reach, sigma_px, dy), pixel_gaussian(reach, sigma_px, dx))
        frames = (background + levels[:, None, None] * spot) * camera.quantum_efficiency
        found = finder.find(frames.astype(np.float32)).frame
        smallest.append(levels[int(found.min())] if len(found) else math.inf)
    return float(np.mean(smallest))


def activation_rate(seen: Watched, frame_s: float, duration_s: float) -> float:
    """Return at which rate dyes are activated, from when blinks begin.

    Dyes that are activated at the rate k from the start of the movie on blink at times that have
    the density k exp(-k t)/(1 - exp(-k T)); of greatest likelihood is the k whose mean time is the
    blinks' own. Blinks lost to coincidence (:func:`coincidences`) count with the square of that
    density, which is that of 2 k: they are missing early in the movie.

    Raises
    ------
    ValueError
        Blinks don't get fewer: nothing tells how many dyes are still to come.
    """
    n = len(seen.first_frame)
    mean = (float(seen.first_frame.mean()) + 0.5) * frame_s / duration_s
    if not mean < 0.45:  # 1/2 at k = 0
        raise ValueError(
            "blinks hardly get fewer towards the end of the movie, so it doesn't tell how many "
            "dyes are left; a longer movie, or more activating light, is needed"
        )

    own = mean
    for _ in range(5):
        a = float(optimize.brentq(lambda a, own=own: _mean_time(a) - own, 1e-2, 500.0))
        lost = float(coincidences(seen, frame_s, duration_s, a / duration_s).sum())
        own = (n * mean + lost * _mean_time(2 * a)) / (n + lost)
    return a / duration_s


def _mean_time(a: float) -> float:
    """Return the mean of a truncated exponential of rate a on 0 ... 1."""
    return 1 / a - math.exp(-a) / -math.expm1(-a)


def evidence_of(seen: Watched, bleaches: bool, frame_s: float, n_frames: int) -> Evidence:
    """Return what clusters tell of their molecules, dyes that bleach or docking sites."""
    if bleaches:
        duration_s = n_frames * frame_s
        rate = activation_rate(seen, frame_s, duration_s)
        lost = coincidences(seen, frame_s, duration_s, rate)
        blinks = seen.blinks.astype(float)
        return Evidence(blinks, lost, 0 * lost, seen.least_photons, rate, frame_s, n_frames)
    order = np.argsort(seen.cluster, kind="stable")
    frames = np.split(seen.frame[order], np.cumsum(np.bincount(seen.cluster))[:-1])
    exposures = [qpaint.dark_exposure_in_frames(f, n_frames, frame_s, GAP_FRAMES) for f in frames]
    visits, dark_s = np.array(exposures, float).T
    return Evidence(visits, 0 * visits, dark_s, seen.least_photons, 0.0, frame_s, n_frames)


def count(evidence: Evidence, kinetics: Mapping[str, float]) -> dict[str, Floats]:
    """Turn what was seen into molecules.

    Parameters
    ----------
    evidence
        See :func:`evidence_of`.
    kinetics
        on_time_s, off_time_s, photons_per_burst, and for dyes that bleach bursts_per_dye.

    Returns
    -------
    dict
        molecules, low, high, each (n,).
    """
    if "bursts_per_dye" not in kinetics:
        rate = qpaint.OnRate(visit_rate(kinetics, evidence.least_photons, evidence.frame_s))
        sites = qpaint.count_sites(evidence.blinks, evidence.dark_s, rate)
        return {"molecules": sites.sites, "low": sites.low, "high": sites.high}
    movie = (evidence.frame_s, evidence.n_frames * evidence.frame_s, evidence.activation_per_s)
    one = blink_probabilities(kinetics, *movie, evidence.least_photons)
    rows = blink_probabilities(
        kinetics, *movie, evidence.least_photons, round(float(evidence.blinks.sum()))
    )
    told = evidence.blinks + evidence.coincident
    limits = np.empty((2, len(told)))
    for k, (blinks, all_blinks) in enumerate(zip(evidence.blinks, told, strict=True)):
        interval = blink_counting.count_molecules([blinks], thinned(rows, blinks / all_blinks))
        limits[:, k] = interval.low[0], interval.high[0]
    return {"molecules": told / mean_blinks(one), "low": limits[0], "high": limits[1]}


def thinned(pmfs: Floats, kept: float) -> Floats:
    """Return the probabilities of 0, 1, 2 ... blinks, (rows, k), if each is kept by chance."""
    n = np.arange(pmfs.shape[1])
    return np.asarray(pmfs @ stats.binom.pmf(n, n[:, None], kept))


def mean_blinks(pmf: Floats) -> float:
    """Return the mean of probabilities of 0, 1, 2 ..."""
    return float(pmf @ np.arange(len(pmf)))


def coincidences(
    seen: Watched, frame_s: float, duration_s: float, activation_per_s: float
) -> Floats:
    """Return how many blinks of each cluster are lost because two dyes shine at once.

    A blink of L frames swallows the next one that begins within L + g frames of it. Blinks begin at
    times of the density f = k exp(-k t)/(1 - exp(-k T)), so the next of n follows within w with
    chance 1 - exp(-(n - 1) f w), and n less

        n <1 - exp(-(n - 1) f(t) w)>,   w = (<L> + g + 1/2) frame times,

    averaged over f, are seen. Blinks of one dye are few of the pairs and taken for others.
    """
    if not len(seen.length):
        return np.zeros(0)
    within_s = (float(seen.length.mean()) + GAP_FRAMES + 0.5) * frame_s
    cut = -math.expm1(-activation_per_s * duration_s)
    # f at its own quantiles, k exp(-k t) with exp(-k t) = 1 - q cut
    density = activation_per_s * (1 / cut - (np.arange(64) + 0.5) / 64)
    blinks = seen.blinks.astype(float)
    n = blinks
    for _ in range(5):  # those that are lost are among the n
        others = np.maximum(n - 1, 0)[:, None]
        n = blinks - n * np.expm1(-others * density * within_s).mean(axis=1)
    return np.asarray(n - blinks)


def blink_probabilities(
    kinetics: Mapping[str, float],
    frame_s: float,
    duration_s: float,
    activation_per_s: float,
    least_photons: float,
    blinks: int | None = None,
) -> Floats:
    """Return the probabilities that a dye shows 0, 1, 2 ... linked blinks in a movie.

    Parameters
    ----------
    kinetics
        on_time_s, off_time_s, photons_per_burst, bursts_per_dye.
    frame_s, duration_s, activation_per_s
        Of the movie, and in it.
    least_photons
        That a frame must get of a dye to show it.
    blinks
        The activation rate was measured with so many, and is spread accordingly: the result then
        has a row for each of `RATES` equally probable ones.

    Notes
    -----
    With p = 1/bursts_per_dye, k_b = p/on_time, k_d = (1 - p)/on_time, k_r = 1/off_time.
    """
    p = 1 / kinetics["bursts_per_dye"]
    on_s, off_s = kinetics["on_time_s"], kinetics["off_time_s"]
    photons_per_s = kinetics["photons_per_burst"] / on_s
    one = four_state_blinks(
        p / on_s,
        (1 - p) / on_s,
        1 / off_s,
        frame_s=frame_s,
        gap_frames=GAP_FRAMES,
        shortest_s=min(least_photons / photons_per_s, frame_s),
    )
    if blinks is None:
        return one.within(duration_s, activation_per_s)
    # Blinks of one dye come together: its moments count, of blinks^2 over blinks fewer.
    pmf = one.pmf()
    dyes = blinks * mean_blinks(pmf) / float(pmf @ np.arange(len(pmf)) ** 2)
    rates = _spread(activation_per_s, duration_s, dyes)
    rows = [one.within(duration_s, rate) for rate in rates]
    return np.array(rows)


def _spread(rate_per_s: float, duration_s: float, times: float) -> Floats:
    """Return equally probable rates of a truncated exponential seen so many times."""
    a = rate_per_s * duration_s
    # Fisher information of ln k from one time, the variance of k t.
    information = 1 - a**2 * math.exp(-a) / (-math.expm1(-a)) ** 2
    middle = (np.arange(RATES) + 0.5) / RATES
    error = 1 / math.sqrt(times * information)
    return np.asarray(rate_per_s * np.exp(special.ndtri(middle) * error))


def visit_rate(kinetics: Mapping[str, float], least_photons: float, frame_s: float) -> float:
    """Return how often a docking site is visited, visits too short to be seen left out."""
    on_s = kinetics["on_time_s"]
    shortest_s = min(least_photons * on_s / kinetics["photons_per_burst"], frame_s)
    return share_seen(on_s, shortest_s, frame_s) / kinetics["off_time_s"]


def share_seen(on_s: float, shortest_s: float, frame_s: float) -> float:
    """Return which share of bursts shines long enough in some frame to be seen.

    See `blink_kinetics.four_state_blinks`, which has it from the same formula.
    """
    once, twice = math.exp(-shortest_s / on_s), math.exp(-2 * shortest_s / on_s)
    return once - (shortest_s * once - (once - twice) * on_s) / frame_s

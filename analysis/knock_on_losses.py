"""How often a beam knocks atoms out of a sheet: from a movie to a displacement cross section.

The sites of the sheet are found in the sum of all frames and, those of atoms that go early, in that
of the first ones; they are completed where two neighbours of an atom point at a third, and followed
through the movie. An atom of the pristine sheet has three
neighbours; it is at risk from the beginning until it leaves or one of them does. If n such atoms
leave while all of them together were exposed to a fluence X (electrons per area, added up over the
atoms), n is a Poisson number of mean sigma X, and the most likely cross section is n / X. Atoms
at vacancies, which leave more easily, and atoms whose neighbours aren't in view never count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree
from scipy.stats import chi2

from nanophantom.analysis.columns import find_columns
from nanophantom.analysis.movie_events import events_in_traces, penalty_for
from nanophantom.analysis.registration import add_up, register
from nanophantom.analysis.site_traces import SiteTraces, site_traces
from nanophantom.analysis.surface_events import with_new

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

FIRST_PART = 8
"""Sites of atoms that go early are looked for in the sum of this part of the frames."""
SAME_SITE = 0.7
"""Sites nearer to each other than so many bonds are one."""
BOND_FACTOR = 1.3
"""Neighbours are closer than this times the median distance of nearest neighbours."""
NEIGHBOURS = 3
"""Of an atom in the pristine sheet."""
FALSE_EVENTS = 0.1
BARN_PER_A2 = 1e8
LEAST_WIDTH_PX = 0.7


def measure(images: npt.ArrayLike, settings: Mapping[str, Any]) -> dict[str, FloatArray]:
    """Find the atoms that are lost, and the cross section of the pristine sheet.

    Parameters
    ----------
    images : (frames, ny, nx) array
        Counted electrons, or a multiple of them.
    settings : mapping
        "pixel_size_nm", "exposure_s", "doses_e_per_A2" (of every frame) or "dose_e_per_A2"; if
        known "frame_period_s", "counts_per_electron" and "contrast".

    Returns
    -------
    dict of (lost,) arrays, in the order of time
        x_nm, y_nm: site in frame 0; t_s: time; sigma_t_s: its standard deviation; neighbours: how
        many the atom had; cross_section_barn, low_barn, high_barn: the cross section of an atom
        with three neighbours and its 95 % interval, the same in every row. Where nothing is lost
        there are no rows.

    Raises
    ------
    ValueError
        If a setting is missing or wrong, the images are no movie, or no sheet is seen.
    """
    pixel_nm, exposure_s = (float(_given(settings, k)) for k in ("pixel_size_nm", "exposure_s"))
    period_s = float(settings.get("frame_period_s") or exposure_s)
    stack = np.asarray(images)
    if stack.ndim != 3 or len(stack) < 2:
        raise ValueError(
            f"a movie has the shape (frames, ny, nx) with two frames or more, got {stack.shape}"
        )
    doses = settings.get("doses_e_per_A2")
    dose = np.broadcast_to(
        np.asarray(_given(settings, "dose_e_per_A2") if doses is None else doses, np.float64),
        len(stack),
    )
    # A camera that misses electrons still counts the others one by one; more is a gain.
    gain = float(settings.get("counts_per_electron") or 1.0)
    if gain > 1.0:
        stack = stack / np.float32(gain)

    series = register(stack)
    first = slice(0, max(1, len(stack) // FIRST_PART))
    total, coverage = add_up(stack[first], series.shifts_px[first])
    look: Any = settings.get("contrast") or "auto"
    found = find_columns(series.aligned_sum, pixel_nm, look, coverage=series.coverage)
    early = find_columns(total, pixel_nm, look, coverage=coverage)
    if len(found["x_nm"]) < 4:
        raise ValueError("no sheet of atoms is seen in the sum of all frames")
    sites_px, more_px = (
        np.column_stack([seen["y_nm"], seen["x_nm"]]) / pixel_nm for seen in (found, early)
    )
    sites_px = completed(with_new(sites_px, more_px, SAME_SITE * bond_of(sites_px)))
    width_px = max(LEAST_WIDTH_PX, float(np.median(found["width_nm"])) / pixel_nm)
    contrast: Any = "bright" if np.median(found["height"]) > 0 else "dark"
    traces = site_traces(stack, series.shifts_px, sites_px, width_px)
    events = events_in_traces(traces, exposure_s, period_s, contrast, FALSE_EVENTS)

    lost_s = np.full(len(sites_px), np.inf)
    losses: list[int] = []  # the first of every site, in the order of time
    for event in np.flatnonzero(events["kind"] == "vanishes").tolist():
        if np.isinf(lost_s[events["site"][event]]):
            lost_s[events["site"][event]] = events["time_s"][event]
            losses.append(event)
    neighbours = neighbours_of(sites_px)
    fluence = Fluence(period_s, exposure_s, dose)
    blind = blind_frames(traces, len(stack))
    window = (blind * period_s, (len(stack) - blind) * period_s)
    followed = np.asarray(traces.seen.all(axis=1), np.bool_)
    risk = at_risk(neighbours, lost_s, followed, fluence, window)
    cross_section, low, high = poisson_rate(risk.lost, risk.exposure_e_per_A2)

    rows = events["site"][losses]
    left = np.array([np.sum(lost_s[neighbours[s]] > lost_s[s]) for s in rows], np.float64)
    y_px, x_px = sites_px[rows].T
    n = len(rows)
    return {
        "x_nm": x_px * pixel_nm,
        "y_nm": y_px * pixel_nm,
        "t_s": events["time_s"][losses],
        "sigma_t_s": events["sigma_time_s"][losses],
        "neighbours": left,
        "cross_section_barn": np.full(n, cross_section * BARN_PER_A2),
        "low_barn": np.full(n, low * BARN_PER_A2),
        "high_barn": np.full(n, high * BARN_PER_A2),
    }


def completed(sites_px: FloatArray) -> FloatArray:
    """Add the third neighbour of atoms with two, where no site is listed.

    The three bonds of an atom in a sheet add up to nothing, so two tell the third.
    """
    tree = KDTree(sites_px)
    least = SAME_SITE * bond_of(sites_px)
    added: list[FloatArray] = []
    low, high = sites_px.min(axis=0), sites_px.max(axis=0)
    for i, near in enumerate(neighbours_of(sites_px)):
        if len(near) != NEIGHBOURS - 1:
            continue
        third = sites_px[i] - np.sum(sites_px[near] - sites_px[i], axis=0)
        apart = [np.hypot(*(third - other)) for other in added]
        inside = np.all((third >= low) & (third <= high))
        if inside and tree.query(third)[0] > least and min(apart, default=np.inf) > least:
            added.append(third)
    return np.vstack([sites_px, *added])


def bond_of(sites_px: FloatArray) -> float:
    """Return the median distance of nearest neighbours."""
    return float(np.median(KDTree(sites_px).query(sites_px, k=2)[0][:, 1]))


def neighbours_of(sites_px: FloatArray) -> list[IntArray]:
    """Return the neighbours of every site."""
    tree = KDTree(sites_px)
    lists = tree.query_ball_point(sites_px, BOND_FACTOR * bond_of(sites_px), return_sorted=True)
    return [np.array([j for j in near if j != i], np.int64) for i, near in enumerate(lists)]


@dataclass(frozen=True, eq=False)
class Fluence:
    """Electrons per area that have come by a time; between exposures the beam is off."""

    period_s: float
    exposure_s: float
    dose_e_per_A2: FloatArray

    def by(self, t_s: npt.ArrayLike) -> FloatArray:
        """Return the fluence in e/Å² at times, from the start of the first frame."""
        start = self.period_s * np.arange(len(self.dose_e_per_A2))
        times = np.column_stack([start, start + self.exposure_s]).ravel()
        total = np.cumsum(self.dose_e_per_A2)
        sums = np.column_stack([total - self.dose_e_per_A2, total]).ravel()
        return np.asarray(np.interp(np.asarray(t_s, np.float64), times, sums))


def blind_frames(traces: SiteTraces, n_frames: int) -> float:
    """Return how many frames a site must be seen full, and empty, for its change to be found.

    A frame tells full from empty by d'^2 / 2 of log-likelihood on average, d' the signal over its
    error; a change at either end of the movie costs the penalty of `penalty_for`. A frame is taken
    as one or the other as a whole, so it can't be less than half of one.
    """
    with np.errstate(divide="ignore"):
        clarity = np.median(np.abs(traces.signal[traces.seen] / traces.standard_error[traces.seen]))
    penalty = penalty_for(FALSE_EVENTS, len(traces.signal), n_frames)
    return float(np.clip(2 * penalty / clarity**2, 0.5, n_frames / 2))


@dataclass(frozen=True)
class Risk:
    """How many atoms were lost, and what all those that might have been were exposed to."""

    lost: int
    exposure_e_per_A2: float
    """Fluence added up over the atoms."""
    atoms: int
    """That were at risk at all."""


def at_risk(
    neighbours: list[IntArray],
    lost_s: FloatArray,
    seen: npt.NDArray[np.bool_],
    fluence: Fluence,
    window_s: tuple[float, float],
) -> Risk:
    """Count losses of atoms with all neighbours, and add up what those atoms were exposed to.

    Parameters
    ----------
    neighbours
        Of every site.
    lost_s
        When its atom was lost, infinity if it wasn't, shape (sites,).
    seen
        Whether it was seen in all frames.
    fluence
        Against time.
    window_s
        Times between which every loss is found.
    """
    begin, end = window_s
    lost, exposure, atoms = 0, 0.0, 0
    for i, near in enumerate(neighbours):
        if len(near) != NEIGHBOURS or not (seen[i] and seen[near].all()):
            continue
        until = min(float(lost_s[near].min()), float(lost_s[i]), end)
        if until <= begin:
            continue
        atoms += 1
        exposure += float(fluence.by(until) - fluence.by(begin))
        lost += bool(lost_s[i] == until)
    return Risk(lost, exposure, atoms)


def poisson_rate(n: int, exposure: float) -> tuple[float, float, float]:
    """Return n / exposure and the exact 95 % interval of a Poisson mean, over the exposure.

    F. Garwood, Biometrika 28 (1936) 437.

    Raises
    ------
    ValueError
        If the exposure isn't positive.
    """
    if not exposure > 0:
        raise ValueError("no atom with all of its neighbours was in view, so nothing was at risk")
    low = float(chi2.ppf(0.025, 2 * n)) / 2 if n else 0.0
    high = float(chi2.ppf(0.975, 2 * n + 2)) / 2
    return n / exposure, low / exposure, high / exposure


def _given(settings: Mapping[str, Any], name: str) -> Any:
    if settings.get(name) is None:
        raise ValueError(f"settings lack {name!r}")
    return settings[name]

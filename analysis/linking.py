"""One blink seen in several frames becomes one localization: linking, merging, and the longest gap.

A molecule that shines for five frames is localized five times. Localizations that follow each
other closely in space and time are *linked* to one blink; merging its K localizations leaves one
whose standard deviation is sigma / sqrt(K). How long a dark gap may be bridged is read from the
histogram of dark times (P. Annibale et al., PLoS ONE 6 (2011) e22678): a molecule's blinking gives
many short ones, the next molecule at the same place few long ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from scipy.special import xlog1py

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOST_CELLS = 1 << 22
ROUNDS = 500
"""At most, of expectation and maximisation when dark times are parted."""


def link(
    frame: npt.ArrayLike,
    x_nm: npt.ArrayLike,
    y_nm: npt.ArrayLike,
    uncertainty_nm: npt.ArrayLike | None = None,
    *,
    max_gap: int = 1,
    radius_nm: float | None = None,
    radius_sigmas: float = 4.0,
) -> Ints:
    """Give every localization the number of the blink it belongs to.

    Frame by frame, each localization joins the blink nearest to it that was last seen at most
    `max_gap` dark frames ago and lies within the radius; the closest pairs are joined first, and a
    blink takes one localization of a frame. Otherwise it opens a new blink. Nearness is measured
    to the blink's mean position so far, weighted by 1 / uncertainty^2: the table should be free of
    drift.

    Parameters
    ----------
    frame : (n,) array of int
        From 0, in any order.
    x_nm, y_nm : (n,) array
    uncertainty_nm : (n,) array, optional
        Standard deviation of x (and of y). Needed unless `radius_nm` is given.
    max_gap : int
        Dark frames that a blink may contain; 0 links successive frames only. See
        :func:`choose_max_gap`.
    radius_nm : float, optional
        A fixed radius.
    radius_sigmas : float
        Else the radius is this many standard deviations of the distance along one axis,
        sqrt(sigma_localization^2 + sigma_mean^2). A share exp(-radius_sigmas^2 / 2) of true
        partners lies outside: 1.1 % at 3, 0.03 % at 4.

    Returns
    -------
    (n,) array of int64
        From 0, in the order of the blinks' first frames.

    Raises
    ------
    ValueError
        For columns of unlike lengths or not finite, no radius, or a negative gap.
    """
    f = _frames(frame)
    xy = [_column(x_nm, "x_nm", f.size), _column(y_nm, "y_nm", f.size)]
    if max_gap < 0:
        raise ValueError(f"max_gap counts dark frames, 0 or more, got {max_gap}")
    if uncertainty_nm is None:
        if radius_nm is None:
            raise ValueError("linking wants uncertainty_nm, or a fixed radius_nm")
        variance = np.ones(f.size)
    else:
        variance = _column(uncertainty_nm, "uncertainty_nm", f.size) ** 2
        if np.any(variance <= 0):
            raise ValueError("uncertainty_nm must be above 0 everywhere")
    if radius_nm is not None and not (np.isfinite(radius_nm) and radius_nm > 0):
        raise ValueError(f"radius_nm must be above 0, got {radius_nm}")
    if radius_nm is None and not (np.isfinite(radius_sigmas) and radius_sigmas > 0):
        raise ValueError(f"radius_sigmas must be above 0, got {radius_sigmas}")
    if f.size == 0:
        return np.zeros(0, np.int64)

    fixed = 0.0 if radius_nm is None else float(radius_nm)
    sigmas = float(radius_sigmas)
    farthest = fixed if fixed else sigmas * float(np.sqrt(2 * variance.max()))
    x, y = (column - column.min() for column in xy)
    cell = max(farthest, float(np.sqrt((x.max() + farthest) * (y.max() + farthest) / MOST_CELLS)))
    order = np.lexsort((x, f))
    group = np.empty(f.size, np.int64)
    group[order] = _link(
        f[order], x[order], y[order], variance[order], int(max_gap), fixed, sigmas, cell
    )
    return group


def merge(
    group: npt.ArrayLike,
    columns: Mapping[str, npt.ArrayLike],
    weight: str = "uncertainty",
) -> dict[str, npt.NDArray[Any]]:
    """Return the table of the groups: one row for the localizations of each.

    Parameters
    ----------
    group : (n,) array of int
        Of each localization, 0 to groups - 1, each used: as :func:`link` returns them. Or the
        site a localization belongs to (RESI, S. C. M. Reinhardt et al., Nature 617 (2023) 711).
    columns : mapping of (n,) arrays
        frame, x_nm, y_nm; optionally z_nm, photons, uncertainty_nm, uncertainty_x_nm,
        uncertainty_y_nm, uncertainty_z_nm. Others are averaged without weights.
    weight : {"uncertainty", "photons", "equal"}
        Positions are means weighted by 1 / uncertainty^2 (of their own axis where the table
        has it), by photons, or equally.

    Returns
    -------
    dict of (groups,) arrays
        group; frame: the first; last_frame; length: frames from first to last, both counted;
        localizations: how many; photons: the sum; positions; uncertainties of those means,
        sqrt(sum w^2 sigma^2) / sum w.

    Raises
    ------
    ValueError
        For a missing column, unlike lengths, a group without localization, or weights not
        above 0.
    """
    g = np.asarray(group)
    g = g if g.size else g.astype(np.int64)
    table = {name: np.asarray(values) for name, values in columns.items()}
    missing = {"frame", "x_nm", "y_nm"} - table.keys()
    if missing:
        raise ValueError(f"merging wants the columns {sorted(missing)}")
    unlike = [name for name, values in table.items() if values.shape != g.shape]
    if unlike or g.ndim != 1:
        raise ValueError(f"columns must be as long as group, {g.shape}: {unlike}")
    if g.size and (not np.issubdtype(g.dtype, np.integer) or g.min() < 0):
        raise ValueError("groups are whole numbers from 0")
    count = np.bincount(g) if g.size else np.zeros(0, np.int64)
    if np.any(count == 0):
        raise ValueError(f"group {int(np.argmin(count))} has no localization; number them densely")

    def total(values: npt.NDArray[Any]) -> Floats:
        return np.bincount(g, values, len(count)).astype(float)

    frame = _frames(table["frame"])
    first = np.full(len(count), np.iinfo(np.int64).max)
    last = np.full(len(count), -1)
    np.minimum.at(first, g, frame)
    np.maximum.at(last, g, frame)
    merged: dict[str, npt.NDArray[Any]] = {
        "group": np.arange(len(count)),
        "frame": first,
        "last_frame": last,
        "length": last - first + 1,
        "localizations": count,
    }
    for name, values in table.items():
        if name in ("x_nm", "y_nm", "z_nm"):
            w = _weights(table, name[0], weight)
            merged[name] = total(w * values) / total(w)
        elif name.startswith("uncertainty"):
            axis = "x" if name == "uncertainty_nm" else name.split("_")[1]
            w = _weights(table, axis, weight)
            merged[name] = np.sqrt(total((w * values) ** 2)) / total(w)
        elif name == "photons":
            merged[name] = total(values)
        elif name not in merged:
            merged[name] = total(values) / count
    return merged


class MaxGap(NamedTuple):
    """A choice of the longest dark gap to bridge, and the dark times it rests on.

    Attributes
    ----------
    max_gap : int
        In frames.
    blink_frames, return_frames : float
        Mean dark time of a blinking molecule, and until another lights up at the same place.
    blink_share : float
        Of the dark times that are a molecule's blinking.
    """

    max_gap: int
    blink_frames: float
    return_frames: float
    blink_share: float


def dark_times(frame: npt.ArrayLike, place: npt.ArrayLike) -> Ints:
    """Return the lengths, in frames, of the dark gaps between localizations at each place.

    Parameters
    ----------
    frame : (n,) array of int
    place : (n,) array of int
        Where each lies: groups of :func:`link` with a `max_gap` as long as the movie, or
        clusters. Localizations in one frame or in successive ones have no gap.
    """
    f, p = _frames(frame), np.asarray(place)
    if f.shape != p.shape:
        raise ValueError(f"frame and place must be as long as each other, {f.shape}, {p.shape}")
    order = np.lexsort((f, p))
    gap = np.diff(f[order]) - 1
    return np.asarray(gap[(np.diff(p[order]) == 0) & (gap > 0)], dtype=np.int64)


def choose_max_gap(dark_frames: npt.ArrayLike) -> MaxGap:
    """Choose the gap that splits as many blinking molecules as it merges different ones.

    The histogram of dark times is a sum of two geometric distributions, short gaps within a
    molecule and long ones before the next (Annibale et al. 2011, whose number of molecules is
    read where the first has died away). Their shares and means come from maximum likelihood by
    expectation and maximisation. At the gap g returned the number of blinking gaps longer than g,
    falsely split, equals the number of returns up to g, falsely merged: the count of molecules is
    right even where the two overlap.

    Parameters
    ----------
    dark_frames : (n,) array of int
        From 1: see :func:`dark_times`.

    Raises
    ------
    ValueError
        For fewer than 20 dark times, or ones that show no two populations: where the longer mean
        isn't at least twice the shorter one.
    """
    t = np.asarray(dark_frames)
    if t.ndim != 1 or t.size < 20 or np.any(t < 1):
        raise ValueError(f"a gap takes 20 or more dark times, from 1 frame, got {t.size}")
    values, count = np.unique(t, return_counts=True)
    share, means = _two_geometric(values.astype(float), count.astype(float))
    if means[1] < 2 * means[0]:
        raise ValueError(
            f"the dark times show one population only (means {means[0]:.3g} and {means[1]:.3g} "
            "frames): give max_gap yourself"
        )
    gap = np.arange(int(t.max()) + 1)
    split = share * (1 - 1 / means[0]) ** gap
    merged = (1 - share) * (1 - (1 - 1 / means[1]) ** gap)
    best = int(np.argmin(np.abs(split - merged)))
    return MaxGap(best, float(means[0]), float(means[1]), float(share))


def _two_geometric(t: Floats, count: Floats) -> tuple[float, Floats]:
    """Return the share of the shorter of two geometric distributions, and both means."""
    mean = float(np.average(t, weights=count))
    share, means = 0.5, np.array([max(1.0, 0.2 * mean), 2 * mean])
    for _ in range(ROUNDS):
        p = 1 / means
        log_pdf = np.log(p) + xlog1py(t[:, None] - 1, -p)
        odds = np.log([share, 1 - share]) + log_pdf
        posterior = np.exp(odds - np.logaddexp(odds[:, 0], odds[:, 1])[:, None])
        w = posterior * count[:, None]
        before, means = means, np.maximum(1.0, (w * t[:, None]).sum(axis=0) / w.sum(axis=0))
        share = float(np.clip(w[:, 0].sum() / w.sum(), 1e-9, 1 - 1e-9))
        if np.allclose(before, means, rtol=1e-7):
            break
    return (share, means) if means[0] <= means[1] else (1 - share, means[::-1])


def _weights(table: dict[str, npt.NDArray[Any]], axis: str, weight: str) -> Floats:
    """Return the weight of every localization in the mean position along an axis."""
    if weight == "equal":
        return np.ones(table["frame"].shape)
    if weight == "photons":
        name, power = "photons", 1
    elif weight == "uncertainty":
        own = f"uncertainty_{axis}_nm"
        name, power = own if own in table else "uncertainty_nm", -2
    else:
        raise ValueError(f'the weight is "uncertainty", "photons" or "equal", got "{weight}"')
    if name not in table:
        raise ValueError(f'weights by {weight} want the column "{name}"')
    values = np.asarray(table[name], dtype=float)
    if not np.all(values > 0):
        raise ValueError(f"{name} must be above 0 everywhere to weigh positions")
    return np.asarray(values**power)


def _frames(frame: npt.ArrayLike) -> Ints:
    """Return the column of frames as whole numbers."""
    f = np.asarray(frame)
    if f.ndim != 1:
        raise ValueError(f"frame must be a column, got shape {f.shape}")
    if f.size and (not np.issubdtype(f.dtype, np.integer) or f.min() < 0):
        raise ValueError("frame must hold whole numbers from 0")
    return f.astype(np.int64)


def _column(values: npt.ArrayLike, name: str, n: int) -> Floats:
    column = np.asarray(values, dtype=float)
    if column.shape != (n,):
        raise ValueError(f"{name} must have {n} entries, as frame has, got shape {column.shape}")
    if not np.isfinite(column).all():
        raise ValueError(f"{name} must be finite")
    return column


@numba.njit(cache=True, nogil=True)
def _link(
    frame: Ints,
    x: Floats,
    y: Floats,
    variance: Floats,
    max_gap: int,
    fixed: float,
    sigmas: float,
    cell: float,
) -> Ints:
    """Link localizations sorted by frame, whose least x and y are 0.

    Open blinks hang in lists, one for each cell of the field, anew with every localization; a list
    sheds expired blinks and stale entries whenever it is walked. Within a frame, a localization
    drives out another that is farther from the blink both want: what is left in the end is what
    joining the closest pairs first gives.
    """
    n = len(x)
    columns = int(x.max() / cell) + 1
    rows = int(y.max() / cell) + 1
    head = np.full(rows * columns, -1, np.int64)  # newest entry of each cell's list
    following = np.full(n, -1, np.int64)  # an entry is the localization that hung the blink there
    group = np.full(n, -1, np.int64)
    newest = np.empty(n, np.int64)  # of each blink: its last localization, the only valid entry
    last = np.empty(n, np.int64)
    holder = np.full(n, -1, np.int64)  # of each blink: the localization that last took it
    weight = np.empty(n)
    mean_x = np.empty(n)
    mean_y = np.empty(n)
    distance = np.empty(n)  # of each blink from the localization of this frame that holds it
    blinks = 0
    start = 0
    while start < n:
        stop = start
        while stop < n and frame[stop] == frame[start]:
            stop += 1
        now = frame[start]
        for first in range(start, stop):
            i = first
            while i >= 0:  # a localization driven out looks for another blink
                nearest, best = -1, np.inf
                row, column = int(y[i] / cell), int(x[i] / cell)
                for r in range(max(0, row - 1), min(rows, row + 2)):
                    for c in range(max(0, column - 1), min(columns, column + 2)):
                        before = -1
                        entry = head[r * columns + c]
                        while entry >= 0:
                            b = group[entry]
                            after = following[entry]
                            if newest[b] != entry or now - last[b] > max_gap + 1:
                                if before < 0:
                                    head[r * columns + c] = after
                                else:
                                    following[before] = after
                            else:
                                square = (mean_x[b] - x[i]) ** 2 + (mean_y[b] - y[i]) ** 2
                                spread = variance[i] + 1.0 / weight[b]
                                limit = fixed * fixed if fixed > 0 else sigmas * sigmas * spread
                                d = square / spread
                                held = holder[b] >= start and distance[b] <= d
                                if square <= limit and d < best and not held:
                                    nearest, best = b, d
                                before = entry
                            entry = after
                group[i] = nearest
                if nearest < 0:
                    break
                driven_out = holder[nearest]
                holder[nearest] = i
                distance[nearest] = best
                i = driven_out if driven_out >= start else -1
        for i in range(start, stop):
            b = group[i]
            w = 1.0 / variance[i]
            if b < 0:
                b = blinks
                blinks += 1
                group[i] = b
                weight[b] = 0.0
                mean_x[b] = 0.0
                mean_y[b] = 0.0
            weight[b] += w
            mean_x[b] += (x[i] - mean_x[b]) * w / weight[b]
            mean_y[b] += (y[i] - mean_y[b]) * w / weight[b]
            newest[b] = i
            last[b] = now
            home = int(mean_y[b] / cell) * columns + int(mean_x[b] / cell)
            following[i] = head[home]
            head[home] = i
        start = stop
    return group

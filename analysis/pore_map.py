"""From a movie to a map of nuclear pores: localize, take off drift, link, fit circle and corners.

What is seen isn't all that is there. With calibrated kinetics of a dye that starts ON, and has
n bursts, one every T_cycle, the dark ones can be allowed for: the first burst, before the movie,
bleaches a share 1/n; of the rest some don't burst in the time T of the movie, or are too dim; and
those that do, burst n (1 - exp(-T / (n T_cycle))) times on average.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.drift_cross_correlation import without_drift
from nanophantom.analysis.drift_intersection import intersection_drift
from nanophantom.analysis.linking import link, merge
from nanophantom.analysis.localize import Movie, localize
from nanophantom.analysis.pore_fit import fit_pores, labelling_efficiency, segment_pores

Floats = npt.NDArray[np.float64]
Columns = dict[str, npt.NDArray[Any]]

DIAMETER_NM = 107.0
PAIR_NM = 12.0
COPIES = 4
"""Of Nup96 in a corner: two on either ring (J. V. Thevathasan et al., Nat. Methods 16 (2019) 1045).
"""
WORST_NM = 20.0
"""Localizations less certain than this tell nothing about corners 41 nm apart."""
WIDTHS = (0.6, 1.4)
"""Spots so much narrower or wider than those of beads aren't single molecules."""
MAX_GAP = 1
MIN_BURSTS = 8
FEWEST_CORNERS = 5
"""Pores that show fewer may be overlooked or misfit: the efficiency rests on the others, and on the
chances of corner counts among them."""
DIMMEST = 0.01
"""Share of the bursts seen that lie below what counts as the dimmest of them."""
PER_SEGMENT = 300
"""Localizations in a segment of the drift: its error is a few of theirs over the root of it."""


def find(movie: Movie, settings: Mapping[str, Any]) -> Columns:
    """Map the nuclear pores of a movie.

    Parameters
    ----------
    movie : (n, ny, nx)
    settings
        What `localize` needs, and, to allow for labels that stay dark, frame_period_s and
        dye_kinetics (on_time_s, off_time_s, photons_per_burst, bursts_per_dye).

    Returns
    -------
    dict of columns, one row a pore
        x_nm, y_nm (where it lies on average over the movie), diameter_nm, diameter_error_nm,
        angle_deg, width_nm, background, corners, bursts; labels if the kinetics are known; and, the
        same in every row, efficiency, efficiency_low and efficiency_high (from pores of 5 corners
        or more; none if there is no such pore).
    """
    seen = bursts(movie, settings)
    pores = mapped(seen)
    visible = visibility(seen["photons"], movie.shape[0], settings)
    return pores if visible is None else corrected(pores, visible, median_variance(seen))


def bursts(movie: Movie, settings: Mapping[str, Any]) -> Columns:
    """Return the bursts of a movie, free of drift: see `merge` of the module linking."""
    table = localize(movie, settings)
    width = table["sigma_nm"] / float(settings["psf_sigma_nm"])
    good = (table["uncertainty_nm"] < WORST_NM) & (width > WIDTHS[0]) & (width < WIDTHS[1])
    table = {name: column[good] for name, column in table.items()}
    return linked(table, movie.shape[0])


def linked(table: Mapping[str, npt.NDArray[Any]], n_frames: int) -> Columns:
    """Take the drift off localizations, and merge those of one burst."""
    table = {name: np.asarray(column) for name, column in table.items()}
    frame, x, y = table["frame"], table["x_nm"], table["y_nm"]
    per_segment = max(10, math.ceil(PER_SEGMENT * n_frames / max(len(frame), 1)))
    if len(frame) > 2 * PER_SEGMENT and n_frames > 4 * per_segment:
        drift = intersection_drift(frame, x, y, frames=n_frames, frames_per_segment=per_segment)
        x, y = without_drift(frame, drift, x, y)
    still = {"frame": frame, "x_nm": x, "y_nm": y}
    still |= {name: table[name] for name in ("photons", "uncertainty_nm")}
    group = link(frame, x, y, table["uncertainty_nm"], max_gap=MAX_GAP)
    return merge(group, still)


def mapped(seen: Mapping[str, npt.NDArray[Any]]) -> Columns:
    """Find and fit pores in a table of bursts, and tell the labelling efficiency."""
    x, y = seen["x_nm"], seen["y_nm"]
    pore = segment_pores(x, y, diameter_nm=DIAMETER_NM, min_localizations=MIN_BURSTS)
    pores = fit_pores(x, y, seen["uncertainty_nm"], pore, diameter_nm=DIAMETER_NM, pair_nm=PAIR_NM)
    n = len(pores["x_nm"])
    pores["bursts"] = pores.pop("localizations")
    if not (pores["corners"] >= FEWEST_CORNERS).any():
        return pores
    told = labelling_efficiency(pores["corners"], copies=COPIES, fewest=FEWEST_CORNERS)
    pores["efficiency"] = np.full(n, told.efficiency)
    pores["efficiency_low"], pores["efficiency_high"] = np.full(n, told.low), np.full(n, told.high)
    return pores


@dataclass(frozen=True)
class Visibility:
    """What a movie shows of a dye, on average."""

    seen: float
    """Chance that it shows at all."""
    bursts: float
    """How many bursts it shows."""


def visibility(
    photons: npt.ArrayLike, n_frames: int, settings: Mapping[str, Any]
) -> Visibility | None:
    """Return what the movie shows of a dye that starts ON and blinks; None if it isn't known.

    Parameters
    ----------
    photons : (n,)
        Of the bursts that were seen: the dimmest of them tell what is too dim.
    n_frames : int
    settings
        See `find`.
    """
    known = settings.get("dye_kinetics", {})
    needed = ("on_time_s", "off_time_s", "photons_per_burst", "bursts_per_dye")
    bright = np.asarray(photons, np.float64)
    if any(name not in known for name in needed) or len(bright) == 0:
        return None
    on_s, off_s, mean, n = (float(known[name]) for name in needed)
    duration = n_frames * float(settings.get("frame_period_s", settings.get("exposure_s", 0.0)))
    per_s = 1 / (on_s + off_s)
    # Photons of a burst are exponential.
    enough = math.exp(-float(np.quantile(bright, DIMMEST)) / mean)
    seen, lost = per_s * enough, per_s * (1 - enough) / n
    ever = seen / (seen + lost) * -math.expm1(-(seen + lost) * duration)
    survive = 1 - 1 / n
    return Visibility(survive * ever, survive * enough * n * -math.expm1(-duration * per_s / n))


def median_variance(seen: Mapping[str, npt.NDArray[Any]]) -> float:
    """Return the usual variance of a burst's place, nm^2."""
    return float(np.median(seen["uncertainty_nm"]) ** 2) if len(seen["uncertainty_nm"]) else 1.0


def corrected(pores: Columns, visible: Visibility, variance_nm2: float) -> Columns:
    """Allow for labels that stay dark, and for bursts of one label that share its offset.

    Every burst of a label is off its site by the same linker: the width of a pore beyond the
    errors of localization doesn't average out over the bursts of a label. Numbers of bursts
    that are Poisson distributed with mean m have the mean square m (m + 1), so that width counts
    m + 1 times.
    """
    pores = dict(pores)
    extra = pores["width_nm"] ** 2
    more = (variance_nm2 + (visible.bursts + 1) * extra) / (variance_nm2 + extra)
    pores["diameter_error_nm"] = pores["diameter_error_nm"] * np.sqrt(more)
    pores["labels"] = pores["bursts"] / visible.bursts
    for name in ("efficiency", "efficiency_low", "efficiency_high"):
        if name in pores:
            pores[name] = np.minimum(pores[name] / visible.seen, 1.0)
    return pores

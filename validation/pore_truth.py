"""What is true of nuclear pores in a localization movie, and how well it can be known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

CORNERS = 8
MARGIN_NM = 100.0
"""Pores whose circle comes nearer to the edge of the view aren't wholly in it: spots are wide."""


@dataclass(frozen=True, eq=False)
class TruePores:
    """The pores of a movie, one entry each; places as they lie on average over the movie.

    Attributes
    ----------
    x_nm, y_nm, diameter_nm : (n,)
    angle_deg : (n,)
        Direction of a corner.
    tilted_nm : (n,)
        Diameter seen from the top: the mean over all directions.
    in_view : (n,) bool
        Wholly, with a margin.
    corners_labelled, corners_seen : (n,) int
        Corners with a dye that can fluoresce, and with one that did shine in the movie.
    sites, labels, labels_seen : (n,) int
    diameter_limit_nm, labels_limit : (n,)
        Standard deviations that can't be beaten.
    dyes_x_nm, dyes_y_nm : (m,)
        Dyes that shone, in the same coordinates.
    linker_nm : float
        Root mean square of the labels' distance to their sites along x and y.
    """

    x_nm: Floats
    y_nm: Floats
    diameter_nm: Floats
    angle_deg: Floats
    tilted_nm: Floats
    in_view: Bools
    corners_labelled: Ints
    corners_seen: Ints
    sites: Ints
    labels: Ints
    labels_seen: Ints
    diameter_limit_nm: Floats
    labels_limit: Floats
    dyes_x_nm: Floats
    dyes_y_nm: Floats
    linker_nm: float

    @classmethod
    def of(cls, dataset: Observed) -> TruePores:
        """Read a dataset's truth.

        Raises
        ------
        ValueError
            Its structures aren't nuclear pores.
        """
        pores, sites = dataset.truth("specimen_structures"), dataset.truth("specimen_sites")
        if "ring_distance_nm" not in pores:
            raise ValueError("the structures of this dataset are no nuclear pores")
        view, drift = dataset.truth("view"), dataset.truth("drift")
        shift = np.array([drift["dx_nm"].mean(), drift["dy_nm"].mean()])
        corner = np.array([view["x0_nm"][0], view["y0_nm"][0]])
        x, y = (np.asarray(pores[k], float) for k in ("x_nm", "y_nm"))
        x, y = x - corner[0] + shift[0], y - corner[1] + shift[1]
        diameter = np.asarray(pores["size_nm"], float)
        tilt = np.deg2rad(np.asarray(pores["tilt_deg"], float))
        pixel = float(view["pixel_size_nm"][0])
        ny, nx = dataset.signal("movie", 0, 1).shape[1:]
        edge = np.minimum.reduce([x, y, (nx - 1) * pixel - x, (ny - 1) * pixel - y]) + pixel / 2

        dyes = dataset.truth("dyes")
        bursts = bursts_in_movie(dataset)
        site, shone = np.asarray(dyes["site"]), bursts > 0
        n, owner = len(x), np.asarray(sites["structure"], np.int64)
        part = owner * CORNERS + np.asarray(sites["part"], np.int64)
        off_x = dyes["x_nm"] + corner[0] - sites["x_nm"][site]
        off_y = dyes["y_nm"] + corner[1] - sites["y_nm"][site]
        linker = float(np.sqrt((off_x**2 + off_y**2).mean() / 2)) if len(site) else 0.0
        # Light of all bursts of a dye; the background would only add to this variance.
        sigma = float(dataset.settings["psf_sigma_nm"])
        electrons = float(dataset.settings["camera"]["quantum_efficiency"]) * np.maximum(
            _photons_in_movie(dataset), 1.0
        )
        variance = linker**2 + (sigma**2 + pixel**2 / 12) / electrons
        information = np.bincount(owner[site[shone]], 1 / variance[shone], minlength=n)

        def per_pore(which: Ints) -> Ints:
            return np.bincount(owner[which], minlength=n).astype(np.int64)

        def corners(which: Ints) -> Ints:
            lit = np.bincount(part[which], minlength=n * CORNERS)[: n * CORNERS] > 0
            return np.asarray(lit.reshape(n, CORNERS).sum(axis=1), np.int64)

        labels = per_pore(np.unique(site))
        mean = bursts.mean() if len(bursts) else 1.0
        spread = bursts.std() / max(mean, 1e-9) if len(bursts) else 0.0
        return cls(
            x_nm=x,
            y_nm=y,
            diameter_nm=diameter,
            angle_deg=np.asarray(pores["angle_deg"], float),
            tilted_nm=diameter * (1 + np.cos(tilt)) / 2,
            in_view=edge - diameter / 2 >= MARGIN_NM,
            corners_labelled=corners(site),
            corners_seen=corners(site[shone]),
            sites=per_pore(np.arange(len(owner))),
            labels=labels,
            labels_seen=per_pore(np.unique(site[shone])),
            diameter_limit_nm=2 / np.sqrt(np.maximum(information, 1e-6)),
            labels_limit=spread * np.sqrt(labels),
            dyes_x_nm=np.asarray(dyes["x_nm"])[shone] + shift[0],
            dyes_y_nm=np.asarray(dyes["y_nm"])[shone] + shift[1],
            linker_nm=linker,
        )

    @property
    def copies(self) -> float:
        """Sites in a corner."""
        return float(self.sites.mean()) / CORNERS

    @property
    def efficiency(self) -> float:
        """Share of the copies in view that bear a dye, shining or not."""
        return float(self.labels[self.in_view].sum() / max(self.sites[self.in_view].sum(), 1))

    @property
    def efficiency_limit(self) -> float:
        """Standard error of an efficiency from a count of corners without error."""
        q = 1 - (1 - self.efficiency) ** self.copies
        corners = CORNERS * max(int(self.in_view.sum()), 1)
        slope = (1 - q) ** (1 / self.copies - 1) / self.copies if q < 1 else 0.0
        return float(slope * np.sqrt(q * (1 - q) / corners))


@dataclass(frozen=True)
class Told:
    """A labelling efficiency with its interval, as far as it was quoted."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, eq=False)
class Sighted:
    """Finds beside true pores: find ``hit_found[k]`` is pore ``hit_true[k]``."""

    found: Mapping[str, Floats]
    true: TruePores
    asked: Bools
    hit_found: Ints
    hit_true: Ints
    false: Bools

    def of_hits(self, name: str) -> Floats:
        """Return a column of the finds that are right."""
        return np.asarray(self.found[name][self.hit_found], np.float64)

    @property
    def efficiency(self) -> Told | None:
        """The labelling efficiency that was told."""
        if "efficiency" not in self.found or not len(self.found["efficiency"]):
            return None
        names = ("efficiency", "efficiency_low", "efficiency_high")
        return Told(*(float(self.found[n][0]) for n in names if n in self.found))


def _in_movie(dataset: Observed) -> tuple[Ints, Ints, Floats]:
    """Return dye (row of the table), burst and photons of the stretches in the movie's time."""
    dyes, blinks = dataset.truth("dyes"), dataset.truth("blinks")
    period = float(dataset.settings.get("frame_period_s", dataset.settings["exposure_s"]))
    start, long = np.asarray(blinks["start_s"]), np.asarray(blinks["duration_s"], float)
    inside = np.minimum(start + long, dataset.n_frames * period) - np.maximum(start, 0.0)
    some = inside > 0
    row = np.full(int(np.max(dyes["dye"], initial=-1)) + 1, -1)
    row[dyes["dye"]] = np.arange(len(dyes["dye"]))
    photons = inside[some] * np.asarray(blinks["photons_per_s"], float)[some]
    return row[blinks["dye"][some]], np.asarray(blinks["blink"])[some], photons


def bursts_in_movie(dataset: Observed) -> Ints:
    """Return how often each dye was ON in the movie."""
    row, blink, _ = _in_movie(dataset)
    each = np.unique(np.stack([row, blink]), axis=1)[0]
    return np.bincount(each, minlength=len(dataset.truth("dyes")["dye"])).astype(np.int64)


def _photons_in_movie(dataset: Observed) -> Floats:
    row, _, photons = _in_movie(dataset)
    return np.bincount(row, photons, minlength=len(dataset.truth("dyes")["dye"])).astype(float)

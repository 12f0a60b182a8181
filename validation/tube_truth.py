"""What is true of labelled tubes in a localization movie: axes, and where their dyes sit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.tube_map import Line
from nanophantom.validation.pore_truth import bursts_in_movie

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

STRAIGHT = 0.999
"""Least end-to-end distance of a straight tube, over its length."""


@dataclass(frozen=True, eq=False)
class TrueTubes:
    """The straight tubes of a movie; places as they lie on average over the movie.

    Attributes
    ----------
    ends_x_nm, ends_y_nm : (n, 2)
        Where their axes enter and leave the view.
    length_um, diameter_nm : (n,)
        In view; of the structure.
    dyes_diameter_nm, diameter_limit_nm : (n,)
        Twice the root mean square distance from the axis of the dyes in view, and the standard
        deviation that it has from seeing those that shone from above.
    dyes_per_um, dyes_limit_percent : (n,)
        All dyes in view, and the relative scatter of their number of bursts.
    dye_x_nm, dye_y_nm, dye_tube : (m,)
        Dyes that shone in the movie.
    dye_across_nm, dye_up_nm : (m,)
        Of these, place across the axis and above it.
    sites, labelled_share, dark_share
        Sites in view; share of them with a label, and share without a dye that shone.
    offset_nm, widest_nm
        Of dyes: rms distance to their sites, and the diameter that holds 99 % of them.
    """

    ends_x_nm: Floats
    ends_y_nm: Floats
    length_um: Floats
    diameter_nm: Floats
    dyes_diameter_nm: Floats
    diameter_limit_nm: Floats
    dyes_per_um: Floats
    dyes_limit_percent: Floats
    dye_x_nm: Floats
    dye_y_nm: Floats
    dye_tube: Ints
    dye_across_nm: Floats
    dye_up_nm: Floats
    sites: int
    labelled_share: float
    dark_share: float
    offset_nm: float
    widest_nm: float

    @classmethod
    def of(cls, dataset: Observed) -> TrueTubes:
        """Read a dataset's truth.

        Raises
        ------
        ValueError
            Its structures are no tubes, or not straight.
        """
        tubes, sites = dataset.truth("specimen_structures"), dataset.truth("specimen_sites")
        if "first_protofilament_deg" not in tubes:
            raise ValueError("the structures of this dataset are no microtubules")
        if (tubes["end_to_end_nm"] < STRAIGHT * tubes["size_nm"]).any():
            raise ValueError("the task labelling wants straight tubes: persistence_length_um: null")
        view, drift, dyes = (dataset.truth(name) for name in ("view", "drift", "dyes"))
        shift = np.array([drift["dx_nm"].mean(), drift["dy_nm"].mean()])
        corner = np.array([view["x0_nm"][0], view["y0_nm"][0]])
        pixel = float(view["pixel_size_nm"][0])
        ny, nx = dataset.signal("movie", 0, 1).shape[1:]
        size = ((nx - 1) * pixel, (ny - 1) * pixel)
        x, y = np.asarray(dyes["x_nm"]) + shift[0], np.asarray(dyes["y_nm"]) + shift[1]
        z, site = np.asarray(dyes["z_nm"]), np.asarray(dyes["site"])
        tube = np.asarray(sites["structure"], np.int64)[site]
        seen = (x >= 0) & (x <= size[0]) & (y >= 0) & (y <= size[1])
        bursts = bursts_in_movie(dataset)
        n = len(tubes["x_nm"])
        ends = np.zeros((2, n, 2))
        length, wide, limit, density, scatter = np.zeros((5, n))
        across, up = np.zeros(len(x)), np.zeros(len(x))
        for k in range(n):
            at = [float(tubes[c][k]) - corner[i] + shift[i] for i, c in enumerate(("x_nm", "y_nm"))]
            line = Line(at[0], at[1], math.radians(float(tubes["angle_deg"][k])))
            s = np.array(line.chord_nm(*size))
            ends[:, k] = at[0] + s * math.cos(line.angle), at[1] + s * math.sin(line.angle)
            length[k] = (s[1] - s[0]) / 1000
            mine = tube == k
            across[mine] = line.across(x[mine], y[mine])
            up[mine] = z[mine] - float(tubes["z_nm"][k])
            mine &= seen
            square = across[mine] ** 2 + up[mine] ** 2
            if length[k] == 0 or not mine.any():
                continue
            wide[k] = 2 * math.sqrt(float(square.mean()))
            shone = across[mine & (bursts > 0)] ** 2
            if len(shone):
                # of D = 2 sqrt(2 <u^2>), by the scatter of u^2 over the dyes that shone
                limit[k] = 2 * float(shone.std()) / math.sqrt(len(shone) * 2 * shone.mean())
            density[k] = mine.sum() / length[k]
            told = bursts[mine]
            scatter[k] = 100 * told.std() / max(told.mean(), 1e-9) / math.sqrt(len(told))
        shone = bursts > 0
        site_x = np.asarray(sites["x_nm"]) - corner[0] + shift[0]
        site_y = np.asarray(sites["y_nm"]) - corner[1] + shift[1]
        there = (site_x >= 0) & (site_x <= size[0]) & (site_y >= 0) & (site_y <= size[1])
        labelled, lit = np.zeros((2, len(site_x)), bool)
        labels = dataset.truth("specimen_labels")["site"] if _has_labels(dataset) else site
        labelled[labels], lit[site[shone]] = True, True
        off = np.stack([x - site_x[site], y - site_y[site], z - sites["z_nm"][site]])
        return cls(
            ends_x_nm=ends[0],
            ends_y_nm=ends[1],
            length_um=length,
            diameter_nm=np.asarray(tubes["diameter_nm"], float),
            dyes_diameter_nm=wide,
            diameter_limit_nm=limit,
            dyes_per_um=density,
            dyes_limit_percent=scatter,
            dye_x_nm=x[shone],
            dye_y_nm=y[shone],
            dye_tube=tube[shone],
            dye_across_nm=across[shone],
            dye_up_nm=up[shone],
            sites=int(there.sum()),
            labelled_share=float(labelled[there].mean()) if there.any() else 0.0,
            dark_share=float(1 - lit[there].mean()) if there.any() else 1.0,
            offset_nm=float(np.sqrt((off**2).sum(axis=0).mean())) if len(site) else 0.0,
            widest_nm=2 * float(np.quantile(np.hypot(across, up), 0.99)) if len(site) else 0.0,
        )


def _has_labels(dataset: Observed) -> bool:
    return "specimen_labels" in dataset.truth_tables


@dataclass(frozen=True, eq=False)
class Tubes:
    """Axes beside true tubes: find ``hit_found[k]`` is tube ``hit_true[k]``, ``off_nm[k]`` away."""

    found: Mapping[str, Floats]
    true: TrueTubes
    asked: Bools
    hit_found: Ints
    hit_true: Ints
    off_nm: Floats
    false: Bools

    def of_hits(self, name: str) -> Floats:
        """Return a column of the finds that are right."""
        return np.asarray(self.found[name][self.hit_found], np.float64)

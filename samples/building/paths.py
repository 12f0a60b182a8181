"""Smooth paths in three dimensions, and what is wound around them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from nanophantom.samples.building.labelled import FieldSample, refuse_too_many
from nanophantom.simcore.atoms import Floats, Ints
from nanophantom.simcore.emitters import Sites
from nanophantom.simcore.fields import Table
from nanophantom.simcore.runs import Run

STEP_NM = 10.0
"""Points of a path are this far apart, straight lines between them."""
STEEPEST = 0.15
"""Largest standard deviation of the slope dz / ds: 6.7 of them still make less than 1."""
MOST_POINTS = 5_000_000
"""More points of paths than this are refused."""
_KEPT = 5  # every so many points stand in the truth


class PathSample(FieldSample):
    """What samples of filaments share: how many, how long, how stiff, how high.

    Seen from above a path is a worm-like chain in two dimensions: between neighbouring steps ds it
    turns by a normally distributed angle of variance ds / P, so that <cos theta(s)> = exp(-s / 2P)
    (see `nanophantom.samples.filaments`). Its height is a stationary Gaussian process with the
    covariance sd^2 (1 + s / l) exp(-s / l), whose slope is continuous.
    """

    number: int = Field(default=12, ge=1, le=10_000)
    """How many; their middles lie at random places in the field, and what is beyond it is left
    out."""
    length_um: float = Field(default=15.0, gt=0, le=1000)
    """Length along each of them."""
    persistence_length_um: float | None = Field(default=30.0, gt=0.1, le=1e6)
    """How stiff they are in the plane; none for straight ones."""
    height_nm: float = Field(default=200.0, ge=-1e6, le=1e6)
    """Mean height of their axes above the coverslip."""
    height_spread_nm: float = Field(default=40.0, ge=0, le=1e5)
    """Standard deviation of the heights; 0 for paths in one plane."""
    height_length_um: float = Field(default=2.0, gt=0, le=1000)
    """Length l along a path on which its height is forgotten."""

    @model_validator(mode="after")
    def _not_too_steep(self) -> Self:
        most = STEEPEST * 1000 * self.height_length_um
        if self.height_spread_nm > most:
            raise ValueError(
                f"height_spread_nm: {self.height_spread_nm:g} nm makes paths too steep; give "
                f"{STEEPEST:g} of height_length_um at most, {most:g} nm"
            )
        return self

    def paths(self, run: Run) -> Paths:
        """Draw "paths" (bends), "rotations" (first directions), "heights", "places" (middles)."""
        n, length = self.number, 1000 * self.length_um
        steps = math.ceil(length / STEP_NM)
        if n * steps > MOST_POINTS:
            raise ValueError(
                f"number: {n} paths of {self.length_um:g} um together are longer than "
                f"{MOST_POINTS * STEP_NM / 1e6:g} mm; ask for fewer or shorter ones"
            )
        ds = length / steps
        bends = run.rng("paths").standard_normal((n, steps))
        bends[:, 0] = 0.0
        stiff = np.inf if self.persistence_length_um is None else 1000 * self.persistence_length_um
        heading = 2 * np.pi * run.rng("rotations").random((n, 1))
        heading = heading + np.sqrt(ds / stiff) * np.cumsum(bends, axis=1)
        z = smooth_heights(
            n, steps, ds, self.height_spread_nm, 1000 * self.height_length_um, run.rng("heights")
        )
        across = np.sqrt(ds**2 - np.diff(z, axis=1) ** 2)
        points = np.zeros((n, steps + 1, 3))
        np.cumsum(across * np.cos(heading), axis=1, out=points[:, 1:, 0])
        np.cumsum(across * np.sin(heading), axis=1, out=points[:, 1:, 1])
        middles = self.field_nm * (run.rng("places").random((n, 1, 2)) - 0.5)
        points[:, :, :2] += middles - points[:, :, :2].mean(axis=1, keepdims=True)
        points[:, :, 2] = self.height_nm + z
        return Paths(points, ds)


def smooth_heights(
    n: int, steps: int, ds_nm: float, sd_nm: float, length_nm: float, rng: np.random.Generator
) -> Floats:
    """Return heights along n paths, shape (n, steps + 1), with a continuous slope.

    A stationary Gaussian process of covariance sd^2 (1 + s / l) exp(-s / l) together with its
    slope is a Markov process of two dimensions, which is stepped exactly: J. Hartikainen &
    S. Särkkä, IEEE MLSP (2010) 379.
    """
    state = rng.standard_normal((2, n)) * np.array([[sd_nm], [sd_nm / length_nm]])
    heights = np.empty((steps + 1, n))
    heights[0] = state[0]
    h = ds_nm / length_nm
    step = np.exp(-h) * np.array([[1 + h, ds_nm], [-h / length_nm, 1 - h]])
    stationary = np.diag([sd_nm**2, (sd_nm / length_nm) ** 2])
    lost = stationary - step @ stationary @ step.T
    # slopes and heights differ by orders of magnitude: factorize what has no unit
    unit = np.array([1.0, 1.0 / length_nm])
    values, vectors = np.linalg.eigh(lost / np.outer(unit, unit))
    kick = unit[:, None] * vectors * np.sqrt(np.maximum(values, 0.0))
    noise = rng.standard_normal((steps, 2, n))
    for i in range(steps):
        state = step @ state + kick @ noise[i]
        heights[i + 1] = state[0]
    return np.ascontiguousarray(heights.T)


@dataclass(frozen=True, eq=False)
class Paths:
    """Paths of equal length.

    Attributes
    ----------
    points_nm : (n, steps + 1, 3)
        Points along each, evenly spaced.
    step_nm : float
        Their distance.
    """

    points_nm: Floats
    step_nm: float

    @property
    def length_nm(self) -> float:
        """Length along each."""
        return float(self.step_nm * (self.points_nm.shape[1] - 1))

    def around(
        self, path: int, s_nm: Floats, angle: Floats, radius_nm: float
    ) -> tuple[Floats, Floats]:
        """Return places at a distance from a path.

        Parameters
        ----------
        path
            Which one.
        s_nm
            Where along it, any shape.
        angle
            To which side (rad): 0 is in the plane, to the right of the path, pi / 2 is above.
        radius_nm
            How far from it.

        Returns
        -------
        positions_nm, outward : ndarray
            The places and the unit vectors to them from the path, (..., 3).
        """
        points = self.points_nm[path]
        tangents = np.gradient(points, axis=0)
        i = np.minimum((s_nm / self.step_nm).astype(np.int64), len(points) - 2)
        share = (s_nm / self.step_nm - i)[..., None]
        middle = points[i] + share * (points[i + 1] - points[i])
        along = tangents[i] + share * (tangents[i + 1] - tangents[i])
        along /= np.sqrt((along**2).sum(axis=-1, keepdims=True))
        side = np.stack([-along[..., 1], along[..., 0], np.zeros(along.shape[:-1])], axis=-1)
        side /= np.sqrt((side**2).sum(axis=-1, keepdims=True))
        other = np.cross(along, side)
        outward = np.cos(angle)[..., None] * side + np.sin(angle)[..., None] * other
        return middle + radius_nm * outward, outward

    def wound(
        self, s_nm: Floats, angle: Floats, part: Ints, radius_nm: float, sample: FieldSample
    ) -> tuple[Sites, Floats, Table]:
        """Wind one pattern of sites around every path and keep those in a sample's field.

        Parameters
        ----------
        s_nm, part : (m,)
            Where along a path each site of the pattern lies, and which part it is.
        angle : (n, m)
            To which side it lies of each path.
        radius_nm
            How far from it.
        sample
            Whose square is filled.

        Returns
        -------
        sites, outward, columns
            The sites, unit vectors away from the path, and where along it each lies.
        """
        n = len(self.points_nm)
        refuse_too_many(float(n) * len(s_nm), "number")
        places, outward, s, parts, owner = [], [], [], [], []
        for path in range(n):
            place, away = self.around(path, s_nm, angle[path], radius_nm)
            kept = sample.inside(place)
            places.append(place[kept])
            outward.append(away[kept])
            s.append(s_nm[kept])
            parts.append(part[kept])
            owner.append(np.full(int(kept.sum()), path, np.int32))
        sites = Sites(np.concatenate(places), np.concatenate(owner), np.concatenate(parts))
        return sites, np.concatenate(outward), {"s_nm": np.concatenate(s)}

    def rows(self) -> Table:
        """Return what the structures' table says of each path: its middle, direction, length."""
        points = self.points_nm
        middle = points[:, points.shape[1] // 2]
        end_to_end = points[:, -1] - points[:, 0]
        n = len(points)
        return {
            "x_nm": middle[:, 0],
            "y_nm": middle[:, 1],
            "z_nm": middle[:, 2],
            "angle_deg": np.rad2deg(np.arctan2(end_to_end[:, 1], end_to_end[:, 0])) % 360,
            "size_nm": np.full(n, self.length_nm),
            "end_to_end_nm": np.sqrt((end_to_end**2).sum(axis=1)),
        }

    def table(self) -> Table:
        """Return every fifth point of the paths, and the last ones, as a truth table."""
        n, points, _ = self.points_nm.shape
        kept = np.unique(np.append(np.arange(0, points, _KEPT), points - 1))
        x, y, z = self.points_nm[:, kept].reshape(-1, 3).T
        return {
            "structure": np.repeat(np.arange(n), len(kept)),
            "s_nm": np.tile(self.step_nm * kept, n),
            "x_nm": x,
            "y_nm": y,
            "z_nm": z,
        }

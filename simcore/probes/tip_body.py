"""The exact shape of a tip that has changed, and what volume and area lie how low on it.

A body is the height of a tip's surface over its fresh apex, in the frame of the fresh tip. A plane
takes away what lies below it, a particle adds its lower half; nothing is sampled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.optimize

from nanophantom.simcore.probes.tip_shape import ProbeTip

Floats = npt.NDArray[np.float64]

SAMPLES = 60_000
"""Points of a body that its volumes and sections are taken from."""


class Point(NamedTuple):
    """A point of a tip, in the frame of the fresh one: its apex is 0, heights count into it."""

    x_nm: float
    y_nm: float
    z_nm: float


class Plane(NamedTuple):
    """Nothing of the tip is left below ``height + slope_x x + slope_y y``."""

    height_nm: float
    slope_x: float = 0.0
    slope_y: float = 0.0

    def change(self, heights: Floats, x: Floats, y: Floats) -> Floats:
        """Return the heights afterwards."""
        return np.maximum(heights, self.height_nm + self.slope_x * x + self.slope_y * y)


class Particle(NamedTuple):
    """A sphere that sticks to the tip; its upper half is hidden in the tip's own shadow."""

    x_nm: float
    y_nm: float
    z_nm: float
    radius_nm: float

    def change(self, heights: Floats, x: Floats, y: Floats) -> Floats:
        """Return the heights afterwards."""
        inside = self.radius_nm**2 - (x - self.x_nm) ** 2 - (y - self.y_nm) ** 2
        lower = np.where(inside >= 0.0, self.z_nm - np.sqrt(np.maximum(inside, 0.0)), np.inf)
        return np.minimum(heights, lower)


@dataclass(frozen=True, eq=False)
class Body:
    """A tip and all that changed it, in order; heights over the fresh apex, in its frame."""

    tip: ProbeTip
    changes: tuple[Plane | Particle, ...] = ()

    def with_change(self, change: Plane | Particle) -> Body:
        """Return the body after one more change."""
        return Body(self.tip, (*self.changes, change))

    def heights_nm(self, x_nm: Floats, y_nm: Floats) -> Floats:
        """Return the height of the tip's surface over the fresh apex; inf where there is none."""
        heights = -self.tip.profile_nm(x_nm, y_nm)
        for change in self.changes:
            heights = change.change(heights, x_nm, y_nm)
        return heights

    def reach_nm(self, x_nm: float, y_nm: float, top_nm: float) -> tuple[float, float]:
        """Return how far (y, x) from a place on the tip all that lies below a height may be."""
        tip = self.tip.reach_nm(max(top_nm, 0.0))
        discs = [(0.0, 0.0, tip)]
        discs += [(c.x_nm, c.y_nm, c.radius_nm) for c in self.changes if isinstance(c, Particle)]
        return (
            max(abs(y - y_nm) + r for _, y, r in discs),
            max(abs(x - x_nm) + r for x, _, r in discs),
        )

    def lowest(self, known: Point, below_nm: float) -> Point:
        """Return the lowest point of the body, found by zooming in on it.

        Parameters
        ----------
        known
            Stays the lowest point where no other is lower: on a flat, say.
        below_nm
            The lowest point is not above this height over the fresh apex.
        """
        x = y = 0.0
        half = max(self.reach_nm(x, y, below_nm))
        while half > 1e-2:
            steps = np.linspace(-half, half, 101)
            heights = self.heights_nm(x + steps[None, :], y + steps[:, None])
            row, col = np.unravel_index(heights.argmin(), heights.shape)
            x, y, half = x + float(steps[col]), y + float(steps[row]), half / 10.0
        # A plane's edge is a valley with a kink along it, which a simplex still descends.
        (x, y) = scipy.optimize.minimize(
            lambda u: self.height_at(u[0], u[1]),
            (x, y),
            method="Nelder-Mead",
            options={
                "xatol": 1e-8,
                "fatol": 1e-12,
                "initial_simplex": [(x, y), (x + 1e-2, y), (x, y + 1e-2)],
            },
        ).x
        found, old = self.height_at(x, y), self.height_at(known.x_nm, known.y_nm)
        if old <= found + 1e-6:
            return Point(known.x_nm, known.y_nm, old)
        return Point(x, y, found)

    def height_at(self, x_nm: float, y_nm: float) -> float:
        """Return the height of the tip's surface over the fresh apex at one place."""
        return float(self.heights_nm(np.array(x_nm), np.array(y_nm)))


@dataclass(frozen=True, eq=False)
class Sections:
    """Volumes and areas of a body from its lowest point upwards, by quadrature around that point.

    The points lie on a spiral with the golden angle between neighbours: their distances resolve
    what is round about the apex, their directions are spread evenly (H. Vogel, Math. Biosci. 44
    (1979) 179). Each stands for a ring of its own.

    Attributes
    ----------
    rise_nm, area_nm2, volume_nm3
        Of the points in the order of their heights: the height over the lowest, the area of the
        points up to it and the volume below it.
    """

    rise_nm: Floats
    area_nm2: Floats
    volume_nm3: Floats

    @classmethod
    def of(cls, body: Body, apex: Point, rise_nm: float) -> Sections:
        """Return those of a body up to a height over its lowest point."""
        x, y, z = apex
        rim = math.hypot(*body.reach_nm(x, y, z + rise_nm)) * np.linspace(0, 1, SAMPLES + 1) ** 1.5
        r = np.sqrt(0.5 * (rim[1:] ** 2 + rim[:-1] ** 2))
        angle = np.arange(SAMPLES) * (math.pi * (3.0 - math.sqrt(5.0)))
        rise = np.maximum(body.heights_nm(x + r * np.cos(angle), y + r * np.sin(angle)) - z, 0.0)
        order = np.argsort(rise)[: np.count_nonzero(rise < np.inf)]
        rise, ring = rise[order], (math.pi * np.diff(rim**2))[order]
        area = np.cumsum(ring)
        volume = np.maximum.accumulate(rise * area - np.cumsum(rise * ring))
        return cls(rise, area, volume)

    @classmethod
    def enough(cls, body: Body, apex: Point, lost_nm3: float, more_nm: float) -> Sections:
        """Return those up to some height beyond where wear will have taken a volume.

        Raises
        ------
        ValueError
            A tip whose map ends has less than that.
        """
        rise = more_nm
        while True:
            sections = cls.of(body, apex, rise)
            if lost_nm3 <= sections.volume(rise - more_nm):
                return sections
            if sections.rise_nm[-1] < rise:  # the map of a measured tip ends below
                raise ValueError(
                    f"the tip loses {lost_nm3:.4g} nm^3, all of its map and more; lower "
                    "wear_coefficient or the load, or give a taller tip"
                )
            rise *= 2.0

    def area(self, rise_nm: npt.ArrayLike) -> Floats:
        """Return the area of the section at a height over the lowest point."""
        found = np.searchsorted(self.rise_nm, rise_nm, side="right")
        return np.asarray(np.concatenate([[0.0], self.area_nm2])[found])

    def volume(self, rise_nm: npt.ArrayLike) -> Floats:
        """Return the volume below a height over the lowest point."""
        rise = np.asarray(rise_nm, np.float64)
        beyond = np.maximum(rise - self.rise_nm[-1], 0.0) * self.area_nm2[-1]
        return np.asarray(np.interp(rise, self.rise_nm, self.volume_nm3) + beyond)

    def rise(self, volume_nm3: npt.ArrayLike) -> Floats:
        """Return the height over the lowest point below which there is a volume."""
        volume = np.asarray(volume_nm3, np.float64)
        found = np.interp(volume, self.volume_nm3, self.rise_nm)
        return np.asarray(np.where(volume > 0.0, found, 0.0))

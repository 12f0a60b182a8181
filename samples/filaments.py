"""Filaments that lie on a support, such as DNA on mica: worm-like chains in two dimensions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

import numba
import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from nanophantom.samples._family import Sample
from nanophantom.samples.building.crossings import crossings
from nanophantom.samples.building.rough_support import Roughness, RoughSupport
from nanophantom.simcore.atoms import Floats, Ints, Window
from nanophantom.simcore.fields import Table
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import Specimen, sample_points
from nanophantom.simcore.surfaces import Material, Surface

MOST_POINTS = 2_000_000
"""Filaments of more points together are refused."""
LEVELS, LEVELS_AN_OCTAVE = 9, 4
"""Thicknesses that are told apart: from two strands on each other, by a fourth root of 2 each, down
to half a strand, the height of its flanks. What is thinner counts as support."""


class Filaments(Sample):
    """Worm-like chains that came to rest on a support, where they cross each other.

    The direction of a chain that was free to move in the plane is forgotten as
    <cos theta(s)> = exp(-s / 2P), P the persistence length in space: C. Rivetti, M. Guthold &
    C. Bustamante, J. Mol. Biol. 264 (1996) 919, who find 53 nm for DNA on mica. The angle between
    neighbouring steps ds is drawn from a normal distribution of variance ds / P.

    The cross-section of a filament is an ellipse that rests on the support, its ends are rounded
    off, and of what overlaps the highest counts. Where two strands cross, the later one climbs
    over the earlier one: its axis is raised by a filament's whole height there and comes down as
    cos^2 on both sides. What was drawn fills a square around the origin, which repeats itself.

    A probe that presses on a soft filament feels the hard support through it. So the material at a
    place is a layer as thick as the place is high over the support, in levels of 19 %; more than
    two strands on each other count as two.
    """

    kind: Literal["filaments"] = "filaments"
    number: int = Field(default=20, ge=1, le=100_000)
    """How many there are in the square that repeats itself."""
    contour_length_nm: float = Field(default=340.0, gt=0, le=1e5)
    """Length along each of them; B-DNA has 0.34 nm a base pair."""
    persistence_length_nm: float = Field(default=53.0, ge=1, le=1e6)
    """How stiff they are, in space; in the plane directions are kept twice as long."""
    diameter_nm: float = Field(default=2.0, gt=0, le=100)
    """Width of the cross-section; that of B-DNA is 2 nm."""
    height_nm: float | None = Field(default=None, gt=0, le=100)
    """Height of the cross-section, by default the diameter; 0.5 to 1 nm is often seen of DNA."""
    climb_nm: float = Field(default=8.0, gt=0, le=1000)
    """Length on which the upper strand of a crossing rises, and on which it comes down."""
    step_nm: float = Field(default=1.0, gt=0, le=100)
    """Largest distance of neighbouring points of a filament, which straight lines join."""
    period_nm: float = Field(default=1000.0, gt=0, le=1e5)
    """Edge of the square that repeats itself; a view should be smaller."""
    material: Material = Material(name="DNA", modulus_gpa=0.35, poisson_ratio=0.4)
    """What they are made of; DNA's stretch modulus, 1.1 nN over a disc of 2 nm, makes 0.35 GPa:
    S. B. Smith, Y. Cui & C. Bustamante, Science 271 (1996) 795. Its thickness_nm stays out: it is
    that of each place."""
    support: Material = Material(name="mica", modulus_gpa=58.6, poisson_ratio=0.25)
    """What they lie on; muscovite's stiffness across its sheets, C33 = 58.6 GPa: M. T. Vaughan
    & S. Guggenheim, J. Geophys. Res. 91 (1986) 4657."""
    roughness: Roughness = Roughness(sq_nm=0.05)
    """Heights of the support, which the filaments follow."""

    @model_validator(mode="after")
    def _fine_enough(self) -> Self:
        if self.step_nm > self.persistence_length_nm / 5:
            raise ValueError(
                f"step_nm: {self.step_nm:g} nm is too coarse for the bends of a filament; give "
                f"a fifth of persistence_length_nm at most, {self.persistence_length_nm / 5:g}"
            )
        if self.number * (self.steps + 1) > MOST_POINTS:
            raise ValueError(
                f"number: {self.number} filaments of {self.steps + 1} points are more than "
                f"{MOST_POINTS:,} points together; ask for fewer or shorter ones"
            )
        if self.period_nm < 4 * max(self.diameter_nm, self.contour_length_nm / self.steps):
            raise ValueError(
                f"period_nm: {self.period_nm:g} nm is too small for filaments of a diameter of "
                f"{self.diameter_nm:g} nm; give four times that at least"
            )
        return self

    @model_validator(mode="after")
    def _thickness_is_local(self) -> Self:
        if self.material.thickness_nm is not None:
            raise ValueError(
                "material.thickness_nm: how thick filaments are follows from height_nm and from "
                "the place; leave it out"
            )
        return self

    @classmethod
    def small(cls) -> Self:
        """Return three short ones."""
        return cls(number=3, contour_length_nm=60.0, period_nm=200.0)

    @property
    def steps(self) -> int:
        """Number of straight pieces of each filament."""
        return math.ceil(self.contour_length_nm / self.step_nm)

    def make(self, run: Run) -> FilamentSpecimen:
        """Draw the chains, let them lie down on the support and on each other."""
        support = RoughSupport.draw(self.roughness, self.period_nm, run.rng("support"))
        chains = worm_like_chains(
            self.number,
            self.steps,
            self.contour_length_nm,
            self.persistence_length_nm,
            run.rng("filaments"),
        )
        middles = self.period_nm * (run.rng("places").random((self.number, 1, 2)) - 0.5)
        chains += middles - chains.mean(axis=1, keepdims=True)
        x, y = chains.reshape(-1, 2).T
        height = self.height_nm if self.height_nm is not None else self.diameter_nm
        ds = self.contour_length_nm / self.steps
        upper, lower, share_upper, share_lower = crossings(x, y, self.steps + 1, self.period_nm)
        climbed = _climbs(upper + share_upper, self.steps + 1, len(x), self.climb_nm / ds)
        return FilamentSpecimen(
            recipe=self,
            support=support,
            x_nm=x,
            y_nm=y,
            bottom_nm=support.heights_at(x, y) + height * climbed,
            height_nm=height,
            crossed=(upper, lower, share_upper, share_lower),
        )


@dataclass(frozen=True, eq=False)
class FilamentSpecimen(Specimen):
    """Filaments on a support.

    Attributes
    ----------
    x_nm, y_nm, bottom_nm
        Points of the filaments, one filament after the other, and how high their lower side lies
        there; shape (number * points of one,).
    height_nm
        Of the cross-section.
    crossed
        Pieces (by their first point) that lie above and below at each crossing, and how far along
        them, 0 to 1, the crossing lies.
    """

    recipe: Filaments
    support: RoughSupport
    x_nm: Floats
    y_nm: Floats
    bottom_nm: Floats
    height_nm: float
    crossed: tuple[Ints, Ints, Floats, Floats]

    def surface_within(self, window: Window, shape: tuple[int, int]) -> Surface:
        """Return the surface sampled over a window, shape (ny, nx)."""
        x, y = sample_points(window, shape)
        support = self.support.heights(x, y)
        heights = support.copy()
        on_top = _lay(
            heights,
            x,
            y,
            self.x_nm,
            self.y_nm,
            self.bottom_nm,
            self.recipe.steps + 1,
            self.recipe.diameter_nm / 2,
            self.height_nm,
            self.recipe.period_nm,
        )
        filaments = on_top > 0
        thinner = 2 * self.height_nm / (heights - support)[filaments]
        level = np.maximum(np.rint(LEVELS_AN_OCTAVE * np.log2(thinner)), 0)
        material = np.zeros(shape, np.uint8)
        material[filaments] = np.where(level < LEVELS, level + 1, 0)
        return Surface(window, heights, material, (self.recipe.support, *self.layers))

    @property
    def layers(self) -> tuple[Material, ...]:
        """Return the filaments' material as layers, from that of two strands down."""
        told = self.recipe.material.model_dump()
        thicknesses = 2 * self.height_nm * 2.0 ** (-np.arange(LEVELS) / LEVELS_AN_OCTAVE)
        return tuple(
            Material(**told | {"name": f"{told['name']}, {h:.2g} nm", "thickness_nm": float(h)})
            for h in thicknesses
        )

    def truth(self) -> Mapping[str, Table]:
        """Return each filament, its points, the crossings and the support, of one square."""
        recipe = self.recipe
        points = recipe.steps + 1
        x, y = self.x_nm.reshape(-1, points), self.y_nm.reshape(-1, points)
        s = recipe.contour_length_nm / recipe.steps * np.arange(points)
        upper, lower, share_upper, share_lower = self.crossed
        ds = recipe.contour_length_nm / recipe.steps
        return {
            "filaments": {
                "filament": np.arange(recipe.number),
                "x_nm": x.mean(axis=1),
                "y_nm": y.mean(axis=1),
                "contour_length_nm": np.full(recipe.number, recipe.contour_length_nm),
                "end_to_end_nm": np.hypot(x[:, -1] - x[:, 0], y[:, -1] - y[:, 0]),
                "persistence_length_nm": np.full(recipe.number, recipe.persistence_length_nm),
                "diameter_nm": np.full(recipe.number, recipe.diameter_nm),
                "height_nm": np.full(recipe.number, self.height_nm),
            },
            "filament_points": {
                "filament": np.repeat(np.arange(recipe.number), points),
                "s_nm": np.tile(s, recipe.number),
                "x_nm": self.x_nm,
                "y_nm": self.y_nm,
                "z_top_nm": self.bottom_nm + self.height_nm,
            },
            "crossings": {
                "x_nm": _between(self.x_nm, upper, share_upper),
                "y_nm": _between(self.y_nm, upper, share_upper),
                "upper_filament": upper // points,
                "upper_s_nm": ds * (upper % points + share_upper),
                "lower_filament": lower // points,
                "lower_s_nm": ds * (lower % points + share_lower),
            },
            "support": self.support.table(),
        }

    @property
    def notes(self) -> tuple[str, ...]:
        """Say that the surface repeats itself."""
        return (f"Filaments and support repeat themselves every {self.recipe.period_nm:g} nm.",)


def worm_like_chains(
    number: int,
    steps: int,
    contour_length_nm: float,
    persistence_length_nm: float,
    rng: np.random.Generator,
) -> Floats:
    """Return worm-like chains in equilibrium in the plane, shape (number, steps + 1, 2).

    All start at the origin, each in a random direction. The angles between steps ds are normal of
    variance ds / P, so that <cos theta(s)> = exp(-s / 2P) exactly.
    """
    ds = contour_length_nm / steps
    first = 2 * np.pi * rng.random((number, 1))
    bends = np.sqrt(ds / persistence_length_nm) * rng.standard_normal((number, steps - 1))
    direction = np.cumsum(np.concatenate([first, bends], axis=1), axis=1)
    chains = np.zeros((number, steps + 1, 2))
    chains[:, 1:, 0] = ds * np.cumsum(np.cos(direction), axis=1)
    chains[:, 1:, 1] = ds * np.cumsum(np.sin(direction), axis=1)
    return chains


@numba.njit(cache=True)
def _climbs(places: Floats, points: int, n: int, length: float) -> Floats:
    """Return by what share of a filament's height each point is raised, shape (n,).

    Parameters
    ----------
    places
        Where strands climb, in points.
    points, n
        How many points make one filament, and all of them.
    length
        Over how many points they rise.
    """
    raised = np.zeros(n)
    for place in places:
        filament = int(place) // points
        first = max(filament * points, int(np.ceil(place - length)))
        last = min((filament + 1) * points - 1, int(np.floor(place + length)))
        for i in range(first, last + 1):
            share = np.cos(np.pi / 2 * (i - place) / length) ** 2
            raised[i] = max(raised[i], share)
    return raised


@numba.njit(cache=True, nogil=True)
def _lay(
    heights: Floats,
    columns: Floats,
    rows: Floats,
    x: Floats,
    y: Floats,
    bottom: Floats,
    points: int,
    radius: float,
    height: float,
    period: float,
) -> npt.NDArray[np.uint8]:
    """Raise a surface, in place, to the filaments; return where they are on top, shape (ny, nx).

    A place at a distance rho from the nearest point of a piece is raised to
    bottom + height / 2 (1 + sqrt(1 - rho^2 / radius^2)).
    """
    on_top = np.zeros(heights.shape, np.uint8)
    ny, nx = heights.shape
    dx = columns[1] - columns[0] if nx > 1 else 1.0
    dy = rows[1] - rows[0] if ny > 1 else 1.0
    for i in range(len(x) - 1):
        if i % points == points - 1:
            continue
        ax, ay, climb = x[i + 1] - x[i], y[i + 1] - y[i], bottom[i + 1] - bottom[i]
        squared = ax * ax + ay * ay
        left, right = min(x[i], x[i + 1]) - radius, max(x[i], x[i + 1]) + radius
        upper, lower = min(y[i], y[i + 1]) - radius, max(y[i], y[i + 1]) + radius
        for ty in range(
            int(np.ceil((rows[0] - lower) / period)), int(np.floor((rows[-1] - upper) / period)) + 1
        ):
            first_row = max(0, int(np.floor((upper + ty * period - rows[0]) / dy)))
            last_row = min(ny - 1, int(np.ceil((lower + ty * period - rows[0]) / dy)))
            for tx in range(
                int(np.ceil((columns[0] - right) / period)),
                int(np.floor((columns[-1] - left) / period)) + 1,
            ):
                first = max(0, int(np.floor((left + tx * period - columns[0]) / dx)))
                last = min(nx - 1, int(np.ceil((right + tx * period - columns[0]) / dx)))
                for r in range(first_row, last_row + 1):
                    py = rows[r] - ty * period - y[i]
                    for c in range(first, last + 1):
                        px = columns[c] - tx * period - x[i]
                        along = min(1.0, max(0.0, (px * ax + py * ay) / squared))
                        rho2 = (px - along * ax) ** 2 + (py - along * ay) ** 2
                        if rho2 > radius * radius:
                            continue
                        z = bottom[i] + along * climb
                        z += 0.5 * height * (1 + np.sqrt(1 - rho2 / (radius * radius)))
                        if z > heights[r, c]:
                            heights[r, c] = z
                            on_top[r, c] = 1
    return on_top


def _between(values: Floats, piece: Ints, share: Floats) -> Floats:
    return np.asarray(values[piece] + share * (values[piece + 1] - values[piece]))

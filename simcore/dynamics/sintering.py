"""Two particles in contact sinter: atoms travel from their far sides into the neck."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator
from scipy.spatial import cKDTree

from nanophantom.simcore.atoms import Atoms
from nanophantom.simcore.dose import Ledger
from nanophantom.simcore.dynamics.hopping import neighbour_steps
from nanophantom.simcore.fields import Table
from nanophantom.simcore.history import Moves
from nanophantom.simcore.models import Model
from nanophantom.simcore.streams import numbers_of_places

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TOUCHING = 1.5
"""Particles whose nearest atoms are farther apart than so many bonds don't touch."""
NEIGHBOURS = 1.2
"""Neighbours are closer than so many bonds."""
ROOM = 0.8
"""A site is free if no atom is nearer than so many bonds."""
BETWEEN = 0.75
"""A site lies between the particles if both have an atom in line with it, to so many bonds."""
SCATTER = 0.25
"""Atoms arrive when the neck is as wide as their site lies out, to so many bonds."""
MOST_MOVES = 20_000


class Sintering(Model):
    """Two particles that touch grow a neck of radius x(t) = R (t / tau)^(1/n).

    The law is that of G. C. Kuczynski, Trans. AIME 185 (1949) 169, for two spheres of radius R;
    of unequal particles, 1 / R is the mean of theirs. Atoms with the fewest neighbours leave the
    far sides and settle in the crevice between the particles, on free sites of the lattice of
    that particle on whose side of the contact they lie, from the axis outwards as the law says.
    """

    process: Literal["sintering"] = "sintering"
    groups: tuple[str, str] = ("particle 1", "particle 2")
    """Names of the parts that sinter."""
    time_s: float = Field(gt=0)
    """Time tau after which the neck would be as wide as the particles, x = R."""
    exponent: float = Field(default=7.0, ge=2, le=12, json_schema_extra={"dimensionless": True})
    """Exponent n of the law; by surface diffusion 7, by volume diffusion 5, by evaporation and
    condensation 3, by viscous flow 2 (Kuczynski)."""
    initial_neck: float | None = Field(
        default=None, ge=0, lt=1, json_schema_extra={"dimensionless": True}
    )
    """Share x / R that the neck has reached when the first frame begins; by default that of the
    contact as it is. A neck narrower than the contact doesn't show until it has outgrown it."""

    @model_validator(mode="after")
    def _are_two(self) -> Sintering:
        if self.groups[0] == self.groups[1]:
            raise ValueError(f"groups: {self.groups[0]!r} can't sinter with itself; name two parts")
        return self

    def play(self, atoms: Atoms, ledger: Ledger, rng: np.random.Generator) -> Moves:
        """Move atoms into the neck, one by one.

        Raises
        ------
        ValueError
            A part isn't in view, the parts don't touch, or the neck grows as wide as they are.
        """
        key = rng.integers(0, 2**64, dtype=np.uint64)
        contact = Contact.of(atoms, self.groups)
        touching = contact.neck_nm(atoms.positions_nm[contact.atoms]) / contact.particle_nm
        if touching >= 1:
            raise ValueError(
                f"sample.processes: {self.groups[0]!r} and {self.groups[1]!r} touch over their "
                "whole width already; choose parts that touch at a point or a facet"
            )
        start = touching if self.initial_neck is None else self.initial_neck
        law = Growth(self.time_s, self.exponent, contact.particle_nm, start)
        end = float(ledger.end_s[-1])
        widest = float(law.radius_nm(np.array(end)))
        if widest > contact.particle_nm:
            raise ValueError(
                f"sample.processes: after {end:.3g} s the neck would be wider than the particles, "
                f"beyond the law; make time_s longer than {self.time_s:g} s"
            )
        # with those that may take the room of others, so that a longer movie begins like a shorter
        outermost = widest + (SCATTER + ROOM) * contact.bond_nm
        sites = contact.crevice(atoms.positions_nm, outermost)
        scatter = numbers_of_places(10.0 * sites, key, 1)[:, 0] - 0.5
        out = contact.radius_of(sites) + SCATTER * contact.bond_nm * scatter
        times = law.time_s_of(out)
        order = np.lexsort((out, times))
        order = order[times[order] <= end]
        if len(order) > MOST_MOVES:
            raise ValueError(
                f"sample.processes: {len(order):,} atoms would move into the neck, more than "
                f"{MOST_MOVES:,}; make time_s longer"
            )
        travellers = _Travellers(atoms.positions_nm, contact, key)
        moves = [(float(times[i]), travellers.send(sites[i]), sites[i]) for i in order]
        middle = ledger.start_s + ledger.length_s / 2
        table: Table = {
            "frame": np.arange(len(ledger)),
            "t_s": middle,
            "law_radius_nm": law.radius_nm(middle),
            "radius_nm": np.array(_counted(contact, atoms.positions_nm, moves, middle)),
        }
        return Moves(moves, {"neck": table})


class Growth(NamedTuple):
    """The law of a neck's growth: x = R (t / tau + start^n)^(1/n), start its share x / R at 0."""

    tau_s: float
    exponent: float
    particle_nm: float
    start: float

    def radius_nm(self, t_s: Floats) -> Floats:
        """Return the neck's radius some time after the first frame began."""
        age = np.maximum(t_s, 0.0) / self.tau_s + self.start**self.exponent
        return np.asarray(self.particle_nm * age ** (1 / self.exponent))

    def time_s_of(self, radius_nm: Floats) -> Floats:
        """Return when the neck has a radius; 0 if it had it before the first frame."""
        share = np.maximum(radius_nm / self.particle_nm, self.start)
        return np.asarray(self.tau_s * (share**self.exponent - self.start**self.exponent))


def _counted(
    contact: Contact,
    homes_nm: Floats,
    moves: list[tuple[float, int, Floats]],
    t_s: Floats,
) -> list[float]:
    """Return the neck's radius at some times as counted from atoms."""
    positions, done = homes_nm.copy(), 0
    radii = []
    for t in t_s:
        while done < len(moves) and moves[done][0] <= t:
            positions[moves[done][1]] = moves[done][2]
            done += 1
        radii.append(contact.neck_nm(positions[contact.atoms]))
    return radii


@dataclass(frozen=True, eq=False)
class Contact:
    """Where two particles touch, and the lattices that meet there.

    Attributes
    ----------
    atoms : (n,)
        Atoms of both particles.
    second : (n,)
        Which of them belong to the second one.
    middle_nm, axis : (3,)
        The middle between the nearest atoms, and the direction from the first particle's centre
        to the second's.
    cells_nm
        Primitive vectors of both lattices as rows.
    origins_nm
        A site of each, an atom near the contact.
    bond_nm
        Distance of nearest neighbours, the mean of both.
    particle_nm
        Radius R of the particles: that of a sphere of as many atoms; of unequal ones 1 / R is the
        mean.
    """

    atoms: Ints
    second: npt.NDArray[np.bool_]
    middle_nm: Floats
    axis: Floats
    cells_nm: tuple[Floats, Floats]
    origins_nm: tuple[Floats, Floats]
    bond_nm: float
    particle_nm: float

    @classmethod
    def of(cls, atoms: Atoms, groups: tuple[str, str]) -> Contact:
        """Find the contact of two parts of a specimen."""
        parts: list[Ints] = []
        for name in groups:
            number = atoms.group_names.index(name) if name in atoms.group_names else -1
            mine = np.flatnonzero(atoms.groups == number)
            if len(mine) < 4:
                raise ValueError(
                    f"sample.processes: the specimen in view has no particle {name!r}; it has "
                    f"{', '.join(atoms.group_names)}"
                )
            parts.append(mine)
        one, two = (atoms.positions_nm[part] for part in parts)
        steps = [neighbour_steps(part) for part in (one, two)]
        bond = float(np.mean([np.median(np.linalg.norm(step, axis=1)) for step in steps]))
        gap, partner = cKDTree(two).query(one)
        if gap.min() > TOUCHING * bond:
            raise ValueError(
                f"sample.processes: {groups[0]!r} and {groups[1]!r} don't touch: their nearest "
                f"atoms are {gap.min():.3f} nm apart; bring them within {TOUCHING * bond:.3f} nm"
            )
        close = gap < gap.min() + 0.1 * bond
        middle = ((one[close] + two[partner[close]]) / 2).mean(axis=0)
        axis = two.mean(axis=0) - one.mean(axis=0)
        cells = (primitive_cell(steps[0]), primitive_cell(steps[1]))
        radii = [
            (3 * len(part) * abs(np.linalg.det(cell)) / (4 * np.pi)) ** (1 / 3)
            for part, cell in zip(parts, cells, strict=True)
        ]
        nearest = [part[np.linalg.norm(part - middle, axis=1).argmin()] for part in (one, two)]
        return cls(
            atoms=np.concatenate(parts),
            second=np.repeat([False, True], [len(one), len(two)]),
            middle_nm=middle,
            axis=axis / np.linalg.norm(axis),
            cells_nm=cells,
            origins_nm=(nearest[0], nearest[1]),
            bond_nm=bond,
            particle_nm=float(2 / np.sum(1 / np.array(radii))),
        )

    def along(self, positions_nm: Floats) -> Floats:
        """Return how far places lie behind the contact plane, along the axis."""
        return np.asarray((positions_nm - self.middle_nm) @ self.axis)

    def across(self, positions_nm: Floats) -> Floats:
        """Return the parts of places across the axis, shape (n, 3)."""
        return np.asarray(
            positions_nm - self.middle_nm - self.along(positions_nm)[:, None] * self.axis
        )

    def radius_of(self, positions_nm: Floats) -> Floats:
        """Return how far places lie from the axis."""
        return np.asarray(np.linalg.norm(self.across(positions_nm), axis=1))

    def bicrystal(self, radius_nm: float, height_nm: float) -> Floats:
        """Return the sites of both lattices, each on its side of the contact plane, (m, 3).

        Sites of the second that have no room beside those of the first are left out: a grain
        boundary.

        Parameters
        ----------
        radius_nm, height_nm
            How far they lie from the axis and from the plane at most.
        """
        halves: list[Floats] = []
        for number, (cell, origin) in enumerate(zip(self.cells_nm, self.origins_nm, strict=True)):
            sites = lattice_within(cell, origin, self.middle_nm, np.hypot(radius_nm, height_nm))
            along = self.along(sites)
            inside = (self.radius_of(sites) <= radius_nm) & (np.abs(along) <= height_nm)
            halves.append(sites[inside & ((along > 0) == bool(number))])
        one, two = halves
        room = cKDTree(one).query(two)[0] > ROOM * self.bond_nm
        return np.concatenate([one, two[room]])

    def crevice(self, positions_nm: Floats, radius_nm: float) -> Floats:
        """Return the free sites between the particles, up to a radius about the axis, (m, 3).

        Parameters
        ----------
        positions_nm
            All atoms; those of other parts take up room.
        radius_nm
            Largest distance from the axis.
        """
        mine = positions_nm[self.atoms]
        # at a distance x from the axis the gap between two spheres is less than 2 x wide
        sites = self.bicrystal(radius_nm, radius_nm)
        sites = sites[cKDTree(positions_nm).query(sites)[0] > ROOM * self.bond_nm]
        between = self._in_line(sites, mine[~self.second], -1)
        between &= self._in_line(sites, mine[self.second], +1)
        return np.asarray(sites[between])

    def _in_line(self, sites: Floats, particle: Floats, side: int) -> npt.NDArray[np.bool_]:
        """Say which sites have an atom of a particle on one side, in line with them."""
        near = cKDTree(self.across(particle)).query_ball_point(
            self.across(sites), BETWEEN * self.bond_nm
        )
        here, there = self.along(sites), self.along(particle)
        return np.array(
            [any(side * (there[n] - s) > 0) for n, s in zip(near, here, strict=True)], bool
        )

    def neck_nm(self, positions_nm: Floats) -> float:
        """Return the radius of the disc that as many atoms fill as lie at the contact plane.

        Atoms count the less the farther they are from the plane, from 1 to 0 at one bond. A
        contact narrower than sqrt(bond R) looks wider, by what bulges beside it.
        """
        return float(np.sqrt(self._weight(positions_nm) / (np.pi * self.density_per_nm2)))

    @cached_property
    def density_per_nm2(self) -> float:
        """Atoms per area, weighted alike, of a boundary without end between both lattices."""
        wide = max(self.particle_nm, 10 * self.bond_nm)
        return self._weight(self.bicrystal(wide, self.bond_nm)) / (np.pi * wide**2)

    def _weight(self, positions_nm: Floats) -> float:
        return float(np.maximum(1 - np.abs(self.along(positions_nm)) / self.bond_nm, 0.0).sum())


class _Travellers:
    """Who goes next: the atom with the fewest neighbours, of those the farthest from the neck."""

    def __init__(self, positions_nm: Floats, contact: Contact, key: np.uint64) -> None:
        self.atoms = contact.atoms
        mine = positions_nm[self.atoms]
        self.homes = cKDTree(mine)
        self.pairs = self.homes.query_ball_point(mine, NEIGHBOURS * contact.bond_nm)
        self.neighbours = np.array([len(near) - 1 for near in self.pairs])
        self.far_nm = np.linalg.norm(mine - contact.middle_nm, axis=1)
        self.lot = numbers_of_places(10.0 * mine, key, 2)[:, 1]
        self.here = np.ones(len(mine), bool)
        self.contact = contact

    def send(self, site: Floats) -> int:
        """Return the atom that goes to a site."""
        reach = float(np.linalg.norm(site - self.contact.middle_nm)) + 2 * self.contact.bond_nm
        free = np.flatnonzero(self.here & (self.far_nm > reach))
        if not len(free):
            raise ValueError(
                "sample.processes: the particles are too small for a neck so wide; make time_s "
                "longer"
            )
        rank = np.lexsort((self.lot[free], -np.round(self.far_nm[free], 4), self.neighbours[free]))
        atom = int(free[rank[0]])
        self.here[atom] = False
        self.neighbours[self.pairs[atom]] -= 1
        self.neighbours[self.homes.query_ball_point(site, NEIGHBOURS * self.contact.bond_nm)] += 1
        return int(self.atoms[atom])


def primitive_cell(steps_nm: Floats) -> Floats:
    """Return three vectors between nearest neighbours that span the smallest cell, as rows.

    Raises
    ------
    ValueError
        All vectors lie in a plane.
    """
    triples = steps_nm[np.array(list(combinations(range(len(steps_nm)), 3))).reshape(-1, 3)]
    volume = np.abs(np.linalg.det(triples))
    bond = np.median(np.linalg.norm(steps_nm, axis=1)) if len(steps_nm) else 0.0
    spans = volume > 0.1 * bond**3
    if not spans.any():
        raise ValueError("sample.processes: a particle that sinters must be a crystal")
    return np.asarray(triples[spans][volume[spans].round(6).argmin()])


def lattice_within(
    cell_nm: Floats, origin_nm: Floats, about_nm: Floats, radius_nm: float
) -> Floats:
    """Return the sites of a lattice inside a sphere, shape (n, 3)."""
    inverse = np.linalg.inv(cell_nm)
    centre = (about_nm - origin_nm) @ inverse
    half = radius_nm * np.linalg.norm(inverse, axis=0)
    ranges = [np.arange(np.ceil(c - h), c + h) for c, h in zip(centre, half, strict=True)]
    n = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    sites = origin_nm + n @ cell_nm
    return np.asarray(sites[np.linalg.norm(sites - about_nm, axis=1) <= radius_nm])

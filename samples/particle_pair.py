"""Two faceted metal particles that touch: where sintering begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import numpy as np
from ase.data import atomic_numbers
from pydantic import Field, field_validator
from scipy.spatial import cKDTree

from nanophantom.samples._family import Sample
from nanophantom.samples.building.metals import METALS
from nanophantom.samples.building.orient import orientation
from nanophantom.samples.building.thermal import Factors, b_factors, read_factors
from nanophantom.samples.crystal import Direction
from nanophantom.samples.nanoparticle_on_support import Ratio, carve
from nanophantom.simcore.atoms import Atoms, Floats
from nanophantom.simcore.fields import Table
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import FiniteAtoms

Count = Annotated[int, Field(ge=13, le=100_000)]


class ParticlePair(Sample):
    """Two face-centred cubic particles of Wulff shape side by side, in contact.

    They lie free in vacuum, their centres at one height and on one line across the beam; a stack
    puts a film behind them. The second one is moved along the line until its nearest atom touches
    the first particle: one bond apart, the mean of the two metals' nearest neighbours.
    """

    kind: Literal["particle-pair"] = "particle-pair"
    elements: tuple[str, str] = ("Au", "Au")
    """Chemical symbols of both: Ag, Au, Cu, Ni, Pd or Pt."""
    n_atoms: tuple[Count, Count] = (1500, 1500)
    """Numbers of atoms wanted; the complete shapes whose numbers are nearest are built."""
    energy_100_ratio: Ratio = 1.268
    """Surface energy of {100} over {111}; gold: L. Vitos et al., Surf. Sci. 411 (1998) 186."""
    energy_110_ratio: Ratio = 1.325
    """Surface energy of {110} over {111}; facets only below 1.225 or so, gold as above."""
    zone_axes: tuple[Direction, Direction] = ((1, -1, 0), (1, -1, 0))
    """Indices [uvw] of the lattice directions of both that point along the beam."""
    facing: tuple[Direction, Direction] = ((1, 1, 1), (1, 1, 1))
    """Indices [uvw] of directions across the beam that point from the first to the second."""
    misorientation_deg: float = Field(default=0.0, ge=-180, le=180)
    """Right-handed rotation of the second one about the beam (x to y)."""
    axis_deg: float = Field(default=0.0, ge=-180, le=180)
    """Direction of the line from the first to the second, from x to y."""
    gap_nm: float = Field(default=0.0, ge=0, le=100)
    """Empty space between them beyond that of atoms that touch."""
    b_factors_A2: Factors = Field(default_factory=dict)
    """Debye-Waller factors B = 8 pi^2 <u^2> by element; they replace all other sources."""
    temperature_k: float = Field(default=293.0, ge=0, le=3000)
    """Temperature of the Debye model."""

    @field_validator("elements")
    @classmethod
    def _known_elements(cls, value: tuple[str, str]) -> tuple[str, str]:
        for symbol in value:
            if symbol not in METALS:
                raise ValueError(f"{symbol!r} is none of {', '.join(METALS)}")
        return value

    @field_validator("b_factors_A2", mode="before")
    @classmethod
    def _read_factors(cls, value: Any) -> Any:
        return read_factors(value)

    @classmethod
    def small(cls) -> Self:
        """Return two particles of about 150 atoms."""
        return cls(n_atoms=(150, 150))

    def make(self, run: Run) -> PairSpecimen:
        """Carve both and push them together; nothing is drawn."""
        for symbol in self.b_factors_A2:
            if symbol not in self.elements:
                raise ValueError(
                    f"b_factors_A2: there is no {symbol!r} here; it is made of "
                    f"{', '.join(dict.fromkeys(self.elements))}"
                )
        line = about_z(self.axis_deg)
        metals = [METALS[symbol] for symbol in self.elements]
        turns = [
            line @ orientation(np.eye(3), zone, facing)
            for zone, facing in zip(self.zone_axes, self.facing, strict=True)
        ]
        turns[1] = about_z(self.misorientation_deg) @ turns[1]
        shapes = [
            carve(n, self.energy_100_ratio, self.energy_110_ratio, 0.0).positions
            for n in self.n_atoms
        ]
        one, two = (
            metal.lattice_nm * (shape - shape.mean(axis=0)) @ turn.T
            for metal, shape, turn in zip(metals, shapes, turns, strict=True)
        )
        bond = float(np.mean([metal.lattice_nm for metal in metals])) / np.sqrt(2)
        two = two + (touching_nm(one, two, line[:, 0], bond) + self.gap_nm) * line[:, 0]

        both = np.concatenate([one, two])
        middle = (both.min(axis=0) + both.max(axis=0)) / 2
        origin = np.array([middle[0], middle[1], both[:, 2].min()])
        parts, notes = [], []
        for number, (symbol, wanted, positions) in enumerate(
            zip(self.elements, self.n_atoms, (one, two), strict=True), start=1
        ):
            z = np.full(len(positions), atomic_numbers[symbol])
            own = {s: b for s, b in self.b_factors_A2.items() if s == symbol}
            factors, told = b_factors(z, np.full(len(z), np.nan), own, self.temperature_k)
            parts.append(Atoms.of(z, positions - origin, factors, f"particle {number}"))
            notes.append(
                f"Particle {number} has {len(z)} {symbol} atoms ({wanted} asked for). {told}"
            )
        return PairSpecimen(self, parts[0], parts[1], tuple(notes))


class PairSpecimen(FiniteAtoms):
    """Two particles side by side."""

    def __init__(
        self, recipe: ParticlePair, one: Atoms, two: Atoms, notes: tuple[str, ...]
    ) -> None:
        super().__init__(one + two, notes)
        self.recipe, self.parts = recipe, (one, two)

    def truth(self) -> Mapping[str, Table]:
        """Return both particles, and how near they come to each other."""
        recipe = self.recipe
        x, y, z = np.array([part.positions_nm.mean(axis=0) for part in self.parts]).T
        one, two = (part.positions_nm for part in self.parts)
        nearest = cKDTree(one).query(two)[0].min()
        return {
            "particles": {
                "particle": np.array([1, 2]),
                "number": np.array([part.numbers[0] for part in self.parts]),
                "n_atoms": np.array([len(part) for part in self.parts]),
                "lattice_nm": np.array([METALS[s].lattice_nm for s in recipe.elements]),
                "rotation_deg": recipe.axis_deg + np.array([0.0, recipe.misorientation_deg]),
                "x_nm": x,
                "y_nm": y,
                "z_nm": z,
            },
            "contact": {
                "nearest_nm": np.array([nearest]),
                "gap_nm": np.array([recipe.gap_nm]),
                "axis_deg": np.array([recipe.axis_deg]),
                "misorientation_deg": np.array([recipe.misorientation_deg]),
            },
        }


def about_z(angle_deg: float) -> Floats:
    """Return the right-handed rotation about the beam (x to y), shape (3, 3)."""
    c, s = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def touching_nm(one_nm: Floats, two_nm: Floats, axis: Floats, bond_nm: float) -> float:
    """Return how far the second of two pieces is moved along an axis to touch the first.

    Atoms i and j whose lines along the axis pass at p < d of each other touch, at distance d,
    when the shift is s_i - s_j + sqrt(d^2 - p^2); the first to touch decides.

    Raises
    ------
    ValueError
        They would pass each other.
    """
    along = [piece @ axis for piece in (one_nm, two_nm)]
    across = [piece - s[:, None] * axis for piece, s in zip((one_nm, two_nm), along, strict=True)]
    pairs = cKDTree(across[0]).sparse_distance_matrix(
        cKDTree(across[1]), bond_nm, output_type="coo_matrix"
    )
    if not pairs.nnz:
        raise ValueError("facing: the particles would pass each other; turn one of them")
    shift = along[0][pairs.row] - along[1][pairs.col] + np.sqrt(bond_nm**2 - pairs.data**2)
    return float(shift.max())

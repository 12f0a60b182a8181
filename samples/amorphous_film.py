"""An amorphous film: atoms that fell at random, or the random potential that such atoms have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, field_validator

from nanophantom.samples._family import Sample
from nanophantom.samples.building.amorphous import GLASSES, Glass
from nanophantom.samples.building.random_field import random_field
from nanophantom.samples.building.sequential_addition import add_sequentially
from nanophantom.samples.building.thermal import (
    ASSUMED_B_A2,
    ASSUMED_HYDROGEN_B_A2,
    Factors,
    read_factors,
)
from nanophantom.simcore.atoms import Atoms, Floats, Window
from nanophantom.simcore.electrons.constants import POTENTIAL_CONSTANT_V_A2
from nanophantom.simcore.fields import Table
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import FieldLayer, Specimen

MOST_ATOMS = 30_000_000
"""A view that holds more is refused; their positions alone would fill gigabytes."""

Density = Annotated[float, Field(gt=0, le=10)]
Volts = Annotated[float, Field(ge=0, le=100)]


class AmorphousFilm(Sample):
    """A film of amorphous carbon, ice or silicon nitride that extends without end across the beam.

    As atoms, it is a slab cut out of matter that grew by random sequential addition: atoms (or
    water molecules, turned at random) at random places, none closer together than bonds allow,
    with the material's density and composition. Real glasses have bonds and angles as well.

    As a field, it is a stack of random projected potentials with the mean and the spectrum of such
    atoms: fast, and as good where single atoms aren't seen (contrast transfer, ptychographic
    background, holography of thick films).
    """

    kind: Literal["amorphous-film"] = "amorphous-film"
    material: Literal["carbon", "ice", "silicon-nitride"] = "carbon"
    """What the film is made of."""
    thickness_nm: float = Field(default=5.0, gt=0, le=1000)
    """Thickness along the beam."""
    made_of: Literal["atoms", "field"] = "atoms"
    """Atoms, or a random potential with their spectrum."""
    density_g_per_cm3: Density | None = None
    """Density; by default carbon's is 1.75, that of ice 0.94, that of silicon nitride 3.1."""
    slab_nm: float = Field(default=1.0, gt=0, le=1000)
    """Largest thickness that one layer of a field stands for."""
    mean_inner_potential_V: Volts | None = None
    """Mean potential of a field; by default that of neutral atoms, above measured ones (bonds)."""
    b_factors_A2: Factors = Field(default_factory=dict)
    """Debye-Waller factors B = 8 pi^2 <u^2> by element; typical ones of solids by default."""

    @field_validator("b_factors_A2", mode="before")
    @classmethod
    def _read_factors(cls, value: Any) -> Any:
        return read_factors(value)

    @classmethod
    def small(cls) -> Self:
        """Return a nanometre of carbon."""
        return cls(thickness_nm=1.0)

    def make(self, run: Run) -> FilmSpecimen:
        """Choose one realization of the endless film."""
        glass = GLASSES[self.material]
        density = self.density_g_per_cm3 or glass.density_g_per_cm3
        usual, densest = glass.density_g_per_cm3, glass.packing.progress[-1]
        if self.made_of == "atoms" and density > densest * usual:
            raise ValueError(
                f"density_g_per_cm3: {self.material} of {density:g} is too dense for atoms that "
                f"fall at random; give {densest * usual:.3g} at most, or made_of: field"
            )
        if self.made_of == "atoms" and self.mean_inner_potential_V is not None:
            raise ValueError(
                "mean_inner_potential_V: atoms bring their own potential; leave it out, or write "
                "made_of: field"
            )
        factors, told = self._factors(glass)
        potential = self.mean_inner_potential_V
        if potential is None:
            potential = glass.mean_inner_potential_V(density)
        return FilmSpecimen(
            recipe=self,
            glass=glass,
            density_g_per_cm3=density,
            mean_inner_potential_V=potential,
            factors_A2=factors,
            key=int(run.rng("film").integers(0, 2**64, dtype=np.uint64)),
            remarks=(told,) if self.made_of == "atoms" else (),
        )

    def _factors(self, glass: Glass) -> tuple[Floats, str]:
        """Return the B factor of each species in Å^2, and a sentence about their sources.

        The Debye temperature of an element is that of its crystal, diamond for carbon, and no
        glass's.
        """
        for symbol in self.b_factors_A2:
            if symbol not in glass.elements:
                raise ValueError(
                    f"b_factors_A2: there is no {symbol!r} in {self.material}; it is made of "
                    f"{', '.join(glass.elements)}"
                )
        assumed = {e: ASSUMED_HYDROGEN_B_A2 if e == "H" else ASSUMED_B_A2 for e in glass.elements}
        factors = {e: self.b_factors_A2.get(e, assumed[e]) for e in glass.elements}
        told = ", ".join(
            f"{e} {b:g} Å² ({'recipe' if e in self.b_factors_A2 else 'assumed'})"
            for e, b in factors.items()
        )
        return np.array(list(factors.values()), dtype=np.float64), f"B factors: {told}."


@dataclass(frozen=True, eq=False)
class FilmSpecimen(Specimen):
    """One realization of an endless film; atoms or fields, the other is empty.

    Attributes
    ----------
    factors_A2
        B factor of each of the material's species.
    key
        Chooses what chance put where.
    """

    recipe: AmorphousFilm
    glass: Glass
    density_g_per_cm3: float
    mean_inner_potential_V: float
    factors_A2: Floats
    key: int
    remarks: tuple[str, ...]

    @property
    def exit_nm(self) -> float:
        """The exit face."""
        # atoms of molecules stand out from the slab that holds their centres
        standing_out = self.glass.packing.radius_nm if self.recipe.made_of == "atoms" else 0.0
        return self.recipe.thickness_nm + 2 * standing_out

    def atoms_within(self, window: Window) -> Atoms:
        """Return the atoms whose (x, y) lie in the window; none if the film is a field."""
        glass, thickness = self.glass, self.recipe.thickness_nm
        if self.recipe.made_of == "field":
            return Atoms.of([], np.empty((0, 3)), [], "film")
        volume = window.width_nm * window.height_nm * thickness
        expected = glass.per_nm3(self.density_g_per_cm3).sum() * volume
        if expected > MOST_ATOMS:
            raise ValueError(
                f"thickness_nm: {thickness:g} nm under a view of {window.width_nm:g} x "
                f"{window.height_nm:g} nm would hold {expected:,.0f} atoms, more than "
                f"{MOST_ATOMS:,}; lower it, or the field of view, or write made_of: field"
            )
        radius = glass.packing.radius_nm
        wide = window.grown(radius)
        position, species, _ = add_sequentially(
            glass.packing,
            self.density_g_per_cm3 / glass.density_g_per_cm3,
            (wide.x0_nm, wide.y0_nm, 0.0),
            (wide.x1_nm, wide.y1_nm, thickness),
            self.key,
        )
        position[:, 2] += radius
        atoms = Atoms.of(glass.numbers[species], position, self.factors_A2[species], "film")
        return atoms.select(window.holds(position[:, 0], position[:, 1]))

    def fields_within(self, window: Window, shape: tuple[int, int]) -> Sequence[FieldLayer]:
        """Return the film's layers; none if it is made of atoms."""
        recipe = self.recipe
        if recipe.made_of == "atoms":
            return ()
        count = math.ceil(recipe.thickness_nm / recipe.slab_nm)
        depth = recipe.thickness_nm / count
        return tuple(
            FieldLayer(
                z_nm=(layer + 0.5) * depth,
                potential_V_nm=self.mean_inner_potential_V * depth
                + random_field(window, shape, self._power(depth), layer, self.key),
            )
            for layer in range(count)
        )

    def power_V2_nm4(self, k_per_nm: Floats, depth_nm: float) -> Floats:
        """Return the spectral density of the potential projected through a depth, V^2 nm^4.

        (h^2 / 2 pi m e)^2 t sum_e n_e f_e(k)^2 S(k), for k in 1/nm.
        """
        per_A = self.glass.spectrum_per_A(k_per_nm / 10.0, self.density_g_per_cm3)
        return np.asarray(POTENTIAL_CONSTANT_V_A2**2 * 10.0 * depth_nm * per_A * 1e-4)

    def _power(self, depth_nm: float) -> Any:
        # The spectrum depends on |k| alone: a table of it is quicker than its formula.
        k_table = np.linspace(0.0, 100.0, 20_001)
        table = self.power_V2_nm4(k_table, depth_nm)
        return lambda k: np.interp(k, k_table, table, right=0.0)

    def truth(self) -> Mapping[str, Table]:
        """Return material, density and mean potential, and the spectrum of the whole film."""
        k = np.linspace(0.0, 40.0, 401)
        densities = self.glass.per_nm3(self.density_g_per_cm3)
        return {
            "film": {
                "material": np.array([self.recipe.material]),
                "made_of": np.array([self.recipe.made_of]),
                "thickness_nm": np.array([self.recipe.thickness_nm]),
                "density_g_per_cm3": np.array([self.density_g_per_cm3]),
                "mean_inner_potential_V": np.array([self.mean_inner_potential_V]),
            },
            "composition": {"number": self.glass.numbers, "density_per_nm3": densities},
            "spectrum": {
                "k_per_nm": k,
                "power_V2_nm4": self.power_V2_nm4(k, self.recipe.thickness_nm),
            },
        }

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about the B factors."""
        return self.remarks

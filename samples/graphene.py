"""Graphene: carbon sheets without end, with a hole, strain, defects, ripples and adatoms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from operator import add
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from ase.data import atomic_numbers
from pydantic import Field, field_validator, model_validator

from nanophantom.samples import _graphene_truth
from nanophantom.samples._family import Sample
from nanophantom.samples.building.adatoms import Adatoms, known_element
from nanophantom.samples.building.honeycomb import Honeycomb
from nanophantom.samples.building.orient import DECIMALS, across_the_beam
from nanophantom.samples.building.ripples import Ripples
from nanophantom.samples.building.sheet import CARBON, Sheet
from nanophantom.simcore.atoms import Atoms, Floats, Window
from nanophantom.simcore.electrons.debye_waller import b_factor_debye
from nanophantom.simcore.fields import Table
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import Specimen, known_crystal
from nanophantom.simcore.strain_fields import HoleInSheet, PlaneStrain, UniformStrain, reference_of

DEBYE_K = {"in_plane": 2312.0, "out_of_plane": 1287.0}
"""Debye temperatures that reproduce graphene's zero-point motion in and out of its plane:
V. K. Tewary & B. Yang, Phys. Rev. B 79 (2009) 125416. At room temperature the Debye model makes of
them 14.5 and 31 pm^2. Out of the plane the harmonic motion of a free sheet grows with its size and
with temperature faster than that; along the beam it hardly shows."""
LARGEST_STRAIN_PERCENT = 5.0
"""At the edge of a hole strain is up to 3.5 times that afar; atoms must stay apart there."""
STEEPEST = 0.1
"""Largest ratio of the ripples' height (rms) to their wavelength."""

Percent = Annotated[float, Field(ge=0, le=100)]
Coordinate = Annotated[float, Field(ge=-10_000, le=10_000)]
Strain = Annotated[float, Field(ge=-LARGEST_STRAIN_PERCENT, le=LARGEST_STRAIN_PERCENT)]
Poisson = Annotated[float, Field(ge=0, le=0.5, json_schema_extra={"dimensionless": True})]


class Graphene(Sample):
    """One sheet of carbon or a few, across the beam and without end.

    The middle of a hexagon of the first layer lies at the origin of the view; a1, the zigzag
    direction, along +x unless the sheet is rotated. A hole is cut where the sheet isn't strained
    yet, and atoms left with one neighbour are taken away. The strain is that of an elastic sheet
    in tension (or pressure) from afar, with a hole or without, and displaces the atoms exactly.
    Vacancies never share a neighbour, so each atom of the sheet keeps two neighbours at least;
    they and substituted atoms don't relax. Ripples move atoms along the beam alone.
    """

    kind: Literal["graphene"] = "graphene"
    layers: int = Field(default=1, ge=1, le=20)
    """Number of sheets, one behind the other."""
    stacking: Literal["AB", "AA"] = "AB"
    """Whether every other layer is moved by a bond, as in graphite, or none."""
    twist_deg: float = Field(default=0.0, ge=-60, le=60)
    """Each layer is rotated by this against the one before it, about the origin: turbostratic."""
    bond_nm: float = Field(default=0.142, ge=0.12, le=0.16)
    """Distance of neighbouring atoms; the lattice constant is sqrt 3 times that."""
    spacing_nm: float = Field(default=0.335, ge=0.2, le=1)
    """Distance of layers; graphite's is 0.335 nm."""
    rotation_deg: float = Field(default=0.0, ge=-180, le=180)
    """Rotation in the plane, from +x towards +y."""
    z_nm: float = Field(default=0.0, ge=0, le=1000)
    """Empty space before the first atom that ripples and adatoms may reach."""
    hole_diameter_nm: float = Field(default=0.0, ge=0, le=1000)
    """Diameter of a round hole; 0 for none."""
    hole_centre_nm: tuple[Coordinate, Coordinate] = (0.0, 0.0)
    """Where its middle lies, (x, y)."""
    strain_xx_percent: Strain = 0.0
    """Strain along x; around a hole, that afar."""
    strain_yy_percent: Strain = 0.0
    """Strain along y; around a hole, that afar."""
    strain_xy_percent: Strain = 0.0
    """Shear strain (tensor component); around a hole, that afar."""
    poisson_ratio: Poisson = 0.165
    """Of the sheet, it shapes the strain around a hole. 0.165 is graphite's, taken for graphene by
    C. Lee et al., Science 321 (2008) 385; phonons give 0.19: A. Politano & G. Chiarello, Nano Res.
    8 (2015) 1847."""
    vacancies_percent: float = Field(default=0.0, ge=0, le=5)
    """Share of sites that are single vacancies, drawn by seed; none near a hole's edge."""
    substitutions_percent: Mapping[str, Percent] = Field(default_factory=dict)
    """Shares of the atoms that are another element, drawn by seed: {N: 1.5, B: 0.5}."""
    ripple_rms_nm: float = Field(default=0.0, ge=0, le=5)
    """Root mean square height of random ripples of the whole stack of layers."""
    ripple_wavelength_nm: float = Field(default=10.0, ge=1, le=1000)
    """Their mean wavelength; 5 to 20 nm in J. C. Meyer et al., Nature 446 (2007) 60."""
    adatoms: tuple[Adatoms, ...] = ()
    """Atoms on the faces."""
    u_in_plane_A2: float | None = Field(default=None, ge=0, le=1)
    """Mean square displacement of an atom along a direction in the plane; by default from the
    Debye model with 2312 K: V. K. Tewary & B. Yang, Phys. Rev. B 79 (2009) 125416."""
    u_out_of_plane_A2: float | None = Field(default=None, ge=0, le=1)
    """Mean square displacement along the beam; by default from the Debye model with 1287 K."""
    temperature_k: float = Field(default=293.0, ge=0, le=3000)
    """Temperature of the Debye model."""
    listed_nm: float = Field(default=50.0, gt=0, le=1000)
    """Edge of the square about the origin in which the truth lists vacancies and substitutions."""

    @field_validator("substitutions_percent")
    @classmethod
    def _known_elements(cls, value: Mapping[str, float]) -> Mapping[str, float]:
        for symbol in value:
            known_element(symbol)
        if "C" in value:
            raise ValueError("substitutions_percent: the sheet is of C already; name others")
        if sum(value.values()) > 100:
            raise ValueError(
                f"substitutions_percent: shares add up to {sum(value.values()):g} %, more than 100"
            )
        return value

    @model_validator(mode="after")
    def _within_limits(self) -> Self:
        tensor = [
            [self.strain_xx_percent, self.strain_xy_percent],
            [self.strain_xy_percent, self.strain_yy_percent],
        ]
        principal = float(np.abs(np.linalg.eigvalsh(tensor)).max())
        if principal > LARGEST_STRAIN_PERCENT + 1e-9:
            raise ValueError(
                f"strain_xy_percent: together with xx and yy a direction is strained by "
                f"{principal:.3g} %; at most {LARGEST_STRAIN_PERCENT:g} % in any direction"
            )
        if self.ripple_rms_nm > STEEPEST * self.ripple_wavelength_nm:
            raise ValueError(
                f"ripple_rms_nm: {self.ripple_rms_nm:g} nm is too steep; at most {STEEPEST:g} of "
                f"ripple_wavelength_nm, {STEEPEST * self.ripple_wavelength_nm:g} nm"
            )
        return self

    @classmethod
    def small(cls) -> Self:
        """Return a sheet with a hole under tension, a few defects and two adatoms."""
        return cls(
            hole_diameter_nm=1.0,
            strain_yy_percent=1.0,
            vacancies_percent=1.0,
            substitutions_percent={"N": 2.0},
            adatoms=(Adatoms(number=2, within_nm=3.0),),
            listed_nm=6.0,
        )

    @property
    def strain_field(self) -> UniformStrain | HoleInSheet:
        """The displacements that the recipe asks for."""
        exx, eyy = self.strain_xx_percent / 100, self.strain_yy_percent / 100
        exy = self.strain_xy_percent / 100
        if self.hole_diameter_nm == 0:
            return UniformStrain(exx, eyy, exy)
        x, y = self.hole_centre_nm
        return HoleInSheet(self.hole_diameter_nm, x, y, exx, eyy, exy, self.poisson_ratio)

    def make(self, run: Run) -> GrapheneSpecimen:
        """Draw keys of defects, ripples and adatoms."""
        vacancy_key, element_key = (
            run.rng(cause).integers(0, 2**64, dtype=np.uint64)
            for cause in ("vacancies", "substitutions")
        )
        sheets = tuple(
            Sheet(
                lattice=Honeycomb(
                    bond_nm=self.bond_nm,
                    rotation_deg=self.rotation_deg + number * self.twist_deg,
                    shift=number % 2 if self.stacking == "AB" else 0,
                    number=number,
                ),
                hole_nm=(*self.hole_centre_nm, self.hole_diameter_nm),
                vacant_share=self.vacancies_percent / 100,
                vacancy_key=vacancy_key,
                element_shares={s: p / 100 for s, p in self.substitutions_percent.items()},
                element_key=element_key,
            )
            for number in range(self.layers)
        )
        for sheet in sheets:
            sheet.check()
        ripples = Ripples.draw(self.ripple_rms_nm, self.ripple_wavelength_nm, run.rng("ripples"))
        bare = GrapheneSpecimen(
            recipe=self,
            sheets=sheets,
            ripples=ripples,
            first_nm=self.z_nm + ripples.highest_nm + self.height_on("entrance"),
            adatoms=(),
        )
        return replace(bare, adatoms=bare.settle(run))

    def height_on(self, side: str) -> float:
        """Return how far adatoms reach on one side of the sheet, in nm."""
        heights = [a.height(self.bond_nm) for a in self.adatoms if a.side == side]
        return max(heights, default=0.0)

    def displacements_A2(self) -> tuple[float, float]:
        """Return the mean square displacements in the plane and out of it in Å^2."""
        given = {"in_plane": self.u_in_plane_A2, "out_of_plane": self.u_out_of_plane_A2}
        flat, upright = (
            b_factor_debye(CARBON, self.temperature_k, DEBYE_K[way]) / (8 * np.pi**2)
            if u is None
            else u
            for way, u in given.items()
        )
        return flat, upright


@dataclass(frozen=True, eq=False)
class GrapheneSpecimen(Specimen):
    """Sheets of carbon.

    Attributes
    ----------
    sheets
        The layers, flat and unstrained.
    ripples
        Heights of all layers.
    first_nm
        Where the mean plane of the first layer lies along the beam.
    adatoms
        Those of each entry of the recipe, where they are.
    """

    recipe: Graphene
    sheets: tuple[Sheet, ...]
    ripples: Ripples
    first_nm: float
    adatoms: tuple[Atoms, ...]

    def atoms_within(self, window: Window) -> Atoms:
        """Return the atoms whose (x, y) lie in the window: the sheets', then adatoms."""
        self.sheets[0].lattice.check_size(window)
        numbers, positions = [], []
        for sheet in self.sheets:
            sites = sheet.lattice.sites_within(self.unstrained(window))
            sites = sites[sheet.present(sites)]
            position = self.positions(sheet, sites)
            inside = window.holds(position[:, 0], position[:, 1])
            numbers.append(sheet.elements(sites[inside]))
            positions.append(position[inside])
        flat, upright = self.recipe.displacements_A2()
        number = np.concatenate(numbers)
        carbon = replace(
            # The B factor is that of motion across the beam, which alone blurs the projection.
            Atoms.of(number, np.concatenate(positions), 8 * np.pi**2 * flat, "sheet"),
            u_aniso_A2=np.broadcast_to(np.diag([flat, flat, upright]), (len(number), 3, 3)),
        )
        return reduce(add, [a.select(_seen(a, window)) for a in self.adatoms], carbon)

    def positions(
        self, sheet: Sheet, sites: npt.NDArray[Any], towards_exit_nm: float = 0.0
    ) -> Floats:
        """Return where sites of a layer lie in view, shape (n, 3), strained and rippled."""
        x, y = sheet.lattice.places(sites).T
        ux, uy = self.recipe.strain_field.continued(x, y)
        x, y = x + ux, y + uy
        plane = self.first_nm + sheet.lattice.number * self.recipe.spacing_nm + towards_exit_nm
        z = plane + self.ripples.heights(x, y)
        return np.round(np.column_stack([x, y, z]), DECIMALS) + 0.0

    def unstrained(self, window: Window) -> Window:
        """Return a window of the unstrained sheet that holds everything that is seen in one."""
        field = self.recipe.strain_field
        middle, margin = np.zeros(2), 1e-6
        if isinstance(field, HoleInSheet):
            middle = np.array([field.x_nm, field.y_nm])
            # The hole displaces by its reach; undone, by a little more: strain afar is 5 % at most.
            margin += 1.1 * field.reach_nm
        corners = np.array(
            [(x, y) for x in (window.x0_nm, window.x1_nm) for y in (window.y0_nm, window.y1_nm)]
        )
        x, y = ((corners - middle) @ np.linalg.inv(self._stretch) + middle).T
        return Window(x.min(), x.max(), y.min(), y.max()).grown(margin)

    @property
    def _stretch(self) -> Floats:
        """The deformation afar, shape (2, 2)."""
        field = self.recipe.strain_field
        return np.array([[1 + field.exx, field.exy], [field.exy, 1 + field.eyy]])

    def settle(self, run: Run) -> tuple[Atoms, ...]:
        """Draw the sites of adatoms, one entry of the recipe after another."""
        taken = {"entrance": np.empty((0, 2)), "exit": np.empty((0, 2))}
        settled = []
        for index, kind in enumerate(self.recipe.adatoms):
            sheet = self.sheets[0 if kind.side == "entrance" else -1]
            height = kind.height(self.recipe.bond_nm)
            sites = run.rng("adatoms", index).permutation(kind.sites_on(sheet))
            place = self.positions(sheet, sites, height if kind.side == "exit" else -height)
            place = place[kind.choose(place[:, :2], taken[kind.side])]
            taken[kind.side] = np.concatenate([taken[kind.side], place[:, :2]])
            numbers = np.full(len(place), atomic_numbers[kind.element])
            settled.append(Atoms.of(numbers, place, kind.b_factor_A2, "adatoms"))
        return tuple(settled)

    @property
    def exit_nm(self) -> float:
        """The plane behind which neither ripples nor adatoms reach."""
        last = self.first_nm + (len(self.sheets) - 1) * self.recipe.spacing_nm
        return last + self.ripples.highest_nm + self.recipe.height_on("exit")

    def strain_at(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> PlaneStrain:
        """Return strain and rotation of the sheet at points in view; not a number in the hole."""
        field = self.recipe.strain_field
        return field.strain(*reference_of(field, x_nm, y_nm))

    def periodic_column(self) -> tuple[Floats, Atoms] | None:
        """Return the cell across the beam and its atoms; None unless the sheet is perfect."""
        recipe = self.recipe
        if (
            recipe.hole_diameter_nm
            or recipe.vacancies_percent
            or recipe.substitutions_percent
            or recipe.ripple_rms_nm
            or recipe.adatoms
            or (recipe.twist_deg and recipe.layers > 1)
        ):
            return None
        lattice = np.diag([0.0, 0.0, len(self.sheets) * recipe.spacing_nm])
        lattice[:2, :2] = self.sheets[0].lattice.vectors_nm @ self._stretch
        cell = across_the_beam(lattice, np.zeros((1, 3)))
        assert cell is not None
        corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) @ cell
        (x0, y0), (x1, y1) = corners.min(axis=0) - 0.01, corners.max(axis=0) + 0.01
        atoms = self.atoms_within(Window(x0, x1, y0, y1))
        share = atoms.positions_nm[:, :2] @ np.linalg.inv(cell)
        edge = 1e-8 / recipe.bond_nm  # positions are rounded to 1e-9 nm
        inside = (share >= -edge) & (share < 1 - edge)
        return cell, atoms.select(inside[:, 0] & inside[:, 1])

    def truth(self) -> Mapping[str, Table]:
        """Return sheet, layers, strain field, ripples, and lists of all that differs in an atom."""
        return {**_graphene_truth.tables(self), **self._defects}

    @cached_property
    def _defects(self) -> Mapping[str, Table]:
        return _graphene_truth.defects(self)

    @property
    def known(self) -> Mapping[str, Any]:
        """The lattice of the first layer (of AB layers, of both), unstrained and not twisted."""
        first = self.sheets[0].lattice
        double = self.recipe.stacking == "AB" and len(self.sheets) > 1
        lattices = [first, replace(first, shift=1)] if double else [first]
        cell = np.diag([0.0, 0.0, len(lattices) * self.recipe.spacing_nm])
        cell[:2, :2] = first.vectors_nm
        places = [lattice.places(np.array([[0, 0, 1], [0, 0, 2]])) for lattice in lattices]
        z = np.repeat(np.arange(len(lattices)) * self.recipe.spacing_nm, 2)
        positions = np.column_stack([np.concatenate(places), z])
        flat, _ = self.recipe.displacements_A2()
        carbon = Atoms.of(np.full(len(z), CARBON), positions, 8 * np.pi**2 * flat)
        return known_crystal(cell, carbon)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about thermal motion and the rim of the hole."""
        flat, upright = self.recipe.displacements_A2()
        told: tuple[str, ...] = (
            f"Atoms of the sheet move by {flat:.5f} Å² along each direction in the plane and "
            f"{upright:.5f} Å² along the beam, whatever their element.",
        )
        if self.recipe.hole_diameter_nm:
            count = sum(len(sheet.trimmed) for sheet in self.sheets)
            told += (f"{count} dangling atoms were taken from the rim of the hole.",)
        return told


def _seen(atoms: Atoms, window: Window) -> npt.NDArray[np.bool_]:
    """Say which atoms lie in a window."""
    return window.holds(atoms.positions_nm[:, 0], atoms.positions_nm[:, 1])

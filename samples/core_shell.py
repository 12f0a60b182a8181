"""A core of one metal in a shell of another, on one lattice that their misfit strains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from ase.data import atomic_numbers
from pydantic import Field, field_validator, model_validator

from nanophantom.samples._family import Sample
from nanophantom.samples.building.metals import METALS
from nanophantom.samples.building.orient import DECIMALS, fill, orientation, tilt
from nanophantom.samples.building.thermal import Factors, b_factors, read_factors
from nanophantom.samples.crystal import Direction, Tilt
from nanophantom.samples.structure import rotation_table
from nanophantom.simcore.atoms import Atoms, Floats, Window
from nanophantom.simcore.fields import Table, read_only
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import Specimen, known_crystal
from nanophantom.simcore.strain_fields import MisfittingSphere, PlaneStrain, reference_of

FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
PRIMITIVE = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
LARGEST_MISFIT = 0.15
"""Beyond this no shell stays coherent, and linear elasticity means nothing."""
CORNERS = np.array(list(product((-1, 1), repeat=3))) / np.sqrt(3)
FACES = np.concatenate([np.eye(3), -np.eye(3)])

Ratio = Annotated[float, Field(ge=0.9, le=1.7, json_schema_extra={"dimensionless": True})]
Lattice = Annotated[float | None, Field(ge=0.3, le=0.6)]
Modulus = Annotated[float | None, Field(gt=0, le=1000)]
Coordinate = Annotated[float, Field(ge=-10_000, le=10_000)]


class CoreShell(Sample):
    """A free particle, round or faceted, whose round core and shell share one fcc lattice.

    Atoms stand on the shell's lattice, about an atom in the middle; those within the core's
    radius are the core's. All of them are then displaced as an isotropic elastic ball with a
    misfitting core relaxes (`nanophantom.simcore.strain_fields.MisfittingSphere`): the core is
    strained alike in all directions, the shell less and less outwards, along and across the
    radius with opposite signs. In a faceted particle the field is that of the ball of its volume.
    Diameters are those before straining. The strain in the truth is relative to the shell's own
    lattice, which the operator knows.
    """

    kind: Literal["core-shell"] = "core-shell"
    core_element: str = "Au"
    """Chemical symbol of the core's metal."""
    shell_element: str = "Pd"
    """Chemical symbol of the shell's metal."""
    diameter_nm: float = Field(default=6.0, gt=0.5, le=60)
    """Diameter of the particle; of a faceted one, that of the ball of the same volume."""
    core_diameter_nm: float = Field(default=3.5, gt=0.2, le=60)
    """Diameter of the core."""
    shape: Literal["sphere", "truncated-octahedron"] = "sphere"
    """A ball, or {111} and {100} facets."""
    energy_100_ratio: Ratio = 1.155
    """Distance of {100} facets over that of {111}, their ratio of surface energies (Wulff)."""
    zone_axis: Direction = (1, 1, 0)
    """Indices [uvw] of the direction that points along the beam."""
    x_axis: Direction | None = None
    """Indices [uvw] of the direction along +x; by default the shortest one across the beam."""
    rotation_deg: float = Field(default=0.0, ge=-180, le=180)
    """Right-handed rotation about the beam, from +x towards +y."""
    tilt_mrad: tuple[Tilt, Tilt] = (0.0, 0.0)
    """Tilt away from the zone axis: right-handed, about x, then about y."""
    centre_nm: tuple[Coordinate, Coordinate] = (0.0, 0.0)
    """Where the particle's middle lies, (x, y)."""
    core_lattice_nm: Lattice = None
    """Lattice constant of the core's metal by itself; known for Ag, Au, Cu, Ni, Pd, Pt."""
    shell_lattice_nm: Lattice = None
    """Lattice constant of the shell's metal by itself; known for the same metals."""
    core_bulk_gpa: Modulus = None
    """Bulk modulus of the core; known for the same metals."""
    shell_bulk_gpa: Modulus = None
    """Bulk modulus of the shell; known for the same metals."""
    shell_shear_gpa: Modulus = None
    """Shear modulus of the shell, isotropic (Hill's mean); known for the same metals."""
    b_factors_A2: Factors = Field(default_factory=dict)
    """Debye-Waller factors B = 8 pi^2 <u^2> by element; they replace all other sources."""
    temperature_k: float = Field(default=293.0, ge=0, le=3000)
    """Temperature of the Debye model, which gives the B factors otherwise."""

    @field_validator("core_element", "shell_element")
    @classmethod
    def _known_element(cls, value: str) -> str:
        if atomic_numbers.get(value, 0) < 1:
            raise ValueError(f"{value!r} is no chemical symbol; write, for example, Au or Pt")
        return value

    @field_validator("b_factors_A2", mode="before")
    @classmethod
    def _read_factors(cls, value: Any) -> Any:
        return read_factors(value)

    @model_validator(mode="after")
    def _a_coherent_particle(self) -> Self:
        if self.core_diameter_nm >= self.diameter_nm:
            raise ValueError(
                f"core_diameter_nm: a core of {self.core_diameter_nm:g} nm leaves no shell in "
                f"{self.diameter_nm:g} nm (diameter_nm)"
            )
        for symbol in self.b_factors_A2:
            if symbol not in (self.core_element, self.shell_element):
                raise ValueError(
                    f"b_factors_A2: there is no {symbol!r} here; it is made of "
                    f"{self.core_element} and {self.shell_element}"
                )
        if abs(self.misfit) > LARGEST_MISFIT:
            raise ValueError(
                f"core_lattice_nm: a misfit of {100 * self.misfit:.1f} % doesn't stay coherent; "
                f"at most {100 * LARGEST_MISFIT:g} %"
            )
        self.strain_field(0.0)
        return self

    @classmethod
    def small(cls) -> Self:
        """Return a particle of about 250 atoms."""
        return cls(diameter_nm=2.0, core_diameter_nm=1.0)

    def constant(self, part: Literal["core", "shell"], name: str) -> float:
        """Return a part's lattice_nm, bulk_gpa or shear_gpa: the knob, else the metal's.

        Raises
        ------
        ValueError
            Neither is known; the message names the knob.
        """
        given: float | None = getattr(self, f"{part}_{name}")
        if given is not None:
            return given
        element: str = getattr(self, f"{part}_element")
        if element not in METALS:
            raise ValueError(
                f"{part}_{name}: not known for {element}; give it (known: {', '.join(METALS)})"
            )
        return float(getattr(METALS[element], name))

    @property
    def misfit(self) -> float:
        """(Core's lattice constant - shell's) / shell's."""
        shell = self.constant("shell", "lattice_nm")
        return (self.constant("core", "lattice_nm") - shell) / shell

    def strain_field(self, z_nm: float) -> MisfittingSphere:
        """Return the field of the particle with its middle at this depth."""
        x, y = self.centre_nm
        return MisfittingSphere(
            core_diameter_nm=self.core_diameter_nm,
            diameter_nm=self.diameter_nm,
            misfit=self.misfit,
            core_bulk_gpa=self.constant("core", "bulk_gpa"),
            shell_bulk_gpa=self.constant("shell", "bulk_gpa"),
            shell_shear_gpa=self.constant("shell", "shear_gpa"),
            x_nm=x,
            y_nm=y,
            z_nm=z_nm,
        )

    def facets(self) -> tuple[Floats, Floats]:
        """Return outward normals (n, 3) in the cubic axes and distances (n,); none for a ball.

        With {111} at d and {100} at t d the volume is 4 d^3 (sqrt 3 - (sqrt 3 - t)^3): an
        octahedron less six pyramids, which is set to that of the ball.
        """
        if self.shape == "sphere":
            return np.empty((0, 3)), np.empty(0)
        t = self.energy_100_ratio
        ball = np.pi * self.diameter_nm**3 / 6
        d = (ball / (4 * (np.sqrt(3) - (np.sqrt(3) - t) ** 3))) ** (1 / 3)
        return np.concatenate([CORNERS, FACES]), np.repeat([d, t * d], [len(CORNERS), len(FACES)])

    def make(self, run: Run) -> CoreShellSpecimen:
        """Cut the particle out of the shell's lattice, turn it, strain it; nothing is drawn."""
        lattice_nm = self.constant("shell", "lattice_nm")
        normals, distances = self.facets()
        half = 1.0 if self.shape == "sphere" else 1.6  # an octahedron's corner lies at 1.54 R
        half = half * self.diameter_nm / 2 + lattice_nm
        lattice, _ = fill(
            lattice_nm * np.eye(3), lattice_nm * FCC, np.eye(3), [-half] * 3, [half] * 3
        )
        radius = np.linalg.norm(lattice, axis=1)
        if self.shape == "sphere":
            inside = radius <= self.diameter_nm / 2 + 1e-9
        else:
            inside = (lattice @ normals.T <= distances + 1e-9).all(axis=1)
        lattice, radius = lattice[inside], radius[inside]
        core = radius <= self.core_diameter_nm / 2 + 1e-9
        if core.all():
            raise ValueError(
                f"core_diameter_nm: a core of {self.core_diameter_nm:g} nm leaves no shell of a "
                f"whole layer in {self.diameter_nm:g} nm; lower it, or widen diameter_nm"
            )

        about_beam = np.deg2rad(self.rotation_deg)
        c, s = np.cos(about_beam), np.sin(about_beam)
        in_plane = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        upright = in_plane @ orientation(np.eye(3), self.zone_axis, self.x_axis)
        turn = tilt(self.tilt_mrad) @ upright
        place = lattice @ turn.T + np.array([*self.centre_nm, 0.0])
        position = place + np.column_stack(self.strain_field(0.0).displacement(*place.T))
        middle_nm = -float(position[:, 2].min())
        position[:, 2] += middle_nm  # the first atom lies on the entrance face
        position = np.round(position, DECIMALS) + 0.0

        parts, told = [], []
        for name, element, mine in (
            ("core", self.core_element, core),
            ("shell", self.shell_element, ~core),
        ):
            numbers = np.full(int(mine.sum()), atomic_numbers[element])
            own = {k: b for k, b in self.b_factors_A2.items() if k == element}
            factors, sentence = b_factors(
                numbers, np.full(len(numbers), np.nan), own, self.temperature_k
            )
            parts.append(Atoms.of(numbers, position[mine], factors, name))
            told.append(f"{name.capitalize()}: {sentence}")
        return CoreShellSpecimen(
            recipe=self,
            atoms=parts[0] + parts[1],
            field=self.strain_field(middle_nm),
            rotation=read_only(turn),
            alignment=read_only(upright),
            remarks=tuple(told),
        )


@dataclass(frozen=True, eq=False)
class CoreShellSpecimen(Specimen):
    """A strained particle.

    Attributes
    ----------
    atoms
        The core's atoms, then the shell's.
    field
        Their displacements from the shell's own lattice.
    rotation
        From the cubic axes to the specimen's frame, shape (3, 3).
    alignment
        The same without tilt: how the operator means the particle to lie.
    """

    recipe: CoreShell
    atoms: Atoms
    field: MisfittingSphere
    rotation: Floats
    alignment: Floats
    remarks: tuple[str, ...]

    def atoms_within(self, window: Window) -> Atoms:
        """Return the atoms whose (x, y) lie in the window."""
        x, y, _ = self.atoms.positions_nm.T
        return self.atoms.select(window.holds(x, y))

    @property
    def exit_nm(self) -> float:
        """The plane of the last atom."""
        return float(self.atoms.positions_nm[:, 2].max())

    def faces_nm(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return where lines along the beam enter and leave the unstrained particle.

        Not a number where they miss it.
        """
        x = np.asarray(x_nm, np.float64) - self.field.x_nm
        y = np.asarray(y_nm, np.float64) - self.field.y_nm
        x, y = np.broadcast_arrays(x, y)
        normals, distances = self.recipe.facets()
        if not len(normals):
            left = self.field.diameter_nm**2 / 4 - x**2 - y**2
            high = np.sqrt(np.where(left > 0, left, np.nan))
            return self.field.z_nm - high, self.field.z_nm + high
        low, high = np.full(x.shape, -np.inf), np.full(x.shape, np.inf)
        for normal, distance in zip(normals @ self.rotation.T, distances, strict=True):
            room = distance - normal[0] * x - normal[1] * y
            if abs(normal[2]) < 1e-9:  # a facet along the beam
                high = np.where(room < 0, -np.inf, high)
            elif normal[2] > 0:
                high = np.minimum(high, room / normal[2])
            else:
                low = np.maximum(low, room / normal[2])
        met = high > low
        return (
            self.field.z_nm + np.where(met, low, np.nan),
            self.field.z_nm + np.where(met, high, np.nan),
        )

    def projected_strain(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> PlaneStrain:
        """Return the strain, averaged over the thickness, at points in view.

        Relative to the shell's lattice; not a number beside the particle. A point in view belongs
        to the column whose mean place it is.
        """
        x, y = reference_of(_Columns(self), x_nm, y_nm)
        return self.field.mean_strain(x, y, *self.faces_nm(x, y))

    def truth(self) -> Mapping[str, Table]:
        """Return size, lattice constants, misfit, orientation and the displacement field."""
        recipe = self.recipe
        count = np.bincount(self.atoms.groups, minlength=2)
        return {
            "particle": {
                "n_core": count[:1],
                "n_shell": count[1:2],
                "x_nm": np.array([self.field.x_nm]),
                "y_nm": np.array([self.field.y_nm]),
                "z_nm": np.array([self.field.z_nm]),
                "core_diameter_nm": np.array([recipe.core_diameter_nm]),
                "diameter_nm": np.array([recipe.diameter_nm]),
                "core_lattice_nm": np.array([recipe.constant("core", "lattice_nm")]),
                "shell_lattice_nm": np.array([recipe.constant("shell", "lattice_nm")]),
                "misfit_percent": np.array([100 * recipe.misfit]),
            },
            "orientation": rotation_table(self.rotation),
            "facets": self._facet_table(),
            "strain_field": self.field.table(),
        }

    def _facet_table(self) -> Table:
        """Return normals of the facets in the specimen, and distances before straining."""
        normals, distances = self.recipe.facets()
        x, y, z = (normals @ self.rotation.T).T
        return {"normal_x": x, "normal_y": y, "normal_z": z, "distance_nm": distances}

    @property
    def known(self) -> Mapping[str, Any]:
        """The shell's own crystal, untilted; the strain is relative to it."""
        lattice_nm = self.recipe.constant("shell", "lattice_nm")
        site = self.atoms.select(self.atoms.groups == 1).select(np.arange(1))
        cell = lattice_nm * PRIMITIVE @ self.alignment.T
        return known_crystal(cell, site.moved(np.zeros((1, 3))))

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about the sources of the B factors."""
        return self.remarks


@dataclass(frozen=True)
class _Columns:
    """Mean displacements of columns along the beam, as a field in the plane."""

    specimen: CoreShellSpecimen

    def displacement(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return (ux, uy) in nm; not a number beside the particle."""
        return self.specimen.field.mean_displacement(
            x_nm, y_nm, *self.specimen.faces_nm(x_nm, y_nm)
        )

    def continued(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return the same, beside the particle the displacement at the depth of its middle."""
        ux, uy = self.displacement(x_nm, y_nm)
        beside = self.specimen.field.displacement(x_nm, y_nm, self.specimen.field.z_nm)
        return np.where(np.isnan(ux), beside[0], ux), np.where(np.isnan(uy), beside[1], uy)

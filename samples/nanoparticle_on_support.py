"""A faceted metal particle on the (111) surface of ceria, seen in profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations, product
from typing import Annotated, Any, Literal, Self

import numpy as np
from ase.data import atomic_numbers
from pydantic import Field, field_validator
from scipy.spatial import cKDTree

from nanophantom.samples._family import Sample
from nanophantom.samples.building.adatom_columns import adatom_columns
from nanophantom.samples.building.orient import fill, orientation, tilt
from nanophantom.samples.building.read import read_structure
from nanophantom.samples.building.thermal import Factors, b_factors, read_factors
from nanophantom.samples.crystal import Tilt, strain_table, strain_tensor
from nanophantom.samples.structure import BUNDLED
from nanophantom.simcore.atoms import Atoms, Floats, Ints, Window
from nanophantom.simcore.fields import Table, read_only
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import Specimen, known_crystal

# Both crystals lie with [1-10] along the beam and [111] upwards (-y): the orientation relation
# (111)[1-10]Au // (111)[1-10]CeO2 that T. Akita, K. Tanaka & M. Kohyama saw in profile,
# J. Mater. Sci. 43 (2008) 3917.
BEAM, RIGHT = (1, -1, 0), (-1, -1, 2)
GAP_NM = 0.23
"""From the uppermost oxygen layer to the lowest gold layer. The misfit of 25 % lets gold atoms
meet the surface everywhere alike: with the radii of gold in the metal (0.144 nm) and of O2-
(0.138 nm, R. D. Shannon, Acta Cryst. A32 (1976) 751) as touching spheres, a gold atom stands
0.282 nm above the layer on top of an oxygen atom and 0.175 nm in the hollow between three (0.383
nm apart); a rigid layer stands half way."""
CLOSEST_NM = 0.12
"""No two atoms may come closer than this."""
FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
PRIMITIVE = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
CENTRES = ((0.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), (0.75, 0.75, 0.75))
"""An atom, the octahedral hole and the two tetrahedral holes, all on the [111] axis."""

Ratio = Annotated[float, Field(ge=0.6, le=1.7, json_schema_extra={"dimensionless": True})]
Share = Annotated[float, Field(ge=0, le=0.9, json_schema_extra={"dimensionless": True})]


class NanoparticleOnSupport(Sample):
    """A face-centred cubic particle of Winterbottom shape on ceria, in profile along [110].

    The support fills the lower part of the view (y points down), extends without end sideways
    and downwards, and ends upwards in its non-polar (111) surface, an oxygen layer, at
    ``surface_y_nm``. The particle stands on it on a {111} facet, in the middle of the support's
    thickness. Its facets lie at distances from the centre in proportion to their surface
    energies (Wulff); the contact facet is nearer by the adhesion (Winterbottom).
    """

    kind: Literal["nanoparticle-on-support"] = "nanoparticle-on-support"
    element: str = "Au"
    """Chemical symbol of the particle's metal."""
    lattice_nm: float = Field(default=0.40782, ge=0.3, le=0.6)
    """Lattice constant of the particle, face-centred cubic; gold's is 0.40782 nm."""
    n_atoms: int = Field(default=2000, ge=30, le=100_000)
    """Number of atoms wanted; the complete shape whose number is nearest is built."""
    energy_100_ratio: Ratio = 1.268
    """Surface energy of {100} over {111}; gold: L. Vitos et al., Surf. Sci. 411 (1998) 186."""
    energy_110_ratio: Ratio = 1.325
    """Surface energy of {110} over {111}; facets only below 1.225 or so, gold as above."""
    truncation: Share = 0.2
    """Work of adhesion over surface energy: the share by which the contact facet is nearer."""
    gap_nm: float = Field(default=GAP_NM, ge=0.15, le=0.5)
    """From the uppermost oxygen layer to the lowest metal layer; touching spheres give 0.23."""
    support_thickness_nm: float = Field(default=3.2, ge=1, le=200)
    """Thickness of the support along the beam."""
    surface_y_nm: float = Field(default=1.5, ge=-500, le=500)
    """Height of the support's uppermost layer in the view; y points down."""
    offset_x_nm: float = Field(default=0.0, ge=-500, le=500)
    """Shift of the particle's middle along the surface."""
    azimuth_deg: float = Field(default=0.0, ge=-180, le=180)
    """Right-handed rotation of the particle about y; 180 degrees gives the twin orientation."""
    strain_xx_percent: float = Field(default=0.0, ge=-5, le=5)
    """Strain of the particle along the surface, about the middle of its contact facet."""
    strain_yy_percent: float = Field(default=0.0, ge=-5, le=5)
    """Strain of the particle along its height."""
    strain_xy_percent: float = Field(default=0.0, ge=-5, le=5)
    """Shear strain of the particle (tensor component)."""
    relaxation_percent: float = Field(default=0.0, ge=-10, le=10)
    """Contraction of the outermost {111} spacing of free facets; decays inwards, 1/e a layer."""
    adatom_columns: int = Field(default=0, ge=0, le=100)
    """Columns of adatoms on its facets, at places that are drawn: the part "adatoms"."""
    tilt_mrad: tuple[Tilt, Tilt] = (0.0, 0.0)
    """Tilt of both crystals away from [110]: right-handed, about x, then about y."""
    b_factors_A2: Factors = Field(default_factory=dict)
    """Debye-Waller factors B = 8 pi^2 <u^2> by element; they replace all other sources."""
    temperature_k: float = Field(default=293.0, ge=0, le=3000)
    """Temperature of the Debye model, which gives the particle's B factor unless it is gold."""

    @field_validator("element")
    @classmethod
    def _known_element(cls, value: str) -> str:
        if atomic_numbers.get(value, 0) < 1:
            raise ValueError(f"{value!r} is no chemical symbol; write, for example, Au or Pt")
        return value

    @field_validator("b_factors_A2", mode="before")
    @classmethod
    def _read_factors(cls, value: Any) -> Any:
        return read_factors(value)

    @classmethod
    def small(cls) -> Self:
        """Return a particle of about 200 atoms on a thin support."""
        return cls(n_atoms=200, support_thickness_nm=2.0, surface_y_nm=0.6)

    def make(self, run: Run) -> SupportedParticle:
        """Carve the particle, set it on the support, strain and tilt; only adatoms are drawn."""
        parts = dict.fromkeys((self.element, "Ce", "O"))
        for symbol in self.b_factors_A2:
            if symbol not in parts:
                raise ValueError(
                    f"b_factors_A2: there is no {symbol!r} here; it is made of {', '.join(parts)}"
                )
        ceria = read_structure(BUNDLED / "ceo2.cif")
        of_ceria, told_ceria = self._factors(ceria.numbers)
        shape = carve(self.n_atoms, self.energy_100_ratio, self.energy_110_ratio, self.truncation)
        metal = np.full(len(shape.positions), atomic_numbers[self.element])
        of_metal, told_metal = self._factors(metal)

        # Everything tilts about the point of the surface half way through the support.
        pivot = np.array([0.0, self.surface_y_nm, self.support_thickness_nm / 2])
        turn = tilt(self.tilt_mrad)
        strain = strain_tensor(
            self.strain_xx_percent, self.strain_yy_percent, self.strain_xy_percent
        )
        standing = self._standing(shape) @ (np.eye(3) + strain).T
        standing += np.array([self.offset_x_nm, -self.gap_nm, 0.0])
        position = standing @ turn.T + pivot
        # A particle that is wider than the support is thick meets the beam first.
        overhang = max(0.0, -float(position[:, 2].min()))
        down = np.array([0.0, 0.0, overhang])
        particle = Atoms.of(metal, position + down, of_metal, "particle")
        if self.adatom_columns:
            key = run.rng("adatoms").integers(0, 2**64, dtype=np.uint64)
            above = -self.gap_nm - self.lattice_nm
            extra = adatom_columns(standing, self.adatom_columns, key, above)
            number, factor = np.full(len(extra), metal[0]), of_metal[:1]
            particle += Atoms.of(number, extra @ turn.T + pivot + down, factor, "adatoms")
        size = f"The {self.element} particle has {len(metal)} atoms ({self.n_atoms} asked for)"
        wide = f" and stands out {overhang:.2f} nm from the support's face" if overhang else ""
        specimen = SupportedParticle(
            recipe=self,
            particle=particle,
            shape=shape,
            ceria=Atoms.of(ceria.numbers, ceria.positions_nm, of_ceria, "support"),
            ceria_cell_nm=read_only(ceria.supercell_nm),
            pivot_nm=read_only(pivot + down),
            turn=read_only(turn),
            strain=read_only(strain),
            remarks=(f"{size}{wide}.", f"Particle: {told_metal}", f"Support: {told_ceria}"),
        )
        specimen.check()
        return specimen

    def _factors(self, numbers: Ints) -> tuple[Floats, str]:
        """Return the B factors of one part's atoms in Å^2 and a sentence about their sources."""
        own = {s: b for s, b in self.b_factors_A2.items() if atomic_numbers[s] in numbers}
        return b_factors(numbers, np.full(len(numbers), np.nan), own, self.temperature_k)

    def _standing(self, shape: Shape) -> Floats:
        """Return the particle upright, the middle of its contact layer's plane at the origin."""
        rotation = orientation(np.eye(3), BEAM, RIGHT)
        position = self.lattice_nm * shape.positions @ rotation.T
        middle = position.mean(axis=0)
        foot = np.array([middle[0], position[:, 1].max(), middle[2]])
        inward = self.lattice_nm * shape.relaxation(self.relaxation_percent / 100) @ rotation.T
        return np.asarray((position + inward - foot) @ about_y(self.azimuth_deg).T)


def about_y(angle_deg: float) -> Floats:
    """Return the right-handed rotation about y, shape (3, 3)."""
    c, s = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


@dataclass(frozen=True, eq=False)
class Shape:
    """A faceted piece of the face-centred cubic lattice; lengths in lattice constants.

    Attributes
    ----------
    positions
        Atoms about the centre of the construction, in the cubic axes, shape (n, 3).
    indices, distances
        Miller indices (m, 3) of the facets and the distances of their outermost layers from the
        centre (m,); a facet is a layer with at least three atoms that aren't in line. The first
        one is the contact facet.
    """

    positions: Floats
    indices: Ints
    distances: Floats

    @property
    def normals(self) -> Floats:
        """Outward unit normals of the facets, shape (m, 3)."""
        return np.asarray(self.indices / np.linalg.norm(self.indices, axis=1)[:, None])

    def relaxation(self, contraction: float) -> Floats:
        """Return the displacements by which free surfaces contract, shape (n, 3).

        Atoms move inwards along each free facet's normal by A exp(-depth / d111), with A such
        that the outermost {111} spacing shrinks by the contraction.
        """
        spacing = 1 / np.sqrt(3)
        amplitude = contraction * spacing / (1 - np.exp(-1))
        normals = self.normals[1:]
        depth = self.distances[1:] - self.positions @ normals.T
        return np.asarray(-amplitude * np.exp(-depth / spacing) @ normals)

    def on_facets(self) -> Ints:
        """Return how many atoms lie on each facet, shape (m,)."""
        depth = self.distances - self.positions @ self.normals.T
        return np.asarray((depth < 1e-6).sum(axis=0))


def carve(n_atoms: int, ratio_100: float, ratio_110: float, truncation: float) -> Shape:
    """Return the Winterbottom shape whose number of atoms is nearest to the one wanted.

    Each lattice point is reached by the shape at some size, the largest of n_f·p / gamma_f over
    the facets f: G. Wulff, Z. Krist. 34 (1901) 449; W. L. Winterbottom, Acta Met. 15 (1967) 303.
    Sizes at which atoms are added are tried about each of the `CENTRES`.
    """
    families = {(1, 1, 1): 1.0, (1, 0, 0): ratio_100, (1, 1, 0): ratio_110}
    contact = (-1, -1, -1)
    energies = {contact: 1.0 - truncation}
    for family, energy in families.items():
        for signs in product((1, -1), repeat=3):
            for order in permutations(family):
                hkl = tuple(s * i for s, i in zip(signs, order, strict=True))
                energies.setdefault((hkl[0], hkl[1], hkl[2]), energy)
    indices = np.array(list(energies))
    gamma = np.array(list(energies.values()))
    normals = indices / np.linalg.norm(indices, axis=1)[:, None]

    half = int(np.ceil(0.75 * n_atoms ** (1 / 3))) + 2  # holds half an octahedron, the widest
    nearest: tuple[int, Floats] | None = None
    for centre in CENTRES:
        positions, _ = fill(np.eye(3), FCC, np.eye(3), [-half] * 3, [half] * 3, -np.array(centre))
        size = np.full(len(positions), -np.inf)
        for normal, energy in zip(normals, gamma, strict=True):
            np.maximum(size, np.round(positions @ normal / energy, 9), out=size)
        levels, counts = np.unique(size, return_counts=True)
        total = np.cumsum(counts)
        step = int(np.abs(total - n_atoms).argmin())
        miss = abs(int(total[step]) - n_atoms)
        if nearest is None or miss < nearest[0]:
            nearest = (miss, positions[size <= levels[step]])
    assert nearest is not None
    _, positions = nearest

    height = positions @ normals.T
    outermost = height.max(axis=0)
    faces = [
        f == 0 or _is_face(positions[height[:, f] > outermost[f] - 1e-6])
        for f in range(len(indices))
    ]
    return Shape(positions=positions, indices=indices[faces], distances=outermost[faces])


def _is_face(layer: Floats) -> bool:
    """Say whether the atoms of a layer span a plane, rather than lie on a row or a point."""
    return bool(np.linalg.matrix_rank(layer - layer[0], tol=1e-6) == 2)


@dataclass(frozen=True, eq=False)
class SupportedParticle(Specimen):
    """A particle on a support; positions in nm."""

    recipe: NanoparticleOnSupport
    particle: Atoms
    shape: Shape
    ceria: Atoms
    ceria_cell_nm: Floats
    pivot_nm: Floats
    turn: Floats
    strain: Floats
    remarks: tuple[str, ...]

    def atoms_within(self, window: Window) -> Atoms:
        """Return the atoms whose (x, y) lie in the window: the particle's, then the support's."""
        x, y, _ = self.particle.positions_nm.T
        return self.particle.select(window.holds(x, y)) + self.support_within(window)

    def support_within(self, window: Window) -> Atoms:
        """Return the support's atoms in the window."""
        rotation = self.turn @ orientation(self.ceria_cell_nm, BEAM, RIGHT)
        downwards = self.turn @ np.array([0.0, 1.0, 0.0])
        # Along [111] ceria is a stack of O-Ce-O layers; the surface, between two of them, is
        # the non-polar one. Oxygen lies a / (4 sqrt 3) above its cerium.
        cerium_nm = self.ceria_cell_nm[0, 0] / (4 * np.sqrt(3))
        entrance = float(self.pivot_nm[2]) - self.recipe.support_thickness_nm / 2
        leave = entrance + self.recipe.support_thickness_nm
        corners = np.array(list(product((window.x0_nm, window.x1_nm), (0.0,), (entrance, leave))))
        surface_y = -((corners - self.pivot_nm) @ downwards) / downwards[1]
        position, site = fill(
            self.ceria_cell_nm,
            self.ceria.positions_nm,
            rotation,
            (window.x0_nm, max(window.y0_nm, float(surface_y.min()) - 0.1), entrance),
            (window.x1_nm, window.y1_nm, leave),
            origin_nm=self.pivot_nm + cerium_nm * downwards,
            depth="support_thickness_nm",
        )
        below = (position - self.pivot_nm) @ downwards > -0.01
        return self.ceria.select(site[below]).moved(position[below])

    @property
    def exit_nm(self) -> float:
        """The exit face of the support, or the last atom of a particle that stands out behind."""
        face = float(self.pivot_nm[2]) + self.recipe.support_thickness_nm / 2
        return max(face, float(self.particle.positions_nm[:, 2].max()))

    def check(self) -> None:
        """Raise ValueError if any two atoms of the particle or at the interface overlap."""
        x, y, _ = self.particle.positions_nm.T
        around = Window(x.min(), x.max(), y.min(), self.pivot_nm[1] + 0.5).grown(0.5)
        support = self.support_within(around)
        metal = cKDTree(self.particle.positions_nm)
        within = metal.query(self.particle.positions_nm, k=2)[0][:, 1].min()
        across = metal.query(support.positions_nm)[0].min()
        if min(within, across) < CLOSEST_NM:
            knob, mend = (
                ("gap_nm", "widen gap_nm, or lower the strain")
                if across < within
                else ("relaxation_percent", "lower it, or the strain")
            )
            raise ValueError(
                f"{knob}: atoms come as close as {min(within, across):.3f} nm, closer than "
                f"{CLOSEST_NM} nm; {mend}"
            )

    def truth(self) -> Mapping[str, Table]:
        """Return what particle and support are: size, facets (before strain), strain, placement."""
        recipe, shape = self.recipe, self.shape
        standing = about_y(recipe.azimuth_deg) @ orientation(np.eye(3), BEAM, RIGHT)
        normal = shape.normals @ (self.turn @ standing).T
        x, y, z = self.particle.positions_nm.mean(axis=0)[:, None]
        return {
            "particle": {
                "n_atoms": np.array([len(self.shape.positions)]),
                "x_nm": x,
                "y_nm": y,
                "z_nm": z,
                "lattice_nm": np.array([recipe.lattice_nm]),
                "azimuth_deg": np.array([recipe.azimuth_deg]),
                "relaxation_percent": np.array([recipe.relaxation_percent]),
                **strain_table(self.strain),
            },
            "facets": {
                **dict(zip("hkl", shape.indices.T, strict=True)),
                "distance_nm": recipe.lattice_nm * shape.distances,
                "n_atoms": shape.on_facets(),
                "contact": np.arange(len(normal)) == 0,
                "normal_x": normal[:, 0],
                "normal_y": normal[:, 1],
                "normal_z": normal[:, 2],
            },
            "support": {
                "lattice_nm": self.ceria_cell_nm[:1, 0],
                "thickness_nm": np.array([recipe.support_thickness_nm]),
                "surface_y_nm": np.array([recipe.surface_y_nm]),
                "gap_nm": np.array([recipe.gap_nm]),
                "termination": np.array(["O"]),
            },
        }

    @property
    def known(self) -> Mapping[str, Any]:
        """The particle's crystal, upright; its size, shape and strain are truth."""
        standing = about_y(self.recipe.azimuth_deg) @ orientation(np.eye(3), BEAM, RIGHT)
        cell_nm = self.recipe.lattice_nm * PRIMITIVE @ standing.T
        site = self.particle.select(np.arange(1)).moved(np.zeros((1, 3)))
        return known_crystal(cell_nm, site)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about the particle's size and the sources of the B factors."""
        return self.remarks

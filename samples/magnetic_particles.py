"""Uniformly magnetised spheres, as electron holography sees them: two phases in closed form.

A sphere of radius R and induction B0 = mu0 M along m shifts the phase of an electron that passes
at (x, y) from its centre, rho = |(x, y)|, by

    phi_m = -(e / hbar) int A_z dz
          = -(2 e / 3 hbar) B0 R^3 (m_x y - m_y x) / rho^2 [1 - (1 - rho^2 / R^2)^(3/2)],

without the power of 3/2 outside, and its mean inner potential V0 by the interaction constant times
2 V0 sqrt(R^2 - rho^2): M. De Graef, N. T. Nuhfer & M. R. McCartney, J. Microsc. 194 (1999) 84;
M. Beleggia & Y. Zhu, Phil. Mag. 83 (2003) 1045. The component along the beam leaves no trace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from ase.data import atomic_numbers
from pydantic import Field, model_validator
from scipy import constants as codata

from nanophantom.samples._family import Sample
from nanophantom.samples.amorphous_film import AmorphousFilm, Volts
from nanophantom.samples.stack import stacked
from nanophantom.simcore.atoms import Atoms, Floats, Window
from nanophantom.simcore.electrons.constants import POTENTIAL_CONSTANT_V_A2
from nanophantom.simcore.electrons.scattering import scattering_factor
from nanophantom.simcore.fields import Table
from nanophantom.simcore.models import Model, member
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import FieldLayer, Specimen, sample_points

E_OVER_HBAR_PER_T_NM2 = codata.elementary_charge / codata.hbar * 1e-18
"""Phase in radians of one T nm^2 of magnetic flux, 1.519e-3."""

# Saturation induction at 20 °C: B. D. Cullity & C. D. Graham, Introduction to Magnetic Materials,
# 2nd ed. (2009): 1714, 1422, 484 and 480 emu/cm^3.
INDUCTION_T = {"iron": 2.154, "cobalt": 1.787, "nickel": 0.608, "magnetite": 0.603}
# Atoms in a cubic nanometre, from the lattice constants 0.28665 nm (bcc), 0.25071 and 0.40695 nm
# (hcp), 0.35240 nm (fcc), and 0.8396 nm (spinel, 8 Fe3O4): CRC Handbook of Chemistry and Physics.
PER_NM3 = {
    "iron": {"Fe": 2 / 0.28665**3},
    "cobalt": {"Co": 2 / (0.25071**2 * np.sqrt(3) / 2 * 0.40695)},
    "nickel": {"Ni": 4 / 0.35240**3},
    "magnetite": {"Fe": 24 / 0.8396**3, "O": 32 / 0.8396**3},
}

Tesla = Annotated[float, Field(ge=0, le=10)]
Component = Annotated[float, Field(ge=-1e6, le=1e6)]


class MagneticSphere(Model):
    """A sphere of a single magnetic domain."""

    x_nm: float = Field(default=0.0, ge=-1e6, le=1e6)
    """Centre, to the right."""
    y_nm: float = Field(default=0.0, ge=-1e6, le=1e6)
    """Centre, downwards."""
    z_nm: float = Field(default=0.0, ge=-1e6, le=1e6)
    """Centre along the beam; the first sphere's front will lie at the entrance face."""
    radius_nm: float = Field(default=15.0, gt=0, le=1e5)
    """Radius."""
    direction: tuple[Component, Component, Component] = Field(
        default=(1.0, 0.0, 0.0), json_schema_extra={"dimensionless": True}
    )
    """Direction (x, y, z) of the magnetisation; its length doesn't matter."""

    @model_validator(mode="after")
    def _points_somewhere(self) -> Self:
        if not any(self.direction):
            raise ValueError("direction: (0, 0, 0) is no direction; give three components")
        return self


class MagneticParticles(Sample):
    """Single-domain spheres, uniformly magnetised, on a support or in free space.

    They are fields: a mean inner potential and a magnetic phase. Their stray field reaches as far
    as dipole fields do.
    """

    kind: Literal["magnetic-particles"] = "magnetic-particles"
    spheres: tuple[MagneticSphere, ...] = Field(
        default=(
            MagneticSphere(x_nm=-32.0, direction=(1.0, 0.3, 0.0)),
            MagneticSphere(direction=(1.0, 0.0, 0.0)),
            MagneticSphere(x_nm=32.0, direction=(1.0, -0.3, 0.0)),
        ),
        min_length=1,
    )
    """The particles; by default a chain of three."""
    material: Literal["iron", "cobalt", "nickel", "magnetite"] = "magnetite"
    """What the particles are made of."""
    induction_T: Tesla | None = None
    """Saturation induction mu0 M; by default the material's at 20 °C."""
    mean_inner_potential_V: Volts | None = None
    """Mean inner potential; by default that of neutral atoms, above measured ones; 0: none."""
    support: member(Sample) | None = None  # type: ignore[valid-type]
    """A sample that the particles lie on, behind them."""

    @model_validator(mode="after")
    def _apart(self) -> Self:
        for i, one in enumerate(self.spheres):
            for j, two in enumerate(self.spheres[:i]):
                apart = np.linalg.norm(
                    [one.x_nm - two.x_nm, one.y_nm - two.y_nm, one.z_nm - two.z_nm]
                )
                if apart < one.radius_nm + two.radius_nm - 1e-9:
                    raise ValueError(
                        f"spheres: {j} and {i} overlap, their centres are {apart:.4g} nm apart; "
                        f"move them to {one.radius_nm + two.radius_nm:g} nm at least"
                    )
        return self

    @classmethod
    def small(cls) -> Self:
        """Return one small sphere on a nanometre of carbon."""
        return cls(spheres=(MagneticSphere(radius_nm=1.0),), support=AmorphousFilm.small())

    def input_files(self) -> dict[str, Path]:
        """Return the files of the support."""
        support = {} if self.support is None else self.support.input_files()
        return {f"support.{knob}": file for knob, file in support.items()}

    def make(self, run: Run) -> Specimen:
        """Place the spheres, the first one's front at the entrance face; nothing is drawn."""
        centres = np.array([(s.x_nm, s.y_nm, s.z_nm) for s in self.spheres])
        radii = np.array([s.radius_nm for s in self.spheres])
        centres[:, 2] -= (centres[:, 2] - radii).min()
        directions = np.array([s.direction for s in self.spheres])
        induction = INDUCTION_T[self.material] if self.induction_T is None else self.induction_T
        potential = self.mean_inner_potential_V
        notes: tuple[str, ...] = ()
        if potential is None:
            potential = neutral_atoms_V(self.material)
            notes = (
                f"Mean inner potential of {self.material}: {potential:.1f} V, that of neutral "
                "atoms.",
            )
        particles = MagneticSpecimen(
            centres_nm=centres,
            radii_nm=radii,
            induction_T=induction * directions / np.linalg.norm(directions, axis=1, keepdims=True),
            mean_inner_potential_V=potential,
            remarks=notes,
        )
        if self.support is None:
            return particles
        support = self.support.make(run.at("support", 0))
        return stacked([particles, support], [self.kind, self.support.kind], [0.0])


def neutral_atoms_V(material: str) -> float:
    """Return the mean inner potential of a material's neutral atoms, V."""
    return float(
        sum(
            POTENTIAL_CONSTANT_V_A2 * n * 1e-3 * float(scattering_factor(atomic_numbers[e], 0.0))
            for e, n in PER_NM3[material].items()
        )
    )


@dataclass(frozen=True, eq=False)
class MagneticSpecimen(Specimen):
    """Magnetised spheres.

    Attributes
    ----------
    centres_nm, radii_nm
        Shapes (n, 3) and (n,).
    induction_T
        mu0 M of each as a vector, shape (n, 3).
    """

    centres_nm: Floats
    radii_nm: Floats
    induction_T: Floats
    mean_inner_potential_V: float
    remarks: tuple[str, ...] = ()

    @property
    def exit_nm(self) -> float:
        """The back of the last sphere."""
        return float((self.centres_nm[:, 2] + self.radii_nm).max())

    def atoms_within(self, window: Window) -> Atoms:
        """Return no atoms: the spheres are fields."""
        return Atoms.of([], np.empty((0, 3)), [], "particles")

    def fields_within(self, window: Window, shape: tuple[int, int]) -> Sequence[FieldLayer]:
        """Return one layer for each depth at which there are centres of spheres."""
        x, y = sample_points(window, shape)
        layers = []
        for depth in np.unique(self.centres_nm[:, 2]):
            potential, phase = np.zeros(shape), np.zeros(shape)
            for i in np.flatnonzero(self.centres_nm[:, 2] == depth):
                dx, dy = x[None, :] - self.centres_nm[i, 0], y[:, None] - self.centres_nm[i, 1]
                potential += self.mean_inner_potential_V * chord_nm(dx, dy, self.radii_nm[i])
                phase += magnetic_phase_rad(dx, dy, self.radii_nm[i], self.induction_T[i])
            layers.append(FieldLayer(float(depth), potential, phase))
        return tuple(layers)

    def truth(self) -> Mapping[str, Table]:
        """Return place, size, induction and magnetic moment of every sphere."""
        volume_m3 = 4 / 3 * np.pi * (self.radii_nm * 1e-9) ** 3
        moment = volume_m3[:, None] * self.induction_T / codata.mu_0
        return {
            "particles": {
                **{f"{c}_nm": self.centres_nm[:, k] for k, c in enumerate("xyz")},
                "radius_nm": self.radii_nm,
                **{f"induction_{c}_T": self.induction_T[:, k] for k, c in enumerate("xyz")},
                **{f"moment_{c}_A_m2": moment[:, k] for k, c in enumerate("xyz")},
                "mean_inner_potential_V": np.full(len(moment), self.mean_inner_potential_V),
            }
        }

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence about the mean inner potential."""
        return self.remarks


def chord_nm(dx_nm: Floats, dy_nm: Floats, radius_nm: float) -> Floats:
    """Return the path of a ray through a sphere at (dx, dy) from its centre, 0 outside."""
    return np.asarray(2 * np.sqrt(np.maximum(radius_nm**2 - dx_nm**2 - dy_nm**2, 0.0)))


def magnetic_phase_rad(
    dx_nm: Floats, dy_nm: Floats, radius_nm: float, induction_T: Floats
) -> Floats:
    """Return the magnetic phase shift of a uniformly magnetised sphere, radians.

    Parameters
    ----------
    dx_nm, dy_nm
        Places from its centre, shapes that broadcast.
    radius_nm
        Radius.
    induction_T
        mu0 M, shape (3,).
    """
    share = (dx_nm**2 + dy_nm**2) / radius_nm**2
    # [1 - (1 - s)^(3/2)] / s without cancellation at small s
    inside = np.clip(share, 0.0, 1.0)
    root = np.sqrt(1 - inside)
    profile = np.where(share < 1, (1 + root + root**2) / (1 + root), 1 / np.maximum(share, 1.0))
    moment = induction_T[0] * dy_nm - induction_T[1] * dx_nm
    return np.asarray(-2 / 3 * E_OVER_HBAR_PER_T_NM2 * radius_nm * moment * profile)

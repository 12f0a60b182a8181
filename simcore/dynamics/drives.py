"""Changes without steps: a particle that turns, atoms that shake more with every electron."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator, model_validator

from nanophantom.simcore.atoms import Atoms
from nanophantom.simcore.dose import Ledger
from nanophantom.simcore.fields import Table
from nanophantom.simcore.models import Model

Floats = npt.NDArray[np.float64]

KNOTS_PER_EXPOSURE = 8
"""Points of a random walk inside one exposure; between them it is straight."""


class Rotation(Model):
    """A part of the specimen turns about an axis through its middle."""

    process: Literal["rotation"] = "rotation"
    group: str
    """Name of the part ("particle")."""
    axis: tuple[float, float, float] = Field(
        default=(0.0, 0.0, 1.0), json_schema_extra={"dimensionless": True}
    )
    """Direction (x, y, z); by default the beam's."""
    rate_deg_per_s: float = 0.0
    """Steady, right-handed rotation."""
    walk_deg_per_sqrt_s: float = Field(default=0.0, ge=0)
    """Rotational diffusion: standard deviation of the angle after one second."""

    @model_validator(mode="after")
    def _turns_at_all(self) -> Rotation:
        if not (self.rate_deg_per_s or self.walk_deg_per_sqrt_s):
            raise ValueError("nothing turns; give rate_deg_per_s or walk_deg_per_sqrt_s")
        return self

    @field_validator("axis")
    @classmethod
    def _has_length(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if not np.linalg.norm(value) > 0:
            raise ValueError("an axis of length zero has no direction; write [0, 0, 1] for z")
        return value

    def drive(self, atoms: Atoms, ledger: Ledger, rng: np.random.Generator) -> Turning:
        """Draw the angle as a function of time.

        Raises
        ------
        ValueError
            The specimen has no such part.
        """
        mine = _of_group(atoms, self.group)
        knots = [ledger.start_s[:1]]
        part = np.arange(1, KNOTS_PER_EXPOSURE + 1) / KNOTS_PER_EXPOSURE
        knots += [s + part * length for s, length in zip(ledger.start_s, ledger.length_s,
                                                         strict=True)]  # fmt: skip
        t = np.concatenate(knots)
        steps = np.sqrt(np.maximum(np.diff(t, prepend=t[:1]), 0.0))
        walk = self.walk_deg_per_sqrt_s * np.cumsum(rng.standard_normal(len(t)) * steps)
        axis = np.array(self.axis) / np.linalg.norm(self.axis)
        middle = atoms.positions_nm[mine].mean(axis=0)
        return Turning(self.group, axis, middle, t, self.rate_deg_per_s * (t - t[0]) + walk)


@dataclass(frozen=True, eq=False)
class Turning:
    """A rotation whose angle is known at some times, straight between them."""

    group: str
    axis: Floats
    middle_nm: Floats
    t_s: Floats
    angle_deg: Floats

    def at(self, atoms: Atoms, t_s: float, fluence_e_per_A2: float) -> Atoms:
        """Return the atoms with the part turned."""
        angle = np.deg2rad(np.interp(t_s, self.t_s, self.angle_deg))
        x, y, z = self.axis
        cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        rotation = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
        mine = _of_group(atoms, self.group)
        turned = atoms.rotated(rotation, self.middle_nm)
        tensors, snapshots = atoms.u_aniso_A2, atoms.snapshots_nm
        row = mine[:, None]
        return replace(
            atoms,
            positions_nm=np.where(row, turned.positions_nm, atoms.positions_nm),
            u_aniso_A2=None
            if tensors is None
            else np.where(row[:, :, None], turned.tensors_A2, tensors),
            snapshots_nm=None
            if snapshots is None
            else np.where(row[None], np.asarray(turned.snapshots_nm), snapshots),
        )

    def table(self, t_s: Floats, fluence_e_per_A2: Floats) -> Table:
        """Return the angle at some times."""
        return {f"angle_{self.group}_deg": np.interp(t_s, self.t_s, self.angle_deg)}


class RisingBFactor(Model):
    """Displacements that grow with dose: <u^2> along each axis rises by so much an electron.

    0.022 Å^2 per e/Å^2, between 0.02 and 0.08, is used for proteins in ice (parakeet's default).
    """

    process: Literal["rising-b-factor"] = "rising-b-factor"
    u2_A2_per_e_per_A2: float = Field(
        default=0.022, ge=0, json_schema_extra={"dimensionless": True}
    )
    """Growth of the mean square displacement along an axis, Å^2 for each electron per Å^2."""
    group: str = ""
    """Name of the part; all of the specimen if empty."""

    def drive(self, atoms: Atoms, ledger: Ledger, rng: np.random.Generator) -> Shaking:
        """Return the law; nothing is drawn."""
        if self.group:
            _of_group(atoms, self.group)
        return Shaking(self.group, self.u2_A2_per_e_per_A2)


@dataclass(frozen=True, eq=False)
class Shaking:
    """B factors that rise in proportion to the fluence."""

    group: str
    u2_per_fluence: float

    def at(self, atoms: Atoms, t_s: float, fluence_e_per_A2: float) -> Atoms:
        """Return the atoms with their larger B factors."""
        mine = _of_group(atoms, self.group) if self.group else np.ones(len(atoms), bool)
        more = np.where(mine, self.u2_per_fluence * fluence_e_per_A2, 0.0)
        tensors = atoms.u_aniso_A2
        return replace(
            atoms,
            b_factors_A2=atoms.b_factors_A2 + 8 * np.pi**2 * more,
            u_aniso_A2=None if tensors is None else tensors + more[:, None, None] * np.eye(3),
        )

    def table(self, t_s: Floats, fluence_e_per_A2: Floats) -> Table:
        """Return the added B factor at some fluences."""
        added = 8 * np.pi**2 * self.u2_per_fluence * fluence_e_per_A2
        name = f"added_b_factor_{self.group}_A2" if self.group else "added_b_factor_A2"
        return {name: added}


def _of_group(atoms: Atoms, group: str) -> npt.NDArray[np.bool_]:
    """Say which atoms belong to a part, shape (n,)."""
    if group not in atoms.group_names:
        raise ValueError(
            f"sample.processes: the specimen in view has no part {group!r}; it has "
            f"{', '.join(atoms.group_names)}"
        )
    return np.asarray(atoms.groups == atoms.group_names.index(group))

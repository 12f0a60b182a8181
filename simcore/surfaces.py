"""Surfaces as probe microscopes feel them: heights, and what lies at each point.

Heights count upwards, from an arbitrary plane. A surface is sampled over a window: sample [i, j]
lies at x = x0 + j width / nx, y = y0 + i height / ny, as everywhere in this package; x points to
the right and y down as an image is looked at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nanophantom.simcore.atoms import Window
from nanophantom.simcore.fields import Table, read_only
from nanophantom.simcore.models import Model

Floats = npt.NDArray[np.float64]


class Material(Model):
    """What a probe feels of a material: elasticity, adhesion, viscosity."""

    name: str = "silicon oxide"
    """What it is called in the truth."""
    modulus_gpa: float = Field(default=70.0, gt=0, le=2000)
    """Young's modulus; fused silica 70 GPa, polystyrene about 3 GPa, a gel some kPa."""
    poisson_ratio: float = Field(
        default=0.17, ge=0, lt=0.5001, json_schema_extra={"dimensionless": True}
    )
    """Poisson's ratio; 0.5 for what keeps its volume."""
    work_of_adhesion_mj_per_m2: float = Field(default=50.0, ge=0, le=1000)
    """Energy to part tip and sample, w = gamma_tip + gamma_sample - gamma_interface."""
    viscosity_pa_s: float = Field(default=0.0, ge=0, le=1e6)
    """Kelvin-Voigt viscosity: what the sample dissipates while it is indented; 0 for an elastic
    one."""
    thickness_nm: float | None = Field(default=None, gt=0, le=1e6)
    """Thickness of the layer on a hard support; none: a half-space."""

    @property
    def reduced_modulus_gpa(self) -> float:
        """Reduced modulus E* = E / (1 - nu^2) against a rigid tip."""
        return self.modulus_gpa / (1.0 - self.poisson_ratio**2)

    @property
    def depth_nm(self) -> float:
        """How deep the hard support lies: the thickness, infinite for a half-space."""
        return math.inf if self.thickness_nm is None else self.thickness_nm


@dataclass(frozen=True, eq=False)
class Surface:
    """A surface sampled over a window.

    Attributes
    ----------
    window
        What is sampled; sample [i, j] lies at x0 + j width / nx, y0 + i height / ny.
    heights_nm
        Heights, shape (ny, nx), finite, positive upwards; write-protected.
    material
        Index into `materials` of what lies at each sample, uint8, shape (ny, nx).
    materials
        What there is.
    """

    window: Window
    heights_nm: Floats
    material: npt.NDArray[np.uint8]
    materials: tuple[Material, ...]

    def __post_init__(self) -> None:
        if self.heights_nm.ndim != 2 or not np.isfinite(self.heights_nm).all():
            raise ValueError("heights_nm of a surface must be finite, shape (ny, nx)")
        if self.material.shape != self.heights_nm.shape:
            raise ValueError("a surface needs one material index a height")
        if int(self.material.max(initial=0)) >= len(self.materials):
            raise ValueError("a surface has an index beyond its materials")
        object.__setattr__(self, "heights_nm", read_only(self.heights_nm))
        object.__setattr__(self, "material", read_only(self.material))

    @classmethod
    def of_one_material(cls, window: Window, heights_nm: Floats, material: Material) -> Surface:
        """Return a surface that is the same stuff everywhere."""
        return cls(window, heights_nm, np.zeros(heights_nm.shape, np.uint8), (material,))

    @property
    def step_nm(self) -> tuple[float, float]:
        """Distance between samples along y and x."""
        ny, nx = self.heights_nm.shape
        return self.window.height_nm / ny, self.window.width_nm / nx


@runtime_checkable
class HasSurface(Protocol):
    """A specimen with a surface that a probe may feel; it extends without end."""

    def surface_within(self, window: Window, shape: tuple[int, int]) -> Surface:
        """Return the surface sampled over a window, shape (ny, nx).

        The same places give the same heights whatever the window.
        """
        ...


def material_table(materials: tuple[Material, ...]) -> Table:
    """Return what materials there are, one row each."""
    return {
        "name": np.array([m.name for m in materials], dtype="S"),
        "modulus_gpa": np.array([m.modulus_gpa for m in materials]),
        "poisson_ratio": np.array([m.poisson_ratio for m in materials]),
        "work_of_adhesion_mj_per_m2": np.array([m.work_of_adhesion_mj_per_m2 for m in materials]),
        "viscosity_pa_s": np.array([m.viscosity_pa_s for m in materials]),
        "thickness_nm": np.array([m.depth_nm for m in materials]),
    }

"""What a force curve depends on: the law of contact, and the numbers of each curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nanophantom.simcore.models import Model
from nanophantom.simcore.probes import contact
from nanophantom.simcore.probes.capillary import Meniscus
from nanophantom.simcore.surfaces import Material

Floats = npt.NDArray[np.float64]
Law = Literal["hertz", "sneddon", "dmt", "jkr"]


class ForceLaw(Model):
    """What acts on the tip."""

    law: Law = "dmt"
    """Contact: "hertz" (sphere, no adhesion), "sneddon" (cone, no adhesion), "dmt" (stiff, small
    spheres) or "jkr" (soft, large, sticky ones)."""
    van_der_waals: bool = True
    """Whether a DMT or JKR tip is pulled before it touches, by the Hamaker constant that belongs
    to its work of adhesion; Hertz and Sneddon leave adhesion out."""
    meniscus: Meniscus | None = None
    """Water that condenses under the tip; none in liquid or dry gas."""
    drag_nn: float = Field(default=0.0, ge=0, le=1e3)
    """Viscous drag of the medium on the lever at the speed of the ramp: it pushes the lever up on
    approach and down on retract."""


@dataclass(frozen=True, eq=False)
class ForceParameters:
    """What differs from curve to curve; arrays of shape (curves,). Make it by :meth:`of`."""

    e_star_gpa: Floats
    work_of_adhesion_mj_per_m2: Floats
    radius_nm: Floats
    half_angle_deg: Floats
    contact_height_nm: Floats

    def __len__(self) -> int:
        return len(self.e_star_gpa)

    @classmethod
    def of(
        cls,
        e_star_gpa: npt.ArrayLike,
        work_of_adhesion_mj_per_m2: npt.ArrayLike = 0.0,
        radius_nm: npt.ArrayLike = 10.0,
        half_angle_deg: npt.ArrayLike = 20.0,
        contact_height_nm: npt.ArrayLike = 0.0,
    ) -> ForceParameters:
        """Return the parameters of all curves; numbers and arrays (curves,) broadcast.

        Parameters
        ----------
        e_star_gpa
            Reduced modulus E / (1 - nu^2).
        work_of_adhesion_mj_per_m2
            Work of adhesion, for DMT and JKR.
        radius_nm
            Radius of the tip's end, for all but Sneddon's cone, and for its meniscus.
        half_angle_deg
            Half angle of Sneddon's cone.
        contact_height_nm
            Height of the base at which the undeflected tip would just touch: the contact point.

        Raises
        ------
        ValueError
            The shapes don't broadcast to one dimension, or a value is impossible.
        """
        values = (
            contact.checked("e_star_gpa", e_star_gpa),
            contact.checked("work_of_adhesion_mj_per_m2", work_of_adhesion_mj_per_m2, True),
            contact.checked("radius_nm", radius_nm),
            contact.checked("half_angle_deg", half_angle_deg),
            contact.finite("contact_height_nm", contact_height_nm),
        )
        try:
            rows = [np.atleast_1d(a) for a in np.broadcast_arrays(*values)]
        except ValueError:
            shapes = ", ".join(str(a.shape) for a in values)
            raise ValueError(f"parameters of curves must broadcast, not {shapes}") from None
        if rows[0].ndim != 1 or not rows[0].size:
            raise ValueError(f"parameters of curves must be (curves,), not {rows[0].shape}")
        if (rows[3] >= 90).any():
            raise ValueError("half_angle_deg must be below 90")
        return cls(*(np.ascontiguousarray(row) for row in rows))

    @classmethod
    def of_materials(
        cls,
        materials: Sequence[Material],
        index: npt.NDArray[np.integer],
        radius_nm: npt.ArrayLike = 10.0,
        half_angle_deg: npt.ArrayLike = 20.0,
        contact_height_nm: npt.ArrayLike = 0.0,
    ) -> ForceParameters:
        """Return the parameters of curves on materials, `index` (curves,) of which each is on."""
        e_star = np.array([material.reduced_modulus_gpa for material in materials])
        adhesion = np.array([material.work_of_adhesion_mj_per_m2 for material in materials])
        return cls.of(e_star[index], adhesion[index], radius_nm, half_angle_deg, contact_height_nm)

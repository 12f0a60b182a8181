"""The force between a spherical tip and a flat: van der Waals apart, DMT in contact.

F(d) = -H R / 6 d^2                              for d > a0
F(d) = -H R / 6 a0^2 + 4/3 E* sqrt(R) (a0 - d)^1.5   for d <= a0
(B. V. Derjaguin, V. M. Muller & Y. P. Toporov, J. Colloid Interface Sci. 53 (1975) 314; joined as
by R. Garcia & A. San Paulo, Phys. Rev. B 60 (1999) 4961.) Both agree at the intermolecular
distance a0 = 0.165 nm (J. Israelachvili), where the pull 2 pi R w fixes H = 12 pi a0^2 w.
"""

from __future__ import annotations

import math
from typing import Any

import numba

CONTACT_NM = 0.165
"""The intermolecular distance a0 at which bodies are in contact."""


def hamaker_zj(work_of_adhesion_mj_per_m2: float) -> float:
    """Return the Hamaker constant, 1e-21 J, whose van der Waals force at a0 is 2 pi R w."""
    return 12.0 * math.pi * CONTACT_NM**2 * work_of_adhesion_mj_per_m2


@numba.njit(cache=True, nogil=True, inline="always")
def force_nn(d_nm: Any, radius_nm: float, e_star_gpa: float, adhesion_mj_per_m2: float) -> Any:
    """Return the force on the tip, positive pushing it away, at the distance d of its apex."""
    pull = 2e-3 * math.pi * radius_nm * adhesion_mj_per_m2
    if d_nm > CONTACT_NM:
        return -pull * (CONTACT_NM / d_nm) ** 2
    indentation = CONTACT_NM - d_nm
    return 4.0 / 3.0 * e_star_gpa * math.sqrt(radius_nm * indentation) * indentation - pull

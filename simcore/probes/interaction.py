"""The force between a spherical tip and a flat: van der Waals apart, DMT in contact.

F(d) = -H R / 6 d^2                              for d > a0
F(d) = -H R / 6 a0^2 + 4/3 E* sqrt(R) (a0 - d)^1.5   for d <= a0
(B. V. Derjaguin, V. M. Muller & Y. P. Toporov, J. Colloid Interface Sci. 53 (1975) 314; joined as
by R. Garcia & A. San Paulo, Phys. Rev. B 60 (1999) 4961.) Both agree at the intermolecular
distance a0 = 0.165 nm (J. Israelachvili), where the pull 2 pi R w fixes H = 12 pi a0^2 w.

A layer bonded to a hard support, h thick, stiffens the contact: `bottom_effect` is by what factor.
Adhesion and the drag of viscous layers are left those of a half-space.
"""

from __future__ import annotations

import math
from typing import Any

import numba

from nanophantom.simcore.surfaces import Material

CONTACT_NM = 0.165
"""The intermolecular distance a0 at which bodies are in contact."""


def indentation_nm(load_nn: float, radius_nm: float, material: Material) -> float:
    """Return how deep a load, adhesion added, presses a sphere in: Hertz's depth, less in a layer.

    Raises
    ------
    ValueError
        For a radius that isn't positive or a load below 0.
    """
    if not (radius_nm > 0 and load_nn >= 0):
        raise ValueError("radius_nm must be positive, load_nn 0 or more")
    stiff = 4.0 / 3.0 * material.reduced_modulus_gpa * math.sqrt(radius_nm)
    deepest = math.pow(load_nn / stiff, 2.0 / 3.0)
    if material.thickness_nm is None or load_nn == 0:
        return deepest
    low, high = 0.0, min(deepest, material.thickness_nm)
    while high - low > 1e-12 * high:
        middle = 0.5 * (low + high)
        hertz = stiff * middle**1.5
        if hertz * bottom_effect(middle, radius_nm, material.thickness_nm) < load_nn:
            low = middle
        else:
            high = middle
    return low


def hamaker_zj(work_of_adhesion_mj_per_m2: float) -> float:
    """Return the Hamaker constant, 1e-21 J, whose van der Waals force at a0 is 2 pi R w."""
    return 12.0 * math.pi * CONTACT_NM**2 * work_of_adhesion_mj_per_m2


@numba.njit(cache=True, nogil=True, inline="always")
def bottom_effect(indentation_nm: Any, radius_nm: float, thickness_nm: float) -> Any:
    """Return by how much a hard support stiffens a layer under a sphere; 1 on a half-space.

    The series in chi = sqrt(R indentation) / h of a layer bonded to its support, nu = 0.5, by
    E. K. Dimitriadis et al., Biophys. J. 82 (2002) 2798, eq. 12, derived for indentations up to
    h / 10. It stays finite at any indentation, where a layer can't be squeezed to nothing: so it
    comes with (1 - (indentation / h)^3)^-3. That is this package's own choice: it adds 0.3 % at
    h / 10 and grows towards h with the inverse cube of what is left, as the stiffness of a bonded
    layer under a flat punch does. (So close to h that it passes 1e12, beyond any force, it's held.)
    """
    chi = math.sqrt(radius_nm * indentation_nm) / thickness_nm
    series = 1.0 + chi * (1.133 + chi * (1.283 + chi * (0.769 + chi * 0.0975)))
    left = max(1.0 - (indentation_nm / thickness_nm) ** 3, 1e-4)
    return series / (left * left * left)


@numba.njit(cache=True, nogil=True, inline="always")
def force_nn(
    d_nm: Any, radius_nm: float, e_star_gpa: float, adhesion_mj_per_m2: float, thickness_nm: float
) -> Any:
    """Return the force on the tip, positive pushing it away, at the distance d of its apex.

    The thickness is infinite for a half-space.
    """
    pull = 2e-3 * math.pi * radius_nm * adhesion_mj_per_m2
    if d_nm > CONTACT_NM:
        return -pull * (CONTACT_NM / d_nm) ** 2
    indentation = CONTACT_NM - d_nm
    hertz = 4.0 / 3.0 * e_star_gpa * math.sqrt(radius_nm * indentation) * indentation
    return hertz * bottom_effect(indentation, radius_nm, thickness_nm) - pull

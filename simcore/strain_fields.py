"""Displacement fields of elasticity that are known in closed form, and their exact strain.

A point X of the reference lies at x = X + u(X). Strain is the symmetric part of du/dX and the
rotation half of the antisymmetric one: positive, it turns +x towards +y. All functions take points
of the reference, in nm; `reference_of` finds those of points in view. A field is written as a
table of one row and read back by `field_of`, so a truth file alone gives strain anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.misfitting_sphere import MisfittingSphere as MisfittingSphere
from nanophantom.simcore.strain_types import PlaneField, Tabled, kind_of
from nanophantom.simcore.strain_types import PlaneStrain as PlaneStrain
from nanophantom.simcore.strain_types import SolidStrain as SolidStrain

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class UniformStrain(Tabled):
    """The same strain everywhere, about the origin: u = (exx x + exy y, exy x + eyy y)."""

    field: ClassVar[str] = "uniform"
    exx: float = 0.0
    eyy: float = 0.0
    exy: float = 0.0

    def displacement(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return (ux, uy) in nm at points of the reference."""
        x, y = np.broadcast_arrays(np.asarray(x_nm, np.float64), np.asarray(y_nm, np.float64))
        return self.exx * x + self.exy * y, self.exy * x + self.eyy * y

    continued = displacement

    def strain(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> PlaneStrain:
        """Return strain and rotation at points of the reference."""
        one = np.ones(np.broadcast(x_nm, y_nm).shape)
        return PlaneStrain(self.exx * one, self.eyy * one, self.exy * one, 0 * one)


@dataclass(frozen=True)
class HoleInSheet(Tabled):
    """An endless elastic sheet with a round hole, strained from afar: G. Kirsch's problem.

    Plane stress, the hole's edge free. In Kolosov's and Muskhelishvili's form, z = x + i y from
    the middle of the hole, which stays where it is,

        2G (ux + i uy) = kappa phi(z) - z conj(phi'(z)) - conj(psi(z)),
        phi = Gamma z - conj(Gamma') a^2 / z,
        psi = Gamma' z - 2 Gamma a^2 / z - conj(Gamma') a^4 / z^3,

    kappa = (3 - nu) / (1 + nu), Gamma = (sxx + syy) / 4, Gamma' = (syy - sxx) / 2 + i sxy from the
    stresses afar: G. Kirsch, Z. VDI 42 (1898) 797; N. I. Muskhelishvili, Some Basic Problems of
    the Mathematical Theory of Elasticity (1953), section 56a. Strain is that of derivatives with
    z and conj(z); the modulus cancels.

    Attributes
    ----------
    diameter_nm, x_nm, y_nm
        The hole, in the reference.
    exx, eyy, exy
        Strain afar.
    poisson_ratio
        nu of the sheet, between -1 and 1.
    """

    field: ClassVar[str] = "hole in sheet"
    diameter_nm: float
    x_nm: float = 0.0
    y_nm: float = 0.0
    exx: float = 0.0
    eyy: float = 0.0
    exy: float = 0.0
    poisson_ratio: float = 0.165

    def __post_init__(self) -> None:
        if not self.diameter_nm > 0:
            raise ValueError(f"diameter_nm of a hole must be positive, got {self.diameter_nm:g}")
        if not -1 < self.poisson_ratio < 1:
            raise ValueError(
                f"poisson_ratio of a sheet lies between -1 and 1, got {self.poisson_ratio:g}"
            )

    def _constants(self) -> tuple[float, float, complex]:
        """Return kappa, and Gamma and Gamma' in units of 2G."""
        nu = self.poisson_ratio
        mean = (1 + nu) / (1 - nu) * (self.exx + self.eyy) / 4
        return (3 - nu) / (1 + nu), mean, complex((self.eyy - self.exx) / 2, self.exy)

    def _points(
        self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike
    ) -> tuple[npt.NDArray[np.complex128], npt.NDArray[np.bool_]]:
        """Return z from the middle, points inside the hole moved to its edge; and which do lie out.

        A point that is not a number lies on the edge, and isn't out.
        """
        x, y = np.asarray(x_nm, np.float64), np.asarray(y_nm, np.float64)
        z = np.asarray((x - self.x_nm) + 1j * (y - self.y_nm))
        r, edge = np.abs(z), self.diameter_nm / 2
        outwards = np.divide(z, r, out=np.ones_like(z), where=r > 0)
        return np.where(r >= edge, z, edge * outwards), np.asarray(r >= edge * (1 - 1e-9))

    def displacement(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return (ux, uy) in nm at points of the reference; not a number inside the hole."""
        _, out = self._points(x_nm, y_nm)
        ux, uy = self.continued(x_nm, y_nm)
        return np.where(out, ux, np.nan), np.where(out, uy, np.nan)

    def continued(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return `displacement`, inside the hole that of the nearest point of its edge."""
        z, _ = self._points(x_nm, y_nm)
        kappa, mean, shear = self._constants()
        a2 = self.diameter_nm**2 / 4
        opposite = np.conj(shear)
        phi = mean * z - opposite * a2 / z
        phi_z = mean + opposite * a2 / z**2
        psi = shear * z - 2 * mean * a2 / z - opposite * a2**2 / z**3
        u = kappa * phi - z * np.conj(phi_z) - np.conj(psi)
        return u.real, u.imag

    def strain(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> PlaneStrain:
        """Return strain and rotation at points of the reference; not a number inside the hole."""
        kappa, mean, shear = self._constants()
        (z, out), a2 = self._points(x_nm, y_nm), self.diameter_nm**2 / 4
        opposite = np.conj(shear)
        phi_z = mean + opposite * a2 / z**2
        phi_zz = -2 * opposite * a2 / z**3
        psi_z = shear + 2 * mean * a2 / z**2 + 3 * opposite * a2**2 / z**4
        along = kappa * phi_z - np.conj(phi_z)  # du/dz
        across = -z * np.conj(phi_zz) - np.conj(psi_z)  # du/dconj(z)
        found = (along.real + across.real, along.real - across.real, across.imag, along.imag)
        return PlaneStrain(*(np.where(out, part, np.nan) for part in found))

    @property
    def far_field(self) -> UniformStrain:
        """The strain without the hole, about the origin."""
        return UniformStrain(self.exx, self.eyy, self.exy)

    @property
    def reach_nm(self) -> float:
        """No point of the sheet is further displaced than this by the hole itself."""
        kappa, mean, shear = self._constants()
        return self.diameter_nm / 2 * ((kappa + 2) * abs(shear) + 2 * abs(mean))


StrainField = UniformStrain | HoleInSheet | MisfittingSphere
_FIELDS: dict[str, type[StrainField]] = {
    kind.field: kind for kind in (UniformStrain, HoleInSheet, MisfittingSphere)
}


def field_of(table: Mapping[str, Any]) -> StrainField:
    """Return the field that a table of one row describes.

    Raises
    ------
    ValueError
        The table names no field, or one that isn't known.
    """
    name = kind_of(table)
    if name not in _FIELDS:
        raise ValueError(f"there is no strain field {name!r}; known: {', '.join(_FIELDS)}")
    return _FIELDS[name].from_table(table)


def reference_of(
    field: PlaneField, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike, within_nm: float = 1e-11
) -> tuple[Floats, Floats]:
    """Return the points X of the reference that lie at x = X + u(X), by iteration X = x - u(X).

    Parameters
    ----------
    field
        Displacements that change by less than their distance: du/dX is below a half or so.
    x_nm, y_nm
        Points in view; where there is no matter, as in a hole, the answer isn't a number.
    within_nm
        How near X + u(X) comes to the point.

    Raises
    ------
    ValueError
        The iteration doesn't settle: the field is too strong.
    """
    x, y = np.broadcast_arrays(np.asarray(x_nm, np.float64), np.asarray(y_nm, np.float64))
    at_x, at_y = x.copy(), y.copy()
    for _ in range(200):
        ux, uy = field.continued(at_x, at_y)
        off_x, off_y = x - ux - at_x, y - uy - at_y
        at_x, at_y = at_x + off_x, at_y + off_y
        if (np.hypot(off_x, off_y) <= within_nm).all():
            lost = np.isnan(field.displacement(at_x, at_y)[0])
            return np.where(lost, np.nan, at_x), np.where(lost, np.nan, at_y)
    raise ValueError("the displacement field is too strong to be followed back to its reference")

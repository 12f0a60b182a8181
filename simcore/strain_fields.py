"""Displacement fields of elasticity that are known in closed form, and their exact strain.

A point X of the reference lies at x = X + u(X). Strain is the symmetric part of du/dX and the
rotation half of the antisymmetric one: positive, it turns +x towards +y. All functions take points
of the reference, in nm; `reference_of` finds those of points in view. A field is written as a
table of one row and read back by `field_of`, so a truth file alone gives strain anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, Self, cast

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.fields import Table

Floats = npt.NDArray[np.float64]


class PlaneStrain(NamedTuple):
    """Strain in a plane, and rotation, each of the shape of the points."""

    exx: Floats
    eyy: Floats
    exy: Floats
    rotation_rad: Floats


class SolidStrain(NamedTuple):
    """Strain of a solid without rotation, each of the shape of the points."""

    exx: Floats
    eyy: Floats
    ezz: Floats
    exy: Floats
    exz: Floats
    eyz: Floats


class PlaneField(Protocol):
    """Displacements in the plane across the beam."""

    def displacement(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return (ux, uy) in nm; not a number where there is no matter."""
        ...

    def continued(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return the same, steadily continued to where there is no matter."""
        ...


class _Tabled:
    """Fields are frozen dataclasses of numbers; their table names the kind of field."""

    field: ClassVar[str]

    def table(self) -> Table:
        """Return the field as a table of one row: its kind, and every constant."""
        constants = asdict(cast(Any, self))
        return {"field": np.array([self.field])} | {k: np.array([v]) for k, v in constants.items()}

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Self:
        """Read a table of one row.

        Raises
        ------
        ValueError
            It is the table of another kind of field.
        """
        name = _kind_of(table)
        if name != cls.field:
            raise ValueError(f"the table is that of the field {name!r}, not of {cls.field!r}")
        return cls(**{k: float(np.asarray(v)[0]) for k, v in table.items() if k != "field"})


@dataclass(frozen=True)
class UniformStrain(_Tabled):
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
class HoleInSheet(_Tabled):
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


@dataclass(frozen=True)
class MisfittingSphere(_Tabled):
    """A ball in the middle of a larger one, both isotropic, joined without a gap or a slip.

    By itself the core would be larger than its place by the misfit f. With u along the radius r,

        u = A r in the core,   u = B r + C / r^2 in the shell,

    u is continuous at r = a, the radial stress (3 K_core (A - f) in the core, 3 K B - 4 G C / r^3
    in the shell) too, and zero at the surface r = R. With eta = (a/R)^3 and C = c a^3,

        c = 3 K_core f / (3 K_core (1 + 4 G eta / 3 K) + 4 G (1 - eta)),
        B = 4 G eta c / 3 K,   A = B + c

    (the hollow sphere of G. Lame, Lecons sur l'elasticite (1852), around a ball; the case R -> oo
    is that of J. D. Eshelby, J. Appl. Phys. 25 (1954) 255). Strain is relative to the unstrained
    lattice of the shell, also in the core: there it is A, not the elastic part A - f.

    Attributes
    ----------
    core_diameter_nm, diameter_nm
        2 a and 2 R, before straining.
    misfit
        f = (core's lattice constant - shell's) / shell's.
    core_bulk_gpa, shell_bulk_gpa, shell_shear_gpa
        K_core, K, G; the core's shear modulus doesn't matter.
    x_nm, y_nm, z_nm
        The middle, which stays where it is.
    """

    field: ClassVar[str] = "misfitting sphere"
    core_diameter_nm: float
    diameter_nm: float
    misfit: float
    core_bulk_gpa: float
    shell_bulk_gpa: float
    shell_shear_gpa: float
    x_nm: float = 0.0
    y_nm: float = 0.0
    z_nm: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.core_diameter_nm < self.diameter_nm:
            raise ValueError(
                f"core_diameter_nm: {self.core_diameter_nm:g} nm must lie between 0 and the "
                f"diameter, {self.diameter_nm:g} nm"
            )
        for name in ("core_bulk_gpa", "shell_bulk_gpa", "shell_shear_gpa"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name):g}")

    @property
    def constants(self) -> tuple[float, float, float]:
        """A, B, and C in nm^3."""
        core, bulk, shear = self.core_bulk_gpa, self.shell_bulk_gpa, self.shell_shear_gpa
        share = (self.core_diameter_nm / self.diameter_nm) ** 3
        relief = 4 * shear * share / (3 * bulk)
        c = 3 * core * self.misfit / (3 * core * (1 + relief) + 4 * shear * (1 - share))
        return relief * c + c, relief * c, c * (self.core_diameter_nm / 2) ** 3

    def _from_middle(self, *points: npt.ArrayLike) -> list[Floats]:
        """Return coordinates from the middle, all of one shape."""
        middle = (self.x_nm, self.y_nm, self.z_nm)
        from_there = [
            np.asarray(p, np.float64) - m
            for p, m in zip(points, middle[: len(points)], strict=True)
        ]
        return [np.array(p) for p in np.broadcast_arrays(*from_there)]

    def _isotropic_and_radial(self, r: Floats) -> tuple[Floats, Floats]:
        """Return p and q of the strain p delta_ij - q r_i r_j."""
        a, b, c = self.constants
        inside = r <= self.core_diameter_nm / 2 * (1 + 1e-12)
        far = np.maximum(r, self.core_diameter_nm / 2)
        return np.where(inside, a, b + c / far**3), np.where(inside, 0.0, 3 * c / far**5)

    def displacement(
        self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike, z_nm: npt.ArrayLike
    ) -> tuple[Floats, Floats, Floats]:
        """Return (ux, uy, uz) in nm; beyond the surface, where facets may stand, B r + C / r^2."""
        x, y, z = self._from_middle(x_nm, y_nm, z_nm)
        swell, _ = self._isotropic_and_radial(np.sqrt(x**2 + y**2 + z**2))
        return swell * x, swell * y, swell * z

    def strain(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike, z_nm: npt.ArrayLike) -> SolidStrain:
        """Return the strain relative to the shell's lattice; at r = a that of the core."""
        x, y, z = self._from_middle(x_nm, y_nm, z_nm)
        p, q = self._isotropic_and_radial(np.sqrt(x**2 + y**2 + z**2))
        normal = (p - q * x**2, p - q * y**2, p - q * z**2)
        return SolidStrain(*normal, -q * x * y, -q * x * z, -q * y * z)

    def mean_strain(
        self,
        x_nm: npt.ArrayLike,
        y_nm: npt.ArrayLike,
        low_nm: npt.ArrayLike,
        high_nm: npt.ArrayLike,
    ) -> PlaneStrain:
        """Return the strain across the beam, averaged along it from z = low to z = high.

        In closed form: along a line at the distance s from the middle, with t = z / r,
        dz / r^3 = dt / s^2 and s^2 dz / r^5 = (1 - t^2) dt / s^2. The core counts with A.
        """
        x, y, low, high = self._column(x_nm, y_nm, low_nm, high_nm)
        a, b, c = self.constants
        core, cubes, fifths = (
            upper - lower
            for upper, lower in zip(
                self._integrals(x, y, high), self._integrals(x, y, low), strict=True
            )
        )
        depth = high - low
        p = (a * core + b * (depth - core) + c * cubes) / depth
        s2 = np.maximum(x**2 + y**2, 1e-300)
        q = 3 * c * fifths / (s2 * depth)
        return PlaneStrain(p - q * x**2, p - q * y**2, -q * x * y, 0 * p)

    def mean_displacement(
        self,
        x_nm: npt.ArrayLike,
        y_nm: npt.ArrayLike,
        low_nm: npt.ArrayLike,
        high_nm: npt.ArrayLike,
    ) -> tuple[Floats, Floats]:
        """Return (ux, uy) in nm, averaged along the beam from z = low to z = high."""
        x, y, low, high = self._column(x_nm, y_nm, low_nm, high_nm)
        a, b, c = self.constants
        core, cubes, _ = (
            upper - lower
            for upper, lower in zip(
                self._integrals(x, y, high), self._integrals(x, y, low), strict=True
            )
        )
        depth = high - low
        swell = (a * core + b * (depth - core) + c * cubes) / depth
        return swell * x, swell * y

    def projected_strain(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> PlaneStrain:
        """Return `mean_strain` through the whole ball; not a number outside of it."""
        return self.mean_strain(x_nm, y_nm, *self._faces(x_nm, y_nm))

    def projected_displacement(
        self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike
    ) -> tuple[Floats, Floats]:
        """Return `mean_displacement` through the whole ball; not a number outside of it."""
        return self.mean_displacement(x_nm, y_nm, *self._faces(x_nm, y_nm))

    def column_strain(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> PlaneStrain:
        """Return the strain of the pattern that the columns' mean places make.

        It is the gradient of `projected_displacement`, which distances between columns show. It
        differs from the mean strain <du_i/dx_j>, since neighbouring columns, with half the
        thickness h, end at different places of the surface: d<u_i>/dx_j =
        <du_i/dx_j> + (dh/dx_j) (u_i(surface) - <u_i>) / h, and dh/dx_j = -x_j / h. Not a number
        outside the ball.
        """
        x, y = self._from_middle(x_nm, y_nm)
        _, b, c = self.constants
        mean = self.projected_strain(x_nm, y_nm)
        ux, uy = self.projected_displacement(x_nm, y_nm)
        outer2 = self.diameter_nm**2 / 4
        swell = b + c / outer2**1.5  # of the surface
        more_x, more_y = ((swell * s - u) / (outer2 - x**2 - y**2) for s, u in ((x, ux), (y, uy)))
        return PlaneStrain(
            mean.exx - x * more_x, mean.eyy - y * more_y, mean.exy - y * more_x, mean.rotation_rad
        )

    def _faces(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return where a line along the beam enters and leaves the ball."""
        x, y = self._from_middle(x_nm, y_nm)
        left = self.diameter_nm**2 / 4 - x**2 - y**2
        half = np.sqrt(np.where(left > 0, left, np.nan))
        return self.z_nm - half, self.z_nm + half

    def _column(
        self,
        x_nm: npt.ArrayLike,
        y_nm: npt.ArrayLike,
        low_nm: npt.ArrayLike,
        high_nm: npt.ArrayLike,
    ) -> list[Floats]:
        """Return x, y, low and high from the middle, all of one shape."""
        x, y, low = self._from_middle(x_nm, y_nm, low_nm)
        *_, high = self._from_middle(x_nm, y_nm, high_nm)
        if (high <= low).any():
            raise ValueError("a column must reach from low_nm to a larger high_nm")
        return [np.array(v) for v in np.broadcast_arrays(x, y, low, high)]

    def _integrals(self, x: Floats, y: Floats, z: Floats) -> tuple[Floats, Floats, Floats]:
        """Return integrals from 0 to z: of 1 in the core; of 1/r^3 and s^2/r^5 in the shell."""
        inner = self.core_diameter_nm / 2
        s2, height = x**2 + y**2, np.abs(z)
        core = np.minimum(height, np.sqrt(np.maximum(inner**2 - s2, 0.0)))
        # From r = first, on the core's surface or in the plane of the middle, to r = last.
        first = np.maximum(inner, np.sqrt(s2))
        last = np.maximum(first, np.sqrt(s2 + height**2))
        t_first = np.sqrt(np.maximum(1 - s2 / inner**2, 0.0))
        t_last = height / np.sqrt(np.maximum(s2 + height**2, inner**2))
        # t_last - t_first = (t_last^2 - t_first^2) / (t_last + t_first), which holds on the axis
        total = t_last + t_first
        gap = 1 / first**2 - 1 / last**2
        cubes = np.divide(gap, total, out=np.zeros_like(gap), where=total > 0)
        fifths = cubes * (1 - (t_last**2 + t_last * t_first + t_first**2) / 3)
        sign = np.sign(z)
        return sign * core, sign * cubes, sign * fifths


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
    name = _kind_of(table)
    if name not in _FIELDS:
        raise ValueError(f"there is no strain field {name!r}; known: {', '.join(_FIELDS)}")
    return _FIELDS[name].from_table(table)


def _kind_of(table: Mapping[str, Any]) -> str:
    if "field" not in table:
        raise ValueError("a strain field's table needs a column 'field' that names its kind")
    name = np.asarray(table["field"])[0]
    return name.decode() if isinstance(name, bytes) else str(name)


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

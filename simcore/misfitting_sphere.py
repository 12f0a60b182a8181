"""A ball in a ball that doesn't fit: the strain of a coherent core and its shell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.strain_types import PlaneStrain, SolidStrain, Tabled

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MisfittingSphere(Tabled):
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

"""What the beam itself sets in motion: a supported film jumps, bows and charges as it is exposed.

The motion is a function of place and of the fluence received, drawn once and written down as the
coefficients of a polynomial, so that the truth tells the displacement of any point at any fluence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from pydantic import Field

from nanophantom.simcore.environment import vector
from nanophantom.simcore.fields import Table
from nanophantom.simcore.models import Model
from nanophantom.simcore.warping import warp as warp

Floats = npt.NDArray[np.float64]

ORDERS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2), (3, 0), (2, 1), (1, 2), (0, 3))
"""Degrees (along x, along y) of the polynomials: shift, linear distortion, bowing."""
CREEP_FLUENCE_E_PER_A2 = 100.0
"""Fluence in which the slow local motion goes on by `creep_nm`."""


class BeamInducedMotion(Model):
    """Motion of a supported film under the broad beam of a TEM.

    Most of it happens within the first electrons, as d (1 - exp(-N / N0)) of the fluence N: the
    film jumps to the side, bows (its tilted parts are seen displaced) and charges up. Vitreous ice
    that doesn't buckle moves by 0.086 nm rms in 35 e/Å² at 300 kV (K. Naydenova et al., Science
    370, 223 (2020)); N0 is about 5 e/Å².
    """

    jump_nm: float = Field(default=0.0, ge=0)
    """How far the whole view moves in the end."""
    jump_direction_deg: float | None = None
    """Direction of the jump (0 = to the right, 90 = down); none draws one."""
    local_nm: float = Field(default=0.0, ge=0)
    """Local motion in the end: its root mean square over the view."""
    creep_nm: float = Field(default=0.0, ge=0)
    """Slow local motion in proportion to the fluence, of the same shape: what its root mean
    square over the view gains every 100 e/Å²."""
    critical_fluence_e_per_A2: float = Field(default=5.0, gt=0)
    """N0 of jump and local motion."""
    magnification_percent: float = Field(default=0.0, ge=-10, le=10)
    """Change of magnification by the charge in the end."""
    shear_percent: float = Field(default=0.0, ge=0, le=10)
    """Stretch in one direction and shrinkage across by the charge in the end; the direction is
    drawn."""
    charging_fluence_e_per_A2: float = Field(default=5.0, gt=0)
    """N0 of the charge."""

    @property
    def absent(self) -> bool:
        """Whether nothing moves."""
        distorted = self.magnification_percent or self.shear_percent
        return not (self.jump_nm or self.local_nm or self.creep_nm or distorted)

    def draw(
        self, rng: np.random.Generator, half_width_nm: float, half_height_nm: float
    ) -> MotionField:
        """Draw the motion in a view.

        The same draws are made whatever the strengths, so a knob set to zero leaves the others
        unchanged.

        Parameters
        ----------
        rng
            Stream of this cause.
        half_width_nm, half_height_nm
            From the centre of the view to its edges.
        """
        jump_deg, shear_deg = rng.uniform(0.0, 360.0, 2)
        bowing = rng.standard_normal((len(ORDERS) - 3, 2))
        bowing /= np.linalg.norm(bowing)  # root mean square over the view: 1
        if self.jump_direction_deg is not None:
            jump_deg = self.jump_direction_deg
        half_nm = np.array([half_width_nm, half_height_nm])
        along, across = vector(self.shear_percent / 100, 2 * shear_deg)
        charge = np.array([[along, across], [across, -along]])
        charge += self.magnification_percent / 100 * np.eye(2)
        saturating = np.zeros((len(ORDERS), 2))
        saturating[0] = vector(self.jump_nm, jump_deg)
        # x is half_width P_1 / sqrt 3, so the matrix's columns are the terms in x and in y
        saturating[1:3] = charge.T * half_nm[:, None] / np.sqrt(3)
        saturating[3:] = self.local_nm * bowing
        slow = np.zeros_like(saturating)
        slow[3:] = self.creep_nm / CREEP_FLUENCE_E_PER_A2 * bowing
        critical = np.full(len(ORDERS), self.critical_fluence_e_per_A2)
        critical[1:3] = self.charging_fluence_e_per_A2
        return MotionField(half_width_nm, half_height_nm, saturating, critical, slow)


@dataclass(frozen=True, eq=False)
class MotionField:
    """Where the beam has carried every point of the view, as a function of the fluence.

    With ``u = x / half_width_nm``, ``v = y / half_height_nm`` (both ±1 at the edges of the view,
    whose centre is the origin) and Legendre polynomials ``P_m``, the point at rest in (x, y) is
    displaced at fluence N by the sum over the terms (m, n) of `ORDERS` of::

        sqrt((2 m + 1) (2 n + 1)) P_m(u) P_n(v) [saturating (1 - exp(-N / critical)) + slow N]

    The terms are orthonormal: the mean square of the displacement over the view is the sum of
    their brackets squared, and all but the first have no mean.

    Attributes
    ----------
    half_width_nm, half_height_nm
        From the centre of the view to its edges.
    saturating_nm : (terms, 2)
        Amplitudes (x, y) in the end.
    critical_e_per_A2 : (terms,)
        Fluences at which they have come to 63 %.
    slow_nm_A2_per_e : (terms, 2)
        Amplitudes gained with every electron per Å².
    """

    half_width_nm: float
    half_height_nm: float
    saturating_nm: Floats
    critical_e_per_A2: Floats
    slow_nm_A2_per_e: Floats

    def displacement_nm(
        self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike, fluence_e_per_A2: npt.ArrayLike
    ) -> tuple[Floats, Floats]:
        """Return the displacement (dx, dy) of points that lie in (x, y) at rest.

        Places, counted from the centre of the view, and fluences broadcast.
        """
        return self._sum(x_nm, y_nm, fluence_e_per_A2, range(len(ORDERS)))

    def uniform_nm(self, fluence_e_per_A2: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return the part (dx, dy) of the displacement that all points share."""
        return self._sum(0.0, 0.0, fluence_e_per_A2, range(1))

    @property
    def is_uniform(self) -> bool:
        """Whether all points move alike."""
        return not (self.saturating_nm[1:].any() or self.slow_nm_A2_per_e[1:].any())

    def warp_nm(
        self,
        x_nm: Floats,
        y_nm: Floats,
        fluence_e_per_A2: float,
        moved_nm: tuple[float, float] = (0.0, 0.0),
    ) -> tuple[Floats, Floats]:
        """Return what :func:`warp` needs: the non-uniform displacement of what is seen in (x, y).

        That is the field d at the place r where the point was at rest, so that
        ``r + d(r) + moved = (x, y)``; found by fixed-point iteration to 1e-7 nm.

        Parameters
        ----------
        x_nm, y_nm : (nx,), (ny,)
            Columns and rows of the image, from the centre of the view.
        moved_nm
            How far the image has been shifted as a whole: drift and `uniform_nm`.

        Returns
        -------
        dx_nm, dy_nm : (ny, nx)

        Raises
        ------
        ValueError
            The field folds the film: two of its points would be seen in one place.
        """
        grown = -np.expm1(-fluence_e_per_A2 / self.critical_e_per_A2[:, None])
        amplitudes = self.saturating_nm * grown + self.slow_nm_A2_per_e * fluence_e_per_A2
        powers = np.zeros((2, 4, 4))
        for (m, n), nm in zip(ORDERS[1:], amplitudes[1:], strict=True):
            powers += nm[:, None, None] * np.outer(_POWERS[m], _POWERS[n])
        dx, dy, found = _pulled_back(
            (np.asarray(x_nm) - moved_nm[0]) / self.half_width_nm,
            (np.asarray(y_nm) - moved_nm[1]) / self.half_height_nm,
            powers,
            self.half_width_nm,
            self.half_height_nm,
        )
        if not found:
            raise ValueError(
                "sample.film: the beam-induced motion is so strong for a view "
                f"{2 * self.half_width_nm:.3g} nm wide that it folds the film there; "
                "lower local_nm, creep_nm, magnification_percent or shear_percent, or take a "
                "larger view"
            )
        return dx, dy

    def largest_nm(self, fluence_e_per_A2: float) -> float:
        """Return the largest displacement along an axis in the view, up to some fluence.

        Taken over 65 x 65 points and eight fluences on the way.
        """
        u = np.linspace(-1.0, 1.0, 65)
        fluences = fluence_e_per_A2 * np.arange(1, 9)[:, None, None] / 8
        dx, dy = self.displacement_nm(
            self.half_width_nm * u, self.half_height_nm * u[:, None], fluences
        )
        return float(max(np.abs(dx).max(), np.abs(dy).max()))

    def table(self) -> Table:
        """Return the coefficients, a row for each term; the formula is that of this class."""
        n = len(ORDERS)
        return {
            "order_x": np.array([m for m, _ in ORDERS]),
            "order_y": np.array([m for _, m in ORDERS]),
            "saturating_x_nm": self.saturating_nm[:, 0],
            "saturating_y_nm": self.saturating_nm[:, 1],
            "critical_fluence_e_per_A2": self.critical_e_per_A2,
            "slow_x_nm_A2_per_e": self.slow_nm_A2_per_e[:, 0],
            "slow_y_nm_A2_per_e": self.slow_nm_A2_per_e[:, 1],
            "half_width_nm": np.full(n, self.half_width_nm),
            "half_height_nm": np.full(n, self.half_height_nm),
        }

    def _sum(
        self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike, fluence: npt.ArrayLike, terms: range
    ) -> tuple[Floats, Floats]:
        u, v = np.asarray(x_nm) / self.half_width_nm, np.asarray(y_nm) / self.half_height_nm
        dose = np.asarray(fluence, np.float64)
        along_x, along_y = _orthonormal(u), _orthonormal(v)
        dx, dy = np.zeros((2, *np.broadcast_shapes(u.shape, v.shape, dose.shape)))
        for term in terms:
            saturating, slow = self.saturating_nm[term], self.slow_nm_A2_per_e[term]
            if not (saturating.any() or slow.any()):
                continue
            m, n = ORDERS[term]
            shape = along_x[m] * along_y[n]
            grown = -np.expm1(-dose / self.critical_e_per_A2[term])
            dx += shape * (saturating[0] * grown + slow[0] * dose)
            dy += shape * (saturating[1] * grown + slow[1] * dose)
        return dx, dy


_POWERS = np.sqrt([[1.0], [3.0], [5.0], [7.0]]) * np.array(
    [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [-0.5, 0.0, 1.5, 0.0], [0.0, -1.5, 0.0, 2.5]]
)
"""Legendre polynomials of degrees 0 to 3, mean square 1 over [-1, 1]: coefficients of powers."""


def _orthonormal(u: Floats) -> list[Floats]:
    """Return those polynomials at some places."""
    return [np.asarray(a + u * (b + u * (c + u * d))) for a, b, c, d in _POWERS]


@numba.njit(cache=True, nogil=True)
def _cubic(u: float, v: float, c: Any) -> Any:
    """Return sum c[a, b] u^a v^b over a + b <= 3."""
    return (
        c[0, 0] + v * (c[0, 1] + v * (c[0, 2] + v * c[0, 3]))
        + u * (c[1, 0] + v * (c[1, 1] + v * c[1, 2])
        + u * (c[2, 0] + v * c[2, 1] + u * c[3, 0]))
    )  # fmt: skip


@numba.njit(cache=True, nogil=True)
def _pulled_back(u: Any, v: Any, c: Any, half_width: float, half_height: float) -> Any:
    """Return d(r) where r + d(r) = (u, v), (nv, nu) each, and whether all were found.

    Places are in half views, displacements in nm; c (2, 4, 4) are the coefficients of powers.
    """
    shape = (len(v), len(u))
    all_dx, all_dy = np.empty(shape), np.empty(shape)
    for i in range(shape[0]):
        dx = dy = slope_x = slope_y = 0.0
        for j in range(shape[1]):
            start_x, start_y = dx, dy
            dx, dy = dx + slope_x, dy + slope_y  # a good guess: straight on from the last two
            change = np.inf
            for _ in range(60):
                at_u, at_v = u[j] - dx / half_width, v[i] - dy / half_height
                new_x, new_y = _cubic(at_u, at_v, c[0]), _cubic(at_u, at_v, c[1])
                change = max(abs(new_x - dx), abs(new_y - dy))
                dx, dy = new_x, new_y
                if change < 1e-7:
                    break
            if not change < 1e-7:
                return all_dx, all_dy, False
            if j:
                slope_x, slope_y = dx - start_x, dy - start_y
            all_dx[i, j], all_dy[i, j] = dx, dy
    return all_dx, all_dy, True

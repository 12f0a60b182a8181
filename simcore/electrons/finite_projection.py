"""Potentials of slabs: every atom divided among the slices that its potential reaches into.

The potential of an atom extends over some Å along the beam too. `PotentialBuilder` gives all of it
to one slice; thin slices want the part that lies between their two faces, z0 <= z < z1::

    V_slab(k) = sum_atoms [P(k, z0 - z_atom) - P(k, z1 - z_atom)] exp(-2 pi i k r_atom)

P(k, z) is what lies of an atom behind a plane at z from its nucleus, known in closed form
(`scattering_factor_behind`). Nothing is lost between neighbouring slabs: what lies behind the
back of one lies behind the front of the next, so that all slabs add up to the infinite projection.

P depends on k and z together, but smoothly enough for a few terms::

    P_e(k, z) = V_e(k) g_e0(z) + sum_r h_r(k) g_er(z)

Term 0 is the element's whole atom; the h_r, common to all elements, come from a singular-value
decomposition of what it leaves over. Each term is one layer of a `Gridding`: atoms with weights
g(z0 - z_atom) - g(z1 - z_atom), and one filter. Largest error of P at any z, relative to the whole
atom (root mean square over the disk of frequencies of radius k_cut), by the number of terms besides
the whole atoms:

==========  =====  ======  ======  ======  ======  ======  ======
atoms       k_cut       4       5       6       7       8       9
==========  =====  ======  ======  ======  ======  ======  ======
C             3.4  8.7e-5  1.8e-5  3.6e-6
C             8    3.3e-4  9.2e-5  2.6e-5  7.2e-6
Au            3.4  1.0e-4  2.2e-5  4.9e-6
Au            8    4.0e-4  1.2e-4  3.3e-5  9.9e-6
H, C, N, O    3.4  7.2e-4  1.6e-4  8.2e-5  2.0e-5  6.8e-6
Sr, Ti, O     3.4  1.9e-3  7.0e-4  3.8e-4  5.3e-5  2.9e-5  7.0e-6
Sr, Ti, O     8    4.1e-3  1.8e-3  5.9e-4  3.6e-4  6.0e-5  3.2e-5
==========  =====  ======  ======  ======  ======  ======  ======

As many are kept as bring it below 3e-5. Slabs through random atoms then differ from the sum over
atoms without terms by (0.3 ... 0.4)e-4 at a thickness of 2 Å, (0.3 ... 0.7)e-4 at 1 Å and
(0.6 ... 2.2)e-4 at 0.5 Å, relative to the slab (C; Sr, Ti and O; both tables; k_cut = 5 1/Å), and
in their mean by at most 2e-4.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq

from nanophantom.simcore.electrons import gridding_kernels as kernels
from nanophantom.simcore.electrons.constants import POTENTIAL_CONSTANT_V_A2
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.gridding import Gridding, Layer
from nanophantom.simcore.electrons.scattering import (
    ScatteringTable,
    scattering_factor,
    scattering_factor_behind,
)

Floats = npt.NDArray[np.float64]

TAIL = 1e-4  # of an atom that is left out of the slabs beyond its reach
TOLERANCE = 3e-5  # of the terms that are left out, relative to the whole atom
_FREQUENCIES = 200  # samples of k for the decomposition
_PLANES = 125  # samples of z for the decomposition
_FINER = 16  # between two of them in the table of weights


class FiniteProjection:
    """Projected potentials of slabs on one grid.

    Parameters
    ----------
    grid : Grid
        Where the potential is sampled.
    numbers_present : iterable of int
        Atomic numbers that may occur.
    table : {"lobato", "kirkland"}
        Parametrization of the electron scattering factors.
    dtype : {"float32", "float64"}
        Precision of the potentials.

    Attributes
    ----------
    k_cut : float
        Radius of the disk of frequencies in the potential, 1/Å: 2/3 of the Nyquist frequency.
    reach_A : float
        Distance from a nucleus beyond which its potential is left out: less than 1e-4 of the whole
        lies on the far side of a plane there, at any frequency. It is left to the slabs on the near
        side, so that the sum over all slabs is complete.
    rank : int
        Number of terms besides the whole atoms.
    error : float
        Largest error of P(k, z) that the terms leave, relative to the whole atom (root mean square
        over the disk of frequencies).

    Raises
    ------
    ValueError
        If no element is given, one is not in the table or the grid is too small.
    """

    def __init__(
        self,
        grid: Grid,
        numbers_present: Iterable[int],
        table: ScatteringTable = "lobato",
        dtype: npt.DTypeLike = "float32",
    ) -> None:
        self.grid = grid
        self._gridding = Gridding(grid, dtype)
        self.dtype = self._gridding.dtype
        self.k_cut = self._gridding.k_cut
        self._numbers = np.array(sorted({int(z) for z in numbers_present}), np.int64)
        if not len(self._numbers):
            raise ValueError("numbers_present is empty; announce the elements of the atoms")
        self._table = table

        self._terms = _decompose(tuple(self._numbers.tolist()), self.k_cut, table)
        self.reach_A = float(self._terms.reach_A.max())
        self.rank = len(self._terms.common)
        self.error = self._terms.error

        disk = np.minimum(self._gridding.k, self.k_cut)  # nothing is asked for beyond
        scale = POTENTIAL_CONSTANT_V_A2 / grid.area_A2
        whole = [scale * scattering_factor(int(z), disk, table) for z in self._numbers]
        shared = [scale * CubicSpline(self._terms.k, h)(disk) for h in self._terms.common]
        self._filters = [self._gridding.filter(v) for v in whole + shared]

    def project_slab(
        self, numbers: npt.ArrayLike, xyz_A: npt.ArrayLike, z0_A: float, z1_A: float
    ) -> npt.NDArray[Any]:
        """Potential between two planes, projected along the beam.

        Parameters
        ----------
        numbers : (n,) int
            Atomic numbers.
        xyz_A : (n, 3) float
            Positions, Å; the cell repeats periodically in x and y.
        z0_A, z1_A : float
            Depths of the two planes, Å; either may be infinite.

        Returns
        -------
        potential : (ny, nx) float32 (or `dtype`)
            V Å. A new array.

        Raises
        ------
        ValueError
            If shapes don't match, an element was not announced, a position is not finite or the
            planes are in the wrong order.
        """
        element, xyz = self._checked(numbers, xyz_A)
        if not z0_A <= z1_A:
            raise ValueError(f"the slab begins at {z0_A} Å and ends at {z1_A} Å; z0_A <= z1_A")
        near = (xyz[:, 2] > z0_A - self.reach_A) & (xyz[:, 2] < z1_A + self.reach_A)
        return self._slab(element[near], xyz[near], z0_A, z1_A)

    def slabs(
        self,
        numbers: npt.ArrayLike,
        xyz_A: npt.ArrayLike,
        thickness_A: float,
        depth_A: float | None = None,
    ) -> Iterator[tuple[npt.NDArray[Any] | None, float]]:
        """Slabs of equal thickness through all of the specimen, as `multislice.propagate` asks.

        The slabs' faces lie at multiples of `thickness_A`, and each slab acts in its middle. They
        begin before the first atom and end behind the last one, where nothing of them is left. The
        wave is nevertheless the one in the plane z = 0 and leaves in the plane `depth_A`, free
        space in between taken off again: the first and last distance may be negative.

        Parameters
        ----------
        numbers, xyz_A
            As for `project_slab`.
        thickness_A : float
            Thickness of the slabs, Å.
        depth_A : float, optional
            Plane of the exit wave, Å; that of the deepest atom by default.

        Yields
        ------
        potential : (ny, nx) float32 (or `dtype`), or None
            V Å; None for the way from z = 0 to the first slab, and where there are no atoms.
        distance_A : float
            From the middle of this slab to that of the next one; from the last to `depth_A`.

        Raises
        ------
        ValueError
            As for `project_slab`, or if `thickness_A` is not positive.
        """
        if not thickness_A > 0:
            raise ValueError(f"thickness_A is {thickness_A}; it is positive")
        element, xyz = self._checked(numbers, xyz_A)
        order = np.argsort(xyz[:, 2], kind="stable")
        element, xyz = element[order], xyz[order]
        z = xyz[:, 2]
        exit_A = float(z.max(initial=0.0)) if depth_A is None else float(depth_A)
        return self._slabs(element, xyz, float(thickness_A), exit_A)

    def exact_slab(
        self, numbers: npt.ArrayLike, xyz_A: npt.ArrayLike, z0_A: float, z1_A: float
    ) -> npt.NDArray[Any]:
        """As `project_slab`, atom by atom, without terms, tails left out or gridding; for tests."""
        element, xyz = self._checked(numbers, xyz_A)
        scale = POTENTIAL_CONSTANT_V_A2 / self.grid.area_A2
        k, one = self._gridding.k, np.ones(1)
        layers = []
        for e, (x, y, z) in zip(element, xyz, strict=True):
            number = int(self._numbers[e])
            share = self._behind(number, k, z0_A - z) - self._behind(number, k, z1_A - z)
            layers.append((scale * share, np.array([x]), np.array([y]), one))
        return self._gridding.exact(layers).astype(self.dtype)

    def _behind(self, number: int, k: Floats, z: float) -> Floats:
        """Return what lies of an atom behind a plane, on either side of the nucleus."""
        behind = scattering_factor_behind(number, k, abs(z), self._table)
        return behind if z >= 0 else scattering_factor(number, k, self._table) - behind

    def _slabs(
        self, element: npt.NDArray[np.int64], xyz: Floats, thickness: float, exit_A: float
    ) -> Iterator[tuple[npt.NDArray[Any] | None, float]]:
        z = xyz[:, 2]
        if not len(z):
            yield None, exit_A
            return
        first = int(np.floor((z[0] - self.reach_A) / thickness))
        end = int(np.ceil((z[-1] + self.reach_A) / thickness))
        yield None, (first + 0.5) * thickness
        for i in range(first, end):
            z0, z1 = i * thickness, (i + 1) * thickness
            near = slice(*np.searchsorted(z, (z0 - self.reach_A, z1 + self.reach_A)))
            potential = self._slab(element[near], xyz[near], z0, z1) if len(z[near]) else None
            yield potential, thickness if i < end - 1 else exit_A - (i + 0.5) * thickness

    def _slab(
        self, element: npt.NDArray[np.int64], xyz: Floats, z0: float, z1: float
    ) -> npt.NDArray[Any]:
        if not len(element):
            return self._gridding.sum([])
        bumps = self._gridding.bumps(xyz[:, 0], xyz[:, 1])
        z = xyz[bumps.order, 2]
        weights = np.empty((len(self._filters), len(z)), self.dtype)
        element, terms = element[bumps.order], self._terms
        kernels.slab_weights(z0 - z, z1 - z, element, terms.reach_A, terms.weights, weights)
        return self._gridding.sum(
            [Layer(f, bumps, w) for f, w in zip(self._filters, weights, strict=True) if w.any()]
        )

    def _checked(
        self, numbers: npt.ArrayLike, xyz_A: npt.ArrayLike
    ) -> tuple[npt.NDArray[np.int64], Floats]:
        """Return for each atom the index of its element, and its position."""
        number = np.atleast_1d(np.asarray(numbers, np.int64))
        xyz = np.asarray(xyz_A, np.float64)
        if number.ndim != 1 or xyz.shape != (number.size, 3):
            raise ValueError(
                f"xyz_A has shape {np.shape(xyz_A)}; for {number.size} atoms ({number.size}, 3)"
            )
        unknown = sorted(set(number.tolist()) - set(self._numbers.tolist()))
        if unknown:
            raise ValueError(f"atomic numbers {unknown} were not announced in numbers_present")
        if not np.isfinite(xyz).all():
            raise ValueError("a position is not finite")
        return np.searchsorted(self._numbers, number), xyz


def _reach(number: int, table: ScatteringTable) -> float:
    """Distance behind which TAIL of an atom is left; most of it is left at k = 0."""
    whole = float(scattering_factor(number, 0.0, table))

    def left(z: float) -> float:
        return float(scattering_factor_behind(number, 0.0, z, table)) / whole - TAIL

    return float(brentq(left, 0.0, 30.0))


class _Terms(NamedTuple):
    """P_e(k, z) as a sum of terms.

    `weights` (elements, planes, 1 + rank) holds g_e0 and g_er at the distances that `slab_weights`
    wants, `common` (rank, len(k)) the h_r(k).
    """

    reach_A: Floats
    weights: Floats
    k: Floats
    common: Floats
    error: float


@lru_cache(maxsize=16)
def _decompose(numbers: tuple[int, ...], k_cut: float, table: ScatteringTable) -> _Terms:
    """Divide P_e(k, z) of some elements into few terms."""
    reach_A = np.array([_reach(number, table) for number in numbers])
    k = np.linspace(0, k_cut, _FREQUENCIES)
    ring = np.sqrt(np.maximum(k, k[1] / 8))  # the area of a ring, or of the disk in the middle
    planes = np.arange(_FINER * _PLANES + 1) / (_FINER * _PLANES)
    own, rest, norms = [], [], []
    for number, reach in zip(numbers, reach_A, strict=True):
        behind = scattering_factor_behind(number, k, reach * planes[:, None] ** 2, table) * ring
        whole = 2 * behind[0]
        share = behind @ whole / (whole @ whole)
        own.append(share)
        norms.append(np.linalg.norm(whole))
        rest.append((behind - np.outer(share, whole)) / norms[-1])
    remainder = np.array(rest).reshape(len(numbers), len(planes), len(k))
    samples = remainder[:, ::_FINER].reshape(-1, len(k))
    basis = np.linalg.svd(samples, full_matrices=False)[2][:40]
    shares = remainder @ basis.T
    left = np.sum(remainder**2, axis=-1, keepdims=True) - np.cumsum(shares**2, axis=-1)
    errors = np.sqrt(np.maximum(left, 0).max(axis=(0, 1)))  # with 1, 2, 3 ... terms
    rank = 1 + int(np.argmax(errors <= TOLERANCE))
    scale = np.array(norms)[:, None, None]
    weights = np.concatenate([np.array(own)[..., None], scale * shares[..., :rank]], axis=-1)
    return _Terms(reach_A, weights, k, basis[:rank] / ring, float(errors[rank - 1]))

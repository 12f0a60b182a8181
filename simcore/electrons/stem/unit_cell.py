"""Gram matrices of a static crystal from its unit cell alone: exact, and far less work.

The beams of a probe on a supercell of m x n unit cells are k = q0 + G, with G in the reciprocal
lattice of the unit cell and m n different q0. A periodic specimen scatters a beam only to beams of
the same q0 (Bloch): psi(r) = exp(2 pi i q0 r) u(r) with u periodic over one unit cell. Multislice
of u is the usual one, u -> t u, with the Fresnel propagator and the band limit at k = q0 + G. The
supercell's transforms fall apart into m n times smaller ones, its Gram matrix into one block for
each q0: beams of different q0 end in different places of every detector and do not interfere.

Images have the period of the unit cell, not because it is imposed on them but because no
coefficient at another frequency ever arises: equivalent columns are equal to rounding.

Sampling: the product of a wave with frequencies of t up to k_cut is free of aliasing inside the
disk if twice the Nyquist frequency is 2 k_max + k_cut or more. Only differences of frequencies
matter, so that holds for every q0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from nanophantom.simcore import parallel
from nanophantom.simcore.arrays import backend
from nanophantom.simcore.atoms import Atoms
from nanophantom.simcore.electrons.batch import BatchMultislice, Disk
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.multislice import Step
from nanophantom.simcore.electrons.potential import PotentialBuilder
from nanophantom.simcore.electrons.scattering import ScatteringTable
from nanophantom.simcore.electrons.slicing import SLICE_THICKNESS_A, slice_atoms
from nanophantom.simcore.electrons.stem.detectors import Detector, Weights
from nanophantom.simcore.electrons.stem.gram import Block, GramMatrices, gram
from nanophantom.simcore.electrons.stem.probe import Beams, Probe, lattice
from nanophantom.simcore.electrons.transmission import (
    SCAN_OVERSAMPLING,
    Transmission,
    fineness_for,
)
from nanophantom.simcore.fft import fast_length

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_SAME_A = 1e-6  # atoms closer than this are at the same place


@dataclass(frozen=True, eq=False)
class UnitCell:
    """A cell of a crystal across the beam, and its atoms over the whole thickness.

    Attributes
    ----------
    vectors_A : (2, 2)
        Lattice vectors a1, a2 as rows (x, y); a1 along +x, a2 towards +y.
    numbers : (n,) int
        Atomic numbers.
    positions_A : (n, 3)
        Positions (x, y, z) of one atom of each kind that the lattice repeats.

    Raises
    ------
    ValueError
        The vectors lie otherwise, or shapes don't match.
    """

    vectors_A: Floats
    numbers: Ints
    positions_A: Floats

    def __post_init__(self) -> None:
        _checked_vectors(self.vectors_A)
        if self.positions_A.shape != (len(self.numbers), 3):
            raise ValueError(
                f"positions_A has shape {self.positions_A.shape}; "
                f"for {len(self.numbers)} atoms ({len(self.numbers)}, 3)"
            )
        if not np.isfinite(self.positions_A).all():
            raise ValueError("a position is not finite")

    @classmethod
    def of_column(cls, column: tuple[Floats, Atoms]) -> UnitCell:
        """Take over what `HasLattice.periodic_column` returns (nm)."""
        vectors_nm, atoms = column
        return cls(10.0 * vectors_nm, np.asarray(atoms.numbers), 10.0 * atoms.positions_nm)

    def grid(self, k_max: float, k_cut: float) -> Grid:
        """Return the grid of one cell for waves up to k_max and a t up to k_cut."""
        (Lx, _), (shear, Ly) = self.vectors_A.tolist()
        edges = np.hypot(shear, Ly), Lx
        ny, nx = (fast_length(int(np.ceil((2 * k_max + k_cut) * edge - 1e-9))) for edge in edges)
        return Grid((ny, nx), (Ly, Lx), k_max, shear)

    def steps(
        self,
        grid: Grid,
        energy_kev: float,
        k_cut: float,
        slice_thickness_A: float = SLICE_THICKNESS_A,
        fineness: int | None = None,
        table: ScatteringTable = "lobato",
    ) -> list[Step]:
        """Return the transmission functions on a grid of one cell, and distances.

        Slices that hold the same atoms at the same places are one array.

        Parameters
        ----------
        grid : Grid
            From `grid`.
        energy_kev : float
        k_cut : float
            Radius of the disk of frequencies in t, 1/Å.
        slice_thickness_A, fineness, table
            As for `slice_atoms`, `Transmission` and `PotentialBuilder`.
        """
        numbers, (x, y, z) = self.numbers, self.positions_A.T
        elements = np.unique(numbers).tolist()
        if not elements:
            return []
        fineness = fineness_for(elements) if fineness is None else fineness
        transmit = Transmission(grid, energy_kev, fineness)
        builder = PotentialBuilder(transmit.potential_grid, elements, table)
        slices = slice_atoms(z, slice_thickness_A, numbers)
        depths = [plane for plane, _ in slices]
        steps: list[Step] = []
        made: dict[bytes, npt.NDArray[np.complex64]] = {}
        for (plane, own), end in zip(slices, [*depths[1:], depths[-1]], strict=True):
            key = self._identity(own)
            if key not in made:
                t = transmit(builder.project(numbers[own], x[own], y[own]))
                made[key] = _cut(t, grid, k_cut)
            steps.append((made[key], end - plane))
        return steps

    def _identity(self, own: Ints) -> bytes:
        """Return what tells a slice from others: elements and places, whole cells left out."""
        share = np.linalg.solve(self.vectors_A.T, self.positions_A[own, :2].T).T
        fine = np.rint(np.linalg.norm(self.vectors_A, axis=1) / _SAME_A).astype(np.int64)
        rows = np.column_stack([self.numbers[own], np.rint(share * fine).astype(np.int64) % fine])
        return rows[np.lexsort(rows.T)].tobytes()


def repeats_for(vectors_A: npt.ArrayLike, width_A: float) -> tuple[int, int]:
    """Return how many cells along a1 and a2 hold a circle of a given diameter.

    Parameters
    ----------
    vectors_A : (2, 2)
        Lattice vectors a1, a2 as rows (x, y), Å.
    width_A : float
        Smallest distance between opposite sides of the supercell, Å.
    """
    vectors = np.asarray(vectors_A, np.float64)
    _checked_vectors(vectors)
    if not width_A > 0:
        raise ValueError(f"width_A is {width_A}; it is positive")
    area = np.linalg.det(vectors)
    heights = area / np.linalg.norm(vectors[::-1], axis=1)  # of the cell across a2, across a1
    along_1, along_2 = np.ceil(width_A / heights - 1e-9).astype(int).tolist()
    return max(1, along_1), max(1, along_2)


def supercell_grid(
    vectors_A: npt.ArrayLike, repeats: tuple[int, int] | npt.ArrayLike, k_max: float
) -> Grid:
    """Return the grid of a supercell, on whose lattice of frequencies the beams lie.

    Parameters
    ----------
    vectors_A : (2, 2)
        Of the unit cell.
    repeats : (m, n), or (2, 2) int
        Cells along a1 and a2; or the supercell's vectors as rows, in units of a1 and a2:
        ((1, 0), (1, 2)) is the rectangular cell of a hexagonal lattice with 120 degrees
        between a1 and a2.
    k_max : float

    Raises
    ------
    ValueError
        The supercell's first vector does not point along +x, or its area is not positive.
    """
    super_A = np.asarray(_repeats(repeats) @ np.asarray(vectors_A, np.float64), np.float64)
    try:
        _checked_vectors(super_A)
    except ValueError as problem:
        raise ValueError(f"repeats {np.asarray(repeats).tolist()}: {problem}") from None
    (Lx, _), (shear, Ly) = super_A.tolist()
    shear = 0.0 if abs(shear) < _SAME_A else shear
    return Grid.for_wave((Ly, Lx), k_max, SCAN_OVERSAMPLING, shear)


def unit_cell_gram(
    probe: Probe,
    cell: UnitCell,
    repeats: tuple[int, int] | npt.ArrayLike,
    k_max: float,
    detectors: Sequence[Detector],
    slice_thickness_A: float = SLICE_THICKNESS_A,
    fineness: int | None = None,
    table: ScatteringTable = "lobato",
    k_cut: float | None = None,
    tilt_mrad: tuple[float, float] = (0.0, 0.0),
    threads: int | None = None,
) -> GramMatrices:
    """Make the Gram matrices of a static crystal for every probe within an aperture.

    Parameters
    ----------
    probe : Probe
        Its aperture decides the beams.
    cell : UnitCell
    repeats : (m, n), or (2, 2) int
        Supercell, see `supercell_grid`. It decides how finely the aperture is sampled: a probe
        must fit in it (`repeats_for`).
    k_max : float
        Band limit of the waves, 1/Å.
    detectors : sequence of Detector
    slice_thickness_A : float
        Largest thickness of a slice, Å.
    fineness : int, optional
        How many times finer than t the potential is sampled; by default `fineness_for`.
    table : {"lobato", "kirkland"}
    k_cut : float, optional
        Highest frequency in the transmission functions, 1/Å; by default `k_max`. `Transmission`
        cuts at 2 (Nyquist - k_max) of its grid.
    tilt_mrad : (x, y)
        Direction of the incident beam, as for `Multislice`.
    threads : int, optional
        Blocks under way at a time. The result doesn't depend on it.

    Returns
    -------
    GramMatrices
        One block for every q0. Its grid is that of the supercell.

    Raises
    ------
    ValueError
        The supercell does not lie as `supercell_grid` wants it, or the aperture reaches beyond
        the band limit.
    """
    k_cut = k_max if k_cut is None else k_cut
    if not k_cut > 0:
        raise ValueError(f"k_cut is {k_cut}; it is positive")
    names = Weights.of(detectors, [0.0], [0.0], probe.energy_kev).names
    big = supercell_grid(cell.vectors_A, repeats, k_max)
    beams = Beams.inside(big, probe)
    families = _families(beams.harmonics, _repeats(repeats))
    grid = cell.grid(k_max, k_cut)
    steps = cell.steps(grid, probe.energy_kev, k_cut, slice_thickness_A, fineness, table)
    device = backend("numpy")
    most = max(1, device.batch_points // int(np.prod(grid.shape)))
    at_once = _batch([len(family.beams) for family in families], most)

    kept = np.empty(len(beams))

    def engine() -> BatchMultislice:
        return BatchMultislice(grid, probe.energy_kev, at_once, tilt_mrad, device)

    def make(own: BatchMultislice, family: _Family) -> Block:
        disk = Disk.around(grid, family.q0(cell.vectors_A))
        weights = Weights.of(
            detectors, disk.kx, disk.ky, probe.energy_kev, disk.inside, lattice(big)
        )
        places = disk.place(family.harmonics)
        matrix = np.empty((len(places), len(weights.place)), np.complex64)
        for start in range(0, len(places), at_once):
            some = places[start : start + at_once]
            waves = np.zeros((len(some), disk.inside.size), np.complex64)
            waves[np.arange(len(some)), some] = 1
            out = own.propagate(waves.reshape(-1, *disk.inside.shape), steps, disk)
            flat = out.reshape(len(some), -1)
            matrix[start : start + len(some)] = flat[:, weights.place]
            kept[family.beams[start : start + len(some)]] = np.sum(
                np.abs(flat) ** 2, axis=1, dtype=np.float64
            )
        return Block(family.beams, gram(matrix, weights, threads=1))

    with threadpool_limits(1, user_api="blas"):
        blocks = parallel.map_threads(make, families, engine, threads)
    return GramMatrices(probe, beams, big, names, blocks, kept)


@dataclass(frozen=True, eq=False)
class _Family:
    """The beams that share a q0.

    Attributes
    ----------
    share : (2,)
        q0 a1 and q0 a2, in 0 ... 1.
    beams : (n,) int
        Which of all beams.
    harmonics : (n, 2) int
        Their G on the unit cell, (l, h) along y (a2) and x (a1).
    """

    share: Floats
    beams: Ints
    harmonics: Ints

    def q0(self, vectors_A: Floats) -> tuple[float, float]:
        """Return q0 (x, y), 1/Å."""
        x, y = np.linalg.solve(vectors_A, self.share)
        return float(x), float(y)


def _families(harmonics: Ints, repeats: Ints) -> list[_Family]:
    """Sort beams of a supercell by their q0, in whole numbers.

    With supercell vectors A = N a and k A = (h, l) a beam has k a = N^-1 (h, l): its whole part is
    G, the rest q0.
    """
    (p, q), (r, s) = repeats.tolist()
    area = p * s - q * r
    adjugate = np.array([[s, -q], [-r, p]])
    whole, rest = np.divmod(harmonics[:, ::-1] @ adjugate.T, area)
    kinds, kind = np.unique(rest, axis=0, return_inverse=True)
    families = []
    for i, numerators in enumerate(kinds):
        own = np.flatnonzero(kind.ravel() == i)
        families.append(_Family(numerators / area, own, whole[own, ::-1]))
    return families


def _batch(sizes: Sequence[int], most: int) -> int:
    """Return how many waves to send at a time, most / 2 to most, so that few places stay empty."""
    most = min(most, max(sizes))
    choices = range(most, (most - 1) // 2, -1)
    return min(choices, key=lambda n: sum(-(-size // n) * n for size in sizes))


def _cut(
    transmission: npt.NDArray[np.complex64], grid: Grid, k_cut: float
) -> npt.NDArray[np.complex64]:
    """Cut a transmission function to a disk of frequencies."""
    ky, kx = grid.frequencies(grid.shape)
    inside = kx**2 + ky**2 <= k_cut**2 * (1 + 1e-9)
    return np.asarray(np.fft.ifft2(np.fft.fft2(transmission) * inside), np.complex64)


def _repeats(repeats: tuple[int, int] | npt.ArrayLike) -> Ints:
    given = np.asarray(repeats)
    if given.shape not in ((2,), (2, 2)) or (given != np.rint(given)).any():
        raise ValueError(f"repeats is {given.tolist()}; give (m, n) or a 2 x 2 whole-number matrix")
    whole = given.astype(np.int64)
    return np.diag(whole) if whole.ndim == 1 else whole


def _checked_vectors(vectors_A: Floats) -> None:
    if vectors_A.shape != (2, 2) or not np.isfinite(vectors_A).all():
        raise ValueError("lattice vectors are two finite rows (x, y)")
    (x1, y1), (x2, y2) = vectors_A.tolist()
    if not (x1 > 0 and abs(y1) < _SAME_A and y2 > 0):
        raise ValueError(
            f"the lattice vectors are ({x1:g}, {y1:g}) and ({x2:g}, {y2:g}); the first must point "
            "along +x and the second towards +y: turn the crystal"
        )

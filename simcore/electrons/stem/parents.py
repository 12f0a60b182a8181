"""Parent beams: a few beams of a probe are propagated, the others interpolated between them.

P. M. Pelz et al., Microscopy and Microanalysis 27, 835 (2021), "partitioned PRISM". A beam k_b
that meets a thin object at depth z0 below the entrance face leaves the wave

    S_b(k) = exp(-i pi lambda (t - z0) k^2) T(k - k_b) exp(-i pi lambda z0 k_b^2),

so that, with q = k - k_b counted from the beam itself, the two propagations taken away leave T(q),
the same for every beam:

    R_b(q) = S_b(q + k_b) exp(i pi lambda [(t - z0) |q + k_b|^2 + z0 k_b^2]) = T(q).

In a thick specimen what is scattered at another depth z keeps exp(2 pi i k_b s(q)) with
s = lambda (z - z0) q: it is seen under another parallax. With z0 in the middle |s| is at most
lambda q t / 2, and as a function of k_b R is band-limited by that length. So R_b is found from the
parents' R_p as a band-limited function is from its samples: as a weighted sum, the weights those of
least mean square error. They are computed anew for each ring of q, because what is scattered to
high angles turns faster with k_b. A beam that is a parent is itself again: all beams as parents is
the exact scattering matrix.

Everything else - positions, defocus, detectors - is as exact as for the scattering matrix: the
expanded matrix makes Gram matrices.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg
from scipy.special import j1
from threadpoolctl import threadpool_limits

from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.multislice import ExitWave
from nanophantom.simcore.electrons.stem.detectors import Weights
from nanophantom.simcore.electrons.stem.gram import Block, GramMatrices, gram
from nanophantom.simcore.electrons.stem.probe import Beams, Probe, lattice
from nanophantom.simcore.electrons.stem.scan import Slices, exit_waves

Floats = npt.NDArray[np.float64]
_NOISE = 1e-5  # share of R that is taken as not band-limited: keeps weights small and stable
_RING = 0.25  # 1/Å of q that share their weights
_BENT = 1.0  # 1/Å: what is scattered twice, far and back, is found at small q
_BEAMS_AT_ONCE = 128


class _Around:
    """Differences q between detected and incident waves, in the order of their length.

    Parameters
    ----------
    harmonics : (m, 2) int
        Largest differences that occur, as harmonics along y and x.
    grid : Grid
    q_max : float
        Their largest length, 1/Å.
    """

    def __init__(self, largest: npt.NDArray[np.int64], grid: Grid, q_max: float) -> None:
        self._middle = largest
        h = np.indices(tuple(2 * largest + 1)).reshape(2, -1).T - largest
        along_x, along_y = lattice(grid)
        length = np.hypot(*(h[:, 1:] * along_x + h[:, :1] * along_y).T)
        order = np.argsort(length, kind="stable")
        order = order[length[order] <= q_max * (1 + 1e-9)]
        self.q = length[order]
        self._columns = np.full(len(h), -1)
        self._columns[order] = np.arange(len(order))

    def column(self, difference: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the places of differences (n, 2), -1 for those that are too large."""
        shifted = difference + self._middle
        inside = np.all((shifted >= 0) & (shifted <= 2 * self._middle), axis=1)
        flat = shifted[:, 0] * (2 * self._middle[1] + 1) + shifted[:, 1]
        return np.where(inside, self._columns[np.where(inside, flat, 0)], -1)

    def rings(self) -> list[tuple[slice, float]]:
        """Return the parts between lengths, and the mean length of each."""
        edges = np.searchsorted(self.q, np.arange(0.0, self.q[-1] + _RING, _RING))
        edges[-1] = len(self.q)
        parts = [slice(int(a), int(b)) for a, b in itertools.pairwise(edges) if b > a]
        return [(part, float(self.q[part].mean())) for part in parts]


def choose_parents(beams: Beams, rings: int) -> npt.NDArray[np.int64]:
    """Return which beams are parents: one in the middle and 6, 12, 18 ... on rings around it.

    Rings are equally spaced, the outermost on the edge of the aperture; each parent is the beam
    of the cell closest to its place, so where the places are denser than beams, all are parents.

    Parameters
    ----------
    beams : Beams
    rings : int
        Number of rings: 1 + 3 n (n + 1) parents at most.

    Raises
    ------
    ValueError
        `rings` is below 1.
    """
    if rings < 1:
        raise ValueError(f"rings is {rings}; at least one ring of parent beams is needed")
    middle = 0.5 * (beams.kx.min() + beams.kx.max()), 0.5 * (beams.ky.min() + beams.ky.max())
    radius = float(np.hypot(beams.kx - middle[0], beams.ky - middle[1]).max())
    found = set()
    for ring in range(rings + 1):
        for i in range(max(1, 6 * ring)):
            azimuth = 2 * math.pi * i / max(1, 6 * ring)
            x = middle[0] + radius * ring / rings * math.cos(azimuth)
            y = middle[1] + radius * ring / rings * math.sin(azimuth)
            found.add(int(np.argmin((beams.kx - x) ** 2 + (beams.ky - y) ** 2)))
    return np.array(sorted(found))


def interpolation_weights(beams: Beams, parents: npt.NDArray[np.int64], reach_A: float) -> Floats:
    """Return the weights (beams, parents) that interpolate functions of limited parallax.

    For functions of k_b that are sums of exp(2 pi i k_b s) with any |s| <= reach, of random phase,
    the mean product at two beams is C(d) = 2 J1(x) / x with x = 2 pi reach d. The weighted sum of
    the parents closest to the truth in the mean square has the weights C_bp C_pp^-1 (Wiener and
    Kolmogorov; "kriging"), here with the constraint that constants are kept.

    Parameters
    ----------
    beams : Beams
    parents : (p,) int
    reach_A : float
        Largest parallax, Å.
    """

    def correlation(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> Floats:
        d = np.hypot(beams.kx[a][:, None] - beams.kx[b], beams.ky[a][:, None] - beams.ky[b])
        x = np.maximum(2 * np.pi * reach_A * d, 1e-6)
        return np.asarray(2 * j1(x) / x)

    every = np.arange(len(beams))
    n = len(parents)
    system = np.ones((n + 1, n + 1))
    system[:n, :n] = correlation(parents, parents) + _NOISE * np.eye(n)
    system[n, n] = 0
    right = np.ones((n + 1, len(every)))
    right[:n] = correlation(parents, every)
    weights = linalg.solve(system, right, assume_a="sym")[:n].T
    weights[parents] = np.eye(n)
    return np.asarray(weights)


def parent_matrix(
    probe: Probe,
    slices: Slices,
    grid: Grid,
    place: npt.NDArray[np.int64],
    thickness_A: float,
    n_rings: int,
    tilt_mrad: tuple[float, float] = (0.0, 0.0),
    threads: int | None = None,
) -> tuple[Beams, npt.NDArray[np.complex64]]:
    """Return the scattering matrix of a probe's beams, interpolated from a few of them.

    Parameters
    ----------
    probe : Probe
        Its aperture decides the beams.
    slices, grid, tilt_mrad, threads
        As for `scan.exit_waves`.
    place : (q,) int
        Which coefficients of the flattened exit waves to keep.
    thickness_A : float
        Distance from the first slice to the plane of the exit waves.
    n_rings : int
        Of parent beams, see `choose_parents`.

    Returns
    -------
    beams : Beams
    matrix : (n, q) complex64
        As `s_matrix.scattering_matrix` gives it.
    """
    if not thickness_A >= 0:
        raise ValueError(f"thickness_A is {thickness_A}; it is zero or positive")
    beams = Beams.inside(grid, probe)
    parents = choose_parents(beams, n_rings)
    lam = float(wavelength(probe.energy_kev))
    k0x, k0y = 1e-3 * np.asarray(tilt_mrad) / lam
    ky, kx = (k.reshape(-1) for k in np.broadcast_arrays(*grid.wave_frequencies))

    def undone(kx: Floats, ky: Floats) -> npt.NDArray[np.complex128]:
        """Take the propagation through half the specimen away."""
        path = kx**2 + 2 * k0x * kx + ky**2 + 2 * k0y * ky
        return np.asarray(np.exp(0.5j * np.pi * lam * thickness_A * path))

    entering, leaving = undone(beams.kx, beams.ky), undone(kx, ky)
    harmonics = _harmonics(grid)
    largest = np.abs(harmonics[place]).max(axis=0) + np.abs(beams.harmonics).max(axis=0)
    q_max = np.hypot(kx[place], ky[place]).max() + np.hypot(beams.kx, beams.ky).max()
    around = _Around(largest, grid, float(q_max))
    reduced = np.zeros((len(parents), len(around.q)), np.complex64)  # R_p(q)

    def make(i: int) -> npt.NDArray[Any]:
        one = np.zeros(len(beams), complex)
        one[parents[i]] = 1
        return beams.wave(one, grid)

    def read(i: int, out: ExitWave) -> None:
        b = parents[i]
        column = around.column(harmonics - beams.harmonics[b])
        near = column >= 0
        reduced[i, column[near]] = (out.wave_k.reshape(-1) * leaving)[near] * entering[b]

    exit_waves(make, len(parents), slices, grid, probe.energy_kev, read, tilt_mrad, threads)

    rings = [part for part, _ in around.rings()]
    reach = [0.5 * lam * thickness_A * math.hypot(q, _BENT) for _, q in around.rings()]
    weights = [interpolation_weights(beams, parents, s).astype(np.float32) for s in reach]
    matrix = np.empty((len(beams), len(place)), np.complex64)
    with threadpool_limits(1, user_api="blas"):  # sums in an order of our own
        for first in range(0, len(beams), _BEAMS_AT_ONCE):
            some = slice(first, min(first + _BEAMS_AT_ONCE, len(beams)))
            filled = np.hstack(
                [w[some] @ reduced[:, q] for q, w in zip(rings, weights, strict=True)]
            )
            for b, wave in enumerate(filled, start=first):  # R_b(q), back to S_b(k)
                column = around.column(harmonics[place] - beams.harmonics[b])
                matrix[b] = wave[column] * np.conj(leaving[place] * entering[b])
    return beams, matrix


def gram_matrices(
    probe: Probe,
    slices: Slices,
    grid: Grid,
    weights: Weights,
    thickness_A: float,
    n_rings: int,
    tilt_mrad: tuple[float, float] = (0.0, 0.0),
    threads: int | None = None,
) -> GramMatrices:
    """Make Gram matrices from parent beams; see `parent_matrix` and `s_matrix.gram_matrices`."""
    beams, matrix = parent_matrix(
        probe, slices, grid, weights.place, thickness_A, n_rings, tilt_mrad, threads
    )
    block = Block(np.arange(len(beams)), gram(matrix, weights, threads))
    return GramMatrices(probe, beams, grid, weights.names, [block])


def _harmonics(grid: Grid) -> npt.NDArray[np.int64]:
    """Return the harmonics (p, 2) along y and x of a flattened wave's coefficients."""
    along = [np.fft.fftfreq(m, 1 / m).round().astype(np.int64) for m in grid.wave_shape]
    return np.stack(np.meshgrid(*along, indexing="ij"), axis=-1).reshape(-1, 2)

"""Sums over atoms at any positions, as fast as a Fourier transform of the grid.

What is wanted, on the samples of a periodic cell, is::

    V(r) = sum_k exp(2 pi i k r) sum_l F_l(k) S_l(k),   S_l(k) = sum_atoms w_l exp(-2 pi i k r_atom)

with a few filters F_l and, for each, weights w_l of the atoms. The structure factors S_l come from
a non-uniform fast Fourier transform: every atom is spread as a smooth bump of known transform on
the grid, and the transform of the grid is divided by that of the bump. The bump is the exponential
of a semicircle of A. H. Barnett, J. Magland and L. af Klinteberg, SIAM J. Sci. Comput. 41, C479
(2019). A bump 10 pixels wide keeps every structure factor exact to 1e-6, up to 2/3 of the Nyquist
frequency of the grid. Beyond that V is zero: a hard cut on a disk, so that moving an atom by any
fraction of a pixel changes phases of Fourier coefficients and nothing else.

All of this happens in harmonics of the cell and fractions of its edges, so that the cell may be
oblique; only |k| knows its shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.electrons import gridding_kernels as kernels
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.gridding_kernels import WIDTH
from nanophantom.simcore.fft import RealTransform, Transform

Floats = npt.NDArray[np.float64]

BAND = 2 / 3  # radius of the kept frequencies in units of the Nyquist frequency
_BETA = 2.0 * WIDTH  # of the bump: smallest aliasing inside BAND
_DEGREE = 8  # of the polynomials that the bump is made of: exact to 2e-9
_BLOCK_POINTS = 1 << 15  # points transformed at a time: 256 kB in single precision, an L2 cache
PADDING = 8  # see `nanophantom.simcore.fft.Transform`


class Bumps(NamedTuple):
    """Atoms as bumps on the grid, sorted by the row in which they begin.

    `order` says which atom each of them is; the other arrays are as `kernels.spread` wants them.
    """

    order: npt.NDArray[np.int64]
    first_y: npt.NDArray[np.int64]
    first_x: npt.NDArray[np.int64]
    along_y: npt.NDArray[Any]
    along_x: npt.NDArray[Any]


class Layer(NamedTuple):
    """One term of the sum: a filter (from `Gridding.filter`), bumps and a weight for each bump."""

    filter: npt.NDArray[Any]
    bumps: Bumps
    weights: npt.NDArray[Any]


class Gridding:
    """Sums over atoms on one grid.

    Parameters
    ----------
    grid : Grid
        Where the sum is sampled.
    dtype : {"float32", "float64"}
        Precision.

    Attributes
    ----------
    k_cut : float
        Radius of the disk of frequencies in the sum, 1/Å: 2/3 of the Nyquist frequency.
    k : (m, ny) float64
        |k| of the independent Fourier coefficients, 1/Å: harmonics 0 ... m - 1 along x and all of
        them along y, transposed as the columns are transformed.

    Raises
    ------
    ValueError
        If the grid has fewer than 10 samples along an axis.
    """

    def __init__(self, grid: Grid, dtype: npt.DTypeLike = "float32") -> None:
        if min(grid.shape) < WIDTH:
            raise ValueError(f"the grid is {grid.shape}; it needs {WIDTH} samples along each axis")
        self.grid = grid
        self.dtype = np.dtype(dtype)
        self.k_cut = BAND * min(grid.nyquist)

        (ny, nx), (Ly, Lx) = grid.shape, grid.extent_A
        self._along_x = np.arange(int(self.k_cut * Lx) + 1)  # harmonics; V is real
        self._along_y = np.fft.fftfreq(ny, 1 / ny)
        kx = self._along_x[:, None] / Lx
        self.k: Floats = np.hypot(kx, (self._along_y - kx * grid.shear_A) / Ly)
        self._inside = self.k <= self.k_cut * (1 + 1e-9)  # the same on any cell of a crystal
        self._bump = np.outer(
            _bump_transform(self._along_x / nx), _bump_transform(self._along_y / ny)
        )
        self._polynomials = _bump_polynomials().astype(self.dtype)

        complex_type = np.result_type(self.dtype, np.complex64)
        self._rows = RealTransform((block_size(nx), nx), self.dtype, axes=(-1,))
        self._columns = Transform((block_size(ny), ny), complex_type, axes=(-1,), padding=PADDING)
        self._sum = Transform((block_size(ny), ny), complex_type, axes=(-1,), padding=PADDING)
        self._halves: list[npt.NDArray[Any]] = []  # half transformed, one per layer

    def filter(self, coefficients: Floats) -> npt.NDArray[Any]:
        """Fourier coefficients F(k) at `k`, cut to the disk and divided by those of the bump."""
        out = np.zeros_like(self.k)
        np.divide(coefficients, self._bump, where=self._inside, out=out)
        return out.astype(self.dtype)

    def bumps(self, x_A: Floats, y_A: Floats) -> Bumps:
        """Bumps of atoms at positions in Å; the cell repeats periodically."""
        fraction_y, fraction_x = self._fractions(x_A, y_A)
        ny, nx = self.grid.shape
        y = fraction_y * ny - 0.5 * WIDTH  # left ends of the bumps, in samples
        x = fraction_x * nx - 0.5 * WIDTH
        first_y, first_x = np.ceil(y), np.ceil(x)
        row = first_y.astype(np.int64) % ny
        order = np.argsort(row, kind="stable")
        along_y = np.empty((len(order), WIDTH), self.dtype)
        along_x = np.empty((len(order), WIDTH), self.dtype)
        for left, first, values in ((y, first_y, along_y), (x, first_x, along_x)):
            offset = (2 * (first - left) - 1)[order].astype(self.dtype)
            kernels.bumps(offset, self._polynomials, values)
        column = (first_x.astype(np.int64) % nx)[order]
        return Bumps(order, row[order], column, along_y, along_x)

    def sum(self, layers: Sequence[Layer]) -> npt.NDArray[Any]:
        """Sum of all layers, a new real array (ny, nx)."""
        ny, nx = self.grid.shape
        if not layers:
            return np.zeros((ny, nx), self.dtype)
        while len(self._halves) < len(layers):
            width = len(self._columns.data)
            shape = (-(-len(self.k) // width), ny, width)  # blocks of columns
            self._halves.append(np.zeros(shape, self._columns.data.dtype))
        self._transform_rows(layers)
        self._filter_columns(layers)
        return self._to_real_space()

    def exact(
        self, layers: Sequence[tuple[Floats, Floats, Floats, Floats]]
    ) -> npt.NDArray[np.float64]:
        """Sum of layers (F(k), x_A, y_A, weights) with structure factors summed directly.

        The sum over atoms separates into the two axes, a matrix product: the truth for tests.
        """
        spectrum = np.zeros(self.k.shape, complex)
        for coefficients, x_A, y_A, weights in layers:
            fraction_y, fraction_x = self._fractions(x_A, y_A)
            phase_x = np.exp(-2j * np.pi * np.outer(self._along_x, fraction_x))
            phase_y = np.exp(-2j * np.pi * np.outer(fraction_y, self._along_y))
            spectrum += coefficients * self._inside * ((phase_x * weights) @ phase_y)
        return np.fft.irfft2(spectrum.T, s=self.grid.shape, norm="forward")

    def _fractions(self, x_A: Floats, y_A: Floats) -> tuple[Floats, Floats]:
        """Positions in units of the edges of the cell."""
        (Ly, Lx), shear = self.grid.extent_A, self.grid.shear_A
        fraction_y = y_A / Ly
        return fraction_y, (x_A - fraction_y * shear) / Lx

    def _transform_rows(self, layers: Sequence[Layer]) -> None:
        """Spread the atoms over some rows at a time and transform these along x."""
        ny = self.grid.shape[0]
        for layer, half in zip(layers, self._halves, strict=False):
            atoms = layer.bumps[1:]
            for start, count in blocks(ny, len(self._rows.real)):
                if kernels.spread(self._rows.real, start, count, ny, *atoms, layer.weights):
                    kernels.store_rows(self._rows.forward(), start, count, half, len(self.k))
                else:
                    half[:, start : start + count] = 0

    def _filter_columns(self, layers: Sequence[Layer]) -> None:
        """Transform along y, sum F_l(k) S_l(k) over the layers, transform back along y."""
        first = self._halves[0]
        for block, (start, count) in enumerate(blocks(len(self.k), len(self._columns.data))):
            self._sum.data[...] = 0
            for layer, half in zip(layers, self._halves, strict=False):
                kernels.gather_columns(half[block], count, self._columns.data)
                self._columns.forward()
                kernels.add_filtered(self._sum.data, self._columns.data, count, layer.filter, start)
            self._sum.inverse()
            kernels.scatter_columns(self._sum.data, count, first[block])

    def _to_real_space(self) -> npt.NDArray[Any]:
        """Transform the first half transformed array back along x."""
        half, spectrum = self._halves[0], self._rows.spectrum
        potential = np.empty(self.grid.shape, self.dtype)
        for start, count in blocks(len(potential), len(spectrum)):
            kernels.load_rows(half, start, count, spectrum, len(self.k))
            potential[start : start + count] = self._rows.inverse()[:count]
        return potential


def _bump(z: Floats) -> Floats:
    """exp(beta (sqrt(1 - z^2) - 1)) for z = -1 ... 1 from end to end."""
    return np.asarray(np.exp(_BETA * (np.sqrt(np.maximum(0.0, 1 - z**2)) - 1)))


def _bump_transform(cycles_per_sample: Floats) -> Floats:
    """Fourier transform of the bump, by Gauss-Legendre quadrature over its angle."""
    nodes, weights = np.polynomial.legendre.leggauss(100)
    angle = 0.5 * np.pi * nodes
    bump = _bump(np.sin(angle)) * np.cos(angle) * weights
    wave = np.cos(np.pi * WIDTH * np.outer(cycles_per_sample, np.sin(angle)))
    transform: Floats = 0.25 * np.pi * WIDTH * (wave @ bump)
    return transform


def _bump_polynomials() -> Floats:
    """One polynomial per sample: the bump there, by the position in the pixel (-1 ... 1)."""
    nodes = np.cos(np.pi * (np.arange(64) + 0.5) / 64)  # Chebyshev's
    z = (0.5 * (nodes[:, None] + 1) + np.arange(WIDTH)) * 2 / WIDTH - 1
    chebyshev = np.polynomial.chebyshev
    series = chebyshev.chebfit(nodes, _bump(z), _DEGREE)
    return np.stack([chebyshev.cheb2poly(column)[::-1] for column in series.T], axis=1)


def block_size(length: int) -> int:
    """Return the number of lines of `length` points to transform at a time."""
    return max(4, _BLOCK_POINTS // length)


def blocks(total: int, size: int) -> list[tuple[int, int]]:
    """List start and number of lines of each block."""
    return [(start, min(size, total - start)) for start in range(0, total, size)]

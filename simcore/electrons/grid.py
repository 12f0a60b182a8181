"""The grid of a multislice simulation: how finely space and how far frequencies are sampled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.fft import fast_length

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """A periodic cell sampled in real space, and the disk of frequencies a wave may use.

    The wave is a set of Fourier coefficients with k <= `k_max`: that disk is the band limit. Real
    space is sampled more finely, so that products of the wave with a transmission function can be
    formed point by point. Two frequencies of the grid that differ by its sampling frequency are
    one (aliasing). If the Nyquist frequency is at least 2 `k_max`, no product of the sampled
    transmission function with the wave can be mistaken for another frequency inside the disk.

    Parameters
    ----------
    shape : (ny, nx)
        Number of samples.
    extent_A : (Ly, Lx)
        Edges of the periodic cell, Å.
    k_max : float
        Radius of the disk of kept frequencies, 1/Å.
    shear_A : float
        For cells that are no rectangles: the edges of the cell are (Lx, 0) and (shear_A, Ly),
        both as (x, y). Sample [i, j] lies at x = j Lx / nx + i shear_A / ny, y = i Ly / ny, and
        coefficient [l, h] belongs to kx = h / Lx, ky = (l - h shear_A / Lx) / Ly.

    Raises
    ------
    ValueError
        If a number is not positive or the disk does not fit on the grid.
    """

    shape: tuple[int, int]
    extent_A: tuple[float, float]
    k_max: float
    shear_A: float = 0.0

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise ValueError(f"shape is {self.shape}; both numbers of samples are at least 1")
        if not (min(self.extent_A) > 0 and np.isfinite(self.extent_A).all()):
            raise ValueError(f"extent_A is {self.extent_A}; both edges are positive")
        if not (self.k_max > 0 and np.isfinite(self.k_max)):
            raise ValueError(f"k_max is {self.k_max}; the band limit is positive")
        if any(2 * h >= n for h, n in zip(self.order, self.shape, strict=True)):
            raise ValueError(
                f"k_max is {self.k_max} 1/Å, but the Nyquist frequency of the grid is "
                f"{min(self.nyquist):.4g} 1/Å; the disk must lie inside it"
            )

    @classmethod
    def for_wave(
        cls,
        extent_A: tuple[float, float],
        k_max: float,
        oversampling: float = 2.0,
        shear_A: float = 0.0,
    ) -> Self:
        """Choose the number of samples for a cell and a band limit.

        Parameters
        ----------
        extent_A : (Ly, Lx)
            Edges of the periodic cell, Å.
        k_max : float
            Band limit of the wave, 1/Å.
        oversampling : float
            Nyquist frequency of the grid in units of `k_max`, at least. 2 keeps products free of
            aliasing; see `oversampling_for`.
        shear_A : float
            As for `Grid`.

        Raises
        ------
        ValueError
            If `oversampling` is below 1 or the cell is smaller than one period of `k_max`.
        """
        if not oversampling >= 1:
            raise ValueError(f"oversampling is {oversampling}; it is at least 1")
        edges = (float(np.hypot(extent_A[0], shear_A)), extent_A[1])
        order = [_order(k_max, length) for length in edges]
        if min(order) < 1:
            raise ValueError(
                f"extent_A is {extent_A} with k_max {k_max} 1/Å; each edge is at least 1/k_max"
            )
        least = [int(np.ceil(2 * oversampling * k_max * edge - 1e-9)) for edge in edges]
        ny, nx = (fast_length(max(n, 2 * h + 1)) for n, h in zip(least, order, strict=True))
        return cls((ny, nx), (float(extent_A[0]), float(extent_A[1])), float(k_max), shear_A)

    @property
    def sampling_A(self) -> tuple[float, float]:
        """Distance (dy, dx) between rows and between samples of a row, Å."""
        return self.extent_A[0] / self.shape[0], self.extent_A[1] / self.shape[1]

    @property
    def edges_A(self) -> tuple[float, float]:
        """Lengths of the cell's edges, Å: those along rows' order (y, or sheared) and along x."""
        return float(np.hypot(self.extent_A[0], self.shear_A)), self.extent_A[1]

    @property
    def area_A2(self) -> float:
        """Area of the cell, Å^2."""
        return self.extent_A[0] * self.extent_A[1]

    @property
    def nyquist(self) -> tuple[float, float]:
        """Radius of the disk of frequencies that the samples along y, and along x, can hold."""
        return 0.5 * self.shape[0] / self.edges_A[0], 0.5 * self.shape[1] / self.edges_A[1]

    @property
    def order(self) -> tuple[int, int]:
        """Highest harmonic of the cell inside the disk, along y and x."""
        return _order(self.k_max, self.edges_A[0]), _order(self.k_max, self.edges_A[1])

    @property
    def wave_shape(self) -> tuple[int, int]:
        """Shape of the array of Fourier coefficients of a wave (numpy's FFT order)."""
        return 2 * self.order[0] + 1, 2 * self.order[1] + 1

    @cached_property
    def wave_frequencies(self) -> tuple[Floats, Floats]:
        """Frequencies ky and kx of the coefficients of a wave, arrays that broadcast; 1/Å."""
        return self.frequencies(self.wave_shape)

    @cached_property
    def wave_mask(self) -> npt.NDArray[np.bool_]:
        """True (my, mx) for the coefficients inside the disk."""
        ky, kx = self.wave_frequencies
        inside: npt.NDArray[np.bool_] = ky**2 + kx**2 <= self.k_max**2 * (1 + 1e-9)
        return inside

    def frequencies(self, shape: tuple[int, int]) -> tuple[Floats, Floats]:
        """Frequencies of an array of Fourier coefficients in numpy's FFT order, 1/Å.

        Returns
        -------
        ky : (ny, 1), or (ny, nx) where the cell is sheared
        kx : (1, nx)
        """
        ky = frequencies(shape[0], self.extent_A[0])[:, None]
        kx = frequencies(shape[1], self.extent_A[1])[None, :]
        if self.shear_A:
            ky = ky - kx * self.shear_A / self.extent_A[0]
        return ky, kx


def oversampling_for(numbers: Iterable[int]) -> int:
    """Oversampling that the heaviest of some elements asks for: 3 beyond zinc, else 2.

    Potentials are cut at 2/3 of the Nyquist frequency. Close to a nucleus the phase sigma V is no
    longer small, and the cut then changes scattering to lower angles too. Intensity scattered by a
    single atom at 200 kV to 0.2 ... 0.5 k_max (k_max = 4 1/Å), against the limit of fine sampling:

    ============  =====  =====  =====  =====  =====  =====
    oversampling  C      Si     Cu     Sr     Ag     Au
    ============  =====  =====  =====  =====  =====  =====
    2             0.1 %  0.6 %  2.2 %  3.8 %  5.2 %  11 %
    3             0.0 %  0.3 %  1.2 %  2.0 %  2.6 %  3.7 %
    ============  =====  =====  =====  =====  =====  =====

    The error is two to five times as large at 0.5 ... 1 k_max (gold 31 and 18 %), where only more
    oversampling or a larger k_max helps, and a quarter of it below 0.2 k_max, where images form.
    """
    return 3 if max(numbers, default=0) > 30 else 2


def frequencies(n: int, length_A: float) -> Floats:
    """Frequencies of n samples over a period, 1/Å, in numpy's FFT order."""
    return np.asarray(np.fft.fftfreq(n, length_A / n), np.float64)


def _order(k_max: float, length_A: float) -> int:
    return int(np.floor(k_max * length_A * (1 + 1e-10)))

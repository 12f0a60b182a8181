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

    Raises
    ------
    ValueError
        If a number is not positive or the disk does not fit on the grid.
    """

    shape: tuple[int, int]
    extent_A: tuple[float, float]
    k_max: float

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
        cls, extent_A: tuple[float, float], k_max: float, oversampling: float = 2.0
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

        Raises
        ------
        ValueError
            If `oversampling` is below 1 or the cell is smaller than one period of `k_max`.
        """
        if not oversampling >= 1:
            raise ValueError(f"oversampling is {oversampling}; it is at least 1")
        order = [_order(k_max, length) for length in extent_A]
        if min(order) < 1:
            raise ValueError(
                f"extent_A is {extent_A} with k_max {k_max} 1/Å; each edge is at least 1/k_max"
            )
        ny, nx = (fast_length(max(int(np.ceil(2 * oversampling * h)), 2 * h + 1)) for h in order)
        return cls((ny, nx), (float(extent_A[0]), float(extent_A[1])), float(k_max))

    @property
    def sampling_A(self) -> tuple[float, float]:
        """Distance (dy, dx) between samples, Å."""
        return self.extent_A[0] / self.shape[0], self.extent_A[1] / self.shape[1]

    @property
    def nyquist(self) -> tuple[float, float]:
        """Nyquist frequency along y and x, 1/Å."""
        return 0.5 * self.shape[0] / self.extent_A[0], 0.5 * self.shape[1] / self.extent_A[1]

    @property
    def order(self) -> tuple[int, int]:
        """Highest harmonic of the cell inside the disk, along y and x."""
        return _order(self.k_max, self.extent_A[0]), _order(self.k_max, self.extent_A[1])

    @property
    def wave_shape(self) -> tuple[int, int]:
        """Shape of the array of Fourier coefficients of a wave (numpy's FFT order)."""
        return fast_length(2 * self.order[0] + 1), fast_length(2 * self.order[1] + 1)

    @cached_property
    def wave_frequencies(self) -> tuple[Floats, Floats]:
        """Frequencies ky (my,) and kx (mx,) of the coefficients of a wave, 1/Å."""
        (my, mx), (ly, lx) = self.wave_shape, self.extent_A
        return frequencies(my, ly), frequencies(mx, lx)

    @cached_property
    def wave_mask(self) -> npt.NDArray[np.bool_]:
        """True (my, mx) for the coefficients inside the disk."""
        ky, kx = self.wave_frequencies
        inside: npt.NDArray[np.bool_] = ky[:, None] ** 2 + kx[None, :] ** 2 <= self.k_max**2 * (
            1 + 1e-9
        )
        return inside


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

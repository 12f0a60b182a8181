"""Transmission functions that are right below a band limit, from finely sampled potentials.

t = exp(i sigma V) contains higher frequencies than V. Where many waves go through the same slices
it pays to form t once on a grid several times as fine, where close to a heavy nucleus nothing
aliases, and to keep of it what a wave of k <= k_max can use on its own, coarser grid. Products with
a wave are free of aliasing inside its disk if t holds no frequency beyond 2 (Nyquist - k_max). On a
grid with Nyquist frequency 1.5 k_max that is k_max (the usual "2/3 rule"), from 2 k_max on it is
2 k_max, all that can ever count. Grids in between are cut at k_max too, so that the result does not
depend on how the number of samples happened to be rounded.

Measured for one gold atom at 200 kV: formed on the wave's grid itself, the intensity scattered to
60 ... 180 mrad varies by 14.5 % with the position between samples; on a grid twice as fine by
0.5 %, four times as fine by less than 0.01 %.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.electrons.constants import interaction_constant
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.wave_kernels import phase_factors
from nanophantom.simcore.fft import Transform

SCAN_OVERSAMPLING = 1.5
"""Nyquist frequency in units of k_max of the grids on which many waves are propagated."""


def fineness_for(numbers: Iterable[int]) -> int:
    """Return how many times finer than the wave's grid t is formed: 3, beyond barium 4.

    With Nyquist frequency 1.5 k_max the potential is then kept to 3 or 4 times the band limit of
    the wave. SrTiO3, 20 nm, 200 kV, 20 mrad, detector 60 ... 180 mrad (of 365 in the wave): the
    signals of the columns change by 0.5 % from 2 to 3 and by 0.2 % from 3 to 4.
    """
    return 3 if max(numbers, default=0) <= 56 else 4


def finer(grid: Grid, factor: int) -> Grid:
    """Return the grid with `factor` times as many samples over the same cell."""
    ny, nx = grid.shape
    return Grid((ny * factor, nx * factor), grid.extent_A, grid.k_max, grid.shear_A)


def highest_frequency(grid: Grid) -> float:
    """Return the radius of the disk of frequencies that t keeps on a grid, 1/Å.

    Raises
    ------
    ValueError
        The grid is too coarse for its waves.
    """
    ratio = min(grid.nyquist) / grid.k_max * (1 + 1e-9)
    if ratio <= 1:
        raise ValueError(f"k_max {grid.k_max} leaves a transmission function no frequencies")
    return grid.k_max * (2.0 if ratio >= 2 else min(1.0, 2 * (ratio - 1)))


class Transmission:
    """Makes transmission functions for the waves of one grid.

    Parameters
    ----------
    grid : Grid
        Of the waves.
    energy_kev : float
    fineness : int
        How many times finer the potentials are sampled.
    dtype : {"complex64", "complex128"}

    Attributes
    ----------
    potential_grid : Grid
        Where potentials are to be sampled.
    """

    def __init__(
        self,
        grid: Grid,
        energy_kev: float,
        fineness: int = 1,
        dtype: npt.DTypeLike = "complex64",
    ) -> None:
        if fineness < 1:
            raise ValueError(f"fineness is {fineness}; it is at least 1")
        self.grid = grid
        self.potential_grid = finer(grid, fineness)
        self._sigma = interaction_constant(energy_kev)
        k_cut = highest_frequency(grid)
        self._fine = Transform(self.potential_grid.shape, dtype)
        self._coarse = Transform(grid.shape, dtype)
        ky, kx = grid.frequencies(grid.shape)
        inside = ky**2 + kx**2 <= k_cut**2 * (1 + 1e-9)
        self._kept = inside / float(np.prod(self.potential_grid.shape))
        self._kept = self._kept.astype(self._coarse.data.real.dtype)

    def __call__(self, potential: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return t (ny, nx), complex, of a projected potential in V Å on `potential_grid`."""
        phase_factors(potential, self._sigma, self._fine.data)
        spectrum = self._fine.forward()
        (ny, nx), (my, mx) = self.potential_grid.shape, self.grid.shape
        # The corners of the spectrum in FFT order. An even coarse grid has its Nyquist frequency
        # on the negative side; it lies outside the kept disk.
        top, left = (my + 1) // 2, (mx + 1) // 2
        low, right = my - top, mx - left
        coarse = self._coarse.data
        coarse[:top, :left] = spectrum[:top, :left]
        coarse[:top, left:] = spectrum[:top, nx - right :]
        coarse[top:, :left] = spectrum[ny - low :, :left]
        coarse[top:, left:] = spectrum[ny - low :, nx - right :]
        coarse *= self._kept
        return self._coarse.inverse().copy()

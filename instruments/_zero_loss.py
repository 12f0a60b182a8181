"""Where electrons lose energy: the local thickness, and what is left of the elastic wave.

The elastic intensity falls with the local thickness t as exp(-t / lambda) (Poisson statistics of
inelastic events, R. F. Egerton, Electron Energy-Loss Spectroscopy in the Electron Microscope,
3rd ed. 2011, eq. 3.94), here taken off the exit wave's amplitude, so that the lens images it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy.ndimage import gaussian_filter, zoom

from nanophantom.simcore.electrons.cell import Cell
from nanophantom.simcore.electrons.configurations import Configurations
from nanophantom.simcore.fields import Array, Table
from nanophantom.simcore.specimens import HasThickness, Specimen

Floats = npt.NDArray[np.float64]

BIN_NM = 0.6
"""Edge of the squares in which the thickness is found: a cell of most crystals."""


@dataclass(frozen=True, eq=False)
class ZeroLoss:
    """The attenuation of the elastic wave.

    Attributes
    ----------
    thickness_nm : (by, bx)
        Extent of the atoms along the beam in squares of the cell, smoothed by half a square; a
        specimen that is a field is as thick everywhere.
    mean_free_path_nm
        Of all inelastic scattering.
    """

    thickness_nm: Floats
    mean_free_path_nm: float

    @classmethod
    def of(
        cls,
        specimen: Specimen,
        configurations: Configurations,
        cell: Cell,
        mean_free_path_nm: float,
    ) -> Self:
        """Find the thickness of a specimen in its cell."""
        ly, lx = (edge / 10.0 for edge in cell.extent_A)
        shape = (max(1, round(ly / BIN_NM)), max(1, round(lx / BIN_NM)))
        if configurations.layers:
            whole = configurations.depth_nm
            if isinstance(specimen, HasThickness):
                whole = specimen.exit_nm
            return cls(np.full(shape, whole), mean_free_path_nm)
        y0, x0 = cell.corner_nm
        x, y, z = configurations.atoms.positions_nm.T
        row = np.floor((y - y0) / ly * shape[0]).astype(np.int64) % shape[0]
        column = np.floor((x - x0) / lx * shape[1]).astype(np.int64) % shape[1]
        last, first = np.full(shape, -math.inf), np.full(shape, math.inf)
        np.maximum.at(last, (row, column), z)
        np.minimum.at(first, (row, column), z)
        extent = np.where(np.isfinite(last), last - first, 0.0)
        return cls(gaussian_filter(extent, 0.5, mode="wrap"), mean_free_path_nm)

    def thickness(self, shape: tuple[int, int]) -> Floats:
        """Return the thickness (nm) on samples of the cell."""
        factors = [n / m for n, m in zip(shape, self.thickness_nm.shape, strict=True)]
        fine = zoom(self.thickness_nm, factors, order=1, mode="grid-wrap", grid_mode=True)
        return np.asarray(fine, np.float64)

    def factor(self, shape: tuple[int, int]) -> Floats:
        """Return the part of the elastic intensity that loses no energy, on samples of the cell."""
        return np.asarray(np.exp(-self.thickness(shape) / self.mean_free_path_nm))

    def attenuated(self, wave_k: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> Array:
        """Return the Fourier coefficients of an exit wave with its amplitude attenuated."""
        ny, nx = wave_k.shape
        wave = scipy.fft.ifft2(wave_k, workers=1) * np.sqrt(self.factor((ny, nx)))
        return np.where(mask, scipy.fft.fft2(wave, workers=1), 0).astype(wave_k.dtype)

    def table(self, cell: Cell) -> Table:
        """Return thickness and factor in the view."""
        return {
            "thickness_nm": cell.crop(self.thickness(cell.shape)),
            "factor": cell.crop(self.factor(cell.shape)),
        }

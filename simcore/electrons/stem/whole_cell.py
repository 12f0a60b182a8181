"""The image of a probe over a whole cell, from as few positions as hold it.

An image has no frequency beyond twice the aperture (see `fourier_image`). Values on a raster of
4 h + 1 positions along an edge of the periodic cell, h the highest harmonic of a beam, are its
Fourier series: exact at every other position too, for any signal that is linear in |psi|^2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.stem.fourier_image import FourierImage
from nanophantom.simcore.electrons.stem.probe import Beams, Probe

Floats = npt.NDArray[np.float64]


def whole_cell(grid: Grid, probe: Probe) -> Floats:
    """Return the positions (n, 2) in Å, as (x, y), that hold the images of a probe."""
    ny, nx = _raster(grid, probe)
    (ly, lx), rows, columns = grid.extent_A, np.arange(ny) / ny, np.arange(nx) / nx
    y, x = np.meshgrid(rows * ly, columns * lx, indexing="ij")
    return np.column_stack([(x + rows[:, None] * grid.shear_A).ravel(), y.ravel()])


def image_of_cell(values: Floats, names: Sequence[str], grid: Grid, probe: Probe) -> FourierImage:
    """Return the images whose values (n, channels) at the positions of `whole_cell` are known."""
    ny, nx = _raster(grid, probe)
    image = values.T.reshape(len(names), ny, nx)
    coefficients = np.fft.fftshift(np.fft.fft2(image, norm="forward"), axes=(1, 2))
    return FourierImage(coefficients, tuple(names), grid.extent_A, grid.shear_A)


def _raster(grid: Grid, probe: Probe) -> tuple[int, int]:
    """Return the rows and columns of `whole_cell`: odd numbers."""
    harmonics = Beams.inside(grid, probe).harmonics
    ny, nx = (2 * int(np.ptp(h)) + 1 for h in harmonics.T)
    return ny, nx

"""Scanned images as Fourier series: their values anywhere, from a few coefficients.

The image of a probe of semiangle alpha over a periodic cell holds no frequency beyond
2 alpha / lambda: it *is* a short Fourier series. With it an image costs the same at sixteen
positions or at a million, on any raster and off it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.electrons.grid import Grid

Floats = npt.NDArray[np.float64]
Complexes = npt.NDArray[np.complex128]
_CHUNK = 1 << 22  # complex numbers in a table of phases


@dataclass(frozen=True, eq=False)
class FourierImage:
    """Images of several detectors over one periodic cell.

    Attributes
    ----------
    coefficients : (channels, 2 h + 1, 2 w + 1) complex
        Of exp(2 pi i (kx x + ky y)); harmonics -h ... h along y and -w ... w along x, in this
        order. Values are parts of the incident intensity (times a detector's weight).
    names : channels str
    extent_A, shear_A
        Of the cell, as in `Grid`.
    """

    coefficients: Complexes
    names: tuple[str, ...]
    extent_A: tuple[float, float]
    shear_A: float = 0.0

    @property
    def frequencies(self) -> tuple[Floats, Floats]:
        """Frequencies ky, kx of the coefficients, arrays that broadcast; 1/Å."""
        _, ny, nx = self.coefficients.shape
        ly, lx = self.extent_A
        kx = (np.arange(nx) - nx // 2)[None, :] / lx
        ky = (np.arange(ny) - ny // 2)[:, None] / ly
        return ky - kx * self.shear_A / ly, kx

    def at(self, positions_A: npt.ArrayLike) -> Floats:
        """Return the values at positions (n, 2), given as (x, y): shape (channels, n)."""
        xy = np.asarray(positions_A, np.float64).reshape(-1, 2)
        channels, ny, nx = self.coefficients.shape
        ly, lx = self.extent_A
        # In fractions of the cell's edges the phase is a product of two.
        along_y = xy[:, 1] / ly
        along_x = (xy[:, 0] - along_y * self.shear_A) / lx
        harmonics_y, harmonics_x = np.arange(ny) - ny // 2, np.arange(nx) - nx // 2
        values = np.empty((channels, len(xy)))
        step = max(1, _CHUNK // (ny + nx * channels))
        for start in range(0, len(xy), step):
            part = slice(start, start + step)
            phase_y = np.exp(2j * np.pi * np.outer(along_y[part], harmonics_y))
            phase_x = np.exp(2j * np.pi * np.outer(along_x[part], harmonics_x))
            half = np.einsum("py,cyx->cpx", phase_y, self.coefficients, optimize=False)
            values[:, part] = np.einsum("cpx,px->cp", half, phase_x).real
        return values

    def on_raster(self, x_A: npt.ArrayLike, y_A: npt.ArrayLike) -> Floats:
        """Return the values at all pairs of x (nx) and y (ny): shape (channels, ny, nx)."""
        x, y = np.asarray(x_A, np.float64), np.asarray(y_A, np.float64)
        if self.shear_A:
            every_x, every_y = np.meshgrid(x, y)
            flat = self.at(np.column_stack([every_x.ravel(), every_y.ravel()]))
            return flat.reshape(-1, len(y), len(x))
        _, ny, nx = self.coefficients.shape
        ly, lx = self.extent_A
        phase_y = np.exp(2j * np.pi * np.outer(y / ly, np.arange(ny) - ny // 2))
        phase_x = np.exp(2j * np.pi * np.outer(np.arange(nx) - nx // 2, x / lx))
        return np.asarray(np.real(phase_y @ self.coefficients @ phase_x))

    def blurred(self, sigma_A: float) -> FourierImage:
        """Return the images of an extended source, convolved with a Gaussian.

        `sigma_A` is its standard deviation along each axis.
        """
        if not sigma_A >= 0:
            raise ValueError(f"the size of the source is {sigma_A}; it is zero or positive")
        ky, kx = self.frequencies
        damping = np.exp(-2 * np.pi**2 * sigma_A**2 * (kx**2 + ky**2))
        return replace(self, coefficients=self.coefficients * damping)


def mean(images: Iterable[tuple[float, FourierImage]]) -> FourierImage:
    """Return the weighted sum of images of the same detectors over the same cell."""
    total, first = None, None
    for weight, image in images:
        first = image if first is None else first
        part = weight * image.coefficients
        total = part if total is None else total + part
    if total is None or first is None:
        raise ValueError("there are no images to average")
    return replace(first, coefficients=total)


def empty(grid: Grid, reach: tuple[int, int], names: tuple[str, ...]) -> FourierImage:
    """Return images of zero over a grid's cell, for harmonics up to `reach` (along y, along x)."""
    shape = (len(names), 2 * reach[0] + 1, 2 * reach[1] + 1)
    return FourierImage(np.zeros(shape, complex), names, grid.extent_A, grid.shear_A)

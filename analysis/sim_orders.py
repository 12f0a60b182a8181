"""Orders of structured illumination: the grid they live on, and the matrix that separates them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.light.sim_patterns import optical_transfer

Floats = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex128]


@dataclass(frozen=True, eq=False)
class Grid:
    """Places and frequencies of an image, and the transfer function on them.

    Attributes
    ----------
    shape
        Rows and columns.
    pixel_size_nm
        Edge of a pixel.
    cutoff_per_nm
        Of the objective, 2 NA / wavelength.
    """

    shape: tuple[int, int]
    pixel_size_nm: float
    cutoff_per_nm: float

    def places(self) -> tuple[Floats, Floats]:
        """Return x (1, nx) and y (ny, 1) from pixel (ny / 2, nx / 2), nm."""
        ny, nx = self.shape
        a = self.pixel_size_nm
        x, y = a * (np.arange(nx) - nx / 2), a * (np.arange(ny) - ny / 2)
        return np.asarray(x[None], np.float64), np.asarray(y[:, None], np.float64)

    def frequencies(self) -> tuple[Floats, Floats]:
        """Return qx (1, nx) and qy (ny, 1), cycles per nm, in the order of the transforms."""
        ny, nx = self.shape
        a = self.pixel_size_nm
        qx, qy = np.fft.fftfreq(nx, a), np.fft.fftfreq(ny, a)
        return np.asarray(qx[None], np.float64), np.asarray(qy[:, None], np.float64)

    def transfer(self, kx: float = 0.0, ky: float = 0.0, pixel_size_nm: float = 0.0) -> Floats:
        """Return O(q + k): the objective's, times that of square pixels of a size."""
        qx, qy = self.frequencies()
        objective = optical_transfer(np.hypot(qx + kx, qy + ky), self.cutoff_per_nm)
        if pixel_size_nm == 0.0:
            return objective
        return objective * np.sinc((qx + kx) * pixel_size_nm) * np.sinc((qy + ky) * pixel_size_nm)

    def wave(self, kx: float, ky: float) -> Complex:
        """Return exp(2 pi i k . r), by which an image is multiplied to shift its content by +k."""
        x, y = self.places()
        return np.asarray(np.exp(2j * np.pi * kx * x) * np.exp(2j * np.pi * ky * y))


def unmixing(phases_rad: npt.ArrayLike, levels: npt.ArrayLike | None = None) -> Complex:
    """Return the matrix that turns three raw images into orders 0, +1 and -1.

    Raises
    ------
    ValueError
        The phases are so alike that the orders can't be told apart.
    """
    phases = np.asarray(phases_rad, np.float64)
    mixing = np.exp(1j * phases[:, None] * np.array([0.0, 1.0, -1.0]))
    if levels is not None:
        mixing *= np.asarray(levels, np.float64)[:, None]
    if np.linalg.cond(mixing) > 1e4:
        raise ValueError(
            f"phases of {np.degrees(phases).round(2)} deg are too alike to separate the orders; "
            "steps of 120 deg are best"
        )
    return np.asarray(np.linalg.inv(mixing))

"""Band-limited images: only the Fourier coefficients that a lens passes are kept and worked on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

Floats = npt.NDArray[np.float64]
Spectrum = npt.NDArray[np.complexfloating[Any, Any]]


@dataclass(frozen=True)
class Band:
    """A rectangle of frequencies around zero, of the half plane of a real Fourier transform.

    Attributes
    ----------
    shape
        Samples (ny, nx) of the image.
    extent_A
        Its edges (Ly, Lx).
    rows, columns
        Highest harmonic along y, and number of harmonics along x from zero on.
    """

    shape: tuple[int, int]
    extent_A: tuple[float, float]
    rows: int
    columns: int

    @classmethod
    def within(cls, shape: tuple[int, int], extent_A: tuple[float, float], k_per_A: float) -> Band:
        """Return the band that holds frequencies up to a limit, as far as the samples do."""
        (ny, nx), (ly, lx) = shape, extent_A
        return cls(
            shape,
            extent_A,
            rows=min(int(k_per_A * ly) + 1, (ny - 1) // 2),
            columns=min(int(k_per_A * lx) + 2, nx // 2 + 1),
        )

    @property
    def frequencies(self) -> tuple[Floats, Floats]:
        """Frequencies along y, shape (2 rows + 1, 1), and x, shape (1, columns), in 1/Å."""
        y = np.concatenate([np.arange(self.rows + 1), np.arange(-self.rows, 0)])
        x = np.arange(self.columns)
        return y[:, None] / self.extent_A[0], x[None, :] / self.extent_A[1]

    def spectrum(self, image: npt.NDArray[Any]) -> Spectrum:
        """Return the coefficients of an image that lie in the band."""
        whole = scipy.fft.rfft2(image, workers=1)[:, : self.columns]
        above = whole.shape[0] - self.rows
        return np.concatenate([whole[: self.rows + 1], whole[above:]])

    def image(self, spectrum: Spectrum, finer: int = 1) -> npt.NDArray[Any]:
        """Return the image of some coefficients, sampled so many times finer.

        Columns beyond the band are zero before the first of the two passes, so they are spared.
        """
        ny, nx = (finer * n for n in self.shape)
        tall = np.zeros((ny, self.columns), spectrum.dtype)
        tall[: self.rows + 1] = spectrum[: self.rows + 1]
        tall[ny - self.rows :] = spectrum[self.rows + 1 :]
        if finer > 1:
            tall *= finer**2
        half = scipy.fft.ifft(tall, axis=0, workers=1, overwrite_x=True)
        return np.asarray(scipy.fft.irfft(half, nx, axis=1, workers=1, overwrite_x=True))

"""Power spectra of height images: along lines, in two dimensions, averaged over rings.

All are normalised such that their integral is Sq², the mean square of the heights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy import signal

from nanophantom.analysis.masked_heights import unmasked
from nanophantom.simcore.pixel_size import PixelSize, pixel_pair

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RadialSpectrum:
    """A two-dimensional power spectrum averaged over rings.

    Attributes
    ----------
    frequency_per_nm, psd_nm4 : (n,)
        Means over the ring.
    count : (n,)
        Harmonics in the ring; `sum(psd_nm4 * count) * cell_per_nm2` is Sq**2.
    cell_per_nm2 : float
        Area of reciprocal space that a harmonic stands for.
    """

    frequency_per_nm: Floats
    psd_nm4: Floats
    count: npt.NDArray[np.int64]
    cell_per_nm2: float


def psd_1d(
    image: npt.ArrayLike,
    pixel_size_nm: PixelSize,
    axis: Literal["x", "y"] = "x",
    window: str | None = None,
) -> tuple[Floats, Floats]:
    """Return the mean power spectrum of an image's lines, one-sided.

    The image's mean is taken off, not the lines' own; theirs is the harmonic 0.

    Parameters
    ----------
    image : (ny, nx)
        Heights in nm.
    pixel_size_nm : float or (y, x)
    axis : {"x", "y"}
        Along which lines run.
    window : str, optional
        A window of :func:`scipy.signal.get_window`, as "hann". It is scaled to a mean square of
        1, so that the spectrum's integral still is Sq**2 by expectation; without, it is exactly.

    Returns
    -------
    frequency_per_nm, psd_nm3 : (n // 2 + 1,)
        `sum(psd_nm3) * frequency_per_nm[1]` is Sq**2.

    Raises
    ------
    ValueError
        The image isn't finite and two-dimensional.
    """
    z, _ = unmasked(image, None)
    dy, dx = pixel_pair(pixel_size_nm)
    lines, step = (z, dx) if axis == "x" else (z.T, dy)
    lines = (lines - np.mean(lines)) * _window(window, lines.shape[1])
    n = lines.shape[1]
    power = np.mean(np.abs(scipy.fft.rfft(lines, axis=1, workers=1)) ** 2, axis=0)
    power[1 : (n + 1) // 2] *= 2  # harmonics whose conjugates aren't listed
    return np.asarray(scipy.fft.rfftfreq(n, step)), np.asarray(power * step / n)


def psd_2d(
    image: npt.ArrayLike, pixel_size_nm: PixelSize, window: str | None = None
) -> tuple[Floats, Floats, Floats]:
    """Return the power spectrum of an image; parameters as :func:`psd_1d`'s.

    Returns
    -------
    frequency_y_per_nm, frequency_x_per_nm, psd_nm4 : (ny,), (nx,), (ny, nx)
        Rising frequencies; `sum(psd_nm4)` times both their steps is Sq**2.

    Raises
    ------
    ValueError
        The image isn't finite and two-dimensional.
    """
    z, _ = unmasked(image, None)
    dy, dx = pixel_pair(pixel_size_nm)
    ny, nx = z.shape
    windowed = (z - np.mean(z)) * _window(window, ny)[:, None] * _window(window, nx)
    power = np.abs(scipy.fft.fftshift(scipy.fft.fft2(windowed, workers=1))) ** 2
    fy, fx = (scipy.fft.fftshift(scipy.fft.fftfreq(n, d)) for n, d in ((ny, dy), (nx, dx)))
    return np.asarray(fy), np.asarray(fx), np.asarray(power * dy * dx / (ny * nx))


def radial_psd(
    image: npt.ArrayLike, pixel_size_nm: PixelSize, window: str | None = None
) -> RadialSpectrum:
    """Return the power spectrum averaged over rings as wide as the coarser frequency step.

    It goes on into the corners, so nothing of the variance is lost. Parameters and errors as
    :func:`psd_2d`'s.
    """
    fy, fx, psd = psd_2d(image, pixel_size_nm, window)
    step_y, step_x = fy[1] - fy[0], fx[1] - fx[0]
    f = np.hypot(fy[:, None], fx)
    ring = np.rint(f / max(step_y, step_x)).astype(np.int64).ravel()
    count = np.bincount(ring)
    frequency, power = (np.bincount(ring, v.ravel()) / count for v in (f, psd))
    return RadialSpectrum(frequency, power, count, float(step_y * step_x))


def _window(name: str | None, n: int) -> Floats:
    """Return a window of mean square 1; ones without a name."""
    if name is None:
        return np.ones(n)
    w = np.asarray(signal.get_window(name, n), np.float64)
    return np.asarray(w / np.sqrt(np.mean(w**2)))

"""Band-limited resampling of periodic images."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

Complexes = npt.NDArray[np.complex64] | npt.NDArray[np.complex128]


def fourier_resample(image: npt.NDArray[Any], shape: tuple[int, int]) -> npt.NDArray[Any]:
    """Return a periodic real image on another grid over the same area, by trigonometry.

    Finer pixels interpolate exactly; coarser ones keep the frequencies that they can show, and
    the mean. A frequency at the edge of an even grid is shared by its two signs.

    Parameters
    ----------
    image : ndarray of float, shape (my, mx)
        Periodic image.
    shape : tuple of int
        New number of pixels (ny, nx).

    Returns
    -------
    ndarray, shape (ny, nx)
        float32 for a float32 image, else float64.

    Raises
    ------
    ValueError
        If the image is not real and two-dimensional, or a number of pixels is not positive.
    """
    if image.ndim != 2 or np.iscomplexobj(image):
        raise ValueError("fourier_resample needs a real two-dimensional image")
    if min(shape) < 1:
        raise ValueError(f"shape must be positive, got {shape}")
    return image_of_spectrum(scipy.fft.fft2(image, norm="forward"), shape)


def image_of_spectrum(spectrum: Complexes, shape: tuple[int, int]) -> npt.NDArray[Any]:
    """Return the real image with this spectrum (the mean at zero), cropped or padded to shape.

    One transform of any length an image may have: not worth a measured plan, so scipy does it.
    """
    for axis in (0, 1):
        spectrum = _resized(spectrum, shape[axis], axis)
    image: npt.NDArray[Any] = scipy.fft.ifft2(spectrum, norm="forward", workers=1).real
    return image


def _resized(spectrum: Complexes, n: int, axis: int) -> Complexes:
    """Crop or pad the spectrum of a real signal along one axis to n frequencies."""
    old = np.moveaxis(spectrum, axis, 0)
    new = np.zeros((n, *old.shape[1:]), dtype=old.dtype)
    kept = min(n, len(old))
    positive, negative, edge = (kept + 1) // 2, (kept - 1) // 2, kept // 2
    new[:positive] = old[:positive]
    if negative:
        new[-negative:] = old[-negative:]
    if kept % 2 == 0:
        if n < len(old):  # both signs fall on the one edge frequency
            new[edge] = old[edge] + old[-edge]
        elif n > len(old):  # the edge frequency stood for both signs
            new[edge] = new[-edge] = old[edge] / 2
        else:
            new[edge] = old[edge]
    return np.moveaxis(new, 0, axis)

"""Linear filters of images, and the response that is matched to an atomic column."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import fft

FloatArray = npt.NDArray[np.float64]

SURROUND = 3.0
"""Width of the surround, and of the fit's window, in widths of a column."""


def matched_response(k: FloatArray, width_px: float) -> FloatArray:
    """Return the filter's transfer at k rad per pixel: a Gaussian, less its broad surround."""
    k2 = (k * width_px) ** 2
    return np.asarray(np.exp(-0.5 * k2) - np.exp(-0.5 * SURROUND**2 * k2))


def smooth(image: FloatArray, width_px: float) -> FloatArray:
    """Convolve with a Gaussian."""
    return filtered_by(image, lambda k: np.exp(-0.5 * (k * width_px) ** 2), width_px)


def local_mean(image: FloatArray, known: npt.NDArray[np.bool_], width_px: float) -> FloatArray:
    """Return the mean under a Gaussian of the pixels that are known."""
    weight = known.astype(np.float64)
    if np.all(known):
        return smooth(image, width_px)
    share = smooth(weight, width_px)
    return np.where(share > 1e-6, smooth(image * weight, width_px) / np.maximum(share, 1e-6), 0.0)


def filtered_by(
    image: FloatArray,
    response: Callable[[FloatArray], FloatArray],
    width_px: float,
    mirror: bool = True,
) -> FloatArray:
    """Multiply the spectrum by a response to k (rad per pixel).

    Beyond its edges the image goes on as in a mirror, or as zero.
    """
    ny, nx = image.shape
    pad = int(np.ceil(4 * width_px))
    size = [fft.next_fast_len(n + 2 * pad, real=True) for n in (ny, nx)]
    around = [(pad, size[0] - ny - pad), (pad, size[1] - nx - pad)]
    padded = np.pad(image, around, "symmetric" if mirror else "constant")
    k = 2 * np.pi * np.hypot(fft.fftfreq(size[0])[:, None], fft.rfftfreq(size[1])[None, :])
    spectrum = fft.rfft2(padded, workers=1) * response(k)
    result = fft.irfft2(spectrum, s=size, workers=1)[pad : pad + ny, pad : pad + nx]
    return np.asarray(result, np.float64)


def tiles(image: FloatArray, side: int) -> FloatArray:
    """Return the means of square tiles, the remainder at the far edges left away."""
    ny, nx = (n // side for n in image.shape)
    cut = image[: ny * side, : nx * side].reshape(ny, side, nx, side)
    return np.asarray(np.mean(cut, axis=(1, 3)).ravel())

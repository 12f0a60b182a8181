"""The default way from a focal series to the exit wave: sharpen, restore, hand in as columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from nanophantom.analysis.exit_wave import restore
from nanophantom.simcore.electrons.constants import wavelength

Floats = npt.NDArray[np.float64]

ITERATIONS = 60


def find(images: npt.ArrayLike, settings: Mapping[str, Any]) -> dict[str, Floats]:
    """Restore the exit wave of a focal series, each focus refined about its nominal value.

    Parameters
    ----------
    images : (n, ny, nx) array
        Counts.
    settings : mapping
        As for :func:`nanophantom.analysis.exit_wave.restore`.

    Returns
    -------
    dict of (ny * nx,) arrays
        wave_real, wave_imag: the wave row after row, 1 being the incident amplitude.

    Raises
    ------
    ValueError
        If a setting is missing or wrong, or the images don't match them.
    """
    known = {"refine_defoci": "each", "iterations": ITERATIONS, **settings}
    stack = np.asarray(images)
    if stack.ndim == 3 and stack.dtype.kind in "uif" and settings.get("pixel_size_nm"):
        stack = without_pixels(stack, known)
    wave = restore(stack, known)["wave"]
    # seven digits are far below any noise, and make short columns of text
    return {
        "wave_real": np.round(wave.real, 7).ravel(),
        "wave_imag": np.round(wave.imag, 7).ravel(),
    }


def without_pixels(images: npt.NDArray[Any], settings: Mapping[str, Any]) -> Floats:
    """Undo that pixels integrate over their area: divide the spectrum by sinc(kx p) sinc(ky p).

    Up to twice the aperture's frequency, where the finest fringes of the image are; beyond there
    is noise only, and it is left as it is at that frequency.
    """
    pixel_nm = float(settings["pixel_size_nm"])
    finest = 0.5
    if settings.get("aperture_mrad") and settings.get("energy_kev"):
        k_per_nm = 1e-2 * float(settings["aperture_mrad"]) / wavelength(settings["energy_kev"])
        finest = min(finest, 2 * k_per_nm * pixel_nm)
    ny, nx = images.shape[1:]
    blur_y = np.sinc(np.minimum(np.abs(fft.fftfreq(ny)), finest))
    blur_x = np.sinc(np.minimum(fft.rfftfreq(nx), finest))
    sharp = fft.rfft2(images.astype(np.float64), workers=1) / (blur_y[:, None] * blur_x)
    return np.asarray(fft.irfft2(sharp, (ny, nx), workers=1))

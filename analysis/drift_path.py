"""The default way from a drifting series to its drift: register the frames, one shift for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.modes import Modes
from nanophantom.analysis.registration import register

Floats = npt.NDArray[np.float64]


def find(images: npt.ArrayLike, settings: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """Find how far the specimen lies in every frame from where it lay in frame 0.

    Parameters
    ----------
    images : (frames, ny, nx) array
        Counts, or a signal linear in them.
    settings : mapping
        "pixel_size_nm".

    Returns
    -------
    dict of (frames,) arrays
        frame; dx_nm, dy_nm: to the right and down; sigma_nm: standard deviation of either,
        about the mean of all frames, that noise alone leaves (see
        :func:`shift_deviation_px`).

    Raises
    ------
    ValueError
        The pixel size is missing or wrong, or the images are no finite stack of two or more.
    """
    pixel_size_nm = settings.get("pixel_size_nm")
    if pixel_size_nm is None or not (np.isfinite(pixel_size_nm) and pixel_size_nm > 0):
        raise ValueError(
            f'settings want "pixel_size_nm", the width of a pixel in nm, got {pixel_size_nm}'
        )
    stack = np.asarray(images)
    if stack.ndim != 3 or len(stack) < 2:
        raise ValueError(f"a drift takes a stack (frames, ny, nx) of 2 or more, got {stack.shape}")
    shifts = register(stack).shifts_px * float(pixel_size_nm)
    sigma = float(np.mean(shift_deviation_px(stack))) * float(pixel_size_nm)
    n = len(stack)
    return {
        "frame": np.arange(n),
        "dx_nm": shifts[:, 1],
        "dy_nm": shifts[:, 0],
        "sigma_nm": np.full(n, sigma),
    }


def shift_deviation_px(stack: npt.NDArray[np.generic]) -> Floats:
    """Return the standard deviation (y, x) that noise leaves a frame's shift, from its power.

    The curvature of the log-likelihood by which a frame is aligned with the mean of the n - 1
    others, both of signal power S and noise powers N and N / (n - 1) in a Fourier mode k: the sum
    over modes of (2 pi k)^2 S^2 / (A B + S (A + B)), A = N, B = N / (n - 1). Motion inside the
    frame counts as noise only where it takes power away.
    """
    modes = Modes.carrying_signal(stack)
    S, A = modes.signal, modes.noise
    B = A / (len(stack) - 1)
    each = modes.multiplicity * S**2 / (A * B + S * (A + B))
    information = [np.sum((2 * np.pi * k) ** 2 * each) for k in (modes.ky, modes.kx)]
    with np.errstate(divide="ignore"):
        return np.asarray(1 / np.sqrt(information), np.float64)

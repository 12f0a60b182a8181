"""Gaussian random potentials with a given spectrum, the same in a place whatever view is asked for.

White noise on a lattice that is fixed in space is filtered to the spectrum and evaluated at the
points asked for. The lattice is twice as fine as need be at most: its pitch is a power of two of a
nanometre, so views of the same sampling share their noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy.signal import CZT

from nanophantom.samples.building.places import white_noise
from nanophantom.simcore.atoms import Floats, Window

BAND = 0.8
"""The spectrum is complete up to this share of the sampling's Nyquist frequency and falls to zero
at it; a sharp end would ring, and let the edge of a view be felt far inside."""
_MARGIN_NM, _MARGIN_SAMPLES = 1.5, 30  # beyond the view: where filters have died away to 1e-3
_MOST_POINTS = 200_000_000


def random_field(
    window: Window,
    shape: tuple[int, int],
    power: Callable[[Floats], Floats],
    layer: int,
    key: int,
) -> Floats:
    """Return a random field of mean zero at the samples of a window.

    Parameters
    ----------
    window, shape
        Where the field is sampled: see `nanophantom.simcore.specimens.HasFields`.
    power
        Its spectral density: from k in 1/nm, any shape, to the square of the field's unit times
        nm^2. The field's variance is the integral over the plane of k.
    layer
        Which of many independent fields.
    key
        Chooses the realization of all layers.

    Returns
    -------
    ndarray
        Shape (ny, nx).

    Raises
    ------
    ValueError
        The window would need more than 200 million points of noise.
    """
    steps = (window.height_nm / shape[0], window.width_nm / shape[1])
    nyquist = 0.5 / max(steps)
    pitch = 2.0 ** math.floor(math.log2(min(steps)))
    margin = _MARGIN_NM + _MARGIN_SAMPLES * max(steps)
    first = [math.floor((low - margin) / pitch) for low in (window.y0_nm, window.x0_nm)]
    ends = [math.ceil((high + margin) / pitch) for high in (window.y1_nm, window.x1_nm)]
    ny, nx = (
        scipy.fft.next_fast_len(end - start, real=True)
        for start, end in zip(first, ends, strict=True)
    )
    if ny * nx > _MOST_POINTS:
        raise ValueError(
            f"a random field of {nx} x {ny} points of noise is too large (at most "
            f"{_MOST_POINTS:,}); lower the field of view, or sample it more coarsely"
        )
    noise = white_noise(first[1], first[0], nx, ny, layer, np.uint64(key))
    spectrum = scipy.fft.rfft2(noise, workers=1)
    # only harmonics up to the Nyquist frequency of the samples asked for
    my, mx = (int(nyquist * n * pitch) for n in (ny, nx))
    my, mx = min(my, (ny - 1) // 2), min(mx, (nx - 1) // 2)
    spectrum = np.concatenate([spectrum[-my:, : mx + 1], spectrum[: my + 1, : mx + 1]])
    ky = np.arange(-my, my + 1)[:, None] / (ny * pitch)
    kx = np.arange(mx + 1)[None, :] / (nx * pitch)
    k = np.hypot(ky, kx)
    spectrum *= np.sqrt(power(k)) / pitch * _taper(k / nyquist) / (ny * nx)
    spectrum[:, 1:] *= 2  # of a real field: kx < 0 has the conjugates
    rows = _evaluate(spectrum, 0, window.x0_nm - first[1] * pitch, steps[1], nx * pitch, shape[1])
    start = window.y0_nm - first[0] * pitch
    return np.ascontiguousarray(
        _evaluate(rows.T, -my, start, steps[0], ny * pitch, shape[0]).T.real
    )


def _evaluate(
    harmonics: npt.NDArray[np.complex128],
    lowest: int,
    start: float,
    step: float,
    period: float,
    n: int,
) -> npt.NDArray[np.complex128]:
    """Sum Fourier series, one a row, at n evenly spaced points, by the chirp transform."""
    chirp = CZT(
        harmonics.shape[1],
        m=n,
        w=np.exp(2j * np.pi * step / period),
        a=np.exp(-2j * np.pi * start / period),
    )
    points = start + step * np.arange(n)
    return np.asarray(chirp(harmonics) * np.exp(2j * np.pi * lowest * points / period))


def _taper(share: Floats) -> Floats:
    """Return 1 up to BAND and a cosine's fall to 0 at 1."""
    fall = np.clip((share - BAND) / (1 - BAND), 0, 1)
    return np.asarray((1 + np.cos(np.pi * fall)) / 2)

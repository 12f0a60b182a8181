"""The tip from its images by isolated spikes, put one upon the other.

A spike much sharper than the tip makes an image of the tip, upside down and reversed. Each of them
is blunter than the tip by the spike's own radius, and noise, the loop and the pixels distort each
in its own way. Laid centre upon centre and averaged by a low quantile, they show the tip as most of
them do, whatever single ones do. A blind reconstruction takes the sharpest instead, everywhere; it
falls for noise where a worn tip is flat, since any bump of a plateau counts for the apex.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Floats = npt.NDArray[np.float64]

SMOOTHING_NM = 1.0
"""Standard deviation of the smoothing by which tops are found; images aren't smoothed."""
STANDS_OUT = 0.35
"""A spike's top lies at least this share of the image's relief over the ground."""
CENTRE_DEPTHS_NM = (3.0, 8.0)
"""A cap's centre is that of its sections from so far to so far below its top."""
QUANTILE = 0.35
"""Of the caps' heights at each offset: below the middle, since neighbours only add."""
FEWEST = 4
"""Caps, at least."""
ROUNDS = 3


def tip_from_spikes(
    image: npt.ArrayLike, step_nm: tuple[float, float], reach_nm: float = 20.0
) -> tuple[Floats, int]:
    """Return a tip on the image's pixels, its apex in the middle, and how many spikes showed it.

    Parameters
    ----------
    image : (ny, nx)
        Heights in nm, levelled: isolated spikes, much sharper than the tip, on a ground.
    step_nm
        Distance between pixels (y, x).
    reach_nm
        Half the window; caps nearer than that to the image's edges aren't used.

    Raises
    ------
    ValueError
        There are fewer than four whole caps.
    """
    heights = np.asarray(image, np.float64)
    half = [math.ceil(reach_nm / step) for step in step_nm]
    smooth = ndimage.gaussian_filter(heights, [SMOOTHING_NM / step for step in step_nm])
    centres = _centres(smooth, half)
    if len(centres) < FEWEST:
        raise ValueError(
            f"the image shows {len(centres)} whole spikes that stand alone; at least {FEWEST} are "
            "needed"
        )
    v, u = np.meshgrid(*(np.arange(-n, n + 1.0) for n in half), indexing="ij")
    # Reversed: with the spike at offset u of the tip, the apex stands at -u from the spike.
    caps = np.array(
        [
            ndimage.map_coordinates(heights, [row - v, column - u], order=3, mode="nearest")
            for row, column in centres
        ]
    )
    caps -= np.array([smooth[round(r), round(c)] for r, c in centres])[:, None, None]
    for _ in range(ROUNDS):
        tip = np.quantile(caps, QUANTILE, axis=0)
        top = tip >= tip.max() - CENTRE_DEPTHS_NM[0]
        caps -= np.median(caps[:, top] - tip[top], axis=1)[:, None, None]
    tip = np.quantile(caps, QUANTILE, axis=0)
    level = ndimage.gaussian_filter(tip, [SMOOTHING_NM / step for step in step_nm]).max()
    return np.asarray(np.minimum(tip - level, 0.0)), len(centres)


def _centres(smooth: Floats, half: list[int]) -> list[tuple[float, float]]:
    """Return row and column of the middle of every cap that stands alone and is whole."""
    ground = float(np.median(smooth))
    low = ground + STANDS_OUT * (float(smooth.max()) - ground)
    peaks = np.argwhere((smooth == ndimage.maximum_filter(smooth, 3)) & (smooth > low))
    peaks = peaks[np.argsort(-smooth[tuple(peaks.T)], kind="stable")]
    taken = np.zeros(smooth.shape, np.bool_)
    centres = []
    for row, column in peaks:
        if taken[row, column]:
            continue
        top = smooth[row, column]
        labels, _ = ndimage.label(smooth >= top - CENTRE_DEPTHS_NM[1])
        cap = labels == labels[row, column]
        alone = not (cap & taken).any() and smooth[cap].max() <= top
        taken |= cap
        if not alone:
            continue
        weight = np.where(
            cap, np.minimum(smooth - top + CENTRE_DEPTHS_NM[1], np.ptp(CENTRE_DEPTHS_NM)), 0.0
        )
        y, x = ndimage.center_of_mass(weight)
        ny, nx = smooth.shape
        if half[0] <= y <= ny - 1 - half[0] and half[1] <= x <= nx - 1 - half[1]:
            centres.append((float(y), float(x)))
    return centres

"""Where a surface reconstructed from an image is the surface itself: the certainty map.

The erosion of an image by the tip that took it lies nowhere below the surface. At each pixel of
the image the tip touched the surface at some point, and it can only have been one where the tip,
put back there, touches the reconstruction. If there is just one such point, it is known: there the
reconstruction is the surface (J. S. Villarrubia, J. Res. Natl. Inst. Stand. Technol. 102 (1997)
425, section 5).

The point may lie beyond the edges of the image. Nothing is assumed of what lies there but that it
doesn't overtop the image's highest pixel; a pixel whose tip may have touched there says nothing.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from nanophantom.simcore.probes.dilation import (
    Floats,
    checked_heights,
    cropped_tip,
    erode_beyond,
)

Booleans = npt.NDArray[np.bool_]

ROUNDING = 1e-14
"""Of the highest absolute height: what sums of heights are uncertain by, with a margin."""


def certainty_map(
    image: npt.ArrayLike,
    tip_heights: npt.ArrayLike,
    apex: tuple[int, int],
    tolerance: float = 1e-9,
) -> tuple[Floats, Booleans]:
    """Return the surface reconstructed from an image, and where it is certain.

    Parameters
    ----------
    image : (ny, nx)
        Heights, finite.
    tip_heights, apex
        The tip that took it, as for :func:`~nanophantom.simcore.probes.dilation.dilate`.
    tolerance
        Tip and reconstruction touch where they are no further apart than this, in the unit of
        heights. Rounding adds to it. The larger, the fewer points are certain: of a flat, none
        are if a neighbour of the apex is less deep than that.

    Returns
    -------
    reconstruction, certain : (ny, nx)
        The erosion, float64, as :func:`~nanophantom.simcore.probes.dilation.erode` gives it, and
        bool. Where it is certain the reconstruction is the surface, for an image without noise
        taken with this tip.

    Raises
    ------
    ValueError
        As :func:`~nanophantom.simcore.probes.dilation.dilate`, or the tolerance is negative or
        not finite.
    """
    heights = checked_heights(image, "an image")
    if not 0 <= tolerance < np.inf:
        raise ValueError(f"tolerance must be finite and not negative, not {tolerance}")
    gap = tolerance + ROUNDING * float(np.abs(heights).max())
    tip = cropped_tip(tip_heights, apex, float(heights.max() - heights.min()) + gap)
    beyond = erode_beyond(heights, tip)
    certain = _only_contacts(heights, beyond, tip.heights, tip.first, tip.end, gap)
    (row, column), (ny, nx) = tip.apex, heights.shape
    within = (slice(row, row + ny), slice(column, column + nx))
    return beyond[within].copy(), np.asarray(certain[within].copy())


@numba.njit(cache=True, nogil=True)
def _only_contacts(image: Any, beyond: Any, tip: Any, first: Any, end: Any, gap: float) -> Any:
    """Return which points of `beyond` are the only ones a tip touches somewhere in the image."""
    ny, nx = image.shape
    certain = np.zeros(beyond.shape, np.bool_)
    contacts, where = np.empty(nx, np.int64), np.empty(nx, np.int64)
    for i in range(ny):
        level = image[i] - gap
        contacts[:] = 0
        for dy in range(tip.shape[0]):
            for dx in range(first[dy], end[dy]):
                t, u = tip[dy, dx], np.int64(dy * tip.shape[1] + dx)
                r = beyond[i + dy, dx : dx + nx]
                for j in range(nx):
                    touches = level[j] - t <= r[j]
                    contacts[j] += 1 if touches else 0
                    where[j] = u if touches else where[j]
        for j in range(nx):
            if contacts[j] == 1:
                certain[i + where[j] // tip.shape[1], j + where[j] % tip.shape[1]] = True
    return certain

"""What the analyses of height images ask of an image and its mask."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def unmasked(image: npt.ArrayLike, mask: npt.ArrayLike | None) -> tuple[Floats, Bools]:
    """Return heights, 0 where they are masked, and which pixels are used.

    Parameters
    ----------
    image : (ny, nx)
        Heights, finite where they aren't masked.
    mask : (ny, nx), optional
        True where a pixel is left out.

    Raises
    ------
    ValueError
        The image has other than two axes of 2 or more pixels, the mask another shape, or it
        leaves fewer than two pixels or one that isn't finite.
    """
    z = np.asarray(image, np.float64)
    if z.ndim != 2 or min(z.shape) < 2:
        raise ValueError(f"an image has two axes of 2 or more pixels, got the shape {z.shape}")
    used = np.ones(z.shape, bool) if mask is None else ~np.asarray(mask, bool)
    if used.shape != z.shape:
        raise ValueError(f"the mask's shape {used.shape} isn't the image's, {z.shape}")
    if np.count_nonzero(used) < 2:
        raise ValueError("the mask leaves fewer than two pixels")
    if not np.all(np.isfinite(z[used])):
        raise ValueError("heights must be finite: mask NaN and infinite values")
    return np.where(used, z, 0.0), used

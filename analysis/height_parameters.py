"""Height and hybrid parameters of ISO 25178-2: how rough a levelled image is, in single numbers.

Masks are true where a pixel is left out, as in :mod:`nanophantom.analysis.levelling`. What an image
of limited size tells of the surface: :mod:`nanophantom.analysis.roughness`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nanophantom.analysis.masked_heights import unmasked
from nanophantom.simcore.pixel_size import PixelSize, pixel_pair

SEVEN_POINTS = np.array([-1, 9, -45, 0, 45, -9, 1]) / 60
"""Derivative per pixel that ISO 25178-2 recommends, exact for polynomials up to degree 6."""


@dataclass(frozen=True)
class HeightParameters:
    """Height and hybrid parameters of ISO 25178-2, heights taken from their mean.

    Attributes
    ----------
    sa_nm, sq_nm
        Mean absolute and root mean square height.
    ssk, sku
        Skewness and kurtosis; 0 and 3 for normally distributed heights.
    sp_nm, sv_nm, sz_nm
        Highest peak, deepest pit (positive), and their sum.
    sdq
        Root mean square gradient.
    """

    sa_nm: float
    sq_nm: float
    ssk: float
    sku: float
    sp_nm: float
    sv_nm: float
    sz_nm: float
    sdq: float


def parameters(
    image: npt.ArrayLike, pixel_size_nm: PixelSize, mask: npt.ArrayLike | None = None
) -> HeightParameters:
    """Return the parameters of a levelled image.

    The gradient takes pixels whose six neighbours along x, and along y, are all there.

    Parameters
    ----------
    image : (ny, nx)
        Heights in nm, finite where they aren't masked.
    pixel_size_nm : float or (y, x)
    mask : (ny, nx) bool, optional
        True where a pixel is left out.

    Raises
    ------
    ValueError
        The image isn't a map of at least 7 x 7 finite heights, all its heights are the same, or
        the mask leaves no pixel with all its neighbours.
    """
    z, used = unmasked(image, mask)
    dy, dx = pixel_pair(pixel_size_nm)
    if min(z.shape) < 7:
        raise ValueError(f"a gradient needs 7 x 7 pixels or more, got {z.shape[0]} x {z.shape[1]}")
    z = z - np.mean(z[used])
    heights = z[used]
    sq = float(np.sqrt(np.mean(heights**2)))
    if sq <= 1e-14 * float(np.max(np.abs(np.asarray(image)[used]))):
        raise ValueError("all heights are the same: nothing is rough")
    squares = 0.0
    for axis, step in ((0, dy), (1, dx)):
        whole = ndimage.minimum_filter1d(used, 7, axis=axis, mode="constant", cval=0)
        if not np.any(whole):
            raise ValueError("the mask leaves nowhere seven pixels in a line for the gradient")
        slope = ndimage.correlate1d(np.where(used, z, 0.0), SEVEN_POINTS, axis=axis) / step
        squares += float(np.mean(slope[whole] ** 2))
    peak, pit = float(np.max(heights)), float(-np.min(heights))
    return HeightParameters(
        sa_nm=float(np.mean(np.abs(heights))),
        sq_nm=sq,
        ssk=float(np.mean(heights**3)) / sq**3,
        sku=float(np.mean(heights**4)) / sq**4,
        sp_nm=peak,
        sv_nm=pit,
        sz_nm=peak + pit,
        sdq=float(np.sqrt(squares)),
    )

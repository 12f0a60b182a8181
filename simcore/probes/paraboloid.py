"""Dilation and erosion by a paraboloid, exact and in a time that doesn't depend on its size.

A tip of radius R near its apex, t(u) = -(ux^2 + uy^2) / 2R without end, is a sum of a function of
x and one of y. So the image is made along rows, then along columns, and along a line it is the
upper envelope of equal parabolas, one hanging from each sample, which one pass to and one pass
back find (P. F. Felzenszwalb & D. P. Huttenlocher, Theory Comput. 8 (2012) 415; breakpoints
between whole samples only as by A. Meijster, J. B. T. M. Roerdink & W. H. Hesselink, 2000).

Beyond its edges a surface goes on as its outermost samples do. A sample out there is a copy of one
nearer to the tip, along rows and columns, where a paraboloid is higher: it never decides, and only
samples of the map need be looked at.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from nanophantom.simcore.pixel_size import PixelSize, pixel_pair
from nanophantom.simcore.probes.dilation import Floats, Ints, checked_heights

MOST_SAMPLES = 2**24
"""Of a sampled paraboloid, 128 MiB."""


def dilate_paraboloid(
    heights_nm: npt.ArrayLike, radius_nm: float, pixel_size_nm: PixelSize
) -> Floats:
    """Return the image of a surface under a paraboloid.

    Parameters
    ----------
    heights_nm : (ny, nx)
        Of the surface, finite.
    radius_nm
        Of curvature at the apex.
    pixel_size_nm
        Distance between samples, or those along (y, x).

    Returns
    -------
    (ny, nx)
        Float64. One thread, without Python's global lock.

    Raises
    ------
    ValueError
        Heights aren't a finite map, or radius or pixel aren't positive.
    """
    return dilate_paraboloid_tracked(heights_nm, radius_nm, pixel_size_nm)[0]


def dilate_paraboloid_tracked(
    heights_nm: npt.ArrayLike, radius_nm: float, pixel_size_nm: PixelSize
) -> tuple[Floats, Ints, Ints]:
    """Return the image as :func:`dilate_paraboloid`, and the sample of the surface that is touched.

    Returns
    -------
    image, contact_row, contact_col : (ny, nx)
        Float64 and twice int32.
    """
    heights = checked_heights(heights_nm)
    drop_y, drop_x = _drops(radius_nm, pixel_size_nm)
    along_x, column = _envelopes(heights, drop_x)
    image, row = _envelopes(np.ascontiguousarray(along_x.T), drop_y)
    row = np.ascontiguousarray(row.T)
    return np.ascontiguousarray(image.T), row, np.take_along_axis(column, row, axis=0)


def erode_paraboloid(image_nm: npt.ArrayLike, radius_nm: float, pixel_size_nm: PixelSize) -> Floats:
    """Return the highest surface that can lie under an image taken with a paraboloid.

    Parameters and errors as :func:`dilate_paraboloid`'s.
    """
    return -dilate_paraboloid(-checked_heights(image_nm), radius_nm, pixel_size_nm)


def paraboloid_map(
    radius_nm: float, pixel_size_nm: PixelSize, depth_nm: float
) -> tuple[Floats, tuple[int, int]]:
    """Return a paraboloid sampled as far as it is less than `depth_nm` deep, and its apex.

    Returns
    -------
    tip_heights, apex
        As :func:`~nanophantom.simcore.probes.dilation.dilate` takes them.

    Raises
    ------
    ValueError
        Radius or pixel aren't positive, the depth is negative or not finite, or the paraboloid
        would be of more than `MOST_SAMPLES`.
    """
    if not 0 <= depth_nm < math.inf:
        raise ValueError(f"the depth of a tip must be finite and not negative, not {depth_nm} nm")
    drops = _drops(radius_nm, pixel_size_nm)
    reach_y, reach_x = (int(math.sqrt(depth_nm / drop)) + 1 for drop in drops)
    if (2 * reach_y + 1) * (2 * reach_x + 1) > MOST_SAMPLES:
        raise ValueError(
            f"a paraboloid of {radius_nm:g} nm that is {depth_nm:g} nm deep is too wide for "
            f"samples of {pixel_size_nm} nm; take coarser ones, or dilate_paraboloid"
        )
    y, x = np.arange(-reach_y, reach_y + 1.0)[:, None], np.arange(-reach_x, reach_x + 1.0)
    return -(drops[0] * y * y + drops[1] * x * x), (reach_y, reach_x)


def _drops(radius_nm: float, pixel_size_nm: PixelSize) -> tuple[float, float]:
    """Return by how much a paraboloid is lower one sample from its apex, along y and x."""
    dy, dx = pixel_pair(pixel_size_nm)
    if not 0 < radius_nm < math.inf:
        raise ValueError(f"radius_nm must be positive, got {radius_nm}")
    return dy * dy / (2.0 * radius_nm), dx * dx / (2.0 * radius_nm)


@numba.njit(cache=True, nogil=True)
def _envelopes(lines: Any, drop: float) -> tuple[Any, Any]:
    """Return max_q [f(q) - drop (x - q)^2] along each line, and the q that has it.

    Parabola q overtakes an earlier one p at the first whole x with
    x - q >= -(q - p) / 2 - (f(q) - f(p)) / (2 drop (q - p)).
    """
    out, source = np.empty(lines.shape), np.empty(lines.shape, np.int32)
    n = lines.shape[1]
    owner, start = np.empty(n, np.int32), np.empty(n, np.int64)
    for i in range(lines.shape[0]):
        f = lines[i]
        top = 0
        owner[0], start[0] = 0, 0
        for q in range(1, n):
            while True:
                apart = q - owner[top]
                lead = -0.5 * apart - (f[q] - f[owner[top]]) / (2.0 * drop * apart)
                begin = q + np.int64(np.ceil(max(min(lead, 1.0 * n), -1.0 * n)))
                if top == 0 or begin > start[top]:
                    break
                top -= 1
            if begin <= 0:  # top is 0: the first parabola that is left never wins
                owner[0] = q
            elif begin < n:
                top += 1
                owner[top], start[top] = q, begin
        end = n
        while end > 0:
            q = owner[top]
            for x in range(start[top], end):
                out[i, x] = f[q] - drop * ((x - q) * (x - q))
                source[i, x] = q
            end = start[top]
            top -= 1
    return out, source

"""Positions of peaks as the tops of a smoothed image, with uncertainties.

The top of an image smoothed by a Gaussian is where the Gaussian's derivative, as a template, finds
as much to its left as to its right. It takes no model of the peak and no border around it: the
answer moves steadily with the image, whatever the pixels. Where neighbours overlap all tops are
moved by them; in a lattice all those of one sublattice alike, so that strain isn't touched.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

FloatArray = npt.NDArray[np.float64]

STEPS = 12
FARTHEST = 1.5
"""A top farther than so many widths of the filter from where it was sought is another's."""


def peak_tops(
    image: npt.ArrayLike,
    x_px: npt.ArrayLike,
    y_px: npt.ArrayLike,
    width_px: float,
    variance: npt.ArrayLike,
    sign: float = 1.0,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the tops near some places, and their standard deviations.

    Newton's steps along g = grad of the smoothed image to g = 0. With H its second derivatives the
    noise n of g moves the top by H**-1 n, and cov n = sum v (grad K)(grad K)^T.

    Parameters
    ----------
    image : (ny, nx)
        Any signal.
    x_px, y_px : (n,)
        Where to start, in pixels.
    width_px : float
        Standard deviation of the Gaussian K; of a lone Gaussian peak on even noise, its own width
        is best.
    variance : number or (ny, nx)
        Variance of the noise of a pixel.
    sign : float
        1 for bright peaks, -1 for dark ones.

    Returns
    -------
    x, y, sigma : (n,) arrays
        In pixels; sigma is the root of the mean variance along x and y. Not a number where there
        is no top within 1.5 widths.

    Raises
    ------
    ValueError
        The image isn't (ny, nx), or the width isn't half a pixel or more.
    """
    data = sign * np.asarray(image, np.float64)
    if data.ndim != 2 or not width_px >= 0.5:
        raise ValueError(
            f"an image is (ny, nx) and the width half a pixel or more: {data.shape}, {width_px}"
        )
    orders = {"x": (0, 1), "y": (1, 0), "xx": (0, 2), "yy": (2, 0), "xy": (1, 1)}
    derivatives = {
        name: ndimage.spline_filter(
            ndimage.gaussian_filter(data, width_px, order, mode="nearest"), mode="mirror"
        )
        for name, order in orders.items()
    }
    start = np.stack([np.asarray(y_px, np.float64), np.asarray(x_px, np.float64)])
    at = start.copy()

    def look(name: str) -> FloatArray:
        return np.asarray(
            ndimage.map_coordinates(derivatives[name], at, prefilter=False, mode="mirror")
        )

    for _ in range(STEPS):
        bend = look("xx") * look("yy") - look("xy") ** 2
        top = (bend > 0) & (look("xx") < 0)
        bend = np.where(top, bend, 1.0)
        dx = (look("xy") * look("y") - look("yy") * look("x")) / bend
        dy = (look("xy") * look("x") - look("xx") * look("y")) / bend
        # Where the image isn't curved like a top, follow the slope.
        slope = np.hypot(look("x"), look("y")) + 1e-300
        dx = np.where(top, dx, 0.3 * width_px * look("x") / slope)
        dy = np.where(top, dy, 0.3 * width_px * look("y") / slope)
        short = np.minimum(1.0, 0.5 * width_px / np.maximum(np.hypot(dx, dy), 1e-300))
        at = at + short * np.stack([dy, dx])
    v = np.broadcast_to(np.asarray(variance, np.float64), data.shape)
    # (dK/dx)^2 = x^2 G / (4 pi w^6), G a Gaussian n = w / sqrt 2 wide; x^2 G = n^2 G + n^4 G''.
    n = width_px / np.sqrt(2)
    blurred = ndimage.gaussian_filter(v, n, mode="nearest")
    blurred += n**2 / 2 * ndimage.gaussian_laplace(v, n, mode="nearest")
    power = ndimage.map_coordinates(blurred, at, order=1, mode="nearest") / (
        8 * np.pi * width_px**4
    )
    power = np.maximum(power, 0.0)
    h_xx, h_yy, h_xy = look("xx"), look("yy"), look("xy")
    bend = h_xx * h_yy - h_xy**2
    near = np.hypot(*(at - start)) <= FARTHEST * width_px
    good = near & (bend > 0) & (h_xx < 0)
    safe = np.where(good, bend, 1.0)
    # Mean of the diagonal of H**-2.
    both = (h_xx**2 + h_yy**2 + 2 * h_xy**2) / (2 * safe**2)
    sigma = np.sqrt(power * both)
    return tuple(np.where(good, a, np.nan) for a in (at[1], at[0], sigma))  # type: ignore[return-value]

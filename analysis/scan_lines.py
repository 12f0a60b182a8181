"""Where the samples of displaced lines lie, and the image on a regular grid that they make.

A displacement (dy, dx) is where on the specimen a pixel really lies, less where the raster says.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nanophantom.analysis.lattice import FloatArray

SPREAD_PX = 0.5
"""Standard deviation of the Gaussian with which samples too far apart are joined."""
LENGTH_PX, NUGGET = 1.2, 1e-2
"""Correlation length of the image across lines, and noise in its variances, for interpolation."""


def resample(
    values: npt.ArrayLike,
    y: npt.ArrayLike,
    x: npt.ArrayLike,
    shape: tuple[int, int],
    weights: npt.ArrayLike | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Return the weighted mean of scattered samples on a regular grid, and their density.

    A sample is shared between the four pixels around it in proportion to its nearness. Where
    gaps between samples leave less than a fifth of a sample to a pixel, it is taken from a
    Gaussian of half a pixel around it. Samples on the grid stay as they are.

    Parameters
    ----------
    values, y, x : arrays of one shape
        Samples and where they lie, in pixels of the grid.
    shape : (ny, nx)
        Of the grid. Samples beyond it are left out.
    weights : array, optional
        Of the samples: exposures, say, if the values are counts per exposure.

    Raises
    ------
    ValueError
        Arrays differ in shape or hold something not finite, or weights are negative.
    """
    v, py, px = (np.asarray(a, np.float64).ravel() for a in (values, y, x))
    w = np.ones(len(v)) if weights is None else np.asarray(weights, np.float64).ravel()
    if not len(v) == len(py) == len(px) == len(w):
        raise ValueError("values, y, x and weights must be of one shape")
    if not all(np.all(np.isfinite(a)) for a in (v, py, px, w)) or np.any(w < 0):
        raise ValueError("samples must be finite and their weights not negative")
    ny, nx = shape
    sums, density = np.zeros(ny * nx), np.zeros(ny * nx)
    row, column = np.floor(py).astype(np.intp), np.floor(px).astype(np.intp)
    fy, fx = py - row, px - column
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = w * (fy if dy else 1 - fy) * (fx if dx else 1 - fx)
        inside = (row + dy >= 0) & (row + dy < ny) & (column + dx >= 0) & (column + dx < nx)
        at = ((row + dy) * nx + column + dx)[inside]
        sums += np.bincount(at, (share * v)[inside], ny * nx)
        density += np.bincount(at, share[inside], ny * nx)
    total, count = sums.reshape(shape), density.reshape(shape)
    usual = float(np.median(w)) if len(w) else 1.0
    thin = count < 0.2 * usual
    if np.any(thin):
        wide = [ndimage.gaussian_filter(a, SPREAD_PX, mode="constant") for a in (total, count)]
        total, count = np.where(thin, wide[0], total), np.where(thin, wide[1], count)
    known = count > 0.02 * usual
    image = np.where(known, total / np.where(known, count, 1.0), 0.0)
    return image, np.where(known, count, 0.0)


def sample_places(
    shape: tuple[int, int], d: FloatArray, profile: FloatArray, turned: bool
) -> tuple[FloatArray, FloatArray]:
    """Return where the samples of a scan lie on the specimen.

    Parameters
    ----------
    shape : (lines, positions)
        Of the scan.
    d : (lines, 2)
        (dy, dx) of every line.
    profile : (positions,)
        Displacement along a line that all lines have alike.
    turned : bool
        Whether the lines are read along y, one beside the other along x.

    Returns
    -------
    y, x : (lines, positions)
    """
    line, position = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :] + profile
    if turned:
        return position + d[:, :1], line + d[:, 1:] + 0 * position
    return line + d[:, :1] + 0 * position, position + d[:, 1:]


def interpolated_image(
    lines: FloatArray, d: FloatArray, profile: FloatArray, turned: bool
) -> tuple[FloatArray, FloatArray]:
    """Return the image on the regular grid that displaced lines interpolate, and its mask.

    Along a line the samples are equally spaced: a cubic spline. Across, lines lie anywhere:
    between them the image is taken as a Gaussian process (kriging), which is exact for what is
    smooth over a pixel; :func:`resample` would blur by up to half a pixel. The mask is one minus
    its variance: near one at a line, zero far from all. The parameters are those of
    :func:`sample_places`, `lines` (lines, positions) the values; the image lies as the specimen.
    """
    n, m = lines.shape
    along, across = (d[:, 0], d[:, 1]) if turned else (d[:, 1], d[:, 0])
    at = np.arange(m)[None, :] - along[:, None]
    at = at - np.interp(at, np.arange(m), profile)
    row = np.broadcast_to(np.arange(n)[:, None], at.shape)
    straight = ndimage.map_coordinates(lines, (row, at), order=3, mode="nearest")
    inside = (at >= 0) & (at <= m - 1)

    place = np.arange(n) + across
    among = _correlation(place[:, None] - place[None, :]) + NUGGET * np.eye(n)
    to_grid = _correlation(np.arange(n)[:, None] - place[None, :])
    weights = np.linalg.solve(among, to_grid.T).T
    share = np.sum(weights * to_grid, axis=1)
    nearest = np.argmin(np.abs(np.arange(n)[:, None] - place[None, :]), axis=1)
    image, mask = weights @ straight, share[:, None] * inside[nearest]
    return (image.T, mask.T) if turned else (image, mask)


def _correlation(distance: FloatArray) -> FloatArray:
    return np.asarray(np.exp(-0.5 * (distance / LENGTH_PX) ** 2))

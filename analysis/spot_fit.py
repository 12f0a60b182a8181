"""Two-dimensional Gaussians fitted to many neighbouring spots, with uncertainties."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from nanophantom.analysis.filters import SURROUND, local_mean, smooth
from nanophantom.analysis.noise import Noise

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gaussians:
    """One Gaussian a column, in pixels: height * exp(-r**2 / (2 width**2)) + background."""

    y: FloatArray
    x: FloatArray
    height: FloatArray
    width: FloatArray
    background: FloatArray
    sigma: FloatArray


def fit_spots(
    data: FloatArray,
    exposure: FloatArray,
    noise: Noise,
    found: npt.NDArray[np.intp],
    width_px: float,
    rounds: int = 4,
) -> Gaussians:
    """Fit all columns, each in its cell with the others' Gaussians taken away."""
    n = len(found)
    y, x = found[:, 0].astype(np.float64), found[:, 1].astype(np.float64)
    known = exposure > 0
    level = local_mean(data, known, 4 * width_px)
    iy, ix = found[:, 0], found[:, 1]
    parameters = np.stack(
        [y, x, smooth(data, 1.0)[iy, ix] - level[iy, ix], np.full(n, width_px), np.zeros(n)],
        axis=1,
    )
    sigma = np.full(n, np.nan)
    windows = _Windows(data.shape, found, width_px)
    for _ in range(rounds):
        # Alternate between the slow background of all and the Gaussians of each.
        spots = windows.paint(parameters)
        level = local_mean(data - spots, known, 4 * width_px)
        for chunk in np.array_split(np.arange(n), max(1, n // 400)):
            if len(chunk):
                parameters[chunk], sigma[chunk] = _fit_chunk(
                    data, exposure, noise, level, spots, windows, parameters, chunk, width_px
                )
    y, x, height, width, offset = parameters.T
    return Gaussians(y, x, height, width, offset + level[iy, ix], sigma)


class _Windows:
    """The square of pixels around each candidate, and which of them are its own."""

    def __init__(self, shape: tuple[int, ...], found: npt.NDArray[np.intp], width_px: float):
        ny, nx = shape
        radius = int(np.ceil(SURROUND * width_px))
        offset = np.arange(-radius, radius + 1)
        dy, dx = (o.ravel() for o in np.meshgrid(offset, offset, indexing="ij"))
        self.shape = (ny, nx)
        self.y = found[:, :1] + dy[None, :]
        self.x = found[:, 1:] + dx[None, :]
        self.inside = (self.y >= 0) & (self.y < ny) & (self.x >= 0) & (self.x < nx)
        self.own = self.inside & (dy**2 + dx**2 <= (SURROUND * width_px + 0.5) ** 2)[None, :]
        # Wider than this, columns wouldn't be seen apart (and a Gaussian is like a background).
        self.widest = np.full(len(found), 2 * width_px)
        self.index = np.clip(self.y, 0, ny - 1) * nx + np.clip(self.x, 0, nx - 1)
        if len(found) > 1:  # a pixel belongs to the nearest candidate
            distance, near = KDTree(found).query(found, k=min(9, len(found)))
            self.widest = np.clip(0.35 * distance[:, 1], width_px, self.widest)
            for j in near[:, 1:].T:
                step = found[j] - found
                beyond = step[:, :1] * dy + step[:, 1:] * dx > 0.5 * np.sum(
                    step**2, axis=1, keepdims=True
                )
                self.own &= ~beyond

    def paint(self, parameters: FloatArray) -> FloatArray:
        """Return the image (ny, nx) of all Gaussians, without backgrounds."""
        canvas = np.zeros(self.shape[0] * self.shape[1])
        y0, x0, height, width, _ = (p[:, None] for p in parameters.T)
        spots = height * np.exp(-0.5 * ((self.y - y0) ** 2 + (self.x - x0) ** 2) / width**2)
        np.add.at(canvas, self.index[self.inside], spots[self.inside])
        return canvas.reshape(self.shape)


def _fit_chunk(
    data: FloatArray,
    exposure: FloatArray,
    noise: Noise,
    level: FloatArray,
    spots: FloatArray,
    windows: _Windows,
    parameters: FloatArray,
    chunk: npt.NDArray[np.intp],
    width_px: float,
    steps: int = 6,
) -> tuple[FloatArray, FloatArray]:
    """Improve some columns by Fisher scoring; return parameters (n, 5) and sigma (n,)."""
    index, own = windows.index[chunk], windows.own[chunk]
    rows, columns = windows.y[chunk], windows.x[chunk]
    p = parameters[chunk].copy()

    def gaussians(p: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        dy, dx = rows - p[:, 0:1], columns - p[:, 1:2]
        r2 = (dy**2 + dx**2) / p[:, 3:4] ** 2
        return dy, dx, r2, np.exp(-0.5 * r2)

    others = (level + spots).ravel()[index] - p[:, 2:3] * gaussians(p)[3]
    measured = data.ravel()[index]
    exposed = exposure.ravel()[index]
    start = p[:, :2].copy()
    sigma = np.full(len(chunk), np.nan)
    for step in range(steps + 1):
        dy, dx, r2, g = gaussians(p)
        height, width = p[:, 2:3], p[:, 3:4]
        model = others + p[:, 4:5] + height * g
        weight = np.where(own, 1 / noise.variance(model, exposed), 0.0)
        slope = height * g / width
        jacobian = np.stack(
            [slope * dy / width, slope * dx / width, g, slope * r2, np.ones_like(g)], axis=1
        )
        weighted = jacobian * weight[:, None, :]
        fisher = weighted @ jacobian.transpose(0, 2, 1)
        scale = np.sqrt(np.maximum(np.diagonal(fisher, axis1=1, axis2=2), 1e-300))
        fisher /= scale[:, :, None] * scale[:, None, :]
        fisher += 1e-9 * np.eye(5)
        if step == steps:
            covariance = np.linalg.inv(fisher)
            variance = 0.5 * (covariance[:, 0, 0] / scale[:, 0] ** 2)
            variance += 0.5 * (covariance[:, 1, 1] / scale[:, 1] ** 2)
            sigma = np.sqrt(variance)
            break
        gradient = (weighted @ (measured - model)[:, :, None])[:, :, 0] / scale
        move = np.linalg.solve(fisher, gradient[:, :, None])[:, :, 0] / scale
        move[:, [0, 1, 3]] = np.clip(move[:, [0, 1, 3]], -0.5 * width_px, 0.5 * width_px)
        p += move
        p[:, :2] = np.clip(p[:, :2], start - width_px, start + width_px)
        p[:, 3] = np.clip(p[:, 3], 0.4 * width_px, windows.widest[chunk])
    return p, sigma

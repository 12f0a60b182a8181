"""Where a frame's fit may lack emitters, or have too many: what is worth a trial.

Of `multi_emitter`, whose fits and trials are in `multi_emitter_kernels`.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter
from scipy.special import erf, xlogy

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]

TRIED = 2.0
"""Standard deviations of a residual that is worth a trial."""
CLOSEST = 0.5
"""Widths: least half distance that a pair is tried with."""
DIRECTIONS = math.pi * np.arange(8) / 8
"""Along which a spot may be too long."""

compiled = numba.njit(cache=True, nogil=True, error_model="numpy")


def groups(xy: Floats, link: float) -> Ints:
    """Return for each of (n, 2) places the number of its group: linked by less than `link`."""
    label = np.full(len(xy), -1, np.int32)
    _link(np.ascontiguousarray(xy), link, label, np.empty(len(xy), np.int32))
    return label


@compiled
def _link(xy: Floats, link: float, label: Ints, members: Ints) -> None:
    group = 0
    for seed in range(len(xy)):
        if label[seed] >= 0:
            continue
        label[seed], members[0] = group, seed
        looked, found = 0, 1
        while looked < found:
            here = members[looked]
            looked += 1
            for k in range(len(xy)):
                if label[k] < 0:
                    far = (xy[k, 0] - xy[here, 0]) ** 2 + (xy[k, 1] - xy[here, 1]) ** 2
                    if far < link * link:
                        label[k], members[found] = group, k
                        found += 1
        group += 1


def alone(xy: Floats, far: float) -> npt.NDArray[np.bool_]:
    """Tell which of (n, 2) places have no other within `far`."""
    label = groups(xy, far)
    return np.asarray(np.bincount(label)[label] == 1)


def corners(xy: Floats, half: int, shape: tuple[int, int]) -> Ints:
    """Return the first column and row of each place's box, (n, 2), inside the frame."""
    most = np.array([shape[1], shape[0]]) - 2 * half - 1
    first = np.minimum(np.maximum(np.floor(xy + (0.5 - half)), 0.0), most)
    return np.asarray(first, np.int32, "C")


def spread_background(xy: Floats, background: Floats, half: int, level: Floats) -> None:
    """Write the background of each pixel, (ny, nx): the mean of those of the boxes it lies in."""
    corner = corners(xy, half, (level.shape[0], level.shape[1]))
    _average(corner, background.copy(), 2 * half + 1, level, np.zeros(level.shape))


@compiled
def _average(corner: Ints, background: Floats, side: int, level: Floats, boxes: Floats) -> None:
    ny, nx = level.shape
    mean = 0.0
    for k in range(len(corner)):
        mean += background[k] / len(corner)
    for j in range(ny):
        for i in range(nx):
            level[j, i] = 0.0
    for k in range(len(corner)):
        for j in range(corner[k, 1], corner[k, 1] + side):
            for i in range(corner[k, 0], corner[k, 0] + side):
                level[j, i] += background[k]
                boxes[j, i] += 1.0
    for j in range(ny):
        for i in range(nx):
            level[j, i] = level[j, i] / boxes[j, i] if boxes[j, i] > 0.0 else mean


def _profiles(xy: Floats, corner: Ints, side: int, width: float) -> Floats:
    """Return a spot's share of light in columns and rows, its slope and bend: (3, n, 2, side)."""
    u = (np.arange(side + 1) - 0.5 + (corner - xy)[..., None]) * (1.0 / width)
    gauss = np.exp(-0.5 * u * u) * (1.0 / (math.sqrt(2.0 * math.pi) * width))
    profiles = np.empty((3, *xy.shape, side))
    for k, edge in enumerate((0.5 * erf(math.sqrt(0.5) * u), -gauss, u * gauss * (-1.0 / width))):
        np.subtract(edge[..., 1:], edge[..., :-1], out=profiles[k])
    return profiles


def splits(data: Floats, mu: Floats, emitters: Floats, half: int, width: float) -> Floats:
    """Return how significantly spots are too long, and half the way between two that would do.

    A pair at +-h looks like one spot plus N / 2 (h . grad)^2 of it. The three second derivatives
    are fitted to the residual together with the spot's light and place and the background; the
    greatest eigenvalue of h h^T is the squared half distance along its eigenvector.

    Parameters
    ----------
    data, mu : (ny, nx)
        Counts and their expectation.
    emitters : (n, 3)
        x, y and photons.

    Returns
    -------
    (n, 3)
        Standard deviations, and half the way along x and y.
    """
    ny, nx = data.shape
    corner, side = corners(emitters[:, :2], half, (ny, nx)), 2 * half + 1
    profiles = _profiles(emitters[:, :2], corner, side, width)
    slope, info = np.zeros((len(emitters), 7)), np.zeros((len(emitters), 7, 7))
    _project(data, mu, corner, emitters[:, 2].copy(), profiles, slope, info)
    c, s = np.cos(DIRECTIONS), np.sin(DIRECTIONS)
    along = np.stack([c * c, c * s, s * s])
    score = slope[:, 4:] @ along
    variance = (along * (info[:, 4:, 4:] @ along)).sum(axis=1)
    good = variance > 0.0
    sd = np.sqrt(np.where(good, variance, 1.0))
    deviations = np.where(good, score, 0.0) / sd
    each, best = np.arange(len(emitters)), deviations.argmax(axis=1)
    most = np.maximum(deviations[each, best], 0.0)
    square = most / sd[each, best]
    h = np.minimum(np.maximum(np.sqrt(square), CLOSEST * width), 2.0 * width)
    return np.stack([most, h * c[best], h * s[best]], axis=1)


@compiled
def _project(data: Floats, mu: Floats, corner: Ints, photons: Floats, p: Floats,
             slope: Floats, info: Floats) -> None:  # fmt: skip
    """Write score and information of seven derivatives; the last three without the first four."""
    side = p.shape[3]
    basis = np.empty(7)
    for n in range(len(corner)):
        for j in range(side):
            for i in range(side):
                w = 1.0 / mu[corner[n, 1] + j, corner[n, 0] + i]
                r = data[corner[n, 1] + j, corner[n, 0] + i] * w - 1.0
                ex, dx, bx = p[0, n, 0, i], p[1, n, 0, i], photons[n] * p[2, n, 0, i]
                ey, dy, by = p[0, n, 1, j], p[1, n, 1, j], photons[n] * p[2, n, 1, j]
                basis[0], basis[1], basis[2], basis[3] = 1.0, ex * ey, dx * ey, ex * dy
                basis[4], basis[5], basis[6] = 0.5 * bx * ey, photons[n] * dx * dy, 0.5 * ex * by
                for m in range(7):
                    slope[n, m] += r * basis[m]
                    for q in range(m + 1):
                        info[n, m, q] += basis[m] * basis[q] * w
        for m in range(4):
            for q in range(m + 1, 7):
                ratio = info[n, q, m] / info[n, m, m]
                slope[n, q] -= ratio * slope[n, m]
                for other in range(m + 1, q + 1):
                    info[n, q, other] -= ratio * info[n, other, m]
        for m in range(4, 7):
            for q in range(m):
                info[n, q, m] = info[n, m, q]


def tops(data: Floats, mu: Floats, reach: int, width: float, least: float) -> Floats:
    """Return x, y, photons and standard deviations of the residual's tops above `least`, (n, 4)."""
    middle = np.full((1, 1), -reach, np.int32)
    share = _profiles(np.zeros((1, 1)), middle, 2 * reach + 1, width)[0, 0, 0]
    score, variance = np.zeros(data.shape), np.zeros(data.shape)
    _correlate(data, mu, share, score, variance)
    deviations = score / np.sqrt(variance)
    highest = deviations == maximum_filter(deviations, 3)
    y, x = np.nonzero(highest & (deviations >= least))
    return np.stack([x, y, score[y, x] / variance[y, x], deviations[y, x]], axis=1)


@compiled
def _correlate(data: Floats, mu: Floats, share: Floats, score: Floats, variance: Floats) -> None:
    """Write the score of an emitter's light at each pixel, and its variance."""
    ny, nx = data.shape
    reach = len(share) // 2
    along, along2 = np.zeros((ny, nx)), np.zeros((ny, nx))
    for j in range(ny):
        for i in range(nx):
            w = 1.0 / mu[j, i]
            r = data[j, i] * w - 1.0
            for k in range(max(-reach, -i), min(reach + 1, nx - i)):
                t = share[reach + k]
                along[j, i + k] += t * r
                along2[j, i + k] += t * t * w
    for j in range(ny):
        for k in range(max(-reach, -j), min(reach + 1, ny - j)):
            t = share[reach + k]
            for i in range(nx):
                score[j + k, i] += t * along[j, i]
                variance[j + k, i] += t * t * along2[j, i]


def losses(data: Floats, mu: Floats, emitters: Floats, half: int, width: float) -> Floats:
    """Return by how much 2 log L falls without each emitter, (n,), if no other is near.

    To first order, the background takes up what it can: the score's square over its variance.
    """
    ny, nx = data.shape
    corner, side = corners(emitters[:, :2], half, (ny, nx)), 2 * half + 1
    ex, ey = _profiles(emitters[:, :2], corner, side, width)[0].swapaxes(0, 1)
    box = np.arange(side)
    y, x = (corner[:, 1, None] + box)[:, :, None], (corner[:, 0, None] + box)[:, None]
    counts, whole = data[y, x], mu[y, x]
    light = emitters[:, 2, None, None] * ey[:, :, None] * ex[:, None]
    rest = np.maximum(whole - light, 1e-3)
    lift = (light / rest).sum((1, 2), keepdims=True) / (1.0 / rest).sum((1, 2), keepdims=True)
    rest += lift
    return np.asarray(2.0 * (rest - whole + xlogy(counts, whole / rest)).sum((1, 2)))

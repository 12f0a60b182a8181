"""Compiled loops of the scanning microscopes: images line by line, and when dyes bleach in them.

Pixels are visited line by line, each from left to right. Dyes see beams through round tables: a
profile by distance, splines along z; a table's row k + 1 stands at plane k.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

compiled = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
inlined = numba.njit(nogil=True, error_model="numpy", fastmath={"contract"}, forceinline=True)


@inlined
def _profile(table: Array, plane: float, n: int, scale: float, out: Array, add: bool) -> None:
    """Write, or add, the first n samples of a table at a height, times a scale."""
    k = min(max(math.floor(plane), 0), table.shape[0] - 4)
    u = plane - k
    v = 1.0 - u
    w0, w1 = v * v * v / 6.0, 2.0 / 3.0 - 0.5 * u * u * (2.0 - u)
    w2, w3 = 2.0 / 3.0 - 0.5 * v * v * (2.0 - v), u * u * u / 6.0
    a, b, c, d = table[k], table[k + 1], table[k + 2], table[k + 3]
    for i in range(n):
        # a spline may fall below zero by rounding where there is no light
        value = scale * max(w0 * a[i] + w1 * b[i] + w2 * c[i] + w3 * d[i], 0.0)
        out[i] = out[i] + value if add else value


@inlined
def _radius(reach: Array, plane: float) -> float:
    k = min(max(math.floor(plane), 0), reach.size - 2)
    return float(max(reach[k], reach[k + 1]))


@inlined
def _at(profile: Array, per_px: float, dx: float, dy2: float) -> float:
    """Interpolate a profile; distances in pixels, `per_px` samples a pixel."""
    s = math.sqrt(dx * dx + dy2) * per_px
    i = int(s)
    return float(profile[i] + (s - i) * (profile[i + 1] - profile[i]))


@compiled
def draw(
    image: Array,
    x: Array,
    y: Array,
    plane: Array,
    photons: Array,
    last: Array,
    part: Array,
    table: Array,
    reach: Array,
    per_px: float,
) -> None:
    """Add dyes to a scanned image in place; a dye may go dark on the way.

    Parameters
    ----------
    image : (ny, nx) float64
        Pixel (0, 0) has its centre at x = 0, y = 0.
    x, y, plane, photons : (n,)
        Places in pixels and planes of the table; photons in the beam's centre.
    last, part : (n,)
        Number of the last pixel in which a dye shines, and for which part of the dwell there; the
        number of all pixels for those that stay.
    table : (planes + 2, samples)
        Splines of the effective spot.
    reach : (planes,)
        How far it is drawn, in pixels.
    per_px
        Samples of the table per pixel.
    """
    ny, nx = image.shape
    profile = np.empty(table.shape[1] + 2)
    for n in range(x.size):
        if last[n] < 0:
            continue
        radius = _radius(reach, plane[n])
        samples = min(int(radius * per_px) + 2, table.shape[1])
        _profile(table, plane[n], samples, photons[n], profile, False)
        profile[samples : samples + 2] = profile[samples - 1]
        for j in range(
            max(0, math.ceil(y[n] - radius)), min(ny - 1, math.floor(y[n] + radius)) + 1
        ):
            dy2 = (j - y[n]) ** 2
            half = math.sqrt(max(radius * radius - dy2, 0.0))
            left, right = max(0, math.ceil(x[n] - half)), min(nx - 1, math.floor(x[n] + half))
            end = last[n] - j * nx
            if end < left:
                break
            line = image[j]
            for i in range(left, min(right, end - 1) + 1):
                line[i] += _at(profile, per_px, i - x[n], dy2)
            if end <= right:
                line[end] += part[n] * _at(profile, per_px, end - x[n], dy2)


@compiled
def bleach(
    shape: tuple[int, int],
    n_frames: int,
    x: Array,
    y: Array,
    plane: Array,
    brightness: Array,
    life: Array,
    excited: Array,
    depleting: Array,
    reach: Array,
    per_px: float,
) -> tuple[Array, Array, Array, Array]:
    """Let a scan, repeated frame by frame, use up the lives of dyes.

    Parameters
    ----------
    shape, n_frames
        Pixels of a frame; frames.
    x, y, plane, brightness : (n,)
        As in `draw`.
    life : (n,)
        What a dye can take, in units of its mean.
    excited, depleting : (planes + 2, samples)
        Splines of what a dye of brightness 1 takes in one dwell by being excited, and any dye by
        the depleting beam.
    reach, per_px
        As in `draw`.

    Returns
    -------
    (n,) int64, (n,) int64, (n,), (n,)
        The frame in which it goes dark (n_frames: in none), the pixel, the part of the dwell there
        that it lives, and what one whole frame takes.
    """
    ny, nx = shape
    count = x.size
    frame, pixel = np.full(count, n_frames), np.full(count, ny * nx)
    part, taken = np.ones(count), np.zeros(count)
    profile = np.empty(excited.shape[1] + 2)
    for n in range(count):
        radius = _radius(reach, plane[n])
        samples = min(int(radius * per_px) + 2, excited.shape[1])
        _profile(excited, plane[n], samples, brightness[n], profile, False)
        _profile(depleting, plane[n], samples, 1.0, profile, True)
        profile[samples : samples + 2] = profile[samples - 1]
        whole, _, _ = _scan(shape, x[n], y[n], radius, per_px, profile, math.inf)
        taken[n] = whole
        if life[n] > n_frames * whole:
            continue
        k = min(math.floor(life[n] / whole), n_frames - 1)
        rest = max(life[n] - k * whole, 0.0)
        frame[n] = k
        _, pixel[n], part[n] = _scan(shape, x[n], y[n], radius, per_px, profile, rest)
    return frame, pixel, part, taken


@compiled
def _scan(
    shape: tuple[int, int],
    x: float,
    y: float,
    radius: float,
    per_px: float,
    profile: Array,
    life: float,
) -> tuple[float, int, float]:
    """Scan over a dye until its life is used up; return what it took, the pixel and its part."""
    ny, nx = shape
    total, latest = 0.0, 0
    for j in range(max(0, math.ceil(y - radius)), min(ny - 1, math.floor(y + radius)) + 1):
        dy2 = (j - y) ** 2
        half = math.sqrt(max(radius * radius - dy2, 0.0))
        for i in range(max(0, math.ceil(x - half)), min(nx - 1, math.floor(x + half)) + 1):
            step = _at(profile, per_px, i - x, dy2)
            latest = j * nx + i
            if total + step >= life:
                return life, latest, (life - total) / step if step > 0.0 else 0.0
            total += step
    return total, latest, 1.0

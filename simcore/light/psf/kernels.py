"""Compiled loops of the point spread functions: from polar to square grids, and adding spots."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

compiled = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
inlined = numba.njit(nogil=True, error_model="numpy", fastmath={"contract"}, forceinline=True)


@compiled
def bessel(x: Array, j0: Array, j1: Array, highest: int) -> Array:
    """Return the Bessel functions of the first kind of orders 0 ... highest.

    Recurrence upwards from orders 0 and 1 where x exceeds the highest order; else downwards from
    far above (J. C. P. Miller), scaled by ``J_0 + 2 sum J_2k = 1``.

    Parameters
    ----------
    x, j0, j1 : (n,) float64
        Arguments, none negative, and their functions of orders 0 and 1.
    highest : int
        One or more.

    Returns
    -------
    (highest + 1, n)
    """
    out = np.empty((highest + 1, x.size))
    above = highest + 30 - highest % 2
    for i in range(x.size):
        if x[i] > highest:
            out[0, i], out[1, i] = j0[i], j1[i]
            for m in range(1, highest):
                out[m + 1, i] = 2.0 * m / x[i] * out[m, i] - out[m - 1, i]
        elif x[i] < 1e-8:
            out[:, i] = 0.0
            out[0, i], out[1, i] = 1.0, 0.5 * x[i]
        else:
            later, now, total = 0.0, 1e-280, 0.0
            for m in range(above, -1, -1):
                if m <= highest:
                    out[m, i] = now
                total += now if m == 0 else (2.0 * now if m % 2 == 0 else 0.0)
                later, now = now, 2.0 * m / x[i] * now - later
                if abs(now) > 1e200:
                    # small arguments grow fast: begin anew with what is reached
                    later, now, total = later * 1e-250, now * 1e-250, total * 1e-250
                    for k in range(m, highest + 1):
                        out[k, i] *= 1e-250
            for m in range(highest + 1):
                out[m, i] /= total
    return out


@inlined
def _lagrange(u: float, w: Array) -> None:
    """Write the weights of six even samples at -2 ... 3 for a point at 0 <= u < 1."""
    a, b, c, d, e, f = u + 2.0, u + 1.0, u, u - 1.0, u - 2.0, u - 3.0
    w[0] = -b * c * d * e * f / 120.0
    w[1] = a * c * d * e * f / 24.0
    w[2] = -a * b * d * e * f / 12.0
    w[3] = a * b * c * e * f / 12.0
    w[4] = -a * b * c * d * f / 24.0
    w[5] = a * b * c * d * e / 120.0


@compiled
def resample(polar: Array, r_step: float, below: int, half: int, step: float) -> Array:
    """Interpolate a polar image on a square grid about its centre, six points along r and theta.

    Parameters
    ----------
    polar : (r, angles, planes) float32
        Sample i of r lies at (i - below) r_step.
    r_step, below
        Step of r, and how many samples lie before r = 0.
    half, step
        The grid runs from -half to half steps along y and x.

    Returns
    -------
    (planes, 2 half + 1, 2 half + 1) float32
    """
    _, n_angles, planes = polar.shape
    n = 2 * half + 1
    out = np.empty((planes, n, n), np.float32)
    values = np.empty(planes, np.float32)
    w_r, w_a = np.empty(6), np.empty(6)
    for iy in range(n):
        for ix in range(n):
            y, x = (iy - half) * step, (ix - half) * step
            u = math.sqrt(x * x + y * y) / r_step + below
            v = math.atan2(y, x) / (2.0 * math.pi) * n_angles
            i, j = math.floor(u), math.floor(v)
            _lagrange(u - i, w_r)
            _lagrange(v - j, w_a)
            values[:] = 0.0
            for b in range(6):
                angle = (j + b - 2 + n_angles) % n_angles
                for a in range(6):
                    w = np.float32(w_r[a] * w_a[b])
                    samples = polar[i + a - 2, angle]
                    for k in range(planes):
                        values[k] += w * samples[k]
            for k in range(planes):
                out[k, iy, ix] = values[k]
    return out


@inlined
def _spline(u: float, w: Array) -> None:
    """Write the weights of four spline coefficients at -1 ... 2 for a point at 0 <= u <= 1."""
    v = 1.0 - u
    w[0] = v * v * v / 6.0
    w[1] = 2.0 / 3.0 - 0.5 * u * u * (2.0 - u)
    w[2] = 2.0 / 3.0 - 0.5 * v * v * (2.0 - v)
    w[3] = u * u * u / 6.0


@compiled
def add_spots(
    image: Array,
    x: Array,
    y: Array,
    z: Array,
    photons: Array,
    core: Array,
    core_reach: int,
    skirt: Array,
    reach: int,
) -> None:
    """Add spots from a table to an image, in place.

    The core of a spot is interpolated by cubic splines along z, y and x. The faint skirt around it
    is taken as it is about a pixel's centre, and interpolated linearly along z.

    Parameters
    ----------
    image : (ny, nx) float32
        Pixel (0, 0) has its centre at x = 0, y = 0.
    x, y, z, photons : (n,) float64
        x and y in pixels, z in planes of the table from its first.
    core : (planes + 2, phases, phases, side * side) float32
        Coefficients by plane, sub-pixel phase along y and x, and pixel; the spot's centre lies at
        phase 0 of the middle pixel; side = 2 core_reach + 3.
    core_reach, reach : int
        Pixels on either side of the central one that core and skirt cover.
    skirt : (planes, 2 reach + 1, 2 reach + 1) float32
        Zero where the core is; empty where the core is all there is.
    """
    ny, nx = image.shape
    phases = core.shape[1]
    side = 2 * core_reach + 3
    spot = np.empty(side * side, np.float32)
    # weights, phases and shifts in pixels of four coefficients along z, y and x
    weight = np.empty((3, 4))
    phase, shift = np.empty((3, 4), np.int64), np.empty((3, 4), np.int64)
    for n in range(x.size):
        cx, cy = math.floor(x[n] + 0.5), math.floor(y[n] + 0.5)
        k = min(max(math.floor(z[n]), 0), core.shape[0] - 4)
        u = z[n] - k
        if skirt.shape[0] > 0:
            left, right = max(-reach, -cx), min(reach, nx - 1 - cx)
            below, above = np.float32(photons[n] * (1.0 - u)), np.float32(photons[n] * u)
            for dy in range(max(-reach, -cy), min(reach, ny - 1 - cy) + 1):
                line = image[cy + dy]
                here, next_plane = skirt[k, reach + dy], skirt[k + 1, reach + dy]
                for dx in range(left, right + 1):
                    i = reach + dx
                    line[cx + dx] += below * here[i] + above * next_plane[i]
        left, right = max(-core_reach, -cx), min(core_reach, nx - 1 - cx)
        top, bottom = max(-core_reach, -cy), min(core_reach, ny - 1 - cy)
        if left > right or top > bottom:
            continue
        _spline(u, weight[0])
        _taps((cy - y[n]) * phases, phases, weight[1], phase[1], shift[1])
        _taps((cx - x[n]) * phases, phases, weight[2], phase[2], shift[2])
        _lines(spot, core[k : k + 4], weight, phase, shift, core_reach, top, bottom)
        share = np.float32(photons[n])
        for dy in range(top, bottom + 1):
            line = image[cy + dy]
            start = (core_reach + 1 + dy) * side + core_reach + 1
            for dx in range(left, right + 1):
                line[cx + dx] += share * spot[start + dx]


@inlined
def _taps(u: float, phases: int, weight: Array, phase: Array, shift: Array) -> None:
    """Write weights, phases and shifts in pixels of the four coefficients about u."""
    base = math.floor(u)
    _spline(u - base, weight)
    for t in range(4):
        sample = int(base) + t - 1
        shift[t] = sample // phases
        phase[t] = sample - phases * shift[t]


@compiled
def _lines(
    spot: Array,
    planes: Array,
    weight: Array,
    phase: Array,
    shift: Array,
    reach: int,
    first: int,
    last: int,
) -> None:
    """Interpolate the lines `first` ... `last` of a spot's core, counted from its middle.

    They are one run in memory, which the processor's vector units like; the first and the last
    column come out wrong and are not used.
    """
    side = 2 * reach + 3
    start = (reach + 1 + first) * side + 1
    n = (last - first + 1) * side - 2
    out = spot[start : start + n]
    out[:] = 0.0
    for c in range(4):
        for b in range(4):
            w = weight[0, c] * weight[1, b]
            w0, w1 = np.float32(w * weight[2, 0]), np.float32(w * weight[2, 1])
            w2, w3 = np.float32(w * weight[2, 2]), np.float32(w * weight[2, 3])
            at = start + shift[1, b] * side
            table = planes[c, phase[1, b]]
            c0 = table[phase[2, 0], at + shift[2, 0] :]
            c1 = table[phase[2, 1], at + shift[2, 1] :]
            c2 = table[phase[2, 2], at + shift[2, 2] :]
            c3 = table[phase[2, 3], at + shift[2, 3] :]
            for i in range(n):
                out[i] += w0 * c0[i] + w1 * c1[i] + w2 * c2[i] + w3 * c3[i]


REACH_SIGMAS = 5.0
"""How far a Gaussian spot is drawn: 6e-7 of its energy lie beyond, along x and along y."""


@compiled
def add_gaussians(
    image: Array, x: Array, y: Array, sigma_x: Array, sigma_y: Array, photons: Array
) -> None:
    """Add Gaussian spots, integrated over the pixels, to an image in place.

    Parameters
    ----------
    image : (ny, nx) float32
        Pixel (0, 0) has its centre at x = 0, y = 0.
    x, y, sigma_x, sigma_y, photons : (n,) float64
        Lengths in pixels.
    """
    ny, nx = image.shape
    along_x = np.empty(nx, np.float32)
    for spot in range(x.size):
        half_x, half_y = REACH_SIGMAS * sigma_x[spot], REACH_SIGMAS * sigma_y[spot]
        left = max(0, math.floor(x[spot] - half_x + 0.5))
        right = min(nx - 1, math.floor(x[spot] + half_x + 0.5))
        top = max(0, math.floor(y[spot] - half_y + 0.5))
        bottom = min(ny - 1, math.floor(y[spot] + half_y + 0.5))
        if left > right or top > bottom:
            continue
        scale = math.sqrt(0.5) / sigma_x[spot]
        before = math.erf((left - 0.5 - x[spot]) * scale)
        for i in range(left, right + 1):
            after = math.erf((i + 0.5 - x[spot]) * scale)
            along_x[i - left] = 0.5 * (after - before)
            before = after
        scale = math.sqrt(0.5) / sigma_y[spot]
        before = math.erf((top - 0.5 - y[spot]) * scale)
        for j in range(top, bottom + 1):
            after = math.erf((j + 0.5 - y[spot]) * scale)
            share = np.float32(0.5 * (after - before) * photons[spot])
            before = after
            target = image[j]
            for i in range(right - left + 1):
                target[left + i] += share * along_x[i]

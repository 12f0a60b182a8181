"""Compiled fits of single spots: a Gaussian integrated over each pixel, on a flat background.

The expectation in pixel (j, i) is

    mu = N e(i - x, sx) e(j - y, sy) + b + known,
    e(u, s) = [erf((u + 1/2) / (s sqrt 2)) - erf((u - 1/2) / (s sqrt 2))] / 2,

so a box of k x k pixels takes 2 (k + 1) error functions, and every sum over pixels that a fit needs
splits into sums along rows. Both fits take the step of Gauss and Newton,

    (sum w dmu dmu^T) step = sum w (data - mu) dmu,

w = 1 / mu gives Fisher's scoring, whose fixed point has the greatest Poisson likelihood; equal w
give least squares. The matrix is damped as Levenberg's and Marquardt's when a step
goes too far.

Kernels that call each other live in this one file, because numba's cache doesn't notice an edited
callee in another.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

FIXED, FREE, ELLIPTICAL, ASTIGMATIC = range(4)
"""Models: width given | one width fitted | a width along x and one along y | both tell z."""

LIKELIHOOD, SQUARES, SPREAD = range(3)
"""Methods, and a weighting that tells the errors of the second."""

X, Y, PHOTONS, BACKGROUND, WIDTH_X, WIDTH_Y = range(6)
"""Of a spot. A model's parameters are the first four, then one width or z, or both widths."""
FIFTH = 4

(Z, SD_X, SD_Y, SD_PHOTONS, SD_BACKGROUND, SD_FIFTH, SD_SIXTH, LOG_LIKELIHOOD, CHI_SQUARE, STEPS,
 CONVERGED, NUMBERS) = range(6, 18)  # fmt: skip
"""Columns of a result after those of the spot. SD_FIFTH is that of the (x) width, or of z."""

MOST_STEPS = 50
LAST_STEP = 1e-2
"""A fit ends with a step shorter than this, in standard deviations of the parameters."""
LEAST_BACKGROUND = 0.01
LEAST_PHOTONS = 0.1
NARROWEST, WIDEST = 0.5, 3.0  # of the given width
OVERSHOT = 0.4  # of the slope along a step, with its sign turned at the end
FARTHEST_STEP_PX = 0.7
FARTHEST_STEP_Z = 0.25  # of the calibrated range
LARGEST_FACTOR = 2.0  # a step may change the photons or a width by no more
SETTLED_PX = 0.01  # between rounds of fits
TRIED_Z = 13
REACH = 3.5  # widths within which a spot shines on another's box
ROOT_HALF = math.sqrt(0.5)
ROOT_TWO_PI = math.sqrt(2.0 * math.pi)

_maths: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "nsz", "arcp"},
}
compiled = numba.njit(cache=True, **_maths)
# only called by kernels: without wrappers for Python, they compile faster
_without: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
inner = numba.njit(**_maths, **_without)


class Depth(NamedTuple):
    """Widths along x and y and their slopes in z, on a grid of z: the columns of `table`."""

    start: float
    step: float
    table: Floats


class Work(NamedTuple):
    """Arrays that the fits write over."""

    profiles: Floats
    info: Floats
    slope: Floats
    kept_info: Floats
    kept_slope: Floats
    root: Floats
    spot: Floats
    tilts: Floats
    q: Floats
    low: Floats
    high: Floats
    unit: Floats
    column: Floats


class Task(NamedTuple):
    """What is fitted, and how: see :func:`fit_boxes`."""

    model: int
    method: int
    unknowns: int
    depth: Depth


@inner
def _profile(centre: float, width: float, e: Floats, d: Floats, s: Floats) -> None:
    """Write the share of the light in each row or column, and its slopes in centre and width."""
    scale = 1.0 / width
    u = (-0.5 - centre) * scale
    edge, gauss = math.erf(u * ROOT_HALF), math.exp(-0.5 * u * u) * scale / ROOT_TWO_PI
    for i in range(len(e)):
        v = (i + 0.5 - centre) * scale
        next_edge = math.erf(v * ROOT_HALF)
        next_gauss = math.exp(-0.5 * v * v) * scale / ROOT_TWO_PI
        e[i] = 0.5 * (next_edge - edge)
        d[i] = gauss - next_gauss
        s[i] = u * gauss - v * next_gauss
        u, edge, gauss = v, next_edge, next_gauss


@inner
def _sums(data: Singles, known: Singles, weighting: int, weight: float, work: Work) -> None:
    """Write sum w dmu dmu^T and sum w (data - mu) dmu over the six parameters of a spot.

    `weighting` is LIKELIHOOD (w = 1 / mu), SQUARES (w = weight) or SPREAD (w = weight^2 mu: what
    Poisson noise does to the least squares' slope).
    """
    ny, nx = data.shape
    p, profiles, info, slope = work.spot, work.profiles, work.info, work.slope
    ex, dx, sx = profiles[0, :nx], profiles[1, :nx], profiles[2, :nx]
    ey, dy, sy = profiles[3, :ny], profiles[4, :ny], profiles[5, :ny]
    _profile(p[X], p[WIDTH_X], ex, dx, sx)
    _profile(p[Y], p[WIDTH_Y], ey, dy, sy)
    n, b = p[PHOTONS], p[BACKGROUND]
    for k in range(6):
        slope[k] = 0.0
        for m in range(6):
            info[k, m] = 0.0
    for j in range(ny):
        w1 = we = wd = ws = wee = wed = wes = wdd = wds = wss = 0.0
        r1 = re = rd = rs = 0.0
        light = n * ey[j]
        for i in range(nx):
            mu = light * ex[i] + b + known[j, i]
            w = weight
            if weighting == LIKELIHOOD:
                w = 1.0 / mu
            elif weighting == SPREAD:
                w = weight * weight * mu
            r = (data[j, i] - mu) * w
            e, d, s = ex[i], dx[i], sx[i]
            r1 += r
            re += r * e
            rd += r * d
            rs += r * s
            w1 += w
            we += w * e
            wd += w * d
            ws += w * s
            wee += w * e * e
            wed += w * e * d
            wes += w * e * s
            wdd += w * d * d
            wds += w * d * s
            wss += w * s * s
        e, d, s = ey[j], dy[j], sy[j]
        slope[X] += e * rd
        slope[Y] += d * re
        slope[PHOTONS] += e * re
        slope[BACKGROUND] += r1
        slope[WIDTH_X] += e * rs
        slope[WIDTH_Y] += s * re
        info[X, X] += e * e * wdd
        info[Y, X] += d * e * wed
        info[Y, Y] += d * d * wee
        info[PHOTONS, X] += e * e * wed
        info[PHOTONS, Y] += e * d * wee
        info[PHOTONS, PHOTONS] += e * e * wee
        info[BACKGROUND, X] += e * wd
        info[BACKGROUND, Y] += d * we
        info[BACKGROUND, PHOTONS] += e * we
        info[BACKGROUND, BACKGROUND] += w1
        info[WIDTH_X, X] += e * e * wds
        info[WIDTH_X, Y] += e * d * wes
        info[WIDTH_X, PHOTONS] += e * e * wes
        info[WIDTH_X, BACKGROUND] += e * ws
        info[WIDTH_X, WIDTH_X] += e * e * wss
        info[WIDTH_Y, X] += s * e * wed
        info[WIDTH_Y, Y] += s * d * wee
        info[WIDTH_Y, PHOTONS] += s * e * wee
        info[WIDTH_Y, BACKGROUND] += s * we
        info[WIDTH_Y, WIDTH_X] += s * e * wes
        info[WIDTH_Y, WIDTH_Y] += s * s * wee
    for k in range(6):
        bright = n if k in (X, Y, WIDTH_X, WIDTH_Y) else 1.0
        slope[k] *= bright
        for m in range(k + 1):
            info[k, m] *= bright * (n if m in (X, Y, WIDTH_X, WIDTH_Y) else 1.0)


@inner
def _widths_at(z: float, depth: Depth) -> tuple[float, float, float, float]:
    """Return the widths along x and y at z, and their slopes: cubic between the table's rows."""
    start, step, table = depth
    at = (z - start) / step
    k = min(max(int(at), 0), len(table) - 2)
    t = at - k
    u = 1.0 - t
    out0, out1 = u * u * (1.0 + 2.0 * t), t * t * (1.0 + 2.0 * u)
    in0, in1 = step * t * u * u, -step * t * t * u
    bend = 6.0 * t * u / step
    lean0, lean1 = u * (1.0 - 3.0 * t), t * (1.0 - 3.0 * u)
    a, c = table[k], table[k + 1]
    return (
        out0 * a[0] + out1 * c[0] + in0 * a[2] + in1 * c[2],
        out0 * a[1] + out1 * c[1] + in0 * a[3] + in1 * c[3],
        bend * (c[0] - a[0]) + lean0 * a[2] + lean1 * c[2],
        bend * (c[1] - a[1]) + lean0 * a[3] + lean1 * c[3],
    )


@inner
def _factor(info: Floats, damping: float, n: int, root: Floats) -> bool:
    """Write Cholesky's factor of the damped matrix; False if it isn't positive."""
    for k in range(n):
        for m in range(k + 1):
            value = info[k, m]
            if m == k:
                value *= 1.0 + damping
            for q in range(m):
                value -= root[k, q] * root[m, q]
            if m < k:
                root[k, m] = value * root[m, m]
            elif value > 1e-12 * info[k, k] and value < np.inf:
                root[k, k] = 1.0 / math.sqrt(value)  # of the diagonal, the inverse is kept
            else:
                return False
    return True


@inner
def _solve(root: Floats, right: Floats, n: int, out: Floats) -> None:
    for k in range(n):
        value = right[k]
        for q in range(k):
            value -= root[k, q] * out[q]
        out[k] = value * root[k, k]
    for back in range(n):
        k = n - 1 - back
        value = out[k]
        for q in range(k + 1, n):
            value -= root[q, k] * out[q]
        out[k] = value * root[k, k]


@inner
def _start_z(
    x: float, y: float, data: Singles, known: Singles, depth: Depth, profiles: Floats
) -> float:
    """Return the z whose spot, at the place where the fit starts, leaves the least squares."""
    ny, nx = data.shape
    ex, ey = profiles[0, :nx], profiles[3, :ny]
    best, best_z = 0.0, depth.start
    for k in range(TRIED_Z):
        z = depth.start + depth.step * (len(depth.table) - 1) * (k + 0.5) / TRIED_Z
        width_x, width_y, _, _ = _widths_at(z, depth)
        _profile(x, width_x, ex, profiles[1], profiles[2])
        _profile(y, width_y, ey, profiles[4], profiles[5])
        product = total = sum_x = sum_y = square_x = square_y = 0.0
        for i in range(nx):
            sum_x += ex[i]
            square_x += ex[i] * ex[i]
        for j in range(ny):
            sum_y += ey[j]
            square_y += ey[j] * ey[j]
            for i in range(nx):
                light = data[j, i] - known[j, i]
                product += light * ey[j] * ex[i]
                total += light
        mean = sum_x * sum_y / (nx * ny)
        contrast = product - mean * total
        gain = contrast * abs(contrast) / (square_x * square_y - mean * sum_x * sum_y)
        if k == 0 or gain > best:
            best, best_z = gain, z
    return best_z


@inner
def _sums_in_model(
    data: Singles, known: Singles, weighting: int, weight: float, task: Task, work: Work
) -> None:
    """Write the sums of `_sums` over the parameters q of the model."""
    q, model, depth = work.q, task.model, task.depth
    spot, tilts, info, slope = work.spot, work.tilts, work.info, work.slope
    for k in range(6):
        spot[k] = q[k]
    if model == ASTIGMATIC:
        spot[WIDTH_X], spot[WIDTH_Y], tilts[0], tilts[1] = _widths_at(q[FIFTH], depth)
    elif model != ELLIPTICAL:
        spot[WIDTH_Y] = q[FIFTH]
    _sums(data, known, weighting, weight, work)
    if model in (FREE, ASTIGMATIC):  # both widths follow the fifth parameter
        a, b = tilts
        slope[4] = a * slope[4] + b * slope[5]
        info[4, 4] = a * a * info[4, 4] + 2.0 * a * b * info[5, 4] + b * b * info[5, 5]
        for m in range(4):
            info[4, m] = a * info[4, m] + b * info[5, m]


@inner
def _copy(source: Floats, to: Floats) -> None:
    for k in range(source.size):
        to.flat[k] = source.flat[k]


@inner
def _climb(
    data: Singles, known: Singles, weight: float, task: Task, work: Work
) -> tuple[int, bool]:
    """Move the parameters q to the best fit between their bounds; return steps, and whether."""
    model, method, unknowns, _ = task
    q, low, high = work.q, work.low, work.high
    info, slope, root, step = work.info, work.slope, work.root, work.column
    damping = before = after = 0.0
    settled = False
    for steps in range(MOST_STEPS + 1):
        _sums_in_model(data, known, method, weight, task, work)
        if settled:
            return steps, True
        # Whether the last step made the fit better is seen from the slope along it, at both its
        # ends (the trapezoid's rule): that saves a logarithm per pixel.
        if steps > 0:
            after = 0.0
            for k in range(unknowns):
                after += step[k] * slope[k]
        if before + after >= 0.0:
            if after < -OVERSHOT * before:  # or it would swing about the top for long
                damping = max(2.0 * damping, OVERSHOT)
            else:
                damping = 0.3 * damping if damping > 1e-3 else 0.0
            _copy(info, work.kept_info)
            _copy(slope, work.kept_slope)
        else:
            damping = max(4.0 * damping, 1.0)
            _copy(work.kept_info, info)
            _copy(work.kept_slope, slope)
            for k in range(unknowns):
                q[k] -= step[k]
        for k in range(unknowns):  # what would leave its bounds stays there
            if (q[k] <= low[k] and slope[k] < 0.0) or (q[k] >= high[k] and slope[k] > 0.0):
                slope[k] = 0.0
                for m in range(unknowns):
                    info[max(k, m), min(k, m)] = 1.0 if m == k else 0.0
        while not _factor(info, damping, unknowns, root):
            damping = max(10.0 * damping, 1e-3)
            if damping > 1e9:
                return steps, False
        _solve(root, slope, unknowns, step)
        part = 1.0
        for k in range(unknowns):
            longest = FARTHEST_STEP_PX
            if k == FIFTH and model == ASTIGMATIC:
                longest = FARTHEST_STEP_Z * (high[k] - low[k])
            elif k == BACKGROUND:
                longest = q[BACKGROUND] + 0.1 * q[PHOTONS]
            elif k >= PHOTONS:
                longest = (LARGEST_FACTOR - 1.0) * q[k] / (1.0 if step[k] > 0.0 else LARGEST_FACTOR)
            part = min(part, longest / max(abs(step[k]), 1e-300))
        before = 0.0
        for k in range(unknowns):
            step[k] = min(max(q[k] + part * step[k], low[k]), high[k]) - q[k]
            q[k] += step[k]
            before += step[k] * slope[k]
        settled = part == 1.0 and (1.0 + damping) ** 2 * abs(before) < LAST_STEP**2
    return MOST_STEPS, False


@inner
def _fit(data: Singles, known: Singles, task: Task, work: Work, out: Floats) -> None:
    """Fit a box from the parameters q on; write a row of the results."""
    model, method, unknowns, _ = task
    q, low, high, unit, column = work.q, work.low, work.high, work.unit, work.column
    ny, nx = data.shape
    total = 0.0
    for j in range(ny):
        for i in range(nx):
            total += data[j, i]
    weight = nx * ny / max(total, 1.0)  # of least squares: makes a step's gain about that in sd
    steps, good = _climb(data, known, weight, task, work)
    for k in range(unknowns):  # at the end of its room, a spot is another's, or nothing
        good = good and (k == BACKGROUND or low[k] < q[k] < high[k])
    good = good and _factor(work.info, 0.0, unknowns, work.root)
    for k in range(6):
        out[k], out[SD_X + k] = work.spot[k], np.nan
    out[Z] = q[FIFTH] if model == ASTIGMATIC else np.nan
    if good:
        if method == SQUARES:
            _sums_in_model(data, known, SPREAD, weight, task, work)
        for k in range(unknowns):
            for m in range(unknowns):
                unit[m] = 1.0 if m == k else 0.0
            _solve(work.root, unit, unknowns, column)
            variance = column[k]
            if method == SQUARES:
                variance = 0.0
                for m in range(unknowns):
                    for n in range(unknowns):
                        variance += column[m] * work.info[max(m, n), min(m, n)] * column[n]
            out[SD_X + k] = math.sqrt(variance)
        # a place that may lie anywhere in its room is none
        good = max(out[SD_X], out[SD_Y]) < 0.5 * (high[X] - low[X])
    likelihood = chi_square = 0.0
    for j in range(ny):
        light = q[PHOTONS] * work.profiles[3, j]
        for i in range(nx):
            mu = light * work.profiles[0, i] + q[BACKGROUND] + known[j, i]
            counted = data[j, i]
            likelihood += counted - mu
            if counted > 0.0:
                likelihood -= counted * math.log(counted / mu)
            chi_square += (counted - mu) ** 2 / mu
    for k in range(6):
        out[SD_X + k] = out[SD_X + k] if good else np.nan
    out[LOG_LIKELIHOOD], out[CHI_SQUARE] = likelihood, chi_square
    out[STEPS], out[CONVERGED] = steps, good


@inner
def _add_neighbours(spot: int, first: int, end: int, places: Ints, fits: Floats, work: Work,
                    known: Singles) -> bool:  # fmt: skip
    """Add the light of the other spots of a frame to what is known of a box; tell if there is any.

    The frame's spots are the rows from `first` to `end`.
    """
    ny, nx = known.shape
    e, f = work.profiles[0, :nx], work.profiles[3, :ny]
    lit = False
    for other in range(first, end):
        if other == spot or fits[other, CONVERGED] == 0.0:
            continue
        width_x, width_y = fits[other, WIDTH_X], fits[other, WIDTH_Y]
        y = fits[other, Y] + places[other, 1] - places[spot, 1]
        x = fits[other, X] + places[other, 2] - places[spot, 2]
        if abs(y - 0.5 * (ny - 1)) > 0.5 * ny + REACH * width_y:
            continue
        if abs(x - 0.5 * (nx - 1)) > 0.5 * nx + REACH * width_x:
            continue
        lit = True
        _profile(x, width_x, e, work.profiles[1, :nx], work.profiles[2, :nx])
        _profile(y, width_y, f, work.profiles[4, :ny], work.profiles[5, :ny])
        for j in range(ny):
            light = fits[other, PHOTONS] * f[j]
            for i in range(nx):
                known[j, i] += light * e[i]
    return lit


@compiled
def fit_boxes(
    boxes: Singles, known: Singles, starts: Floats, places: Ints, rounds: int, width: float,
    farthest: float, model: int, method: int, depth: Depth, out: Floats,
) -> None:  # fmt: skip
    """Fit every box of pixels.

    Parameters
    ----------
    boxes, known : (n, ny, nx)
        Counts, and the expectation that belongs neither to the spot nor to its flat background.
    starts : (n, 4)
        x, y (pixels from the centre of pixel (0, 0)), photons, background.
    places : (n, 3)
        Frame, first row and first column of each box, sorted by frame.
    rounds
        How often, at most, the spots of a frame that light each other's boxes are fitted again,
        one after another, with the others' light in the expectation.
    width
        Standard deviation of the spot, in pixels: given, or where the fit starts.
    farthest
        How far from its start a spot may end, along x and along y.
    model, method
        FIXED, FREE, ELLIPTICAL or ASTIGMATIC; LIKELIHOOD or SQUARES.
    depth
        What tells z from the widths; used by ASTIGMATIC.
    out : (n, NUMBERS)
        Gets the spot's six parameters, z, the standard deviations that Poisson noise leaves (from
        Fisher's information; for least squares, from how they answer to noise), and how it ended.
    """
    count, ny, nx = boxes.shape
    task = Task(model, method, 4 if model == FIXED else 6 if model == ELLIPTICAL else 5, depth)
    work = Work(
        np.zeros((6, max(nx, ny))), np.zeros((6, 6)), np.zeros(6), np.zeros((6, 6)), np.zeros(6),
        np.zeros((6, 6)), np.zeros(6), np.ones(2), np.zeros(6), np.zeros(6), np.zeros(6),
        np.zeros(6), np.zeros(6),
    )  # fmt: skip
    q, low, high = work.q, work.low, work.high
    for k in range(6):
        low[k] = LEAST_PHOTONS if k == PHOTONS else LEAST_BACKGROUND
        high[k] = np.inf
        if k >= FIFTH:
            low[k], high[k] = NARROWEST * width, WIDEST * width
    if model == ASTIGMATIC:
        low[FIFTH], high[FIFTH] = depth.start, depth.start + depth.step * (len(depth.table) - 1)
    lit = np.empty((ny, nx), np.float32)
    first = 0
    while first < count:
        end = first + 1
        while rounds > 0 and end < count and places[end, 0] == places[first, 0]:
            end += 1
        for again in range(rounds + 1):
            farthest_move = 0.0
            for spot in range(first, end):
                extra = known[spot]
                if again:
                    for j in range(ny):
                        for i in range(nx):
                            lit[j, i] = extra[j, i]
                    if not _add_neighbours(spot, first, end, places, out, work, lit):
                        continue
                    extra = lit
                for k in range(2):
                    low[k], high[k] = starts[spot, k] - farthest, starts[spot, k] + farthest
                was_x, was_y = out[spot, X], out[spot, Y]
                if again and out[spot, CONVERGED]:
                    for k in range(6):
                        q[k] = out[spot, k]
                    q[FIFTH] = out[spot, Z] if model == ASTIGMATIC else q[FIFTH]
                else:
                    for k in range(6):
                        q[k] = max(starts[spot, k], low[k]) if k < FIFTH else width
                    if model == ASTIGMATIC:
                        q[FIFTH] = _start_z(q[X], q[Y], boxes[spot], extra, depth, work.profiles)
                _fit(boxes[spot], extra, task, work, out[spot])
                move = max(abs(out[spot, X] - was_x), abs(out[spot, Y] - was_y))
                farthest_move = max(farthest_move, move)
            if again and farthest_move < SETTLED_PX:
                break
        first = end


@compiled
def cut_boxes(frames: Singles, places: Ints, out: Singles) -> None:
    """Copy boxes of pixels out of frames; places are frame, first row and first column of each."""
    for spot in range(len(out)):
        frame, top, left = places[spot]
        for j in range(out.shape[1]):
            for i in range(out.shape[2]):
                out[spot, j, i] = frames[frame, top + j, left + i]

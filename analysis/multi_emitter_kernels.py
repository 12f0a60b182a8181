"""Compiled joint fits of emitters whose spots overlap: Gaussians of one width on a flat background.

The expectation in pixel (j, i) is

    mu = sum_k N_k e(i - x_k) e(j - y_k) + b + known,

with e as in `spot_fit_kernels`. The emitters of a group are moved together by Fisher's scoring,

    (sum dmu dmu^T / mu) step = sum (data / mu - 1) dmu.

The matrix couples only emitters near to each other: sorted along y, each row of it starts at the
first emitter that is near, and so does that row of Cholesky's factor (a "skyline": A. George & J.
Liu, Computer Solution of Large Sparse Positive Definite Systems, 1981, chapter 4).

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

(X, Y, PHOTONS, BACKGROUND, SD_X, SD_Y, SD_PHOTONS, SD_BACKGROUND, LOG_LIKELIHOOD, CHI_SQUARE,
 PIXELS, GROUP_SIZE, CONVERGED, NUMBERS) = range(14)  # fmt: skip
"""Columns of a result."""

LINK = 4.0  # widths: emitters nearer than this are fitted together; their spots overlap by 2 %
COUPLED = 6.0  # widths: of those, only emitters nearer than this share information (e^-9)
AROUND = 3.0  # widths: emitters nearer than this move when one is added or taken away
LIT = 4.0  # widths: how far a spot is drawn
MOST_STEPS = 40
FEW_STEPS = 8  # of a trial, whose gain counts, not its last digits
LAST_STEP = 1e-4  # gain of the likelihood, per emitter
FARTHEST_STEP_PX = 0.5
LARGEST_FACTOR = 2.0
LEAST_BACKGROUND = 0.01
LEAST_PHOTONS = 0.1
SETTLED_PX = 0.01
SWEEPS = 4
TRIED = 2.0  # standard deviations of a residual that is worth a trial
CLOSEST = 0.5  # widths: least half distance that a pair is tried with
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


class Frame(NamedTuple):
    """A frame and what is made of it; all (ny, nx).

    `light` is that of all emitters, `level` their backgrounds, `mask` tells the pixels of a fit
    by its number, `rest`, `mu`, `weight` are written over.
    """

    data: Floats
    known: Floats
    light: Floats
    level: Floats
    mask: Ints
    rest: Floats
    mu: Floats
    weight: Floats
    number: Ints


class Rules(NamedTuple):
    """Width of a spot in pixels, half of its box, and the gains 2 dlog L that add an emitter.

    `near`, more by `doubt` times the light that is there, holds within `AROUND` widths of another
    emitter, `alone` elsewhere.
    """

    width: float
    half: int
    near: float
    doubt: float
    alone: float
    excess_noise: float


class Box(NamedTuple):
    """First and last + 1 row and column."""

    top: int
    bottom: int
    left: int
    right: int


@inner
def _profile(centre: float, width: float, first: int, e: Floats, d: Floats) -> None:
    """Write the share of the light in each row or column from `first` on, and its slope."""
    scale = 1.0 / width
    u = (first - 0.5 - centre) * scale
    edge, gauss = math.erf(u * ROOT_HALF), math.exp(-0.5 * u * u) * scale / ROOT_TWO_PI
    for i in range(len(e)):
        u = (first + i + 0.5 - centre) * scale
        next_edge = math.erf(u * ROOT_HALF)
        next_gauss = math.exp(-0.5 * u * u) * scale / ROOT_TWO_PI
        e[i], d[i] = 0.5 * (next_edge - edge), gauss - next_gauss
        edge, gauss = next_edge, next_gauss


@inner
def _span(centre: float, reach: float, low: int, high: int) -> tuple[int, int]:
    """Return the pixels up to `reach` from a place, within low ... high - 1."""
    first = min(max(math.floor(centre - reach + 0.5), low), high)
    return first, max(min(math.floor(centre + reach + 0.5) + 1, high), first)


@inner
def _shine(emitters: Floats, k: int, sign: float, light: Floats, width: float) -> None:
    """Add an emitter's light to that of the frame, or take it away."""
    ny, nx = light.shape
    top, bottom = _span(emitters[k, Y], LIT * width, 0, ny)
    left, right = _span(emitters[k, X], LIT * width, 0, nx)
    p = np.empty((4, max(bottom - top, right - left)))
    ex, ey = p[0, : right - left], p[1, : bottom - top]
    _profile(emitters[k, X], width, left, ex, p[2, : right - left])
    _profile(emitters[k, Y], width, top, ey, p[3, : bottom - top])
    for j in range(bottom - top):
        photons = sign * emitters[k, PHOTONS] * ey[j]
        for i in range(right - left):
            light[top + j, left + i] += photons * ex[i]


@inner
def _window(place: float, half: int, size: int) -> int:
    """Return the first row or column of an emitter's box, which lies inside the frame."""
    return min(max(math.floor(place + 0.5) - half, 0), size - 2 * half - 1)


@inner
def _region(emitters: Floats, members: Ints, half: int, frame: Frame) -> Box:
    """Mark the pixels of the members' boxes with a new number; return their bounds."""
    ny, nx = frame.mask.shape
    frame.number[0] += 1
    top, bottom, left, right = ny, 0, nx, 0
    for k in members:
        y, x = _window(emitters[k, Y], half, ny), _window(emitters[k, X], half, nx)
        for j in range(y, y + 2 * half + 1):
            for i in range(x, x + 2 * half + 1):
                frame.mask[j, i] = frame.number[0]
        top, bottom = min(top, y), max(bottom, y + 2 * half + 1)
        left, right = min(left, x), max(right, x + 2 * half + 1)
    return Box(top, bottom, left, right)


@inner
def _expected(frame: Frame, j: int, i: int) -> float:
    """Return the expectation in a pixel; sums and differences of light leave rounding errors."""
    return float(frame.known[j, i] + frame.level[j, i] + max(frame.light[j, i], 0.0))


@inner
def _likelihood(frame: Frame, box: Box, mu: Floats) -> float:
    """Return log L of the pixels that are marked, less what only depends on the data."""
    total = 0.0
    for j in range(box.top, box.bottom):
        for i in range(box.left, box.right):
            if frame.mask[j, i] == frame.number[0]:
                total -= mu[j, i]
                if frame.data[j, i] > 0.0:
                    total += frame.data[j, i] * math.log(mu[j, i])
    return total


@inner
def _factor(
    a: Floats, at: Ints, first: Ints, damping: float, root: Floats, inverse: Floats
) -> bool:
    """Write Cholesky's factor of the damped matrix and the inverse of its diagonal."""
    for r in range(len(first)):
        row, start = at[r], first[r]
        for c in range(start, r):
            low, other = max(start, first[c]), at[c]
            total = a[row + c]
            for k in range(low, c):
                total -= root[row + k] * root[other + k]
            root[row + c] = total * inverse[c]
        diagonal = a[row + r]
        total = diagonal * (1.0 + damping)
        for k in range(start, r):
            total -= root[row + k] * root[row + k]
        if not (total > 1e-12 * diagonal and total < np.inf):
            return False
        root[row + r] = math.sqrt(total)
        inverse[r] = 1.0 / root[row + r]
    return True


@inner
def _solve(root: Floats, at: Ints, first: Ints, inverse: Floats, x: Floats) -> None:
    n = len(first)
    for r in range(n):
        total = x[r]
        for k in range(first[r], r):
            total -= root[at[r] + k] * x[k]
        x[r] = total * inverse[r]
    for back in range(n):
        r = n - 1 - back
        x[r] *= inverse[r]
        for k in range(first[r], r):
            x[k] -= root[at[r] + k] * x[r]


@inner
def _variance(root: Floats, at: Ints, first: Ints, inverse: Floats, k: int, x: Floats) -> float:
    """Return element (k, k) of the matrix's inverse."""
    x[k] = inverse[k]
    sum_of_squares = x[k] * x[k]
    for r in range(k + 1, len(first)):
        total = 0.0
        for c in range(max(k, first[r]), r):
            total -= root[at[r] + c] * x[c]
        x[r] = total * inverse[r]
        sum_of_squares += x[r] * x[r]
    return float(sum_of_squares)


@inner
def _skyline(emitters: Floats, members: Ints, width: float, first: Ints, at: Ints) -> int:
    """Write where rows of the matrix start, for members sorted along y; return its length.

    Three rows an emitter (x, y, photons), then one of the background. Element (r, c) is kept at
    at[r] + c.
    """
    length = row = start = 0
    for k in range(len(members)):
        while emitters[members[k], Y] - emitters[members[start], Y] > (COUPLED + 1.0) * width:
            start += 1
        for _ in range(3):
            first[row], at[row] = 3 * start, length - 3 * start
            length += row - 3 * start + 1
            row += 1
    first[row], at[row] = 0, length
    return length + row + 1


@inner
def _draw(emitters: Floats, members: Ints, background: float, width: float, box: Box, frame: Frame,
          profiles: Floats, spans: Ints) -> None:  # fmt: skip
    """Write the members' profiles, and the expectation in the box."""
    for j in range(box.top, box.bottom):
        for i in range(box.left, box.right):
            frame.mu[j, i] = frame.rest[j, i] + background
    for k in range(len(members)):
        emitter = emitters[members[k]]
        top, bottom = _span(emitter[Y], LIT * width, box.top, box.bottom)
        left, right = _span(emitter[X], LIT * width, box.left, box.right)
        spans[k, 0], spans[k, 1], spans[k, 2], spans[k, 3] = top, bottom, left, right
        tall, wide = bottom - top, right - left
        _profile(emitter[X], width, left, profiles[k, 0, :wide], profiles[k, 1, :wide])
        _profile(emitter[Y], width, top, profiles[k, 2, :tall], profiles[k, 3, :tall])
        ex = profiles[k, 0]
        for j in range(tall):
            photons, row = emitter[PHOTONS] * profiles[k, 2, j], frame.mu[top + j]
            for i in range(wide):
                row[left + i] += photons * ex[i]


@inner
def _sums(emitters: Floats, members: Ints, width: float, box: Box, frame: Frame, profiles: Floats,
          spans: Ints, at: Ints, a: Floats, slope: Floats) -> None:  # fmt: skip
    """Write sum dmu dmu^T / mu and sum (data / mu - 1) dmu over the pixels that are marked."""
    n, weight, number = 3 * len(members), frame.weight, frame.number[0]
    a[:], slope[:] = 0.0, 0.0
    last = at[n]
    for j in range(box.top, box.bottom):
        for i in range(box.left, box.right):
            w = 1.0 / frame.mu[j, i] if frame.mask[j, i] == number else 0.0
            weight[j, i] = w
            a[last + n] += w
            slope[n] += (frame.data[j, i] - frame.mu[j, i]) * w
    for k in range(len(members)):
        light, row = emitters[members[k], PHOTONS], 3 * k
        top, bottom, left, right = spans[k]
        ex, dx, ey, dy = profiles[k]
        for j in range(top, bottom):
            re = rd = we = wd = 0.0
            for i in range(left, right):
                w = weight[j, i]
                r = (frame.data[j, i] - frame.mu[j, i]) * w
                re += r * ex[i - left]
                rd += r * dx[i - left]
                we += w * ex[i - left]
                wd += w * dx[i - left]
            e, d = ey[j - top], dy[j - top]
            slope[row] += light * rd * e
            slope[row + 1] += light * re * d
            slope[row + 2] += re * e
            a[last + row] += light * wd * e
            a[last + row + 1] += light * we * d
            a[last + row + 2] += we * e
        for m in range(k, -1, -1):
            far_y = emitters[members[k], Y] - emitters[members[m], Y]
            if far_y > (COUPLED + 1.0) * width:
                break
            far = (emitters[members[k], X] - emitters[members[m], X]) ** 2 + far_y**2
            if far > (COUPLED * width) ** 2:
                continue
            other, column = emitters[members[m], PHOTONS], 3 * m
            fx, gx, fy, gy = profiles[m]
            top2, bottom2, left2, right2 = spans[m]
            low, high = max(left, left2), min(right, right2)
            for j in range(max(top, top2), min(bottom, bottom2)):
                ee = ed = de = dd = 0.0
                for i in range(low, high):
                    w = weight[j, i]
                    ef, eg = w * ex[i - left], w * dx[i - left]
                    f, g = fx[i - left2], gx[i - left2]
                    ee += ef * f
                    ed += ef * g
                    de += eg * f
                    dd += eg * g
                e, d, f, g = ey[j - top], dy[j - top], fy[j - top2], gy[j - top2]
                p, q, r = at[row] + column, at[row + 1] + column, at[row + 2] + column
                a[p] += light * other * dd * e * f
                a[q] += light * other * ed * d * f
                a[q + 1] += light * other * ee * d * g
                a[r] += other * ed * e * f
                a[r + 1] += other * ee * e * g
                a[r + 2] += ee * e * f
                if m < k:
                    a[p + 1] += light * other * de * e * g
                    a[p + 2] += light * de * e * f
                    a[q + 2] += light * ee * d * f


@inner
def _climb(emitters: Floats, members: Ints, free: bool, most: int, box: Box, frame: Frame,
           rules: Rules, errors: bool) -> tuple[float, bool]:  # fmt: skip
    """Move members together to the greatest likelihood of the marked pixels; return it.

    Their light isn't in `frame.rest`. If `free`, they have a common background, else none. If
    `errors`, the standard deviations are written.
    """
    count, width = len(members), rules.width
    n = 3 * count
    order = members[np.argsort(emitters[members, Y])]
    reach = 2 * int(LIT * width) + 4
    profiles, spans = np.empty((count, 4, reach)), np.empty((count, 4), np.int32)
    first, at = np.empty(n + 1, np.int32), np.empty(n + 1, np.int32)
    slope, step, kept = np.empty(n + 1), np.empty(n + 1), np.empty((count, 3))
    inverse = np.empty(n + 1)
    background = 0.0
    if free:
        for k in order:
            background += emitters[k, BACKGROUND] / count
        background = max(background, LEAST_BACKGROUND)
    length = _skyline(emitters, order, width, first, at)
    a, root = np.empty(length), np.empty(length)
    _draw(emitters, order, background, width, box, frame, profiles, spans)
    likelihood = _likelihood(frame, box, frame.mu)
    damping, good, settled = 0.0, False, False
    for again in range(most + 1):
        if again > 0:
            order = order[np.argsort(emitters[order, Y])]
            more = _skyline(emitters, order, width, first, at)
            if more > length:
                a, root, length = np.empty(more), np.empty(more), more
            _draw(emitters, order, background, width, box, frame, profiles, spans)
        _sums(emitters, order, width, box, frame, profiles, spans, at, a, slope)
        held = not free or (background <= LEAST_BACKGROUND and slope[n] < 0.0)
        if held:
            slope[n] = 0.0
            for k in range(n):
                a[at[n] + k] = 0.0
            a[at[n] + n] = 1.0
        if settled or again == most:
            good = settled
            break
        for k in range(count):
            for m in range(3):
                kept[k, m] = emitters[order[k], m]
        was = background
        while True:
            while not _factor(a, at, first, damping, root, inverse):
                damping = max(10.0 * damping, 1e-3)
                if damping > 1e6:
                    return likelihood, False
            step[:] = slope
            _solve(root, at, first, inverse, step)
            gain, short = 0.0, True
            for k in range(count):
                emitter = emitters[order[k]]
                for m in range(2):
                    part = min(max(step[3 * k + m], -FARTHEST_STEP_PX), FARTHEST_STEP_PX)
                    short = short and part == step[3 * k + m]
                    size = frame.data.shape[1 - m]
                    emitter[m] = min(max(kept[k, m] + part, -1.0), float(size))
                light = kept[k, 2]
                low, high = light / LARGEST_FACTOR, light * LARGEST_FACTOR
                emitter[2] = max(min(max(light + step[3 * k + 2], low), high), LEAST_PHOTONS)
                short = short and emitter[2] == light + step[3 * k + 2]
                for m in range(3):
                    gain += slope[3 * k + m] * (emitter[m] - kept[k, m])
            background = max(was + step[n], LEAST_BACKGROUND) if free else 0.0
            gain += slope[n] * (background - was)
            _draw(emitters, order, background, width, box, frame, profiles, spans)
            now = _likelihood(frame, box, frame.mu)
            if now >= likelihood - 1e-9 * abs(likelihood):
                likelihood = now
                settled = gain * (1.0 + damping) ** 2 < LAST_STEP * count
                damping = 0.2 * damping if damping > 1e-3 else 0.0
                break
            damping = max(5.0 * damping, 0.1)
            if damping > 1e6:
                for k in range(count):
                    for m in range(3):
                        emitters[order[k], m] = kept[k, m]
                background, settled = was, True
                break
    if free:
        for k in order:
            emitters[k, BACKGROUND] = background
    if errors:
        _errors(emitters, order, good, held, box, frame, at, first, a, root, inverse, step)
    return likelihood, good


@inner
def _errors(emitters: Floats, order: Ints, good: bool, held: bool, box: Box, frame: Frame, at: Ints,
            first: Ints, a: Floats, root: Floats, inverse: Floats, x: Floats) -> None:  # fmt: skip
    """Write what the inverse of the information says, and how well the model fits."""
    n, likelihood, chi_square, pixels = 3 * len(order), 0.0, 0.0, 0
    good = _factor(a, at, first, 0.0, root, inverse) and good
    for j in range(box.top, box.bottom):
        for i in range(box.left, box.right):
            if frame.mask[j, i] == frame.number[0]:
                counted, mu = frame.data[j, i], frame.mu[j, i]
                pixels += 1
                chi_square += (counted - mu) ** 2 / mu
                likelihood += counted - mu
                if counted > 0.0:
                    likelihood -= counted * math.log(counted / mu)
    for k in range(len(order)):
        out = emitters[order[k]]
        for m in range(3):
            out[SD_X + m] = np.nan
            if good:
                out[SD_X + m] = math.sqrt(_variance(root, at, first, inverse, 3 * k + m, x))
        out[SD_BACKGROUND] = inverse[n] if good and not held else np.nan
        out[LOG_LIKELIHOOD], out[CHI_SQUARE] = likelihood, chi_square
        out[PIXELS], out[GROUP_SIZE], out[CONVERGED] = pixels, len(order), good


@inner
def _groups(emitters: Floats, count: int, link: float) -> tuple[Ints, Ints]:
    """Return emitters ordered by groups, and where each group starts."""
    order = np.argsort(emitters[:count, Y])
    group = np.full(count, -1, np.int32)
    members, starts = np.empty(count, np.int32), np.empty(count + 1, np.int32)
    place = np.empty(count, np.int32)
    for k in range(count):
        place[order[k]] = k
    groups = filled = 0
    for seed in order:
        if group[seed] >= 0:
            continue
        starts[groups] = filled
        group[seed] = groups
        members[filled] = seed
        looked, filled = filled, filled + 1
        while looked < filled:
            here = members[looked]
            looked += 1
            for way in (-1, 1):
                k = place[here] + way
                while 0 <= k < count:
                    other = order[k]
                    far = emitters[other, Y] - emitters[here, Y]
                    if abs(far) > link:
                        break
                    if (
                        group[other] < 0
                        and far**2 + (emitters[other, X] - emitters[here, X]) ** 2 < link**2
                    ):
                        group[other] = groups
                        members[filled] = other
                        filled += 1
                    k += way
        groups += 1
    starts[groups] = filled
    return members, starts[: groups + 1]


@inner
def _fit_groups(emitters: Floats, count: int, frame: Frame, rules: Rules, errors: bool) -> float:
    """Fit each group with the others' light known; return how far an emitter moved."""
    members, starts = _groups(emitters, count, LINK * rules.width)
    moved = 0.0
    for g in range(len(starts) - 1):
        group = members[starts[g] : starts[g + 1]]
        for k in group:
            _shine(emitters, k, -1.0, frame.light, rules.width)
        box = _region(emitters, group, rules.half, frame)
        for j in range(box.top, box.bottom):
            for i in range(box.left, box.right):
                frame.rest[j, i] = frame.known[j, i] + max(frame.light[j, i], 0.0)
        before = emitters[group, :2]
        _climb(emitters, group, True, MOST_STEPS, box, frame, rules, errors)
        moved = max(moved, np.abs(emitters[group, :2] - before).max())
        for k in group:
            _shine(emitters, k, 1.0, frame.light, rules.width)
    return moved


@inner
def _level(emitters: Floats, count: int, frame: Frame, rules: Rules) -> None:
    """Write the background of each pixel: the mean of those of the boxes it lies in."""
    ny, nx = frame.level.shape
    frame.level[:], frame.weight[:] = 0.0, 0.0
    mean = emitters[:count, BACKGROUND].mean()
    side = 2 * rules.half + 1
    for k in range(count):
        top = _window(emitters[k, Y], rules.half, ny)
        left = _window(emitters[k, X], rules.half, nx)
        for j in range(top, top + side):
            for i in range(left, left + side):
                frame.level[j, i] += emitters[k, BACKGROUND]
                frame.weight[j, i] += 1.0
    for j in range(ny):
        for i in range(nx):
            n = frame.weight[j, i]
            frame.level[j, i] = frame.level[j, i] / n if n > 0.0 else mean


@inner
def _near(emitters: Floats, count: int, x: float, y: float, far: float) -> Ints:
    """Return the emitters that aren't so far from a place."""
    near, n = np.empty(count, np.int32), 0
    for k in range(count):
        if (emitters[k, X] - x) ** 2 + (emitters[k, Y] - y) ** 2 < far * far:
            near[n] = k
            n += 1
    return near[:n]


@inner
def _trial(
    emitters: Floats, before: Floats, old: Ints, new: Ints, frame: Frame, rules: Rules
) -> float:
    """Fit emitters `new`, once `old` of `before`; return by how much 2 log L rises.

    All others and the background stay; `new` has the places where the fit starts. The light isn't
    changed.
    """
    box = _region(emitters, new, rules.half, frame)
    for j in range(box.top, box.bottom):
        for i in range(box.left, box.right):
            frame.mu[j, i] = _expected(frame, j, i)
    was = _likelihood(frame, box, frame.mu)
    for k in old:
        _shine(before, k, -1.0, frame.light, rules.width)
    for j in range(box.top, box.bottom):
        for i in range(box.left, box.right):
            frame.rest[j, i] = _expected(frame, j, i)
    for k in old:
        _shine(before, k, 1.0, frame.light, rules.width)
    now, _ = _climb(emitters, new, False, FEW_STEPS, box, frame, rules, False)
    return float(2.0 * (now - was))


@inner
def _replace(
    emitters: Floats, trial: Floats, old: Ints, new: Ints, frame: Frame, width: float
) -> None:
    """Take over the emitters of a trial that was good."""
    for k in old:
        _shine(emitters, k, -1.0, frame.light, width)
    for k in new:
        emitters[k] = trial[k]
        _shine(emitters, k, 1.0, frame.light, width)


@inner
def _stretch(emitters: Floats, k: int, frame: Frame, rules: Rules) -> tuple[float, float, float]:
    """Return how significantly a spot is too long, and half the way between two that would do.

    A pair at +-h looks like one spot plus N / 2 (h . grad)^2 of it. The three second derivatives
    are fitted to the residual together with the spot's light and place and the background; the
    greatest eigenvalue of h h^T is the squared half distance along its eigenvector.
    """
    ny, nx = frame.data.shape
    half, width = rules.half, rules.width
    side = 2 * half + 1
    x, y, photons = emitters[k, X], emitters[k, Y], emitters[k, PHOTONS]
    top, left = _window(y, half, ny), _window(x, half, nx)
    p = np.empty((6, side))
    for axis in range(2):
        centre, first = (x, left) if axis == 0 else (y, top)
        _profile(centre, width, first, p[3 * axis], p[3 * axis + 1])
        for i in range(side):
            u = (first + i - 0.5 - centre) / width
            v = u + 1.0 / width
            bend = u * math.exp(-0.5 * u * u) - v * math.exp(-0.5 * v * v)
            p[3 * axis + 2, i] = bend / (ROOT_TWO_PI * width**2)
    info, slope, basis = np.zeros((7, 7)), np.zeros(7), np.empty(7)
    for j in range(side):
        for i in range(side):
            mu = _expected(frame, top + j, left + i)
            r = frame.data[top + j, left + i] / mu - 1.0
            basis[0], basis[1] = 1.0, p[0, i] * p[3, j]
            basis[2], basis[3] = p[1, i] * p[3, j], p[0, i] * p[4, j]
            basis[4], basis[5] = 0.5 * photons * p[2, i] * p[3, j], photons * p[1, i] * p[4, j]
            basis[6] = 0.5 * photons * p[0, i] * p[5, j]
            for m in range(7):
                slope[m] += r * basis[m]
                for q in range(m + 1):
                    info[m, q] += basis[m] * basis[q] / mu
    # elimination of the first four leaves what only the second derivatives explain
    for m in range(4):
        if info[m, m] <= 0.0:
            return 0.0, 0.0, 0.0
        for q in range(m + 1, 7):
            ratio = info[q, m] / info[m, m]
            slope[q] -= ratio * slope[m]
            for r_ in range(m + 1, q + 1):
                info[q, r_] -= ratio * info[r_, m]
    best, angle = 0.0, 0.0
    square = 0.0
    for turn in range(8):
        c, s = math.cos(math.pi * turn / 8), math.sin(math.pi * turn / 8)
        a, b, d = c * c, c * s, s * s
        score = a * slope[4] + b * slope[5] + d * slope[6]
        variance = (
            a * a * info[4, 4] + b * b * info[5, 5] + d * d * info[6, 6]
            + 2.0 * (a * b * info[5, 4] + a * d * info[6, 4] + b * d * info[6, 5])
        )  # fmt: skip
        if variance > 0.0 and score / math.sqrt(variance) > best:
            best, angle = score / math.sqrt(variance), math.pi * turn / 8
            square = score / variance
    h = min(max(math.sqrt(square), CLOSEST * width), 2.0 * width)
    return best, h * math.cos(angle), h * math.sin(angle)


@inner
def _split(emitters: Floats, count: int, looked: Ints, frame: Frame, rules: Rules) -> int:
    """Try two in place of each emitter whose spot is too long; return how many there are then."""
    trial = emitters.copy()
    for k in range(count):
        if looked[k] or count == len(emitters):
            continue
        looked[k] = 1
        best, dx, dy = _stretch(emitters, k, frame, rules)
        if best < TRIED * math.sqrt(rules.excess_noise):
            continue
        old = _near(emitters, count, emitters[k, X], emitters[k, Y], AROUND * rules.width)
        new = np.append(old, np.int32(count)).astype(np.int32)
        for m in old:
            trial[m] = emitters[m]
        trial[count] = emitters[k]
        trial[k, PHOTONS] *= 0.5
        trial[count, PHOTONS] *= 0.5
        trial[k, X] += dx
        trial[k, Y] += dy
        trial[count, X] -= dx
        trial[count, Y] -= dy
        needed = rules.near + rules.doubt * emitters[k, PHOTONS]
        if _trial(trial, emitters, old, new, frame, rules) > needed:
            _replace(emitters, trial, old, new, frame, rules.width)
            looked[new] = 0
            count += 1
    return count


@inner
def _search(emitters: Floats, count: int, looked: Ints, frame: Frame, rules: Rules) -> int:
    """Try an emitter at each top of the residual; return how many there are then."""
    ny, nx = frame.data.shape
    reach = rules.half
    taps, slopes = np.empty(2 * reach + 1), np.empty(2 * reach + 1)
    _profile(0.0, rules.width, -reach, taps, slopes)
    score, variance = np.zeros((ny, nx)), np.zeros((ny, nx))
    along, along2 = np.zeros((ny, nx)), np.zeros((ny, nx))
    for j in range(ny):
        for i in range(nx):
            mu = _expected(frame, j, i)
            r, w = frame.data[j, i] / mu - 1.0, 1.0 / mu
            for k in range(max(-reach, -i), min(reach + 1, nx - i)):
                t = taps[reach + k]
                along[j, i + k] += t * r
                along2[j, i + k] += t * t * w
    for j in range(ny):
        for k in range(max(-reach, -j), min(reach + 1, ny - j)):
            t = taps[reach + k]
            for i in range(nx):
                score[j + k, i] += t * along[j, i]
                variance[j + k, i] += t * t * along2[j, i]
    along[:] = score / np.sqrt(variance)
    trial = emitters.copy()
    for j in range(ny):
        for i in range(nx):
            here = along[j, i]
            if here < TRIED * math.sqrt(rules.excess_noise) or count == len(emitters):
                continue
            top = True
            for v in range(max(j - 1, 0), min(j + 2, ny)):
                for u in range(max(i - 1, 0), min(i + 2, nx)):
                    top = top and along[v, u] <= here
            if not top:
                continue
            old = _near(emitters, count, float(i), float(j), AROUND * rules.width)
            if len(old) == 0 and here * here < 0.5 * rules.alone:
                continue
            new = np.append(old, np.int32(count)).astype(np.int32)
            for m in old:
                trial[m] = emitters[m]
            trial[count, X], trial[count, Y] = i, j
            trial[count, PHOTONS] = score[j, i] / variance[j, i]
            trial[count, BACKGROUND] = frame.level[j, i]
            needed = rules.near if len(old) else rules.alone
            for m in old:
                needed = max(needed, rules.near + rules.doubt * emitters[m, PHOTONS])
            if _trial(trial, emitters, old, new, frame, rules) > needed:
                _replace(emitters, trial, old, new, frame, rules.width)
                looked[new] = 0
                count += 1
    return count


@inner
def _drop(emitters: Floats, count: int, looked: Ints, frame: Frame, rules: Rules) -> int:
    """Take away each emitter that the others don't need; return how many are left."""
    trial, k = emitters.copy(), 0
    while k < count:
        x, y = emitters[k, X], emitters[k, Y]
        old = _near(emitters, count, x, y, AROUND * rules.width)
        new = old[old != k]
        needed, nearest, far = rules.alone, -1, np.inf
        for m in new:
            trial[m] = emitters[m]
            away = (emitters[m, X] - x) ** 2 + (emitters[m, Y] - y) ** 2
            if away < far:
                nearest, far = m, away
        if nearest >= 0:  # which takes the light over, where the two have their middle
            own, other = emitters[k, PHOTONS], emitters[nearest, PHOTONS]
            needed = rules.near + rules.doubt * (own + other)
            trial[nearest, X] += (x - emitters[nearest, X]) * own / (own + other)
            trial[nearest, Y] += (y - emitters[nearest, Y]) * own / (own + other)
            trial[nearest, PHOTONS] += own
        if len(new) == 0:
            lost = -_loss_alone(emitters, k, frame, rules)
        else:
            lost = _trial(trial, emitters, old, new, frame, rules)
        if -lost < needed:
            _replace(emitters, trial, old, new, frame, rules.width)
            looked[new] = 0
            count -= 1
            emitters[k], looked[k] = emitters[count], looked[count]
        else:
            k += 1
    return count


@inner
def _loss_alone(emitters: Floats, k: int, frame: Frame, rules: Rules) -> float:
    """Return by how much 2 log L falls without an emitter that has no other near.

    To first order, the background takes up what it can: the score's square over its variance.
    """
    ny, nx = frame.data.shape
    half = rules.half
    side = 2 * half + 1
    top, left = _window(emitters[k, Y], half, ny), _window(emitters[k, X], half, nx)
    p = np.empty((4, side))
    _profile(emitters[k, X], rules.width, left, p[0], p[1])
    _profile(emitters[k, Y], rules.width, top, p[2], p[3])
    total = w1 = we = 0.0
    for j in range(side):
        for i in range(side):
            mu = _expected(frame, top + j, left + i)
            e = p[0, i] * p[2, j]
            rest = max(mu - emitters[k, PHOTONS] * e, 1e-3)
            w1 += 1.0 / rest
            we += e / rest
            total += rest
    lift = emitters[k, PHOTONS] * we / w1
    loss = 0.0
    for j in range(side):
        for i in range(side):
            mu = _expected(frame, top + j, left + i)
            rest = max(mu - emitters[k, PHOTONS] * p[0, i] * p[2, j], 1e-3) + lift
            counted = frame.data[top + j, left + i]
            loss += rest - mu
            if counted > 0.0:
                loss += counted * math.log(mu / rest)
    return 2.0 * loss


@compiled
def fit_frame(
    data: Floats, known: Floats, starts: Floats, rules: Rules, rounds: int, out: Floats
) -> int:
    """Fit all emitters of a frame; return how many there are.

    Parameters
    ----------
    data, known : (ny, nx)
        Counts, and the expectation besides emitters and their flat backgrounds.
    starts : (n, 4)
        x, y, photons and background of the emitters that are seen at once.
    rounds
        How often, at most, more are looked for.
    out : (m, NUMBERS)
        Gets the emitters; m is how many there may be.
    """
    shape, count = data.shape, len(starts)
    frame = Frame(
        data, known, np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int32),
        np.empty(shape), np.empty(shape), np.empty(shape), np.zeros(1, np.int32),
    )  # fmt: skip
    if count == 0:
        return 0
    emitters, looked = np.zeros((len(out), NUMBERS)), np.zeros(len(out), np.int32)
    for k in range(count):
        emitters[k, :4] = starts[k]
        emitters[k, PHOTONS] = max(starts[k, PHOTONS], LEAST_PHOTONS)
        emitters[k, BACKGROUND] = max(starts[k, BACKGROUND], LEAST_BACKGROUND)
        _shine(emitters, k, 1.0, frame.light, rules.width)
    _fit_groups(emitters, count, frame, rules, False)
    for _ in range(rounds):
        _level(emitters, count, frame, rules)
        before = count
        count = _split(emitters, count, looked, frame, rules)
        count = _search(emitters, count, looked, frame, rules)
        if count == before:
            break
        _fit_groups(emitters, count, frame, rules, False)
    _level(emitters, count, frame, rules)
    if rounds > 0:
        count = _drop(emitters, count, looked, frame, rules)
    for _ in range(SWEEPS):
        if count == 0 or _fit_groups(emitters, count, frame, rules, True) < SETTLED_PX:
            break
    out[:count] = emitters[:count]
    return count

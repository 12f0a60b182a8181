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
Ints = npt.NDArray[np.int32]

(X, Y, PHOTONS, BACKGROUND, SD_X, SD_Y, SD_PHOTONS, SD_BACKGROUND, LOG_LIKELIHOOD, CHI_SQUARE,
 PIXELS, GROUP_SIZE, CONVERGED, NUMBERS) = range(14)  # fmt: skip
"""Columns of a result."""

(DATA, KNOWN, LIGHT, LEVEL, NOTHING, MASK, REST, MU, WEIGHT, PLANES) = range(10)
"""Of a frame: counts, the expectation besides emitters and backgrounds, the light of all emitters,
their backgrounds, zeros; and what a fit writes over: its pixels (1, else 0), the expectation
besides its own emitters and background, the whole expectation, one over it."""

FIT, FIT_WITH_ERRORS, SPLIT, ADD, DROP = range(5)
"""What is done: emitters move | and get standard deviations | two in place of one | one more |
one less."""

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
once = numba.njit(inline="always", **_maths)  # has one caller: compiled with it, not twice


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
def _region(emitters: Floats, members: Ints, half: int, mask: Floats) -> Box:
    """Mark the pixels of the members' boxes, of those in the bounds that are returned."""
    ny, nx = mask.shape
    side = 2 * half + 1
    top, bottom, left, right = ny, 0, nx, 0
    for k in members:
        y, x = _window(emitters[k, Y], half, ny), _window(emitters[k, X], half, nx)
        top, bottom = min(top, y), max(bottom, y + side)
        left, right = min(left, x), max(right, x + side)
    for j in range(top, bottom):
        for i in range(left, right):
            mask[j, i] = 0.0
    for k in members:
        y, x = _window(emitters[k, Y], half, ny), _window(emitters[k, X], half, nx)
        for j in range(y, y + side):
            for i in range(x, x + side):
                mask[j, i] = 1.0
    return Box(top, bottom, left, right)


@inner
def _expect(planes: Floats, box: Box, level: Floats, mu: Floats) -> None:
    """Write the expectation; sums and differences of light leave rounding errors."""
    known, light = planes[KNOWN], planes[LIGHT]
    for j in range(box.top, box.bottom):
        for i in range(box.left, box.right):
            mu[j, i] = known[j, i] + level[j, i] + max(light[j, i], 0.0)


@inner
def _likelihood(planes: Floats, box: Box) -> float:
    """Return log L of the pixels that are marked, less what only depends on the data."""
    data, mu, mask, total = planes[DATA], planes[MU], planes[MASK], 0.0
    for j in range(box.top, box.bottom):
        for i in range(box.left, box.right):
            if mask[j, i] > 0.0:
                total -= mu[j, i]
                if data[j, i] > 0.0:
                    total += data[j, i] * math.log(mu[j, i])
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
    """Sort members along y; write where rows of the matrix start; return its length.

    Three rows an emitter (x, y, photons), then one of the background. Element (r, c) is kept at
    at[r] + c.
    """
    for k in range(1, len(members)):
        member, m = members[k], k
        while m > 0 and emitters[members[m - 1], Y] > emitters[member, Y]:
            members[m] = members[m - 1]
            m -= 1
        members[m] = member
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
def _draw(emitters: Floats, members: Ints, background: float, width: float, box: Box,
          planes: Floats, profiles: Floats, spans: Ints) -> None:  # fmt: skip
    """Write the members' profiles, and the expectation in the box."""
    rest, mu = planes[REST], planes[MU]
    for j in range(box.top, box.bottom):
        for i in range(box.left, box.right):
            mu[j, i] = rest[j, i] + background
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
            photons, row = emitter[PHOTONS] * profiles[k, 2, j], mu[top + j]
            for i in range(wide):
                row[left + i] += photons * ex[i]


@inner
def _sums(emitters: Floats, members: Ints, width: float, box: Box, planes: Floats, profiles: Floats,
          spans: Ints, at: Ints, a: Floats, slope: Floats) -> None:  # fmt: skip
    """Write sum dmu dmu^T / mu and sum (data / mu - 1) dmu over the pixels that are marked."""
    n = 3 * len(members)
    data, mu, mask, weight = planes[DATA], planes[MU], planes[MASK], planes[WEIGHT]
    for k in range(at[n] + n + 1):
        a[k] = 0.0
    for k in range(n + 1):
        slope[k] = 0.0
    last = at[n]
    for j in range(box.top, box.bottom):
        for i in range(box.left, box.right):
            w = mask[j, i] / mu[j, i]
            weight[j, i] = w
            a[last + n] += w
            slope[n] += (data[j, i] - mu[j, i]) * w
    for k in range(len(members)):
        light, row = emitters[members[k], PHOTONS], 3 * k
        top, bottom, left, right = spans[k, 0], spans[k, 1], spans[k, 2], spans[k, 3]
        ex, dx, ey, dy = profiles[k, 0], profiles[k, 1], profiles[k, 2], profiles[k, 3]
        for j in range(top, bottom):
            re = rd = we = wd = 0.0
            for i in range(left, right):
                w = weight[j, i]
                r = (data[j, i] - mu[j, i]) * w
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
            fx, gx, fy, gy = profiles[m, 0], profiles[m, 1], profiles[m, 2], profiles[m, 3]
            top2, bottom2, left2, right2 = spans[m, 0], spans[m, 1], spans[m, 2], spans[m, 3]
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


@once
def _climb(emitters: Floats, members: Ints, kind: int, box: Box, planes: Floats,
           rules: Rules) -> float:  # fmt: skip
    """Move members together to the greatest likelihood of the marked pixels; return it.

    Their light isn't in the plane REST. Groups have a common background, others none more.
    """
    count, width = len(members), rules.width
    free = kind < SPLIT
    most = MOST_STEPS if free else FEW_STEPS
    n = 3 * count
    order = members.copy()
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
    _draw(emitters, order, background, width, box, planes, profiles, spans)
    likelihood = float(_likelihood(planes, box))
    damping, left, enough = 0.0, np.inf, LAST_STEP * count
    for again in range(most + 1):
        if again > 0:
            more = _skyline(emitters, order, width, first, at)
            if more > length:
                a, root, length = np.empty(more), np.empty(more), more
            _draw(emitters, order, background, width, box, planes, profiles, spans)
        _sums(emitters, order, width, box, planes, profiles, spans, at, a, slope)
        held = not free or (background <= LEAST_BACKGROUND and slope[n] < 0.0)
        if held:
            slope[n] = 0.0
            for k in range(n):
                a[at[n] + k] = 0.0
            a[at[n] + n] = 1.0
        if left < enough or again == most:
            break
        for k in range(count):
            for m in range(3):
                kept[k, m] = emitters[order[k], m]
        was = background
        while True:
            while not _factor(a, at, first, damping, root, inverse):
                damping = max(10.0 * damping, 1e-3)
                if damping > 1e6:
                    return likelihood
            for k in range(n + 1):
                step[k] = slope[k]
            _solve(root, at, first, inverse, step)
            gain = 0.0
            for k in range(count):
                emitter = emitters[order[k]]
                for m in range(2):
                    part = min(max(step[3 * k + m], -FARTHEST_STEP_PX), FARTHEST_STEP_PX)
                    size = planes.shape[2 - m]
                    emitter[m] = min(max(kept[k, m] + part, -1.0), float(size))
                light = kept[k, 2]
                low, high = light / LARGEST_FACTOR, light * LARGEST_FACTOR
                emitter[2] = max(min(max(light + step[3 * k + 2], low), high), LEAST_PHOTONS)
                for m in range(3):
                    gain += slope[3 * k + m] * (emitter[m] - kept[k, m])
            background = max(was + step[n], LEAST_BACKGROUND) if free else 0.0
            gain += slope[n] * (background - was)
            _draw(emitters, order, background, width, box, planes, profiles, spans)
            now = _likelihood(planes, box)
            if now >= likelihood - 1e-9 * abs(likelihood):
                likelihood = now
                left = gain * (1.0 + damping) ** 2
                damping = 0.2 * damping if damping > 1e-3 else 0.0
                break
            damping = max(5.0 * damping, 0.1)
            if damping > 1e6:
                for k in range(count):
                    for m in range(3):
                        emitters[order[k], m] = kept[k, m]
                background, left = was, 0.0
                break
    if free:
        for k in order:
            emitters[k, BACKGROUND] = background
    if kind == FIT_WITH_ERRORS:
        _errors(
            emitters, order, left < enough, held, box, planes, at, first, a, root, inverse, step
        )
    return likelihood


@inner
def _errors(emitters: Floats, order: Ints, good: bool, held: bool, box: Box, planes: Floats,
            at: Ints, first: Ints, a: Floats, root: Floats, inverse: Floats,
            x: Floats) -> None:  # fmt: skip
    """Write what the inverse of the information says, and how well the model fits."""
    data, expected, mask = planes[DATA], planes[MU], planes[MASK]
    n, likelihood, chi_square, pixels = 3 * len(order), 0.0, 0.0, 0
    good = _factor(a, at, first, 0.0, root, inverse) and good
    for j in range(box.top, box.bottom):
        for i in range(box.left, box.right):
            if mask[j, i] > 0.0:
                counted, mu = data[j, i], expected[j, i]
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
def _near(emitters: Floats, count: int, x: float, y: float, far: float, near: Ints) -> int:
    """Write the emitters that aren't so far from a place; return how many they are."""
    n = 0
    for k in range(count):
        if (emitters[k, X] - x) ** 2 + (emitters[k, Y] - y) ** 2 < far * far:
            near[n] = k
            n += 1
    return n


@inner
def _propose(kind: int, proposal: Floats, emitters: Floats, count: int, label: Ints, old: Ints,
             new: Ints, trial: Floats, rules: Rules) -> tuple[int, int, float]:  # fmt: skip
    """Write emitters near and what is tried instead; return their numbers and the gain needed.

    An infinite gain: no reason for a trial. A lone emitter isn't dropped (see `losses`).
    """
    k, x, y = int(proposal[0]), proposal[1], proposal[2]
    if kind < SPLIT:
        n = 0
        for m in range(count):
            if label[m] == k:
                old[n] = new[n] = m
                for column in range(NUMBERS):
                    trial[m, column] = emitters[m, column]
                n += 1
        return n, n, -np.inf
    if k >= 0:
        x, y = emitters[k, X], emitters[k, Y]
    n_old = _near(emitters, count, x, y, AROUND * rules.width, old)
    n_new, needed, nearest, far = 0, rules.near, -1, np.inf
    for m in old[:n_old]:
        for column in range(NUMBERS):
            trial[m, column] = emitters[m, column]
        if kind == ADD:
            needed = max(needed, rules.near + rules.doubt * emitters[m, PHOTONS])
        if kind == DROP and m == k:
            continue
        new[n_new] = m
        n_new += 1
        away = (emitters[m, X] - x) ** 2 + (emitters[m, Y] - y) ** 2
        if away < far:
            nearest, far = m, away
    if kind == DROP:
        if nearest < 0:
            return n_old, n_new, np.inf
        # the nearest takes the light over, where the two have their middle
        own, other = emitters[k, PHOTONS], emitters[nearest, PHOTONS]
        trial[nearest, X] += (x - emitters[nearest, X]) * own / (own + other)
        trial[nearest, Y] += (y - emitters[nearest, Y]) * own / (own + other)
        trial[nearest, PHOTONS] += own
        return n_old, n_new, -(rules.near + rules.doubt * (own + other))
    new[n_new] = count
    if kind == SPLIT:
        needed += rules.doubt * emitters[k, PHOTONS]
        trial[k, PHOTONS] *= 0.5
        for column in range(NUMBERS):
            trial[count, column] = trial[k, column]
        for axis in range(2):
            trial[k, axis] += proposal[1 + axis]
            trial[count, axis] -= proposal[1 + axis]
        return n_old, n_new + 1, needed
    for m in range(4):
        trial[count, m] = proposal[1 + m]
    if n_old == 0:
        needed = rules.alone if proposal[5] ** 2 > 0.5 * rules.alone else np.inf
    return n_old, n_new + 1, needed


@compiled
def change(kind: int, proposals: Floats, emitters: Floats, count: int, label: Ints, looked: Ints,
           planes: Floats, rules: Rules) -> int:  # fmt: skip
    """Fit or try changes, one after another; keep those that are worth it; return the new count.

    All emitters but those that change stay as they are, and so does the background in a trial.

    Parameters
    ----------
    kind
        What is done.
    proposals : (n, 6)
        FIT: a group's label. Else an emitter's number, or -1; for SPLIT half the way between the
        two, along x and y; for ADD x, y, photons, background and how many standard deviations the
        residual is.
    emitters : (m, NUMBERS)
        The first `count` are there, more may be; the x of those that are dropped gets infinite.
    label : (m,)
        Of the emitters' groups.
    looked : (m,)
        Is 0 after the call where an emitter changed in a trial; until looked at, it isn't split.
    planes : (PLANES, ny, nx)
        LIGHT is that of the emitters, and follows them.
    """
    trial, light, width = emitters.copy(), planes[LIGHT], rules.width
    olds, news = np.empty(len(emitters), np.int32), np.empty(len(emitters), np.int32)
    for t in range(len(proposals)):
        k = int(proposals[t, 0])
        adds = SPLIT <= kind < DROP
        if (adds and count == len(emitters)) or (kind == SPLIT and looked[k] == 0):
            continue
        n_old, n_new, needed = _propose(
            kind, proposals[t], emitters, count, label, olds, news, trial, rules
        )
        if needed == np.inf:
            continue
        old, new = olds[:n_old], news[:n_new]
        box = _region(trial, new, rules.half, planes[MASK])
        _expect(planes, box, planes[LEVEL], planes[MU])
        was = _likelihood(planes, box)
        for m in old:
            _shine(emitters, m, -1.0, light, width)
        _expect(planes, box, planes[LEVEL if kind >= SPLIT else NOTHING], planes[REST])
        good = 2.0 * (_climb(trial, new, kind, box, planes, rules) - was) > needed
        for m in new if good else old:
            if good:
                looked[m] *= kind < SPLIT
                for column in range(NUMBERS):
                    emitters[m, column] = trial[m, column]
            _shine(emitters, m, 1.0, light, width)
        if good and kind == DROP:
            emitters[k, X] = np.inf
        elif good and adds:
            count += 1
    return count


@compiled
def add_light(emitters: Floats, members: Ints, light: Floats, width: float) -> None:
    """Add the light of some emitters to that of a frame, (ny, nx)."""
    for k in members:
        _shine(emitters, k, 1.0, light, width)

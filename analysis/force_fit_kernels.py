"""Compiled least squares of force curves: one lever, one law of contact, one curve after another.

With z the height of the lever's base, z0 that of the contact point and x the deflection, the tip
is at the indentation delta = z0 - z - x, and the lever balances it: x = f(delta) = F / k. So the
reading is a function of the base's height alone,

    reading(z) = x(z0 - z; E*, adhesion) + b + t zeta,

x solved for sample by sample, and noise of the reading is noise of the residual. (A force fitted
over an indentation has the same noise on both axes.) zeta runs from -1 to 1 along the curve. The
fit is Levenberg's and Marquardt's with exact derivatives: x = f(delta, p) at u = z0 - z has
dx/du = f' / (1 + f') and dx/dp = f_p / (1 + f').

Kernels that call each other live in this one file, because numba's cache doesn't notice an edited
callee in another.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Classes = npt.NDArray[np.int8]
Bools = npt.NDArray[np.bool_]

SPHERE, CONE, PUNCH, JKR = 0, 1, 2, 3
"""Laws of contact: f = g E* delta^m - p with m = 1.5, 2, 1; and JKR's."""

LEFT_OUT, APART, TOUCHING, EITHER = -1, 0, 1, 2
"""What a sample is taken for; EITHER leaves it to the contact point."""

HEIGHT, MODULUS, PULL, OFFSET, TILT, PARAMETERS = range(6)
"""Parameters: z0 (nm), E* (GPa), p (nm; JKR: the root of w in nN/nm), b and t (nm)."""

(NOISE_APART, NOISE_TOUCHING, CORRELATION, CHI2, SURPRISE, TOUCHED, CONVERGED, NUMBERS) = range(8)
"""What else a fit tells, see :func:`fit_curves`."""

MOST_STEPS = 100
MOST_NEWTON = 60
NEAR_FOLD = 1.02
"""JKR's last contact is a fold of infinite slope; below this multiple of its root variable the
branch goes on as its tangent."""
LAGS = 100
MOST_WEIGHTINGS = 4
FEW = 20.0
"""Degrees of freedom apart or in contact, fewer than which share one noise with the others."""


class Curve(NamedTuple):
    """One curve as the kernels take it; see :func:`fit_curves`."""

    law: int
    z: Floats
    y: Floats
    classes: Classes
    shape: float
    k: float
    middle: float
    half: float
    pull: float
    pull_error: float


compiled = numba.njit(cache=True, nogil=True, error_model="numpy")
inlined = numba.njit(nogil=True, error_model="numpy", forceinline=True)
called = numba.njit(nogil=True, error_model="numpy")


@inlined
def _power(law: int, depth: float) -> float:
    """Return delta^m."""
    if law == SPHERE:
        return depth * math.sqrt(depth)
    return depth * depth if law == CONE else depth


@called
def _jkr_coefficients(
    e_star: float, root_w: float, radius: float, k: float
) -> tuple[float, float, float, float]:
    """Return neck, stiff, pull of delta = s^4 / R - neck s, x = stiff s^6 - pull s^3; least s."""
    neck = root_w * math.sqrt(2.0 * math.pi / e_star)
    stiff = 4.0 * e_star / (3.0 * radius * k)
    pull = root_w * math.sqrt(8.0 * math.pi * e_star) / k
    # the branch ends where d(delta + x)/ds = 0, between fixed grips and a dead load
    low, high = (0.25 * neck * radius) ** (1.0 / 3.0), (0.5 * pull / stiff) ** (1.0 / 3.0)
    for _ in range(50):
        s = 0.5 * (low + high)
        if 4.0 * s**3 / radius - neck + 3.0 * s * s * (2.0 * stiff * s**3 - pull) < 0.0:
            low = s
        else:
            high = s
    return neck, stiff, pull, NEAR_FOLD * high


@inlined
def _jkr(
    u: float,
    s: float,
    e_star: float,
    root_w: float,
    radius: float,
    neck: float,
    stiff: float,
    pull: float,
    least: float,
) -> tuple[float, float, float, float, float]:
    """Return x, dx/du, dx/dE*, dx/d root_w and the root variable s, searched for from s down."""
    fall = u
    for _ in range(MOST_NEWTON):
        s2 = s * s
        s3 = s2 * s
        slope = 4.0 * s3 / radius - neck + 3.0 * s2 * (2.0 * stiff * s3 - pull)
        step = (s * (s3 / radius - neck) + s3 * (stiff * s3 - pull) - u) / slope
        s -= step
        if s < least:
            s = least
            break
        if abs(step) < 1e-12 * s:
            break
    s2 = s * s
    s3 = s2 * s
    bend = 4.0 * s3 / radius - neck
    rise = 3.0 * s2 * (2.0 * stiff * s3 - pull)
    slope = bend + rise
    x = s3 * (stiff * s3 - pull)
    if s == least:
        fall = u - s * (s3 / radius - neck) - x
        if fall < 0.0:
            x += rise / slope * fall
    by_e = (s3 * (stiff * s3 - 0.5 * pull) * bend - 0.5 * neck * s * rise) / (e_star * slope)
    by_w = (neck * s * rise - s3 * pull * bend) / (root_w * slope)
    return x, rise / slope, by_e, by_w, s


@inlined
def _power_law(
    law: int, u: float, s: float, e_star: float, shift: float, shape: float
) -> tuple[float, float, float, float, float]:
    """Return x, dx/du, dx/dE*, dx/dp and s = sqrt(delta), searched for from s."""
    q = u + shift
    if q <= 0.0:
        return -shift, 0.0, 0.0, -1.0, 0.0
    stiff = shape * e_star
    if law == SPHERE:
        if not s > 0.0:
            s = math.sqrt(q)
        for _ in range(MOST_NEWTON):
            step = (s * s * (1.0 + stiff * s) - q) / (s * (2.0 + 3.0 * stiff * s))
            s -= step
            if abs(step) < 1e-9 * s:  # the error is the square of that
                break
        depth, rise = s * s, 1.5 * stiff * s
    elif law == CONE:
        depth = 2.0 * q / (1.0 + math.sqrt(1.0 + 4.0 * stiff * q))
        rise = 2.0 * stiff * depth
    else:
        depth, rise = q / (1.0 + stiff), stiff
    share = 1.0 / (1.0 + rise)
    return u - depth, rise * share, shape * _power(law, depth) * share, -share, s


@called
def _sums(
    c: Curve,
    p: Floats,
    variance: Floats,
    matrix: Floats,
    vector: Floats,
    residuals: Floats,
    touching: Bools,
) -> float:
    """Return the weighted sum of squares, and fill J'J and J'r.

    Samples are taken from the deepest outwards, so that each solution starts from the last.
    """
    matrix[:] = 0.0
    vector[:] = 0.0
    total, s = 0.0, 0.0
    neck = stiff = pull = least = 0.0
    if c.law == JKR:
        neck, stiff, pull, least = _jkr_coefficients(p[MODULUS], p[PULL], c.shape, c.k)
        deepest = max(p[HEIGHT] - c.z.min(), 0.0) + pull * pull / (4.0 * stiff)
        s = max((2.0 * neck * c.shape) ** (1.0 / 3.0), (2.0 * c.shape * deepest) ** 0.25, least)
    j = np.zeros(PARAMETERS)
    for i in range(c.z.size - 1, -1, -1):
        residuals[i] = 0.0
        if c.classes[i] == LEFT_OUT:
            continue
        u = p[HEIGHT] - c.z[i]
        touches = c.classes[i] == TOUCHING or (c.classes[i] == EITHER and u > 0.0)
        x = 0.0
        j[HEIGHT] = j[MODULUS] = j[PULL] = 0.0
        if touches and c.law == JKR:
            x, j[HEIGHT], j[MODULUS], j[PULL], s = _jkr(
                u, s, p[MODULUS], p[PULL], c.shape, neck, stiff, pull, least
            )
            s *= 1.0 + 1e-3  # ever from above, though heights may tremble
        elif touches:
            x, j[HEIGHT], j[MODULUS], j[PULL], s = _power_law(
                c.law, u, s, p[MODULUS], p[PULL], c.shape
            )
        j[OFFSET], j[TILT] = 1.0, (c.z[i] - c.middle) / c.half
        r = c.y[i] - x - p[OFFSET] - p[TILT] * j[TILT]
        touching[i] = touches
        residuals[i] = r
        weight = 1.0 / variance[1 if touches else 0]
        total += weight * r * r
        first = HEIGHT if touches else OFFSET
        for a in range(first, PARAMETERS):
            vector[a] += weight * j[a] * r
            for b in range(a, PARAMETERS):
                matrix[a, b] += weight * j[a] * j[b]
    for a in range(PARAMETERS):
        for b in range(a):
            matrix[a, b] = matrix[b, a]
    if c.pull_error < np.inf:  # the pull-off is one more reading, of p or of 1.5 pi R w / k
        value, slope = p[PULL], 1.0
        if c.law == JKR:
            slope = 3.0 * math.pi * c.shape * p[PULL] / c.k
            value = 0.5 * slope * p[PULL]
        r, weight = c.pull - value, 1.0 / c.pull_error**2
        total += weight * r * r
        vector[PULL] += weight * slope * r
        matrix[PULL, PULL] += weight * slope * slope
    return total


@called
def _inverse(matrix: Floats, free: Bools, damping: float, out: Floats) -> bool:
    """Invert the free part of a normal matrix, scaled to a diagonal of 1 + damping, by Cholesky."""
    n = 0
    index = np.empty(PARAMETERS, np.int64)
    for a in range(PARAMETERS):
        if free[a]:
            if not matrix[a, a] > 0.0:
                return False
            index[n] = a
            n += 1
    low = np.zeros((n, n))
    for a in range(n):
        for b in range(a + 1):
            i, j = index[a], index[b]
            value = matrix[i, j] / math.sqrt(matrix[i, i] * matrix[j, j])
            if a == b:
                value += damping
            for c in range(b):
                value -= low[a, c] * low[b, c]
            if a == b:
                if not value > 1e-14:
                    return False
                low[a, a] = math.sqrt(value)
            else:
                low[a, b] = value / low[b, b]
    out[:] = 0.0
    column = np.empty(n)
    for e in range(n):
        for a in range(n):
            value = 1.0 if a == e else 0.0
            for c in range(a):
                value -= low[a, c] * column[c]
            column[a] = value / low[a, a]
        for a in range(n - 1, -1, -1):
            value = column[a]
            for c in range(a + 1, n):
                value -= low[c, a] * column[c]
            column[a] = value / low[a, a]
        for a in range(n):
            i, j = index[a], index[e]
            out[i, j] = column[a] / math.sqrt(matrix[i, i] * matrix[j, j])
    return True


@called
def _descend(
    c: Curve,
    p: Floats,
    free: Bools,
    variance: Floats,
    covariance: Floats,
    residuals: Floats,
    touching: Bools,
) -> bool:
    """Lead p to the least squares; return whether it got there, with its inverse normal matrix."""
    matrix, trial_matrix = np.zeros((PARAMETERS, PARAMETERS)), np.zeros((PARAMETERS, PARAMETERS))
    vector, trial_vector = np.zeros(PARAMETERS), np.zeros(PARAMETERS)
    trial, step = p.copy(), np.zeros(PARAMETERS)
    damping = 1e-3
    best = _sums(c, p, variance, matrix, vector, residuals, touching)
    arrived = False
    for _ in range(MOST_STEPS):
        if not _inverse(matrix, free, damping, covariance):
            if damping > 1e6:
                return False
            damping = max(10.0 * damping, 1e-6)
            continue
        small = True
        for a in range(PARAMETERS):
            step[a] = 0.0
            if free[a]:
                for b in range(PARAMETERS):
                    step[a] += covariance[a, b] * vector[b]
            trial[a] = p[a] + step[a]
            scale = abs(p[a]) + (c.half if a == HEIGHT else 0.0)
            sigma = math.sqrt(covariance[a, a] * max(best / c.z.size, 1.0))
            small = small and abs(step[a]) <= max(1e-3 * sigma, 1e-11 * scale)
        # modulus and work of adhesion stay positive
        trial[MODULUS] = max(trial[MODULUS], 0.2 * p[MODULUS])
        if c.law == JKR:
            trial[PULL] = max(trial[PULL], 0.2 * p[PULL])
        if small and damping <= 1e-3:
            arrived = True
            break
        value = _sums(c, trial, variance, trial_matrix, trial_vector, residuals, touching)
        if value < best:
            gain = best - value
            p[:], matrix[:], vector[:] = trial, trial_matrix, trial_vector
            best = value
            damping = max(0.1 * damping, 1e-12)
            if gain <= 1e-13 * best:
                arrived = True
                break
        else:
            if small or damping > 1e10:
                arrived = small
                break
            damping = max(10.0 * damping, 1e-8)
    best = _sums(c, p, variance, matrix, vector, residuals, touching)
    return _inverse(matrix, free, 0.0, covariance) and arrived


@called
def _scan(
    law: int, h: Floats, y: Floats, pull: float, classes: Classes, shape: float, least: int
) -> tuple[float, float]:
    """Return contact point and modulus of the best of many trial contact points.

    For a given contact point the modulus is a linear parameter. y is the deflection less its
    baseline, h = z + y the height of the tip. At least that many samples must touch.
    """
    n = h.size
    best, height, modulus = np.inf, 0.0, 0.0
    stride = max(n // 256, 1)
    for c in range(1, 97):
        last = n - 1 - least
        at = h[(c * last) // 97]
        sxx = sxy = syy = 0.0
        for i in range(0, n, stride):
            if classes[i] == LEFT_OUT:
                continue
            touches = classes[i] != APART
            lifted = y[i] + pull if classes[i] == TOUCHING else y[i]
            syy += lifted * lifted
            depth = at - h[i]
            if touches and depth > 0.0:
                form = _power(law, depth)
                sxx += form * form
                sxy += form * lifted
        if sxy > 0.0 and syy - sxy * sxy / sxx < best:
            best, height, modulus = syy - sxy * sxy / sxx, at, sxy / sxx / shape
    return height, modulus


@called
def _start(
    c: Curve, offset: float, tilt: float, pull: float, pull_is_free: bool, p: Floats
) -> bool:
    """Put the first guess of all parameters into p; return whether there is one."""
    flat = c.y - offset - tilt * (c.z - c.middle) / c.half
    tip = c.z + flat
    law, factor = c.law, c.shape
    if law == JKR:
        law, factor = SPHERE, 4.0 * math.sqrt(c.shape) / (3.0 * c.k)
    height, modulus = _scan(law, tip, flat, pull, c.classes, factor, max(tip.size // 100, 3))
    if not modulus > 0.0:
        return False
    p[HEIGHT], p[MODULUS], p[OFFSET], p[TILT] = height, modulus, offset, tilt
    p[PULL] = pull if pull_is_free else 0.0
    if c.law == JKR:
        # from the largest pull, 1.5 pi R w; the deepest sample then tells the contact point
        p[PULL] = math.sqrt(max(pull, 1e-3) * c.k / (1.5 * math.pi * c.shape))
        weight = 3.0 * math.pi * c.shape * p[PULL] ** 2
        force = max(c.k * flat[-1], 0.0)
        a = force + weight + math.sqrt(weight * (2.0 * force + weight))
        a = (0.75 * c.shape / modulus * a) ** (1.0 / 3.0)
        bend = p[PULL] * math.sqrt(2.0 * math.pi * a / modulus)
        p[HEIGHT] = tip[-1] + a * a / c.shape - bend
    return True


@called
def _correlation(residuals: Floats, classes: Classes, scale: Floats) -> float:
    """Return how many samples in a row say the same: 1 + 2 sum of significant autocorrelations."""
    n = 0
    r = np.empty(residuals.size)
    for i in range(residuals.size):
        if classes[i] != LEFT_OUT:
            r[n] = residuals[i] / scale[i]
            n += 1
    r = r[:n]
    whole = np.sum(r * r)
    total, before = 1.0, 0.0
    if not whole > 0.0:
        return total
    for lag in range(1, min(LAGS, n // 4)):
        rho = np.sum(r[lag:] * r[:-lag]) / whole
        if rho < 2.0 / math.sqrt(n):
            if lag > 1:  # the rest falls off as what was seen of it
                fall = before ** (1.0 / (lag - 1))
                total += 2.0 * before * fall / (1.0 - fall)
            break
        total += 2.0 * rho
        before = rho
    return total


@called
def _rough_variances(y: Floats, classes: Classes, touching: Bools) -> Floats:
    """Return the variance of white noise apart and in contact, from second differences."""
    sums, numbers = np.zeros(2), np.zeros(2)
    for i in range(1, y.size - 1):
        one = classes[i - 1] != LEFT_OUT and classes[i] != LEFT_OUT and classes[i + 1] != LEFT_OUT
        if one and touching[i - 1] == touching[i] == touching[i + 1]:
            side = 1 if touching[i] else 0
            sums[side] += (y[i - 1] - 2.0 * y[i] + y[i + 1]) ** 2
            numbers[side] += 1.0
    return sums / (6.0 * np.maximum(numbers, 1.0))


@compiled
def fit_curves(
    law: int,
    z: Floats,
    readings: Floats,
    classes: Classes,
    baseline: Floats,
    noise: Floats,
    seen: Floats,
    shape: Floats,
    k: Floats,
    free: Bools,
    parameters: Floats,
    covariances: Floats,
    numbers: Floats,
) -> None:
    """Fit one law to each curve.

    Parameters
    ----------
    law
        SPHERE, CONE, PUNCH or JKR.
    z
        Heights of the base, far to near (nm), (1 or curves, n).
    readings
        Deflections with their baseline (nm), (curves, n).
    classes
        LEFT_OUT, APART, TOUCHING or EITHER for each sample, (curves, n).
    baseline
        First guess of b and t, and of the pull (nm), (curves, 3).
    noise
        First guess of its rms (nm), (curves,); what the fit finds can't be below 1e-3 of it.
    seen
        The largest pull / k (nm) as read off, and its standard error, (curves, 2); an error of inf
        for none.
    shape
        g = f / (E* delta^m) in nm^(1 - m) / GPa; the radius for JKR, (curves,).
    k
        Stiffness of the lever (N/m), (curves,).
    free
        Which parameters are fitted, (PARAMETERS,); others stay at the first guess.
    parameters, covariances, numbers
        Written: (curves, PARAMETERS), their covariances, and (curves, NUMBERS): rms of the noise
        apart and in contact (nm), samples that are worth one independent sample, chi^2 per degree
        of freedom (against the noise that second differences show),
        -2 ln(likelihood) of white noise, number of samples in contact, and 1 if the fit converged.
    """
    n = readings.shape[1]
    residuals, scale = np.empty(n), np.empty(n)
    touching = np.zeros(n, np.bool_)
    fitted = float(np.sum(free))
    # offset and tilt belong to the baseline, the others to the contact
    spent = np.array([2.0, fitted - 2.0]) if free[TILT] else np.array([1.0, fitted - 1.0])
    for i in range(len(readings)):
        heights = z[i if len(z) > 1 else 0]
        middle, half = 0.5 * (heights[0] + heights[-1]), 0.5 * (heights[0] - heights[-1])
        c = Curve(
            law,
            heights,
            readings[i],
            classes[i],
            shape[i],
            k[i],
            middle,
            half,
            seen[i, 0],
            seen[i, 1],
        )
        p, offset, tilt, pull = parameters[i], baseline[i, 0], baseline[i, 1], baseline[i, 2]
        numbers[i, CONVERGED] = 0.0
        if not _start(c, offset, tilt, pull, free[PULL], p):
            continue
        floor = (1e-3 * noise[i]) ** 2
        variance = np.full(2, noise[i] ** 2)
        # the two kinds of noise, which weigh the samples, come from the fit before
        for _ in range(MOST_WEIGHTINGS):
            done = _descend(c, p, free, variance, covariances[i], residuals, touching)
            sums, count = np.zeros(2), np.zeros(2)
            for j in range(n):
                if c.classes[j] != LEFT_OUT:
                    sums[int(touching[j])] += residuals[j] ** 2
                    count[int(touching[j])] += 1.0
            freedom = count - spent
            before = variance
            if freedom.min() >= FEW:
                variance = sums / freedom
            else:
                variance = np.full(2, sums.sum() / max(freedom.sum(), 1.0))
            variance = np.maximum(variance, floor)
            if np.abs(np.log(variance / before)).max() < 0.05:
                break
        for j in range(n):
            scale[j] = math.sqrt(variance[int(touching[j])])
        correlation = _correlation(residuals, c.classes, scale)
        # the fit has taken its parameters' share of correlated noise with it
        worth = max(1.0 - fitted * (correlation - 1.0) / count.sum(), 0.5)
        correlation /= worth * worth
        covariances[i] *= correlation * 0.5 * np.sum(variance / before)
        rough = np.maximum(_rough_variances(c.y, c.classes, touching), floor)
        each = np.maximum(sums / np.maximum(count, 1.0), floor)
        numbers[i, NOISE_APART], numbers[i, NOISE_TOUCHING] = np.sqrt(variance)
        numbers[i, CORRELATION] = correlation
        numbers[i, CHI2] = np.sum(sums / rough) / max(freedom.sum(), 1.0)
        numbers[i, SURPRISE] = np.sum(count * np.log(each))
        numbers[i, TOUCHED] = count[1]
        numbers[i, CONVERGED] = 1.0 if done else 0.0

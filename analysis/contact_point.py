"""Where a force curve touches, told without a law of contact; baseline, force and indentation.

A curve is the deflection x of a lever over the height z of its base (heights count upwards), of
one curve (n,) or of many (curves, n) on common heights (n,) or their own. Either direction of the
ramp will do. The contact point is the height z at which the undeflected tip would just touch, so
the indentation is contact point - z - x.

Six ways to find it, which all see the reading alone: none knows the tip. They differ in what they
take a contact for, and so in noise and bias; :mod:`nanophantom.analysis.force_fit` fits the contact
point with the modulus, which is what least squares can do at best. The ways are those of nanite
(P. Müller et al., BMC Bioinformatics 20 (2019) 465), but for the last: a jump in the likelihood
(R. Benítez, S. Moreno-Flores, V. J. Bolós & J. L. Toca-Herrera, Microsc. Res. Tech. 76 (2013) 870).
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numba
import numpy as np
import numpy.typing as npt

from nanophantom.simcore.probes.contact import checked

Floats = npt.NDArray[np.float64]
Method = Literal[
    "deviation", "gradient", "constant_line", "line_polynomial", "straight_line", "likelihood"
]
METHODS: tuple[Method, ...] = get_args(Method)

FEWEST = 50
"""Samples that a curve needs."""
BASELINE = 0.25
"""Share of the samples, the farthest, that are taken for baseline."""


class Baseline(NamedTuple):
    """Reading of a lever that touches nothing: arrays (curves,).

    Attributes
    ----------
    offset_nm
        At the farthest sample.
    tilt
        Rise of the reading by that of the base.
    noise_nm
        Rms of the reading about the line.
    """

    offset_nm: Floats
    tilt: Floats
    noise_nm: Floats


def curves_of(z_nm: npt.ArrayLike, deflection_nm: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return heights (1 or curves, n) and deflections (curves, n), from far to near.

    Raises
    ------
    ValueError
        The shapes don't belong together, there are too few samples, some aren't finite, or the
        base doesn't go one way.
    """
    z = np.atleast_2d(np.asarray(z_nm, np.float64))
    x = np.atleast_2d(np.asarray(deflection_nm, np.float64))
    if x.ndim != 2 or z.ndim != 2 or z.shape[1] != x.shape[1] or len(z) not in (1, len(x)):
        raise ValueError(
            "deflection_nm must be (n,) or (curves, n) and z_nm (n,) or the same, not "
            f"{np.shape(deflection_nm)} and {np.shape(z_nm)}"
        )
    if x.shape[1] < FEWEST:
        raise ValueError(f"a curve needs {FEWEST} samples, not {x.shape[1]}")
    if not (np.isfinite(x).all() and np.isfinite(z).all()):
        raise ValueError("z_nm and deflection_nm must be finite")
    way = np.sign(z[:, -1] - z[:, 0])
    if not (way == way[0]).all() or way[0] == 0:
        raise ValueError("z_nm must go one way, down or up, the same for all curves")
    if way[0] > 0:
        z, x = z[:, ::-1], x[:, ::-1]
    return np.ascontiguousarray(z), np.ascontiguousarray(x)


def for_each(name: str, values: npt.ArrayLike, curves: int) -> Floats:
    """Return a number, or one for each curve, as (curves,)."""
    array = np.asarray(values, np.float64)
    try:
        return np.array(np.broadcast_to(array, curves))
    except ValueError:
        raise ValueError(f"{name} must be a number or ({curves},), not {array.shape}") from None


def far_samples(samples: int, fraction: float) -> int:
    """Return how many samples, the farthest, are taken for baseline."""
    if not 0.02 <= fraction <= 0.9:
        raise ValueError(f"the fraction of baseline must be 0.02 to 0.9, not {fraction:g}")
    return max(int(fraction * samples), 10)


# ---- readings to forces --------------------------------------------------------------------------


def deflection_nm(reading_V: npt.ArrayLike, sensitivity_nm_per_V: npt.ArrayLike) -> Floats:
    """Return the deflection, reading times the inverse optical lever sensitivity."""
    sensitivity = checked("sensitivity_nm_per_V", sensitivity_nm_per_V)
    return np.asarray(reading_V, np.float64) * sensitivity


def force_nn(deflection: npt.ArrayLike, stiffness_n_per_m: npt.ArrayLike) -> Floats:
    """Return the force on the lever, stiffness times deflection (nm, its baseline subtracted)."""
    return np.asarray(deflection, np.float64) * checked("stiffness_n_per_m", stiffness_n_per_m)


def tip_height_nm(z_nm: npt.ArrayLike, deflection: npt.ArrayLike) -> Floats:
    """Return the height of the tip, z + x."""
    return np.asarray(z_nm, np.float64) + np.asarray(deflection, np.float64)


def indentation_nm(
    z_nm: npt.ArrayLike, deflection: npt.ArrayLike, contact_point_nm: npt.ArrayLike
) -> Floats:
    """Return the indentation (curves, n), contact point - z - x; negative: the tip is apart."""
    tip = np.atleast_2d(tip_height_nm(z_nm, deflection))
    return np.asarray(np.atleast_1d(np.asarray(contact_point_nm, np.float64))[:, None] - tip)


def baseline(
    z_nm: npt.ArrayLike,
    deflection: npt.ArrayLike,
    fraction: float = BASELINE,
    tilt: bool = True,
) -> Baseline:
    """Return the line through the farthest samples; `tilt` False for a constant.

    Raises
    ------
    ValueError
        See :func:`curves_of` and :func:`far_samples`.
    """
    z, x = curves_of(z_nm, deflection)
    n = far_samples(x.shape[1], fraction)
    away, far = z[:, :n] - z[:, :1], x[:, :n]
    mean, centre = far.mean(axis=1), np.broadcast_to(away.mean(axis=1), len(x))
    slope = np.zeros(len(x))
    if tilt:
        lever = away - away.mean(axis=1, keepdims=True)
        slope = (lever * far).sum(axis=1) / (lever**2).sum(axis=1)
    offset = mean - slope * centre
    residual = far - offset[:, None] - slope[:, None] * away
    freedom = n - 1 - int(tilt)
    return Baseline(offset, slope, np.sqrt((residual**2).sum(axis=1) / freedom))


def without_baseline(
    z_nm: npt.ArrayLike,
    deflection: npt.ArrayLike,
    fraction: float = BASELINE,
    tilt: bool = True,
) -> Floats:
    """Return the deflection less its baseline, (curves, n), in the order that was given."""
    found = baseline(z_nm, deflection, fraction, tilt)
    z = np.atleast_2d(np.asarray(z_nm, np.float64))
    farthest = np.maximum(z[:, :1], z[:, -1:])
    line = found.offset_nm[:, None] + found.tilt[:, None] * (z - farthest)
    return np.asarray(np.atleast_2d(np.asarray(deflection, np.float64)) - line)


def drag_nn(
    z_approach_nm: npt.ArrayLike,
    approach_nm: npt.ArrayLike,
    z_retract_nm: npt.ArrayLike,
    retract_nm: npt.ArrayLike,
    stiffness_n_per_m: npt.ArrayLike,
    fraction: float = BASELINE,
) -> Floats:
    """Return the drag of the medium, (curves,): half of what parts approach and retract far away.

    It lifts the lever on approach, unseen once the baseline is subtracted: a contact point found
    on approach lies too low by drag / stiffness, one found on retract too high.
    """
    way_in = baseline(z_approach_nm, approach_nm, fraction, tilt=False).offset_nm
    way_out = baseline(z_retract_nm, retract_nm, fraction, tilt=False).offset_nm
    return np.asarray(0.5 * (way_in - way_out) * checked("stiffness_n_per_m", stiffness_n_per_m))


# ---- contact points ------------------------------------------------------------------------------


def contact_point_nm(
    z_nm: npt.ArrayLike,
    deflection: npt.ArrayLike,
    method: Method = "constant_line",
    fraction: float = BASELINE,
) -> Floats:
    """Return the height of the base at contact, (curves,).

    Parameters
    ----------
    z_nm, deflection
        Heights of the base and deflections, (n,) or (curves, n).
    method
        "deviation": the last sample that doesn't stand out of the baseline's noise by 4 rms.
        "gradient": where the smoothed gradient, followed outwards, first falls to the baseline's.
        "constant_line": corner of a constant and a line, least squares over all corners.
        "line_polynomial": end of a line to which c1 q + c2 q^2 is added from there on.
        "straight_line": the sample farthest from the straight line between the curve's ends, both
        axes scaled to 1 (the corner that a Fréchet distance sees).
        "likelihood": where two straight lines, each with a noise of its own, are most likely to
        part.
    fraction
        Share of the samples that is baseline for certain; the baseline's line goes through them.

    Raises
    ------
    ValueError
        The method is unknown, or see :func:`baseline`.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    z, given = curves_of(z_nm, deflection)
    line = baseline(z, given, fraction)
    x = given - line.offset_nm[:, None] - line.tilt[:, None] * (z - z[:, :1])
    z = np.broadcast_to(z, x.shape)
    rows = np.arange(len(x))
    if method == "deviation":
        return np.asarray(z[rows, _last(x <= 4.0 * line.noise_nm[:, None])])
    if method == "gradient":
        return _gradient_zero(z, x)
    if method == "straight_line":
        across = (z[:, :1] - z) / (z[:, :1] - z[:, -1:])
        up = (x - x[:, :1]) / np.maximum(np.abs(x[:, -1:] - x[:, :1]), 1e-300)
        return np.asarray(z[rows, np.argmax(across - up, axis=1)])
    if method == "likelihood":
        return np.asarray(z[rows, _most_likely_split(z, x)])
    found = np.empty(len(x))
    _best_corners(np.ascontiguousarray(z), x, method == "constant_line", found)
    return found


def _last(true: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Return the last index at which each row is true; 0 where none is."""
    last = true.shape[1] - 1 - np.argmax(true[:, ::-1], axis=1)
    return np.where(true.any(axis=1), last, 0)


def _gradient_zero(z: Floats, x: Floats) -> Floats:
    """Return where the slope over a fiftieth of the curve, seen from its end, falls to zero."""
    n = x.shape[1]
    half = max(n // 100, 2)
    sums = np.concatenate([np.zeros((len(x), 1)), np.cumsum(x, axis=1)], axis=1)
    # difference of the means over the `half` samples to either side
    rise = sums[:, 2 * half :] - 2.0 * sums[:, half:-half] + sums[:, : -2 * half]
    at = np.clip(_last(rise <= 0.0) + half, 0, n - 1)
    return np.asarray(z[np.arange(len(x)), at])


def _most_likely_split(z: Floats, x: Floats) -> npt.NDArray[np.intp]:
    """Return the index from which a second straight line with its own noise begins."""
    n, least = x.shape[1], max(x.shape[1] // 50, 5)
    zeta = (z - z.mean(axis=1, keepdims=True)) / np.ptp(z, axis=1, keepdims=True)

    def squares(zeta: Floats, x: Floats) -> Floats:
        """Return the residual sum of squares of a line through the first 1 .. n samples."""
        number = np.arange(1, n + 1)
        sz, sx = np.cumsum(zeta, axis=1), np.cumsum(x, axis=1)
        szz = np.cumsum(zeta**2, axis=1) - sz**2 / number
        szx = np.cumsum(zeta * x, axis=1) - sz * sx / number
        sxx = np.cumsum(x**2, axis=1) - sx**2 / number
        return np.asarray(sxx - szx**2 / np.maximum(szz, 1e-300))

    floor = 1e-20 * (x**2).sum(axis=1, keepdims=True) + 1e-300
    before = np.maximum(squares(zeta, x), floor)[:, least - 1 : n - least]
    after = np.maximum(squares(zeta[:, ::-1], x[:, ::-1])[:, ::-1], floor)[:, least : n - least + 1]
    k = np.arange(least, n - least + 1)
    surprise = k * np.log(before / k) + (n - k) * np.log(after / (n - k))
    return np.asarray(np.argmin(surprise, axis=1) + least)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _best_corners(z: Floats, x: Floats, constant_line: bool, found: Floats) -> None:
    """Find the corner of least squares: a coarse search, then golden sections."""
    n = z.shape[1]
    terms = 2 if constant_line else 4
    ratio = 0.5 * (np.sqrt(5.0) - 1.0)
    for c in range(len(z)):
        zc, xc = z[c], x[c]
        span = zc[0] - zc[-1]
        step = max(n // 80, 1)
        best, at = np.inf, n // 2
        for i in range(n // 50 + 1, n - n // 50 - terms, step):
            value = _corner_squares(zc, xc, zc[i], span, constant_line)
            if value < best:
                best, at = value, i
        high, low = zc[max(at - step, 0)], zc[min(at + step, n - 1)]
        inner, outer = high - ratio * (high - low), low + ratio * (high - low)
        f_inner = _corner_squares(zc, xc, inner, span, constant_line)
        f_outer = _corner_squares(zc, xc, outer, span, constant_line)
        while high - low > 1e-6 * span:
            if f_inner < f_outer:
                high, outer, f_outer = outer, inner, f_inner
                inner = high - ratio * (high - low)
                f_inner = _corner_squares(zc, xc, inner, span, constant_line)
            else:
                low, inner, f_inner = inner, outer, f_outer
                outer = low + ratio * (high - low)
                f_outer = _corner_squares(zc, xc, outer, span, constant_line)
        found[c] = 0.5 * (high + low)


@numba.njit(nogil=True, error_model="numpy")
def _corner_squares(z: Floats, x: Floats, corner: float, span: float, constant_line: bool) -> float:
    """Return the sum of squares left by 1, q, or by 1, zeta, q, q^2; q = max(corner - z, 0)."""
    m = 2 if constant_line else 4
    g, terms = np.zeros((5, 5)), np.ones(5)
    for i in range(z.size):
        q = max(corner - z[i], 0.0) / span
        if constant_line:
            terms[1] = q
        else:
            terms[1], terms[2], terms[3] = (z[i] - corner) / span, q, q * q
        terms[m] = x[i]
        for a in range(m + 1):
            for b in range(a, m + 1):
                g[a, b] += terms[a] * terms[b]
    # what elimination leaves of the last diagonal element is the sum of squares
    for a in range(m):
        if g[a, a] > 1e-12 * z.size * 1e-6:
            for b in range(a + 1, m + 1):
                ratio = g[a, b] / g[a, a]
                for d in range(b, m + 1):
                    g[b, d] -= ratio * g[a, d]
    return float(g[m, m])

"""What a feedback loop left of a surface, and how to put it back from its own error channel.

The loop follows late. With an integral gain Ki the stage leaves the share f / sqrt(f^2 + fc^2) of a
wave of frequency f behind, fc = Ki / 2 pi, and lags 1 / Ki behind every gentle slope: trace and
retrace lie twice that apart. But what is left isn't lost. The lever bends by it in contact mode,
and swings wider or narrower by it in tapping, and the error channel records that:

    felt = height + a error,    a = 1 in contact mode, -1 in tapping, on hard material,

as long as the lever answers in proportion: while it touches the surface in contact mode, between
still and free in tapping. (Hard material limits the amplitude at once; only where the tip leaves
the surface does it take a ring-down time to grow.)

Images are (ny, nx), both ways stored from left to right. The slow axis moves on evenly, so the
retrace of a row lies behind its trace: by a row where the line begins, by nothing where it turns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage, optimize, signal

from nanophantom.analysis.robust import robust_sigma

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

LONGEST_LAG = 0.1
"""Lags are looked for up to this share of the time of a line in one direction."""
LEAKED = 1e-4
"""Share of the strongest wave's power that may have leaked over to others."""
INTERPOLATED_NOISE = 0.77
"""Variance that `on_rows_of_trace` leaves of white noise, in the mean over a line."""
AGREEING = 1.5
"""Trace and retrace agree where they differ by less than so many times what they mostly do."""
SENSITIVITY_SPREAD = 0.1
"""How well the sensitivity of the error channel is known beforehand."""
QUICKNESS = 0.02
"""Share of the error that a real lever and detector tell too late: it bounds what a frame with
large errors can say on the sensitivity."""


def on_rows_of_trace(retrace: npt.ArrayLike, knots_a_line: int, down: bool = True) -> Floats:
    """Return what a retrace would be on the rows of the trace, by cubic interpolation.

    Parameters
    ----------
    retrace : (ny, nx)
    knots_a_line
        Pixels from one line to the next, there and back, turns included.
    down
        Whether rows were scanned downwards: the retrace then lies below its trace.
    """
    values = np.asarray(retrace, np.float64)
    if not down:
        return on_rows_of_trace(values[::-1], knots_a_line)[::-1]
    n, nx = values.shape
    way = knots_a_line / 2
    # Where a pixel of the trace lies between the rows i - 1 (0) and i (1) of the retrace.
    t = ((way - nx) / 2 + np.arange(nx) + 0.5) / way
    weights = (
        -t * (t - 1) * (t - 2) / 6,
        (t + 1) * (t - 1) * (t - 2) / 2,
        -(t + 1) * t * (t - 2) / 2,
        (t + 1) * t * (t - 1) / 6,
    )
    padded = np.concatenate([values[:1], values[:1], values, values[-1:]])
    return np.asarray(sum(w * padded[k : k + n] for k, w in enumerate(weights)), np.float64)


def lag_s(
    trace: npt.ArrayLike,
    retrace: npt.ArrayLike,
    knot_s: float,
    knots_a_line: int,
    down: bool = True,
) -> float:
    """Return the time constant 1 / Ki of an integral loop from how trace and retrace differ.

    A loop that passes 1 / (1 + i w tau) of a wave turns it by -atan(w tau) on the way there and by
    as much the other way on the way back. The cross spectrum of both, summed over rows, is turned
    by twice that, whatever the surface.

    Parameters
    ----------
    trace, retrace : (ny, nx)
        Heights.
    knot_s
        Time from one pixel to the next.
    knots_a_line
        Pixels from one line to the next, there and back, turns included.
    down
        Whether rows were scanned downwards.

    Raises
    ------
    ValueError
        The images have different shapes, are too small or flat.
    """
    there, back = np.asarray(trace, np.float64), np.asarray(retrace, np.float64)
    if there.shape != back.shape or there.ndim != 2 or min(there.shape) < 4:
        raise ValueError(
            f"trace and retrace must be images of one shape, at least 4 x 4; got {there.shape} "
            f"and {back.shape}"
        )
    n = there.shape[1]
    window = signal.windows.hann(n, sym=False)
    first, second = (
        np.fft.rfft(signal.detrend(image, axis=1) * window, axis=1)[:, 1:]
        for image in (there, on_rows_of_trace(back, knots_a_line, down))
    )
    cross = np.sum(first * np.conj(second), axis=0)
    power = np.sum(np.abs(first) ** 2, axis=0) * np.sum(np.abs(second) ** 2, axis=0)
    if not np.all(np.isfinite(cross)) or not np.any(power > 1e-12):
        raise ValueError("the lag of a loop can't be told from a flat image, nor from NaN")
    # A phase has the variance (1 - c) / (2 c rows) at the coherence c: its inverse is the weight.
    coherence = np.clip(np.abs(cross) ** 2 / np.maximum(power, 1e-300), 0.0, 0.999)
    # What is faint may have leaked over from what is strong, with a phase that isn't its own.
    strength = np.sqrt(power)
    weight = coherence / (1.0 - coherence) * strength / (strength + LEAKED * strength.max())
    turn = np.angle(cross)
    w = 2 * np.pi * np.fft.rfftfreq(n, knot_s)[1:]

    def misfit(log_tau: float) -> float:
        return float(weight @ (1 - np.cos(turn + 2 * np.arctan(w * np.exp(log_tau)))))

    grid = np.log(np.geomspace(1e-3 * knot_s, LONGEST_LAG * n * knot_s, 200))
    best = int(np.argmin([misfit(value) for value in grid]))
    ends = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    return float(np.exp(optimize.minimize_scalar(misfit, bounds=ends, method="bounded").x))


def sensitivity(
    heights: tuple[Floats, Floats],
    errors: tuple[Floats, Floats],
    knots_a_line: int,
    downs: Sequence[bool],
    nominal: float,
    largest_nm: float = np.inf,
) -> float:
    """Return the a of felt = height + a error with which both ways agree best on the surface.

    Least squares of what trace and retrace differ by, over all frames. Where they hardly differ a
    stays with the nominal value, which is taken to be right within `SENSITIVITY_SPREAD`.

    Parameters
    ----------
    heights, errors : two of (frames, ny, nx)
        Trace and retrace.
    knots_a_line
        Pixels from one line to the next, there and back, turns included.
    downs : (frames,)
        Whether rows were scanned downwards.
    nominal
        1 in contact mode, -1 in tapping.
    largest_nm
        Errors up to which the lever answers in proportion; larger ones are left out.
    """
    normal, right = 1 / SENSITIVITY_SPREAD**2, nominal / SENSITIVITY_SPREAD**2
    for frame, down in enumerate(downs):
        there = errors[0][frame]
        back = on_rows_of_trace(errors[1][frame], knots_a_line, down)
        used = (np.abs(there) < largest_nm) & (np.abs(back) < largest_nm)
        by = (there - back)[used]
        other = on_rows_of_trace(heights[1][frame], knots_a_line, down)
        differ = (heights[0][frame] - other)[used]
        in_error, in_height = noise_of(there) ** 2, noise_of(heights[0][frame]) ** 2
        # Noise makes the sum of the squared errors too large.
        told = max(float(by @ by) - (1 + INTERPOLATED_NOISE) * in_error * by.size, 0.0)
        noise = (1 + INTERPOLATED_NOISE) * (in_error + in_height) + QUICKNESS**2 * told + 1e-12
        normal += told / noise
        right -= float(by @ differ) / noise
    return float(right / normal)


def mean_of_ways(
    there: Floats, back: Floats, knots_a_line: int, down: bool = True
) -> tuple[Floats, float]:
    """Average the surfaces that trace and retrace tell where they agree.

    Parameters
    ----------
    there, back : (ny, nx)
        Heights that trace and retrace tell.
    knots_a_line
        Pixels from one line to the next, there and back, turns included.
    down
        Whether rows were scanned downwards.

    Returns
    -------
    surface : (ny, nx)
        On the rows of the trace: the mean of both where they differ by noise, the trace's where
        they differ by more (an edge along the line, which the retrace met on another row).
    noise_nm
        Noise of one pixel of one way, from the median of the differences.
    """
    gap = on_rows_of_trace(back, knots_a_line, down) - there
    spread = max(robust_sigma(gap - np.median(gap)), 1e-9)
    near = ndimage.uniform_filter1d(gap**2, 5, axis=1)
    share = 0.5 / (1 + (near / (AGREEING * spread) ** 2) ** 2)
    return np.asarray(there + share * gap), spread / float(np.sqrt(1 + INTERPOLATED_NOISE))


def noise_of(image: Floats) -> float:
    """Return the scatter of white noise in an image, from its second differences along lines."""
    second = np.diff(image, 2, axis=1)
    return robust_sigma(second) / float(np.sqrt(6.0))

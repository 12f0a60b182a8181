"""The adhesion force of a retract, read off its pull-off without a law of contact."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.contact_point import (
    BASELINE,
    baseline,
    curves_of,
    far_samples,
    for_each,
)
from nanophantom.simcore.probes.contact import checked

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

CLEAR = 5.0
"""A pull, or a push, is seen where it exceeds the noise of a sample so many times."""
RESOLUTION = 1e-9
"""Noise that a curve has at least, of the range of its readings."""


class PullOff(NamedTuple):
    """Adhesion read off retracts: arrays (curves,).

    Attributes
    ----------
    adhesion_nn, sigma_nn
        The largest pull and its standard error; 0 and half of what would be seen where none is.
    height_nm
        Height of the base there: at the last sample that holds, or the lowest if none jumps.
    seen
        Whether there is a pull that stands out of the noise.
    """

    adhesion_nn: Floats
    sigma_nn: Floats
    height_nm: Floats
    seen: Bools


MEDIAN_OF_CHI2 = 0.4549
"""Median of a squared standard normal number: squares with outliers tell a variance by theirs."""


def pull_off(
    z_nm: npt.ArrayLike,
    deflection_nm: npt.ArrayLike,
    stiffness_n_per_m: npt.ArrayLike,
    *,
    tilt: bool = True,
    baseline_fraction: float = BASELINE,
    window: int = 6,
) -> PullOff:
    """Return the largest pull of each retract, free of any law.

    The lowest sample is the lowest of noise as well. So a parabola goes through the last `window`
    samples before the jump, and its value counts half a step behind them. Where nothing jumps, or
    the pull was clearly larger before, it goes through twice as many, the lowest in sum, and its
    value in the middle counts. Noise of these samples and of the baseline, and that half step,
    make the uncertainty.

    Raises
    ------
    ValueError
        The curves aren't curves, or the window isn't between 4 and a twelfth of the samples.
    """
    z, x = curves_of(z_nm, deflection_nm)
    k = for_each("stiffness_n_per_m", checked("stiffness_n_per_m", stiffness_n_per_m), len(x))
    n = x.shape[1]
    if not 4 <= window <= n // 12:
        raise ValueError(f"window must be between 4 and {n // 12}, not {window}")
    line = baseline(z, x, baseline_fraction, tilt)
    flat = x - line.offset_nm[:, None] - line.tilt[:, None] * (z - z[:, :1])
    lowest, least = np.argmin(flat, axis=1), flat.min(axis=1)
    noise_apart = np.maximum(line.noise_nm, RESOLUTION * np.ptp(flat, axis=1))
    seen = least < -CLEAR * noise_apart
    # outwards from the lowest sample: where half of the pull is gone the tip is off
    rows, column = np.arange(len(x)), np.arange(n)
    gone = (column < lowest[:, None]) & (flat > 0.5 * least[:, None])
    off = np.minimum(n - 1 - np.argmax(gone[:, ::-1], axis=1), n - 2)
    jumps = (flat[rows, off] - flat[rows, off + 1] > -0.4 * least) & (lowest - off <= 2 * window)
    near = np.minimum(off + 1, n - 10 * window)[:, None] + np.arange(10 * window)
    kinks = np.diff(np.take_along_axis(flat, near, axis=1), n=2, axis=1)
    noise = np.sqrt(np.median(kinks**2, axis=1) / (6.0 * MEDIAN_OF_CHI2))
    noise = np.maximum(noise, RESOLUTION * np.ptp(flat, axis=1))

    first = np.minimum(off + 1, n - window)
    value, gain, slope = _parabola(flat, first, window, -0.5)
    spread, cut = noise * gain, np.abs(slope) / np.sqrt(12.0)
    # the pull of a stiff lever falls off before it jumps, or without a jump
    sums = np.cumsum(np.pad(flat, ((0, 0), (1, 0))), axis=1)
    bottom = np.argmin(sums[:, 2 * window :] - sums[:, : -2 * window], axis=1)
    low, gain, _ = _parabola(flat, bottom, 2 * window, window - 0.5)
    smooth = ~jumps | (low < value - 2.0 * spread)
    value = np.where(smooth, low, value)
    spread, cut = np.where(smooth, noise * gain, spread), np.where(smooth, 0.0, cut)
    last = np.where(jumps, first, bottom + window)
    baseline_n = far_samples(n, baseline_fraction)
    reach = (baseline_n - 2 * first) / baseline_n
    far = line.noise_nm * np.sqrt((1.0 + (3.0 * reach**2 if tilt else 0.0)) / baseline_n)
    sigma = np.sqrt(spread**2 + far**2 + cut**2)
    height = np.broadcast_to(z, x.shape)[rows, last]
    return PullOff(
        np.where(seen, -k * value, 0.0),
        k * np.where(seen, sigma, 0.5 * CLEAR * noise_apart),
        height,
        seen,
    )


def _parabola(
    flat: Floats, first: npt.NDArray[np.intp], window: int, at: float
) -> tuple[Floats, Floats, Floats]:
    """Fit a parabola to `window` samples of each row from `first` on, (rows,).

    Return its value `at` samples behind the first, the error of that by the noise, and its slope.
    """
    held = np.take_along_axis(flat, first[:, None] + np.arange(window), axis=1)
    t = np.arange(window) - at  # value and slope at t = 0
    solve = np.linalg.pinv(np.stack([np.ones(window), t, t**2], axis=1))
    c = held @ solve.T
    return c[:, 0], np.full(len(flat), np.sqrt(np.sum(solve[0] ** 2))), c[:, 1]

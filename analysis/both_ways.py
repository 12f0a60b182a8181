"""Compare both ways of a scanned line, there and back: what only one of them shows isn't there.

The tip passes every place twice. What both ways say is the specimen, so their difference is nearly
free of it and shows what happened in between: debris under the tip on one way, the hum of the
mains at two different times. The loop lags behind by as much on either way, and the slow axis,
which never stops, is a quarter of a row before the row's place on one way and behind it on the
other. To first order both displace the specimen in the difference by its slopes, and leave the
mean of both ways where the raster says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nanophantom.analysis import levelling, scars
from nanophantom.analysis.robust import robust_sigma

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MAINS_HZ = (50.0, 60.0)
SURE = 5.0
"""Standard deviations by which a harmonic of the mains must stand out to be taken off."""
SMOOTH_PX = 3
"""Edge of the median through which the surface is looked at for its slopes."""
LAG_ERROR, ROW_ERROR = 0.05, 0.3
"""What first order leaves of a shift along and across lines, as a part of the local relief."""
LAG_ROUNDS = 4
STRANGE = 4.0
"""Standard deviations by which a row's offset between the ways may depart from those of others."""
RUN_HEIGHT = 5.0
"""Height, in standard deviations of the ways' difference, of the scars that are looked for."""
MOST_GAIN = 4.0
"""Largest log-likelihood ratio of a pixel: a single spike makes no scar."""
SPIKE = 6.0
"""By how many of these standard deviations a spike makes a single pixel differ."""


@dataclass(frozen=True, eq=False)
class Passes:
    """When the tip passed each pixel of a frame, and where beside its row.

    Attributes
    ----------
    trace_s, retrace_s : (ny, nx)
        Times there and back.
    row_s : (ny,)
        When each line turned: the mean of both.
    apart_px : (nx,)
        By how many rows the trace lies below the retrace.
    """

    trace_s: Floats
    retrace_s: Floats
    row_s: Floats
    apart_px: Floats

    @classmethod
    def of(cls, settings: Mapping[str, Any], frame: int, shape: tuple[int, int]) -> Self:
        """Work them out from the nominal settings of a scan."""
        ny, nx = shape
        knots = int(settings["knots_a_line"])
        line_s = 1.0 / float(settings["line_rate_hz"][frame])
        downwards = settings["slow_axis"][frame] == "down"
        line = np.arange(ny) if downwards else np.arange(ny)[::-1]
        begins_s = np.asarray(settings["frame_starts_s"][frame] + line * line_s, np.float64)
        # knots beyond the ends of a line on either side of the pixels
        phase = ((knots // 2 - nx) // 2 + np.arange(nx) + 0.5) / knots
        apart_px = (2 * phase - 1) * (1.0 if downwards else -1.0)
        return cls(
            begins_s[:, None] + phase * line_s,
            begins_s[:, None] + (1 - phase) * line_s,
            begins_s + 0.5 * line_s,
            np.asarray(apart_px, np.float64),
        )


@dataclass(frozen=True, eq=False)
class Ways:
    """Both ways of a frame, and by how much they differ.

    Attributes
    ----------
    trace, retrace : (ny, nx)
        Heights.
    passes
        Their times.
    expected : (ny, nx)
        What they must differ by: the specimen's slopes times the ways' distance.
    unsure : (ny, nx)
        Error of that.
    surface : (ny, nx)
        Roughly the specimen, rows aligned.
    """

    trace: Floats
    retrace: Floats
    passes: Passes
    expected: Floats
    unsure: Floats
    surface: Floats

    @classmethod
    def of(cls, trace: Floats, retrace: Floats, passes: Passes) -> Self:
        """Look at the specimen and find the lag of the loop."""
        aligned = levelling.align_rows(0.5 * (trace + retrace), "median_of_differences")
        surface = ndimage.median_filter(aligned, SMOOTH_PX)
        slope_y, slope_x = np.gradient(surface)
        relief_y, relief_x = (
            ndimage.maximum_filter1d(surface, 3, axis=i)
            - ndimage.minimum_filter1d(surface, 3, axis=i)
            for i in (0, 1)
        )
        expected = slope_y * passes.apart_px
        apart = trace - retrace - expected
        # By how many pixels the ways are apart along the line: least squares without outliers.
        lag_px = 0.0
        for _ in range(LAG_ROUNDS):
            rest = apart - _row_offsets(apart) - lag_px * slope_x
            usual = np.abs(rest) < 3 * _spread(rest)
            lag_px += float(np.sum((rest * slope_x)[usual]) / np.sum(slope_x[usual] ** 2))
        unsure = np.hypot(LAG_ERROR * relief_x, ROW_ERROR * passes.apart_px * relief_y)
        return cls(trace, retrace, passes, expected + lag_px * slope_x, unsure, surface)

    @property
    def difference(self) -> Floats:
        """By how much they differ beyond that, each row about its median."""
        apart = self.trace - self.retrace - self.expected
        return np.asarray(apart - _row_offsets(apart))


def without_mains(frames: Sequence[Ways]) -> list[Ways]:
    """Take the hum of the mains off frames: its sines run on through all of them.

    Fitted to the differences of both ways, in which the specimen cancels: the frequency of the
    mains and its harmonics below half the rate of pixels. Of 50 and 60 Hz the one that explains
    more.
    """
    rate_hz = 1.0 / float(np.median(np.diff(frames[0].passes.trace_s[0])))
    usual = [np.abs(f.difference) < 3 * np.hypot(_spread(f.difference), f.unsure) for f in frames]
    seen, there, back = (
        np.concatenate([values[u] for values, u in zip(of_frames, usual, strict=True)])
        for of_frames in (
            [f.difference for f in frames],
            [f.passes.trace_s for f in frames],
            [f.passes.retrace_s for f in frames],
        )
    )
    best, least = Hum(np.zeros(0), np.zeros((0, 2))), np.inf
    for mains_hz in MAINS_HZ:
        harmonics = mains_hz * np.arange(1.0, 0.5 * rate_hz / mains_hz)
        hum, rest = Hum.fitted(harmonics, seen, there, back)
        if rest < least:
            best, least = hum, rest
    return [
        replace(
            f,
            trace=f.trace - best.at(f.passes.trace_s),
            retrace=f.retrace - best.at(f.passes.retrace_s),
        )
        for f in frames
    ]


@dataclass(frozen=True, eq=False)
class Hum:
    """Sines of time: frequencies (n,), and amplitudes (n, 2) of sine and cosine."""

    frequency_hz: Floats
    amplitude_nm: Floats

    def at(self, t_s: Floats) -> Floats:
        """Return the heights at some times."""
        total = np.zeros(t_s.shape)
        for f, (a, b) in zip(self.frequency_hz, self.amplitude_nm, strict=True):
            total += a * np.sin(2 * np.pi * f * t_s) + b * np.cos(2 * np.pi * f * t_s)
        return total

    @classmethod
    def fitted(
        cls, frequency_hz: Floats, seen: Floats, there_s: Floats, back_s: Floats
    ) -> tuple[Self, float]:
        """Fit differences between two times; those that are sure, and the mean square left."""
        waves = [
            wave(2 * np.pi * f * there_s) - wave(2 * np.pi * f * back_s)
            for f in frequency_hz
            for wave in (np.sin, np.cos)
        ]
        if not waves:
            return cls(np.zeros(0), np.zeros((0, 2))), float(np.mean(seen**2))
        design = np.stack(waves, axis=1)
        gram = design.T @ design
        amplitudes = np.linalg.lstsq(gram, design.T @ seen, rcond=1e-9)[0]
        left = float(np.mean((seen - design @ amplitudes) ** 2))
        sigma = np.sqrt(left * np.diag(np.linalg.pinv(gram)))
        pairs = amplitudes.reshape(-1, 2)
        sure = np.hypot(*pairs.T) > SURE * sigma.reshape(-1, 2).max(axis=1)
        return cls(frequency_hz[sure], pairs[sure]), left


@dataclass(frozen=True, eq=False)
class Combined:
    """One frame made of both ways.

    Attributes
    ----------
    image : (ny, nx)
        Mean of both ways where both are good, else the good one.
    scar, scar_retrace : (ny, nx) bool
        Where debris lay under the tip.
    hidden : (ny, nx) bool
        Where neither way is good.
    """

    image: Floats
    scar: Bools
    scar_retrace: Bools
    hidden: Bools


def combined(ways: Ways) -> Combined:
    """Find scars and spikes of both ways of a frame, and combine what is good of them.

    A run of pixels by which the ways differ is a scar of the way that departs more from what the
    rows around show.
    """
    difference = ways.difference
    score = difference / np.hypot(_spread(difference), ways.unsure)
    runs, spikes = np.zeros(score.shape, bool), np.abs(score) > SPIKE
    for sign in (1.0, -1.0):
        gain = RUN_HEIGHT * (sign * score - 0.5 * RUN_HEIGHT)
        runs |= scars.best_runs(np.clip(gain, -MOST_GAIN, MOST_GAIN))
    odd = runs | spikes
    in_trace = np.zeros(score.shape, bool)
    labels, count = ndimage.label(odd, structure=[[0, 0, 0], [1, 1, 1], [0, 0, 0]])
    if count:
        more = ndimage.median(_away(ways), labels, np.arange(1, count + 1)) > 0
        in_trace = np.concatenate([[False], more])[labels]
    bad, bad_back = odd & in_trace, odd & ~in_trace
    half = 0.5 * (ways.trace - ways.retrace - difference)  # what the ways differ by anyway
    image = 0.5 * (ways.trace + ways.retrace)
    image = np.where(bad, ways.retrace + half, image)
    image = np.where(bad_back, ways.trace - half, image)
    return Combined(image, runs & in_trace, runs & ~in_trace, bad & bad_back)


def _away(ways: Ways) -> Floats:
    """Return by how much farther the trace than the retrace is from the rows above and below."""
    mean = 0.5 * (ways.trace + ways.retrace)
    aligned = levelling.align_rows(mean, "median_of_differences")
    padded = np.pad(aligned, ((1, 1), (0, 0)), mode="reflect")
    around = 0.5 * (padded[:-2] + padded[2:]) + _row_medians(mean - aligned)
    half = 0.5 * (ways.trace - ways.retrace - ways.difference)
    return np.asarray(np.abs(ways.trace - half - around) - np.abs(ways.retrace + half - around))


def _row_offsets(apart: Floats) -> Floats:
    """Return by how much the ways of each row differ as a whole: the height wanders meanwhile.

    A scar longer than half a line would pass for that, so what other rows don't do isn't believed.
    """
    medians = _row_medians(apart)
    usual = np.median(medians)
    strange = np.abs(medians - usual) > STRANGE * _spread(medians - usual)
    return np.where(strange, usual, medians)


def _row_medians(values: Floats) -> Floats:
    return np.asarray(np.median(values, axis=1, keepdims=True))


def _spread(values: Floats) -> float:
    """Return the standard deviation of most values."""
    return max(robust_sigma(values), float(np.finfo(np.float64).tiny))

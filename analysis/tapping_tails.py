"""Tails of tapping: where a tip flies behind a step down, or hits one up, and what lies there.

A tapping lever tells by how much it is too high only while it taps. Where the surface falls away
its amplitude can't exceed the free one: the error stays at A0 - Asp, and an integral loop comes
down at no more than Ki (A0 - Asp) (parachuting). Until it lands the trace shows a straight slope
that isn't there. The nearer the set point to the free amplitude, the longer. The retrace flies
behind the other side of the pit, so where one way can't be trusted the other mostly can.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nanophantom.analysis import loop_correction

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

TOLERANCE_NM = 1.0
"""A height isn't trusted if it is off by more."""
FREE = 0.8
"""Above this share of A0 - Asp the amplitude is that of a free lever."""
FREE_DEG = 90.0
"""Phase lag of a free lever at its resonance."""
ALONG_A_LINE = np.array([[0, 0, 0], [1, 1, 1], [0, 0, 0]])
"""Pixels belong together that are neighbours in their line."""
DEEP = 0.8
"""Share of the deepest fall from which on a step counts for the length of tails."""
LANDING = 1
"""Pixels at either end of a flight that it may have begun or ended in."""


def correct(
    height: npt.ArrayLike,
    height_retrace: npt.ArrayLike,
    error: npt.ArrayLike,
    error_retrace: npt.ArrayLike,
    phase: npt.ArrayLike,
    phase_retrace: npt.ArrayLike,
    settings: Mapping[str, Any],
) -> dict[str, Floats]:
    """Find tails, measure their length, and put together what both ways saw of the surface.

    Parameters
    ----------
    height, height_retrace, error, error_retrace, phase, phase_retrace : (frames, ny, nx)
        What was recorded, nm and degrees; both ways from left to right.
    settings
        free_amplitude_nm, quality_factor, resonance_khz, pixel_size_nm, knots_a_line; setpoint_nm,
        line_rate_hz and slow_axis of the frames.

    Returns
    -------
    columns
        One row a pixel: frame, row, column, tail (1 where the trace isn't to be trusted),
        height_nm (corrected), and tail_length_nm of its frame, the mean way that the tip flies
        behind the deepest steps down, on the trace.
    """
    heights = np.asarray(height, np.float64), np.asarray(height_retrace, np.float64)
    errors = np.asarray(error, np.float64), np.asarray(error_retrace, np.float64)
    phases = np.asarray(phase, np.float64), np.asarray(phase_retrace, np.float64)
    tails = np.empty(heights[0].shape, bool)
    corrected = np.empty(heights[0].shape)
    lengths = np.empty(len(tails))
    knots_a_line = int(settings["knots_a_line"])
    ring_down_s = settings["quality_factor"] / (1e3 * np.pi * settings["resonance_khz"])
    for i, setpoint in enumerate(settings["setpoint_nm"]):
        room = settings["free_amplitude_nm"] - setpoint
        down = settings["slow_axis"][i] == "down"
        flights = [flying(e[i], p[i], room) for e, p in zip(errors, phases, strict=True)]
        tails[i] = (np.abs(errors[0][i]) > TOLERANCE_NM) | around(flights[0], LANDING)
        corrected[i] = combined(
            (heights[0][i], heights[1][i]),
            (errors[0][i], errors[1][i]),
            flights,
            room,
            knots_a_line,
            down,
        )
        pixels = mean_flight(flights[0], heights[0][i], FREE * room)
        # It flies already while the amplitude grows to FREE of what it can.
        grown_s = -np.log(1 - FREE) * ring_down_s
        knots = grown_s * settings["line_rate_hz"][i] * knots_a_line
        lengths[i] = settings["pixel_size_nm"] * (pixels + knots if pixels else 0.0)
    frame, row, column = (index.ravel() for index in np.indices(tails.shape))
    return {
        "frame": frame.astype(np.float64),
        "row": row.astype(np.float64),
        "column": column.astype(np.float64),
        "tail": tails.ravel().astype(np.float64),
        "height_nm": corrected.ravel(),
        "tail_length_nm": lengths[frame],
    }


def flying(error_nm: Floats, phase_deg: Floats, room_nm: float) -> Bools:
    """Return where the lever swings freely, so that nothing tells how far the surface is.

    Both show it: the amplitude is nearly the free one, `room_nm` = A0 - Asp over the set point,
    and the phase is nearer to 90 degrees than to what it mostly is.
    """
    usual = abs(float(np.median(phase_deg)) - FREE_DEG)
    return np.asarray((error_nm > FREE * room_nm) & (np.abs(phase_deg - FREE_DEG) < usual / 2))


def around(mask: Bools, pixels: int) -> Bools:
    """Return a mask widened along lines."""
    return np.asarray(ndimage.binary_dilation(mask, np.ones((1, 3), bool), iterations=pixels))


def combined(
    heights: tuple[Floats, Floats],
    errors: tuple[Floats, Floats],
    flights: list[Bools],
    room_nm: float,
    knots_a_line: int,
    down: bool = True,
) -> Floats:
    """Return the surface from trace and retrace: each counts where it taps.

    Where a way taps, it tells height - error. Where both fly, the surface lies at least A0 - Asp
    below the lower one; it is taken to run straight between the nearest places that were tapped,
    or that deep if these are higher.

    Parameters
    ----------
    heights, errors, flights : two of (ny, nx)
        Trace and retrace; where the tip flies.
    room_nm
        A0 - Asp.
    knots_a_line
        Pixels from one line to the next, there and back, turns included.
    down
        Whether rows were scanned downwards.
    """
    there, back = (height - error for height, error in zip(heights, errors, strict=True))
    first, second = (~around(flight, LANDING) for flight in flights)
    step = 1 if down else -1
    before, taps_before = np.roll(back, step, axis=0), np.roll(second, step, axis=0)
    between = np.clip(  # a cubic would swing over beside the edge of a pit
        loop_correction.on_rows_of_trace(back, knots_a_line, down),
        np.minimum(back, before),
        np.maximum(back, before),
    )
    agreed, _ = loop_correction.mean_of_ways(there, back, knots_a_line, down)
    surface = np.where(first & second & taps_before, agreed, there)
    highest = heights[0] - room_nm
    lenders = [(back, second), (before, taps_before), (between, second & taps_before)]
    known = _lend(surface, first, highest, lenders)
    return _bridged(surface, known, np.minimum(highest, heights[1] - room_nm))


def _lend(
    surface: Floats, tapped: Bools, highest: Floats, lenders: list[tuple[Floats, Bools]]
) -> Bools:
    """Fill flights of the trace, in place, from the retrace; return what is known then.

    The retrace ran up to a row before and behind. Of these rows, and what lies between them, each
    flight gets the one that agrees best with the trace: outside the flight with what it tapped,
    and within by not being higher than where it flew.
    """
    known = tapped.copy()
    labels, n = ndimage.label(~tapped, ALONG_A_LINE)
    for rows, run in ndimage.find_objects(labels, n):
        row, width = rows.start, max(5, (run.stop - run.start) // 2)
        near = slice(max(run.start - width, 0), run.stop + width)
        misfits = []
        for values, taps in lenders:
            gap = np.where(
                tapped[row, near],
                np.abs(values[row, near] - surface[row, near]),
                np.maximum(values[row, near] - highest[row, near], 0.0),
            )[taps[row, near]]
            misfits.append(float(gap.mean()) if gap.size else np.inf)
        values, taps = lenders[int(np.argmin(misfits))]
        lent = taps[row, run]
        surface[row, run][lent] = values[row, run][lent]
        known[row, run] = lent
    return known


def _bridged(surface: Floats, known: Bools, bound: Floats) -> Floats:
    """Return rows whose unknown pixels run straight from neighbour to neighbour, below a bound."""
    filled = surface.copy()
    at = np.arange(surface.shape[1])
    for row, sure, highest, out in zip(surface, known, bound, filled, strict=True):
        if sure.any() and not sure.all():
            out[~sure] = np.minimum(np.interp(at[~sure], at[sure], row[sure]), highest[~sure])
        elif not sure.any():
            out[:] = highest
    return filled


def mean_flight(flight: Bools, height_nm: Floats, least_nm: float) -> float:
    """Return the mean length of flights behind the deepest steps down, in pixels; 0 without any.

    A flight is a run of pixels of a line over which the trace falls, by `least_nm` at least, and by
    `DEEP` of the deepest fall: a corner of a pit counts no more than a border of the image, where a
    flight isn't whole.
    """
    labels, n = ndimage.label(flight, ALONG_A_LINE)
    runs = [
        (run.stop - run.start, height_nm[row.start, run.start - 1] - height_nm[row.start, run.stop])
        for row, run in ndimage.find_objects(labels, n)
        if run.start > 0 and run.stop < flight.shape[1]
    ]
    lengths, falls = np.array(runs, np.float64).reshape(-1, 2).T
    deep = falls > max(least_nm, DEEP * float(np.max(falls, initial=0.0)))
    return float(np.mean(lengths[deep])) if deep.any() else 0.0

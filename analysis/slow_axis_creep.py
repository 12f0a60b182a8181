"""How an open-loop scanner's slow axis creeps after its ramps.

After a move of length L a piezo goes on by g L lg(t / 0.1 s), g 1 to 2 % in open loop (Physik
Instrumente's piezo tutorial). The ramps of a raster are known, so the course of their creep is:
only g isn't.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

CREEP_UNIT_S = 0.1
"""Time after a move at which creep is counted from; there is none before."""


def ramp_creep_px(
    times_s: npt.ArrayLike, starts_s: npt.ArrayLike, ends_s: npt.ArrayLike, ny: int
) -> Floats:
    """Return how far the slow axis has crept in rows, for a creep of 1 % a decade.

    An open-loop piezo creeps after every move, g L lg(t / 0.1 s), and a ramp is a row of small
    moves; their creeps add up. So rows lie too far on in the direction of the scan, the more the
    later in a frame, and some time passes after the slow axis turns until they do so again.

    Parameters
    ----------
    times_s : (2, ny)
        When each row was read, rising where the frame is scanned downwards.
    starts_s, ends_s : (2,)
        When the ramp of each frame begins and ends. What the slow axis moves by in between, and
        to the first one's start from the middle, it does right after the ramp before.
    ny : int
        Rows that a ramp passes.
    """
    t = np.asarray(times_s, np.float64)
    starts, ends = (np.asarray(a, np.float64) for a in (starts_s, ends_s))
    crept, at, waited = np.zeros_like(t), 0.0, starts[1] - ends[0]
    for frame, (start, end) in enumerate(zip(starts, ends, strict=True)):
        first = -0.5 * ny if t[frame, -1] > t[frame, 0] else 0.5 * ny
        crept += (first - at) * decades(t - start + waited)
        per_s = -2 * first / (end - start)
        crept += per_s * (_decade_seconds(t - start) - _decade_seconds(t - end))
        at = -first
    return 0.01 * crept


def decades(t_s: Floats) -> Floats:
    """Return lg(t / 0.1 s), 0 before."""
    return np.asarray(np.log10(np.maximum(t_s, CREEP_UNIT_S) / CREEP_UNIT_S))


def _decade_seconds(t_s: Floats) -> Floats:
    """Return the integral of the decades over time."""
    t = np.maximum(t_s, CREEP_UNIT_S)
    return np.asarray(t * decades(t) - (t - CREEP_UNIT_S) / np.log(10))

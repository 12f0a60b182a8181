"""Compiled inner loops of bursts: dyes that jump from state to state, and the frames they touch.

Random numbers come from xoshiro256++ generators (D. Blackman & S. Vigna, ACM Trans. Math. Softw. 47
(2021) 36), one a dye, whose states come from the key and the dye's number by SplitMix64 (G. L.
Steele, D. Lea & C. H. Flood, OOPSLA 2014). All kernels live in this one file because numba's cache
does not notice an edited callee in another.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
State = tuple[np.uint64, np.uint64, np.uint64, np.uint64]

compiled = numba.njit(cache=True, nogil=True, error_model="numpy")
inlined = numba.njit(nogil=True, error_model="numpy", forceinline=True)

# ---- random numbers ------------------------------------------------------------------------------


@inlined
def _mixed(z: np.uint64) -> np.uint64:
    """Return SplitMix64's output function: every bit of the word reaches every bit."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@inlined
def _stream(key: Array, number: np.uint64) -> State:
    """Return the state of the generator of one dye."""
    step = np.uint64(0x9E3779B97F4A7C15)
    a = _mixed(key[0] + step * (number + np.uint64(1)))
    b = _mixed(key[1] ^ a)
    return _mixed(a + step), _mixed(b + step), _mixed(a ^ step), _mixed(b ^ (step << np.uint64(1)))


@inlined
def _rotated(word: np.uint64, bits: int) -> np.uint64:
    return (word << np.uint64(bits)) | (word >> np.uint64(64 - bits))


@inlined
def _uniform(s: State) -> tuple[float, State]:
    """Return the middle of one of 2^52 equal parts of 0 ... 1: never 0 or 1."""
    s0, s1, s2, s3 = s
    word = _rotated(s0 + s3, 23) + s0
    shifted = s1 << np.uint64(17)
    s2 ^= s0
    s3 ^= s1
    s1 ^= s2
    s0 ^= s3
    u = (np.float64(word >> np.uint64(12)) + 0.5) * 2.0**-52
    return u, (s0, s1, s2 ^ shifted, _rotated(s3, 45))


# ---- dyes ----------------------------------------------------------------------------------------


@inlined
def _next_jump(
    t: float, step: int, endured: float, a: float, b: float, c: float,
    edges: Array, exciting: Array, activating: Array, fluence: Array, activated: Array,
) -> tuple[float, int]:  # fmt: skip
    """Return when a + b I_exc + c I_act, integrated from t, reaches `endured`, and in which step.

    The time is inf if it doesn't.
    """
    m = len(exciting)
    rate = a + b * exciting[step] + c * activating[step]
    if endured < rate * (edges[step + 1] - t):
        return t + endured / rate, step
    endured -= rate * (edges[step + 1] - t)
    lo, hi = step + 1, m  # the jump comes after edge lo, if at all
    t0, f0, g0 = edges[lo], fluence[lo], activated[lo]
    if a * (edges[m] - t0) + b * (fluence[m] - f0) + c * (activated[m] - g0) <= endured:
        return math.inf, m - 1
    width = 1
    while lo + width < hi:  # in steps that double, as jumps are often near
        j = lo + width
        if a * (edges[j] - t0) + b * (fluence[j] - f0) + c * (activated[j] - g0) > endured:
            hi = j
            break
        lo = j
        width *= 2
    while hi - lo > 1:
        j = (lo + hi) // 2
        if a * (edges[j] - t0) + b * (fluence[j] - f0) + c * (activated[j] - g0) > endured:
            hi = j
        else:
            lo = j
    rest = endured - (a * (edges[lo] - t0) + b * (fluence[lo] - f0) + c * (activated[lo] - g0))
    rate = a + b * exciting[lo] + c * activating[lo]
    return min(edges[lo] + max(rest, 0.0) / rate, edges[lo + 1]), lo


@compiled
def play(
    key: Array, numbers: Array, excitation: Array, activation: Array, brightness: Array,
    dark_rate: Array, excited_rate: Array, activated_rate: Array, photons: Array, bright: Array,
    lost: Array, start: Array, edges: Array, exciting: Array, activating: Array, fluence: Array,
    activated: Array, run_of_step: Array, run_edges: Array, fill: bool, offsets: Array,
    dye_out: Array, start_out: Array, duration_out: Array, rate_out: Array, blink_out: Array,
    end_state: Array, bleach: Array,
) -> None:  # fmt: skip
    """Count each dye's rows (offsets[d + 1]) or, with offsets summed up, write them.

    A run is a stretch of steps with one excitation.
    """
    n_states = len(bright)
    out_dark, out_excited = dark_rate.sum(axis=1), excited_rate.sum(axis=1)
    out_activated = activated_rate.sum(axis=1)
    run_excitation = np.empty(len(run_edges) - 1)
    for step in range(len(exciting)):
        run_excitation[run_of_step[step]] = exciting[step]
    end = edges[len(edges) - 1]
    for d in range(len(numbers)):
        f, g = excitation[d], activation[d]
        s = _stream(key, numbers[d])
        u, s = _uniform(s)
        chances = start[min(d, len(start) - 1)]
        state = 0
        while state < n_states - 1 and u >= chances[state]:
            state += 1
        t, step, row, blink, shining = edges[0], 0, offsets[d], -1, False
        held, held_from, held_to, held_rate, held_blink = False, 0.0, 0.0, 0.0, 0
        bleach[d] = t if lost[state] else math.inf
        while True:
            if bright[state] and not shining:
                blink += 1
            shining = bright[state]
            a, b, c = out_dark[state], out_excited[state] * f, out_activated[state] * g
            u, s = _uniform(s)
            jump, at = _next_jump(
                t, step, -math.log(u), a, b, c, edges, exciting, activating, fluence, activated
            )
            if shining:
                run, since, until = run_of_step[step], t, min(jump, end)
                while since < until:
                    upto = min(run_edges[run + 1], until)
                    rate = photons[state] * run_excitation[run] * f * brightness[d]
                    if held and (held_to != since or held_rate != rate or held_blink != blink):
                        if fill:
                            dye_out[row], start_out[row], blink_out[row] = d, held_from, held_blink
                            duration_out[row], rate_out[row] = held_to - held_from, held_rate
                        row += 1
                        held = False
                    if held:
                        held_to = upto
                    elif rate > 0.0:
                        held, held_from, held_to, held_rate = True, since, upto, rate
                        held_blink = blink
                    since = upto
                    run += 1
            if jump >= end:
                break
            into_excited, into_activated = f * exciting[at], g * activating[at]
            whole = a + b * exciting[at] + c * activating[at]
            u, s = _uniform(s)
            left, target = u * whole, -1
            for j in range(n_states):
                rate = (
                    dark_rate[state, j]
                    + excited_rate[state, j] * into_excited
                    + activated_rate[state, j] * into_activated
                )
                if rate > 0.0:
                    target = j  # the last possible one, should rounding leave something over
                    left -= rate
                    if left < 0.0:
                        break
            state, t, step = target, jump, at
            if lost[state]:
                bleach[d] = t
                break
        if held:
            if fill:
                dye_out[row], start_out[row], blink_out[row] = d, held_from, held_blink
                duration_out[row], rate_out[row] = held_to - held_from, held_rate
            row += 1
        end_state[d] = state
        if not fill:
            offsets[d + 1] = row - offsets[d]


# ---- frames --------------------------------------------------------------------------------------


@compiled
def list_rows(
    start: Array, duration: Array, rate: Array, first: float, period: float, exposure: float,
    n: int, offsets: Array, fill: bool, rows: Array, photons: Array,
) -> None:  # fmt: skip
    """Count the rows in each window (offsets[k + 1]) or, with offsets summed up, list them."""
    place = offsets[:-1].copy() if fill else offsets[1:]
    for i in range(len(start)):
        begin, end = start[i], start[i] + duration[i]
        earliest = max(0.0, math.floor((begin - first - exposure) / period))
        latest = min(n - 1.0, math.floor((end - first) / period) + 1.0)
        k = int(min(earliest, float(n)))
        while k <= latest:
            opening = first + k * period
            overlap = min(end, opening + exposure) - max(begin, opening)
            if overlap > 0.0:
                if fill:
                    rows[place[k]] = i
                    if len(photons):
                        photons[place[k]] = rate[i] * overlap
                place[k] += 1
            k += 1


@compiled
def in_window(
    rows: Array, start: Array, duration: Array, rate: Array, opening: float, closing: float
) -> tuple[Array, Array]:
    """Return which of some rows shine between two times, and the photons of each."""
    found, photons = np.empty(len(rows), np.int32), np.empty(len(rows))
    n = 0
    for i in rows:
        overlap = min(start[i] + duration[i], closing) - max(start[i], opening)
        if overlap > 0.0:
            found[n], photons[n] = i, rate[i] * overlap
            n += 1
    return found[:n].copy(), photons[:n].copy()

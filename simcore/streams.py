"""Random numbers by address: one stream for each physical cause, item and frame.

A stream is found by hashing its path (``"item:3/frame:7/counts"``) into the spawn key of a
``SeedSequence``. Nothing is drawn to reach it, so the stream of one cause doesn't depend on
which others exist, on the order of work, or on the number of workers.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt


def stream(root_seed: int, path: tuple[str, ...]) -> np.random.Generator:
    """Return the generator at an address.

    Parameters
    ----------
    root_seed
        The recipe's seed, a non-negative integer.
    path
        Names that lead to the cause, outermost first.
    """
    digest = hashlib.sha256("/".join(path).encode()).digest()
    key = np.frombuffer(digest[:16], dtype="<u4").tolist()
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(root_seed, spawn_key=key)))


def numbers_of_places(
    positions: npt.NDArray[np.float64], key: np.uint64, count: int
) -> npt.NDArray[np.float64]:
    """Return uniform random numbers that hang on places, so that each atom keeps its own.

    The place, to 1e-4 of its unit, and the key are hashed; the hash counts on through a SplitMix64
    generator (G. L. Steele, D. Lea & C. H. Flood, OOPSLA 2014). Whatever else is in view, in
    whatever order, the same place has the same numbers.

    Parameters
    ----------
    positions
        Shape (n, 3).
    key
        One for each cause, from its stream.
    count
        Numbers for each place.

    Returns
    -------
    ndarray, shape (n, count)
        Between 0 and 1, neither included.
    """
    place = np.rint(positions * 1e4).astype(np.int64).view(np.uint64)
    state = np.full(len(positions), key, dtype=np.uint64)
    for axis in range(3):
        state = _mixed(state + place[:, axis])
    uniform = np.empty((len(positions), count))
    for j in range(count):
        state = state + np.uint64(0x9E3779B97F4A7C15)  # wraps round, as it should
        uniform[:, j] = ((_mixed(state) >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    return uniform


def _mixed(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return SplitMix64's output function: every bit of the state reaches every bit."""
    z = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))

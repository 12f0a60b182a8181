"""Random numbers by address: one stream for each physical cause, item and frame.

A stream is found by hashing its path (``"item:3/frame:7/counts"``) into the spawn key of a
``SeedSequence``. Nothing is drawn to reach it, so the stream of one cause doesn't depend on
which others exist, on the order of work, or on the number of workers.
"""

from __future__ import annotations

import hashlib

import numpy as np


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

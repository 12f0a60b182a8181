"""Tables that the samplers of the cameras look up: Poisson numbers and the normal distribution.

They follow from whole numbers or closed forms alone. Compiled kernels keep a copy of them, and
numba's cache notices a change of this file only together with one of `kernels`.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

ZIGGURAT_LAYERS = 256
ZIGGURAT_EDGE = 3.6541528853610088
"""Where the normal distribution's tail begins whose area, with the rectangle before it, is that of
each other layer of 256 (G. Marsaglia & W. W. Tsang, J. Stat. Softw. 5 (2000) 8)."""


def poisson_tables(
    numerator: int, denominator: int, below: float, bits: int
) -> npt.NDArray[np.uint64]:
    """Return alias tables of the means 0, d, 2d ... below a limit, d = numerator / denominator.

    Every table has 2^bits columns (A. J. Walker, ACM Trans. Math. Softw. 3 (1977) 253), one word
    each: see `alias_table`.

    Returns
    -------
    ndarray of uint64, shape (tables * 2^bits,)
        One table after the other.
    """
    count = round(below * denominator / numerator)
    rows = [
        alias_table(poisson_weights(n * numerator, denominator, bits), bits) for n in range(count)
    ]
    return np.array(rows, dtype=np.uint64).ravel()


def poisson_weights(numerator: int, denominator: int, bits: int) -> list[int]:
    """Return the probabilities of 0, 1 ... 2^bits - 1 for a mean, in units of 2^-64.

    They are exact to a unit and add up to 2^64. Larger numbers are left out; for the means in use
    all of them together are less probable than 1e-18.
    """
    terms = [1 << 400]
    for k in range(1, 1 << bits):
        terms.append(terms[-1] * numerator // (denominator * k))
    total = sum(terms)
    weights = [(term << 64) // total for term in terms]
    weights[weights.index(max(weights))] += (1 << 64) - sum(weights)
    return weights


def alias_table(weights: list[int], bits: int) -> list[int]:
    """Return 2^bits columns of equal weight that share out weights which add up to 2^64.

    A column holds its own number below a threshold and one other number above. A word has the
    threshold in its first 64 - `bits` bits and the other number in the last.
    """
    room = 1 << (64 - bits)
    left = list(weights)
    words = [0] * len(left)
    poor = [k for k, weight in enumerate(left) if weight < room]
    rich = [k for k, weight in enumerate(left) if weight >= room]
    while poor:
        k, giver = poor.pop(), rich[-1]
        words[k] = (left[k] << bits) | giver
        left[giver] -= room - left[k]
        if left[giver] < room:
            poor.append(rich.pop())
    for k in rich:
        words[k] = ((room - 1) << bits) | k  # whatever the threshold, both numbers are its own
    return words


def ziggurat() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the half widths of the layers under exp(-x^2 / 2), from below, and its height at them.

    All layers have the same area. The lowest has the tail too: as a rectangle it would be wider
    than the edge. The widths end with a 0.
    """
    edge = ZIGGURAT_EDGE
    tail = math.sqrt(0.5 * math.pi) * math.erfc(edge / math.sqrt(2.0))
    area = edge * math.exp(-0.5 * edge * edge) + tail
    x = [area * math.exp(0.5 * edge * edge), edge]
    while len(x) < ZIGGURAT_LAYERS:
        x.append(math.sqrt(-2.0 * math.log(math.exp(-0.5 * x[-1] ** 2) + area / x[-1])))
    widths = np.array([*x, 0.0])
    return widths, np.exp(-0.5 * widths**2)

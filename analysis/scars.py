"""Find scars and spikes in a height image, and fill them in.

Where feedback loses the surface for a moment or dirt sticks to the tip, a piece of a line is too
high or too low: a scar (stroke), one to a few rows high, that neither the rows above nor those
below know of. So a scar is judged by the *smaller* of its two steps, to the row above and to the
row below: at the edge of a terrace or of a particle only one is large. A particle's top differs
from its neighbours too, but these differ from theirs still more: at a scar they don't.

One pixel of a scar three standard deviations high says little, a run of them much. The pixels'
log-likelihood ratios are summed along the line, and the best way to cut the line into runs is
found exactly (Viterbi), a run costing what it takes for noise not to make one.

Masks are true at scars and spikes; :mod:`nanophantom.analysis.levelling` leaves such pixels out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve

from nanophantom.analysis.levelling import align_rows
from nanophantom.analysis.robust import robust_sigma

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

RUN_COST = 11.0
"""Log-likelihood that a run must gain: noise makes one in a few ten thousand pixels."""
AIM = 0.92
"""Height that runs are scored for, of that to be found: so one just as high is found whole."""
PIXEL_GAIN = 4.0
"""Largest log-likelihood ratio, for or against, of a pixel: a single spike makes no scar."""
EDGE, EDGE_LOSS = 6.0, -1.0
"""By how many standard deviations above and below differ at an edge, and its ratio then."""
LEVEL = 0.9
"""Largest step, of a scar's own, between the two rows on either side of it."""
SMOOTH_PX = 15
"""Pixels along x over which the surface's slope along y is averaged."""
LEAST_MEAN = (0.0, 0.564, 0.846, 1.029, 1.163, 1.267)
LEAST_VARIANCE = (1.0, 0.682, 0.559, 0.492, 0.448, 0.416)
"""Mean below zero and variance of the least of 1, 2, ... standard normal numbers."""


class Run(NamedTuple):
    """A scar: rows from `row` on, columns from `start` to before `stop`."""

    gain: float
    sign: float
    row: int
    rows: int
    start: int
    stop: int


def find(
    image: npt.ArrayLike,
    threshold: float = 3.0,
    max_rows: int = 3,
    min_length: int = 6,
    spike_threshold: float | None = 6.0,
    mask: npt.ArrayLike | None = None,
) -> Bools:
    """Return where an image has scars, too high or too low, and single-pixel spikes.

    Parameters
    ----------
    image : (ny, nx)
        Heights as measured: offsets of whole rows are removed first. What covers more than half
        a row is such an offset, see :func:`nanophantom.analysis.levelling.align_rows`. The first
        and the last row lack a neighbour: no scar is seen there.
    threshold : float
        Height of a scar that shall be found, in standard deviations of the noise between rows.
    max_rows : int
        How many rows high a scar may be.
    min_length : int
        Its length in pixels at least; three times its height in any case.
    spike_threshold : float, optional
        By how many standard deviations a pixel stands out of all its neighbours to be a spike.
        None: spikes aren't looked for.
    mask : (ny, nx) bool, optional
        True where nothing is looked for, nor compared with: known outliers, say.

    Raises
    ------
    ValueError
        The image isn't finite, two-dimensional and of max_rows + 4 rows or more, a mask has
        another shape or leaves nothing, or a parameter isn't positive.
    """
    z = np.asarray(image, np.float64)
    if not (threshold > 0 and 1 <= max_rows <= len(LEAST_MEAN) and min_length >= 1):
        raise ValueError(
            f"threshold and min_length must be positive, max_rows 1 to {len(LEAST_MEAN)}"
        )
    if spike_threshold is not None and not spike_threshold > 0:
        raise ValueError(f"spike_threshold must be positive or None, got {spike_threshold}")
    if z.ndim == 2 and len(z) < max_rows + 4:
        raise ValueError(f"scars of {max_rows} rows want an image of {max_rows + 4} rows or more")
    z = align_rows(z, "median_of_differences", mask)
    known = np.zeros(z.shape, bool) if mask is None else np.asarray(mask)
    runs: list[Run] = []
    # An image without noise: rounding is no scar.
    sigma, fall = max(_noise(z, known), 1e-9 * float(np.ptp(z))), _fall(z)
    if sigma == 0:
        return np.zeros(z.shape, bool)
    for rows in range(1, max_rows + 1):
        length = max(min_length, 3 * rows)
        for sign in (1.0, -1.0):
            runs += _scars(sign * z, sign * fall, known, sigma, threshold, rows, length, sign)
    found = _compatible(runs, z.shape)
    if spike_threshold is not None:
        found |= _spikes(z, known, sigma, spike_threshold)
    return np.asarray(found & ~known)


def inpaint(image: npt.ArrayLike, mask: npt.ArrayLike) -> Floats:
    """Return the image with what is masked filled in, all else unchanged to the last bit.

    A masked pixel becomes the mean of its neighbours (Laplace's equation): a membrane spanned
    between the pixels around.

    Parameters
    ----------
    image : (ny, nx)
        May hold NaN where masked.
    mask : (ny, nx) bool
        True where the image is to be replaced.

    Raises
    ------
    ValueError
        The image isn't two-dimensional and finite outside the mask, or the mask isn't boolean, of
        the image's shape and somewhere false.
    """
    z, masked = np.asarray(image, np.float64), np.asarray(mask)
    if z.ndim != 2 or masked.shape != z.shape or masked.dtype != bool:
        raise ValueError(
            f"an image has two axes and a boolean mask of its shape, got {z.shape} and "
            f"{masked.dtype} {masked.shape}"
        )
    if np.all(masked):
        raise ValueError("the mask leaves no pixel of the image: nothing to fill it in from")
    if not np.all(np.isfinite(z[~masked])):
        raise ValueError("heights outside the mask must be finite")
    filled = z.copy()
    row, column = np.nonzero(masked)
    if not len(row):
        return filled
    number = np.full(z.shape, -1)
    number[row, column] = np.arange(len(row))
    neighbours, source = np.zeros(len(row)), np.zeros(len(row))
    links = []
    for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        y, x = row + dy, column + dx
        inside = np.flatnonzero((y >= 0) & (y < z.shape[0]) & (x >= 0) & (x < z.shape[1]))
        other = number[y[inside], x[inside]]
        neighbours[inside] += 1
        given = inside[other < 0]
        source[given] += z[y[given], x[given]]
        links.append(np.stack([inside[other >= 0], other[other >= 0]]))
    i, j = np.concatenate(links, axis=1)
    shape = (len(row), len(row))
    laplacian = sparse.diags(neighbours) - sparse.csr_matrix((np.ones(len(i)), (i, j)), shape)
    filled[row, column] = spsolve(sparse.csc_matrix(laplacian), source)
    return filled


def _scars(
    z: Floats,
    fall: Floats,
    known: Bools,
    sigma: float,
    threshold: float,
    rows: int,
    min_length: int,
    sign: float,
) -> list[Run]:
    """Return the scars of a number of rows that are too high, `sign` their sign in the image."""
    bands = len(z) - rows - 1  # the band of index i is the rows i + 1 to i + rows
    centre = (rows + 1) // 2
    slope = fall[centre : centre + bands]
    level = [z[r : r + bands] - (r - 0.5 * (rows + 1)) * slope for r in range(rows + 2)]
    above, below, lowest = level[0], level[-1], np.min(level[1:-1], axis=0)
    usable = ~np.any([known[r : r + bands] for r in range(rows + 2)], axis=0)
    step = lowest - np.maximum(above, below)
    usual = LEAST_MEAN[rows - 1] + LEAST_MEAN[1]
    variance = LEAST_VARIANCE[rows - 1] + LEAST_VARIANCE[1]
    height = AIM * threshold
    gain = height / variance * (step / sigma + usual - 0.5 * height)
    # Where the edge of something passes between above and below a pixel tells nothing.
    edge_here = np.abs(above - below) > EDGE * sigma
    gain = np.where(edge_here, EDGE_LOSS, np.clip(gain, -PIXEL_GAIN, PIXEL_GAIN))
    gain = np.where(usable, gain, -PIXEL_GAIN)
    runs = best_runs(gain)

    # Along a ridge the rows beside it fall off still further, beside a scar they go on level.
    first, last = np.zeros_like(above), np.zeros_like(below)
    first[1:], last[:-1] = z[1:bands] - z[: bands - 1], z[rows + 1 : -1] - z[rows + 2 :]
    first, last = first - slope, last + slope
    edge = np.minimum(lowest - above, lowest - below)
    labels, _ = ndimage.label(runs, structure=[[0, 0, 0], [1, 1, 1], [0, 0, 0]])
    found = []
    for place in ndimage.find_objects(labels):
        row, start, stop = place[0].start, place[1].start, place[1].stop
        beside = max(np.median(first[place]), np.median(last[place]))
        if stop - start >= min_length and beside < LEVEL * np.median(edge[place]):
            found.append(Run(float(np.sum(gain[place])), sign, row + 1, rows, start, stop))
    return found


def _compatible(runs: list[Run], shape: tuple[int, ...]) -> Bools:
    """Return the mask of runs, less those that only lie between stronger ones.

    What lies between two scars too high looks too low.
    """
    signs = np.zeros(shape, np.int8)
    for run in sorted(runs, key=lambda run: -run.gain):
        columns = slice(run.start, run.stop)
        around = signs[run.row - 1 : run.row + run.rows + 1, columns]
        if not np.any(around == -run.sign):
            signs[run.row : run.row + run.rows, columns] = run.sign
    return np.asarray(signs != 0)


def _noise(z: Floats, known: Bools) -> float:
    """Return the standard deviation of the noise, from how rows bend."""
    bend = z[1:-1] - 0.5 * (z[:-2] + z[2:])
    usable = ~(known[1:-1] | known[:-2] | known[2:])
    if not np.any(usable):
        raise ValueError("the mask leaves no three neighbouring pixels of a column")
    return float(robust_sigma(bend[usable]) / np.sqrt(1.5))


def _fall(z: Floats) -> Floats:
    """Return the surface's slope along y, that neither scars nor terraces' edges show in."""
    around = np.pad(np.diff(z, axis=0), ((3, 3), (0, 0)), mode="edge")
    slope = np.median([around[i : i + len(z)] for i in range(6)], axis=0)
    return np.asarray(ndimage.uniform_filter1d(slope, SMOOTH_PX, axis=1, mode="nearest"))


def best_runs(gain: Floats) -> Bools:
    """Cut every row into runs whose summed gain, less the cost of a run, is the largest.

    Parameters
    ----------
    gain : (ny, nx)
        Log-likelihood ratio of each pixel: of a run against none.
    """
    columns = np.ascontiguousarray(gain.T)
    stays_on, comes_from_on = np.empty(columns.shape, bool), np.empty(columns.shape, bool)
    off, on = np.zeros(len(gain)), np.full(len(gain), -np.inf)
    for i, g in enumerate(columns):
        stays_on[i], comes_from_on[i] = on >= off - RUN_COST, on > off
        on, off = np.maximum(on, off - RUN_COST) + g, np.maximum(off, on)
    runs = np.empty(columns.shape, bool)
    state = on > off
    for i in range(len(columns) - 1, -1, -1):
        runs[i] = state
        state = np.where(state, stays_on[i], comes_from_on[i])
    return runs.T


def _spikes(z: Floats, known: Bools, sigma: float, threshold: float) -> Bools:
    """Return pixels that stand out of all eight neighbours by so many standard deviations."""
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    filled = np.where(known, np.median(z[~known]), z)
    highest = ndimage.maximum_filter(filled, footprint=ring, mode="nearest")
    lowest = ndimage.minimum_filter(filled, footprint=ring, mode="nearest")
    # The highest of eight neighbours lies 1.42 standard deviations above their mean already.
    beyond = (threshold - 1.42) * sigma
    return np.asarray((z - highest > beyond) | (lowest - z > beyond))

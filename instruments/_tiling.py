"""How a scan is cut into tiles: pieces of specimen that several positions of the probe share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nanophantom.instruments._scanning import ScanPath
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.fft import fast_length

Ints = npt.NDArray[np.int64]

MOST_LINES_A_TILE = 8
"""Lines that share a tile, at most: a worker gets about as many at a time."""


@dataclass(frozen=True)
class Tiling:
    """How a scan is cut into tiles.

    Attributes
    ----------
    shape : (ny, nx)
        Samples of every tile.
    lines, positions
        Lines of the scan that share a row of tiles, and positions of a line that share a tile.
    keeps
        Whether the transmission functions of a row of tiles are kept from line to line.
    """

    shape: tuple[int, int]
    lines: int
    positions: int
    keeps: bool

    @classmethod
    def within(
        cls,
        path: ScanPath,
        window: Grid,
        slices: int,
        configurations: int,
        fineness: int,
        budget_bytes: float,
    ) -> Tiling:
        """Choose the largest tiles that memory allows: each sample of specimen is then made once.

        Half of the budget is for the transmission functions that are kept, those of a row of
        tiles for several lines if that much fits, else those of one tile and configuration.
        Where not even a single window fits, slices are made and used up one after another.
        """
        _, height, width = path.t_s.shape
        kept, made = 8 * max(1, slices), 30 * fineness**2
        first = first_samples(path, window, slice(None), slice(None))

        def fits(shape: tuple[int, int], copies: int) -> bool:
            return shape[0] * shape[1] * max(kept * copies, made) <= budget_bytes / 2

        for lines in range(min(MOST_LINES_A_TILE, height), 1, -1):
            shape = tile_shape(first, window, lines, width)
            if fits(shape, configurations):
                return cls(shape, lines, width, True)
        positions = width
        shape = tile_shape(first, window, 1, positions)
        while positions > 1 and not fits(shape, 1):
            positions = min(positions - 1, math.ceil(0.8 * positions))
            shape = tile_shape(first, window, 1, positions)
        positions = -(-width // -(-width // positions))  # as many tiles, of one length
        return cls(tile_shape(first, window, 1, positions), 1, positions, False)


def first_samples(
    path: ScanPath, window: Grid, scans: int | slice, lines: int | slice
) -> tuple[Ints, Ints]:
    """Return the first sample (y, x) of positions' windows, on the specimen's raster."""
    step_nm = window.sampling_A[0] / 10
    y, x = (
        np.rint(at[scans, lines] / step_nm).astype(np.int64) - window.shape[0] // 2
        for at in (path.y_nm, path.x_nm)
    )
    return y, x


def tile_shape(
    first: tuple[Ints, Ints], window: Grid, lines: int, positions: int
) -> tuple[int, int]:
    """Return the shape that holds the windows of any such group of positions.

    Parameters
    ----------
    first : two (scans, height, width) int
        Their first samples, y and x.
    """
    _, height, width = first[0].shape
    rows, columns = np.arange(0, height, lines), np.arange(0, width, positions)
    shape = []
    for samples, n in zip(first, window.shape, strict=True):
        low, high = (
            at.reduceat(at.reduceat(samples, rows, axis=1), columns, axis=2)
            for at in (np.minimum, np.maximum)
        )
        shape.append(fast_length(n + int((high - low).max())))
    return shape[0], shape[1]

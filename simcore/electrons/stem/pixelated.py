"""A camera in the diffraction plane of a STEM: what a wave gives to each of its pixels.

A periodic wave is known at a lattice of frequencies. Each coefficient stands for its cell of that
lattice, and its intensity is shared out to the pixels by the area they have in common with the
cell. Cell and pixels are rectangles with parallel edges, so the shares are products of overlaps
along y and along x, and what falls on the camera is conserved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from pydantic import Field

from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.models import Model

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class PixelatedDetector(Model):
    """A camera that counts single electrons, its middle on the optical axis."""

    width_px: int = Field(default=128, ge=4, le=4096)
    """Pixels along x."""
    height_px: int = Field(default=128, ge=4, le=4096)
    """Pixels along y."""
    pixel_size_mrad: float = Field(default=1.0, gt=0)
    """Angle that the edge of a pixel subtends."""
    efficiency: float = Field(default=1.0, gt=0, le=1, json_schema_extra={"dimensionless": True})
    """Fraction of the arriving electrons that is counted."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height_px, self.width_px

    @property
    def centre_px(self) -> tuple[float, float]:
        """Where the optical axis meets the camera, (row, column); 0 is the middle of a pixel."""
        return (self.height_px - 1) / 2, (self.width_px - 1) / 2

    @property
    def reach_mrad(self) -> float:
        """Largest angle that it sees, in a corner."""
        return 0.5 * self.pixel_size_mrad * math.hypot(*self.shape)

    def read(self, expected: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[Any]:
        """Count electrons where so many are expected.

        Raises
        ------
        ValueError
            More electrons in a pixel than a 16-bit counter holds.
        """
        counts = rng.poisson(expected)
        if counts.max(initial=0) > np.iinfo(np.uint16).max:
            raise ValueError(
                f"instrument.camera: {counts.max()} electrons in a pixel overflow a 16-bit "
                "counter; lower beam_current_pa, scan.dwell_us or camera.pixel_size_mrad"
            )
        return counts.astype(np.uint16)


@dataclass(frozen=True, eq=False)
class Binning:
    """Shares of a camera's pixels in the coefficients of a wave.

    Attributes
    ----------
    shape : (height, width)
        Pixels.
    rows, columns : (m, q) int
        Pixels that the cells of the wave's rows, and columns, overlap.
    row_shares, column_shares : (m, q)
        The part of a cell that lies there; a sum below 1 means that some misses the camera.
    angle_y_mrad, angle_x_mrad : (m,)
        Angles of the wave's rows and columns.
    """

    shape: tuple[int, int]
    rows: Ints
    row_shares: Floats
    columns: Ints
    column_shares: Floats
    angle_y_mrad: Floats
    angle_x_mrad: Floats

    @classmethod
    def of(cls, camera: PixelatedDetector, grid: Grid, energy_kev: float) -> Binning:
        """Share out the coefficients of a grid's waves.

        Raises
        ------
        ValueError
            The cell of the grid is no rectangle.
        """
        if grid.shear_A:
            raise ValueError("a camera's pixels share the frequencies of rectangular cells only")
        mrad = 1e3 * float(wavelength(energy_kev))
        ky, kx = grid.wave_frequencies
        (ly, lx), (height, width), pixel = grid.extent_A, camera.shape, camera.pixel_size_mrad
        y, x = mrad * ky.ravel(), mrad * kx.ravel()
        rows = _overlaps(y / pixel + height / 2, mrad / ly / pixel, height)
        columns = _overlaps(x / pixel + width / 2, mrad / lx / pixel, width)
        return cls(camera.shape, *rows, *columns, y, x)

    def add(
        self,
        wave_k: npt.NDArray[Any],
        weight: float,
        pattern: npt.NDArray[np.float32],
        moments: Floats,
    ) -> None:
        """Add the intensity of a wave to a pattern.

        Parameters
        ----------
        wave_k : (my, mx) complex
            Coefficients, of the grid's `wave_shape`.
        weight
            Of this wave among those that are averaged.
        pattern : (height, width) float32
            Gains what falls on each pixel.
        moments : (3,) float64
            Gains the sums of the intensity, and of it times the angles x and y (mrad), over all
            coefficients, whether the camera sees them or not.
        """
        _bin(
            wave_k,
            weight,
            (self.rows, self.row_shares),
            (self.columns, self.column_shares),
            (self.angle_y_mrad, self.angle_x_mrad),
            pattern,
            moments,
        )


def _overlaps(centres: Floats, width: float, pixels: int) -> tuple[Ints, Floats]:
    """Return which pixels cells overlap, and with what part of the cell.

    Centres and width of the cells are in pixels; pixel i reaches from i to i + 1.
    """
    low = centres - width / 2
    # a cell whose edge lies on a pixel's edge must not lose it to rounding
    place = np.floor(low + 1e-9)[:, None] + np.arange(math.ceil(width) + 1)
    inside = np.minimum(low[:, None] + width, place + 1) - np.maximum(low[:, None], place)
    shares = np.clip(inside / width, 0.0, 1.0) * ((place >= 0) & (place < pixels))
    return np.clip(place, 0, pixels - 1).astype(np.int64), np.asarray(shares)


@numba.njit(cache=True, nogil=True)
def _bin(
    wave: Any, weight: float, rows: Any, columns: Any, angles: Any, pattern: Any, moments: Any
) -> None:
    (row, row_share), (column, column_share), (angle_y, angle_x) = rows, columns, angles
    line = np.empty(pattern.shape[1], np.float64)
    for i in range(wave.shape[0]):
        line[:] = 0.0
        total = 0.0
        total_x = 0.0
        for j in range(wave.shape[1]):
            value = wave[i, j]
            intensity = weight * (float(value.real) ** 2 + float(value.imag) ** 2)
            total += intensity
            total_x += intensity * angle_x[j]
            for q in range(column.shape[1]):
                line[column[j, q]] += intensity * column_share[j, q]
        moments[0] += total
        moments[1] += total_x
        moments[2] += total * angle_y[i]
        for q in range(row.shape[1]):
            share = row_share[i, q]
            if share > 0.0:
                for x in range(len(line)):
                    pattern[row[i, q], x] += share * line[x]

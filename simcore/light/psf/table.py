"""Point spread functions sampled once, for thousands of spots: build a table, add spots from it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.fields import read_only
from nanophantom.simcore.light.psf import kernels, splines
from nanophantom.simcore.light.psf.harmonics import Harmonics
from nanophantom.simcore.light.psf.spots import Image, columns

Floats = npt.NDArray[np.float64]

FAINT = 7e-4  # of a plane's brightest pixel: what the skirt may hold at most
POLAR_MARGIN = 3  # samples on either side that six-point interpolation along r needs
GRID_MARGIN = 8  # pixels beyond the reach that splines and the integral over pixels need


@dataclass(frozen=True, eq=False)
class PsfTable:
    """A pixel-integrated point spread function on sub-pixel positions and planes of z.

    The energy of the infinite image of one photon is 1 at every z; what falls beyond the table's
    reach is lost to an image, and stated.

    Attributes
    ----------
    core : (planes + 2, phases, phases, side * side) float32
        Coefficients of cubic splines; see :func:`kernels.add_spots`.
    skirt : (planes, 2 reach_px + 1, 2 reach_px + 1) float32
        The faint rest around the core; no planes where there is none.
    outside : (planes,)
        Energy beyond the reach.
    z_nm : (planes,)
        Heights of the emitter above the coverslip, even.
    core_reach_px, reach_px
        Pixels drawn on either side of the one that holds a spot's centre: of the core, in all.
    pixel_size_nm, wavelength_nm, focus_nm
        What the table was made for.
    """

    core: Image
    skirt: Image
    outside: Floats
    z_nm: Floats
    core_reach_px: int
    reach_px: int
    pixel_size_nm: float
    wavelength_nm: float
    focus_nm: float

    @property
    def reach_nm(self) -> float:
        """How far from its centre a spot is drawn."""
        return self.reach_px * self.pixel_size_nm

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return self.core.nbytes + self.skirt.nbytes

    def add(
        self,
        image: Image,
        x_px: npt.ArrayLike,
        y_px: npt.ArrayLike,
        z_nm: npt.ArrayLike,
        photons: npt.ArrayLike,
    ) -> None:
        """Add spots to an image, in place; see :class:`SpotRenderer`.

        Raises
        ------
        ValueError
            A height lies outside the table's, or the arguments don't fit together.
        """
        x, y, z, n = columns(image, x_px, y_px, z_nm, photons)
        if not z.size:
            return
        step = (self.z_nm[-1] - self.z_nm[0]) / (len(self.z_nm) - 1)
        if z.min() < self.z_nm[0] - 1e-6 * step or z.max() > self.z_nm[-1] + 1e-6 * step:
            raise ValueError(
                f"spots lie at z = {z.min():g} ... {z.max():g} nm; the table of the point spread "
                f"function holds {self.z_nm[0]:g} ... {self.z_nm[-1]:g} nm"
            )
        planes = (z - self.z_nm[0]) / step
        kernels.add_spots(
            image, x, y, planes, n, self.core, self.core_reach_px, self.skirt, self.reach_px
        )

    def at(self, z_nm: float, ny: int, nx: int, x: float, y: float) -> Image:
        """Return the image of one photon: shape (ny, nx), centred at pixel x, y."""
        image = np.zeros((ny, nx), np.float32)
        self.add(image, [x], [y], [z_nm], [1.0])
        return image


def planes_over(z_range_nm: tuple[float, float], step_nm: float) -> Floats:
    """Return even heights that cover a range, five or more, from its low end on.

    Raises
    ------
    ValueError
        The range is no range, or the step isn't positive.
    """
    low, high = z_range_nm
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"z_range_nm must be (low, high), got {z_range_nm}")
    if not step_nm > 0:
        raise ValueError(f"z_step_nm must be positive, got {step_nm:g}")
    steps = max(4, math.ceil((high - low) / step_nm - 1e-9))
    # a range of less than four steps is sampled beyond its upper end
    step = max((high - low) / steps, step_nm if high - low < 4 * step_nm else 0.0)
    return np.asarray(low + step * np.arange(steps + 1))


def build(
    pupil: Harmonics,
    z_nm: Floats,
    pixel_size_nm: float,
    reach_nm: float,
    period_nm: float,
    wavelength_nm: float,
    focus_nm: float,
) -> PsfTable:
    """Sample the image of a pupil.

    Parameters
    ----------
    pupil
        With one plane for each height.
    z_nm : (planes,)
        Heights of the emitter.
    pixel_size_nm, reach_nm
        Size of a pixel; how far from its centre a spot is drawn at least.
    period_nm
        Shortest period in the image, wavelength / (2 NA); it sets the sampling.
    wavelength_nm, focus_nm
        Noted in the table.
    """
    reach = math.ceil(reach_nm / pixel_size_nm)
    r_step = period_nm / 10.0
    corner = math.sqrt(2.0) * (reach + 1 + GRID_MARGIN) * pixel_size_nm
    n_r = math.ceil(corner / r_step) + 2 * POLAR_MARGIN + 1
    polar = pupil.polar(r_step * np.arange(-POLAR_MARGIN, n_r - POLAR_MARGIN, dtype=np.float64))
    pixels = _on_pixels(polar, r_step, pixel_size_nm, reach)
    core_reach = _core_reach(pixels)
    outside = 1.0 - pixels.sum(axis=(1, 2))
    inner = slice(reach - core_reach, reach + core_reach + 1)
    pixels[:, inner, inner] = 0.0
    phases = max(2, math.ceil(6.0 * pixel_size_nm / period_nm))
    return PsfTable(
        core=read_only(_core(polar, r_step, pixel_size_nm, core_reach, phases)),
        skirt=read_only(pixels if core_reach < reach else pixels[:0]),
        outside=outside,
        z_nm=z_nm,
        core_reach_px=core_reach,
        reach_px=reach,
        pixel_size_nm=pixel_size_nm,
        wavelength_nm=wavelength_nm,
        focus_nm=focus_nm,
    )


def _on_pixels(polar: Image, r_step: float, pixel_size_nm: float, reach: int) -> Image:
    """Return spots at a pixel's centre, (planes, y, x), integrated by the trapezoidal rule.

    Two steps a pixel give the skirt's ripple to a tenth, and its energy far better, because the
    errors of neighbouring pixels cancel.
    """
    n = 2 * reach + 1
    density = kernels.resample(polar, r_step, POLAR_MARGIN, n, 0.5 * pixel_size_nm)
    weights = np.zeros((n, 2 * n + 1), np.float32)
    for i in range(n):
        weights[i, 2 * i : 2 * i + 3] = pixel_size_nm * np.array([0.25, 0.5, 0.25])
    return np.asarray(weights @ density @ weights.T)


def _core_reach(pixels: Image) -> int:
    """Return the half-width of the square outside which all planes are faint, a pixel to spare."""
    reach = pixels.shape[-1] // 2
    away = np.abs(np.arange(-reach, reach + 1))
    bright = (pixels > FAINT * pixels.max(axis=(1, 2), keepdims=True)).any(axis=0)
    farthest = int(np.where(bright, np.maximum(away[:, None], away), 0).max())
    return min(farthest + 1, int(reach))


def _core(polar: Image, r_step: float, pixel_size_nm: float, reach: int, phases: int) -> Image:
    """Return the coefficients of the core; see :func:`kernels.add_spots`."""
    side = 2 * reach + 3
    low, high = phases * (reach + 1), phases * (side - reach - 1) - 1
    half = max(low, high) + splines.lost(phases)
    density = kernels.resample(polar, r_step, POLAR_MARGIN, half, pixel_size_nm / phases)
    rows = splines.pixel_operator(2 * half + 1, phases)
    middle = len(rows) // 2
    rows = (pixel_size_nm * rows[middle - low : middle + high + 1]).astype(np.float32)
    along_z = splines.axial_operator(len(density)).astype(np.float32)
    coefficients = np.tensordot(along_z, rows @ density @ rows.T, axes=1)
    split = coefficients.reshape(-1, side, phases, side, phases).transpose(0, 2, 4, 1, 3)
    return np.asarray(split.reshape(-1, phases, phases, side * side))

"""How wide a point spread function is, where it is in focus, and pairs of planes of focus."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import numpy.typing as npt
import scipy.interpolate
import scipy.optimize

from nanophantom.simcore.light.psf.optics import Optics
from nanophantom.simcore.light.psf.spots import SpotRenderer

Floats = npt.NDArray[np.float64]


class PointSpread(Protocol):
    """What the models of point spread functions share."""

    def density(
        self,
        optics: Optics,
        wavelength_nm: float,
        x_nm: npt.ArrayLike,
        y_nm: npt.ArrayLike,
        z_nm: npt.ArrayLike,
        focus_nm: npt.ArrayLike = 0.0,
    ) -> Floats:
        """Return the image of a photon at points, (planes, points), 1/nm^2."""
        ...

    def table(
        self,
        optics: Optics,
        wavelength_nm: float,
        pixel_size_nm: float,
        z_range_nm: tuple[float, float],
        focus_nm: float = 0.0,
    ) -> SpotRenderer:
        """Return a renderer of spots at any z, at one setting of the focus."""
        ...


def fwhm(positions: npt.ArrayLike, values: npt.ArrayLike) -> float:
    """Return the full width at half maximum of a sampled peak, between crossings of its spline.

    Raises
    ------
    ValueError
        The values don't fall to half their maximum on both sides.
    """
    x, y = np.asarray(positions, np.float64), np.asarray(values, np.float64)
    spline = scipy.interpolate.CubicSpline(x, y)
    tops = spline.derivative().roots(extrapolate=False)
    candidates = np.concatenate([x, tops[np.isfinite(tops)]])
    heights = spline(candidates)
    top, height = candidates[heights.argmax()], heights.max()
    crossings = spline.solve(0.5 * height, extrapolate=False)
    below, above = crossings[crossings < top], crossings[crossings > top]
    if not below.size or not above.size:
        raise ValueError("the peak doesn't fall to half its maximum on both sides: widen the range")
    return float(above.min() - below.max())


def lateral_fwhm_nm(
    psf: PointSpread,
    optics: Optics,
    wavelength_nm: float,
    z_nm: float = 0.0,
    focus_nm: float = 0.0,
    direction_deg: float = 0.0,
) -> float:
    """Return the full width at half maximum through the centre of a spot, without pixels, nm.

    Parameters
    ----------
    z_nm, focus_nm
        Height of the emitter and setting of the focus.
    direction_deg
        Direction of the line, 0 along x, 90 along y.
    """
    r = np.linspace(-2.5, 2.5, 251) * wavelength_nm / optics.na
    angle = math.radians(direction_deg)
    line = (r * math.cos(angle), r * math.sin(angle))
    return fwhm(r, psf.density(optics, wavelength_nm, *line, z_nm, focus_nm)[0])


def best_focus_nm(
    psf: PointSpread, optics: Optics, wavelength_nm: float, z_nm: float = 0.0
) -> float:
    """Return the setting of the focus that makes an emitter's spot brightest at its centre, nm."""
    span = _depth_of_field(optics, wavelength_nm) + 0.7 * abs(z_nm)
    focus = z_nm + np.linspace(-1.0, 1.0, 241) * 1.5 * span
    axis = psf.density(optics, wavelength_nm, 0.0, 0.0, z_nm, focus)[:, 0]
    i = int(np.clip(axis.argmax(), 1, len(axis) - 2))
    found = scipy.optimize.minimize_scalar(
        lambda f: -float(psf.density(optics, wavelength_nm, 0.0, 0.0, z_nm, f)[0, 0]),
        bounds=(focus[i - 1], focus[i + 1]),
        method="bounded",
        options={"xatol": 0.01},
    )
    return float(found.x)


def axial_fwhm_nm(
    psf: PointSpread, optics: Optics, wavelength_nm: float, z_nm: float = 0.0
) -> float:
    """Return the full width at half maximum along the axis of a focus scan over an emitter, nm."""
    span = 2.5 * _depth_of_field(optics, wavelength_nm) + 0.7 * abs(z_nm)
    focus = best_focus_nm(psf, optics, wavelength_nm, z_nm) + np.linspace(-1.0, 1.0, 401) * span
    return fwhm(focus, psf.density(optics, wavelength_nm, 0.0, 0.0, z_nm, focus)[:, 0])


def _depth_of_field(optics: Optics, wavelength_nm: float) -> float:
    n = optics.immersion_index
    return wavelength_nm / (n - math.sqrt(n**2 - optics.na**2))


def biplane(
    psf: PointSpread,
    optics: Optics,
    wavelength_nm: float,
    pixel_size_nm: float,
    z_range_nm: tuple[float, float],
    focus_nm: float,
    distance_nm: float,
) -> tuple[SpotRenderer, SpotRenderer]:
    """Return renderers of two cameras focused half a distance below and above a setting.

    Each draws all photons that it is given: the instrument splits them.
    """
    lower, upper = focus_nm - 0.5 * distance_nm, focus_nm + 0.5 * distance_nm
    return (
        psf.table(optics, wavelength_nm, pixel_size_nm, z_range_nm, lower),
        psf.table(optics, wavelength_nm, pixel_size_nm, z_range_nm, upper),
    )

"""The Gaussian spot: nothing is faster, and its integral over pixels has a closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from nanophantom.simcore.light.psf import kernels
from nanophantom.simcore.light.psf.optics import GAUSSIAN_SIGMA, Optics
from nanophantom.simcore.light.psf.spots import Image, columns
from nanophantom.simcore.models import Model

Floats = npt.NDArray[np.float64]


class GaussianPsf(Model):
    """A Gaussian spot, whose widths may grow with the distance from focus.

    Widths are ``sigma sqrt(1 + ((z - focus -+ c) / d)^2)`` along x (-) and y (+): c is the
    astigmatism and d the focal depth (L. Holtzer, T. Meckel & T. Schmidt, Appl. Phys. Lett. 90
    (2007) 053902, without their higher terms).
    """

    type: Literal["gaussian"] = "gaussian"
    """Which point spread function this is."""
    sigma_nm: float | None = Field(default=None, gt=0)
    """Standard deviation in focus; none: 0.21 wavelength / NA."""
    focal_depth_nm: float | None = Field(default=None, gt=0)
    """Distance from focus at which the spot is wider by sqrt(2); none: it never widens."""
    astigmatism_nm: float = 0.0
    """How far above the focal plane the spot is narrowest along x; along y it is so as far
    below."""

    @model_validator(mode="after")
    def _astigmatism_has_a_depth(self) -> Self:
        if self.astigmatism_nm and self.focal_depth_nm is None:
            raise ValueError("astigmatism_nm needs focal_depth_nm")
        return self

    def sigma_at_focus(self, optics: Optics, wavelength_nm: float) -> float:
        """Return the standard deviation in focus, nm."""
        if self.sigma_nm is not None:
            return self.sigma_nm
        if not wavelength_nm > 0:
            raise ValueError(f"wavelength_nm must be positive, got {wavelength_nm:g}")
        return GAUSSIAN_SIGMA * wavelength_nm / optics.na

    def sigmas(
        self,
        optics: Optics,
        wavelength_nm: float,
        z_nm: npt.ArrayLike,
        focus_nm: npt.ArrayLike = 0.0,
    ) -> tuple[Floats, Floats]:
        """Return the standard deviations along x and y of emitters at heights z, nm."""
        above = np.asarray(z_nm, np.float64) - np.asarray(focus_nm, np.float64)
        sigma = self.sigma_at_focus(optics, wavelength_nm)
        if self.focal_depth_nm is None:
            return np.full_like(above, sigma), np.full_like(above, sigma)
        c, d = self.astigmatism_nm, self.focal_depth_nm
        return sigma * np.hypot(1.0, (above - c) / d), sigma * np.hypot(1.0, (above + c) / d)

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
        planes = np.broadcast_arrays(np.atleast_1d(z_nm), np.atleast_1d(focus_nm))
        sx, sy = (s[:, None] for s in self.sigmas(optics, wavelength_nm, *planes))
        x, y = np.asarray(x_nm, np.float64), np.asarray(y_nm, np.float64)
        return np.asarray(np.exp(-0.5 * ((x / sx) ** 2 + (y / sy) ** 2)) / (2 * math.pi * sx * sy))

    def table(
        self,
        optics: Optics,
        wavelength_nm: float,
        pixel_size_nm: float,
        z_range_nm: tuple[float, float],
        focus_nm: float = 0.0,
    ) -> GaussianSpots:
        """Return the renderer of these spots; no table is needed.

        Parameters
        ----------
        optics, wavelength_nm
            Give the width in focus where sigma_nm is none.
        pixel_size_nm
            Size of a camera pixel at the specimen.
        z_range_nm
            Lowest and highest height of emitters; the stated reach is that of the widest spot.
        focus_nm
            Height that is in focus.
        """
        if not pixel_size_nm > 0:
            raise ValueError(f"pixel_size_nm must be positive, got {pixel_size_nm:g}")
        widths = self.sigmas(optics, wavelength_nm, z_range_nm, focus_nm)
        return GaussianSpots(
            psf=self,
            sigma_nm=self.sigma_at_focus(optics, wavelength_nm),
            pixel_size_nm=pixel_size_nm,
            focus_nm=focus_nm,
            reach_nm=kernels.REACH_SIGMAS * float(np.max(widths)),
        )


@dataclass(frozen=True)
class GaussianSpots:
    """Draws Gaussian spots out to five standard deviations.

    Attributes
    ----------
    psf
        The widths.
    sigma_nm
        Standard deviation in focus.
    pixel_size_nm, focus_nm
        Size of a pixel; height that is in focus.
    reach_nm
        How far the widest spot is drawn: 6e-7 of its energy lie beyond along either axis.
    """

    psf: GaussianPsf
    sigma_nm: float
    pixel_size_nm: float
    focus_nm: float
    reach_nm: float

    def add(
        self,
        image: Image,
        x_px: npt.ArrayLike,
        y_px: npt.ArrayLike,
        z_nm: npt.ArrayLike,
        photons: npt.ArrayLike,
    ) -> None:
        """Add spots to an image, in place; see :class:`SpotRenderer`."""
        x, y, z, n = columns(image, x_px, y_px, z_nm, photons)
        unit = self.sigma_nm / self.pixel_size_nm
        sx = sy = np.full(z.size, unit)
        if self.psf.focal_depth_nm is not None:
            c, d = self.psf.astigmatism_nm, self.psf.focal_depth_nm
            sx = unit * np.hypot(1.0, (z - self.focus_nm - c) / d)
            sy = unit * np.hypot(1.0, (z - self.focus_nm + c) / d)
        kernels.add_gaussians(image, x, y, sx, sy, n)

    def at(self, z_nm: float, ny: int, nx: int, x: float, y: float) -> Image:
        """Return the image of one photon: shape (ny, nx), centred at pixel x, y."""
        image = np.zeros((ny, nx), np.float32)
        self.add(image, [x], [y], [z_nm], [1.0])
        return image

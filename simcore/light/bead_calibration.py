"""What an operator measures on beads: the width of spots, and how it changes with height."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares
from scipy.special import erf

from nanophantom.simcore.light.focused_spots import AnyPsf, drive_setting_nm, height_is_focus
from nanophantom.simcore.light.psf import Optics, SpotRenderer

Floats = npt.NDArray[np.float64]

BOX = 13
PHOTONS, BACKGROUND = 5000.0, 10.0
"""Of the bead's image: bright as a molecule, so that its skirt weighs as much as a molecule's."""
MISSES_AT_MOST = 0.25
"""Part of its light that a spot's best Gaussian may put in wrong pixels; two lobes miss more."""
HEIGHTS_NM = np.linspace(-600.0, 600.0, 25)
ROUND = 0.02
"""Widths along x and y that differ by less than this part belong to a round spot."""


@dataclass(frozen=True, eq=False)
class BeadScan:
    """Widths of a bright bead at heights around the focal plane.

    Attributes
    ----------
    sigma_nm
        Standard deviation along x in focus.
    curve
        z_nm above the focal plane, sigma_x_nm, sigma_y_nm; none where widths tell nothing of
        heights: spots that stay round, or that are no single spot (a double helix).
    """

    sigma_nm: float
    curve: Mapping[str, list[float]] | None

    @classmethod
    def of(
        cls,
        psf: AnyPsf,
        optics: Optics,
        wavelength_nm: float,
        pixel_size_nm: float,
        focus_nm: float,
    ) -> BeadScan:
        """Measure beads up to 600 nm above and below the focal plane.

        Where the sample's index is unlike the immersion's, none lies below the coverslip: for
        heights that would, the focus is raised over a bead that lies on it.
        """
        heights = focus_nm + HEIGHTS_NM
        on_glass = np.zeros(len(heights), bool) if height_is_focus(psf, optics) else heights < 0
        setting = drive_setting_nm(psf, optics, wavelength_nm, focus_nm)
        reached = (float(heights[~on_glass].min()), float(heights.max()))
        spots = psf.table(optics, wavelength_nm, pixel_size_nm, reached, setting)
        sigma = bead_widths(spots, focus_nm, pixel_size_nm)[0]
        fits = np.empty((len(heights), 3))
        for k, z_nm in enumerate(heights):
            if on_glass[k]:
                over = drive_setting_nm(psf, optics, wavelength_nm, -float(HEIGHTS_NM[k]))
                bead = psf.table(optics, wavelength_nm, pixel_size_nm, (0.0, 0.0), over)
                fits[k] = bead_widths(bead, 0.0, pixel_size_nm)
            else:
                fits[k] = bead_widths(spots, float(z_nm), pixel_size_nm)
        widths, near = fits[:, :2], np.abs(HEIGHTS_NM) < 250.0
        round_spots = np.abs(widths[:, 0] / widths[:, 1] - 1).max() < ROUND
        if round_spots or np.median(fits[near, 2]) > MISSES_AT_MOST:
            return cls(sigma, None)
        columns = {"z_nm": HEIGHTS_NM, "sigma_x_nm": widths[:, 0]}
        columns["sigma_y_nm"] = widths[:, 1]
        return cls(sigma, {name: values.tolist() for name, values in columns.items()})


def bead_widths(
    spots: SpotRenderer, z_nm: float, pixel_size_nm: float
) -> tuple[float, float, float]:
    """Return the standard deviations along x and y of the Gaussian that fits a bead, and its miss.

    A Gaussian integrated over the pixels plus an even background, in a box as molecules are fitted
    in, by the least sum of squares of 2 (sqrt(model) - sqrt(image)), which is close to the greatest
    Poisson likelihood. The miss is the part of the light that lies in wrong pixels.

    Parameters
    ----------
    spots
        Draws the bead.
    z_nm
        Its height above the coverslip.
    pixel_size_nm
        Of the camera.
    """
    bead = PHOTONS * spots.at(z_nm, BOX, BOX, BOX // 2, BOX // 2).astype(np.float64)
    image = bead + BACKGROUND
    edges = np.arange(BOX + 1) - 0.5

    def profile(centre: float, sigma: float) -> Floats:
        return np.asarray(0.5 * np.diff(erf((edges - centre) / (np.sqrt(2.0) * sigma))))

    def model(p: Floats) -> Floats:
        x, y, sx, sy, n, b = p
        return np.asarray(n * np.outer(profile(y, sy), profile(x, sx)) + b)

    def residual(p: Floats) -> Floats:
        return np.asarray(2 * (np.sqrt(model(p)) - np.sqrt(image)).ravel())

    start = np.array([BOX // 2, BOX // 2, 1.5, 1.5, float(bead.sum()), BACKGROUND])
    bounds = ([0, 0, 0.2, 0.2, 0, 1e-3], [BOX, BOX, BOX, BOX, 2 * PHOTONS, PHOTONS])
    found = least_squares(residual, np.clip(start, *bounds), bounds=bounds, x_scale="jac").x
    miss = 0.5 * np.abs(model(found) - image).sum() / bead.sum()
    return float(found[2] * pixel_size_nm), float(found[3] * pixel_size_nm), float(miss)

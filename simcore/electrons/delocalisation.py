"""How far the objective lens spreads the image of a point."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nanophantom.simcore.electrons.aberrations import chi_gradient
from nanophantom.simcore.electrons.constants import wavelength

FAINT = 0.03
"""Beams whose contrast partial coherence has damped below this are left out."""


def delocalisation(
    coefficients: Mapping[str, float],
    energy_kev: float,
    largest_angle_mrad: float,
    focal_spread_A: float = 0.0,
    convergence_mrad: float = 0.0,
) -> float:
    """Return the radius, in Å, to which the lens spreads a point: the largest |grad chi| / 2 pi.

    A beam of frequency k appears displaced by the gradient of the wave aberration (A. Thust,
    W. Coene, M. Op de Beeck & D. Van Dyck, Ultramicroscopy 64 (1996) 211). Only beams inside the
    largest angle, and with some coherence left, count.

    Parameters
    ----------
    coefficients
        Aberrations in Å and radians.
    largest_angle_mrad
        Semi-angle of the aperture or of the band limit.
    focal_spread_A, convergence_mrad
        Standard deviations, as for `imaging.expected_image`.
    """
    radial = np.linspace(0.0, largest_angle_mrad * 1e-3 / wavelength(energy_kev), 400)[:, None]
    azimuth = np.linspace(0.0, 2 * np.pi, 48, endpoint=False)[None, :]
    slope = np.hypot(
        *chi_gradient(coefficients, radial * np.cos(azimuth), radial * np.sin(azimuth), energy_kev)
    )
    sigma_k = convergence_mrad * 1e-3 / wavelength(energy_kev)
    temporal = 0.5 * (np.pi * wavelength(energy_kev) * radial**2 * focal_spread_A) ** 2
    spatial = 0.5 * (sigma_k * slope) ** 2
    coherent = np.exp(-temporal - spatial) > FAINT
    return float(np.max(np.where(coherent, slope, 0.0)) / (2 * np.pi))

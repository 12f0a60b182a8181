"""Whether atoms look bright or dark: what an operator knows from the nominal optics."""

from __future__ import annotations

import numpy as np

from nanophantom.simcore.electrons.imaging import contrast_transfer
from nanophantom.simcore.electrons.optics import ImagingOptics
from nanophantom.simcore.electrons.scattering import scattering_factor

LIGHT_ATOM = 14
FINEST = 2.5
"""Frequencies up to this, in 1/Å, make up the image of an atom."""


def sign_of_contrast(optics: ImagingOptics, energy_kev: float) -> float:
    """Return how far a light atom's image lies above its background, in arbitrary units.

    In the weak phase approximation that is the integral over k dk of sin(chi), its envelopes and
    the atom's scattering factor. Only round aberrations are taken into account.
    """
    k = np.linspace(0.01, FINEST, 2000)
    transfer = contrast_transfer(
        k,
        energy_kev=energy_kev,
        coefficients={c: v for c, v in optics.coefficients().items() if c[2:] == "0"},
        aperture_mrad=optics.aperture_mrad,
        focal_spread_A=optics.focal_spread_A(energy_kev),
        convergence_mrad=optics.convergence_mrad,
    )
    return float(np.sum(transfer * scattering_factor(LIGHT_ATOM, k) * k))

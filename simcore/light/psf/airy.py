"""The Airy pattern: scalar, paraxial, with defocus."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.light.psf.harmonics import Complex
from nanophantom.simcore.light.psf.optics import Optics
from nanophantom.simcore.light.psf.pupil import PupilPsf

Floats = npt.NDArray[np.float64]


class AiryPsf(PupilPsf):
    """The Airy pattern of an evenly filled pupil, with paraxial defocus.

    On the axis the intensity is sinc^2(u/4), u = 2 pi NA^2 (z - focus) / (n wavelength), n that of
    the sample (M. Born & E. Wolf, Principles of Optics, section 8.8). No light is lost to, and no
    aberration comes from, unequal indices: z = focus is in focus.
    """

    type: Literal["airy"] = "airy"
    """Which point spread function this is."""

    def fields(self, optics: Optics, wavelength_nm: float, rho: Floats, phi: Floats) -> Complex:
        """Return one even field; see :meth:`PupilPsf.fields`."""
        return np.ones((1, *np.broadcast_shapes(rho.shape, phi.shape)), np.complex128)

    def path_nm(self, optics: Optics, rho: Floats, z_nm: Floats, focus_nm: Floats) -> Complex:
        """Return the parabola of paraxial defocus; see :meth:`PupilPsf.path_nm`."""
        above = (z_nm - focus_nm)[:, None]
        path = -above * (optics.na * rho) ** 2 / (2.0 * optics.sample_index)
        return path.astype(np.complex128)

    def breaks(self, optics: Optics) -> tuple[float, ...]:
        """Return no radii: the pupil is smooth."""
        return ()

    def check_heights(self, optics: Optics, z_nm: Floats) -> None:
        """Accept any height: there is no interface."""

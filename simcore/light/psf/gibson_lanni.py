"""The scalar model of S. F. Gibson & F. Lanni, J. Opt. Soc. Am. A 8 (1991) 1601."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.light.psf.harmonics import Complex
from nanophantom.simcore.light.psf.optics import Optics
from nanophantom.simcore.light.psf.pupil import PupilPsf

Floats = npt.NDArray[np.float64]


class GibsonLanniPsf(PupilPsf):
    """Scalar light from an emitter in a sample, through coverslip and immersion, off their design.

    Depth in a sample of another index than the immersion's makes spherical aberration, and so does
    a coverslip or immersion that is not the design's.
    """

    type: Literal["gibson-lanni"] = "gibson-lanni"
    """Which point spread function this is."""

    def fields(self, optics: Optics, wavelength_nm: float, rho: Floats, phi: Floats) -> Complex:
        """Return one even field; see :meth:`PupilPsf.fields`."""
        return np.ones((1, *np.broadcast_shapes(rho.shape, phi.shape)), np.complex128)

    def path_nm(self, optics: Optics, rho: Floats, z_nm: Floats, focus_nm: Floats) -> Complex:
        """Return the optical path difference; see :func:`path_nm`."""
        return path_nm(optics, rho, z_nm, focus_nm)


def cosine(optics: Optics, rho: Floats, index: float) -> Complex:
    """Return the cosine of the angle to the axis in a medium; imaginary beyond total reflection."""
    return np.asarray(np.sqrt(1.0 - (optics.na * rho / index) ** 2 + 0j))


def path_nm(optics: Optics, rho: Floats, z_nm: Floats, focus_nm: Floats) -> Complex:
    """Return the path of light from height z at a focus setting, less that along the axis.

    Light crosses z of sample. Raising the objective by the focus shortens the immersion by as
    much. Deviations of coverslip and immersion from the design add their paths; the immersion is
    set so that at focus 0 an emitter at the coverslip is in paraxial focus, as a microscopist
    does.

    Returns
    -------
    (planes, k)
        With a positive imaginary part where light is evanescent in the sample.
    """

    def layer(index: float, thickness_nm: float) -> Complex:
        return index * thickness_nm * (cosine(optics, rho, index) - 1.0)

    ni, ng = optics.immersion_index, optics.coverslip_index
    design_ni = optics.design_immersion_index or ni
    design_ng = optics.design_coverslip_index or ng
    glass = 1e3 * optics.coverslip_thickness_um
    design_glass = 1e3 * (
        optics.coverslip_thickness_um
        if optics.design_coverslip_thickness_um is None
        else optics.design_coverslip_thickness_um
    )
    design_oil = 1e3 * optics.working_distance_um
    # paraxially a layer defocuses by thickness / index
    oil = ni * (design_oil / design_ni + design_glass / design_ng - glass / ng)
    if oil < 0:
        raise ValueError(
            "the coverslip leaves no room for the immersion: raise working_distance_um"
        )
    fixed = layer(ng, glass) - layer(design_ng, design_glass)
    fixed = fixed + layer(ni, oil) - layer(design_ni, design_oil)
    moving = z_nm[:, None] * layer(optics.sample_index, 1.0) - focus_nm[:, None] * layer(ni, 1.0)
    return np.asarray(fixed + moving)

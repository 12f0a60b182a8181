"""The vectorial model: dipoles near an interface, polarised light, aberrations, phase masks."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from nanophantom.simcore.light.psf import gibson_lanni
from nanophantom.simcore.light.psf.dipole_power import emitted_power
from nanophantom.simcore.light.psf.harmonics import Complex
from nanophantom.simcore.light.psf.optics import Optics
from nanophantom.simcore.light.psf.pupil import PupilPsf
from nanophantom.simcore.light.psf.zernike import Aberration, double_helix, zone_radii

Floats = npt.NDArray[np.float64]


class VectorialPsf(PupilPsf):
    """Polarised light of a dipole through an objective of high aperture.

    The dipole's plane waves, evanescent ones included, pass the coverslip's faces with Fresnel's
    coefficients (no multiple reflections); the objective obeys Abbe's sine condition and turns
    their polarisations into the plane of the camera (B. Richards & E. Wolf, Proc. R. Soc. A 253
    (1959) 358; dipoles near an interface: D. Axelrod, J. Microsc. 247 (2012) 147). The rays'
    paths are those of Gibson and Lanni. An objective of NA above the sample's index collects
    supercritical light of emitters close to the coverslip.
    """

    type: Literal["vectorial"] = "vectorial"
    """Which point spread function this is."""
    dipole_tilt_deg: float | None = Field(default=None, ge=0, le=90)
    """Angle of a fixed dipole from the optical axis; none: it rotates freely and fast."""
    dipole_azimuth_deg: float = 0.0
    """Direction of a fixed dipole in the plane, from x (right) towards y (down); its upper end."""
    aberrations: Annotated[tuple[Aberration, ...], Field(max_length=32)] = ()
    """Zernike polynomials of the objective's wavefront; number 6 alone makes the astigmatism that
    three-dimensional localization uses."""
    double_helix_zones: int | None = Field(default=None, ge=2, le=12)
    """Zones of a double-helix phase mask, which turns spots into two lobes; more zones rotate
    slower and stay sharp over a longer range of z. None: no mask."""

    @model_validator(mode="after")
    def _azimuth_belongs_to_a_fixed_dipole(self) -> Self:
        if self.dipole_tilt_deg is None and self.dipole_azimuth_deg != 0.0:
            raise ValueError("dipole_azimuth_deg needs dipole_tilt_deg: a free dipole has none")
        return self

    def angles(self) -> int:
        """Return how many angles sample the fields: many where there is a mask or aberration."""
        return 128 if self.aberrations or self.double_helix_zones else 8

    def breaks(self, optics: Optics) -> tuple[float, ...]:
        """Return the critical angle and the borders of the mask's zones."""
        zones = () if self.double_helix_zones is None else zone_radii(self.double_helix_zones)
        return (optics.sample_index / optics.na, *zones)

    def path_nm(self, optics: Optics, rho: Floats, z_nm: Floats, focus_nm: Floats) -> Complex:
        """Return the optical path difference; see :func:`gibson_lanni.path_nm`."""
        return gibson_lanni.path_nm(optics, rho, z_nm, focus_nm)

    def fields(self, optics: Optics, wavelength_nm: float, rho: Floats, phi: Floats) -> Complex:
        """Return the fields along x and y of each dipole; see :meth:`PupilPsf.fields`.

        A free dipole is three that don't interfere, along x, y and z.
        """
        fields = dipole_fields(optics, rho, phi)
        if self.dipole_tilt_deg is not None:
            tilt, azimuth = (
                math.radians(self.dipole_tilt_deg),
                math.radians(self.dipole_azimuth_deg),
            )
            along = (
                math.sin(tilt) * math.cos(azimuth),
                math.sin(tilt) * math.sin(azimuth),
                math.cos(tilt),
            )
            fields = np.einsum("d,dp...->p...", np.array(along), fields)
        phase = np.zeros(np.broadcast_shapes(rho.shape, phi.shape))
        for aberration in self.aberrations:
            phase = phase + 2 * np.pi / wavelength_nm * aberration.path_nm(rho, phi)
        if self.double_helix_zones is not None:
            phase = phase + double_helix(self.double_helix_zones, rho, phi)
        return np.asarray(fields.reshape(-1, *phase.shape) * np.exp(1j * phase))

    def collected(self, optics: Optics, wavelength_nm: float, z_nm: npt.ArrayLike) -> Floats:
        """Return the part of a dipole's light that the objective collects, by height, (planes,).

        Of all that the same dipole (on average over directions, if it rotates) emits at that
        height: a dye gives a number of photons, which the coverslip only shares out, see
        :mod:`dipole_power`. In a matched sample this is ``collection_efficiency``; close to a
        coverslip of higher index, supercritical light adds to it.
        """
        fine_nm = 20.0 * wavelength_nm  # nodes enough for the roots at the critical angle
        pupil = self.pupil(optics, wavelength_nm, z_nm, 0.0, fine_nm)
        dipoles = 3 if self.dipole_tilt_deg is None else 1
        unbounded = 8 * np.pi / 3 * dipoles * optics.sample_index
        emitted = unbounded * emitted_power(optics, wavelength_nm, z_nm, self.dipole_tilt_deg)
        return np.asarray(pupil.energy() * optics.na**2 / optics.immersion_index / emitted)


def dipole_fields(optics: Optics, rho: Floats, phi: Floats) -> Complex:
    """Return the fields in the pupil of unit dipoles along x, y and z at the coverslip.

    Light of a dipole p goes down to the objective along (sin t cos phi, sin t sin phi, -cos t). Its
    field has the parts ``p . (cos t cos phi, cos t sin phi, sin t)`` and ``p . (-sin phi, cos phi,
    0)``, with t in the sample; the far field behind interfaces is that times the transmission and
    the ratio of axial wave numbers, and the objective maps solid angles on the pupil by 1 / sqrt
    of the cosine in the immersion.

    Returns
    -------
    (dipole, polarisation, k, angles)
    """
    ns, ng, ni = optics.sample_index, optics.coverslip_index, optics.immersion_index
    cs, cg, ci = (gibson_lanni.cosine(optics, rho, n) for n in (ns, ng, ni))
    # Fresnel's coefficients times n_i c_i / (n_s c_s): nothing diverges at the critical angle
    into_s, into_p = 2 * ni * ci / (ns * cs + ng * cg), 2 * ni * ci / (ng * cs + ns * cg)
    t_s = into_s * 2 * ng * cg / (ng * cg + ni * ci) / np.sqrt(ci)
    t_p = into_p * 2 * ng * cg / (ni * cg + ng * ci) / np.sqrt(ci)
    sine = optics.na * rho / ns
    cos, sin = np.cos(phi), np.sin(phi)
    ones = np.ones_like(cos)
    p_part = t_p * np.stack([cs * cos, cs * sin, sine * ones])
    s_part = t_s * np.stack([-sin * np.ones_like(rho), cos * np.ones_like(rho), 0 * (rho + phi)])
    return np.stack([p_part * cos - s_part * sin, p_part * sin + s_part * cos], axis=1)

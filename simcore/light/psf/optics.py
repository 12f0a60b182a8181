"""The objective: its knobs, how much light it collects, and closed forms of its resolution."""

from __future__ import annotations

import math
from typing import Any, Self

from pydantic import Field, model_validator

from nanophantom.simcore.models import Model

PURE: dict[str, Any] = {"dimensionless": True}

AIRY_FWHM = 0.51450
"""Full width at half maximum of the Airy pattern, in units of wavelength / NA."""
AIRY_RADIUS = 0.60983
"""Radius of the first dark ring of the Airy pattern, in units of wavelength / NA."""
AXIAL_FWHM = 1.77177
"""Full width of sinc^2(u/4) along the axis, in units of n wavelength / NA^2."""
GAUSSIAN_SIGMA = 0.21
"""Standard deviation of the Gaussian nearest to the spot of a wide-field microscope in focus, in
units of wavelength / NA (B. Zhang, J. Zerubia & J.-C. Olivo-Marin, Appl. Opt. 46 (2007) 1819)."""


class Optics(Model):
    """An objective and what lies between it and the specimen: immersion, coverslip, sample.

    The default is an oil immersion objective that looks into water. Immersion and coverslip may
    differ from what the objective was designed for; that causes spherical aberration.
    """

    na: float = Field(default=1.4, gt=0, json_schema_extra=PURE)
    """Numerical aperture; below the refractive indices of immersion and coverslip."""
    immersion_index: float = Field(default=1.518, ge=1, le=2.5, json_schema_extra=PURE)
    """Refractive index of the immersion medium."""
    sample_index: float = Field(default=1.33, ge=1, le=2.5, json_schema_extra=PURE)
    """Refractive index of what the dyes lie in."""
    coverslip_index: float = Field(default=1.515, ge=1, le=2.5, json_schema_extra=PURE)
    """Refractive index of the coverslip."""
    coverslip_thickness_um: float = Field(default=170.0, ge=0)
    """Thickness of the coverslip."""
    design_immersion_index: float | None = Field(default=None, ge=1, le=2.5, json_schema_extra=PURE)
    """Immersion the objective was designed for; none: that which is there."""
    design_coverslip_index: float | None = Field(default=None, ge=1, le=2.5, json_schema_extra=PURE)
    """Refractive index of the coverslip it was designed for; none: that which is there."""
    design_coverslip_thickness_um: float | None = Field(default=None, ge=0)
    """Thickness of the coverslip it was designed for; none: that which is there."""
    working_distance_um: float = Field(default=150.0, gt=0)
    """Thickness of the immersion layer in the design; matters where the immersion's index is not
    the design's."""
    transmission: float = Field(default=1.0, gt=0, le=1, json_schema_extra=PURE)
    """Fraction of the collected light that reaches the camera."""

    @model_validator(mode="after")
    def _rays_pass(self) -> Self:
        for name in ("immersion_index", "coverslip_index"):
            index = getattr(self, name)
            for stated, n in ((name, index), (f"design_{name}", getattr(self, f"design_{name}"))):
                if n is not None and self.na >= n:
                    raise ValueError(f"na {self.na:g} must be below {stated} {n:g}")
        return self

    @property
    def matched(self) -> bool:
        """Whether the sample continues the immersion: aberrations then don't grow with depth."""
        return self.sample_index == self.immersion_index

    @property
    def collection_efficiency(self) -> float:
        """Fraction of a dye's light that reaches the camera; see :func:`collection_efficiency`."""
        return self.transmission * collection_efficiency(self.na, self.immersion_index)


def collection_efficiency(na: float, index: float) -> float:
    """Return the fraction of an isotropic emitter's light that an objective collects.

    ``(1 - sqrt(1 - (NA / n)^2)) / 2``, the solid angle of its cone, for an emitter embedded in
    the medium of refractive index `index`, as a rule that of the immersion. A dye in water close
    to the glass sends light into angles above the critical one, which an oil objective of NA
    above 1.33 collects in part: :meth:`VectorialPsf.collected` follows that with the distance
    from the coverslip. This formula, with the immersion's index, does not depend on it.

    Raises
    ------
    ValueError
        The aperture is not below the index.
    """
    if not 0 < na < index:
        raise ValueError(f"na must lie between 0 and the index {index:g}, got {na:g}")
    return 0.5 * (1.0 - math.sqrt(1.0 - (na / index) ** 2))


def airy_fwhm_nm(wavelength_nm: float, na: float) -> float:
    """Return the full width at half maximum of the Airy pattern, 0.5145 wavelength / NA."""
    return AIRY_FWHM * wavelength_nm / na


def airy_radius_nm(wavelength_nm: float, na: float) -> float:
    """Return the radius of the first dark ring of the Airy pattern, 0.6098 wavelength / NA."""
    return AIRY_RADIUS * wavelength_nm / na


def airy_axial_fwhm_nm(wavelength_nm: float, na: float, index: float) -> float:
    """Return the paraxial full width along the axis, ``1.772 n wavelength / NA^2``."""
    return AXIAL_FWHM * index * wavelength_nm / na**2


def high_na_axial_fwhm_nm(wavelength_nm: float, na: float, index: float) -> float:
    """Return the full width along the axis at high NA, ``0.886 wavelength / (n - sqrt(n^2-NA^2))``.

    That of a uniform distribution of axial wave numbers; it tends to the paraxial form at low NA.
    """
    return 0.5 * AXIAL_FWHM * wavelength_nm / (index - math.sqrt(index**2 - na**2))

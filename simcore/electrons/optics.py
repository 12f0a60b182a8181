"""The knobs of an electron-optical column: aberrations, aperture, coherence."""

from __future__ import annotations

import math
from typing import Self

from pydantic import Field, model_validator

from nanophantom.simcore.electrons.coherence import focal_quadrature as focal_quadrature
from nanophantom.simcore.electrons.coherence import focal_spread
from nanophantom.simcore.models import Model

STD_PER_FWHM = 1 / math.sqrt(8 * math.log(2))
"""Standard deviation of a Gaussian of full width at half maximum 1."""

_ANGSTROM_PER = {"nm": 10.0, "um": 1e4, "mm": 1e7}


class Aberrations(Model):
    """Coherent aberrations to fifth order in Krivanek's polar notation.

    ``cNM`` is the coefficient of order N and multiplicity M, ``phiNM_deg`` its azimuth; the
    phase they add is given in :mod:`nanophantom.simcore.electrons.aberrations`.
    """

    c12_nm: float = 0.0
    """Twofold astigmatism."""
    phi12_deg: float = 0.0
    """Azimuth of the twofold astigmatism."""
    c21_nm: float = 0.0
    """Axial coma."""
    phi21_deg: float = 0.0
    """Azimuth of the axial coma."""
    c23_nm: float = 0.0
    """Threefold astigmatism."""
    phi23_deg: float = 0.0
    """Azimuth of the threefold astigmatism."""
    c30_um: float = 0.0
    """Spherical aberration Cs."""
    c32_um: float = 0.0
    """Star aberration of third order."""
    phi32_deg: float = 0.0
    """Azimuth of the third-order star aberration."""
    c34_um: float = 0.0
    """Fourfold astigmatism."""
    phi34_deg: float = 0.0
    """Azimuth of the fourfold astigmatism."""
    c41_um: float = 0.0
    """Fourth-order coma."""
    phi41_deg: float = 0.0
    """Azimuth of the fourth-order coma."""
    c43_um: float = 0.0
    """Three-lobe aberration."""
    phi43_deg: float = 0.0
    """Azimuth of the three-lobe aberration."""
    c45_um: float = 0.0
    """Fivefold astigmatism."""
    phi45_deg: float = 0.0
    """Azimuth of the fivefold astigmatism."""
    c50_mm: float = 0.0
    """Fifth-order spherical aberration."""
    c52_mm: float = 0.0
    """Star aberration of fifth order."""
    phi52_deg: float = 0.0
    """Azimuth of the fifth-order star aberration."""
    c54_mm: float = 0.0
    """Rosette aberration."""
    phi54_deg: float = 0.0
    """Azimuth of the rosette aberration."""
    c56_mm: float = 0.0
    """Sixfold astigmatism."""
    phi56_deg: float = 0.0
    """Azimuth of the sixfold astigmatism."""

    def coefficients(self) -> dict[str, float]:
        """Return the coefficients that aren't zero: names C12, phi12 ..., in Å and radians."""
        found = {}
        for name, value in self:
            symbol, unit = name.rsplit("_", 1)
            if unit == "deg":
                found[symbol] = math.radians(value)
            elif value:
                found[symbol.upper()] = value * _ANGSTROM_PER[unit]
        return {k: v for k, v in found.items() if v}


class Lens(Model):
    """A lens: its defocus, its aberrations, and what blurs its focus."""

    defocus_nm: float = 0.0
    """Defocus C10; negative is underfocus (a weaker lens)."""
    aberrations: Aberrations = Aberrations()
    """All other coherent aberrations."""
    cc_mm: float = Field(default=0.0, ge=0)
    """Chromatic aberration Cc, the relativistic factor included, as manufacturers state it."""
    energy_spread_fwhm_ev: float = Field(default=0.0, ge=0)
    """Full width at half maximum of the electrons' energies."""
    voltage_instability_ppm: float = Field(
        default=0.0, ge=0, json_schema_extra={"dimensionless": True}
    )
    """Relative standard deviation of the high voltage, in millionths."""
    current_instability_ppm: float = Field(
        default=0.0, ge=0, json_schema_extra={"dimensionless": True}
    )
    """Relative standard deviation of the lens current, in millionths."""
    focal_spread_nm: float | None = Field(default=None, ge=0)
    """Standard deviation of the defocus (temporal coherence); none computes it from cc_mm."""

    @model_validator(mode="after")
    def _one_focal_spread(self) -> Self:
        if self.focal_spread_nm is not None and self.cc_mm > 0:
            raise ValueError(
                f"focal_spread_nm ({self.focal_spread_nm:g}) and cc_mm ({self.cc_mm:g}) both say "
                "how far the focus spreads; give one of them"
            )
        return self

    def coefficients(self) -> dict[str, float]:
        """Return all coefficients in Å and radians, defocus as C10."""
        return {"C10": self.defocus_nm * 10.0, **self.aberrations.coefficients()}

    def focal_spread_A(self, energy_kev: float) -> float:
        """Return the standard deviation of the defocus, Å; see `coherence.focal_spread`."""
        if self.focal_spread_nm is not None:
            return self.focal_spread_nm * 10.0
        return focal_spread(
            self.cc_mm * _ANGSTROM_PER["mm"],
            energy_kev,
            self.energy_spread_fwhm_ev * STD_PER_FWHM,
            self.voltage_instability_ppm * 1e-6,
            self.current_instability_ppm * 1e-6,
        )


class ImagingOptics(Lens):
    """The objective lens of a TEM and the coherence of its illumination."""

    aperture_mrad: float | None = Field(default=None, gt=0)
    """Semi-angle of the objective aperture; none stops nothing below the band limit."""
    aperture_shift_mrad: tuple[float, float] = (0.0, 0.0)
    """Centre (x, y) of the objective aperture, away from the axis of the lens: dark field."""
    convergence_mrad: float = Field(default=0.0, ge=0)
    """Standard deviation of the illumination angles on each axis (spatial coherence)."""

    @model_validator(mode="after")
    def _aperture_to_shift(self) -> Self:
        if self.aperture_mrad is None and self.aperture_shift_mrad != (0.0, 0.0):
            raise ValueError("aperture_shift_mrad moves an aperture; give aperture_mrad too")
        return self


class ProbeOptics(Lens):
    """The lens that forms a probe, its aperture, and the coherence of the source."""

    semiangle_mrad: float = Field(default=20.0, gt=0, le=200)
    """Semi-angle of convergence, the radius of the condenser aperture."""
    source_size_nm: float = Field(default=0.0, ge=0)
    """Full width at half maximum of the source's Gaussian image in the specimen's plane."""

    @property
    def source_sigma_A(self) -> float:
        """Standard deviation of the source's image along one axis, Å."""
        return self.source_size_nm * 10.0 * STD_PER_FWHM

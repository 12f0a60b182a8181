"""The knobs of an electron-optical column: aberrations, aperture, coherence."""

from __future__ import annotations

import math

from pydantic import Field

from nanophantom.simcore.models import Model

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


class ImagingOptics(Model):
    """The objective lens of a TEM and the coherence of its illumination."""

    defocus_nm: float = 0.0
    """Defocus C10; negative is underfocus (a weaker lens)."""
    aberrations: Aberrations = Aberrations()
    """All other coherent aberrations."""
    aperture_mrad: float | None = Field(default=None, gt=0)
    """Semi-angle of the objective aperture; none stops nothing below the band limit."""
    focal_spread_nm: float = Field(default=0.0, ge=0)
    """Standard deviation of the defocus from the spread of energies (temporal coherence)."""
    convergence_mrad: float = Field(default=0.0, ge=0)
    """Standard deviation of the illumination angles on each axis (spatial coherence)."""

    def coefficients(self) -> dict[str, float]:
        """Return all coefficients in Å and radians, defocus as C10."""
        return {"C10": self.defocus_nm * 10.0, **self.aberrations.coefficients()}

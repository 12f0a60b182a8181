"""The numerical knobs of a multislice calculation."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from nanophantom.simcore.models import Model


class Multislice(Model):
    """How finely the scattering is computed."""

    thermal_configurations: int = Field(default=8, ge=1, le=1000)
    """Frozen-phonon configurations that are averaged."""
    thermal_motion: bool = True
    """Displace the atoms by their Debye-Waller factors; off, the lattice stands still."""
    states_per_exposure: int = Field(default=4, ge=1, le=64)
    """Most states of a changing specimen that one frame averages; with fewer events than that
    they are averaged exactly."""
    slice_thickness_nm: float | None = Field(default=None, gt=0, le=2)
    """Thickness of a slice; none chooses it."""
    band_limit_mrad: float | None = Field(default=None, gt=0, le=400)
    """Largest scattering angle that is kept; none takes twice the aperture, 50 mrad at least."""
    oversampling: float | None = Field(
        default=None, ge=1, le=8, json_schema_extra={"dimensionless": True}
    )
    """Nyquist frequency of the grid over the band limit; none decides by the heaviest atom."""
    margin_nm: float | None = Field(default=None, ge=0.1, le=200)
    """Specimen simulated beyond each edge of the view, on top of what the drift brings in; none
    takes 0.6 nm and the radius to which the lens spreads a point."""
    scattering_factors: Literal["lobato", "kirkland"] = "lobato"
    """Table of electron scattering factors."""
    projection: Literal["infinite", "finite"] = "infinite"
    """Give each atom's whole potential to one slice, or to every slice what lies in it."""
    ionic_charges: dict[str, int] = Field(default_factory=dict)
    """Elements that scatter as ions, {O: -2}; the others are neutral atoms. The specimen as a
    whole must be neutral. Infinite projection only."""

    @model_validator(mode="after")
    def _ions_are_projected(self) -> Self:
        if self.ionic_charges and self.projection == "finite":
            raise ValueError(
                "ionic_charges need projection: infinite; the field of a charge reaches through "
                "all slices"
            )
        return self

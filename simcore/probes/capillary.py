"""Water between tip and surface: Kelvin's radius, the pull of a meniscus, and when it forms.

A meniscus of radius r between a sphere and a flat fills the gap up to the height H = 2 r cos theta
and pulls with F = 4 pi R gamma cos theta (1 - D / H) at the separation D (J. N. Israelachvili,
Intermolecular and Surface Forces). Its volume is V = pi R (H^2 - D^2). While it is stretched too
fast for water to evaporate it keeps V, so H grows and

    F(D) = 4 pi R gamma cos theta (1 - D / sqrt(D^2 + V / pi R))

(the same in H.-J. Butt & M. Kappl, Adv. Colloid Interface Sci. 146 (2009) 48). It condenses below
the largest separation at which Kelvin's law allows it, H itself, and breaks only beyond the cube
root of its volume (G. Lian, C. Thornton & M. J. Adams, J. Colloid Interface Sci. 161 (1993) 138):
that is why energy is lost. Lengths nm, forces nN.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from nanophantom.simcore.models import Model
from nanophantom.simcore.probes.contact import EV_PER_NN_NM

Floats = npt.NDArray[np.float64]

GAS_CONSTANT_J_PER_MOL_K = 8.314462618
WATER_CM3_PER_MOL = 18.015
"""Molar volume of water at 1 g/cm3."""


def capillary_force_nn(
    radius_nm: npt.ArrayLike, surface_tension_mj_per_m2: float = 72.0, contact_angle_deg: float = 0
) -> Floats:
    """Return the pull of a meniscus on a touching sphere, 4 pi R gamma cos theta (positive).

    Raises
    ------
    ValueError
        The radius or tension isn't positive, or the angle isn't below 90 degrees: such a liquid
        doesn't condense.
    """
    radius = np.asarray(radius_nm, np.float64)
    if not (np.isfinite(radius).all() and (radius > 0).all()):
        raise ValueError("radius_nm must be finite and positive")
    if not 0 < surface_tension_mj_per_m2 < math.inf:
        raise ValueError("surface_tension_mj_per_m2 must be finite and positive")
    if not 0 <= contact_angle_deg < 90:
        raise ValueError(f"contact_angle_deg must be 0 ... 90, not {contact_angle_deg:g}")
    cosine = math.cos(math.radians(contact_angle_deg))
    return np.asarray(4e-3 * np.pi * radius * surface_tension_mj_per_m2 * cosine)


def kelvin_length_nm(
    surface_tension_mj_per_m2: float = 72.0,
    temperature_k: float = 298.15,
    molar_volume_cm3: float = WATER_CM3_PER_MOL,
) -> float:
    """Return gamma V_m / R T, the length that sets the size of menisci; water: 0.523 nm."""
    if not (surface_tension_mj_per_m2 > 0 and temperature_k > 0 and molar_volume_cm3 > 0):
        raise ValueError("surface tension, temperature and molar volume must be positive")
    energy = GAS_CONSTANT_J_PER_MOL_K * temperature_k
    return surface_tension_mj_per_m2 * molar_volume_cm3 / energy  # mJ/m2 cm3 / J = nm


def kelvin_radius_nm(
    humidity_percent: float,
    surface_tension_mj_per_m2: float = 72.0,
    temperature_k: float = 298.15,
    molar_volume_cm3: float = WATER_CM3_PER_MOL,
) -> float:
    """Return the radius of a meniscus in equilibrium with vapour, lambda_K / -ln(humidity)."""
    if not 0 < humidity_percent < 100:
        raise ValueError(f"humidity_percent must be between 0 and 100, not {humidity_percent:g}")
    length = kelvin_length_nm(surface_tension_mj_per_m2, temperature_k, molar_volume_cm3)
    return -length / math.log(humidity_percent / 100.0)


class Meniscus(Model):
    """A bridge of condensed liquid between tip and surface."""

    humidity_percent: float = Field(default=50.0, gt=0, lt=100)
    """Relative humidity."""
    surface_tension_mj_per_m2: float = Field(default=72.0, gt=0, le=1000)
    """Surface tension; 72 mJ/m2 (mN/m) for water."""
    contact_angle_deg: float = Field(default=20.0, ge=0, lt=90)
    """Contact angle on tip and surface alike."""
    temperature_k: float = Field(default=298.15, gt=0, le=1000)
    """Temperature."""
    forms_at_nm: float | None = Field(default=None, gt=0, le=1000)
    """Separation below which it condenses; none takes Kelvin's 2 r cos(contact angle)."""
    breaks_at_nm: float | None = Field(default=None, gt=0, le=1000)
    """Separation above which it breaks; none takes the cube root of its volume, or where it
    forms if that is farther."""

    @model_validator(mode="after")
    def _it_breaks_beyond_where_it_forms(self) -> Meniscus:
        if self.breaks_at_nm is not None and self.breaks_at_nm < self.formation_nm:
            raise ValueError(
                f"breaks_at_nm is {self.breaks_at_nm:g}: it must not be below the "
                f"{self.formation_nm:g} nm at which the meniscus forms"
            )
        return self

    @property
    def height_nm(self) -> float:
        """Height H = 2 r cos theta up to which it fills the gap of a touching tip."""
        r = kelvin_radius_nm(
            self.humidity_percent, self.surface_tension_mj_per_m2, self.temperature_k
        )
        return 2.0 * r * math.cos(math.radians(self.contact_angle_deg))

    @property
    def formation_nm(self) -> float:
        """Separation below which it condenses."""
        return self.height_nm if self.forms_at_nm is None else self.forms_at_nm

    def volume_nm3(self, radius_nm: npt.ArrayLike) -> Floats:
        """Return its volume under a touching tip, pi R H^2; it keeps that until it breaks."""
        return np.asarray(np.pi * np.asarray(radius_nm, np.float64) * self.height_nm**2)

    def rupture_nm(self, radius_nm: npt.ArrayLike) -> Floats:
        """Return the separation above which it breaks under tips of some radii."""
        volume = self.volume_nm3(radius_nm)
        if self.breaks_at_nm is not None:
            return np.full(volume.shape, self.breaks_at_nm)
        return np.asarray(np.maximum(np.cbrt(volume), self.formation_nm))

    def contact_force_nn(self, radius_nm: npt.ArrayLike) -> Floats:
        """Return its pull on a touching tip, positive."""
        return capillary_force_nn(radius_nm, self.surface_tension_mj_per_m2, self.contact_angle_deg)

    def force_nn(self, separation_nm: npt.ArrayLike, radius_nm: npt.ArrayLike) -> Floats:
        """Return the force on the tip, negative, while the meniscus is there."""
        d = np.maximum(np.asarray(separation_nm, np.float64), 0.0)
        stretched = 1.0 - d / np.hypot(d, self.height_nm)
        return np.asarray(-self.contact_force_nn(radius_nm) * stretched)

    def hysteresis_ev(self, radius_nm: npt.ArrayLike) -> Floats:
        """Return the energy lost from contact to contact: its pull from forming to breaking."""

        def work(d: npt.ArrayLike) -> Floats:
            return np.asarray(np.asarray(d) - np.hypot(np.asarray(d), self.height_nm))

        gained = work(self.rupture_nm(radius_nm)) - work(self.formation_nm)
        return np.asarray(EV_PER_NN_NM * self.contact_force_nn(radius_nm) * gained)

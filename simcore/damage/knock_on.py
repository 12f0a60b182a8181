"""Knock-on damage: how often a fast electron throws an atom out of its place.

An electron that bounces back from a nucleus of mass M hands over up to
E_max = 2 E (E + 2 m c^2) / M c^2; the atom leaves if that is more than its displacement energy
E_d. The cross section for it has a closed form (McKinley & Feshbach 1948) that overestimates at
high Z; R. F. Egerton advises the relativistic Rutherford formula there.

An atom that happens to move along the beam receives more, (M v + 2 p)^2 / 2 M, so that thermal
and zero-point motion open a door below the static threshold (J. C. Meyer et al., PRL 108 (2012)
196102; T. Susi et al., Nature Communications 7 (2016) 13040).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import yaml
from ase.data import atomic_masses
from scipy import constants as codata
from scipy.integrate import quad

from nanophantom.simcore.damage.stopping import not_negative
from nanophantom.simcore.electrons.constants import (
    BOHR_RADIUS_A,
    REST_ENERGY_KEV,
    velocity_ratio,
)
from nanophantom.simcore.electrons.debye_waller import debye_temperature
from nanophantom.simcore.models import did_you_mean

Floats = npt.NDArray[np.float64]
Site = Literal["bulk", "surface", "sheet"]

BARN_A2: Final[float] = 1e-8
"""One barn in Å^2 (1e-28 m^2)."""
LAST_MCKINLEY_FESHBACH_Z: Final[int] = 28
"""Up to this atomic number the expansion of McKinley & Feshbach is used, Rutherford above."""

_ATOMIC_MASS_EV: Final[float] = (
    codata.atomic_mass * codata.speed_of_light**2 / codata.elementary_charge
)
_RYDBERG_EV: Final[float] = codata.physical_constants["Rydberg constant times hc in eV"][0]

# Gauss-Legendre over the velocities that displace; what lies beyond is e^-40 of it
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_REACH: Final[float] = np.sqrt(80.0)


@dataclass(frozen=True)
class DisplacementEnergy:
    """The energy that takes an atom out of its place, with the source of the number."""

    material: str
    Z: int
    site: Site
    energy_eV: float
    source: str


def maximum_transfer_eV(
    energy_kev: npt.ArrayLike, mass_u: npt.ArrayLike, velocity_m_s: npt.ArrayLike = 0.0
) -> Floats:
    """Return the energy an electron hands to a nucleus by bouncing straight back, in eV.

    (M v + 2 p)^2 / 2 M; for an atom at rest 2 E (E + 2 m c^2) / M c^2. The nucleus is taken as
    infinitely heavy beside the electron: 0.2 % too much for hydrogen at 300 kV, less for others.

    Parameters
    ----------
    energy_kev : float or array_like
        Kinetic energy of the electrons.
    mass_u : float or array_like
        Mass of the atom.
    velocity_m_s : float or array_like
        Velocity of the atom along the beam before the collision.

    Raises
    ------
    ValueError
        If an energy or a mass is not positive and finite.
    """
    mass_eV = _positive(mass_u, "mass_u") * _ATOMIC_MASS_EV
    velocity = np.asarray(velocity_m_s, dtype=np.float64) / codata.speed_of_light
    momentum_eV: Floats = (mass_eV * velocity + 2 * _momentum_eV(energy_kev)) / np.sqrt(2 * mass_eV)
    return momentum_eV**2


def threshold_kev(displacement_energy_eV: npt.ArrayLike, mass_u: npt.ArrayLike) -> Floats:
    """Return the electron energy at which E_max reaches the displacement energy, in keV.

    The inverse of :func:`maximum_transfer_eV` for an atom at rest.

    Raises
    ------
    ValueError
        If a displacement energy or a mass is not positive and finite.
    """
    needed = _positive(displacement_energy_eV, "displacement_energy_eV")
    mass_eV = _positive(mass_u, "mass_u") * _ATOMIC_MASS_EV
    kinetic = needed * mass_eV / (2 * (REST_ENERGY_KEV * 1e3) ** 2)  # (gamma + 1)(gamma - 1)
    threshold: Floats = REST_ENERGY_KEV * kinetic / (np.sqrt(1 + kinetic) + 1)
    return threshold


def mckinley_feshbach_barn(
    energy_kev: npt.ArrayLike,
    Z: npt.ArrayLike,
    mass_u: npt.ArrayLike,
    displacement_energy_eV: npt.ArrayLike,
) -> Floats:
    """Return the displacement cross section of McKinley & Feshbach for an atom at rest, in barn.

    (4 Z^2 E_R^2 / m^2 c^4) (E_max / E_d) pi a0^2 ((1 - b^2) / b^4) {1 + 2 pi a b sqrt(x)
    - x [1 + 2 pi a b + (b^2 + pi a b) ln(1 / x)]}, x = E_d / E_max, b = v / c, a = Z / 137:
    F. Banhart, Rep. Prog. Phys. 62 (1999) 1181, equation 5. Zero below the threshold.

    Parameters
    ----------
    energy_kev : float or array_like
        Kinetic energy of the electrons.
    Z : int or array_like
        Atomic number; the expansion holds below about 28.
    mass_u : float or array_like
        Mass of the atom.
    displacement_energy_eV : float or array_like
        E_d.

    Raises
    ------
    ValueError
        If an argument is not positive and finite.
    """
    transfer = maximum_transfer_eV(energy_kev, mass_u)
    return _cross_section_barn(transfer, energy_kev, Z, displacement_energy_eV, spin=True)


def rutherford_barn(
    energy_kev: npt.ArrayLike,
    Z: npt.ArrayLike,
    mass_u: npt.ArrayLike,
    displacement_energy_eV: npt.ArrayLike,
) -> Floats:
    """Return the relativistic Rutherford displacement cross section, in barn.

    As :func:`mckinley_feshbach_barn` without the terms that the electron's spin brings: the curly
    bracket is 1 - E_d / E_max.

    Raises
    ------
    ValueError
        If an argument is not positive and finite.
    """
    transfer = maximum_transfer_eV(energy_kev, mass_u)
    return _cross_section_barn(transfer, energy_kev, Z, displacement_energy_eV, spin=False)


def displacement_cross_section_barn(
    energy_kev: npt.ArrayLike,
    Z: npt.ArrayLike,
    mass_u: npt.ArrayLike,
    displacement_energy_eV: npt.ArrayLike,
    velocity_variance_m2_s2: npt.ArrayLike | None = None,
) -> Floats:
    """Return the displacement cross section, for atoms at rest or in thermal motion, in barn.

    McKinley & Feshbach up to Z = 28, Rutherford above. With a velocity variance it is the mean
    over a Gaussian of the velocity along the beam, with E_max(v) = (M v + 2 p)^2 / 2 M. The
    integrand has a kink at the velocity where E_max(v) = E_d, so the quadrature starts there: a
    Gauss-Hermite rule, which runs across it, would be wrong just where it matters.

    Parameters
    ----------
    energy_kev, Z, mass_u, displacement_energy_eV : float or array_like
        As for :func:`mckinley_feshbach_barn`; all broadcast against each other.
    velocity_variance_m2_s2 : float or array_like, optional
        <v^2> along the beam, see :func:`velocity_variance_m2_s2`; 0 is an atom at rest.

    Raises
    ------
    ValueError
        If an argument is not positive and finite, or a variance is negative.
    """
    spin = np.asarray(Z) <= LAST_MCKINLEY_FESHBACH_Z
    transfer = maximum_transfer_eV(energy_kev, mass_u)
    static = _cross_section_barn(transfer, energy_kev, Z, displacement_energy_eV, spin)
    if velocity_variance_m2_s2 is None:
        return static
    variance = not_negative(velocity_variance_m2_s2, "velocity_variance_m2_s2")
    moving = variance > 0
    spread = np.sqrt(np.where(moving, variance, 1.0))
    # one more axis, for the nodes
    energy, charge, mass, needed, rms = (
        np.asarray(quantity, dtype=np.float64)[..., None]
        for quantity in (energy_kev, Z, mass_u, displacement_energy_eV, spread)
    )
    start = _threshold_velocity_m_s(energy, mass, needed) / rms
    first = np.maximum(start, -_REACH)
    # the Gaussian falls by e^-40 from max(start, 0) to the end
    onset = np.maximum(start, 0.0)
    last = onset + _REACH**2 / (np.sqrt(onset**2 + _REACH**2) + onset)
    half = np.maximum(last - first, 0.0) / 2
    velocity = first + half * (1 + _NODES)  # in units of the spread
    probability = np.exp(-(velocity**2) / 2) / np.sqrt(2 * np.pi)
    transfer = maximum_transfer_eV(energy, mass, velocity * rms)
    sigma = _cross_section_barn(transfer, energy, charge, needed, spin[..., None])
    thermal = (half * _WEIGHTS * probability * sigma).sum(axis=-1)
    return np.where(moving, thermal, static)


def velocity_variance_m2_s2(
    mass_u: float,
    temperature_k: float,
    debye_temperature_k: float | None = None,
    dimensions: int = 3,
    Z: int | None = None,
) -> float:
    """Return the mean square velocity of an atom along one axis in the Debye model, in m^2/s^2.

    Every mode holds E = h f (n + 1/2), and M <v^2> is its mean over the modes, whose density goes
    as f^(d - 1) up to k_B Theta: <v^2> = (k_B Theta / M) [d / (2 d + 2) + d (T / Theta)^(d + 1)
    integral_0^(Theta / T) t^d / (e^t - 1) dt]. At 0 K that is 3 k_B Theta / 8 M in a crystal,
    k_B Theta / 3 M in a sheet; when hot k_B T / M.

    Parameters
    ----------
    mass_u : float
        Mass of the atom.
    temperature_k : float
        Zero or positive.
    debye_temperature_k : float, optional
        Theta of the modes that move the atom along the beam; a heavier isotope has a lower one,
        as 1 / sqrt(M).
    dimensions : {3, 2}
        d: 3 for a crystal, 2 for the modes of a sheet.
    Z : int, optional
        Without Theta: that of the elemental crystal of this atomic number, for this isotope.

    Raises
    ------
    ValueError
        If an argument is outside its range, or Theta is neither given nor known.
    """
    if dimensions not in (2, 3):
        raise ValueError(f"dimensions must be 3 (crystal) or 2 (sheet), got {dimensions}")
    if not 0 <= temperature_k < np.inf:
        raise ValueError(f"temperature_k must be zero or positive, got {temperature_k}")
    mass_kg = float(_positive(mass_u, "mass_u")) * codata.atomic_mass
    if debye_temperature_k is None:
        if Z is None:
            raise ValueError("give debye_temperature_k, or Z to look it up")
        debye_temperature_k = debye_temperature(Z) * float(np.sqrt(atomic_masses[Z] / mass_u))
    theta = float(_positive(debye_temperature_k, "debye_temperature_k"))
    d = dimensions
    energy = d / (2 * d + 2)  # of a mode, in k_B Theta: zero-point motion, then the phonons
    if temperature_k > 0:
        top = min(theta / temperature_k, 100.0)  # e^-100 of the phonons lie beyond
        phonons, _ = quad(lambda t: t**d / np.expm1(t) if t else 0.0, 0, top, epsrel=1e-11)
        energy += d * (temperature_k / theta) ** (d + 1) * phonons
    return float(codata.Boltzmann * theta / mass_kg * energy)


def removal_rate_per_s(cross_section_barn: npt.ArrayLike, flux_e_per_A2_s: npt.ArrayLike) -> Floats:
    """Return how often an atom is displaced in a beam, 1/s: 1 barn at 1e4 e/Å^2/s is 1e-4 / s.

    Raises
    ------
    ValueError
        If a cross section or a flux is negative or not finite.
    """
    sigma = not_negative(cross_section_barn, "cross_section_barn")
    rate: Floats = sigma * BARN_A2 * not_negative(flux_e_per_A2_s, "flux_e_per_A2_s")
    return rate


def displacement_energy(material: str, site: Site = "bulk") -> DisplacementEnergy:
    """Return a published displacement energy.

    Parameters
    ----------
    material : str
        An element ("Al") or a form of carbon ("graphite", "diamond", "graphene").
    site : {"bulk", "surface", "sheet"}
        "surface" is the sublimation energy: the least that sputtering costs. R. F. Egerton et al.,
        Ultramicroscopy 110 (2010) 991, find 5/3 of it closer to experiment.

    Raises
    ------
    ValueError
        If no value is known; the message lists what is.
    """
    known = {entry.material: entry for entry in _displacement_energies() if entry.site == site}
    if material not in known:
        raise ValueError(
            f"no displacement energy ({site}) is known for {material!r}"
            f"{did_you_mean(material, known)}"
        )
    return known[material]


def _cross_section_barn(
    transfer_eV: Floats,
    energy_kev: npt.ArrayLike,
    Z: npt.ArrayLike,
    displacement_energy_eV: npt.ArrayLike,
    spin: npt.ArrayLike,
) -> Floats:
    """Return the cross section for a given largest transfer, with or without the spin's terms."""
    charge = _positive(Z, "Z")
    needed = _positive(displacement_energy_eV, "displacement_energy_eV")
    beta = velocity_ratio(np.asarray(energy_kev, dtype=np.float64))
    open_ = transfer_eV > needed
    x = needed / np.where(open_, transfer_eV, needed)
    coupling = np.pi * charge * codata.fine_structure * beta
    bracket = np.where(
        spin,
        1 + 2 * coupling * np.sqrt(x) - x * (1 + 2 * coupling - (beta**2 + coupling) * np.log(x)),
        1 - x,
    )
    area_barn = np.pi * (2 * charge * _RYDBERG_EV / (REST_ENERGY_KEV * 1e3) * BOHR_RADIUS_A) ** 2
    kinematics = (1 - beta**2) / beta**4 / x
    return np.where(open_, area_barn / BARN_A2 * kinematics * bracket, 0.0)


def _momentum_eV(energy_kev: npt.ArrayLike) -> Floats:
    """Return the electron's momentum times c, in eV."""
    energy = _positive(energy_kev, "energy_kev")
    momentum: Floats = np.sqrt(energy * (energy + 2 * REST_ENERGY_KEV)) * 1e3
    return momentum


def _threshold_velocity_m_s(energy_kev: Floats, mass_u: Floats, needed_eV: Floats) -> Floats:
    """Return the atom's velocity along the beam from which a head-on collision displaces it."""
    mass_eV = mass_u * _ATOMIC_MASS_EV
    missing_eV = np.sqrt(2 * mass_eV * needed_eV) - 2 * _momentum_eV(energy_kev)
    velocity: Floats = missing_eV / mass_eV * codata.speed_of_light
    return velocity


def _positive(value: npt.ArrayLike, name: str) -> Floats:
    array = np.asarray(value, dtype=np.float64)
    good = (array > 0) & np.isfinite(array)
    if not good.all():
        raise ValueError(f"{name} must be positive and finite, got {array[~good][0]}")
    return array


@cache
def _displacement_energies() -> tuple[DisplacementEnergy, ...]:
    file = resources.files("nanophantom.simcore.damage") / "data" / "radiation_sensitivity.yaml"
    table: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return tuple(
        DisplacementEnergy(**{**entry, "source": table["sources"][entry["source"]]})
        for entry in table["displacement_energies"]
    )

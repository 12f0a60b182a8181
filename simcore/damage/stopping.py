"""Energy that fast electrons leave behind: stopping power, absorbed dose, voltage, heat."""

from __future__ import annotations

from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy import constants as codata
from scipy.optimize import brentq

from nanophantom.simcore.electrons.constants import REST_ENERGY_KEV, velocity_ratio

Floats = npt.NDArray[np.float64]
VoltageLaw = Literal["stopping-power", "measured", "dose-weighting"]

WATER_Z_OVER_A: Final[float] = 0.55508
"""Electrons per atomic mass unit of water, as NIST ESTAR has it."""
WATER_MEAN_EXCITATION_EV: Final[float] = 75.0
"""Mean excitation energy of water (ICRU Report 37, 1984)."""

# 2 pi r_e^2 m c^2 N_A, in MeV cm^2 / mol
_HALF_K: Final[float] = (
    2
    * np.pi
    * codata.physical_constants["classical electron radius"][0] ** 2
    * 1e4
    * REST_ENERGY_KEV
    / 1e3
    * codata.Avogadro
)

# Critical dose relative to 300 kV at the voltages (keV) where somebody measured or stated it:
# M. J. Peet, R. Henderson & C. J. Russo, Ultramicroscopy 203 (2019) 125: spots of
# bacteriorhodopsin and paraffin fade 1.57 times faster at 100 kV; and the 0.8 at 200 kV of the
# dose weighting of T. Grant & N. Grigorieff, eLife 4 (2015) e06980.
_PUBLISHED: Final[dict[str, tuple[tuple[float, float], ...]]] = {
    "measured": ((100.0, 1 / 1.57), (300.0, 1.0)),
    "dose-weighting": ((100.0, 1 / 1.57), (200.0, 0.8), (300.0, 1.0)),
}


def collision_stopping_power(
    energy_kev: npt.ArrayLike,
    z_over_a: float = WATER_Z_OVER_A,
    mean_excitation_eV: float = WATER_MEAN_EXCITATION_EV,
) -> Floats:
    """Return the mass collision stopping power of electrons, in MeV cm^2 / g.

    M. J. Berger & S. M. Seltzer (1964; ICRU Report 37, 1984), without the density effect, which is
    below 0.1 % for water up to 300 keV: 0.15354 (Z / A) / b^2 {2 ln(E / I) + ln(1 + t / 2)
    + (1 - b^2) [1 + t^2 / 8 - (2 t + 1) ln 2]}, t = E / m c^2, b = v / c. The default is water.

    Parameters
    ----------
    energy_kev : float or array_like
        Kinetic energy; at least ten times the mean excitation energy, where the formula holds.
    z_over_a : float
        Electrons of the material per atomic mass unit.
    mean_excitation_eV : float
        I of the material.

    Raises
    ------
    ValueError
        If an argument is not positive, or an energy is below 10 I.
    """
    if not (0 < z_over_a <= 1.0 and 0 < mean_excitation_eV < np.inf):
        raise ValueError(
            "z_over_a must lie in (0, 1] and mean_excitation_eV be positive, "
            f"got {z_over_a} and {mean_excitation_eV}"
        )
    energy = np.asarray(energy_kev, dtype=np.float64)
    beta2 = velocity_ratio(energy) ** 2
    if energy.size and energy.min() * 1e3 < 10 * mean_excitation_eV:
        raise ValueError(
            f"energy_kev = {energy.min():g} is too low for a mean excitation energy of "
            f"{mean_excitation_eV:g} eV: the formula holds from {mean_excitation_eV / 100:g} keV"
        )
    tau = energy / REST_ENERGY_KEV
    spin_and_exchange = (1 - beta2) * (1 + tau**2 / 8 - (2 * tau + 1) * np.log(2))
    logarithms = 2 * np.log(energy * 1e3 / mean_excitation_eV) + np.log1p(tau / 2)
    stopping: Floats = _HALF_K * z_over_a / beta2 * (logarithms + spin_and_exchange)
    return stopping


def absorbed_dose_MGy(
    fluence_e_per_A2: npt.ArrayLike, stopping_MeV_cm2_per_g: npt.ArrayLike
) -> Floats:
    """Return the dose absorbed by a thin specimen, fluence times stopping power, in MGy.

    Raises
    ------
    ValueError
        If an argument is negative or not finite.
    """
    fluence = not_negative(fluence_e_per_A2, "fluence_e_per_A2")
    stopping = not_negative(stopping_MeV_cm2_per_g, "stopping_MeV_cm2_per_g")
    # 1e16 / cm^2 for each e/Å^2; 1 MeV / g is 1e9 e J / kg
    dose: Floats = fluence * 1e16 * stopping * 1e9 * codata.elementary_charge / 1e6
    return dose


def dose_rate_Gy_per_s(
    current_na: npt.ArrayLike, radius_um: npt.ArrayLike, stopping_MeV_cm2_per_g: npt.ArrayLike
) -> Floats:
    """Return the dose rate in a round, evenly lit area, psi = S I / (pi a^2), in Gy/s.

    N. M. Schneider et al., J. Phys. Chem. C 118 (2014) 22373.

    Parameters
    ----------
    current_na : float or array_like
        Beam current in nA.
    radius_um : float or array_like
        Radius a of the beam in µm.
    stopping_MeV_cm2_per_g : float or array_like
        Collision stopping power.

    Raises
    ------
    ValueError
        If a current or stopping power is negative, or a radius not positive.
    """
    current = not_negative(current_na, "current_na") * 1e-9
    stopping = not_negative(stopping_MeV_cm2_per_g, "stopping_MeV_cm2_per_g")
    radius = not_negative(radius_um, "radius_um") * 1e-6
    if not np.all(radius > 0):
        raise ValueError(f"radius_um must be positive, got {radius_um!r}")
    # 1 MeV cm^2 / g is 1e5 eV m^2 / kg; a current of electrons in eV/s is its value in W
    rate: Floats = 1e5 * stopping * current / (np.pi * radius**2)
    return rate


def voltage_scale(
    energy_kev: npt.ArrayLike, reference_kev: float = 300.0, law: VoltageLaw = "measured"
) -> Floats:
    """Return the factor on a radiolytic critical dose that was measured at another voltage.

    Below one where slower electrons do more damage each; its inverse is damage per electron.

    Parameters
    ----------
    energy_kev : float or array_like
        Energy of the electrons.
    reference_kev : float
        Energy for which the critical dose is known.
    law : {"measured", "stopping-power", "dose-weighting"}
        "measured": a power of beta = v / c through the ratio that Peet et al. (2019) measured
        between 100 and 300 kV, 1.57; the exponent is 1.296. "stopping-power": the critical
        dose in Gy is the same at all voltages, so the fluence goes as 1 / S (water; 1.748 between
        100 and 300 kV). "dose-weighting": the 0.8 at 200 kV of Grant & Grigorieff (2015), and
        Peet et al. at 100 kV; powers of beta between and beyond them.

    Raises
    ------
    ValueError
        If an energy is not positive, or the law is unknown.
    """
    if law not in get_args(VoltageLaw):
        raise ValueError(f"law must be one of {', '.join(get_args(VoltageLaw))}, got {law!r}")
    energy, reference = np.asarray(energy_kev, dtype=np.float64), np.asarray(float(reference_kev))
    if law == "stopping-power":
        scale: Floats = collision_stopping_power(reference) / collision_stopping_power(energy)
    else:
        scale = np.exp(_log_dose(energy, law) - _log_dose(reference, law))
    return scale


def beam_heating_k(
    current_na: float,
    thickness_nm: float,
    mean_free_path_nm: float,
    conductivity_W_per_m_K: float,
    beam_diameter_um: float,
    sink_radius_um: float,
    loss_eV: float = 37.0,
    emissivity: float = 0.0,
    ambient_k: float = 293.0,
) -> float:
    """Return how much a beam heats the middle of a thin film with a cold rim, in K.

    Heat in = heat conducted + heat radiated: I dE t / lambda = 4 pi k t dT / [0.58 + 2 ln(2 R0 /
    d)] + (pi d^2 / 2) eps sigma (T^4 - T0^4), the last from both faces of the film under the
    beam: R. F. Egerton, P. Li & M. Malac, Micron 35 (2004) 399.

    Parameters
    ----------
    current_na : float
        Beam current.
    thickness_nm : float
        Thickness t of the film; it cancels unless the film radiates.
    mean_free_path_nm : float
        Inelastic mean free path lambda.
    conductivity_W_per_m_K : float
        Thermal conductivity k of the film.
    beam_diameter_um, sink_radius_um : float
        Diameter d of the beam, and distance R0 to the heat sink (a grid bar).
    loss_eV : float
        Mean energy of an inelastic collision; 37 eV for carbon.
    emissivity : float
        From 0 to 1; 0 leaves out radiation.
    ambient_k : float
        Temperature T0 of sink and surroundings.

    Raises
    ------
    ValueError
        If an argument is outside its range, or the beam is wider than the film.
    """
    lengths = (thickness_nm, mean_free_path_nm, beam_diameter_um, sink_radius_um)
    for value in (*lengths, conductivity_W_per_m_K, loss_eV, ambient_k):
        if not 0 < value < np.inf:
            raise ValueError(f"lengths, conductivity, loss and ambient must be positive: {value}")
    if not (0 <= current_na < np.inf and 0 <= emissivity <= 1):
        raise ValueError("current_na must not be negative and emissivity lie within 0 and 1")
    if beam_diameter_um > 2 * sink_radius_um:
        raise ValueError(f"the beam, {beam_diameter_um} µm, is wider than the film to its sink")
    power_W = current_na * 1e-9 * loss_eV * thickness_nm / mean_free_path_nm
    logarithm = 0.58 + 2 * np.log(2 * sink_radius_um / beam_diameter_um)
    conducted_W_per_k = 4 * np.pi * conductivity_W_per_m_K * thickness_nm * 1e-9 / float(logarithm)
    radiating = np.pi * (beam_diameter_um * 1e-6) ** 2 / 2 * emissivity * codata.Stefan_Boltzmann
    by_conduction_alone = power_W / conducted_W_per_k

    def surplus_W(rise_k: float) -> float:
        radiated = radiating * ((ambient_k + rise_k) ** 4 - ambient_k**4)
        return float(conducted_W_per_k * rise_k + radiated - power_W)

    if radiating == 0 or power_W == 0:
        return float(by_conduction_alone)
    return float(brentq(surplus_W, 0.0, by_conduction_alone, rtol=1e-12))


def _log_dose(energy_kev: Floats, law: str) -> Floats:
    """Return ln(critical dose), straight in ln(beta) between the published points and beyond."""
    energies, doses = np.array(_PUBLISHED[law]).T
    at, log_doses = np.log(velocity_ratio(energies)), np.log(doses)
    x = np.log(velocity_ratio(energy_kev))
    left = np.clip(np.searchsorted(at, x) - 1, 0, len(at) - 2)
    slope = np.diff(log_doses)[left] / np.diff(at)[left]
    value: Floats = log_doses[left] + slope * (x - at[left])
    return value


def not_negative(value: npt.ArrayLike, name: str) -> Floats:
    """Return numbers as an array, refusing negative and infinite ones by name."""
    array = np.asarray(value, dtype=np.float64)
    good = (array >= 0) & np.isfinite(array)
    if not good.all():
        raise ValueError(f"{name} must be zero or positive and finite, got {array[~good][0]}")
    return array

"""What an ionized atom emits, and how much of it leaves the foil and enters the detector.

Edges, lines, Elam's yields and mass attenuation are those of T. Elam, B. Ravel & J. R. Sieber,
Radiat. Phys. Chem. 63 (2002) 121, as kept in the package xraydb; the yields of M. O. Krause,
J. Phys. Chem. Ref. Data 8 (1979) 307 stand beside them. For light elements the two differ by up
to a factor of two (C K: 0.0014 and 0.0028), and no measurement decides: name the one you used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import xraydb
from ase.data import atomic_masses, chemical_symbols

from nanophantom.simcore.electrons.inelastic.ionization import bethe_powell, bote_salvat
from nanophantom.simcore.electrons.inelastic.shells import edge_energy_ev

Floats = npt.NDArray[np.float64]
YieldTable = Literal["krause", "elam"]
CrossSection = Literal["bote_salvat", "bethe_powell"]

# Krause 1979, table 1: omega_K of Z = 5 to 98.
_KRAUSE_K: Final[tuple[float, ...]] = (
    *(0.0017, 0.0028, 0.0052, 0.0083, 0.013, 0.018, 0.023, 0.030, 0.039, 0.050, 0.063, 0.078),
    *(0.097, 0.118, 0.140, 0.163, 0.188, 0.214, 0.243, 0.275, 0.308, 0.340, 0.373, 0.406, 0.440),
    *(0.474, 0.507, 0.535, 0.562, 0.589, 0.618, 0.643, 0.667, 0.690, 0.710, 0.730, 0.747, 0.765),
    *(0.780, 0.794, 0.808, 0.820, 0.831, 0.843, 0.853, 0.862, 0.870, 0.877, 0.884, 0.891, 0.897),
    *(0.902, 0.907, 0.912, 0.917, 0.921, 0.925, 0.929, 0.932, 0.935, 0.938, 0.941, 0.944, 0.947),
    *(0.949, 0.951, 0.953, 0.955, 0.957, 0.958, 0.959, 0.961, 0.962, 0.963, 0.964, 0.965, 0.966),
    *(0.967, 0.968, 0.968, 0.969, 0.969, 0.970, 0.970, 0.971, 0.971, 0.972, 0.972, 0.973, 0.973),
    *(0.974, 0.974, 0.975, 0.975),
)
# Krause 1979, table 1: omega_L3 of Z = 12 to 98.
_KRAUSE_L3: Final[tuple[float, ...]] = (
    *(0.0012, 0.00075, 0.00038, 0.00031, 0.00026, 0.00024, 0.00022, 0.00027, 0.00033, 0.00084),
    *(0.0015, 0.0026, 0.0037, 0.0050, 0.0063, 0.0077, 0.0093, 0.011, 0.012, 0.013, 0.015, 0.016),
    *(0.018, 0.020, 0.022, 0.024, 0.026, 0.028, 0.031, 0.034, 0.037, 0.040, 0.043, 0.046, 0.049),
    *(0.052, 0.056, 0.060, 0.064, 0.069, 0.074, 0.079, 0.085, 0.091, 0.097, 0.104, 0.111, 0.118),
    *(0.125, 0.132, 0.139, 0.147, 0.155, 0.164, 0.174, 0.182, 0.192, 0.201, 0.210, 0.220, 0.231),
    *(0.243, 0.255, 0.268, 0.281, 0.294, 0.306, 0.320, 0.333, 0.347, 0.360, 0.373, 0.386, 0.399),
    *(0.411, 0.424, 0.437, 0.450, 0.463, 0.476, 0.489, 0.502, 0.514, 0.526, 0.539, 0.550, 0.560),
)


@dataclass(frozen=True)
class XRayLine:
    """One characteristic line: Siegbahn's name, energy in eV, share of its subshell's photons."""

    name: str
    subshell: str
    energy_ev: float
    fraction: float


def fluorescence_yield(Z: int, subshell: str, table: YieldTable = "krause") -> float:
    """Return omega: photons per vacancy of a subshell.

    Parameters
    ----------
    Z : int
        Atomic number.
    subshell : str
        "K" or "L3" for Krause; any of xraydb's for Elam.
    table : {"krause", "elam"}
        Krause (1979), or Elam et al. (2002).

    Raises
    ------
    ValueError
        If the table has no such subshell.
    """
    if table == "elam":
        edge_energy_ev(Z, subshell)  # the subshell exists
        return float(xraydb.xray_edges(Z)[subshell].fyield)
    first, yields = {"K": (5, _KRAUSE_K), "L3": (12, _KRAUSE_L3)}.get(subshell, (0, ()))
    if not first <= Z < first + len(yields):
        raise ValueError(
            "Krause's table holds K of Z = 5 to 98 and L3 of Z = 12 to 98, "
            f"got {subshell} of Z = {Z}"
        )
    return yields[Z - first]


def lines(Z: int, subshell: str) -> tuple[XRayLine, ...]:
    """Return the lines that fill a vacancy of a subshell, strongest first; fractions sum to 1.

    Parameters
    ----------
    Z : int
        Atomic number, 1 to 98.
    subshell : str
        "K", "L1", "L2", "L3", ...

    Raises
    ------
    ValueError
        If the element has no such edge.
    """
    edge_energy_ev(Z, subshell)
    found = xraydb.xray_lines(Z, initial_level=subshell)
    total = sum(line.intensity for line in found.values())
    made = [
        XRayLine(name, subshell, float(line.energy), float(line.intensity / total))
        for name, line in found.items()
    ]
    return tuple(sorted(made, key=lambda line: -line.fraction))


def family(Z: int, subshell: str, prefix: str) -> XRayLine:
    """Return the lines whose name starts with a prefix as one: "Ka" for K alpha 1, 2 and 3.

    Their energy is the mean weighted with the fractions, which are summed.

    Raises
    ------
    ValueError
        If no line has such a name.
    """
    members = [line for line in lines(Z, subshell) if line.name.startswith(prefix)]
    if not members:
        raise ValueError(f"{chemical_symbols[Z]} has no {subshell} line that starts with {prefix}")
    fraction = sum(line.fraction for line in members)
    energy = sum(line.energy_ev * line.fraction for line in members) / fraction
    return XRayLine(prefix, subshell, energy, fraction)


def mass_attenuation(mass_fractions: dict[int, float], energy_ev: npt.ArrayLike) -> Floats:
    """Return mu / rho of a mixture in cm^2/g (total, Elam's tables).

    Parameters
    ----------
    mass_fractions : dict
        Mass fraction of each atomic number; they sum to 1.
    energy_ev : array_like, any shape
        Photon energy in eV, 100 eV to 800 keV.

    Raises
    ------
    ValueError
        If the fractions do not sum to 1, or an energy is outside the tables.
    """
    if abs(sum(mass_fractions.values()) - 1) > 1e-6:
        raise ValueError(f"mass_fractions must sum to 1, got {sum(mass_fractions.values()):.6g}")
    energy = np.asarray(energy_ev, dtype=np.float64)
    if np.any(energy < 100) or np.any(energy > 8e5):
        raise ValueError("energy_ev must be 100 to 800000")
    flat = np.atleast_1d(energy).ravel()
    mu = sum(
        share * np.asarray(xraydb.mu_elam(Z, flat), dtype=np.float64)
        for Z, share in mass_fractions.items()
    )
    return np.asarray(mu).reshape(energy.shape)


def absorption_factor(
    mass_attenuation_cm2_g: npt.ArrayLike,
    density_g_cm3: float,
    thickness_nm: npt.ArrayLike,
    takeoff_rad: float,
) -> Floats:
    """Return the fraction of a foil's X-rays that leaves it, (1 - exp(-chi t)) / (chi t).

    chi = (mu / rho) rho / sin(takeoff), for emission uniform in depth and a flat foil seen under
    the take-off angle (J. I. Goldstein et al. 1977).

    Parameters
    ----------
    mass_attenuation_cm2_g : array_like
        mu / rho in cm^2/g.
    density_g_cm3 : float
        Density in g/cm^3.
    thickness_nm : array_like
        Thickness in nm.
    takeoff_rad : float
        Angle between the foil's surface and the way to the detector.

    Raises
    ------
    ValueError
        If the take-off angle is not in (0, pi/2], or the depth is negative.
    """
    if not 0 < takeoff_rad <= np.pi / 2:
        raise ValueError(f"takeoff_rad must be above 0 and at most pi/2, got {takeoff_rad}")
    depth = np.asarray(mass_attenuation_cm2_g, dtype=np.float64) * density_g_cm3
    depth = depth * np.asarray(thickness_nm) * 1e-7 / np.sin(takeoff_rad)
    if np.any(depth < 0):
        raise ValueError("attenuation, density and thickness must not be negative")
    return np.where(depth > 1e-12, -np.expm1(-depth) / np.maximum(depth, 1e-12), 1.0)


def window_transmission(Z: int, thickness_um: float, energy_ev: npt.ArrayLike) -> Floats:
    """Return the transmission of an elemental window, exp(-mu t), at the element's density.

    Raises
    ------
    ValueError
        If the thickness is negative, or an energy is outside the tables.
    """
    if thickness_um < 0:
        raise ValueError(f"thickness_um must not be negative, got {thickness_um}")
    mu = mass_attenuation({Z: 1.0}, energy_ev) * xraydb.atomic_density(Z)
    return np.asarray(np.exp(-mu * thickness_um * 1e-4))


def line_cross_section(
    Z: int,
    subshell: str,
    prefix: str,
    energy_kev: float,
    yields: YieldTable = "krause",
    cross_section: CrossSection = "bote_salvat",
) -> float:
    """Return the cross section in Å^2 for emitting a photon of a line or family: sigma omega a.

    Vacancies that move between subshells before they are filled (Coster-Kronig) are left out.

    Parameters
    ----------
    Z : int
        Atomic number.
    subshell : {"K", "L1", "L2", "L3"}
        Where the vacancy is.
    prefix : str
        Name of the line ("Ka1") or beginning of the names of a family ("Ka").
    energy_kev : float
        Energy of the incident electron in keV.
    yields : {"krause", "elam"}
        Table of the fluorescence yield.
    cross_section : {"bote_salvat", "bethe_powell"}
        Table of the ionization cross section.

    Raises
    ------
    ValueError
        If a table has no such entry.
    """
    if cross_section == "bote_salvat":
        ionized = float(bote_salvat(Z, subshell, energy_kev))
    elif cross_section == "bethe_powell":
        ionized = float(bethe_powell(Z, subshell, energy_kev))
    else:
        raise ValueError(
            f"cross_section must be bote_salvat or bethe_powell, got {cross_section!r}"
        )
    share = family(Z, subshell, prefix).fraction
    return ionized * fluorescence_yield(Z, subshell, yields) * share


def k_factor(
    Z_a: int,
    Z_b: int,
    energy_kev: float,
    subshell: str = "K",
    prefix: str = "Ka",
    efficiency_a: float = 1.0,
    efficiency_b: float = 1.0,
    yields: YieldTable = "krause",
    cross_section: CrossSection = "bote_salvat",
) -> float:
    """Return Cliff & Lorimer's k_AB in C_A / C_B = k_AB I_A / I_B (mass fractions, counts).

    k_AB = (sigma omega a eps / M)_B / (sigma omega a eps / M)_A: G. Cliff & G. W. Lorimer,
    J. Microsc. 103 (1975) 203.

    Parameters
    ----------
    Z_a, Z_b : int
        Atomic numbers.
    energy_kev : float
        Energy of the incident electron in keV.
    subshell, prefix : str
        Lines of both elements, as for `line_cross_section`.
    efficiency_a, efficiency_b : float
        Detector efficiencies eps for the two lines.
    yields, cross_section
        Tables, as for `line_cross_section`.

    Raises
    ------
    ValueError
        If an efficiency is not positive, or a table has no such entry.
    """
    if not min(efficiency_a, efficiency_b) > 0:
        raise ValueError("efficiency_a and efficiency_b must be positive")
    sigma_a, sigma_b = (
        line_cross_section(Z, subshell, prefix, energy_kev, yields, cross_section)
        for Z in (Z_a, Z_b)
    )
    a = sigma_a * efficiency_a / atomic_masses[Z_a]
    b = sigma_b * efficiency_b / atomic_masses[Z_b]
    return float(b / a)

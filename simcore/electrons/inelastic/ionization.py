"""Total cross sections for ionizing an inner subshell by electron impact: what makes X-rays.

Two named sources. `bote_salvat` is the primary one: analytic fits, good to about 1 %, to a
database of relativistic distorted-wave Born calculations (D. Bote, F. Salvat, A. Jablonski,
C. J. Powell, At. Data Nucl. Data Tables 95 (2009) 871). `bethe_powell` is the formula on which
most k-factors of the literature rest (C. J. Powell, Rev. Mod. Phys. 48 (1976) 33).
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import constants as codata

from nanophantom.simcore.electrons.constants import (
    BOHR_RADIUS_A,
    REST_ENERGY_KEV,
    lorentz_factor,
    velocity_ratio,
)
from nanophantom.simcore.electrons.inelastic.shells import edge_energy_ev

Floats = npt.NDArray[np.float64]

_RYDBERG_EV: Final[float] = codata.physical_constants["Rydberg constant times hc in eV"][0]
_ELECTRONS: Final[dict[str, int]] = {"K": 2, "L1": 2, "L2": 2, "L3": 4}
_LOW_OVERVOLTAGE: Final[float] = 16.0


def bote_salvat(Z: int, subshell: str, energy_kev: npt.ArrayLike) -> Floats:
    """Return the ionization cross section of a subshell in Å^2; zero below its edge.

    With U = E / E_c: up to U = 16, 4 pi a0^2 (U - 1) / U^2 (a1 + a2 U + a3 / (1 + U)
    + a4 / (1 + U)^3 + a5 / (1 + U)^5)^2; above, the Bethe form
    4 pi a0^2 U / (U + b) A / beta^2 ([ln X^2 - beta^2] (1 + g1 / X) + g2 + g3 / gamma^(1/2)
    + g4 / X), X = p / (m c).

    Parameters
    ----------
    Z : int
        Atomic number.
    subshell : {"K", "L1", "L2", "L3"}
        The subshell.
    energy_kev : array_like, any shape
        Kinetic energy in keV, up to 1 GeV.

    Returns
    -------
    ndarray, shape of energy_kev

    Raises
    ------
    ValueError
        If the table has no such subshell, or an energy is not positive.
    """
    edge, b, A, g1, g2, g3, g4, a1, a2, a3, a4, a5 = _row(Z, subshell)
    energy = np.asarray(energy_kev, dtype=np.float64)
    overvoltage = np.maximum(energy * 1e3 / edge, 1.0)

    near = a1 + a2 * overvoltage + a3 / (1 + overvoltage)
    near = near + a4 / (1 + overvoltage) ** 3 + a5 / (1 + overvoltage) ** 5
    slow = (overvoltage - 1) / overvoltage**2 * near**2

    gamma, beta = lorentz_factor(energy), velocity_ratio(energy)
    momentum = np.sqrt(energy * (energy + 2 * REST_ENERGY_KEV)) / REST_ENERGY_KEV
    bethe = (2 * np.log(momentum) - beta**2) * (1 + g1 / momentum)
    bethe = bethe + g2 + g3 / np.sqrt(gamma) + g4 / momentum
    fast = overvoltage / (overvoltage + b) * A / beta**2 * bethe

    area = 4 * np.pi * BOHR_RADIUS_A**2
    return np.asarray(area * np.where(overvoltage <= _LOW_OVERVOLTAGE, slow, fast))


def bote_salvat_edge_ev(Z: int, subshell: str) -> float:
    """Return the ionization energy E_c of the calculation in eV, that of a free atom.

    Raises
    ------
    ValueError
        If the table has no such subshell.
    """
    return _row(Z, subshell)[0]


def bethe_powell(
    Z: int,
    subshell: str,
    energy_kev: npt.ArrayLike,
    b: float = 0.9,
    c: float = 0.65,
    edge_ev: float | None = None,
) -> Floats:
    """Return Bethe's cross section of a subshell in Å^2, relativistic; zero where not positive.

    4 pi a0^2 R^2 n b / (T E_c) (ln(c T / E_c) + ln gamma^2 - beta^2), T = m v^2 / 2 and n
    electrons in the subshell. Powell's b = 0.9 and c = 0.65 are for K shells and 4 < U < 25. The
    relativistic form is that of M. Inokuti, Rev. Mod. Phys. 43 (1971) 297.

    Parameters
    ----------
    Z : int
        Atomic number, 1 to 98.
    subshell : {"K", "L1", "L2", "L3"}
        The subshell.
    energy_kev : array_like, any shape
        Kinetic energy in keV.
    b, c : float
        Bethe's parameters.
    edge_ev : float, optional
        Ionization energy in eV; by default the absorption edge in xraydb.

    Returns
    -------
    ndarray, shape of energy_kev

    Raises
    ------
    ValueError
        If the subshell is unknown, or an energy is not positive.
    """
    if subshell not in _ELECTRONS:
        raise ValueError(f"subshell must be one of {', '.join(_ELECTRONS)}, got {subshell!r}")
    energy = np.asarray(energy_kev, dtype=np.float64)
    edge = edge_energy_ev(Z, subshell) if edge_ev is None else edge_ev
    beta2 = velocity_ratio(energy) ** 2
    T = REST_ENERGY_KEV * 1e3 * beta2 / 2
    logarithm = np.log(c * T / edge) + 2 * np.log(lorentz_factor(energy)) - beta2
    area = 4 * np.pi * BOHR_RADIUS_A**2 * _RYDBERG_EV**2
    return np.asarray(area * _ELECTRONS[subshell] * b / (T * edge) * np.maximum(logarithm, 0))


def _row(Z: int, subshell: str) -> tuple[float, ...]:
    table = _bote_salvat_table()
    if (Z, subshell) not in table:
        raise ValueError(
            f"Bote & Salvat: no subshell {subshell} of Z = {Z} "
            f"(K, L1, L2, L3; Z = 1 to {max(z for z, _ in table)})"
        )
    return table[Z, subshell]


@cache
def _bote_salvat_table() -> dict[tuple[int, str], tuple[float, ...]]:
    text = (
        resources.files("nanophantom.simcore.electrons.inelastic")
        .joinpath("data/bote_salvat_2009.txt")
        .read_text(encoding="utf-8")
    )
    rows = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return {(int(Z), shell): tuple(map(float, numbers)) for Z, shell, *numbers in rows}

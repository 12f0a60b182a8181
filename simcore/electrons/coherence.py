"""Temporal coherence: how far the focus spreads, and an average over it."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
from numpy.polynomial.hermite_e import hermegauss

Floats = npt.NDArray[np.float64]


def focal_spread(
    Cc_A: float,
    energy_kev: float,
    energy_spread_ev: float,
    voltage_instability: float = 0.0,
    current_instability: float = 0.0,
) -> float:
    """Return the standard deviation of the defocus, Cc sqrt((dE/E)^2 + (dV/V)^2 + (2 dI/I)^2).

    O. Scherzer's chromatic defocus (L. Reimer & H. Kohl, Transmission Electron Microscopy, 5th ed.
    2008), with Cc as manufacturers state it (the relativistic factor included).

    Parameters
    ----------
    Cc_A : float
        Coefficient of chromatic aberration in Å.
    energy_kev : float
        Electron energy.
    energy_spread_ev : float
        Standard deviation of the electrons' energy.
    voltage_instability, current_instability : float
        Relative standard deviations dV/V of the high voltage and dI/I of the lens current.

    Returns
    -------
    float
        Focal spread in Å.

    Raises
    ------
    ValueError
        If a parameter is negative or the energy is not positive.
    """
    if not energy_kev > 0:
        raise ValueError(f"energy_kev must be positive, got {energy_kev}")
    if not min(Cc_A, energy_spread_ev, voltage_instability, current_instability) >= 0:
        raise ValueError("Cc, energy spread and instabilities must be zero or positive")
    relative = np.array(
        [energy_spread_ev / (energy_kev * 1e3), voltage_instability, 2 * current_instability]
    )
    return float(Cc_A * np.sqrt(np.sum(relative**2)))


@cache
def focal_quadrature(points: int) -> tuple[Floats, Floats, float]:
    """Return nodes and weights of the average over a normal distribution, and their reach.

    The mean of exp(-i a x) over x ~ N(0, 1) is exp(-a^2 / 2). The reach is the a up to which the
    quadrature gives that within 0.01; beyond, its sum of a few cosines rises again up to one.

    Parameters
    ----------
    points : int
        Number of nodes: defoci to average over, in units of the focal spread.
    """
    nodes, weights = hermegauss(points)
    weights = weights / weights.sum()
    a = np.linspace(0, np.sqrt(4 * points + 2), 4001)
    error = np.abs(weights @ np.cos(np.outer(nodes, a)) - np.exp(-(a**2) / 2))
    return nodes, weights, float(a[np.argmax(error > 0.01)])

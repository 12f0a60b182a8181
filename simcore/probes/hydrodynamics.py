"""A beam that swings in a fluid: added mass, damping, and the stiffness they betray.

The fluid around a thin blade of width b that swings flexurally at omega pulls on each length of it
with ``(pi / 4) rho omega^2 b^2 Gamma(Re) W``, ``Re = rho omega b^2 / 4 eta``. The real part of the
hydrodynamic function Gamma is mass that swings along, the imaginary part is damping. In
a gas the mass is hardly noticed; in water the resonance falls to a half or less and Q to a few.

Sources: J. E. Sader, J. Appl. Phys. 84 (1998) 64; J. E. Sader, J. W. M. Chon and P. Mulvaney,
Rev. Sci. Instrum. 70 (1999) 3967. Valid for long beams far from walls and the first few modes; the
flow along the beam, which matters where a mode's half-waves become as short as the width, is
neglected.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.special import kve

from nanophantom.simcore.models import Model

SADER_FACTOR = 0.1905942
"""pi/4 times the effective mass of a clamped beam, 0.24267; published as 0.1906."""
SMALLEST_REYNOLDS, LARGEST_REYNOLDS = 1e-6, 1e4
"""Where Sader's rational correction holds, to 0.1 %."""

# Correction of a circular cylinder's function to that of a thin blade: coefficients of the powers
# of lg Re, highest first (Sader 1998, eq. 21).
_REAL_OVER = (0.00069085, -0.0035117, 0.044055, -0.12886, 0.46842, -0.48274, 0.91324)
_REAL_UNDER = (0.00069085, -0.0035862, 0.045155, -0.13444, 0.48690, -0.56964, 1.0)
_IMAG_OVER = (-0.000044510, 0.000064577, -0.00010961, 0.016294, -0.029256, -0.024134)
_IMAG_UNDER = (0.0028361, -0.014369, 0.079156, -0.18357, 0.55182, -0.59702, 1.0)

_MOST_STEPS = 500


class Fluid(Model):
    """What surrounds the lever; air at 25 °C unless told otherwise."""

    density_g_per_cm3: float = Field(default=0.00118, gt=0, le=20)
    """Density."""
    viscosity_pa_s: float = Field(default=1.86e-5, gt=0, le=10)
    """Shear viscosity."""


AIR = Fluid()
WATER = Fluid(density_g_per_cm3=0.99705, viscosity_pa_s=8.9e-4)
"""Water at 25 °C (CRC Handbook of Chemistry and Physics)."""


def reynolds_number(frequency_khz: float, width_um: float, fluid: Fluid) -> float:
    """Return Re = rho omega b^2 / 4 eta of a beam of width b."""
    omega = 2e3 * math.pi * frequency_khz
    density = 1e3 * fluid.density_g_per_cm3
    return density * omega * (1e-6 * width_um) ** 2 / (4.0 * fluid.viscosity_pa_s)


def hydrodynamic_function(reynolds: npt.ArrayLike) -> npt.NDArray[np.complex128]:
    """Return Gamma of a thin rectangular beam, for time dependence exp(-i omega t).

    Parameters
    ----------
    reynolds
        Reynolds numbers, any shape.

    Raises
    ------
    ValueError
        A Reynolds number lies outside 1e-6 to 1e4, where the published correction holds.
    """
    re = np.asarray(reynolds, np.float64)
    if not ((re >= SMALLEST_REYNOLDS) & (re <= LARGEST_REYNOLDS)).all():
        raise ValueError(
            f"the Reynolds number must lie within {SMALLEST_REYNOLDS:g} and {LARGEST_REYNOLDS:g} "
            f"for the hydrodynamic function; it is {np.array2string(re, threshold=4, precision=4)}"
        )
    root = np.sqrt(1j * re)
    # Scaled Bessel functions: the scale cancels in the ratio, and nothing underflows.
    cylinder = 1.0 + 4j * kve(1, -1j * root) / (root * kve(0, -1j * root))
    lg = np.log10(re)
    real = np.polyval(_REAL_OVER, lg) / np.polyval(_REAL_UNDER, lg)
    imaginary = np.polyval(_IMAG_OVER, lg) / np.polyval(_IMAG_UNDER, lg)
    return np.asarray((real + 1j * imaginary) * cylinder, np.complex128)


def immersed_resonance(
    vacuum_khz: float,
    width_um: float,
    thickness_um: float,
    density_g_per_cm3: float,
    fluid: Fluid,
) -> tuple[float, float]:
    """Return resonance (kHz) and quality factor of a mode of a rectangular beam in a fluid.

    ``f = f_vac / sqrt(1 + m Gamma_r)``, ``Q = (1 / m + Gamma_r) / Gamma_i`` with
    ``m = pi rho b / (4 rho_c h)`` and Gamma taken at f (Sader 1998, eqs. 27): a beam whose damping
    is not large. With a Q below about 2 the peak of the response lies elsewhere.

    Parameters
    ----------
    vacuum_khz
        Resonance of the mode in vacuum.
    width_um, thickness_um, density_g_per_cm3
        The beam.
    fluid
        What surrounds it.

    Raises
    ------
    ValueError
        The Reynolds number leaves the range of the hydrodynamic function.
    """
    mass = (math.pi * fluid.density_g_per_cm3 * width_um) / (4.0 * density_g_per_cm3 * thickness_um)
    known = LARGEST_REYNOLDS / reynolds_number(vacuum_khz, width_um, fluid)
    frequency = vacuum_khz * min(1.0, known * (1.0 - 1e-12))
    # The added mass falls with the frequency, so these steps approach the solution steadily.
    for _ in range(_MOST_STEPS):
        gamma = complex(hydrodynamic_function(reynolds_number(frequency, width_um, fluid)))
        before, frequency = frequency, vacuum_khz / math.sqrt(1.0 + mass * gamma.real)
        if abs(before - frequency) < 1e-14 * frequency:
            break
    return frequency, (1.0 / mass + gamma.real) / gamma.imag


def sader_stiffness_n_per_m(
    resonance_khz: float,
    quality_factor: float,
    length_um: float,
    width_um: float,
    fluid: Fluid = AIR,
) -> float:
    """Return the static stiffness of a rectangular lever from its resonance in a fluid.

    ``k = 0.1906 rho b^2 L Q Gamma_i(omega) omega^2``; neither thickness nor material is needed
    (Sader, Chon and Mulvaney 1999). Q has to be the fluid's: losses in the lever must be small.

    Raises
    ------
    ValueError
        A quantity is not positive, or the Reynolds number is out of range.
    """
    if not min(resonance_khz, quality_factor, length_um, width_um) > 0:
        raise ValueError("resonance, quality factor, length and width must be positive")
    gamma = complex(hydrodynamic_function(reynolds_number(resonance_khz, width_um, fluid)))
    omega = 2e3 * math.pi * resonance_khz
    volume = 1e-18 * width_um**2 * length_um
    density = 1e3 * fluid.density_g_per_cm3
    return SADER_FACTOR * density * volume * quality_factor * gamma.imag * omega**2

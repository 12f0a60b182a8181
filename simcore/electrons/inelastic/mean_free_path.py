"""How far a fast electron goes between inelastic collisions, and how many lose no energy.

Two parametrizations of measured mean free paths; both count only collisions within a collection
semiangle. Neither holds for ice or liquid water, for which a measured number is given.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, xlogy

from nanophantom.simcore.electrons.constants import lorentz_factor

Floats = npt.NDArray[np.float64]

VITREOUS_ICE_300KV_NM: Final[float] = 315.0
"""Inelastic mean free path in vitreous ice at 300 kV as parakeet takes it (J. M. Parkhurst et al.,
Open Biol. 11 (2021) 210160). Filtered imaging with slit and objective aperture finds
395 nm on a Krios at NYSBC (W. J. Rice et al., J. Struct. Biol. 204 (2018) 38); the formula of
Iakoubovskii gives 226 nm: it is not for ice."""

_IAKOUBOVSKII_CUTOFF_MRAD: Final[float] = 20.0


def _relativistic_factor(energy_kev: float) -> float:
    """Return F = (1 + E / 1022) / (1 + E / 511)^2 = m v^2 / (2 E)."""
    gamma = lorentz_factor(energy_kev)
    return (1 + gamma) / 2 / gamma**2


def iakoubovskii(
    density_g_cm3: float,
    energy_kev: float,
    collection_mrad: float = np.inf,
    convergence_mrad: float = 0.0,
) -> float:
    """Return the inelastic mean free path in nm from a material's density.

    1 / lambda = 11 rho^0.3 / (200 F E0) ln(((a^2 + b^2 + 2 tE^2 + |a^2 - b^2|)
    / (a^2 + b^2 + 2 tC^2 + |a^2 - b^2|)) tC^2 / tE^2) with convergence a, collection b,
    tE = 5.5 rho^0.3 / (F E0) and tC = 20 mrad: K. Iakoubovskii, K. Mitsuishi, Y. Nakayama &
    K. Furuya, Microsc. Res. Tech. 71 (2008) 626.

    Parameters
    ----------
    density_g_cm3 : float
        Density in g/cm^3.
    energy_kev : float
        Energy of the electrons in keV.
    collection_mrad, convergence_mrad : float
        Collection and convergence semiangles in mrad. A collection far beyond tC (the default)
        gives their equation 9, the mean free path for all inelastic collisions.

    Raises
    ------
    ValueError
        If density, energy or collection semiangle is not positive, or the convergence is negative.
    """
    _check_positive(density_g_cm3=density_g_cm3, collection_mrad=collection_mrad)
    if convergence_mrad < 0:
        raise ValueError(f"convergence_mrad must not be negative, got {convergence_mrad}")
    FE = _relativistic_factor(energy_kev) * energy_kev
    theta_E = 5.5 * density_g_cm3**0.3 / FE
    # a^2 + b^2 + |a^2 - b^2| is twice the larger square
    larger = max(convergence_mrad, collection_mrad) ** 2
    cutoff = _IAKOUBOVSKII_CUTOFF_MRAD**2
    collected = (1 + theta_E**2 / larger) / (1 + cutoff / larger)
    logarithm = np.log(collected * cutoff / theta_E**2)
    return float(200 * FE / (11 * density_g_cm3**0.3 * logarithm))


def malis(effective_Z: float, energy_kev: float, collection_mrad: float = 10.0) -> float:
    """Return the inelastic mean free path in nm from an effective atomic number.

    lambda = 106 F (E0 / Em) / ln(2 b E0 / Em), Em = 7.6 Z^0.36 eV, b in mrad, for parallel
    illumination: T. Malis, S. C. Cheng & R. F. Egerton, J. Electron Microsc. Tech. 8 (1988) 193;
    good to 20 %, for b up to some 15 mrad.

    Parameters
    ----------
    effective_Z : float
        Sum f Z^1.3 / sum f Z^0.3 over the atomic fractions f.
    energy_kev : float
        Energy of the electrons in keV.
    collection_mrad : float
        Collection semiangle in mrad.

    Raises
    ------
    ValueError
        If an argument is not positive, or the collection is so small that the formula fails.
    """
    _check_positive(effective_Z=effective_Z, collection_mrad=collection_mrad)
    mean_loss = 7.6 * effective_Z**0.36
    argument = 2 * collection_mrad * energy_kev / mean_loss
    if argument <= 1:
        raise ValueError(
            f"collection_mrad must exceed {mean_loss / (2 * energy_kev):.3g}, got {collection_mrad}"
        )
    factor = _relativistic_factor(energy_kev)
    return float(106 * factor * energy_kev / mean_loss / np.log(argument))


def effective_atomic_number(atomic_numbers: npt.ArrayLike, fractions: npt.ArrayLike) -> float:
    """Return Z_eff = sum f Z^1.3 / sum f Z^0.3 of a compound (Malis et al. 1988, after Lenz).

    Raises
    ------
    ValueError
        If a fraction is negative, or all are zero.
    """
    Z = np.asarray(atomic_numbers, dtype=np.float64)
    f = np.asarray(fractions, dtype=np.float64)
    if np.any(f < 0) or not np.any(f > 0):
        raise ValueError("fractions must not be negative, and one at least must be positive")
    return float(np.sum(f * Z**1.3) / np.sum(f * Z**0.3))


def zero_loss_fraction(thickness_nm: npt.ArrayLike, mean_free_path_nm: float) -> Floats:
    """Return the fraction of electrons without an energy loss, exp(-t / lambda).

    Parameters
    ----------
    thickness_nm : array_like, any shape
        Thickness along the beam in nm.
    mean_free_path_nm : float
        Inelastic mean free path in nm.

    Raises
    ------
    ValueError
        If a thickness is negative, or the mean free path not positive.
    """
    return loss_fraction(0, thickness_nm, mean_free_path_nm)


def loss_fraction(
    count: npt.ArrayLike, thickness_nm: npt.ArrayLike, mean_free_path_nm: float
) -> Floats:
    """Return the fraction of electrons with n losses: Poisson, (t/lambda)^n exp(-t/lambda) / n!.

    Parameters
    ----------
    count : array_like of int
        Number of losses n; broadcasts against thickness_nm.
    thickness_nm : array_like
        Thickness along the beam in nm.
    mean_free_path_nm : float
        Inelastic mean free path in nm.

    Raises
    ------
    ValueError
        If a count or a thickness is negative, or the mean free path not positive.
    """
    _check_positive(mean_free_path_nm=mean_free_path_nm)
    n = np.asarray(count)
    mean = np.asarray(thickness_nm, dtype=np.float64) / mean_free_path_nm
    if np.any(n < 0) or np.any(mean < 0):
        raise ValueError("count and thickness_nm must not be negative")
    return np.asarray(np.exp(xlogy(n, mean) - mean - gammaln(n + 1)))


def relative_thickness(total_intensity: npt.ArrayLike, zero_loss: npt.ArrayLike) -> Floats:
    """Return t / lambda = ln(I_total / I_zero-loss), the log-ratio method.

    Raises
    ------
    ValueError
        If the zero loss is not positive, or exceeds the total.
    """
    total, zero = np.asarray(total_intensity, float), np.asarray(zero_loss, float)
    if np.any(zero <= 0) or np.any(zero > total):
        raise ValueError("zero_loss must be positive and at most total_intensity")
    return np.asarray(np.log(total / zero))


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")

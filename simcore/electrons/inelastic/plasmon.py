"""Plasmons: their energy, how often and into which angles they scatter, and low-loss spectra.

R. F. Egerton, Electron Energy-Loss Spectroscopy in the Electron Microscope, 3rd ed. (2011),
chapters 3.3 (volume plasmons), 3.4.1 (plural scattering) and 4.1 (Fourier logarithm).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import fft

from nanophantom.simcore.electrons.constants import (
    BOHR_RADIUS_A,
    REST_ENERGY_KEV,
    lorentz_factor,
    velocity_ratio,
)

Floats = npt.NDArray[np.float64]

_FREE_ELECTRON_EV: Final[float] = 28.816  # hbar sqrt(n e^2 / (eps0 m)) at 1 mol of electrons / cm^3


def free_electron_plasmon_energy(
    valence_electrons: float, density_g_cm3: float, molar_mass_g: float
) -> float:
    """Return hbar omega_p of free electrons in eV, 28.816 sqrt(z rho / A).

    Parameters
    ----------
    valence_electrons : float
        z, per formula unit of the molar mass.
    density_g_cm3, molar_mass_g : float
        Density in g/cm^3 and molar mass in g/mol.

    Raises
    ------
    ValueError
        If an argument is not positive.
    """
    if not min(valence_electrons, density_g_cm3, molar_mass_g) > 0:
        raise ValueError("valence_electrons, density_g_cm3 and molar_mass_g must be positive")
    return float(_FREE_ELECTRON_EV * np.sqrt(valence_electrons * density_g_cm3 / molar_mass_g))


def characteristic_angle(energy_loss_ev: npt.ArrayLike, energy_kev: float) -> Floats:
    """Return theta_E = E / (gamma m v^2) in rad: half width of the angular distribution.

    Parameters
    ----------
    energy_loss_ev : array_like, any shape
        Energy loss in eV.
    energy_kev : float
        Energy of the incident electron in keV.
    """
    momentum_times_velocity = (
        lorentz_factor(energy_kev) * REST_ENERGY_KEV * 1e3 * velocity_ratio(energy_kev) ** 2
    )
    return np.asarray(energy_loss_ev, dtype=np.float64) / momentum_times_velocity


def plasmon_mean_free_path(plasmon_energy_ev: float, energy_kev: float, cutoff_rad: float) -> float:
    """Return lambda_p = a0 m v^2 / (E_p ln(theta_c / theta_E)) in Å.

    The expression is Egerton's approximation for theta_c >> theta_E.

    Parameters
    ----------
    plasmon_energy_ev : float
        Plasmon energy E_p in eV.
    energy_kev : float
        Energy of the incident electron in keV.
    cutoff_rad : float
        Largest scattering angle that is counted: collection, or the plasmon's cutoff, in rad.

    Raises
    ------
    ValueError
        If the cutoff does not exceed the characteristic angle.
    """
    theta_E = float(characteristic_angle(plasmon_energy_ev, energy_kev))
    if not cutoff_rad > theta_E:
        raise ValueError(f"cutoff_rad must exceed theta_E = {theta_E:.3g}, got {cutoff_rad}")
    mv2 = REST_ENERGY_KEV * 1e3 * velocity_ratio(energy_kev) ** 2
    return float(BOHR_RADIUS_A * mv2 / (plasmon_energy_ev * np.log(cutoff_rad / theta_E)))


def angular_distribution(
    angle_rad: npt.ArrayLike, characteristic_rad: float, cutoff_rad: float
) -> Floats:
    """Return the probability per sr of a scattering angle: Lorentzian, zero beyond the cutoff.

    1 / (theta^2 + theta_E^2) / (pi ln(1 + theta_c^2 / theta_E^2)), whose integral over
    2 pi theta d(theta) is 1 (small angles).

    Parameters
    ----------
    angle_rad : array_like, any shape
        Scattering angle in rad.
    characteristic_rad, cutoff_rad : float
        theta_E and theta_c in rad.

    Raises
    ------
    ValueError
        If theta_E or theta_c is not positive.
    """
    if not min(characteristic_rad, cutoff_rad) > 0:
        raise ValueError("characteristic_rad and cutoff_rad must be positive")
    angle = np.asarray(angle_rad, dtype=np.float64)
    norm = np.pi * np.log1p((cutoff_rad / characteristic_rad) ** 2)
    lorentzian = 1 / (angle**2 + characteristic_rad**2) / norm
    return np.where(np.abs(angle) <= cutoff_rad, lorentzian, 0.0)


def draw_angles(
    count: int, characteristic_rad: float, cutoff_rad: float, rng: np.random.Generator
) -> Floats:
    """Return scattering angles in rad drawn from `angular_distribution` (inverse of its integral).

    Raises
    ------
    ValueError
        If theta_E or theta_c is not positive.
    """
    if not min(characteristic_rad, cutoff_rad) > 0:
        raise ValueError("characteristic_rad and cutoff_rad must be positive")
    total = np.log1p((cutoff_rad / characteristic_rad) ** 2)
    return np.asarray(characteristic_rad * np.sqrt(np.expm1(rng.random(count) * total)))


def drude_loss_function(
    energy_loss_ev: npt.ArrayLike, plasmon_energy_ev: float, width_ev: float
) -> Floats:
    """Return Im(-1 / eps) of damped free electrons: E W E_p^2 / ((E^2 - E_p^2)^2 + (E W)^2).

    eps = 1 - E_p^2 / (E^2 + i E W) (Egerton, chapter 3.3.1); odd in E; integral of E Im(-1 / eps)
    over E > 0 is pi E_p^2 / 2.

    Parameters
    ----------
    energy_loss_ev : array_like, any shape
        Energy loss in eV.
    plasmon_energy_ev, width_ev : float
        E_p, and the full width at half maximum W, in eV.

    Raises
    ------
    ValueError
        If E_p or W is not positive.
    """
    if not min(plasmon_energy_ev, width_ev) > 0:
        raise ValueError("plasmon_energy_ev and width_ev must be positive")
    E = np.asarray(energy_loss_ev, dtype=np.float64)
    damped = E * width_ev
    return damped * plasmon_energy_ev**2 / ((E**2 - plasmon_energy_ev**2) ** 2 + damped**2)


def single_scattering(
    energy_loss_ev: npt.ArrayLike,
    plasmon_energy_ev: float,
    width_ev: float,
    energy_kev: float,
    collection_rad: float,
) -> Floats:
    """Return the probability per eV of a loss in one plasmon collision, on a given axis.

    Im(-1 / eps) ln(1 + (beta / theta_E)^2), zero for E <= 0, and of unit sum times
    step over the axis, so that the axis must be long enough to hold the plasmon's tail.

    Parameters
    ----------
    energy_loss_ev : array_like, shape (n,)
        Energy axis in eV, equidistant, ascending.
    plasmon_energy_ev, width_ev : float
        E_p and width in eV.
    energy_kev : float
        Energy of the incident electron in keV.
    collection_rad : float
        Collection semiangle beta in rad.

    Raises
    ------
    ValueError
        If the axis is not equidistant and ascending, or holds no positive energy.
    """
    E = np.asarray(energy_loss_ev, dtype=np.float64)
    step = _step(E)
    if E[-1] <= 0:
        raise ValueError("energy_loss_ev must reach positive losses")
    positive = np.where(E > 0, E, step)
    angles = np.log1p((collection_rad / characteristic_angle(positive, energy_kev)) ** 2)
    shape = drude_loss_function(positive, plasmon_energy_ev, width_ev) * angles * (E > 0)
    return np.asarray(shape / (shape.sum() * step))


def plural_scattering(
    zero_loss: npt.ArrayLike,
    single: npt.ArrayLike,
    thickness_over_mfp: float,
    energy_loss_ev: npt.ArrayLike,
) -> Floats:
    """Return a low-loss spectrum with all orders of scattering.

    J = Z exp((t / lambda) (s - 1)) in the transforms (the Fourier logarithm, read forwards):
    losses that follow each other are independent, and their number is Poisson's.

    Parameters
    ----------
    zero_loss : array_like, shape (n,)
        The spectrum without specimen: the zero-loss peak, anywhere on the axis.
    single : array_like, shape (n,)
        Probability per eV of the loss in one collision (sum times step is 1).
    thickness_over_mfp : float
        t / lambda.
    energy_loss_ev : array_like, shape (n,)
        Energy axis in eV, equidistant, with 0 on it. Losses beyond its end are lost.

    Returns
    -------
    ndarray, shape (n,)
        In the unit of zero_loss.

    Raises
    ------
    ValueError
        If shapes differ, the axis is not equidistant or has no zero, or the thickness is negative.
    """
    E = np.asarray(energy_loss_ev, dtype=np.float64)
    Z, s = np.asarray(zero_loss, dtype=np.float64), np.asarray(single, dtype=np.float64)
    if not E.shape == Z.shape == s.shape:
        raise ValueError(f"shapes must agree, got {Z.shape}, {s.shape} and {E.shape}")
    if thickness_over_mfp < 0:
        raise ValueError(f"thickness_over_mfp must not be negative, got {thickness_over_mfp}")
    step = _step(E)
    origin = int(np.argmin(np.abs(E)))
    if abs(E[origin]) > 1e-6 * step:
        raise ValueError("energy_loss_ev must have 0 among its points")
    # the kernel starts at its zero; long enough that what leaves at the end does not come back
    orders = 2 + int(np.ceil(thickness_over_mfp + 8 * np.sqrt(thickness_over_mfp)))
    length = fft.next_fast_len((orders + 1) * E.size, real=True)
    kernel = fft.rfft(s[origin:] * step, length, workers=1)
    spectrum = fft.rfft(Z, length, workers=1) * np.exp(thickness_over_mfp * (kernel - 1))
    return np.asarray(fft.irfft(spectrum, length, workers=1)[: E.size])


def _step(axis: Floats) -> float:
    steps = np.diff(axis)
    if axis.ndim != 1 or axis.size < 2 or steps[0] <= 0 or not np.allclose(steps, steps[0]):
        raise ValueError("energy_loss_ev must be one equidistant, ascending axis")
    return float(axis[-1] - axis[0]) / (axis.size - 1)

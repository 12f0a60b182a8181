"""Inner-shell ionization of atoms by fast electrons, with hydrogenic wave functions.

The generalized oscillator strength (GOS) df/dE of a K or L shell has a closed form when initial
and final states are those of one electron around a screened charge Z_s: R. F. Egerton, Electron
Energy-Loss Spectroscopy in the Electron Microscope, 3rd ed. (2011), chapter 3.6.1 and appendix B
(SIGMAK3, SIGMAL2); 2s and 2p after B.-H. Choi, E. Merzbacher & G. S. Khandelwal, At. Data 5 (1973)
291. All that an electron microscope measures of a core loss follows by integrating it.

The momentum transfer is written as (q a0)^2, its square in atomic units; cross sections are in
Å^2 (1 Å^2 = 1e8 barn).
"""

from __future__ import annotations

from itertools import pairwise
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
from nanophantom.simcore.electrons.inelastic.shells import Shell

Floats = npt.NDArray[np.float64]

RYDBERG_EV: Final[float] = codata.physical_constants["Rydberg constant times hc in eV"][0]
BARN_PER_A2: Final[float] = 1e8

# Egerton's empirical exponent u(Z), Z = 11 to 36 (SIGMAL2; Na and Mg as in its later versions):
# outer electrons screen the ejected electron, which lowers the L strength close to the edge.
_SCREENING_EXPONENT: Final[tuple[float, ...]] = (
    *(0.82, 0.52, 0.52, 0.42, 0.30, 0.29, 0.22, 0.30, 0.22, 0.16, 0.12, 0.13, 0.13),
    *(0.14, 0.16, 0.18, 0.19, 0.22, 0.14, 0.11, 0.12, 0.12, 0.12, 0.10, 0.10, 0.10),
)
_SMALLEST_WAVENUMBER: Final[float] = 1e-4  # the closed forms are 0/0 at k = 0, smooth around it


def generalized_oscillator_strength(
    shell: Shell, energy_loss_ev: npt.ArrayLike, q_a0_squared: npt.ArrayLike
) -> Floats:
    """Return df/dE of a shell with all its electrons, in 1/eV; zero below the edge.

    Parameters
    ----------
    shell : Shell
        K, or L and its subshells (L2 and L3 share 2p as 1 : 2).
    energy_loss_ev, q_a0_squared : array_like, broadcast together
        Energy loss in eV, and the squared momentum transfer (q a0)^2.

    Raises
    ------
    ValueError
        If an L shell is asked of an element lighter than sodium.
    """
    loss, q2 = np.broadcast_arrays(
        np.asarray(energy_loss_ev, dtype=np.float64), np.asarray(q_a0_squared, dtype=np.float64)
    )
    if shell.name == "K":
        return np.where(loss >= shell.onset_ev, k_strength(shell.Z, loss, q2), 0.0)
    if shell.Z < 11:
        raise ValueError(f"the L shell is filled from Z = 11 on, got Z = {shell.Z}")
    l1, l2, l3 = shell.edges_ev
    strength_2s, strength_2p = l_strengths(shell.Z, loss, q2)
    open_subshells = {
        "L1": strength_2s * (loss >= l1),
        "L2": strength_2p / 3 * (loss >= l2),
        "L3": strength_2p * 2 / 3 * (loss >= l3),
    }
    exponent = _SCREENING_EXPONENT[shell.Z - 11] if shell.Z <= 36 else 0.10
    # 0.1 eV keeps the power finite at the edge
    screening = ((np.maximum(loss - l3, 0) + 0.1) / (1.8 * shell.Z**2)) ** exponent
    names = open_subshells if shell.name == "L" else [shell.name]
    return np.asarray(screening * sum(open_subshells[name] for name in names))


def k_strength(Z: int, energy_loss_ev: Floats, q_a0_squared: Floats) -> Floats:
    """Return df/dE in 1/eV of the K electrons (one for hydrogen), at any energy loss.

    Screened charge Z - 0.5, as in Egerton's SIGMAK3. Below the hydrogenic binding energy the
    continuum is continued analytically, in place of the discrete lines.
    """
    electrons, charge = (1, 1.0) if Z == 1 else (2, Z - 0.5)
    q2 = q_a0_squared / charge**2
    loss = energy_loss_ev / (RYDBERG_EV * charge**2)
    k2 = loss - 1
    denominator = (q2 - k2 + 1) ** 2 + 4 * k2
    form = _coulomb_factor(k2, 2.0, q2 - k2 + 1) / denominator**3
    return 128 * electrons * loss * (q2 + loss / 3) * form / (RYDBERG_EV * charge**2)


def l_strengths(Z: int, energy_loss_ev: Floats, q_a0_squared: Floats) -> tuple[Floats, Floats]:
    """Return df/dE in 1/eV of the two 2s and of the six 2p electrons, at any energy loss.

    Choi et al. (1973), as in Egerton's SIGMAL2, for the screened charge Z - 7 * 0.35 - 2 * 0.85
    of Slater's rules; without the empirical factor for the foot of the edge.
    """
    charge = Z - 7 * 0.35 - 1.7
    q2 = q_a0_squared / charge**2
    loss = energy_loss_ev / (RYDBERG_EV * charge**2)
    k2 = loss - 0.25
    denominator = (q2 - k2 + 0.25) ** 2 + k2
    form_2p = (
        9 / 4 * q2**4
        - (3 / 4 + 3 * k2) * q2**3
        + (19 / 32 - 3 / 4 * k2 - k2**2 / 2) * q2**2
        + (107 / 960 + 41 / 48 * k2 + 113 / 60 * k2**2 + k2**3) * q2
        + loss**3 * (3 * loss + 2) / 12
    )
    form_all = (
        q2**3
        - (5 / 3 * k2 + 11 / 12) * q2**2
        + (k2**2 / 3 + 3 / 2 * k2 + 65 / 48) * q2
        + (k2**3 / 3 + 3 / 4 * k2**2 + 23 / 48 * k2 + 5 / 64)
    )
    common = 32 * loss * _coulomb_factor(k2, 1.0, q2 - k2 + 0.25) / (RYDBERG_EV * charge**2)
    strength_2p = common * form_2p / denominator**5
    return common * form_all / denominator**4 - strength_2p, strength_2p


def _coulomb_factor(k2: Floats, slope: float, offset: Floats) -> Floats:
    """Return exp(-(2/k) atan(slope k / offset)) / (1 - exp(-2 pi / k)), continued to k^2 < 0."""
    k = np.maximum(np.sqrt(np.abs(k2)), _SMALLEST_WAVENUMBER)
    free = np.exp(-2 / k * np.arctan2(slope * k, offset)) / -np.expm1(-2 * np.pi / k)
    # with k = i kappa the arctangent becomes an area tangent, and the lower part is 1
    ratio = np.where(k2 < 0, slope * k / offset, 0.0)
    return np.where(k2 < 0, np.exp(-2 / k * np.arctanh(ratio)), free)


# --- from oscillator strengths to cross sections -------------------------------------------------


def wavenumber_a0(energy_kev: npt.ArrayLike) -> Floats:
    """Return the relativistic k a0 = p / hbar * a0 of an electron of kinetic energy E in keV."""
    energy = np.asarray(energy_kev, dtype=np.float64)
    hbar_c_kev = codata.hbar * codata.c / codata.e * 1e7  # keV Å
    return np.asarray(np.sqrt(energy * (energy + 2 * REST_ENERGY_KEV)) / hbar_c_kev) * BOHR_RADIUS_A


def momentum_transfer_squared(
    energy_loss_ev: npt.ArrayLike, angle_rad: npt.ArrayLike, energy_kev: float
) -> Floats:
    """Return (q a0)^2 = (k0 - k1)^2 + 4 k0 k1 sin^2(angle / 2), relativistic and exact."""
    k0 = wavenumber_a0(energy_kev)
    k1 = wavenumber_a0(energy_kev - np.asarray(energy_loss_ev) / 1e3)
    return np.asarray((k0 - k1) ** 2 + 4 * k0 * k1 * np.sin(np.asarray(angle_rad) / 2) ** 2)


def _strength_to_area(energy_loss_ev: Floats, energy_kev: float) -> Floats:
    """Return 4 pi a0^2 R^2 / (E T) in Å^2 eV, T = m v^2 / 2: d(sigma)/dE = this * df/dE dln q^2."""
    T = REST_ENERGY_KEV * 1e3 * velocity_ratio(energy_kev) ** 2 / 2
    return 4 * np.pi * BOHR_RADIUS_A**2 * RYDBERG_EV**2 / (energy_loss_ev * T)


def double_differential_cross_section(
    shell: Shell, energy_loss_ev: npt.ArrayLike, angle_rad: npt.ArrayLike, energy_kev: float
) -> Floats:
    """Return d2(sigma) / (dE dOmega) in Å^2 / (eV sr).

    (4 gamma^2 R / (E q^2)) (k1 / k0) df/dE: Bethe's theory as in Egerton's chapter 3.2.2, with
    the relativistic kinematics of his appendix A; the transverse (magnetic) part is left out.

    Parameters
    ----------
    shell : Shell
        The shell that is ionized.
    energy_loss_ev, angle_rad : array_like, broadcast together
        Energy loss in eV and scattering angle in rad.
    energy_kev : float
        Energy of the incident electron in keV.

    Raises
    ------
    ValueError
        If energies are not positive, or the loss reaches the incident energy.
    """
    loss, angle = np.broadcast_arrays(
        _checked_loss(energy_loss_ev, energy_kev), np.asarray(angle_rad, dtype=np.float64)
    )
    q2 = momentum_transfer_squared(loss, angle, energy_kev)
    strength = generalized_oscillator_strength(shell, loss, q2)
    slowing = wavenumber_a0(energy_kev - loss / 1e3) / wavenumber_a0(energy_kev)
    gamma = lorentz_factor(energy_kev)
    area = 4 * gamma**2 * RYDBERG_EV * BOHR_RADIUS_A**2
    return np.asarray(area * slowing * strength / (loss * q2))


def energy_differential_cross_section(
    shell: Shell, energy_loss_ev: npt.ArrayLike, energy_kev: float, collection_rad: float = np.pi
) -> Floats:
    """Return d(sigma)/dE in Å^2 / eV for scattering angles up to a collection semiangle.

    This is the shape of an EELS edge of one free atom, for parallel illumination.

    Parameters
    ----------
    shell : Shell
        The shell that is ionized.
    energy_loss_ev : array_like, any shape
        Energy loss in eV.
    energy_kev : float
        Energy of the incident electron in keV.
    collection_rad : float
        Collection semiangle in rad; pi collects everything.

    Returns
    -------
    ndarray, shape of energy_loss_ev

    Raises
    ------
    ValueError
        If energies are not positive, the loss reaches the incident energy, or the semiangle is
        not in (0, pi].
    """
    if not 0 < collection_rad <= np.pi:
        raise ValueError(f"collection_rad must be above 0 and at most pi, got {collection_rad}")
    loss = _checked_loss(energy_loss_ev, energy_kev)
    low = np.log(momentum_transfer_squared(loss, 0.0, energy_kev))
    high = np.log(momentum_transfer_squared(loss, collection_rad, energy_kev))
    nodes, weights = np.polynomial.legendre.leggauss(160)
    half = (high - low)[..., np.newaxis] / 2
    log_q2 = low[..., np.newaxis] + half * (nodes + 1)
    strength = generalized_oscillator_strength(shell, loss[..., np.newaxis], np.exp(log_q2))
    integral = np.sum(strength * weights * half, axis=-1)
    return np.asarray(_strength_to_area(loss, energy_kev) * integral)


def partial_cross_section(
    shell: Shell, energy_kev: float, collection_rad: float, window_ev: float
) -> float:
    """Return sigma(beta, Delta) in Å^2: losses from the edge to window_ev above, angles to beta.

    Parameters
    ----------
    shell : Shell
        The shell that is ionized.
    energy_kev : float
        Energy of the incident electron in keV.
    collection_rad : float
        Collection semiangle beta in rad.
    window_ev : float
        Energy window Delta in eV, from the shell's onset.

    Raises
    ------
    ValueError
        If an argument is not positive, or the window reaches the incident energy.
    """
    if not window_ev > 0:
        raise ValueError(f"window_ev must be positive, got {window_ev}")
    loss, weights = energy_nodes(shell, shell.onset_ev, shell.onset_ev + window_ev)
    slope = energy_differential_cross_section(shell, loss, energy_kev, collection_rad)
    return float(slope @ weights)


def total_cross_section(shell: Shell, energy_kev: float) -> float:
    """Return the ionization cross section of a shell in Å^2: all angles, all energy losses.

    Losses up to (E0 + edge) / 2: of two electrons that can't be told apart the faster is the
    scattered one. Transverse (magnetic) interaction, which EELS formulas leave out, adds
    ln(gamma^2) - beta^2 to the logarithm of the dipole part (U. Fano, Annu. Rev. Nucl. Sci. 13
    (1963) 1; M. Inokuti, Rev. Mod. Phys. 43 (1971) 297).

    Parameters
    ----------
    shell : Shell
        The shell that is ionized.
    energy_kev : float
        Energy of the incident electron in keV.

    Raises
    ------
    ValueError
        If the energy does not exceed the edge.
    """
    if not energy_kev * 1e3 > shell.onset_ev:
        raise ValueError(f"energy_kev must exceed the edge at {shell.onset_ev} eV")
    loss, weights = energy_nodes(shell, shell.onset_ev, (energy_kev * 1e3 + shell.onset_ev) / 2)
    slope = energy_differential_cross_section(shell, loss, energy_kev)
    transverse = 2 * np.log(lorentz_factor(energy_kev)) - velocity_ratio(energy_kev) ** 2
    dipole = generalized_oscillator_strength(shell, loss, 0.0)
    slope = slope + _strength_to_area(loss, energy_kev) * dipole * transverse
    return float(slope @ weights)


def energy_nodes(
    shell: Shell, low_ev: float, high_ev: float, count: int = 48
) -> tuple[Floats, Floats]:
    """Return Gauss-Legendre energy losses and weights (eV), dense at every edge of the shell.

    Parameters
    ----------
    shell : Shell
        Its edges divide the range.
    low_ev, high_ev : float
        The range of losses in eV.
    count : int
        Nodes in each of the pieces.
    """
    inside = [edge for edge in sorted(set(shell.edges_ev)) if low_ev < edge < high_ev]
    t, dt = np.polynomial.legendre.leggauss(count)
    t, dt = (t + 1) / 2, dt / 2
    nodes, weights = [], []
    borders = [low_ev, *inside, high_ev]
    for start, end in pairwise(borders):
        # E = start * exp(s), s = span * t^2: steps grow from the edge on, and with the loss
        span = np.log(end / start)
        loss = start * np.exp(span * t**2)
        nodes.append(loss)
        weights.append(loss * span * 2 * t * dt)
    return np.concatenate(nodes), np.concatenate(weights)


def _checked_loss(energy_loss_ev: npt.ArrayLike, energy_kev: float) -> Floats:
    loss = np.asarray(energy_loss_ev, dtype=np.float64)
    if not (np.all(loss > 0) and np.all(loss < energy_kev * 1e3)):
        raise ValueError(f"energy_loss_ev must lie between 0 and {energy_kev} keV")
    return loss

"""Core losses in a multislice calculation: transition potentials, and where atoms are ionized.

A fast electron psi(r) that ionizes an atom goes on as psi_n(r) = H_n(r - r_atom) psi(r), one such
wave for every final state n of the atom; the waves do not interfere with each other. Their
potentials H_n are known as projected matrix elements (D. K. Saldin & P. Rez, Phil. Mag. B 55 (1987)
481; C. Dwyer, Ultramicroscopy 104 (2005) 141; L. J. Allen, A. J. D'Alfonso & S. D. Findlay,
Ultramicroscopy 151 (2015) 11). Here the final states are summed into the three channels
m = -1, 0, +1 of a dipole transition, H_n ~ (q . e_m) / q, and their dependence on |q| comes from
the hydrogenic oscillator strength, so that the sum of |H_n(k)|^2 is the differential cross section,
exactly; only the angle between q and q' in S(q, q') ~ q . q' is that of the dipole limit.

Normalization: transforms are H(k) = integral H(r) exp(-2 pi i k . r) d2r, in Å^2, and H(r) has no
unit. For an incident wave of 1 electron / Å^2, integral |H(r)|^2 d2r = integral |H(k)|^2 d2k is the
cross section in Å^2, summed over n. On a grid with pixels dx dy, H(r) = ifft2(H(k)) / (dx dy).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline

from nanophantom.simcore.electrons.constants import (
    BOHR_RADIUS_A,
    REST_ENERGY_KEV,
    velocity_ratio,
)
from nanophantom.simcore.electrons.inelastic.hydrogenic import (
    RYDBERG_EV,
    energy_nodes,
    generalized_oscillator_strength,
    momentum_transfer_squared,
    total_cross_section,
    wavenumber_a0,
)
from nanophantom.simcore.electrons.inelastic.shells import Shell

Floats = npt.NDArray[np.float64]
Complexes = npt.NDArray[np.complex128]

CHANNELS: Final[tuple[int, ...]] = (-1, 0, 1)
_LOWEST_FREQUENCY: Final[float] = 1e-5  # 1/Å; far inside the Lorentzian of any core loss
_LOSSES_PER_EDGE: Final[int] = 32


def frequency(energy_loss_ev: npt.ArrayLike, angle_rad: npt.ArrayLike, energy_kev: float) -> Floats:
    """Return the transverse frequency k in 1/Å of a scattering angle.

    q^2 = q_min^2 + (2 pi k)^2 with 2 pi k = 2 sqrt(k0 k1) sin(angle / 2): exact, and
    angle / lambda for small angles and losses.
    """
    k1 = wavenumber_a0(energy_kev - np.asarray(energy_loss_ev) / 1e3)
    middle = np.sqrt(wavenumber_a0(energy_kev) * k1) / BOHR_RADIUS_A
    return np.asarray(middle * np.sin(np.asarray(angle_rad) / 2) / np.pi)


def longitudinal_frequency(energy_loss_ev: npt.ArrayLike, energy_kev: float) -> Floats:
    """Return k_z = q_min / (2 pi) in 1/Å: what the electron slows down by, E / (h v)."""
    q_min = np.sqrt(momentum_transfer_squared(energy_loss_ev, 0.0, energy_kev))
    return np.asarray(q_min / (2 * np.pi * BOHR_RADIUS_A))


def frequency_differential_cross_section(
    shell: Shell, energy_loss_ev: npt.ArrayLike, k: npt.ArrayLike, energy_kev: float
) -> Floats:
    """Return d(sigma) / (dE d2k) in Å^4 / eV, zero beyond backscattering.

    4 pi a0^2 / (q a0)^2 times 4 pi a0^2 R^2 / (E T) df/dE, T = m v^2 / 2.

    Parameters
    ----------
    shell : Shell
        The shell that is ionized.
    energy_loss_ev, k : array_like, broadcast together
        Energy loss in eV and transverse frequency in 1/Å.
    energy_kev : float
        Energy of the incident electron in keV.
    """
    loss, k = np.broadcast_arrays(np.asarray(energy_loss_ev, float), np.asarray(k, float))
    q2 = momentum_transfer_squared(loss, 0.0, energy_kev) + (2 * np.pi * BOHR_RADIUS_A * k) ** 2
    T = REST_ENERGY_KEV * 1e3 * velocity_ratio(energy_kev) ** 2 / 2
    area = (4 * np.pi * BOHR_RADIUS_A**2 * RYDBERG_EV) ** 2 / (loss * T * q2)
    density = area * generalized_oscillator_strength(shell, loss, q2)
    return np.where(k <= frequency(loss, np.pi, energy_kev), density, 0.0)


@dataclass(frozen=True)
class TransitionPotential:
    """The transition potentials of one atom for a window of energy losses.

    Losses within the window are taken together: one |q| dependence, integrated over the window,
    and one longitudinal frequency, that of the mean loss.

    Parameters
    ----------
    shell : Shell
        The shell that is ionized.
    energy_kev : float
        Energy of the incident electron in keV.
    window_ev : float
        Width of the window in eV, from the shell's onset.

    Raises
    ------
    ValueError
        If the window is not positive, or reaches the incident energy.
    """

    shell: Shell
    energy_kev: float
    window_ev: float

    def __post_init__(self) -> None:
        if not self.window_ev > 0:
            raise ValueError(f"window_ev must be positive, got {self.window_ev}")
        if not self.shell.onset_ev + self.window_ev < self.energy_kev * 1e3:
            raise ValueError(f"the window must end below the incident {self.energy_kev} keV")

    @cached_property
    def mean_loss_ev(self) -> float:
        """Mean energy loss in eV of electrons scattered by up to 10 mrad."""
        loss, weights = self._nodes
        k = np.geomspace(_LOWEST_FREQUENCY, frequency(loss[0], 10e-3, self.energy_kev), 200)
        slope = frequency_differential_cross_section(
            self.shell, loss[:, np.newaxis], k, self.energy_kev
        )
        forward = weights * np.trapezoid(slope * k**2, np.log(k), axis=1)
        return float(forward @ loss / forward.sum())

    def squared(self, k: npt.ArrayLike) -> Floats:
        """Return d(sigma) / d2k in Å^4, the sum over channels of |H_n(k)|^2.

        Parameters
        ----------
        k : array_like, any shape
            |k| in 1/Å.
        """
        k = np.asarray(k, dtype=np.float64)
        log_k = np.log(np.clip(k, _LOWEST_FREQUENCY, self._highest_frequency))
        return np.where(k <= self._highest_frequency, np.exp(self._log_squared(log_k)), 0.0)

    def coefficients(
        self, kx: npt.ArrayLike, ky: npt.ArrayLike, x_A: float = 0.0, y_A: float = 0.0
    ) -> Complexes:
        """Return H_n(k) of an atom at (x, y), for m = -1, 0, +1.

        Parameters
        ----------
        kx, ky : array_like, broadcast together to shape (...)
            Frequencies in 1/Å.
        x_A, y_A : float
            Position of the atom in Å.

        Returns
        -------
        complex ndarray, shape (3, ...)
            In Å^2.
        """
        kx, ky = np.broadcast_arrays(np.asarray(kx, float), np.asarray(ky, float))
        kz = float(longitudinal_frequency(self.mean_loss_ev, self.energy_kev))
        k2 = kx**2 + ky**2
        place = np.exp(-2j * np.pi * (kx * x_A + ky * y_A))
        radial = np.sqrt(self.squared(np.sqrt(k2)) / (k2 + kz**2)) * place
        circular = [(kx - 1j * ky) / np.sqrt(2), kz + 0j * kx, -(kx + 1j * ky) / np.sqrt(2)]
        return np.stack([radial * component for component in circular])

    @cached_property
    def _nodes(self) -> tuple[Floats, Floats]:
        onset = self.shell.onset_ev
        return energy_nodes(self.shell, onset, onset + self.window_ev)

    @cached_property
    def _highest_frequency(self) -> float:
        return float(frequency(self._nodes[0].max(), np.pi, self.energy_kev))

    @cached_property
    def _log_squared(self) -> CubicSpline:
        loss, weights = self._nodes
        log_k = np.linspace(np.log(_LOWEST_FREQUENCY), np.log(self._highest_frequency), 500)
        slope = frequency_differential_cross_section(
            self.shell, loss[:, np.newaxis], np.exp(log_k), self.energy_kev
        )
        return CubicSpline(log_k, np.log(weights @ slope))


@dataclass(frozen=True)
class IonizationDensity:
    """Where around an atom a shell is ionized: the local effective potential of EDS, M(r).

    M(r) = sum over final states of |H_n(r)|^2, all angles, all energy losses. A probe of intensity
    I(r) (electrons / Å^2) ionizes the atom integral I(r) M(r - r_atom) d2r times: the local
    approximation, which holds when the detector sees all scattering, as an X-ray detector does.
    The integral of M is the ionization cross section.

    In the dipole form only m = 0 reaches the nucleus itself: M has a dip at r < 0.05 Å, which
    transitions to other final states would fill. Thermal motion is wider than it.

    Parameters
    ----------
    shell : Shell
        The shell that is ionized.
    energy_kev : float
        Energy of the incident electron in keV.
    cross_section_A2 : float, optional
        Integral of M in Å^2, for instance from Bote & Salvat; by default the hydrogenic total.

    Raises
    ------
    ValueError
        If the energy does not exceed the edge, or the cross section is not positive.
    """

    shell: Shell
    energy_kev: float
    cross_section_A2: float | None = None

    def __post_init__(self) -> None:
        if not self.energy_kev * 1e3 > self.shell.onset_ev:
            raise ValueError(f"energy_kev must exceed the edge at {self.shell.onset_ev} eV")
        if self.cross_section_A2 is not None and not self.cross_section_A2 > 0:
            raise ValueError(f"cross_section_A2 must be positive, got {self.cross_section_A2}")

    def coefficients(
        self, kx: npt.ArrayLike, ky: npt.ArrayLike, x_A: float = 0.0, y_A: float = 0.0
    ) -> Complexes:
        """Return M(k) of an atom at (x, y) in Å^2; M(0) is the cross section.

        Parameters
        ----------
        kx, ky : array_like, broadcast together to shape (...)
            Frequencies in 1/Å.
        x_A, y_A : float
            Position of the atom in Å.

        Returns
        -------
        complex ndarray, shape (...)
        """
        kx, ky = np.broadcast_arrays(np.asarray(kx, float), np.asarray(ky, float))
        place = np.exp(-2j * np.pi * (kx * x_A + ky * y_A))
        return np.asarray(self.radial(np.hypot(kx, ky)) * place)

    def radial(self, k: npt.ArrayLike) -> Floats:
        """Return M(|k|) in Å^2 of an atom at the origin.

        Parameters
        ----------
        k : array_like, any shape
            |k| in 1/Å.
        """
        k = np.asarray(k, dtype=np.float64)
        spline, highest, scale = self._spline
        inside = np.arcsinh(np.minimum(k, highest) / scale)
        return np.where(k <= highest, spline(inside), 0.0)

    @cached_property
    def _spline(self) -> tuple[CubicSpline, float, float]:
        knots, values, scale = self._table
        total = self.cross_section_A2
        if total is None:
            total = total_cross_section(self.shell, self.energy_kev)
        shape = total * values / values[0]
        return CubicSpline(np.arcsinh(knots / scale), shape), float(knots[-1]), scale

    @cached_property
    def _table(self) -> tuple[Floats, Floats, float]:
        """Return frequencies, the autocorrelation of H there, and the smallest k_z."""
        low = self.shell.onset_ev
        loss, weights = energy_nodes(
            self.shell, low, (self.energy_kev * 1e3 + low) / 2, _LOSSES_PER_EDGE
        )
        kz = longitudinal_frequency(loss, self.energy_kev)
        highest = float(frequency(low, np.pi, self.energy_kev))
        log_k = np.linspace(np.log(_LOWEST_FREQUENCY), np.log(2 * highest), 800)
        slope = frequency_differential_cross_section(
            self.shell, loss[:, np.newaxis], np.exp(log_k), self.energy_kev
        )
        squared = weights[:, np.newaxis] * slope
        # H_n = (k, k_z) * amplitude; a floor keeps the logarithm of what lies beyond theta = pi
        q2 = np.exp(2 * log_k) + kz[:, np.newaxis] ** 2
        log_amplitude = np.log(np.sqrt(squared / q2) + 1e-200)

        scale = float(kz.min())
        knots = scale * np.sinh(np.linspace(0, np.arcsinh(highest / scale), 60))
        values = [_autocorrelation(g, kz, log_k, log_amplitude, scale, highest) for g in knots]
        return knots, np.array(values), scale


def _autocorrelation(
    g: float, kz: Floats, log_k: Floats, log_amplitude: Floats, scale: float, highest: float
) -> float:
    """Return sum_n integral H_n(k) H_n*(k - g) d2k, summed over energy losses.

    The integrand is the same at k and at g - k, so that the half plane nearer to k = 0 is enough:
    there k - g stays away from its own peak, and polar coordinates around 0 resolve the other.
    """
    u, du = np.polynomial.legendre.leggauss(48)
    v, dv = np.polynomial.legendre.leggauss(16)
    u, du, v, dv = (u + 1) / 2, du / 2, (v + 1) / 2, dv / 2
    middle, end = np.arcsinh([g / 2 / scale, highest / scale])
    discs = [(0.0, middle)] if g > 0 else []
    total = 0.0
    for start, stop in (*discs, (middle, end)):
        # k = scale * sinh(s); s = start + (stop - start) u^2 is dense at the border k_x = g / 2
        s = start + (stop - start) * u**2
        k = scale * np.sinh(s)[:, np.newaxis]
        dk = scale * np.cosh(s) * (stop - start) * 2 * u * du
        first = np.where(k > g / 2, np.arccos(np.minimum(g / 2 / k, 1)), 0.0)
        phi = first + (np.pi - first) * v
        area = 2 * k * dk[:, np.newaxis] * (np.pi - first) * dv
        kx, ky = k * np.cos(phi), k * np.sin(phi)
        here = _interpolated(np.log(k), log_k, log_amplitude)
        there = _interpolated(np.log(np.hypot(kx - g, ky)), log_k, log_amplitude)
        dot = kx * (kx - g) + ky**2 + kz[:, np.newaxis, np.newaxis] ** 2
        total += 2 * float(np.sum(np.exp(here + there) * dot * area))
    return total


def _interpolated(x: Floats, grid: Floats, table: Floats) -> Floats:
    """Return every row of a table, linear between equidistant grid points, at x."""
    position = np.clip((x - grid[0]) / (grid[1] - grid[0]), 0, grid.size - 1.000001)
    left = position.astype(np.intp)
    weight = position - left
    return np.asarray(table[:, left] * (1 - weight) + table[:, left + 1] * weight)

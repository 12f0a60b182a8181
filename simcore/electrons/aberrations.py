"""The phase that a lens adds: all aberrations to fifth order, in Krivanek's polar notation.

chi(alpha, phi) = (2 pi / lambda) sum_nm C_nm alpha^(n+1) / (n+1) cos(m (phi - phi_nm)), with
alpha the angle and phi the azimuth of the beam, counted from +x towards +y (y points down). The
image wave is psi exp(-i chi). C10 is the defocus: negative is underfocus.

A set of coefficients is a plain mapping such as ``{"C10": -658.0, "C30": 1.2e7, "C12": 20.0,
"phi12": 0.3}``: C in Å, phi in rad, a missing one is zero. O. L. Krivanek, N. Dellby and
A. R. Lupini, Ultramicroscopy 78 (1999) 1-11; notation of Ultramicroscopy 108 (2008) 179-195.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Final

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.electrons.constants import wavelength

Floats = npt.NDArray[np.float64]
Complexes = npt.NDArray[np.complex128]
Coefficients = Mapping[str, float]

ORDERS: Final[dict[str, tuple[int, int]]] = {
    f"C{n}{m}": (n, m) for n in range(1, 6) for m in range((n + 1) % 2, n + 2, 2)
}
"""Name to (n, m): order of the ray deviation and rotational symmetry."""

NAMES: Final[tuple[str, ...]] = tuple(
    name for c, (_, m) in ORDERS.items() for name in ((c, f"phi{c[1:]}") if m else (c,))
)
"""All accepted names: C10, C12, phi12, C21, ... phi56."""


def chi(
    coefficients: Coefficients, kx: npt.ArrayLike, ky: npt.ArrayLike, energy_kev: float
) -> Floats:
    """Return the aberration phase in rad; the image wave is psi(k) exp(-i chi(k)).

    Parameters
    ----------
    coefficients : mapping of str to float
        Aberration coefficients by name: C in Å, phi in rad.
    kx, ky : array_like, shapes that broadcast
        Spatial frequency in 1/Å; the angle is lambda k.
    energy_kev : float
        Electron energy.

    Returns
    -------
    ndarray, broadcast shape
        Phase in rad.

    Raises
    ------
    ValueError
        If a name is unknown, a value is not finite or the energy is not positive.
    """
    omega = _angle(kx, ky, energy_kev)
    terms = _terms(coefficients)
    powers = _powers(omega, max((m for _, m, _ in terms), default=0))
    square = np.abs(omega) ** 2
    total = np.zeros(omega.shape)
    for n, m, c in terms:
        # alpha^(n+1) cos(m phi) is a polynomial: |omega|^(n+1-m) omega^m, smooth through zero
        total += square ** ((n + 1 - m) // 2) * (c * powers[m]).real
    return 2 * np.pi / wavelength(energy_kev) * total


def chi_gradient(
    coefficients: Coefficients, kx: npt.ArrayLike, ky: npt.ArrayLike, energy_kev: float
) -> tuple[Floats, Floats]:
    """Return the gradient (d chi / d kx, d chi / d ky) in rad Å.

    Divided by 2 pi it is the shift, in Å in the object's plane, of what the beam k images.

    Parameters
    ----------
    coefficients, kx, ky, energy_kev
        As for `chi`.

    Returns
    -------
    tuple of two ndarrays, broadcast shape
        Derivatives in rad Å.

    Raises
    ------
    ValueError
        As for `chi`.
    """
    omega = _angle(kx, ky, energy_kev)
    terms = _terms(coefficients)
    powers = _powers(omega, max(((n + 1 + m) // 2 for n, m, _ in terms), default=0))
    conjugate = _powers(omega.conj(), 3)
    # omega and its conjugate are treated as independent: d/dx = d + d*, d/dy = i (d - d*)
    d_omega = np.zeros(omega.shape, dtype=np.complex128)
    d_conjugate = np.zeros(omega.shape, dtype=np.complex128)
    for n, m, c in terms:
        p, q = (n + 1 + m) // 2, (n + 1 - m) // 2
        d_omega += c * p * powers[p - 1] * conjugate[q]
        if q:
            d_conjugate += c * q * powers[p] * conjugate[q - 1]
    # (2 pi / lambda) d/d alpha, and d alpha / d k = lambda
    return 2 * np.pi * (d_omega + d_conjugate).real, -2 * np.pi * (d_omega - d_conjugate).imag


def check_coefficients(coefficients: Coefficients) -> None:
    """Refuse names that are no aberration, and values that are not finite.

    Raises
    ------
    ValueError
        With all unknown names, or the first value that is not finite.
    """
    unknown = sorted(set(coefficients) - set(NAMES))
    if unknown:
        raise ValueError(f"unknown aberrations {', '.join(unknown)}: use {', '.join(NAMES)}")
    for name, value in coefficients.items():
        if not isfinite(value):
            raise ValueError(f"aberration {name} must be finite, got {value}")


def scherzer_defocus(C30: float, energy_kev: float) -> float:
    """Return the defocus -1.2 sqrt(C30 lambda) of the widest pass band, in Å.

    Parameters
    ----------
    C30 : float
        Spherical aberration in Å, positive.
    energy_kev : float
        Electron energy.

    Raises
    ------
    ValueError
        If C30 or the energy is not positive.
    """
    if not C30 > 0:
        raise ValueError(f"the Scherzer defocus needs a positive C30, got {C30}")
    return -1.2 * float(np.sqrt(C30 * wavelength(energy_kev)))


def scherzer_resolution(C30: float, energy_kev: float) -> float:
    """Return the point resolution at Scherzer defocus, 0.66 C30^(1/4) lambda^(3/4), in Å.

    Parameters
    ----------
    C30 : float
        Spherical aberration in Å, positive.
    energy_kev : float
        Electron energy.

    Raises
    ------
    ValueError
        If C30 or the energy is not positive.
    """
    if not C30 > 0:
        raise ValueError(f"the Scherzer resolution needs a positive C30, got {C30}")
    return 0.66 * float(C30**0.25 * wavelength(energy_kev) ** 0.75)


def _angle(kx: npt.ArrayLike, ky: npt.ArrayLike, energy_kev: float) -> Complexes:
    """Return the complex angle omega = alpha exp(i phi)."""
    return np.asarray(wavelength(energy_kev) * (np.asarray(kx) + 1j * np.asarray(ky)))


def _powers(base: Complexes, highest: int) -> list[Complexes]:
    """Return the powers 0 to highest of an array."""
    powers = [np.ones_like(base)]
    for _ in range(highest):
        powers.append(powers[-1] * base)
    return powers


def _terms(coefficients: Coefficients) -> list[tuple[int, int, complex]]:
    """Return (n, m, C_nm exp(-i m phi_nm) / (n + 1)) of each aberration that is present."""
    check_coefficients(coefficients)
    terms = []
    for name, (n, m) in ORDERS.items():
        strength = coefficients.get(name, 0.0)
        if strength:
            azimuth = coefficients.get(f"phi{n}{m}", 0.0)
            terms.append((n, m, strength / (n + 1) * complex(np.exp(-1j * m * azimuth))))
    return terms

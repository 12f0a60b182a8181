"""Aberrations about a tilted axis, and how far out a lens is flat.

chi is made of Re(c omega^p conj(omega)^q), omega = alpha exp(i phi) the complex angle, with
p + q = n + 1, p - q = m and c = C_nm exp(-i m phi_nm) / (n + 1). About a beam tilted by tau it is
Re(c (tau + omega)^p conj(tau + omega)^q): by the binomial theorem again a set of aberrations,
linear in the first ones. A diffractogram shows those of even order in omega.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import comb, pi
from typing import Final

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.electrons.aberrations import ORDERS, check_coefficients, chi
from nanophantom.simcore.electrons.constants import wavelength

Floats = npt.NDArray[np.float64]
Component = tuple[int, int, int]
"""Order n, multiplicity m, and part: C cos(m phi) is 0, C sin(m phi) is 1."""


def apparent(coefficients: Mapping[str, float], tilt_mrad: npt.ArrayLike) -> dict[str, float]:
    """Return the even aberrations about a tilted axis: those that a diffractogram shows.

    Parameters
    ----------
    coefficients : mapping of str to float
        Aberrations by name: C in Å, phi in rad.
    tilt_mrad : (2,) array
        Tilt (x, y) of the beam.

    Returns
    -------
    dict of str to float
        C10, C12, phi12, C30, ... such that chi of them at k is
        [chi(tau + k) + chi(tau - k)] / 2 - chi(tau).

    Raises
    ------
    ValueError
        If a name is unknown or a value isn't finite.
    """
    check_coefficients(coefficients)
    present = [name for name in ORDERS if coefficients.get(name)]
    if not present:
        return {}
    components = components_of(present)
    values = cartesian(coefficients, components)
    return named_coefficients(EVEN, tilt_matrix(components, tilt_mrad) @ values)


def components_of(orders: Iterable[str]) -> list[Component]:
    """Return the Cartesian components of named coefficients, one for m = 0, else two."""
    orders = tuple(orders)
    unknown = [name for name in orders if name not in ORDERS]
    if unknown or not orders or len(set(orders)) < len(orders):
        raise ValueError(f"orders are different names among {', '.join(ORDERS)}, got {orders}")
    found = [ORDERS[name] for name in orders]
    return [(n, m, part) for n, m in found for part in ((0, 1) if m else (0,))]


EVEN: Final[list[Component]] = components_of(name for name, (n, _) in ORDERS.items() if n % 2)
"""C10, C12, C30, C32, C34, C50, ...: what remains of chi when k and -k are averaged."""


def tilt_matrix(components: Sequence[Component], tilt_mrad: npt.ArrayLike) -> Floats:
    """Return how each component adds to the apparent ones, shape (len(EVEN), components)."""
    x, y = np.asarray(tilt_mrad, np.float64) * 1e-3
    tau = complex(x, y)
    row = {component: i for i, component in enumerate(EVEN)}
    matrix = np.zeros((len(EVEN), len(components)))
    for column, (n, m, part) in enumerate(components):
        # C exp(-i m phi) is 1 for the part of the cosine, -i for that of the sine
        c = (-1j if part else 1.0) / (n + 1)
        p, q = (n + 1 + m) // 2, (n + 1 - m) // 2
        for j in range(p + 1):
            for i in range(q + 1):
                power = i + j
                if power % 2 or power == 0:
                    continue
                term = c * comb(p, j) * comb(q, i) * tau ** (p - j) * tau.conjugate() ** (q - i)
                # Re(z omega^j conj(omega)^i) = Re(conj(z) omega^i conj(omega)^j)
                term = power * (term if j >= i else term.conjugate())
                fold = abs(j - i)
                matrix[row[power - 1, fold, 0], column] += term.real
                if fold:
                    matrix[row[power - 1, fold, 1], column] -= term.imag
    return matrix


def cartesian(coefficients: Mapping[str, float], components: Sequence[Component]) -> Floats:
    """Return the components' values in Å."""
    values = []
    for n, m, part in components:
        angle = m * coefficients.get(f"phi{n}{m}", 0.0)
        strength = coefficients.get(f"C{n}{m}", 0.0)
        values.append(strength * (np.sin(angle) if part else np.cos(angle)))
    return np.array(values)


def named_coefficients(components: Sequence[Component], values: Floats) -> dict[str, float]:
    """Return coefficients by name in Å and rad (0 to 2 pi / m)."""
    parts: dict[tuple[int, int], list[float]] = {}
    for (n, m, part), value in zip(components, values, strict=True):
        parts.setdefault((n, m), [0.0, 0.0])[part] = float(value)
    named = {}
    for (n, m), (a, b) in parts.items():
        named[f"C{n}{m}"] = float(np.hypot(a, b)) if m else a
        if m:
            named[f"phi{n}{m}"] = float(np.arctan2(b, a) % (2 * pi)) / m
    return named


def phase_radius_mrad(
    coefficients: Mapping[str, float], energy_kev: float, limit_rad: float = pi / 4
) -> float:
    """Return the angle up to which |chi| stays below a limit at every azimuth.

    Parameters
    ----------
    coefficients : mapping of str to float
        What is left of the aberrations: C in Å, phi in rad.
    energy_kev : float
        Electron energy.
    limit_rad : float
        Phase that counts as flat, pi / 4 by custom.

    Returns
    -------
    float
        Semiangle in mrad; inf without aberrations.

    Raises
    ------
    ValueError
        If a name is unknown, a value isn't finite, or energy or limit aren't positive.
    """
    if not limit_rad > 0:
        raise ValueError(f"limit_rad must be positive, got {limit_rad}")
    check_coefficients(coefficients)
    wavelength_A = float(wavelength(energy_kev))
    strengths = dict.fromkeys(range(1, 6), 0.0)
    for name, (n, _) in ORDERS.items():
        strengths[n] += abs(coefficients.get(name, 0.0))
    if not any(strengths.values()):
        return float("inf")

    def bound(alpha: float) -> float:
        terms = (c * alpha ** (n + 1) / (n + 1) for n, c in strengths.items())
        return 2 * pi / wavelength_A * sum(terms)

    azimuth = np.linspace(0, 2 * pi, 720, endpoint=False)
    unit = np.stack([np.cos(azimuth), np.sin(azimuth)]) / wavelength_A

    def largest(alpha: float) -> float:
        kx, ky = alpha * unit
        return float(np.max(np.abs(chi(coefficients, kx, ky, energy_kev))))

    # no azimuth can exceed the sum of all amplitudes: march outwards from where that does
    low, high = 0.0, 1e-6
    while bound(high) < limit_rad:
        low, high = high, 2 * high
    low, high = _bisect(bound, limit_rad, low, high)
    while largest(high) < limit_rad:
        low, high = high, 1.005 * high
    return 1e3 * _bisect(largest, limit_rad, low, high)[0]


def error_limit_nm(name: str, angle_mrad: float, energy_kev: float) -> float:
    """Return the coefficient that alone turns the phase by pi / 4 at an angle.

    (n + 1) lambda / (8 alpha^(n + 1)): the accuracy to which it needs to be known there (S.
    Uhlemann and M. Haider, Ultramicroscopy 72 (1998) 109-119).

    Parameters
    ----------
    name : str
        "C10" to "C56".
    angle_mrad : float
        Semiangle.
    energy_kev : float
        Electron energy.

    Returns
    -------
    float
        Coefficient in nm, whatever its order.

    Raises
    ------
    ValueError
        If the name is unknown, or angle or energy aren't positive.
    """
    if name not in ORDERS:
        raise ValueError(f"unknown aberration {name}: use {', '.join(ORDERS)}")
    if not angle_mrad > 0:
        raise ValueError(f"angle_mrad must be positive, got {angle_mrad}")
    power = ORDERS[name][0] + 1
    return float(power * wavelength(energy_kev) / 8 / (1e-3 * angle_mrad) ** power / 10)


def _bisect(
    function: Callable[[float], float], target: float, low: float, high: float
) -> tuple[float, float]:
    """Return the ends of a tiny interval in which a function grows past the target."""
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) < target else (low, middle)
    return low, high

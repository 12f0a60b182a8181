"""Electron scattering factors of the neutral atoms, and their projected potentials.

Two published tables, both for Z = 1 to 103: Lobato & Van Dyck (2014), whose form has the right
limits at both ends (Mott-Bethe at high k, exponential potential at large r), and Kirkland (2010),
the field's long-standing one. They agree within 2.5 % for k >= 0.5 1/Å; below that a few atoms
differ more (Po 11 %, Ir 9 %, Cr, Mo, Ru and Rh 6 % at k = 0), where outer electrons decide.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from ase.data import atomic_numbers
from scipy.special import erfc, k0, k1

from nanophantom.simcore.electrons.constants import POTENTIAL_CONSTANT_V_A2

Floats = npt.NDArray[np.float64]
ScatteringTable = Literal["lobato", "kirkland"]

HIGHEST_Z: Final[int] = 103
_FILES: Final[dict[str, str]] = {
    "lobato": "lobato2014.json",
    "kirkland": "kirkland2010.json",
}


def scattering_factor(Z: int, k: npt.ArrayLike, table: ScatteringTable = "lobato") -> Floats:
    """Return the electron scattering factor f_e(k) of an atom (first Born approximation).

    Parameters
    ----------
    Z : int
        Atomic number, 1 to 103.
    k : array_like, any shape
        Spatial frequency in 1/Å: k = 1/d = 2 sin(theta)/lambda = 2 s.
    table : {"lobato", "kirkland"}
        Lobato & Van Dyck, Acta Cryst. A70 (2014) 636; or Kirkland, Advanced Computing in Electron
        Microscopy, 2nd ed. (2010), appendix C.

    Returns
    -------
    ndarray, shape of k
        f_e in Å, for the electron's mass at rest.

    Raises
    ------
    ValueError
        If the element or the table is unknown.
    """
    k_squared = np.asarray(k, dtype=np.float64)[..., np.newaxis] ** 2
    if table == "lobato":
        a, b = _coefficients(Z, table).reshape(2, 5)
        terms = a * (2 + b * k_squared) / (1 + b * k_squared) ** 2
    else:
        a, b, c, d = _coefficients(Z, table).reshape(4, 3)
        terms = a / (k_squared + b) + c * np.exp(-d * k_squared)
    return np.asarray(terms.sum(axis=-1))


def projected_potential(Z: int, r: npt.ArrayLike, table: ScatteringTable = "lobato") -> Floats:
    """Return the potential of an atom projected along the beam, in V Å.

    The two-dimensional Fourier transform of 47.878 V Å^2 f_e(k), in closed form (Bessel functions
    K0 and K1). It grows like -ln r towards the nucleus.

    Parameters
    ----------
    Z : int
        Atomic number, 1 to 103.
    r : array_like, any shape
        Distance from the nucleus across the beam in Å, positive.
    table : {"lobato", "kirkland"}
        As for `scattering_factor`.

    Returns
    -------
    ndarray, shape of r
        Projected potential in V Å.

    Raises
    ------
    ValueError
        If r is not positive, or the element or the table is unknown.
    """
    distance = np.asarray(r, dtype=np.float64)[..., np.newaxis]
    if not np.all(distance > 0):
        raise ValueError("r must be positive: the projected potential diverges at the nucleus")
    if table == "lobato":
        # a (2 + b k^2) / (1 + b k^2)^2 = a / (1 + b k^2) + a / (1 + b k^2)^2, q = 1/sqrt(b):
        # the first gives 2 pi q^2 K0(x), the second pi q^2 x K1(x), with x = 2 pi q r
        a, b = _coefficients(Z, table).reshape(2, 5)
        x = 2 * np.pi * distance / np.sqrt(b)
        terms = 2 * np.pi * a / b * (k0(x) + x / 2 * k1(x))
    else:
        a, b, c, d = _coefficients(Z, table).reshape(4, 3)
        terms = 2 * np.pi * a * k0(2 * np.pi * distance * np.sqrt(b))
        terms = terms + np.pi * c / d * np.exp(-((np.pi * distance) ** 2) / d)
    return np.asarray(POTENTIAL_CONSTANT_V_A2 * terms.sum(axis=-1))


def scattering_factor_behind(
    Z: int, k: npt.ArrayLike, z_A: npt.ArrayLike, table: ScatteringTable = "lobato"
) -> Floats:
    """Return the share of an atom's scattering factor that lies behind a plane.

    The potential of an atom is the transform of f_e in three dimensions. Transformed back along
    the beam only it is f(k, z), and this is the integral of f(k, z) from `z_A` to infinity: f_e / 2
    for the plane through the nucleus. In closed form, as with kappa^2 = k^2 + 1/b::

        1 / (kappa^2 + q^2)    ->  exp(-u) / (2 kappa^2)              u = 2 pi kappa z
        1 / (kappa^2 + q^2)^2  ->  exp(-u) (2 + u) / (4 kappa^4)
        exp(-d q^2)            ->  erfc(pi z / sqrt(d)) / 2

    Parameters
    ----------
    Z : int
        Atomic number, 1 to 103.
    k : array_like
        Spatial frequency across the beam, 1/Å.
    z_A : array_like
        Distance from the nucleus to the plane along the beam, Å, zero or positive. It is broadcast
        against `k`.
    table : {"lobato", "kirkland"}
        As for `scattering_factor`.

    Returns
    -------
    ndarray, of the common shape of k and z_A
        Å.

    Raises
    ------
    ValueError
        If z_A is negative, or the element or the table is unknown.
    """
    distance = np.asarray(z_A, dtype=np.float64)[..., np.newaxis]
    if not np.all(distance >= 0):
        raise ValueError("z_A must not be negative: use f_e minus the share on the other side")
    k_squared = np.asarray(k, dtype=np.float64)[..., np.newaxis] ** 2
    if table == "lobato":
        # a (2 + b q^2) / (1 + b q^2)^2 = (a / b) / (1/b + q^2) + (a / b^2) / (1/b + q^2)^2
        a, b = _coefficients(Z, table).reshape(2, 5)
        kappa_squared = k_squared + 1 / b
        u = 2 * np.pi * np.sqrt(kappa_squared) * distance
        once = 1 / (2 * b * kappa_squared)
        terms = a * np.exp(-u) * once * (1 + once * (2 + u))
    else:
        a, b, c, d = _coefficients(Z, table).reshape(4, 3)
        kappa_squared = k_squared + b
        u = 2 * np.pi * np.sqrt(kappa_squared) * distance
        terms = a * np.exp(-u) / (2 * kappa_squared)
        terms = terms + c * np.exp(-d * k_squared) * erfc(np.pi * distance / np.sqrt(d)) / 2
    return np.asarray(terms.sum(axis=-1))


def _coefficients(Z: int, table: str) -> Floats:
    """Return one atom's row of a table."""
    if table not in _FILES:
        raise ValueError(f"unknown scattering table {table!r}: use one of {', '.join(_FILES)}")
    if not (int(Z) == Z and 1 <= Z <= HIGHEST_Z):
        raise ValueError(f"no scattering factor for Z = {Z}: the tables hold 1 to {HIGHEST_Z}")
    row: Floats = _table(table)[int(Z)]
    return row


@cache
def _table(table: str) -> Floats:
    """Read a table: one row per atomic number (row 0 is not used)."""
    file = resources.files("nanophantom.simcore.electrons") / "data" / _FILES[table]
    content = json.loads(file.read_text(encoding="utf-8"))
    rows = np.full((HIGHEST_Z + 1, len(content["columns"])), np.nan)
    for symbol, row in content["parameters"].items():
        rows[atomic_numbers[symbol]] = row
    rows.flags.writeable = False
    return rows

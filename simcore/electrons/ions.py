"""Electron scattering factors of ions, from the x-ray form factors of their electrons.

The Mott-Bethe relation adds the nucleus to the electrons, f_e = (Z - f_x) / (8 pi^2 a0 s^2) with
s = k / 2. An ion of charge q attracts like a point charge from far away, f_e -> q / (2 pi^2 a0 k^2)
as k -> 0: low-order reflections feel the ionicity of a crystal most (L.-M. Peng, Acta Cryst. A54,
481 (1998)).
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources

import numpy as np
import numpy.typing as npt
from ase.data import atomic_numbers

from nanophantom.simcore.electrons.constants import BOHR_RADIUS_A
from nanophantom.simcore.electrons.scattering import scattering_factor

Floats = npt.NDArray[np.float64]

_LARGEST_S = 6.0  # of the x-ray table, 1/Å


def ionic_scattering_factor(symbol: str | int, charge: float, k: npt.ArrayLike) -> Floats:
    """Return the electron scattering factor f_e(k) of a free ion (first Born approximation).

    At k = 0 the share of the charge, q / (2 pi^2 a0 k^2), is left out: there it diverges, and in a
    neutral cell the shares of all ions cancel. What stays is the limit of the rest,
    sum_i a_i b_i / (8 pi^2 a0), the electrons' mean square radius.

    Parameters
    ----------
    symbol : str or int
        Element, by symbol or atomic number.
    charge : float
        Charge in elementary charges, an integer the table holds (O: -1, -2); 0 is the atom.
    k : array_like, any shape
        Spatial frequency in 1/Å: k = 1/d = 2 sin(theta)/lambda = 2 s.

    Returns
    -------
    ndarray, shape of k
        f_e in Å, for the electron's mass at rest. Of an anion it is negative at small k > 0.

    Raises
    ------
    ValueError
        If the element or its charge is not in the table.

    Notes
    -----
    Form factors: D. Waasmaier and A. Kirfel, Acta Cryst. A51 (1995) 416, f_x = c + sum_i a_i
    exp(-b_i s^2). Their fits count the electrons to a few hundredths only. Z - f_x is therefore
    formed as q + sum_i a_i (1 - exp(-b_i s^2)), exact at small s. The table ends at s = 6 1/Å,
    where only the nucleus and inner electrons are left: from there on the factor is that of the
    neutral atom (Lobato & Van Dyck), and what they differ by (at most 2.3 %) fades as k^-4.
    """
    Z = _number(symbol)
    a, b = _form_factor(Z, float(charge))
    k = np.asarray(np.abs(np.asarray(k, np.float64)))

    def inside(k: Floats) -> Floats:
        s_squared = (0.5 * k[..., np.newaxis]) ** 2
        # (1 - exp(-b s^2)) / s^2 -> b
        u = b * s_squared
        electrons = np.divide(-np.expm1(-u), u, where=u != 0, out=np.ones_like(u)) @ (a * b)
        s_squared = s_squared[..., 0]
        point = np.divide(charge, s_squared, where=s_squared > 0, out=np.zeros_like(s_squared))
        return np.asarray((point + electrons) / (8 * np.pi**2 * BOHR_RADIUS_A))

    edge = 2 * _LARGEST_S
    f = inside(np.minimum(k, edge))
    beyond = k > edge
    if beyond.any():
        difference = f[beyond] - scattering_factor(Z, edge)
        f[beyond] = scattering_factor(Z, k[beyond]) + difference * (edge / k[beyond]) ** 4
    return f


def ionic_charges(symbol: str | int) -> list[int]:
    """Return the charges of an element that the table holds, 0 among them."""
    Z = _number(symbol)
    return sorted(charge for number, charge in _table() if number == Z)


def _number(symbol: str | int) -> int:
    return int(atomic_numbers.get(symbol, 0)) if isinstance(symbol, str) else int(symbol)


def _form_factor(Z: int, charge: float) -> tuple[Floats, Floats]:
    """Return a and b of one ion."""
    if (Z, charge) not in _table():
        known = ionic_charges(Z)
        raise ValueError(
            f"no form factor for Z = {Z} with charge {charge:+g}; the table holds "
            + (f"the charges {known}" if known else "1 to 98")
        )
    row = _table()[Z, int(charge)]
    return row[:5], row[6:]


@cache
def _table() -> dict[tuple[int, int], Floats]:
    """Read the table: a1 ... a5, c, b1 ... b5 by atomic number and charge."""
    file = resources.files("nanophantom.simcore.electrons") / "data" / "waasmaier1995.json"
    rows = {}
    for name, row in json.loads(file.read_text(encoding="utf-8"))["parameters"].items():
        found = re.fullmatch(r"([A-Z][a-z]?)(?:(\d)([+-]))?", name)
        assert found is not None
        symbol, size, sign = found.groups()
        charge = int(f"{sign}{size}") if size else 0
        rows[atomic_numbers[symbol], charge] = np.array(row)
    return rows

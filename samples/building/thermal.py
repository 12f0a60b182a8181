"""Where Debye-Waller factors come from when a recipe doesn't give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from ase.data import atomic_numbers, chemical_symbols
from pydantic import Field

from nanophantom.simcore import units
from nanophantom.simcore.atoms import Floats, Ints
from nanophantom.simcore.electrons.debye_waller import b_factor_debye

# B factors in Å^2 at room temperature (293 K), by compound.
# SrTiO3: Yu. A. Abramov et al., Acta Cryst. B51 (1995) 942. CeO2: rounded, after M. Yashima
# et al., Chem. Phys. Lett. 372 (2003) 784, whose neutron diffraction finds B(O) > B(Ce) at every
# temperature.
COMPOUNDS_B_A2: dict[str, dict[str, float]] = {
    "SrTiO3": {"Sr": 0.62, "Ti": 0.44, "O": 0.73},
    "CeO2": {"Ce": 0.3, "O": 0.5},
}

# The Debye model of an element holds for the element alone. In a compound an ion has other
# neighbours and other forces: strontium metal, soft, gives B = 3.8 Å^2, while strontium in
# SrTiO3 has 0.62. There a value between those of oxides above (0.3 to 0.73) and those of softer
# solids is nearer the truth than the wrong solid's.
ASSUMED_B_A2 = 0.7
"""Typical of atoms in compounds at room temperature."""
ASSUMED_HYDROGEN_B_A2 = 1.5
"""Typical of hydrogen, which moves about twice as much as the atom that it is bound to."""

Factors = Mapping[str, Annotated[float, Field(ge=0, le=50)]]


def b_factors(
    numbers: Ints,
    stated_A2: Floats,
    overrides_A2: Mapping[str, float],
    temperature_k: float,
) -> tuple[Floats, str]:
    """Return the B factor of every atom, and a sentence that says where they come from.

    In this order: the element's override, the value stated by the file, the table of compounds
    (293 K), for a structure of a single element the Debye model at this temperature, and a
    typical value, which the sentence calls assumed. A compound of the table is known by its
    elements, so that a slab or a cluster, which is rarely stoichiometric, finds its own.

    Raises
    ------
    ValueError
        An override names an element that isn't there.
    """
    symbols = [chemical_symbols[z] for z in np.unique(numbers)]
    for symbol in overrides_A2:
        if symbol not in symbols:
            raise ValueError(
                f"b_factors_A2: there is no {symbol!r} in this structure; "
                f"it is made of {', '.join(symbols)}"
            )
    name, table = next(
        ((name, table) for name, table in COMPOUNDS_B_A2.items() if set(table) == set(symbols)),
        ("", {}),
    )
    values = np.array(stated_A2, dtype=np.float64)
    told = []
    for symbol in symbols:
        mine = numbers == atomic_numbers[symbol]
        missing = mine & np.isnan(values)
        if symbol in overrides_A2:
            values[mine] = overrides_A2[symbol]
            told.append(f"{symbol} {overrides_A2[symbol]:g} Å² (recipe)")
        elif not missing.any():
            told.append(f"{symbol} {values[mine].mean():.2f} Å² (file)")
        elif symbol in table:
            values[missing] = table[symbol]
            told.append(f"{symbol} {table[symbol]:g} Å² (literature on {name}, 293 K)")
        else:
            values[missing], source = _model(symbol, temperature_k, alone=len(symbols) == 1)
            told.append(f"{symbol} {values[missing][0]:.2f} Å² ({source})")
    return values, f"B factors: {', '.join(told)}."


def displacement_tensors(
    numbers: Ints,
    stated_A2: Floats | None,
    factors_A2: Floats,
    overrides_A2: Mapping[str, float],
) -> tuple[Floats | None, tuple[str, ...]]:
    """Return the mean square displacements of every atom as tensors, and sentences about them.

    Those that the file states; for atoms without one, of an overridden element, or with one that
    has a negative eigenvalue (a failed refinement), the isotropic tensor of the B factor.

    Parameters
    ----------
    numbers
        Atomic numbers, shape (n,).
    stated_A2
        Tensors in Å^2, shape (n, 3, 3), NaN where the file states none; None if it states none.
    factors_A2
        B factors in Å^2, shape (n,).
    overrides_A2
        B factors of the recipe by element.

    Returns
    -------
    tensors : ndarray or None
        Shape (n, 3, 3); None if all atoms move alike in all directions.
    notes : tuple of str
    """
    if stated_A2 is None:
        return None, ()
    replaced = np.isin(numbers, [atomic_numbers[symbol] for symbol in overrides_A2])
    stated = ~np.isnan(stated_A2).any(axis=(1, 2)) & ~replaced
    possible = np.zeros_like(stated)
    possible[stated] = np.linalg.eigvalsh(stated_A2[stated]).min(axis=1, initial=np.inf) >= -1e-9
    isotropic = (factors_A2 / (8 * np.pi**2))[:, None, None] * np.eye(3)

    def told(which: npt.NDArray[np.bool_]) -> str:
        return ", ".join(chemical_symbols[z] for z in np.unique(numbers[which]))

    notes: tuple[str, ...] = ()
    if (stated & ~possible).any():
        notes = (
            f"Tensors of {(stated & ~possible).sum()} atoms of {told(stated & ~possible)} have "
            "negative eigenvalues; their B factors were taken instead.",
        )
    if not possible.any():
        return None, notes
    count = f"{possible.sum()} of {len(numbers)} atoms ({told(possible)})"
    notes += (f"Anisotropic displacements of {count} are those of the file.",)
    return np.where(possible[:, None, None], stated_A2, isotropic), notes


def _model(symbol: str, temperature_k: float, alone: bool) -> tuple[float, str]:
    """Return a B factor for an element without a known one, and what it rests on."""
    if alone:
        try:
            b = b_factor_debye(atomic_numbers[symbol], temperature_k)
        except ValueError:  # no Debye temperature is known
            pass
        else:
            return b, f"Debye model, {temperature_k:g} K"
    assumed = ASSUMED_HYDROGEN_B_A2 if symbol == "H" else ASSUMED_B_A2
    return assumed, "assumed; b_factors_A2 replaces it"


def read_factors(value: Any) -> Any:
    """Read B factors by element, text with a unit included, and check the elements."""
    if not isinstance(value, Mapping):
        return value
    for symbol in value:
        if symbol not in chemical_symbols[1:]:
            raise ValueError(f"{symbol!r} is no element; give B factors by symbol, as {{O: 0.5}}")
    return {
        symbol: units.parse(b, "b_factors_A2") if isinstance(b, str) else b
        for symbol, b in value.items()
    }

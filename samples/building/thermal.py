"""Where Debye-Waller factors come from when a recipe doesn't give them."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from typing import Annotated, Any

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from pydantic import Field

from nanophantom.simcore import units
from nanophantom.simcore.atoms import Floats, Ints
from nanophantom.simcore.electrons.debye_waller import b_factor_debye

# B factors in Å^2 at room temperature (293 K), by reduced composition.
# Au: L.-M. Peng et al., Acta Cryst. A52 (1996) 456. SrTiO3: Yu. A. Abramov et al., Acta Cryst.
# B51 (1995) 942. CeO2: rounded, after M. Yashima et al., Chem. Phys. Lett. 372 (2003) 784, whose
# neutron diffraction finds B(O) > B(Ce) at every temperature.
COMPOUNDS_B_A2: dict[frozenset[tuple[str, int]], dict[str, float]] = {
    frozenset({("Au", 1)}): {"Au": 0.62},
    frozenset({("Sr", 1), ("Ti", 1), ("O", 3)}): {"Sr": 0.62, "Ti": 0.44, "O": 0.73},
    frozenset({("Ce", 1), ("O", 2)}): {"Ce": 0.3, "O": 0.5},
}

ASSUMED_B_A2 = 1.0
"""For elements that no source knows: typical of light atoms in solids at room temperature."""

Factors = Mapping[str, Annotated[float, Field(ge=0, le=50)]]


def b_factors(
    numbers: Ints,
    stated_A2: Floats,
    overrides_A2: Mapping[str, float],
    temperature_k: float,
) -> tuple[Floats, str]:
    """Return the B factor of every atom, and a sentence that says where they come from.

    In this order: the element's override, the value stated by the file, the table of compounds
    (293 K), the Debye model of the element at this temperature, and a typical value, which the
    sentence calls assumed.

    Raises
    ------
    ValueError
        An override names an element that isn't there.
    """
    z, counts = np.unique(numbers, return_counts=True)
    divisor = gcd(*map(int, counts))
    symbols = [chemical_symbols[k] for k in z]
    for symbol in overrides_A2:
        if symbol not in symbols:
            raise ValueError(
                f"b_factors_A2: there is no {symbol!r} in this structure of {', '.join(symbols)}"
            )
    formula = frozenset((s, int(n) // divisor) for s, n in zip(symbols, counts, strict=True))
    compound = COMPOUNDS_B_A2.get(formula, {})
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
        elif symbol in compound:
            values[missing] = compound[symbol]
            told.append(f"{symbol} {compound[symbol]:g} Å² (literature, 293 K)")
        else:
            try:
                values[missing] = b_factor_debye(atomic_numbers[symbol], temperature_k)
            except ValueError:  # no Debye temperature is known
                values[missing] = ASSUMED_B_A2
                told.append(f"{symbol} {ASSUMED_B_A2:g} Å² (assumed; b_factors_A2 replaces it)")
                continue
            told.append(f"{symbol} {values[missing][0]:.2f} Å² (Debye model, {temperature_k:g} K)")
    return values, f"B factors: {', '.join(told)}."


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

"""Quantities with units: a field's name carries its unit, a recipe may use any other.

The unit of a knob stands at the end of its name (``defocus_nm``, ``dose_e_per_A2``).
A recipe may write a plain number in that unit or a string with another one
(``"-80 Å"``, ``"20 e/angstrom^2"``), which :func:`parse` converts.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

# Suffix of a field's name -> the unit in pint's words. The longest match wins.
SUFFIXES: dict[str, str] = {
    "_e_per_A2_s": "count / angstrom**2 / second",
    "_e_per_A2": "count / angstrom**2",
    "_per_nm2": "1 / nanometer**2",
    "_nm_per_s": "nanometer / second",
    "_deg_per_s": "degree / second",
    "_deg_per_sqrt_s": "degree / second**0.5",
    "_nm_per_sqrt_s": "nanometer / second**0.5",
    "_A2": "angstrom**2",
    "_nm": "nanometer",
    "_um": "micrometer",
    "_mm": "millimeter",
    "_pm": "picometer",
    "_kev": "kiloelectron_volt",
    "_ev": "electron_volt",
    "_mrad": "milliradian",
    "_deg": "degree",
    "_ms": "millisecond",
    "_us": "microsecond",
    "_s": "second",
    "_hz": "hertz",
    "_k": "kelvin",
    "_percent": "percent",
    "_nn": "nanonewton",
    "_gpa": "gigapascal",
    "_pa": "picoampere",
    "_sr": "steradian",
    "_T": "tesla",
    "_V": "volt",
    "_g_per_cm3": "gram / centimeter**3",
    "_gb": "gigabyte",
    "_mbar": "millibar",
    "_khz": "kilohertz",
    "_n_per_m": "newton / meter",
    "_mj_per_m2": "millijoule / meter**2",
    "_pa_s": "pascal * second",
    "_um_per_s": "micrometer / second",
    "_nm_per_V": "nanometer / volt",
    "_fm_per_sqrt_hz": "femtometer / hertz**0.5",
    "_per_s": "1 / second",
    "_kw_per_cm2": "kilowatt / centimeter**2",
    "_per_s_per_kw_per_cm2": "centimeter**2 / kilowatt / second",
    "_nM": "nanomolar",
    "_per_s_per_nM": "1 / nanomolar / second",
    "_per_um2": "1 / micrometer**2",
    "_um2": "micrometer**2",
}

# How the unit is written beside a number, in figures and messages.
SYMBOLS: dict[str, str] = {
    "_e_per_A2_s": "e/Å²/s",
    "_e_per_A2": "e/Å²",
    "_per_nm2": "1/nm²",
    "_nm_per_s": "nm/s",
    "_nm_per_sqrt_s": "nm/√s",
    "_deg_per_s": "°/s",
    "_deg_per_sqrt_s": "°/√s",
    "_A2": "Å²",
    "_um": "µm",
    "_kev": "keV",
    "_ev": "eV",
    "_deg": "°",
    "_us": "µs",
    "_hz": "Hz",
    "_k": "K",
    "_percent": "%",
    "_nn": "nN",
    "_gpa": "GPa",
    "_pa": "pA",
    "_g_per_cm3": "g/cm³",
    "_gb": "GB",
    "_khz": "kHz",
    "_n_per_m": "N/m",
    "_mj_per_m2": "mJ/m²",
    "_pa_s": "Pa·s",
    "_um_per_s": "µm/s",
    "_nm_per_V": "nm/V",
    "_fm_per_sqrt_hz": "fm/√Hz",
    "_per_s": "1/s",
    "_kw_per_cm2": "kW/cm²",
    "_per_s_per_kw_per_cm2": "1/s per kW/cm²",
    "_per_s_per_nM": "1/(s·nM)",
    "_per_um2": "1/µm²",
    "_um2": "µm²",
}

_NUMBER = re.compile(r"^\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*?)\s*$")
# Å has two code points; a lone "A" is read as the ångström (no knob here is a current).
_ANGSTROM = re.compile(r"\u212b|\u00c5|(?<![A-Za-z])A(?![A-Za-z])")
# "e" and "electrons" count particles.
_ELECTRON = re.compile(r"(?<![A-Za-z])(?:e-?|electrons?)(?![A-Za-z])")


def suffix_of(name: str) -> str | None:
    """Return the unit suffix at the end of a field's name, or None."""
    matches = [s for s in SUFFIXES if name.endswith(s)]
    return max(matches, key=len) if matches else None


def symbol(name: str) -> str:
    """Return the printed unit of a field's name (``"defocus_nm"`` -> ``"nm"``), or ``""``."""
    suffix = suffix_of(name)
    return "" if suffix is None else SYMBOLS.get(suffix, suffix[1:])


@cache
def _registry() -> Any:
    # pint takes a third of a second to load; only a quantity written as text needs it.
    import pint

    return pint.UnitRegistry(autoconvert_offset_to_baseunit=True)


def parse(text: str, name: str) -> float:
    """Read a quantity and convert it to the unit in a field's name.

    Parameters
    ----------
    text
        A number with a unit (``"2.35 Å"``) or a bare number (taken in the field's unit).
    name
        The field's name, whose suffix states the unit wanted.

    Raises
    ------
    ValueError
        The text is not a number with a unit, or the unit is of another kind.
    """
    suffix = suffix_of(name)
    match = _NUMBER.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a number with a unit")
    value, unit = float(match.group(1)), match.group(2)
    if not unit:
        return value
    if suffix is None:
        raise ValueError(f"{text!r}: this is a plain number without a unit")
    wanted = SUFFIXES[suffix]
    spelled = _ELECTRON.sub("count", _ANGSTROM.sub("angstrom", unit.replace("²", "**2")))
    spelled = spelled.replace("^", "**").replace("·", "*")
    spelled = "percent" if spelled == "%" else spelled
    registry = _registry()
    import pint

    example = f'write a number in {symbol(name)} or, for example, "{value:g} {symbol(name)}"'
    try:
        return float(registry.Quantity(value, spelled).to(wanted).magnitude)
    except pint.DimensionalityError:
        raise ValueError(f"{text!r} has the wrong kind of unit; {example}") from None
    except Exception:  # pint raises many kinds of error for a unit that it can't read
        raise ValueError(f"{text!r}: unit {unit!r} is not known; {example}") from None

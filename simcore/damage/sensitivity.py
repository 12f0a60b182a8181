"""Published radiation sensitivities of materials, each with its source and its conditions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from nanophantom.simcore.damage.radiolysis import FadingLaw
from nanophantom.simcore.damage.stopping import VoltageLaw, voltage_scale
from nanophantom.simcore.models import did_you_mean


@dataclass(frozen=True)
class Sensitivity:
    """What is published on one material: its fading law and the conditions it holds for."""

    name: str
    law: FadingLaw
    endpoint: str
    """What has happened at the critical dose; an end dose is not the 1/e of a fading spot."""
    energy_kev: float | None
    """None where the source gives no single energy."""
    temperature_k: float | None
    source: str
    note: str

    def law_at(self, energy_kev: float, law: VoltageLaw) -> FadingLaw:
        """Return the fading law at another voltage, see ``voltage_scale``.

        Raises
        ------
        ValueError
            If the source doesn't say for which energy its number holds.
        """
        if self.energy_kev is None:
            raise ValueError(
                f"the critical dose of {self.name} is published without one energy, so it can't "
                "be scaled to another: use .law as it is"
            )
        return self.law.scaled(float(voltage_scale(energy_kev, self.energy_kev, law)))


@dataclass(frozen=True)
class TemperatureGain:
    """How many times more dose a material took when cold: lowest and highest reported."""

    low: float
    high: float
    cold_k: float
    warm_k: float
    source: str


def sensitivity(name: str) -> Sensitivity:
    """Return the published radiolytic sensitivity of a material.

    Raises
    ------
    ValueError
        If none is known; the message names those that are.
    """
    table = _table()
    if name not in table["materials"]:
        raise ValueError(
            f"no critical dose is known for {name!r}{did_you_mean(name, table['materials'])}"
        )
    entry = dict(table["materials"][name])
    dose = entry.pop("critical_dose_e_per_A2")
    law = FadingLaw.vitrified() if dose == "vitrified" else FadingLaw.constant(dose)
    source = table["sources"][entry.pop("source")]
    return Sensitivity(name=name, law=law, source=source, **entry)


def temperature_gain(name: str) -> TemperatureGain:
    """Return the published gain in critical dose of a cold material.

    Raises
    ------
    ValueError
        If none is known; the message names those that are.
    """
    table = _table()
    gains = table["temperature_gains"]
    if name not in gains:
        raise ValueError(f"no gain by cooling is known for {name!r}{did_you_mean(name, gains)}")
    return TemperatureGain(**{**gains[name], "source": table["sources"][gains[name]["source"]]})


def sensitivity_names() -> tuple[str, ...]:
    """Return the names that :func:`sensitivity` knows."""
    return tuple(_table()["materials"])


@cache
def _table() -> dict[str, Any]:
    """Read the data file."""
    file = resources.files("nanophantom.simcore.damage") / "data" / "radiation_sensitivity.yaml"
    table: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return table

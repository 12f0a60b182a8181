"""What an operator doesn't know of the lens: residual aberrations, and how they drift."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nanophantom.simcore.electrons.aberrations import ORDERS
from nanophantom.simcore.fields import Table
from nanophantom.simcore.models import Model

Floats = npt.NDArray[np.float64]
Coefficients = Mapping[str, float]

_ANGSTROM_PER = {"nm": 10.0, "um": 1e4, "mm": 1e7}
DRIFTING = ("C10", "C12", "C21")
"""The aberrations that drift; higher ones stay for hours."""


class Tuning(Model):
    """How far the lens is from its nominal state: residual aberrations, drawn once.

    Each number is the standard deviation of the difference between the actual and the nominal
    coefficient, along each of its two axes where it has an azimuth (C cos(m phi), C sin(m phi)).
    """

    c10_nm: float = Field(default=0.0, ge=0)
    """Defocus."""
    c12_nm: float = Field(default=0.0, ge=0)
    """Twofold astigmatism."""
    c21_nm: float = Field(default=0.0, ge=0)
    """Axial coma."""
    c23_nm: float = Field(default=0.0, ge=0)
    """Threefold astigmatism."""
    c30_um: float = Field(default=0.0, ge=0)
    """Spherical aberration."""
    c32_um: float = Field(default=0.0, ge=0)
    """Star aberration of third order."""
    c34_um: float = Field(default=0.0, ge=0)
    """Fourfold astigmatism."""
    c41_um: float = Field(default=0.0, ge=0)
    """Fourth-order coma."""
    c43_um: float = Field(default=0.0, ge=0)
    """Three-lobe aberration."""
    c45_um: float = Field(default=0.0, ge=0)
    """Fivefold astigmatism."""
    c50_mm: float = Field(default=0.0, ge=0)
    """Fifth-order spherical aberration."""
    c56_mm: float = Field(default=0.0, ge=0)
    """Sixfold astigmatism."""

    def actual(self, nominal: Coefficients, rng: np.random.Generator) -> dict[str, float]:
        """Draw the actual coefficients (Å, rad) of a lens whose nominal ones are given.

        Every aberration takes the same draws, whatever the strengths of the others.
        """
        error = {name: complex(*rng.standard_normal(2)) for name in ORDERS}
        changed = dict(nominal)
        for field, sigma in self:
            name, unit = field.split("_")
            if sigma:
                add(changed, name.upper(), sigma * _ANGSTROM_PER[unit] * error[name.upper()])
        return changed


class AberrationDrift(Model):
    """Defocus, twofold astigmatism and axial coma that drift in time.

    Each drifts at a constant rate, in a direction that is drawn where it has an azimuth, and
    walks at random on top of it. The nominal state is that at the opening of the first exposure;
    during one exposure the lens stays as it is in the middle of it.
    """

    c10_nm_per_s: float = 0.0
    """Constant drift of the defocus."""
    c10_walk_nm_per_sqrt_s: float = Field(default=0.0, ge=0)
    """Random walk of the defocus: its standard deviation after one second."""
    c12_nm_per_s: float = Field(default=0.0, ge=0)
    """Constant drift of the twofold astigmatism."""
    c12_walk_nm_per_sqrt_s: float = Field(default=0.0, ge=0)
    """Random walk of the twofold astigmatism, on each axis after one second."""
    c21_nm_per_s: float = Field(default=0.0, ge=0)
    """Constant drift of the axial coma."""
    c21_walk_nm_per_sqrt_s: float = Field(default=0.0, ge=0)
    """Random walk of the axial coma, on each axis after one second."""

    @property
    def still(self) -> bool:
        """Whether nothing drifts."""
        return not any(value for _, value in self)

    def path(self, t_s: Floats, rng: np.random.Generator) -> dict[str, npt.NDArray[np.complex128]]:
        """Draw the changes of C10, C12 and C21 at some times, Å.

        Parameters
        ----------
        t_s : (n,)
            Times since the opening of the first exposure, rising.

        Returns
        -------
        dict of str to (n,) complex
            C exp(i m phi) to be added to each; C10 is the real part.
        """
        steps = np.sqrt(np.diff(t_s, prepend=0.0))
        paths = {}
        for name in DRIFTING:
            direction = np.exp(2j * np.pi * rng.uniform()) if ORDERS[name][1] else 1.0
            walk = np.cumsum((rng.standard_normal((len(t_s), 2)) @ [1.0, 1.0j]) * steps)
            rate = getattr(self, f"{name.lower()}_nm_per_s")
            strength = getattr(self, f"{name.lower()}_walk_nm_per_sqrt_s")
            paths[name] = 10.0 * (rate * direction * t_s + strength * walk)
        return paths


def add(coefficients: dict[str, float], name: str, change: complex) -> None:
    """Add to a coefficient (Å), in place.

    Parameters
    ----------
    change
        C exp(i m phi) of what is added; without an azimuth only the real part counts.
    """
    _, m = ORDERS[name]
    if m == 0:
        coefficients[name] = coefficients.get(name, 0.0) + change.real
        return
    azimuth = f"phi{name[1:]}"
    turned = np.exp(1j * m * coefficients.get(azimuth, 0.0))
    total = complex(coefficients.get(name, 0.0) * turned + change)
    coefficients[name] = abs(total)
    coefficients[azimuth] = float(np.angle(total)) / m


@dataclass(frozen=True, eq=False)
class Tuned:
    """The lens as it really is in every frame.

    Attributes
    ----------
    nominal : mapping
        Coefficients that the operator knows (Å, rad); of C10 that of the first frame.
    actual : mapping
        The same with the error of tuning.
    nominal_c10_A : (n,)
        Nominal defocus of every frame.
    drift : dict of str to (n,) complex
        What has drifted of C10, C12 and C21 in every frame, C exp(i m phi), Å.
    """

    nominal: Coefficients
    actual: Coefficients
    nominal_c10_A: Floats
    drift: Mapping[str, npt.NDArray[np.complex128]]

    @classmethod
    def draw(
        cls,
        tuning: Tuning,
        drift: AberrationDrift,
        nominal: Coefficients,
        t_s: npt.ArrayLike,
        tuning_rng: np.random.Generator,
        drift_rng: np.random.Generator,
        defoci_nm: npt.ArrayLike | None = None,
    ) -> Self:
        """Draw errors and drift.

        Parameters
        ----------
        nominal
            Nominal coefficients, Å and rad.
        t_s : (n,)
            Times of the frames.
        defoci_nm : (n,), optional
            Nominal defocus of every frame of a series; that of `nominal` by default.
        """
        times = np.asarray(t_s, np.float64)
        foci = np.full(times.shape, nominal.get("C10", 0.0))
        if defoci_nm is not None:
            foci = 10.0 * np.asarray(defoci_nm, np.float64)
        nominal = {**nominal, "C10": float(foci[0])}
        return cls(nominal, tuning.actual(nominal, tuning_rng), foci, drift.path(times, drift_rng))

    def coefficients(self, i: int) -> dict[str, float]:
        """Return the actual coefficients of frame `i`, Å and rad."""
        changed = dict(self.actual)
        add(changed, "C10", complex(self.nominal_c10_A[i] - self.nominal_c10_A[0]))
        for name, path in self.drift.items():
            if path[i]:
                add(changed, name, path[i])
        return changed

    def table(self) -> Table:
        """Return all coefficients, nominal and actual, before any drift: nm and degrees."""
        return comparison(self.nominal, self.actual)

    def frames(self) -> Table:
        """Return the actual low-order coefficients of every frame: nm and degrees."""
        states = [self.coefficients(i) for i in range(len(self.nominal_c10_A))]
        columns: dict[str, npt.NDArray[Any]] = {"frame": np.arange(len(states))}
        for name in DRIFTING:
            columns[f"{name.lower()}_nm"] = np.array([c.get(name, 0.0) for c in states]) / 10
            if ORDERS[name][1]:
                azimuth = f"phi{name[1:]}"
                columns[f"{azimuth}_deg"] = np.degrees([c.get(azimuth, 0.0) for c in states])
        return columns

    def focus(self) -> Table:
        """Return the nominal and the actual defocus of every frame."""
        n = len(self.nominal_c10_A)
        return {
            "frame": np.arange(n),
            "nominal_nm": self.nominal_c10_A / 10,
            "actual_nm": np.array([self.coefficients(i)["C10"] for i in range(n)]) / 10,
        }


def comparison(nominal: Coefficients, actual: Coefficients) -> Table:
    """Return all coefficients side by side: C in nm and azimuths in degrees."""
    azimuths = [f"phi{name[1:]}" for name in ORDERS]

    def column(of: Coefficients, names: list[str]) -> Floats:
        return np.array([of.get(name, 0.0) for name in names])

    return {
        "name": np.array(list(ORDERS)),
        "nominal_nm": column(nominal, list(ORDERS)) / 10,
        "nominal_deg": np.degrees(column(nominal, azimuths)),
        "actual_nm": column(actual, list(ORDERS)) / 10,
        "actual_deg": np.degrees(column(actual, azimuths)),
    }

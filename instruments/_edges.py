"""What a spectrum image maps: X-ray lines, and core losses in an energy window."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from ase.data import atomic_masses, atomic_numbers
from pydantic import Discriminator, Field, Tag, field_validator

from nanophantom.simcore.electrons.inelastic import x_rays
from nanophantom.simcore.electrons.inelastic.ionization import bote_salvat
from nanophantom.simcore.electrons.inelastic.shells import Shell, atomic_shell
from nanophantom.simcore.electrons.inelastic.transition import (
    IonizationDensity,
    TransitionPotential,
)
from nanophantom.simcore.electrons.stem.core_loss import CollectedDensity, share_left_in_window
from nanophantom.simcore.models import Model

BARN_PER_A2 = 1e8


class _Edge(Model):
    """A shell of an element, and the signal that it gives."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")
    """Name of the signal."""
    element: str
    """Chemical symbol."""
    shell: Literal["K", "L"] = "K"
    """The shell that is ionized."""

    @field_validator("element")
    @classmethod
    def _known(cls, value: str) -> str:
        if atomic_numbers.get(value, 0) < 1:
            raise ValueError(f"{value!r} is no chemical symbol; write, for example, Ti or O")
        return value

    @property
    def number(self) -> int:
        """Atomic number."""
        return int(atomic_numbers[self.element])


class XRayEdge(_Edge):
    """An X-ray line in an energy-dispersive detector (EDS).

    Ionization cross sections of Bote and Salvat, fluorescence yields of Krause, lines of Elam; L
    lines are those of vacancies in L3 that the beam made there itself.
    """

    mode: Literal["eds"] = "eds"
    """X-rays."""
    line: str | None = None
    """Line or beginning of the names of a family; none takes Ka or La."""
    solid_angle_sr: float = Field(
        default=0.9, gt=0, le=4 * math.pi, json_schema_extra={"dimensionless": True}
    )
    """Solid angle of the detector, in steradians."""
    takeoff_deg: float = Field(default=18.0, gt=0, le=90)
    """Angle between the specimen's surface and the way to the detector, on the entrance side."""
    absorption: bool = True
    """Whether X-rays are absorbed on their way out, by the specimen's mean composition."""

    @property
    def subshell(self) -> str:
        """Where the vacancy is."""
        return "K" if self.shell == "K" else "L3"

    @property
    def x_ray(self) -> x_rays.XRayLine:
        """The line, or family of lines."""
        return x_rays.family(self.number, self.subshell, self.line or f"{self.shell}a")

    def check(self, energy_kev: float) -> None:
        """Refuse what a table doesn't hold."""
        _ = self.x_ray
        x_rays.fluorescence_yield(self.number, self.subshell)
        onset_ev = atomic_shell(self.number, "K" if self.shell == "K" else "L3").onset_ev
        if not float(bote_salvat(self.number, self.subshell, energy_kev)) > 0:
            raise ValueError(f"the beam of {energy_kev:g} keV is below the edge ({onset_ev:g} eV)")

    def density(self, energy_kev: float, convergence_mrad: float) -> IonizationDensity:
        """Return where around an atom it is ionized: the same for any probe."""
        shell = atomic_shell(self.number, "K" if self.shell == "K" else "L3")
        sigma = float(bote_salvat(self.number, self.subshell, energy_kev))
        return _ionization_density(shell, energy_kev, sigma)

    @property
    def photons_per_ionization(self) -> float:
        """Photons of the line that fly towards the detector: yield, line fraction, solid angle."""
        omega = x_rays.fluorescence_yield(self.number, self.subshell)
        return omega * self.x_ray.fraction * self.solid_angle_sr / (4 * math.pi)

    def mass_attenuation_cm2_g(self, numbers: npt.NDArray[np.int64]) -> float:
        """Return mu / rho for the line in matter of these atoms."""
        elements, counts = np.unique(numbers, return_counts=True)
        mass = counts * atomic_masses[elements]
        fractions = {int(z): float(m / mass.sum()) for z, m in zip(elements, mass, strict=True)}
        return float(x_rays.mass_attenuation(fractions, self.x_ray.energy_ev))


class LossBackground(Model):
    """What lies under an edge of an energy-loss spectrum: A E^-r, the same at every position."""

    ratio: float = Field(default=2.0, ge=0, json_schema_extra={"dimensionless": True})
    """Electrons of the background in the window, for each of the core loss, mean of the scan."""
    exponent: float = Field(default=3.0, ge=0, le=8, json_schema_extra={"dimensionless": True})
    """The exponent r."""
    window_ev: float = Field(default=30.0, gt=0)
    """Width of the two windows before the edge, which are recorded too."""

    def windows(self, onset_ev: float, window_ev: float) -> tuple[float, float]:
        """Return the background in the far and in the near window over that under the edge."""
        w = self.window_ev
        under = self._area(onset_ev, onset_ev + window_ev)
        far = self._area(onset_ev - 2 * w, onset_ev - w)
        return far / under, self._area(onset_ev - w, onset_ev) / under

    def _area(self, start_ev: float, stop_ev: float) -> float:
        r = 1 - self.exponent
        if abs(r) < 1e-9:
            return math.log(stop_ev / start_ev)
        return float(stop_ev**r - start_ev**r) / r


class LossEdge(_Edge):
    """A core loss in a window of an energy-loss spectrum (EELS), hydrogenic cross sections."""

    mode: Literal["eels"] = "eels"
    """Energy losses."""
    collection_mrad: float = Field(default=50.0, gt=0, le=400)
    """Collection semiangle beta."""
    window_ev: float = Field(default=50.0, gt=0)
    """Width Delta of the window, from the edge on."""
    background: LossBackground | None = None
    """Background under the edge, and two windows before it; none leaves the core loss alone."""

    @property
    def atomic_shell(self) -> Shell:
        """The shell, L as a whole."""
        return atomic_shell(self.number, self.shell)

    def check(self, energy_kev: float) -> None:
        """Refuse shells that there aren't, and windows that reach too far."""
        if self.shell == "L" and self.number < 11:
            raise ValueError(f"the L shell of {self.element} is not filled; take K")
        TransitionPotential(self.atomic_shell, energy_kev, self.window_ev)
        onset = self.atomic_shell.onset_ev
        if self.background is not None and not 2 * self.background.window_ev < onset:
            raise ValueError(
                f"background.window_ev: two windows of {self.background.window_ev:g} eV don't fit "
                f"below the edge at {onset:g} eV"
            )

    def density(self, energy_kev: float, convergence_mrad: float) -> CollectedDensity:
        """Return where around an atom a collected loss happens."""
        return CollectedDensity(
            self.atomic_shell, energy_kev, self.window_ev, self.collection_mrad, convergence_mrad
        )


def _mode(edge: Any) -> str:
    """Return what kind of edge a recipe's mapping or a Model is; X-rays if it doesn't say."""
    if isinstance(edge, Mapping):
        return str(edge.get("mode", "eds"))
    return str(getattr(edge, "mode", ""))


Edge = Annotated[
    Annotated[XRayEdge, Tag("eds")] | Annotated[LossEdge, Tag("eels")], Discriminator(_mode)
]
"""An edge of either kind, told apart by ``mode``."""


class PluralScattering(Model):
    """Losses to outer electrons that move core losses up, out of their window.

    Their number is Poisson distributed with mean t / lambda, each loses the same energy, and t is
    the specimen's extent along the beam. X-rays, and a dark-field detector without an energy
    filter, lose nothing by them.
    """

    mean_free_path_nm: float = Field(gt=0)
    """Mean free path lambda of such losses."""
    loss_ev: float = Field(default=20.0, gt=0)
    """Energy lost in each, about the plasmon energy."""

    def share_left(self, edge: LossEdge, energy_kev: float, thickness_nm: float) -> float:
        """Return the share of an edge's core losses that stay in its window."""
        return share_left_in_window(
            edge.atomic_shell,
            energy_kev,
            edge.window_ev,
            edge.collection_mrad,
            thickness_nm / self.mean_free_path_nm,
            self.loss_ev,
        )


@cache
def _ionization_density(shell: Shell, energy_kev: float, sigma_A2: float) -> IonizationDensity:
    return IonizationDensity(shell, energy_kev, sigma_A2)

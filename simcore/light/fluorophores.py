"""Fluorophores: the states of a dye and the rates between them, for a person to edit.

A rate is the sum of what happens in the dark, what the light that excites and the light that
activates each add in proportion to their irradiance, and what imager strands in solution add in
proportion to their concentration. Photon numbers are those that fall on a camera behind an
objective of NA 1.4 in oil (n = 1.518), which collects 30.67 % of all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from pydantic import Field, model_validator

from nanophantom.simcore.light import dye_presets
from nanophantom.simcore.light.markov import Chain, Kinetics
from nanophantom.simcore.models import Model, did_you_mean

PURE: dict[str, Any] = {"dimensionless": True}
STATIONARY = "stationary"
LOST = "lost"
MOLECULES_PER_UM3_PER_NM = 0.602214076  # of one nM: Avogadro's number * 1e-9 / 1e15
REFERENCE_COLLECTION = 0.5 * (1.0 - math.sqrt(1.0 - (1.4 / 1.518) ** 2))
"""Fraction of all photons that the objective of the photon numbers collects."""


class State(Model):
    """A state of a dye."""

    name: str = Field(min_length=1)
    """What transitions call it."""
    brightness: float = Field(default=0.0, ge=0, json_schema_extra=PURE)
    """Photon rate relative to that of the fluorophore; 0 is dark. A state that only shines in
    another colour is dark, too."""
    final: bool = False
    """Nothing leads out of this state: bleached, or shining for ever."""


class Transition(Model):
    """A way from one state to another; what its rate is made of adds up."""

    source: str
    """The state that it leads out of."""
    to: str
    """The state that it leads to."""
    rate_per_s: float = Field(default=0.0, ge=0)
    """Rate without any light."""
    excitation_per_s_per_kw_per_cm2: float = Field(default=0.0, ge=0)
    """What the light that excites adds."""
    activation_per_s_per_kw_per_cm2: float = Field(default=0.0, ge=0)
    """What the light that activates (405 nm, as a rule) adds."""
    concentration_per_s_per_nM: float = Field(default=0.0, ge=0)
    """What imager strands in solution add."""

    @property
    def happens(self) -> bool:
        """Whether it ever happens, in some light and solution."""
        return (
            self.rate_per_s
            + self.excitation_per_s_per_kw_per_cm2
            + self.activation_per_s_per_kw_per_cm2
            + self.concentration_per_s_per_nM
        ) > 0.0


class Fluorophore(Model):
    """A dye, or a docking site for imager strands: a Markov chain that light drives.

    With a preset, `states` and `transitions` change or extend those of the preset: a state is found
    by its name, a transition by its source and to, and only the fields given are changed.
    """

    preset: dye_presets.PresetName | None = None
    """A fluorophore whose numbers stand under what the recipe says."""
    name: str = "bead"
    """What it is called in tables and figures."""
    excitation_nm: float = Field(default=561.0, gt=0)
    """Wavelength of the light that excites it."""
    emission_nm: float = Field(default=590.0, gt=0)
    """Wavelength at which it emits."""
    photons_per_s_per_kw_per_cm2: float = Field(default=1e5, gt=0)
    """Photons on the camera from a state of brightness 1, behind NA 1.4 in oil."""
    states: tuple[State, ...] = Field(
        default=(State(name="bright", brightness=1.0, final=True),), min_length=1, max_length=64
    )
    """All states."""
    transitions: tuple[Transition, ...] = ()
    """All ways between them."""
    start: str = "bright"
    """State at the beginning; "stationary": in balance in the first light, as if nothing were ever
    lost."""
    concentration_nM: float = Field(default=0.0, ge=0)
    """Concentration of imager strands in solution."""
    loss_per_burst: float = Field(default=0.0, ge=0, le=1, json_schema_extra=PURE)
    """Chance that the end of a burst is the last: a docking site that the light has destroyed."""
    brightness_cv: float = Field(default=0.0, ge=0, le=3, json_schema_extra=PURE)
    """Relative s.d. of brightness from dye to dye, which is log-normal."""
    photon_budget: float | None = Field(default=None, gt=0, json_schema_extra=PURE)
    """Mean number of photons on the camera until a dye bleaches, for microscopes in which it
    doesn't blink; none: it never bleaches."""

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, data: Any) -> Any:
        return dye_presets.under(data) if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _one_whole(self) -> Self:
        names = [state.name for state in self.states]
        _check_states(self.states)
        _check_transitions(self.transitions, names)
        leaving = {t.source for t in self.transitions if t.happens}
        for i, state in enumerate(self.states):
            if state.final and state.name in leaving:
                raise ValueError(f"states[{i}].final: a transition leads out of {state.name!r}")
            if not state.final and state.name not in leaving:
                raise ValueError(
                    f"states[{i}]: no transition leads out of {state.name!r}; add one, or say "
                    "final: true"
                )
        if self.start != STATIONARY and self.start not in names:
            known = [*names, STATIONARY]
            raise ValueError(
                f"start: there is no state {self.start!r}{did_you_mean(self.start, known)}"
            )
        if self.start == STATIONARY:
            try:
                self.chain(1.0, 1.0)
            except ValueError as error:
                raise ValueError(f"start: {error}") from None
        return self

    def kinetics(self) -> Kinetics:
        """Return its rates in any light."""
        names = tuple(state.name for state in self.states)
        bright = np.array([state.brightness > 0.0 for state in self.states])
        photons = np.array([s.brightness for s in self.states]) * self.photons_per_s_per_kw_per_cm2
        final = np.array([state.final for state in self.states])
        rates = np.zeros((3, len(names), len(names)))
        for t in self.transitions:
            i, j = names.index(t.source), names.index(t.to)
            dark = t.rate_per_s + self.concentration_nM * t.concentration_per_s_per_nM
            lit = t.excitation_per_s_per_kw_per_cm2, t.activation_per_s_per_kw_per_cm2
            rates[:, i, j] = dark, *lit
        if self.loss_per_burst > 0.0:
            names = (*names, LOST)
            ends = bright[:, None] & (~bright & ~final)  # of bursts that may be followed by others
            rates = np.pad(rates, ((0, 0), (0, 1), (0, 1)))
            within = rates[:, :-1, :-1]
            rates[:, :-1, -1] = self.loss_per_burst * (within * ends).sum(axis=2)
            within -= self.loss_per_burst * within * ends
            bright, final = np.append(bright, False), np.append(final, True)
            photons = np.append(photons, 0.0)
        for Q in rates:
            np.fill_diagonal(Q, -Q.sum(axis=1))
        fixed = self.start != STATIONARY
        start = np.array([float(n == self.start) for n in names]) if fixed else None
        dark_Q, excitation_Q, activation_Q = rates
        return Kinetics(dark_Q, excitation_Q, activation_Q, photons, start, names, bright, final)

    def chain(self, excitation_kw_per_cm2: float, activation_kw_per_cm2: float = 0.0) -> Chain:
        """Return its chain in steady light.

        Raises
        ------
        ValueError
            Light is negative, or there is no single balance to start from.
        """
        return self.kinetics().chain(excitation_kw_per_cm2, activation_kw_per_cm2)

    def photons_per_s(self, excitation_kw_per_cm2: float) -> float:
        """Return the photons on the camera from a state of brightness 1: also a free imager's."""
        return self.photons_per_s_per_kw_per_cm2 * excitation_kw_per_cm2

    @property
    def free_imagers_per_um3(self) -> float:
        """Imager strands in solution, which make a background."""
        return self.concentration_nM * MOLECULES_PER_UM3_PER_NM


def _check_states(states: Sequence[State]) -> None:
    names = [state.name for state in states]
    for i, name in enumerate(names):
        if name in (STATIONARY, LOST):
            raise ValueError(f"states[{i}].name: {name!r} has a meaning of its own; choose another")
        if name in names[:i]:
            raise ValueError(f"states[{i}].name: there is already a state {name!r}")
    if not any(state.brightness for state in states):
        raise ValueError("states: none shines; give one a brightness of 1")


def _check_transitions(transitions: Sequence[Transition], names: list[str]) -> None:
    seen: set[tuple[str, str]] = set()
    for i, t in enumerate(transitions):
        for end in ("source", "to"):
            name = getattr(t, end)
            if name not in names:
                raise ValueError(
                    f"transitions[{i}].{end}: there is no state {name!r}{did_you_mean(name, names)}"
                )
        if t.source == t.to:
            raise ValueError(f"transitions[{i}]: leads from {t.source!r} to itself")
        if (t.source, t.to) in seen:
            raise ValueError(
                f"transitions[{i}]: {t.source} -> {t.to} is already there; add up rates"
            )
        seen.add((t.source, t.to))

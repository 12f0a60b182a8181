"""Imaging modes of a force microscope: how the sample answers the lever's distance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nanophantom.simcore.models import Model, one_of
from nanophantom.simcore.parallel import map_threads
from nanophantom.simcore.probes.cantilever import Cantilever
from nanophantom.simcore.probes.feedback import ContactTable, distance_at
from nanophantom.simcore.probes.interaction import CONTACT_NM, bottom_effect, indentation_nm
from nanophantom.simcore.probes.tapping import approach_curve
from nanophantom.simcore.probes.tapping_swing import TappingTable, tapping_table
from nanophantom.simcore.surfaces import Material

Floats = npt.NDArray[np.float64]

TABLE_STEP_NM = 0.02
"""Spacing of the tables of answers; they bend over some tenths of a nanometre."""
CURVE_STEP_NM = 0.05
"""Spacing of steady tapping curves, from which forces are read and the search for rests begins."""
DEEPEST_NM = 20.0
"""So far the lever may be pushed beyond the set point before a contact table goes on straight."""

_NONE = np.zeros((1, 2))
NO_CONTACT = ContactTable(0.0, 1.0, _NONE, _NONE, _NONE[0], _NONE[0])
NO_TAPPING = TappingTable(np.zeros((1, 1, 2, 2)), False, 0.0, 1.0, 0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Answer:
    """What a mode makes of some materials.

    Attributes
    ----------
    tapping, contact
        Tables for the loop; only that of the mode is used, the other one is empty.
    rest_nm
        Of each material: distances of the lever's rest position, and the amplitude or minus the
        deflection there, rising.
    free_nm
        Amplitude far from the surface; 0 in contact mode.
    forces
        Of each material: distances, rising, and the mean and peak forces there, nN.
    """

    tapping: TappingTable
    contact: ContactTable
    rest_nm: tuple[tuple[Floats, Floats], ...]
    free_nm: float
    forces: tuple[tuple[Floats, Floats, Floats], ...]

    def distance_at(self, setpoint_nm: float, material: int) -> float:
        """Return how far over a material the lever rests at a set point.

        Raises
        ------
        ValueError
            The set point is never reached.
        """
        return distance_at(*self.rest_nm[material], setpoint_nm if self.free_nm else -setpoint_nm)

    def forces_at(self, distance_nm: float, material: int) -> tuple[float, float]:
        """Return mean and peak force on a material at a distance of the lever, nN."""
        at, mean, peak = self.forces[material]
        return (float(np.interp(distance_nm, at, mean)), float(np.interp(distance_nm, at, peak)))


class Tapping(Model):
    """Amplitude modulation: the lever is driven at its resonance, the loop keeps the amplitude."""

    mode: Literal["tapping"] = "tapping"
    """Amplitude modulation."""
    free_amplitude_nm: float = Field(default=20.0, gt=0, le=500)
    """Amplitude far from the surface, zero to peak."""
    setpoint_percent: float | tuple[float, ...] = 80.0
    """Amplitude that the loop keeps, in percent of the free one; one number a frame if several are
    given. Near 100 it taps gently and parachutes far."""

    @property
    def per_frame(self) -> Mapping[str, float | tuple[float, ...]]:
        """Knobs that may differ from frame to frame, with what bounds them."""
        return {"setpoint_percent": self.setpoint_percent}

    def setpoint_nm(self, frame: int, lever: Cantilever) -> float:
        """Return the amplitude that the loop keeps in a frame."""
        return self.free_amplitude_nm * of_frame(self.setpoint_percent, frame) / 100.0

    def answer(self, lever: Cantilever, radius_nm: float, materials: Sequence[Material]) -> Answer:
        """Tabulate amplitude and phase against distance by the averaged model."""
        curves = map_threads(
            lambda _, material: approach_curve(
                lever, self.free_amplitude_nm, radius_nm, material, step_nm=CURVE_STEP_NM
            ),
            materials,
            lambda: None,
        )
        return Answer(
            tapping_table(lever, self.free_amplitude_nm, radius_nm, materials),
            NO_CONTACT,
            tuple((c.distance_nm, c.amplitude_nm) for c in curves),
            self.free_amplitude_nm,
            tuple((c.distance_nm, c.mean_force_nn, c.peak_force_nn) for c in curves),
        )


class Contact(Model):
    """Contact mode: the tip rests on the surface, the loop keeps the lever's deflection."""

    mode: Literal["contact"] = "contact"
    """Constant force."""
    setpoint_nn: float | tuple[float, ...] = 5.0
    """Force that the loop keeps, over that of the free lever; one number a frame if several are
    given."""

    @property
    def per_frame(self) -> Mapping[str, float | tuple[float, ...]]:
        """Knobs that may differ from frame to frame."""
        return {"setpoint_nn": self.setpoint_nn}

    def setpoint_nm(self, frame: int, lever: Cantilever) -> float:
        """Return the deflection that the loop keeps in a frame."""
        return of_frame(self.setpoint_nn, frame) / lever.stiffness_n_per_m

    def answer(self, lever: Cantilever, radius_nm: float, materials: Sequence[Material]) -> Answer:
        """Tabulate the deflection of the touching and the free lever against its distance.

        The lever is in equilibrium, k x = F(s + x), with the van der Waals and DMT force of
        `interaction`; it is quicker than the loop. It snaps in where the pull's gradient passes k.
        """
        k = lever.stiffness_n_per_m
        strongest = float(np.max(self.setpoint_nn)) / k + DEEPEST_NM
        touching, free = [], []
        for material in materials:
            pull_nn = 2e-3 * math.pi * radius_nm * material.work_of_adhesion_mj_per_m2
            stiff = 4.0 / 3.0 * material.reduced_modulus_gpa * math.sqrt(radius_nm)
            deepest = indentation_nm(k * strongest + pull_nn, radius_nm, material)
            # Finer where the contact is soft: the force grows with the power 3/2 of indentation.
            indentation = deepest * np.linspace(1.0, 0.0, 4000) ** 2
            harder = [bottom_effect(depth, radius_nm, material.depth_nm) for depth in indentation]
            deflection = (stiff * indentation**1.5 * harder - pull_nn) / k
            touching.append((CONTACT_NM - indentation - deflection, deflection))
            # F' = k: the free lever is stable farther out than that.
            last = max((2.0 * pull_nn * CONTACT_NM**2 / k) ** (1.0 / 3.0), CONTACT_NM)
            gap = np.geomspace(last, last + 200.0, 4000)
            drawn = -pull_nn * (CONTACT_NM / gap) ** 2 / k
            free.append((gap - drawn, drawn))
        lets_go = np.array([s[-1] for s, _ in touching])
        snaps = np.minimum([s[0] for s, _ in free], lets_go)
        start, end = min(float(s[0]) for s, _ in touching), float(lets_go.max()) + 50.0
        at = start + TABLE_STEP_NM * np.arange(math.ceil((end - start) / TABLE_STEP_NM) + 2)
        near, far = (
            np.array([np.interp(at, s, x) for s, x in branches]) for branches in (touching, free)
        )
        return Answer(
            NO_TAPPING,
            ContactTable(start, TABLE_STEP_NM, near, far, lets_go, snaps),
            tuple((distance, -deflection) for distance, deflection in touching),
            0.0,
            tuple((distance, k * bent, k * bent) for distance, bent in touching),
        )


Mode = one_of("mode", Tapping, Contact)


def of_frame(value: float | tuple[float, ...], frame: int) -> float:
    """Return a knob's value in a frame: one for all, or one a frame."""
    return value[frame] if isinstance(value, tuple) else value

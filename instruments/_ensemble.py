"""Dyes that shine steadily until they bleach: what microscopes see without a switching buffer."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.atoms import Window
from nanophantom.simcore.emitters import HasDyes
from nanophantom.simcore.light.background import Background
from nanophantom.simcore.light.fluorophores import REFERENCE_COLLECTION, Fluorophore
from nanophantom.simcore.light.focused_spots import AnyPsf, relative_collection
from nanophantom.simcore.light.psf import Optics

Floats = npt.NDArray[np.float64]


def brightest_rate(fluorophore: Fluorophore, excitation_kw_per_cm2: float) -> float:
    """Return the photons a second of a dye that stays in its brightest state.

    On the camera behind the objective of the reference; see `collected`.
    """
    brightest = max(state.brightness for state in fluorophore.states)
    return brightest * fluorophore.photons_per_s(excitation_kw_per_cm2)


def collected(psf: AnyPsf, optics: Optics, emission_nm: float, z_nm: npt.ArrayLike) -> Floats:
    """Return the photons on the detector over those that the reference objective would bring.

    Of dyes at heights above the coverslip; see `relative_collection`.
    """
    brought = optics.collection_efficiency / REFERENCE_COLLECTION
    return brought * relative_collection(psf, optics, emission_nm, z_nm)


def draw_lives(n: int, fluorophore: Fluorophore, rng: np.random.Generator) -> Floats:
    """Draw what each dye can take, in units of the mean: exponential, infinite if none bleaches.

    A dye that is only excited gives that many times `photon_budget` photons.
    """
    lives = rng.standard_exponential(n)  # drawn in any case: what else is drawn stays the same
    return lives if fluorophore.photon_budget is not None else np.full(n, math.inf)


def heights_of(specimen: HasDyes) -> tuple[float, float]:
    """Return the lowest and the highest dye of a specimen above the coverslip, in nm."""
    z = specimen.dyes_within(Window.everywhere()).positions_nm[:, 2]
    return (float(z.min()), float(z.max())) if len(z) else (0.0, 0.0)


def refuse_free_imagers(background: Background) -> Background:
    """Refuse imagers in solution, which belong to dyes that bind and leave.

    Raises
    ------
    ValueError
        They are asked for.
    """
    if background.free_imager_depth_nm > 0:
        raise ValueError("free_imager_depth_nm: only the localization microscope has imagers")
    return background

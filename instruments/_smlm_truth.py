"""The truth of a localization movie: dyes, blinks, what their kinetics predict, drift, cameras."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from nanophantom.instruments._fluorescence import dye_table
from nanophantom.simcore.fields import Array, Table
from nanophantom.simcore.light.burst_laws import BurstLaws, bursts_under_steps
from nanophantom.simcore.light.focused_spots import relative_collection
from nanophantom.simcore.light.markov import Chain

if TYPE_CHECKING:
    from nanophantom.instruments._smlm_acquisition import SMLMAcquisition

OUTLINE = {
    "view": "where the view lies in the specimen",
    "dyes": "dyes in and beside the view: chain to site, place, bursts and photons from the first "
    "frame's beginning to the last one's end, when lost",
    "blinks": "every stretch of constant photon rate: dye, burst, exact times, rate",
    "kinetics": "rates between the dye's states in the middle of the field, at the start",
    "states": "states of the dye and their photon rates there",
    "prediction_bursts": "probability of each number of bursts of a dye, in the time of the movie",
    "prediction_times": "probability that a burst, or the dark time between two, is longer",
    "prediction_photons": "probability that a burst brings at least so many photons",
    "drift": "time and displacement of every frame",
    "background": "background of the first frame, photons a pixel",
    "camera_1": "what is fixed in the camera's pixels",
    "camera_2": "likewise, of the second camera",
    "noise_free": "expectation of the first frame",
}
MOST_BURSTS = 400
POINTS = 60


def outline(plan: SMLMAcquisition) -> Mapping[str, str]:
    """Return what the truth of a planned movie will hold."""
    left_out = {f"camera_{k + 1}" for k in range(2)}
    left_out -= {f"camera_{k + 1}" for k, d in enumerate(plan.detectors) if d.truth()}
    if _laws(chain_in_the_middle(plan)) is None:
        left_out |= {name for name in OUTLINE if name.startswith("prediction")}
    return {name: line for name, line in OUTLINE.items() if name not in left_out}


def tables(plan: SMLMAcquisition) -> dict[str, Table]:
    """Return all truth tables of a planned movie."""
    chain = chain_in_the_middle(plan, plan.recipe.illumination.before_s)
    first = plan.expose(0)
    cameras = {f"camera_{k + 1}": d.truth() for k, d in enumerate(plan.detectors)}
    return {
        "view": plan.view.table(),
        "dyes": _dyes(plan),
        "blinks": _blinks(plan),
        **_kinetics(chain),
        **predictions(steps_in_the_middle(plan), plan.fluorophore.brightness_cv),
        "drift": plan.drift,
        "background": {"photons": plan.background_of(0)},
        **{name: maps for name, maps in cameras.items() if maps},
        "noise_free": {name.removeprefix("ideal_"): v for name, v in first.truth.items()},
    }


def chain_in_the_middle(plan: SMLMAcquisition, after_s: float = 0.0) -> Chain:
    """Return the kinetics of a dye at the coverslip in the middle of the field.

    Its start is that of a fresh dye, or what is left of it after some time in the first light.
    """
    light = plan.recipe.illumination
    chain = plan.fluorophore.chain(light.excitation_kw_per_cm2, light.activation_kw_per_cm2)
    photons, start = chain.photons_per_s * brought_at_coverslip(plan), chain.at(after_s)
    return Chain(chain.Q, photons, start, chain.names, chain.bright, chain.final)


def brought_at_coverslip(plan: SMLMAcquisition) -> float:
    """Return the photons on the camera over those of the reference objective, at the coverslip."""
    recipe = plan.recipe
    near = relative_collection(recipe.psf, recipe.optics, plan.fluorophore.emission_nm, [0.0])
    return float(plan.collected * near[0])


def steps_in_the_middle(plan: SMLMAcquisition) -> list[tuple[Chain, float]]:
    """Return the chain of such a dye in each step of the movie's light, and how long it lasts."""
    first, light = chain_in_the_middle(plan, plan.recipe.illumination.before_s), plan.light
    kinetics = plan.fluorophore.kinetics()
    edges_s = np.clip(light.edges_s, 0.0, None)
    steps = []
    for k, seconds in enumerate(np.diff(edges_s)):
        chain = kinetics.chain(light.excitation_kw_per_cm2[k], light.activation_kw_per_cm2[k])
        photons = chain.photons_per_s * brought_at_coverslip(plan)
        whole = Chain(chain.Q, photons, first.start, chain.names, chain.bright, chain.final)
        steps.append((whole, float(seconds)))
    return steps


def _dyes(plan: SMLMAcquisition) -> Table:
    """Return the dyes with what became of each; bursts and photons from the first frame on."""
    bursts, n = plan.bursts, len(plan.dyes)
    whole = bursts.blinks()
    shown_s = np.clip(bursts.end_s, 0.0, None) - np.clip(bursts.start_s, 0.0, None)
    return {
        **dye_table(plan.dyes, plan.view),
        "bleached_s": bursts.bleach_s,
        "n_bursts": np.bincount(whole["dye"][whole["end_s"] > 0.0], minlength=n),
        "photons": np.bincount(bursts.dye, bursts.photons_per_s * shown_s, minlength=n),
    }


def _blinks(plan: SMLMAcquisition) -> Table:
    """Return the stretches of constant rate, with dyes by their numbers in the specimen."""
    return {**plan.bursts.table(), "dye": plan.dyes.dye[plan.bursts.dye]}


def _kinetics(chain: Chain) -> dict[str, Table]:
    source, to = np.nonzero(chain.Q - np.diag(np.diag(chain.Q)))
    names = np.array(chain.names)
    return {
        "states": {"name": names, "photons_per_s": chain.photons_per_s, "start": chain.start},
        "kinetics": {"source": names[source], "to": names[to], "rate_per_s": chain.Q[source, to]},
    }


def predictions(steps: list[tuple[Chain, float]], brightness_cv: float) -> dict[str, Table]:
    """Return what the rates predict of bursts, for a report to draw beside the simulated ones.

    Parameters
    ----------
    steps
        The chain in each step of the movie's light, and how long the step lasts. Numbers of bursts
        hold for all of them; times and photons are those of the first, and dark times are left out
        where later light changes them.
    brightness_cv
        Of the dyes, relative.
    """
    chain = steps[0][0]
    laws = _laws(chain)
    if laws is None:
        return {}
    found: dict[str, Table] = {}
    mean = laws.mean_number
    most = 12 if not math.isfinite(mean) else int(min(MOST_BURSTS, max(8, 5 * mean)))
    chances = bursts_under_steps(steps, most)
    while chances.sum() < 0.99 and most < MOST_BURSTS:
        most = min(MOST_BURSTS, 2 * most)
        chances = bursts_under_steps(steps, most)
    found["prediction_bursts"] = {"bursts": np.arange(most + 1), "probability": chances}
    on = laws.mean_on_s * np.geomspace(0.02, 8.0, POINTS)
    times: dict[str, Array] = {"on_s": on, "on_longer": laws.on_longer_than(on)}
    steady = all(np.allclose(later.Q, chain.Q) for later, _ in steps)
    try:
        off = laws.mean_off_s * np.geomspace(0.005, 8.0, POINTS)
        times |= {"off_s": off, "off_longer": laws.off_longer_than(off)} if steady else {}
    except ValueError:  # no burst follows another
        pass
    found["prediction_times"] = times
    photons = np.unique(np.rint(laws.mean_photons * np.linspace(0.0, 6.0, POINTS)))
    at_least: Any = laws.at_least(photons.astype(np.int64), brightness_cv)
    found["prediction_photons"] = {"photons": photons, "at_least": at_least}
    return found


def _laws(chain: Chain) -> BurstLaws | None:
    """Return the laws of bursts, None where dyes shine for ever."""
    if not chain.is_bright.any() or (chain.is_bright & chain.is_final).any():
        return None
    try:
        return BurstLaws.of(chain)
    except ValueError:
        return None


def summary(chain: Chain) -> Mapping[str, float]:
    """Return what a person who calibrated the dye would know of its blinking."""
    laws = _laws(chain)
    if laws is None:
        return {}
    known = {
        "on_time_s": laws.mean_on_s,
        "photons_per_burst": laws.mean_photons,
        "bursts_per_dye": laws.mean_number,
    }
    with contextlib.suppress(ValueError):
        known["off_time_s"] = laws.mean_off_s
    return {name: value for name, value in known.items() if math.isfinite(value)}

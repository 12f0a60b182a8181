"""A structured illumination microscope: a widefield camera under striped light."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from nanophantom.instruments._ensemble import collected
from nanophantom.instruments._family import Instrument
from nanophantom.instruments._fluorescence import (
    View,
    camera_known,
    dye_table,
    dyes_in,
    frames_cost,
    optics_settings,
    require_dyes,
    require_memory,
)
from nanophantom.simcore.cameras.light import LightCamera
from nanophantom.simcore.emitters import Dyes, HasDyes
from nanophantom.simcore.fields import Table
from nanophantom.simcore.light.background import Background
from nanophantom.simcore.light.fluorophores import Fluorophore
from nanophantom.simcore.light.focus_drift import StageDrift
from nanophantom.simcore.light.focused_spots import FocusedSpots
from nanophantom.simcore.light.psf import AiryPsf, Optics, Psf
from nanophantom.simcore.light.sim_patterns import N_RAW, StripedLight, cutoff_per_nm, striped
from nanophantom.simcore.runs import Acquisition, Cost, Frame, Parts, Run, SignalSpec
from nanophantom.simcore.specimens import Specimen

Image = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
FAR_NM = 3000.0
"""Dyes so far outside the view may decide over which heights spots are tabulated."""


class SIM(Instrument):
    """Structured illumination microscope: nine raw images, three directions by three phases.

    Dyes don't blink: each shines in proportion to the light at its place, and goes dark when it has
    given its photons, a number drawn once from an exponential distribution about the fluorophore's
    photon budget. The stripes are the same at all heights.
    """

    kind: Literal["sim"] = "sim"
    n_timepoints: int = Field(default=1, ge=1, le=1_000_000)
    """Sets of nine raw images."""
    exposure_s: float = Field(default=0.02, gt=0, le=1000)
    """Exposure of a raw image."""
    frame_period_s: float | None = Field(default=None, gt=0, le=1000)
    """Time from one raw image's beginning to the next; none: as long as the exposure."""
    pixel_size_nm: float = Field(default=65.0, gt=0, le=1e4)
    """Edge of a camera pixel, referred to the specimen."""
    camera: LightCamera = LightCamera(width_px=256, height_px=256)
    """The camera."""
    fluorophore: Fluorophore | None = None
    """Dye that stands in for the specimen's own, on the same sites; none: what it is labelled
    with."""
    optics: Optics = Optics()
    """The objective and what lies between it and the specimen."""
    psf: Psf = AiryPsf()
    """How a dye's light spreads on the camera; a Gaussian has no cutoff to go beyond."""
    focus_nm: float = Field(default=0.0, ge=-1e5, le=1e5)
    """Height above the coverslip that is sharp."""
    pattern: StripedLight = StripedLight()
    """The striped light."""
    background: Background = Background(photons=2.0)
    """Light of no emitter; it has no stripes."""
    drift: StageDrift = StageDrift()
    """Motion of the specimen against stripes and camera."""

    @model_validator(mode="after")
    def _frames_follow_one_another(self) -> Self:
        if self.period_s < self.exposure_s:
            raise ValueError(
                f"frame_period_s: a frame each {self.period_s:g} s can't be exposed for "
                f"{self.exposure_s:g} s"
            )
        return self

    @property
    def period_s(self) -> float:
        """Time from one raw image's beginning to the next."""
        return self.exposure_s if self.frame_period_s is None else self.frame_period_s

    @classmethod
    def small(cls) -> Self:
        """Return nine images of twenty by sixteen pixels."""
        return cls(camera=LightCamera(width_px=20, height_px=16))

    def plan(self, specimen: Specimen, run: Run) -> SIMAcquisition:
        """Draw stripes, drift and the photons that each dye has to give, once.

        Raises
        ------
        ValueError
            The specimen doesn't fluoresce, or the stripes or optics can't be.
        """
        return SIMAcquisition(self, specimen, run)


class SIMAcquisition(Acquisition):
    """Raw images that are planned: stripes, drift, and when each dye goes dark."""

    in_threads = True

    def __init__(self, recipe: SIM, specimen: Specimen, run: Run) -> None:
        self.recipe, self.run = recipe, run
        self.n_frames = N_RAW * recipe.n_timepoints
        labelled = require_dyes(specimen, recipe.kind)
        require_memory(recipe.camera.shape)
        self.fluorophore = recipe.fluorophore or labelled.fluorophore
        self.view = View(recipe.camera.shape, recipe.pixel_size_nm)
        self.drift = recipe.drift.frames(
            self.n_frames, recipe.exposure_s, recipe.period_s, run.rng("drift")
        )
        self.stripes = recipe.pattern.draw(
            recipe.optics.na, self.fluorophore.excitation_nm, self.n_frames, run.rng("pattern")
        )
        self.renderer, self.dyes = self._optics(labelled)
        self.detector = recipe.camera.detector(run.rng("camera"), recipe.exposure_s)
        self.pattern_of_background = recipe.background.pattern(
            self.view.shape, recipe.pixel_size_nm, run.rng("background")
        )
        self.collected = collected(
            recipe.psf, recipe.optics, self.fluorophore.emission_nm, self.dyes.positions_nm[:, 2]
        )
        self.budget = self._budgets()
        self.bleach_frame, self.last_part, self.mean_alive = self._bleaching()

    # ---- drawn once ----------------------------------------------------------------------------

    def _optics(self, labelled: HasDyes) -> tuple[FocusedSpots, Dyes]:
        """Tabulate spots over the heights where dyes are; find the dyes that they bring in."""
        recipe, dz = self.recipe, self.drift["dz_nm"]
        z = labelled.dyes_within(self.view.window.grown(FAR_NM)).positions_nm[:, 2]
        low, high = (float(f(z)) if len(z) else 0.0 for f in (np.min, np.max))
        renderer = FocusedSpots.of(
            recipe.psf, recipe.optics, self.fluorophore.emission_nm, recipe.pixel_size_nm,
            (low, high), (float(dz.min()), float(dz.max())), recipe.focus_nm,
        )  # fmt: skip
        wandered = max(float(np.abs(self.drift[c]).max()) for c in ("dx_nm", "dy_nm"))
        return renderer, dyes_in(labelled, self.view, renderer.reach_nm + wandered)

    def _budgets(self) -> Floats:
        """Draw how many photons each dye gives, as the reference objective would collect them."""
        drawn = self.run.rng("bleaching").exponential(size=int(self.dyes.dye.max(initial=-1)) + 1)
        mean = self.fluorophore.photon_budget
        return np.asarray(drawn[self.dyes.dye] * (math.inf if mean is None else mean))

    def _bleaching(self) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
        """Let the dyes spend their photons, frame by frame; light is on during exposures only.

        Returns
        -------
        bleach_frame, last_part : (dyes,) arrays
            Frame in which a dye goes dark (n_frames: never) and part of that frame's light that it
            still gives.
        mean_alive : (frames,)
            Light of all dyes relative to what they would give had none bleached.
        """
        left = self.budget.copy()
        frame = np.full(len(left), self.n_frames)
        part = np.ones(len(left))
        alive = np.ones(self.n_frames)
        for i in range(self.n_frames):
            offered = self._offered(i)
            lit = left > 0.0
            ends = lit & (offered >= left) & (offered > 0.0)
            frame[ends], part[ends] = i, left[ends] / offered[ends]
            given = np.where(lit, np.minimum(offered, left), 0.0)
            if offered.sum() > 0.0:
                alive[i] = given.sum() / offered.sum()
            left -= given
            left[ends] = 0.0  # whatever rounding leaves
        return frame, part, alive

    def _places(self, i: int) -> Floats:
        """Return where dyes are in a frame, in the specimen's frame at the start: (2, n)."""
        moved = [self.drift[c][i] for c in ("dx_nm", "dy_nm")]
        return np.asarray(self.dyes.positions_nm[:, :2].T + np.array(moved)[:, None])

    def _offered(self, i: int) -> Floats:
        """Return the photons that unbleached dyes would send the reference objective."""
        x, y = self._places(i)
        brightest = max(state.brightness for state in self.fluorophore.states)
        full = self.fluorophore.photons_per_s(self.recipe.pattern.excitation_kw_per_cm2)
        light = striped(self.stripes, i, x, y)
        return light * self.dyes.brightness * (brightest * full * self.recipe.exposure_s)

    # ---- frames --------------------------------------------------------------------------------

    def expose(self, i: int, parts: Parts | None = None) -> Frame:
        """Make raw image ``i``."""
        photons = self._photons(i)
        read = self.detector.read(photons, self.run.rng("read", i))
        return Frame(i, {"raw": read}, {"ideal_raw": self.detector.ideal(photons)})

    def _photons(self, i: int) -> Image:
        """Return the expected light: dyes at their true places, weighted by the stripes there."""
        (x, y), z = self._places(i), self.dyes.positions_nm[:, 2]
        gives = np.where(self.bleach_frame > i, 1.0, 0.0)
        gives[self.bleach_frame == i] = self.last_part[self.bleach_frame == i]
        emitted = self._offered(i) * gives * self.collected
        image = self._background_of(i)
        x_px, y_px = (v / self.recipe.pixel_size_nm for v in self.view.in_image(x, y))
        shining = emitted > 0.0
        stage_nm = float(self.drift["dz_nm"][i])
        spots = (x_px[shining], y_px[shining], z[shining], emitted[shining])
        self.renderer.add(image, *spots, stage_nm)
        return image

    def _background_of(self, i: int) -> Image:
        level = self.recipe.background.photons * self.recipe.background.at(
            float(self.drift["t_s"][i])
        )
        return np.asarray(level * self.pattern_of_background, np.float32)

    # ---- what is told --------------------------------------------------------------------------

    def signals(self) -> Mapping[str, SignalSpec]:
        """Return the raw images."""
        camera = self.recipe.camera
        return {"raw": SignalSpec(camera.shape, camera.dtype, self.view.axes, "ADU", "ideal_raw")}

    def settings(self) -> Mapping[str, Any]:
        """Return what an operator knows: optics, camera, and the stripes that were set."""
        recipe = self.recipe
        return {
            **optics_settings(recipe.optics, self.fluorophore, recipe.pixel_size_nm),
            "exposure_s": recipe.exposure_s,
            "frame_period_s": recipe.period_s,
            "focus_nm": recipe.focus_nm,
            "pattern": recipe.pattern.nominal(recipe.optics.na, self.fluorophore.excitation_nm),
            "camera": camera_known(recipe.camera, self.detector),
        }

    def truth(self, parts: Parts | None = None) -> Mapping[str, Table]:
        """Return stripes, dyes with when they bleach, drift, background, camera."""
        camera = self.detector.truth()
        dyes = {
            **dye_table(self.dyes, self.view),
            "photon_budget": self.budget,
            "bleach_frame": np.where(self.bleach_frame < self.n_frames, self.bleach_frame, -1),
        }
        strengths = {
            "order_0": 0.5 * self.mean_alive,
            "order_1": 0.25 * self.stripes["modulation"] * self.mean_alive,
        }
        return {
            "view": self.view.table(),
            "patterns": {**self.stripes, **strengths},
            "dyes": dyes,
            "drift": self.drift,
            "background": {"photons": self._background_of(0)},
            **({"camera": camera} if camera else {}),
        }

    def truth_outline(self) -> Mapping[str, str]:
        """Return what the truth will hold."""
        outline = {
            "view": "where the view lies in the specimen",
            "patterns": "stripes of every frame: direction, wave vector, phase at the specimen's "
            "origin (pixel ny/2, nx/2), modulation, strengths of orders 0 and 1",
            "dyes": "dyes in and beside the view: chain to site, place, photons to give, frame in "
            "which it bleaches (-1: none)",
            "drift": "time and displacement of every frame",
            "background": "background of the first frame, photons a pixel",
        }
        camera = {"camera": "what is fixed in the camera's pixels"} if self.detector.truth() else {}
        return outline | camera

    def cost(self) -> Cost:
        """Estimate from pixels and the spots' pixels; measured on one core."""
        pixels = self.view.shape[0] * self.view.shape[1]
        across = 2.0 * self.renderer.reach_nm / self.recipe.pixel_size_nm + 1.0
        cpu_s = self.n_frames * (1e-3 + 1e-7 * pixels + 4e-10 * len(self.dyes) * across**2)
        dyes = float(len(self.dyes))
        return frames_cost(self.view.shape, self.n_frames, dyes=dyes, cpu_s=float(cpu_s))

    @property
    def notes(self) -> tuple[str, ...]:
        """Say what is imaged; warn of pixels that are too coarse and of a camera that saturates."""
        recipe = self.recipe
        cutoff = cutoff_per_nm(recipe.optics.na, self.fluorophore.emission_nm)
        told = [
            f"{len(self.dyes)} dyes ({self.fluorophore.name}) in or beside the view under stripes "
            f"{recipe.pattern.spacing(recipe.optics.na, self.fluorophore.excitation_nm):.1f} nm "
            f"apart; the objective passes periods down to {1 / cutoff:.1f} nm."
        ]
        if recipe.pixel_size_nm > 0.5 / cutoff:
            told.append(
                f"warning: pixels of {recipe.pixel_size_nm:g} nm are coarser than half the period "
                f"of {1 / cutoff:.1f} nm that the objective passes; raw images are aliased."
            )
        return (*told, *recipe.camera.notes(self._photons(0)))

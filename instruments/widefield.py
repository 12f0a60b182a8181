"""A widefield fluorescence microscope: a camera and steady light; dyes shine until they bleach."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator, model_validator

from nanophantom.instruments._ensemble import (
    brightest_rate,
    collected,
    draw_lives,
    heights_of,
    refuse_free_imagers,
)
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
from nanophantom.simcore.light.bead_calibration import bead_widths
from nanophantom.simcore.light.fluorophores import Fluorophore
from nanophantom.simcore.light.focus_drift import StageDrift
from nanophantom.simcore.light.focused_spots import FocusedSpots
from nanophantom.simcore.light.illumination import Illumination
from nanophantom.simcore.light.psf import AiryPsf, Optics, Psf, SpotRenderer
from nanophantom.simcore.runs import Acquisition, Cost, Frame, Parts, Run, SignalSpec
from nanophantom.simcore.specimens import Specimen

Image = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]


class Widefield(Instrument):
    """Widefield fluorescence microscope, epi or total reflection.

    Dyes stay in their brightest state until they bleach, each after a number of photons that is
    drawn once; a frame gets the light of the part of the exposure that they live.
    """

    kind: Literal["widefield"] = "widefield"
    n_frames: int = Field(default=1, ge=1, le=1_000_000)
    """Frames."""
    exposure_s: float = Field(default=0.1, gt=0, le=1000)
    """Exposure of a frame; the light is on during exposures only."""
    frame_period_s: float | None = Field(default=None, gt=0, le=1e5)
    """Time from one frame's beginning to the next; none: as long as the exposure."""
    pixel_size_nm: float = Field(default=100.0, gt=0, le=1e4)
    """Edge of a camera pixel, referred to the specimen."""
    camera: LightCamera = LightCamera(width_px=128, height_px=128)
    """The camera."""
    fluorophore: Fluorophore | None = None
    """Dye that stands in for the specimen's own, on the same sites; none: what the specimen is
    labelled with."""
    optics: Optics = Optics()
    """The objective and what lies between it and the specimen."""
    psf: Psf = AiryPsf()
    """How a dye's light spreads on the camera."""
    focus_nm: float = Field(default=0.0, ge=-1e5, le=1e5)
    """Height above the coverslip that is sharp."""
    illumination: Illumination = Illumination(excitation_kw_per_cm2=0.05)
    """The exciting light."""
    background: Background = Background()
    """Light of no emitter."""
    drift: StageDrift = StageDrift()
    """Motion of the specimen."""

    @model_validator(mode="after")
    def _frames_follow_one_another(self) -> Self:
        if self.period_s < self.exposure_s:
            raise ValueError(
                f"frame_period_s: a frame each {self.period_s:g} s can't be exposed for "
                f"{self.exposure_s:g} s"
            )
        return self

    @field_validator("illumination")
    @classmethod
    def _nothing_is_activated(cls, value: Illumination) -> Illumination:
        if value.activation_kw_per_cm2 > 0 or value.activation_end_kw_per_cm2 is not None:
            raise ValueError("activation_kw_per_cm2: dyes don't switch here; leave it out")
        return value

    @field_validator("background")
    @classmethod
    def _nothing_is_in_solution(cls, value: Background) -> Background:
        return refuse_free_imagers(value)

    @property
    def period_s(self) -> float:
        """Time from one frame's beginning to the next."""
        return self.exposure_s if self.frame_period_s is None else self.frame_period_s

    @classmethod
    def small(cls) -> Self:
        """Return two frames of twenty by sixteen pixels."""
        return cls(camera=LightCamera(width_px=20, height_px=16), n_frames=2)

    def plan(self, specimen: Specimen, run: Run) -> WidefieldAcquisition:
        """Draw when each dye bleaches, how the specimen drifts, and the camera.

        Raises
        ------
        ValueError
            The specimen doesn't fluoresce, or the optics can't be.
        """
        return WidefieldAcquisition(self, specimen, run)


class WidefieldAcquisition(Acquisition):
    """Frames that are planned: rates of dyes, when they bleach, where the specimen is."""

    in_threads = True

    def __init__(self, recipe: Widefield, specimen: Specimen, run: Run) -> None:
        self.recipe, self.run, self.n_frames = recipe, run, recipe.n_frames
        labelled = require_dyes(specimen, recipe.kind)
        require_memory(recipe.camera.shape)
        self.fluorophore = recipe.fluorophore or labelled.fluorophore
        self.view = View(recipe.camera.shape, recipe.pixel_size_nm)
        self.drift = recipe.drift.frames(
            recipe.n_frames, recipe.exposure_s, recipe.period_s, run.rng("drift")
        )
        self.renderer, self.dyes = self._optics(labelled)
        self.detector = recipe.camera.detector(run.rng("camera"), recipe.exposure_s)
        self.lives = draw_lives(len(self.dyes), self.fluorophore, run.rng("bleaching"))
        self.emitted_per_s = self._rates()
        self.collected = collected(
            recipe.psf, recipe.optics, self.fluorophore.emission_nm, self.dyes.positions_nm[:, 2]
        )
        self.lit_s = self._lit()
        lit = recipe.illumination.relative(*self.view.pixels_nm())
        pattern = recipe.background.pattern(
            self.view.shape, recipe.pixel_size_nm, run.rng("background")
        )
        self.background = np.asarray(recipe.background.photons * pattern * lit, np.float32)

    # ---- drawn once ----------------------------------------------------------------------------

    def _optics(self, labelled: HasDyes) -> tuple[FocusedSpots, Dyes]:
        recipe, dz = self.recipe, self.drift["dz_nm"]
        renderer = FocusedSpots.of(
            recipe.psf, recipe.optics, self.fluorophore.emission_nm, recipe.pixel_size_nm,
            heights_of(labelled), (float(dz.min()), float(dz.max())), recipe.focus_nm,
        )  # fmt: skip
        wandered = max(float(np.abs(self.drift[c]).max()) for c in ("dx_nm", "dy_nm"))
        return renderer, dyes_in(labelled, self.view, renderer.reach_nm + wandered)

    def _rates(self) -> Floats:
        """Return the photons a second of each dye, on the camera of the reference objective."""
        light, optics = self.recipe.illumination, self.recipe.optics
        x, y, z = self.dyes.positions_nm.T
        depth_nm = light.penetration_nm(
            self.fluorophore.excitation_nm, optics.immersion_index, optics.sample_index
        )
        intensity = light.relative(x, y) * np.exp(-np.maximum(z, 0.0) / depth_nm)
        rate = brightest_rate(self.fluorophore, light.excitation_kw_per_cm2)
        return np.asarray(rate * intensity * self.dyes.brightness)

    def _lit(self) -> Floats:
        """Return for how long the light has to be on, from frame 0 on, until each dye bleaches."""
        budget = self.fluorophore.photon_budget
        if budget is None:
            return np.full(len(self.dyes), math.inf)
        photons = self.lives * budget
        with np.errstate(divide="ignore"):
            return np.asarray(photons / self.emitted_per_s - self.recipe.illumination.before_s)

    @property
    def bleached_s(self) -> Floats:
        """When each dye bleaches, from the opening of frame 0; infinite if never."""
        recipe = self.recipe
        finite = np.isfinite(self.lit_s) & (self.lit_s > 0)
        whole = np.where(finite, np.floor(self.lit_s / recipe.exposure_s), 0.0)
        return np.asarray(self.lit_s + whole * (recipe.period_s - recipe.exposure_s))

    @property
    def photons_per_s(self) -> Floats:
        """Photons a second of each living dye on the whole, infinite camera."""
        return np.asarray(self.emitted_per_s * self.collected)

    # ---- frames --------------------------------------------------------------------------------

    def expose(self, i: int, parts: Parts | None = None) -> Frame:
        """Make frame ``i``: every dye for the part of the exposure that it lives."""
        recipe, drift, a = self.recipe, self.drift, self.recipe.pixel_size_nm
        lived_s = np.clip(self.lit_s - i * recipe.exposure_s, 0.0, recipe.exposure_s)
        alive = lived_s > 0
        x, y = self.view.in_image(*self.dyes.positions_nm[alive, :2].T)
        faded = recipe.background.at(float(drift["t_s"][i]))
        photons = np.ascontiguousarray(self.background * np.float32(faded))
        self.renderer.add(
            photons,
            (x + drift["dx_nm"][i]) / a,
            (y + drift["dy_nm"][i]) / a,
            self.dyes.positions_nm[alive, 2],
            (self.photons_per_s * lived_s)[alive],
            float(drift["dz_nm"][i]),
        )
        photons = np.maximum(photons, np.float32(0.0))  # splines ring by a part in a million
        image = self.detector.read(photons, self.run.rng("read", i))
        return Frame(i, {"image": image}, {"ideal_image": self.detector.ideal(photons)})

    # ---- what is told --------------------------------------------------------------------------

    def signals(self) -> Mapping[str, SignalSpec]:
        """Return the image."""
        camera = self.recipe.camera
        spec = SignalSpec(camera.shape, camera.dtype, self.view.axes, "ADU", "ideal_image")
        return {"image": spec}

    def settings(self) -> Mapping[str, Any]:
        """Return what an operator knows: times, optics, camera, the width of a bead's spot."""
        recipe = self.recipe
        sigma = bead_widths(self.renderer_of_a_bead(), 0.0, recipe.pixel_size_nm)[0]
        return {
            **optics_settings(recipe.optics, self.fluorophore, recipe.pixel_size_nm),
            "exposure_s": recipe.exposure_s,
            "frame_period_s": recipe.period_s,
            "excitation_kw_per_cm2": recipe.illumination.excitation_kw_per_cm2,
            "focus_nm": recipe.focus_nm,
            "psf_sigma_nm": sigma,
            "camera": camera_known(recipe.camera, self.detector),
        }

    def renderer_of_a_bead(self) -> SpotRenderer:
        """Return a renderer of spots in focus at the coverslip, where operators look at beads."""
        recipe = self.recipe
        renderer: SpotRenderer = recipe.psf.table(
            recipe.optics, self.fluorophore.emission_nm, recipe.pixel_size_nm, (0.0, 0.0)
        )
        return renderer

    def truth(self, parts: Parts | None = None) -> Mapping[str, Table]:
        """Return the view, dyes and when they bleach, drift, background, the camera's pixels."""
        budget = self.fluorophore.photon_budget
        dyes = {
            **dye_table(self.dyes, self.view),
            "photons_per_s": self.photons_per_s,
            "photon_budget": self.lives * (math.inf if budget is None else budget),
            "bleached_s": self.bleached_s,
        }
        maps = self.detector.truth()
        return {
            "view": self.view.table(),
            "dyes": dyes,
            "drift": self.drift,
            "background": {"photons": self.background},
            **({"camera": maps} if maps else {}),
        }

    def truth_outline(self) -> Mapping[str, str]:
        """Return what the truth will hold."""
        outline = {
            "view": "where the view lies in the specimen",
            "dyes": "dyes in and beside the view: chain to site, place, rate, drawn photons, when "
            "bleached",
            "drift": "time and displacement of every frame",
            "background": "background of the first frame, photons a pixel",
        }
        return outline | (
            {"camera": "what is fixed in the camera's pixels"} if self.detector.truth() else {}
        )

    def cost(self) -> Cost:
        """Estimate from pixels and dyes; measured on one core."""
        pixels = self.view.shape[0] * self.view.shape[1]
        side = 2 * self.renderer.reach_nm / self.recipe.pixel_size_nm + 1
        cpu_s = self.n_frames * (2e-4 + 4e-8 * pixels + len(self.dyes) * (2e-6 + 5e-10 * side**2))
        dyes = float(len(self.dyes))
        return frames_cost(self.view.shape, self.n_frames, dyes=dyes, cpu_s=float(cpu_s))

    @property
    def notes(self) -> tuple[str, ...]:
        """Say how many dyes there are and how many bleach, and warn of a camera that saturates."""
        end_s = self.n_frames * self.recipe.exposure_s
        bleached = int((self.lit_s < end_s).sum())
        told = (
            f"{len(self.dyes)} dyes ({self.fluorophore.name}) in or beside the view shine without "
            f"blinking; {bleached} bleach before the end.",
        )
        return told + self.recipe.camera.notes(self._peak())

    def _peak(self) -> float:
        """Return the photons of the brightest pixel, at least: brightest dye and background."""
        brightest = float(self.photons_per_s.max(initial=0.0)) * self.recipe.exposure_s
        return float(self.background.max()) + 0.1 * brightest

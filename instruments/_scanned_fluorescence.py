"""What confocal and STED microscopes share: knobs, bleaching under the beam, scanned images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

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
    dye_table,
    dyes_in,
    optics_settings,
    require_dyes,
)
from nanophantom.simcore.cameras.light_detectors import PhotonCountingDetector
from nanophantom.simcore.fields import Table
from nanophantom.simcore.light import scan_kernels
from nanophantom.simcore.light.background import Background
from nanophantom.simcore.light.confocal import ScanSpots, scan_spots
from nanophantom.simcore.light.fluorophores import Fluorophore
from nanophantom.simcore.light.focused_spots import drive_setting_nm
from nanophantom.simcore.light.psf import AiryPsf, Optics, Psf
from nanophantom.simcore.light.sted import (
    Doughnut,
    depleted_fwhm_nm,
    left_by_pulses,
    left_by_steady_light,
)
from nanophantom.simcore.models import Model
from nanophantom.simcore.runs import Acquisition, Cost, Frame, Parts, Run, SignalSpec
from nanophantom.simcore.specimens import Specimen

Floats = npt.NDArray[np.float64]
PURE: dict[str, Any] = {"dimensionless": True}
PROFILE_SAMPLES = 400
COUNTER = 65535


class PointDetector(Model):
    """A detector behind the pinhole that counts photons (an avalanche diode, say)."""

    quantum_efficiency: float = Field(default=0.6, gt=0, le=1, json_schema_extra=PURE)
    """Part of the photons that is counted."""
    dark_rate_per_s: float = Field(default=200.0, ge=0)
    """Counts without light."""
    noise: bool = True
    """Draw the counts; off, their expectation is read out."""


class Depletion(Model):
    """The doughnut-shaped beam that switches dyes off."""

    wavelength_nm: float = Field(default=775.0, gt=0)
    """Its wavelength."""
    saturation: float = Field(default=20.0, ge=0, le=1e4, json_schema_extra=PURE)
    """Intensity on its crest over that which switches off half of the dyes."""
    mode: Literal["pulsed", "cw"] = "pulsed"
    """"pulsed": each pulse follows one of the exciting light and leaves 2^-saturation; "cw":
    steady light leaves 1 / (1 + saturation)."""
    residual: float = Field(default=0.01, ge=0, lt=1, json_schema_extra=PURE)
    """Intensity in its middle, which should be dark, over that on its crest."""
    bleaching_rate_per_s: float = Field(default=2.0, ge=0)
    """Rate at which it bleaches a dye at the intensity that switches off half; only where the dye
    has a photon budget."""
    bleaching_power: float = Field(default=1.0, ge=0.1, le=4, json_schema_extra=PURE)
    """That rate grows with this power of the intensity."""

    def doughnut(self, optics: Optics) -> Doughnut:
        """Return its focus."""
        return Doughnut(self.wavelength_nm, optics.na, optics.sample_index, self.residual)

    def left(self, relative: Floats) -> Floats:
        """Return what it leaves, by its intensity relative to the crest."""
        law = left_by_pulses if self.mode == "pulsed" else left_by_steady_light
        return law(self.saturation * relative)


class ScanningMicroscope(Instrument):
    """Knobs of a microscope that scans a focused beam."""

    n_frames: int = Field(default=1, ge=1, le=1_000_000)
    """Images, one after another without a pause."""
    width_px: int = Field(default=128, ge=8, le=16384)
    """Pixels of a line."""
    height_px: int = Field(default=128, ge=8, le=16384)
    """Lines."""
    pixel_size_nm: float = Field(default=50.0, gt=0, le=1e4)
    """Distance of pixels and of lines."""
    dwell_us: float = Field(default=10.0, gt=0, le=1e6)
    """Time that the beam stands on a pixel; there is light only then."""
    excitation_kw_per_cm2: float = Field(default=10.0, gt=0, le=1e5)
    """Intensity of the exciting light in the middle of its focus."""
    pinhole_au: float | None = Field(default=1.0, gt=0, le=10, json_schema_extra=PURE)
    """Diameter of the pinhole in Airy units (1.22 wavelength / NA, of the emission, referred to the
    specimen); none: no pinhole."""
    detector: PointDetector = PointDetector()
    """What counts the photons."""
    fluorophore: Fluorophore | None = None
    """Dye that stands in for the specimen's own, on the same sites; none: what the specimen is
    labelled with."""
    optics: Optics = Optics()
    """The objective and what lies between it and the specimen."""
    psf: Psf = AiryPsf()
    """How light of the dye spreads, and how the exciting light is focused; round."""
    focus_nm: float = Field(default=0.0, ge=-1e5, le=1e5)
    """Height above the coverslip that is sharp."""
    background: Background = Background(photons=0.2)
    """Light of no emitter, in photons that fall on the detector during one dwell."""

    @field_validator("background")
    @classmethod
    def _nothing_is_in_solution(cls, value: Background) -> Background:
        return refuse_free_imagers(value)

    @property
    def dwell_s(self) -> float:
        """Time that the beam stands on a pixel."""
        return 1e-6 * self.dwell_us

    @property
    def depleting(self) -> Depletion | None:
        """The depleting beam, if there is one."""
        return None


class ScanAcquisition(Acquisition):
    """Scanned images that are planned: spots, places, and at which pixel each dye goes dark."""

    in_threads = True

    def __init__(self, recipe: ScanningMicroscope, specimen: Specimen, run: Run) -> None:
        self.recipe, self.run, self.n_frames = recipe, run, recipe.n_frames
        labelled = require_dyes(specimen, recipe.kind)
        self.fluorophore = recipe.fluorophore or labelled.fluorophore
        self.view = View((recipe.height_px, recipe.width_px), recipe.pixel_size_nm)
        self.spots = self._spots(heights_of(labelled), recipe.focus_nm)
        self.dyes = dyes_in(labelled, self.view, float(self.spots.reach_nm.max()))
        x, y = self.view.in_image(*self.dyes.positions_nm[:, :2].T)
        self.x_px, self.y_px = x / recipe.pixel_size_nm, y / recipe.pixel_size_nm
        self.planes = self.spots.planes(self.dyes.positions_nm[:, 2])
        self.collected = collected(
            recipe.psf, recipe.optics, self.fluorophore.emission_nm, self.dyes.positions_nm[:, 2]
        )
        self.lives = draw_lives(len(self.dyes), self.fluorophore, run.rng("bleaching"))
        self.frame, self.pixel, self.part, self.taken = self._bleaching()
        self.detected = self.spots.coefficients(self.spots.detected)
        self.detector = PhotonCountingDetector(
            self.view.shape, recipe.detector.quantum_efficiency, recipe.detector.noise
        )
        self.background = recipe.background.photons * recipe.background.pattern(
            self.view.shape, recipe.pixel_size_nm, run.rng("background")
        )

    # ---- drawn once ----------------------------------------------------------------------------

    def _spots(self, heights_nm: tuple[float, float], focus_nm: float) -> ScanSpots:
        recipe, dye, beam = self.recipe, self.fluorophore, self.recipe.depleting
        light: dict[str, Any] = {}
        if beam is not None and beam.saturation > 0:
            doughnut = beam.doughnut(recipe.optics)
            wide = 0.5 * dye.excitation_nm / recipe.optics.na
            finest = depleted_fwhm_nm(wide, beam.saturation, doughnut.per_nm)
            light = {"depletion": doughnut.intensity, "remaining": beam.left, "finest_nm": finest}
        setting = drive_setting_nm(recipe.psf, recipe.optics, dye.emission_nm, focus_nm)
        return scan_spots(
            recipe.psf, recipe.optics, dye.excitation_nm, dye.emission_nm, heights_nm, setting,
            recipe.pinhole_au, **light, sharp_nm=focus_nm,
        )  # fmt: skip

    @property
    def per_px(self) -> float:
        """Samples of the spots' tables per pixel."""
        return self.recipe.pixel_size_nm / float(self.spots.r_nm[1])

    @property
    def photons(self) -> Floats:
        """Photons of each living dye that the objective brings, of one dwell in the focus."""
        rate = brightest_rate(self.fluorophore, self.recipe.excitation_kw_per_cm2)
        reaching = rate * self.collected * self.recipe.dwell_s
        return np.asarray(reaching * self.dyes.brightness)

    def _bleaching(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats, Floats]:
        """Scan all frames once and find where in them each dye's life is used up."""
        recipe, beam, budget = self.recipe, self.recipe.depleting, self.fluorophore.photon_budget
        n, (ny, nx) = len(self.dyes), self.view.shape
        if budget is None:
            return np.full(n, self.n_frames), np.full(n, ny * nx), np.ones(n), np.zeros(n)
        rate = brightest_rate(self.fluorophore, recipe.excitation_kw_per_cm2)
        excited = rate * recipe.dwell_s / budget * self.spots.emitted
        depleting = np.zeros_like(excited)
        if beam is not None:
            relative = (beam.saturation * self.spots.depletion) ** beam.bleaching_power
            depleting = beam.bleaching_rate_per_s * recipe.dwell_s * relative
        found: tuple[Any, Any, Any, Any] = scan_kernels.bleach(
            self.view.shape, self.n_frames, self.x_px, self.y_px, self.planes,
            self.dyes.brightness, self.lives, self.spots.coefficients(excited),
            self.spots.coefficients(depleting), self.spots.reach_nm / recipe.pixel_size_nm,
            self.per_px,
        )  # fmt: skip
        return found

    @property
    def bleached_s(self) -> Floats:
        """When each dye goes dark, in the time with light; infinite if not in these frames."""
        ny, nx = self.view.shape
        dwells = self.frame * float(ny * nx) + self.pixel + self.part
        return np.where(self.frame < self.n_frames, dwells * self.recipe.dwell_s, np.inf)

    # ---- frames --------------------------------------------------------------------------------

    def expose(self, i: int, parts: Parts | None = None) -> Frame:
        """Make image ``i``: dyes that go dark in it shine until their pixel."""
        recipe, (ny, nx) = self.recipe, self.view.shape
        last = np.where(self.frame == i, self.pixel, ny * nx)
        last[self.frame < i] = -1
        time_s = ny * nx * recipe.dwell_s * (i + np.arange(ny) / ny)  # of every line
        faded = np.array([recipe.background.at(float(t)) for t in time_s])
        dark = recipe.detector.dark_rate_per_s * recipe.dwell_s / recipe.detector.quantum_efficiency
        photons = self.background * faded[:, None] + dark
        scan_kernels.draw(
            photons, self.x_px, self.y_px, self.planes, self.photons, last, self.part,
            self.detected, self.spots.drawn_nm / recipe.pixel_size_nm, self.per_px,
        )  # fmt: skip
        if recipe.detector.noise and photons.max() > COUNTER - 1500:
            raise ValueError(
                f"instrument: {photons.max():.0f} photons in a dwell overflow a 16-bit counter; "
                "lower dwell_us or excitation_kw_per_cm2"
            )
        image = self.detector.read(photons, self.run.rng("read", i))
        return Frame(i, {"image": image}, {"ideal_image": self.detector.ideal(photons)})

    # ---- what is told --------------------------------------------------------------------------

    def signals(self) -> Mapping[str, SignalSpec]:
        """Return the image."""
        dtype = "uint16" if self.recipe.detector.noise else "float32"
        spec = SignalSpec(self.view.shape, dtype, self.view.axes, "counts", "ideal_image")
        return {"image": spec}

    @cached_property
    def bead(self) -> ScanSpots:
        """The spots in focus at the coverslip, where an operator looks at beads."""
        return self._spots((0.0, 0.0), 0.0)

    @property
    def resolution_nm(self) -> float:
        """Full width at half maximum of a bead's image."""
        r, spot = self.bead.r_nm, self.bead.at(self.bead.detected, 0.0)
        below = int(np.argmax(spot < 0.5 * spot[0]))
        return 2.0 * float(np.interp(-0.5 * spot[0], -spot[below - 1 : below + 1],
                                     r[below - 1 : below + 1]))  # fmt: skip

    def settings(self) -> Mapping[str, Any]:
        """Return what an operator knows: times, optics, detector, the width of a bead's image."""
        recipe, detector, beam = self.recipe, self.recipe.detector, self.recipe.depleting
        known: dict[str, Any] = {
            **optics_settings(recipe.optics, self.fluorophore, recipe.pixel_size_nm),
            "dwell_s": recipe.dwell_s,
            "frame_period_s": recipe.dwell_s * recipe.width_px * recipe.height_px,
            "excitation_kw_per_cm2": recipe.excitation_kw_per_cm2,
            "pinhole_au": recipe.pinhole_au,
            "focus_nm": recipe.focus_nm,
            "resolution_nm": self.resolution_nm,
            "psf_sigma_nm": self.resolution_nm / (2.0 * math.sqrt(2.0 * math.log(2.0))),
            "camera": {
                "offset_adu": detector.dark_rate_per_s * recipe.dwell_s,
                "adu_per_electron": 1.0,
                "quantum_efficiency": detector.quantum_efficiency,
                "em_gain": 1.0,
                "read_noise_e": 0.0,
                "excess_noise": 1.0,
            },
        }
        if beam is not None:
            known["depletion_nm"] = beam.wavelength_nm
            known["saturation"] = beam.saturation
        return known

    def truth(self, parts: Parts | None = None) -> Mapping[str, Table]:
        """Return the view, dyes and where they go dark, the spot in focus, background."""
        budget, gone = self.fluorophore.photon_budget, self.frame < self.n_frames
        dyes = {
            **dye_table(self.dyes, self.view),
            "photons_per_dwell": self.photons,
            "life": self.lives,
            "photon_budget": self.lives * (math.inf if budget is None else budget),
            "taken_per_frame": self.taken,
            "bleach_frame": np.where(gone, self.frame, -1),
            "bleach_pixel": np.where(gone, self.pixel, -1),
            "bleached_s": self.bleached_s,
        }
        return {
            "view": self.view.table(),
            "dyes": dyes,
            "spot": self._spot_table(),
            "background": {"photons": self.background},
        }

    def _spot_table(self) -> Table:
        bead = self.bead
        every = max(1, len(bead.r_nm) // PROFILE_SAMPLES)
        names = ("excitation", "depletion", "left", "passed", "emitted", "detected")
        profiles = {name: bead.at(getattr(bead, name), 0.0)[::every] for name in names}
        return {"r_nm": bead.r_nm[::every], **profiles}

    def truth_outline(self) -> Mapping[str, str]:
        """Return what the truth will hold."""
        return {
            "view": "where the view lies in the specimen",
            "dyes": "dyes in and beside the view: chain to site, place, photons, where in the scan "
            "they go dark (-1: not)",
            "spot": "beams, pinhole and effective spot by distance, in focus at the coverslip",
            "background": "background of the first frame, photons a dwell",
        }

    def cost(self) -> Cost:
        """Estimate from pixels and dyes; measured on one core."""
        pixels, a = self.view.shape[0] * self.view.shape[1], self.recipe.pixel_size_nm
        drawn, seen = (
            float(np.mean(r**2)) / a**2 for r in (self.spots.drawn_nm, self.spots.reach_nm)
        )
        each_s = 1e-6 + 1e-9 * self.spots.r_nm.size + 4e-9 * drawn
        once_s = len(self.dyes) * 5e-9 * seen if self.fluorophore.photon_budget else 0.0
        cpu_s = 0.5 + once_s + self.n_frames * (5e-8 * pixels + len(self.dyes) * each_s)
        return Cost(int(2.5e8 + 300 * len(self.dyes)), self.n_frames * pixels * 6, float(cpu_s))

    @property
    def notes(self) -> tuple[str, ...]:
        """Say how many dyes there are and bleach, and what is left out; warn of coarse pixels."""
        gone, recipe = int((self.frame < self.n_frames).sum()), self.recipe
        width_nm = self.resolution_nm
        told = [
            f"{len(self.dyes)} dyes ({self.fluorophore.name}) in or beside the view shine without "
            f"blinking, in proportion to the light; {gone} go dark during the scans. Light so far "
            "from a beam that 3 % of its power falls beyond neither excites nor bleaches."
        ]
        if recipe.pixel_size_nm > 0.5 * width_nm:
            told.append(
                f"warning: pixels of {recipe.pixel_size_nm:g} nm are too coarse for spots "
                f"{width_nm:.0f} nm wide; take {0.4 * width_nm:.0f} nm or less."
            )
        return tuple(told)

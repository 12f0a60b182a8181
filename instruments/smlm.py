"""A single-molecule localization microscope: a widefield camera that watches dyes blink."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from nanophantom.instruments._family import Instrument
from nanophantom.instruments._smlm_acquisition import SMLMAcquisition
from nanophantom.simcore.cameras.light import LightCamera
from nanophantom.simcore.light.background import Background
from nanophantom.simcore.light.fluorophores import Fluorophore
from nanophantom.simcore.light.focus_drift import StageDrift
from nanophantom.simcore.light.illumination import Illumination
from nanophantom.simcore.light.psf import GaussianPsf, Optics, Psf
from nanophantom.simcore.models import Model
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import Specimen

PURE: dict[str, Any] = {"dimensionless": True}


class Biplane(Model):
    """A second camera that sees another plane; each gets a part of the light."""

    distance_nm: float = Field(default=500.0, gt=0, le=5000)
    """Distance of the two focal planes, which lie evenly above and below the focus."""
    part: float = Field(default=0.5, gt=0, lt=1, json_schema_extra=PURE)
    """Part of the light that the first camera, with the lower plane, gets."""


class ChromaticShift(Model):
    """How the image lies against that of the reference colour."""

    x_nm: float = Field(default=0.0, ge=-1e4, le=1e4)
    """Shift to the right."""
    y_nm: float = Field(default=0.0, ge=-1e4, le=1e4)
    """Shift downwards."""
    z_nm: float = Field(default=0.0, ge=-1e4, le=1e4)
    """How much farther from the objective the focal plane lies."""
    magnification_percent: float = Field(default=0.0, ge=-5, le=5)
    """How much larger the image is, about the middle of the view."""


class SMLM(Instrument):
    """Single-molecule localization microscope: PALM, dSTORM or DNA-PAINT, by the dye.

    Every dye switches at exact times; a frame gets the photons of the exact overlap of its ON
    times with the exposure.
    """

    kind: Literal["smlm"] = "smlm"
    n_frames: int = Field(default=2000, ge=1, le=10_000_000)
    """Frames of the movie."""
    exposure_s: float = Field(default=0.03, gt=0, le=1000)
    """Exposure of a frame."""
    frame_period_s: float | None = Field(default=None, gt=0, le=1000)
    """Time from one frame's beginning to the next; none: as long as the exposure."""
    pixel_size_nm: float = Field(default=100.0, gt=0, le=1e4)
    """Edge of a camera pixel, referred to the specimen."""
    camera: LightCamera = LightCamera(width_px=128, height_px=128)
    """The camera."""
    fluorophore: Fluorophore | None = None
    """Dye that stands in for the specimen's own, on the same sites: one structure with several
    photophysics; none: what the specimen is labelled with."""
    optics: Optics = Optics()
    """The objective and what lies between it and the specimen."""
    psf: Psf = GaussianPsf()
    """How a dye's light spreads on the camera."""
    focus_nm: float = Field(default=0.0, ge=-1e5, le=1e5)
    """Height of the focal plane above the coverslip."""
    biplane: Biplane | None = None
    """A second camera with a plane of its own, which records "movie_2"; none: one camera."""
    illumination: Illumination = Illumination()
    """Exciting and activating light."""
    background: Background = Background()
    """Light of no emitter."""
    chromatic: ChromaticShift = ChromaticShift()
    """Shift of this colour against the reference."""
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

    @property
    def period_s(self) -> float:
        """Time from one frame's beginning to the next."""
        return self.exposure_s if self.frame_period_s is None else self.frame_period_s

    @classmethod
    def small(cls) -> Self:
        """Return four frames of twenty by sixteen pixels."""
        return cls(camera=LightCamera(width_px=20, height_px=16), n_frames=4)

    def plan(self, specimen: Specimen, run: Run) -> SMLMAcquisition:
        """Let every dye of the view blink through the movie, once.

        Raises
        ------
        ValueError
            The specimen doesn't fluoresce, or the optics can't be.
        """
        return SMLMAcquisition(self, specimen, run)

"""An atomic force microscope: tip, lever, loop and scanner, in contact or tapping mode.

What is recorded emerges from what they do, step by step of the loop: the tip feels the surface
dilated by its own shape, the scanner leads it beside the raster, the loop follows late. Nothing
paints an artefact into an image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from nanophantom.instruments._afm_acquisition import AFMAcquisition
from nanophantom.instruments._afm_modes import Contact, Mode, Tapping
from nanophantom.instruments._family import Instrument
from nanophantom.simcore.probes.cantilever import Cantilever
from nanophantom.simcore.probes.feedback import Controller, Detector, Stage
from nanophantom.simcore.probes.height_disturbances import HeightDisturbances
from nanophantom.simcore.probes.height_sensor import HeightSensor
from nanophantom.simcore.probes.line_scan import LineScan
from nanophantom.simcore.probes.piezo_scanner import PiezoScanner
from nanophantom.simcore.probes.tip_changes import TipLife
from nanophantom.simcore.probes.tips import SphereCone, Tip
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import Specimen

MOST_BENT_NM = 2000.0
"""Deflection that an optical lever can still see, about."""


class AFM(Instrument):
    """Atomic force microscope with tapping and contact mode."""

    kind: Literal["afm"] = "afm"
    tip: Tip = SphereCone()
    """The tip as it comes from the box."""
    tip_life: TipLife = TipLife()
    """What becomes of it: wear, things picked up, changes."""
    cantilever: Cantilever = Cantilever()
    """The lever, and what surrounds it."""
    imaging: Mode = Tapping()
    """What the loop keeps."""
    controller: Controller = Controller()
    """The loop."""
    stage: Stage = Stage()
    """The z stage."""
    detector: Detector = Detector()
    """The detector of the lever's motion."""
    scan: LineScan = LineScan()
    """Where and how fast the tip is led."""
    scanner: PiezoScanner = PiezoScanner()
    """What the scanner and the specimen's stage do besides."""
    disturbances: HeightDisturbances = HeightDisturbances()
    """Motions of tip against specimen that nobody wants."""
    sensor: HeightSensor = HeightSensor()
    """What records the height."""
    surface_step_nm: float | None = Field(default=None, gt=0, le=1e4)
    """Samples of the surface are at most so far apart; none takes an eighth of the tip's radius or
    half a pixel, whichever is less, coarser ones where that can't be afforded. A steep tip at the
    bottom of a steep trench is right to half a step over the tangent of its half angle, so such a
    one wants finer samples."""
    noise: bool = True
    """Thermal motion, and the noise of detector and sensor; without it signals are their
    noise-free truth."""

    @model_validator(mode="after")
    def _one_value_a_frame(self) -> Self:
        for name, value in {
            "controller.integral_per_s": self.controller.integral_per_s,
            "scan.line_rate_hz": self.scan.line_rate_hz,
            **{f"imaging.{k}": v for k, v in self.imaging.per_frame.items()},
        }.items():
            values = value if isinstance(value, tuple) else (value,)
            if isinstance(value, tuple) and len(value) != self.scan.n_frames:
                raise ValueError(
                    f"{name} has {len(value)} values for {self.scan.n_frames} frames; give one "
                    "number, or one a frame"
                )
            if min(values) <= 0:
                raise ValueError(f"{name} must be above 0, got {min(values):g}")
        pixels = self.scan.width_px * self.scan.height_px
        if self.sensor.spike_rate > pixels:
            raise ValueError(
                f"sensor.spike_rate: {self.sensor.spike_rate:g} spikes don't fit into an image of "
                f"{pixels} pixels"
            )
        if isinstance(self.imaging, Contact):
            bent = _largest(self.imaging.setpoint_nn) / self.cantilever.stiffness_n_per_m
            if bent > MOST_BENT_NM:
                raise ValueError(
                    f"imaging.setpoint_nn bends the lever by {bent:.3g} nm; a detector sees "
                    f"{MOST_BENT_NM:g} nm at most: take less force or a stiffer lever"
                )
        if isinstance(self.imaging, Tapping):
            highest = max(self.imaging.per_frame.values(), key=_largest)
            if _largest(highest) >= 100:
                raise ValueError(
                    f"imaging.setpoint_percent must be below 100, got {_largest(highest):g}: at "
                    "the free amplitude the lever feels nothing"
                )
        return self

    @classmethod
    def small(cls) -> Self:
        """Return two quick frames of twelve by ten pixels."""
        return cls(
            scan=LineScan(width_px=12, height_px=10, pixel_size_nm=4.0, line_rate_hz=20.0,
                          n_frames=2),
            imaging=Contact(),
            cantilever=Cantilever(stiffness_n_per_m=0.2, resonance_khz=13.0, quality_factor=30.0),
        )  # fmt: skip

    def input_files(self) -> dict[str, Path]:
        """Return the file of a measured tip."""
        return {f"tip.{knob}": file for knob, file in self.tip.input_files().items()}

    def plan(self, specimen: Specimen, run: Run) -> AFMAcquisition:
        """Draw drift, disturbances and the tip's life, and look at the surface.

        Raises
        ------
        ValueError
            The specimen has no surface, or the loop can't keep its set point on it.
        """
        return AFMAcquisition(self, specimen, run)


def _largest(value: float | tuple[float, ...]) -> float:
    return max(value) if isinstance(value, tuple) else value

"""Force volume: a force curve at every point of a grid, row by row.

Each curve goes down, sample by sample, until the lever's force reaches the trigger, and back. The
tip touches the surface as its shape allows (dilation), on the material of the point that it
touches; what happens there is `simcore.probes.force_curves`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from nanophantom.instruments._afm_surface import at_pixels, felt, nearest, sampled
from nanophantom.instruments._family import Instrument
from nanophantom.simcore.fields import Array, Axis, Table
from nanophantom.simcore.models import Model
from nanophantom.simcore.probes.cantilever import Cantilever
from nanophantom.simcore.probes.contact import tabor_parameter
from nanophantom.simcore.probes.force_curves import (
    DeflectionSensor,
    ForceCurves,
    ForceLaw,
    ForceParameters,
    ramps_to_trigger,
    simulate,
)
from nanophantom.simcore.probes.line_scan import LineScan
from nanophantom.simcore.probes.tips import SphereCone, Tip
from nanophantom.simcore.runs import Acquisition, Cost, Frame, Parts, Run, SignalSpec
from nanophantom.simcore.specimens import Specimen
from nanophantom.simcore.surfaces import material_table


class Ramp(Model):
    """How the lever's base goes down and up."""

    length_nm: float = Field(default=500.0, gt=0, le=1e5)
    """Length of the ramp."""
    samples: int = Field(default=500, ge=8, le=100_000)
    """Samples on the way down, and as many on the way up."""
    trigger_nn: float = Field(default=5.0, gt=0, le=1e6)
    """Force of the lever at which the approach turns, at the first sample that reaches it; the
    instrument takes it from where the lever is free."""

    @property
    def step_nm(self) -> float:
        """Distance between samples."""
        return self.length_nm / (self.samples - 1)


class Points(Model):
    """A grid of points."""

    width_px: int = Field(default=32, ge=2, le=4096)
    """Points along x."""
    height_px: int = Field(default=32, ge=1, le=4096)
    """Points along y."""
    pixel_size_nm: float = Field(default=20.0, gt=0)
    """Distance between points."""
    offset_nm: tuple[float, float] = (0.0, 0.0)
    """Centre of the grid on the specimen (x, y)."""

    @property
    def raster(self) -> LineScan:
        """The same grid as a raster of lines."""
        return LineScan(
            width_px=self.width_px,
            height_px=self.height_px,
            pixel_size_nm=self.pixel_size_nm,
            offset_nm=self.offset_nm,
        )


class ForceVolume(Instrument):
    """Force curves on a grid; a frame is a row of the grid."""

    kind: Literal["force-volume"] = "force-volume"
    tip: Tip = SphereCone()
    """The tip; a cone's law needs one with a half angle."""
    cantilever: Cantilever = Cantilever(
        stiffness_n_per_m=1.0, resonance_khz=70.0, quality_factor=150.0
    )
    """The lever; here only its stiffness and its temperature matter."""
    forces: ForceLaw = ForceLaw()
    """What acts between tip and sample."""
    sensor: DeflectionSensor = DeflectionSensor()
    """What reads the deflection."""
    ramp: Ramp = Ramp()
    """How far and how hard."""
    points: Points = Points()
    """Where."""
    stiffness_error_percent: float = Field(default=0.0, gt=-90, le=1000)
    """How much more than the true one the stiffness is that the operator believes in."""
    noise: bool = True
    """Thermal tremble and the sensor's noise and baseline; without it signals are their
    noise-free truth."""

    @model_validator(mode="after")
    def _cone_has_an_angle(self) -> Self:
        if self.forces.law == "sneddon" and not hasattr(self.tip, "half_angle_deg"):
            raise ValueError(
                f"forces.law: sneddon needs a tip with half_angle_deg, such as sphere-cone or "
                f"pyramid; got {self.tip.shape}"
            )
        return self

    @classmethod
    def small(cls) -> Self:
        """Return a grid of three by two points with short ramps."""
        return cls(
            points=Points(width_px=3, height_px=2),
            ramp=Ramp(length_nm=100.0, samples=60),
        )

    def input_files(self) -> dict[str, Path]:
        """Return the file of a measured tip."""
        return {f"tip.{knob}": file for knob, file in self.tip.input_files().items()}

    def plan(self, specimen: Specimen, run: Run) -> ForceVolumeAcquisition:
        """Look at the surface; noise is drawn row by row.

        Raises
        ------
        ValueError
            The specimen has no surface.
        """
        return ForceVolumeAcquisition(self, specimen, run)


class ForceVolumeAcquisition(Acquisition):
    """A planned force volume of one specimen."""

    def __init__(self, instrument: ForceVolume, specimen: Specimen, run: Run) -> None:
        self.instrument, self.run, self.known = instrument, run, specimen.known
        raster = instrument.points.raster
        self.raster, self.n_frames = raster, raster.height_px
        self.surface = sampled(specimen, raster.window, instrument.tip, raster)
        depth = float(np.ptp(self.surface.heights_nm)) + 1e-6
        self.tip = instrument.tip.sampled(self.surface.step_nm, depth)
        for number, material in enumerate(self.surface.materials):
            self._check_ramp(number, material.name)

    def _check_ramp(self, number: int, name: str) -> None:
        """Refuse a ramp that doesn't bring the lever free of one of the materials."""
        ramp = self.instrument.ramp
        heights = np.zeros(1)
        curve = self._on(heights, np.array([number]), None)
        approach = curve.separations_nm()[0]
        if not (curve.parted[0] and approach[0, 0] > 0.05 * ramp.length_nm):
            raise ValueError(
                f"ramp.length_nm: {ramp.length_nm:g} nm is too short on {name}: to reach "
                f"ramp.trigger_nn ({ramp.trigger_nn:g} nN) and come free again the lever needs "
                "more; take a longer ramp, a lower trigger or a stiffer lever"
            )

    def signals(self) -> Mapping[str, SignalSpec]:
        """Return deflections and heights of the base, a row of curves each."""
        shape = self.raster.width_px, self.instrument.ramp.samples
        axes = (Axis("x", self.raster.pixel_size_nm, "nm"), Axis("sample", 1.0, ""))
        return {
            name: SignalSpec(
                shape, "float32", axes, "nm", ideal=None if name[0] == "z" else f"ideal_{name}"
            )
            for name in ("approach", "retract", "z_approach", "z_retract")
        }

    def settings(self) -> Mapping[str, Any]:
        """Return what the operator knows: the dials, tip and lever as they were calibrated."""
        made = self.instrument
        return {
            "instrument": "force-volume",
            "pixel_size_nm": made.points.pixel_size_nm,
            "width_px": made.points.width_px,
            "height_px": made.points.height_px,
            "stiffness_n_per_m": made.cantilever.stiffness_n_per_m
            * (1 + made.stiffness_error_percent / 100),
            "trigger_nn": made.ramp.trigger_nn,
            "law": made.forces.law,
            "tip": made.tip.model_dump(mode="json"),
            "tip_radius_nm": made.tip.radius_nm,
            "poisson_ratio": self.surface.materials[0].poisson_ratio,
            **self.known,
        }

    def parts(self) -> Mapping[str, Callable[[], Mapping[str, Array]]]:
        """Return the surface as the tip feels it."""
        return {"felt": functools.partial(felt, self.surface, self.tip)}

    def expose(self, i: int, parts: Parts | None = None) -> Frame:
        """Make row ``i`` of the grid."""
        if not 0 <= i < self.n_frames:
            raise IndexError(f"row {i} of {self.n_frames}")
        made = self.make_parts() if parts is None else parts
        curves, _ = self._curves(made, slice(i, i + 1), self.run.at("row", i))
        signals = {
            "approach": curves.approach_nm,
            "retract": curves.retract_nm,
            "z_approach": curves.z_approach_nm,
            "z_retract": curves.z_retract_nm,
        }
        truth = {
            "ideal_approach": curves.ideal_approach_nm,
            "ideal_retract": curves.ideal_retract_nm,
        }
        return Frame(i, _as_float32(signals), _as_float32(truth))

    def _curves(self, made: Parts, rows: slice, noise: Run | None) -> tuple[ForceCurves, Array]:
        """Simulate the curves of some rows, with the noise of an address or without any."""
        heights = at_pixels(self.surface, made["felt"]["heights_nm"], self.raster)[rows].ravel()
        material = nearest(self.surface, made["felt"]["material"], self.raster)[rows].ravel()
        return self._on(heights, material, noise), material

    def _on(self, heights_nm: Array, material: Array, noise: Run | None) -> ForceCurves:
        """Simulate curves at some heights of the surface and on some materials."""
        instrument = self.instrument
        parameters = ForceParameters.of_materials(
            self.surface.materials,
            material,
            instrument.tip.radius_nm,
            getattr(instrument.tip, "half_angle_deg", 20.0),
            heights_nm,
        )
        ramp, noisy = instrument.ramp, noise is not None and instrument.noise
        down, up = ramps_to_trigger(
            parameters,
            instrument.cantilever,
            instrument.forces,
            ramp.trigger_nn,
            ramp.length_nm,
            ramp.samples,
        )
        # The stage knows whole steps only: it turns at the first one at which the trigger is
        # reached, and where the samples fall on a curve is left to the height of its place.
        beyond = np.mod(down[:, -1:], ramp.step_nm)
        down, up = down - beyond, up - beyond
        return simulate(
            parameters,
            instrument.cantilever,
            instrument.forces,
            down,
            up,
            instrument.sensor if noisy else None,
            noise.rng if noise is not None and noisy else None,
        )

    def truth(self, parts: Parts | None = None) -> Mapping[str, Table]:
        """Return what is true of every curve, the surface, materials and the tip."""
        made = self.make_parts() if parts is None else parts
        curves, material = self._curves(made, slice(None), None)
        ny, nx = self.raster.shape
        materials = self.surface.materials
        modulus = np.array([m.modulus_gpa for m in materials])
        return {
            "curves": {
                "row": np.repeat(np.arange(ny), nx),
                "column": np.tile(np.arange(nx), ny),
                "material": material,
                "modulus_gpa": modulus[material],
                **curves.truth(),
            },
            "surface": {
                "height_nm": at_pixels(self.surface, self.surface.heights_nm, self.raster),
                "image_nm": at_pixels(self.surface, made["felt"]["heights_nm"], self.raster),
                "material": material.reshape(ny, nx),
            },
            "materials": material_table(materials),
            "calibration": {
                "stiffness_n_per_m": np.array([self.instrument.cantilever.stiffness_n_per_m]),
                "sensitivity_nm_per_V": np.array([self.instrument.sensor.sensitivity_nm_per_V]),
                "radius_nm": np.array([self.instrument.tip.radius_nm]),
                "noise_nm": np.array([self.instrument.sensor.noise_nm]),
                "thermal_nm": np.array([self.instrument.cantilever.thermal_rms_nm]),
                "drag_nn": np.array([self.instrument.forces.drag_nn]),
            },
        }

    def truth_outline(self) -> Mapping[str, str]:
        """Return one line on every table of :meth:`truth`."""
        return {
            "curves": "contact point, modulus, adhesion, indentation and jumps of every curve",
            "surface": "height and material of every point, and its image by the tip",
            "materials": "modulus, adhesion and viscosity of what there is",
            "calibration": "actual stiffness, sensitivity, tip radius, noise and drag",
        }

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about law and tip."""
        made, law = self.instrument, self.instrument.forces
        told = [
            f"Contact follows {law.law.upper()}, with a tip of radius {made.tip.radius_nm:.3g} nm "
            f"and a lever of {made.cantilever.stiffness_n_per_m:.3g} N/m.",
        ]
        if law.law in ("dmt", "jkr"):
            for material in self.surface.materials:
                mu = float(
                    tabor_parameter(
                        made.tip.radius_nm,
                        material.reduced_modulus_gpa,
                        material.work_of_adhesion_mj_per_m2,
                    )
                )
                told.append(
                    f"{material.name}: Tabor parameter {mu:.2g} (DMT holds below 0.1, JKR above 5)."
                )
        if any(material.thickness_nm is not None for material in self.surface.materials):
            told.append("Force curves take every material for a half-space, layers too.")
        return tuple(told)

    def cost(self) -> Cost:
        """Estimate from the number of samples."""
        curves = math.prod(self.raster.shape)
        samples = 2 * curves * self.instrument.ramp.samples
        felt_at = self.surface.heights_nm.size
        return Cost(
            memory_bytes=int(300e6 + 60 * felt_at + 80 * samples),
            disk_bytes=int(24 * samples + 2e6),
            cpu_s=4e-7 * samples + 4e-10 * felt_at * self.tip.heights_nm.size,
        )


def _as_float32(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return arrays as they are stored."""
    return {name: np.asarray(values, np.float32) for name, values in arrays.items()}

"""A TEM in diffraction: selected areas, convergent beams, large angles, precession."""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from nanophantom.instruments._column import Column
from nanophantom.instruments._diffraction_acquisition import DiffractionAcquisition
from nanophantom.instruments._diffraction_setup import Setup
from nanophantom.simcore.atoms import Window
from nanophantom.simcore.dose import DoseBudget, Ledger
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.delocalisation import delocalisation
from nanophantom.simcore.electrons.optics import Aberrations, ProbeOptics
from nanophantom.simcore.electrons.settings import Multislice
from nanophantom.simcore.history import Evolves, History
from nanophantom.simcore.models import Model
from nanophantom.simcore.runs import Run
from nanophantom.simcore.schedule import Angles, Exposures
from nanophantom.simcore.specimens import HasAtoms, HasFields, HasThickness, Specimen

Images = npt.NDArray[np.float32]
Thickness = Annotated[float, Field(gt=0, le=2000)]

SCATTERING_MRAD = 20.0
"""How far to the side electrons of interest are scattered, for the width of the cell."""
WIDEST_FOR_TAILS_NM = 25.0
"""The cell of a probe is widened to this at most for the sake of tails and sharp edges."""
TAILS = 12.0
"""Radius to which a focused probe is followed, in units of wavelength / semiangle: patterns of
SrTiO3 4 nm thick then differ by 1 to 2 % (root mean square) from those of much wider cells, all at
the disks' edges; with 6 by 4 %, with 3 by 8 %."""


class DiffractionCamera(Model):
    """A counting camera in the diffraction plane."""

    width_px: int = Field(default=256, ge=16, le=4096)
    """Pixels along x."""
    height_px: int = Field(default=256, ge=16, le=4096)
    """Pixels along y."""
    pixel_size_mrad: float = Field(default=0.25, gt=0, le=20)
    """Angle between neighbouring pixels (wavelength times frequency): the camera length."""
    centre_offset_mrad: Angles = (0.0, 0.0)
    """Where the direct beam falls (x, y), away from the middle of the camera."""
    efficiency: float = Field(default=1.0, gt=0, le=1, json_schema_extra={"dimensionless": True})
    """Fraction of the arriving electrons that is counted."""
    beam_stop_mrad: float | None = Field(default=None, gt=0)
    """Radius of a round stop in front of the direct beam; none lets it through."""
    shot_noise: bool = True
    """Count single electrons; off, the expectation itself is read out."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height_px, self.width_px

    @property
    def dtype(self) -> str:
        """Type of what is read out."""
        return "uint32" if self.shot_noise else "float32"

    @property
    def centre_px(self) -> tuple[float, float]:
        """Where the direct beam falls (x, y), in pixels."""
        dx, dy = self.centre_offset_mrad
        return (
            (self.width_px - 1) / 2 + dx / self.pixel_size_mrad,
            (self.height_px - 1) / 2 + dy / self.pixel_size_mrad,
        )

    @property
    def reach_mrad(self) -> float:
        """Largest angle that falls on the camera: that of its farthest corner."""
        dx, dy = (abs(d) for d in self.centre_offset_mrad)
        height, width = self.shape
        return math.hypot(
            width / 2 * self.pixel_size_mrad + dx, height / 2 * self.pixel_size_mrad + dy
        )

    def expected(self, pattern: npt.NDArray[np.float64], electrons: float) -> Images:
        """Return the expected counts of a pattern of parts of all electrons."""
        counts = pattern * electrons * self.efficiency
        if self.beam_stop_mrad is not None:
            cx, cy = self.centre_px
            y, x = np.indices(self.shape)
            stopped = np.hypot(y - cy, x - cx) * self.pixel_size_mrad <= self.beam_stop_mrad
            counts = np.where(stopped, 0.0, counts)
        return counts.astype(np.float32)

    def read(self, expected: Images, rng: np.random.Generator) -> npt.NDArray[Any]:
        """Count electrons."""
        return rng.poisson(expected).astype(np.uint32) if self.shot_noise else expected


class Precession(Model):
    """A beam that goes round on a cone above the specimen and is brought back below it."""

    angle_mrad: float = Field(default=20.0, gt=0, le=100)
    """Half angle of the cone."""
    azimuths: int = Field(default=36, ge=2, le=2000)
    """Directions that stand for the cone, evenly spread from +x on."""

    @property
    def tilts_mrad(self) -> tuple[Angles, ...]:
        """Tilts of the beam."""
        phi = 2 * np.pi * np.arange(self.azimuths) / self.azimuths
        return tuple(
            (self.angle_mrad * float(c), self.angle_mrad * float(s))
            for c, s in zip(np.cos(phi), np.sin(phi), strict=True)
        )


class Diffraction(Column):
    """Electron diffraction with a counting camera.

    Patterns of the thermal configurations add, so diffuse scattering and the fading of the Bragg
    beams come out of the average. In `saed` a plane wave illuminates the specimen and an aperture
    in an image of it selects the area; in `precession` it also goes round on a cone; in `cbed` a
    probe stands at one place (with a large semiangle and an amorphous specimen the pattern is a
    Ronchigram); in `lacbed` the probe is strongly defocused, and the aperture, in the plane of
    its crossover, selects one disk: its angles and places are tied, x = defocus times angle. The
    spread of energies blurs none of these by more than 1e-5 of an angle and is left out.
    """

    kind: Literal["diffraction"] = "diffraction"
    mode: Literal["saed", "cbed", "lacbed", "precession"] = "saed"
    """What is done with the beam."""
    probe: ProbeOptics = ProbeOptics(semiangle_mrad=5.0, aberrations=Aberrations())
    """cbed, lacbed: the probe; its source size is averaged over nine places."""
    position_nm: tuple[float, float] = (0.0, 0.0)
    """Centre (x, y) of the selected area, or place of the probe."""
    positions: Literal["one", "averaged"] = "one"
    """cbed: one place, or an average over a cell of the crystal (PACBED)."""
    positions_per_axis: int = Field(default=4, ge=2, le=64)
    """Averaged: places along each edge of the cell."""
    diameter_nm: float = Field(default=5.0, gt=0, le=1000)
    """saed, precession, lacbed: aperture, referred to the specimen."""
    reflection_mrad: Angles = (0.0, 0.0)
    """lacbed: angle (x, y) of the reflection whose disk is selected; the direct one by default."""
    convergence_mrad: float = Field(default=0.0, ge=0, le=20)
    """saed, precession: standard deviation of the illumination angles on each axis."""
    precession: Precession = Precession()
    """precession: the cone."""
    stage_tilt_mrad: Angles = (0.0, 0.0)
    """Rotation of the specimen about the x and the y axis."""
    thicknesses_nm: Annotated[tuple[Thickness, ...], Field(min_length=1)] | None = None
    """A pattern from each of these depths, from one pass; none takes the whole specimen."""
    electrons_per_pattern: float = Field(
        default=1e6, gt=0, json_schema_extra={"dimensionless": True}
    )
    """Electrons in the probe or through the selected area during one pattern."""
    n_frames: int = Field(default=1, ge=1, le=100_000)
    """Patterns, of each thickness."""
    exposure_s: float = Field(default=0.5, gt=0)
    """Length of one exposure."""
    dead_time_s: float = Field(default=0.0, ge=0)
    """Time from the end of one exposure to the start of the next; the beam is blanked."""
    before_e_per_A2: float = Field(default=0.0, ge=0)
    """What the specimen got before the first pattern."""
    budget: DoseBudget = DoseBudget()
    """Limits of dose and dose rate that end the acquisition."""
    camera: DiffractionCamera = DiffractionCamera()
    """Detector."""
    multislice: Multislice = Multislice()
    """Numerical settings of the scattering."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not self.aberration_drift.still:
            raise ValueError("aberration_drift: a pattern is taken with a lens that stands still")
        if self.positions == "averaged" and self.mode != "cbed":
            raise ValueError(f"positions: only cbed averages them, not {self.mode}")
        depths = self.thicknesses_nm or ()
        if any(later <= earlier for earlier, later in itertools.pairwise(depths)):
            raise ValueError("thicknesses_nm must rise from one to the next")
        if max(abs(a) for a in self.stage_tilt_mrad) > 500:
            raise ValueError("stage_tilt_mrad must lie within ±500 mrad")
        if self.mode == "lacbed":
            apart = abs(self.probe.defocus_nm) * self.probe.semiangle_mrad * 1e-3
            if apart < self.diameter_nm / 2:
                raise ValueError(
                    f"probe.defocus_nm spreads the probe over {apart:.3g} nm only, less than the "
                    f"radius of the aperture, diameter_nm / 2 = {self.diameter_nm / 2:g}; lacbed "
                    "needs a larger defocus or a smaller aperture"
                )
        band = self.multislice.band_limit_mrad
        if band is not None and band < self.needed_mrad:
            raise ValueError(
                f"multislice.band_limit_mrad ({band:g}) is below what the probe holds "
                f"({self.needed_mrad:g})"
            )
        return self

    @classmethod
    def small(cls) -> Self:
        """Return three small convergent-beam patterns, cheap enough for tests."""
        return cls(
            mode="cbed",
            probe=ProbeOptics(semiangle_mrad=15.0),
            n_frames=3,
            electrons_per_pattern=2e4,
            camera=DiffractionCamera(width_px=48, height_px=40, pixel_size_mrad=1.0),
            multislice=Multislice(thermal_configurations=2),
        )

    @property
    def has_probe(self) -> bool:
        """Whether the beam is convergent."""
        return self.mode in ("cbed", "lacbed")

    @property
    def needed_mrad(self) -> float:
        """Angle that the incident wave itself reaches."""
        return 1.1 * self.probe.semiangle_mrad if self.has_probe else 0.0

    @property
    def band_limit_mrad(self) -> float:
        """Largest scattering angle that is kept, counted from the beam."""
        if self.multislice.band_limit_mrad is not None:
            return self.multislice.band_limit_mrad
        return max(1.05 * self.camera.reach_mrad, 2.0 * self.needed_mrad, 50.0)

    def half_width_nm(self, specimen: Specimen, wavelength_nm: float) -> float:
        """Return how far from the centre the specimen is simulated."""
        margin = 0.6 if self.multislice.margin_nm is None else self.multislice.margin_nm
        depth = specimen.exit_nm if isinstance(specimen, HasThickness) else 0.0
        aside = SCATTERING_MRAD
        if self.mode == "precession":
            aside += self.precession.angle_mrad
        if not self.has_probe:
            return self.diameter_nm / 2 + margin + 1e-3 * aside * depth
        alpha = self.probe.semiangle_mrad
        spread = delocalisation(self.probe.coefficients(), self.energy_kev, alpha) / 10
        selected = self.diameter_nm / 2 if self.mode == "lacbed" else 0.0
        source = 2 * self.probe.source_size_nm
        focus = wavelength_nm / (1e-3 * alpha)
        needed = spread + 2 * focus + selected + source + margin + 1e-3 * (alpha + aside) * depth
        # beams of a cell lie wavelength / width apart: the edge of a disk is as sharp as that
        resolved = wavelength_nm / (1e-3 * self.camera.pixel_size_mrad)
        wished = max(TAILS * focus, resolved / 2)
        return max(needed, min(wished, WIDEST_FOR_TAILS_NM / 2))

    @property
    def dose_e_per_A2(self) -> float:
        """Electrons per area in one pattern: of the selected area, or of the probe's disk.

        The disk is the probe's geometric one, or that of the diffraction limit if it is larger.
        """
        if not self.has_probe:
            return self.electrons_per_pattern / (np.pi * (5.0 * self.diameter_nm) ** 2)
        alpha = 1e-3 * self.probe.semiangle_mrad
        limit_nm = 0.61 * 0.1 * float(wavelength(self.energy_kev)) / alpha
        radius_nm = max(abs(self.probe.defocus_nm) * alpha, limit_nm)
        return self.electrons_per_pattern / (np.pi * (10.0 * radius_nm) ** 2)

    def ledger(self, area: Window) -> Ledger:
        """Return what falls on the specimen, pattern by pattern, as far as the budget allows."""
        n = self.n_frames * len(self.thicknesses_nm or (0.0,))
        exposures = Exposures(
            n_frames=n,
            dose_e_per_A2=self.dose_e_per_A2,
            exposure_s=self.exposure_s,
            dead_time_s=self.dead_time_s,
            before_e_per_A2=self.before_e_per_A2,
            budget=self.budget,
        )
        return exposures.ledger(self.energy_kev, area)

    def plan(self, specimen: Specimen, run: Run) -> DiffractionAcquisition:
        """Tune the lens, choose cell and grid, and ask the specimen for what lies in it.

        Raises
        ------
        ValueError
            The specimen has nothing there, is thinner than asked for, or no crystal to average.
        """
        if not isinstance(specimen, HasAtoms | HasFields):
            made = "; make one first: sample.make(run)" if hasattr(specimen, "make") else ""
            raise ValueError(f"sample: diffraction needs a specimen made of atoms or fields{made}")
        tuned = self.tuned(self.probe.coefficients(), [0.0], run)
        setup = Setup.of(self, specimen, run)
        ledger = self.ledger(setup.window)
        history = None
        if isinstance(specimen, Evolves):
            if specimen.film_motion(1.0, 1.0, run) is not None:
                raise ValueError(
                    "sample.film: the motion of a film is that under the broad beam of a tem; "
                    "leave it away here"
                )
            history = specimen.history(
                setup.configurations.atoms, setup.configurations.beyond_nm, ledger, run
            )
            self._can_evolve(history)
        return DiffractionAcquisition(self, run, tuned, setup, specimen.known, ledger, history)

    def _can_evolve(self, history: History) -> None:
        """Refuse what has no meaning for a specimen that changes."""
        if self.thicknesses_nm is not None:
            raise ValueError(
                "thicknesses_nm: patterns of several thicknesses come from one pass and have no "
                "order in time; leave it away for a specimen that changes"
            )
        if history.fading is not None and self.has_probe:
            raise ValueError(
                f"mode: the fading of spots has no meaning for the disks of {self.mode}; take "
                "saed or precession, or a process that acts on atoms"
            )

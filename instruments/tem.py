"""A transmission electron microscope: plane-wave imaging of thin specimens.

The specimen's thermal configurations are scattered through by multislice once for every tilt of
the beam; every frame is imaged by the aberrated and partially coherent objective as it is at that
time, averaged over configurations, carried along by the drift during the exposure, and counted.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from nanophantom.instruments._column import Column
from nanophantom.instruments._tem_acquisition import TEMAcquisition as TEMAcquisition
from nanophantom.instruments._zero_loss import ZeroLoss
from nanophantom.simcore.atoms import Window
from nanophantom.simcore.cameras import Camera
from nanophantom.simcore.electrons.cell import Cell
from nanophantom.simcore.electrons.configurations import Configurations
from nanophantom.simcore.electrons.delocalisation import delocalisation
from nanophantom.simcore.electrons.gas import Gas
from nanophantom.simcore.electrons.optics import Aberrations, ImagingOptics
from nanophantom.simcore.electrons.settings import Multislice
from nanophantom.simcore.environment import Drift
from nanophantom.simcore.history import Evolves
from nanophantom.simcore.models import Model
from nanophantom.simcore.runs import Run
from nanophantom.simcore.schedule import Angles, Exposures, Series
from nanophantom.simcore.specimens import HasAtoms, HasFields, Specimen

LARGEST_MEAN_COUNTS = 20_000  # a third of what a 16-bit counter holds: images have contrast


class HollowCone(Model):
    """A beam that goes round on a cone during every exposure; the images add."""

    cone_mrad: float = Field(gt=0, le=100)
    """Half angle of the cone, about beam_tilt_mrad."""
    azimuths: int = Field(default=12, ge=2, le=1000)
    """Directions that stand for the cone, evenly spread from +x on."""

    def about(self, tilt_mrad: Angles) -> tuple[Angles, ...]:
        """Return the tilts of the beam, the cone's axis at a tilt."""
        phi = 2 * np.pi * np.arange(self.azimuths) / self.azimuths
        x, y = tilt_mrad
        return tuple(
            (x + self.cone_mrad * float(c), y + self.cone_mrad * float(s))
            for c, s in zip(np.cos(phi), np.sin(phi), strict=True)
        )


class TEM(Column):
    """Plane-wave TEM with an aberration-corrected objective and a counting camera.

    Dark field: displace the aperture (optics.aperture_shift_mrad) onto a reflection, or tilt the
    beam by minus its angle so that it passes on the axis.
    """

    kind: Literal["tem"] = "tem"
    optics: ImagingOptics = ImagingOptics(
        defocus_nm=7.0,
        aberrations=Aberrations(c30_um=-13.0),
        aperture_mrad=30.0,
        focal_spread_nm=2.0,
        convergence_mrad=0.2,
    )
    """Objective lens and coherence."""
    beam_tilt_mrad: Angles = (0.0, 0.0)
    """Tilt of the illumination (x, y)."""
    hollow_cone: HollowCone | None = None
    """Let the beam go round on a cone; none: it stands still."""
    stage_tilt_mrad: Angles = (0.0, 0.0)
    """Rotation of the specimen about the x and the y axis."""
    series: Series | None = None
    """Defocus or beam tilt step by step. exposures.n_frames is then the number of steps, or a
    multiple of it: as many exposures at every step, one after the other."""
    exposures: Exposures = Exposures()
    """Schedule and dose."""
    camera: Camera = Camera()
    """Detector."""
    drift: Drift = Drift()
    """Specimen drift."""
    gas: Gas | None = None
    """Gas between the pole pieces; none: vacuum."""
    inelastic_mean_free_path_nm: float | None = Field(default=None, gt=0)
    """Attenuate the elastic image by exp(-thickness / this), column by column; none: don't."""
    energy_filter: Literal["zero-loss", "none"] = "zero-loss"
    """With an inelastic mean free path: electrons that lost energy are taken away, or form an
    even background where they were lost."""
    multislice: Multislice = Multislice()
    """Numerical settings of the scattering."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        self._match_series()
        tilts = (self.beam_tilt_mrad, *self._series_tilts, self.stage_tilt_mrad)
        if max(abs(a) for angles in tilts for a in angles) > 500:
            raise ValueError("beam and stage tilts must lie within ±500 mrad")
        counts = self.camera.mean_electrons(max(self.exposures.frame_doses_e_per_A2))
        counts *= self.camera.counts_per_electron
        counted = self.camera.shot_noise and self.camera.dtype == "uint16"
        if counted and self.camera.sensor.type == "ideal" and counts > LARGEST_MEAN_COUNTS:
            raise ValueError(
                f"exposures.dose_e_per_A2: {counts:.3g} electrons a pixel and frame overflow a "
                "16-bit counter; lower the dose or camera.pixel_size_nm, or take more frames"
            )
        band, needed = self.multislice.band_limit_mrad, self._aperture_reach_mrad
        if band is not None and needed > band:
            raise ValueError(
                f"multislice.band_limit_mrad ({band:g}) is below what optics.aperture_mrad "
                f"passes ({needed:g}, counted from the beam); the aperture would pass angles that "
                "were never computed"
            )
        return self

    def _match_series(self) -> None:
        """Give every step of a series as many frames."""
        if self.series is None:
            return
        steps, asked = len(self.series), self.exposures.n_frames
        listed = self.exposures.doses_e_per_A2 is not None
        if "n_frames" not in self.exposures.model_fields_set and not listed:
            self.__dict__["exposures"] = self.exposures.model_copy(update={"n_frames": steps})
        elif asked % steps:
            name = "doses_e_per_A2" if listed else "n_frames"
            raise ValueError(
                f"exposures.{name} ({asked}) is no multiple of the {steps} steps of the series; "
                "leave it away for one exposure at each"
            )
        if self.series.beam_tilts_mrad is not None and self.beam_tilt_mrad != (0.0, 0.0):
            raise ValueError("beam_tilt_mrad and series.beam_tilts_mrad both tilt; give one")

    @classmethod
    def small(cls) -> Self:
        """Return three small frames, cheap enough for tests."""
        return cls(
            exposures=Exposures(n_frames=3),
            camera=Camera(width_px=96, height_px=80, pixel_size_nm=0.02),
            multislice=Multislice(thermal_configurations=2, margin_nm=0.2),
            drift=Drift(speed_nm_per_s=0.05),
        )

    # --- what frames are taken with --------------------------------------------------------------

    @property
    def _series_tilts(self) -> tuple[Angles, ...]:
        return () if self.series is None else self.series.beam_tilts_mrad or ()

    @property
    def defoci_nm(self) -> tuple[float, ...]:
        """Nominal defocus of every frame."""
        steps = (None if self.series is None else self.series.foci_nm) or (self.optics.defocus_nm,)
        return tuple(steps[i * len(steps) // self.n_frames] for i in range(self.n_frames))

    @property
    def beam_tilts_mrad(self) -> tuple[Angles, ...]:
        """Tilt of the beam, or of the axis of its cone, in every frame."""
        steps = self._series_tilts or (self.beam_tilt_mrad,)
        return tuple(steps[i * len(steps) // self.n_frames] for i in range(self.n_frames))

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.exposures.n_frames

    def directions(self, tilt_mrad: Angles) -> tuple[Angles, ...]:
        """Return all tilts of the beam during one exposure."""
        return (tilt_mrad,) if self.hollow_cone is None else self.hollow_cone.about(tilt_mrad)

    # --- numerical choices ----------------------------------------------------------------------

    @property
    def _largest_tilt_mrad(self) -> float:
        """Largest distance between the beam and the centre of the aperture."""
        ax, ay = self.optics.aperture_shift_mrad
        every = {d for tilt in set(self.beam_tilts_mrad) for d in self.directions(tilt)}
        return max(math.hypot(x - ax, y - ay) for x, y in every)

    @property
    def _aperture_reach_mrad(self) -> float:
        """Largest angle that the aperture passes, counted from the beam; 0 without one."""
        aperture = self.optics.aperture_mrad
        return 0.0 if aperture is None else aperture + self._largest_tilt_mrad

    @property
    def band_limit_mrad(self) -> float:
        """Largest scattering angle that is kept."""
        if self.multislice.band_limit_mrad is not None:
            return self.multislice.band_limit_mrad
        return max(50.0, 2.0 * (self.optics.aperture_mrad or 0.0), 1.05 * self._aperture_reach_mrad)

    @property
    def margin_nm(self) -> float:
        """Width of the specimen simulated beyond each edge of the view."""
        if self.multislice.margin_nm is not None:
            return self.multislice.margin_nm
        aperture = self.optics.aperture_mrad
        reach = self.band_limit_mrad if aperture is None else self._aperture_reach_mrad
        radii_A = [
            delocalisation(
                {**self.optics.coefficients(), "C10": 10.0 * defocus_nm},
                self.energy_kev,
                min(reach, self.band_limit_mrad),
                self.optics.focal_spread_A(self.energy_kev),
                self.optics.convergence_mrad,
            )
            for defocus_nm in {min(self.defoci_nm), max(self.defoci_nm)}
        ]
        return 0.6 + max(radii_A) / 10.0

    def plan(self, specimen: Specimen, run: Run) -> TEMAcquisition:
        """Draw drift and tuning, choose the grids and ask the specimen for what lies in view.

        Raises
        ------
        ValueError
            The specimen has neither atoms nor fields, or nothing of them in view.
        """
        if not isinstance(specimen, HasAtoms | HasFields):
            made = "; make one first: sample.make(run)" if hasattr(specimen, "make") else ""
            raise ValueError(f"sample: a TEM needs a specimen made of atoms or fields{made}")
        schedule = self.exposures
        ledger = schedule.ledger(self.energy_kev, Window.everywhere(), "exposures.budget")
        path = self.drift.path(
            len(ledger), schedule.exposure_s, schedule.period_s, run.rng("drift")
        )
        tuned = self.tuned(
            self.optics.coefficients(),
            path.frame_means()["t_s"],
            run,
            self.defoci_nm[: len(ledger)],
        )
        film, margin_nm = None, self.margin_nm
        if isinstance(specimen, Evolves):
            height, width = (n * self.camera.pixel_size_nm / 2 for n in self.camera.shape)
            film = specimen.film_motion(width, height, run)
        if film is not None:
            last = float(ledger.cumulative_e_per_A2[-1])
            margin_nm += film.largest_nm(last)
            across = np.linspace(-1.0, 1.0, 33)
            film.warp_nm(width * across, height * across, last)  # refuses a film that folds
        cell = Cell.around(self.camera, path, margin_nm)
        configurations = Configurations.of(
            specimen,
            cell,
            self.grid_for(specimen, cell, self.multislice, self.band_limit_mrad),
            self.multislice,
            self.energy_kev,
            run,
            self.stage_tilt_mrad,
        )
        zero_loss = None
        if self.inelastic_mean_free_path_nm is not None:
            zero_loss = ZeroLoss.of(
                specimen, configurations, cell, self.inelastic_mean_free_path_nm
            )
        ledger = replace(ledger, area=cell.window)
        history = None
        if isinstance(specimen, Evolves):
            history = specimen.history(configurations.atoms, configurations.beyond_nm, ledger, run)
        return TEMAcquisition(
            self,
            run,
            path,
            cell,
            configurations,
            tuned,
            zero_loss,
            ledger,
            history,
            film,
            specimen.known,
        )

"""Four-dimensional STEM: a diffraction pattern for every position of a scanned probe.

A focused probe is scanned over the specimen while it drifts, and a camera records the pattern of
every position. A frame is one line of the scan, so that a dataset streams to disk however large
the scan is. Each position is a multislice of its own (see `_patterns`), averaged incoherently
over the thermal configurations, the focal spread and the source.
"""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field

from nanophantom.instruments._column import Tuned
from nanophantom.instruments._four_d_acquisition import (
    FourDSTEMAcquisition as FourDSTEMAcquisition,
)
from nanophantom.instruments._patterns import Patterns
from nanophantom.instruments._probe_column import ProbeColumn
from nanophantom.instruments._scan_setup import focal_spread
from nanophantom.instruments._scanning import Scan, ScanPath
from nanophantom.instruments._survey import Survey, Turned
from nanophantom.instruments._tiling import Tiling
from nanophantom.simcore.atoms import Window
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.delocalisation import delocalisation
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.optics import ProbeOptics
from nanophantom.simcore.electrons.settings import Multislice
from nanophantom.simcore.electrons.slicing import SLICE_THICKNESS_A
from nanophantom.simcore.electrons.stem.detectors import Detector, Weights
from nanophantom.simcore.electrons.stem.pixelated import Binning, PixelatedDetector
from nanophantom.simcore.electrons.stem.probe import lattice
from nanophantom.simcore.electrons.transmission import SCAN_OVERSAMPLING, fineness_for
from nanophantom.simcore.environment import Drift
from nanophantom.simcore.models import Model
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import Specimen


class Memory(Model):
    """What the calculation may take."""

    memory_gb: float = Field(default=1.5, ge=0.01, le=10_000)
    """Memory of a worker for slices and waves; with more, slices are made less often."""


class FourDSTEM(ProbeColumn):
    """Scanning TEM with a pixelated detector, and any others in the same pass."""

    kind: Literal["four-d-stem"] = "four-d-stem"
    probe: ProbeOptics = ProbeOptics(semiangle_mrad=20.0)
    """Aperture, aberrations and coherence of the probe. A source of finite size costs nine waves
    a position, a focal spread seven."""
    camera: PixelatedDetector = PixelatedDetector()
    """The pixelated detector; its rows and columns lie along those of the scan."""
    detectors: tuple[Detector, ...] = ()
    """What else is recorded. Each counts as if it were alone."""
    scan: Scan = Scan(width_px=64, height_px=64, pixel_size_nm=0.03, dwell_us=1000.0)
    """Raster and timing; every line is a frame."""
    multislice: Multislice = Multislice()
    """Numerical settings of the scattering. Each probe travels in a window of its own, margin_nm
    around it; none takes what the probe and its rays reach, and at least half a wavelength over
    the angle of a pixel, so that patterns are sampled as finely as the camera asks."""
    calculation: Memory = Memory()
    """Memory."""

    @classmethod
    def small(cls) -> Self:
        """Return a scan of three lines of four positions, cheap enough for tests."""
        return cls(
            scan=Scan(width_px=4, height_px=3, pixel_size_nm=0.1, dwell_us=100.0),
            camera=PixelatedDetector(width_px=20, height_px=16, pixel_size_mrad=4.0),
            drift=Drift(speed_nm_per_s=2.0),
            multislice=Multislice(thermal_configurations=2, margin_nm=0.4),
        )

    @property
    def signal_names(self) -> tuple[str, ...]:
        """Names of all signals."""
        return ("patterns", *(name for d in self.detectors for name in d.channels))

    @property
    def reach_mrad(self) -> float:
        """Largest angle of aperture, detectors and the camera's corners."""
        seen = [d.reach_mrad for d in self.detectors]
        return max(self.camera.reach_mrad, self.probe.semiangle_mrad, *seen, 0.0)

    def plan(self, specimen: Specimen, run: Run) -> FourDSTEMAcquisition:
        """Draw drift and tuning, choose windows and tiles.

        Raises
        ------
        ValueError
            The specimen has nothing in view, or can't be tilted.
        """
        if self.scan.fast_axis != "x":
            raise ValueError(
                "instrument.scan.fast_axis: four-d-stem streams a line a frame along x; write x"
            )
        self.whole_ledger(specimen)  # refuses what it can't follow
        path = ScanPath.of(self.scan, self.drift, run.rng)
        tuned = self.tuned(self.probe.coefficients(), path.t_s.mean(axis=2).ravel(), run)
        rim = self.window_nm(tuned, 0.0) / 2
        view = Window(
            float(path.x_nm.min()) - rim,
            float(path.x_nm.max()) + rim,
            float(path.y_nm.min()) - rim,
            float(path.y_nm.max()) + rim,
        )
        survey = Survey.of(specimen, view)
        if self.stage_tilt_mrad != (0.0, 0.0):
            specimen = Turned(specimen, self.stage_tilt_mrad, survey.depth_nm)
        patterns = self._patterns(specimen, survey, path, tuned, run)
        return FourDSTEMAcquisition(self, run, path, tuned, patterns, survey, view)

    def window_nm(self, tuned: Tuned, depth_nm: float) -> float:
        """Return the edge of the window in which a probe travels.

        Aberrations spread the probe, and its rays spread on their way through the specimen. A
        ray that leaves the window comes back on its other side: it does no harm before it has
        crossed the whole window, so those of half the largest angle seen are what counts.
        """
        if self.multislice.margin_nm is not None:
            return 2 * self.multislice.margin_nm
        lines = len(tuned.nominal_c10_A)
        some = range(0, lines, max(1, lines // 16))
        aberrated = max(
            delocalisation(tuned.coefficients(i), self.energy_kev, self.probe.semiangle_mrad)
            for i in {*some, lines - 1}
        )
        angle = max(self.probe.semiangle_mrad, self.reach_mrad / 2)
        margin = 0.4 + aberrated / 10.0 + 1e-3 * angle * depth_nm
        finest = 1e2 * float(wavelength(self.energy_kev)) / self.camera.pixel_size_mrad
        return max(2 * margin, finest)

    def _patterns(
        self, specimen: Specimen, survey: Survey, path: ScanPath, tuned: Tuned, run: Run
    ) -> Patterns:
        """Choose grids and tiles."""
        edge_A = 10 * self.window_nm(tuned, survey.depth_nm)
        k_max = math.sin(1e-3 * self.band_limit_mrad) / float(wavelength(self.energy_kev))
        oversampling = self.multislice.oversampling or SCAN_OVERSAMPLING
        window = Grid.for_wave((edge_A, edge_A), k_max, oversampling)
        ky, kx = window.wave_frequencies
        weights = None
        if self.detectors:
            weights = Weights.of(
                self.detectors, kx, ky, self.energy_kev, window.wave_mask, lattice(window)
            )
        moving = self.multislice.thermal_motion and survey.n_atoms > 0
        configurations = self.multislice.thermal_configurations if moving else 1
        thickness_A = 10.0 * (self.multislice.slice_thickness_nm or SLICE_THICKNESS_A / 10)
        slices = 1 + math.ceil(10 * survey.depth_nm / thickness_A)
        fineness = fineness_for(survey.numbers)
        budget = 1e9 * self.calculation.memory_gb
        foci, shares = focal_spread(self.probe, self.energy_kev)
        return Patterns(
            specimen=specimen,
            path=path,
            window=window,
            tiling=Tiling.within(path, window, slices, configurations, fineness, budget),
            fineness=fineness,
            settings=self.multislice,
            energy_kev=self.energy_kev,
            run=run,
            configurations=configurations,
            slices=slices,
            binning=Binning.of(self.camera, window, self.energy_kev),
            weights=weights,
            foci_A=foci,
            shares=shares,
            source_sigma_A=self.probe.source_sigma_A,
            budget_bytes=budget,
        )

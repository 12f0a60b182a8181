"""A transmission electron microscope: plane-wave imaging of thin atomic specimens.

The specimen's thermal configurations are scattered through by multislice, imaged by the
aberrated and partially coherent objective, averaged, carried along by the drift during every
exposure, and counted. The static part (one intensity for each configuration) is shared by
all frames.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import scipy.fft
from pydantic import Field, model_validator

from nanophantom.instruments._family import Instrument
from nanophantom.simcore.atoms import Atoms
from nanophantom.simcore.columns import find_truth_columns
from nanophantom.simcore.electrons import imaging, multislice
from nanophantom.simcore.electrons.cell import Cell, depth_nm
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.contrast import sign_of_contrast
from nanophantom.simcore.electrons.debye_waller import displace, rms_displacement
from nanophantom.simcore.electrons.delocalisation import delocalisation
from nanophantom.simcore.electrons.grid import Grid, oversampling_for
from nanophantom.simcore.electrons.optics import Aberrations, ImagingOptics
from nanophantom.simcore.electrons.settings import Multislice
from nanophantom.simcore.electrons.slicing import SLICE_THICKNESS_A
from nanophantom.simcore.environment import Drift, Path
from nanophantom.simcore.fields import Array, Axis, Table
from nanophantom.simcore.runs import Acquisition, Cost, Frame, Parts, Run, SignalSpec
from nanophantom.simcore.schedule import Exposures
from nanophantom.simcore.sensors import CountingCamera
from nanophantom.simcore.specimens import HasAtoms, Specimen

Images = npt.NDArray[np.float32]

LARGEST_MEAN_COUNTS = 20_000  # a third of what a 16-bit counter holds: images have contrast


class TEM(Instrument):
    """Plane-wave TEM with an aberration-corrected objective and a counting camera."""

    kind: Literal["tem"] = "tem"
    energy_kev: float = Field(default=300.0, ge=10, le=3000)
    """Beam energy."""
    optics: ImagingOptics = ImagingOptics(
        defocus_nm=7.0,
        aberrations=Aberrations(c30_um=-13.0),
        aperture_mrad=30.0,
        focal_spread_nm=2.0,
        convergence_mrad=0.2,
    )
    """Objective lens and coherence."""
    beam_tilt_mrad: tuple[float, float] = (0.0, 0.0)
    """Tilt of the illumination (x, y)."""
    stage_tilt_mrad: tuple[float, float] = (0.0, 0.0)
    """Rotation of the specimen about the x and the y axis."""
    exposures: Exposures = Exposures()
    """Schedule and dose."""
    camera: CountingCamera = CountingCamera()
    """Detector."""
    drift: Drift = Drift()
    """Specimen drift."""
    multislice: Multislice = Multislice()
    """Numerical settings of the scattering."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        angles = (*self.beam_tilt_mrad, *self.stage_tilt_mrad)
        if max(abs(a) for a in angles) > 500:
            raise ValueError("beam_tilt_mrad and stage_tilt_mrad must lie within ±500 mrad")
        counts = self.camera.mean_counts(self.exposures.dose_e_per_A2)
        if self.camera.shot_noise and counts > LARGEST_MEAN_COUNTS:
            raise ValueError(
                f"exposures.dose_e_per_A2: {counts:.3g} electrons a pixel and frame overflow a "
                "16-bit counter; lower the dose or camera.pixel_size_nm, or take more frames"
            )
        aperture, band = self.optics.aperture_mrad, self.multislice.band_limit_mrad
        if aperture is not None and band is not None and aperture > band:
            raise ValueError(
                f"multislice.band_limit_mrad ({band:g}) is below optics.aperture_mrad "
                f"({aperture:g}); the aperture would pass angles that were never computed"
            )
        return self

    @classmethod
    def small(cls) -> Self:
        """Return three small frames, cheap enough for tests."""
        return cls(
            exposures=Exposures(n_frames=3),
            camera=CountingCamera(width_px=96, height_px=80, pixel_size_nm=0.02),
            multislice=Multislice(thermal_configurations=2, margin_nm=0.2),
            drift=Drift(speed_nm_per_s=0.05),
        )

    @property
    def band_limit_mrad(self) -> float:
        """Largest scattering angle that is kept."""
        if self.multislice.band_limit_mrad is not None:
            return self.multislice.band_limit_mrad
        return max(50.0, 2.0 * (self.optics.aperture_mrad or 0.0))

    @property
    def margin_nm(self) -> float:
        """Width of the specimen simulated beyond each edge of the view."""
        if self.multislice.margin_nm is not None:
            return self.multislice.margin_nm
        radius_A = delocalisation(
            self.optics.coefficients(),
            self.energy_kev,
            min(self.optics.aperture_mrad or math.inf, self.band_limit_mrad),
            self.optics.focal_spread_nm * 10.0,
            self.optics.convergence_mrad,
        )
        return 0.6 + radius_A / 10.0

    def plan(self, specimen: Specimen, run: Run) -> TEMAcquisition:
        """Draw the drift path, choose the grids and ask the specimen for its atoms.

        Raises
        ------
        ValueError
            The specimen has no atoms at all, or none in view.
        """
        if not isinstance(specimen, HasAtoms):
            made = "; make one first: sample.make(run)" if hasattr(specimen, "make") else ""
            raise ValueError(f"sample: a TEM needs a specimen made of atoms{made}")
        schedule, camera = self.exposures, self.camera
        path = self.drift.path(
            schedule.n_frames,
            schedule.exposure_s,
            schedule.exposure_s + schedule.dead_time_s,
            run.rng("drift"),
        )
        cell = Cell.around(camera, path, self.margin_nm)
        atoms = cell.atoms_of(specimen, self.stage_tilt_mrad)
        if len(atoms) == 0:
            raise ValueError(
                "sample: no atoms in view; enlarge the view (instrument.camera) or move the sample"
            )
        return TEMAcquisition(self, run, path, cell, atoms)


class TEMAcquisition(Acquisition):
    """One planned series of exposures of one specimen."""

    def __init__(self, tem: TEM, run: Run, path: Path, cell: Cell, atoms: Atoms) -> None:
        self.tem, self.run, self.path, self.cell, self.atoms = tem, run, path, cell, atoms
        self.n_frames = tem.exposures.n_frames

    # --- what is measured, and what an operator would know ---------------------------------

    def signals(self) -> Mapping[str, SignalSpec]:
        """Return the one signal: electron counts (expectations where shot noise is off)."""
        step = self.tem.camera.pixel_size_nm
        axes = (Axis("y", step, "nm"), Axis("x", step, "nm"))
        camera = self.tem.camera
        return {"image": SignalSpec(camera.shape, camera.dtype, axes, "electrons", ideal="ideal")}

    def settings(self) -> Mapping[str, Any]:
        """Return the nominal settings."""
        tem = self.tem
        return {
            "instrument": "tem",
            "energy_kev": tem.energy_kev,
            "pixel_size_nm": tem.camera.pixel_size_nm,
            "defocus_nm": tem.optics.defocus_nm,
            "c30_um": tem.optics.aberrations.c30_um,
            "dose_e_per_A2": tem.exposures.dose_e_per_A2,
            "exposure_s": tem.exposures.exposure_s,
            "n_frames": tem.exposures.n_frames,
            "contrast": "bright" if sign_of_contrast(tem.optics, tem.energy_kev) > 0 else "dark",
        }

    # --- the static part: one intensity for each thermal configuration -----------------------

    @cached_property
    def grid(self) -> Grid:
        """The grid on which the wave meets the slices."""
        settings = self.tem.multislice
        oversampling = settings.oversampling or oversampling_for(self.atoms.numbers)
        k_max = math.sin(self.tem.band_limit_mrad * 1e-3) / wavelength(self.tem.energy_kev)
        return Grid.for_wave(self.cell.extent_A, float(k_max), oversampling)

    @cached_property
    def camera_oversampling(self) -> int:
        """Samples per camera pixel edge, enough for the image's whole bandwidth."""
        angle = min(self.tem.optics.aperture_mrad or math.inf, self.tem.band_limit_mrad)
        bandwidth = 2 * math.sin(angle * 1e-3) / float(wavelength(self.tem.energy_kev))
        return max(1, math.ceil(bandwidth * 2 * self.cell.pixel_nm * 10.0))

    @property
    def margin_nm(self) -> float:
        """Width of the specimen simulated beyond each edge of the view."""
        return self.tem.margin_nm

    @property
    def slice_thickness_A(self) -> float:
        """Largest thickness of a slice."""
        chosen = self.tem.multislice.slice_thickness_nm
        return SLICE_THICKNESS_A if chosen is None else chosen * 10.0

    def warm_up(self) -> None:
        """Plan the FFTs of scattering and imaging, so that every worker finds the same plans."""
        self._engine()
        self._image(multislice.plane_wave(self.grid))

    @property
    def n_configurations(self) -> int:
        """Thermal configurations that differ: one where nothing moves."""
        settings = self.tem.multislice
        return settings.thermal_configurations if settings.thermal_motion else 1

    def parts(self) -> Mapping[str, Callable[[], Mapping[str, Array]]]:
        """Return one intensity for each thermal configuration."""
        return {
            f"configuration-{c:04d}": functools.partial(self.scatter, c)
            for c in range(self.n_configurations)
        }

    def scatter(self, configuration: int) -> Mapping[str, Array]:
        """Send a plane wave through one thermal configuration and image it.

        Returns
        -------
        Mapping
            ``intensity`` on the cell's grid (1 = the bare beam), and the fractions of the
            incident intensity ``kept`` in the wave, ``lost`` at the band limit and
            ``stopped`` by the aperture.
        """
        tem, atoms = self.tem, self.atoms
        positions = atoms.positions_nm * 10.0
        if tem.multislice.thermal_motion:
            rng = self.run.rng("phonons", configuration)
            positions = displace(positions, rms_displacement(atoms.b_factors_A2), rng)
        y0, x0 = self.cell.corner_nm
        positions = positions - np.array([x0 * 10.0, y0 * 10.0, 0.0])
        wave = self._engine().exit_wave(atoms.numbers, positions, self.slice_thickness_A)
        stopped = imaging.stopped_by_aperture(
            wave.wave_k,
            extent_A=wave.extent_A,
            energy_kev=tem.energy_kev,
            aperture_mrad=tem.optics.aperture_mrad,
            tilt_mrad=tem.beam_tilt_mrad,
        )
        return {
            "intensity": self._image(wave.wave_k),
            "kept": np.array(wave.kept),
            "lost": np.array(wave.lost),
            "stopped": np.array(stopped),
        }

    def _engine(self) -> multislice.Multislice:
        return multislice.Multislice(
            self.grid,
            self.tem.energy_kev,
            np.unique(self.atoms.numbers).tolist(),
            self.tem.beam_tilt_mrad,
            self.tem.multislice.scattering_factors,
        )

    def _image(self, wave_k: npt.NDArray[Any]) -> Images:
        """Return the partially coherent image of an exit wave on the cell's grid."""
        optics, f = self.tem.optics, self.camera_oversampling
        return imaging.expected_image(
            wave_k,
            extent_A=self.grid.extent_A,
            energy_kev=self.tem.energy_kev,
            coefficients=optics.coefficients(),
            aperture_mrad=optics.aperture_mrad,
            focal_spread_A=optics.focal_spread_nm * 10.0,
            convergence_mrad=optics.convergence_mrad,
            tilt_mrad=self.tem.beam_tilt_mrad,
            shape=(self.cell.shape[0] * f, self.cell.shape[1] * f),
        )

    # --- frames --------------------------------------------------------------------------------

    def expose(self, i: int, parts: Parts | None = None) -> Frame:
        """Make frame ``i``: shift and blur by the drift, integrate over pixels, count."""
        if not 0 <= i < self.n_frames:
            raise IndexError(f"frame {i} of {self.n_frames}")
        expected = self._expected(parts, self.path.dy_nm[i], self.path.dx_nm[i])
        signal = self.tem.camera.read(expected, self.run.rng("counts", i))
        return Frame(i, {"image": signal}, {"ideal": expected})

    def _expected(self, parts: Parts | None, dy_nm: Array, dx_nm: Array) -> Images:
        """Return expected counts, averaged over the displacements of one exposure."""
        spectrum = self._spectrum(parts)
        ny, nx = (n * self.camera_oversampling for n in self.cell.shape)
        ky = np.fft.fftfreq(ny, self.cell.extent_A[0] / ny)[:, None]
        kx = np.fft.rfftfreq(nx, self.cell.extent_A[1] / nx)[:, None]
        # mean over the path of exp(-2 pi i k.d), a sum of products; einsum, since the bits of a
        # matrix product may depend on the number of threads
        phase_y = np.exp(-2j * np.pi * 10.0 * ky * dy_nm).astype(np.complex64)
        phase_x = np.exp(-2j * np.pi * 10.0 * kx * dx_nm).astype(np.complex64)
        motion = np.einsum("yt,xt->yx", phase_y, phase_x) / np.float32(len(dy_nm))
        image = scipy.fft.irfft2(spectrum * motion, (ny, nx), workers=1)
        f = self.camera_oversampling
        view = self.cell.crop(image[::f, ::f])
        return self.tem.camera.expected(
            np.ascontiguousarray(view), self.tem.exposures.dose_e_per_A2
        )

    def _spectrum(self, parts: Parts | None) -> npt.NDArray[np.complex64]:
        """Return the Fourier transform of the mean intensity, integrated over pixels."""
        if getattr(self, "_cached_spectrum", None) is None:
            made = self.make_parts() if parts is None else parts
            mean = np.mean([made[name]["intensity"] for name in self.parts()], axis=0)
            ny, nx = mean.shape
            pixel = self.cell.pixel_nm * 10.0
            ky = np.fft.fftfreq(ny, self.cell.extent_A[0] / ny)[:, None]
            kx = np.fft.rfftfreq(nx, self.cell.extent_A[1] / nx)[None, :]
            aperture = np.sinc(ky * pixel) * np.sinc(kx * pixel)
            spectrum = scipy.fft.rfft2(mean, workers=1) * aperture.astype(np.float32)
            self._cached_spectrum: npt.NDArray[np.complex64] | None = spectrum
        assert self._cached_spectrum is not None
        return self._cached_spectrum

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the plan without what can be computed from it."""
        state = self.__dict__.copy()
        state.pop("_cached_spectrum", None)
        return state

    # --- truth ---------------------------------------------------------------------------------

    def truth(self, parts: Parts | None = None) -> Mapping[str, Table]:
        """Return atoms, columns, drift, dose, the noise-free image and the intensity budget."""
        made = self.make_parts() if parts is None else parts
        names = list(self.parts())
        still = np.zeros(1)
        dose = self.tem.exposures.dose_e_per_A2
        frames = np.arange(self.n_frames)
        y0, x0 = self.cell.corner_nm
        my, mx = self.cell.margin
        origin = np.array([x0 + mx * self.cell.pixel_nm, y0 + my * self.cell.pixel_nm, 0.0])
        atoms = self.atoms.moved(self.atoms.positions_nm - origin)
        return {
            "atoms": atoms.table(),
            "groups": {"name": np.array(atoms.group_names, dtype="S")},
            "columns": find_truth_columns(atoms),
            "drift": self.path.frame_means(),
            "drift_path": self.path.table(),
            "dose": {
                "frame": frames,
                "dose_e_per_A2": np.full(self.n_frames, dose),
                "cumulative_e_per_A2": dose * (frames + 1.0),
            },
            "noise_free": {"image": self._expected(made, still, still)},
            "intensity": {
                "configuration": np.arange(len(names)),
                "kept": np.array([made[n]["kept"] for n in names]),
                "lost_at_band_limit": np.array([made[n]["lost"] for n in names]),
                "stopped_by_aperture": np.array([made[n]["stopped"] for n in names]),
            },
        }

    def truth_outline(self) -> Mapping[str, str]:
        """Return one line on every table of :meth:`truth`."""
        return {
            "atoms": "element, resting position and B factor of every atom simulated",
            "groups": "names of the specimen's parts",
            "columns": "position, composition and spread of every atomic column",
            "drift": "mean displacement of the specimen in every frame",
            "drift_path": "the displacement inside the exposures, finely sampled",
            "dose": "electrons on the specimen, frame by frame and in all",
            "noise_free": "expected counts of a frame at zero drift",
            "intensity": "intensity kept, lost at the band limit, stopped by the aperture",
        }

    def cost(self) -> Cost:
        """Estimate from the grid: a handful of arrays, and two FFTs a slice and element."""
        points = self.grid.shape[0] * self.grid.shape[1]
        slices = max(1.0, 10.0 * depth_nm(self.atoms) / self.slice_thickness_A)
        elements = len(np.unique(self.atoms.numbers))
        pixels = self.tem.camera.shape[0] * self.tem.camera.shape[1]
        cell = self.cell.shape[0] * self.cell.shape[1] * self.camera_oversampling**2
        per_slice = points * (1.0 + 0.3 * elements) * 25e-9
        return Cost(
            memory_bytes=int(250e6 + points * 40 + cell * 60 + self.n_configurations * cell * 4),
            disk_bytes=int(
                self.n_frames * pixels * 6
                + self.n_configurations * cell * 4
                + len(self.atoms) * 56
                + pixels * 4
                + 8e6  # report, estimates, FFT wisdom
            ),
            cpu_s=self.n_configurations * slices * per_slice + self.n_frames * cell * 150e-9,
        )

"""A planned series of exposures: scatter once for each tilt, image every frame with its lens."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.fft

from nanophantom.instruments import _tem_truth
from nanophantom.instruments._zero_loss import ZeroLoss
from nanophantom.simcore.atoms import Atoms
from nanophantom.simcore.electrons import multislice
from nanophantom.simcore.electrons.cell import Cell
from nanophantom.simcore.electrons.configurations import Configurations
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.contrast import sign_of_contrast
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.imaging import ImageFormation, stopped_by_aperture
from nanophantom.simcore.electrons.tuning import Tuned
from nanophantom.simcore.environment import Path
from nanophantom.simcore.fields import Array, Axis, Table
from nanophantom.simcore.runs import Acquisition, Cost, Frame, Parts, Run, SignalSpec
from nanophantom.simcore.schedule import Angles

if TYPE_CHECKING:
    from nanophantom.instruments.tem import TEM

Images = npt.NDArray[np.float32]


class State(NamedTuple):
    """What a frame is imaged with: frames of equal state share their image."""

    coefficients: tuple[tuple[str, float], ...]
    tilts_mrad: tuple[Angles, ...]


class TEMAcquisition(Acquisition):
    """One planned series of exposures of one specimen."""

    def __init__(
        self,
        tem: TEM,
        run: Run,
        path: Path,
        cell: Cell,
        configurations: Configurations,
        tuned: Tuned,
        zero_loss: ZeroLoss | None,
    ) -> None:
        self.tem, self.run, self.path, self.cell = tem, run, path, cell
        self.configurations, self.tuned, self.zero_loss = configurations, tuned, zero_loss
        self.n_frames = tem.n_frames

    @property
    def atoms(self) -> Atoms:
        """The atoms in the cell, at rest, in specimen coordinates."""
        return self.configurations.atoms

    @property
    def grid(self) -> Grid:
        """The grid on which the wave meets the slices."""
        return self.configurations.grid

    @property
    def margin_nm(self) -> float:
        """Width of the specimen simulated beyond each edge of the view."""
        return self.tem.margin_nm

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
        optics = tem.optics
        aberrations = optics.aberrations.model_dump(exclude_defaults=True)
        return {
            "instrument": "tem",
            "energy_kev": tem.energy_kev,
            "pixel_size_nm": tem.camera.pixel_size_nm,
            "defocus_nm": tem.defoci_nm[0],
            "defoci_nm": list(tem.defoci_nm),
            "c30_um": aberrations.pop("c30_um", 0.0),
            "aberrations": aberrations,
            "aperture_mrad": optics.aperture_mrad,
            "focal_spread_nm": optics.focal_spread_A(tem.energy_kev) / 10.0,
            "convergence_mrad": optics.convergence_mrad,
            "beam_tilts_mrad": [list(tilt) for tilt in tem.beam_tilts_mrad],
            "stage_tilt_mrad": list(tem.stage_tilt_mrad),
            "dose_e_per_A2": tem.exposures.dose_e_per_A2,
            "exposure_s": tem.exposures.exposure_s,
            "n_frames": self.n_frames,
            "contrast": "bright" if sign_of_contrast(optics, tem.energy_kev) > 0 else "dark",
        }

    # --- the static part: one exit wave for each tilt and thermal configuration ---------------

    def state(self, i: int) -> State:
        """Return the lens and the tilts of frame ``i``."""
        coefficients = tuple(sorted(self.tuned.coefficients(i).items()))
        return State(coefficients, self.tem.directions(self.tem.beam_tilts_mrad[i]))

    @cached_property
    def states(self) -> tuple[State, ...]:
        """The state of every frame."""
        return tuple(self.state(i) for i in range(self.n_frames))

    @cached_property
    def tilts_mrad(self) -> tuple[Angles, ...]:
        """All tilts of the beam, each once, in the order in which they come."""
        return tuple(dict.fromkeys(tilt for state in self.states for tilt in state.tilts_mrad))

    @property
    def is_static(self) -> bool:
        """Whether all frames are imaged alike."""
        return len(set(self.states)) == 1

    @cached_property
    def camera_oversampling(self) -> int:
        """Samples per camera pixel edge, enough for the image's whole bandwidth."""
        angle = min(self.tem.optics.aperture_mrad or math.inf, self.tem.band_limit_mrad)
        bandwidth = 2 * math.sin(angle * 1e-3) / float(wavelength(self.tem.energy_kev))
        return max(1, math.ceil(bandwidth * 2 * self.cell.pixel_nm * 10.0))

    @property
    def image_shape(self) -> tuple[int, int]:
        """Samples of an image of the whole cell."""
        f = self.camera_oversampling
        return self.cell.shape[0] * f, self.cell.shape[1] * f

    def warm_up(self) -> None:
        """Plan the FFTs of scattering and imaging, so that every worker finds the same plans."""
        self._engine(self.tilts_mrad[0])
        for tilt in self.tilts_mrad:
            self._formation(self.states[0], tilt)

    def part_name(self, tilt_mrad: Angles, configuration: int) -> str:
        """Name the exit wave of a tilt and a thermal configuration."""
        name = f"configuration-{configuration:04d}"
        if len(self.tilts_mrad) == 1:
            return name
        return f"tilt-{self.tilts_mrad.index(tilt_mrad):04d}-{name}"

    def parts(self) -> Mapping[str, Callable[[], Mapping[str, Array]]]:
        """Return one exit wave for each tilt of the beam and each thermal configuration."""
        return {
            self.part_name(tilt, c): functools.partial(self.scatter, tilt, c)
            for tilt in self.tilts_mrad
            for c in range(self.configurations.count)
        }

    def scatter(self, tilt_mrad: Angles, configuration: int) -> Mapping[str, Array]:
        """Send a tilted plane wave through one thermal configuration.

        Returns
        -------
        Mapping
            ``wave_k``, the Fourier coefficients of the exit wave, zero-loss where that is asked
            for; the fractions of the incident intensity ``kept`` in the wave, ``lost`` at the
            band limit and ``stopped`` by the aperture, before any loss of energy; where all
            frames are imaged alike also ``intensity``, the image on the cell's grid (1 = the
            bare beam).
        """
        tem = self.tem
        wave = self._engine(tilt_mrad).propagate(
            multislice.plane_wave(self.grid), self.configurations.steps(configuration)
        )
        stopped = stopped_by_aperture(
            wave.wave_k,
            extent_A=wave.extent_A,
            energy_kev=tem.energy_kev,
            aperture_mrad=tem.optics.aperture_mrad,
            tilt_mrad=tilt_mrad,
            aperture_shift_mrad=tem.optics.aperture_shift_mrad,
        )
        wave_k = wave.wave_k
        if self.zero_loss is not None:
            wave_k = self.zero_loss.attenuated(wave_k, self.grid.wave_mask)
        made = {
            "wave_k": wave_k,
            "kept": np.array(wave.kept),
            "lost": np.array(wave.lost),
            "stopped": np.array(stopped),
        }
        if self.is_static:
            made["intensity"] = self._image(self._formation(self.states[0], tilt_mrad), made)
        return made

    def _engine(self, tilt_mrad: Angles) -> multislice.Multislice:
        return multislice.Multislice(self.grid, self.tem.energy_kev, (), tilt_mrad)

    # --- images --------------------------------------------------------------------------------

    def _formation(self, state: State, tilt_mrad: Angles) -> ImageFormation:
        """Return the partially coherent lens of a state."""
        tem, optics = self.tem, self.tem.optics
        return ImageFormation(
            self.grid.wave_shape,
            extent_A=self.grid.extent_A,
            energy_kev=tem.energy_kev,
            coefficients=dict(state.coefficients),
            aperture_mrad=optics.aperture_mrad,
            aperture_shift_mrad=optics.aperture_shift_mrad,
            focal_spread_A=optics.focal_spread_A(tem.energy_kev),
            convergence_mrad=optics.convergence_mrad,
            tilt_mrad=tilt_mrad,
            shape=self.image_shape,
        )

    def _image(self, formation: ImageFormation, part: Mapping[str, Array]) -> Images:
        """Return the image of one exit wave on the cell's grid."""
        image = formation.image(part["wave_k"])
        if self.zero_loss is not None and self.tem.energy_filter == "none":
            passed = float(part["kept"] - part["stopped"])
            image += np.float32(passed) * self._background
        return image

    @cached_property
    def _background(self) -> Images:
        """Part of the electrons that lost energy, where they lost it."""
        assert self.zero_loss is not None
        return (1.0 - self.zero_loss.factor(self.image_shape)).astype(np.float32)

    def _mean_intensity(self, made: Parts, state: State) -> Images:
        """Return the image of a state, averaged over tilts and thermal configurations."""
        total = np.zeros(self.image_shape)
        for tilt in state.tilts_mrad:
            formation = None if self.is_static else self._formation(state, tilt)
            for c in range(self.configurations.count):
                part = made[self.part_name(tilt, c)]
                total += part["intensity"] if formation is None else self._image(formation, part)
        total /= len(state.tilts_mrad) * self.configurations.count
        return total.astype(np.float32)

    def _spectrum(self, parts: Parts | None, i: int) -> npt.NDArray[np.complex64]:
        """Return the Fourier transform of frame ``i``'s mean intensity, integrated over pixels.

        That of the last state is remembered.
        """
        state = self.states[i]
        known: tuple[State, npt.NDArray[np.complex64]] | None = getattr(self, "_known", None)
        if known is None or known[0] != state:
            made = self.make_parts() if parts is None else parts
            mean = self._mean_intensity(made, state)
            ny, nx = mean.shape
            pixel = self.cell.pixel_nm * 10.0
            ky = np.fft.fftfreq(ny, self.cell.extent_A[0] / ny)[:, None]
            kx = np.fft.rfftfreq(nx, self.cell.extent_A[1] / nx)[None, :]
            aperture = np.sinc(ky * pixel) * np.sinc(kx * pixel)
            spectrum = scipy.fft.rfft2(mean, workers=1) * aperture.astype(np.float32)
            known = self._known = (state, spectrum)
        return known[1]

    # --- frames --------------------------------------------------------------------------------

    def expose(self, i: int, parts: Parts | None = None) -> Frame:
        """Make frame ``i``: image, shift and blur by the drift, integrate over pixels, count."""
        if not 0 <= i < self.n_frames:
            raise IndexError(f"frame {i} of {self.n_frames}")
        expected = self.expected(parts, i, self.path.dy_nm[i], self.path.dx_nm[i])
        signal = self.tem.camera.read(expected, self.run.rng("counts", i))
        return Frame(i, {"image": signal}, {"ideal": expected})

    def expected(self, parts: Parts | None, i: int, dy_nm: Array, dx_nm: Array) -> Images:
        """Return expected counts of frame ``i``, averaged over the displacements given."""
        spectrum = self._spectrum(parts, i)
        ny, nx = self.image_shape
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

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the plan without what can be computed from it."""
        state = self.__dict__.copy()
        for name in ("_known", "_background"):
            state.pop(name, None)
        return state

    # --- truth ---------------------------------------------------------------------------------

    def truth(self, parts: Parts | None = None) -> Mapping[str, Table]:
        """Return what was really there and what really happened, as tables."""
        return _tem_truth.tables(self, self.make_parts() if parts is None else parts)

    def truth_outline(self) -> Mapping[str, str]:
        """Return one line on every table of :meth:`truth`."""
        return _tem_truth.outline(self)

    def cost(self) -> Cost:
        """Estimate from the grid: a handful of arrays, and two FFTs a slice and element."""
        points = self.grid.shape[0] * self.grid.shape[1]
        settings = self.configurations
        slices = max(1.0, 10.0 * settings.depth_nm / settings.slice_thickness_A)
        elements = len(settings.numbers_present)
        pixels = self.tem.camera.shape[0] * self.tem.camera.shape[1]
        cell = self.image_shape[0] * self.image_shape[1]
        wave = self.grid.wave_shape[0] * self.grid.wave_shape[1]
        n_parts = len(self.tilts_mrad) * settings.count
        images = n_parts
        if not self.is_static:
            images = len(set(self.states)) * len(self.states[0].tilts_mrad) * settings.count
        per_slice = points * (1.0 + 0.3 * elements) * 25e-9
        part_bytes = wave * 8 + (cell * 4 if self.is_static else 0)
        return Cost(
            memory_bytes=int(250e6 + points * 40 + cell * 60 + wave * 80),
            disk_bytes=int(
                self.n_frames * pixels * 6
                + n_parts * part_bytes
                + len(self.atoms) * 56
                + pixels * 12
                + 8e6  # report, estimates, FFT wisdom
            ),
            cpu_s=n_parts * slices * per_slice
            + images * cell * 60e-9
            + self.n_frames * cell * 150e-9,
        )

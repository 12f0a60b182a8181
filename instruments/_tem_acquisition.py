"""A planned series of exposures: scatter once for each tilt, image every frame with its lens."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nanophantom.instruments import _tem_truth
from nanophantom.instruments._tem_scattering import Lens, Scattering
from nanophantom.instruments._zero_loss import ZeroLoss
from nanophantom.simcore.atoms import Atoms
from nanophantom.simcore.beam_motion import MotionField
from nanophantom.simcore.cameras import Detector
from nanophantom.simcore.dose import Ledger
from nanophantom.simcore.electrons.band import Spectrum
from nanophantom.simcore.electrons.cell import Cell
from nanophantom.simcore.electrons.configurations import Configurations
from nanophantom.simcore.electrons.contrast import sign_of_contrast
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.tuning import Tuned
from nanophantom.simcore.environment import Path
from nanophantom.simcore.fields import Array, Axis, Table
from nanophantom.simcore.history import START, History, Moment
from nanophantom.simcore.runs import Acquisition, Cost, Frame, Parts, Run, SignalSpec
from nanophantom.simcore.schedule import Angles
from nanophantom.simcore.warping import warp

if TYPE_CHECKING:
    from nanophantom.instruments.tem import TEM

Images = npt.NDArray[np.float32]


SPECTRA_REMEMBERED = 2
FINER_TO_WARP = 2
"""Splines carry an image through a displacement field well at seven samples a period or more."""


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
        ledger: Ledger,
        history: History | None,
        film: MotionField | None,
        known: Mapping[str, Any],
    ) -> None:
        self.tem, self.run, self.path, self.cell = tem, run, path, cell
        self.configurations, self.tuned, self.zero_loss = configurations, tuned, zero_loss
        self.ledger, self.history, self.film, self.known = ledger, history, film, known
        self.scattering = Scattering(tem, cell, configurations, zero_loss)
        self.n_frames = len(ledger)

    @property
    def notes(self) -> tuple[str, ...]:
        """Why the acquisition ends early, and what the specimen's changes cost."""
        changed = len(self.changed_scenes)
        told: tuple[str, ...] = (self.ledger.stopped,) if self.ledger.stopped else ()
        if changed:
            told += (
                f"The specimen is seen in {changed} more states than its first; each is scattered "
                f"through {self.configurations.count} thermal configurations.",
            )
        return told + self.tem.camera.notes(
            max(self.tem.exposures.frame_doses_e_per_A2), self.tem.exposures.exposure_s
        )

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
        """Return the one signal: what the camera reads out (expectations without shot noise)."""
        step = self.tem.camera.pixel_size_nm
        axes = (Axis("y", step, "nm"), Axis("x", step, "nm"))
        camera = self.tem.camera
        unit = "electrons" if camera.sensor.type == "ideal" else "counts"
        return {"image": SignalSpec(camera.shape, camera.dtype, axes, unit, ideal="ideal")}

    def settings(self) -> Mapping[str, Any]:
        """Return the nominal settings."""
        tem = self.tem
        optics = tem.optics
        aberrations = optics.aberrations.model_dump(exclude_defaults=True)
        return {
            "instrument": "tem",
            "energy_kev": tem.energy_kev,
            "pixel_size_nm": tem.camera.pixel_size_nm,
            "counts_per_electron": tem.camera.counts_per_electron,
            "defocus_nm": tem.defoci_nm[0],
            "defoci_nm": list(tem.defoci_nm[: self.n_frames]),
            "c30_um": aberrations.pop("c30_um", 0.0),
            "aberrations": aberrations,
            "aperture_mrad": optics.aperture_mrad,
            "focal_spread_nm": optics.focal_spread_A(tem.energy_kev) / 10.0,
            "convergence_mrad": optics.convergence_mrad,
            "beam_tilts_mrad": [list(tilt) for tilt in tem.beam_tilts_mrad[: self.n_frames]],
            "stage_tilt_mrad": list(tem.stage_tilt_mrad),
            "gas": None if tem.gas is None else tem.gas.model_dump(),
            "dose_e_per_A2": tem.exposures.dose_e_per_A2,
            "doses_e_per_A2": self.ledger.fluence_e_per_A2.tolist(),
            "before_e_per_A2": self.ledger.before_e_per_A2,
            "exposure_s": tem.exposures.exposure_s,
            "frame_period_s": tem.exposures.period_s,
            "n_frames": self.n_frames,
            "contrast": "bright" if sign_of_contrast(optics, tem.energy_kev) > 0 else "dark",
            **self.known,
        }

    # --- what frames are made of -----------------------------------------------------------

    @cached_property
    def lenses(self) -> tuple[Lens, ...]:
        """Lens and tilts of every frame."""
        return tuple(
            Lens(
                tuple(sorted(self.tuned.coefficients(i).items())),
                self.tem.directions(self.tem.beam_tilts_mrad[i]),
            )
            for i in range(self.n_frames)
        )

    def scenes(self, i: int) -> list[tuple[Moment, Array]]:
        """Return the states of the specimen during frame ``i``, and when they hold.

        The weights, shape (samples of the path in a frame,), sum to 1 over all states.
        """
        t = self.path.t_s[i]
        if self.history is None:
            return [(START, np.full(len(t), 1.0 / len(t)))]
        begin, length = self.ledger.start_s[i], self.ledger.length_s[i]
        edges = begin + length * np.arange(len(t) + 1) / len(t)
        return self.history.during(edges, self.tem.multislice.states_per_exposure)

    @cached_property
    def changed_scenes(self) -> tuple[tuple[Moment, Lens], ...]:
        """Every state of a specimen that has changed, with the lens that sees it; each once."""
        return tuple(
            dict.fromkeys(
                (moment, self.lenses[i])
                for i in range(self.n_frames if self.history is not None else 0)
                for moment, _ in self.scenes(i)
                if moment != START
            )
        )

    @cached_property
    def tilts_mrad(self) -> tuple[Angles, ...]:
        """All tilts of the beam, each once, in the order in which they come."""
        return tuple(dict.fromkeys(tilt for lens in self.lenses for tilt in lens.tilts_mrad))

    @property
    def is_static(self) -> bool:
        """Whether the lens is the same in all frames."""
        return len(set(self.lenses)) == 1

    @property
    def image_shape(self) -> tuple[int, int]:
        """Samples of an image of the whole cell."""
        return self.scattering.image_shape

    def warm_up(self) -> None:
        """Plan the FFTs of scattering and imaging, so that every worker finds the same plans."""
        self.scattering.engine(self.tilts_mrad[0])
        for tilt in self.tilts_mrad:
            self.scattering.formation(self.lenses[0], tilt)

    # --- parts: exit waves of the specimen as it was, images of what it has become -----------

    def part_name(self, tilt_mrad: Angles, configuration: int) -> str:
        """Name the exit wave of a tilt and a thermal configuration."""
        name = f"configuration-{configuration:04d}"
        if len(self.tilts_mrad) == 1:
            return name
        return f"tilt-{self.tilts_mrad.index(tilt_mrad):04d}-{name}"

    def scene_name(self, moment: Moment, lens: Lens) -> str:
        """Name the image of a state of the specimen."""
        return f"scene-{self.changed_scenes.index((moment, lens)):05d}"

    def parts(self) -> Mapping[str, Callable[[], Mapping[str, Array]]]:
        """Return what frames share.

        One exit wave for each tilt of the beam and each thermal configuration of the specimen as
        it was at the beginning, and one image for each state that it takes later.
        """
        return {
            self.part_name(tilt, c): functools.partial(self.scatter, tilt, c)
            for tilt in self.tilts_mrad
            for c in range(self.configurations.count)
        } | {
            self.scene_name(moment, lens): functools.partial(self.see, moment, lens)
            for moment, lens in self.changed_scenes
        }

    def scatter(self, tilt_mrad: Angles, configuration: int) -> Mapping[str, Array]:
        """Send a tilted plane wave through one configuration of the specimen as it was.

        Returns
        -------
        Mapping
            As `Scattering.scatter`; where all frames have the same lens also ``intensity``, the
            image on the cell's grid (1 = the bare beam).
        """
        made = self.scattering.scatter(tilt_mrad, configuration)
        if self.is_static:
            formation = self.scattering.formation(self.lenses[0], tilt_mrad)
            made["intensity"] = self.scattering.image(formation, made)
        return made

    def see(self, moment: Moment, lens: Lens) -> Mapping[str, Array]:
        """Return the mean ``intensity`` of a state that the specimen takes later."""
        assert self.history is not None
        changed = self.configurations.changed(self.history.at(moment))
        return {"intensity": self.scattering.mean_image(changed, lens)}

    def _mean_intensity(self, made: Parts | None, moment: Moment, lens: Lens) -> Images:
        """Return the image of a state, averaged over tilts and thermal configurations."""
        if moment != START:
            part = self.see(moment, lens) if made is None else made[self.scene_name(moment, lens)]
            return np.asarray(part["intensity"])
        total = np.zeros(self.image_shape)
        for tilt in lens.tilts_mrad:
            formation = None if self.is_static else self.scattering.formation(lens, tilt)
            for c in range(self.configurations.count):
                part = self.scatter(tilt, c) if made is None else made[self.part_name(tilt, c)]
                total += (
                    part["intensity"]
                    if formation is None
                    else self.scattering.image(formation, part)
                )
        total /= len(lens.tilts_mrad) * self.configurations.count
        return total.astype(np.float32)

    def _spectrum(self, parts: Parts | None, moment: Moment, lens: Lens) -> Spectrum:
        """Return the Fourier transform of a state's mean intensity; some are remembered."""
        known: dict[Any, Spectrum] = self.__dict__.setdefault("_known", {})
        if (moment, lens) not in known:
            while len(known) >= SPECTRA_REMEMBERED:
                known.pop(next(iter(known)))
            mean = self._mean_intensity(parts, moment, lens)
            known[moment, lens] = self.scattering.band.spectrum(mean)
        return known[moment, lens]

    # --- frames --------------------------------------------------------------------------------

    def expose(self, i: int, parts: Parts | None = None) -> Frame:
        """Make frame ``i``: image, shift and blur by the drift, integrate over pixels, count."""
        if not 0 <= i < self.n_frames:
            raise IndexError(f"frame {i} of {self.n_frames}")
        electrons = self.electrons(parts, i)
        signal = self.detector.read(electrons, self.run.rng("counts", i))
        return Frame(i, {"image": signal}, {"ideal": self.detector.ideal(electrons)})

    @cached_property
    def detector(self) -> Detector:
        """The camera as it stands there: gain errors, dark rates and defects are drawn."""
        return self.tem.camera.detector(self.run.rng("camera"), self.tem.exposures.exposure_s)

    def electrons(self, parts: Parts | None, i: int) -> Images:
        """Return the electrons expected at every pixel in frame ``i``, whatever happens in it."""
        dy_nm, dx_nm = self.displacements_nm(i)
        total: Any = 0.0
        for moment, weights in self.scenes(i):
            spectrum = self._spectrum(parts, moment, self.lenses[i])
            total = total + spectrum * self._moved(dy_nm, dx_nm, weights)
        if self.history is not None and self.history.fading is not None:
            ky, kx = self.scattering.band.frequencies
            total = total * self.history.fading.amplitude(np.hypot(ky, kx), i)
        dose = float(self.ledger.fluence_e_per_A2[i])
        if self.film is None or self.film.is_uniform:
            return self._at_pixels(total, dose)
        return self._distorted(total, i, (float(dx_nm.mean()), float(dy_nm.mean())), dose)

    def displacements_nm(self, i: int) -> tuple[Array, Array]:
        """Return (dy, dx) by which the whole view is displaced, sample by sample of frame ``i``."""
        dy_nm, dx_nm = self.path.dy_nm[i], self.path.dx_nm[i]
        if self.film is not None:
            x, y = self.film.uniform_nm(self.ledger.fluence_by(self.path.t_s[i]))
            # the operator has centred the view on what the beam had moved until then
            x0, y0 = self.film.uniform_nm(self.ledger.before_e_per_A2)
            dy_nm, dx_nm = dy_nm + (y - y0), dx_nm + (x - x0)
        return dy_nm, dx_nm

    def noise_free(self, parts: Parts | None) -> Images:
        """Return the expected counts of frame 0 without drift, of the specimen as it was."""
        spectrum = self._spectrum(parts, START, self.lenses[0])
        electrons = self._at_pixels(spectrum, float(self.ledger.fluence_e_per_A2[0]))
        return self.detector.ideal(electrons)

    def _moved(self, dy_nm: Array, dx_nm: Array, weights: Array) -> npt.NDArray[np.complex64]:
        """Return the weighted sum of exp(-2 pi i k.d) over the displacements of a frame."""
        ky, kx = self.scattering.band.frequencies
        phase_y = (weights * np.exp(-2j * np.pi * 10.0 * ky * dy_nm)).astype(np.complex64)
        phase_x = np.exp(-2j * np.pi * 10.0 * kx.T * dx_nm).astype(np.complex64)
        # einsum, since the bits of a matrix product may depend on the number of threads
        moved: npt.NDArray[np.complex64] = np.einsum("yt,xt->yx", phase_y, phase_x)
        return moved

    def _seen(self, spectrum: Spectrum, finer: int = 1) -> Images:
        """Return an image of the cell as the camera's sensor sees it, sampled so much finer."""
        return self.scattering.band.image(spectrum * self._transfer, finer)

    @cached_property
    def _transfer(self) -> Images:
        ky, kx = self.scattering.band.frequencies
        pixel = self.cell.pixel_nm * 10.0
        return self.tem.camera.transfer(ky * pixel, kx * pixel)

    def _at_pixels(self, spectrum: Spectrum, dose_e_per_A2: float) -> Images:
        """Sample an image at the camera's pixels: expected electrons."""
        f = self.scattering.oversampling
        view = self._through_gas(self.cell.crop(self._seen(spectrum)[::f, ::f]))
        return self.tem.camera.electrons(np.ascontiguousarray(view), dose_e_per_A2)

    def _distorted(
        self, spectrum: Spectrum, i: int, moved_nm: tuple[float, float], dose_e_per_A2: float
    ) -> Images:
        """Sample an image through the displacement field of the film, in the middle of frame i."""
        assert self.film is not None
        f = FINER_TO_WARP * self.scattering.oversampling
        image = self._seen(spectrum, FINER_TO_WARP)
        (height, width), (my, mx) = self.cell.view, self.cell.margin
        step = self.cell.pixel_nm / f
        y, x = (
            np.arange(n * f, dtype=np.float64) * step - (n - 1) / 2 * self.cell.pixel_nm
            for n in (height, width)
        )
        middle = float(self.ledger.start_s[i] + self.ledger.length_s[i] / 2)
        dx, dy = self.film.warp_nm(x, y, float(self.ledger.fluence_by(middle)), moved_nm)
        view = warp(image, dy / step, dx / step, (my * f, mx * f))[::f, ::f]
        seen = np.maximum(np.ascontiguousarray(self._through_gas(view)), 0.0)  # splines overshoot
        return self.tem.camera.electrons(seen, dose_e_per_A2)

    def _through_gas(self, image: Images) -> Images:
        """Take away what the gas scatters, and add its even background."""
        tem = self.tem
        if tem.gas is None:
            return image
        unscattered = np.float32(tem.gas.unscattered(tem.energy_kev))
        background = tem.gas.background(tem.energy_kev, tem.optics.aperture_mrad)
        return np.asarray(unscattered * image + np.float32(background))

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the plan without what can be computed from it."""
        state = self.__dict__.copy()
        for name in ("_known", "_transfer", "detector"):
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
        changed = len(self.changed_scenes)
        images = n_parts + changed * settings.count
        if not self.is_static:
            images = len(set(self.lenses)) * len(self.lenses[0].tilts_mrad) * settings.count
        per_slice = points * (1.0 + 0.3 * elements) * 25e-9
        part_bytes = wave * 8 + (cell * 4 if self.is_static else 0)
        return Cost(
            memory_bytes=int(250e6 + points * 40 + cell * 60 + wave * 80),
            disk_bytes=int(
                self.n_frames * pixels * 6
                + n_parts * part_bytes
                + changed * cell * 4
                + len(self.atoms) * 56
                + pixels * 12
                + 8e6  # report, estimates, FFT wisdom
            ),
            cpu_s=(n_parts + changed * len(self.lenses[0].tilts_mrad) * settings.count)
            * slices
            * per_slice
            + images * cell * 60e-9
            + self.n_frames * cell * 150e-9,
        )

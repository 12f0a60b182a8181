"""A planned set of diffraction patterns: one pattern for each configuration, added and counted."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nanophantom.instruments import _diffraction_truth
from nanophantom.instruments._diffraction_projector import Area, Projector
from nanophantom.instruments._diffraction_setup import Setup
from nanophantom.instruments._diffraction_truth import BUDGET
from nanophantom.simcore.dose import Ledger
from nanophantom.simcore.electrons import multislice
from nanophantom.simcore.electrons.configurations import Configurations
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.multislice import Multislice, Step
from nanophantom.simcore.electrons.stem.probe import Beams, Probe
from nanophantom.simcore.electrons.tuning import Tuned
from nanophantom.simcore.fields import Array, Axis, Table
from nanophantom.simcore.history import START, Fading, History, Moment
from nanophantom.simcore.runs import Acquisition, Cost, Frame, Parts, Run, SignalSpec
from nanophantom.simcore.schedule import Angles

if TYPE_CHECKING:
    from nanophantom.instruments.diffraction import Diffraction

Floats = npt.NDArray[np.float64]
Images = npt.NDArray[np.float32]

WAVES_AT_ONCE = 16
"""Probes that share a pass over the slices."""
JUST_A = 0.3
"""Heat moves the mean depth of a plane of atoms by less."""


class DiffractionAcquisition(Acquisition):
    """Some planned patterns of one specimen."""

    def __init__(
        self,
        diffraction: Diffraction,
        run: Run,
        tuned: Tuned,
        setup: Setup,
        known: Mapping[str, Any],
        ledger: Ledger,
        history: History | None,
    ) -> None:
        self.diffraction, self.run, self.tuned, self.setup = diffraction, run, tuned, setup
        self.known, self.ledger, self.history = known, ledger, history
        self.n_frames = len(ledger)

    @property
    def thicknesses_nm(self) -> tuple[float, ...]:
        """Depths from which patterns are taken."""
        return self.diffraction.thicknesses_nm or (self.setup.thickness_nm,)

    def thickness_of(self, i: int) -> int:
        """Return which of the thicknesses frame ``i`` shows."""
        return i // self.diffraction.n_frames

    # --- what is measured, and what an operator would know ---------------------------------

    def signals(self) -> Mapping[str, SignalSpec]:
        """Return the one signal: electron counts, over nominal angles from the middle."""
        camera = self.diffraction.camera
        step = camera.pixel_size_mrad
        axes = tuple(
            Axis(name, step, "mrad", -(n - 1) / 2 * step)
            for name, n in zip("yx", camera.shape, strict=True)
        )
        return {"image": SignalSpec(camera.shape, camera.dtype, axes, "electrons", ideal="ideal")}

    def settings(self) -> Mapping[str, Any]:
        """Return the nominal settings; the thickness is not among them."""
        d = self.diffraction
        told: dict[str, Any] = {
            "instrument": "diffraction",
            "mode": d.mode,
            "energy_kev": d.energy_kev,
            "pixel_size_mrad": d.camera.pixel_size_mrad,
            "electrons_per_pattern": d.electrons_per_pattern,
            "dose_e_per_A2": d.dose_e_per_A2,
            "before_e_per_A2": d.before_e_per_A2,
            "exposure_s": d.exposure_s,
            "n_frames": self.n_frames,
            "stage_tilt_mrad": list(d.stage_tilt_mrad),
        }
        if d.has_probe:
            told |= {
                "semiangle_mrad": d.probe.semiangle_mrad,
                "defocus_nm": d.probe.defocus_nm,
                "aberrations": d.probe.aberrations.model_dump(exclude_defaults=True),
                "positions": d.positions,
            }
        else:
            told["convergence_mrad"] = d.convergence_mrad
        if d.mode != "cbed":
            told["diameter_nm"] = d.diameter_nm
        if d.mode == "precession":
            told["precession_mrad"] = d.precession.angle_mrad
        return told | dict(self.known)

    # --- the patterns of the configurations ----------------------------------------------------

    @cached_property
    def projector(self) -> Projector:
        """The way to the camera."""
        d = self.diffraction
        return Projector(
            self.setup.configurations.grid,
            d.energy_kev,
            d.camera.shape,
            d.camera.pixel_size_mrad,
            d.camera.centre_px,
        )

    @property
    def tilts_mrad(self) -> tuple[Angles, ...]:
        """Directions of the beam, whose patterns add."""
        d = self.diffraction
        return d.precession.tilts_mrad if d.mode == "precession" else ((0.0, 0.0),)

    def warm_up(self) -> None:
        """Plan the FFTs of the scattering."""
        self._engine(self.tilts_mrad[0])

    def _engine(self, tilt_mrad: Angles) -> Multislice:
        grid = self.setup.configurations.grid
        return Multislice(grid, self.diffraction.energy_kev, (), tilt_mrad)

    def parts(self) -> Mapping[str, Callable[[], Mapping[str, Array]]]:
        """Return the patterns of each direction of the beam and thermal configuration.

        Of a specimen that changes also the mean pattern of every state that it takes later.
        """
        return {
            name: functools.partial(self.scatter, tilt, c)
            for name, (tilt, c) in self.first_parts.items()
        } | {
            self.scene_name(moment): functools.partial(self.see, moment)
            for moment in self.changed_scenes
        }

    @property
    def first_parts(self) -> dict[str, tuple[Angles, int]]:
        """Direction of the beam and configuration of every part of the specimen as it was."""
        tilts = self.tilts_mrad
        return {
            (f"azimuth-{t:04d}-" if len(tilts) > 1 else "") + f"configuration-{c:04d}": (tilt, c)
            for t, tilt in enumerate(tilts)
            for c in range(self.setup.configurations.count)
        }

    def scenes(self, i: int) -> list[tuple[Moment, float]]:
        """Return the states of the specimen during frame ``i``, and what part of it they hold."""
        if self.history is None:
            return [(START, 1.0)]
        edges = self.ledger.start_s[i] + self.ledger.length_s[i] * np.array([0.0, 1.0])
        most = self.diffraction.multislice.states_per_exposure
        return [(moment, float(w[0])) for moment, w in self.history.during(edges, most)]

    @cached_property
    def changed_scenes(self) -> tuple[Moment, ...]:
        """Every state of the specimen after its first change, each once."""
        frames = range(self.n_frames if self.history is not None else 0)
        found = dict.fromkeys(moment for i in frames for moment, _ in self.scenes(i))
        return tuple(moment for moment in found if moment != START)

    def scene_name(self, moment: Moment) -> str:
        """Name the pattern of a state of the specimen."""
        return f"scene-{self.changed_scenes.index(moment):05d}"

    def see(self, moment: Moment) -> Mapping[str, Array]:
        """Return the mean ``pattern`` of a state that the specimen takes later."""
        assert self.history is not None
        changed = self.setup.configurations.changed(self.history.at(moment))
        every = self.first_parts.values()
        total = sum(self.scatter(tilt, c, changed)["pattern"] for tilt, c in every)
        return {"pattern": np.asarray(total / len(every))}

    def scatter(
        self, tilt_mrad: Angles, configuration: int, changed: Configurations | None = None
    ) -> Mapping[str, Array]:
        """Scatter all waves through one thermal configuration and add their patterns.

        Parameters
        ----------
        tilt_mrad
            Direction of the beam.
        configuration
            Which one.
        changed
            The specimen as it has become; none: as it was at the beginning.

        Returns
        -------
        Mapping
            ``pattern`` (thicknesses, height, width), the part of the electrons on each pixel;
            for each thickness the parts ``kept`` in the wave, ``lost`` at the band limit,
            ``stopped`` by the aperture and ``outside`` of the camera.
        """
        depths = len(self.thicknesses_nm)
        made: dict[str, Floats] = {"pattern": np.zeros((depths, *self.diffraction.camera.shape))}
        made |= {name: np.zeros(depths) for name in BUDGET}
        engine = self._engine(tilt_mrad)
        places, weights = self.setup.places_A, self.setup.weights
        for start in range(0, len(places), WAVES_AT_ONCE):
            some = slice(start, start + WAVES_AT_ONCE)
            waves = [self.incident(x, y) for x, y in places[some]]
            lost = np.zeros(len(waves))
            for depth, steps in enumerate(
                self._sections(configuration, changed or self.setup.configurations)
            ):
                through = engine.propagate_all(waves, steps)
                waves = [wave.wave_k for wave in through]
                lost += [wave.lost for wave in through]
                for wave, gone, weight, place in zip(
                    through, lost, weights[some], places[some], strict=True
                ):
                    pattern, stopped, outside = self._project(wave.wave_k, place, depth)
                    made["pattern"][depth] += weight * pattern
                    made["kept"][depth] += weight * wave.kept
                    made["lost"][depth] += weight * gone
                    made["stopped"][depth] += weight * stopped
                    made["outside"][depth] += weight * outside
        return made

    def incident(self, x_A: float, y_A: float) -> npt.NDArray[Any]:
        """Return the Fourier coefficients of the incident wave, its probe at a place."""
        grid, d = self.setup.configurations.grid, self.diffraction
        if not d.has_probe:
            return multislice.plane_wave(grid)
        probe = Probe(d.energy_kev, d.probe.semiangle_mrad, self.tuned.coefficients(0))
        beams = Beams.inside(grid, probe)
        return beams.wave(beams.at(beams.amplitudes(probe), x_A, y_A), grid)

    def _sections(
        self, configuration: int, configurations: Configurations
    ) -> Iterator[Iterator[Step]]:
        """Give the slices from each thickness to the next; to be used up in this order."""
        steps = configurations.steps(configuration)
        if self.diffraction.thicknesses_nm is None:
            yield steps
            return
        cut = _Cut(steps)
        for t_nm in self.thicknesses_nm:
            yield cut.until(10.0 * t_nm)

    def _project(
        self, wave_k: npt.NDArray[Any], place_A: Floats, depth: int
    ) -> tuple[Floats, float, float]:
        """Return the pattern on the camera, and what an aperture stopped and what missed it."""
        d, projector = self.diffraction, self.projector
        grid = self.setup.configurations.grid
        kept = float(np.sum(np.abs(wave_k) ** 2, dtype=np.float64))
        if d.mode == "cbed":
            intensities = projector.intensities(projector.real_space(wave_k))
        elif d.mode == "lacbed":
            intensities = self._one_disk(wave_k, place_A, depth)
        else:
            mask = Area(*self.setup.centre_A, 5.0 * d.diameter_nm).mask(
                grid.wave_shape, grid.extent_A
            )
            # electrons are counted through the selected area
            share = 1.0 / float(np.mean(mask**2))
            intensities = share * projector.intensities(projector.real_space(wave_k) * mask)
            intensities = projector.blurred(intensities, d.convergence_mrad)
        passed = float(intensities.sum())
        pattern = projector.on_camera(intensities)
        stopped = kept - passed if d.mode == "lacbed" else 0.0
        return pattern, stopped, passed - float(pattern.sum())

    def _one_disk(self, wave_k: npt.NDArray[Any], place_A: Floats, depth: int) -> Floats:
        """Return the pattern behind an aperture in the plane of the crossover.

        Seen back from the exit face, the beams of a reflection at the angle theta cross
        -(defocus + half the thickness) theta beside the probe's axis.
        """
        d, projector = self.diffraction, self.projector
        grid, lam = projector.grid, float(wavelength(self.diffraction.energy_kev))
        whole = d.thicknesses_nm is None
        through_A = self.setup.configurations.exit_A if whole else 10 * self.thicknesses_nm[depth]
        defocus_A = self.tuned.coefficients(0)["C10"]
        ky, kx = grid.wave_frequencies
        back = np.exp(1j * np.pi * lam * (defocus_A + through_A) * (kx**2 + ky**2))
        shift = [-1e-3 * angle * (defocus_A + through_A / 2) for angle in d.reflection_mrad]
        area = Area(place_A[0] + shift[0], place_A[1] + shift[1], 5.0 * d.diameter_nm)
        crossover = projector.real_space(wave_k * back)
        intensities = projector.intensities(crossover * area.mask(grid.wave_shape, grid.extent_A))
        # disks farther off come back by the cell's period; the real aperture stops them
        soft = 2e3 * lam / (10.0 * d.diameter_nm)
        disk = projector.within(d.reflection_mrad, d.probe.semiangle_mrad + soft)
        return np.where(disk, intensities, 0.0)

    # --- frames --------------------------------------------------------------------------------

    def expose(self, i: int, parts: Parts | None = None) -> Frame:
        """Make pattern ``i``: the expectation of its thickness, counted."""
        if not 0 <= i < self.n_frames:
            raise IndexError(f"frame {i} of {self.n_frames}")
        d = self.diffraction
        expected = d.camera.expected(self._pattern(i, parts), d.electrons_per_pattern)
        signal = d.camera.read(expected, self.run.rng("counts", i))
        return Frame(i, {"image": signal}, {"ideal": expected})

    def _pattern(self, i: int, parts: Parts | None) -> Floats:
        """Return the pattern of a frame, averaged over what happens meanwhile and faded."""
        total: Any = 0.0
        for moment, weight in self.scenes(i):
            if moment == START:
                total = total + weight * self.patterns(parts)[self.thickness_of(i)]
            else:
                part = self.see(moment) if parts is None else parts[self.scene_name(moment)]
                total = total + weight * part["pattern"][0]
        if self.history is not None and self.history.fading is not None:
            return self._faded(total, i, self.history.fading)
        return np.asarray(total)

    def _faded(self, pattern: Floats, i: int, fading: Fading) -> Floats:
        """Return a pattern whose spots have faded.

        What the spots lose goes, as in matter that becomes amorphous, evenly round the ring of
        their spatial frequency; so no electron is lost.
        """
        d = self.diffraction
        cx, cy = d.camera.centre_px
        y, x = np.indices(d.camera.shape)
        radius_px = np.hypot(y - cy, x - cx)
        k = radius_px * d.camera.pixel_size_mrad * 1e-3 / float(wavelength(d.energy_kev))
        direct = radius_px < 1.5 + 3.0 * d.convergence_mrad / d.camera.pixel_size_mrad
        left = np.where(direct, 1.0, fading.intensity(k, i))
        ring = np.rint(radius_px).astype(np.int64)
        pixels = np.bincount(ring.ravel())
        lost = np.bincount(ring.ravel(), ((1.0 - left) * pattern).ravel())
        return np.asarray(left * pattern + (lost / np.maximum(pixels, 1))[ring])

    def patterns(self, parts: Parts | None) -> Floats:
        """Return the mean patterns at the beginning, (thicknesses, height, width); remembered."""
        known: Floats | None = getattr(self, "_patterns", None)
        if known is None:
            known = self._patterns = self.mean("pattern", parts)
        return known

    def mean(self, name: str, parts: Parts | None) -> Floats:
        total: Any = 0.0
        for part, (tilt, c) in self.first_parts.items():
            made = self.scatter(tilt, c) if parts is None else parts[part]
            total = total + made[name]
        return np.asarray(total / len(self.first_parts), np.float64)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the plan without what can be computed from it."""
        state = self.__dict__.copy()
        for name in ("_patterns", "projector"):
            state.pop(name, None)
        return state

    # --- truth ---------------------------------------------------------------------------------

    def truth(self, parts: Parts | None = None) -> Mapping[str, Table]:
        """Return thickness, centre, reflections, noise-free patterns, dose and the budget."""
        return _diffraction_truth.tables(self, self.make_parts() if parts is None else parts)

    def truth_outline(self) -> Mapping[str, str]:
        """Return one line on every table of :meth:`truth`."""
        return _diffraction_truth.outline(self)

    def cost(self) -> Cost:
        """Estimate from the grid and the number of waves."""
        setup = self.setup.configurations
        points = setup.grid.shape[0] * setup.grid.shape[1]
        n_parts = len(self.first_parts) * (1 + len(self.changed_scenes))
        waves = len(self.setup.places_A)
        slices = max(1, setup.slice_count()[0])
        height, width = self.diffraction.camera.shape
        samples = self.projector.sampling[0][0] * self.projector.sampling[0][1]
        patterns = len(self.thicknesses_nm) * height * width
        each = slices * points * (waves + 0.3 * len(setup.numbers_present)) * 15e-9
        return Cost(
            memory_bytes=int(250e6 + points * (40 + 12 * min(waves, WAVES_AT_ONCE)) + samples * 60),
            disk_bytes=int(self.n_frames * height * width * 8 + n_parts * patterns * 8 + 8e6),
            cpu_s=n_parts * (each + waves * len(self.thicknesses_nm) * samples * 100e-9),
        )


class _Cut:
    """Slices that are given in sections, each as far as a depth.

    A plane of atoms that lies just at a depth lies behind it, whatever heat does to it.
    """

    def __init__(self, steps: Iterable[Step]) -> None:
        self._steps = iter(steps)
        self._left: Step | None = None  # of the step that the last section ended in
        self._here_A = 0.0

    def until(self, end_A: float) -> Iterator[Step]:
        """Give what acts in front of a depth, and the way to it."""
        while (step := self._left or next(self._steps, None)) is not None:
            given, distance = step
            next_A, self._left = self._here_A + distance, None
            if next_A >= end_A - JUST_A:
                self._left = (None, next_A - end_A)
                yield given, end_A - self._here_A
                self._here_A = end_A
                return
            yield given, distance
            self._here_A = next_A

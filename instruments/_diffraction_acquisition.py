"""A planned set of diffraction patterns: one pattern for each configuration, added and counted."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from nanophantom.instruments import _diffraction_truth
from nanophantom.instruments._diffraction_scattering import WAVES_AT_ONCE, Scattering
from nanophantom.instruments._diffraction_setup import Setup
from nanophantom.simcore.dose import Ledger
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.tuning import Tuned
from nanophantom.simcore.fields import Array, Axis, Table
from nanophantom.simcore.history import START, Fading, History, Moment
from nanophantom.simcore.runs import Acquisition, Cost, Frame, Parts, Run, SignalSpec
from nanophantom.simcore.schedule import Angles

if TYPE_CHECKING:
    from nanophantom.instruments.diffraction import Diffraction

Floats = npt.NDArray[np.float64]


HALO_PER_A = 0.06
"""Width (a standard deviation) of the halos of amorphous matter, about that of silica's first."""


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
        self.scattering = Scattering(diffraction, tuned, setup)
        self.n_frames = len(ledger)

    @property
    def notes(self) -> tuple[str, ...]:
        """Why the acquisition ends early."""
        return (self.ledger.stopped,) if self.ledger.stopped else ()

    @property
    def thicknesses_nm(self) -> tuple[float, ...]:
        """Depths from which patterns are taken."""
        return self.scattering.thicknesses_nm

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

    @property
    def tilts_mrad(self) -> tuple[Angles, ...]:
        """Directions of the beam, whose patterns add."""
        d = self.diffraction
        return d.precession.tilts_mrad if d.mode == "precession" else ((0.0, 0.0),)

    def warm_up(self) -> None:
        """Plan the FFTs of the scattering."""
        self.scattering.engine(self.tilts_mrad[0])

    def parts(self) -> Mapping[str, Callable[[], Mapping[str, Array]]]:
        """Return the patterns of each direction of the beam and thermal configuration.

        Of a specimen that changes also the mean pattern of every state that it takes later.
        """
        return {
            name: functools.partial(self.scattering.scatter, tilt, c)
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
        total = sum(self.scattering.scatter(tilt, c, changed)["pattern"] for tilt, c in every)
        return {"pattern": np.asarray(total / len(every))}

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

        What the spots lose goes into broad halos, as in matter that becomes amorphous: evenly
        round the ring of their spatial frequency and spread over `HALO_PER_A` to either side. So
        no electron is lost.
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
        rings = (lost / np.maximum(pixels, 1))[ring]
        width_px = HALO_PER_A * float(wavelength(d.energy_kev)) * 1e3 / d.camera.pixel_size_mrad
        return np.asarray(left * pattern + gaussian_filter(rings, width_px, mode="reflect"))

    def patterns(self, parts: Parts | None) -> Floats:
        """Return the mean patterns at the beginning, (thicknesses, height, width); remembered."""
        known: Floats | None = getattr(self, "_patterns", None)
        if known is None:
            known = self._patterns = self.mean("pattern", parts)
        return known

    def mean(self, name: str, parts: Parts | None) -> Floats:
        total: Any = 0.0
        for part, (tilt, c) in self.first_parts.items():
            made = self.scattering.scatter(tilt, c) if parts is None else parts[part]
            total = total + made[name]
        return np.asarray(total / len(self.first_parts), np.float64)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the plan without what can be computed from it."""
        state = self.__dict__.copy()
        state.pop("_patterns", None)
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
        sampling = self.scattering.projector.sampling
        samples = sampling[0][0] * sampling[0][1]
        patterns = len(self.thicknesses_nm) * height * width
        each = slices * points * (waves + 0.3 * len(setup.numbers_present)) * 15e-9
        return Cost(
            memory_bytes=int(250e6 + points * (40 + 12 * min(waves, WAVES_AT_ONCE)) + samples * 60),
            disk_bytes=int(self.n_frames * height * width * 8 + n_parts * patterns * 8 + 8e6),
            cpu_s=n_parts * (each + waves * len(self.thicknesses_nm) * samples * 100e-9),
        )

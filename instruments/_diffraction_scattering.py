"""From atoms to patterns: send the waves through the specimen and on to the camera."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nanophantom.instruments._diffraction_projector import Area, Projector
from nanophantom.instruments._diffraction_setup import Setup
from nanophantom.instruments._diffraction_truth import BUDGET
from nanophantom.simcore.electrons import multislice
from nanophantom.simcore.electrons.configurations import Configurations
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.multislice import Multislice, Step
from nanophantom.simcore.electrons.stem.probe import Beams, Probe
from nanophantom.simcore.electrons.tuning import Tuned
from nanophantom.simcore.fields import Array
from nanophantom.simcore.schedule import Angles

if TYPE_CHECKING:
    from nanophantom.instruments.diffraction import Diffraction

Floats = npt.NDArray[np.float64]

WAVES_AT_ONCE = 16
"""Probes that share a pass over the slices."""
JUST_A = 0.3
"""Heat moves the mean depth of a plane of atoms by less."""


@dataclass(frozen=True, eq=False)
class Scattering:
    """The scattering of one specimen, and the way of its waves to the camera."""

    diffraction: Diffraction
    tuned: Tuned
    setup: Setup

    @property
    def thicknesses_nm(self) -> tuple[float, ...]:
        """Depths from which patterns are taken."""
        return self.diffraction.thicknesses_nm or (self.setup.thickness_nm,)

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

    def engine(self, tilt_mrad: Angles) -> Multislice:
        """Return the engine for a direction of the beam."""
        grid = self.setup.configurations.grid
        return Multislice(grid, self.diffraction.energy_kev, (), tilt_mrad)

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
        engine = self.engine(tilt_mrad)
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

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without what can be computed from the rest."""
        state = self.__dict__.copy()
        state.pop("projector", None)
        return state


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

"""The diffraction patterns of a scan, line by line, in memory that doesn't grow with the scan.

Every position of the probe is a multislice of its own in a square window around it, wide enough
for what the probe and its rays reach, and for a coefficient of its wave to be no larger than a
pixel of the camera. Windows are cut out of tiles: pieces of specimen for which transmission
functions are made once and serve all positions inside. The samples of all tiles and windows
belong to one raster of the specimen, and an atom moves alike in each tile that holds it, so where
one tile ends and the next begins makes no difference but at their rims, which no probe reaches.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.polynomial.hermite_e import hermegauss

from nanophantom.instruments._scanning import ScanPath
from nanophantom.instruments._tiling import Tiling, first_samples
from nanophantom.simcore import parallel
from nanophantom.simcore.atoms import Atoms, Window
from nanophantom.simcore.electrons import wave_kernels
from nanophantom.simcore.electrons.cell import Cell
from nanophantom.simcore.electrons.configurations import Configurations
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.multislice import Multislice, Step
from nanophantom.simcore.electrons.potential import PotentialBuilder
from nanophantom.simcore.electrons.settings import Multislice as Settings
from nanophantom.simcore.electrons.stem.detectors import Weights
from nanophantom.simcore.electrons.stem.pixelated import Binning
from nanophantom.simcore.electrons.stem.probe import Beams, Probe
from nanophantom.simcore.electrons.stem.windows import part_of
from nanophantom.simcore.electrons.transmission import Transmission, finer
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import FieldLayer, HasAtoms, HasFields, Specimen

Floats = npt.NDArray[np.float64]

SOURCE_POINTS = 3
"""Positions along each axis that stand for the size of the source (Gauss-Hermite nodes)."""

SECONDS_A_SAMPLE = 8e-9
"""Time of one wave in one slice, per sample of its window, on a present-day core."""
SECONDS_A_FINE_SAMPLE = 1.5e-8
"""Time to make the transmission function of a slice, per sample of the potential."""


class Line(NamedTuple):
    """What one line of the scan gives, as parts of the beam.

    Attributes
    ----------
    patterns : (width, height_px, width_px) float32
    moments : (width, 3)
        Whole intensity below the band limit, and its sums with the angles x and y, mrad.
    detected : (width, channels)
        What the other detectors weigh.
    """

    patterns: npt.NDArray[np.float32]
    moments: Floats
    detected: Floats


class Wave(NamedTuple):
    """One of the waves that stand for the probe at a position: its beams, its place, its share."""

    amplitudes: npt.NDArray[np.complex128]
    shift_A: tuple[float, float]
    share: float


class Spot(NamedTuple):
    """A position of the probe.

    Attributes
    ----------
    first : (y, x)
        First sample of its window, on the raster of the specimen.
    at_A : (x, y)
        Where it lies, from there.
    found
        What is found there, to be added to.
    """

    first: tuple[int, int]
    at_A: tuple[float, float]
    found: Line


@dataclass(frozen=True, eq=False)
class Patterns:
    """All that is needed to compute the patterns of any line.

    Attributes
    ----------
    specimen
    path
        Where the probe stands on it.
    window
        Grid of the waves, a square.
    tiling
    fineness
        How many times finer than waves potentials are sampled.
    settings, energy_kev, run
        As for `Configurations`.
    configurations, slices
        How many are averaged, and about how many slices each has.
    binning
        From waves to the camera.
    weights
        Of the other detectors; none if there are none.
    foci_A, shares
        The spread of the defocus and its weights.
    source_sigma_A
        Size of the source, a standard deviation.
    budget_bytes
        Memory that slices and waves may take.
    """

    specimen: Specimen
    path: ScanPath
    window: Grid
    tiling: Tiling
    fineness: int
    settings: Settings
    energy_kev: float
    run: Run
    configurations: int
    slices: int
    binning: Binning
    weights: Weights | None
    foci_A: Floats
    shares: Floats
    source_sigma_A: float
    budget_bytes: float
    _kept: dict[tuple[int, int, int, int], list[Step]] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """Travel without the transmission functions at hand."""
        return {**self.__dict__, "_kept": {}}

    @property
    def waves_a_position(self) -> int:
        """Waves that stand for focal spread and source, in each configuration."""
        return len(self.shares) * (SOURCE_POINTS**2 if self.source_sigma_A else 1)

    def line(self, scan: int, line: int, probe: Probe) -> Line:
        """Return the patterns of one line, seen with a probe."""
        width = self.path.t_s.shape[2]
        channels = 0 if self.weights is None else len(self.weights.names)
        found = Line(
            np.zeros((width, *self.binning.shape), np.float32),
            np.zeros((width, 3)),
            np.zeros((width, channels)),
        )
        spots = self._spots(scan, line, found)
        beams = Beams.inside(self.window, probe)
        waves = list(self._waves(beams, probe))
        engine = functools.partial(Multislice, self.window, self.energy_kev)
        for start in range(0, width, self.tiling.positions):
            some = range(start, min(start + self.tiling.positions, width))
            tile = self._tile(scan, line, some)
            for configuration in range(self.configurations):
                key = scan, line // self.tiling.lines, start, configuration
                slices = self._slices(key, tile, len(some) > 1)
                send = functools.partial(self._send, beams, waves, tile, slices)
                parallel.map_threads(send, spots[some.start : some.stop], engine)
        return found

    def _spots(self, scan: int, line: int, found: Line) -> list[Spot]:
        """Return the positions of a line, each with its part of what is found."""
        step_A = self.window.sampling_A[0]
        first_y, first_x = first_samples(self.path, self.window, scan, line)
        return [
            Spot(
                (int(y), int(x)),
                (10 * x_nm - x * step_A, 10 * y_nm - y * step_A),
                Line(*(results[p] for results in found)),
            )
            for p, (y, x, y_nm, x_nm) in enumerate(
                zip(
                    first_y,
                    first_x,
                    self.path.y_nm[scan, line],
                    self.path.x_nm[scan, line],
                    strict=True,
                )
            )
        ]

    def _waves(self, beams: Beams, probe: Probe) -> Iterator[Wave]:
        """Give the waves whose patterns add up to that of the partially coherent probe."""
        nodes, shares = np.zeros(1), np.ones(1)
        if self.source_sigma_A:
            nodes, shares = hermegauss(SOURCE_POINTS)
            nodes, shares = self.source_sigma_A * nodes, shares / shares.sum()
        for focus, of_focus in zip(self.foci_A, self.shares, strict=True):
            amplitudes = beams.amplitudes(probe.defocused(float(focus)))
            for (x, of_x), (y, of_y) in itertools.product(
                zip(nodes, shares, strict=True), repeat=2
            ):
                yield Wave(amplitudes, (x, y), float(of_focus * of_x * of_y))

    # --- tiles -----------------------------------------------------------------------------------

    def _tile(self, scan: int, line: int, some: range) -> tuple[int, int]:
        """Return the first sample (y, x), on the specimen's raster, of the tile of positions."""
        top = line - line % self.tiling.lines
        first = first_samples(self.path, self.window, scan, slice(top, top + self.tiling.lines))
        corner = []
        for samples, n, n_window in zip(first, self.tiling.shape, self.window.shape, strict=True):
            here = samples[:, some.start : some.stop]
            slack = n - n_window - int(here.max() - here.min())
            corner.append(int(here.min()) - slack // 2)
        return corner[0], corner[1]

    def at_tile(self, tile: tuple[int, int]) -> Configurations:
        """Return the specimen's configurations in a tile; it may be empty."""
        step_nm = self.window.sampling_A[0] / 10
        shape = self.tiling.shape
        centre = [(f + (n - 1) / 2) * step_nm for f, n in zip(tile, shape, strict=True)]
        cell = Cell(step_nm, shape, (0, 0), shape, (centre[0], centre[1]))
        grid = finer(part_of(self.window, shape), self.fineness)
        atoms = Atoms.of([], [], [], "nothing")
        layers: tuple[FieldLayer, ...] = ()
        if isinstance(self.specimen, HasAtoms):
            atoms = self.specimen.atoms_within(cell.window)
        if isinstance(self.specimen, HasFields):
            y, x = cell.corner_nm
            ly, lx = (edge / 10 for edge in cell.extent_A)
            layers = tuple(self.specimen.fields_within(Window(x, x + lx, y, y + ly), grid.shape))
        return Configurations(
            atoms, layers, cell.corner_nm, grid, self.settings, self.energy_kev, self.run
        )

    def _steps(
        self, configurations: Configurations, configuration: int
    ) -> Callable[[], Iterator[Step]]:
        """Return what gives the transmission functions of a tile."""
        transmit = Transmission(
            part_of(self.window, self.tiling.shape), self.energy_kev, self.fineness
        )
        return functools.partial(configurations.steps, configuration, transmit)

    def _slices(
        self, key: tuple[int, int, int, int], tile: tuple[int, int], many: bool
    ) -> Callable[[], Iterable[Step]]:
        """Return what gives the slices of a tile in one configuration, each time it is called.

        The key names scan, row of tiles, first position and configuration.
        """
        if self._kept and next(iter(self._kept))[:2] != key[:2]:
            self._kept.clear()  # another row of tiles
        kept = self._kept.get(key)
        if kept is None:
            make = self._steps(self.at_tile(tile), key[-1])
            if not (many or self.tiling.keeps):
                return make
            kept = list(make())
            if self.tiling.keeps:
                self._kept[key] = kept
        return lambda: kept

    # --- waves -----------------------------------------------------------------------------------

    def _send(
        self,
        beams: Beams,
        waves: list[Wave],
        tile: tuple[int, int],
        slices: Callable[[], Iterable[Step]],
        own: Multislice,
        spot: Spot,
    ) -> None:
        """Send all waves of a position through its window, and add up their patterns."""
        rows, columns = (
            slice(first - corner, first - corner + n)
            for first, corner, n in zip(spot.first, tile, self.window.shape, strict=True)
        )
        (x, y), found = spot.at_A, spot.found
        at_once = max(1, int(self.budget_bytes / 4 / (24 * self._wave_samples)))
        for start in range(0, len(waves), at_once):
            group = waves[start : start + at_once]
            incident = [
                beams.wave(beams.at(w.amplitudes, x + w.shift_A[0], y + w.shift_A[1]), self.window)
                for w in group
            ]
            cut = ((None if t is None else t[rows, columns], dz) for t, dz in slices())
            for wave, out in zip(group, own.propagate_all(incident, cut), strict=True):
                share = wave.share / self.configurations
                self.binning.add(out.wave_k, share, found.patterns, found.moments)
                if self.weights is not None:
                    sums = np.empty(len(self.weights.names))
                    wave_kernels.weighted_intensities(
                        out.wave_k.reshape(-1), self.weights.values, self.weights.place, sums
                    )
                    found.detected[:] += share * sums

    # --- cost ------------------------------------------------------------------------------------

    @property
    def memory_bytes(self) -> float:
        """Memory for slices and waves."""
        samples = math.prod(self.tiling.shape)
        copies = self.configurations if self.tiling.keeps else 1
        held = self.slices * copies if self.tiling.keeps or self.tiling.positions > 1 else 1
        waves = min(self.budget_bytes / 4, 24.0 * self.waves_a_position * self._wave_samples)
        return samples * (8.0 * held + 30 * self.fineness**2) + waves + 50 * self._wave_samples

    @property
    def cpu_s_a_line(self) -> float:
        """Processor seconds of a line."""
        width = self.path.t_s.shape[2]
        tiles = -(-width // self.tiling.positions) / self.tiling.lines
        fine = math.prod(self.tiling.shape) * self.fineness**2
        waves = width * self.waves_a_position * math.prod(self.window.shape)
        each = tiles * fine * SECONDS_A_FINE_SAMPLE + waves * SECONDS_A_SAMPLE
        return float(self.configurations * self.slices * each)

    @property
    def _wave_samples(self) -> int:
        return self.window.shape[0] * self.window.wave_shape[1]

    def warm_up(self) -> None:
        """Plan the FFTs of windows and tiles."""
        tile = part_of(self.window, self.tiling.shape)
        Multislice(self.window, self.energy_kev)
        Transmission(tile, self.energy_kev, self.fineness)
        PotentialBuilder(finer(tile, self.fineness), [6], self.settings.scattering_factors)

"""The maps of a spectrum image: what of one probe electron ends in each signal."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from ase.data import atomic_numbers
from scipy.ndimage import gaussian_filter

from nanophantom.instruments._edges import LossEdge, XRayEdge
from nanophantom.instruments._scanning import ScanPath
from nanophantom.simcore.electrons.cell import Cell, depth_nm
from nanophantom.simcore.electrons.configurations import Configurations
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.delocalisation import delocalisation
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.optics import focal_quadrature
from nanophantom.simcore.electrons.stem.core_loss import ChannelledLoss
from nanophantom.simcore.electrons.stem.detectors import Weights
from nanophantom.simcore.electrons.stem.fourier_image import FourierImage
from nanophantom.simcore.electrons.stem.probe import Probe, lattice
from nanophantom.simcore.electrons.stem.spectroscopy import (
    IonizationMaps,
    WatchedSlices,
    escape,
    scan_losses,
    scan_watched,
)
from nanophantom.simcore.electrons.stem.whole_cell import image_of_cell, whole_cell
from nanophantom.simcore.electrons.transmission import (
    SCAN_OVERSAMPLING,
    Transmission,
    fineness_for,
    finer,
)
from nanophantom.simcore.electrons.tuning import Tuned
from nanophantom.simcore.fields import Array
from nanophantom.simcore.runs import Parts, Run
from nanophantom.simcore.specimens import HasAtoms, HasThickness, Specimen

if TYPE_CHECKING:
    from nanophantom.instruments.spectrum_imaging import SpectrumImaging

Floats = npt.NDArray[np.float64]

SECONDS_A_SLICE, SECONDS_A_POINT = 2e-4, 9e-9
"""Time of one wave in one slice with its maps, and more of it per sample of the grid."""
POSITIONS_A_PART = 256
"""Positions that make a part worth a worker's while."""


@dataclass(frozen=True, eq=False)
class SpectrumMaps:
    """All that is needed to compute the maps of a scan.

    Attributes
    ----------
    instrument
        Settings.
    grid
        Of the waves.
    configurations
        The specimen.
    thickness_nm
        Its extent along the beam.
    path
        Where the probe stands.
    probes
        One for each frame, with its actual aberrations.
    """

    instrument: SpectrumImaging
    grid: Grid
    configurations: Configurations
    thickness_nm: float
    path: ScanPath
    probes: tuple[Probe, ...]

    @classmethod
    def plan(
        cls,
        instrument: SpectrumImaging,
        specimen: Specimen,
        path: ScanPath,
        tuned: Tuned,
        run: Run,
    ) -> SpectrumMaps:
        """Choose cell and grid, and ask the specimen for its atoms.

        Raises
        ------
        ValueError
            The specimen has no atoms in view.
        """
        if not isinstance(specimen, HasAtoms):
            raise ValueError("sample: only atoms are ionized; take a specimen made of atoms")
        probes = tuple(
            Probe(instrument.energy_kev, instrument.probe.semiangle_mrad, tuned.coefficients(i))
            for i in range(instrument.scan.n_frames)
        )
        cell = Cell.around(instrument.scan, path.reach, _margin_nm(instrument, specimen, probes))
        k_max = math.sin(1e-3 * instrument.band_limit_mrad) / float(
            wavelength(instrument.energy_kev)
        )
        settings = instrument.multislice
        grid = Grid.for_wave(cell.extent_A, k_max, settings.oversampling or SCAN_OVERSAMPLING)
        fineness = fineness_for(np.unique(specimen.atoms_within(cell.window).numbers))
        configurations = Configurations.of(
            specimen,
            cell,
            finer(grid, fineness),
            settings,
            instrument.energy_kev,
            run,
            instrument.stage_tilt_mrad,
        )
        if len(configurations.atoms) == 0:
            raise ValueError("sample: no atoms in view; enlarge the view or move the sample")
        known = isinstance(specimen, HasThickness)
        thickness = specimen.exit_nm if known else configurations.depth_nm  # type: ignore[attr-defined]
        return cls(instrument, grid, configurations, float(thickness), path, probes)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the maps: of the detectors (with their moments), then of the edges."""
        return (*self._weights.names, *(edge.name for edge in self.instrument.edges))

    # --- where probes are sent ---------------------------------------------------------------

    @cached_property
    def views(self) -> tuple[int, ...]:
        """For each frame the first one that needs the same probes.

        Of the same optics, if the whole cell is scanned, else also at the same positions.
        """
        found: list[int] = []
        for i, probe in enumerate(self.probes):
            same = (
                j
                for j in sorted(set(found))
                if self.probes[j] == probe
                and (self.is_series or np.array_equal(self._positions_A(i), self._positions_A(j)))
            )
            found.append(next(same, i))
        return tuple(found)

    @cached_property
    def is_series(self) -> bool:
        """Whether few positions over the whole cell say everything, for all frames at once.

        Chosen where they are fewer than those of the scan. Both ways are exact; the series knows
        the source's blur and any position, too.
        """
        return len(self._cell_positions) <= self.path.t_s.size

    @cached_property
    def _cell_positions(self) -> Floats:
        return whole_cell(self.grid, self.probes[0])

    def _positions_A(self, view: int) -> Floats:
        if self.is_series:
            return self._cell_positions
        return self.path.positions_A(view, self.configurations.corner_nm)

    @cached_property
    def _foci(self) -> tuple[Floats, Floats]:
        """Defoci (Å) and weights that stand for the focal spread."""
        spread = self.instrument.probe.focal_spread_A(self.instrument.energy_kev)
        if not spread:
            return np.zeros(1), np.ones(1)
        nodes, weights, _ = focal_quadrature(7)
        return spread * nodes, weights

    # --- the parts ---------------------------------------------------------------------------

    def part_names(self, views: tuple[int, ...] | None = None) -> list[str]:
        """Name the parts: some positions of a view of a configuration, in their order."""
        return [
            f"configuration-{c:04d}-view-{view:04d}-position-{start:07d}"
            for c in range(self.configurations.count)
            for view in (sorted(set(self.views)) if views is None else views)
            for start in range(0, len(self._positions_A(view)), POSITIONS_A_PART)
        ]

    def make(self, name: str) -> Mapping[str, Array]:
        """Make a part: what of an electron ends in every signal, (positions, maps)."""
        c, view, start = (int(number) for number in name.split("-")[1::2])
        positions = self._positions_A(view)[start : start + POSITIONS_A_PART]
        slices = self._slices(c)
        values, kept = np.zeros((len(positions), len(self.names))), 0.0
        for focus, share in zip(*self._foci, strict=True):
            probe = self.probes[view].defocused(float(focus))
            found = scan_watched(
                probe, positions, slices, self.grid, self._weights, self._counted()
            )
            values[:, self._watched_columns] += share * found.values
            for column, edge in self._channelled:
                values[:, column] += share * self._losses(edge, probe, positions, slices)
            kept += float(share * found.kept.mean())
        return {"values": values, "kept": np.array(kept)}

    @cached_property
    def _channelled(self) -> list[tuple[int, LossEdge]]:
        """Columns of the edges whose inelastic waves are made one by one."""
        if self.instrument.core_loss == "local":
            return []
        edges = enumerate(self.instrument.edges, start=len(self._weights.names))
        return [(i, edge) for i, edge in edges if isinstance(edge, LossEdge)]

    @cached_property
    def _watched_columns(self) -> list[int]:
        """Columns of the detectors and of the edges that have a local potential."""
        return [i for i in range(len(self.names)) if i not in dict(self._channelled)]

    @property
    def _watched(self) -> list[int]:
        """Indices of the edges that have a local potential."""
        first = len(self._weights.names)
        return [i - first for i in self._watched_columns if i >= first]

    def _slices(self, configuration: int) -> WatchedSlices:
        slices = WatchedSlices.of(
            self.configurations,
            configuration,
            self._transmission(),
            self._maps(),
            int(1e9 * self.instrument.memory_gb),
        )
        if self._channelled and slices.kept is None:
            raise ValueError(
                f"instrument.core_loss: {self.instrument.core_loss} needs all slices in memory; "
                "raise memory_gb, take a smaller view, or take local"
            )
        return slices

    def _transmission(self) -> Transmission:
        fineness = self.configurations.grid.shape[0] // self.grid.shape[0]
        return Transmission(self.grid, self.instrument.energy_kev, fineness)

    def _maps(self) -> IonizationMaps:
        energy, alpha = self.instrument.energy_kev, self.instrument.probe.semiangle_mrad
        edges = [self.instrument.edges[i] for i in self._watched]
        return IonizationMaps(self.grid, [(e.number, e.density(energy, alpha)) for e in edges])

    @cached_property
    def _weights(self) -> Weights:
        ky, kx = self.grid.wave_frequencies
        detectors, energy = self.instrument.detectors, self.instrument.energy_kev
        return Weights.of(detectors, kx, ky, energy, self.grid.wave_mask, lattice(self.grid))

    def _counted(self) -> Callable[[float], Floats]:
        """Return what an ionization at a depth counts, for the edges that are watched."""
        counts = np.array([self.counts_per_ionization[i] for i in self._watched])
        ways = {}
        for place, edge in enumerate(self.instrument.edges[i] for i in self._watched):
            if isinstance(edge, XRayEdge) and edge.absorption:
                attenuation = edge.mass_attenuation_cm2_g(self.configurations.atoms.numbers)
                takeoff = math.radians(edge.takeoff_deg)
                ways[place] = escape(self.configurations, attenuation, takeoff)

        def counted(z_A: float) -> Floats:
            left = [ways[i](z_A) if i in ways else 1.0 for i in range(len(counts))]
            return np.asarray(counts * left, np.float64)

        return counted

    @cached_property
    def counts_per_ionization(self) -> tuple[float, ...]:
        """For each edge, what an ionization at the entrance face counts."""
        plural, found = self.instrument.plural_scattering, []
        for edge in self.instrument.edges:
            if isinstance(edge, XRayEdge):
                found.append(edge.photons_per_ionization)
            elif plural is None:
                found.append(1.0)
            else:
                energy = self.instrument.energy_kev
                found.append(plural.share_left(edge, energy, self.thickness_nm))
        return tuple(found)

    def _losses(
        self, edge: LossEdge, probe: Probe, positions_A: Floats, slices: WatchedSlices
    ) -> Floats:
        """Return the collected losses of an edge by exact inelastic waves."""
        energy, alpha = self.instrument.energy_kev, self.instrument.probe.semiangle_mrad
        loss = functools.partial(
            ChannelledLoss,
            self.grid,
            edge.density(energy, alpha).potential,
            edge.collection_mrad,
            self.instrument.core_loss == "double-channelled",
        )
        found = scan_losses(probe, positions_A, slices, edge.number, loss, self.grid)
        return found * self.counts_per_ionization[self.instrument.edges.index(edge)]

    def warm_up(self) -> None:
        """Plan the FFTs."""
        from nanophantom.simcore.electrons.multislice import Multislice

        Multislice(self.grid, self.instrument.energy_kev)
        transmission, maps = self._transmission(), self._maps()
        next(self.configurations.steps(0, transmission), None)
        assert maps.grid == self.grid
        for _, edge in self._channelled:
            potential = edge.density(self.instrument.energy_kev, 0.0).potential
            ChannelledLoss(self.grid, potential, edge.collection_mrad)

    # --- from parts to maps --------------------------------------------------------------------

    def frame(self, i: int, parts: Parts) -> dict[str, Floats]:
        """Return every map of frame i as parts of the beam, (height, width)."""
        mean = self._mean(self.views[i], parts)
        shape = self.path.t_s.shape[1:]
        if self.is_series:
            image = self._image(mean, self.views[i])
            values = image.at(self.path.positions_A(i, self.configurations.corner_nm))
            return {n: v.reshape(shape) for n, v in zip(self.names, values, strict=True)}
        sigma = self.instrument.probe.source_sigma_A
        blur = sigma / (10.0 * self.instrument.scan.pixel_size_nm)
        images = {n: v.reshape(shape) for n, v in zip(self.names, mean.T, strict=True)}
        if not blur:
            return images
        return {n: gaussian_filter(image, blur, mode="nearest") for n, image in images.items()}

    def at_rest(self, parts: Parts) -> dict[str, Floats] | None:
        """Return the maps of the first frame's optics without drift; None if not at hand."""
        if not self.is_series:
            return None
        still = self.path.still().positions_A(0, self.configurations.corner_nm)
        values = self._image(self._mean(0, parts), 0).at(still)
        shape = self.path.t_s.shape[1:]
        return {n: v.reshape(shape) for n, v in zip(self.names, values, strict=True)}

    def _mean(self, view: int, parts: Parts) -> Floats:
        """Return the values at a view's positions, the mean over configurations."""
        made = [parts[name]["values"] for name in self.part_names((view,))]
        whole = np.concatenate(made).reshape(self.configurations.count, -1, len(self.names))
        return np.asarray(whole.mean(axis=0))

    def _image(self, mean: Floats, view: int) -> FourierImage:
        image = image_of_cell(mean, self.names, self.grid, self.probes[view])
        return image.blurred(self.instrument.probe.source_sigma_A)

    def kept(self, parts: Parts) -> Floats:
        """Return the part of the beam that stayed below the band limit, part by part."""
        return np.array([float(parts[name]["kept"]) for name in self.part_names()])

    # --- cost ------------------------------------------------------------------------------------

    @property
    def n_probes(self) -> int:
        """Probes that are sent through each configuration."""
        views = sorted(set(self.views))
        return len(self._foci[0]) * sum(len(self._positions_A(view)) for view in views)

    @property
    def cpu_s(self) -> float:
        """Processor seconds for all parts."""
        slices, _ = self.configurations.slice_count()
        passes = slices
        for _, edge in self._channelled:
            atoms = int(np.count_nonzero(self.configurations.atoms.numbers == edge.number))
            behind = slices // 2 if self.instrument.core_loss == "double-channelled" else 0
            passes += 2 * slices + 3 * atoms * (2 + behind)
        slice_s = SECONDS_A_SLICE + SECONDS_A_POINT * math.prod(self.grid.shape)
        return slice_s * passes * self.n_probes * self.configurations.count

    @property
    def notes(self) -> tuple[str, ...]:
        """How the scattering is computed."""
        where = "over the whole cell, which is exact anywhere in it" if self.is_series else (
            "at the positions of the scan"
        )  # fmt: skip
        loss = {
            "local": "local potentials; on a column some 5 to 10 % low for 40 mrad, 1 % for 100",
            "channelled": "single channelling, counted right behind each atom",
            "double-channelled": "double channelling, exact single inelastic scattering",
        }[self.instrument.core_loss]
        notes = [f"scattering: multislice of {self.n_probes} probes {where}"]
        if any(isinstance(edge, LossEdge) for edge in self.instrument.edges):
            notes.append(f"core losses: {loss}")
        there = set(self.configurations.numbers_present)
        notes += [
            f"edges.{edge.name}: there is no {edge.element} in view; its map holds nothing"
            for edge in self.instrument.edges
            if atomic_numbers[edge.element] not in there
        ]
        return tuple(notes)


def _margin_nm(instrument: SpectrumImaging, specimen: HasAtoms, probes: tuple[Probe, ...]) -> float:
    """Return how much specimen around the scan the probe feels.

    Its aberrations spread it, and its rays spread on their way through the specimen.
    """
    if instrument.multislice.margin_nm is not None:
        return instrument.multislice.margin_nm
    semiangle, scan = instrument.probe.semiangle_mrad, instrument.scan
    aberrated = max(
        delocalisation(p.coefficients, instrument.energy_kev, semiangle) for p in probes
    )
    view = Cell(scan.pixel_size_nm, scan.shape, (0, 0), scan.shape).window
    thickness = depth_nm(specimen.atoms_within(view.grown(0.5)))
    return 0.4 + aberrated / 10.0 + 1e-3 * semiangle * thickness

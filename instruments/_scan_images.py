"""The images of a scan, whatever way their scattering is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from nanophantom.instruments._column import Tuned
from nanophantom.instruments._scan_method import choose_method
from nanophantom.instruments._scan_setup import check_history, focal_spread, margin_nm, scan_engine
from nanophantom.instruments._scanning import ScanPath
from nanophantom.simcore.atoms import Atoms
from nanophantom.simcore.dose import Ledger
from nanophantom.simcore.electrons.cell import Cell
from nanophantom.simcore.electrons.stem.engine import ScanEngine
from nanophantom.simcore.electrons.stem.fourier_image import FourierImage
from nanophantom.simcore.electrons.stem.methods import Method
from nanophantom.simcore.electrons.stem.probe import Probe
from nanophantom.simcore.fields import Array, Table
from nanophantom.simcore.history import START, Evolves, History, Moment, Stretch
from nanophantom.simcore.runs import Parts, Run
from nanophantom.simcore.specimens import Specimen

if TYPE_CHECKING:
    from nanophantom.instruments.stem import STEM

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ScanImages:
    """All that is needed to compute the images of a scan.

    Attributes
    ----------
    engine
        Probe, detectors and specimen.
    atoms
        At rest, in specimen coordinates.
    corner_nm
        Specimen coordinates (y, x) of the first sample of the engine's grid.
    path
        Where the probe stands.
    probes
        One for each frame, with its actual aberrations.
    foci_A, shares
        The spread of the defocus and its weights.
    source_sigma_A
        Size of the source, a standard deviation.
    step_nm
        Of the raster.
    method
        How the scattering is computed.
    notes
        Sentences about that.
    configurations_of_frame
        How many of the thermal configurations each frame averages; none averages all.
    history
        What becomes of a specimen that changes; None of one that doesn't.
    """

    engine: ScanEngine
    atoms: Atoms
    corner_nm: tuple[float, float]
    path: ScanPath
    probes: tuple[Probe, ...]
    foci_A: Floats
    shares: Floats
    source_sigma_A: float
    step_nm: float
    method: Method
    notes: tuple[str, ...]
    configurations_of_frame: tuple[int, ...] | None = None
    history: History | None = None
    states_per_scan: int = 1

    @classmethod
    def plan(
        cls,
        stem: STEM,
        specimen: Specimen,
        path: ScanPath,
        tuned: Tuned,
        run: Run,
        ledger: Ledger,
    ) -> ScanImages:
        """Choose cell, grid and method."""
        foci, shares = focal_spread(stem.probe, stem.energy_kev)
        probes = tuple(
            Probe(stem.energy_kev, stem.probe.semiangle_mrad, tuned.coefficients(i))
            for i in range(len(ledger))
        )
        cell = Cell.around(stem.scan, path.reach, margin_nm(stem, specimen, probes))
        engine = scan_engine(stem, specimen, cell, probes[0], run)
        method, notes = choose_method(
            stem, specimen, engine, probes, path, cell.corner_nm, len(foci)
        )
        if stem.configurations_of_frame is not None and not method.gives_series:
            raise ValueError(
                "instrument.configurations_of_frame needs images that are Fourier series; set "
                "calculation.method: scattering-matrix"
            )
        history = None
        if isinstance(specimen, Evolves):
            if specimen.film_motion(1.0, 1.0, run) is not None:
                raise ValueError(
                    "sample.film: the motion of a film is that under the broad beam of a tem; "
                    "leave it away here"
                )
            history = specimen.history(
                engine.configurations.atoms, engine.configurations.beyond_nm, ledger, run
            )
            check_history(stem, history)
        return cls(
            engine=engine,
            atoms=engine.configurations.atoms,
            corner_nm=cell.corner_nm,
            path=path,
            probes=probes,
            foci_A=foci,
            shares=shares,
            source_sigma_A=stem.probe.source_sigma_A,
            step_nm=stem.scan.pixel_size_nm,
            method=method,
            notes=notes,
            configurations_of_frame=stem.configurations_of_frame,
            history=history,
            states_per_scan=stem.multislice.states_per_exposure,
        )

    # --- a specimen that changes: states, and the dwells that see them --------------------------

    def scenes(self, i: int) -> list[Stretch]:
        """Return the states of the specimen during scan i."""
        if self.history is None:
            return [Stretch(START, -math.inf, math.inf)]
        ledger = self.history.ledger
        begin, end = float(ledger.start_s[i]), float(ledger.end_s[i])
        return self.history.stretches(begin, end, self.states_per_scan)

    @cached_property
    def changed_scenes(self) -> tuple[Moment, ...]:
        """Every state after the first change, each once."""
        frames = range(len(self.probes) if self.history is not None else 0)
        found = dict.fromkeys(scene.moment for i in frames for scene in self.scenes(i))
        return tuple(moment for moment in found if moment != START)

    def engine_at(self, moment: Moment) -> ScanEngine:
        """Return the engine for the specimen as it is in a state."""
        if moment == START or self.history is None:
            return self.engine
        changed = self.engine.configurations.changed(self.history.at(moment))
        return replace(self.engine, configurations=changed)

    # --- the parts -----------------------------------------------------------------------------

    @property
    def is_series(self) -> bool:
        """Whether images are Fourier series, known at every position."""
        return self.method.gives_series

    def part_names(self) -> list[str]:
        """Name the parts: one a configuration, or one for some lines of a frame of it."""
        configurations = range(self.engine.configurations.count)
        if self.is_series:
            return [name for moment in (START, *self.changed_scenes) for name in
                    self._series_names(moment)]  # fmt: skip
        return [
            f"configuration-{c:04d}-frame-{i:04d}-line-{line:05d}"
            for c in configurations
            for i in range(len(self.probes))
            for line in range(0, self.path.t_s.shape[1], self._lines_a_part)
        ]

    def _series_names(self, moment: Moment) -> list[str]:
        """Name the Fourier series of all configurations of a state."""
        names = [f"configuration-{c:04d}" for c in range(self.engine.configurations.count)]
        if moment == START:
            return names
        scene = self.changed_scenes.index(moment)
        return [f"scene-{scene:05d}-{name}" for name in names]

    @property
    def _lines_a_part(self) -> int:
        """Lines that make some hundred positions, so that a part is worth a worker's while."""
        return max(1, self.method.positions_a_part // int(self.path.t_s.shape[2]))

    def make(self, name: str) -> Mapping[str, Array]:
        """Make a part."""
        numbers = [int(number) for number in name.split("-")[1::2]]
        if not self.is_series:
            return self._lines(*numbers)
        moment = self.changed_scenes[numbers[0]] if name.startswith("scene") else START
        return self._series(numbers[-1], moment)

    def _series(self, configuration: int, moment: Moment) -> Mapping[str, Array]:
        """Return the Fourier series of every signal, one for each distinct state of the optics."""
        gram = self.method.gram(self.engine_at(moment), configuration)
        images = [gram.defocus_average(self.foci_A, self.shares, probe) for probe in self._states]
        return {
            "coefficients": np.array([image.coefficients for image in images], np.complex64),
            "extent_A": np.array(images[0].extent_A),
            "shear_A": np.array(images[0].shear_A),
            "kept": np.array(gram.mean_kept()),
        }

    def _lines(self, configuration: int, frame: int, line: int) -> Mapping[str, Array]:
        """Return what some lines of a frame give, position by position."""
        width = self.path.t_s.shape[2]
        lines = slice(line * width, (line + self._lines_a_part) * width)
        positions = self.path.positions_A(frame, self.corner_nm)[lines]
        times = self.path.t_s[frame].ravel()[lines]
        values = np.zeros((len(positions), len(self.engine.weights.names)))
        kept = 0.0
        for moment, begin, end in self.scenes(frame):
            seen = (times >= begin) & (times < end)
            if not seen.any():
                continue
            scan = self.method.scanner(self.engine_at(moment), configuration)
            for focus, share in zip(self.foci_A, self.shares, strict=True):
                found = scan(self.probes[frame].defocused(float(focus)), positions[seen])
                values[seen] += share * found.values
                kept += float(share * found.kept.sum())
        return {"values": values, "kept": np.array(kept / len(positions))}

    @property
    def _states(self) -> list[Probe]:
        """The probes that differ, in the order of the first frame they occur in."""
        different: list[Probe] = []
        for probe in self.probes:
            if probe not in different:
                different.append(probe)
        return different

    def warm_up(self) -> None:
        """Plan the FFTs."""
        self.method.warm_up(self.engine)

    # --- from parts to images ------------------------------------------------------------------

    def frame(self, i: int, parts: Parts) -> dict[str, Floats]:
        """Return every signal (and moment) of frame i as parts of the beam, (height, width)."""
        shape = self.path.t_s.shape[1:]
        names = self.engine.weights.names
        if self.is_series:
            corner = self.corner_nm if self.method.in_cell else (0.0, 0.0)
            places, times = self.path.positions_A(i, corner), self.path.t_s[i].ravel()
            values = np.empty((len(names), len(places)))
            for moment, begin, end in self.scenes(i):
                averaged = self._series_names(moment)
                if self.configurations_of_frame is not None:
                    averaged = averaged[: self.configurations_of_frame[i]]
                seen = (times >= begin) & (times < end)
                optics = self._states.index(self.probes[i])
                image = self._mean_series(optics, parts, averaged)
                values[:, seen] = image.blurred(self.source_sigma_A).at(places[seen])
            return {name: v.reshape(shape) for name, v in zip(names, values, strict=True)}
        wanted = [name for name in self.part_names() if f"-frame-{i:04d}-" in name]
        total: Any = 0.0
        for c in range(self.engine.configurations.count):
            mine = [parts[n]["values"] for n in wanted if n.startswith(f"configuration-{c:04d}")]
            total = total + np.concatenate(mine)
        mean = total.T / self.engine.configurations.count
        blur = self.source_sigma_A / (10.0 * self.step_nm)
        return {
            name: gaussian_filter(v.reshape(shape), blur, mode="nearest") if blur else
            v.reshape(shape)
            for name, v in zip(names, mean, strict=True)
        }  # fmt: skip

    def at_rest(self, parts: Parts) -> dict[str, Floats] | None:
        """Return the signals of the first frame's optics without drift; None if not at hand."""
        return self._still(parts, self._series_names(START)) if self.is_series else None

    def held_back(self, parts: Parts) -> dict[str, Floats] | None:
        """Return every signal at rest of each configuration that no frame averages.

        Shape (configurations, height, width); None if there aren't two of them.
        """
        if self.configurations_of_frame is None:
            return None
        unseen = self.part_names()[max(self.configurations_of_frame) :]
        if len(unseen) < 2:
            return None
        each = [self._still(parts, [name]) for name in unseen]
        return {name: np.stack([images[name] for images in each]) for name in each[0]}

    def _still(self, parts: Parts, averaged: Sequence[str]) -> dict[str, Floats]:
        image = self._mean_series(0, parts, averaged).blurred(self.source_sigma_A)
        still = self.path.still()
        corner = self.corner_nm if self.method.in_cell else (0.0, 0.0)
        values = image.at(still.positions_A(0, corner))
        shape = self.path.t_s.shape[1:]
        names = self.engine.weights.names
        return {name: v.reshape(shape) for name, v in zip(names, values, strict=True)}

    def _mean_series(self, state: int, parts: Parts, averaged: Sequence[str]) -> FourierImage:
        made = [parts[name] for name in averaged]
        mean = np.mean([part["coefficients"][state] for part in made], axis=0, dtype=complex)
        ly, lx = (float(edge) for edge in made[0]["extent_A"])
        return FourierImage(mean, self.engine.weights.names, (ly, lx), float(made[0]["shear_A"]))

    def intensity(self, parts: Parts) -> Table:
        """Return the part of the beam that stayed below the band limit, part by part."""
        kept = np.array([float(parts[name]["kept"]) for name in self.part_names()])
        return {
            "part": np.array(self.part_names(), dtype="S"),
            "kept": kept,
            "lost_at_band_limit": 1.0 - kept,
        }

    # --- cost ------------------------------------------------------------------------------------

    @property
    def memory_bytes(self) -> float:
        """Peak of one worker."""
        return self.method.memory_bytes

    @property
    def disk_bytes(self) -> float:
        """Parts on disk."""
        signals = len(self.engine.weights.names)
        if self.is_series:
            return len(self.part_names()) * len(self._states) * signals * 8 * 2e4
        return self.engine.configurations.count * self.path.t_s.size * signals * 8

    @property
    def cpu_s(self) -> float:
        """Processor seconds for all parts."""
        return self.method.cpu_s * (1 + len(self.changed_scenes))

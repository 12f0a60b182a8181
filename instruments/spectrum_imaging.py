"""A scanning TEM that maps elements: X-ray lines, core losses and a dark field in one pass.

The probe is scanned over the specimen while it drifts, and its wave is followed through the
thermal configurations; inner shells are ionized where the wave is, so that signals follow its
channelling (see `simcore.electrons.stem.spectroscopy` and `core_loss`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from nanophantom.instruments._column import Tuned
from nanophantom.instruments._edges import (
    BARN_PER_A2,
    Edge,
    LossBackground,
    LossEdge,
    PluralScattering,
    XRayEdge,
)
from nanophantom.instruments._probe_column import ProbeColumn
from nanophantom.instruments._scanning import Scan, ScanPath
from nanophantom.instruments._spectrum_maps import SpectrumMaps
from nanophantom.instruments._spectrum_truth import areal_density, columns_with_composition
from nanophantom.simcore.electrons.settings import Multislice
from nanophantom.simcore.electrons.stem.detectors import AnnularDetector, Detector
from nanophantom.simcore.fields import Array, Axis, Table
from nanophantom.simcore.runs import Acquisition, Cost, Frame, Parts, Run, SignalSpec
from nanophantom.simcore.specimens import Specimen


class SpectrumImaging(ProbeColumn):
    """Scanning TEM that counts X-rays (EDS) and core losses (EELS) at every probe position."""

    kind: Literal["spectrum-imaging"] = "spectrum-imaging"
    beam_current_pa: float = Field(default=100.0, gt=0)
    """Current in the probe."""
    edges: tuple[Edge, ...] = (
        XRayEdge(name="sr-l", element="Sr", shell="L"),
        XRayEdge(name="ti-k", element="Ti"),
        LossEdge(name="ti-loss", element="Ti", shell="L", window_ev=40.0),
        LossEdge(name="o-loss", element="O"),
    )
    """What is mapped: X-ray lines (mode: eds) and core losses (mode: eels)."""
    detectors: tuple[Detector, ...] = (
        AnnularDetector(name="adf", inner_mrad=60.0, outer_mrad=160.0),
    )
    """Detectors that are read at the same time, without an energy filter."""
    core_loss: Literal["local", "channelled", "double-channelled"] = "local"
    """How core losses reach the collector: a local potential (cheap: hardly more than the dark
    field alone), inelastic waves counted right behind each atom (two transforms for each of three
    waves an atom), or those propagated to the exit face (exact, but as many multislice passes as
    there are atoms, times three)."""
    plural_scattering: PluralScattering | None = None
    """Further losses that move core losses out of their window; none leaves them there."""
    scan: Scan = Scan(width_px=64, height_px=64, pixel_size_nm=0.02, dwell_us=1000.0)
    """Raster and timing."""
    memory_gb: float = Field(default=1.5, ge=0.01, le=10_000)
    """Memory that slices, maps and waves may take, gigabytes."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for field in ("edges", "detectors"):
            if not getattr(self, field):
                raise ValueError(f"{field}: there is none; give at least one")
        for edge in self.edges:
            try:
                edge.check(self.energy_kev)
            except ValueError as problem:
                raise ValueError(f"edges.{edge.name}: {problem}") from None
        return self

    @classmethod
    def small(cls) -> Self:
        """Return two scans of five by five positions, cheap enough for tests."""
        return cls(
            scan=Scan(width_px=5, height_px=5, pixel_size_nm=0.2, dwell_us=1e4, n_frames=2),
            edges=(
                XRayEdge(name="o-k", element="O"),
                LossEdge(name="o-loss", element="O", background=LossBackground()),
            ),
            detectors=(AnnularDetector(name="adf", inner_mrad=30.0, outer_mrad=50.0),),
            multislice=Multislice(thermal_configurations=2, margin_nm=0.2),
        )

    @property
    def signal_names(self) -> tuple[str, ...]:
        """Names of all signals."""
        before = [
            f"{edge.name}-{which}"
            for edge in self.edges
            if isinstance(edge, LossEdge) and edge.background is not None
            for which in ("far", "near")
        ]
        seen = [name for detector in self.detectors for name in detector.channels]
        return (*seen, *(edge.name for edge in self.edges), *before)

    @property
    def reach_mrad(self) -> float:
        """Largest angle that has to be computed: images hold twice that of the probe."""
        angles = [2 * self.probe.semiangle_mrad, *(d.reach_mrad for d in self.detectors)]
        if self.core_loss != "local":
            losses = [e for e in self.edges if isinstance(e, LossEdge)]
            angles += [e.collection_mrad + self.probe.semiangle_mrad for e in losses]
        return max(angles)

    def plan(self, specimen: Specimen, run: Run) -> SpectrumImage:
        """Draw drift and tuning, choose the grid, and ask the specimen for its atoms.

        Raises
        ------
        ValueError
            The specimen has no atoms in view.
        """
        self.whole_ledger(specimen)  # refuses what it can't follow
        path = ScanPath.of(self.scan, self.drift, run.rng)
        tuned = self.tuned(self.probe.coefficients(), path.frame_means()["t_s"], run)
        maps = SpectrumMaps.plan(self, specimen, path, tuned, run)
        return SpectrumImage(self, run, path, tuned, maps)


class SpectrumImage(Acquisition):
    """Some planned scans of one specimen."""

    def __init__(
        self,
        instrument: SpectrumImaging,
        run: Run,
        path: ScanPath,
        tuned: Tuned,
        maps: SpectrumMaps,
    ) -> None:
        self.instrument, self.run, self.path = instrument, run, path
        self.tuned, self.maps = tuned, maps
        self.n_frames = instrument.scan.n_frames

    @property
    def notes(self) -> tuple[str, ...]:
        """How the scattering is computed."""
        return self.maps.notes

    def signals(self) -> Mapping[str, SignalSpec]:
        """Return one map a signal: counts of electrons, or of photons for X-rays."""
        step = self.instrument.scan.pixel_size_nm
        axes = (Axis("y", step, "nm"), Axis("x", step, "nm"))
        units = {e.name: "photons" for e in self.instrument.edges if isinstance(e, XRayEdge)}
        for detector in self.instrument.detectors:
            moments = set(detector.channels) - set(detector.counted)
            units |= dict.fromkeys(moments, "electrons mrad")
        return {
            name: SignalSpec(
                self.instrument.scan.shape,
                self._dtype(name),
                axes,
                units.get(name, "electrons"),
                ideal=f"ideal_{name}",
            )
            for name in self.instrument.signal_names
        }

    def _dtype(self, name: str) -> str:
        sums = [c for d in self.instrument.detectors for c in d.channels if c not in d.counted]
        return "uint32" if self.instrument.shot_noise and name not in sums else "float32"

    def settings(self) -> Mapping[str, Any]:
        """Return the nominal settings."""
        own = self.instrument
        return {
            "instrument": own.kind,
            "energy_kev": own.energy_kev,
            "semiangle_mrad": own.probe.semiangle_mrad,
            "defocus_nm": own.probe.defocus_nm,
            "pixel_size_nm": own.scan.pixel_size_nm,
            "dwell_us": own.scan.dwell_us,
            "beam_electrons": own.electrons,
            "dose_e_per_A2": own.electrons / (10.0 * own.scan.pixel_size_nm) ** 2,
            "n_frames": own.scan.n_frames,
            "edges": {edge.name: _nominal(edge) for edge in own.edges},
            "detectors": {d.name: d.model_dump(mode="json") for d in own.detectors},
            "contrast": "bright",
        }

    # --- the work that frames share ----------------------------------------------------------

    def parts(self) -> Mapping[str, Callable[[], Mapping[str, Array]]]:
        """Return what some positions of a thermal configuration give."""
        return {name: functools.partial(self.maps.make, name) for name in self.maps.part_names()}

    def warm_up(self) -> None:
        """Plan the FFTs of the scattering."""
        self.maps.warm_up()

    # --- frames ------------------------------------------------------------------------------

    def expose(self, i: int, parts: Parts | None = None) -> Frame:
        """Make scan ``i``: the expectation at the true positions, then counts."""
        if not 0 <= i < self.n_frames:
            raise IndexError(f"frame {i} of {self.n_frames}")
        made = self.make_parts() if parts is None else parts
        expected = self._expected(self.maps.frame(i, made))
        names = self.instrument.signal_names
        counted = self._counted(expected, i) if self.instrument.shot_noise else expected
        signals = {name: counted[name].astype(self._dtype(name)) for name in names}
        truth = {f"ideal_{name}": expected[name].astype(np.float32) for name in names}
        return Frame(i, signals, truth)

    def _counted(self, expected: Mapping[str, Array], i: int) -> dict[str, Array]:
        """Count every signal; each edge has a stream of its own."""
        counted: dict[str, Array] = {}
        rng = self.run.rng("counts", i)
        for detector in self.instrument.detectors:
            counted |= detector.count(expected, rng)
        for name in self.instrument.signal_names:
            if name not in counted:
                counted[name] = self.run.rng(f"counts of {name}", i).poisson(expected[name])
        return counted

    def _expected(self, fractions: Mapping[str, Array]) -> dict[str, Array]:
        """Return the expected counts of all signals (and moments), backgrounds included.

        A map of ionization is a band-limited series, which may swing below zero beside an atom by
        a small part of its height; counts don't.
        """
        expected = {name: self.instrument.electrons * v for name, v in fractions.items()}
        for edge in self.instrument.edges:
            expected[edge.name] = np.maximum(expected[edge.name], 0.0)
        for edge in self.instrument.edges:
            if isinstance(edge, LossEdge) and edge.background is not None:
                level = edge.background.ratio * float(expected[edge.name].mean())
                far, near = edge.background.windows(edge.atomic_shell.onset_ev, edge.window_ev)
                flat = np.ones(self.instrument.scan.shape)
                expected[edge.name] = expected[edge.name] + level
                expected[f"{edge.name}-far"] = flat * (level * far)
                expected[f"{edge.name}-near"] = flat * (level * near)
        return expected

    # --- truth -------------------------------------------------------------------------------

    def truth(self, parts: Parts | None = None) -> Mapping[str, Table]:
        """Return atoms, columns, areal densities, cross sections, positions, optics, dose."""
        made = self.make_parts() if parts is None else parts
        own = self.instrument
        x, y = own.scan.raster_nm()
        atoms = self.maps.configurations.atoms
        atoms = atoms.moved(atoms.positions_nm - np.array([x[0], y[0], 0.0]))
        kept = self.maps.kept(made)
        fractions = self.maps.frame(0, made)
        truth: dict[str, Table] = {
            "atoms": atoms.table(),
            "groups": {"name": np.array(atoms.group_names, dtype="S")},
            "columns": columns_with_composition(atoms),
            "areal_density": areal_density(atoms, own.scan),
            "edges": self._edge_table(),
            "core_signal": {
                e.name: np.maximum(own.electrons * fractions[e.name], 0.0).astype(np.float32)
                for e in own.edges
            },
            "drift": self.path.frame_means(),
            "probe_positions": self.path.table(),
            "optics": self.tuned.frames(),
            "aberrations": self.tuned.table(),
            "dose": own.ledger().table(),
            "intensity": {
                "part": np.array(self.maps.part_names(), dtype="S"),
                "kept": kept,
                "lost_at_band_limit": 1.0 - kept,
            },
        }
        still = self.maps.at_rest(made)
        if still is not None:
            expected = self._expected(still)
            names = own.signal_names
            truth["noise_free"] = {n: expected[n].astype(np.float32) for n in names}
        return truth

    def _edge_table(self) -> Table:
        """Return what each edge's atoms and detector do: cross sections, counts, background."""
        own, atoms = self.instrument, self.maps.configurations.atoms
        energy, alpha = own.energy_kev, own.probe.semiangle_mrad
        sigma = [float(e.density(energy, alpha).radial(0.0)) * BARN_PER_A2 for e in own.edges]
        background = [e.background if isinstance(e, LossEdge) else None for e in own.edges]
        return {
            "name": np.array([e.name for e in own.edges], dtype="S"),
            "number": np.array([e.number for e in own.edges]),
            "sigma_barn": np.array(sigma),
            "counts_per_ionization": np.array(self.maps.counts_per_ionization),
            "atoms": np.array([np.count_nonzero(atoms.numbers == e.number) for e in own.edges]),
            "background_ratio": np.array([b.ratio if b else 0.0 for b in background]),
            "background_exponent": np.array([b.exponent if b else 0.0 for b in background]),
        }

    def truth_outline(self) -> Mapping[str, str]:
        """Return one line on every table of :meth:`truth`."""
        outline = {
            "atoms": "element, resting position and B factor of every atom simulated",
            "groups": "names of the specimen's parts",
            "columns": "position, composition and spread of every atomic column",
            "areal_density": "atoms at rest for each area, element by element, in every pixel",
            "edges": "cross section of an atom, counts of an ionization, background of each edge",
            "core_signal": "expected counts of the first frame without any background",
            "drift": "mean displacement of the specimen in every frame",
            "probe_positions": "when and where on the specimen the probe stood, each dwell",
            "optics": "actual defocus and low-order aberrations in every frame",
            "aberrations": "nominal and actual aberrations",
            "dose": "the ledger: time, area, fluence, rate and energy of every scan",
            "intensity": "part of the beam that stayed below the band limit",
        }
        if self.maps.is_series:
            outline["noise_free"] = "expected counts at zero drift, every signal"
        return outline

    def cost(self) -> Cost:
        """Estimate from the number of probes, slices and samples."""
        pixels = math.prod(self.instrument.scan.shape) * self.n_frames
        values = self.maps.n_probes * self.maps.configurations.count * len(self.maps.names)
        return Cost(
            memory_bytes=int(400e6 + 1e9 * self.instrument.memory_gb + values * 8),
            disk_bytes=int(
                pixels * (40 + 8 * len(self.instrument.signal_names))
                + len(self.maps.configurations.atoms) * 56
                + values * 8
                + 8e6
            ),
            cpu_s=self.maps.cpu_s,
        )


def _nominal(edge: XRayEdge | LossEdge) -> dict[str, Any]:
    """Return what an operator knows of an edge: all but the background."""
    known = edge.model_dump(mode="json", exclude={"background", "absorption"})
    if isinstance(edge, XRayEdge):
        return known | {"line": edge.x_ray.name, "line_ev": edge.x_ray.energy_ev}
    onset = edge.atomic_shell.onset_ev
    known |= {"onset_ev": onset}
    if edge.background is not None:
        known |= {"pre_edge_window_ev": edge.background.window_ev}
    return known

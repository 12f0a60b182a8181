"""A planned 4D-STEM scan: its lines as frames, and its truth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nanophantom.instruments._column import Tuned
from nanophantom.instruments._patterns import Line, Patterns
from nanophantom.instruments._scanning import ScanPath
from nanophantom.instruments._survey import Survey
from nanophantom.simcore.atoms import Window
from nanophantom.simcore.columns import find_truth_columns
from nanophantom.simcore.electrons.stem.probe import Probe
from nanophantom.simcore.fields import Array, Axis, Table
from nanophantom.simcore.runs import Acquisition, Cost, Frame, Parts, Run, SignalSpec
from nanophantom.simcore.specimens import HasAtoms

if TYPE_CHECKING:
    from nanophantom.instruments.four_d_stem import FourDSTEM

LARGEST_ATOM_TABLE = 2_000_000
"""Atoms that the truth lists; beyond, a table would take more memory than the patterns."""


class FourDSTEMAcquisition(Acquisition):
    """A planned scan of one specimen; frames are its lines, scan after scan."""

    def __init__(
        self,
        stem: FourDSTEM,
        run: Run,
        path: ScanPath,
        tuned: Tuned,
        patterns: Patterns,
        survey: Survey,
        view: Window,
    ) -> None:
        self.stem, self.run, self.path, self.tuned = stem, run, path, tuned
        self.patterns, self.survey, self.view = patterns, survey, view
        self.n_frames = stem.scan.n_frames * stem.scan.height_px

    @property
    def notes(self) -> tuple[str, ...]:
        """How the scattering is computed, and what the truth leaves out."""
        p = self.patterns
        notes = [
            "scattering: multislice of every position in a window of "
            f"{p.window.extent_A[0] / 10:.3g} nm ({p.window.shape[0]} samples), "
            f"{p.waves_a_position} waves in each of {p.configurations} configurations; "
            f"tiles of {p.tiling.positions} positions and {p.tiling.lines} lines"
        ]
        if not self.lists_atoms:
            notes.append(
                f"truth: {self.survey.n_atoms} atoms in view are too many to list; the recipe's "
                "sample makes them again"
            )
        return tuple(notes)

    @property
    def lists_atoms(self) -> bool:
        """Whether the truth lists the atoms in view and their columns."""
        return self.survey.n_atoms <= LARGEST_ATOM_TABLE

    def signals(self) -> Mapping[str, SignalSpec]:
        """Return the patterns of a line and, for other detectors, a number a position."""
        stem, camera = self.stem, self.stem.camera
        along = Axis("x", stem.scan.pixel_size_nm, "nm")
        angles = [
            Axis(name, camera.pixel_size_mrad, "mrad", -camera.pixel_size_mrad * centre)
            for name, centre in zip(("ky", "kx"), camera.centre_px, strict=True)
        ]
        specs = {
            "patterns": SignalSpec(
                (stem.scan.width_px, *camera.shape),
                "uint16" if stem.shot_noise else "float32",
                (along, *angles),
                "electrons",
                ideal="ideal_patterns",
            )
        }
        for detector in stem.detectors:
            for name in detector.channels:
                counted = stem.shot_noise and name in detector.counted
                specs[name] = SignalSpec(
                    (stem.scan.width_px,),
                    "uint32" if counted else "float32",
                    (along,),
                    "electrons" if name in detector.counted else "electrons mrad",
                    ideal=f"ideal_{name}",
                )
        return specs

    def settings(self) -> Mapping[str, Any]:
        """Return the nominal settings."""
        stem, scan, camera = self.stem, self.stem.scan, self.stem.camera
        return {
            "instrument": "four-d-stem",
            "energy_kev": stem.energy_kev,
            "semiangle_mrad": stem.probe.semiangle_mrad,
            "defocus_nm": stem.probe.defocus_nm,
            "pixel_size_nm": scan.pixel_size_nm,
            "scan_lines": scan.height_px,
            "scan_positions": scan.width_px,
            "n_scans": scan.n_frames,
            "mrad_per_px": camera.pixel_size_mrad,
            "centre_px": list(camera.centre_px),
            "dwell_us": scan.dwell_us,
            "beam_electrons": stem.electrons,
            "efficiency": camera.efficiency,
            "dose_e_per_A2": stem.electrons / (10.0 * scan.pixel_size_nm) ** 2,
            "detectors": {d.name: d.model_dump(mode="json") for d in stem.detectors},
        }

    def warm_up(self) -> None:
        """Plan the FFTs of windows and tiles."""
        self.patterns.warm_up()

    # --- frames ------------------------------------------------------------------------------

    def _line(self, i: int) -> Line:
        if not 0 <= i < self.n_frames:
            raise IndexError(f"frame {i} of {self.n_frames}")
        probe = Probe(
            self.stem.energy_kev, self.stem.probe.semiangle_mrad, self.tuned.coefficients(i)
        )
        scan, line = divmod(i, self.stem.scan.height_px)
        return self.patterns.line(scan, line, probe)

    def ideal(self, i: int) -> npt.NDArray[np.float32]:
        """Return the expected counts of the patterns of line ``i``, computed here and now."""
        return self._expected(self._line(i))

    def _expected(self, line: Line) -> npt.NDArray[np.float32]:
        return line.patterns * np.float32(self.stem.electrons * self.stem.camera.efficiency)

    def expose(self, i: int, parts: Parts | None = None) -> Frame:
        """Make line ``i``: the expectation at the true positions, then counts."""
        stem, line = self.stem, self._line(i)
        expected = self._expected(line)
        whole = line.moments[:, 0]
        truth: dict[str, Array] = {
            "ideal_patterns": expected,
            "com_x_mrad": line.moments[:, 1] / whole,
            "com_y_mrad": line.moments[:, 2] / whole,
            "kept_below_band_limit": whole,
            "camera_electrons": expected.sum(axis=(1, 2), dtype=np.float64),
        }
        signals: dict[str, Array] = {"patterns": expected}
        if stem.shot_noise:
            signals["patterns"] = stem.camera.read(expected, self.run.rng("counts", i))
        rng = self.run.rng("detector counts", i)
        names = () if self.patterns.weights is None else self.patterns.weights.names
        seen = dict(zip(names, stem.electrons * line.detected.T, strict=True))
        for detector in stem.detectors:
            counts = detector.count(seen, rng) if stem.shot_noise else seen
            for name in detector.channels:
                counted = stem.shot_noise and name in detector.counted
                signals[name] = counts[name].astype(np.uint32 if counted else np.float32)
                truth[f"ideal_{name}"] = seen[name].astype(np.float32)
        return Frame(i, signals, truth)

    # --- truth -------------------------------------------------------------------------------

    def truth(self, parts: Parts | None = None) -> Mapping[str, Table]:
        """Return atoms, columns, probe positions, optics and dose.

        Positions count from the first position of the raster, as pixels of an image do.
        """
        x, y = self.stem.scan.raster_nm()
        frames, path = np.arange(self.n_frames), self.path
        truth: dict[str, Table] = {
            "drift": {
                "frame": frames,
                "t_s": path.t_s.mean(axis=2).ravel(),
                "dx_nm": path.drift_x_nm.mean(axis=2).ravel(),
                "dy_nm": path.drift_y_nm.mean(axis=2).ravel(),
            },
            "probe_positions": {
                **path.table(),
                "x_nm": path.x_nm - x[0],
                "y_nm": path.y_nm - y[0],
            },
            "optics": self.tuned.frames(),
            "aberrations": self.tuned.table(),
            "dose": self.stem.ledger().table(),
        }
        specimen = self.patterns.specimen
        if self.lists_atoms and isinstance(specimen, HasAtoms):
            atoms = specimen.atoms_within(self.view)
            atoms = atoms.moved(atoms.positions_nm - np.array([x[0], y[0], 0.0]))
            truth["atoms"] = atoms.table()
            truth["groups"] = {"name": np.array(atoms.group_names, dtype="S")}
            truth["columns"] = find_truth_columns(atoms)
        return truth

    def truth_outline(self) -> Mapping[str, str]:
        """Return one line on every table of :meth:`truth`."""
        outline = {
            "drift": "mean displacement of the specimen in every line (frame)",
            "probe_positions": "when and where on the specimen the probe stood, each dwell",
            "optics": "actual defocus and low-order aberrations in every line (frame)",
            "aberrations": "nominal and actual aberrations",
            "dose": "the ledger: time, area, fluence, rate and energy of every scan",
        }
        if self.lists_atoms and isinstance(self.patterns.specimen, HasAtoms):
            outline["atoms"] = "element, resting position and B factor of every atom in view"
            outline["groups"] = "names of the specimen's parts"
            outline["columns"] = "position, composition and spread of every atomic column"
        return outline

    def cost(self) -> Cost:
        """Estimate from windows, tiles and the camera."""
        p, line_bytes = self.patterns, self.stem.scan.width_px * math.prod(self.stem.camera.shape)
        return Cost(
            memory_bytes=int(400e6 + p.memory_bytes + 20 * line_bytes + 3 * 64e6),
            disk_bytes=int(
                self.n_frames * (2 * line_bytes + self.stem.scan.width_px * 100)
                + min(1e9, 4.0 * self.n_frames * line_bytes)
                + (80 * self.survey.n_atoms if self.lists_atoms else 0)
                + 8e6
            ),
            cpu_s=self.n_frames * p.cpu_s_a_line,
        )

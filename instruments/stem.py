"""A scanning transmission electron microscope: any set of detectors in one pass.

A focused probe is scanned over the specimen while it drifts; what is scattered to each detector is
averaged over the thermal configurations, the focal spread and the source, and counted. Exact
images come as short Fourier series from Gram matrices (see `simcore.electrons.stem.gram`), whose
values at the true probe positions cost next to nothing; where they don't pay, every position is a
multislice of its own.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import PositiveInt, model_validator

from nanophantom.instruments._column import Tuned
from nanophantom.instruments._probe_column import ProbeColumn
from nanophantom.instruments._scan_images import ScanImages
from nanophantom.instruments._scanning import Calculation, Scan, ScanPath
from nanophantom.simcore.columns import find_truth_columns
from nanophantom.simcore.dose import Ledger
from nanophantom.simcore.electrons.settings import Multislice
from nanophantom.simcore.electrons.stem.detectors import AnnularDetector, Detector
from nanophantom.simcore.environment import Drift
from nanophantom.simcore.fields import Array, Axis, Table
from nanophantom.simcore.runs import Acquisition, Cost, Frame, Parts, Run, SignalSpec
from nanophantom.simcore.specimens import Specimen

Images = npt.NDArray[np.float32]


class STEM(ProbeColumn):
    """Scanning TEM with annular, segmented and first-moment detectors."""

    kind: Literal["stem"] = "stem"
    detectors: tuple[Detector, ...] = (
        AnnularDetector(name="bf", outer_mrad=10.0),
        AnnularDetector(name="abf", inner_mrad=10.0, outer_mrad=20.0),
        AnnularDetector(name="haadf", inner_mrad=60.0, outer_mrad=180.0),
    )
    """What is recorded, all in one pass. Each detector counts as if it were alone: two that
    overlap are not in each other's shadow."""
    configurations_of_frame: tuple[PositiveInt, ...] | None = None
    """Thermal configurations that each frame averages, the first so many of them: a study of
    convergence. Those beyond the largest number make an independent reference, kept as truth.
    None averages all of them in every frame."""
    calculation: Calculation = Calculation()
    """How the scattering is computed, and how exactly."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.configurations_of_frame is not None:
            self._study_is_possible(self.configurations_of_frame)
        return self

    def _study_is_possible(self, averaged: tuple[int, ...]) -> None:
        """Refuse numbers of configurations that frames can't have."""
        if len(averaged) != self.scan.n_frames:
            raise ValueError(
                f"configurations_of_frame has {len(averaged)} numbers; scan.n_frames "
                f"({self.scan.n_frames}) asks for one a frame"
            )
        there = self.multislice.thermal_configurations
        if max(averaged) > there or not self.multislice.thermal_motion:
            raise ValueError(
                f"configurations_of_frame asks for {max(averaged)} thermal configurations; "
                f"multislice has {there if self.multislice.thermal_motion else 'none'}"
            )

    @classmethod
    def small(cls) -> Self:
        """Return two scans of eight by six positions, cheap enough for tests."""
        return cls(
            scan=Scan(width_px=8, height_px=6, pixel_size_nm=0.05, n_frames=2),
            detectors=(
                AnnularDetector(name="bf", outer_mrad=10.0),
                AnnularDetector(name="adf", inner_mrad=30.0, outer_mrad=60.0),
            ),
            drift=Drift(speed_nm_per_s=0.5),
            multislice=Multislice(thermal_configurations=2, margin_nm=0.2),
        )

    @property
    def signal_names(self) -> tuple[str, ...]:
        """Names of all signals."""
        return tuple(name for detector in self.detectors for name in detector.channels)

    @property
    def reach_mrad(self) -> float:
        """Largest angle of aperture and detectors."""
        return max(self.probe.semiangle_mrad, *(d.reach_mrad for d in self.detectors), 0.0)

    def plan(self, specimen: Specimen, run: Run) -> STEMAcquisition:
        """Draw drift and tuning, choose grid and method, and ask the specimen for its atoms.

        Raises
        ------
        ValueError
            The specimen has nothing in view, or the chosen method can't do it.
        """
        ledger = self.ledger()
        scan = self.scan.model_copy(update={"n_frames": len(ledger)})
        path = ScanPath.of(scan, self.drift, run.rng)
        tuned = self.tuned(self.probe.coefficients(), path.frame_means()["t_s"], run)
        images = ScanImages.plan(self, specimen, path, tuned, run, ledger)
        return STEMAcquisition(self, run, path, tuned, images, specimen.known, ledger)


class STEMAcquisition(Acquisition):
    """Some planned scans of one specimen."""

    def __init__(
        self,
        stem: STEM,
        run: Run,
        path: ScanPath,
        tuned: Tuned,
        images: ScanImages,
        known: Mapping[str, Any],
        ledger: Ledger,
    ) -> None:
        self.known, self.ledger = known, ledger
        self.stem, self.run, self.path, self.tuned, self.images = stem, run, path, tuned, images
        self.n_frames = len(ledger)

    @property
    def notes(self) -> tuple[str, ...]:
        """How the scattering is computed and with what error; why the acquisition ends early."""
        stopped = (self.ledger.stopped,) if self.ledger.stopped else ()
        return self.images.notes + stopped

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the signals."""
        return tuple(name for d in self.stem.detectors for name in d.channels)

    def signals(self) -> Mapping[str, SignalSpec]:
        """Return one image a channel: electrons (for first moments electrons times mrad)."""
        step = self.stem.scan.pixel_size_nm
        axes = (Axis("y", step, "nm"), Axis("x", step, "nm"))
        specs = {}
        for detector in self.stem.detectors:
            for name in detector.channels:
                counted = self.stem.shot_noise and name in detector.counted
                specs[name] = SignalSpec(
                    self.stem.scan.shape,
                    "uint32" if counted else "float32",
                    axes,
                    "electrons" if name in detector.counted else "electrons mrad",
                    ideal=f"ideal_{name}",
                )
        return specs

    def settings(self) -> Mapping[str, Any]:
        """Return the nominal settings."""
        stem = self.stem
        told: dict[str, Any] = {
            "instrument": "stem",
            "energy_kev": stem.energy_kev,
            "semiangle_mrad": stem.probe.semiangle_mrad,
            "defocus_nm": stem.probe.defocus_nm,
            "pixel_size_nm": stem.scan.pixel_size_nm,
            "dwell_us": stem.scan.dwell_us,
            "beam_electrons": stem.electrons,
            "dose_e_per_A2": stem.electrons / (10.0 * stem.scan.pixel_size_nm) ** 2,
            "before_e_per_A2": stem.before_e_per_A2,
            "n_frames": self.n_frames,
            "detectors": {d.name: d.model_dump(mode="json") for d in stem.detectors},
            "contrast": "bright",
            **self.known,
        }
        if stem.configurations_of_frame is not None:
            told["configurations_of_frame"] = list(stem.configurations_of_frame)
        return told

    # --- the work that frames share ----------------------------------------------------------

    def parts(self) -> Mapping[str, Callable[[], Mapping[str, Array]]]:
        """Return what each thermal configuration gives: Fourier series, or rows of a scan."""
        return {
            name: functools.partial(self.images.make, name) for name in self.images.part_names()
        }

    def warm_up(self) -> None:
        """Plan the FFTs of the scattering."""
        self.images.warm_up()

    # --- frames ------------------------------------------------------------------------------

    def expose(self, i: int, parts: Parts | None = None) -> Frame:
        """Make scan ``i``: the expectation at the true positions, then counts."""
        if not 0 <= i < self.n_frames:
            raise IndexError(f"frame {i} of {self.n_frames}")
        made = self.make_parts() if parts is None else parts
        fractions = self.images.frame(i, made)
        signals, truth = {}, {}
        rng = self.run.rng("counts", i)
        for detector in self.stem.detectors:
            inner = {name: fractions[name] for name in (*detector.channels, *detector.moments)}
            expected = {k: self.stem.electrons * v for k, v in inner.items()}
            counts = detector.count(expected, rng) if self.stem.shot_noise else expected
            for name in detector.channels:
                counted = self.stem.shot_noise and name in detector.counted
                signals[name] = counts[name].astype(np.uint32 if counted else np.float32)
                truth[f"ideal_{name}"] = expected[name].astype(np.float32)
        return Frame(i, signals, truth)

    # --- truth -------------------------------------------------------------------------------

    def truth(self, parts: Parts | None = None) -> Mapping[str, Table]:
        """Return atoms, columns, probe positions, optics, dose and the intensity budget."""
        made = self.make_parts() if parts is None else parts
        stem = self.stem
        x, y = stem.scan.raster_nm()
        atoms = self.images.atoms
        atoms = atoms.moved(atoms.positions_nm - np.array([x[0], y[0], 0.0]))
        truth: dict[str, Table] = {
            "atoms": atoms.table(),
            "groups": {"name": np.array(atoms.group_names, dtype="S")},
            "columns": find_truth_columns(atoms),
            "drift": self.path.frame_means(),
            "probe_positions": self.path.table(),
            "optics": self.tuned.frames(),
            "aberrations": self.tuned.table(),
            "dose": self.ledger.table(),
            "intensity": self.images.intensity(made),
        }
        if self.images.history is not None:
            truth |= self.images.history.tables(np.array([x[0], y[0], 0.0]))
        still = self.images.at_rest(made)
        if still is not None:
            truth["noise_free"] = {
                name: (stem.electrons * still[name]).astype(np.float32) for name in self.channels
            }
        unseen = self.images.held_back(made)
        if unseen is not None:
            of_each = {name: stem.electrons * unseen[name] for name in self.channels}
            truth["converged"] = {k: v.mean(axis=0).astype(np.float32) for k, v in of_each.items()}
            truth["scatter"] = {
                k: v.std(axis=0, ddof=1).astype(np.float32) for k, v in of_each.items()
            }
            count = len(next(iter(of_each.values())))
            truth["converged_over"] = {"n_configurations": np.array([count])}
        return truth

    def truth_outline(self) -> Mapping[str, str]:
        """Return one line on every table of :meth:`truth`."""
        outline = {
            "atoms": "element, resting position and B factor of every atom simulated",
            "groups": "names of the specimen's parts",
            "columns": "position, composition and spread of every atomic column",
            "drift": "mean displacement of the specimen in every frame",
            "probe_positions": "when and where on the specimen the probe stood, each dwell",
            "optics": "actual defocus and low-order aberrations in every frame",
            "aberrations": "nominal and actual aberrations",
            "dose": "the ledger: time, area, fluence, rate and energy of every scan",
            "intensity": "part of the beam that stayed below the band limit",
        }
        if self.images.history is not None:
            outline |= self.images.history.outline()
        if self.images.is_series:
            outline["noise_free"] = "expected electrons at zero drift, every signal"
        averaged = self.stem.configurations_of_frame
        held_back = self.stem.multislice.thermal_configurations - max(averaged or (0,))
        if averaged is not None and held_back > 1:
            outline["converged"] = "the same, over the thermal configurations that no frame shows"
            outline["scatter"] = "standard deviation of a single one of those, pixel by pixel"
            outline["converged_over"] = "how many those are"
        return outline

    def cost(self) -> Cost:
        """Estimate from the chosen method."""
        pixels = math.prod(self.stem.scan.shape) * self.n_frames
        return Cost(
            memory_bytes=int(400e6 + self.images.memory_bytes + pixels * 60),
            disk_bytes=int(
                pixels * (40 + 8 * len(self.channels))
                + len(self.images.atoms) * 56
                + self.images.disk_bytes
                + 8e6
            ),
            cpu_s=self.images.cpu_s + pixels * len(self.channels) * 2e-6,
        )

"""A scanned probe by plain multislice: every position on its own, exact for any specimen."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nanophantom.simcore import parallel
from nanophantom.simcore.arrays import backend
from nanophantom.simcore.electrons import batch, wave_kernels
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.multislice import ExitWave, Multislice, Step
from nanophantom.simcore.electrons.stem.detectors import Weights
from nanophantom.simcore.electrons.stem.probe import Beams, Probe

Floats = npt.NDArray[np.float64]
Device = Literal["cpu", "gpu"]
Steps = Callable[[], Iterable[Step]]
"""Gives the slices from the first to the last, each time it is called."""


@dataclass(frozen=True, eq=False)
class Signals:
    """What detectors saw of a probe at some positions.

    Attributes
    ----------
    values : (positions, channels)
        Weighted parts of the incident intensity.
    kept, lost : (positions,)
        Intensity that reached the exit face below the band limit, and that was cut.
    """

    values: Floats
    kept: Floats
    lost: Floats


@dataclass(frozen=True, eq=False)
class Slices:
    """A specimen ready for many waves: its transmission functions, or how to make them again.

    Attributes
    ----------
    steps
        Gives transmission functions and distances, from the first slice to the last.
    kept : list of steps, or None
        All of them in memory.
    waves_at_once : int
        How many waves share a pass over the slices where these are made anew each time.
    """

    steps: Steps
    kept: list[Step] | None
    waves_at_once: int

    @classmethod
    def within(cls, steps: Steps, bytes_needed: int, budget_bytes: int, grid: Grid) -> Slices:
        """Keep the slices if they take no more than half the budget, else plan passes.

        Parameters
        ----------
        steps
            Gives the slices.
        bytes_needed
            Memory for all of them.
        budget_bytes
            Memory that slices and waves may take.
        grid
            Of the waves.
        """
        wave_bytes = 8 * grid.shape[0] * grid.wave_shape[1] + 24 * int(np.prod(grid.wave_shape))
        if bytes_needed <= budget_bytes // 2:
            return cls(steps, list(steps()), 1)
        return cls(steps, None, max(1, budget_bytes // 2 // wave_bytes))


def exit_waves(
    waves_k: Sequence[npt.NDArray[Any]] | Callable[[int], npt.NDArray[Any]],
    count: int,
    slices: Slices,
    grid: Grid,
    energy_kev: float,
    read: Callable[[int, ExitWave], Any],
    tilt_mrad: tuple[float, float] = (0.0, 0.0),
    threads: int | None = None,
    dtype: npt.DTypeLike = "complex64",
    device: Device = "cpu",
) -> list[Any]:
    """Send many waves through slices and read something off each exit wave.

    Parameters
    ----------
    waves_k
        Incident waves, or a function that makes the i-th one.
    count
        How many there are.
    slices, grid, energy_kev, tilt_mrad, dtype
        As for `Multislice`.
    read
        Called with index and exit wave; the results are returned in order, the waves forgotten.
    threads
        Waves under way at the same time; the result doesn't depend on it.
    device : {"cpu", "gpu"}
        Where to calculate. On a GPU (CuPy) waves go through the slices in batches.
    """
    if device == "gpu":
        given = slices.steps if slices.kept is None else slices.kept
        return batch.exit_waves(
            waves_k, count, given, grid, energy_kev, read, tilt_mrad, backend("cupy"), dtype
        )
    make = waves_k if callable(waves_k) else waves_k.__getitem__
    engine = functools.partial(Multislice, grid, energy_kev, (), tilt_mrad, dtype=dtype)
    kept = slices.kept
    if kept is not None:

        def send(own: Multislice, i: int) -> Any:
            return read(i, own.propagate(make(i), kept))

        return parallel.map_threads(send, range(count), engine, threads)

    def send_some(own: Multislice, some: range) -> list[Any]:
        through = own.propagate_all([make(i) for i in some], slices.steps())
        return [read(i, wave) for i, wave in zip(some, through, strict=True)]

    threads = min(threads or parallel.threads_here(), slices.waves_at_once)
    size = max(1, min(slices.waves_at_once // threads, -(-count // threads)))
    groups = [range(i, min(i + size, count)) for i in range(0, count, size)]
    found = parallel.map_threads(send_some, groups, engine, threads)
    return [result for group in found for result in group]


def scan(
    probe: Probe,
    positions_A: npt.ArrayLike,
    slices: Slices,
    grid: Grid,
    weights: Weights,
    tilt_mrad: tuple[float, float] = (0.0, 0.0),
    threads: int | None = None,
    dtype: npt.DTypeLike = "complex64",
    device: Device = "cpu",
) -> Signals:
    """Scan a probe and weigh what arrives on detectors.

    Parameters
    ----------
    probe : Probe
    positions_A : (n, 2)
        Where it stands, (x, y).
    slices : Slices
    grid : Grid
    weights : Weights
        On the grid's `wave_frequencies`.
    tilt_mrad, threads, dtype, device
        As for `exit_waves`.
    """
    positions = np.asarray(positions_A, np.float64).reshape(-1, 2)
    beams = Beams.inside(grid, probe)
    amplitudes = beams.amplitudes(probe)

    def make(i: int) -> npt.NDArray[Any]:
        return beams.wave(beams.at(amplitudes, *positions[i]), grid)

    def read(i: int, out: ExitWave) -> tuple[Floats, float, float]:
        sums = np.empty(len(weights.names))
        wave_kernels.weighted_intensities(
            out.wave_k.reshape(-1), weights.values, weights.place, sums
        )
        return sums, out.kept, out.lost

    found = exit_waves(
        make,
        len(positions),
        slices,
        grid,
        probe.energy_kev,
        read,
        tilt_mrad,
        threads,
        dtype,
        device,
    )
    values, kept, lost = zip(*found, strict=True)
    return Signals(np.array(values), np.array(kept), np.array(lost))

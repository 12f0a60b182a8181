"""What a scan costs by each method: seconds and bytes, counted, not timed.

The unit of time is a transform: a slice is two one-dimensional transforms forward and back of each
row and column, `SLICE_S` N log2 N on N samples, and `CALL_S`. These and the other rates were
measured once, on one core of a server processor of 2023 (AMD EPYC with AVX-512: 1.25 ms at
512 x 512, 6.1 ms at 1024 x 1024; Gram matrices of 1153 beams of 92 000 coefficients in 14 s). They
are constants: on another machine all seconds are wrong by about the same factor, and the choice
stays the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.stem.interpolated import matrix_shape
from nanophantom.simcore.electrons.stem.s_matrix import matrix_bytes
from nanophantom.simcore.electrons.stem.stated_error import CONTROLS
from nanophantom.simcore.electrons.stem.windows import window_grid

SLICE_S = 2.7e-10
"""Seconds a slice takes a wave, per N log2 N."""
CALL_S = 6e-5
"""Seconds it takes beside that, however small the grid: windows below 150 samples feel it."""
MAKE_S = 8e-10
"""Seconds to make a transmission function, per N log2 N of the grid of its potential."""
FLOP_S = 1 / 3.5e10
"""Seconds of a floating-point operation in a product of matrices."""
SUM_S = 1 / 4e9
"""Seconds of one where every number comes from memory."""

MethodName = Literal["multislice", "matrix", "unit-cell", "prism", "parents", "window"]
EXACT: tuple[MethodName, ...] = ("multislice", "unit-cell", "matrix")


@dataclass(frozen=True)
class Choice:
    """A method to simulate a scan, and its parameter.

    Attributes
    ----------
    name : str
        multislice: every position on its own. matrix: scattering matrix and Gram matrices.
        unit-cell: the same for static periodic specimens, on one unit cell. prism, parents,
        window: approximations.
    value : float
        Of an approximation: interpolation factor along both axes, rings of parent beams, edge of
        the window in Å. 0 for exact methods.

    Raises
    ------
    ValueError
        An approximation has no value, or an exact method has one.
    """

    name: MethodName
    value: float = 0.0

    def __post_init__(self) -> None:
        if self.exact != (self.value == 0) or self.value < 0:
            needs = "takes no parameter" if self.exact else "needs a positive parameter"
            raise ValueError(f"method {self.name} {needs}, not {self.value:g}")
        if self.name in ("prism", "parents") and self.value != int(self.value):
            raise ValueError(f"method {self.name} needs a whole number, not {self.value:g}")

    @property
    def exact(self) -> bool:
        """True for methods without an error of their own."""
        return self.name in EXACT

    def __str__(self) -> str:
        return {
            "multislice": "multislice",
            "matrix": "scattering matrix",
            "unit-cell": "scattering matrix of the unit cell",
            "prism": f"PRISM with interpolation factor {self.value:g}",
            "parents": f"scattering matrix from {self.value:g} rings of parent beams",
            "window": f"multislice in windows of {self.value:g} Å",
        }[self.name]


@dataclass(frozen=True)
class Scan:
    """The size of a scan simulation: all that its cost depends on.

    Attributes
    ----------
    grid : Grid
        Of the waves.
    positions : int
        Number of probe positions.
    beams : int
        Number of the cell's beams inside the aperture.
    slices, distinct_slices : int
        Slices that a wave passes, and how many of them differ.
    channels : int
        Number of signals.
    places : int
        Coefficients that a detector looks at, summed over the signals.
    budget_bytes : int
        Memory that may be used.
    configurations : int
        Frozen-phonon configurations to average over.
    probes : int
        Images to make of each: foci of a spread of defocus, say.
    fineness : int
        How much finer potentials are sampled than waves, see `transmission`.
    unit_cells : (my, mx), optional
        Of a static periodic specimen: unit cells along y and x.
    threads : int
        Processors that share the work.
    """

    grid: Grid
    positions: int
    beams: int
    slices: int
    distinct_slices: int
    channels: int
    places: int
    budget_bytes: int
    configurations: int = 1
    probes: int = 1
    fineness: int = 3
    unit_cells: tuple[int, int] | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("positions", "beams", "slices", "channels", "configurations", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it is at least 1")
        if self.unit_cells is not None and self.configurations > 1:
            raise ValueError(
                f"unit_cells is {self.unit_cells} with {self.configurations} configurations; "
                "a specimen whose atoms move is not periodic"
            )


@dataclass(frozen=True)
class Cost:
    """Cost of a method.

    Attributes
    ----------
    seconds : float
        Time on all threads, for all configurations.
    bytes : int
        Memory at the largest moment.
    trial_seconds : float
        Time of an approximation on one configuration and a few positions, to see its error.
    """

    seconds: float
    bytes: int
    trial_seconds: float = 0.0


def cost(scan: Scan, method: Choice) -> Cost:
    """Return what a scan costs by a method.

    Raises
    ------
    ValueError
        `unit-cell` for a specimen that is not periodic.
    """
    if method.name == "multislice":
        return _waves(scan, scan.positions * scan.probes, scan.grid)
    if method.name == "window":
        return _waves(scan, scan.positions * scan.probes, window_grid(scan.grid, method.value))
    if method.name == "prism":
        return _prism(scan, int(method.value))
    if method.name == "unit-cell":
        return _unit_cell(scan)
    rings = int(method.value)
    waves = min(scan.beams, 1 + 3 * rings * (rings + 1)) if rings else scan.beams
    return _gram(scan, waves)


def slice_seconds(samples: float) -> float:
    """Return the time that a slice takes a wave of so many samples, on one thread."""
    return CALL_S + SLICE_S * samples * math.log2(max(samples, 2.0))


def interpolated_beams(beams: int, factor: int) -> int:
    """Return about how many of a disk of beams are left with an interpolation factor.

    1 / f^2 of them, and half a coarse period more all around: every beam of the window that stands
    for any part of the aperture. (Of 1153: 320, 149 and 88 for f = 2, 3, 4; counted 325, 145, 97.)
    """
    if factor == 1:
        return beams
    return min(beams, math.ceil(math.pi * (math.sqrt(beams / math.pi) / factor + 0.5) ** 2))


def _samples(grid: Grid) -> float:
    return float(np.prod(grid.shape))


def _kept_bytes(scan: Scan) -> int:
    """Memory of all transmission functions."""
    return int(8 * scan.distinct_slices * _samples(scan.grid))


def _passes(scan: Scan, waves: int, wave_bytes: int, taken_bytes: int) -> tuple[int, int]:
    """Return how often all slices are made for so many waves, and the memory they take.

    The rule of `Slices.within`: slices stay in half of the memory or are made for each group of
    waves that fits there.
    """
    room = max(scan.budget_bytes - taken_bytes, 0) // 2
    if _kept_bytes(scan) <= room:
        return 0, _kept_bytes(scan) + scan.threads * wave_bytes
    at_once = max(1, room // wave_bytes)
    return -(-waves // at_once), min(waves, at_once) * wave_bytes + int(16 * _samples(scan.grid))


def _sent(scan: Scan, waves: int, grid: Grid, taken_bytes: int = 0) -> tuple[float, int]:
    """Return thread-seconds of sending waves through one configuration, and the memory."""
    wave_bytes = 8 * grid.shape[0] * grid.wave_shape[1] + 24 * int(np.prod(grid.wave_shape))
    passes, used = _passes(scan, waves, wave_bytes, taken_bytes)
    fine = _samples(scan.grid) * scan.fineness**2
    made = scan.distinct_slices if passes == 0 else passes * scan.slices
    making = made * MAKE_S * fine * math.log2(fine)
    return waves * scan.slices * slice_seconds(_samples(grid)) + making, used


def _waves(scan: Scan, waves: int, grid: Grid) -> Cost:
    seconds, used = _sent(scan, waves, grid)
    trial = min(1.0, CONTROLS / waves) * seconds / scan.threads
    return Cost(scan.configurations * seconds / scan.threads, used, trial)


def _gram(scan: Scan, waves: int) -> Cost:
    taken = matrix_bytes(scan.beams, scan.places) + 16 * scan.channels * scan.beams**2
    seconds, used = _sent(scan, waves, scan.grid, taken)
    if waves < scan.beams:  # real weights for complex waves
        seconds += 4 * FLOP_S * scan.beams * waves * scan.places
    seconds += 4 * FLOP_S * scan.beams**2 * scan.places
    trial = seconds / scan.threads
    pairs = 8 * SUM_S * scan.channels * scan.beams**2 * scan.probes
    series = 16 * scan.beams  # coefficients of an image: twice the aperture each way, and corners
    image = 8 * SUM_S * scan.channels * series * scan.positions * scan.probes
    total = scan.configurations * ((seconds + pairs) / scan.threads) + image / scan.threads
    return Cost(total, used + taken, trial)


def _unit_cell(scan: Scan) -> Cost:
    """Beams that differ by reciprocal lattice vectors live on the unit cell, and interfere."""
    if scan.unit_cells is None:
        raise ValueError("unit-cell: the specimen is not static and periodic")
    groups = math.prod(scan.unit_cells)
    samples = _samples(scan.grid) / groups
    waves = scan.beams * scan.slices * slice_seconds(samples)
    gram = 4 * FLOP_S * scan.beams**2 * scan.places / groups**2
    image = 8 * SUM_S * scan.channels * 16 * scan.beams / groups * scan.positions * scan.probes
    fine = samples * scan.fineness**2
    making = scan.distinct_slices * MAKE_S * fine * math.log2(fine)
    used = 8 * scan.beams * scan.places // groups + 16 * scan.channels * scan.beams**2 // groups
    used += int(8 * scan.distinct_slices * samples)
    return Cost((waves + gram + image + making) / scan.threads, used)


def _prism(scan: Scan, factor: int) -> Cost:
    beams = interpolated_beams(scan.beams, factor)
    shape = matrix_shape(scan.grid, (factor, factor))
    samples = float(np.prod(shape))
    taken = int(8 * beams * samples)
    seconds, used = _sent(scan, beams, scan.grid, taken)
    each = 8 * SUM_S * beams * samples / factor**2 + slice_seconds(samples / factor**2)
    total = seconds + each * scan.positions * scan.probes
    trial = seconds / scan.threads
    return Cost(scan.configurations * total / scan.threads, taken + used, trial)

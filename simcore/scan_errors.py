"""What a scanning system does wrong: where the probe is led besides its raster, dwell by dwell."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numba
import numpy as np
import numpy.typing as npt
from pydantic import Field, NonNegativeFloat

from nanophantom.simcore.environment import Oscillations, vector
from nanophantom.simcore.models import Model

Floats = npt.NDArray[np.float64]
Streams = Callable[[str], np.random.Generator]
"""Gives the random stream of a physical cause by its name, as `Run.rng` does."""

OCTAVES_A_PROCESS = 2
"""Spacing of the relaxation processes that make up 1/f noise."""
_BLOCK = 2**16  # positions that are worked on at a time


@dataclass(frozen=True)
class ScanTiming:
    """When the probe is where: lines of positions, one after another.

    Attributes
    ----------
    lines, positions
        Lines in all frames together, and positions in a line.
    lines_a_frame
        Lines of one frame.
    dwell_us, flyback_us
        Time at a position, and from the end of a line to the start of the next.
    """

    lines: int
    positions: int
    lines_a_frame: int
    dwell_us: float
    flyback_us: float

    @property
    def line_s(self) -> float:
        """Time in a line."""
        return self.positions * self.dwell_us * 1e-6

    @property
    def period_s(self) -> float:
        """Time from the start of a line to that of the next."""
        return self.line_s + self.flyback_us * 1e-6

    @property
    def frame_s(self) -> float:
        """Time from the start of a frame to that of the next."""
        return self.lines_a_frame * self.period_s

    @property
    def since_start_s(self) -> Floats:
        """Middles of the dwells since their line started, (positions,)."""
        return np.asarray((np.arange(self.positions) + 0.5) * self.dwell_us * 1e-6, np.float64)

    def times_s(self) -> Floats:
        """Return the middle of every dwell, (lines, positions)."""
        return np.asarray(np.arange(self.lines)[:, None] * self.period_s + self.since_start_s)

    def blocks(self) -> Iterator[slice]:
        """Cut the lines into blocks of so few positions that temporary arrays stay small."""
        step = max(1, _BLOCK // self.positions)
        return (slice(start, start + step) for start in range(0, self.lines, step))


class ScanErrors(Model):
    """Errors of the scanning system; the probe stands where raster and errors together lead it.

    They are taken at the middle of every dwell: what is faster than that appears as its alias, as
    it does in a microscope, but doesn't blur. Each cause has a random stream of its own.
    """

    mains_hz: float = Field(default=50.0, gt=0)
    """Frequency of the mains: 50 or 60 Hz."""
    mains_nm: Annotated[tuple[NonNegativeFloat, ...], Field(max_length=20)] = ()
    """Amplitudes of the stray field's deflection at the mains' frequency, twice it, three times
    it and so on; their phases are drawn."""
    mains_direction_deg: float | None = None
    """Direction of that deflection (0 = to the right, 90 = down); none draws one for each
    harmonic."""
    noise_nm: float = Field(default=0.0, ge=0)
    """1/f noise of the deflection: its standard deviation on each axis, from the frequency of
    frames to half that of dwells."""
    line_jitter_nm: float = Field(default=0.0, ge=0)
    """Standard deviation, on each axis, of the place where a line starts; the whole line is
    displaced."""
    flyback_nm: float = 0.0
    """Displacement along the line at its start, B exp(-t / flyback_time_us): positive towards the
    line's end, whence the probe comes back (it is late), negative beyond its start."""
    flyback_time_us: float = Field(default=50.0, gt=0)
    """Time constant of that."""

    @property
    def absent(self) -> bool:
        """Whether the scanning system is perfect."""
        return not (any(self.mains_nm) or self.noise_nm or self.line_jitter_nm or self.flyback_nm)

    def displacements(
        self, timing: ScanTiming, fast_axis: Literal["x", "y"], rng: Streams
    ) -> tuple[Floats, Floats]:
        """Draw the displacement of the probe at every dwell.

        Parameters
        ----------
        timing
            Of the scan.
        fast_axis
            Axis along which lines run.
        rng
            Gives the streams of the causes: "scan-mains", "scan-noise", "scan-jitter".

        Returns
        -------
        x_nm, y_nm : (lines, positions)
            In the order of time; read-only where there are no errors.
        """
        shape = timing.lines, timing.positions
        if self.absent:
            nothing = np.broadcast_to(np.float64(0.0), shape)  # takes no memory
            return nothing, nothing
        x, y = np.zeros(shape), np.zeros(shape)
        if any(self.mains_nm):
            mains, t = self._mains(rng("scan-mains")), timing.times_s()
            for rows in timing.blocks():
                mains.add_to(x[rows], y[rows], t[rows])
        if self.noise_nm:
            add_pink_noise(x, y, self.noise_nm, timing, rng("scan-noise"))
        if self.line_jitter_nm:
            jitter = self.line_jitter_nm * rng("scan-jitter").standard_normal((timing.lines, 2))
            x += jitter[:, :1]
            y += jitter[:, 1:]
        if self.flyback_nm:
            along = x if fast_axis == "x" else y
            along += self.flyback_nm * np.exp(-timing.since_start_s / (self.flyback_time_us * 1e-6))
        return x, y

    def _mains(self, rng: np.random.Generator) -> Oscillations:
        draws = rng.uniform(0.0, 360.0, (len(self.mains_nm), 2))  # direction and phase of each
        given = self.mains_direction_deg
        amplitudes = [
            vector(a, drawn if given is None else given)
            for a, (drawn, _) in zip(self.mains_nm, draws, strict=True)
        ]
        harmonics = np.arange(1, len(self.mains_nm) + 1, dtype=np.float64)
        return Oscillations(
            self.mains_hz * harmonics, np.array(amplitudes, np.float64), np.radians(draws[:, 1])
        )


def add_pink_noise(
    x_nm: Floats, y_nm: Floats, rms_nm: float, timing: ScanTiming, rng: np.random.Generator
) -> None:
    """Add 1/f noise to two arrays of displacements (lines, positions), in place.

    A sum of stationary Ornstein-Uhlenbeck processes of equal variance, whose corner frequencies
    f_m lie evenly in log f, a factor r <= 4 apart, from one over the time of a frame to a quarter
    of the rate of dwells: each is followed exactly from dwell to dwell, through the flyback too.
    The Lorentzians of M processes add up to the one-sided spectral density ``rms^2 / (M ln r f)``
    (J. Bernamont, Ann. Phys. 11, 71 (1937)). Seen once a dwell it is that within 3 % from ten
    times the lowest corner to a third of the rate of dwells; aliases add 27 % at half the rate.

    Parameters
    ----------
    rms_nm
        Standard deviation of the sum, on each axis.
    """
    corners_hz = pink_corners_hz(timing)
    rates = 2 * np.pi * corners_hz
    dwell_s = timing.dwell_us * 1e-6
    in_line, to_next = np.exp(-rates * dwell_s), np.exp(-rates * (timing.period_s - timing.line_s
                                                                  + dwell_s))  # fmt: skip
    state = np.zeros((2, len(rates)))
    to_first = np.zeros(len(rates))  # nothing is remembered: the first draw is a stationary one
    share = rms_nm / math.sqrt(len(rates))
    for rows in timing.blocks():
        normals = rng.standard_normal((*x_nm[rows].shape, 2, len(rates)))
        if rows.start == 0:
            _relax(x_nm[:1], y_nm[:1], normals[:1], share, to_first, in_line, state)
            rows, normals = slice(1, rows.stop), normals[1:]
        _relax(x_nm[rows], y_nm[rows], normals, share, to_next, in_line, state)


def pink_corners_hz(timing: ScanTiming) -> Floats:
    """Return the corner frequencies of the processes that make up 1/f noise."""
    low = 1.0 / timing.frame_s
    high = max(low, 0.25e6 / timing.dwell_us)
    return np.geomspace(low, high, 1 + math.ceil(math.log2(high / low) / OCTAVES_A_PROCESS))


@numba.njit(cache=True, nogil=True)
def _relax(
    x: Any, y: Any, normals: Any, share: float, to_line: Any, in_line: Any, state: Any
) -> None:
    """Follow relaxation processes along lines and add their sum; normals (lines, n, 2, M)."""
    for line in range(normals.shape[0]):
        for j in range(normals.shape[1]):
            kept = in_line if j else to_line
            sums = np.zeros(2)
            for axis in range(2):
                for m in range(kept.shape[0]):
                    fresh = math.sqrt(1.0 - kept[m] * kept[m]) * normals[line, j, axis, m]
                    state[axis, m] = kept[m] * state[axis, m] + fresh
                    sums[axis] += state[axis, m]
            x[line, j] += share * sums[0]
            y[line, j] += share * sums[1]

"""The piezo scanner: where over the specimen the tip really is.

It moves tip and specimen past each other, with the errors of piezo ceramics: hysteresis, creep,
bow, coupling of its axes, ringing after the turns. Meanwhile the specimen drifts and is tilted.
All of it is drawn once and known at any knot of the raster; nothing is drawn along the way.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nanophantom.simcore.atoms import Window
from nanophantom.simcore.environment import Drift, Motion
from nanophantom.simcore.fields import Table
from nanophantom.simcore.models import Model
from nanophantom.simcore.probes.line_scan import LineScan
from nanophantom.simcore.scan_errors import Streams

Floats = npt.NDArray[np.float64]

CREEP_STARTS_S = 0.1
"""A move counts as done this long after it began; what comes later is creep."""
_HISTORY_KNOTS = 257  # times in a frame at which the creep of moves long past is taken


class PiezoScanner(Model):
    """A scanner and the motion of the specimen in it; without knobs, a perfect one.

    A scanner in closed loop, whose sensors see hysteresis and creep, has neither of them.
    """

    drift: Drift = Drift()
    """Lateral motion of the specimen: constant drift, settling, a random walk, vibrations."""
    z_speed_nm_per_s: float = 0.0
    """Constant drift of the specimen towards the tip."""
    z_settling_nm: float = 0.0
    """How far it still rises in the end, as 1 - exp(-t / z_settling_time_s)."""
    z_settling_time_s: float = Field(default=1200.0, gt=0)
    """Time constant of that."""
    range_um: float = Field(default=100.0, gt=0)
    """Full range of the scanner along x and y; the specimen's origin is its middle."""
    hysteresis_percent: float = Field(default=0.0, ge=0, le=20)
    """Largest distance between the ways there and back, of the travel, for a small travel; some
    2 % in open loop."""
    hysteresis_growth_percent: float = Field(default=0.0, ge=0, le=20)
    """What that is more for the scanner's full range, in proportion to the travel; some 10 %."""
    creep_percent_per_decade: float = Field(
        default=0.0, ge=0, le=20, json_schema_extra={"dimensionless": True}
    )
    """How much a move goes on creeping, of its length, in each decade of time after 0.1 s; 1 to 2
    in open loop."""
    moved_before_nm: tuple[float, float] = (0.0, 0.0)
    """The move (x, y) that brought the scanner here."""
    waited_s: float = Field(default=1.0, ge=CREEP_STARTS_S)
    """Time from that move to the first frame."""
    bow_nm: float = 0.0
    """How much higher the specimen stands where the scanner is half its range off its middle,
    growing with the square; negative for a tube that carries the tip."""
    coupling_percent: float = Field(default=0.0, ge=-50, le=50)
    """Part of each lateral axis' motion that goes into the other."""
    tilt_x_deg: float = Field(default=0.0, ge=-60, le=60)
    """Slope of the specimen along x: positive rises to the right."""
    tilt_y_deg: float = Field(default=0.0, ge=-60, le=60)
    """Slope of the specimen along y: positive rises downwards in the image."""
    ringing_nm: float = Field(default=0.0, ge=0)
    """Amplitude with which the fast axis rings on after a turn, in the direction it had."""
    ringing_hz: float = Field(default=500.0, gt=0)
    """Frequency of that."""
    ringing_damping: float = Field(
        default=0.02, gt=0, lt=1, json_schema_extra={"dimensionless": True}
    )
    """Its damping ratio: it falls to 1/e in 1 / (2 pi ringing_hz ringing_damping)."""
    line_jitter_nm: float = Field(default=0.0, ge=0)
    """Standard deviation, on each axis, of the place where a line starts; the whole line, there
    and back, is displaced."""

    def motion(self, scan: LineScan, rng: Streams) -> ScannerMotion:
        """Draw the motion during all frames of a scan.

        Parameters
        ----------
        rng
            Gives the streams of the causes, "drift" and "line-jitter": ``run.rng``.

        Raises
        ------
        ValueError
            The scan reaches beyond the scanner's range.
        """
        box, half = scan.window, 500.0 * self.range_um
        reach = max(abs(c) for c in (box.x0_nm, box.x1_nm, box.y0_nm, box.y1_nm))
        if reach > half:
            raise ValueError(
                f"the scan reaches {reach:g} nm from the scanner's middle, beyond its range of "
                f"±{half:g} nm; give it fewer or smaller pixels, less offset_nm, or more range_um"
            )
        lines = scan.n_frames * scan.height_px
        total_s = float(scan.starts_s[-1])
        drift = self.drift.motion(lines, total_s / lines, total_s / lines, rng("drift"))
        jitter = rng("line-jitter").standard_normal((scan.n_frames, scan.height_px, 2))
        return ScannerMotion(self, scan, drift, self.line_jitter_nm * jitter)

    def hysteresis_nm(self, drive_nm: Floats, direction: npt.ArrayLike, travel_nm: float) -> Floats:
        """Return how far an axis lags that goes to and fro between two turning points.

        Each way is a parabola between the turning points, which are where they should be: what a
        sum of play operators with evenly spread thresholds does (Prandtl and Ishlinskii), and
        Rayleigh's law. With them alone the width of the loop is in proportion to the square of
        the travel; ceramics add one in proportion to the travel itself. Rates don't matter.

        Parameters
        ----------
        drive_nm
            Where it should be, counted from the middle.
        direction
            1 where it moves upwards, -1 where it goes back.
        travel_nm
            Way between the turning points.
        """
        grown = self.hysteresis_growth_percent * travel_nm / (1e3 * self.range_um)
        width = (self.hysteresis_percent + grown) / 100 * travel_nm
        lag = -0.5 * width * (1.0 - (2.0 * drive_nm / travel_nm) ** 2)
        return np.asarray(np.asarray(direction) * lag)

    def creep_nm(self, move_nm: float, t_s: npt.ArrayLike) -> Floats:
        """Return how far a move has crept on, g L lg(t / 0.1 s), some time after it.

        L is the move as it is after 0.1 s, g the creep per decade (PI Ceramic, "Piezo tutorial");
        earlier there is none.
        """
        return self._creep * move_nm * _decades(np.asarray(t_s, np.float64))

    def ringing_at_nm(self, scan: LineScan, frame: int) -> Floats:
        """Return the ringing of the fast axis at the knots of any line, (knots,).

        After a turn ``exp(-d w t) sin(sqrt(1 - d^2) w t)``, added up over this turn and all turns
        before, as if lines had been scanned for long.
        """
        omega = 2 * math.pi * self.ringing_hz
        damping = self.ringing_damping
        pole = omega * complex(-damping, math.sqrt(1 - damping**2))
        since_turn = (np.arange(scan.knots_a_way) + 0.5) * scan.knot_s(frame)
        # turns follow in half the time of a line, each of the other sign
        before = 1.0 / (1.0 + cmath.exp(pole * 0.5 / scan.rate_hz(frame)))
        sine = self.ringing_nm * (np.exp(pole * since_turn) * before).imag
        return np.concatenate([-sine, sine])

    @property
    def _creep(self) -> float:
        return self.creep_percent_per_decade / 100


@dataclass(frozen=True, eq=False)
class ProbePath:
    """Where over the specimen the tip's apex is at the knots of a frame, each (lines, knots).

    Attributes
    ----------
    t_s
        Time since the first frame began.
    x_nm, y_nm
        Place on the specimen.
    z_nm
        How much higher the specimen stands than it would, there and then: drift, bow and tilt.
    """

    t_s: Floats
    x_nm: Floats
    y_nm: Floats
    z_nm: Floats


@dataclass(frozen=True, eq=False)
class ScannerMotion:
    """The motion as drawn; all that is asked of a frame is a pure function of its number.

    Attributes
    ----------
    scanner, scan
        What moves, and what it was told.
    drift
        Lateral motion of the specimen.
    jitter_nm : (frames, lines, 2)
        What each line is displaced by, along and across it.
    """

    scanner: PiezoScanner
    scan: LineScan
    drift: Motion
    jitter_nm: Floats

    def path(self, frame: int) -> ProbePath:
        """Return where the tip is in a frame."""
        scan, scanner = self.scan, self.scanner
        t = scan.times_s(frame)
        along, across = scan.drive_nm(frame)
        there = np.repeat([1, -1], scan.knots_a_way)
        travel_y, travel_x = scan.travel_nm
        fast = along + scanner.hysteresis_nm(along, there, travel_x)
        fast = fast + scanner.ringing_at_nm(scan, frame)
        slow = across + scanner.hysteresis_nm(across, scan.direction(frame), travel_y)
        slow = slow + self._slow_creep_nm(frame, t)
        jitter = self.jitter_nm[frame]
        x, y = scan.placed(fast + jitter[:, :1], slow + jitter[:, 1:])
        crept_x, crept_y = self._creep_of_move_nm(t)
        x, y = x + crept_x, y + crept_y
        coupled = scanner.coupling_percent / 100
        x, y = x + coupled * y, y + coupled * x
        half = 500.0 * scanner.range_um
        z = scanner.bow_nm * (x**2 + y**2) / half**2 + self.z_drift_nm(t)
        moved_x, moved_y = self.drift.at(t)
        x, y = x - moved_x, y - moved_y
        for place, tilt_deg in ((x, scanner.tilt_x_deg), (y, scanner.tilt_y_deg)):
            z += math.tan(math.radians(tilt_deg)) * place
        return ProbePath(t, x, y, z)

    def z_drift_nm(self, t_s: Floats) -> Floats:
        """Return how far the specimen has risen towards the tip."""
        settled = -np.expm1(-t_s / self.scanner.z_settling_time_s)
        return self.scanner.z_speed_nm_per_s * t_s + self.scanner.z_settling_nm * settled

    def distortion(self, frame: int) -> dict[str, Floats]:
        """Return how far each pixel of a frame lies from its place, real minus commanded.

        Places that are commanded are those of :meth:`LineScan.nominal`.

        Returns
        -------
        dict of (height, width)
            dx_nm, dy_nm, dx_retrace_nm, dy_retrace_nm.
        """
        path, (x, y) = self.path(frame), self.scan.nominal(frame)
        dx, dx_back = self.scan.as_images(path.x_nm - x, frame)
        dy, dy_back = self.scan.as_images(path.y_nm - y, frame)
        return {"dx_nm": dx, "dy_nm": dy, "dx_retrace_nm": dx_back, "dy_retrace_nm": dy_back}

    def table(self) -> Table:
        """Return drift, creep and jitter amid every line of all frames, at the turn."""
        scan, lines = self.scan, np.arange(self.scan.height_px)
        frames = range(scan.n_frames)
        starts = scan.starts_s
        t = [starts[i] + (lines + 0.5) / scan.rate_hz(i) for i in frames]
        drift_x, drift_y = self.drift.at(np.concatenate(t))
        slow = np.concatenate([self._slow_creep_nm(i, t[i]) for i in frames])
        start_x, start_y = self._creep_of_move_nm(np.concatenate(t))
        return {
            "frame": np.repeat(frames, scan.height_px),
            "line": np.tile(lines, scan.n_frames),
            "row": np.concatenate([scan.rows(i) for i in frames]),
            "t_s": np.concatenate(t),
            "drift_x_nm": drift_x,
            "drift_y_nm": drift_y,
            "drift_z_nm": self.z_drift_nm(np.concatenate(t)),
            "creep_x_nm": start_x,
            "creep_y_nm": start_y,
            "slow_axis_creep_nm": slow,
            "jitter_along_nm": self.jitter_nm[..., 0].ravel(),
            "jitter_across_nm": self.jitter_nm[..., 1].ravel(),
        }

    def window(self) -> Window:
        """Return the box around all places where the tip really is, in all frames."""
        paths = (self.path(i) for i in range(self.scan.n_frames))
        ends = np.array([[p.x_nm.min(), p.x_nm.max(), p.y_nm.min(), p.y_nm.max()] for p in paths])
        low, high = ends.min(axis=0), ends.max(axis=0)
        return Window(float(low[0]), float(high[1]), float(low[2]), float(high[3]))

    def _creep_of_move_nm(self, t_s: Floats) -> tuple[Floats, Floats]:
        """Return (x, y) by which the move to the scan area has crept on."""
        x, y = self.scanner.moved_before_nm
        since = t_s + self.scanner.waited_s
        return self.scanner.creep_nm(x, since), self.scanner.creep_nm(y, since)

    def _slow_creep_nm(self, frame: int, t_s: Floats) -> Floats:
        """Return the creep of the slow axis: of its ramps, and of its flybacks between them.

        Both belong together: flybacks alone would creep further and further from frame to frame.
        The first one comes from the middle of the raster. What is older than the frame before is
        smooth and taken at fewer times.
        """
        if not self.scanner._creep:
            return np.zeros_like(t_s)
        last = max(frame - 1, 0)
        start = self.scan.starts_s[frame]
        times = np.linspace(start, start + self.scan.frame_s(frame), _HISTORY_KNOTS)
        older = np.interp(t_s, times, self._slow_decades_nm(range(last), times))
        recent = self._slow_decades_nm(range(last, frame + 1), t_s)
        return np.asarray(self.scanner._creep * (older + recent))

    def _slow_decades_nm(self, frames: Iterable[int], t_s: Floats) -> Floats:
        """Return length times decades, summed over ramps of some frames and flybacks to them."""
        scan, starts, total = self.scan, self.scan.starts_s, np.zeros_like(t_s)
        half = scan.travel_nm[0] / 2
        for i in frames:
            first, came_from = -half * scan.direction(i), half * scan.direction(i - 1) if i else 0.0
            since, ramp_s = t_s - starts[i], scan.frame_s(i)
            total += (first - came_from) * _decades(since + scan.pause_s)
            per_s = -2.0 * first / ramp_s
            total += per_s * (_decade_seconds(since) - _decade_seconds(since - ramp_s))
        return total


def _decades(t_s: Floats) -> Floats:
    """Return lg(t / 0.1 s), 0 before."""
    return np.asarray(np.log10(np.maximum(t_s, CREEP_STARTS_S) / CREEP_STARTS_S))


def _decade_seconds(t_s: Floats) -> Floats:
    """Return the integral of the decades over time, up to t."""
    t = np.maximum(t_s, CREEP_STARTS_S)
    return np.asarray(t * np.log10(t / CREEP_STARTS_S) - (t - CREEP_STARTS_S) / math.log(10))

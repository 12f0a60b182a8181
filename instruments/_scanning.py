"""What scanning microscopes share: the raster, its timing, and how scattering is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nanophantom.simcore.environment import Drift, Path
from nanophantom.simcore.fields import Table
from nanophantom.simcore.models import Model
from nanophantom.simcore.scan_errors import ScanErrors, ScanTiming, Streams

Floats = npt.NDArray[np.float64]

ELECTRONS_PER_PA_US = 6.241509074
"""Electrons in a picoampere for a microsecond (1e-18 C over the elementary charge)."""


class Scan(Model):
    """A raster of probe positions, line by line from its top left corner."""

    width_px: int = Field(default=128, ge=1, le=16384)
    """Positions along x: of one line, unless fast_axis is y."""
    height_px: int = Field(default=128, ge=1, le=16384)
    """Positions along y: lines, unless fast_axis is y."""
    pixel_size_nm: float = Field(default=0.01, gt=0)
    """Step from one position to the next, and from line to line."""
    dwell_us: float = Field(default=10.0, gt=0)
    """Time at each position."""
    flyback_us: float = Field(default=500.0, ge=0)
    """Time from the end of a line to the start of the next; the beam is blanked."""
    n_frames: int = Field(default=1, ge=1)
    """Scans of the same area, one after another."""
    fast_axis: Literal["x", "y"] = "x"
    """Axis along which the lines run; with y they go down, one after another to the right. Images
    keep the axes of the specimen, so a scan each way makes a pair for the correction of drift."""
    errors: ScanErrors = ScanErrors()
    """What the scanning system does wrong."""

    @property
    def shape(self) -> tuple[int, int]:
        """Positions along y and along x."""
        return self.height_px, self.width_px

    @property
    def timing(self) -> ScanTiming:
        """When the lines of all frames are scanned."""
        positions, lines = self.width_px, self.height_px
        if self.fast_axis == "y":
            positions, lines = lines, positions
        return ScanTiming(lines * self.n_frames, positions, lines, self.dwell_us, self.flyback_us)

    def raster_nm(self) -> tuple[Floats, Floats]:
        """Return x (width) and y (height) of the raster; the origin is its centre."""
        x, y = (
            np.asarray((np.arange(n) - (n - 1) / 2) * self.pixel_size_nm, np.float64)
            for n in (self.width_px, self.height_px)
        )
        return x, y


class Calculation(Model):
    """How the scattering of the probe is computed."""

    method: Literal[
        "auto", "multislice", "scattering-matrix", "unit-cell", "prism", "parents", "windows"
    ] = "auto"
    """auto picks the cheapest that is good enough; see the docs for what each does."""
    largest_error: float = Field(default=0.0, ge=0, lt=1, json_schema_extra={"dimensionless": True})
    """Error that approximate methods may make, a part of the mean signal; 0 keeps to exact ones."""
    device: Literal["cpu", "gpu"] = "cpu"
    """Where waves are propagated; gpu needs CuPy (extra [gpu]) and a CUDA device."""
    interpolation: int = Field(default=2, ge=1, le=16)
    """Interpolation factor of the method prism."""
    parent_rings: int = Field(default=3, ge=1, le=16)
    """Rings of parent beams of the method parents."""
    window_nm: float = Field(default=1.5, gt=0)
    """Edge of the windows of the method windows."""
    memory_gb: float = Field(default=3.0, ge=0.01, le=10_000)
    """Memory that slices, waves and matrices may take, gigabytes."""


@dataclass(frozen=True, eq=False)
class ScanPath:
    """Where on the specimen the probe really stands, and when.

    Attributes
    ----------
    t_s : (frames, height, width)
        Middle of every dwell.
    drift_x_nm, drift_y_nm : (frames, height, width)
        Displacement of the specimen then.
    scan_x_nm, scan_y_nm : (frames, height, width)
        What the errors of the scanning system displace the probe by then.
    x_nm, y_nm : (frames, height, width)
        Position of the probe on the specimen: raster plus scan error less the specimen's
        displacement.
    """

    t_s: Floats
    drift_x_nm: Floats
    drift_y_nm: Floats
    scan_x_nm: Floats
    scan_y_nm: Floats
    x_nm: Floats
    y_nm: Floats

    @classmethod
    def of(cls, scan: Scan, drift: Drift, rng: Streams) -> ScanPath:
        """Draw drift and scan errors and follow the probe over the moving specimen.

        Parameters
        ----------
        rng
            Gives the streams of the causes ("drift" and those of the scan errors): ``run.rng``.
        """
        timing = scan.timing
        motion = drift.motion(timing.lines, timing.line_s, timing.period_s, rng("drift"))
        t = timing.times_s()
        moved_x, moved_y = np.empty_like(t), np.empty_like(t)
        for rows in timing.blocks():
            moved_x[rows], moved_y[rows] = motion.at(t[rows])
        led_x, led_y = scan.errors.displacements(timing, scan.fast_axis, rng)
        t, moved_x, moved_y, led_x, led_y = (
            _as_images(a, scan) for a in (t, moved_x, moved_y, led_x, led_y)
        )
        x, y = scan.raster_nm()
        at_x, at_y = x[None, None, :] + led_x, y[None, :, None] + led_y
        at_x -= moved_x
        at_y -= moved_y
        return cls(t, moved_x, moved_y, led_x, led_y, at_x, at_y)

    def still(self) -> ScanPath:
        """Return one frame of the same raster, rightly scanned, over a specimen at rest."""
        x, y = self._raster()
        return ScanPath(self.t_s[:1], 0 * x, 0 * y, 0 * x, 0 * y, x, y)

    def _raster(self) -> tuple[Floats, Floats]:
        """Return the positions without drift and errors, of the first frame."""
        first = slice(0, 1)
        return (
            self.x_nm[first] + self.drift_x_nm[first] - self.scan_x_nm[first],
            self.y_nm[first] + self.drift_y_nm[first] - self.scan_y_nm[first],
        )

    @property
    def reach(self) -> Path:
        """How far the probe gets off its raster, as the path that `Cell.around` asks for."""
        frames = len(self.t_s)
        return Path(
            self.t_s.reshape(frames, -1),
            (self.drift_x_nm - self.scan_x_nm).reshape(frames, -1),
            (self.drift_y_nm - self.scan_y_nm).reshape(frames, -1),
        )

    def positions_A(self, frame: int, corner_nm: tuple[float, float]) -> Floats:
        """Return the positions (height * width, 2) of a frame as (x, y), from a grid's corner."""
        y0, x0 = corner_nm
        return 10.0 * np.column_stack(
            [self.x_nm[frame].ravel() - x0, self.y_nm[frame].ravel() - y0]
        )

    def table(self) -> Table:
        """Return times, displacements, scan errors and positions of every dwell.

        Positions on the specimen at rest count from the raster's first one, as atoms do in truth.
        """
        first_x, first_y = (raster[0, 0, 0] for raster in self._raster())
        return {
            "t_s": self.t_s,
            "dx_nm": self.drift_x_nm,
            "dy_nm": self.drift_y_nm,
            "scan_x_nm": self.scan_x_nm,
            "scan_y_nm": self.scan_y_nm,
            "x_nm": self.x_nm - first_x,
            "y_nm": self.y_nm - first_y,
        }

    def frame_means(self) -> Table:
        """Return mean time and displacement of every frame."""
        mean = [a.mean(axis=(1, 2)) for a in (self.t_s, self.drift_x_nm, self.drift_y_nm)]
        return dict(zip(("t_s", "dx_nm", "dy_nm"), mean, strict=True)) | {
            "frame": np.arange(len(self.t_s))
        }


def _as_images(values: Floats, scan: Scan) -> Floats:
    """Turn what was in the order of time (lines, positions) into (frames, height, width)."""
    if scan.fast_axis == "x":
        return values.reshape(scan.n_frames, *scan.shape)
    turned = values.reshape(scan.n_frames, scan.width_px, scan.height_px).swapaxes(1, 2)
    return np.ascontiguousarray(turned) if any(values.strides) else turned

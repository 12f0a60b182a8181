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

Floats = npt.NDArray[np.float64]

ELECTRONS_PER_PA_US = 6.241509074
"""Electrons in a picoampere for a microsecond (1e-18 C over the elementary charge)."""


class Scan(Model):
    """A raster of probe positions, line by line from the top."""

    width_px: int = Field(default=128, ge=1, le=16384)
    """Positions along x."""
    height_px: int = Field(default=128, ge=1, le=16384)
    """Lines."""
    pixel_size_nm: float = Field(default=0.01, gt=0)
    """Step from one position to the next, and from line to line."""
    dwell_us: float = Field(default=10.0, gt=0)
    """Time at each position."""
    flyback_us: float = Field(default=500.0, ge=0)
    """Time from the end of a line to the start of the next; the beam is blanked."""
    n_frames: int = Field(default=1, ge=1)
    """Scans of the same area, one after another."""

    @property
    def shape(self) -> tuple[int, int]:
        """Lines and positions in a line."""
        return self.height_px, self.width_px

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
    x_nm, y_nm : (frames, height, width)
        Position of the probe on the specimen: that of the raster less the displacement.
    """

    t_s: Floats
    drift_x_nm: Floats
    drift_y_nm: Floats
    x_nm: Floats
    y_nm: Floats

    @classmethod
    def of(cls, scan: Scan, drift: Drift, rng: np.random.Generator) -> ScanPath:
        """Draw the drift and follow the raster over the moving specimen."""
        height, width = scan.shape
        line_s = width * scan.dwell_us * 1e-6
        period_s = line_s + scan.flyback_us * 1e-6
        path = drift.path(scan.n_frames * height, line_s, period_s, rng)
        start = np.arange(scan.n_frames * height)[:, None] * period_s
        t = start + (np.arange(width) + 0.5) * scan.dwell_us * 1e-6
        moved = [
            np.interp(t.ravel(), path.t_s.ravel(), d.ravel()).reshape(scan.n_frames, height, width)
            for d in (path.dx_nm, path.dy_nm)
        ]
        x, y = scan.raster_nm()
        return cls(
            t.reshape(moved[0].shape),
            moved[0],
            moved[1],
            x[None, None, :] - moved[0],
            y[None, :, None] - moved[1],
        )

    def still(self) -> ScanPath:
        """Return one frame of the same raster over a specimen at rest."""
        x, y = (self.x_nm + self.drift_x_nm)[:1], (self.y_nm + self.drift_y_nm)[:1]
        return ScanPath(self.t_s[:1], 0 * x, 0 * y, x, y)

    @property
    def reach(self) -> Path:
        """The displacements as the path that `Cell.around` asks for."""
        frames = len(self.t_s)
        return Path(
            self.t_s.reshape(frames, -1),
            self.drift_x_nm.reshape(frames, -1),
            self.drift_y_nm.reshape(frames, -1),
        )

    def positions_A(self, frame: int, corner_nm: tuple[float, float]) -> Floats:
        """Return the positions (height * width, 2) of a frame as (x, y), from a grid's corner."""
        y0, x0 = corner_nm
        return 10.0 * np.column_stack(
            [self.x_nm[frame].ravel() - x0, self.y_nm[frame].ravel() - y0]
        )

    def table(self) -> Table:
        """Return times, displacements and positions of every dwell.

        Positions on the specimen at rest count from the raster's first one, as atoms do in truth.
        """
        first_x, first_y = (
            (self.x_nm + self.drift_x_nm)[0, 0, 0],
            (self.y_nm + self.drift_y_nm)[0, 0, 0],
        )
        return {
            "t_s": self.t_s,
            "dx_nm": self.drift_x_nm,
            "dy_nm": self.drift_y_nm,
            "x_nm": self.x_nm - first_x,
            "y_nm": self.y_nm - first_y,
        }

    def frame_means(self) -> Table:
        """Return mean time and displacement of every frame."""
        mean = [a.mean(axis=(1, 2)) for a in (self.t_s, self.drift_x_nm, self.drift_y_nm)]
        return dict(zip(("t_s", "dx_nm", "dy_nm"), mean, strict=True)) | {
            "frame": np.arange(len(self.t_s))
        }

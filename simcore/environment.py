"""What moves while the instrument looks: drift of the specimen, drawn once as a path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nanophantom.simcore.fields import Table
from nanophantom.simcore.models import Model

Floats = npt.NDArray[np.float64]

SAMPLES_PER_EXPOSURE = 8
"""Points of the path inside one exposure; the blur of a frame is the mean over them."""


@dataclass(frozen=True, eq=False)
class Path:
    """A displacement path: times (s) and displacements (nm), write-protected by convention.

    Attributes
    ----------
    t_s, dx_nm, dy_nm
        Shape (frames, samples): the middles of equal parts of every exposure.
    """

    t_s: Floats
    dx_nm: Floats
    dy_nm: Floats

    def frame_means(self) -> Table:
        """Return mean time and displacement of every frame."""
        return {
            "frame": np.arange(len(self.t_s)),
            "t_s": self.t_s.mean(axis=1),
            "dx_nm": self.dx_nm.mean(axis=1),
            "dy_nm": self.dy_nm.mean(axis=1),
        }

    def table(self) -> Table:
        """Return every sample of the path."""
        return {"t_s": self.t_s.ravel(), "dx_nm": self.dx_nm.ravel(), "dy_nm": self.dy_nm.ravel()}


class Drift(Model):
    """Specimen drift: a constant velocity and a random walk on top of it."""

    speed_nm_per_s: float = Field(default=0.0, ge=0)
    """Constant drift speed."""
    direction_deg: float | None = None
    """Direction of the constant drift (0 = to the right, 90 = down); none draws one."""
    walk_nm_per_sqrt_s: float = Field(default=0.0, ge=0)
    """Strength of the random walk: its standard deviation on each axis after one second."""

    def path(
        self, n_frames: int, exposure_s: float, period_s: float, rng: np.random.Generator
    ) -> Path:
        """Draw the path of an acquisition.

        The displacement is zero at the opening of the shutter of frame 0. The same draws are
        made whatever the strengths, so a knob set to zero leaves the others unchanged.

        Parameters
        ----------
        n_frames
            Number of exposures.
        exposure_s, period_s
            Length of an exposure, and time from one opening to the next.
        rng
            Stream of this cause.
        """
        angle = np.radians(rng.uniform(0.0, 360.0) if self.direction_deg is None else 0.0)
        if self.direction_deg is not None:
            rng.uniform()  # the draw is spent, so the walk below doesn't depend on the choice
            angle = np.radians(self.direction_deg)
        part = (np.arange(SAMPLES_PER_EXPOSURE) + 0.5) / SAMPLES_PER_EXPOSURE
        t = np.arange(n_frames)[:, None] * period_s + part * exposure_s
        steps = np.sqrt(np.diff(t.ravel(), prepend=0.0))[:, None]
        walk = np.cumsum(rng.standard_normal((t.size, 2)) * steps, axis=0)
        walk *= self.walk_nm_per_sqrt_s
        return Path(
            t_s=t,
            dx_nm=self.speed_nm_per_s * np.cos(angle) * t + walk[:, 0].reshape(t.shape),
            dy_nm=self.speed_nm_per_s * np.sin(angle) * t + walk[:, 1].reshape(t.shape),
        )

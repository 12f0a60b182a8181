"""Drift of a specimen on a light microscope's stage: in the plane, and out of focus."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from nanophantom.simcore.environment import Drift
from nanophantom.simcore.fields import Table


class StageDrift(Drift):
    """Motion of the specimen against objective and camera, mean of every exposure.

    Stable set-ups drift by some nm a second (H. Ma et al., Sci. Adv. 10 (2024) eadm7765 tested 5,
    10 and 20 nm/s); over an experiment it adds up to hundreds of nm.
    """

    focus_speed_nm_per_s: float = 0.0
    """Constant drift along the axis; positive away from the objective."""
    focus_walk_nm_per_sqrt_s: float = Field(default=0.0, ge=0)
    """Strength of the random walk along the axis: its standard deviation after one second."""

    def frames(
        self, n_frames: int, exposure_s: float, period_s: float, rng: np.random.Generator
    ) -> Table:
        """Return time and displacement of every exposure: frame, t_s, dx_nm, dy_nm, dz_nm."""
        (along,) = rng.spawn(1)
        table = dict(self.path(n_frames, exposure_s, period_s, rng).frame_means())
        steps = np.sqrt(period_s) * along.standard_normal(n_frames)
        steps[0] = 0.0
        walk = self.focus_walk_nm_per_sqrt_s * np.cumsum(steps)
        return table | {"dz_nm": self.focus_speed_nm_per_s * table["t_s"] + walk}

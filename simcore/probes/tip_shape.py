"""What every tip tells about itself, and how a shape of a tip is sampled.

A shape tells how high the tip's surface lies over its apex, exactly and anywhere; t(u) is minus
that, in the specimen's own x and y.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.models import Model
from nanophantom.simcore.probes.tip_map import TipMap

Floats = npt.NDArray[np.float64]

MOST_SAMPLES_A_SIDE = 2049
"""A sampled tip may have at most so many rows and columns."""


class ProbeTip(Protocol):
    """What every tip tells about itself."""

    @property
    def radius_nm(self) -> float:
        """Effective radius of the apex, for contact mechanics."""
        ...

    def profile_nm(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> Floats:
        """Return t(u) at any offsets from the apex."""
        ...

    def reach_nm(self, depth_nm: float) -> float:
        """Return the greatest distance from the axis of what lies within a depth of the apex."""
        ...

    def sampled(self, step_nm: tuple[float, float], depth_nm: float) -> TipMap:
        """Return the tip on a grid."""
        ...

    def input_files(self) -> dict[str, Path]:
        """Return the files that the recipe names."""
        ...


class TipShape(Model):
    """What the shapes share: how they are sampled."""

    @abstractmethod
    def profile_nm(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> Floats:
        """Return t(u) <= 0: minus the height of the tip's surface over its apex.

        Parameters
        ----------
        x_nm, y_nm
            Offsets u from the apex; they are broadcast.

        Returns
        -------
        ndarray
            nm; -inf where there is no tip.
        """

    @abstractmethod
    def reach_nm(self, depth_nm: float) -> float:
        """Return the greatest distance from the axis of what lies within a depth of the apex."""

    def input_files(self) -> dict[str, Path]:
        """Return the files that the recipe names: path of the knob -> file."""
        return {}

    def sampled(self, step_nm: tuple[float, float], depth_nm: float) -> TipMap:
        """Return the tip on a grid with the apex in its middle.

        Parameters
        ----------
        step_nm
            Distance between samples along y and x.
        depth_nm
            All of the tip that lies within this height over its apex is on the grid: the range of
            the heights that it is to image.

        Returns
        -------
        TipMap
            Odd numbers of rows and columns.

        Raises
        ------
        ValueError
            The grid would have more than 2049 samples a side.
        """
        y, x = centred_grid(step_nm, (self.reach_nm(depth_nm),) * 2, depth_nm)
        apex = (len(y) // 2, x.size // 2)
        return TipMap(self.profile_nm(x, y), apex, step_nm)


def centred_grid(
    step_nm: tuple[float, float], reach_nm: tuple[float, float], depth_nm: float
) -> tuple[Floats, Floats]:
    """Return offsets y, shape (ny, 1), and x, (1, nx), that reach at least so far both ways.

    Raises
    ------
    ValueError
        There would be more than 2049 a side.
    """
    half = [math.ceil(r / s) for r, s in zip(reach_nm, step_nm, strict=True)]
    if 2 * max(half) + 1 > MOST_SAMPLES_A_SIDE:
        raise ValueError(
            f"the tip is {2 * max(reach_nm):.4g} nm wide {depth_nm:.4g} nm over its apex, "
            f"{2 * max(half) + 1} samples of {min(step_nm):.4g} nm; at most {MOST_SAMPLES_A_SIDE}: "
            "take a sharper tip (radius, half angle), larger pixels or a lower specimen"
        )
    y, x = (
        np.asarray(np.arange(-n, n + 1) * s, np.float64) for n, s in zip(half, step_nm, strict=True)
    )
    return y[:, None], x[None, :]

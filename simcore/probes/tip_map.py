"""A sampled tip: how far its surface lies over its apex, on a grid around it.

A tip is t(u) <= 0 with 0 at its apex: minus the height of its own surface over the apex, at the
offset u from the apex along the specimen's own x and y, without reflection. With its apex over x
it touches a surface s when the image is ``max_u [s(x + u) + t(u)]``. Where t is -inf there is no
tip.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from nanophantom.simcore.fields import read_only

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TipMap:
    """A tip on a grid.

    Attributes
    ----------
    heights_nm
        t(u), shape (ny, nx): at most 0, exactly 0 at the apex, -inf where there is no tip;
        write-protected.
    apex
        Row and column of the apex; sample [i, j] lies at the offset ``(i - apex[0]) step_nm[0]``
        along y, ``(j - apex[1]) step_nm[1]`` along x. A worn tip has further samples of height 0.
    step_nm
        Distance between samples along y and x.
    """

    heights_nm: Floats
    apex: tuple[int, int]
    step_nm: tuple[float, float]

    def __post_init__(self) -> None:
        heights = np.ascontiguousarray(self.heights_nm, np.float64)
        if heights.ndim != 2 or not (heights <= 0.0).all():
            raise ValueError("heights_nm of a tip must be at most 0 (no NaN), shape (ny, nx)")
        (row, col), (ny, nx) = self.apex, heights.shape
        if not (0 <= row < ny and 0 <= col < nx and heights[row, col] == 0.0):
            raise ValueError(f"a tip's height at its apex {self.apex} must be exactly 0")
        if not all(0.0 < step < np.inf for step in self.step_nm):
            raise ValueError(f"step_nm of a tip must be positive, not {self.step_nm}")
        object.__setattr__(self, "heights_nm", read_only(heights))

    @classmethod
    def of(cls, heights_nm: npt.ArrayLike, step_nm: tuple[float, float]) -> TipMap:
        """Return a tip of heights from any level: the highest is the apex and becomes 0.

        Parameters
        ----------
        heights_nm
            Shape (ny, nx), the apex up; -inf where there is no tip. Of several equal highest
            samples the one nearest to their middle is the apex.
        step_nm
            Distance between samples along y and x.

        Raises
        ------
        ValueError
            A height is NaN, or none is finite.
        """
        heights = np.asarray(heights_nm, np.float64)
        top = heights.max(initial=-np.inf)
        if heights.ndim != 2 or not np.isfinite(top):
            raise ValueError("heights_nm of a tip need a finite highest one (no NaN), (ny, nx)")
        highest = np.argwhere(heights == top)
        off_middle = np.sum((highest - highest.mean(axis=0)) ** 2, axis=1)
        row, col = highest[off_middle.argmin()]
        return cls(heights - top, (int(row), int(col)), step_nm)

    @property
    def offsets_nm(self) -> tuple[Floats, Floats]:
        """Offsets from the apex along y, shape (ny, 1), and x, shape (1, nx)."""
        (ny, nx), (row, col), (dy, dx) = self.heights_nm.shape, self.apex, self.step_nm
        y, x = (np.arange(ny) - row) * dy, (np.arange(nx) - col) * dx
        return np.asarray(y, np.float64)[:, None], np.asarray(x, np.float64)[None, :]

    @property
    def cell_nm2(self) -> float:
        """Area that a sample stands for."""
        return self.step_nm[0] * self.step_nm[1]

    def cropped(self, depth_nm: float) -> TipMap:
        """Return the tip without the rows and columns at its edges that lie wholly below a depth.

        They can't touch a surface whose heights range over less than that.
        """
        near = self.heights_nm >= -depth_nm
        rows, cols = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
        row, col = self.apex
        return TipMap(
            self.heights_nm[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1],
            (int(row - rows[0]), int(col - cols[0])),
            self.step_nm,
        )

    def truncated(self, height_nm: float) -> TipMap:
        """Return the tip shortened by a plane at a height over its apex; 0 is the new flat."""
        return TipMap(np.minimum(self.heights_nm, -height_nm) + height_nm, self.apex, self.step_nm)

    def area_nm2(self, depth_nm: float) -> float:
        """Return the area of the section at a height over the apex, by counting samples."""
        return float(np.count_nonzero(self.heights_nm >= -depth_nm)) * self.cell_nm2

    def volume_nm3(self, height_nm: float) -> float:
        """Return the volume of the tip between its apex and a height over it.

        It is what :meth:`truncated` takes away. The tip must be sampled as far out as that.
        """
        return float(np.maximum(self.heights_nm + height_nm, 0.0).sum()) * self.cell_nm2

    def apex_radius_nm(self, depth_nm: float) -> float:
        """Return the radius of the sphere fitted to the top of the tip.

        The sphere ``|u - c|^2 = R^2`` is linear in (c, R^2 - |c|^2), so it is an ordinary least
        squares fit, exact for a sphere wherever its lowest point lies between the samples.

        Parameters
        ----------
        depth_nm
            The samples within this height over the apex, and connected with it, are fitted.

        Raises
        ------
        ValueError
            The samples are too few, or all at one height: they have no curvature.
        """
        labels, _ = scipy.ndimage.label(self.heights_nm >= -depth_nm, np.ones((3, 3)))
        top = labels == labels[self.apex]
        y, x = (np.broadcast_to(offset, top.shape)[top] for offset in self.offsets_nm)
        z = -self.heights_nm[top]
        # x^2 + y^2 + z^2 = 2 (cx x + cy y + cz z) + (R^2 - c^2)
        terms = np.stack([2 * x, 2 * y, 2 * z, np.ones_like(z)], axis=1)
        solution, _, rank, _ = np.linalg.lstsq(terms, x**2 + y**2 + z**2, rcond=1e-10)
        if rank < 4:
            raise ValueError(
                f"the {z.size} samples within {depth_nm:g} nm over the tip's apex show no "
                f"curvature; fit a greater depth or sample it finer than {max(self.step_nm):g} nm"
            )
        centre, rest = solution[:3], solution[3]
        return float(np.sqrt(centre @ centre + rest))

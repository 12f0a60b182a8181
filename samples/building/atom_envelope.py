"""The envelope of spheres around atoms, seen from above: a molecule's, or an endless surface's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from nanophantom.simcore.atoms import Floats, Ints

_MOST_BINS = 1000  # along an edge


@dataclass(frozen=True, eq=False)
class Envelope:
    """Spheres sorted into bins of the plane, those that reach highest first in each.

    A place is looked up in its bin, where the search ends with the first sphere that lies wholly
    below what was found.

    Attributes
    ----------
    origin_nm, lattice_nm
        Corner (2,) and edges, as rows (2, 2), of the parallelogram that the bins divide: a cell
        that repeats itself, or a rectangle around all spheres.
    repeats
        Whether it repeats itself.
    bins
        Number of bins along both edges.
    start, sphere, centre_nm
        Spheres of bin n are those from start[n] to start[n + 1] - 1: which sphere, shape (m,), and
        where its copy that reaches into the bin lies, (m, 2).
    z_nm, radius_nm
        Heights of the centres and radii of the spheres, shape (n,).
    """

    origin_nm: Floats
    lattice_nm: Floats
    repeats: bool
    bins: tuple[int, int]
    start: Ints
    sphere: Ints
    centre_nm: Floats
    z_nm: Floats
    radius_nm: Floats

    @classmethod
    def of(cls, centres_nm: Floats, radius_nm: Floats, lattice_nm: Floats | None) -> Envelope:
        """Sort spheres into bins.

        Parameters
        ----------
        centres_nm
            (x, y, z), shape (n, 3), z upwards.
        radius_nm
            Shape (n,).
        lattice_nm
            Vectors (x, y) along which they are repeated without end, as rows, shape (2, 2); None
            if they aren't.
        """
        places, z = centres_nm[:, :2], np.ascontiguousarray(centres_nm[:, 2])
        origin = np.zeros(2)
        repeats = lattice_nm is not None
        if lattice_nm is None:
            low = (places - radius_nm[:, None]).min(axis=0)
            high = (places + radius_nm[:, None]).max(axis=0)
            origin, lattice_nm = low, np.diag(high - low)
        inverse = np.linalg.inv(lattice_nm)
        per_nm = np.linalg.norm(inverse, axis=0)  # 1 / height of the cell over either edge
        typical = float(np.median(radius_nm)) / 2
        across, down = (int(np.clip(1 / (p * typical), 1, _MOST_BINS)) for p in per_nm)
        start, sphere, centre = _sorted_into_bins(
            (places - origin) @ inverse,
            np.asarray(radius_nm[:, None] * per_nm, np.float64),
            np.argsort(-(z + radius_nm), kind="stable"),
            (across, down),
            repeats,
        )
        return cls(
            origin,
            lattice_nm,
            repeats,
            (across, down),
            start,
            sphere,
            centre @ lattice_nm + origin,
            z,
            radius_nm,
        )

    def heights(
        self, x_nm: Floats, y_nm: Floats, floor_nm: float = 0.0
    ) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Return the height at places (x, y) and the sphere that is on top there.

        z = max(floor, z_i + sqrt(r_i^2 - rho_i^2)) over the spheres with rho_i <= r_i.

        Parameters
        ----------
        x_nm, y_nm
            Of one shape.
        floor_nm
            Height where there is no sphere, or only lower ones.

        Returns
        -------
        heights_nm, sphere : ndarray
            Of that shape; the sphere is -1 on the floor.
        """
        x, y = (np.ravel(v).astype(np.float64) for v in np.broadcast_arrays(x_nm, y_nm))
        heights, sphere = _on_top(
            x,
            y,
            self.origin_nm,
            self.lattice_nm,
            np.asarray(np.linalg.inv(self.lattice_nm), np.float64),
            self.repeats,
            self.bins,
            self.start,
            self.sphere,
            self.centre_nm,
            self.z_nm,
            self.radius_nm,
            floor_nm,
        )
        shape = np.broadcast_shapes(np.shape(x_nm), np.shape(y_nm))
        return heights.reshape(shape), sphere.reshape(shape)

    def showing(self, step_nm: float, most: int) -> npt.NDArray[np.bool_]:
        """Say which spheres are on top anywhere, found by samples a step apart, shape (n,).

        Of at most so many samples along an edge, further apart if need be.
        """
        edges = np.linalg.norm(self.lattice_nm, axis=1)
        nx, ny = (int(np.clip(np.ceil(edge / step_nm), 1, most)) for edge in edges)
        shows = np.zeros(len(self.z_nm), np.bool_)
        along = ((np.arange(nx) + 0.5) / nx)[:, None] * self.lattice_nm[0] + self.origin_nm
        for share in (np.arange(ny) + 0.5) / ny:
            x, y = (along + share * self.lattice_nm[1]).T
            on_top = self.heights(x, y, floor_nm=-np.inf)[1]
            shows[on_top[on_top >= 0]] = True
        return shows


@numba.njit(cache=True)
def _sorted_into_bins(
    share: Floats, reach: Floats, order: Ints, bins: tuple[int, int], repeats: bool
) -> Any:
    """Return start (bins + 1,), sphere (m,) and the copies' places as shares of the edges (m, 2).

    Places and reach of the spheres are given as shares of the edges, shape (n, 2); each bin's
    spheres come in the given order.
    """
    across, down = bins
    start = np.zeros(across * down + 1, np.int64)
    sphere = np.empty(0, np.int64)
    centre = np.empty((0, 2))
    filled = np.zeros(across * down, np.int64)
    for pass_ in range(2):  # count, then fill
        if pass_ == 1:
            start = np.concatenate((np.zeros(1, np.int64), np.cumsum(filled)))
            sphere = np.empty(start[-1], np.int64)
            centre = np.empty((start[-1], 2))
            filled[:] = 0
        for i in order:
            low, high = share[i] - reach[i], share[i] + reach[i]
            # the copies whose square reaches into the parallelogram
            first = np.ceil(-high) if repeats else np.zeros(2)
            last = np.floor(1 - low) if repeats else np.zeros(2)
            for sx in range(int(first[0]), int(last[0]) + 1):
                c0 = max(0, int(np.floor((low[0] + sx) * across)))
                c1 = min(across - 1, int(np.floor((high[0] + sx) * across)))
                for sy in range(int(first[1]), int(last[1]) + 1):
                    r0 = max(0, int(np.floor((low[1] + sy) * down)))
                    r1 = min(down - 1, int(np.floor((high[1] + sy) * down)))
                    for r in range(r0, r1 + 1):
                        for c in range(c0, c1 + 1):
                            n = r * across + c
                            if pass_ == 1:
                                where = start[n] + filled[n]
                                sphere[where] = i
                                centre[where, 0] = share[i, 0] + sx
                                centre[where, 1] = share[i, 1] + sy
                            filled[n] += 1
    return start, sphere, centre


@numba.njit(cache=True, nogil=True)
def _on_top(
    x: Floats,
    y: Floats,
    origin: Floats,
    lattice: Floats,
    inverse: Floats,
    repeats: bool,
    bins: tuple[int, int],
    start: Ints,
    sphere: Ints,
    centre: Floats,
    z: Floats,
    radius: Floats,
    floor: float,
) -> Any:
    """Return the heights at places (x, y), shape (n,), and which sphere is on top."""
    heights = np.full(len(x), floor)
    on_top = np.full(len(x), -1, np.int64)
    across, down = bins
    for k in range(len(x)):
        px, py = x[k] - origin[0], y[k] - origin[1]
        u = px * inverse[0, 0] + py * inverse[1, 0]
        v = px * inverse[0, 1] + py * inverse[1, 1]
        if repeats:
            nu, nv = np.floor(u), np.floor(v)
            px -= nu * lattice[0, 0] + nv * lattice[1, 0]
            py -= nu * lattice[0, 1] + nv * lattice[1, 1]
            u, v = u - nu, v - nv
        elif not (0 <= u <= 1 and 0 <= v <= 1):
            continue
        px, py = px + origin[0], py + origin[1]
        n = min(int(v * down), down - 1) * across + min(int(u * across), across - 1)
        for entry in range(start[n], start[n + 1]):
            i = sphere[entry]
            if z[i] + radius[i] <= heights[k]:
                break
            rho2 = (px - centre[entry, 0]) ** 2 + (py - centre[entry, 1]) ** 2
            if rho2 <= radius[i] ** 2:
                height = z[i] + np.sqrt(radius[i] ** 2 - rho2)
                if height > heights[k]:
                    heights[k] = height
                    on_top[k] = i
    return heights, on_top

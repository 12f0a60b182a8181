"""The support of particles: how rough it is, and what it is likely to be under them.

It is only seen around a particle. From there its height under it is predicted by its own
autocorrelation (kriging), which says too how wrong that may be.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import spatial

from nanophantom.analysis.robust import robust_sigma
from nanophantom.analysis.roughness import fit_autocorrelation

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

NEIGHBOURS = 60
"""Places on the support from which its height under a particle is predicted."""


class Support:
    """The support as it is seen, `clear` of particles; sq_nm is its roughness."""

    def __init__(self, z: Floats, clear: Bools, pixel: tuple[float, float]) -> None:
        self.variance, self.length, self.nugget = 0.0, 0.0, float(np.var(z[clear]))
        try:
            fit = fit_autocorrelation(z, pixel, mask=~clear)
            self.variance, self.length = fit.sq_nm**2, fit.correlation_length_nm
            self.nugget = fit.noise_nm**2
        except ValueError:
            pass  # flat, or rough below a pixel: the mean is all that neighbours tell
        self.sq_nm = float(np.sqrt(self.variance if self.variance > 0 else self.nugget))
        step = max(1, int(self.length / max(pixel) / 4))
        y, x = np.nonzero(clear)
        chosen = (y % step == 0) & (x % step == 0)
        y, x = y[chosen], x[chosen]
        self.places = np.stack([y * pixel[0], x * pixel[1]], axis=1)
        self.mean = float(np.mean(z[clear]))
        self.heights = z[y, x] - self.mean
        self.tree = spatial.cKDTree(self.places) if len(y) else None
        self.pixels = int(np.count_nonzero(clear))

    def under(self, y_nm: float, x_nm: float) -> tuple[float, float]:
        """Return the predicted height at a place, and its standard uncertainty."""
        if self.variance <= 0 or self.tree is None or len(self.places) < 8:
            return self.mean, float(np.sqrt(self.nugget / self.pixels))
        distance, near = self.tree.query((y_nm, x_nm), min(NEIGHBOURS, len(self.places)))
        places = self.places[near]
        between = spatial.distance.squareform(spatial.distance.pdist(places))
        k = self.variance * np.exp(-((between / self.length) ** 2))
        # A Gaussian autocorrelation alone is nearly singular, and no surface is that smooth.
        k[np.diag_indices(len(k))] += self.nugget + 1e-3 * self.variance
        c = self.variance * np.exp(-((distance / self.length) ** 2))
        weights = np.linalg.solve(k, c)
        left = max(self.variance - float(weights @ c), 1e-3 * self.variance)
        return self.mean + float(weights @ self.heights[near]), float(np.sqrt(left))


def pixel_noise_nm(z: Floats, ground: Bools) -> float:
    """Return the noise of pixels, from third differences along x: surfaces bend little."""
    third = z[:, 3:] - 3 * z[:, 2:-1] + 3 * z[:, 1:-2] - z[:, :-3]
    usable = ground[:, 3:] & ground[:, :-3]
    if not np.any(usable):
        raise ValueError("particles leave too little of the support to be seen")
    return float(robust_sigma(third[usable]) / np.sqrt(20))

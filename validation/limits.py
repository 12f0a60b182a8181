"""What physics allows: the precision and the visibility that counting statistics leave.

Electrons arrive independently, so each pixel's count is Poisson distributed about its
expectation. No unbiased algorithm locates a column better than the Cramér-Rao bound of
these counts, however clever it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline
from scipy.spatial import cKDTree
from scipy.stats import poisson

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PositionLimit:
    """Cramér-Rao bounds of positions, one a column; infinite where no count tells anything."""

    sigma_x_nm: Floats
    sigma_y_nm: Floats

    @property
    def radial_nm(self) -> Floats:
        """Root mean square distance from the truth, sqrt(sigma_x^2 + sigma_y^2)."""
        return np.hypot(self.sigma_x_nm, self.sigma_y_nm)


def position_limit(
    expected_counts: npt.ArrayLike,
    x_nm: Floats,
    y_nm: Floats,
    pixel_size_nm: float,
    radius_nm: float = 0.12,
) -> PositionLimit:
    """Bound the precision with which columns can be located in an image.

    The unknown is a shift of a column's own patch, the pixels nearer to it than to any other
    column and within a radius; all else (its shape, its brightness, the drift) counts as known.
    The Fisher matrix of such a shift is J = sum over the patch of (grad λ)(grad λ)^T / λ, and
    the bound on each coordinate the root of the diagonal of its inverse.

    Parameters
    ----------
    expected_counts
        Noise-free image λ, shape (ny, nx): expected counts a pixel, summed over all frames that
        the algorithm gets; or images of several detectors, shape (detectors, ny, nx), that share
        no electron, so that their information adds.
    x_nm, y_nm
        Centres of all columns, shape (n,); the centre of pixel (0, 0) lies at the origin.
    pixel_size_nm
        Distance of pixels.
    radius_nm
        Radius of a patch.

    References
    ----------
    A. J. den Dekker et al., Ultramicroscopy 104 (2005) 83 (electron microscopy);
    K. I. Mortensen et al., Nature Methods 7 (2010) 377 (spot on a background).
    """
    counts = np.asarray(expected_counts, dtype=np.float64)
    owner = _patches(counts.shape[-2:], x_nm, y_nm, pixel_size_nm, radius_nm)
    owner = np.broadcast_to(owner, counts.shape)
    seen = (owner >= 0) & (counts > 0)
    slope_x = _slope(counts, axis=-1)[seen] / pixel_size_nm
    slope_y = _slope(counts, axis=-2)[seen] / pixel_size_nm

    def over_patches(values: Floats) -> Floats:
        sums = np.bincount(owner[seen], values / counts[seen], minlength=len(x_nm))
        return np.asarray(sums, dtype=np.float64)

    J_xx, J_yy = over_patches(slope_x**2), over_patches(slope_y**2)
    J_xy = over_patches(slope_x * slope_y)
    determinant = J_xx * J_yy - J_xy**2
    knows = determinant > 1e-12 * J_xx * J_yy
    variance_x, variance_y = np.full((2, len(x_nm)), np.inf)
    variance_x[knows] = J_yy[knows] / determinant[knows]
    variance_y[knows] = J_xx[knows] / determinant[knows]
    return PositionLimit(np.sqrt(variance_x), np.sqrt(variance_y))


def visibility(
    expected_counts: npt.ArrayLike,
    x_nm: Floats,
    y_nm: Floats,
    pixel_size_nm: float,
    radius_nm: float = 0.12,
) -> Floats:
    """Return d', how clearly each column's patch stands out from a flat one.

    d'^2 = sum over the patch of (λ - mean λ)^2 / mean λ is the signal-to-noise ratio of the
    matched filter that knows the column's picture and asks: column, or flat area with as many
    counts? The criterion of A. Rose (J. Opt. Soc. Am. 38 (1948) 196) asks for about 5.
    Parameters as for :func:`position_limit`; shape (n,), zero where a column has no pixels.
    """
    counts = np.asarray(expected_counts, dtype=np.float64)
    owner = _patches(counts.shape, x_nm, y_nm, pixel_size_nm, radius_nm)
    seen = owner >= 0
    label, value = owner[seen], counts[seen]
    pixels = np.bincount(label, minlength=len(x_nm))
    mean = np.bincount(label, value, minlength=len(x_nm)) / np.maximum(pixels, 1)
    spread = np.bincount(label, (value - mean[label]) ** 2, minlength=len(x_nm))
    signal = np.divide(spread, mean, out=np.zeros_like(mean), where=mean > 0)
    return np.asarray(np.sqrt(signal), dtype=np.float64)


def share_countable(electrons: npt.ArrayLike, n_atoms: npt.ArrayLike) -> float:
    """Return the share of columns whose atoms the best of all algorithms counts right.

    It knows the mean number of electrons that columns of each number of atoms send to the
    detector, and how frequent each number is, and takes the likeliest one (Bayes). What remains
    is the overlap of the Poisson distributions: A. De Backer et al., Ultramicroscopy 151 (2015) 46.

    Parameters
    ----------
    electrons
        Expected on the detector, one value a column, shape (n,).
    n_atoms
        True numbers, shape (n,).
    """
    expected, n_true = np.asarray(electrons, np.float64), np.asarray(n_atoms)
    numbers, size = np.unique(n_true, return_counts=True)
    means = np.array([expected[n_true == n].mean() for n in numbers])
    highest = int(np.ceil(means.max() + 12 * np.sqrt(means.max()) + 12))
    counts = np.arange(highest + 1)
    likely = size[:, None] / size.sum() * poisson.pmf(counts[None, :], means[:, None])
    return float(likely.max(axis=0).sum())


def thickness_limit(expected_counts: npt.ArrayLike, thickness_nm: npt.ArrayLike) -> Floats:
    """Bound the precision with which a thickness can be read from one diffraction pattern.

    The Fisher information of the thickness t is J = sum over pixels of (dλ/dt)^2 / λ, all else
    known; the bound is 1 / sqrt(J).

    Parameters
    ----------
    expected_counts
        Noise-free patterns λ of a series of thicknesses, shape (n, ny, nx).
    thickness_nm
        Rising, shape (n,), close enough for a cubic spline to give dλ/dt.

    Returns
    -------
    ndarray
        Bounds in nm, shape (n,); infinite for fewer than four thicknesses.
    """
    counts, t = np.asarray(expected_counts, np.float64), np.asarray(thickness_nm, np.float64)
    if len(t) < 4:
        return np.full(len(t), np.inf)
    slope = CubicSpline(t, counts, axis=0)(t, 1)
    information = np.divide(slope**2, counts, out=np.zeros_like(counts), where=counts > 0)
    with np.errstate(divide="ignore"):
        return np.asarray(1 / np.sqrt(information.sum(axis=(1, 2))), np.float64)


def _patches(
    shape: tuple[int, ...], x_nm: Floats, y_nm: Floats, pixel_size_nm: float, radius_nm: float
) -> Ints:
    """Return for each pixel the index of its column, -1 beyond the radius of every one."""
    if not len(x_nm):
        return np.full(shape, -1, np.int64)
    y, x = np.indices(shape) * pixel_size_nm
    _, nearest = cKDTree(np.column_stack([x_nm, y_nm])).query(
        np.column_stack([x.ravel(), y.ravel()]), distance_upper_bound=radius_nm
    )
    return np.where(nearest == len(x_nm), -1, nearest).reshape(shape).astype(np.int64)


def _slope(image: Floats, axis: int) -> Floats:
    """Return the derivative per pixel, of the cubic spline through the pixels.

    Its error, (2 pi k)^4 / 180 at k cycles a pixel, stays below a percent for images sampled
    as an atomic one must be; differences of neighbours would lose (2 pi k)^2 / 6 of the slope.
    """
    pixels = np.arange(image.shape[axis])
    return np.asarray(CubicSpline(pixels, image, axis=axis)(pixels, 1), dtype=np.float64)

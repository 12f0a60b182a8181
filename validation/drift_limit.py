"""How well the drift of a series can be known when nobody knows the specimen either.

Frame i shows the counts λ(x - d_i). Both the n shifts and every pixel of λ are unknown and must
come from the same counts. A frame tells its shift by g = ∇λ with the Fisher matrix
M = sum over pixels of g gᵀ / λ if λ is known. To know λ as well costs what all frames have in
common: with Lagrange's multipliers or by profiling λ out, the Fisher matrix of the shifts is

    J_ij = (δ_ij - 1/n) M.

Its null vector is the shift of all frames together, which nothing can tell from a specimen that
lies elsewhere. Relative to their mean the shifts have the covariance (δ_ij - 1/n) M⁻¹: two
frames differ by 2 M⁻¹, as for two noisy images; of many frames each has M⁻¹, as if λ were known.

λ counts as free pixel by pixel and the bound as local: an estimator reaches it when the sum of
all frames shows the structure clearly, not when the sum itself is lost in noise.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline

Floats = npt.NDArray[np.float64]


def drift_limit(expected_counts: npt.ArrayLike, n_frames: int) -> Floats:
    """Bound the precision of the shifts of a series whose specimen is unknown.

    Parameters
    ----------
    expected_counts
        Noise-free image of one frame, expected counts a pixel, shape (ny, nx), sampled finely
        enough for cubic splines to give its slope.
    n_frames
        Number of such frames, 2 or more.

    Returns
    -------
    (2,) float64
        Standard deviation along y and x, in pixels, of a frame's shift relative to the mean
        shift of all frames; infinite along an axis about which the image tells nothing.

    Raises
    ------
    ValueError
        The image isn't one of finite, non-negative numbers, or there are fewer than 2 frames.

    References
    ----------
    D. Robinson and P. Milanfar, IEEE Trans. Image Process. 13 (2004) 1185: the bound of a known
    image in white noise.
    """
    counts = np.asarray(expected_counts, np.float64)
    if counts.ndim != 2 or not np.isfinite(counts).all() or counts.min(initial=0) < 0:
        raise ValueError(
            "expected_counts must be one image (ny, nx) of finite counts, none below 0"
        )
    if n_frames < 2:
        raise ValueError(f"a drift takes 2 frames or more, got {n_frames}")
    seen = counts > 0
    slopes = [
        CubicSpline(np.arange(counts.shape[axis]), counts, axis=axis)(
            np.arange(counts.shape[axis]), 1
        )[seen]
        for axis in (0, 1)
    ]
    information = np.array([[np.sum(a * b / counts[seen]) for b in slopes] for a in slopes])
    yy, xx, yx = information[0, 0], information[1, 1], information[0, 1]
    determinant = yy * xx - yx**2
    if determinant <= 1e-12 * yy * xx:  # structure along one direction only, or none
        with np.errstate(divide="ignore"):
            alone = 1 / np.array([yy, xx])
        variance = np.where(np.array([yy, xx]) > 1e-12 * max(yy, xx), alone, np.inf)
        if yx != 0:
            variance = np.full(2, np.inf)
    else:
        variance = np.array([xx, yy]) / determinant
    return np.asarray(np.sqrt((1 - 1 / n_frames) * variance), np.float64)

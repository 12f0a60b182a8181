"""Denoising of counted images: the Anscombe transform, non-local means and total variation.

The noise of counts grows with the signal. The generalised Anscombe transform makes it one
everywhere, so a denoiser for uniform noise of known strength may be used. Its algebraic inverse
would return too low a mean; the exact unbiased inverse returns the mean of the counts.

A lattice repeats itself: non-local means average pixels whose surroundings look alike, wherever
they are, and so resolve more than any smoothing. Total variation suits flat areas with sharp
edges. Both lean on what is common: a lone vacancy or a heavy column is pulled towards its
neighbours, which a better signal-to-noise ratio doesn't show. Measure heights on the counts.
"""

from __future__ import annotations

from typing import Any, Literal

import numba
import numpy as np
import numpy.typing as npt
from scipy.special import erf

from nanophantom.analysis.filters import smooth

FloatArray = npt.NDArray[np.float64]
Method = Literal["nlm", "tv"]

GUIDE_SIGMA_PX = (0.5, 1.2)
"""Patches are compared after smoothing with a Gaussian: the wider up to one electron per pixel."""
HALF_PATCH_PX = 6
REACH_PX = 20
"""How far away a pixel that is averaged may lie: a few cells of a lattice."""
LIKENESS = 0.5
"""Mean square difference of two patches, beyond noise, at which a weight falls to 1/e."""
TV_WEIGHT = 1.0
TILE_PX = 128
"""Side of the tiles that are denoised at a time: what fits a processor's cache."""


def denoise(
    image: npt.ArrayLike,
    method: Method = "nlm",
    gain: float = 1.0,
    offset: float = 0.0,
    read_noise: float = 0.0,
    strength: float = 1.0,
) -> FloatArray:
    """Estimate the expectation of an image of counts.

    Parameters
    ----------
    image : (ny, nx) array
        gain * Poisson + offset + Gaussian noise.
    method : {"nlm", "tv"}
        Non-local means (for lattices), or total variation (flat areas with edges).
    gain, offset, read_noise : float
        Values per electron, value of a pixel without electrons, and standard deviation of the
        Gaussian noise in values.
    strength : float
        One trusts the noise model; more smooths more.

    Returns
    -------
    estimate : (ny, nx) float64
        In the values of the image.

    Raises
    ------
    ValueError
        If the image isn't finite and two-dimensional with sides of 16 or more, the method is
        unknown, gain or strength isn't positive or the read noise is negative.

    Notes
    -----
    Non-local means: patches of 13 x 13 pixels are compared in the stabilised, smoothed image;
    the difference that noise alone makes is known and taken off. The raw counts are averaged,
    rather than their transforms: pixels that are alike but not equal then give their mean.
    Total variation: Chambolle's algorithm (J. Math. Imaging Vis. 20 (2004) 89) between the
    transform and its exact unbiased inverse.
    """
    values = np.asarray(image)
    if values.ndim != 2 or min(values.shape) < 16 or values.dtype.kind not in "uif":
        raise ValueError(
            "image must be (ny, nx) real numbers with sides of 16 or more, got "
            f"{values.dtype} {values.shape}"
        )
    if not np.all(np.isfinite(values)):
        raise ValueError("image must be finite: it holds NaN or infinite values")
    if not (np.isfinite(gain) and gain > 0 and np.isfinite(strength) and strength > 0):
        raise ValueError(f"gain and strength must be positive, got {gain} and {strength}")
    if not (np.isfinite(offset) and np.isfinite(read_noise) and read_noise >= 0):
        raise ValueError(f"read_noise must be zero or more and offset finite, got {read_noise}")
    electrons = (values.astype(np.float64) - offset) / gain
    noise = read_noise / gain
    if method == "nlm":
        estimate = _non_local_means(electrons, noise, strength)
    elif method == "tv":
        from skimage.restoration import denoise_tv_chambolle

        stable = anscombe(electrons, read_noise=noise)
        total_variation: Any = denoise_tv_chambolle
        smoothed = total_variation(stable, TV_WEIGHT * strength, eps=1e-5, max_num_iter=200)
        estimate = inverse_anscombe(smoothed, read_noise=noise)
    else:
        raise ValueError(f'method must be "nlm" or "tv", got {method!r}')
    return estimate * gain + offset


def anscombe(
    values: npt.ArrayLike, gain: float = 1.0, offset: float = 0.0, read_noise: float = 0.0
) -> FloatArray:
    """Return the generalised Anscombe transform, whose noise has a variance of one.

    2 sqrt(x + 3/8 + s²) of x = (values - offset) / gain electrons and a read noise of s electrons,
    zero where the root would be of a negative number (Starck, Murtagh and Bijaoui 1998). Below
    about four electrons the variance falls short of one unless the read noise is as large.
    """
    electrons = (np.asarray(values, np.float64) - offset) / gain
    return np.asarray(2 * np.sqrt(np.maximum(electrons + 0.375 + (read_noise / gain) ** 2, 0)))


def inverse_anscombe(
    transformed: npt.ArrayLike, gain: float = 1.0, offset: float = 0.0, read_noise: float = 0.0
) -> FloatArray:
    """Return the expectation of values whose transform has this expectation.

    The closed form of Mäkitalo and Foi (IEEE Trans. Image Process. 20 (2011) 2697), with the
    read noise as they extended it (22 (2013) 91). No mean of transforms of mere counts lies below
    2 sqrt(3/8), the transform of zero; what lies below counts as that.
    """
    d = np.maximum(np.asarray(transformed, np.float64), 2 * np.sqrt(0.375))
    root = np.sqrt(1.5)
    electrons = d**2 / 4 - 1 / 8 + root / (4 * d) - 11 / (8 * d**2) + 5 * root / (8 * d**3)
    return np.asarray((electrons - (read_noise / gain) ** 2) * gain + offset)


def _non_local_means(electrons: FloatArray, read_noise: float, strength: float) -> FloatArray:
    """Average the electrons of pixels with like surroundings."""
    # The more electrons, the finer the detail by which patches can be told apart.
    finest, widest = GUIDE_SIGMA_PX
    mean = max(float(np.mean(electrons)), 1.0)
    sigma = max(finest, widest * mean**-0.45)
    # The smoothed image times the pixels under the smoothing has the noise of so many counts.
    pixels = 4 * np.pi * sigma**2 / erf(np.pi * sigma) ** 2
    noise = read_noise * np.sqrt(pixels)
    guide = anscombe(smooth(electrons, sigma) * pixels, read_noise=noise)
    pad = HALF_PATCH_PX + REACH_PX
    values, guide = (np.pad(a, pad, "symmetric") for a in (electrons, guide))
    estimate = np.empty_like(electrons)
    for y in range(0, electrons.shape[0], TILE_PX):
        for x in range(0, electrons.shape[1], TILE_PX):
            tile = estimate[y : y + TILE_PX, x : x + TILE_PX]
            ny, nx = tile.shape
            part = np.s_[y : y + ny + 2 * pad, x : x + nx + 2 * pad]
            tile[:] = _average_of_alike(
                values[part].astype(np.float32),
                guide[part].astype(np.float32),
                HALF_PATCH_PX,
                REACH_PX,
                LIKENESS * strength,
            )
    return estimate


@numba.njit(cache=True, nogil=True, fastmath=True)
def _average_of_alike(
    values: npt.NDArray[np.float32],
    guide: npt.NDArray[np.float32],
    half_patch: int,
    reach: int,
    likeness: float,
) -> npt.NDArray[np.float32]:
    """Return the weighted means over all pixels within reach; the arrays are padded by both.

    Offset by offset, the squared differences are summed over patches: down the columns by a
    running sum, along the rows in a few steps of doubled length. The noise of both patches makes
    a mean square difference of two; what is in excess, over the likeness, weighs
    (1 - excess / 8)**8, which is close to exp(-excess) and ends.
    """
    pad = half_patch + reach
    ny, nx = values.shape[0] - 2 * pad, values.shape[1] - 2 * pad
    side = 2 * half_patch + 1
    wide = nx + 2 * half_patch
    total, weight = np.zeros((ny, nx), np.float32), np.zeros((ny, nx), np.float32)
    column, sums = np.zeros(wide, np.float32), np.zeros(wide, np.float32)
    patch = np.zeros(nx, np.float32)
    scale = np.float32(1 / (8 * likeness * side * side))
    free = np.float32(2 / (8 * likeness))
    for oy in range(-reach, reach + 1):
        for ox in range(-reach, reach + 1):
            if oy * oy + ox * ox > reach * reach:
                continue
            column[:] = 0.0
            for y in range(ny + 2 * half_patch):
                here = guide[y + reach, reach : reach + wide]
                there = guide[y + reach + oy, reach + ox : reach + ox + wide]
                for x in range(wide):
                    column[x] += (here[x] - there[x]) ** 2
                top = y - 2 * half_patch
                if top < 0:
                    continue
                sums[:] = column
                patch[:] = 0.0
                length, done = 1, 0
                while length <= side:  # the binary digits of the side
                    if side & length:
                        for x in range(nx):
                            patch[x] += sums[x + done]
                        done += length
                    for x in range(wide - length):
                        sums[x] += sums[x + length]
                    length *= 2
                there = values[top + pad + oy, pad + ox : pad + ox + nx]
                for x in range(nx):
                    w = 1 - max(patch[x] * scale - free, np.float32(0))
                    w = max(w, np.float32(0))
                    w *= w
                    w *= w
                    w *= w
                    total[top, x] += w * there[x]
                    weight[top, x] += w
                here = guide[top + reach, reach : reach + wide]
                there = guide[top + reach + oy, reach + ox : reach + ox + wide]
                for x in range(wide):
                    column[x] -= (here[x] - there[x]) ** 2
    return (total / weight).astype(np.float32)

"""Roughness of a surface, Sq and T, from the autocorrelation of a height image.

An image shows little of a surface: heights within a correlation length T go together, so an area A
holds about A/T² independent ones, and levelling takes some of the variance too. Hence
:func:`fit_autocorrelation` gives Sq and T of the surface that was cut out and levelled, each with
its standard uncertainty.

Masks are true where a pixel is left out, as in :mod:`nanophantom.analysis.levelling`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy import optimize

from nanophantom.analysis.kept_variance import Shape, check_shape, correlation, kept_variance
from nanophantom.analysis.masked_heights import unmasked
from nanophantom.simcore.pixel_size import PixelSize, pixel_pair

Floats = npt.NDArray[np.float64]

FIT_RANGE = 1.5
"""Lags up to so many correlation lengths are fitted."""
ROUNDS = 20
UNCORRELATED = (
    "heights are uncorrelated from pixel to pixel, or correlated over all of the image: "
    "there is no correlation length to fit"
)


@dataclass(frozen=True)
class Correlation:
    """What a fit of the autocorrelation tells of the surface.

    Attributes
    ----------
    sq_nm, correlation_length_nm
        Sq and T of the surface, without what levelling took and without white noise.
    sq_uncertainty_nm, correlation_length_uncertainty_nm
        Standard uncertainties: the image is one of many that the surface could have given.
    measured_sq_nm
        Of the image as it is.
    kept_variance
        Share of the variance that levelling leaves, by expectation.
    noise_nm
        Standard deviation of what is uncorrelated from pixel to pixel; 0 if none is seen.
    """

    sq_nm: float
    correlation_length_nm: float
    sq_uncertainty_nm: float
    correlation_length_uncertainty_nm: float
    measured_sq_nm: float
    kept_variance: float
    noise_nm: float


def autocorrelation(
    image: npt.ArrayLike,
    mask: npt.ArrayLike | None = None,
    max_lag_px: tuple[int, int] | None = None,
    biased: bool = False,
) -> Floats:
    """Return the autocorrelation of heights about their mean, in nm².

    Parameters
    ----------
    image : (ny, nx)
        Heights in nm.
    mask : (ny, nx) bool, optional
        True where a pixel is left out.
    max_lag_px : (y, x), optional
        Largest lags; half the image by default.
    biased : bool
        Divide all sums by the number of pixels rather than each by its number of pairs: the
        Fourier transform of the power spectrum of the image among zeros, smaller at large lags.

    Returns
    -------
    (2 my + 1, 2 mx + 1)
        Lag 0, which is Sq**2, in the middle.

    Raises
    ------
    ValueError
        The image isn't finite and two-dimensional, a largest lag isn't within it, or the mask
        leaves no pair at some lag.
    """
    z, used = unmasked(image, mask)
    ny, nx = z.shape
    my, mx = (ny // 2, nx // 2) if max_lag_px is None else max_lag_px
    if not (0 <= my < ny and 0 <= mx < nx):
        raise ValueError(f"max_lag_px must lie within the {ny} x {nx} pixels, got {(my, mx)}")
    z = np.where(used, z - np.mean(z[used]), 0.0)
    sums = _lagged_sums(z, my, mx)
    if biased:
        return np.asarray(sums / np.count_nonzero(used))
    pairs = np.rint(_lagged_sums(used.astype(np.float64), my, mx))
    if np.any(pairs < 1):
        raise ValueError("the mask leaves no pair of pixels at some lag: lower max_lag_px")
    return np.asarray(sums / pairs)


def radial_autocorrelation(
    image: npt.ArrayLike, pixel_size_nm: PixelSize, mask: npt.ArrayLike | None = None
) -> tuple[Floats, Floats]:
    """Return the autocorrelation averaged over rings a pixel wide, up to half the shorter side.

    Returns
    -------
    lag_nm, acf_nm2 : (n,)

    Raises
    ------
    ValueError
        As :func:`autocorrelation`.
    """
    dy, dx = pixel_pair(pixel_size_nm)
    acf = autocorrelation(image, mask)
    my, mx = acf.shape[0] // 2, acf.shape[1] // 2
    r = np.hypot(np.arange(-my, my + 1)[:, None] * dy, np.arange(-mx, mx + 1) * dx)
    inside = r <= min(my * dy, mx * dx)
    ring = np.rint(r[inside] / max(dy, dx)).astype(np.int64)
    count = np.bincount(ring)
    return np.bincount(ring, r[inside]) / count, np.bincount(ring, acf[inside]) / count


def fit_autocorrelation(
    image: npt.ArrayLike,
    pixel_size_nm: PixelSize,
    acf: Shape = "gaussian",
    *,
    degree_x: int = 0,
    degree_y: int | None = 0,
    total_degree: int | None = None,
    mask: npt.ArrayLike | None = None,
) -> Correlation:
    """Return Sq and the correlation length T of an isotropic rough surface.

    The model Sq² exp(-r²/T²) or Sq² exp(-r/T), less what levelling takes of the variance, is
    fitted by least squares to the autocorrelation up to the lag 1.5 T. Lag 0 is left out: it
    holds the noise too. Levelling takes nearly the same at all lags much shorter than the image
    (D. Nečas, P. Klapetek and M. Valtr, arXiv:2001.00433); how much follows from T, so fit and
    correction take turns. The uncertainties are those of a normally distributed field: of its
    sample spectrum every harmonic has the variance S(k)², and both parameters are, to first
    order, weighted sums of them.

    Parameters
    ----------
    image : (ny, nx)
        Levelled heights in nm.
    pixel_size_nm : float or (y, x)
    acf : {"gaussian", "exponential"}
    degree_x, degree_y, total_degree
        Polynomial that was subtracted before, as in
        :func:`~nanophantom.analysis.kept_variance.kept_variance`; `degree_y` None if every row was
        levelled by itself: then only lags along x are fitted.
    mask : (ny, nx) bool, optional
        True where a pixel is left out.

    Raises
    ------
    ValueError
        The image isn't finite and two-dimensional, heights are uncorrelated from pixel to pixel,
        or correlated over more than a quarter of the image.
    """
    check_shape(acf)
    z, used = unmasked(image, mask)
    dy, dx = pixel_pair(pixel_size_nm)
    measured = autocorrelation(z, mask)
    my, mx = measured.shape[0] // 2, measured.shape[1] // 2
    y, x = np.mgrid[0 : my + 1, -mx : mx + 1]
    first_half = (y > 0) | (x > 0)  # the other is its mirror image
    if degree_y is None:
        first_half &= y == 0
    y, x = y[first_half], x[first_half]
    r, c = np.hypot(y * dy, x * dx), measured[my + y, mx + x]
    reach = mx * dx if degree_y is None else min(my * dy, mx * dx)
    length = _first_length(r, c, max(dx, dy) if degree_y is not None else dx, reach)
    variance, kept = float(np.max(c)), 1.0
    # Pixels of kept_variance are square.
    square = (max(1, round(z.shape[0] * dy / dx)), z.shape[1])
    for _ in range(ROUNDS):
        near = r <= FIT_RANGE * length
        if np.count_nonzero(near) < 3:
            raise ValueError(UNCORRELATED)
        before = length
        try:
            (variance, length), _ = optimize.curve_fit(
                lambda lag, v, t, taken=1 - kept: v * (correlation(lag, t, acf) - taken),
                r[near],
                c[near],
                p0=(variance, length),
                bounds=((0, 0), (np.inf, np.inf)),
            )
        except RuntimeError as error:  # v and t run away together
            raise ValueError(UNCORRELATED) from error
        if not dx / 4 < length < reach / 2:
            raise ValueError(
                f"the autocorrelation has no length between a pixel and a quarter of the image: "
                f"the fit gives {length:.3g} nm"
            )
        kept = kept_variance(square, length / dx, degree_x, degree_y, total_degree, acf)
        if abs(length - before) < 1e-4 * length:
            break
    near = r <= FIT_RANGE * length
    total = float(measured[my, mx])
    noise = max(0.0, total - kept * variance)
    lags, share = (y[near], x[near]), float(np.mean(used))
    spread = _uncertainties(z.shape, (dy, dx), lags, variance, length, acf, share, kept, noise)
    return Correlation(
        sq_nm=float(np.sqrt(variance)),
        correlation_length_nm=float(length),
        sq_uncertainty_nm=float(spread[0] / (2 * np.sqrt(variance))),
        correlation_length_uncertainty_nm=float(spread[1]),
        measured_sq_nm=float(np.sqrt(total)),
        kept_variance=kept,
        noise_nm=float(np.sqrt(noise)),
    )


def _lagged_sums(z: Floats, my: int, mx: int) -> Floats:
    """Return sum_x z(x) z(x + lag) for lags of -m to m."""
    shape = [
        scipy.fft.next_fast_len(n + m, real=True) for n, m in zip(z.shape, (my, mx), strict=True)
    ]
    spectrum = scipy.fft.rfft2(z, s=shape, workers=1)
    sums = scipy.fft.irfft2(np.abs(spectrum) ** 2, s=shape, workers=1)
    return np.asarray(sums[np.ix_(np.arange(-my, my + 1), np.arange(-mx, mx + 1))])


def _first_length(r: Floats, c: Floats, step: float, reach: float) -> float:
    """Return the lag at which the autocorrelation has fallen to 1/e of its value a pixel off."""
    ring = np.rint(r / step).astype(np.int64)
    mean = np.bincount(ring, c)[1:] / np.maximum(np.bincount(ring)[1:], 1)
    low = np.flatnonzero(mean[: int(reach / step)] < mean[0] / np.e)
    if mean[0] <= 0 or not len(low):
        raise ValueError(UNCORRELATED)
    return float((low[0] + 1) * step)


def _uncertainties(
    shape: tuple[int, ...],
    pixel: tuple[float, float],
    lags: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    variance: float,
    length: float,
    acf: Shape,
    used: float,
    kept: float,
    noise: float,
) -> Floats:
    """Return the standard uncertainties of the fitted variance and length."""
    (ny, nx), (y, x) = shape, lags
    r = np.hypot(y * pixel[0], x * pixel[1])
    rho = correlation(r, length, acf)
    order = 2 if acf == "gaussian" else 1
    by_length = variance * rho * order * (r / length) ** order / length
    fit = np.linalg.pinv(np.stack([rho - (1 - kept), by_length], axis=1))  # (2, lags)
    around = np.hypot(
        scipy.fft.fftfreq(ny, 1 / ny)[:, None] * pixel[0], scipy.fft.fftfreq(nx, 1 / nx) * pixel[1]
    )
    spectrum = scipy.fft.rfft2(variance * correlation(around, length, acf), workers=1).real
    spectrum += noise  # white
    twice = np.full(spectrum.shape[1], 2.0)
    twice[0] = 1.0
    if nx % 2 == 0:
        twice[-1] = 1.0
    spread = []
    for row in fit:
        weights = np.zeros((ny, nx))
        for sign in (1, -1):
            np.add.at(weights, (sign * y % ny, sign * x % nx), row / 2)
        gain = scipy.fft.rfft2(weights, workers=1).real
        spread.append(np.sqrt(2 * np.sum(twice * (spectrum * gain) ** 2) / used) / (ny * nx))
    return np.asarray(spread)

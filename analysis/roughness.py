"""Roughness of a height image: parameters of ISO 25178-2, power spectra, autocorrelation.

An image shows little of a surface: heights within a correlation length T go together, so an area A
holds about A/T² independent ones, and levelling takes some of the variance too. Hence
:func:`fit_autocorrelation` gives Sq and T of the surface that was cut out and levelled, each with
its standard uncertainty.

Masks are true where a pixel is left out, as in :mod:`nanophantom.analysis.levelling`. Pixel sizes
are one number, or those along (y, x).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy import ndimage, optimize, signal

from nanophantom.analysis.levelling import kept_variance

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
PixelSize = float | tuple[float, float]
Shape = Literal["gaussian", "exponential"]

SEVEN_POINTS = np.array([-1, 9, -45, 0, 45, -9, 1]) / 60
"""Derivative per pixel that ISO 25178-2 recommends, exact for polynomials up to degree 6."""
FIT_RANGE = 1.5
"""Lags up to so many correlation lengths are fitted."""
ROUNDS = 20


@dataclass(frozen=True)
class HeightParameters:
    """Height and hybrid parameters of ISO 25178-2, heights taken from their mean.

    Attributes
    ----------
    sa_nm, sq_nm
        Mean absolute and root mean square height.
    ssk, sku
        Skewness and kurtosis; 0 and 3 for normally distributed heights.
    sp_nm, sv_nm, sz_nm
        Highest peak, deepest pit (positive), and their sum.
    sdq
        Root mean square gradient.
    """

    sa_nm: float
    sq_nm: float
    ssk: float
    sku: float
    sp_nm: float
    sv_nm: float
    sz_nm: float
    sdq: float


@dataclass(frozen=True, eq=False)
class RadialSpectrum:
    """A two-dimensional power spectrum averaged over rings.

    Attributes
    ----------
    frequency_per_nm, psd_nm4 : (n,)
        Means over the ring.
    count : (n,)
        Harmonics in the ring; `sum(psd_nm4 * count) * cell_per_nm2` is Sq**2.
    cell_per_nm2 : float
        Area of reciprocal space that a harmonic stands for.
    """

    frequency_per_nm: Floats
    psd_nm4: Floats
    count: npt.NDArray[np.int64]
    cell_per_nm2: float


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


def parameters(
    image: npt.ArrayLike, pixel_size_nm: PixelSize, mask: npt.ArrayLike | None = None
) -> HeightParameters:
    """Return the parameters of a levelled image.

    The gradient takes pixels whose six neighbours along x, and along y, are all there.

    Parameters
    ----------
    image : (ny, nx)
        Heights in nm, finite where they aren't masked.
    pixel_size_nm : float or (y, x)
    mask : (ny, nx) bool, optional
        True where a pixel is left out.

    Raises
    ------
    ValueError
        The image isn't a map of at least 7 x 7 finite heights, all its heights are the same, or
        the mask leaves no pixel with all its neighbours.
    """
    z, used = _checked(image, mask)
    dy, dx = _pixel(pixel_size_nm)
    if min(z.shape) < 7:
        raise ValueError(f"a gradient needs 7 x 7 pixels or more, got {z.shape[0]} x {z.shape[1]}")
    z = z - np.mean(z[used])
    heights = z[used]
    sq = float(np.sqrt(np.mean(heights**2)))
    if sq <= 1e-14 * float(np.max(np.abs(np.asarray(image)[used]))):
        raise ValueError("all heights are the same: nothing is rough")
    squares = 0.0
    for axis, step in ((0, dy), (1, dx)):
        whole = ndimage.minimum_filter1d(used, 7, axis=axis, mode="constant", cval=0)
        if not np.any(whole):
            raise ValueError("the mask leaves nowhere seven pixels in a line for the gradient")
        slope = ndimage.correlate1d(np.where(used, z, 0.0), SEVEN_POINTS, axis=axis) / step
        squares += float(np.mean(slope[whole] ** 2))
    peak, pit = float(np.max(heights)), float(-np.min(heights))
    return HeightParameters(
        sa_nm=float(np.mean(np.abs(heights))),
        sq_nm=sq,
        ssk=float(np.mean(heights**3)) / sq**3,
        sku=float(np.mean(heights**4)) / sq**4,
        sp_nm=peak,
        sv_nm=pit,
        sz_nm=peak + pit,
        sdq=float(np.sqrt(squares)),
    )


def psd_1d(
    image: npt.ArrayLike,
    pixel_size_nm: PixelSize,
    axis: Literal["x", "y"] = "x",
    window: str | None = None,
) -> tuple[Floats, Floats]:
    """Return the mean power spectrum of an image's lines, one-sided.

    The image's mean is taken off, not the lines' own; theirs is the harmonic 0.

    Parameters
    ----------
    image : (ny, nx)
        Heights in nm.
    pixel_size_nm : float or (y, x)
    axis : {"x", "y"}
        Along which lines run.
    window : str, optional
        A window of :func:`scipy.signal.get_window`, as "hann". It is scaled to a mean square of
        1, so that the spectrum's integral still is Sq**2 by expectation; without, it is exactly.

    Returns
    -------
    frequency_per_nm, psd_nm3 : (n // 2 + 1,)
        `sum(psd_nm3) * frequency_per_nm[1]` is Sq**2.

    Raises
    ------
    ValueError
        The image isn't finite and two-dimensional.
    """
    z, _ = _checked(image, None)
    dy, dx = _pixel(pixel_size_nm)
    lines, step = (z, dx) if axis == "x" else (z.T, dy)
    lines = (lines - np.mean(lines)) * _window(window, lines.shape[1])
    n = lines.shape[1]
    power = np.mean(np.abs(scipy.fft.rfft(lines, axis=1, workers=1)) ** 2, axis=0)
    power[1 : (n + 1) // 2] *= 2  # harmonics whose conjugates aren't listed
    return np.asarray(scipy.fft.rfftfreq(n, step)), np.asarray(power * step / n)


def psd_2d(
    image: npt.ArrayLike, pixel_size_nm: PixelSize, window: str | None = None
) -> tuple[Floats, Floats, Floats]:
    """Return the power spectrum of an image; parameters as :func:`psd_1d`'s.

    Returns
    -------
    frequency_y_per_nm, frequency_x_per_nm, psd_nm4 : (ny,), (nx,), (ny, nx)
        Rising frequencies; `sum(psd_nm4)` times both their steps is Sq**2.

    Raises
    ------
    ValueError
        The image isn't finite and two-dimensional.
    """
    z, _ = _checked(image, None)
    dy, dx = _pixel(pixel_size_nm)
    ny, nx = z.shape
    windowed = (z - np.mean(z)) * _window(window, ny)[:, None] * _window(window, nx)
    power = np.abs(scipy.fft.fftshift(scipy.fft.fft2(windowed, workers=1))) ** 2
    fy, fx = (scipy.fft.fftshift(scipy.fft.fftfreq(n, d)) for n, d in ((ny, dy), (nx, dx)))
    return np.asarray(fy), np.asarray(fx), np.asarray(power * dy * dx / (ny * nx))


def radial_psd(
    image: npt.ArrayLike, pixel_size_nm: PixelSize, window: str | None = None
) -> RadialSpectrum:
    """Return the power spectrum averaged over rings as wide as the coarser frequency step.

    It goes on into the corners, so nothing of the variance is lost. Parameters and errors as
    :func:`psd_2d`'s.
    """
    fy, fx, psd = psd_2d(image, pixel_size_nm, window)
    step_y, step_x = fy[1] - fy[0], fx[1] - fx[0]
    f = np.hypot(fy[:, None], fx)
    ring = np.rint(f / max(step_y, step_x)).astype(np.int64).ravel()
    count = np.bincount(ring)
    frequency, power = (np.bincount(ring, v.ravel()) / count for v in (f, psd))
    return RadialSpectrum(frequency, power, count, float(step_y * step_x))


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
    z, used = _checked(image, mask)
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
    dy, dx = _pixel(pixel_size_nm)
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
        :func:`~nanophantom.analysis.levelling.kept_variance`; `degree_y` None if every row was
        levelled by itself: then only lags along x are fitted.
    mask : (ny, nx) bool, optional
        True where a pixel is left out.

    Raises
    ------
    ValueError
        The image isn't finite and two-dimensional, heights are uncorrelated from pixel to pixel,
        or correlated over more than a quarter of the image.
    """
    if acf not in ("gaussian", "exponential"):
        raise ValueError(f"acf must be 'gaussian' or 'exponential', got {acf!r}")
    z, used = _checked(image, mask)
    dy, dx = _pixel(pixel_size_nm)
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
        before = length
        (variance, length), _ = optimize.curve_fit(
            lambda lag, v, t, taken=1 - kept: v * (_rho(lag, t, acf) - taken),
            r[near],
            c[near],
            p0=(variance, length),
            bounds=((0, 0), (np.inf, np.inf)),
        )
        if not dx / 4 < length < reach / 2:
            raise ValueError(
                f"the autocorrelation has no length between a pixel and a quarter of the image: "
                f"the fit gives {length:.3g} nm"
            )
        kept = kept_variance(square, length / dx, degree_x, degree_y, total_degree, acf)
        if abs(length - before) < 1e-4 * length:
            break
    near = r <= FIT_RANGE * length
    spread = _uncertainties(
        z.shape, (dy, dx), (y[near], x[near]), variance, length, acf, float(np.mean(used)), kept
    )
    total = float(measured[my, mx])
    return Correlation(
        sq_nm=float(np.sqrt(variance)),
        correlation_length_nm=float(length),
        sq_uncertainty_nm=float(spread[0] / (2 * np.sqrt(variance))),
        correlation_length_uncertainty_nm=float(spread[1]),
        measured_sq_nm=float(np.sqrt(total)),
        kept_variance=kept,
        noise_nm=float(np.sqrt(max(0.0, total - kept * variance))),
    )


def _checked(image: npt.ArrayLike, mask: npt.ArrayLike | None) -> tuple[Floats, Bools]:
    """Return heights, 0 where they are masked, and which pixels are used."""
    z = np.asarray(image, np.float64)
    if z.ndim != 2 or min(z.shape) < 2:
        raise ValueError(f"an image has two axes of 2 or more pixels, got the shape {z.shape}")
    used = np.ones(z.shape, bool) if mask is None else ~np.asarray(mask, bool)
    if used.shape != z.shape:
        raise ValueError(f"the mask's shape {used.shape} isn't the image's, {z.shape}")
    if np.count_nonzero(used) < 2:
        raise ValueError("the mask leaves fewer than two pixels")
    if not np.all(np.isfinite(z[used])):
        raise ValueError("heights must be finite: mask NaN and infinite values")
    return np.where(used, z, 0.0), used


def _pixel(pixel_size_nm: PixelSize) -> tuple[float, float]:
    dy, dx = np.broadcast_to(np.asarray(pixel_size_nm, np.float64), 2)
    if not (0 < dy < np.inf and 0 < dx < np.inf):
        raise ValueError(f"pixel_size_nm must be positive, got {pixel_size_nm}")
    return float(dy), float(dx)


def _window(name: str | None, n: int) -> Floats:
    if name is None:
        return np.ones(n)
    w = np.asarray(signal.get_window(name, n), np.float64)
    return np.asarray(w / np.sqrt(np.mean(w**2)))


def _lagged_sums(z: Floats, my: int, mx: int) -> Floats:
    """Return sum_x z(x) z(x + lag) for lags of -m to m."""
    shape = [
        scipy.fft.next_fast_len(n + m, real=True) for n, m in zip(z.shape, (my, mx), strict=True)
    ]
    spectrum = scipy.fft.rfft2(z, s=shape, workers=1)
    sums = scipy.fft.irfft2(np.abs(spectrum) ** 2, s=shape, workers=1)
    return np.asarray(sums[np.ix_(np.arange(-my, my + 1), np.arange(-mx, mx + 1))])


def _rho(r: Floats, length: float, acf: Shape) -> Floats:
    return np.asarray(np.exp(-((r / length) ** 2)) if acf == "gaussian" else np.exp(-r / length))


def _first_length(r: Floats, c: Floats, step: float, reach: float) -> float:
    """Return the lag at which the autocorrelation has fallen to 1/e of its value a pixel off."""
    ring = np.rint(r / step).astype(np.int64)
    mean = np.bincount(ring, c)[1:] / np.maximum(np.bincount(ring)[1:], 1)
    low = np.flatnonzero(mean[: int(reach / step)] < mean[0] / np.e)
    if mean[0] <= 0 or not len(low):
        raise ValueError(
            "heights are uncorrelated from pixel to pixel, or correlated over all of the image: "
            "there is no correlation length to fit"
        )
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
) -> Floats:
    """Return the standard uncertainties of the fitted variance and length."""
    (ny, nx), (y, x) = shape, lags
    r = np.hypot(y * pixel[0], x * pixel[1])
    rho = _rho(r, length, acf)
    order = 2 if acf == "gaussian" else 1
    by_length = variance * rho * order * (r / length) ** order / length
    fit = np.linalg.pinv(np.stack([rho - (1 - kept), by_length], axis=1))  # (2, lags)
    around = np.hypot(
        scipy.fft.fftfreq(ny, 1 / ny)[:, None] * pixel[0], scipy.fft.fftfreq(nx, 1 / nx) * pixel[1]
    )
    spectrum = scipy.fft.rfft2(variance * _rho(around, length, acf), workers=1).real
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

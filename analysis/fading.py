"""Critical doses from a movie: how fast its reflections and rings fade.

The intensity of a reflection fades as exp(-N / N_c), N being the fluence. Each frame's Fourier
coefficient is the fading amplitude, turned by the phase of the frame's shift, plus the noise of
the counts: a complex Gaussian number of the same power at all frequencies nearby.

* Its power doesn't feel the shift. Summed over M modes it follows a noncentral chi^2 of 2 M
  degrees of freedom, whose mean lies above the signal's power by the noise floor.
* With known shifts the coefficients add up in phase. The mean phase is fitted along with the rest:
  the likelihood that is left after the best complex amplitude has been put in has an expectation
  that is greatest at the true N_c, the noise adding a constant. A frame's own noise therefore
  doesn't pull the estimate, as a phase taken from the sum of all frames would.

Both fits maximise the likelihood, their intervals are those of the profile likelihood. Frequencies
are in 1/Å and doses in e/Å² in laws N_c(k), as critical doses are published.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from nanophantom.analysis import rice
from nanophantom.analysis.dose_weighting import mid_exposures
from nanophantom.analysis.reflections import SpotSeries, spot_powers

FloatArray = npt.NDArray[np.float64]

COARSE, FINE = 64, 36
"""Critical doses at which the likelihood is taken: over the whole range, then near the maximum."""
NEGLIGIBLE = 8.0
"""Logarithm of the likelihood ratio to the maximum beyond which no detail is needed."""
EVERLASTING = 1e3
"""A critical dose of so many times the last fluence is taken for none."""


@dataclass(frozen=True, eq=False)
class Fading:
    """The critical dose of a reflection or ring.

    Attributes
    ----------
    critical_dose_e_per_A2 : float
        Fluence after which the intensity has fallen to 1/e; inf where it doesn't fall.
    lower_e_per_A2, upper_e_per_A2 : float
        Interval of the profile likelihood; 0 and inf where it is open.
    amplitude : float
        Amplitude at no fluence, in a frame of the mean dose.
    significance : float
        Root of twice the log-likelihood ratio to no signal at all.
    log_dose, log_likelihood : float64 arrays
        The profile: natural logarithms of the critical dose and of the likelihood.
    """

    critical_dose_e_per_A2: float
    lower_e_per_A2: float
    upper_e_per_A2: float
    amplitude: float
    significance: float
    log_dose: FloatArray
    log_likelihood: FloatArray

    @property
    def is_detected(self) -> bool:
        """False where no fading is detected: there is a lower bound only."""
        return bool(np.isfinite(self.upper_e_per_A2))


Likelihood = Callable[[FloatArray], tuple[FloatArray, FloatArray]]
"""From surviving amplitudes (doses, frames) to the log-likelihood and the best amplitude."""


def fit_powers(
    power: npt.ArrayLike,
    dose_per_frame_e_per_A2: npt.ArrayLike,
    background: npt.ArrayLike | None,
    pre_exposure_e_per_A2: float = 0.0,
    modes: float = 1.0,
    confidence: float = 0.95,
) -> Fading:
    """Fit A exp(-N / N_c) + floor to the power of a reflection in each frame of a movie.

    Parameters
    ----------
    power : (n,) array
        Power, the noise in it, summed over `modes` independent modes.
    dose_per_frame_e_per_A2 : float or (n,) array
        A frame's amplitude goes with its dose, its noise power too.
    background : float, (n,) array or None
        Mean power of the noise in one mode. None: fitted, in proportion to the dose.
    pre_exposure_e_per_A2 : float
    modes : float
        Half the degrees of freedom: 1 for the coefficient of a sharp reflection.
    confidence : float

    Raises
    ------
    ValueError
        If powers are negative, fewer than 3, or don't fit the doses; if the floor isn't positive.
    """
    P = np.asarray(power, float)
    if P.ndim != 1 or len(P) < 3 or not np.all(np.isfinite(P) & (P >= 0)):
        raise ValueError(f"powers must be 3 or more numbers from 0, noise included, got {P.shape}")
    if not modes > 0:
        raise ValueError(f"the number of modes must be positive, got {modes}")
    fluence, dose = mid_exposures(len(P), dose_per_frame_e_per_A2, pre_exposure_e_per_A2)
    relative = dose / np.mean(dose)
    if background is None:
        empty = np.mean(P / relative) / modes * relative
        if not np.mean(P) > 0:
            raise ValueError("all powers are zero: there is no noise to fit the floor to")
    else:
        empty = _positive_floor(background, P.shape)
    nothing = float(rice.log_likelihood(P, np.zeros((1, len(P))), empty, modes)[0])

    def likelihood(survival: FloatArray) -> tuple[FloatArray, FloatArray]:
        shape = survival * relative
        if background is not None:
            A = rice.best_amplitude(P, shape, empty, modes)
            return rice.log_likelihood(P, A[:, None] * shape, empty, modes), A
        level = np.full((len(shape), 1), np.quantile(P / relative, 0.3) / modes + 1e-300)
        A = rice.best_amplitude(P, shape, level * relative, modes)[:, None]
        for _ in range(50):  # expectation and maximisation over the unknown phases
            floor = level * relative
            z = 2 * A * shape * np.sqrt(P) / floor
            seen = np.sqrt(P) * rice.bessel_ratio(z, modes)
            noise = P + (A * shape) ** 2 - 2 * A * shape * seen
            level = np.mean(noise / relative, axis=1, keepdims=True) / modes + 1e-300
            A = np.sum(shape * seen / floor, axis=1, keepdims=True)
            A /= np.sum(shape**2 / floor, axis=1, keepdims=True)
        floor = level * relative
        best = rice.best_amplitude(P, shape, floor, modes)
        return rice.log_likelihood(P, best[:, None] * shape, floor, modes), best

    return _fit(likelihood, nothing, fluence, dose, confidence)


def fit_amplitudes(
    amplitudes: npt.ArrayLike,
    dose_per_frame_e_per_A2: npt.ArrayLike,
    background: npt.ArrayLike,
    pre_exposure_e_per_A2: float = 0.0,
    confidence: float = 0.95,
) -> Fading:
    """Fit the fading of complex Fourier coefficients whose phases agree but for the noise.

    Parameters
    ----------
    amplitudes : (n,) or (n, modes) complex array
        Coefficients of each frame, turned back by the phase of its shift.
    dose_per_frame_e_per_A2 : float or (n,) array
    background : float or (n,) array
        Mean power of the noise in a coefficient, measured off the reflections.
    pre_exposure_e_per_A2, confidence
        See :func:`fit_powers`.

    Raises
    ------
    ValueError
        If there are fewer than 3 frames, or the floor isn't positive.
    """
    F = np.asarray(amplitudes, complex)
    F = F[:, None] if F.ndim == 1 else F
    if F.ndim != 2 or len(F) < 3 or not np.isfinite(F).all():
        raise ValueError(f"coefficients must be finite, of 3 or more frames, got {F.shape}")
    fluence, dose = mid_exposures(len(F), dose_per_frame_e_per_A2, pre_exposure_e_per_A2)
    floor = _positive_floor(background, (len(F),))
    relative = dose / np.mean(dose)

    def likelihood(survival: FloatArray) -> tuple[FloatArray, FloatArray]:
        shape = survival * relative
        matched = np.abs((shape / floor) @ F) ** 2
        strength = np.sum(shape**2 / floor, axis=1)
        fitted = np.sum(matched, axis=1)
        return fitted / strength, np.sqrt(fitted) / strength

    return _fit(likelihood, 0.0, fluence, dose, confidence)


def critical_doses(
    images: npt.ArrayLike,
    dose_per_frame_e_per_A2: npt.ArrayLike,
    pixel_size_nm: float,
    pre_exposure_e_per_A2: float = 0.0,
    shifts_px: npt.ArrayLike | None = None,
    spots_per_nm: npt.ArrayLike | None = None,
    confidence: float = 0.95,
) -> tuple[SpotSeries, list[Fading]]:
    """Find the reflections of a movie and fit the critical dose of each.

    Parameters
    ----------
    images : (n, ny, nx) array
        Frames: counts, or of any gain.
    dose_per_frame_e_per_A2 : float or (n,) array
    pixel_size_nm : float
    pre_exposure_e_per_A2 : float
    shifts_px : (n, 2) array, optional
        (dy, dx) of each frame: the amplitudes are then fitted in phase, which needs far fewer
        counts. Errors of the shifts weaken all frames alike if they don't grow with fluence.
    spots_per_nm : (spots, 2) array, optional
        (ky, kx) of the reflections, if known.
    confidence : float

    Returns
    -------
    spots : SpotSeries
    fits : list of Fading
        One for each spot.
    """
    spots = spot_powers(images, pixel_size_nm, shifts_px, spots_per_nm)
    _, dose = mid_exposures(spots.power.shape[1], dose_per_frame_e_per_A2, pre_exposure_e_per_A2)
    fits = []
    for amplitude, noise in zip(spots.amplitude, spots.background, strict=True):
        floor = dose * np.sum(noise) / np.sum(dose)
        if shifts_px is None:
            power = np.abs(amplitude) ** 2
            fits.append(
                fit_powers(power, dose, floor, pre_exposure_e_per_A2, confidence=confidence)
            )
        else:
            fits.append(fit_amplitudes(amplitude, dose, floor, pre_exposure_e_per_A2, confidence))
    return spots, fits


@dataclass(frozen=True)
class FadingLaw:
    """The critical dose as a function of frequency, a + b k^-c (b = 0: constant).

    Attributes
    ----------
    a_e_per_A2, b, c : float
        b in e/Å² at k = 1/Å.
    log_likelihood : float
        Of all reflections together, at its maximum.
    """

    a_e_per_A2: float
    b: float
    c: float
    log_likelihood: float

    def __call__(self, k_per_A: npt.ArrayLike) -> FloatArray:
        """Return N_c in e/Å² at k > 0 in 1/Å."""
        k = np.asarray(k_per_A, float)
        return np.asarray(self.a_e_per_A2 + self.b * k**-self.c)


def pool(fits: Sequence[Fading], confidence: float = 0.95) -> Fading:
    """Return the one critical dose of several reflections: their likelihoods are multiplied.

    The amplitude is the root of the sum of squares.
    """
    if not fits:
        raise ValueError("there are no reflections to pool")
    grid = np.unique(np.concatenate([fit.log_dose for fit in fits]))
    total = np.sum([np.interp(grid, f.log_dose, f.log_likelihood) for f in fits], axis=0)
    best, lower, upper = _interval(grid, total, confidence)
    return Fading(
        best,
        lower,
        upper,
        float(np.sqrt(np.sum([fit.amplitude**2 for fit in fits]))),
        float(np.sqrt(np.sum([fit.significance**2 for fit in fits]))),
        grid,
        total,
    )


def pooled_law(
    fits: Sequence[Fading],
    k_per_A: npt.ArrayLike,
    kind: Literal["constant", "power"] = "power",
) -> FadingLaw:
    """Fit N_c(k) to all reflections at once, by the sum of their log-likelihoods.

    A reflection whose fading wasn't detected counts with what its lower bound says. Twice the
    difference of the log-likelihoods of "power" and "constant" is a chi^2 of 2 degrees of freedom
    where N_c doesn't depend on k: below 6 the constant will do.

    Raises
    ------
    ValueError
        If there isn't one positive frequency for each reflection, or a power law has fewer than
        3 different ones.
    """
    k = np.asarray(k_per_A, float)
    if k.shape != (len(fits),) or not len(fits) or not np.all(k > 0):
        raise ValueError(f"each of {len(fits)} reflections needs its positive k, got {k.shape}")
    together = pool(fits)
    constant = together.critical_dose_e_per_A2
    if kind == "constant":
        return FadingLaw(constant, 0.0, 0.0, float(np.max(together.log_likelihood)))
    if len(np.unique(np.round(k, 6))) < 3:
        raise ValueError("a power law needs reflections of 3 different frequencies")
    middle = np.exp(np.mean(np.log(k)))
    scale = constant if np.isfinite(constant) else np.exp(together.log_dose[-1])

    def misfit(parameters: FloatArray) -> float:
        a, b, c = np.exp(np.clip(parameters, -30, 30))
        log_dose = np.log(scale * (a + b * (k / middle) ** -min(c, 20.0)) + 1e-300)
        return -sum(
            float(np.interp(x, fit.log_dose, fit.log_likelihood))
            for x, fit in zip(log_dose, fits, strict=True)
        )

    starts = [np.log([part, 1 - part, c]) for part in (0.1, 0.5, 0.9) for c in (0.7, 1.7, 3.5)]
    options = {"xatol": 1e-4, "fatol": 1e-5, "maxiter": 2000}
    found = [optimize.minimize(misfit, p, method="Nelder-Mead", options=options) for p in starts]
    best = min(found, key=lambda result: float(result.fun))
    a, b, c = np.exp(best.x)
    return FadingLaw(float(scale * a), float(scale * b * middle**c), float(c), -float(best.fun))


def _fit(
    likelihood: Likelihood,
    nothing: float,
    fluence: FloatArray,
    dose: FloatArray,
    confidence: float,
) -> Fading:
    """Take the profile likelihood on a grid of critical doses, finer near its maximum.

    `nothing` is the log-likelihood of no signal.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"the confidence lies between 0 and 1, got {confidence}")

    start = fluence - 0.5 * dose

    def survival(x: FloatArray) -> FloatArray:
        """Return the amplitude left since the first frame, averaged over each exposure."""
        rate = 0.5 * np.exp(-x)[:, None]
        within = -np.expm1(-rate * dose) / (rate * dose)
        return np.asarray(np.exp(-rate * (start - start[0])) * within)

    low = np.log(0.1 * min(dose[0], fluence[1] - fluence[0]))
    high = np.log(EVERLASTING * fluence[-1])
    grid, L, amplitude = np.empty(0), np.empty(0), np.empty(0)
    for points in (COARSE, FINE, FINE, FINE, FINE, FINE):  # closer and closer to the maximum
        x = np.linspace(low, high, points)
        likelihoods, amplitudes = likelihood(survival(x))
        grid, L = np.append(grid, x), np.append(L, likelihoods)
        amplitude = np.append(amplitude, amplitudes)
        near = np.flatnonzero(np.max(L) - likelihoods < NEGLIGIBLE)
        if len(near) >= points // 3 and points == FINE:
            break
        if len(near):
            low, high = x[max(0, near[0] - 1)], x[min(points - 1, near[-1] + 1)]
        else:  # the maximum lies between the points
            middle = x[int(np.argmax(likelihoods))]
            low, high = middle - (x[1] - x[0]), middle + (x[1] - x[0])
    grid, order = np.unique(np.round(grid, 10), return_index=True)
    L, amplitude = L[order], amplitude[order]
    best, lower, upper = _interval(grid, L, confidence)
    peak = int(np.argmax(L))
    growth = np.exp(min(0.5 * start[0] * np.exp(-grid[peak]), 300.0))  # back to no fluence
    return Fading(
        best,
        lower,
        upper,
        float(amplitude[peak] * growth),
        float(np.sqrt(max(2 * (L[peak] - nothing), 0.0))),
        grid,
        L,
    )


def _interval(
    x: FloatArray, log_likelihood: FloatArray, confidence: float
) -> tuple[float, float, float]:
    """Return exp(x) at the maximum and where the profile has dropped on both sides."""
    peak = int(np.argmax(log_likelihood))
    level = log_likelihood[peak] - 0.5 * special.chdtri(1, 1 - confidence)
    best = float(x[peak])
    if 0 < peak < len(x) - 1:  # the top of the parabola through three points
        a, c = x[peak - 1] - x[peak], x[peak + 1] - x[peak]
        fall = log_likelihood[peak] - log_likelihood[[peak - 1, peak + 1]]
        bend = a * fall[1] - c * fall[0]
        if bend < 0:
            best += float(np.clip(0.5 * (a**2 * fall[1] - c**2 * fall[0]) / bend, a, c))
    below = np.flatnonzero(log_likelihood < level)
    left, right = below[below < peak], below[below > peak]

    def crossing(outside: int, inside: int) -> float:
        pair = np.array([outside, inside])
        return float(np.exp(np.interp(level, log_likelihood[pair], x[pair])))

    return (
        float(np.exp(best)) if peak < len(x) - 1 else np.inf,
        crossing(int(left[-1]), int(left[-1]) + 1) if len(left) else 0.0,
        crossing(int(right[0]), int(right[0]) - 1) if len(right) else np.inf,
    )


def _positive_floor(background: npt.ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    """Return the noise power of each frame."""
    floor = np.asarray(background, float)
    if floor.shape not in ((), shape) or not np.all(np.isfinite(floor) & (floor > 0)):
        raise ValueError("the background must be positive: one for all frames, or one for each")
    return np.broadcast_to(floor, shape)

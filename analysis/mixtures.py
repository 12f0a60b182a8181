"""Mixtures of Gaussians of one width: how many groups values form, and which belongs to which.

Fitted by expectation maximisation from fixed starts: no chance is involved. The means are free, or
first + g * step, or a table times a scale. The number of groups is that of the least integrated
classification likelihood (C. Biernacki, G. Celeux and G. Govaert, IEEE Trans. Pattern Anal.
Mach. Intell. 22 (2000) 719).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Spacing = Literal["equidistant", "free"]

SCALE_STEP = 0.03
"""Distance of the scales from which a hybrid fit starts: half of what one atom in 16 changes."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """G Gaussians of one width, fitted to N values."""

    means: FloatArray
    weights: FloatArray
    sigma: float
    posterior: FloatArray
    """(N, G): probability that a value belongs to a component."""
    log_likelihood: float
    n_parameters: int
    parameters: FloatArray
    """What the means were made of: themselves; first and spacing; or the scale."""

    @property
    def icl(self) -> float:
        """-2 log L + d log N + 2 entropy: the less the better (Biernacki et al. 2000)."""
        p = np.maximum(self.posterior, 1e-300)
        entropy = -float(np.sum(self.posterior * np.log(p)))
        penalty = self.n_parameters * np.log(len(self.posterior))
        return -2 * self.log_likelihood + float(penalty) + 2 * entropy


def fit_mixture(
    values: npt.ArrayLike,
    n_components: int,
    spacing: Spacing = "equidistant",
    min_sigma: float = 0.0,
) -> Mixture:
    """Fit a mixture of Gaussians of equal width by expectation maximisation.

    The best of several starts, all made from the values' quantiles and range: no chance is
    involved.

    Parameters
    ----------
    values : (N,) array
    n_components : int
    spacing : {"equidistant", "free"}
        Whether the means are first + g * step, or each is free.
    min_sigma : float
        Least width: what is known of the measurement's noise.

    Raises
    ------
    ValueError
        If there are fewer values than components, or they aren't finite.
    """
    x = checked_values(values)
    if not 1 <= n_components <= len(x):
        raise ValueError(f"n_components must be from 1 to {len(x)}, got {n_components}")
    if spacing not in ("equidistant", "free"):
        raise ValueError(f'spacing must be "equidistant" or "free", got {spacing!r}')
    g = np.arange(n_components, dtype=np.float64)
    low, high = float(np.min(x)), float(np.max(x))
    step = (high - low) / n_components
    if n_components == 1:
        return best_of(x, np.ones((1, 1)), [(np.array([np.mean(x)]), step)], min_sigma)
    line = np.stack([np.ones(n_components), g], axis=1)
    starts = []
    for first, spread in ((0.5, 1.0), (0.2, 1.05), (0.8, 0.95), (0.35, 0.9), (0.35, 1.15)):
        starts.append((np.array([low + first * step, spread * step]), 0.25 * step))
    even = best_of(x, line, starts, min_sigma)
    if spacing == "equidistant":
        return even
    own = np.eye(n_components)
    quantiles = np.quantile(x, (g + 0.5) / n_components)
    return best_of(x, own, [(even.means, even.sigma), (quantiles, 0.25 * step)], min_sigma)


def best_of(
    x: FloatArray,
    design: FloatArray,
    starts: list[tuple[FloatArray, float]],
    min_sigma: float,
    fixed: FloatArray | None = None,
) -> Mixture:
    """Return the likeliest of the fits from several starts, carried on to its end."""
    floor = _least_sigma(x, min_sigma)
    offset = np.zeros(len(design)) if fixed is None else fixed
    rough = [_maximise(x, design, offset, *start, floor, None, 1e-2, 300) for start in starts]
    _, theta, sigma, weights = max(rough, key=lambda fit: fit[0])
    top = _maximise(x, design, offset, theta, sigma, floor, None, 1e-6, 3000, weights)
    return _mixture(x, design, offset, top, sort=fixed is None)


def fit_scaled(
    x: FloatArray,
    means: FloatArray,
    min_sigma: float,
    prior: tuple[float, float],
) -> tuple[Mixture, FloatArray]:
    """Fit the means times a scale: return the likeliest, and the posterior over all scales.

    Each local maximum counts by its probability, the prior of the scale included.
    """
    floor = _least_sigma(x, min_sigma)
    design, offset = means[:, None], np.zeros(len(means))
    step = float(np.median(np.abs(np.diff(means)))) if len(means) > 1 else float(np.std(x))
    reach = int(np.ceil(4 * prior[1] / SCALE_STEP))
    scales = prior[0] + SCALE_STEP * np.arange(-reach, reach + 1)
    fits = [
        _maximise(x, design, offset, np.array([s]), 0.2 * step, floor, prior, 1e-3, 300)
        for s in scales[scales > 0.2]
    ]
    fits.sort(key=lambda fit: -fit[0])
    maxima: list[_Maximum] = []
    for fit in fits:
        apart = [abs(fit[1][0] - other[1][0]) for other in maxima]
        if fit[0] > fits[0][0] - 15 and min(apart, default=1.0) > 0.01:
            maxima.append(_maximise(x, design, offset, *fit[1:3], floor, prior, 1e-6, 3000, fit[3]))
    odds = np.exp([fit[0] - maxima[0][0] for fit in maxima])
    mixtures = [_mixture(x, design, offset, fit, sort=False) for fit in maxima]
    posterior = np.tensordot(odds / np.sum(odds), [m.posterior for m in mixtures], axes=1)
    return mixtures[0], posterior


_Maximum = tuple[float, FloatArray, float, FloatArray]
"""Objective, parameters of the means, sigma, weights."""


def _least_sigma(x: FloatArray, min_sigma: float) -> float:
    return max(min_sigma, 1e-6 * float(np.ptp(x)), 1e-300)


def _mixture(
    x: FloatArray, design: FloatArray, offset: FloatArray, fit: _Maximum, sort: bool
) -> Mixture:
    _, theta, sigma, weights = fit
    means = offset + design @ theta
    order = np.argsort(means, kind="stable") if sort else np.arange(len(means))
    means, weights = means[order], weights[order]
    log_likelihood, posterior = _posterior(x, means, weights, sigma)
    n_parameters = design.shape[1] + len(design)  # G - 1 weights and sigma
    return Mixture(means, weights, sigma, posterior, log_likelihood, n_parameters, theta)


def _maximise(
    x: FloatArray,
    design: FloatArray,
    offset: FloatArray,
    theta: FloatArray,
    sigma: float,
    min_sigma: float,
    prior: tuple[float, float] | None,
    tolerance: float,
    most_rounds: int,
    weights: FloatArray | None = None,
) -> _Maximum:
    """Maximise the likelihood (with a prior, the posterior density) of a mixture.

    The means are offset + design @ theta, so that maximisation is a linear regression of the
    components' averages.
    """
    n, (g, p) = len(x), design.shape
    weights = np.full(g, 1 / g) if weights is None else weights
    sigma = max(sigma, min_sigma)
    last = -np.inf
    for _ in range(most_rounds):
        means = offset + design @ theta
        objective, posterior = _posterior(x, means, weights, sigma)
        if prior is not None:
            objective -= 0.5 * float((theta[0] - prior[0]) / prior[1]) ** 2
        if objective - last < tolerance:
            break
        last = objective
        share = np.sum(posterior, axis=0)
        weights = share / n
        if p:
            # An empty component stays where it is.
            normal = design.T @ (share[:, None] * design) + 1e-9 * np.eye(p)
            right = design.T @ (x @ posterior - share * offset) + 1e-9 * theta
            if prior is not None:
                normal = normal + (sigma / prior[1]) ** 2
                right = right + (sigma / prior[1]) ** 2 * prior[0]
            theta = np.linalg.solve(normal, right)
        means = offset + design @ theta
        residual = float(np.sum(posterior * (x[:, None] - means[None, :]) ** 2))
        sigma = max(float(np.sqrt(residual / n)), min_sigma)
    return float(objective), theta, sigma, weights


def _posterior(
    x: FloatArray, means: FloatArray, weights: FloatArray, sigma: float
) -> tuple[float, FloatArray]:
    """Return the log-likelihood, and the probabilities (N, G) of the components."""
    log_p = -0.5 * ((x[:, None] - means[None, :]) / sigma) ** 2
    log_p += np.log(np.maximum(weights, 1e-300))
    top = np.max(log_p, axis=1, keepdims=True)
    p = np.exp(log_p - top)
    total = np.sum(p, axis=1, keepdims=True)
    level = len(x) * np.log(np.sqrt(2 * np.pi) * sigma)
    return float(np.sum(top) + np.sum(np.log(total)) - level), p / total


def checked_values(values: npt.ArrayLike) -> FloatArray:
    """Return values as an array (n,), or raise ValueError if they aren't finite numbers."""
    x = np.asarray(values, np.float64)
    if x.ndim != 1 or not len(x) or not np.all(np.isfinite(x)):
        raise ValueError(f"cross-sections are finite numbers of the shape (n,), got {x.shape}")
    return x

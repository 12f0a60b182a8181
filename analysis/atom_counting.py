"""How many atoms each column holds, from its scattering cross-section.

The cross-sections of columns of n atoms scatter about a mean M_n with one standard deviation
sigma. Three ways to know M_n:

statistics  the data's own groups: a mixture of Gaussians of equal width, equidistant or free
            means, their number by the integrated classification likelihood (Van Aert et al., Phys.
            Rev. B 87 (2013) 064107; De Backer et al., Ultramicroscopy 134 (2013) 23);
library     a table from a simulation, M_n as it stands (LeBeau et al., Nano Lett. 10 (2010) 4405);
hybrid      the library times a scale that is fitted, for a beam current or a detector not known
            to the last per cent (De wael et al., Phys. Rev. B 96 (2017) 134108).

In all of them the posterior probability of each count follows, and its maximum, the probability
to be right, is the confidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

from nanophantom.analysis.columns import find_columns
from nanophantom.analysis.scattering_cross_sections import (
    gaussian_cross_sections,
    voronoi_cross_sections,
)

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
Spacing = Literal["equidistant", "free"]

FAINTEST_COLUMN = 0.05
"""Least height of a column relative to the strong ones: one atom beside twenty."""
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


@dataclass(frozen=True, eq=False)
class AtomCounts:
    """Counts of N columns, each with the probabilities of all G candidates."""

    n_atoms: IntArray
    confidence: FloatArray
    """Probability that the count is right."""
    candidates: IntArray
    posterior: FloatArray
    means_A2: FloatArray
    """Cross-section of each candidate."""
    sigma_A2: float
    """Standard deviation about it (the mean one if each column has its own)."""
    mixture: Mixture | None


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
    x = _values(values)
    if not 1 <= n_components <= len(x):
        raise ValueError(f"n_components must be from 1 to {len(x)}, got {n_components}")
    if spacing not in ("equidistant", "free"):
        raise ValueError(f'spacing must be "equidistant" or "free", got {spacing!r}')
    g = np.arange(n_components, dtype=np.float64)
    low, high = float(np.min(x)), float(np.max(x))
    step = (high - low) / n_components
    if n_components == 1:
        return _best(x, np.ones((1, 1)), [(np.array([np.mean(x)]), step)], min_sigma)
    line = np.stack([np.ones(n_components), g], axis=1)
    starts = []
    for first, spread in ((0.5, 1.0), (0.2, 1.05), (0.8, 0.95), (0.35, 0.9), (0.35, 1.15)):
        starts.append((np.array([low + first * step, spread * step]), 0.25 * step))
    even = _best(x, line, starts, min_sigma)
    if spacing == "equidistant":
        return even
    own = np.eye(n_components)
    quantiles = np.quantile(x, (g + 0.5) / n_components)
    return _best(x, own, [(even.means, even.sigma), (quantiles, 0.25 * step)], min_sigma)


def count_by_statistics(
    cross_sections_A2: npt.ArrayLike,
    n_components: int | None = None,
    spacing: Spacing = "equidistant",
    max_components: int | None = None,
    first_count: int | None = None,
    min_sigma_A2: float = 0.0,
) -> AtomCounts:
    """Count atoms by the groups that the cross-sections form.

    The groups must stand apart: with 40 columns each and a width above 0.25 of their spacing the
    ICL sees one group only.

    Parameters
    ----------
    cross_sections_A2 : (N,) array
    n_components : int, optional
        Number of different counts. If not given that with the least ICL.
    spacing : {"equidistant", "free"}
        See :func:`fit_mixture`. Components stand for consecutive counts.
    max_components : int, optional
        Most components tried; by default a fifth of the columns, 25 at most.
    first_count : int, optional
        Atoms of the thinnest component. If not given its mean over the spacing, rounded: thin
        columns scatter in proportion to their atoms.
    min_sigma_A2 : float
        Least width of the groups: the noise of a cross-section, if known.

    Raises
    ------
    ValueError
        If there is no cross-section, a number is out of range, or all form one group, which tells
        no spacing, and `first_count` isn't given.
    """
    x = _values(cross_sections_A2)
    if n_components is not None:
        mixture = fit_mixture(x, n_components, spacing, min_sigma_A2)
    else:
        most = max_components or int(np.clip(len(x) // 5, 1, 25))
        tried = [fit_mixture(x, g, spacing, min_sigma_A2) for g in range(1, min(most, len(x)) + 1)]
        mixture = min(tried, key=lambda m: m.icl)
    if first_count is None:
        if len(mixture.means) == 1:
            raise ValueError(
                "the cross-sections form one group, which tells no spacing and so no count: give "
                "a library, or first_count, the atoms of this group"
            )
        step = float(np.polyfit(np.arange(len(mixture.means)), mixture.means, 1)[0])
        first_count = max(1, round(mixture.means[0] / step))
    candidates = first_count + np.arange(len(mixture.means))
    return _counts(candidates, mixture.posterior, mixture.means, mixture.sigma, mixture)


def count_by_library(
    cross_sections_A2: npt.ArrayLike,
    n_atoms: npt.ArrayLike,
    library_A2: npt.ArrayLike,
    sigma_A2: npt.ArrayLike | None = None,
) -> AtomCounts:
    """Count atoms by a table of cross-sections, taken as it stands.

    Parameters
    ----------
    cross_sections_A2 : (N,) array
    n_atoms, library_A2 : (G,) arrays
        The table; counts rise, and those left out are interpolated.
    sigma_A2 : float or (N,) array, optional
        Standard deviation of the cross-sections; all counts of the table are then equally likely
        beforehand. If not given it is fitted, and how frequent each count is as well.

    Raises
    ------
    ValueError
        If the table or a number is wrong.
    """
    x = _values(cross_sections_A2)
    candidates, means = _table(n_atoms, library_A2)
    if sigma_A2 is None:
        step = float(np.median(np.abs(np.diff(means)))) if len(means) > 1 else float(np.std(x))
        mixture = _best(x, np.zeros((len(means), 0)), [(np.zeros(0), 0.3 * step)], 0.0, fixed=means)
        return _counts(candidates, mixture.posterior, means, mixture.sigma, mixture)
    sigma = np.broadcast_to(np.asarray(sigma_A2, np.float64), x.shape)
    if not (np.all(sigma > 0) and np.all(np.isfinite(sigma))):
        raise ValueError("sigma_A2 must be positive and finite")
    log_p = -0.5 * ((x[:, None] - means[None, :]) / sigma[:, None]) ** 2
    p = np.exp(log_p - np.max(log_p, axis=1, keepdims=True))
    posterior = p / np.sum(p, axis=1, keepdims=True)
    return _counts(candidates, posterior, means, float(np.mean(sigma)), None)


def count_hybrid(
    cross_sections_A2: npt.ArrayLike,
    n_atoms: npt.ArrayLike,
    library_A2: npt.ArrayLike,
    sigma_scale: float = 0.05,
    min_sigma_A2: float = 0.0,
) -> AtomCounts:
    """Count atoms by a table of cross-sections times a fitted scale.

    Parameters
    ----------
    cross_sections_A2 : (N,) array
    n_atoms, library_A2 : (G,) arrays
        The table; counts rise, and those left out are interpolated.
    sigma_scale : float
        Standard deviation of the scale about 1 before the data are seen: how well the intensity
        is calibrated. Where all columns are about as thick, data can't tell a scale from another
        with the counts shifted by one: the confidence is over all scales that are likely.
    min_sigma_A2 : float
        Least standard deviation of a cross-section.

    Raises
    ------
    ValueError
        If the table or a number is wrong.
    """
    x = _values(cross_sections_A2)
    candidates, means = _table(n_atoms, library_A2)
    if not sigma_scale > 0:
        raise ValueError(f"sigma_scale must be positive, got {sigma_scale}")
    mixture, posterior = _scaled(x, means, min_sigma_A2, (1.0, sigma_scale))
    return _counts(candidates, posterior, mixture.means, mixture.sigma, mixture)


def count(image: npt.ArrayLike, settings: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """Find the columns of a high-angle dark-field image and count the atoms of each.

    Columns whose cell the border of the image cuts aren't counted and left out, and so are maxima
    that are likelier no atom than one (where a library is given).

    Parameters
    ----------
    image : (ny, nx) array
        Fractions of the beam, or counts if "beam_electrons" is given.
    settings : mapping
        "pixel_size_nm"; "beam_electrons": counts per pixel of the whole beam; "library":
        {"n_atoms", "cross_section_A2"}; "method": "statistics", "library" or "hybrid" (the default
        with a library); "integration": "voronoi" (default) or "gaussian", as the library was made;
        "background": fraction of the beam beside the columns, 0 by default (Gaussians fit their
        own); "spacing", "first_count", "max_components": see :func:`count_by_statistics`;
        "sigma_scale": see :func:`count_hybrid`.

    Returns
    -------
    dict of (n,) arrays
        x_nm, y_nm from the centre of pixel (0, 0); n_atoms; confidence (for the statistics that
        of the column's group, if the number of groups and the first count are right);
        cross_section_A2 and its sigma_A2 by counting noise.

    Raises
    ------
    ValueError
        If a setting is missing or wrong, or the image isn't a finite (ny, nx) array.
    """
    if settings.get("pixel_size_nm") is None:
        raise ValueError('settings lack "pixel_size_nm": the width of a pixel in nm')
    pixel_size_nm = float(settings["pixel_size_nm"])
    library = settings.get("library")
    method = settings.get("method") or ("statistics" if library is None else "hybrid")
    if method not in ("statistics", "library", "hybrid"):
        raise ValueError(f'method must be "statistics", "library" or "hybrid", got {method!r}')
    if method != "statistics" and library is None:
        raise ValueError(f'method {method!r} needs a "library" of n_atoms and cross_section_A2')
    if library is not None and not {"n_atoms", "cross_section_A2"} <= set(library):
        raise ValueError(f'a library has "n_atoms" and "cross_section_A2", got {sorted(library)}')
    beam = settings.get("beam_electrons")
    if beam is not None and not 0 < beam < np.inf:
        raise ValueError(f"beam_electrons must be a positive number, got {beam}")
    integration = settings.get("integration") or "voronoi"
    if integration not in ("voronoi", "gaussian"):
        raise ValueError(f'integration must be "voronoi" or "gaussian", got {integration!r}')

    columns = find_columns(image, pixel_size_nm, "bright", min_relative_height=FAINTEST_COLUMN)
    x, y = columns["x_nm"], columns["y_nm"]
    if not len(x):
        nothing = np.zeros(0)
        names = "x_nm", "y_nm", "confidence", "cross_section_A2", "sigma_A2"
        return {"n_atoms": np.zeros(0, np.intp), **dict.fromkeys(names, nothing)}
    fraction = np.asarray(image, np.float64) / (1.0 if beam is None else float(beam))
    if integration == "voronoi":
        background = float(settings.get("background") or 0.0)
        cells = voronoi_cross_sections(fraction, pixel_size_nm, x, y, background, beam)
    else:
        cells = gaussian_cross_sections(fraction, pixel_size_nm, x, y, beam)
    whole = ~cells["edge"].astype(bool)
    table: dict[str, npt.NDArray[Any]] = {"x_nm": x, "y_nm": y}
    table |= {name: cells[name] for name in ("cross_section_A2", "sigma_A2")}
    table = {name: column[whole] for name, column in table.items()}
    if not np.any(whole):
        return {**table, "n_atoms": np.zeros(0, np.intp), "confidence": np.zeros(0)}

    noise = float(np.median(table["sigma_A2"]))
    counts = _count_with(method, table["cross_section_A2"], noise, library, settings)
    table |= {"n_atoms": counts.n_atoms, "confidence": counts.confidence}
    return {name: column[counts.n_atoms > 0] for name, column in table.items()}


def _count_with(
    method: str, x: FloatArray, noise_A2: float, library: Any, settings: Mapping[str, Any]
) -> AtomCounts:
    if method == "statistics":
        return count_by_statistics(
            x,
            spacing=settings.get("spacing") or "equidistant",
            max_components=settings.get("max_components"),
            first_count=settings.get("first_count"),
            min_sigma_A2=noise_A2,
        )
    # What was found may be no atom at all.
    n_atoms = np.asarray(library["n_atoms"])
    means = np.asarray(library["cross_section_A2"], np.float64)
    if len(n_atoms) and n_atoms[0] > 0:
        n_atoms, means = np.r_[0, n_atoms], np.r_[0.0, means]
    if method == "library":
        return count_by_library(x, n_atoms, means)
    sigma_scale = settings.get("sigma_scale")
    return count_hybrid(
        x, n_atoms, means, 0.05 if sigma_scale is None else float(sigma_scale), noise_A2
    )


def _best(
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


def _scaled(
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


def _counts(
    candidates: IntArray,
    posterior: FloatArray,
    means: FloatArray,
    sigma: float,
    mixture: Mixture | None,
) -> AtomCounts:
    best = np.argmax(posterior, axis=1)
    return AtomCounts(
        n_atoms=candidates[best],
        confidence=np.max(posterior, axis=1),
        candidates=candidates,
        posterior=posterior,
        means_A2=means,
        sigma_A2=sigma,
        mixture=mixture,
    )


def _table(n_atoms: npt.ArrayLike, library_A2: npt.ArrayLike) -> tuple[IntArray, FloatArray]:
    """Return all counts from the table's first to its last, and their cross-sections."""
    n, means = np.asarray(n_atoms), np.asarray(library_A2, np.float64)
    if n.ndim != 1 or n.shape != means.shape or not len(n):
        raise ValueError(
            "a library has n_atoms and cross-sections of one shape (n,), "
            f"got {n.shape} and {means.shape}"
        )
    if not (np.all(n == np.rint(n)) and np.all(n >= 0) and np.all(np.diff(n) > 0)):
        raise ValueError("a library's n_atoms must be whole numbers that rise from 0 or above")
    if not np.all(np.isfinite(means)):
        raise ValueError("a library's cross-sections must be finite")
    whole = np.arange(int(n[0]), int(n[-1]) + 1, dtype=np.intp)
    if len(whole) == len(n):
        return whole, means
    return whole, np.asarray(PchipInterpolator(n, means)(whole), np.float64)


def _values(values: npt.ArrayLike) -> FloatArray:
    x = np.asarray(values, np.float64)
    if x.ndim != 1 or not len(x) or not np.all(np.isfinite(x)):
        raise ValueError(f"cross-sections are finite numbers of the shape (n,), got {x.shape}")
    return x

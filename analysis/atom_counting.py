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
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

from nanophantom.analysis.columns import find_columns
from nanophantom.analysis.mixtures import (
    Mixture,
    Spacing,
    best_of,
    checked_values,
    fit_mixture,
    fit_scaled,
)
from nanophantom.analysis.scattering_cross_sections import (
    gaussian_cross_sections,
    voronoi_cross_sections,
)

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

FAINTEST_COLUMN = 0.05
"""Least height of a column relative to the strong ones: one atom beside twenty."""


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
    x = checked_values(cross_sections_A2)
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
    x = checked_values(cross_sections_A2)
    candidates, means = _table(n_atoms, library_A2)
    if sigma_A2 is None:
        step = float(np.median(np.abs(np.diff(means)))) if len(means) > 1 else float(np.std(x))
        mixture = best_of(
            x, np.zeros((len(means), 0)), [(np.zeros(0), 0.3 * step)], 0.0, fixed=means
        )
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
    x = checked_values(cross_sections_A2)
    candidates, means = _table(n_atoms, library_A2)
    if not sigma_scale > 0:
        raise ValueError(f"sigma_scale must be positive, got {sigma_scale}")
    mixture, posterior = fit_scaled(x, means, min_sigma_A2, (1.0, sigma_scale))
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

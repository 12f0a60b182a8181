"""Which of the eight corners of a nuclear pore hold a label.

Localizations are a mixture of those from 16 sites and a background. Whether any of them is from a
corner is a question of likelihood: a few that its neighbours and the background hardly explain are
enough, many that stray from a bright neighbour are not.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Complex = npt.NDArray[np.complex128]

CORNERS = 8
STEPS = 300
LEAST_BACKGROUND = 1e-3
"""Share of localizations that are taken to be background at least, when a corner is doubted."""


def pore_sites(pair_nm: float, radius_nm: float) -> Complex:
    """Return the sites of the 8 corners on the unit circle, (8, 2)."""
    half = math.asin(min(pair_nm / (2 * radius_nm), 0.5))
    corner = 2 * np.pi / CORNERS * np.arange(CORNERS)
    return np.asarray(np.exp(1j * (corner[:, None] + np.array([-half, half]))))


def site_densities(z: Complex, sites: Complex, s2: Floats) -> Floats:
    """Return the density of localizations from each site at each of them, (n, 8, 2)."""
    off = np.abs(z[:, None, None] - sites) ** 2
    s2 = s2[:, None, None]
    return np.asarray(np.exp(-off / (2 * s2)) / (2 * np.pi * s2))


def corner_evidence(density: Floats, background: float) -> tuple[Floats, Floats]:
    """Return the localizations from each corner, and the evidence that it shows any.

    The density of localizations at each is given for every site, (n, 8, 2). An occupied corner's
    share of all localizations is exponential with mean 1/8; the case that none of them is from it
    is taken off.
    """
    n, sites = len(density), 2 * CORNERS
    everything = np.append(density.reshape(n, sites), np.full((n, 1), background), axis=1)
    share = _shares(everything, np.ones(sites + 1), np.ones(sites + 1, bool))
    share[-1] = max(share[-1], LEAST_BACKGROUND)
    part, prior = _share_prior(n)
    some = (prior * -np.expm1(n * np.log1p(-part))).sum()
    evidence = np.zeros(CORNERS)
    for k in range(CORNERS):
        mine = np.arange(sites + 1) // 2 == k
        mine[-1] = False
        # The background stays as it is, or it would take what a corner of few localizations has.
        free = ~mine
        free[-1] = False
        without = everything @ _shares(everything, np.where(mine, 0, share), free)
        ratio = density[:, k].mean(axis=1) / without
        logs = np.log1p(part[:, None] * (ratio - 1)).sum(axis=1)
        top = max(float(logs.max()), 0.0)
        held = prior * (np.exp(logs - top) - np.exp(n * np.log1p(-part) - top))
        evidence[k] = top + math.log(max(float(held.sum() / some), 1e-300))
    return n * share[:-1].reshape(CORNERS, 2).sum(axis=1), evidence


def _share_prior(n: int) -> tuple[Floats, Floats]:
    """Return shares of all localizations that a corner may have, and their probabilities."""
    part = np.geomspace(0.02 / n, 0.9, 60)
    weight = np.gradient(part) * CORNERS * np.exp(-CORNERS * part)
    return part, np.asarray(weight / weight.sum())


def occupation(evidence: Floats, filled: float) -> Floats:
    """Return the chance that a corner is occupied if a share of all is."""
    return np.asarray(special.expit(evidence + special.logit(filled)))


def _shares(density: Floats, share: Floats, free: Bools) -> Floats:
    """Return the most likely shares of the components of a mixture, where they are free."""
    fixed = share[~free].sum()
    share = np.where(free, share * (1 - fixed) / share[free].sum(), share)
    for _ in range(STEPS):
        taken = share * (density.T @ (1 / (density @ share)))
        new = np.where(free, taken * (1 - fixed) / taken[free].sum(), share)
        if np.abs(new - share).max() < 1e-3 / len(density):
            return np.asarray(new)
        share = new
    return share

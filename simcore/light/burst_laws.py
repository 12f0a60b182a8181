"""What a chain predicts of its bursts: how many, how long, how far apart, how many photons.

Bursts and the dark intervals between them have phase-type laws (M. F. Neuts, Matrix-Geometric
Solutions in Stochastic Models, 1981): a stay in a set of states lasts longer than t with
probability e expm(Q_set t) 1, e being the probability to enter by each of them. Durations and
photons are those of whole bursts, not cut by the end of an observation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import expm

from nanophantom.simcore.light.markov import Chain, reach

Floats = npt.NDArray[np.float64]

QUADRATURE = 41  # points of the average over brightness


@dataclass(frozen=True, eq=False)
class BurstLaws:
    """Bursts of a chain.

    Attributes
    ----------
    on, off : (nb, nb), (nd, nd)
        Generators within the bright states, and within the dark ones that can still shine.
    switch_off, switch_on : (nb, nd), (nd, nb)
        Rates from one set into the other.
    first : (nb,)
        Probability that the first burst begins in each bright state; the rest never shines.
    again : (nb, nb)
        Probability that a burst that began in one state is followed by one that begins in another.
    entry : (nb,)
        By which state a burst begins, over all bursts.
    photons_per_s : (nb,)
        Photon rates of the bright states.
    """

    on: Floats
    off: Floats
    switch_off: Floats
    switch_on: Floats
    first: Floats
    again: Floats
    entry: Floats
    photons_per_s: Floats

    @classmethod
    def of(cls, chain: Chain) -> BurstLaws:
        """Return the laws of a chain's bursts.

        Raises
        ------
        ValueError
                No burst ever begins, or one has no end.
        """
        bright = chain.is_bright
        dark = ~bright & reach(chain.Q)[:, bright].any(axis=1)
        on, off = chain.Q[np.ix_(bright, bright)], chain.Q[np.ix_(dark, dark)]
        switch_off, switch_on = chain.Q[np.ix_(bright, dark)], chain.Q[np.ix_(dark, bright)]
        into = np.linalg.solve(-off, switch_on) if dark.any() else switch_on
        first = chain.start[bright] + chain.start[dark] @ into
        if not first.sum() > 0.0:
            raise ValueError("no burst ever begins in this light")
        if not reach(chain.Q)[np.ix_(bright, ~bright)].any(axis=1).all():
            raise ValueError("a bright state is never left: its burst has no end")
        again = np.linalg.solve(-on, switch_off) @ into
        values, vectors = np.linalg.eig(again.T)
        top = int(np.argmax(values.real))
        if values[top].real > 1.0 - 1e-12:  # never ends: the entries of late bursts
            entry = np.abs(vectors[:, top].real)
        else:
            entry = np.linalg.solve((np.eye(len(on)) - again).T, first)
        rates = chain.photons_per_s[bright]
        return cls(on, off, switch_off, switch_on, first, again, entry / entry.sum(), rates)

    @property
    def mean_on_s(self) -> float:
        """Mean length of a burst."""
        return float(np.linalg.solve(-self.on.T, self.entry).sum())

    @property
    def mean_photons(self) -> float:
        """Mean number of photons in a burst."""
        return float(np.linalg.solve(-self.on.T, self.entry) @ self.photons_per_s)

    @property
    def mean_number(self) -> float:
        """Mean number of bursts of a dye; inf if they never end."""
        if np.linalg.eigvals(self.again).real.max() > 1.0 - 1e-12:
            return math.inf
        return float(np.linalg.solve((np.eye(len(self.on)) - self.again).T, self.first).sum())

    @property
    def mean_off_s(self) -> float:
        """Mean length of the dark interval between two bursts."""
        enter, back = self._dark_entry()
        return float(enter @ np.linalg.solve(-self.off, back) / (enter @ back))

    def on_longer_than(self, t_s: npt.ArrayLike) -> Floats:
        """Return the probability that a burst lasts longer than t, any shape."""
        t = np.asarray(t_s, float)[..., None, None]
        return np.asarray((self.entry @ expm(self.on * t)).sum(axis=-1))

    def off_longer_than(self, t_s: npt.ArrayLike) -> Floats:
        """Return the probability that a dark interval between two bursts lasts longer than t."""
        t = np.asarray(t_s, float)[..., None, None]
        enter, back = self._dark_entry()
        return np.asarray(enter @ expm(self.off * t) @ back / (enter @ back))

    def _dark_entry(self) -> tuple[Floats, Floats]:
        """Return by which dark state an interval begins, and its chance to end in a burst."""
        enter = np.linalg.solve(-self.on.T, self.entry) @ self.switch_off
        if not enter.sum() > 0.0:
            raise ValueError("there is no dark interval: no burst is followed by another")
        return enter, np.linalg.solve(-self.off, self.switch_on.sum(axis=1))

    def at_least(self, photons: npt.ArrayLike, brightness_cv: float = 0.0) -> Floats:
        """Return the probability that a burst brings at least so many photons.

        The number is of discrete phase type: with R the photon rates, another photon comes before
        the burst ends with probabilities M = (R - Q_on)^-1 R, and P(N >= n) = e M^n 1.

        Parameters
        ----------
        photons
            Whole numbers, any shape.
        brightness_cv
            Relative s.d. of log-normal brightness, one for a dye, of mean 1.
        """
        n = np.asarray(photons)
        if (n < 0).any() or (n != np.floor(n)).any():
            raise ValueError("photons: whole numbers from 0")
        width = math.sqrt(math.log1p(brightness_cv**2))
        x, weights = np.polynomial.hermite_e.hermegauss(QUADRATURE if width else 1)
        total = np.zeros(n.shape)
        for factor, weight in zip(np.exp(width * x - width**2 / 2), weights, strict=True):
            R = np.diag(self.photons_per_s * factor)
            step = np.asarray(np.linalg.solve(R - self.on, R), np.float64)
            total += weight * (self.entry @ _powers(step, n.ravel())).sum(axis=-1).reshape(n.shape)
        return total / float(weights.sum())


def bursts_under_steps(steps: Sequence[tuple[Chain, float]], n_max: int) -> Floats:
    """Return the probability of 0, 1, ... n_max bursts in light that changes in steps.

    Parameters
    ----------
    steps
        The chain in each step of the light and how long the step lasts, s; the first one's start
        counts, and a dye that begins bright has begun a burst.
    n_max
        The largest number asked for.

    Returns
    -------
    ndarray, shape (n_max + 1,)
        To 1e-9. What is missing to 1 belongs to larger numbers.

    Notes
    -----
    From the generating function start' prod expm((Q + (z - 1) Q_switch_on) t) 1 on a circle of
    radius below 1 (J. Abate & W. Whitt, Oper. Res. Lett. 12 (1992) 245), start' being the start
    with its bright states times z.
    """
    m = 2 * (n_max + 2)
    z = 10.0 ** (-10.0 / m) * np.exp(2j * np.pi * np.arange(m) / m)
    first = steps[0][0]
    states = first.start * np.where(first.is_bright, z[:, None], 1.0)
    for chain, duration_s in steps:
        bright = chain.is_bright
        counted = np.where(~bright[:, None] & bright, chain.Q, 0.0)
        E = expm((chain.Q + (z[:, None, None] - 1.0) * counted) * duration_s)
        states = np.einsum("mi,mij->mj", states, E)
    coefficients = np.fft.fft(states.sum(axis=1))[: n_max + 1].real / m
    p = coefficients * np.abs(z[0]) ** -np.arange(n_max + 1.0)
    return np.asarray(np.clip(p, 0.0, 1.0))


def predicted_bursts(chain: Chain, n_max: int, duration_s: float = math.inf) -> Floats:
    """Return the probability of 0, 1, ... n_max bursts of one dye.

    Parameters
    ----------
    chain
        Any chain.
    n_max
        The largest number asked for.
    duration_s
        Bursts that begin within this time; inf counts all there ever are.

    Returns
    -------
    ndarray, shape (n_max + 1,)
        To 1e-9. What is missing to 1 belongs to larger numbers.

    Notes
    -----
    Without end, from the jump chain (`BurstLaws.of` tells which chains it refuses). In finite time,
    of any chain, by `bursts_under_steps`.
    """
    if math.isinf(duration_s):
        laws = BurstLaws.of(chain)
        begun = np.empty(n_max + 2)  # probability of at least n
        begun[0], entry = 1.0, laws.first
        for n in range(1, n_max + 2):
            begun[n] = entry.sum()
            entry = entry @ laws.again
        return begun[:-1] - begun[1:]
    return bursts_under_steps([(chain, duration_s)], n_max)


def predicted_on_time(chain: Chain, t_s: npt.ArrayLike) -> Floats:
    """Return the probability that a whole burst lasts longer than t."""
    return BurstLaws.of(chain).on_longer_than(t_s)


def predicted_off_time(chain: Chain, t_s: npt.ArrayLike) -> Floats:
    """Return the probability that the dark interval between two bursts of a dye exceeds t."""
    return BurstLaws.of(chain).off_longer_than(t_s)


def predicted_photons(chain: Chain, photons: npt.ArrayLike, brightness_cv: float = 0.0) -> Floats:
    """Return the probability that a whole burst brings exactly so many photons.

    Parameters
    ----------
    chain
        Any chain.
    photons
        Whole numbers, any shape.
    brightness_cv
        Relative s.d. of the dyes' log-normal brightness.
    """
    laws, n = BurstLaws.of(chain), np.asarray(photons)
    return laws.at_least(n, brightness_cv) - laws.at_least(n + 1, brightness_cv)


def _powers(M: Floats, n: npt.NDArray[np.generic]) -> Floats:
    """Return M^n for every n, (len(n), k, k), by squaring."""
    left = n.astype(np.int64)
    powers = np.broadcast_to(np.eye(len(M)), (len(left), *M.shape)).copy()
    while left.any():
        odd = (left & 1).astype(bool)
        powers[odd] = powers[odd] @ M
        M = M @ M
        left >>= 1
    return powers

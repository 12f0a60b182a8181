"""Continuous-time Markov chains: what a dye does, and what follows from it in closed form.

A chain is a generator matrix Q: Q[i, j] is the rate from state i to state j, 1/s, and every row
sums to zero. Some states shine. A *burst* is one stay among the states that shine: going from one
of them straight to another doesn't end it. Everything here is exact: matrix exponentials, or the
fundamental matrix of absorbing chains (J. G. Kemeny & J. L. Snell, Finite Markov Chains, 1960).
What is known of whole bursts stands in `burst_laws`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import expm

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Chain:
    """A dye in steady light.

    Attributes
    ----------
    Q : (n, n)
        Rates between states, 1/s; the diagonal makes every row sum to zero.
    photons_per_s : (n,)
        Photons that a state sends on the camera.
    start : (n,)
        Probability of each state at the beginning.
    names
        One for each state.
    bright : (n,)
        States that count as ON; those with photons, if nothing is said.
    final : (n,)
        States that are never left; those without a way out, if nothing is said.

    Raises
    ------
    ValueError
        Shapes don't fit, a rate is negative, a row of Q or the start doesn't sum up.
    """

    Q: Floats
    photons_per_s: Floats
    start: Floats
    names: tuple[str, ...]
    bright: Bools | None = None
    final: Bools | None = None

    def __post_init__(self) -> None:
        Q = np.asarray(self.Q, np.float64)
        n = len(self.names)
        if Q.shape != (n, n) or not np.isfinite(Q).all():
            raise ValueError(f"Q: {n} states need a finite ({n}, {n}) matrix, got shape {Q.shape}")
        off = Q - np.diag(np.diag(Q))
        if (off < 0.0).any():
            i, j = np.argwhere(off < 0.0)[0]
            raise ValueError(f"Q: negative rate from {self.names[i]!r} to {self.names[j]!r}")
        if (np.abs(Q.sum(axis=1)) > 1e-9 * (1e-300 + np.abs(Q).max())).any():
            raise ValueError("Q: every row of a generator sums to zero")
        photons, start = np.asarray(self.photons_per_s, float), np.asarray(self.start, float)
        if photons.shape != (n,) or not (photons >= 0.0).all():
            raise ValueError(f"photons_per_s: one rate >= 0 for each of {n} states")
        if start.shape != (n,) or (start < 0.0).any() or abs(start.sum() - 1.0) > 1e-9:
            raise ValueError(f"start: probabilities of {n} states that sum to 1")
        bright = photons > 0.0 if self.bright is None else np.asarray(self.bright, bool)
        final = np.diag(Q) == 0.0 if self.final is None else np.asarray(self.final, bool)
        if bright.shape != (n,) or final.shape != (n,) or np.diag(Q)[final].any():
            raise ValueError("bright, final: one flag a state; a final state has no way out")
        for name, value in (("Q", Q), ("photons_per_s", photons), ("start", start)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "bright", bright)
        object.__setattr__(self, "final", final)

    @property
    def is_bright(self) -> Bools:
        """States that count as ON."""
        assert self.bright is not None
        return self.bright

    @property
    def is_final(self) -> Bools:
        """States that are never left."""
        assert self.final is not None
        return self.final

    def starting(self, name: str) -> Chain:
        """Return the same chain that begins in a state.

        Raises
        ------
        ValueError
            There is no such state.
        """
        if name not in self.names:
            raise ValueError(f"there is no state {name!r}; there are {', '.join(self.names)}")
        return self.beginning(np.array([float(n == name) for n in self.names]))

    def beginning(self, start: Floats) -> Chain:
        """Return the same chain with other probabilities at the beginning."""
        return Chain(self.Q, self.photons_per_s, start, self.names, self.bright, self.final)

    # ---- where it is -----------------------------------------------------------------------------

    def at(self, t_s: npt.ArrayLike) -> Floats:
        """Return the probability of every state at given times, start expm(Q t).

        Parameters
        ----------
        t_s
            Times since the beginning, any shape.

        Returns
        -------
        ndarray, shape (..., n)
        """
        t = np.asarray(t_s, float)
        return np.asarray(self.start @ expm(self.Q * t[..., None, None]))

    def stationary(self) -> Floats:
        """Return the probabilities that stay as they are: pi Q = 0.

        Raises
        ------
        ValueError
            There is more than one such set, as the chain can end up in separate places.
        """
        return stationary(self.Q, self.names)

    def unending(self) -> Chain:
        """Return the chain as it would be if nothing were lost, from its stationary state.

        Stays last as long as before, but none ends in a final state: jumps there become jumps
        elsewhere, in proportion to the other ways out.
        """
        keep = ~self.is_final
        if not keep.any():
            keep = np.ones(len(keep), bool)
        Q = without_loss(self.Q, keep)
        names = tuple(n for n, k in zip(self.names, keep, strict=True) if k)
        balance = stationary(Q, names)
        return Chain(Q, self.photons_per_s[keep], balance, names, self.is_bright[keep])

    def duty_cycle(self) -> float:
        """Return the fraction of its time that a dye is ON, as long as it isn't bleached."""
        chain = self.unending()
        return float(chain.start[chain.is_bright].sum())

    # ---- until it ends ---------------------------------------------------------------------------

    def visits(self) -> Floats:
        """Return the mean number of visits to each state, start (I - P)^-1.

        Infinite for a state visited for ever; for a final state the probability to end there.
        """
        inside, closed = self._split()
        stay = -np.diag(self.Q)
        P = self.Q / np.where(stay > 0.0, stay, 1.0)[:, None]
        np.fill_diagonal(P, 0.0)
        counts = np.zeros(len(stay))
        n = int(inside.sum())
        counts[inside] = self.start[inside] @ np.linalg.inv(np.eye(n) - P[np.ix_(inside, inside)])
        ending = self.start[closed] + counts[inside] @ P[np.ix_(inside, closed)]
        for_ever = np.where(self._reached()[closed], np.inf, 0.0)
        counts[closed] = np.where(stay[closed] == 0.0, ending, for_ever)
        return counts

    def time_in_states(self) -> Floats:
        """Return the mean time spent in each state, s; infinite where it ends."""
        inside, closed = self._split()
        times = np.zeros(len(inside))
        times[inside] = self.start[inside] @ self._green(inside)
        times[closed] = np.where(self._reached()[closed], np.inf, 0.0)
        return times

    def mean_time_to_bleach(self) -> float:
        """Return the mean time until a dark final state is entered, s; inf if it may never be."""
        inside, closed = self._split()
        lost = self.is_final & ~self.is_bright
        if (self._reached() & closed & ~lost).any():
            return math.inf
        return float(self.time_in_states()[inside].sum())

    def total_photons(self, duration_s: float = math.inf) -> tuple[float, float]:
        """Return mean and variance of the number of photons that a dye sends on the camera.

        Photons come as a Poisson process whose rate follows the state: the variance is the mean
        plus the variance of the rate's integral, whose two moments come from one exponential of a
        block matrix (C. Van Loan, IEEE Trans. Autom. Control 23 (1978) 395), or from the inverse of
        Q when there is no end.

        Parameters
        ----------
        duration_s
            Length of the observation from the beginning.
        """
        r = self.photons_per_s
        if math.isinf(duration_s):
            inside, closed = self._split()
            if (self._reached() & closed & (r > 0.0)).any():
                return math.inf, math.inf
            G = self._green(inside)
            alpha, rate = self.start[inside], r[inside]
            mean = alpha @ G @ rate
            second = 2.0 * alpha @ G @ (rate * (G @ rate))
        else:
            # photons in a unit that makes all blocks alike, or the exponential loses digits
            unit = (r.max() or 1.0) / (np.abs(self.Q).max() or 1.0)
            n, zero, R = len(r), np.zeros_like(self.Q), np.diag(r / unit)
            blocks = np.block([[self.Q, R, zero], [zero, self.Q, R], [zero, zero, self.Q]])
            E = expm(blocks * duration_s)
            mean = unit * self.start @ E[:n, n : 2 * n].sum(axis=1)
            second = 2.0 * unit**2 * self.start @ E[:n, 2 * n :].sum(axis=1)
        return float(mean), float(mean + second - mean**2)

    def _split(self) -> tuple[Bools, Bools]:
        """Return which states are left for good sooner or later, and which are not."""
        closed = np.zeros(len(self.names), bool)
        for members in closed_classes(self.Q):
            closed[members] = True
        return ~closed, closed

    def _green(self, inside: Bools) -> Floats:
        """Return the mean time in each state from each state: the fundamental matrix, in s."""
        return np.asarray(np.linalg.inv(-self.Q[np.ix_(inside, inside)]))

    def _reached(self) -> Bools:
        return np.asarray((self.start > 0.0) @ reach(self.Q))


@dataclass(frozen=True, eq=False)
class Kinetics:
    """A dye in any light: Q = dark + I_exc excitation + I_act activation.

    Attributes
    ----------
    dark, excitation, activation : (n, n)
        Generators, 1/s, and 1/s per kW/cm2 of the light that excites and that activates.
    photons_per_s_per_kw_per_cm2 : (n,)
        Photons on the camera per excitation.
    start : (n,) or None
        Probability of each state at the beginning; none: in balance with the first light.
    names
        One for each state.
    bright, final : (n,)
        States that count as ON; states that are never left.
    """

    dark: Floats
    excitation: Floats
    activation: Floats
    photons_per_s_per_kw_per_cm2: Floats
    start: Floats | None
    names: tuple[str, ...]
    bright: Bools
    final: Bools

    @classmethod
    def of(cls, chain: Chain) -> Kinetics:
        """Return a chain as the kinetics that it has at an excitation of 1 kW/cm2."""
        none = np.zeros_like(chain.Q)
        flags = (chain.is_bright, chain.is_final)
        return cls(chain.Q, none, none, chain.photons_per_s, chain.start, chain.names, *flags)

    def chain(self, excitation_kw_per_cm2: float, activation_kw_per_cm2: float = 0.0) -> Chain:
        """Return the chain in steady light.

        Raises
        ------
        ValueError
            Light is negative, or the chain should start in balance and has no single one.
        """
        light = (excitation_kw_per_cm2, activation_kw_per_cm2)
        if min(light) < 0.0 or not np.isfinite(light).all():
            raise ValueError("excitation_kw_per_cm2 and activation_kw_per_cm2 are >= 0")
        Q = self.dark + light[0] * self.excitation + light[1] * self.activation
        start = self.balance(Q) if self.start is None else self.start
        photons = self.photons_per_s_per_kw_per_cm2 * light[0]
        return Chain(Q, photons, start, self.names, self.bright, self.final)

    def balance(self, Q: Floats) -> Floats:
        """Return the stationary probabilities, as if nothing were lost, of generators (..., n, n).

        Raises
        ------
        ValueError
            There is more than one balance.
        """
        keep = ~self.final if not self.final.all() else self.bright
        names = [n for n, k in zip(self.names, keep, strict=True) if k]
        start = np.zeros(Q.shape[:-1])
        start[..., keep] = stationary(without_loss(Q, keep), names)
        return start


def without_loss(Q: Floats, keep: Bools) -> Floats:
    """Return generators (..., n, n) of the states kept, whose stays last as long as before."""
    kept = np.ascontiguousarray(Q[..., keep, :][..., keep])
    n = kept.shape[-1]
    rate = -np.diagonal(kept, axis1=-2, axis2=-1)
    others = kept * (1.0 - np.eye(n))
    remaining = others.sum(axis=-1)
    jumps = others / np.where(remaining > 0.0, remaining, 1.0)[..., None]
    rate = np.where(remaining > 0.0, rate, 0.0)
    return np.asarray(rate[..., None] * (jumps - np.eye(n)))


def stationary(Q: Floats, names: Sequence[str]) -> Floats:
    """Return the stationary probabilities of generators (..., n, n) of one pattern of zeros.

    Raises
    ------
    ValueError
        There is more than one stationary state.
    """
    n = Q.shape[-1]
    classes = closed_classes(Q.reshape(-1, n, n)[0])
    if len(classes) > 1:
        ends = " or ".join(repr(names[c[0]]) for c in classes)
        raise ValueError(f"no single stationary state: it may end in {ends}; name a start state")
    scale = np.abs(Q).max(axis=(-2, -1), keepdims=True)
    A = np.swapaxes(Q / np.where(scale > 0.0, scale, 1.0), -2, -1).copy()
    # all rows but one say pi Q = 0; the row given up belongs to a state that is surely visited
    A[..., classes[0][0], :] = 1.0
    b = np.zeros((n, 1))
    b[classes[0][0]] = 1.0
    pi = np.clip(np.linalg.solve(A, np.broadcast_to(b, (*A.shape[:-1], 1)))[..., 0], 0.0, None)
    return np.asarray(pi / pi.sum(axis=-1, keepdims=True))


def reach(Q: Floats) -> Bools:
    """Return which state can be reached from which (also itself)."""
    there = (Q > 0.0) | np.eye(len(Q), dtype=bool)
    for _ in range(len(Q).bit_length()):
        there = there @ there
    return np.asarray(there)


def closed_classes(Q: Floats) -> list[list[int]]:
    """Return the sets of states that, once entered, are never left."""
    there = reach(Q)
    found: list[list[int]] = []
    for i in range(len(Q)):
        members = np.flatnonzero(there[i])
        if there[members, i].all() and members[0] == i:
            found.append([int(m) for m in members])
    return found

"""How many molecules a cluster has, from how many blinks it shows.

N molecules show the sum of N independent numbers of blinks (of one molecule:
:mod:`nanophantom.analysis.blink_kinetics`). The distribution of that sum is exact, by the N-th
power of the characteristic function of one.

The interval holds every N under which the number of blinks seen isn't among the least probable
5 %, half of its own probability not counted (T. E. Sterne, Biometrika 41 (1954) 275, with the
mid-p of H. O. Lancaster): it covers as close to 95 % of cases as whole numbers allow, from N = 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft

from nanophantom.analysis.blink_kinetics import BlinkKinetics, checked_blinks

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Complex = npt.NDArray[np.complex128]


@dataclass(frozen=True, eq=False)
class MoleculeCount:
    """Numbers of molecules, one a cluster.

    Attributes
    ----------
    molecules : (n,)
        Blinks over the mean number per molecule: right on average over all clusters, those
        without a blink included.
    low, high : (n,) int
        Confidence interval.
    """

    molecules: Floats
    low: Ints
    high: Ints


@dataclass(frozen=True)
class PopulationCount:
    """Mean number of molecules per cluster.

    Attributes
    ----------
    mean : float
    low, high : float
        Confidence interval of the mean of these very clusters: blink statistics and the
        uncertainty of the kinetics.
    standard_error : float
        Of the mean of all clusters of the kind, of which these are a sample; right kinetics
        taken for granted.
    spread : float
        S.d. of the number of molecules between clusters, blink statistics taken off; 0 if they
        alone explain the spread of the blinks.
    """

    mean: float
    low: float
    high: float
    standard_error: float
    spread: float


def count_molecules(
    blinks: npt.ArrayLike,
    kinetics: BlinkKinetics | npt.ArrayLike,
    confidence: float = 0.95,
    *,
    seen_only: bool = True,
) -> MoleculeCount:
    """Count the molecules of each cluster by its blinks.

    Parameters
    ----------
    blinks : (n,) int
        Blinks (linked bursts) of each cluster.
    kinetics : BlinkKinetics, (k,) or (m, k)
        Blinks per molecule: a model, the probabilities of 0, 1, 2 ..., or a row of them for
        each of m equally probable kinetics (`GeometricFit.ensemble`), whose spread then widens
        the interval.
    confidence : float
    seen_only : bool
        Whether a cluster without any blink would not be in the list. Matters where molecules
        go unseen and clusters are small.

    Raises
    ------
    ValueError
        Blinks or probabilities that aren't such, or blinks that no number of molecules shows.
    """
    counted = checked_blinks(blinks)
    pmfs = _checked_pmfs(kinetics)
    _check_confidence(confidence)
    if seen_only and np.any(counted == 0):
        raise ValueError("a cluster without blinks is in the list: set seen_only=False")
    values, which = np.unique(counted, return_inverse=True)
    limits = [_interval(int(n), pmfs, 1 - confidence, seen_only) for n in values]
    low, high = np.array(limits, np.int64).reshape(-1, 2)[which].T
    return MoleculeCount(counted / _mean(pmfs), low, high)


def count_population(
    blinks: npt.ArrayLike,
    kinetics: BlinkKinetics | npt.ArrayLike,
    confidence: float = 0.95,
) -> PopulationCount:
    """Return the mean number of molecules per cluster.

    Parameters
    ----------
    blinks : (n,) int
        Blinks of each cluster, 0 for places known to hold one that shows none.
    kinetics, confidence
        See :func:`count_molecules`.
    """
    counted = checked_blinks(blinks)
    pmfs = _checked_pmfs(kinetics)
    _check_confidence(confidence)
    if len(counted) < 2:
        raise ValueError(f"2 clusters or more are needed, got {len(counted)}")
    n, mean_blinks = len(counted), _mean(pmfs)
    low, high = _interval(int(counted.sum()), pmfs, 1 - confidence, False)
    one = pmfs.mean(axis=0)
    variance = float((np.arange(len(one)) ** 2 * one).sum()) - mean_blinks**2
    mean = float(counted.mean()) / mean_blinks
    between = float(counted.var(ddof=1)) - mean * variance
    return PopulationCount(
        mean,
        low / n,
        high / n,
        float(counted.std(ddof=1)) / (mean_blinks * math.sqrt(n)),
        math.sqrt(max(between, 0.0)) / mean_blinks,
    )


def expected_coverage(
    molecules: int,
    kinetics: BlinkKinetics | npt.ArrayLike,
    assumed: BlinkKinetics | npt.ArrayLike | None = None,
    confidence: float = 0.95,
    *,
    seen_only: bool = True,
) -> float:
    """Return the exact chance that the interval holds the truth.

    Parameters
    ----------
    molecules : int
        Of the cluster, in truth.
    kinetics
        That are true, see :func:`count_molecules`.
    assumed
        That the count is made with; the true ones by default. The estimate itself is then off
        by the ratio of the two means.
    """
    true, used = (_checked_pmfs(k) for k in (kinetics, kinetics if assumed is None else assumed))
    _check_confidence(confidence)
    if molecules < 1:
        raise ValueError(f"molecules must be 1 or more, got {molecules}")
    length = max(_length(molecules, true), _length(molecules, used))
    accepted = _p_values(_sum_pmf(molecules, used, length, seen_only)) > 1 - confidence
    return float(_sum_pmf(molecules, true, length, seen_only)[accepted].sum())


def _interval(n: int, pmfs: Floats, alpha: float, seen_only: bool) -> tuple[int, int]:
    """Return the least and the largest number of molecules that n blinks are compatible with."""
    least = 1 if seen_only else 0

    def accepted(molecules: int) -> bool:
        if molecules < least:
            return False
        length = _length(molecules, pmfs)
        # The sum is circular: n beyond the grid, as at all ends of it, is out of the question.
        low, high = _span(molecules, pmfs)
        if not low <= n <= high:
            return False
        pmf = _sum_pmf(molecules, pmfs, length, seen_only)
        return bool(_p_values(pmf)[n % length] > alpha)

    start = max(least, round(n / _mean(pmfs)))
    nearby = (start + step * sign for step in range(20) for sign in (1, -1))
    start = next((m for m in nearby if accepted(m)), -1)
    if start < 0:
        raise ValueError(f"no number of molecules explains {n} blinks with these kinetics")
    limits = []
    for sign in (-1, 1):
        # The last accepted number of molecules lies between `yes` and `no`.
        yes, stride = start, 1
        while accepted(yes + sign * stride):
            yes, stride = yes + sign * stride, 2 * stride
        no = yes + sign * stride
        while abs(no - yes) > 1:
            middle = (yes + no) // 2
            yes, no = (middle, no) if accepted(middle) else (yes, middle)
        # Whole numbers make the edge ragged: one more may be in beyond one that is out.
        for beyond in (2, 3):
            if accepted(yes + sign * beyond):
                yes += sign * beyond
                break
        limits.append(yes)
    return limits[0], limits[1]


def _sum_pmf(molecules: int, pmfs: Floats, length: int, seen_only: bool) -> Floats:
    """Return the probability of n (modulo length) blinks of so many molecules together."""
    spectrum = _power(fft.rfft(_wrapped(pmfs, length), axis=1), molecules)
    # A row stands for all kinetics up to half way to the rows with the next lower and higher mean.
    reach = molecules * _widths(pmfs)[:, None]
    spectrum *= np.sinc(np.arange(length // 2 + 1) / length * reach)
    pmf = np.maximum(fft.irfft(spectrum.mean(axis=0), length), 0)
    if seen_only:
        pmf[0] = max(0.0, pmf[0] - float((pmfs[:, 0] ** molecules).mean()))
    return np.asarray(pmf / pmf.sum())


def _power(base: Complex, exponent: int) -> Complex:
    """Return a whole power by squaring, many times as fast as that of complex numbers."""
    result = np.ones_like(base)
    while exponent:
        if exponent & 1:
            result = result * base
        base, exponent = base * base, exponent >> 1
    return result


def _p_values(pmf: Floats) -> Floats:
    """Return the chance of less probable numbers, plus half that of equally probable ones."""
    # Equal but for rounding: 13 digits decide.
    rounded = np.round(pmf / pmf.max(), 13)
    levels, level = np.unique(rounded, return_inverse=True)
    mass = np.bincount(level, pmf, len(levels))
    return np.asarray((np.cumsum(mass) - 0.5 * mass)[level])


def _span(molecules: int, pmfs: Floats) -> tuple[float, float]:
    """Return between which numbers of blinks all but a negligible part lies."""
    k = np.arange(pmfs.shape[1])
    mean = pmfs @ k
    sd = np.sqrt(np.maximum(molecules * (pmfs @ k**2 - mean**2), 0))
    # Far tails are exponential with the decay of a single molecule's: its whole range on top.
    margin = 9 * sd + len(k) + molecules * _widths(pmfs)
    return float((molecules * mean - margin).min()), float((molecules * mean + margin).max())


def _widths(pmfs: Floats) -> Floats:
    """Return the range of mean blinks that each of the kinetics stands for, 0 if there is one."""
    mean = pmfs @ np.arange(pmfs.shape[1])
    order = np.argsort(mean)
    widths = np.zeros(len(mean))
    if len(mean) > 1:
        widths[order] = np.gradient(mean[order])
    return widths


def _length(molecules: int, pmfs: Floats) -> int:
    """Return a grid, a power of two, on which the sum doesn't overlap itself."""
    low, high = _span(molecules, pmfs)
    return int(2 ** math.ceil(math.log2(high - max(low, 0.0) + 2)))


def _wrapped(pmfs: Floats, length: int) -> Floats:
    rows, k = pmfs.shape
    padded = np.zeros((rows, math.ceil(k / length) * length))
    padded[:, :k] = pmfs
    return np.asarray(padded.reshape(rows, -1, length).sum(axis=1))


def _mean(pmfs: Floats) -> float:
    return float((pmfs @ np.arange(pmfs.shape[1])).mean())


def _checked_pmfs(kinetics: BlinkKinetics | npt.ArrayLike) -> Floats:
    given = kinetics.pmf() if isinstance(kinetics, BlinkKinetics) else kinetics
    pmfs = np.atleast_2d(np.asarray(given, np.float64))
    proper = pmfs.ndim == 2 and pmfs.shape[1] > 1 and np.isfinite(pmfs).all() and np.all(pmfs >= 0)
    if not proper or np.abs(pmfs.sum(axis=1) - 1).max() > 1e-6:
        raise ValueError("kinetics: probabilities of 0, 1, 2 ... blinks, each row summing to 1")
    if np.any(pmfs[:, 0] > 1 - 1e-9):
        raise ValueError("kinetics: molecules that never blink can't be counted")
    return np.asarray(pmfs / pmfs.sum(axis=1, keepdims=True))


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence:g}")

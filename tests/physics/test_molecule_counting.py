"""Counting molecules by their blinks and binding sites by their dark times."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from nanophantom.analysis.blink_counting import (
    count_molecules,
    count_population,
    expected_coverage,
)
from nanophantom.analysis.blink_kinetics import BlinkKinetics, fit_geometric, four_state_blinks
from nanophantom.analysis.qpaint import (
    OnRate,
    calibrated_on_rate,
    count_sites,
    dark_exposure,
    dark_exposure_in_frames,
    expected_visits,
    known_on_rate,
    sites_from_visits,
)

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def test_blinks_of_a_four_state_molecule() -> None:
    """Row 24: geometric, k_d 20, k_b 10 /s: mean 3, variance 6, P(1) = 1/3."""
    pmf = four_state_blinks(10, 20, 10).pmf()
    k = np.arange(len(pmf))
    assert pmf[1] == pytest.approx(1 / 3)
    assert (pmf * k).sum() == pytest.approx(3)
    assert (pmf * k**2).sum() - 9 == pytest.approx(6)


def blinks_in_frames(
    rng: np.random.Generator,
    n: int,
    rates: tuple[float, float, float],
    frame_s: float,
    gap: int,
    shortest_s: float,
    activation_per_s: float = np.inf,
    duration_s: float = np.inf,
) -> IntArray:
    """Play n molecules event by event, sum their ON time in each frame, link what is seen."""
    bleach, dark, recovery = rates
    bursts = rng.geometric(bleach / (bleach + dark), n)
    real = np.arange(bursts.max()) < bursts[:, None]
    on = rng.exponential(1 / (bleach + dark), real.shape) * real
    off = rng.exponential(1 / recovery, real.shape) * real
    first = rng.uniform(0, frame_s, (n, 1))
    if np.isfinite(activation_per_s):
        first += rng.exponential(1 / activation_per_s, (n, 1))
    start = first + np.cumsum(on + off, axis=1) - on - off
    frames = int((start + on)[real].max() / frame_s) + 2
    # One time axis for all: molecule after molecule.
    start += np.arange(n)[:, None] * frames * frame_s
    times = np.stack([start, start + on], axis=-1)[real].ravel()
    on_so_far = np.cumsum(np.stack([np.zeros(bursts.sum()), on[real]], axis=-1).ravel())
    in_frame = np.diff(np.interp(np.arange(n * frames + 1) * frame_s, times, on_so_far))
    seen = np.nonzero(in_frame >= max(shortest_s, 1e-12))[0]
    molecule, frame = np.divmod(seen, frames)
    within = frame * frame_s < duration_s
    molecule, frame = molecule[within], frame[within]
    new = np.append(True, (np.diff(molecule) > 0) | (np.diff(frame) > gap + 1))
    return np.bincount(molecule[new], minlength=n)


@pytest.mark.parametrize(
    ("rates", "frame_s", "gap", "shortest_s"),
    [
        ((10.0, 20.0, 10.0), 0.02, 0, 0.0),
        ((10.0, 20.0, 10.0), 0.02, 3, 0.0),
        ((10.0, 20.0, 2.0), 0.05, 2, 0.01),
        ((3.0, 9.0, 1.0), 0.1, 0, 0.05),
        ((5.0, 40.0, 4.0), 0.02, 2, 0.014),
    ],
)
def test_missed_and_merged_blinks(
    rates: tuple[float, float, float], frame_s: float, gap: int, shortest_s: float
) -> None:
    """Closed form against events summed into frames: mean, unseen and shape within 3 %."""
    n = 4000
    blinks = blinks_in_frames(np.random.default_rng(1), n, rates, frame_s, gap, shortest_s)
    kinetics = four_state_blinks(*rates, frame_s=frame_s, gap_frames=gap, shortest_s=shortest_s)
    error = blinks.std() / np.sqrt(n)
    assert abs(blinks.mean() - kinetics.mean) < 0.015 * kinetics.mean + 3 * error
    seen = blinks > 0
    assert abs(seen.mean() - kinetics.seen) < 0.015 + 3 * np.sqrt(seen.var() / n)
    once = blinks[seen] == 1
    assert abs(once.mean() - kinetics.p) < 0.015 + 3 * np.sqrt(once.var() / seen.sum())
    # Uncorrected, the number of bursts is far off, except for the shortest dead time.
    assert (gap == 0 and shortest_s == 0) or blinks.mean() * rates[0] / sum(rates[:2]) < 0.9


def test_a_movie_that_ends_cuts_off_blinks() -> None:
    """Slow activation and few minutes: mean and share of unseen molecules within 2 %."""
    rates, frame_s, activation, duration = (2.0, 8.0, 0.5), 0.05, 0.05, 30.0
    kinetics = four_state_blinks(*rates, frame_s=frame_s, gap_frames=1)
    pmf = kinetics.within(duration, activation)
    n = 3000
    blinks = blinks_in_frames(
        np.random.default_rng(2), n, rates, frame_s, 1, 0.0, activation, duration
    )
    mean = float((pmf * np.arange(len(pmf))).sum())
    assert abs(blinks.mean() - mean) < 0.02 * mean + 2 * blinks.std() / np.sqrt(n)
    assert abs((blinks == 0).mean() - pmf[0]) < 0.02
    assert mean < 0.8 * kinetics.mean


@pytest.mark.parametrize(("p", "seen"), [(1 / 3, 1.0), (0.5, 0.6), (0.25, 0.4), (0.6, 1.0)])
def test_the_interval_covers_the_truth(p: float, seen: float) -> None:
    """Exactly (no repeats needed): 91 to 98 % for every N from 1 to 200, on average 95 %."""
    coverage = [expected_coverage(n, BlinkKinetics(p, seen)) for n in range(1, 201)]
    assert min(coverage) > 0.91
    assert max(coverage) < 0.98
    assert np.mean(coverage) == pytest.approx(0.95, abs=0.002)


def test_the_interval_is_that_of_the_exact_distribution() -> None:
    """Of all N whose negative binomial makes n blinks not improbable, and played repeats agree."""
    kinetics = BlinkKinetics(1 / 3)
    for n in (1, 4, 30, 100):
        k = np.arange(0, 2000)
        accepted = []
        for molecules in range(1, n + 1):
            pmf = stats.nbinom.pmf(k - molecules, molecules, 1 / 3)
            same = np.isclose(pmf, pmf[n], rtol=1e-9)
            if pmf[(pmf < pmf[n]) & ~same].sum() + 0.5 * pmf[same].sum() > 0.05:
                accepted.append(molecules)
        count = count_molecules([n], kinetics)
        assert (count.low[0], count.high[0]) == (accepted[0], accepted[-1])
    rng = np.random.default_rng(3)
    for molecules in (1, 6, 60):
        blinks = rng.geometric(1 / 3, (1000, molecules)).sum(axis=1)
        count = count_molecules(blinks, kinetics)
        covered = ((count.low <= molecules) & (molecules <= count.high)).mean()
        expected = expected_coverage(molecules, kinetics)
        assert abs(covered - expected) < 3.5 * np.sqrt(0.05 * 0.95 / 1000)
        assert count.molecules.mean() == pytest.approx(molecules, rel=0.05)


def test_wrong_kinetics_bias_the_count_as_predicted() -> None:
    """p wrong by 20 % makes N wrong by 20 %: blinks times p; the interval misses most of them."""
    true = BlinkKinetics(1 / 3)
    blinks = np.random.default_rng(4).geometric(1 / 3, (400, 50)).sum(axis=1)
    for factor in (0.8, 1.2):
        wrong = BlinkKinetics(factor / 3)
        count = count_molecules(blinks, wrong)
        assert count.molecules.mean() == pytest.approx(50 * factor, rel=0.02)
        covered = ((count.low <= 50) & (count.high >= 50)).mean()
        expected = expected_coverage(50, true, wrong)
        assert expected < 0.75
        assert abs(covered - expected) < 3.5 * np.sqrt(expected * (1 - expected) / 400)
        assert expected_coverage(200, true, wrong) < 0.3


@pytest.mark.slow
def test_an_uncertain_calibration_widens_the_interval() -> None:
    """40 isolated molecules: 91 to 98 % covered from 1 to 200; with p taken for sure far less."""
    rng = np.random.default_rng(5)
    for molecules in (1, 5, 30, 200):
        covered = sure = 0
        for _ in range(200):
            calibration = fit_geometric(rng.geometric(1 / 3, 40))
            n = [int(rng.geometric(1 / 3, molecules).sum())]
            for count, of in (
                (count_molecules(n, calibration.ensemble()), "ensemble"),
                (count_molecules(n, BlinkKinetics(calibration.p)), "sure"),
            ):
                hit = count.low[0] <= molecules <= count.high[0]
                covered, sure = covered + hit * (of == "ensemble"), sure + hit * (of == "sure")
        assert 0.91 <= covered / 200 <= 0.98
        assert molecules < 200 or sure / 200 < 0.8


def test_the_calibration_knows_its_own_error() -> None:
    rng = np.random.default_rng(6)
    fits = [fit_geometric(rng.geometric(0.4, 60)) for _ in range(600)]
    assert np.mean([f.p for f in fits]) == pytest.approx(0.4, rel=0.02)
    scatter = np.std([f.p for f in fits])
    assert np.mean([f.standard_error for f in fits]) == pytest.approx(scatter, rel=0.1)
    assert 0.93 < np.mean([f.low <= 0.4 <= f.high for f in fits]) < 0.97


def test_the_mean_of_a_population() -> None:
    """Clusters of Poisson 10 molecules, 60 % of them seen: mean, spread and intervals."""
    rng = np.random.default_rng(7)
    kinetics = BlinkKinetics(0.4, 0.6)
    means, spreads, covered, own = [], [], 0, []
    for _ in range(200):
        molecules = rng.poisson(10, 40)
        shown = rng.binomial(molecules, 0.6)
        blinks = np.array([rng.geometric(0.4, k).sum() for k in shown])
        population = count_population(blinks, kinetics)
        means.append(population.mean)
        spreads.append(population.spread)
        covered += population.low <= molecules.mean() <= population.high
        own.append(population.standard_error)
    assert np.mean(means) == pytest.approx(10, rel=0.02)
    assert np.mean(own) == pytest.approx(np.std(means), rel=0.15)
    assert np.median(spreads) == pytest.approx(np.sqrt(10), rel=0.15)
    assert 0.91 <= covered / 200 <= 0.985


def binding(
    rng: np.random.Generator, sites: int, on_per_s: float, bound_s: float, duration_s: float
) -> tuple[FloatArray, FloatArray]:
    """Return starts and ends of visits to stationary sites."""
    most = int(duration_s * on_per_s + 10 * np.sqrt(duration_s * on_per_s) + 20)
    dark = rng.exponential(1 / on_per_s, (sites, most))
    bound = rng.exponential(bound_s, (sites, most))
    dark[rng.random(sites) < on_per_s * bound_s / (1 + on_per_s * bound_s), 0] = 0
    start = (np.cumsum(dark + bound, axis=1) - bound).ravel()
    inside = start < duration_s
    end = np.minimum(start + bound.ravel(), duration_s)
    return start[inside], end[inside]


def frames_of(start: FloatArray, end: FloatArray, frame_s: float, n_frames: int) -> IntArray:
    first, last = (np.minimum(t / frame_s, n_frames - 1).astype(np.int64) for t in (start, end))
    return np.concatenate([np.arange(a, b + 1) for a, b in zip(first, last, strict=True)] + [[]])


@pytest.mark.parametrize(
    ("sites", "on_per_s", "bound_s", "duration_s"),
    [(3, 0.01, 0.5, 1000.0), (12, 0.01, 0.5, 600.0), (20, 0.05, 2.0, 600.0)],
)
def test_dark_times_count_sites(
    sites: int, on_per_s: float, bound_s: float, duration_s: float
) -> None:
    """Row 37, in the last case bound 85 % of the time: mean within 5 %, s.d. 1/sqrt(visits)."""
    rng = np.random.default_rng(8)
    n_frames, repeats = int(duration_s / 0.1), 300
    ways: dict[str, list[tuple[int, float]]] = {"events": [], "merged": [], "frames": []}
    for _ in range(repeats):
        start, end = binding(rng, sites, on_per_s, bound_s, duration_s)
        ways["events"].append(dark_exposure(start, end, duration_s))
        ways["merged"].append(dark_exposure(start, end, duration_s, shortest_s=0.4))
        frames = frames_of(start, end, 0.1, n_frames)
        ways["frames"].append(dark_exposure_in_frames(frames, n_frames, 0.1, gap_frames=1))
    for measured in ways.values():
        visits, dark = np.array(measured).T
        count = count_sites(visits, dark, OnRate(on_per_s))
        assert count.sites.mean() == pytest.approx(sites, rel=0.05)
        covered = ((count.low <= sites) & (sites <= count.high)).mean()
        assert 0.91 <= covered <= 0.98
        assert count.sites.std() / sites == pytest.approx(count.relative_error.mean(), rel=0.15)


def test_the_interval_of_sites_covers_93_to_97_percent() -> None:
    """Exactly, on average over the number of visits expected; never less than 92 % from 5 on."""
    visits = np.arange(300.0)
    count = count_sites(visits, np.ones(300), OnRate(1.0))
    expected = np.arange(5, 100, 0.25)
    coverage = np.array(
        [stats.poisson.pmf(visits, m)[(count.low <= m) & (m <= count.high)].sum() for m in expected]
    )
    assert 0.945 < coverage.mean() < 0.955
    assert coverage.min() > 0.92
    assert coverage.max() < 0.975


def test_an_uncertain_on_rate_widens_the_interval() -> None:
    """Calibrated with about 50 visits to single sites: 93 to 97 % covered, else under 85 %."""
    rng = np.random.default_rng(9)
    covered = sure = 0
    for _ in range(1500):
        rate = calibrated_on_rate(rng.poisson(5.0, 10), np.full(10, 500.0))
        visits, dark = [int(rng.poisson(8 * 0.01 * 1000))], [1000.0]
        wide, narrow = (count_sites(visits, dark, r) for r in (rate, OnRate(rate.per_s)))
        covered += wide.low[0] <= 8 <= wide.high[0]
        sure += narrow.low[0] <= 8 <= narrow.high[0]
    assert 0.93 <= covered / 1500 <= 0.97
    assert sure / 1500 < 0.85


def test_visits_alone_count_sites_too() -> None:
    """Time bound and overlap corrected; without, 12 sites bound 2 % each read 21 % too low."""
    rng = np.random.default_rng(10)
    sites, rate, bound, duration = 12, 0.02, 1.0, 400.0
    visits = [
        dark_exposure(*binding(rng, sites, rate, bound, duration), duration)[0] for _ in range(300)
    ]
    expected = expected_visits(sites, duration, rate, bound)
    assert expected == pytest.approx(sites * rate * duration / 1.02**12)
    assert np.mean(visits) == pytest.approx(expected, rel=0.02)
    count = sites_from_visits(visits, duration, rate, bound)
    assert count.sites.mean() == pytest.approx(sites, rel=0.05)
    assert ((count.low <= sites) & (sites <= count.high)).mean() > 0.93
    with pytest.raises(ValueError, match="use dark times"):
        sites_from_visits([400], duration, rate, bound)


def test_row_36_and_bad_input() -> None:
    """k_on 1e6 /(M s), 10 nM: dark time 100 s, a site missed in 1000 s 4.54e-5."""
    rate = known_on_rate(1e-3, 10.0)
    assert 1 / rate.per_s == pytest.approx(100)
    assert np.exp(-rate.per_s * 1000) == pytest.approx(4.54e-5, rel=1e-3)
    with pytest.raises(ValueError, match="on-rate must be positive"):
        OnRate(0.0)
    with pytest.raises(ValueError, match="never dark"):
        dark_exposure_in_frames([1, 3, 5, 7], 9, 0.1)
    with pytest.raises(ValueError, match="no number of molecules"):
        count_molecules([7], [0, 0, 0, 0, 0, 1.0])
    with pytest.raises(ValueError, match="seen_only=False"):
        count_molecules([0, 3], BlinkKinetics(0.5))
    with pytest.raises(ValueError, match="summing to 1"):
        count_molecules([3], [0.5, 0.6])
    with pytest.raises(ValueError, match="1 or more for each"):
        fit_geometric([0, 1])

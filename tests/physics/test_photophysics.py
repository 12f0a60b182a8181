"""Blinking dyes: chains played event by event obey their closed forms, and frames get what is due.

Monte Carlo results lie within 3 standard errors, with fixed seeds.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from nanophantom.simcore.light.burst_laws import (
    BurstLaws,
    predicted_bursts,
    predicted_off_time,
    predicted_on_time,
    predicted_photons,
)
from nanophantom.simcore.light.bursts import (
    Bursts,
    Exposures,
    Light,
    exposed,
    photons_in_frame,
    play,
)
from nanophantom.simcore.light.fluorophores import Fluorophore
from nanophantom.simcore.light.markov import Chain

Floats = npt.NDArray[np.float64]


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def chain(rates: dict[tuple[str, str], float], photons: dict[str, float], start: str) -> Chain:
    names = tuple(dict.fromkeys(name for ends in rates for name in ends))
    Q = np.zeros((len(names), len(names)))
    for (source, to), rate in rates.items():
        Q[names.index(source), names.index(to)] = rate
    np.fill_diagonal(Q, -Q.sum(axis=1))
    shining = np.array([photons.get(n, 0.0) for n in names])
    return Chain(Q, shining, np.array([float(n == start) for n in names]), names)


def palm(ka: float, kd: float, kr: float, kb: float, R: float = 2e4) -> Chain:
    rates = {
        ("inactive", "on"): ka,
        ("on", "dark"): kd,
        ("dark", "on"): kr,
        ("on", "bleached"): kb,
    }
    return chain(rates, {"on": R}, "inactive")


def paint(k_on: float, k_off: float, R: float = 1e4) -> Chain:
    dye = chain({("free", "bound"): k_on, ("bound", "free"): k_off}, {"bound": R}, "free")
    return dye.beginning(dye.stationary())


TWO_BRIGHT = chain(
    {
        ("a", "b"): 12.0,
        ("b", "a"): 3.0,
        ("b", "short"): 6.0,
        ("a", "long"): 2.0,
        ("short", "a"): 15.0,
        ("long", "b"): 0.8,
        ("short", "long"): 1.0,
        ("b", "gone"): 1.5,
    },
    {"a": 400.0, "b": 90.0},
    "short",
)


def assert_mean(samples: npt.ArrayLike, mean: float) -> None:
    x = np.asarray(samples, float)
    assert abs(x.mean() - mean) < 3.0 * x.std() / np.sqrt(len(x))


def assert_variance(samples: npt.ArrayLike, variance: float) -> None:
    x = np.asarray(samples, float)
    assert_mean((x - x.mean()) ** 2, variance)


def assert_fractions(found: npt.ArrayLike, expected: npt.ArrayLike, n: int) -> None:
    """Each of some fractions of n independent trials lies within 3 standard errors."""
    p = np.asarray(expected, float)
    assert (np.abs(np.asarray(found, float) - p) < 3.0 * np.sqrt(p * (1.0 - p) / n) + 1e-12).all()


def per_dye(bursts: Bursts, values: npt.ArrayLike) -> Floats:
    return np.bincount(bursts.dye, np.asarray(values, float), minlength=len(bursts.bleach_s))


# ---- closed forms --------------------------------------------------------------------------------


def test_state_vector_of_the_four_state_dye() -> None:
    # optical reference table, row 28: expm computed independently, 1e-5
    expected = [
        [0.95123, 0.00455, 0.00895, 0.03526],
        [0.77880, 0.00395, 0.00795, 0.20930],
        [0.36788, 0.00187, 0.00375, 0.62650],
    ]
    np.testing.assert_allclose(palm(0.05, 20, 10, 10).at([1.0, 5.0, 20.0]), expected, atol=1e-5)


@pytest.mark.parametrize(("k1", "k2", "t"), [(0.3, 2.0, 1.7), (5.0, 0.1, 4.0), (1e3, 1.0, 0.01)])
def test_state_vector_of_a_cascade(k1: float, k2: float, t: float) -> None:
    """A -> B -> C has a textbook solution (H. Bateman, 1910)."""
    dye = chain({("A", "B"): k1, ("B", "C"): k2}, {"B": 1.0}, "A")
    a = np.exp(-k1 * t)
    b = k1 / (k2 - k1) * (np.exp(-k1 * t) - np.exp(-k2 * t))
    np.testing.assert_allclose(dye.at(t), [a, b, 1.0 - a - b], rtol=1e-9, atol=1e-12)


FOUR_STATE = [(0.5, 20.0, 10.0, 10.0, 2e4), (3.0, 5.0, 40.0, 15.0, 800.0), (1, 60.0, 3.0, 4.0, 5e4)]


@pytest.mark.parametrize(("ka", "kd", "kr", "kb", "R"), FOUR_STATE)
def test_closed_forms_of_the_four_state_dye(
    ka: float, kd: float, kr: float, kb: float, R: float
) -> None:
    """Rows 24, 26, 27: geometric bursts, photons, time from first ON to bleaching."""
    dye, p = palm(ka, kd, kr, kb, R), kb / (kb + kd)
    n = np.arange(1, 9)
    geometric = np.concatenate([[0.0], p * (1.0 - p) ** (n - 1)])
    np.testing.assert_allclose(predicted_bursts(dye, 8), geometric, atol=1e-12)
    np.testing.assert_allclose(predicted_bursts(dye, 8, 1e5), geometric, atol=1e-9)
    assert BurstLaws.of(dye).mean_number == pytest.approx(1.0 / p)
    assert dye.visits() == pytest.approx([1.0, 1.0 / p, 1.0 / p - 1.0, 1.0])
    assert dye.total_photons() == pytest.approx((R / kb, R / kb + (R / kb) ** 2))
    assert dye.total_photons(1e5) == pytest.approx((R / kb, R / kb + (R / kb) ** 2), rel=1e-6)
    from_on = dye.starting("on").mean_time_to_bleach()
    assert from_on == pytest.approx(1.0 / kb + kd / kb / kr)
    assert dye.mean_time_to_bleach() == pytest.approx(1.0 / ka + from_on)


def test_published_values_of_the_four_state_dye() -> None:
    # rows 24, 26, 27 at k_d 20, k_b 10, k_r 10, R 2e4
    dye = palm(0.05, 20, 10, 10)
    assert BurstLaws.of(dye).mean_number == pytest.approx(3.0)
    assert predicted_bursts(dye, 1)[1] == pytest.approx(1 / 3)
    assert dye.total_photons() == pytest.approx((2000.0, 4.002e6))
    assert dye.starting("on").mean_time_to_bleach() == pytest.approx(0.3)


# ---- dyes played out -----------------------------------------------------------------------------


@pytest.mark.parametrize(("ka", "kd", "kr", "kb", "R"), FOUR_STATE)
def test_played_four_state_dyes_obey_the_closed_forms(
    ka: float, kd: float, kr: float, kb: float, R: float
) -> None:
    """Rows 24-27."""
    n, p = 20_000, kb / (kb + kd)
    bursts = play(palm(ka, kd, kr, kb, R), Light.steady(1e4), n, rng(3))
    assert (bursts.end_state == 3).all()
    number = per_dye(bursts, np.ones(len(bursts)))
    assert_mean(number, 1.0 / p)
    assert_variance(number, (1.0 - p) / p**2)
    k = np.arange(1, 7)
    found = [(number == i).mean() for i in k]
    assert_fractions(found, p * (1.0 - p) ** (k - 1), n)
    on_time = per_dye(bursts, bursts.duration_s)
    assert_mean(on_time, 1.0 / kb)
    assert_variance(on_time, 1.0 / kb**2)
    photons = rng(4).poisson(R * on_time)
    assert_mean(photons, R / kb)
    assert_variance(photons, R / kb + (R / kb) ** 2)
    first = np.full(n, np.inf)
    np.minimum.at(first, bursts.dye, bursts.start_s)
    assert_mean(bursts.bleach_s - first, 1.0 / kb + kd / kb / kr)


@pytest.mark.parametrize("duration_s", [0.4, 3.0, 40.0])
def test_states_and_photons_in_finite_time(duration_s: float) -> None:
    """Of a chain with two bright and two dark states: expm(Qt), number of bursts, photons."""
    n = 20_000
    bursts = play(TWO_BRIGHT, Light.steady(duration_s), n, rng(5))
    states = np.bincount(bursts.end_state, minlength=5) / n
    assert_fractions(states, TWO_BRIGHT.at(duration_s), n)
    photons = rng(6).poisson(per_dye(bursts, bursts.photons))
    mean, variance = TWO_BRIGHT.total_photons(duration_s)
    assert_mean(photons, mean)
    assert_variance(photons, variance)
    number = np.zeros(n, int)
    np.maximum.at(number, bursts.dye, bursts.blink + 1)
    expected = predicted_bursts(TWO_BRIGHT, 5, duration_s)
    assert_fractions(np.bincount(number, minlength=6)[:6] / n, expected, n)


def test_lengths_gaps_and_photons_of_bursts_are_of_phase_type() -> None:
    bursts = play(TWO_BRIGHT, Light.steady(1e4), 20_000, rng(7))
    table = bursts.blinks()
    assert not table["cut"].any()
    assert_mean(table["photons"], BurstLaws.of(TWO_BRIGHT).mean_photons)
    length = table["end_s"] - table["start_s"]
    t = np.array([0.02, 0.1, 0.3, 1.0, 2.0])
    found = [(length > s).mean() for s in t]
    assert_fractions(found, predicted_on_time(TWO_BRIGHT, t), len(length))
    same = np.diff(table["dye"]) == 0
    gap = (table["start_s"][1:] - table["end_s"][:-1])[same]
    t = np.array([0.02, 0.1, 0.5, 2.0])
    found = [(gap > s).mean() for s in t]
    assert_fractions(found, predicted_off_time(TWO_BRIGHT, t), len(gap))
    photons = rng(8).poisson(table["photons"])
    edges = np.array([0, 1, 5, 20, 60, 150, 400])
    found = [((photons >= a) & (photons < b)).mean() for a, b in pairwise(edges)]
    pmf = predicted_photons(TWO_BRIGHT, np.arange(400))
    assert_fractions(found, np.add.reduceat(pmf, edges[:-1]), len(photons))


@pytest.mark.parametrize("cv", [0.0, 0.4])
def test_photons_of_a_burst_with_brightness_from_dye_to_dye(cv: float) -> None:
    """One bright state: geometric; log-normal brightness spreads it and keeps its mean."""
    dye = palm(0.5, 6.0, 5.0, 2.0, R=800.0)  # 100 photons a burst
    n = np.arange(4000)
    p = predicted_photons(dye, n, cv)
    if cv == 0.0:
        np.testing.assert_allclose(p, (100 / 101) ** n / 101, rtol=1e-9, atol=1e-18)
    assert (n * p).sum() == pytest.approx(100.0, rel=1e-4)
    # Poisson + exponential (mean^2) of a log-normal mean: E[b^2] = 1 + cv^2
    second = 100.0 + 2.0 * 100.0**2 * (1.0 + cv**2)
    assert (n**2 * p).sum() == pytest.approx(second, rel=1e-3)


# ---- frames --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0.2, 0.5, 1.0, 3.0, 10.0])
def test_photons_of_an_event_are_unbiased_however_short_it_is(ratio: float) -> None:
    """Event-exact: a well-known simulator gives x 2.84, 1.44, 1.13, 1.017, 1.001 here."""
    T, R, n_frames = 0.1, 5000.0, 4000
    tau = ratio * T
    bursts = play(paint(0.2 / tau, 1.0 / tau, R), Light.steady(n_frames * T), 150, rng(9))
    starts = np.arange(n_frames) * T
    _, rows, photons = exposed(bursts, starts, T)
    of_event = np.bincount(rows, photons, minlength=len(bursts))
    np.testing.assert_allclose(of_event, bursts.photons, rtol=1e-5)  # float32 sums
    inside = (bursts.start_s > 0.0) & (bursts.start_s < 0.9 * n_frames * T)
    assert_mean(of_event[inside], R * tau)
    half = exposed(bursts, starts, T / 2)  # half of it falls between exposures
    of_event = np.bincount(half[1], half[2], minlength=len(bursts))
    assert_mean(of_event[inside], R * tau / 2)


@pytest.mark.parametrize(("tau", "T"), [(0.3, 0.1), (0.02, 0.1), (0.1, 0.1), (0.5, 0.05)])
def test_frames_touched_by_an_event(tau: float, T: float) -> None:
    """Row 29: 1 + tau / T; for 0.3 s and 0.1 s, 4."""
    n_frames = 20_000
    bursts = play(paint(0.2 / tau, 1.0 / tau), Light.steady(n_frames * T), 40, rng(10))
    _, rows, _ = exposed(bursts, np.arange(n_frames) * T, T)
    touched = np.bincount(rows, minlength=len(bursts))
    inside = (bursts.start_s > 0.0) & (bursts.start_s < (n_frames - 60 * tau / T) * T)
    assert_mean(touched[inside], 1.0 + tau / T)


@pytest.mark.parametrize("exposure_s", [0.05, 0.02])
def test_frames_list_exactly_the_rows_that_overlap_them(exposure_s: float) -> None:
    """The index against a search over all rows, in every frame, with a start off zero."""
    bursts = play(TWO_BRIGHT, Light.steady(12.0), 60, rng(11))
    starts = 0.73 + 0.05 * np.arange(200)
    exposures = Exposures(bursts, starts, exposure_s)
    offsets, rows, photons = exposed(bursts, starts, exposure_s)
    for k, start in enumerate(starts):
        everything = photons_in_frame(bursts, np.arange(len(bursts)), start, exposure_s)
        there = np.flatnonzero(everything > 1e-9)
        found, expected = exposures.of(k)
        keep = expected > 1e-9
        np.testing.assert_array_equal(found[keep], there)
        np.testing.assert_allclose(expected[keep], everything[there], rtol=1e-6)
        part = slice(offsets[k], offsets[k + 1])
        np.testing.assert_array_equal(rows[part], found)
        np.testing.assert_allclose(photons[part], expected, rtol=1e-6)


# ---- light that changes --------------------------------------------------------------------------


def test_steps_of_equal_light_change_nothing() -> None:
    dye = Fluorophore(preset="palm").kinetics()
    whole = play(dye, Light(np.array([0.0, 50.0]), np.ones(1), np.full(1, 0.2)), 300, rng(12))
    edges = np.linspace(0.0, 50.0, 1001)
    cut = play(dye, Light(edges, np.ones(1000), np.full(1000, 0.2)), 300, rng(12))
    np.testing.assert_array_equal(cut.dye, whole.dye)
    np.testing.assert_allclose(cut.start_s, whole.start_s, atol=1e-9)
    np.testing.assert_allclose(cut.duration_s, whole.duration_s, atol=1e-9)


@pytest.mark.parametrize(("n_steps", "factor"), [(3, 1.0), (400, 0.3), (5000, 2.5)])
def test_what_a_dye_endures_until_it_bleaches_is_exponential(n_steps: int, factor: float) -> None:
    """Rate times fluence until it bleaches: Exp(1), whatever the schedule; photons, too."""
    n, draw = 4000, rng(n_steps)
    edges = np.concatenate([[-3.0], -3.0 + np.cumsum(draw.exponential(60.0 / n_steps, n_steps))])
    levels = draw.exponential(1.0, n_steps) * (draw.random(n_steps) < 0.7)
    dye = Fluorophore(preset="bleaching", photons_per_s_per_kw_per_cm2=300.0).kinetics()
    light = Light(edges, levels, np.zeros(n_steps))
    bursts = play(dye, light, n, rng(13), excitation=np.full(n, factor))
    fluence = np.concatenate([[0.0], np.cumsum(levels * np.diff(edges))])
    gone = np.isfinite(bursts.bleach_s)
    endured = factor * np.interp(np.where(gone, bursts.bleach_s, edges[-1]), edges, fluence)
    most = factor * fluence[-1]
    assert_fractions(gone.mean(), 1.0 - np.exp(-most), n)
    assert_mean(endured, 1.0 - np.exp(-most))  # of min(E, most)
    np.testing.assert_allclose(per_dye(bursts, bursts.photons), 300.0 * endured, rtol=1e-5)
    assert (bursts.blink == 0).all()


def test_activation_pulses_between_exposures() -> None:
    """Dyes turn on only in the pulses; P(inactive) follows the fluence of 405 nm."""
    edges = np.sort(np.concatenate([np.arange(100) * 1.0, np.arange(100) * 1.0 + 0.9, [100.0]]))
    pulse = np.arange(200) % 2 == 1
    light = Light(edges, np.where(pulse, 0.0, 1.0), np.where(pulse, 0.4, 0.0))
    dye = Fluorophore.model_validate(
        {"preset": "palm", "transitions": [{"source": "inactive", "to": "bright", "rate_per_s": 0}]}
    )
    bursts = play(dye.kinetics(), light, 5000, rng(14))
    assert_fractions((bursts.end_state == 0).mean(), np.exp(-0.4 * 0.1 * 100), 5000)
    first = bursts.blinks()["start_s"][np.flatnonzero(bursts.blinks()["blink"] == 0)]
    # turned on in the dark of a pulse, seen from the next exposure on
    np.testing.assert_allclose(first, np.rint(first), atol=1e-9)


def test_a_dye_keeps_its_fate_whatever_others_are_there() -> None:
    light, n = Light.steady(30.0, 1.0, 0.2), 500
    dye = Fluorophore(preset="palm-two-dark").kinetics()
    factor = np.linspace(0.2, 2.0, n)
    every = play(dye, light, n, rng(15), excitation=factor)
    some = np.array([7, 123, 124, 400])
    few = play(dye, light, some, rng(15), excitation=factor[some])
    for i, number in enumerate(some):
        a, b = every.dye == number, few.dye == i
        np.testing.assert_array_equal(every.start_s[a], few.start_s[b])
        np.testing.assert_array_equal(every.duration_s[a], few.duration_s[b])
    np.testing.assert_array_equal(every.bleach_s[some], few.bleach_s)
    other = play(dye, light, n, rng(16), excitation=factor)
    assert len(other) != len(every) or (other.start_s != every.start_s).any()
    assert (np.diff(every.start_s) >= 0.0).all()


# ---- DNA-PAINT -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("c_nM", "k_off", "T", "missed"), [(10.0, 2.0, 1000.0, 4.54e-5), (5.0, 4.0, 600.0, 0.0498)]
)
def test_docking_sites(c_nM: float, k_off: float, T: float, missed: float) -> None:
    """Row 36: k_on 1e6 /M/s; dark and bright times, duty cycle, sites never visited."""
    site = Fluorophore.model_validate(
        {
            "preset": "dna-paint",
            "concentration_nM": c_nM,
            "transitions": [
                {"source": "bound", "to": "free", "rate_per_s": k_off},
                {"source": "bound", "to": "blocked", "excitation_per_s_per_kw_per_cm2": 0.0},
            ],
        }
    ).chain(0.5)
    k_on, n = 1e-3 * c_nM, 6000
    laws, duty = BurstLaws.of(site), k_on / (k_on + k_off)
    assert (laws.mean_off_s, laws.mean_on_s) == pytest.approx((1.0 / k_on, 1.0 / k_off))
    assert site.duty_cycle() == pytest.approx(duty)
    if c_nM == 10.0:
        assert duty == pytest.approx(0.004975, abs=5e-7)
    assert predicted_bursts(site.starting("free"), 0, T)[0] == pytest.approx(missed, rel=2e-3)
    assert np.exp(-k_on * T) == pytest.approx(missed, rel=2e-3)
    bursts = play(site, Light.steady(T), n, rng(17))
    assert_fractions((bursts.start_s == 0.0).sum() / n, duty, n)  # in balance from the beginning
    assert_fractions((bursts.end_state == 1).mean(), duty, n)
    number = np.bincount(bursts.dye, minlength=n)
    assert_fractions((number == 0).mean(), (1.0 - duty) * np.exp(-k_on * T), n)
    begun = bursts.start_s > 0.0
    events_per_s = begun.sum() / (n * T)
    expected = k_on * k_off / (k_on + k_off)
    assert abs(events_per_s - expected) < 3.0 * np.sqrt(expected / (n * T))
    assert_mean(bursts.duration_s[begun & (bursts.start_s < T - 20.0 / k_off)], 1.0 / k_off)


@pytest.mark.parametrize(("N", "c_nM"), [(1, 10.0), (6, 5.0), (40, 2.0)])
def test_qpaint_counts_sites_by_their_dark_time(N: int, c_nM: float) -> None:
    """Row 37: N = 1 / (k_on c tau_d*), with a relative error of 1 / sqrt(n)."""
    k_on, k_off, T, groups = 1e-3 * c_nM, 5.0, 30_000.0 / N, 150
    bursts = play(paint(k_on, k_off), Light.steady(T), N * groups, rng(18))
    counts, spread = [], []
    for g in range(groups):
        mine = (bursts.dye // N) == g
        start, end = bursts.start_s[mine], bursts.end_s[mine]
        gaps = start[1:] - np.maximum.accumulate(end)[:-1]
        gaps = gaps[gaps > 0.0]  # times in which none of the N shines
        counts.append(1.0 / (k_on * gaps.mean()))
        spread.append(1.0 / np.sqrt(len(gaps)))
    n = 1.0 / np.mean(spread) ** 2
    assert_mean(counts, N * n / (n - 1.0))  # the mean of 1 / (mean of n exponentials)
    relative = np.std(counts) / N
    assert abs(relative - np.mean(spread)) < 3.0 * relative / np.sqrt(2 * groups)


def test_sites_are_lost_by_chance_at_the_end_of_a_visit() -> None:
    """With a loss of 0.25 a visit, a site gets 4 visits on average, geometric; mean length kept."""
    site = Fluorophore.model_validate(
        {"preset": "dna-paint", "loss_per_burst": 0.25, "concentration_nM": 50.0}
    ).chain(0.0)
    whole = Fluorophore(preset="dna-paint", concentration_nM=50.0).chain(0.0)
    assert site.start[:3] == pytest.approx(whole.start)
    free = site.starting("free")
    n = np.arange(1, 6)
    np.testing.assert_allclose(predicted_bursts(free, 5)[1:], 0.25 * 0.75 ** (n - 1), atol=1e-12)
    assert BurstLaws.of(site).mean_on_s == pytest.approx(0.5)
    bursts = play(
        Fluorophore(
            preset="dna-paint", loss_per_burst=0.25, concentration_nM=50.0, start="free"
        ).kinetics(),
        Light.steady(1e5, 0.0),
        4000,
        rng(19),
    )
    assert len(bursts) == 0  # no light, no photons; visits go on all the same
    assert np.isfinite(bursts.bleach_s).all()
    assert_mean(bursts.bleach_s, 4 * 0.5 + 4 / 0.05)


# ---- presets -------------------------------------------------------------------------------------

DEMPSEY = [("dstorm", 3823.0, 0.0005, 14.0), ("cy5", 4254.0, 0.0004, 10.0),
           ("atto655", 1105.0, 0.0006, 17.0)]  # fmt: skip


@pytest.mark.parametrize(("name", "photons", "duty", "cycles"), DEMPSEY)
@pytest.mark.parametrize("excitation", [0.8, 0.1, 20.0])
def test_dstorm_dyes(
    name: str, photons: float, duty: float, cycles: float, excitation: float
) -> None:
    """Rows 30 and 32 (Dempsey 2011, Table 1), and row 33: light changes the times and no more."""
    dye = Fluorophore.model_validate({"preset": name})
    laws = BurstLaws.of(dye.chain(excitation))
    assert laws.mean_photons == pytest.approx(photons, rel=1e-5)
    assert dye.chain(excitation).duty_cycle() == pytest.approx(duty, rel=1e-5)
    assert laws.mean_number == pytest.approx(cycles, rel=1e-5)
    at_one = BurstLaws.of(dye.chain(1.0))
    assert laws.mean_on_s == pytest.approx(at_one.mean_on_s / excitation)
    assert laws.mean_off_s == pytest.approx(at_one.mean_off_s / excitation)
    assert laws.mean_on_s / (laws.mean_on_s + laws.mean_off_s) == pytest.approx(duty, rel=1e-5)


@pytest.mark.parametrize(("excitation", "activation"), [(0.8, 0.0), (3.0, 0.001)])
def test_played_dstorm_dyes(excitation: float, activation: float) -> None:
    """All are ON at first; 3823 photons a burst and 14 bursts, also with 405 nm."""
    dye, n = Fluorophore(preset="dstorm").kinetics(), 4000
    bursts = play(dye, Light.steady(1e5, excitation, activation), n, rng(20))
    assert np.isfinite(bursts.bleach_s).all()
    assert (bursts.start_s[:n] == 0.0).all()
    assert_mean(bursts.photons, 3823.0)
    assert_mean(per_dye(bursts, np.ones(len(bursts))), 14.0)
    assert_mean(bursts.bleach_s, dye.chain(excitation, activation).mean_time_to_bleach())


@pytest.mark.parametrize("excitation", [0.2, 1.0, 5.0])
def test_dendra2(excitation: float) -> None:
    """Row 34 (Avilov 2014): p 0.521, 1.92 bursts, 85 ms dark; 1/p bursts at any excitation."""
    laws = BurstLaws.of(Fluorophore(preset="palm").chain(excitation, 0.01))
    assert 1.0 / laws.mean_number == pytest.approx(0.521, abs=5e-4)
    assert laws.mean_number == pytest.approx(1.92, abs=5e-3)
    assert laws.mean_off_s == pytest.approx(0.0855, abs=5e-5)


def test_two_dark_states_leave_two_lifetimes() -> None:
    """Dark times of the mEos-like protein: three in four of 50 ms, one in four of 2 s."""
    dye = Fluorophore(preset="palm-two-dark")
    t = np.array([0.0, 0.05, 0.5, 3.0])
    expected = 0.75 * np.exp(-20.0 * t) + 0.25 * np.exp(-0.5 * t)
    np.testing.assert_allclose(predicted_off_time(dye.chain(1.0), t), expected, rtol=1e-9)
    shorter = 0.75 * np.exp(-20.0 * t) + 0.25 * np.exp(-1.5 * t)  # 0.02 kW/cm2 of 405 nm
    np.testing.assert_allclose(predicted_off_time(dye.chain(1.0, 0.02), t), shorter, rtol=1e-9)
    seen = 1.0 - predicted_bursts(dye.chain(1.0, 0.02), 0)[0]
    assert seen == pytest.approx((1e-5 + 0.02) / (1e-5 + 0.03))


def test_uneven_light_acts_as_light_of_that_strength() -> None:
    """A dye at a tenth of the light keeps its photons and lives ten times as long."""
    n, dye = 8000, Fluorophore(preset="bleaching").kinetics()
    factor = np.where(np.arange(n) % 2, 0.1, 1.0)
    bursts = play(dye, Light.steady(1e3, 2.0), n, rng(21), excitation=factor, brightness=2 * factor)
    photons = per_dye(bursts, bursts.photons)
    for f in (0.1, 1.0):
        assert_mean(bursts.bleach_s[factor == f], 1.0 / (2.0 * f))
        assert_mean(photons[factor == f], 1e5 * 2 * f)


def test_states_in_light_that_is_uneven_and_changes() -> None:
    """Each dye ends as its own product of exponentials says: ways out are chosen by its light."""
    n, dye = 20_000, Fluorophore(preset="palm-two-dark").kinetics()
    light = Light(np.array([-1.0, 0.5, 2.0]), np.array([0.5, 0.1]), np.array([0.02, 1.0]))
    group = np.arange(n) % 2
    f, g = np.array([0.2, 3.0]), np.array([5.0, 0.3])
    bursts = play(dye, light, n, rng(23), excitation=f[group], activation=g[group])
    for k in range(2):
        before = dye.chain(0.5 * f[k], 0.02 * g[k]).at(1.5)
        after = dye.chain(0.1 * f[k], 1.0 * g[k]).beginning(before).at(1.5)
        found = np.bincount(bursts.end_state[group == k], minlength=5) / (n / 2)
        assert_fractions(found, after, n // 2)


def test_balance_in_uneven_light_is_that_of_each_dye() -> None:
    """Imagers bleach faster in stronger light, so fewer sites shine at the beginning."""
    site, n = Fluorophore(preset="dna-paint", concentration_nM=1000.0), 30_000
    factor = np.where(np.arange(n) % 2, 10.0, 0.5)
    light = Light.steady(0.01, 1.0)
    bursts = play(site.kinetics(), light, n, rng(22), excitation=factor)
    for f in (10.0, 0.5):
        shining = bursts.start_s[factor[bursts.dye] == f] == 0.0
        bound = site.chain(f).start[1]
        assert_fractions(shining.sum() / (n / 2), bound, n // 2)
    assert site.chain(10.0).start[1] < 0.6 * site.chain(0.5).start[1]

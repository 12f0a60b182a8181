"""The specimen's motion: drift, settling, walk and vibrations."""

import math
import pickle

import numpy as np
import pytest
import scipy.special
from pydantic import ValidationError

from nanophantom.simcore.environment import (
    MOST_SAMPLES,
    MOST_SAMPLES_PER_EXPOSURE,
    SAMPLES_PER_EXPOSURE,
    Drift,
    Vibration,
    samples_of_exposure,
)
from nanophantom.simcore.runs import Run


def motion(seed: int = 1, n: int = 20, **knobs):
    return Drift(**knobs).motion(n, 0.4, 0.5, Run(seed).rng("drift"))


def path(seed: int = 1, n: int = 20, **knobs):
    return Drift(**knobs).path(n, 0.4, 0.5, Run(seed).rng("drift"))


def mean_phasor(parts, cycles, strength, phase=0.7):
    """Return the mean over an exposure of exp(i strength sin(2 pi cycles t + phase))."""
    waves = strength * np.sin(2 * np.pi * np.multiply.outer(cycles, parts) + phase)
    return np.exp(1j * np.atleast_2d(waves).sum(axis=0)).mean()


FINE = (np.arange(20_000) + 0.5) / 20_000


def test_without_motion_nothing_moves() -> None:
    still = path()
    assert still.t_s.shape == (20, SAMPLES_PER_EXPOSURE)
    assert not still.dx_nm.any()
    assert not still.dy_nm.any()


def test_constant_drift_is_exact_at_any_time_and_in_its_direction() -> None:
    t = np.array([0.0, 0.013, 3.3, 1e4])
    dx, dy = motion(speed_nm_per_s=0.2, direction_deg=90.0).at(t)
    np.testing.assert_allclose(dy, 0.2 * t, rtol=1e-15)
    np.testing.assert_allclose(dx, 0.0, atol=1e-12)


def test_typical_drift_is_read_in_nanometres_per_minute() -> None:
    assert Drift(speed_nm_per_s="0.6 nm/min").speed_nm_per_s == pytest.approx(0.01)


def test_settling_goes_as_one_minus_exp_and_ends_at_its_length() -> None:
    """1 - 1/e after the time constant, the whole length in the end, slope A / tau at first."""
    settling = motion(settling_nm=5.0, settling_time_s=900.0)
    length = [math.hypot(*map(float, settling.at(t))) for t in (0.0, 900.0, 1e6)]
    assert length == pytest.approx([0.0, 5.0 * (1 - math.exp(-1)), 5.0], rel=1e-14)
    early = math.hypot(*map(float, settling.at(1e-6)))
    assert early == pytest.approx(5.0 / 900.0 * 1e-6, rel=1e-8)


def test_vibrations_are_sines_with_the_phase_drawn() -> None:
    """At any time: the amplitude along the direction; after a period the same; zero mean."""
    shaken = motion(
        vibrations=(Vibration(frequency_hz=10.0, amplitude_nm=0.3, direction_deg=30.0),)
    )
    t = (np.arange(1000) + 0.5) / 1000 / 10.0
    dx, dy = shaken.at(t)
    assert np.hypot(dx, dy).max() == pytest.approx(0.3, rel=1e-5)
    np.testing.assert_allclose(dy, dx * math.tan(math.radians(30.0)), atol=1e-15)
    np.testing.assert_allclose(shaken.at(t + 0.1)[0], dx, atol=1e-12)
    assert dx.mean() == pytest.approx(0.0, abs=1e-15)
    phases = [
        motion(seed, vibrations=({"frequency_hz": 10, "amplitude_nm": 1},)).vibrations.phase[0]
        for seed in range(400)
    ]
    # mean of a uniform phasor of 400 draws: below 3 / sqrt(400) but for one seed in 8000
    assert abs(np.exp(1j * np.array(phases)).mean()) < 0.15


def test_a_walk_is_brownian_and_starts_at_zero() -> None:
    """Variance of increments: strength^2 times the time between, within four standard errors."""
    drawn = [motion(seed, walk_nm_per_sqrt_s=0.3) for seed in range(2000)]
    knots = drawn[0].knots_s
    first, last = knots[[5, 100]]
    ends = np.array([m.at(np.array([0.0, first, last]))[0] for m in drawn])
    assert not ends[:, 0].any()
    for increment, time in ((ends[:, 1], first), (ends[:, 2] - ends[:, 1], last - first)):
        assert increment.std() == pytest.approx(0.3 * math.sqrt(time), rel=4 / math.sqrt(4000))
    assert abs(np.corrcoef(ends[:, 1], ends[:, 2] - ends[:, 1])[0, 1]) < 4 / math.sqrt(2000)


def test_a_walk_is_straight_between_knots_and_stays_after_the_last() -> None:
    walk = motion(walk_nm_per_sqrt_s=0.3)
    middle = (walk.knots_s[7] + walk.knots_s[8]) / 2
    assert float(walk.at(middle)[0]) == pytest.approx(walk.walk_nm[7:9, 0].mean(), rel=1e-12)
    assert walk.knots_s[-1] == pytest.approx(19 * 0.5 + 0.4)
    assert float(walk.at(1e3)[1]) == walk.walk_nm[-1, 1]


ALL = {
    "speed_nm_per_s": 0.1,
    "walk_nm_per_sqrt_s": 0.2,
    "settling_nm": 3.0,
    "vibrations": (
        {"frequency_hz": 3.0, "amplitude_nm": 0.1},
        {"frequency_hz": 50.0, "amplitude_nm": 0.2},
    ),
}


@pytest.mark.parametrize("cause", list(ALL))
def test_a_knob_at_zero_leaves_the_other_causes_as_they_were(cause: str) -> None:
    """All causes together less this one are the others; their draws don't shift."""
    t = np.linspace(0.0, 9.9, 301)
    off = {cause: () if cause == "vibrations" else 0.0}
    alone = {cause: ALL[cause]}
    for whole, rest, own in zip(
        motion(**ALL).at(t), motion(**(ALL | off)).at(t), motion(**alone).at(t), strict=True
    ):
        np.testing.assert_allclose(whole, rest + own, atol=1e-13)
        assert np.abs(own).max() > 1e-3


def test_a_vibration_more_leaves_those_before_it_as_they_were() -> None:
    one, two = motion(vibrations=ALL["vibrations"][:1]), motion(vibrations=ALL["vibrations"])
    assert one.vibrations.phase[0] == two.vibrations.phase[0]
    assert np.array_equal(one.vibrations.amplitude_nm[0], two.vibrations.amplitude_nm[0])


def test_a_given_direction_leaves_the_walk_as_it_was() -> None:
    drawn = motion(walk_nm_per_sqrt_s=0.2)
    given = motion(walk_nm_per_sqrt_s=0.2, direction_deg=77.0)
    assert np.array_equal(drawn.walk_nm, given.walk_nm)


def test_a_path_holds_the_motion_at_its_own_times() -> None:
    sampled, moving = path(**ALL), motion(**ALL)
    dx, dy = moving.at(sampled.t_s)
    assert np.array_equal(sampled.dx_nm, dx)
    assert np.array_equal(sampled.dy_nm, dy)
    assert np.all(np.diff(sampled.t_s.ravel()) > 0)
    middles = 0.5 * np.arange(20) + 0.2
    np.testing.assert_allclose(sampled.frame_means()["t_s"], middles, atol=1e-12)


def test_a_motion_survives_pickling() -> None:
    moving = motion(**ALL)
    again = pickle.loads(pickle.dumps(moving))
    assert np.array_equal(again.at(3.21), moving.at(3.21))


LARGEST_ERROR = {1.0: 0.012, 2.0: 0.015, 3.0: 0.025}
"""Of the mean phasor, for 2 pi k a: as measured at 180 frequencies (the median is 0.001-0.004)."""


@pytest.mark.parametrize("cycles", [150.3, 200.0, 1000.0, 1977.38, 12345.6])
def test_many_periods_blur_by_the_bessel_function(cycles: float) -> None:
    """Mean of exp(2 pi i k a sin) over many periods: J0(2 pi k a) (Abramowitz-Stegun 9.1.18).

    Whatever the phase, up to 2 pi k a = 3, where J0 has passed its first zero.
    """
    parts = samples_of_exposure([cycles])
    assert len(parts) <= MOST_SAMPLES_PER_EXPOSURE
    for strength, error in LARGEST_ERROR.items():
        for phase in (0.0, 0.7, 2.0):
            mean = mean_phasor(parts, cycles, strength, phase)
            assert abs(mean - scipy.special.j0(strength)) < error


@pytest.mark.parametrize("cycles", [0.3, 1.0, 3.3, 7.9, 13.0, 15.85, 21.47, 31.0, 32.7, 50.4, 63.7])
def test_few_periods_blur_as_a_fine_integral_says(cycles: float) -> None:
    parts = samples_of_exposure([cycles])
    for strength, error in LARGEST_ERROR.items():
        for phase in (0.0, 0.7, 2.0):
            fine = mean_phasor(FINE, cycles, strength, phase)
            assert abs(mean_phasor(parts, cycles, strength, phase) - fine) < error


def test_three_vibrations_at_once_blur_by_the_product_of_their_bessel_functions() -> None:
    """Eight incommensurate triples: within 0.05 of J0(1)^3 = 0.45; random times miss by 0.11."""
    rng = np.random.default_rng(5)
    errors = [
        abs(mean_phasor(samples_of_exposure(cycles), cycles, 1.0) - mean_phasor(FINE, cycles, 1.0))
        for cycles in rng.uniform(100.0, 300.0, (8, 3)).tolist()
    ]
    assert max(errors) < 0.05
    assert np.sqrt(np.mean(np.square(errors))) < 0.03


def test_samples_span_the_exposure_to_a_percent_so_that_slow_drift_blurs_rightly() -> None:
    for cycles in (3.3, 63.7, 150.3, 1000.0, 12345.6):
        parts = samples_of_exposure([cycles])
        assert parts.mean() == pytest.approx(0.5, abs=1e-12)
        assert 0 < parts.min() < parts.max() < 1
        assert (parts[1] - parts[0]) * len(parts) == pytest.approx(1.0, abs=0.0101)


def test_resting_vibrations_cost_no_samples_and_long_movies_get_fewer() -> None:
    resting = path(vibrations=({"frequency_hz": 77.7, "amplitude_nm": 0.0},))
    assert resting.t_s.shape[1] == SAMPLES_PER_EXPOSURE
    cycles = [20.2, 31.4]
    assert len(samples_of_exposure(cycles)) > 40
    assert len(samples_of_exposure(cycles, MOST_SAMPLES // 10**6)) <= 20


@pytest.mark.parametrize(
    "wrong",
    [
        {"settling_nm": -1.0},
        {"settling_time_s": 0.0},
        {"vibrations": ({"frequency_hz": 0.0, "amplitude_nm": 1.0},)},
        {"vibrations": ({"frequency_hz": 5.0},)},
        {"vibrations": ({"frequency_hz": 5.0, "amplitude_nm": 1.0},) * 9},
    ],
)
def test_impossible_motion_is_refused(wrong) -> None:
    with pytest.raises(ValidationError):
        Drift(**wrong)

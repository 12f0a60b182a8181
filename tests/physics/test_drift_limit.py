"""The bound of drift: its limits, and an estimator that reaches it but doesn't beat it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.interpolate import CubicSpline

from nanophantom.validation.drift_limit import drift_limit

FloatArray = npt.NDArray[np.float64]


def wave(shift: float, n: int, period: float, counts: float, contrast: float) -> FloatArray:
    """Return (n, n) counts that vary along y and, in quadrature of another period, along x."""
    y = np.arange(n)[:, None] - shift
    x = np.arange(n)[None, :]
    pattern = np.cos(2 * np.pi * y / period) + np.cos(4 * np.pi * x / period)
    return np.asarray(counts * (1 + 0.5 * contrast * pattern))


def test_many_frames_tend_to_the_limit_of_a_known_image() -> None:
    """1 / sum (dλ/dy)²/λ, here (A 2π/p)²/2 / λ a pixel for a weak wave of amplitude A."""
    image = wave(0, 128, 16, 20.0, 0.02)
    slope = 20 * 0.01 * 2 * np.pi / 16
    known = 1 / np.sqrt(128**2 * slope**2 / 2 / 20)
    assert drift_limit(image, 10**6)[0] == pytest.approx(known, rel=0.01)
    assert drift_limit(image, 10**6)[1] == pytest.approx(known / 2, rel=0.01)


def test_two_frames_differ_by_twice_the_variance() -> None:
    """The difference of two shifts is twice a shift from their mean: var = 2 x the known one."""
    image = wave(0, 64, 16, 20.0, 0.5)
    difference = 2 * drift_limit(image, 2)
    np.testing.assert_allclose(difference**2, 2 * drift_limit(image, 10**9) ** 2, rtol=1e-6)


def test_the_bound_falls_as_one_over_the_root_of_the_dose() -> None:
    image = wave(0, 64, 16, 1.0, 0.5)
    np.testing.assert_allclose(drift_limit(4 * image, 5), drift_limit(image, 5) / 2)


def test_full_fisher_matrix_of_shifts_and_pixels_gives_the_same() -> None:
    """A line of 24 pixels and 4 frames: invert the whole matrix of 4 + 24 unknowns by brute force.

    Repeated along the other axis, where it doesn't vary, the image only multiplies the counts.
    """
    rng = np.random.default_rng(1)
    n, frames = 24, 4
    y = np.arange(n)
    line = 5 + np.exp(-0.5 * ((y - 11) / 3) ** 2) * 4 + 0.2 * rng.random()
    slope = CubicSpline(y, line)(y, 1)
    fisher = np.zeros((frames + n, frames + n))
    for i in range(frames):
        derivative = np.zeros((frames + n, n))  # of this frame's counts by each unknown
        derivative[i] = -slope
        derivative[frames:] = np.eye(n)
        fisher += derivative / line @ derivative.T
    covariance = np.linalg.pinv(fisher)[:frames, :frames]
    centred = np.eye(frames) - 1 / frames
    variance = (centred @ covariance @ centred)[0, 0]
    image = np.repeat(line[:, None], 8, axis=1)
    assert drift_limit(image, frames)[0] ** 2 == pytest.approx(variance / 8, rel=1e-9)
    assert np.isinf(drift_limit(image, frames)[1])


@pytest.mark.parametrize("frames", [2, 3, 12])
def test_maximum_likelihood_of_noisy_waves_scatters_as_bounded(frames: int) -> None:
    """Monte Carlo: phases of a wave in Poisson counts, shifts and wave both estimated.

    For one Fourier mode of unknown amplitude and phase the likelihood peaks where the frames'
    phases, seen from that of their sum, are taken away. 400 series: the rms is known to
    1 / sqrt(2 * 400 * (frames - 1)) < 3.6 %; four times this is allowed.
    """
    rng = np.random.default_rng(frames)
    n, period = 32, 16
    image = wave(0, n, period, 40.0, 0.3)
    mode = np.exp(-2j * np.pi * np.arange(n) / period)
    counts = rng.poisson(image, (400, frames, n, n)).sum(axis=3)
    amplitude = counts @ mode
    phase = np.angle(amplitude / amplitude.sum(axis=1, keepdims=True))
    shift = -phase * period / (2 * np.pi)
    shift -= shift.mean(axis=1, keepdims=True)
    rms = np.sqrt(np.mean(shift**2))
    assert rms == pytest.approx(drift_limit(image, frames)[0], rel=4 / np.sqrt(800 * (frames - 1)))


def test_what_is_no_series_is_refused() -> None:
    with pytest.raises(ValueError, match="2 frames"):
        drift_limit(np.ones((8, 8)), 1)
    with pytest.raises(ValueError, match="one image"):
        drift_limit(-np.ones((8, 8)), 2)
    assert np.all(np.isinf(drift_limit(np.ones((8, 8)), 2)))

"""Drift of localizations by redundant cross-correlation and by intersection, against the truth."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import pytest

from nanophantom.analysis.drift_cross_correlation import (
    cross_correlation_drift,
    drift_at_frames,
    segments_of,
    without_drift,
)
from nanophantom.analysis.drift_intersection import intersection_drift

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def drifting(
    frames: int,
    per_frame: float,
    seed: int,
    *,
    walk_nm: float = 0.15,
    speed_nm: float = 200.0,
    field_nm: float = 12_800.0,
    sites: int = 1350,
    axes: int = 2,
) -> tuple[Ints, Floats, Floats]:
    """Return frame, positions (n, axes) and drift (frames, axes) of sites visited at random.

    The drift is smooth, `speed_nm` from first to last frame, plus a random walk; the precision
    10 nm, 25 nm along z.
    """
    rng = np.random.default_rng(seed)
    t = np.arange(frames) / frames
    smooth = [
        speed_nm * t + 30 * np.sin(2 * np.pi * 1.7 * t),
        -0.6 * speed_nm * t + 40 * np.cos(2 * np.pi * 1.1 * t),
        100 * t**2,
    ]
    drift = np.stack(smooth[:axes], axis=1)
    drift = drift + np.cumsum(walk_nm * rng.standard_normal((frames, axes)), axis=0)
    frame = np.repeat(np.arange(frames), rng.poisson(per_frame, frames))
    extent = np.array([field_nm, field_nm, 600.0])[:axes]
    site = (rng.random((sites, axes)) * extent)[rng.integers(0, sites, len(frame))]
    noise = np.array([10.0, 10.0, 25.0])[:axes] * rng.standard_normal((len(frame), axes))
    return frame, site + noise + drift[frame], drift


def rms_nm(found: Floats, truth: Floats) -> Floats:
    """Return the rms error along each axis; a constant offset can't be seen and doesn't count."""
    error = found - truth
    return np.asarray(np.std(error, axis=0))


def test_a_quick_movie_is_followed_by_both() -> None:
    """2000 frames of 50: intersection within 1 nm, cross-correlation within 1.5 nm."""
    frame, xy, drift = drifting(2000, 50, 1, speed_nm=100)
    first = intersection_drift(frame, *xy.T, frames=2000, frames_per_segment=50)
    second = cross_correlation_drift(frame, *xy.T, frames=2000, frames_per_segment=100)
    assert np.all(rms_nm(first, drift) < 1.0)
    assert np.all(rms_nm(second, drift) < 1.5)
    for found in (first, second):
        assert found.shape == (2000, 2)
        assert np.allclose(found.mean(axis=0), 0, atol=1e-9)
        x, y = without_drift(frame, found, *xy.T)
        assert np.array_equal(y, xy[:, 1] - found[frame, 1])
        assert np.array_equal(x, xy[:, 0] - found[frame, 0])


def test_the_third_axis_comes_along() -> None:
    """With z, of 25 nm precision, x and y as good as without, z within 1.5 nm."""
    frame, xyz, drift = drifting(2000, 50, 2, axes=3)
    found = intersection_drift(frame, *xyz.T, frames=2000, frames_per_segment=50)
    assert found.shape == (2000, 3)
    assert np.all(rms_nm(found, drift) < [1.0, 1.0, 1.5])


def test_a_still_specimen_stays() -> None:
    """Without drift the error is that of the localizations: up to 1.1 and 1.3 times the least.

    A segment of m localizations, n of each of its sites of N in all, tells its shift from the
    mean with a standard deviation of 0.9 sigma / sqrt(m (1 - <n^2> / (<n> N))), least squares of
    10 equal segments. The rms over 12 movies scatters by 4 %.
    """
    found = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        frame = np.repeat(np.arange(1000), 20)
        sites = rng.uniform(0, 6400, (340, 2))
        xy = sites[rng.integers(0, 340, len(frame))] + 10 * rng.standard_normal((20_000, 2))
        pair = [
            intersection_drift(frame, *xy.T, frames_per_segment=100),
            cross_correlation_drift(frame, *xy.T, frames_per_segment=100),
        ]
        found.append([drift[50::100] for drift in pair])
    intersection, correlation = np.sqrt(np.mean(np.square(found), axis=(0, 2, 3)))
    n = 20_000 / 340 / 10
    least = 0.9 * 10 / np.sqrt(2000 * (1 - (n + n**2) / (n * 10 * n)))
    assert 0.9 * least < intersection < 1.1 * least
    assert 0.9 * least < correlation < 1.3 * least


def test_a_jump_within_reach_is_followed() -> None:
    """A step of 70 nm along x and -60 nm along y between two segments of 500 localizations."""
    frame, xy, drift = drifting(1000, 20, 5, walk_nm=0, speed_nm=0)
    step = np.where(frame[:, None] < 600, 0.0, [70.0, -60.0])
    still = xy - drift[frame]
    found = intersection_drift(frame, *(still + step).T, frames=1000, frames_per_segment=25)
    size = found[625:975].mean(axis=0) - found[25:575].mean(axis=0)
    assert np.allclose(size, [70, -60], atol=0.5)


def test_disturbed_segments_are_outvoted() -> None:
    """A bright moving speck in two of ten segments leads their correlations astray by 400 nm.

    The pairs of the other eight don't follow.
    """
    frame, xy, drift = drifting(1000, 20, 4, speed_nm=50)
    rng = np.random.default_rng(9)
    speck_frame = np.repeat([310, 650], 700)
    speck = np.where(speck_frame[:, None] == 310, 6000.0, [6400.0, 6250.0])
    speck = speck + 5 * rng.standard_normal((1400, 2))
    f = np.concatenate([frame, speck_frame])
    p = np.concatenate([xy, speck])
    found = cross_correlation_drift(f, *p.T, frames=1000, frames_per_segment=100)
    assert np.all(rms_nm(found, drift) < 2.0)


def test_segments_and_spline() -> None:
    """A straight drift goes through the spline exactly, to the first and last frames."""
    segments = segments_of([9, 0, 1, 5, 4, 8], 11, 4)
    assert segments.starts.tolist() == [0, 2, 6]
    assert segments.mean_frames.tolist() == [0.5, 6.5]
    line = drift_at_frames(np.array([5.0, 15, 25, 35]), np.array([[10.0], [30], [50], [70]]), 40)
    assert np.allclose(line[:, 0], 2 * (np.arange(40) - 19.5))


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="two or more segments"):
        intersection_drift([0, 1], [0.0, 1.0], [0.0, 1.0])
    with pytest.raises(ValueError, match="beyond a movie of 5 frames"):
        cross_correlation_drift([0, 9], [0.0, 1.0], [0.0, 1.0], frames=5)
    with pytest.raises(ValueError, match="larger pixels or longer segments"):
        cross_correlation_drift([0, 1000], [0.0, 1e6], [0.0, 1e6])
    with pytest.raises(ValueError, match="y_nm must be finite"):
        intersection_drift([0, 200], [0.0, 1.0], [0.0, np.nan])
    with pytest.raises(ValueError, match="2 axes, got 3"):
        without_drift([0], np.zeros((1, 2)), [0.0], [0.0], [0.0])


@pytest.mark.slow
def test_half_a_million_localizations() -> None:
    """500 000 in 10 000 frames, 200 nm and a walk of 0.15 nm a frame.

    Picasso 0.11.3 on such a set, on two cores: AIM 0.65 nm in 1.8 s, RCC of segments of 500
    frames 1.4 nm in 4.0 s. The walk within a segment of 500 frames alone deviates from its mean
    by 0.15 sqrt(500 / 6) = 1.37 nm. The times are the processor's.
    """
    frame, xy, drift = drifting(10_000, 50, 0)
    few = frame < 1000
    intersection_drift(frame[few], *xy[few].T)  # compiles
    start = time.process_time()
    first = intersection_drift(frame, *xy.T)
    middle = time.process_time()
    second = cross_correlation_drift(frame, *xy.T)
    stop = time.process_time()
    assert np.all(rms_nm(first, drift) < 0.65)
    assert np.all(rms_nm(second, drift) < 1.5)
    assert middle - start < 1.8
    assert stop - middle < 4.0


@pytest.mark.slow
def test_a_strong_random_walk() -> None:
    """Steps of 2 nm a frame (Cnossen et al., Opt. Express 29 (2021) 27961), 50 a frame.

    Segments of two frames come close to the least error, that of smoothing a walk seen with
    10 / sqrt(50) nm a frame: sqrt(2 x 1.41 / 2) = 1.19 nm.
    """
    frame, xy, drift = drifting(10_000, 50, 1, walk_nm=2.0)
    found = intersection_drift(frame, *xy.T, frames_per_segment=2)
    assert np.all(rms_nm(found, drift) < 1.2 * 1.19)


@pytest.mark.slow
@pytest.mark.parametrize("speed_nm", [500.0, 1000.0, 2000.0])
def test_fast_drift(speed_nm: float) -> None:
    """5, 10 and 20 nm/s over 100 s of 10 000 frames: within 1 nm."""
    frame, xy, drift = drifting(10_000, 50, 2, speed_nm=speed_nm)
    found = intersection_drift(frame, *xy.T)
    assert np.all(rms_nm(found, drift) < 1.0)


@pytest.mark.slow
def test_molecules_that_never_come_back() -> None:
    """Each molecule of 40 filaments lights up once, for 5 frames: within 1.5 nm.

    Cross-correlation reaches 1.6 nm, of which 1.37 nm are the walk within segments of 500 frames.
    """
    rng = np.random.default_rng(5)
    _, _, drift = drifting(10_000, 1, 3)
    angle = rng.uniform(0, np.pi, 40)
    middle = rng.uniform(2000, 10_800, (40, 2))
    molecules = 60_000
    filament = rng.integers(0, 40, molecules)
    along = np.stack([np.cos(angle), np.sin(angle)], axis=1)[filament]
    place = middle[filament] + rng.uniform(-3000, 3000, (molecules, 1)) * along
    place = place + 12 * rng.standard_normal((molecules, 2))
    bright = rng.geometric(1 / 5, molecules)
    m = np.repeat(np.arange(molecules), bright)
    within = np.arange(len(m)) - np.repeat(np.cumsum(bright) - bright, bright)
    frame = rng.integers(0, 10_000, molecules)[m] + within
    m, frame = m[frame < 10_000], frame[frame < 10_000]
    xy = place[m] + 10 * rng.standard_normal((len(m), 2)) + drift[frame]
    found = intersection_drift(frame, *xy.T, frames=10_000, frames_per_segment=200)
    assert np.all(rms_nm(found, drift) < 1.5)
    found = cross_correlation_drift(frame, *xy.T, frames=10_000)
    assert np.all(rms_nm(found, drift) < 1.6)

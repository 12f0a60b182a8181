"""Scans of an analytic specimen along known paths: how far the corrected lines are off."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from nanophantom.analysis.scan_calibration import Flyback, calibrate_scan, fit_flyback
from nanophantom.analysis.scan_distortion import CorrectedScan, correct_drift_pair, correct_series
from nanophantom.analysis.scan_lines import resample

FloatArray = npt.NDArray[np.float64]
N = 128


def specimen(y: FloatArray, x: FloatArray) -> FloatArray:
    """Return the signal of a square lattice, 9.3 pixels, with a brighter, shifted island."""
    k = 2 * np.pi / 9.3
    u = 1.5 * np.exp(-((y - 70) ** 2 + (x - 95) ** 2) / (2 * 25.0**2))
    bright = 1 + 0.5 * np.exp(-((y - 60) ** 2 + (x - 60) ** 2) / (2 * 30.0**2))
    fringes = (0.5 + 0.5 * np.cos(k * (x - u + 0.1 * y))) * (0.5 + 0.5 * np.cos(k * (y + 0.5 * u)))
    return np.asarray(bright * fringes)


def motion(
    rng: np.random.Generator,
    lines: int,
    velocity: tuple[float, float] = (0.0, 0.0),
    jitter: float = 0.0,
    mains: float = 0.0,
    start_line: int = 0,
) -> FloatArray:
    """Return (dy, dx) of each line: drift in pixels a line, jitter, and mains at 50 Hz.

    Lines follow every 1.3 ms, so that 50 Hz has a period of 15.4 lines.
    """
    line = np.arange(lines) + start_line
    hum = mains * np.sin(2 * np.pi * 50 * 1.3e-3 * line)
    d = line[:, None] * np.array(velocity) + np.stack([0.4 * hum, hum], axis=1)
    return np.asarray(d + rng.normal(0, jitter, (lines, 2)))


def scan(d: FloatArray, profile: FloatArray | float = 0.0, turned: bool = False) -> FloatArray:
    """Return the signal along the lines of a scan, as stored: rows, or columns if turned."""
    line, position = np.mgrid[: len(d), :N].astype(np.float64)
    position = position + profile
    if turned:
        return specimen(position + d[:, :1], line + d[:, 1:]).T
    return specimen(line + d[:, :1], position + d[:, 1:])


def rms(error: FloatArray) -> float:
    """Return the rms of a component of displacements (..., 2), their common mean taken away."""
    flat = error.reshape(-1, 2)
    return float(np.sqrt(np.mean((flat - np.mean(flat, axis=0)) ** 2)))


def counts(image: FloatArray, dose: float, rng: np.random.Generator) -> FloatArray:
    return rng.poisson(dose * image) / dose


def pair(
    rng: np.random.Generator, dose: float | None, profile: FloatArray | float = 0.0, **how: object
) -> tuple[CorrectedScan, FloatArray]:
    """Return a corrected pair and the true displacements (2, N, 2)."""
    true = np.stack([motion(rng, N, start_line=k * N, **how) for k in (0, 1)])  # type: ignore[arg-type]
    images = [scan(true[k], profile, turned=k == 1) for k in (0, 1)]
    if dose is not None:
        images = [counts(image, dose, rng) for image in images]
    known = Flyback(1.5, 12.0) if np.any(profile) else Flyback(0.0, 1.0)
    return correct_drift_pair(*images, max_drift_px=4, flyback=known), true


BACK = Flyback(1.5, 12.0)


@pytest.mark.parametrize(
    ("how", "largest_px", "gain"),
    [
        ({"velocity": (0.02, -0.03)}, 0.01, 200.0),
        ({"jitter": 0.3}, 0.12, 2.5),
        ({"mains": 0.5}, 0.04, 7.0),
        ({"velocity": (0.02, -0.03), "jitter": 0.2, "mains": 0.4}, 0.1, 25.0),
    ],
)
def test_a_pair_of_scans_gives_the_path_of_each_line(
    how: dict[str, object], largest_px: float, gain: float
) -> None:
    """Rms error of all lines' displacements in pixels, and how much less than it was.

    Rows in the valley between two rows of atoms hold no signal: their jitter can't be known, and
    makes most of the error where there is jitter.
    """
    found, true = pair(np.random.default_rng(1), None, **how)
    error = rms(found.displacement_px - true)
    assert error < largest_px
    assert rms(true) > gain * error


def test_a_pair_with_noise_and_everything_at_once() -> None:
    """100 counts at the brightest; the flyback is given."""
    profile = BACK.displacement_px(np.arange(N))
    how = {"velocity": (0.02, -0.03), "jitter": 0.2, "mains": 0.4}
    found, true = pair(np.random.default_rng(2), 100.0, profile, **how)
    error = rms(found.displacement_px - true)
    assert error < 0.15
    assert rms(true) > 15 * error


def test_a_pair_without_any_distortion_is_left_alone() -> None:
    """Without noise nothing moves; with it the image is no worse than the plain mean."""
    found, _ = pair(np.random.default_rng(3), None)
    assert np.max(np.abs(found.displacement_px)) < 0.01
    y, x = np.mgrid[:N, :N].astype(np.float64)
    assert np.max(np.abs(found.image - specimen(y, x))[4:-4, 4:-4]) < 0.01

    rng = np.random.default_rng(4)
    still = np.zeros((N, 2))
    images = [counts(scan(still, turned=turned), 100.0, rng) for turned in (False, True)]
    found = correct_drift_pair(*images, max_drift_px=2)
    inner = np.s_[4:-4, 4:-4]
    plain = np.std((0.5 * (images[0] + images[1]) - specimen(y, x))[inner])
    assert np.std((found.image - specimen(y, x))[inner]) < 1.02 * plain
    assert rms(found.displacement_px) < 0.08


def series(
    rng: np.random.Generator, frames: int, dose: float | None, **how: object
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return frames, line times and the true displacements (frames, N, 2)."""
    true = np.stack(
        [motion(rng, N, start_line=k * (N + 20), **how) for k in range(frames)]  # type: ignore[arg-type]
    )
    images = np.stack([scan(d) for d in true])
    if dose is not None:
        images = np.stack([counts(image, dose, rng) for image in images])
    times = 1.3e-3 * (np.arange(frames)[:, None] * (N + 20) + np.arange(N)[None, :])
    return images, times, true


def test_a_drifting_series_is_straightened() -> None:
    """Drift of 0.6 pixels a frame at 200 counts: the shifts of the frames give each line's."""
    images, times, true = series(np.random.default_rng(5), 6, 200.0, velocity=(0.002, 0.0035))
    found = correct_series(images, times, jitter_px=1e-3)
    assert rms(true) > 0.5
    assert rms(found.displacement_px - true) < 0.02


def test_the_jitter_of_a_series_is_found_line_by_line() -> None:
    """0.4 pixels of jitter in eight frames of 200 counts.

    Lines with few counts, or through the middle of a row of atoms, say little of their own
    place, so the median error falls by more than the rms does.
    """
    images, times, true = series(
        np.random.default_rng(6), 8, 200.0, velocity=(0.002, 0.004), jitter=0.4
    )
    found = correct_series(images, times, jitter_px=0.4)
    alone = correct_series(images, times, jitter_px=1e-3)
    before, after = (f.displacement_px - true for f in (alone, found))
    before, after = (e - np.mean(e, axis=(0, 1)) for e in (before, after))
    assert np.median(np.abs(after)) < 0.45 * np.median(np.abs(before))
    assert rms(after) < 0.65 * rms(before)
    # The image is the sharper for it.
    inner = np.s_[20:-20, 20:-20]
    assert np.std(found.image[inner]) > 1.02 * np.std(alone.image[inner])


def test_a_low_pass_finds_slow_motion_and_leaves_the_noise() -> None:
    """A slow wave of 0.5 pixels, 60 lines long, in frames of 30 counts."""
    rng = np.random.default_rng(7)
    images, times, true = series(rng, 6, None)
    wave = 0.5 * np.sin(2 * np.pi * (times / 1.3e-3) / 61.7)
    true = true + np.stack([0.3 * wave, wave], axis=-1)
    images = np.stack([counts(scan(d), 30.0, rng) for d in true])
    found = correct_series(images, times, low_pass_lines=4.0)
    rough = correct_series(images, times)
    after = rms(found.displacement_px - true)
    assert after < rms(rough.displacement_px - true)
    assert rms(true) > 2 * after


def test_the_flyback_is_read_from_a_known_crystal() -> None:
    """Height and decay within 3 % from columns 9.3 pixels apart, good to 0.02 pixels."""
    rng = np.random.default_rng(8)
    seen = rng.uniform(0, N, 600)
    true = seen + BACK.displacement_px(seen)
    measured = seen + rng.normal(0, 0.02, 600)
    found = fit_flyback(measured, 1.002 * true + 0.3)
    assert found.height_px == pytest.approx(1.5, rel=0.03)
    assert found.decay_px == pytest.approx(12.0, rel=0.03)


def test_a_known_crystal_calibrates_the_scan() -> None:
    """Strontium titanate too short by 0.8 % along x and 3 % along y, sheared by 0.9 degrees.

    Such are the errors of a real scanning system (lengths 0.4 to 1.2 % and 2.7 to 3.6 % too small,
    shear 0.6 to 1.2 degrees; Microscopy, "scanning system distortions", abstract).
    """
    a = 0.3905
    turn = np.deg2rad(17.0)
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    shear = np.deg2rad(0.9)
    distortion = np.array([[0.992, 0.992 * np.tan(shear)], [0.0, 0.97]])
    true = a * np.eye(2) @ turned.T
    measured = true @ distortion.T
    other_cell = np.array([[1, 1], [0, 1]]) @ measured
    for seen in (measured, other_cell):
        found = calibrate_scan(seen, a * np.eye(2))
        assert found.scale_x == pytest.approx(0.992, abs=1e-9)
        assert found.scale_y == pytest.approx(0.97, abs=1e-9)
        assert found.shear_rad == pytest.approx(shear, abs=1e-9)
        assert found.rotation_rad == pytest.approx(turn, abs=1e-9)
        assert found.undistorted(measured) == pytest.approx(true, abs=1e-9)


def test_resampling_keeps_samples_on_the_grid_and_weights_the_others() -> None:
    """The mean of a pixel is that of its samples by weight; nothing is seen far from all."""
    y, x = np.mgrid[:20, :20].astype(np.float64)
    values = np.random.default_rng(9).normal(size=(20, 20))
    image, coverage = resample(values, y, x, (20, 20))
    assert image == pytest.approx(values, abs=1e-12)
    assert coverage == pytest.approx(np.ones((20, 20)), abs=1e-12)
    image, coverage = resample([1.0, 4.0], [5, 5], [5, 5], (20, 20), weights=[2.0, 1.0])
    assert image[5, 5] == pytest.approx(2.0)
    assert coverage[5, 5] == pytest.approx(3.0)
    assert coverage[15, 15] == image[15, 15] == 0


def test_what_cannot_be_corrected_is_refused() -> None:
    square, oblong = np.ones((32, 32)), np.ones((32, 40))
    with pytest.raises(ValueError, match="n x n"):
        correct_drift_pair(oblong, oblong)
    with pytest.raises(ValueError, match="finite"):
        correct_drift_pair(square, np.full((32, 32), np.nan))
    with pytest.raises(ValueError, match="line_times_s"):
        correct_series(np.ones((3, 32, 32)), np.zeros((3, 32)))
    with pytest.raises(ValueError, match="quarter of its size"):
        calibrate_scan([[1, 0], [0, 1]], [[2, 0], [0, 3]])
    with pytest.raises(ValueError, match="eight columns"):
        fit_flyback([1.0], [1.0])
    with pytest.raises(ValueError, match="one shape"):
        resample([1.0, 2.0], [0.0], [0.0], (4, 4))

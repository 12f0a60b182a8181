"""Step heights: exact without noise, and uncertainties that are the scatter."""

import numpy as np
import pytest
from scipy import stats

from nanophantom.analysis import step_height
from nanophantom.analysis.histogram_height import histogram_height
from nanophantom.analysis.step_fit import fit_profile, mean_of_lines
from nanophantom.simcore.probes.dilation import dilate
from nanophantom.simcore.probes.tips import SphereCone

X = np.arange(256) * 2.0
Y = np.arange(64)[:, None] * 2.0
TILT = 0.004 * X - 0.002 * Y  # nm per nm
SILICON_STEP_NM = 0.31356  # (111), a / sqrt(3) with a = 0.54310 nm


def staircase(height, direction_deg=0.0, positions=(250.0,)):
    angle = np.deg2rad(direction_deg)
    across = X * np.cos(angle) + Y * np.sin(angle)
    return height * sum((across > at).astype(float) for at in positions)


@pytest.mark.parametrize("direction", [0.0, 8.0, -35.0, 50.0])
def test_steps_on_a_tilt_are_exact_at_any_direction(direction):
    image = staircase(SILICON_STEP_NM, direction, (150.0, 300.0)) + TILT
    found = step_height.steps(image, 2.0)
    assert len(found) == 2
    for step, at in zip(found, (150.0, 300.0), strict=True):
        assert step.height_nm == pytest.approx(SILICON_STEP_NM, abs=1e-10)
        assert step.position_nm == pytest.approx(at, abs=3)
        assert step.direction_deg == pytest.approx(direction, abs=1)
        assert np.mean(step.tilt_nm_per_nm) == pytest.approx(0.004, abs=1e-10)


def test_a_bow_needs_the_second_degree():
    """A bow of 1 nm: without it in the fit the step of 5 nm is wrong, with it exact."""
    image = staircase(-5.0, positions=(180.0,)) + ((X - 255) / 255) ** 2
    (with_bow,) = step_height.steps(image, 2.0, degree=2, direction_deg=0.0)
    (without,) = step_height.steps(image, 2.0, direction_deg=0.0)
    assert with_bow.height_nm == pytest.approx(-5, abs=1e-9)
    assert abs(without.height_nm + 5) > 0.1


@pytest.mark.parametrize("sign", [-1, 1])
def test_grooves_and_ridges_by_the_standard_ignore_rounded_corners(sign):
    """ISO 5436-1: edges rounded over less than W/3 don't count, a tilt is fitted."""
    off = np.abs(X - 255.0)
    rounded = np.clip((50.0 - off) / 20, 0, 1)  # W = 80 at half height, walls 20 nm wide
    (groove,) = step_height.grooves(sign * 23.54 * rounded + TILT, 2.0, direction_deg=0.0)
    assert groove.height_nm == pytest.approx(sign * 23.54, abs=1e-9)
    assert groove.width_nm == pytest.approx(80, abs=0.5)


def test_two_grooves_are_measured_apart():
    depth = np.where(np.abs(X - 130) < 25, -3.0, 0) + np.where(np.abs(X - 380) < 25, -7.0, 0)
    found = step_height.grooves(depth + TILT, 2.0, direction_deg=0.0)
    assert [g.height_nm for g in found] == pytest.approx([-3.0, -7.0], abs=1e-9)


def test_the_histogram_finds_levels_under_any_outline_and_a_tilt():
    y, x = np.mgrid[:96, :128]
    disc = np.hypot(y - 40, x - 70) < 30
    noise = np.random.default_rng(5).normal(0, 0.3, disc.shape)
    height = histogram_height(4.0 * disc + 0.01 * x - 0.02 * y + noise, 1.0)
    assert height == pytest.approx(4, abs=0.04)  # 0.3 sqrt(1 / 2800 + 1 / 9500) = 0.006, cut tails
    with pytest.raises(ValueError, match="a tenth"):
        histogram_height(np.where(np.hypot(y, x) < 9, 1.0, 0.0), 1.0)


def disturbed(kind, seed):
    rng = np.random.default_rng(seed)
    image = staircase(2.0) + TILT
    if kind == "white":
        return image + rng.normal(0, 0.3, image.shape)
    if kind == "line":
        return image + rng.normal(0, 1.0, (64, 1)) + rng.normal(0, 0.1, image.shape)
    return image + np.cumsum(rng.normal(0, 0.02, image.size)).reshape(image.shape)


@pytest.mark.parametrize("kind", ["white", "line", "walk"])
def test_intervals_cover_the_true_height(kind):
    """200 seeds: 68 % and 95 % intervals hold the truth as often as they say, within 3 sd."""
    inside68 = inside95 = 0
    errors = []
    for seed in range(200):
        (step,) = step_height.steps(disturbed(kind, seed), 2.0, direction_deg=0.0)
        error = (step.height_nm - 2.0) / step.uncertainty_nm
        inside68 += abs(error) < stats.t.ppf(0.84134, step.degrees_of_freedom)
        inside95 += abs(error) < stats.t.ppf(0.975, step.degrees_of_freedom)
        errors.append(error)
    assert 0.58 < inside68 / 200 < 0.78  # 0.683 +- 3 * 0.033
    assert inside95 / 200 > 0.90  # 0.95 - 3 * 0.0154
    assert abs(np.mean(errors)) < 3 / np.sqrt(200)


def test_lines_that_err_together_count_less():
    """An AR(1) sequence with rho = 0.8: variance of its mean is 9 times that of white noise."""
    ratio = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        white = rng.normal(size=600)
        h = np.empty(600)
        h[0] = white[0]
        for i in range(1, 600):
            h[i] = 0.8 * h[i - 1] + 0.6 * white[i]
        _, uncertainty, free = mean_of_lines(h)
        ratio.append(uncertainty**2 * 600)
        assert free < 300
    assert np.mean(ratio) == pytest.approx(9, rel=0.1)


def test_a_single_profile_states_what_white_and_correlated_residuals_do():
    """100 seeds each: scatter of h over the stated uncertainty."""
    used = np.abs(np.arange(256) - 128) > 4
    delta = np.arange(256) > 128
    for kernel in (np.ones(1), np.ones(5) / np.sqrt(5)):
        errors = []
        for seed in range(100):
            noise = np.random.default_rng(seed).normal(0, 0.2, 256)
            profile = 3.0 * delta + 0.01 * X + np.convolve(noise, kernel, "same")
            h, u, tilt = fit_profile(profile, 2.0, delta, used)
            assert tilt == pytest.approx(0.01, abs=0.01)
            errors.append((h - 3.0) / u)
        assert 0.8 < np.std(errors) < 1.25


def test_refusals():
    with pytest.raises(ValueError, match="no edge"):
        step_height.steps(np.random.default_rng(1).normal(size=(32, 128)), 1.0, direction_deg=0.0)
    with pytest.raises(ValueError, match="transpose"):
        step_height.steps(staircase(1.0), 2.0, direction_deg=80.0)
    with pytest.raises(ValueError, match="groove"):
        step_height.grooves(staircase(1.0), 2.0, direction_deg=0.0)


def test_oblique_atomic_steps_are_found_in_noise_and_drift():
    """Five seeds, three silicon steps at 20 degrees; 0.1 nm noise, row offsets, a random walk."""
    errors = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        image = staircase(SILICON_STEP_NM, 20.0, (140.0, 240.0, 340.0)) + TILT
        image += rng.normal(0, 0.1, image.shape) + rng.normal(0, 0.2, (64, 1))
        image += np.cumsum(rng.normal(0, 0.005, image.size)).reshape(image.shape)
        found = step_height.steps(image, 2.0)
        assert len(found) == 3
        for step in found:
            assert step.height_nm == pytest.approx(SILICON_STEP_NM, rel=0.2)
            errors.append((step.height_nm - SILICON_STEP_NM) / step.uncertainty_nm)
    assert 0.6 < np.sqrt(np.mean(np.square(errors))) < 1.5


def test_a_standard_seen_by_a_blunt_tip_keeps_its_height():
    """23.54 nm under a tip of R = 20 nm: the rounded foot is left out, 0.1 %."""
    tip = SphereCone(radius_nm=20.0).sampled((2.0, 2.0), 25.0)
    image = dilate(staircase(23.54), tip.heights_nm, tip.apex) + TILT
    (step,) = step_height.steps(image, 2.0)
    assert step.height_nm == pytest.approx(23.54, rel=1e-3)

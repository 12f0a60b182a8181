"""Trenches through a known tip: exact where it touches, bounds where it can't."""

import numpy as np
import pytest

from nanophantom.analysis import trenches
from nanophantom.simcore.probes.dilation import dilate
from nanophantom.simcore.probes.tips import SphereCone


def trench_image(width, depth, angle_deg, tip, px, noise=0.0, seed=0):
    """Return the image of two trenches 200 nm apart, on a tilt and with offset lines."""
    x = np.arange(round(400 / px)) * px
    off = np.minimum(np.abs(x - 100), np.abs(x - 300))
    inside = width / 2 - off
    if angle_deg == 90:
        heights = -depth * (inside > 0)
    else:
        heights = -np.clip(inside * np.tan(np.deg2rad(angle_deg)), 0, depth)
    image = dilate(np.tile(heights, (32, 1)), tip.heights_nm, tip.apex)
    rng = np.random.default_rng(seed)
    return image + 0.003 * x + rng.normal(0, 1, (32, 1)) + rng.normal(0, noise, image.shape)


def sampled(radius, half_angle, px, depth):
    return SphereCone(radius_nm=radius, half_angle_deg=half_angle).sampled((px, px), depth)


def test_edge_broadening_is_the_closed_form():
    """One edge: sqrt(2 R h - h²) = 8.660; beyond the sphere 14.281 and 25.201 nm at 20 degrees."""
    tip = sampled(10, 20, 0.1, 60)
    for height, expected in ((5, np.sqrt(75)), (20, 14.281), (50, 25.201)):
        got = trenches.edge_broadening_nm(tip.heights_nm, 0.1, height, tip.apex)
        assert got == pytest.approx((expected, expected), abs=2e-3)
    with pytest.raises(ValueError, match="wider"):
        trenches.edge_broadening_nm(tip.heights_nm, 0.1, 100.0, tip.apex)


def test_penetration_of_a_sphere_is_the_closed_form():
    """R - sqrt(R² - W²/4) = 2.679 nm for R = W = 20 nm."""
    tip = sampled(20, 10, 0.1, 20)
    depth = trenches.penetration_nm(tip.heights_nm, 0.1, 20.0, tip.apex)
    assert depth == pytest.approx(20 - np.sqrt(300), abs=1e-3)


@pytest.mark.parametrize("angle", [45.0, 54.74, 65.0])
def test_walls_less_steep_than_the_tip_are_exact(angle):
    """Without noise widths, depth and angles are the surface's; with 0.1 nm within 3 u."""
    tip = sampled(10, 20, 1.0, 50)
    for noise in (0.0, 0.1):
        found = trenches.measure(
            trench_image(120, 40, angle, tip, 1.0, noise), 1.0, tip.heights_nm, tip.apex
        )
        assert len(found) == 2
        for trench in found:
            bottom = 120 - 80 / np.tan(np.deg2rad(angle))
            away = 3 if noise else 0.01
            assert trench.bottom_reached
            assert not trench.left.lower_bound
            assert not trench.right.lower_bound
            assert abs(trench.top_width_nm - 120) < away * trench.top_width_uncertainty_nm
            assert abs(trench.bottom_width_nm - bottom) < away * 0.4
            assert abs(trench.left.angle_deg - angle) < away * trench.left.angle_uncertainty_deg
            assert abs(trench.right.angle_deg - angle) < away * trench.right.angle_uncertainty_deg
            assert trench.depth_nm == pytest.approx(40, abs=0.05 if noise else 1e-6)


@pytest.mark.parametrize("angle", [80.0, 90.0])
def test_walls_steeper_than_the_tip_are_bounds(angle):
    """A cone of 20 degrees shows 70 degrees; the true floor lies within the bounds."""
    tip = sampled(10, 20, 1.0, 50)
    image = trench_image(100, 40, angle, tip, 1.0, 0.05)
    for trench in trenches.measure(image, 1.0, tip.heights_nm, tip.apex):
        bottom = 100 - 80 / np.tan(np.deg2rad(angle))
        assert trench.left.lower_bound
        assert trench.right.lower_bound
        assert trench.left.angle_deg == pytest.approx(70, abs=2)
        assert trench.left.angle_deg < angle
        least, largest = trench.bottom_width_bounds_nm
        assert least < bottom < largest + 3 * trench.top_width_uncertainty_nm
        assert trench.top_width_nm == pytest.approx(100, abs=1.5)
        # the apex travels over the trench less the tip's width: 22.4 nm to either side
        broadening = trenches.edge_broadening_nm(tip.heights_nm, 1.0, 40.0, tip.apex)
        if angle == 90:
            assert least == pytest.approx(100 - sum(broadening), abs=2)
            assert trench.reached_fraction == pytest.approx(least / 100, abs=0.02)


def test_a_trench_narrower_than_the_tip_is_known_as_not_reached():
    """W = 20 nm, R = 20 nm: 2.679 nm is all the tip gets of 30 nm."""
    for px, noise in ((1.0, 0.0), (0.5, 0.05)):
        tip = sampled(20, 10, px, 35)
        image = trench_image(20, 30, 90, tip, px, noise)
        for trench in trenches.measure(image, px, tip.heights_nm, tip.apex):
            assert not trench.bottom_reached
            assert trench.reached_fraction == 0
            assert trench.depth_nm == pytest.approx(20 - np.sqrt(300), abs=0.1)
            assert trench.bottom_width_bounds_nm[0] == 0
            assert trench.left.lower_bound


def test_a_lopsided_tip_limits_one_wall_only():
    """Flanks of 10 and 40 degrees: walls of 65 degrees are seen by one of them alone."""
    u = np.arange(-60, 61) * 1.0
    outline = np.where(u < 0, u / np.tan(np.deg2rad(40)), -u / np.tan(np.deg2rad(10)))
    tip = np.repeat(outline[None], 3, axis=0)
    tip[[0, 2]] -= 5.0
    x = np.arange(300) * 1.0
    surface = -np.clip((60 - np.abs(x - 150)) * np.tan(np.deg2rad(65)), 0, 40)
    image = dilate(np.tile(surface, (16, 1)), tip, (1, 60))
    (trench,) = trenches.measure(image, 1.0, tip, (1, 60))
    # the tip's left flank touches the trench's left wall
    assert trench.left.lower_bound
    assert trench.left.angle_deg == pytest.approx(50, abs=1)
    assert not trench.right.lower_bound
    assert trench.right.angle_deg == pytest.approx(65, abs=1)


def test_refusals():
    tip = sampled(10, 20, 1.0, 50)
    with pytest.raises(ValueError, match="no trench"):
        trenches.measure(np.zeros((16, 100)), 1.0, tip.heights_nm, tip.apex)
    with pytest.raises(ValueError, match="blocks"):
        trenches.measure(np.zeros((16, 100)), 1.0, tip.heights_nm, tip.apex, blocks=1)

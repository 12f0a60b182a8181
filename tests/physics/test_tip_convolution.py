"""Images of bodies under sharp-edged tips against closed forms, and what erosion brings back."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import ndimage

from nanophantom.analysis.tip_deconvolution import reconstruct, reconstruct_paraboloid
from nanophantom.simcore.probes.dilation import dilate, dilate_rows, dilate_tracked, erode
from nanophantom.simcore.probes.paraboloid import (
    dilate_paraboloid,
    dilate_paraboloid_tracked,
    erode_paraboloid,
    paraboloid_map,
)
from nanophantom.simcore.probes.sphere_cone import cone_height


def sphere(radius_nm: float, px_nm: float):
    """The lower half of a sphere; no tip beyond it."""
    n = int(radius_nm / px_nm)
    u = px_nm * np.arange(-n, n + 1)
    inside = radius_nm**2 - u[:, None] ** 2 - u**2
    return np.where(inside >= 0, np.sqrt(np.maximum(inside, 0)) - radius_nm, -np.inf), (n, n)


def sphere_cone(radius_nm: float, half_angle_deg: float, px_nm: float, reach_nm: float):
    n = int(reach_nm / px_nm)
    u = px_nm * np.arange(-n, n + 1)
    return -cone_height(np.hypot(u[:, None], u), radius_nm, half_angle_deg), (n, n)


def ball_on_flat(radius_nm: float, px_nm: float, half_width_nm: float):
    """A ball as seen from above, and the distance of samples from its middle."""
    n = round(half_width_nm / px_nm)
    u = px_nm * np.arange(-n, n + 1)
    r = np.hypot(u[:, None], u)
    cap = radius_nm + np.sqrt(np.maximum(radius_nm**2 - r**2, 0))
    return np.where(r < radius_nm, cap, 0.0), r


def width(profile, px_nm: float, level: float) -> float:
    """Of a single hill at a level, between samples by straight lines."""
    above = np.flatnonzero(profile > level)
    i, j = above[0], above[-1]
    left = i - (profile[i] - level) / (profile[i] - profile[i - 1])
    right = j + (profile[j] - level) / (profile[j] - profile[j + 1])
    return px_nm * float(right - left)


def rough(n: int, sq_nm: float, length_nm: float, rng: np.random.Generator):
    """A Gaussian surface of 1 nm samples, autocorrelation exp(-r^2 / T^2), that repeats."""
    k = 2 * np.pi * np.fft.fftfreq(n)
    keep = np.exp(-(k[:, None] ** 2 + k**2) * length_nm**2 / 8)
    heights = np.fft.ifft2(np.fft.fft2(rng.normal(size=(n, n))) * keep).real
    return sq_nm * (heights - heights.mean()) / heights.std()


# The image of a sphere r on a flat under a sphere R is, over the contact, a sphere of R + r:
# z(x) = r - R + sqrt((R + r)^2 - x^2). Largest errors of sampling: 0.39, 0.10, 0.031 nm.
@pytest.mark.parametrize(("px_nm", "error_nm"), [(1.0, 0.39), (0.5, 0.10), (0.25, 0.031)])
def test_a_ball_under_a_sphere_looks_like_a_larger_ball(px_nm, error_nm):
    R, r = 10.0, 5.0
    surface, distance = ball_on_flat(r, px_nm, 20.0)
    image = dilate(surface, *sphere(R, px_nm))
    expected = np.maximum(r - R + np.sqrt(np.maximum((R + r) ** 2 - distance**2, 0)), 0)
    middle = image[len(image) // 2]
    assert image.max() == 2 * r
    assert np.abs(middle - expected[len(image) // 2]).max() <= error_nm * 1.01
    assert width(middle, px_nm, r) == pytest.approx(2 * np.sqrt(r * (r + 2 * R)), abs=px_nm)
    assert width(middle, px_nm, 1e-9) == pytest.approx(4 * np.sqrt(R * r), abs=2 * px_nm)


# sqrt(2 R h - h^2) while the sphere touches, R cos a + (h - R (1 - sin a)) tan a once the cone does
@pytest.mark.parametrize(("high_nm", "wider_nm"), [(5.0, 8.660), (20.0, 14.281), (50.0, 25.201)])
def test_an_edge_is_broadened_by_the_width_of_the_tip_at_its_height(high_nm, wider_nm):
    px_nm = 0.25
    tip, (_, apex) = sphere_cone(10.0, 20.0, px_nm, 30.0)
    surface = np.zeros((1, 400))
    surface[:, :200] = high_nm
    image = dilate(surface, tip[apex : apex + 1], (0, apex))[0]
    assert px_nm * np.count_nonzero(image[200:] > 0) == pytest.approx(wider_nm, abs=px_nm)
    if high_nm > 10:
        steepest = np.degrees(np.arctan(np.abs(np.diff(image[200:])).max() / px_nm))
        assert steepest == pytest.approx(90.0 - 20.0, abs=0.01)


def test_a_sharp_cone_broadens_an_edge_by_h_tan_a():
    px_nm = 0.25
    tip, (_, apex) = sphere_cone(1e-9, 20.0, px_nm, 30.0)
    surface = np.zeros((1, 400))
    surface[:, :200] = 50.0
    image = dilate(surface, tip[apex : apex + 1], (0, apex))[0]
    beyond = px_nm * np.count_nonzero(image[200:] > 0)
    assert beyond == pytest.approx(50.0 * np.tan(np.radians(20.0)), abs=px_nm)


def test_a_sphere_sinks_into_a_trench_as_far_as_its_walls_let_it():
    R, W, px_nm = 20.0, 20.0, 0.5
    x = px_nm * np.arange(-80, 81)
    surface = np.tile(np.where(np.abs(x) < W / 2, -50.0, 0.0), (101, 1))
    image = dilate(surface, *sphere(R, px_nm))
    assert -image.min() == pytest.approx(R - np.sqrt(R**2 - W**2 / 4), abs=0.1)  # 2.679 nm


# The tip reaches everywhere while R <= lambda^2 / 4 pi^2 A = 20.26 nm.
@pytest.mark.parametrize(
    ("R", "residual_nm", "sq_ratio"),
    [(5, 0, 0.994), (15, 0, 0.950), (20.26, 0, 0.906), (25, 0.095, 0.855), (40, 0.78, 0.685)],
)
def test_a_sine_comes_back_whole_from_a_tip_less_curved_than_its_valleys(R, residual_nm, sq_ratio):
    px_nm, wavelength_nm, amplitude_nm = 0.5, 40.0, 2.0
    x = px_nm * np.arange(480)
    surface = amplitude_nm * np.sin(2 * np.pi * x / wavelength_nm)[None]
    tip, apex = sphere(R, px_nm)
    tip, apex = tip[apex[0] : apex[0] + 1], (0, apex[1])
    image = dilate(surface, tip, apex)
    inner = slice(160, 320)  # whole periods away from the edges
    residual = (erode(image, tip, apex) - surface)[:, inner].max()
    assert residual == pytest.approx(residual_nm, abs=0.02 if residual_nm else 0.01)
    assert image[:, inner].std() / surface[:, inner].std() == pytest.approx(sq_ratio, abs=0.005)


def test_erosion_brings_a_broadened_ball_nearly_back():
    """Widths are diameters of circles with the area above half the height."""
    px_nm = 0.25
    surface, _ = ball_on_flat(5.0, px_nm, 20.0)
    tip, apex = sphere_cone(10.0, 20.0, px_nm, 15.0)
    image = dilate(surface, tip, apex)
    found = reconstruct(image, tip, apex)
    assert np.abs(found.heights_nm - erode(image, tip, apex)).max() == 0
    maps = (surface, image, found.heights_nm)
    widths = [np.sqrt(4 / np.pi * np.count_nonzero(z > 5.0)) * px_nm for z in maps]
    assert widths == pytest.approx([9.95, 22.35, 11.05], abs=0.01)
    assert [z.sum() * px_nm**2 for z in maps] == pytest.approx([650, 3663, 1346], abs=1.0)


def test_a_flat_tip_gives_the_largest_neighbour_and_a_point_the_surface_itself():
    surface = rough(64, 3.0, 5.0, np.random.default_rng(0))
    assert np.array_equal(
        dilate(surface, np.zeros((7, 5)), (3, 2)),
        ndimage.maximum_filter(surface, (7, 5), mode="nearest"),
    )
    assert np.array_equal(dilate(surface, [[0.0]], (0, 0)), surface)
    point = np.full((9, 9), -np.inf)
    point[4, 4] = 0
    assert np.array_equal(dilate(surface, point, (4, 4)), surface)
    assert np.array_equal(erode(surface, point, (4, 4)), surface)


def test_dilation_is_scipys_which_reflects_the_tip():
    """Also equal, by row 8 of the published comparison, to Gwyddion's gwy_tip_dilation."""
    rng = np.random.default_rng(1)
    surface = rough(96, 10.0, 8.0, rng)
    tip, apex = sphere_cone(10.0, 20.0, 1.0, 16.0)
    lopsided = tip - rng.uniform(0, 3, tip.shape)
    lopsided[apex] = 0
    for t in (tip, lopsided):
        expected = ndimage.grey_dilation(surface, structure=t[::-1, ::-1], mode="nearest")
        assert np.abs(dilate(surface, t, apex) - expected).max() <= 1e-12


def test_a_second_apex_to_the_right_makes_a_ghost_to_the_left():
    surface = np.zeros((9, 21))
    surface[4, 10] = 5.0
    tip = np.full((1, 7), -np.inf)
    tip[0, [1, 6]] = 0.0, -1.0  # the second apex 5 samples to the right, 1 shorter
    image, row, column = dilate_tracked(surface, tip, (0, 1))
    assert image[4, 10] == 5.0
    assert image[4, 5] == 4.0
    assert image.sum() == 9.0
    assert (row[4, 5], column[4, 5]) == (4, 10)


def test_contacts_are_where_tip_and_surface_meet():
    surface = rough(48, 5.0, 6.0, np.random.default_rng(2))
    tip, apex = sphere_cone(10.0, 20.0, 1.0, 20.0)
    image, row, column = dilate_tracked(surface, tip, apex)
    y, x = np.mgrid[:48, :48]
    offset = (row - y + apex[0], column - x + apex[1])
    assert np.array_equal(image, dilate(surface, tip, apex))
    assert np.abs(surface[row, column] + tip[offset] - image).max() <= 1e-13
    flat = dilate_tracked(np.zeros((5, 6)), np.zeros((3, 3)), (1, 1))
    assert np.array_equal(flat[1:], np.mgrid[:5, :6])  # touched everywhere: under the apex


def test_a_strip_of_rows_is_the_same_as_in_the_whole_image():
    surface = rough(40, 5.0, 6.0, np.random.default_rng(3))
    tip, apex = sphere_cone(4.0, 20.0, 1.0, 9.0)
    tip, apex = tip[:-3], (apex[0], apex[1])
    whole = dilate(surface, tip, apex)
    for row in range(40):
        assert np.array_equal(dilate_rows(surface, tip, apex, row, row + 1)[0], whole[row])
    assert np.array_equal(dilate_rows(surface, tip, apex, 5, 33), whole[5:33])


@pytest.mark.parametrize("pixel_nm", [0.5, (0.3, 1.1)])
@pytest.mark.parametrize("shape", [(37, 52), (1, 30), (30, 1), (1, 1)])
def test_the_paraboloid_without_end_is_the_sampled_one(shape, pixel_nm):
    """To rounding of the highest height: sampled, a contact lies within the map's relief."""
    surface = np.random.default_rng(4).normal(0, 3.0, shape)
    for R in (0.2, 5.0, 80.0):
        tip, apex = paraboloid_map(R, pixel_nm, np.ptp(surface))
        image, row, column = dilate_paraboloid_tracked(surface, R, pixel_nm)
        bound = 4e-15 * np.abs(surface).max()
        assert np.abs(image - dilate(surface, tip, apex)).max() <= bound
        assert np.abs(image - dilate_paraboloid(surface, R, pixel_nm)).max() == 0
        back = erode_paraboloid(image, R, pixel_nm)
        assert np.abs(back - erode(image, tip, apex)).max() <= bound
        dy, dx = np.broadcast_to(pixel_nm, 2)
        y, x = np.indices(shape)
        drop = ((dy * (row - y)) ** 2 + (dx * (column - x)) ** 2) / (2 * R)
        assert np.abs(surface[row, column] - drop - image).max() <= bound


def test_a_paraboloid_never_touches_what_goes_on_beyond_the_edges():
    surface = np.random.default_rng(5).normal(0, 3.0, (20, 25))
    continued = dilate_paraboloid(np.pad(surface, 30, "edge"), 40.0, 0.5)[30:-30, 30:-30]
    assert np.abs(dilate_paraboloid(surface, 40.0, 0.5) - continued).max() <= 1e-14


def test_a_paraboloid_is_as_exact_far_along_a_line_and_at_large_heights():
    """No coordinate squared enters: 4000 samples on, the error is still that of the heights."""
    surface = np.random.default_rng(6).normal(0, 2.0, (1, 4000))
    tip, apex = paraboloid_map(0.3, 1.0, np.ptp(surface))
    difference = dilate_paraboloid(surface, 0.3, 1.0) - dilate(surface, tip, apex)
    assert np.abs(difference).max() <= 4e-15 * np.ptp(surface)


# Sq of the image over that of the surface, and the part of the samples that erosion brings back
# exactly, for (Sq, T, R) on one surface of 256^2 samples each: single drawings of a reference
# computation; the cone's half angle is 15 degrees.
ROUGH = {
    (1, 10, 10): (0.985, 0.736),
    (1, 10, 50): (0.751, 0.194),
    (5, 10, 10): (0.858, 0.311),
    (5, 10, 50): (0.551, 0.015),
    (5, 20, 10): (0.974, 0.735),
}


def of_rough(case: tuple[int, int, int], seed: int) -> tuple[float, float, float]:
    """Sq of the image, parts brought back and certain; what is certain is right."""
    sq_nm, length_nm, R = case
    surface = rough(256, sq_nm, length_nm, np.random.default_rng(seed))
    tip, apex = sphere_cone(R, 15.0, 1.0, R + np.ptp(surface) * np.tan(np.radians(15.0)))
    image = dilate(surface, tip, apex)
    found = reconstruct(image, tip, apex)
    error = found.heights_nm - surface
    assert error.min() >= -1e-12
    assert np.abs(error[found.certain]).max() <= 1e-12
    return image.std() / surface.std(), np.mean(np.abs(error) < 1e-9), np.mean(found.certain)


@pytest.mark.parametrize("case", ROUGH)
def test_what_is_certain_of_a_rough_surface_is_right_and_part_of_what_came_back(case):
    _, back, certain = of_rough(case, 0)
    assert back == pytest.approx(ROUGH[case][1], abs=0.05)
    assert 0.5 * back <= certain <= back


@pytest.mark.slow
@pytest.mark.parametrize("case", ROUGH)
def test_roughness_is_lost_under_a_blunt_tip_as_published(case):
    """The published drawing lies among 24 others, and their mean part brought back is its."""
    ratio, back, certain = np.array([of_rough(case, seed) for seed in range(24)]).T
    assert abs(ratio.mean() - ROUGH[case][0]) <= 3 * ratio.std(ddof=1)
    assert back.mean() == pytest.approx(ROUGH[case][1], abs=0.05)
    assert np.all(certain <= back)


def test_the_paraboloids_certain_samples_are_the_surface():
    surface = rough(64, 2.0, 8.0, np.random.default_rng(7))
    image = dilate_paraboloid(surface, 12.0, (1.0, 0.7))
    found = reconstruct_paraboloid(image, (1.0, 0.7), 12.0)
    error = np.abs(found.heights_nm - surface)
    assert error[found.certain].max() <= 1e-12
    assert 0.5 <= found.certain.mean() / np.mean(error < 1e-9) <= 1  # 0.118 of 0.151
    assert np.abs(found.heights_nm - erode_paraboloid(image, 12.0, (1.0, 0.7))).max() <= 1e-13


def test_a_tip_from_any_level_is_taken_from_its_highest_sample():
    surface = rough(32, 2.0, 5.0, np.random.default_rng(8))
    tip, apex = sphere_cone(5.0, 20.0, 1.0, 8.0)
    image = dilate(surface, tip, apex)
    raised = reconstruct(image, tip + 40.0)
    assert np.abs(raised.heights_nm - erode(image, tip, apex)).max() <= 1e-13


FLAT, NEEDLE = np.zeros((4, 4)), np.zeros((1, 1))


@pytest.mark.parametrize(
    ("heights", "tip", "apex", "line"),
    [
        (np.array([[0.0, np.nan]]), NEEDLE, (0, 0), "heights must be finite"),
        (np.array([[0.0, np.inf]]), NEEDLE, (0, 0), "heights must be finite"),
        (np.zeros(4), NEEDLE, (0, 0), "heights must be a map of two dimensions"),
        (np.zeros((0, 4)), NEEDLE, (0, 0), "heights must be a map of two dimensions"),
        (FLAT, np.zeros(3), (0, 0), "a tip must be a map of two dimensions"),
        (FLAT, np.zeros((0, 0)), (0, 0), "a tip must be a map of two dimensions"),
        (FLAT, np.array([[0.0, 0.1]]), (0, 0), "higher than its apex"),
        (FLAT, np.array([[0.0, np.nan]]), (0, 0), "NaN"),
        (FLAT, np.array([[-1.0, -2.0]]), (0, 0), "is 0 at its apex; at (0, 0) it is -1"),
        (FLAT, np.full((3, 3), -np.inf), (1, 1), "is 0 at its apex; at (1, 1) it is -inf"),
        (FLAT, np.zeros((3, 3)), (3, 0), "lies outside of the tip"),
        (FLAT, np.zeros((3, 3)), (0, -1), "lies outside of the tip"),
    ],
)
def test_what_is_no_map_and_what_is_no_tip_is_refused(heights, tip, apex, line):
    for function in (dilate, dilate_tracked, erode):
        with pytest.raises(ValueError, match=re.escape(line)):
            function(heights, tip, apex)
    with pytest.raises(ValueError, match=re.escape(line)):
        dilate_rows(heights, tip, apex, 0, 1)


def test_wrong_rows_radii_and_tolerances_are_refused():
    with pytest.raises(ValueError, match="rows 2 to 5 aren't within the map's 4"):
        dilate_rows(FLAT, NEEDLE, (0, 0), 2, 5)
    for radius in (0.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="radius_nm must be positive"):
            dilate_paraboloid(FLAT, radius, 1.0)
    with pytest.raises(ValueError, match="pixel_size_nm must be positive"):
        dilate_paraboloid(FLAT, 1.0, (1.0, -1.0))
    with pytest.raises(ValueError, match="take coarser ones"):
        paraboloid_map(1e3, 0.01, 100.0)
    with pytest.raises(ValueError, match="tolerance must be finite and not negative"):
        reconstruct(FLAT, NEEDLE, tolerance_nm=-1.0)

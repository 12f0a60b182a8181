"""Shapes of tips against closed forms, and what a few of them do to a simple specimen."""

import math

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from nanophantom.simcore.probes.array_tip import ArrayTip
from nanophantom.simcore.probes.sphere_cone import cone_section, cone_volume
from nanophantom.simcore.probes.tip_map import TipMap
from nanophantom.simcore.probes.tips import (
    DoubleTip,
    Paraboloid,
    Pyramid,
    SphereCone,
    Tip,
    WornFlat,
)

SHAPES = [
    SphereCone(),
    Paraboloid(),
    Pyramid(rotation_deg=17.0),
    Pyramid(n_sides=3),
    DoubleTip(direction_deg=-30.0),
    WornFlat(),
]


def names(tip):
    return f"{tip.shape}-{tip.n_sides}" if isinstance(tip, Pyramid) else tip.shape


def image_of(surface, tip):
    """Return max over u of s(x + u) + t(u), the specimen continued by its edge."""
    (row, col), (ny, nx) = tip.apex, tip.heights_nm.shape
    padded = np.pad(surface, ((row, ny - 1 - row), (col, nx - 1 - col)), mode="edge")
    image = np.full(surface.shape, -np.inf)
    for i in range(ny):
        for j in range(nx):
            part = padded[i : i + surface.shape[0], j : j + surface.shape[1]]
            np.maximum(image, part + tip.heights_nm[i, j], out=image)
    return image


def test_a_sphere_goes_over_into_its_cone_without_a_kink():
    """Below the joint at R cos a the profile is a circle, beyond it a line of slope cot a."""
    R, a = 10.0, math.radians(20.0)
    tip = SphereCone(radius_nm=R, half_angle_deg=20.0)
    r = np.array([0.0, 1e-6, 3.0, 9.0])
    np.testing.assert_allclose(tip.profile_nm(0.0, r), np.sqrt(R**2 - r**2) - R, atol=1e-15)
    joint = R * math.cos(a)
    assert tip.profile_nm(joint, 0.0) == pytest.approx(-R * (1 - math.sin(a)), abs=1e-13)
    out = joint + np.array([1.0, 50.0])
    expected = -R * (1 - math.sin(a)) - (out - joint) / math.tan(a)
    np.testing.assert_allclose(tip.profile_nm(-out, 0.0), expected, rtol=1e-13)
    h = 1e-5
    before, at, after = -tip.profile_nm(joint + np.array([-h, 0.0, h]), 0.0)
    assert (at - before) / h == pytest.approx((after - at) / h, abs=1e-3)


@pytest.mark.parametrize(
    ("height_nm", "broadening_nm"),
    # x = R cos a + (h - R (1 - sin a)) tan a for R = 10 nm, a = 20 degrees
    [(20.0, 14.281), (50.0, 25.201)],
)
def test_a_sphere_cone_broadens_a_step_by_its_section(height_nm, broadening_nm):
    """The image of a vertical step rises over the tip's section at the step's height."""
    assert cone_section(height_nm, 10.0, 20.0) == pytest.approx(broadening_nm, abs=5e-4)
    px = 0.25
    tip = SphereCone().sampled((1.0, px), height_nm)
    step = np.zeros((1, 401))
    step[0, 200:] = height_nm
    image = image_of(step, TipMap(tip.heights_nm[tip.apex[0] :][:1], (0, tip.apex[1]), (1.0, px)))
    rising = (200 - np.flatnonzero(image[0] > 0)[0]) * px
    assert rising == pytest.approx(broadening_nm, abs=px)
    assert np.diff(image[0]).max() / px == pytest.approx(1 / math.tan(math.radians(20.0)), rel=1e-9)


@pytest.mark.parametrize("n", [3, 4])
def test_a_pyramid_has_flat_faces_round_edges_and_a_spherical_apex(n):
    """Each part is the closed form of what touches the ball: plane, cylinder, sphere."""
    R, angle, turn = 8.0, math.radians(35.0), math.radians(11.0)
    tip = Pyramid(n_sides=n, half_angle_deg=35.0, apex_radius_nm=R, rotation_deg=11.0)
    r = np.array([0.0, 1e-3, 1.0, 3.0])
    np.testing.assert_allclose(  # the sphere reaches out to R cos a' where edges take over
        tip.profile_nm(r * math.cos(1.0), r * math.sin(1.0)), np.sqrt(R**2 - r**2) - R, atol=1e-14
    )
    r = np.array([20.0, 40.0])
    cot = 1 / math.tan(angle)
    face = cot * r - R * (1 / math.sin(angle) - 1)  # the plane that touches the sphere
    edge_cot = cot * math.cos(math.pi / n)
    edge = edge_cot * r - R * (math.hypot(1.0, edge_cot) - 1)  # the cylinder's line
    for k in range(n):
        middle, corner = turn + 2 * math.pi * k / n, turn + (2 * k + 1) * math.pi / n
        for direction, height in ((middle, face), (corner, edge)):
            found = tip.profile_nm(r * math.cos(direction), r * math.sin(direction))
            np.testing.assert_allclose(found, -height, rtol=1e-12)
    # A face is a plane: heights at three points give that of their middle.
    u = turn + np.array([-0.2, 0.0, 0.2])
    points = 30.0 * np.stack([np.cos(u), np.sin(u)])
    centre = tip.profile_nm(*points.mean(axis=1))
    assert centre == pytest.approx(tip.profile_nm(*points).mean(), rel=1e-12)


def test_a_pyramid_is_convex_with_one_slope_everywhere():
    """No kink: slopes on both sides of any point agree, and the surface lies above its tangents."""
    tip = Pyramid(n_sides=4, apex_radius_nm=10.0, rotation_deg=30.0)
    rng = np.random.default_rng(1)
    a, b = rng.uniform(-25, 25, (2, 2, 2000))
    middle = tip.profile_nm(*((a + b) / 2))
    assert (middle >= (tip.profile_nm(*a) + tip.profile_nm(*b)) / 2 - 1e-12).all()
    h = 1e-4
    left, at, right = (tip.profile_nm(a[0] + d, a[1]) for d in (-h, 0.0, h))
    # where it isn't flat its curvature is at most 1 / R (1 + slope^2)^(3/2), no kink's 1 / h
    steepest = (1 + 1 / math.tan(math.radians(35.0)) ** 2) ** 1.5
    assert np.abs(left - 2 * at + right).max() <= 1.01 * h**2 * steepest / 10.0 + 1e-13


def test_a_double_tip_images_a_spike_twice():
    """The second apex at +d makes the ghost at -d, lower by the height difference."""
    tip = DoubleTip(
        radius_nm=2.0, separation_nm=15.0, direction_deg=90.0, height_difference_nm=3.0
    ).sampled((1.0, 1.0), 30.0)
    spike = np.zeros((61, 61))
    spike[40, 20] = 30.0
    image = image_of(spike, tip)
    assert image[40, 20] == 30.0
    assert image[25, 20] == pytest.approx(27.0, abs=1e-12)  # 90 degrees is down: the ghost is above
    peaks = [
        (i, j)
        for i in range(1, 60)
        for j in range(1, 60)
        if image[i, j] > 20 and image[i, j] == image[i - 1 : i + 2, j - 1 : j + 2].max()
    ]
    assert peaks == [(25, 20), (40, 20)]


def test_a_hidden_second_apex_is_refused():
    """Where the second cone lies inside the first there is no double tip."""
    DoubleTip(separation_nm=10.0, height_difference_nm=6.0)
    with pytest.raises(ValidationError, match="hides the second apex"):
        DoubleTip(separation_nm=10.0, height_difference_nm=8.5)


def test_a_worn_tip_is_its_cone_without_the_end():
    """Its flat lies where the cone is as wide; without a flat its radius is the fresh one."""
    tip = WornFlat(fresh_radius_nm=10.0, flat_radius_nm=6.0)
    assert tip.worn_nm == pytest.approx(10 - 8, abs=1e-12)  # sqrt(100 - 36) = 8
    assert tip.profile_nm(5.999, 0.0) == 0.0
    fresh = SphereCone().profile_nm(20.0, 0.0)
    assert tip.profile_nm(20.0, 0.0) == pytest.approx(fresh + 2.0, abs=1e-12)
    assert WornFlat(flat_radius_nm=1e-4).radius_nm == pytest.approx(10.0, rel=1e-6)
    # spherical caps: pi h^2 (R - h/3) between 2 and 3 nm over that of 1 nm
    ratio = (9 * 9.0 - 4 * (10 - 2 / 3)) / (10 - 1 / 3)
    assert tip.radius_nm == pytest.approx(10.0 * ratio, rel=1e-12)


@pytest.mark.parametrize("tip", SHAPES, ids=names)
def test_samples_are_the_profile_and_hold_all_of_it(tip):
    """Odd, the apex in the middle, and every place beyond the map lies below its depth."""
    step, depth = (0.8, 0.5), 12.0
    sampled = tip.sampled(step, depth)
    ny, nx = sampled.heights_nm.shape
    assert (ny % 2, nx % 2) == (1, 1)
    assert sampled.apex == (ny // 2, nx // 2)
    y, x = sampled.offsets_nm
    np.testing.assert_array_equal(sampled.heights_nm, tip.profile_nm(x, y))
    angle, rim = np.linspace(0, 2 * np.pi, 721), 1.0001 * tip.reach_nm(depth)
    assert (tip.profile_nm(rim * np.cos(angle), rim * np.sin(angle)) < -depth).all()
    half = min(ny // 2 * step[0], nx // 2 * step[1])
    assert half >= tip.reach_nm(depth)
    cropped = sampled.cropped(4.0)
    assert (cropped.heights_nm >= -4.0).sum() == (sampled.heights_nm >= -4.0).sum()
    assert cropped.heights_nm.size < sampled.heights_nm.size


@pytest.mark.parametrize("tip", [SphereCone(), Paraboloid(), Pyramid(half_angle_deg=50.0)])
def test_the_radius_is_that_of_the_apex(tip):
    """Curvature at the apex along both axes is 1 / radius."""
    h = 1e-2
    for x, y in ((h, 0.0), (0.0, h), (h / 2, h / 2)):
        r2 = x * x + y * y
        assert -2 * tip.profile_nm(x, y) / r2 == pytest.approx(1 / tip.radius_nm, rel=1e-5)


def test_a_tip_too_wide_for_its_pixels_is_refused():
    """The line names what can be changed."""
    with pytest.raises(ValueError, match=r"at most 2049: take a sharper tip .* larger pixels"):
        SphereCone(half_angle_deg=70.0).sampled((0.1, 0.1), 100.0)


def test_a_tip_from_a_file_is_the_tip_that_was_saved(tmp_path):
    """Same heights at its samples, straight between them, no tip outside; any level, any apex."""
    saved = Pyramid(rotation_deg=10.0).sampled((0.5, 0.5), 10.0)
    cut = saved.heights_nm[:, 7:]
    np.save(tmp_path / "tip.npy", cut + 123.0)
    tip = ArrayTip(file=str(tmp_path / "tip.npy"), pixel_size_nm=0.5)
    read = tip.tip_map
    assert read.apex == (saved.apex[0], saved.apex[1] - 7)
    y, x = read.offsets_nm
    np.testing.assert_allclose(tip.profile_nm(x, y), cut, atol=1e-12)
    between = tip.profile_nm(0.25, 0.0)
    assert between == pytest.approx(saved.heights_nm[saved.apex[0], saved.apex[1] + 1] / 2)
    assert tip.profile_nm(x.min() - 1e-6, 0.0) == -np.inf
    assert tip.radius_nm == pytest.approx(10.0, rel=1e-9)
    assert set(tip.input_files()) == {"file"}
    drawn = tip.sampled((0.5, 0.5), 5.0).cropped(5.0)
    np.testing.assert_allclose(drawn.heights_nm, read.cropped(5.0).heights_nm, atol=1e-12)


def test_a_file_without_a_pixel_size_is_refused(tmp_path):
    """A plain array doesn't say how wide the tip is."""
    np.save(tmp_path / "tip.npy", np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"pixel_size_nm: tip\.npy does not say it"):
        _ = ArrayTip(file=str(tmp_path / "tip.npy")).tip_map


def test_the_shape_tells_tips_apart():
    """A recipe names the shape; another name gets the list of them."""
    read = TypeAdapter(Tip).validate_python
    assert read({"shape": "pyramid", "n_sides": 3}) == Pyramid(n_sides=3)
    assert read({"shape": "sphere-cone", "radius_nm": "0.02 um"}).radius_nm == pytest.approx(20.0)
    with pytest.raises(ValidationError, match="shape must be sphere-cone, paraboloid, pyramid"):
        read({"shape": "cube"})


def test_the_volume_of_a_sphere_cone():
    """The closed form is the sum over fine samples, above and below the joint."""
    for height in (3.0, 15.0):
        fine = SphereCone().sampled((0.05, 0.05), height)
        assert fine.volume_nm3(height) == pytest.approx(cone_volume(height, 10.0, 20.0), rel=1e-4)
        area = math.pi * cone_section(height, 10.0, 20.0) ** 2
        assert fine.area_nm2(height) == pytest.approx(area, rel=2e-3)


def test_truncation_takes_away_the_volume_below():
    """What is left over any height is what there was, less the volume below the cut."""
    tip = SphereCone().sampled((0.5, 0.5), 20.0)
    cut = tip.truncated(4.0)
    left = tip.volume_nm3(12.0) - tip.volume_nm3(4.0)
    assert cut.volume_nm3(8.0) == pytest.approx(left, rel=1e-12)
    assert cut.heights_nm[cut.apex] == 0.0
    assert cut.apex == tip.apex


def test_the_fitted_radius_is_exact_for_a_sphere_between_the_samples():
    """Neither where the lowest point falls nor unequal steps matter; a flat has no radius."""
    y, x = np.mgrid[-12:13, -20:21] * np.array([0.7, 0.4])[:, None, None]
    sphere = np.sqrt(12.0**2 - (x - 0.13) ** 2 - (y + 0.29) ** 2)
    tip = TipMap.of(sphere, (0.7, 0.4))
    assert tip.apex_radius_nm(2.0) == pytest.approx(12.0, rel=1e-9)
    with pytest.raises(ValueError, match="show no curvature"):
        tip.truncated(3.0).apex_radius_nm(0.001)


@pytest.mark.parametrize(
    ("heights", "apex", "message"),
    [
        ([[0.0, 0.1]], (0, 0), "at most 0"),
        ([[0.0, np.nan]], (0, 0), "no NaN"),
        ([[0.0, -1.0]], (0, 1), "must be exactly 0"),
        ([[0.0, -1.0]], (1, 0), "must be exactly 0"),
        ([[0.0, -1.0]], (-1, 0), "must be exactly 0"),
        ([0.0, -1.0], (0, 0), "shape"),
    ],
)
def test_a_map_that_is_no_tip_is_refused(heights, apex, message):
    """Positive heights, NaN, a missing apex and a wrong shape each get a line."""
    with pytest.raises(ValueError, match=message):
        TipMap(np.array(heights), apex, (1.0, 1.0))

"""Particles under a tip of known shape: closed forms, and counts and sizes on rough supports."""

import numpy as np
import pytest
from scipy import spatial

from nanophantom.analysis import particles
from nanophantom.samples.building.rough_support import Roughness
from nanophantom.samples.rough_nanoparticles import RoughNanoparticles
from nanophantom.simcore.atoms import Window
from nanophantom.simcore.probes.dilation import dilate
from nanophantom.simcore.probes.tips import SphereCone
from nanophantom.simcore.runs import Run


def sphere_image(radius, tip, px=0.5, n=160, noise=0.0, tilt=0.0):
    """Return a sphere on a plane as a tip sees it; its middle lies at n / 2 pixels."""
    y, x = (np.mgrid[:n, :n] - n / 2) * px
    cap = radius**2 - x**2 - y**2
    heights = np.where(cap > 0, radius + np.sqrt(np.maximum(cap, 0)), 0.0)
    image = dilate(heights, tip.heights_nm, tip.apex) + tilt * x
    return image + np.random.default_rng(1).normal(0, noise, image.shape)


def test_a_sphere_through_a_sphere_tip_gives_its_diameter_by_every_road():
    """R = 10, r = 5 nm: image 22.361 nm wide at half height, 28.284 nm at its base, 10 nm high."""
    assert particles.fwhm_nm(5.0, 10.0) == pytest.approx(22.361, abs=1e-3)
    assert particles.base_nm(5.0, 10.0) == pytest.approx(28.284, abs=1e-3)
    assert particles.radius_from_fwhm_nm(22.3607, 10.0) == pytest.approx(5, abs=1e-4)
    assert particles.radius_from_base_nm(28.2843, 10.0) == pytest.approx(5, abs=1e-4)

    tip = SphereCone(radius_nm=10.0, half_angle_deg=20.0).sampled((0.5, 0.5), 30.0)
    image = sphere_image(5.0, tip, tilt=0.01)
    found = particles.find(image, 0.5, tip_nm=tip.heights_nm, apex=tip.apex)
    assert len(found.x_nm) == 1
    assert found.x_nm[0] == pytest.approx(40, abs=0.05)
    assert found.y_nm[0] == pytest.approx(40, abs=0.05)
    assert found.height_nm[0] == pytest.approx(10, abs=0.03)
    # the closed form is exact while the tip touches with its sphere
    assert found.apparent_diameter_nm[0] == pytest.approx(22.361, abs=0.2)
    by_geometry = particles.radius_from_fwhm_nm(found.apparent_diameter_nm, 10.0)[0]
    assert by_geometry == pytest.approx(5, abs=0.1)
    assert found.lateral_diameter_nm[0] == pytest.approx(10, abs=0.15)
    assert found.diameter_nm[0] == pytest.approx(10, abs=0.05)
    assert not found.touches_edge[0]


def test_without_a_tip_the_height_is_the_diameter():
    tip = SphereCone().sampled((0.5, 0.5), 30.0)
    image = sphere_image(6.0, tip, noise=0.05)
    found = particles.find(image, 0.5)
    assert found.lateral_diameter_nm is None
    assert found.diameter_nm[0] == pytest.approx(12, abs=0.1)
    assert found.noise_nm == pytest.approx(0.05, rel=0.1)
    with pytest.raises(ValueError, match="tip"):
        particles.find(image, 0.5, shape="spheroid")


def test_touching_spheres_are_cut_apart_and_the_cleft_is_left_out():
    tip = SphereCone().sampled((0.5, 0.5), 40.0)
    y, x = np.mgrid[:200, :240] * 0.5
    heights = np.zeros(x.shape)
    for place in (52.0, 68.0):  # spheres of 16 nm that touch
        cap = 64 - (x - place) ** 2 - (y - 50) ** 2
        heights = np.maximum(heights, np.where(cap > 0, 8 + np.sqrt(np.maximum(cap, 0)), 0))
    image = dilate(heights, tip.heights_nm, tip.apex)
    found = particles.find(image, 0.5, tip_nm=tip.heights_nm, apex=tip.apex)
    assert sorted(found.x_nm) == pytest.approx([52, 68], abs=0.2)
    assert found.lateral_diameter_nm == pytest.approx([16, 16], abs=0.4)
    assert found.diameter_nm == pytest.approx([16, 16], abs=0.1)


def cluster(flattening=1.0):
    """Return a ball of 16 nm amid six that touch it, and what is found; one more alone."""
    tip = SphereCone().sampled((0.5, 0.5), 40.0)
    y, x = np.mgrid[:240, :300] * 0.5
    around = np.deg2rad(np.arange(0, 360, 60))
    places = [(60.0, 50.0), *zip(60 + 16 * np.sin(around), 50 + 16 * np.cos(around), strict=True)]
    heights = np.zeros(x.shape)
    for py, px in (*places, (60.0, 115.0)):
        cap = np.maximum(64 - (x - px) ** 2 - (y - py) ** 2, 0)
        heights = np.maximum(heights, flattening * np.where(cap > 0, 8 + np.sqrt(cap), 0))
    image = dilate(heights, tip.heights_nm, tip.apex)
    image += np.random.default_rng(4).normal(0, 0.02, image.shape)
    shape = "sphere" if flattening == 1 else "spheroid"
    found = particles.find(image, 0.5, tip_nm=tip.heights_nm, apex=tip.apex, shape=shape)
    middle = int(np.argmin(np.hypot(found.x_nm - 50, found.y_nm - 60)))
    alone = int(np.argmax(found.x_nm))
    return found, middle, alone


def test_a_width_between_neighbours_all_around_is_not_believed():
    """The tip reaches no flank: the width is nm too large and says so, the height is right."""
    found, middle, alone = cluster()
    assert len(found.x_nm) == 8
    excess = found.lateral_diameter_nm[middle] - 16
    assert excess > 3
    assert found.lateral_uncertainty_nm[middle] > excess
    assert found.in_cleft[middle]
    assert not found.in_cleft[alone]
    assert found.diameter_nm == pytest.approx(np.full(8, 16.0), abs=0.15)
    assert np.all(np.abs(found.diameter_nm - 16) < 2 * found.diameter_uncertainty_nm)


def test_flattened_ones_between_neighbours_have_wide_uncertainties():
    """Of a spheroid the height tells no width: where no flank shows the uncertainty holds both."""
    found, middle, alone = cluster(0.75)
    assert found.in_cleft[middle]
    assert not found.in_cleft[alone]
    error = np.abs(found.diameter_nm - 16)
    assert error[alone] < 0.3
    assert found.diameter_uncertainty_nm[middle] > error[middle]


def test_a_width_much_larger_than_the_height_leaves_the_height_alone():
    """Equal uncertainties weigh alike; a width 8 of its uncertainties over the height, or of no
    flank at all, isn't averaged in."""
    height, width, half = np.full(3, 20.0), np.array([21.0, 26.0, 21.0]), np.full(3, 0.5)
    seen = np.array([True, True, False])
    diameter, sigma, lateral_sigma, cleft = particles.of_spheres(height, half, width, half, seen)
    np.testing.assert_allclose(diameter, [20.5, 20.0, 20.0], atol=1e-9)
    np.testing.assert_allclose(sigma, [0.5 / np.sqrt(2), 0.5, 0.5], rtol=1e-9)
    np.testing.assert_allclose(lateral_sigma, np.hypot(0.5, [0, 6.0, 1.0]), rtol=1e-9)
    assert cleft.tolist() == [False, True, True]


@pytest.mark.parametrize("threshold", [4.0, "otsu", "robust"])
def test_cut_ones_are_flagged_and_thresholds_agree(threshold):
    tip = SphereCone().sampled((1.0, 1.0), 40.0)
    y, x = np.mgrid[:80, :120] * 1.0
    heights = np.zeros(x.shape)
    for cx, cy, r in ((30, 40, 8), (85, 30, 8), (118, 50, 8)):
        cap = r**2 - (x - cx) ** 2 - (y - cy) ** 2
        heights = np.maximum(heights, np.where(cap > 0, r + np.sqrt(np.maximum(cap, 0)), 0))
    image = dilate(heights, tip.heights_nm, tip.apex)
    image += np.random.default_rng(2).normal(0, 0.05, image.shape)
    found = particles.find(image, 1.0, threshold=threshold)
    order = np.argsort(found.x_nm)
    assert len(order) == 3
    assert found.x_nm[order][:2] == pytest.approx([30, 85], abs=0.1)
    assert found.touches_edge[order].tolist() == [False, False, True]


def test_an_empty_image_has_no_particles():
    found = particles.find(np.random.default_rng(3).normal(0, 0.1, (64, 64)), 1.0, threshold=3.0)
    assert len(found.x_nm) == 0
    assert not np.any(found.labels)


def measured(seed, height_ratio=1.0):
    """Return errors over an image of a rough support: found, missed, wrong, and columns."""
    tip = SphereCone(radius_nm=10.0, half_angle_deg=20.0).sampled((1.0, 1.0), 60.0)
    specimen = RoughNanoparticles(
        number=25,
        period_nm=400.0,
        height_ratio=height_ratio,
        roughness=Roughness(sq_nm=1.0, correlation_length_nm=20.0),
    ).make(Run(seed))
    surface = specimen.surface_within(Window.centred(400, 400), (400, 400)).heights_nm
    image = dilate(surface, tip.heights_nm, tip.apex)
    image += np.random.default_rng(seed).normal(0, 0.05, image.shape)
    found = particles.find(
        image,
        1.0,
        tip_nm=tip.heights_nm,
        apex=tip.apex,
        shape="sphere" if height_ratio == 1 else "spheroid",
    )
    truth = (specimen.places_nm + 200) % 400
    distance, nearest = spatial.cKDTree(truth).query(np.stack([found.x_nm, found.y_nm], axis=1))
    match = (distance < 5) & ~found.touches_edge
    wrong = np.count_nonzero((distance >= 5) & ~found.touches_edge)
    missed = len(truth) - len(np.unique(nearest[distance < 5]))
    true = specimen.diameters_nm[nearest]
    columns = np.stack(
        [
            found.height_nm - height_ratio * true,
            found.height_uncertainty_nm,
            found.lateral_diameter_nm - true,
            found.diameter_nm - true,
            found.diameter_uncertainty_nm,
            found.apparent_diameter_nm - true,
        ]
    )[:, match]
    return wrong, missed, columns


def test_on_a_rough_support_nearly_all_are_found_and_sized():
    """Sq 1 nm, 25 spheres of 15 nm: the support's waves don't get into the diameters."""
    wrong, missed, columns = measured(1)
    height, _, _, diameter, _, apparent = columns
    assert wrong == 0
    assert missed <= 1
    assert abs(np.mean(diameter)) < 0.15
    assert np.std(diameter) < np.std(height)
    assert np.mean(apparent) > 10


@pytest.mark.slow
def test_counts_biases_and_uncertainties_on_rough_supports():
    """20 seeds: F1, biases, and the share of intervals that hold the truth."""
    wrong, missed, columns = zip(*(measured(seed) for seed in range(20)), strict=True)
    height, u_height, lateral, diameter, u, apparent = np.concatenate(columns, axis=1)
    right = 20 * 25 - sum(missed)
    assert 2 * right / (2 * right + sum(wrong) + sum(missed)) > 0.99
    assert np.mean(apparent) > 12
    assert abs(np.mean(height)) < 0.1
    assert 0.85 < np.sqrt(np.mean((height / u_height) ** 2)) < 1.15
    assert abs(np.mean(lateral)) < 0.1
    assert abs(np.mean(diameter)) < 0.05
    assert np.std(diameter) < 0.25
    assert np.mean(np.abs(diameter) < 2 * u) > 0.93


@pytest.mark.slow
def test_flattened_particles_by_their_width():
    """10 seeds, height 0.7 of the width: the lateral diameter is right, the height is not it."""
    _, _, columns = zip(*(measured(seed, 0.7) for seed in range(10)), strict=True)
    _, _, lateral, diameter, u, _ = np.concatenate(columns, axis=1)
    assert np.array_equal(lateral, diameter)
    assert abs(np.mean(diameter)) < 0.1
    assert np.mean(np.abs(diameter) < 2 * u) > 0.93

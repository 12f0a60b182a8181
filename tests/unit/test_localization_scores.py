"""Matching of localizations, their bounds, and the figures of merit, against closed forms."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from nanophantom.analysis.localization_precision import cramer_rao
from nanophantom.validation.localization_limit import Imaging, bounds, signal_to_noise
from nanophantom.validation.localization_matching import (
    Places,
    density_per_um2,
    match_frames,
    nearest_neighbour_nm,
)
from nanophantom.validation.localization_scores import (
    Counts,
    efficiency,
    jaccard_against_density,
    pixel_bias,
    recall_against_photons,
)
from nanophantom.validation.matching import Matches, match


def at(x_nm, frame=0, z_nm=None):
    x = np.atleast_1d(np.asarray(x_nm, float))
    z = None if z_nm is None else np.atleast_1d(np.asarray(z_nm, float))
    return Places(np.broadcast_to(np.asarray(frame), x.shape).astype(np.int64), x, 0 * x, z)


def scattered(rng, n, frames, side_nm):
    x, y = rng.uniform(0, side_nm, (2, n))
    return Places(rng.integers(0, frames, n), x, y)


def imaging(sigma_nm=100.0, size=64, qe=1.0, excess=1.0, variance=0.0, curve=None):
    columns = () if curve is None else curve
    return Imaging((size, size), 100.0, sigma_nm, 0.0, qe, excess,
                   np.asarray(variance, np.float32), *columns)  # fmt: skip


def test_the_nearest_pair_goes_first_but_the_best_matching_has_more_pairs():
    """Finds at 100 and -200, emitters at 0 and 340: greedy takes 100-0 and leaves nothing for the
    others; 100-340 and -200-0 are two pairs within 250 nm."""
    found, true = at([100.0, -200.0]), at([0.0, 340.0])
    one = match_frames(found, true)
    assert (one.found.tolist(), one.true.tolist(), one.distance.tolist()) == ([0], [0], [100.0])
    two = match_frames(found, true, method="optimal")
    assert (two.found.tolist(), two.true.tolist()) == ([0, 1], [1, 0])


def test_pairs_are_of_one_frame_within_both_radii():
    """250 nm and 500 nm count, a hair more doesn't, nor does the next frame; z only if both have
    heights."""
    assert len(match_frames(at(250.0, z_nm=500.0), at(0.0, z_nm=0.0))) == 1
    assert len(match_frames(at(250.001), at(0.0))) == 0
    assert len(match_frames(at(0.0, z_nm=500.001), at(0.0, z_nm=0.0))) == 0
    assert len(match_frames(at(0.0, z_nm=9e9), at(0.0))) == 1
    assert len(match_frames(at(0.0, frame=1), at(0.0))) == 0
    assert len(match_frames(at([-1e30, 1e30, 7.0]), at(0.0))) == 1


def test_greedy_is_that_of_a_loop():
    """The nearest pair of a frame, then the nearest of those left, written out."""
    rng = np.random.default_rng(1)
    found, true = scattered(rng, 600, 8, 2000.0), scattered(rng, 500, 8, 2000.0)
    expected = []
    for frame in range(8):
        i, j = (np.flatnonzero(p.frame == frame) for p in (found, true))
        d = np.hypot(found.x_nm[i][:, None] - true.x_nm[j], found.y_nm[i][:, None] - true.y_nm[j])
        while d.size and d.min() <= 250:
            a, b = np.unravel_index(np.argmin(d), d.shape)
            expected.append((int(i[a]), int(j[b])))
            d[a, :] = d[:, b] = np.inf
    pairs = match_frames(found, true)
    assert sorted(expected) == list(zip(pairs.found.tolist(), pairs.true.tolist(), strict=True))


@pytest.mark.parametrize("side_nm", [1500.0, 6000.0])
def test_optimal_is_that_of_each_frame(side_nm):
    """As `matching.match` finds it, frame by frame; crowded frames and sparse ones."""
    rng = np.random.default_rng(2)
    found, true = scattered(rng, 500, 6, side_nm), scattered(rng, 400, 6, side_nm)
    pairs = match_frames(found, true, method="optimal")
    n, total = 0, 0.0
    for frame in range(6):
        i, j = (p.of(p.frame == frame) for p in (found, true))
        best = match(np.c_[i.x_nm, i.y_nm], np.c_[j.x_nm, j.y_nm], 250.0)
        n, total = n + len(best), total + best.distance.sum()
    assert len(pairs) == n > len(match_frames(found, true)) - 1
    assert pairs.distance.sum() == pytest.approx(total, rel=1e-9)
    assert len(set(pairs.found)) == len(set(pairs.true)) == n


def test_a_quarter_of_a_million_are_matched_right():
    """Every find 1 nm beside its emitter, none nearer than that to another."""
    rng = np.random.default_rng(3)
    true = scattered(rng, 250_000, 50_000, 12800.0)
    order = rng.permutation(len(true))
    found = true.of(order)
    found = Places(found.frame, found.x_nm + 1.0, found.y_nm)
    pairs = match_frames(found, true)
    right = order[pairs.found] == pairs.true
    # a neighbour within 1 nm: 4 other emitters a frame of 12.8 um, about 8e-8 each
    assert len(pairs) == len(true)
    assert (~right).sum() <= 2


def test_neighbours_are_as_rare_as_chance_has_them():
    """exp(-pi rho r^2): 20 others on 128 x 128 pixels, within 5 pixels none: 0.909."""
    rng = np.random.default_rng(4)
    places = scattered(rng, 200_000, 10_000, 12800.0)
    inner = (np.abs(places.x_nm - 6400) < 5900) & (np.abs(places.y_nm - 6400) < 5900)
    alone = ~np.isfinite(nearest_neighbour_nm(places, 500.0))
    p = np.exp(-np.pi * 0.25 * 20 / 12.8**2)
    assert p == pytest.approx(0.909, abs=5e-4)
    spread = np.sqrt(2 * p * (1 - p) / inner.sum())  # two of a pair are lonely together
    assert alone[inner].mean() == pytest.approx(p, abs=3 * spread)
    around = density_per_um2(places, places, 500.0, themselves=True)
    assert around[inner].mean() == pytest.approx(20 / 12.8**2, rel=0.02)


# CRLB of a Gaussian integrated over 100 nm pixels, Poisson noise: numerical Fisher matrices of
# other code (in nm; sigma, photons, background)
@pytest.mark.parametrize(
    ("sigma", "photons", "background", "expected"),
    [(100.0, 1000, 10, 4.093), (100.0, 500, 10, 6.439), (100.0, 5000, 10, 1.595),
     (130.0, 1000, 10, 5.647), (130.0, 1000, 1, 4.584), (130.0, 200, 1, 11.49)],
)  # fmt: skip
def test_bounds_are_the_tabulated_ones(sigma, photons, background, expected):
    one = np.array([3000.0])
    limit = bounds(imaging(sigma), one, one, 0 * one, 0 * one + photons, 0 * one + background,
                   box_px=7)  # fmt: skip
    np.testing.assert_allclose([limit.x_nm[0], limit.y_nm[0]], expected, rtol=5e-3)


def test_bounds_know_the_camera():
    """2.56 e^2 on every pixel: 4.222 nm; an EMCCD: sqrt(2) more; half the light detected, but of
    twice as much: the same in nm, and twice the error of the photons."""
    one = np.array([3000.0])
    light = (0 * one, 0 * one + 1000, 0 * one + 10)
    plain = bounds(imaging(), one, one, *light)
    noisy = bounds(imaging(variance=2.56), one, one, *light)
    np.testing.assert_allclose(noisy.x_nm, 4.222, rtol=5e-3)
    amplified = bounds(imaging(excess=2.0), one, one, *light)
    np.testing.assert_allclose(amplified.x_nm, np.sqrt(2) * plain.x_nm)
    half = bounds(imaging(qe=0.5), one, one, 0 * one, 2 * light[1], 2 * light[2])
    np.testing.assert_allclose(half.x_nm, plain.x_nm)
    np.testing.assert_allclose(half.photons, 2 * plain.photons)


def test_bounds_know_each_pixel():
    """A hot pixel beside an emitter off its pixel's middle: as `cramer_rao` with the same map."""
    variance = np.full((64, 64), 1.0, np.float32)
    variance[30, 31] = 400.0
    x, y = np.array([3030.0]), np.array([2980.0])
    limit = bounds(imaging(variance=variance), x, y, 0 * x, 0 * x + 800, 0 * x + 5)
    expected = cramer_rao(100.0, 100.0, 800.0, 5.0, box_px=11, x_px=0.3, y_px=-0.2,
                          read_variance=variance[25:36, 25:36])  # fmt: skip
    np.testing.assert_allclose(
        [limit.x_nm[0], limit.y_nm[0], limit.photons[0], limit.background[0]],
        [expected.x_nm, expected.y_nm, expected.photons, expected.background], rtol=1e-5,
    )  # fmt: skip


def test_bounds_at_the_edge_see_half_a_spot():
    """In the outermost column y is known sqrt(2) times worse at least, and x worse than inside."""
    x, y = np.array([-50.0, 3000.0]), np.array([3000.0, 3000.0])
    limit = bounds(imaging(), x, y, 0 * x, 0 * x + 1000, 0 * x)
    np.testing.assert_allclose(limit.y_nm[0] / limit.y_nm[1], np.sqrt(2), rtol=0.02)
    assert limit.x_nm[0] > 1.3 * limit.x_nm[1]


def test_astigmatic_bounds_are_the_tabulated_ones():
    """sigma_x,y(z) = 130 sqrt(1 + ((z -+ 200)/350)^2), N 1000, b 10: 22.7 nm at z 0, 30.6 nm at
    200 and 32.8 nm at 400 nm; x 6.75 nm at z 0."""
    z = np.linspace(-800, 800, 801)
    widths = [130 * np.sqrt(1 + ((z - s) / 350) ** 2) for s in (200, -200)]
    heights = np.array([0.0, 200.0, -200.0, 400.0])
    one = np.full(4, 3000.0)
    limit = bounds(imaging(130.0, curve=(z, *widths)), one, one, heights, 0 * one + 1000,
                   0 * one + 10, box_px=13)  # fmt: skip
    np.testing.assert_allclose(limit.z_nm, [22.7, 30.6, 30.6, 32.8], rtol=0.01)
    np.testing.assert_allclose(limit.x_nm[0], 6.75, rtol=0.01)
    out = bounds(imaging(130.0, curve=(z, *widths)), one[:1], one[:1], np.array([900.0]),
                 one[:1], one[:1])  # fmt: skip
    assert np.isnan(out.z_nm[0])
    assert np.isnan(out.x_nm[0])


def test_astigmatic_bounds_are_about_the_focal_plane():
    """Focused 150 nm above the coverslip, a dye at 450 nm is seen as one at 300 nm with focus 0."""
    z = np.linspace(-800, 800, 801)
    curve = (z, *(130 * np.sqrt(1 + ((z - s) / 350) ** 2) for s in (200, -200)))
    one = np.array([3000.0])
    low = imaging(130.0, curve=curve)
    high = replace(low, focus_nm=150.0)
    at_300, at_450 = (
        bounds(camera, one, one, 0 * one + height, one, one / 100, box_px=13)
        for camera, height in ((low, 300.0), (high, 450.0))
    )
    np.testing.assert_allclose(at_450.z_nm, at_300.z_nm)
    np.testing.assert_allclose(at_450.x_nm, at_300.x_nm)


def test_signal_to_noise_is_photometric():
    """sigma 1 px: 12.57 pixels; N 100, b 4, v 1: 100 / sqrt(100 + 12.57 * 5) = 7.84;
    sqrt(N) without background; an EMCCD's excess noise takes a root of two off that."""
    n, b, z = np.array([100.0]), np.array([4.0]), np.zeros(1)
    np.testing.assert_allclose(signal_to_noise(imaging(variance=1.0), n, b, z), 7.836, atol=1e-3)
    np.testing.assert_allclose(signal_to_noise(imaging(), n, 0 * b, z), 10.0)
    np.testing.assert_allclose(signal_to_noise(imaging(excess=2.0), n, 0 * b, z), 7.0711, rtol=1e-4)


def test_efficiency_is_the_challenges():
    """100 - sqrt((100 - 100 J)^2 + alpha^2 RMSE^2): J 0.959, RMSE 20.9 nm: 78.7; 0.5 along
    z."""
    assert efficiency(0.959, 20.9) == pytest.approx(78.7, abs=0.01)
    assert efficiency(1.0, 40.0, 0.5) == 80.0
    assert efficiency(0.0, 75.0) == -25.0


def test_counts_make_ratios():
    counts = Counts(hits=6, missed=2, false=4)
    assert (counts.jaccard, counts.recall, counts.precision) == (0.5, 0.75, 0.6)
    assert counts.f1 == pytest.approx(2 / 3)
    for empty in (Counts(0, 0, 0), Counts(0, 0, 3)):  # nothing to find, whatever was claimed
        assert empty.jaccard is empty.recall is empty.precision is empty.f1 is None


def compared(errors_x_nm, true_x_nm):
    """Return what `pixel_bias` asks of a comparison: isolated emitters, one a frame."""
    n = len(true_x_nm)
    rows = np.arange(n)
    true = Places(rows, true_x_nm, true_x_nm)
    errors = np.column_stack([errors_x_nm, np.random.default_rng(9).normal(0, 5, n)])
    return SimpleNamespace(
        isolated_pairs=np.ones(n, bool), errors_nm=lambda: errors, true=true,
        pairs=Matches(rows, rows, np.hypot(*errors.T)), imaging=imaging(),
    )  # fmt: skip


def test_errors_that_follow_the_pixels_are_told_from_chance():
    """A wave of 3 nm: 3 / sqrt(2) nm rms in x, none in y, thus 1.5 nm rms; without it p is no
    smaller than chance makes it."""
    rng = np.random.default_rng(6)
    x, noise = rng.uniform(0, 5000, 20_000), rng.normal(0, 5, 20_000)
    plain = pixel_bias(compared(noise, x))
    assert plain.p_value > 0.01
    assert plain.rms_nm < 0.1
    waved = pixel_bias(compared(noise + 3 * np.sin(2 * np.pi * x / 100), x))
    assert waved.p_value < 1e-10
    # bins a tenth of a period wide leave sin(pi/10) / (pi/10) of a wave
    expected = 1.5 * np.sin(np.pi / 10) / (np.pi / 10)
    assert waved.rms_nm == pytest.approx(expected, abs=0.08)
    assert pixel_bias(compared(noise[:99], x[:99])) is None


def test_recall_rises_with_photons_and_falls_with_crowds():
    """Of ten emitters those below 100 photons are missed, all that have a neighbour found once."""
    photons = np.r_[np.full(5, 50.0), np.full(5, 500.0)]
    x = np.r_[np.arange(5) * 5000.0, np.arange(5) * 5000.0 + 200.0]
    true = Places(np.zeros(10, np.int64), x, 0 * x)
    hit = photons > 100
    c = SimpleNamespace(
        emissions={"photons": photons}, all_pairs=SimpleNamespace(true=np.flatnonzero(hit)),
        true=true, places=true, asked=np.ones(10, bool), false=np.zeros(10, bool), hit=hit,
    )  # fmt: skip
    middle, recall, n = recall_against_photons(c)
    assert (recall.tolist(), n.tolist()) == ([0.0, 1.0], [5, 5])
    assert middle[0] < 100 < middle[1]
    density, jaccard, total = jaccard_against_density(c)
    np.testing.assert_allclose(density, [1 / np.pi])
    assert (jaccard.tolist(), total.tolist()) == ([0.5], [10])

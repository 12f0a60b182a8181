"""Fits of single spots reach the physical limit, and say how far they are from it."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import erf

from nanophantom.analysis.localization_precision import (
    cramer_rao,
    cramer_rao_astigmatic,
    mortensen_least_squares,
)
from nanophantom.analysis.spot_fits import Astigmatism, fit_spots


def profile(size, centre, sigma):
    edges = (np.arange(size + 1) - 0.5 - centre[:, None]) / (np.sqrt(2) * sigma)
    return 0.5 * np.diff(erf(edges))


def draw(n, photons, background, sigma_x, sigma_y=None, box=7, seed=1):
    """Return places, expectations and a generator; places are uniform over the middle pixel."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-0.5, 0.5, (2, n)) + (box - 1) / 2
    rows, columns = profile(box, y, sigma_y or sigma_x), profile(box, x, sigma_x)
    return x, y, photons * rows[:, :, None] * columns[:, None, :] + background, rng


def rms(errors):
    return np.sqrt(np.mean(np.square(errors)))


CASES = [  # sigma (px), photons, background
    (1.0, 1000, 10),
    (1.0, 500, 10),
    (1.0, 5000, 10),
    (1.3, 1000, 10),
    (1.3, 1000, 1),
    (1.3, 200, 1),
    (0.8, 400, 4),
    (1.6, 20000, 100),
]


def bound(sigma, photons, background, box=7, **options):
    """Return the Cramer-Rao bound of x in pixels, averaged over places in a pixel."""
    places = np.arange(5) / 10
    several = [
        cramer_rao(sigma, 1, photons, background, box_px=box, x_px=x, y_px=y, **options).x_nm
        for x in places
        for y in places
    ]
    return rms(several)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("model", "sigma", "photons", "background"),
    [("fixed", *case) for case in CASES]
    + [pytest.param("free", *case, marks=SLOW if k % 3 else ()) for k, case in enumerate(CASES)],
)
def test_likelihood_reaches_the_cramer_rao_bound(model, sigma, photons, background):
    """Scatter within 3 % of the bound, no bias, and the stated error is the scatter within 3 %."""
    box = 2 * int(np.ceil(3 * sigma)) + 1
    x, y, mean, rng = draw(8000, photons, background, sigma, box=box)
    fits = fit_spots(rng.poisson(mean), sigma, model=model)
    good = fits.converged
    assert good.mean() > 0.998
    errors = np.concatenate([(fits.x_px - x)[good], (fits.y_px - y)[good]])
    limit = bound(sigma, photons, background, box)
    assert 0.97 < rms(errors) / limit < 1.03
    assert abs(errors.mean()) < 0.005
    assert rms(fits.x_sd[good]) == pytest.approx(rms(errors), rel=0.03)
    # photons and background: the scatter is as stated, the bias small against it
    for estimate, stated, truth in (
        (fits.photons, fits.photons_sd, photons),
        (fits.background, fits.background_sd, background),
    ):
        assert rms(stated[good]) == pytest.approx(estimate[good].std(), rel=0.06)
        assert abs(estimate[good].mean() - truth) < 0.15 * estimate[good].std()


def test_photons_and_background_reach_their_bounds():
    """37.84 photons and 0.619 photons per pixel, of 1000 and 10 in 7 x 7 pixels."""
    _, _, mean, rng = draw(20_000, 1000, 10, 1.0)
    fits = fit_spots(rng.poisson(mean), 1.0)
    assert fits.photons.std() == pytest.approx(37.84, rel=0.02)
    assert fits.background.std() == pytest.approx(0.619, rel=0.02)


@pytest.mark.parametrize(
    ("photons", "limit_nm"), [(1000, 4.713), pytest.param(5000, 1.992, marks=SLOW)]
)
def test_least_squares_reach_mortensens_formula(photons, limit_nm):
    """Limits: 4.713 and 1.992 nm; another package's least squares scatter 4.75 and 1.99 nm."""
    x, y, mean, rng = draw(20_000, photons, 10, 1.0)
    fits = fit_spots(rng.poisson(mean), 1.0, method="lsq")
    errors = 100 * np.concatenate([fits.x_px - x, fits.y_px - y])
    assert limit_nm == pytest.approx(mortensen_least_squares(100, 100, photons, 10), rel=1e-3)
    assert 0.97 < rms(errors) / limit_nm < 1.03
    assert 100 * rms(fits.x_sd) == pytest.approx(rms(errors), rel=0.03)


def test_readout_noise_known_to_the_fit():
    """1.6 electrons rms on every pixel: 4.222 nm (4.093 nm without)."""
    x, y, mean, rng = draw(20_000, 1000, 10, 1.0)
    counts = rng.poisson(mean) + 1.6 * rng.standard_normal(mean.shape)
    fits = fit_spots(counts, 1.0, variance=1.6**2)
    errors = 100 * np.concatenate([fits.x_px - x, fits.y_px - y])
    assert rms(errors) == pytest.approx(4.222, rel=0.02)
    assert 100 * rms(fits.x_sd) == pytest.approx(rms(errors), rel=0.03)


def test_hot_pixels_known_to_the_fit_do_not_draw_spots():
    """Beside a pixel of 40 electrons rms, places stay unbiased and at that map's own bound."""
    variance = np.full((7, 7), 2.0)
    variance[3, 5] = 40.0**2
    x, _, mean, rng = draw(10_000, 1000, 10, 1.0)
    counts = rng.poisson(mean) + np.sqrt(variance) * rng.standard_normal(mean.shape)
    fits, naive = (fit_spots(counts, 1.0, variance=v) for v in (variance, 2.0))
    good = fits.converged
    assert good.mean() > 0.995
    errors = fits.x_px[good] - x[good]
    limit = bound(1.0, 1000, 10, read_variance=variance)
    assert 0.97 < rms(errors) / limit < 1.03
    assert abs(errors.mean()) < 0.003
    assert rms((naive.x_px - x)[naive.converged]) > 1.5 * limit


def test_emccd_scatters_and_states_the_root_of_two():
    """Photoelectrons amplified by a gamma distributed register: 5.79 nm."""
    x, y, mean, rng = draw(20_000, 1000, 10, 1.0)
    electrons = rng.poisson(mean)
    amplified = np.where(electrons > 0, rng.gamma(np.maximum(electrons, 1)), 0.0)
    fits = fit_spots(amplified, 1.0, excess_noise=2.0)
    errors = 100 * np.concatenate([fits.x_px - x, fits.y_px - y])
    assert rms(errors) == pytest.approx(5.79, rel=0.03)
    assert 100 * rms(fits.x_sd) == pytest.approx(rms(errors), rel=0.03)


@pytest.mark.parametrize(
    ("z", "limit_z"),
    [
        (0, 22.7),
        pytest.param(200, 30.6, marks=SLOW),
        (-200, 30.6),
        (400, 32.8),
        pytest.param(-400, 32.8, marks=SLOW),
    ],
)
def test_height_from_the_two_widths(z, limit_z):
    """Scatter in z, x and y at the bounds of an astigmatic lens; also from a table of widths."""
    calibration = Astigmatism.from_focus(130, 200, 350)
    sigma_x, sigma_y = (float(w) / 100 for w in calibration.widths_nm(z))
    x, y, mean, rng = draw(5000, 1000, 10, sigma_x, sigma_y, box=13)
    counts = rng.poisson(mean)
    options = {"model": "astigmatic", "pixel_size_nm": 100.0}
    fits = fit_spots(counts, 1.3, calibration=calibration, **options)
    good = fits.converged
    assert good.mean() > 0.999
    limit = cramer_rao_astigmatic(calibration, z, 100, 1000, 10)
    assert limit.z_nm == pytest.approx(limit_z, rel=0.01)
    spread = stats.median_abs_deviation(fits.z_nm[good] - z, scale="normal")
    assert spread == pytest.approx(limit_z, rel=0.05)
    assert rms(fits.fifth_sd[good]) == pytest.approx(rms(fits.z_nm[good] - z), rel=0.06)
    assert rms(100 * (fits.x_px - x)[good]) == pytest.approx(limit.x_nm, rel=0.04)
    assert rms(100 * (fits.y_px - y)[good]) == pytest.approx(limit.y_nm, rel=0.04)
    heights = np.arange(-700, 701, 50)
    table = Astigmatism.from_table(heights, *calibration.widths_nm(heights))
    again = fit_spots(counts[:50], 1.3, calibration=table, **options)
    assert np.abs(again.z_nm - fits.z_nm[:50]).max() < 2.0


def test_widths_are_those_of_the_light_not_of_the_pixels():
    """A Gaussian of 1 px sampled at pixel centres fits 1.0408 px: the pixel's own width is added.

    sqrt(1 + 1/12); integrated over pixels, the fit has no such bias.
    """
    _, _, mean, _ = draw(200, 1e5, 10, 1.0, box=9)
    fits = fit_spots(mean, 1.2, model="free")
    assert np.abs(fits.sigma_x_px - 1.0).max() < 1e-3
    i = np.arange(9) - 4.0
    wide = np.sqrt(1 + 1 / 12)
    line = np.exp(-0.5 * (i / wide) ** 2) / (np.sqrt(2 * np.pi) * wide)
    sampled = 1e5 * np.outer(line, line)[None] + 10
    assert fit_spots(sampled, 1.2, model="free").sigma_x_px[0] == pytest.approx(1.0, rel=3e-3)


@pytest.mark.parametrize("method", ["mle", "lsq"])
def test_places_do_not_lock_to_pixels(method):
    """Places uniform in a pixel are found uniform in it: chi-square over 20 bins, 20 000 spots."""
    x, _, mean, rng = draw(20_000, 500, 10, 1.0, seed=8)
    x_found = fit_spots(rng.poisson(mean), 1.0, method=method).x_px
    # the middle pixel's neighbours hold few, so unfold what noise carried over its edges
    histogram = np.histogram((x_found + 0.5) % 1, 20, (0, 1))[0]
    assert stats.chisquare(histogram).pvalue > 0.01
    assert np.abs(x_found - x).max() < 0.6


def test_elliptical_spots():
    x, y, mean, rng = draw(4000, 3000, 5, 1.5, 1.0, box=11)
    fits = fit_spots(rng.poisson(mean), 1.2, model="elliptical")
    assert fits.sigma_x_px.mean() == pytest.approx(1.5, rel=2e-3)
    assert fits.sigma_y_px.mean() == pytest.approx(1.0, rel=2e-3)
    assert rms(fits.fifth_sd) == pytest.approx(fits.sigma_x_px.std(), rel=0.05)
    assert rms(fits.sixth_sd) == pytest.approx(fits.sigma_y_px.std(), rel=0.05)
    assert rms(fits.x_px - x) > 1.2 * rms(fits.y_px - y)


def test_neighbours_known_to_the_fit_do_not_draw_spots():
    """Two spots 4 px apart, boxes of 7 px: alone, each fit is drawn by 0.05 px or more."""
    rng = np.random.default_rng(5)
    n, size = 3000, 16
    x1 = 6.0 + rng.uniform(-0.5, 0.5, n)
    y = 8.0 + rng.uniform(-0.5, 0.5, n)
    light = profile(size, x1, 1.0) + profile(size, x1 + 4.0, 1.0)
    mean = 1000 * profile(size, y, 1.0)[:, :, None] * light[:, None, :] + 10
    frames = rng.poisson(mean)
    boxes = np.stack([frames[:, 5:12, 3:10], frames[:, 5:12, 7:14]], 1).reshape(2 * n, 7, 7)
    places = [[k // 2, 5, 3 + 4 * (k % 2)] for k in range(2 * n)]
    starts = np.tile([3.0, 3.0, 900.0, 12.0], (2 * n, 1))
    alone = fit_spots(boxes, 1.0, starts=starts)
    together = fit_spots(boxes, 1.0, starts=starts, places=places, rounds=10)
    left = np.s_[0::2]
    assert (alone.x_px[left] + 3 - x1).mean() > 0.05
    errors = together.x_px[left] + 3 - x1
    assert abs(errors.mean()) < 0.004
    assert rms(errors) < 1.15 * bound(1.0, 1000, 10)


def test_boxes_without_a_spot_fail_and_say_so():
    """A spot outside its box's room, and an empty box, give no place with an error bar."""
    empty = np.full((1, 7, 7), 5.0)
    outside = 5 + 1000 * np.outer(profile(7, np.array([3.0]), 1), profile(7, np.array([-4.0]), 1))
    fits = fit_spots(np.concatenate([empty, outside[None]]), 1.0, model="free")
    assert not fits.converged.any()
    assert np.isnan(fits.x_sd).all()


def test_what_does_not_fit_together_is_refused():
    boxes = np.ones((2, 7, 7))
    for message, wrong in (
        ("expected \\(n, ny, nx\\)", {"boxes": np.ones((7, 7))}),
        ("method 'ml'", {"method": "ml"}),
        ("needs calibration", {"model": "astigmatic"}),
        ("starts have the shape", {"starts": np.ones((3, 4))}),
        ("rounds needs places", {"rounds": 2}),
        ("sorted by frame", {"places": [[1, 0, 0], [0, 0, 0]]}),
    ):
        with pytest.raises(ValueError, match=message):
            fit_spots(**{"boxes": boxes, **wrong})
    with pytest.raises(ValueError, match="4 or more"):
        Astigmatism.from_table([0, 1], [1, 1], [1, 1])
    with pytest.raises(ValueError, match="it needs"):
        Astigmatism.from_settings({"sigma": 1})

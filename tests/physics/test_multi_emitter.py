"""Overlapping spots: pairs are told apart, noise makes none, and the stated errors are true."""

import numpy as np
import pytest
from scipy.special import erf

from nanophantom.analysis.localization_precision import cramer_rao
from nanophantom.analysis.localize import localize
from nanophantom.analysis.multi_emitter import fit_emitters, movie_width
from nanophantom.validation.localization_matching import Places, match_frames

SIGMA, PIXEL_NM, BACKGROUND, EDGE = 1.3, 100.0, 10.0, 64
CAMERA = {"offset_adu": 0.0, "adu_per_electron": 1.0, "quantum_efficiency": 1.0}
SETTINGS = {"pixel_size_nm": PIXEL_NM, "psf_sigma_nm": SIGMA * PIXEL_NM, "camera": CAMERA}
SLOW = pytest.mark.slow


def expectation(xy, photons, shape=(EDGE, EDGE), background=BACKGROUND, sigma=SIGMA):
    """Return a frame of Gaussian spots integrated over the pixels."""
    rows, columns = (
        0.5 * np.diff(erf((np.arange(n + 1) - 0.5 - c[:, None]) / (np.sqrt(2) * sigma)))
        for n, c in ((shape[0], xy[:, 1]), (shape[1], xy[:, 0]))
    )
    return background + (np.broadcast_to(photons, len(xy))[:, None] * rows).T @ columns


def grid(rng, frames, size=96, step=16):
    """Return places of lone emitters, (frames, n, 2), each anywhere in its pixel."""
    axis = np.arange(step / 2, size - 4, step)
    middles = np.stack([a.ravel() for a in np.meshgrid(axis, axis)], axis=1)
    return middles + rng.uniform(-0.5, 0.5, (frames, *middles.shape))


def lone(rng, frames, photons, background=BACKGROUND, sigma=SIGMA):
    """Return places and counts of lone emitters."""
    xy = grid(rng, frames)
    mean = [expectation(places, photons, (96, 96), background, sigma) for places in xy]
    return xy, rng.poisson(mean)


def crowd(density_per_um2, photons, frames, seed=2):
    """Return counts, and frame and place of emitters spread at random over all of the frame."""
    rng = np.random.default_rng(seed)
    n = rng.poisson(density_per_um2 * (EDGE * PIXEL_NM / 1000) ** 2, frames)
    places = [rng.uniform(-0.5, EDGE - 0.5, (k, 2)) for k in n]
    counts = rng.poisson([expectation(xy, photons) for xy in places])
    return counts.astype(np.uint16), np.repeat(np.arange(frames), n), np.concatenate(places)


def score(frame, x_nm, y_nm, true_frame, true_xy):
    """Return the Jaccard index and the RMSE in nm (pairs up to 250 nm apart, as the challenge)."""
    true = Places(true_frame, *(true_xy.T * PIXEL_NM))
    pairs = match_frames(Places(frame.astype(np.int64), x_nm, y_nm), true)
    jaccard = len(pairs) / (len(frame) + len(true_frame) - len(pairs))
    return jaccard, float(np.sqrt(np.mean(pairs.distance**2)))


@pytest.mark.parametrize(
    ("photons", "background"), [(1000, 10), pytest.param(300, 10, marks=SLOW), (5000, 1)]
)
def test_lone_emitters_are_fitted_to_the_bound(photons, background):
    """Errors within 3 % of the Cramer-Rao bound of a single spot, and as stated; none is split."""
    rng = np.random.default_rng(11)
    xy, counts = lone(rng, 80, photons, background)
    fits = fit_emitters(counts, SIGMA)
    assert fits.converged.all()
    assert len(fits) <= xy[..., 0].size * 1.002
    own = xy[fits.frame]
    far = np.hypot(fits.x_px[:, None] - own[..., 0], fits.y_px[:, None] - own[..., 1])
    nearest = far.argmin(axis=1)
    error = np.stack([fits.x_px, fits.y_px]) - own[np.arange(len(own)), nearest].T
    offsets = np.arange(5) / 10
    bound = np.sqrt(
        np.mean(
            [
                cramer_rao(SIGMA, 1, photons, background, box_px=9, x_px=x, y_px=y).x_nm ** 2
                for x in offsets
                for y in offsets
            ]
        )
    )
    assert 0.97 < np.sqrt(np.mean(error**2)) / bound < 1.03
    assert np.sqrt(np.mean(fits.x_sd**2)) == pytest.approx(bound, rel=0.03)
    assert fits.photons.mean() == pytest.approx(photons, rel=0.01)


@pytest.mark.parametrize("apart", [1.2, 1.6, 2.2, 3.0])
def test_merged_pairs_without_noise_are_told_apart_exactly(apart):
    """Two emitters of unequal light, seen as one spot or two: the best fit is the truth."""
    angle = 0.7
    half = 0.5 * apart * SIGMA * np.array([np.cos(angle), np.sin(angle)])
    middle = np.array([31.7, 32.4])
    xy, photons = np.array([middle - half, middle + half]), np.array([6000.0, 4500.0])
    fits = fit_emitters(expectation(xy, photons)[None], SIGMA)
    assert len(fits) == 2
    assert fits.converged.all()
    order = np.argsort(fits.x_px)
    # the fit ends 0.01 sd of the noise from the top
    assert np.abs(fits.x_px[order] - xy[:, 0]).max() < 0.03 * fits.x_sd.max()
    assert np.abs(fits.y_px[order] - xy[:, 1]).max() < 0.03 * fits.y_sd.max()
    assert np.abs(fits.photons[order] - photons).max() < 0.03 * fits.photons_sd.max()


def test_stated_errors_are_those_of_the_whole_group():
    """Of 25 emitters 2.5 widths apart: equal to the inverse of the full information matrix.

    The reference takes finite differences of the expectation and one dense matrix. The kernels
    leave out what emitters more than six widths apart tell of each other.
    """
    rng = np.random.default_rng(4)
    axis = 32.0 + 2.5 * SIGMA * np.arange(-2, 3)
    xy = np.stack([a.ravel() for a in np.meshgrid(axis, axis)], 1) + rng.uniform(-0.5, 0.5, (25, 2))
    q = np.r_[np.c_[xy, np.full(25, 3000.0)].ravel(), BACKGROUND]

    def mean(q):
        emitters = q[:-1].reshape(-1, 3)
        return expectation(emitters[:, :2], emitters[:, 2], background=q[-1])

    fits = fit_emitters(mean(q)[None], SIGMA)
    assert len(fits) == 25
    assert (fits.group_size == 25).all()
    seen = np.zeros((EDGE, EDGE), bool)
    for x, y in np.floor(xy + 0.5).astype(int):
        seen[y - 4 : y + 5, x - 4 : x + 5] = True
    assert (fits.pixels == seen.sum()).all()
    steps = 1e-4 * np.eye(len(q))
    slopes = np.array([((mean(q + s) - mean(q - s)) / 2e-4)[seen] for s in steps])
    dense = np.sqrt(np.diag(np.linalg.inv(slopes / mean(q)[seen] @ slopes.T)))
    of = [np.hypot(fits.x_px - x, fits.y_px - y).argmin() for x, y in xy]
    stated = np.stack([fits.x_sd, fits.y_sd, fits.photons_sd], 1)[of]
    np.testing.assert_allclose(stated, dense[:-1].reshape(-1, 3), rtol=0.01)
    np.testing.assert_allclose(fits.background_sd, dense[-1], rtol=0.01)


def test_errors_of_pairs_scatter_as_stated():
    """Pairs 2 widths apart, 2000 photons: errors over stated errors have an rms of 1 within 5 %."""
    rng = np.random.default_rng(5)
    middles = grid(rng, 25)
    half = np.array([SIGMA * np.cos(0.4), SIGMA * np.sin(0.4)])
    xy = np.concatenate([middles - half, middles + half], axis=1)
    counts = rng.poisson([expectation(places, 2000, (96, 96)) for places in xy])
    fits = fit_emitters(counts, SIGMA)
    assert len(fits) == pytest.approx(xy[..., 0].size, rel=0.003)
    own = xy[fits.frame]
    far = np.hypot(fits.x_px[:, None] - own[..., 0], fits.y_px[:, None] - own[..., 1])
    true = own[np.arange(len(own)), far.argmin(axis=1)]
    pull = np.stack([(fits.x_px - true[:, 0]) / fits.x_sd, (fits.y_px - true[:, 1]) / fits.y_sd])
    assert np.sqrt(np.mean(pull**2)) == pytest.approx(1.0, abs=0.05)


def test_noise_splits_no_more_emitters_than_stated():
    """With 5 % of false splits allowed, and the width known, fewer of 2880 are split; some are."""
    xy, counts = lone(np.random.default_rng(6), 80, 1000)
    found = len(fit_emitters(counts, SIGMA, false_splits=0.05, width_error=0.0))
    extra = found - xy[..., 0].size
    assert 0 < extra < 0.05 * xy[..., 0].size


def test_noise_alone_makes_no_more_emitters_than_stated():
    """Empty frames: at most as many finds as the allowed false positives (41), but some."""
    counts = np.random.default_rng(7).poisson(BACKGROUND, (100, EDGE, EDGE))
    found = len(fit_emitters(counts, SIGMA, false_positives=1e-4))
    assert 0 < found < 41 + 3 * np.sqrt(41)


def test_spots_a_little_wider_than_told_stay_one():
    """5 % wider, 20 000 photons: none of 108 is split, but nearly all are if the width is trusted.

    The movie itself tells the width, within 0.2 %.
    """
    xy, counts = lone(np.random.default_rng(8), 3, 20_000, sigma=1.05 * SIGMA)
    n = xy[..., 0].size
    assert len(fit_emitters(counts, SIGMA)) == n
    assert len(fit_emitters(counts, SIGMA, width_error=0.0)) > 1.8 * n
    told = movie_width(counts, SIGMA)
    assert told == pytest.approx(1.05 * SIGMA, rel=0.002)
    assert len(fit_emitters(counts, told, width_error=0.0)) == n


@pytest.mark.parametrize(
    ("density", "photons", "least_jaccard", "most_rmse_nm"),
    [
        (2, 1000, 0.9, 23),
        pytest.param(2, 400, 0.7, 40, marks=SLOW),
        pytest.param(0.1, 1000, 0.99, 11, marks=SLOW),
        pytest.param(1, 1000, 0.95, 16, marks=SLOW),
        pytest.param(5, 1000, 0.75, 40, marks=SLOW),
        pytest.param(2, 5000, 0.93, 15, marks=SLOW),
    ],
)
def test_crowds_are_resolved(density, photons, least_jaccard, most_rmse_nm):
    """Jaccard index and RMSE at densities per um2; one emitter a spot falls short of them."""
    counts, frame, xy = crowd(density, photons, max(8, int(16 / density)))
    several = localize(counts, SETTINGS, emitters="multiple")
    jaccard, rmse = score(several["frame"], several["x_nm"], several["y_nm"], frame, xy)
    assert jaccard > least_jaccard
    assert rmse < most_rmse_nm
    single = localize(counts, SETTINGS, model="fixed")
    old, old_rmse = score(single["frame"], single["x_nm"], single["y_nm"], frame, xy)
    assert jaccard > old + min(0.15, 0.1 * density)
    assert rmse < old_rmse


@SLOW
def test_other_cameras_and_uneven_backgrounds():
    """An EMCCD (F^2 = 2), an sCMOS with hot pixels and a bright middle: all J > 0.85 at 2 / um2."""
    counts, frame, xy = crowd(2, 2000, 40)
    rng = np.random.default_rng(9)
    y, x = np.indices((EDGE, EDGE)) - 32.0
    glow = 40 * np.exp(-(x**2 + y**2) / (2 * 20**2))
    variance = rng.exponential(3.0, (EDGE, EDGE))
    variance[rng.random((EDGE, EDGE)) < 0.01] = 400.0
    noise = rng.normal(size=counts.shape) * np.sqrt(variance)
    for movie, options in (
        (rng.gamma(np.maximum(counts, 1e-9)), {"excess_noise": 2.0}),
        (counts + noise, {"variance": variance}),
        (counts + rng.poisson(glow, counts.shape), {"expected": glow}),
    ):
        fits = fit_emitters(movie, SIGMA, **options)
        assert fits.converged.mean() > 0.998
        jaccard, _ = score(fits.frame, fits.x_px * PIXEL_NM, fits.y_px * PIXEL_NM, frame, xy)
        assert jaccard > 0.85


def test_localize_gives_the_same_table_in_the_camera_s_units():
    """A camera of gain 2, offset 100 and efficiency 0.5: twice the photons, the same places."""
    counts, _, _ = crowd(1, 2000, 4)
    camera = {"offset_adu": 100.0, "adu_per_electron": 2.0, "quantum_efficiency": 0.5}
    plain = localize(counts, SETTINGS, emitters="multiple", threads=1)
    adu = 2 * counts + np.uint16(100)
    other = localize(adu, {**SETTINGS, "camera": camera}, emitters="multiple", threads=2)
    for name in ("frame", "x_nm", "y_nm", "uncertainty_nm", "chi_square", "sigma_nm"):
        np.testing.assert_allclose(other[name], plain[name], rtol=1e-9)
    for name in ("photons", "background", "uncertainty_photons"):
        np.testing.assert_allclose(other[name], 2 * plain[name], rtol=1e-9)
    assert set(plain) == set(localize(counts, SETTINGS))
    assert plain["chi_square"].mean() == pytest.approx(1.0, abs=0.03)


def test_wrong_parameters_are_told():
    """What can't be done is refused with what would be right."""
    frames = np.ones((2, 32, 32))
    for options in ({"false_splits": 0.0}, {"width_error": 0.6}, {"box_px": 4}):
        with pytest.raises(ValueError, match=next(iter(options))):
            fit_emitters(frames, SIGMA, **options)
    with pytest.raises(ValueError, match="shape"):
        fit_emitters(frames[0], SIGMA)
    with pytest.raises(ValueError, match="single spots"):
        movie_width(frames, SIGMA)
    for options in ({"emitters": "many"}, {"emitters": "multiple", "method": "lsq"}):
        with pytest.raises(ValueError, match="emitters"):
            localize(frames, SETTINGS, **options)

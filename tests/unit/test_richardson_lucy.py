"""Richardson-Lucy: flux stays, likelihood never falls, and there is a time to stop."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal

from nanophantom.analysis.richardson_lucy import richardson_lucy

Y, X = np.indices((15, 15)) - 7
PSF = np.exp(-(X**2 + Y**2) / (2 * 1.8**2))
PSF /= PSF.sum()


def scene(seed=1, photons=200.0, background=2.0, shape=(48, 56)):
    """Points and a bar, blurred by PSF, and Poisson counts of it."""
    rng = np.random.default_rng(seed)
    truth = np.zeros(shape)
    truth[rng.integers(6, shape[0] - 6, 30), rng.integers(6, shape[1] - 6, 30)] = photons
    truth[20:23, 10:40] = photons / 4
    mean = scipy.signal.fftconvolve(truth, PSF, "same").clip(0) + background
    return truth, rng.poisson(mean).astype(float)


@pytest.mark.parametrize("boundary", ["open", "periodic"])
def test_flux_is_conserved_and_likelihood_never_falls(boundary):
    """Without background the expectation adds up to the counts after every step; 1e-6."""
    _, counts = scene(background=0.0)
    found = richardson_lucy(counts, PSF, 0.0, 60, boundary=boundary)
    assert found.expected.sum() == pytest.approx(counts.sum(), rel=1e-6)
    if boundary == "periodic":
        assert found.image.sum() == pytest.approx(counts.sum(), rel=1e-6)
    assert len(found.log_likelihood) == 61
    rises = np.diff(found.log_likelihood)
    assert np.all(rises >= -1e-12 * abs(found.log_likelihood[-1]))
    assert found.log_likelihood[-1] > found.log_likelihood[0] + 1000
    assert found.image.min() >= 0


def test_a_known_background_is_told_from_the_image():
    """With the background in the model likelihood rises, too, up to its stationary point: there
    sum(Hx (y / (Hx + b) - 1)) = 0. An image that can't fall below 0 makes flux of the noise of the
    background; here that may be 5 %."""
    for seed in (1, 2, 3):
        truth, counts = scene(seed, background=2.0)
        found = richardson_lucy(counts, PSF, 2.0, 200)
        assert np.all(np.diff(found.log_likelihood) >= -1e-12 * abs(found.log_likelihood[-1]))
        signal = found.expected - 2.0
        assert (signal * (counts / found.expected - 1)).sum() / signal.sum() == pytest.approx(
            0.0, abs=1e-4
        )
        assert found.image.sum() == pytest.approx(truth.sum(), rel=0.05)


def test_a_psf_with_its_middle_elsewhere_moves_nothing_else():
    """The light of a point comes back to its place, with an even and a lopsided PSF."""
    lopsided = np.zeros((8, 8))
    lopsided[4, 4], lopsided[4, 6] = 0.7, 0.3  # the middle of 8 pixels is pixel 4
    truth = np.zeros((32, 30))
    truth[12, 11] = 1000.0
    counts = np.zeros_like(truth)
    counts[12, 11], counts[12, 13] = 700.0, 300.0
    image = richardson_lucy(counts, lopsided, 0.0, 300).image
    np.testing.assert_allclose(image, truth, atol=1.0)


def test_too_many_steps_fit_noise():
    """Semi-convergence: the error against the truth, seen a little blurred, falls and rises again,
    while the likelihood of the counts rises all the way; what held-out counts choose costs at most
    5 % more than the best."""
    truth, counts = scene(photons=30.0)
    fine = np.exp(-(X**2 + Y**2) / 2) / np.exp(-(X**2 + Y**2) / 2).sum()

    def error(steps):
        image = richardson_lucy(counts, PSF, 2.0, steps).image
        return np.linalg.norm(scipy.signal.fftconvolve(image - truth, fine, "same"))

    steps = [1, 3, 6, 10, 15, 22, 32, 50, 400]
    errors = np.array([error(n) for n in steps])
    best = errors.argmin()
    assert 0 < best < len(steps) - 1
    assert errors[0] > 1.2 * errors[best]
    assert errors[-1] > 1.2 * errors[best]
    chosen = richardson_lucy(counts, PSF, 2.0, 100, held_out=np.random.default_rng(2))
    assert len(chosen.log_likelihood) == chosen.iterations + 1
    assert 0 < chosen.iterations < 100
    assert error(chosen.iterations) < 1.05 * errors[best]


@pytest.mark.parametrize(
    ("counts", "psf", "background", "message"),
    [
        (np.zeros((9, 9)), PSF, 0.0, "must not be empty"),
        (-np.ones((9, 9)), PSF, 0.0, "counts must be finite and from zero"),
        (np.ones((9, 9)), PSF, np.ones(3), "background a number or an image"),
        (np.ones((9, 9)), PSF, np.nan, "background must be finite"),
    ],
)
def test_what_can_not_be_is_refused(counts, psf, background, message):
    with pytest.raises(ValueError, match=message):
        richardson_lucy(counts, psf, background)


def test_a_step_and_a_boundary_are_needed():
    with pytest.raises(ValueError, match="take one or more"):
        richardson_lucy(np.ones((9, 9)), np.ones((3, 3)), iterations=0)
    with pytest.raises(ValueError, match="must not be larger"):
        richardson_lucy(np.ones((9, 9)), PSF, boundary="periodic")

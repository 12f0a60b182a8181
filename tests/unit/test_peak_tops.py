"""Tops of smoothed peaks: exact places, the noise that is predicted, and what is refused."""

import numpy as np
import pytest

from nanophantom.analysis.peak_tops import peak_tops


def spots(x, y, shape=(80, 90), width=3.0, height=100.0, ground=50.0):
    rows, columns = np.indices(shape)
    image = np.full(shape, ground)
    for px, py in zip(x, y, strict=True):
        image += height * np.exp(-((columns - px) ** 2 + (rows - py) ** 2) / 2 / width**2)
    return image


X, Y = np.array([20.3, 61.77]), np.array([30.61, 44.2])


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_lone_peaks_are_found_where_they_are(sign):
    """A Gaussian's top is its centre, bright or dark, from a start two pixels off."""
    x, y, _ = peak_tops(sign * spots(X, Y), X + 1.5, Y - 1.5, 2.5, 1.0, sign)
    np.testing.assert_allclose(x, X, atol=1e-4)
    np.testing.assert_allclose(y, Y, atol=1e-4)


def test_answers_move_with_the_image_whatever_the_pixels():
    """Overlapping peaks shifted by parts of a pixel: all tops shift by as much to 0.001 pixels."""
    x, y = np.array([40.0, 48.0, 44.0]), np.array([40.0, 41.0, 48.0])
    first = np.array(peak_tops(spots(x, y, width=2.0), x, y, 1.5, 1.0)[:2])
    for step in (0.25, 0.5, 0.8):
        image = spots(x + step, y + step, width=2.0)
        moved = np.array(peak_tops(image, x, y, 1.5, 1.0)[:2])
        np.testing.assert_allclose(moved - first, step, atol=1e-3)


def test_noise_of_the_place_is_predicted():
    """400 noisy images: the scatter is the one quoted, within 10 % (its own error is 2.5 %)."""
    rng = np.random.default_rng(3)
    clean = spots(X[:1], Y[:1], (60, 44))
    found = []
    for _ in range(400):
        x, y, sigma = peak_tops(rng.poisson(clean), X[:1], Y[:1], 3.0, clean)
        found.append((x[0] - X[0], y[0] - Y[0], sigma[0]))
    off = np.array(found)
    scatter = np.sqrt(np.mean(off[:, :2] ** 2))
    np.testing.assert_allclose(np.median(off[:, 2]) / scatter, 1.0, rtol=0.1)


def test_a_filter_as_wide_as_the_peak_meets_the_bound_on_even_noise():
    """White noise s: the bound for a Gaussian of known shape is s / (h sqrt(pi)), any width.

    Fisher information of a shift: sum (dI/dx)^2 / s^2 = pi h^2 / 2 / s^2 (times 2 / 2): the
    matched filter of that width gives sqrt(2 / pi) s / h.
    """
    height, noise = 100.0, 4.0
    _, _, sigma = peak_tops(spots(X, Y, height=height), X, Y, 3.0, noise**2)
    np.testing.assert_allclose(sigma, np.sqrt(2 / np.pi) * noise / height, rtol=2e-3)


def test_no_top_is_no_number():
    """On an empty slope there is no top, and none far away is taken for it."""
    ramp = np.add.outer(np.zeros(60), np.arange(60.0))
    assert np.isnan(peak_tops(ramp, [30.0], [30.0], 2.0, 1.0)).all()


@pytest.mark.parametrize(("image", "width"), [(np.zeros(9), 2.0), (np.zeros((9, 9)), 0.1)])
def test_wrong_input_is_refused(image, width):
    """A line instead of an image, a filter finer than pixels: one line says so."""
    with pytest.raises(ValueError, match="an image is"):
        peak_tops(image, [1.0], [1.0], width, 1.0)

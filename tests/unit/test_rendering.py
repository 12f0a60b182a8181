"""Images of localizations: their sums, where pixels lie, the Gaussians' widths, time."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.special import erf

from nanophantom.analysis.rendering import (
    Frame,
    average_shifted_image,
    enclosing_frame,
    gaussian_image,
    histogram_image,
)


def test_every_image_sums_to_the_number_of_localizations() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-500, 1500, (2, 5000))
    weight = rng.uniform(0, 1000, 5000)
    for w in (None, weight):
        total = 5000 if w is None else weight.sum()
        for image, _ in (
            histogram_image(x, y, 7.0, weights=w),
            gaussian_image(x, y, rng.uniform(1, 30, 5000), 7.0, weights=w),
            average_shifted_image(x, y, 7.0, 5, weights=w),
        ):
            assert image.sum() == pytest.approx(total, rel=1e-12)


def test_pixels_are_centred_on_their_coordinates() -> None:
    """At 20 nm, (40, 20) is the centre of column 2, row 1; 29.9 belongs to row 1, 30.1 to 2."""
    frame = Frame(0.0, 0.0, 4, 3)
    image, extent = histogram_image([40.0, 40, 40, 69], [20.0, 29.9, 30.1, -9], 20.0, frame)
    assert image.tolist() == [[0, 0, 0, 1], [0, 0, 2, 0], [0, 0, 1, 0]]
    assert extent == (-10.0, 70.0, 50.0, -10.0)
    spot = gaussian_image([40.0], [20.0], 5.0, 20.0, frame).image
    assert spot.argmax() == 1 * 4 + 2
    assert spot[1, 1] == pytest.approx(spot[1, 3])
    assert spot[0, 2] == pytest.approx(spot[2, 2])
    smooth = average_shifted_image([40.0], [20.0], 20.0, 2, frame).image
    assert np.allclose(smooth, np.outer([1, 2, 1], [0, 1, 2, 1]) / 16)


def test_the_frame_found_has_centres_at_multiples_and_encloses() -> None:
    frame = enclosing_frame([-31.0, 45.0], [7.0, 8.0], 10.0)
    assert frame == Frame(-30.0, 10.0, 9, 1)
    image, extent = histogram_image([-31.0, 45.0], [7.0, 8.0], 10.0)
    assert image.tolist() == [[1, 0, 0, 0, 0, 0, 0, 0, 1]]
    assert extent == (-35.0, 55.0, 15.0, 5.0)


def test_a_gaussian_is_the_integral_over_pixels() -> None:
    """Each pixel holds the product of erf differences, but for the tail beyond 4 sigma."""
    frame = Frame(0.0, 0.0, 60, 50)
    image = gaussian_image([143.0], [111.0], [12.0], 5.0, frame).image
    edges_x, edges_y = 5.0 * np.arange(-0.5, 60), 5.0 * np.arange(-0.5, 50)
    across = np.diff(erf((edges_x - 143) / 12 / np.sqrt(2))) / 2
    down = np.diff(erf((edges_y - 111) / 12 / np.sqrt(2))) / 2
    assert np.allclose(image, np.outer(down, across), rtol=0, atol=5e-4 * image.max())


def test_a_gaussian_at_the_edge_is_cut_and_one_outside_is_not_drawn() -> None:
    frame = Frame(0.0, 0.0, 20, 20)
    whole, outside = ([0.0], [-500.0])
    assert gaussian_image(whole, [50.0], 10.0, 5.0, frame).image.sum() == pytest.approx(
        0.5 + 0.5 * erf(2.5 / 10 / np.sqrt(2)), abs=1e-3
    )
    assert gaussian_image(outside, [50.0], 10.0, 5.0, frame).image.sum() == 0
    assert gaussian_image([50.0], [5000.0], 10.0, 5.0, frame).image.sum() == 0


def test_shifted_histograms_are_the_mean_of_histograms() -> None:
    """Bins of 3 pixels at the 3 x 3 shifts, each spread over its pixels, averaged."""
    rng = np.random.default_rng(2)
    x, y = rng.uniform(100, 200, (2, 300))
    frame = Frame(0.0, 0.0, 30, 30)
    image = average_shifted_image(x, y, 10.0, 3, frame).image
    mean = np.zeros((30, 30))
    for j in range(3):
        for i in range(3):
            coarse = Frame(10.0 * (i + 1) - 30, 10.0 * (j + 1) - 30, 12, 12)
            bins = histogram_image(x, y, 30.0, coarse).image
            spread = np.kron(bins, np.ones((3, 3))) / 9
            mean += spread[2 - j :, 2 - i :][:30, :30] / 9
    assert np.allclose(np.sort(image.ravel()), np.sort(mean.ravel()))


@pytest.mark.slow
def test_a_million_in_less_than_a_second() -> None:
    """10 nm pixels over 20 x 20 um, 5 to 20 nm wide: processor time, best of three."""
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0, 20_000, (2, 1_000_000))
    uncertainty = rng.uniform(5, 20, 1_000_000)
    gaussian_image(x[:9], y[:9], uncertainty[:9], 10.0)
    histogram_image(x[:9], y[:9], 10.0)
    for draw in (
        lambda: histogram_image(x, y, 10.0),
        lambda: gaussian_image(x, y, uncertainty, 10.0),
        lambda: average_shifted_image(x, y, 10.0),
    ):
        seconds = []
        for _ in range(3):
            start = time.process_time()
            image = draw().image
            seconds.append(time.process_time() - start)
            assert image.sum() == pytest.approx(1e6, rel=1e-12)
        assert min(seconds) < 1.0


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="columns of one length"):
        histogram_image([0.0], [0.0, 1.0], 1.0)
    with pytest.raises(ValueError, match="finite and above 0"):
        gaussian_image([0.0], [0.0], 0.0, 1.0)
    with pytest.raises(ValueError, match=r"more than 2\^28"):
        histogram_image([0.0, 1e6], [0.0, 1e6], 1.0)
    with pytest.raises(ValueError, match="no localization"):
        histogram_image([], [], 1.0)
    with pytest.raises(ValueError, match="shifts must be 1 or more"):
        average_shifted_image([0.0], [0.0], 1.0, 0)

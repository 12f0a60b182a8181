"""The column finder: conventions, signs, false columns and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage
from scipy.spatial import KDTree

from nanophantom.analysis import atomic_columns
from nanophantom.analysis.columns import find_columns
from nanophantom.analysis.filters import matched_response
from nanophantom.analysis.noise import Noise, as_gaussian, expected_false_maxima

FloatArray = npt.NDArray[np.float64]
PIXEL_NM = 0.009


def spots(
    shape: tuple[int, int], yx: FloatArray, height: float | FloatArray, width: float = 4.5
) -> FloatArray:
    """Return Gaussians at (y, x) in pixels."""
    image = np.zeros(shape)
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    for (y, x), h in zip(yx, np.broadcast_to(height, len(yx)), strict=True):
        gy = np.exp(-0.5 * ((rows - y) / width) ** 2)
        image += h * gy * np.exp(-0.5 * ((columns - x) / width) ** 2)
    return image


def particle(shape: tuple[int, int], fraction: float = 0.35) -> FloatArray:
    """Return the sites (y, x) of a centred lattice of 0.25 nm within a disc."""
    j, i = np.mgrid[-80:80, -80:80]
    y = (0.144 * j + 0.013) / PIXEL_NM
    x = (0.204 * (2 * i + j % 2) + 0.027) / PIXEL_NM
    keep = np.hypot(y, x) < fraction * min(shape)
    return np.stack([y[keep] + shape[0] / 2, x[keep] + shape[1] / 2], axis=1)


def match(table: dict[str, FloatArray], yx: FloatArray) -> tuple[float, float]:
    """Return recall and precision within 0.05 nm."""
    found = np.stack([table["y_nm"], table["x_nm"]], axis=1)
    if not len(found):
        return 0.0, 1.0
    near, _ = KDTree(found).query(yx * PIXEL_NM)
    back, _ = KDTree(yx * PIXEL_NM).query(found)
    return float(np.mean(near < 0.05)), float(np.mean(back < 0.05))


def test_origin_is_the_centre_of_the_first_pixel_and_x_runs_along_a_row() -> None:
    yx = np.array([[20.0, 45.0], [50.25, 30.5], [80.0, 100.75]])
    table = find_columns(10 + spots((110, 150), yx, 5.0), PIXEL_NM)
    order = np.argsort(table["y_nm"])
    np.testing.assert_allclose(table["y_nm"][order], yx[:, 0] * PIXEL_NM, atol=1e-5)
    np.testing.assert_allclose(table["x_nm"][order], yx[:, 1] * PIXEL_NM, atol=1e-5)
    np.testing.assert_allclose(table["width_nm"], 4.5 * PIXEL_NM, rtol=1e-2)
    np.testing.assert_allclose(table["height"], 5.0, rtol=2e-2)


@pytest.mark.parametrize("contrast", ["auto", "given"])
@pytest.mark.parametrize("height", [8.0, -8.0])
@pytest.mark.parametrize("shape", [(360, 512), (512, 360)])
def test_both_signs_of_contrast_and_images_that_are_not_square(
    contrast: str, height: float, shape: tuple[int, int]
) -> None:
    rng = np.random.default_rng(1)
    yx = particle(shape)
    image = rng.poisson(16 + spots(shape, yx, height))
    sign: Any = "auto" if contrast == "auto" else ("bright" if height > 0 else "dark")
    table = find_columns(image, PIXEL_NM, sign)
    recall, precision = match(table, yx)
    assert recall > 0.99
    assert precision >= 0.97
    assert np.all(np.sign(table["height"]) == np.sign(height))


@pytest.mark.parametrize("counts", [0.4, 2.0, 16.0])
@pytest.mark.parametrize("contrast", ["bright", "dark", "auto"])
def test_noise_alone_gives_hardly_a_column(counts: float, contrast: Any) -> None:
    """A tenth of a false maximum is expected in an image: three images with at most two each."""
    for seed in range(3):
        blank = np.random.default_rng(seed).poisson(counts, (600, 500))
        assert len(find_columns(blank, PIXEL_NM, contrast)["x_nm"]) <= 2


def test_noise_that_a_camera_has_blurred_gives_hardly_a_column() -> None:
    """A modulation transfer of 0.3 at the sampling limit hides noise where it is measured."""
    blank = np.random.default_rng(2).poisson(50.0, (800, 800)).astype(np.float64)
    blurred = ndimage.gaussian_filter(blank, 0.5, mode="wrap")
    assert len(find_columns(blurred, PIXEL_NM)["x_nm"]) <= 2


@pytest.mark.parametrize("width", [1.5, 3.0])
@pytest.mark.parametrize("gain", [1.0, 0.013])
def test_all_columns_of_an_image_without_noise_are_found(width: float, gain: float) -> None:
    """A spectrum that falls off by itself isn't taken for noise that a camera has blurred."""
    y, x = (g.ravel() for g in np.mgrid[6:294:11.5, 6:334:10.5])
    yx = np.stack([y, x], axis=1)
    scale = 0.02 / PIXEL_NM
    image = gain * (16 + spots((300, 340), yx, 80.0, width))
    recall, precision = match(find_columns(image, 0.02), yx * scale)
    assert recall == 1
    assert precision >= 0.97


def test_false_maxima_are_as_many_as_the_formula_says() -> None:
    """White Gaussian noise of 12 images of 512 x 512 pixels, filtered, above 3.3 sigma."""
    rng = np.random.default_rng(3)
    width, n, u = 3.0, 512, 3.3
    k = 2 * np.pi * np.hypot(np.fft.fftfreq(n)[:, None], np.fft.fftfreq(n)[None, :])
    response = matched_response(k, width)
    count = 0
    for _ in range(12):
        noise = np.fft.ifft2(np.fft.fft2(rng.normal(size=(n, n))) * response).real
        noise /= np.sqrt(np.mean(response**2))
        count += int(np.sum((noise == ndimage.maximum_filter(noise, 3, mode="wrap")) & (noise > u)))
    expected = float(expected_false_maxima(np.array(u), width, 12.0 * n * n))
    assert expected > 100
    assert count == pytest.approx(expected, abs=4 * np.sqrt(expected))


def test_few_counts_are_made_as_rare_as_they_are() -> None:
    """Poisson of mean 20: at least 39 is as rare as 3.7 sigma of a Gaussian, not as 4.1.

    P(N >= 39) = 1.0e-4 (sum of the Poisson series); a Gaussian exceeds 3.7 sigma as often.
    """
    z = (38.5 - 20) / np.sqrt(20)
    assert as_gaussian(np.array(z), np.array(20.0)) == pytest.approx(3.7, abs=0.05)
    large = as_gaussian(np.array([-4.0, 4.0]), np.array(1e8))
    np.testing.assert_allclose(large, [-4, 4], rtol=1e-3)


def test_noise_is_measured_whatever_the_gain() -> None:
    """Counts of gain 7: the variance is 7 times the mean. A constant noise is told from it."""
    rng = np.random.default_rng(4)
    mean = np.linspace(5, 40, 256)[:, None] * np.ones((256, 256))
    ones = np.ones(mean.shape)
    counts = Noise.of(7.0 * rng.poisson(mean), ones)
    assert counts.is_counts
    assert counts.level == pytest.approx(7, rel=0.05)
    constant = Noise.of(mean + rng.normal(0, 3, mean.shape), ones)
    assert not constant.is_counts
    assert constant.level == pytest.approx(9, rel=0.05)


def test_gain_does_not_change_the_answer() -> None:
    rng = np.random.default_rng(5)
    image = rng.poisson(16 + spots((300, 300), particle((300, 300)), 8.0)).astype(np.float64)
    one, other = find_columns(image, PIXEL_NM), find_columns(12.5 * image, PIXEL_NM)
    for name in ("x_nm", "y_nm", "sigma_nm", "significance"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-6)


def test_fringes_in_vacuum_are_not_columns() -> None:
    """Delocalisation fringes of 4 % contrast around a particle are significant, but weak."""
    rng = np.random.default_rng(6)
    shape = (640, 640)
    yx = particle(shape, 0.3)
    radius = np.hypot(np.arange(640)[:, None] - 320, np.arange(640)[None, :] - 320)
    angle = np.arctan2(np.arange(640)[:, None] - 320, np.arange(640)[None, :] - 320)
    fringes = 0.04 * np.cos(2 * np.pi * radius / 24) * np.cos(20 * angle) * (radius > 205)
    image = rng.poisson(160 * (1 + fringes) + spots(shape, yx, 80.0))
    kept = find_columns(image, PIXEL_NM)
    assert match(kept, yx)[1] >= 0.97
    assert match(kept, yx)[0] > 0.99
    # They are there: without the criterion of relative height many would be reported.
    assert match(find_columns(image, PIXEL_NM, min_relative_height=0), yx)[1] < 0.9


def test_weak_columns_between_strong_ones_are_found() -> None:
    """As in ceria, 0.19 nm away: half the height by default, a third with a lower limit."""
    j, i = np.mgrid[1:9, 1:9]
    strong = np.stack([j.ravel() * 42.0 + 3.3, i.ravel() * 42.0 + 1.7], axis=1)
    weak = strong + np.array([0.0, 21.0])
    for height, limit in ((24.0, 0.2), (16.0, 0.1)):
        image = 64 + spots((400, 420), strong, 48.0) + spots((400, 420), weak, height)
        counts = np.random.default_rng(7).poisson(image)
        table = find_columns(counts, PIXEL_NM, min_relative_height=limit)
        recall, precision = match(table, np.concatenate([strong, weak]))
        assert recall == 1
        assert precision > 0.97


def test_a_part_that_no_frame_covers_holds_no_column() -> None:
    rng = np.random.default_rng(8)
    yx = particle((300, 300))
    image = rng.poisson(16 + spots((300, 300), yx, 8.0)).astype(np.float64)
    coverage = np.ones(image.shape)
    coverage[:, :120] = 0
    image[:, :120] = 0
    table = find_columns(image, PIXEL_NM, coverage=coverage)
    assert np.all(table["x_nm"] >= 119 * PIXEL_NM)
    assert match(table, yx[yx[:, 1] > 128])[0] > 0.98


@pytest.mark.parametrize("shape", [(4, 4), (5, 40), (16, 16)])
def test_smallest_and_constant_images_hold_no_column(shape: tuple[int, int]) -> None:
    for image in (np.zeros(shape), np.full(shape, 7, np.uint16)):
        assert len(find_columns(image, PIXEL_NM)["x_nm"]) == 0


@pytest.mark.parametrize(
    ("image", "arguments", "message"),
    [
        (np.full((8, 8), np.nan), {}, "finite"),
        (np.ones((3, 5)), {}, "4 x 4 pixels"),
        (np.ones(64), {}, r"\(ny, nx\)"),
        (np.ones((8, 8), complex), {}, "real numbers"),
        (np.ones((8, 8)), {"pixel_size_nm": 0.0}, "pixel_size_nm"),
        (np.ones((8, 8)), {"pixel_size_nm": float("nan")}, "pixel_size_nm"),
        (np.ones((8, 8)), {"contrast": "white"}, "contrast"),
        (np.ones((8, 8)), {"min_distance_nm": -1.0}, "min_distance_nm"),
        (np.ones((8, 8)), {"threshold_sigma": 0.0}, "threshold_sigma"),
        (np.ones((8, 8)), {"coverage": np.ones((8, 9))}, "coverage"),
        (np.ones((8, 8)), {"coverage": np.zeros((8, 8))}, "coverage"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(
    image: FloatArray, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        find_columns(image, **{"pixel_size_nm": PIXEL_NM, **arguments})
    assert "\n" not in str(caught.value)


def test_series_and_single_image_through_the_default_algorithm() -> None:
    """A drifting series at 1 count per pixel and frame: columns where they are in frame 0."""
    rng = np.random.default_rng(9)
    shape = (400, 360)
    yx = particle(shape, 0.3)
    path = np.cumsum(rng.normal(0.5, 0.7, (12, 2)), axis=0)
    path -= path[0]
    stack = np.array([rng.poisson(1 + spots(shape, yx + d, 0.8)) for d in path], np.uint16)
    table = atomic_columns.find(stack, {"pixel_size_nm": PIXEL_NM, "contrast": "bright"})
    recall, precision = match(table, yx)
    assert recall > 0.97
    assert precision >= 0.97
    _, near = KDTree(yx * PIXEL_NM).query(np.stack([table["y_nm"], table["x_nm"]], axis=1))
    assert np.all(np.isfinite(table["sigma_nm"]))
    # The whole lattice is where frame 0 has it, to the precision of frame 0's own shift.
    offset = np.mean(np.stack([table["y_nm"], table["x_nm"]], 1) - yx[near] * PIXEL_NM, axis=0)
    one = 1 + spots(shape, yx, 0.8)
    bound_px = 1 / np.sqrt(np.sum(np.gradient(one)[0] ** 2 / one))
    assert np.max(np.abs(offset)) < 3 * bound_px * PIXEL_NM

    summed = rng.poisson(12 + spots(shape, yx, 9.6))
    for images in (summed, summed[None]):
        again = atomic_columns.find(images, {"pixel_size_nm": PIXEL_NM})
        assert match(again, yx)[0] > 0.97


def test_default_algorithm_refuses_what_it_can_not_use() -> None:
    with pytest.raises(ValueError, match="pixel_size_nm"):
        atomic_columns.find(np.ones((16, 16)), {})
    with pytest.raises(ValueError, match="frames, ny, nx"):
        atomic_columns.find(np.ones(16), {"pixel_size_nm": PIXEL_NM})

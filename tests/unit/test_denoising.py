"""Denoising: the transform's noise, its unbiased inverse, and what each method gains and costs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage, stats

from nanophantom.analysis import denoising
from nanophantom.analysis.denoising import anscombe, denoise, inverse_anscombe
from nanophantom.analysis.site_traces import site_traces

FloatArray = npt.NDArray[np.float64]


def lattice(side: int = 160) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return an image of mean one: columns 10 px apart, 8 vacancies and 8 of double height."""
    rng = np.random.default_rng(3)
    a, b = (10 * np.array([np.cos(t), np.sin(t)]) for t in (0.2, 0.2 + np.pi / 3))
    i, j = np.mgrid[-40:40, -40:40]
    at = i.ravel()[:, None] * a + j.ravel()[:, None] * b + side / 2
    at = at[np.all((at > -10) & (at < side + 10), axis=1)]
    inside = np.flatnonzero(np.all((at > 16) & (at < side - 16), axis=1))
    height = np.ones(len(at))
    chosen = rng.permutation(inside)[:16]
    height[chosen[:8]], height[chosen[8:]] = 0.0, 2.0
    axis = np.arange(side)
    gy = np.exp(-0.5 * ((axis[:, None] - at[:, 0]) / 2.2) ** 2)
    gx = np.exp(-0.5 * ((axis[:, None] - at[:, 1]) / 2.2) ** 2)
    image = 0.35 + (gy * height) @ gx.T
    return image / image.mean(), at[inside], height[inside]


def psnr(estimate: FloatArray, truth: FloatArray) -> float:
    return float(10 * np.log10(truth.max() ** 2 / np.mean((estimate - truth) ** 2)))


def best_gaussian(counts: FloatArray, truth: FloatArray) -> float:
    """Return the PSNR of the Gaussian whose width suits this very image best."""
    widths = np.arange(0.5, 8, 0.1)
    return max(psnr(ndimage.gaussian_filter(counts, w, mode="mirror"), truth) for w in widths)


@pytest.mark.parametrize(
    ("mean", "variance"), [(1.0, 0.720), (2.0, 0.925), (4.0, 0.999), (10.0, 1.001)]
)
def test_transform_stabilises_the_variance_as_published(mean: float, variance: float) -> None:
    """Exact sums over the Poisson distribution, against tabulated variances of the transform."""
    k = np.arange(200)
    p = stats.poisson.pmf(k, mean)
    y = anscombe(k)
    assert np.sum(p * y**2) - np.sum(p * y) ** 2 == pytest.approx(variance, abs=3e-3)


def test_inverse_is_unbiased_down_to_a_twentieth_of_a_count() -> None:
    """The mean of transforms gives back the mean of counts to 0.02; the algebraic inverse doesn't.

    0.02 is what the closed form differs from the exact inverse by (Mäkitalo and Foi 2011).
    """
    mean = np.geomspace(0.05, 60, 300)
    k = np.arange(250)
    transformed = anscombe(k) @ stats.poisson.pmf(k[:, None], mean)
    assert np.max(np.abs(inverse_anscombe(transformed) - mean)) < 0.02
    at_small = mean < 1
    assert np.max(np.abs(inverse_anscombe(transformed) / mean - 1)[at_small]) < 0.012
    algebraic = transformed**2 / 4 - 0.375
    assert np.min(algebraic - mean) < -0.2


def test_generalised_transform_of_a_camera_with_gain_and_read_noise() -> None:
    """Gain 12, offset 100, read noise 15: variance one within 2 %, and the mean comes back."""
    rng = np.random.default_rng(7)
    camera = {"gain": 12.0, "offset": 100.0, "read_noise": 15.0}
    for mean in (15.0, 60.0):
        values = 100 + 12 * rng.poisson(mean, 400_000) + rng.normal(0, 15, 400_000)
        y = anscombe(values, **camera)
        assert np.var(y) == pytest.approx(1, abs=0.02)
        back = inverse_anscombe(np.mean(y), **camera)
        assert float(back) == pytest.approx(100 + 12 * mean, abs=12 * 0.05)


@pytest.mark.parametrize("dose", [0.2, 1.0, 5.0])
def test_nonlocal_means_resolve_a_lattice_better_than_the_best_gaussian(dose: float) -> None:
    """By 0.6 dB at 0.2, 1 and 5 counts per pixel, vacancies and double columns among them."""
    truth = dose * lattice()[0]
    counts = np.random.default_rng(11).poisson(truth).astype(np.float64)
    gained = psnr(denoise(counts), truth)
    assert gained > psnr(counts, truth) + 9
    assert gained > best_gaussian(counts, truth) + 0.6


def test_total_variation_suits_flat_islands_and_beats_the_raw_lattice() -> None:
    """Islands of 1 and 4 counts: better than the best Gaussian. A lattice: better than raw."""
    y, x = np.mgrid[:160, :160]
    islands = np.where(np.hypot(y - 80, x - 70) < 40, 4.0, 1.0)
    islands[20:60, 110:150] = 4.0
    rng = np.random.default_rng(12)
    counts = rng.poisson(islands).astype(np.float64)
    assert psnr(denoise(counts, "tv"), islands) > best_gaussian(counts, islands) + 2
    truth = lattice()[0]
    counts = rng.poisson(truth).astype(np.float64)
    assert psnr(denoise(counts, "tv"), truth) > psnr(counts, truth) + 8


def test_psnr_hides_the_bias_of_column_heights() -> None:
    """At one count per pixel both methods flatten columns that the counts give without bias.

    Non-local means keep 50 to 75 % of a column, total variation less than 40 %.
    """
    image, sites, kind = lattice()
    rng = np.random.default_rng(13)

    def height(images: FloatArray) -> float:
        trace = site_traces(np.maximum(images, 0), np.zeros((len(images), 2)), sites, 2.2)
        return float(np.mean(trace.signal[kind == 1]))

    counts = rng.poisson(image, (3, *image.shape)).astype(np.float64)
    true = height(image[None])
    assert height(counts) == pytest.approx(true, rel=0.04)
    assert 0.5 < height(denoise(counts[0])[None]) / true < 0.75
    assert height(denoise(counts[0], "tv")[None]) / true < 0.4


@pytest.mark.parametrize("method", ["nlm", "tv"])
@pytest.mark.parametrize("mean", [0.05, 1.0])
def test_flat_field_stays_flat_and_keeps_its_mean(method: str, mean: float) -> None:
    """The mean within 1 %, and the noise less than a sixth of the counts'."""
    counts = np.random.default_rng(14).poisson(mean, (160, 160))
    estimate = denoise(counts, method)  # type: ignore[arg-type]
    assert estimate.mean() == pytest.approx(counts.mean(), rel=0.01)
    assert estimate.std() < np.sqrt(mean) / 6


@pytest.mark.parametrize("method", ["nlm", "tv"])
def test_gain_and_offset_change_the_units_only(method: str) -> None:
    """A camera of gain 7 and offset 30 gives 30 + 7 times what counted electrons give."""
    counts = np.random.default_rng(15).poisson(2 * lattice(64)[0])
    plain = denoise(counts, method)  # type: ignore[arg-type]
    camera = denoise(30 + 7 * counts, method, gain=7, offset=30)  # type: ignore[arg-type]
    np.testing.assert_allclose(camera, 30 + 7 * plain, rtol=1e-4)


def test_tiles_leave_no_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Denoised in tiles of 128 px an image is what it is in one piece, to single precision."""
    counts = np.random.default_rng(16).poisson(1.0, (200, 150))
    tiled = denoise(counts)
    monkeypatch.setattr(denoising, "TILE_PX", 1000)
    np.testing.assert_allclose(tiled, denoise(counts), rtol=1e-4)


def test_refusals() -> None:
    """One line says what is wrong."""
    image = np.ones((32, 32))
    with pytest.raises(ValueError, match="image must be"):
        denoise(np.ones((4, 32, 32)))
    with pytest.raises(ValueError, match="finite"):
        denoise(np.full((32, 32), np.nan))
    with pytest.raises(ValueError, match="gain and strength"):
        denoise(image, gain=0)
    with pytest.raises(ValueError, match="read_noise"):
        denoise(image, read_noise=-1)
    with pytest.raises(ValueError, match="method"):
        denoise(image, "bm3d")  # type: ignore[arg-type]

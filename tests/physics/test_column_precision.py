"""How well columns are located, against the limit that their counts set."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial import KDTree

from nanophantom.analysis.columns import find_columns

FloatArray = npt.NDArray[np.float64]
PIXEL_NM = 0.009
WIDTH_PX = 4.5


def field(size: int, rng: np.random.Generator) -> FloatArray:
    """Return sites (y, x) in pixels, 36 apart (8 widths), anywhere between the pixels."""
    j, i = np.mgrid[36 : size - 36 : 36, 36 : size - 36 : 36]
    yx = np.stack([j.ravel(), i.ravel()], axis=1).astype(np.float64)
    return yx + rng.uniform(-1.5, 1.5, yx.shape)


def draw(size: int, yx: FloatArray, background: float, height: float) -> FloatArray:
    """Return the expected counts of Gaussians on a background."""
    grid = np.arange(size)
    gy = np.exp(-0.5 * ((grid[:, None] - yx[None, :, 0]) / WIDTH_PX) ** 2)
    gx = np.exp(-0.5 * ((grid[:, None] - yx[None, :, 1]) / WIDTH_PX) ** 2)
    return np.asarray(background + height * gy @ gx.T)


def cramer_rao_px(background: float, height: float) -> float:
    """Return the least standard deviation of x of one Gaussian on an unknown background.

    Fisher information of Poisson counts for (y, x, height, width, background), summed over
    pixels out to eight widths.
    """
    grid = np.arange(-36, 37)
    y, x = np.meshgrid(grid, grid, indexing="ij")
    r2 = (y**2 + x**2) / WIDTH_PX**2
    g = np.exp(-0.5 * r2)
    slopes = [
        height * g * y / WIDTH_PX**2,
        height * g * x / WIDTH_PX**2,
        g,
        height * g * r2 / WIDTH_PX,
        np.ones_like(g),
    ]
    fisher = [[np.sum(a * b / (background + height * g)) for a in slopes] for b in slopes]
    return float(np.sqrt(np.linalg.inv(np.array(fisher))[1, 1]))


@cache
def errors(background: float, height: float, images: int) -> tuple[FloatArray, FloatArray, float]:
    """Return errors (n, 2) in pixels, quoted sigmas (n,) in pixels, and the share found."""
    rng = np.random.default_rng(11)
    all_errors, all_sigmas, total = [], [], 0
    for _ in range(images):
        yx = field(700, rng)
        table = find_columns(rng.poisson(draw(700, yx, background, height)), PIXEL_NM)
        found = np.stack([table["y_nm"], table["x_nm"]], axis=1) / PIXEL_NM
        distance, nearest = KDTree(yx).query(found)
        right = distance < 0.05 / PIXEL_NM
        all_errors.append(found[right] - yx[nearest[right]])
        all_sigmas.append(table["sigma_nm"][right] / PIXEL_NM)
        total += len(yx)
    error = np.concatenate(all_errors)
    return error, np.concatenate(all_sigmas), len(error) / total


# (background, height) in counts: the sum of 2000 e/Å² and a fifth of it, at 0.09 Å pixels.
HIGH, MEDIUM = (16.0, 16.0), (3.2, 3.2)
DARK = (16.0, -12.0)


@pytest.mark.parametrize("counts", [HIGH, MEDIUM, DARK])
def test_positions_reach_the_cramer_rao_bound(counts: tuple[float, float]) -> None:
    """Every column counted: rms error per axis at most 1.25 of the bound, and not below it."""
    error, _, found = errors(*counts, images=4)
    assert found > 0.995
    ratio = np.sqrt(np.mean(error**2)) / cramer_rao_px(*counts)
    assert 0.95 < ratio < 1.25


@pytest.mark.parametrize("counts", [HIGH, MEDIUM, DARK])
def test_quoted_uncertainty_covers_68_percent(counts: tuple[float, float]) -> None:
    error, sigma, _ = errors(*counts, images=4)
    inside = np.mean(np.abs(error) < sigma[:, None])
    assert inside == pytest.approx(0.683, abs=0.05)


def test_no_bias_wherever_the_column_lies_between_pixels() -> None:
    """At so many counts that a hundredth of a pixel shows, for each quarter of a pixel."""
    rng = np.random.default_rng(12)
    yx = np.concatenate([field(700, rng)])
    table = find_columns(rng.poisson(draw(700, yx, 4000.0, 4000.0)), PIXEL_NM)
    found = np.stack([table["y_nm"], table["x_nm"]], axis=1) / PIXEL_NM
    _, nearest = KDTree(yx).query(found)
    error, phase = found - yx[nearest], yx[nearest] % 1
    assert len(found) == len(yx)
    for quarter in range(4):
        for axis in range(2):
            chosen = (phase[:, axis] // 0.25).astype(int) == quarter
            assert np.sum(chosen) > 30
            assert abs(np.mean(error[chosen, axis])) < 0.02


def test_no_bias_at_the_dose_of_a_series() -> None:
    error, _, _ = errors(*HIGH, images=4)
    assert np.max(np.abs(np.mean(error, axis=0))) < 0.02


def test_a_step_of_the_background_does_not_pull_the_column() -> None:
    """Columns 0.25 nm from the edge of a support that is 10 % brighter."""
    rng = np.random.default_rng(13)
    x = np.arange(400)
    step = 1 + 0.1 / (1 + np.exp(-(x - 228.0) / 6))[None, :]
    yx = np.stack([np.arange(30.0, 371, 34) + 0.3, np.full(11, 200.4)], axis=1)
    error = []
    for _ in range(4):
        table = find_columns(rng.poisson(draw(400, yx, 160.0, 120.0) * step), PIXEL_NM)
        found = np.stack([table["y_nm"], table["x_nm"]], axis=1) / PIXEL_NM
        distance, nearest = KDTree(yx).query(found)
        error.append((found - yx[nearest])[distance < 5, 1])
    assert abs(np.mean(np.concatenate(error))) < 0.1


def test_recall_falls_with_dose_and_precision_stays() -> None:
    """A lattice beside vacuum, from the sum's dose down to one frame's and below."""
    rng = np.random.default_rng(14)
    yx = field(700, rng)
    yx = yx[yx[:, 1] < 460]
    recalls, precisions = [], []
    for counts in (16.0, 1.6, 0.8, 0.4, 0.3):
        right = wrong = 0
        for _ in range(2):
            image = rng.poisson(draw(700, yx, counts, counts))
            table = find_columns(image, PIXEL_NM, "bright")
            found = np.stack([table["y_nm"], table["x_nm"]], axis=1) / PIXEL_NM
            distance, _ = KDTree(yx).query(found) if len(found) else (np.zeros(0), None)
            right += int(np.sum(distance < 0.05 / PIXEL_NM))
            wrong += int(np.sum(distance >= 0.05 / PIXEL_NM))
        recalls.append(right / (2 * len(yx)))
        precisions.append(right / max(1, right + wrong))
    assert recalls[0] == 1
    assert all(a >= b for a, b in pairwise(recalls))
    assert recalls[-1] < 0.7
    assert min(precisions) >= 0.97

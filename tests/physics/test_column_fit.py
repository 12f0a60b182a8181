"""The fit of a column against the least error that any fit can have.

For a Gaussian spot of N counts on b counts a pixel K. I. Mortensen, L. S. Churchman, J. A. Spudich
and H. Flyvbjerg (Nature Methods 7 (2010) 377, eq. 6) give the variance of the maximum likelihood
fit, s_a**2 / N / (1 + int_0^1 ln t / (1 + t / tau) dt) with s_a**2 = s**2 + 1/12 and
tau = 2 pi s_a**2 b / N, in pixels. For s = 1.5, N = 1000, b = 1 that is 0.0525 (0.0535 in the
closed approximation of Rieger and Stallinga, ChemPhysChem 15 (2014) 664); a fit of least squares
has 0.0655, and without background 0.0483 would be left (0.0474 if pixels were points).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from scipy.integrate import quad
from scipy.spatial import KDTree
from scipy.special import erf

from nanophantom.analysis.columns import find_columns
from nanophantom.analysis.noise import Noise
from nanophantom.analysis.spot_fit import fit_spots

FloatArray = npt.NDArray[np.float64]
S, N, B = 1.5, 1000.0, 1.0


def draw(size: int, yx: FloatArray, s: float = S, n: float = N, b: float = B) -> FloatArray:
    """Return expected counts of Gaussians, integrated over pixels, on a background."""
    edges = np.arange(size + 1) - 0.5
    y, x = (
        np.diff(0.5 * erf((edges[:, None] - c[None, :]) / (s * np.sqrt(2))), axis=0) for c in yx.T
    )
    return np.asarray(b + n * y @ x.T)


def mortensen_px(s: float, n: float, b: float) -> float:
    """Return the standard deviation of a coordinate of the maximum likelihood fit."""
    variance = s**2 + 1 / 12
    tau = 2 * np.pi * variance * b / n
    integral = quad(lambda t: np.log(t) / (1 + t / tau), 0, 1)[0]
    return float(np.sqrt(variance / n / (1 + integral)))


def least_squares_px(s: float, n: float, b: float) -> float:
    """Return that of an unweighted fit of least squares (Mortensen et al., eq. 5)."""
    variance = s**2 + 1 / 12
    return float(np.sqrt(variance / n * (16 / 9 + 8 * np.pi * variance * b / n)))


def joint_bound_px(pitch: int) -> float:
    """Return the bound for the middle one of 5 x 5 overlapping columns, all fitted together.

    Cramer and Rao's, with place, counts and width of every column and the background unknown.
    """
    size = 5 * pitch + 1
    line = np.arange(-2, 3) * pitch + size // 2
    sites = np.array([(y, x) for y in line for x in line], np.float64)
    mean, h = draw(size, sites), 1e-3
    slopes = []
    for site in sites[:, None, :]:
        for step in ((h, 0.0), (0.0, h)):
            up, down = (draw(size, site + sign * np.array(step), b=0) for sign in (1, -1))
            slopes.append((up - down) / (2 * h))
        slopes.append(draw(size, site, n=1.0, b=0))
        slopes.append((draw(size, site, S + h, b=0) - draw(size, site, S - h, b=0)) / (2 * h))
    slopes.append(np.ones_like(mean))
    weighted = np.stack(slopes).reshape(len(slopes), -1) / np.sqrt(mean.ravel())
    middle = 4 * (len(sites) // 2)
    return float(np.sqrt(np.linalg.inv(weighted @ weighted.T)[middle, middle]))


@cache
def errors(pitch: int, finder: bool) -> tuple[FloatArray, FloatArray]:
    """Return errors (n, 2) and quoted sigmas (n,) in pixels; every column must be found."""
    rng = np.random.default_rng(1)
    size = 24 * pitch
    j, i = np.mgrid[pitch : size - pitch // 2 : pitch, pitch : size - pitch // 2 : pitch]
    all_errors, all_sigmas = [], []
    for _ in range(4):
        yx = np.stack([j.ravel(), i.ravel()], axis=1) + rng.uniform(-0.5, 0.5, (j.size, 2))
        image = rng.poisson(draw(size, yx)).astype(np.float64)
        if finder:
            table = find_columns(image, 0.03, "bright")
            found = np.stack([table["y_nm"], table["x_nm"]], axis=1) / 0.03
            sigma = table["sigma_nm"] / 0.03
        else:
            start = np.rint(yx).astype(np.intp)
            fit = fit_spots(image, np.ones_like(image), Noise(1.0, True), start, S)
            found, sigma = np.stack([fit.y, fit.x], axis=1), fit.sigma
        distance, nearest = KDTree(yx).query(found)
        assert len(found) == len(yx)
        assert np.max(distance) < 1
        all_errors.append(found - yx[nearest])
        all_sigmas.append(sigma)
    return np.concatenate(all_errors), np.concatenate(all_sigmas)


def test_the_formula_gives_the_published_numbers() -> None:
    """0.0655 for least squares and 0.0483 without background, to the last figure."""
    assert least_squares_px(S, N, B) == pytest.approx(0.0655, abs=5e-5)
    assert mortensen_px(S, N, 1e-9) == pytest.approx(0.0483, abs=5e-5)
    assert mortensen_px(S, N, B) == pytest.approx(0.0525, abs=5e-5)
    tau = 2 * np.pi * (S**2 + 1 / 12) * B / N
    closed = (S**2 + 1 / 12) / N * (1 + 4 * tau + np.sqrt(2 * tau / (1 + 4 * tau)))
    assert np.sqrt(closed) == pytest.approx(0.0535, abs=5e-5)


@pytest.mark.parametrize("finder", [False, True])
def test_a_column_alone_is_placed_as_well_as_counts_allow(finder: bool) -> None:
    """Rms error at most 1.1 of the bound, well below what least squares can do."""
    error, _ = errors(24, finder)
    rms = np.sqrt(np.mean(error**2))
    assert 0.95 < rms / mortensen_px(S, N, B) < 1.1
    assert rms < 0.9 * least_squares_px(S, N, B)


@pytest.mark.parametrize("finder", [False, True])
@pytest.mark.parametrize("pitch", [24, 9, 7])
def test_the_quoted_uncertainty_is_right(pitch: int, finder: bool) -> None:
    """Mean square error over sigma**2 is 1 within 10 %, alone and at six and 4.7 widths."""
    error, sigma = errors(pitch, finder)
    assert np.mean((error / sigma[:, None]) ** 2) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("pitch", [9, 7])
def test_overlapping_columns_reach_their_common_bound(pitch: int) -> None:
    """At six and at 4.7 widths from each other: rms error at most 1.1 of the joint bound."""
    error, _ = errors(pitch, False)
    assert 0.95 < np.sqrt(np.mean(error**2)) / joint_bound_px(pitch) < 1.1

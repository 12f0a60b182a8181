"""Levelling: what is exactly removed, what features do to it, and what it takes of roughness."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nanophantom.analysis import levelling
from nanophantom.analysis.kept_variance import kept_variance

Floats = npt.NDArray[np.float64]

COVERAGES = (0.0, 0.1, 0.31, 0.5, 0.7)


def grid(ny: int = 60, nx: int = 80) -> tuple[Any, Any]:
    y, x = np.mgrid[:ny, :nx]
    return y, x


def test_a_plane_is_removed_exactly_also_beside_masked_features() -> None:
    y, x = grid()
    tilted = 30.0 + 0.7 * x - 0.4 * y
    assert np.max(np.abs(levelling.plane(tilted))) < 1e-12 * 100
    mask = (y - 20) ** 2 + (x - 30) ** 2 < 200
    rest = levelling.plane(tilted + 50 * mask, mask)
    assert np.max(np.abs(rest - 50 * mask)) < 1e-12 * 100


def test_a_polynomial_is_removed_exactly_also_from_a_corner() -> None:
    """Only the left third is ground: the normal equations are ill conditioned there."""
    y, x = grid()
    u, v = x / 80, y / 60
    bowed = 1 + 2 * u - 3 * v + 4 * u**2 * v**2 - 2 * u**3 + u**3 * v**2
    assert np.max(np.abs(levelling.polynomial(bowed, 3, 2))) < 1e-12
    mask = x > 26
    rest = levelling.polynomial(bowed + mask, 3, 2, mask)
    assert np.max(np.abs(rest[~mask])) < 1e-12
    limited = levelling.polynomial(u**2 + u * v, 2, 2, total_degree=1)
    assert np.max(np.abs(limited)) > 0.05  # second powers stay where only the first were fitted


def test_rows_polynomials_are_removed_exactly() -> None:
    rng = np.random.default_rng(0)
    _y, x = grid()
    u = x / 80
    rows = sum(rng.normal(size=60)[:, None] * u**k for k in range(4))
    mask = rng.random((60, 80)) < 0.3
    rest = levelling.align_rows(rows + 9 * mask, "polynomial", mask, degree=3)
    assert np.max(np.abs(rest[~mask])) < 1e-12


@pytest.mark.parametrize("method", levelling.RowMethod.__args__)  # type: ignore[attr-defined]
def test_offsets_of_rows_are_removed_by_every_method(method: Any) -> None:
    offsets = np.random.default_rng(1).normal(size=60)
    profile = np.sin(np.arange(80) / 9.0)
    rest = levelling.align_rows(offsets[:, None] + profile, method, degree=0)
    assert np.max(np.abs(rest - rest[0])) < 1e-12


def test_facets_find_the_terraces_plane() -> None:
    """A staircase of 12 terraces: least squares takes the stairs' slope, facets the treads'."""
    rng = np.random.default_rng(2)
    y, x = grid(120, 120)
    stairs = 0.3 * (x // 10) + 0.02 * x - 0.01 * y + 0.002 * rng.normal(size=(120, 120))
    treads = levelling.facet(stairs) - 0.3 * (x // 10)
    slope_x = np.polyfit(np.arange(120), np.mean(treads, axis=0), 1)[0]
    slope_y = np.polyfit(np.arange(120), np.mean(treads, axis=1), 1)[0]
    assert abs(slope_x) < 5e-4
    assert abs(slope_y) < 5e-4
    assert abs(np.polyfit(np.arange(120), np.mean(levelling.plane(stairs), axis=0), 1)[0]) < 1e-3


def rows_on_discs(
    seed: int, coverage: float, n: int = 256
) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    """Return discs 10 nm high on rows of offset 1 nm and noise .1 nm; the offsets; the discs."""
    rng = np.random.default_rng(seed)
    y, x = grid(n, n)
    discs = np.zeros((n, n), bool)
    while np.mean(discs) < coverage:
        cy, cx = rng.uniform(0, n, 2)
        discs |= (y - cy) ** 2 + (x - cx) ** 2 <= 64
    offsets = rng.normal(size=n)
    return 10.0 * discs + offsets[:, None] + 0.1 * rng.normal(size=(n, n)), offsets, discs


def left_over(image: Floats, aligned: Floats, offsets: Floats) -> float:
    return float(np.std(np.mean(image - aligned, axis=1) - offsets))


def residuals(seeds: int) -> dict[str, Floats]:
    """Return the rms of what each method leaves of the offsets, by coverage."""
    found: dict[str, list[list[float]]] = {}
    for coverage in COVERAGES:
        for seed in range(seeds):
            image, offsets, _ = rows_on_discs(seed, coverage)
            for method in ("mean", "median", "quantile", "median_of_differences", "level"):
                if method == "level":
                    aligned = levelling.level(image).image
                else:
                    aligned = levelling.align_rows(image, method)  # type: ignore[arg-type]
                rows = found.setdefault(method, [[] for _ in COVERAGES])
                rows[COVERAGES.index(coverage)].append(left_over(image, aligned, offsets))
    return {method: np.mean(rows, axis=1) for method, rows in found.items()}


def check_residuals(found: dict[str, Floats]) -> None:
    # Noise / sqrt(columns) is all that the mean leaves of an empty ground, 1.253 times that the
    # median, 1.43 times the 20 % quantile.
    floor = 0.1 / np.sqrt(256)
    clean = [found[m][0] / floor for m in ("mean", "median", "quantile")]
    assert np.allclose(clean, [1.0, 1.253, 1.429], rtol=0.08)
    # The mean follows the coverage at once; the median breaks before half of all is covered, as
    # some rows are; the quantile later (at half, where a few rows are covered by 80 %);
    # differences never, at the price of a random walk.
    assert found["mean"][1] > 0.4
    assert found["median"][1] < 0.03
    assert found["median"][2] > 0.5
    assert found["median"][3] > 3
    assert np.all(found["quantile"][:3] < 0.04)
    assert found["quantile"][4] > 2.5
    assert np.all((found["median_of_differences"] > 0.02) & (found["median_of_differences"] < 0.1))
    # Ground found on the way: everywhere what the ground's share allows.
    assert np.all(found["level"] < 2 * 1.253 * floor)


def test_residual_offsets_of_rows_beside_discs() -> None:
    """A short form of the measurement below."""
    found = residuals(1)
    assert np.all(found["level"] < 2.5 * 1.253 * 0.1 / 16)
    assert found["mean"][1] > 0.3
    assert found["median"][3] > 3
    assert found["quantile"][4] > 2.5


@pytest.mark.slow
def test_residual_offsets_of_rows_over_twenty_seeds() -> None:
    check_residuals(residuals(20))


def test_level_finds_tilt_bow_and_ground_under_particles() -> None:
    """A third of the image is covered: the noise is all that is left of the ground."""
    image, _, features = rows_on_discs(4, 0.3)
    y, x = grid(256, 256)
    background = 0.05 * x - 0.03 * y + 2e-4 * (x - 100) ** 2
    image = image + background
    found = levelling.level(image, degree=2)
    assert np.allclose(found.image + found.background, image, atol=1e-12)
    assert np.mean(found.features[features]) > 0.999
    assert np.mean(found.features[~features]) < 0.01
    assert np.std(found.image[~features]) == pytest.approx(0.1, rel=0.02)
    heights = found.image[features]
    assert np.mean(heights) == pytest.approx(10, abs=0.02)


def rounded_hills(seed: int, coverage: float) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return balls of 6 to 10 nm as a tip of 10 nm sees them, and where; pixels of 2 nm."""
    rng = np.random.default_rng(seed)
    y, x = grid(128, 128)
    image = np.zeros((128, 128))
    while np.mean(image > 0.5) < coverage:
        (cy, cx), r = rng.uniform(0, 256, 2), rng.uniform(6, 10)
        away = (2 * y - cy) ** 2 + (2 * x - cx) ** 2
        image = np.maximum(image, r - 10 + np.sqrt(np.maximum((r + 10) ** 2 - away, 0)))
    return image, image > 0.5


def ground_under_hills(seed: int, coverage: float, sign: int, rows: Any) -> tuple[float, float]:
    """Return slopes left in the ground, in nm over the image, and the share of hills marked."""
    image, hills = rounded_hills(seed, coverage)
    rng = np.random.default_rng(seed)
    y, x = grid(128, 128)
    tilted = sign * image + rng.normal(0, 0.1) * x + rng.normal(0, 0.1) * y
    tilted += rng.normal(0, 0.1, image.shape)
    if rows == "median":
        tilted += rng.normal(0, 1.0, 128)[:, None]
    found = levelling.level(tilted, rows=rows)
    bare = ~hills
    terms = np.stack([np.ones(bare.sum()), x[bare] / 128, y[bare] / 128], axis=1)
    ground = (found.image - sign * image)[bare]
    slopes = np.linalg.lstsq(terms, ground, rcond=None)[0][1:]
    return float(np.hypot(*slopes)), float(np.mean(found.features[hills]))


@pytest.mark.parametrize("sign", [1, -1])
def test_level_finds_the_ground_between_hills_or_pits_that_cover_most(sign: int) -> None:
    """20 images each, tilted by tens of nm: level to 0.02 nm where 70 % is covered.

    With the rows shifted by 1 nm too, and 60 % covered, those with hardly any ground may be out by
    nanometres: 16 in 20 images are level to 0.3 nm, all to 1 nm (median 0.01 nm; from medians of
    differences alone 5 nm).
    """
    for coverage, rows, most, all_of_them in ((0.7, "none", 0.02, 0.02), (0.6, "median", 0.3, 1.0)):
        found = [ground_under_hills(seed, coverage, sign, rows) for seed in range(20)]
        tilts, marked = np.transpose(found)
        assert np.quantile(tilts, 0.8) < most
        assert max(tilts) < all_of_them
        assert min(marked) > 0.99


def test_hills_over_half_are_marked_though_the_plane_is_right_without() -> None:
    """52 %: medians of differences give the plane, but the spread of all heights is the hills'."""
    for seed in range(20):
        tilt, marked = ground_under_hills(seed, 0.52, 1, "none")
        assert tilt < 0.02
        assert marked > 0.99


def test_level_keeps_rows_that_hold_only_a_feature() -> None:
    """A bar over the whole width tells nothing of its rows: these are taken from their likes."""
    rng = np.random.default_rng(5)
    image = 0.05 * rng.normal(size=(100, 120)) + 0.02 * np.arange(120)
    image[40:50] += 8
    found = levelling.level(image, rows="none")
    assert np.mean(found.image[40:50]) == pytest.approx(8, abs=0.02)
    assert np.all(found.features[40:50])


def rough_lines(
    rng: np.random.Generator, lines: int, n: int, t: float, acf: str
) -> npt.NDArray[np.float64]:
    """Return Gaussian lines of variance 1, correlated as `acf` over t."""
    r = np.abs(np.subtract.outer(np.arange(n), np.arange(n))) / t
    correlation = np.exp(-(r**2)) if acf == "gaussian" else np.exp(-r)
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.maximum(values, 0))
    return np.asarray(rng.normal(size=(lines, n)) @ root.T)


@pytest.mark.parametrize("acf", ["gaussian", "exponential"])
def test_what_levelling_takes_of_the_variance_of_lines(acf: Any) -> None:
    """Monte-Carlo, the exact sum and the first order n c T/L, c = sqrt(pi) or 2, agree.

    arXiv:2001.00433; T/L = 0.02 as its simulations.
    """
    n, t, lines = 500, 10.0, 3000
    surface = rough_lines(np.random.default_rng(6), lines, n, t, acf)
    c = np.sqrt(np.pi) if acf == "gaussian" else 2.0
    for degree in range(4):
        kept = kept_variance((1, n), t, degree, acf=acf)
        assert kept == pytest.approx(1 - (degree + 1) * c * t / n, rel=0.02)
        rest = levelling.align_rows(surface, "polynomial", degree=degree)
        assert np.mean(rest**2) == pytest.approx(kept, rel=0.01)
    # Published Monte-Carlo values at T/L = 0.02, degree 0 to 3.
    published = {
        "gaussian": (0.972, 0.938, 0.904, 0.870),
        "exponential": (0.961, 0.923, 0.888, 0.853),
    }
    exact = [kept_variance((1, n), t, degree, acf=acf) for degree in range(4)]
    assert np.allclose(exact, published[acf], rtol=0.01)


def test_what_a_plane_takes_of_the_variance_of_an_image() -> None:
    """A separable Gaussian surface has lines along both axes: Monte-Carlo agrees with the sum."""
    rng = np.random.default_rng(7)
    n, t = 60, 8.0
    r = np.subtract.outer(np.arange(n), np.arange(n)) / t
    values, vectors = np.linalg.eigh(np.exp(-(r**2)))
    root = vectors * np.sqrt(np.maximum(values, 0))
    measured = [
        np.mean(levelling.plane(root @ rng.normal(size=(n, n)) @ root.T) ** 2) for _ in range(600)
    ]
    kept = kept_variance((n, n), t, 1, 1, total_degree=1)
    error = np.std(measured) / np.sqrt(len(measured))
    assert abs(np.mean(measured) - kept) < 4 * error
    assert 1 - kept > 10 * error


def test_wrong_images_and_masks_are_refused() -> None:
    image = np.zeros((8, 8))
    hole = image.copy()
    hole[2, 3] = np.nan
    full = np.ones((8, 8), bool)
    one_row = full.copy()
    one_row[4] = False
    with pytest.raises(ValueError, match="finite"):
        levelling.plane(hole)
    with pytest.raises(ValueError, match="two axes"):
        levelling.level(np.zeros(8))
    with pytest.raises(ValueError, match="no pixel"):
        levelling.plane(image, full)
    with pytest.raises(ValueError, match="shape"):
        levelling.plane(image, full[:4])
    with pytest.raises(ValueError, match="boolean"):
        levelling.plane(image, full.astype(float))
    with pytest.raises(ValueError, match="do not fix"):
        levelling.plane(image, one_row)
    with pytest.raises(ValueError, match="row 0"):
        levelling.align_rows(image, "median", one_row)
    with pytest.raises(ValueError, match="no column in common"):
        levelling.align_rows(image, "median_of_differences", one_row)
    with pytest.raises(ValueError, match="facets"):
        levelling.facet(image, one_row)
    with pytest.raises(ValueError, match="degree"):
        levelling.polynomial(image, 8, 0)
    with pytest.raises(ValueError, match="method"):
        levelling.align_rows(image, "mode")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fraction"):
        levelling.align_rows(image, "quantile", fraction=1.2)
    with pytest.raises(ValueError, match="rows"):
        levelling.level(image, rows="all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="threshold"):
        levelling.level(image, threshold=0)
    with pytest.raises(ValueError, match="correlation_length_px"):
        kept_variance((8, 8), 0.0, 1)
    with pytest.raises(ValueError, match="acf"):
        kept_variance((8, 8), 2.0, 1, acf="white")  # type: ignore[arg-type]

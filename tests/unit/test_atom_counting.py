"""Atom counts against populations whose counts are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import erfc

from nanophantom.analysis import atom_counting
from nanophantom.analysis.atom_counting import (
    count_by_library,
    count_by_statistics,
    count_hybrid,
)
from nanophantom.analysis.mixtures import fit_mixture

FloatArray = npt.NDArray[np.float64]
STEP = 0.12  # Å^2 per atom


def population(
    rng: np.random.Generator, n: int, relative_sigma: float, counts: range = range(1, 9)
) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Return true counts, all equally likely, and their cross-sections, proportional to them."""
    truth = rng.choice(np.array(counts), n)
    return truth, STEP * (truth + rng.normal(0, relative_sigma, n))


def theory(relative_sigma: float, g: int) -> float:
    """Share of right counts: an inner component loses both tails beyond half a step."""
    tail = 0.5 * erfc(0.5 / relative_sigma / np.sqrt(2))
    return float(1 - 2 * tail * (1 - 1 / g))


def library(n_most: int = 15) -> tuple[FloatArray, FloatArray]:
    """Return a table that saturates as dechannelling makes it: n - n^2 / 80."""
    n = np.arange(1, n_most + 1)
    return n.astype(np.float64), STEP * (n - n**2 / 80)


def assert_share(right: npt.NDArray[np.bool_], expected: float) -> None:
    """Four standard deviations of a binomial share."""
    spread = np.sqrt(expected * (1 - expected) / len(right))
    assert abs(np.mean(right) - expected) < 4 * spread + 2 / len(right)


def assert_honest(confidence: FloatArray, right: npt.NDArray[np.bool_]) -> None:
    """In each band of confidence the share of right counts is the mean confidence."""
    for low, high in ((0.0, 0.6), (0.6, 0.8), (0.8, 0.95), (0.95, 1.01)):
        band = (confidence >= low) & (confidence < high)
        if np.sum(band) > 30:
            stated = np.mean(confidence[band])
            spread = np.sqrt(np.sum(confidence[band] * (1 - confidence[band]))) / np.sum(band)
            assert abs(np.mean(right[band]) - stated) < 4 * spread + 2 / np.sum(band)


@pytest.mark.parametrize("relative_sigma", [0.15, 0.25, 0.35, 0.5])
def test_share_of_right_counts_is_that_of_overlapping_gaussians(relative_sigma: float) -> None:
    rng = np.random.default_rng(int(100 * relative_sigma))
    truth, x = population(rng, 3000, relative_sigma)
    known = count_by_library(x, range(1, 9), STEP * np.arange(1, 9), relative_sigma * STEP)
    assert_share(known.n_atoms == truth, theory(relative_sigma, 8))
    assert_honest(known.confidence, known.n_atoms == truth)
    np.testing.assert_allclose(known.posterior.sum(axis=1), 1, rtol=1e-12)


@pytest.mark.parametrize("spacing", ["equidistant", "free"])
@pytest.mark.parametrize("relative_sigma", [0.12, 0.25])
def test_statistics_alone_counts_as_well_as_theory_allows(
    spacing: Any, relative_sigma: float
) -> None:
    rng = np.random.default_rng(3)
    truth, x = population(rng, 1500, relative_sigma)
    found = count_by_statistics(x, n_components=8, spacing=spacing)
    assert found.candidates.tolist() == list(range(1, 9))
    assert_share(found.n_atoms == truth, theory(relative_sigma, 8))
    assert_honest(found.confidence, found.n_atoms == truth)
    assert found.sigma_A2 == pytest.approx(relative_sigma * STEP, rel=0.08)
    np.testing.assert_allclose(found.means_A2, STEP * np.arange(1, 9), atol=0.12 * STEP)


@pytest.mark.parametrize("spacing", ["equidistant", "free"])
@pytest.mark.parametrize("g", [1, 4, 8])
def test_icl_finds_the_number_of_components(spacing: Any, g: int) -> None:
    """sigma of 0.15 steps, 40 columns a component; a thinnest column of 4 atoms."""
    right = 0
    for seed in range(3):
        _, x = population(np.random.default_rng(seed), 40 * g, 0.15, range(4, 4 + g))
        first = 4 if g == 1 else None
        found = count_by_statistics(x, spacing=spacing, max_components=10, first_count=first)
        right += len(found.means_A2) == g
        assert found.candidates[0] == 4
    assert right == 3


def test_mixture_is_deterministic_and_maximises_the_likelihood() -> None:
    """The fit is no worse than the truth, and the same for the values in another order."""
    rng = np.random.default_rng(5)
    truth, x = population(rng, 600, 0.3)
    fit = fit_mixture(x, 8)
    again = fit_mixture(x[::-1], 8)
    np.testing.assert_allclose(again.means, fit.means, rtol=1e-6)
    means = STEP * np.arange(1, 9)
    weights = np.bincount(truth, minlength=9)[1:] / 600
    density = weights * np.exp(-0.5 * ((x[:, None] - means) / (0.3 * STEP)) ** 2)
    at_truth = np.sum(np.log(density.sum(axis=1) / (np.sqrt(2 * np.pi) * 0.3 * STEP)))
    assert 0 <= fit.log_likelihood - at_truth < 15  # 10 parameters: 5 expected
    assert fit.n_parameters == 2 + 7 + 1
    assert fit_mixture(x, 8, "free").log_likelihood >= fit.log_likelihood - 1e-3


def test_library_that_bends_counts_where_a_straight_line_fails() -> None:
    """At 15 atoms the table is 19 % below proportionality: three atoms."""
    rng = np.random.default_rng(6)
    n, table = library()
    truth = rng.integers(1, 16, 1200)
    sigma = 0.15 * STEP
    x = table[truth - 1] + rng.normal(0, sigma, 1200)
    found = count_by_library(x, n, table)
    assert_honest(found.confidence, found.n_atoms == truth)
    assert np.mean(found.n_atoms == truth) > 0.95
    assert found.sigma_A2 == pytest.approx(sigma, rel=0.1)
    coarse = count_by_library(x, n[::2], table[::2], sigma)  # every second one interpolated
    assert np.mean(coarse.n_atoms == truth) > 0.95
    straight = count_by_library(x, n, STEP * n, sigma)
    assert np.mean(straight.n_atoms == truth) < 0.5


@pytest.mark.parametrize("scale", [0.93, 1.0, 1.06])
def test_hybrid_finds_the_scale_of_a_miscalibrated_image(scale: float) -> None:
    """Scale within 0.5 %, where the table as it stands miscounts the thick columns."""
    rng = np.random.default_rng(7)
    n, table = library()
    truth = rng.integers(3, 14, 500)
    x = scale * table[truth - 1] + rng.normal(0, 0.15 * STEP, 500)
    found = count_hybrid(x, n, table)
    assert found.mixture is not None
    assert found.mixture.parameters[0] == pytest.approx(scale, abs=0.005)
    assert_honest(found.confidence, found.n_atoms == truth)
    assert np.mean(found.n_atoms == truth) > 0.95
    if scale != 1.0:
        plain = count_by_library(x, n, table, 0.15 * STEP)
        assert np.mean(plain.n_atoms == truth) < 0.8


def test_confidence_covers_the_doubt_about_the_scale() -> None:
    """10 or 11 atoms everywhere, scale known to 5 %: all counts may be off by one.

    Over 120 such sets 0.827 stated and 0.825 +- 0.035 right; of the likeliest scale alone 0.999.
    """
    rng = np.random.default_rng(12)
    n, table = library()
    stated, right = [], []
    for _ in range(30):
        truth = rng.integers(10, 12, 40)
        x = rng.normal(1, 0.05) * (table[truth - 1] + rng.normal(0, 0.12 * STEP, 40))
        found = count_hybrid(x, n, table, sigma_scale=0.05)
        stated.append(np.mean(found.confidence))
        right.append(np.mean(found.n_atoms == truth))
    assert np.mean(stated) < 0.9  # it is in doubt, and says so
    spread = np.sqrt(np.sum(np.array(stated) * (1 - np.array(stated)))) / 30
    assert abs(np.mean(right) - np.mean(stated)) < 3 * spread


def stem_image(
    rng: np.random.Generator, beam: float
) -> tuple[FloatArray, FloatArray, npt.NDArray[np.int64]]:
    """Return the counts of a wedge-like particle, its columns (y, x) in px and their atoms."""
    pixel_A, spacing, width = 0.12, 20.3, 4.0
    shape = (260, 280)
    j, i = np.mgrid[-12:13, -12:13]
    sites = np.c_[(130.2 + spacing * j).ravel(), (140.7 + spacing * i).ravel()]
    r = np.hypot(sites[:, 0] - 130, sites[:, 1] - 140)
    sites, r = sites[r < 105], r[r < 105]
    atoms = np.clip(np.rint(10 - r / 12 + rng.normal(0, 0.5, len(r))), 1, None).astype(int)
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    image = np.zeros(shape)
    _, table = library()
    for (y, x), n in zip(sites, atoms, strict=True):
        height = table[n - 1] / (2 * np.pi * (width * pixel_A) ** 2)
        gy = np.exp(-0.5 * ((rows - y) / width) ** 2)
        image += height * gy * np.exp(-0.5 * ((columns - x) / width) ** 2)
    return rng.poisson(beam * image).astype(np.float64), sites, atoms


@pytest.mark.parametrize("method", ["statistics", "library", "hybrid"])
def test_image_to_counts(method: str) -> None:
    """Counts of a particle: all columns found, at least 95 % of the atoms counted right.

    The statistics know no table: their equidistant groups may be off where the table bends.
    """
    rng = np.random.default_rng(8)
    beam = 3000.0
    counts, sites, atoms = stem_image(rng, beam)
    n, table = library()
    settings: dict[str, Any] = {"pixel_size_nm": 0.012, "beam_electrons": beam, "method": method}
    if method == "statistics":
        settings["spacing"] = "free"
    else:
        settings["library"] = {"n_atoms": n, "cross_section_A2": table}
    found = atom_counting.count(counts, settings)
    d = np.hypot(
        found["y_nm"][:, None] / 0.012 - sites[:, 0], found["x_nm"][:, None] / 0.012 - sites[:, 1]
    )
    assert len(found["x_nm"]) == len(sites)
    assert np.max(np.min(d, axis=1)) < 2
    right = found["n_atoms"] == atoms[np.argmin(d, axis=1)]
    assert np.mean(right) > 0.95
    assert np.mean(found["confidence"]) == pytest.approx(np.mean(right), abs=0.05)
    if method == "library":  # the same in fractions of the beam
        del settings["beam_electrons"]
        same = atom_counting.count(counts / beam, settings)
        np.testing.assert_array_equal(same["n_atoms"], found["n_atoms"])


def test_maxima_fainter_than_half_an_atom_are_no_columns() -> None:
    """Blobs of a fifth of an atom are found as columns and counted as none."""
    rng = np.random.default_rng(10)
    rows, columns = np.arange(200)[:, None], np.arange(200)[None, :]
    image = np.zeros((200, 200))
    for k in range(25):
        y, x = 36 + 32 * (k // 5), 36 + 32 * (k % 5)
        volume = STEP * (0.2 if k % 3 == 0 else 1 + k % 2)
        g = np.exp(-0.5 * ((rows - y) ** 2 + (columns - x) ** 2) / 4.0**2)
        image += volume * g / (2 * np.pi * (4.0 * 0.12) ** 2)
    counts = rng.poisson(1e5 * image)
    n, table = library()
    settings: dict[str, Any] = {"pixel_size_nm": 0.012, "beam_electrons": 1e5}
    groups = atom_counting.count(counts, settings | {"first_count": 1})
    assert len(groups["x_nm"]) > 20
    settings["library"] = {"n_atoms": n, "cross_section_A2": table}
    found = atom_counting.count(counts, settings)
    assert len(found["x_nm"]) == 16
    assert sorted(set(found["n_atoms"])) == [1, 2]


def test_an_empty_image_has_no_columns_and_wrong_settings_are_refused() -> None:
    rng = np.random.default_rng(9)
    nothing = atom_counting.count(
        rng.poisson(5, (80, 80)), {"pixel_size_nm": 0.01, "first_count": 1}
    )
    assert {len(v) for v in nothing.values()} <= {0, 1}
    with pytest.raises(ValueError, match="pixel_size_nm"):
        atom_counting.count(np.ones((20, 20)), {})
    with pytest.raises(ValueError, match="needs a"):
        atom_counting.count(np.ones((20, 20)), {"pixel_size_nm": 0.01, "method": "hybrid"})
    with pytest.raises(ValueError, match="beam_electrons must be"):
        atom_counting.count(np.ones((20, 20)), {"pixel_size_nm": 0.01, "beam_electrons": 0})
    with pytest.raises(ValueError, match="a library has"):
        atom_counting.count(np.ones((20, 20)), {"pixel_size_nm": 0.01, "library": {"n": [1]}})
    with pytest.raises(ValueError, match="form one group"):
        count_by_statistics(rng.normal(1, 0.1, 50))
    with pytest.raises(ValueError, match="whole numbers that rise"):
        count_by_library([1.0], [2, 1], [0.1, 0.2])
    with pytest.raises(ValueError, match="n_components must be from 1 to 2"):
        fit_mixture([1.0, 2.0], 3)
    with pytest.raises(ValueError, match="finite numbers"):
        count_hybrid([], [1], [0.1])

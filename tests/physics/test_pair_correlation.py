"""Pair correlation, Ripley's K and nearest neighbours against point processes in closed form."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from nanophantom.analysis.pair_correlation import (
    PairCorrelation,
    fit_thomas,
    mean_nearest_neighbour_nm,
    pair_correlation,
    thomas_k,
    thomas_pair_correlation,
)
from nanophantom.simcore.atoms import Window

FloatArray = npt.NDArray[np.float64]
FIELD = Window(-3000, 9000, 1000, 11000)


def thomas(
    rng: np.random.Generator, parents_per_um2: float, members: float, sd_nm: float, blinks: bool
) -> tuple[FloatArray, FloatArray]:
    """Return points of a Thomas process; `blinks`: geometric numbers of members, not Poisson."""
    wide = FIELD.grown(6 * sd_nm)
    n = rng.poisson(parents_per_um2 * wide.width_nm * wide.height_nm * 1e-6)
    x, y = rng.uniform(wide.x0_nm, wide.x1_nm, n), rng.uniform(wide.y0_nm, wide.y1_nm, n)
    count = rng.geometric(1 / members, n) if blinks else rng.poisson(members, n)
    x = np.repeat(x, count) + rng.normal(0, sd_nm, count.sum())
    y = np.repeat(y, count) + rng.normal(0, sd_nm, count.sum())
    inside = FIELD.holds(x, y)
    return x[inside], y[inside]


def test_random_points_have_no_structure_up_to_the_edge() -> None:
    """g = 1 at all distances, up to half of the field: pairs lost at edges are accounted for."""
    rng = np.random.default_rng(1)
    g = []
    for _ in range(40):
        x, y = rng.uniform(-3000, 9000, 400), rng.uniform(1000, 11000, 400)
        pairs = pair_correlation(x, y, FIELD, np.linspace(0, 5000, 11))
        g.append(pairs.g)
    mean, error = np.mean(g, axis=0), np.std(g, axis=0) / np.sqrt(40)
    assert error.max() < 0.01
    assert np.all(np.abs(mean - 1) < 3.5 * error)


@pytest.mark.parametrize(
    ("parents_per_um2", "members", "sd_nm", "blinks"),
    [(15.0, 8.0, 30.0, False), (40.0, 5.0, 15.0, False), (80.0, 4.0, 20.0, True)],
)
def test_a_thomas_process_has_its_pair_correlation(
    parents_per_um2: float, members: float, sd_nm: float, blinks: bool
) -> None:
    """Row 52: g and K within 5 %, parents and s.d. within 5 %; blinks of molecules likewise."""
    rng = np.random.default_rng(2)
    clumping = 2 * (1 - 1 / members) if blinks else 1.0
    edges = np.linspace(0, 8 * sd_nm, 41)
    pairs = pair_correlation(*thomas(rng, parents_per_um2, members, sd_nm, blinks), FIELD, edges)
    expected = thomas_pair_correlation(edges, parents_per_um2, sd_nm, clumping)
    # Five rings together, so that the random numbers' own scatter is below the tolerance.
    area = np.diff(edges**2)
    coarse, wanted = (
        (v * area).reshape(8, 5).sum(axis=1) / area.reshape(8, 5).sum(axis=1)
        for v in (pairs.g, expected)
    )
    np.testing.assert_allclose(coarse, wanted, rtol=0.05)
    if not blinks:
        k = thomas_k(edges, parents_per_um2, sd_nm)
        np.testing.assert_allclose(pairs.ripley_k_nm2[5:], k[5:], rtol=0.05)
    fit = fit_thomas(pairs, clumping)
    assert fit.parents_per_um2 == pytest.approx(parents_per_um2, rel=0.05)
    assert fit.sd_nm == pytest.approx(sd_nm, rel=0.05)
    assert fit.members_per_parent == pytest.approx(members, rel=0.05)


def test_the_rings_hold_the_integral_of_g() -> None:
    """The mean over wide rings is that of the closed form 1 + exp(-r**2/4 s**2)/(4 pi s**2 rho)."""
    edges = np.array([0.0, 25, 60, 200])
    r = np.linspace(0, 200, 200_001)
    g = 1 + np.exp(-(r**2) / (4 * 20**2)) / (4 * np.pi * 20**2 * 30e-6)
    means = [
        np.trapezoid((g * r)[(r >= a) & (r <= b)], dx=r[1]) / ((b**2 - a**2) / 2)
        for a, b in pairwise(edges)
    ]
    np.testing.assert_allclose(thomas_pair_correlation(edges, 30, 20), means, rtol=1e-6)
    assert thomas_k([60.0], 30, 20)[0] == pytest.approx(
        np.trapezoid((2 * np.pi * g * r)[r <= 60], dx=r[1]), rel=1e-5
    )


@pytest.mark.slow
def test_the_stated_errors_of_a_thomas_fit_hold() -> None:
    """Standard errors from tiles are those of repeated fields within 40 %."""
    rng = np.random.default_rng(3)
    fits = [
        fit_thomas(pair_correlation(*thomas(rng, 6, 8, 40, False), FIELD, np.linspace(0, 320, 33)))
        for _ in range(24)
    ]
    for value, error in (("parents_per_um2", "parents_error_per_um2"), ("sd_nm", "sd_error_nm")):
        scatter = np.std([getattr(f, value) for f in fits], ddof=1)
        stated = np.mean([getattr(f, error) for f in fits])
        assert stated == pytest.approx(scatter, rel=0.4)


def test_random_points_are_half_a_spacing_from_the_next() -> None:
    """Row 53: 1/(2 sqrt(density)), although many points lie near the edge."""
    rng = np.random.default_rng(4)
    window = Window(0, 2000, 0, 500)
    found = []
    for _ in range(200):
        x, y = rng.uniform(0, 2000, 100), rng.uniform(0, 500, 100)
        mean, random = mean_nearest_neighbour_nm(x, y, window)
        found.append(mean)
    assert random == pytest.approx(50)
    # n - 1 others in the field, not n.
    error = np.std(found) / np.sqrt(200)
    assert error < 0.5
    assert abs(np.mean(found) - 0.5 / np.sqrt(99 / 1e6)) < 3 * error


def test_bad_input_is_refused() -> None:
    x, y = np.array([0.0, 10, 20]), np.array([1500.0, 1500, 1600])
    with pytest.raises(ValueError, match="outside the window"):
        pair_correlation(x - 4000, y, FIELD, [0, 10])
    with pytest.raises(ValueError, match="rise from 0"):
        pair_correlation(x, y, FIELD, [5, 10])
    with pytest.raises(ValueError, match="beyond the window"):
        pair_correlation(x, y, FIELD, [0, 20_000])
    with pytest.raises(ValueError, match="must have borders"):
        pair_correlation(x, y, Window.everywhere(), [0, 10])
    lattice = np.arange(100.0) * 50
    flat: PairCorrelation = pair_correlation(
        np.tile(lattice, 100), np.repeat(lattice, 100) + 1000, FIELD, np.linspace(0, 40, 5)
    )
    with pytest.raises(ValueError, match="no cluster"):
        fit_thomas(flat)

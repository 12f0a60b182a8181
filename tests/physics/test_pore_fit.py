"""Nuclear pores: diameter, corners and labelling efficiency from synthetic localizations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from nanophantom.analysis.circle_fit import fit_circle
from nanophantom.analysis.pore_fit import (
    corner_distribution,
    fit_pore,
    fit_pores,
    labelling_efficiency,
    mean_diameter_nm,
    segment_pores,
)

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass
class Field:
    """Localizations of many pores, and what they were made from."""

    x: FloatArray
    y: FloatArray
    sigma: FloatArray
    pore: IntArray
    centre: FloatArray
    angle_deg: FloatArray
    corners: IntArray


def field_of_pores(
    rng: np.random.Generator,
    n: int,
    efficiency: float,
    localizations: float,
    *,
    diameter_nm: float = 107.0,
    sigma_nm: tuple[float, float] = (5.0, 8.0),
    spacing_nm: float = 160.0,
    stray_per_pore: float = 0.0,
    geometric: bool = False,
) -> Field:
    """Make pores of 8 corners x 4 copies, in pairs 12 nm apart on the circle.

    A label gives `localizations` on average, one at least: one plus a Poisson number, or
    geometric (that many blinks of an exponential chain).
    """
    half = np.arcsin(12 / diameter_nm)
    site = np.repeat(np.arange(8) * np.pi / 4, 4) + np.tile([-half, -half, half, half], 8)
    columns = int(np.ceil(np.sqrt(n)))
    centre = np.stack(np.divmod(np.arange(n), columns), axis=1) * spacing_nm
    centre = centre + rng.uniform(-5, 5, (n, 2))
    turn = rng.uniform(0, 2 * np.pi, n)
    pore, copy = np.nonzero(rng.random((n, 32)) < efficiency)
    at = site[copy] + turn[pore]
    places = centre[pore] + diameter_nm / 2 * np.stack([np.cos(at), np.sin(at)], axis=1)
    if geometric:
        count = rng.geometric(1 / localizations, len(pore))
    else:
        count = 1 + rng.poisson(localizations - 1, len(pore))
    places, owner = np.repeat(places, count, axis=0), np.repeat(pore, count)
    sigma = rng.uniform(*sigma_nm, len(places))
    places = places + rng.normal(size=places.shape) * sigma[:, None]
    stray = rng.poisson(stray_per_pore * n)
    edge = columns * spacing_nm
    places = np.concatenate([places, rng.uniform(-edge / columns / 2, edge, (stray, 2))])
    sigma = np.append(sigma, rng.uniform(*sigma_nm, stray))
    owner = np.append(owner, np.full(stray, -1))
    filled = np.zeros((n, 8), bool)
    filled[pore, copy // 4] = True
    return Field(*places.T, sigma, owner, centre, np.rad2deg(turn) % 45, filled.sum(axis=1))


def check(field: Field, efficiency: float, tolerance: float) -> None:
    """Find and fit all pores; the gates are 0.5 nm and 0.02 (plus what few pores allow)."""
    pore = segment_pores(field.x, field.y)
    found = fit_pores(field.x, field.y, field.sigma, pore)
    # A pore of three corners or fewer may be missed; none is found twice.
    assert len(found["x_nm"]) >= 0.99 * len(field.corners)
    middle = np.stack([found["x_nm"], found["y_nm"]], axis=1)
    which = np.argmin(np.linalg.norm(middle[:, None] - field.centre[None], axis=2), axis=1)
    assert len(np.unique(which)) == len(which)
    diameter, error = mean_diameter_nm(found)
    assert diameter == pytest.approx(107, abs=0.5)
    assert abs(diameter - 107) < 4 * error
    # The realized corners: what is wrong here is the analysis's fault, not chance's.
    truth = labelling_efficiency(field.corners).efficiency
    measured = labelling_efficiency(found["corners"])
    assert measured.efficiency == pytest.approx(truth, abs=0.02)
    assert measured.efficiency == pytest.approx(efficiency, abs=tolerance)
    assert measured.low < efficiency < measured.high
    turned = (found["angle_deg"] - field.angle_deg[which] + 22.5) % 45 - 22.5
    assert abs(np.median(turned)) < 0.5
    assert 1.4826 * np.median(np.abs(turned)) < 4


def test_pores_of_a_crowded_field() -> None:
    """60 pores 160 nm apart with strays: found, 107 nm, efficiency (limits of 60 pores)."""
    field = field_of_pores(np.random.default_rng(1), 60, 0.5, 8, stray_per_pore=2)
    check(field, 0.5, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("efficiency", "localizations", "geometric", "sigma_nm"),
    [
        (0.3, 8, False, (5.0, 8.0)),
        (0.5, 8, False, (5.0, 8.0)),
        (0.5, 10, True, (5.0, 8.0)),
        (0.6, 8, False, (8.0, 8.01)),
    ],
)
def test_three_hundred_pores(
    efficiency: float, localizations: float, geometric: bool, sigma_nm: tuple[float, float]
) -> None:
    """Diameter within 0.5 nm, labelling efficiency within 0.02."""
    rng = np.random.default_rng(2)
    field = field_of_pores(
        rng, 300, efficiency, localizations, geometric=geometric, sigma_nm=sigma_nm
    )
    check(field, efficiency, 0.02)


def test_the_stated_error_of_a_diameter() -> None:
    """Diameters of 50 pores of another size scatter as stated, about the true 120 nm."""
    field = field_of_pores(np.random.default_rng(3), 50, 0.7, 6, diameter_nm=120.0)
    found = fit_pores(field.x, field.y, field.sigma, field.pore, diameter_nm=110.0)
    off = found["diameter_nm"] - 120
    assert abs(off.mean()) < 0.5
    assert off.std() == pytest.approx(found["diameter_error_nm"].mean(), rel=0.3)
    distance = np.hypot(*(np.stack([found["x_nm"], found["y_nm"]], axis=1) - field.centre).T)
    assert distance.mean() < 1.5
    np.testing.assert_array_equal(found["corners"], field.corners)


def test_a_circle_is_not_too_wide() -> None:
    """R = 50 nm, errors of 10 nm: the mean distance is 1 nm too large, the fit isn't."""
    rng = np.random.default_rng(4)
    fits, distances = [], []
    for _ in range(60):
        angle = rng.uniform(0, 2 * np.pi, 300)
        x, y = np.stack([np.cos(angle), np.sin(angle)]) * 50 + rng.normal(0, 10, (2, 300))
        distances.append(np.hypot(x, y).mean())
        stray = rng.uniform(-120, 120, (2, 12))
        fits.append(fit_circle(np.append(x, stray[0]), np.append(y, stray[1])))
    radius = np.array([f.radius_nm for f in fits])
    assert np.mean(distances) == pytest.approx(51, abs=0.15)
    assert abs(radius.mean() - 50) < 0.25
    assert radius.std() == pytest.approx(np.mean([f.radius_error_nm for f in fits]), rel=0.25)
    assert np.mean([f.width_nm for f in fits]) == pytest.approx(10, rel=0.03)


def test_an_empty_corner_is_seen_to_be_empty() -> None:
    """Strays of bright neighbours aren't a corner, a single clear localization is."""
    rng = np.random.default_rng(5)
    corner = np.deg2rad(10 + 45 * np.repeat([0, 1, 2, 3, 4, 5, 7], 30))
    turn = np.tile([-1, 1], 105) * np.arcsin(6 / 53.5)
    x = 200 + 53.5 * np.cos(corner + turn) + rng.normal(0, 7, 210)
    y = 300 + 53.5 * np.sin(corner + turn) + rng.normal(0, 7, 210)
    pore = fit_pore(x, y, 7.0)
    assert pore.angle_deg == pytest.approx(10, abs=2.4)  # 3 standard errors
    np.testing.assert_array_equal(np.nonzero(~pore.occupied(0.9))[0], [6])
    lost = np.deg2rad(10 + 45 * 6)
    x, y = np.append(x, 200 + 53.5 * np.cos(lost)), np.append(y, 300 + 53.5 * np.sin(lost))
    assert fit_pore(x, y, 7.0).occupied(0.9).all()


def test_corner_counts_give_the_efficiency() -> None:
    """Row 48: 6.08/7.50/7.80/7.99 corners and P(8 of 8); intervals cover 95 %."""
    for p, mean, full in (
        (0.3, 6.08, 0.111),
        (0.5, 7.50, 0.597),
        (0.6, 7.80, 0.813),
        (0.8, 7.99, 0.987),
    ):
        pmf = corner_distribution(p)
        assert pmf @ np.arange(9) == pytest.approx(mean, abs=0.005)
        assert pmf[8] == pytest.approx(full, abs=5e-4)
    rng = np.random.default_rng(6)
    for p, fewest in ((0.25, 4), (0.4, 0), (0.15, 3)):
        seen = 1 - (1 - p) ** 4
        fits = []
        for _ in range(300):
            corners = rng.binomial(8, seen, 300)
            fits.append(labelling_efficiency(corners[corners >= fewest], fewest=fewest))
        assert np.mean([f.efficiency for f in fits]) == pytest.approx(p, abs=0.003)
        covered = np.mean([f.low <= p <= f.high for f in fits])
        assert 0.91 <= covered <= 0.98
    # Without a minimum it is the share of corners itself.
    share = np.mean([5, 8, 7]) / 8
    assert labelling_efficiency([5, 8, 7]).efficiency == pytest.approx(1 - (1 - share) ** 0.25)
    full_house = labelling_efficiency([8] * 20)
    assert full_house.efficiency > 0.99
    assert full_house.high == 1
    # ln(likelihood) falls by chi2/2: q**160 = exp(-1.92).
    low = np.exp(-stats.chi2.ppf(0.95, 1) / 2 / 160)
    assert full_house.low == pytest.approx(1 - (1 - low) ** 0.25, abs=1e-4)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="8 localizations"):
        fit_pore(np.zeros(5), np.zeros(5))
    with pytest.raises(ValueError, match="twice pair_nm"):
        fit_pore(np.zeros(20), np.zeros(20), diameter_nm=20.0)
    with pytest.raises(ValueError, match="0 to 8"):
        labelling_efficiency([9])
    with pytest.raises(ValueError, match="no pore"):
        labelling_efficiency([1, 2], fewest=5)


def test_a_blob_is_no_pore() -> None:
    rng = np.random.default_rng(7)
    x, y = rng.normal(0, 15, (2, 200))
    assert (segment_pores(x, y) == -1).all()
    assert len(fit_pores(x, y, 5.0, segment_pores(x, y))["x_nm"]) == 0
